import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest

from interlock.demo.postgres import Cluster
from interlock.errors import ConfigError, LeaseLost, StoreUnavailable
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind
from interlock.ports import KeysTaken, Outcome, Query, Store
from interlock.stores import postgres
from interlock.stores.postgres import PostgresStore, schema
from interlock.stores.postgres.batch import Batch
from interlock.stores.postgres.connections import Connection, Gate, Line, fetch
from interlock.stores.postgres.staging import PostgresStager
from interlock.stores.statements import migrations, queries
from interlock.transaction import Key, PaymentEnd, Transaction
from tests.contracts.store import (
    ALICE,
    AT,
    StoreContract,
    Writer,
    birth,
    leaves_no_trace,
    payment,
    settled,
    step,
    uetr,
    verified,
)


class PostgresBackend:
    """Stores over one database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: list[PostgresStore] = []

    def open(self) -> Store:
        """A store over the database, as another process would open it."""
        store = PostgresStore(self.url)
        self._opened.append(store)
        return store

    def succeed(self, store: Store) -> Store:
        """The lease of whoever writes is over, and somebody else has come."""
        with psycopg.connect(self.url) as db:
            db.execute("UPDATE journals SET lease_until = clock_timestamp() - interval '1 second'")
        return self.open()

    def close(self) -> None:
        """Give all of them back."""
        for store in self._opened:
            store.close()


class TestPostgresStore(StoreContract):
    """The contract, on each PostgreSQL that there is."""

    THOUSANDS = 4

    @pytest.fixture
    def backend(self, every_emptied_url: str) -> Iterator[PostgresBackend]:
        """A database without rows."""
        backend = PostgresBackend(every_emptied_url)
        yield backend
        backend.close()


# -- other regions ----------------------------------------------------------------------------------------------------


def test_whoever_has_taken_what_ended_by_itself_is_no_rival(emptied_url: str) -> None:
    """Another region's hold on a payment of ours counts as long as that lives; the rest of its message goes on."""
    backend = PostgresBackend(emptied_url)
    writer = Writer(backend.open())
    two = (payment(1), payment(2))
    (ours,) = writer.won(birth(payments=two, reserves=(uetr("one", 1), uetr("two", 2))))
    (theirs,) = writer.won(birth(reserves=(uetr("other"),)))
    with psycopg.connect(emptied_url, autocommit=True) as db:
        for table, column in (("transactions", "id"), ("payments", "tx"), ("keys", "tx")):
            db.execute(f"UPDATE {table} SET region = 2 WHERE {column} = '{theirs.id}'".encode())  # noqa: S608
        db.execute(b"UPDATE keys SET value = replace(value, 'other', 'one') WHERE region = 2")
    assert [rival.transaction for rival in writer.store.rivals([ours.id], 0)[ours.id]] == [theirs.id]
    own = (PaymentEnd(1, Status.CANC, "DS02"),)
    writer.won(step(ours, EventKind.PAYMENTS_CANCELLED, ended=own, ends_all=None))
    assert writer.store.rivals([ours.id], 0) == {}
    backend.close()


# -- the schema -------------------------------------------------------------------------------------------------------


def opened(url: str, **settings: Any) -> PostgresStore:
    """A store that a test closes itself."""
    return PostgresStore(url, **settings)


def test_one_of_many_processes_migrates(postgres_url: str) -> None:
    """Processes that start together over an empty database all come up, and each migration is applied once."""
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(opened, [postgres_url] * 4))
    with psycopg.connect(postgres_url) as db:
        applied = db.execute("SELECT number FROM schema_migrations ORDER BY number").fetchall()
    assert applied == [(migration.number,) for migration in migrations("postgres")]
    for store in stores:
        store.close()


def test_by_hand_means_that_a_server_does_not_migrate(postgres_url: str) -> None:
    """With `migrate = manual` an empty database is refused, with what to do, and left empty."""
    with pytest.raises(ConfigError, match="interlock db migrate"):
        PostgresStore(postgres_url, migrate=False)
    with psycopg.connect(postgres_url) as db:
        assert db.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_a_newer_schema_that_only_adds_stops_no_older_process(postgres_url: str) -> None:
    """An older process starts over it and writes; one that must know more is refused."""
    opened(postgres_url).close()
    with psycopg.connect(postgres_url) as db:
        db.execute("ALTER TABLE transactions ADD COLUMN novelty text")
        db.execute("INSERT INTO schema_migrations (number, name, digest, oldest) VALUES (900, 'later', 'x', 0)")
    store = opened(postgres_url)
    writer = Writer(store)
    (written,) = writer.won(birth())
    writer.won(settled(written))
    store.close()
    with psycopg.connect(postgres_url) as db:
        db.execute("UPDATE schema_migrations SET oldest = 900 WHERE number = 900")
    with pytest.raises(ConfigError, match="schema 900 or later"):
        opened(postgres_url)


