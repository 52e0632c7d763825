"""What a process keeps in mind of its transactions, so that the happy way never asks the store. Bounded.

A cache and no more: every commit names the version it was decided on, so what is remembered wrongly loses its race.
Where other processes write to the same store, only what has ended is shown from it: the rest may have moved on.
"""

import asyncio
from bisect import bisect_left
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from interlock.lifecycle import EventKind
from interlock.transaction import Body, BodyKind, Change, Transaction

_V = TypeVar("_V")
_TRANSACTIONS = 16_384
_ANSWERS = 4_096


class Lasted:
    """How many took how long: a histogram for each status, for metrics."""

    #: The buckets' upper bounds, in seconds.
    BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0)

    def __init__(self) -> None:
        #: By status, those in each bucket, and those beyond the last one.
        self.counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(self.BOUNDS) + 1))
        #: By status, the sum of all, in seconds.
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, status: str, time: timedelta) -> None:
        """Count one."""
        seconds = max(0.0, time.total_seconds())  # another process gave the id, by a clock that differs a little
        self.counts[status][bisect_left(self.BOUNDS, seconds)] += 1
        self.seconds[status] += seconds


class Memory:
    """Recent transactions, their answers, how many are in flight, and who waits for an end."""

    def __init__(self) -> None:
        self._transactions: OrderedDict[UUID, Transaction] = OrderedDict()
        self._answers: OrderedDict[UUID, Body] = OrderedDict()
        self._collected: OrderedDict[UUID, None] = OrderedDict()
        self._places: OrderedDict[UUID, tuple[tuple[int, int], int]] = OrderedDict()
        self._waiters: dict[UUID, set[asyncio.Future[None]]] = {}
        #: Who waits for the end of some payments to become a fact, by transaction.
        self._fact_waiters: dict[UUID, set[asyncio.Event]] = {}
        #: Transactions without an end, by client: as last read from the store, and what was committed here since.
        self.in_flight: Counter[str] = Counter()
        #: Ends since the start, by status and reason.
        self.ends: Counter[tuple[str, str]] = Counter()
        #: How long they took from id to end, by status.
        self.lasted = Lasted()

    def keep(self, change: Change) -> bool:
        """What a change that was won has made true; whether it is an end."""
        after = change.after
        ends = after.standing.is_final
        born = change.read == 0
        if self._fact_waiters and (change.ended or ends):
            for told in self._fact_waiters.get(after.id, ()):
                told.set()
        _put(self._transactions, after.id, after, _TRANSACTIONS)
        if change.original is not None:
            _put(self._transactions, change.original.after.id, change.original.after, _TRANSACTIONS)
        if born and not ends:
            self.in_flight[after.client] += 1
        # A note on what has ended before is no second end.
        ended = ends and any(e.kind is EventKind.ENDED for e in change.events if e.epoch == after.epoch)
        if ended:
            self.ends[after.standing.status or "", after.reason or ""] += 1
            if not born:
                self.in_flight[after.client] -= 1
            self.wake(after.id)
        for body in change.bodies:
            if body.kind is BodyKind.OUTBOX and not body.parts:
                _put(self._answers, after.id, body, _ANSWERS)
        return ended

    @property
    def awaited(self) -> tuple[UUID, ...]:
        """Transactions whose end somebody waits for."""
        return tuple(self._waiters)

    def wake(self, transaction: UUID) -> None:
        """It has ended, here or elsewhere: tell whoever waits."""
        for waiter in self._waiters.pop(transaction, ()):
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        """Forget all but who waits: the store may be another one now, without what was committed last."""
        self._transactions.clear()
        self._answers.clear()
        self._collected.clear()
        self._places.clear()

    def forget(self, transaction: UUID) -> None:
        """What is remembered of it turned out stale."""
        self._transactions.pop(transaction, None)

    def transaction(self, transaction: UUID) -> Transaction | None:
        """Its state as last committed here."""
        return self._transactions.get(transaction)

    def answer(self, transaction: UUID) -> Body | None:
        """Its answer, if that is recent."""
        return self._answers.get(transaction)

    def place(self, transaction: Transaction, position: int) -> None:
        """Where in the store's log it was committed as it is."""
        _put(self._places, transaction.id, ((transaction.epoch, transaction.version), position), _TRANSACTIONS)

    def position(self, transaction: Transaction) -> int | None:
        """Where it was committed as it is, if that is recent and was done here."""
        known = self._places.get(transaction.id)
        return known[1] if known is not None and known[0] == (transaction.epoch, transaction.version) else None

    def first_collection(self, transaction: UUID) -> bool:
        """True the first time that an answer is fetched, as far as we remember."""
        if transaction in self._collected:
            return False
        _put(self._collected, transaction, None, _TRANSACTIONS)
        return True

    def uncollect(self, transaction: UUID) -> None:
        """That it was fetched could not be written down."""
        self._collected.pop(transaction, None)

    @contextmanager
    def waiter(self, transaction: UUID) -> Iterator["asyncio.Future[None]"]:
        """A future that is done once the transaction has ended."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(transaction, set()).add(future)
        try:
            yield future
        finally:
            waiters = self._waiters.get(transaction)
            if waiters is not None:
                waiters.discard(future)
                if not waiters:
                    del self._waiters[transaction]

    @contextmanager
    def fact_waiter(self, transaction: UUID) -> Iterator[asyncio.Event]:
        """An event that is set once what was intended for some payments of it, or for all, has become a fact."""
        told = asyncio.Event()
        waiting = self._fact_waiters.setdefault(transaction, set())
        waiting.add(told)
        try:
            yield told
        finally:
            waiting.discard(told)
            if not waiting:
                self._fact_waiters.pop(transaction, None)


def _put(cache: OrderedDict[UUID, _V], key: UUID, value: _V, most: int) -> None:
    """Newest last; the oldest goes when there are too many."""
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > most:
        cache.popitem(last=False)
