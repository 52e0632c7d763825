"""Periods in PostgreSQL: how they expire, leave for archives, and come back, whatever happens on the way."""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import structlog
from msgspec import structs

from interlock import archives, chain
from interlock.archives import ArchiveDamaged, Folder, KeyRing, Target, UnknownArchive
from interlock.archives import Key as ArchiveKey
from interlock.archives.format import Source
from interlock.archives.targets import Sink
from interlock.archivist import Anchors, Archivist, BrokenHistory, Interrupted, State
from interlock.chain import Gap
from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import Installation
from interlock.errors import ConfigError, ConflictError, DependencyError, InterlockError, RequestError, StoreUnavailable
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind
from interlock.ports import DeliveryUpdate, IdempotencyTaken, KeysTaken, Periods, Query, Rows, Won
from interlock.retention import Done, Failed, Policy, Retention
from interlock.routes import Route, Routes
from interlock.stores.postgres import PostgresStore, periods
from interlock.stores.postgres.periods import PostgresPeriods
from interlock.stores.postgres.tally import tally
from interlock.transaction import BodyKind, Delivery, DeliveryState, Idempotency, Key, KeyKind, PaymentEnd, Transaction
from tests.contracts.store import ALICE, AT, Writer, birth, body, msgid, payment, settled, step, uetr, verified
from tests.postgres import Emptied, Servers

DAY = timedelta(days=1)
NAME = "interlock-local-20260304-20260305"
#: When the day of AT has just expired, after thirty days.
LATER = datetime.fromisoformat("2026-04-04T00:00:00+00:00")
OUTBOX = "outbox"


def kept(days: int | None, name: str = "default") -> Route:
    return Route(name=name, retention=None if days is None else timedelta(days=days))


def policy(*listed: Route, days: int | None = 30, **changes: Any) -> Policy:
    """Thirty days, nothing encrypted."""
    whole = Policy(routes=Routes(listed, kept(days)), region="local", key=None, keys=KeyRing())
    return replace(whole, **changes)


