"""Whether two regions hold the same: each region's rows at the one and at the other, while both go on.

    digests   of every table and day, at the home first. Then we wait until the other has everything up to there on its
              disk, and take its own. Equal digests of a day: equal rows
    rows      of a day that differs, key by key, both sides streamed in one order: memory does not grow with the tables
    again     rows that differ may only have changed in between. They are read at the home, at the other and at the home
              again: a difference is one only where the home's row has not moved meanwhile

What is in an archive at either side is left out: the other may still have it, or have dropped it earlier.

Owns: what a difference is. Must not know: why there is one.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from interlock.errors import ConfigError, StoreUnavailable
from interlock.stores.postgres import publications
from interlock.stores.postgres.connections import Connection, fetch, for_bulk, said, translated
from interlock.stores.postgres.publications import TABLES, Published
from interlock.stores.postgres.schema import PARTITIONED
from interlock.stores.postgres.sites import PeerSettings
from interlock.stores.postgres.subscriptions import slot
from interlock.stores.statements import queries

#: Tables whose rows are of a transaction, with the column that says of which: its id begins with its time.
_OF_TIME = {**PARTITIONED, "keys": "tx", "idempotency": "tx"}
_DAY_MILLISECONDS = 86_400_000
#: The same text for the same value, whatever a server's own settings are.
_FORMATS = {"bytea_output": "hex", "extra_float_digits": "1", "datestyle": "ISO", "timezone": "UTC"}
_POLL_SECONDS = 0.02
#: How often a row that changes is looked at again, and after what pause.
_ROUNDS, _PAUSE_SECONDS = 20, 0.1
#: Rows of one table and day that are looked at again together; a day that has more is told as a whole.
_ROWS_MAX = 1_000


class Difference(NamedTuple):
    """A row that two regions do not both hold as it is."""

    #: Whose row it is.
    region: int
    table: str
    #: Names of the key's columns, and their values as PostgreSQL writes a row.
    columns: str
    key: str
    what: str

    def __str__(self) -> str:
        """In a line."""
        return f"region {self.region}, {self.table} ({self.columns}) = {self.key}: {self.what}"


class Compared(NamedTuple):
    """What was compared."""

    tables: int
    rows: int
    differences: int


class Side(NamedTuple):
    """One of the two databases."""

    number: int
    url: str
    connection: Connection

    def digests(self, part: "_Part") -> dict[int, tuple[int, int, int]]:
        """By day: number of rows, and what they come to."""
        rows = fetch(self.connection, part.statement("digests").as_string(self.connection))
        return {day: (number, one, other) for day, number, one, other in rows}

    def rows(self, part: "_Part", day: int) -> Generator[tuple[str, str]]:
        """Key and digest of each row of a day, by key. Nothing else may be asked of the side meanwhile."""
        statement = part.statement("rows_of_day", day).as_string(self.connection)
        with self.connection.cursor() as cursor, cursor.copy(f"COPY ({statement.rstrip(';')}) TO STDOUT") as copy:
            copy.set_types(["text", "text"])
            yield from copy.rows()

    def again(self, part: "_Part", day: int, keys: Sequence[str]) -> dict[str, str]:
        """Digests of some rows of a day by key, as they are now."""
        statement = part.statement("rows_by_key", day).as_string(self.connection)
        return dict(fetch(self.connection, statement, (list(keys),)))

    def position(self) -> int:
        """Up to where its log is on disk."""
        return int(fetch(self.connection, "SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint")[0][0])

    def flushed(self, subscriber: int) -> int:
        """How far a subscriber has it on its disk; -1: it does not follow."""
        rows = fetch(self.connection, queries("postgres", "replication.sql")["slot"], (slot(self.number, subscriber),))
        return -1 if not rows or rows[0][1] is None else int(rows[0][1])


class _Part(NamedTuple):
    """A region's rows of one table."""

    table: Published
    region: int
    columns: Sequence[str]
    key: Sequence[str]
    #: Ranges of ids that are left out.
    archived: Sequence[tuple[UUID, UUID]]

    def statement(self, name: str, day: int | None = None) -> sql.Composed:
        column = _OF_TIME.get(self.table.name)
        rows = self.table.belongs(self.region)
        words: dict[str, sql.Composable] = {
            "table": sql.Identifier(self.table.name),
            "key": sql.SQL('ROW({})::text COLLATE "C"').format(_listed(self.key)),
            "hash": sql.SQL("encode(sha256(convert_to(ROW({})::text, 'UTF8')), 'hex')").format(_listed(self.columns)),
            "day": sql.SQL("0"),
            "of_day": sql.SQL("true"),
            "rows": sql.SQL(f"({rows})"),
        }
        if column is not None:
            words["day"] = sql.SQL("(('x' || left(replace({}::text, '-', ''), 12))::bit(48)::bigint / {})").format(
                sql.Identifier(column), sql.Literal(_DAY_MILLISECONDS)
            )
            words["rows"] = sql.SQL(" AND ").join(
                [words["rows"], *(sql.SQL("NOT {}").format(_within(column, *range_)) for range_ in self.archived)]
            )
            if day is not None:
                words["of_day"] = _within(column, _bound(day), _bound(day + 1))
        return sql.SQL(queries("postgres", "replication.sql")[name].rstrip(";")).format(**words)


