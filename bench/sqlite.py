"""Interlock over SQLite, beside what the same machine could do at best: the parts of `python -m bench.run`."""

import contextlib
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from bench import ceilings
from bench.ceilings import Cost, Rate, Sample
from bench.load import Measured, Plan
from bench.report import MAIN, Findings, Reach, Stores, at_main, growth, lifecycles, median_rate, over, show_rest, told
from bench.runs import Run
from bench.servers import Server

_LEVELS = (1, 16, 64, 256)
#: Share of the peak at which transactions arrive in the open loop.
_OPEN_SHARE = 0.7
#: As long as a client's id, for the rows' sizes.
_SOME_CLIENT = "c_0123456789abcdef"
#: Transactions before which memory cannot be expected to be flat.
_FLAT_FROM = 50_000
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


FULL = Settings(
    quick=False, warmup_seconds=3, seconds=10, open_seconds=20, ceiling_commits=60, piece_rounds=15, store_rounds=3,
    prefill=1_000_000, memory=200_000, dbos_seconds=10,
)  # fmt: skip
QUICK = Settings(
    quick=True, warmup_seconds=1, seconds=2, open_seconds=3, ceiling_commits=10, piece_rounds=3, store_rounds=1,
    prefill=20_000, memory=3_000, dbos_seconds=2,
)  # fmt: skip


# -- what was found ---------------------------------------------------------------------------------------------------


class Report(Findings, kw_only=True):
    """Everything of one run over SQLite."""

    pieces: list[Cost] = msgspec.field(default_factory=list)
    ceiling: list[Rate] = msgspec.field(default_factory=list)
    reference: list[Measured] = msgspec.field(default_factory=list)
    v1: list[Measured] = msgspec.field(default_factory=list)
    dbos: Rate | None = None
    stores: Stores | None = None
    memory: Measured | None = None


def reached(report: Report) -> list[Reach]:
    """The figures that we want to reach, beside those that were measured; rates of one run only."""
    ceiling = median_rate(report.ceiling)
    reference, v1 = at_main(report.reference), at_main(report.v1)
    cost = {piece.name: piece.median for piece in report.pieces}
    receive = cost["receive stage"] / (1.5 * cost["bare: both"] + cost["extract"]) if cost else None
    stores, memory = report.stores, report.memory
    fuller = None
    if stores is not None:
        fuller = _median_cpu(stores.full) / _median_cpu(stores.empty)
    speed = None if reference is None else reference.per_second
    name = f"{MAIN} callers, reference surface"
    lines = [
        (f"{name}, over the same rows by executemany", ">=", 0.25, over(speed, ceiling), ""),
        (
            f"{MAIN} callers, POST /v1/messages, over the same rows by executemany",
            ">=", 0.25, over(None if v1 is None else v1.per_second, ceiling), "",
        ),
        ("receive stage over 1.5 x (lxml parse + validate) + extraction, CPU", "<=", 1.0, receive, ""),
        (
            f"{name}, over the same steps on DBOS",
            ">=", 20.0, over(speed, None if report.dbos is None else report.dbos.per_second), "",
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


def _median_cpu(found: Sequence[Measured]) -> float:
    return statistics.median(measured.server_us for measured in found)


def _growth(memory: Measured | None) -> float | None:
    """A 100,000 transactions; None where so few were done that the server's bounded memories have just filled."""
    return None if memory is None or memory.transactions < _FLAT_FROM else growth(memory.memory) * 100_000


def show(report: Report, console: Console) -> None:
    """The report for people."""
    if levels := [*report.reference, *report.v1]:
        console.print(lifecycles(levels))
    show_rest(report, console)


# -- the parts --------------------------------------------------------------------------------------------------------


class Bench(Run):
    """One run over SQLite."""

    PARTS = ("receive", "ceiling", "dbos", "reference", "v1", "store", "memory")

    def __init__(
        self, settings: Settings, parts: Sequence[str], folder: Path, console: Console, *, profile: bool, peer: str
    ) -> None:
        super().__init__(folder, console, profile=profile, peer=peer)
        self._settings = settings
        self._sample: tuple[Sample, list[str]] | None = None
        self.report: Report = Report(
            started=datetime.now(UTC),
            machine=ceilings.describe(folder),
            settings=msgspec.to_builtins(settings),
            parts=list(parts),
        )

    @contextlib.contextmanager
    def _server(self, name: str) -> Iterator[Server]:
        """A server in a fresh folder, which goes with it."""
        data = self._folder / name
        try:
            with Server(data) as server:
                yield server
        finally:
            shutil.rmtree(data, ignore_errors=True)

    def _plan(self, server: Server, face: str, callers: int) -> Plan:
        settings = self._settings
        return server.plan(face, callers, warmup_seconds=settings.warmup_seconds, seconds=settings.seconds)

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
        self._say("the same rows by executemany", told(rate))

    def _reference(self) -> None:
        self._face("reference", self.report.reference)

    def _v1(self) -> None:
        self._face("v1", self.report.v1)

    def _face(self, face: str, found: list[Measured]) -> None:
        settings = self._settings
        with self._server(face) as server:
            for callers in _LEVELS:
                plan = self._plan(server, face, callers)
                found.append(self._load(f"{face}, {callers} callers", plan))
            rate = round(max(level.per_second for level in found) * _OPEN_SHARE, 1)
            plan = msgspec.structs.replace(
                self._plan(server, face, _LEVELS[-1]), rate=max(1.0, rate), seconds=settings.open_seconds
            )
            found.append(self._load(f"{face}, {rate:,.0f}/s arriving", plan))
            if self._profile:
                self._look(face, server.pids[0], self._plan(server, face, MAIN))
        if "ceiling" in self.report.parts:
            self._ceiling()

    def _dbos(self) -> None:
        self.report.dbos = self._on_dbos(self._settings.dbos_seconds)

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
                    empties.append(self._load(f"empty store, round {number}", self._plan(server, "reference", MAIN)))
                with full:
                    fulls.append(self._load(f"full store, round {number}", self._plan(full, "reference", MAIN)))
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
                self._plan(server, "reference", MAIN), transactions=settings.memory, sample_seconds=1,
                seconds=max(30.0, settings.memory / 50),
            )  # fmt: skip
            self.report.memory = self._load(f"{settings.memory:,} transactions", plan)
