"""The independent checker: a sound run passes, and every fault that is planted in one is named."""

# ruff: noqa: E501, S608 - a sentence is easiest compared in one piece; statements that tamper are put together here

import ast
import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import structlog.testing
from psycopg import sql

import checker
from checker import databases, log, timeline
from checker.__main__ import main
from checker.evidence import (
    INCARNATIONS,
    Body,
    Database,
    Event,
    Evidence,
    Key,
    Payment,
    Span,
    Takeover,
    Transaction,
)
from checker.history import GENESIS
from checker.log import Call, ClientLog, Receipt, ReceiverLog, Unreadable, What
from checker.report import Report, judge
from checker.timeline import Deed, Moment, Timeline
from tests.contracts.tampering import filled
from tests.postgres import NewDatabase
from tests.world import ALICE, BOB, SLA, PostgresPlace

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "src/interlock/stores/sql/postgres/migrations/0001_initial.sql"
#: Seconds since 1970 when a run begins.
START = 1_800_000_000
A, B = 0, 1
NAMES = {"a": A, "b": B}
#: Under which the taker decides.
TAKEN = 1_000_000


def tx(number: int, home: int = A) -> UUID:
    """An id of a region's making."""
    return UUID(int=(START * 1000 + number) << 80 | 7 << 76 | 2 << 62 | number << 8 | home)


def uetr(number: int) -> str:
    """Of the payment in that transaction."""
    return str(UUID(int=number << 64 | 4 << 76 | 2 << 62))


def digest(of: str) -> bytes:
    """SHA-256 of a text."""
    return sha256(of.encode()).digest()


