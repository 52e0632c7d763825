# ruff: noqa: F811 - fixtures are imported, and named again where they are used
"""Decisions on some payments of a message, over a real store: each payment has one end, and the rest goes on."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
import structlog.testing

from interlock import decisions
from interlock.acks import Word
from interlock.decisions import Decision, DecisionKind
from interlock.errors import ConflictError, IllegalDecision, RequestError
from interlock.iso20022.codes import HeldCause, Status
from interlock.lifecycle import EventKind, State
from interlock.ports import ControlScope
from interlock.selection import Selector
from interlock.transaction import Transaction
from interlock.workflow.contents import Contents
from tests.messages import Transfer, pacs008
from tests.world import (  # noqa: F401 - fixtures
    ALICE,
    CONSUMER,
    DECIDE,
    FOUR_EYES,
    HOLDING,
    Place,
    World,
    a_world,
    place,
    world_database,
)

pytestmark = pytest.mark.anyio

ACCEPT, REJECT, CANCEL, RETRY = DecisionKind
RJCT, CANC, ACSC, PDNG = Status.RJCT, Status.CANC, Status.ACSC, Status.PDNG


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is logged of faults that a test makes on purpose is not shown."""
    with structlog.testing.capture_logs():
        yield


async def submitted(world: World, payments: int = 3) -> Transaction:
    """A message of some payments, as far as it goes by itself."""
    return await world.workflow.receiving.submit(ALICE, pacs008(*(Transfer() for _ in range(payments))))


async def shown(world: World, transaction: Transaction) -> list[str]:
    """Status and reason of each payment, as its client sees them."""
    payments = await world.workflow.reading.payments(ALICE, transaction.id)
    return [payment.status + (f" {payment.reason}" if payment.reason else "") for payment in payments]


# -- one end a payment ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "end"), [(REJECT, "RJCT AC04"), (CANCEL, "CANC DS02")])
async def test_some_payments_end_at_once_and_the_rest_goes_on(place: Place, kind: DecisionKind, end: str) -> None:
    """With reason and note of their own; what is accepted later is the rest, and the answer tells each as it ended."""
    async with a_world(place, CONSUMER) as world:
        held = await submitted(world)
        after = await world.decide(held, kind, 2, note="not this one")
        assert after.standing == held.standing
        assert world.verify(held.id) == after
        assert await shown(world, held) == ["PDNG", end, "PDNG"]
        payment = world.store.payments(held.id)[1]
        assert (payment.reason, payment.note) == (end.split()[1], "not this one")
        event = world.store.history(held.id)[-1]
        assert event.kind is EventKind.PAYMENTS_ENDED
        assert (event.actor, event.note, event.detail) == ("c_alice:anna", "not this one", {"payments": [2]})
        done = await world.decide(held, ACCEPT)
        assert world.verify(held.id) == done
        assert await shown(world, held) == ["ACSC", end, "ACSC"]
        answer = (world.answer(done) or b"").decode()
        assert "<GrpSts>PART</GrpSts>" in answer
        assert answer.count("<TxSts>ACSC</TxSts>") == 2
        assert answer.count("<TxSts>RJCT</TxSts>") == 1
        assert f"<Cd>{end.split()[1]}</Cd>" in answer
        world.verify_chain()