@dataclass
class World:
    """A database, a folder for its archives, and whoever writes and archives."""

    url: str
    folder: Path
    now: datetime = LATER
    stores: list[PostgresStore] = field(default_factory=list)
    jobs: list[PostgresPeriods] = field(default_factory=list)

    @cached_property
    def store(self) -> PostgresStore:
        """The process that writes, with partitions around AT."""
        store = self.open()
        store.maintain(AT)
        return store

    @cached_property
    def writer(self) -> Writer:
        """Its writer."""
        return Writer(self.store)

    def open(self) -> PostgresStore:
        """One more process."""
        store = PostgresStore(self.url)
        self.stores.append(store)
        return store

    @property
    def target(self) -> Target:
        """Where archives lie."""
        return Folder(self.folder)

    def periods(self) -> PostgresPeriods:
        """As another process would open them."""
        made = PostgresPeriods(self.url)
        self.jobs.append(made)
        return made

    def job(self, rules: Policy | None = None, *, target: Target | None = None, of: Periods | None = None) -> Retention:
        """The job of one process."""
        return Retention(self.own if of is None else of, target or self.target, rules or policy(), lambda: self.now)

    @cached_property
    def own(self) -> PostgresPeriods:
        """Those of whoever archives, where it does not matter who."""
        return self.periods()

    @property
    def archivist(self) -> Archivist:
        """Whoever looks at archives, without a key."""
        return self.job().archivist

    def run(self, rules: Policy | None = None, **changes: Any) -> list[str | None]:
        """Archive everything that has expired; the names of what was archived, without empty periods."""
        done = list(self.job(rules, **changes).run())
        assert [outcome.error for outcome in done if isinstance(outcome, Failed)] == []
        return [outcome.manifest.name for outcome in done if isinstance(outcome, Done) and outcome.manifest]

    def failures(self, rules: Policy | None = None, **changes: Any) -> list[InterlockError]:
        """What kept periods from being archived."""
        return [outcome.error for outcome in self.job(rules, **changes).run() if isinstance(outcome, Failed)]

    def ask(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Whatever the database itself says."""
        with psycopg.connect(self.url) as db:
            cursor = db.execute(sql, bindings)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Give all connections back."""
        for job in self.jobs:
            job.close()
        for store in self.stores:
            store.close()


def partitioned(url: str) -> None:
    """Make the schema, with partitions around AT."""
    with closing(PostgresStore(url)) as store:
        store.maintain(AT)


@pytest.fixture(scope="module")
def databases(postgres_servers: Servers) -> Iterator[Emptied]:
    """Databases with partitions around AT and without rows."""
    made = Emptied(postgres_servers, partitioned)
    yield made
    made.drop()


@pytest.fixture
def world(databases: Emptied, postgres_installation: Installation, tmp_path: Path) -> Iterator[World]:
    yield from new_world(databases.of(postgres_installation), tmp_path)


@pytest.fixture
def every_world(databases: Emptied, every_postgres_installation: Installation, tmp_path: Path) -> Iterator[World]:
    yield from new_world(databases.of(every_postgres_installation), tmp_path)


def new_world(url: str, folder: Path) -> Iterator[World]:
    """One over an empty database."""
    made = World(url, folder / "archives")
    try:
        assert made.store.check() == []
        yield made
    finally:
        made.close()


def born(number: int, at: datetime = AT, **parts: Any) -> list[Any]:
    """New transactions with everything that one can have."""
    return [
        birth(
            at=at,
            reserves=(uetr(), msgid()),
            names=(Key(kind=KeyKind.END_TO_END, value="e2e", payment=1),),
            idempotency=Idempotency(key=uuid.uuid4().hex, digest=b"d" * 32),
            **parts,
        )
        for _ in range(number)
    ]


def ended(writer: Writer, number: int = 10, at: datetime = AT, **parts: Any) -> list[Transaction]:
    """Transactions at their ends: every fourth was refused, all others settled, each with its answer."""
    changes = born(number, at, **parts)
    writer.won(*changes)
    answer: dict[str, Any] = {
        "bodies": (body(b"<answer/>", BodyKind.OUTBOX),),
        "deliveries": (Delivery(channel=OUTBOX),),
    }
    return writer.won(
        *(
            settled(change.after, at, **answer) if place % 4 else step(change.after, EventKind.REFUSED, at, **answer)
            for place, change in enumerate(changes)
        )
    )


def told(store: PostgresStore, transactions: Iterable[Transaction]) -> list[Any]:
    """All that a store says of transactions."""
    return [
        (
            store.get(t.id),
            store.history(t.id),
            store.payments(t.id),
            *(store.message(t.id, kind) for kind in BodyKind),
            store.delivery(t.id, OUTBOX),
        )
        for t in transactions
    ]


def found(store: PostgresStore, value: str = "e2e", kind: KeyKind = KeyKind.END_TO_END) -> set[UUID]:
    """What a client finds by a key."""
    return {t.id for t in store.find(Query(client=ALICE, key=(kind, value), limit=1000)).transactions}


def ids(transactions: Iterable[Transaction]) -> set[UUID]:
    return {transaction.id for transaction in transactions}


def faults(store: PostgresStore) -> list[str]:
    """What is wrong with the chains."""
    return [fault for head in store.heads() for fault in chain.faults(store.chain(head.journal), head)]


# -- all of it, on every version --------------------------------------------------------------------------------------


def test_a_day_goes_and_comes_back(every_world: World) -> None:
    """What is archived is told to be; restored, everything is as it was, byte for byte; dropped, it is gone again."""
    world, store = every_world, every_world.store
    old = ended(world.writer, at=AT)
    young = ended(world.writer, at=AT + DAY)
    before = told(store, old)
    assert world.run() == [NAME]

    assert told(store, old) == [(None, (), (), None, None, None)] * len(old)
    assert {store.archived(t.id) for t in old} == {NAME}
    assert found(store) == ids(young)
    assert faults(store) == []
    assert isinstance(next(store.chain("0.1.1")), Gap)
    assert list(world.archivist.faults(NAME)) == []

    record = world.archivist.restore(NAME)
    assert record.fingerprint.marks.transactions == len(old)
    assert told(store, old) == before
    assert {store.archived(t.id) for t in old} == {None}
    assert found(store) == ids(old) | ids(young)
    assert faults(store) == []
    assert verified(store) == sum(t.version for t in [*old, *young])
    assert list(world.archivist.faults(NAME)) == []
    assert world.run() == [], "what was restored stays until it is dropped by command"

    assert world.job().drop(NAME).manifest is not None
    assert told(store, old) == [(None, (), (), None, None, None)] * len(old)
    assert {store.archived(t.id) for t in old} == {NAME}
    assert faults(store) == []
    assert list(world.archivist.faults(NAME)) == []
    assert store.check() == []


def test_restored_rows_are_those_that_were_there(every_world: World) -> None:
    """Not only what the store tells: every column of every row, and every index of the partitions."""
    world = every_world
    ended(world.writer)

    def rows() -> dict[str, list[tuple[Any, ...]]]:
        tables = ("transactions", "events", "bodies", "payments", "deliveries", "idempotency")
        return {table: sorted(world.ask(f"TABLE {table}"), key=repr) for table in tables}

    def layout() -> list[tuple[Any, ...]]:
        return world.ask(
            "SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid, h.inhparent::regclass FROM pg_class c "
            "JOIN pg_index i ON i.indrelid = c.oid LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid "
            "WHERE c.relname LIKE '%%_p20260304' ORDER BY 1, 2"
        ) + world.ask(
            "SELECT c.relname, pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid "
            "WHERE c.relname LIKE '%%_p20260304' ORDER BY 1, 2"
        )

    before = rows(), layout()
    world.run()
    assert all(not there for there in rows().values())
    world.archivist.restore(NAME)
    assert (rows(), layout()) == before


# -- when a period has expired ----------------------------------------------------------------------------------------


def day(number: int) -> datetime:
    """A day for each case, long before AT; it is a stray until somebody sees to that."""
    return AT - timedelta(days=20 + number)


def name_of(at: datetime, suffix: str = "") -> str:
    """What a day's archive is called."""
    return f"interlock-local-{at:%Y%m%d}-{at + DAY:%Y%m%d}{suffix}"


#: Routes that have a transaction, what is configured, and the days after which they go.
LIMITS: dict[str, tuple[list[str], Policy, int | None]] = {
    "the default": (["default"], policy(days=30), 30),
    "for ever": (["default"], policy(days=None), None),
    "its own": (["a"], policy(kept(5, "a"), days=30), 5),
    "the longest": (["a", "b"], policy(kept(5, "a"), kept(90, "b"), days=30), 90),
    "longer than the default": (["a", "default"], policy(kept(90, "a"), days=30), 90),
    "shorter than the default": (["a", "default"], policy(kept(5, "a"), days=30), 30),
    "none of its own": (["a", "b"], policy(kept(5, "a"), kept(None, "b"), days=30), 30),
    "none at all": (["a", "b"], policy(kept(5, "a"), kept(None, "b"), days=None), None),
    "no longer configured": (["a", "gone"], policy(kept(5, "a"), days=30), 30),
    "no longer configured, for ever": (["gone"], policy(kept(5, "a"), days=None), None),
    "not by routes that are not in it": (["a"], policy(kept(5, "a"), kept(90, "b"), days=30), 5),
}


def test_a_day_is_kept_as_long_as_the_longest_of_its_routes(world: World) -> None:
    """Reckoned from its end; a route without a retention, and one that is gone, are kept as the default is."""
    for number, (routes, _, _) in enumerate(LIMITS.values()):
        for name in routes:
            ended(world.writer, 2, day(number), fields={"route": name})
    world.own.prepare(AT)
    for number, (case, (_, rules, goes_after)) in enumerate(LIMITS.items()):
        end = datetime(day(number).year, day(number).month, day(number).day, tzinfo=UTC) + DAY
        for days in (1, 4, 5, 29, 30, 89, 90, 30_000):
            for before, is_over in (
                (timedelta(microseconds=1), goes_after is not None and days > goes_after),
                (timedelta(0), goes_after is not None and days >= goes_after),
            ):
                world.now = end + timedelta(days=days) - before
                expired = [period.name for period in world.job(rules).expired()]
                assert (f"p{day(number):%Y%m%d}" in expired) is is_over, (case, days, before)


def test_what_keeps_a_day_is_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day that a route keeps is not read again before that route's time is over."""
    ended(world.writer, 2, fields={"route": "a"})
    world.now = AT + timedelta(days=40)
    job = world.job(policy(kept(60, "a"), days=1))
    asked: list[str] = []
    follows = PostgresPeriods.follows

    def counted(self: PostgresPeriods, period: Any, routes: Any, *, among: bool) -> str | None:
        asked.append(period.name)
        return follows(self, period, routes, among=among)

    monkeypatch.setattr(PostgresPeriods, "follows", counted)
    for _ in range(3):
        assert "p20260304" not in [period.name for period in job.expired()]
    assert asked.count("p20260304") == 1
    world.now = AT + timedelta(days=70)
    assert "p20260304" in [period.name for period in job.expired()]


def test_what_has_no_end_stays(world: World) -> None:
    """A day with a transaction in flight is left, and told of; another day goes all the same."""
    ended(world.writer, 3)
    world.writer.won(birth(sla=timedelta(days=3000)))
    ended(world.writer, 3, AT - DAY)
    (failure,) = world.failures()
    assert str(failure) == "1 transactions of p20260304 are without an end; it stays"
    assert [listed.name for listed in world.archivist.listing().archives] == ["interlock-local-20260303-20260304"]
    assert len(world.store.in_flight(None, 10)) == 1


def test_an_empty_day_leaves_nothing(world: World) -> None:
    """Its partitions are dropped without an archive, and later ones stay."""
    world.store.maintain(AT)
    world.now = AT + timedelta(days=30)
    before = [period.name for period in world.periods().present()]
    assert world.run() == []
    assert [period.name for period in world.periods().present()] == before[1:]
    assert list(world.target.files()) == []
    assert world.ask("SELECT count(*) FROM archives") == [(0,)]


def test_nothing_is_dropped_where_nothing_has_a_retention(world: World) -> None:
    """Not even what is empty."""
    before = world.periods().present()
    world.now = AT + timedelta(days=40_000)
    assert world.run(policy(days=None)) == []
    assert world.periods().present() == before


def test_strays_are_archived_too(world: World) -> None:
    """Rows of a day for which nobody had made a partition get one, and go with it."""
    at = AT - timedelta(days=50)
    stray = ended(world.writer, at=at)
    assert world.ask("SELECT count(*) FROM transactions_default") == [(10,)]
    before = told(world.store, stray)
    assert world.run() == ["interlock-local-20260113-20260114"]
    assert world.ask("SELECT count(*) FROM events_default") == [(0,)]
    world.archivist.restore("interlock-local-20260113-20260114")
    assert told(world.store, stray) == before


# -- keys -------------------------------------------------------------------------------------------------------------


def taken(world: World, *keys: Key) -> list[Any]:
    """What becomes of new transactions that want these keys."""
    return [world.writer.commit(birth(at=LATER, reserves=(key,)))[0] for key in keys]


def test_duplicates_of_what_is_archived_are_refused(world: World) -> None:
    """Keys of messages, and of payments that settled, stay; those of payments that came to nothing are free."""
    good, bad, message, other = uetr("good"), uetr("bad"), msgid("M1"), msgid("M2")
    (first,) = world.writer.won(birth(reserves=(good, message)))
    (second,) = world.writer.won(birth(reserves=(bad, other)))
    world.writer.won(settled(first), step(second, EventKind.REFUSED))
    world.run()
    refused = taken(world, good, message, other)
    assert [outcome.taken[0][1] for outcome in refused if isinstance(outcome, KeysTaken)] == [
        first.id, first.id, second.id,
    ]  # fmt: skip
    assert taken(world, bad) == [Won()]


def test_a_part_of_a_message_that_was_refused_is_free(world: World) -> None:
    """Each payment's keys go by how that payment ended."""
    one, two = uetr("one", 1), uetr("two", 2)
    both = (payment(1), payment(2))
    (before,) = world.writer.won(birth(reserves=(one, two), payments=both))
    world.writer.won(
        settled(before, ends_all=None, ended=(PaymentEnd(1, Status.ACSC, None), PaymentEnd(2, Status.RJCT, "AM05")))
    )
    world.run()
    assert isinstance(taken(world, one)[0], KeysTaken)
    assert taken(world, two) == [Won()]


def test_names_and_idempotency_keys_go_with_their_transactions(world: World) -> None:
    """What only finds, and what only repeats, has nothing to find or repeat."""
    ended(world.writer, 8)
    world.run()
    assert world.ask("SELECT count(*) FROM keys WHERE freed <> '00000000-0000-0000-0000-000000000000'") == [(0,)]
    assert world.ask("SELECT count(*) FROM idempotency") == [(0,)]
    # Six settled: a message and a payment each; two refused: the message.
    assert world.ask("SELECT count(*) FROM keys") == [(14,)]


def test_freeing_keys_changes_nothing_for_anybody(world: World) -> None:
    """A key whose payment came to nothing is free, and finds its transaction, before and after it was given back."""
    key = uetr("shared")
    (first,) = world.writer.won(birth(reserves=(key,)))
    world.writer.won(step(first, EventKind.REFUSED))
    job = world.periods()
    (period,) = (p for p in job.present() if p.name == "p20260304")
    job.free(period)
    job.free(period)
    assert found(world.store, "shared", KeyKind.UETR) == {first.id}
    (second,) = world.writer.won(birth(reserves=(key,)))
    assert found(world.store, "shared", KeyKind.UETR) == {first.id, second.id}
    job.free(period)
    assert isinstance(taken(world, key)[0], KeysTaken)


def test_keys_that_are_used_again_stay_with_whoever_has_them(world: World) -> None:
    """Restored transactions are found by keys that others hold by now, and take nothing from them."""
    key = uetr("again")
    claim = Idempotency(key="again", digest=b"d" * 32)
    (old,) = world.writer.won(birth(reserves=(key,), idempotency=claim))
    world.writer.won(step(old, EventKind.REFUSED))
    world.run()
    other = Idempotency(key="again", digest=b"e" * 32)
    (new,) = world.writer.won(birth(at=LATER, reserves=(key,), idempotency=other))
    world.archivist.restore(NAME)
    assert found(world.store, "again", KeyKind.UETR) == {old.id, new.id}
    assert world.store.idempotent(ALICE, "again") == IdempotencyTaken(new.id, b"e" * 32)
    world.writer.won(settled(new, LATER))
    world.job().drop(NAME)
    assert found(world.store, "again", KeyKind.UETR) == {new.id}
    assert isinstance(taken(world, key)[0], KeysTaken)


def test_keys_are_forgotten_once_their_own_time_is_over(world: World) -> None:
    """Duplicates of archived transactions are let through after the time set for it, and not before."""
    key, message = uetr("k"), msgid("M1")
    (old,) = world.writer.won(birth(reserves=(key, message)))
    world.writer.won(settled(old))
    (young,) = world.writer.won(birth(at=AT + DAY, reserves=(uetr("young"),)))
    world.writer.won(settled(young, AT + DAY))
    rules = policy(keys_retention=timedelta(days=90))
    world.now = AT + timedelta(days=89)
    world.run(rules)
    assert all(isinstance(outcome, KeysTaken) for outcome in taken(world, key, message))
    world.now = datetime.fromisoformat("2026-06-03T00:00:00+00:00")
    world.run(rules)
    assert taken(world, key, message) == [Won(), Won()]
    assert isinstance(taken(world, uetr("young"))[0], KeysTaken)
    # What comes back finds, and does not refuse again.
    world.archivist.restore(NAME)
    assert old.id in found(world.store, "k", KeyKind.UETR)
    assert world.ask("SELECT count(*) FROM keys WHERE freed <> '00000000-0000-0000-0000-000000000000'") == [(2,)]


# -- what is written meanwhile ----------------------------------------------------------------------------------------


class Meanwhile:
    """Lets something happen once, when an archive has been written and read back."""

    def __init__(self, retention: Retention, happens: Callable[[], object]) -> None:
        self.retention = retention
        self._happens: list[Callable[[], object]] = [happens]
        self._vouch = retention.archivist.vouch
        retention.archivist.vouch = self.vouch  # type: ignore[method-assign]

    def vouch(self, manifest: archives.Manifest) -> None:
        """Read back, and then."""
        self._vouch(manifest)
        if self._happens:
            self._happens.pop()()


LATE: dict[str, Callable[[Writer, Transaction], object]] = {
    "the message again": lambda writer, t: writer.won(step(t, EventKind.RECEIVED, LATER)),
    "its answer is fetched": lambda writer, t: writer.commit(
        DeliveryUpdate(transaction=t.id, channel=OUTBOX, state=DeliveryState.CONFIRMED, at=LATER)
    ),
    "it is driven again": lambda writer, t: writer.won(
        structs.replace(
            birth(at=LATER, fields={"attempt": 2, "redrive_of": t.id}),
            original=step(t, EventKind.REDRIVEN, LATER),
        )
    ),
}


def test_what_comes_between_export_and_drop_is_not_lost(world: World) -> None:
    """A change that the archive does not have keeps the period from being dropped; the next archive has it."""
    for number, (case, late) in enumerate(LATE.items()):
        at = day(number)
        refused, *_ = ended(world.writer, at=at)
        job = world.job()
        Meanwhile(job, partial(late, world.writer, refused))
        (done,) = (outcome for outcome in job.run() if isinstance(outcome, Done) and outcome.manifest)
        assert done.manifest is not None
        assert done.manifest.name == name_of(at, "-2")
        states = {listed.name: listed.state for listed in world.archivist.listing().archives}
        assert (states[name_of(at)], states[name_of(at, "-2")]) == (State.SUPERSEDED, State.DROPPED)
        assert world.store.archived(refused.id) == name_of(at, "-2")
        assert faults(world.store) == []
        world.archivist.restore(name_of(at, "-2"))
        present = world.store.get(refused.id)
        assert present is not None
        changed = (present.version, world.store.delivery(refused.id, OUTBOX))
        assert changed != (refused.version, DeliveryState.PENDING), case
        assert faults(world.store) == []


def test_a_period_that_always_changes_stays(world: World) -> None:
    """It is not archived for ever and ever in one run."""
    (first, *_) = ended(world.writer)
    job = world.job()
    present = [first]

    def vouch(manifest: archives.Manifest) -> None:
        present[0] = world.writer.won(step(present[0], EventKind.RECEIVED, LATER))[0]

    job.archivist.vouch = vouch  # type: ignore[method-assign]
    (failed,) = (outcome for outcome in job.run() if isinstance(outcome, Failed))
    assert str(failed.error) == "p20260304 changes all the time; it stays until the next run"
    assert world.store.get(first.id) == present[0]
    assert world.run() == [f"{NAME}-4"]


def test_writers_and_readers_go_on_while_a_period_goes(world: World) -> None:
    """Thousands of commits and reads beside a run: none fails, none waits long, and none is lost."""
    for hour in range(10):
        ended(world.writer, 100, AT + timedelta(hours=hour))
    other = Writer(world.open())
    going, waits, made = threading.Event(), [0.0], list[Transaction]()

    def write() -> None:
        import time

        while not going.is_set():
            began = time.monotonic()
            made.extend(other.won(*born(20, LATER)))
            other.store.find(Query(client=ALICE, key=(KeyKind.END_TO_END, "nothing")))
            waits.append(time.monotonic() - began)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert world.run() == [NAME]
        world.archivist.restore(NAME)
        world.job().drop(NAME)
    finally:
        going.set()
        thread.join()
    assert max(waits) < 2
    assert all(world.store.get(t.id) == t for t in made)
    assert faults(world.store) == []


def test_who_holds_the_tables_is_waited_for_in_small_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that never ends, such as a backup, keeps a period from being dropped, and nobody from writing."""
    old = ended(world.writer)
    monkeypatch.setattr(periods, "_TRIES", 4)
    with psycopg.connect(world.url) as reader:
        reader.execute("SELECT count(*) FROM transactions").fetchall()
        raised: list[BaseException] = []

        def run() -> None:
            try:
                world.run()
            except StoreUnavailable as exc:
                raised.append(exc)

        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive():
            world.writer.won(birth(at=LATER))
        thread.join()
        assert "somebody works on the tables and does not let go (a backup, a report?)" in str(raised[0])
    assert ids(old) <= ids(t for t in (world.store.get(old_.id) for old_ in old) if t is not None)
    assert found(world.store) == ids(old)
    assert world.run() == [NAME]
    assert [listed.name for listed in world.archivist.listing().archives] == [NAME], "the archive was there already"


def test_one_at_a_time(world: World) -> None:
    """While one process archives, restores or drops no other one does; its end lets the next one in."""
    ended(world.writer)
    other = world.job(of=world.periods())
    with world.own.alone():
        for attempt in (lambda: next(other.run()), lambda: other.archivist.restore(NAME), lambda: other.drop(NAME)):
            with pytest.raises(ConflictError, match="another process archives, restores or drops just now"):
                attempt()
        with structlog.testing.capture_logs() as logs:
            other.work()
    assert [entry["event"] for entry in logs] == ["not archived now"]
    assert world.run(of=world.periods()) == [NAME]


def test_who_looks_is_not_disturbed(world: World) -> None:
    """Nothing goes while a chain is walked, for a part of it would be looked for where it no longer is."""
    ended(world.writer)
    with world.periods().undisturbed(), world.periods().undisturbed():
        with pytest.raises(ConflictError, match="just now"):
            world.run()
        assert list(world.archivist.faults("nothing")) != []
    assert world.run() == [NAME]
    looking = threading.Event()

    def look() -> None:
        with world.periods().undisturbed():
            looking.set()

    thread = threading.Thread(target=look)
    with world.own.alone():
        thread.start()
        assert not looking.wait(0.3)
    assert looking.wait(10)
    thread.join()


# -- death at any step ------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process dies here; nothing of ours may catch it."""


class Tripwire:
    """Dies at the nth step."""

    def __init__(self, at: int) -> None:
        self._left = at

    def step(self) -> None:
        """One more."""
        self._left -= 1
        if self._left == 0:
            raise Crash

    @property
    def is_spent(self) -> bool:
        """Whether it has died."""
        return self._left <= 0


class Mortal:
    """Any object where each call can be the last thing that happens, or its return."""

    def __init__(self, inner: object, wire: Tripwire) -> None:
        self._inner = inner
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        """As the object itself, but mortal."""
        inner = getattr(self._inner, name)
        if not callable(inner):
            return inner

        def called(*args: Any, **kwargs: Any) -> Any:
            self._wire.step()
            result = inner(*args, **kwargs)
            self._wire.step()
            return result

        return called


class MortalTarget(Mortal):
    """A target that can be left between any two bytes."""

    @contextmanager
    def write(self, file: str) -> Iterator[Sink]:
        """Around and within."""
        self._wire.step()
        with self._inner.write(file) as sink:  # type: ignore[attr-defined]
            yield Mortal(sink, self._wire)
            self._wire.step()
        self._wire.step()

    @contextmanager
    def read(self, file: str) -> Iterator[Source]:
        """Around and within."""
        self._wire.step()
        with self._inner.read(file) as source:  # type: ignore[attr-defined]
            yield Mortal(source, self._wire)


def test_a_death_at_any_step_loses_nothing(world: World) -> None:
    """Whichever step is the last one: all rows are there, or all are in a good archive; the next run does the rest."""
    for at in count(1):
        when = AT - timedelta(days=at)
        old = ended(world.writer, 4, when)
        before = told(world.store, old)
        wire = Tripwire(at)
        inner = world.periods()
        dying: Any = Mortal(inner, wire)
        try:
            for outcome in world.job(of=dying, target=MortalTarget(world.target, wire)).run():
                assert not isinstance(outcome, Failed)
        except Crash:
            pass
        inner.close()
        present = told(world.store, old)
        gone = [world.store.archived(t.id) for t in old]
        assert (present == before and not any(gone)) or (present != before and all(gone)), f"step {at}"
        assert faults(world.store) == [], f"step {at}"
        world.run()
        (name,) = {world.store.archived(t.id) for t in old}
        assert name is not None
        assert list(world.archivist.faults(name)) == [], f"step {at}"
        if at % 5 == 0:
            world.archivist.restore(name)
            assert told(world.store, old) == before, f"step {at}"
            world.job().drop(name)
        if not wire.is_spent:
            break
    assert at > 30
    assert faults(world.store) == []


def test_a_death_of_a_restore_or_drop_changes_nothing(world: World) -> None:
    """Both are one transaction: whoever dies within leaves what there was."""
    old = ended(world.writer, 4)
    before = told(world.store, old)
    world.run()
    for at in count(1):
        wire = Tripwire(at)
        inner = world.periods()
        dying: Any = Mortal(inner, wire)
        target: Any = MortalTarget(world.target, wire)
        try:
            world.job(of=dying, target=target).archivist.restore(NAME)
            world.job(of=dying, target=target).drop(NAME)
        except Crash:
            pass
        inner.close()
        assert faults(world.store) == []
        if world.store.archived(old[0].id) is None:
            assert told(world.store, old) == before
            world.job().drop(NAME)
        assert told(world.store, old) == [(None, (), (), None, None, None)] * 4
        if not wire.is_spent:
            break
    assert at > 15


def test_a_connection_that_is_cut_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server throws us out while we hold the partitions: nothing was dropped, and the next run drops it."""
    old = ended(world.writer)
    before = told(world.store, old)

    def cut(self: PostgresPeriods, connection: Any, period: Any, marks: Any) -> None:
        connection.execute(self._statement(connection, "hold", period))
        world.ask("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
        connection.execute(self._statement(connection, "drop", period))

    with monkeypatch.context() as patch:
        patch.setattr(PostgresPeriods, "_drop", cut)
        patch.setattr(periods, "_TRIES", 1)
        with pytest.raises(StoreUnavailable):
            world.run()
    assert told(world.store, old) == before
    assert world.run() == [NAME]


def test_who_is_to_end_lets_go(world: World) -> None:
    """An interrupted job leaves the period as it was, and the target without an archive."""
    old = ended(world.writer)
    before = told(world.store, old)
    job = world.job()
    job.interrupt()
    with pytest.raises(Interrupted):
        list(job.run())
    assert told(world.store, old) == before
    assert list(world.target.files()) == []


# -- archives that are not as they were written -----------------------------------------------------------------------


def spoilt(data: bytes) -> bytes:
    """One bit is another one."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "altered": lambda file: file.write_bytes(spoilt(file.read_bytes())),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-10]),
    "empty": lambda file: file.write_bytes(b""),
    "missing": lambda file: file.unlink(),
}


