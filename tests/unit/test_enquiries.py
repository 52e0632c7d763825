# ruff: noqa: F811 - fixtures are imported, and named again where they are used
"""Requests about other messages on their way through the ledger: told, cancelled, and never of another client's."""

import pytest
from lxml import etree

from interlock.decisions import DecisionKind
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind
from interlock.transaction import BodyKind, Transaction
from tests.enquiries import Ids, request
from tests.messages import Transfer, fresh, pacs008
from tests.world import ALICE, BOB, CONSUMER, Place, World, a_world, place, shared_place, world_database  # noqa: F401

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def asked(definition: str, transfer: Transfer, message_id: str, *, amount: str | None = "100.00") -> bytes:
    """A request about one transfer, which nobody has made before."""
    ids = Ids(
        message_id=message_id, instruction_id=None, end_to_end_id=transfer.end_to_end_id,
        transaction_id=transfer.transaction_id, uetr=transfer.uetr, amount=amount,
    )  # fmt: skip
    return request(definition, ids).replace(b"EXAMPLE-C-0001", fresh("C").encode())


async def answer(world: World, transaction: Transaction) -> dict[str, list[str]]:
    """Texts of the answer by the names of their elements, once it is there."""
    ended = await world.workflow.until_end(transaction, 10)
    assert ended.standing.is_final
    body = await world.workflow.message(ended.client, ended.id, BodyKind.OUTBOX)
    told: dict[str, list[str]] = {"": [body.definition or ""]}
    for element in etree.fromstring(body.content).iter():
        if element.text and element.text.strip():
            told.setdefault(etree.QName(element).localname, []).append(element.text)
    return told


@pytest.mark.parametrize("definition", ["camt.056.001.08", "camt.056.001.11"])
async def test_what_can_be_cancelled_is(place: Place, definition: str) -> None:
    """The original ends as cancelled by its client, is answered, and the request is told so; also when asked again."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.submit(ALICE, pacs008(transfer, message_id=message_id))
        for _ in range(2):
            asking = await world.workflow.submit(ALICE, asked(definition, transfer, message_id))
            told = await answer(world, asking)
            assert told[""][0].startswith("camt.029")
            assert "CNCL" in told["Conf"] or "CNCL" in told.get("Cd", [])
            assert world.stored(asking).standing.end is Status.ACSC
        assert (world.stored(held).standing.status, world.stored(held).reason) == (Status.CANC, "DUPL")
        cancelled = [event for event in world.store.history(held.id) if event.because is EventKind.CANCELLED]
        assert [event.actor for event in cancelled] == [ALICE]


async def test_what_was_settled_is_not_cancelled(place: Place) -> None:
    """A return is asked for instead."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(place) as world:
        settled = await world.workflow.submit(ALICE, pacs008(transfer, message_id=message_id))
        told = await answer(world, await world.workflow.submit(ALICE, asked("camt.056.001.08", transfer, message_id)))
        assert "CNCL" not in str(told)
        assert world.stored(settled) == settled


@pytest.mark.parametrize("definition", ["pacs.028.001.03", "camt.056.001.08"])
async def test_another_clients_payment_is_unknown(place: Place, definition: str) -> None:
    """It is told the same as of one that never was, and nothing happens to it."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.submit(ALICE, pacs008(transfer, message_id=message_id))
        stranger = await answer(world, await world.workflow.submit(BOB, asked(definition, transfer, message_id)))
        nobody = await answer(world, await world.workflow.submit(BOB, asked(definition, Transfer(), fresh())))
        for told in (stranger, nobody):
            assert not {"ACSC", "PDNG", "CNCL"} & {text for texts in told.values() for text in texts}
        assert stranger.get("Cd") == nobody.get("Cd")
        assert world.stored(held) == held


async def test_a_status_request_is_told_the_present_truth(place: Place) -> None:
    """Held, then settled; and what the request is about is not changed by it."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.submit(ALICE, pacs008(transfer, message_id=message_id))
        told = await answer(world, await world.workflow.submit(ALICE, asked("pacs.028.001.03", transfer, message_id)))
        assert (told[""][0][:8], told["TxSts"]) == ("pacs.002", ["PDNG"])
        assert told["OrgnlUETR"] == [transfer.uetr]
        await world.decide(held, DecisionKind.ACCEPT)
        told = await answer(world, await world.workflow.submit(ALICE, asked("pacs.028.001.03", transfer, message_id)))
        assert told["TxSts"] == ["ACSC"]


async def test_a_request_that_a_crash_left_half_way_is_answered_by_the_next_process(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is durable before anything is done about it."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(place, CONSUMER) as world:
        await world.workflow.submit(ALICE, pacs008(transfer, message_id=message_id))
        monkeypatch.setattr(world.workflow, "_enquire", lambda *_: None)  # the process ends here
        asking = await world.workflow.submit(ALICE, asked("camt.056.001.08", transfer, message_id))
        assert asking.standing.status is Status.ACTC
        await world.restart()
        await world.workflow.take_over()
        assert "CNCL" in str(await answer(world, world.stored(asking)))


async def test_what_is_understood_and_not_served_is_told_so(place: Place) -> None:
    """With an admi.002 that says what to do; a system event is acknowledged."""
    event = (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:admi.004.001.02"><SysEvtNtfctn><EvtInf><EvtCd>PING</EvtCd>'
        "<EvtTm>2026-11-22T11:00:00Z</EvtTm></EvtInf></SysEvtNtfctn></Document>"
    )
    async with a_world(place) as world:
        told = await answer(world, await world.workflow.submit(ALICE, event.encode()))
        assert told[""] == ["admi.007.001.01"]