@pytest.mark.parametrize(
    ("steps", "expected", "whole"),
    [
        ([(REJECT, 1), (REJECT, 2), (REJECT, 3)], ["RJCT AC04"] * 3, RJCT),
        ([(REJECT, 1, 2, 3)], ["RJCT AC04"] * 3, RJCT),
        ([(CANCEL, 1, 2, 3)], ["CANC DS02"] * 3, CANC),
        ([(CANCEL, 1), (REJECT, 2), (REJECT, 3)], ["CANC DS02", "RJCT AC04", "RJCT AC04"], CANC),
        ([(REJECT, 1), (CANCEL, 2), (CANCEL, 3)], ["RJCT AC04", "CANC DS02", "CANC DS02"], CANC),
        ([(CANCEL, 1), (REJECT,)], ["CANC DS02", "RJCT AC04", "RJCT AC04"], CANC),
        ([(REJECT, 1), (REJECT,)], ["RJCT AC04"] * 3, RJCT),
        ([(REJECT, 2), (CANCEL,)], ["CANC DS02", "RJCT AC04", "CANC DS02"], CANC),
        ([(REJECT, 1), (CANCEL, 2), (ACCEPT,)], ["RJCT AC04", "CANC DS02", "ACSC"], ACSC),
    ],
)
async def test_when_none_lives_the_transaction_ends(
    place: Place, steps: list[tuple[DecisionKind, int]], expected: list[str], whole: Status
) -> None:
    """RJCT only if all were rejected, ACSC if one was settled, else CANC."""
    async with a_world(place, CONSUMER) as world:
        held = await submitted(world)
        for kind, *payments in steps:
            done = await world.decide(held, kind, *payments)
            assert world.verify(held.id) == done
        assert await shown(world, held) == expected
        assert done.standing.end is whole
        assert await world.restart() == 0
        assert world.verify(held.id) == done


@pytest.mark.parametrize(("first", "end"), [(CANCEL, CANC), (REJECT, RJCT)])
async def test_the_clock_ends_the_rest(place: Place, first: DecisionKind, end: Status) -> None:
    """What had ended stays as it was; the transaction is not rejected where a payment was cancelled."""
    async with a_world(place, CONSUMER) as world:
        held = await submitted(world)
        await world.decide(held, first, 1)
        world.hand.go(DECIDE)
        assert await world.fire() == 1
        done = world.verify(held.id)
        assert (done.standing.end, done.code) == (end, "TOUT")
        assert (await shown(world, held))[1:] == ["RJCT AB06"] * 2


@pytest.mark.parametrize("kind", [REJECT, CANCEL])
async def test_after_its_time_nothing_is_decided_on_some(place: Place, kind: DecisionKind) -> None:
    """However late the timer is: what was decided before stands, the rest has run out."""
    async with a_world(place, CONSUMER) as world:
        held = await submitted(world)
        await world.decide(held, CANCEL, 1)
        world.hand.go(DECIDE)
        with pytest.raises(IllegalDecision, match=f"{kind} came too late: the time ran out"):
            await world.decide(held, kind, 2)
        assert await shown(world, held) == ["CANC DS02", "RJCT AB06", "RJCT AB06"]
        assert (await world.decide(held, CANCEL, 1)).standing.is_final  # the same again is no mistake
        assert await world.fire() == 0


async def test_the_same_again_is_no_mistake_and_another_is_a_conflict(place: Place) -> None:
    """Before and after the end of the whole; a conflict names the payment and what stands, and nothing is done."""
    async with a_world(place, CONSUMER) as world:
        held = await submitted(world)
        once = await world.decide(held, CANCEL, 2)
        for _ in range(2):
            assert await world.decide(held, CANCEL, 2, actor="c_alice:bert") == once
        for kind, reason in ((REJECT, "AC04"), (CANCEL, "CUST")):
            with pytest.raises(IllegalDecision, match=r"payment 2 of .* is CANC \(DS02\)"):
                await world.decide(held, kind, 1, 2, reason=reason)
        assert world.stored(held) == once
        assert await shown(world, held) == ["PDNG", "CANC DS02", "PDNG"]
        done = await world.decide(held, ACCEPT)
        assert await world.decide(held, CANCEL, 2) == done
        assert await world.decide(held, ACCEPT) == done
        with pytest.raises(IllegalDecision, match=r"payment 1 of .* is ACSC; .* camt.056"):
            await world.decide(held, CANCEL, 1)
        assert world.verify(held.id) == done


