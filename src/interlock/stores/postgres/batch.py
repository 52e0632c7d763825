"""One batch on its way into PostgreSQL: a transaction of two round trips, whatever its size.

The first trip takes the journal's lock and tries what can lose: versions, new ids, idempotency keys, duplicate keys. By
then it is known what each write came to, and nobody else can change it any more. The second writes the winners, seals
the journal and commits. Each statement takes all its rows as arrays.

The statements of a trip serve one *wave* of writes (`waves`); each further one takes two trips of its own within the
same database transaction.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from interlock.chain import encode, link, micros
from interlock.errors import ConflictError, LeaseLost
from interlock.ports import (
    Client,
    Control,
    DeliveryUpdate,
    IdempotencyTaken,
    KeysTaken,
    Outcome,
    SigningKey,
    Write,
)
from interlock.regions.rules import Post
from interlock.stores import rows as mapping
from interlock.stores.postgres.arrays import (
    BODIES,
    BORN,
    DELIVERIES,
    EVENTS,
    GROWN,
    KEYS,
    PAYMENTS,
    Bytes,
    Column,
    Ids,
    Integers,
    Texts,
    columns,
)
from interlock.stores.postgres.connections import Connection
from interlock.stores.postgres.waves import Cursor, Holder, Name, Tried, Wave, waves_of
from interlock.stores.statements import queries
from interlock.transaction import BodyKind, Change, Payment, PaymentEnd


class Raced(ConflictError):
    """Somebody else got between two of our statements; the batch is to be tried again."""


class Seat:
    """Who writes: the process's journal and lease."""

    __slots__ = ("journal", "lease", "region", "regional", "token", "writer")

    def __init__(
        self, *, region: int, writer: int, journal: int, token: int, lease: float, regional: bool = False
    ) -> None:
        """writer: number of region and incarnation. lease: seconds. regional: other regions are connected."""
        self.regional = regional
        self.region = region
        self.writer = writer
        self.journal = journal
        self.token = token
        self.lease = lease


