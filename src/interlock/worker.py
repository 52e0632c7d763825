"""What happens without anybody asking: deadlines fire, and what a crash left half-way goes on.

The deadlines' loop sleeps until the earliest deadline in the store, or until a commit sets an earlier one. Where other
processes set deadlines too, one process fires them all, and it looks often enough to be in time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from interlock.clock import Now
from interlock.errors import DependencyError, InterlockError, LeaseLost
from interlock.journal import Journal
from interlock.ports import Store
from interlock.transaction import Deadline, Transaction
from interlock.workflow import Workflow

_log = structlog.get_logger()

#: Deadlines fired together; a backlog after a restart drains in batches of this size, oldest first.
_BATCH = 256
#: The longest sleep: the wall clock is followed and a deadline set by a command beside the server is seen.
_NAP = timedelta(seconds=1)
#: The sleep where other processes set deadlines: half of what a deadline may be late, less a commit.
_NAP_SHARED_SECONDS = 0.04
#: The job that one process does for all.
_JOB = "deadlines"
#: The longest wait after something has failed.
_RETRY_SECONDS = 5.0
#: Wait after the store was unavailable.
_PAUSE_SECONDS = 0.5
#: How long one that tripped over a mistake of ours is left alone before its clock is tried again.
_LEFT_ALONE = timedelta(minutes=1)


class Again:
    """Does something again and again, whatever happens; what is new is logged once."""

    def __init__(self, name: str, step: Callable[[], Awaitable[object]], every: float) -> None:
        """every: seconds from one end to the next beginning."""
        self._name = name
        self._step = step
        self._every = every
        #: The store is away, and that was said.
        self._failing = False
        self._failed = False

    async def run(self) -> None:
        """Until cancelled, or until this process may not write any more."""
        while True:
            try:
                await self._step()
                self._failing = self._failed = False
            except LeaseLost:
                return
            except DependencyError as exc:
                if not self._failing:
                    _log.warning("waits for the store", what=self._name, error=str(exc))
                self._failing = self._failed = True
            except Exception:  # noqa: BLE001 - whatever it is, it must not be the last time
                _log.exception("failed", what=self._name)
                self._failed = True
            # What must be done now and then is not put off for so long only because it failed once.
            await asyncio.sleep(min(self._every, _RETRY_SECONDS) if self._failed else self._every)


class Deadlines:
    """Fires each transaction's clock when it runs out, oldest first."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        workflow: Workflow,
        now: Now,
        slew: Callable[[], None],
        *,
        lease: float = 5.0,
    ) -> None:
        """slew: called now and then, so that our clock creeps towards the system's. lease: seconds."""
        self._store = store
        self._journal = journal
        self._workflow = workflow
        self._now = now
        self._slew = slew
        self._next: datetime | None = None
        self._earlier = asyncio.Event()
        #: A fifth of the lease: how often the lead is renewed, or tried for.
        self._pause = lease / 5
        self._renew_at = 0.0
        self._failing = False
        #: Whether this process fires the deadlines.
        self.leads = False
        self._left_alone: dict[UUID, datetime] = {}
        #: How late deadlines fired, in seconds, newest last; for metrics.
        self.lateness: list[float] = []
        self.fired = 0
        workflow.committing.on_deadline = self._hear

    def _hear(self, deadline: Deadline) -> None:
        """A commit has set a deadline; only one earlier than the one slept for matters."""
        if self._next is None or deadline.at < self._next:
            self._next = deadline.at
            self._earlier.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if self._store.post.fenced or not await self._lead():
                    await asyncio.sleep(self._pause)
                elif not await self._fire_due():
                    self._failing = False
                    await self._sleep()
            except LeaseLost:
                return
            except DependencyError as exc:
                if not self._failing:
                    _log.warning("waits for the store", what=_JOB, error=str(exc))
                self._failing, self.leads = True, False
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - whatever it is
                _log.exception("deadlines failed")  # and go on: without this loop nothing would ever time out
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _lead(self) -> bool:
        now = asyncio.get_running_loop().time()
        if not self.leads or now >= self._renew_at:
            self.leads = await self._journal.lead(_JOB)
            self._renew_at = now + self._pause
        return self.leads

    async def _fire_due(self) -> bool:
        """Fire a batch of what is overdue; False if nothing was."""
        due = await self._journal.look(self._store.overdue, self._now(), _BATCH + len(self._left_alone))
        results = await asyncio.gather(*(self._fire(transaction) for transaction in due))
        if due and not any(results):
            # None of them could be fired now: do not spin on them.
            await asyncio.sleep(_PAUSE_SECONDS)
        return bool(due)

    async def _fire(self, transaction: Transaction) -> bool:
        if self._left_alone.get(transaction.id, self._now()) > self._now():
            return False
        try:
            await self._workflow.resuming.expire(transaction)
        except InterlockError as exc:
            _log.warning("deadline not fired", transaction=str(transaction.id), error=str(exc))
            return False
        except Exception as exc:  # noqa: BLE001 - one that fails must not hold the others up
            await self._workflow.resuming.park(transaction, exc)
            self._left_alone = {id_: until for id_, until in self._left_alone.items() if until > self._now()}
            self._left_alone[transaction.id] = self._now() + _LEFT_ALONE
            return False
        self.fired += 1
        if transaction.deadline is not None:
            self.lateness.append((self._now() - transaction.deadline.at).total_seconds())
            del self.lateness[:-1024]
        return True

    async def _sleep(self) -> None:
        self._slew()
        if self._store.shared:
            # Other processes set deadlines too: to look at what is due says more than to ask when the next one is.
            await asyncio.sleep(_NAP_SHARED_SECONDS)
            return
        self._earlier.clear()
        self._next = None  # from here on every deadline that is set is heard
        found = await self._journal.look(self._store.next_deadline)
        if not self._earlier.is_set():
            self._next = None if found is None else found.at
        nap = _NAP if self._next is None else min(_NAP, self._next - self._now())
        try:
            # Not wait_for, which in Python 3.11 may take a cancellation for the event that came with it.
            async with asyncio.timeout(max(0.0, nap.total_seconds())):
                await self._earlier.wait()
        except TimeoutError:
            return