class Run:
    """A run of two regions as it should be, to be spoilt: each region's tables, the logs, the timeline."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, list[Any]]] = {
            name: {kind: [] for kind in ("transactions", "events", "payments", "bodies", "takeovers", "keys")}
            for name in NAMES
        }
        self.heads: dict[int, Span] = {}
        self.calls: list[Call] = []
        self.receipts: list[Receipt] = []
        self.timeline: list[Moment] = []
        self.sla: dict[str, float] = {"*": 30.0}
        self.now = START + 1000.0

    def put(self, table: str, *rows: object) -> None:
        """In both regions."""
        for region in self.tables.values():
            region[table].extend(rows)

    def event(
        self,
        id_: UUID,
        seq: int,
        kind: str,
        state: str,
        status: str,
        end: str | None = None,
        *,
        at: float,
        by: int | None = None,
        **more: object,
    ) -> None:
        """The next one of a region's only journal; at: seconds after the start."""
        region = id_.int & 0xFF if by is None else by
        said: dict[str, object] = {"tx": id_.hex, "seq": seq, "kind": kind, "at": int((START + at) * 1e6)}
        said |= {"actor": "interlock", "state": state, "status": status}
        said |= {"epoch": TAKEN} if region != id_.int & 0xFF else {}
        self._append(id_, seq, region, json.dumps(said | ({"end": end} if end else {}) | more).encode())

    def _append(self, id_: UUID, seq: int, region: int, content: bytes) -> None:
        head = self.heads.get(region, Span(writer=0, journal=1, first=0, last=0, previous=b"", hash=GENESIS))
        place, hash_ = head.last + 1, sha256(head.hash + content).digest()
        writer = region * INCARNATIONS + 1
        self.put("events", Event.read(id_, seq, writer, 1, place, content, head.hash, hash_))
        self.heads[region] = Span(writer=writer, journal=1, first=place, last=place, previous=hash_, hash=hash_)

    def inherit(self, id_: UUID) -> None:
        """Region b writes what a transaction has been through so far again, as its own."""
        for event in [event for event in self.tables["b"]["events"] if event.tx == id_]:
            self._append(id_, event.seq, B, event.content)

    def begun(self, id_: UUID, number: int, *, at: float) -> None:
        """Issued and received, with its payment's rows."""
        home = id_.int & 0xFF
        self.event(id_, 1, "IdIssued", "ACCP", "ACCP", at=at)
        self.event(id_, 2, "Received", "ACTC", "ACTC", at=at, bodies=[digest(f"message {number}").hex()])
        self.put(
            "bodies", Body(tx=id_, kind=0, writer=home * INCARNATIONS + 1, seq=2, digest=digest(f"message {number}"))
        )
        self.row(id_, number, 2, "ACTC", "ACTC", due_at=int((START + at + 30) * 1e6))
        self.put("keys", Key(client="c1", kind="uetr", value=uetr(number), region=home, tx=id_, payment=1))

    def row(self, id_: UUID, number: int, version: int, state: str, status: str, **more: Any) -> None:
        """One region's row of a transaction, in place of the one that it had, and its payment's."""
        region = more.setdefault("region", id_.int & 0xFF)
        for table in (kinds["transactions"] for kinds in self.tables.values()):
            table[:] = [row for row in table if (row.id, row.region) != (id_, region)]
        for table in (kinds["payments"] for kinds in self.tables.values()):
            table[:] = [row for row in table if (row.tx, row.region) != (id_, region)]
        known: dict[str, Any] = {
            "client": "c1", "epoch": 1, "route": "main", "end": None, "due_at": None,
            "definition": "pacs.008.001.08", "payments": 1, "digest": digest(f"message {number}"), "answer_due": True,
            "answer_digest": None, "attempt": 1, "redrive_of": None,
        }  # fmt: skip
        self.put("transactions", Transaction(id=id_, version=version, state=state, status=status, **(known | more)))
        paid = Payment(tx=id_, ordinal=1, region=region, end_to_end_id=f"E2E{number}", uetr=uetr(number), status=status)
        self.put("payments", paid)

    def ended(
        self, id_: UUID, number: int, end: str, *, seq: int, at: float, by: int | None = None, **row: Any
    ) -> None:
        """The end with its answer."""
        region = id_.int & 0xFF if by is None else by
        because = {"ACSC": "Settled", "CANC": "TakenOverCancel", "RJCT": "Refused"}[end]
        answer = digest(f"answer {number}")
        said = {"because": because, "bodies": [answer.hex()]}
        if region != id_.int & 0xFF:
            self.inherit(id_)
        self.event(id_, seq, "Ended", "end", end, end, at=at, by=by, **said)
        self.put("bodies", Body(tx=id_, kind=1, writer=region * INCARNATIONS + 1, seq=seq, digest=answer))
        self.row(id_, number, seq, "end", end, end=end, region=region, answer_digest=answer, **row)

    def call(self, what: What, number: int, *, region: str = "a", **more: Any) -> None:
        """A line of the only client's log."""
        known = {"message": f"MSG{number}", "uetr": uetr(number)} | more
        place = f"c1.jsonl:{len(self.calls) + 1}"
        self.calls.append(Call(place=place, at=START + 0.5, client="c1", what=what, region=region, **known))

    def settled(self, number: int, *, at: float = 0.0, took: float = 1.0) -> UUID:
        """A message that was sent to region a, acknowledged, settled there and answered."""
        id_ = tx(number)
        self.begun(id_, number, at=at)
        self.ended(id_, number, "ACSC", seq=3, at=at + took)
        self.call(What.SENT, number, digest=digest(f"message {number}").hex())
        self.call(What.ACKNOWLEDGED, number, transaction=id_, replicated=True, fencing="strict")
        self.call(What.ANSWERED, number, transaction=id_, status="ACSC", digest=digest(f"answer {number}").hex())
        return id_

    def taken_over(self, number: int, *, at: float) -> UUID:
        """One that was in flight when region a died, and that region b has cancelled."""
        id_ = tx(number)
        self.begun(id_, number, at=at)
        self.call(What.SENT, number, digest=digest(f"message {number}").hex())
        self.call(What.ACKNOWLEDGED, number, transaction=id_, replicated=False, consistency="available")
        self.ended(id_, number, "CANC", seq=3, at=at + 5, by=B, epoch=TAKEN)
        return id_

    def redriven(self, number: int, of: UUID, root: int) -> UUID:
        """The next attempt of a payment that came to nothing, settled in region b."""
        id_ = tx(number, B)
        self.begun(id_, root, at=20)
        self.ended(id_, root, "ACSC", seq=3, at=21, redrive_of=of, attempt=2)
        self.call(What.REDRIVEN, root, region="b", transaction=id_, redrive_of=of, attempt=2, status="ACSC")
        return id_

    def killed(self, *, disk_lost: bool = False) -> None:
        """Region a dies 10 s after the start, b takes over, a returns at 30 s and is healthy at 32."""
        for at, deed in ((10.0, Deed.KILL), (12.0, Deed.TAKEOVER), (30.0, Deed.RETURN), (32.0, Deed.REJOINED)):
            lost = disk_lost and deed is Deed.KILL
            place = f"timeline:{len(self.timeline) + 1}"
            self.timeline.append(Moment(place=place, at=START + at, deed=deed, region="a", disk_lost=lost))
        begun, completed = (int((START + at) * 1e6) for at in (13, 15))
        self.put("takeovers", Takeover(home=A, generation=1, region=B, begun_at=begun, completed_at=completed))

    def change(self, region: str, table: str, where: Callable[[Any], bool], **to: Any) -> None:
        """Change rows of one region; without `to`, remove them."""
        rows = self.tables[region][table]
        assert any(where(row) for row in rows)
        changed = [replace(row, **to) if where(row) and to else row for row in rows if to or not where(row)]
        self.tables[region][table] = changed

    def both(self, table: str, where: Callable[[Any], bool], **to: Any) -> None:
        """The same in both."""
        for region in NAMES:
            self.change(region, table, where, **to)

    def report(self) -> Report:
        """What the checker says of it."""
        return judge(
            Evidence(
                databases=tuple(self._database(name) for name in NAMES), calls=tuple(self.calls),
                receipts=tuple(self.receipts), timeline=tuple(self.timeline), now=self.now, sla=self.sla,
            )
        )  # fmt: skip

    def _database(self, name: str) -> Database:
        rows = {
            table: {" ".join(_key(row)): str(row) for row in sorted(of, key=_key)}
            for table, of in self.tables[name].items()
        }
        tables = {table: str(sorted(of.items())) for table, of in rows.items()}
        heads = tuple(head for region, head in self.heads.items() if region == NAMES[name])
        kinds = {kind: tuple(of) for kind, of in self.tables[name].items()}
        return Database(name=name, number=NAMES[name], heads=heads, tables=tables, rows=rows, **kinds)


def _key(row: Any) -> list[str]:
    """What its table knows it by."""
    names = ("id", "tx", "seq", "kind", "ordinal", "home", "value", "region", "writer")
    return [f"{name} {getattr(row, name)}" for name in names if hasattr(row, name)]


@pytest.fixture
def run() -> Run:
    """Settled at home (1); taken over and cancelled (2), driven again and settled at the taker (3)."""
    made = Run()
    made.settled(1)
    made.redriven(3, made.taken_over(2, at=9), root=2)
    made.killed()
    return made


def told(run: Run) -> list[str]:
    """The faults as they are printed."""
    return [str(fault) for fault in run.report().faults]


# -- a sound run ------------------------------------------------------------------------------------------------------


def test_a_sound_run_holds(run: Run) -> None:
    """Nothing is amiss; the times are those from kill to the last decision, and from return to health."""
    report = run.report()
    assert told(run) == []
    assert report.holds
    assert report.line == "regions: 0 lost, 0 doubled, 1 redriven, takeover 4.0 s, rejoin 2.0 s"
    assert [span.transactions for span in report.takeovers] == [1]


def test_without_a_kill_there_are_no_times() -> None:
    """Nor are they claimed."""
    run = Run()
    run.settled(1)
    assert run.report().line == "regions: 0 lost, 0 doubled, 0 redriven, no takeover, no rejoin"


