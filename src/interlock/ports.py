"""What Interlock needs of the world: a store. Its contract in words; `tests/contracts` holds every back end to it.

A store is synchronous. Its writes are called by one thread only, the journal's; its reads may be called by others
beside it. All times are aware datetimes in UTC, kept to the microsecond.

A store is *sole* or *shared*. Over a sole one a single process writes, and a newer one fences it off. Over a shared one
any number do: each holds a journal of its own by a lease, which every commit renews. One that lets it run out commits
nothing any more until it registers anew, and what it had begun is taken up by others.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple, Protocol
from uuid import UUID

from interlock.chain import Gap, Head, Link
from interlock.iso20022.codes import HeldCause, Status
from interlock.regions.doubles import Arrivals, Place
from interlock.regions.flows import PeerStatus
from interlock.regions.rivals import Rival
from interlock.regions.rules import Entry, Post
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
    Staged,
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
class Refenced:
    """It was decided under an epoch that is over; nothing of this write was kept. Decide again under `Store.post`."""


@dataclass(frozen=True, slots=True)
class KeysTaken:
    """These keys are another's; nothing of this write was kept."""

    taken: tuple[tuple[Key, UUID], ...]


@dataclass(frozen=True, slots=True)
class IdempotencyTaken:
    """The idempotency key was used before, for this transaction and a body of this digest; nothing was kept."""

    transaction: UUID
    digest: bytes


Outcome = Won | Stale | Refenced | KeysTaken | IdempotencyTaken


