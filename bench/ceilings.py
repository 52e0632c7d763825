"""What this machine is, and could do at best: the same rows without a server, the same message without Interlock.

Rows are not described here a second time. One real transaction goes through Interlock's own parts while SQLite is
listened to (`take_sample`); the statements heard, with other ids, are then written as fast as SQLite takes them. So the
ceiling, and the store that is filled with a million transactions, stay true when the schema changes.
"""

import asyncio
import importlib
import importlib.util
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec
from lxml import etree

from bench.message import Identity, Messages, identities
from bench.usage import machine_seconds, snapshot
from interlock.app import Interlock
from interlock.chain import GENESIS, micros
from interlock.config import Config
from interlock.inspection import inspect
from interlock.iso20022 import envelopes, fields, rules
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.schemas import Catalogue
from interlock.stages import receive, release
from interlock.stages.facts import Inspection
from interlock.stores.sqlite import SqliteStore
from interlock.transaction import Transaction

Row = Sequence[Any]
_F = TypeVar("_F", bound=Callable[..., Any])
#: Writes one value of a cloned row.
Make = Callable[["Clone"], Any]

#: Where the sample's numbers begin, so that none of them is mistaken for a version or a count.
_ROW = 5_000_000_000
_CHAIN = 7_000_000_000_000
_NEAR = 1_000
#: What is written for a transaction; not what the process writes of itself.
_CHANGE = re.compile(r"(INSERT( OR \w+)? INTO|UPDATE|DELETE FROM) (?!writer\b|clients\b|signing_keys\b|controls\b)")
#: Any time of the sample, in microseconds: this century's first part.
_TIMES = range(1_500_000_000_000_000, 4_000_000_000_000_000)


# -- the machine ------------------------------------------------------------------------------------------------------


class Machine(msgspec.Struct, kw_only=True, frozen=True):
    """Where it was measured; nothing that names a person or a host."""

    #: Of the model, cores and memory: the same for machines alike.
    id: str
    cpu: str
    cores: int
    memory_gb: float
    kernel: str
    filesystem: str
    #: How often a second 4 KB are written and forced to the disk.
    fdatasync_per_second: int
    load_average: float
    versions: dict[str, str]
    #: Of the source; with a `+` where files were changed since.
    commit: str

    @property
    def one_line(self) -> str:
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gb:g} GB, {self.filesystem}, "
            f"{self.fdatasync_per_second:,} fdatasync/s, load {self.load_average:.1f}"
        )


