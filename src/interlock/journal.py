"""The one way state changes: writes are gathered and committed together, and each caller learns what its own came to.

While one batch is on its way to the disk the next one gathers: under load many changes share one fsync, alone a change
waits for nobody. The store is synchronous and is called by this module's one thread; everything else awaits.

A store that does not answer keeps nobody waiting: after a moment those whose batch is under way hear that its outcome
is not known, those behind them that nothing was written, and so does everybody new until the store has answered. Over a
shared store the process's lease is renewed, and one that was lost is followed by another registration.

Owns: batching, the writer thread, the lease, reading back an unknown outcome. Must not know: what a change means.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, ParamSpec, TypeVar

from interlock.errors import Contended, InterlockError, LeaseLost, OutcomeUnknown, Overloaded, StoreUnavailable
from interlock.ports import Outcome, Store, Won, Write
from interlock.transaction import Transaction

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Told where in the store's log the commit ends.
_Then = Callable[[int], None]
_Failed = Callable[[], None]
_WON = Won()


class _Waiting(NamedTuple):
    """A write that waits for its commit."""

    #: None: nothing is to be written, but a commit is wanted, for the lease's sake or to see that one can be made.
    write: Write | None
    #: Told the outcome; None where nobody waits for it.
    future: "asyncio.Future[Outcome] | None" = None
    #: Called if it has won.
    then: _Then | None = None
    #: Called if it could not be written.
    failed: _Failed | None = None


#: The longest that a write waits for company.
_LINGER_SECONDS = 0.008
#: How often a store that is slow is asked whether it is there, before it is taken for gone all the same.
_QUESTIONS = 8
#: How long the end waits for a store that may be gone.
_STOP_SECONDS = 5.0
#: The longest that a note waits for a batch to go with.
_NOTE_SECONDS = 0.05


@dataclass(slots=True)
class Tally:
    """What the journal has done, for metrics."""

    batches: int = 0
    writes: int = 0
    failures: int = 0
    #: How often others had given this process up.
    lost_leases: int = 0
    #: Callers that were told that the outcome of their write is not known.
    unknown: int = 0
    #: Sizes and durations of recent batches, newest last: (writes, seconds).
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=1024))


class Journal:
    """Group commit over a store, from within an event loop."""

    def __init__(
        self,
        store: Store,
        token: int,
        *,
        register: Callable[[], int] | None = None,
        patience: float | None = None,
        batch_max: int = 256,
        waiting_max: int = 8192,
    ) -> None:
        """token: what `Store.register` gave.

        register: gets another token once the lease is lost; without it that is the end of this process's writing.
        patience: seconds after which a store that is still at it is asked whether it is there at all; if it does not
        answer that as quickly either, those who wait are told. None: they wait.
        waiting_max: writes that may queue before new ones are refused.
        """
        self._store = store
        self._token = token
        self._register = register
        self._patience = patience
        self._patience_timer: asyncio.TimerHandle | None = None
        #: Done once the batch that takes long has been written, and who waits for that, lest they wait too long.
        self._awaited: asyncio.Future[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        #: A batch has been under way for longer than our patience.
        self._stuck = False
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Waiting] = deque()
        self._notes: list[_Waiting] = []
        self._note_timer: asyncio.TimerHandle | None = None
        self._handing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="reader")
        self._looks = ThreadPoolExecutor(1, thread_name_prefix="look")
        self._questions = ThreadPoolExecutor(1, thread_name_prefix="question")
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False
        self._lost = False
        self.tally = Tally()
        #: Set by the writer's thread when it has registered anew.
        self._anew = False
        #: Called when this process has begun anew: what it remembers may not be so any more.
        self.on_begun_anew: Callable[[], None] = lambda: None
        #: Called once when another process has taken over: this one must stop.
        self.on_lease_lost: Callable[[], None] = lambda: None

    @property
    def token(self) -> int:
        """What this process writes under."""
        return self._token

    @property
    def waiting(self) -> int:
        """Writes that have not been handed to the store yet."""
        return len(self._waiting)

    async def commit(self, write: Write, then: _Then | None = None) -> Outcome:
        """Make one write durable, together with whatever else is waiting; its own outcome.

        then: called in the event loop if the write has won, also where the caller has gone meanwhile: what must follow
        a commit must not hang on whoever asked for it.

        Raises StoreUnavailable or Overloaded (nothing was written), OutcomeUnknown (ask by id), LeaseLost.
        """
        return await self._enqueue(write, then)

    async def renew(self) -> None:
        """Commit although there may be nothing to write: the lease goes on, and the store is seen to work.

        Raises like `commit`.
        """
        await self._enqueue(None, None)

    async def _enqueue(self, write: Write | None, then: _Then | None) -> Outcome:
        if self._stopped:
            raise StoreUnavailable("the server is shutting down")
        if self._stuck:
            raise StoreUnavailable("the store does not answer; nothing was kept, try again shortly")
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded("more writes are waiting than the store can take; try again shortly")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append(_Waiting(write, future, then))
        if not self._handing:
            self._begin(loop)
        return await future

    def note(self, write: Write, failed: _Failed) -> None:
        """Write something that nobody waits for and whose loss is no harm; it goes with the next batch.

        failed: called if it could not be written.
        """
        self._notes.append(_Waiting(write, failed=failed))
        if not self._handing and not self._stopped and self._note_timer is None:
            loop = asyncio.get_running_loop()
            self._note_timer = loop.call_later(_NOTE_SECONDS, self._begin, loop)

    async def read(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call one of the store's reads beside the event loop. Raises StoreUnavailable if it takes too long."""
        return await self._read(self._readers, lambda: function(*args, **kwargs))

    async def look(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The same for what this process does by itself, which does not queue behind what callers ask for."""
        return await self._read(self._looks, lambda: function(*args, **kwargs))

    async def _read(self, threads: ThreadPoolExecutor, function: Callable[[], _T]) -> _T:
        reading = asyncio.get_running_loop().run_in_executor(threads, function)
        if self._patience is None:
            return await reading
        try:
            done, _ = await asyncio.wait([reading], timeout=self._patience)
            if done or await self._worth_waiting_for(reading):
                return await reading
        finally:
            # Nobody wants it any more: not to be begun once the store is back, and if it fails, so be it.
            if not reading.done():
                reading.add_done_callback(_heard)
                reading.cancel()
        raise StoreUnavailable("the store does not answer; try again shortly")

    async def claim(self, limit: int) -> tuple[Transaction, ...]:
        """Take over what processes that are gone left half-way. Raises StoreUnavailable, LeaseLost."""
        return await self._beside(lambda: self._store.claim(self._token, limit))

    async def lead(self, job: str) -> bool:
        """Whether this process does a job that one alone should do. Raises StoreUnavailable."""
        return await self._beside(lambda: self._store.lead(self._token, job))

    async def _beside(self, function: Callable[[], _T]) -> _T:
        """Call the store between two batches, in the thread that writes. Raises StoreUnavailable."""
        if self._stuck or self._stopped:
            raise StoreUnavailable("the store does not answer; try again shortly")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._leased, function)
        finally:
            self._tell_if_anew()

    async def stop(self) -> None:
        """Wait until everything that was accepted is committed, then end the threads."""
        self._stopped = True
        if not self._handing:
            self._begin(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(None if self._patience is None else _STOP_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            # Whoever waited has been told that the outcome is not known; so it is, and so it stays.
            self._store.abandon()
            await self._idle.wait()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._release)
        self._thread.shutdown()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._looks.shutdown(wait=False, cancel_futures=True)
        self._questions.shutdown(wait=False, cancel_futures=True)

    # -- in the event loop --

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Something waits and nothing is under way."""
        if self._note_timer is not None:
            self._note_timer.cancel()
            self._note_timer = None
        if not self._handing:
            self._handing = True
            self._idle.clear()
            loop.call_soon(self._gather, loop, 0, loop.time())

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, since: float) -> None:
        """Hand over once a turn of the loop has brought nothing more, or enough has come, or it has taken long enough.

        A commit costs some 0.2 ms of CPU whatever its size. Under load each turn brings more, and it is cheaper for all
        to go together; alone a write waits for one empty turn, which is microseconds.
        """
        size = len(self._waiting)
        if not size and not self._notes:
            self._handing = False
            self._idle.set()
        elif seen < size < self._batch_max and loop.time() - since < _LINGER_SECONDS:
            loop.call_soon(self._gather, loop, size, since)
        else:
            self._hand_over(loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        size = min(len(self._waiting), self._batch_max)
        batch = [self._waiting.popleft() for _ in range(size)]
        batch += self._notes
        self._notes = []
        if self._patience is not None:
            self._patience_timer = loop.call_later(self._patience, self._doubt, loop, batch)
        self._thread.submit(self._write, loop, batch)

    def _doubt(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting]) -> None:
        """The batch has been under way for long."""
        self._awaited = loop.create_future()
        self._watching = loop.create_task(self._watch(batch, self._awaited))

    async def _watch(self, batch: list[_Waiting], written: "asyncio.Future[None]") -> None:
        if not await self._worth_waiting_for(written):
            self._lose_patience(batch)

    async def _worth_waiting_for(self, future: "asyncio.Future[Any]") -> bool:
        """Whether what takes long will be done, as far as one can tell: who is only slow answers a simple question."""
        loop = asyncio.get_running_loop()
        for _ in range(_QUESTIONS):
            asking = loop.run_in_executor(self._questions, self._store.clock)
            asking.add_done_callback(_heard)
            await asyncio.wait([asking, future], timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
            if not future.done() and (not asking.done() or asking.exception() is not None):
                return False
            await asyncio.wait([future], timeout=self._patience)
            if future.done():
                break
        return future.done()

    def _lose_patience(self, batch: list[_Waiting]) -> None:
        """The store does not answer: nobody is kept waiting for it, neither now nor until it does."""
        self._stuck = True
        unknown = OutcomeUnknown(
            "the store does not answer, so whether this was committed is not known; "
            "ask for the transaction by its id or key, do not send it again under another"
        )
        behind = StoreUnavailable("the store does not answer; nothing was kept, try again shortly")
        for waiting, error in [*((w, unknown) for w in batch), *((w, behind) for w in self._waiting)]:
            if waiting.future is not None and not waiting.future.done():
                waiting.future.set_exception(error)
                self.tally.unknown += error is unknown and waiting.write is not None
        self._waiting.clear()

    def _settle(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[_Waiting],
        results: "list[Outcome | BaseException]",
        position: int,
    ) -> None:
        if self._patience_timer is not None:
            self._patience_timer.cancel()
        if self._awaited is not None:
            self._awaited.set_result(None)
            self._awaited = None
        self._stuck = False
        for (write, future, then, failed), result in zip(batch, results, strict=True):
            if isinstance(result, Won) and then is not None:
                _call(loop, then, position)
            elif isinstance(result, BaseException) and failed is not None:
                _call(loop, failed)
            if future is None:
                continue
            if future.done():  # its caller has gone; what was written stays written
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
                self.tally.unknown += isinstance(result, OutcomeUnknown) and write is not None
            else:
                future.set_result(result)
        self._tell_if_anew()
        if not self._lost and any(isinstance(result, LeaseLost) for result in results):
            self._lost = True
            self.on_lease_lost()
        self._gather(loop, 0, loop.time())

    def _tell_if_anew(self) -> None:
        """Before anybody hears of what was done under the new token."""
        if self._anew:
            self._anew = False
            self.on_begun_anew()

    # -- in the writer's thread --

    def _write(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting]) -> None:
        started = loop.time()
        results = self._outcomes([waiting.write for waiting in batch])
        self.tally.batches += 1
        self.tally.writes += len(batch)
        self.tally.failures += sum(isinstance(result, BaseException) for result in results)
        self.tally.recent.append((len(batch), loop.time() - started))
        # Of a batch that was split this is the last part's place, behind all others.
        loop.call_soon_threadsafe(self._settle, loop, batch, results, self._store.position)

    def _outcomes(self, writes: list[Write | None]) -> "list[Outcome | BaseException]":
        """An outcome or error for each write; one that breaks the batch does not fail its neighbours."""
        try:
            outcomes = iter(self._commit([write for write in writes if write is not None]))
            return [_WON if write is None else next(outcomes) for write in writes]
        except LeaseLost as exc:
            return [self._lost_lease(exc)] * len(writes)
        except Contended as exc:  # whoever is to blame, its neighbours are not
            if len(writes) == 1:
                return [exc]
        except InterlockError as exc:
            return [exc] * len(writes)
        except Exception as exc:  # noqa: BLE001 - whatever it is, each caller must hear of it
            if len(writes) == 1:
                return [exc]
        return [result for write in writes for result in self._outcomes([write])]

    def _lost_lease(self, lost: LeaseLost) -> InterlockError:
        """We were silent for too long and others have taken our work over: begin anew, where that can be done."""
        self.tally.lost_leases += 1
        if self._register is None:
            return lost
        try:
            self._token = self._register()
            self._anew = True
        except InterlockError as exc:
            return exc
        except Exception as exc:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            return StoreUnavailable(f"this process could not register anew ({type(exc).__name__}); try again shortly")
        return StoreUnavailable("others had taken this process for dead; nothing was kept, try again")

    def _leased(self, function: Callable[[], _T]) -> _T:
        try:
            return function()
        except LeaseLost as exc:
            raise self._lost_lease(exc) from exc

    def _release(self) -> None:
        with contextlib.suppress(InterlockError):  # the lease runs out by itself
            self._store.release(self._token)

    def _commit(self, writes: list[Write]) -> list[Outcome]:
        batch = os.urandom(16)
        try:
            return self._store.commit(self._token, writes, batch)
        except OutcomeUnknown:
            outcomes = self._read_back(batch)
        if outcomes is None:
            raise StoreUnavailable("the store could not commit; nothing of this request was kept")
        return outcomes

    def _read_back(self, batch: bytes) -> list[Outcome] | None:
        """What the store says of a commit whose outcome it could not tell."""
        try:
            return self._store.committed(batch)
        except Exception as exc:
            raise OutcomeUnknown(
                "whether this was committed cannot be read back now; ask for the transaction by its id or key, "
                "do not send it again under another"
            ) from exc


def _heard(asked: "asyncio.Future[Any]") -> None:
    """What became of a question matters to nobody who has not waited for it."""
    if not asked.cancelled():
        asked.exception()


def _call(loop: asyncio.AbstractEventLoop, follows: Callable[..., None], *about: int) -> None:
    """A mistake in what follows one write must not keep its neighbours from hearing of theirs."""
    try:
        follows(*about)
    except Exception as exc:  # noqa: BLE001 - told to the loop, as a callback's always is
        loop.call_exception_handler({"message": "what follows a commit failed", "exception": exc})
