"""Archives: what was written comes back, what was touched is noticed, and what was not finished is not there.

`TargetContract` is held by every target: here by a folder and by one in memory, in `tests/acceptance` by S3.
"""

import errno
import io
import json
import os
import resource
import stat
import sys
import tracemalloc
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock import __version__, archives
from interlock.archives import (
    ArchiveDamaged,
    ArchiveExists,
    Facts,
    Folder,
    Key,
    KeyRing,
    ObjectLock,
    Period,
    Row,
    Section,
    Target,
    UnknownArchive,
    open_target,
)
from interlock.archives.errors import KeyMissing
from interlock.archives.format import Source
from interlock.archives.sealing import CHUNK_BYTES, Sealer, Unsealed
from interlock.archives.targets import Sink
from interlock.errors import ConfigError, DependencyError, RequestError

NAME = "2026-11-22"
BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
FACTS = Facts(
    period=Period(name="2026-11-22", begin=BEGIN, end=BEGIN + timedelta(days=1)),
    schema=7,
    written_at=datetime(2027, 2, 1, 3, 4, 5, 678901, UTC),
    anchors={"journals": [{"id": "j1", "seq": 12, "hash": "ab" * 32}], "note": None},
)
KEY = Key(bytes(range(32)))
OLD_KEY = Key(bytes(range(1, 33)))
RING = KeyRing([KEY, OLD_KEY])
SEALED = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])

SECTIONS = [
    Section("transactions", ("id", "status"), [(1, "ACSC"), (2, "RJCT"), (3, None)]),
    Section("payments", (), []),
    Section("messages", ("id", "body", "ratio", "sent"), [(1, b"\x00<x/>\xff", -0.5, True), (2, b"", 1e300, False)]),
]


class Memory:
    """A target in memory whose files can be touched."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        #: A file takes no more bytes than this.
        self.room: int | None = None

    where = "memory"

    @contextmanager
    def write(self, file: str) -> Iterator[Sink]:
        """Kept once whole."""
        if file in self.kept:
            raise ArchiveExists(f"there is a {file}")
        sink = _Bounded(self.room)
        yield sink
        if file in self.kept:
            raise ArchiveExists(f"there is a {file}")
        self.kept[file] = bytes(sink.taken)

    @contextmanager
    def read(self, file: str) -> Iterator[Source]:
        """From what is kept."""
        if file not in self.kept:
            raise UnknownArchive(f"there is no {file}")
        yield io.BytesIO(self.kept[file])

    def exists(self, file: str) -> bool:
        """Whether it is kept."""
        return file in self.kept

    def files(self) -> Iterator[str]:
        """All names."""
        return iter(list(self.kept))

    def sweep(self, before: datetime) -> int:
        """There is never anything."""
        return 0

    def rows_of(self, name: str) -> str:
        """The file with an archive's rows."""
        return archives.manifest_of(self, name, RING).object


class _Bounded:
    def __init__(self, room: int | None) -> None:
        self.taken = bytearray()
        self._room = room

    def write(self, data: bytes) -> None:
        self.taken += data
        if self._room is not None and len(self.taken) > self._room:
            raise DependencyError("no space left")


def written(target: Target, sections: Iterable[Section] = SECTIONS, key: Key | None = None, name: str = NAME) -> None:
    """An archive, which is found to be good."""
    archives.write(target, name, FACTS, sections, key)
    assert faults(target, name) == []


def faults(target: Target, name: str = NAME, keys: KeyRing = RING) -> list[str]:
    return list(archives.verify(target, name, keys))


def taken(sections: Iterable[Section]) -> list[tuple[str, tuple[str, ...], list[Row]]]:
    """Sections with their rows, as something to compare."""
    return [(section.table, tuple(section.columns), list(section.rows)) for section in sections]


def read(target: Target, name: str = NAME, keys: KeyRing = RING) -> list[tuple[str, tuple[str, ...], list[Row]]]:
    return taken(archives.read(target, name, keys))


def is_refused(target: Target, name: str = NAME) -> bool:
    """Whether reading an archive to its end fails."""
    try:
        read(target, name)
    except (ArchiveDamaged, UnknownArchive, RequestError, KeyMissing):
        return True
    return False


# -- every target -----------------------------------------------------------------------------------------------------


