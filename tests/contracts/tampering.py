"""What somebody with access to the database can do to history and state, the same on every back end, and what is said.

`HISTORY` is done to a chain of twelve events, two for each of six transactions; `STATE` to a store that `filled` made.
"""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import apsw
import psycopg
import pytest

from interlock import chain
from interlock.decisions import DecisionKind
from interlock.iso20022.codes import HeldCause, Status
from interlock.lifecycle import State
from interlock.ports import ControlScope
from tests.messages import Transfer, pacs002, pacs008
from tests.world import ALICE, AUTO, BOB, CONSUMER, FOUR_EYES, HOLDING, SLA, Place, a_world

BAD = Transfer(debtor_iban="DE00370400440532013000")
LATER = timedelta(minutes=5)


class Target(Protocol):
    """A store's tables, to be changed behind its back."""

    #: Table that says where a chain ends, and columns that events have besides those of all back ends.
    heads: str
    more: str

    def change(self, statement: str, *bindings: object) -> int:
        """Do it; how many rows were changed. Each `?` stands for a value."""
        ...

    def event(self, seq: int) -> tuple[bytes, bytes, bytes]:
        """Content, previous and hash of an event by its place in the chain."""
        ...

    def words(self, transaction: UUID) -> dict[str, str]:
        """What stands between the braces of `STATE`."""
        ...


def tamper(target: Target, transaction: UUID, statement: str) -> None:
    """Do something to the rows of a transaction, with words between braces."""
    assert target.change(statement.format(**target.words(transaction))) > 0


class SqliteTarget:
    """A file."""

    heads, more = "writer", ""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _run(self, statement: str, bindings: tuple[object, ...]) -> tuple[int, list[tuple[Any, ...]]]:
        with closing(apsw.Connection(str(self._path))) as db:
            rows = db.execute(statement, bindings or None).fetchall()
            return db.changes(), rows

    def change(self, statement: str, *bindings: object) -> int:
        """On a connection of its own."""
        return self._run(statement, bindings)[0]

    def event(self, seq: int) -> tuple[bytes, bytes, bytes]:
        """By its row's number."""
        ((content, previous, hash_),) = self._run(
            "SELECT content, previous, hash FROM events WHERE chain_seq = ?", (seq,)
        )[1]
        return content, previous, hash_

    def words(self, transaction: UUID) -> dict[str, str]:
        """Everything of a transaction stands under the number of its row."""
        id_ = f"x'{transaction.hex}'"
        ((row,),) = self._run("SELECT row FROM transactions WHERE id = ?", (transaction.bytes,))[1]
        return {
            "id": id_, "tx": str(row), "it": f"row = {row}", "inbox": f"row = {row} * 2",
            "outbox": f"row = {row} * 2 + 1", "other_id": f"x'{OTHER.hex}'", "other_tx": "9999", "yes": "1", "no": "0",
            "zero": "x'00'", "region": "", "body": "row, ", "answer": f"{row} * 2 + 1, ",
        }  # fmt: skip


class PostgresTarget:
    """A database."""

    heads, more = "journals", ", journal, epoch"

    def __init__(self, url: str) -> None:
        self._url = url

    def _run(self, statement: str, bindings: tuple[object, ...]) -> psycopg.Cursor[tuple[Any, ...]]:
        with psycopg.connect(self._url, autocommit=True, cursor_factory=psycopg.ClientCursor) as db:
            return db.execute(statement.replace("?", "%s").encode(), bindings or None)

    def change(self, statement: str, *bindings: object) -> int:
        """On a connection of its own."""
        return self._run(statement, bindings).rowcount

    def event(self, seq: int) -> tuple[bytes, bytes, bytes]:
        """Of the one journal that there is."""
        ((content, previous, hash_),) = self._run(
            "SELECT content, previous, hash FROM events WHERE chain_seq = ?", (seq,)
        ).fetchall()
        return content, previous, hash_

    def words(self, transaction: UUID) -> dict[str, str]:
        """Everything of a transaction stands under its id."""
        id_ = f"'{transaction}'"
        return {
            "id": id_, "tx": id_, "it": f"id = {id_}", "inbox": f"tx = {id_} AND kind = 0",
            "outbox": f"tx = {id_} AND kind = 1", "other_id": f"'{OTHER}'", "other_tx": f"'{OTHER}'", "yes": "true",
            "no": "false", "zero": "'\\x00'", "region": ", region", "body": "tx, kind, writer, seq, epoch, ",
            "answer": f"{id_}, 1, writer, 99, 1, ",
        }  # fmt: skip


