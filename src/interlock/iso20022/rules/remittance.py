"""Remittance information: how much of it, and references with check digits. Pure."""

import re
from datetime import date
from functools import lru_cache
from typing import Final

from lxml import etree
from stdnum import iso11649
from stdnum.ch import esr

from interlock.iso20022.rules.rule import ElementCheck, ShapeCheck
from interlock.iso20022.rules.xml import child, children, has, text_of


def _mixed(names: tuple[str, ...]) -> str | None:
    return "Strd" if "Ustrd" in names and "Strd" in names else None


def _unstructured_often(names: tuple[str, ...]) -> str | None:
    return "Ustrd[2]" if names.count("Ustrd") > 1 else None


def _structured_often(names: tuple[str, ...]) -> str | None:
    return "Strd[2]" if names.count("Strd") > 1 else None


def _beside_remittance(element: etree._Element, _today: date) -> str | None:
    payment = element.getparent()
    return "" if payment is not None and has(payment, "RmtInf") else None


def _unstructured_length(element: etree._Element, _today: date) -> str | None:
    texts = (text_of(one) for one in children(element, "Ustrd"))
    return "Ustrd" if sum(map(len, texts)) > _UNSTRUCTURED_MAX else None


def _structured_length(element: etree._Element, _today: date) -> str | None:
    """Business data without tags."""
    texts = (text.strip() for one in children(element, "Strd") for text in one.itertext() if isinstance(text, str))
    return "Strd" if sum(map(len, texts)) > _STRUCTURED_MAX else None


_UNSTRUCTURED_MAX: Final = 140
_STRUCTURED_MAX: Final = 9000


def _creditor_reference(element: etree._Element, _today: date) -> str | None:
    """A reference that says it is one of ISO 11649: by its issuer, or by its beginning."""
    reference = text_of(child(element, "Ref"))
    if not reference:
        return None
    says_so = text_of(child(element, "Tp", "Issr")) == "ISO" or _LOOKS_LIKE_RF.match(reference)
    is_coded = text_of(child(element, "Tp", "CdOrPrtry", "Cd")) == "SCOR"
    return "Ref" if is_coded and says_so and not _is_rf(reference) else None


#: Blanks, small letters and too many characters are what goes wrong with one.
_LOOKS_LIKE_RF: Final = re.compile(r"[Rr][Ff][0-9]{2}[ A-Za-z0-9]+\Z")
_RF: Final = re.compile(r"RF[0-9]{2}[A-Za-z0-9]{1,21}\Z")
_REFERENCE_MAX: Final = 35


def _is_rf(reference: str) -> bool:
    return len(reference) <= _REFERENCE_MAX and _checks_as_rf(reference)


@lru_cache(maxsize=1024)
def _checks_as_rf(reference: str) -> bool:
    return _RF.match(reference) is not None and iso11649.is_valid(reference)


def _qr_reference(element: etree._Element, _today: date) -> str | None:
    if text_of(child(element, "Tp", "CdOrPrtry", "Prtry")) != "QRR":
        return None
    return None if _is_qr(text_of(child(element, "Ref"))) else "Ref"


def _is_qr(reference: str) -> bool:
    """27 digits, the last a check digit modulo 10, recursively; zeros alone are none."""
    is_form = _QR.match(reference) is not None and reference.strip("0") != ""
    return is_form and esr.calc_check_digit(reference[:-1]) == reference[-1]


_QR: Final = re.compile(r"[0-9]{27}\Z")


def _qr_account(element: etree._Element, _today: date) -> str | None:
    """A QR-IBAN and a QR reference: each only with the other."""
    account = text_of(child(element, "CdtrAcct", "Id", "IBAN"))
    if not account:
        return None
    remittance = child(element, "RmtInf")
    structured = () if remittance is None else children(remittance, "Strd")
    types = [text_of(child(one, "CdtrRefInf", "Tp", "CdOrPrtry", "Prtry")) for one in structured]
    if (_QR_IBAN.match(account) is not None) is ("QRR" in types):
        return None
    if "QRR" not in types:
        return "CdtrAcct/Id/IBAN"
    place = types.index("QRR") + 1
    return f"RmtInf/Strd{f'[{place}]' if place > 1 else ''}/CdtrRefInf/Ref"


#: Its institution's number, the five digits after the check digits, is from 30000 to 31999.
_QR_IBAN: Final = re.compile(r"(?:CH|LI)[0-9]{2}3[01][0-9]{3}")

ELEMENT_CHECKS: Final[dict[str, ElementCheck]] = {
    "remittance.unstructured_length": _unstructured_length,
    "remittance.structured_length": _structured_length,
    "remittance.related": _beside_remittance,
    "reference.rf": _creditor_reference,
    "reference.qr": _qr_reference,
    "reference.qr_account": _qr_account,
}
SHAPE_CHECKS: Final[dict[str, ShapeCheck]] = {
    "remittance.mixed": _mixed,
    "remittance.unstructured_once": _unstructured_often,
    "remittance.structured_once": _structured_often,
}
