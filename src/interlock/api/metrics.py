"""`GET /metrics`: what this process does, and what the whole store holds, for Prometheus.

What is in the store is told by every process alike. While the store does not answer it is left out, and all else is
told as ever: it is then that somebody looks.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from ipaddress import ip_address
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from interlock.acks import Acks
from interlock.api.access import Access
from interlock.api.exchange import Intake, Request, Response
from interlock.auth import Scope
from interlock.clock import SteadyClock
from interlock.errors import DependencyError, StoreUnavailable
from interlock.iso20022.codes import HeldCause, Status
from interlock.journal import Journal
from interlock.keeper import Keeper
from interlock.ports import Open, Store
from interlock.regions.flows import PeerStatus
from interlock.regions.rules import CONDITIONS
from interlock.worker import Deadlines
from interlock.workflow import Workflow

_TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")
_QUANTILES = (0.5, 0.9, 0.99)
#: How long the store may take; who asks wants an answer within a second.
_PATIENCE_SECONDS = 0.7
#: Scrapers whose tokens are remembered.
_SCRAPERS_MAX = 16


class _Stored(NamedTuple):
    """What the store says of all processes' transactions."""

    open: Mapping[tuple[Status, HeldCause | None], Open]
    parked_deliveries: int


class Regional(NamedTuple):
    """What is told of other regions, and by whom it is known."""

    #: Of the peers, by number.
    names: Mapping[int, str]
    #: How many of them are wanted as guards.
    guards: int
    #: What each peer is, as this process sees it.
    conditions: Callable[[], Mapping[int, str]]
    #: None in a process that only serves the API.
    keeper: Keeper | None


