"""Driving again: a new transaction over the archived bytes of one that came to nothing.

Owns: which attempt is meant, and what of it is left out. What may be driven again is `redrive.py`'s.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import UUID

from interlock import redrive
from interlock.apart import named_alone
from interlock.errors import IllegalDecision
from interlock.journal import Journal
from interlock.lifecycle import EventKind
from interlock.ports import IdempotencyTaken, Store
from interlock.routes import Route
from interlock.stages import way
from interlock.stages.facts import Inspection
from interlock.stages.steps import Steps
from interlock.stages.way import Arrival
from interlock.transaction import BodyKind, Change, Payment, Transaction


class Means(NamedTuple):
    """What is done with transactions, which is the workflow's."""

    #: A client's transaction; None: of any client. Raises UnknownTransaction.
    own: Callable[[str | None, UUID], Awaitable[Transaction]]
    facts: Callable[[Transaction], Awaitable[tuple[Inspection | None, tuple[Payment, ...]]]]
    #: The route that it would take now.
    route: Callable[[Transaction], Route]
    #: Raises Stopped, TooManyInFlight.
    admit: Callable[[str, Route], None]
    #: Whether an operator holds its client or that route back.
    stopped: Callable[[str, Route], bool]
    #: The next attempt.
    newborn: Callable[[Transaction, Route], Transaction]
    steps: Callable[[Transaction], Steps]
    whole: Callable[[Transaction, Change], Awaitable[Change]]
    #: Commits a transaction that is born with its message.
    bear: Callable[[Transaction, Arrival], Awaitable[Transaction | IdempotencyTaken]]


class Driving:
    """Drives transactions again."""

    def __init__(self, store: Store, journal: Journal, means: Means) -> None:
        self._store = store
        self._journal = journal
        self._means = means

    async def again(self, client: str | None, transaction_id: UUID, actor: str) -> Transaction:
        """The new transaction. Raises IllegalDecision where that must not be."""
        original = await self._newest(client, transaction_id)
        left_out = await self._left_out(original)
        inspection, _ = await self._means.facts(original)
        assert inspection is not None  # what is drivable has a message
        root = await self.root(original)
        route = self._means.route(original)
        self._means.admit(original.client, route)
        newborn = self._means.newborn(original, route)
        told = self._means.steps(original)
        told.take(EventKind.REDRIVEN, actor=actor, note=f"as {newborn.id}", redriven_as=newborn.id)
        change = Change(after=told.transaction, events=told.events, read=told.read)
        arrival = Arrival(
            inspection=inspection,
            route=route,
            stopped=self._means.stopped(original.client, route),
            refused=way.left_out(left_out),
            root=root.id,
            original=await self._means.whole(original, change),
        )
        outcome = await self._means.bear(newborn, arrival)
        assert isinstance(outcome, Transaction)  # a redrive has no idempotency key to lose
        return outcome

    async def _newest(self, client: str | None, transaction_id: UUID) -> Transaction:
        original = await self._means.own(client, transaction_id)
        while original.redriven_as is not None:
            original = await self._means.own(client, original.redriven_as)
        return original

    async def refuse_unless_drivable(self, client: str | None, transaction_id: UUID) -> None:
        """Raise IllegalDecision where `again` would, as far as that shows beforehand."""
        await self._left_out(await self._newest(client, transaction_id))

    async def _left_out(self, original: Transaction) -> tuple[Payment, ...]:
        """The payments that are not driven again. Raises IllegalDecision where the others may not be either."""
        redrive.refuse_unless_drivable(original)
        if await self._journal.read(self._store.parts, original.id, BodyKind.INBOX):
            raise IllegalDecision(f"{original.id} is a message too long to be driven again; send it again")
        if original.payments < 2:
            return ()
        apart: frozenset[int] = frozenset()
        attempt: Transaction | None = original
        while attempt is not None:
            apart |= named_alone(await self._journal.read(self._store.history, attempt.id), attempt)
            attempt = await self._before(attempt)
        return redrive.left_out(await self._journal.read(self._store.payments, original.id), apart)

    async def root(self, transaction: Transaction) -> Transaction:
        """The first attempt."""
        while (before := await self._before(transaction)) is not None:
            transaction = before
        return transaction

    async def _before(self, transaction: Transaction) -> Transaction | None:
        return None if transaction.redrive_of is None else await self._means.own(None, transaction.redrive_of)
