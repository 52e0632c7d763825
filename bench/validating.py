"""`interlock validate` on a folder of messages: files a second with one process and with more, start and end included.

Each number of processes takes its turn in each round, so that what else the machine does meets all of them alike.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.message import Messages, identities


class Validated(msgspec.Struct, kw_only=True, frozen=True):
    """One folder judged by so many processes: medians over rounds."""

    jobs: int
    files: int
    #: Of each file.
    bytes: int
    seconds: float
    #: CPU of all processes.
    cpu_seconds: float
    #: The same folder's first file alone: what starting costs.
    start_seconds: float

    @property
    def per_second(self) -> float:
        """Files."""
        return self.files / self.seconds


def jobs_to_try() -> Sequence[int]:
    """One process, and as many as there are cores."""
    return sorted({1, len(os.sched_getaffinity(0))})


def measure(folder: Path, *, files: int, rounds: int) -> list[Validated]:
    """Write a folder of different messages and judge it, by the command that people use."""
    inbox = folder / "inbox"
    length = _fill(inbox, files)
    one = inbox / "00000.xml"
    _judge(one, 1)  # compiles the schemas for all
    start = statistics.median(_judge(one, 1)[0] for _ in range(rounds))
    taken: dict[int, list[tuple[float, float]]] = {jobs: [] for jobs in jobs_to_try()}
    for _ in range(rounds):
        for jobs, seconds in taken.items():
            seconds.append(_judge(inbox, jobs))
    shutil.rmtree(inbox)
    return [
        Validated(
            jobs=jobs,
            files=files,
            bytes=length,
            seconds=round(statistics.median(wall for wall, _ in seconds), 3),
            cpu_seconds=round(statistics.median(cpu for _, cpu in seconds), 3),
            start_seconds=round(start, 3),
        )
        for jobs, seconds in taken.items()
    ]


def _fill(inbox: Path, files: int) -> int:
    inbox.mkdir()
    messages = Messages()
    for number, identity in enumerate(identities(files)):
        inbox.joinpath(f"{number:05}.xml").write_bytes(messages.make(identity))
    return messages.length


_COMMAND: Final = (sys.executable, "-m", "interlock.cli", "validate", "--quiet")


def _judge(path: Path, jobs: int) -> tuple[float, float]:
    """Wall-clock and CPU seconds. Raises RuntimeError where a message is not found valid."""
    before, started = _children(), time.monotonic()
    done = subprocess.run([*_COMMAND, "--jobs", str(jobs), str(path)], capture_output=True, text=True, check=False)
    wall = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"interlock validate: {done.returncode}: {(done.stderr or done.stdout)[-200:]}")
    return wall, _children() - before


def _children() -> float:
    """CPU of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
