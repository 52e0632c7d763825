"""What an archive holds, as bytes: sections of rows in frames. Pure.

A frame is its kind (one byte), the length of what follows (four bytes, big-endian), and one msgpack value:

    A  [1, name of the archive]          the first frame; 1 is the version of this format
    S  [table, [column, ...]]            a section begins
    R  [value, ...]                      a row, one value a column
    E  number of rows                    the section ends
    Z  number of sections                the last frame; nothing follows

The numbers at the ends tell a content that was cut or put together from pieces, also without its manifest.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any, Protocol

import msgspec

from interlock.archives.errors import ArchiveDamaged

VERSION = 1
#: What a row can hold. Whatever else a database has (numbers of any precision, times, UUIDs) its dumper writes as one
#: of these, exactly; nothing is converted here, for it would come back as something else.
Value = None | bool | int | float | str | bytes
Row = tuple[Value, ...]

#: Content is handed on in blocks of about this size.
BLOCK_BYTES = 1 << 20
#: The largest frame. Messages end at 64 MiB; a length beyond this is not a length.
FRAME_BYTES_MAX = 1 << 28

_OPENING, _SECTION, _ROW, _END, _CLOSING = b"A", b"S", b"R", b"E", b"Z"
_HEAD = Struct(">cI")
_LENGTH = Struct(">I")
_EMPTY_ROW = _HEAD.pack(_ROW, 0)
_TYPES = frozenset((type(None), bool, int, float, str, bytes))
_encode_into = msgspec.msgpack.Encoder().encode_into
_decode_opening = msgspec.msgpack.Decoder(tuple[int, str]).decode
_decode_section = msgspec.msgpack.Decoder(tuple[str, tuple[str, ...]]).decode
_decode_row = msgspec.msgpack.Decoder(tuple).decode
_decode_number = msgspec.msgpack.Decoder(int).decode


class Source(Protocol):
    """Bytes to be read once, in order."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; fewer are no sign of the end, none are."""


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one table. Read ones can be walked once, and before the next section is asked for."""

    table: str
    columns: tuple[str, ...]
    rows: Iterable[Row]


@dataclass(frozen=True, slots=True)
class Table:
    """What a section came to."""

    name: str
    columns: tuple[str, ...]
    rows: int


class Writer:
    """Content from sections, block by block."""

    def __init__(self) -> None:
        #: The sections that are complete, in their order.
        self.tables: list[Table] = []

    def blocks(self, name: str, sections: Iterable[Section]) -> Iterator[bytearray]:
        """The content of the archive `name`; each block is the receiver's.

        Raises TypeError or ValueError for a row that an archive cannot hold, and whatever the rows raise themselves.
        """
        block = bytearray()
        _add(block, _OPENING, (VERSION, name))
        for section in sections:
            columns = tuple(section.columns)
            _add(block, _SECTION, (section.table, columns))
            width, count = len(columns), 0
            for row in section.rows:
                if len(row) != width or not _TYPES.issuperset(map(type, row)):
                    raise TypeError(_misfit(section, row))
                start = len(block)
                block += _EMPTY_ROW
                try:
                    _encode_into(row, block, -1)
                except (OverflowError, UnicodeEncodeError) as exc:
                    raise ValueError(f"a row of {section.table} does not fit into an archive: {exc}") from exc
                _set_length(block, start)
                count += 1
                if len(block) >= BLOCK_BYTES:
                    yield block
                    block = bytearray()
            _add(block, _END, count)
            self.tables.append(Table(section.table, columns, count))
        _add(block, _CLOSING, len(self.tables))
        yield block


def _add(block: bytearray, kind: bytes, value: object) -> None:
    start = len(block)
    block += _HEAD.pack(kind, 0)
    _encode_into(value, block, -1)
    _set_length(block, start)


def _set_length(block: bytearray, start: int) -> None:
    length = len(block) - start - _HEAD.size
    if length > FRAME_BYTES_MAX:
        raise ValueError(f"a row of {length:,} bytes does not fit into an archive; the most is {FRAME_BYTES_MAX:,}")
    _LENGTH.pack_into(block, start + 1, length)


def _misfit(section: Section, row: Row) -> str:
    """Why a row cannot be written; values are not repeated, for they may be personal data."""
    if len(row) != len(section.columns):
        return f"a row of {section.table} has {len(row)} values for {len(section.columns)} columns"
    odd = [
        f"{column} is {type(value).__name__}"
        for column, value in zip(section.columns, row, strict=True)
        if type(value) not in _TYPES
    ]
    return f"a row of {section.table} has values that an archive cannot hold: {', '.join(odd)}"


class Reader:
    """Sections from content. Raises ArchiveDamaged at the first place where it is not what `Writer` makes."""

    def __init__(self, name: str, source: Source) -> None:
        """name: of the archive that this must be."""
        self._name = name
        self._source = source
        #: How far it has come in the content, in bytes, up to the block that is being read.
        self._passed = 0
        #: The sections that were walked to their end.
        self.tables: list[Table] = []

    def sections(self) -> Iterator[Section]:
        """Each section in turn. Rows that were not taken are walked, and so checked, all the same."""
        frames = self._frames()
        kind, payload = self._next(frames)
        version, name = self._decoded(_decode_opening, payload) if kind == _OPENING else (0, "")
        if version != VERSION:
            raise ArchiveDamaged(f"its content does not begin as that of an archive of format {VERSION}")
        if name != self._name:
            raise ArchiveDamaged(f"its content is that of the archive {name}")
        while True:
            kind, payload = self._next(frames)
            if kind != _SECTION:
                break
            table, columns = self._decoded(_decode_section, payload)
            rows = self._rows(frames, table, columns)
            yield Section(table, columns, rows)
            deque(rows, maxlen=0)
        if kind != _CLOSING or self._decoded(_decode_number, payload) != len(self.tables):
            raise self._damaged("a section or the closing frame was expected")
        if next(frames, None) is not None:
            raise self._damaged("something follows the closing frame")

    def _rows(self, frames: Iterator[tuple[bytes, memoryview]], table: str, columns: tuple[str, ...]) -> Iterator[Row]:
        width, count = len(columns), 0
        for kind, payload in frames:
            if kind != _ROW:
                break
            row = self._decoded(_decode_row, payload)
            if len(row) != width or not _TYPES.issuperset(map(type, row)):
                raise self._damaged(f"a row of {table} does not fit its columns")
            count += 1
            yield row
        else:
            raise self._damaged(f"it ends within {table}, after {count} rows")
        if kind != _END or self._decoded(_decode_number, payload) != count:
            raise self._damaged(f"{table} has {count} rows, and its end says otherwise")
        self.tables.append(Table(table, columns, count))

    def _next(self, frames: Iterator[tuple[bytes, memoryview]]) -> tuple[bytes, memoryview]:
        frame = next(frames, None)
        if frame is None:
            raise self._damaged("it ends before its closing frame")
        return frame

    def _frames(self) -> Iterator[tuple[bytes, memoryview]]:
        """Kind and payload of each frame; a payload is good until the next one is asked for."""
        block, at = memoryview(b""), 0
        while True:
            if len(block) - at < _HEAD.size:
                self._passed += at
                block, at = self._filled(block[at:], _HEAD.size), 0
                if not block:
                    return
                if len(block) < _HEAD.size:
                    raise self._damaged("it ends within a frame")
            kind, length = _HEAD.unpack_from(block, at)
            if length > FRAME_BYTES_MAX:
                raise self._damaged("a frame has an impossible length")
            end = at + _HEAD.size + length
            if end > len(block):
                self._passed += at
                block, at, end = self._filled(block[at:], end - at), 0, end - at
                if end > len(block):
                    raise self._damaged("it ends within a frame")
            yield kind, block[at + _HEAD.size : end]
            at = end

    def _filled(self, rest: memoryview, size: int) -> memoryview:
        """The rest and what follows it, `size` bytes at least unless the content ends before."""
        parts, held = [bytes(rest)], len(rest)
        while held < size:
            part = self._source.read(BLOCK_BYTES)
            if not part:
                break
            parts.append(part)
            held += len(part)
        return memoryview(b"".join(parts))

    def _decoded(self, decode: Any, payload: memoryview) -> Any:
        try:
            return decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise self._damaged("a frame holds no such value as its kind promises") from exc

    def _damaged(self, what: str) -> ArchiveDamaged:
        return ArchiveDamaged(f"its content is damaged after byte {self._passed:,}: {what}")
