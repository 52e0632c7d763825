"""Status reports on payments: pacs.002, pain.002 and pain.014. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final, cast

from msgspec import structs

from interlock.iso20022.answers.editions import FIRST_CUSTOMER_REPORT, SHAPES, Shape, answer_definition, formed
from interlock.iso20022.answers.naming import message_id as named
from interlock.iso20022.answers.pieces import (
    ID_MAX,
    agent_in,
    amount_of,
    counts,
    date_of,
    date_time_of,
    element,
    route,
    text_of,
    timestamp,
    uetr_of,
)
from interlock.iso20022.answers.reasons import status_reason
from interlock.iso20022.answers.verdicts import Answer, PaymentVerdict, Verdict
from interlock.iso20022.answers.wrapping import enveloped
from interlock.iso20022.codes import Status
from interlock.iso20022.forms import NO_FORMS, Forms
from interlock.iso20022.original import Agent, Original, OriginalPayment, PaymentGroup


def build_report(
    original: Original,
    verdict: Verdict,
    *,
    answer_id: str,
    now: datetime,
    definition: str | None = None,
    forms: Forms = NO_FORMS,
) -> Answer:
    """The status report on a request: pacs.002, pain.002 or pain.014, with a header where the request had one.

    original: must have a usable original (`has_usable_original`); what in it does not fit the answer's types is left
    out, so that the answer is valid even if the request was not.
    answer_id: MsgId and BizMsgIdr, 1 to 35 characters; now: aware.
    definition: the version that a profile names, in place of the one published with the request; forms: how the
    scheme wants it.
    Raises ValueError for what only a caller can get wrong: no usable original, unknown definition, no id, naive time.
    """
    shape = _shape(original, definition, forms)
    created_at = timestamp(now)
    message_id = named(answer_id, shape.message_id, original, now)
    if shape.definition == FIRST_CUSTOMER_REPORT:
        content = _first_customer_report(shape, original, verdict, message_id, created_at)
    else:
        content = _report(shape, original, verdict, message_id, created_at)
    document = f'<Document xmlns="{shape.namespace}"><{shape.root}>{content}</{shape.root}></Document>'
    body = enveloped(document, shape.definition, original, message_id, now, has=shape.has)
    return Answer(definition=shape.definition, body=body)


def _shape(original: Original, definition: str | None, forms: Forms) -> Shape:
    shape = SHAPES.get(definition or answer_definition(original.definition) or "")
    if shape is None or not 0 < len(original.message_id or "") <= ID_MAX:
        raise ValueError("no status report can be written for this message; use build_admi002")
    return formed(shape, forms)


def _report(shape: Shape, original: Original, verdict: Verdict, message_id: str, created_at: str) -> str:
    """Content of every version but the very first pain.002: header, the group as a whole, the payments."""
    outcome = _Outcome(shape, original, verdict, created_at)
    payments = _blocks(shape, original, outcome) if "blocks" in shape.has else _payments(shape, original, outcome)
    return _group(shape, original, outcome, message_id, created_at) + payments


def _group(shape: Shape, original: Original, outcome: "_Outcome", message_id: str, created_at: str) -> str:
    """The answer's own header, and the group as a whole."""
    has = shape.has
    parties = ""
    if "party" in has:
        parties = "<InitgPty><Nm>NOTPROVIDED</Nm></InitgPty>" + ends(shape, outcome.payments)
    elif "agents" in has and "header_agents" in has:
        parties = route(has, original.instructing_agent, original.instructed_agent)
    header = f"<GrpHdr><MsgId>{message_id}</MsgId><CreDtTm>{created_at}</CreDtTm>{parties}</GrpHdr>"
    if outcome.about:
        return header
    status = f"<GrpSts>{outcome.status}</GrpSts>{outcome.reason}" if "group_status" in has else ""
    return (
        f"{header}<OrgnlGrpInfAndSts>{_message(original)}"
        f"{counts(has, original.number_of_transactions, original.control_sum)}{status}</OrgnlGrpInfAndSts>"
    )


