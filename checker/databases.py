"""Every region's database, read by SQL alone: one snapshot each, all of them open until all are compared."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import IsolationLevel, sql

from checker.evidence import Body, Database, Event, Key, Payment, Span, Takeover, Transaction

#: What every region must have the same of, and what its rows are known by. All else is a region's own.
REPLICATED: Mapping[str, Sequence[str]] = {
    "transactions": ("id", "region"),
    "events": ("tx", "seq", "epoch", "writer"),
    "bodies": ("tx", "kind", "writer", "seq"),
    "payments": ("tx", "ordinal", "region"),
    "deliveries": ("tx", "channel", "region"),
    "keys": ("client", "kind", "value", "freed", "region"),
    "idempotency": ("client", "key", "region"),
    "clients": ("id", "region"),
    "signing_keys": ("id", "region"),
    "controls": ("seq", "region"),
    "takeovers": ("home", "generation", "region"),
}
#: Which of a region's processes has a row in hand says nothing elsewhere.
_LOCAL_COLUMNS = ["claim"]

_TRANSACTIONS = """
    SELECT id, client, region, epoch, version, route, state, status, "end", due_at, definition, payments, digest,
        answer_due, answer_digest, attempt, redrive_of
    FROM transactions ORDER BY id, region
"""
_EVENTS = "SELECT tx, seq, writer, journal, chain_seq, content, previous, hash FROM events"
#: Where a payment has no status of its own it has its transaction's.
_PAYMENTS = """
    SELECT p.tx, p.ordinal, p.region, p.end_to_end_id, p.uetr, coalesce(p.status, t.status, '') AS status
    FROM payments p LEFT JOIN transactions t ON t.id = p.tx AND t.region = p.region
"""
#: Parts of long ones are left out: what counts is the digest of the whole.
_BODIES = "SELECT tx, kind, writer, seq, digest FROM bodies WHERE kind < 2"
_TAKEOVERS = "SELECT home, generation, region, begun_at, completed_at FROM takeovers"
#: Those that only find are not reserved, so many transactions may have them.
_KEYS = """
    SELECT client, kind, value, region, tx, payment FROM keys WHERE freed = '00000000-0000-0000-0000-000000000000'
"""
_HEADS = """
    SELECT writer, journal, chain_seq AS first, chain_seq AS last, chain_hash AS previous, chain_hash AS hash
    FROM journals
"""
_GAPS = "SELECT writer, journal, first_seq AS first, last_seq AS last, previous, hash FROM gaps"

#: Rows as JSON, whose columns PostgreSQL puts in an order of its own: two regions may have got theirs in another one.
_DIGESTS = """
    SELECT {key} AS key, sha256(convert_to((to_jsonb(r) - {local}::text[])::text, 'UTF8')) AS digest FROM {table} r
"""
_DIGEST = """
    SELECT count(*) || ' rows, ' || encode(sha256(coalesce(string_agg(digest, ''::bytea ORDER BY digest), '')), 'hex')
    FROM ({digests}) AS d
"""

Connection = psycopg.Connection[tuple[Any, ...]]


def read(urls: Mapping[str, str], local: Sequence[str] = ()) -> tuple[Database, ...]:
    """The databases, by name of their region. local: tables that regions need not have the same of.

    Raises psycopg.Error.
    """
    tables = [table for table in REPLICATED if table not in local]
    with ExitStack() as stack:
        connections = {name: stack.enter_context(_connect(url)) for name, url in urls.items()}
        # Regions have most events in common: each is kept once.
        shared: dict[Any, Event] = {}
        databases = [_read(name, connection, shared, tables) for name, connection in connections.items()]
        differing = [table for table in tables if len({database.tables[table] for database in databases}) > 1]
        return tuple(
            replace(database, rows={table: _rows(connections[database.name], table) for table in differing})
            for database in databases
        )


def _connect(url: str) -> Connection:
    connection = psycopg.connect(url, options="-c TimeZone=UTC -c bytea_output=hex -c extra_float_digits=1")
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    return connection


def _read(name: str, connection: Connection, shared: dict[Any, Event], tables: Sequence[str]) -> Database:
    ((number,),) = connection.execute("SELECT number FROM region").fetchall()
    return Database(
        name=name,
        number=number,
        transactions=tuple(Transaction(**row) for row in _named(connection, _TRANSACTIONS)),
        events=tuple(_event(row, shared) for row in _plain(connection, _EVENTS)),
        payments=tuple(Payment(**row) for row in _named(connection, _PAYMENTS)),
        bodies=tuple(Body(**row) for row in _named(connection, _BODIES)),
        takeovers=tuple(Takeover(**row) for row in _named(connection, _TAKEOVERS)),
        keys=tuple(Key(**row) for row in _named(connection, _KEYS)),
        heads=tuple(Span(**row) for row in _named(connection, _HEADS)),
        gaps=tuple(Span(**row) for row in _named(connection, _GAPS)),
        tables={table: _digest(connection, table) for table in tables},
    )


def _plain(connection: Connection, query: str) -> Iterator[tuple[Any, ...]]:
    with connection.cursor(binary=True) as cursor:
        yield from cursor.execute(query.encode())


def _named(connection: Connection, query: str) -> Iterator[dict[str, Any]]:
    with connection.cursor(binary=True) as cursor:
        cursor.execute(query.encode())
        columns = [column.name for column in cursor.description or ()]
        for row in cursor:
            yield dict(zip(columns, row, strict=True))


def _event(row: tuple[Any, ...], shared: dict[Any, Event]) -> Event:
    known = shared.get(row)
    if known is None:
        known = shared[row] = Event.read(*row)
    return known


def _digests(table: str) -> sql.Composed:
    key = sql.SQL(" || ', ' || ").join(
        sql.SQL("{} || {}::text").format(f"{column} ", sql.Identifier("r", column)) for column in REPLICATED[table]
    )
    return sql.SQL(_DIGESTS).format(key=key, local=_LOCAL_COLUMNS, table=sql.Identifier(table))


def _digest(connection: Connection, table: str) -> str:
    ((digest,),) = connection.execute(sql.SQL(_DIGEST).format(digests=_digests(table))).fetchall()
    return str(digest)


def _rows(connection: Connection, table: str) -> dict[str, str]:
    return {key: digest.hex() for key, digest in connection.execute(_digests(table))}
