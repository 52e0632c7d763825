"""What the grid has shown, for machines and for people.

    python -m chaos.report                 # chaos/results/summary.json, and the tables in docs/chaos.md
    python -m chaos.report --check         # whether the page has the tables of the summary

The summary is small and kept with the code; the results that it was made from are not.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from chaos.grid import scenarios
from chaos.results import FOLDER, TAKEOVER_SECONDS, Result, Results
from interlock.demo.postgres.installations import newest

PAGE = Path(__file__).parents[1] / "docs" / "chaos.md"
_BEGIN, _END = "<!-- results -->\n", "<!-- /results -->"
_WORLDS = {"two": "Two regions", "full": "Two regions, disks that become full", "three": "Three regions"}
_REASON = 300
_PERCENT = (50, 95)


# -- for machines -----------------------------------------------------------------------------------------------------


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """Everything that the page tells."""
    listed = len(scenarios())
    began, ended = min(result.at for result in results), max(result.at + result.seconds for result in results)
    return {
        "played": {"from": _time(began), "until": _time(ended), "minutes": round(sum(r.seconds for r in results) / 60)},
        "on": {"postgresql": newest().major, "cores": os.cpu_count()},
        "listed": listed,
        "all": _sums(results),
        "strict": _sums([result for result in results if not result.is_lease]),
        "lease": _sums([result for result in results if result.is_lease]),
        "faults": {
            "/".join(key): _sums(list(of))
            for key, of in groupby(sorted(results, key=_place), key=lambda result: _parts(result)[:2])
        },
        "moments": {
            moment: _sums(list(of))
            for moment, of in groupby(sorted(results, key=lambda r: _parts(r)[2]), key=lambda r: _parts(r)[2])
        },
        "failed": {result.name: _why(result) for result in results if not result.holds},
    }


def _parts(result: Result) -> tuple[str, ...]:
    return tuple(result.name.split("/"))


def _place(result: Result) -> tuple[int, str]:
    world, fault, *_ = _parts(result)
    return list(_WORLDS).index(world), fault


def _sums(results: Sequence[Result]) -> dict[str, Any]:
    takeovers = [seconds for result in results for seconds in result.takeovers.values()]
    return {
        "scenarios": len(results),
        "held": sum(result.holds for result in results),
        "payments": sum(result.payments for result in results),
        "lost": sum(result.lost for result in results),
        "doubled": sum(result.doubled for result in results),
        "others": sum(max(0, len(result.faults) - result.lost - result.doubled) for result in results),
        "stuck": sum(result.stuck is not None for result in results),
        "takeovers": len(takeovers),
        "takeover_seconds": _spread(takeovers),
        "whole_seconds": _spread([r.whole_seconds for r in results if r.whole_seconds is not None]),
    }


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    """Half of them were no longer than p50; by nearest rank."""
    ranked = sorted(seconds)
    if not ranked:
        return {}
    found = {f"p{percent}": ranked[math.ceil(len(ranked) * percent / 100) - 1] for percent in _PERCENT}
    return {name: round(value, 1) for name, value in {**found, "max": ranked[-1]}.items()}


def _why(result: Result) -> str:
    said = result.stuck or "; ".join(result.faults)
    return said.splitlines()[0][:_REASON]


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


# -- for people -------------------------------------------------------------------------------------------------------


def verdict(results: Sequence[Result]) -> str:
    """In one line."""
    if not results:
        return "chaos: nothing was played"
    done = summary(results)
    kinds = "; ".join(f"{kind}: {_in_short(done[kind])}" for kind in ("strict", "lease"))
    longest = done["all"]["takeover_seconds"].get("max", 0.0)
    takeovers = f"{done['all']['takeovers']} takeovers, the longest {longest:g} s"
    return f"chaos: {len(results)} scenarios, {takeovers}; {kinds}; {done['all']['stuck']} stuck"


def _in_short(sums: Mapping[str, Any]) -> str:
    told = f"{sums['lost']} lost, {sums['doubled']} doubled, {sums['others']} other faults"
    return f"{told} in {sums['scenarios']}"


def tables(done: Mapping[str, Any]) -> str:
    """The page's part."""
    played, on, every = done["played"], done["on"], done["all"]
    played_all = every["scenarios"] == done["listed"]
    count = f"All {done['listed']}" if played_all else f"{every['scenarios']} of {done['listed']}"
    told = (
        f"{count} scenarios were played, from {played['from']} to {played['until']} ({played['minutes']} minutes of "
        f"play) on {on['cores']} cores that were shared with other work, PostgreSQL {on['postgresql']}: "
        f"{every['payments']:,} payments, {every['takeovers']} takeovers."
    )
    lines = [
        told,
        "",
        *_table("fencing", {"`strict`": done["strict"], "`lease`": done["lease"], "both": every}),
        "",
        *_table("moment", {f"`{moment}`": sums for moment, sums in done["moments"].items()}),
    ]
    for world, title in _WORLDS.items():
        rows = {f"`{key.split('/')[1]}`": sums for key, sums in done["faults"].items() if key.split("/")[0] == world}
        if rows:
            lines += ["", f"### {title}", "", *_table("fault", rows)]
    lines += ["", "### What did not hold", ""]
    lines += [f"- `{name}`: {why}" for name, why in done["failed"].items()] or ["Nothing: every scenario held."]
    return "\n".join(lines) + "\n"