class TargetContract:
    """What every target must hold; a back end brings the fixture `target`."""

    def test_what_is_written_is_read(self, target: Target) -> None:
        """The bytes come back in order, however they are cut, also none at all."""
        pieces = [bytes([number]) * (number * 1000) for number in range(200)]
        with target.write("some.file") as sink:
            for piece in pieces:
                sink.write(piece)
        with target.write("empty"):
            pass
        with target.read("some.file") as source:
            parts = list(iter(lambda: source.read(777_777), b""))
        assert b"".join(parts) == b"".join(pieces)
        assert max(map(len, parts)) <= 777_777
        with target.read("empty") as source:
            assert source.read(10) == b""

    def test_a_file_is_there_once_it_is_whole(self, target: Target) -> None:
        """While it is written nobody sees it."""
        with target.write("late") as sink:
            sink.write(b"x" * 100_000)
            assert not target.exists("late")
            assert list(target.files()) == []
        assert target.exists("late")
        assert list(target.files()) == ["late"]

    def test_what_fails_leaves_nothing(self, target: Target) -> None:
        """An error on the way is told as it is, and there is no file."""
        with pytest.raises(KeyError, match="mine"), target.write("broken") as sink:  # noqa: PT012
            sink.write(b"x" * 100_000)
            raise KeyError("mine")
        assert not target.exists("broken")
        assert list(target.files()) == []

    def test_a_file_is_written_once(self, target: Target) -> None:
        """A second one of the same name is refused, and the first one stays."""
        with target.write("one") as sink:
            sink.write(b"first")
        with pytest.raises(ArchiveExists), target.write("one") as sink:
            sink.write(b"second")
        with target.read("one") as source:
            assert source.read(100) == b"first"

    def test_of_two_writers_one_wins(self, target: Target) -> None:
        """Who comes to the end second is told so."""
        with pytest.raises(ArchiveExists), target.write("one") as late:  # noqa: PT012
            late.write(b"late")
            with target.write("one") as early:
                early.write(b"early")
        with target.read("one") as source:
            assert source.read(100) == b"early"

    def test_names_that_begin_alike_are_told_apart(self, target: Target) -> None:
        """One file does not stand for another."""
        with target.write("2026-11-22.json") as sink:
            sink.write(b"x")
        assert not target.exists("2026-11-2")
        assert not target.exists("2026-11-22.jso")

    def test_an_unknown_file_is_told(self, target: Target) -> None:
        """It is the caller's mistake, not the target's."""
        with pytest.raises(UnknownArchive), target.read("nothing") as source:
            source.read(1)
        assert not target.exists("nothing")
        assert list(target.files()) == []

    def test_sweeping_leaves_files_alone(self, target: Target) -> None:
        """What is whole is never taken away."""
        with target.write("kept") as sink:
            sink.write(b"x")
        target.sweep(datetime(2100, 1, 1, tzinfo=UTC))
        assert list(target.files()) == ["kept"]

    @SEALED
    def test_an_archive_comes_back(self, target: Target, key: Key | None) -> None:
        """From manifest to rows, with listing and verification."""
        manifest = archives.write(target, NAME, FACTS, SECTIONS, key)
        assert archives.listing(target, RING) == ((manifest,), (), ())
        assert faults(target) == []
        assert read(target) == taken(SECTIONS)


class TestMemory(TargetContract):
    """The target of the tests below keeps the contract too."""

    @pytest.fixture
    def target(self) -> Target:
        """A fresh one."""
        return Memory()


