"""Time and memory of a piece of work. CPU time, so that what else runs on the machine does not matter."""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from fuzz.broken import Broken

#: Of CPU time, for whatever is done with one input.
SECONDS_MAX: Final = 1.0
#: That one input may add to what the process has, at its peak: a tree is some twenty times its text, and texts have at
#: most a megabyte.
PEAK_MEGABYTES_MAX: Final = 200
ResultT = TypeVar("ResultT")
_RESET: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")


def quick(what: str, work: Callable[[], ResultT]) -> ResultT:
    """The result of the work, which must not take too long; done again if it did, since a first time loads schemas."""
    result, seconds = _timed(work)
    if seconds > SECONDS_MAX:
        gc.collect()
        result, seconds = _timed(work)
        if seconds > SECONDS_MAX:
            raise Broken(f"slow {what}", f"{seconds:.1f} s of CPU time")
    return result


def _timed(work: Callable[[], ResultT]) -> tuple[ResultT, float]:
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


class Peak:
    """How much memory the process has had more than at the beginning; where the system does not tell, none."""

    def __init__(self) -> None:
        self._first = 0
        if _RESET.exists():
            _RESET.write_text("5")
            self._first = _kilobytes("VmRSS")

    def megabytes(self) -> float:
        """Since it was made."""
        return (_kilobytes("VmHWM") - self._first) / 1024 if self._first else 0.0


def _kilobytes(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
