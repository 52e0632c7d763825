"""Replication between regions, on real servers: two regions, each on a PostgreSQL of its own."""
# ruff: noqa: S608 - statements of the test's own values

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from psycopg import errors
from typer.testing import CliRunner

from interlock.chain import encode, micros
from interlock.cli.exits import Exit, exit_of
from interlock.cli.regions import regions
from interlock.demo.postgres import OWNER, Cluster
from interlock.demo.postgres.templates import SUPERUSER
from interlock.errors import ConfigError, ConflictError, InterlockError, StoreUnavailable
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind, Standing, State
from interlock.regions import rules
from interlock.regions.rules import CHANGES, Post
from interlock.stores.postgres import comparison, diagnosis, joining, schema
from interlock.stores.postgres.connections import for_bulk
from interlock.stores.postgres.flows import Progress
from interlock.stores.postgres.publications import NAMES, ROWS, TABLE_NAMES
from interlock.stores.postgres.replication import Replication
from interlock.stores.postgres.witness import WitnessStore
from interlock.transaction import Event
from tests.postgres import QUICK, installation

AT = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
SETTINGS = {
    **QUICK,
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_logical_replication_workers": "12",
    "max_sync_workers_per_subscription": "6",
    "max_worker_processes": "24",
    "max_slot_wal_keep_size": "64MB",
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "10s",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "100ms",
    "max_connections": "40",
    "shared_buffers": "32MB",
}
#: One and the same for all tests of this module, so that no two databases ever have one name.
_names = itertools.count(1)


class Peer(NamedTuple):
    number: int
    database: str


