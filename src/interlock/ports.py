"""What Interlock needs of the world: a store. Its contract in words; `tests/contracts` holds every back end to it.

A store is synchronous. Its writes are called by one thread only, the journal's; its reads may be called by others
beside it. All times are aware datetimes in UTC, kept to the microsecond.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from uuid import UUID

from interlock.chain import Head, Link
from interlock.iso20022.codes import HeldCause, Status
from interlock.transaction import (
    Body,
    BodyKind,
    Change,
    Deadline,
    DeliveryState,
    Event,
    Key,
    KeyKind,
    Payment,
    Transaction,
)

# -- what is written --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An API consumer, the tenant."""

    id: str
    name: str
    #: HMAC-SHA-256 of the secret under the server's key; the secret itself is nowhere.
    secret_mac: bytes = field(repr=False)
    scopes: frozenset[str]
    created_at: datetime
    #: Set: no token is given any more.
    disabled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key that tokens are signed with; old ones stay as long as their tokens live."""

    id: str
    #: PKCS#8 PEM.
    private_pem: bytes = field(repr=False)
    created_at: datetime
    #: Set once a newer key signs; verifies until then plus a token's life.
    retired_at: datetime | None = None


class ControlScope(StrEnum):
    """What an operator can stop."""

    ROUTE = "route"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """An operator's order to stop or resume a route or client; the newest one for a name stands."""

    scope: ControlScope
    name: str
    stopped: bool
    actor: str
    note: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryUpdate:
    """How far a delivery has come."""

    transaction: UUID
    channel: str
    state: DeliveryState
    at: datetime


#: Everything that can be written. All of it goes through the journal.
Write = Change | Client | SigningKey | Control | DeliveryUpdate


# -- what a write came to ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Won:
    """The write is part of the batch's commit."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Somebody else changed the transaction first; nothing of this write was kept."""


@dataclass(frozen=True, slots=True)
class KeysTaken:
    """These keys are another's; nothing of this write was kept."""

    taken: tuple[tuple[Key, UUID], ...]


@dataclass(frozen=True, slots=True)
class IdempotencyTaken:
    """The idempotency key was used before, for this transaction and a body of this digest; nothing was kept."""

    transaction: UUID
    digest: bytes


Outcome = Won | Stale | KeysTaken | IdempotencyTaken


# -- what is read -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A filter over transactions, newest first. Every field that is set must hold."""

    #: None is the operator's view: all clients.
    client: str | None
    statuses: frozenset[Status] = frozenset()
    cause: HeldCause | None = None
    #: A key the client knows: UETR, MsgId, EndToEndId, TxId, BizMsgIdr, its own reference.
    key: tuple[KeyKind, str] | None = None
    #: Created at or after, and before.
    since: datetime | None = None
    until: datetime | None = None
    #: Position of the last one of the page before.
    after: UUID | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Page:
    """Transactions, and where the next page begins; None: there is none."""

    transactions: tuple[Transaction, ...]
    next: UUID | None


class Store(Protocol):
    """Where Interlock keeps everything."""

    def register(self, now: datetime) -> int:
        """Begin to write as a new process; the token given fences off every process before."""

    def current_token(self) -> int:
        """The token of the process that writes now: for an administrator's writes beside it, which fence nobody."""

    def commit(self, token: int, writes: Sequence[Write], batch: bytes) -> list[Outcome]:
        """Write a batch in one durable transaction; an outcome each, in order.

        Of two changes to one version the first wins; a loser leaves no trace and never fails its neighbours. On return
        the winners are on disk. batch: an id of 16 bytes by which `committed` finds it.
        Raises LeaseLost (a newer process writes), StoreUnavailable (nothing was written), OutcomeUnknown (it cannot be
        said; ask `committed`).
        """

    def committed(self, batch: bytes) -> list[Outcome] | None:
        """The outcomes of the batch if it was the last to be committed; None if it was not committed."""

    def get(self, transaction: UUID) -> Transaction | None:
        """The present state; None where the id is not known."""

    def find(self, query: Query) -> Page:
        """A page of transactions that match, newest first."""

    def history(self, transaction: UUID) -> tuple[Event, ...]:
        """Its events, oldest first."""

    def payments(self, transaction: UUID) -> tuple[Payment, ...]:
        """Its payments, by ordinal."""

    def message(self, transaction: UUID, kind: BodyKind) -> Body | None:
        """One of its two messages."""

    def delivery(self, transaction: UUID, channel: str) -> DeliveryState | None:
        """How far the telling of its answer has come."""

    def in_flight(self, after: int, limit: int) -> tuple[tuple[int, Transaction], ...]:
        """Transactions without an end, oldest first, each with its position; begins after a position."""

    def overdue(self, now: datetime, limit: int) -> tuple[Transaction, ...]:
        """Those whose clock has run out, oldest deadline first."""

    def next_deadline(self) -> Deadline | None:
        """The earliest deadline of all."""

    def idempotent(self, client: str, key: str) -> IdempotencyTaken | None:
        """What a client used this key for."""

    def client(self, client: str) -> Client | None:
        """One client."""

    def clients(self) -> tuple[Client, ...]:
        """All clients, oldest first."""

    def signing_keys(self) -> tuple[SigningKey, ...]:
        """All, oldest first."""

    def controls(self) -> tuple[Control, ...]:
        """The order that stands, for each scope and name that ever had one."""

    def counts(self, client: str | None) -> Mapping[tuple[Status, HeldCause | None], int]:
        """How many transactions are in flight, by status and cause."""

    def latest(self) -> datetime | None:
        """Time of the newest event: a clock that is started must not stand before it."""

    def head(self) -> Head | None:
        """Where the chain ends; None before the first event."""

    def chain(self, after: int = 0) -> Iterator[Link]:
        """All events in the order of the chain, in bounded memory."""

    def check(self) -> list[str]:
        """Integrity of the files; a sentence a fault."""

    def backup(self, target: Path) -> None:
        """A consistent copy, taken while others write."""

    def close(self) -> None:
        """Give the files back."""