class Spoiling(Folder):
    """A folder whose files with rows do not stay as they were written."""

    def __init__(self, path: Path, damage: Callable[[Path], object], *, times: int = 1_000) -> None:
        super().__init__(path)
        self._damage = damage
        self._times = times

    @contextmanager
    def write(self, file: str) -> Iterator[Sink]:
        """Written, then damaged."""
        with super().write(file) as sink:
            yield sink
        if not file.endswith(".json") and self._times:
            self._times -= 1
            self._damage(self._path / file)


@pytest.mark.parametrize("key", [None, ArchiveKey(bytes(range(32)))], ids=["plain", "sealed"])
def test_nothing_is_dropped_for_a_bad_archive(world: World, key: ArchiveKey | None) -> None:
    """What does not come back from the target as it was written is no reason to drop anything."""
    rules = policy(key=key, keys=KeyRing([] if key is None else [key]))
    for number, damage in enumerate(DAMAGE.values()):
        old = ended(world.writer, at=day(number))
        before = told(world.store, old)
        for _ in range(2):
            (failure,) = world.failures(rules, target=Spoiling(world.folder, damage))
            assert isinstance(failure, ArchiveDamaged)
            assert told(world.store, old) == before
        assert world.run(rules) == [name_of(day(number), "-3")], "the bad ones are left for the operator to see"
        assert faults(world.store) == []


