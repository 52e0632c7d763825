"""Everything that a store holds of a page of transactions, read at one moment. For audits alone.

The store's own reads are of one transaction, each at its own moment. An audit asks for all of millions: over a network
a read by itself costs more than the looking, and what was read a moment apart need not fit together while a server
writes. So these are statements of their own, one a table and page, in one snapshot. Rows stay as they are stored until
somebody asks what they mean: one that cannot be understood is a finding, and must not keep others from being read.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import apsw
import zstandard

from interlock import chain
from interlock.errors import StoreUnavailable
from interlock.ports import Store
from interlock.stores import rows as mapping
from interlock.stores.sqlite import SqliteStore
from interlock.stores.statements import queries
from interlock.transaction import Body, BodyKind, Event, KeyKind, Payment, Transaction

if TYPE_CHECKING:
    from interlock.stores.postgres import PostgresStore

#: What a row raises whose values are none of ours.
UNREADABLE = (ValueError, ArithmeticError)

Row = tuple[Any, ...]
#: Transactions read together.
_PAGE = 500
#: And how much of messages, compressed as they are stored: a page of large ones is a short one.
_PAGE_BYTES = 4_000_000


class Name(NamedTuple):
    """A key that a transaction must be found by."""

    transaction: UUID
    client: str
    kind: KeyKind
    value: str


class Entry(NamedTuple):
    """An event of a transaction as it is stored, and its place in a chain."""

    journal: str
    seq: int
    content: bytes


@dataclass(slots=True)
class Dossier:
    """All rows of one transaction. To ask what they mean raises `UNREADABLE` where their values are none of ours."""

    id: UUID
    #: Where it stands in the store's own order.
    place: Any
    #: Its row; none if it is gone, more than one if somebody has added another.
    rows: list[Row] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    payment_rows: list[Row] = field(default_factory=list)
    body_rows: list[Row] = field(default_factory=list)

    def transaction(self) -> Transaction:
        """The present state."""
        return mapping.transaction(*self.rows[0])

    def history(self) -> tuple[set[UUID], tuple[Event, ...]]:
        """Its events, oldest first, and whose they say that they are."""
        told = [chain.decode(entry.content) for entry in self.entries]
        return {id_ for id_, _ in told}, tuple(event for _, event in told)

    def payments(self) -> tuple[Payment, ...]:
        """Its payments, by ordinal."""
        return tuple(mapping.payment(*row) for row in self.payment_rows)

    def bodies(self) -> Iterator[Body]:
        """Its messages, as far as they can be unpacked."""
        for place, definition, digest, content in self.body_rows:
            if place > 1:
                continue  # a part of another
            with contextlib.suppress(zstandard.ZstdError, MemoryError, ValueError):
                parts = [] if content else [row[3] for row in self.body_rows if row[0] > 1 and row[0] % 2 == place]
                yield Body(
                    kind=BodyKind.OUTBOX if place else BodyKind.INBOX,
                    definition=definition,
                    digest=digest,
                    content=b"".join(map(mapping.decompress, parts or (content,))),
                    parts=len(parts),
                )


def dossiers(store: Store) -> AbstractContextManager["Reader"]:
    """A reader of what a store holds, over a connection of its own; used by one thread."""
    if isinstance(store, SqliteStore):
        return closing(_Sqlite(store))
    from interlock.stores.postgres import PostgresStore

    assert isinstance(store, PostgresStore)  # there is no other
    return closing(_Postgres(store))


class Reader(ABC):
    """Reads dossiers. A back end brings its statements, which have their transactions' places in the first column."""

    #: No place comes before and none after these.
    _bounds: tuple[Any, Any]

    @abstractmethod
    def _snapshot(self) -> AbstractContextManager[Any]:
        """Within it all reads see one moment."""

    @abstractmethod
    def _rows(self, name: str, *bindings: Any) -> list[Row]:
        """The rows of a statement."""

    @abstractmethod
    def _after(self, place: Any) -> Any:
        """The next place."""

    @abstractmethod
    def journals(self) -> list[str]:
        """Those that events are of, whether they have a head or not."""

    @abstractmethod
    def missing(self, transactions: Collection[UUID]) -> list[UUID]:
        """Those that are not there."""

    @abstractmethod
    def unknown(self, names: Sequence[Name]) -> set[Name]:
        """Those that do not lead to their transactions."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back."""

    def pages(self) -> Iterator[list[Dossier]]:
        """All transactions, in pages, each of one moment."""
        place, last = self._bounds
        while place is not None:
            with self._snapshot():
                page = self._rows("transactions", place, last, _PAGE + 1)
                rows = self._cut(_whole(page))
                found = self._gathered(rows)
            more = len(page) > _PAGE or len(rows) < len(page)
            place = self._after(rows[-1][0]) if more and rows[-1][0] != last else None
            if found:
                yield found

    def again(self, dossier: Dossier) -> Dossier:
        """The same one as it is now."""
        with self._snapshot():
            page = self._rows("transactions", dossier.place, dossier.place, _PAGE + 1)
            return next(iter(self._gathered(page)), Dossier(dossier.id, dossier.place))

    def _cut(self, rows: list[Row]) -> list[Row]:
        """As many of them as their messages allow; one at least."""
        if not rows:
            return rows
        sizes: dict[Any, int] = dict(self._rows("sizes", rows[0][0], rows[-1][0]))
        total = accumulate(sizes.get(row[0], 0) for row in rows)
        return [row for row, size in zip(rows, total, strict=True) if size <= _PAGE_BYTES] or rows[:1]

    def _gathered(self, rows: Sequence[Row]) -> list[Dossier]:
        """Everything of these transactions, brought together."""
        found: dict[Any, Dossier] = {}
        for place, *row in rows:
            found.setdefault(place, Dossier(_id(row[0]), place)).rows.append(tuple(row))
        if not rows:
            return []
        first, last = rows[0][0], rows[-1][0]
        # Rows between them that belong to none are left out: that their transaction is missing is told elsewhere.
        for place, *entry in self._rows("events", first, last):
            if place in found:
                found[place].entries.append(Entry(*entry))
        for place, *row in self._rows("payments", first, last):
            if place in found:
                found[place].payment_rows.append(tuple(row))
        for place, *row in self._rows("bodies", first, last):
            if place in found:
                found[place].body_rows.append(tuple(row))
        return list(found.values())


