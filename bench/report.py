"""What a run has found, and how it is shown to people."""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from rich.console import Console
from rich.table import Table

from bench.ceilings import Machine, Rate
from bench.load import Measured

#: The level of callers that our figures are about.
MAIN = 64
#: Characters of a line: what the tables need, where nothing says how wide the window is.
WIDTH = 150


class Reach(msgspec.Struct, kw_only=True, frozen=True):
    """A figure that we want to reach."""

    name: str
    #: `>=` or `<=`.
    sense: str
    #: None: shown for comparison only.
    limit: float | None
    #: None: not measured in this run.
    measured: float | None
    unit: str = ""

    @property
    def met(self) -> bool | None:
        if self.measured is None or self.limit is None:
            return None
        return self.measured >= self.limit if self.sense == ">=" else self.measured <= self.limit


class Share(msgspec.Struct, kw_only=True, frozen=True):
    """How much of the server's time a function takes."""

    function: str
    #: With what it calls, and by itself (C code that it calls directly included).
    whole: float
    own: float


class Stores(msgspec.Struct, kw_only=True):
    """The same load on an empty store and on a full one, in turn."""

    #: Transactions in the full one, and its size.
    prefilled: int
    bytes: int
    empty: list[Measured]
    full: list[Measured]


class Findings(msgspec.Struct, kw_only=True):
    """What every run has."""

    started: datetime
    machine: Machine
    settings: dict[str, object]
    parts: list[str]
    #: By face.
    profile: dict[str, list[Share]] = {}
    reached: list[Reach] = []
    #: What was left out, and what could not be measured.
    notes: list[str] = []
    faults: list[str] = []


# -- arithmetic -------------------------------------------------------------------------------------------------------


def over(figure: float | None, base: float | None) -> float | None:
    """The one in terms of the other, where both were measured."""
    return None if figure is None or not base else figure / base


def median_rate(rates: Sequence[Rate]) -> float | None:
    return statistics.median(rate.per_second for rate in rates) if rates else None


def at_main(levels: Sequence[Measured]) -> Measured | None:
    """The closed loop at our level of callers."""
    return next((level for level in levels if level.callers == MAIN and level.rate is None), None)


def growth(samples: Sequence[tuple[int, float]]) -> float:
    """MB a transaction: the slope of a straight line through the later half of the samples, by least squares."""
    late = samples[len(samples) // 2 :]
    return statistics.linear_regression(*zip(*late, strict=True)).slope if len({at for at, _ in late}) > 1 else 0.0


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


# -- tables -----------------------------------------------------------------------------------------------------------


def told(rate: Rate) -> str:
    """In a line."""
    postgres = f", PostgreSQL {rate.postgres_us:.0f} us" if rate.postgres_us else ""
    return (
        f"{rate.per_second:,.0f}/s, CPU {rate.user_us + rate.system_us:.0f} us each{postgres}, "
        f"others {rate.others_share:.0%}"
    )


def show_rest(found: Findings, console: Console) -> None:
    """What every run ends with."""
    if found.profile:
        console.print(*(_profile(face, functions) for face, functions in found.profile.items()), sep="\n")
    console.print(_reaches(found.reached))
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    for fault in found.faults:
        console.print(f"not measured: {fault}", highlight=False, markup=False, style="red")


def lifecycles(levels: Sequence[Measured]) -> Table:
    """Each measurement's rates, times and costs."""
    postgres = any(level.postgres_us for level in levels)
    table = Table(
        title="a payment's whole way over HTTP",
        caption="ms: answer = message sent to answer read; whole = from its due beginning. us: CPU a transaction. "
        "others: share of the machine that none of these took. limit: what was used up; turns: nothing was.",
    )
    table.add_column("face")
    for column in (
        "processes", "callers", "tx/s", "failed", "answer p50", "p99 ms", "whole p50", "p99 ms",
        "server us", "user + sys", *(["PG us"] if postgres else []), "load us", "others",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    table.add_column("limit")
    for level in levels:
        table.add_row(
            level.face, str(level.processes),
            str(level.callers) if level.rate is None else f"open {level.rate:,.0f}/s",
            f"{level.per_second:,.0f}", str(level.failures),
            f"{level.answer_ms.p50:.1f}", f"{level.answer_ms.p99:.1f}",
            f"{level.whole_ms.p50:.1f}", f"{level.whole_ms.p99:.1f}",
            f"{level.server_us:.0f}", f"{level.server_user_us:.0f} + {level.server_system_us:.0f}",
            *([f"{level.postgres_us:.0f}"] if postgres else []),
            f"{level.generator_us:.0f}", f"{level.others_share:.0%}", limit(level),
        )  # fmt: skip
    return table


def limit(level: Measured) -> str:
    """What kept it from being faster."""
    if level.rate is not None:
        return "as many as arrived"
    return "" if level.busy is None else level.busy.limit


def _profile(face: str, found: Sequence[Share]) -> Table:
    table = Table(title=f"where the server's time goes: {face}, {MAIN} callers")
    table.add_column("function")
    table.add_column("with what it calls", justify="right")
    table.add_column("itself", justify="right")
    for share in found:
        table.add_row(share.function, f"{share.whole:.1%}", f"{share.own:.1%}")
    return table


def figure(reach: Reach) -> str:
    """What was measured, as people read it."""
    if reach.measured is None:
        return ""
    return f"{reach.measured:,.{0 if reach.measured >= 100 else 2}f} {reach.unit}".strip()


def _reaches(found: Sequence[Reach]) -> Table:
    table = Table(title="what we want to reach")
    for column in ("", "reach", "measured", "reached"):
        table.add_column(column, justify="left" if not column else "right")
    words = {None: "not measured", True: "[green]yes", False: "[red]no"}
    for reach in found:
        wanted = "" if reach.limit is None else f"{reach.sense} {reach.limit:g} {reach.unit}"
        verdict = "" if reach.limit is None and reach.measured is not None else words[reach.met]
        table.add_row(reach.name, wanted, figure(reach), verdict)
    return table
