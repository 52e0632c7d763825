# ruff: noqa: F811 - fixtures are imported, and named again where they are used
"""Requests about other messages on their way through the ledger: told, cancelled, and never of another client's."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from lxml import etree

from interlock.decisions import DecisionKind
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import read
from interlock.iso20022.fields import extract
from interlock.iso20022.profiles import Profiles, examples
from interlock.lifecycle import EventKind
from interlock.routes import Route
from interlock.transaction import BodyKind, KeyKind, Transaction
from interlock.workflow.contents import Contents
from tests.enquiries import Ids, request
from tests.messages import Transfer, fresh, pacs008
from tests.world import ALICE, AUTO, BOB, CONSUMER, SLA, Place, World, a_world, place, shared_place, world_database  # noqa: F401

pytestmark = pytest.mark.anyio
#: A second after the time that the profiles' examples say they were made.
SENT = time(9, 0, 1)


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
    ended = await world.workflow.reading.until_end(transaction, 10)
    assert ended.standing.is_final
    body = await world.workflow.reading.message(ended.client, ended.id, BodyKind.OUTBOX)
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
        held = await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        for _ in range(2):
            asking = await world.workflow.receiving.submit(ALICE, asked(definition, transfer, message_id))
            told = await answer(world, asking)
            assert told[""][0].startswith("camt.029")
            assert "CNCL" in told["Conf"] or "CNCL" in told.get("Cd", [])
            assert world.stored(asking).standing.end is Status.ACSC
        assert (world.stored(held).standing.status, world.stored(held).reason) == (Status.CANC, "DUPL")
        cancelled = [event for event in world.store.history(held.id) if event.because is EventKind.CANCELLED]
        assert [event.actor for event in cancelled] == [ALICE]


async def test_the_same_request_again_is_told_the_same(place: Place) -> None:
    """Word for word, or in the same case under another id: cancelled stays cancelled, and a later attempt alive."""
    transfer, message_id = Transfer(), fresh()
    asking = asked("camt.056.001.08", transfer, message_id)
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        first = await answer(world, await world.workflow.receiving.submit(ALICE, asking))
        assert first["Conf"] == ["CNCL"]
        world.hand.go(timedelta(seconds=1))
        attempt = await world.workflow.driving.again(ALICE, held.id, ALICE)
        world.hand.go(timedelta(seconds=1))
        for again in (asking, asked("camt.056.001.08", transfer, message_id)):
            told = await answer(world, await world.workflow.receiving.submit(ALICE, again))
            assert (told["Conf"], told["TxCxlSts"]) == (["CNCL"], ["ACCR"])
        assert world.stored(attempt).standing.status is Status.PDNG
        anew = asked("camt.056.001.08", transfer, message_id).replace(b"EXAMPLE-CASE-1", fresh("K").encode())
        assert (await answer(world, await world.workflow.receiving.submit(ALICE, anew)))["Conf"] == ["CNCL"]
        assert world.stored(attempt).standing.status is Status.CANC


async def test_an_id_of_another_request_is_refused(place: Place) -> None:
    """It is no repetition: nothing is cancelled."""
    uetrs = ("2b0b5c8e-1f2a-4c3d-8e4f-5a6b7c8d9e0f", "3c1c6d9f-2a3b-4d4e-9f5a-6b7c8d9e0f1a")
    messages = (fresh(), fresh())
    one, other = (Transfer(uetr=uetr) for uetr in uetrs)
    asking = request(
        "camt.056.001.08", Ids(message_id=messages[0], instruction_id=None, end_to_end_id=None, transaction_id=None,
        uetr=uetrs[0], amount=None),
    ).replace(b"EXAMPLE-C-0001", fresh("C").encode())  # fmt: skip
    async with a_world(place, CONSUMER) as world:
        for transfer, message_id in zip((one, other), messages, strict=True):
            held = await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        assert (await answer(world, await world.workflow.receiving.submit(ALICE, asking)))["Conf"] == ["CNCL"]
        world.hand.go(timedelta(seconds=1))
        mistaken = asking.replace(uetrs[0].encode(), uetrs[1].encode())
        mistaken = mistaken.replace(messages[0].encode(), messages[1].encode())
        told = await answer(world, await world.workflow.receiving.submit(ALICE, mistaken))
        assert (told["Conf"], told["Cd"]) == (["RJCR"], ["NARR"])
        assert world.stored(held).standing.status is Status.PDNG


@pytest.mark.parametrize(
    ("profile", "within", "after"),
    [("sepa-inst", 5, 40), ("sepa-sct", 5, 40), ("fednow", 50, 100)],
)
async def test_a_recall_is_timely_or_not(
    place: Place, monkeypatch: pytest.MonkeyPatch, profile: str, within: int, after: int
) -> None:
    """By the windows of the payment's profile; who asks again in the same case is as timely as at first."""
    transfer, message_id = Transfer(), fresh()
    windows = Profiles.load().named(profile).recall
    # The payment is judged as generic, so that one message serves all schemes.
    monkeypatch.setattr(Contents, "recalls", lambda *_: windows)
    async with a_world(place) as world:
        await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        world.hand.go(timedelta(days=within))
        told = await answer(
            world, await world.workflow.receiving.submit(ALICE, asked("camt.056.001.08", transfer, message_id))
        )
        assert (told["Conf"], told["Cd"]) == (["PDCR"], ["RQDA"])
        world.hand.go(timedelta(days=after))
        told = await answer(
            world, await world.workflow.receiving.submit(ALICE, asked("camt.056.001.08", transfer, message_id))
        )
        assert (told["Conf"], told["Cd"]) == (["PDCR"], ["RQDA"])
        anew = asked("camt.056.001.08", transfer, message_id).replace(b"EXAMPLE-CASE-1", fresh("K").encode())
        told = await answer(world, await world.workflow.receiving.submit(ALICE, anew))
        assert (told["Conf"], told["Cd"]) == (["RJCR"], ["AGNT"])


