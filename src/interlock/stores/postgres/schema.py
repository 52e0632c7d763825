"""The database's schema: migrations, and the partitions that it grows by.

Migrations are numbered and only go forward. Processes of the version before go on while a newer one migrates and after
it, for a migration only adds; one that cannot keep to that says from which schema on a process must be
(`-- oldest: N` in its first line), and older processes refuse to start from then on. One process migrates at a time.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg import errors, sql

from interlock.chain import moment
from interlock.errors import ConfigError, StoreUnavailable
from interlock.stores import rows as mapping
from interlock.stores.postgres.connections import Connection, fetch, said
from interlock.stores.statements import Migration, migrations

#: The tables that grow with every transaction, each with the column it is partitioned by.
PARTITIONED = {"transactions": "id", "events": "tx", "bodies": "tx", "payments": "tx", "deliveries": "tx"}
#: Those whose rows change after they were written.
_CHURNED = ("transactions", "deliveries")
#: Keeps two processes from changing the schema at once; the number is ours alone by being random.
_LOCK = 0x1C7E_41B2
#: Partitions are made this long before they are needed.
AHEAD = timedelta(days=7)
_DAY = timedelta(days=1)

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    digest     text NOT NULL,
    -- The oldest schema that a process may know to work with this one.
    oldest     integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


class Partition(NamedTuple):
    """A range of ids, which is a range of time: from `lower` to before `upper`."""

    name: str
    lower: UUID
    upper: UUID

    @property
    def begins(self) -> datetime:
        """The first moment whose transactions are in it."""
        return _time(self.lower)

    @property
    def ends(self) -> datetime:
        """The first moment whose transactions are not in it any more."""
        return _time(self.upper)


def number(connection: Connection) -> int:
    """Of the newest migration that the database has; 0: it has none of ours."""
    if not fetch(connection, "SELECT 1 FROM pg_class WHERE oid = to_regclass('schema_migrations')"):
        return 0
    return int(fetch(connection, "SELECT coalesce(max(number), 0) FROM schema_migrations")[0][0])


def check(connection: Connection) -> None:
    """Raise ConfigError where this program and the database's schema do not fit."""
    known = migrations("postgres")
    present = number(connection)
    if present < known[-1].number:
        raise ConfigError(
            f"store: the database has schema {present}, this Interlock wants {known[-1].number}: "
            "run `interlock db migrate`, or set migrate = auto"
        )
    rows = fetch(connection, "SELECT number, digest, oldest FROM schema_migrations")
    applied = {done: digest for done, digest, _ in rows}
    for migration in known:
        if applied.get(migration.number) != migration.digest:
            raise ConfigError(f"store: migration {migration.number} was applied with another text: a foreign database?")
    oldest = max(oldest for _, _, oldest in rows)
    if oldest > known[-1].number:
        raise ConfigError(
            f"store: the database was migrated to schema {present}, "
            f"which needs an Interlock that knows schema {oldest} or later"
        )


def migrate(connection: Connection) -> tuple[int, int]:
    """Apply what is missing; the schema's number before and after. Raises ConfigError where rights are missing."""
    try:
        with _alone(connection):
            before = number(connection)
            connection.execute(_LEDGER)
            for migration in migrations("postgres"):
                if migration.number > before:
                    _apply(connection, migration)
            return before, number(connection)
    except errors.InsufficientPrivilege as exc:
        raise ConfigError(
            f"store: the user may not create tables: {said(exc)}; "
            "make it the owner of the database, or GRANT CREATE ON SCHEMA public"
        ) from exc


def _apply(connection: Connection, migration: Migration) -> None:
    first = migration.text.split("\n", 1)[0]
    oldest = int(first.removeprefix("-- oldest:")) if first.startswith("-- oldest:") else 0
    with connection.transaction():
        connection.execute(migration.text.encode(), prepare=False)
        connection.execute(
            "INSERT INTO schema_migrations (number, name, digest, oldest) VALUES ($1, $2, $3, $4)",
            (migration.number, migration.name, migration.digest, oldest),
        )


@contextlib.contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    connection.execute("SELECT pg_advisory_lock($1)", (_LOCK,))
    try:
        yield
    finally:
        _unlock(connection)


@contextlib.contextmanager
def _alone_or_not(connection: Connection) -> Iterator[bool]:
    """Whether nobody else changes the schema now; nobody is waited for."""
    alone = fetch(connection, "SELECT pg_try_advisory_lock($1)", (_LOCK,)) == [(True,)]
    try:
        yield alone
    finally:
        if alone:
            _unlock(connection)


def _unlock(connection: Connection) -> None:
    with contextlib.suppress(psycopg.Error):  # it ends with the connection at the latest
        connection.execute("SELECT pg_advisory_unlock($1)", (_LOCK,))