class Batch:
    """Writes on their way into the database; used once."""

    def __init__(self, connection: Connection, seat: Seat) -> None:
        self._connection = connection
        self._seat = seat
        self._sql = queries("postgres")
        self._chain_seq = 0
        self._chain_hash = b""
        self._latest: int | None = None
        #: Under which this batch is committed, where regions are connected; known once it is prepared.
        self.post: Post | None = None
        #: Where in the server's log the commit ends; 0 where nobody asks.
        self.position = 0

    # -- the whole --

    def prepare(self, writes: Sequence[Write]) -> list[Outcome]:
        """All but the last trip: on return every outcome is known, and nothing is committed.

        Raises LeaseLost, Raced, psycopg's errors; the caller rolls back.
        """
        outcomes: dict[int, Outcome] = {}
        waves = list(waves_of(writes))
        first = waves[0] if waves else Wave()
        with self._connection.pipeline() as pipeline:
            self._run("BEGIN")
            seat = self._seat
            if seat.regional:
                self._do("under_epoch")
            fence = self._do("fence", seat.writer, seat.journal, seat.token)
            tried = self._try(first)
            pipeline.sync()
            rows = fence.fetchall()
            if not rows:
                raise LeaseLost("this process's lease has run out, or another has its journal")
            self._chain_seq, self._chain_hash, epoch, guards, fenced = rows[0]
            if seat.regional:
                self.post = mapping.post(epoch, guards, fenced)
        outcomes.update(self._judge(first, tried))
        for before, wave in pairwise(waves):
            with self._connection.pipeline() as pipeline:
                self._write(before, outcomes)
                tried = self._try(wave)
                pipeline.sync()
            outcomes.update(self._judge(wave, tried))
        self._last = waves[-1] if waves else first
        self._outcomes = outcomes
        return [outcomes.get(number, mapping.WON) for number in range(len(writes))]

    def finish(self, batch: bytes, outcomes: Sequence[Outcome]) -> None:
        """The last trip, with the commit."""
        seat = self._seat
        with self._connection.pipeline() as pipeline:
            self._write(self._last, self._outcomes)
            self._do(
                "seal", seat.writer, seat.journal, seat.token, batch, mapping.pack_outcomes(outcomes),
                self._chain_seq, self._chain_hash, self._latest, seat.lease,
            )  # fmt: skip
            self._run("COMMIT")
            # After the commit, for before it the end of the log is not yet behind it.
            position = self._do("position") if seat.regional else None
            pipeline.sync()
            if position is not None:
                self.position = position.fetchall()[0][0]

    def _do(self, name: str, *bindings: Any) -> Cursor:
        return self._run(self._sql[name], bindings)

    def _run(self, sql: str, bindings: Sequence[Any] = ()) -> Cursor:
        cursor: Cursor = self._connection.cursor(binary=True)  # type: ignore[assignment]
        cursor.execute(sql, bindings)
        return cursor

    # -- the first trip: what can lose --

    def _try(self, wave: Wave) -> Tried:
        tried = Tried()
        if wave.staged:
            # Before anything else is asked: from here on nobody takes its keys any more.
            tried.stagings = self._do("own_staging", Ids(wave.staged), self._seat.token)
            tried.losses = self._do("losses", Ids(wave.staged))
        touched = [*wave.read, *wave.born]
        if touched:
            tried.versions = self._do("versions", Ids(sorted(touched)), self._seat.region)
        if wave.idempotency:
            clients, keys, digests, ids = zip(*wave.idempotency, strict=True)
            claims = Texts(clients), Texts(keys), Bytes(digests), self._seat.region, Ids(ids)
            tried.idempotency = self._do("insert_idempotency", *claims)
        if wave.keys:
            tried.keys = self._do("reserve", *columns(KEYS, wave.keys.values()), self._seat.region)
        if self._seat.regional:
            self._try_abroad(wave, tried)
        return tried

    def _try_abroad(self, wave: Wave, tried: Tried) -> None:
        """Which of these keys other regions have, as far as that has come here."""
        if wave.idempotency:
            asked = columns((Texts, Texts), [claim[:2] for claim in wave.idempotency])
            tried.used_abroad = self._do("used_abroad", *asked, self._seat.region)
        if wave.keys:
            names = columns((Texts, Texts, Texts), list(wave.keys))
            tried.held_abroad = self._do("held_abroad", *names, self._seat.region)

    def _judge(self, wave: Wave, tried: Tried) -> dict[int, Outcome]:
        """What the changes of a wave came to, as far as they did not win; what losers did is undone."""
        abroad = tried.abroad(wave)
        if tried.all_won(wave) and not abroad and self._is_of(wave):
            return {}
        claimed = {id_ for (id_,) in tried.idempotency.fetchall()} if tried.idempotency else set()
        used = {**self._used([row for row in wave.idempotency if row[3] not in claimed]), **abroad.used}
        got = set(tried.keys.fetchall()) if tried.keys else set()
        holders = {**self._holders([name for name in wave.keys if name not in got]), **abroad.holders}
        lost: dict[int, Outcome] = {}
        for number, change in wave.changes:
            outcome = tried.unstaged(change) or self._lost(change, tried.present, used, holders)
            if outcome is not None:
                lost[number] = outcome
        self._undo([change for number, change in wave.changes if number in lost], got, claimed, wave, holders)
        return lost

    def _lost(
        self,
        change: Change,
        versions: dict[bytes, int],
        used: dict[tuple[str, str], IdempotencyTaken],
        holders: dict[Name, Holder],
    ) -> Outcome | None:
        after, id_ = change.after, change.after.id.bytes
        if not self._stands(change):
            return mapping.REFENCED
        original = change.original
        if original is not None and versions.get(original.after.id.bytes, 0) != original.read:
            return mapping.STALE
        if versions.get(id_, 0) != change.read:
            return mapping.STALE
        if change.idempotency is not None:
            taken_by = used.get((after.client, change.idempotency.key))
            if taken_by is not None:
                return taken_by
        taken = []
        for key in change.reserves:
            holder = holders.get((after.client, key.kind, key.value))
            if holder is not None and holder.tx != id_ and not (key.payment and (holder.free or holder.weak)):
                taken.append((key, UUID(bytes=holder.tx)))
        return KeysTaken(tuple(taken)) if taken else None

    def _used(self, claims: Sequence[tuple[str, str, bytes, bytes]]) -> dict[tuple[str, str], IdempotencyTaken]:
        """What the idempotency keys that we did not get were used for."""
        if not claims:
            return {}
        asked = columns((Texts, Texts), [claim[:2] for claim in claims])
        rows = self._do("used", *asked, self._seat.region).fetchall()
        if len(rows) != len(claims):
            raise Raced("an idempotency key was given back just now")
        return {(client, key): IdempotencyTaken(UUID(bytes=tx), digest) for client, key, tx, digest in rows}

    def _holders(self, names: Sequence[Name]) -> dict[Name, Holder]:
        """Who holds the keys that we did not get, and whether they may be taken over."""
        if not names:
            return {}
        rows = self._do("holders", *columns((Texts, Texts, Texts), names), self._seat.region).fetchall()
        if len(rows) != len(names):
            raise Raced("a key was given back just now")
        ids = sorted({tx for _, _, _, tx, payment in rows if payment})
        # In this order: what counts since it was looked whether it does may have come to nothing with that.
        weak = {tx for (tx,) in self._do("weak", Ids(ids)).fetchall()} if ids else set()
        failed = set(self._do("failed_payments", Ids(ids)).fetchall()) if ids else set()
        strong = [row[:3] for row in rows if row[4] and row[3] not in weak and row[3:] not in failed]
        if strong:
            held = self._do("holders", *columns((Texts, Texts, Texts), strong), self._seat.region).fetchall()
            if len(held) != len(strong):
                raise Raced("a key of what never counted was given back just now")
        return {
            (client, kind, value): Holder(tx, payment, free=(tx, payment) in failed, weak=tx in weak)
            for client, kind, value, tx, payment in rows
        }

    def _is_of(self, wave: Wave) -> bool:
        """Whether all was decided under the epoch that stands."""
        return self.post is None or all(self._stands(change) for _, change in wave.changes)

    def _stands(self, change: Change) -> bool:
        return self.post is None or (change.after.epoch == self.post.epoch and not self.post.fenced)

    def _undo(
        self,
        losers: Sequence[Change],
        got: set[Name],
        claimed: set[bytes],
        wave: Wave,
        holders: dict[Name, Holder],
    ) -> None:
        """Take back what losers did, and take over for winners the keys that are free."""
        gone = {change.after.id.bytes for change in losers}
        names = [name for name, row in wave.keys.items() if row[3] in gone and name in got]
        if names:
            self._do("unreserve", *columns((Texts, Texts, Texts), names), self._seat.region)
        claims = [(client, key) for client, key, _, id_ in wave.idempotency if id_ in gone & claimed]
        if claims:
            self._do("delete_idempotency", *columns((Texts, Texts), claims), self._seat.region)
        self._take_over(wave, gone, holders)

    def _take_over(self, wave: Wave, gone: set[bytes], holders: dict[Name, Holder]) -> None:
        """Take for winners the keys of payments that came to nothing."""
        weak = {holder.tx for holder in holders.values() if holder.weak}
        wanted = [
            (*name, UUID(bytes=holder.tx), holder.payment, UUID(bytes=wave.keys[name][3]), wave.keys[name][4])
            for name, holder in sorted(holders.items())
            if wave.keys[name][3] not in gone and holder.tx != wave.keys[name][3]
        ]
        with self._connection.pipeline():
            taken = [self._do("take_over", *row, self._seat.region) for row in wanted]
            for _, kind, value, holder, payment, *_ in wanted:
                if holder.bytes in weak:
                    self._do("lose", holder, payment, kind, value)
        if not all(cursor.fetchall() for cursor in taken):
            raise Raced("a key that was free was taken by somebody else")

    # -- the second trip: what has won --

    def _write(self, wave: Wave, lost: dict[int, Outcome]) -> None:
        seat = self._seat
        won = [change for number, change in wave.changes if number not in lost]
        won += [change.original for change in won if change.original is not None]
        # Only here: what was inserted and deleted again would stay in a copy that learns of inserts alone.
        born = [mapping.born(change.after) for change in won if not change.read]
        self._insert("insert_transactions", BORN, born, seat.token)
        staged = [change.after.id.bytes for change in won if change.staged]
        if staged:
            self._do("end_staging", Ids(staged))
        grown = [(*mapping.grown(change.after), change.after.id.bytes) for change in won if change.read]
        if grown:
            self._do("update_transactions", *columns(GROWN, grown), seat.token, seat.region)
        events = [row for change in won for row in self._linked(change)]
        if events:
            base = self._chain_seq - len(events)
            self._do("insert_events", *columns(EVENTS, events), seat.writer, seat.journal, base)
            self._latest = max(self._latest or 0, *(micros(e.at) for change in won for e in change.events))
        self._insert("insert_bodies", BODIES, [row for change in won for row in _bodies(change)], seat.writer)
        self._insert("insert_payments", PAYMENTS, [row for change in won for row in _paid(change)], seat.region)
        names = [
            (change.after.client, key.kind, key.value, change.after.id.bytes, key.payment)
            for change in won
            for key in change.names
        ]
        self._insert("name_keys", KEYS, names, seat.region)
        taken = [(change.after.id.bytes, change.inherited_from) for change in won if change.inherited_from is not None]
        self._insert("inherit_keys", (Ids, Integers), taken, seat.region)
        deliveries = [
            (change.after.id.bytes, delivery.channel, delivery.state, micros(change.after.updated_at))
            for change in won
            for delivery in change.deliveries
        ]
        self._insert("insert_deliveries", DELIVERIES, deliveries, seat.region)
        self._end_payments(won)
        self._write_others(wave.others)

    def _insert(self, name: str, types: Sequence[type[Column]], rows: Sequence[Sequence[Any]], *more: Any) -> None:
        if rows:
            self._do(name, *columns(types, rows), *more)

    def _linked(self, change: Change) -> Iterator[tuple[Any, ...]]:
        digests = [body.digest for body in change.bodies]
        id_ = change.after.id
        for event in change.events:
            content = encode(id_, event, digests)
            digests = []  # the first event of the step is the one that the bodies came with
            previous, self._chain_hash = self._chain_hash, link(self._chain_hash, content)
            self._chain_seq += 1
            yield id_.bytes, event.seq, event.epoch, content, previous, self._chain_hash

    def _end_payments(self, won: Sequence[Change]) -> None:
        # What is new with the step was written as it ends.
        old = [change for change in won if not change.payments]
        one = [(change.after.id.bytes, *end) for change in old for end in change.ended]
        self._insert("end_payments", (Ids, Integers, Texts, Texts, Texts), one, self._seat.region)
        every = [(change.after.id.bytes, *change.ends_all) for change in old if change.ends_all is not None]
        self._insert("end_all_payments", (Ids, Texts, Texts), every, self._seat.region)

    def _write_others(self, others: Sequence[Write]) -> None:
        updates = []
        for write in others:
            match write:
                case Client():
                    scopes, disabled = " ".join(sorted(write.scopes)), write.disabled_at and micros(write.disabled_at)
                    created = micros(write.created_at)
                    self._do("put_client", write.id, write.name, write.secret_mac, scopes, created, disabled)
                case SigningKey():
                    retired = write.retired_at and micros(write.retired_at)
                    self._do("put_signing_key", write.id, write.private_pem, micros(write.created_at), retired)
                case Control():
                    scope, at = str(write.scope), micros(write.at)
                    self._do("put_control", scope, write.name, write.stopped, write.actor, write.note, at)
                case DeliveryUpdate():
                    updates.append((write.transaction.bytes, write.channel, write.state, micros(write.at)))
        self._insert("update_deliveries", DELIVERIES, sorted(updates), self._seat.region)