@pytest.mark.parametrize(
    ("profile", "after", "told"),
    [
        ("sepa-inst", 5, ["PDCR", "RQDA"]),
        ("sepa-inst", 40, ["RJCR", "AGNT"]),
        ("sepa-sct", 40, ["RJCR", "AGNT"]),
        ("fednow", 100, ["RJCR", "AGNT"]),
        ("cbprplus", 400, ["PDCR", "RQDA"]),
    ],
)
async def test_the_route_names_the_profile_that_recalls_go_by(
    tmp_path: Path, profile: str, after: int, told: list[str]
) -> None:
    """From the payment as the scheme has it to the answer as the scheme has it."""
    known = examples.read(examples.folder_of(Profiles.load().named(profile), None))
    one = next(one for one in known if not one.expect and b"xsd:pacs.008.001.08" in one.path.read_bytes())
    original = extract(read(one.path.read_bytes()))
    payment = original.payments[0]
    ids = Ids(
        message_id=original.message_id, instruction_id=payment.instruction_id, end_to_end_id=payment.end_to_end_id,
        transaction_id=payment.transaction_id, uetr=payment.uetr, amount=None,
    )  # fmt: skip
    async with a_world(
        tmp_path, Route(name="scheme", messages=("pacs.008.*",), sla=SLA, profile=profile), AUTO
    ) as world:
        world.hand.now = datetime.combine(one.on, SENT, tzinfo=UTC)
        settled = await world.workflow.receiving.submit(ALICE, one.path.read_bytes())
        assert (settled.standing.end, settled.route) == (Status.ACSC, "scheme"), settled.note
        world.hand.go(timedelta(days=after))
        said = await answer(world, await world.workflow.receiving.submit(ALICE, request("camt.056.001.08", ids)))
        assert [*said["Conf"], *said["Cd"]] == told


@pytest.mark.parametrize(
    ("profile", "group"), [("fednow", None), ("fedwire", None), ("cbprplus", None), ("sepa-inst", ["ACCP"])]
)
async def test_a_payment_is_answered_in_the_form_of_its_scheme(
    place: Place, profile: str, group: list[str] | None
) -> None:
    """By the profile that judged it; a message that comes through no scheme is answered as ISO 20022 has it."""
    one = next(
        one for one in examples.read(examples.folder_of(Profiles.load().named(profile), None))
        if not one.expect and b"xsd:pacs.008.001.08" in one.path.read_bytes()
    )  # fmt: skip
    async with a_world(place, Route(name="scheme", messages=("pacs.008.*",), sla=SLA, profile=profile), AUTO) as world:
        world.hand.now = datetime.combine(one.on, SENT, tzinfo=UTC)
        told = await answer(world, await world.workflow.receiving.submit(ALICE, one.path.read_bytes()))
        assert (told["TxSts"], told.get("GrpSts")) == (group or ["ACSC"], group)
        assert told["OrgnlMsgId"] == [extract(read(one.path.read_bytes())).message_id]


