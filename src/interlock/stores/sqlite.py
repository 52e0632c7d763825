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

from interlock.chain import GENESIS, Gap, Head, Link, decode, encode, link, micros, moment
from interlock.errors import ConfigError, LeaseLost, OutcomeUnknown, StoreUnavailable
from interlock.iso20022.codes import HeldCause, Status
from interlock.ports import (
    Client,
    Control,
    DeliveryUpdate,
    IdempotencyTaken,
    KeysTaken,
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
from interlock.stores.sqlite_staging import SqliteStager, Turn, translated
from interlock.stores.statements import migrations, queries
from interlock.transaction import (
    Body,
    BodyKind,
    Change,
    Clock,
    Deadline,
    DeliveryState,
    Event,
    Key,
    KeyKind,
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
        self._next_row = 1
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
            self._chain_seq, self._chain_hash = seq, head
            (row,) = self._one("next_row") or (1,)
            # Never back: one may have been given out that is not yet in use.
            self._next_row = max(self._next_row, row)

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
                work = _Batch(self, batch, seals=token == self._registered)
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
        self._chain_seq, self._chain_hash, self._next_row = work.chain_seq, work.chain_hash, work.next_row
        return outcomes

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def stager(self, token: int, transaction: UUID, client: str) -> SqliteStager:
        with self.turn, translated():
            if token != self._registered:
                raise LeaseLost("another process writes to this store now")
            row, self._next_row = self._next_row, self._next_row + 1
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


class _Batch:
    """One batch on its way into the file: what can lose is tried at once, the rest is gathered and written together."""

    def __init__(self, store: SqliteStore, batch: bytes, *, seals: bool) -> None:
        """seals: this process is the writer; an administrator's beside it leaves the writer's own row alone."""
        self._store = store
        self._db = store._writer  # noqa: SLF001 - the store's own other half
        self._sql = store._sql  # noqa: SLF001
        self._writer = store._number  # noqa: SLF001
        self._id = batch
        self._seals = seals
        self.chain_seq = store._chain_seq  # noqa: SLF001
        self.chain_hash: bytes = store._chain_hash  # noqa: SLF001
        self.next_row: int = store._next_row  # noqa: SLF001
        self._events: list[Row] = []
        self._bodies: list[Row] = []
        self._payments: list[Row] = []
        self._names: list[Row] = []
        self._deliveries: list[Row] = []

    def write(self, write: Write) -> Outcome:
        match write:
            case Change():
                if not self._seals:
                    raise LeaseLost("only the process that is registered may change transactions")
                return self._change(write)
            case Client():
                scopes = " ".join(sorted(write.scopes))
                disabled = None if write.disabled_at is None else micros(write.disabled_at)
                row = (write.id, write.name, write.secret_mac, scopes, micros(write.created_at), disabled)
                self._do("put_client", row)
            case SigningKey():
                retired = None if write.retired_at is None else micros(write.retired_at)
                self._do("put_signing_key", (write.id, write.private_pem, micros(write.created_at), retired))
            case Control():
                order = (write.scope, write.name, int(write.stopped), write.actor, write.note, micros(write.at))
                self._do("put_control", order)
            case DeliveryUpdate():
                self._flush()
                state = write.state
                self._do("update_delivery", (state, micros(write.at), write.transaction.bytes, write.channel, state))
        return mapping.WON

    def _do(self, name: str, bindings: Row) -> int:
        self._db.execute(self._sql[name], bindings)
        return int(self._db.changes())

    def _get(self, name: str, bindings: Row) -> Row | None:
        row: Row | None = self._db.execute(self._sql[name], bindings).fetchone()
        return row

    # -- a change --

    def _change(self, change: Change) -> Outcome:
        """Everything that can make it lose first, so that a loser has little to undo."""
        if change.original is not None and self._locate(change.original) is None:
            return mapping.STALE
        row = self._locate(change) if change.read else self._insert(change)
        if row is None:
            return mapping.STALE
        lost = self._claim_idempotency(change, row) or self._losses(change, row) or self._reserve(change, row)
        if lost is not None:
            self._undo(change, row, lost)
            return lost
        if change.read:
            self._do("update_transaction", (*mapping.grown(change.after), row))
        elif change.staged:
            self._do("end_staging", (row,))
            self._do("forget_staged_keys", (row,))
        else:
            self.next_row += 1
        self._gather(change, row)
        if change.original is not None:
            self._change(change.original)
        return mapping.WON

    def _locate(self, change: Change) -> int | None:
        """The row of a transaction, if it still has the version that the change was decided on."""
        found = self._get("locate", (change.after.id.bytes,))
        return found[0] if found is not None and found[1] == change.read else None

    def _insert(self, change: Change) -> int | None:
        """The row of a new transaction; None where its id is not new."""
        row = self.next_row
        if change.staged:
            staging = self._get("staging", (change.after.id.bytes, self._store._registered))  # noqa: SLF001
            if staging is None:
                return None
            row = staging[0]
        return row if self._do("insert_transaction", (*mapping.born(change.after), row)) else None

    def _undo(self, change: Change, row: int, lost: Outcome) -> None:
        """Take back what a change did before it lost; the keys it got are taken back where that was noticed."""
        if change.idempotency is not None and not isinstance(lost, IdempotencyTaken):
            self._do("forget_idempotency", (change.after.client, change.idempotency.key))
        if not change.read:
            self._do("delete_transaction", (row,))

    def _claim_idempotency(self, change: Change, row: int) -> Outcome | None:
        claim = change.idempotency
        if claim is None:
            return None
        client = change.after.client
        if self._do("insert_idempotency", (client, claim.key, claim.digest, row)):
            return None
        found = self._get("idempotent", (client, claim.key))
        assert found is not None  # the insert found it, and nobody else writes
        return IdempotencyTaken(UUID(bytes=found[0]), found[1])

    def _losses(self, change: Change, row: int) -> Outcome | None:
        """Keys that a staged message wants and others had, or have taken; whose they are now its stager looks up."""
        if not change.staged:
            return None
        rows: list[Row] = self._db.execute(self._sql["losses"], (row, -1)).fetchall()
        taken = (
            (Key(kind=KeyKind(kind), value=value, payment=payment), change.after.id) for payment, kind, value in rows
        )
        return KeysTaken(tuple(taken)) if rows else None

    def _reserve(self, change: Change, row: int) -> Outcome | None:
        client = change.after.client
        taken: list[tuple[Key, UUID]] = []
        got: list[Key] = []
        for key in change.reserves:
            if self._do("reserve", (client, key.kind, key.value, row, key.payment)):
                got.append(key)
                continue
            holder, payment, holder_id, free, weak = self._holder(client, key)
            if holder == row:
                continue  # held since an earlier step, or named twice in this one
            if payment and (free or weak):
                self._take_over(client, key, row, (holder, payment))
                if weak:
                    self._do("lose", (holder, payment, key.kind, key.value))
                got.append(key)
            else:
                taken.append((key, UUID(bytes=holder_id)))
        if not taken:
            return None
        for key in got:
            self._do("unreserve", (client, key.kind, key.value))
        return KeysTaken(tuple(taken))

    def _holder(self, client: str, key: Key) -> Row:
        """Who holds a key: its row, the payment, its id, and whether that payment was rejected or cancelled."""
        self._flush()
        found = self._get("holder", (client, key.kind, key.value))
        assert found is not None  # the insert found it, and nobody else writes
        return found

    def _take_over(self, client: str, key: Key, row: int, holder: tuple[int, int]) -> None:
        """Take a key whose payment came to nothing; the old holder is still found by it."""
        tx, payment = holder
        self._do("name_key", (client, key.kind, key.value, tx, tx, payment))
        self._do("unreserve", (client, key.kind, key.value))
        self._do("reserve", (client, key.kind, key.value, row, key.payment))

    def _gather(self, change: Change, row: int) -> None:
        after = change.after
        digests = [body.digest for body in change.bodies]
        for event in change.events:
            content = encode(after.id, event, digests)
            digests = []  # the first event of the step is the one that the bodies came with
            previous, self.chain_hash = self.chain_hash, link(self.chain_hash, content)
            self.chain_seq += 1
            self._events.append((self.chain_seq, self._writer, row, event.seq, content, previous, self.chain_hash))
        for body in change.bodies:
            place = row * 2 + (body.kind is BodyKind.OUTBOX)
            content = b"" if body.parts else mapping.compress(body.content)
            self._bodies.append((place, body.definition, body.digest, content))
        self._payments.extend(mapping.paid(row, payment) for payment in change.payments)
        self._names.extend((after.client, key.kind, key.value, row, row, key.payment) for key in change.names)
        at = micros(after.updated_at)
        self._deliveries.extend((row, delivery.channel, delivery.state, at) for delivery in change.deliveries)
        for ordinal, status, reason, note in change.ended:
            self._flush()
            self._do("end_payment", (status, reason, note, row, ordinal))
        if change.ends_all is not None:
            self._flush()
            self._do("end_payments", (*change.ends_all, row))

    def _flush(self) -> None:
        """Write what was gathered, so that what follows in the batch sees it."""
        for name, rows in (
            ("insert_event", self._events),
            ("insert_body", self._bodies),
            ("insert_payment", self._payments),
            ("name_key", self._names),
            ("insert_delivery", self._deliveries),
        ):
            if rows:
                self._db.executemany(self._sql[name], rows)
                rows.clear()

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        self._flush()
        if self._seals:
            self._do("seal", (self._id, mapping.pack_outcomes(outcomes), self.chain_seq, self.chain_hash))