def administer(connection: Connection, region: int, writes: Sequence[Write]) -> None:
    """Write clients, keys and orders beside the processes that serve; fences nobody."""
    if any(isinstance(write, Change) for write in writes):
        raise LeaseLost("only a process that is registered may change transactions")
    batch = Batch(connection, Seat(region=region, writer=0, journal=0, token=0, lease=0))
    with connection.transaction():
        batch._write_others(writes)  # noqa: SLF001 - the same statements


# -- rows -------------------------------------------------------------------------------------------------------------


def _bodies(change: Change) -> Iterator[tuple[Any, ...]]:
    id_, version, epoch = change.after.id.bytes, change.after.version, change.after.epoch
    for body in change.bodies:
        outbox = int(body.kind is BodyKind.OUTBOX)
        content = b"" if body.parts else mapping.compress(body.content)
        yield id_, outbox, version, epoch, body.definition, body.digest, content


def _paid(change: Change) -> Iterator[tuple[Any, ...]]:
    """The payments that are new with a step, as they are at its end."""
    id_ = change.after.id.bytes
    ends = {end.ordinal: end for end in change.ended}
    for payment in change.payments:
        end = ends.get(payment.ordinal)
        if end is None and change.ends_all is not None:
            end = PaymentEnd(payment.ordinal, *change.ends_all)
        yield mapping.paid(id_, payment if end is None else _ended(payment, end))


def _ended(payment: Payment, end: PaymentEnd) -> Payment:
    if payment.follows or payment.status.is_final:
        return payment
    return replace(payment, status=end.status, reason=end.reason, note=end.note or payment.note)