class TestFolder(TargetContract):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        """A folder that is not there yet."""
        return Folder(tmp_path / "archives")

    def test_only_its_owner_reads_it(self, tmp_path: Path) -> None:
        """Archives hold payments: the folder is made 0700, its files 0600."""
        written(Folder(tmp_path / "archives"))
        assert stat.S_IMODE((tmp_path / "archives").stat().st_mode) == 0o700
        files = list((tmp_path / "archives").iterdir())
        assert len(files) == 2
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

    def test_a_full_disk_leaves_nothing(self, tmp_path: Path) -> None:
        """The kernel refuses a write midway: it is told as a dependency's fault, and no file is left."""
        target = Folder(tmp_path)
        rows = [(os.urandom(50_000),) for _ in range(100)]
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
        try:
            with pytest.raises(DependencyError, match="cannot be written to: File too large"):
                archives.write(target, NAME, FACTS, [Section("t", ("a",), rows)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(tmp_path.iterdir()) == []
        written(target)

    def test_a_file_system_without_links_does_as_well(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nothing can be linked it is renamed."""

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        written(Folder(tmp_path))
        assert len(list(tmp_path.iterdir())) == 2

    def test_what_a_crash_left_is_swept_once_it_is_old(self, tmp_path: Path) -> None:
        """Parts are no files; old ones are deleted, those of a writer at work are not."""
        for name in ("old", "new"):
            (tmp_path / f"{name}.zst.0a1b2c3d.part").write_bytes(b"x")
        os.utime(tmp_path / "old.zst.0a1b2c3d.part", (0, 1_000_000))
        target = Folder(tmp_path)
        assert list(target.files()) == []
        assert target.sweep(datetime(2000, 1, 1, tzinfo=UTC)) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["new.zst.0a1b2c3d.part"]
        assert Folder(tmp_path / "none").sweep(datetime(2000, 1, 1, tzinfo=UTC)) == 0

    def test_a_folder_that_cannot_be_used_is_named(self, tmp_path: Path) -> None:
        """A disk that is not mounted is not written around; a file is no folder."""
        with pytest.raises(ConfigError, match="disk is missing"):
            archives.write(Folder(tmp_path / "disk" / "archives"), NAME, FACTS, SECTIONS)
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="is no folder"):
            archives.write(Folder(tmp_path / "file"), NAME, FACTS, SECTIONS)


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("/var/archives", "/var/archives"),
        ("archives/here", "archives/here"),
        ("/with space/and#?", "/with space/and#?"),
        ("file:///var/archives", "/var/archives"),
        ("file:///with%20space", "/with space"),
        ("file://localhost/var", "/var"),
    ],
)
def test_a_location_names_a_folder(location: str, where: str) -> None:
    """As a path, or as a URL."""
    target = open_target(location, now=lambda: BEGIN)
    assert isinstance(target, Folder)
    assert target.where == where


@pytest.mark.parametrize(
    "location",
    ["", "/", "file://host/var", "ftp://host/var", "s3://", "s3:///prefix", "s3://key:secret@bucket/p", "s3://b/p?x=y"],
)
def test_a_location_that_names_nothing_is_refused(location: str) -> None:
    """With what it may be; and a password is not repeated."""
    with pytest.raises(ConfigError) as caught:
        open_target(location, now=lambda: BEGIN)
    assert "secret" not in str(caught.value)


def test_a_store_that_takes_a_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has folders alone needs no boto3."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "interlock.archives.s3", raising=False)
    with pytest.raises(ConfigError, match=r"install interlock\[s3\]"):
        open_target("s3://bucket/prefix", now=lambda: BEGIN)


def test_a_lock_is_for_stores_that_have_one() -> None:
    """A folder cannot promise what is asked; and a lock of no days is none."""
    with pytest.raises(ConfigError, match="no object lock"):
        open_target("/var/archives", now=lambda: BEGIN, lock=ObjectLock(days=30))
    with pytest.raises(ConfigError, match="locks nothing"):
        ObjectLock(days=0)


# -- what is written comes back ---------------------------------------------------------------------------------------

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
)


@st.composite
def some_sections(draw: st.DrawFn) -> list[Section]:
    made = []
    for _ in range(draw(st.integers(0, 3))):
        columns = tuple(draw(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4)))
        rows = draw(st.lists(st.tuples(*(values for _ in columns)), max_size=5))
        made.append(Section(draw(st.text(st.characters(exclude_categories=["Cs"]))), columns, rows))
    return made


@settings(max_examples=150, deadline=None)
@given(sections=some_sections(), key=st.sampled_from([None, KEY]))
def test_any_rows_come_back_equal(sections: list[Section], key: Key | None) -> None:
    """Values, their types, their order and the tables they are of; and the manifest counts them."""
    target = Memory()
    manifest = archives.write(target, NAME, FACTS, sections, key)
    assert faults(target) == []
    found = read(target)
    assert found == taken(sections)
    for (_, _, rows), section in zip(found, sections, strict=True):
        for row, original in zip(rows, section.rows, strict=True):
            assert [type(value) for value in row] == [type(value) for value in original]
    assert [(table.name, table.columns, table.rows) for table in manifest.tables] == [
        (table, columns, len(rows)) for table, columns, rows in found
    ]


def test_not_a_number_and_infinity_come_back() -> None:
    """What does not equal itself, too."""
    target = Memory()
    written(target, [Section("t", ("a", "b"), [(float("nan"), float("-inf"))])])
    [(_, _, [(nan, infinity)])] = read(target)
    assert isinstance(nan, float)
    assert nan != nan  # noqa: PLR0124
    assert infinity == float("-inf")


@SEALED
def test_rows_longer_than_blocks_and_chunks_come_back(key: Key | None) -> None:
    """A row may be larger than any buffer on its way."""
    target = Memory()
    rows: list[Row] = [(os.urandom(5 * CHUNK_BYTES + 17),), (b"",), (b"z" * (3 * CHUNK_BYTES),)]
    written(target, [Section("t", ("body",), rows)], key)
    assert read(target) == [("t", ("body",), rows)]


def test_the_manifest_tells_what_is_in_the_archive() -> None:
    """As JSON that others can read."""
    target = Memory()
    manifest = archives.write(target, NAME, FACTS, SECTIONS, KEY)
    shown = json.loads(target.kept[f"{NAME}.json"])["manifest"]
    stored = target.kept[manifest.object]
    assert shown == {
        "format": 1,
        "name": NAME,
        "object": manifest.object,
        "period": {"name": NAME, "begin": "2026-11-22T00:00:00Z", "end": "2026-11-23T00:00:00Z"},
        "schema": 7,
        "written_at": "2027-02-01T03:04:05.678901Z",
        "written_by": f"interlock {__version__}",
        "tables": [
            {"name": "transactions", "columns": ["id", "status"], "rows": 3},
            {"name": "payments", "columns": [], "rows": 0},
            {"name": "messages", "columns": ["id", "body", "ratio", "sent"], "rows": 2},
        ],
        "content": {"bytes": manifest.content.bytes, "sha256": manifest.content.sha256},
        "stored": {"bytes": len(stored), "sha256": sha256(stored).hexdigest()},
        "key": KEY.id,
        "anchors": FACTS.anchors,
    }
    assert manifest.rows == 5
    assert archives.manifest_of(target, NAME, RING) == manifest


def test_the_same_rows_have_the_same_content_digest() -> None:
    """Encrypted or not: what was archived can be compared without being read."""
    target, other = Memory(), Memory()
    one = archives.write(target, NAME, FACTS, SECTIONS)
    two = archives.write(other, NAME, FACTS, SECTIONS, KEY)
    assert one.content == two.content
    assert one.stored != two.stored


def test_a_plain_archive_is_read_with_common_tools() -> None:
    """Nothing but zstd and msgpack is needed, by the format as it is documented."""
    target = Memory()
    archives.write(target, NAME, FACTS, SECTIONS)
    content = zstandard.ZstdDecompressor().decompress(target.kept[target.rows_of(NAME)], max_output_size=100_000)
    frames, at = [], 0
    while at < len(content):
        length = int.from_bytes(content[at + 1 : at + 5])
        frames.append((content[at : at + 1].decode(), msgspec.msgpack.decode(content[at + 5 : at + 5 + length])))
        at += 5 + length
    assert frames[:3] == [("A", [1, NAME]), ("S", ["transactions", ["id", "status"]]), ("R", [1, "ACSC"])]
    assert [kind for kind, _ in frames] == list("ASRRRESESRREZ")
    assert [value for kind, value in frames if kind in "EZ"] == [3, 0, 2, 3]


def test_an_encrypted_archive_shows_no_row() -> None:
    """Neither in its rows nor in its manifest."""
    target = Memory()
    secret = "DE02120300000000202051"
    written(target, [Section("t", ("iban",), [(secret,)] * 100)], KEY)
    assert all(secret.encode() not in data and secret[:8].encode() not in data for data in target.kept.values())
    written(target, [Section("t", ("iban",), [(secret,)])], None, "plain")
    assert secret.encode() in target.kept[target.rows_of("plain")]


def test_a_section_that_is_passed_over_is_checked_all_the_same() -> None:
    """Whoever wants one table only may leave the rows of the others."""
    target = Memory()
    written(target)
    assert [section.table for section in archives.read(target, NAME)] == ["transactions", "payments", "messages"]
    wanted = [row for section in archives.read(target, NAME) if section.table == "messages" for row in section.rows]
    assert wanted == SECTIONS[2].rows


def test_memory_does_not_grow_with_the_archive() -> None:
    """200 MB of rows that compress to next to nothing are written, verified and read in a few blocks' room."""
    target = Memory()
    rows = (("x" * 100_000, number) for number in range(2_000))
    tracemalloc.start()
    try:
        written(target, [Section("t", ("a", "b"), rows)], KEY)
        assert sum(1 for section in archives.read(target, NAME, RING) for _ in section.rows) == 2_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_000_000


# -- what an archive cannot hold --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((1,), "has 1 values for 2 columns"),
        ((1, 2, 3), "has 3 values for 2 columns"),
        ((1, BEGIN), "b is datetime"),
        ((Decimal("1.10"), "secret"), "a is Decimal"),
        ((1, ["x"]), "b is list"),
        ((1, bytearray(b"x")), "b is bytearray"),
        ((1, 2**64), "-2\\*\\*63"),
        ((1, "\ud800"), "surrogates"),
    ],
)
def test_a_row_that_would_come_back_otherwise_is_refused(row: Row, said: str) -> None:
    """With table and column, not the value; and there is no archive."""
    target = Memory()
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        archives.write(target, NAME, FACTS, [Section("things", ("a", "b"), [(1, 2), row])])
    assert "things" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert target.kept == {}


def test_a_row_that_is_longer_than_any_message_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could read it in bounded memory."""
    monkeypatch.setattr("interlock.archives.format.FRAME_BYTES_MAX", 1_000)
    target = Memory()
    written(target, [Section("t", ("a",), [(b"x" * 996,)])], name="just")
    with pytest.raises(ValueError, match="1,001 bytes does not fit"):
        archives.write(target, NAME, FACTS, [Section("t", ("a",), [(b"x" * 997,)])])


def test_facts_that_cannot_be_written_are_refused_before_the_first_row() -> None:
    """Not after hours of rows."""
    naive, turned = datetime(2026, 1, 1), FACTS.period  # noqa: DTZ001
    for wrong in (
        Facts(period=FACTS.period, schema=1, written_at=naive),
        Facts(period=FACTS.period, schema=1, written_at=BEGIN, anchors={"x": object()}),
        Facts(period=Period(name="x", begin=turned.end, end=turned.begin), schema=1, written_at=BEGIN),
    ):
        with pytest.raises((TypeError, ValueError)):
            archives.write(Memory(), NAME, wrong, iter(()))


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "a b", "ä", "x" * 201, "-x", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """It becomes the name of a file."""
    with pytest.raises(RequestError):
        archives.write(Memory(), name, FACTS, SECTIONS)
    with pytest.raises(UnknownArchive):
        archives.read(Memory(), name)


# -- finished or not there --------------------------------------------------------------------------------------------


@SEALED
def test_an_archive_that_is_cut_short_is_not_there(key: Key | None) -> None:
    """Wherever the target stops taking bytes, in the rows or in the manifest, there is no archive."""
    whole = Memory()
    archives.write(whole, NAME, FACTS, SECTIONS, key)
    longest = max(map(len, whole.kept.values()))
    for room in range(0, longest, 13):
        target = Memory()
        target.room = room
        with pytest.raises(DependencyError, match="no space left"):
            archives.write(target, NAME, FACTS, SECTIONS, key)
        assert archives.listing(target, RING).manifests == ()
        assert not target.exists(f"{NAME}.json")
        target.room = None
        written(target, key=key)


def test_an_attempt_that_was_cut_short_is_in_nobodys_way() -> None:
    """Its rows are told as left over, and a new attempt does not touch them."""
    target = Memory()
    archives.write(target, NAME, FACTS, SECTIONS)
    left = target.rows_of(NAME)
    del target.kept[f"{NAME}.json"]
    before = target.kept[left]
    written(target)
    listing = archives.listing(target)
    assert listing.leftovers == (left,)
    assert [manifest.name for manifest in listing.manifests] == [NAME]
    assert target.kept[left] == before


def test_a_finished_archive_is_never_written_again() -> None:
    """Neither its manifest nor its rows."""
    target = Memory()
    written(target)
    before = dict(target.kept)
    with pytest.raises(ArchiveExists, match=f"has a finished archive {NAME}"):
        archives.write(target, NAME, FACTS, SECTIONS)
    assert target.kept == before


def test_a_writer_that_comes_late_harms_nothing() -> None:
    """Another process finished the same archive meanwhile: this one is told, and the other's is whole."""
    target = Memory()

    def rows() -> Iterator[Row]:
        yield (1, "ACSC")
        written(target)
        yield (2, "ACSC")

    with pytest.raises(ArchiveExists):
        archives.write(target, NAME, FACTS, [Section("transactions", ("id", "status"), rows())])
    assert faults(target) == []
    assert read(target) == taken(SECTIONS)
    assert len(archives.listing(target).leftovers) == 1


class Echoing(Memory):
    """Takes a manifest and says that it was there already, as one does to a request that was sent twice."""

    @contextmanager
    def write(self, file: str) -> Iterator[Sink]:
        """Also a success is told as a refusal."""
        with super().write(file) as sink:
            yield sink
        if file.endswith(".json"):
            raise ArchiveExists("there is one")


def test_a_manifest_that_was_sent_twice_is_ones_own() -> None:
    """The answer to the first request was lost; the second one finds what the first one wrote."""
    written(Echoing())


def test_what_the_rows_raise_is_told_as_it_is() -> None:
    """The source's error is not the target's."""
    target = Memory()

    def rows() -> Iterator[Row]:
        yield (1,)
        raise ConnectionResetError("the database went away")

    with pytest.raises(ConnectionResetError, match="the database"):
        archives.write(target, NAME, FACTS, [Section("t", ("a",), rows())])
    assert target.kept == {}


# -- what was touched is noticed --------------------------------------------------------------------------------------


def an_archive(key: Key | None) -> tuple[Mapping[str, bytes], str]:
    """The files of a small archive, and which one has the rows."""
    target = Memory()
    written(target, key=key)
    return dict(target.kept), target.rows_of(NAME)


ARCHIVES = {"plain": an_archive(None), "sealed": an_archive(KEY)}
KINDS = pytest.mark.parametrize("kind", ["plain", "sealed"])


def touched(kind: str, which: str, change: object) -> Memory:
    """An archive of which one file was changed."""
    files, rows = ARCHIVES[kind]
    target = Memory()
    target.kept = dict(files)
    file = rows if which == "rows" else f"{NAME}.json"
    assert callable(change)
    target.kept[file] = change(target.kept[file])
    return target


@settings(max_examples=200, deadline=None)
@given(sections=some_sections(), key=st.sampled_from([None, KEY]), draw=st.data())
def test_any_byte_that_was_changed_is_noticed(sections: list[Section], key: Key | None, draw: st.DataObject) -> None:
    """By whoever verifies and by whoever reads, in whatever archive, wherever it is."""
    target = Memory()
    written(target, sections, key)
    file = draw.draw(st.sampled_from(sorted(target.kept)))
    data = bytearray(target.kept[file])
    data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    target.kept[file] = bytes(data)
    assert faults(target)
    assert is_refused(target)


@KINDS
@pytest.mark.parametrize("which", ["rows", "manifest"])
def test_every_single_bit_counts(kind: str, which: str) -> None:
    """All of them, of one archive."""
    files, rows = ARCHIVES[kind]
    whole = files[rows if which == "rows" else f"{NAME}.json"]
    for at, byte in enumerate(whole):
        for bit in range(8):
            other = whole[:at] + bytes((byte ^ 1 << bit,)) + whole[at + 1 :]
            target = touched(kind, which, lambda _, other=other: other)
            assert faults(target), (at, bit)
            assert is_refused(target), (at, bit)


@KINDS
@pytest.mark.parametrize("which", ["rows", "manifest"])
def test_any_truncation_is_noticed(kind: str, which: str) -> None:
    """At every length."""
    files, rows = ARCHIVES[kind]
    whole = files[rows if which == "rows" else f"{NAME}.json"]
    for length in range(len(whole)):
        target = touched(kind, which, lambda data, length=length: data[:length])
        assert faults(target), length
        assert is_refused(target), length


@KINDS
@pytest.mark.parametrize("which", ["rows", "manifest"])
@pytest.mark.parametrize("more", [b"\0", b"\n", b" ", zstandard.compress(b"more")])
def test_what_was_added_is_noticed(kind: str, which: str, more: bytes) -> None:
    """At the end, even where a parser would not mind."""
    target = touched(kind, which, lambda data: data + more)
    assert faults(target)
    assert is_refused(target)


@pytest.fixture(scope="module")
def large() -> Mapping[str, bytes]:
    """A sealed archive of several chunks."""
    target = Memory()
    written(target, [Section("t", ("body",), [(os.urandom(100_000),) for _ in range(35)])], KEY)
    assert len(target.kept[target.rows_of(NAME)]) > 3 * CHUNK_BYTES
    return target.kept


def rearranged(files: Mapping[str, bytes], order: list[int]) -> Memory:
    """The archive with these of its chunks, in this order."""
    target = Memory()
    target.kept = dict(files)
    file = target.rows_of(NAME)
    data, size = files[file], CHUNK_BYTES + 16
    head = len(data.partition(NAME.encode())[0]) + len(NAME)
    chunks = [data[at : at + size] for at in range(head, len(data), size)]
    target.kept[file] = data[:head] + b"".join(chunks[number] for number in order)
    return target


def test_chunks_that_are_where_they_belong_open(large: Mapping[str, bytes]) -> None:
    """Taken apart and put together again as they were, they are good."""
    assert faults(rearranged(large, [0, 1, 2, 3])) == []


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([1, 0, 2, 3], "its chunk 0 does not open"),
        ([0, 2, 3], "its chunk 1 does not open"),
        ([0, 1, 1, 2, 3], "its chunk 2 does not open"),
        ([0, 1], "it is cut off after chunk 1, which is not the last one"),
        ([0, 1, 2, 3, 3], "its chunk 3 does not open"),
        ([], "its chunk 0 does not open"),
    ],
)
def test_chunks_cannot_be_moved(large: Mapping[str, bytes], order: list[int], said: str) -> None:
    """Neither left out nor doubled, and it is said which."""
    target = rearranged(large, order)
    told = faults(target)
    assert said in told[0]
    assert "its stored bytes" in told[1]
    with pytest.raises(ArchiveDamaged, match=said):
        read(target)