def test_a_target_that_spoils_everything_is_not_filled(world: World) -> None:
    """After nine bad archives of one period no more are written until somebody has looked."""
    ended(world.writer)
    target = Spoiling(world.folder, DAMAGE["altered"])
    for _ in range(11):
        (failure,) = world.failures(target=target)
    assert "has 9 archives interlock-local-20260304-20260305, and none of them has the rows as they are" in str(failure)
    assert len(list(target.files())) == 18


def test_an_archive_that_lost_rows_is_not_believed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digests are right, and yet it has not all rows of the period: it is counted again when it is read back."""
    old = ended(world.writer)
    tables = PostgresPeriods._tables

    def short(self: PostgresPeriods, *args: Any) -> Iterator[Rows]:
        for rows in tables(self, *args):
            yield rows._replace(rows=list(rows.rows)[1:]) if rows.table == "bodies" else rows

    monkeypatch.setattr(PostgresPeriods, "_tables", short)
    (failure,) = world.failures()
    assert isinstance(failure, ArchiveDamaged)
    assert "has not the rows that it was made from: bodies 19 and not 20" in str(failure)
    assert world.store.get(old[0].id) == old[0]


def test_an_archive_that_cannot_be_finished_is_begun_anew(world: World) -> None:
    """A target that cannot be written to is told of, and nothing is dropped."""
    old = ended(world.writer)
    world.folder.parent.joinpath("archives").write_text("a file where the folder should be")
    with pytest.raises(DependencyError, match="cannot be read"):
        world.run()
    assert world.store.get(old[0].id) == old[0]
    missing = Folder(world.folder.parent / "not" / "mounted")
    with pytest.raises(ConfigError, match="cannot be made"):
        world.run(target=missing)
    with structlog.testing.capture_logs() as logs:
        world.job(target=missing).work()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("not archived", "error")]


def not_now(self: PostgresPeriods, period: Any, archive: Any) -> bool:
    """The database fails before a period with rows is dropped."""
    if archive is not None:
        raise StoreUnavailable("not now")
    return True


def test_what_an_earlier_attempt_wrote_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that is there and has the present rows is read back and taken, and not written again."""
    ended(world.writer)
    with monkeypatch.context() as patch:
        patch.setattr(PostgresPeriods, "drop", not_now)
        with pytest.raises(StoreUnavailable):
            world.run()
    files = sorted(world.target.files())
    (listed,) = world.archivist.listing().archives
    assert listed.state is State.WRITTEN
    assert world.run() == [NAME]
    assert sorted(world.target.files()) == files


