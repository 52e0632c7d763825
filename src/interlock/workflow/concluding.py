"""Ends where there are other regions: when an intended one is a fact, and whose it is where two have the same payments.

Owns: what is read before that is decided, and the wait until it can be. Whose turn it is says `regions/rivals.py`; what
comes of it the stages.
"""

import asyncio
from collections.abc import Collection

from interlock.acks import Word
from interlock.errors import StoreUnavailable
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind, State, judge
from interlock.regions.doubles import Double
from interlock.regions.rivals import Rival, Turn, taken_turn, turn
from interlock.regions.rules import OnTakeover
from interlock.stages import matching, release, way
from interlock.transaction import Change, Transaction, home_of
from interlock.workflow.committing import Committing, Taken
from interlock.workflow.contents import Contents
from interlock.workflow.ground import Ground
from interlock.workflow.ownership import Ownership
from interlock.workflow.reading import Reading

#: Between two looks at what other regions have made of the same payments.
_LOOK_SECONDS = 0.02


class Concluding:
    """Brings ends about that other regions have a say in."""

    def __init__(
        self, ground: Ground, reading: Reading, contents: Contents, ownership: Ownership, committing: Committing
    ) -> None:
        """contents: looked at again where another end than the intended one is answered."""
        self._store = ground.store
        self._journal = ground.journal
        self._reading = reading
        self._contents = contents
        self._ownership = ownership
        self._committing = committing
        self._routes = ground.routes
        self._now = ground.now

    async def conclude(self, transaction: Transaction, word: Word, rivals: tuple[Rival, ...]) -> Transaction:
        """An end was intended, of all or some, and whoever could take over has it: make it a fact, if it is in time.

        rivals: others that have taken the same payments in another region, as looked up since `word` was found.
        """
        if transaction.standing.state is State.ENDING:
            return await self._conclude(transaction, word, rivals)
        return await self._conclude_some(transaction, word)

    async def _conclude(self, transaction: Transaction, word: Word, rivals: tuple[Rival, ...]) -> Transaction:
        async def apply(present: Transaction, _: Taken) -> Change | None:
            if present.standing.state is not State.ENDING:
                return None
            if present.version != transaction.version:
                self._committing.on_intent(present, None)  # another end is intended by now: that one has its own wait
                return None
            steps = await self._ownership.begin(present)
            if steps.transaction.epoch != word.epoch:
                self._committing.on_intent(present, word.position)  # the guards may be others now
                return None
            if present.standing.end is Status.ACSC:
                whose = turn(present.id, rivals, steps.now - present.updated_at)
                if release.is_late(present.deadline, steps.now) and not matching.asks(present):
                    way.expire(steps, self._routes.named(present.route))
                elif whose is Turn.WAIT:
                    self._committing.on_intent(present, None)  # looked at again with what comes meanwhile
                    return None
                elif whose is Turn.YIELD:
                    way.yield_to(steps, rivals)
            if steps.events:  # another end than the one that was intended
                return way.finish(steps, *await self._contents.facts(present))
            body = await self._reading.answer(present)
            return way.conclude(steps, None if body is None else body.definition, word.had)

        return await self._committing.pursue(transaction, apply)

    async def _conclude_some(self, intended: Transaction, word: Word) -> Transaction:
        """What was intended for some payments becomes a fact, unless it has with the end of the whole.

        intended: the transaction with that intent, which the peers have as `word` says.
        """

        async def apply(present: Transaction, _: Taken) -> Change | None:
            if present.standing.state is State.ENDING or present.standing.is_final:
                return None  # it becomes one with that end, or has
            steps = await self._ownership.begin(present)
            due = steps.apart.pending(intended.version)
            if not due:
                return None
            if steps.transaction.epoch != word.epoch:
                self._committing.on_intent(intended, word.position)  # the guards may be others now
                return None
            return way.part(steps, due, word.had)

        return await self._committing.pursue(intended, apply)

    async def take_turn(self, transaction: Transaction) -> Transaction:
        """The transaction, rejected where another region that has taken the same payments goes on with them.

        Asked once everybody has it, before it counts as taken; an intended end is looked at when it concludes.
        """
        began = self._now()

        async def give_way(present: Transaction, _: Taken) -> Change | None:
            steps = await self._ownership.begin(present)
            if present.standing.state is State.ENDING or not way.yield_to(steps, rivals):
                return None
            return way.finish(steps, *await self._contents.facts(present))

        while transaction.payments and not (
            transaction.standing.is_final or transaction.standing.state is State.ENDING
        ):
            rivals = await self._reading.rivals(transaction)
            match turn(transaction.id, rivals, self._now() - began):
                case Turn.GO:
                    break
                case Turn.YIELD:
                    return await self._committing.pursue(transaction, give_way)
            # Nothing tells when the others' end has come in: it is written by the database's own replication.
            await asyncio.sleep(_LOOK_SECONDS)
            transaction = await self._reading.get(None, transaction.id)
        return transaction

    async def take_over_from(
        self, transaction: Transaction, verdict: OnTakeover, epoch: int, members: Collection[int]
    ) -> Transaction:
        """Decide what a lost region has left behind, as its taker.

        epoch: this region's, as it was before it was seen that the takeover is under way. Raises StoreUnavailable where
        it is another one by now. members: regions that might have taken it over; without them it settled nothing. It
        comes back as it was where another has to settle first.
        """

        def counts(rival: Rival) -> bool:
            # Of two that both are ours to decide, the first is decided first.
            home = home_of(rival.transaction)
            guards = transaction.everywhere or home in members
            return guards and (rival.settled or home not in self._ownership.taken or rival.transaction < transaction.id)

        async def apply(present: Transaction, _: Taken) -> Change | None:
            if present.region != transaction.region or present.standing.is_final:
                return None  # it was decided already
            if self._store.post.epoch != epoch:
                raise StoreUnavailable("the region's epoch has changed; look again whether the takeover goes on")
            steps, route = await self._ownership.begin(present), self._routes.named(present.route)
            if present.standing.end is Status.ACSC:
                rivals = [one for one in await self._reading.rivals(present) if counts(one)]
                confirmed = {one.transaction for one in rivals if await self._was_confirmed(one, present.region)}
                match taken_turn(rivals, confirmed):
                    case Turn.WAIT:
                        return None
                    case Turn.YIELD if way.yield_to(steps, rivals):
                        return way.finish(steps, *await self._contents.facts(present))
            way.taken_over(steps, verdict.event, route)
            if present.standing.state is State.ENDING:
                body = await self._reading.answer(present)
                return way.ended_as_intended(steps, None if body is None else body.definition)
            return way.finish(steps, *await self._contents.facts(present))

        return await self._committing.pursue(transaction, apply)

    async def _was_confirmed(self, rival: Rival, region: int) -> bool:
        """Whether a region had a transaction before its end became a fact."""
        return rival.settled and way.confirmed(await self._journal.read(self._store.history, rival.transaction), region)

    async def note_double(self, double: Double) -> bool:
        """Another region's end contradicts one of ours: recorded once and flagged, and both are kept; whether it was.

        Where another region goes on with the transaction, that one records it.
        """
        recorded: bool

        async def apply(present: Transaction, _: Taken) -> Change | None:
            nonlocal recorded
            recorded = False
            if present.region != self._ownership.region or judge(present.standing, EventKind.ENDED_TWICE) is None:
                return None
            history = await self._journal.read(self._store.history, present.id)
            if any(e.kind is EventKind.ENDED_TWICE and e.detail == double.detail for e in history):
                return None
            steps = self._ownership.steps(present)
            steps.take(EventKind.ENDED_TWICE, note=double.note, detail=double.detail)
            recorded = True
            return Change(after=steps.transaction, events=steps.events, read=steps.read)

        await self._committing.pursue(await self._reading.get(None, double.transaction), apply)
        return recorded