def describe(folder: Path) -> Machine:
    """This machine, and the disk that a folder is on; takes a second."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("ascii", errors="replace"))
    cpu = " ".join(found[1].split()) if found else platform.machine()
    cores = len(os.sched_getaffinity(0))
    memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return Machine(
        id=sha256(f"{cpu}/{cores}/{memory:.0f}".encode()).hexdigest()[:6],
        cpu=cpu,
        cores=cores,
        memory_gb=memory,
        kernel=platform.release(),
        filesystem=_filesystem(folder),
        load_average=round(os.getloadavg()[0], 2),
        fdatasync_per_second=_fdatasync_rate(folder),
        versions={
            "python": platform.python_version(),
            "sqlite": apsw.sqlite_lib_version(),
            "apsw": apsw.apsw_version(),
            "lxml": ".".join(map(str, etree.LXML_VERSION[:3])),
            "libxml2": ".".join(map(str, etree.LIBXML_VERSION)),
            **{name: metadata.version(name) for name in ("interlock", "uvicorn", "uvloop", "httptools", "zstandard")},
        },
        commit=_commit(),
    )


def _filesystem(folder: Path) -> str:
    """Its kind: the longest mount point that the folder lies under."""
    here = folder.resolve()
    mounts = (line.split()[1:3] for line in Path("/proc/mounts").read_text("utf-8").splitlines())
    under = [(len(point), kind) for point, kind in mounts if here.is_relative_to(point)]
    return max(under)[1] if under else "unknown"


def _fdatasync_rate(folder: Path, seconds: float = 1.0) -> int:
    path = folder / "fdatasync"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        block, count, started = os.urandom(4096), 0, time.perf_counter()
        while (taken := time.perf_counter() - started) < seconds:
            os.pwrite(handle, block, count % 256 * 4096)
            os.fdatasync(handle)
            count += 1
    finally:
        os.close(handle)
        path.unlink()
    return round(count / taken)


def _commit() -> str:
    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, check=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# -- a real transaction, as SQLite heard it ---------------------------------------------------------------------------


class Clone(msgspec.Struct):
    """Whose values a copy of the sample gets."""

    identity: Identity
    id: bytes
    #: Its place among the copies, from 0, and its row.
    number: int
    row: int
    #: Number of its first event less that of the sample's.
    chain_shift: int
    #: Microseconds.
    time_shift: int


class Statement:
    """One statement of the sample, and how to make its values for a copy."""

    def __init__(self, sql: str, values: Row, makes: list[tuple[int, Make]]) -> None:
        self.sql = sql
        self.values = values
        self.makes = makes
        columns = [name.strip(' "') for name in (re.findall(r"\(([^)]*)\)", sql) or [""])[0].split(",")]
        self.is_event = "INTO events" in sql
        #: Places of an event's content and hashes.
        self.event = tuple(map(columns.index, ("content", "previous", "hash"))) if self.is_event else ()

    def row(self, clone: Clone) -> list[Any]:
        values = list(self.values)
        for place, make in self.makes:
            values[place] = make(clone)
        return values


class Sample:
    """A finished transaction as the statements that wrote it."""

    def __init__(self, heard: list[tuple[str, Row]], transaction: Transaction, identity: Identity, now: int) -> None:
        """now: microseconds; when it was taken."""
        self.transaction, self._identity, self.now = transaction, identity, now
        self.statements = [Statement(sql, values, list(self._makes(values))) for sql, values in heard]
        self.events = sum(statement.is_event for statement in self.statements)

    @property
    def bytes(self) -> int:
        """Size of all its values: what must at least be written."""
        return sum(
            len(value) if isinstance(value, bytes | str) else 8 for s in self.statements for value in s.values if value
        )

    def _makes(self, values: Row) -> Iterator[tuple[int, Make]]:
        """The places whose values differ from copy to copy."""
        for place, value in enumerate(values):
            make = self._make(value)
            if make is not None:
                yield place, make

    def _make(self, value: Any) -> Make | None:  # noqa: PLR0911 - a table
        match value:
            case int() if _ROW <= value < _ROW + _NEAR:
                return lambda clone: clone.row
            case int() if 2 * _ROW <= value < 2 * _ROW + _NEAR:
                odd = value % 2
                return lambda clone: clone.row * 2 + odd
            case int() if _CHAIN <= value < _CHAIN + _NEAR:
                return lambda clone: value + clone.chain_shift
            case int() if value in _TIMES:
                return lambda clone: value + clone.time_shift
            case bytes() if value == self.transaction.id.bytes:
                return lambda clone: clone.id
            case bytes():
                parts = value.split(self.transaction.id.hex.encode())
                return None if len(parts) == 1 else lambda clone: clone.id.hex().encode().join(parts)
            case str():
                return self._make_text(value)
            case _:
                return None

    def _make_text(self, value: str) -> Make | None:
        token, uetr = (name.decode() for name in self._identity)
        if token in value:
            parts = value.split(token)
            return lambda clone: clone.identity.token.decode().join(parts)
        if uetr in value:
            parts = value.split(uetr)
            return lambda clone: clone.identity.uetr.decode().join(parts)
        return None


@contextmanager
def _listening(heard: list[tuple[str, Row]]) -> Iterator[None]:
    """What each SQLite connection that is opened meanwhile is told to do."""

    def hear(_: apsw.Cursor, sql: str, values: Any) -> bool:
        heard.append((sql, () if values is None else tuple(values)))
        return True

    def hook(connection: apsw.Connection) -> None:
        connection.exec_trace = hear

    apsw.connection_hooks.append(hook)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(hook)


def take_sample(client: str, folder: Path) -> tuple[Sample, list[str]]:
    """Do one transaction for a client in an empty folder; its statements, and the pragmas of a connection that writes.

    The note that the answer was fetched is left out: it follows later, beside the way.
    """
    config = Config(data=folder, log_level="warning")
    asyncio.run(one_transaction(config, client, identities(1)[0]))
    database = apsw.Connection(str(config.file))
    database.execute("UPDATE transactions SET row = ?", (_ROW - 1,))
    database.execute("UPDATE writer SET chain_seq = ?", (_CHAIN - 1,))
    database.close()
    heard: list[tuple[str, Row]] = []
    identity = identities(1)[0]
    with _listening(heard):
        transaction = asyncio.run(one_transaction(config, client, identity))
    pragmas = [sql for sql, _ in heard if re.fullmatch(r"PRAGMA \w+ = .*", sql) and "user_version" not in sql]
    changes = [(sql, values) for sql, values in heard if _CHANGE.match(sql)]
    if not any("INTO events" in sql for sql, _ in changes):
        raise RuntimeError("the sample has no events: the store writes them in a way that the benchmark does not know")
    return Sample(changes, transaction, identity, micros(transaction.updated_at)), list(dict.fromkeys(pragmas))


async def one_transaction(config: Config, client: str, identity: Identity) -> Transaction:
    interlock = Interlock(config)
    await interlock.start()
    try:
        issued = await interlock.workflow.receiving.issue(client, announced="pacs.008")
        ended = await interlock.workflow.receiving.receive(client, issued.id, Messages().make(identity))
    finally:
        await interlock.stop()
    if ended.standing.end is not Status.ACSC:
        raise RuntimeError(f"the benchmark's own message was not settled but {ended.standing}: {ended.note}")
    return ended


# -- copies of it -----------------------------------------------------------------------------------------------------


class Copier:
    """Makes copies of a sample, with the chain of their events."""

    def __init__(self, sample: Sample, *, first_row: int, chain_seq: int, chain_hash: bytes, total: int) -> None:
        """chain_seq, chain_hash: of the event before the first copy's.

        total: copies in all; the last is a millisecond older than the sample, the first that many milliseconds.
        """
        self._sample = sample
        self._row = first_row
        self.chain_seq, self.chain_hash = chain_seq, chain_hash
        self._total = total
        self._made = 0
        self._region = sample.transaction.region
        merged: dict[str, list[Statement]] = {}
        for statement in sample.statements:
            merged.setdefault(statement.sql, []).append(statement)
        self._merged = merged

    def batch(self, count: int) -> list[tuple[str, list[list[Any]]]]:
        """The statements of the next copies, all rows of one statement together, in the order of the sample."""
        clones = [self._clone(identity) for identity in identities(count)]
        made = []
        for sql, statements in self._merged.items():
            rows = [statement.row(clone) for clone in clones for statement in statements]
            if statements[0].is_event:
                self._link(rows, statements[0].event)
            made.append((sql, rows))
        return made

    def _clone(self, identity: Identity) -> Clone:
        shift = (self._made - self._total) * 1_000
        clone = Clone(
            identity=identity,
            id=self._new_id(self._sample.now + shift),
            number=self._made,
            row=self._row + self._made,
            chain_shift=self.chain_seq + 1 - _CHAIN + self._made * self._sample.events,
            time_shift=shift,
        )
        self._made += 1
        return clone

    def _new_id(self, at: int) -> bytes:
        """A UUIDv7 of a time in microseconds; its last 8 bits are the region."""
        drawn = random.getrandbits(66)
        value = (at // 1000) << 80 | 0x7 << 76 | (drawn >> 54) << 64 | 0b10 << 62 | drawn & (1 << 54) - 1 << 8
        return (value & ~0xFF | self._region).to_bytes(16, "big")

    def _link(self, rows: list[list[Any]], places: Sequence[int]) -> None:
        content, previous, hash_ = places
        head = self.chain_hash
        for row in rows:
            row[previous] = head
            row[hash_] = head = sha256(head + row[content]).digest()
        self.chain_hash = head

    @property
    def last_seq(self) -> int:
        """Number of the last event made."""
        return self.chain_seq + self._made * self._sample.events


class Rate(msgspec.Struct, kw_only=True, frozen=True):
    """How fast something went."""

    transactions: int
    seconds: float
    per_second: float
    #: CPU of the process, all threads.
    user_us: float
    system_us: float
    #: And of PostgreSQL's processes.
    postgres_us: float = 0
    #: Share of the machine's CPU time that went to other processes.
    others_share: float
    #: Transactions a commit, by so many at once; and how long a commit took them, where that was told.
    each: int = 1
    callers: int = 1
    commit_ms: float | None = None


class _Clock:
    """Adds up what the timed sections take: time, our CPU, everybody's."""

    def __init__(self) -> None:
        self._used = [0.0] * 4

    def __enter__(self) -> None:
        self._began = self._now()

    def __exit__(self, *_: object) -> None:
        now = self._now()
        self._used = [used + end - began for used, end, began in zip(self._used, now, self._began, strict=True)]

    @staticmethod
    def _now() -> tuple[float, float, float, float]:
        own = os.times()
        return time.perf_counter(), own.user, own.system, machine_seconds()

    def rate(self, count: int, postgres: float = 0) -> Rate:
        """So many transactions were done in it. postgres: seconds of CPU that its processes used meanwhile."""
        taken, user, system, all_ = self._used
        each = 1e6 / max(1, count)
        return Rate(
            transactions=count,
            seconds=round(taken, 3),
            per_second=round(count / taken, 1),
            user_us=round(user * each, 1),
            system_us=round(system * each, 1),
            postgres_us=round(postgres * each, 1),
            others_share=round(max(0.0, all_ - user - system - postgres) / (taken * (os.cpu_count() or 1)), 3),
        )


