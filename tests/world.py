"""A whole Interlock without its faces, in one process, on a clock that the test sets."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from uuid import UUID

from interlock import chain, lifecycle
from interlock.app import id_maker
from interlock.decisions import Decision, DecisionKind
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.schemas import Catalogue
from interlock.journal import Journal
from interlock.lifecycle import Standing
from interlock.ports import Control, ControlScope
from interlock.routes import DecisionRule, Route, Routes, WhenStopped
from interlock.stores.sqlite import SqliteStore
from interlock.transaction import BodyKind, Deadline, Transaction
from interlock.workflow import Settings, Workflow

ALICE, BOB = "c_alice", "c_bob"
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


class World:
    """One process over a folder; `restart` makes the next one, with or without a proper end of this one."""

    def __init__(self, folder: Path, *routes: Route, in_flight_max: int = 10_000) -> None:
        """routes: the last one is the default."""
        self.folder = folder
        self.hand = Hand()
        *listed, default = routes or (AUTO,)
        self.settings = Settings(routes=Routes(listed, default), limits=Limits(), region=0, in_flight_max=in_flight_max)
        #: Deadlines that commits have announced to the timer.
        self.heard: list[Deadline] = []
        self._opened: list[tuple[SqliteStore, Journal]] = []
        self._open()

    def _open(self) -> None:
        self.store = SqliteStore(self.folder / "interlock.db")
        self.journal = Journal(self.store, self.store.register(self.hand()))
        self._opened.append((self.store, self.journal))
        self.workflow = Workflow(
            self.store, self.journal, catalogue(), self.settings, now=self.hand, new_id=id_maker(self.hand, 0)
        )
        self.workflow.on_deadline = self.heard.append

    async def restart(self, *, resume: bool = True) -> int:
        """Another process takes the folder over, as after a crash; how many transactions it took up."""
        self._open()
        await self.workflow.load()
        return await self.workflow.resume() if resume else 0

    async def close(self) -> None:
        """The end of all of them."""
        for store, journal in self._opened:
            await journal.stop()
            store.close()

    # -- what happens --

    async def fire(self) -> int:
        """Fire every clock that has run out, oldest first, as the timer does; how many."""
        due = self.store.overdue(self.hand(), 1000)
        for transaction in due:
            await self.workflow.expire(transaction)
        return len(due)

    async def decide(
        self, transaction: Transaction, kind: DecisionKind, *, actor: str = "c_alice:anna", reason: str | None = None
    ) -> Transaction:
        """A decision of the owner's; a rejection gets a reason."""
        if kind is DecisionKind.REJECT:
            reason = reason or "AC04"
        return await self.workflow.decide(
            transaction.client, transaction.id, Decision(kind=kind, actor=actor, reason=reason)
        )

    async def control(self, scope: ControlScope, name: str, *, stopped: bool) -> int:
        """An operator's order."""
        order = Control(scope=scope, name=name, stopped=stopped, actor="operator:o", note=None, at=self.hand())
        return await self.workflow.control(order)

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
        standing = Standing()
        for number, event in enumerate(history, 1):
            assert event.seq == number
            step = lifecycle.apply(standing, event.because or event.kind, alone=True)
            assert step.standing == event.standing
            standing = step.standing
        assert standing == transaction.standing
        assert transaction.version == len(history)
        ends = [event for event in history if event.kind is lifecycle.EventKind.ENDED]
        payments = self.store.payments(id_)
        if not standing.is_final:
            assert ends == []
            assert transaction.deadline is not None
            assert transaction.answer is None
            assert self.answer(id_) is None
            assert not any(payment.status in (Status.ACSC, Status.CANC) for payment in payments)
            return transaction
        assert len(ends) == 1
        assert transaction.deadline is None
        assert (self.answer(id_) is not None) == transaction.answer_due == (transaction.answer is not None)
        assert all(payment.status.is_final for payment in payments)
        if standing.end is Status.ACSC and transaction.answer_due:
            assert any(payment.status is Status.ACSC for payment in payments)
        else:
            assert not any(payment.status is Status.ACSC for payment in payments)
        return transaction

    def verify_chain(self) -> None:
        """Assert that nothing in history was touched."""
        assert list(chain.faults(self.store.chain(), self.store.head())) == []


@asynccontextmanager
async def a_world(folder: Path, *routes: Route, in_flight_max: int = 10_000) -> AsyncIterator[World]:
    """A world that is closed at the end."""
    world = World(folder, *routes, in_flight_max=in_flight_max)
    try:
        yield world
    finally:
        await world.close()
