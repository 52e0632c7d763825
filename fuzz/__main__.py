"""`python -m fuzz`: cases without end, for so many minutes; or one again, by its number or from its file.

The cases are looked at in a process of their own, which says before each what it takes on: where it dies or hangs, the
input that did it is kept all the same, and the next process goes on after it.
"""

import argparse
import sys
import time
from pathlib import Path

from fuzz.keeping import FOLDER
from fuzz.running import replay, run


def main() -> int:
    """Exit 0 where everything held."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="spoilt messages, schemas and profiles")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long")
    parser.add_argument("--seed", default="", help="of all cases; SEED:NUMBER is one of them, again")
    parser.add_argument("--keep", type=Path, default=FOLDER, help="folder for the inputs that broke something")
    parser.add_argument("file", nargs="?", type=Path, help="an input that was kept, again")
    given = parser.parse_args()
    if given.file is not None:
        from fuzz.cases import of_file

        return replay(of_file(given.file))
    seed, _, number = given.seed.partition(":")
    if number:
        from fuzz.cases import cases

        return replay(cases(seed).case(int(number)))
    seed = seed or f"{time.time_ns() // 1_000_000_000}"
    sys.stdout.write(f"fuzz: seed {seed}, {given.minutes:g} minutes; what fails is kept in {given.keep}\n")
    return run(seed, given.minutes * 60, given.keep)


if __name__ == "__main__":
    sys.exit(main())
