# ruff: noqa: F811 - fixtures are imported, and named again where they are used
"""The workflow over a real store: what a client, an operator and a clock can bring about, and what they cannot."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import structlog.testing

from interlock.decisions import Decision, DecisionKind
from interlock.errors import (
    ConflictError,
    DuplicateMismatch,
    EndedBefore,
    IllegalDecision,
    InterlockError,
    LeaseLost,
    NoAnswer,
    Stopped,
    StoreUnavailable,
    TooManyInFlight,
    UnknownTransaction,
)
from interlock.iso20022.codes import HeldCause, Status
from interlock.lifecycle import EventKind, State
from interlock.ports import Control, ControlScope, Outcome, Query, Store, Write
from interlock.routes import Route, WhenStopped
from interlock.transaction import BodyKind, Clock, DeliveryState, KeyKind, Transaction
from interlock.worker import Deadlines
from interlock.workflow import Workflow
from tests.messages import Transfer, fresh_uetr, pacs002, pacs008
from tests.world import (  # noqa: F401 - fixtures
    ALICE,
    BOB,
    CONSUMER,
    DECIDE,
    FOUR_EYES,
    HOLDING,
    SLA,
    Place,
    World,
    a_world,
    place,
    shared_place,
    world_database,
)

pytestmark = pytest.mark.anyio

ACCEPT, REJECT, CANCEL, RETRY = DecisionKind
TICK = timedelta(milliseconds=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is logged of faults that a test makes on purpose is not shown."""
    with structlog.testing.capture_logs():
        yield


def statuses(world: World, transaction: Transaction) -> list[tuple[Status, str | None]]:
    """Status and reason of each payment."""
    return [(payment.status, payment.reason) for payment in world.store.payments(transaction.id)]


def slow(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each commit takes a while, so that what comes meanwhile goes into the next one."""
    commit = store.commit

    def slowly(token: int, writes: Sequence[Write], batch: bytes) -> list[Outcome]:
        time.sleep(0.05)
        return commit(token, writes, batch)

    monkeypatch.setattr(store, "commit", slowly)


async def under_way(world: World) -> None:
    """Until what was given to the journal is with the store."""
    await asyncio.sleep(0)
    while world.journal.waiting:  # noqa: ASYNC110 - the journal tells nobody
        await asyncio.sleep(0)


# -- submit -----------------------------------------------------------------------------------------------------------


async def test_a_good_message_is_settled_in_one_call(place: Place) -> None:
    """Submitted: settled, stored to the byte, answered, its events in order, everything in the store on return."""
    async with a_world(place) as world:
        content = pacs008()
        done = await world.workflow.receiving.submit(ALICE, content, reference="mine")
        assert world.verify(done.id) == done
        assert done.standing.status is Status.ACSC
        assert (done.definition, done.answer, done.payments) == ("pacs.008.001.08", "pacs.002.001.10", 1)
        kinds = [event.because or event.kind for event in world.store.history(done.id)]
        assert kinds == [EventKind.ID_ISSUED, EventKind.RECEIVED, EventKind.PASSED, EventKind.SETTLED]
        assert (await world.workflow.reading.message(ALICE, done.id, BodyKind.INBOX)).content == content
        assert (await world.workflow.reading.message(ALICE, done.id, BodyKind.OUTBOX)).content == world.answer(done)
        assert statuses(world, done) == [(Status.ACSC, None)]
        assert world.workflow.memory.in_flight[ALICE] == 0
        found = await world.workflow.reading.find(Query(client=ALICE, key=(KeyKind.REFERENCE, "mine")))
        assert found.transactions == (done,)


@pytest.mark.parametrize(
    ("content", "reason", "answer"),
    [
        (b"<not closed", "FF01", "admi.002.001.01"),
        (b"\x00\xff\xfe", "FF01", "admi.002.001.01"),
        (b"<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", "FF01", "admi.002.001.01"),
        (b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:pacs.008.001.99'/>", "FF01", "admi.002.001.01"),
        (pacs008(Transfer(amount="abc")), "FF01", "pacs.002.001.10"),
        (pacs008(count=7), "AM19", "pacs.002.001.10"),
        (pacs008(Transfer(debtor_iban="DE00370400440532013000")), "AC02", "pacs.002.001.10"),
        (pacs008(Transfer(amount="1.001", currency="JPY")), "CH20", "pacs.002.001.10"),
    ],
    ids=["broken", "bytes", "doctype", "unknown", "schema", "count", "iban", "decimals"],
)
async def test_a_bad_message_is_stored_rejected_and_answered(
    place: Place, content: bytes, reason: str, answer: str
) -> None:
    """Taken, kept to the byte, ended RJCT with the reason, answered; nothing else changes."""
    async with a_world(place) as world:
        done = await world.workflow.receiving.submit(ALICE, content)
        assert world.verify(done.id) == done
        assert (done.standing.status, done.reason, done.answer) == (Status.RJCT, reason, answer)
        assert (await world.workflow.reading.message(ALICE, done.id, BodyKind.INBOX)).content == content
        assert reason.encode() in (world.answer(done) or b"")


async def test_a_message_without_a_document_is_refused_by_its_own_name(place: Place) -> None:
    """What can be read of it is there: it is refused in the wrapper it came in, and found by its header's name."""
    content = (
        b'<RequestPayload><AppHdr xmlns="urn:iso:std:iso:20022:tech:xsd:head.001.001.02"><BizMsgIdr>B-7</BizMsgIdr>'
        b"</AppHdr><Document/></RequestPayload>"
    )
    async with a_world(place) as world:
        done = await world.workflow.receiving.submit(ALICE, content)
        assert world.verify(done.id) == done
        answer = world.answer(done) or b""
        assert (done.definition, done.payments, done.answer) == (None, 0, "admi.002.001.01")
        assert b"<RequestPayload><AppHdr " in answer
        assert b"<Ref>B-7</Ref>" in answer


async def test_an_answer_is_never_answered(place: Place) -> None:
    """A submitted pacs.002 ends, and says that no answer is due."""
    async with a_world(place) as world:
        done = await world.workflow.receiving.submit(ALICE, pacs002())
        assert world.verify(done.id) == done
        assert not done.answer_due
        with pytest.raises(NoAnswer):
            await world.workflow.reading.message(ALICE, done.id, BodyKind.OUTBOX)


async def test_one_bad_payment_is_rejected_alone(place: Place) -> None:
    """The others settle; the answer says PART, and gives each payment its own status."""
    async with a_world(place) as world:
        bad = Transfer(debtor_iban="DE00370400440532013000")
        done = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), bad, Transfer()))
        assert world.verify(done.id).standing.status is Status.ACSC
        assert statuses(world, done) == [(Status.ACSC, None), (Status.RJCT, "AC02"), (Status.ACSC, None)]
        answer = world.answer(done) or b""
        assert b"<GrpSts>PART</GrpSts>" in answer
        assert answer.count(b"<TxSts>RJCT</TxSts>") == 1


# -- id first ---------------------------------------------------------------------------------------------------------


async def test_an_id_waits_for_its_message(place: Place) -> None:
    """ACCP until it comes, then as far as it can go; the id's clock goes on."""
    async with a_world(place) as world:
        issued = await world.workflow.receiving.issue(ALICE, announced="pacs.008", reference="r")
        assert world.verify(issued.id) == issued
        assert issued.standing.status is Status.ACCP
        assert issued.deadline is not None
        assert issued.deadline.at == issued.created_at + SLA
        world.hand.go(timedelta(seconds=5))
        done = await world.workflow.receiving.receive(ALICE, issued.id, pacs008())
        assert world.verify(done.id) == done
        assert done.standing.status is Status.ACSC
        assert done.created_at == issued.created_at


async def test_the_same_message_under_one_id_is_success(place: Place) -> None:
    """Sent again it is recorded and changes nothing, before the end and after, with the same answer."""
    async with a_world(place, CONSUMER) as world:
        content = pacs008()
        issued = await world.workflow.receiving.issue(ALICE)
        held = await world.workflow.receiving.receive(ALICE, issued.id, content)
        again = await world.workflow.receiving.receive(ALICE, issued.id, content)
        assert again.standing == held.standing
        await world.decide(held, ACCEPT)
        answer = world.answer(held)
        after = await world.workflow.receiving.receive(ALICE, issued.id, content)
        assert after.standing.status is Status.ACSC
        assert world.answer(held) == answer
        kinds = [event.kind for event in world.store.history(issued.id)]
        assert kinds.count(EventKind.RECEIVED) == 3
        world.verify(issued.id)