def test_an_archive_of_others_is_not_taken_for_ours(world: World, new_database: Callable[[], str]) -> None:
    """Two installations that call their regions alike and share a folder do not drop for each other's archives."""
    other = World(new_database(), world.folder)
    try:
        ended(world.writer)
        theirs = ended(other.writer)
        assert world.run() == [NAME]
        assert other.run() == [f"{NAME}-2"]
        before = {listed.name: listed.state for listed in other.archivist.listing().archives}
        assert before == {NAME: State.SUPERSEDED, f"{NAME}-2": State.DROPPED}
        other.archivist.restore(f"{NAME}-2")
        assert other.store.get(theirs[0].id) == theirs[0]
        with pytest.raises(UnknownArchive, match="the database has dropped no rows for an archive"):
            other.archivist.restore(NAME)
    finally:
        other.close()


def test_archives_are_encrypted_if_so_configured(world: World) -> None:
    """Nothing can be read without the key; an archive that was written without one before is written again."""
    old = ended(world.writer)
    key, older = ArchiveKey(bytes(range(32))), ArchiveKey(bytes(range(1, 33)))
    before = told(world.store, old)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PostgresPeriods, "drop", not_now)
        with pytest.raises(StoreUnavailable):
            world.run()
    assert world.run(policy(key=older, keys=KeyRing([older]))) == [f"{NAME}-2"]
    with pytest.raises(ConfigError, match="encrypted with the key"):
        world.archivist.restore(f"{NAME}-2")
    told_without = list(world.archivist.faults(f"{NAME}-2"))
    assert [fault for fault in told_without if "is not among the keys given" in fault] == told_without != []
    changed = world.job(policy(key=key, keys=KeyRing([key, older])))
    assert list(changed.archivist.faults(f"{NAME}-2")) == []
    changed.archivist.restore(f"{NAME}-2")
    assert told(world.store, old) == before


