"""What a process keeps in mind of its transactions, so that the happy way never asks the store. Bounded.

A cache and no more: every commit names the version it was decided on, so what is remembered wrongly loses its race.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from interlock.lifecycle import EventKind
from interlock.transaction import Body, BodyKind, Change, Transaction

_V = TypeVar("_V")
_TRANSACTIONS = 16_384
_ANSWERS = 4_096


class Memory:
    """Recent transactions, their answers, how many are in flight, and who waits for an end."""

    def __init__(self) -> None:
        self._transactions: OrderedDict[UUID, Transaction] = OrderedDict()
        self._answers: OrderedDict[UUID, Body] = OrderedDict()
        self._collected: OrderedDict[UUID, None] = OrderedDict()
        self._waiters: dict[UUID, set[asyncio.Future[None]]] = {}
        #: Transactions without an end, by client.
        self.in_flight: Counter[str] = Counter()
        #: Ends since the start, by status and reason.
        self.ends: Counter[tuple[str, str]] = Counter()

    def keep(self, change: Change) -> None:
        """What a change that was won has made true."""
        after = change.after
        ends = after.standing.is_final
        born = change.read == 0
        _put(self._transactions, after.id, after, _TRANSACTIONS)
        if change.original is not None:
            _put(self._transactions, change.original.after.id, change.original.after, _TRANSACTIONS)
        if born and not ends:
            self.in_flight[after.client] += 1
        # A note on what has ended before is no second end.
        if ends and any(event.kind is EventKind.ENDED for event in change.events):
            self.ends[after.standing.status or "", after.reason or ""] += 1
            if not born:
                self.in_flight[after.client] -= 1
            for waiter in self._waiters.pop(after.id, ()):
                if not waiter.done():
                    waiter.set_result(None)
        for body in change.bodies:
            if body.kind is BodyKind.OUTBOX:
                _put(self._answers, after.id, body, _ANSWERS)

    def forget(self, transaction: UUID) -> None:
        """What is remembered of it turned out stale."""
        self._transactions.pop(transaction, None)

    def transaction(self, transaction: UUID) -> Transaction | None:
        """Its state as last committed here."""
        return self._transactions.get(transaction)

    def answer(self, transaction: UUID) -> Body | None:
        """Its answer, if that is recent."""
        return self._answers.get(transaction)

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


def _put(cache: OrderedDict[UUID, _V], key: UUID, value: _V, most: int) -> None:
    """Newest last; the oldest goes when there are too many."""
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > most:
        cache.popitem(last=False)