# -- partitions -------------------------------------------------------------------------------------------------------


def _bound(at: datetime) -> UUID:
    return UUID(bytes=mapping.id_bound(at))


def _time(bound: UUID) -> datetime:
    return moment((bound.int >> 80) * 1000)


def partitions(connection: Connection) -> tuple[Partition, ...]:
    """Those that exist, oldest first; the DEFAULT one is not among them."""
    rows = fetch(
        connection,
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'transactions'::regclass",
    )
    # One that is being dropped has no bounds any more.
    found = [_read(name, bounds) for name, bounds in rows if bounds not in ("DEFAULT", None)]
    return tuple(sorted(found, key=lambda partition: partition.lower))


def _read(name: str, bounds: str) -> Partition:
    """`FOR VALUES FROM ('…') TO ('…')`."""
    lower, upper = bounds.split("'")[1::2]
    return Partition(name.removeprefix("transactions_"), UUID(lower), UUID(upper))


def extend(connection: Connection, now: datetime, days: int) -> int:
    """Make the partitions that will be needed soon, each of some days; how many were made. None if others are at it.

    A partition ends where an older one begins, so the number of days may change at any time.
    """
    with _alone_or_not(connection) as alone:
        if not alone:
            return 0
        present = partitions(connection)
        made = 0
        begins = datetime(now.year, now.month, now.day, tzinfo=UTC) - _DAY  # clocks differ a little
        while begins < now + AHEAD:
            covering = next((p for p in present if p.begins <= begins < p.ends), None)
            if covering is not None:
                begins = covering.ends
                continue
            ends = min([begins + days * _DAY, *(p.begins for p in present if p.begins > begins)])
            _make(connection, Partition(f"p{begins:%Y%m%d}", _bound(begins), _bound(ends)))
            made += 1
            begins = ends
        return made


def _make(connection: Connection, partition: Partition) -> None:
    with connection.transaction():
        # Whoever writes waits while this goes on: milliseconds, or we give way.
        connection.execute("SET LOCAL lock_timeout = '2s'")
        # And whoever falls asleep in the midst of it is ended, lest all wait for that.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = '2s'")
        attach(connection, partition)


def attach(connection: Connection, partition: Partition) -> None:
    """Make a partition of every table, with whatever of its rows the DEFAULT partitions hold, in one transaction.

    Raises StoreUnavailable where others hold what it needs.
    """
    try:
        try:
            with connection.transaction():
                for table in PARTITIONED:
                    _attach(connection, table, partition)
        except errors.CheckViolation:  # a DEFAULT partition holds some of its rows
            with connection.transaction():
                # Whoever has chosen the DEFAULT partition to look for a row, and waits for it there, would not find it
                # once it has moved. So nobody may choose meanwhile.
                connection.execute(f"LOCK TABLE {', '.join(f'ONLY {t}' for t in PARTITIONED)} IN ACCESS EXCLUSIVE MODE")
                for table in PARTITIONED:
                    _attach(connection, table, partition, move=True)
    except (errors.LockNotAvailable, errors.DeadlockDetected) as exc:
        raise StoreUnavailable(f"the partition {partition.name} could not be made now: {said(exc)}") from exc


def _attach(connection: Connection, table: str, partition: Partition, *, move: bool = False) -> None:
    """Make one table's partition and make it part of the table. move: rows of the DEFAULT one go into it first."""
    words = {
        "part": sql.Identifier(f"{table}_{partition.name}"),
        "parent": sql.Identifier(table),
        "rest": sql.Identifier(f"{table}_default"),
        "column": sql.Identifier(PARTITIONED[table]),
        "lower": sql.Literal(str(partition.lower)),
        "upper": sql.Literal(str(partition.upper)),
    }
    # As a table of its own first: so the parent is not locked against those who read and write it.
    if not fetch(connection, "SELECT 1 FROM pg_class WHERE oid = to_regclass($1)", (f"{table}_{partition.name}",)):
        make = sql.SQL("CREATE TABLE {part} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)")
        connection.execute(make.format(**words))
    if table in _CHURNED:
        # What is open enters an index and leaves it: dead entries must not pile up where the oldest is looked for.
        often = sql.SQL("ALTER TABLE {part} SET (autovacuum_vacuum_scale_factor = 0.01)")
        connection.execute(often.format(**words))
    if move:
        moved = sql.SQL(
            "WITH gone AS (DELETE FROM {rest} WHERE {column} >= {lower} AND {column} < {upper} RETURNING *) "
            "INSERT INTO {part} SELECT * FROM gone"
        )
        connection.execute(moved.format(**words))
    bound = sql.SQL("ALTER TABLE {parent} ATTACH PARTITION {part} FOR VALUES FROM ({lower}) TO ({upper})")
    connection.execute(bound.format(**words))