def opened(sealed: bytes, name: str = NAME) -> bytes:
    """What a sealed stream holds."""
    stream = Unsealed(io.BytesIO(sealed), KEY, name)
    return b"".join(iter(lambda: stream.read(100_000), b""))


def sealed(data: bytes) -> bytes:
    """A sealed stream."""
    out = bytearray()
    sealer = Sealer(KEY, NAME, out.extend)
    sealer.write(data)
    sealer.finish()
    return bytes(out)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_a_sealed_stream_ends_where_it_ended(size: int) -> None:
    """Whether its last chunk is full or not: what is cut or added is told."""
    data = os.urandom(size)
    stream = sealed(data)
    assert opened(stream) == data
    with pytest.raises(ArchiveDamaged, match="does not open"):
        opened(stream[:-1])
    with pytest.raises(ArchiveDamaged, match=r"does not open|something follows chunk"):
        opened(stream + b"x" * 20)
    if size and size % CHUNK_BYTES == 0:
        with pytest.raises(ArchiveDamaged, match="something follows chunk"):
            opened(stream + b"x" * 20)


@KINDS
def test_the_rows_of_another_archive_are_noticed(kind: str) -> None:
    """Also where they are good in themselves."""
    target = Memory()
    key = KEY if kind == "sealed" else None
    written(target, key=key)
    written(target, key=key, name="2026-11-23")
    target.kept[target.rows_of(NAME)] = target.kept[target.rows_of("2026-11-23")]
    assert "2026-11-23" in faults(target)[0]
    assert is_refused(target)


