# ruff: noqa: F811 - fixtures are imported, and named again where they are used
"""What a request about others finds, and what it is told where that is much, odd, or found too late.

Each of these was once told something that was not so.
"""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.decisions import DecisionKind
from interlock.iso20022.codes import HeldCause, Status
from interlock.stages import receive
from interlock.transaction import Transaction
from interlock.workflow.originals import Originals
from tests.enquiries import Ids, request
from tests.messages import Transfer, fresh, pacs008
from tests.unit.test_enquiries import answer
from tests.world import ALICE, AUTO, CONSUMER, SLA, Place, World, a_world, place, shared_place, world_database  # noqa: F401

pytestmark = pytest.mark.anyio

STATUS, CANCEL, CANCEL_CUSTOMER = "pacs.028.001.03", "camt.056.001.08", "camt.055.001.08"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def asked(request_definition: str, /, *, whole: bool = False, case: str | None = None, **named: Any) -> bytes:
    """A request that nobody has made before, with just these names."""
    nothing = dict.fromkeys(
        ("message_id", "instruction_id", "end_to_end_id", "transaction_id", "uetr", "amount"), None
    )  # fmt: skip
    made = request(request_definition, Ids(**{**nothing, **named}), whole=whole)
    return made.replace(b"EXAMPLE-C-0001", fresh("C").encode()).replace(
        b"EXAMPLE-CASE-1", (case or fresh("K")).encode()
    )


async def told(world: World, message: bytes) -> dict[str, list[str]]:
    return await answer(world, await world.workflow.receiving.submit(ALICE, message))


def codes(said: dict[str, list[str]]) -> list[str]:
    """The outcome, and the reasons that ISO has codes for."""
    return [*said.get("Conf", []), *said.get("TxSts", []), *said.get("Cd", [])]


# -- what is hidden by what came after it -----------------------------------------------------------------------------


async def test_doubles_do_not_hide_what_was_settled(place: Place) -> None:
    """However many came after it and were refused."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(place) as world:
        await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        for number in range(25):
            world.hand.go(timedelta(seconds=1))
            double = await world.workflow.receiving.submit(
                ALICE, pacs008(transfer, message_id=fresh() if number else message_id)
            )
            assert double.standing.status is Status.RJCT
        for names in ({"uetr": transfer.uetr}, {"transaction_id": transfer.transaction_id}, {"message_id": message_id}):
            assert codes(await told(world, asked(STATUS, **names)))[:1] == ["ACSC"]
            assert codes(await told(world, asked(CANCEL, **names))) == ["PDCR", "RQDA"]


async def test_of_many_with_one_name_none_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more than are looked at, the name does not tell them apart."""
    monkeypatch.setattr("interlock.workflow.originals._LIVING_MAX", 3)
    async with a_world(tmp_path, CONSUMER) as world:
        held = [
            await world.workflow.receiving.submit(ALICE, pacs008(Transfer(end_to_end_id="SAME", amount=f"{number}.00")))
            for number in range(1, 5)
        ]
        assert codes(await told(world, asked(CANCEL, end_to_end_id="SAME", amount="4.00"))) == ["RJCR", "NARR"]
        assert {world.stored(one).standing.status for one in held} == {Status.PDNG}


