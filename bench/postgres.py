"""Interlock over PostgreSQL, beside what that PostgreSQL could do at best: the parts of `--store postgres`.

The server is private and started for the run, with settings that are written into the result; every commit is synced.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psycopg
from rich.console import Console

from bench import ceilings, lookups
from bench.ceilings import Rate
from bench.filling import Era, Filling, newest_midnight
from bench.findings import CLIENTS, MANY, Report
from bench.load import Measured, Plan
from bench.pgbench import Ceiling
from bench.report import MAIN, Stores, told
from bench.rows import Template, spotless
from bench.runs import Run
from bench.servers import Server
from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import newest
from interlock.demo.postgres.processes import ClusterFailed
from interlock.stores.postgres import PostgresStore

_LEVELS = (1, 16, 64, 256)
_PROCESSES = (1, 2, 4)
_MANY_CLIENTS = (2, 4)
#: In the store that full ones are compared with; over how many days each step of filling goes.
_FEW, _DAYS = 1_000, 10
#: Up to here bodies are stored as they would be; and the room on the disk that a transaction needs with them, that it
#: needs without, and that PostgreSQL's log does.
_WHOLE_MAX, _BYTES_WHOLE, _BYTES_SMALL, _BYTES_LOG = 1_000_000, 8_000, 5_000, 12_000_000_000
#: Of the server, besides what `Cluster` sets.
_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "track_wal_io_timing": "on",
}
_TOLD = (
    *_SETTINGS, "autovacuum", "data_checksums", "max_connections", "server_encoding", "shared_buffers", "wal_level",
    "wal_sync_method",
)  # fmt: skip


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    quick: bool
    warmup_seconds: float
    seconds: float
    #: Each in turn with what it is compared to.
    process_rounds: int
    store_rounds: int
    #: Transactions in the full store, step by step.
    prefill: tuple[int, ...]
    #: Of each kind.
    lookups: int
    dbos_seconds: float


FULL = Settings(
    quick=False, warmup_seconds=3, seconds=10, process_rounds=2, store_rounds=3, prefill=(1_000_000, 5_000_000),
    lookups=300, dbos_seconds=10,
)  # fmt: skip
QUICK = Settings(
    quick=True, warmup_seconds=1, seconds=2, process_rounds=1, store_rounds=1, prefill=(20_000, 60_000),
    lookups=20, dbos_seconds=2,
)  # fmt: skip


class Bench(Run):
    """One run over PostgreSQL."""

    PARTS = ("ceiling", "dbos", "sqlite", "reference", "v1", "processes", "full")

    def __init__(
        self, settings: Settings, parts: Sequence[str], folder: Path, console: Console, *, profile: bool, peer: str
    ) -> None:
        super().__init__(folder, console, profile=profile, peer=peer)
        self._settings = settings
        self._databases = 0
        self.report: Report = Report(
            started=datetime.now(UTC),
            machine=ceilings.describe(folder),
            settings=msgspec.to_builtins(settings),
            parts=list(parts),
        )

    def run(self) -> None:
        """Start the server, measure the parts, end it. Raises ClusterFailed where there is none to be started."""
        with self._started() as self._cluster:
            self._describe()
            super().run()

    def _started(self) -> Cluster:
        """A server beside our own data, or, where its user may not go there, where it can be."""
        self._folder.chmod(0o711)  # where we are root, the server runs as somebody else
        buffers = min(2048, int(self.report.machine.memory_gb * 1024 / 8))
        settings = {**_SETTINGS, "shared_buffers": f"{buffers}MB"}
        cluster = Cluster(newest(), self._folder / "postgres", settings)
        try:
            cluster.start()
        except ClusterFailed as exc:
            cluster.close()
            self.report.notes.append(f"PostgreSQL's data was in the system's folder for temporary files: {exc}")
            cluster = Cluster(newest(), settings=settings)
        return cluster

    def _describe(self) -> None:
        with psycopg.connect(self._cluster.superuser_url) as connection:
            found: dict[str, str] = dict(
                connection.execute("SELECT name, current_setting(name) FROM pg_settings").fetchall()
            )
        self.report.version = found["server_version"]
        self.report.configuration = {name: found[name] for name in sorted(_TOLD)}
        told_ = ", ".join(f"{name} = {value}" for name, value in self.report.configuration.items())
        self._say(f"PostgreSQL {self.report.version}", told_)

    # -- servers and databases --

    def _new_database(self) -> str:
        self._databases += 1
        return self._cluster.create_database(f"bench_{self._databases}")

    @contextlib.contextmanager
    def _server(self, processes: int = 1) -> Iterator[Server]:
        """Interlock over a new database; both go at the end."""
        url = self._new_database()
        name = url.rpartition("/")[2]
        try:
            with Server(self._folder / name, url, processes) as server:
                yield server
        finally:
            self._cluster.drop_database(name)
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def _plan(self, server: Server, face: str, callers: int) -> Plan:
        settings = self._settings
        plan = server.plan(face, callers, warmup_seconds=settings.warmup_seconds, seconds=settings.seconds)
        return msgspec.structs.replace(plan, postmaster=self._cluster.pid, statistics=self._cluster.superuser_url)

    def _measured(self, what: str, server: Server, face: str, callers: int = MAIN) -> Measured:
        self._settle()
        return self._load(what, self._plan(server, face, callers))

    def _settle(self) -> None:
        """What was written before must not be written back while something else is measured."""
        self._cluster.query("CHECKPOINT")

    # -- without Interlock, and without PostgreSQL --

    def _ceiling(self) -> None:
        """Once more after the faces, so that a disturbance of one of the two shows."""
        found = self.report
        ceiling = Ceiling(self._cluster, self._folder / f"ceiling-{len(found.single)}")
        try:
            found.rows = ceiling.template.costs
            found.single.append(self._pgbench(ceiling, 1, CLIENTS, pipelined=False))
            found.pipelined.append(self._pgbench(ceiling, 1, CLIENTS, pipelined=True))
            found.many += [self._pgbench(ceiling, MANY, clients, pipelined=True) for clients in _MANY_CLIENTS]
        finally:
            ceiling.close()

    def _pgbench(self, ceiling: Ceiling, lifecycles: int, clients: int, *, pipelined: bool) -> Rate:
        settings = self._settings
        how = "together" if pipelined else "one by one"
        what = f"pgbench, {lifecycles} lifecycles a commit, statements {how}, {clients} clients"
        self._settle()
        with self._console.status(what):
            rate = ceiling.measure(
                lifecycles, clients, pipelined=pipelined,
                warmup_seconds=settings.warmup_seconds, seconds=settings.seconds,
            )  # fmt: skip
        self._say(what, f"{told(rate)}, {rate.commit_ms:.1f} ms a commit")
        return rate

    def _dbos(self) -> None:
        url = self._new_database()
        self.report.dbos = self._on_dbos(self._settings.dbos_seconds, url, str(self._cluster.pid))

    def _sqlite(self) -> None:
        settings = self._settings
        with Server(self._folder / "sqlite") as server:
            for face in ("reference", "v1"):
                plan = server.plan(face, MAIN, warmup_seconds=settings.warmup_seconds, seconds=settings.seconds)
                found = self._load(f"SQLite, {face}, {MAIN} callers", plan)
                self.report.sqlite.append(msgspec.structs.replace(found, face=f"{face}, SQLite"))

    # -- with --

    def _reference(self) -> None:
        self._face("reference", self.report.reference)

    def _v1(self) -> None:
        self._face("v1", self.report.v1)
        if "ceiling" in self.report.parts:
            self._ceiling()

    def _face(self, face: str, found: list[Measured]) -> None:
        with self._server() as server:
            found.extend(self._measured(f"{face}, {callers} callers", server, face, callers) for callers in _LEVELS)
            if self._profile:
                self._look(face, server.pids[0], self._plan(server, face, MAIN))

    def _processes(self) -> None:
        """In turn, so that what disturbs one number of processes disturbs the others."""
        for number in range(1, self._settings.process_rounds + 1):
            for processes in _PROCESSES:
                with self._server(processes) as server:
                    what = f"{processes} processes, {MAIN} callers, round {number}"
                    self.report.processes.append(self._measured(what, server, "reference"))

    def _full(self) -> None:
        """Look-ups in stores of growing size, and 64 callers on the first of them and on an empty one, in turn."""
        self._look_up_few()
        self._check_room()
        url = self._new_database()
        data = self._folder / "full"
        server = Server(data, url)
        filling = self._filling(url, data, server.client_id)
        ends, first = newest_midnight(self.report.started), 0
        for step, total in enumerate(self._settings.prefill):
            era = Era(ends, _DAYS, max(1, (total - first) // _DAYS), first, small_bodies=total > _WHOLE_MAX)
            self._fill(filling, era)
            ends, first = era.begins, first + era.copies
            self._look_up(url, filling.client)
            if not step:
                self._compare(server, first)

    def _look_up_few(self) -> None:
        url = self._new_database()
        data = self._folder / "few"
        filling = self._filling(url, data, Server(data, url).client_id)
        ends = newest_midnight(self.report.started)
        self._fill(filling, Era(ends, _DAYS, _FEW // _DAYS, 0))
        self._look_up(url, filling.client)

    def _filling(self, url: str, data: Path, client: str) -> Filling:
        store = PostgresStore(url)
        store.maintain(self.report.started)
        store.close()
        return Filling(self._cluster, url, Template(url, data), client)

    def _fill(self, filling: Filling, era: Era) -> None:
        began = time.monotonic()
        with self._console.status("filling a store") as status:
            filling.fill(era, lambda what: status.update(f"filling a store with {era.copies:,}: {what}"))
        self._say("filled a store", f"{era.copies:,} transactions in {time.monotonic() - began:.0f} s")
        if era.small_bodies:
            self.report.notes.append(f"{era.copies:,} transactions of the largest store have no bodies to speak of")

    def _look_up(self, url: str, client: str) -> None:
        self._settle()
        with self._console.status("look-ups"):
            looked = lookups.look(url, datetime.now(UTC), spotless(client), self._settings.lookups)
        self.report.looked.append(looked)
        slowest = max(looked.lookups, key=lambda kind: kind.p99_ms)
        self._say(
            f"look-ups in {looked.transactions:,} transactions, {looked.bytes / 1e9:.2f} GB",
            f"slowest: {slowest.name}, p50 {slowest.p50_ms:.2f} ms, p99 {slowest.p99_ms:.2f} ms",
        )

    def _compare(self, full: Server, prefilled: int) -> None:
        empties, fulls = [], []
        for number in range(1, self._settings.store_rounds + 1):
            with self._server() as server:
                empties.append(self._measured(f"empty store, round {number}", server, "reference"))
            with full:
                fulls.append(self._measured(f"full store, round {number}", full, "reference"))
        size = self.report.looked[-1].bytes
        self.report.stores = Stores(prefilled=prefilled, bytes=size, empty=empties, full=fulls)

    def _check_room(self) -> None:
        most = max(self._settings.prefill)
        whole = min(most, _WHOLE_MAX)
        needed = whole * _BYTES_WHOLE + (most - whole) * _BYTES_SMALL + _BYTES_LOG
        free = shutil.disk_usage(self._cluster.folder).free
        if free < needed:
            raise RuntimeError(
                f"{self._cluster.folder} has {free / 1e9:.0f} GB, {most:,} transactions need "
                f"{needed / 1e9:.0f} GB; see --prefill"
            )
