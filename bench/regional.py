"""What a run over regions has found, what of it we want to reach, and how people see it."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from bench.distance import Lag
from bench.load import Measured
from bench.report import Findings, Reach, limit, over, show_rest
from bench.takeovers import Return, Takeover

ALONE, AVAILABLE, CONSISTENT, LEASE = "one region", "available", "consistent", "available, lease"
SETTINGS = (ALONE, AVAILABLE, CONSISTENT, LEASE)
#: Faces of the load generator, as people call them.
CALLS = {"acknowledged": "acknowledged", "v1": "answered"}


class Level(msgspec.Struct, kw_only=True, frozen=True):
    """One measurement."""

    #: One of `SETTINGS`.
    setting: str
    #: Between the regions, as it was asked for.
    round_trip_ms: float
    measured: Measured
    #: Of the peer; None where there is none.
    lag: Lag | None = None

    @property
    def key(self) -> tuple[str, float, str, int, bool]:
        """What distinguishes it: setting, distance, call, callers, and whether callers set the pace."""
        found = self.measured
        return self.setting, self.round_trip_ms, found.face, found.callers, found.rate is None

    @property
    def own_us(self) -> float:
        """CPU of all of Interlock's own processes, the peer's included, a payment."""
        return self.measured.server_us + self.measured.beside_us.get("peer", 0)


class Rest(msgspec.Struct, kw_only=True, frozen=True):
    """CPU milliseconds a second of a region while nobody calls."""

    setting: str
    server: float
    postgres: float


class Report(Findings, kw_only=True):
    """Everything of one run over regions."""

    #: Of the servers: the region alone, and each of the two.
    alone: dict[str, str] = msgspec.field(default_factory=dict)
    regional: dict[str, str] = msgspec.field(default_factory=dict)
    #: Round trips in milliseconds: as they were asked for, and as they were.
    round_trips: dict[float, float] = msgspec.field(default_factory=dict)
    rests: list[Rest] = msgspec.field(default_factory=list)
    levels: list[Level] = msgspec.field(default_factory=list)
    takeovers: list[Takeover] = msgspec.field(default_factory=list)
    returns: list[Return] = msgspec.field(default_factory=list)

    def at(self, setting: str, round_trip_ms: float, face: str, callers: int) -> list[Level]:
        """Closed loops; the region alone was measured twice."""
        return [level for level in self.levels if level.key == (setting, round_trip_ms, face, callers, True)]

    def paced(self, setting: str, round_trip_ms: float = 0) -> list[Level]:
        """Open loops."""
        return [
            level
            for level in self.levels
            if (level.setting, level.round_trip_ms) == (setting, round_trip_ms) and level.measured.rate is not None
        ]


# -- what we want to reach --------------------------------------------------------------------------------------------


def reached(report: Report) -> list[Reach]:
    """The figures that we want to reach, beside those that were measured."""
    lines = [*_costs(report), *_round_trips(report), *_losses(report)]
    return [
        Reach(name=name, sense="<=", limit=most, measured=None if figure is None else round(figure, 3), unit=unit)
        for name, most, figure, unit in lines
    ]


_Line = tuple[str, float | None, float | None, str]


def _costs(report: Report) -> Iterable[_Line]:
    """CPU of Interlock's processes a payment, where both regions' count; the peer's takes no payments here."""
    alone, both = _own(report.paced(ALONE)), _own(report.paced(AVAILABLE))
    name = "`available` over one region: CPU of Interlock's processes a payment"
    yield f"{name}, same pace, 0 ms", 1.15, over(both, alone), ""
    most = max((level.measured.callers for level in report.levels if level.measured.rate is None), default=0)
    full = (_own(report.at(setting, 0, "v1", most)) for setting in (AVAILABLE, ALONE))
    yield f"the same, {most} callers, as fast as they can", 1.15, over(*full), ""
    yield "the same pace, without the peer's process", None, over(_home(report.paced(AVAILABLE)), alone), ""
    yield (
        "`consistent` over one region, the same pace, both processes",
        None,
        over(_own(report.paced(CONSISTENT)), alone),
        "",
    )