# -- what is read -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A filter over transactions, newest first. Every field that is set must hold."""

    #: None is the operator's view: all clients.
    client: str | None
    statuses: frozenset[Status] = frozenset()
    cause: HeldCause | None = None
    #: Only those that something late or contradictory was recorded of.
    flagged: bool = False
    #: A key the client knows: UETR, MsgId, EndToEndId, TxId, BizMsgIdr, its own reference.
    key: tuple[KeyKind, str] | None = None
    #: Created at or after, and before.
    since: datetime | None = None
    until: datetime | None = None
    #: Position of the last one of the page before.
    after: UUID | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Open:
    """Transactions without an end that have something in common."""

    number: int
    #: When the oldest of them began.
    since: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Transactions, and where the next page begins; None: there is none."""

    transactions: tuple[Transaction, ...]
    next: UUID | None


class Stager(Protocol):
    """Puts down a message of many payments, some at a time, where nobody sees it.

    A `Change` that is `staged` makes all of it count at once.

    Used by one thread, beside the one that commits, and not for long at a time. What it puts down need not be on disk
    before that change is. Its keys are weak: whoever is committed first has them. A payment whose key another message
    that is being put down has, or that somebody has taken since, is a loss: it is settled by `duplicates`, and as long
    as there are losses the change is KeysTaken. A stager that comes to nothing leaves nothing but rows for `sweep`.
    Every method raises LeaseLost and StoreUnavailable.
    """

    def stage(self, staged: Staged, reason: str, note: str) -> frozenset[int]:
        """Put payments down; ordinals of those that are duplicates, which are RJCT with this reason and note."""

    def part(self, kind: BodyKind, number: int, content: bytes) -> None:
        """Put down a part of one of the two messages, from 1; the same number again takes its place."""

    def drop_parts(self, kind: BodyKind, beyond: int) -> None:
        """Take back the parts of one of the two messages that have a higher number than this."""

    def refuse(self, refused: Sequence[tuple[int, str, str | None]]) -> None:
        """Make payments RJCT that have no status of their own yet: ordinal, reason and note of each."""

    def duplicates(self, reason: str, note: str) -> frozenset[int]:
        """Settle the losses: ordinals of payments whose key now is one's that counts; they are RJCT from now on.

        The keys of the others are taken, if need be from what does not count either.
        """

    def follow(self) -> None:
        """The message is refused as a whole: its payments come to what it comes to, whatever each was for itself."""

    def drop_payments(self) -> None:
        """Take back payments and keys; the parts stay."""

    def give_up(self) -> None:
        """From now on nothing of it can be made to count, and `sweep` takes it away; what counts already is left alone.

        Between this and a commit on its way the database decides.
        """

    def close(self) -> None:
        """Give the connection back."""


class Store(Protocol):
    """Where Interlock keeps everything."""

    #: Whether other processes may write to it at the same time.
    shared: bool

    #: Number of the region that it writes for.
    region: int

    @property
    def connected(self) -> bool:
        """Whether the last attempt to reach it succeeded."""

    @property
    def post(self) -> Post:
        """The epoch under which is written, and the peers that may take over, as of the last commit."""

    @property
    def position(self) -> int:
        """Where in the store's log the last commit of the writer's thread ends; 0 where no other region listens."""

    # -- writing --

    def register(self, now: datetime) -> int:
        """Begin to write as a new process; its token, higher than any before.

        Over a sole store it fences off every process before; over a shared one only those whose lease has run out.
        """

    def current_token(self) -> int:
        """The token for an administrator's writes, which fence nobody and change no transaction."""

    def commit(self, token: int, writes: Sequence[Write], batch: bytes) -> list[Outcome]:
        """Write a batch in one durable transaction; an outcome each, in order.

        Of two changes to one version the first wins; a loser leaves no trace and never fails its neighbours. On return
        the winners are on disk. A batch without writes renews the lease. batch: an id of 16 bytes by which `committed`
        finds it.
        Raises LeaseLost (another process writes, or the lease has run out), StoreUnavailable (nothing was written),
        OutcomeUnknown (it cannot be said; ask `committed`).
        """

    def stager(self, token: int, transaction: UUID, client: str) -> Stager:
        """Begin to put down a message of many payments for a transaction that is to be born."""

    def sweep(self, token: int) -> int:
        """Take away, in small steps, what was given up or is of processes that are gone; how many messages that was.

        Called by any thread but the one that commits.
        """

    def committed(self, batch: bytes) -> list[Outcome] | None:
        """The outcomes of the batch if it was the last to be committed here; None if it was not, and never will be."""

    def claim(self, token: int, limit: int) -> tuple[Transaction, ...]:
        """Take over what processes that are gone left half-way (in ACTC or ACSP), oldest first; empty: nothing is left.

        Called like `commit`. Raises what it raises.
        """

    def lead(self, token: int, job: str) -> bool:
        """Whether this process does a job that one alone should do; it is tried to become so, for a lease's time.

        Only a way to save work: what a job writes is conditional like all else.
        """

    def release(self, token: int) -> None:
        """End in good order: what is left half-way may be claimed at once."""

    # -- reading --

    def get(self, transaction: UUID) -> Transaction | None:
        """The present state; None where the id is not known."""

    def find(self, query: Query) -> Page:
        """A page of transactions that match, newest first."""

    def history(self, transaction: UUID) -> tuple[Event, ...]:
        """Its events, oldest first."""

    def inherited(self, transaction: UUID) -> tuple[Event, ...]:
        """Its events that only other regions have written so far, oldest first."""

    def payments(self, transaction: UUID) -> tuple[Payment, ...]:
        """Its payments, by ordinal."""

    def payments_page(
        self, transaction: UUID, after: int, limit: int, status: Status | None = None
    ) -> tuple[Payment, ...]:
        """Its payments after an ordinal. status: only those that are shown so, see `Workflow.payments`."""

    def message(self, transaction: UUID, kind: BodyKind) -> Body | None:
        """One of its two messages, whole; how many `parts` it is kept in is told."""

    def parts(self, transaction: UUID, kind: BodyKind) -> int:
        """How many parts one of its two messages is kept in; 0: it is kept whole, or there is none."""

    def part(self, transaction: UUID, kind: BodyKind, number: int) -> bytes:
        """One of these parts, from 1."""

    def delivery(self, transaction: UUID, channel: str) -> DeliveryState | None:
        """How far the telling of its answer has come."""

    def archived(self, transaction: UUID) -> str | None:
        """Name of the archive that a transaction of this id would be in; None where its time is not archived."""

    def in_flight(self, after: UUID | None, limit: int) -> tuple[Transaction, ...]:
        """Transactions without an end, oldest first, after an id."""

    def ended(self, transactions: Collection[UUID]) -> frozenset[UUID]:
        """Those of them that have ended."""

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

    def open_by_client(self) -> Mapping[str, int]:
        """How many transactions without an end each client has."""

    def open_by_status(self) -> Mapping[tuple[Status, HeldCause | None], Open]:
        """How many transactions are without an end, and since when the oldest is, by status and cause."""

    def parked_deliveries(self) -> int:
        """How many deliveries have been given up until somebody looks."""

    def clock(self) -> datetime | None:
        """The store's own time, by which all its processes go; None where there is one process, which has its own."""

    def flushed(self) -> tuple[int, Mapping[int, int]]:
        """The end of the store's log, and how far each connected peer has it on its disk, by region number."""

    def rivals(self, transactions: Collection[UUID], region: int) -> Mapping[UUID, tuple[Rival, ...]]:
        """For each of a region's, others' transactions that hold what it has reserved and have not come to nothing.

        Those that have none are left out.
        """

    def taken(self) -> frozenset[int]:
        """Regions that this one has taken over and that have not come back."""

    def latest(self) -> datetime | None:
        """Time of the newest event: a clock that is started must not stand before it."""

    # -- history and upkeep --

    def heads(self) -> tuple[Head, ...]:
        """Where the chain of each journal ends, by journal; none for one that has no event yet."""

    def chain(self, journal: str, after: int = 0) -> Iterator[Link | Gap]:
        """All events of a journal in the order of its chain, in bounded memory; a gap where they were archived."""

    def maintain(self, now: datetime) -> None:
        """What must be done now and then for the store to go on; an hour's delay is no harm."""

    def check(self) -> list[str]:
        """Integrity of what is stored; a sentence a fault."""

    def check_server_key(self, proof: bytes) -> bool:
        """Whether this is the proof of the key that client secrets are kept under; the first one given is noted."""

    def abandon(self) -> None:
        """Let go of a store that does not answer, from another thread: what waits for it fails, and may be unknown."""

    def close(self) -> None:
        """Give files and connections back."""