async def test_the_twentieth_repetition_is_told_the_same(tmp_path: Path) -> None:
    """A later attempt lives, however often is asked about the first one; other requests in the case go their way."""
    transfer, message_id, case = Transfer(), fresh(), fresh("K")
    names: dict[str, Any] = {"message_id": message_id, "uetr": transfer.uetr}
    async with a_world(tmp_path, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        assert codes(await told(world, asked(CANCEL, case=case, **names)))[0] == "CNCL"
        world.hand.go(timedelta(seconds=1))
        attempt = await world.workflow.driving.again(ALICE, held.id, ALICE)
        for _ in range(22):
            world.hand.go(timedelta(seconds=1))
            assert codes(await told(world, asked(CANCEL, case=case, **names)))[0] == "CNCL"
        assert world.stored(attempt).standing.status is Status.PDNG
        other = Transfer()
        another = await world.workflow.receiving.submit(ALICE, pacs008(other))
        assert codes(await told(world, asked(CANCEL, case=case, uetr=other.uetr)))[0] == "CNCL"
        assert world.stored(another).standing.status is Status.CANC


# -- what names do not fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", ["MT103", "NOTPROVIDED", "PACS.008.001.08", "pacs.008"])
async def test_a_name_that_is_none_of_iso_says_nothing(tmp_path: Path, definition: str) -> None:
    transfer, message_id = Transfer(), fresh()
    async with a_world(tmp_path) as world:
        await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        message = asked(STATUS, message_id=message_id, uetr=transfer.uetr)
        message = message.replace(b">pacs.008.001.08<", f">{definition}<".encode())
        assert codes(await told(world, message)) == ["ACSC"]


@pytest.mark.parametrize("definition", [STATUS, CANCEL])
@pytest.mark.parametrize("names", [{"instruction_id": "I-1"}, {}])
async def test_what_cannot_be_looked_for_is_not_unknown(tmp_path: Path, definition: str, names: dict[str, Any]) -> None:
    """The answer says what to give."""
    async with a_world(tmp_path) as world:
        said = await told(world, asked(definition, **names))
        assert codes(said)[-1] == "NARR"
        assert "give the UETR" in " ".join(said["AddtlInf"]).replace("  ", " ")


async def test_a_message_is_not_told_for_one_of_its_payments(tmp_path: Path) -> None:
    """Without a name of a payment, one of several is not told from another."""
    message_id = fresh()
    async with a_world(tmp_path) as world:
        await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), Transfer(), message_id=message_id))
        assert codes(await told(world, asked(STATUS, message_id=message_id))) == ["PDNG", "NARR"]
        assert codes(await told(world, asked(CANCEL, message_id=message_id))) == ["RJCR", "NARR"]
        assert "INPO" in codes(await told(world, asked("camt.110.001.01", message_id=message_id)))


