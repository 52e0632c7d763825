"""The production store: PostgreSQL, with any number of processes writing to it at the same time.

Owns: who may write (journals and leases), and the mapping of records to rows. Must not know: what a status means beyond
which of them are final.
Each process has one connection that writes, used by the journal's thread alone, and one for each thread that reads.
What keeps two processes apart is in the database: versions of rows, unique keys, and the lock on a process's own
journal, under which it commits, and without which nobody can take its work over.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise, starmap
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import structlog
from msgspec.structs import replace
from psycopg.rows import TupleRow

from interlock.chain import GENESIS, Gap, Head, Link, micros, moment
from interlock.chain import decode as decode_event
from interlock.errors import ConfigError, Contended, LeaseLost, OutcomeUnknown, StoreUnavailable
from interlock.iso20022.codes import HeldCause, Status
from interlock.ports import Client, Control, IdempotencyTaken, Open, Outcome, Page, Query, SigningKey, Write
from interlock.regions.rivals import Rival
from interlock.regions.rules import Post
from interlock.stores import rows as mapping
from interlock.stores.postgres import filters, schema
from interlock.stores.postgres.batch import Batch, Raced, Seat, administer
from interlock.stores.postgres.connections import Connection, Gate, Line, fetch, for_bulk, said, translated
from interlock.stores.postgres.staging import PostgresStager, adopted
from interlock.stores.statements import queries
from interlock.transaction import (
    Body,
    BodyKind,
    Clock,
    Deadline,
    DeliveryState,
    Event,
    Payment,
    Transaction,
)

_log = structlog.get_logger()
_T = TypeVar("_T")
Row = TupleRow

#: How often a batch is tried again that met others at the wrong moment: a partition of each of the coming days may be
#: made while it is on its way.
_TRIES = 20
#: What says that it has: a key came or went, two wait for each other, a partition was made for rows on their way, a row
#: came that was not there when we looked.
_RACES = (
    Raced, psycopg.errors.DeadlockDetected, psycopg.errors.CheckViolation, psycopg.errors.UniqueViolation
)  # fmt: skip
#: Events read at a time where a chain is walked.
_CHAIN_PAGE = 5000
#: Transactions that have a name in common, looked at together.
_IDS_PAGE = 500
#: Further than the clocks of two processes may ever be apart.
_CLOCKS_APART = timedelta(hours=6)
_NULL_ID = UUID(int=0)
_MAX_ID = UUID(int=(1 << 128) - 1)


class PostgresStore:
    """`interlock.ports.Store` over one database."""

    shared = True

    def __init__(
        self,
        url: str,
        *,
        region: int = 0,
        lease: float = 5.0,
        partition_days: int = 1,
        migrate: bool = True,
        regional: bool = False,
    ) -> None:
        """Connect, and make or migrate the schema if that is allowed.

        lease: seconds after which a process that is silent is given up. regional: other regions are connected, so that
        all is committed under the region's epoch. Raises ConfigError, StoreUnavailable.
        """
        self.url = url
        self.region = region
        self._regional = regional
        self.post = Post()
        self.position = 0
        self._lease = lease
        self._partition_days = partition_days
        self._sql = queries("postgres")
        self._gate = Gate()
        self._local = threading.local()
        self._readers: list[Line] = []
        self._is_closed = False
        self._writer = Line(url, self._gate, writes=True)
        self._writer.on_connect = self._settle_in
        #: What the server has warned of while it committed.
        self._warnings: list[str] = []
        self._seat: Seat | None = None
        self._incarnation = 0
        self._partitions: tuple[schema.Partition, ...] = ()
        #: No older transaction is in flight.
        self._floor = _NULL_ID
        with contextlib.closing(for_bulk(url)) as connection, translated():
            self._open(connection, migrate=migrate)

    # -- opening --

    def _open(self, connection: Connection, *, migrate: bool) -> None:
        if migrate:
            try:
                schema.check(connection)
            except ConfigError:
                schema.migrate(connection)
        schema.check(connection)
        if fetch(connection, "SHOW fsync") != [("on",)]:
            _log.warning("the database does not sync to disk (fsync = off): what is acknowledged may be lost")
        # A standby is good enough for whoever only reads; it cannot be asked which server it is, and needs not be.
        found = fetch(connection, self._sql["region"])
        if not found:
            server = fetch(connection, self._sql["server"])[0][0]
            connection.execute(self._sql["make_region"], (self.region, server))
            found = fetch(connection, self._sql["region"])
        if found[0][0] != self.region:
            raise ConfigError(f"region_number: the database is of region {found[0][0]}, not {self.region}")
        self._partitions = schema.partitions(connection)
        post = mapping.post(*fetch(connection, self._sql["post"])[0])
        if self._regional:
            self.post = post
        elif post != Post():
            raise ConfigError(f"regions: the database is of several regions, as region {self.region}; name its peers")

    def _settle_in(self, connection: Connection) -> None:
        """What every new writing connection begins with: by which server it is."""
        connection.add_notice_handler(self._hear)
        if fetch(connection, "SHOW transaction_read_only") == [("on",)]:
            raise StoreUnavailable("the database is a standby, or read-only")
        server = fetch(connection, self._sql["server"])[0][0]
        _, _, noted = fetch(connection, self._sql["region"])[0]
        if server != noted:
            # A standby that was promoted, or a backup: whatever the former server did last may not be here, though
            # others may have seen it. Under a new incarnation no key of it is used again.
            connection.execute(self._sql["renew_incarnation"], (server, noted))
            _log.warning("another server: new incarnation", server=server)
        self._incarnation = int(fetch(connection, self._sql["region"])[0][1])

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.message_primary or "")

    @property
    def connected(self) -> bool:
        """Whether the last attempt to reach the database succeeded."""
        return self._gate.open

    @property
    def _number(self) -> int:
        """The writer's number, with which its keys begin: region and incarnation."""
        return self.region * 1_000_000 + self._incarnation

    # -- writing --

    def register(self, now: datetime) -> int:  # noqa: ARG002 - leases go by the database's clock
        with translated():
            connection = self._writer.get()
            with connection.transaction():
                writer = self._number
                journal = self._sit_down(connection, writer)
                ((token,),) = fetch(connection, self._sql["take_journal"], (writer, journal, self._lease))
        self._seat = Seat(
            region=self.region, writer=writer, journal=journal, token=token, lease=self._lease, regional=self._regional,
        )  # fmt: skip
        return int(token)

    def _sit_down(self, connection: Connection, writer: int) -> int:
        """A journal that is free, or a new one."""
        for _ in range(_TRIES * 10):
            idle = fetch(connection, self._sql["idle_journal"], (writer,))
            if idle:
                ((journal, before),) = idle
                if before is not None:
                    connection.execute(self._sql["insert_orphan"], (before,))
                return int(journal)
            made = fetch(connection, self._sql["new_journal"], (writer, GENESIS))
            if made:
                return int(made[0][0])
        raise StoreUnavailable("too many processes want a journal at once")

    def current_token(self) -> int:
        return 0

    def commit(self, token: int, writes: Sequence[Write], batch: bytes) -> list[Outcome]:
        if not token:
            return self._administer(writes)
        seat = self._seat
        if seat is None or seat.token != token:
            raise LeaseLost("another process writes under this token")
        with translated():
            for _ in range(_TRIES):
                outcomes = self._try(seat, writes, batch)
                if outcomes is not None:
                    return outcomes
        raise Contended("too many others write the same at once; nothing was kept")

    def _try(self, seat: Seat, writes: Sequence[Write], batch: bytes) -> list[Outcome] | None:
        """The whole batch; None where others came between, so that it must be tried again: nothing was committed."""
        connection = self._writer.get()
        if seat.writer != self._number:
            raise LeaseLost("the database is another server now; this process must register anew")
        work = Batch(connection, seat)
        committing = False
        try:
            outcomes = work.prepare(writes)
            committing = True
            self._warnings.clear()
            work.finish(batch, outcomes)
        except psycopg.errors.LockNotAvailable as exc:
            self._roll_back(connection)
            raise Contended(f"somebody else holds what this writes, and does not let go: {said(exc)}") from exc
        except _RACES:
            self._roll_back(connection)
            return None
        except psycopg.Error as exc:
            if committing and exc.sqlstate is None:
                connection.close()  # it is the driver who says so, not the server: who knows what that has done
            self._roll_back(connection)
            if not connection.closed:
                raise
            if committing:
                raise OutcomeUnknown(f"the connection was lost during the commit: {said(exc)}") from exc
            return None  # it was lost while nobody used it, which shows only now; another will do
        except BaseException:
            self._roll_back(connection)
            raise
        finally:
            if work.post is not None:
                self.post = work.post
        self._finished(work)
        return outcomes

    def _finished(self, work: Batch) -> None:
        if self._warnings:
            # Somebody has cancelled the wait for the standby: it is committed here, and maybe nowhere else. To read it
            # back is to wait again.
            raise OutcomeUnknown(f"the server was not sure of its commit: {self._warnings[-1]}")
        self.position = work.position

    def _roll_back(self, connection: Connection) -> None:
        """Leave nothing open; a connection that cannot even do that is given up."""
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()
            self._writer.drop()

    def _administer(self, writes: Sequence[Write]) -> list[Outcome]:
        with translated():
            administer(self._writer.get(), self.region, writes)
        return [mapping.WON] * len(writes)

    def stager(self, token: int, transaction: UUID, client: str) -> PostgresStager:
        seat = self._seat
        if seat is None or seat.token != token:
            raise LeaseLost("another process writes under this token")
        stager = PostgresStager(self.url, seat, transaction, client)
        try:
            stager.begin()
        except BaseException:
            stager.close()
            raise
        return stager

    def sweep(self, token: int) -> int:
        seat = self._seat
        if seat is None or seat.token != token:
            raise LeaseLost("another process writes under this token")
        swept = 0
        while left := adopted(self.url, seat):
            with contextlib.closing(left):
                try:
                    left.sweep()
                except BaseException:
                    with contextlib.suppress(StoreUnavailable):  # else it were in our hands as long as we live
                        left.give_up()
                    raise
            swept += 1
        return swept

    def committed(self, batch: bytes) -> list[Outcome] | None:
        seat, self._seat = self._seat, None
        if seat is None:
            raise OutcomeUnknown("this process's lease is gone, and with it what it could ask by")
        with translated():
            connection = self._writer.get()
            # The lock is had only once the server is done with our former connection's commit, whichever way; and its
            # own commit waits for the standbys, so what it tells is as durable as what it asks about.
            rows = fetch(connection, self._sql["committed"], (seat.writer, seat.journal))
            if self._regional:
                self.position = fetch(connection, self._sql["position"])[0][0]
        last, outcomes, token = rows[0] if rows else (b"", b"", seat.token)
        if last != batch and token != seat.token:
            raise OutcomeUnknown("another process has written to this journal since")
        # Only who knows what became of its commit goes on under the same token: what may rest there unknown to us
        # becomes an orphan with it, and somebody's to go on with.
        self._seat = seat
        return mapping.unpack_outcomes(outcomes) if last == batch else None

    def claim(self, token: int, limit: int) -> tuple[Transaction, ...]:
        with translated():
            connection = self._writer.get()
            connection.execute(self._sql["retire_journals"], (token,))
            found = fetch(connection, self._sql["orphans"], (token,))
            if any(holds_on for _, holds_on in found):
                connection.execute(self._sql["end_stalled"], (token,))  # and the next look retires them
            orphans = [orphan for orphan, holds_on in found if not holds_on]
            if not orphans:
                return ()
            try:
                with connection.transaction():
                    self._fence(connection, token)
                    taken = fetch(connection, self._sql["claim"], (token, orphans, limit, self._floor, self.region))
            except psycopg.Error:
                self._seat = None  # whether we have taken something is not known: under another token it is an orphan's
                raise
            if len(taken) < limit:
                connection.execute(self._sql["forget_orphans"], (orphans, self._floor, self.region))
        return tuple(sorted((mapping.transaction(*row) for row in taken), key=lambda transaction: transaction.id))

    def _fence(self, connection: Connection, token: int) -> None:
        seat = self._seat
        if seat is None or not fetch(connection, self._sql["fence"], (seat.writer, seat.journal, token)):
            raise LeaseLost("this process's lease has run out, or another has its journal")

    def lead(self, token: int, job: str) -> bool:
        with translated():
            return self._writer.get().execute(self._sql["lead"], (job, token, self._lease)).rowcount == 1

    def release(self, token: int) -> None:
        seat = self._seat
        if seat is None or seat.token != token:
            return
        with translated():
            connection = self._writer.get()
            with connection.transaction():
                freed = connection.execute(self._sql["release"], (seat.writer, seat.journal, token)).rowcount
                if freed:
                    connection.execute(self._sql["insert_orphan"], (token,))
                connection.execute(self._sql["give_up_leads"], (token,))
        self._seat = None

    # -- reading --

    def _rows(self, name: str, *bindings: Any) -> list[Row]:
        return self._ask(self._sql[name], bindings)

    def _line(self) -> Line:
        """This thread's connection for reading."""
        line: Line | None = getattr(self._local, "line", None)
        if line is None:
            line = self._local.line = Line(self.url, self._gate, writes=False)
            self._readers.append(line)
            if self._is_closed:  # a thread that comes late; it is refused like the others
                line.close()
        return line

    def _ask(self, sql: str, bindings: Sequence[Any]) -> list[Row]:
        line = self._line()
        with translated():
            try:
                return fetch(line.get(), sql, bindings)
            except psycopg.OperationalError:
                if not line.lost:
                    raise
            # It was lost while nobody used it; what only reads may be asked again.
            return fetch(line.get(), sql, bindings)

    def _first(self, make: Callable[..., _T], name: str, *bindings: Any) -> _T | None:
        rows = self._rows(name, *bindings)
        return make(*rows[0]) if rows else None

    def get(self, transaction: UUID) -> Transaction | None:
        rows = self._rows("get", transaction, self.region)
        if not rows:
            return None
        found, own = mapping.transaction(*rows[0][:-1]), rows[0][-1]
        return replace(found, own_version=own) if own else found

    def find(self, query: Query) -> Page:
        """By windows of time, newest first, so that old partitions are left alone; or by key, which knows the ids."""
        limit = query.limit + 1
        found: list[Transaction] = []
        for statement in self._by_time(query) if query.key is None else self._by_key(query):
            sql, bindings = statement(limit - len(found))
            found += [mapping.transaction(*row) for row in self._ask(sql, bindings)]
            if len(found) >= limit:
                break
        page = tuple(found[: query.limit])
        return Page(page, page[-1].id if len(found) > query.limit else None)

    def _by_time(self, query: Query) -> Iterator[filters.Limited]:
        for lower, upper in self._windows():
            within = filters.within(query, lower, upper)
            if within is not None:
                yield within

    def _by_key(self, query: Query) -> Iterator[filters.Limited]:
        """A join would have every partition planned for: with the ids at hand only theirs are."""
        upper = _MAX_ID
        while True:
            sql, bindings = filters.named(query, upper, _IDS_PAGE)
            ids = [id_ for (id_,) in self._ask(sql, bindings)]
            if ids:
                yield filters.among(query, ids)
                upper = ids[-1]
            if len(ids) < _IDS_PAGE:
                return

    def _windows(self) -> Iterator[tuple[UUID, UUID]]:
        """Ranges of ids, newest first, ever wider: one partition, then two, then four."""
        bounds = [partition.lower for partition in reversed(self._partitions)]
        wide, edges = 1, [_MAX_ID]
        # What is ahead of the present is empty and goes with the first.
        place = schema.AHEAD.days // self._partition_days
        while place < len(bounds):
            edges.append(bounds[place])
            place += wide
            wide *= 2
        yield from ((lower, upper) for upper, lower in pairwise([*edges, _NULL_ID]))

    def history(self, transaction: UUID) -> tuple[Event, ...]:
        return tuple(decode_event(row[0])[1] for row in self._rows("history", transaction))

    def inherited(self, transaction: UUID) -> tuple[Event, ...]:
        return tuple(decode_event(row[0])[1] for row in self._rows("inherited", transaction, self.region))

    def payments(self, transaction: UUID) -> tuple[Payment, ...]:
        return tuple(mapping.payment(*row) for row in self._rows("payments", transaction))

    def payments_page(
        self, transaction: UUID, after: int, limit: int, status: Status | None = None
    ) -> tuple[Payment, ...]:
        return tuple(mapping.payment(*row) for row in self._rows("payments_page", transaction, after, status, limit))

    def message(self, transaction: UUID, kind: BodyKind) -> Body | None:
        rows = self._rows("message", transaction, int(kind is BodyKind.OUTBOX))
        if not rows:
            return None
        definition, digest, content = rows[0]
        if not content:
            return mapping.joined(self, transaction, kind, definition, digest)
        return Body(kind=kind, definition=definition, digest=digest, content=mapping.decompress(content))

    def parts(self, transaction: UUID, kind: BodyKind) -> int:
        return int(self._rows("parts", transaction, int(kind is BodyKind.OUTBOX))[0][0])

    def part(self, transaction: UUID, kind: BodyKind, number: int) -> bytes:
        return mapping.decompress(self._rows("part", transaction, int(kind is BodyKind.OUTBOX), number)[0][0])

    def delivery(self, transaction: UUID, channel: str) -> DeliveryState | None:
        return self._first(DeliveryState, "delivery", transaction, channel)

    def archived(self, transaction: UUID) -> str | None:
        return self._first(str, "archived", transaction)

    def in_flight(self, after: UUID | None, limit: int) -> tuple[Transaction, ...]:
        open_ = [id_ for (id_,) in self._rows("in_flight", self._floor, after or _NULL_ID, limit, self.region)]
        return self._several(open_)

    def ended(self, transactions: Collection[UUID]) -> frozenset[UUID]:
        return frozenset(UUID(bytes=id_) for (id_,) in self._rows("ended", list(transactions)))

    def overdue(self, now: datetime, limit: int) -> tuple[Transaction, ...]:
        newest = UUID(bytes=mapping.id_bound(now + _CLOCKS_APART))
        due = [id_ for (id_,) in self._rows("overdue", micros(now), self._floor, newest, limit, self.region)]
        return self._several(due)

    def _several(self, ids: Sequence[UUID]) -> tuple[Transaction, ...]:
        """Those of these ids, in their order."""
        if not ids:
            return ()
        rows = self._rows("several", ids, self.region)
        found = {transaction.id: transaction for transaction in starmap(mapping.transaction, rows)}
        return tuple(found[id_] for id_ in ids if id_ in found)

    def next_deadline(self) -> Deadline | None:
        return self._first(
            lambda clock, at: Deadline(clock=Clock(clock), at=moment(at)), "next_deadline", self._floor, self.region
        )

    def idempotent(self, client: str, key: str) -> IdempotencyTaken | None:
        return self._first(lambda id_, digest: IdempotencyTaken(UUID(bytes=id_), digest), "idempotent", client, key)

    def client(self, client: str) -> Client | None:
        return self._first(mapping.client, "client", client)

    def clients(self) -> tuple[Client, ...]:
        return tuple(mapping.client(*row) for row in self._rows("clients"))

    def signing_keys(self) -> tuple[SigningKey, ...]:
        return tuple(mapping.signing_key(*row) for row in self._rows("signing_keys"))

    def controls(self) -> tuple[Control, ...]:
        return tuple(mapping.control(*row) for row in self._rows("controls"))

    def open_by_client(self) -> Mapping[str, int]:
        return dict(self._rows("open_by_client", self._floor, self.region))

    def open_by_status(self) -> Mapping[tuple[Status, HeldCause | None], Open]:
        return mapping.opened(self._rows("open_by_status", self._floor, self.region))

    def parked_deliveries(self) -> int:
        return int(self._rows("parked_deliveries")[0][0])

    def clock(self) -> datetime | None:
        return moment(self._rows("clock")[0][0])

    def flushed(self) -> tuple[int, Mapping[int, int]]:
        rows = self._rows("flushed", rf"interlock\_{self.region}\_to\_%")
        return rows[0][0], {int(name.rsplit("_", 1)[1]): reached for _, name, reached in rows if name is not None}

    def rivals(self, transactions: Collection[UUID], region: int) -> Mapping[UUID, tuple[Rival, ...]]:
        found: dict[UUID, tuple[Rival, ...]] = {}
        for ours, theirs, settled, settles in self._rows("rivals", list(transactions), region):
            found[ours] = (*found.get(ours, ()), Rival(theirs, settled, settles))
        return found

    def taken(self) -> frozenset[int]:
        return frozenset(home for (home,) in self._rows("taken", self.region))

    def latest(self) -> datetime | None:
        at = self._rows("latest")[0][0]
        return None if at is None else moment(at)

    # -- history and upkeep --

    def heads(self) -> tuple[Head, ...]:
        return tuple(
            Head(_journal_name(region, writer, journal), seq, hash_)
            for region, writer, journal, seq, hash_ in self._rows("heads")
        )

    def chain(self, journal: str, after: int = 0) -> Iterator[Link | Gap]:
        region, incarnation, number = (int(part) for part in journal.split("."))
        writer = region * 1_000_000 + incarnation
        while True:
            links, gaps = self._linked(writer, number, after)
            # Both pages are whole only as far as the shorter one reaches.
            ends = [page[-1] for page in (links, gaps) if len(page) == _CHAIN_PAGE]
            both: list[Link | Gap] = sorted([*links, *gaps], key=_position)
            if ends:
                both = [item for item in both if _position(item) <= min(map(_position, ends))]
            if not both:
                return
            yield from both
            after = _position(both[-1])

    def _linked(self, *place: int) -> tuple[list[Link], list[Gap]]:
        """A page of both, of one moment: between two of them events may be archived."""
        with translated(), self._line().get().transaction():
            connection = self._line().get()
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            links = fetch(connection, self._sql["chain"], (*place, _CHAIN_PAGE))
            gaps = fetch(connection, self._sql["gaps"], (*place, _CHAIN_PAGE))
        return [Link(*row) for row in links], [Gap(*row) for row in gaps]

    def maintain(self, now: datetime) -> None:
        with contextlib.closing(for_bulk(self.url)) as connection, translated():
            schema.extend(connection, now, self._partition_days)
            self._partitions = schema.partitions(connection)
            floor = fetch(connection, self._sql["floor"])[0][0]
        # Transactions that are still to come may be of clocks far behind ours.
        bound = mapping.id_bound(now - _CLOCKS_APART)
        self._floor = min(UUID(bytes=bound), floor or _MAX_ID)

    def check(self) -> list[str]:
        return [
            f"the index {name} is not valid: REINDEX INDEX {name}"
            for (name,) in self._ask("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid", ())
        ]

    def check_server_key(self, proof: bytes) -> bool:
        with translated():
            ((noted,),) = fetch(self._writer.get(), self._sql["note_key_proof"], (proof,))
        return bool(noted == proof)

    def abandon(self) -> None:
        for line in [self._writer, *self._readers]:
            line.cut()

    def close(self) -> None:
        self._is_closed = True
        for line in [*self._readers, self._writer]:
            line.close()


def _journal_name(region: int, writer: int, journal: int) -> str:
    return f"{region}.{writer % 1_000_000}.{journal}"


def _position(item: Link | Gap) -> int:
    return item.last if isinstance(item, Gap) else item.seq