# -- regions ----------------------------------------------------------------------------------------------------------


class Takeover(NamedTuple):
    """What a region tells of having taken over another."""

    home: int
    generation: int
    #: The taker.
    region: int
    begun_at: datetime
    #: Since when nothing of the home's comes in any more.
    cut_at: datetime | None
    #: Everything is decided, and stands before this record.
    completed_at: datetime | None
    #: The home is back, and nothing more is decided for it.
    returned_at: datetime | None
    transactions: int


class Witness(Protocol):
    """The third party that says who may take over whom. Synchronous; raises StoreUnavailable within seconds."""

    def entries(self) -> Mapping[int, tuple[Entry, float]]:
        """Every region's entry, and what is left of its lease in seconds; negative: it is over."""

    def change(self, region: int, before: Entry, after: Entry) -> bool:
        """Write an entry, if it is still as it was read."""

    def renew(self, region: int, generation: int, seconds: float) -> bool:
        """Prolong a region's lease, unless another one has taken it over since that generation."""

    def grant(self, taker: int, home: int, *, lease_must_be_over: bool) -> Entry | None:
        """Let one region take another over, by the rules; the new entry. None: it may not."""


class Replication(Protocol):
    """One region's database as the regions see it. Synchronous; raises StoreUnavailable."""

    def read_post(self) -> Post:
        """The epoch row."""

    def change_post(self, before: Post, after: Post) -> bool:
        """Write it, once all commits under it are done; False where it is not as it was read."""

    def take_post(self, post: Post) -> bool:
        """Write it where the present one has a lower epoch."""

    def flushed(self) -> tuple[int, Mapping[int, int]]:
        """The end of the log, and how far each peer has it on disk."""

    def ready(self, peer: int) -> bool:
        """Whether this database has all tables of a peer and follows it."""

    def cut(self, peer: int, epoch: int) -> bool:
        """Take in no more from a peer; on return nothing of it comes in any more. False: the epoch is another."""

    def open(self, peer: int, epoch: int) -> bool:
        """Take in from a peer again. False: the post's epoch is another."""

    def is_cut(self, peer: int) -> bool:
        """Whether a peer's changes are cut off."""

    def takeovers(self) -> Sequence[Takeover]:
        """Every record of a takeover that has come here, by whichever taker."""

    def begin_takeover(self, home: int, generation: int, at: datetime) -> None:
        """Note that a takeover has begun; no harm where that is noted."""

    def note_cut(self, home: int, generation: int, at: datetime) -> None:
        """Note that the home's changes are cut off."""

    def in_flight_of(self, home: int, epoch_below: int, after: UUID | None, limit: int) -> Sequence[UUID]:
        """Ids of a home's transactions without an end that were last written under an epoch below, and by no other."""

    def complete_takeover(
        self, home: int, generation: int, at: datetime, transactions: int, post: tuple[Post, Post]
    ) -> bool:
        """Note that all is decided, and change the post from one to the other in the same commit; False: not done."""

    def note_returned(self, home: int, generation: int, at: datetime, post: tuple[Post, Post]) -> bool:
        """Note that the home is back, likewise, and take in from it again."""

    def informed(self, home: int, generation: int) -> bool:
        """Whether this database has a taker's word that all is decided and that the home may go on."""

    def leave_superseded(self) -> int:
        """Let go of own transactions that a taker has; how many."""

    def status(self) -> Mapping[int, PeerStatus]:
        """How replication with each peer goes, both ways; stalls are noticed from the second call on."""

    def arrivals(self, limit: int, since: datetime | None = None) -> Arrivals:
        """What has come from peers since the last look, and which ends of it contradict those of other regions.

        since: transactions that began before are looked at only where the journals show that something of theirs came.
        """

    def note_seen(self, reached: Mapping[Place, int]) -> None:
        """Note how far it was looked: what came before is not looked at again."""

    def ended_twice(self) -> int:
        """How many transactions of this region are flagged with another region's end that contradicts theirs."""


