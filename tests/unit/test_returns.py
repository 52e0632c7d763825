# ruff: noqa: F811 - fixtures are imported, and named again where they are used
"""Returns: what was paid can come back once."""

import asyncio

import pytest

from interlock.iso20022.codes import Status
from interlock.ports import Query
from interlock.transaction import Transaction
from tests.messages import Transfer, fresh, pacs008
from tests.world import ALICE, AUTO, Place, World, a_world, place, shared_place, world_database  # noqa: F401

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pacs004(transfer: Transfer, amount: str, *, paid: str = "100.00", by: str = "UETR", reason: str = "AC04") -> bytes:
    """A return of so much of a transfer, named by its UETR or TxId."""
    name = f"<OrgnlUETR>{transfer.uetr}</OrgnlUETR>"
    if by == "TxId":
        name = f"<OrgnlTxId>{transfer.transaction_id}</OrgnlTxId>"
    agent = "<FinInstnId><BICFI>{}</BICFI></FinInstnId>"
    return (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.004.001.09"><PmtRtr>'
        f"<GrpHdr><MsgId>{fresh()}</MsgId><CreDtTm>2026-11-22T10:00:00+00:00</CreDtTm><NbOfTxs>1</NbOfTxs>"
        "<SttlmInf><SttlmMtd>CLRG</SttlmMtd></SttlmInf></GrpHdr>"
        f'<TxInf><RtrId>{fresh()}</RtrId>{name}<OrgnlIntrBkSttlmAmt Ccy="EUR">{paid}</OrgnlIntrBkSttlmAmt>'
        f'<RtrdIntrBkSttlmAmt Ccy="EUR">{amount}</RtrdIntrBkSttlmAmt><IntrBkSttlmDt>2026-11-23</IntrBkSttlmDt>'
        f"<InstgAgt>{agent.format('EXMPFRPPXXX')}</InstgAgt><InstdAgt>{agent.format('EXMPDEFFXXX')}</InstdAgt>"
        f"<RtrRsnInf><Rsn><Cd>{reason}</Cd></Rsn></RtrRsnInf></TxInf></PmtRtr></Document>"
    ).encode()


async def sent(world: World, content: bytes) -> Transaction:
    return await world.workflow.reading.until_end(await world.workflow.receiving.submit(ALICE, content), 10)


async def test_the_whole_comes_back_once(place: Place) -> None:
    """A second return is a double, under whatever name it knows the payment; one that was rejected was none."""
    transfer = Transfer()
    async with a_world(place, AUTO) as world:
        assert (await sent(world, pacs008(transfer))).standing.end is Status.ACSC
        rejected = await sent(world, pacs004(transfer, "100.01"))
        assert (rejected.standing.end, rejected.reason) == (Status.RJCT, "AM09")
        back = await sent(world, pacs004(transfer, "100.00"))
        assert back.standing.end is Status.ACSC, back.note
        again = await sent(world, pacs004(transfer, "100"))
        assert (again.standing.end, again.reason) == (Status.RJCT, "AM05")
        world.verify(back.id)
        world.verify(again.id)


async def test_parts_come_back_one_by_one(place: Place) -> None:
    """A payment may be returned in several parts, in a message each."""
    transfer = Transfer()
    async with a_world(place, AUTO) as world:
        await sent(world, pacs008(transfer))
        for part in ("40.00", "60.00"):
            back = await sent(world, pacs004(transfer, part))
            assert back.standing.end is Status.ACSC, back.note


async def test_of_returns_at_one_moment_one_is_settled(shared_place: Place) -> None:
    """However many processes take them."""
    async with a_world(shared_place, AUTO) as world:
        flows = [world.workflow, *(world.another().workflow for _ in range(2))]
        for _ in range(4):
            transfer = Transfer()
            await sent(world, pacs008(transfer))
            calls = [flow.receiving.submit(ALICE, pacs004(transfer, "100.00")) for flow in flows * 2]
            done = await asyncio.gather(*calls)
            assert sorted(str(one.standing.status) for one in done) == ["ACSC", *["RJCT"] * 5]
            assert {one.reason for one in done} == {None, "AM05"}
        for transaction in world.store.find(Query(client=ALICE, limit=100)).transactions:
            world.verify(transaction.id)
