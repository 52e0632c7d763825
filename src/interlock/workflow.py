"""Transactions as the faces see them: submit, decide, drive again, read. Joins the pure core with the journal.

Every method reads what it needs, lets the stages decide, and commits one change; when it loses a race it reads again.
What is in flight or has just ended is kept in mind, so that the happy way never asks the store; the store stays the
truth, for each commit names the version that it was decided on.

Owns: the order of reading, deciding and committing. Must not know: HTTP, SQL, or what a status means.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

import structlog
from msgspec import structs

from interlock import decisions, redrive
from interlock.clock import Now
from interlock.decisions import Decision, DecisionKind
from interlock.errors import (
    DependencyError,
    DuplicateMismatch,
    EndedBefore,
    IllegalDecision,
    InterlockError,
    NoAnswer,
    Stopped,
    StoreUnavailable,
    TooManyInFlight,
    UnknownTransaction,
)
from interlock.inspection import Inspector
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.schemas import Catalogue
from interlock.journal import Journal
from interlock.lifecycle import EventKind, State, judge
from interlock.memory import Memory
from interlock.ports import (
    Control,
    ControlScope,
    DeliveryUpdate,
    IdempotencyTaken,
    KeysTaken,
    Outcome,
    Page,
    Query,
    Stale,
    Store,
    Won,
)
from interlock.routes import Route, Routes, WhenStopped
from interlock.stages import deliver, way
from interlock.stages.facts import Inspection
from interlock.stages.outcomes import Refusal
from interlock.stages.steps import Steps
from interlock.stages.way import TIMED_OUT, Arrival
from interlock.transaction import (
    Body,
    BodyKind,
    Change,
    Clock,
    Deadline,
    DeliveryState,
    Event,
    Idempotency,
    Key,
    Payment,
    Transaction,
)

_log = structlog.get_logger()

#: How often a step is decided anew after losing a race; each loss means that somebody else got on.
_TRIES = 8

_Taken = dict[Key, UUID]
#: Decides on the present transaction and the keys known to be taken; None: there is nothing to do.
_Decide = Callable[[Transaction, _Taken], Awaitable[Change | None]]


class Answered(NamedTuple):
    """A transaction, and its answer where it has one."""

    transaction: Transaction
    answer: Body | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator has configured for transactions."""

    routes: Routes
    limits: Limits
    #: Number of this region, which every id carries.
    region: int
    #: Transactions without an end that one client may have.
    in_flight_max: int