async def test_in_a_long_message_too_what_was_decided_may_be_decided_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was ever decided on, it is too late without a look at each of its payments."""
    monkeypatch.setattr("interlock.workflow.deciding._LONG", 2)
    async with a_world(place, CONSUMER) as world:
        held, settled = await submitted(world), await submitted(world)
        await world.decide(held, CANCEL, 2)
        await world.decide(held, ACCEPT)
        await world.decide(settled, ACCEPT)
        assert (await world.decide(held, CANCEL, 2)).standing.status is ACSC
        for transaction, ordinal in ((held, 1), (settled, 2)):
            with pytest.raises(IllegalDecision, match="ACSC"):
                await world.decide(transaction, CANCEL, ordinal)


async def test_many_that_decide_at_once_take_turns(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes through the transaction once, and none through its message, which is needed for the answer only."""
    judged = []
    usual = decisions.on_some

    def noted(present: Transaction, *more: Any) -> decisions.Verdict:
        judged.append(present.version)
        return usual(present, *more)

    async with a_world(place, CONSUMER) as world:
        held = await submitted(world, 21)
        monkeypatch.setattr(decisions, "on_some", noted)
        with monkeypatch.context() as patch:
            patch.setattr(Contents, "inspect", None)
            await asyncio.gather(*(world.decide(held, CANCEL, place) for place in range(1, 21)))
        assert len(judged) == len(set(judged)) == 20
        assert await shown(world, await world.decide(held, ACCEPT)) == ["CANC DS02"] * 20 + ["ACSC"]


async def test_what_was_wrong_with_a_payment_is_told_however_late(place: Place) -> None:
    """The rule that refused it when the message came, in the answer that a consumer's decision brings about."""
    async with a_world(place, CONSUMER) as world:
        bad = Transfer(debtor_iban="DE00370400440532013000")
        held = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), bad))
        done = await world.decide(held, ACCEPT)
        assert await shown(world, done) == ["ACSC", "RJCT AC02"]
        assert b"<AddtlInf>iban.debtor at " in (world.answer(done) or b"")


async def test_what_ended_with_the_whole_may_be_named_again(place: Place) -> None:
    """It is as it was asked for."""
    async with a_world(place, CONSUMER) as world:
        held = await submitted(world)
        done = await world.decide(held, CANCEL)
        assert await world.decide(held, CANCEL, 1, 3) == done
        with pytest.raises(IllegalDecision, match="payment 1"):
            await world.decide(held, REJECT, 1)


async def test_some_are_not_accepted(place: Place) -> None:
    """A choice that must be made is made by rejecting; whoever says so otherwise learns how."""
    async with a_world(place, CONSUMER) as world:
        held = await submitted(world)
        with pytest.raises(RequestError, match="reject or cancel the others first"):
            await world.decide(held, ACCEPT, 1)
        with pytest.raises(RequestError, match="as a whole"):
            await world.decide(held, RETRY, 1)
        assert world.stored(held) == held


# -- which are meant --------------------------------------------------------------------------------------------------


async def test_a_payment_is_named_as_its_sender_knows_it(place: Place) -> None:
    """By any name that it has, and all that are given must fit."""
    async with a_world(place, CONSUMER) as world:
        transfers = [Transfer() for _ in range(5)]
        held = await world.workflow.receiving.submit(ALICE, pacs008(*transfers))
        chosen = (
            Selector(uetr=(transfers[0].uetr or "").upper()),
            Selector(end_to_end_id=transfers[1].end_to_end_id, ordinal=2),
            Selector(transaction_reference=transfers[2].transaction_id),
            Selector(ordinal=3),
        )
        await world.workflow.deciding.decide(ALICE, held.id, Decision(kind=CANCEL, actor="c", payments=chosen))
        assert await shown(world, held) == ["CANC DS02"] * 3 + ["PDNG"] * 2


