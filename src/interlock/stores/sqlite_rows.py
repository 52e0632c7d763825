"""Records as SQLite rows and back; filters as statements. No connection is touched here."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import zstandard

from interlock.chain import micros, moment
from interlock.iso20022.codes import Status
from interlock.lifecycle import Standing, State
from interlock.ports import (
    Client,
    Control,
    ControlScope,
    IdempotencyTaken,
    KeysTaken,
    Outcome,
    Query,
    SigningKey,
    Stale,
    Won,
)
from interlock.transaction import QUALIFIER, Clock, Deadline, Key, KeyKind, Payment, Transaction

Row = tuple[Any, ...]
WON = Won()
STALE = Stale()
#: An id is made a moment after its transaction's time is read; ranges of ids are wider by far more than that.
_ID_SLACK = timedelta(minutes=1)


def born(t: Transaction) -> Row:
    """All columns of a new transaction, but for its row."""
    return (
        t.id.bytes, t.client, t.region, t.epoch, t.version, t.route, t.standing.state, t.standing.status,
        t.standing.end, micros(t.created_at), micros(t.updated_at),
        None if t.deadline is None else t.deadline.clock, None if t.deadline is None else micros(t.deadline.at),
        t.sla_left, t.announced, t.definition, t.message_id, t.reference, t.reason, t.code, t.note, t.payments,
        t.digest, t.answer, int(t.answer_due), t.attempt, t.redrive_of and t.redrive_of.bytes,
        t.redriven_as and t.redriven_as.bytes, t.approved_by, int(t.flagged),
    )  # fmt: skip


def grown(t: Transaction) -> Row:
    """The columns of a transaction that can change."""
    return (
        t.epoch, t.version, t.route, t.standing.state, t.standing.status, t.standing.end, micros(t.updated_at),
        None if t.deadline is None else t.deadline.clock, None if t.deadline is None else micros(t.deadline.at),
        t.sla_left, t.definition, t.message_id, t.reason, t.code, t.note, t.payments, t.digest, t.answer,
        int(t.answer_due), t.redriven_as and t.redriven_as.bytes, t.approved_by, int(t.flagged),
    )  # fmt: skip


def transaction(*row: Any) -> Transaction:
    """A row of `SELECT *`."""
    (
        _, id_, client, region, epoch, version, route, state, status, end, created, updated, due_clock, due_at,
        sla_left, announced, definition, message_id, reference, reason, code, note, payments, digest, answer,
        answer_due, attempt, redrive_of, redriven_as, approved_by, flagged,
    ) = row  # fmt: skip
    return Transaction(
        id=UUID(bytes=id_),
        client=client,
        region=region,
        epoch=epoch,
        version=version,
        route=route,
        standing=Standing(State(state), Status(status), None if end is None else Status(end)),
        created_at=moment(created),
        updated_at=moment(updated),
        deadline=None if due_at is None else Deadline(clock=Clock(due_clock), at=moment(due_at)),
        sla_left=sla_left,
        announced=announced,
        definition=definition,
        message_id=message_id,
        reference=reference,
        reason=reason,
        code=code,
        note=note,
        payments=payments,
        digest=digest,
        answer=answer,
        answer_due=bool(answer_due),
        attempt=attempt,
        redrive_of=None if redrive_of is None else UUID(bytes=redrive_of),
        redriven_as=None if redriven_as is None else UUID(bytes=redriven_as),
        approved_by=approved_by,
        flagged=bool(flagged),
    )


def paid(row: int, p: Payment) -> Row:
    """A new payment of the transaction at a row."""
    amount = None if p.amount is None else str(p.amount)
    return (
        row, p.ordinal, p.instruction_id, p.end_to_end_id, p.transaction_id, p.uetr, amount, p.currency, p.status,
        p.reason,
    )  # fmt: skip


def payment(ordinal: int, *rest: Any) -> Payment:
    """A row of the query `payments`."""
    instruction_id, end_to_end_id, transaction_id, uetr, amount, currency, status, reason = rest
    return Payment(
        ordinal=ordinal,
        instruction_id=instruction_id,
        end_to_end_id=end_to_end_id,
        transaction_id=transaction_id,
        uetr=uetr,
        amount=None if amount is None else Decimal(amount),
        currency=currency,
        status=Status(status),
        reason=reason,
    )


def client(id_: str, name: str, secret_mac: bytes, scopes: str, created: int, disabled: int | None) -> Client:
    """A row of the query `clients`."""
    return Client(
        id=id_,
        name=name,
        secret_mac=secret_mac,
        scopes=frozenset(scopes.split()),
        created_at=moment(created),
        disabled_at=None if disabled is None else moment(disabled),
    )


def signing_key(id_: str, pem: bytes, created: int, retired: int | None) -> SigningKey:
    """A row of the query `signing_keys`."""
    return SigningKey(
        id=id_, private_pem=pem, created_at=moment(created), retired_at=None if retired is None else moment(retired)
    )


def control(scope: str, name: str, stopped: int, actor: str, note: str | None, at: int) -> Control:
    """A row of the query `controls`."""
    return Control(scope=ControlScope(scope), name=name, stopped=bool(stopped), actor=actor, note=note, at=moment(at))


def decompress(content: bytes) -> bytes:
    """The bytes as they were received."""
    return zstandard.ZstdDecompressor().decompress(content)


def where(query: Query) -> tuple[str, list[Any]]:
    """The statement for a filter: only fixed fragments are joined, every value is bound."""
    parts: list[str] = []
    bindings: list[Any] = []

    def both(fragment: str, *values: Any) -> None:
        parts.append(fragment)
        bindings.extend(values)

    # A key finds few: begin with it. The sign keeps SQLite from walking all of a client's transactions instead.
    sign = "" if query.key is None else "+"
    if query.client is not None:
        both(f"{sign}client = ?", query.client)
    if query.statuses:
        both(f"{sign}status IN ({_marks(len(query.statuses))})", *sorted(query.statuses))
        if Status.ACSC not in query.statuses:
            parts.append("status <> 'ACSC'")  # lets SQLite see that the partial index serves
    if query.cause is not None:
        both("state = ?", f"PDNG/{query.cause}")
    if query.key is not None:
        both(*_named(query.client, *query.key))
    if query.since is not None:
        both("created_at >= ?", micros(query.since))
        both(f"{sign}id >= ?", _id_bound(query.since - _ID_SLACK))
    if query.until is not None:
        both("created_at < ?", micros(query.until))
        both(f"{sign}id < ?", _id_bound(query.until + _ID_SLACK))
    if query.after is not None:
        both(f"{sign}id < ?", query.after.bytes)
    where = " AND ".join(parts) or "1"
    sql = f"SELECT * FROM transactions WHERE {where} ORDER BY {sign}id DESC LIMIT ?"  # noqa: S608 - fixed fragments
    return sql, [*bindings, query.limit + 1]


def _named(client: str | None, kind: KeyKind, value: str) -> tuple[str, ...]:
    """The transactions that a key names: itself, or with any qualifier behind it."""
    whose = "k.client = ?" if client is not None else f"k.client IN ({_ALL_CLIENTS})"
    keys = f"SELECT k.tx FROM keys k WHERE {whose} AND k.kind = ?"  # noqa: S608 - fixed fragments
    # Two look-ups and not an OR, for which SQLite would read every key of the kind.
    fragment = f"row IN ({keys} AND k.value = ? UNION ALL {keys} AND k.value > ? AND k.value < ?)"
    # The character after the qualifier's is a space: between the two lies every value that the qualifier follows.
    low, high = f"{value}{QUALIFIER}", f"{value}{chr(ord(QUALIFIER) + 1)}"
    owner = () if client is None else (client,)
    return (fragment, *owner, kind, value, *owner, kind, low, high)


#: Every client that has a key, by hops along the index; a plain DISTINCT would read all of it.
_ALL_CLIENTS = (
    "WITH RECURSIVE hop(client) AS (SELECT min(client) FROM keys UNION ALL "
    "SELECT (SELECT min(client) FROM keys WHERE client > hop.client) FROM hop WHERE hop.client IS NOT NULL) "
    "SELECT client FROM hop WHERE client IS NOT NULL"
)


def _marks(number: int) -> str:
    return ", ".join("?" * number)


def _id_bound(at: datetime) -> bytes:
    """The smallest UUIDv7 of a millisecond: a range of time as a range of ids."""
    return max(0, micros(at) // 1000).to_bytes(6, "big") + bytes(10)


def pack_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """A byte a winner; the rest spelled out. Read back only when a commit's outcome is unknown."""
    if all(outcome is WON for outcome in outcomes):
        return len(outcomes).to_bytes(4, "big")
    return bytes(4) + msgspec.msgpack.encode([_packed(outcome) for outcome in outcomes])


def _packed(outcome: Outcome) -> list[Any]:
    match outcome:
        case Won():
            return ["won"]
        case Stale():
            return ["stale"]
        case KeysTaken():
            return ["keys", [[k.kind, k.value, k.payment, holder.bytes] for k, holder in outcome.taken]]
        case IdempotencyTaken():
            return ["idempotency", outcome.transaction.bytes, outcome.digest]


def unpack_outcomes(packed: bytes) -> list[Outcome]:
    """The inverse of `pack_outcomes`."""
    if count := int.from_bytes(packed[:4], "big"):
        return [WON] * count
    return [_unpacked(*item) for item in msgspec.msgpack.decode(packed[4:])]


def _unpacked(kind: str, *rest: Any) -> Outcome:
    match kind:
        case "won":
            return WON
        case "stale":
            return STALE
        case "keys":
            return KeysTaken(
                tuple((Key(kind=KeyKind(k), value=v, payment=p), UUID(bytes=holder)) for k, v, p, holder in rest[0])
            )
        case _:
            return IdempotencyTaken(UUID(bytes=rest[0]), rest[1])