@pytest.mark.parametrize(
    ("state", "status", "cause"), [("PDNG/unknown", "PDNG", None), ("PDNG/decision", "PDNG", 9e15)]
)
def test_what_may_wait_may_wait(state: str, status: str, cause: float | None) -> None:
    """The truly unknown, and what is held for a decision whose time is not over."""
    run = Run()
    run.begun(tx(1), 1, at=0)
    run.event(tx(1), 3, "HeldForDecision", state, status, at=1)
    run.row(tx(1), 1, 3, state, status, due_at=None if cause is None else int(cause))
    run.call(What.ACKNOWLEDGED, 1, transaction=tx(1))
    assert told(run) == []


def test_an_intent_of_the_home_is_ended_by_the_taker_even_after_the_deadline() -> None:
    """The lost region may have shown the end already, so the taker has no choice; the same end twice is one end."""
    run = Run()
    run.begun(tx(1), 1, at=9)
    answer = digest("answer 1")
    run.event(tx(1), 3, "Settled", "ending", "ACTC", "ACSC", at=9.5, bodies=[answer.hex()])
    run.put("bodies", Body(tx=tx(1), kind=1, writer=1, seq=3, digest=answer))
    run.row(tx(1), 1, 3, "end", "ACSC", end="ACSC", answer_digest=answer)
    run.inherit(tx(1))
    run.event(tx(1), 4, "Ended", "end", "ACSC", "ACSC", at=9.6)  # nobody had it when the region died
    run.event(tx(1), 4, "TakenOverCancel", "end", "ACSC", "ACSC", at=60, by=B)
    run.row(tx(1), 1, 4, "end", "ACSC", end="ACSC", region=B, epoch=TAKEN, answer_digest=answer)
    run.call(What.ACKNOWLEDGED, 1, transaction=tx(1))
    run.killed()
    assert told(run) == []


def test_time_held_for_a_decision_does_not_count(run: Run) -> None:
    """The clock stands still while a consumer decides."""
    run.begun(tx(7), 7, at=0)
    run.event(tx(7), 3, "HeldForDecision", "PDNG/decision", "PDNG", at=1)
    run.event(tx(7), 4, "Accepted", "ACSP", "ACSP", at=100)
    run.ended(tx(7), 7, "ACSC", seq=5, at=101)
    assert told(run) == []


def test_available_messages_may_go_with_their_disk() -> None:
    """Told replicated: false, and the disk is lost: documented, counted apart."""
    run = Run()
    run.call(What.ACKNOWLEDGED, 1, transaction=tx(1), replicated=False, consistency="available")
    run.settled(2)
    run.killed(disk_lost=True)
    report = run.report()
    assert report.faults == ()
    assert report.excused == (tx(1),)
    assert report.line.endswith(", 1 gone with a disk before replication")


# -- planted faults ---------------------------------------------------------------------------------------------------

Plant = Callable[[Run], None]
ONE, TWO, THREE = tx(1), tx(2), tx(3, B)


def _of(id_: UUID, **also: object) -> Callable[[Any], bool]:
    """Rows of a transaction."""

    def does(row: Any) -> bool:
        whose = row.id if hasattr(row, "id") else row.tx
        return whose == id_ and all(getattr(row, name) == value for name, value in also.items())

    return does


def _removed_row(run: Run) -> None:
    run.change("b", "transactions", _of(ONE))


def _removed_everywhere(run: Run) -> None:
    for table in ("transactions", "bodies", "payments", "keys"):
        run.both(table, _of(ONE))


def _second_end(run: Run) -> None:
    run.event(TWO, 4, "Ended", "end", "ACSC", "ACSC", at=11, because="Settled")


def _goes_on(run: Run) -> None:
    run.event(ONE, 4, "Accepted", "ACSP", "ACSP", at=11)
    run.both("transactions", _of(ONE), version=4, state="ACSP", status="ACSP", end=None)


def _second_row_end(run: Run) -> None:
    run.row(ONE, 1, 3, "end", "CANC", end="CANC", region=B, epoch=0)


def _payment_ends(run: Run) -> None:
    run.put("payments", Payment(tx=ONE, ordinal=1, region=B, end_to_end_id=None, uetr=uetr(1), status="CANC"))


def _lost_answer(run: Run) -> None:
    run.change("b", "bodies", _of(ONE, kind=1))


def _no_answer(run: Run) -> None:
    run.both("transactions", _of(ONE), answer_digest=None)


def _changed_answer(run: Run) -> None:
    run.both("bodies", _of(ONE, kind=1), digest=digest("another"))
    run.both("transactions", _of(ONE), answer_digest=digest("another"))


def _two_looks(run: Run) -> None:
    run.call(What.ANSWERED, 1, region="b", transaction=ONE, status="ACSC", digest=digest("another").hex())


def _altered_event(run: Run) -> None:
    (event,) = [event for event in run.tables["b"]["events"] if (event.tx, event.seq) == (ONE, 2)]
    altered = event.content.replace(b"ACTC", b"ACSP")
    run.change("b", "events", _of(ONE, seq=2), content=altered, said=json.loads(altered))


def _replaced_event(run: Run) -> None:
    """With a hash that fits its content, but no longer the next one."""
    (event,) = [event for event in run.tables["b"]["events"] if (event.tx, event.seq) == (ONE, 2)]
    altered = event.content.replace(b"ACTC", b"ACSP")
    hash_ = sha256(event.previous + altered).digest()
    run.change("b", "events", _of(ONE, seq=2), content=altered, hash=hash_, said=json.loads(altered))


def _removed_event(run: Run) -> None:
    run.change("a", "events", _of(ONE, seq=2))


def _removed_tail(run: Run) -> None:
    run.change("b", "events", _of(THREE, seq=3))


def _doubled_place(run: Run) -> None:
    (event,) = [event for event in run.tables["a"]["events"] if (event.tx, event.seq) == (ONE, 2)]
    run.tables["a"]["events"].append(replace(event, seq=9))


def _moved_event(run: Run) -> None:
    run.change("a", "events", _of(ONE, seq=2), tx=TWO)


def _changed_message(run: Run) -> None:
    run.change("b", "bodies", _of(ONE, kind=0), digest=digest("another"))


