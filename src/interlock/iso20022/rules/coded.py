"""Codes of ISO's external sets, and what must stand beside them. Pure; the codes are in `data/codes.toml`."""

import tomllib
from collections.abc import Collection
from datetime import date
from importlib import resources
from typing import Any, Final

from lxml import etree

from interlock.iso20022.reasons import CANCELLATION_REASONS, CANCELLATION_REJECTIONS, STATUS_REASONS
from interlock.iso20022.rules.rule import ElementCheck
from interlock.iso20022.rules.xml import child, children, local_name, text_of


def _load() -> dict[str, Any]:
    return tomllib.loads(resources.files("interlock.iso20022").joinpath("data/codes.toml").read_text("utf-8"))


_DATA: Final = _load()


def _codes(name: str) -> frozenset[str]:
    return frozenset(_DATA[name])


#: Codes by the element whose text they are.
_STATUSES: Final = {
    "TxSts": _codes("transaction_status"),
    "GrpSts": _codes("group_status"),
    "PmtInfSts": _codes("group_status"),
}
#: Codes by the element that holds them in Rsn/Cd.
_REASONS: Final[dict[str, Collection[str]]] = {
    "StsRsnInf": STATUS_REASONS.keys(),
    "RtrRsnInf": _codes("return_reason"),
    "RvslRsnInf": _codes("reversal_reason"),
    "CxlRsnInf": CANCELLATION_REASONS.codes,
    "CxlStsRsnInf": CANCELLATION_REJECTIONS.codes,
}
#: Codes by the element that holds them in Cd.
_KINDS: Final = {
    "Purp": _codes("purpose"),
    "CtgyPurp": _codes("category_purpose"),
    "SvcLvl": _codes("service_level"),
    "LclInstrm": _codes("local_instrument"),
}


def _status(element: etree._Element, _today: date) -> str | None:
    return None if text_of(element) in _STATUSES[local_name(element)] else ""


def _reason(element: etree._Element, _today: date) -> str | None:
    code = child(element, "Rsn", "Cd")
    return None if code is None or text_of(code) in _REASONS[local_name(element)] else "Rsn/Cd"


def _kind(element: etree._Element, _today: date) -> str | None:
    code = child(element, "Cd")
    return None if code is None or text_of(code) in _KINDS[local_name(element)] else "Cd"


def _narrative(element: etree._Element, _today: date) -> str | None:
    """NARR points to a text, which must then be there."""
    says_so = text_of(child(element, "Rsn", "Cd")) == "NARR"
    return "Rsn/Cd" if says_so and not children(element, "AddtlInf") else None


def _unexplained(element: etree._Element, _today: date) -> str | None:
    """A rejection without a reason beside it."""
    parent = element.getparent()
    return "" if text_of(element) == "RJCT" and parent is not None and child(parent, "StsRsnInf") is None else None


ELEMENT_CHECKS: Final[dict[str, ElementCheck]] = {
    "code.status": _status,
    "code.reason": _reason,
    "code.purpose": _kind,
    "code.type": _kind,
    "reason.narrative": _narrative,
    "reason.missing": _unexplained,
}
