"""Decisions of consumers and operators: on a transaction as a whole, or on some of its payments.

Owns: reading what a decision is judged by, and the wait until the end of some payments is a fact. What may be decided
is `decisions.py`'s, what comes of it the stages'.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import UUID
from weakref import WeakValueDictionary

from interlock import apart, decisions
from interlock.acks import Word
from interlock.decisions import Decision, DecisionKind, Verdict
from interlock.errors import IllegalDecision
from interlock.journal import Journal
from interlock.lifecycle import EventKind, State
from interlock.ports import Store
from interlock.routes import Route
from interlock.stages import way
from interlock.stages.facts import Inspection
from interlock.stages.steps import Steps
from interlock.transaction import Change, Key, Payment, Transaction

#: How long a caller's decision on some payments waits for the peers' word.
FACT_SECONDS = 5.0
#: A message with more payments that has ended undecided is not gone through for the few that a decision names.
_LONG = 10_000

_Apply = Callable[[Transaction, dict[Key, UUID]], Awaitable[Change | None]]


class Means(NamedTuple):
    """What is done with transactions, which is the workflow's."""

    #: Decides and commits until that is won, or there is nothing to do.
    pursue: Callable[[Transaction, _Apply], Awaitable[Transaction]]
    begin: Callable[[Transaction], Awaitable[Steps]]
    facts: Callable[[Transaction], Awaitable[tuple[Inspection | None, tuple[Payment, ...]]]]
    route: Callable[[Transaction], Route]
    #: Lets the stages go on with it.
    take_up: Callable[[Transaction], Awaitable[object]]
    #: As it stands, if that can be found out.
    known: Callable[[Transaction], Awaitable[Transaction]]
    #: An end is intended, and where in the log; None: some time before.
    on_intent: Callable[[Transaction, int | None], None]


class Deciding:
    """Takes decisions."""

    def __init__(self, store: Store, journal: Journal, means: Means) -> None:
        self._store = store
        self._journal = journal
        self._means = means
        #: Who waits for the end of some payments, by transaction.
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        #: Of a transaction on which several decide at once, one after the other: all but the first would only find that
        #: it has changed, and go through it again.
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def decide(self, transaction: Transaction, decision: Decision, patience: float) -> Transaction:
        """Apply a decision; the transaction as it stands after it. Raises RequestError, IllegalDecision.

        patience: how many seconds an end of some payments may take to become a fact; then it is told as it stands.
        """
        decision = decisions.checked(decision)
        if decision.payments is not None:
            return await self._decide_on_some(transaction, decision, patience)

        async def apply(present: Transaction, _: dict[Key, UUID]) -> Change | None:
            route = self._means.route(present)
            history = await self._journal.read(self._store.history, present.id)
            kind = decisions.event_for(present, decision, route, history)
            return None if kind is None else await self._change(present, kind, decision, ())

        transaction = await self._pursue(transaction, apply)
        if decision.kind is DecisionKind.ACCEPT:
            _refuse_if_late(transaction, decision)
        if decision.kind is DecisionKind.RETRY:
            await self._means.take_up(transaction)
            transaction = await self._means.known(transaction)
        return transaction

    async def _decide_on_some(self, transaction: Transaction, decision: Decision, patience: float) -> Transaction:
        verdict = Verdict(None, ())

        async def apply(present: Transaction, _: dict[Key, UUID]) -> Change | None:
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

        told = asyncio.Event()
        waiting = self._waiting.setdefault(transaction.id, set())
        waiting.add(told)
        try:
            transaction = await self._pursue(transaction, apply)
            if verdict.event is not None:
                _refuse_if_late(transaction, decision)
            return await self._until_fact(transaction, verdict, told, patience)
        finally:
            waiting.discard(told)
            if not waiting:
                self._waiting.pop(transaction.id, None)

    async def _pursue(self, transaction: Transaction, apply: _Apply) -> Transaction:
        turn = self._turns.setdefault(transaction.id, asyncio.Lock())
        waits = turn.locked()
        async with turn:
            return await self._means.pursue(await self._means.known(transaction) if waits else transaction, apply)

    async def _until_fact(
        self, transaction: Transaction, verdict: Verdict, told: asyncio.Event, patience: float
    ) -> Transaction:
        history = await self._journal.read(self._store.history, transaction.id)
        if set(verdict.named).isdisjoint(apart.fold(history, transaction).pending()):
            return transaction
        if verdict.event is None:
            # Whoever intended it may be gone: as often as it is decided again, somebody sees to it.
            self._means.on_intent(transaction, None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await told.wait()
        return await self._means.known(transaction)

    async def _change(
        self, present: Transaction, kind: EventKind, decision: Decision, alone: tuple[int, ...]
    ) -> Change:
        """alone: the payments that the decision ends by themselves."""
        steps = await self._means.begin(present)
        way.decided(steps, kind, decision, self._means.route(present), alone)
        # The message is gone through again only where its answer is due.
        return way.finish(steps, *(await self._means.facts(present) if steps.ends else (None, ())))

    def note(self, change: Change) -> None:
        """A change was committed: whoever waits for what it makes a fact is told."""
        if self._waiting and (change.ended or change.after.standing.is_final):
            for event in self._waiting.get(change.after.id, ()):
                event.set()

    async def conclude(self, intended: Transaction, word: Word) -> Transaction:
        """What was intended for some payments becomes a fact, unless it has with the end of the whole.

        intended: the transaction with that intent, which the peers have as `word` says.
        """

        async def apply(present: Transaction, _: dict[Key, UUID]) -> Change | None:
            if present.standing.state is State.ENDING or present.standing.is_final:
                return None  # it becomes one with that end, or has
            steps = await self._means.begin(present)
            due = steps.apart.pending(intended.version)
            if not due:
                return None
            if steps.transaction.epoch != word.epoch:
                self._means.on_intent(intended, word.position)  # the guards may be others now
                return None
            return way.part(steps, due, word.had)

        return await self._means.pursue(intended, apply)


def _refuse_if_late(transaction: Transaction, decision: Decision) -> None:
    """What was decided came to nothing where the clock was first."""
    if transaction.code == way.TIMED_OUT:
        raise IllegalDecision(f"{decision.kind} came too late: the time ran out, {transaction.id} is rejected")