def _no_message(run: Run) -> None:
    run.change("b", "bodies", _of(ONE, kind=0))


def _missing_message(run: Run) -> None:
    run.call(What.ACKNOWLEDGED, 9, transaction=tx(9), replicated=False)


def _missing_though_replicated(run: Run) -> None:
    run.timeline[0] = replace(run.timeline[0], disk_lost=True)
    run.call(What.ACKNOWLEDGED, 9, transaction=tx(9), replicated=True)


def _two_live_attempts(run: Run) -> None:
    run.begun(tx(8), 2, at=990)


def _settled_twice(run: Run) -> None:
    run.begun(tx(8), 2, at=40)
    run.ended(tx(8), 2, "ACSC", seq=3, at=41)


def _settled_twice_without_uetr(run: Run) -> None:
    _settled_twice(run)
    run.both("payments", lambda _: True, uetr=None)


def _settled_twice_by_redrive(run: Run) -> None:
    """Known by nothing but the first attempt."""
    run.redriven(8, THREE, root=2)
    run.both("payments", lambda _: True, uetr=None)
    run.both("keys", lambda _: True)


def _late(run: Run) -> None:
    run.settled(6, took=30.0)


def _unequal(run: Run) -> None:
    run.change("b", "payments", _of(ONE), end_to_end_id="other")


def _no_end(run: Run) -> None:
    run.begun(tx(5), 5, at=990)
    run.call(What.ACKNOWLEDGED, 5, transaction=tx(5))


def _no_clock(run: Run) -> None:
    run.begun(tx(5), 5, at=900)


def _wrong_end_seen(run: Run) -> None:
    run.call(What.ANSWERED, 1, region="b", transaction=ONE, status="RJCT")


def _unknown_end_seen(run: Run) -> None:
    run.call(What.ANSWERED, 9, transaction=tx(9), status="ACSC")


def _early_end_seen(run: Run) -> None:
    run.begun(tx(5), 5, at=999)
    run.call(What.ANSWERED, 5, transaction=tx(5), status="ACSC")


def _lost_decision(run: Run) -> None:
    run.call(What.DECIDED, 1, transaction=ONE, decision="cancel")


def _unreplicated_consistent(run: Run) -> None:
    run.call(What.ACKNOWLEDGED, 1, transaction=ONE, consistency="consistent", replicated=False)


def _other_redrive(run: Run) -> None:
    run.call(What.REDRIVEN, 1, transaction=THREE, redrive_of=ONE)


def _payment_open(run: Run) -> None:
    run.both("payments", _of(ONE), status="ACSP")


def _payment_gone(run: Run) -> None:
    run.both("payments", _of(ONE))


def _payment_settled_by_a_rejection(run: Run) -> None:
    run.both("payments", _of(TWO, region=B), status="ACSC")
    run.both("transactions", _of(THREE), redrive_of=None, payments=0)
    run.both("keys", lambda _: True)


def _stale_row(run: Run) -> None:
    run.both("transactions", _of(ONE), state="ACSP")


def _foreign_body(run: Run) -> None:
    run.both("transactions", _of(ONE), digest=digest("another"))


def _rowless(run: Run) -> None:
    run.event(tx(9), 1, "IdIssued", "ACCP", "ACCP", at=50)


def _two_takers(run: Run) -> None:
    run.put("takeovers", replace(run.tables["a"]["takeovers"][0], region=2))


def _incomplete(run: Run) -> None:
    run.both("takeovers", lambda _: True, completed_at=None)


def _undecided(run: Run) -> None:
    run.begun(tx(5), 5, at=9)
    run.inherit(tx(5))
    run.event(tx(5), 3, "TakenOverCancel", "ending", "ACTC", "CANC", at=14, by=B)


def _nobody_took_over(run: Run) -> None:
    run.timeline[:] = [replace(run.timeline[0], region="b")]


def _never_healthy(run: Run) -> None:
    del run.timeline[3]


def _unrecorded_takeover(run: Run) -> None:
    run.timeline.append(Moment(place="timeline:9", at=START + 50.0, deed=Deed.TAKEOVER, region="b"))


def _told_otherwise(run: Run) -> None:
    run.receipts.append(
        Receipt(place="hook.jsonl:1", at=START, receiver="hook", what="told", transaction=ONE, status="RJCT")
    )


def _handed(run: Run, *ids: UUID) -> None:
    for number, id_ in enumerate(ids, 1):
        receipt = Receipt(
            place=f"core.jsonl:{number}", at=START, receiver="core", what="handed", transaction=id_, uetr=uetr(2)
        )
        run.receipts.append(receipt)


def _handed_twice(run: Run) -> None:
    for id_ in (TWO, THREE):
        run.event(id_, 4, "HandedOver", "end", "ACSC" if id_ == THREE else "CANC", at=50)
    _handed(run, TWO, THREE)


def _handed_and_cancelled(run: Run) -> None:
    _handed(run, TWO)


