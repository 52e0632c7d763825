"""`GET /metrics`: what this process does, for Prometheus."""

import resource
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from interlock.api.access import Access
from interlock.api.exchange import Intake, Request, Response
from interlock.auth import Scope
from interlock.clock import SteadyClock
from interlock.iso20022.codes import HeldCause, Status
from interlock.journal import Journal
from interlock.ports import Store
from interlock.worker import Deadlines
from interlock.workflow import Workflow

_TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")
_QUANTILES = (0.5, 0.9, 0.99)


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
    ) -> None:
        self._store = store
        self._journal = journal
        self._workflow = workflow
        self._deadlines = deadlines
        self._clock = clock
        self._intake = intake
        self._access = access
        #: Requests so far, by method, route and status.
        self.requests: Counter[tuple[str, str, int]] = Counter()

    async def show(self, request: Request) -> Response:
        """The call: for operators, and for this machine itself, since totals over all clients tell of each of them."""
        if not _is_local(request):
            await self._access.require(request, Scope.OPERATE)
        counts = await self._journal.read(self._store.counts, None)
        registry = CollectorRegistry()
        registry.register(_Gathered([*self._transactions(counts), *self._work(), *self._process()]))
        return Response(200, (_TEXT,), generate_latest(registry))

    def _transactions(self, counts: Mapping[tuple[Status, HeldCause | None], int]) -> Iterator[Metric]:
        flying = GaugeMetricFamily("interlock_in_flight", "Transactions without an end.", labels=("status", "held"))
        for (status, cause), number in counts.items():
            flying.add_metric((status, cause or ""), number)
        yield flying
        ends = CounterMetricFamily("interlock_ends", "Transactions ended since the start.", labels=("status", "reason"))
        for (status_ended, reason), number in self._workflow.memory.ends.items():
            ends.add_metric((status_ended, reason), number)
        yield ends
        yield CounterMetricFamily(
            "interlock_parked", "Transactions that tripped over a mistake of ours.", value=self._workflow.parked
        )
        yield CounterMetricFamily("interlock_deadlines_fired", "Deadlines fired.", value=self._deadlines.fired)
        yield _quantiles(
            "interlock_deadline_lateness_seconds", "How late recent deadlines fired.", self._deadlines.lateness
        )

    def _work(self) -> Iterator[Metric]:
        tally = self._journal.tally
        recent = tuple(tally.recent)
        yield CounterMetricFamily("interlock_journal_batches", "Durable commits.", value=tally.batches)
        yield CounterMetricFamily("interlock_journal_writes", "Writes in them.", value=tally.writes)
        yield CounterMetricFamily("interlock_journal_failures", "Writes that failed.", value=tally.failures)
        yield GaugeMetricFamily("interlock_journal_waiting", "Writes not yet handed on.", value=self._journal.waiting)
        yield _quantiles("interlock_journal_batch_writes", "Size of recent commits.", (size for size, _ in recent))
        yield _quantiles("interlock_journal_commit_seconds", "Time of recent commits.", (took for _, took in recent))
        requests = CounterMetricFamily("interlock_requests", "HTTP requests.", labels=("method", "route", "status"))
        for (method, route, status), number in self.requests.items():
            requests.add_metric((method, route, str(status)), number)
        yield requests
        yield GaugeMetricFamily("interlock_requests_now", "Requests being worked on.", value=self._intake.requests)
        yield GaugeMetricFamily("interlock_request_bytes_now", "Bytes of their bodies.", value=self._intake.bytes)

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