@pytest.mark.parametrize(
    ("selectors", "says"),
    [
        ((), "1 to 1,000"),
        ((Selector(ordinal=1),) * 1001, "1 to 1,000"),
        ((Selector(),), r"payments\[0\] names nothing"),
        ((Selector(ordinal=1), Selector(ordinal=4)), r"payments\[1\]: no payment of this transaction has this ordinal"),
        ((Selector(ordinal=1, end_to_end_id="other"),), "no payment .* this ordinal and end_to_end_id"),
        ((Selector(end_to_end_id="shared"),), r"2 payments have this end_to_end_id \(payments 1, 2\)"),
        ((Selector(instruction_id="I"),), "no payment"),
    ],
)
async def test_what_does_not_name_one_payment_changes_nothing(
    place: Place, selectors: tuple[Selector, ...], says: str
) -> None:
    """None that fits, or several: the caller's mistake, told by place in the list."""
    async with a_world(place, CONSUMER) as world:
        transfers = (Transfer(end_to_end_id="shared"), Transfer(end_to_end_id="shared"), Transfer())
        held = await world.workflow.receiving.submit(ALICE, pacs008(*transfers))
        with pytest.raises(RequestError, match=says):
            await world.workflow.deciding.decide(ALICE, held.id, Decision(kind=CANCEL, actor="c", payments=selectors))
        assert world.stored(held) == held


# -- where it is legal ------------------------------------------------------------------------------------------------


async def test_what_a_stop_holds_goes_on_without_the_cancelled(place: Place) -> None:
    """In ACTC a payment can be cancelled, not rejected; when the stop is lifted the others settle."""
    async with a_world(place, HOLDING) as world:
        await world.control(ControlScope.ROUTE, "default", stopped=True)
        transfers = [Transfer() for _ in range(3)]
        held = await world.workflow.receiving.submit(ALICE, pacs008(*transfers))
        with pytest.raises(IllegalDecision, match="reject is not possible"):
            await world.decide(held, REJECT, 1)
        await world.decide(held, CANCEL, 1)
        assert world.verify(held.id).standing.state is State.ACTC
        again = await world.workflow.receiving.submit(ALICE, pacs008(transfers[0]))
        assert again.standing.state is State.ACTC  # its key was free
        assert await world.restart() == 2
        await world.control(ControlScope.ROUTE, "default", stopped=False)
        assert world.verify(held.id).standing.end is ACSC
        assert await shown(world, held) == ["CANC DS02", "ACSC", "ACSC"]
        assert world.verify(again.id).standing.end is ACSC


async def test_after_a_fault_what_was_cancelled_stays_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry goes on with the others."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    async with a_world(place, HOLDING) as world:
        await world.control(ControlScope.ROUTE, "default", stopped=True)
        held = await submitted(world)
        monkeypatch.setattr("interlock.stages.way.process.run", fail)
        await world.control(ControlScope.ROUTE, "default", stopped=False)
        assert world.stored(held).standing.cause is HeldCause.FAULT
        await world.decide(held, CANCEL, 3, reason="DUPL")
        assert world.verify(held.id).standing.cause is HeldCause.FAULT
        monkeypatch.undo()
        done = await world.decide(held, RETRY, actor="operator:o")
        assert world.verify(held.id) == done
        assert await shown(world, held) == ["ACSC", "ACSC", "CANC DUPL"]


async def test_what_is_not_known_is_decided_as_a_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault before the payments were noted down leaves nothing to choose from."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    async with a_world(place) as world:
        monkeypatch.setattr("interlock.stages.way.process.run", fail)
        held = await submitted(world)
        with pytest.raises(IllegalDecision, match="decide on it as a whole"):
            await world.decide(held, CANCEL, 1)
        monkeypatch.undo()


async def test_four_eyes_approve_what_is_left(place: Place) -> None:
    """An approval covers what was there; less of it needs no new one."""
    async with a_world(place, FOUR_EYES) as world:
        held = await submitted(world)
        approved = await world.decide(held, ACCEPT, actor="c_alice:anna")
        await world.decide(held, REJECT, 2, actor="c_alice:bert")
        assert world.stored(held).approved_by == approved.approved_by
        done = await world.decide(held, ACCEPT, actor="c_alice:bert")
        assert world.verify(held.id) == done
        assert await shown(world, held) == ["ACSC", "RJCT AC04", "ACSC"]


