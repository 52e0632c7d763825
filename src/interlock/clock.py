"""Time that neither jumps nor runs backwards. Pure: the system's clocks are arguments.

Deadlines go by age. A wall clock that is stepped (an hour back, a day ahead) must neither hold nor fire them, so
within a process time is the wall clock at the start plus what a steady clock has counted since. A new process starts
no earlier than the newest event in the store, for its wall clock may have been stepped back meanwhile.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

#: What everything else takes as an argument.
Now = Callable[[], datetime]

#: How fast we follow a wall clock that drifts away from the steady one: 0.5 ms a second, as NTP slews.
_SLEW = 0.0005
#: How often the time is asked for at first.
_FIRST_QUESTIONS = 5
#: An answer that took longer than this does not tell the time well enough.
_PROMPT_SECONDS = 0.1


class SteadyClock:
    """Calling it gives the present as an aware datetime in UTC; never less than it gave before."""

    def __init__(
        self, wall: Callable[[], float], steady: Callable[[], float], *, not_before: datetime | None = None
    ) -> None:
        """Start from the wall clock (seconds since 1970), but not before a moment known to have passed."""
        self._wall = wall
        self._steady = steady
        start = wall()
        if not_before is not None:
            start = max(start, not_before.timestamp())
        self._offset = start - steady()
        self._slewed_at = steady()
        self._last = start

    def __call__(self) -> datetime:
        """The present."""
        # Slewing back must not show as a step back, however small.
        self._last = max(self._last, self._steady() + self._offset)
        return datetime.fromtimestamp(self._last, UTC)

    @property
    def ahead(self) -> timedelta:
        """How far we are ahead of the wall clock; an operator is told when it is much."""
        return timedelta(seconds=self._steady() + self._offset - self._wall())

    def slew(self) -> None:
        """Creep towards the wall clock; called now and then, it corrects drift without a jump."""
        steady = self._steady()
        step = (steady - self._slewed_at) * _SLEW
        self._slewed_at = steady
        off = self._wall() - steady - self._offset
        self._offset += max(-step, min(step, off))


class CommonTime:
    """The time of a store that several processes share, as each of them can tell it: its own, set right now and then.

    So a deadline that one process has set is fired in time by another, whatever their machines think.
    """

    def __init__(self, wall: Callable[[], float], asked: Callable[[], datetime | None]) -> None:
        """wall: this machine's clock, seconds since 1970. asked: the store's; None: it has none, ours will do."""
        self._wall = wall
        self._asked = asked
        self._offset = 0.0
        self._set = False

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self._wall() + self._offset

    def set_right(self) -> None:
        """Ask the store. An answer that took long says little, and is left aside; but the first time any will do."""
        # Of the first answers each is more prompt than the one before: by then there is a connection.
        offsets = sorted(filter(None, (self._ask() for _ in range(1 if self._set else _FIRST_QUESTIONS))))
        if offsets and (offsets[0][0] <= _PROMPT_SECONDS or not self._set):
            self._offset = offsets[0][1]
            self._set = True

    def _ask(self) -> tuple[float, float] | None:
        """How long the answer took, and how far the store's clock is ahead of ours."""
        before = self._wall()
        theirs = self._asked()
        after = self._wall()
        if theirs is None or after < before:
            return None
        return after - before, theirs.timestamp() - (before + after) / 2