# -- the chain --------------------------------------------------------------------------------------------------------


def interleaved(world: World) -> list[Transaction]:
    """Transactions of three days by three processes, whose events lie in each other's runs."""
    writers = [world.writer, Writer(world.open()), Writer(world.open())]
    made: list[Transaction] = []
    waiting: list[Transaction] = []
    for turn in range(12):
        for place, writer in enumerate(writers):
            at = AT + DAY * ((turn + place) % 3)
            new = writer.won(*born(3, at))
            waiting += new[1:]
            made += writer.won(settled(new[0], at))
    for place, transaction in enumerate(waiting):
        at = transaction.created_at + DAY
        made += writers[place % 3].won(settled(transaction, at))
    return made


def test_chains_hold_across_what_was_archived(world: World) -> None:
    """Three journals whose events of three days lie in many runs: each day may go, and come back, by itself."""
    made = interleaved(world)
    before = told(world.store, made)
    assert len(world.store.heads()) == 3
    whole = verified(world.store)
    for days in (1, 2, 3):
        world.now = LATER + DAY * (days - 1)
        (name,) = world.run()
        assert faults(world.store) == []
        assert list(world.archivist.faults(str(name))) == []
    assert world.ask("SELECT count(*) > 30 FROM gaps") == [(True,)]
    assert all(isinstance(item, Gap) for head in world.store.heads() for item in world.store.chain(head.journal))
    for listed in world.archivist.listing().archives[::2]:
        world.archivist.restore(listed.name)
        assert faults(world.store) == []
    world.archivist.restore(world.archivist.listing().archives[1].name)
    assert told(world.store, made) == before
    assert verified(world.store) == whole
    assert world.ask("SELECT count(*) FROM gaps") == [(0,)]


def test_an_archive_says_where_the_chains_were(world: World) -> None:
    """Its manifest has the first and last event of each journal in it, and the heads of then."""
    interleaved(world)
    heads = world.store.heads()
    world.run()
    anchors = Anchors.of(world.archivist.manifest(NAME))
    assert [(end.journal, end.seq, end.hash) for end in anchors.heads] == [
        (h.journal, h.seq, h.hash.hex()) for h in heads
    ]
    gaps = world.ask(
        "SELECT journal, min(first_seq), max(last_seq), count(*) FROM gaps GROUP BY journal ORDER BY journal"
    )
    said = [(int(s.journal.split(".")[2]), s.first, s.last, s.runs) for s in anchors.journals]
    assert said == gaps
    assert all(runs > 1 for *_, runs in gaps)


GAP_CHANGES = [
    "UPDATE gaps SET previous = sha256(previous)",
    "UPDATE gaps SET hash = sha256(hash)",
    "UPDATE gaps SET last_seq = last_seq + 1",
    "UPDATE gaps SET last_seq = last_seq - 1",
    "UPDATE gaps SET first_seq = first_seq + 1",
    "UPDATE gaps SET writer = writer + 1",
    "UPDATE gaps SET journal = journal + 1",
    "DELETE FROM gaps",
]


def test_one_altered_gap_is_found(world: World) -> None:
    """What is left of archived events cannot be changed unnoticed either, by the chain and by the archive."""
    interleaved(world)
    world.run()
    assert faults(world.store) == []
    world.ask("CREATE TABLE good AS TABLE gaps")
    for change in GAP_CHANGES:
        world.ask(
            f"{change} WHERE ctid = (SELECT ctid FROM gaps WHERE last_seq > first_seq + 1 "  # noqa: S608
            "ORDER BY journal, first_seq OFFSET 3 LIMIT 1)"
        )
        assert faults(world.store) != [], change
        assert list(world.archivist.faults(NAME)) == [
            "what the database keeps of the chain is not how its events are linked; see `interlock audit verify`"
        ]
        world.ask("TRUNCATE gaps")
        world.ask("INSERT INTO gaps TABLE good")
    assert faults(world.store) == []


TAMPERING = {
    "altered": "UPDATE events SET content = replace(convert_from(content, 'UTF8'), 'c_alice', 'c_alicf')::bytea",
    "moved": "UPDATE events SET previous = sha256(previous), hash = sha256(sha256(previous) || content)",
}


@pytest.mark.parametrize("tampering", TAMPERING.values(), ids=TAMPERING)
def test_a_history_that_does_not_hold_is_not_archived_away(world: World, tampering: str) -> None:
    """A period whose events were touched stays where the audit shows it; the days beside it go."""
    old = ended(world.writer)
    ended(world.writer, at=AT - DAY)
    world.ask(f"{tampering} WHERE chain_seq = 7")
    (failure,) = world.failures()
    assert isinstance(failure, BrokenHistory)
    assert "journal 0.1.1: event 7 " in str(failure)
    assert world.store.get(old[0].id) == old[0]
    assert len(faults(world.store)) > 0
    (again,) = world.failures()
    assert isinstance(again, BrokenHistory)
    assert [listed.name for listed in world.archivist.listing().archives] == ["interlock-local-20260303-20260304", NAME]


