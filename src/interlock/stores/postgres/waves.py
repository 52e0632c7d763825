"""Waves of a batch: writes that have nothing in common, so that one statement serves all of them, and how they fared.

Two that share a transaction or a key would not see each other in one statement, so the later one begins another wave.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from uuid import UUID

from psycopg import RawCursor
from psycopg.rows import TupleRow

from interlock.ports import DeliveryUpdate, IdempotencyTaken, KeysTaken, Outcome, Write
from interlock.stores import rows as mapping
from interlock.transaction import Change, Key, KeyKind

Cursor = RawCursor[TupleRow]
#: A key as the table has it: client, kind, value.
Name = tuple[str, str, str]


class Wave:
    """Writes that have nothing in common."""

    def __init__(self) -> None:
        #: With their numbers in the batch.
        self.changes: list[tuple[int, Change]] = []
        self.others: list[Write] = []
        #: Ids of what was put down before, to count from now on.
        self.staged: list[bytes] = []
        #: Ids of which there must be no row.
        self.born: set[bytes] = set()
        #: Versions that were read, by id.
        self.read: dict[bytes, int] = {}
        #: Client, key, digest, id.
        self.idempotency: list[tuple[str, str, bytes, bytes]] = []
        #: Rows of keys to be reserved.
        self.keys: dict[Name, tuple[str, str, str, bytes, int]] = {}
        self._touched: set[object] = set()

    def add(self, number: int, write: Write) -> bool:
        """Take a write along; False where it has something in common with one before it."""
        if not isinstance(write, Change):
            if self._meets(_touched_by_other(write)):
                return False
            self.others.append(write)
            return True
        # One that makes what was put down count is alone: another might take a key of it, which shows only afterwards.
        if self.staged or (write.staged and self.changes):
            return False
        reserved = _reserved(write)
        if self._meets(_touched_by(write, reserved)):
            return False
        self.changes.append((number, write))
        self._note(write, reserved)
        return True

    def _note(self, write: Change, reserved: dict[Name, Key]) -> None:
        """What it reads, makes and wants."""
        if write.staged:
            self.staged.append(write.after.id.bytes)
        for change in (write, write.original):
            if change is not None and change.read:
                self.read[change.after.id.bytes] = change.read
            elif change is not None:
                self.born.add(change.after.id.bytes)
        if write.idempotency is not None:
            claim = write.idempotency
            self.idempotency.append((write.after.client, claim.key, claim.digest, write.after.id.bytes))
        for name, key in reserved.items():
            self.keys[name] = (*name, write.after.id.bytes, key.payment)

    def _meets(self, touched: set[object]) -> bool:
        if not self._touched.isdisjoint(touched):
            return True
        self._touched |= touched
        return False


def _reserved(change: Change) -> dict[Name, Key]:
    """What a change reserves, each name once."""
    client = change.after.client
    found: dict[Name, Key] = {}
    for key in change.reserves:
        found.setdefault((client, key.kind, key.value), key)
    return found


def _touched_by(change: Change, reserved: dict[Name, Key]) -> set[object]:
    touched: set[object] = {change.after.id.bytes, *reserved}
    if change.original is not None:
        touched.add(change.original.after.id.bytes)
    if change.idempotency is not None:
        touched.add((change.after.client, change.idempotency.key))
    return touched


def _touched_by_other(write: Write) -> set[object]:
    # A delivery may be told in the wave that makes it, for it is written last; two of one would meet.
    return {(write.transaction, write.channel)} if isinstance(write, DeliveryUpdate) else set()


def waves_of(writes: Sequence[Write]) -> Iterator[Wave]:
    """The waves of a batch, one after the other."""
    wave = Wave()
    for number, write in enumerate(writes):
        if not wave.add(number, write):
            yield wave
            wave = Wave()
            wave.add(number, write)
    if writes:
        yield wave


class Holder:
    """Who holds a key that a wave wants."""

    __slots__ = ("free", "payment", "tx", "weak")

    def __init__(self, tx: bytes, payment: int, *, free: bool, weak: bool = False) -> None:
        """free: its payment came to nothing. weak: it does not count yet."""
        self.tx = tx
        self.payment = payment
        self.free = free
        self.weak = weak


class Abroad:
    """What other regions have of the keys that a wave wants."""

    def __init__(self) -> None:
        self.holders: dict[Name, Holder] = {}
        self.used: dict[tuple[str, str], IdempotencyTaken] = {}

    def __bool__(self) -> bool:
        """Whether they have any."""
        return bool(self.holders or self.used)


class Tried:
    """The results of a wave's first trip."""

    def __init__(self) -> None:
        self.versions: Cursor | None = None
        self.idempotency: Cursor | None = None
        self.keys: Cursor | None = None
        self.used_abroad: Cursor | None = None
        self.held_abroad: Cursor | None = None
        self.stagings: Cursor | None = None
        self.losses: Cursor | None = None

    def unstaged(self, change: Change) -> Outcome | None:
        """What keeps a message of many payments from counting: it is not there, or others have taken keys of it."""
        if not change.staged:
            return None
        id_ = change.after.id.bytes
        if id_ not in self.ready:
            return mapping.STALE
        # Whose they are now its stager looks up, for that may come to nothing.
        taken = [
            (Key(kind=KeyKind(kind), value=value, payment=payment), change.after.id)
            for tx, kind, value, payment in self.taken
            if tx == id_
        ]
        return KeysTaken(tuple(taken)) if taken else None

    @cached_property
    def ready(self) -> set[bytes]:
        """What was put down and is ours to make count."""
        return {tx for (tx,) in self.stagings.fetchall()} if self.stagings else set()

    @cached_property
    def taken(self) -> list[TupleRow]:
        """What others have taken of it."""
        return self.losses.fetchall() if self.losses else []

    def abroad(self, wave: Wave) -> Abroad:
        """What other regions have of the keys that the wave wants."""
        found = Abroad()
        if self.held_abroad is not None:
            for client, kind, value, tx, payment in self.held_abroad.fetchall():
                if tx != wave.keys[client, kind, value][3]:
                    found.holders[client, kind, value] = Holder(tx, payment, free=False)
        if self.used_abroad is not None:
            for client, key, tx, digest in self.used_abroad.fetchall():
                found.used[client, key] = IdempotencyTaken(UUID(bytes=tx), digest)
        return found

    def all_won(self, wave: Wave) -> bool:
        """Whether nobody lost: as good as always."""
        return (
            (self.idempotency is None or self.idempotency.rowcount == len(wave.idempotency))
            and (self.keys is None or self.keys.rowcount == len(wave.keys))
            and self.present == wave.read
            and len(self.ready) == len(wave.staged)
            and not self.taken
        )

    @cached_property
    def present(self) -> dict[bytes, int]:
        """The versions that the transactions have, by id."""
        return {} if self.versions is None else dict(self.versions.fetchall())
