"""A grid of real faults: what fails, when in a payment's life, how consistent the call, how fenced the route.

    python -m chaos.run                          # all of it, in sequence: an hour and more
    python -m chaos.run --resume                 # what has not been played, or did not hold
    python -m chaos.run --only three/kill        # those whose name has that in it
    python -m chaos.run --list

Each scenario strikes in a world that is whole, lets the regions do what they do, mends everything, waits until they are
whole again, sees every payment through, and asks the checker. Results are kept as they come, a line of JSON each, in
`chaos/results/`; `python -m chaos.report` makes tables of them. Exit code 0 only if every scenario came to its end and
no `strict` one shows a fault; for `lease` the docs say what it may show.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from chaos.disks import Disk
from chaos.grid import Scenario, scenarios
from chaos.play import Player
from chaos.report import verdict
from chaos.results import FOLDER, Result, Results
from chaos.stage import HOME, PEER, THIRD
from chaos.watching import console
from chaos.world import World

ROUTES = """
[routes.lease]
messages = ["pacs.009.*"]
fencing = "lease"
decision_above = { EUR = 10000 }
sla_seconds = 600
[routes.default]
decision_above = { EUR = 10000 }
sla_seconds = 600
"""
_LEASE_SECONDS = 2.0
#: A world is made anew after so many scenarios: the checker reads all that ever happened in it.
_IN_ONE_WORLD = 40
_ALONE = "INTERLOCK_CHAOS_ALONE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, keep, tell; the exit code."""
    parser = argparse.ArgumentParser(prog="chaos.run", description="Real faults in real regions, a grid of them.")
    parser.add_argument("--only", default="", metavar="TEXT", help="scenarios whose name has that in it")
    parser.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn")
    parser.add_argument("--seed", type=int, default=0, help="for the drawing")
    parser.add_argument("--resume", action="store_true", help="only what was not played yet, or did not hold")
    parser.add_argument("--results", type=Path, default=FOLDER, metavar="DIR", help="where results are kept")
    parser.add_argument("--list", action="store_true", help="their names, and nothing else")
    asked = parser.parse_args(arguments)
    chosen = list(scenarios(asked.only))
    if asked.sample is not None:
        drawn = random.Random(asked.seed).sample(chosen, min(asked.sample, len(chosen)))
        chosen = [scenario for scenario in chosen if scenario in drawn]
    if asked.list:
        sys.stdout.writelines(f"{scenario.name}\n" for scenario in chosen)
        return 0
    if not chosen:
        parser.error(f"no scenario has {asked.only!r} in its name")
    _alone()
    # An end by `kill` cleans up like one by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = Results(asked.results)
    if not asked.resume and not asked.only and asked.sample is None:
        results.begin()
    known = results.read() if asked.resume else {}
    left = [scenario for scenario in chosen if scenario.name not in known or not known[scenario.name].holds]
    try:
        _play(left, results)
    except KeyboardInterrupt:
        console().print("broken off; `--resume` goes on from here")
        return 130
    names = {scenario.name for scenario in chosen}
    played = [result for name, result in results.read().items() if name in names]
    console().print(verdict(played))
    return 0 if all(result.holds or (result.is_lease and result.stuck is None) for result in played) else 1


def _alone() -> None:
    """Go on with file systems of our own: those that we mount end with us, however we end."""
    if Disk.why_not() is None and _ALONE not in os.environ:
        os.environ[_ALONE] = "yes"
        unshare = shutil.which("unshare")
        assert unshare is not None, "Disk has looked for it"
        ours = [sys.executable, "-m", "chaos.run", *sys.argv[1:]]
        os.execv(unshare, [unshare, "--mount", "--propagation", "private", *ours])  # noqa: S606 - the system's own


def _play(chosen: Sequence[Scenario], results: Results) -> None:
    out, number = console(), 0
    for kind, of_kind in groupby(chosen, key=lambda scenario: scenario.world):
        queue = list(of_kind)
        why_not = Disk.why_not() if kind == "full" else None
        while queue and why_not is None:
            for result in _in_one_world(kind, queue, results):
                number += 1
                _tell(out, f"{number}/{len(chosen)}", result)
        for scenario in queue:
            number += 1
            out.print(f"{number}/{len(chosen)} {scenario.name}: not played: {why_not}", style="yellow")


def _in_one_world(kind: str, queue: list[Scenario], results: Results) -> Iterator[Result]:
    """Play from the front of the queue, until the world is full, or no more as it should be."""
    names = (HOME, PEER, THIRD) if kind == "three" else (HOME, PEER)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interlock-chaos-")))
        world = World(
            names, routes=ROUTES, settings="replicated_within_seconds = 1", lease_seconds=_LEASE_SECONDS,
            durable=False, folder=folder / "world", disks={name: Disk() for name in names} if kind == "full" else None,
        )  # fmt: skip
        stack.enter_context(world)
        judge = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
        player = Player(world, folder / "logs", results, judge)
        for _ in range(min(_IN_ONE_WORLD, len(queue))):
            result = player.play(queue.pop(0))
            results.add(result)
            yield result
            if not result.holds:
                return


def _tell(out: Console, number: str, result: Result) -> None:
    style = None if result.holds else "red"
    taken = ", ".join(f"{region} taken over in {seconds:.1f} s" for region, seconds in result.takeovers.items())
    whole = "never whole" if result.whole_seconds is None else f"whole {result.whole_seconds:.1f} s after"
    said = (
        f"{result.payments} payments, {taken or 'no takeover'}, {whole}, {result.lost} lost, {result.doubled} doubled"
    )
    now = time.strftime("%H:%M:%S")
    out.print(f"{now} {number} {result.name}: {said} ({result.seconds:.1f} s)", style=style)
    for told in (result.stuck, *result.faults):
        if told:
            out.print(f"    {told[:600]}", style=style)


if __name__ == "__main__":
    sys.exit(main())