async def test_another_message_under_one_id_is_refused(place: Place) -> None:
    """Whatever became of the first one; nothing is written."""
    async with a_world(place) as world:
        issued = await world.workflow.receiving.issue(ALICE)
        done = await world.workflow.receiving.receive(ALICE, issued.id, pacs008())
        with pytest.raises(DuplicateMismatch):
            await world.workflow.receiving.receive(ALICE, issued.id, pacs008())
        assert world.stored(issued) == done


async def test_a_message_for_an_id_that_has_ended_is_refused(place: Place) -> None:
    """After the id's clock ran out, and after its cancellation."""
    async with a_world(place) as world:
        late, cancelled = await world.workflow.receiving.issue(ALICE), await world.workflow.receiving.issue(ALICE)
        await world.decide(cancelled, CANCEL)
        world.hand.go(SLA)
        await world.fire()
        for id_, end in ((late.id, Status.RJCT), (cancelled.id, Status.CANC)):
            with pytest.raises(EndedBefore, match=end):
                await world.workflow.receiving.receive(ALICE, id_, pacs008())
            ended = world.verify(id_)
            assert (ended.standing.status, ended.answer) == (end, "admi.002.001.01")


async def test_two_messages_race_for_one_id(place: Place) -> None:
    """One is taken, the other refused; the same one from many callers at once is taken once."""
    async with a_world(place) as world:
        issued = await world.workflow.receiving.issue(ALICE)
        contents = [pacs008(), pacs008()]
        outcomes = await asyncio.gather(
            *(world.workflow.receiving.receive(ALICE, issued.id, content) for content in contents * 3),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, DuplicateMismatch) for outcome in outcomes) == 3
        assert sum(isinstance(outcome, Transaction) for outcome in outcomes) == 3
        assert world.verify(issued.id).standing.status is Status.ACSC


# -- walls ------------------------------------------------------------------------------------------------------------


async def test_another_clients_transaction_is_as_unknown_as_none(place: Place) -> None:
    """Every call says the same of a foreign id as of one that never was, and changes nothing."""
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        flow = world.workflow
        accept = Decision(kind=ACCEPT, actor="c_bob:bert")
        calls: list[Callable[[UUID], Awaitable[object]]] = [
            lambda i: flow.reading.get(BOB, i),
            lambda i: flow.reading.history(BOB, i),
            lambda i: flow.reading.payments(BOB, i),
            lambda i: flow.reading.message(BOB, i, BodyKind.INBOX),
            lambda i: flow.reading.collect(BOB, i),
            lambda i: flow.receiving.receive(BOB, i, pacs008()),
            lambda i: flow.deciding.decide(BOB, i, accept),
            lambda i: flow.driving.again(BOB, i, "c_bob"),
        ]
        for call in calls:
            told = []
            for id_ in (held.id, uuid4()):
                with pytest.raises(UnknownTransaction) as caught:
                    await call(id_)
                told.append(str(caught.value))
            assert told[0] == told[1]
        assert world.stored(held) == held


async def test_clients_share_no_keys(place: Place) -> None:
    """The same message from two clients is two messages; an idempotency key is each client's own."""
    async with a_world(place) as world:
        content = pacs008()
        one = await world.workflow.receiving.submit(ALICE, content, idempotency_key="k")
        two = await world.workflow.receiving.submit(BOB, content, idempotency_key="k")
        assert one.id != two.id
        assert two.standing.status is Status.ACSC


# -- doubles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("business_id", "message_id", "answer"),
    [("B-1", "M-1", "admi.002.001.01"), ("B-1", "M-2", "admi.002.001.01"), ("B-2", "M-1", "pacs.002.001.10")],
    ids=["same again", "same envelope", "same message"],
)
async def test_an_envelope_that_comes_again_is_no_business_message(
    place: Place, business_id: str, message_id: str, answer: str
) -> None:
    """A status report would say RJCT beside the names of payments that were settled; only another envelope gets one."""
    sample = (Path(__file__).parents[1] / "samples" / "pacs.008.001.08_bah.xml").read_bytes()

    def headed(business: str, message: str) -> bytes:
        content = sample.replace(b"<BizMsgIdr>EXAMPLE-M-0001", f"<BizMsgIdr>{business}".encode())
        return content.replace(b"<MsgId>EXAMPLE-M-0001", f"<MsgId>{message}".encode())

    async with a_world(place) as world:
        first = await world.workflow.receiving.submit(ALICE, headed("B-1", "M-1"))
        assert first.standing.status is Status.ACSC
        double = world.verify((await world.workflow.receiving.submit(ALICE, headed(business_id, message_id))).id)
        assert (double.standing.status, double.reason, double.answer) == (Status.RJCT, "DU01", answer)
        uetr = world.store.payments(first.id)[0].uetr
        assert uetr is not None
        assert (uetr.encode() in (world.answer(double) or b"")) is answer.startswith("pacs")


async def test_a_message_identification_is_used_once(place: Place) -> None:
    """A second message with one MsgId is rejected as a duplicate, also after the first was cancelled."""
    async with a_world(place, CONSUMER) as world:
        first = await world.workflow.receiving.submit(ALICE, pacs008(message_id="M1"))
        for _ in range(2):
            double = await world.workflow.receiving.submit(ALICE, pacs008(message_id="M1"))
            assert (double.standing.status, double.reason) == (Status.RJCT, "DU01")
            world.verify(double.id)
            if not first.standing.is_final:
                first = await world.decide(first, CANCEL)


async def test_a_uetr_is_live_once(place: Place) -> None:
    """A second payment with one UETR is rejected while the first lives or has settled, and taken once it has failed."""
    async with a_world(place, CONSUMER) as world:
        uetr = fresh_uetr()
        first = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(uetr=uetr)))
        double = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(uetr=uetr)))
        assert (double.standing.status, double.reason) == (Status.RJCT, "AM05")
        await world.decide(first, REJECT)
        second = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(uetr=uetr)))
        assert second.standing.cause is HeldCause.DECISION
        await world.decide(second, ACCEPT)
        third = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(uetr=uetr)))
        assert (third.standing.status, third.reason) == (Status.RJCT, "AM05")
        for transaction in (first, double, second, third):
            world.verify(transaction.id)


async def test_a_payment_without_a_uetr_is_known_by_its_transaction_id(place: Place) -> None:
    """TxId with its agent does what the UETR would."""
    async with a_world(place) as world:
        first = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(uetr=None, transaction_id="T1")))
        double = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(uetr=None, transaction_id="T1")))
        assert first.standing.status is Status.ACSC
        assert (double.standing.status, double.reason) == (Status.RJCT, "AM05")


async def test_one_double_in_a_message_is_rejected_alone(place: Place) -> None:
    """PART: the payment that was there before is refused, the new ones settle; if all were there, all is refused."""
    async with a_world(place) as world:
        one, two = Transfer(), Transfer()
        await world.workflow.receiving.submit(ALICE, pacs008(one))
        part = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), one, two))
        assert world.verify(part.id).standing.status is Status.ACSC
        assert statuses(world, part) == [(Status.ACSC, None), (Status.RJCT, "AM05"), (Status.ACSC, None)]
        assert b"<GrpSts>PART</GrpSts>" in (world.answer(part) or b"")
        whole = await world.workflow.receiving.submit(ALICE, pacs008(one, two))
        assert (world.verify(whole.id).standing.status, whole.reason) == (Status.RJCT, "AM05")


async def test_of_many_doubles_at_once_one_lives(place: Place) -> None:
    """However many come in one batch, with one UETR or one MsgId, exactly one settles."""
    async with a_world(place) as world:
        transfer = Transfer()
        by_uetr = [pacs008(transfer) for _ in range(12)]
        by_message = [pacs008(message_id="M1") for _ in range(12)]
        for contents in (by_uetr, by_message):
            done = await asyncio.gather(*(world.workflow.receiving.submit(ALICE, content) for content in contents))
            ends = [transaction.standing.status for transaction in done]
            assert ends.count(Status.ACSC) == 1
            assert ends.count(Status.RJCT) == 11
            for transaction in done:
                world.verify(transaction.id)


# -- idempotency ------------------------------------------------------------------------------------------------------


