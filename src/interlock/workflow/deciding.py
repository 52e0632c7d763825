"""Decisions of consumers and operators: on a transaction as a whole, or on some of its payments.

Owns: reading what a decision is judged by, and the wait until the end of some payments is a fact. What may be decided
is `decisions.py`'s, what comes of it the stages'.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from uuid import UUID

from interlock import apart, decisions
from interlock.decisions import Decision, DecisionKind, Verdict
from interlock.errors import IllegalDecision
from interlock.lifecycle import EventKind
from interlock.stages import way
from interlock.transaction import Change, Transaction
from interlock.workflow.committing import Committing, Taken
from interlock.workflow.contents import Contents
from interlock.workflow.ground import Ground
from interlock.workflow.ownership import Ownership
from interlock.workflow.reading import Reading

#: How long a caller's decision on some payments waits for the peers' word.
FACT_SECONDS = 5.0
#: A message with more payments that has ended undecided is not gone through for the few that a decision names.
_LONG = 10_000


class Deciding:
    """Takes decisions."""

    def __init__(
        self,
        ground: Ground,
        reading: Reading,
        contents: Contents,
        ownership: Ownership,
        committing: Committing,
        take_up: Callable[[Transaction], Awaitable[object]],
    ) -> None:
        """take_up: lets the stages go on with a transaction."""
        self._store = ground.store
        self._journal = ground.journal
        self._memory = ground.memory
        self._reading = reading
        self._contents = contents
        self._ownership = ownership
        self._committing = committing
        self._routes = ground.routes
        self._take_up = take_up

    async def decide(
        self, client: str | None, transaction_id: UUID, decision: Decision, *, patience: float = FACT_SECONDS
    ) -> Transaction:
        """Apply a consumer's or operator's decision; the transaction as it stands after it.

        client: None for an operator. patience: how many seconds an end of some payments may take to become a fact; then
        it is told as it stands. Raises RequestError where it is not clear what is meant, IllegalDecision where it is
        too late, or another decision stands.
        """
        transaction = await self._reading.get(client, transaction_id)
        decision = decisions.checked(decision)
        if decision.payments is not None:
            return await self._decide_on_some(transaction, decision, patience)

        async def apply(present: Transaction, _: Taken) -> Change | None:
            route = self._routes.named(present.route)
            history = await self._journal.read(self._store.history, present.id)
            kind = decisions.event_for(present, decision, route, history)
            return None if kind is None else await self._change(present, kind, decision, ())

        transaction = await self._committing.pursue(transaction, apply, in_turn=True)
        if decision.kind is DecisionKind.ACCEPT:
            _refuse_if_late(transaction, decision)
        if decision.kind is DecisionKind.RETRY:
            await self._take_up(transaction)
            transaction = await self._reading.known(transaction)
        return transaction

    async def _decide_on_some(self, transaction: Transaction, decision: Decision, patience: float) -> Transaction:
        verdict = Verdict(None, ())

        async def apply(present: Transaction, _: Taken) -> Change | None:
            nonlocal verdict
            history = await self._journal.read(self._store.history, present.id)
            if present.standing.is_final and present.payments > _LONG and not decisions.were_made(history):
                raise IllegalDecision(
                    f"{decision.kind} is not possible: {present.id} is {present.standing.status}, and that is final"
                )
            payments = await self._journal.read(self._store.payments, present.id)
            verdict = decisions.on_some(present, decision, payments, history)
            if verdict.event is None:
                return None
            # Where some have ended by themselves before, so have those that are named last.
            alone = verdict.ends or (verdict.named if apart.fold(history, present).decided else ())
            return await self._change(present, verdict.event, decision, alone)

        with self._memory.fact_waiter(transaction.id) as told:
            transaction = await self._committing.pursue(transaction, apply, in_turn=True)
            if verdict.event is not None:
                _refuse_if_late(transaction, decision)
            return await self._until_fact(transaction, verdict, told, patience)

    async def _until_fact(
        self, transaction: Transaction, verdict: Verdict, told: asyncio.Event, patience: float
    ) -> Transaction:
        history = await self._journal.read(self._store.history, transaction.id)
        if set(verdict.named).isdisjoint(apart.fold(history, transaction).pending()):
            return transaction
        if verdict.event is None:
            # Whoever intended it may be gone: as often as it is decided again, somebody sees to it.
            self._committing.on_intent(transaction, None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await told.wait()
        return await self._reading.known(transaction)

    async def _change(
        self, present: Transaction, kind: EventKind, decision: Decision, alone: tuple[int, ...]
    ) -> Change:
        """alone: the payments that the decision ends by themselves."""
        steps = await self._ownership.begin(present)
        way.decided(steps, kind, decision, self._routes.named(present.route), alone)
        # The message is gone through again only where its answer is due.
        return way.finish(steps, *(await self._contents.facts(present) if steps.ends else (None, ())))


def _refuse_if_late(transaction: Transaction, decision: Decision) -> None:
    """What was decided came to nothing where the clock was first."""
    if transaction.code == way.TIMED_OUT:
        raise IllegalDecision(f"{decision.kind} came too late: the time ran out, {transaction.id} is rejected")
