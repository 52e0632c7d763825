"""One end: for every transaction and every payment, over all regions and all attempts."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from uuid import UUID

from checker.evidence import END, ENDS, Event, Evidence, Fault, Faults, Kind, Payment, Transaction

_FAILED = ("RJCT", "CANC")
#: Returns and reversals carry the UETR of the payment that they undo, in as many parts as they like.
_UNDOING = ("pacs.004", "pacs.007", "pain.007")


def check(evidence: Evidence) -> Faults:
    """No two ends, no two answers, no two attempts."""
    for tx in evidence.standing:
        yield from _ends(evidence, tx)
        yield from _goes_on(evidence, tx)
    for (tx, _), rows in evidence.payments.items():
        if tx in evidence.standing:
            yield from _payment_ends(evidence, rows)
    yield from _aggregates(evidence)
    yield from _attempts(evidence)


def _ends(evidence: Evidence, tx: UUID) -> Faults:
    """All that ever made an end a fact made the same: events of every writer, and rows of every region."""
    exposed: dict[str, str] = {}
    for event in evidence.events.get(tx, ()):
        if event.end is not None:
            exposed.setdefault(event.end, f"{event.name} of region {evidence.name(event.region)}")
    answers: dict[bytes, str] = {}
    for database in evidence.databases:
        for row in evidence.rows(database, tx):
            if row.state == END and row.end is not None:
                place = f"the row of region {evidence.name(row.region)} in region {database.name}'s database"
                exposed.setdefault(row.end, place)
                if row.answer_digest is not None:
                    answers.setdefault(row.answer_digest, place)
    if len(exposed) > 1:
        yield _doubled(evidence, tx, f"has two ends: {_listed(exposed)}", "events", "transactions")
    elif len(answers) > 1:
        told = {digest.hex()[:16]: place for digest, place in answers.items()}
        yield _doubled(evidence, tx, f"ended with two answers: SHA-256 {_listed(told)}", "transactions")


def _goes_on(evidence: Evidence, tx: UUID) -> Faults:
    """Nothing leaves an end, in the eyes of each writer."""
    ended: dict[int, Event] = {}
    for event in evidence.events.get(tx, ()):
        before = ended.get(event.writer)
        if before is not None and event.state != END:
            yield _doubled(evidence, tx, f"goes on after its end: {event.name} follows {before.name}", "events")
            return
        if event.state == END:
            ended.setdefault(event.writer, event)


def _payment_ends(evidence: Evidence, rows: tuple[Payment, ...]) -> Faults:
    """A payment's rows, one a region that has had it, name one end at most."""
    ends = {row.status: f"by region {evidence.name(row.region)}" for row in rows if row.status in ENDS}
    if len(ends) > 1:
        said = f"payment {rows[0].ordinal} (UETR {rows[0].uetr}) has two ends: {_listed(ends)}"
        yield _doubled(evidence, rows[0].tx, said, "payments")


def _aggregates(evidence: Evidence) -> Faults:
    """The payments of an ended transaction have ended as it says."""
    for row in evidence.standing.values():
        if row.state != END:
            continue
        of = [_own(evidence, row, ordinal) for ordinal in range(1, row.payments + 1)]
        statuses = [payment.status for payment in of if payment is not None]
        if len(statuses) < row.payments:
            said = f"transaction {row.id} has {row.payments} payments, but {len(statuses)} of them are in the databases"
            yield evidence.fault(Kind.LOST, said, row.id, "payments")
        elif any(status not in ENDS for status in statuses):
            said = f"transaction {row.id} ended {row.end}, but a payment of it is {', '.join(statuses)}"
            yield evidence.fault(Kind.LOST, said, row.id, "payments")
        elif statuses and (row.end == "ACSC") != ("ACSC" in statuses):
            said = f"transaction {row.id} ended {row.end}, but its payments {', '.join(statuses)}"
            yield evidence.fault(Kind.DOUBLED, said, row.id, "payments")


