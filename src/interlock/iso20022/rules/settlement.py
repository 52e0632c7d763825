"""How a payment is settled and exchanged, and what is said twice, above a payment and in it. Pure.

These are validation rules that ISO 20022 prints beside its message definitions, and that a schema cannot hold.
"""

from datetime import date
from typing import Final

from lxml import etree

from interlock.iso20022.rules.rule import ElementCheck
from interlock.iso20022.rules.xml import child, has, local_name, text_of


def _rate_missing(element: etree._Element, _today: date) -> str | None:
    """InstdAmt in another currency than what is settled, and no rate."""
    payment = element.getparent()
    settled = child(payment, "IntrBkSttlmAmt") if payment is not None else None
    if payment is None or settled is None or settled.get("Ccy") == element.get("Ccy"):
        return None
    return None if has(payment, "XchgRate") else ""


def _rate_needless(element: etree._Element, _today: date) -> str | None:
    """A rate where nothing is exchanged."""
    payment = element.getparent()
    if payment is None or not has(payment, "IntrBkSttlmAmt"):
        return None
    instructed, settled = child(payment, "InstdAmt"), child(payment, "IntrBkSttlmAmt")
    if instructed is None or settled is None:
        return ""
    return "" if instructed.get("Ccy") == settled.get("Ccy") else None


_REIMBURSEMENT: Final = ("InstgRmbrsmntAgt", "InstdRmbrsmntAgt", "ThrdRmbrsmntAgt")
#: What a settlement method leaves no room for.
_NOT_WITH: Final = {
    "INDA": (*_REIMBURSEMENT, "ClrSys"),
    "INGA": (*_REIMBURSEMENT, "ClrSys"),
    "CLRG": ("SttlmAcct", *_REIMBURSEMENT),
    "COVE": ("SttlmAcct", "ClrSys"),
}


def _method_surplus(element: etree._Element, _today: date) -> str | None:
    # Where the method stands alone, as nearly always, there is nothing to refuse.
    if len(element) < 2 or not _is_own(element):
        return None
    names = {local_name(one) for one in element.iterchildren("*")}
    return next((name for name in _NOT_WITH.get(_method(element), ()) if name in names), None)


def _cover_without_agent(element: etree._Element, _today: date) -> str | None:
    if _method(element) != "COVE" or not _is_own(element):
        return None
    return None if any(has(element, name) for name in _REIMBURSEMENT[:2]) else "SttlmMtd"


def _method(element: etree._Element) -> str:
    """SttlmMtd, which schemas put first; of an element that has none, nothing that is a method."""
    return text_of(element[0]) if len(element) else ""


def _is_own(element: etree._Element) -> bool:
    """Whether it is this message that is settled so, and not one that it refers to."""
    above = element.getparent()
    return above is not None and local_name(above) == "GrpHdr"


def _said_above(element: etree._Element, _today: date) -> str | None:
    """An element of a payment that its PmtInf, or the group header, has too."""
    payment = element.getparent()
    above = payment.getparent() if payment is not None else None
    if payment is None or above is None or not payment.tag.endswith("Inf") or local_name(payment) == "PmtInf":
        return None
    holder = above if local_name(above) == "PmtInf" else child(above, "GrpHdr")
    return "" if holder is not None and next(holder.iterchildren(element.tag), None) is not None else None


ELEMENT_CHECKS: Final[dict[str, ElementCheck]] = {
    "exchange.rate_missing": _rate_missing,
    "exchange.rate_needless": _rate_needless,
    "settlement.method": _method_surplus,
    "settlement.cover": _cover_without_agent,
    "payment_type.twice": _said_above,
    "charges.twice": _said_above,
    "ultimate.twice": _said_above,
}
