import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from interlock import chain
from interlock.cli.auditing import faults
from interlock.errors import ConfigError, LeaseLost, StoreUnavailable
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind
from interlock.ports import Query, Store, Won
from interlock.stores import sqlite_filters
from interlock.stores.sqlite import SqliteStore
from interlock.transaction import BodyKind, KeyKind
from tests.contracts.store import StoreContract, Writer, birth, body, settled, step, uetr, verified
from tests.contracts.tampering import HISTORY, SqliteTarget, Target, remove_middle, touch_content


class SqliteBackend:
    """Stores over one file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "interlock.db"
        self._opened: list[SqliteStore] = []

    def open(self) -> SqliteStore:
        """A store over the file."""
        return self._open(self.path)

    def restored(self, backup: Path) -> SqliteStore:
        """A store over a copy."""
        return self._open(backup)

    def succeed(self, store: Store) -> Store:
        """Whoever registers next fences this one off."""
        return self._open(self.path)

    def _open(self, path: Path) -> SqliteStore:
        store = SqliteStore(path)
        self._opened.append(store)
        return store

    def close(self) -> None:
        """Give all of them back."""
        for store in self._opened:
            store.close()


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[SqliteBackend]:
    backend = SqliteBackend(tmp_path)
    yield backend
    backend.close()


class TestSqliteStore(StoreContract):
    """The contract, on SQLite."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[SqliteBackend]:
        """SQLite files in a folder of the test's own."""
        backend = SqliteBackend(tmp_path)
        yield backend
        backend.close()

    def test_a_batch_is_read_back_by_the_next_process(self, backend: SqliteBackend, writer: Writer) -> None:
        """The last batch stands in the file: whoever comes after a death can tell what it came to."""
        batch = uuid.uuid4().bytes
        outcomes = writer.store.commit(writer.token, [birth(), birth()], batch)
        assert outcomes == [Won(), Won()]
        assert backend.open().committed(batch) == outcomes

    def test_a_backup_holds_what_was_acknowledged_before_it(
        self, backend: SqliteBackend, store: SqliteStore, writer: Writer, tmp_path: Path
    ) -> None:
        """Taken while another thread writes: complete up to its beginning, whole, with an unbroken chain."""
        target, stop = tmp_path / "copy.db", threading.Event()
        before = [birth() for _ in range(300)]
        writer.won(*before)

        def write() -> None:
            while not stop.is_set():
                writer.won(birth(), birth())

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                for _ in range(3):
                    store.backup(target)
            finally:
                stop.set()
            writing.result()
        copy = backend.restored(target)
        assert copy.check() == []
        assert verified(copy) >= 600
        for change in before:
            assert copy.get(change.after.id) == change.after
            assert copy.message(change.after.id, BodyKind.INBOX) == change.bodies[0]


# -- history that was touched -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tamper", "says"), HISTORY, ids=lambda value: getattr(value, "__name__", ""))
def test_history_that_was_touched_is_found(backend: SqliteBackend, tamper: Callable[[Target], None], says: str) -> None:
    """Whoever alters, removes, adds or moves an event in the file cannot hide it from the chain."""
    writer = Writer(backend.open())
    writer.won(*(birth() for _ in range(6)))
    assert verified(writer.store) == 12
    tamper(SqliteTarget(backend.path))
    told = list(faults(backend.open(), chain_only=True))
    assert any(says in fault for fault in told), told


def test_two_forged_ends_are_found_by_their_place(backend: SqliteBackend) -> None:
    """A fault names the event at which the chain does not hold."""
    writer = Writer(backend.open())
    writer.won(*(birth() for _ in range(6)))
    target = SqliteTarget(backend.path)
    touch_content(target)
    remove_middle(target)
    (head,) = writer.store.heads()
    told = list(chain.faults(writer.store.chain(head.journal), head))
    assert len(told) == 2
    assert "event 3 was altered" in told[0]
    assert "6" in told[1]


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_of_a_newer_program_is_refused(backend: SqliteBackend) -> None:
    """An older program does not touch what it cannot understand; it says which versions meet."""
    backend.open().close()
    db = apsw.Connection(str(backend.path))
    db.pragma("user_version", 9999)
    db.close()
    with pytest.raises(ConfigError, match="9999"):
        backend.open()


