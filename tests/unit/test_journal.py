"""The journal over a scripted store: what it gathers, whom it tells what, and what it never does twice."""

import asyncio
import gc
import threading
import time
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
from interlock.transaction import Transaction

pytestmark = pytest.mark.anyio

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_PATIENCE_SECONDS = 0.1


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def a_write(name: str = "r") -> Control:
    return Control(scope=ControlScope.ROUTE, name=name, stopped=True, actor="o", note=None, at=_AT)


class ScriptedStore:
    """Does what its script says at each commit; then commits."""

    position = 0

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        #: The token of each commit, claim and release, in order.
        self.tokens: list[int] = []
        self.released: list[int] = []
        #: What `claim` and `release` raise.
        self.claim_error: Exception | None = None
        self.release_error: Exception | None = None
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
        #: What the store does when it is asked whether it is there.
        self.asked: Callable[[], object] = lambda: None
        self.questions = 0

    def commit(self, token: int, writes: Sequence[Write], batch: bytes) -> list[Outcome]:
        """As `Store.commit`, by the script."""
        self.threads.add(threading.get_ident())
        self.tokens.append(token)
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

    def claim(self, token: int, limit: int) -> tuple[Transaction, ...]:
        """As `Store.claim`; there is never anything."""
        self.threads.add(threading.get_ident())
        self.tokens.append(token)
        error, self.claim_error = self.claim_error, None
        if error is not None:
            raise error
        return ()

    def lead(self, token: int, job: str) -> bool:
        """As `Store.lead`; the first process leads."""
        self.threads.add(threading.get_ident())
        return token == 1

    def clock(self) -> datetime:
        """As `Store.clock`."""
        self.questions += 1
        self.asked()
        return _AT

    def gone(self) -> None:
        """From here on nothing is answered, until the gate is opened."""
        self.gate.clear()
        self.asked = lambda: self.gate.wait(10)

    def release(self, token: int) -> None:
        """As `Store.release`."""
        self.released.append(token)
        if self.release_error is not None:
            raise self.release_error


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def journal(store: ScriptedStore, anyio_backend: str) -> Journal:
    return journal_over(store)


def journal_over(store: ScriptedStore, *, batch_max: int = 256, waiting_max: int = 8192) -> Journal:
    return Journal(cast("Store", store), 1, batch_max=batch_max, waiting_max=waiting_max)


def hasty_journal(store: ScriptedStore, register: Callable[[], int] | None = None) -> Journal:
    """Over a store that several write to, which may not take long."""
    return Journal(cast("Store", store), 1, register=register, patience=_PATIENCE_SECONDS)


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


# -- a commit without a write -----------------------------------------------------------------------------------------


async def test_a_renewal_commits_although_there_is_nothing_to_write(store: ScriptedStore, journal: Journal) -> None:
    """The store is asked, so that the lease goes on and a store that cannot commit is found out."""
    await journal.renew()
    assert store.batches == [[]]
    store.script.append(failing(StoreUnavailable("gone")))
    with pytest.raises(StoreUnavailable):
        await journal.renew()
    await journal.stop()


async def test_a_renewal_goes_with_what_is_written_anyway(store: ScriptedStore, journal: Journal) -> None:
    """In one commit, and each writer gets its own outcome all the same."""
    store.stale = {"b"}
    calls = [journal.renew(), journal.commit(a_write("a")), journal.renew(), journal.commit(a_write("b"))]
    outcomes = await asyncio.gather(*calls, journal.commit(a_write("c")), journal.renew())
    assert outcomes == [None, Won(), None, Stale(), Won(), None]
    assert store.batches == [["a", "b", "c"]]
    await journal.stop()


async def test_a_renewal_that_breaks_with_its_batch_is_tried_alone(store: ScriptedStore, journal: Journal) -> None:
    """A write that breaks the batch is no reason to think that the store does not work."""
    store.poisoned = {"a"}
    outcomes = await asyncio.gather(journal.commit(a_write("a")), journal.renew(), return_exceptions=True)
    assert isinstance(outcomes[0], ValueError)
    assert outcomes[1] is None
    await journal.stop()


async def test_a_note_goes_with_the_next_batch_or_soon_alone(store: ScriptedStore, journal: Journal) -> None:
    """Nobody waits for it; where it could not be written it is told so."""
    failed: list[str] = []
    journal.note(a_write("note"), lambda: failed.append("note"))
    await journal.commit(a_write("a"))
    assert store.batches == [["a", "note"]]
    journal.note(a_write("alone"), lambda: failed.append("alone"))
    await under_way(store)
    await under_way(store)
    assert store.batches[1:] == [["alone"]]
    store.script.append(failing(StoreUnavailable("gone")))
    journal.note(a_write("lost"), lambda: failed.append("lost"))
    with pytest.raises(StoreUnavailable):
        await journal.commit(a_write("b"))
    assert failed == ["lost"]
    await journal.stop()


# -- a store that does not answer -------------------------------------------------------------------------------------