@KINDS
def test_the_manifest_of_another_archive_is_noticed(kind: str) -> None:
    """Swapped, it names the archive that it is of."""
    target = Memory()
    key = KEY if kind == "sealed" else None
    written(target, key=key)
    written(target, key=key, name="2026-11-23")
    target.kept[f"{NAME}.json"] = target.kept["2026-11-23.json"]
    assert faults(target) == ["its manifest is that of the archive 2026-11-23"]
    with pytest.raises(ArchiveDamaged, match=f"the archive {NAME} in memory: its manifest is that of the archive"):
        archives.read(target, NAME, RING)


def test_rows_that_are_gone_are_told() -> None:
    """As they are by name."""
    target = Memory()
    written(target)
    file = target.rows_of(NAME)
    del target.kept[file]
    assert faults(target) == [f"its rows are missing: there is no {file}"]
    with pytest.raises(UnknownArchive):
        read(target)


def test_a_manifest_that_is_gone_is_told() -> None:
    """Without one there is no archive; the rows are shown as left over."""
    target = Memory()
    written(target)
    file = target.rows_of(NAME)
    del target.kept[f"{NAME}.json"]
    assert faults(target) == [f"memory has no archive {NAME}: there is no manifest {NAME}.json"]
    assert archives.listing(target) == ((), (), (file,))


