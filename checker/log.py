"""What a client, and a receiver, wrote down of their own calls: JSON lines, each on disk before the next call is made.

A client writes `sent` before a call, and what came of it after. The wall clock is only for people and for times between
two lines; nothing is ordered by it across files. A line that was torn by the writer's own death was never acted upon,
so the reader leaves it out; any other line that cannot be read is an error, for evidence must be whole.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack
from uuid import UUID

T = TypeVar("T")


class What(StrEnum):
    """What a line of a client's log says."""

    #: About to be sent; nothing is known yet.
    SENT = "sent"
    #: 2xx to a message: from here on it must never be lost.
    ACKNOWLEDGED = "acknowledged"
    #: An answer, or a status, was seen.
    ANSWERED = "answered"
    #: 2xx to a decision.
    DECIDED = "decided"
    #: 2xx to a redrive: a new transaction for an old one.
    REDRIVEN = "redriven"
    #: Told plainly that nothing was taken.
    REFUSED = "refused"
    #: No answer, or one that says that the outcome is not known.
    UNKNOWN = "unknown"


class Particulars(TypedDict, total=False):
    """What a client knows about a call besides the region that it called."""

    #: MsgId of the message.
    message: str | None
    uetr: str | None
    #: EndToEndId of the (first) payment.
    end_to_end: str | None
    transaction: UUID | str | None
    #: Asked for: `available`, `consistent`, ...
    consistency: str | None
    #: Told by the answer.
    replicated: bool | None
    fencing: str | None
    #: ISO status that was seen.
    status: str | None
    #: The bytes themselves; only their SHA-256 is written. Of `sent` the message, of `answered` the answer.
    content: bytes | None
    #: accept, reject, cancel.
    decision: str | None
    attempt: int | None
    redrive_of: UUID | str | None
    #: HTTP status, error: for people.
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A line of a client's log."""

    #: File and line, as evidence is quoted.
    place: str
    #: Seconds since 1970 by the client's wall clock.
    at: float
    client: str
    what: What
    #: Name of the region called.
    region: str
    message: str | None = None
    uetr: str | None = None
    end_to_end: str | None = None
    transaction: UUID | None = None
    consistency: str | None = None
    replicated: bool | None = None
    fencing: str | None = None
    status: str | None = None
    #: SHA-256, in hex.
    digest: str | None = None
    decision: str | None = None
    attempt: int | None = None
    redrive_of: UUID | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A line of a receiver's log: what somebody was told who did not ask."""

    place: str
    at: float
    receiver: str
    #: `told`: of an end. `handed`: of a payment to be carried out.
    what: str
    transaction: UUID
    uetr: str | None = None
    status: str | None = None
    #: SHA-256, in hex, of what was received.
    digest: str | None = None


class Lines:
    """A file of JSON lines; each is on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        """Goes on where an earlier process has stopped; a line that one has torn is ended first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        # The name of a new file must outlive a power cut as well as its lines.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.ftruncate(self._file, _last_newline(path) + 1)

    def write(self, told: Mapping[str, object]) -> None:
        """One line, without what is not known."""
        known = {name: value for name, value in told.items() if value is not None}
        line = json.dumps(known, default=str, separators=(",", ":")).encode() + b"\n"
        while line:
            line = line[os.write(self._file, line) :]
        os.fsync(self._file)

    def close(self) -> None:
        """Everything is on disk already."""
        os.close(self._file)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        self.close()


def _last_newline(path: Path) -> int:
    return path.read_bytes().rfind(b"\n")


