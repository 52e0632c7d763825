"""Records on disk that are read like a sequence: what is too much for memory, and yet needed once more at the end.

The file has no name: whatever happens to the process, nothing is left behind.
"""

import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar, overload

from msgspec import Struct, msgpack

RecordT = TypeVar("RecordT", bound=Struct)
ViewT = TypeVar("ViewT", bound=Struct)

#: Bytes that are read or written at once.
_BLOCK_BYTES: Final = 262_144


class Spool(Sequence[RecordT], Generic[RecordT]):
    """Records of one type, in the order in which they were added; eight bytes of memory each."""

    def __init__(self, kind: type[RecordT], folder: Path) -> None:
        """Open an empty one, in a folder that has the room."""
        self._kind = kind
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        self._ends = array("Q")
        self._encoder = msgpack.Encoder()
        self._waiting = bytearray()
        self._written = 0

    def extend(self, records: Iterable[RecordT]) -> None:
        """Add records."""
        waiting, ends, encode_into = self._waiting, self._ends, self._encoder.encode_into
        for record in records:
            encode_into(record, waiting, -1)
            ends.append(self._written + len(waiting))
        if len(waiting) >= _BLOCK_BYTES:
            self._flush()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._ends)

    def __iter__(self) -> Iterator[RecordT]:
        """In the order in which they were added."""
        return self.viewed(self._kind)

    @overload
    def __getitem__(self, index: int) -> RecordT: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RecordT]: ...
    def __getitem__(self, index: int | slice) -> RecordT | Sequence[RecordT]:
        """One, or those of a slice, which are then in memory."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        self._flush()
        start = self._ends[place - 1] if place else 0
        self._file.seek(start)
        return msgpack.decode(self._file.read(self._ends[place] - start), type=self._kind)

    def viewed(self, view: type[ViewT]) -> Iterator[ViewT]:
        """Each record, read as a type that has some of its fields: less to make where little is asked."""
        self._flush()
        decoder = msgpack.Decoder(view)
        held, first = memoryview(b""), 0
        start = 0
        for end in self._ends:
            if end > first + len(held):
                self._file.seek(start)
                held, first = memoryview(self._file.read(max(_BLOCK_BYTES, end - start))), start
            yield decoder.decode(held[start - first : end - first])
            start = end

    def close(self) -> None:
        """Give the room back; nothing can be read any more."""
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            self._file.seek(self._written)
            self._file.write(self._waiting)
            self._file.flush()
            self._written += len(self._waiting)
            self._waiting.clear()