def test_a_file_that_is_no_store_is_refused(backend: SqliteBackend) -> None:
    """Something else under the name is not overwritten."""
    backend.path.write_bytes(b"this is a text, and a rather long one" * 100)
    with pytest.raises(StoreUnavailable):
        backend.open()
    assert backend.path.read_bytes().startswith(b"this is a text")


def test_a_damaged_file_is_found_by_the_check(backend: SqliteBackend) -> None:
    """Bytes overwritten in the middle of the file are reported, not worked around."""
    writer = Writer(backend.open())
    writer.won(*(birth(bodies=(body(uuid.uuid4().bytes * 500),)) for _ in range(50)))
    backend.close()
    raw = bytearray(backend.path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 20_000] = b"\xa5" * 20_000
    backend.path.write_bytes(bytes(raw))
    try:
        found = backend.open().check()
    except StoreUnavailable:
        return
    assert found != []


def test_every_commit_reaches_the_disk(backend: SqliteBackend) -> None:
    """The writer's connection syncs the log at each commit: write-ahead log, synchronous FULL."""
    store = backend.open()
    assert store._writer.pragma("journal_mode") == "wal"
    assert store._writer.pragma("synchronous") == 2


def test_a_second_process_of_the_same_writer_is_fenced(backend: SqliteBackend) -> None:
    """The one that registered first is refused at its next commit, and keeps refusing."""
    first = Writer(backend.open())
    second = Writer(backend.open())
    for _ in range(2):
        with pytest.raises(LeaseLost):
            first.commit(birth())
        second.won(birth())


def test_a_backup_ends_though_others_write_without_pause(backend: SqliteBackend, tmp_path: Path) -> None:
    """A store of many pages is copied in bounded time while commits follow one another."""
    store, done = backend.open(), threading.Event()
    writer = Writer(store)
    for _ in range(5):
        writer.won(*(birth(bodies=(body(os.urandom(8000)),)) for _ in range(1000)))  # some 45 MB

    def copy() -> None:
        store.backup(tmp_path / "copy.db")
        done.set()

    thread = threading.Thread(target=copy)
    thread.start()
    commits = 0
    while not done.is_set() and commits < 3000:
        writer.won(birth())
        commits += 1
    finished = done.is_set()
    thread.join(30)
    assert finished, f"the backup began again and again, through {commits} commits"


def test_keys_of_a_take_over_are_one_row(backend: SqliteBackend) -> None:
    """However often a key changes hands, one transaction holds it."""
    writer = Writer(backend.open())
    for _ in range(5):
        (t,) = writer.won(birth(reserves=(uetr("u"),)))
        writer.won(step(t, EventKind.CANCELLED))
    (t,) = writer.won(birth(reserves=(uetr("u"),)))
    writer.won(settled(t))
    db = apsw.Connection(str(backend.path))
    held = db.execute("SELECT count(*) FROM keys WHERE kind = 'uetr' AND freed = 0").fetchall()
    db.close()
    assert held == [(1,)]


@pytest.mark.parametrize("client", ["alice", None])
def test_a_name_is_looked_up_by_its_key(tmp_path: Path, client: str | None) -> None:
    """Neither all of a client's transactions nor all of its keys are read: the cost does not grow with the store."""
    sql, bindings = sqlite_filters.where(
        Query(client=client, key=(KeyKind.UETR, "u"), statuses=frozenset({Status.RJCT}))
    )
    SqliteStore(tmp_path / "interlock.db").close()
    db = apsw.Connection(str(tmp_path / "interlock.db"))
    plan = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)]
    assert plan[0] == "SEARCH transactions USING INTEGER PRIMARY KEY (rowid=?)"
    looked_up = [step for step in plan if step.startswith("SEARCH k ")]
    assert looked_up
    assert all("value" in step for step in looked_up)
    db.close()
