"""What is looked up, how long it takes, and by which plan: the store's own reads, however full it is."""

import contextlib
import random
import re
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec

from bench.load import percentile
from interlock.chain import moment
from interlock.iso20022.codes import HeldCause, Status
from interlock.ports import Query
from interlock.stores.postgres import PostgresStore
from interlock.stores.postgres.connections import Connection, fetch, for_bulk
from interlock.transaction import BodyKind, KeyKind

#: Transactions whose names are looked up, drawn from all.
_DRAWN = 400
_WARM_UP = 5
#: Later than every deadline there is.
_FAR = timedelta(days=400)
_PASSED = frozenset({Status.ACSC})
_REJECTED = frozenset({Status.RJCT})
_HELD = frozenset({Status.PDNG})


class Lookup(msgspec.Struct, kw_only=True, frozen=True):
    """One kind of look-up."""

    name: str
    #: What the last of them found.
    found: int
    p50_ms: float
    p99_ms: float
    #: Pages that one of them touched, and how long its statements were planned; of a busy machine these tell the truth.
    pages: int
    planning_ms: float
    #: EXPLAIN (ANALYZE, BUFFERS) of each statement of one of them.
    plans: list[str]


class Looked(msgspec.Struct, kw_only=True, frozen=True):
    """Everything that was looked up in a store of some size."""

    #: In the tables, and of the database with its indexes.
    transactions: int
    bytes: int
    partitions: int
    #: Of each kind.
    rounds: int
    lookups: list[Lookup]


