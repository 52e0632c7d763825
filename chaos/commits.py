"""Stops whoever is in the midst of a commit, where nobody would ever stop by himself.

A commit of Interlock takes two trips to its database: the first looks at everything that may forbid it, under locks,
and the second writes. Between the two its transaction stands open for about a millisecond. We look until we see one,
stop what we want stopped, and look again: only if the transaction is still open was it caught.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from chaos.world import NotSo, World

_SECONDS, _SETTLE_SECONDS = 15.0, 0.05
#: Those that have locked or written something.
_BETWEEN = """
    SELECT pid FROM pg_stat_activity
    WHERE application_name = 'interlock' AND state = 'idle in transaction' AND backend_xid IS NOT NULL
"""
_WITHIN = """
    SELECT pid FROM pg_stat_activity
    WHERE application_name = 'interlock' AND state = 'active' AND backend_xid IS NOT NULL
"""


def stop_between(world: World, region: str) -> None:
    """Stop a region's server when it has looked and not yet committed. Raises NotSo where it is never seen so."""
    server = world.regions[region].server
    with _looking(world, region) as connection:
        for pid in _seen(connection, _BETWEEN):
            server.pause()
            # What it had sent already arrives now.
            time.sleep(_SETTLE_SECONDS)
            if (pid,) in connection.execute(_BETWEEN).fetchall():
                return
            server.resume()
    raise NotSo(f"not within {_SECONDS:g} s: a commit of {region} between its two trips")


def stop_within(world: World, region: str) -> None:
    """Stop the database's process that is carrying out a commit, and no other. Raises NotSo likewise.

    `World.mend` lets it go on.
    """
    with _looking(world, region) as connection:
        for pid in _seen(connection, _WITHIN):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                _await_stopped(pid)
                if (pid,) in connection.execute(_WITHIN).fetchall():
                    return
                os.kill(pid, signal.SIGCONT)
    raise NotSo(f"not within {_SECONDS:g} s: a commit in {region}'s database")


@contextmanager
def _looking(world: World, region: str) -> Iterator["psycopg.Connection[tuple[int]]"]:
    # What is stopped may hold whatever we would wait for.
    options = "-c statement_timeout=1s"
    with psycopg.connect(world.regions[region].database, autocommit=True, options=options) as connection:
        yield connection


def _seen(connection: "psycopg.Connection[tuple[int]]", query: str) -> Iterator[int]:
    """Whoever is seen so, for as long as patience lasts."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        found = connection.execute(query.encode()).fetchone()
        if found is not None:
            yield found[0]


def _await_stopped(pid: int) -> None:
    while _state(pid) != "T":
        time.sleep(0.001)


def _state(pid: int) -> str:
    """Of a process, as Linux has it; T: stopped. Raises ProcessLookupError."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError as exc:
        raise ProcessLookupError(pid) from exc
    # The name in brackets may hold spaces and brackets.
    return told.rpartition(")")[2].split()[0]