#: A transaction that there is not.
OTHER = UUID(int=(7 << 76) | (2 << 62) | 0x999900)


# -- history ----------------------------------------------------------------------------------------------------------


def _put(target: Target, seq: int, **columns: bytes) -> None:
    names = ", ".join(f"{name} = ?" for name in columns)
    assert target.change(f"UPDATE events SET {names} WHERE chain_seq = ?", *columns.values(), seq) == 1  # noqa: S608


def _forged(target: Target, seq: int, old: bytes, new: bytes) -> tuple[bytes, bytes]:
    """Another content for an event, and a hash that fits."""
    content, previous, _ = target.event(seq)
    forged = content.replace(old, new)
    assert forged != content
    return forged, chain.link(previous, forged)


def _insert(target: Target, seq: int) -> None:
    """A copy of the last event at another place, linked to it as it should be."""
    content, _, previous = target.event(12)
    target.change(
        f"INSERT INTO events (tx, seq, writer, chain_seq, content, previous, hash{target.more}) "  # noqa: S608
        f"SELECT tx, seq + 1, writer, ?, content, ?, ?{target.more} FROM events WHERE chain_seq = 12",
        seq, previous, chain.link(previous, content),
    )  # fmt: skip


def touch_content(target: Target) -> None:
    _put(target, 3, content=_forged(target, 3, b"c_alice", b"c_alicf")[0])


def touch_time(target: Target) -> None:
    _put(target, 9, content=_forged(target, 9, b'"at":', b'"at":1')[0])


def touch_hash(target: Target) -> None:
    _put(target, 4, hash=bytes(32))


def touch_previous(target: Target) -> None:
    _put(target, 5, previous=bytes(32))


def rehash_content(target: Target) -> None:
    """A careful forger makes the hash fit the altered content; the next event tells."""
    content, hash_ = _forged(target, 3, b"c_alice", b"c_alicf")
    _put(target, 3, content=content, hash=hash_)


def rehash_last(target: Target) -> None:
    """The last event has none after it; the head tells."""
    content, hash_ = _forged(target, 12, b"ACTC", b"ACSP")
    _put(target, 12, content=content, hash=hash_)


def remove_middle(target: Target) -> None:
    target.change("DELETE FROM events WHERE chain_seq = 6")


def remove_first(target: Target) -> None:
    target.change("DELETE FROM events WHERE chain_seq = 1")


def remove_last(target: Target) -> None:
    target.change("DELETE FROM events WHERE chain_seq = 12")


def remove_all(target: Target) -> None:
    target.change("DELETE FROM events")


def close_gap(target: Target) -> None:
    """An event is taken out and the later ones are moved up."""
    target.change("DELETE FROM events WHERE chain_seq = 6")
    target.change("UPDATE events SET chain_seq = chain_seq - 1 WHERE chain_seq > 6")


def swap(target: Target) -> None:
    """Two events change places."""
    for one, other in ((4, 1000), (5, 4), (1000, 5)):
        target.change("UPDATE events SET chain_seq = ? WHERE chain_seq = ?", other, one)


def swap_contents(target: Target) -> None:
    """Two events keep their places and exchange what they say."""
    four, five = target.event(4)[0], target.event(5)[0]
    _put(target, 4, content=five)
    _put(target, 5, content=four)


def add_after(target: Target) -> None:
    """One more, linked to the last as it should be; the head does not know it."""
    _insert(target, 13)


