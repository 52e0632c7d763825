"""Random interleavings of everything that can happen, against the real stores, compared with a model of a few lines.

Where several processes may write, each call comes to another one of two. INTERLOCK_EXAMPLES (default 120) and
INTERLOCK_STEPS (default 30) make it longer.
"""

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from interlock.decisions import Decision, DecisionKind
from interlock.errors import ConflictError, DuplicateMismatch, EndedBefore, IllegalDecision, UnknownTransaction
from interlock.iso20022.codes import Status
from interlock.routes import DecisionRule, Route
from interlock.transaction import BodyKind, Transaction
from interlock.workflow import Workflow
from tests.messages import Transfer, fresh_uetr, pacs008
from tests.world import ALICE, BOB, STORES, Place, World, new_place, world_database  # noqa: F401 - a fixture

_T = TypeVar("_T")
ACCEPT, REJECT, CANCEL, _ = DecisionKind
_DECIDED = {ACCEPT: Status.ACSC, REJECT: Status.RJCT, CANCEL: Status.CANC}
_SLA, _DECIDE = timedelta(seconds=30), timedelta(seconds=60)
#: Alice's messages settle at once; Bob decides on his.
_ROUTES = (
    Route(name="held", clients=frozenset({BOB}), sla=_SLA, decision=DecisionRule.CONSUMER, decide_within=_DECIDE),
    Route(name="default", sla=_SLA),
)


@dataclass
class Model:
    """What we expect of one transaction; the whole of our theory."""

    client: str
    uetr: str | None
    due: datetime
    end: Status | None = None
    reason: str | None = None
    #: Id of the first attempt.
    root: UUID | None = None
    #: First seen at the end, and never to change.
    answer: bytes | None = None
    #: Idempotency key and body of the call that made it.
    call: tuple[str, bytes] | None = None

    @property
    def holds_its_key(self) -> bool:
        """Whether another payment with its UETR would be a double."""
        return self.uetr is not None and self.end in (None, Status.ACSC)

    def arrived(self, uetr: str, now: datetime, *, double: bool) -> None:
        """Its message has come."""
        late, self.uetr = now >= self.due, uetr
        if double or late:  # where it is both, either reason is true
            self.end, self.reason = Status.RJCT, None if double and late else "AM05" if double else "AB06"
        elif self.client == ALICE:
            self.end = Status.ACSC
        else:
            self.due = now + _DECIDE


