"""The journal over a scripted store: what it gathers, whom it tells what, and what it never does twice."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from interlock.errors import (
    DependencyError,
    InterlockError,
    LeaseLost,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
)
from interlock.journal import Journal
from interlock.ports import Control, ControlScope, Outcome, Stale, Store, Won, Write

pytestmark = pytest.mark.anyio

_AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def a_write(name: str = "r") -> Control:
    return Control(scope=ControlScope.ROUTE, name=name, stopped=True, actor="o", note=None, at=_AT)


class ScriptedStore:
    """Does what its script says at each commit; then commits."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.durable: list[str] = []
        self.sealed: dict[bytes, list[Outcome]] = {}
        #: At each commit the next one is called; it may raise.
        self.script: deque[Callable[[Sequence[Write], bytes], None]] = deque()
        self.read_back: Callable[[bytes], list[Outcome] | None] = self.sealed.get
        self.poisoned: set[str] = set()
        self.stale: set[str] = set()
        #: Commits wait here, so that a test sees what is under way.
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.threads: set[int] = set()

    def commit(self, token: int, writes: Sequence[Write], batch: bytes) -> list[Outcome]:
        """As `Store.commit`, by the script."""
        self.threads.add(threading.get_ident())
        names = [cast("Control", write).name for write in writes]
        self.batches.append(names)
        self.entered.release()
        assert self.gate.wait(10)
        if self.poisoned & set(names):
            raise ValueError("poison")
        if self.script:
            self.script.popleft()(writes, batch)
        return self.write(names, batch)

    def write(self, names: Sequence[str], batch: bytes) -> list[Outcome]:
        """Make a batch durable."""
        self.durable += [name for name in names if name not in self.stale]
        self.sealed[batch] = [Stale() if name in self.stale else Won() for name in names]
        return self.sealed[batch]

    def committed(self, batch: bytes) -> list[Outcome] | None:
        """As `Store.committed`."""
        return self.read_back(batch)


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def journal(store: ScriptedStore, anyio_backend: str) -> Journal:
    return journal_over(store)


def journal_over(store: ScriptedStore, **limits: int) -> Journal:
    return Journal(cast("Store", store), 1, **limits)


async def under_way(store: ScriptedStore) -> None:
    """Until the store has been entered once more."""
    assert await asyncio.to_thread(store.entered.acquire, timeout=10)


def failing(error: Exception, *, writes: ScriptedStore | None = None) -> Callable[[Sequence[Write], bytes], None]:
    """A commit that fails; with `writes` it has become durable all the same."""

    def fail(batch: Sequence[Write], id_: bytes) -> None:
        if writes is not None:
            writes.write([cast("Control", write).name for write in batch], id_)
        raise error

    return fail


# -- gathering --------------------------------------------------------------------------------------------------------


async def test_one_write_is_committed_at_once(store: ScriptedStore, journal: Journal) -> None:
    """Alone a change waits for nobody."""
    assert await journal.commit(a_write("a")) == Won()
    assert store.batches == [["a"]]
    await journal.stop()


async def test_what_comes_together_is_committed_together(store: ScriptedStore, journal: Journal) -> None:
    """Writes of one turn of the loop share one commit, in the order in which they came."""
    names = [f"w{n}" for n in range(50)]
    assert await asyncio.gather(*(journal.commit(a_write(name)) for name in names)) == [Won()] * 50
    assert store.batches == [names]
    await journal.stop()


async def test_while_one_batch_is_written_the_next_gathers(store: ScriptedStore, journal: Journal) -> None:
    """Everything that comes while a commit is under way goes into the one after it."""
    store.gate.clear()
    first = asyncio.ensure_future(journal.commit(a_write("first")))
    await under_way(store)
    later = []
    for n in range(20):
        later.append(asyncio.ensure_future(journal.commit(a_write(f"w{n}"))))
        await asyncio.sleep(0)
    store.gate.set()
    assert await asyncio.gather(first, *later) == [Won()] * 21
    assert store.batches == [["first"], [f"w{n}" for n in range(20)]]
    assert (journal.tally.batches, journal.tally.writes, journal.tally.failures) == (2, 21, 0)
    await journal.stop()


async def test_a_batch_is_bounded(store: ScriptedStore) -> None:
    """No more than batch_max share a commit; the rest follows in order."""
    journal = journal_over(store, batch_max=8)
    await asyncio.gather(*(journal.commit(a_write(f"w{n}")) for n in range(20)))
    assert [len(batch) for batch in store.batches] == [8, 8, 4]
    assert store.durable == [f"w{n}" for n in range(20)]
    await journal.stop()