def write_rows(sample: Sample, pragmas: list[str], path: Path, commits: int, each: int = 1_000) -> Rate:
    """The ceiling: the sample's statements by executemany, so many copies a commit; only the writing is timed.

    Bodies are compressed already, hashes made, so this is what the tables and the disk alone cost.
    """
    SqliteStore(path).close()
    database = apsw.Connection(str(path))
    for pragma in pragmas:
        database.execute(pragma)
    copier = Copier(sample, first_row=1, chain_seq=0, chain_hash=GENESIS, total=commits * each)
    clock = _Clock()
    for _ in range(commits):
        batch = copier.batch(each)
        with clock:
            database.execute("BEGIN IMMEDIATE")
            for sql, rows in batch:
                database.executemany(sql, rows)
            database.execute("COMMIT")
    database.close()
    return clock.rate(commits * each)


def prefill(sample: Sample, path: Path, count: int, progress: Callable[[int], None], each: int = 10_000) -> None:
    """Fill a store that nobody uses with finished transactions, bodies and history included; the chain holds.

    Not durable while it runs: a file that is half filled is thrown away.
    """
    database = apsw.Connection(str(path))
    for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000"):
        database.execute(f"PRAGMA {pragma}")
    last: Any
    ((last,),) = database.execute("SELECT coalesce(max(row), 0) FROM transactions").fetchall()
    seq: Any
    head: Any
    ((seq, head),) = database.execute("SELECT chain_seq, chain_hash FROM writer").fetchall()
    copier = Copier(sample, first_row=last + 1, chain_seq=seq, chain_hash=head, total=count)
    done = 0
    while done < count:
        number = min(each, count - done)
        database.execute("BEGIN")
        for sql, rows in copier.batch(number):
            database.executemany(sql, rows)
        database.execute("COMMIT")
        done += number
        progress(done)
    database.execute("UPDATE writer SET chain_seq = ?, chain_hash = ?", (copier.last_seq, copier.chain_hash))
    database.close()
    with path.open("rb") as file:
        os.fsync(file.fileno())  # or the kernel would write it while others are measured