def _table(what: str, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    head = f"| {what} | scenarios | held | lost | doubled | other | stuck | takeovers | takeover s | whole again s |"
    columns: Sequence[Callable[[Mapping[str, Any]], object]] = (
        *(lambda sums, name=name: sums[name]
          for name in ("scenarios", "held", "lost", "doubled", "others", "stuck", "takeovers")),
        lambda sums: _shown(sums["takeover_seconds"]),
        lambda sums: _shown(sums["whole_seconds"]),
    )  # fmt: skip
    cells = [" | ".join(str(column(sums)) for column in columns) for sums in rows.values()]
    lines = [f"| {name} | {cell} |" for name, cell in zip(rows, cells, strict=True)]
    return [head, "| --- | --: | --: | --: | --: | --: | --: | --: | --- | --- |", *lines]


def _shown(spread: Mapping[str, float]) -> str:
    return " / ".join(f"{seconds:.1f}" for seconds in spread.values()) or "-"


def filled(page: str, done: Mapping[str, Any]) -> str:
    """The page with its part as the summary has it."""
    before, _, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert end, f"{PAGE.name} has no place for results"
    return f"{before}{_BEGIN}\n{tables(done)}\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write it, or look whether it is written; the exit code."""
    parser = argparse.ArgumentParser(prog="chaos.report", description="What the grid has shown.")
    parser.add_argument("--results", type=Path, default=FOLDER, metavar="DIR", help="where results are kept")
    parser.add_argument("--check", action="store_true", help="only look whether the page is up to date")
    asked = parser.parse_args(arguments)
    kept = FOLDER / "summary.json"
    if asked.check:
        page = PAGE.read_text(encoding="utf-8")
        return 0 if filled(page, json.loads(kept.read_text(encoding="utf-8"))) == page else 1
    names = {scenario.name for scenario in scenarios()}
    results = [result for result in Results(asked.results).read().values() if result.name in names]
    if not results:
        parser.error(f"nothing was played: {Results(asked.results).file}")
    done = summary(results)
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
    sys.stdout.write(f"{verdict(results)}\n")
    slow = [result.name for result in results if any(s > TAKEOVER_SECONDS for s in result.takeovers.values())]
    sys.stdout.writelines(f"slower than {TAKEOVER_SECONDS:g} s: {name}\n" for name in slow)
    return 0


if __name__ == "__main__":
    sys.exit(main())
