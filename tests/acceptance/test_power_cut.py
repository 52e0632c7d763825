"""Power loss at any moment: `kill -9` leaves what was written with the operating system, a power cut what was synced.

A layer under SQLite notes every write and sync. From these notes the disk is made again as it could be after a power
cut at each of them: what was synced is there; of what was not, nothing, everything, or any part of it, torn anywhere.
"""

import os
import random
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from interlock import chain
from interlock.errors import DependencyError, OutcomeUnknown
from interlock.ports import Query, Won
from interlock.stores.sqlite import SqliteStore
from interlock.transaction import BodyKind, Change, KeyKind, Staged
from tests.contracts.store import ALICE, AT, DOUBLE, Writer, birth, body, bulk, payment, settled, staging, uetr

_SECTOR = 512


class Note(NamedTuple):
    """One thing that was done to a file; for `acked` the number of changes acknowledged so far."""

    what: str
    file: str = ""
    offset: int = 0
    data: bytes = b""
    acked: int = 0


class Power(apsw.VFS):
    """The system's own file layer, with notes of all that would matter to a disk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[Note] = []
        #: Syncs from here on fail, as those of a dying disk.
        self.syncs_fail = False
        super().__init__(name, "")

    def xOpen(self, name: "str | apsw.URIFilename | None", flags: list[int]) -> "File":  # noqa: N802 - SQLite's name
        """A file with notes."""
        return File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - SQLite's
        """As the system does; the name is gone at once."""
        super().xDelete(filename, syncdir)
        self.notes.append(Note("delete", Path(filename).name))


class File(apsw.VFSFile):
    """A file whose writes and syncs are noted."""

    def __init__(self, power: Power, name: "str | apsw.URIFilename | None", flags: list[int]) -> None:
        self._power = power
        given = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(given).name if given else ""
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        """Written, not yet on the disk."""
        super().xWrite(data, offset)
        self._power.notes.append(Note("write", self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        """Cut, not yet on the disk."""
        super().xTruncate(newsize)
        self._power.notes.append(Note("truncate", self._name, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """From here on the disk has it."""
        if self._power.syncs_fail:
            raise apsw.IOError("the disk does not answer")
        super().xSync(flags)
        self._power.notes.append(Note("sync", self._name))


@pytest.fixture
def power() -> Iterator[Power]:
    power = Power(f"power-{uuid.uuid4().hex}")
    yield power
    power.unregister()


class Disk:
    """What is on the disk, note by note."""

    def __init__(self) -> None:
        self._synced: dict[str, bytes] = {}
        self._pending: dict[str, list[Note]] = {}

    def take(self, note: Note) -> None:
        """One more thing was done."""
        match note.what:
            case "write" | "truncate":
                self._pending.setdefault(note.file, []).append(note)
            case "sync":
                self._synced[note.file] = self._with(note.file, self._pending.pop(note.file, []))
            case "delete":
                self._synced.pop(note.file, None)
                self._pending.pop(note.file, None)

    def _with(self, file: str, notes: list[Note]) -> bytes:
        content = bytearray(self._synced.get(file, b""))
        for note in notes:
            if note.what == "truncate":
                del content[note.offset :]
                continue
            end = note.offset + len(note.data)
            content.extend(bytes(max(0, end - len(content))))
            content[note.offset : end] = note.data
        return bytes(content)

    def after_a_cut(self, folder: Path, luck: random.Random | None) -> None:
        """Write down what could be left; luck: a part of what was not synced, in any order and torn; None: nothing."""
        for file in {*self._synced, *self._pending}:
            if file.endswith("-shm"):
                continue  # the index of the log is made anew
            pending = [] if luck is None else list(_torn(self._pending.get(file, []), luck))
            content = self._with(file, pending)
            if content:
                (folder / file).write_bytes(content)


def _torn(notes: list[Note], luck: random.Random) -> Iterator[Note]:
    """Some of the sectors of some of the writes."""
    keep = luck.choice((0.1, 0.5, 0.9, 1.0))
    for note in notes:
        if note.what == "truncate":
            if luck.random() < keep:
                yield note
            continue
        for start in range(0, len(note.data), _SECTOR):
            if luck.random() < keep:
                yield note._replace(offset=note.offset + start, data=note.data[start : start + _SECTOR])


# -- the work ---------------------------------------------------------------------------------------------------------


def work(folder: Path, power: Power, *pragmas: str) -> list[Change]:
    """Commits of all kinds with checkpoints between them; notes in `power` tell when each was acknowledged."""
    store = SqliteStore(folder / "interlock.db", vfs=power.name)
    store._writer.execute("PRAGMA wal_autocheckpoint = 25")  # so that checkpoints are among the moments
    for pragma in pragmas:
        store._writer.execute(pragma)
    writer = Writer(store)
    acked: list[Change] = []
    for number in range(14):
        changes = [birth(bodies=(body(os.urandom(1500)),), reserves=(uetr(),)) for _ in range(1 + number % 3)]
        if acked and acked[-1].read == 0:
            changes.append(settled(acked[-1].after, bodies=(body(os.urandom(900), BodyKind.OUTBOX),)))
        assert writer.commit(*changes) == [Won()] * len(changes)
        acked += changes
        power.notes.append(Note("acked", acked=len(acked)))
    store.close()
    return acked


def lost(folder: Path, acked: list[Change]) -> int:
    """How many acknowledged changes are not on this disk; what is there is whole."""
    store = SqliteStore(folder / "interlock.db")
    try:
        assert store.check() == []
        for head in store.heads():
            assert list(chain.faults(store.chain(head.journal), head)) == []
        missing = 0
        for change in acked:
            history = store.history(change.after.id)
            kept = change.events == history[-len(change.events) :] or change.events == history[: len(change.events)]
            bodies = [store.message(change.after.id, body.kind) for body in change.bodies]
            missing += not (kept and bodies == list(change.bodies))
        return missing
    finally:
        store.close()


def cuts(tmp_path: Path, notes: list[Note], *, until: int | None = None) -> Iterator[tuple[Path, int, str]]:
    """A folder for each moment and kind of loss, with the number of changes acknowledged before it."""
    luck, disk, acked = random.Random(7), Disk(), 0
    for number, note in enumerate(notes[:until]):
        disk.take(note)
        acked = note.acked or acked
        if note.what == "write" and number % 3:
            continue  # neighbours among writes tell nothing new
        for kind in ("nothing", "a part"):
            folder = tmp_path / f"{number}-{kind[0]}"
            folder.mkdir()
            disk.after_a_cut(folder, None if kind == "nothing" else luck)
            yield folder, acked, f"{kind} of what was not synced survived note {number}: {note.what} {note.file}"


def test_what_was_acknowledged_survives_a_power_cut_at_any_moment(tmp_path: Path, power: Power) -> None:
    """At every write, sync, checkpoint and acknowledgement, whatever part of the un-synced writes is lost."""
    (tmp_path / "live").mkdir()
    changes = work(tmp_path / "live", power)
    moments = 0
    for folder, acked, moment in cuts(tmp_path, power.notes):
        assert lost(folder, changes[:acked]) == 0, moment
        moments += 1
    assert moments > 100
    assert any(note.what == "write" and note.file == "interlock.db" for note in power.notes), "no checkpoint was met"


def test_a_long_message_survives_a_power_cut_whole_or_not_at_all(
    tmp_path: Path, power: Power, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was put down before without a sync is there once the commit that makes it count was acknowledged."""
    monkeypatch.setattr("interlock.stores.sqlite_staging._LOG_PAGES", 30)  # so that the log is emptied in between
    (tmp_path / "live").mkdir()
    store = SqliteStore(tmp_path / "live" / "interlock.db", vfs=power.name)
    writer, change, parts = Writer(store), bulk(), [os.urandom(3000), os.urandom(3000)]
    with staging(store, writer, change.after.id) as stager:
        for number in range(1, 9):
            payments, reserves = (payment(number, follows=True),), (uetr(f"long {number}", number),)
            stager.stage(Staged(payments=payments, reserves=reserves), *DOUBLE)
            stager.part(BodyKind.INBOX, 1 + number % 2, parts[number % 2])
            if number % 3 == 0:
                writer.won(birth(bodies=(body(os.urandom(1500)),)))
        writer.won(change)
        power.notes.append(Note("acked", acked=1))
        writer.won(birth(bodies=(body(os.urandom(1500)),)))
    store.close()
    found = 0
    for folder, acked, moment in cuts(tmp_path, power.notes):
        store = SqliteStore(folder / "interlock.db")
        if store.get(change.after.id) is None:
            assert not acked, moment
        else:
            found += 1
            kept = store.message(change.after.id, BodyKind.INBOX)
            assert kept is not None, moment
            assert kept.content == b"".join(parts), moment
            assert [p.ordinal for p in store.payments(change.after.id)] == list(range(1, 9)), moment
            assert store.find(Query(client=ALICE, key=(KeyKind.UETR, "long 8"))).transactions, moment
        assert store.check() == [], moment
        store.close()
    assert found > 3