async def test_the_same_call_again_is_the_same_transaction(place: Place) -> None:
    """One after the other, at once, after the end and after a restart; another body under the key is refused."""
    async with a_world(place) as world:
        content = pacs008()
        calls = [world.workflow.receiving.submit(ALICE, content, idempotency_key="k") for _ in range(8)]
        ids = {transaction.id for transaction in await asyncio.gather(*calls)}
        assert len(ids) == 1
        await world.restart()
        again = await world.workflow.receiving.submit(ALICE, content, idempotency_key="k")
        assert ids == {again.id}
        assert again.standing.status is Status.ACSC
        with pytest.raises(DuplicateMismatch):
            await world.workflow.receiving.submit(ALICE, pacs008(), idempotency_key="k")
        assert len(world.store.find(Query(client=ALICE)).transactions) == 1
        world.verify(again.id)


async def test_a_repeated_call_is_answered_while_new_ones_are_refused(place: Place) -> None:
    """What was taken stays taken, also when the route is stopped or too much is in flight."""
    async with a_world(place, CONSUMER, in_flight_max=1) as world:
        content = pacs008()
        held = await world.workflow.receiving.submit(ALICE, content, idempotency_key="k")
        with pytest.raises(TooManyInFlight):
            await world.workflow.receiving.submit(ALICE, pacs008(), idempotency_key="k2")
        assert (await world.workflow.receiving.submit(ALICE, content, idempotency_key="k")).id == held.id
        await world.control(ControlScope.ROUTE, "default", stopped=True)
        assert (await world.workflow.receiving.submit(ALICE, content, idempotency_key="k")).id == held.id


# -- decisions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "end", "reason"),
    [(ACCEPT, Status.ACSC, None), (REJECT, Status.RJCT, "AC04"), (CANCEL, Status.CANC, "DS02")],
)
async def test_a_decision_ends_what_is_held(place: Place, kind: DecisionKind, end: Status, reason: str | None) -> None:
    """With its reason in the answer, told apart by status, and who decided in the history."""
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        assert (held.standing.status, held.standing.cause) == (Status.PDNG, HeldCause.DECISION)
        assert world.verify(held.id) == held
        done = await world.decide(held, kind, actor="c_alice:anna")
        assert world.verify(held.id) == done
        assert (done.standing.status, done.reason) == (end, reason)
        assert "c_alice:anna" in {event.actor for event in world.store.history(held.id)}
        assert statuses(world, done) == [(end, reason)]
        shown = b"ACSC" if end is Status.ACSC else b"RJCT"  # ISO's CANC is for API contexts only
        assert b"<GrpSts>" + shown in (world.answer(done) or b"")


@pytest.mark.parametrize("first", [ACCEPT, REJECT, CANCEL])
async def test_a_decision_stands(place: Place, first: DecisionKind) -> None:
    """Again, it is answered the same and writes nothing; another one is a conflict that names what stands."""
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        done = await world.decide(held, first)
        answer = world.answer(done)
        for second in (ACCEPT, REJECT, CANCEL):
            if second is first:
                assert await world.decide(held, second, actor="c_alice:bert") == done
            else:
                with pytest.raises(IllegalDecision, match=str(done.standing.status)):
                    await world.decide(held, second)
        await world.restart()
        assert await world.decide(held, first) == done
        assert world.answer(done) == answer
        assert world.stored(done) == done


async def test_what_has_ended_by_itself_is_not_decided(place: Place) -> None:
    """A settled payment is asked back by camt.056; a rejected one stays rejected."""
    async with a_world(place) as world:
        settled = await world.workflow.receiving.submit(ALICE, pacs008())
        rejected = await world.workflow.receiving.submit(ALICE, pacs008(count=9))
        for kind in (ACCEPT, REJECT, CANCEL, RETRY):
            for transaction in (settled, rejected):
                with pytest.raises(IllegalDecision):
                    await world.decide(transaction, kind)
                assert world.stored(transaction) == transaction


async def test_four_eyes_release_together(place: Place) -> None:
    """One approval holds, the same person's second one too; another person's releases; both may repeat theirs."""
    async with a_world(place, FOUR_EYES) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        for _ in range(3):
            approved = await world.decide(held, ACCEPT, actor="c_alice:anna")
            assert approved.standing.cause is HeldCause.DECISION
            assert approved.approved_by == "c_alice:anna"
        await world.restart()
        done = await world.decide(held, ACCEPT, actor="c_alice:bert")
        assert done.standing.status is Status.ACSC
        for actor in ("c_alice:anna", "c_alice:bert"):
            assert await world.decide(held, ACCEPT, actor=actor) == done
        world.verify(held.id)


async def test_four_eyes_at_once_are_two_people(place: Place) -> None:
    """Many clicks of one person at one moment do not release."""
    async with a_world(place, FOUR_EYES) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        await asyncio.gather(*(world.decide(held, ACCEPT, actor="c_alice:anna") for _ in range(6)))
        assert world.verify(held.id).standing.cause is HeldCause.DECISION
        await asyncio.gather(*(world.decide(held, ACCEPT, actor=f"c_alice:{n}") for n in range(6)))
        assert world.verify(held.id).standing.status is Status.ACSC


async def test_a_decision_covers_what_was_not_refused_before(place: Place) -> None:
    """A double within a held message stays rejected with its own reason, whatever is decided about the rest."""
    async with a_world(place, CONSUMER) as world:
        known = Transfer()
        await world.decide(await world.workflow.receiving.submit(ALICE, pacs008(known)), ACCEPT)
        for kind, end, reason in ((ACCEPT, Status.ACSC, None), (REJECT, Status.RJCT, "AC04")):
            held = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), known))
            done = await world.decide(held, kind)
            world.verify(done.id)
            assert statuses(world, done) == [(end, reason), (Status.RJCT, "AM05")]
            assert b"AM05" in (world.answer(done) or b"")


@pytest.mark.parametrize("seed", range(4))
async def test_one_end_whatever_races(place: Place, seed: int) -> None:
    """Accept, reject, cancel and the clock at one moment: one end, one answer, and who lost is told so."""
    async with a_world(place, CONSUMER) as world:
        for _ in range(5):
            held = await world.workflow.receiving.submit(ALICE, pacs008())
            world.hand.go(DECIDE)

            async def expire(transaction: Transaction = held) -> Transaction:
                return await world.workflow.resuming.expire(transaction)

            calls = [world.decide(held, kind) for kind in (ACCEPT, REJECT, CANCEL)] + [expire(), expire()]
            turned = calls[seed:] + calls[:seed]
            outcomes = await asyncio.gather(*turned, return_exceptions=True)
            done = world.verify(held.id)
            assert done.standing.is_final
            for outcome in outcomes:
                assert isinstance(outcome, Transaction | ConflictError), outcome
                if isinstance(outcome, Transaction):
                    assert outcome.standing == done.standing
        world.verify_chain()


# -- time -------------------------------------------------------------------------------------------------------------


async def test_an_id_without_a_message_runs_out(place: Place) -> None:
    """Rejected with the route's reason when its time is over, not before, with an admi.002."""
    async with a_world(place, Route(name="default", sla=SLA, timeout_reason="AB05")) as world:
        issued = await world.workflow.receiving.issue(ALICE)
        world.hand.go(SLA - timedelta(seconds=1))
        assert await world.fire() == 0
        world.hand.go(timedelta(seconds=1))
        assert await world.fire() == 1
        done = world.verify(issued.id)
        assert (done.standing.status, done.reason, done.code) == (Status.RJCT, "AB05", "TOUT")
        assert b"TOUT" not in (world.answer(done) or b"")
        assert await world.fire() == 0


async def test_a_consumer_who_does_not_decide_is_decided_for(place: Place) -> None:
    """After its time the message is rejected; the answer is an ordinary pacs.002 with the route's reason."""
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        world.hand.go(DECIDE)
        assert await world.fire() == 1
        done = world.verify(held.id)
        assert (done.standing.status, done.reason, done.code) == (Status.RJCT, "AB06", "TOUT")
        assert b"AB06" in (world.answer(done) or b"")
        assert statuses(world, done) == [(Status.RJCT, "AB06")]


async def test_the_sla_stops_while_a_consumer_decides(place: Place) -> None:
    """Longer than the SLA is no reason to reject what is held; what was left of it goes on with the acceptance."""
    async with a_world(place, CONSUMER) as world:
        issued = await world.workflow.receiving.issue(ALICE)
        world.hand.go(timedelta(seconds=20))
        held = await world.workflow.receiving.receive(ALICE, issued.id, pacs008())
        assert held.deadline is not None
        assert held.deadline.clock is Clock.DECIDE
        assert held.deadline.at == held.updated_at + DECIDE
        assert held.sla_left == pytest.approx(10, abs=0.01)
        world.hand.go(SLA * 10)
        assert await world.fire() == 0
        done = await world.decide(held, ACCEPT)
        assert done.standing.status is Status.ACSC


