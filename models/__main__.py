"""The command line: `python -m models [--world W] [--bug B] [--all]`."""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from models import keepers, keys, lease, some, strict
from models.search import Found, World

WORLDS: tuple[World[Any], ...] = (*strict.WORLDS, *keepers.WORLDS, *lease.WORLDS, *keys.WORLDS, *some.WORLDS)


def judged(world: World[Any], bug: str, found: Found) -> bool:
    """Whether the search came to what it must: nothing with the right rules, something with a mistake or a window."""
    return (found.why is None) == (not bug and world.window is None)


def _verdict(world: World[Any], bug: str, found: Found) -> str:
    if found.why is None:
        return "NOT FOUND" if bug or world.window else "nothing wrong"
    if bug:
        return f"found in {len(found.path)} steps"
    return f"expected, in {len(found.path)} steps" if world.window else f"WRONG in {len(found.path)} steps"


def _told(world: World[Any], bug: str, found: Found, *, trace: bool) -> list[str]:
    right = "the window" if world.window else "the rules"
    lines = [f"{world.name:15} {bug or right:22} {found.states:8,} states  {_verdict(world, bug, found)}"]
    if trace and found.why is not None:
        lines.append(f"    {found.why}")
        lines.extend(f"    {number:2}. {step}" for number, step in enumerate(found.path, 1))
    if not bug and world.window:
        lines.append(f"    documented: {world.window}")
    return lines


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models", description="Search the rules of regions for mistakes.")
    parser.add_argument("--world", choices=[world.name for world in WORLDS], help="only this one")
    parser.add_argument("--bug", help="plant this mistake, and print the shortest way to what it breaks")
    parser.add_argument("--all", action="store_true", help="the right rules, then every planted mistake")
    parser.add_argument("--list", action="store_true", help="list the worlds and what can be planted in them")
    return parser.parse_args(arguments)


def _list(worlds: Sequence[World[Any]]) -> None:
    for world in worlds:
        sys.stdout.write(f"{world.name}: {world.says}\n")
        sys.stdout.writelines(f"    {bug:22} {says}\n" for bug, says in world.bugs.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Search; 0 only if the right rules are right, every planted mistake is found, and each window is as documented."""
    given = _arguments(arguments)
    worlds = [world for world in WORLDS if given.world in (None, world.name)]
    if given.list:
        _list(worlds)
        return 0
    if given.bug:
        worlds = [world for world in worlds if given.bug in world.bugs]
        if not worlds:
            sys.stderr.write(f"no world has a mistake named {given.bug}; --list names them\n")
            return 2
    began, searches, states, failed = time.monotonic(), 0, 0, 0
    for world in worlds:
        for bug in [given.bug] if given.bug else ["", *(world.bugs if given.all else ())]:
            found = world.search(bug)
            as_it_must = judged(world, bug, found)
            searches, states, failed = searches + 1, states + found.states, failed + (not as_it_must)
            for line in _told(world, bug, found, trace=bool(given.bug) or (not bug and not as_it_must)):
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
    seconds = time.monotonic() - began
    outcome = "all as they must be" if not failed else f"{failed} NOT as they must be"
    sys.stdout.write(f"models: {searches} searches, {states:,} states, {seconds:.0f} s: {outcome}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