def _round_trips(report: Report) -> Iterable[_Line]:
    """What `consistent` adds to a call, less the round trip as it was measured: of a single caller."""
    for asked in sorted(report.round_trips) or (0.0,):
        for face, call in CALLS.items():
            consistent, available = (_p50(report.at(setting, asked, face, 1)) for setting in (CONSISTENT, AVAILABLE))
            added = None
            if consistent is not None and available is not None:
                added = consistent - available - report.round_trips[asked]
            yield f"`consistent` over `available`, {asked:g} ms: {call}, p50, less one round trip", 5, added, "ms"


def _losses(report: Report) -> Iterable[_Line]:
    takeovers, returns = report.takeovers, report.returns
    slowest = max((one.decided_seconds for one in takeovers), default=None)
    rounds = f"of {len(takeovers)} takeovers" if takeovers else "of takeovers"
    yield f"the slowest {rounds}, from the kill to the last decision", 10, slowest, "s"
    median = statistics.median(one.decided_seconds for one in takeovers) if takeovers else None
    yield "the median of them", None, median, "s"
    told = sum(one.consistent for one in takeovers)
    lost = sum(one.consistent_lost for one in takeovers) if told else None  # of nothing, nothing is lost
    yield f"RPO of `consistent`: lost of {told:,} acknowledged", 0, lost, ""
    others = sum(one.available_lost for one in takeovers) if takeovers else None
    told = sum(one.available for one in takeovers)
    yield f"`available`: not at the taker, of {told:,} acknowledged", None, others, ""
    slowest = min((one.per_second for one in returns), default=None)
    yield "the slowest return: payments applied a second while others are taken", None, slowest, ""


def _own(levels: Sequence[Level]) -> float | None:
    return statistics.mean(level.own_us for level in levels) if levels else None


def _home(levels: Sequence[Level]) -> float | None:
    return statistics.mean(level.measured.server_us for level in levels) if levels else None


def _p50(levels: Sequence[Level]) -> float | None:
    return statistics.mean(level.measured.answer_ms.p50 for level in levels) if levels else None


# -- tables -----------------------------------------------------------------------------------------------------------

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]


def latencies(report: Report) -> Rows:
    """p50 / p99 by setting and distance, a column for each call and number of callers."""
    columns = list(dict.fromkeys((*level.key[2:4],) for level in report.levels if level.key[4]))
    columns.sort(key=lambda column: (list(CALLS).index(column[0]), column[1]))
    heads = [
        f"{CALLS[face]}, {callers} callers" if callers > 1 else f"{CALLS[face]}, 1 caller" for face, callers in columns
    ]
    rows = [
        [setting, distance, *(_latency(report.at(setting, asked, face, callers)) for face, callers in columns)]
        for setting, asked, distance in _places(report)
    ]
    return ["p50 / p99 ms", "round trip", *heads], rows


def _latency(levels: Sequence[Level]) -> str:
    return ", ".join(f"{level.measured.answer_ms.p50:.1f} / {level.measured.answer_ms.p99:.1f}" for level in levels)


def rates(report: Report) -> Rows:
    """Throughput and costs of each measurement that waits for the answer."""
    heads = (
        "", "round trip", "callers", "payments/s", "p50 ms", "p99 ms", "home us", "peer us", "PG us", "peer PG us",
        "witness us", "links us", "others", "limit",
    )  # fmt: skip
    return heads, [_rate(level) for level in report.levels if level.measured.face == "v1"]


def _rate(level: Level) -> list[str]:
    found = level.measured
    beside = (found.beside_us.get(name) for name in ("peer", "peer's PostgreSQL", "witness", "links"))
    peer, postgres, witness, links = ("" if us is None else f"{us:.0f}" for us in beside)
    return [
        level.setting, _distance(level.setting, level.round_trip_ms),
        f"{found.callers}" if found.rate is None else f"{found.rate:g}/s", f"{found.per_second:,.0f}",
        f"{found.answer_ms.p50:.1f}", f"{found.answer_ms.p99:.1f}", f"{found.server_us:.0f}", peer,
        f"{found.postgres_us:.0f}", postgres, witness, links, f"{found.others_share:.0%}", limit(found),
    ]  # fmt: skip


