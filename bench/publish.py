"""`python -m bench.publish [FILE]`: puts a run's figures into docs/performance.md, between its `measured` marks.

Without a file it takes the newest result of each kind: a run over PostgreSQL, over regions, of the message core, of
long messages. So a page holds figures that were measured together, and nobody copies them by hand. Those
of long messages go into docs/bulk.md, the others into docs/performance.md.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from bench import bulk, core, regional
from bench.findings import Report, ceilings_of
from bench.load import Measured
from bench.report import Findings, figure, limit
from bench.servers import ROOT

_R = TypeVar("_R", bound=Findings)
AnyReport: TypeAlias = Report | regional.Report | core.Report | bulk.Report

PAGE = ROOT / "docs" / "performance.md"
BULK_PAGE = PAGE.with_name("bulk.md")
_RESULTS = ROOT / "bench" / "results"
_PART = re.compile(r"(<!-- measured: (\S+) -->\n).*?(<!-- /measured -->)", re.DOTALL)
#: Look-ups whose plans are shown, and how much of each; all is in the file beside the result.
_EXPLAINED = (
    "by id", "by UETR, of a client", "a client's newest", "a client's rejected, without any", "all rejected",
    "a client's of an hour", "in flight", "overdue: nothing", "the next deadline",
)  # fmt: skip
_LINES, _CHARACTERS = 22, 180
#: Functions of a profile that are shown.
_FUNCTIONS = 25


def filled(text: str, report: AnyReport, name: str) -> str:
    """The page with this run's figures; those of the other kinds stay. name: of the result's file.

    Raises KeyError for a part that nobody makes.
    """
    parts: Mapping[str, Callable[[Any, str], str]] = _ALL[type(report)]

    def part(found: re.Match[str]) -> str:
        if found[2] in parts:
            return f"{found[1]}\n{parts[found[2]](report, name)}\n\n{found[3]}"
        if not any(found[2] in others for others in _ALL.values()):
            raise KeyError(found[2])
        return found[0]

    return _PART.sub(part, text)


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Figures to the right: every column but the first."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    lines = [headings, rule, *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _result(report: Report, name: str) -> str:
    plans = f"{Path(name).stem}-plans.txt"
    return (
        f"{_run(report)}, PostgreSQL {report.version} ({_set(report.configuration)}). Every figure is in "
        f"[{name}](../bench/results/{name}), every plan in [{plans}](../bench/results/{plans}).{_notes(report)}"
    )


def _run(report: Findings) -> str:
    machine = report.machine
    return (
        f"{report.started:%d %B %Y}, commit `{machine.commit}`: {machine.one_line}, Linux {machine.kernel}; "
        f"Python {machine.versions['python']}"
    )


def _set(configuration: Mapping[str, str]) -> str:
    return ", ".join(f"`{key} = {value}`" for key, value in configuration.items())


def _notes(report: Findings) -> str:
    faults = (f"Not measured: {fault.splitlines()[-1]}" for fault in report.faults)
    notes = "".join(f"\n- {note}" for note in (*report.notes, *faults))
    return notes and f"\n{notes}"


def _reached(report: Findings) -> str:
    words = {None: "", True: "yes", False: "no"}
    return _table(
        ("", "reach", "measured", "reached"),
        (
            (
                reach.name,
                "" if reach.limit is None else f"{reach.sense} {reach.limit:g} {reach.unit}".strip(),
                figure(reach) or "not measured",
                words[reach.met],
            )
            for reach in report.reached
        ),
    )


def _levels(levels: Sequence[Measured]) -> str:
    return _table(
        ("face", "processes", "callers", "tx/s", "p50 ms", "p99 ms", "server us", "PostgreSQL us", "commits/tx",
         "sync ms", "others", "limit"),
        (
            (
                level.face, level.processes, level.callers, f"{level.per_second:,.0f}", f"{level.answer_ms.p50:.1f}",
                f"{level.answer_ms.p99:.1f}", f"{level.server_us:.0f}",
                f"{level.postgres_us:.0f}" if level.postgres_us else "",
                f"{level.commits:.2f}" if level.commits else "", f"{level.sync_ms:.2f}" if level.sync_ms else "",
                f"{level.others_share:.0%}", limit(level),
            )
            for level in levels
        ),
    )  # fmt: skip


def _faces(report: Report) -> str:
    return _levels([*report.sqlite, *report.reference, *report.v1])


def _processes(report: Report) -> str:
    return _levels(report.processes)


def _stores(report: Report) -> str:
    if report.stores is None:
        return "Not measured."
    return _levels([*report.stores.empty, *report.stores.full])


def _ceilings(report: Report) -> str:
    return _table(
        ("", "lifecycles/s", "ms a commit", "PostgreSQL us each", "client us each", "others"),
        (
            (
                name, f"{rate.per_second:,.0f}", "" if rate.commit_ms is None else f"{rate.commit_ms:.1f}",
                f"{rate.postgres_us:.0f}", f"{rate.user_us + rate.system_us:.0f}", f"{rate.others_share:.0%}",
            )
            for name, rate in ceilings_of(report)
        ),
    )  # fmt: skip


def _rows(report: Report) -> str:
    total = ("together", sum(cost.rows for cost in report.rows), f"{sum(cost.bytes for cost in report.rows):,}")
    rows = [(f"`{cost.table}`", cost.rows, f"{cost.bytes:,}") for cost in report.rows]
    return _table(("table", "rows", "bytes"), [*rows, total])


def _lookups(report: Report) -> str:
    if not report.looked:
        return "Not measured."
    sizes = [f"{looked.transactions:,} in {looked.partitions} partitions" for looked in report.looked]
    return _table(
        ("p50 / p99 ms, pages (found)", *sizes),
        (
            (kinds[0].name, *(f"{k.p50_ms:.2f} / {k.p99_ms:.2f}, {k.pages:,} ({k.found})" for k in kinds))
            for kinds in zip(*(looked.lookups for looked in report.looked), strict=True)
        ),
    )


def _plans(report: Report) -> str:
    if not report.looked:
        return "Not measured."
    kinds = {kind.name: kind for kind in report.looked[-1].lookups}
    return "\n\n".join(f"**{name}**\n\n{_plan(kinds[name].plans)}" for name in _EXPLAINED if name in kinds)


def _plan(plans: Sequence[str]) -> str:
    """The last of its statements, which found what was looked for; long ones not to the end."""
    lines = plans[-1].splitlines()
    shown = lines if len(lines) <= _LINES else [*lines[: _LINES - 4], "...", *lines[-3:]]
    before = f"After {len(plans) - 1} others:\n\n" if len(plans) > 1 else ""
    return before + "```\n" + "\n".join(line[:_CHARACTERS] for line in shown) + "\n```"


def _profile(report: Report) -> str:
    if not report.profile:
        return "Not measured."
    return "\n\n".join(
        f"{face}:\n\n"
        + _table(
            ("function", "with what it calls", "itself"),
            ((f"`{share.function}`", f"{share.whole:.1%}", f"{share.own:.1%}") for share in functions[:_FUNCTIONS]),
        )
        for face, functions in report.profile.items()
    )


def _unnamed(make: Callable[[_R], str]) -> Callable[[_R, str], str]:
    """Most parts need not know the name of the result's file."""
    return lambda report, _: make(report)


