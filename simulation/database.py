"""A region's database: conditional commits as the PostgreSQL store makes them, a log of them, and copies of others'.

What was committed stays unless the disk is lost. Every row has a writer in its key, and only that region writes it; the
log of its own rows, in the order of commits, is what peers apply.
"""

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from interlock.iso20022.codes import Status
from interlock.ports import IdempotencyTaken, KeysTaken, Outcome, Refenced, Stale, Won
from interlock.regions.rivals import Rival
from interlock.regions.rules import Post
from interlock.transaction import Body, Change, Event, Key, Payment, Transaction
from simulation.plants import Plants
from simulation.promises import Broken, name

_FAILED = (Status.RJCT, Status.CANC)
#: Client, kind and value.
Name = tuple[str, str, str]


class Record(NamedTuple):
    """What one commit has written: applied whole, here and at every peer."""

    writer: int
    rows: tuple[Transaction, ...] = ()
    events: tuple[tuple[UUID, Event], ...] = ()
    bodies: tuple[tuple[UUID, Body], ...] = ()
    payments: tuple[tuple[UUID, Payment], ...] = ()
    keys: tuple[tuple[Name, UUID, int], ...] = ()
    idempotency: tuple[tuple[str, str, UUID, bytes], ...] = ()
    post: Post | None = None
    #: Transactions that are a taker's, as the home says, and the epoch of the home's row that counts no more.
    left: tuple[tuple[UUID, int], ...] = ()
    #: Home and generation of a takeover that is complete: all is decided.
    completed: tuple[int, int] | None = None
    #: The same once the home was seen to know of it: it may go on.
    returned: tuple[int, int] | None = None


class Subscription:
    """What a region takes in from one peer."""

    __slots__ = ("applied", "enabled", "incarnation", "ready", "running")

    def __init__(self) -> None:
        self.enabled = True
        #: How much of the peer's log is here, on disk.
        self.applied = 0
        #: Of the peer's database that `applied` counts in.
        self.incarnation = 1
        #: All tables were copied.
        self.ready = True
        #: The apply worker is at something.
        self.running = False


class Slot:
    """What a region knows of one peer's taking in."""

    __slots__ = ("flushed", "heard", "incarnation", "ready")

    def __init__(self, incarnation: int = 1, flushed: int = 0, *, ready: bool = True) -> None:
        self.incarnation = incarnation
        self.flushed = flushed
        self.heard = 0.0
        self.ready = ready


