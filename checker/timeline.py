"""What the operator or harness did to the regions, and when: JSON lines, each on disk before it goes on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from checker.log import Lines, load


class Deed(StrEnum):
    """What a line of the timeline says."""

    #: The region was stopped, cut off or destroyed; from here the takeover's time counts.
    KILL = "kill"
    #: Somebody was seen to have taken it over.
    TAKEOVER = "takeover"
    #: It was started, or connected, again; from here the rejoin's time counts.
    RETURN = "return"
    #: It was seen to be healthy again.
    REJOINED = "rejoined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A line of the timeline."""

    place: str
    #: Seconds since 1970.
    at: float
    deed: Deed
    #: Name of the region.
    region: str
    #: Its number, for a region whose database is not there to be asked.
    number: int | None = None
    #: Of a kill: its disk is gone, and what only it had with it.
    disk_lost: bool = False
    #: Of a takeover: the name of the taker.
    by: str | None = None


class Timeline(Lines):
    """Writes it."""

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        """wall: seconds since 1970."""
        super().__init__(path)
        self._wall = wall

    def kill(self, region: str, *, number: int | None = None, disk_lost: bool = False) -> None:
        """Written just before the region is stopped."""
        self._note(Deed.KILL, region, number=number, disk_lost=disk_lost or None)

    def takeover(self, region: str, *, by: str | None = None) -> None:
        """The region is seen to be another's."""
        self._note(Deed.TAKEOVER, region, by=by)

    def returned(self, region: str) -> None:
        """Written just before the region is started again."""
        self._note(Deed.RETURN, region)

    def rejoined(self, region: str) -> None:
        """The region is seen to be healthy."""
        self._note(Deed.REJOINED, region)

    def _note(self, deed: Deed, region: str, **more: object) -> None:
        self.write({"at": self._wall(), "deed": deed, "region": region, **more})


def moments(path: Path) -> tuple[Moment, ...]:
    """The whole timeline, in order. Raises Unreadable."""
    return tuple(sorted(load(path, _moment), key=lambda moment: moment.at))


def _moment(place: str, line: dict[str, Any]) -> Moment:
    return Moment(place=place, **{**line, "deed": Deed(line["deed"])})