async def test_nothing_is_received_and_released_after_its_time(place: Place) -> None:
    """A message for an id whose clock has run out is rejected, even if the timer is late."""
    async with a_world(place) as world:
        for late in (SLA, SLA + TICK, SLA * 100):
            issued = await world.workflow.receiving.issue(ALICE)
            world.hand.go(late)
            done = await world.workflow.receiving.receive(ALICE, issued.id, pacs008())
            assert world.verify(done.id) == done
            assert (done.standing.status, done.code) == (Status.RJCT, "TOUT")


async def test_nothing_is_held_after_its_time(place: Place) -> None:
    """A message that came too late is not held for a decision that could not release it any more."""
    async with a_world(place, CONSUMER) as world:
        issued = await world.workflow.receiving.issue(ALICE)
        world.hand.go(SLA + TICK)
        done = await world.workflow.receiving.receive(ALICE, issued.id, pacs008())
        assert world.verify(done.id) == done
        assert (done.standing.status, done.code) == (Status.RJCT, "TOUT")


async def test_nothing_is_released_by_a_decision_after_its_time(place: Place) -> None:
    """An acceptance at or after the decision's deadline does not release, even if the timer is late."""
    async with a_world(place, CONSUMER) as world:
        for late in (DECIDE, DECIDE + TICK):
            held = await world.workflow.receiving.submit(ALICE, pacs008())
            world.hand.go(late)
            try:
                done = await world.decide(held, ACCEPT)
            except IllegalDecision:
                await world.fire()
                done = world.stored(held)
            assert world.verify(held.id).standing.status is Status.RJCT
            assert done.code == "TOUT"


async def test_a_clock_that_fires_early_or_twice_does_nothing(place: Place) -> None:
    """What the timer holds in its hand may be old; only what is due now is ended, and once."""
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        assert await world.workflow.resuming.expire(held) == held
        world.hand.go(DECIDE)
        done = await world.workflow.resuming.expire(held)
        assert await world.workflow.resuming.expire(held) == done
        assert world.verify(held.id) == done


async def test_every_deadline_is_told_to_the_timer(place: Place) -> None:
    """Whatever a commit sets, so that it fires in time and not at the next look."""
    async with a_world(place, CONSUMER) as world:
        issued = await world.workflow.receiving.issue(ALICE)
        held = await world.workflow.receiving.receive(ALICE, issued.id, pacs008())
        assert [deadline for deadline in (issued.deadline, held.deadline) if deadline not in world.heard] == []


# -- driving again ----------------------------------------------------------------------------------------------------


async def test_a_redrive_is_a_new_attempt_from_the_archived_bytes(place: Place) -> None:
    """New id, linked both ways, numbered, same message to the byte, decided anew."""
    async with a_world(place, CONSUMER) as world:
        first = await world.workflow.receiving.submit(ALICE, pacs008(), reference="r")
        await world.decide(first, CANCEL)
        second = await world.workflow.driving.again(ALICE, first.id, "c_alice")
        assert (second.attempt, second.redrive_of) == (2, first.id)
        assert second.reference == "r"
        assert second.standing.cause is HeldCause.DECISION
        assert world.verify(first.id).redriven_as == second.id
        assert world.store.message(second.id, BodyKind.INBOX) == world.store.message(first.id, BodyKind.INBOX)
        done = await world.decide(second, ACCEPT)
        assert world.verify(second.id) == done
        assert done.standing.status is Status.ACSC
        world.verify_chain()


async def test_a_redrive_of_an_older_attempt_drives_the_newest(place: Place) -> None:
    """Whichever id of the family is named; one that lives or has settled is never driven again."""
    async with a_world(place, CONSUMER) as world:
        family = [await world.workflow.receiving.submit(ALICE, pacs008())]
        for number in range(2, 5):
            await world.decide(family[-1], CANCEL)
            family.append(await world.workflow.driving.again(ALICE, family[0].id, "c_alice"))
            assert family[-1].attempt == number
            assert family[-1].redrive_of == family[-2].id
            with pytest.raises(IllegalDecision, match="has not ended"):
                await world.workflow.driving.again(ALICE, family[0].id, "c_alice")
        await world.decide(family[-1], ACCEPT)
        for attempt in family:
            with pytest.raises(IllegalDecision, match="settled"):
                await world.workflow.driving.again(ALICE, attempt.id, "c_alice")
            world.verify(attempt.id)


async def test_what_cannot_do_better_is_not_driven_again(place: Place) -> None:
    """Settled, rejected for its content, or an id that never had a message."""
    async with a_world(place) as world:
        settled = await world.workflow.receiving.submit(ALICE, pacs008())
        rejected = await world.workflow.receiving.submit(ALICE, pacs008(count=3))
        empty = await world.workflow.receiving.issue(ALICE)
        await world.decide(empty, CANCEL)
        for transaction in (settled, rejected, empty):
            with pytest.raises(IllegalDecision):
                await world.workflow.driving.again(ALICE, transaction.id, "c_alice")


async def test_what_timed_out_is_driven_again(place: Place) -> None:
    """A time-out is a reason that a second attempt can mend."""
    async with a_world(place, CONSUMER) as world:
        first = await world.workflow.receiving.submit(ALICE, pacs008())
        world.hand.go(DECIDE)
        await world.fire()
        second = await world.workflow.driving.again(ALICE, first.id, "c_alice")
        assert (await world.decide(second, ACCEPT)).standing.status is Status.ACSC


async def test_of_many_redrives_at_once_one_lives(place: Place) -> None:
    """At most one live attempt of a payment, however many ask at one moment."""
    async with a_world(place, CONSUMER) as world:
        first = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), Transfer()))
        await world.decide(first, CANCEL)
        calls = [world.workflow.driving.again(ALICE, first.id, "c_alice") for _ in range(8)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(outcome, Transaction) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 7
        found = world.store.find(Query(client=ALICE)).transactions
        assert sum(not transaction.standing.is_final for transaction in found) == 1
        for transaction in found:
            world.verify(transaction.id)


async def test_a_redrive_and_a_new_message_for_one_payment_do_not_both_live(place: Place) -> None:
    """Whichever comes first holds the UETR: a message that comes later is a duplicate, a redrive is refused."""
    async with a_world(place, CONSUMER) as world:
        for redrive_first in (True, False):
            transfer = Transfer()
            first = await world.workflow.receiving.submit(ALICE, pacs008(transfer))
            await world.decide(first, CANCEL)
            sent: Transaction | BaseException
            if redrive_first:
                driven = await world.workflow.driving.again(ALICE, first.id, "c_alice")
                sent = await world.workflow.receiving.submit(ALICE, pacs008(transfer))
                assert not driven.standing.is_final
                assert (sent.standing.status, sent.reason) == (Status.RJCT, "AM05")
                continue
            sent = await world.workflow.receiving.submit(ALICE, pacs008(transfer))
            with pytest.raises(IllegalDecision, match=str(sent.id)):
                await world.workflow.driving.again(ALICE, first.id, "c_alice")
            await world.decide(sent, CANCEL)  # and once that came to nothing, it may be driven after all
            driven = await world.workflow.driving.again(ALICE, first.id, "c_alice")
            assert (driven.redrive_of, driven.standing.is_final) == (first.id, False)
            for transaction in (first, sent, driven):
                world.verify(transaction.id)


async def test_a_payment_without_keys_has_one_live_attempt(place: Place) -> None:
    """Also where a payment has neither UETR nor TxId to hold it."""
    async with a_world(place, CONSUMER) as world:
        content = pacs008(Transfer(uetr=None, transaction_id="T1"))
        first = await world.workflow.receiving.submit(ALICE, content)
        await world.decide(first, CANCEL)
        second = await world.workflow.driving.again(ALICE, first.id, "c_alice")
        await world.decide(second, REJECT, reason="AB06")
        third = await world.workflow.driving.again(ALICE, first.id, "c_alice")
        assert third.attempt == 3
        assert (await world.decide(third, ACCEPT)).standing.status is Status.ACSC


# -- operators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "name"), [(ControlScope.ROUTE, "default"), (ControlScope.CLIENT, ALICE)])
async def test_a_stopped_route_or_client_refuses(place: Place, scope: ControlScope, name: str) -> None:
    """New work gets told so and leaves nothing; after the resumption, and a restart between, it is as before."""
    async with a_world(place) as world:
        await world.control(scope, name, stopped=True)
        for _ in range(2):
            with pytest.raises(Stopped):
                await world.workflow.receiving.submit(ALICE, pacs008())
            with pytest.raises(Stopped):
                await world.workflow.receiving.issue(ALICE)
            await world.restart()
        assert world.store.find(Query(client=None)).transactions == ()
        if scope is ControlScope.CLIENT:
            assert (await world.workflow.receiving.submit(BOB, pacs008())).standing.status is Status.ACSC
        await world.control(scope, name, stopped=False)
        assert (await world.workflow.receiving.submit(ALICE, pacs008())).standing.status is Status.ACSC


async def test_a_stopped_route_can_hold(place: Place) -> None:
    """Where so configured new messages are taken, wait in ACTC with their keys held, and go on with the resumption."""
    async with a_world(place, HOLDING) as world:
        await world.control(ControlScope.ROUTE, "default", stopped=True)
        transfer = Transfer()
        held = await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id="M1"))
        assert held.standing.state is State.ACTC
        double = await world.workflow.receiving.submit(ALICE, pacs008(transfer))
        assert (double.standing.status, double.reason) == (Status.RJCT, "AM05")
        assert await world.restart() == 1
        assert world.verify(held.id).standing.state is State.ACTC
        assert await world.control(ControlScope.ROUTE, "default", stopped=False) == 1
        assert world.verify(held.id).standing.status is Status.ACSC