# -- periods ----------------------------------------------------------------------------------------------------------

#: What a row that is archived can hold.
Value = None | bool | int | float | str | bytes


class Period(NamedTuple):
    """Transactions whose ids lie in a range, which is a range of time: what is archived and dropped together."""

    name: str
    lower: UUID
    #: The first id that is not in it any more.
    upper: UUID
    begins: datetime
    ends: datetime


class Rows(NamedTuple):
    """Rows of one table, in bounded memory: walked once, and before the next table is asked for."""

    table: str
    columns: tuple[str, ...]
    rows: Iterable[tuple[Value, ...]]


class Run(NamedTuple):
    """Events of one journal that follow one another without a break within a period."""

    journal: str
    first: int
    last: int
    #: Hash of the event before the first.
    previous: bytes
    #: Hash of the last.
    hash: bytes


def digest(runs: Iterable[Run]) -> str:
    """SHA-256 over runs by journal and position, in hex."""
    whole = sha256()
    for run in runs:
        whole.update(f"{run.journal} {run.first} {run.last} {run.previous.hex()} {run.hash.hex()}\n".encode())
    return whole.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What changes with whatever is written to a period: no event without a version, no delivery without its time."""

    transactions: int
    #: How many of them are without an end.
    open: int
    #: Sum of their versions.
    versions: int
    #: The latest change, in microseconds since 1970.
    updated_at: int
    #: State, number and sum of times.
    deliveries: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What the rows of a period come to. Between two that are equal nothing was written."""

    marks: Marks
    events: int
    bodies: int
    payments: int
    #: `digest` of its runs.
    runs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """A period as it stood at one moment."""

    fingerprint: Fingerprint
    #: Of each journal, how its events in the period begin and end, and how many runs they are.
    journals: tuple[tuple[Run, int], ...]
    #: Where the chains ended.
    heads: tuple[Head, ...]
    #: Its rows and the keys that name them, table by table.
    tables: Iterator[Rows]