@pytest.mark.parametrize(("profile", "family"), [("fednow", "admi.002"), ("cbprplus", "pacs.002")])
async def test_what_is_no_business_message_in_a_scheme(place: Place, profile: str, family: str) -> None:
    """A schema error, or a MsgId that was used before, in the scheme's own words."""
    one = next(
        one for one in examples.read(examples.folder_of(Profiles.load().named(profile), None))
        if not one.expect and b"xsd:pacs.008.001.08" in one.path.read_bytes()
    )  # fmt: skip
    content = one.path.read_bytes()
    name = content.partition(b"<MsgId>")[2].partition(b"<")[0]
    again = content.replace(b"<BizMsgIdr>" + name, b"<BizMsgIdr>" + name[:-1] + b"2")
    broken = content.replace(name, name[:-1] + b"3").replace(b"<ChrgBr>", b"<Colour/><ChrgBr>")
    assert content not in (again, broken)
    async with a_world(place, Route(name="scheme", messages=("pacs.008.*",), sla=SLA, profile=profile), AUTO) as world:
        world.hand.now = datetime.combine(one.on, SENT, tzinfo=UTC)
        told = await answer(world, await world.workflow.receiving.submit(ALICE, content))
        assert (told[""], told["TxSts"]) == (["pacs.002.001.10"], ["ACSC"])
        for spoilt, reason in ((again, "DU01"), (broken, "FF01")):
            refused = await world.workflow.receiving.submit(ALICE, spoilt)
            told = await answer(world, refused)
            assert (refused.standing.end, refused.reason) == (Status.RJCT, reason)
            assert told[""][0].startswith(family)
            assert told.get("TxSts") == (None if family == "admi.002" else ["RJCT"])


async def test_one_payment_of_several_is_cancelled_by_itself(place: Place) -> None:
    """The others live on; it is told so, again too, and by the answer to its message; then all that are left can be."""
    transfers, message_id = (Transfer(), Transfer(), Transfer()), fresh()
    ids = [
        Ids(message_id=message_id, instruction_id=None, end_to_end_id=one.end_to_end_id,
            transaction_id=one.transaction_id, uetr=one.uetr, amount="100.00")
        for one in transfers
    ]  # fmt: skip
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008(*transfers, message_id=message_id))
        told = await answer(
            world, await world.workflow.receiving.submit(ALICE, asked("camt.056.001.08", transfers[1], message_id))
        )
        assert (told["Conf"], told["TxCxlSts"]) == (["CNCL"], ["ACCR"])
        assert world.verify(held.id).standing == held.standing
        event = world.store.history(held.id)[-1]
        assert (event.because, event.actor, event.detail) == (EventKind.PAYMENTS_CANCELLED, ALICE, {"payments": [2]})
        # What a status request is told is true of each.
        asking = request("pacs.028.001.03", *ids).replace(b"EXAMPLE-C-0001", fresh("C").encode())
        told = await answer(world, await world.workflow.receiving.submit(ALICE, asking))
        assert (told["TxSts"], told["Cd"]) == (["PDNG", "RJCT", "PDNG"], ["DUPL"])
        all_of_them = request("camt.056.001.08", *ids).replace(b"EXAMPLE-C-0001", fresh("C").encode())
        told = await answer(world, await world.workflow.receiving.submit(ALICE, all_of_them))
        assert (told["Conf"], told["TxCxlSts"]) == (["CNCL"], ["ACCR"] * 3)
        assert world.verify(held.id).standing.status is Status.CANC


@pytest.mark.parametrize(("reason", "shown"), [("DUPL", "DUPL"), ("FRAD", "FRAD"), ("CUST", "CUST"), ("TECH", "DS02")])
async def test_the_answer_tells_which_payments_were_cancelled(place: Place, reason: str, shown: str) -> None:
    """PART, with the reason of the request where it is one of a status too; a late request is told what it can be."""
    transfers, message_id = (Transfer(), Transfer()), fresh()
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008(*transfers, message_id=message_id))
        asking = asked("camt.056.001.08", transfers[0], message_id)
        content = asking.replace(b"<Cd>DUPL</Cd>", f"<Cd>{reason}</Cd>".encode())
        first = await answer(world, await world.workflow.receiving.submit(ALICE, content))
        done = await world.decide(held, DecisionKind.ACCEPT)
        told = await answer(world, done)
        assert (told["GrpSts"], told["TxSts"], told["Cd"]) == (["PART"], ["RJCT", "ACSC"], [shown])
        second = await answer(world, await world.workflow.receiving.submit(ALICE, content))
        assert (second["Conf"], second["TxCxlSts"]) == (first["Conf"], first["TxCxlSts"]) == (["CNCL"], ["ACCR"])
        both = request(
            "camt.056.001.08",
            *(
                Ids(message_id=message_id, instruction_id=None, end_to_end_id=one.end_to_end_id,
                    transaction_id=one.transaction_id, uetr=one.uetr, amount="100.00")
                for one in transfers
            ),
        ).replace(b"EXAMPLE-C-0001", fresh("C").encode())  # fmt: skip
        told = await answer(world, await world.workflow.receiving.submit(ALICE, both))
        assert (told["Conf"], told["TxCxlSts"]) == (["PECR"], ["ACCR", "PDCR"])


