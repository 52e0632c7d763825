"""Driving again: a new transaction over the archived bytes of one that came to nothing.

Owns: which attempt is meant, and what of it is left out. What may be driven again is `redrive.py`'s.
"""

from uuid import UUID

from interlock import redrive
from interlock.apart import named_alone
from interlock.errors import IllegalDecision
from interlock.lifecycle import EventKind
from interlock.stages import way
from interlock.stages.way import Arrival
from interlock.transaction import BodyKind, Change, Payment, Transaction
from interlock.workflow.contents import Contents
from interlock.workflow.controls import Controls
from interlock.workflow.ground import Ground
from interlock.workflow.ownership import Ownership
from interlock.workflow.reading import Reading
from interlock.workflow.receiving import Receiving


class Driving:
    """Drives transactions again."""

    def __init__(
        self,
        ground: Ground,
        reading: Reading,
        contents: Contents,
        controls: Controls,
        ownership: Ownership,
        receiving: Receiving,
    ) -> None:
        """receiving: makes the new attempt, and takes its message as if it came again."""
        self._store = ground.store
        self._journal = ground.journal
        self._reading = reading
        self._contents = contents
        self._controls = controls
        self._ownership = ownership
        self._receiving = receiving
        self._routes = ground.routes

    async def again(self, client: str | None, transaction_id: UUID, actor: str) -> Transaction:
        """Drive the payments of a cancelled or retryably rejected transaction again; the new transaction.

        The newest attempt is the one that is driven again. Raises IllegalDecision where that must not be.
        """
        original = await self._newest(client, transaction_id)
        left_out = await self._left_out(original)
        inspection, _ = await self._contents.facts(original)
        assert inspection is not None  # what is drivable has a message
        root = await self._reading.root(original)
        route = self._routes.choose(original.client, original.definition)
        self._controls.admit(original.client, route)
        newborn = self._receiving.newborn(original.client, route, reference=original.reference, of=original)
        told = self._ownership.steps(original)
        told.take(EventKind.REDRIVEN, actor=actor, note=f"as {newborn.id}", redriven_as=newborn.id)
        change = Change(after=told.transaction, events=told.events, read=told.read)
        arrival = Arrival(
            inspection=inspection,
            route=route,
            stopped=self._controls.holds(original.client, route),
            refused=way.left_out(left_out),
            root=root.id,
            original=await self._ownership.whole(original, change),
        )
        outcome = await self._receiving.bear(newborn, arrival)
        assert isinstance(outcome, Transaction)  # a redrive has no idempotency key to lose
        return outcome

    async def _newest(self, client: str | None, transaction_id: UUID) -> Transaction:
        original = await self._reading.get(client, transaction_id)
        while original.redriven_as is not None:
            original = await self._reading.get(client, original.redriven_as)
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
            attempt = await self._reading.attempt_before(attempt)
        return redrive.left_out(await self._journal.read(self._store.payments, original.id), apart)
