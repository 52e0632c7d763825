"""All evidence of a run, as plain records: the readers fill them, and so do tests; the checks see nothing else."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import UUID

from checker.log import Call, Receipt, What
from checker.timeline import Deed, Moment

#: Codes of an end.
ENDS = ("ACSC", "RJCT", "CANC")
#: What a transaction came to in the end, or the only states that it may wait in for ever.
END, UNKNOWN, DECISION = "end", "PDNG/unknown", "PDNG/decision"
#: A writer's number is its region's, times this, and its incarnation.
INCARNATIONS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A row of `transactions`: what one region makes of one transaction."""

    id: UUID
    client: str
    region: int
    epoch: int
    version: int
    route: str
    state: str
    status: str
    end: str | None
    #: Microseconds since 1970.
    due_at: int | None
    #: `pacs.008.001.08`.
    definition: str | None
    payments: int
    digest: bytes | None
    answer_due: bool
    answer_digest: bytes | None
    attempt: int
    redrive_of: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A row of `events`, and what its content says."""

    tx: UUID
    seq: int
    writer: int
    journal: int
    chain_seq: int
    content: bytes
    previous: bytes
    hash: bytes
    said: Mapping[str, Any]

    @classmethod
    def read(cls, tx: UUID, seq: int, writer: int, journal: int, chain_seq: int, *links: bytes) -> "Event":
        """links: content, previous, hash. Content that cannot be read says nothing: its chain shows that."""
        content, previous, hash_ = links
        try:
            said = json.loads(content)
        except ValueError:
            said = {}
        return cls(
            tx=tx, seq=seq, writer=writer, journal=journal, chain_seq=chain_seq, content=content, previous=previous,
            hash=hash_, said=said if isinstance(said, dict) else {},
        )  # fmt: skip

    @property
    def region(self) -> int:
        """Of its writer."""
        return self.writer // INCARNATIONS

    @property
    def state(self) -> str:
        """Where the transaction stood after it."""
        return str(self.said.get("state", "?"))

    @property
    def end(self) -> str | None:
        """The end that it made a fact of; None where it made none."""
        return self.said.get("end") if self.state == END else None

    @property
    def epoch(self) -> int:
        """Under which it was committed first; a taker writes what it takes over again as its own."""
        return int(self.said.get("epoch", 1))

    @property
    def kinds(self) -> frozenset[str]:
        """What it is, and what it is because of."""
        return frozenset({self.said.get("kind", "?"), self.said.get("because") or self.said.get("kind", "?")})

    @property
    def order(self) -> tuple[int, int]:
        """Its place in the life of its transaction."""
        return self.epoch, self.seq

    @property
    def at(self) -> int:
        """Microseconds since 1970."""
        return int(self.said.get("at", 0))

    @property
    def name(self) -> str:
        """For people: `event 3 (Ended, journal 0.1.2, place 7)`."""
        return f"event {self.seq} ({self.said.get('kind', 'unreadable')}, {journal(self.writer, self.journal)})"


def journal(writer: int, number: int) -> str:
    """`journal 0.1.2`: region, incarnation and number, as operators know it."""
    return f"journal {writer // INCARNATIONS}.{writer % INCARNATIONS}.{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A row of `payments`."""

    tx: UUID
    ordinal: int
    region: int
    end_to_end_id: str | None
    uetr: str | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A row of `bodies`, by the digest that was stored beside it. kind: 0 the message, 1 an answer."""

    tx: UUID
    kind: int
    writer: int
    seq: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """A row of `takeovers`; times in microseconds since 1970."""

    home: int
    generation: int
    region: int
    begun_at: int
    completed_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A row of `keys` that is reserved."""

    client: str
    kind: str
    value: str
    region: int
    tx: UUID
    #: Ordinal; 0 for the whole message.
    payment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A head of a journal (first = last), or a run of events that was archived away, by what links to it."""

    writer: int
    journal: int
    first: int
    last: int
    previous: bytes
    hash: bytes


@dataclass(frozen=True, kw_only=True)
class Database:
    """One region's database at one moment."""

    name: str
    #: The region's number.
    number: int
    transactions: tuple[Transaction, ...] = ()
    events: tuple[Event, ...] = ()
    payments: tuple[Payment, ...] = ()
    bodies: tuple[Body, ...] = ()
    takeovers: tuple[Takeover, ...] = ()
    keys: tuple[Key, ...] = ()
    #: Where the region's own journals end.
    heads: tuple[Span, ...] = ()
    gaps: tuple[Span, ...] = ()
    #: By table: one digest of all its rows.
    tables: Mapping[str, str] = field(default_factory=dict)
    #: By table and key: a digest of each row, where the tables of two regions differ.
    rows: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @cached_property
    def ids(self) -> frozenset[UUID]:
        """The transactions that it has."""
        return frozenset(row.id for row in self.transactions)

    @cached_property
    def digests(self) -> Mapping[tuple[UUID, int], frozenset[str]]:
        """Of the bodies that it has, in hex, by transaction and kind."""
        gathered: defaultdict[tuple[UUID, int], set[str]] = defaultdict(set)
        for body in self.bodies:
            gathered[body.tx, body.kind].add(body.digest.hex())
        return {key: frozenset(of) for key, of in gathered.items()}