async def test_what_is_accepted_while_a_stop_is_lifted_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that was stopped when it came, and stored after the stop was gone, is not forgotten."""
    async with a_world(place, HOLDING) as world:
        await world.control(ControlScope.ROUTE, "default", stopped=True)
        slow(world.store, monkeypatch)
        resuming = asyncio.ensure_future(world.control(ControlScope.ROUTE, "default", stopped=False))
        await under_way(world)
        held = await asyncio.gather(*(world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(5)))
        await resuming
        await world.workflow.resuming.go_on()
        for transaction in held:
            assert world.verify(transaction.id).standing.status is Status.ACSC


async def test_what_a_stop_holds_still_runs_out(place: Place) -> None:
    """Its clock goes on: always an end."""
    async with a_world(place, HOLDING) as world:
        await world.control(ControlScope.CLIENT, ALICE, stopped=True)
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        world.hand.go(SLA)
        assert await world.fire() == 1
        assert world.verify(held.id).standing.status is Status.RJCT
        assert await world.control(ControlScope.CLIENT, ALICE, stopped=False) == 0


async def test_a_held_double_stays_a_double(place: Place) -> None:
    """A payment that was refused when its message was taken is not taken up again when a stop is lifted.

    Its refusal is an end; that the other payment has failed since changes nothing about it.
    """
    async with a_world(place, CONSUMER, HOLDING) as world:
        shared = Transfer()
        first = await world.workflow.receiving.submit(ALICE, pacs008(shared))
        assert first.standing.cause is HeldCause.DECISION
    route = Route(name="default", sla=SLA, when_stopped=WhenStopped.HOLD)
    async with a_world(place, route) as world:
        await world.restart()
        await world.control(ControlScope.ROUTE, "default", stopped=True)
        mixed = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), shared))
        assert statuses(world, mixed) == [(Status.ACTC, None), (Status.RJCT, "AM05")]
        await world.decide(first, CANCEL)
        await world.control(ControlScope.ROUTE, "default", stopped=False)
        done = world.verify(mixed.id)
        assert done.standing.status is Status.ACSC
        assert statuses(world, mixed) == [(Status.ACSC, None), (Status.RJCT, "AM05")]
        answer = world.answer(mixed) or b""
        assert b"<GrpSts>PART</GrpSts>" in answer
        assert answer.count(b"<TxSts>RJCT</TxSts>") == 1


async def test_a_held_message_with_one_identification_twice_is_kept(place: Place) -> None:
    """It waits like others, and is rejected by the rules once the stop is lifted."""
    async with a_world(place, HOLDING) as world:
        await world.control(ControlScope.ROUTE, "default", stopped=True)
        twice = Transfer()
        held = await world.workflow.receiving.submit(ALICE, pacs008(twice, twice))
        assert held.standing.state is State.ACTC
        await world.control(ControlScope.ROUTE, "default", stopped=False)
        assert world.verify(held.id).standing.is_final


async def test_in_flight_is_bounded_by_client(place: Place) -> None:
    """One client's limit is no other's; with each end there is room again; a restart counts anew."""
    async with a_world(place, CONSUMER, in_flight_max=2) as world:
        held = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(2)]
        for _ in range(2):
            with pytest.raises(TooManyInFlight):
                await world.workflow.receiving.submit(ALICE, pacs008())
            await world.workflow.receiving.submit(BOB, pacs008())
            await world.restart()
        await world.decide(held[0], REJECT)
        await world.workflow.receiving.submit(ALICE, pacs008())
        assert world.workflow.memory.in_flight[ALICE] == 2


async def test_what_ends_while_it_is_counted_is_not_in_flight(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count was read before the end, and comes after it."""
    async with a_world(place, CONSUMER, in_flight_max=1) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        counted, ended = threading.Event(), threading.Event()
        count = world.store.open_by_client

        def slowly() -> Mapping[str, int]:
            found = count()
            counted.set()
            assert ended.wait(10)
            return found

        monkeypatch.setattr(world.store, "open_by_client", slowly)
        looking = asyncio.ensure_future(world.workflow.refresh())
        assert await asyncio.to_thread(counted.wait, 10)
        await world.decide(held, REJECT)
        ended.set()
        await looking
        await world.workflow.receiving.submit(ALICE, pacs008())


# -- our own faults ---------------------------------------------------------------------------------------------------


class Trip:
    """Makes the process stage fail by a mistake of ours, until it is mended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("interlock.stages.process.run", self._fail)
        self._monkeypatch = monkeypatch

    def _fail(self, *_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    def mend(self) -> None:
        """From here on the stage works."""
        self._monkeypatch.undo()


async def test_a_fault_of_ours_loses_no_message(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is kept and held for an operator; retried after the repair it goes its way."""
    async with a_world(place) as world:
        trip = Trip(monkeypatch)
        content = pacs008()
        held = await world.workflow.receiving.submit(ALICE, content, idempotency_key="k")
        assert (held.standing.status, held.standing.cause) == (Status.PDNG, HeldCause.FAULT)
        assert (await world.workflow.reading.message(ALICE, held.id, BodyKind.INBOX)).content == content
        assert world.verify(held.id) == held
        assert (await world.workflow.receiving.submit(ALICE, content, idempotency_key="k")).id == held.id
        again = await world.decide(held, RETRY, actor="operator:o")
        assert again.standing.cause is HeldCause.FAULT
        trip.mend()
        assert await world.restart() == 0
        done = await world.decide(held, RETRY, actor="operator:o")
        assert done.standing.status is Status.ACSC
        assert world.verify(held.id) == done
        assert statuses(world, done) == [(Status.ACSC, None)]
        double = await world.workflow.receiving.submit(ALICE, content)
        assert (double.standing.status, double.reason) == (Status.RJCT, "DU01")


