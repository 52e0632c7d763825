"""`interlock audit` over PostgreSQL: what follows from history passes, what was changed by SQL is found and named."""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import structlog.testing
from typer.testing import CliRunner, Result

from interlock.chain import Gap, Head
from interlock.cli import app, dossiers
from interlock.cli.auditing import Anchor, faults
from interlock.cli.exits import Exit
from interlock.decisions import DecisionKind
from interlock.errors import RequestError
from interlock.lifecycle import EventKind
from interlock.stores.postgres import PostgresStore
from tests.contracts.store import AT, Writer, birth, settled, step
from tests.contracts.tampering import (
    HISTORY,
    STATE,
    PostgresTarget,
    Target,
    filled,
    remove_middle,
    tamper,
    touch_content,
)
from tests.messages import pacs008
from tests.postgres import Databases, Servers, installation
from tests.world import ALICE, AUTO, CONSUMER, PostgresPlace, a_world

#: A database and what is in it, by name.
Filled = tuple[str, Mapping[str, UUID]]
TABLES = ("transactions", "events", "bodies", "payments", "keys", "journals", "archives", "gaps")


@pytest.fixture
def postgres_url(emptied_url: str) -> str:
    """No test here alters more than rows."""
    return emptied_url


@pytest.fixture(scope="module")
def original(postgres_servers: Servers) -> Iterator[Filled]:
    """A database with every kind of transaction, whose rows are kept a second time in the schema `saved`."""
    databases = Databases(postgres_servers.of(installation()))
    url = databases.new()
    with closing(PostgresStore(url)) as store:
        store.maintain(datetime.now(UTC))
    with structlog.testing.capture_logs():
        made = asyncio.run(filled(PostgresPlace(url)))
    with psycopg.connect(url) as db:
        db.execute("CREATE SCHEMA saved")
        for table in TABLES:
            db.execute(f"CREATE TABLE saved.{table} AS TABLE {table}")
    yield url, made
    databases.drop()


@pytest.fixture
def copy(original: Filled) -> Iterator[Filled]:
    """The same, to be changed; its rows are put back."""
    yield original
    with psycopg.connect(original[0]) as db:
        for table in reversed(TABLES):
            db.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names
        for table in TABLES:
            db.execute(f"INSERT INTO {table} TABLE saved.{table}")


def audited(url: str, *anchors: Anchor, chain_only: bool = False) -> list[str]:
    """What an audit says of a database."""
    with closing(PostgresStore(url, migrate=False)) as store:
        return list(faults(store, anchors, chain_only=chain_only))


def heads(url: str) -> tuple[Head, ...]:
    """Where its chains end."""
    with closing(PostgresStore(url)) as store:
        return store.heads()


# -- what was touched -------------------------------------------------------------------------------------------------


def test_what_follows_from_history_holds(copy: Filled) -> None:
    """An untouched database has no fault, whatever its transactions have been through."""
    assert audited(copy[0]) == []


@pytest.mark.parametrize(("name", "statement", "says"), STATE)
def test_tampering_with_state_is_named(copy: Filled, name: str, statement: str, says: str) -> None:
    """Whatever is changed behind the journals' back, the audit names the transaction and what differs."""
    url, made = copy
    tamper(PostgresTarget(url), made[name], statement)
    found = audited(url)
    assert any(says in fault for fault in found if str(made[name]) in fault), found
    assert audited(url, chain_only=True) == []


#: What only PostgreSQL's keys leave room for: they hold a region or writer, of which there is one yet.
_TRANSACTION = (
    "CREATE TEMP TABLE t AS SELECT * FROM transactions WHERE {it}; UPDATE t SET region = 7; "
    "INSERT INTO transactions SELECT * FROM t"
)
_PAYMENT = (
    "INSERT INTO payments SELECT tx, ordinal, 7, instruction_id, end_to_end_id, transaction_id, uetr, amount, "
    "currency, status, reason FROM payments WHERE tx = {tx}"
)
_BODY = "INSERT INTO bodies SELECT tx, kind, 7, seq, epoch, definition, digest, content FROM bodies WHERE {inbox}"
_EVENT = (
    "INSERT INTO events SELECT tx, seq, epoch, 7, journal, chain_seq, content, previous, hash FROM events "
    "WHERE tx = {tx}"
)
DOUBLED = [
    (_TRANSACTION, "it is there more than once"),
    (_PAYMENT, "it holds 2 payments"),
    (_BODY, "added behind its back"),
    (_EVENT, "its events are"),
]


