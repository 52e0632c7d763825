"""What happens without anybody asking: deadlines fire, and what a crash left half-way goes on.

The loop sleeps until the earliest deadline in the store, or until a commit sets an earlier one. (Once a second it looks
all the same, for a deadline may be set by another process.)
"""

import asyncio
from collections.abc import Callable
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
#: The longest sleep: the wall clock is followed and a deadline set by another process is seen.
_NAP = timedelta(seconds=1)
#: Wait after the store was unavailable.
_PAUSE_SECONDS = 0.5
#: How long one that tripped over a mistake of ours is left alone before its clock is tried again.
_LEFT_ALONE = timedelta(minutes=1)


class Deadlines:
    """Fires each transaction's clock when it runs out, oldest first."""

    def __init__(self, store: Store, journal: Journal, workflow: Workflow, now: Now, slew: Callable[[], None]) -> None:
        """slew: called about once a second, so that our clock creeps towards the system's."""
        self._store = store
        self._journal = journal
        self._workflow = workflow
        self._now = now
        self._slew = slew
        self._next: datetime | None = None
        self._earlier = asyncio.Event()
        self._left_alone: dict[UUID, datetime] = {}
        #: How late deadlines fired, in seconds, newest last; for metrics.
        self.lateness: list[float] = []
        self.fired = 0
        workflow.on_deadline = self._hear

    def _hear(self, deadline: Deadline) -> None:
        """A commit has set a deadline; only one earlier than the one slept for matters."""
        if self._next is None or deadline.at < self._next:
            self._next = deadline.at
            self._earlier.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if not await self._fire_due():
                    await self._sleep()
            except LeaseLost:
                return
            except DependencyError as exc:
                _log.warning("deadlines wait for the store", error=str(exc))
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - whatever it is
                _log.exception("deadlines failed")  # and go on: without this loop nothing would ever time out
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _fire_due(self) -> bool:
        """Fire a batch of what is overdue; False if nothing was."""
        due = await self._journal.read(self._store.overdue, self._now(), _BATCH)
        results = await asyncio.gather(*(self._fire(transaction) for transaction in due))
        if due and not any(results):
            # None of them could be fired now: do not spin on them.
            await asyncio.sleep(_PAUSE_SECONDS)
        return bool(due)

    async def _fire(self, transaction: Transaction) -> bool:
        if self._left_alone.get(transaction.id, self._now()) > self._now():
            return False
        try:
            await self._workflow.expire(transaction)
        except InterlockError as exc:
            _log.warning("deadline not fired", transaction=str(transaction.id), error=str(exc))
            return False
        except Exception as exc:  # noqa: BLE001 - one that fails must not hold the others up
            await self._workflow.park(transaction, exc)
            self._left_alone = {id_: until for id_, until in self._left_alone.items() if until > self._now()}
            self._left_alone[transaction.id] = self._now() + _LEFT_ALONE
            return False
        self.fired += 1
        if transaction.deadline is not None:
            self.lateness.append((self._now() - transaction.deadline.at).total_seconds())
            del self.lateness[:-1024]
        return True

    async def _sleep(self) -> None:
        self._earlier.clear()
        self._next = None  # from here on every deadline that is set is heard
        found = await self._journal.read(self._store.next_deadline)
        if not self._earlier.is_set():
            self._next = None if found is None else found.at
        nap = _NAP if self._next is None else min(_NAP, self._next - self._now())
        self._slew()
        try:
            await asyncio.wait_for(self._earlier.wait(), max(0.0, nap.total_seconds()))
        except TimeoutError:
            return