# -- the same message without Interlock, and Interlock's pieces -------------------------------------------------------


class Cost(msgspec.Struct, kw_only=True, frozen=True):
    """CPU microseconds of one call, over rounds."""

    name: str
    median: float
    min: float


def _cost(name: str, function: Callable[[], object], rounds: int, calls: int) -> Cost:
    found = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(calls):
            function()
        found.append((time.process_time() - started) * 1e6 / calls)
    return Cost(name=name, median=round(statistics.median(found), 1), min=round(min(found), 1))


def pieces(schemas: Path, rounds: int, calls: int = 200) -> list[Cost]:
    """The benchmark's message through bare lxml, and through Interlock's stages piece by piece, on one thread."""
    catalogue = Catalogue(cache=schemas)
    limits = Limits(bytes_max=1_048_576, depth_max=64, nodes_max=200_000)
    identity = identities(1)[0]
    content = Messages().make(identity)
    now = datetime.now(UTC)
    inspection = inspect(content, catalogue, limits=limits, today=now.date())
    if inspection.original is None or inspection.technical or inspection.business:
        raise RuntimeError(f"the benchmark's own message has findings: {inspection.technical + inspection.business}")
    original = inspection.original
    envelope = envelopes.read(content, limits)
    assert envelope.document is not None
    assert envelope.header is not None
    assert envelope.definition is not None
    assert envelope.header_definition is not None
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    parts = {tag: catalogue.xsd(definition) for tag, definition in _PARTS.items()}
    bare = {tag: etree.XMLSchema(etree.fromstring(xsd)) for tag, xsd in parts.items()}
    tree = etree.fromstring(content, parser)
    trees = [(bare[child.tag], child) for child in tree if isinstance(child.tag, str)]

    def bare_parse() -> object:
        return etree.fromstring(content, parser)

    def bare_validate() -> object:
        return [schema.validate(element) for schema, element in trees]

    def bare_both() -> list[bool]:
        return [bare[child.tag].validate(child) for child in etree.fromstring(content, parser)]

    def validate() -> object:
        assert envelope.definition is not None
        assert envelope.header_definition is not None
        assert envelope.document is not None
        assert envelope.header is not None
        return (
            catalogue.validate(envelope.header_definition, envelope.header),
            catalogue.validate(envelope.definition, envelope.document),
        )

    def stage() -> object:
        found = inspect(content, catalogue, limits=limits, today=now.date(), schema_only=True)
        assert found.original is not None
        keys = (
            receive.message_keys(found.original),
            [receive.payment_keys(found.original, payment) for payment in found.original.payments],
        )
        return keys, receive.run(found, {})

    if not all(bare_both()):
        raise RuntimeError("bare lxml does not find the benchmark's own message valid")
    transaction = _ended()
    cost = partial(_cost, rounds=rounds, calls=calls)
    return [
        cost("bare: lxml parse", bare_parse),
        cost("bare: lxml validate, AppHdr and Document", bare_validate),
        cost("bare: both", bare_both),
        cost("read", partial(envelopes.read, content, limits)),
        cost("validate", validate),
        cost("extract", partial(fields.extract, envelope)),
        cost("receive stage", stage),
        cost("rules", partial(rules.check, original, today=now.date())),
        cost("inspect, whole", partial(inspect, content, catalogue, limits=limits, today=now.date())),
        cost("answer", partial(release.answer, transaction, inspection, {}, now)),
    ]


