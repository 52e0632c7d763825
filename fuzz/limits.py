"""Bounds of the processes that look at cases: what goes beyond them ends, and is known by how it ended."""

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Of CPU time for one case, in all that is looked at. The kernel ends the process then, also within libxml2.
HANG_SECONDS: Final = 20
#: Of addresses, most of which are never touched; what asks for more gets a MemoryError.
_ADDRESSES_BYTES_MAX: Final = 6 * 1024**3


def bound_memory() -> None:
    """For the rest of this process."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES_BYTES_MAX, hard))


def bound_time(seconds: int) -> None:
    """So much CPU time from now on; called again, from then on."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds + 1, hard))


def promise_of_end(exitcode: int | None) -> str:
    """What a process breaks by ending so."""
    if exitcode == -signal.SIGXCPU:
        return "hang"
    if exitcode is not None and exitcode < 0:
        return f"death by {signal.Signals(-exitcode).name}"
    return f"death with {exitcode}"


@contextmanager
def environment(*, sets: int, folder: str) -> Iterator[None]:
    """Of processes that begin meanwhile.

    sets: they order their sets by this number, others by another. folder: for their temporary files; they are killed,
    and cannot tidy up.
    """
    names = {"PYTHONHASHSEED": str(sets), "TMPDIR": folder}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
