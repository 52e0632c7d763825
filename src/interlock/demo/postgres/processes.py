"""Processes of a private PostgreSQL: who they run as, how they are started, found and ended.

PostgreSQL refuses to run as root; where we are root, all of its programs run as `nobody`.
"""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

#: How long a server, or what is left of it, may take to end.
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.01


class ClusterFailed(Exception):
    """The private server could not be had, or does not do what it was told; says why, with the end of its log."""


@cache
def server_account() -> Mapping[str, Any]:
    """For `subprocess`: who the server runs as."""
    if os.geteuid() != 0:
        return {}
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as exc:
        raise ClusterFailed("PostgreSQL does not run as root, and there is no user nobody to run it as") from exc
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def clean_environment() -> dict[str, str]:
    """Ours, without what would lead PostgreSQL's programs elsewhere; their messages in English."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**ours, "LC_ALL": "C"}


def run(command: Sequence[str], folder: Path, **environment: str) -> None:
    """Run a program as the server's user. Raises OSError if that user may not run it."""
    done = subprocess.run(  # noqa: S603 - programs found on this machine
        command, cwd=folder, env={**clean_environment(), **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, **server_account(),
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ClusterFailed(f"{' '.join(command)} ended with {done.returncode}: {said}")


def send_signal(pid: int, number: signal.Signals) -> None:
    """To a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def family_of(pid: int) -> list[int]:
    """The process, and all below it."""
    family = [pid]
    parents = {child: parent for child, parent, _ in all_processes()}
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def await_end(pids: Sequence[int]) -> None:
    """Return when none of them runs; what init has not yet buried has ended."""
    deadline = time.monotonic() + STOP_SECONDS
    while left := [pid for pid, _, state in all_processes() if pid in pids and not state.startswith("Z")]:
        if time.monotonic() >= deadline:
            raise ClusterFailed(f"killed, but still there after {STOP_SECONDS:.0f} seconds: {left}")
        time.sleep(_POLL_SECONDS)


def all_processes() -> list[tuple[int, int, str]]:
    """Process id, parent and state of all processes."""
    if not Path("/proc/self/stat").exists():
        shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,state="], capture_output=True, text=True, check=True)  # noqa: S607 - the system's
        return [(int(pid), int(parent), state) for pid, parent, state in map(str.split, shown.stdout.splitlines())]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            # The name in brackets may hold spaces and brackets.
            state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            found.append((int(folder.name), int(parent), state))
    return found