class Metrics:
    """Counts requests, and gathers what the other parts count."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        workflow: Workflow,
        deadlines: Deadlines,
        clock: SteadyClock,
        intake: Intake,
        access: Access,
        acks: Acks,
    ) -> None:
        self._acks = acks
        self._store = store
        self._journal = journal
        self._workflow = workflow
        self._deadlines = deadlines
        self._clock = clock
        self._intake = intake
        self._access = access
        #: Set where there are other regions.
        self.regional: Regional | None = None
        #: Requests so far, by method, route and status.
        self.requests: Counter[tuple[str, str, int]] = Counter()
        #: Tokens that were good while the store could be asked, and until when they are; oldest first.
        self._scrapers: dict[str, datetime] = {}

    async def show(self, request: Request) -> Response:
        """The call: for operators, and for this machine itself, since totals over all clients tell of each of them."""
        stored: _Stored | None = None
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._admit(request)
                stored = await self._journal.read(self._ask)
        except (TimeoutError, DependencyError):
            if not self._was_admitted(request):
                raise StoreUnavailable("the store does not answer; try again shortly") from None
        registry = CollectorRegistry()
        connected = stored is not None and self._store.connected
        told = [*self._roles(connected=connected), *self._transactions(), *self._work(), *self._process()]
        if self.regional is not None:
            told += self._regions(self.regional, connected=connected)
        if stored is not None:
            told += self._stored(stored)
        registry.register(_Gathered(told))
        return Response(200, (_TEXT,), generate_latest(registry))

    # -- who may ask --

    async def _admit(self, request: Request) -> None:
        """Raises Unauthorised, Forbidden."""
        if _is_local(request):
            return
        identity = await self._access.require(request, Scope.OPERATE)
        authorization = request.header(b"authorization")
        assert authorization is not None  # it was good
        self._scrapers.pop(authorization, None)
        self._scrapers[authorization] = identity.expires
        if len(self._scrapers) > _SCRAPERS_MAX:
            del self._scrapers[next(iter(self._scrapers))]

    def _was_admitted(self, request: Request) -> bool:
        """Whether the caller may go on to ask although the store, which knows who may, is away."""
        if _is_local(request):
            return True
        expires = self._scrapers.get(request.header(b"authorization") or "")
        return expires is not None and self._clock() < expires

    # -- what is told --

    def _ask(self) -> _Stored:
        return _Stored(self._store.open_by_status(), self._store.parked_deliveries())

    def _roles(self, *, connected: bool) -> Iterator[Metric]:
        yield GaugeMetricFamily("interlock_store_connected", "Whether the store answers.", value=connected)
        leader = GaugeMetricFamily("interlock_leader", "Whether this process does a job for all.", labels=("job",))
        # Who is cut off may not have noticed yet that it leads no more.
        leader.add_metric(("deadlines",), connected and self._deadlines.leads)
        if self.regional is not None and self.regional.keeper is not None:
            leader.add_metric(("regions",), connected and self.regional.keeper.leads)
        yield leader

    def _stored(self, stored: _Stored) -> Iterator[Metric]:
        now = self._clock()
        flying = GaugeMetricFamily("interlock_in_flight", "Transactions without an end.", labels=("status", "held"))
        oldest = GaugeMetricFamily(
            "interlock_oldest_in_flight_seconds", "Age of the oldest of them.", labels=("status", "held")
        )
        for (status, cause), found in stored.open.items():
            flying.add_metric((status, cause or ""), found.number)
            oldest.add_metric((status, cause or ""), max(0.0, (now - found.since).total_seconds()))
        yield from (flying, oldest)
        yield GaugeMetricFamily(
            "interlock_deliveries_parked", "Deliveries given up until somebody looks.", value=stored.parked_deliveries
        )

    def _transactions(self) -> Iterator[Metric]:
        ends = CounterMetricFamily("interlock_ends", "Transactions ended since the start.", labels=("status", "reason"))
        for (status_ended, reason), number in self._workflow.memory.ends.items():
            ends.add_metric((status_ended, reason), number)
        yield ends
        yield self._lasted()
        yield CounterMetricFamily(
            "interlock_parked",
            "Transactions that tripped over a mistake of ours.",
            value=self._workflow.resuming.parked,
        )
        yield CounterMetricFamily(
            "interlock_claims_taken_over",
            "Transactions taken over from processes that are gone.",
            value=self._workflow.resuming.taken_over,
        )
        yield CounterMetricFamily("interlock_deadlines_fired", "Deadlines fired.", value=self._deadlines.fired)
        yield _quantiles(
            "interlock_deadline_lateness_seconds", "How late recent deadlines fired.", self._deadlines.lateness
        )

    def _lasted(self) -> Metric:
        lasted = self._workflow.memory.lasted
        family = HistogramMetricFamily("interlock_transaction_seconds", "Time from id to end.", labels=("status",))
        bounds = [*map(str, lasted.BOUNDS), "+Inf"]
        for status, counts in lasted.counts.items():
            buckets = list(zip(bounds, map(float, accumulate(counts)), strict=True))
            family.add_metric((status,), buckets, sum_value=lasted.seconds[status])
        return family

    def _work(self) -> Iterator[Metric]:
        tally = self._journal.tally
        recent = tuple(tally.recent)
        yield CounterMetricFamily("interlock_journal_batches", "Durable commits.", value=tally.batches)
        yield CounterMetricFamily("interlock_journal_writes", "Writes in them.", value=tally.writes)
        yield CounterMetricFamily("interlock_journal_failures", "Writes that failed.", value=tally.failures)
        yield CounterMetricFamily(
            "interlock_outcomes_unknown", "Callers told that their write's outcome is not known.", value=tally.unknown
        )
        yield CounterMetricFamily(
            "interlock_lease_losses", "How often others took this process for dead.", value=tally.lost_leases
        )
        yield GaugeMetricFamily("interlock_journal_waiting", "Writes not yet handed on.", value=self._journal.waiting)
        yield _quantiles("interlock_journal_batch_writes", "Size of recent commits.", (size for size, _ in recent))
        yield _quantiles("interlock_journal_commit_seconds", "Time of recent commits.", (took for _, took in recent))
        requests = CounterMetricFamily("interlock_requests", "HTTP requests.", labels=("method", "route", "status"))
        for (method, route, status), number in self.requests.items():
            requests.add_metric((method, route, str(status)), number)
        yield requests
        yield GaugeMetricFamily("interlock_requests_now", "Requests being worked on.", value=self._intake.requests)
        yield GaugeMetricFamily("interlock_request_bytes_now", "Bytes of their bodies.", value=self._intake.bytes)

    def _regions(self, regional: "Regional", *, connected: bool) -> Iterator[Metric]:
        """What every process of a region tells of it, and what the one tells that keeps it."""
        post, names = self._store.post, regional.names
        yield GaugeMetricFamily("interlock_region_epoch", "Epoch of this region.", value=post.epoch)
        yield GaugeMetricFamily(
            "interlock_region_generation", "Last takeover that this region goes by.", value=post.generation
        )
        yield GaugeMetricFamily(
            "interlock_region_fenced", "Whether another region has taken this one over.", value=post.fenced
        )
        yield GaugeMetricFamily(
            "interlock_region_guards", "Peers whose word each end waits for.", value=len(post.guards)
        )
        yield GaugeMetricFamily(
            "interlock_region_guards_wanted", "Peers that should be among them.", value=regional.guards
        )
        yield GaugeMetricFamily(
            "interlock_ends_waiting", "Ends of this process that wait for a peer's word.", value=self._acks.waiting
        )
        lag = GaugeMetricFamily("interlock_peer_lag_seconds", "Age of what a peer has not yet.", labels=("peer",))
        for region, confirmed in self._acks.confirmed.items():
            if confirmed.until is not None:
                behind = (self._clock() - confirmed.until).total_seconds()
                lag.add_metric((names.get(region, str(region)),), max(0.0, behind))
        yield lag
        state = GaugeMetricFamily("interlock_peer_state", "Whether a peer is so.", labels=("peer", "state"))
        over = GaugeMetricFamily(
            "interlock_peer_taken_over", "Whether this region has taken a peer over that is not back.", labels=("peer",)
        )
        for region, condition in regional.conditions().items():
            for one in CONDITIONS:
                state.add_metric((names[region], one), one == condition)
            over.add_metric((names[region],), region in self._workflow.ownership.taken)
        yield from (state, over)
        if regional.keeper is not None:
            yield from self._kept(regional.keeper, names, leads=connected and regional.keeper.leads)

    def _kept(self, keeper: Keeper, names: Mapping[int, str], *, leads: bool) -> Iterator[Metric]:
        tally = keeper.tally
        yield CounterMetricFamily("interlock_takeovers", "Takeovers begun by this process.", value=tally.takeovers)
        yield CounterMetricFamily(
            "interlock_takeover_transactions", "Transactions decided in takeovers.", value=tally.decided
        )
        yield CounterMetricFamily("interlock_guards_dropped", "Guards dropped by this process.", value=tally.dropped)
        yield CounterMetricFamily("interlock_guards_admitted", "Guards taken in.", value=tally.admitted)
        if not leads:
            return
        yield GaugeMetricFamily("interlock_witness_connected", "Whether the witness answers.", value=tally.witness)
        if tally.witness:
            yield GaugeMetricFamily(
                "interlock_witness_generation", "Last takeover that the witness knows of.", value=tally.generation
            )
            yield GaugeMetricFamily(
                "interlock_witness_own_generation", "Last takeover of this region there.", value=tally.own_generation
            )
        yield GaugeMetricFamily(
            "interlock_ended_twice",
            "Transactions of this region that another one's end contradicts.",
            value=tally.ended_twice,
        )
        yield from self._flows(tally.flows, names)

    def _flows(self, flows: Mapping[int, PeerStatus], names: Mapping[int, str]) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "interlock_peer_lag_bytes", "Bytes of our log that a peer has not yet.", labels=("peer",)
        )
        safe = GaugeMetricFamily(
            "interlock_slot_safe_bytes", "Bytes that may be written before a peer's slot is lost.", labels=("peer",)
        )
        lost = GaugeMetricFamily(
            "interlock_slot_lost", "Whether a peer has no slot to go on from where it was.", labels=("peer",)
        )
        applied = GaugeMetricFamily(
            "interlock_peer_applied", "Whether what comes from a peer is taken in.", labels=("peer",)
        )
        failures = CounterMetricFamily(
            "interlock_peer_apply_failures", "How often that has failed, as the database counts.", labels=("peer",)
        )
        for region, (_, inbound, outbound) in flows.items():
            if region not in names:
                continue  # it was taken out of the configuration
            label = (names[region],)
            lost.add_metric(label, not outbound.slot or outbound.wal_status == "lost")
            if outbound.lag_bytes is not None:
                lag.add_metric(label, outbound.lag_bytes)
            if outbound.safe_wal_size is not None:
                safe.add_metric(label, max(0, outbound.safe_wal_size))
            if region not in self._workflow.ownership.taken:  # else it is cut off on purpose
                applied.add_metric(label, inbound.flows)
            failures.add_metric(label, inbound.apply_errors + inbound.sync_errors)
        yield from (lag, safe, lost, applied, failures)

    def _process(self) -> Iterator[Metric]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        yield CounterMetricFamily("process_cpu_seconds", "CPU time used.", value=used.ru_utime + used.ru_stime)
        ahead = self._clock.ahead.total_seconds()
        yield GaugeMetricFamily("interlock_clock_ahead_seconds", "Our clock before the system's.", value=ahead)
        yield GaugeMetricFamily("process_resident_memory_bytes", "Memory in use.", value=_resident_bytes())


class _Gathered:
    """Metrics that were gathered already, as the library wants them."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._metrics


def _quantiles(name: str, text: str, values: Iterable[float]) -> Metric:
    """Quantiles of what is recent; none while there is nothing."""
    family = GaugeMetricFamily(name, text, labels=("quantile",))
    ordered = sorted(values)
    for quantile in _QUANTILES if ordered else ():
        family.add_metric((str(quantile),), ordered[min(len(ordered) - 1, int(quantile * len(ordered)))])
    return family


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:  # not Linux: the most it ever was is the best there is
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()


def _is_local(request: Request) -> bool:
    """Whether the caller sits on this machine, and no proxy says that it calls for somebody else."""
    peer = request.scope.get("client")
    if peer is None or any(name in request.headers for name in _FORWARDED):
        return False
    return ip_address(peer[0]).is_loopback
