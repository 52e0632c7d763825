"""Messages as they come: an id for one that will be sent, the message for an id, or both in one call.

Owns: what is refused before it costs anything, what makes a call the same one again, and the commit with which a
message is taken. Must not know: HTTP, SQL, or what a status means. Long messages in files are taken by `bulk`.
"""

from collections.abc import Callable
from hashlib import sha256
from uuid import UUID

from msgspec import structs

from interlock.errors import DependencyError, DuplicateMismatch, EndedBefore, IllegalDecision, StoreUnavailable
from interlock.lifecycle import EventKind, State
from interlock.ports import IdempotencyTaken, KeysTaken, Refenced, Stale, Won
from interlock.routes import Consistency, Route
from interlock.stages import way
from interlock.stages.way import Arrival
from interlock.transaction import Change, Clock, Deadline, Idempotency, Transaction
from interlock.workflow.advancing import advance
from interlock.workflow.committing import TRIES, Committing, Decide, Taken
from interlock.workflow.contents import Contents
from interlock.workflow.controls import Controls
from interlock.workflow.ground import Ground
from interlock.workflow.ownership import Ownership
from interlock.workflow.reading import Reading, Recalled
from interlock.workflow.resuming import Resuming


class Receiving:
    """Takes messages."""

    def __init__(
        self,
        ground: Ground,
        reading: Reading,
        contents: Contents,
        controls: Controls,
        ownership: Ownership,
        committing: Committing,
        resuming: Resuming,
        new_id: Callable[[], UUID],
    ) -> None:
        """new_id: makes a UUIDv7 that carries the region."""
        self._store = ground.store
        self._journal = ground.journal
        self._memory = ground.memory
        self._reading = reading
        self._contents = contents
        self._controls = controls
        self._ownership = ownership
        self._committing = committing
        self._resuming = resuming
        self._routes = ground.routes
        self._now = ground.now
        self._new_id = new_id

    async def issue(
        self,
        client: str,
        *,
        announced: str | None = None,
        reference: str | None = None,
        consistency: Consistency | None = None,
    ) -> Transaction:
        """Give a client an id for a message that it will send."""
        route = self._routes.choose(client, announced)
        self._controls.admit(client, route)
        newborn = self.newborn(client, route, consistency, announced=announced, reference=reference)
        for _ in range(TRIES):
            change = way.issued(self._ownership.birth(newborn))
            if isinstance(await self._committing.commit(change), Won):
                return change.after
        raise StoreUnavailable("the region's epoch changes all the time; try again")

    async def receive(
        self, client: str, transaction_id: UUID, content: bytes, *, consistency: Consistency | None = None
    ) -> Transaction:
        """Take the message for an id; durable, and as far on its way as it can go, on return.

        Raises UnknownTransaction, DuplicateMismatch (another message came under this id before).
        """
        transaction = await self._reading.get(client, transaction_id, Recalled.ANYTHING)
        if transaction.standing.state is not State.ACCP:
            return await self._committing.pursue(transaction, self._repeated(content))
        inspection = await self._contents.inspect(content, client)
        route = self._routes.choose(client, inspection.definition)
        self._controls.refuse_if_stopped(client, route)
        arrival = Arrival(inspection=inspection, route=route, stopped=self._controls.holds(client, route))

        async def decide(present: Transaction, taken: Taken) -> Change | None:
            if present.standing.state is not State.ACCP:
                return await self._repeated(content)(present, taken)
            wanted = structs.replace(
                present, everywhere=present.everywhere or self._ownership.is_everywhere(route, consistency)
            )
            return advance(lambda: self._ownership.steps(wanted), structs.replace(arrival, taken=taken))

        transaction = await self._committing.pursue(transaction, decide)
        self._resuming.enquire(transaction, inspection)
        return transaction

    def _repeated(self, content: bytes) -> Decide:
        """A second message under one id must be the first again; that it came is recorded."""
        digest = sha256(content).digest()

        async def decide(present: Transaction, _: Taken) -> Change | None:
            if present.digest is None:
                raise EndedBefore(
                    f"{present.id} ended as {present.standing.status} before a message came; ask for a new id"
                )
            if present.digest != digest:
                raise DuplicateMismatch(f"{present.id} already has another message; ask for a new id")
            steps = self._ownership.steps(present)
            steps.take(EventKind.RECEIVED, actor=present.client, note="the same message again")
            return Change(after=steps.transaction, events=steps.events, read=steps.read)

        return decide

    async def submit(
        self,
        client: str,
        content: bytes,
        *,
        idempotency_key: str | None = None,
        reference: str | None = None,
        consistency: Consistency | None = None,
    ) -> Transaction:
        """Id and message in one call; durable, and as far on its way as it can go, on return.

        With an idempotency key the same call again gives the same transaction; raises DuplicateMismatch where the
        key came with another body.
        """
        claim = None
        if idempotency_key is not None:
            claim = Idempotency(key=idempotency_key, digest=sha256(content).digest())
        inspection = await self._contents.inspect(content, client)
        route = self._routes.choose(client, inspection.definition)
        try:
            self._controls.admit(client, route)
        except DependencyError:
            # What was taken before stays taken: its repetition is answered even while new work is refused.
            if claim is None:
                raise
            used = await self._journal.read(self._store.idempotent, client, claim.key)
            if used is None:
                raise
            return await self.again(client, used, claim)
        newborn = self.newborn(client, route, consistency, reference=reference)
        arrival = Arrival(
            inspection=inspection, route=route, stopped=self._controls.holds(client, route), idempotency=claim
        )
        outcome = await self.bear(newborn, arrival)
        if isinstance(outcome, IdempotencyTaken):
            assert claim is not None  # only a claim can be taken
            return await self.again(client, outcome, claim)
        self._resuming.enquire(outcome, inspection)
        return outcome

    async def again(self, client: str, used: IdempotencyTaken, claim: Idempotency) -> Transaction:
        """The transaction for which an idempotency key was used before. Raises DuplicateMismatch."""
        if used.digest != claim.digest:
            raise DuplicateMismatch("this idempotency key was used with another body; use a new key for a new message")
        return await self._reading.get(client, used.transaction, Recalled.END)

    # -- being born --

    def newborn(
        self,
        client: str,
        route: Route,
        consistency: Consistency | None = None,
        *,
        announced: str | None = None,
        reference: str | None = None,
        of: Transaction | None = None,
    ) -> Transaction:
        """A transaction that is not begun yet. of: the one that it drives again."""
        now = self._now()
        return Transaction(
            id=self._new_id(),
            client=client,
            region=self._ownership.region,
            route=route.name,
            standing=way.UNBORN,
            version=0,
            created_at=now,
            updated_at=now,
            deadline=Deadline(clock=Clock.SLA, at=now + route.sla),
            announced=announced,
            reference=reference,
            attempt=1 if of is None else of.attempt + 1,
            redrive_of=None if of is None else of.id,
            everywhere=self._ownership.is_everywhere(route, consistency) or (of is not None and of.everywhere),
        )

    async def bear(self, newborn: Transaction, arrival: Arrival) -> Transaction | IdempotencyTaken:
        """Commit a transaction that is born with its message."""
        taken: Taken = {}
        for _ in range(TRIES):
            change = advance(lambda: self._ownership.birth(newborn), structs.replace(arrival, taken=taken))
            outcome = await self._committing.commit(change)
            match outcome:
                case Won():
                    return change.after
                case KeysTaken() if arrival.root is not None:
                    holder = outcome.taken[0][1]
                    raise IllegalDecision(f"a payment in it was sent again as {holder}; nothing was driven")
                case KeysTaken():
                    taken = {**taken, **dict(outcome.taken)}
                case IdempotencyTaken():
                    return outcome
                case Refenced():
                    continue
                case Stale():
                    self._memory.forget(change.original.after.id if change.original else change.after.id)
                    raise IllegalDecision("the transaction to be driven again has just changed; look at it once more")
        raise StoreUnavailable("too many others race for the same keys; try again")
