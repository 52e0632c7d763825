"""`python -m bench.run`: measures Interlock beside what this machine could do at best, and says so in JSON and a table.

Every part starts servers and load generators of its own, on 127.0.0.1 and in a fresh folder, and takes them away again.
A figure never makes the run fail; only what could not be measured does. How to read it all: bench/README.md.
"""

import argparse
import contextlib
import json
import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import msgspec
from rich.console import Console
from rich.table import Table

from bench import ceilings
from bench.ceilings import Cost, Machine, Rate, Sample
from bench.load import Measured, Plan

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("receive", "ceiling", "dbos", "reference", "v1", "store", "memory")
_LEVELS = (1, 16, 64, 256)
#: The level that our figures are about.
_MAIN = 64
#: Share of the peak at which transactions arrive in the open loop.
_OPEN_SHARE = 0.7
#: As long as a client's id, for the rows' sizes.
_SOME_CLIENT = "c_0123456789abcdef"
_START_SECONDS = 60.0
#: Transactions before which memory cannot be expected to be flat.
_FLAT_FROM = 50_000
#: Characters of a line: what the tables need, where nothing says how wide the window is.
_WIDTH = 130
#: Room on the disk that a prefilled transaction needs, with a margin.
_BYTES_EACH = 8_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    quick: bool
    warmup_seconds: float
    seconds: float
    open_seconds: float
    #: Commits of 1,000 transactions.
    ceiling_commits: int
    piece_rounds: int
    #: Pairs of measurements, empty and full.
    store_rounds: int
    prefill: int
    memory: int
    dbos_seconds: float


_FULL = Settings(
    quick=False, warmup_seconds=3, seconds=10, open_seconds=20, ceiling_commits=60, piece_rounds=15, store_rounds=3,
    prefill=1_000_000, memory=200_000, dbos_seconds=10,
)  # fmt: skip
_QUICK = Settings(
    quick=True, warmup_seconds=1, seconds=2, open_seconds=3, ceiling_commits=10, piece_rounds=3, store_rounds=1,
    prefill=20_000, memory=3_000, dbos_seconds=2,
)  # fmt: skip


# -- servers and load -------------------------------------------------------------------------------------------------