def ends(shape: Shape, payments: Iterable[OriginalPayment]) -> str:
    """DbtrAgt and CdtrAgt in the header of a pain.014, where all payments have the same."""
    if "header_agents" not in shape.has:
        return ""
    debtor = {payment.debtor_agent for payment in payments}
    creditor = {payment.creditor_agent for payment in payments}
    return (
        f"{agent_in(shape.has, 'DbtrAgt', debtor.pop()) if len(debtor) == 1 else ''}"
        f"{agent_in(shape.has, 'CdtrAgt', creditor.pop()) if len(creditor) == 1 else ''}"
    )


def _message(original: Original) -> str:
    """OrgnlMsgId, OrgnlMsgNmId and OrgnlCreDtTm."""
    return (
        f"<OrgnlMsgId>{text_of(original.message_id)}</OrgnlMsgId><OrgnlMsgNmId>{original.definition}</OrgnlMsgNmId>"
        f"{element('OrgnlCreDtTm', date_time_of(original.created_at))}"
    )


def stream_report(
    original: Original,
    verdict: Verdict,
    payments: Sequence[OriginalPayment],
    groups: Sequence[PaymentGroup],
    *,
    answer_id: str,
    now: datetime,
    definition: str | None = None,
    forms: Forms = NO_FORMS,
) -> tuple[str, Iterator[bytes]]:
    """As `build_report`, of a request whose payments are too many for memory: the definition, and pieces of the body.

    original: without payments and blocks; these are walked again and again. Together the pieces are what `build_report`
    gives.
    """
    shape = _shape(original, definition, forms)
    if shape.definition == FIRST_CUSTOMER_REPORT:  # of 2005: nobody sends so many in it
        whole = structs.replace(original, payments=tuple(payments), groups=tuple(groups))
        answer = build_report(whole, verdict, answer_id=answer_id, now=now, definition=definition)
        return answer.definition, iter((answer.body,))
    message_id = named(answer_id, shape.message_id, original, now)
    created_at = timestamp(now)
    outcome = _Outcome(shape, structs.replace(original, payments=cast("Any", payments)), verdict, created_at)
    group = _group(shape, original, outcome, message_id, created_at)
    # Whatever is put around the document is put around a mark, which no XML can hold.
    document = f'<Document xmlns="{shape.namespace}"><{shape.root}>{group}\0</{shape.root}></Document>'
    head, tail = enveloped(document, shape.definition, original, message_id, now, has=shape.has).split(b"\0")

    def pieces() -> Iterator[bytes]:
        yield head
        streamed = _streamed_blocks if "blocks" in shape.has else _streamed_payments
        for text in streamed(shape, payments, groups, outcome):
            yield text.encode()
        yield tail

    return shape.definition, pieces()


def _streamed_blocks(
    shape: Shape, payments: Iterable[OriginalPayment], groups: Sequence[PaymentGroup], outcome: "_Outcome"
) -> Iterator[str]:
    """As `_blocks`, in pieces: what a block comes to stands before its payments, so they are walked twice."""
    shown: dict[int | None, set[tuple[str, str]]] = {}
    for payment in payments:
        shown.setdefault(payment.group, set()).add(outcome.of_payment(payment))
    for index, members in groupby(payments, lambda payment: payment.group):
        block = groups[index] if index is not None else _NO_GROUP
        start, end = _around_block(shape, block, outcome.together(shown[index]))
        yield start
        for payment in members:
            yield _payment(shape, payment, outcome)
        yield end


def _streamed_payments(
    shape: Shape, payments: Iterable[OriginalPayment], groups: Sequence[PaymentGroup], outcome: "_Outcome"
) -> Iterator[str]:
    """As `_payments`, in pieces."""
    for payment in payments:
        block = text_of(groups[payment.group].payment_information_id) if payment.group is not None else None
        yield _payment(shape, payment, outcome, element("OrgnlPmtInfId", block))