def add_far_after(target: Target) -> None:
    """Where nobody would look."""
    _insert(target, 1_000_000)


def add_before(target: Target) -> None:
    """Before the first there is none."""
    _insert(target, 0)


def lower_head(target: Target) -> None:
    """The head is set back to an event before the last."""
    target.change(f"UPDATE {target.heads} SET chain_seq = 10, chain_hash = ?", target.event(10)[2])  # noqa: S608


def touch_head(target: Target) -> None:
    target.change(f"UPDATE {target.heads} SET chain_hash = ?", bytes(32))  # noqa: S608


def forget_head(target: Target) -> None:
    """Without its head nobody would walk the chain."""
    target.change(f"UPDATE {target.heads} SET chain_seq = 0")  # noqa: S608


#: What is done, and what is said of it.
HISTORY: list[tuple[Callable[[Target], None], str]] = [
    (touch_content, "event 3 was altered"),
    (touch_time, "event 9 was altered"),
    (touch_hash, "event 4 was altered"),
    (touch_previous, "event 5 was altered"),
    (rehash_content, "event 4 does not follow event 3"),
    (rehash_last, "the end is missing or was replaced"),
    (remove_middle, "events 6 to 6 are missing"),
    (remove_first, "events 1 to 1 are missing"),
    (remove_last, "ends at event 11, its head says 12"),
    (remove_all, "ends at event 0, its head says 12"),
    (close_gap, "event 6 does not follow event 5"),
    (swap, "event 4 does not follow event 3"),
    (swap_contents, "event 4 was altered"),
    (add_after, "event 13 is beyond its head (12)"),
    (add_far_after, "event 1000000 is beyond its head (12)"),
    (add_before, "event 0 has no place in a chain"),
    (lower_head, "event 11 is beyond its head (10)"),
    (touch_head, "the end is missing or was replaced"),
    (forget_head, "its head is missing"),
]


# -- state ------------------------------------------------------------------------------------------------------------


def _fail(*_: object) -> None:
    raise ZeroDivisionError("a mistake of ours")


async def filled(place: Place) -> dict[str, UUID]:
    """Fill a place with every kind of transaction; their ids by kind."""
    made = {}
    async with a_world(place, AUTO) as world:
        submit, content = world.workflow.receiving.submit, pacs008()
        made["settled"] = (await submit(ALICE, content, reference="mine")).id
        made["double"] = (await submit(ALICE, content)).id
        made["part"] = (await submit(ALICE, pacs008(Transfer(), BAD, Transfer(uetr=None)))).id
        made["rejected"] = (await submit(ALICE, pacs008(BAD))).id
        made["broken"] = (await submit(ALICE, b"<not closed")).id
        made["large"] = (await submit(ALICE, pacs008() + b" " * world.settings.limits.bytes_max)).id
        made["answer"] = (await submit(ALICE, pacs002())).id
        made["two calls"] = (await world.workflow.receiving.issue(BOB)).id
        for _ in range(2):  # the second time is recorded and changes nothing
            await world.workflow.receiving.receive(BOB, made["two calls"], content)
        made["timed out"] = (await world.workflow.receiving.issue(ALICE)).id
        world.hand.go(SLA)
        assert await world.fire() == 1
    async with a_world(place, CONSUMER) as world:
        world.hand.go(LATER)
        held, cancelled, driven = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(3)]
        made |= {"held": held.id, "cancelled": cancelled.id, "redriven": driven.id}
        for transaction in (cancelled, driven):
            await world.decide(transaction, DecisionKind.CANCEL)
        again = await world.workflow.driving.again(ALICE, driven.id, "operator:o")
        made["second attempt"] = (await world.decide(again, DecisionKind.ACCEPT)).id
        # Some payments of these have ended by themselves.
        some, divided, lost = [
            await world.workflow.receiving.submit(ALICE, pacs008(*(Transfer(), Transfer()))) for _ in range(3)
        ]
        made |= {"some": some.id, "divided": divided.id, "cancelled one by one": lost.id}
        for transaction in (some, divided, lost):
            await world.decide(transaction, DecisionKind.CANCEL, 1, note="not this one")
        await world.decide(divided, DecisionKind.ACCEPT)
        await world.decide(lost, DecisionKind.REJECT, 2)
    async with a_world(place, FOUR_EYES) as world:
        world.hand.go(LATER)
        once, twice = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(2)]
        made |= {"approved": once.id, "approved twice": twice.id}
        for transaction, actor in ((once, "anna"), (twice, "anna"), (twice, "bert")):
            await world.decide(transaction, DecisionKind.ACCEPT, actor=f"{ALICE}:{actor}")
    async with a_world(place, HOLDING) as world:
        world.hand.go(LATER)
        await world.control(ControlScope.CLIENT, BOB, stopped=True)
        made["stopped"] = (await world.workflow.receiving.submit(BOB, pacs008())).id
        made["issued"] = (await world.workflow.receiving.issue(ALICE)).id
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("interlock.stages.process.run", _fail)
            failed = [await world.workflow.receiving.submit(ALICE, pacs008()) for _ in range(3)]
        made |= dict(zip(("fault", "fault cancelled", "fault retried"), (t.id for t in failed), strict=True))
        await world.decide(failed[1], DecisionKind.CANCEL)
        await world.decide(failed[2], DecisionKind.RETRY, actor="operator:o")
        ends = {name: world.verify(id_).standing for name, id_ in made.items()}
        assert {standing.end for standing in ends.values()} == {None, Status.ACSC, Status.RJCT, Status.CANC}
        assert ends["stopped"].state is State.ACTC
        assert ends["fault"].cause is HeldCause.FAULT
        assert ends["fault retried"].end is Status.ACSC
    return made