def _whole(page: list[Row]) -> list[Row]:
    """A page without its last transaction where that may have another row beyond; it is the next one's first."""
    if len(page) <= _PAGE:
        return page
    return [row for row in page if row[0] != page[-1][0]] or page


def _id(given: bytes) -> UUID:
    """An id to tell of it by, also where there is none that could be read."""
    return UUID(bytes=given[:16].rjust(16, b"\0"))


class _Sqlite(Reader):
    """Places are numbers of rows, by which SQLite keeps everything."""

    _bounds = -(1 << 63), (1 << 63) - 1
    _SQL: Mapping[str, str] = {
        "transactions": "SELECT * FROM transactions WHERE row BETWEEN ? AND ? ORDER BY row LIMIT ?",
        "sizes": "SELECT row >> 1, sum(length(content)) FROM bodies WHERE row BETWEEN ? * 2 AND ? * 2 + 1 GROUP BY 1",
        "journals": "SELECT region || '.' || incarnation FROM writer WHERE EXISTS (SELECT 1 FROM events)",
        "events": (
            "SELECT e.tx, w.region || '.' || w.incarnation, e.chain_seq, e.content FROM writer w, events e "
            "WHERE e.tx BETWEEN ? AND ? ORDER BY e.tx, e.seq"
        ),
        "payments": (
            f"SELECT p.tx, {queries('sqlite')['payment']} "  # noqa: S608 - columns
            "FROM payments p LEFT JOIN transactions t ON t.row = p.tx WHERE p.tx BETWEEN ? AND ? "
            "ORDER BY p.tx, p.ordinal"
        ),
        "bodies": (
            # Parts of long ones come after them, in order, by the numbers that PostgreSQL's table has for them.
            "SELECT row >> 1, row & 1, definition, digest, content FROM bodies "
            "WHERE row BETWEEN ?1 * 2 AND ?2 * 2 + 1 UNION ALL "
            "SELECT place >> 1, (place & 1) + 2 * number, NULL, x'', content FROM parts "
            "WHERE place BETWEEN ?1 * 2 AND ?2 * 2 + 1 ORDER BY 1, 2"
        ),
        "exists": "SELECT 1 FROM transactions WHERE id = ?",
        "named": (
            "SELECT 1 FROM transactions t JOIN keys k ON k.tx = t.row "
            "WHERE t.id = ? AND k.client = ? AND k.kind = ? AND k.value = ? AND k.freed IN (0, t.row)"
        ),
    }

    def __init__(self, store: SqliteStore) -> None:
        with _said():
            self._db = apsw.Connection(str(store.path), flags=apsw.SQLITE_OPEN_READONLY)
            self._db.set_busy_timeout(5000)

    def _snapshot(self) -> AbstractContextManager[Any]:
        return self._db

    def _rows(self, name: str, *bindings: Any) -> list[Row]:
        with _said():
            return self._db.execute(self._SQL[name], bindings).fetchall()

    def _after(self, place: int) -> int:
        return place + 1

    def journals(self) -> list[str]:
        return [name for (name,) in self._rows("journals")]

    def missing(self, transactions: Collection[UUID]) -> list[UUID]:
        return [id_ for id_ in transactions if not self._rows("exists", id_.bytes)]

    def unknown(self, names: Sequence[Name]) -> set[Name]:
        return {name for name in names if not self._rows("named", name.transaction.bytes, *name[1:])}

    def close(self) -> None:
        self._db.close()


