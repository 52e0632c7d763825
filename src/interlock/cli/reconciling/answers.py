"""What the answers say that clients were given: read by the standard's tags alone.

Nothing of what built them is used here, so that its mistakes are seen.
"""

from decimal import Decimal
from typing import Any, NamedTuple

from lxml import etree

from interlock.iso20022 import envelopes
from interlock.iso20022.original import to_decimal

_REPORTS = ("pacs.002", "pain.002", "pain.014")
FAMILIES = (*_REPORTS, "admi.002")
#: Of what answers requests about other messages, and receipts: where its own identification stands.
_OWN = {"camt.029": ("Assgnmt", "Id"), "camt.111": ("InvstgtnRspn", "MsgId"), "admi.007": ("MsgId", "MsgId")}
OTHERS = ("pacs.002", *_OWN)


class Told(NamedTuple):
    """What an answer says of one payment."""

    status: str | None
    amount: Decimal | None
    currency: str | None
    #: As they are repeated, by their names in the store.
    names: dict[str, str]


class Answer(NamedTuple):
    """What an answer says."""

    #: `pacs.002`, or whatever else it is.
    family: str
    #: How many answers these bytes hold.
    reports: int = 1
    #: Its own identification; None in an admi.002.
    id: str | None = None
    #: What it answers: MsgId and message definition, in an admi.002 the one reference.
    original_id: str | None = None
    original_definition: str | None = None
    #: Number of payments and control sum of the original, repeated.
    counts: tuple[str | None, str | None] = (None, None)
    status: str | None = None
    payments: tuple[Told, ...] = ()
    #: Of each PmtInf block: its status, and those of the payments in it.
    blocks: tuple[tuple[str | None, tuple[str | None, ...]], ...] = ()

    @property
    def is_rejection(self) -> bool:
        """True for admi.002, which speaks of the whole alone."""
        return self.family == "admi.002"


def answer_of(content: bytes, parser: etree.XMLParser) -> Answer | None:
    """None where there is no answer in these bytes."""
    try:
        root = envelopes.parse(content, parser)
        documents = [element for element in root.iter() if _name(element) == "Document"]
        bodies = [body for document in documents for body in document]
        if not bodies:
            return None
        family = documents[0].tag.rpartition("}")[0].rpartition(":")[2][:8]
        return _report(family, len(bodies), bodies[0])
    except Exception:  # noqa: BLE001 - whatever it is, it is no answer
        return None


def _report(family: str, reports: int, body: Any) -> Answer:
    if family == "admi.002":
        return Answer(family, reports, original_id=_text(body, "RltdRef", "Ref"))
    if family in _OWN:
        return Answer(family, reports, id=_text(body, *_OWN[family]))
    first = _first(body, "OrgnlGrpRefInfAndSts")
    if first is not None:  # the edition of 2005, which nothing later resembles
        return Answer(
            family=family,
            reports=reports,
            id=_text(body, "GnlInf", "PmtInitnStsId"),
            original_id=_text(first, "GrpId"),
            original_definition=_text(first, "OrgnlMsgTp"),
            status=_text(first, "GrpSts"),
            payments=tuple(_first_told(element) for element in _all(body, "OrgnlPmtInf", "OrgnlTxRefInfAndSts")),
        )
    whole: tuple[str, ...] = ("OrgnlGrpInfAndSts",)
    if _first(body, *whole) is None:  # a scheme whose reports say nothing of the group
        whole = ("TxInfAndSts", "OrgnlGrpInf")
    payments: list[Told] = []
    blocks = []
    for element in body:
        if _name(element) == "TxInfAndSts":
            payments.append(_told(element))
        elif _name(element) == "OrgnlPmtInfAndSts":
            inside = [_told(payment) for payment in _all(element, "TxInfAndSts")]
            payments += inside
            blocks.append((_text(element, "PmtInfSts"), tuple(told.status for told in inside)))
    return Answer(
        family=family,
        reports=reports,
        id=_text(body, "GrpHdr", "MsgId"),
        original_id=_text(body, *whole, "OrgnlMsgId"),
        original_definition=_text(body, *whole, "OrgnlMsgNmId"),
        counts=(_text(body, *whole, "OrgnlNbOfTxs"), _text(body, *whole, "OrgnlCtrlSum")),
        status=_text(body, *whole, "GrpSts"),
        payments=tuple(payments),
        blocks=tuple(blocks),
    )


NAMES = {
    "OrgnlInstrId": "instruction_id",
    "OrgnlEndToEndId": "end_to_end_id",
    "OrgnlTxId": "transaction_id",
    "OrgnlUETR": "uetr",
}
_FIRST_NAMES = {"InstrId": "instruction_id", "EndToEndId": "end_to_end_id"}


def _told(element: Any) -> Told:
    """One TxInfAndSts."""
    amount = _first(element, "OrgnlTxRef", "IntrBkSttlmAmt")
    if amount is None:
        amount = _first(element, "OrgnlTxRef", "Amt", "InstdAmt")
    return Told(
        status=_text(element, "TxSts"),
        amount=None if amount is None else to_decimal(amount.text),
        currency=None if amount is None else amount.get("Ccy"),
        names={NAMES[name]: child.text or "" for child in element if (name := _name(child)) in NAMES},
    )


def _first_told(element: Any) -> Told:
    """One OrgnlTxRefInfAndSts of 2005: no amounts, and an EndToEndId even where there was none."""
    names = {_FIRST_NAMES[name]: text for name in _FIRST_NAMES if (text := _text(element, "PmtId", name))}
    if names.get("end_to_end_id") == "NOTPROVIDED":
        del names["end_to_end_id"]
    return Told(_text(element, "TxSts"), None, None, names)


def _name(element: Any) -> str:
    """Without the namespace."""
    return str(element.tag).rpartition("}")[2]


def _all(element: Any, *path: str) -> list[Any]:
    """The elements at a path of local names, in the order of the document."""
    found = [element]
    for step in path:
        found = [child for parent in found for child in parent if _name(child) == step]
    return found


def _first(element: Any, *path: str) -> Any:
    return next(iter(_all(element, *path)), None)


def _text(element: Any, *path: str) -> str | None:
    found = _first(element, *path)
    return None if found is None else found.text
