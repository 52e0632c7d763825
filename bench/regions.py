"""Two regions, `available` and `consistent`, beside one region alone, at several distances: `--store regions`.

All of it on real PostgreSQL servers and real `interlock serve` processes, in one run. Callers call one of the two
regions; the other one has everything from it and could take it over at any moment.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from bench import ceilings, takeovers
from bench.distance import Watch
from bench.load import Plan
from bench.regional import ALONE, AVAILABLE, CONSISTENT, LEASE, Level, Report, Rest
from bench.runs import Run
from bench.servers import Server
from bench.sites import HOME, PEER, Idle, Two, at_rest, told_settings
from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import newest

#: What the servers of the two regions have too, as far as figures may hang on it; the rest is as it comes.
_SETTINGS = {"shared_buffers": "32MB", "max_connections": "50", "track_wal_io_timing": "on"}
_LEVELS = (1, 8, 32)
#: Connections of an open loop, and a pace that both settings keep up with at any distance.
_CONNECTIONS, _PACE = 64, 150.0
_LEASE_ROUTE = 'fencing = "lease"'


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    quick: bool
    warmup_seconds: float
    seconds: float
    rest_seconds: float
    #: Between all places, there and back, in milliseconds.
    round_trips: tuple[float, ...] = (0, 10, 70)
    #: Over all distances in turn; and of returns, one at each.
    takeovers: int
    outage_seconds: float


FULL = Settings(quick=False, warmup_seconds=1, seconds=4, rest_seconds=5, takeovers=10, outage_seconds=15)
QUICK = Settings(
    quick=True, warmup_seconds=0.5, seconds=1, rest_seconds=1, round_trips=(10,), takeovers=1, outage_seconds=3
)


class Bench(Run):
    """One run over regions."""

    PARTS = ("alone", "available", "consistent", "lease", "takeovers", "returns")

    def __init__(
        self, settings: Settings, parts: Sequence[str], folder: Path, console: Console, *, profile: bool
    ) -> None:
        super().__init__(folder, console, profile=profile, peer="")
        self._settings = settings
        self._two: Two | None = None
        self.report: Report = Report(
            started=datetime.now(UTC),
            machine=ceilings.describe(folder),
            settings=msgspec.to_builtins(settings),
            parts=list(parts),
        )

    def run(self) -> None:
        """Measure the parts, and one region alone once more, so that a disturbance of one of the two shows."""
        with ExitStack() as self._stack:
            super().run()
        if "alone" in self.report.parts and not self._settings.quick:
            self._attempt("alone")

    # -- one region --

    def _alone(self) -> None:
        with Cluster(newest(), settings=_SETTINGS) as cluster:
            url, data = cluster.create_database("alone"), self._folder / "alone"
            self.report.alone = told_settings(url)
            with Server(data, url) as server:
                self._rest(ALONE, at_rest(server.pids[0], cluster.pid, self._settings.rest_seconds))
                given = server.plan("v1", 1, **self._lengths)
                given = msgspec.structs.replace(given, postmaster=cluster.pid, statistics=cluster.superuser_url)
                self._measure(ALONE, 0, given)
                if self._profile and ALONE not in self.report.profile:
                    self._look(ALONE, server.pids[0], given)
            shutil.rmtree(data, ignore_errors=True)

    @property
    def _lengths(self) -> dict[str, float]:
        return {"warmup_seconds": self._settings.warmup_seconds, "seconds": self._settings.seconds}

    def _rest(self, setting: str, idle: Idle) -> None:
        self.report.rests.append(Rest(setting=setting, server=idle.server, postgres=idle.postgres))
        self._say(f"{setting}, at rest", f"{idle.server:.1f} + {idle.postgres:.1f} ms of CPU a second")

    # -- two regions --

    @property
    def _regions(self) -> Two:
        """Started when they are first needed."""
        if self._two is None:
            with self._console.status("two regions and a witness"):
                self._two = self._stack.enter_context(Two(self._folder))
            self.report.regional = told_settings(self._two.url(HOME))
            self._rest("two regions", self._at_rest(HOME))
            self._rest("two regions, the peer", self._at_rest(PEER))
        return self._two

    def _at_rest(self, name: str) -> Idle:
        assert self._two is not None  # it was just started
        postmaster = self._two.world.regions[name].cluster.pid
        return at_rest(self._two.server(name), postmaster, self._settings.rest_seconds)

    def _available(self) -> None:
        self._distances(AVAILABLE, self._plan())

    def _consistent(self) -> None:
        self._distances(CONSISTENT, msgspec.structs.replace(self._plan(), consistency="consistent"))

    def _lease(self) -> None:
        """What is acknowledged does not hang on fencing, so only answers are measured."""
        client = self._regions.client("lease", _LEASE_ROUTE)
        plan = msgspec.structs.replace(self._plan(), client_id=client.id, client_secret=client.secret)
        self._distances(LEASE, plan, faces=("v1",))

    def _plan(self) -> Plan:
        two = self._regions
        cluster = two.world.regions[HOME].cluster
        plan = two.plan("v1", 1, two.client("bench"), seconds=self._settings.seconds)
        return msgspec.structs.replace(
            plan, warmup_seconds=self._settings.warmup_seconds, pids=[two.server(HOME)], postmaster=cluster.pid,
            statistics=cluster.superuser_url, beside=dict(two.beside(os.getpid())),
        )  # fmt: skip

    def _distances(self, setting: str, plan: Plan, faces: Sequence[str] = ("acknowledged", "v1")) -> None:
        two = self._regions
        for asked in self._settings.round_trips:
            self._part(asked)
            self._measure(setting, asked, plan, faces)
            if self._profile and asked == min(self._settings.round_trips):
                self._look(f"{setting}, {asked:g} ms", two.server(HOME), plan)

    def _part(self, asked: float) -> None:
        two = self._regions
        known = asked in two.round_trips
        two.part(asked)
        self.report.round_trips = dict(two.round_trips)
        if not known:
            self._say(f"round trip of {asked:g} ms", f"{two.round_trips[asked]:.2f} ms as measured")

    # -- what is measured --

    def _measure(
        self, setting: str, round_trip_ms: float, plan: Plan, faces: Sequence[str] = ("acknowledged", "v1")
    ) -> None:
        """Each call with each number of callers, then answers at a pace that all settings keep up with."""
        plans = [msgspec.structs.replace(plan, face=face, callers=callers) for face in faces for callers in _LEVELS]
        plans.append(msgspec.structs.replace(plan, face="v1", callers=_CONNECTIONS, rate=_PACE))
        for one in plans:
            callers = f"{one.callers} callers" if one.rate is None else f"{one.rate:g} a second"
            where = setting if setting == ALONE else f"{setting}, {round_trip_ms:g} ms"
            with ExitStack() as stack:
                watch = None if setting == ALONE else stack.enter_context(self._watch())
                found = self._load(f"{where}, {one.face}, {callers}", one)
            lag = None if watch is None else watch.found()
            level = Level(setting=setting, round_trip_ms=round_trip_ms, measured=found, lag=lag)
            self.report.levels.append(level)

    def _watch(self) -> Watch:
        return Watch(self._regions.url(HOME), self._regions.slot())

    def _takeovers(self) -> None:
        two = self._regions
        for number in range(self._settings.takeovers):
            self._part(self._settings.round_trips[number % len(self._settings.round_trips)])
            lost = (HOME, PEER)[number // len(self._settings.round_trips) % 2]
            with self._console.status(f"takeover {number + 1}: {lost} is lost"):
                one = takeovers.lose(two, lost)
            self.report.takeovers.append(one)
            self._say(
                f"takeover {number + 1}, {one.round_trip_ms:g} ms, of {one.lost}",
                f"{one.in_flight} in flight, granted {one.granted_seconds:.1f} s, decided {one.decided_seconds:.1f} s, "
                f"rejoined {one.rejoined_seconds:.1f} s, lost {one.consistent_lost} of {one.consistent} consistent, "
                f"{one.available_lost} of {one.available} available",
            )

    def _returns(self) -> None:
        for asked in self._settings.round_trips:
            self._part(asked)
            with self._console.status(f"the peer is away, {asked:g} ms"):
                one = takeovers.stay_away(self._regions, seconds=self._settings.outage_seconds, pace=_PACE)
            self.report.returns.append(one)
            self._say(
                f"return, {asked:g} ms",
                f"{one.payments:,} payments behind, {one.per_second:,.0f} applied a second, flows after "
                f"{one.flows_seconds:.1f} s, caught up {one.caught_up_seconds:.1f} s, "
                f"whole {one.rejoined_seconds:.1f} s",
            )