def _listed(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _within(column: str, lower: UUID, upper: UUID) -> sql.Composed:
    return sql.SQL("({column} >= {lower} AND {column} < {upper})").format(
        column=sql.Identifier(column), lower=sql.Literal(str(lower)), upper=sql.Literal(str(upper))
    )


def _bound(day: int) -> UUID:
    return UUID(int=min(day * _DAY_MILLISECONDS << 80, (1 << 128) - 1))


def verify(
    url: str,
    region: int,
    peer: PeerSettings,
    *,
    seconds: float = 60.0,
    tell: Callable[[str], object] = lambda _: None,
    found: Callable[[Difference], object] = lambda _: None,
) -> Compared:
    """Compare this region's database with a peer's, and tell of each difference as it is found.

    seconds: how long one waits for the other to have what it is compared with. Raises StoreUnavailable where that is
    not enough, or a database cannot be asked.
    """
    with _side(url, region) as here, _side(peer.database, peer.number) as there:
        comparison = _Comparison(here, there, seconds, found)
        with translated():
            for part in comparison.parts():
                tell(f"rows of region {part.region}: {part.table.name}")
                comparison.compare(part)
        return comparison.compared


@contextlib.contextmanager
def _side(url: str, number: int) -> Iterator[Side]:
    with contextlib.closing(for_bulk(url)) as connection:
        with translated():
            for name, value in _FORMATS.items():
                connection.execute("SELECT set_config($1, $2, false)", (name, value))
            try:
                rows = fetch(connection, queries("postgres")["region"])
            except psycopg.errors.UndefinedTable as exc:
                raise ConfigError(f"the database of region {number} has no schema of ours: {said(exc)}") from exc
        if not rows or rows[0][0] != number:
            is_ = f"of region {rows[0][0]}" if rows else "of no region yet"
            raise ConfigError(f"the database of region {number} is {is_}")
        yield Side(number, url, connection)


class _Comparison:
    def __init__(self, here: Side, there: Side, seconds: float, found: Callable[[Difference], object]) -> None:
        self._here = here
        self._there = there
        self._seconds = seconds
        self._found = found
        self.compared = Compared(0, 0, 0)

    def parts(self) -> Iterator[_Part]:
        """Each table of each region that either side has rows of, as far as both have the columns."""
        columns = [publications.columns(side.connection) for side in (self._here, self._there)]
        keys: Mapping[str, Sequence[str]] = dict(
            fetch(
                self._here.connection,
                queries("postgres", "replication.sql")["key_columns"],
                ([table.name for table in TABLES],),
            )
        )
        archived = self._archived()
        for region in self._regions():
            for table in TABLES:
                common = set(columns[0][table.name]) & set(columns[1].get(table.name, ()))
                yield _Part(table, region, sorted(common), keys[table.name], archived)

    def _regions(self) -> Collection[int]:
        """The two, and whoever else has issued anything that is here."""
        others = "SELECT DISTINCT region FROM transactions UNION SELECT DISTINCT region FROM clients"
        found = {row[0] for side in (self._here, self._there) for row in fetch(side.connection, others)}
        return sorted({self._here.number, self._there.number} | found)

    def _archived(self) -> list[tuple[UUID, UUID]]:
        """Ranges that either side has archived, joined where they touch."""
        statement = queries("postgres", "replication.sql")["archived_ranges"]
        ranges = sorted({row for side in (self._here, self._there) for row in fetch(side.connection, statement)})
        joined: list[tuple[UUID, UUID]] = []
        for lower, upper in ranges:
            if joined and lower <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(upper, joined[-1][1]))
            else:
                joined.append((lower, upper))
        return joined

    def compare(self, part: _Part) -> None:
        """One table of one region."""
        home, copy = (self._there, self._here) if part.region == self._there.number else (self._here, self._there)
        at_home = home.digests(part)
        self._await(home, copy, part)
        at_copy = copy.digests(part)
        number = sum(rows for rows, _, _ in at_home.values())
        differences = 0
        for day in sorted(at_home.keys() | at_copy.keys()):
            if at_home.get(day) != at_copy.get(day):
                differences += self._compare_rows(part, day, home, copy)
        tables, rows, former = self.compared
        self.compared = Compared(tables + 1, rows + number, former + differences)

    def _await(self, home: Side, copy: Side, part: _Part) -> None:
        """Wait until the copy has all that the home has; where neither is the home there is nothing to wait for."""
        if part.region != home.number:
            return
        position = home.position()
        deadline = time.monotonic() + self._seconds
        while (flushed := home.flushed(copy.number)) < position:
            if time.monotonic() >= deadline:
                behind = "does not follow" if flushed < 0 else f"is {position - flushed} bytes behind"
                raise StoreUnavailable(
                    f"region {copy.number} {behind} region {home.number}; it was waited for {self._seconds:.0f} seconds"
                )
            time.sleep(_POLL_SECONDS)

    def _compare_rows(self, part: _Part, day: int, home: Side, copy: Side) -> int:
        """Rows of a day key by key; how many differ."""
        suspects: list[str] = []
        more = False
        with contextlib.ExitStack() as stack:
            one = stack.enter_context(contextlib.closing(home.rows(part, day)))
            first = next(one, None)
            self._await_apart(home, copy, part)
            other = stack.enter_context(contextlib.closing(copy.rows(part, day)))
            for key in _differing(first, one, other):
                if len(suspects) == _ROWS_MAX:
                    more = True
                    break
                suspects.append(key)
        differences = self._again(part, day, home, copy, suspects)
        for key, what in differences:
            self._found(Difference(part.region, part.table.name, ", ".join(part.key), key, what))
        if more:
            what = f"more than {_ROWS_MAX} rows of one day may differ"
            self._found(Difference(part.region, part.table.name, ", ".join(part.key), "...", what))
        return len(differences) + more

    def _await_apart(self, home: Side, copy: Side, part: _Part) -> None:
        """The same as `_await` while the home's connection is busy with its rows."""
        with contextlib.closing(for_bulk(home.url)) as connection:
            self._await(home._replace(connection=connection), copy, part)

    def _again(self, part: _Part, day: int, home: Side, copy: Side, keys: list[str]) -> list[tuple[str, str]]:
        """What is left of the differences once each row has been looked at while it did not move."""
        settled: list[tuple[str, str]] = []
        for turn in range(_ROUNDS):
            if not keys:
                break
            before = home.again(part, day, keys)
            self._await(home, copy, part)
            at_copy = copy.again(part, day, keys)
            after = home.again(part, day, keys)
            pending = []
            for key in keys:
                if at_copy.get(key) in {before.get(key), after.get(key)}:
                    continue
                if before.get(key) != after.get(key) or (part.region != home.number and turn < _ROUNDS - 1):
                    pending.append(key)
                else:
                    settled.append((key, _what(home, copy, before.get(key), at_copy.get(key))))
            keys = pending
            if keys:
                time.sleep(_PAUSE_SECONDS)
        return settled + [(key, "changes too quickly to be compared") for key in keys]


def _what(home: Side, copy: Side, at_home: str | None, at_copy: str | None) -> str:
    if at_copy is None:
        return f"is missing in region {copy.number}"
    if at_home is None:
        return f"is in region {copy.number}, and not in region {home.number}"
    return f"is another in region {copy.number} than in region {home.number}"


def _differing(
    first: tuple[str, str] | None, one: Iterator[tuple[str, str]], other: Iterator[tuple[str, str]]
) -> Iterator[str]:
    """Keys that are not on both sides with one digest; both sides come in the order of their keys."""
    left, right = first, next(other, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            assert left is not None
            yield left[0]
            left = next(one, None)
        elif left is None or right[0] < left[0]:
            yield right[0]
            right = next(other, None)
        else:
            if left[1] != right[1]:
                yield left[0]
            left, right = next(one, None), next(other, None)