_PARTS: Mapping[str, Callable[[Report, str], str]] = {
    "result": _result,
    "reached": _unnamed(_reached),
    "faces": _unnamed(_faces),
    "processes": _unnamed(_processes),
    "stores": _unnamed(_stores),
    "ceilings": _unnamed(_ceilings),
    "rows": _unnamed(_rows),
    "lookups": _unnamed(_lookups),
    "plans": _unnamed(_plans),
    "profile": _unnamed(_profile),
}


# -- regions ----------------------------------------------------------------------------------------------------------


def _regions(report: regional.Report, name: str) -> str:
    distances = ", ".join(f"{asked:g} ms ({found:.2f} as measured)" for asked, found in report.round_trips.items())
    return (
        f"{_run(report)}. One region: {_set(report.alone)}. Each of two: {_set(report.regional)}. Round trips: "
        f"{distances}. Every figure is in [{name}](../bench/results/{name}).{_notes(report)}"
    )


def _of(make: Callable[[regional.Report], regional.Rows]) -> Callable[[regional.Report, str], str]:
    def made(report: regional.Report, _: str) -> str:
        heads, rows = make(report)
        return _table(heads, rows) if rows else "Not measured."

    return made


_REGIONS: Mapping[str, Callable[[regional.Report, str], str]] = {
    "regions": _regions,
    "regions-reached": _unnamed(_reached),
    **{f"regions-{name}": _of(make) for name, (_, make) in regional.TABLES.items()},
}


# -- the message core -------------------------------------------------------------------------------------------------


def _core(report: core.Report, name: str) -> str:
    lxml = report.machine.versions["lxml"]
    libxml2 = report.machine.versions["libxml2"]
    return (
        f"{_run(report)}, lxml {lxml} with libxml2 {libxml2}. Every figure is in "
        f"[{name}](../bench/results/{name}).{_notes(report)}"
    )


def _core_steps(report: core.Report) -> str:
    return _table(*core.table(report)) if report.cases else "Not measured."


def _core_folders(report: core.Report) -> str:
    return _table(*core.folders(report)) if report.folders else "Not measured."


_CORE: Mapping[str, Callable[[core.Report, str], str]] = {
    "core": _core,
    "core-reached": _unnamed(_reached),
    "core-steps": _unnamed(_core_steps),
    "core-folders": _unnamed(_core_folders),
}


# -- long messages ----------------------------------------------------------------------------------------------------


def _bulk(report: bulk.Report, name: str) -> str:
    return f"{_run(report)}. Every figure is in [{name}](../bench/results/{name}).{_notes(report)}"


_BULK: Mapping[str, Callable[[bulk.Report, str], str]] = {
    "bulk": _bulk,
    "bulk-reached": _unnamed(_reached),
    "bulk-reading": lambda report, _: _table(*bulk.read_rows(report)),
    "bulk-ways": lambda report, _: _table(*bulk.way_rows(report)),
}

_ALL: Mapping[type[AnyReport], Mapping[str, Callable[[Any, str], str]]] = {
    Report: _PARTS,
    regional.Report: _REGIONS,
    core.Report: _CORE,
    bulk.Report: _BULK,
}
_KINDS: Mapping[str, type[AnyReport]] = {
    "postgres": Report,
    "regions": regional.Report,
    "core": core.Report,
    "bulk": bulk.Report,
}


def main(arguments: Sequence[str]) -> int:
    """Fill the page."""
    results = [Path(argument) for argument in arguments] or sorted(_RESULTS.glob("*.json"))
    found = {kind: path for kind in _KINDS for path in results if f"-{kind}-" in path.name}
    if not found:
        print(f"there is no result in {_RESULTS} that a page tells of: make bench STORE=...", file=sys.stderr)
        return 1
    for kind, path in found.items():
        report = msgspec.json.decode(path.read_bytes(), type=_KINDS[kind])
        page = BULK_PAGE if kind == "bulk" else PAGE
        page.write_text(filled(page.read_text("utf-8"), report, path.name), "utf-8")
        print(f"{page.relative_to(ROOT)}: {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
