"""What Interlock knows of one message's way: frozen records, without behaviour of their own.

A `Transaction` is the present state, a cache of its `Event`s. A `Change` is one step of it with all that belongs to
that step, and is committed whole or not at all. (msgspec's structs: made and changed in C, where frozen dataclasses of
this width cost microseconds each, several times a transaction.)
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind, Standing


class Clock(StrEnum):
    """Which of a transaction's clocks runs; exactly one does until its end."""

    #: From the id to the end; stops while a consumer decides.
    SLA = "sla"
    #: A consumer must decide within it.
    DECIDE = "decide"
    #: An outside answer is due within it.
    CHECK = "check"
    #: A rejection or cancellation is intended, and a peer's word awaited: looked at again then.
    PEER = "peer"


class Deadline(Struct, frozen=True, kw_only=True):
    """The clock that runs, and when it fires."""

    clock: Clock
    at: datetime


class BodyKind(StrEnum):
    """Which of a transaction's two messages."""

    #: As received.
    INBOX = "inbox"
    #: The answer.
    OUTBOX = "outbox"


class Body(Struct, frozen=True, kw_only=True):
    """A message as bytes; never changed once stored."""

    kind: BodyKind
    #: `pacs.008.001.08`; None where the bytes do not tell.
    definition: str | None
    content: bytes
    #: SHA-256 of the whole.
    digest: bytes
    #: What it is kept in, where it is too long for one piece and came by a `Stager`; `content` is empty then.
    parts: int = 0


class Payment(Struct, frozen=True, kw_only=True):
    """One transfer or direct debit in a message; ends once, under the same codes as the transaction."""

    #: Place in the message, from 1.
    ordinal: int
    instruction_id: str | None
    end_to_end_id: str | None
    #: TxId of the message.
    transaction_id: str | None
    uetr: str | None
    amount: Decimal | None
    #: ISO 4217.
    currency: str | None
    status: Status
    #: ISO ExternalStatusReason1Code of a payment that was rejected or cancelled.
    reason: str | None = None
    #: Why, in words, without personal data; of a payment that has a reason of its own.
    note: str | None = None
    #: Its status and reason are its transaction's, whatever that comes to; here as it was when read.
    follows: bool = False


class PaymentEnd(NamedTuple):
    """How a payment ends."""

    #: Place in the message, from 1.
    ordinal: int
    status: Status
    #: ISO ExternalStatusReason1Code.
    reason: str | None
    #: Why, in words, without personal data; where it has a reason of its own.
    note: str | None = None


class KeyKind(StrEnum):
    """What a key is: a duplicate of a live one is refused, and any of them finds its transaction."""

    #: GrpHdr/MsgId. Kept for the scheme's window, also after an end.
    MESSAGE = "msgid"
    #: BizMsgIdr with its sender. Kept likewise.
    HEADER = "bizmsgidr"
    #: UETR. Belongs to the newest attempt; freed by RJCT and CANC.
    UETR = "uetr"
    #: TxId with its instructing agent, where a payment has no UETR. Freed likewise.
    TRANSACTION = "txid"
    #: The first attempt's id and the payment's ordinal: what a redrive holds, so that one attempt is live at a time.
    ATTEMPT = "attempt"
    #: EndToEndId: finds, but never refuses; many may share one.
    END_TO_END = "e2e"
    #: The client's own reference for a call: finds, but never refuses.
    REFERENCE = "ref"
    #: Case/Id of a request to cancel: finds what was asked before in the same case.
    CASE = "case"


#: Between a key's value and what qualifies it; no XML text can hold this character.
QUALIFIER = "\x1f"


class Key(Struct, frozen=True, kw_only=True):
    """A name under which a client knows a message or payment.

    A reserved key of a payment is free again once that payment is rejected or cancelled; one of a message stays.
    """

    kind: KeyKind
    value: str
    #: Payment it belongs to, from 1; 0 for the whole message.
    payment: int = 0


class Event(Struct, frozen=True, kw_only=True):
    """What happened to a transaction; appended, never changed."""

    #: From 1, without gaps; with the epoch it orders the fold.
    seq: int
    kind: EventKind
    at: datetime
    #: Who caused it: a client's id, `operator:NAME`, or `interlock`.
    actor: str
    #: What is shown from here on.
    standing: Standing
    #: For `Ended`: the event that caused the end.
    because: EventKind | None = None
    #: ISO ExternalStatusReason1Code.
    reason: str | None = None
    #: Ours, shown beside the ISO reason and never inside an ISO message: TOUT, RCVR.
    code: str | None = None
    #: In words, without personal data.
    note: str | None = None
    #: Findings and other particulars, JSON-able.
    detail: Mapping[str, object] = {}
    epoch: int = 1


