"""`interlock audit verify` over present state: what follows from history passes, what was changed is named."""

import asyncio
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
import structlog.testing
from typer.testing import CliRunner, Result

from interlock.cli import app
from interlock.cli.auditing import faults
from interlock.cli.exits import Exit
from interlock.decisions import DecisionKind
from interlock.iso20022.codes import HeldCause, Status
from interlock.lifecycle import State
from interlock.ports import ControlScope
from interlock.stores.sqlite import SqliteStore
from tests.messages import Transfer, pacs002, pacs008
from tests.world import ALICE, AUTO, BOB, CONSUMER, FOUR_EYES, HOLDING, SLA, a_world

BAD = Transfer(debtor_iban="DE00370400440532013000")
LATER = timedelta(minutes=5)


def _fail(*_: object) -> None:
    raise ZeroDivisionError("a mistake of ours")


async def _filled(folder: Path) -> dict[str, UUID]:
    """A store with every kind of transaction; their ids by kind."""
    made = {}
    async with a_world(folder, AUTO) as world:
        submit, content = world.workflow.submit, pacs008()
        made["settled"] = (await submit(ALICE, content, reference="mine")).id
        made["double"] = (await submit(ALICE, content)).id
        made["part"] = (await submit(ALICE, pacs008(Transfer(), BAD, Transfer(uetr=None)))).id
        made["rejected"] = (await submit(ALICE, pacs008(BAD))).id
        made["broken"] = (await submit(ALICE, b"<not closed")).id
        made["large"] = (await submit(ALICE, pacs008() + b" " * world.settings.limits.bytes_max)).id
        made["answer"] = (await submit(ALICE, pacs002())).id
        made["two calls"] = (await world.workflow.issue(BOB)).id
        for _ in range(2):  # the second time is recorded and changes nothing
            await world.workflow.receive(BOB, made["two calls"], content)
        made["timed out"] = (await world.workflow.issue(ALICE)).id
        world.hand.go(SLA)
        assert await world.fire() == 1
    async with a_world(folder, CONSUMER) as world:
        world.hand.go(LATER)
        held, cancelled, driven = [await world.workflow.submit(ALICE, pacs008()) for _ in range(3)]
        made |= {"held": held.id, "cancelled": cancelled.id, "redriven": driven.id}
        for transaction in (cancelled, driven):
            await world.decide(transaction, DecisionKind.CANCEL)
        again = await world.workflow.redrive(ALICE, driven.id, "operator:o")
        made["second attempt"] = (await world.decide(again, DecisionKind.ACCEPT)).id
    async with a_world(folder, FOUR_EYES) as world:
        world.hand.go(LATER)
        once, twice = [await world.workflow.submit(ALICE, pacs008()) for _ in range(2)]
        made |= {"approved": once.id, "approved twice": twice.id}
        for transaction, actor in ((once, "anna"), (twice, "anna"), (twice, "bert")):
            await world.decide(transaction, DecisionKind.ACCEPT, actor=f"{ALICE}:{actor}")
    async with a_world(folder, HOLDING) as world:
        world.hand.go(LATER)
        await world.control(ControlScope.CLIENT, BOB, stopped=True)
        made["stopped"] = (await world.workflow.submit(BOB, pacs008())).id
        made["issued"] = (await world.workflow.issue(ALICE)).id
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("interlock.stages.process.run", _fail)
            failed = [await world.workflow.submit(ALICE, pacs008()) for _ in range(3)]
        made |= dict(zip(("fault", "fault cancelled", "fault retried"), (t.id for t in failed), strict=True))
        await world.decide(failed[1], DecisionKind.CANCEL)
        await world.decide(failed[2], DecisionKind.RETRY, actor="operator:o")
        ends = {name: world.verify(id_).standing for name, id_ in made.items()}
        assert {standing.end for standing in ends.values()} == {None, Status.ACSC, Status.RJCT, Status.CANC}
        assert ends["stopped"].state is State.ACTC
        assert ends["fault"].cause is HeldCause.FAULT
        assert ends["fault retried"].end is Status.ACSC
    return made


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, UUID]]:
    """A folder with such a store, which nobody writes to any more."""
    folder = tmp_path_factory.mktemp("filled")
    with structlog.testing.capture_logs():
        return folder, asyncio.run(_filled(folder))


def verified(folder: Path) -> Result:
    """What `interlock audit verify` makes of a folder."""
    return CliRunner().invoke(app, ["audit", "verify", "--data", str(folder)])


