"""One message of many payments, from the socket to its durable answer, with single payments beside it."""

import base64
import http.client
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec
from rich.console import Console
from rich.table import Table

from bench import ceilings, many
from bench.message import Messages, identities
from bench.report import Findings, Reach, over, show_rest
from bench.runs import Run
from bench.servers import ROOT, Server
from bench.usage import Watched, cpu_of, memory
from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import newest

_LOOK_SECONDS = 0.05
_BLOCK_BYTES = 1_048_576
#: How long the one call may take.
_CALL_SECONDS = 900.0
#: Sent before, so that schemas are compiled.
_WARM_PAYMENTS = 2_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    quick: bool
    payments: int
    #: Single payments a second, at a steady pace, and for how long without the message.
    singles: int
    alone_seconds: float


FULL = Settings(quick=False, payments=100_000, singles=50, alone_seconds=20)
QUICK = Settings(quick=True, payments=5_000, singles=20, alone_seconds=3)


# -- what was found ---------------------------------------------------------------------------------------------------


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """How long single payments took, from when each was due."""

    number: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A message's way in over one store."""

    store: str
    payments: int
    megabytes: float
    seconds: float
    #: Of the server and the process that reads; of PostgreSQL. What single payments cost beside it is taken off.
    cpu_seconds: float
    postgres_seconds: float
    #: The most that both together had in memory, and of that the process that reads; and the server alone before.
    memory_mb: float
    reader_mb: float
    before_mb: float
    alone: Waits
    beside: Waits

    @property
    def per_second(self) -> float:
        """Payments."""
        return self.payments / self.seconds

    @property
    def per_core(self) -> float:
        """Payments a second of CPU, everybody's."""
        return self.payments / (self.cpu_seconds + self.postgres_seconds)


class Report(Findings, kw_only=True):
    """Everything of one run."""

    reads: list[many.Read] = msgspec.field(default_factory=list)
    ways: list[Way] = msgspec.field(default_factory=list)


def reached(report: Report) -> list[Reach]:
    """The figures that we want to reach, beside those that were measured."""
    reads = {read.mode: read.per_cpu_second for read in report.reads}
    ways = {way.store: way for way in report.ways}
    sqlite, postgres = ways.get("sqlite"), ways.get("postgres")
    schema = reads.get("schema")
    found = [
        Reach(name="parse and schema, a second of CPU", sense=">=", limit=10_000, measured=schema, unit="payments"),
        Reach(name="the same over bare lxml", sense=">=", limit=None, measured=over(schema, reads.get("bare"))),
    ]
    for way, limit in ((sqlite, 3_000), (postgres, None)):
        if way is None:
            continue
        name, ratio = way.store, over(way.beside.p99_ms, way.alone.p99_ms)
        found += [
            Reach(name=f"{name}: the whole way, a second of CPU", sense=">=", limit=limit, measured=way.per_core,
                  unit="payments"),
            Reach(name=f"{name}: memory of both processes", sense="<=", limit=300, measured=way.memory_mb, unit="MB"),
            Reach(name=f"{name}: p50 of single payments, beside it over alone", sense="<=", limit=1.5,
                  measured=over(way.beside.p50_ms, way.alone.p50_ms)),
            Reach(name=f"{name}: p99 of single payments, beside it over alone", sense="<=", limit=1.5, measured=ratio),
        ]  # fmt: skip
    return found


READS = {
    "bare": "lxml's own streaming validation",
    "schema": "schemas, fields and digest",
    "rules": "and rules, by the generic profile",
}


def read_rows(report: Report) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """How the file was read."""
    heads = ("reading alone", "payments", "payments a second of CPU", "memory")
    return heads, [
        (READS[read.mode], f"{read.payments:,}", f"{read.per_cpu_second:,.0f}", f"{read.memory_mb:.0f} MB")
        for read in report.reads
    ]


