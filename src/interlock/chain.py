"""Events as canonical bytes, linked by hashes: history that shows if it was touched. Pure.

hash = SHA-256(previous hash || content); the first event of a journal follows `GENESIS`. What is stored is the content
itself, so verification needs no re-encoding and outlives changes of this file.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import msgspec

from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind, Standing, State
from interlock.transaction import Event

GENESIS = bytes(32)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_encode = msgspec.json.Encoder().encode


def micros(at: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """The inverse of `micros`."""
    return _EPOCH + timedelta(microseconds=at)


class _Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as it is written; a field is never removed or given another meaning."""

    tx: str
    seq: int
    kind: str
    at: int
    actor: str
    state: str
    status: str | None = None
    end: str | None = None
    because: str | None = None
    reason: str | None = None
    code: str | None = None
    note: str | None = None
    detail: Mapping[str, object] = {}
    #: SHA-256 of the bodies that came with it, in hex: the chain covers the messages too.
    bodies: tuple[str, ...] = ()
    epoch: int = 1


_decode = msgspec.json.Decoder(_Content).decode


def encode(transaction: UUID, event: Event, bodies: Iterable[bytes] = ()) -> bytes:
    """Canonical bytes of an event: JSON, fields in fixed order, defaults left out."""
    standing = event.standing
    return _encode(
        _Content(
            transaction.hex,
            event.seq,
            event.kind,
            micros(event.at),
            event.actor,
            standing.state,
            standing.status,
            standing.end,
            event.because,
            event.reason,
            event.code,
            event.note,
            event.detail,
            tuple(digest.hex() for digest in bodies),
            event.epoch,
        )
    )


def decode(content: bytes) -> tuple[UUID, Event]:
    """The event that `encode` wrote, and whose it is."""
    raw = _decode(content)
    standing = Standing(
        State(raw.state),
        None if raw.status is None else Status(raw.status),
        None if raw.end is None else Status(raw.end),
    )
    event = Event(
        seq=raw.seq,
        kind=EventKind(raw.kind),
        at=moment(raw.at),
        actor=raw.actor,
        standing=standing,
        because=None if raw.because is None else EventKind(raw.because),
        reason=raw.reason,
        code=raw.code,
        note=raw.note,
        detail=raw.detail,
        epoch=raw.epoch,
    )
    return UUID(hex=raw.tx), event


def link(previous: bytes, content: bytes) -> bytes:
    """The hash of an event that follows `previous`."""
    return sha256(previous + content).digest()


@dataclass(frozen=True, slots=True)
class Link:
    """An event as it stands in the chain."""

    seq: int
    content: bytes
    previous: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of events that were archived: what is left of them is how they were linked."""

    first: int
    last: int
    #: Hash of the event before the first.
    previous: bytes
    #: Hash of the last.
    hash: bytes
    #: Name of the archive that has them.
    archive: str


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: what an auditor notes down elsewhere."""

    #: Region, incarnation and number of the journal: `0.1.3`.
    journal: str
    seq: int
    hash: bytes


def faults(links: Iterable[Link | Gap], head: Head) -> Iterator[str]:
    """Walk a chain from its first event, in bounded memory; a sentence for each place where it does not hold."""
    seq, previous, name = 0, GENESIS, head.journal
    for item in links:
        first = item.first if isinstance(item, Gap) else item.seq
        if first < 1:
            yield f"journal {name}: event {first} has no place in a chain"
            continue
        if first <= seq:
            yield f"journal {name}: event {first} is there twice"
            continue
        if first != seq + 1:
            yield f"journal {name}: events {seq + 1} to {first - 1} are missing"
            previous = item.previous
        if item.previous != previous:
            yield f"journal {name}: event {first} does not follow event {seq}: one of them was moved or replaced"
        if isinstance(item, Gap):
            seq = item.last
        else:
            if link(item.previous, item.content) != item.hash:
                yield f"journal {name}: event {item.seq} was altered"
            seq = item.seq
        previous = item.hash
    if (seq, previous) != (head.seq, head.hash):
        yield f"journal {name} ends at event {seq}, its head says {head.seq}: the end is missing or was replaced"
