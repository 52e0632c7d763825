"""The ISO 20022 messages that Interlock answers with, as bytes. Pure.

Owns: which message answers which, and the writing of pacs.002, pain.002, pain.014 and admi.002. Must not know: how a
verdict came about, schemas (tests hold every answer here against them).

Answers are written as text from escaped pieces, not built as trees: that takes a tenth of the time. Each piece either
fits the type that the schema gives it or is left out, so that an answer to a broken request is valid too.
What versions differ in is data: `data/answers.toml`.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib import resources
from itertools import groupby
from types import MappingProxyType
from typing import Final

from interlock.iso20022.codes import Status
from interlock.iso20022.original import Agent, Header, Original, OriginalPayment, PaymentGroup
from interlock.iso20022.reasons import is_status_reason

# ---------------------------------------------------------------------------------------------------------------------
# What is said
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentVerdict:
    """What an answer says of one payment."""

    status: Status
    #: ISO code, for RJCT and CANC.
    reason: str | None = None
    #: In our own words, without personal data.
    narrative: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an answer says of a message."""

    #: ACSC, RJCT or CANC; a CANC is written RJCT, since ISO's CANC is for API contexts only.
    status: Status
    #: ISO code, for RJCT and CANC.
    reason: str | None = None
    #: In our own words, without personal data; split into pieces of 105 characters.
    narrative: str | None = None
    #: By ordinal, where they differ from the whole.
    payments: Mapping[int, PaymentVerdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A message ready to be stored and delivered."""

    #: For instance `pacs.002.001.10`.
    definition: str
    #: UTF-8 with XML declaration; the same for the same arguments, byte for byte.
    body: bytes


# ---------------------------------------------------------------------------------------------------------------------
# Which answer
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one version of an answer has room for; one table of `data/answers.toml`, which explains each word."""

    definition: str
    namespace: str
    root: str
    has: frozenset[str]
    #: The only reason codes that the version has; empty where it takes the external code set.
    reasons: frozenset[str]
    requests: tuple[str, ...]
    published: date

    @property
    def is_first_edition(self) -> bool:
        """True for the versions of 2006, which have names of their own for reasons and their texts."""
        return self.root == self.definition


#: Characters of a Max35Text, which most identifications are.
_ID_MAX: Final = 35
_NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:"
#: The namespaces of 2005 had no `tech`.
_NAMESPACE_2005: Final = "urn:iso:std:iso:20022:xsd:"
_FIRST_CUSTOMER_ANSWER: Final = "pain.002.001.01"


def _load_shapes() -> Mapping[str, Shape]:
    text = resources.files("interlock.iso20022").joinpath("data/answers.toml").read_text("utf-8")
    shapes = {}
    for definition, table in tomllib.loads(text).items():
        prefix = _NAMESPACE_2005 if definition == _FIRST_CUSTOMER_ANSWER else _NAMESPACE
        shapes[definition] = Shape(
            definition=definition,
            namespace=prefix + definition,
            root=table["root"],
            has=frozenset(table["has"]),
            reasons=frozenset(table.get("reasons", ())),
            requests=tuple(table["requests"]),
            published=table["published"],
        )
    return MappingProxyType(shapes)


#: Every version of pacs.002, pain.002 and pain.014.
SHAPES: Final = _load_shapes()
_ANSWER_OF: Final = {request: shape.definition for shape in SHAPES.values() for request in shape.requests}

#: What is never answered: reports, resolutions, receipts and rejections, lest two systems answer each other for ever.
_ANSWERS: Final = frozenset(
    {"pacs.002", "pain.002", "pain.014", "camt.028", "camt.029", "camt.111", "admi.002", "admi.007", "admi.011"}
)


def answer_definition(definition: str) -> str | None:
    """The message version that answers a request in the `generic` profile; None where we know of no status report.

    It is the version that was published together with the request.
    """
    return _ANSWER_OF.get(definition)


def is_answer(definition: str) -> bool:
    """True for messages that answer others and are never answered themselves."""
    return definition[:8] in _ANSWERS


def has_usable_original(original: Original) -> bool:
    """True where a status report can be written: its kind is known, and the request names itself."""
    return original.definition in _ANSWER_OF and 0 < len(original.message_id or "") <= _ID_MAX


# ---------------------------------------------------------------------------------------------------------------------
# Status reports
# ---------------------------------------------------------------------------------------------------------------------


def build(
    original: Original, verdict: Verdict, *, answer_id: str, now: datetime, definition: str | None = None
) -> Answer:
    """The status report on a request: pacs.002, pain.002 or pain.014, with a header where the request had one.

    original: must have a usable original (`has_usable_original`); what in it does not fit the answer's types is left
    out, so that the answer is valid even if the request was not.
    answer_id: MsgId and BizMsgIdr, 1 to 35 characters; now: aware.
    definition: the version that a profile names, in place of the one published with the request.
    Raises ValueError for what only a caller can get wrong: no usable original, unknown definition, no id, naive time.
    """
    shape = SHAPES.get(definition or answer_definition(original.definition) or "")
    if shape is None or not 0 < len(original.message_id or "") <= _ID_MAX:
        raise ValueError("no status report can be written for this message; use build_admi002")
    created_at = _timestamp(now)
    message_id = _required_text(answer_id)
    if shape.definition == _FIRST_CUSTOMER_ANSWER:
        content = _first_customer_report(shape, original, verdict, message_id, created_at)
    else:
        content = _report(shape, original, verdict, message_id, created_at)
    document = f'<Document xmlns="{shape.namespace}"><{shape.root}>{content}</{shape.root}></Document>'
    return Answer(definition=shape.definition, body=_enveloped(document, shape.definition, original, message_id, now))


def _report(shape: Shape, original: Original, verdict: Verdict, message_id: str, created_at: str) -> str:
    """Content of every version but the very first pain.002: header, the group as a whole, the payments."""
    outcome = _Outcome(shape, original, verdict)
    party = "<InitgPty><Nm>NOTPROVIDED</Nm></InitgPty>" if "party" in shape.has else ""
    route = _route(shape, original.instructing_agent, original.instructed_agent) if "agents" in shape.has else ""
    return (
        f"<GrpHdr><MsgId>{message_id}</MsgId><CreDtTm>{created_at}</CreDtTm>{party}{route}</GrpHdr>"
        f"<OrgnlGrpInfAndSts><OrgnlMsgId>{_text(original.message_id)}</OrgnlMsgId>"
        f"<OrgnlMsgNmId>{original.definition}</OrgnlMsgNmId>"
        f"{_element('OrgnlCreDtTm', _date_time(original.created_at))}"
        f"{_counts(original.number_of_transactions, original.control_sum)}"
        f"<GrpSts>{outcome.status}</GrpSts>{outcome.reason}</OrgnlGrpInfAndSts>"
        f"{_blocks(shape, original, outcome) if 'blocks' in shape.has else _payments(shape, original, outcome)}"
    )


class _Outcome:
    """A verdict, seen as the answer shows it: per payment, per block, for the whole."""

    __slots__ = ("_pieces", "reason", "shape", "status", "verdict", "whole")

    def __init__(self, shape: Shape, original: Original, verdict: Verdict) -> None:
        self.shape = shape
        self.verdict = verdict
        self.whole = PaymentVerdict(status=verdict.status, reason=verdict.reason, narrative=verdict.narrative)
        # Most payments of a message share a verdict: its text is made once.
        self._pieces: dict[PaymentVerdict, tuple[str, str]] = {}
        self.status, self.reason = self.summary(original.payments) if verdict.payments else self.of(self.whole)

    def of(self, verdict: PaymentVerdict) -> tuple[str, str]:
        """Status code and StsRsnInf element."""
        pieces = self._pieces.get(verdict)
        if pieces is None:
            status = Status.RJCT if verdict.status is Status.CANC else verdict.status
            pieces = self._pieces[verdict] = status.value, _reason(self.shape, status, verdict)
        return pieces

    def of_payment(self, payment: OriginalPayment) -> tuple[str, str]:
        """As `of`, for one payment."""
        return self.of(self.verdict.payments.get(payment.ordinal, self.whole))

    def summary(self, payments: Iterable[OriginalPayment]) -> tuple[str, str]:
        """Status of several payments together: theirs, or PART; with the reason where it is one and the same."""
        shown = {self.of_payment(payment) for payment in payments} or {self.of(self.whole)}
        statuses = {status for status, _ in shown}
        if len(statuses) > 1:
            return "PART", ""
        return statuses.pop(), shown.pop()[1] if len(shown) == 1 else ""


def _blocks(shape: Shape, original: Original, outcome: _Outcome) -> str:
    """One OrgnlPmtInfAndSts a block of the request, its payments inside."""
    pieces = []
    for index, payments in groupby(original.payments, lambda payment: payment.group):
        group = original.groups[index] if index is not None else _NO_GROUP
        pieces.append(_block(shape, group, tuple(payments), outcome))
    return "".join(pieces)


def _block(shape: Shape, group: PaymentGroup, payments: tuple[OriginalPayment, ...], outcome: _Outcome) -> str:
    status, reason = outcome.summary(payments)
    content = "".join([_payment(shape, payment, outcome) for payment in payments])
    return (
        f"<OrgnlPmtInfAndSts><OrgnlPmtInfId>{_text(group.payment_information_id) or 'NOTPROVIDED'}</OrgnlPmtInfId>"
        f"{_counts(group.number_of_transactions, group.control_sum)}"
        f"<PmtInfSts>{status}</PmtInfSts>{reason}{content}</OrgnlPmtInfAndSts>"
    )


_NO_GROUP: Final = PaymentGroup(
    payment_information_id=None,
    number_of_transactions=None,
    control_sum=None,
    requested_execution_date=None,
    xpath="",
    line=None,
)


def _payments(shape: Shape, original: Original, outcome: _Outcome) -> str:
    """The payments one after the other, for versions without blocks."""
    groups = original.groups
    pieces = []
    for payment in original.payments:
        block = _text(groups[payment.group].payment_information_id) if payment.group is not None else None
        pieces.append(_payment(shape, payment, outcome, _element("OrgnlPmtInfId", block)))
    return "".join(pieces)


def _payment(shape: Shape, payment: OriginalPayment, outcome: _Outcome, block: str = "") -> str:
    """TxInfAndSts: whose payment it was, what became of it, and as much of it as recognises it."""
    has = shape.has
    status, reason = outcome.of_payment(payment)
    route = _route(shape, payment.instructing_agent, payment.instructed_agent) if "agents" in has else ""
    return (
        f"<TxInfAndSts>{block}"
        f"{_element('OrgnlInstrId', _text(payment.instruction_id))}"
        f"{_element('OrgnlEndToEndId', _text(payment.end_to_end_id))}"
        f"{_element('OrgnlTxId', _text(payment.transaction_id)) if 'tx' in has else ''}"
        f"{_element('OrgnlUETR', _uetr(payment.uetr)) if 'uetr' in has else ''}"
        f"<TxSts>{status}</TxSts>{reason}"
        f"{_element('AccptncDtTm', _date_time(payment.accepted_at))}"
        f"{route}{_reference(shape, payment)}</TxInfAndSts>"
    )


def _reference(shape: Shape, payment: OriginalPayment) -> str:
    """OrgnlTxRef: amount, settlement date and agents of the original."""
    if "reference" not in shape.has:
        return ""
    amount = "" if payment.amount_is_equivalent else _amount(payment.amount, payment.currency)
    settlement_date = ""
    if "agents" in shape.has:
        amount = amount and f"<IntrBkSttlmAmt{amount}</IntrBkSttlmAmt>"
        settlement_date = _element("IntrBkSttlmDt", _date(payment.settlement_date))
    else:
        amount = amount and f"<Amt><InstdAmt{amount}</InstdAmt></Amt>"
    debtor_agent = _agent(shape, "DbtrAgt", payment.debtor_agent)
    creditor_agent = _agent(shape, "CdtrAgt", payment.creditor_agent)
    content = f"{amount}{settlement_date}{debtor_agent}{creditor_agent}"
    return content and f"<OrgnlTxRef>{content}</OrgnlTxRef>"


def _first_customer_report(shape: Shape, original: Original, verdict: Verdict, message_id: str, created_at: str) -> str:
    """Content of pain.002.001.01 (2005), which nothing later resembles."""
    outcome = _Outcome(shape, original, verdict)
    payments = "".join([_first_customer_payment(payment, outcome) for payment in original.payments])
    return (
        f"<GnlInf><PmtInitnStsId>{message_id}</PmtInitnStsId><CreDtTm>{created_at}</CreDtTm>"
        "<InitgPty><Nm>NOTPROVIDED</Nm></InitgPty></GnlInf>"
        f"<OrgnlGrpRefInfAndSts><GrpId>{_text(original.message_id)}</GrpId>"
        f"<OrgnlMsgTp>{original.definition}</OrgnlMsgTp>"
        f"<GrpSts>{outcome.status}</GrpSts>{outcome.reason}</OrgnlGrpRefInfAndSts>"
        f"{payments and f'<OrgnlPmtInf>{payments}</OrgnlPmtInf>'}"
    )


def _first_customer_payment(payment: OriginalPayment, outcome: _Outcome) -> str:
    status, reason = outcome.of_payment(payment)
    return (
        f"<OrgnlTxRefInfAndSts><PmtId>{_element('InstrId', _text(payment.instruction_id))}"
        f"<EndToEndId>{_text(payment.end_to_end_id) or 'NOTPROVIDED'}</EndToEndId></PmtId>"
        f"<TxSts>{status}</TxSts>{reason}</OrgnlTxRefInfAndSts>"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Reasons
# ---------------------------------------------------------------------------------------------------------------------

#: What a rejection without a reason says: not specified, by an agent.
_UNSPECIFIED: Final = "MS03"
#: NARR points to a text, which must then be there.
_NO_NARRATIVE: Final = "No further information."
_NARRATIVE_PIECE_CHARACTERS: Final = 105
_NARRATIVE_PIECES_MAX: Final = 20


def _reason(shape: Shape, status: Status, verdict: PaymentVerdict) -> str:
    """StsRsnInf, or nothing where there is nothing to say."""
    code = verdict.reason or (_UNSPECIFIED if status is Status.RJCT else None)
    narrative = verdict.narrative or (_NO_NARRATIVE if code == "NARR" else "")
    if shape.definition == _FIRST_CUSTOMER_ANSWER:
        return _first_customer_reason(shape, code, narrative)
    name, text_name = ("StsRsn", "AddtlStsRsnInf") if shape.is_first_edition else ("Rsn", "AddtlInf")
    texts = "".join(_element(text_name, piece) for piece in _narrative_pieces(narrative))
    known = code in shape.reasons if shape.reasons else code is not None and is_status_reason(code)
    # A code that the version does not know can still be said, as a proprietary one.
    choice = _element("Cd" if known else "Prtry", _cut(code, _ID_MAX))
    content = (choice and f"<{name}>{choice}</{name}>") + texts
    return content and f"<StsRsnInf>{content}</StsRsnInf>"


def _first_customer_reason(shape: Shape, code: str | None, narrative: str) -> str:
    """StsRsn and AddtlInf of 2005: one line, and no proprietary codes."""
    if code in shape.reasons:
        return _element("StsRsn", code) + _element("AddtlInf", next(_narrative_pieces(narrative), None))
    return _element("AddtlInf", next(_narrative_pieces(f"{code or ''} {narrative}".strip()), None))


def _narrative_pieces(narrative: str) -> Iterator[str]:
    """The text in pieces that fit one element, cut at a space where there is one near the end."""
    rest = " ".join(_ILLEGAL.sub(" ", narrative).split())
    for _ in range(_NARRATIVE_PIECES_MAX):
        if not rest:
            return
        end = len(rest)
        if end > _NARRATIVE_PIECE_CHARACTERS:
            end = rest.rfind(" ", 1, _NARRATIVE_PIECE_CHARACTERS + 1)
            end = end if end > 0 else _NARRATIVE_PIECE_CHARACTERS
        yield _escape(rest[:end])
        rest = rest[end:].lstrip()


# ---------------------------------------------------------------------------------------------------------------------
# admi.002
# ---------------------------------------------------------------------------------------------------------------------

_REJECTION: Final = "admi.002.001.01"
_NOT_PROVIDED: Final = "NOTPROVIDED"


def build_admi002(
    *,
    reason: str,
    narrative: str,
    reference: str,
    now: datetime,
    answer_id: str,
    header: Header | None = None,
    original: Original | None = None,
    location: str | None = None,
) -> Answer:
    """The rejection of what cannot be treated as a business message: unreadable, of unknown kind, or nameless.

    reason: code or id of the rule, at most 35 characters; reference: whatever identifies the message to its sender
    (BizMsgIdr, MsgId, transaction id); location: path of the first fault.
    header: where the message had one; original: where there is one, for its wrapper (and header).
    Source: ISO 20022 admi.002.001.01; what calls for it and not for a pacs.002: DOMAIN, FedNow operating procedures.
    """
    narrative = " ".join(_ILLEGAL.sub(" ", narrative).split())
    document = (
        f'<Document xmlns="{_NAMESPACE}{_REJECTION}"><{_REJECTION}>'
        f"<RltdRef><Ref>{_text(reference) or _NOT_PROVIDED}</Ref></RltdRef>"
        f"<Rsn><RjctgPtyRsn>{_cut(reason, _ID_MAX) or _UNSPECIFIED}</RjctgPtyRsn>"
        f"<RjctnDtTm>{_timestamp(now)}</RjctnDtTm>"
        f"{_element('ErrLctn', _cut(location, 350))}{_element('RsnDesc', _cut(narrative, 350))}"
        f"{_element('AddtlData', _cut(narrative, 20_000)) if len(narrative) > 350 else ''}"
        f"</Rsn></{_REJECTION}></Document>"
    )
    if original is None:
        original = _NO_ORIGINAL
    header = header or original.header
    body = _enveloped(document, _REJECTION, original, _required_text(answer_id), now, header)
    return Answer(definition=_REJECTION, body=body)


_NO_ORIGINAL: Final = Original(
    definition="",
    message_id=None,
    created_at=None,
    number_of_transactions=None,
    control_sum=None,
    instructing_agent=None,
    instructed_agent=None,
    header=None,
)

# ---------------------------------------------------------------------------------------------------------------------
# Envelope and header
# ---------------------------------------------------------------------------------------------------------------------

_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
#: Around header and document where the request's own wrapper cannot be used again.
_WRAPPER: Final = "BusinessMessage"


def _enveloped(
    document: str, definition: str, original: Original, message_id: str, now: datetime, header: Header | None = None
) -> bytes:
    """The document alone, or with a header, in the wrapper that the request came in, if it came with a header."""
    header = header or original.header
    if header is None:
        return (_DECLARATION + document).encode()
    name = original.wrapper or _WRAPPER
    namespace = original.wrapper_namespace if original.wrapper else None
    start = f'{name} xmlns="{_attribute(namespace)}"' if namespace else name
    # Without a default namespace of its own the wrapper is in none, and both parts declare theirs.
    return f"{_DECLARATION}<{start}>{_header(header, definition, message_id, now)}{document}</{name}>".encode()


#: The versions there are; a header of any other is answered with the one most in use.
_HEADERS: Final = ("head.001.001.01", "head.001.001.02", "head.001.001.03", "head.001.001.04")


def _header(header: Header, definition: str, message_id: str, now: datetime) -> str:
    """AppHdr of the answer: the version of the request's, sender and receiver swapped, the request's related."""
    version = header.definition if header.definition in _HEADERS else _HEADERS[1]
    is_first = version == _HEADERS[0]
    created_at = _timestamp(now)
    if is_first:  # Its type wants Z; later versions, and CBPR+, an offset.
        created_at = created_at.replace("+00:00", "Z")
    service = _element("BizSvc", _text(header.business_service))
    return (
        f'<AppHdr xmlns="{_NAMESPACE}{version}">'
        f"<Fr>{_party(header.receiver, is_first)}</Fr><To>{_party(header.sender, is_first)}</To>"
        f"<BizMsgIdr>{message_id}</BizMsgIdr><MsgDefIdr>{definition}</MsgDefIdr>{service}"
        f"<CreDt>{created_at}</CreDt>{_related(header, is_first, service)}</AppHdr>"
    )


def _related(header: Header, is_first: bool, service: str) -> str:  # noqa: FBT001 - private
    """Rltd: the request's header in short; nothing where that lacks what is mandatory here."""
    reference, definition = _text(header.business_message_id), _text(header.message_definition)
    created_at = _date_time(header.created_at)
    if not (reference and definition and created_at) or (is_first and not created_at.endswith("Z")):
        return ""
    return (
        f"<Rltd><Fr>{_party(header.sender, is_first)}</Fr><To>{_party(header.receiver, is_first)}</To>"
        f"<BizMsgIdr>{reference}</BizMsgIdr><MsgDefIdr>{definition}</MsgDefIdr>{service}"
        f"<CreDt>{created_at}</CreDt></Rltd>"
    )


@lru_cache(maxsize=1024)
def _party(agent: Agent | None, is_first: bool) -> str:  # noqa: FBT001 - private
    """Content of Fr or To, never empty."""
    agent = agent or _NOBODY
    bic = agent.bic if agent.bic and (_BIC if is_first else _BIC_2014).match(agent.bic) else None
    lei = agent.lei if agent.lei and not is_first and _LEI.match(agent.lei) else None
    if agent.is_organisation:
        other = _text(agent.other) or (None if bic or lei else _NOT_PROVIDED)
        generic = other and f"<Othr><Id>{other}</Id></Othr>"
        content = f"{_element('AnyBIC', bic)}{_element('LEI', lei)}{generic or ''}"
        return f"<OrgId><Id><OrgId>{content}</OrgId></Id></OrgId>"
    names = f"{_element('BICFI', bic)}{_member(agent)}{_element('LEI', lei)}"
    names = names or f"<Othr><Id>{_text(agent.other) or _NOT_PROVIDED}</Id></Othr>"
    return f"<FIId><FinInstnId>{names}</FinInstnId></FIId>"


_NOBODY: Final = Agent()

# ---------------------------------------------------------------------------------------------------------------------
# Pieces: each gives text that fits its type in the schema, or nothing
# ---------------------------------------------------------------------------------------------------------------------

_BIC: Final = re.compile(r"[A-Z]{6}[A-Z2-9][A-NP-Z0-9](?:[A-Z0-9]{3})?\Z")
_BIC_2014: Final = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\Z")
_LEI: Final = re.compile(r"[A-Z0-9]{18}[0-9]{2}\Z")
_UETR: Final = re.compile(r"[a-f0-9]{8}-[a-f0-9]{4}-4[a-f0-9]{3}-[89ab][a-f0-9]{3}-[a-f0-9]{12}\Z")
_CURRENCY: Final = re.compile(r"[A-Z]{3}\Z")
_AMOUNT: Final = re.compile(r"\+?(?=[0-9.]{1,19}\Z)(?:[0-9]{1,18}(?:\.[0-9]{0,5})?|\.[0-9]{1,5})\Z")
_SUM: Final = re.compile(r"[+-]?(?=[0-9.]{1,19}\Z)(?:[0-9]{1,18}(?:\.[0-9]{0,17})?|\.[0-9]{1,17})\Z")
_COUNT: Final = re.compile(r"[0-9]{1,15}\Z")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])?\Z"
)
_SPECIAL: Final = re.compile(r"[&<>\r]")
#: What XML 1.0 cannot hold; our own texts are cleaned of it, texts from a parsed message cannot have it.
_ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _element(name: str, content: str | None) -> str:
    return f"<{name}>{content}</{name}>" if content else ""


