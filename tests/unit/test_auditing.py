"""`interlock audit verify` over an SQLite file: what follows from history passes, what was changed is named."""

import asyncio
import json
import shutil
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from uuid import UUID

import apsw
import pytest
import structlog.testing
from typer.testing import CliRunner, Result

from interlock.cli import app, dossiers
from interlock.cli.auditing import faults
from interlock.cli.exits import Exit
from interlock.ports import Won
from interlock.stores import statements
from interlock.stores.sqlite import SqliteStore
from interlock.stores.statements import Migration
from tests.contracts.store import Writer, birth
from tests.contracts.tampering import STATE, SqliteTarget, filled, tamper
from tests.messages import pacs008
from tests.world import ALICE, AUTO, SqlitePlace, a_world

Filled = tuple[Path, Mapping[str, UUID]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A folder with a store of every kind of transaction, which nobody writes to any more."""
    folder = tmp_path_factory.mktemp("filled")
    with structlog.testing.capture_logs():
        return folder, asyncio.run(filled(SqlitePlace(folder)))


@pytest.fixture
def copy(original: Filled, tmp_path: Path) -> Filled:
    """A copy to be changed."""
    return shutil.copytree(original[0], tmp_path / "copy"), original[1]


def command(folder: Path, *words: str) -> Result:
    """What `interlock audit` says of a folder."""
    return CliRunner().invoke(app, ["audit", *words, "--data", str(folder)])


def head(folder: Path) -> str:
    """Where history ends, as it is printed."""
    return command(folder, "head").stdout.strip()


def test_what_follows_from_history_holds(copy: Filled) -> None:
    """An untouched store has no fault, whatever its transactions have been through."""
    done = command(copy[0], "verify")
    assert (done.exit_code, done.stderr) == (Exit.OK, "")
    assert "history holds" in done.stdout


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_size_of_a_page_does_not_matter(copy: Filled, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for what holds nor for what is found."""
    monkeypatch.setattr(dossiers, "_PAGE", size)
    monkeypatch.setattr("interlock.cli.auditing._PAGE", size + 1)
    folder, made = copy
    assert command(folder, "verify").stderr == ""
    target = SqliteTarget(folder / "interlock.db")
    for name in ("settled", "issued", "fault retried"):
        tamper(target, made[name], "UPDATE transactions SET version = 9 WHERE {it}")
    tamper(target, made["held"], "DELETE FROM transactions WHERE {it}")
    told = command(folder, "verify").stderr.splitlines()
    assert [any(str(made[name]) in line for line in told) for name in ("settled", "issued", "fault retried", "held")]
    assert len(told) == 4


def test_a_page_of_large_messages_is_a_short_one(copy: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large they are, one transaction at least is read."""
    monkeypatch.setattr(dossiers, "_PAGE_BYTES", 1)
    with (
        closing(SqliteStore(copy[0] / "interlock.db")) as store,
        dossiers.dossiers(store) as reader,
    ):
        pages = [[dossier.id for dossier in page] for page in reader.pages()]
    assert {id_ for page in pages for id_ in page} == set(copy[1].values())
    assert max(len(page) for page in pages) < 5
    assert command(copy[0], "verify").exit_code == Exit.OK


@pytest.mark.parametrize(("name", "statement", "says"), STATE)
def test_tampering_with_state_is_named(copy: Filled, name: str, statement: str, says: str) -> None:
    """Whatever is changed behind the journal's back, `audit verify` names the transaction and what differs."""
    folder, made = copy
    tamper(SqliteTarget(folder / "interlock.db"), made[name], statement)
    done = command(folder, "verify")
    assert done.exit_code == Exit.FAILED
    told = [line for line in done.stderr.splitlines() if str(made[name]) in line]
    assert any(says in line for line in told), done.stderr
    # The chain is whole all the same: what follows from it is another question.
    assert command(folder, "verify", "--chain").exit_code == Exit.OK


def test_transactions_that_exchanged_their_ids_are_named(copy: Filled) -> None:
    """All that they have goes with them, and fits; but their events say whose they are."""
    target, made = SqliteTarget(copy[0] / "interlock.db"), copy[1]
    one, other = target.words(made["settled"]), target.words(made["approved"])
    for words, id_ in ((one, "x'00'"), (other, one["id"]), (one, other["id"])):
        assert target.change(f"UPDATE transactions SET id = {id_} WHERE {words['it']}") == 1  # noqa: S608
    told = command(copy[0], "verify").stderr
    for name in ("settled", "approved"):
        assert f"transaction {made[name]}: an event of another transaction" in told


def test_exchanged_bodies_are_named(copy: Filled) -> None:
    """A message in the place of its answer, and the answer in its."""
    target, id_ = SqliteTarget(copy[0] / "interlock.db"), copy[1]["settled"]
    row = int(target.words(id_)["tx"]) * 2
    for before, after in ((row, -1), (row + 1, row), (-1, row + 1)):
        target.change("UPDATE bodies SET row = ? WHERE row = ?", after, before)
    assert f"transaction {id_}: its message and its answer have changed places" in command(copy[0], "verify").stderr


def test_a_transaction_without_history_is_named(copy: Filled) -> None:
    """One that was added is told of by its id, also where it cannot be read."""
    folder, added = copy[0], UUID(int=1)
    with closing(apsw.Connection(str(folder / "interlock.db"))) as db:
        db.execute("CREATE TEMP TABLE t AS SELECT * FROM transactions LIMIT 1")
        db.execute("UPDATE t SET row = 999, id = ?", (added.bytes,))
        db.execute("INSERT INTO transactions SELECT * FROM t")
        assert f"transaction {added}: history does not know it" in command(folder, "verify").stderr
        db.execute("UPDATE transactions SET state = 'nowhere', id = x'00' WHERE row = 999")
    done = command(folder, "verify")
    assert done.exit_code == Exit.FAILED
    assert f"transaction {UUID(int=0)}: history does not know it" in done.stderr


def test_one_spoilt_transaction_hides_no_other(copy: Filled) -> None:
    """Faults of all are told in one run, also where one of them cannot be read."""
    folder, made = copy
    target = SqliteTarget(folder / "interlock.db")
    for name in ("settled", "held"):
        tamper(target, made[name], "UPDATE transactions SET state = 'nowhere' WHERE {it}")
    tamper(target, made["part"], "UPDATE payments SET amount = '1' WHERE tx = {tx} AND ordinal = 1")
    with closing(SqliteStore(folder / "interlock.db")) as store:
        found = list(faults(store))
    assert [any(str(made[name]) in fault for fault in found) for name in ("settled", "held", "part")] == [True] * 3
    assert len(found) == 3


# -- heads and anchors ------------------------------------------------------------------------------------------------


def test_a_head_is_an_anchor(copy: Filled) -> None:
    """What `audit head` prints, `audit verify` takes: with the journal, without it, and several of them."""
    folder, end = copy[0], head(copy[0])
    shown = json.loads(command(folder, "head", "--json").stdout)["journals"]
    assert [f"{one['journal']}/{one['seq']}:{one['hash']}" for one in shown] == [end]
    bare = end.partition("/")[2]
    assert command(folder, "verify", "--chain", "--anchor", end, "--anchor", bare).exit_code == Exit.OK
    done = command(folder, "verify", "--chain", "--anchor", end, "--anchor", f"3:{'00' * 32}")
    assert done.exit_code == Exit.FAILED
    assert "event 3 is not the one noted down: history was rewritten" in done.stderr


@pytest.mark.parametrize("text", ["nonsense", "3", "x:00", "0.1/3", "3:xy"])
def test_an_anchor_that_is_none_is_refused(copy: Filled, text: str) -> None:
    """As an invalid request; nothing is looked at."""
    assert command(copy[0], "verify", "--anchor", text).exit_code == Exit.INVALID


def test_an_anchor_outlives_a_restore(copy: Filled) -> None:
    """A restored file goes on under another name, with the same chain: what was noted before still holds."""
    folder, end = copy[0], head(copy[0])
    SqliteTarget(folder / "interlock.db").change("UPDATE writer SET incarnation = incarnation + 1")
    assert head(folder).split("/")[0] != end.split("/")[0]
    assert command(folder, "verify", "--chain", "--anchor", end).exit_code == Exit.OK


def test_an_emptied_store_is_told_by_its_anchor(tmp_path: Path) -> None:
    """A store without any event is sound, but not the one whose head was noted down."""
    SqliteStore(tmp_path / "interlock.db").close()
    assert head(tmp_path) == "there are no events yet"
    assert command(tmp_path, "verify").exit_code == Exit.OK
    done = command(tmp_path, "verify", "--anchor", f"0.1/1:{'00' * 32}")
    assert done.exit_code == Exit.FAILED
    assert "the store has no events, and one was noted down: history was rewritten" in done.stderr


def test_looking_does_not_migrate(copy: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer program that only looks leaves an older one's file as it is, and says what to do."""
    file, known = copy[0] / "interlock.db", statements.migrations("sqlite")
    more = Migration(known[-1].number + 1, "more", "CREATE TABLE more (one INTEGER)")
    monkeypatch.setattr(statements, "migrations", lambda engine: (*known, more))
    before = file.read_bytes()
    for command_ in (["audit", "verify"], ["audit", "head"], ["db", "info"], ["db", "check"]):
        done = CliRunner().invoke(app, [*command_, "--data", str(copy[0])])
        assert done.exit_code == Exit.CONFIG
        assert "run `interlock db migrate`" in done.stderr
    assert file.read_bytes() == before


# -- beside a server --------------------------------------------------------------------------------------------------


def test_it_may_run_beside_a_server(tmp_path: Path) -> None:
    """Heads move on and transactions change while it looks; nothing of that is a fault."""

    async def audited() -> list[str]:
        async with a_world(tmp_path, AUTO) as world:
            for _ in range(20):
                await world.workflow.receiving.submit(ALICE, pacs008())
            with closing(SqliteStore(tmp_path / "interlock.db")) as store:
                looking = asyncio.create_task(asyncio.to_thread(lambda: list(faults(store))))
                while not looking.done():
                    await world.workflow.receiving.submit(ALICE, pacs008())
            return await looking

    assert asyncio.run(audited()) == []


def test_what_is_newer_than_the_head_is_for_the_next_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that come after the heads were read are neither missing nor beyond them."""
    store = SqliteStore(tmp_path / "interlock.db")
    writer = Writer(store)
    writer.won(birth())
    heads = store.heads

    def late() -> object:
        found = heads()
        assert store.commit(writer.token, [birth()], uuid.uuid4().bytes) == [Won()]
        return found

    monkeypatch.setattr(store, "heads", late)
    assert list(faults(store, chain_only=True)) == []
    store.close()
