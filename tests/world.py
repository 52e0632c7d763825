"""A whole Interlock without its faces, on a clock that the test sets, over either store; `place` is both in turn.

A world is one process; over a store that is shared it can have others beside it.
"""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Protocol
from uuid import UUID

import apsw
import psycopg
import pytest

from interlock import chain, lifecycle
from interlock.apart import NONE_APART
from interlock.app import id_maker
from interlock.bulk import BulkSettings
from interlock.decisions import Decision, DecisionKind
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.schemas import Catalogue
from interlock.journal import Journal
from interlock.lifecycle import Standing
from interlock.ports import Control, ControlScope, Store
from interlock.routes import DecisionRule, Route, Routes, WhenStopped
from interlock.selection import Selector
from interlock.stores.postgres import PostgresStore
from interlock.stores.sqlite import SqliteStore
from interlock.transaction import BodyKind, Deadline, Transaction
from interlock.workflow import Settings, Workflow
from tests.postgres import Databases, Servers, empty, installation

ALICE, BOB = "c_alice", "c_bob"
BULK = BulkSettings(bytes_max=1_000_000, payments_max=1_000, depth_max=64, cache=None, schemas=None, profiles=None)
SLA, DECIDE = timedelta(seconds=30), timedelta(hours=1)

AUTO = Route(name="default", sla=SLA)
CONSUMER = Route(name="default", sla=SLA, decision=DecisionRule.CONSUMER, decide_within=DECIDE)
FOUR_EYES = Route(name="default", sla=SLA, decision=DecisionRule.CONSUMER, decide_within=DECIDE, four_eyes=True)
HOLDING = Route(name="default", sla=SLA, when_stopped=WhenStopped.HOLD)


@cache
def catalogue() -> Catalogue:
    """The schemas, compiled once for all tests of a run."""
    folder = tempfile.TemporaryDirectory(prefix="interlock-schemas-")
    _folders.append(folder)
    return Catalogue(cache=Path(folder.name))


_folders: list[tempfile.TemporaryDirectory[str]] = []


class Hand:
    """A clock that goes when it is told to, and stands still between."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        """The present."""
        return self.now

    def go(self, by: timedelta) -> None:
        """Time passes."""
        self.now += by


# -- where ------------------------------------------------------------------------------------------------------------


class Place(Protocol):
    """Where the data of a world is kept."""

    def open(self) -> Store:
        """A store over it, as another process would open it."""
        ...

    def abandon(self) -> None:
        """Whoever writes here is taken for dead."""
        ...

    def execute(self, statement: str) -> None:
        """Do something behind the store's back."""
        ...

    def spoil(self, transaction: UUID) -> None:
        """Make its message unreadable."""
        ...


class SqlitePlace:
    """A file in a folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "interlock.db"

    def open(self) -> Store:
        """A store over the file."""
        return SqliteStore(self._file)

    def abandon(self) -> None:
        """Whoever comes next fences all others off."""

    def execute(self, statement: str) -> None:
        """A statement on a connection of its own."""
        db = apsw.Connection(str(self._file))
        db.execute(statement)
        db.close()

    def spoil(self, transaction: UUID) -> None:
        """Its row's number tells where its message is."""
        row = f"(SELECT row * 2 FROM transactions WHERE id = x'{transaction.hex}')"  # noqa: S608
        self.execute(f"UPDATE bodies SET content = x'00' WHERE row = {row}")  # noqa: S608


class PostgresPlace:
    """A database whose rows go with each world that begins in it."""

    #: A test that takes long is no process that has died.
    LEASE_SECONDS = 300.0

    def __init__(self, url: str) -> None:
        self.url = url

    def open(self) -> Store:
        """A store over the database."""
        return PostgresStore(self.url, lease=self.LEASE_SECONDS)

    def abandon(self) -> None:
        """All leases have run out."""
        self.execute("UPDATE journals SET lease_until = clock_timestamp() - interval '1 second'")

    def execute(self, statement: str) -> None:
        """A statement on a connection of its own."""
        with psycopg.connect(self.url, autocommit=True) as db:
            db.execute(statement.encode())

    def spoil(self, transaction: UUID) -> None:
        """Its message is the body of kind 0."""
        self.execute(f"UPDATE bodies SET content = '' WHERE tx = '{transaction}' AND kind = 0")  # noqa: S608

    def clear(self) -> None:
        """As good as new, in milliseconds; the schema and its partitions stay."""
        empty(self.url)