@contextlib.contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except apsw.Error as exc:
        raise StoreUnavailable(f"the store cannot be read: {exc}") from exc


_SUPERSEDED = (
    "AND NOT EXISTS (SELECT 1 FROM transactions s JOIN transactions n ON n.id = s.id AND n.epoch > s.epoch "
    "WHERE s.id = e.tx AND s.region = {region})"
)
#: What keeps out the rows of a region whose transaction another one has taken over.
_LEFT_OUT = {
    "{present}": "AND NOT EXISTS (SELECT 1 FROM transactions n WHERE n.id = t.id AND n.epoch > t.epoch)",
    "{own_event}": _SUPERSEDED.format(region="e.writer / 1000000"),
    "{own_payment}": _SUPERSEDED.format(region="p.region").replace("e.tx", "p.tx"),
}


def _filled(statement: str, parts: Mapping[str, str]) -> str:
    for mark, part in parts.items():
        statement = statement.replace(mark, part)
    return statement


class _Postgres(Reader):
    """Places are ids, by which PostgreSQL's tables are partitioned."""

    _bounds = UUID(int=0), UUID(int=(1 << 128) - 1)
    _SQL: Mapping[str, str] = {
        "transactions": (
            # The columns are those of the store.
            f"SELECT t.id, {queries('postgres')['transaction']} FROM transactions t "  # noqa: S608 - columns
            "WHERE t.id BETWEEN $1 AND $2 {present} ORDER BY t.id LIMIT $3"
        ),
        "sizes": "SELECT tx, sum(octet_length(content)) FROM bodies WHERE tx BETWEEN $1 AND $2 GROUP BY tx",
        # By hops along the index; a plain DISTINCT would read all of it.
        "journals": (
            "WITH RECURSIVE hop AS ((SELECT writer, journal FROM events ORDER BY writer, journal LIMIT 1) UNION ALL "
            "SELECT n.* FROM hop, LATERAL (SELECT e.writer, e.journal FROM events e "
            "WHERE (e.writer, e.journal) > (hop.writer, hop.journal) ORDER BY e.writer, e.journal LIMIT 1) n) "
            "SELECT writer, journal FROM hop"
        ),
        "events": (
            "SELECT tx, writer, journal, chain_seq, content FROM events e WHERE tx BETWEEN $1 AND $2 {own_event} "
            "ORDER BY tx, seq"
        ),
        "payments": (
            f"SELECT p.tx, {queries('postgres')['payment']} "  # noqa: S608 - columns
            "FROM payments p LEFT JOIN transactions t ON t.id = p.tx AND t.region = p.region "
            "WHERE p.tx BETWEEN $1 AND $2 {own_payment} ORDER BY p.tx, p.ordinal"
        ),
        "bodies": (
            "SELECT tx, kind, definition, digest, content FROM bodies e WHERE tx BETWEEN $1 AND $2 {own_event} "
            "ORDER BY tx, kind"
        ),
        "present": "SELECT id FROM transactions WHERE id = ANY ($1)",
        # Both look-ups are by the whole key: a name that thousands share does not cost a thousand times as much.
        "named": (
            "SELECT u.number FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY "
            "AS u (tx, client, kind, value, number) JOIN keys k ON k.client = u.client AND k.kind = u.kind "
            "AND k.value = u.value AND k.freed = ANY (ARRAY['00000000-0000-0000-0000-000000000000', u.tx]) "
            "WHERE k.tx = u.tx"
        ),
    }

    def __init__(self, store: "PostgresStore") -> None:
        from psycopg import IsolationLevel

        from interlock.stores.postgres import arrays, connections

        self._arrays, self._translated, self._fetch = arrays, connections.translated, connections.fetch
        # Pages are ranges of keys, in their order. A planner that thinks little of its tables, for nobody has analysed
        # them yet, would read all that is left and sort it, for each page anew.
        ways = ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin")
        off = {f"enable_{way}": "off" for way in ways}
        self._connection = connections.for_bulk(store.url, plan_cache_mode="force_custom_plan", **off)
        self._connection.isolation_level, self._connection.read_only = IsolationLevel.REPEATABLE_READ, True
        # What one region has taken over from another is there twice: the taker's rows count. Where nobody ever has,
        # there is nothing to be left out, and no time to be lost with looking for it.
        try:
            taken_over = self._fetch(self._connection, "SELECT 1 FROM takeovers LIMIT 1")
        except BaseException:
            self._connection.close()
            raise
        left_out = _LEFT_OUT if taken_over else dict.fromkeys(_LEFT_OUT, "")
        self._statements = {name: _filled(statement, left_out) for name, statement in self._SQL.items()}

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        with self._translated(), self._connection.transaction():
            yield

    def _rows(self, name: str, *bindings: Any) -> list[Row]:
        with self._translated():
            rows: list[Row] = self._fetch(self._connection, self._statements[name], bindings)
        if name == "events":
            return [(tx, _journal(writer, number), seq, content) for tx, writer, number, seq, content in rows]
        return rows

    def _after(self, place: UUID) -> UUID:
        return UUID(int=place.int + 1)

    def journals(self) -> list[str]:
        return [_journal(*row) for row in self._rows("journals")]

    def missing(self, transactions: Collection[UUID]) -> list[UUID]:
        ids = self._arrays.Ids([id_.bytes for id_ in transactions])
        present = {id_ for (id_,) in self._rows("present", ids)}
        return [id_ for id_ in transactions if id_ not in present]

    def unknown(self, names: Sequence[Name]) -> set[Name]:
        if not names:
            return set()
        texts = self._arrays.Texts
        ids, clients, kinds, values = zip(*names, strict=True)
        columns = self._arrays.Ids([id_.bytes for id_ in ids]), texts(clients), texts(kinds), texts(values)
        found = {number for (number,) in self._rows("named", *columns)}
        return {name for number, name in enumerate(names, 1) if number not in found}

    def close(self) -> None:
        self._connection.close()


def _journal(writer: int, number: int) -> str:
    """A journal's name: region, incarnation, number."""
    return f"{writer // 1_000_000}.{writer % 1_000_000}.{number}"
