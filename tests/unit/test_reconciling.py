"""`interlock reconcile`: what came in, what is stored and what was answered; each difference is named."""

import asyncio
import csv
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
import structlog.testing
import zstandard
from lxml import etree
from typer.testing import CliRunner, Result

from interlock.cli import app, reconciling
from interlock.cli.exits import Exit
from interlock.cli.reconciling import Difference, cases, differences, periods
from interlock.cli.reconciling.answers import answer_of
from interlock.cli.reconciling.books import Account, Books, Sum, money
from interlock.decisions import DecisionKind
from interlock.errors import Archived
from interlock.iso20022.answers import SHAPES, PaymentVerdict, Verdict, build
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import new_parser, read
from interlock.iso20022.fields import extract
from interlock.iso20022.forms import PARTS, Form
from interlock.ports import ControlScope, Page, Query, Store
from interlock.stores.sqlite import SqliteStore
from interlock.transaction import BodyKind
from tests.enquiries import Ids, request
from tests.messages import Transfer, fresh, pacs002, pacs008
from tests.world import ALICE, AUTO, BOB, CONSUMER, HOLDING, SLA, World, a_world

SAMPLES = Path(__file__).parents[1] / "samples"
BAD = Transfer(debtor_iban="DE00370400440532013000", amount="3.00")
LATER = timedelta(minutes=5)
#: Around every transaction of a test, whatever the time of day.
START, END = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=2)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _fail(*_: object) -> None:
    raise ZeroDivisionError("a mistake of ours")


def headed(message_id: str, business_id: str) -> bytes:
    """A message with a header; the two ids may differ."""
    content = (SAMPLES / "pacs.008.001.08_bah.xml").read_bytes()
    content = content.replace(b"<BizMsgIdr>EXAMPLE-M-0001", f"<BizMsgIdr>{business_id}".encode())
    return content.replace(b"<MsgId>EXAMPLE-M-0001", f"<MsgId>{message_id}".encode())


async def _filled(folder: Path) -> dict[str, UUID]:
    """A store with transactions of many kinds; their ids by kind."""
    made = {}
    async with a_world(folder, AUTO) as world:
        submit, content, business_id = world.workflow.receiving.submit, pacs008(Transfer(amount="250.00")), fresh()
        made["settled"] = (await submit(ALICE, content)).id
        made["double"] = (await submit(ALICE, content)).id
        made["part"] = (await submit(ALICE, pacs008(Transfer(), BAD, Transfer(amount="1", currency="JPY")))).id
        made["rejected"] = (await submit(ALICE, pacs008(BAD))).id
        made["broken"] = (await submit(ALICE, b"<not closed")).id
        made["large"] = (await submit(ALICE, pacs008() + b" " * world.settings.limits.bytes_max)).id
        made["report"] = (await submit(ALICE, pacs002())).id
        made["blocks"] = (await submit(ALICE, (SAMPLES / "pain.001.001.09.xml").read_bytes())).id
        made["headed"] = (await submit(ALICE, headed(fresh(), business_id))).id
        made["headed twice"] = (await submit(ALICE, headed(fresh(), business_id))).id
        made["other"] = (await submit(BOB, pacs008(Transfer(currency="KWD", amount="1.234")))).id
        made["timed out"] = (await world.workflow.receiving.issue(ALICE)).id
        world.hand.go(SLA)
        assert await world.fire() == 1
    async with a_world(folder, CONSUMER) as world:
        world.hand.go(LATER)
        held, cancelled, driven = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(3)]
        made |= {"held": held.id, "cancelled": cancelled.id, "driven": driven.id}
        for transaction in (cancelled, driven):
            await world.decide(transaction, DecisionKind.CANCEL)
        again = await world.workflow.driving.again(ALICE, driven.id, "operator:o")
        made["driven again"] = (await world.decide(again, DecisionKind.ACCEPT)).id
    async with a_world(folder, HOLDING) as world:
        world.hand.go(LATER)
        await world.control(ControlScope.CLIENT, BOB, stopped=True)
        made["stopped"] = (await world.workflow.receiving.submit(BOB, pacs008(Transfer(), BAD))).id
        made["issued"] = (await world.workflow.receiving.issue(ALICE)).id
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("interlock.stages.process.run", _fail)
            failed = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(3)]
        made |= dict(zip(("fault", "fault cancelled", "fault retried"), (t.id for t in failed), strict=True))
        await world.decide(failed[1], DecisionKind.CANCEL)
        await world.decide(failed[2], DecisionKind.RETRY, actor="operator:o")
        ends = {name: world.verify(id_).standing.status for name, id_ in made.items()}
        for name in ("settled", "part", "blocks", "headed", "driven again", "fault retried"):
            assert ends[name] is Status.ACSC, name
    return made


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, UUID]]:
    """A folder with such a store, which nobody writes to any more."""
    folder = tmp_path_factory.mktemp("filled")
    with structlog.testing.capture_logs():
        return folder, asyncio.run(_filled(folder))


def reconciled(folder: Path, *more: str) -> Result:
    """What `interlock reconcile` makes of a folder, over all of its time unless told otherwise."""
    period = () if {"--day", "--from", "--until"} & set(more) else ("--from", str(START), "--until", str(END))
    return CliRunner().invoke(app, ["reconcile", "--data", str(folder), *period, *more])


def found(store: Store, books: Books | None = None) -> list[Difference]:
    """All differences of a store."""
    return list(differences(store, START, END, Books() if books is None else books))


