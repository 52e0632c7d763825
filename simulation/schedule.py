"""Simulated time: tasks that stop at every `yield`, and may be paused, or gone, before the next step.

A task is a generator. It yields how long it rests (`float`), or what it waits for (`Until`, `Call`); what it waits for
is sent in. Each `yield` is a place where a pause, a crash or anybody else's step can come between.
"""

import random
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import Any

from msgspec import Struct

#: What a task is written as.
Steps = Generator[Any, Any, Any]


class Signal:
    """Something that others wait for; told to all who wait at the moment."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: list[tuple[Task, int]] = []


class Until(Struct, frozen=True):
    """Rest until the signal is given, or for so many seconds."""

    signal: Signal
    seconds: float


class Call(Struct, frozen=True):
    """Ask somebody over the network; the answer is sent in, or None when the time is up."""

    target: str
    #: Run where it arrives, whenever it does, and as often. What it returns is the answer; a generator is run as a
    #: task there, and answers through the function that it is given.
    ask: Callable[..., Any]
    seconds: float = 0.4


class Process:
    """What is paused and dies as one. It begins anew without memory."""

    __slots__ = ("life", "name", "node", "paused_until", "traps", "up")

    def __init__(self, name: str, node: str) -> None:
        """node: where it runs: a region, the witness, a client."""
        self.name = name
        self.node = node
        self.up = True
        #: Counted up with each death: what a former life has begun goes on no more.
        self.life = 0
        self.paused_until = 0.0
        #: Faults that strike after so many steps.
        self.traps: list[tuple[int, Callable[[], None]]] = []


class Task:
    """One course of steps in a process."""

    __slots__ = ("life", "name", "process", "steps", "ticket")

    def __init__(self, process: Process, name: str, steps: Steps) -> None:
        self.process = process
        self.name = name
        self.steps = steps
        self.life = process.life
        #: Of the wake-up that it waits for; any other is late.
        self.ticket = 0


class Schedule:
    """Events in the order of their time; of one seed always the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - chance, not secrets
        self.now = 0.0
        self.events = 0
        self._queue: list[tuple[float, int, Any, Any, Any]] = []
        self._number = 0
        #: Chance that a task rests for long where it would for a moment only.
        self.stalls = 0.0
        #: The longest of such moments, in seconds.
        self.slow = 0.004
        self.call: Callable[[Task, int, Call], None] = lambda *_: None

    def at(self, delay: float, function: Callable[..., None], *about: Any) -> None:
        """Call a function later."""
        self._number += 1
        heappush(self._queue, (self.now + delay, self._number, None, function, about))

    def start(self, process: Process, name: str, steps: Steps) -> Task:
        """Begin a task."""
        task = Task(process, name, steps)
        self.wake(task, task.ticket, None, 0.0)
        return task

    def wake(self, task: Task, ticket: int, value: object, delay: float) -> None:
        """Go on with a task later, unless something else has woken it before."""
        self._number += 1
        heappush(self._queue, (self.now + delay, self._number, task, ticket, value))

    def fire(self, signal: Signal) -> None:
        """Wake whoever waits for it."""
        waiting, signal.waiting = signal.waiting, []
        for task, ticket in waiting:
            self.wake(task, ticket, True, 0.0)

    def moment(self) -> float:
        """How long a step takes: next to nothing, or, now and then, far too long."""
        chance = self.random.random()
        if chance < self.stalls:
            return self.random.uniform(0.3, 8.0)
        return 0.0005 + self.slow * chance

    def run(self, until: float) -> None:
        """Let the world go on up to a time."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, task, what, value = heappop(queue)
            self.events += 1
            if task is None:
                what(*value)
            elif what == task.ticket:
                self._step(task, value)
        self.now = until

    def _step(self, task: Task, value: object) -> None:
        process = task.process
        if not process.up or task.life != process.life:
            return
        if process.paused_until > self.now:
            self.wake(task, task.ticket, value, process.paused_until - self.now)
            return
        if process.traps and self._springs(process):
            self.wake(task, task.ticket, value, 0.0)  # whatever has struck: it waits, or is no more
            return
        task.ticket += 1
        try:
            waits = task.steps.send(value)
        except StopIteration:
            return
        if type(waits) is float:
            self.wake(task, task.ticket, None, waits)
        elif type(waits) is Until:
            waits.signal.waiting.append((task, task.ticket))
            self.wake(task, task.ticket, False, waits.seconds)
        else:
            self.call(task, task.ticket, waits)

    def _springs(self, process: Process) -> bool:
        """One step further for each trap; whether one has struck."""
        due = [trap for steps, trap in process.traps if steps <= 0]
        process.traps = [(steps - 1, trap) for steps, trap in process.traps if steps > 0]
        for trap in due:
            trap()
        return bool(due)