async def test_a_fault_of_ours_can_be_cancelled_and_runs_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also then there is always an end, with an answer that refers to the original."""
    async with a_world(place) as world:
        trip = Trip(monkeypatch)
        one, two = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(2)]
        issued = await world.workflow.receiving.issue(ALICE)
        three = await world.workflow.receiving.receive(ALICE, issued.id, pacs008())
        assert three.standing.cause is HeldCause.FAULT
        trip.mend()
        await world.decide(one, CANCEL)
        world.hand.go(SLA)
        assert await world.fire() == 2
        for transaction, end in ((one, Status.CANC), (two, Status.RJCT), (three, Status.RJCT)):
            done = world.verify(transaction.id)
            assert (done.standing.status, done.answer) == (end, "pacs.002.001.10")


async def test_a_spoilt_body_keeps_no_other_clock_from_firing(place: Place) -> None:
    """One transaction that cannot be read any more is left to the operators; all others end in time."""
    async with a_world(place, CONSUMER) as world:
        held = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(3)]
        place.spoil(held[0].id)
        await world.restart()
        world.hand.go(DECIDE)
        for transaction in world.store.overdue(world.hand(), 10):
            try:
                await world.workflow.resuming.expire(transaction)
            except Exception as exc:  # noqa: BLE001 - as the timer does
                await world.workflow.resuming.park(transaction, exc)
        assert [world.stored(t).standing.is_final for t in held] == [False, True, True]


# -- after a crash ----------------------------------------------------------------------------------------------------


async def _held_back(world: World) -> Transaction:
    await world.control(ControlScope.ROUTE, "default", stopped=True)
    held = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), Transfer()))
    assert held.standing.state is State.ACTC
    world.place.execute("DELETE FROM controls")  # as if the stop had never been: what a crash between two steps leaves
    return held


async def test_what_a_crash_left_in_actc_goes_on(place: Place) -> None:
    """The next process takes it up by itself and brings it to its end, once."""
    async with a_world(place, HOLDING) as world:
        held = await _held_back(world)
        assert await world.restart() == 1
        done = world.verify(held.id)
        assert done.standing.status is Status.ACSC
        assert statuses(world, held) == [(Status.ACSC, None)] * 2
        assert await world.restart() == 0
        assert world.verify(held.id) == done


async def test_what_a_crash_left_in_actc_runs_out_if_it_is_late(place: Place) -> None:
    """Nothing is released after its deadline, also not by a resumption."""
    async with a_world(place, HOLDING) as world:
        held = await _held_back(world)
        world.hand.go(SLA)
        await world.restart()
        done = world.verify(held.id)
        assert (done.standing.status, done.code) == (Status.RJCT, "TOUT")


async def test_what_waits_for_somebody_goes_on_waiting(place: Place) -> None:
    """An id, a held decision, an approval: a restart changes none of them, and their clocks go on."""
    async with a_world(place, FOUR_EYES) as world:
        issued = await world.workflow.receiving.issue(ALICE)
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        approved = await world.decide(await world.workflow.receiving.submit(ALICE, pacs008()), ACCEPT)
        before = [world.verify(t.id) for t in (issued, held, approved)]
        assert await world.restart() == 0
        assert [world.verify(t.id) for t in (issued, held, approved)] == before
        assert world.workflow.memory.in_flight[ALICE] == 3
        world.hand.go(DECIDE)
        assert await world.fire() == 3
        assert {world.verify(t.id).standing.status for t in before} == {Status.RJCT}


async def test_what_has_ended_stays_as_it_is(place: Place) -> None:
    """Every end, answer and payment is the same to the byte after any number of restarts."""
    async with a_world(place, CONSUMER) as world:
        held = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(4)]
        for transaction, kind in zip(held, (ACCEPT, REJECT, CANCEL), strict=False):
            await world.decide(transaction, kind)
        world.hand.go(DECIDE)
        await world.fire()
        before = [(world.verify(t.id), world.answer(t), world.store.history(t.id)) for t in held]
        for _ in range(3):
            assert await world.restart() == 0
            assert [(world.verify(t.id), world.answer(t), world.store.history(t.id)) for t in held] == before
        world.verify_chain()


@pytest.mark.parametrize("call", ["submit", "issue", "decide"])
async def test_a_process_that_was_replaced_writes_nothing(place: Place, call: str) -> None:
    """The old one's call fails with a lost lease, whatever it is; the new one's transactions are untouched.

    Where several may write, the old one has begun anew by then, and the same call again succeeds.
    """
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        old, journal, token = world.workflow, world.journal, world.journal.token
        await world.restart()
        accept = Decision(kind=ACCEPT, actor="c_alice:anna")
        calls: dict[str, Callable[[], Awaitable[Transaction]]] = {
            "submit": lambda: old.receiving.submit(ALICE, pacs008()),
            "issue": lambda: old.receiving.issue(ALICE),
            "decide": lambda: old.deciding.decide(ALICE, held.id, accept),
        }
        with pytest.raises(StoreUnavailable if world.store.shared else LeaseLost):
            await calls[call]()
        assert world.store.find(Query(client=ALICE)).transactions == (held,)
        assert world.verify(held.id) == held
        if not world.store.shared:
            with pytest.raises(LeaseLost):
                await calls[call]()
            return
        again = await calls[call]()
        assert world.verify(again.id) == again
        assert journal.token > world.journal.token > token
        assert journal.tally.lost_leases == 1
        world.verify_chain()


# -- callers that go --------------------------------------------------------------------------------------------------


async def test_a_caller_that_goes_leaves_the_books_right(place: Place) -> None:
    """A call that is cancelled while its commit is under way is made or not made, but counted as the store has it."""
    async with a_world(place, CONSUMER) as world:
        for turns in range(12):
            task = asyncio.ensure_future(world.workflow.receiving.submit(ALICE, pacs008()))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for turns in range(12):
            held = await world.workflow.receiving.submit(BOB, pacs008())
            task = asyncio.ensure_future(world.decide(held, ACCEPT))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await world.workflow.receiving.submit(ALICE, pacs008())  # the commits of those who went are behind this one
        for client in (ALICE, BOB):
            assert world.workflow.memory.in_flight[client] == world.store.open_by_client().get(client, 0)
        for transaction in world.store.find(Query(client=None, limit=100)).transactions:
            world.verify(transaction.id)


async def test_who_waits_hears_of_an_end_whose_caller_has_gone(place: Place) -> None:
    """That the one who decided did not wait for the answer is no reason to keep others waiting."""
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        waiting = asyncio.ensure_future(world.workflow.reading.until_end(held, 3))
        await asyncio.sleep(0)
        deciding = asyncio.ensure_future(world.decide(held, ACCEPT))
        while not world.journal.waiting and not deciding.done():  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0)
        deciding.cancel()
        assert (await waiting).standing.status is Status.ACSC


# -- reading ----------------------------------------------------------------------------------------------------------


async def test_whoever_waits_gets_the_end(place: Place) -> None:
    """As soon as it is there, or what stands when the time is up."""
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        assert await world.workflow.reading.until_end(held, 0.01) == held
        waiting = [asyncio.ensure_future(world.workflow.reading.until_end(held, 30)) for _ in range(3)]
        await asyncio.sleep(0)
        done = await world.decide(held, REJECT)
        assert await asyncio.gather(*waiting) == [done] * 3
        assert await world.workflow.reading.until_end(held, 30) == done


async def test_an_answer_is_collected_again_and_again(place: Place) -> None:
    """Byte for byte the same, also after a restart; that it was fetched is recorded."""
    async with a_world(place) as world:
        done = await world.workflow.receiving.submit(ALICE, pacs008())
        assert world.store.delivery(done.id, "outbox") is DeliveryState.PENDING
        first = await world.workflow.reading.collect(ALICE, done.id)
        assert first.answer is not None
        await world.workflow.receiving.issue(ALICE)  # the note goes with the next batch at the latest
        assert world.store.delivery(done.id, "outbox") is DeliveryState.CONFIRMED
        await world.restart()
        again = await world.workflow.reading.collect(ALICE, done.id)
        assert again.answer is not None
        assert again.answer.content == first.answer.content
        issued = await world.workflow.receiving.issue(ALICE)
        assert (await world.workflow.reading.collect(ALICE, issued.id)).answer is None


async def test_a_payment_that_is_open_shows_the_transactions_status(place: Place) -> None:
    """Until it has an end of its own."""
    async with a_world(place, CONSUMER) as world:
        known = Transfer()
        await world.workflow.receiving.submit(ALICE, pacs008(known))
        held = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), known))
        shown = [payment.status for payment in await world.workflow.reading.payments(ALICE, held.id)]
        assert shown == [Status.PDNG, Status.RJCT]


async def test_a_payment_is_found_by_every_name_its_sender_knows(place: Place) -> None:
    """UETR, TxId, EndToEndId, MsgId and the call's reference; of a rejected message too; each as it was written."""
    async with a_world(place) as world:
        for number, count in enumerate((None, 9)):
            transfer = Transfer(end_to_end_id=f"E{number}", transaction_id=f"T{number}")
            content = pacs008(transfer, message_id=f"M{number}", count=count)
            done = await world.workflow.receiving.submit(ALICE, content, reference=f"R{number}")
            names = [
                (KeyKind.UETR, transfer.uetr or ""),
                (KeyKind.TRANSACTION, f"T{number}"),
                (KeyKind.END_TO_END, f"E{number}"),
                (KeyKind.MESSAGE, f"M{number}"),
                (KeyKind.REFERENCE, f"R{number}"),
            ]
            found = [await world.workflow.reading.find(Query(client=ALICE, key=name)) for name in names]
            assert {page.transactions for page in found} == {(done,)}, [len(page.transactions) for page in found]


