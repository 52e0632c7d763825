import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from interlock import memory
from interlock.lifecycle import EventKind, Standing
from interlock.memory import Memory
from interlock.stages.steps import Steps
from interlock.transaction import Body, BodyKind, Change, Transaction

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 1, tzinfo=UTC)
BIRTH = (EventKind.ID_ISSUED, EventKind.RECEIVED)
END = (EventKind.PASSED, EventKind.SETTLED)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def unborn(client: str = "c") -> Transaction:
    return Transaction(
        id=uuid4(), client=client, region=0, route="r", standing=Standing(), version=0, created_at=AT, updated_at=AT,
        deadline=None,
    )  # fmt: skip


def change(before: Transaction, *kinds: EventKind, answer: bytes | None = None) -> Change:
    steps = Steps(before, AT)
    for kind in kinds:
        steps.take(kind)
    body = () if answer is None else (Body(kind=BodyKind.OUTBOX, definition="d", content=answer, digest=b""),)
    return Change(after=steps.transaction, events=steps.events, read=steps.read, bodies=body)


def kept(of: Memory, made: Change) -> Transaction:
    of.keep(made)
    return made.after


def test_what_was_won_is_remembered() -> None:
    """The newest state of each, and its answer."""
    mind = Memory()
    born = kept(mind, change(unborn(), *BIRTH))
    assert mind.transaction(born.id) is born
    assert mind.answer(born.id) is None
    ended = kept(mind, change(born, *END, answer=b"<a/>"))
    assert mind.transaction(born.id) is ended
    answer = mind.answer(born.id)
    assert answer is not None
    assert answer.content == b"<a/>"
    assert mind.transaction(uuid4()) is None


def test_what_is_forgotten_is_read_again() -> None:
    """A stale memory is dropped; to forget what is not there is no mistake."""
    mind = Memory()
    born = kept(mind, change(unborn(), *BIRTH))
    mind.forget(born.id)
    mind.forget(uuid4())
    assert mind.transaction(born.id) is None


async def test_all_can_be_forgotten_but_who_waits() -> None:
    """Over another store nothing that was remembered is told as true; whoever waits for an end still hears of it."""
    mind = Memory()
    ended = kept(mind, change(unborn(), *BIRTH, *END, answer=b"<a/>"))
    assert mind.first_collection(ended.id)
    born = kept(mind, change(unborn(), *BIRTH))
    with mind.waiter(born.id) as waiting:
        mind.clear()
        assert [mind.transaction(ended.id), mind.transaction(born.id), mind.answer(ended.id)] == [None] * 3
        assert mind.first_collection(ended.id)
        kept(mind, change(born, *END))
        await asyncio.wait_for(waiting, 1)


def test_in_flight_counts_births_and_ends_once() -> None:
    """By client: up with a birth, down with the end, untouched by what comes between or after."""
    mind = Memory()
    born = kept(mind, change(unborn("a"), *BIRTH))
    kept(mind, change(unborn("b"), *BIRTH))
    assert mind.in_flight == {"a": 1, "b": 1}
    held = kept(mind, change(born, EventKind.HELD_FOR_DECISION))
    assert mind.in_flight["a"] == 1
    ended = kept(mind, change(held, EventKind.CANCELLED))
    assert mind.in_flight["a"] == 0
    again = kept(mind, change(ended, EventKind.RECEIVED))
    kept(mind, change(again, EventKind.REDRIVEN))
    assert mind.in_flight["a"] == 0
    assert mind.ends == {("CANC", ""): 1}


def test_what_is_born_and_ended_at_once_was_never_in_flight() -> None:
    """The happy way in one commit: one end, nothing in flight."""
    mind = Memory()
    kept(mind, change(unborn("a"), *BIRTH, *END))
    assert mind.in_flight["a"] == 0
    assert mind.ends == {("ACSC", ""): 1}


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes when there are too many; what is used stays."""
    monkeypatch.setattr(memory, "_TRANSACTIONS", 3)
    monkeypatch.setattr(memory, "_ANSWERS", 2)
    mind = Memory()
    born = [kept(mind, change(unborn(), *BIRTH, *END, answer=b"x")) for _ in range(4)]
    assert [mind.transaction(t.id) is not None for t in born] == [False, True, True, True]
    assert [mind.answer(t.id) is not None for t in born] == [False, False, True, True]
    kept(mind, Change(after=structs.replace(born[1], version=9), events=(), read=8))
    kept(mind, change(unborn(), *BIRTH))
    assert [mind.transaction(t.id) is not None for t in born] == [False, True, False, True]


def test_the_first_collection_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it turns out that it could not be written down."""
    monkeypatch.setattr(memory, "_TRANSACTIONS", 2)
    mind, id_ = Memory(), UUID(int=1)
    assert mind.first_collection(id_)
    assert not mind.first_collection(id_)
    mind.uncollect(id_)
    mind.uncollect(UUID(int=2))
    assert mind.first_collection(id_)
    assert mind.first_collection(UUID(int=3))
    assert mind.first_collection(UUID(int=4))
    assert mind.first_collection(id_)  # too long ago: it is recorded once more, which does no harm


async def test_whoever_waits_hears_of_the_end() -> None:
    """All of them, and only of the end of what they wait for."""
    mind = Memory()
    born, other = (kept(mind, change(unborn(), *BIRTH)) for _ in range(2))
    with mind.waiter(born.id) as one, mind.waiter(born.id) as two, mind.waiter(other.id) as three:
        held = kept(mind, change(born, EventKind.HELD_FOR_DECISION))
        assert not one.done()
        kept(mind, change(held, EventKind.REJECTED))
        await asyncio.wait_for(asyncio.gather(one, two), 1)
        assert not three.done()


async def test_whoever_waits_hears_of_an_end_elsewhere() -> None:
    """What is awaited is known, so that it can be looked for, and who waits can be woken without a change of ours."""
    mind = Memory()
    one, two = UUID(int=1), UUID(int=2)
    with mind.waiter(one) as first, mind.waiter(one) as second, mind.waiter(two) as third:
        assert set(mind.awaited) == {one, two}
        mind.wake(one)
        mind.wake(UUID(int=3))
        await asyncio.wait_for(asyncio.gather(first, second), 1)
        assert not third.done()
        assert list(mind.awaited) == [two]
        with mind.waiter(one) as again:
            assert not again.done()
    assert list(mind.awaited) == []


async def test_whoever_has_gone_is_not_told() -> None:
    """A waiter that gave up or was cancelled is no obstacle, and leaves nothing behind."""
    mind = Memory()
    born = kept(mind, change(unborn(), *BIRTH))
    with mind.waiter(born.id) as gone:
        pass
    with mind.waiter(born.id) as cancelled, mind.waiter(born.id) as stays:
        cancelled.cancel()
        kept(mind, change(born, *END))
        await asyncio.wait_for(stays, 1)
    assert not gone.done()
    assert mind._waiters == {}