def test_a_missing_key_is_named_and_the_rest_is_checked() -> None:
    """Whether the bytes are those that were stored can be said without it."""
    target = Memory()
    written(target, key=OLD_KEY)
    [told] = faults(target, keys=KeyRing([KEY]))
    assert told == f"the archive is encrypted with the key {OLD_KEY.id}, which is not among the keys given ({KEY.id})"
    with pytest.raises(ConfigError, match=OLD_KEY.id):
        archives.read(target, NAME, KeyRing([KEY]))
    with pytest.raises(ConfigError, match=r"\(none\)"):
        archives.read(target, NAME)
    file = target.rows_of(NAME)
    target.kept[file] = target.kept[file][:-1] + b"?"
    assert "its stored bytes were altered" in faults(target, keys=KeyRing())[1]
    assert [manifest.name for manifest in archives.listing(target).manifests] == [NAME]


def test_an_old_key_still_reads() -> None:
    """A ring holds today's and those of former times."""
    target = Memory()
    written(target, key=OLD_KEY)
    written(target, key=KEY, name="later")
    assert read(target) == read(target, "later") == taken(SECTIONS)


def resealed(target: Memory, change: Mapping[str, object]) -> None:
    """The manifest as somebody without the key would write it: with other values, and a digest in place of the code."""
    body = json.loads(target.kept[f"{NAME}.json"])["manifest"] | change
    raw = json.dumps(body, indent=2).encode()
    seal = f"sha256:{sha256(raw).hexdigest()}".encode()
    target.kept[f"{NAME}.json"] = b'{"manifest": ' + raw + b',\n"seal": "' + seal + b'"}\n'


def test_a_manifest_cannot_be_forged_without_the_key() -> None:
    """Neither with the key's name nor without it."""
    target = Memory()
    written(target, key=KEY)
    good = dict(target.kept)
    resealed(target, {"schema": 8})
    assert faults(target) == ["its manifest was altered: it is not sealed as it says"]
    target.kept = dict(good)
    resealed(target, {"key": None})
    assert "it cannot be decompressed" in faults(target)[0]
    target.kept = dict(good)
    target.kept[f"{NAME}.json"] = good[f"{NAME}.json"].replace(b'"rows": 3', b'"rows": 2')
    assert faults(target) == ["its manifest was altered: the key that it names did not seal it"]


def test_a_plain_forgery_is_refused_where_encryption_is_required() -> None:
    """Otherwise it is good: nothing keeps who can write to the target from writing an archive."""
    target = Memory()
    written(target)
    assert faults(target) == []
    [told] = faults(target, keys=KeyRing([KEY], required=True))
    assert "it is not encrypted, which is required" in told
    with pytest.raises(ArchiveDamaged, match="required"):
        archives.read(target, NAME, KeyRing([KEY], required=True))