def test_a_migration_with_another_text_is_refused(postgres_url: str) -> None:
    """What was applied under a number of ours must be what we know under it."""
    opened(postgres_url).close()
    with psycopg.connect(postgres_url) as db:
        db.execute("UPDATE schema_migrations SET digest = 'of another text' WHERE number = 1")
    with pytest.raises(ConfigError, match="migration 1 was applied with another text"):
        opened(postgres_url)


def test_a_user_without_rights_is_told_which(postgres: Cluster, postgres_url: str) -> None:
    """Who may not create tables hears so, and what to grant."""
    name = urlsplit(postgres_url).path.removeprefix("/")
    postgres.query("DROP ROLE IF EXISTS powerless; CREATE ROLE powerless LOGIN")
    postgres.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)
    with pytest.raises(ConfigError, match="GRANT CREATE"):
        opened(postgres.url(name, "powerless"))


def test_a_database_of_another_region_is_refused(postgres_url: str) -> None:
    """Ids carry the region: two regions must never write to one database."""
    opened(postgres_url, region=3).close()
    with pytest.raises(ConfigError, match="region 3, not 4"):
        opened(postgres_url, region=4)


def test_another_server_key_is_noticed(postgres_url: str) -> None:
    """The first proof is noted; another one is told from it, also by another process."""
    first, second = opened(postgres_url), opened(postgres_url)
    assert first.check_server_key(b"one")
    assert not second.check_server_key(b"two")
    assert second.check_server_key(b"one")
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [("postgresql://127.0.0.1:1/none", "cannot be reached"), ("postgresql://nobody:s%cret@h/d", "percent-encoded")],
    ids=["nobody there", "no URL"],
)
def test_a_database_that_cannot_be_had_is_told(url: str, said: str) -> None:
    """A server that is not there is something to try again; a URL that is none is the operator's to mend."""
    with pytest.raises((StoreUnavailable, ConfigError), match=said):
        opened(url)


# -- partitions -------------------------------------------------------------------------------------------------------


def test_partitions_are_made_ahead_and_once(postgres_url: str) -> None:
    """There is one for each day from yesterday on, a week ahead; asking again makes none."""
    store = opened(postgres_url)
    store.maintain(AT)
    with psycopg.connect(postgres_url) as db:
        present = schema.partitions(db)
    assert present[0].begins <= AT - timedelta(days=1) + timedelta(hours=6)
    assert present[-1].ends >= AT + schema.AHEAD
    assert all(before.ends == after.begins for before, after in pairwise(present))
    store.maintain(AT + timedelta(hours=3))
    with psycopg.connect(postgres_url) as db:
        assert schema.partitions(db) == present
    store.close()


def test_a_partition_may_hold_more_days_from_now_on(postgres_url: str) -> None:
    """Another number of days applies to what is made later; there is neither a hole nor an overlap."""
    opened_with = {days: opened(postgres_url, partition_days=days) for days in (1, 30, 3)}
    for number, store in enumerate(opened_with.values()):
        store.maintain(AT + number * timedelta(days=5))
        store.close()
    with psycopg.connect(postgres_url) as db:
        present = schema.partitions(db)
    assert all(before.ends == after.begins for before, after in pairwise(present))
    assert max(p.ends - p.begins for p in present) == timedelta(days=30)


def test_what_came_before_its_partition_moves_into_it(postgres_url: str) -> None:
    """Rows that the DEFAULT partition took are found all the same, before and after, and are then where they belong."""
    store = opened(postgres_url)
    writer = Writer(store)
    (early,) = writer.won(birth(reserves=(uetr("u"),)))
    store.maintain(AT)
    assert store.get(early.id) == early
    writer.won(settled(early), birth())
    assert verified(store) == 6
    with psycopg.connect(postgres_url) as db:
        for table in schema.PARTITIONED:
            assert db.execute(f"SELECT count(*) FROM {table}_default").fetchone() == (0,)  # noqa: S608
    store.close()