class _Elsewhere:
    """Another region that knows of something, or not, or cannot be asked."""

    def __init__(self, *, knows: bool | None) -> None:
        self._knows = knows
        self.asked: list[tuple[int, str, KeyKind]] = []
        self.living = False

    async def cancel(self, *_: object) -> bool:
        return False

    async def knows(self, region: int, client: str, key: tuple[KeyKind, str], *, living: bool) -> bool | None:
        self.asked.append((region, client, key[0]))
        self.living = living
        return self._knows

    async def standing(self, *_: object) -> None:
        return None


@pytest.mark.parametrize(
    ("knows", "told"), [(False, ["RJCR", "NOOR"]), (None, ["PDCR", "NARR"]), (True, ["PDCR", "NARR"])]
)
async def test_what_is_not_known_here_is_asked_of_the_other_regions(
    tmp_path: Path, *, knows: bool | None, told: list[str]
) -> None:
    """In the client's name; what one of them knows is waited for a while, and then nobody says that it is unknown."""
    async with a_world(tmp_path) as world:
        world.workflow.ownership.peers = frozenset({7})
        world.workflow.enquiries.abroad = elsewhere = _Elsewhere(knows=knows)
        asking = await world.workflow.receiving.submit(ALICE, asked("camt.056.001.08", Transfer(), fresh()))
        if knows:
            assert not (await world.workflow.reading.until_end(asking, 0.1)).standing.is_final
            world.hand.go(timedelta(seconds=3))
            await world.workflow.resuming.go_on()
        said = await answer(world, asking)
        assert [*said["Conf"], *said["Cd"]] == told
        assert (elsewhere.asked[0], elsewhere.living) == ((7, ALICE, KeyKind.UETR), False)


@pytest.mark.parametrize(
    ("knows", "told"), [(False, ["RJCT", "AC03"]), (None, ["PDNG", "NARR"]), (True, ["PDNG", "NARR"])]
)
async def test_what_was_rejected_here_may_live_in_another_region(
    tmp_path: Path, *, knows: bool | None, told: list[str]
) -> None:
    """It was perhaps sent again, to there: that it was not carried out is said only where nobody knows better."""
    transfer, message_id = Transfer(creditor_iban="DE00370400440532013000"), fresh()
    async with a_world(tmp_path) as world:
        await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        world.workflow.ownership.peers = frozenset({7})
        world.workflow.enquiries.abroad = elsewhere = _Elsewhere(knows=knows)
        asking = await world.workflow.receiving.submit(ALICE, asked("pacs.028.001.03", transfer, message_id))
        if knows:
            assert not (await world.workflow.reading.until_end(asking, 0.1)).standing.is_final
            world.hand.go(timedelta(seconds=3))
            await world.workflow.resuming.go_on()
        said = await answer(world, asking)
        assert [*said["TxSts"], *said["Cd"]] == told
        assert elsewhere.living


async def test_what_was_settled_is_not_cancelled(place: Place) -> None:
    """A return is asked for instead."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(place) as world:
        settled = await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        told = await answer(
            world, await world.workflow.receiving.submit(ALICE, asked("camt.056.001.08", transfer, message_id))
        )
        assert "CNCL" not in str(told)
        assert world.stored(settled) == settled


@pytest.mark.parametrize("definition", ["pacs.028.001.03", "camt.056.001.08"])
async def test_another_clients_payment_is_unknown(place: Place, definition: str) -> None:
    """It is told the same as of one that never was, and nothing happens to it."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        stranger = await answer(
            world, await world.workflow.receiving.submit(BOB, asked(definition, transfer, message_id))
        )
        nobody = await answer(world, await world.workflow.receiving.submit(BOB, asked(definition, Transfer(), fresh())))
        for told in (stranger, nobody):
            assert not {"ACSC", "PDNG", "CNCL"} & {text for texts in told.values() for text in texts}
        assert stranger.get("Cd") == nobody.get("Cd")
        assert world.stored(held) == held