async def test_one_thread_writes(store: ScriptedStore, journal: Journal) -> None:
    """The store's writes are called by one thread only, and never by the event loop's."""
    for _ in range(5):
        await asyncio.gather(*(journal.commit(a_write()) for _ in range(5)))
    assert len(store.threads) == 1
    assert threading.get_ident() not in store.threads
    await journal.stop()


async def test_each_caller_gets_its_own_outcome(store: ScriptedStore, journal: Journal) -> None:
    """A loser learns that it lost, its neighbours that they won."""
    store.stale = {"b"}
    outcomes = await asyncio.gather(*(journal.commit(a_write(name)) for name in "abc"))
    assert outcomes == [Won(), Stale(), Won()]
    await journal.stop()


async def test_nobody_is_told_before_the_commit_has_returned(store: ScriptedStore, journal: Journal) -> None:
    """An answer comes after durability, never before."""
    store.gate.clear()
    tasks = [asyncio.ensure_future(journal.commit(a_write(name))) for name in "abc"]
    await under_way(store)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    assert store.durable == []
    store.gate.set()
    await asyncio.gather(*tasks)
    assert store.durable == ["a", "b", "c"]
    await journal.stop()


# -- failures ---------------------------------------------------------------------------------------------------------


async def test_one_that_breaks_the_batch_fails_alone(store: ScriptedStore, journal: Journal) -> None:
    """Its neighbours are committed, each once and in order."""
    store.poisoned = {"c"}
    outcomes = await asyncio.gather(*(journal.commit(a_write(name)) for name in "abcde"), return_exceptions=True)
    assert [outcome for outcome in outcomes if not isinstance(outcome, ValueError)] == [Won()] * 4
    assert isinstance(outcomes[2], ValueError)
    assert store.durable == ["a", "b", "d", "e"]
    assert await journal.commit(a_write("next")) == Won()
    await journal.stop()