def test_what_was_tried_in_vain_is_left_alone_for_a_day(world: World) -> None:
    """A process that has found a period's history broken does not read it again every few minutes."""
    ended(world.writer)
    world.ask(f"{TAMPERING['altered']} WHERE chain_seq = 7")
    job = world.job()
    assert [type(outcome) for outcome in job.run()].count(Failed) == 1
    world.now = LATER + timedelta(hours=23)
    assert [type(outcome) for outcome in job.run()].count(Failed) == 0
    world.now = LATER + timedelta(hours=24)
    assert [type(outcome) for outcome in job.run()].count(Failed) == 1


def test_what_is_counted_outside_is_what_is_counted_inside() -> None:
    """Rows that are none of a period are refused in words."""
    with pytest.raises(ValueError, match="it has no bodies, deliveries, events, payments, transactions"):
        tally([])
    with pytest.raises(ValueError, match="its transactions have no version, updated_at"):
        tally([Rows("transactions", ("state",), [("end",)])])


# -- restoring, and dropping again ------------------------------------------------------------------------------------


def rewritten(world: World, *, sections: Callable[[Rows], Rows] = lambda rows: rows, **changes: Any) -> None:
    """Put another archive in the place of NAME, as if it had been the one that rows were dropped for."""
    manifest = archives.manifest_of(world.target, NAME)
    kept_rows = [Rows(s.table, s.columns, list(s.rows)) for s in archives.read(world.target, NAME)]
    for file in list(world.target.files()):
        (world.folder / file).unlink()
    facts = archives.Facts(
        period=manifest.period, schema=manifest.schema, written_at=manifest.written_at, anchors=manifest.anchors
    )
    made = archives.write(
        world.target, NAME, replace(facts, **changes), [archives.Section(*sections(rows)) for rows in kept_rows]
    )
    world.ask("UPDATE archives SET digest = %s", bytes.fromhex(made.stored.sha256))


def without(table: str, *columns: str) -> Callable[[Rows], Rows]:
    """A table without some columns."""

    def cut(rows: Rows) -> Rows:
        if rows.table != table:
            return rows
        places = [place for place, column in enumerate(rows.columns) if column not in columns]
        cut_rows = [tuple(row[place] for place in places) for row in rows.rows]
        return Rows(table, tuple(rows.columns[place] for place in places), cut_rows)

    return cut


def with_more(table: str, column: str) -> Callable[[Rows], Rows]:
    """A table with a column more."""

    def widened(rows: Rows) -> Rows:
        if rows.table != table:
            return rows
        return Rows(table, (*rows.columns, column), [(*row, 1) for row in rows.rows])

    return widened


def test_columns_go_by_name(world: World) -> None:
    """Columns in another order, or that the database alone has and does not need, are no hindrance."""
    old = ended(world.writer, 4)
    before = told(world.store, old)
    world.run()

    def turned(rows: Rows) -> Rows:
        return Rows(rows.table, rows.columns[::-1], [row[::-1] for row in rows.rows])

    rewritten(world, sections=lambda rows: turned(without("transactions", "code")(rows)))
    world.ask("ALTER TABLE transactions ADD COLUMN later text")
    world.ask("ALTER TABLE events ADD COLUMN later integer NOT NULL DEFAULT 7")
    world.archivist.restore(NAME)
    assert told(world.store, old) == before
    assert world.ask("SELECT DISTINCT later FROM events") == [(7,)]


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"schema": 99}, "was written with schema 99, and the database has schema"),
    ({"sections": without("payments", "ordinal")}, "payments lacks columns that the database must have: ordinal"),
    ({"sections": without("keys", "payment")}, "keys lacks columns that the database must have: payment"),
    ({"sections": with_more("bodies", "colour")}, "bodies has columns that the database has not: colour"),
    ({"sections": lambda r: r._replace(table="letters") if r.table == "bodies" else r}, "knows of no letters"),
    ({"sections": lambda r: r._replace(rows=list(r.rows)[1:]) if r.table == "bodies" else r}, "its rows come to"),
    ({"anchors": {"who": "knows"}}, "is no archive of transactions"),
]


def test_what_does_not_fit_is_refused(world: World) -> None:
    """It is said what does not fit, and nothing is changed."""
    ended(world.writer, 4)
    world.run()
    before = world.ask("SELECT relname FROM pg_class ORDER BY 1")
    good = {file: (world.folder / file).read_bytes() for file in world.target.files()}
    for changes, said in UNFIT:
        rewritten(world, **changes)
        with pytest.raises(RequestError, match=said):
            world.archivist.restore(NAME)
        assert world.ask("SELECT relname FROM pg_class ORDER BY 1") == before
        assert faults(world.store) == []
        for file, data in good.items():
            (world.folder / file).write_bytes(data)


def test_an_archive_of_another_region_is_refused(world: World) -> None:
    """Ids and writers of another region have no place here."""
    ended(world.writer, 4)
    world.run()
    anchors = archives.manifest_of(world.target, NAME).anchors
    rewritten(world, anchors={**anchors, "region": 3})
    with pytest.raises(RequestError, match="is of region 3, and the database of region 0"):
        world.archivist.restore(NAME)
    assert world.archivist.listing().archives[0].state is State.DROPPED


def test_only_the_archive_that_was_dropped_for_is_restored(world: World) -> None:
    """One that was put in its place is refused, listed and named, though it is whole in itself."""
    ended(world.writer, 4)
    world.run()
    digest = world.ask("SELECT digest FROM archives")
    rewritten(world)
    rewritten(world, sections=lambda rows: rows._replace(rows=list(rows.rows)[:0]) if rows.table == "keys" else rows)
    world.ask("UPDATE archives SET digest = %s", digest[0][0])
    with pytest.raises(ConflictError, match="is not the archive that the database has dropped rows for"):
        world.archivist.restore(NAME)
    (listed,) = world.archivist.listing().archives
    assert listed.state is State.REPLACED
    (fault,) = world.archivist.faults(NAME)
    assert fault.startswith("it is not the one that the database has dropped rows for")


def test_what_is_there_is_not_restored(world: World) -> None:
    """Neither a second time, nor over transactions of the same time, nor what nobody has dropped."""
    ended(world.writer, 4)
    world.run()
    archivist = world.archivist
    archivist.restore(NAME)
    with pytest.raises(ConflictError, match="was restored at 2026-04-04"):
        archivist.restore(NAME)
    with pytest.raises(UnknownArchive):
        archivist.restore("interlock-local-20200101-20200102")
    world.job().drop(NAME)
    world.ask(
        "CREATE TABLE transactions_odd PARTITION OF transactions FOR VALUES FROM "
        "('019cb624-f000-0000-0000-000000000000') TO ('019cb625-0000-0000-0000-000000000000')"
    )
    with pytest.raises(ConflictError, match="has transactions of its time, in the partition odd"):
        archivist.restore(NAME)
    world.ask("DROP TABLE transactions_odd")
    world.ask("CREATE TABLE payments_p20260304 (one integer)")
    with pytest.raises(ConflictError, match="has a table payments_p20260304 that is no partition"):
        archivist.restore(NAME)