def named(folder: Path, id_: UUID) -> list[str]:
    """What is said of one transaction; nothing may be said of another."""
    done = reconciled(folder)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: transaction ")]
    others = [line for line in lines if str(id_) not in line]
    assert (done.exit_code, others) == (Exit.FAILED, []), done.stderr
    return lines


# -- good days --------------------------------------------------------------------------------------------------------


def test_whatever_happens_comes_to_the_same(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """Over an untouched store nothing differs, whatever its transactions have been through."""
    done = reconciled(shutil.copytree(filled[0], tmp_path / "copy"))
    assert (done.exit_code, done.stderr) == (Exit.OK, "")
    assert "come to the same" in done.stdout


def test_sums_are_those_of_the_day(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """Numbers and amounts by client and currency, from all three sides, are what was sent; worked out by hand."""
    folder, books = shutil.copytree(filled[0], tmp_path / "copy"), Books()
    with closing(SqliteStore(folder / "interlock.db")) as store:
        assert found(store, books) == []
    hundred = Sum(1, Decimal(100))
    assert books.accounts[ALICE, "JPY"] == Account(
        messages=1, sent=Sum(1, Decimal(1)), settled=Sum(1, Decimal(1)), told_settled=Sum(1, Decimal(1))
    )
    kuwait = Sum(1, Decimal("1.234"))
    assert books.accounts[BOB, "KWD"] == Account(messages=1, sent=kuwait, settled=kuwait, told_settled=kuwait)
    assert books.accounts[BOB, "EUR"] == Account(messages=1, sent=Sum(2, Decimal(103)), in_flight=Sum(2, Decimal(103)))
    settled = Sum(8, Decimal("250.00") + 100 + Decimal("60.30") + 250 + 100 + 100)
    rejected = Sum(4, Decimal("250.00") + 3 + 3 + 250)
    cancelled = Sum(3, Decimal(300))
    in_flight = Sum(2, Decimal(200))
    assert books.accounts[ALICE, "EUR"] == Account(
        messages=13,
        messages_again=1,
        sent=settled + rejected + cancelled + in_flight - hundred,
        again=hundred,
        settled=settled,
        rejected=rejected,
        cancelled=cancelled,
        in_flight=in_flight,
        told_settled=settled,
        told_rejected=rejected + cancelled,
        unquoted=Sum(1, Decimal(250)),  # the header's double, answered by admi.002
    )
    alice = books.clients[ALICE]
    assert (alice.messages, alice.messages_again, alice.transactions) == (16, 1, 19)
    assert (alice.unreadable, alice.without_payments, alice.without_message) == (2, 1, 2)
    assert alice.statuses == {Status.ACCP: 1, Status.ACSC: 7, Status.CANC: 3, Status.PDNG: 2, Status.RJCT: 6}
    assert alice.answers == {"pacs.002": 10, "pain.002": 1, "admi.002": 4}


def test_people_see_a_table(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """A row a client and currency, amounts with their currency's decimals and the number of payments beside."""
    done = reconciled(shutil.copytree(filled[0], tmp_path / "copy"))
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [BOB, "KWD", "1", "1.234", "(1)", "-", "1.234", "(1)", "-", "-", "-", "-"] in rows
    assert [ALICE, "JPY", "1", "1", "(1)", "-", "1", "(1)", "-", "-", "-", "-"] in rows
    (total,) = [row for row in rows if row[:2] == ["all", "EUR"]]
    assert total[2:7] == ["15", "1,869.30", "(18)", "100.00", "(1)"]


def test_amounts_are_never_cut_off(
    filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the terminal is too narrow for the table, each account is a list."""
    monkeypatch.setattr("interlock.cli.printing._LOG_COLUMNS", 80)
    done = reconciled(shutil.copytree(filled[0], tmp_path / "copy"))
    lines = done.stdout.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert "…" not in done.stdout
    place = lines.index(f"{ALICE}  EUR")
    listed = {line[2:14].strip(): line[14:].strip() for line in lines[place + 1 : place + 8]}
    assert listed["in"] == "1,766.30 (16)"
    assert listed["in flight"] == "200.00 (2)"


def test_machines_get_one_object_and_a_file(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """JSON has one object, the CSV file a line an account, and both say the same; amounts are exact texts."""
    folder, file = shutil.copytree(filled[0], tmp_path / "copy"), tmp_path / "day.csv"
    file.write_text("yesterday's")
    done = reconciled(folder, "--json", "--csv", str(file))
    told = json.loads(done.stdout)
    assert (done.exit_code, told["ok"], told["differences"], told["differences_left_out"]) == (Exit.OK, True, [], 0)
    assert (told["from"], told["until"]) == (START.isoformat(), END.isoformat())
    accounts = {(account["client"], account["currency"]): account for account in told["accounts"]}
    assert accounts[BOB, "KWD"]["settled"] == {"payments": 1, "amount": "1.234"}
    assert accounts[ALICE, "EUR"]["sent"] == {"payments": 16, "amount": "1766.30"}
    assert {total["currency"]: total["sent"]["payments"] for total in told["totals"]} == {"EUR": 18, "JPY": 1, "KWD": 1}
    assert [client["client"] for client in told["clients"]] == [ALICE, BOB]
    with file.open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(accounts) == 4
    for line in lines:
        account = accounts[line["client"], line["currency"]]
        assert line["messages"] == str(account["messages"])
        for name in ("sent", "again", "settled", "rejected", "cancelled", "in_flight", "told_settled", "difference"):
            assert line[f"{name}_payments"] == str(account[name]["payments"])
            assert line[f"{name}_amount"] == account[name]["amount"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["day.csv"]


# -- what was changed behind the journal's back -----------------------------------------------------------------------

#: Which transaction, what is done to it, and what is said of it. Tables hold it under :row, events under :id.
TAMPERING = [
    ("settled", "UPDATE payments SET amount = '25' WHERE tx = :row",
     "payment 1 is 250.00 EUR in its message, 25.00 EUR in the store"),
    ("settled", "UPDATE payments SET currency = 'USD' WHERE tx = :row", "in its message, 250.00 USD in the store"),
    ("settled", "UPDATE payments SET amount = NULL WHERE tx = :row", "no readable amount EUR in the store"),
    ("settled", "UPDATE payments SET amount = 'much' WHERE tx = :row", "its payments cannot be read"),
    ("settled", "UPDATE payments SET amount = 'sNaN' WHERE tx = :row", "its payments cannot be read"),
    ("settled", "UPDATE payments SET amount = '1' || hex(zeroblob(99)) WHERE tx = :row", "its payments cannot be read"),
    ("settled", "UPDATE payments SET amount = '1.' || hex(zeroblob(99)) WHERE tx = :row",
     "its payments cannot be read"),
    ("settled", "UPDATE payments SET amount = 'Infinity' WHERE tx = :row", "its payments cannot be read"),
    ("settled", "UPDATE payments SET amount = '1E+9999999' WHERE tx = :row", "its payments cannot be read"),
    ("settled", "UPDATE payments SET amount = '1E-9999999' WHERE tx = :row", "its payments cannot be read"),
    ("settled", "UPDATE payments SET end_to_end_id = 'other' WHERE tx = :row", "payment 1 has another end_to_end_id"),
    ("settled", "UPDATE payments SET uetr = NULL WHERE tx = :row", "payment 1 has another uetr"),
    ("settled", "DELETE FROM payments WHERE tx = :row", "its message holds 1 payments, and none is in the store"),
    ("part", "DELETE FROM payments WHERE tx = :row AND ordinal = 3",
     "payment 3 of its message, 1 JPY, is not in the store"),
    ("settled", "INSERT INTO payments VALUES (:row, 2, '', '', '', '', '9', 'EUR', 'ACSC', NULL, NULL)",
     "payment 2 in the store, 9.00 EUR, is not in its message"),
    ("settled", "UPDATE payments SET status = 'RJCT' WHERE tx = :row", "payment 1 is RJCT, and its answer says ACSC"),
    ("settled", "UPDATE payments SET status = 'RJCT' WHERE tx = :row", "it is ACSC, and none of its payments is"),
    ("settled", "UPDATE payments SET status = 'PDNG' WHERE tx = :row", "payment 1 is PDNG, and the transaction is"),
    ("part", "UPDATE payments SET status = 'ACSC' WHERE tx = :row AND ordinal = 2",
     "payment 2 is ACSC, and its answer says RJCT"),
    ("blocks", "UPDATE payments SET status = 'RJCT' WHERE tx = :row AND ordinal = 2",
     "payment 2 is RJCT, and its answer says ACSC"),
    ("cancelled", "UPDATE payments SET status = 'ACSC' WHERE tx = :row", "is ACSC, and its answer says RJCT"),
    ("headed twice", "UPDATE payments SET status = 'ACSC' WHERE tx = :row", "payment 1 is ACSC, and the transaction"),
    ("held", "UPDATE payments SET status = 'ACSC' WHERE tx = :row", "and the transaction has not ended"),
    ("settled", "UPDATE transactions SET client = 'c_bob' WHERE row = :row", "kept as c_bob's, and c_alice sent it"),
    ("settled", "UPDATE transactions SET created_at = created_at - 1 WHERE row = :row", "it is kept as begun at"),
    ("settled", "UPDATE transactions SET status = 'RJCT' WHERE row = :row", "it is shown as RJCT, and ended as ACSC"),
    ("held", "UPDATE transactions SET status = 'ACSC' WHERE row = :row", "it is shown as ACSC, and has not ended"),
    ("rejected", "UPDATE transactions SET state = 'end', status = 'ACSC', \"end\" = 'ACSC' WHERE row = :row",
     "it is kept as ACSC, and its history ends with RJCT"),
    ("timed out", "UPDATE transactions SET state = 'end', status = 'ACSC', \"end\" = 'ACSC' WHERE row = :row",
     "it is ACSC, and no message came for it"),
    ("broken", "UPDATE transactions SET state = 'end', status = 'ACSC', \"end\" = 'ACSC' WHERE row = :row",
     "it is ACSC, and its message cannot be read"),
    ("double", "UPDATE transactions SET state = 'end', status = 'ACSC', \"end\" = 'ACSC' WHERE row = :row",
     "it is ACSC, and none of its payments is"),
    ("headed twice", "UPDATE transactions SET state = 'end', status = 'ACSC', \"end\" = 'ACSC' WHERE row = :row",
     "it is ACSC, and its answer is a rejection of the whole"),
    ("settled", "UPDATE transactions SET payments = 7 WHERE row = :row", "said to hold 7 payments, the store has 1"),
    ("settled", "UPDATE transactions SET digest = x'00' WHERE row = :row", "message is not the one that was received"),
    ("settled", "UPDATE transactions SET redriven_as = :id WHERE row = :row", "it is ACSC, and was driven again as"),
    ("settled", "UPDATE events SET tx = 9999 WHERE tx = :row", "history does not know it"),
    ("settled", "UPDATE events SET content = x'00' WHERE tx = :row AND seq = 1", "its history cannot be read"),
    ("settled", "DELETE FROM bodies WHERE row = :row * 2", "a message came for it, and is not in the store"),
    ("settled", "DELETE FROM bodies WHERE row = :row * 2 + 1", "it is ACSC, and has no answer"),
    ("broken", "DELETE FROM bodies WHERE row = :row * 2 + 1", "it is RJCT, and has no answer"),
    ("settled", "UPDATE bodies SET content = x'00' WHERE row = :row * 2", "its message cannot be unpacked"),
    ("settled", "UPDATE bodies SET content = x'00' WHERE row = :row * 2 + 1", "its answer cannot be unpacked"),
    ("held", "INSERT INTO bodies SELECT :row * 2 + 1, b.definition, b.digest, b.content FROM bodies b LIMIT 1",
     "it is PDNG, and was answered already"),
    ("report", "INSERT INTO bodies SELECT :row * 2 + 1, b.definition, b.digest, b.content FROM bodies b LIMIT 1",
     "its message is an answer itself, and was answered"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "statement", "says"), TAMPERING)
def test_a_change_of_any_side_is_named(
    filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path, name: str, statement: str, says: str
) -> None:
    """Whatever is changed in the state, or taken from the messages, is named by its transaction, and by no other."""
    folder, id_ = shutil.copytree(filled[0], tmp_path / "copy"), filled[1][name]
    with closing(sqlite3.connect(folder / "interlock.db")) as db, db:
        (row,) = db.execute("SELECT row FROM transactions WHERE id = ?", (id_.bytes,)).fetchone()
        bound = {key: value for key, value in {"row": row, "id": id_.bytes}.items() if f":{key}" in statement}
        assert db.execute(statement, bound).rowcount > 0
    assert any(says in line for line in named(folder, id_)), named(folder, id_)


def rewritten(folder: Path, id_: UUID, side: int, change: Callable[[bytes], bytes], *, seal: bool = False) -> None:
    """Another message (side 0) or answer (1) in place of one; sealed: its digest, which the state repeats, fits."""
    with closing(sqlite3.connect(folder / "interlock.db")) as db, db:
        (row,) = db.execute("SELECT row FROM transactions WHERE id = ?", (id_.bytes,)).fetchone()
        place = row * 2 + side
        (packed,) = db.execute("SELECT content FROM bodies WHERE row = ?", (place,)).fetchone()
        before = zstandard.ZstdDecompressor().decompress(packed)
        after = change(before)
        assert after != before
        packed = zstandard.ZstdCompressor().compress(after)
        db.execute("UPDATE bodies SET content = ? WHERE row = ?", (packed, place))
        if seal:
            db.execute("UPDATE transactions SET digest = ? WHERE row = ?", (sha256(after).digest(), row))


#: Which transaction, its message (0) or answer (1), what is replaced by what in it, and what is said.
FORGERIES = [
    ("settled", 0, '"EUR">250.00<', '"EUR">9.00<', "payment 1 is 9.00 EUR in its message, 250.00 EUR in the store"),
    ("settled", 0, '"EUR">250.00<', '"EUR">9.00<', "payment 1 is 9.00 EUR in its message, 250.00 EUR in its answer"),
    ("settled", 0, '"EUR">250.00<', '"USD">250.00<', "payment 1 is 250.00 USD in its message, 250.00 EUR in the store"),
    ("settled", 0, "<NbOfTxs>1<", "<NbOfTxs>2<", "declares another number of payments than its 1"),
    ("settled", 0, "</NbOfTxs>", "</NbOfTxs><CtrlSum>7</CtrlSum>", "declares another sum than that of its payments"),
    ("blocks", 0, "<CtrlSum>30.30<", "<CtrlSum>30.31<", "block 1 of its message declares another number or sum"),
    ("part", 0, '"JPY">1<', '"JPY">one<', "payment 3 is no readable amount JPY in its message, 1 JPY in the store"),
    ("settled", 0, "</Document>", "", "it is ACSC, and its message cannot be read"),
    ("settled", 0, "<MsgId>", "<MsgId>X", "its answer is to another message"),
    ("settled", 1, '"EUR">250.00<', '"EUR">9.00<', "payment 1 is 250.00 EUR in its message, 9.00 EUR in its answer"),
    ("settled", 1, '"EUR">250.00<', '"eur">250.00<', "250 (no currency) in its answer"),
    ("settled", 1, "<TxSts>ACSC<", "<TxSts>RJCT<", "payment 1 is ACSC, and its answer says RJCT"),
    ("settled", 1, "<TxSts>ACSC<", "<TxSts>&amp;<", "payment 1 is ACSC, and its answer says nothing"),
    ("settled", 1, "<GrpSts>ACSC<", "<GrpSts>RJCT<", "its answer says RJCT of the whole, and it is ACSC"),
    ("part", 1, "<GrpSts>PART<", "<GrpSts>ACSC<", "its answer says ACSC of the whole, and it is PART"),
    ("rejected", 1, "<TxSts>RJCT<", "<TxSts>ACSC<", "payment 1 is RJCT, and its answer says ACSC"),
    ("cancelled", 1, "<TxSts>RJCT<", "<TxSts>CANC<", "payment 1 is CANC, and its answer says CANC"),
    ("blocks", 1, "<PmtInfSts>ACSC<", "<PmtInfSts>RJCT<", "its answer says RJCT of block 1, and ACSC of what is in it"),
    ("blocks", 1, ">EXAMPLE-E-0102<", ">EXAMPLE-E-0103<", "payment 2 has another end_to_end_id in its message than in"),
    ("settled", 1, "<OrgnlMsgId>", "<OrgnlMsgId>X", "its answer is to another message"),
    ("settled", 1, "<OrgnlNbOfTxs>1<", "<OrgnlNbOfTxs>2<", "its answer repeats another number or control sum"),
    ("settled", 1, "</TxInfAndSts>", "</TxInfAndSts><TxInfAndSts><TxSts>ACSC</TxSts></TxInfAndSts>",
     "its answer speaks of 2 payments, its message holds 1"),
    ("settled", 1, "</FIToFIPmtStsRpt>", "</FIToFIPmtStsRpt><FIToFIPmtStsRpt/>", "it has 2 answers in one"),
    ("settled", 1, "<GrpHdr><MsgId>", "<GrpHdr><MsgId>X", "its answer is not its own: it is named by no transaction"),
    ("settled", 1, "</Document>", "", "its answer cannot be read, or is none"),
    ("settled", 1, "pacs.002.001", "pacs.008.001", "its answer cannot be read, or is none"),
    ("broken", 1, "<Ref>", "<Ref>X", "its answer (admi.002) refers to another message"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "side", "old", "new", "says"), FORGERIES)
def test_a_forged_message_or_answer_is_named(
    filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path, name: str, side: int, old: str, new: str, says: str
) -> None:
    """A message or answer that says another thing than the state is named, also where its digest was forged with it."""
    folder, id_ = shutil.copytree(filled[0], tmp_path / "copy"), filled[1][name]
    rewritten(folder, id_, side, lambda content: content.replace(old.encode(), new.encode(), 1), seal=True)
    if side == 0:
        assert not any("is not the one" in line for line in named(folder, id_))
    assert any(says in line for line in named(folder, id_)), named(folder, id_)


def test_an_answer_in_another_ones_place_is_named(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """Where a transaction has another one's answer, it is said whose that is."""
    folder, made = shutil.copytree(filled[0], tmp_path / "copy"), filled[1]
    with closing(SqliteStore(folder / "interlock.db")) as store:
        body = store.message(made["other"], BodyKind.OUTBOX)
    assert body is not None
    rewritten(folder, made["settled"], 1, lambda _: body.content)
    said = named(folder, made["settled"])
    assert any(f"its answer is not its own: it is the answer of {made['other']}" in line for line in said)


def test_a_redrive_of_something_else_is_named(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """What is driven again must be the same message, and must not have been settled before."""
    folder, made = shutil.copytree(filled[0], tmp_path / "copy"), filled[1]
    with closing(sqlite3.connect(folder / "interlock.db")) as db, db:
        bound = (made["settled"].bytes, made["driven again"].bytes)
        db.execute("UPDATE transactions SET redrive_of = ? WHERE id = ?", bound)
    said = named(folder, made["driven again"])
    assert any(f"it drives {made['settled']} again, which is ACSC" in line for line in said)
    assert any(f"it drives {made['settled']} again, with another message" in line for line in said)


def test_a_second_end_is_named(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """One that has ended twice was answered twice."""
    folder, id_ = shutil.copytree(filled[0], tmp_path / "copy"), filled[1]["settled"]
    with closing(sqlite3.connect(folder / "interlock.db")) as db, db:
        (row,) = db.execute("SELECT row FROM transactions WHERE id = ?", (id_.bytes,)).fetchone()
        copied = "writer, tx, seq + 1, CAST(replace(content, '\"seq\":' || seq, '\"seq\":9') AS BLOB), previous, hash"
        last = "FROM events WHERE tx = ? ORDER BY seq DESC LIMIT 1"
        db.execute(f"INSERT INTO events SELECT 999999, {copied} {last}", (row,))
    assert any("it has ended 2 times" in line for line in named(folder, id_))


def test_the_gap_is_in_the_table(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """An amount that is not everywhere the same stands beside the sums, and machines get the list of differences."""
    folder, id_ = shutil.copytree(filled[0], tmp_path / "copy"), filled[1]["settled"]
    rewritten(folder, id_, 1, lambda content: content.replace(b">250.00<", b">249.99<"))
    done = reconciled(folder, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, done.stderr, told["ok"]) == (Exit.FAILED, "", False)
    gaps = {(account["client"], account["currency"]): account["difference"] for account in told["accounts"]}
    assert gaps[ALICE, "EUR"] == {"payments": 0, "amount": "0.01"}
    text = "payment 1 is 250.00 EUR in its message, 249.99 EUR in its answer"
    assert told["differences"] == [{"transaction": str(id_), "client": ALICE, "text": text}]
    shown = reconciled(folder)
    assert "0.01 (0)" in shown.stdout
    assert "error: 1 differences" in shown.stderr


def test_one_that_cannot_be_read_hides_no_other(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """A row that cannot be read is told of by its time, and all others are compared, each once."""
    folder, made, books = shutil.copytree(filled[0], tmp_path / "copy"), filled[1], Books()
    with closing(SqliteStore(folder / "interlock.db")) as store:
        spoilt = store.get(made["part"])
    assert spoilt is not None
    with closing(sqlite3.connect(folder / "interlock.db")) as db, db:
        db.execute("UPDATE transactions SET created_at = created_at + 7 WHERE id = ?", (spoilt.id.bytes,))
        db.execute("UPDATE transactions SET state = 'nowhere' WHERE id = ?", (spoilt.id.bytes,))
        db.execute("UPDATE transactions SET payments = 7 WHERE id = ?", (made["settled"].bytes,))
    with closing(SqliteStore(folder / "interlock.db")) as store:
        said = [str(difference) for difference in found(store, books)]
    assert len(said) == 2
    assert said[0].startswith(f"what began at {spoilt.created_at + timedelta(microseconds=7):%FT%T}")
    assert said[1].startswith(f"transaction {made['settled']}: ")
    assert books.transactions == len(made)


def test_sums_are_held_against_one_another_too() -> None:
    """Each side is added up by itself: where no transaction differs and the sums do, that is said."""
    books = Books()
    books.account(ALICE, "EUR").sent.add(Decimal(5))
    (difference,) = reconciling._unbalanced(books)
    assert str(difference) == "c_alice: its sums differ by 1 payments, 5.00 EUR, though no transaction does"


@pytest.mark.anyio
async def test_many_differences_of_one_are_cut_short(tmp_path: Path) -> None:
    """Of one transaction so much is said as somebody reads; the rest is counted."""
    async with a_world(tmp_path, AUTO) as world:
        made = await world.workflow.receiving.submit(ALICE, pacs008(*(Transfer() for _ in range(30))))
        with closing(sqlite3.connect(tmp_path / "interlock.db")) as db, db:
            db.execute("UPDATE payments SET amount = '1'")
        said = found(world.store)
    assert {difference.transaction for difference in said} == {made.id}
    assert [difference.text for difference in said][-1] == "10 more differences"
    assert len(said) == 21


# -- which transactions -----------------------------------------------------------------------------------------------


async def _at(world: World, *moments: datetime) -> list[UUID]:
    """Transactions that begin then."""
    made = []
    for moment in moments:
        world.hand.now = moment
        made.append((await world.workflow.receiving.issue(ALICE)).id)
    return made


@pytest.mark.anyio
async def test_a_day_is_one_of_utc_and_half_open(tmp_path: Path) -> None:
    """A day begins at midnight in UTC and ends before the next one; another zone can be asked for by its times."""
    day = datetime(2026, 3, 28, tzinfo=UTC)
    second = timedelta(seconds=1)
    async with a_world(tmp_path, AUTO) as world:
        await _at(world, day - second, day, day + timedelta(days=1) - second, day + timedelta(days=1))

    def numbers(*period: str) -> int:
        return cast("int", json.loads(reconciled(tmp_path, "--json", *period).stdout)["transactions"])

    assert numbers("--day", "2026-03-28") == 2
    assert numbers("--day", "2026-03-27") == numbers("--day", "2026-03-29") == 1
    assert numbers("--day", "2026-03-30") == 0
    assert numbers("--from", "2026-03-28T01:00:00+01:00", "--until", "2026-03-29T01:00:00+01:00") == 2
    assert numbers("--from", "2026-03-28T00:00:01Z", "--until", "2026-03-30T00:00Z") == 2


@pytest.mark.anyio
async def test_pages_are_walked_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More transactions than a page holds are all compared, each once."""
    monkeypatch.setattr(periods, "_PAGE", 3)
    books = Books()
    async with a_world(tmp_path, AUTO) as world:
        for _ in range(10):
            await world.workflow.receiving.submit(ALICE, pacs008())
        assert found(world.store, books) == []
    assert (books.transactions, books.accounts[ALICE, "EUR"].settled) == (10, Sum(10, Decimal(1000)))


class _Archived:
    """A store that has archived what began in some hours."""

    def __init__(self, store: Store, lower: datetime, upper: datetime) -> None:
        self._store = store
        self._lower, self._upper = (int(moment.timestamp() * 1000) << 80 for moment in (lower, upper))

    def archived(self, transaction: UUID) -> str | None:
        """As the contract has it."""
        return "2026-03" if self._lower <= transaction.int < self._upper else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.anyio
async def test_what_is_archived_is_not_reconciled_without_it(tmp_path: Path) -> None:
    """A period of which a part was archived is refused, and the archive named: what is left would come to nothing."""
    day = datetime(2026, 3, 28, tzinfo=UTC)
    days = [day + timedelta(days=number) for number in range(9)]
    async with a_world(tmp_path, AUTO) as world:
        store = cast("Store", _Archived(world.store, days[2], days[3]))
        for since, until in ((days[0], days[8]), (days[2], days[3]), (days[1], days[2] + timedelta(hours=1))):
            with pytest.raises(Archived, match="is in archive 2026-03"):
                list(differences(store, since, until, Books()))
        for since, until in ((days[0], days[2]), (days[3], days[4])):
            assert list(differences(store, since, until, Books())) == []


class _Behind:
    """A store whose pages are of an earlier moment, as when a server moves on while we read."""

    def __init__(self, store: Store, page: Page) -> None:
        self._store = store
        self._page = page

    def find(self, _: Query) -> Page:
        """The page as it was."""
        return self._page

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.anyio
async def test_requests_and_what_ended_by_itself_come_to_the_same(tmp_path: Path) -> None:
    """Answers to requests about others tell of no payment in them; a payment may end before its transaction does."""
    transfers = [Transfer() for _ in range(3)]
    asked = Ids(
        uetr=transfers[0].uetr,
        message_id=None,
        end_to_end_id=None,
        transaction_id=None,
        instruction_id=None,
        amount=None,
    )
    system_event = (
        b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:admi.004.001.02"><SysEvtNtfctn><EvtInf><EvtCd>OPEN</EvtCd>'
        b"</EvtInf></SysEvtNtfctn></Document>"
    )
    async with a_world(tmp_path, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008(*transfers))
        open_ = await world.workflow.receiving.submit(ALICE, pacs008(Transfer(), Transfer()))
        answers = set()
        for content in (
            *(request(definition, asked) for definition in ("pacs.028.001.03", "camt.056.001.08")),
            request("camt.026.001.07"),
            request("camt.110.001.01", asked),
            request("camt.056.001.08", Ids(message_id="nobody's", uetr=None)),
            system_event,
        ):
            told = await world.workflow.receiving.submit(ALICE, content.replace(b"EXAMPLE-C-0001", fresh().encode()))
            done = world.verify((await world.workflow.reading.until_end(told, 10)).id)
            assert done.standing.status is Status.ACSC, done.note
            answers.add((done.answer or "")[:8])
        assert answers >= {"pacs.002", "camt.029", "camt.111", "admi.007"}
        await world.decide(held, DecisionKind.REJECT, 2)
        await world.decide(held, DecisionKind.ACCEPT)
        await world.decide(open_, DecisionKind.CANCEL, 1)
        ends = [payment.status for payment in await world.workflow.reading.payments(ALICE, held.id)]
        assert ends == [Status.CANC, Status.RJCT, Status.ACSC]
    result = reconciled(tmp_path, "--json")
    assert (result.exit_code, result.stderr) == (Exit.OK, "")
    with closing(sqlite3.connect(tmp_path / "interlock.db")) as db, db:
        db.execute("UPDATE payments SET status = 'ACSC', reason = NULL WHERE ordinal = 2 AND status = 'RJCT'")
    assert any("payment 2 is ACSC, and ended as RJCT by itself" in line for line in named(tmp_path, held.id))


def headless(*parts: str) -> bytes:
    """Parts of our own sample, and whatever else, one after the other."""
    root = etree.parse(SAMPLES / "pacs.008.001.08_bah.xml").getroot()
    known = {
        name: etree.tostring(part, encoding="unicode", with_tail=False) for name, part in zip("hd", root, strict=True)
    }
    return "".join(known.get(part, part) for part in parts).encode()


REPORT = (
    '<s:DataPDU xmlns:s="urn:swift:saa:xsd:saa.2.0"><s:Header><s:TransmissionReport/></s:Header><s:Body>', "h", "d",
    "</s:Body></s:DataPDU>",
)  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize("lenient", [frozenset(), frozenset({ALICE})], ids=["strict", "lenient"])
async def test_messages_are_read_as_the_server_read_them(tmp_path: Path, lenient: frozenset[str]) -> None:
    """No message, several, a report, siblings, and namespaces that a lenient server mends: both audits agree."""
    unused = pacs008().replace(b"xmlns=", b"xmlns:unused=")
    strict = not lenient
    odd = {
        headless("h"): True,
        headless("<a>", "h", "<Document/></a>"): True,
        headless("<a>", "h", "d", "d", "</a>"): True,
        headless(*REPORT): True,
        headless("h", "d"): False,
        unused: strict,
        unused.replace(b"<NbOfTxs>1", b"<NbOfTxs>7"): True,
        unused.replace(b"<NbOfTxs>1", b"<Nb>1"): True,
    }
    async with a_world(tmp_path, AUTO, lenient=lenient) as world:
        for content, is_refused in odd.items():
            done = world.verify((await world.workflow.receiving.submit(ALICE, content)).id)
            assert (done.standing.status is Status.RJCT) is is_refused, content
            assert done.answer_due is (b"Report" not in content)
    assert reconciled(tmp_path).stderr == ""
    verified = CliRunner().invoke(app, ["audit", "verify", "--data", str(tmp_path)])
    assert (verified.exit_code, verified.stderr) == (Exit.OK, "")


@pytest.mark.anyio
async def test_one_that_moves_on_meanwhile_is_read_anew(tmp_path: Path) -> None:
    """What was open when its page was read and has ended since is no difference: it is taken as it is now."""
    books = Books()
    async with a_world(tmp_path, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        page = world.store.find(Query(client=None))
        await world.decide(held, DecisionKind.ACCEPT)
        assert found(cast("Store", _Behind(world.store, page)), books) == []
    assert books.clients[ALICE].statuses == {Status.ACSC: 1}
    assert books.accounts[ALICE, "EUR"].settled == Sum(1, Decimal(100))


@pytest.mark.parametrize(
    ("period", "says"),
    [
        ((), "say which period"),
        (("--day", "2026-11-22", "--from", "2026-11-22T00:00Z"), "say which period"),
        (("--from", "2026-11-22T00:00Z"), "say which period"),
        (("--day", "yesterday"), "--day takes the like of 2026-11-22"),
        (("--day", "0001-01-01"), "--day must lie between the years 2000 and 2099"),
        (("--day", "9999-12-31"), "--day must lie between the years 2000 and 2099"),
        (("--from", "2026-11-22T00:00", "--until", "2026-11-23T00:00Z"), "--from needs a time zone"),
        (("--from", "2026-11-22T00:00Z", "--until", "soon"), "--until takes the like of"),
        (("--from", "2026-11-22T00:00Z", "--until", "2026-11-22T00:00Z"), "--until must be later"),
    ],
)
def test_a_period_must_be_clear(tmp_path: Path, period: tuple[str, ...], says: str) -> None:
    """A period that is not said, said twice, or said without a zone is an invalid request; the option is named."""
    done = CliRunner().invoke(app, ["reconcile", "--data", str(tmp_path), *period])
    assert done.exit_code == Exit.INVALID
    assert says in done.stderr


def test_looking_at_a_store_does_not_make_one(tmp_path: Path) -> None:
    """Where there is no store it is said so, and there is none afterwards."""
    done = reconciled(tmp_path / "nothing")
    assert (done.exit_code, (tmp_path / "nothing").exists()) == (Exit.NOT_FOUND, False)
    assert "there is no store" in done.stderr


@pytest.mark.anyio
async def test_a_file_that_cannot_be_written_is_said_before(tmp_path: Path) -> None:
    """Where the file cannot be put is said before the work, as far as it can be known; else in our own words."""
    async with a_world(tmp_path, AUTO) as world:
        await world.workflow.receiving.submit(ALICE, pacs008(BAD))
    for file, says in ((tmp_path / "nowhere" / "day.csv", "there is no folder"), (tmp_path, "is a folder")):
        done = reconciled(tmp_path, "--csv", str(file))
        assert (done.exit_code, done.stdout) == (Exit.INVALID, "")
        assert says in done.stderr
    (tmp_path / "day.csv.part").mkdir()
    done = reconciled(tmp_path, "--csv", str(tmp_path / "day.csv"))
    assert done.exit_code == Exit.INVALID
    assert "day.csv cannot be written" in done.stderr


# -- reading and counting ---------------------------------------------------------------------------------------------

THREE = extract(read((SAMPLES / "pacs.008.001.08.xml").read_bytes()))
BLOCKS = extract(read((SAMPLES / "pain.001.001.09.xml").read_bytes()))
MIXED = Verdict(status=Status.ACSC, payments={2: PaymentVerdict(status=Status.RJCT, reason="AC03")})


@pytest.mark.parametrize("definition", sorted(SHAPES))
def test_every_edition_of_an_answer_is_read(definition: str) -> None:
    """Of each version of each answer its statuses, references and amounts are read, by the standard's tags alone."""
    original = THREE if definition.startswith("pacs") else BLOCKS
    made = build(original, MIXED, answer_id="a" * 32, now=datetime(2026, 11, 22, tzinfo=UTC), definition=definition)
    answer = answer_of(made.body, new_parser())
    assert answer is not None
    assert (answer.family, answer.reports, answer.id, answer.status) == (definition[:8], 1, "a" * 32, "PART")
    assert (answer.original_id, answer.original_definition) == (original.message_id, original.definition)
    assert [told.status for told in answer.payments] == ["ACSC", "RJCT", "ACSC"]
    for told, payment in zip(answer.payments, original.payments, strict=True):
        assert told.names["end_to_end_id"] == payment.end_to_end_id
        assert all(text == getattr(payment, name) for name, text in told.names.items())
        if "reference" in SHAPES[definition].has:
            assert (told.amount, told.currency) == (payment.decimal, payment.currency)
    if "blocks" in SHAPES[definition].has:
        assert answer.blocks == (("PART", ("ACSC", "RJCT")), ("ACSC", ("ACSC",)))


def test_an_answer_in_a_schemes_form_is_read() -> None:
    """One that says nothing of the group names its message in each payment; nothing that is left out is missed."""
    forms = {"pacs.002": Form(without=PARTS["pacs.002"])}
    made = build(THREE, MIXED, answer_id="a" * 32, now=datetime(2026, 11, 22, tzinfo=UTC), forms=forms)
    answer = answer_of(made.body, new_parser())
    assert answer is not None
    assert (answer.original_id, answer.original_definition) == (THREE.message_id, THREE.definition)
    assert (answer.status, answer.counts) == (None, (None, None))
    assert [told.status for told in answer.payments] == ["ACSC", "RJCT", "ACSC"]
    assert [told.names for told in answer.payments] == [{"uetr": payment.uetr} for payment in THREE.payments]


@pytest.mark.parametrize(
    ("amount", "currency", "plain", "grouped"),
    [
        ("1234", "EUR", "1234.00", "1,234.00"),
        ("1234.5", "JPY", "1234.5", "1,234.5"),
        ("1234", "JPY", "1234", "1,234"),
        ("0.1", "KWD", "0.100", "0.100"),
        ("0", "EUR", "0.00", "0.00"),
        ("1.10", None, "1.1", "1.1"),
        ("7", "XAU", "7", "7"),
        ("1.00000", "EUR", "1.00", "1.00"),
        ("9" * 40 + "." + "9" * 40, "EUR", "9" * 40 + "." + "9" * 40, ",".join(["9", *["999"] * 13]) + "." + "9" * 40),
    ],
)
def test_amounts_have_their_currencys_decimals(amount: str, currency: str | None, plain: str, grouped: str) -> None:
    """The minor unit of ISO 4217, and more digits where there are more: nothing is rounded."""
    assert money(Decimal(amount), currency) == plain
    assert money(Decimal(amount), currency, grouped=True) == grouped


def test_sums_are_exact() -> None:
    """However many digits the amounts have, and whatever cannot be read counts as a payment without one."""
    total = Sum()
    for text in ("9" * 40, "0." + "0" * 39 + "1"):
        total.add(Decimal(text))
    total.add(None)
    assert total == Sum(3, Decimal("9" * 40 + "." + "0" * 39 + "1"))
    assert total - total == Sum()
    assert not total - total


def test_names_that_senders_invent_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are read in a thread that is renewed, for it keeps every name that it has met."""
    monkeypatch.setattr(cases, "_THREAD_BYTES", 100)
    with closing(cases.Reader()) as reader:
        threads = set()
        for number in range(10):
            message, answer = reader.read(f"<name{number}/>".encode(), b"<Document/>", lenient=False)
            assert (message.original, answer) == (None, None)
            threads.add(reader._reading)
        assert len(threads) > 1


def test_foreign_answers_are_read_without_harm() -> None:
    """Whatever stands where an answer should be: it is read as none, or as what it is."""
    parser = new_parser()
    assert answer_of(b"", parser) is None
    assert answer_of(b"<a>", parser) is None
    assert answer_of(b"<Document/>", parser) is None
    other = answer_of(etree.tostring(etree.fromstring(pacs008())), parser)
    assert other is not None
    assert other.family == "pacs.008"
