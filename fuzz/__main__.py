"""`python -m fuzz`: cases without end, for so many minutes; or one again, by its number or from its file.

The cases are looked at in processes of their own, which say before each what they take on: where one dies or hangs, the
input that did it is kept all the same, and the next process goes on after it.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from fuzz.cases import cases, of_file
from fuzz.keeping import FOLDER
from fuzz.plants import PLANTS, plant
from fuzz.running import Plan, replay, run


def main() -> int:
    """Exit 0 where everything held."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="spoilt messages, schemas, profiles and calls")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", default="", help="of all cases; SEED-NUMBER is one of them, again")
    parser.add_argument("--keep", type=Path, default=FOLDER, help="folder for the inputs that broke something")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="an input that was kept, again")
    parser.add_argument("--plant", choices=PLANTS, action="append", default=[], help="a mistake that must be found")
    given = parser.parse_args()
    plants: tuple[str, ...] = tuple(given.plant)
    if given.replay is not None:
        plant(*plants)
        return replay(of_file(given.replay), *plants)
    seed, _, number = given.seed.partition("-")
    if number:
        plant(*plants)
        return replay(cases(seed).case(int(number)), *plants)
    seed = seed or f"{time.time_ns() // 1_000_000_000}"
    sys.stdout.write(f"fuzz: seed {seed}, {given.minutes:g} minutes; what fails is kept in {given.keep}\n")
    plan = Plan(seed=seed, seconds=given.minutes * 60, folder=given.keep, jobs=max(1, given.jobs), plants=plants)
    return 1 if run(plan).kept.total else 0


if __name__ == "__main__":
    sys.exit(main())