def _escape(text: str) -> str:
    if _SPECIAL.search(text) is None:
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\r", "&#13;")


def _attribute(text: str) -> str:
    """Text as an attribute's value."""
    return _escape(text).replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#9;")


def _text(text: str | None) -> str:
    """A Max35Text; empty (to be left out) where there is none, or one that is longer: cut it would name another."""
    return _escape(text) if text and len(text) <= _ID_MAX else ""


def _cut(text: str | None, characters_max: int) -> str:
    """Words, which may be cut."""
    return _escape(text[:characters_max]) if text else ""


def _required_text(text: str) -> str:
    if not text:
        raise ValueError("an answer needs an id of its own")
    return _cut(_ILLEGAL.sub("?", text), _ID_MAX)


def _timestamp(now: datetime) -> str:
    if now.tzinfo is None:
        raise ValueError("the time of an answer must be aware")
    return now.astimezone(UTC).isoformat(timespec="milliseconds")


def _uetr(text: str | None) -> str | None:
    return text if text and _UETR.match(text) else None


def _date(text: str | None) -> str | None:
    return text if text and _DATE.match(text) and _is_calendar_date(text) else None


# Most messages of a day carry the same few dates.
@lru_cache(maxsize=1024)
def _is_calendar_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _date_time(text: str | None) -> str | None:
    """A date and time, as written; None for what XSD would not take."""
    if not text or not _DATE_TIME.match(text) or not _is_calendar_date(text[:10]):
        return None
    return text if text[11:13] < "24" and text[14:16] < "60" and text[17:19] < "60" else None


