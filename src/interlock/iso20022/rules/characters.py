"""Characters that a community can handle. Pure; the sets are data, `data/characters.toml`.

ISO 20022 itself takes all of Unicode. Which characters go through is a matter of the network and of what stands behind
it, so these rules hold only where a profile asks for them. A whole document is judged by one search in its text, and
only where that finds something is the element looked for.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from lxml import etree

from interlock.iso20022.rules.rule import DocumentCheck
from interlock.iso20022.rules.xml import local_name, sibling_tag


class CharacterSet(NamedTuple):
    """Characters that may stand in texts."""

    name: str
    title: str
    source: str
    #: Finds a character that may stand nowhere.
    outside: re.Pattern[str]
    #: Finds a character that may stand only below the elements of `wide_in`; None where there is no such difference.
    outside_narrow: re.Pattern[str] | None
    wide_in: frozenset[str]
    #: Characters of ASCII that may stand everywhere.
    plain: bytes

    def faults(self, document: etree._Element) -> Iterator[etree._Element]:
        """The elements whose text has a character that it must not have."""
        text = etree.tostring(document, method="text", encoding="utf-8", with_tail=False)
        if not text.translate(None, self.plain):
            return  # as nearly always, and six times as quick as to search
        narrow = self.outside_narrow or self.outside
        odd = len(narrow.findall(text.decode()))
        if odd == 0 or (self.wide_in and odd == self._allowed(document)):
            return
        for element in document.iter("*"):
            # White space between elements is the sender's layout; with elements inside there is no other text.
            content = element.text
            if content is None or narrow.search(content) is None:
                continue
            if narrow is self.outside or self.outside.search(content) or not self._is_wide(element):
                yield element

    def _allowed(self, document: etree._Element) -> int:
        """How many characters stand where they may, of those that may not stand everywhere."""
        narrow = self.outside_narrow or self.outside
        allowed = 0
        for element in document.iter(*(sibling_tag(document, name) for name in self.wide_in)):
            text = _text(element)
            odd = len(narrow.findall(text))
            # A name within remittance information is counted with that.
            if odd and not self.outside.search(text) and not self._is_wide(element.getparent()):
                allowed += odd
        return allowed

    def _is_wide(self, element: etree._Element | None) -> bool:
        while element is not None:
            if local_name(element) in self.wide_in:
                return True
            element = element.getparent()
        return False


def _text(element: etree._Element) -> str:
    """All text below an element in one piece, made by libxml2."""
    return etree.tostring(element, method="text", encoding="unicode", with_tail=False)


def _load() -> Mapping[str, CharacterSet]:
    text = resources.files("interlock.iso20022").joinpath("data/characters.toml").read_text("utf-8")
    return MappingProxyType({name: _set(name, table) for name, table in tomllib.loads(text).items()})


def _set(name: str, table: dict[str, Any]) -> CharacterSet:
    wide = table.get("wide")
    narrow = _outside(table["characters"])
    return CharacterSet(
        name=name,
        title=table["title"],
        source=table["source"],
        outside=_outside(wide) if wide else narrow,
        outside_narrow=narrow if wide else None,
        wide_in=frozenset(table.get("wide_in", ())),
        plain=bytes(code for code in range(128) if not narrow.search(chr(code))),
    )


def _outside(characters: str) -> re.Pattern[str]:
    """characters: the inside of a character class; line ends and tabs are layout, and always allowed."""
    return re.compile(f"[^{characters}\\r\\n\\t]")


#: The sets by name, for profiles.
CHARACTER_SETS: Final = _load()


def _check(name: str) -> DocumentCheck:
    characters = CHARACTER_SETS[name]

    def check(document: etree._Element, _today: date) -> Iterable[etree._Element]:
        return characters.faults(document)

    return check


DOCUMENT_CHECKS: Final[dict[str, DocumentCheck]] = {f"characters.{name}": _check(name) for name in CHARACTER_SETS}
