"""Postal addresses and countries. Pure.

An address is structured (elements of its own for street, town and so on), unstructured (AdrLine alone), or hybrid
(TwnNm and Ctry, and lines for the rest). Which of them are taken, and from which day, is a matter of market practice.
"""

from datetime import date
from typing import Final

import pycountry
from lxml import etree

from interlock.iso20022.rules.rule import ElementCheck, ShapeCheck
from interlock.iso20022.rules.xml import children, text_of

#: ISO 3166-1, and the code that Kosovo uses without being in it.
_COUNTRIES: Final = frozenset(country.alpha_2 for country in pycountry.countries) | {"XK"}


def _country(element: etree._Element, _today: date) -> str | None:
    text = element.text
    return None if text in _COUNTRIES or text_of(element) in _COUNTRIES else ""


def _unstructured(names: tuple[str, ...]) -> str | None:
    """Lines, and neither town nor country beside them."""
    return "AdrLine" if "AdrLine" in names and not {"TwnNm", "Ctry"}.issubset(names) else None


def _town_and_country(names: tuple[str, ...]) -> str | None:
    if "Adr" in names:  # where remittance advice goes: a name and, in Adr, an address
        return None
    return next((name for name in ("TwnNm", "Ctry") if name not in names), None)


def _with_lines(names: tuple[str, ...]) -> str | None:
    return "AdrLine" if "AdrLine" in names else None


def _hybrid_lines(names: tuple[str, ...]) -> str | None:
    is_hybrid = "TwnNm" in names and "Ctry" in names
    return "AdrLine[3]" if is_hybrid and names.count("AdrLine") > _HYBRID_LINES_MAX else None


_HYBRID_LINES_MAX: Final = 2
_LINE_MAX: Final = 70


def _line_length(element: etree._Element, _today: date) -> str | None:
    return "" if len(text_of(element)) > _LINE_MAX else None


def _repeated_in_lines(element: etree._Element, _today: date) -> str | None:
    """A line of a hybrid address that holds again what has an element of its own."""
    lines = children(element, "AdrLine")
    if not lines:
        return None
    others = (text_of(one).casefold() for one in element.iterchildren("*") if one not in lines)
    said = {text for text in others if len(text) >= _WORD_MIN}
    for number, line in enumerate(lines, 1):
        words = f" {text_of(line).casefold().replace(',', ' ')} "
        if any(f" {text} " in words for text in said):
            return f"AdrLine[{number}]" if len(lines) > 1 else "AdrLine"
    return None


#: A country's code or a house number can stand in a line by chance.
_WORD_MIN: Final = 4

ELEMENT_CHECKS: Final[dict[str, ElementCheck]] = {
    "country.known": _country,
    "address.line_length": _line_length,
    "address.repeated": _repeated_in_lines,
}
SHAPE_CHECKS: Final[dict[str, ShapeCheck]] = {
    "address.unstructured": _unstructured,
    "address.unstructured_cbprplus": _unstructured,
    "address.unstructured_sepa": _unstructured,
    "address.town_and_country": _town_and_country,
    "address.hybrid_lines": _hybrid_lines,
    "address.structured_only": _with_lines,
}
