"""Ends that contradict each other, as they are found when another region's have come: records, without behaviour.

One transaction that two regions have ended, each in its own way, must never be; one payment that two regions have
settled as two transactions can be where both were alone, cut off from each other. Neither is undone here: both ends are
kept, and flagged in the region that goes on with each.
"""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID


class Double(NamedTuple):
    """A transaction, and another region's end that contradicts its own."""

    transaction: UUID
    #: The one that the other region has ended: the same, or another one for the same payment.
    other: UUID
    #: The other region's number.
    region: int
    #: The other end.
    status: str

    @property
    def detail(self) -> Mapping[str, object]:
        """As it stands in an event; what is told again is the same."""
        return {"transaction": str(self.other), "region": self.region, "status": self.status}

    @property
    def note(self) -> str:
        """In words."""
        if self.transaction == self.other:
            return f"region {self.region} has ended it too, as {self.status} or with another answer; both are kept"
        return f"region {self.region} has settled the same payment too, as {self.other}; both are kept"


class Place(NamedTuple):
    """A journal of another region; its events come in their order."""

    writer: int
    journal: int


class Arrivals(NamedTuple):
    """What has come from other regions since it was last looked at."""

    doubles: tuple[Double, ...]
    #: Up to which event of each journal was looked; to be noted once all doubles are recorded.
    reached: Mapping[Place, int]
    #: There is more.
    more: bool
