"""What the process that serves and the one that reads a file tell each other."""

from datetime import date, datetime
from decimal import Decimal
from typing import BinaryIO, TypeVar

from msgspec import Struct, msgpack

from interlock.iso20022.findings import Finding
from interlock.stages.facts import Inspection
from interlock.transaction import Staged

#: Ordinal, ISO reason and note of a payment that is refused.
RefusedPayment = tuple[int, str, str | None]
_Frame = TypeVar("_Frame")
_LENGTH_BYTES = 4


class Job(Struct, frozen=True, kw_only=True, tag=True):
    """What to read, and by what it is judged."""

    path: str
    today: date
    bytes_max: int
    payments_max: int
    depth_max: int
    #: Folders: of compiled schemas, of the operator's own, of the operator's profiles.
    cache: str | None
    schemas: str | None
    profiles: str | None
    #: Patterns of definitions and the profile that a route has for them, in order; and that of the default route.
    routes: tuple[tuple[tuple[str, ...], str | None], ...]
    default: str | None


class Write(Struct, frozen=True, kw_only=True, tag=True):
    """Write the answer."""

    answer_id: str
    now: datetime
    #: Payments that turned out to be duplicates, and what they are told.
    duplicates: tuple[int, ...]
    reason: str
    note: str


class Some(Struct, frozen=True, tag=True):
    """Payments, as read so far."""

    staged: Staged
    #: ISO reason of one that is a duplicate, where the profile has its own.
    duplicate_reason: str | None


class Again(Struct, frozen=True, tag=True):
    """Forget the payments: they are read again, by an older edition of the profile that is in force as well."""


class Late(Struct, frozen=True, tag=True):
    """Payments that are refused because of others, or of the whole."""

    refused: tuple[RefusedPayment, ...]


class Read(Struct, frozen=True, kw_only=True, tag=True):
    """What the file holds, once it was read to its end."""

    #: Without content and payments.
    inspection: Inspection
    payments: int
    #: Of these, those that are refused for themselves.
    refused: int
    #: The largest amount of each currency; no amount is the largest.
    largest: tuple[tuple[Decimal | None, str | None], ...]
    #: Breaks a rule on the whole message.
    whole: Finding | None
    #: Errors, as they are kept with an event, and how many more there are.
    errors: tuple[Finding, ...]
    errors_left_out: int


class Piece(Struct, frozen=True, tag=True):
    """Some of the answer."""

    content: bytes


class Written(Struct, frozen=True, kw_only=True, tag=True):
    """The answer is whole."""

    definition: str
    #: SHA-256 of all of it.
    digest: bytes
    pieces: int
    #: How many payments are refused; and where all are, the reason and note of the first.
    refused: int
    all_refused: tuple[str, str | None] | None


class Failed(Struct, frozen=True, tag=True):
    """Our own mistake."""

    text: str


FromChild = Some | Again | Late | Read | Piece | Written | Failed


def send(stream: BinaryIO, frame: Struct) -> None:
    """Write a frame."""
    data = msgpack.encode(frame)
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "big"))
    stream.write(data)
    stream.flush()


def receive(stream: BinaryIO, decoder: "msgpack.Decoder[_Frame]") -> _Frame | None:
    """Read a frame; None where the other side has ended."""
    head = stream.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    data = stream.read(length := int.from_bytes(head, "big"))
    return decoder.decode(data) if len(data) == length else None
