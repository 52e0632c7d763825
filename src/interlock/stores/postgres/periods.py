"""Periods in PostgreSQL: a range of ids, which is the same partition of five tables and the keys that name its rows.

How a period goes without anybody noticing:

    free      keys of payments that came to nothing are given back. They were free before, by what the payment said;
              from here on no key of the period changes any more
    extract   one snapshot, read by the partitions' own names
    drop      one transaction. What takes long comes first: names are deleted, gaps are noted. Then the partitions are
              held against writers, what they come to is compared with what the archive has, and they are dropped

To drop a partition PostgreSQL locks the whole table for a moment. Whoever waits for such a lock makes all wait who come
after; so we wait for a fraction of a second, let everybody through, and try again.

Owns: the SQL of periods. Must not know: how long anything is kept, nor where archives are.
"""

import contextlib
import random
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg import errors, sql

from interlock.chain import Head, micros, moment
from interlock.errors import ConfigError, ConflictError, RequestError, StoreUnavailable
from interlock.ports import ArchivedPeriod, Extract, Fingerprint, Marks, Period, Rows, Run, Tally, Value, digest
from interlock.stores import rows as mapping
from interlock.stores.postgres import schema
from interlock.stores.postgres.arrays import Bytes, Column, Ids, Integers, Texts, columns
from interlock.stores.postgres.connections import Connection, fetch, for_bulk, said, translated
from interlock.stores.postgres.schema import PARTITIONED, Partition
from interlock.stores.postgres.tally import journal_name, tally
from interlock.stores.statements import queries

#: Who archives, restores or drops holds this advisory lock; the number is ours alone by being random.
_LOCK = 0x51D3_9A6E
#: How long we wait for a lock that others wait behind, how often we try, and the longest pause between two tries.
_LOCK_TIMEOUT = "250ms"
_TRIES, _PAUSE_SECONDS = 40, 0.5
#: Keys deleted or restored together.
_BATCH = 5_000
_DAY = timedelta(days=1)

#: Beside the partitions: what names their rows.
_NAMES = ("keys", "idempotency")
#: The same rows always come in the same order. Events come as their chains run, so that these can be followed.
_ORDER = {
    "transactions": "id",
    "events": "writer, journal, chain_seq",
    "bodies": "tx, kind, writer",
    "payments": "tx, ordinal, region",
    "deliveries": 'tx, channel COLLATE "C", region',
    "keys": 'tx, client COLLATE "C", kind COLLATE "C", value, freed, region',
    "idempotency": 'tx, client COLLATE "C", key, region',
}
_BYTEA, _INT8, _INT4, _UUID = 17, 20, 23, 2950
#: Types that an archive can hold, by PostgreSQL's numbers: boolean, bytea, bigint, smallint, integer, text, double
#: precision, and uuid, which goes as its bytes.
_ARCHIVABLE = frozenset({16, _BYTEA, _INT8, 21, _INT4, 25, 701, _UUID})
_RUN = (_INT4, _INT4, _INT8, _INT8, _BYTEA, _BYTEA)
#: What of the names is put back, as their statements want it.
_KEYS = {"client": Texts, "kind": Texts, "value": Texts, "region": Integers, "tx": Ids, "payment": Integers}
_IDEMPOTENCY = {"client": Texts, "key": Texts, "region": Integers, "digest": Bytes, "tx": Ids}

_fingerprint_of = msgspec.json.Decoder(Fingerprint).decode
_encoded = msgspec.json.Encoder().encode


class _Changed(Exception):
    """What is to be dropped is not what was archived; unwinds the transaction."""


class _Column(NamedTuple):
    name: str
    type: int
    #: It must have a value, and has none by itself.
    required: bool


