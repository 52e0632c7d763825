"""The embedded store: one SQLite file, write-ahead log, fsync at every commit.

Owns: the mapping of records to rows. Must not know: what a status means beyond which of them are final.
One connection writes, used by the journal's thread alone; each other thread that reads has a connection of its own, so
readers never wait for the writer. SQLite comes with apsw, because older ones can corrupt a WAL file (before 3.51.3).
"""

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import apsw

from interlock.chain import GENESIS, Gap, Head, Link, decode, micros, moment
from interlock.errors import ConfigError, LeaseLost, OutcomeUnknown, StoreUnavailable
from interlock.iso20022.codes import HeldCause, Status
from interlock.ports import (
    Client,
    Control,
    IdempotencyTaken,
    Open,
    Outcome,
    Page,
    Query,
    SigningKey,
    Write,
)
from interlock.regions.rivals import Rival
from interlock.regions.rules import Post
from interlock.stores import rows as mapping
from interlock.stores import sqlite_filters
from interlock.stores.files import sync_folder
from interlock.stores.sqlite_batch import Batch, Tail
from interlock.stores.sqlite_staging import SqliteStager, Turn, translated
from interlock.stores.statements import migrations, queries
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

_T = TypeVar("_T")
#: Smaller than any id.
_NO_ID = b""
Row = mapping.Row

_SETUP = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -65536",
    "PRAGMA foreign_keys = ON",
    # A checkpoint of 4,000 pages (16 MB) takes some milliseconds; a longer log slows reads, a shorter one commits.
    "PRAGMA wal_autocheckpoint = 4000",
    # A log that once grew long (a backup, a slow reader) gives its space back.
    "PRAGMA journal_size_limit = 67108864",
)


