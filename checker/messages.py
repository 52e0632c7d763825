"""What clients and receivers were told, held against what the databases have."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import chain
from uuid import UUID

from checker.evidence import DECISION, END, ENDS, UNKNOWN, Database, Evidence, Fault, Faults, Kind, Transaction, home
from checker.log import Call, Receipt, What

INBOX, OUTBOX = 0, 1
#: By decision, the events of which one must be in history.
_DECISIONS = {"accept": {"Accepted", "Approved"}, "reject": {"Rejected"}, "cancel": {"Cancelled"}}


def check(evidence: Evidence) -> Faults:
    """Everything that somebody was told is there, is what was told, and has an end."""
    yield from _acknowledged(evidence)
    yield from _ends_come(evidence)
    yield from _answers(evidence)
    yield from _looks(evidence)
    yield from _decisions(evidence)
    yield from _consistency(evidence)
    yield from _receipts(evidence)


def _acknowledged(evidence: Evidence) -> Faults:
    """Each message that was acknowledged is in every region, as it was sent."""
    sent = _sent(evidence)
    for tx, calls in evidence.acknowledged.items():
        if tx in evidence.excused:
            continue
        call = calls[0]
        who = f"client {call.client} was told {call.what} by region {call.region} ({call.place}) for {_named(call)}"
        if tx not in evidence.standing:
            yield _fault(Kind.LOST, f"{who}, but no region's database has it{_promised(evidence, tx)}", call)
            continue
        digests = sent.get((call.client, call.message), set()) if call.what is What.ACKNOWLEDGED else set()
        for database in evidence.databases:
            region = f"region {database.name}'s database"
            if tx not in database.ids:
                yield _fault(Kind.LOST, f"{who}, but {region} does not have it", call, database, "transactions")
                continue
            stored = database.digests.get((tx, INBOX), frozenset())
            if not stored:
                yield _fault(Kind.LOST, f"{who}, but {region} does not have its message", call, database, "bodies")
            elif digests and not stored <= digests:
                said = f"but {region} has a message of SHA-256 {_short(stored)}, and sent was {_short(digests)}"
                yield _fault(Kind.CHANGED, f"{who}, {said}", call, database, "bodies")


def _promised(evidence: Evidence, tx: UUID) -> str:
    """What makes it worse that it is gone."""
    told = next((call for call in evidence.calls if call.transaction == tx and call.replicated), None)
    if told is None or (lost := evidence.disk_lost(home(tx), told.at)) is None:
        return ""
    return f", though replicated: true was told ({told.place}) before region {lost.region} lost its disk ({lost.place})"


def _sent(evidence: Evidence) -> Mapping[tuple[str, str | None], set[str]]:
    """Digests of what each client has sent under each MsgId."""
    sent: defaultdict[tuple[str, str | None], set[str]] = defaultdict(set)
    for call in evidence.calls:
        if call.what is What.SENT and call.digest is not None and call.message is not None:
            sent[call.client, call.message].add(call.digest)
    return sent


def _ends_come(evidence: Evidence) -> Faults:
    """Nothing stays in flight: what has no end is unknown and shown so, or a clock of it still runs."""
    for row in evidence.standing.values():
        runs = row.due_at is not None and row.due_at > evidence.now * 1e6
        calls = evidence.acknowledged.get(row.id, ())
        # Of what was acknowledged only a consumer's decision may be awaited by the time that the run is judged.
        if row.state in (END, UNKNOWN) or (runs and (row.state == DECISION or not calls)):
            continue
        why = "" if runs else ", and no clock of it runs any more"
        whose = f"{_of(row)} has no end: it is {row.state} in region {evidence.name(row.region)}{why}"
        told = f"; client {calls[0].client} was told {calls[0].what} ({calls[0].place})" if calls else ""
        places = ("transactions", *(call.place for call in calls))
        yield evidence.fault(Kind.LOST, whose + told, row.id, *places)


def _answers(evidence: Evidence) -> Faults:
    """What has ended has its answer, in every region, and history knows it."""
    for row in evidence.standing.values():
        if row.state != END or not row.answer_due:
            continue
        if row.answer_digest is None:
            said = f"{_of(row)} ended {row.end} without an answer, though one is due"
            yield evidence.fault(Kind.LOST, said, row.id, "transactions")
            continue
        answer = f"the answer of {_of(row)} (SHA-256 {row.answer_digest.hex()[:16]})"
        for database in evidence.databases:
            if row.id in database.ids and row.answer_digest.hex() not in database.digests.get((row.id, OUTBOX), ()):
                said = f"{answer} is not in region {database.name}'s database, table bodies"
                yield evidence.fault(Kind.LOST, said, row.id, f"{database.name}.bodies", region=database.name)
        known = {digest for event in evidence.events.get(row.id, ()) for digest in event.said.get("bodies", ())}
        for kind, digest in (("message", row.digest), ("answer", row.answer_digest)):
            if digest is not None and digest.hex() not in known:
                said = f"the {kind} of {_of(row)} (SHA-256 {digest.hex()[:16]}) is not the one that its events tell of"
                yield evidence.fault(Kind.HISTORY, said, row.id, "events", "transactions")


def _looks(evidence: Evidence) -> Faults:
    """Whatever a client has seen is what is stored, and what every other look has seen."""
    first: dict[UUID, Call] = {}
    for call in evidence.calls:
        if call.transaction is None or call.transaction in evidence.excused:
            continue
        if call.what is What.ANSWERED and call.digest is not None:
            before = first.setdefault(call.transaction, call)
            if before.digest != call.digest:
                said = f"client {call.client} saw two answers to {_named(call)}: SHA-256 {_short(before.digest)}"
                said = f"{said} ({before.place}) and {_short(call.digest)} ({call.place})"
                yield _fault(Kind.CHANGED, said, call)
        if call.what is not What.SENT:
            said = f"client {call.client} saw %s of {_named(call)} in region {call.region} ({call.place})"
            answer = call.digest if call.what is What.ANSWERED else None
            yield from _seen(evidence, call, said, call.status, answer)


def _seen(evidence: Evidence, call: Call | Receipt, said: str, status: str | None, answer: str | None) -> Faults:
    """What was seen against what is stored; said: who saw, with a place for what."""
    assert call.transaction is not None  # the callers'
    row = evidence.standing.get(call.transaction)
    end = None if row is None or row.state != END else row.end
    if status in ENDS and status != end:
        said = said % f"the end {status}"
        if row is None:
            yield _fault(Kind.LOST, f"{said}, but no region's database has that transaction", call)
        elif end is None:
            yield _fault(Kind.LOST, f"{said}, but by the databases it has no end: it is {row.state}", call)
        else:
            yield _fault(Kind.DOUBLED, f"{said}, but by the databases it ended {end}", call)
    elif answer is not None and (row is None or row.answer_digest is None or row.answer_digest.hex() != answer):
        stored = None if row is None or row.answer_digest is None else row.answer_digest.hex()
        said = said % f"an answer of SHA-256 {_short(answer)}"
        yield _fault(Kind.CHANGED, f"{said}, but the databases have {_short(stored)}", call)


def _decisions(evidence: Evidence) -> Faults:
    """Each decision that was acknowledged is in history."""
    for call in evidence.calls:
        if call.what is not What.DECIDED or call.transaction is None or call.transaction in evidence.excused:
            continue
        kinds = {kind for event in evidence.events.get(call.transaction, ()) for kind in event.kinds}
        if call.decision in _DECISIONS and not kinds & _DECISIONS[call.decision]:
            said = f"client {call.client} was told that its decision {call.decision} on {_named(call)} was taken"
            yield _fault(Kind.LOST, f"{said} ({call.place}), but no region's events have it", call)


def _consistency(evidence: Evidence) -> Faults:
    """Nothing was acknowledged as consistent without a peer; what a redrive said of its original is so."""
    for call in chain.from_iterable(evidence.acknowledged.values()):
        if call.consistency not in (None, "available") and call.replicated is False:
            said = f"client {call.client} asked region {call.region} for {call.consistency} and was told {call.what}"
            yield _fault(Kind.UNTRUE, f"{said} with replicated: false ({call.place}) for {_named(call)}", call)
        row = evidence.standing.get(call.transaction) if call.transaction else None
        if call.redrive_of is not None and row is not None and row.redrive_of != call.redrive_of:
            said = f"client {call.client} was told that {_named(call)} drives {call.redrive_of} again ({call.place})"
            yield _fault(Kind.UNTRUE, f"{said}, but by the databases it drives {row.redrive_of} again", call)


def _receipts(evidence: Evidence) -> Faults:
    """Receivers were told what the databases say, and were handed each payment under one transaction."""
    handed: dict[str, Receipt] = {}
    for receipt in evidence.receipts:
        who = f"receiver {receipt.receiver} was %s, transaction {receipt.transaction} ({receipt.place})"
        if receipt.what != "handed":
            yield from _seen(evidence, receipt, who.replace("was %s", "was told %s"), receipt.status, receipt.digest)
            continue
        who %= "handed a payment"
        events = evidence.events.get(receipt.transaction, ())
        if not any("HandedOver" in event.kinds for event in events):
            yield _fault(Kind.LOST, f"{who}, but no region's events tell of that", receipt)
        row = evidence.standing.get(receipt.transaction)
        if row is not None and row.end == "CANC":
            yield _fault(Kind.DOUBLED, f"{who}, but by the databases it was cancelled", receipt)
        before = handed.setdefault(receipt.uetr, receipt) if receipt.uetr is not None else receipt
        if before.transaction != receipt.transaction:
            said = f"{who} of UETR {receipt.uetr}, and before under transaction {before.transaction} ({before.place})"
            yield _fault(Kind.DOUBLED, said, receipt)


# -- in words ---------------------------------------------------------------------------------------------------------


def _fault(kind: Kind, said: str, call: Call | Receipt, database: Database | None = None, table: str = "") -> Fault:
    places = (call.place,) if database is None else (call.place, f"{database.name}.{table}")
    client, region = (call.client, call.region) if isinstance(call, Call) else (None, None)
    return Fault(
        kind=kind, sentence=said, transaction=call.transaction, client=client,
        region=region if database is None else database.name, evidence=places,
    )  # fmt: skip


def _named(call: Call) -> str:
    names = {"MsgId": call.message, "UETR": call.uetr, "EndToEndId": call.end_to_end}
    known = ", ".join(f"{name} {value}" for name, value in names.items() if value is not None)
    return f"transaction {call.transaction}{f' ({known})' if known else ''}"


def _of(row: Transaction) -> str:
    return f"transaction {row.id} of client {row.client}"


def _short(digests: str | set[str] | frozenset[str] | None) -> str:
    if digests is None:
        return "none"
    return " or ".join(digest[:16] for digest in sorted({digests} if isinstance(digests, str) else digests))