class _Attempt(NamedTuple):
    """One transaction's hold on a payment."""

    row: Transaction
    ordinal: int
    status: str

    def __str__(self) -> str:
        return f"transaction {self.row.id} ({self.status}, attempt {self.row.attempt})"


def _attempts(evidence: Evidence) -> Faults:
    """Of all attempts of one payment, whatever it is known by, one at most is alive, and one at most has settled."""
    named: set[frozenset[UUID]] = set()
    for name, attempts in _families(evidence).items():
        alive = [attempt for attempt in attempts if attempt.status not in _FAILED]
        who = frozenset(attempt.row.id for attempt in alive)
        # A family is known by several names; it is told of once.
        if len(alive) < 2 or who in named:
            continue
        named.add(who)
        settled = sum(attempt.status == "ACSC" for attempt in alive)
        what = "was settled twice" if settled > 1 else "has two live attempts"
        said = f"the payment of client {name.client} with {name.what} {what}: {' and '.join(map(str, alive))}"
        last = alive[-1].row.id
        yield evidence.fault(Kind.DOUBLED, said, last, "payments", *(f"transactions {id_}" for id_ in sorted(who)))


class _Name(NamedTuple):
    """What makes two attempts those of one payment."""

    client: str
    what: str


def _families(evidence: Evidence) -> Mapping[_Name, list[_Attempt]]:
    """Attempts by UETR, by the first attempt's id, and by every key that one of them has reserved."""
    found: defaultdict[_Name, list[_Attempt]] = defaultdict(list)
    for row in evidence.standing.values():
        for ordinal in range(1, row.payments + 1) if row.answer_due else ():
            payment = _own(evidence, row, ordinal)
            if payment is not None:
                for what in _names(evidence, row, payment):
                    found[_Name(row.client, what)].append(_Attempt(row, ordinal, _status(evidence, row, ordinal)))
    seen: set[tuple[str, str, UUID, int]] = set()
    for key in (key for database in evidence.databases for key in database.keys):
        holder = evidence.standing.get(key.tx)
        held = (key.kind, key.value, key.tx, key.payment)
        if holder is not None and holder.payments and held not in seen and holder.client == key.client:
            seen.add(held)
            status = _status(evidence, holder, key.payment) if key.payment else _of_message(holder)
            found[_Name(key.client, f"key {key.kind} {key.value!r}")].append(_Attempt(holder, key.payment, status))
    return found


def _names(evidence: Evidence, row: Transaction, payment: Payment) -> Iterator[str]:
    function = (row.definition or "")[:8]
    if payment.uetr is not None and function not in _UNDOING:
        # A cover payment (pacs.009) carries the UETR of its pacs.008 by rule.
        yield f"UETR {payment.uetr} ({function})"
    root, climbed = row, {row.id}
    while root.redrive_of is not None and root.redrive_of not in climbed:
        climbed.add(root.redrive_of)
        before = evidence.standing.get(root.redrive_of)
        if before is None:
            break
        root = before
    yield f"first attempt {root.redrive_of or root.id}, number {payment.ordinal} in it"


def _own(evidence: Evidence, row: Transaction, ordinal: int) -> Payment | None:
    """The payment as the region has it whose row is the transaction."""
    payments = evidence.payments.get((row.id, ordinal), ())
    return next((payment for payment in payments if payment.region == row.region), None)


def _status(evidence: Evidence, row: Transaction, ordinal: int) -> str:
    """What became of it; money that moved in any region's eyes has moved."""
    payments = evidence.payments.get((row.id, ordinal), ())
    if any(payment.status == "ACSC" for payment in payments):
        return "ACSC"
    own = _own(evidence, row, ordinal)
    return row.status if own is None else own.status


def _of_message(row: Transaction) -> str:
    return row.end if row.state == END and row.end is not None else row.status


def _doubled(evidence: Evidence, tx: UUID, said: str, *tables: str) -> Fault:
    return evidence.fault(
        Kind.DOUBLED, f"transaction {tx} of client {evidence.standing[tx].client} {said}", tx, *tables
    )


def _listed(found: Mapping[str, str]) -> str:
    return " and ".join(f"{what} ({where})" for what, where in found.items())
