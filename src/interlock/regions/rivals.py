"""Of several regions that have taken the same payment, which goes on. Pure.

Each region reserves a payment's keys for itself, in the commit that takes the message; nobody asks another region
first. Before a region releases, and under `consistent` before it says that a message is taken, every guard has that
commit; only then does it look whether another region has the same keys. So of two whoever looks last sees the other.
The one that came first goes on, and waits for that: it releases nothing until the others' failure is a fact in its own
copy, and gives way itself where they have settled or do not end in time. Whoever came later gives way at once. To go on
takes the same as ever, that no other region holds the payment; the order only decides who need not fail.
"""

from collections.abc import Collection
from datetime import timedelta
from enum import Enum, auto
from typing import NamedTuple
from uuid import UUID


class Rival(NamedTuple):
    """A transaction of another region that holds a payment of ours."""

    transaction: UUID
    #: It has settled that payment.
    settled: bool = False
    #: It is to settle it, and that is no fact yet.
    settles: bool = False


class Turn(Enum):
    """What a transaction with rivals does."""

    GO = auto()
    #: Look again when more of the other regions is known.
    WAIT = auto()
    YIELD = auto()


#: How long the first waits for the others to give way: a few round trips and their commits.
PATIENCE = timedelta(seconds=2)


def turn(own: UUID, rivals: Collection[Rival], waited: timedelta) -> Turn:
    """Whose turn it is; ids are in the order of time, and the same in all regions.

    rivals: as looked up once every guard has ours. waited: since it was committed.
    """
    if not rivals:
        return Turn.GO
    if waited >= PATIENCE or any(rival.settled or rival.transaction < own for rival in rivals):
        return Turn.YIELD
    return Turn.WAIT


def taken_turn(rivals: Collection[Rival], confirmed: Collection[UUID]) -> Turn:
    """Whose turn it is for a release that a lost region intended, in the eyes of its taker.

    The home may have settled it, so the end is the same one, unless the home cannot have: where one of its guards has
    settled the payment, and the home had that before, the home has known of it since, and the guard had not heard
    of the home's then. What a guard is about to settle is waited for, for it may be so.

    rivals: transactions of the home's guards, the taker among them. confirmed: those that the home had before they were
    settled.
    """
    if any(rival.settled and rival.transaction in confirmed for rival in rivals):
        return Turn.YIELD
    return Turn.WAIT if any(rival.settles for rival in rivals) else Turn.GO
