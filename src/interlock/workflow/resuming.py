"""Going on with what rests: held back by an operator, left by a process that is gone, or put off by a failing store.

Owns: when a transaction is taken up again, and what becomes of it where it cannot go on. What comes of it then the
stages say.
"""

import asyncio

import structlog

from interlock.errors import DependencyError, InterlockError, StoreUnavailable
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind, State, judge
from interlock.ports import Control
from interlock.stages import matching, process, way
from interlock.stages.facts import Inspection
from interlock.stages.outcomes import Refusal
from interlock.stages.way import Arrival
from interlock.transaction import Change, Transaction
from interlock.workflow.advancing import advance
from interlock.workflow.committing import Committing, Taken
from interlock.workflow.contents import Contents
from interlock.workflow.controls import Controls
from interlock.workflow.enquiries import PATIENCE_SECONDS, Enquiries
from interlock.workflow.ground import Ground
from interlock.workflow.halfway import HALF_WAY, HalfWay
from interlock.workflow.ownership import Ownership
from interlock.workflow.reading import Reading

_log = structlog.get_logger()

#: Transactions taken up together.
_PAGE = 500
#: Of a payment whose refusal says no more.
_REFUSED_BEFORE = "refused when the message was received"


class Resuming:
    """Takes transactions up again."""

    def __init__(
        self,
        ground: Ground,
        reading: Reading,
        contents: Contents,
        controls: Controls,
        ownership: Ownership,
        halfway: HalfWay,
        committing: Committing,
        enquiries: Enquiries,
    ) -> None:
        """enquiries: answers requests about other messages."""
        self._store = ground.store
        self._journal = ground.journal
        self._memory = ground.memory
        self._reading = reading
        self._contents = contents
        self._controls = controls
        self._ownership = ownership
        self._halfway = halfway
        self._committing = committing
        self._enquiries = enquiries
        self._traces = ground.traces
        self._routes = ground.routes
        self._now = ground.now
        #: Requests about other messages that are being answered.
        self._enquiring: set[asyncio.Task[bool]] = set()
        #: The store failed for one that was taken up.
        self._put_off = False
        #: Transactions that tripped over a mistake of ours since the start.
        self.parked = 0
        #: Transactions taken over from processes that are gone, since the start.
        self.taken_over = 0

    async def take_over(self) -> int:
        """Go on with whatever was under way when another process, or the last one here, ended; how many that was."""
        taken_over = 0
        while page := await self._journal.claim(_PAGE):
            taken_over += len(page)
            self.taken_over += len(page)
            for transaction in page:
                self._memory.forget(transaction.id)
                if transaction.standing.state is State.ENDING:
                    self._committing.on_intent(transaction, None)
                else:
                    self._halfway.keep(transaction)
            self._halfway.stir()
            await self.go_on()
        return taken_over

    async def go_on(self) -> None:
        """Go on with what is half-way in this process and not held back any more, if that may have changed."""
        if not self._halfway.stirred:
            return
        self._halfway.stirred = False
        ready = self._halfway.ready()
        for start in range(0, len(ready), _PAGE):
            await asyncio.gather(*(self.take_up(transaction) for transaction in ready[start : start + _PAGE]))
            if self._put_off:
                self._put_off = False
                self._halfway.stir()
                raise StoreUnavailable("what is half-way waits for the store")

    async def control(self, order: Control) -> int:
        """Stop or resume a route or client; how many transactions go on because of it."""
        await self._controls.give(order)
        return 0 if order.stopped else await self.resume()

    async def resume(self) -> int:
        """Go on with what an operator held back, whichever process has it; how many."""
        after, resumed = None, 0
        while page := await self._journal.read(self._store.in_flight, after, _PAGE):
            after = page[-1].id
            resumed += sum(await asyncio.gather(*(self.take_up(transaction) for transaction in page)))
        return resumed

    async def look_for_ends(self) -> None:
        """Wake those who wait for an end that another process has brought about."""
        awaited = self._memory.awaited
        if awaited:
            for id_ in await self._journal.look(self._store.ended, awaited):
                self._memory.forget(id_)
                self._memory.wake(id_)

    def enquire(self, transaction: Transaction, inspection: Inspection) -> None:
        """Begin to answer a request about other messages, now that it is durable; nobody waits for that here."""
        if inspection.enquiry is None or transaction.standing.state is not State.ACTC:
            return
        task = asyncio.create_task(self.take_up(transaction), name="enquiry")
        self._enquiring.add(task)
        task.add_done_callback(self._enquiring.discard)

    async def take_up(self, transaction: Transaction) -> bool:
        """Go on with one; what waits for somebody, or for its clock, is left alone."""
        if transaction.standing.state not in HALF_WAY:
            return False
        if self._halfway.is_held(transaction):
            self._halfway.keep(transaction)
            return False
        try:
            with self._traces.step("resume", transaction):
                present = await self._committing.pursue(transaction, self._go_on)
        except DependencyError:
            self._halfway.keep(transaction)
            self._put_off = True
            self._halfway.stir()
            return False
        except InterlockError as exc:
            _log.warning("not resumed", transaction=str(transaction.id), error=str(exc))
            return False
        except Exception as exc:  # noqa: BLE001 - one that cannot go on must not keep the others from it
            await self.park(transaction, exc)
            self._halfway.drop(transaction)
            return False
        self._halfway.drop(transaction)
        if waits := present.standing.state in HALF_WAY:  # for others' ends, and is looked at again
            self._halfway.keep(present)
            self._halfway.stir()
        return not waits

    async def park(self, transaction: Transaction, exc: Exception) -> None:
        """Our own mistake keeps this one from going on: record it and alert.

        Its deadline stays: moved, it would let a later retry release what is already too late.
        """
        _log.error("parked", transaction=str(transaction.id), exc_info=exc)
        self.parked += 1

        async def apply(present: Transaction, _: Taken) -> Change | None:
            if judge(present.standing, EventKind.STAGE_FAULT) is None or present.deadline is None:
                return None
            steps = self._ownership.steps(present)
            steps.take(EventKind.STAGE_FAULT, note=f"failed: {type(exc).__name__}", flagged=True)
            return Change(after=steps.transaction, events=steps.events, read=steps.read)

        try:
            await self._committing.pursue(transaction, apply)
        except InterlockError as failure:
            _log.warning("not parked", transaction=str(transaction.id), error=str(failure))

    async def expire(self, transaction: Transaction) -> Transaction:
        """The transaction's clock has run out: apply what that means, if it still does."""

        async def apply(present: Transaction, taken: Taken) -> Change | None:
            now = self._now()
            if present.deadline is None or present.deadline.at > now:
                return None  # it ended, or another clock runs now
            if matching.asks(present) and present.standing.state in HALF_WAY:
                # To reject it would say that nothing was done.
                return await self._go_on(present, taken)
            inspection, payments = await self._contents.facts(present)
            steps = await self._ownership.begin(present)
            way.expire(steps, self._routes.named(present.route))
            return way.finish(steps, inspection, payments)

        with self._traces.step("expire", transaction):
            return await self._committing.pursue(transaction, apply)

    async def _go_on(self, present: Transaction, taken: Taken) -> Change | None:
        """Take up a transaction that a crash or an operator left half-way."""
        if present.standing.state not in HALF_WAY:
            return None
        route = self._routes.named(present.route)
        inspection, payments = await self._contents.facts(present)
        assert inspection is not None  # both states have a message
        steps = await self._ownership.begin(present)
        if present.standing.state is State.ACSP:
            way.settle(steps, route, steps.now)
            return way.finish(steps, inspection, payments)
        outcome = None
        if inspection.enquiry is not None and inspection.original is not None and not process.is_refused(inspection):
            # Not for long: whoever takes this up has others to go on with, and comes again.
            outcome = await self._enquiries.outcome(present, inspection.original, PATIENCE_SECONDS)
            if outcome is None:
                return None
        root = None if present.redrive_of is None else (await self._reading.root(present)).id
        refused = {
            payment.ordinal: Refusal(reason=payment.reason or "NARR", note=payment.note or _REFUSED_BEFORE)
            for payment in payments
            if payment.status is Status.RJCT
        } | way.refused_apart(steps)
        arrival = Arrival(inspection=inspection, route=route, taken=taken, refused=refused, root=root, outcome=outcome)
        return advance(lambda: self._ownership.steps(present, steps.apart), arrival)
