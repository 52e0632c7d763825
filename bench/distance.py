"""How far a region's peer is behind, as the region itself sees it: sampled beside the load, over its own connection.

What is told is what the region goes by: how much of its log the peer has not yet said to have on its disk, and how long
after each moment it had said so of everything until then. The way back is in it.
"""

import threading
import time
from array import array
from collections.abc import Sequence
from typing import NamedTuple, Self

import msgspec
import psycopg

from bench.load import Spread, percentile, spread

_EVERY_SECONDS = 0.01
_POSITIONS = b"""
SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint, coalesce((confirmed_flush_lsn - '0/0')::bigint, 0), active
FROM pg_replication_slots WHERE slot_name = %s
"""


class Sample(NamedTuple):
    """A moment: the end of the log on the region's disk, and of what the peer has confirmed."""

    at: float
    written: int
    confirmed: int
    #: The peer is connected.
    active: bool = True


class Lag(msgspec.Struct, kw_only=True, frozen=True):
    """Over one measurement."""

    samples: int
    kilobytes: Spread
    ms: Spread


def lag_of(samples: Sequence[Sample]) -> Lag | None:
    """Of the moments at which something had been written since the one before; None where nothing ever was.

    What was not confirmed to the end counts with the time that it had waited by then.
    """
    behind: list[float] = []
    waits: array[float] = array("d")
    first = 0
    for number, sample in enumerate(samples):
        if not number or sample.written == samples[number - 1].written:
            continue
        # Positions only grow: whoever confirms this one is not to be found before whoever confirmed the last.
        first = max(first, number)
        while first < len(samples) - 1 and samples[first].confirmed < sample.written:
            first += 1
        behind.append(max(0, sample.written - sample.confirmed) / 1000)
        waits.append(samples[first].at - sample.at)
    if not behind:
        return None
    behind.sort()
    p50, p90, p99, most = (round(percentile(behind, share), 1) for share in (0.5, 0.9, 0.99, 1.0))
    return Lag(samples=len(behind), kilobytes=Spread(p50=p50, p90=p90, p99=p99, max=most), ms=spread(waits))


class Watch:
    """Looks every 10 ms, in a thread of its own. A context manager."""

    def __init__(self, url: str, slot: str) -> None:
        """url: the region's database, past all delays. slot: the peer's."""
        self._url = url
        self._slot = slot
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)
        self.samples: list[Sample] = []
        #: Why it could not look any more.
        self.fault: str | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                connection.prepare_threshold = 0
                while not self._over.wait(_EVERY_SECONDS):
                    began = time.monotonic()
                    row = connection.execute(_POSITIONS, (self._slot,)).fetchone()
                    if row is not None:
                        self.samples.append(Sample(began, *row))
        except psycopg.Error as exc:
            self.fault = str(exc)

    def found(self) -> Lag | None:
        """Of all that was seen. Raises RuntimeError where it could not be looked at."""
        if self.fault is not None:
            raise RuntimeError(f"the peer's lag could not be read: {self.fault}")
        return lag_of(self.samples)