async def test_what_has_settled_is_not_divided(place: Place) -> None:
    """Each payment of it has its end."""
    async with a_world(place) as world:
        done = await submitted(world)
        for kind in (CANCEL, REJECT):
            with pytest.raises(IllegalDecision, match=r"payment 1 of .* is ACSC"):
                await world.decide(done, kind, 1)
        assert world.verify(done.id) == done


@pytest.mark.parametrize("seed", range(4))
async def test_one_end_a_payment_whatever_races(place: Place, seed: int) -> None:
    """One cancelled, one rejected, all accepted, all cancelled and the clock at one moment."""
    async with a_world(place, CONSUMER) as world:
        orders = list(permutations(range(5)))
        for turn in range(6):
            held = await submitted(world)
            world.hand.go(DECIDE if turn % 2 else timedelta())
            calls = [
                world.decide(held, CANCEL, 1),
                world.decide(held, REJECT, 1, 2),
                world.decide(held, ACCEPT),
                world.decide(held, CANCEL),
                world.workflow.resuming.expire(held),
            ]
            order = orders[(seed * 6 + turn) * 5]
            outcomes = await asyncio.gather(*(calls[place] for place in order), return_exceptions=True)
            assert all(isinstance(outcome, Transaction | ConflictError) for outcome in outcomes), outcomes
            assert world.verify(held.id).standing.is_final
        world.verify_chain()


# -- keys and attempts ------------------------------------------------------------------------------------------------


async def test_a_cancelled_payment_may_be_sent_again_at_once(place: Place) -> None:
    """Its key is free while the others of its message are still held."""
    async with a_world(place, CONSUMER) as world:
        transfers = [Transfer(), Transfer()]
        held = await world.workflow.receiving.submit(ALICE, pacs008(*transfers))
        double = await world.workflow.receiving.submit(ALICE, pacs008(transfers[0]))
        assert (double.standing.end, double.reason) == (RJCT, "AM05")
        await world.decide(held, CANCEL, 1)
        again = await world.workflow.receiving.submit(ALICE, pacs008(transfers[0]))
        for transaction in (again, held):
            done = await world.decide(transaction, ACCEPT)
            assert world.verify(transaction.id) == done
        assert await shown(world, held) == ["CANC DS02", "ACSC"]
        assert await shown(world, again) == ["ACSC"]


async def test_a_redrive_leaves_out_what_was_ended_by_itself(place: Place) -> None:
    """Also the one after it; a double or bad payment is judged anew, and may be left out for its own reason."""
    async with a_world(place, CONSUMER) as world:
        held = await submitted(world, 4)
        await world.decide(held, REJECT, 1, reason="FRAD", note="looks wrong")
        await world.decide(held, CANCEL, 2)
        await world.decide(held, CANCEL)
        again = await world.workflow.driving.again(ALICE, held.id, "c_alice:anna")
        assert world.verify(again.id).standing.cause is HeldCause.DECISION
        assert await shown(world, again) == ["RJCT FRAD", "RJCT DS02", "PDNG", "PDNG"]
        await world.decide(again, CANCEL, 3)
        await world.decide(again, CANCEL, 4)  # the last one, and by itself as well
        with pytest.raises(IllegalDecision, match="send again what should go after all"):
            await world.workflow.driving.again(ALICE, again.id, "c_alice:anna")


async def test_what_was_cancelled_as_a_whole_is_driven_again_as_a_whole(place: Place) -> None:
    """However it was said: to name all payments is to name the message."""
    async with a_world(place, CONSUMER) as world:
        held = await submitted(world, 2)
        await world.decide(held, CANCEL, 2, 1)
        again = await world.workflow.driving.again(ALICE, held.id, "c_alice:anna")
        assert await shown(world, again) == ["PDNG", "PDNG"]
        await world.decide(again, REJECT, 2, reason="FRAD")
        world.hand.go(DECIDE)
        await world.fire()
        third = await world.workflow.driving.again(ALICE, held.id, "c_alice:anna")
        done = await world.decide(third, ACCEPT)
        assert world.verify(done.id) == done
        assert await shown(world, third) == ["ACSC", "RJCT FRAD"]


