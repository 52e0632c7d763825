"""What the server says, as frozen records. Fields that a newer server adds are passed over."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypedDict
from uuid import UUID

from interlock.iso20022.codes import HeldCause, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why it was rejected or cancelled."""

    #: ISO ExternalStatusReason1Code.
    code: str
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """The clock that runs, and when it fires."""

    #: `sla`, `decide` or `check`.
    clock: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerState:
    """Whether there is an answer message, and whether one is due at all."""

    #: `pacs.002.001.10`; None while there is none.
    definition: str | None = None
    due: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One transfer or direct debit in a message."""

    #: Place in the message, from 1.
    ordinal: int
    status: Status
    reason: Reason | None = None
    instruction_id: str | None = None
    end_to_end_id: str | None = None
    #: TxId of the message.
    transaction_reference: str | None = None
    uetr: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    #: Why it was refused, in words.
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentPage:
    """Some payments of a message, in their order."""

    payments: tuple[Payment, ...] = ()
    #: What `after` is for the next page; None on the last.
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One message's way as it stands."""

    transaction_id: UUID
    status: Status
    #: True once nothing can follow.
    final: bool
    created_at: datetime
    updated_at: datetime
    client_id: str = ""
    #: Why it is PDNG, if it is.
    held: HeldCause | None = None
    #: `ending`, `handing`, `handed`: what the status does not show.
    facet: str | None = None
    reason: Reason | None = None
    #: The server's own code beside the ISO reason, such as TOUT.
    transaction_code: str | None = None
    note: str | None = None
    route: str | None = None
    definition: str | None = None
    message_id: str | None = None
    #: What you called it.
    reference: str | None = None
    payments_count: int = 0
    #: None once it has ended.
    deadline: Deadline | None = None
    attempt: int = 1
    redrive_of: UUID | None = None
    redriven_as: UUID | None = None
    answer: AnswerState = field(default_factory=AnswerState)
    region: str | None = None
    replicated: bool | None = None
    fencing: str | None = None
    consistency: str | None = None
    flagged: bool = False
    #: Only where one transaction was asked for.
    payments: tuple[Payment, ...] = ()
    #: How far the telling of the answer has come; only where one transaction was asked for.
    delivery: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some transactions, newest first, and where the next page begins."""

    transactions: tuple[Transaction, ...] = ()
    #: Cursor of the next page; None on the last.
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened to a transaction."""

    seq: int
    event: str
    at: datetime
    actor: str
    status: Status
    held: HeldCause | None = None
    #: For an end: the event that caused it.
    because: str | None = None
    reason: Reason | None = None
    transaction_code: str | None = None
    note: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule that a message breaks."""

    #: `error` or `warning`.
    severity: str
    rule: str
    #: ISO ExternalStatusReason1Code that a rejection for this carries.
    reason: str
    xpath: str
    line: int | None
    text: str
    #: Ordinal of the payment that it concerns; None where it concerns the whole message.
    payment: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Whether a message is valid; None where the server has no schema for it."""

    valid: bool | None
    definitions: tuple[str, ...] = ()
    #: The market practice that judged, and its edition.
    profile: str | None = None
    edition: str | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as the server told it (RFC 9457)."""

    #: HTTP status.
    status: int
    #: The stable word; `interlock.errors` has a class for each.
    code: str
    title: str = ""
    detail: str = ""
    type: str = "about:blank"
    instance: str | None = None


class DecisionKind(StrEnum):
    """What can be decided about one transaction."""

    ACCEPT = "accept"
    REJECT = "reject"
    CANCEL = "cancel"
    #: Operators only: let the stages try again after a fault of the server's.
    RETRY = "retry"


class MessageKind(StrEnum):
    """Which of a transaction's two messages."""

    #: As sent.
    INBOX = "inbox"
    #: The answer.
    OUTBOX = "outbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrive:
    """What became of one transaction in a bulk redrive."""

    transaction_id: UUID
    #: `redriven`, `drivable` (in a dry run) or `refused`.
    outcome: str
    redriven_as: UUID | None = None
    #: Why it was refused, as the code of a problem, and in words.
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrives:
    """What a bulk redrive did, or would do."""

    dry_run: bool
    results: tuple[Redrive, ...] = ()
    #: Where to go on; None where everything that matched is here.
    next: str | None = None


#: How a decision names one payment: its ordinal, or names that it has: `uetr`, `end_to_end_id`,
#: `transaction_reference`, `instruction_id`.
PaymentName = int | Mapping[str, str]


class Filter(TypedDict, total=False):
    """Which transactions: every field that is given must hold."""

    status: Status | str | Iterable[Status | str]
    held: HeldCause | str | None
    #: Only those that something late or contradictory was recorded of.
    flagged: bool
    uetr: str | None
    message_id: str | None
    end_to_end_id: str | None
    #: TxId of a payment.
    transaction_reference: str | None
    #: What you called it.
    reference: str | None
    #: Id of a client; for operators.
    client: str | None
    #: Created at or after, and before.
    since: datetime | None
    until: datetime | None
    #: Longest page.
    limit: int | None
    #: `next` of the page before.
    cursor: str | None
