"""Messages between regions, the witness and clients: lost, doubled, late and out of order, and links that are cut."""

from collections.abc import Callable
from typing import Any

from simulation.schedule import Call, Schedule, Task


class Network:
    """Who reaches whom, and how badly."""

    def __init__(self, schedule: Schedule, up: Callable[[str], bool]) -> None:
        """up: whether a node is there."""
        self._schedule = schedule
        self._up = up
        #: From, to: nothing gets through.
        self.cut: set[tuple[str, str]] = set()
        self.lost = 0.0
        self.doubled = 0.0
        #: Chance that a message takes long.
        self.late = 0.0
        #: What a message takes, at most; seconds.
        self.slow = 0.02
        schedule.call = self._call

    def reaches(self, source: str, target: str) -> bool:
        """Whether a message would arrive now."""
        return (source, target) not in self.cut and self._up(source) and self._up(target)

    def send(self, source: str, target: str, arrive: Callable[..., None], *about: Any) -> None:
        """Send without an answer; arrives never, once or twice."""
        chance = self._schedule.random.random
        if self.lost and chance() < self.lost:
            return
        copies = 2 if self.doubled and chance() < self.doubled else 1
        for _ in range(copies):
            self._schedule.at(self.delay(), self._arrive, source, target, arrive, about)

    def delay(self) -> float:
        """How long a message takes."""
        chance = self._schedule.random.random()
        if chance < self.late:
            return self._schedule.random.uniform(0.1, 3.0)
        return 0.001 + self.slow * chance

    def _arrive(self, source: str, target: str, arrive: Callable[..., None], about: tuple[Any, ...]) -> None:
        if (source, target) not in self.cut and self._up(target):
            arrive(*about)

    def _call(self, task: Task, ticket: int, call: Call) -> None:
        source = task.process.node

        def reply(value: object) -> None:
            self.send(call.target, source, self._schedule.wake, task, ticket, value, 0.0)

        self.send(source, call.target, call.ask, reply)
        self._schedule.wake(task, ticket, None, call.seconds)