PLANTED: Sequence[tuple[Plant, str]] = [
    (_removed_row, (f"lost: client c1 was told acknowledged by region a (c1.jsonl:2) for transaction {ONE} (MsgId MSG1, "
     f"UETR {uetr(1)}), but region b's database does not have it")),
    (_removed_row, (f"unequal: table transactions differs between regions a and b: row id {ONE} region 0 is only in "
     "region a")),
    (_removed_row, f"history: in region b's database transaction {ONE} has events, but no row"),
    (_removed_everywhere, (f"lost: client c1 was told acknowledged by region a (c1.jsonl:2) for transaction {ONE} "
     f"(MsgId MSG1, UETR {uetr(1)}), but no region's database has it")),
    (_removed_everywhere, (f"lost: client c1 saw the end ACSC of transaction {ONE} (MsgId MSG1, UETR {uetr(1)}) in "
     "region a (c1.jsonl:3), but no region's database has that transaction")),
    (_second_end, (f"doubled: transaction {TWO} of client c1 has two ends: ACSC (event 4 (Ended, journal 0.1.1) of "
     "region a) and CANC (event 3 (Ended, journal 1.1.1) of region b)")),
    (_goes_on, (f"doubled: transaction {ONE} of client c1 goes on after its end: event 4 (Accepted, journal 0.1.1) "
     "follows event 3 (Ended, journal 0.1.1)")),
    (_second_row_end, (f"doubled: transaction {ONE} of client c1 has two ends: ACSC (event 3 (Ended, journal 0.1.1) of "
     "region a) and CANC (the row of region b in region a's database)")),
    (_payment_ends, (f"doubled: transaction {ONE} of client c1 payment 1 (UETR {uetr(1)}) has two ends: ACSC (by region "
     "a) and CANC (by region b)")),
    (_lost_answer, (f"lost: the answer of transaction {ONE} of client c1 (SHA-256 {digest('answer 1').hex()[:16]}) is "
     "not in region b's database, table bodies")),
    (_no_answer, f"lost: transaction {ONE} of client c1 ended ACSC without an answer, though one is due"),
    (_changed_answer, (f"changed: client c1 saw an answer of SHA-256 {digest('answer 1').hex()[:16]} of transaction "
     f"{ONE} (MsgId MSG1, UETR {uetr(1)}) in region a (c1.jsonl:3), but the databases have "
     f"{digest('another').hex()[:16]}")),
    (_changed_answer, (f"history: the answer of transaction {ONE} of client c1 (SHA-256 {digest('another').hex()[:16]}) "
     "is not the one that its events tell of")),
    (_two_looks, (f"changed: client c1 saw two answers to transaction {ONE} (MsgId MSG1, UETR {uetr(1)}): SHA-256 "
     f"{digest('answer 1').hex()[:16]} (c1.jsonl:3) and {digest('another').hex()[:16]} (c1.jsonl:7)")),
    (_altered_event, (f"history: in region b's database event 2 (Received, journal 0.1.1) of transaction {ONE} was "
     "altered: its hash is not that of its content")),
    (_replaced_event, (f"history: in region b's database event 3 (Ended, journal 0.1.1) of transaction {ONE} does not "
     "follow what stands before it in journal 0.1.1, place 3")),
    (_removed_event, (f"history: in region a's database event 2 (Received, journal 0.1.1) of transaction {ONE} is "
     "missing: place 2 of journal 0.1.1 is empty")),
    (_removed_event, (f"history: in region a's database the row of transaction {ONE} by region a has version 3, but its "
     "events are not all there")),
    (_removed_tail, (f"history: in region b's database event 3 (Ended, journal 1.1.1) of transaction {THREE} is missing: "
     "journal 1.1.1 ends at place 5, its head says 6")),
    (_doubled_place, (f"history: in region a's database event 9 (Received, journal 0.1.1) of transaction {ONE} stands at "
     "place 2 of journal 0.1.1, as another does")),
    (_moved_event, (f"history: in region a's database event 2 (Received, journal 0.1.1) of transaction {TWO} stands "
     "where its content does not belong")),
    (_changed_message, (f"changed: client c1 was told acknowledged by region a (c1.jsonl:2) for transaction {ONE} (MsgId "
     f"MSG1, UETR {uetr(1)}), but region b's database has a message of SHA-256 {digest('another').hex()[:16]}, and sent was "
     f"{digest('message 1').hex()[:16]}")),
    (_no_message, (f"lost: client c1 was told acknowledged by region a (c1.jsonl:2) for transaction {ONE} (MsgId MSG1, "
     f"UETR {uetr(1)}), but region b's database does not have its message")),
    (_missing_message, (f"lost: client c1 was told acknowledged by region a (c1.jsonl:7) for transaction {tx(9)} (MsgId "
     f"MSG9, UETR {uetr(9)}), but no region's database has it")),
    (_missing_though_replicated, (f"lost: client c1 was told acknowledged by region a (c1.jsonl:7) for transaction "
     f"{tx(9)} (MsgId MSG9, UETR {uetr(9)}), but no region's database has it, though replicated: true was told "
     "(c1.jsonl:7) before region a lost its disk (timeline:1)")),
    (_two_live_attempts, (f"doubled: the payment of client c1 with UETR {uetr(2)} (pacs.008) has two live attempts: "
     f"transaction {THREE} (ACSC, attempt 2) and transaction {tx(8)} (ACTC, attempt 1)")),
    (_settled_twice, (f"doubled: the payment of client c1 with UETR {uetr(2)} (pacs.008) was settled twice: transaction "
     f"{THREE} (ACSC, attempt 2) and transaction {tx(8)} (ACSC, attempt 1)")),
    (_settled_twice_without_uetr, (f"doubled: the payment of client c1 with key uetr '{uetr(2)}' was settled twice: "
     f"transaction {THREE} (ACSC, attempt 2) and transaction {tx(8)} (ACSC, attempt 1)")),
    (_settled_twice_by_redrive, (f"doubled: the payment of client c1 with first attempt {TWO}, number 1 in it was settled "
     f"twice: transaction {THREE} (ACSC, attempt 2) and transaction {tx(8, B)} (ACSC, attempt 2)")),
    (_late, (f"late: transaction {tx(6)} of client c1 was settled 30.000 s after its id was issued by event 3 (Ended, "
     "journal 0.1.1) of region a; route main gives 30 s")),
    (_unequal, f"unequal: table payments differs between regions a and b: row tx {ONE} ordinal 1 region 0 is another"),
    (_no_end, (f"lost: transaction {tx(5)} of client c1 has no end: it is ACTC in region a; client c1 was told "
     "acknowledged (c1.jsonl:7)")),
    (_no_clock, (f"lost: transaction {tx(5)} of client c1 has no end: it is ACTC in region a, and no clock of it runs "
     "any more")),
    (_wrong_end_seen, (f"doubled: client c1 saw the end RJCT of transaction {ONE} (MsgId MSG1, UETR {uetr(1)}) in region "
     "b (c1.jsonl:7), but by the databases it ended ACSC")),
    (_unknown_end_seen, (f"lost: client c1 saw the end ACSC of transaction {tx(9)} (MsgId MSG9, UETR {uetr(9)}) in region "
     "a (c1.jsonl:7), but no region's database has that transaction")),
    (_early_end_seen, (f"lost: client c1 saw the end ACSC of transaction {tx(5)} (MsgId MSG5, UETR {uetr(5)}) in region a "
     "(c1.jsonl:7), but by the databases it has no end: it is ACTC")),
    (_lost_decision, (f"lost: client c1 was told that its decision cancel on transaction {ONE} (MsgId MSG1, UETR "
     f"{uetr(1)}) was taken (c1.jsonl:7), but no region's events have it")),
    (_unreplicated_consistent, ("untrue: client c1 asked region a for consistent and was told acknowledged with "
     f"replicated: false (c1.jsonl:7) for transaction {ONE} (MsgId MSG1, UETR {uetr(1)})")),
    (_other_redrive, (f"untrue: client c1 was told that transaction {THREE} (MsgId MSG1, UETR {uetr(1)}) drives {ONE} "
     f"again (c1.jsonl:7), but by the databases it drives {TWO} again")),
    (_payment_open, f"lost: transaction {ONE} ended ACSC, but a payment of it is ACSP"),
    (_payment_gone, f"lost: transaction {ONE} has 1 payments, but 0 of them are in the databases"),
    (_payment_settled_by_a_rejection, f"doubled: transaction {TWO} ended CANC, but its payments ACSC"),
    (_stale_row, (f"history: in region a's database the row of transaction {ONE} by region a says ACSP, ACSC, end ACSC, "
     "but its last one, event 3 (Ended, journal 0.1.1), says end, ACSC, ACSC")),
    (_foreign_body, (f"history: the message of transaction {ONE} of client c1 (SHA-256 {digest('another').hex()[:16]}) is "
     "not the one that its events tell of")),
    (_rowless, f"history: in region a's database transaction {tx(9)} has events, but no row"),
    (_two_takers, "doubled: region a was taken over by b and number 2 at once (generation 1)"),
    (_incomplete, "unfinished: the takeover of region a by region b (generation 1) was never completed"),
    (_undecided, (f"unfinished: transaction {tx(5)} was in flight when region a was killed (timeline:1) and was never "
     "decided by region b, which took it over")),
    (_nobody_took_over, "unfinished: region b was killed (timeline:1), and nobody has taken it over"),
    (_never_healthy, "unfinished: region a returned (timeline:3), and was not seen healthy after that"),
    (_unrecorded_takeover, ("unfinished: region b was seen to be taken over (timeline:9), but no region's database knows "
     "of it")),
    (_told_otherwise, (f"doubled: receiver hook was told the end RJCT, transaction {ONE} (hook.jsonl:1), but by the "
     "databases it ended ACSC")),
    (_handed_twice, (f"doubled: receiver core was handed a payment, transaction {THREE} (core.jsonl:2) of UETR {uetr(2)}, "
     f"and before under transaction {TWO} (core.jsonl:1)")),
    (_handed_and_cancelled, (f"doubled: receiver core was handed a payment, transaction {TWO} (core.jsonl:1), but by the "
     "databases it was cancelled")),
    (_handed_and_cancelled, (f"lost: receiver core was handed a payment, transaction {TWO} (core.jsonl:1), but no "
     "region's events tell of that")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "sentence"), PLANTED, ids=[f"{plant.__name__[1:]}-{n}" for n, (plant, _) in enumerate(PLANTED)]
)
def test_a_planted_fault_is_named(run: Run, plant: Plant, sentence: str) -> None:
    """In one sentence, with everything that it concerns."""
    plant(run)
    assert sentence in told(run)
    assert not run.report().holds