async def test_an_unavailable_store_fails_the_batch_and_no_more(store: ScriptedStore, journal: Journal) -> None:
    """All of the batch hear it, nothing is sent twice, and the next batch is tried anew."""
    store.script.append(failing(StoreUnavailable("disk full")))
    outcomes = await asyncio.gather(*(journal.commit(a_write(name)) for name in "abc"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert store.batches == [["a", "b", "c"]]
    assert await journal.commit(a_write("d")) == Won()
    assert store.durable == ["d"]
    await journal.stop()


async def test_an_unknown_outcome_that_was_committed_is_success(store: ScriptedStore, journal: Journal) -> None:
    """The batch is read back by its id, and each caller gets the outcome that it had."""
    store.stale = {"b"}
    store.script.append(failing(OutcomeUnknown("?"), writes=store))
    assert await asyncio.gather(*(journal.commit(a_write(name)) for name in "abc")) == [Won(), Stale(), Won()]
    assert store.batches == [["a", "b", "c"]]
    assert store.durable == ["a", "c"]
    await journal.stop()


async def test_an_unknown_outcome_that_was_not_committed_is_unavailable(store: ScriptedStore, journal: Journal) -> None:
    """The caller hears that nothing was kept and may send again; the journal itself sends nothing again."""
    store.script.append(failing(OutcomeUnknown("?")))
    outcomes = await asyncio.gather(*(journal.commit(a_write(name)) for name in "ab"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 2
    assert store.batches == [["a", "b"]]
    assert store.durable == []
    await journal.stop()


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), OutcomeUnknown("gone"), RuntimeError("odd")], ids=repr)
async def test_an_unknown_outcome_that_cannot_be_read_back_is_told_as_unknown(
    store: ScriptedStore, journal: Journal, error: Exception
) -> None:
    """Whatever keeps it from being read, nobody guesses, and what may be durable is never sent a second time."""

    def unreadable(_: bytes) -> list[Outcome] | None:
        raise error

    store.read_back = unreadable
    store.script.append(failing(OutcomeUnknown("?"), writes=store))
    outcomes = await asyncio.gather(*(journal.commit(a_write(name)) for name in "ab"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 2
    assert store.batches == [["a", "b"]]
    assert store.durable == ["a", "b"]
    await journal.stop()


async def test_a_lost_lease_is_told_to_all_and_raised_once(store: ScriptedStore, journal: Journal) -> None:
    """Each caller hears it; the process is told once that it must stop, however many batches fail after it."""
    told: list[int] = []
    journal.on_lease_lost = lambda: told.append(1)
    store.script.extend([failing(LeaseLost("another writes"))] * 3)
    for _ in range(3):
        outcomes = await asyncio.gather(*(journal.commit(a_write()) for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [LeaseLost] * 3
    assert told == [1]
    await journal.stop()


# -- callers that go --------------------------------------------------------------------------------------------------


async def test_a_caller_that_goes_fails_nobody(store: ScriptedStore, journal: Journal) -> None:
    """Its write is written all the same once it was handed over, and its neighbours get their outcomes."""
    store.gate.clear()
    tasks = [asyncio.ensure_future(journal.commit(a_write(name))) for name in "abc"]
    await under_way(store)
    tasks[1].cancel()
    store.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[0] == outcomes[2] == Won()
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert store.durable == ["a", "b", "c"]
    assert await journal.commit(a_write("d")) == Won()
    await journal.stop()


async def test_a_caller_that_goes_before_its_turn_fails_nobody(store: ScriptedStore, journal: Journal) -> None:
    """While its write still waits for a batch: the journal goes on, everyone else is served."""
    store.gate.clear()
    first = asyncio.ensure_future(journal.commit(a_write("first")))
    await under_way(store)
    tasks = [asyncio.ensure_future(journal.commit(a_write(name))) for name in "abc"]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    last = asyncio.ensure_future(journal.commit(a_write("last")))
    await asyncio.sleep(0)
    store.gate.set()
    assert [await first, await last] == [Won(), Won()]
    assert all(isinstance(outcome, BaseException) for outcome in await asyncio.gather(*tasks, return_exceptions=True))
    assert {"first", "last"} <= set(store.durable)
    await journal.stop()


async def test_a_mistake_in_what_follows_a_commit_holds_nobody_up(store: ScriptedStore, journal: Journal) -> None:
    """Whoever shared the batch hears its outcome all the same, and the journal goes on."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # that it is told somewhere is enough

    def trip() -> None:
        raise ZeroDivisionError("a mistake of ours")

    calls = [journal.commit(a_write("a")), journal.commit(a_write("b"), trip), journal.commit(a_write("c"))]
    outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 2)
    assert outcomes[0] == outcomes[2] == Won()
    assert await asyncio.wait_for(journal.commit(a_write("d")), 2) == Won()
    assert store.durable == ["a", "b", "c", "d"]
    await journal.stop()


# -- bounds -----------------------------------------------------------------------------------------------------------


async def test_too_many_waiting_writes_are_refused(store: ScriptedStore) -> None:
    """Over waiting_max a write is refused at once and not kept; what waits is served; then there is room again."""
    journal = journal_over(store, waiting_max=5)
    store.gate.clear()
    first = asyncio.ensure_future(journal.commit(a_write("first")))
    await under_way(store)
    waiting = [asyncio.ensure_future(journal.commit(a_write(f"w{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    assert journal.waiting == 5
    with pytest.raises(Overloaded):
        await journal.commit(a_write("too many"))
    store.gate.set()
    assert await asyncio.gather(first, *waiting) == [Won()] * 6
    assert await journal.commit(a_write("again")) == Won()
    assert "too many" not in store.durable
    await journal.stop()


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_stop_commits_what_was_accepted(store: ScriptedStore) -> None:
    """Everything that waits is committed, over as many batches as it takes, before stop returns."""
    journal = journal_over(store, batch_max=4)
    store.gate.clear()
    tasks = [asyncio.ensure_future(journal.commit(a_write(f"w{n}"))) for n in range(10)]
    await under_way(store)
    stopping = asyncio.ensure_future(journal.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    store.gate.set()
    await stopping
    assert store.durable == [f"w{n}" for n in range(10)]
    assert await asyncio.gather(*tasks) == [Won()] * 10


async def test_after_stop_a_write_is_refused(store: ScriptedStore, journal: Journal) -> None:
    """It does not hang: its caller hears that the store is not to be had."""
    await journal.commit(a_write("a"))
    await journal.stop()
    with pytest.raises(DependencyError):
        await asyncio.wait_for(journal.commit(a_write("late")), 2)
    assert store.durable == ["a"]


async def test_stop_without_work_returns(journal: Journal) -> None:
    """There is nothing to wait for."""
    await asyncio.wait_for(journal.stop(), 5)


async def test_reads_run_beside_writes(store: ScriptedStore, journal: Journal) -> None:
    """A read waits for no commit, is called with its arguments, and hands its errors on."""
    store.gate.clear()
    write = asyncio.ensure_future(journal.commit(a_write()))
    await under_way(store)
    assert await asyncio.wait_for(journal.read(divmod, 7, 2), 5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await journal.read(divmod, 7, 0)
    assert not write.done()
    store.gate.set()
    assert await write == Won()
    await journal.stop()


async def test_errors_have_the_words_that_callers_need() -> None:
    """Each error of the tree has a stable code of its own, and what is worth trying again says when."""
    kinds: list[type[InterlockError]] = [InterlockError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    named = [kind for kind in kinds if "code" in vars(kind)]
    assert len({kind.code for kind in named}) == len(named)
    assert all(kind.retry_after >= 1 for kind in kinds if issubclass(kind, DependencyError))