async def test_another_settlement_date_or_number_or_sum_does_not_fit(tmp_path: Path) -> None:
    """Whoever believes something else of the original may mean another one."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(tmp_path, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008(transfer, Transfer(), message_id=message_id))
        dated = asked(CANCEL, message_id=message_id, uetr=transfer.uetr, settled="1999-01-04")
        said = await told(world, dated)
        assert codes(said) == ["RJCR", "NOOR"], said["AddtlInf"]
        for counted in (b"<NbOfTxs>7</NbOfTxs>", b"<NbOfTxs>2</NbOfTxs><CtrlSum>999</CtrlSum>"):
            whole = asked(CANCEL, message_id=message_id, whole=True).replace(b"<GrpCxl>", counted + b"<GrpCxl>")
            assert codes(await told(world, whole)) == ["RJCR", "NARR"]
        assert world.stored(held).standing.status is Status.PDNG
        good = asked(CANCEL, message_id=message_id, whole=True).replace(
            b"<GrpCxl>", b"<NbOfTxs>2</NbOfTxs><CtrlSum>200.00</CtrlSum><GrpCxl>"
        )
        assert codes(await told(world, good))[0] == "CNCL"


async def test_what_is_told_of_the_original_twice_must_fit_twice(tmp_path: Path) -> None:
    """OrgnlTxRef says the amount and the day too."""
    transfer = Transfer()
    async with a_world(tmp_path, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008(transfer))
        for said in ("<IntrBkSttlmAmt Ccy='EUR'>7.77</IntrBkSttlmAmt>", "<IntrBkSttlmDt>1999-01-04</IntrBkSttlmDt>"):
            other = asked(CANCEL, uetr=transfer.uetr).replace(
                b"</CxlRsnInf>", f"</CxlRsnInf><OrgnlTxRef>{said}</OrgnlTxRef>".encode()
            )
            assert codes(await told(world, other)) == ["RJCR", "NOOR"]
        assert world.stored(held).standing.status is Status.PDNG


async def test_an_id_used_again_spoils_nothing_but_the_second_use(tmp_path: Path) -> None:
    """What was asked for first under it is told again; another assigner may have the same id."""
    one, other, third = Transfer(), Transfer(), Transfer()
    first = asked(CANCEL, uetr=one.uetr)
    second = first.replace(str(one.uetr).encode(), str(other.uetr).encode())
    elsewhere = first.replace(str(one.uetr).encode(), str(third.uetr).encode()).replace(
        b"<Assgnr><Agt><FinInstnId><BICFI>EXMPDEFFXXX", b"<Assgnr><Agt><FinInstnId><BICFI>EXMPITMMXXX"
    )
    assert len({first, second, elsewhere}) == 3
    async with a_world(tmp_path, CONSUMER) as world:
        for transfer in (one, other, third):
            await world.workflow.receiving.submit(ALICE, pacs008(transfer))
        for message, said in ((first, "CNCL"), (second, "RJCR"), (first, "CNCL"), (elsewhere, "CNCL"), (first, "CNCL")):
            world.hand.go(timedelta(seconds=1))
            assert codes(await told(world, message))[0] == said


# -- which messages are meant as a whole ------------------------------------------------------------------------------


async def test_not_as_a_whole_is_not_as_a_whole(tmp_path: Path) -> None:
    """`GrpCxl` false, with nothing or with a payment of another message in it, does not cancel the message."""
    first, second, transfer = fresh(), fresh(), Transfer()
    async with a_world(tmp_path, CONSUMER) as world:
        one = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), message_id=first))
        other = await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=second))
        denied = asked(CANCEL, message_id=first, whole=True).replace(b"<GrpCxl>true<", b"<GrpCxl>false<")
        assert (await told(world, denied))[""] == ["admi.002.001.01"]
        group = f"<OrgnlMsgId>{first}</OrgnlMsgId><OrgnlMsgNmId>pacs.008.001.08</OrgnlMsgNmId>"
        mixed = asked(CANCEL, message_id=second, uetr=transfer.uetr).replace(
            b"<Undrlyg>",
            b"<Undrlyg><OrgnlGrpInfAndCxl>" + group.encode() + b"<GrpCxl>false</GrpCxl></OrgnlGrpInfAndCxl>",
        )
        assert codes(await told(world, mixed))[0] == "CNCL"
        assert world.stored(one).standing.status is Status.PDNG
        assert world.stored(other).standing.status is Status.CANC


async def test_of_two_messages_neither_is_taken_for_a_payments_own(tmp_path: Path) -> None:
    """A payment that says only its UETR is looked for by that, and both messages are told."""
    first, second, transfer = fresh(), fresh(), Transfer()
    async with a_world(tmp_path) as world:
        await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), message_id=first))
        await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=second))
        group = "<OrgnlGrpInf><OrgnlMsgId>{}</OrgnlMsgId><OrgnlMsgNmId>pacs.008.001.08</OrgnlMsgNmId></OrgnlGrpInf>"
        message = asked(STATUS, uetr=transfer.uetr)
        message = re.sub(rb"<TxInf>", (group.format(first) + group.format(second) + "<TxInf>").encode(), message)
        said = await told(world, message)
        assert (said["GrpSts"], set(said["TxSts"])) == (["ACSC"] * 2, {"ACSC"})


def customers(message_id: str, *blocks: tuple[str, int]) -> bytes:
    """A pain.001 with blocks of so many payments, whose ids are the same in each block."""
    payment = (
        '<CdtTrfTxInf><PmtId><EndToEndId>E{0}</EndToEndId></PmtId><Amt><InstdAmt Ccy="EUR">1.00</InstdAmt></Amt>'
        "<CdtrAgt><FinInstnId><BICFI>TESTFRPPXXX</BICFI></FinInstnId></CdtrAgt><Cdtr><Nm>Example B</Nm></Cdtr>"
        "<CdtrAcct><Id><IBAN>FR1420041010050500013M02606</IBAN></Id></CdtrAcct></CdtTrfTxInf>"
    )
    block = (
        "<PmtInf><PmtInfId>{0}</PmtInfId><PmtMtd>TRF</PmtMtd><ReqdExctnDt><Dt>{1}</Dt></ReqdExctnDt>"
        "<Dbtr><Nm>Example A</Nm></Dbtr><DbtrAcct><Id><IBAN>DE89370400440532013000</IBAN></Id></DbtrAcct>"
        "<DbtrAgt><FinInstnId><BICFI>TESTDEFFXXX</BICFI></FinInstnId></DbtrAgt>{2}</PmtInf>"
    )
    now = datetime.now(UTC)
    inside = "".join(
        block.format(name, now.date(), "".join(payment.format(n) for n in range(1, count + 1)))
        for name, count in blocks
    )
    return (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"><CstmrCdtTrfInitn><GrpHdr>'
        f"<MsgId>{message_id}</MsgId><CreDtTm>{now:%Y-%m-%dT%H:%M:%S}Z</CreDtTm>"
        f"<NbOfTxs>{sum(count for _, count in blocks)}</NbOfTxs><InitgPty><Nm>Example A</Nm></InitgPty></GrpHdr>"
        f"{inside}</CstmrCdtTrfInitn></Document>"
    ).encode()


async def test_blocks_are_told_apart(tmp_path: Path) -> None:
    """A payment of another block is not meant; a block of a message of more than 1,000 payments is."""
    message_id, long = fresh(), fresh()
    async with a_world(tmp_path, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, customers(message_id, ("B1", 1)))
        assert held.standing.status is Status.PDNG, held.note
        other: dict[str, Any] = {"definition": "pain.001.001.09", "message_id": message_id, "end_to_end_id": "E1"}
        assert codes(await told(world, asked(CANCEL_CUSTOMER, block="B2", **other))) == ["RJCR", "NOOR"]
        assert codes(await told(world, asked(CANCEL_CUSTOMER, block="B1", **other)))[0] == "CNCL"
        large = await world.workflow.receiving.submit(ALICE, customers(long, ("B1", 1001)))
        whole = asked(CANCEL_CUSTOMER, block="B1", definition="pain.001.001.09", message_id=long, whole=True)
        assert codes(await told(world, whole))[0] == "CNCL"
        assert world.stored(large).standing.status is Status.CANC


# -- rules, faults and clocks -----------------------------------------------------------------------------------------


async def test_what_the_rules_refuse_is_not_carried_out(place: Place) -> None:
    """A request that is rejected has cancelled nothing."""
    transfer = Transfer()
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008(transfer))
        message = asked(CANCEL, uetr=transfer.uetr).replace(b"EXMPFRPPXXX", b"ZZZZZZZZ", 1)
        asking = await world.workflow.receiving.submit(ALICE, message)
        said = await answer(world, asking)
        assert (world.stored(asking).standing.status, said["Conf"]) == (Status.RJCT, ["RJCR"])
        assert world.stored(held) == held


async def test_what_is_held_for_a_fault_of_ours_is_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been acknowledged: nobody is told that it is unknown."""
    transfer, message_id = Transfer(), fresh()
    names: dict[str, Any] = {"message_id": message_id, "uetr": transfer.uetr}
    async with a_world(place) as world:
        with monkeypatch.context() as broken:
            broken.setattr(receive, "run", lambda *_: 1 / 0)
            held = await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        assert held.standing.cause is HeldCause.FAULT
        assert codes(await told(world, asked(STATUS, **names))) == ["PDNG", "NARR"]
        assert codes(await told(world, asked(CANCEL, **names))) == ["PDCR", "NARR"]
        assert codes(await told(world, asked(CANCEL, message_id=message_id, whole=True)))[0] == "CNCL"
        assert world.stored(held).standing.status is Status.CANC