@pytest.mark.parametrize(("statement", "says"), DOUBLED)
def test_rows_that_are_there_twice_are_named(copy: Filled, statement: str, says: str) -> None:
    """Though each has a key of its own."""
    url, made = copy
    tamper(PostgresTarget(url), made["settled"], statement)
    found = audited(url)
    assert any(says in fault for fault in found if str(made["settled"]) in fault), found


def test_exchanged_bodies_are_named(copy: Filled) -> None:
    """A message in the place of its answer, and the answer in its."""
    url, made = copy
    for before, after in ((0, 2), (1, 0), (2, 1)):
        PostgresTarget(url).change(
            "UPDATE bodies SET kind = ? WHERE tx = ? AND kind = ?", after, made["settled"], before
        )
    assert f"transaction {made['settled']}: its message and its answer have changed places" in audited(url)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_size_of_a_page_does_not_matter(copy: Filled, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for what holds nor for what is found; a page of large messages is a short one."""
    monkeypatch.setattr(dossiers, "_PAGE", size)
    monkeypatch.setattr("interlock.cli.auditing._PAGE", size + 1)
    url, made = copy
    assert audited(url) == []
    monkeypatch.setattr(dossiers, "_PAGE_BYTES", 1)
    assert audited(url) == []
    target, names = PostgresTarget(url), ("settled", "issued", "fault retried")
    for name in names:
        tamper(target, made[name], "UPDATE transactions SET version = 9 WHERE {it}")
    tamper(target, made["held"], "DELETE FROM transactions WHERE {it}")
    found = audited(url)
    assert all(any(str(made[name]) in fault for fault in found) for name in (*names, "held"))
    assert len(found) == 4


def test_a_page_may_end_between_doubles(copy: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of one transaction are told of though the page is too small for both."""
    monkeypatch.setattr(dossiers, "_PAGE", 1)
    url, made = copy
    for name in made:
        tamper(PostgresTarget(url), made[name], _TRANSACTION)
    assert set(audited(url)) == {f"transaction {id_}: it is there more than once" for id_ in made.values()}


@pytest.fixture
def short(postgres_url: str) -> Iterator[PostgresStore]:
    """A database with a chain of twelve events, two for each of six transactions."""
    store = PostgresStore(postgres_url)
    Writer(store).won(*(birth() for _ in range(6)))
    yield store
    store.close()


def forget_journal(target: Target) -> None:
    """The row of the journal is gone, and with it all that tells that there was one."""
    target.change("DELETE FROM journals")


def move_to_another_journal(target: Target) -> None:
    target.change("UPDATE events SET journal = 2 WHERE chain_seq = 3")


def move_to_another_writer(target: Target) -> None:
    target.change("UPDATE events SET writer = writer + 1 WHERE chain_seq = 3")


def double(target: Target) -> None:
    """A second event under the same number, linked as it should be."""
    target.change(
        "INSERT INTO events SELECT tx, seq + 90, epoch, writer, journal, chain_seq, content, previous, hash "
        "FROM events "
        "WHERE chain_seq = 5"
    )


MORE_HISTORY: list[tuple[Callable[[Target], None], str]] = [
    (forget_journal, "journal 0.1.1: there are events of it, and its head is missing"),
    (move_to_another_journal, "journal 0.1.1: events 3 to 3 are missing"),
    (move_to_another_journal, "journal 0.1.2: there are events of it, and its head is missing"),
    (move_to_another_writer, "journal 0.2.1: there are events of it, and its head is missing"),
    (double, "event 5 is there twice"),
]


@pytest.mark.parametrize(
    ("tampering", "says"), [*HISTORY, *MORE_HISTORY], ids=lambda value: getattr(value, "__name__", "")
)
def test_history_that_was_touched_is_found(
    short: PostgresStore, tampering: Callable[[Target], None], says: str
) -> None:
    """Whoever alters, removes, adds or moves an event by SQL cannot hide it from the chain."""
    assert audited(short.url, chain_only=True) == []
    tampering(PostgresTarget(short.url))
    found = audited(short.url, chain_only=True)
    assert any(says in fault for fault in found), found
    assert all(fault.startswith("journal 0.") for fault in found)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_an_event_between_two_pages_is_met(short: PostgresStore, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one under the number that a page ends with is not overlooked."""
    monkeypatch.setattr("interlock.cli.auditing._PAGE", size + 1)
    double(PostgresTarget(short.url))
    assert any("event 5 is there twice" in fault for fault in audited(short.url, chain_only=True))


def test_each_journal_is_told_by_its_name(postgres_url: str) -> None:
    """What was touched in two journals is told of each; the others hold."""
    with closing(PostgresStore(postgres_url)) as one, closing(PostgresStore(postgres_url)) as other:
        writers = Writer(one), Writer(other), Writer(PostgresStore(postgres_url))
        for writer in writers:
            writer.won(*(birth() for _ in range(6)))
        writers[2].store.close()
    assert [head.journal for head in heads(postgres_url)] == ["0.1.1", "0.1.2", "0.1.3"]
    PostgresTarget(postgres_url).change("UPDATE events SET content = '{}' WHERE journal <> 2 AND chain_seq = 3")
    assert audited(postgres_url, chain_only=True) == [
        "journal 0.1.1: event 3 was altered",
        "journal 0.1.3: event 3 was altered",
    ]


# -- anchors ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(postgres_url: str) -> Iterator[tuple[str, tuple[Head, ...]]]:
    """A database with two journals, which worked on the same transactions."""
    with closing(PostgresStore(postgres_url)) as one, closing(PostgresStore(postgres_url)) as other:
        first, second = Writer(one), Writer(other)
        born = first.won(*(birth() for _ in range(4)))
        held = [step(transaction, EventKind.HELD_FOR_DECISION) for transaction in born]
        second.won(*held, *(birth() for _ in range(3)))
        first.won(*(step(change.after, EventKind.CANCELLED) for change in held))
        yield postgres_url, one.heads()


def test_every_head_is_an_anchor(two: tuple[str, tuple[Head, ...]]) -> None:
    """Each of its own journal, and of no other."""
    url, (one, other) = two
    anchors = [Anchor(head.journal, head.seq, head.hash) for head in (one, other)]
    assert audited(url, *anchors, chain_only=True) == []
    crossed = Anchor(other.journal, one.seq, one.hash)
    assert audited(url, crossed, chain_only=True) == [
        f"journal {other.journal}: event {one.seq} is not the one noted down: history was rewritten"
    ]


def test_an_anchor_must_name_its_journal_where_there_are_several(two: tuple[str, tuple[Head, ...]]) -> None:
    """Where there is one, nothing is gained by that."""
    url, (one, _) = two
    with pytest.raises(RequestError, match=r"several journals \(0.1.1, 0.1.2\); write JOURNAL/SEQ:HASH"):
        audited(url, Anchor(None, one.seq, one.hash))


def test_a_journal_that_was_noted_down_must_be_there(two: tuple[str, tuple[Head, ...]]) -> None:
    """A whole journal that was taken out, events and head, is told by its anchor alone."""
    url, (one, other) = two
    target = PostgresTarget(url)
    target.change("DELETE FROM events WHERE journal = 2")
    target.change("DELETE FROM journals WHERE journal = 2")
    assert audited(url, Anchor(None, one.seq, one.hash), chain_only=True) == []
    (found,) = audited(url, Anchor(other.journal, other.seq, other.hash), chain_only=True)
    assert found == "journal 0.1.2 has no events, and one was noted down: history was rewritten"


# -- archives ---------------------------------------------------------------------------------------------------------


def archive(url: str, name: str, lower: UUID, upper: UUID) -> None:
    """What is left once the transactions of a range were written to an archive: how their events were linked."""
    with psycopg.connect(url) as db:
        run = (
            "SELECT writer, journal, chain_seq, previous, hash, tx, "
            "chain_seq - row_number() OVER (PARTITION BY writer, journal ORDER BY chain_seq) AS run "
            "FROM events WHERE tx >= %(lower)s AND tx < %(upper)s"
        )
        bounds = {"lower": lower, "upper": upper, "name": name}
        db.execute(
            "INSERT INTO archives (name, lower, upper, digest, fingerprint, archived_at) "
            "VALUES (%(name)s, %(lower)s, %(upper)s, '', '', 0)",
            bounds,
        )
        db.execute(
            f"INSERT INTO gaps SELECT writer, journal, min(chain_seq), max(chain_seq), "  # noqa: S608
            "(array_agg(previous ORDER BY chain_seq))[1], (array_agg(hash ORDER BY chain_seq DESC))[1], %(name)s "
            f"FROM ({run}) r GROUP BY writer, journal, run",
            bounds,
        )
        for table, column in (("events", "tx"), ("bodies", "tx"), ("payments", "tx"), ("transactions", "id")):
            db.execute(f"DELETE FROM {table} WHERE {column} >= %(lower)s AND {column} < %(upper)s", bounds)  # noqa: S608


def halves(url: str) -> tuple[UUID, UUID, UUID]:
    """The smallest id, one in the middle, and one after all."""
    with psycopg.connect(url) as db:
        ids = [id_ for (id_,) in db.execute("SELECT id FROM transactions ORDER BY id")]
    return ids[0], ids[len(ids) // 2], UUID(int=ids[-1].int + 1)


@pytest.fixture
def years(postgres_url: str) -> str:
    """A database with two journals, whose older transactions went to two archives."""
    with closing(PostgresStore(postgres_url)) as one, closing(PostgresStore(postgres_url)) as other:
        first, second = Writer(one), Writer(other)
        for day in range(6):
            at = AT + timedelta(days=day)
            born = first.won(*(birth(at=at) for _ in range(3)))
            second.won(*(settled(transaction, at) for transaction in born), birth(at=at))
    lower, middle, _ = halves(postgres_url)
    quarter = UUID(int=(lower.int + middle.int) // 2)
    archive(postgres_url, "first", UUID(int=0), quarter)
    archive(postgres_url, "second", quarter, middle)
    return postgres_url


def gaps(url: str) -> list[Gap]:
    """What was archived of the first journal."""
    with closing(PostgresStore(url)) as store:
        return [item for item in store.chain("0.1.1") if isinstance(item, Gap)]


@pytest.mark.parametrize("size", [2, 5000])
def test_chains_hold_across_archived_runs(years: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends of what was archived are bound to what is there, in whatever pages it is read."""
    monkeypatch.setattr("interlock.cli.auditing._PAGE", size)
    assert len(gaps(years)) > 1
    assert audited(years, chain_only=True) == []


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM gaps WHERE first_seq = 1 AND journal = 1", "are missing"),
        ("UPDATE gaps SET hash = '' WHERE journal = 1", "does not follow event"),
        ("UPDATE gaps SET previous = '' WHERE journal = 1", "does not follow event"),
        ("UPDATE gaps SET last_seq = last_seq - 1 WHERE journal = 1", "are missing"),
        ("UPDATE gaps SET last_seq = last_seq + 1 WHERE journal = 1", "is there twice"),
        ("UPDATE gaps SET journal = 2 WHERE first_seq = 1 AND journal = 1", "are missing"),
    ],
)
def test_what_is_left_of_archived_runs_must_fit(years: str, statement: str, says: str) -> None:
    """A run that was altered, moved or forgotten is found where it meets what is there."""
    target = PostgresTarget(years)
    if "journal = 2" in statement:
        target.change("DELETE FROM gaps WHERE journal = 2")
    target.change(statement)
    found = audited(years, chain_only=True)
    assert any(says in fault for fault in found), found