def _counts(number: str | None, control_sum: str | None) -> str:
    number = number if number and _COUNT.match(number) else None
    control_sum = control_sum if control_sum and _SUM.match(control_sum) else None
    return _element("OrgnlNbOfTxs", number) + _element("OrgnlCtrlSum", control_sum)


def _amount(amount: str | None, currency: str | None) -> str:
    """The rest of an amount's start tag and its text, to the letter; nothing where either is unusable."""
    if not amount or not currency or not _CURRENCY.match(currency) or not _AMOUNT.match(amount):
        return ""
    return f' Ccy="{currency}">{amount}'


def _route(shape: Shape, instructing: Agent | None, instructed: Agent | None) -> str:
    """InstgAgt and InstdAgt of the answer: who was instructed now instructs."""
    return _agent(shape, "InstgAgt", instructed) + _agent(shape, "InstdAgt", instructing)


def _agent(shape: Shape, name: str, agent: Agent | None) -> str:
    return "" if agent is None else _named_agent(shape.has, name, agent)


@lru_cache(maxsize=4096)
def _named_agent(has: frozenset[str], name: str, agent: Agent) -> str:
    """An agent by all the names that the version has room for; nothing where it has none of them."""
    bic = agent.bic if agent.bic and (_BIC_2014 if "bic2014" in has else _BIC).match(agent.bic) else None
    names = _element("BICFI" if "bicfi" in has else "BIC", bic)
    if "member" in has:
        names += _member(agent)
    if "lei" in has and agent.lei and _LEI.match(agent.lei):
        names += _element("LEI", agent.lei)
    if "member" in has and not names and agent.other:
        names = _element("Othr", _element("Id", _text(agent.other)))
    return names and f"<{name}><FinInstnId>{names}</FinInstnId></{name}>"


def _member(agent: Agent) -> str:
    """ClrSysMmbId, with the clearing system where that is known."""
    member = _text(agent.clearing_member)
    if not member:
        return ""
    system = _text(agent.clearing_system)
    if system:
        is_code = not agent.clearing_system_is_proprietary and len(system) <= 5
        system = f"<ClrSysId>{_element('Cd' if is_code else 'Prtry', system)}</ClrSysId>"
    return f"<ClrSysMmbId>{system}<MmbId>{member}</MmbId></ClrSysMmbId>"