def test_transactions_are_counted_not_sentences(run: Run) -> None:
    """One lost message is one, however much evidence says so; what is neither lost nor doubled is counted beside."""
    _removed_everywhere(run)
    report = run.report()
    assert report.line.startswith("regions: 1 lost, 0 doubled, 1 redriven, takeover 4.0 s, rejoin 2.0 s, ")
    assert report.line.endswith("other faults")
    document = report.document()
    assert (document["holds"], document["lost"], document["doubled"]) == (False, 1, 0)
    first = document["faults"][0]
    assert (first["kind"], first["transaction"], first["client"], first["region"]) == ("lost", str(ONE), "c1", "a")
    assert first["evidence"] == ["c1.jsonl:2"]


def test_archived_events_are_no_gap(run: Run) -> None:
    """What is left of them links: from the run's first to the one after its last."""
    moved = [event for event in run.tables["a"]["events"] if event.tx == ONE]
    run.both("events", _of(ONE))
    run.both("transactions", _of(ONE))
    gap = Span(writer=1, journal=1, first=1, last=3, previous=moved[0].previous, hash=moved[-1].hash)
    evidence = [run._database(name) for name in NAMES]
    told_ = judge(
        Evidence(databases=tuple(replace(one, gaps=(gap,)) for one in evidence), calls=(), now=run.now)
    ).faults
    assert [str(fault) for fault in told_ if "journal" in fault.sentence] == []


# -- logs -------------------------------------------------------------------------------------------------------------


def test_a_client_reads_back_what_it_wrote(tmp_path: Path) -> None:
    """Every field, and only digests of what was sent and seen."""
    with ClientLog(tmp_path / "c1.jsonl", wall=lambda: 7.5) as written:
        written.sent("a", message="M", uetr=uetr(1), end_to_end="E", consistency="consistent", content=b"<xml/>")
        written.acknowledged("a", message="M", transaction=ONE, replicated=True, fencing="strict", status="ACTC")
        written.answered("b", transaction=str(ONE), status="ACSC", content=b"<answer/>")
        written.decided("a", transaction=ONE, decision="accept")
        written.redriven("b", transaction=THREE, redrive_of=ONE, attempt=2)
        written.refused("a", message="N", note="503")
        written.unknown("a", message="N", note="timed out")
    sent, acknowledged, answered, decided, redriven, refused, unknown = log.calls(tmp_path)
    assert (sent.place, sent.at, sent.client, sent.what, sent.region) == ("c1.jsonl:1", 7.5, "c1", What.SENT, "a")
    assert (sent.message, sent.uetr, sent.end_to_end, sent.consistency) == ("M", uetr(1), "E", "consistent")
    assert sent.digest == digest("<xml/>").hex()
    assert "<xml/>" not in (tmp_path / "c1.jsonl").read_text()
    assert (acknowledged.transaction, acknowledged.replicated, acknowledged.fencing) == (ONE, True, "strict")
    assert (answered.transaction, answered.digest) == (ONE, digest("<answer/>").hex())
    assert decided.decision == "accept"
    assert (redriven.redrive_of, redriven.attempt) == (ONE, 2)
    assert [refused.what, unknown.what] == [What.REFUSED, What.UNKNOWN]