def test_an_anchor_at_the_end_of_an_archived_run_is_met(years: str) -> None:
    """One within it cannot be compared, and that is said, with the archive that has it."""
    last = gaps(years)[-1]
    assert audited(years, Anchor("0.1.1", last.last, last.hash), chain_only=True) == []
    (found,) = audited(years, Anchor("0.1.1", last.last - 1, bytes(32)), chain_only=True)
    assert f"event {last.last - 1}, which was noted down, is in the archive second" in found


def test_what_was_archived_is_no_fault_of_what_is_left(postgres_url: str) -> None:
    """Not even of a later attempt at a message whose first one is in the archive."""

    async def driven_again() -> UUID:
        async with a_world(PostgresPlace(postgres_url), CONSUMER) as world:
            world.hand.go(-timedelta(days=3))
            kept = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(3)]
            for transaction in kept:
                await world.decide(transaction, DecisionKind.CANCEL)
            world.hand.go(timedelta(days=3))
            return (await world.workflow.driving.again(ALICE, kept[0].id, "operator:o")).id

    again = asyncio.run(driven_again())
    assert audited(postgres_url) == []
    archive(postgres_url, "old", UUID(int=0), again)
    assert audited(postgres_url) == []
    tamper(PostgresTarget(postgres_url), again, "UPDATE transactions SET redrive_of = {other_id} WHERE {it}")
    PostgresTarget(postgres_url).change("DELETE FROM gaps")
    PostgresTarget(postgres_url).change("DELETE FROM archives")
    found = audited(postgres_url)
    assert any(f"transaction {again}: it is attempt 2" in fault for fault in found), found