class Workflow:
    """The main job."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        catalogue: Catalogue,
        settings: Settings,
        *,
        now: Now,
        new_id: Callable[[], UUID],
    ) -> None:
        """new_id: makes a UUIDv7 that carries the region."""
        self._store = store
        self._journal = journal
        self._settings = settings
        self.inspector = Inspector(catalogue, settings.limits)
        self._routes = settings.routes
        self.now = now
        self._new_id = new_id
        self.memory = Memory()
        self._controls: dict[tuple[ControlScope, str], Control] = {}
        #: Transactions that tripped over a mistake of ours since the start.
        self.parked = 0
        #: Called with each deadline that a commit has set.
        self.on_deadline: Callable[[Deadline], None] = lambda _: None

    # -- starting --

    async def load(self) -> None:
        """What must be known before the first request: the operator's orders and what is in flight."""
        for control in await self._journal.read(self._store.controls):
            self._controls[control.scope, control.name] = control
        after = 0
        while page := await self._journal.read(self._store.in_flight, after, 1000):
            self.memory.in_flight.update(transaction.client for _, transaction in page)
            after = page[-1][0]

    async def resume(self) -> int:
        """Take up whatever was under way when the last process ended, or was held back by an operator; how many."""
        after, resumed = 0, 0
        while page := await self._journal.read(self._store.in_flight, after, 500):
            after = page[-1][0]
            taken_up = await asyncio.gather(*(self._take_up(transaction) for _, transaction in page))
            resumed += sum(taken_up)
        return resumed

    async def _take_up(self, transaction: Transaction) -> bool:
        """Go on with one; what waits for somebody, or for its clock, is left alone."""
        route = self._routes.named(transaction.route)
        if transaction.standing.state not in (State.ACTC, State.ACSP) or self._stop(transaction.client, route):
            return False
        try:
            await self._pursue(transaction, self._go_on)
        except InterlockError as exc:
            _log.warning("not resumed", transaction=str(transaction.id), error=str(exc))
            return False
        except Exception as exc:  # noqa: BLE001 - one that cannot go on must not keep the others from it
            await self.park(transaction, exc)
            return False
        return True

    async def park(self, transaction: Transaction, exc: Exception) -> None:
        """Our own mistake keeps this one from going on: record it and alert.

        Its deadline stays: moved, it would let a later retry release what is already too late.
        """
        _log.error("parked", transaction=str(transaction.id), exc_info=exc)
        self.parked += 1

        async def apply(present: Transaction, _: _Taken) -> Change | None:
            if judge(present.standing, EventKind.STAGE_FAULT) is None or present.deadline is None:
                return None
            steps = Steps(present, self.now())
            steps.take(EventKind.STAGE_FAULT, note=f"failed: {type(exc).__name__}", flagged=True)
            return Change(after=steps.transaction, events=steps.events, read=steps.read)

        try:
            await self._pursue(transaction, apply)
        except InterlockError as failure:
            _log.warning("not parked", transaction=str(transaction.id), error=str(failure))

    # -- submitting --

    async def issue(self, client: str, *, announced: str | None = None, reference: str | None = None) -> Transaction:
        """Give a client an id for a message that it will send."""
        route = self._routes.choose(client, announced)
        self._admit(client, route)
        newborn = self._newborn(client, route, announced=announced, reference=reference)
        change = way.issued(way.issue(newborn, newborn.created_at))
        await self._commit(change)
        return change.after

    async def receive(self, client: str, transaction_id: UUID, content: bytes) -> Transaction:
        """Take the message for an id; durable, and as far on its way as it can go, on return.

        Raises UnknownTransaction, DuplicateMismatch (another message came under this id before).
        """
        transaction = await self._own(client, transaction_id)
        if transaction.standing.state is not State.ACCP:
            return await self._pursue(transaction, self._repeated(content))
        inspection = await self._inspect(content)
        route = self._routes.choose(client, inspection.definition)
        self._refuse_if_stopped(client, route)
        arrival = Arrival(inspection=inspection, route=route, stopped=self._stop(client, route))

        async def decide(present: Transaction, taken: _Taken) -> Change | None:
            if present.standing.state is not State.ACCP:
                return await self._repeated(content)(present, taken)
            return self._advance(lambda: Steps(present, self.now()), structs.replace(arrival, taken=taken))

        return await self._pursue(transaction, decide)

    def _repeated(self, content: bytes) -> _Decide:
        """A second message under one id must be the first again; that it came is recorded."""
        digest = sha256(content).digest()

        async def decide(present: Transaction, _: _Taken) -> Change | None:
            if present.digest is None:
                raise EndedBefore(
                    f"{present.id} ended as {present.standing.status} before a message came; ask for a new id"
                )
            if present.digest != digest:
                raise DuplicateMismatch(f"{present.id} already has another message; ask for a new id")
            steps = Steps(present, self.now())
            steps.take(EventKind.RECEIVED, actor=present.client, note="the same message again")
            return Change(after=steps.transaction, events=steps.events, read=steps.read)

        return decide

    async def submit(
        self, client: str, content: bytes, *, idempotency_key: str | None = None, reference: str | None = None
    ) -> Transaction:
        """Id and message in one call; durable, and as far on its way as it can go, on return.

        With an idempotency key the same call again gives the same transaction; raises DuplicateMismatch where the
        key came with another body.
        """
        claim = None
        if idempotency_key is not None:
            claim = Idempotency(key=idempotency_key, digest=sha256(content).digest())
        inspection = await self._inspect(content)
        route = self._routes.choose(client, inspection.definition)
        try:
            self._admit(client, route)
        except DependencyError:
            # What was taken before stays taken: its repetition is answered even while new work is refused.
            if claim is None:
                raise
            used = await self._journal.read(self._store.idempotent, client, claim.key)
            if used is None:
                raise
            return await self._again(client, used, claim)
        newborn = self._newborn(client, route, reference=reference)
        arrival = Arrival(inspection=inspection, route=route, stopped=self._stop(client, route), idempotency=claim)
        outcome = await self._bear(newborn, arrival)
        if isinstance(outcome, IdempotencyTaken):
            assert claim is not None  # only a claim can be taken
            return await self._again(client, outcome, claim)
        return outcome

    async def _again(self, client: str, used: IdempotencyTaken, claim: Idempotency) -> Transaction:
        if used.digest != claim.digest:
            raise DuplicateMismatch("this idempotency key was used with another body; use a new key for a new message")
        return await self._own(client, used.transaction)

    async def _bear(self, newborn: Transaction, arrival: Arrival) -> Transaction | IdempotencyTaken:
        """Commit a transaction that is born with its message."""
        taken: _Taken = {}
        for _ in range(_TRIES):
            change = self._advance(
                lambda: way.issue(newborn, newborn.created_at), structs.replace(arrival, taken=taken)
            )
            outcome = await self._commit(change)
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
                case Stale():
                    raise IllegalDecision("the transaction to be driven again has just changed; look at it once more")
        raise StoreUnavailable("too many others race for the same keys; try again")

    def _advance(self, begin: Callable[[], Steps], arrival: Arrival) -> Change:
        """The stages' change; where they fail by our own mistake the message is kept and held for an operator."""
        failure = arrival.inspection.failure
        if failure is not None:
            return way.fault(begin(), arrival, f"the message could not be inspected: {failure}")
        steps = begin()
        try:
            return way.advance(steps, arrival, steps.now)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the message must not be lost
            _log.exception("stage failed", transaction=str(steps.transaction.id))
            return way.fault(begin(), arrival, f"a stage failed: {type(exc).__name__}")

    def _newborn(
        self,
        client: str,
        route: Route,
        *,
        announced: str | None = None,
        reference: str | None = None,
        of: Transaction | None = None,
    ) -> Transaction:
        now = self.now()
        return Transaction(
            id=self._new_id(),
            client=client,
            region=self._settings.region,
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
        )

    async def _inspect(self, content: bytes) -> Inspection:
        return await self.inspector.inspect(content, self.now().date())

    # -- admission --

    def _admit(self, client: str, route: Route) -> None:
        """Refuse new work before it costs anything: stopped, or too much in flight."""
        self._refuse_if_stopped(client, route)
        if self.memory.in_flight[client] >= self._settings.in_flight_max:
            raise TooManyInFlight(f"{self._settings.in_flight_max} transactions are in flight; wait for some to end")

    def _refuse_if_stopped(self, client: str, route: Route) -> None:
        if self._stop(client, route) and route.when_stopped is WhenStopped.REFUSE:
            raise Stopped("an operator has stopped this route or client; nothing was stored, try again later")

    def _stop(self, client: str, route: Route) -> bool:
        orders = (
            self._controls.get((ControlScope.ROUTE, route.name)),
            self._controls.get((ControlScope.CLIENT, client)),
        )
        return any(order is not None and order.stopped for order in orders)

    async def control(self, order: Control) -> int:
        """Stop or resume a route or client; how many transactions go on because of it."""
        await self._journal.commit(order, lambda: self._controls.update({(order.scope, order.name): order}))
        return 0 if order.stopped else await self.resume()

    @property
    def controls(self) -> tuple[Control, ...]:
        """The orders that stand."""
        return tuple(self._controls.values())

    # -- deciding --

    async def decide(self, client: str | None, transaction_id: UUID, decision: Decision) -> Transaction:
        """Apply a consumer's or operator's decision; the transaction as it stands after it.

        client: None for an operator. Raises IllegalDecision where it is too late, or another decision stands.
        """
        decision = decisions.checked(decision)
        transaction = await self._own(client, transaction_id)

        async def apply(present: Transaction, _: _Taken) -> Change | None:
            route = self._routes.named(present.route)
            history = await self._journal.read(self._store.history, present.id)
            kind = decisions.event_for(present, decision, route, history)
            if kind is None:
                return None
            inspection, payments = await self._facts(present)
            steps = Steps(present, self.now())
            way.decided(steps, kind, decision, route)
            return way.finish(steps, inspection, payments)

        transaction = await self._pursue(transaction, apply)
        if decision.kind is DecisionKind.ACCEPT and transaction.code == TIMED_OUT:
            raise IllegalDecision(f"accept came too late: the time ran out, {transaction.id} is rejected")
        if decision.kind is DecisionKind.RETRY:
            await self._take_up(transaction)
            transaction = await self._own(client, transaction_id)
        return transaction

    async def redrive(self, client: str | None, transaction_id: UUID, actor: str) -> Transaction:
        """Drive the payments of a cancelled or retryably rejected transaction again; the new transaction.

        The newest attempt is the one that is driven again. Raises IllegalDecision where that must not be.
        """
        original = await self._own(client, transaction_id)
        while original.redriven_as is not None:
            original = await self._own(client, original.redriven_as)
        redrive.refuse_unless_drivable(original)
        inspection, _ = await self._facts(original)
        assert inspection is not None  # what is drivable has a message
        root = await self._root(original)
        route = self._routes.choose(original.client, original.definition)
        self._admit(original.client, route)
        newborn = self._newborn(original.client, route, reference=original.reference, of=original)
        told = Steps(original, newborn.created_at)
        told.take(EventKind.REDRIVEN, actor=actor, note=f"as {newborn.id}", redriven_as=newborn.id)
        arrival = Arrival(
            inspection=inspection,
            route=route,
            stopped=self._stop(original.client, route),
            root=root,
            original=Change(after=told.transaction, events=told.events, read=told.read),
        )
        outcome = await self._bear(newborn, arrival)
        assert isinstance(outcome, Transaction)  # a redrive has no idempotency key to lose
        return outcome

    async def _root(self, transaction: Transaction) -> UUID:
        while transaction.redrive_of is not None:
            transaction = await self._own(None, transaction.redrive_of)
        return transaction.id

    async def expire(self, transaction: Transaction) -> Transaction:
        """The transaction's clock has run out: apply what that means, if it still does."""

        async def apply(present: Transaction, _: _Taken) -> Change | None:
            now = self.now()
            if present.deadline is None or present.deadline.at > now:
                return None  # it ended, or another clock runs now
            inspection, payments = await self._facts(present)
            steps = Steps(present, now)
            way.expire(steps, self._routes.named(present.route))
            return way.finish(steps, inspection, payments)

        return await self._pursue(transaction, apply)

    async def _go_on(self, present: Transaction, taken: _Taken) -> Change | None:
        """Take up a transaction that a crash or an operator left half-way."""
        if present.standing.state not in (State.ACTC, State.ACSP):
            return None
        route = self._routes.named(present.route)
        inspection, payments = await self._facts(present)
        assert inspection is not None  # both states have a message
        if present.standing.state is State.ACSP:
            steps = Steps(present, self.now())
            way.settle(steps, route, steps.now)
            return way.finish(steps, inspection, payments)
        root = None if present.redrive_of is None else await self._root(present)
        refused = {
            payment.ordinal: Refusal(reason=payment.reason or "NARR", note="refused when the message was received")
            for payment in payments
            if payment.status is Status.RJCT
        }
        arrival = Arrival(inspection=inspection, route=route, taken=taken, refused=refused, root=root)
        return self._advance(lambda: Steps(present, self.now()), arrival)

    async def _facts(self, transaction: Transaction) -> tuple[Inspection | None, tuple[Payment, ...]]:
        """The message received, looked at again, and its payments as they stand."""
        if transaction.digest is None:
            return None, ()
        body = await self._journal.read(self._store.message, transaction.id, BodyKind.INBOX)
        assert body is not None  # its digest was committed with it
        payments = await self._journal.read(self._store.payments, transaction.id)
        return await self._inspect(body.content), payments

    async def _pursue(self, transaction: Transaction, decide: _Decide) -> Transaction:
        """Decide and commit, until it is won or there is nothing left to decide."""
        taken: _Taken = {}
        for _ in range(_TRIES):
            change = await decide(transaction, taken)
            if change is None:
                return transaction
            outcome = await self._commit(change)
            match outcome:
                case Won():
                    return change.after
                case KeysTaken():
                    taken = {**taken, **dict(outcome.taken)}
                case _:
                    self.memory.forget(transaction.id)
                    transaction = await self._own(None, transaction.id)
        raise StoreUnavailable(f"too many others change {transaction.id}; try again")

    def _commit(self, change: Change) -> Awaitable[Outcome]:
        return self._journal.commit(change, lambda: self._remember(change))

    def _remember(self, change: Change) -> None:
        self.memory.keep(change)
        deadline = change.after.deadline
        if deadline is not None:
            self.on_deadline(deadline)

    # -- reading --

    async def _own(self, client: str | None, transaction_id: UUID) -> Transaction:
        """A transaction of this client, or of any for None; another's is as unknown as one that never was."""
        transaction = self.memory.transaction(transaction_id)
        if transaction is None:
            transaction = await self._journal.read(self._store.get, transaction_id)
        if transaction is None or (client is not None and transaction.client != client):
            raise UnknownTransaction("no such transaction")
        return transaction

    async def get(self, client: str | None, transaction_id: UUID) -> Transaction:
        """The present state. Raises UnknownTransaction."""
        return await self._own(client, transaction_id)

    async def find(self, query: Query) -> Page:
        """A page of transactions."""
        return await self._journal.read(self._store.find, query)

    async def history(self, client: str | None, transaction_id: UUID) -> tuple[Event, ...]:
        """Its events, oldest first."""
        await self._own(client, transaction_id)
        return await self._journal.read(self._store.history, transaction_id)

    async def payments(self, client: str | None, transaction_id: UUID) -> tuple[Payment, ...]:
        """Its payments, by ordinal; one that is still open shows the transaction's status."""
        transaction = await self._own(client, transaction_id)
        payments = await self._journal.read(self._store.payments, transaction_id)
        status = transaction.standing.status
        assert status is not None  # what is stored has had an event
        return tuple(p if p.status.is_final else structs.replace(p, status=status) for p in payments)

    async def message(self, client: str | None, transaction_id: UUID, kind: BodyKind) -> Body:
        """One of its two messages, as it was received or sent. Raises NoAnswer where there is none."""
        await self._own(client, transaction_id)
        body = self.memory.answer(transaction_id) if kind is BodyKind.OUTBOX else None
        if body is None:
            body = await self._journal.read(self._store.message, transaction_id, kind)
        if body is None:
            raise NoAnswer(f"there is no {kind} message")
        return body

    async def collect(self, client: str, transaction_id: UUID) -> Answered:
        """The answer for the client that fetches it; that it has done so is recorded in the background."""
        transaction = await self._own(client, transaction_id)
        if transaction.answer is None:
            return Answered(transaction, None)
        body = await self.message(client, transaction_id, BodyKind.OUTBOX)
        if self.memory.first_collection(transaction_id):
            update = DeliveryUpdate(
                transaction=transaction_id, channel=deliver.OUTBOX, state=DeliveryState.CONFIRMED, at=self.now()
            )
            self._journal.note(update, failed=lambda: self.memory.uncollect(transaction_id))
        return Answered(transaction, body)

    async def until_end(self, transaction: Transaction, seconds: float) -> Transaction:
        """The transaction once it has ended, or as it stands when the time is up."""
        if transaction.standing.is_final or seconds <= 0:
            return transaction
        with self.memory.waiter(transaction.id) as ended:
            present = await self._own(None, transaction.id)
            if not present.standing.is_final:
                await asyncio.wait([ended], timeout=seconds)
        return await self._own(None, transaction.id)