def test_a_line_that_was_torn_is_left_out_and_ended_by_the_next_process(tmp_path: Path) -> None:
    """Nobody has acted upon it; what comes after stands on lines of its own."""
    path = tmp_path / "c1.jsonl"
    with ClientLog(path) as written:
        written.sent("a", message="M")
    with path.open("ab") as file:
        file.write(b'{"at": 1, "wh')
    assert [call.message for call in log.calls(tmp_path)] == ["M"]
    with ClientLog(path, "c1") as written:
        written.sent("a", message="N")
    assert [call.message for call in log.calls(tmp_path)] == ["M", "N"]


@pytest.mark.parametrize(
    "line", ["no JSON", "[]", '{"what": "sent"}', '{"what": "sung", "at": 1}', '{"transaction": "x"}']
)
def test_a_line_that_cannot_be_read_is_no_evidence(tmp_path: Path, line: str) -> None:
    """It is named, and nothing is concluded."""
    (tmp_path / "c1.jsonl").write_text(f"{line}\n")
    with pytest.raises(Unreadable, match=r"^c1\.jsonl:1 is no line of such a log"):
        log.calls(tmp_path)


def test_a_receiver_and_a_timeline_read_back(tmp_path: Path) -> None:
    """In the order of time."""
    with ReceiverLog(tmp_path / "core.jsonl", wall=lambda: 1.0) as written:
        written.handed(ONE, uetr(1))
        written.told(ONE, "ACSC", b"<answer/>")
    handed, told_ = log.receipts(tmp_path)
    assert (handed.receiver, handed.what, handed.transaction, handed.uetr) == ("core", "handed", ONE, uetr(1))
    assert (told_.status, told_.digest) == ("ACSC", digest("<answer/>").hex())
    times = iter([4.0, 2.0, 1.0, 3.0])
    with Timeline(tmp_path / "timeline", wall=lambda: next(times)) as history:
        history.rejoined("a")
        history.takeover("a", by="b")
        history.kill("a", number=0, disk_lost=True)
        history.returned("a")
    kill, takeover, back, rejoined = timeline.moments(tmp_path / "timeline")
    assert (kill.deed, kill.number, kill.disk_lost) == (Deed.KILL, 0, True)
    assert (takeover.deed, takeover.by, takeover.at) == (Deed.TAKEOVER, "b", 2.0)
    assert [back.deed, rejoined.deed] == [Deed.RETURN, Deed.REJOINED]


def test_it_stands_alone() -> None:
    """Whoever judges the product uses nothing of it: the standard library, and a driver."""
    imported = set()
    for path in Path(checker.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"checker", "psycopg"}


# -- real databases ---------------------------------------------------------------------------------------------------


def _columns(record: Any, **more: object) -> dict[str, object]:
    epoch = {"epoch": record.epoch} if isinstance(record, Event) else {}
    return {name: value for name, value in asdict(record).items() if name != "said"} | epoch | more


def _insert(connection: psycopg.Connection[Any], table: str, rows: Iterable[Mapping[str, object]]) -> None:
    for row in rows:
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(sql.Placeholder() * len(row)),
        )
        connection.execute(statement, list(row.values()))


#: What the product has besides, and the checker does not ask for.
_BESIDES: Mapping[str, dict[str, object]] = {
    "transactions": {"created_at": 0, "updated_at": 0, "flagged": False, "everywhere": False},
    "bodies": {"content": b"", "epoch": 1},
    "keys": {"freed": UUID(int=0)},
}


def stored(run: Run, name: str, url: str) -> None:
    """A region's tables in a real database of the product's own schema; rows in an order of their own."""
    with psycopg.connect(url) as connection:
        connection.execute(SCHEMA.read_text().encode())
        _insert(connection, "region", [{"number": NAMES[name], "incarnation": 1, "server": "one"}])
        for head in run.heads.values():
            if head.writer // INCARNATIONS == NAMES[name]:
                place = {"writer": head.writer, "journal": 1, "chain_seq": head.last, "chain_hash": head.hash}
                _insert(connection, "journals", [{**place, "lease_until": "now"}])
        for table, rows in run.tables[name].items():
            local = {"claim": NAMES[name]} if table == "transactions" else {}
            mixed = random.Random(name).sample(rows, len(rows))
            _insert(connection, table, [_columns(row, **_BESIDES.get(table, {}), **local) for row in mixed])


@pytest.fixture
def written(run: Run, tmp_path: Path, new_database: NewDatabase) -> tuple[list[str], dict[str, str]]:
    """The sound run on disk: the words of the command, and the databases."""
    urls = {name: new_database() for name in NAMES}
    for name, url in urls.items():
        stored(run, name, url)
    with log.Lines(tmp_path / "logs" / "c1.jsonl") as lines:
        for call in run.calls:
            lines.write({name: value for name, value in asdict(call).items() if name != "place"})
    with log.Lines(tmp_path / "timeline") as lines:
        for moment in run.timeline:
            lines.write({name: value for name, value in asdict(moment).items() if name != "place"})
    words = ["--logs", str(tmp_path / "logs"), "--timeline", str(tmp_path / "timeline"), "--sla", "main=30"]
    return [*words, *(f"--database={name}={url}" for name, url in urls.items())], urls


