"""What the peers have of ours, and the ends that wait for it.

One poller a process asks the database how far each peer has its log on disk, as long as somebody waits; nobody's commit
ever hangs on a peer. What may follow what is `regions/rules.py`'s.

Owns: the waiting. Must not know: SQL, or what an end means.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import structlog

from interlock.clock import Now
from interlock.errors import DependencyError, InterlockError
from interlock.journal import Journal
from interlock.ports import Store
from interlock.regions.rules import CHANGES, may_conclude
from interlock.transaction import Transaction

_log = structlog.get_logger()

#: How often the peers' positions are asked for while somebody waits, and while nobody does.
_BUSY_SECONDS, _IDLE_SECONDS = 0.003, 0.5
#: The wait after the database could not be asked.
_RETRY_SECONDS = 0.2
#: Moments whose positions are remembered, to tell how old the peers' copies are.
_MARKS = 256


class Confirmed(NamedTuple):
    """How far a peer has our changes."""

    #: Up to this position of our log.
    position: int
    #: And so everything that was committed before.
    until: datetime | None


class _Intent(NamedTuple):
    transaction: Transaction
    #: None: it was committed some time before, nobody remembers where.
    position: int | None


class Acks:
    """Waits for peers on behalf of all of a process's transactions."""

    def __init__(
        self, store: Store, journal: Journal, now: Now, *, position: Callable[[UUID], int | None] = lambda _: None
    ) -> None:
        """Nothing is asked before `run`. position: where a transaction was last written, as far as one remembers."""
        self._position = position
        self._store = store
        self._journal = journal
        self._now = now
        self._wanted = asyncio.Event()
        #: In the order in which they were committed, more or less.
        self._intents: deque[_Intent] = deque()
        self._callers: list[tuple[int, asyncio.Future[None]]] = []
        self._marks: deque[tuple[int, datetime]] = deque(maxlen=_MARKS)
        self._concluding: set[asyncio.Task[None]] = set()
        #: By region number.
        self.confirmed: dict[int, Confirmed] = {}
        #: Makes the intended end of a transaction a fact: told where it was intended, the epoch that we went by, and
        #: who has taken the same payments elsewhere.
        self.conclude: Callable[[Transaction, int, int, tuple[UUID, ...]], Awaitable[object]] | None = None

    # -- who waits --

    def intend(self, transaction: Transaction, position: int | None) -> None:
        """An end is intended: conclude it once that is allowed."""
        self._intents.append(_Intent(transaction, position))
        self._wanted.set()

    @property
    def waiting(self) -> int:
        """Intended ends that are no facts yet, as far as they are this process's."""
        return len(self._intents) + len(self._concluding)

    async def wait(self, position: int, seconds: float) -> bool:
        """Whether a peer has everything up to there on its disk before the time is up."""
        if self.is_confirmed(position):
            return True
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._callers.append((position, told))
        self._wanted.set()
        await asyncio.wait([told], timeout=seconds)
        if told.done():
            return True
        self._callers = [(place, future) for place, future in self._callers if future is not told]
        return False

    async def wait_for(self, transaction: Transaction, seconds: float) -> bool:
        """The same for all that has happened to a transaction so far."""
        position = self._position(transaction.id)
        if position is not None:
            return await self.wait(position, seconds)
        # Another process wrote it, or it is long ago: it lies before the end of the log.
        end, _ = await self._journal.look(self._store.flushed)
        return await self.wait(end, seconds)

    def stands(self, transaction: Transaction) -> bool:
        """Whether no takeover came since it was written: what a peer has got after one may be another's by now."""
        return transaction.epoch // CHANGES == self._store.post.generation

    def has(self, transaction: Transaction) -> bool:
        """Whether a peer has all of it, as of the last look."""
        position = self._position(transaction.id)
        return self.covers(transaction.updated_at) if position is None else self.is_confirmed(position)

    def is_confirmed(self, position: int) -> bool:
        """Whether a peer has everything up to there on its disk, as of the last look."""
        return any(found.position >= position for found in self.confirmed.values())

    def covers(self, moment: datetime) -> bool:
        """Whether a peer has everything that was committed before a moment."""
        return any(found.until is not None and found.until > moment for found in self.confirmed.values())

    # -- the loop --

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._look()
            except DependencyError:
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - whatever it is: without this loop no end would become a fact
                _log.exception("failed", what="peers' positions")
                await asyncio.sleep(_RETRY_SECONDS)
            if self._intents or self._callers:
                await asyncio.sleep(_BUSY_SECONDS)
                continue
            self._wanted.clear()
            # Not wait_for, which in Python 3.11 may take a cancellation for the event that came with it.
            try:
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        before = self._now()
        position, flushed = await self._journal.look(self._store.flushed)
        # Whatever was committed before we asked lies before this position.
        self._marks.append((position, before))
        self._note(flushed)
        for place, future in self._callers:
            if self.is_confirmed(place) and not future.done():
                future.set_result(None)
        self._callers = [(place, future) for place, future in self._callers if not future.done()]
        self._release(position, flushed)

    def _note(self, flushed: Mapping[int, int]) -> None:
        known = self.confirmed
        self.confirmed = {}
        for region, reached in flushed.items():
            former = known.get(region)
            until = next((moment for place, moment in reversed(self._marks) if place <= reached), None)
            if until is None and former is not None:
                until = former.until
            self.confirmed[region] = Confirmed(reached, until)

    def _release(self, position: int, flushed: Mapping[int, int]) -> None:
        """Conclude what may be, in one go; what nobody remembers the place of lies before the end of the log."""
        post = self._store.post
        ready: list[tuple[Transaction, int]] = []
        while self._intents:
            transaction, place = self._intents[0]
            place = position if place is None else place
            if not may_conclude(post, flushed, place):
                self._intents[0] = _Intent(transaction, place)
                break  # what came later lies behind it
            self._intents.popleft()
            ready.append((transaction, place))
        if ready:
            task = asyncio.create_task(self._conclude(ready, post.epoch), name="conclude")
            self._concluding.add(task)
            task.add_done_callback(self._concluding.discard)

    async def _conclude(self, ready: list[tuple[Transaction, int]], epoch: int) -> None:
        assert self.conclude is not None  # set where the parts are joined
        conclude = self.conclude
        try:
            # Only now: whoever has ours by now has it since before we look.
            rivals = await self._journal.read(self._store.rivals, [transaction.id for transaction, _ in ready])
        except DependencyError:
            self._intents.extend(_Intent(*intent) for intent in ready)
            return
        concluding = (conclude(intended, place, epoch, rivals.get(intended.id, ())) for intended, place in ready)
        results = await asyncio.gather(*concluding, return_exceptions=True)
        for (transaction, _), result in zip(ready, results, strict=True):
            if isinstance(result, DependencyError):
                self.intend(transaction, None)
            elif isinstance(result, InterlockError):
                _log.warning("not concluded", transaction=str(transaction.id), error=str(result))
            elif isinstance(result, BaseException):
                _log.error("not concluded", transaction=str(transaction.id), exc_info=result)
                self.intend(transaction, None)