async def _late(world: World, asking: Transaction) -> dict[str, list[str]]:
    """Its answer, given only once its time was over."""
    assert asking.deadline is not None
    world.hand.go(asking.deadline.at - world.hand.now + timedelta(seconds=1))
    await world.workflow.resuming.expire(world.stored(asking))
    return await answer(world, world.stored(asking))


async def test_a_request_that_is_late_is_told_what_was_done(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash came between: what was cancelled until then is told so, and nothing more is cancelled."""
    transfers = (Transfer(), Transfer())
    nothing = Ids(message_id=None, instruction_id=None, end_to_end_id=None, transaction_id=None, amount=None)
    ids = [replace(nothing, uetr=one.uetr) for one in transfers]
    async with a_world(place, CONSUMER) as world:
        held = [await world.workflow.receiving.submit(ALICE, pacs008(one)) for one in transfers]
        monkeypatch.setattr(world.workflow.resuming, "enquire", lambda *_: None)  # the process ends here
        asking = await world.workflow.receiving.submit(ALICE, request(CANCEL, *ids))
        await world.decide(held[0], DecisionKind.CANCEL)
        said = await _late(world, asking)
        assert (said["Conf"], said["TxCxlSts"]) == (["PECR"], ["ACCR", "RJCR"])
        assert [world.stored(one).standing.status for one in held] == [Status.CANC, Status.PDNG]
        assert world.stored(asking).standing.end is Status.ACSC


async def test_a_request_has_time_whatever_its_route_gives_payments(place: Place) -> None:
    """A scheme's clock is for payments."""
    async with a_world(place) as world:
        asking = await world.workflow.receiving.submit(ALICE, asked(CANCEL, uetr=Transfer().uetr))
        paying = await world.workflow.receiving.issue(ALICE)
        assert paying.deadline is not None
        assert paying.deadline.at - paying.created_at == SLA
        assert world.stored(asking).standing.is_final or asking.deadline is not None
        assert asking.deadline is None or asking.deadline.at - asking.created_at >= timedelta(seconds=60)


async def test_a_request_that_we_fail_at_ends(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is held for an operator until its time is over, and then not told that nothing was done."""

    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async with a_world(place, CONSUMER) as world:
        transfer = Transfer()
        await world.workflow.receiving.submit(ALICE, pacs008(transfer))
        monkeypatch.setattr(Originals, "facts", fail)
        asking = await world.workflow.receiving.submit(ALICE, asked(CANCEL, uetr=transfer.uetr))
        await world.workflow.resuming.go_on()
        for _ in range(3):
            world.hand.go(timedelta(hours=1))
            await world.fire()
        assert world.stored(asking).standing.status is Status.RJCT
        said = await answer(world, world.stored(asking))
        assert (said["Conf"], said["TxCxlSts"]) == (["PDCR"], ["PDCR"])
        assert len(world.store.history(asking.id)) < 10


# -- much -------------------------------------------------------------------------------------------------------------


async def test_a_status_request_about_too_much_is_told_so(tmp_path: Path) -> None:
    """It is not told of the first thousand as if that were all."""
    nothing = Ids(message_id=None, instruction_id=None, end_to_end_id=None, uetr=None, amount=None)
    ids = [replace(nothing, transaction_id=f"T-{number}") for number in range(1001)]
    async with a_world(tmp_path, AUTO) as world:
        said = await told(world, request(STATUS, *ids))
        assert said[""] == ["admi.002.001.01"]
        assert "more than 1,000" in " ".join(said["RsnDesc"])


async def test_long_messages_are_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that has ended the payments that are named are kept, and each is told as it stands."""
    monkeypatch.setattr("interlock.workflow.originals._LONG", 5)
    monkeypatch.setattr("interlock.workflow.originals._PAGE", 4)
    transfers, message_id = [Transfer() for _ in range(11)], fresh()
    async with a_world(tmp_path) as world:
        await world.workflow.receiving.submit(ALICE, pacs008(*transfers, message_id=message_id))
        named = asked(STATUS, message_id=message_id, uetr=transfers[9].uetr)
        said = await told(world, named)
        assert (said["TxSts"], said["OrgnlUETR"]) == (["ACSC"], [transfers[9].uetr])
        assert codes(await told(world, asked(CANCEL, message_id=message_id, whole=True))) == ["PDCR", "RQDA"]