Written = tuple[list[str], dict[str, str]]


def test_the_command_reads_real_databases(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict is its last line; which process has a row in hand is a region's own matter."""
    assert main(written[0]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "regions: 0 lost, 0 doubled, 1 redriven, takeover 4.0 s, rejoin 2.0 s"
    assert (
        lines[-2]
        == "looked at: 2 databases, 3 transactions, 11 events; 3 acknowledged transactions of 1 clients in 6 lines"
    )
    assert main([*written[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holds"]


@pytest.mark.parametrize(
    ("region", "statement", "sentence"),
    [
        (
            "b",
            f"DELETE FROM transactions WHERE id = '{ONE}'",
            (f"for transaction {ONE} (MsgId MSG1, UETR {uetr(1)}), but region b's database does not have it"),
        ),
        ("b", f"DELETE FROM bodies WHERE tx = '{ONE}' AND kind = 1", "is not in region b's database, table bodies"),
        (
            "a",
            f"UPDATE bodies SET content = 'x' WHERE tx = '{ONE}' AND kind = 1",
            (
                "unequal: table bodies differs between "
                f"regions a and b: row tx {ONE}, kind 1, writer 1, seq 3 is another"
            ),
        ),
        (
            "b",
            (
                "UPDATE events SET content = replace(encode(content, 'escape'), 'ACTC', 'ACSP')::bytea "
                f"WHERE tx = '{ONE}' AND seq = 2"
            ),
            f"event 2 (Received, journal 0.1.1) of transaction {ONE} was altered",
        ),
        (
            "b",
            f"DELETE FROM events WHERE tx = '{THREE}' AND seq = 3",
            (
                f"event 3 (Ended, journal 1.1.1) of transaction "
                f"{THREE} is missing: journal 1.1.1 ends at place 5, its head says 6"
            ),
        ),
        (
            "a",
            "INSERT INTO keys VALUES ('c1', 'ref', 'R', gen_random_uuid(), 0, gen_random_uuid(), 0)",
            ("unequal: table keys differs between regions a and b: row client c1, kind ref, value R, freed "),
        ),
        (
            "b",
            "INSERT INTO clients VALUES ('c9', 1, 'nine', '', '', 0, NULL, 0)",
            ("unequal: table clients differs between regions a and b: row id c9, region 1 is only in region b"),
        ),
    ],
)
def test_the_command_names_what_is_wrong_in_real_databases(
    written: Written, capsys: pytest.CaptureFixture[str], region: str, statement: str, sentence: str
) -> None:
    """And its exit code says so."""
    words, urls = written
    with psycopg.connect(urls[region], autocommit=True) as connection:
        assert connection.execute(statement.encode()).rowcount == 1
    assert main(words) == 1
    assert sentence in capsys.readouterr().out


def test_what_need_not_be_the_same_may_differ(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """If the caller says so."""
    words, urls = written
    with psycopg.connect(urls["b"], autocommit=True) as connection:
        connection.execute("INSERT INTO clients VALUES ('c9', 1, 'nine', '', '', 0, NULL, 0)")
    assert main([*words, "--local", "clients"]) == 0
    assert "unequal" not in capsys.readouterr().out


def test_patience_waits_for_the_last_rows(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is still on its way is no fault once it has come."""
    words, urls = written
    with psycopg.connect(urls["a"], autocommit=True) as ahead, psycopg.connect(urls["b"], autocommit=True) as behind:
        row = "INSERT INTO clients VALUES ('c9', 0, 'nine', '', '', 0, NULL, 0)"
        ahead.execute(row)
        monkeypatch.setattr("checker.__main__.time.sleep", lambda _: behind.execute(row))
        assert main([*words, "--patience", "60"]) == 0


@pytest.mark.parametrize("spoil", ["log", "no log", "database", "timeline"])
def test_what_proves_nothing_is_no_success(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    """Exit code 2, and why."""
    words, urls = written
    if spoil == "log":
        (tmp_path / "logs" / "c2.jsonl").write_text("no line\n")
    elif spoil == "no log":
        (tmp_path / "logs" / "c1.jsonl").unlink()
    elif spoil == "database":
        with psycopg.connect(urls["a"], autocommit=True) as connection:
            connection.execute("DROP TABLE events")
    else:
        (tmp_path / "timeline").unlink()
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("nothing was checked: ")


def test_what_the_product_itself_has_written_holds(
    postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real rows of every kind of transaction, with the answers that their clients would have seen."""
    with structlog.testing.capture_logs():
        made = asyncio.run(filled(PostgresPlace(postgres_url)))
    capsys.readouterr()
    (database,) = databases.read({"a": postgres_url})
    rows = {row.id: row for row in database.transactions}
    logs = {name: log.Lines(tmp_path / f"{name}.jsonl") for name in (ALICE, BOB)}
    for name, id_ in made.items():
        row = rows[id_]
        known = {"at": 0.0, "client": row.client, "region": "a", "transaction": id_}
        if name not in {"issued", "timed out", "stopped", "fault"}:
            logs[row.client].write(known | {"what": What.ACKNOWLEDGED})
        if row.answer_digest is not None:
            seen = {"what": What.ANSWERED, "status": row.end, "digest": row.answer_digest.hex()}
            logs[row.client].write(known | seen)
    for file in logs.values():
        file.close()
    words = ["--logs", str(tmp_path), f"--database=a={postgres_url}", f"--sla={SLA.total_seconds()}"]
    assert main(words) == 0
    looked_at, verdict = capsys.readouterr().out.splitlines()
    assert looked_at.startswith("looked at: 1 databases, 23 transactions, ")
    assert verdict == "regions: 0 lost, 0 doubled, 1 redriven, no takeover, no rejoin"


def test_it_runs_as_a_command(written: Written) -> None:
    """From anywhere that has it and a driver; the exit code is the verdict."""
    command = [sys.executable, "-m", "checker", *written[0]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("regions: 0 lost, 0 doubled, 1 redriven, takeover 4.0 s, rejoin 2.0 s\n")