# -- where a peer could take over -------------------------------------------------------------------------------------


class Guarded:
    """A region whose ends wait for a peer's word, which the test gives."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.intents: list[Transaction] = []
        world.workflow.ownership.alone = lambda _: False
        world.workflow.committing.on_intent = lambda transaction, _: self.intents.append(transaction)

    async def confirm(self, epoch: int = 1) -> None:
        """The peer has everything so far."""
        waiting, self.intents = self.intents, []
        for transaction in waiting:
            await self.world.workflow.concluding.conclude(transaction, Word(0, epoch, frozenset({7})), ())

    async def until_intended(self) -> None:
        """Until somebody waits for a word."""
        while not self.intents:  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0)


async def test_an_end_of_some_is_told_once_the_peer_has_it(place: Place) -> None:
    """Until then nothing of it shows, its key is not free, and the call waits; afterwards it is a fact."""
    async with a_world(place, CONSUMER) as world:
        region = Guarded(world)
        transfers = [Transfer(), Transfer()]
        held = await world.workflow.receiving.submit(ALICE, pacs008(*transfers))
        call = asyncio.ensure_future(world.decide(held, CANCEL, 1))
        await region.until_intended()
        assert await shown(world, held) == ["PDNG", "PDNG"]
        assert world.verify(held.id).standing.cause is HeldCause.DECISION
        double = await world.workflow.receiving.submit(ALICE, pacs008(transfers[0]))
        assert (double.reason, call.done()) == ("AM05", False)
        await region.confirm()
        done = await call
        assert world.verify(held.id) == done
        assert await shown(world, held) == ["CANC DS02", "PDNG"]
        fact = world.store.history(held.id)[-1]
        assert (fact.kind, fact.because) == (EventKind.PAYMENTS_ENDED, None)
        assert fact.detail == {"payments": [1], "confirmed_by": [7]}
        assert fact.standing.state is State.HELD_DECISION


async def test_an_intent_for_some_becomes_a_fact_with_the_end_of_the_whole(place: Place) -> None:
    """An acceptance meanwhile is one of the rest, and the answer is made so before anybody sees it."""
    async with a_world(place, CONSUMER) as world:
        region = Guarded(world)
        held = await submitted(world)
        call = asyncio.ensure_future(world.decide(held, REJECT, 2))
        await region.until_intended()
        with pytest.raises(IllegalDecision, match=r"payment 2 .* is being ended by another decision"):
            await world.decide(held, CANCEL, 2)
        await world.decide(held, ACCEPT)
        assert await shown(world, held) == ["ACSP"] * 3 or await shown(world, held) == ["PDNG"] * 3
        with pytest.raises(IllegalDecision):
            await world.decide(held, CANCEL, 1)
        await region.confirm()
        done = await call
        assert world.verify(held.id) == done
        assert await shown(world, held) == ["ACSC", "RJCT AC04", "ACSC"]
        assert b"<GrpSts>PART</GrpSts>" in (world.answer(done) or b"")


async def test_what_a_crash_left_intended_is_a_fact_when_it_is_asked_for_again(place: Place) -> None:
    """And if nobody asks, with the end of the whole."""
    async with a_world(place, CONSUMER) as world:
        region = Guarded(world)
        asked, left = await submitted(world), await submitted(world)
        calls = [asyncio.ensure_future(world.decide(held, CANCEL, 1)) for held in (asked, left)]
        while len(region.intents) < 2:  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0)
        await world.restart()
        for call in calls:
            call.cancel()
        region = Guarded(world)
        again = asyncio.ensure_future(world.decide(asked, CANCEL, 1))
        await region.until_intended()
        await region.confirm()
        await again
        assert await shown(world, asked) == ["CANC DS02", "PDNG", "PDNG"]
        world.hand.go(DECIDE)
        assert await world.fire() == 2
        await region.confirm()
        for held in (asked, left):
            assert world.verify(held.id).standing.end is CANC
            assert await shown(world, held) == ["CANC DS02", "RJCT AB06", "RJCT AB06"]