class SqliteStore:
    """`interlock.ports.Store` over one file."""

    shared = False
    #: Nobody can take this region over, and nobody listens.
    post = Post()
    position = 0
    connected = True

    def __init__(self, path: Path, *, region: int = 0, vfs: str | None = None) -> None:
        """Open the file, make or migrate it. Raises ConfigError where it is newer than this program."""
        self.path = path
        self.region = region
        self._vfs = vfs
        self._local = threading.local()
        self._readers: list[apsw.Connection] = []
        self._sql = queries("sqlite")
        self._registered: int | None = None
        #: Held by whoever writes: the journal, or for a moment at a time a stager.
        self.turn = Turn()
        #: What the processes before left half-way lies between these two ids.
        self._claimed, self._heritage = _NO_ID, _NO_ID
        self._tail = Tail(0, GENESIS, 1)
        with translated():
            self._writer = self._connect(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
            self._migrate()
        self._load()

    # -- opening --

    def _connect(self, flags: int, *, stages: bool = False) -> apsw.Connection:
        """stages: what it commits need not be on disk before the journal's next commit is, which syncs the same log."""
        db = apsw.Connection(str(self.path), flags=flags, vfs=self._vfs)
        db.set_busy_timeout(5000)
        if flags & apsw.SQLITE_OPEN_READWRITE:
            for pragma in _SETUP:
                db.execute(pragma)
        if stages:
            # It syncs when the log is brought into the file, which it does at moments of its own.
            db.execute("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0")
        return db

    def _migrate(self) -> None:
        db = self._writer
        done: int = db.pragma("user_version")
        known = migrations("sqlite")
        if done > known[-1].number:
            raise ConfigError(
                f"{self.path} was written by a newer Interlock (schema {done}, this one knows {known[-1].number})"
            )
        for migration in known:
            if migration.number <= done:
                continue
            with db:  # a migration is applied whole or not at all
                db.execute(migration.text)
                db.pragma("user_version", migration.number)
        if not db.execute("SELECT 1 FROM writer").fetchall():
            db.execute("INSERT INTO writer VALUES (1, ?, 1, 0, 0, x'', x'', 0, ?)", (self.region, GENESIS))

    def _load(self) -> None:
        """What the writer keeps in mind between commits; read again whenever a commit has failed."""
        with translated():
            region, incarnation, _, _, _, seq, head = self._one("writer") or ()
            self.region, self._incarnation = region, incarnation
            (row,) = self._one("next_row") or (1,)
            # Never back: one may have been given out that is not yet in use.
            self._tail = Tail(seq, head, max(self._tail.next_row, row))

    def _one(self, name: str, bindings: Sequence[Any] = ()) -> Row | None:
        return self._writer.execute(self._sql[name], bindings).fetchone()

    @property
    def _number(self) -> int:
        """The writer's number, with which its keys begin: region and incarnation."""
        return int(self.region * 1000 + self._incarnation)

    # -- writing --

    def register(self, now: datetime) -> int:
        with self.turn.first(), translated():
            (token,) = self._one("register", (micros(now),)) or (0,)
            self._load()
        self._registered = int(token)
        (newest,) = self._one("newest") or (_NO_ID,)
        self._claimed, self._heritage = _NO_ID, newest
        return self._registered

    def current_token(self) -> int:
        return int((self._rows("fence")[0])[0])

    def commit(self, token: int, writes: Sequence[Write], batch: bytes) -> list[Outcome]:
        with self.turn.first():
            return self._commit(token, writes, batch)

    def _commit(self, token: int, writes: Sequence[Write], batch: bytes) -> list[Outcome]:
        db = self._writer
        with translated():
            db.execute("BEGIN IMMEDIATE")
        try:
            with translated():
                (current,) = self._one("fence") or (0,)
                if current != token:
                    raise LeaseLost("another process writes to this store now")
                work = Batch(
                    db, self._sql, self._tail, batch=batch, writer=self._number, token=token,
                    seals=token == self._registered,
                )  # fmt: skip
                outcomes = [work.write(write) for write in writes]
                work.finish(outcomes)
        except BaseException:
            self._roll_back()
            raise
        try:
            db.execute("COMMIT")
        except apsw.Error as exc:
            self._roll_back()
            raise OutcomeUnknown(f"the commit failed midway: {exc}") from exc
        self._tail = work.tail
        return outcomes

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def stager(self, token: int, transaction: UUID, client: str) -> SqliteStager:
        with self.turn, translated():
            if token != self._registered:
                raise LeaseLost("another process writes to this store now")
            row = self._tail.next_row
            self._tail.next_row += 1
            db = self._connect(apsw.SQLITE_OPEN_READWRITE, stages=True)
            db.execute(self._sql["begin_staging"], (row, transaction.bytes, client, token))
        return SqliteStager(db, self._sql, self.turn, row, client, token)

    def sweep(self, token: int) -> int:
        swept = 0
        with contextlib.closing(self._connect(apsw.SQLITE_OPEN_READWRITE, stages=True)) as db, translated():
            left: Row | None
            while left := db.execute(self._sql["left_staging"], (token,)).fetchone():
                row, client = left
                with self.turn:
                    db.execute(self._sql["adopt_staging"], (row,))
                left_over = SqliteStager(db, self._sql, self.turn, row, client, token)
                try:
                    left_over.sweep()
                except BaseException:
                    with contextlib.suppress(StoreUnavailable):  # else it were in our hands as long as we live
                        left_over.give_up()
                    raise
                swept += 1
        return swept

    def claim(self, token: int, limit: int) -> tuple[Transaction, ...]:
        """Whoever registers has fenced off all before, so everything of theirs is its own: each is given out once."""
        if token != self._registered:
            raise LeaseLost("another process writes to this store now")
        rows = self._rows("left_half_way", (self._claimed, self._heritage, limit))
        if rows:
            self._claimed = rows[-1][1]
        return tuple(mapping.transaction(*row[1:]) for row in rows)

    def lead(self, token: int, job: str) -> bool:  # noqa: ARG002 - nobody else could
        return token == self._registered

    def release(self, token: int) -> None:
        """Nothing to give back: the next process fences this one off."""

    def committed(self, batch: bytes) -> list[Outcome] | None:
        with self.turn.first(), translated():
            self._roll_back()
            row = self._one("writer")
            self._load()
        if row is None or row[3] != batch:
            self._void()
            return None
        return mapping.unpack_outcomes(row[4])

    def _void(self) -> None:
        """Make sure that a commit which has failed stays so.

        Where only the sync failed, its frames are in the log with their commit mark, and would be replayed after a
        crash. Any commit after it that writes a page (so the value must change) overwrites them. Raises
        StoreUnavailable: then nobody can say what will be.
        """
        with translated():
            self._writer.execute("BEGIN IMMEDIATE; UPDATE writer SET token_at = token_at + 1; COMMIT")

    # -- reading --

    def _reader(self) -> apsw.Connection:
        db: apsw.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = self._connect(apsw.SQLITE_OPEN_READONLY)
            self._local.db = db
            self._readers.append(db)
        return db

    def _rows(self, name: str, bindings: Sequence[Any] = ()) -> list[Row]:
        with translated():
            return self._reader().execute(self._sql[name], bindings).fetchall()

    def _first(self, name: str, bindings: Sequence[Any], make: Callable[..., _T]) -> _T | None:
        rows = self._rows(name, bindings)
        return make(*rows[0]) if rows else None

    def get(self, transaction: UUID) -> Transaction | None:
        return self._first("get", (transaction.bytes,), _transaction)

    def find(self, query: Query) -> Page:
        sql, bindings = sqlite_filters.where(query)
        with translated():
            rows = self._reader().execute(sql, bindings).fetchall()
        found = tuple(_transaction(*row) for row in rows)
        more = len(found) > query.limit
        found = found[: query.limit]
        return Page(found, found[-1].id if more else None)

    def history(self, transaction: UUID) -> tuple[Event, ...]:
        return tuple(decode(row[0])[1] for row in self._rows("history", (transaction.bytes,)))

    def payments(self, transaction: UUID) -> tuple[Payment, ...]:
        return tuple(mapping.payment(*row) for row in self._rows("payments", (transaction.bytes,)))

    def payments_page(
        self, transaction: UUID, after: int, limit: int, status: Status | None = None
    ) -> tuple[Payment, ...]:
        return tuple(
            mapping.payment(*row) for row in self._rows("payments_page", (transaction.bytes, after, status, limit))
        )

    def message(self, transaction: UUID, kind: BodyKind) -> Body | None:
        rows = self._rows("message", (int(kind is BodyKind.OUTBOX), transaction.bytes))
        if not rows:
            return None
        definition, digest, content = rows[0]
        if not content:
            return mapping.joined(self, transaction, kind, definition, digest)
        return Body(kind=kind, definition=definition, digest=digest, content=mapping.decompress(content))

    def parts(self, transaction: UUID, kind: BodyKind) -> int:
        return int(self._rows("parts", (int(kind is BodyKind.OUTBOX), transaction.bytes))[0][0])

    def part(self, transaction: UUID, kind: BodyKind, number: int) -> bytes:
        rows = self._rows("part", (int(kind is BodyKind.OUTBOX), transaction.bytes, number))
        return mapping.decompress(rows[0][0])

    def delivery(self, transaction: UUID, channel: str) -> DeliveryState | None:
        return self._first("delivery", (transaction.bytes, channel), DeliveryState)

    def archived(self, transaction: UUID) -> str | None:  # noqa: ARG002
        """One file keeps everything."""
        return None

    def in_flight(self, after: UUID | None, limit: int) -> tuple[Transaction, ...]:
        bound = _NO_ID if after is None else after.bytes
        return tuple(_transaction(*row) for row in self._rows("in_flight", (bound, limit)))

    def ended(self, transactions: Collection[UUID]) -> frozenset[UUID]:
        found = (self.get(id_) for id_ in transactions)
        return frozenset(transaction.id for transaction in found if transaction and transaction.standing.is_final)

    def overdue(self, now: datetime, limit: int) -> tuple[Transaction, ...]:
        return tuple(_transaction(*row) for row in self._rows("overdue", (micros(now), limit)))

    def next_deadline(self) -> Deadline | None:
        return self._first("next_deadline", (), lambda clock, at: Deadline(clock=Clock(clock), at=moment(at)))

    def idempotent(self, client: str, key: str) -> IdempotencyTaken | None:
        return self._first("idempotent", (client, key), lambda id_, digest: IdempotencyTaken(UUID(bytes=id_), digest))

    def client(self, client: str) -> Client | None:
        return self._first("client", (client,), mapping.client)

    def clients(self) -> tuple[Client, ...]:
        return tuple(mapping.client(*row) for row in self._rows("clients"))

    def signing_keys(self) -> tuple[SigningKey, ...]:
        return tuple(mapping.signing_key(*row) for row in self._rows("signing_keys"))

    def controls(self) -> tuple[Control, ...]:
        return tuple(mapping.control(*row) for row in self._rows("controls"))

    def open_by_client(self) -> Mapping[str, int]:
        return dict(self._rows("open_by_client"))

    def open_by_status(self) -> Mapping[tuple[Status, HeldCause | None], Open]:
        return mapping.opened(self._rows("open_by_status"))

    def parked_deliveries(self) -> int:
        return int(self._rows("parked_deliveries")[0][0])

    def clock(self) -> datetime | None:
        return None

    def flushed(self) -> tuple[int, Mapping[int, int]]:
        return 0, {}

    def rivals(
        self,
        transactions: Collection[UUID],  # noqa: ARG002 - there are no other regions
        region: int,  # noqa: ARG002 - as above
    ) -> Mapping[UUID, tuple[Rival, ...]]:
        return {}

    def inherited(self, transaction: UUID) -> tuple[Event, ...]:  # noqa: ARG002 - there are no other regions
        return ()

    def taken(self) -> frozenset[int]:
        return frozenset()

    def latest(self) -> datetime | None:
        return self._first("latest", (), lambda content: decode(content)[1].at)

    # -- history and upkeep --

    def heads(self) -> tuple[Head, ...]:
        region, incarnation, _, _, _, seq, hash_ = self._rows("writer")[0]
        # One chain, over all incarnations: a copy that was restored goes on where it was taken.
        return (Head(f"{region}.{incarnation}", seq, hash_),) if seq else ()

    def chain(self, journal: str, after: int = 0) -> Iterator[Link | Gap]:  # noqa: ARG002 - there is one
        with translated():
            for row in self._reader().execute(self._sql["chain"], (after,)):
                yield Link(*row)

    def maintain(self, now: datetime) -> None:
        """SQLite looks after itself."""

    def check_server_key(self, proof: bytes) -> bool:  # noqa: ARG002
        """The key lies beside the file; whoever moves one moves both."""
        return True

    def check(self) -> list[str]:
        with translated():
            found = [str(row[0]) for row in self._reader().execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def backup(self, target: Path) -> None:
        """A consistent, compact copy of one moment while others write; in place only once it is whole and on disk."""
        part = target.with_name(target.name + ".part")
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        with translated():
            self._reader().execute("VACUUM INTO ?", (str(part),))
        with part.open("rb") as copy:
            os.fsync(copy.fileno())
        part.replace(target)
        sync_folder(target.parent)

    def abandon(self) -> None:
        """A disk that does not answer cannot be let go of."""

    def close(self) -> None:
        for db in [*self._readers, self._writer]:
            with contextlib.suppress(apsw.Error):  # what is committed is committed; the others must close too
                db.close()
        self._readers.clear()


def _transaction(_: Any, *row: Any) -> Transaction:
    """A row of `SELECT *`, which begins with the row's number."""
    return mapping.transaction(*row)
