"""The parser's side of a bulk message: bytes go in, a tree grows, and finished payments are pointed out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from lxml import etree

from interlock.iso20022.bulk.pieces import Cutter
from interlock.iso20022.bulk.recognising import CLOSING, Layout, Recognised, with_opening
from interlock.iso20022.envelopes import (
    _encoding_finding,
    _finding,
    _syntax_finding,
    is_crowded,
    local_name,
    namespaces_finding,
)
from interlock.iso20022.findings import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkLimits:
    """Bounds of what is read at all."""

    bytes_max: int = 268_435_456
    payments_max: int = 100_000
    #: Of one payment, and of all that stands before, between or after the payments.
    part_bytes_max: int = 1_048_576
    depth_max: int = 64
    #: Different names of elements, attributes and namespaces, all together; libxml2 keeps them while it reads.
    names_bytes_max: int = 4_194_304
    findings_max: int = 100
    #: How much is parsed at once. Pieces are about as large, and should have less than the 5,000 elements over which
    #: a validation begins to take precautions.
    chunk_bytes: int = 65_536


class Refused(Exception):
    """Reading stops: no more has to be known."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.rule)
        self.finding = finding


class NotWellFormed(Exception):
    """What was parsed is no XML document, for all that the parser was told."""


class Source:
    """A file on its way through the parser; iterate for its bytes, and with them the last payment that is finished."""

    def __init__(self, file: BinaryIO, recognised: Recognised, layout: Layout, limits: BulkLimits) -> None:
        """The file stands at its beginning."""
        self._file = file
        self._recognised = recognised
        self._layout = layout
        self._limits = limits
        self._parser = etree.XMLPullParser(
            events=("start", "end"),
            tag=[tag for tag in (recognised.document, layout.payment) if tag is not None] or "{urn:interlock}none",
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            dtd_validation=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
            collect_ids=False,
        )
        self._number = 0
        self._uncut = 0
        self._is_wrapped = False
        #: The Document that is the message.
        self.document: etree._Element | None = None

    def __iter__(self) -> Iterator[tuple[bytes, etree._Element | None]]:
        """Some bytes at a time; None where no payment came to its end in them."""
        cutter = Cutter(self._layout)
        while data := self._file.read(self._limits.chunk_bytes):
            self._parser.feed(data if self._number or self._uncut else self._opened(data))
            last: etree._Element | None = None
            # lxml gives only elements for these events, which the stubs do not know.
            for event, element in cast("Iterator[tuple[str, etree._Element]]", self._parser.read_events()):  # noqa: SLF001
                if event == "start":
                    self._meet(element)
                elif element.tag == self._layout.payment and cutter.is_payment(element, self.document):
                    last = element
            self._uncut += len(data)
            if self._uncut > self._limits.part_bytes_max:
                raise Refused(_size_finding(self._limits.part_bytes_max))
            yield data, last

    def was_cut(self) -> None:
        """Most of the tree is gone."""
        self._uncut = 0

    def close(self) -> etree._Element:
        """The tree that is left once the file has ended. Raises NotWellFormed."""
        if self._is_wrapped:
            self._parser.feed(CLOSING)
        root = self._parser.close()
        if not self._is_wrapped:
            return root
        texts = (root.text, *(child.tail for child in root))
        if any(text and text.strip() for text in texts):
            raise NotWellFormed
        if len(root) == 1:
            return root[0]
        if sorted(local_name(child) for child in root) != ["AppHdr", "Document"]:
            raise NotWellFormed
        return root

    def _meet(self, element: etree._Element) -> None:
        if element.tag == self._recognised.document:
            self._number += 1
            if self._number == self._recognised.number:
                if is_crowded(element):
                    raise Refused(namespaces_finding())
                self.document = element

    def _opened(self, data: bytes) -> bytes:
        """The first bytes, with an element opened around a Document or AppHdr that may not be alone."""
        opened = with_opening(data) if self._recognised.is_open else None
        self._is_wrapped = opened is not None
        return opened or data


class Names:
    """Counts the names that libxml2 has to remember, where there may be other than the standard's few."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._names: set[bytes] = set()
        self._bytes = 0

    def look(self, data: bytes) -> None:
        """Count the names where free ones can stand: in namespaces, and in elements whose content is anything."""
        if any(sign in data for sign in _FREE) or b"\0" in data:
            self.count(data)

    def count(self, data: bytes) -> None:
        """Count all names. Raises Refused when there are too many."""
        for found in _NAME.findall(data.replace(b"\0", b"")):
            name = found[0] or found[1] or found[2]
            if name not in self._names:
                self._names.add(name)
                self._bytes += len(name)
        if self._bytes > self._bytes_max:
            text = "The message has more different names of elements and attributes than any schema knows; mend them."
            raise Refused(_finding("xml.names", text))


_FREE: Final = (b"xmlns", b"Envlp", b"Sgntr")
_NAME: Final = re.compile(
    rb"<([^\s<>/!?]{1,1024})|xmlns[^\s<>=]{0,200}\s{0,9}=\s{0,9}[\"']([^\"'<]{1,1024})|\s([^\s<>=/\"'!?]{1,1024})\s{0,9}="
)


def _size_finding(bytes_max: int) -> Finding:
    text = f"One payment, or what stands around the payments, is larger than {bytes_max} bytes; split it."
    return _finding("xml.size", text)


class _Nothing:
    """A target that builds nothing."""

    def close(self) -> None:
        """Nothing was built."""


def fault(path: Path, read: int, chunk_bytes: int) -> Finding:
    """Where the XML of a file is not well-formed: read again as it is, for its true lines and columns.

    read: the bytes that were read until it was noticed. No more are read: without a tree there is no limit to depth.
    """
    parser = etree.XMLParser(
        target=cast("Any", _Nothing()), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        with path.open("rb") as file:
            while data := file.read(min(chunk_bytes, read - file.tell())):
                parser.feed(data)
        parser.close()
    except etree.XMLSyntaxError as exc:
        return _syntax_finding(exc)
    except (ValueError, LookupError):  # an encoding that lxml refuses before it parses
        return _encoding_finding()
    return _finding("xml.malformed", "The XML is not well-formed: there must be one outermost element.")