class Database:
    """Everything that one region has on its disk."""

    def __init__(self, region: int, peers: tuple[int, ...], plants: Plants, incarnation: int = 1) -> None:
        self.region = region
        self.incarnation = incarnation
        self.post = Post()
        self.log: list[Record] = []
        self.rows: dict[UUID, dict[int, Transaction]] = {}
        #: By epoch too: what a home wrote when it was taken over already may have the numbers of what it writes when it
        #: has taken the transaction back.
        self.events: dict[UUID, dict[tuple[int, int, int], Event]] = {}
        self.bodies: dict[UUID, dict[bytes, Body]] = {}
        self.payments: dict[tuple[UUID, int, int], Payment] = {}
        self.keys: dict[Name, dict[int, tuple[UUID, int]]] = {}
        self.idempotency: dict[tuple[str, str], tuple[UUID, bytes]] = {}
        #: By transaction and home: its rows up to this epoch are a taker's, whether or not the taker's row is here.
        self.left: dict[tuple[UUID, int], int] = {}
        #: By home, the generation of the last takeover of ours.
        self.begun: dict[int, int] = {}
        #: Takeovers that are complete, and those of them whose home is back: home, generation, and who took it over.
        self.completed: set[tuple[int, int, int]] = set()
        self.returned: set[tuple[int, int, int]] = set()
        self.subscriptions = {peer: Subscription() for peer in peers}
        self.slots = {peer: Slot() for peer in peers}
        self._plants = plants
        self._open: set[UUID] = set()

    # -- reading --

    @property
    def position(self) -> int:
        """The end of the log."""
        return len(self.log)

    def get(self, id_: UUID) -> Transaction | None:
        """The row of the highest epoch."""
        rows = self.rows.get(id_)
        if not rows:
            return None
        if len(rows) == 1:
            return next(iter(rows.values()))
        return max(rows.values(), key=lambda row: (row.epoch, row.version))

    def open(self) -> list[Transaction]:
        """Transactions that have no end, oldest first; whoever's they are."""
        found: list[Transaction] = []
        for id_ in sorted(self._open):
            row = self.get(id_)
            assert row is not None  # what is open has a row
            if row.standing.is_final:
                self._open.discard(id_)
            else:
                found.append(row)
        return found

    def is_left(self, row: Transaction) -> bool:
        """Whether the row's writer has said that the transaction is another's."""
        return row.epoch <= self.left.get((row.id, row.region), -1)

    def payments_of(self, row: Transaction) -> tuple[Payment, ...]:
        """As the transaction's present writer has them."""
        found = (self.payments.get((row.id, ordinal + 1, row.region)) for ordinal in range(row.payments))
        return tuple(payment for payment in found if payment is not None)

    def history(self, id_: UUID) -> list[Event]:
        """Events in the order of the fold: what an older epoch has beyond a newer one's beginning is superseded."""
        events = sorted(self.events.get(id_, {}).values(), key=lambda event: (event.epoch, event.seq))
        valid: list[Event] = []
        for event in events:
            while valid and valid[-1].seq >= event.seq:
                valid.pop()
            valid.append(event)
        return valid

    def generation_of(self, home: int) -> int:
        """Of the last takeover of ours; 0: there was none."""
        return self.begun.get(home, 0)

    def has_completed(self, home: int, generation: int) -> bool:
        """Whether all is decided of a takeover of ours."""
        return (home, generation, self.region) in self.completed

    def taken(self) -> frozenset[int]:
        """Regions that this one has taken over and that have not come back."""
        return frozenset(home for home, _, taker in self.completed - self.returned if taker == self.region)

    def rivals(self, row: Transaction) -> list[Rival]:
        """Other regions' transactions that hold what its region has reserved for it and have not come to nothing."""
        holders = {
            holder
            for held in self.keys.values()
            if (own := held.get(row.region)) is not None
            and own[0] == row.id
            and own[1]
            and not self._let_go(row, own[1])
            for region, (holder, ordinal) in held.items()
            if region != row.region and holder != row.id and not self._failed(holder, ordinal)
        }
        return [self._rival(holder) for holder in sorted(holders)]

    def _rival(self, holder: UUID) -> Rival:
        present = self.get(holder)
        pays = present is not None and present.standing.end is Status.ACSC
        is_fact = present is not None and present.standing.is_final
        return Rival(holder, settled=pays and is_fact, settles=pays and not is_fact)

    # -- writing --

    def commit(self, change: Change) -> Outcome:
        """One change, durable on return; conditional like the store's."""
        after = change.after
        if after.epoch != self.post.epoch and not self._plants.skip_epoch:
            return Refenced()
        for part in (change,) if change.original is None else (change, change.original):
            own = self.rows.get(part.after.id, {}).get(self.region)
            if (0 if own is None else own.version) != part.read:
                return Stale()
        claim = change.idempotency
        if claim is not None:
            used = self.idempotency.get((after.client, claim.key))
            if used is not None:
                return IdempotencyTaken(*used)
        taken = tuple(self._taken(change))
        if taken:
            return KeysTaken(taken)
        self._append(self._record(change))
        return Won()

    def change_post(
        self,
        read: Post,
        post: Post,
        *,
        begun: tuple[int, int] | None = None,
        completed: tuple[int, int] | None = None,
        returned: tuple[int, int] | None = None,
    ) -> bool:
        """Compare and set, on the epoch; waits for all who commit, which in this world nobody is amidst."""
        if self.post.epoch != read.epoch:
            return False
        if begun is not None:
            self.begun[begun[0]] = max(begun[1], self.generation_of(begun[0]))
        self._append(Record(self.region, post=post, completed=completed, returned=returned))
        return True

    def leave(self) -> None:
        """Let go of own transactions that a taker has; to be known to whoever takes us over next."""
        left: list[tuple[UUID, int]] = []
        for id_, rows in self.rows.items():
            present, own = self.get(id_), rows.get(self.region)
            if present is not None and own is not None and present.region != self.region:
                left.append((id_, own.epoch))
        self._append(Record(self.region, left=tuple(left)))

    def _taken(self, change: Change) -> Iterator[tuple[Key, UUID]]:
        for key in change.reserves:
            for holder, ordinal in self.keys.get((change.after.client, key.kind, key.value), {}).values():
                if holder != change.after.id and not (ordinal and self._failed(holder, ordinal)):
                    yield key, holder
                    break

    def _failed(self, holder: UUID, ordinal: int) -> bool:
        """Whether a payment came to nothing; any region's row of that says so."""
        regions = self.rows.get(holder, {})
        payments = (self.payments.get((holder, ordinal, region)) for region in regions)
        return any(payment is not None and payment.status in _FAILED for payment in payments)

    def _let_go(self, row: Transaction, ordinal: int) -> bool:
        """Whether one of its own payments came to nothing by itself: others may have that by now."""
        payment = self.payments.get((row.id, ordinal, row.region))
        return payment is not None and payment.status in _FAILED

    def _record(self, change: Change) -> Record:
        parts = (change,) if change.original is None else (change, change.original)
        payments = [(part.after.id, payment) for part in parts for payment in self._ended(part)]
        claim, after = change.idempotency, change.after
        events = [(part.after.id, event) for part in parts for event in (*self._told(part), *part.events)]
        bodies = [(part.after.id, body) for part in parts for body in (*self._held(part), *part.bodies)]
        return Record(
            self.region,
            rows=tuple(part.after for part in parts),
            events=tuple(events),
            bodies=tuple(bodies),
            payments=tuple(payments),
            keys=tuple(((after.client, key.kind, key.value), after.id, key.payment) for key in change.reserves),
            idempotency=() if claim is None else ((after.client, claim.key, after.id, claim.digest),),
        )

    def _becomes_ours(self, change: Change) -> bool:
        before = self.get(change.after.id)
        return before is not None and before.region != self.region and not self._plants.taken_without_message

    def _told(self, change: Change) -> list[Event]:
        """What happened before it was ours: who has our row must have all of it, wherever it came from."""
        return self.history(change.after.id) if self._becomes_ours(change) else []

    def _held(self, change: Change) -> list[Body]:
        held = self.bodies.get(change.after.id, {}) if self._becomes_ours(change) else {}
        return list(held.values())

    def _ended(self, change: Change) -> list[Payment]:
        after = change.after
        payments = {payment.ordinal: payment for payment in self.payments_of(after)}
        payments.update((payment.ordinal, payment) for payment in change.payments)
        ends = {end.ordinal: (end.status, end.reason) for end in change.ended}
        written = []
        for ordinal, payment in sorted(payments.items()):
            end = ends.get(ordinal, change.ends_all)
            if end is not None and not payment.status.is_final:
                written.append(_ended(payment, *end))
            elif payment in change.payments:
                written.append(payment)
        return written

    def _append(self, record: Record) -> None:
        self.log.append(record)
        self.apply(record)

    # -- what peers do --

    def apply(self, record: Record) -> None:
        """Write a record; one that is here already changes nothing."""
        self._write_transactions(record, record.writer)
        self._write_others(record, record.writer)

    def _write_transactions(self, record: Record, writer: int) -> None:
        for row in record.rows:
            assert row.region == writer  # only its writer writes a row
            rows = self.rows.setdefault(row.id, {})
            present = rows.get(writer)
            if present is None or (present.epoch, present.version) <= (row.epoch, row.version):
                rows[writer] = row
            self._open.add(row.id)
        for id_, event in record.events:
            events = self.events.setdefault(id_, {})
            if events.setdefault((event.epoch, event.seq, writer), event) != event:
                raise Broken(f"append-only: event {event.seq} of {name(id_)} by region {writer} was written twice")

    def _write_others(self, record: Record, writer: int) -> None:
        for id_, body in record.bodies:
            self.bodies.setdefault(id_, {})[body.digest] = body
        for id_, payment in record.payments:
            present_payment = self.payments.get((id_, payment.ordinal, writer))
            if present_payment is None or not present_payment.status.is_final:
                self.payments[id_, payment.ordinal, writer] = payment
        for key_name, id_, ordinal in record.keys:
            self.keys.setdefault(key_name, {})[writer] = (id_, ordinal)
        for client, key, id_, digest in record.idempotency:
            self.idempotency.setdefault((client, key), (id_, digest))
        for id_, epoch in record.left:
            self.left[id_, writer] = epoch
        if record.completed is not None:
            self.completed.add((*record.completed, writer))
        if record.returned is not None:
            self.returned.add((*record.returned, writer))
        if record.post is not None and writer == self.region:
            self.post = record.post

    def copy(self, other: "Database", writer: int) -> None:
        """Take in all that another database has of one writer's rows, as an initial copy does."""
        rows = tuple(row for rows in other.rows.values() for row in rows.values() if row.region == writer)
        events = tuple(
            (id_, event) for id_, held in other.events.items() for (*_, by), event in held.items() if by == writer
        )
        bodies = tuple((id_, body) for id_, held in other.bodies.items() for body in held.values())
        payments = tuple((id_, payment) for (id_, _, by), payment in other.payments.items() if by == writer)
        keys = tuple((name, *held[writer]) for name, held in other.keys.items() if writer in held)
        claims = tuple((client, key, *used) for (client, key), used in other.idempotency.items())
        self.apply(Record(writer, rows, events, bodies, payments, keys, claims))
        self.left.update({key: epoch for key, epoch in other.left.items() if key[1] == writer})
        self.completed |= {done for done in other.completed if done[2] == writer}
        self.returned |= {done for done in other.returned if done[2] == writer}


def _ended(payment: Payment, status: Status, reason: str | None) -> Payment:
    return Payment(
        ordinal=payment.ordinal,
        instruction_id=payment.instruction_id,
        end_to_end_id=payment.end_to_end_id,
        transaction_id=payment.transaction_id,
        uetr=payment.uetr,
        amount=payment.amount,
        currency=payment.currency,
        status=status,
        reason=reason,
    )