def test_who_reads_what_moves_finds_it(postgres_url: str) -> None:
    """Whoever looks for a row while it moves into its partition waits, and finds it there."""
    with (
        closing(opened(postgres_url)) as store,
        closing(opened(postgres_url)) as other,
        psycopg.connect(postgres_url, autocommit=True) as watch,
        ThreadPoolExecutor(2) as pool,
    ):
        (early,) = Writer(store).won(birth())

        def waiting(number: int) -> None:
            while watch.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (number,):
                pass

        with psycopg.connect(postgres_url) as holder:
            # The last table that is seen to: the rows of the others have moved by then, though nobody sees it yet.
            holder.execute("SELECT 1 FROM deliveries_default")
            moving = pool.submit(other.maintain, AT + timedelta(days=1))  # which makes the row's own day first
            waiting(1)
            reading = pool.submit(store.get, early.id)
            waiting(2)
        moving.result()
        assert reading.result() == early


def test_partitions_are_made_while_others_write(postgres_url: str) -> None:
    """Writers beside it lose nothing and see no error."""
    done = threading.Event()

    def write() -> int:
        number = 0
        while not done.is_set():
            writer.won(*(birth(at=AT + timedelta(days=n)) for n in range(5)))
            number += 5
        return number

    with (
        closing(opened(postgres_url)) as store,
        closing(opened(postgres_url)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        writer = Writer(store)
        writing = pool.submit(write)
        try:
            for week in range(2):
                other.maintain(AT + week * timedelta(days=7))
        finally:
            done.set()
        assert verified(store) == 2 * writing.result()


def test_pages_go_over_partitions(postgres_url: str) -> None:
    """Newest first, whichever partition they are in, also outside all of them, and with filters."""
    store = opened(postgres_url)
    store.maintain(AT)
    store.maintain(AT + timedelta(days=40))
    writer = Writer(store)
    days = (-700, -3, 0, 0, 1, 5, 20, 41, 45, 300)
    written = writer.won(*(birth(at=AT + timedelta(days=day)) for day in days))
    found: list[Transaction] = []
    query = Query(client=ALICE, limit=3)
    while True:
        page = store.find(query)
        found += page.transactions
        if page.next is None:
            break
        query = replace(query, after=page.next)
    assert found == sorted(written, key=lambda transaction: transaction.id, reverse=True)
    between = Query(client=None, since=AT, until=AT + timedelta(days=41), limit=100)
    assert len(store.find(between).transactions) == 5
    store.close()


# -- processes --------------------------------------------------------------------------------------------------------


def test_each_process_has_a_chain_of_its_own(postgres_url: str) -> None:
    """Two that write at once do not share a journal; one that comes after another's end goes on with its chain."""
    first, second = opened(postgres_url), opened(postgres_url)
    one, two = Writer(first), Writer(second)
    one.won(birth())
    two.won(birth())
    assert [head.journal for head in first.heads()] == ["0.1.1", "0.1.2"]
    first.release(one.token)
    third = opened(postgres_url)
    Writer(third).won(birth())
    assert [(head.journal, head.seq) for head in third.heads()] == [("0.1.1", 4), ("0.1.2", 2)]
    assert verified(third) == 6
    for store in (first, second, third):
        store.close()


def test_duplicates_of_two_processes_meet(postgres_url: str) -> None:
    """However they race, one of two that want a key gets it, in either order of keys, and nobody waits for ever."""
    stores = [opened(postgres_url), opened(postgres_url)]
    writers = [Writer(store) for store in stores]
    for round_ in range(25):
        keys = [uetr(f"{round_}-{n}") for n in range(6)]

        def want(writer: Writer, keys: list[Key]) -> list[Outcome]:
            return writer.commit(*(birth(reserves=(key,)) for key in keys))

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(want, writers, [keys, keys[::-1]])
        for a, b in zip(first, second[::-1], strict=True):
            assert sorted(type(outcome).__name__ for outcome in (a, b)) == ["KeysTaken", "Won"]
    assert verified(stores[0]) == 25 * 6 * 2
    for store in stores:
        store.close()


def test_a_process_that_was_silent_commits_nothing(postgres_url: str) -> None:
    """Though nobody has taken its place: the lease alone decides; registered anew it goes on under a higher token."""
    store = opened(postgres_url, lease=0.2)
    writer = Writer(store)
    writer.won(birth())
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute("SELECT pg_sleep(0.3)")
    change = birth()
    with pytest.raises(LeaseLost):
        writer.commit(change)
    leaves_no_trace(store, change)
    again = Writer(store)
    assert again.token > writer.token
    again.won(birth())
    store.close()


def test_whoever_is_in_the_midst_of_a_commit_is_not_replaced(postgres_url: str) -> None:
    """While the server is at its transaction nobody takes it or its work, even if the lease has run out meanwhile."""
    store, other = opened(postgres_url), opened(postgres_url)
    writer = Writer(store)
    (held,) = writer.won(birth())
    heir = Writer(other)
    with psycopg.connect(postgres_url, autocommit=True) as db, ThreadPoolExecutor(1) as pool:
        db.execute("UPDATE journals SET lease_until = clock_timestamp() WHERE token = %s", (writer.token,))
        lock = f"SELECT 1 FROM journals WHERE token = {writer.token} FOR NO KEY UPDATE"  # noqa: S608 - as a commit does
        committing = pool.submit(db.execute, f"BEGIN; {lock}; SELECT pg_sleep(1); COMMIT")
        with psycopg.connect(postgres_url, autocommit=True) as watch:
            while not watch.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchall():
                watch.execute("SELECT pg_sleep(0.01)")
        assert other.claim(heir.token, 10) == ()
        third = opened(postgres_url)
        Writer(third)
        assert other.claim(heir.token, 10) == ()
        committing.result()
    assert other.claim(heir.token, 10) == (held,)
    for each in (store, other, third):
        each.close()


def test_whoever_stopped_in_the_midst_of_a_transaction_is_replaced(postgres_url: str) -> None:
    """Its session waits for the rest of what it began to say; it is ended, and what it began is taken back."""
    store, other = opened(postgres_url, lease=0.3), opened(postgres_url)
    writer = Writer(store)
    (held,) = writer.won(birth())
    heir = Writer(other)
    connection = store._writer.get()
    seat = store._seat
    assert seat is not None
    claimed: list[Transaction] = []

    def begin_and_stop() -> None:
        with connection.pipeline(), psycopg.connect(postgres_url, autocommit=True) as watch:  # as a batch begins
            connection.execute("BEGIN")
            connection.execute(queries("postgres")["fence"], (seat.writer, seat.journal, seat.token))
            connection.execute("UPDATE transactions SET note = 'mine' WHERE id = $1", (held.id,))
            deadline, turns = time.monotonic() + 30, 0
            while turns < 5 and time.monotonic() < deadline:  # some more: it is claimed once
                heir.commit()
                claimed.extend(other.claim(heir.token, 10))
                turns += bool(claimed)
                watch.execute("SELECT pg_sleep(0.05)")

    with pytest.raises(psycopg.OperationalError):
        begin_and_stop()
    assert claimed == [held]
    with pytest.raises(LeaseLost):
        writer.commit(birth())
    Writer(store).won(birth())
    store.close()
    other.close()


def test_a_claim_that_was_not_answered_is_made_again(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not know what it has taken over goes on under another token, so that nothing of it is forgotten."""
    dead = opened(postgres_url)
    born = Writer(dead).won(birth(), birth())
    dead.release(dead._seat.token if dead._seat else 0)
    store = opened(postgres_url)
    heir = Writer(store)

    def unanswered(connection: Connection, sql: str, bindings: Sequence[Any] = ()) -> list[Any]:
        rows = fetch(connection, sql, bindings)
        if sql == queries("postgres")["claim"]:
            connection.execute("COMMIT")
            connection.close()
            raise psycopg.OperationalError("the connection is lost")
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(postgres, "fetch", unanswered)
        with pytest.raises(StoreUnavailable):
            store.claim(heir.token, 10)
    with pytest.raises(LeaseLost):
        store.commit(heir.token, [], b"x" * 16)
    again = Writer(store)
    claimed: list[Transaction] = []
    deadline = time.monotonic() + 30
    with psycopg.connect(postgres_url, autocommit=True) as watch:
        watch.execute("UPDATE journals SET lease_until = clock_timestamp() WHERE token = %s", (heir.token,))
        while len(claimed) < len(born) and time.monotonic() < deadline:
            again.commit()
            claimed += store.claim(again.token, 10)
            watch.execute("SELECT pg_sleep(0.05)")
    assert {transaction.id for transaction in claimed} == {transaction.id for transaction in born}
    store.close()
    dead.close()


def test_many_freed_keys_are_taken_over_together(postgres_url: str) -> None:
    """A message of a thousand payments that is sent again costs a few trips to the server, not thousands."""
    store = opened(postgres_url)
    writer = Writer(store)
    keys = tuple(uetr(f"u{n}", payment=n) for n in range(1, 1001))
    payments = tuple(payment(n) for n in range(1, 1001))
    (first,) = writer.won(birth(reserves=keys, payments=payments))
    writer.won(step(first, EventKind.CANCELLED))
    heir = birth(reserves=keys, payments=payments)
    statements: list[str] = []
    do = Batch._do

    def counted(batch: Batch, name: str, *bindings: Any) -> Any:
        statements.append(name)
        return do(batch, name, *bindings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "_do", counted)
        writer.won(heir)
    assert statements.count("take_over") == 1000  # in one trip
    assert len(statements) < 1020
    late = birth(reserves=keys[:3], payments=payments)
    assert writer.commit(late) == [KeysTaken(tuple((key, heir.after.id) for key in keys[:3]))]
    store.close()


def test_two_that_claim_share_the_work(postgres_url: str) -> None:
    """Nothing is given to both, and nothing is forgotten."""
    dead = opened(postgres_url)
    born = Writer(dead).won(*(birth() for _ in range(60)))
    dead.close()
    with psycopg.connect(postgres_url) as db:
        db.execute("UPDATE journals SET lease_until = clock_timestamp() - interval '1 second'")
    stores = [opened(postgres_url), opened(postgres_url)]
    heirs = [Writer(store) for store in stores]

    def claim(heir: Writer) -> list[Transaction]:
        claimed: list[Transaction] = []
        while page := heir.store.claim(heir.token, 7):
            claimed += page
        return claimed

    with ThreadPoolExecutor(2) as pool:
        shares = list(pool.map(claim, heirs))
    claimed = [transaction for share in shares for transaction in share]
    assert sorted(claimed, key=lambda t: t.id) == sorted(born, key=lambda t: t.id)
    for store in stores:
        store.close()


def test_one_of_two_leads_until_it_is_gone(postgres_url: str) -> None:
    """The other one does not, until the first one's lease has run out or it has ended in good order."""
    store, other = opened(postgres_url, lease=30), opened(postgres_url, lease=30)
    one, two = Writer(store).token, Writer(other).token
    assert store.lead(one, "deadlines")
    assert not other.lead(two, "deadlines")
    assert other.lead(two, "another job")
    store.release(one)
    assert other.lead(two, "deadlines")
    store.close()
    other.close()


def test_another_server_is_another_writer(postgres_url: str) -> None:
    """Over a promoted standby or a restored backup the incarnation rises, and no journal or key of before is used."""
    store = opened(postgres_url)
    writer = Writer(store)
    (before,) = writer.won(birth())
    with psycopg.connect(postgres_url) as db:
        db.execute("UPDATE region SET server = 'another'")  # as if it had been another one
    after = opened(postgres_url)
    heir = Writer(after)
    heir.won(settled(before), birth())
    assert [head.journal for head in after.heads()] == ["0.1.1", "0.2.1"]
    assert verified(after) == 6
    store.close()
    after.close()


# -- connections ------------------------------------------------------------------------------------------------------


def connected(url: str) -> int:
    """How many connections of ours there are; one that is closed is gone a moment later."""
    for _ in range(100):
        with psycopg.connect(url, autocommit=True) as db:
            rows = db.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'interlock'"
            ).fetchall()
        number = int(rows[0][0])
        if not number:
            break
        time.sleep(0.05)
    return number


def test_whoever_comes_after_the_end_is_refused_and_connects_to_nothing(postgres_url: str) -> None:
    """A thread that was about to read, or that has not read here before."""
    store = opened(postgres_url)
    with ThreadPoolExecutor(1) as known, ThreadPoolExecutor(1) as new:
        assert known.submit(store.get, UUID(int=1)).result() is None
        store.close()
        for thread in (known, new):
            with pytest.raises(StoreUnavailable, match="closed"):
                thread.submit(store.get, UUID(int=1)).result()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.register(AT)
    assert connected(postgres_url) == 0


def test_what_is_closed_while_it_connects_stays_closed(postgres_url: str) -> None:
    """The connection that comes too late is given up."""
    line = Line(postgres_url, Gate(), writes=False)
    line.on_connect = lambda _: line.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        line.get()
    assert connected(postgres_url) == 0


def test_a_stager_that_cannot_begin_leaves_no_connection(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(postgres_url)
    token = Writer(store).token

    def fails(_stager: PostgresStager) -> None:
        raise StoreUnavailable("the database cannot be used now")

    monkeypatch.setattr(PostgresStager, "begin", fails)
    with pytest.raises(StoreUnavailable, match="now"):
        store.stager(token, UUID(int=1), ALICE)
    store.close()
    assert connected(postgres_url) == 0
