import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from interlock import chain
from interlock.errors import ConfigError, LeaseLost, StoreUnavailable
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind
from interlock.ports import Query, Store
from interlock.stores import sqlite_rows
from interlock.stores.sqlite import SqliteStore
from interlock.transaction import KeyKind
from tests.contracts.store import Backend, StoreContract, Writer, birth, body, settled, step, uetr, verified


class SqliteBackend:
    """Stores over one file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "interlock.db"
        self._opened: list[SqliteStore] = []

    def open(self) -> Store:
        """A store over the file."""
        return self._open(self.path)

    def restored(self, backup: Path) -> Store:
        """A store over a copy."""
        return self._open(backup)

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
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        """SQLite files in a folder of the test's own."""
        backend = SqliteBackend(tmp_path)
        yield backend
        backend.close()


# -- history that was touched -----------------------------------------------------------------------------------------


def touch_content(db: apsw.Connection) -> None:
    db.execute("UPDATE events SET content = CAST(replace(content, 'c_alice', 'c_alicf') AS BLOB) WHERE chain_seq = 3")


def touch_time(db: apsw.Connection) -> None:
    db.execute("UPDATE events SET content = CAST(replace(content, '\"at\":', '\"at\":1') AS BLOB) WHERE chain_seq = 9")


def rehash_content(db: apsw.Connection) -> None:
    """A careful forger makes the hash fit the altered content; the next event tells."""
    content, previous = db.execute("SELECT content, previous FROM events WHERE chain_seq = 3").fetchone() or (b"", b"")
    forged = content.replace(b"c_alice", b"c_alicf")
    hash_ = chain.link(previous, forged)
    db.execute("UPDATE events SET content = ?, hash = ? WHERE chain_seq = 3", (forged, hash_))


def rehash_last(db: apsw.Connection) -> None:
    """The last event has none after it; the head tells."""
    content, previous = db.execute("SELECT content, previous FROM events WHERE chain_seq = 12").fetchone() or (b"", b"")
    forged = content.replace(b"ACTC", b"ACSP")
    hash_ = chain.link(previous, forged)
    db.execute("UPDATE events SET content = ?, hash = ? WHERE chain_seq = 12", (forged, hash_))


def remove_middle(db: apsw.Connection) -> None:
    db.execute("DELETE FROM events WHERE chain_seq = 6")


def remove_first(db: apsw.Connection) -> None:
    db.execute("DELETE FROM events WHERE chain_seq = 1")


def remove_last(db: apsw.Connection) -> None:
    db.execute("DELETE FROM events WHERE chain_seq = 12")


def remove_all(db: apsw.Connection) -> None:
    db.execute("DELETE FROM events")


def close_gap(db: apsw.Connection) -> None:
    """An event is taken out and the later ones are moved up."""
    db.execute("DELETE FROM events WHERE chain_seq = 6")
    db.execute("UPDATE events SET chain_seq = chain_seq - 1 WHERE chain_seq > 6")


def swap(db: apsw.Connection) -> None:
    db.execute("UPDATE events SET chain_seq = 1000 WHERE chain_seq = 4")
    db.execute("UPDATE events SET chain_seq = 4 WHERE chain_seq = 5")
    db.execute("UPDATE events SET chain_seq = 5 WHERE chain_seq = 1000")


def add(db: apsw.Connection) -> None:
    previous = (db.execute("SELECT hash FROM events WHERE chain_seq = 12").fetchone() or (b"",))[0]
    content = (db.execute("SELECT content FROM events WHERE chain_seq = 12").fetchone() or (b"",))[0]
    row = (13, 0, 999, 1, content, previous, chain.link(previous, content))
    db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", row)


@pytest.mark.parametrize(
    "tamper",
    [
        touch_content, touch_time, rehash_content, rehash_last, remove_middle, remove_first, remove_last, remove_all,
        close_gap, swap, add,
    ],
    ids=lambda tamper: tamper.__name__,
)  # fmt: skip
def test_history_that_was_touched_is_found(backend: SqliteBackend, tamper: Callable[[apsw.Connection], None]) -> None:
    """Whoever alters, removes, adds or moves an event in the file cannot hide it from the chain."""
    writer = Writer(backend.open())
    writer.won(*(birth() for _ in range(6)))
    assert verified(writer.store) == 12
    db = apsw.Connection(str(backend.path))
    tamper(db)
    db.close()
    store = backend.open()
    assert list(chain.faults(store.chain(), store.head())) != []


def test_two_forged_ends_are_found_by_their_place(backend: SqliteBackend) -> None:
    """A fault names the event at which the chain does not hold."""
    writer = Writer(backend.open())
    writer.won(*(birth() for _ in range(6)))
    db = apsw.Connection(str(backend.path))
    touch_content(db)
    remove_middle(db)
    db.close()
    told = list(chain.faults(writer.store.chain(), writer.store.head()))
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
    assert isinstance(store, SqliteStore)
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
    writer, done = Writer(backend.open()), threading.Event()
    for _ in range(5):
        writer.won(*(birth(bodies=(body(os.urandom(8000)),)) for _ in range(1000)))  # some 45 MB

    def copy() -> None:
        writer.store.backup(tmp_path / "copy.db")
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
    sql, bindings = sqlite_rows.where(Query(client=client, key=(KeyKind.UETR, "u"), statuses=frozenset({Status.RJCT})))
    SqliteStore(tmp_path / "interlock.db").close()
    db = apsw.Connection(str(tmp_path / "interlock.db"))
    plan = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)]
    assert plan[0] == "SEARCH transactions USING INTEGER PRIMARY KEY (rowid=?)"
    looked_up = [step for step in plan if step.startswith("SEARCH k ")]
    assert looked_up
    assert all("value" in step for step in looked_up)
    db.close()