class _Outcome:
    """A verdict, seen as the answer shows it: per payment, per block, for the whole."""

    __slots__ = (
        "_pieces",
        "about",
        "accepted_at",
        "agents",
        "originator",
        "payments",
        "reason",
        "shape",
        "status",
        "verdict",
        "whole",
    )

    def __init__(self, shape: Shape, original: Original, verdict: Verdict, created_at: str) -> None:
        self.shape = shape
        #: Of a payment that says none itself.
        self.accepted_at = created_at if shape.timed else None
        self.verdict = verdict
        self.payments = original.payments
        #: OrgnlGrpInf of each payment, where the answer says nothing of the group; where no payment could be read
        #: there is but the group to speak of.
        self.about = ""
        if "group" not in shape.has and "message" in shape.has and original.payments:
            self.about = f"<OrgnlGrpInf>{_message(original)}</OrgnlGrpInf>"
        #: Of a payment that names none, where the answer's header has none either.
        known = agents_of(original)
        self.agents = (None, None) if "header_agents" in shape.has else known
        self.originator = known[1]
        if self.originator is None and original.payments:
            first = original.payments[0]
            self.originator = first.instructed_agent or first.creditor_agent
        self.whole = PaymentVerdict(status=verdict.status, reason=verdict.reason, narrative=verdict.narrative)
        # Most payments of a message share a verdict: its text is made once.
        self._pieces: dict[PaymentVerdict, tuple[str, str]] = {}
        self.status, self.reason = self.summary(original.payments) if verdict.payments else self.of(self.whole)

    def of(self, verdict: PaymentVerdict) -> tuple[str, str]:
        """Status code and StsRsnInf element."""
        pieces = self._pieces.get(verdict)
        if pieces is None:
            status = Status.RJCT if verdict.status is Status.CANC else verdict.status
            reason = status_reason(self.shape, status, verdict, self.originator)
            pieces = self._pieces[verdict] = said(self.shape, status), reason
        return pieces

    def of_payment(self, payment: OriginalPayment) -> tuple[str, str]:
        """As `of`, for one payment."""
        return self.of(self.verdict.payments.get(payment.ordinal, self.whole))

    def summary(self, payments: Iterable[OriginalPayment]) -> tuple[str, str]:
        """Status of several payments together: theirs, or PART; with the reason where it is one and the same."""
        return self.together({self.of_payment(payment) for payment in payments} or {self.of(self.whole)})

    def together(self, shown: set[tuple[str, str]]) -> tuple[str, str]:
        """The same of what several payments are shown as."""
        statuses = {status for status, _ in shown}
        if len(statuses) > 1:
            return "PART", ""
        return statuses.pop(), next(iter(shown))[1] if len(shown) == 1 else ""


def said(shape: Shape, status: str) -> str:
    """A status in the scheme's words."""
    return shape.settled if status == Status.ACSC else str(status)


def agents_of(original: Original) -> tuple[Agent | None, Agent | None]:
    """Who has instructed whom: by the group header, else by the header."""
    header = original.header
    sender, receiver = (None, None) if header is None else (header.sender, header.receiver)
    return (
        original.instructing_agent or (sender if sender and not sender.is_organisation else None),
        original.instructed_agent or (receiver if receiver and not receiver.is_organisation else None),
    )


def _blocks(shape: Shape, original: Original, outcome: _Outcome) -> str:
    """One OrgnlPmtInfAndSts a block of the request, its payments inside."""
    pieces = []
    for index, payments in groupby(original.payments, lambda payment: payment.group):
        group = original.groups[index] if index is not None else _NO_GROUP
        pieces.append(_block(shape, group, tuple(payments), outcome))
    return "".join(pieces)


def _block(shape: Shape, group: PaymentGroup, payments: tuple[OriginalPayment, ...], outcome: _Outcome) -> str:
    start, end = _around_block(shape, group, outcome.summary(payments))
    return start + "".join([_payment(shape, payment, outcome) for payment in payments]) + end


def _around_block(shape: Shape, group: PaymentGroup, together: tuple[str, str]) -> tuple[str, str]:
    """What stands before a block's payments, and after them."""
    status, reason = together
    start = (
        f"<OrgnlPmtInfAndSts><OrgnlPmtInfId>{text_of(group.payment_information_id) or 'NOTPROVIDED'}</OrgnlPmtInfId>"
        f"{counts(shape.has, group.number_of_transactions, group.control_sum)}"
        f"{f'<PmtInfSts>{status}</PmtInfSts>{reason}' if 'block_status' in shape.has else ''}"
    )
    return start, "</OrgnlPmtInfAndSts>"


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
        block = text_of(groups[payment.group].payment_information_id) if payment.group is not None else None
        pieces.append(_payment(shape, payment, outcome, element("OrgnlPmtInfId", block)))
    return "".join(pieces)