class _Explaining(PostgresStore):
    """The store, which can also tell by which plans it reads."""

    plans: list[str] | None = None

    def _ask(self, sql: str, bindings: Sequence[Any]) -> list[Any]:
        if self.plans is not None:
            told = super()._ask(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", bindings)
            self.plans.append("\n".join(line for (line,) in told))
        return super()._ask(sql, bindings)


class _Known(NamedTuple):
    """What somebody may know of a transaction."""

    id: UUID
    client: str
    message_id: str
    begun: datetime
    uetr: str
    end_to_end_id: str


def look(url: str, now: datetime, spotless: str, rounds: int) -> Looked:
    """Look everything up, each kind so many times, and explain it once. spotless: a client without rejections."""
    with contextlib.closing(for_bulk(url)) as connection:
        ((count, partitions),) = fetch(
            connection,
            "SELECT (SELECT count(*) FROM transactions), count(*) FROM pg_inherits "
            "WHERE inhparent = 'transactions'::regclass",
        )
        ((size,),) = fetch(connection, "SELECT pg_database_size(current_database())")
        known = _draw(connection, count)
    store = _Explaining(url, migrate=False)
    try:
        store.maintain(now)
        lookups = [_measured(store, name, call, known, rounds) for name, call in _lookups(store, now, spotless)]
    finally:
        store.close()
    return Looked(transactions=count, bytes=size, partitions=partitions, rounds=rounds, lookups=lookups)


def _draw(connection: Connection, count: int) -> list[_Known]:
    """From all partitions alike, in no order."""
    # Whole pages are drawn, of some thirty rows; of many pages then a few rows each.
    share = min(100.0, 100.0 * _DRAWN * 50 / max(1, count))
    rows = fetch(
        connection,
        "SELECT t.id, t.client, t.message_id, t.created_at, p.uetr, p.end_to_end_id FROM ("
        "SELECT * FROM transactions TABLESAMPLE SYSTEM ($1) REPEATABLE (1) WHERE message_id IS NOT NULL "
        "ORDER BY hashint8extended(created_at, 7) LIMIT $2"
        ") AS t JOIN payments p ON p.tx = t.id AND p.ordinal = 1",
        (share, _DRAWN),
    )
    known = [_Known(id_, client, message, moment(at), uetr, e2e) for id_, client, message, at, uetr, e2e in rows]
    random.Random(1).shuffle(known)
    return known


def _measured(
    store: _Explaining, name: str, call: Callable[[_Known], Any], known: Sequence[_Known], rounds: int
) -> Lookup:
    def one(number: int) -> int:
        found = call(known[number % len(known)])
        return len(found) if hasattr(found, "__len__") else int(found is not None)

    for number in range(_WARM_UP):
        one(number)
    times = array("d")
    found = 0
    for number in range(_WARM_UP, _WARM_UP + rounds):
        began = time.perf_counter()
        found = one(number)
        times.append(time.perf_counter() - began)
    plans: list[str] = []
    store.plans = plans
    one(_WARM_UP + rounds - 1)
    store.plans = None
    ordered = sorted(times)
    p50, p99 = (round(percentile(ordered, share) * 1000, 3) for share in (0.5, 0.99))
    return Lookup(
        name=name, found=found, p50_ms=p50, p99_ms=p99, plans=plans, pages=sum(map(_pages, plans)),
        planning_ms=round(sum(float(told[1]) for plan in plans if (told := _PLANNING.search(plan))), 3),
    )  # fmt: skip


def _pages(plan: str) -> int:
    """Of its first node, which has what is below it too."""
    told = _BUFFERS.search(plan)
    return sum(map(int, _PAGES.findall(told[0]))) if told else 0


_BUFFERS = re.compile(r"Buffers: shared .*")
_PAGES = re.compile(r"(?:hit|read)=(\d+)")
_PLANNING = re.compile(r"Planning Time: ([\d.]+) ms")


def _lookups(store: PostgresStore, now: datetime, spotless: str) -> Iterator[tuple[str, Callable[[_Known], Any]]]:
    """Each kind by name, as a function of a transaction that is there."""

    def page(of: Callable[[_Known], Query]) -> Callable[[_Known], Any]:
        return lambda known: store.find(of(known)).transactions

    hour = timedelta(hours=1)
    yield "by id", lambda known: store.get(known.id)
    yield "history", lambda known: store.history(known.id)
    yield "payments", lambda known: store.payments(known.id)
    yield "message as received", lambda known: store.message(known.id, BodyKind.INBOX)
    yield "by UETR, of a client", page(lambda known: Query(client=known.client, key=(KeyKind.UETR, known.uetr)))
    yield "by UETR, of anybody", page(lambda known: Query(client=None, key=(KeyKind.UETR, known.uetr)))
    yield "by UETR, nobody's", page(lambda known: Query(client=known.client, key=(KeyKind.UETR, str(uuid4()))))
    yield "by MsgId", page(lambda known: Query(client=known.client, key=(KeyKind.MESSAGE, known.message_id)))
    yield (
        "by EndToEndId",
        page(lambda known: Query(client=known.client, key=(KeyKind.END_TO_END, known.end_to_end_id))),
    )
    yield "a client's newest", page(lambda known: Query(client=known.client))
    yield "a client's, further on", page(lambda known: Query(client=known.client, after=known.id))
    yield "a client's settled", page(lambda known: Query(client=known.client, statuses=_PASSED))
    yield "a client's rejected", page(lambda known: Query(client=known.client, statuses=_REJECTED))
    yield "a client's rejected, without any", page(lambda _: Query(client=spotless, statuses=_REJECTED))
    yield "all rejected", page(lambda _: Query(client=None, statuses=_REJECTED))
    yield "all rejected, further on", page(lambda known: Query(client=None, statuses=_REJECTED, after=known.id))
    yield "all held", page(lambda _: Query(client=None, statuses=_HELD))
    yield "held for a decision", page(lambda _: Query(client=None, cause=HeldCause.DECISION))
    yield (
        "a client's of an hour",
        page(lambda known: Query(client=known.client, since=known.begun, until=known.begun + hour)),
    )
    yield "all of an hour", page(lambda known: Query(client=None, since=known.begun, until=known.begun + hour))
    yield (
        "rejected of an hour",
        page(lambda known: Query(client=None, statuses=_REJECTED, since=known.begun, until=known.begun + hour)),
    )
    yield "in flight", lambda _: store.in_flight(None, 100)
    yield "overdue: all that is in flight", lambda _: store.overdue(now + _FAR, 100)
    yield "overdue: nothing", lambda _: store.overdue(now, 100)
    yield "the next deadline", lambda _: store.next_deadline()
    yield "which of ten have ended", lambda known: store.ended([known.id, *(uuid4() for _ in range(9))])
    yield "in flight by client", lambda _: store.open_by_client()
    yield "in flight by status", lambda _: store.open_by_status()
    yield "deliveries given up", lambda _: store.parked_deliveries() or None
    yield "time of the newest event", lambda _: store.latest()