def test_a_damaged_archive_is_not_restored(world: World) -> None:
    """Not one row of it."""
    old = ended(world.writer, 200)
    world.run()
    (file,) = (file for file in world.target.files() if not file.endswith(".json"))
    DAMAGE["cut off"](world.folder / file)
    with pytest.raises(ArchiveDamaged):
        world.archivist.restore(NAME)
    assert world.store.get(old[0].id) is None
    assert list(world.archivist.faults(NAME)) != []


def test_late_rows_of_an_archived_time_come_along(world: World) -> None:
    """A transaction with an id of a time that is archived is kept, found, and no hindrance to restoring."""
    old = ended(world.writer, 4)
    world.run()
    (late,) = ended(world.writer, 1)
    assert world.store.get(late.id) == late
    world.archivist.restore(NAME)
    assert ids(t for t in (world.store.get(one.id) for one in [*old, late]) if t) == ids([*old, late])
    with pytest.raises(ConflictError, match="something was written to them since they were restored"):
        world.job().drop(NAME)


def test_what_has_changed_since_it_was_restored_is_not_dropped(world: World) -> None:
    """Unless it is archived again first; then the new archive is the one that counts."""
    old = ended(world.writer)
    world.run()
    world.archivist.restore(NAME)
    (changed,) = world.writer.won(step(old[1], EventKind.RECEIVED, LATER))
    with pytest.raises(ConflictError, match="with --anew they are archived again, and dropped"):
        world.job().drop(NAME)
    assert world.store.get(changed.id) == changed
    done = world.job().drop(NAME, anew=True)
    assert done.manifest is not None
    assert done.manifest.name == f"{NAME}-2"
    states = {listed.name: listed.state for listed in world.archivist.listing().archives}
    assert states == {NAME: State.SUPERSEDED, f"{NAME}-2": State.DROPPED}
    assert faults(world.store) == []
    world.archivist.restore(f"{NAME}-2")
    assert world.store.get(changed.id) == changed
    assert faults(world.store) == []


def test_what_is_not_restored_cannot_be_dropped(world: World) -> None:
    """It is said why."""
    ended(world.writer)
    world.run()
    with pytest.raises(ConflictError, match=f"{NAME} is not restored"):
        world.job().drop(NAME)
    with pytest.raises(UnknownArchive):
        world.job().drop("unknown")


def test_restored_rows_are_dropped_for_a_whole_archive_only(world: World) -> None:
    """The archive is read back before its rows are taken away again."""
    old = ended(world.writer)
    world.run()
    world.archivist.restore(NAME)
    (file,) = (file for file in world.target.files() if not file.endswith(".json"))
    DAMAGE["altered"](world.folder / file)
    with pytest.raises(ArchiveDamaged):
        world.job().drop(NAME)
    assert world.store.get(old[0].id) == old[0]


def test_restored_rows_outlive_their_archive(world: World) -> None:
    """Where the archive is lost or damaged meanwhile the rows stay, until they are archived again."""
    for number, damage in enumerate((DAMAGE["altered"], DAMAGE["missing"])):
        at = day(number)
        old = ended(world.writer, at=at)
        before = told(world.store, old)
        world.run()
        world.archivist.restore(name_of(at))
        damage(world.folder / world.archivist.manifest(name_of(at)).object)
        if number:
            (world.folder / f"{name_of(at)}.json").unlink()
        with pytest.raises((ArchiveDamaged, UnknownArchive)):
            world.job().drop(name_of(at))
        assert told(world.store, old) == before
        done = world.job().drop(name_of(at), anew=True)
        name = done.manifest.name if done.manifest else ""
        assert name == name_of(at, "" if number else "-2")
        assert list(world.archivist.faults(name)) == []
        assert faults(world.store) == []
        world.archivist.restore(name)
        assert told(world.store, old) == before


def test_what_is_known_of_a_lost_archive_is_kept(world: World) -> None:
    """Its name is not given to another one, though the target does not have it any more."""
    ended(world.writer)
    world.run()
    record = world.archivist.records()[NAME]
    for file in list(world.target.files()):
        (world.folder / file).unlink()
    ended(world.writer, 2)
    assert world.run() == [f"{NAME}-2"]
    assert world.archivist.records()[NAME] == record
    assert [listed.state for listed in world.archivist.listing().archives] == [State.MISSING, State.DROPPED]
    (period,) = (p for p in world.own.present() if p.name == "p20260311")
    with pytest.raises(ConflictError, match="has rows that are nowhere else"):
        world.own.drop(period, replace(record, digest=b""))


def test_the_list_tells_what_is_missing(world: World) -> None:
    """Archives that the target has lost, that nobody knows, and files without a manifest."""
    ended(world.writer)
    ended(world.writer, at=AT - DAY)
    world.run()
    gone, stays = (listed.name for listed in world.archivist.listing().archives)
    (world.folder / f"{gone}.json").unlink()
    facts = archives.Facts(
        period=archives.Period(name="x", begin=AT, end=AT + DAY), schema=1, written_at=AT, anchors=None
    )
    archives.write(world.target, "other", facts, [])
    listing = world.archivist.listing()
    assert {listed.name: listed.state for listed in listing.archives} == {
        gone: State.MISSING, stays: State.DROPPED, "other": State.FOREIGN,
    }  # fmt: skip
    assert len(listing.leftovers) == 1
    assert [fault for fault in world.archivist.faults(gone) if "there is no manifest" in fault]
    assert list(world.archivist.faults("other")) != []


def test_a_database_of_another_schema_is_left_alone(world: World) -> None:
    """What this program does not know it does not archive."""
    world.ask("INSERT INTO schema_migrations (number, name, digest, oldest) VALUES (999, 'later', 'x', 999)")
    with pytest.raises(ConfigError, match="needs an Interlock that knows schema 999"):
        world.run()


def test_only_the_owner_can_archive(world: World, postgres: Cluster) -> None:
    """A role that may read and write, and no more, is told so, and nothing has happened."""
    old = ended(world.writer)
    world.ask("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")
    name = world.url.rpartition("/")[2]
    postgres.query("DO $$ BEGIN CREATE ROLE clerk LOGIN; EXCEPTION WHEN duplicate_object THEN END $$", name)
    clerk = PostgresPeriods(postgres.url(name, "clerk"))
    world.jobs.append(clerk)
    with pytest.raises(ConfigError, match="only the owner of the tables can archive"):
        world.run(of=clerk)
    assert world.store.get(old[0].id) == old[0]


def test_the_job_tells_what_it_did(world: World) -> None:
    """A line in the log for each period, and for each that had to stay."""
    ended(world.writer)
    ended(world.writer, at=AT - DAY)
    world.ask(f"{TAMPERING['altered']} WHERE chain_seq = 7")
    world.now = AT + timedelta(days=33)
    with structlog.testing.capture_logs() as logs:
        world.job().work()
    assert {(entry["event"], entry.get("archive"), entry["log_level"]) for entry in logs} >= {
        ("archived", "interlock-local-20260303-20260304", "info"),
        ("not archived", None, "error"),
        ("dropped an empty period", None, "info"),
    }
