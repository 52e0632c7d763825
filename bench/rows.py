"""The rows that one payment leaves in PostgreSQL, as SQL that writes them again with other ids, as often as wanted.

Rows are not described here a second time. One real transaction goes through Interlock's own parts into the real schema,
and what is then found in the tables becomes a template: what was the transaction's id, UETR, token or time becomes an
expression, all else stays as it is. So the ceilings, and the tables that are filled with millions, stay true when the
schema changes. Only a few columns are known by name: an event's journal and place in its chain, and those that differ
from one transaction of a filled store to the next, so that there is something to look for.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import sql

from bench.ceilings import one_transaction
from bench.message import identities
from interlock.chain import micros
from interlock.config import Config
from interlock.stores.postgres.connections import Connection, fetch, for_bulk
from interlock.stores.rows import compress

#: As long as a client's id.
CLIENT = "c_0123456789abcdef"
#: The tables that a transaction has rows in, in the order in which they are written, and how each names it.
TABLES: Mapping[str, str] = {
    "transactions": "id", "events": "tx", "bodies": "tx", "payments": "tx", "keys": "tx", "deliveries": "tx",
}  # fmt: skip
#: Any time of the sample, in microseconds: this century's first part.
_TIMES = range(1_500_000_000_000_000, 4_000_000_000_000_000)

# Drawn from a number `g`, so that all rows of a transaction agree without being told: a UUIDv7 of the time `at`
# (microseconds) whose last 8 bits are the region, 24 hexadecimal digits, and a UUIDv4. Numbers and not text, for a text
# with a colon would be taken for a variable by pgbench.
_TOP = "(CAST(1 AS bigint) << 63)"
_ID = (
    "CAST(encode(int8send(((at / 1000) << 16) | 28672 | (hashint8extended(g, 1) & 4095)) || "
    f"int8send({_TOP} | (hashint8extended(g, 2) & 4611686018427387648) | {{region}}), 'hex') AS uuid)"
)
_TOKEN = "lpad(to_hex(hashint8extended(g, 3)), 16, '0') || lpad(to_hex(hashint8extended(g, 4) & 4294967295), 8, '0')"  # noqa: S105 - of a message
_UETR = (
    "CAST(CAST(encode(int8send((hashint8extended(g, 5) & -61441) | 16384) || "
    f"int8send({_TOP} | (hashint8extended(g, 6) & 4611686018427387903)), 'hex') AS uuid) AS text)"
)
#: An id's digits, as an event names its transaction.
_HEX = "convert_to(replace(CAST(id AS text), '-', ''), 'UTF8')"

# In a filled store one transaction in a hundred was rejected, but none of one client's, and one in a thousand waits for
# a decision whose deadline is far away. Their history says otherwise; nobody reads it.
_FAILED, _HELD = "s.g / 10 % 100 = 3 AND s.g % 10 <> 9", "s.g / 10 % 1000 = 7"
_FAR_MICROS = 40 * 86_400_000_000
#: By table and column; `{0}` is what the sample has.
_VARIED: Mapping[tuple[str, str], str] = {
    ("transactions", "state"): f"CASE WHEN {_HELD} THEN 'PDNG/decision' ELSE {{0}} END",
    ("transactions", "status"): f"CASE WHEN {_HELD} THEN 'PDNG' WHEN {_FAILED} THEN 'RJCT' ELSE {{0}} END",
    ("transactions", "end"): f"CASE WHEN {_HELD} THEN NULL WHEN {_FAILED} THEN 'RJCT' ELSE {{0}} END",
    ("transactions", "reason"): f"CASE WHEN {_FAILED} THEN 'AC01' ELSE {{0}} END",
    ("transactions", "due_clock"): f"CASE WHEN {_HELD} THEN 'decide' ELSE {{0}} END",
    ("transactions", "due_at"): f"CASE WHEN {_HELD} THEN s.at + {_FAR_MICROS} ELSE {{0}} END",
    ("payments", "status"): f"CASE WHEN {_HELD} THEN 'PDNG' WHEN {_FAILED} THEN 'RJCT' ELSE {{0}} END",
}
#: Stands for a body where room is short.
_SMALL = compress(b"left out")


class Numbers(NamedTuple):
    """Which copies are made: a numbering, and what else differs from the sample."""

    #: A FROM item with a column `g`.
    source: str
    #: Microseconds at which a copy began; may use `g`.
    at: str
    #: The journal that its events are in, and the place of its first one.
    journal: str
    chain: str
    #: Whose every tenth is, nine other clients having the rest, and varied as said above; None: all as the sample is.
    client: str | None = None
    small_bodies: bool = False


class Cost(NamedTuple):
    """What a transaction leaves in a table, or an update does."""

    table: str
    rows: int
    #: As PostgreSQL keeps them, without indexes.
    bytes: int


class Template:
    """A finished transaction's rows."""

    def __init__(self, url: str, folder: Path) -> None:
        """Send one transaction through Interlock into a database, and look what it has left there."""
        identity = identities(1)[0]
        config = Config(data=folder, store=url, log_level="warning")
        transaction = asyncio.run(one_transaction(config, CLIENT, identity))
        self._id = transaction.id
        self._identity = identity
        self._born = micros(transaction.created_at)
        self._region = transaction.region
        with contextlib.closing(for_bulk(url)) as connection:
            self._columns = {table: _columns(connection, table) for table in TABLES}
            self._rows = {table: self._read(connection, table) for table in TABLES}
            self.costs = [self._cost(connection, table) for table in TABLES]
            self.writer = int(fetch(connection, "SELECT max(writer) FROM journals")[0][0])
        self.events = len(self._rows["events"])

    def _read(self, connection: Connection, table: str) -> list[tuple[Any, ...]]:
        name = TABLES[table]
        names = ", ".join(_quoted(column) for column in self._columns[table])
        rows = fetch(connection, f"SELECT {names} FROM {table} WHERE {name} = $1", (self._id,))  # noqa: S608 - ours
        if not rows:
            raise RuntimeError(f"the sample has no rows in {table}: the store has them in a way not known here")
        return rows

    def _cost(self, connection: Connection, table: str) -> Cost:
        found = fetch(
            connection,
            f"SELECT count(*), sum(pg_column_size(t.*)) FROM {table} t WHERE {TABLES[table]} = $1",  # noqa: S608 - ours
            (self._id,),
        )
        return Cost(table, *map(int, found[0]))

    def columns(self, table: str) -> str:
        """Its columns, for INSERT and COPY."""
        return ", ".join(_quoted(column) for column in self._columns[table])

    def select(self, table: str, numbers: Numbers) -> str:
        """A SELECT of the copies' rows for a table, its columns in the order of `columns`."""
        named = (
            f"SELECT g, at, {_ID.format(region=self._region)} AS id, {_TOKEN} AS token, {_UETR} AS uetr "  # noqa: S608 - numbers of ours
            f"FROM (SELECT g, {numbers.at} AS at FROM {numbers.source}) AS n OFFSET 0"
        )
        # OFFSET 0: each is computed once, however often it is used.
        made = f"SELECT *, {_HEX} AS hex, {_whose(numbers.client or CLIENT)} AS client FROM ({named}) AS m OFFSET 0"  # noqa: S608 - likewise
        rows = ", ".join(
            f"({', '.join(self._cells(table, place, row, numbers))})" for place, row in enumerate(self._rows[table])
        )
        return f"SELECT v.* FROM ({made}) AS s CROSS JOIN LATERAL (VALUES {rows}) AS v"  # noqa: S608 - likewise

    def _cells(self, table: str, place: int, row: Sequence[Any], numbers: Numbers) -> Iterator[str]:
        for (name, kind), value in zip(self._columns[table].items(), row, strict=True):
            same = self._cell(value)
            if (table, name) == ("events", "journal"):
                same = numbers.journal
            elif (table, name) == ("events", "chain_seq"):
                same = f"{numbers.chain} + {place}"
            elif (table, name) == ("bodies", "content") and numbers.small_bodies:
                same = _literal(_SMALL)
            elif numbers.client is not None and name == "client":
                same = "s.client"
            elif numbers.client is not None:
                same = _VARIED.get((table, name), "{0}").format(same)
            yield f"CAST({same} AS {kind})"

    def _cell(self, value: Any) -> str:
        """What takes the value's place in a copy."""
        match value:
            case UUID() if value == self._id:
                return "s.id"
            case int() if value in _TIMES:
                return f"s.at + ({value - self._born})"
            case bytes():
                # An event's content names its transaction.
                parts = value.split(self._id.hex.encode())
                return " || s.hex || ".join(map(_literal, parts))
            case str():
                return self._text(value)
            case _:
                return _literal(value)

    def _text(self, value: str) -> str:
        token, uetr = (name.decode() for name in self._identity)
        for name, expression in (
            (token, "s.token"),
            (uetr, "s.uetr"),
            (str(self._id), "CAST(s.id AS text)"),
            (self._id.hex, "convert_from(s.hex, 'UTF8')"),
        ):
            if name in value:
                return f" || {expression} || ".join(map(_literal, value.split(name)))
        return _literal(value)


def spotless(client: str) -> str:
    """The client of a filled store who has no rejected transaction, by the first one's id."""
    return f"{_others(client)}9"


def _others(client: str) -> str:
    return client[:-2] + "_"


def _whose(client: str) -> str:
    return f"CASE g % 10 WHEN 0 THEN {_literal(client)} ELSE {_literal(_others(client))} || g % 10 END"


def _columns(connection: Connection, table: str) -> dict[str, str]:
    """Names and types, in order."""
    return dict(
        fetch(
            connection,
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (table,),
        )
    )


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _literal(value: Any) -> str:
    """A constant; bytes without a cast of their own, and text with a colon as bytes (see above)."""
    if isinstance(value, bytes):
        return f"decode('{value.hex()}', 'hex')"
    if isinstance(value, str) and (":" in value or "\\" in value or "\n" in value):
        return f"convert_from({_literal(value.encode())}, 'UTF8')"
    if isinstance(value, UUID):
        return f"CAST('{value}' AS uuid)"
    return sql.Literal(value).as_string().strip()
