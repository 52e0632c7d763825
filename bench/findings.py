"""What a run over PostgreSQL has found, what of it we want to reach, and how people see it."""

import statistics
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from bench.ceilings import Rate
from bench.load import Measured
from bench.lookups import Looked
from bench.report import MAIN, Findings, Reach, Stores, at_main, lifecycles, median_rate, over, show_rest, told
from bench.rows import Cost

#: Clients of pgbench with one lifecycle a commit; and lifecycles a commit where there are many.
CLIENTS, MANY = 8, 200
#: Look-ups quicker than this are not compared: there is nothing but noise in them.
_NOISE_MS = 0.3


class Report(Findings, kw_only=True):
    """Everything of one run over PostgreSQL."""

    #: Of the server.
    version: str = ""
    configuration: dict[str, str] = msgspec.field(default_factory=dict)
    #: What one payment leaves in the tables.
    rows: list[Cost] = msgspec.field(default_factory=list)
    #: pgbench with those rows: one lifecycle a commit, its statements one by one, or together; many a commit.
    single: list[Rate] = msgspec.field(default_factory=list)
    pipelined: list[Rate] = msgspec.field(default_factory=list)
    many: list[Rate] = msgspec.field(default_factory=list)
    dbos: Rate | None = None
    #: Interlock over SQLite.
    sqlite: list[Measured] = msgspec.field(default_factory=list)
    reference: list[Measured] = msgspec.field(default_factory=list)
    v1: list[Measured] = msgspec.field(default_factory=list)
    #: The same callers on one, two, four processes of the server, in turn.
    processes: list[Measured] = msgspec.field(default_factory=list)
    stores: Stores | None = None
    #: In stores of several sizes, smallest first.
    looked: list[Looked] = msgspec.field(default_factory=list)


def reached(report: Report) -> list[Reach]:
    """The figures that we want to reach, beside those that were measured; rates of one run only."""
    reference, v1, sqlite = (at_main(levels) for levels in (report.reference, report.v1, report.sqlite))
    speed, speed_v1 = _speed(reference), _speed(v1)
    one, many = median_rate(report.single), max((rate.per_second for rate in report.many), default=None)
    face, faster = f"{MAIN} callers, reference surface, one process", f"{MAIN} callers, POST /v1/messages, one process"
    stores = report.stores
    lines: list[tuple[str, str, float | None, float | None, str]] = [
        (f"{face}, over pgbench, one lifecycle a commit, {CLIENTS} clients", ">=", 0.8, over(speed, one), ""),
        (f"{face}, over the same in pipeline mode", ">=", None, over(speed, median_rate(report.pipelined)), ""),
        (f"{face}, over pgbench, {MANY} lifecycles a commit", ">=", 0.1, over(speed, many), ""),
        (
            f"{face}, over the same steps on DBOS",
            ">=", 15, over(speed, None if report.dbos is None else report.dbos.per_second), "",
        ),
        (f"{face}, over Interlock on SQLite", ">=", None, over(speed, _speed(sqlite)), ""),
        (f"{faster}, over pgbench, one lifecycle a commit, {CLIENTS} clients", ">=", None, over(speed_v1, one), ""),
        (f"{faster}, over pgbench, {MANY} lifecycles a commit", ">=", None, over(speed_v1, many), ""),
        (
            "CPU a transaction, server and PostgreSQL, two processes over one",
            "<=", 1.1, over(_cost(report.processes, 2), _cost(report.processes, 1)), "",
        ),
        ("the same, four over one", "<=", None, over(_cost(report.processes, 4), _cost(report.processes, 1)), ""),
        (
            f"the same, {'many' if stores is None else f'{stores.prefilled:,}'} transactions in the store over none",
            "<=", 1.2, None if stores is None else over(_median_cost(stores.full), _median_cost(stores.empty)), "",
        ),
        *_looked_reaches(report.looked),
    ]  # fmt: skip
    return [
        Reach(name=name, sense=sense, limit=limit, measured=None if figure is None else round(figure, 3), unit=unit)
        for name, sense, limit, figure, unit in lines
    ]