async def test_only_known_errors_come_out(place: Place) -> None:
    """Whatever a client calls with, it is answered in the words of the error tree."""
    async with a_world(place) as world:
        for call in (
            world.workflow.reading.get(ALICE, uuid4()),
            world.workflow.receiving.receive(ALICE, uuid4(), b""),
            world.workflow.driving.again(ALICE, uuid4(), "x"),
            world.workflow.reading.message(ALICE, uuid4(), BodyKind.INBOX),
        ):
            with pytest.raises(InterlockError):
                await call


# -- what hostile senders try ---------------------------------------------------------------------------------------


async def test_a_payment_sent_again_without_its_uetr_is_a_duplicate(place: Place) -> None:
    """Dropping the UETR, or making a new one, does not make another payment of the same TxId."""
    async with a_world(place) as world:
        first = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(uetr=None, transaction_id="T1")))
        assert first.standing.status is Status.ACSC
        for uetr in (fresh_uetr(), None, fresh_uetr()):
            again = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(uetr=uetr, transaction_id="T1")))
            assert (again.standing.status, again.reason) == (Status.RJCT, "AM05")


async def test_an_identification_that_does_not_fit_names_no_other_message(place: Place) -> None:
    """Cut to 35 characters, a MsgId would be another message's: the rejection is an admi.002 instead."""
    async with a_world(place) as world:
        content = pacs008(message_id="M" * 36)
        refused = await world.workflow.receiving.submit(ALICE, content)
        assert (refused.standing.status, refused.answer) == (Status.RJCT, "admi.002.001.01")
        answer = await world.workflow.reading.message(ALICE, refused.id, BodyKind.OUTBOX)
        assert b"M" * 35 not in answer.content


async def test_a_stop_that_refuses_also_refuses_messages_for_ids_given_before(place: Place) -> None:
    """Nothing is stored; once resumed, the same message for the same id is taken."""
    async with a_world(place) as world:
        issued = await world.workflow.receiving.issue(ALICE)
        await world.control(ControlScope.CLIENT, ALICE, stopped=True)
        content = pacs008()
        with pytest.raises(Stopped):
            await world.workflow.receiving.receive(ALICE, issued.id, content)
        assert world.store.message(issued.id, BodyKind.INBOX) is None
        await world.control(ControlScope.CLIENT, ALICE, stopped=False)
        assert (await world.workflow.receiving.receive(ALICE, issued.id, content)).standing.status is Status.ACSC


async def test_what_is_parked_keeps_its_deadline(place: Place) -> None:
    """Our own mistake gives nobody more time: what is retried after its deadline is not released."""
    async with a_world(place, HOLDING) as world:
        await world.control(ControlScope.ROUTE, HOLDING.name, stopped=True)
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        assert held.standing.state is State.ACTC
        await world.workflow.resuming.park(held, ZeroDivisionError())
        parked = await world.workflow.reading.get(ALICE, held.id)
        assert (parked.standing.state, parked.deadline, parked.flagged) == (State.HELD_FAULT, held.deadline, True)


# -- several processes over one store ---------------------------------------------------------------------------------


async def test_each_process_sees_what_another_has_done(shared_place: Place) -> None:
    """What one remembers of a transaction is no reason to show or decide on what was true before."""
    async with a_world(shared_place, CONSUMER) as world:
        one, two = world.workflow, world.another().workflow
        held = await one.receiving.submit(ALICE, pacs008())
        accept = Decision(kind=ACCEPT, actor="c_alice:anna")
        done = await two.deciding.decide(ALICE, held.id, accept)
        assert done.standing.status is Status.ACSC
        for flow in (one, two):
            assert await flow.reading.get(ALICE, held.id) == done
            assert [payment.status for payment in await flow.reading.payments(ALICE, held.id)] == [Status.ACSC]
            assert (await flow.reading.history(ALICE, held.id))[-1].kind is EventKind.ENDED
            assert (await flow.reading.message(ALICE, held.id, BodyKind.OUTBOX)).content == world.answer(held)
            answered = await flow.reading.collect(ALICE, held.id)
            assert answered.answer is not None
            assert answered.answer.content == world.answer(held)
            assert await flow.deciding.decide(ALICE, held.id, accept) == done
            with pytest.raises(IllegalDecision):
                await flow.deciding.decide(ALICE, held.id, Decision(kind=CANCEL, actor="c_alice:anna"))
        world.verify(held.id)


async def test_an_id_of_one_process_takes_its_message_at_another(shared_place: Place) -> None:
    """Also where the one has it in mind as it was, and the message comes at both at a time."""
    async with a_world(shared_place) as world:
        one, two = world.workflow, world.another().workflow
        for _ in range(10):
            issued, content = await one.receiving.issue(ALICE), pacs008()
            done = await asyncio.gather(
                *(flow.receiving.receive(ALICE, issued.id, content) for flow in (two, one, two))
            )
            assert {transaction.standing.status for transaction in done} == {Status.ACSC}
            assert world.verify(issued.id).standing.status is Status.ACSC
            with pytest.raises(DuplicateMismatch):
                await one.receiving.receive(ALICE, issued.id, pacs008())
        world.verify_chain()


@pytest.mark.parametrize("seed", range(3))
async def test_of_decisions_at_several_processes_one_wins(shared_place: Place, seed: int) -> None:
    """Accept, reject, cancel and the clock, each at another process at one moment: one end, and who lost is told so."""
    async with a_world(shared_place, CONSUMER) as world:
        flows = [world.workflow, *(world.another().workflow for _ in range(2))]
        decisions = [Decision(kind=kind, actor="c_alice:a") for kind in (ACCEPT, CANCEL)]
        decisions.append(Decision(kind=REJECT, actor="c_alice:a", reason="AC04"))
        for late in (False, True) * 5:
            held = await flows[seed].receiving.submit(ALICE, pacs008())
            turned = flows[seed:] + flows[:seed]
            calls = [flow.deciding.decide(ALICE, held.id, what) for flow, what in zip(turned, decisions, strict=True)]
            world.hand.go(DECIDE if late else TICK)
            outcomes = await asyncio.gather(*calls, flows[seed - 1].resuming.expire(held), return_exceptions=True)
            assert all(isinstance(outcome, Transaction | ConflictError) for outcome in outcomes), outcomes
            done = world.verify(held.id)
            assert done.standing.is_final
            winners = [outcome.standing for outcome in outcomes[:-1] if isinstance(outcome, Transaction)]
            assert winners in ([done.standing], [] if late else [done.standing])
            assert not (late and done.standing.status is Status.ACSC)
        world.verify_chain()


@pytest.mark.parametrize("double", ["idempotency key", "message id", "uetr"])
async def test_of_doubles_at_several_processes_one_is_taken(shared_place: Place, double: str) -> None:
    """Whatever makes them doubles: one lives, however many processes take them at one moment."""
    async with a_world(shared_place) as world:
        flows = [world.workflow, *(world.another().workflow for _ in range(2))]
        for number in range(8):
            transfer, content = Transfer(), pacs008()
            match double:
                case "idempotency key":
                    calls = [flow.receiving.submit(ALICE, content, idempotency_key=f"k{number}") for flow in flows * 2]
                case "message id":
                    calls = [flow.receiving.submit(ALICE, pacs008(message_id=f"M{number}")) for flow in flows * 2]
                case _:
                    calls = [flow.receiving.submit(ALICE, pacs008(transfer)) for flow in flows * 2]
            done = await asyncio.gather(*calls)
            if double == "idempotency key":
                assert len({transaction.id for transaction in done}) == 1
                assert {transaction.standing.status for transaction in done} == {Status.ACSC}
                continue
            assert sorted(str(transaction.standing.status) for transaction in done) == ["ACSC", *["RJCT"] * 5]
            reasons = {transaction.reason for transaction in done} - {None}
            assert reasons == {"DU01" if double == "message id" else "AM05"}
        for transaction in world.store.find(Query(client=ALICE, limit=100)).transactions:
            world.verify(transaction.id)
        world.verify_chain()