class Promises(RuleBasedStateMachine):
    """Everything that clients, operators, clocks and crashes do, in any order."""

    ids = Bundle("ids")
    waiting = Bundle("waiting")
    uetrs = Bundle("uetrs")

    @staticmethod
    def new_place(stack: ExitStack) -> Place:
        """An empty one; what is put on the stack is done at the end."""
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        """An empty world."""
        self._stack = ExitStack()
        self._runner = self._stack.enter_context(asyncio.Runner())
        self.model: dict[UUID, Model] = {}
        self._runner.get_loop()
        self.world = World(self.new_place(self._stack), *_ROUTES)
        self._settle_in()

    def _settle_in(self) -> None:
        """Another process beside the one that has just begun, where there can be one."""
        self._flows = [self.world.workflow]
        if self.world.store.shared:
            self._flows.append(self.world.another().workflow)

    @property
    def _flow(self) -> Workflow:
        """The process that the next call comes to."""
        self._flows = [*self._flows[1:], self._flows[0]]
        return self._flows[0]

    def _decide(self, transaction: Transaction, kind: DecisionKind) -> Coroutine[Any, Any, Transaction]:
        reason = "AC04" if kind is REJECT else None
        decision = Decision(kind=kind, actor=f"{transaction.client}:anna", reason=reason)
        return self._flow.deciding.decide(transaction.client, transaction.id, decision)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._runner.run(work)

    @property
    def _now(self) -> datetime:
        return self.world.hand.now

    def _is_double(self, client: str, uetr: str) -> bool:
        return any(m.client == client and m.uetr == uetr and m.holds_its_key for m in self.model.values())

    # -- what clients do --

    @rule(target=uetrs)
    def a_new_payment(self) -> str:
        """A UETR that nobody has used."""
        return fresh_uetr()

    @rule(target=ids, client=st.sampled_from((ALICE, BOB)), uetr=uetrs)
    def submit(self, client: str, uetr: str) -> UUID:
        """A message in one call, maybe for a payment that was there before."""
        double = self._is_double(client, uetr)
        content, key = pacs008(Transfer(uetr=uetr)), fresh_uetr()
        born = self._run(self._flow.receiving.submit(client, content, idempotency_key=key))
        model = Model(client, None, born.created_at + _SLA, call=(key, content))
        model.arrived(uetr, self._now, double=double)
        self.model[born.id] = model
        return born.id

    @rule(id_=ids)
    def repeat(self, id_: UUID) -> None:
        """The same call again is the same transaction; with another body it is a mistake."""
        client, call = self.model[id_].client, self.model[id_].call
        if call is None:
            return
        assert self._run(self._flow.receiving.submit(client, call[1], idempotency_key=call[0])).id == id_
        with pytest.raises(DuplicateMismatch):
            self._run(self._flow.receiving.submit(client, pacs008(), idempotency_key=call[0]))

    @rule(targets=(ids, waiting), client=st.sampled_from((ALICE, BOB)))
    def issue(self, client: str) -> UUID:
        """An id first."""
        born = self._run(self._flow.receiving.issue(client))
        self.model[born.id] = Model(client, None, born.created_at + _SLA)
        return born.id

    @rule(id_=consumes(waiting), uetr=uetrs, times=st.integers(1, 3))
    def receive(self, id_: UUID, uetr: str, times: int) -> None:
        """Its message, once or by several callers at a time."""
        model, content = self.model[id_], pacs008(Transfer(uetr=uetr))
        double = self._is_double(model.client, uetr)
        calls = [self._flow.receiving.receive(model.client, id_, content) for _ in range(times)]
        outcomes = self._run(_gathered(*calls))
        if model.end is not None:
            assert all(isinstance(outcome, EndedBefore) for outcome in outcomes)
            return
        assert all(isinstance(outcome, Transaction) for outcome in outcomes)
        model.arrived(uetr, self._now, double=double)

    @rule(id_=ids, kind=st.sampled_from((ACCEPT, REJECT, CANCEL)))
    def decide(self, id_: UUID, kind: DecisionKind) -> None:
        """One decision."""
        self._decided(id_, [kind], self._run(_gathered(self._decide(self.world.stored(id_), kind))))

    @rule(
        id_=ids, kinds=st.lists(st.sampled_from((ACCEPT, REJECT, CANCEL)), min_size=2, max_size=4), clock=st.booleans()
    )
    def race(self, id_: UUID, kinds: list[DecisionKind], clock: bool) -> None:  # noqa: FBT001
        """Several decisions at one moment, maybe the very moment at which its clock runs out."""
        transaction, model = self.world.stored(id_), self.model[id_]
        calls = [self._decide(transaction, kind) for kind in kinds]
        if clock and model.end is None and model.due > self._now:
            self.world.hand.now = model.due
            calls.insert(1, self._flow.resuming.expire(transaction))
            kinds = [*kinds[:1], CANCEL, *kinds[1:]]
        self._decided(id_, kinds, self._run(_gathered(*calls)))

    def _decided(self, id_: UUID, kinds: list[DecisionKind], outcomes: list[object]) -> None:
        """Who won has made one legal end; nothing has changed where there was one before."""
        model, present = self.model[id_], self.world.stored(id_)
        assert all(isinstance(outcome, Transaction | ConflictError) for outcome in outcomes), outcomes
        if model.end is None and present.standing.is_final:
            end = present.standing.end
            is_late = self._now >= model.due
            assert end in {_DECIDED[kind] for kind in kinds} | ({Status.RJCT} if is_late else set())
            assert not (is_late and end is Status.ACSC)
            model.end, model.reason = end, present.reason
        if model.end is None:
            # Not held: only a cancel is legal before the message has come.
            assert model.uetr is None
            assert CANCEL not in kinds

    @rule(id_=ids)
    def walls(self, id_: UUID) -> None:
        """The other client sees nothing of it and can do nothing to it."""
        other = BOB if self.model[id_].client == ALICE else ALICE
        flow = self._flow
        for call in (
            flow.reading.get(other, id_),
            flow.reading.history(other, id_),
            flow.reading.message(other, id_, BodyKind.OUTBOX),
            flow.receiving.receive(other, id_, pacs008()),
            flow.driving.again(other, id_, other),
        ):
            with pytest.raises(UnknownTransaction):
                self._run(call)

    @rule(target=ids, id_=ids, times=st.integers(1, 3))
    def redrive(self, id_: UUID, times: int) -> UUID:
        """Once or by several callers at a time: one new attempt of the newest, where that is legal; the newest."""
        client = self.model[id_].client
        newest = self._newest(id_)
        model = self.model[newest]
        reason = model.reason or self.world.stored(newest).reason
        came_to_nothing = model.end is Status.CANC or (model.end is Status.RJCT and reason == "AB06")
        # Where the payment was sent again meanwhile, and lives or was settled, a redrive would be a second one.
        legal = came_to_nothing and model.uetr is not None and not self._is_double(client, model.uetr)
        outcomes = self._run(_gathered(*(self._flow.driving.again(client, id_, client) for _ in range(times))))
        born = [outcome for outcome in outcomes if isinstance(outcome, Transaction)]
        assert all(isinstance(outcome, IllegalDecision) for outcome in outcomes if outcome not in born)
        if not legal:
            assert born == []
            return newest
        # A second caller may come after the first one's attempt has ended by itself, and drive that again.
        assert born
        for attempt in sorted(born, key=lambda transaction: transaction.attempt):
            before = self.model[attempt.redrive_of or newest]
            assert before is model
            uetr = before.uetr
            assert uetr is not None
            model = Model(client, None, attempt.created_at + _SLA, root=before.root or newest)
            model.arrived(uetr, self._now, double=self._is_double(client, uetr))
            self.model[attempt.id] = model
        return self._newest(id_)

    def _newest(self, id_: UUID) -> UUID:
        newest = id_
        while (following := self.world.stored(newest).redriven_as) is not None:
            newest = following
        return newest

    # -- what time and machines do --

    @rule(seconds=st.sampled_from((0.5, 10, 31, 61)))
    def wait(self, seconds: float) -> None:
        """Time passes, and the timer is late."""
        self.world.hand.go(timedelta(seconds=seconds))

    @rule()
    def fire(self) -> None:
        """The timer looks: what is due ends, and nothing else."""
        due = {id_ for id_, model in self.model.items() if model.end is None and model.due <= self._now}
        assert self._run(self.world.fire()) == len(due)
        for model in self.model.values():
            if model.end is None and model.due <= self._now:
                model.end, model.reason = Status.RJCT, "AB06"

    @rule()
    def crash(self) -> None:
        """The process is gone, and another takes over."""
        self._run(self.world.restart())
        self._run(self.world.bury())
        self._settle_in()

    # -- what is promised --

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        """One end, one answer, histories that fold to the state; what has ended never changes."""
        for id_, model in self.model.items():
            present = self.world.verify(id_)
            assert (present.client, present.standing.end) == (model.client, model.end)
            if model.end is None:
                assert present.deadline is not None
                assert present.deadline.at == model.due
                continue
            if model.end is Status.RJCT and model.reason is not None:
                assert present.reason == model.reason
            answer = self.world.answer(id_)
            assert answer is not None
            model.answer = model.answer or answer
            assert answer == model.answer

    @invariant()
    def no_payment_lives_twice(self) -> None:
        """At most one live attempt of a payment; at most one that lives or has settled under one UETR."""
        families: dict[UUID, int] = {}
        holders: dict[tuple[str, str], int] = {}
        for id_, model in self.model.items():
            end = self.world.stored(id_).standing.end
            family = model.root or id_
            families[family] = families.get(family, 0) + (end is None)
            if model.uetr is not None and end in (None, Status.ACSC):
                holders[model.client, model.uetr] = holders.get((model.client, model.uetr), 0) + 1
        assert all(number <= 1 for number in families.values())
        assert all(number <= 1 for number in holders.values())

    def teardown(self) -> None:
        """After all clocks everything has an end, and history is whole."""
        try:
            self.world.hand.go(_SLA + _DECIDE)
            self._run(self.world.fire())
            for id_ in self.model:
                assert self.world.verify(id_).standing.is_final
            self.world.verify_chain()
            for flow in self._flows:
                self._run(flow.refresh())
                assert not any(flow.memory.in_flight.values())
        finally:
            self._run(self.world.close())
            self._stack.close()


async def _gathered(*calls: Coroutine[Any, Any, Transaction]) -> list[object]:
    return list(await asyncio.gather(*calls, return_exceptions=True))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", STORES)
def test_promises(request: pytest.FixtureRequest, store: str) -> None:
    """Whatever clients, operators, clocks and crashes do, in any order: it is as the model says."""

    class Here(Promises):
        @staticmethod
        def new_place(stack: ExitStack) -> Place:
            memory = Path("/dev/shm")
            folder = tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)
            return new_place(request, Path(stack.enter_context(folder)), store)

    examples = int(os.environ.get("INTERLOCK_EXAMPLES", "120"))
    run_state_machine_as_test(
        Here,
        settings=settings(
            # One takes ten times as long where each look is a round trip.
            max_examples=examples if store == "sqlite" else max(1, examples // 10),
            stateful_step_count=int(os.environ.get("INTERLOCK_STEPS", "30")),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