_PARTS = {
    "{urn:iso:std:iso:20022:tech:xsd:head.001.001.02}AppHdr": "head.001.001.02",
    "{urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08}Document": "pacs.008.001.08",
}


def _ended() -> Transaction:
    """A settled transaction to be answered."""
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as folder:
        config = Config(data=Path(folder), log_level="warning")
        return asyncio.run(one_transaction(config, "c_bench", identities(1)[0]))


# -- the same steps elsewhere -----------------------------------------------------------------------------------------


def has_dbos() -> bool:
    """Whether `dbos` is installed beside us."""
    return importlib.util.find_spec("dbos") is not None


def dbos_rate(folder: Path, seconds: float, url: str | None = None, postmaster: int | None = None) -> Rate:
    """The lifecycle as a DBOS workflow of four durable steps, without HTTP; the work inside is Interlock's.

    url: of a PostgreSQL database, whose first process is given with it; without one SQLite is used, with the
    write-ahead log, which is not DBOS's default.
    """
    callers = 4 if url is None else 16
    dbos = importlib.import_module("dbos").DBOS
    step: Callable[[_F], _F] = dbos.step()
    workflow: Callable[[_F], _F] = dbos.workflow()
    catalogue = Catalogue(cache=folder / "schemas")
    limits = Limits(bytes_max=1_048_576, depth_max=64, nodes_max=200_000)
    transaction = _ended()

    def look(text: str) -> Inspection:
        return inspect(text.encode(), catalogue, limits=limits, today=datetime.now(UTC).date())

    @step
    def issue() -> str:
        return str(uuid.uuid4())

    @step
    def accept(text: str) -> bool:
        return look(text).is_usable

    @step
    def decide(usable: bool) -> str:  # noqa: FBT001 - a step of a workflow
        return "ACSC" if usable else "RJCT"

    @step
    def answer(text: str) -> str:
        made = release.answer(transaction, look(text), {}, datetime.now(UTC))
        return "" if made is None else made.body.decode()

    @workflow
    def lifecycle(text: str) -> str:
        issue()
        return decide(accept(text)) + answer(text)

    dbos(config={"name": "interlock-bench", "system_database_url": url or _sqlite_url(folder), "log_level": "ERROR"})
    dbos.launch()
    messages = Messages()
    look(messages.make(identities(1)[0]).decode())  # schemas are compiled once, and not by many threads together
    done = [0] * callers

    def call(number: int, until: float) -> None:
        while time.perf_counter() < until:
            (identity,) = identities(1)
            if not lifecycle(messages.make(identity).decode()).startswith("ACSC"):
                raise RuntimeError("a workflow did not settle")
            done[number] += 1

    with ThreadPoolExecutor(callers) as threads:
        list(threads.map(call, range(callers), [time.perf_counter() + min(2.0, seconds)] * callers))  # warm-up
        done[:] = [0] * callers
        clock = _Clock()
        before = snapshot([], postmaster)
        with clock:
            list(threads.map(call, range(callers), [time.perf_counter() + seconds] * callers))
        used = (snapshot([], postmaster).postgres - before.postgres).all
    dbos.destroy()
    return msgspec.structs.replace(clock.rate(sum(done), used), callers=callers)


def _sqlite_url(folder: Path) -> str:
    file = folder / "dbos.sqlite"
    database = apsw.Connection(str(file))
    database.execute("PRAGMA journal_mode = WAL")
    database.close()
    return f"sqlite:///{file}"


def main() -> None:
    """`python -m bench.ceilings FOLDER SECONDS [URL PID]`: the DBOS measurement, in a process of its own; JSON."""
    folder, seconds, *database = sys.argv[1:]
    url, pid = database or (None, None)
    rate = dbos_rate(Path(folder), float(seconds), url, None if pid is None else int(pid))
    sys.stdout.buffer.write(msgspec.json.encode(rate))


if __name__ == "__main__":
    main()