@pytest.fixture(scope="session")
def world_database(postgres_servers: Servers) -> Iterator[PostgresPlace]:
    """A database with all its partitions, for one world after the other."""
    databases = Databases(postgres_servers.of(installation()))
    place = PostgresPlace(databases.new())
    store = place.open()
    store.maintain(datetime.now(UTC))
    store.close()
    yield place
    databases.drop()


#: The stores that tests of the whole run on.
STORES = ("sqlite", "postgres")


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place, on each store in turn."""
    return new_place(request, tmp_path)


@pytest.fixture
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place that several processes may write to."""
    return new_place(request, tmp_path, "postgres")


def new_place(request: pytest.FixtureRequest, folder: Path, store: str | None = None) -> Place:
    """An empty place on the store that is named, or that the test is parametrised with."""
    if (store or request.param) == "sqlite":
        return SqlitePlace(folder)
    database: PostgresPlace = request.getfixturevalue("world_database")
    database.clear()
    return database


# -- a world ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    """One that writes to a place."""

    store: Store
    journal: Journal
    workflow: Workflow


class World:
    """One process over a place; `restart` makes the next one, with or without a proper end of this one."""

    def __init__(
        self, place: Place | Path, *routes: Route, in_flight_max: int = 10_000, lenient: frozenset[str] = frozenset()
    ) -> None:
        """place: a folder for SQLite, or what the fixture of that name gives. routes: the last one is the default."""
        self.place = SqlitePlace(place) if isinstance(place, Path) else place
        self.hand = Hand()
        *listed, default = routes or (AUTO,)
        self.settings = Settings(
            routes=Routes(listed, default),
            limits=Limits(),
            region=0,
            in_flight_max=in_flight_max,
            bulk=BULK,
            lenient=lenient,
        )
        #: Deadlines that commits have announced to the timer.
        self.heard: list[Deadline] = []
        self._processes: list[Process] = []
        self._become(self.another())

    def another(self) -> Process:
        """One more process over the same place; over a store that is not shared it is then the only one."""
        store = self.place.open()

        def register() -> int:
            return store.register(self.hand())

        journal = Journal(store, register(), register=register if store.shared else None)
        workflow = Workflow(store, journal, catalogue(), self.settings, now=self.hand, new_id=id_maker(self.hand, 0))
        workflow.committing.on_deadline = self.heard.append
        process = Process(store, journal, workflow)
        self._processes.append(process)
        return process

    def _become(self, process: Process) -> None:
        self.store, self.journal, self.workflow = process.store, process.journal, process.workflow

    async def restart(self) -> int:
        """Another process takes the place over, as after a crash; how many transactions were left half-way."""
        self.place.abandon()
        self._become(self.another())
        await self.workflow.refresh()
        return await self.workflow.resuming.take_over()

    async def end(self, process: Process) -> None:
        """Its end, in good order."""
        self._processes.remove(process)
        await process.journal.stop()
        process.store.close()

    async def bury(self) -> None:
        """The end of all but the newest, which are dead and never wake up."""
        for process in self._processes[:-1]:
            await self.end(process)

    async def close(self) -> None:
        """The end of all of them."""
        for process in tuple(self._processes):
            await self.end(process)

    # -- what happens --

    async def fire(self) -> int:
        """Fire every clock that has run out, oldest first, as the timer does; how many."""
        due = self.store.overdue(self.hand(), 1000)
        for transaction in due:
            await self.workflow.resuming.expire(transaction)
        return len(due)

    async def decide(
        self,
        transaction: Transaction,
        kind: DecisionKind,
        *payments: int,
        actor: str = "c_alice:anna",
        reason: str | None = None,
        note: str | None = None,
    ) -> Transaction:
        """A decision of the owner's; a rejection gets a reason. payments: ordinals, where it is not on all."""
        if kind is DecisionKind.REJECT:
            reason = reason or "AC04"
        chosen = tuple(Selector(ordinal=ordinal) for ordinal in payments) or None
        decision = Decision(kind=kind, actor=actor, reason=reason, note=note, payments=chosen)
        return await self.workflow.deciding.decide(transaction.client, transaction.id, decision)

    async def control(self, scope: ControlScope, name: str, *, stopped: bool) -> int:
        """An operator's order."""
        order = Control(scope=scope, name=name, stopped=stopped, actor="operator:o", note=None, at=self.hand())
        return await self.workflow.resuming.control(order)

    # -- what must hold --

    def stored(self, transaction: Transaction | UUID) -> Transaction:
        """The state in the store."""
        found = self.store.get(transaction if isinstance(transaction, UUID) else transaction.id)
        assert found is not None
        return found

    def answer(self, transaction: Transaction | UUID) -> bytes | None:
        """The answer in the store."""
        body = self.store.message(transaction if isinstance(transaction, UUID) else transaction.id, BodyKind.OUTBOX)
        return None if body is None else body.content

    def verify(self, id_: UUID) -> Transaction:
        """Assert what is true of every transaction at any moment; its state in the store.

        History folds to the state, there is at most one end, and what has ended has its answer and ended payments.
        """
        transaction = self.stored(id_)
        history = self.store.history(id_)
        standing, apart = Standing(), NONE_APART
        for number, event in enumerate(history, 1):
            assert event.seq == number
            kind, alone = event.because or event.kind, event.because is not None
            step = lifecycle.apply(standing, kind, alone=alone, cancelled=apart.cancelled)
            assert step.standing == event.standing
            standing, apart = step.standing, apart.then(event)
        assert standing == transaction.standing
        assert transaction.version == len(history)
        ends = [event for event in history if event.kind is lifecycle.EventKind.ENDED]
        payments = self.store.payments(id_)
        for end in apart.ends.values():
            payment = payments[end.ordinal - 1]
            is_fact = end.ordinal in apart.facts
            assert is_fact == payment.status.is_final
            assert not is_fact or (payment.status, payment.reason, payment.note) == end[1:]
        if not standing.is_final:
            assert ends == []
            assert transaction.deadline is not None
            assert transaction.answer is None
            assert self.answer(id_) is None
            rest = [payment for payment in payments if payment.ordinal not in apart.decided]
            assert not any(payment.status in (Status.ACSC, Status.CANC) for payment in rest)
            assert not payments or any(not payment.status.is_final for payment in rest)
            return transaction
        assert len(ends) == 1
        assert transaction.deadline is None
        assert (self.answer(id_) is not None) == transaction.answer_due == (transaction.answer is not None)
        assert all(payment.status.is_final for payment in payments)
        assert standing.end is not Status.RJCT or all(payment.status is Status.RJCT for payment in payments)
        # A request about other messages has none itself.
        if standing.end is Status.ACSC and transaction.answer_due and payments:
            assert any(payment.status is Status.ACSC for payment in payments)
        else:
            assert not any(payment.status is Status.ACSC for payment in payments)
        return transaction

    def verify_chain(self) -> None:
        """Assert that nothing in history was touched."""
        for head in self.store.heads():
            assert list(chain.faults(self.store.chain(head.journal), head)) == []


@asynccontextmanager
async def a_world(
    place: Place | Path, *routes: Route, in_flight_max: int = 10_000, lenient: frozenset[str] = frozenset()
) -> AsyncIterator[World]:
    """A world that is closed at the end."""
    world = World(place, *routes, in_flight_max=in_flight_max, lenient=lenient)
    try:
        yield world
    finally:
        await world.close()