class PostgresPeriods:
    """`interlock.ports.Periods` over one database."""

    def __init__(self, url: str) -> None:
        """Connects when it is first used. Raises ConfigError then where the schema is not this program's."""
        self._url = url
        self._sql = queries("postgres", "periods.sql")
        self._connection: Connection | None = None

    def _get(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = for_bulk(self._url)
            try:
                with _told():
                    schema.check(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- what there is --

    @property
    def region(self) -> int:
        with _told():
            return int(fetch(self._get(), "SELECT number FROM region")[0][0])

    @property
    def schema(self) -> int:
        with _told():
            return schema.number(self._get())

    def clock(self) -> datetime:
        with _told():
            return moment(fetch(self._get(), queries("postgres")["clock"])[0][0])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with _told():
            ((alone,),) = fetch(self._get(), self._sql["alone"], (_LOCK,))
        if not alone:
            raise ConflictError("another process archives, restores or drops just now; let it finish")
        try:
            yield
        finally:
            # Where the connection is lost so is the lock.
            if self._connection is not None and not self._connection.closed:
                with contextlib.suppress(StoreUnavailable), _told():
                    self._connection.execute(self._sql["not_alone"], (_LOCK,))

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        with contextlib.closing(for_bulk(self._url)) as connection:
            with _told():
                connection.execute(self._sql["undisturbed"], (_LOCK,))
            yield
            # The end of a connection would do, but nobody waits for that.
            with contextlib.suppress(psycopg.Error):
                connection.execute(self._sql["not_undisturbed"], (_LOCK,))

    def prepare(self, before: datetime) -> None:
        with _told():
            connection = self._get()
            bound = UUID(bytes=mapping.id_bound(before))
            while strays := fetch(connection, self._sql["stray"], (bound,)):
                place = self._place(strays[0][0])
                self._patiently(connection, partial(schema.attach, connection, place))

    def _place(self, stray: UUID) -> Partition:
        """The day of a row that has no partition, as far as there is none."""
        at = Partition("", stray, stray).begins
        midnight = datetime(at.year, at.month, at.day, tzinfo=UTC)
        present = schema.partitions(self._get())
        lower = max([_bound(midnight), *(p.upper for p in present if p.upper <= stray)])
        upper = min([_bound(midnight + _DAY), *(p.lower for p in present if p.lower > stray)])
        return Partition(f"p{midnight:%Y%m%d}", lower, upper)

    def present(self) -> tuple[Period, ...]:
        with _told():
            found = schema.partitions(self._get())
        return tuple(Period(p.name, p.lower, p.upper, p.begins, p.ends) for p in found)

    def open(self, period: Period) -> int:
        return int(self._ask("open", period)[0][0])

    def follows(self, period: Period, routes: Collection[str], *, among: bool) -> str | None:
        rows = self._ask("follows", period, list(routes), among)
        return str(rows[0][0]) if rows else None

    def _ask(self, name: str, period: Period, *bindings: Any) -> list[tuple[Any, ...]]:
        connection = self._get()
        with _told(), _gone(period):
            return fetch(connection, self._statement(connection, name, period), bindings)

    def _statement(self, connection: Connection, name: str, period: Period) -> str:
        """A statement on a period's own tables."""
        words: dict[str, sql.Composable] = {table: _own(table, period) for table in PARTITIONED}
        words["lower"], words["upper"] = sql.Literal(str(period.lower)), sql.Literal(str(period.upper))
        return sql.SQL(self._sql[name]).format(**words).as_string(connection)

    # -- reading a period --

    def free(self, period: Period) -> None:
        with _told(), _gone(period):
            connection = self._get()
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '2s'")
                connection.execute(self._statement(connection, "free_keys", period))

    @contextlib.contextmanager
    def extract(self, period: Period) -> Iterator[Extract]:
        # A connection of its own: whoever breaks off in the middle of a table just drops it.
        with contextlib.closing(for_bulk(self._url)) as connection, contextlib.ExitStack() as opened, _told():
            with _gone(period):
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                fingerprint, journals = self._fingerprint(connection, period)
                heads = fetch(connection, queries("postgres")["heads"])
            yield Extract(
                fingerprint=fingerprint,
                journals=tuple(journals.values()),
                heads=tuple(
                    Head(journal_name(writer, journal), seq, hash_) for _, writer, journal, seq, hash_ in heads
                ),
                tables=self._tables(connection, period, opened),
            )

    def _tables(self, connection: Connection, period: Period, opened: contextlib.ExitStack) -> Iterator[Rows]:
        for table in (*PARTITIONED, *_NAMES):
            present = self._columns(connection, table)
            wanted = ", ".join(
                sql.SQL("uuid_send({})" if column.type == _UUID else "{}")
                .format(sql.Identifier(column.name))
                .as_string(connection)
                for column in present
            )
            if table in PARTITIONED:
                source = _own(table, period).as_string(connection)
            else:
                source = f"{table} WHERE tx >= '{period.lower}' AND tx < '{period.upper}'"
            types = [_BYTEA if column.type == _UUID else column.type for column in present]
            statement = f"SELECT {wanted} FROM {source} ORDER BY {_ORDER[table]}"  # noqa: S608 - names, and two UUIDs
            rows = _stream(connection, statement, types)
            opened.callback(_abandon, rows)
            yield Rows(table, tuple(column.name for column in present), rows)

    def _columns(self, connection: Connection, table: str) -> list[_Column]:
        found = [_Column(*row) for row in fetch(connection, self._sql["columns"], (table,))]
        strange = [column.name for column in found if column.type not in _ARCHIVABLE]
        assert not strange, (
            f"{table} has columns of types that an archive cannot hold: {strange}"
        )  # a migration of ours
        return found

    def _fingerprint(self, connection: Connection, period: Period) -> tuple[Fingerprint, dict[str, tuple[Run, int]]]:
        """What a period comes to, and how the events of each journal in it begin and end."""
        journals: dict[str, tuple[Run, int]] = {}

        def watched() -> Iterator[Run]:
            for row in _stream(connection, self._statement(connection, "runs", period), _RUN):
                run = _run(*row)
                first, number = journals.get(run.journal, (run, 0))
                journals[run.journal] = first._replace(last=run.last, hash=run.hash), number + 1
                yield run

        marks = self._marks(connection, period)
        ((events, bodies, payments),) = fetch(connection, self._statement(connection, "counts", period))
        runs = digest(watched())
        return Fingerprint(marks=marks, events=events, bodies=bodies, payments=payments, runs=runs), journals

    def _marks(self, connection: Connection, period: Period) -> Marks:
        ((number, without_end, versions, updated_at),) = fetch(
            connection, self._statement(connection, "transaction_marks", period)
        )
        deliveries = fetch(connection, self._statement(connection, "delivery_marks", period))
        return Marks(
            transactions=number,
            open=without_end,
            versions=int(versions),
            updated_at=updated_at,
            deliveries=tuple((state, count, int(times)) for state, count, times in deliveries),
        )

    def tally(self, tables: Iterable[Rows]) -> Tally:
        return tally(tables)

    # -- going --

    def drop(self, period: Period, archive: ArchivedPeriod | None) -> bool:
        connection = self._get()
        with contextlib.suppress(_Changed), _told(), _gone(period), connection.transaction():
            # Rows of names are held from here on: not for as long as we may sleep.
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10s'")
            if archive is not None:
                self._note(connection, period, archive)
            marks = _NOTHING if archive is None else archive.fingerprint.marks
            # Looked at without a lock first, so that it is known to be quick with one.
            _must_equal(self._marks(connection, period), marks)
            self._patiently(connection, partial(self._drop, connection, period, marks))
            return True
        return False

    def _note(self, connection: Connection, period: Period, archive: ArchivedPeriod) -> None:
        """What is left of a period: its archive's name, and how its events were linked."""
        bounds = (archive.lower, archive.upper)
        fingerprint = _encoded(archive.fingerprint).decode()
        values = (archive.name, *bounds, archive.digest, fingerprint, micros(archive.archived_at))
        if not connection.execute(self._sql["insert_archive"], values).rowcount:
            raise ConflictError(f"{archive.name} has rows that are nowhere else, and must not be replaced")
        connection.execute(self._sql["delete_former"], bounds)
        runs = self._statement(connection, "runs", period)
        try:
            connection.execute(
                "INSERT INTO gaps (writer, journal, first_seq, last_seq, previous, hash, archive) "  # noqa: S608
                f"SELECT writer, journal, first_seq, last_seq, previous, hash, $1 FROM ({runs}) r",
                (archive.name,),
            )
        except errors.UniqueViolation as exc:
            raise ConflictError(f"events of {period.name} were archived before: {said(exc)}") from exc
        if digest(self._gaps(connection, archive.name)) != archive.fingerprint.runs:
            raise _Changed
        connection.execute(self._sql["delete_names"], bounds)
        connection.execute(self._sql["delete_idempotency"], bounds)

    def _drop(self, connection: Connection, period: Period, marks: Marks) -> None:
        connection.execute(self._statement(connection, "hold", period))
        _must_equal(self._marks(connection, period), marks)
        connection.execute(self._statement(connection, "drop", period))

    def _patiently(self, connection: Connection, take: Callable[[], None]) -> None:
        """Take locks that others wait behind, all or none, without making them wait long.

        Raises StoreUnavailable where somebody does not let go for long.
        """
        for attempt in range(_TRIES):
            try:
                with connection.transaction():
                    connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                    # And whoever falls asleep in the midst of it is ended, lest all wait for that.
                    connection.execute("SET LOCAL idle_in_transaction_session_timeout = '2s'")
                    take()
            except (errors.LockNotAvailable, errors.DeadlockDetected, StoreUnavailable) as exc:
                if attempt == _TRIES - 1:
                    raise StoreUnavailable(
                        f"somebody works on the tables and does not let go (a backup, a report?): {said(exc)}"
                    ) from exc
                time.sleep(random.uniform(0.1, 1) * _PAUSE_SECONDS)  # noqa: S311 - no secret
            else:
                return

    # -- coming back --

    def restore(self, archive: ArchivedPeriod, tables: Iterable[Rows], at: datetime) -> None:
        place = Partition(f"p{Partition('', archive.lower, archive.upper).begins:%Y%m%d}", archive.lower, archive.upper)
        period = Period(place.name, place.lower, place.upper, place.begins, place.ends)
        for other in self.present():
            if other.lower < period.upper and period.lower < other.upper:
                raise ConflictError(
                    f"{archive.name} cannot be restored: the database has transactions of its time, "
                    f"in the partition {other.name}"
                )
        connection = self._get()
        with _told(), connection.transaction():
            self._make(connection, place)
            came = [self._load(connection, period, rows) for rows in tables]
            if missing := {*PARTITIONED, *_NAMES}.difference(came):
                raise RequestError(f"{archive.name} cannot be restored: it has no {', '.join(sorted(missing))}")
            found, _ = self._fingerprint(connection, period)
            if found != archive.fingerprint:
                raise RequestError(
                    f"{archive.name} cannot be restored: its rows come to {found}, "
                    f"and when they were dropped it was {archive.fingerprint}"
                )
            connection.execute(self._sql["delete_gaps"], (archive.name,))
            if connection.execute(self._sql["note_restored"], (archive.name, micros(at))).rowcount != 1:
                raise ConflictError(f"{archive.name} is restored already")
            self._patiently(connection, partial(schema.attach, connection, place))
            for table in PARTITIONED:
                connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT of_its_time").format(_own(table, period)))

    def _make(self, connection: Connection, place: Partition) -> None:
        """Tables for the rows that nobody sees yet.

        They have all that a partition must have, so that nothing is read, checked or built while others wait.
        """
        make = sql.SQL(
            "CREATE TABLE {part} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES "
            "INCLUDING STORAGE, CONSTRAINT of_its_time CHECK ({column} >= {lower} AND {column} < {upper}))"
        )
        for table, column in PARTITIONED.items():
            try:
                connection.execute(
                    make.format(
                        part=_own(table, place),
                        parent=sql.Identifier(table),
                        column=sql.Identifier(column),
                        lower=sql.Literal(str(place.lower)),
                        upper=sql.Literal(str(place.upper)),
                    )
                )
            except errors.DuplicateTable as exc:
                raise ConflictError(f"the database has a table {table}_{place.name} that is no partition") from exc

    def _load(self, connection: Connection, period: Period, rows: Rows) -> str:
        """Load one table of an archive; its name."""
        match rows.table:
            case "keys":
                self._insert(connection, "restore_keys", _KEYS, rows)
            case "idempotency":
                self._insert(connection, "restore_idempotency", _IDEMPOTENCY, rows)
            case table if table in PARTITIONED:
                self._copy(connection, period, rows)
            case table:
                raise RequestError(f"it cannot be restored: this Interlock knows of no {table}")
        return rows.table

    def _insert(self, connection: Connection, name: str, wanted: Mapping[str, type[Column]], rows: Rows) -> None:
        self._fit(connection, rows)
        places = [rows.columns.index(column) for column in wanted]
        values = ([row[place] for place in places] for row in rows.rows)
        while batch := list(islice(values, _BATCH)):
            connection.execute(self._sql[name], columns(tuple(wanted.values()), batch))

    def _copy(self, connection: Connection, period: Period, rows: Rows) -> None:
        types = self._fit(connection, rows)
        ids = [place for place, type_ in enumerate(types) if type_ == _UUID]
        into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            _own(rows.table, period), sql.SQL(", ").join(map(sql.Identifier, rows.columns))
        )
        with connection.cursor() as cursor, cursor.copy(into) as copy:
            copy.set_types(types)
            for row in rows.rows:
                copy.write_row(_with_ids(row, ids))

    def _fit(self, connection: Connection, rows: Rows) -> list[int]:
        """The types of the columns that an archive has, once they are known to be enough for the table.

        Raises RequestError.
        """
        present = {column.name: column for column in self._columns(connection, rows.table)}
        where = f"it cannot be restored: the archive's {rows.table}"
        if unknown := [column for column in rows.columns if column not in present]:
            raise RequestError(f"{where} has columns that the database has not: {', '.join(unknown)}")
        if missing := [c.name for c in present.values() if c.required and c.name not in rows.columns]:
            raise RequestError(f"{where} lacks columns that the database must have: {', '.join(missing)}")
        return [present[column].type for column in rows.columns]

    # -- archives and keys --

    def archives(self) -> tuple[ArchivedPeriod, ...]:
        with _told():
            rows = fetch(self._get(), self._sql["archives"])
        return tuple(
            ArchivedPeriod(
                name=name,
                lower=lower,
                upper=upper,
                digest=digest_,
                fingerprint=_fingerprint_of(fingerprint),
                archived_at=moment(archived),
                restored_at=None if restored is None else moment(restored),
            )
            for name, lower, upper, digest_, fingerprint, archived, restored in rows
        )

    def gaps(self, archive: str) -> Iterator[Run]:
        with contextlib.closing(for_bulk(self._url)) as connection, _told():
            yield from self._gaps(connection, archive)

    def _gaps(self, connection: Connection, archive: str) -> Iterator[Run]:
        statement = sql.SQL(self._sql["gaps_of"]).format(archive=sql.Literal(archive)).as_string(connection)
        for row in _stream(connection, statement, _RUN):
            yield _run(*row)

    def forget_keys(self, before: datetime, at: datetime) -> int:
        forgotten = 0
        with _told():
            connection = self._get()
            for name, lower, upper in fetch(connection, self._sql["forgettable"], (_bound(before),)):
                while deleted := connection.execute(self._sql["forget_keys"], (lower, upper, _BATCH)).rowcount:
                    forgotten += deleted
                connection.execute(self._sql["note_forgotten"], (name, micros(at)))
        return forgotten


_NOTHING = Marks(transactions=0, open=0, versions=0, updated_at=0, deliveries=())


def _must_equal(found: Marks, marks: Marks) -> None:
    if found != marks:
        raise _Changed


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turns what the driver says into our own words."""
    try:
        with translated():
            yield
    except errors.InsufficientPrivilege as exc:
        raise ConfigError(f"store: only the owner of the tables can archive: {said(exc)}") from exc


@contextlib.contextmanager
def _gone(period: Period) -> Iterator[None]:
    """Tells of a period that somebody else has dropped meanwhile."""
    try:
        yield
    except errors.UndefinedTable as exc:
        raise ConflictError(f"the period {period.name} is not in the database any more: {said(exc)}") from exc


def _stream(connection: Connection, statement: str, types: Sequence[int]) -> Generator[Any]:
    """The rows of a statement as they come. Nothing else may be asked of the connection until they have ended."""
    with connection.cursor() as cursor, cursor.copy(f"COPY ({statement}) TO STDOUT (FORMAT BINARY)") as copy:
        copy.set_types(types)
        yield from copy.rows()


def _abandon(rows: Generator[Any]) -> None:
    """End a table that may not have been walked to its end; why it was not is what matters."""
    with contextlib.suppress(psycopg.Error):
        rows.close()


def _own(table: str, period: Period | Partition) -> sql.Identifier:
    """The partition of a table that a period is."""
    return sql.Identifier(f"{table}_{period.name}")


def _bound(at: datetime) -> UUID:
    return UUID(bytes=mapping.id_bound(at))


def _with_ids(row: Sequence[Value], places: Sequence[int]) -> Sequence[Any]:
    values: list[Any] = list(row)
    for place in places:
        if values[place] is not None:
            values[place] = UUID(bytes=values[place])
    return values


def _run(writer: int, journal: int, first: int, last: int, previous: bytes, hash_: bytes) -> Run:
    return Run(journal_name(writer, journal), first, last, previous, hash_)