def way_rows(report: Report) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """Each way in."""
    heads = (
        "store", "payments a second", "a second of CPU", "seconds", "CPU, ours", "CPU, PostgreSQL",
        "memory (reader)", "singles alone: p50, p99, most", "beside it",
    )  # fmt: skip
    return heads, [
        (
            way.store, f"{way.per_second:,.0f}", f"{way.per_core:,.0f}", f"{way.seconds:.1f}",
            f"{way.cpu_seconds:.1f} s", f"{way.postgres_seconds:.1f} s" if way.postgres_seconds else "",
            f"{way.memory_mb:.0f} MB ({way.reader_mb:.0f})", _waits(way.alone), _waits(way.beside),
        )
        for way in report.ways
    ]  # fmt: skip


def _waits(waits: Waits) -> str:
    return f"{waits.p50_ms:.1f}, {waits.p99_ms:.0f}, {waits.max_ms:.0f} ms"


def show(report: Report, console: Console) -> None:
    """The report as tables."""
    for heads, rows in (read_rows(report), way_rows(report)):
        if rows:
            table = Table(*heads)
            for row in rows:
                table.add_row(*row)
            console.print(table)
    show_rest(report, console)


# -- measuring --------------------------------------------------------------------------------------------------------


class Caller:
    """Calls a server in its client's name."""

    def __init__(self, server: Server) -> None:
        self._port = server.ports[0]
        basic = base64.b64encode(f"{server.client_id}:{server.client_secret}".encode()).decode()
        form = f"grant_type=client_credentials&client_id={server.client_id}&scope=rp2/read+rp2/write"
        connection = self.connection()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/oauth2/token", form, headers)
        token = msgspec.json.decode(connection.getresponse().read())["access_token"]
        connection.close()
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/xml"}

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=_CALL_SECONDS, blocksize=_BLOCK_BYTES)

    def submit(self, path: Path) -> None:
        """Send a file. Raises RuntimeError unless all its payments were settled."""
        connection = self.connection()
        with path.open("rb") as file:
            headers = {**self.headers, "Content-Length": str(path.stat().st_size)}
            connection.request("POST", "/v1/messages", file, headers)
            response = connection.getresponse()
            shown = msgspec.json.decode(response.read())
        connection.close()
        if response.status != 200 or shown["status"] != "ACSC":
            raise RuntimeError(f"the message was not settled: {response.status} {shown}")


