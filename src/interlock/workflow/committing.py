"""The order of reading, deciding and committing: one change at a time, decided anew for as long as others are faster.

Each commit names the version that it was decided on, so the store stays the truth; what was won is kept in mind here
and told to whoever waits for it.

Owns: what is done when a race is lost, and what follows from a commit. What is decided is its callers'.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID
from weakref import WeakValueDictionary

from interlock.apart import INTENTS
from interlock.errors import StoreUnavailable
from interlock.lifecycle import State
from interlock.ports import KeysTaken, Outcome, Refenced, Won
from interlock.stages import way
from interlock.transaction import BodyKind, Change, Deadline, Key, Transaction
from interlock.workflow.contents import Contents
from interlock.workflow.ground import Ground
from interlock.workflow.halfway import HalfWay
from interlock.workflow.ownership import Ownership
from interlock.workflow.reading import Reading
from interlock.workflow.traces import told

if TYPE_CHECKING:
    from interlock.tracing import Tracing

#: How often a step is decided anew after losing a race; each loss means that somebody else got on.
TRIES = 8

#: Keys known to be taken, and by which transaction.
Taken = dict[Key, UUID]
#: Decides on the present transaction and the keys known to be taken; None: there is nothing to do.
Decide = Callable[[Transaction, Taken], Awaitable[Change | None]]


class Committing:
    """Commits what is decided."""

    def __init__(
        self, ground: Ground, reading: Reading, contents: Contents, ownership: Ownership, halfway: HalfWay
    ) -> None:
        """halfway: told of all that is won."""
        self._journal = ground.journal
        self._memory = ground.memory
        self._reading = reading
        self._contents = contents
        self._ownership = ownership
        self._halfway = halfway
        self._traces = ground.traces
        self._now = ground.now
        #: Of a transaction that several want to change at once: they go one after the other.
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        #: Called with each deadline that a commit has set.
        self.on_deadline: Callable[[Deadline], None] = lambda _: None
        #: Called with each transaction whose end is intended, and where that was committed; None: some time before.
        self.on_intent: Callable[[Transaction, int | None], None] = lambda *_: None

    async def pursue(self, transaction: Transaction, decide: Decide, *, in_turn: bool = False) -> Transaction:
        """Decide and commit, until it is won or there is nothing left to decide.

        Whoever has lost a race waits for its turn with this transaction before it tries again, so that nobody, least of
        all a clock, loses to ever new ones. in_turn: from the beginning, since many may come at the same moment.
        Raises StoreUnavailable where other processes are always faster.
        """
        taken: Taken = {}
        if not in_turn:
            is_done, transaction = await self._attempt(transaction, decide, taken)
            if is_done:
                return transaction
        turn = self._turns.setdefault(transaction.id, asyncio.Lock())
        waits = turn.locked()
        async with turn:
            if waits:
                transaction = await self._reading.get(None, transaction.id)
            for _ in range(TRIES):
                is_done, transaction = await self._attempt(transaction, decide, taken)
                if is_done:
                    return transaction
        raise StoreUnavailable(f"too many others change {transaction.id}; try again")

    async def _attempt(self, transaction: Transaction, decide: Decide, taken: Taken) -> tuple[bool, Transaction]:
        """Whether nothing is left to do, and the transaction as it stands; what keys are taken is added."""
        change = await self._yield(transaction) or await decide(transaction, taken)
        if change is None:
            return True, transaction
        change = await self._ownership.whole(transaction, change)
        outcome = await self.commit(change)
        match outcome:
            case Won():
                return True, change.after
            case Refenced():
                return False, transaction
            case KeysTaken():
                taken |= dict(outcome.taken)
                return False, transaction
            case _:
                self._memory.forget(transaction.id)
                return False, await self._reading.get(None, transaction.id)

    async def _yield(self, present: Transaction) -> Change | None:
        """What began before this region was lost gives way to whatever took the same payments elsewhere meanwhile."""
        if not self._ownership.is_of_before(present):
            return None
        rivals = await self._reading.rivals(present)
        steps = await self._ownership.begin(present)
        if not rivals or not way.yield_to(steps, rivals):
            return None
        return way.finish(steps, *await self._contents.facts(present))

    def commit(self, change: Change) -> Awaitable[Outcome]:
        """Commit one change; whether it is won."""
        if self._traces.tracing is not None:
            return self._commit_traced(self._traces.tracing, change)
        return self._journal.commit(change, lambda position: self._remember(change, position))

    async def _commit_traced(self, tracing: "Tracing", change: Change) -> Outcome:
        after = change.after
        brings = change.read == 0 or any(body.kind is BodyKind.INBOX for body in change.bodies)
        with tracing.step("commit", after.id, told(after), brings=brings, instead_of=after.redrive_of) as span:

            def won(position: int) -> None:
                # Of this batch: the next one is not begun before all of it have been told.
                writes, seconds = self._journal.tally.recent[-1]
                span.set_attributes({"interlock.batch.writes": writes, "interlock.batch.seconds": seconds})
                self._remember(change, position)

            outcome = await self._journal.commit(change, won)
            span.set_attribute("interlock.outcome", type(outcome).__name__)
            return outcome

    def _remember(self, change: Change, position: int) -> None:
        if position:
            self._memory.place(change.after, position)
        if change.after.standing.state is State.ENDING or any(event.kind in INTENTS for event in change.events):
            self.on_intent(change.after, position)
        if self._memory.keep(change):
            self._memory.lasted.add(change.after.standing.status or "", self._now() - change.after.created_at)
        self._halfway.note(change.after)
        deadline = change.after.deadline
        if deadline is not None:
            self.on_deadline(deadline)