def home_of(transaction: UUID) -> int:
    """Number of the region that issued an id."""
    return transaction.int & 0xFF


class Transaction(Struct, frozen=True, kw_only=True):
    """The present state of one transaction: a cache of the fold over its events."""

    id: UUID
    client: str
    region: int
    route: str
    standing: Standing
    #: Number of its events; every write names the one that it read.
    version: int
    created_at: datetime
    updated_at: datetime
    deadline: Deadline | None
    #: What is left of the SLA while another clock runs, in seconds.
    sla_left: float | None = None
    #: `pacs.008` or more, as the client announced it; never trusted for more than choosing a route.
    announced: str | None = None
    definition: str | None = None
    message_id: str | None = None
    #: The client's own reference for the call, if it gave one.
    reference: str | None = None
    reason: str | None = None
    code: str | None = None
    note: str | None = None
    payments: int = 0
    #: SHA-256 of the message received.
    digest: bytes | None = None
    #: Definition of the answer; None while there is none, or where none is due.
    answer: str | None = None
    #: SHA-256 of the answer, from the intent to end on: its bytes are fixed before anybody sees them.
    answer_digest: bytes | None = None
    #: False where the message received is itself an answer, and so never answered.
    answer_due: bool = True
    attempt: int = 1
    redrive_of: UUID | None = None
    #: The newest attempt, where this one was driven again.
    redriven_as: UUID | None = None
    epoch: int = 1
    #: Approvals so far, where a route wants four eyes.
    approved_by: str | None = None
    #: Something late or contradictory was recorded; the operations desk looks.
    flagged: bool = False
    #: Its payments settle only once every other region has them, and none of those holds the same.
    everywhere: bool = False
    #: Version of the present region's own former row, where another region's row is the transaction; not stored.
    own_version: int = 0


class DeliveryState(StrEnum):
    """How far the telling of an answer has come; never mixed with the transaction's status."""

    PENDING = "pending"
    SENT = "sent"
    CONFIRMED = "confirmed"
    PARKED = "parked"


class Delivery(Struct, frozen=True, kw_only=True):
    """Something that must be told to somebody, until it has been."""

    #: The channel: `outbox` is the client fetching its answer itself.
    channel: str
    state: DeliveryState = DeliveryState.PENDING


class Idempotency(Struct, frozen=True, kw_only=True):
    """A client's key for one call; the same key with another body is a mistake of the client's."""

    key: str
    #: SHA-256 of the request's body.
    digest: bytes


class Change(Struct, frozen=True, kw_only=True):
    """One step of one transaction: committed whole, and only if nobody else changed it meanwhile."""

    after: Transaction
    events: tuple[Event, ...]
    #: Version that the step was decided on; 0 where the transaction is born in it.
    read: int
    bodies: tuple[Body, ...] = ()
    #: Payments that are new with this step.
    payments: tuple[Payment, ...] = ()
    #: Payments that end with this step each for itself; empty with `ends_all` None: none do.
    ended: tuple[PaymentEnd, ...] = ()
    #: Status and reason that all payments still open get with this step.
    ends_all: tuple[Status, str | None] | None = None
    #: Keys that must be free, for otherwise the step does not happen.
    reserves: tuple[Key, ...] = ()
    #: Keys that only find: refused messages and EndToEndIds.
    names: tuple[Key, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    idempotency: Idempotency | None = None
    #: The region whose transaction becomes ours with this step: its keys are written as ours too.
    inherited_from: int | None = None
    #: Tells on the original, in the same commit, that it was driven again.
    original: "Change | None" = None
    #: Of a birth: makes what a `Stager` has put down for this transaction its own, in the same commit.
    staged: bool = False


class Staged(Struct, frozen=True, kw_only=True):
    """Some payments of a message with many, or keys of payments before, to be put down before the message counts."""

    payments: tuple[Payment, ...]
    #: Keys that must be free; one that is another's makes its payment a duplicate.
    reserves: tuple[Key, ...] = ()
    #: Keys that only find.
    names: tuple[Key, ...] = ()