def test_what_follows_from_history_holds(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """An untouched store has no fault, whatever its transactions have been through."""
    folder = shutil.copytree(filled[0], tmp_path / "copy")
    done = verified(folder)
    assert (done.exit_code, done.stderr) == (Exit.OK, "")


#: Which transaction, what is done to it, and what is said of it. Tables hold it under :row, events under :id.
TAMPERING = [
    ("settled", "UPDATE payments SET amount = '1.00' WHERE tx = :row", "amount"),
    ("settled", "UPDATE payments SET amount = 'much' WHERE tx = :row", "a payment of it cannot be read"),
    ("settled", "UPDATE payments SET currency = 'USD' WHERE tx = :row", "currency"),
    ("settled", "UPDATE payments SET uetr = 'other' WHERE tx = :row", "uetr"),
    ("settled", "UPDATE payments SET end_to_end_id = 'other' WHERE tx = :row", "end_to_end_id"),
    ("settled", "UPDATE payments SET status = 'RJCT', reason = 'AC04' WHERE tx = :row", "none of its payments is"),
    ("settled", "UPDATE payments SET status = 'PDNG' WHERE tx = :row", "payment 1 is PDNG"),
    ("settled", "UPDATE payments SET status = 'GONE' WHERE tx = :row", "a payment of it cannot be read"),
    ("settled", "UPDATE payments SET reason = 'AC04' WHERE tx = :row", "another reason"),
    ("settled", "DELETE FROM payments WHERE tx = :row", "it holds 0 payments"),
    ("settled", "INSERT INTO payments VALUES (:row, 2, '', '', '', '', '9', 'EUR', 'ACSC', NULL)", "holds 2 payments"),
    ("part", "UPDATE payments SET status = 'ACSC', reason = NULL WHERE tx = :row AND ordinal = 2", "the answer said"),
    ("part", "UPDATE payments SET status = 'RJCT', reason = 'AC04' WHERE tx = :row AND ordinal = 3", "said ACSC"),
    ("rejected", "UPDATE payments SET status = 'ACSC', reason = NULL WHERE tx = :row", "payment 1 is ACSC"),
    ("cancelled", "UPDATE payments SET status = 'ACSC' WHERE tx = :row", "payment 1 is ACSC"),
    ("held", "UPDATE payments SET status = 'ACSC' WHERE tx = :row", "payment 1 is ACSC"),
    ("settled", "UPDATE transactions SET client = 'c_bob' WHERE row = :row", "its client is c_bob"),
    ("rejected", "UPDATE transactions SET reason = 'AB06' WHERE row = :row", "its reason is AB06"),
    ("timed out", "UPDATE transactions SET code = NULL WHERE row = :row", "its code is not set"),
    ("rejected", "UPDATE transactions SET note = 'nothing' WHERE row = :row", "its note is nothing"),
    ("settled", "UPDATE transactions SET message_id = 'other' WHERE row = :row", "message identification"),
    ("settled", "UPDATE transactions SET payments = 7 WHERE row = :row", "number of payments"),
    ("settled", "UPDATE transactions SET definition = 'pacs.009.001.08' WHERE row = :row", "its definition is"),
    ("settled", "UPDATE transactions SET answer_due = 0 WHERE row = :row", "whether an answer is due"),
    ("answer", "UPDATE transactions SET answer_due = 1 WHERE row = :row", "whether an answer is due"),
    ("settled", "UPDATE transactions SET answer = NULL WHERE row = :row", "the definition of its answer"),
    ("settled", "UPDATE transactions SET digest = x'00' WHERE row = :row", "its message is not the one"),
    ("settled", "UPDATE transactions SET created_at = created_at - 1 WHERE row = :row", "its beginning is"),
    ("settled", "UPDATE transactions SET updated_at = updated_at + 1 WHERE row = :row", "its last change is"),
    ("redriven", "UPDATE transactions SET redriven_as = NULL WHERE row = :row", "driven again as not set"),
    ("redriven", "UPDATE transactions SET redriven_as = :id WHERE row = :row", "its events say as"),
    ("cancelled", "UPDATE transactions SET redriven_as = :id WHERE row = :row", "its events say not set"),
    ("second attempt", "UPDATE transactions SET redrive_of = NULL WHERE row = :row", "attempt 2 of nothing"),
    ("second attempt", "UPDATE transactions SET attempt = 1, redrive_of = NULL WHERE row = :row", "the attempt after"),
    ("second attempt", "UPDATE transactions SET attempt = 3 WHERE row = :row", "is not the one before it"),
    ("settled", "UPDATE transactions SET attempt = 2 WHERE row = :row", "attempt 2 of nothing"),
    ("approved", "UPDATE transactions SET approved_by = NULL WHERE row = :row", "its first approval is not set"),
    ("held", "UPDATE transactions SET approved_by = 'c_alice:eve' WHERE row = :row", "its first approval is"),
    ("held", "UPDATE transactions SET flagged = 1 WHERE row = :row", "flag"),
    ("settled", "UPDATE transactions SET due_clock = 'sla', due_at = 1 WHERE row = :row", "a clock of it still runs"),
    ("held", "UPDATE transactions SET due_clock = NULL, due_at = NULL WHERE row = :row", "it would never end"),
    ("held", "UPDATE transactions SET due_clock = 'other' WHERE row = :row", "its state cannot be read"),
    ("issued", "UPDATE transactions SET state = 'ACTC', status = 'ACTC' WHERE row = :row", "its events say ACCP"),
    ("held", "UPDATE transactions SET state = 'PDNG/check' WHERE row = :row", "PDNG (held: check)"),
    ("stopped", "UPDATE transactions SET state = 'ACSP' WHERE row = :row", "another"),
    ("rejected", "UPDATE transactions SET state = 'end', status = 'ACSC', \"end\" = 'ACSC' WHERE row = :row",
     "it is ACSC, its events say RJCT"),
    ("settled", "UPDATE transactions SET state = 'nowhere' WHERE row = :row", "its state cannot be read"),
    ("settled", "UPDATE transactions SET status = 'GONE' WHERE row = :row", "its state cannot be read"),
    ("settled", "UPDATE transactions SET version = 9 WHERE row = :row", "its version is 9"),
    ("issued", "DELETE FROM transactions WHERE row = :row", "it is missing"),
    ("settled", "DELETE FROM keys WHERE tx = :row AND kind = 'msgid'", "its key msgid is missing"),
    ("settled", "DELETE FROM keys WHERE tx = :row AND kind = 'uetr'", "its key uetr of payment 1 is missing"),
    ("part", "DELETE FROM keys WHERE tx = :row AND kind = 'txid'", "its key txid of payment 3 is missing"),
    ("fault retried", "DELETE FROM keys WHERE tx = :row", "its key msgid is missing"),
    ("settled", "UPDATE keys SET client = 'c_eve' WHERE tx = :row", "its key msgid is missing"),
    ("settled", "UPDATE bodies SET definition = 'pain.001.001.09' WHERE row = :row * 2", "its message is stored as"),
    ("settled", "UPDATE bodies SET definition = NULL WHERE row = :row * 2 + 1", "the definition of its answer"),
    ("settled", "UPDATE bodies SET digest = x'00' WHERE row = :row * 2", "another digest"),
    ("settled", "DELETE FROM bodies WHERE row = :row * 2 + 1", "has no answer"),
    ("held", "INSERT INTO bodies SELECT :row * 2 + 1, b.definition, b.digest, b.content FROM bodies b LIMIT 1",
     "has an answer already"),
    ("settled", "UPDATE events SET tx = 9999 WHERE tx = :row", "its events are 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "statement", "says"), TAMPERING)
def test_tampering_with_state_is_named(
    filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path, name: str, statement: str, says: str
) -> None:
    """Whatever is changed behind the journal's back, `audit verify` names the transaction and what differs."""
    folder, made = shutil.copytree(filled[0], tmp_path / "copy"), filled[1]
    _tamper(folder, made[name], statement)
    done = verified(folder)
    assert done.exit_code == Exit.FAILED
    told = [line for line in done.stderr.splitlines() if str(made[name]) in line]
    assert any(says in line for line in told), done.stderr


def _tamper(folder: Path, id_: UUID, statement: str) -> None:
    with closing(sqlite3.connect(folder / "interlock.db")) as db, db:
        (row,) = db.execute("SELECT row FROM transactions WHERE id = ?", (id_.bytes,)).fetchone()
        bound = {"row": row, "id": id_.bytes}
        used = {key: value for key, value in bound.items() if f":{key}" in statement}
        assert db.execute(statement, used).rowcount > 0


def test_a_transaction_without_history_is_named(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """One that was added is told of by its id; where it cannot even be read, that there is one."""
    folder, added = shutil.copytree(filled[0], tmp_path / "copy"), UUID(int=1)
    with closing(sqlite3.connect(folder / "interlock.db")) as db, db:
        db.execute("CREATE TEMP TABLE t AS SELECT * FROM transactions LIMIT 1")
        db.execute("UPDATE t SET row = 999, id = ?", (added.bytes,))
        db.execute("INSERT INTO transactions SELECT * FROM t")
    assert f"transaction {added}: history does not know it" in verified(folder).stderr
    _tamper(folder, added, "UPDATE transactions SET state = 'nowhere' WHERE row = :row")
    done = verified(folder)
    assert done.exit_code == Exit.FAILED
    assert "history does not know cannot be read" in done.stderr


def test_one_spoilt_transaction_hides_no_other(filled: tuple[Path, Mapping[str, UUID]], tmp_path: Path) -> None:
    """Faults of all are told in one run, also where one of them cannot be read."""
    folder, made = shutil.copytree(filled[0], tmp_path / "copy"), filled[1]
    for name in ("settled", "held"):
        _tamper(folder, made[name], "UPDATE transactions SET state = 'nowhere' WHERE row = :row")
    _tamper(folder, made["part"], "UPDATE payments SET amount = '1' WHERE tx = :row AND ordinal = 1")
    with closing(SqliteStore(folder / "interlock.db")) as store:
        found = list(faults(store))
    assert [any(str(made[name]) in fault for fault in found) for name in ("settled", "held", "part")] == [True] * 3
    assert len(found) == 3
