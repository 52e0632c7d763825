"""What the peers have of ours, and the ends that wait for it.

One poller a process asks the database how far each peer has its log on disk, as long as somebody waits; nobody's commit
ever hangs on a peer. What may follow what is `regions/rules.py`'s.

Owns: the waiting. Must not know: SQL, or what an end means.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from math import inf
from typing import NamedTuple

import structlog

from interlock.clock import Now
from interlock.errors import DependencyError, InterlockError
from interlock.iso20022.codes import Status
from interlock.journal import Journal
from interlock.ports import Store
from interlock.regions.rivals import Rival
from interlock.regions.rules import CHANGES, may_conclude
from interlock.transaction import Transaction

_log = structlog.get_logger()

#: How often the peers' positions are asked for at most while somebody waits, at least so, and while nobody does.
_BUSY_SECONDS, _PATIENT_SECONDS, _IDLE_SECONDS = 0.003, 0.1, 0.5
#: The part of an ordinary wait in which nobody need ask, and how much the last wait counts for what is ordinary.
_QUIET, _LAST = 0.9, 0.2
#: How much sooner is asked after the first question was answered at once.
_SOONER = 0.8
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


class Word(NamedTuple):
    """What the peers had of an intent when its end was allowed to become a fact."""

    #: Where the intent was committed, or a place after that.
    position: int
    #: The region's, under whose guards that was found.
    epoch: int
    #: Numbers of the regions that had it on their disks.
    had: frozenset[int]


class _Intent(NamedTuple):
    transaction: Transaction
    #: None: it was committed some time before, nobody remembers where.
    position: int | None
    #: When it began to wait, by the loop's clock.
    since: float


class _Caller(NamedTuple):
    is_so: Callable[[], bool]
    told: asyncio.Future[None]
    since: float


class Pace:
    """When to ask next: what takes a round trip need not be asked for before that can be over. Times are in seconds."""

    def __init__(self) -> None:
        """Nothing is known of how long waits take."""
        self._ordinary = 0.0

    def learn(self, waited: float, *, asked: bool) -> None:
        """So long somebody has waited. asked: in vain meanwhile; else it may have been over long before."""
        if asked:
            self._ordinary += _LAST * (min(waited, _PATIENT_SECONDS) - self._ordinary)
        else:
            self._ordinary = min(waited, self._ordinary) * _SOONER

    def next_look(self, since: float, looked: float) -> float:
        """When to ask for what waits since then, having asked last at `looked`; rarer, the longer it is overdue."""
        due = since + _QUIET * self._ordinary
        if looked < due:
            return max(due, looked + _BUSY_SECONDS)
        return looked + min(max(_BUSY_SECONDS, (looked - due) / 8), _PATIENT_SECONDS)


class Acks:
    """Waits for peers on behalf of all of a process's transactions."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        now: Now,
        *,
        position: Callable[[Transaction], int | None] = lambda _: None,
    ) -> None:
        """Nothing is asked before `run`. position: where a transaction was written as it is, if one remembers."""
        self._position = position
        self._store = store
        self._journal = journal
        self._now = now
        self._wanted = asyncio.Event()
        #: In the order in which they were committed, more or less.
        self._intents: deque[_Intent] = deque()
        self._callers: list[_Caller] = []
        self._pace = Pace()
        #: When was asked last, by the loop's clock.
        self._looked = 0.0
        #: How far each peer has our log on its disk, as of the last look, by region number.
        self._flushed: Mapping[int, int] = {}
        self._marks: deque[tuple[int, datetime]] = deque(maxlen=_MARKS)
        self._concluding: set[asyncio.Task[None]] = set()
        #: Releases that guards have, and some other region has not.
        self._apart: list[_Intent] = []
        #: By region number.
        self.confirmed: dict[int, Confirmed] = {}
        #: Regions that may take payments of their own.
        self.others: Callable[[], Collection[int]] = lambda: ()
        #: Makes the intended end of a transaction a fact: told what the peers have of it, and who has taken the same
        #: payments elsewhere.
        self.conclude: Callable[[Transaction, Word, tuple[Rival, ...]], Awaitable[object]] | None = None

    # -- who waits --

    def intend(self, transaction: Transaction, position: int | None) -> None:
        """An end is intended: conclude it once that is allowed."""
        self._intents.append(_Intent(transaction, position, asyncio.get_running_loop().time()))
        self._wanted.set()

    @property
    def waiting(self) -> int:
        """Intended ends that are no facts yet, as far as they are this process's."""
        return len(self._intents) + len(self._concluding) + len(self._apart)

    async def wait(self, position: int, seconds: float, copies: int = 1) -> bool:
        """Whether so many peers have everything up to there on their disks before the time is up."""
        return await self._wait(lambda: self.is_confirmed(position, copies), seconds)

    async def wait_for(self, transaction: Transaction, seconds: float, copies: int = 1) -> bool:
        """The same for all that has happened to a transaction so far."""
        return await self.wait(await self._place(transaction), seconds, copies)

    async def wait_for_all(self, transaction: Transaction, seconds: float) -> bool:
        """Whether everybody who must has the transaction before the time is up; see `_is_there`."""
        position = await self._place(transaction)
        return await self._wait(lambda: self._is_there(transaction, position), seconds)

    def _is_there(self, transaction: Transaction, position: int) -> bool:
        """Whether every guard has the transaction, and every other region where its payments are to be known first."""
        flushed = self._flushed
        if not may_conclude(self._store.post, flushed, position):
            return False
        return not transaction.everywhere or all(flushed.get(peer, -1) >= position for peer in self.others())

    async def _wait(self, is_so: Callable[[], bool], seconds: float) -> bool:
        if is_so():
            return True
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()
        self._callers.append(_Caller(is_so, told, loop.time()))
        self._wanted.set()
        try:
            await asyncio.wait([told], timeout=seconds)
            return told.done()
        finally:  # also where the caller has gone
            if not told.done():
                self._callers = [caller for caller in self._callers if caller.told is not told]

    async def _place(self, transaction: Transaction) -> int:
        position = self._position(transaction)
        if position is not None:
            return position
        # Another process wrote it, or it is long ago: it lies before the end of the log.
        end, _ = await self._journal.look(self._store.flushed)
        return end

    def stands(self, transaction: Transaction) -> bool:
        """Whether no takeover came since it was written: what a peer has got after one may be another's by now."""
        return transaction.epoch // CHANGES == self._store.post.generation

    def has(self, transaction: Transaction, copies: int = 1) -> bool:
        """Whether so many peers have all of it, as of the last look."""
        position = self._position(transaction)
        if position is None:
            return self.covers(transaction.updated_at, copies)
        return self.is_confirmed(position, copies)

    def is_confirmed(self, position: int, copies: int = 1) -> bool:
        """Whether so many peers have everything up to there on their disks, as of the last look."""
        return sum(found.position >= position for found in self.confirmed.values()) >= copies

    def covers(self, moment: datetime, copies: int = 1) -> bool:
        """Whether so many peers have everything that was committed before a moment."""
        having = sum(found.until is not None and found.until > moment for found in self.confirmed.values())
        return having >= copies

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
            await self._pause()

    async def _pause(self) -> None:
        """Until it is time to ask again; whoever begins to wait meanwhile may bring that forward."""
        loop = asyncio.get_running_loop()
        while True:
            self._wanted.clear()
            # Who waits longest and who waits shortest: the others are asked for along with them.
            queues = [queue for queue in (self._intents, self._callers, self._apart) if queue]
            since = [each.since for queue in queues for each in (queue[0], queue[-1])]
            due = (
                min(self._pace.next_look(each, self._looked) for each in since)
                if since
                else self._looked + _IDLE_SECONDS
            )
            # Not wait_for, which in Python 3.11 may take a cancellation for the event that came with it.
            try:
                async with asyncio.timeout_at(due):
                    await self._wanted.wait()
            except TimeoutError:
                return
            if loop.time() >= due:
                return

    async def _look(self) -> None:
        looked_before, self._looked = self._looked, asyncio.get_running_loop().time()
        before = self._now()
        position, flushed = await self._journal.look(self._store.flushed)
        # Whatever was committed before we asked lies before this position.
        self._marks.append((position, before))
        self._note(flushed)
        over = [caller for caller in self._callers if not caller.told.done() and caller.is_so()]
        for caller in over:
            caller.told.set_result(None)
        self._callers = [caller for caller in self._callers if not caller.told.done()]
        since = [caller.since for caller in over] + self._release(position, flushed)
        if since:
            # Of those that it was over for now, whoever began last: the others waited longer than they had to.
            last = max(since)
            self._pace.learn(self._looked - last, asked=looked_before > last)

    def _note(self, flushed: Mapping[int, int]) -> None:
        known, self._flushed = self.confirmed, flushed
        self.confirmed = {}
        for region, reached in flushed.items():
            former = known.get(region)
            until = next((moment for place, moment in reversed(self._marks) if place <= reached), None)
            if until is None and former is not None:
                until = former.until
            self.confirmed[region] = Confirmed(reached, until)

    def _release(self, position: int, flushed: Mapping[int, int]) -> list[float]:
        """Conclude what may be, in one go; since when each has waited.

        What nobody remembers the place of lies before the end of the log.
        """
        post, now = self._store.post, self._now()
        freed: list[float] = []
        behind, self._apart = self._apart, []
        while self._intents:
            transaction, place, since = self._intents[0]
            place = position if place is None else place
            if not may_conclude(post, flushed, place):
                self._intents[0] = _Intent(transaction, place, since)
                break  # what came later lies behind it
            self._intents.popleft()
            behind.append(_Intent(transaction, place, since))
            freed.append(since)
        guarded = _reached(flushed, post.guards)
        everywhere = min(guarded, _reached(flushed, self.others()))
        ready: list[tuple[Transaction, Word]] = []
        for intent in behind:
            transaction, place = intent.transaction, intent.position
            assert place is not None  # it has been in the queue
            releases = transaction.standing.end is Status.ACSC and not _is_late(transaction, now)
            if releases and place > (everywhere if transaction.everywhere else guarded):
                self._apart.append(intent)
            else:
                had = frozenset(peer for peer, reached in flushed.items() if reached >= place)
                ready.append((transaction, Word(place, post.epoch, had)))
        if ready:
            task = asyncio.create_task(self._conclude(ready), name="conclude")
            self._concluding.add(task)
            task.add_done_callback(self._concluding.discard)
        return freed

    async def _conclude(self, ready: list[tuple[Transaction, Word]]) -> None:
        assert self.conclude is not None  # set where the parts are joined
        conclude = self.conclude
        try:
            # Only now: whoever has ours by now has it since before we look.
            rivals = await self._journal.read(
                self._store.rivals, [transaction.id for transaction, _ in ready], self._store.region
            )
        except DependencyError:
            for transaction, word in ready:
                self.intend(transaction, word.position)
            return
        concluding = (conclude(intended, word, rivals.get(intended.id, ())) for intended, word in ready)
        results = await asyncio.gather(*concluding, return_exceptions=True)
        for (transaction, _), result in zip(ready, results, strict=True):
            if isinstance(result, DependencyError):
                self.intend(transaction, None)
            elif isinstance(result, InterlockError):
                _log.warning("not concluded", transaction=str(transaction.id), error=str(result))
            elif isinstance(result, BaseException):
                _log.error("not concluded", transaction=str(transaction.id), exc_info=result)
                self.intend(transaction, None)


def _reached(flushed: Mapping[int, int], regions: Collection[int]) -> float:
    """Up to where all of them have our log; without end where there are none."""
    return min((flushed.get(region, -1) for region in regions), default=inf)


def _is_late(transaction: Transaction, now: datetime) -> bool:
    return transaction.deadline is not None and transaction.deadline.at <= now