async def test_a_status_request_is_told_the_present_truth(place: Place) -> None:
    """Held, then settled; and what the request is about is not changed by it."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        told = await answer(
            world, await world.workflow.receiving.submit(ALICE, asked("pacs.028.001.03", transfer, message_id))
        )
        assert (told[""][0][:8], told["TxSts"]) == ("pacs.002", ["PDNG"])
        assert told["OrgnlUETR"] == [transfer.uetr]
        await world.decide(held, DecisionKind.ACCEPT)
        told = await answer(
            world, await world.workflow.receiving.submit(ALICE, asked("pacs.028.001.03", transfer, message_id))
        )
        assert told["TxSts"] == ["ACSC"]


@pytest.mark.parametrize("definition", ["camt.056.001.08", "camt.056.001.11"])
async def test_a_status_request_that_chases_a_recall_is_told_in_its_kind(place: Place, definition: str) -> None:
    """How what it asked for stands now, in the version of its answer; and nothing is cancelled for that."""
    transfers, message_id = (Transfer(), Transfer()), fresh()
    async with a_world(place, CONSUMER) as world:
        recall = asked(definition, transfers[0], message_id)
        early = await answer(world, await world.workflow.receiving.submit(ALICE, recall))
        held = await world.workflow.receiving.submit(ALICE, pacs008(*transfers, message_id=message_id))
        assert early["Conf"] == ["RJCR"]

        async def chased(name: str) -> list[list[str]]:
            ids = Ids(
                message_id=name, definition=definition, instruction_id=None, end_to_end_id=transfers[0].end_to_end_id,
                transaction_id=transfers[0].transaction_id, uetr=transfers[0].uetr,
            )  # fmt: skip
            content = request("pacs.028.001.03", ids).replace(b"EXAMPLE-C-0001", fresh("C").encode())
            told = await answer(world, await world.workflow.receiving.submit(ALICE, content))
            return [[told[""][0][:8]], told["Conf"], told["TxCxlSts"], told.get("Cd", [])]

        name = etree.fromstring(recall).findtext(".//{*}Assgnmt/{*}Id") or ""
        assert await chased(name) == [["camt.029"], ["RJCR"], ["RJCR"], ["NARR"]]  # it can be cancelled, and was not
        assert world.stored(held) == held
        again = recall.replace(name.encode(), fresh("C").encode())
        assert (await answer(world, await world.workflow.receiving.submit(ALICE, again)))["Conf"] == ["CNCL"]
        assert await chased(name) == [["camt.029"], ["CNCL"], ["ACCR"], []]
        assert await chased("unknown") == [["camt.029"], ["RJCR"], ["RJCR"], ["NARR"]]


async def test_a_request_that_a_crash_left_half_way_is_answered_by_the_next_process(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is durable before anything is done about it."""
    transfer, message_id = Transfer(), fresh()
    async with a_world(place, CONSUMER) as world:
        await world.workflow.receiving.submit(ALICE, pacs008(transfer, message_id=message_id))
        monkeypatch.setattr(world.workflow.resuming, "enquire", lambda *_: None)  # the process ends here
        asking = await world.workflow.receiving.submit(ALICE, asked("camt.056.001.08", transfer, message_id))
        assert asking.standing.status is Status.ACTC
        await world.restart()
        await world.workflow.resuming.take_over()
        assert "CNCL" in str(await answer(world, world.stored(asking)))


async def test_what_no_version_is_served_of_is_told_so_whatever_the_version(place: Place) -> None:
    """Also in one that has no schema here: whoever sent it can do nothing about that."""
    async with a_world(place) as world:
        for version in ("07", "99"):
            asking = (
                f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.003.001.{version}"><GetAcct><MsgHdr>'
                f"<MsgId>{fresh()}</MsgId></MsgHdr></GetAcct></Document>"
            )
            refused = await world.workflow.receiving.submit(ALICE, asking.encode())
            told = await answer(world, refused)
            assert (told[""], refused.reason) == (["admi.002.001.01"], "FF01")
            assert "no accounts are kept here" in " ".join(
                told["AddtlData"] if "AddtlData" in told else told["RsnDesc"]
            )
            assert "definitions add" not in str(told)
        unknown = asking.replace("camt.003", "pacs.008")
        refused = await world.workflow.receiving.submit(ALICE, unknown.encode())
        assert "There is no schema for pacs.008.001.99" in (refused.note or "")


async def test_what_is_understood_and_not_served_is_told_so(place: Place) -> None:
    """With an admi.002 that says what to do; a system event is acknowledged."""
    event = (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:admi.004.001.02"><SysEvtNtfctn><EvtInf><EvtCd>PING</EvtCd>'
        "<EvtTm>2026-11-22T11:00:00Z</EvtTm></EvtInf></SysEvtNtfctn></Document>"
    )
    async with a_world(place) as world:
        told = await answer(world, await world.workflow.receiving.submit(ALICE, event.encode()))
        assert told[""] == ["admi.007.001.01"]