class ClientLog(Lines):
    """One client's log; one file a client, and one process at a time that writes it."""

    def __init__(self, path: Path, client: str | None = None, *, wall: Callable[[], float] = time.time) -> None:
        """client: its id, as the databases know it; by default the file's name."""
        super().__init__(path)
        self._client = client or path.stem
        self._wall = wall

    def sent(self, region: str, **told: Unpack[Particulars]) -> None:
        """About to call. `content` is the message."""
        self._note(What.SENT, region, told)

    def acknowledged(self, region: str, **told: Unpack[Particulars]) -> None:
        """The message was taken; `message` ties it to the line that sent it."""
        self._note(What.ACKNOWLEDGED, region, told)

    def answered(self, region: str, **told: Unpack[Particulars]) -> None:
        """A status was seen, or an answer: then `content` is its bytes."""
        self._note(What.ANSWERED, region, told)

    def decided(self, region: str, **told: Unpack[Particulars]) -> None:
        """The decision was taken."""
        self._note(What.DECIDED, region, told)

    def redriven(self, region: str, **told: Unpack[Particulars]) -> None:
        """`transaction` is the new attempt, `redrive_of` the old one."""
        self._note(What.REDRIVEN, region, told)

    def refused(self, region: str, **told: Unpack[Particulars]) -> None:
        """Nothing was taken."""
        self._note(What.REFUSED, region, told)

    def unknown(self, region: str, **told: Unpack[Particulars]) -> None:
        """Nobody can tell; what comes of it is looked up later."""
        self._note(What.UNKNOWN, region, told)

    def _note(self, what: What, region: str, told: Particulars) -> None:
        content = told.pop("content", None)
        digest = None if content is None else sha256(content).hexdigest()
        self.write(
            {"at": self._wall(), "client": self._client, "what": what, "region": region, **told, "digest": digest}
        )


class ReceiverLog(Lines):
    """What a downstream, or a client that is notified, was told."""

    def __init__(self, path: Path, receiver: str | None = None, *, wall: Callable[[], float] = time.time) -> None:
        """receiver: its name; by default the file's."""
        super().__init__(path)
        self._receiver = receiver or path.stem
        self._wall = wall

    def told(self, transaction: UUID | str, status: str, content: bytes | None = None) -> None:
        """Notified of an end; content: the answer, where it came along."""
        self._note("told", transaction, status=status, content=content)

    def handed(self, transaction: UUID | str, uetr: str | None = None) -> None:
        """Asked to carry a payment out."""
        self._note("handed", transaction, uetr=uetr)

    def _note(
        self,
        what: str,
        transaction: UUID | str,
        *,
        status: str | None = None,
        uetr: str | None = None,
        content: bytes | None = None,
    ) -> None:
        digest = None if content is None else sha256(content).hexdigest()
        known = {"transaction": transaction, "status": status, "uetr": uetr, "digest": digest}
        self.write({"at": self._wall(), "receiver": self._receiver, "what": what, **known})


class Unreadable(Exception):
    """Evidence that cannot be read: nothing is proved, one way or the other."""


def calls(folder: Path) -> tuple[Call, ...]:
    """All clients' lines, file by file in the order they were written."""
    return tuple(call for path in sorted(folder.glob("*.jsonl")) for call in load(path, _call))


def receipts(folder: Path) -> tuple[Receipt, ...]:
    """All receivers' lines."""
    return tuple(receipt for path in sorted(folder.glob("*.jsonl")) for receipt in load(path, _receipt))


def load(path: Path, make: Callable[[str, dict[str, Any]], T]) -> Iterator[T]:
    """What `make` makes of each line's place and fields. Raises Unreadable, and names the line."""
    # What follows the last newline was torn by the writer's death.
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        place = f"{path.name}:{number}"
        try:
            yield make(place, json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise Unreadable(f"{place} is no line of such a log: {exc!r}") from exc


def _call(place: str, line: dict[str, Any]) -> Call:
    return Call(place=place, **{**line, "what": What(line["what"]), **_ids(line)})


def _receipt(place: str, line: dict[str, Any]) -> Receipt:
    return Receipt(place=place, **{**line, **_ids(line)})


def _ids(line: Mapping[str, Any]) -> dict[str, UUID]:
    return {name: UUID(line[name]) for name in ("transaction", "redrive_of") if line.get(name) is not None}