async def test_of_redrives_at_several_processes_one_lives(shared_place: Place) -> None:
    """And who lost hears that it has changed."""
    async with a_world(shared_place, CONSUMER) as world:
        flows = [world.workflow, *(world.another().workflow for _ in range(2))]
        for _ in range(5):
            first = await world.workflow.receiving.submit(ALICE, pacs008())
            await world.decide(first, CANCEL)
            calls = [flow.driving.again(ALICE, first.id, "c_alice") for flow in flows * 2]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            born = [outcome for outcome in outcomes if isinstance(outcome, Transaction)]
            assert [attempt.attempt for attempt in born] == [2]
            assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 5
            assert world.verify(first.id).redriven_as == born[0].id
            world.verify(born[0].id)


async def test_who_waits_at_one_process_hears_of_an_end_at_another(shared_place: Place) -> None:
    """Woken by the look at what others have ended; all who wait, and only for what has ended."""
    async with a_world(shared_place, CONSUMER) as world:
        one, two = world.workflow, world.another().workflow
        held, other = [await one.receiving.submit(ALICE, pacs008()) for _ in range(2)]
        waiting = [asyncio.ensure_future(flow.reading.until_end(held, 30)) for flow in (one, two, one)]
        patient = asyncio.ensure_future(one.reading.until_end(other, 30))
        while len(one.memory.awaited) + len(two.memory.awaited) < 3:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        done = await world.another().workflow.deciding.decide(ALICE, held.id, Decision(kind=CANCEL, actor="c_alice:a"))
        for flow in (one, two):
            await flow.resuming.look_for_ends()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [done] * 3
        assert not patient.done()
        await two.deciding.decide(ALICE, other.id, Decision(kind=CANCEL, actor="c_alice:a"))
        await one.resuming.look_for_ends()
        assert (await asyncio.wait_for(patient, 5)).standing.status is Status.CANC
        assert one.memory.awaited == two.memory.awaited == ()


async def test_an_order_given_at_one_process_is_obeyed_by_another(shared_place: Place) -> None:
    """From its next look on; and what it held back meanwhile goes on at the one where the stop is lifted."""
    async with a_world(shared_place, HOLDING) as world:
        one, two = world.workflow, world.another().workflow
        await world.control(ControlScope.ROUTE, "default", stopped=True)
        await two.refresh()
        held = await two.receiving.submit(ALICE, pacs008())
        assert held.standing.state is State.ACTC
        assert two.controls.orders == one.controls.orders
        assert await world.control(ControlScope.ROUTE, "default", stopped=False) == 1
        assert world.verify(held.id).standing.status is Status.ACSC
        # Until its own look the other one goes on holding, and then takes up what it has held.
        late = await two.receiving.submit(ALICE, pacs008())
        assert late.standing.state is State.ACTC
        await two.refresh()
        await two.resuming.go_on()
        assert world.verify(late.id).standing.status is Status.ACSC
        assert (await two.receiving.submit(ALICE, pacs008())).standing.status is Status.ACSC


@pytest.mark.parametrize("skew", [-5, 5])
async def test_the_newest_order_stands_whatever_the_clocks_say(shared_place: Place, skew: int) -> None:
    """Of two processes whose clocks differ: the order that was given last is obeyed by both, at once or at a look."""
    async with a_world(shared_place) as world:
        flows = [world.workflow, world.another().workflow]

        async def order(flow: Workflow, seconds: int, *, stopped: bool) -> None:
            at = world.hand() + timedelta(seconds=seconds)
            name = "default"
            await flow.resuming.control(
                Control(scope=ControlScope.ROUTE, name=name, stopped=stopped, actor="operator:o", note=None, at=at)
            )

        await order(flows[0], 0, stopped=True)
        await order(flows[1], skew, stopped=False)
        for flow in flows:
            await flow.refresh()
            assert (await flow.receiving.submit(ALICE, pacs008())).standing.status is Status.ACSC
        await order(flows[0], 0, stopped=True)
        for flow in flows:
            await flow.refresh()
            with pytest.raises(Stopped):
                await flow.receiving.submit(ALICE, pacs008())


async def test_what_is_in_flight_is_counted_over_all_processes(shared_place: Place) -> None:
    """With each look, so that the limit of a client is the limit of all of its work."""
    async with a_world(shared_place, CONSUMER, in_flight_max=3) as world:
        one, two = world.workflow, world.another().workflow
        held = [await flow.receiving.submit(ALICE, pacs008()) for flow in (one, two, two)]
        await one.refresh()
        with pytest.raises(TooManyInFlight):
            await one.receiving.submit(ALICE, pacs008())
        await two.deciding.decide(ALICE, held[0].id, Decision(kind=CANCEL, actor="c_alice:a"))
        await one.refresh()
        assert (await one.receiving.submit(ALICE, pacs008())).standing.cause is HeldCause.DECISION
        await two.refresh()
        assert one.memory.in_flight == two.memory.in_flight == {ALICE: 3}


async def test_what_a_dead_process_left_is_taken_over_once(shared_place: Place) -> None:
    """However many look at one moment; and the one that was taken for dead changes nothing when it wakes up."""
    async with a_world(shared_place, HOLDING) as world:
        await world.control(ControlScope.ROUTE, "default", stopped=True)
        held = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(20)]
        shared_place.execute("DELETE FROM controls")
        asleep = world.workflow
        shared_place.abandon()
        heirs = [world.another() for _ in range(3)]
        taken = await asyncio.gather(*(heir.workflow.resuming.take_over() for heir in heirs))
        assert sum(taken) == len(held)
        done = [world.verify(transaction.id) for transaction in held]
        assert {transaction.standing.status for transaction in done} == {Status.ACSC}
        for transaction in held:  # it has them in mind as they were
            assert await asleep.resuming.take_up(transaction) in (True, False)
        assert [world.verify(transaction.id) for transaction in held] == done
        assert await asleep.resuming.take_over() == 0
        world.verify_chain()


async def test_what_was_taken_over_while_the_store_failed_goes_on(
    shared_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the store is gone between the claim and the first step is no reason to leave it until its time runs out."""
    async with a_world(shared_place, HOLDING) as world:
        await world.control(ControlScope.ROUTE, "default", stopped=True)
        held = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(3)]
        shared_place.execute("DELETE FROM controls")
        shared_place.abandon()
        heir = world.another()

        def fails(*_: object) -> list[Outcome]:
            raise StoreUnavailable("the database is gone")

        with monkeypatch.context() as patch:
            patch.setattr(heir.store, "commit", fails)
            with pytest.raises(StoreUnavailable):
                await heir.workflow.resuming.take_over()
        assert {world.verify(transaction.id).standing.status for transaction in held} == {Status.ACTC}
        await heir.workflow.resuming.go_on()
        assert {world.verify(transaction.id).standing.status for transaction in held} == {Status.ACSC}


async def test_one_process_fires_the_deadlines_of_all(shared_place: Place) -> None:
    """Once each; when it goes in good order another fires the next ones at once."""
    async with a_world(shared_place) as world:
        processes = [world.another(), world.another()]
        timers = [Deadlines(p.store, p.journal, p.workflow, world.hand, lambda: None, lease=0.5) for p in processes]
        tasks = [asyncio.ensure_future(timer.run()) for timer in timers]
        issued = [await process.workflow.receiving.issue(ALICE) for process in processes * 3]
        ended = asyncio.ensure_future(all_ended(world, timers, issued))
        await asyncio.sleep(0)
        world.hand.go(SLA)
        await ended
        assert sorted(timer.fired for timer in timers) == [0, 6]
        leader = timers.index(max(timers, key=lambda timer: timer.fired))
        assert timers[leader].leads
        assert not timers[1 - leader].leads
        tasks[leader].cancel()
        await world.end(processes[leader])
        issued = [await processes[1 - leader].workflow.receiving.issue(ALICE) for _ in range(3)]
        ended = asyncio.ensure_future(all_ended(world, timers, issued))
        await asyncio.sleep(0)
        world.hand.go(SLA)
        await ended
        assert timers[1 - leader].fired == 3
        tasks[1 - leader].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        world.verify_chain()


async def all_ended(world: World, timers: Sequence[Deadlines], transactions: Sequence[Transaction]) -> None:
    """Until all of them have, and whoever fired them knows; each as it must."""
    fired = sum(timer.fired for timer in timers)
    async with asyncio.timeout(10):
        while sum(timer.fired for timer in timers) < fired + len(transactions):  # noqa: ASYNC110 - timers tell nobody
            await asyncio.sleep(0.01)
    for transaction in transactions:
        assert world.verify(transaction.id).code == "TOUT"
