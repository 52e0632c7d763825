"""`python -m simulation`: many seeds, or one again with each of its steps."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from simulation.plants import NAMES, plant
from simulation.world import Told, live

#: Seeds that a process goes through at a time.
_CHUNK = 50
#: Broken worlds that are named.
_SHOWN = 10


def of(seed: int) -> int:
    """How many regions a world of this seed has, unless told otherwise."""
    return 2 + seed % 2


def several(seed: int) -> bool:
    """Whether messages of a world of this seed have some payments each."""
    return seed % 5 == 4


def _chunk(first: int, end: int, regions: int | None, bug: str | None) -> list[tuple[int, Told]]:
    numbers = ((seed, regions or of(seed)) for seed in range(first, end))
    return [(number, live(seed, regions=number, plants=plant(bug), several=several(seed))) for seed, number in numbers]


def lives(first: int, count: int, regions: int | None, bug: str | None, processes: int) -> Iterator[tuple[int, Told]]:
    """All worlds of these seeds, in their order."""
    starts = range(first, first + count, _CHUNK)
    ends = [min(start + _CHUNK, first + count) for start in starts]
    with ProcessPoolExecutor(processes) as pool:
        for chunk in pool.map(partial(_chunk, regions=regions, bug=bug), starts, ends):
            yield from chunk


def main() -> int:
    """Exit 0 where every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description="regions in a seeded, faulty world")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    parser.add_argument(
        "--regions",
        type=int,
        choices=(2, 3),
        help="of each world; by default two where the seed is even, three where it is odd",
    )
    parser.add_argument("--bug", choices=NAMES, help="plant a mistake")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: each step")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.seed is not None:
        return _one(given.seed, given.regions or of(given.seed), given.bug, trace=given.trace)
    return _many(given)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _one(seed: int, regions: int, bug: str | None, *, trace: bool) -> int:
    told = live(seed, regions=regions, plants=plant(bug), trace=_say if trace else None, several=several(seed))
    _say(f"seed {seed}, {regions} regions: {told.broken or 'every promise kept'}")
    return 0 if told.broken is None else 1


def _many(given: argparse.Namespace) -> int:
    begun, worlds, events, ends, takeovers, doubles, broken = time.monotonic(), 0, 0, 0, 0, 0, 0
    for number, told in lives(given.first, given.seeds, given.regions, given.bug, given.processes):
        worlds, events, ends = worlds + 1, events + told.events, ends + told.ended
        takeovers, doubles = takeovers + told.takeovers, doubles + told.doubles
        if told.broken is not None:
            broken += 1
            if broken <= _SHOWN:
                _say(f"seed {told.seed}, {number} regions: {told.broken}")
    _say(
        f"simulation: {worlds} worlds, {events} events, {ends} ends, {takeovers} takeovers, "
        f"{doubles} flagged doubles, {broken} broken, {time.monotonic() - begun:.0f} s"
    )
    return 0 if broken == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