def _speed(level: Measured | None) -> float | None:
    return None if level is None else level.per_second


def _median_cost(found: Sequence[Measured]) -> float | None:
    return statistics.median(level.server_us + level.postgres_us for level in found) if found else None


def _cost(found: Sequence[Measured], processes: int) -> float | None:
    return _median_cost([level for level in found if level.processes == processes])


def _looked_reaches(looked: Sequence[Looked]) -> list[tuple[str, str, float | None, float | None, str]]:
    """How flat the look-ups stay: the kind that grew most from one full store to a larger one, and the slowest.

    The smallest store is left out where there are two others: where nothing is to be found, all is quick.
    """
    if len(looked) < 2:
        return [("look-ups, a large store over a smaller one, median, worst kind", "<=", 1.5, None, "")]
    less, most = looked[-2], looked[-1]
    before = {kind.name: max(_NOISE_MS, kind.p50_ms) for kind in less.lookups}
    worst = max(most.lookups, key=lambda kind: kind.p50_ms / before[kind.name])
    slowest = max(most.lookups, key=lambda kind: kind.p99_ms)
    sizes = f"{most.transactions:,} transactions over {less.transactions:,}"
    return [
        (f"look-ups, {sizes}, median, worst kind ({worst.name})", "<=", 1.5, worst.p50_ms / before[worst.name], ""),
        (f"look-ups, {most.transactions:,}, p99, slowest kind ({slowest.name})", "<=", None, slowest.p99_ms, "ms"),
    ]


# -- tables -----------------------------------------------------------------------------------------------------------


def ceilings_of(report: Report) -> list[tuple[str, Rate]]:
    """What was measured without Interlock, by name."""
    found = [(f"pgbench, one lifecycle a commit, {rate.callers} clients", rate) for rate in report.single]
    found += [(f"the same, in pipeline mode, {rate.callers} clients", rate) for rate in report.pipelined]
    found += [(f"pgbench, {rate.each} lifecycles a commit, {rate.callers} clients", rate) for rate in report.many]
    if report.dbos is not None:
        found.append((f"DBOS, {report.dbos.callers} callers, without HTTP", report.dbos))
    return found


def show(report: Report, console: Console) -> None:
    """The report for people."""
    for name, rate in ceilings_of(report):
        console.print(f"{name}: {told(rate)}", highlight=False)
    if levels := [*report.sqlite, *report.reference, *report.v1, *report.processes]:
        console.print(lifecycles(levels))
    if report.looked:
        console.print(_looked(report.looked))
    show_rest(report, console)


def _looked(found: Sequence[Looked]) -> Table:
    table = Table(title="look-ups: median and 99th percentile in milliseconds, pages touched, and how much was found")
    table.add_column("")
    for looked in found:
        table.add_column(f"{looked.transactions:,}\nin {looked.partitions} partitions", justify="right")
    for kinds in zip(*(looked.lookups for looked in found), strict=True):
        table.add_row(
            kinds[0].name, *(f"{kind.p50_ms:.2f}  {kind.p99_ms:.2f}  {kind.pages:,} ({kind.found})" for kind in kinds)
        )
    return table


def plans(report: Report) -> str:
    """Every look-up's plans in the largest store, as PostgreSQL explains them."""
    if not report.looked:
        return ""
    looked = report.looked[-1]
    head = (
        f"PostgreSQL {report.version}, {looked.transactions:,} transactions in {looked.partitions} partitions, "
        f"{looked.bytes / 1e9:.1f} GB; {report.machine.one_line}\n"
    )
    return head + "".join(
        f"\n== {kind.name}: p50 {kind.p50_ms:.2f} ms, p99 {kind.p99_ms:.2f} ms, {kind.found} found\n\n"
        + "\n\n".join(kind.plans)
        + "\n"
        for kind in looked.lookups
    )