def _payment(shape: Shape, payment: OriginalPayment, outcome: _Outcome, block: str = "") -> str:
    """TxInfAndSts: whose payment it was, what became of it, and as much of it as recognises it."""
    has = shape.has
    status, reason = outcome.of_payment(payment)
    instructing, instructed = outcome.agents
    agents = ""
    if "agents" in has:
        agents = route(has, payment.instructing_agent or instructing, payment.instructed_agent or instructed)
    accepted = ""
    if "accepted" in has:
        accepted = element("AccptncDtTm", date_time_of(payment.accepted_at) or outcome.accepted_at)
    return (
        f"<TxInfAndSts>{outcome.about}{block}"
        f"{element('OrgnlInstrId', text_of(payment.instruction_id)) if 'instruction' in has else ''}"
        f"{element('OrgnlEndToEndId', text_of(payment.end_to_end_id)) if 'end_to_end' in has else ''}"
        f"{element('OrgnlTxId', text_of(payment.transaction_id)) if 'tx' in has else ''}"
        f"{element('OrgnlUETR', uetr_of(payment.uetr)) if 'uetr' in has else ''}"
        f"<TxSts>{status}</TxSts>{reason}{accepted}{agents}{reference(shape, payment)}</TxInfAndSts>"
    )


def reference(shape: Shape, payment: OriginalPayment) -> str:
    """OrgnlTxRef: amount, settlement date and agents of the original."""
    if "reference" not in shape.has:
        return ""
    amount = "" if payment.amount_is_equivalent else amount_of(payment.amount, payment.currency)
    settlement_date = ""
    if "agents" in shape.has:
        amount = amount and f"<IntrBkSttlmAmt{amount}</IntrBkSttlmAmt>"
        settlement_date = element("IntrBkSttlmDt", date_of(payment.settlement_date))
    else:
        amount = amount and f"<Amt><InstdAmt{amount}</InstdAmt></Amt>"
    agents = ""
    if "reference_agents" in shape.has:
        agents = agent_in(shape.has, "DbtrAgt", payment.debtor_agent)
        agents += agent_in(shape.has, "CdtrAgt", payment.creditor_agent)
    content = f"{amount}{settlement_date}{agents}"
    return content and f"<OrgnlTxRef>{content}</OrgnlTxRef>"


def _first_customer_report(shape: Shape, original: Original, verdict: Verdict, message_id: str, created_at: str) -> str:
    """Content of pain.002.001.01 (2005), which nothing later resembles."""
    outcome = _Outcome(shape, original, verdict, created_at)
    payments = "".join([_first_customer_payment(payment, outcome) for payment in original.payments])
    return (
        f"<GnlInf><PmtInitnStsId>{message_id}</PmtInitnStsId><CreDtTm>{created_at}</CreDtTm>"
        "<InitgPty><Nm>NOTPROVIDED</Nm></InitgPty></GnlInf>"
        f"<OrgnlGrpRefInfAndSts><GrpId>{text_of(original.message_id)}</GrpId>"
        f"<OrgnlMsgTp>{original.definition}</OrgnlMsgTp>"
        f"<GrpSts>{outcome.status}</GrpSts>{outcome.reason}</OrgnlGrpRefInfAndSts>"
        f"{payments and f'<OrgnlPmtInf>{payments}</OrgnlPmtInf>'}"
    )


def _first_customer_payment(payment: OriginalPayment, outcome: _Outcome) -> str:
    status, reason = outcome.of_payment(payment)
    return (
        f"<OrgnlTxRefInfAndSts><PmtId>{element('InstrId', text_of(payment.instruction_id))}"
        f"<EndToEndId>{text_of(payment.end_to_end_id) or 'NOTPROVIDED'}</EndToEndId></PmtId>"
        f"<TxSts>{status}</TxSts>{reason}</OrgnlTxRefInfAndSts>"
    )