class Kind(StrEnum):
    """What sort of promise was broken."""

    #: Something that somebody was told is there is not, or it never ends.
    LOST = "lost"
    #: Two ends, or two attempts of one payment that live or have settled.
    DOUBLED = "doubled"
    #: Bytes are others than those sent or seen.
    CHANGED = "changed"
    #: History does not hold: altered, moved, missing, or not what the present state says.
    HISTORY = "history"
    #: Two regions do not have the same.
    UNEQUAL = "unequal"
    #: Settled after its deadline.
    LATE = "late"
    #: An answer claimed what it had no right to.
    UNTRUE = "untrue"
    #: A takeover or return did not come to its end.
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A broken promise, and which evidence disagrees."""

    kind: Kind
    #: All of it, in a sentence that names everything.
    sentence: str
    transaction: UUID | None = None
    client: str | None = None
    #: Name of a region.
    region: str | None = None
    #: Lines and tables that disagree.
    evidence: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As it is printed."""
        return f"{self.kind}: {self.sentence}"


Faults = Iterator[Fault]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All of it. What is looked up more than once is gathered once."""

    databases: tuple[Database, ...]
    calls: tuple[Call, ...]
    receipts: tuple[Receipt, ...] = ()
    timeline: tuple[Moment, ...] = ()
    #: Seconds since 1970, when the databases were read.
    now: float
    #: Seconds from the id to the end, by route; `*` for all others. Empty: deadlines of settlements are not checked.
    sla: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def standing(self) -> Mapping[UUID, Transaction]:
        """Each transaction as it is: the row of the highest epoch, over all regions."""
        return highest(row for database in self.databases for row in database.transactions)

    @cached_property
    def _rows(self) -> Mapping[tuple[str, UUID], tuple[Transaction, ...]]:
        gathered: defaultdict[tuple[str, UUID], list[Transaction]] = defaultdict(list)
        for database in self.databases:
            for row in database.transactions:
                gathered[database.name, row.id].append(row)
        return {key: tuple(of) for key, of in gathered.items()}

    def rows(self, database: Database, tx: UUID) -> tuple[Transaction, ...]:
        """All regions' rows of a transaction that a database has."""
        return self._rows.get((database.name, tx), ())

    @cached_property
    def events(self) -> Mapping[UUID, tuple[Event, ...]]:
        """The events of each transaction, of all writers, from whatever region has them; by epoch and number."""
        gathered: defaultdict[UUID, dict[tuple[object, ...], Event]] = defaultdict(dict)
        for database in self.databases:
            for event in database.events:
                gathered[event.tx].setdefault((event.seq, event.writer, event.content), event)
        return {tx: tuple(sorted(of.values(), key=lambda event: event.order)) for tx, of in gathered.items()}

    def line(self, row: Transaction) -> list[Event]:
        """The events that a row follows from, in order: of each number its own region's, and of these the newest."""
        newest: dict[int, Event] = {}
        for event in sorted(self.events.get(row.id, ()), key=lambda event: (event.region == row.region, event.epoch)):
            if event.seq <= row.version:
                newest[event.seq] = event
        return [newest[seq] for seq in sorted(newest)]

    @cached_property
    def payments(self) -> Mapping[tuple[UUID, int], tuple[Payment, ...]]:
        """Each payment's rows, of all regions' writing and keeping."""
        gathered: defaultdict[tuple[UUID, int], set[Payment]] = defaultdict(set)
        for database in self.databases:
            for payment in database.payments:
                gathered[payment.tx, payment.ordinal].add(payment)
        return {key: tuple(sorted(of, key=lambda p: p.region)) for key, of in gathered.items()}

    @cached_property
    def takeovers(self) -> tuple[Takeover, ...]:
        """All that any region knows of, in the order in which they began; completed, where one has that."""
        found: dict[tuple[int, int, int], Takeover] = {}
        for takeover in (takeover for database in self.databases for takeover in database.takeovers):
            key = (takeover.home, takeover.generation, takeover.region)
            if key not in found or takeover.completed_at is not None:
                found[key] = takeover
        return tuple(sorted(found.values(), key=lambda takeover: takeover.begun_at))

    @cached_property
    def acknowledged(self) -> Mapping[UUID, tuple[Call, ...]]:
        """By transaction: the lines by which clients were told that it was taken."""
        gathered: defaultdict[UUID, list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.what in (What.ACKNOWLEDGED, What.REDRIVEN) and call.transaction is not None:
                gathered[call.transaction].append(call)
        return {tx: tuple(of) for tx, of in gathered.items()}

    @cached_property
    def excused(self) -> frozenset[UUID]:
        """What may be gone, as documented: its home lost its disk, and nobody was told that it is elsewhere."""
        told = {call.transaction for call in self.calls if call.replicated}
        return frozenset(
            tx
            for tx, calls in self.acknowledged.items()
            if tx not in self.standing and tx not in told and self.disk_lost(home(tx), calls[0].at)
        )

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Numbers of regions by name."""
        told = {moment.region: moment.number for moment in self.timeline if moment.number is not None}
        return told | {database.name: database.number for database in self.databases}

    def fault(
        self,
        kind: Kind,
        sentence: str,
        transaction: UUID | None,
        *evidence: str,
        client: str | None = None,
        region: str | None = None,
    ) -> Fault:
        """A fault; of a transaction that a database knows its client and its region are added."""
        row = None if transaction is None else self.standing.get(transaction)
        if row is not None:
            client, region = client or row.client, region or self.name(row.region)
        return Fault(
            kind=kind, sentence=sentence, transaction=transaction, client=client, region=region, evidence=evidence
        )

    def name(self, number: int) -> str:
        """Of a region by its number."""
        return next((name for name, known in self.numbers.items() if known == number), f"number {number}")

    def disk_lost(self, home: int, after: float) -> Moment | None:
        """When the region lost its disk after that time, if it did."""
        for moment in self.timeline:
            lost = moment.deed is Deed.KILL and moment.disk_lost and moment.at >= after
            if lost and self.numbers.get(moment.region) == home:
                return moment
        return None


def home(transaction: UUID) -> int:
    """The region that issued an id: its last eight bits."""
    return transaction.int & 0xFF


def highest(rows: Iterable[Transaction]) -> dict[UUID, Transaction]:
    """By id, the row of the highest epoch."""
    found: dict[UUID, Transaction] = {}
    for row in rows:
        known = found.get(row.id)
        if known is None or (row.epoch, row.version) > (known.epoch, known.version):
            found[row.id] = row
    return found
