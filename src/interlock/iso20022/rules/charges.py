"""Who bears the charges, and what is said of them. Pure."""

from datetime import date
from typing import Final

from lxml import etree

from interlock.iso20022.original import to_decimal
from interlock.iso20022.rules.rule import ElementCheck
from interlock.iso20022.rules.xml import child, children, has, text_of


def _not_slev(element: etree._Element, _today: date) -> str | None:
    return None if text_of(element) == "SLEV" else ""


def _slev(element: etree._Element, _today: date) -> str | None:
    return "" if text_of(element) == "SLEV" else None


def _cred_unsaid(element: etree._Element, _today: date) -> str | None:
    """ChrgBr CRED without ChrgsInf; the element at fault is the one that is not there."""
    payment = element.getparent()
    if payment is None or text_of(element) != "CRED" or has(payment, "ChrgsInf"):
        return None
    return ""


def _debt_often(element: etree._Element, _today: date) -> str | None:
    payment = element.getparent()
    if payment is None or text_of(element) != "DEBT":
        return None
    return "" if len(children(payment, "ChrgsInf")) > 1 else None


def _debt_prepaid(element: etree._Element, _today: date) -> str | None:
    """More settled than instructed in one currency: charges paid ahead, which ChrgsInf must then say."""
    payment = element.getparent()
    if payment is None or text_of(element) != "DEBT" or has(payment, "ChrgsInf"):
        return None
    instructed, settled = child(payment, "InstdAmt"), child(payment, "IntrBkSttlmAmt")
    if instructed is None or settled is None or instructed.get("Ccy") != settled.get("Ccy"):
        return None
    before, after = to_decimal(text_of(instructed)), to_decimal(text_of(settled))
    return "" if before is not None and after is not None and after > before else None


ELEMENT_CHECKS: Final[dict[str, ElementCheck]] = {
    "charges.slev_only": _not_slev,
    "charges.no_slev": _slev,
    "charges.credit_information": _cred_unsaid,
    "charges.debt_once": _debt_often,
    "charges.debt_prepaid": _debt_prepaid,
}
