"""Breadth-first search over every state that a world can reach, so that the way it prints to a wrong one is a shortest.

A world is a start, the steps that may be taken next, and what makes a state wrong. A part that is paused, cut off or
dead takes no step: whatever a world allows may also not happen, or happen late, so none of these needs its own word.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S")

#: A bound against mistakes in a world itself: one that grows past this is not the small world that it should be.
STATES_MAX = 2_000_000


class Found(NamedTuple):
    """What a search came to."""

    #: How many different states were reached.
    states: int
    #: What is wrong in the nearest wrong state; None: nothing is wrong anywhere.
    why: str | None = None
    #: The steps that lead there.
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class World(Generic[S]):
    """One search: its bounds are in its start and steps."""

    name: str
    #: What is searched, in words.
    says: str
    start: S
    #: The steps from a state under a planted mistake ('' for the right rules): what was done, and what then is.
    steps: Callable[[S, str], Iterable[tuple[str, S]]]
    #: What is wrong in a state, or None.
    wrong: Callable[[S], str | None]
    #: Planted mistakes that the search must find.
    bugs: Mapping[str, str] = field(default_factory=dict)
    #: Set where even the right rules lead to a wrong state, and the product says so: the documented window.
    window: str | None = None

    def search(self, bug: str = "") -> Found:
        """The nearest wrong state, or that there is none."""
        came_from: dict[S, tuple[S, str] | None] = {self.start: None}
        queue = deque([self.start])
        while queue:
            state = queue.popleft()
            why = self.wrong(state)
            if why is not None:
                return Found(len(came_from), why, _path(came_from, state))
            for did, following in self.steps(state, bug):
                if following not in came_from:
                    came_from[following] = state, did
                    queue.append(following)
            assert len(came_from) <= STATES_MAX, f"the world {self.name} has no bounds"
        return Found(len(came_from))


def _path(came_from: Mapping[S, tuple[S, str] | None], state: S) -> tuple[str, ...]:
    path = []
    step = came_from[state]
    while step is not None:
        state, did = step
        path.append(did)
        step = came_from[state]
    return tuple(reversed(path))