async def test_a_store_that_does_not_answer_keeps_nobody_waiting(store: ScriptedStore) -> None:
    """Whose batch is under way hears that its outcome is unknown, who waits behind it that nothing was kept."""
    journal = hasty_journal(store)
    store.gone()
    began = time.monotonic()
    first = asyncio.ensure_future(journal.commit(a_write("first")))
    await under_way(store)
    behind = [asyncio.ensure_future(journal.commit(a_write(f"w{n}"))) for n in range(3)]
    outcomes = await asyncio.gather(first, *behind, return_exceptions=True)
    assert _PATIENCE_SECONDS <= time.monotonic() - began < 2 * _PATIENCE_SECONDS + 0.5
    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown, *[StoreUnavailable] * 3]
    assert journal.waiting == 0
    began = time.monotonic()
    for call in (journal.commit(a_write("new")), journal.renew(), journal.claim(1), journal.lead("job")):
        with pytest.raises(StoreUnavailable):
            await call
    assert time.monotonic() - began < _PATIENCE_SECONDS
    store.gate.set()
    await _until_it_answers(journal)
    assert store.durable == ["first"], "who was told that nothing was kept must be able to send again"
    assert await journal.commit(a_write("after")) == Won()
    await journal.stop()


async def _until_it_answers(journal: Journal) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                await journal.renew()
            except StoreUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


async def test_what_follows_a_commit_follows_it_however_late(store: ScriptedStore) -> None:
    """Its caller has gone with an unknown outcome; that it has won is remembered all the same."""
    journal = hasty_journal(store)
    followed: list[str] = []
    store.gone()
    with pytest.raises(OutcomeUnknown):
        await journal.commit(a_write("late"), lambda _: followed.append("late"))
    assert followed == []
    store.gate.set()
    await _until_it_answers(journal)
    assert followed == ["late"]
    await journal.stop()


async def test_a_store_that_is_only_slow_is_waited_for(store: ScriptedStore) -> None:
    """Who takes long over a batch, yet says that it is there, gets more time; and its callers their outcome."""
    journal = hasty_journal(store)
    for _ in range(2):
        store.gate.clear()
        calls = [asyncio.ensure_future(journal.commit(a_write("slow"))), asyncio.ensure_future(journal.renew())]
        await asyncio.sleep(_PATIENCE_SECONDS * 3.5)
        store.gate.set()
        assert await asyncio.gather(*calls) == [Won(), None]
    assert store.questions >= 4
    assert (journal.tally.failures, journal.tally.unknown) == (0, 0)
    await journal.stop()


async def test_a_store_that_is_quick_is_asked_nothing(store: ScriptedStore) -> None:
    """Patience is for each batch anew, not for all that a caller has waited."""
    journal = hasty_journal(store)
    for _ in range(3):
        store.gate.clear()
        call = asyncio.ensure_future(journal.commit(a_write("w")))
        await under_way(store)
        await asyncio.sleep(_PATIENCE_SECONDS / 2)
        store.gate.set()
        assert await call == Won()
    await asyncio.sleep(_PATIENCE_SECONDS * 1.5)
    assert await journal.commit(a_write("later")) == Won()
    assert store.questions == 0
    await journal.stop()


async def test_however_often_it_says_that_it_is_there_nobody_waits_for_ever(store: ScriptedStore) -> None:
    """A batch that does not come to an end is told of in the end."""
    journal = hasty_journal(store)
    store.gate.clear()
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(journal.commit(a_write("stuck")), 5)
    assert time.monotonic() - began > 3 * _PATIENCE_SECONDS
    assert journal.tally.unknown == 1
    store.gate.set()
    await _until_it_answers(journal)
    await journal.stop()


