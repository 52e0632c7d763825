"""Transactions as the faces see them: submit, decide, drive again, read. Joins the pure core with the journal.

Every method reads what it needs, lets the stages decide, and commits one change; when it loses a race it reads again.
What is in flight or has just ended is kept in mind, so that the happy way never asks the store; the store stays the
truth, for each commit names the version that it was decided on.

Owns: the order of reading, deciding and committing. Must not know: HTTP, SQL, or what a status means.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import structlog
from msgspec import structs

from interlock.acks import Word
from interlock.apart import INTENTS, NONE_APART, Apart, fold, shown
from interlock.bulk import BulkSettings, Submitting
from interlock.bulk import Means as BulkMeans
from interlock.clock import Now
from interlock.deciding import FACT_SECONDS, Deciding
from interlock.deciding import Means as DecidingMeans
from interlock.decisions import Decision
from interlock.driving import Driving
from interlock.driving import Means as DrivingMeans
from interlock.enquiries import Enquiries
from interlock.errors import (
    Archived,
    DependencyError,
    DuplicateMismatch,
    EndedBefore,
    IllegalDecision,
    InterlockError,
    NoAnswer,
    OwnedElsewhere,
    RegionFenced,
    Stopped,
    StoreUnavailable,
    TooManyInFlight,
    UnknownTransaction,
)
from interlock.inspection import Inspector, ProfileOf
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.original import Original
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.profiles.facts import Recall
from interlock.iso20022.schemas import Catalogue
from interlock.journal import Journal
from interlock.lifecycle import EventKind, State, judge
from interlock.memory import Memory
from interlock.originals import Abroad, Means
from interlock.ports import (
    Control,
    ControlScope,
    DeliveryUpdate,
    IdempotencyTaken,
    KeysTaken,
    Outcome,
    Page,
    Query,
    Refenced,
    Stale,
    Store,
    Won,
)
from interlock.regions.doubles import Double
from interlock.regions.rivals import Rival, Turn, taken_turn, turn
from interlock.regions.rules import CHANGES, OnTakeover
from interlock.routes import Consistency, Route, Routes, WhenStopped
from interlock.stages import deliver, matching, process, release, way
from interlock.stages.facts import Inspection
from interlock.stages.outcomes import Refusal
from interlock.stages.steps import Steps
from interlock.stages.way import Arrival
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
    home_of,
)

if TYPE_CHECKING:
    from interlock.tracing import Tracing

_log = structlog.get_logger()

#: Around a step while nobody traces.
_UNSEEN = nullcontext()

#: How often a step is decided anew after losing a race; each loss means that somebody else got on.
_TRIES = 8

#: A transaction that rests in one of these is its process's to go on with.
_REFUSED_BEFORE = "refused when the message was received"
_HALF_WAY = (State.ACTC, State.ACSP)
#: Between two looks at what other regions have made of the same payments.
_LOOK_SECONDS = 0.02
#: How long a request about other messages waits at a time for what it has cancelled.
_ENQUIRY_SECONDS = 0.5
#: Transactions taken up together.
_PAGE = 500

_Taken = dict[Key, UUID]
#: Decides on the present transaction and the keys known to be taken; None: there is nothing to do.
_Decide = Callable[[Transaction, _Taken], Awaitable[Change | None]]


class _Recall(Enum):
    """What of our memory will do although other processes write too."""

    #: An end and its answer never change; what is said of the transaction besides may.
    END = auto()
    #: Anything, for the commit that follows finds out whether it still stands.
    ANYTHING = auto()


def _recalls(recall: _Recall | None, transaction: Transaction) -> bool:
    return recall is _Recall.ANYTHING or (recall is _Recall.END and transaction.standing.is_final)


def _told(transaction: Transaction) -> dict[str, str | int]:
    """What traces show of a transaction; nothing personal is among it."""
    shown = {
        "interlock.client": transaction.client,
        "interlock.status": transaction.standing.status,
        "interlock.reason": transaction.reason,
        "interlock.definition": transaction.definition,
    }
    return {name: value for name, value in shown.items() if value is not None}


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
    #: Ours, and the operator's.
    profiles: Profiles = field(default_factory=Profiles.load)
    #: Of messages of many payments; None: there are none.
    bulk: BulkSettings | None = None
    #: Clients whose messages are read leniently.
    lenient: frozenset[str] = frozenset()


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
        self.inspector = Inspector(catalogue, settings.limits, settings.profiles)
        means = Means(
            decide=partial(self.decide, patience=_ENQUIRY_SECONDS),
            until_end=self.until_end,
            payments=self.payments,
            payments_page=self.payments_page,
            original=self._original,
            recalls=self._recalls,
            is_ours=lambda transaction: transaction.region == settings.region or transaction.region in self._taken,
            others=lambda: self.peers - self.retired,
            abroad=lambda: self.abroad,
            now=now,
        )
        self._enquiries = Enquiries(store, journal, means)
        self.driving = Driving(
            store,
            journal,
            DrivingMeans(
                own=self._own,
                facts=self._facts,
                route=lambda original: settings.routes.choose(original.client, original.definition),
                admit=self._admit,
                stopped=self._stop,
                newborn=lambda of, route: self._newborn(of.client, route, reference=of.reference, of=of),
                steps=self._steps,
                whole=self._whole,
                bear=self._bear,
            ),
        )
        self._deciding = Deciding(
            store,
            journal,
            DecidingMeans(
                pursue=self._pursue,
                begin=self._begin,
                facts=self._facts,
                route=lambda transaction: settings.routes.named(transaction.route),
                take_up=self._take_up,
                known=self._known,
                on_intent=lambda *intent: self.on_intent(*intent),  # noqa: PLW0108 - it is set later
            ),
        )
        #: Requests about other messages that are being answered.
        self._enquiring: set[asyncio.Task[bool]] = set()
        self._routes = settings.routes
        self.now = now
        self._new_id = new_id
        self._submitting = None if settings.bulk is None else self._bulk(settings.bulk)
        self.memory = Memory()
        self._controls: dict[tuple[ControlScope, str], Control] = {}
        #: How many of them were given at this process.
        self._orders_given = 0
        #: Transactions that tripped over a mistake of ours since the start.
        self.parked = 0
        #: Received or passed, and resting so: held back by an operator, or because the store failed. Each of them is
        #: this process's to go on with.
        self._half_way: dict[UUID, Transaction] = {}
        #: Something may have changed for one of them.
        self._stirred = False
        #: The store failed for one of them.
        self._put_off = False
        #: Transactions taken over from processes that are gone, since the start.
        self.taken_over = 0
        #: Told of the steps of a message; None: nobody traces.
        self.tracing: Tracing | None = None
        #: Called with each deadline that a commit has set.
        self.on_deadline: Callable[[Deadline], None] = lambda _: None
        #: Called with each transaction whose end is intended, and where that was committed; None: some time before.
        self.on_intent: Callable[[Transaction, int | None], None] = lambda *_: None
        #: Regions that this one has taken over: what they had begun is ours to go on with. And the epoch under which
        #: that was so.
        self._taken: frozenset[int] = frozenset()
        self._taken_under = 0
        #: Whether an end on this route is a fact at once.
        self.alone: Callable[[Route], bool] = lambda _: not store.post.guards
        #: Numbers of all other regions.
        self.peers: frozenset[int] = frozenset()
        #: Those that were given up for good, as the witness says.
        self.retired: frozenset[int] = frozenset()
        #: How other regions are asked about what they go on with; None: they cannot be from here.
        self.abroad: Abroad | None = None

    def _bulk(self, settings: BulkSettings) -> Submitting:
        means = BulkMeans(
            admit=self._admit,
            refuse_if_held=self._refuse_if_held,
            newborn=lambda client, route, reference: self._newborn(client, route, reference=reference),
            birth=self._birth,
            commit=self._commit,
            again=self._again,
        )
        return Submitting(self._store, self._journal, self._routes, settings, means, self.now)

    # -- starting --

    async def load(self) -> None:
        """What must be known before the first request: the operator's orders and what is in flight."""
        await self.refresh()

    async def refresh(self) -> None:
        """Read again what other processes may have changed; what they have resumed goes on here too."""
        given = self._orders_given
        orders = await self._journal.look(self._store.controls)
        if given == self._orders_given:  # else one was given here while we read, and the next look will do
            for order in orders:
                self._obey(order)
        before = self.memory.in_flight.copy()
        found = Counter(await self._journal.look(self._store.open_by_client))
        # What has ended here meanwhile may have been counted; nobody is refused for that.
        self.memory.in_flight = found - (before - self.memory.in_flight)
        await self.look_abroad()

    async def look_abroad(self) -> None:
        """Read again which regions this one has taken over; under another epoch that may have changed."""
        epoch = self._store.post.epoch  # before it is read: what changes later makes another epoch
        if epoch != self._taken_under:
            self.memory.clear()  # what was ours may be another region's
        self._taken = await self._journal.look(self._store.taken)
        self._taken_under = epoch

    def _obey(self, order: Control) -> None:
        before = self._controls.get((order.scope, order.name))
        self._controls[order.scope, order.name] = order
        self._stirred |= before is not None and before.stopped and not order.stopped

    def _give(self, order: Control) -> None:
        self._orders_given += 1
        self._obey(order)

    def begin_anew(self) -> None:
        """This process was given up, and has registered again: others have its work; what it remembers is hearsay."""
        self.memory.clear()
        self._half_way.clear()

    async def take_over(self) -> int:
        """Go on with whatever was under way when another process, or the last one here, ended; how many that was."""
        taken_over = 0
        while page := await self._journal.claim(_PAGE):
            taken_over += len(page)
            self.taken_over += len(page)
            for transaction in page:
                self.memory.forget(transaction.id)
                if transaction.standing.state is State.ENDING:
                    self.on_intent(transaction, None)
                else:
                    self._half_way[transaction.id] = transaction
            self._stirred = True
            await self.go_on()
        return taken_over

    async def go_on(self) -> None:
        """Go on with what is half-way in this process and not held back any more, if that may have changed."""
        if not self._stirred:
            return
        self._stirred = False
        ready = [t for t in self._half_way.values() if not self._stop(t.client, self._routes.named(t.route))]
        for start in range(0, len(ready), _PAGE):
            await asyncio.gather(*(self._take_up(transaction) for transaction in ready[start : start + _PAGE]))
            if self._put_off:
                self._put_off, self._stirred = False, True
                raise StoreUnavailable("what is half-way waits for the store")

    async def resume(self) -> int:
        """Go on with what an operator held back, whichever process has it; how many."""
        after, resumed = None, 0
        while page := await self._journal.read(self._store.in_flight, after, _PAGE):
            after = page[-1].id
            resumed += sum(await asyncio.gather(*(self._take_up(transaction) for transaction in page)))
        return resumed

    async def look_for_ends(self) -> None:
        """Wake those who wait for an end that another process has brought about."""
        awaited = self.memory.awaited
        if awaited:
            for id_ in await self._journal.look(self._store.ended, awaited):
                self.memory.forget(id_)
                self.memory.wake(id_)

    async def _take_up(self, transaction: Transaction) -> bool:
        """Go on with one; what waits for somebody, or for its clock, is left alone."""
        if transaction.standing.state not in _HALF_WAY:
            return False
        if self._stop(transaction.client, self._routes.named(transaction.route)):
            self._half_way[transaction.id] = transaction
            return False
        try:
            with self._step("resume", transaction):
                present = await self._pursue(transaction, self._go_on)
        except DependencyError:
            self._half_way[transaction.id] = transaction
            self._put_off = self._stirred = True
            return False
        except InterlockError as exc:
            _log.warning("not resumed", transaction=str(transaction.id), error=str(exc))
            return False
        except Exception as exc:  # noqa: BLE001 - one that cannot go on must not keep the others from it
            await self.park(transaction, exc)
            self._half_way.pop(transaction.id, None)
            return False
        self._half_way.pop(transaction.id, None)
        if waits := present.standing.state in _HALF_WAY:  # for others' ends, and is looked at again
            self._half_way[present.id] = present
            self._stirred = True
        return not waits

    async def park(self, transaction: Transaction, exc: Exception) -> None:
        """Our own mistake keeps this one from going on: record it and alert.

        Its deadline stays: moved, it would let a later retry release what is already too late.
        """
        _log.error("parked", transaction=str(transaction.id), exc_info=exc)
        self.parked += 1

        async def apply(present: Transaction, _: _Taken) -> Change | None:
            if judge(present.standing, EventKind.STAGE_FAULT) is None or present.deadline is None:
                return None
            steps = self._steps(present)
            steps.take(EventKind.STAGE_FAULT, note=f"failed: {type(exc).__name__}", flagged=True)
            return Change(after=steps.transaction, events=steps.events, read=steps.read)

        try:
            await self._pursue(transaction, apply)
        except InterlockError as failure:
            _log.warning("not parked", transaction=str(transaction.id), error=str(failure))

    # -- submitting --

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
        self._admit(client, route)
        newborn = self._newborn(client, route, consistency, announced=announced, reference=reference)
        for _ in range(_TRIES):
            change = way.issued(self._birth(newborn))
            if isinstance(await self._commit(change), Won):
                return change.after
        raise StoreUnavailable("the region's epoch changes all the time; try again")

    async def receive(
        self, client: str, transaction_id: UUID, content: bytes, *, consistency: Consistency | None = None
    ) -> Transaction:
        """Take the message for an id; durable, and as far on its way as it can go, on return.

        Raises UnknownTransaction, DuplicateMismatch (another message came under this id before).
        """
        transaction = await self._own(client, transaction_id, _Recall.ANYTHING)
        if transaction.standing.state is not State.ACCP:
            return await self._pursue(transaction, self._repeated(content))
        inspection = await self._inspect(content, client)
        route = self._routes.choose(client, inspection.definition)
        self._refuse_if_stopped(client, route)
        arrival = Arrival(inspection=inspection, route=route, stopped=self._stop(client, route))

        async def decide(present: Transaction, taken: _Taken) -> Change | None:
            if present.standing.state is not State.ACCP:
                return await self._repeated(content)(present, taken)
            wanted = structs.replace(present, everywhere=present.everywhere or self._is_everywhere(route, consistency))
            return self._advance(lambda: self._steps(wanted), structs.replace(arrival, taken=taken))

        transaction = await self._pursue(transaction, decide)
        self._enquire(transaction, inspection)
        return transaction

    def _enquire(self, transaction: Transaction, inspection: Inspection) -> None:
        """Begin to answer a request about other messages, now that it is durable; nobody waits for that here."""
        if inspection.enquiry is None or transaction.standing.state is not State.ACTC:
            return
        task = asyncio.create_task(self._take_up(transaction), name="enquiry")
        self._enquiring.add(task)
        task.add_done_callback(self._enquiring.discard)

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
            steps = self._steps(present)
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
        inspection = await self._inspect(content, client)
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
        newborn = self._newborn(client, route, consistency, reference=reference)
        arrival = Arrival(inspection=inspection, route=route, stopped=self._stop(client, route), idempotency=claim)
        outcome = await self._bear(newborn, arrival)
        if isinstance(outcome, IdempotencyTaken):
            assert claim is not None  # only a claim can be taken
            return await self._again(client, outcome, claim)
        self._enquire(outcome, inspection)
        return outcome

    async def submit_file(
        self,
        client: str,
        path: Path,
        digest: bytes,
        *,
        idempotency_key: str | None = None,
        reference: str | None = None,
    ) -> Transaction:
        """As `submit`, of a message of many payments in a file; ended on return. digest: SHA-256 of the file."""
        assert self._submitting is not None  # else nobody makes files of messages
        return await self._submitting.submit(client, path, digest, idempotency_key=idempotency_key, reference=reference)

    def interrupt_files(self) -> None:
        """Give up messages in files that are still being read, for this process ends."""
        if self._submitting is not None:
            self._submitting.interrupt()

    def _refuse_if_held(self, client: str, route: Route) -> None:
        if self._stop(client, route):
            raise Stopped("an operator has stopped this route or client; nothing was stored, try again later")

    async def _again(self, client: str, used: IdempotencyTaken, claim: Idempotency) -> Transaction:
        if used.digest != claim.digest:
            raise DuplicateMismatch("this idempotency key was used with another body; use a new key for a new message")
        return await self._own(client, used.transaction, _Recall.END)

    async def _bear(self, newborn: Transaction, arrival: Arrival) -> Transaction | IdempotencyTaken:
        """Commit a transaction that is born with its message."""
        taken: _Taken = {}
        for _ in range(_TRIES):
            change = self._advance(lambda: self._birth(newborn), structs.replace(arrival, taken=taken))
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
                case Refenced():
                    continue
                case Stale():
                    self.memory.forget(change.original.after.id if change.original else change.after.id)
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
        consistency: Consistency | None = None,
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
            everywhere=self._is_everywhere(route, consistency) or (of is not None and of.everywhere),
        )

    def _is_everywhere(self, route: Route, asked: Consistency | None) -> bool:
        """Whether payments must be known in every other region before they settle."""
        peers, wanted = len(self.peers), asked or route.consistency
        return peers > 0 and (wanted is Consistency.CONSISTENT or wanted.copies(peers) >= peers)

    async def _inspect(self, content: bytes, client: str, profile: ProfileOf | None = None) -> Inspection:
        """profile: of the route on which the message is already; unset, of the one that it will choose."""
        named = profile or partial(self._routes.profile_for, client)
        lenient = client in self._settings.lenient
        if self.tracing is None:
            return await self.inspector.inspect(content, self.now().date(), profile=named, lenient=lenient)
        with self.tracing.step("inspect") as span:
            inspection = await self.inspector.inspect(content, self.now().date(), profile=named, lenient=lenient)
            span.set_attributes(
                {
                    "interlock.definition": inspection.definition or "",
                    "interlock.bytes": len(content),
                    "interlock.findings": len(inspection.findings),
                }
            )
            return inspection

    # -- admission --

    def _admit(self, client: str, route: Route) -> None:
        """Refuse new work before it costs anything: stopped, or too much in flight."""
        self._refuse_if_stopped(client, route)
        if self.memory.in_flight[client] >= self._settings.in_flight_max:
            raise TooManyInFlight(f"{self._settings.in_flight_max} transactions are in flight; wait for some to end")

    def _refuse_if_stopped(self, client: str, route: Route) -> None:
        if route.when_stopped is WhenStopped.REFUSE:
            self._refuse_if_held(client, route)

    def _stop(self, client: str, route: Route) -> bool:
        orders = (
            self._controls.get((ControlScope.ROUTE, route.name)),
            self._controls.get((ControlScope.CLIENT, client)),
        )
        return any(order is not None and order.stopped for order in orders)

    async def control(self, order: Control) -> int:
        """Stop or resume a route or client; how many transactions go on because of it."""
        await self._journal.commit(order, lambda _: self._give(order))
        return 0 if order.stopped else await self.resume()

    @property
    def controls(self) -> tuple[Control, ...]:
        """The orders that stand."""
        return tuple(self._controls.values())

    # -- deciding --

    async def decide(
        self, client: str | None, transaction_id: UUID, decision: Decision, *, patience: float = FACT_SECONDS
    ) -> Transaction:
        """Apply a consumer's or operator's decision; the transaction as it stands after it.

        client: None for an operator. patience: see `Deciding`. Raises RequestError where it is not clear what is meant,
        IllegalDecision where it is too late, or another decision stands.
        """
        return await self._deciding.decide(await self._own(client, transaction_id), decision, patience)

    async def redrive(self, client: str | None, transaction_id: UUID, actor: str) -> Transaction:
        """Drive the payments of a cancelled or retryably rejected transaction again; the new transaction.

        The newest attempt is the one that is driven again. Raises IllegalDecision where that must not be.
        """
        return await self.driving.again(client, transaction_id, actor)

    async def expire(self, transaction: Transaction) -> Transaction:
        """The transaction's clock has run out: apply what that means, if it still does."""

        async def apply(present: Transaction, taken: _Taken) -> Change | None:
            now = self.now()
            if present.deadline is None or present.deadline.at > now:
                return None  # it ended, or another clock runs now
            if matching.asks(present) and present.standing.state in _HALF_WAY:
                # To reject it would say that nothing was done.
                return await self._go_on(present, taken)
            inspection, payments = await self._facts(present)
            steps = await self._begin(present)
            way.expire(steps, self._routes.named(present.route))
            return way.finish(steps, inspection, payments)

        with self._step("expire", transaction):
            return await self._pursue(transaction, apply)

    async def _go_on(self, present: Transaction, taken: _Taken) -> Change | None:
        """Take up a transaction that a crash or an operator left half-way."""
        if present.standing.state not in _HALF_WAY:
            return None
        route = self._routes.named(present.route)
        inspection, payments = await self._facts(present)
        assert inspection is not None  # both states have a message
        steps = await self._begin(present)
        if present.standing.state is State.ACSP:
            way.settle(steps, route, steps.now)
            return way.finish(steps, inspection, payments)
        outcome = None
        if inspection.enquiry is not None and inspection.original is not None and not process.is_refused(inspection):
            # Not for long: whoever takes this up has others to go on with, and comes again.
            outcome = await self._enquiries.outcome(present, inspection.original, _ENQUIRY_SECONDS)
            if outcome is None:
                return None
        root = None if present.redrive_of is None else (await self.driving.root(present)).id
        refused = {
            payment.ordinal: Refusal(reason=payment.reason or "NARR", note=payment.note or _REFUSED_BEFORE)
            for payment in payments
            if payment.status is Status.RJCT
        } | way.refused_apart(steps)
        arrival = Arrival(inspection=inspection, route=route, taken=taken, refused=refused, root=root, outcome=outcome)
        return self._advance(lambda: self._steps(present, steps.apart), arrival)

    async def _original(self, transaction: Transaction) -> Original | None:
        """What a transaction's message says; None where it is too long to be read again."""
        if await self._journal.read(self._store.parts, transaction.id, BodyKind.INBOX):
            return None
        inspection, _ = await self._facts(transaction)
        return None if inspection is None else inspection.original

    def _recalls(self, transaction: Transaction, original: Original | None) -> tuple[Recall, ...]:
        """Within what time it can be asked back."""
        named = self._routes.named(transaction.route).profile
        if original is None:
            return () if named is None else self._settings.profiles.named(named).recall
        return self._settings.profiles.choose(original, named=named).recall

    # -- regions --

    async def _begin(self, present: Transaction) -> Steps:
        """Steps as `_steps` makes them, with what is known of payments that end by themselves: for all that may end."""
        return self._steps(present, await self._apart(present))

    async def _apart(self, present: Transaction) -> Apart:
        """The payments of it that end by themselves."""
        if present.payments < 2:
            return NONE_APART
        return fold(await self._journal.read(self._store.history, present.id), present)

    def _steps(self, present: Transaction, apart: Apart = NONE_APART) -> Steps:
        """Steps of a transaction that is ours, under the region's present epoch.

        Raises RegionFenced, OwnedElsewhere.
        """
        post, region = self._store.post, self._settings.region
        if post.fenced:
            raise RegionFenced("this region was taken over and does not know yet what was decided for it")
        if present.region != region:
            if present.region not in self._taken:
                raise OwnedElsewhere(present.region)
            if self._taken_under != post.epoch:
                raise StoreUnavailable("who goes on with this is being looked up; try again")
        alone = self._is_alone(present)
        return Steps(present, self.now(), alone=alone, epoch=post.epoch, region=region, apart=apart)

    def _birth(self, newborn: Transaction) -> Steps:
        post = self._store.post
        if post.fenced:
            raise RegionFenced("this region was taken over and does not know yet what was decided for it")
        newborn = structs.replace(newborn, epoch=post.epoch)
        return way.issue(newborn, newborn.created_at, alone=self._is_alone(newborn))

    def _is_alone(self, transaction: Transaction) -> bool:
        """Whether an end of it is a fact at once: nobody waits for anybody."""
        return self.alone(self._routes.named(transaction.route)) and not (transaction.everywhere and self.others())

    def others(self) -> frozenset[int]:
        """Regions that may take payments of their own: not what we have taken over, as long as we know of it."""
        known = self._taken_under == self._store.post.epoch
        return self.peers - self.retired - (self._taken if known else frozenset())

    async def _whole(self, before: Transaction, change: Change) -> Change:
        """The change with what else must be written where the transaction becomes ours with it."""
        if before.version == 0 or before.region == change.after.region:
            return change
        read = self._journal.read
        inbox = await read(self._store.message, before.id, BodyKind.INBOX)
        answer = await self._answer(before) if before.answer_digest == change.after.answer_digest else None
        return structs.replace(
            change,
            payments=await read(self._store.payments, before.id),
            events=(*await read(self._store.inherited, before.id), *change.events),
            inherited_from=before.region,
            bodies=(*(body for body in (inbox, answer) if body is not None), *change.bodies),
        )

    async def conclude(self, transaction: Transaction, word: Word, rivals: tuple[Rival, ...]) -> Transaction:
        """An end was intended, of all or some, and whoever could take over has it: make it a fact, if it is in time.

        rivals: others that have taken the same payments in another region, as looked up since `word` was found.
        """
        if transaction.standing.state is State.ENDING:
            return await self._conclude(transaction, word, rivals)
        return await self._deciding.conclude(transaction, word)

    async def _conclude(self, transaction: Transaction, word: Word, rivals: tuple[Rival, ...]) -> Transaction:
        async def apply(present: Transaction, _: _Taken) -> Change | None:
            if present.standing.state is not State.ENDING:
                return None
            if present.version != transaction.version:
                self.on_intent(present, None)  # another end is intended by now: that one has its own wait
                return None
            steps = await self._begin(present)
            if steps.transaction.epoch != word.epoch:
                self.on_intent(present, word.position)  # the guards may be others now
                return None
            if present.standing.end is Status.ACSC:
                whose = turn(present.id, rivals, steps.now - present.updated_at)
                if release.is_late(present.deadline, steps.now) and not matching.asks(present):
                    way.expire(steps, self._routes.named(present.route))
                elif whose is Turn.WAIT:
                    self.on_intent(present, None)  # looked at again with what comes meanwhile
                    return None
                elif whose is Turn.YIELD:
                    way.yield_to(steps, rivals)
            if steps.events:  # another end than the one that was intended
                return way.finish(steps, *await self._facts(present))
            body = await self._answer(present)
            return way.conclude(steps, None if body is None else body.definition, word.had)

        return await self._pursue(transaction, apply)

    async def _answer(self, transaction: Transaction) -> Body | None:
        """The answer that its end has, or is to have."""
        if transaction.answer_digest is None:
            return None
        body = self.memory.answer(transaction.id)
        if body is None or body.digest != transaction.answer_digest:
            body = await self._journal.read(self._store.message, transaction.id, BodyKind.OUTBOX)
        assert body is not None  # it was committed with the intent
        return body

    async def _yield(self, present: Transaction) -> Change | None:
        """What began before this region was lost gives way to whatever took the same payments elsewhere meanwhile."""
        generation = self._store.post.generation
        if present.standing.is_final or present.version == 0 or present.epoch // CHANGES >= generation:
            return None
        if present.region != self._settings.region:
            return None
        rivals = await self._rivals(present)
        steps = await self._begin(present)
        if not rivals or not way.yield_to(steps, rivals):
            return None
        return way.finish(steps, *await self._facts(present))

    async def take_turn(self, transaction: Transaction) -> Transaction:
        """The transaction, rejected where another region that has taken the same payments goes on with them.

        Asked once everybody has it, before it counts as taken; an intended end is looked at when it concludes.
        """
        began = self.now()

        async def give_way(present: Transaction, _: _Taken) -> Change | None:
            steps = await self._begin(present)
            if present.standing.state is State.ENDING or not way.yield_to(steps, rivals):
                return None
            return way.finish(steps, *await self._facts(present))

        while transaction.payments and not (
            transaction.standing.is_final or transaction.standing.state is State.ENDING
        ):
            rivals = await self._rivals(transaction)
            match turn(transaction.id, rivals, self.now() - began):
                case Turn.GO:
                    break
                case Turn.YIELD:
                    return await self._pursue(transaction, give_way)
            # Nothing tells when the others' end has come in: it is written by the database's own replication.
            await asyncio.sleep(_LOOK_SECONDS)
            transaction = await self._own(None, transaction.id)
        return transaction

    async def _rivals(self, transaction: Transaction) -> tuple[Rival, ...]:
        found = await self._journal.read(self._store.rivals, [transaction.id], transaction.region)
        return found.get(transaction.id, ())

    async def _was_confirmed(self, rival: Rival, region: int) -> bool:
        """Whether a region had a transaction before its end became a fact."""
        return rival.settled and way.confirmed(await self._journal.read(self._store.history, rival.transaction), region)

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
            return guards and (rival.settled or home not in self._taken or rival.transaction < transaction.id)

        async def apply(present: Transaction, _: _Taken) -> Change | None:
            if present.region != transaction.region or present.standing.is_final:
                return None  # it was decided already
            if self._store.post.epoch != epoch:
                raise StoreUnavailable("the region's epoch has changed; look again whether the takeover goes on")
            steps, route = await self._begin(present), self._routes.named(present.route)
            if present.standing.end is Status.ACSC:
                rivals = [one for one in await self._rivals(present) if counts(one)]
                confirmed = {one.transaction for one in rivals if await self._was_confirmed(one, present.region)}
                match taken_turn(rivals, confirmed):
                    case Turn.WAIT:
                        return None
                    case Turn.YIELD if way.yield_to(steps, rivals):
                        return way.finish(steps, *await self._facts(present))
            way.taken_over(steps, verdict.event, route)
            if present.standing.state is State.ENDING:
                body = await self._answer(present)
                return way.ended_as_intended(steps, None if body is None else body.definition)
            return way.finish(steps, *await self._facts(present))

        return await self._pursue(transaction, apply)

    async def note_double(self, double: Double) -> bool:
        """Another region's end contradicts one of ours: recorded once and flagged, and both are kept; whether it was.

        Where another region goes on with the transaction, that one records it.
        """
        recorded: bool

        async def apply(present: Transaction, _: _Taken) -> Change | None:
            nonlocal recorded
            recorded = False
            if present.region != self._settings.region or judge(present.standing, EventKind.ENDED_TWICE) is None:
                return None
            history = await self._journal.read(self._store.history, present.id)
            if any(e.kind is EventKind.ENDED_TWICE and e.detail == double.detail for e in history):
                return None
            steps = self._steps(present)
            steps.take(EventKind.ENDED_TWICE, note=double.note, detail=double.detail)
            recorded = True
            return Change(after=steps.transaction, events=steps.events, read=steps.read)

        await self._pursue(await self._own(None, double.transaction), apply)
        return recorded

    async def _facts(self, transaction: Transaction) -> tuple[Inspection | None, tuple[Payment, ...]]:
        """The message received, looked at again, and its payments as they stand."""
        if transaction.digest is None:
            return None, ()
        body = await self._journal.read(self._store.message, transaction.id, BodyKind.INBOX)
        assert body is not None  # its digest was committed with it
        payments = await self._journal.read(self._store.payments, transaction.id)
        profile = self._routes.named(transaction.route).profile
        return await self._inspect(body.content, transaction.client, lambda _: profile), payments

    async def _pursue(self, transaction: Transaction, decide: _Decide) -> Transaction:
        """Decide and commit, until it is won or there is nothing left to decide."""
        taken: _Taken = {}
        for _ in range(_TRIES):
            change = await self._yield(transaction) or await decide(transaction, taken)
            if change is None:
                return transaction
            change = await self._whole(transaction, change)
            outcome = await self._commit(change)
            match outcome:
                case Won():
                    return change.after
                case Refenced():
                    continue
                case KeysTaken():
                    taken = {**taken, **dict(outcome.taken)}
                case _:
                    self.memory.forget(transaction.id)
                    transaction = await self._own(None, transaction.id)
        raise StoreUnavailable(f"too many others change {transaction.id}; try again")

    def _commit(self, change: Change) -> Awaitable[Outcome]:
        if self.tracing is not None:
            return self._commit_traced(self.tracing, change)
        return self._journal.commit(change, lambda position: self._remember(change, position))

    async def _commit_traced(self, tracing: "Tracing", change: Change) -> Outcome:
        after = change.after
        brings = change.read == 0 or any(body.kind is BodyKind.INBOX for body in change.bodies)
        with tracing.step("commit", after.id, _told(after), brings=brings, instead_of=after.redrive_of) as span:

            def won(position: int) -> None:
                # Of this batch: the next one is not begun before all of it have been told.
                writes, seconds = self._journal.tally.recent[-1]
                span.set_attributes({"interlock.batch.writes": writes, "interlock.batch.seconds": seconds})
                self._remember(change, position)

            outcome = await self._journal.commit(change, won)
            span.set_attribute("interlock.outcome", type(outcome).__name__)
            return outcome

    def _step(self, name: str, transaction: Transaction) -> AbstractContextManager[object]:
        """Around a step that is shown in traces."""
        if self.tracing is None:
            return _UNSEEN
        return self.tracing.step(name, transaction.id, _told(transaction))

    def _remember(self, change: Change, position: int) -> None:
        if position:
            self.memory.place(change.after, position)
        if change.after.standing.state is State.ENDING or any(event.kind in INTENTS for event in change.events):
            self.on_intent(change.after, position)
        self._deciding.note(change)
        if self.memory.keep(change):
            self.memory.lasted.add(change.after.standing.status or "", self.now() - change.after.created_at)
        self._rest(change.after)
        deadline = change.after.deadline
        if deadline is not None:
            self.on_deadline(deadline)

    def _rest(self, transaction: Transaction) -> None:
        """Note what rests half-way. If nothing holds it back, the operator's order was lifted while it was written."""
        if transaction.standing.state not in _HALF_WAY:
            self._half_way.pop(transaction.id, None)
            return
        self._half_way[transaction.id] = transaction
        self._stirred |= not self._stop(transaction.client, self._routes.named(transaction.route))

    # -- reading --

    async def _own(self, client: str | None, transaction_id: UUID, recall: "_Recall | None" = None) -> Transaction:
        """A transaction of this client, or of any for None; another's is as unknown as one that never was.

        recall: what is good enough where other processes may have changed it; by default only the store's word.
        """
        transaction = self.memory.transaction(transaction_id)
        if transaction is None or (self._store.shared and not _recalls(recall, transaction)):
            transaction = await self._journal.read(self._store.get, transaction_id)
        if transaction is None:
            archive = await self._journal.read(self._store.archived, transaction_id)
            if archive is not None:
                raise Archived(f"transactions of that time are in the archive {archive}; interlock archive restore")
        if transaction is None or (client is not None and transaction.client != client):
            raise UnknownTransaction("no such transaction")
        return transaction

    async def get(self, client: str | None, transaction_id: UUID) -> Transaction:
        """The present state. Raises UnknownTransaction."""
        return await self._own(client, transaction_id)

    async def owner(self, transaction_id: UUID) -> int:
        """Number of the region that goes on with a transaction. Raises UnknownTransaction."""
        transaction = await self._own(None, transaction_id, _Recall.ANYTHING)
        if transaction.epoch // CHANGES != self._store.post.generation:
            # Of before a takeover: what this process remembers another region may have decided since.
            transaction = await self._own(None, transaction_id)
        return self._settings.region if transaction.region in self._taken else transaction.region

    @property
    def taken(self) -> frozenset[int]:
        """Regions that this one has taken over, as last looked."""
        return self._taken

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
        is_ending = transaction.standing.state is State.ENDING
        return shown(transaction, payments, await self._apart(transaction) if is_ending else NONE_APART)

    async def payments_page(
        self, client: str | None, transaction_id: UUID, after: int, limit: int, status: Status | None
    ) -> tuple[Payment, ...]:
        """Some of its payments after an ordinal, as `payments` shows them. status: only those that are shown so."""
        before = await self._own(client, transaction_id)
        while True:
            found = await self._journal.read(self._store.payments_page, transaction_id, after, limit, status)
            transaction = await self._own(client, transaction_id)
            if transaction.standing.state is State.ENDING:  # what of it shows only its history tells
                every = await self.payments(client, transaction_id)
                return tuple(p for p in every if p.ordinal > after and status in (None, p.status))[:limit]
            if transaction.version == before.version:  # else they may be of before or of after
                return shown(transaction, found, NONE_APART)
            before = transaction

    async def message(self, client: str | None, transaction_id: UUID, kind: BodyKind) -> Body:
        """One of its two messages, as it was received or sent. Raises NoAnswer where there is none."""
        transaction = await self._own(client, transaction_id, _Recall.END)
        if kind is BodyKind.OUTBOX and transaction.answer is None:
            raise NoAnswer(f"there is no {kind} message")
        body = self.memory.answer(transaction_id) if kind is BodyKind.OUTBOX else None
        if body is None or (kind is BodyKind.OUTBOX and body.digest != transaction.answer_digest):
            body = await self._journal.read(self._store.message, transaction_id, kind)
        if body is None:
            raise NoAnswer(f"there is no {kind} message")
        return body

    async def collect(self, client: str, transaction_id: UUID) -> Answered:
        """The answer for the client that fetches it; that it has done so is recorded in the background."""
        transaction = await self._own(client, transaction_id, _Recall.END)
        if transaction.answer is None:
            return Answered(transaction, None)
        with self._step("deliver", transaction):
            body = await self.message(client, transaction_id, BodyKind.OUTBOX)
            self.note_collected(transaction_id)
        return Answered(transaction, body)

    def note_collected(self, transaction_id: UUID) -> None:
        """Its client fetches the answer; that is written in the background, once."""
        if self.memory.first_collection(transaction_id):
            update = DeliveryUpdate(
                transaction=transaction_id, channel=deliver.OUTBOX, state=DeliveryState.CONFIRMED, at=self.now()
            )
            self._journal.note(update, failed=lambda: self.memory.uncollect(transaction_id))

    async def parts(self, client: str | None, transaction_id: UUID, kind: BodyKind) -> int:
        """How many parts one of its two messages is kept in; 0: it is kept whole, or there is none."""
        transaction = await self._own(client, transaction_id, _Recall.END)
        is_whole = kind is BodyKind.OUTBOX and self.memory.answer(transaction_id) is not None
        if is_whole or not transaction.standing.is_final:  # what is kept in parts is born with its end
            return 0
        return await self._journal.read(self._store.parts, transaction_id, kind)

    async def streamed(self, transaction_id: UUID, kind: BodyKind, parts: int) -> AsyncIterator[bytes]:
        """One of its messages, part by part."""
        for number in range(1, parts + 1):
            yield await self._journal.read(self._store.part, transaction_id, kind, number)

    async def until_end(self, transaction: Transaction, seconds: float) -> Transaction:
        """The transaction once it has ended, or as it stands when the time is up.

        Where the store cannot be asked meanwhile it is told as it is known: what was acknowledged stays so.
        """
        if transaction.standing.is_final or seconds <= 0:
            return transaction
        with self.memory.waiter(transaction.id) as ended:
            # What is in flight here is not asked of the store: should another process end it, that wakes us too.
            present = self.memory.transaction(transaction.id) or await self._known(transaction)
            if not present.standing.is_final:
                await asyncio.wait([ended], timeout=seconds)
        return await self._known(transaction)

    async def _known(self, transaction: Transaction) -> Transaction:
        try:
            return await self._own(None, transaction.id, _Recall.END)
        except DependencyError:
            return transaction