def lags(report: Report) -> Rows:
    """How far the peer was behind while payments were answered."""
    heads = ("", "round trip", "callers", "payments/s", "KB p50", "KB p99", "KB most", "ms p50", "ms p99", "ms most")
    rows = []
    for level in report.levels:
        if level.measured.face != "v1" or level.lag is None:
            continue
        found, far, late = level.measured, level.lag.kilobytes, level.lag.ms
        rows.append([
            level.setting, _distance(level.setting, level.round_trip_ms),
            f"{found.callers}" if found.rate is None else f"{found.rate:g}/s", f"{found.per_second:,.0f}",
            *(f"{kilobytes:,.0f}" for kilobytes in (far.p50, far.p99, far.max)),
            *(f"{ms:,.0f}" for ms in (late.p50, late.p99, late.max)),
        ])  # fmt: skip
    return heads, rows


def takeovers(report: Report) -> Rows:
    """Each loss."""
    heads = (
        "round trip", "lost", "in flight", "granted s", "decided s", "rejoined s", "`consistent` lost",
        "`available` not there",
    )  # fmt: skip
    return heads, [
        [
            f"{one.round_trip_ms:g} ms", one.lost, f"{one.in_flight}", f"{one.granted_seconds:.1f}",
            f"{one.decided_seconds:.1f}", f"{one.rejoined_seconds:.1f}", f"{one.consistent_lost} of {one.consistent}",
            f"{one.available_lost} of {one.available}",
        ]
        for one in report.takeovers
    ]  # fmt: skip


def returns(report: Report) -> Rows:
    """Each outage of a peer."""
    heads = (
        "round trip", "outage s", "payments/s meanwhile", "payments behind", "MB behind", "flows s", "caught up s",
        "whole s", "payments/s applied", "MB/s",
    )  # fmt: skip
    return heads, [
        [
            f"{one.round_trip_ms:g} ms", f"{one.outage_seconds:g}", f"{one.pace:g}", f"{one.payments:,}",
            f"{one.megabytes:.1f}", f"{one.flows_seconds:.1f}", f"{one.caught_up_seconds:.1f}",
            f"{one.rejoined_seconds:.1f}", f"{one.per_second:,.0f}", f"{one.megabytes_per_second:.1f}",
        ]
        for one in report.returns
    ]  # fmt: skip


def rests(report: Report) -> Rows:
    """What a region costs that does nothing."""
    heads = ("CPU ms a second at rest", "Interlock's process", "PostgreSQL")
    return heads, [[rest.setting, f"{rest.server:.1f}", f"{rest.postgres:.1f}"] for rest in report.rests]


def _places(report: Report) -> list[tuple[str, float, str]]:
    """Settings and distances in the order of their measurement, and how the distance is told."""
    found = dict.fromkeys((level.setting, level.round_trip_ms) for level in report.levels)
    ordered = sorted(found, key=lambda place: (SETTINGS.index(place[0]), place[1]))
    return [(setting, asked, _distance(setting, asked)) for setting, asked in ordered]


def _distance(setting: str, round_trip_ms: float) -> str:
    return "" if setting == ALONE else f"{round_trip_ms:g} ms"


#: By name, with their titles.
TABLES: Mapping[str, tuple[str, Callable[[Report], Rows]]] = {
    "latencies": ("how long a call takes", latencies),
    "rates": ("throughput and CPU", rates),
    "lags": ("the peer's lag under load", lags),
    "rests": ("at rest", rests),
    "takeovers": ("takeovers", takeovers),
    "returns": ("returns of a peer", returns),
}


def show(report: Report, console: Console) -> None:
    """The report for people."""
    for title, make in TABLES.values():
        heads, rows = make(report)
        if not rows:
            continue
        table = Table(title=title)
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    show_rest(report, console)