def test_a_plain_manifest_that_lies_is_found_out() -> None:
    """Counts, sizes and digests are each held against the rows."""
    for change, said in (
        ({"tables": []}, "its manifest says none"),
        ({"content": {"bytes": 1, "sha256": "00"}}, "its content: "),
        ({"stored": {"bytes": 1, "sha256": "00"}}, "its stored bytes: "),
        ({"object": "../secret"}, "no archive 2026-11-22 has its rows in '../secret'"),
        ({"object": "2026-11-23.0a1b2c3d.zst"}, "no archive 2026-11-22 has its rows in"),
        ({"period": {}}, "its manifest was altered: "),
        ({"written_at": "2026-01-01T00:00:00"}, "its manifest was altered: "),
        ({"key": KEY.id}, "it is not sealed as it says"),
        ({"format": 2}, "written in format 2, and this Interlock reads format 1"),
        ({"format": 0}, "its manifest was altered: "),
    ):
        target = Memory()
        written(target)
        resealed(target, change)
        [told] = faults(target)
        assert said in told
        assert is_refused(target)


def test_what_cannot_be_listed_is_told_beside_the_rest() -> None:
    """One bad manifest hides no other."""
    target = Memory()
    written(target)
    written(target, name="2026-11-23")
    target.kept["2026-11-24.json"] = b"{}"
    target.kept["no name.json"] = b"{}"
    target.kept["README.txt"] = b"not ours"
    listing = archives.listing(target)
    assert [manifest.name for manifest in listing.manifests] == [NAME, "2026-11-23"]
    assert [fault.partition(":")[0] for fault in listing.faults] == ["2026-11-24", "no name"]
    assert listing.leftovers == ()


def packed(*frames: tuple[bytes, object]) -> bytes:
    """A content of these frames."""
    encoded = [(kind, msgspec.msgpack.encode(value)) for kind, value in frames]
    return b"".join(kind + len(value).to_bytes(4) + value for kind, value in encoded)


_A, _S, _R = (b"A", [1, NAME]), (b"S", ["t", ["a"]]), (b"R", [1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ends before its closing frame"),
        (packed(_A), "ends before its closing frame"),
        (packed((b"A", [2, NAME])), "does not begin as that of an archive of format 1"),
        (packed(_S), "does not begin as that of an archive of format 1"),
        (packed((b"A", [1, "other"])), "is that of the archive other"),
        (packed((b"A", "x")), "no such value as its kind promises"),
        (packed(_A, _S, _R), "ends within t, after 1 rows"),
        (packed(_A, _S, _R, (b"E", 2)), "t has 1 rows, and its end says otherwise"),
        (packed(_A, _S, (b"R", [1, 2])), "a row of t does not fit its columns"),
        (packed(_A, _S, (b"R", [[1]])), "a row of t does not fit its columns"),
        (packed(_A, _S, (b"X", 1)), "its end says otherwise"),
        (packed(_A, _R), "a section or the closing frame was expected"),
        (packed(_A, (b"Z", 1)), "a section or the closing frame was expected"),
        (packed(_A, (b"Z", 0), (b"Z", 0)), "something follows the closing frame"),
        (packed(_A) + b"S\xff\xff\xff\xff", "impossible length"),
        (packed(_A) + b"S\0\0\0\x09abc", "ends within a frame"),
        (packed(_A) + b"S\0", "ends within a frame"),
        (packed(_A) + b"S\0\0\0\x01\xc1", "no such value as its kind promises"),
        (packed(_A, _S) + b"R\0\0\0\x03\x91\xa1\xff", "no such value as its kind promises"),
    ],
)
def test_content_that_we_did_not_write_is_told_for_what_it_is(content: bytes, said: str) -> None:
    """Also where all digests agree."""
    target = Memory()
    written(target)
    stored = zstandard.compress(content)
    target.kept[target.rows_of(NAME)] = stored
    resealed(target, {"stored": {"bytes": len(stored), "sha256": sha256(stored).hexdigest()}})
    assert said in faults(target)[0]
    assert is_refused(target)


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_32_bytes_in_a_file(tmp_path: Path) -> None:
    """Its id is public, and neither is shown by accident."""
    (tmp_path / "key").write_bytes(KEY.secret)
    key = Key.load(tmp_path / "key")
    assert key == KEY
    assert key.id == sha256(KEY.secret).hexdigest()[:16]
    assert repr(KEY.secret) not in repr(key)
    assert KEY.secret.hex() not in repr(key)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    """With how one is made."""
    for content in (b"", b"x" * 31, b"x" * 32 + b"\n", b"0" * 64):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(ConfigError, match="openssl rand"):
            Key.load(tmp_path / "key")
    with pytest.raises(ConfigError, match="No such file"):
        Key.load(tmp_path / "none")
    with pytest.raises(ConfigError, match="32 bytes, not 3"):
        Key(b"abc")


def test_no_two_archives_share_a_keystream() -> None:
    """The same rows under the same key and name are other bytes each time, from the first chunk on."""
    one, two = Memory(), Memory()
    written(one, key=KEY)
    written(two, key=KEY)
    first, second = one.kept[one.rows_of(NAME)], two.kept[two.rows_of(NAME)]
    assert len(first) == len(second)
    assert first[-64:] != second[-64:]


# -- histories --------------------------------------------------------------------------------------------------------