class Tally(NamedTuple):
    """What rows that were kept elsewhere come to."""

    fingerprint: Fingerprint
    #: A sentence for each event that does not follow the one before it, or is not what its hash says; the first some.
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedPeriod:
    """What a store knows of a period whose rows it has dropped."""

    #: The archive's.
    name: str
    lower: UUID
    upper: UUID
    #: SHA-256 of the archive as it was stored.
    digest: bytes
    fingerprint: Fingerprint
    archived_at: datetime
    #: Set while its rows are back.
    restored_at: datetime | None = None


class Periods(Protocol):
    """A store by periods: how they leave it and come back. Used by one thread; what is done to one is done by one."""

    @property
    def region(self) -> int:
        """Number of the region."""

    @property
    def schema(self) -> int:
        """Number of the newest migration."""

    def clock(self) -> datetime:
        """The store's own time."""

    def alone(self) -> AbstractContextManager[None]:
        """Keeps others from archiving, restoring and dropping. Raises ConflictError where somebody does so now."""

    def undisturbed(self) -> AbstractContextManager[None]:
        """Nothing goes or comes back while this lasts, for whoever looks; waits for what is under way."""

    def prepare(self, before: datetime) -> None:
        """See to it that whatever is older is in a period."""

    def present(self) -> tuple[Period, ...]:
        """Those that exist, oldest first."""

    def open(self, period: Period) -> int:
        """How many of its transactions are without an end."""

    def follows(self, period: Period, routes: Collection[str], *, among: bool) -> str | None:
        """A route of a transaction in it that is among these, or is not; None: there is no such transaction."""

    def free(self, period: Period) -> None:
        """Give back the keys of payments that came to nothing: from now on they only find. Others notice nothing."""

    def extract(self, period: Period) -> AbstractContextManager[Extract]:
        """Read it at one moment, while others go on."""

    def tally(self, tables: Iterable[Rows]) -> Tally:
        """Count again what `extract` gave. Raises ValueError where it is nothing of the kind."""

    def drop(self, period: Period, archive: ArchivedPeriod | None) -> bool:
        """Take its rows away for good, all or nothing; False, and nothing done, where they changed since.

        What is left is how its events were linked, and the keys by which duplicates are refused. archive: which has the
        rows, and what they came to; None where there are none. Raises StoreUnavailable where others do not let go.
        """

    def archives(self) -> tuple[ArchivedPeriod, ...]:
        """Those dropped, oldest first, and those that are back."""

    def gaps(self, archive: str) -> Iterator[Run]:
        """What is left of the chain where an archive has it, by journal and position, in bounded memory."""

    def restore(self, archive: ArchivedPeriod, tables: Iterable[Rows], at: datetime) -> None:
        """Put its rows back, all or nothing; its keys find again, and refuse no more than they did.

        tables: as `extract` gave them; walked to their end before anything counts.
        Raises ConflictError where there is a period of that time, RequestError where the rows do not fit the tables.
        """

    def forget_keys(self, before: datetime, at: datetime) -> int:
        """Delete the keys by which duplicates of archived transactions are refused, of periods that end before."""

    def close(self) -> None:
        """Give connections back."""