_PAYMENT = (
    "INSERT INTO payments (tx, ordinal, status{region}) SELECT tx, 2, status{region} FROM payments WHERE tx = {tx}"
)
_BODY = (
    "INSERT INTO bodies ({body}definition, digest, content) SELECT {answer}definition, digest, content "
    "FROM bodies LIMIT 1"
)
_ANOTHER = (
    "UPDATE bodies SET content = (SELECT max(content) FROM bodies WHERE definition = 'admi.002.001.01') WHERE {outbox}"
)

#: Which transaction, what is done to it, and what is said of it.
STATE = [
    ("settled", "UPDATE payments SET amount = '1.00' WHERE tx = {tx}", "amount"),
    ("settled", "UPDATE payments SET amount = 'much' WHERE tx = {tx}", "a payment of it cannot be read"),
    ("settled", "UPDATE payments SET currency = 'USD' WHERE tx = {tx}", "currency"),
    ("settled", "UPDATE payments SET uetr = 'other' WHERE tx = {tx}", "uetr"),
    ("settled", "UPDATE payments SET end_to_end_id = 'other' WHERE tx = {tx}", "end_to_end_id"),
    ("settled", "UPDATE payments SET status = 'RJCT', reason = 'AC04' WHERE tx = {tx}", "none of its payments is"),
    ("settled", "UPDATE payments SET status = 'PDNG' WHERE tx = {tx}", "payment 1 is PDNG"),
    ("settled", "UPDATE payments SET status = 'GONE' WHERE tx = {tx}", "a payment of it cannot be read"),
    ("settled", "UPDATE payments SET reason = 'AC04' WHERE tx = {tx}", "another reason"),
    ("settled", "DELETE FROM payments WHERE tx = {tx}", "it holds 0 payments"),
    ("settled", _PAYMENT, "holds 2 payments"),
    ("part", "UPDATE payments SET status = 'ACSC', reason = NULL WHERE tx = {tx} AND ordinal = 2", "the answer said"),
    ("part", "UPDATE payments SET status = 'RJCT', reason = 'AC04' WHERE tx = {tx} AND ordinal = 3", "said ACSC"),
    ("part", "UPDATE payments SET ordinal = ordinal + 1 WHERE tx = {tx} AND ordinal = 3", "numbered otherwise"),
    ("rejected", "UPDATE payments SET status = 'ACSC', reason = NULL WHERE tx = {tx}", "payment 1 is ACSC"),
    ("cancelled", "UPDATE payments SET status = 'ACSC' WHERE tx = {tx}", "payment 1 is ACSC"),
    ("held", "UPDATE payments SET status = 'ACSC' WHERE tx = {tx}", "payment 1 is ACSC"),
    ("some", "UPDATE payments SET status = 'PDNG' WHERE tx = {tx} AND ordinal = 1", "ended as CANC by itself"),
    ("some", "UPDATE payments SET reason = 'AC04' WHERE tx = {tx} AND ordinal = 1", "another reason or note"),
    ("some", "UPDATE payments SET status = 'CANC' WHERE tx = {tx} AND ordinal = 2", "payment 2 is CANC"),
    ("divided", "UPDATE payments SET status = 'ACSC' WHERE tx = {tx} AND ordinal = 1", "ended as CANC by itself"),
    ("divided", "UPDATE payments SET note = 'none' WHERE tx = {tx} AND ordinal = 1", "another reason or note"),
    ("divided", "UPDATE payments SET status = 'CANC' WHERE tx = {tx} AND ordinal = 2", "payment 2 is CANC"),
    ("cancelled one by one", "UPDATE payments SET status = 'CANC' WHERE tx = {tx}", "payment 2 is CANC"),
    ("settled", "UPDATE transactions SET client = 'c_bob' WHERE {it}", "its client is c_bob"),
    ("rejected", "UPDATE transactions SET reason = 'AB06' WHERE {it}", "its reason is AB06"),
    ("timed out", "UPDATE transactions SET code = NULL WHERE {it}", "its code is not set"),
    ("rejected", "UPDATE transactions SET note = 'nothing' WHERE {it}", "its note is nothing"),
    ("settled", "UPDATE transactions SET message_id = 'other' WHERE {it}", "message identification"),
    ("settled", "UPDATE transactions SET payments = 7 WHERE {it}", "number of payments"),
    ("settled", "UPDATE transactions SET definition = 'pacs.009.001.08' WHERE {it}", "its definition is"),
    ("settled", "UPDATE transactions SET answer_due = {no} WHERE {it}", "whether an answer is due"),
    ("answer", "UPDATE transactions SET answer_due = {yes} WHERE {it}", "whether an answer is due"),
    ("settled", "UPDATE transactions SET answer = NULL WHERE {it}", "the definition of its answer"),
    ("settled", "UPDATE transactions SET digest = {zero} WHERE {it}", "its message is not the one"),
    ("settled", "UPDATE transactions SET created_at = created_at - 1 WHERE {it}", "its beginning is"),
    ("settled", "UPDATE transactions SET updated_at = updated_at + 1 WHERE {it}", "its last change is"),
    ("redriven", "UPDATE transactions SET redriven_as = NULL WHERE {it}", "driven again as not set"),
    ("redriven", "UPDATE transactions SET redriven_as = {id} WHERE {it}", "its events say as"),
    ("cancelled", "UPDATE transactions SET redriven_as = {id} WHERE {it}", "its events say not set"),
    ("second attempt", "UPDATE transactions SET redrive_of = NULL WHERE {it}", "attempt 2 of nothing"),
    ("second attempt", "UPDATE transactions SET redrive_of = {id} WHERE {it}", "is not the one before it"),
    ("redriven", "UPDATE transactions SET attempt = 2 WHERE {it}", "the attempt after"),
    ("second attempt", "UPDATE transactions SET attempt = 3 WHERE {it}", "is not the one before it"),
    ("settled", "UPDATE transactions SET attempt = 2 WHERE {it}", "attempt 2 of nothing"),
    ("approved", "UPDATE transactions SET approved_by = NULL WHERE {it}", "its first approval is not set"),
    ("held", "UPDATE transactions SET approved_by = 'c_alice:eve' WHERE {it}", "its first approval is"),
    ("held", "UPDATE transactions SET flagged = {yes} WHERE {it}", "flag"),
    ("settled", "UPDATE transactions SET due_clock = 'sla', due_at = 1 WHERE {it}", "a clock of it still runs"),
    ("held", "UPDATE transactions SET due_clock = NULL, due_at = NULL WHERE {it}", "it would never end"),
    ("held", "UPDATE transactions SET due_clock = 'other' WHERE {it}", "its state cannot be read"),
    ("issued", "UPDATE transactions SET state = 'ACTC', status = 'ACTC' WHERE {it}", "its events say ACCP"),
    ("held", "UPDATE transactions SET state = 'PDNG/check' WHERE {it}", "PDNG (held: check)"),
    ("stopped", "UPDATE transactions SET state = 'ACSP' WHERE {it}", "another"),
    ("rejected", "UPDATE transactions SET state = 'end', status = 'ACSC', \"end\" = 'ACSC' WHERE {it}",
     "it is ACSC, its events say RJCT"),
    ("settled", "UPDATE transactions SET state = 'nowhere' WHERE {it}", "its state cannot be read"),
    ("settled", "UPDATE transactions SET status = 'GONE' WHERE {it}", "its state cannot be read"),
    ("settled", "UPDATE transactions SET version = 9 WHERE {it}", "its version is 9"),
    ("settled", "UPDATE transactions SET epoch = 2 WHERE {it}", "its epoch is 2"),
    ("issued", "DELETE FROM transactions WHERE {it}", "it is missing"),
    ("settled", "UPDATE transactions SET id = {other_id} WHERE {it}", "it is missing"),
    ("settled", "DELETE FROM keys WHERE tx = {tx} AND kind = 'msgid'", "its key msgid is missing"),
    ("settled", "DELETE FROM keys WHERE tx = {tx} AND kind = 'uetr'", "its key uetr of payment 1 is missing"),
    ("settled", "UPDATE keys SET value = 'other' WHERE tx = {tx} AND kind = 'uetr'", "its key uetr of payment 1"),
    ("settled", "UPDATE keys SET tx = {other_tx} WHERE tx = {tx} AND kind = 'uetr'", "its key uetr of payment 1"),
    ("part", "DELETE FROM keys WHERE tx = {tx} AND kind = 'txid'", "its key txid of payment 3 is missing"),
    ("fault retried", "DELETE FROM keys WHERE tx = {tx}", "its key msgid is missing"),
    ("settled", "UPDATE keys SET client = 'c_eve' WHERE tx = {tx}", "its key msgid is missing"),
    ("settled", "UPDATE bodies SET definition = 'pain.001.001.09' WHERE {inbox}", "its message is stored as"),
    ("settled", "UPDATE bodies SET definition = NULL WHERE {outbox}", "the definition of its answer"),
    ("settled", "UPDATE bodies SET digest = {zero} WHERE {inbox}", "another digest"),
    ("settled", "UPDATE bodies SET content = {zero} WHERE {inbox}", "a message is not the one that event"),
    ("settled", "UPDATE bodies SET content = {zero} WHERE {outbox}", "a message is not the one that event"),
    ("settled", _ANOTHER, "a message is not the one that event"),
    ("settled", "DELETE FROM bodies WHERE {outbox}", "has no answer"),
    ("held", _BODY, "has an answer already"),
    ("answer", _BODY, "added behind its back"),
    ("settled", "UPDATE events SET tx = {other_tx} WHERE tx = {tx}", "history does not know it"),
    ("held", "UPDATE events SET tx = {other_tx} WHERE tx = {tx} AND seq = 2", "its events are 2"),
    ("held", "UPDATE events SET seq = seq + 10 WHERE tx = {tx} AND seq = 2", "numbered otherwise"),
]  # fmt: skip