class Server:
    """`interlock serve` in a folder, with one client; a process group of its own, ended at the latest on leaving."""

    def __init__(self, data: Path) -> None:
        self._data = data
        data.mkdir(parents=True, exist_ok=True)
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
        self._environment["INTERLOCK_LOG_LEVEL"] = "warning"
        self._credentials = data / "bench-client.json"
        if not self._credentials.exists():
            self._credentials.write_bytes(self._interlock("clients", "add", "bench", "--json"))
        credentials = json.loads(self._credentials.read_text())
        self.client_id: str = credentials["client_id"]
        self.client_secret: str = credentials["client_secret"]

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "interlock.cli", *arguments, "--data", str(self._data)]

    def _interlock(self, *arguments: str) -> bytes:
        return subprocess.run(
            self._command(*arguments), cwd=self._data, env=self._environment, stdout=subprocess.PIPE, check=True,
            timeout=_START_SECONDS,
        ).stdout  # fmt: skip

    def __enter__(self) -> Self:
        self._log = (self._data / "server.log").open("ab")
        self._process = subprocess.Popen(
            self._command("serve", "--json", "--host", "127.0.0.1", "--port", "0"), cwd=self._data,
            env=self._environment, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        try:
            self.port = self._listening()
        except BaseException:
            self._end()
            raise
        self.pid = self._process.pid
        return self

    def _listening(self) -> int:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if not line.startswith(b"{"):
            log = (self._data / "server.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the server did not start: {line!r}\n{log}")
        return int(json.loads(line)["url"].rpartition(":")[2])

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def plan(self, face: str, callers: int, settings: Settings) -> Plan:
        """A closed loop against this server."""
        return Plan(
            host="127.0.0.1", port=self.port, client_id=self.client_id, client_secret=self.client_secret, pid=self.pid,
            face=face, callers=callers, warmup_seconds=settings.warmup_seconds, seconds=settings.seconds,
        )  # fmt: skip


def load(plan: Plan) -> Measured:
    """Let a load generator do the plan. Raises RuntimeError where it cannot."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(msgspec.json.encode(plan), timeout=plan.warmup_seconds + plan.seconds + 150)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise RuntimeError(f"the load generator failed: {err.decode(errors='replace')[-2000:]}")
    measured = msgspec.json.decode(out, type=Measured)
    if not measured.transactions:
        raise RuntimeError(f"{plan.face}, {plan.callers} callers: not one transaction ended: {measured.failed}")
    return measured


# -- what was found ---------------------------------------------------------------------------------------------------


class Stores(msgspec.Struct, kw_only=True):
    """The same load on an empty store and on a full one, in turn."""

    #: Transactions in the full one, and its size.
    prefilled: int
    bytes: int
    empty: list[Measured]
    full: list[Measured]


class Reach(msgspec.Struct, kw_only=True, frozen=True):
    """A figure that we want to reach."""

    name: str
    #: `>=` or `<=`.
    sense: str
    limit: float
    #: None: not measured in this run.
    measured: float | None
    unit: str = ""

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.sense == ">=" else self.measured <= self.limit


class Report(msgspec.Struct, kw_only=True):
    """Everything of one run."""

    started: datetime
    machine: Machine
    settings: dict[str, object]
    parts: list[str]
    pieces: list[Cost] = []
    ceiling: list[Rate] = []
    reference: list[Measured] = []
    v1: list[Measured] = []
    dbos: Rate | None = None
    stores: Stores | None = None
    memory: Measured | None = None
    #: By face.
    profile: dict[str, list["Share"]] = {}
    reached: list[Reach] = []
    #: What was left out, and what could not be measured.
    notes: list[str] = []
    faults: list[str] = []


def reached(report: Report) -> list[Reach]:
    """The figures that we want to reach, beside those that were measured; rates of one run only."""
    ceiling = statistics.median(rate.per_second for rate in report.ceiling) if report.ceiling else None
    reference = next((level for level in report.reference if level.callers == _MAIN and level.rate is None), None)
    v1 = next((level for level in report.v1 if level.callers == _MAIN and level.rate is None), None)
    cost = {piece.name: piece.median for piece in report.pieces}
    receive = cost["receive stage"] / (1.5 * cost["bare: both"] + cost["extract"]) if cost else None
    stores, memory = report.stores, report.memory
    fuller = None
    if stores is not None:
        fuller = _median_cpu(stores.full) / _median_cpu(stores.empty)
    speed = None if reference is None else reference.per_second
    name = f"{_MAIN} callers, reference surface"
    lines = [
        (f"{name}, over the same rows by executemany", ">=", 0.25, _over(speed, ceiling), ""),
        (
            f"{_MAIN} callers, POST /v1/messages, over the same rows by executemany",
            ">=", 0.25, _over(None if v1 is None else v1.per_second, ceiling), "",
        ),
        ("receive stage over 1.5 x (lxml parse + validate) + extraction, CPU", "<=", 1.0, receive, ""),
        (
            f"{name}, over the same steps on DBOS",
            ">=", 20.0, _over(speed, None if report.dbos is None else report.dbos.per_second), "",
        ),
        (f"{name}, server CPU a transaction", "<=", 700.0, None if reference is None else reference.server_us, "us"),
        ("server CPU with a full store over that with an empty one", "<=", 1.15, fuller, ""),
        ("server memory, most", "<=", 300.0, None if memory is None else max(mb for _, mb in memory.memory), "MB"),
        (
            "server memory, growth a 100,000 transactions (second half)",
            "<=", 5.0, _growth(memory), "MB",
        ),
    ]  # fmt: skip
    return [
        Reach(name=name, sense=sense, limit=limit, measured=None if figure is None else round(figure, 3), unit=unit)
        for name, sense, limit, figure, unit in lines
    ]


def _over(figure: float | None, base: float | None) -> float | None:
    return None if figure is None or not base else figure / base


def _median_cpu(found: Sequence[Measured]) -> float:
    return statistics.median(measured.server_us for measured in found)


def _growth(memory: Measured | None) -> float | None:
    """A 100,000 transactions; None where so few were done that the server's bounded memories have just filled."""
    return None if memory is None or memory.transactions < _FLAT_FROM else growth(memory.memory) * 100_000


def growth(samples: Sequence[tuple[int, float]]) -> float:
    """MB a transaction: the slope of a straight line through the later half of the samples, by least squares."""
    late = samples[len(samples) // 2 :]
    return statistics.linear_regression(*zip(*late, strict=True)).slope if len({at for at, _ in late}) > 1 else 0.0


class Share(msgspec.Struct, kw_only=True, frozen=True):
    """How much of the server's time a function takes."""

    function: str
    #: With what it calls, and by itself (C code that it calls directly included).
    whole: float
    own: float


def shares(stacks: Iterable[str], most: int = 40) -> list[Share]:
    """Of py-spy's raw lines (`frame;frame;frame count`): what is ours or takes some time itself, the largest first."""
    total, whole, own = 0, Counter[str](), Counter[str]()
    for line in stacks:
        names, _, count = line.rpartition(" ")
        frames = [_LINE.sub(")", frame) for frame in names.split(";")]
        if frames[-1].startswith(_IDLE):
            continue
        total += int(count)
        own[frames[-1]] += int(count)
        whole.update(dict.fromkeys(frames, int(count)))
    found = [
        Share(function=name, whole=round(count / total, 4), own=round(own[name] / total, 4))
        for name, count in whole.most_common()
        if ("(interlock/" in name and "(interlock/cli/" not in name) or own[name] > total / 100
    ]
    return found[:most]


#: `inspect (interlock/inspection.py:33)` is counted without the line.
_LINE = re.compile(r":\d+\)$")
#: A thread of a pool that waits for work.
_IDLE = "_worker (concurrent/futures/thread.py"


def show(report: Report, console: Console) -> None:
    """The report for people."""
    if levels := [*report.reference, *report.v1]:
        console.print(_lifecycles(levels))
    if report.profile:
        console.print(*(_profile(face, found) for face, found in report.profile.items()), sep="\n")
    console.print(_reaches(report.reached))
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    for fault in report.faults:
        console.print(f"not measured: {fault}", highlight=False, markup=False, style="red")


def _lifecycles(levels: Sequence[Measured]) -> Table:
    table = Table(
        title="a payment's whole way over HTTP",
        caption="ms: answer = message sent to answer read; whole = from its due beginning. us: CPU a transaction. "
        "others: share of the machine taken by neither.",
    )
    table.add_column("face")
    for column in (
        "callers", "tx/s", "failed", "answer p50", "p99 ms", "whole p50", "p99 ms",
        "server us", "user + sys", "load us", "others",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for level in levels:
        table.add_row(
            level.face, str(level.callers) if level.rate is None else f"open {level.rate:,.0f}/s",
            f"{level.per_second:,.0f}", str(level.failures),
            f"{level.answer_ms.p50:.1f}", f"{level.answer_ms.p99:.1f}",
            f"{level.whole_ms.p50:.1f}", f"{level.whole_ms.p99:.1f}",
            f"{level.server_us:.0f}", f"{level.server_user_us:.0f} + {level.server_system_us:.0f}",
            f"{level.generator_us:.0f}", f"{level.others_share:.0%}",
        )  # fmt: skip
    return table


def _profile(face: str, found: Sequence[Share]) -> Table:
    table = Table(title=f"where the server's time goes: {face}, {_MAIN} callers")
    table.add_column("function")
    table.add_column("with what it calls", justify="right")
    table.add_column("itself", justify="right")
    for share in found:
        table.add_row(share.function, f"{share.whole:.1%}", f"{share.own:.1%}")
    return table


def _reaches(found: Sequence[Reach]) -> Table:
    table = Table(title="what we want to reach")
    for column in ("", "reach", "measured", "reached"):
        table.add_column(column, justify="left" if not column else "right")
    words = {None: "not measured", True: "[green]yes", False: "[red]no"}
    for reach in found:
        measured = (
            "" if reach.measured is None else f"{reach.measured:,.{0 if reach.measured >= 100 else 2}f} {reach.unit}"
        )
        table.add_row(reach.name, f"{reach.sense} {reach.limit:g} {reach.unit}", measured, words[reach.met])
    return table


# -- the parts --------------------------------------------------------------------------------------------------------


class Bench:
    """One run."""

    def __init__(
        self, settings: Settings, parts: Sequence[str], folder: Path, console: Console, *, profile: bool, peer: str
    ) -> None:
        """profile: look with py-spy where the server's time goes. peer: the interpreter that has `dbos`."""
        self._settings = settings
        self._folder = folder
        self._console = console
        self._profile = profile
        self._peer = peer
        self._sample: tuple[Sample, list[str]] | None = None
        self.report = Report(
            started=datetime.now(UTC),
            machine=ceilings.describe(folder),
            settings=msgspec.to_builtins(settings),
            parts=list(parts),
        )

    def run(self) -> None:
        """Measure the parts; one that cannot be measured does not keep the others from it."""
        for part in self.report.parts:
            try:
                getattr(self, f"_{part}")()
            except Exception as exc:  # noqa: BLE001 - told in the report and by the exit code
                self.report.faults.append(f"{part}: {exc}")
                self._console.print(f"[red]{part}: {exc}")

    def _say(self, what: str, figure: str) -> None:
        self._console.print(f"  {what}: {figure}", highlight=False)

    @contextlib.contextmanager
    def _server(self, name: str) -> Iterator[Server]:
        """A server in a fresh folder, which goes with it."""
        data = self._folder / name
        try:
            with Server(data) as server:
                yield server
        finally:
            shutil.rmtree(data, ignore_errors=True)

    def _load(self, what: str, plan: Plan) -> Measured:
        with self._console.status(what):
            found = load(plan)
        failures = f", [red]{found.failures} failures: {found.failed[0]}[/red]" if found.failures else ""
        self._say(
            what,
            f"{found.per_second:,.0f}/s, p50 {found.answer_ms.p50:.1f} ms, p99 {found.answer_ms.p99:.1f} ms, "
            f"server {found.server_us:.0f} us, generator {found.generator_us:.0f} us, "
            f"others {found.others_share:.0%}{failures}",
        )
        return found

    def _receive(self) -> None:
        with self._console.status("pieces of the receive stage"):
            self.report.pieces = ceilings.pieces(self._folder / "schemas", self._settings.piece_rounds)
        for cost in self.report.pieces:
            self._say(cost.name, f"{cost.median:.1f} us (min {cost.min:.1f})")

    def _sampled(self) -> tuple[Sample, list[str]]:
        if self._sample is None:
            self._sample = ceilings.take_sample(_SOME_CLIENT, self._folder / "sample")
        return self._sample

    def _ceiling(self) -> None:
        """Once more after the faces, so that a disturbance of one of the two shows."""
        sample, pragmas = self._sampled()
        file = self._folder / "ceiling.db"
        with self._console.status("the same rows by executemany"):
            rate = ceilings.write_rows(sample, pragmas, file, self._settings.ceiling_commits)
        for path in self._folder.glob("ceiling.db*"):
            path.unlink()
        self.report.ceiling.append(rate)
        self._say("the same rows by executemany", _told(rate))

    def _reference(self) -> None:
        self._face("reference", self.report.reference)

    def _v1(self) -> None:
        self._face("v1", self.report.v1)

    def _face(self, face: str, found: list[Measured]) -> None:
        settings = self._settings
        with self._server(face) as server:
            for callers in _LEVELS:
                plan = server.plan(face, callers, settings)
                found.append(self._load(f"{face}, {callers} callers", plan))
            rate = round(max(level.per_second for level in found) * _OPEN_SHARE, 1)
            plan = msgspec.structs.replace(
                server.plan(face, _LEVELS[-1], settings), rate=max(1.0, rate), seconds=settings.open_seconds
            )
            found.append(self._load(f"{face}, {rate:,.0f}/s arriving", plan))
            if self._profile:
                self._look(face, server)
        if "ceiling" in self.report.parts:
            self._ceiling()

    def _look(self, face: str, server: Server) -> None:
        """Where the server's time goes at our level of callers; measured apart, for looking costs."""
        raw = self._folder / "profile.txt"
        plan = server.plan(face, _MAIN, self._settings)
        seconds = str(max(1, int(plan.seconds)))
        spy = subprocess.Popen(
            [
                shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy", "record", "--pid",
                str(server.pid), "--duration", seconds, "--rate", "250", "--format", "raw", "--output", str(raw),
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            load(plan)
            _, err = spy.communicate(timeout=60)
        finally:
            if spy.poll() is None:
                spy.kill()
                spy.wait()
        if spy.returncode:
            raise RuntimeError(f"py-spy failed: {err.decode(errors='replace')[-500:]}")
        self.report.profile[face] = shares(raw.read_text().splitlines())

    def _dbos(self) -> None:
        if self._peer == sys.executable and not ceilings.has_dbos():
            self.report.notes.append("dbos is not installed here, so it was not measured: pip install dbos")
            self._say("dbos", "not installed here, skipped: pip install dbos")
            return
        folder = self._folder / "dbos"
        folder.mkdir()
        with self._console.status("the same steps on DBOS"):
            done = subprocess.run(
                [self._peer, "-m", "bench.ceilings", str(folder), str(self._settings.dbos_seconds)],
                cwd=ROOT, capture_output=True, check=False, timeout=self._settings.dbos_seconds + 120,
                env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
            )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace")[-1000:])
        self.report.dbos = msgspec.json.decode(done.stdout, type=Rate)
        self._say("the same steps on DBOS", _told(self.report.dbos))

    def _store(self) -> None:
        """The empty and the full store in turn, so that what disturbs one disturbs the other."""
        settings = self._settings
        if shutil.disk_usage(self._folder).free < settings.prefill * _BYTES_EACH:
            raise RuntimeError(f"{self._folder} has no room for {settings.prefill:,} transactions; see --prefill")
        full = Server(self._folder / "full")
        try:
            size = self._prefill(full)
            empties, fulls = [], []
            for number in range(1, settings.store_rounds + 1):
                with self._server("empty") as server:
                    empties.append(
                        self._load(f"empty store, round {number}", server.plan("reference", _MAIN, settings))
                    )
                with full:
                    fulls.append(self._load(f"full store, round {number}", full.plan("reference", _MAIN, settings)))
            self.report.stores = Stores(prefilled=settings.prefill, bytes=size, empty=empties, full=fulls)
        finally:
            shutil.rmtree(self._folder / "full", ignore_errors=True)

    def _prefill(self, server: Server) -> int:
        settings = self._settings
        sample, _ = ceilings.take_sample(server.client_id, self._folder / "sample-full")
        file = self._folder / "full" / "interlock.db"
        started = time.monotonic()
        with self._console.status("filling a store") as status:
            ceilings.prefill(
                sample, file, settings.prefill, lambda done: status.update(f"filling a store: {done:,} transactions")
            )
        size = file.stat().st_size
        taken = time.monotonic() - started
        self._say("filled a store", f"{settings.prefill:,} transactions, {size / 1e9:.2f} GB, in {taken:.0f} s")
        return size

    def _memory(self) -> None:
        settings = self._settings
        with self._server("memory") as server:
            plan = msgspec.structs.replace(
                server.plan("reference", _MAIN, settings), transactions=settings.memory, sample_seconds=1,
                seconds=max(30.0, settings.memory / 50),
            )  # fmt: skip
            self.report.memory = self._load(f"{settings.memory:,} transactions", plan)


def _told(rate: Rate) -> str:
    return f"{rate.per_second:,.0f}/s, CPU {rate.user_us + rate.system_us:.0f} us each, others {rate.others_share:.0%}"


# -- the command ------------------------------------------------------------------------------------------------------


class _Stoppable:
    """SIGTERM ends the run like Ctrl-C, so that nothing is left behind."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, _: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGTERM, self._before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure Interlock beside what this machine could do.")
    parser.add_argument("--quick", action="store_true", help="a minute instead of ten; shows that it works, no more")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=PARTS, help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--prefill", type=int, metavar="N", help="transactions in the full store [1,000,000]")
    parser.add_argument("--memory", type=int, metavar="N", help="transactions over which memory is watched [200,000]")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each measurement [10]")
    parser.add_argument("--profile", action="store_true", help="look with py-spy where the server's time goes")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where stores are kept meanwhile [build]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the JSON [bench/results/DATE-MACHINE.json]")
    parser.add_argument(
        "--dbos-python", default=sys.executable, metavar="PYTHON", help="an interpreter with dbos, and with our needs"
    )
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    given = {name: getattr(arguments, name) for name in ("prefill", "memory", "seconds")}
    given = {name: value for name, value in given.items() if value is not None}
    return msgspec.structs.replace(_QUICK if arguments.quick else _FULL, **given)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 where a part could not be measured."""
    arguments = _parser().parse_args(argv)
    settings = _settings(arguments)
    parts = [part for part in PARTS if arguments.only is None or part in arguments.only]
    console = Console()
    console.width = max(console.width, _WIDTH)
    base = arguments.folder or ROOT / "build"
    base.mkdir(parents=True, exist_ok=True)
    with _Stoppable(), tempfile.TemporaryDirectory(prefix="bench-", dir=base, ignore_cleanup_errors=True) as folder:
        bench = Bench(settings, parts, Path(folder), console, profile=arguments.profile, peer=arguments.dbos_python)
        console.print(f"bench: {', '.join(parts)}; {bench.report.machine.one_line}", highlight=False)
        try:
            bench.run()
        except KeyboardInterrupt:
            console.print("[yellow]stopped")
            return 130
    found = bench.report
    found.reached = reached(found)
    path = arguments.output or _path(found, quick=settings.quick)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    show(found, console)
    console.print(f"written: {path}", highlight=False)
    return 1 if found.faults else 0


def _path(found: Report, *, quick: bool) -> Path:
    """A quick run is nothing to keep."""
    folder = ROOT / "build" if quick else ROOT / "bench" / "results"
    return folder / f"bench-{found.started:%Y-%m-%d}-{found.machine.id}.json"


if __name__ == "__main__":
    sys.exit(main())
