"""What a file holds, told from its beginning: which message, and which elements are its payments.

Nothing is built here: the parser stops at the first thing that decides, and before any DOCTYPE is looked into.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import resources
from typing import Any, BinaryIO, Final, NamedTuple, cast

from lxml import etree

from interlock.iso20022 import wrappers
from interlock.iso20022.envelopes import (
    _BEFORE,
    _PLAIN,
    _SIBLINGS,
    _doctype_finding,
    _encoding_finding,
    _finding,
    _kind,
    is_json,
    is_utf32,
    report_finding,
)
from interlock.iso20022.findings import Finding


class Layout(NamedTuple):
    """Full tags of what is read piece by piece; None where a message has no such elements."""

    payment: str | None
    block: str | None


class Recognised(NamedTuple):
    """What the beginning of a file says."""

    #: Why the file is refused unread.
    refused: Finding | None = None
    #: Of the message, from the namespace of its Document; None where none was met.
    definition: str | None = None
    #: The full tag of that Document, and the how-manieth element of this tag it is.
    document: str | None = None
    number: int = 0
    #: Document or AppHdr is outermost, so the other may stand beside it, with nothing around them.
    is_open: bool = False


class _Stop(Exception):
    """Enough was seen."""


class _Target:
    """Looks for the Document as `envelopes` does: at any depth, but not inside another Document or AppHdr."""

    def __init__(self) -> None:
        self.found: Recognised | None = None
        self.has_doctype = False
        self._seen: Counter[str] = Counter()
        self._inside = 0
        self._is_first = True
        self.is_open = False
        #: Full tags from the root down to where it is, outside header and document.
        self._above: list[str] = []
        #: What only a message has in the wrapper's header, and what stands there.
        self._message: str | None = None
        self._beside: list[str] = []

    def doctype(self, _name: str, _public: str | None, _system: str | None) -> None:
        self.has_doctype = True
        raise _Stop

    def start(self, tag: str, _attributes: Mapping[str, str]) -> None:
        if tag == _SIBLINGS:
            return
        self._seen[tag] += tag.endswith("Document")
        if self._inside >= _DEPTH_MAX or len(self._above) >= _DEPTH_MAX:
            raise _Stop  # no message: what builds a tree says so, and a parser without one takes room for each level
        if self._inside:
            self._inside += 1
            return
        kind = _kind(tag)
        self.is_open |= self._is_first and kind is not None
        self._is_first = False
        if kind is None:
            self._note(tag)
            return
        is_header, definition = kind
        report = None if self._message is None else wrappers.report_among(self._beside, self._message)
        if report is not None:
            self.found = Recognised(refused=report_finding(report))
            raise _Stop
        if not is_header and definition is not None:
            number = self._seen[tag]
            self.found = Recognised(definition=definition, document=tag, number=number, is_open=self.is_open)
            raise _Stop
        self._inside = 1

    def _note(self, tag: str) -> None:
        """An element of a wrapper."""
        if not self._above and wrappers.renaming(tag) is not None:
            self.found = Recognised(refused=_short())
            raise _Stop
        above = self._above[-_IN_HEADER:]
        if above and (message := wrappers.message_in(above[-1], tag)) is not None:
            self._message, self._beside = message, []
        elif len(above) == _IN_HEADER and wrappers.message_in(*above) is not None:
            self._beside = [*self._beside[:1], tag] if tag != self._message else [tag]
        self._above.append(tag)

    def end(self, _tag: str) -> None:
        if self._inside:
            self._inside -= 1
        elif self._above:
            self._above.pop()

    def close(self) -> None:
        """Nothing was built."""


#: As libxml2 has it where it builds a tree.
_DEPTH_MAX: Final = 256
#: Elements above one that stands in the header of a wrapper.
_IN_HEADER: Final = 2
_STEP_BYTES: Final = 4096


def recognise(file: BinaryIO, bytes_max: int) -> Recognised:
    """What the first bytes of a file say; at most `bytes_max` of them are read. What is malformed is found later."""
    head = file.read(_STEP_BYTES)
    if not head or (head.isspace() and not file.read(1)):
        return Recognised(refused=_empty())
    if is_json(head):
        return Recognised(refused=_finding("envelope.json", "The body is JSON; an ISO 20022 message in XML is wanted."))
    if is_utf32(head):
        return Recognised(refused=_encoding_finding())
    target = _look(file, bytes_max)
    if target.has_doctype:
        return Recognised(refused=_doctype_finding())
    if target.is_open and target.found is None:
        # A header is outermost: the Document may stand beside it, which no parser takes without something around both.
        target = _look(file, bytes_max, opened=True)
        return target.found or Recognised(is_open=True)
    return target.found or Recognised(is_open=target.is_open)


def _look(file: BinaryIO, bytes_max: int, *, opened: bool = False) -> _Target:
    target = _Target()
    parser = etree.XMLParser(
        target=cast("Any", target), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    file.seek(0)
    read = 0
    with suppress(_Stop, etree.XMLSyntaxError, ValueError, LookupError):
        while read < bytes_max and (data := file.read(_STEP_BYTES)):
            parser.feed(with_opening(data) or data if opened and not read else data)
            read += len(data)
    return target


def _empty() -> Finding:
    return _finding("xml.empty", "There is no message: the body is empty. Send an ISO 20022 message in XML.")


def _short() -> Finding:
    text = (
        "Messages in this envelope carry one payment and are read whole; none is as long as this: send one at a time."
    )
    return _finding("envelope.short", text)


def with_opening(head: bytes) -> bytes | None:
    """The first bytes of a file with an element opened around all that follows; None where its encoding forbids it."""
    match = _BEFORE.match(head) if _PLAIN.match(head) else None
    if match is None:
        return None
    namespace = _SIBLINGS[1:].partition("}")[0]
    return head[: match.end()] + f'<i:siblings xmlns:i="{namespace}">'.encode() + head[match.end() :]


CLOSING: Final = b"</i:siblings>"


@cache
def _layouts() -> Mapping[str, Mapping[str, Any]]:
    text = resources.files("interlock.iso20022").joinpath("data/fields.toml").read_text("utf-8")
    return cast("Mapping[str, Mapping[str, Any]]", tomllib.loads(text)["layouts"])


def layout_of(recognised: Recognised) -> Layout:
    """The elements that a message of this definition can have in great number."""
    definition = recognised.definition or ""
    table = _layouts().get(definition) or _layouts().get(definition[:8]) or {}
    namespace = (recognised.document or "").rpartition("}")[0]
    payment, block = table.get("payment"), table.get("block")
    return Layout(payment and f"{namespace}}}{payment}", block and f"{namespace}}}{block}")