@pytest.mark.parametrize("answers", ["not", "that it is gone"])
async def test_a_read_that_takes_too_long_is_given_up(store: ScriptedStore, answers: str) -> None:
    """However many wait, unless the store says that it is there; and once it answers, reads work again."""
    journal = hasty_journal(store)
    stuck = threading.Event()
    store.gone()
    if answers == "that it is gone":
        store.asked = _is_gone
    began = time.monotonic()
    calls = [journal.read(stuck.wait, 10) for _ in range(5)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 5
    assert time.monotonic() - began < 2 * _PATIENCE_SECONDS + 0.5
    stuck.set()
    store.gate.set()
    assert await journal.read(divmod, 7, 2) == (3, 1)
    await journal.stop()


def _is_gone() -> None:
    raise StoreUnavailable("gone")


async def test_a_read_that_is_only_slow_is_waited_for(store: ScriptedStore) -> None:
    """As long as the store answers otherwise."""
    journal = hasty_journal(store)
    stuck = threading.Event()
    call = asyncio.ensure_future(journal.read(stuck.wait, 10))
    await asyncio.sleep(_PATIENCE_SECONDS * 2.5)
    stuck.set()
    assert await call is True
    assert store.questions >= 1
    await journal.stop()


async def test_what_becomes_of_a_read_that_was_given_up_is_no_mistake(store: ScriptedStore) -> None:
    """It fails in the end, as does the question; nobody is there to hear of it, and that is not reported as a fault."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    journal = hasty_journal(store)
    store.gone()
    stuck = threading.Event()

    def fails() -> None:
        stuck.wait(10)
        raise StoreUnavailable("gone")

    calls = [journal.read(fails) for _ in range(3)]
    gone = asyncio.ensure_future(journal.read(fails))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(*calls, gone, return_exceptions=True)
    stuck.set()
    store.gate.set()
    await asyncio.sleep(_PATIENCE_SECONDS)
    await journal.stop()
    del calls, gone
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


# -- a lease that was lost --------------------------------------------------------------------------------------------


class Registry:
    """Gives tokens: 2, 3, 4; or raises what it is told to."""

    def __init__(self, *errors: Exception) -> None:
        self.given: list[int] = []
        self._errors = deque(errors)

    def __call__(self) -> int:
        """The next token."""
        if self._errors:
            raise self._errors.popleft()
        self.given.append(2 + len(self.given))
        return self.given[-1]


async def test_a_lost_lease_is_followed_by_another(store: ScriptedStore) -> None:
    """Nothing of the batch was kept, and nothing of it is sent again; what comes next goes under the new token."""
    register = Registry()
    journal = hasty_journal(store, register)
    told: list[int] = []
    anew: list[int] = []  # so that whoever remembers something can forget it
    journal.on_lease_lost = lambda: told.append(1)
    journal.on_begun_anew = lambda: anew.append(journal.token)
    store.script.append(failing(LeaseLost("silent for too long")))
    outcomes = await asyncio.gather(*(journal.commit(a_write(name)) for name in "abc"), return_exceptions=True)
    assert anew == [2]
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert await journal.commit(a_write("d")) == Won()
    assert (store.tokens, store.durable) == ([1, 2], ["d"])
    assert (journal.token, register.given) == (2, [2])
    assert (journal.tally.lost_leases, told, anew) == (1, [], [2])
    await journal.stop()
    assert store.released == [2]


async def test_a_lease_that_cannot_be_had_again_now_is_tried_for_with_each_batch(store: ScriptedStore) -> None:
    """Until the store gives one, callers hear that nothing was kept."""
    register = Registry(StoreUnavailable("gone"), StoreUnavailable("gone"))
    journal = hasty_journal(store, register)
    store.script.extend([failing(LeaseLost("silent for too long"))] * 3)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await journal.commit(a_write("early"))
    assert await journal.commit(a_write("then")) == Won()
    assert (store.tokens, store.durable) == ([1, 1, 1, 2], ["then"])
    await journal.stop()


async def test_a_mistake_while_registering_anew_hangs_nobody(store: ScriptedStore) -> None:
    """Whatever goes wrong there, each caller hears of it, and the next batch tries again."""
    journal = hasty_journal(store, Registry(ZeroDivisionError("a mistake of ours")))
    store.script.extend([failing(LeaseLost("silent for too long"))] * 2)
    for _ in range(2):
        with pytest.raises(InterlockError):
            await asyncio.wait_for(journal.commit(a_write("early")), 2)
    assert await asyncio.wait_for(journal.commit(a_write("then")), 2) == Won()
    assert store.durable == ["then"]
    await asyncio.wait_for(journal.stop(), 2)


async def test_a_claim_under_a_lost_lease_begins_anew(store: ScriptedStore) -> None:
    """It is no end: the loop that claims again and again goes on, under the new token."""
    register = Registry()
    journal = hasty_journal(store, register)
    told: list[int] = []
    journal.on_begun_anew = lambda: told.append(journal.token)
    store.claim_error = LeaseLost("silent for too long")
    with pytest.raises(StoreUnavailable):
        await journal.claim(10)
    assert told == [2], "what is claimed from now on must not be forgotten"
    assert await journal.claim(10) == ()
    await journal.renew()
    assert told == [2]
    assert store.tokens == [1, 2, 2]
    assert journal.tally.lost_leases == 1
    await journal.stop()


async def test_claims_and_leads_are_asked_for_between_commits(store: ScriptedStore, journal: Journal) -> None:
    """In the thread that writes, under the token that it writes under."""
    store.gate.clear()
    write = asyncio.ensure_future(journal.commit(a_write("a")))
    await under_way(store)
    claiming, leading = asyncio.ensure_future(journal.claim(5)), asyncio.ensure_future(journal.lead("job"))
    await asyncio.sleep(0.02)
    assert not claiming.done()
    assert not leading.done()
    store.gate.set()
    assert (await write, await claiming, await leading) == (Won(), (), True)
    assert len(store.threads) == 1
    await journal.stop()
    for call in (journal.claim(5), journal.lead("job")):
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(call, 2)


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

    def trip(_: int) -> None:
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


async def test_stop_gives_the_lease_back_after_the_last_commit(store: ScriptedStore, journal: Journal) -> None:
    """Once; and where the store cannot take it back, that is no reason not to end."""
    store.release_error = StoreUnavailable("gone")
    committing = asyncio.ensure_future(journal.commit(a_write("last")))
    await asyncio.sleep(0)
    await asyncio.wait_for(journal.stop(), 5)
    assert await committing == Won()
    assert store.released == [1]


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
