"""Records as rows and back, the same for every back end. No connection is touched here."""

import threading
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import zstandard
from msgspec import structs

from interlock.chain import micros, moment
from interlock.iso20022.codes import HeldCause, Status
from interlock.lifecycle import Standing, State
from interlock.ports import (
    Client,
    Control,
    ControlScope,
    IdempotencyTaken,
    KeysTaken,
    Open,
    Outcome,
    Refenced,
    SigningKey,
    Stale,
    Store,
    Won,
)
from interlock.regions.rules import Post
from interlock.transaction import Body, BodyKind, Clock, Deadline, Key, KeyKind, Payment, Staged, Transaction

Row = tuple[Any, ...]
WON = Won()
STALE = Stale()
REFENCED = Refenced()
_zstd = threading.local()
#: An id is made a moment after its transaction's time is read, and of a message of many payments before all of it is
#: read; ranges of ids are wider by far more than that.
ID_SLACK = timedelta(minutes=15)


def born(t: Transaction) -> Row:
    """All columns of a new transaction."""
    return (
        t.id.bytes, t.client, t.region, t.epoch, t.version, t.route, t.standing.state, t.standing.status,
        t.standing.end, micros(t.created_at), micros(t.updated_at),
        None if t.deadline is None else t.deadline.clock, None if t.deadline is None else micros(t.deadline.at),
        t.sla_left, t.announced, t.definition, t.message_id, t.reference, t.reason, t.code, t.note, t.payments,
        t.digest, t.answer, t.answer_digest, int(t.answer_due), t.attempt, t.redrive_of and t.redrive_of.bytes,
        t.redriven_as and t.redriven_as.bytes, t.approved_by, int(t.flagged), int(t.everywhere),
    )  # fmt: skip


def grown(t: Transaction) -> Row:
    """The columns of a transaction that can change."""
    return (
        t.epoch, t.version, t.route, t.standing.state, t.standing.status, t.standing.end, micros(t.updated_at),
        None if t.deadline is None else t.deadline.clock, None if t.deadline is None else micros(t.deadline.at),
        t.sla_left, t.definition, t.message_id, t.reason, t.code, t.note, t.payments, t.digest, t.answer,
        t.answer_digest, int(t.answer_due), t.redriven_as and t.redriven_as.bytes, t.approved_by, int(t.flagged),
        int(t.everywhere),
    )  # fmt: skip


def transaction(*row: Any) -> Transaction:
    """The columns of a transaction, as `born` gives them."""
    (
        id_, client, region, epoch, version, route, state, status, end, created, updated, due_clock, due_at,
        sla_left, announced, definition, message_id, reference, reason, code, note, payments, digest, answer,
        answer_digest, answer_due, attempt, redrive_of, redriven_as, approved_by, flagged, everywhere,
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
        answer_digest=answer_digest,
        answer_due=bool(answer_due),
        attempt=attempt,
        redrive_of=None if redrive_of is None else UUID(bytes=redrive_of),
        redriven_as=None if redriven_as is None else UUID(bytes=redriven_as),
        approved_by=approved_by,
        flagged=bool(flagged),
        everywhere=bool(everywhere),
    )


def paid(row: int | bytes, p: Payment) -> Row:
    """A new payment of a transaction, by whatever the back end knows it by."""
    amount = None if p.amount is None else str(p.amount)
    return (
        row, p.ordinal, p.instruction_id, p.end_to_end_id, p.transaction_id, p.uetr, amount, p.currency,
        None if p.follows else p.status, None if p.follows else p.reason, p.note,
    )  # fmt: skip


def payment(ordinal: int, *rest: Any) -> Payment:
    """A row of the query `payments`."""
    instruction_id, end_to_end_id, transaction_id, uetr, amount, currency, status, reason, note, follows = rest
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
        note=note,
        follows=bool(follows),
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


def post(epoch: int, guards: Collection[int], fenced: bool) -> Post:  # noqa: FBT001 - columns of a row
    """A region's post, from its row."""
    return Post(epoch, frozenset(guards), fenced)


def opened(rows: Iterable[Row]) -> dict[tuple[Status, HeldCause | None], Open]:
    """State, status, number and earliest beginning of what has no end, gathered by what is shown."""
    found: dict[tuple[Status, HeldCause | None], Open] = {}
    for state, status, number, since in rows:
        shown = (Status(status), Standing(State(state), Status(status)).cause)
        before = found.get(shown, Open(0, moment(since)))
        found[shown] = Open(before.number + number, min(before.since, moment(since)))
    return found


def marked(
    staged: Staged, taken: Collection[int], reason: str, note: str
) -> tuple[list[Payment], list[tuple[int, str, str]]]:
    """Payments of one step with the duplicates among them refused, and those of steps before that are to be refused."""
    payments = [
        structs.replace(p, follows=False, status=Status.RJCT, reason=reason, note=note) if p.ordinal in taken else p
        for p in staged.payments
    ]
    here = {p.ordinal for p in staged.payments}
    return payments, [(ordinal, reason, note) for ordinal in sorted(taken) if ordinal not in here]


def joined(store: Store, transaction: UUID, kind: BodyKind, definition: str | None, digest: bytes) -> Body:
    """A message that is kept in parts, whole."""
    parts = store.parts(transaction, kind)
    if not parts:
        decompress(b"")  # there is nothing where a message was: as damaged as any that cannot be unpacked
    content = b"".join([store.part(transaction, kind, number) for number in range(1, parts + 1)])
    return Body(kind=kind, definition=definition, digest=digest, content=content, parts=parts)


def decompress(content: bytes) -> bytes:
    """The bytes as they were received."""
    return zstandard.ZstdDecompressor().decompress(content)


def id_bound(at: datetime) -> bytes:
    """The smallest UUIDv7 of a millisecond: a range of time as a range of ids."""
    return max(0, micros(at) // 1000).to_bytes(6, "big") + bytes(10)


def compress(content: bytes) -> bytes:
    """The bytes as they are stored. One compressor a thread, for it keeps its state."""
    made = getattr(_zstd, "compress", None)
    if made is None:
        made = _zstd.compress = zstandard.ZstdCompressor(level=3).compress
    return bytes(made(content))


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
        case Refenced():
            return ["refenced"]
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
        case "refenced":
            return REFENCED
        case "keys":
            return KeysTaken(
                tuple((Key(kind=KeyKind(k), value=v, payment=p), UUID(bytes=holder)) for k, v, p, holder in rest[0])
            )
        case _:
            return IdempotencyTaken(UUID(bytes=rest[0]), rest[1])