@dataclass
class Region:
    """A region's database, and what replicates it."""

    number: int
    cluster: Cluster
    database: str
    replication: Replication = field(init=False)

    def __post_init__(self) -> None:
        """Begin as a copy of a database with our schema: that is quicker than to make it."""
        if not self.cluster.query("SELECT 1 FROM pg_database WHERE datname = 'fresh'"):
            with closing(for_bulk(self.cluster.create_database("fresh"))) as connection:
                schema.migrate(connection)
        self.cluster.query(f"CREATE DATABASE {self.database} OWNER {OWNER} TEMPLATE fresh")
        self.replication = Replication(self.url, self.number, stall_seconds=0.8)

    @property
    def url(self) -> str:
        """As the superuser: subscriptions are for those alone on 15."""
        return self.cluster.url(self.database, SUPERUSER)

    @property
    def peer(self) -> Peer:
        """As the other region's configuration has it."""
        return Peer(self.number, self.url)

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """What the superuser gets."""
        return self.cluster.query(text, self.database)

    def value(self, text: str) -> Any:
        """The first value of it."""
        return self.query(text)[0][0]

    def until(self, text: str, seconds: float = 20) -> None:
        """Return once that is true."""
        self.cluster.until(text, self.database, seconds=seconds)

    def transaction(
        self, number: int, *, home: int | None = None, at: datetime = AT, epoch: int = 1, state: str = "ACTC",
        status: str = "ACTC", answer: bytes | None = None,
    ) -> UUID:  # fmt: skip
        """Store a row of a transaction with an event and a payment, as the owner of the tables would.

        home: the region that has issued its id, where this one has taken it over.
        """
        region = self.number
        id_ = transaction_id(number, region if home is None else home, at)
        due = "NULL" if state == "end" else str(micros(at))
        digest = "NULL" if answer is None else f"'\\x{answer.hex()}'"
        self.query(
            "INSERT INTO transactions (id, client, region, epoch, version, route, state, status, created_at, "
            "updated_at, due_at, payments, answer_digest, answer_due, attempt, flagged, everywhere, claim) VALUES "
            f"('{id_}', 'alice', {region}, {epoch}, 1, 'default', '{state}', '{status}', 1, "
            f"1, {due}, 1, {digest}, true, 1, false, false, 7)"
        )
        self.query(
            "INSERT INTO events (tx, seq, epoch, writer, journal, chain_seq, content, previous, hash) VALUES "
            f"('{id_}', 1, {epoch}, {region * 1_000_000 + 1}, 1, {number}, '{{}}', '\\x00', '\\x00')"
        )
        self.query(f"INSERT INTO payments (tx, ordinal, region, status) VALUES ('{id_}', 1, {region}, 'ACTC')")
        return id_

    def shape(self, database: str | None = None) -> list[tuple[Any, ...]]:
        """Tables and their columns, of this database or another one on its server."""
        columns = (
            "SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid "
            "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT attisdropped ORDER BY 1, 2"
        )
        return self.cluster.query(columns, database or self.database)

    def count(self, table: str = "transactions") -> int:
        """Number of rows."""
        return int(self.value(f"SELECT count(*) FROM {table}"))

    def remove(self) -> None:
        """Drop the subscriptions, which would keep the database."""
        self.replication.close()
        for (name,) in self.query("SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
                                  "WHERE d.datname = current_database()"):  # fmt: skip
            self.query(f"ALTER SUBSCRIPTION {name} DISABLE")
            self.query(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")
            self.query(f"DROP SUBSCRIPTION {name}")

    def drop(self) -> None:
        """Drop the database, once nobody subscribes to it."""
        slots = "SELECT slot_name, active_pid FROM pg_replication_slots"
        for name, pid in self.query(slots):
            if pid is not None:
                self.query(f"SELECT pg_terminate_backend({pid}, 5000)")
            self.query(f"SELECT pg_drop_replication_slot('{name}')")
        self.cluster.drop_database(self.database)


def transaction_id(number: int, region: int, at: datetime = AT) -> UUID:
    """A UUIDv7 of that time."""
    return UUID(int=(micros(at) // 1_000 << 80) | (7 << 76) | (2 << 62) | (number << 8) | region)


@dataclass
class World:
    """Two regions."""

    a: Region
    b: Region

    def join(self) -> "World":
        """Each follows the other."""
        for region, other in ((self.a, self.b), (self.b, self.a)):
            joining.install(region.replication, {"other": other.peer})
        joining.subscribe(self.a.replication, self.b.peer)
        joining.subscribe(self.b.replication, self.a.peer)
        self.settle()
        return self

    def settle(self) -> None:
        """Return when each has all of the other's rows."""
        for region, other in ((self.a, self.b), (self.b, self.a)):
            eventually(partial(region.replication.ready, other.number))
        for region, other in ((self.a, self.b), (self.b, self.a)):
            assert region.replication.await_flushed(other.number, region.replication.flushed()[0], 20)


def eventually(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(StoreUnavailable):
            if true():
                return
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def clusters(major: int | None) -> Iterator[tuple[Cluster, Cluster]]:
    found = installation(major)
    with ExitStack() as stack:
        one, other = (stack.enter_context(Cluster(found, settings=SETTINGS)) for _ in range(2))
        yield one, other


@pytest.fixture(scope="module")
def newest() -> Iterator[tuple[Cluster, Cluster]]:
    yield from clusters(None)


def worlds(pair: tuple[Cluster, Cluster]) -> Iterator[World]:
    name = f"region_{next(_names)}"
    world = World(Region(1, pair[0], name), Region(2, pair[1], name))
    yield world
    for region in (world.a, world.b):
        region.remove()
    for region in (world.a, world.b):
        region.drop()


@pytest.fixture
def apart(newest: tuple[Cluster, Cluster], pool: "Pool") -> Iterator[World]:
    """Two regions that do not know each other yet."""
    pool.dispose()  # slots and publications are named by region, and a server has each name once
    yield from worlds(newest)


@dataclass
class Pool:
    """Two regions that follow each other, as long as tests leave them as they were: to make them takes a second."""

    pair: tuple[Cluster, Cluster]
    made: Iterator[World] | None = None
    world: World | None = None

    def take(self) -> World:
        """Two regions without a row."""
        if self.world is None:
            self.made = worlds(self.pair)
            self.world = next(self.made).join()
        return self.world

    def give_back(self) -> None:
        """Keep them where nothing but rows has changed."""
        assert self.world is not None
        if not self._emptied(self.world):
            self.dispose()

    def _emptied(self, world: World) -> bool:
        try:
            for region, other in ((world.a, world.b), (world.b, world.a)):
                position, _ = region.replication.flushed()
                if not region.replication.await_flushed(other.number, position, 2):
                    return False
            for region in (world.a, world.b):
                region.query(f"TRUNCATE {', '.join(TABLE_NAMES)}, archives, seen CASCADE")
                region.query("UPDATE region SET epoch = 1, guards = '{}', fenced = false")
            return all(
                not diagnosis.check(region.replication, {"other": other.peer})
                and region.shape() == region.shape("fresh")
                for region, other in ((world.a, world.b), (world.b, world.a))
            )
        except InterlockError:
            return False

    def dispose(self) -> None:
        """Drop them."""
        made, self.made, self.world = self.made, None, None
        if made is not None:
            next(made, None)


@pytest.fixture(scope="module")
def pool(newest: tuple[Cluster, Cluster]) -> Iterator[Pool]:
    pool = Pool(newest)
    yield pool
    pool.dispose()


@pytest.fixture
def world(pool: Pool) -> Iterator[World]:
    """Two regions that follow each other."""
    yield pool.take()
    pool.give_back()


def test_rows_of_both_regions_reach_the_other_and_nothing_comes_back(world: World) -> None:
    for number in range(1, 21):
        world.a.transaction(number)
        world.b.transaction(number)
    world.a.query("UPDATE transactions SET version = 2 WHERE region = 1")
    world.settle()
    for region in (world.a, world.b):
        assert region.query("SELECT region, version, count(*) FROM transactions GROUP BY 1, 2 ORDER BY 1") == [
            (1, 2, 20),
            (2, 1, 20),
        ]
        assert region.count("events") == region.count("payments") == 40


# -- setting up -------------------------------------------------------------------------------------------------------


def test_setting_up_is_done_once_and_mends_what_was_changed(world: World) -> None:
    """What differs is put right, and nothing else is touched."""
    peers = {"b": world.b.peer}
    assert joining.install(world.a.replication, peers) == []
    assert not joining.subscribe(world.a.replication, world.b.peer)
    assert diagnosis.check(world.a.replication, peers) == []

    world.a.query(f"ALTER PUBLICATION {ROWS} SET (publish = 'insert, update, delete, truncate')")
    world.a.query(f"ALTER PUBLICATION {NAMES} DROP TABLE clients")
    world.a.query("ALTER TABLE payments DISABLE TRIGGER interlock_guard_update")
    world.a.query("ALTER SUBSCRIPTION interlock_from_2 SET (synchronous_commit = off, disable_on_error = true)")
    told = "\n".join(diagnosis.check(world.a.replication, peers))
    for trap in (
        f"{ROWS} publishes TRUNCATE",
        "publishes insert, update, delete, not insert, update",
        "clients is not published",
        "payments does not refuse other regions' rows",
        "synchronous_commit is off",
        "disable_on_error is on",
    ):
        assert trap in told

    assert len(joining.install(world.a.replication, peers)) == 3
    joining.subscribe(world.a.replication, world.b.peer)
    eventually(lambda: world.a.replication.ready(2))
    assert diagnosis.check(world.a.replication, peers) == []


def test_rows_columns_and_filters_that_are_not_ours_are_found(world: World) -> None:
    """A list of columns or a filter that somebody has changed would let rows through that must not be."""
    world.a.query(f"ALTER PUBLICATION {NAMES} SET TABLE keys, clients WHERE (region = 2)")
    told = "\n".join(diagnosis.check(world.a.replication, {"b": world.b.peer}))
    assert "keys is published with other rows" in told
    assert "keys is published without a list of columns" in told
    assert "clients is published with other rows" in told
    joining.install(world.a.replication, {"b": world.b.peer})
    assert diagnosis.check(world.a.replication, {"b": world.b.peer}) == []


def test_no_region_writes_what_is_another_s(world: World) -> None:
    """Whoever tries is refused, but for the worker that applies what the other has written."""
    id_ = world.b.transaction(1)
    world.settle()
    with psycopg.connect(world.a.cluster.url(world.a.database), autocommit=True) as owner:
        for attempt in (
            f"UPDATE transactions SET version = 2 WHERE id = '{id_}'",
            f"UPDATE events SET content = 'x' WHERE tx = '{id_}'",
            "UPDATE transactions SET region = 1",
            f"INSERT INTO payments (tx, ordinal, region, status) VALUES ('{id_}', 2, 2, 'ACTC')",
            "INSERT INTO events SELECT tx, 2, epoch, writer, journal, 2, content, hash, hash FROM events",
            "INSERT INTO takeovers (home, generation, region, begun_at) VALUES (1, 1, 2, 1)",
        ):
            with pytest.raises(errors.IntegrityConstraintViolation, match="belongs to another region"):
                owner.execute(attempt)
        owner.execute("UPDATE transactions SET region = 1 WHERE region = 1")
    assert world.a.value("SELECT version FROM transactions") == 1


def test_truncating_empties_one_region_alone(world: World) -> None:
    """TRUNCATE heeds no filter: published, it would empty every region and go round for ever."""
    world.a.transaction(1)
    world.settle()
    world.a.query(f"TRUNCATE {', '.join(TABLE_NAMES)}")
    world.a.transaction(2)
    world.settle()
    assert (world.a.count(), world.b.count()) == (1, 2)


def test_rows_of_default_partitions_are_moved_by_each_region_for_itself(world: World) -> None:
    """They are moved by deleting them, which is not published; and what follows reaches them where they are."""
    ids = [world.a.transaction(number) for number in range(1, 4)]
    world.settle()
    assert world.b.count("transactions_default") == 3
    with closing(for_bulk(world.a.url)) as connection:
        assert schema.extend(connection, AT, 1) > 0
    assert (world.a.count("transactions_default"), world.a.count("transactions_p20260304")) == (0, 3)
    world.a.query(f"UPDATE transactions SET version = 2 WHERE id = '{ids[0]}'")
    world.a.transaction(4)
    world.settle()
    assert world.b.query("SELECT version, count(*) FROM transactions GROUP BY 1 ORDER BY 1") == [(1, 3), (2, 1)]
    assert world.b.count("events") == world.b.count("payments") == 4
    # Retention drops what lies before, in one region.
    world.a.query("DROP TABLE transactions_p20260304")
    world.a.transaction(5)
    world.settle()
    assert world.b.count() == 5


def test_names_are_forgotten_everywhere_and_transactions_by_each_region_for_itself(world: World) -> None:
    """A key that was given back is free in all regions."""
    id_ = world.a.transaction(1)
    null = UUID(int=0)
    world.a.query(f"INSERT INTO keys VALUES ('alice', 'uetr', 'x', '{null}', 1, '{id_}', 1)")
    world.a.query("INSERT INTO controls VALUES (1, 1, 'route', 'default', true, 'op', NULL, 1)")
    world.settle()
    assert (world.b.count("keys"), world.b.count("controls")) == (1, 1)
    world.a.query("DELETE FROM keys")
    world.a.query("DELETE FROM transactions")
    world.settle()
    assert (world.b.count("keys"), world.b.count()) == (0, 1)


def test_a_new_column_is_published_once_every_region_has_it(world: World) -> None:
    """One that a subscriber lacks would stop it; so subscribers come first, and the list of columns last."""
    peers = {"b": world.b.peer}
    world.a.query("ALTER TABLE clients ADD COLUMN motto text")
    assert (
        "clients.motto is not published yet: migrate the other regions first"
        in joining.install(world.a.replication, peers)[0]
    )
    world.a.query("INSERT INTO clients VALUES ('x', 1, 'X', '', '', 1, NULL, 1, 'first')")
    world.settle()
    assert world.b.query("SELECT id FROM clients") == [("x",)]
    assert any("clients.motto is not published" in told for told in diagnosis.check(world.a.replication, peers))

    # One that cannot be asked may lack it.
    away = Peer(3, "postgresql://postgres@127.0.0.1:1/none")
    assert "a peer cannot be asked" in joining.install(world.a.replication, {"c": away})[0]
    world.b.query("ALTER TABLE clients ADD COLUMN motto text")
    joining.install(world.a.replication, peers)
    world.a.query("UPDATE clients SET motto = 'second'")
    world.settle()
    assert world.b.query("SELECT motto FROM clients") == [("second",)]
    assert diagnosis.check(world.a.replication, peers) == []


def test_regions_with_different_schemas_are_told_which_comes_next(world: World) -> None:
    """The one that is behind is migrated first."""
    world.b.query("INSERT INTO schema_migrations (number, name, digest, oldest) VALUES (99, 'later', 'x', 0)")
    told = diagnosis.check(world.a.replication, {"b": world.b.peer})
    assert len(told) == 1
    assert "b has schema 99" in told[0]
    assert "migrate this region next" in told[0]


def test_nothing_is_subscribed_to_that_would_stop_at_once(apart: World) -> None:
    """Each reason is told, and what to do."""
    a, b = apart.a.replication, apart.b.replication
    with pytest.raises(ConfigError, match="region 2 was not set up: run `interlock regions init` there"):
        joining.subscribe(a, apart.b.peer)
    joining.install(a, {"b": apart.b.peer})
    joining.install(b, {"a": apart.a.peer})
    with pytest.raises(ConfigError, match="that database is of region 2"):
        joining.subscribe(a, Peer(3, apart.b.url))
    with pytest.raises(StoreUnavailable, match="the database of region 2"):
        joining.subscribe(a, Peer(2, "postgresql://postgres@127.0.0.1:1/none"))
    apart.b.query("ALTER TABLE clients ADD COLUMN motto text")
    joining.install(b, {})
    with pytest.raises(ConfigError, match=r"publishes what this schema does not have: clients\.motto; migrate here"):
        joining.subscribe(a, apart.b.peer)
    apart.b.query("ALTER TABLE clients DROP COLUMN motto CASCADE")
    joining.install(b, {})
    # What is there before would collide with the copy.
    apart.a.query("INSERT INTO clients VALUES ('y', 1, 'Y', '', '', 1, NULL, 1)")
    apart.a.query(
        "SET session_replication_role = replica; INSERT INTO clients VALUES ('x', 2, 'X', '', '', 1, NULL, 1)"
    )
    with pytest.raises(ConflictError, match="rows of region 2 here already"):
        joining.subscribe(a, apart.b.peer)


def test_what_was_there_before_comes_with_the_first_copy(apart: World) -> None:
    """And no row of the subscriber's own comes back by it."""
    for number in range(1, 31):
        apart.a.transaction(number)
        apart.b.transaction(number)
    apart.join()
    assert apart.a.count() == apart.b.count() == 60


# -- being cut off, and coming back -----------------------------------------------------------------------------------


def test_a_server_that_was_killed_is_followed_again_by_itself(world: World) -> None:
    """A lost connection disables nothing."""
    world.a.transaction(1)
    world.settle()
    world.a.cluster.kill()
    world.a.cluster.start()
    world.a.transaction(2)
    eventually(lambda: world.b.count() == 2)
    assert world.b.value("SELECT subenabled FROM pg_subscription WHERE subname = 'interlock_from_1'")


def test_after_a_cut_nothing_comes_in_until_it_is_opened(world: World) -> None:
    """What was written meanwhile comes then."""
    b = world.b.replication
    assert not b.is_cut(1)
    b.cut(1)
    assert b.is_cut(1)
    assert (
        world.b.value("SELECT count(*) FROM pg_stat_subscription WHERE subname = 'interlock_from_1' AND pid > 0") == 0
    )
    world.a.transaction(1)
    assert world.b.count() == 0
    b.cut(1)
    b.open(1)
    eventually(lambda: world.b.count() == 1)
    assert not b.is_cut(1)
    with pytest.raises(ConfigError, match="region 7 is not subscribed to"):
        b.open(7)
    b.cut(7)
    assert not b.is_cut(7)


def test_a_cut_ends_a_worker_that_does_not_end_by_itself(world: World) -> None:
    """One that waits for a lock would apply its transaction whenever it gets it."""
    with psycopg.connect(world.b.url) as holder:
        holder.execute("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE")
        world.a.transaction(1)
        waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
        world.b.cluster.until(waits)
        began = time.monotonic()
        world.b.replication.cut(1)
        assert time.monotonic() - began < 5
        holder.rollback()
    assert world.b.count() == 0
    world.b.replication.open(1)
    eventually(lambda: world.b.count() == 1)


def test_a_dead_peer_is_left_and_its_slot_too_once_it_is_back(world: World) -> None:
    """A subscription that waits for its publisher could not be dropped."""
    slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'interlock_1_to_2'"
    world.a.cluster.stop("immediate")
    assert not joining.unsubscribe(world.b.replication, world.a.peer)
    assert world.b.query("SELECT 1 FROM pg_subscription WHERE subname = 'interlock_from_1'") == []
    world.a.cluster.start()
    assert world.a.value(slots) == 1
    assert joining.unsubscribe(world.b.replication, world.a.peer)
    assert world.a.value(slots) == 0
    assert joining.unsubscribe(world.b.replication, world.a.peer)


def test_a_peer_that_stands_still_is_not_waited_for(world: World) -> None:
    """Connections to it stand, and nobody answers."""
    world.a.replication.status({"b": world.b.peer})
    world.b.cluster.pause()
    try:
        began = time.monotonic()
        status = world.a.replication.status({"b": world.b.peer})[2]
        with pytest.raises(StoreUnavailable, match="region 2"):
            world.a.replication.post_of(world.b.peer)
        assert time.monotonic() - began < 6
    finally:
        world.b.cluster.resume()
    assert status.inbound.lag_bytes is None
    eventually(lambda: world.a.replication.post_of(world.b.peer).epoch == 1)


# -- how far it is ----------------------------------------------------------------------------------------------------


def test_a_peer_has_on_disk_what_it_says(world: World) -> None:
    """The position moves with what is written, and the peer's follows once it has it."""
    before, _ = world.a.replication.flushed()
    world.a.transaction(1)
    position, _ = world.a.replication.flushed()
    assert position > before
    assert world.a.replication.await_flushed(2, position, 10)
    assert world.b.count() == 1
    assert not world.a.replication.await_flushed(9, position, 0.05)
    world.b.replication.cut(1)
    world.a.transaction(2)
    assert not world.a.replication.await_flushed(2, world.a.replication.flushed()[0], 0.1)


def test_both_directions_are_shown(world: World) -> None:
    """Workers, tables and lag."""
    world.a.transaction(1)
    world.settle()
    eventually(lambda: world.a.replication.status({"b": world.b.peer})[2].inbound.lag_bytes == 0)
    status = world.a.replication.status({"b": world.b.peer})[2]
    assert status.inbound.ready
    assert status.inbound.lag_seconds == 0
    assert (status.outbound.slot, status.outbound.worker, status.outbound.wal_status) == (True, True, "reserved")
    assert status.outbound.safe_wal_size is not None


def test_what_stands_still_is_told_at_both_ends(world: World) -> None:
    """Something holds a table, and nothing fails: only that nothing moves shows it."""
    with psycopg.connect(world.b.url) as holder:
        holder.execute("LOCK TABLE transactions IN EXCLUSIVE MODE")
        world.a.transaction(1)
        world.b.cluster.until("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
        at_a = diagnosis.check(world.a.replication, {"b": world.b.peer})
        at_b = [told for told in diagnosis.check(world.b.replication, {"a": world.a.peer}) if "stands still" in told]
        holder.rollback()
    assert [told for told in at_a if "b stands still" in told]
    assert at_b == ["what comes from a stands still, though there is more: does somebody here lock a table?"]


def test_a_worker_that_fails_again_and_again_is_told(world: World) -> None:
    """It meets a row that nobody but its writer should have made."""
    world.b.query(
        "SET session_replication_role = replica; INSERT INTO clients VALUES ('x', 1, 'X', '', '', 1, NULL, 1)"
    )
    world.a.query("INSERT INTO clients VALUES ('x', 1, 'X', '', '', 1, NULL, 1)")
    world.b.until("SELECT apply_error_count > 0 FROM pg_stat_subscription_stats WHERE subname = 'interlock_from_1'")
    told = diagnosis.check(world.b.replication, {"a": world.a.peer})
    assert any("what comes from a fails again and again" in line or "nobody applies" in line for line in told)
    world.b.query("DELETE FROM clients")
    eventually(lambda: world.b.count("clients") == 1)


def test_progress_is_judged_by_a_goal_that_stood_before() -> None:
    """Who is always a little behind a goal that moves does not stand still."""
    progress = Progress()
    assert progress.still(10, 20, now=0) == 0
    assert progress.still(10, 30, now=5) == 5
    assert progress.still(11, 40, now=6) == 0
    assert progress.still(40, 40, now=7) == 0
    assert progress.still(40, 40, now=99) == 0
    assert progress.still(40, 50, now=100) == 0
    assert progress.still(40, 60, now=103) == 3


def test_settings_of_the_server_that_will_hurt_are_told(world: World) -> None:
    """Before the disk is full, or a commit hangs."""
    world.a.cluster.configure(max_slot_wal_keep_size="-1", synchronous_standby_names="interlock_2")
    try:
        told = "\n".join(diagnosis.check(world.a.replication, {"b": world.b.peer}))
    finally:
        world.a.cluster.configure(max_slot_wal_keep_size="64MB", synchronous_standby_names="")
    assert "max_slot_wal_keep_size is not set" in told
    assert "synchronous_standby_names is 'interlock_2'" in told
    world.a.query("ALTER TABLE payments DETACH PARTITION payments_default")
    world.a.query("ALTER TABLE keys REPLICA IDENTITY FULL")
    told = "\n".join(diagnosis.check(world.a.replication, {"b": world.b.peer}))
    assert "payments has no DEFAULT partition" in told
    assert "keys has another replica identity" in told
    many = {str(number): Peer(number, world.b.url) for number in range(3, 40)}
    told = "\n".join(diagnosis.check(world.a.replication, {"b": world.b.peer, **many}))
    for name in ("max_replication_slots", "max_wal_senders", "max_logical_replication_workers", "max_worker_processes"):
        assert f"{name} is " in told


# -- a lost slot ------------------------------------------------------------------------------------------------------


def test_a_lost_slot_is_told_and_the_copy_is_made_anew(world: World) -> None:
    """Own rows stay, the peer's are replaced by what the peer has."""
    for number in range(1, 11):
        world.a.transaction(number)
        world.b.transaction(number)
    world.settle()
    world.b.replication.cut(1)
    with closing(for_bulk(world.b.url)) as connection:
        schema.extend(connection, AT, 1)
    world.a.transaction(11)
    for _ in range(7):
        world.a.query("SELECT pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()")
    world.a.query("CHECKPOINT")
    world.a.until("SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = 'interlock_1_to_2'")
    assert any("the slot of b is lost" in told for told in diagnosis.check(world.a.replication, {"b": world.b.peer}))
    with pytest.raises(ConflictError, match="`interlock regions reseed`"):
        joining.subscribe(world.b.replication, world.a.peer)

    assert joining.reseed(world.b.replication, world.a.peer) == 30
    world.settle()
    assert world.b.query("SELECT region, count(*) FROM transactions GROUP BY 1 ORDER BY 1") == [(1, 11), (2, 10)]
    assert compared(world) == []
    assert world.a.count() == 21


def test_a_copy_that_counts_is_not_made_anew(world: World) -> None:
    """A guard has said that it has it on disk; a taker goes by it."""
    a, b = world.a.replication, world.b.replication
    assert a.change_post(Post(), Post(2, frozenset({2})))
    with pytest.raises(ConflictError, match="this region guards region 1"):
        joining.reseed(b, world.a.peer)
    assert a.change_post(Post(2, frozenset({2})), Post(CHANGES))
    b.begin_takeover(1, 1, AT)
    with pytest.raises(ConflictError, match="goes by these rows"):
        joining.reseed(b, world.a.peer)
    b.begin_takeover(1, 2, AT)
    joining.unsubscribe(b, world.a.peer)
    with pytest.raises(ConflictError, match="was taken over and does not go by that yet"):
        joining.subscribe(b, world.a.peer)


# -- the post and takeovers -------------------------------------------------------------------------------------------


def test_one_of_two_changes_of_the_post_wins(world: World) -> None:
    """Each names the epoch that it was read at; a fence goes upwards only."""
    a = world.a.replication
    assert a.read_post() == Post(1, frozenset(), fenced=False)
    after = Post(2, frozenset({2}))
    assert a.change_post(Post(), after)
    assert not a.change_post(Post(), Post(2, frozenset({3})))
    assert a.read_post() == after == world.b.replication.post_of(world.a.peer)
    fence = Post(3 * CHANGES, frozenset(), fenced=True)
    assert a.take_post(fence)
    assert not a.take_post(Post(2 * CHANGES, frozenset(), fenced=True))
    assert not a.take_post(fence)
    assert a.read_post() == fence


def test_a_change_of_the_post_waits_for_whoever_commits_under_it(world: World) -> None:
    """Once it is made nothing more is committed under the one before."""
    hasty = Replication(world.a.url, 1, patience_seconds=0.3)
    with psycopg.connect(world.a.url) as commit, closing(hasty):
        commit.execute("SELECT pg_advisory_xact_lock_shared(5865306410)")
        with pytest.raises(StoreUnavailable):
            hasty.change_post(Post(), Post(2))
        changed = threading.Thread(target=world.a.replication.change_post, args=(Post(), Post(2)))
        changed.start()
        world.a.cluster.until("SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        commit.rollback()
        changed.join()
    assert world.a.replication.read_post() == Post(2)


def test_a_takeover_is_known_to_its_home_once_it_may_go_on(world: World) -> None:
    """The record comes after everything that was decided before it."""
    a, b = world.a.replication, world.b.replication
    b.begin_takeover(1, 1, AT)
    b.begin_takeover(1, 1, AT.replace(year=2027))
    b.note_cut(1, 1, AT)
    assert not b.complete_takeover(1, 1, AT, 3, (Post(9), Post(10)))
    assert b.complete_takeover(1, 1, AT, 3, (Post(), Post(2)))
    assert not b.note_returned(1, 1, AT, (Post(), Post(2)))
    world.settle()
    assert not a.informed(1, 1)
    assert b.note_returned(1, 1, AT, (Post(2), Post(3)))
    world.settle()
    assert a.informed(1, 1)
    assert not a.informed(1, 2)
    (record,) = a.takeovers()
    assert record == (1, 1, 2, AT, AT, AT, AT, 3)
    assert b.read_post() == Post(3)


def test_what_a_home_has_in_flight_is_found_and_what_is_a_taker_s_is_left(world: World) -> None:
    """By the row of the highest epoch."""
    flying = sorted(world.a.transaction(number) for number in (3, 1, 2))
    world.a.transaction(4, state="end", status="ACSC")
    world.a.transaction(5, epoch=2 * CHANGES)
    world.settle()
    b = world.b.replication
    assert b.in_flight_of(1, CHANGES, None, 10) == flying
    assert b.in_flight_of(1, CHANGES, flying[0], 1) == flying[1:2]
    world.b.transaction(1, home=1, epoch=CHANGES, state="end", status="CANC")
    assert b.in_flight_of(1, CHANGES, None, 10) == flying[1:]
    world.settle()
    assert world.a.replication.leave_superseded() == 1
    assert world.a.replication.leave_superseded() == 0
    assert world.a.query(f"SELECT due_at, claim FROM transactions WHERE id = '{flying[0]}' AND region = 1") == [
        (None, 0)
    ]
    assert diagnosis.check(world.a.replication, {"b": world.b.peer}) == []


# -- ends that contradict each other ----------------------------------------------------------------------------------


def look(region: Region, limit: int = 100) -> set[tuple[UUID, UUID, int, str]]:
    """What a region finds among what has come since it last looked."""
    found = region.replication.arrivals(limit)
    region.replication.note_seen(found.reached)
    return set(found.doubles)


def test_two_ends_of_one_transaction_are_found_when_the_other_s_comes(world: World) -> None:
    """The same end twice is none; another answer is. By whichever region gets the later one, and once."""
    for number in (1, 2, 3):
        world.a.transaction(number, state="end", status="ACSC", answer=b"yes")
    world.settle()
    assert look(world.b) == set()
    world.b.transaction(1, home=1, epoch=CHANGES, state="end", status="ACSC", answer=b"yes")
    two = world.b.transaction(2, home=1, epoch=CHANGES, state="end", status="CANC", answer=b"no")
    three = world.b.transaction(3, home=1, epoch=CHANGES, state="end", status="ACSC", answer=b"no")
    world.settle()
    both = {(id_, id_, *end) for id_ in (two, three) for end in ((1, "ACSC"), (2, "CANC" if id_ == two else "ACSC"))}
    assert look(world.b) == set()  # its own ends are not looked through
    assert look(world.a) == both
    assert look(world.a) == set()
    assert set(world.a.replication.doubles()) == set(world.b.replication.doubles()) == both


def settled(region: Region, number: int, uetr: str, *, status: str = "ACSC", payment: int = 1) -> UUID:
    """A transaction with a payment under a key, and what became of that."""
    id_ = region.transaction(number, state="end", status=status, answer=b"yes")
    region.query(f"UPDATE payments SET status = '{status}', ordinal = {payment} WHERE tx = '{id_}'")
    region.query(
        "INSERT INTO keys (client, kind, value, freed, region, tx, payment) VALUES "
        f"('alice', 'uetr', '{uetr}', '{UUID(int=0)}', {region.number}, '{id_}', {payment})"
    )
    return id_


def test_a_payment_that_two_regions_have_settled_is_found_by_each_when_the_other_s_comes(world: World) -> None:
    """Whatever came to nothing at either is no double, and what is of one region alone is not looked for."""
    ours, theirs = settled(world.a, 1, "both"), settled(world.b, 2, "both", payment=3)
    settled(world.a, 3, "here")
    settled(world.b, 4, "here", status="CANC")
    settled(world.a, 5, "there", status="RJCT")
    settled(world.b, 6, "there")
    settled(world.b, 7, "alone")
    world.settle()
    assert look(world.a) == {(ours, theirs, 2, "ACSC")}
    assert look(world.b) == {(theirs, ours, 1, "ACSC")}
    assert look(world.a) == look(world.b) == set()
    assert set(world.a.replication.doubles()) == {(ours, theirs, 2, "ACSC"), (theirs, ours, 1, "ACSC")}


def test_what_has_come_is_looked_at_page_by_page_and_only_once_it_was_all_copied(world: World) -> None:
    """And not noted as seen before somebody says so: what could not be recorded is found again."""
    ours, theirs = settled(world.a, 1, "both"), settled(world.b, 5, "both")
    for number in (1, 2, 3, 4):
        world.b.transaction(number)
    world.settle()
    a = world.a.replication
    assert a.arrivals(3) == ((), {(2_000_001, 1): 3}, True)
    assert a.arrivals(3) == a.arrivals(3)
    assert look(world.a, 3) == set()
    found = a.arrivals(3)
    assert (found.doubles, found.reached, found.more) == (((ours, theirs, 2, "ACSC"),), {(2_000_001, 1): 5}, False)
    a.note_seen(dict.fromkeys(found.reached, 1))
    assert a.arrivals(3) == found
    world.a.query("UPDATE pg_subscription_rel SET srsubstate = 'd' WHERE srrelid = 'keys'::regclass")
    try:
        assert a.arrivals(3) == ((), {}, False)
    finally:
        world.a.query("UPDATE pg_subscription_rel SET srsubstate = 'r' WHERE srrelid = 'keys'::regclass")


def test_what_comes_late_of_an_old_transaction_is_missed_by_its_number(world: World) -> None:
    """Numbers of a journal follow each other: a gap among what is recent is looked up among all."""
    recent = AT.replace(day=20)
    world.b.transaction(1)
    ours, theirs = settled(world.a, 1, "both"), settled(world.b, 2, "both")
    world.settle()
    assert world.a.replication.arrivals(10, recent) == ((), {}, False)
    world.b.transaction(3, at=recent)
    world.settle()
    found = world.a.replication.arrivals(10, recent)
    assert (found.doubles, found.reached) == (((ours, theirs, 2, "ACSC"),), {(2_000_001, 1): 3})
    world.a.replication.note_seen(found.reached)
    world.b.transaction(4, at=recent)
    world.settle()
    assert world.a.replication.arrivals(10, recent).reached == {(2_000_001, 1): 4}


def test_what_is_recorded_is_told_by_status(world: World) -> None:
    """By the flag and its event: nothing else is read."""
    id_ = world.a.transaction(1, state="end", status="ACSC")
    end = Standing(State.END, Status.ACSC, Status.ACSC)
    event = Event(seq=2, kind=EventKind.ENDED_TWICE, at=AT, actor="interlock", standing=end, note="so it is")
    world.a.query(
        "INSERT INTO events (tx, seq, epoch, writer, journal, chain_seq, content, previous, hash) VALUES "
        f"('{id_}', 2, 1, 1000001, 1, 2, '\\x{encode(id_, event).hex()}', '\\x00', '\\x00')"
    )
    assert world.a.replication.ended_twice() == 0
    world.a.query("UPDATE transactions SET flagged = true")
    world.settle()
    assert (world.a.replication.ended_twice(), world.b.replication.ended_twice()) == (1, 0)
    assert diagnosis.check(world.a.replication, {"b": world.b.peer}) == [
        f"INCIDENT: transaction {id_} has ended twice: so it is"
    ]


# -- comparing --------------------------------------------------------------------------------------------------------


def compared(world: World, region: Region | None = None) -> list[str]:
    """What differs, seen from a region."""
    here = region or world.a
    there = world.b if here is world.a else world.a
    found: list[str] = []
    result = comparison.verify(
        here.url, here.number, there.peer, seconds=20, found=lambda difference: found.append(str(difference))
    )
    assert result.differences == len(found)
    return found


def test_a_difference_is_named_by_its_table_and_key(world: World) -> None:
    """A row too few, a row too many, a row that is another: whichever side one asks."""
    ids = [world.a.transaction(number) for number in range(1, 31)]
    world.b.transaction(1, at=AT.replace(day=5))
    world.settle()
    assert compared(world) == compared(world, world.b) == []
    replica = "SET session_replication_role = replica; "
    world.b.query(f"{replica}DELETE FROM payments WHERE tx = '{ids[3]}'")
    world.b.query(f"{replica}UPDATE events SET content = 'forged' WHERE tx = '{ids[7]}'")
    world.b.query(f"{replica}INSERT INTO clients VALUES ('x', 1, 'X', '', '', 1, NULL, 1)")
    expected = [
        f"region 1, events (tx, seq, epoch, writer) = ({ids[7]},1,1,1000001): is another in region 2 than in region 1",
        f"region 1, payments (tx, ordinal, region) = ({ids[3]},1,1): is missing in region 2",
        "region 1, clients (id, region) = (x,1): is in region 2, and not in region 1",
    ]
    assert compared(world) == compared(world, world.b) == expected


def test_what_changes_meanwhile_is_no_difference(world: World) -> None:
    """Both go on while they are compared."""
    ids = [world.a.transaction(number) for number in range(1, 11)]
    world.settle()
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(world.a.url, autocommit=True) as connection:
            while not stop.is_set():
                for id_ in ids:
                    connection.execute("UPDATE transactions SET version = version + 1 WHERE id = %s", (id_,))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        world.b.query(f"SET session_replication_role = replica; DELETE FROM events WHERE tx = '{ids[2]}'")
        # Rows that change all the time may be told as such, or as they were at a moment of great lag.
        found = [line for _ in range(3) for line in compared(world) if "transactions" not in line]
    finally:
        stop.set()
        writer.join()
    assert len(found) == 3
    assert {line.split(" (")[0] for line in found} == {"region 1, events"}


def test_what_was_archived_at_one_side_is_left_out(world: World) -> None:
    """The other has it still, and that is as it should be."""
    world.a.transaction(1)
    world.settle()
    lower, upper = transaction_id(0, 0, AT.replace(hour=0)), transaction_id(0, 0, AT.replace(day=5, hour=0))
    world.a.query("DELETE FROM transactions; DELETE FROM events; DELETE FROM payments")
    assert len(compared(world)) == 3
    world.a.query(f"INSERT INTO archives VALUES ('x', '{lower}', '{upper}', '', '', 1, NULL, NULL)")
    assert compared(world) == []


def test_many_differences_of_a_day_are_told_in_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One need not read thousands of lines."""
    monkeypatch.setattr(comparison, "_ROWS_MAX", 3)
    for number in range(1, 10):
        world.a.transaction(number)
    world.settle()
    world.b.query("DELETE FROM payments")
    found = compared(world)
    assert len(found) == 4
    assert "more than 3 rows of one day may differ" in found[-1]


def test_who_does_not_follow_is_not_compared(world: World) -> None:
    """It would be told to lack what it was never given time for."""
    world.b.replication.cut(1)
    world.a.transaction(1)
    with pytest.raises(StoreUnavailable, match="bytes behind region 1; it was waited for 0 seconds"):
        comparison.verify(world.a.url, 1, world.b.peer, seconds=0.1)
    with pytest.raises(ConfigError, match="the database of region 3 is of region 2"):
        comparison.verify(world.a.url, 1, Peer(3, world.b.url))


# -- rights, and the oldest version -----------------------------------------------------------------------------------


def test_from_16_on_an_ordinary_role_can_be_allowed_to_subscribe(apart: World) -> None:
    """Before it is, it is told what it lacks."""
    if apart.a.cluster.installation.major < 16:
        pytest.skip("such a role is new in 16")
    for region, other in ((apart.a, apart.b), (apart.b, apart.a)):
        joining.install(region.replication, {"other": other.peer})
    with closing(Replication(apart.a.cluster.url(apart.a.database), 1)) as owner:
        with pytest.raises(ConfigError, match='GRANT pg_create_subscription TO "interlock"'):
            joining.subscribe(owner, apart.b.peer)
        apart.a.query("GRANT pg_create_subscription TO interlock")
        apart.b.query("ALTER ROLE interlock REPLICATION")
        try:
            with pytest.raises(ConfigError, match="needs a password"):
                joining.subscribe(owner, Peer(2, apart.b.cluster.url(apart.b.database)))
            assert apart.b.query("SELECT slot_name FROM pg_replication_slots") == []
            apart.b.transaction(1)
            joining.subscribe(owner, apart.b.peer)
            eventually(lambda: owner.ready(2) and apart.a.count() == 1)
            owner.cut(2)
            assert owner.is_cut(2)
            owner.open(2)
            assert joining.unsubscribe(owner, apart.b.peer)
        finally:
            apart.a.query("REVOKE pg_create_subscription FROM interlock")
            apart.b.query("ALTER ROLE interlock NOREPLICATION")


def test_on_15_a_superuser_subscribes() -> None:
    """And all else is the same there."""
    for pair in clusters(15):
        for world in worlds(pair):
            with closing(Replication(world.a.cluster.url(world.a.database), 1)) as owner:
                joining.install(world.b.replication, {})
                joining.install(owner, {})
                with pytest.raises(ConfigError, match="Subscriptions are for superusers alone on PostgreSQL 15"):
                    joining.subscribe(owner, world.b.peer)
            world.a.transaction(1)
            world.join()
            world.a.transaction(2)
            world.b.transaction(1)
            world.settle()
            assert world.a.count() == world.b.count() == 3
            assert diagnosis.check(world.a.replication, {"b": world.b.peer}) == []
            assert compared(world) == []
            world.b.replication.cut(1)
            assert world.b.replication.is_cut(1)
            world.b.replication.open(1)
            assert joining.unsubscribe(world.b.replication, world.a.peer)


# -- the commands -----------------------------------------------------------------------------------------------------


@dataclass
class Commands:
    """`interlock regions` in each of two regions, with a witness of their own."""

    world: World
    witness: WitnessStore
    files: dict[int, Path]

    def run(self, region: Region, *words: str, code: Exit = Exit.OK) -> Any:
        """What it prints as JSON; of an error the text."""
        asked = [*words, "--config", str(self.files[region.number]), "--json"]
        result = CliRunner().invoke(regions, asked)
        if isinstance(result.exception, InterlockError):
            assert exit_of(result.exception) == code, result.exception
            return str(result.exception)
        assert result.exit_code == code, (result.output, result.exception)
        return json.loads(result.stdout)

    def shown(self, region: Region, *words: str) -> str:
        """What people see."""
        return CliRunner().invoke(regions, [*words, "--config", str(self.files[region.number])]).output


@pytest.fixture
def commands(apart: World, tmp_path: Path) -> Iterator[Commands]:
    a, b = apart.a, apart.b
    name = f"witness_{next(_names)}"
    url = a.cluster.create_database(name)
    files = {}
    for region, other in ((a, b), (b, a)):
        files[region.number] = tmp_path / f"{region.number}.toml"
        files[region.number].write_text(
            f'region = "{"_ab"[region.number]}"\nregion_number = {region.number}\nstore = "{region.url}"\n'
            f'witness = "{url}"\n[regions.{"_ab"[other.number]}]\nnumber = {other.number}\n'
            f'database = "{other.url}"\nendpoint = "http://127.0.0.1:1"\n'
        )
    with closing(WitnessStore(url)) as witness:
        yield Commands(apart, witness, files)
    a.cluster.drop_database(name)


def test_two_regions_are_connected_by_four_commands_and_may_be_again(commands: Commands) -> None:
    """`init` in each, `join` in each; then all is well, and differences are told."""
    a, b = commands.world.a, commands.world.b
    assert "was not set up" in commands.run(a, "join", code=Exit.CONFIG)
    for region in (a, b):
        assert commands.run(region, "init")["done"]
    for region in (a, b):
        assert "was copied, and is followed" in commands.run(region, "join")["done"][1]
    for region in (a, b):
        assert commands.run(region, "init") == {"done": []}
        assert "is followed already" in commands.run(region, "join")["done"][0]
    a.transaction(1)
    commands.world.settle()
    told = commands.run(a, "status")
    assert told["faults"] == []
    assert told["post"] == {"epoch": 1, "guards": [], "fenced": False}
    assert told["witness"]["b"]["taker"] is None
    assert told["peers"]["b"]["inbound"]["ready"]
    assert "a: epoch 1, ends wait for nobody" in commands.shown(a, "status")

    assert commands.run(a, "verify")["regions"]["b"]["differences"] == 0
    b.query("DELETE FROM payments")
    (difference,) = commands.run(b, "verify", "a", code=Exit.FAILED)["differences"]
    assert (difference["table"], difference["what"]) == ("payments", "is missing in region 2")
    assert "there is no region z" in commands.run(b, "verify", "z", code=Exit.INVALID)

    assert "All rows of a in this region are deleted" in commands.run(b, "reseed", "a", code=Exit.INVALID)
    assert "would be deleted" in commands.run(b, "reseed", "a", "--dry-run")["done"][0]
    assert commands.run(b, "reseed", "a", "--yes")["ready"]
    assert commands.run(a, "verify")["regions"]["b"]["differences"] == 0


def test_a_region_is_taken_over_fenced_and_brought_back(commands: Commands) -> None:
    """Each command says what it would do, and why it does not."""
    a, b, witness = commands.world.a, commands.world.b, commands.witness
    for command in ("init", "join"):
        for region in (a, b):
            commands.run(region, command)
    assert "nobody: it ended alone" in commands.run(b, "takeover", "a", "--yes", code=Exit.CONFLICT)
    entry, _ = witness.entry(1)
    member = rules.added(entry, 2)
    assert member is not None
    assert witness.change(1, entry, member)
    assert witness.renew(1, 0, 60)
    assert "its lease runs for" in commands.run(b, "takeover", "a", "--yes", code=Exit.CONFLICT)
    assert commands.run(b, "takeover", "a", "--force", "--dry-run")["granted"]
    assert "Say --yes" in commands.run(b, "takeover", "a", "--force", code=Exit.INVALID)
    assert "comes first" in commands.run(b, "retire", "a", "--yes", code=Exit.CONFLICT)
    assert commands.run(b, "takeover", "a", "--force", "--yes")["generation"] == 1
    assert "before" in commands.run(b, "takeover", "a", "--yes")["done"][0]
    assert "would not be followed" in commands.run(a, "leave", "b", "--dry-run")["done"][0]

    b.replication.begin_takeover(1, 1, AT)
    b.replication.cut(1)
    b.replication.note_cut(1, 1, AT)
    assert "goes on with its payments" in commands.run(b, "leave", "a", "--yes", code=Exit.CONFLICT)
    assert "epoch 1000000 would be taken" in commands.run(a, "fence", "--dry-run")["done"][0]
    assert commands.run(a, "fence")["fenced"]
    assert not commands.run(a, "fence")["fenced"]
    back = commands.run(a, "rejoin", code=Exit.FAILED)
    assert [step["what"] for step in back["steps"] if not step["done"]] == [
        "b has not yet told everything that it decided, and that this region may go on",
        "the processes of this region go on once all of that is done; they must run",
    ]
    assert "fenced: another region has taken it over" in commands.shown(a, "status")
    assert "b has taken a over since" in commands.shown(b, "status")

    post = b.replication.read_post()
    assert b.replication.complete_takeover(1, 1, AT, 0, (post, rules.taking(post, 1)))
    post = b.replication.read_post()
    assert b.replication.note_returned(1, 1, AT, (post, rules.taken(post)))
    # Nobody keeps it cut off any more: it is opened.
    commands.run(b, "rejoin")
    fenced = a.replication.read_post()
    eventually(lambda: a.replication.informed(1, 1))
    assert a.replication.change_post(fenced, rules.resumed(fenced))
    granted, _ = witness.entry(1)
    returned = rules.returned(granted, 1)
    assert returned is not None
    assert witness.change(1, granted, returned)
    commands.world.settle()
    assert commands.run(a, "rejoin")["back"]


def test_a_region_that_is_given_up_or_left_is_so_for_good(commands: Commands) -> None:
    """And who leaves may take nobody over."""
    a, b, witness = commands.world.a, commands.world.b, commands.witness
    for command in ("init", "join"):
        for region in (a, b):
            commands.run(region, command)
    for home, peer in ((1, 2), (2, 1)):
        entry, _ = witness.entry(home)
        member = rules.added(entry, peer)
        assert member is not None
        assert witness.change(home, entry, member)
    assert "nobody in this region can take its payments over" in commands.run(a, "leave", "b", code=Exit.INVALID)
    assert commands.run(a, "leave", "b", "--yes")["done"] == ["b is not followed any more"]
    assert witness.entry(2)[0].members == frozenset()
    assert a.query("SELECT 1 FROM pg_subscription WHERE subname = 'interlock_from_2'") == []

    assert commands.run(b, "takeover", "a", "--yes")["generation"] == 1
    assert "can never come back" in commands.run(b, "retire", "a", code=Exit.INVALID)
    assert "would be given up" in commands.run(b, "retire", "a", "--dry-run")["done"][0]
    for said in ("a is given up for good", "a was given up before"):
        assert commands.run(b, "retire", "a", "--yes")["done"] == [said]
    assert witness.entry(1)[0].retired
    (step,) = commands.run(a, "rejoin", code=Exit.FAILED)["steps"]
    assert "given up for good" in step["what"]
    b.replication.begin_takeover(1, 1, AT)
    assert commands.run(b, "leave", "a", "--yes")["done"] == ["a is not followed any more"]
    assert b.query("SELECT 1 FROM pg_subscription WHERE subname = 'interlock_from_1'") == []


def test_commands_say_what_is_missing_in_the_configuration(tmp_path: Path) -> None:
    """Without peers there is nothing to connect."""
    alone = tmp_path / "alone.toml"
    alone.write_text('region = "a"\n')
    result = CliRunner().invoke(regions, ["status", "--config", str(alone)])
    assert isinstance(result.exception, ConfigError)
    assert "name them in [regions.NAME]" in str(result.exception)
