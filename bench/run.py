"""`python -m bench.run`: measures Interlock beside what this machine could do at best, and says so in JSON and a table.

Every part starts servers and load generators of its own, on 127.0.0.1 and in a fresh folder, and takes them away again.
A figure never makes the run fail; only what could not be measured does. How to read it all: bench/README.md.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType

import msgspec
from rich.console import Console

from bench import bulk, core, findings, postgres, regional, regions, sqlite
from bench.report import WIDTH, Findings
from bench.servers import ROOT
from chaos.processes import ServerFailed
from chaos.world import NotSo
from interlock.demo.postgres.processes import ClusterFailed


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
    parser.add_argument(
        "--store",
        choices=("sqlite", "postgres", "regions", "core", "bulk"),
        default="sqlite",
        help="over which store [sqlite]; regions: two of them over PostgreSQL; core: over none, messages alone; bulk: "
        "many payments in one message, over each store",
    )
    parser.add_argument("--quick", action="store_true", help="a minute instead of ten; shows that it works, no more")
    parser.add_argument(
        "--only", nargs="+", metavar="PART",
        help=f"some of: {', '.join(sqlite.Bench.PARTS)}; over PostgreSQL: {', '.join(postgres.Bench.PARTS)}; "
        f"over regions: {', '.join(regions.Bench.PARTS)}; of bulk: {', '.join(bulk.Bench.PARTS)}",
    )  # fmt: skip
    parser.add_argument(
        "--prefill", type=int, nargs="+", metavar="N",
        help="transactions in the full store [1,000,000]; over PostgreSQL step by step [1,000,000 5,000,000]",
    )  # fmt: skip
    parser.add_argument(
        "--round-trip", type=float, nargs="+", metavar="MS", help="between regions, in milliseconds [0 10 70]"
    )
    parser.add_argument("--takeovers", type=int, metavar="N", help="how often a region is lost [10]")
    parser.add_argument("--memory", type=int, metavar="N", help="transactions over which memory is watched [200,000]")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each measurement [10; regions: 4]")
    parser.add_argument("--payments", type=int, metavar="N", help="in one message [100,000]")
    parser.add_argument("--profile", action="store_true", help="look with py-spy where the server's time goes")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where stores are kept meanwhile [build]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the JSON [bench/results/...]")
    parser.add_argument(
        "--dbos-python", default=sys.executable, metavar="PYTHON", help="an interpreter with dbos, and with our needs"
    )
    return parser


Bench = sqlite.Bench | postgres.Bench | regions.Bench | core.Bench | bulk.Bench


def _bench(arguments: argparse.Namespace, folder: Path, console: Console) -> Bench:
    """The run that was asked for. Raises SystemExit where nobody knows such a part."""
    kinds: dict[str, type[Bench]] = {
        "sqlite": sqlite.Bench, "postgres": postgres.Bench, "regions": regions.Bench, "core": core.Bench,
        "bulk": bulk.Bench,
    }  # fmt: skip
    kind = kinds[arguments.store]
    unknown = set(arguments.only or ()) - set(kind.PARTS)
    if unknown:
        raise SystemExit(f"bench: --store {arguments.store} has no part {', '.join(sorted(unknown))}")
    parts = [part for part in kind.PARTS if arguments.only is None or part in arguments.only]
    if arguments.store == "core":
        return core.Bench(core.QUICK if arguments.quick else core.FULL, parts, folder, console)
    if arguments.store == "regions":
        return _regions(arguments, parts, folder, console)
    if arguments.store == "bulk":
        wanted = bulk.QUICK if arguments.quick else bulk.FULL
        wanted = msgspec.structs.replace(wanted, payments=arguments.payments or wanted.payments)
        return bulk.Bench(wanted, parts, folder, console)
    given = {name: getattr(arguments, name) for name in ("prefill", "memory", "seconds")}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.store == "sqlite":
        if "prefill" in given:
            given["prefill"] = given["prefill"][0]
        settings = msgspec.structs.replace(sqlite.QUICK if arguments.quick else sqlite.FULL, **given)
        return sqlite.Bench(settings, parts, folder, console, profile=arguments.profile, peer=arguments.dbos_python)
    given.pop("memory", None)
    if "prefill" in given:
        given["prefill"] = tuple(sorted(given["prefill"]))
    settings_ = msgspec.structs.replace(postgres.QUICK if arguments.quick else postgres.FULL, **given)
    return postgres.Bench(settings_, parts, folder, console, profile=arguments.profile, peer=arguments.dbos_python)


def _regions(arguments: argparse.Namespace, parts: Sequence[str], folder: Path, console: Console) -> regions.Bench:
    given = {"seconds": arguments.seconds, "takeovers": arguments.takeovers}
    if arguments.round_trip is not None:
        given["round_trips"] = tuple(arguments.round_trip)
    given = {name: value for name, value in given.items() if value is not None}
    settings = msgspec.structs.replace(regions.QUICK if arguments.quick else regions.FULL, **given)
    return regions.Bench(settings, parts, folder, console, profile=arguments.profile)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 where a part could not be measured."""
    arguments = _parser().parse_args(argv)
    console = Console()
    console.width = max(console.width, WIDTH)
    base = arguments.folder or ROOT / "build"
    base.mkdir(parents=True, exist_ok=True)
    with _Stoppable(), tempfile.TemporaryDirectory(prefix="bench-", dir=base, ignore_cleanup_errors=True) as folder:
        bench = _bench(arguments, Path(folder), console)
        found = bench.report
        console.print(f"bench: {', '.join(found.parts)}; {found.machine.one_line}", highlight=False)
        try:
            bench.run()
        except KeyboardInterrupt:
            console.print("[yellow]stopped")
            return 130
        except (ClusterFailed, ServerFailed, NotSo) as exc:
            console.print(f"bench: {exc}", style="red", markup=False)
            return 1
    path = arguments.output or _path(found, arguments.store, quick=arguments.quick)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(found, findings.Report):
        found.reached = findings.reached(found)
        findings.show(found, console)
        plans = path.with_name(f"{path.stem}-plans.txt")
        plans.write_text(findings.plans(found), "utf-8")
        console.print(f"written: {plans}", highlight=False)
    elif isinstance(found, bulk.Report):
        found.reached = bulk.reached(found)
        bulk.show(found, console)
    elif isinstance(found, regional.Report):
        found.reached = regional.reached(found)
        regional.show(found, console)
    elif isinstance(found, core.Report):
        found.reached = core.reached(found)
        core.show(found, console)
    else:
        found.reached = sqlite.reached(found)
        sqlite.show(found, console)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    console.print(f"written: {path}", highlight=False)
    return 1 if found.faults else 0


def _path(found: Findings, store: str, *, quick: bool) -> Path:
    """A quick run is nothing to keep."""
    folder = ROOT / "build" if quick else ROOT / "bench" / "results"
    which = "" if store == "sqlite" else f"{store}-"
    return folder / f"bench-{found.started:%Y-%m-%d}-{which}{found.machine.id}.json"


if __name__ == "__main__":
    sys.exit(main())