def test_rows_that_are_archived_while_it_looks_are_no_fault(copy: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault is told only if it is there at a second look."""
    url, _ = copy
    lower, middle, _ = halves(url)
    store, looks = PostgresStore(url), itertools.count()
    chain = store.chain

    def meanwhile(journal: str, after: int = 0) -> object:
        """The first look at each journal reads its events, and then what was archived of them."""
        if next(looks) == 0:
            links = list(chain(journal, after))
            archive(url, "meanwhile", lower, middle)
            found = [*links, *(item for item in chain(journal, after) if isinstance(item, Gap))]
            return iter(sorted(found, key=lambda item: item.last if isinstance(item, Gap) else item.seq))
        return chain(journal, after)

    monkeypatch.setattr(store, "chain", meanwhile)
    found = list(faults(store))
    store.close()
    # Every transaction that was driven again across the bound is believed.
    assert found == []


# -- beside servers ---------------------------------------------------------------------------------------------------


def test_it_may_run_beside_servers(postgres_url: str) -> None:
    """Heads move on, journals come and transactions change while it looks; nothing of that is a fault."""

    async def looked() -> list[str]:
        place = PostgresPlace(postgres_url)
        async with a_world(place, AUTO) as world:
            for _ in range(20):
                await world.workflow.receiving.submit(ALICE, pacs008())
            with closing(place.open()) as store:
                looking = asyncio.create_task(asyncio.to_thread(lambda: list(faults(store))))
                other = world.another()
                while not looking.done():
                    await world.workflow.receiving.submit(ALICE, pacs008())
                    await other.workflow.receiving.submit(ALICE, pacs008())
            return await looking

    assert asyncio.run(looked()) == []


# -- the command ------------------------------------------------------------------------------------------------------


def command(url: str, folder: Path, *words: str) -> Result:
    """`interlock audit` over a database."""
    return CliRunner().invoke(app, ["audit", *words, "--data", str(folder / "data")], env={"INTERLOCK_STORE": url})


def test_heads_are_printed_and_taken(two: tuple[str, tuple[Head, ...]], tmp_path: Path) -> None:
    """A line for each journal, all of which `verify` takes back; JSON says the same."""
    url, ends = two
    lines = command(url, tmp_path, "head").stdout.split()
    assert lines == [f"{head.journal}/{head.seq}:{head.hash.hex()}" for head in ends]
    shown = json.loads(command(url, tmp_path, "head", "--json").stdout)
    assert shown == {"journals": [{"journal": h.journal, "seq": h.seq, "hash": h.hash.hex()} for h in ends]}
    given = [word for line in lines for word in ("--anchor", line)]
    done = command(url, tmp_path, "verify", "--chain", *given)
    assert (done.exit_code, done.stdout) == (Exit.OK, "the chain holds: 22 events in 2 journals\n")
    done = command(url, tmp_path, "verify", "--chain", "--anchor", lines[0].partition("/")[2])
    assert done.exit_code == Exit.INVALID
    assert "write JOURNAL/SEQ:HASH" in done.stderr


def test_faults_are_told_and_counted(short: PostgresStore, tmp_path: Path) -> None:
    """Each on a line, and the exit code says that there are some."""
    target = PostgresTarget(short.url)
    touch_content(target)
    remove_middle(target)
    done = command(short.url, tmp_path, "verify", "--chain")
    assert done.exit_code == Exit.FAILED
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        "error: journal 0.1.1: event 3 was altered",
        "error: journal 0.1.1: events 6 to 6 are missing",
    ]
    assert json.loads(command(short.url, tmp_path, "verify", "--chain", "--json").stdout)["ok"] is False
