"""The one way state changes: writes are gathered and committed together, and each caller learns what its own came to.

While one batch is on its way to the disk the next one gathers: under load many changes share one fsync, alone a change
waits for nobody. The store is synchronous and is called by this module's one thread; everything else awaits.

Owns: batching, the writer thread, reading back an unknown outcome. Must not know: what a change means.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, ParamSpec, TypeVar

from interlock.errors import InterlockError, LeaseLost, OutcomeUnknown, Overloaded, StoreUnavailable
from interlock.ports import Outcome, Store, Won, Write

_P = ParamSpec("_P")
_T = TypeVar("_T")

_Then = Callable[[], None]


class _Waiting(NamedTuple):
    """A write that waits for its commit."""

    write: Write
    #: Told the outcome; None where nobody waits for it.
    future: "asyncio.Future[Outcome] | None" = None
    #: Called if it has won.
    then: _Then | None = None
    #: Called if it could not be written.
    failed: _Then | None = None


#: The longest that a write waits for company.
_LINGER_SECONDS = 0.008
#: The longest that a note waits for a batch to go with.
_NOTE_SECONDS = 0.05


@dataclass(slots=True)
class Tally:
    """What the journal has done, for metrics."""

    batches: int = 0
    writes: int = 0
    failures: int = 0
    #: Sizes and durations of recent batches, newest last: (writes, seconds).
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=1024))


class Journal:
    """Group commit over a store, from within an event loop."""

    def __init__(self, store: Store, token: int, *, batch_max: int = 256, waiting_max: int = 8192) -> None:
        """token: what `Store.register` gave. waiting_max: writes that may queue before new ones are refused."""
        self._store = store
        self._token = token
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Waiting] = deque()
        self._notes: list[_Waiting] = []
        self._note_timer: asyncio.TimerHandle | None = None
        self._handing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="reader")
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False
        self._lost = False
        self.tally = Tally()
        #: Called once when another process has taken over: this one must stop.
        self.on_lease_lost: Callable[[], None] = lambda: None

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
        if self._stopped:
            raise StoreUnavailable("the server is shutting down")
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded("more writes are waiting than the store can take; try again shortly")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append(_Waiting(write, future, then))
        if not self._handing:
            self._begin(loop)
        return await future

    def note(self, write: Write, failed: _Then) -> None:
        """Write something that nobody waits for and whose loss is no harm; it goes with the next batch.

        failed: called if it could not be written.
        """
        self._notes.append(_Waiting(write, failed=failed))
        if not self._handing and not self._stopped and self._note_timer is None:
            loop = asyncio.get_running_loop()
            self._note_timer = loop.call_later(_NOTE_SECONDS, self._begin, loop)

    async def read(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call one of the store's reads beside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, lambda: function(*args, **kwargs))

    async def stop(self) -> None:
        """Wait until everything that was accepted is committed, then end the threads."""
        self._stopped = True
        if not self._handing:
            self._begin(asyncio.get_running_loop())
        await self._idle.wait()
        self._thread.shutdown()
        self._readers.shutdown()

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
        self._thread.submit(self._write, loop, batch)

    def _settle(
        self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting], results: "list[Outcome | BaseException]"
    ) -> None:
        for (_, future, then, failed), result in zip(batch, results, strict=True):
            follows = failed if isinstance(result, BaseException) else then if isinstance(result, Won) else None
            if follows is not None:
                _call(loop, follows)
            if future is None:
                continue
            if future.done():  # its caller has gone; what was written stays written
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
        if not self._lost and any(isinstance(result, LeaseLost) for result in results):
            self._lost = True
            self.on_lease_lost()
        self._gather(loop, 0, loop.time())

    # -- in the writer's thread --

    def _write(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting]) -> None:
        started = loop.time()
        results = self._outcomes([waiting.write for waiting in batch])
        self.tally.batches += 1
        self.tally.writes += len(batch)
        self.tally.failures += sum(isinstance(result, BaseException) for result in results)
        self.tally.recent.append((len(batch), loop.time() - started))
        loop.call_soon_threadsafe(self._settle, loop, batch, results)

    def _outcomes(self, writes: list[Write]) -> "list[Outcome | BaseException]":
        """An outcome or error for each write; one that breaks the batch does not fail its neighbours."""
        try:
            return list(self._commit(writes))
        except InterlockError as exc:
            return [exc] * len(writes)
        except Exception as exc:  # noqa: BLE001 - whatever it is, each caller must hear of it
            if len(writes) == 1:
                return [exc]
        return [result for write in writes for result in self._outcomes([write])]

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


def _call(loop: asyncio.AbstractEventLoop, follows: _Then) -> None:
    """A mistake in what follows one write must not keep its neighbours from hearing of theirs."""
    try:
        follows()
    except Exception as exc:  # noqa: BLE001 - told to the loop, as a callback's always is
        loop.call_exception_handler({"message": "what follows a commit failed", "exception": exc})