@pytest.mark.parametrize("mode", ["OFF", "NORMAL"])
def test_without_a_sync_at_each_commit_it_is_lost(tmp_path: Path, power: Power, mode: str) -> None:
    """The test above can fail: under a weaker setting some cut takes something that was acknowledged."""
    (tmp_path / "live").mkdir()
    changes = work(tmp_path / "live", power, f"PRAGMA synchronous = {mode}")
    for folder, acked, _ in cuts(tmp_path, power.notes):
        try:
            if lost(folder, changes[:acked]):
                return
        except (DependencyError, AssertionError):
            return  # not even whole
    pytest.fail("nothing was lost")


def test_each_acknowledgement_comes_after_a_sync(tmp_path: Path, power: Power) -> None:
    """Between the last write of a commit and its acknowledgement the log is synced."""
    (tmp_path / "live").mkdir()
    work(tmp_path / "live", power)
    unsynced: set[str] = set()
    for note in power.notes:
        match note.what:
            case "write":
                unsynced.add(note.file)
            case "sync":
                unsynced.discard(note.file)
            case "acked":
                assert "interlock.db-wal" not in unsynced


def test_a_commit_that_was_said_to_have_failed_does_not_come_back(tmp_path: Path, power: Power) -> None:
    """Its sync failed, and the caller was told that nothing was kept: so it is, also after a death right then.

    Where that cannot be said, it must not be: then the outcome is unknown.
    """
    store = SqliteStore(tmp_path / "interlock.db", vfs=power.name)
    writer = Writer(store)
    writer.won(birth())
    change, batch = birth(), os.urandom(16)
    power.syncs_fail = True
    with pytest.raises(DependencyError) as caught:
        store.commit(writer.token, [change], batch)
    told_unknown = False
    if isinstance(caught.value, OutcomeUnknown):
        try:
            assert store.committed(batch) is None
        except DependencyError:
            told_unknown = True
    after = tmp_path / "after"  # what the next process finds: the files, read from their beginning
    after.mkdir()
    for name in ("interlock.db", "interlock.db-wal"):
        shutil.copy(tmp_path / name, after / name)
    risen = SqliteStore(after / "interlock.db")
    kept = risen.get(change.after.id) is not None
    risen.close()
    power.syncs_fail = False
    store.close()
    assert told_unknown or not kept, "it was told that nothing was kept, and it is there"


def test_after_failed_syncs_the_store_goes_on(tmp_path: Path, power: Power) -> None:
    """Once the disk answers again commits succeed, and neither the chain nor a key was harmed by those that failed."""
    store = SqliteStore(tmp_path / "interlock.db", vfs=power.name)
    writer = Writer(store)
    kept = [birth(reserves=(uetr("a"),))]
    writer.won(*kept)
    for _ in range(3):
        failed, batch = birth(reserves=(uetr("b"),)), os.urandom(16)
        power.syncs_fail = True
        with pytest.raises(DependencyError):
            store.commit(writer.token, [failed], batch)
        power.syncs_fail = False
        assert store.committed(batch) is None
        change = birth()
        writer.won(change)
        kept.append(change)
        assert store.get(failed.after.id) is None
    writer.won(birth(reserves=(uetr("b"),)))
    store.close()
    assert lost(tmp_path, kept) == 0
    assert all(event.at == AT for change in kept for event in change.events)