#: Archives of `SECTIONS` as format 1 wrote them, which every later Interlock must read: base64, manifests compressed.
HISTORIES = {
    "plain": {
        "2026-11-22.36d2a54c.zst": (
            "KLUv/QRY7QUApApBAAAADZIBqjIwMjYtMTEtMjJTAAAAGZKsdHJhbnNhY3Rpb25zkqJpZKZzdGF0dXNSAAAAB5IBpEFDU0MCpFJKQ1QDkgPA"
            "RQAAAAEDUwAAAAuSqHBheW1lbnRzkAAekqhtZXNzYWdlc5SiaWSkYm9keaVyYXRpb6RzZW50UgAAABSUAcQGADx4Lz7/y7/gAMNSAAAADpQC"
            "xADLfjfkPIgAdZzCAloAAAABAwYAsCBMcAfAmDkbgwX5WNkD1TDS3g=="
        ),
        "2026-11-22.json": (
            "KLUv/WCwAyURABYfWiBQa/LYjNFqpiXMwo9LS5Mkt8iMiSlKmsgJQJNGpjfDCVUAVABJAMciaQN4E2gTrAvk15osC8wgpxm/cPpgDCJB+ccY"
            "AWQ3QCYG/44xcCbLJ1TaoPBDNYIrKar/wZsHoQRzYqFFxyDnGS0BuBnLjMcYhINBTqUfE9mM4xDKJRaXQr2gxzmuDK/K6QeBqnw6k9oLA5zv"
            "DZrSZ2yVz2DohLQwl0NAG7UrTI5kNJTph8qZVG8qe6kDBjn0ldd1FaxYg+BTWb7KhOEdAV7X2FKoRQLNHWO/sNutR9hr/XLuOS/vB1W/T5/i"
            "P6vmomKHd0P+2sLHaNEvs8aDu5E/R8jd1frrxvq5fe0tbofbDPepCJ2CDiqGMSYGD6haiIfD3MbHilNc8fnTctxoHyvn0voUOULGqG07mjeW"
            "0qfnyzFi3t/ccSBKPz0IgAdEnfK8XtBeIAU+gMkxRmm5NOYBXebCZR9FachHcKYgB0uoQaFCEFHNLEhBQSGbAWCCEZSqowcSYCUhBGIQMgZF"
            "FEyitNX6HawNarB2HFmzkHWq1WtJHHZrMkxHZvJicm8tUQ+QX0AAmAjxbsRRf6C0OOUeoUUtACBSs0Nd1ipeOT6mZvntwYJ2MDeTc9M0CDWT"
            "HQsA7blN9SvyGR2sZ0vWIRg1695WEeVbmoIpqBTASx1DZIaSET/RSbIfW1xae6iGYKMmdL0iNsFLShifmVTVaSi/kIK+4cNU"
        ),
    },
    "sealed": {
        "2026-11-22.833ab22e.sealed": (
            "aW50ZXJsb2NrIHNlYWxlZCAxCmMNzSlmxDNmfnM3Hnpl8rcGRDqiw5C8zc2VuKPlH75c0eW9/4mUPjEACjIwMjYtMTEtMjJN4x10ZWpP5BBQ"
            "+WXumKnpZ9jWwuav2XQn2RFo5P4nmhV59tSGNVN3/TdHuJv7jnHB+0aX49oLqmaiB5+vuV0JyrjjN+rtS4MvAzO+XbPdliBv+03j6bpQcEqJ"
            "MrLl+5lpAtOnWTKXsgTAizy67+liGi/ycie7+G52UTQExHdFZTQ3WKnoSARL3cTrwU1BaYpWyeXBHWqRBByuRQRSg0A3xyRixoYTr8/bVo5/"
            "CJydKG9X+zY+sS5cvLwqPtoPf+3FITgmE55l6UOxHLAZvh+1o/HfmzG5dFhXmg=="
        ),
        "2026-11-22.json": (
            "KLUv/WDXA60RAKagXSBgafIDiu+1jRCzMYbR1DR6Hg5BTk1R+JnyUBoFRAniBFcAVwBNAGoPxR5pA9AieBGsC+TXiiwLzBynlV84bTDmkKD8"
            "Y4zAsRsgEYN/xxg4keUT4Cf9NPHMr1Nqiep/8OZhRiCEWLx8zHFeaQmAWllmPMYcGMxxKv2IyFYOQwwqoGrKJRaX4l7Q4xyqjVfl9HPgKp9O"
            "pPZyjGnA+d6gKX1lq3yl0QlpYS6HgDJqV4gcqTCS6YfKiVRvKnupA+Y49JPXdRMosQbBZ7J8lUjjHQG0rrGVCNDhpvUISPVHiBqthB58zdlv"
            "aywyq8fW210K/lsLWaNdjosXu3LWHPPXmhv/MmtUoG7258zurtZfN9bP7WtvoXa4jeA+FaFT0EGFYIwph4aTEnJvDCZHr0i8nGLbPcQiiru6"
            "o6eF3j3HR4thuy9z9YlBjks95Y4D4a0szgGg4ZAkDFmnPK+POc6C9oIV0MFBGJKWC2Me0GUuXPZZKyWFr+U4SqjhqFJQoSKhoKQpZDNQghGU"
            "qqsHEmBUJQaCIESMCYZmEqWt1u/1Uf1C9ek2aKG11UPQW9ven6i/WIstg/ZcRN9nkMC02nOy/gtlANUeZzCB1+pRfgktoQUAoZXNUll8vCd9"
            "cJ6e7wvUOdjoEsC0UYNUNZ8D4aA96qlWdS6j8/jv+VqLQc2tlz1CtbPeY3croeBhD5iM7DQdr+Uk5adtIcWhsKzL7INuuRgs4FRwFGFZI/V9"
            "OFenKHkMFBU="
        ),
    },
}


@KINDS
def test_what_an_earlier_version_wrote_is_read(kind: str) -> None:
    """A format is for years: the bytes are those of the version that introduced it."""
    target = Memory()
    for file, text in HISTORIES[kind].items():
        data = b64decode(text)
        target.kept[file] = zstandard.decompress(data) if file.endswith(".json") else data
    assert faults(target) == []
    assert read(target) == taken(SECTIONS)
    manifest = archives.manifest_of(target, NAME, RING)
    assert (manifest.period, manifest.schema, manifest.anchors) == (FACTS.period, FACTS.schema, FACTS.anchors)
    assert manifest.written_at == FACTS.written_at
    assert (manifest.key is None) == (kind == "plain")