class Singles:
    """Single payments at a steady pace, and how long each took; a context manager."""

    def __init__(self, caller: Caller, per_second: int, most: float) -> None:
        """most: seconds that it may last."""
        self._caller = caller
        self._per_second = per_second
        messages = Messages()
        self._messages = [messages.make(one) for one in identities(int(per_second * most) + 1)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._milliseconds: list[float] = []
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        connection = self._caller.connection()
        due = time.perf_counter()
        try:
            while self._messages and not self._stop.wait(max(0.0, due - time.perf_counter())):
                connection.request("POST", "/v1/messages", self._messages.pop(), self._caller.headers)
                shown = msgspec.json.decode(connection.getresponse().read())
                if shown.get("status") != "ACSC":
                    raise RuntimeError(f"a single payment was not settled: {shown}")
                # By when it was due, not by when it could be sent: waiting in line is waiting.
                self._milliseconds.append((time.perf_counter() - due) * 1000)
                due += 1 / self._per_second
        except Exception as exc:  # noqa: BLE001 - told by `waits`, in the thread that asks
            self._failure = exc

    def waits(self) -> Waits:
        """How long they took. Raises RuntimeError where one failed."""
        if self._failure is not None:
            raise RuntimeError(f"single payments failed: {self._failure}") from self._failure
        cuts = statistics.quantiles(self._milliseconds, n=100, method="inclusive")
        return Waits(number=len(self._milliseconds), p50_ms=cuts[49], p99_ms=cuts[98], max_ms=max(self._milliseconds))


class Memory:
    """The most that a server and its children have in memory; a context manager."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before_mb = self.most_mb = memory([pid])
        self.reader_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children")
        while not self._stop.wait(_LOOK_SECONDS):
            reader = 0.0
            for tasks in (children, *Path(f"/proc/{self._pid}/task").glob("*/children")):
                try:
                    reader = max(reader, sum(memory([int(pid)]) for pid in tasks.read_text("ascii").split()))
                except OSError:  # it has ended meanwhile
                    continue
            self.reader_mb = max(self.reader_mb, reader)
            self.most_mb = max(self.most_mb, memory([self._pid]) + reader)


class Bench(Run):
    """One run."""

    PARTS = ("reading", "sqlite", "postgres")

    def __init__(self, settings: Settings, parts: Sequence[str], folder: Path, console: Console) -> None:
        super().__init__(folder, console, profile=False, peer=sys.executable)
        self._settings = settings
        self.report: Report = Report(
            started=datetime.now(UTC),
            machine=ceilings.describe(folder),
            settings=msgspec.to_builtins(settings),
            parts=list(parts),
        )

    def _message(self, payments: int) -> Path:
        path = self._folder / "message.xml"
        many.write(path, payments)
        return path

    def _reading(self) -> None:
        path = self._message(self._settings.payments)
        for mode in many.MODES:
            with self._console.status(READS[mode]):
                done = subprocess.run(
                    [sys.executable, "-m", "bench.many", mode, str(path), str(self._folder / "schemas")],
                    cwd=ROOT, capture_output=True, check=False, timeout=_CALL_SECONDS,
                    env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
                )  # fmt: skip
            if done.returncode:
                raise RuntimeError(done.stderr.decode(errors="replace").strip()[-500:])
            read = msgspec.json.decode(done.stdout, type=many.Read)
            self.report.reads.append(read)
            self._say(READS[mode], f"{read.per_cpu_second:,.0f}/s of CPU, {read.memory_mb:.0f} MB")

    def _sqlite(self) -> None:
        self._way("sqlite", None, lambda: 0.0)

    def _postgres(self) -> None:
        with ExitStack() as stack:
            cluster = stack.enter_context(Cluster(newest()))
            watched = Watched(pid=cluster.pid, family=True)
            self._way("postgres", cluster.create_database("bulk"), lambda: cpu_of(watched).all)

    def _way(self, name: str, store: str | None, postgres: Callable[[], float]) -> None:
        settings, data = self._settings, self._folder / name
        try:
            with Server(data, store) as server:
                caller, (pid,) = Caller(server), server.pids
                ours = Watched(pid=pid, family=True)

                def used() -> tuple[float, float, float]:
                    return time.perf_counter(), cpu_of(ours).all, postgres()

                with self._console.status(f"{name}: single payments"):
                    caller.submit(self._message(_WARM_PAYMENTS))
                    start = used()
                    with Singles(caller, settings.singles, settings.alone_seconds) as alone:
                        time.sleep(settings.alone_seconds)
                    rest = [(b - a) / settings.alone_seconds for a, b in zip(start, used(), strict=True)]
                path = self._message(settings.payments)
                with (
                    self._console.status(f"{name}: {settings.payments:,} payments in one message"),
                    Memory(pid) as most,
                    Singles(caller, settings.singles, _CALL_SECONDS / 5) as beside,
                ):
                    start = used()
                    caller.submit(path)
                    seconds, cpu, cpu_postgres = (b - a for a, b in zip(start, used(), strict=True))
            way = Way(
                store=name, payments=settings.payments, megabytes=path.stat().st_size / 1e6, seconds=seconds,
                cpu_seconds=cpu - rest[1] * seconds, postgres_seconds=max(0.0, cpu_postgres - rest[2] * seconds),
                memory_mb=most.most_mb, reader_mb=most.reader_mb, before_mb=most.before_mb,
                alone=alone.waits(), beside=beside.waits(),
            )  # fmt: skip
        finally:
            shutil.rmtree(data, ignore_errors=True)
        self.report.ways.append(way)
        self._say(
            f"{name}: {way.payments:,} payments, {way.megabytes:.0f} MB",
            f"{way.per_second:,.0f}/s, {way.per_core:,.0f}/s of CPU, {way.memory_mb:.0f} MB; single payments alone "
            f"{_waits(way.alone)}, beside it {_waits(way.beside)}",
        )
