"""What must hold of the databases alone: chains link, rows follow from events, regions have the same."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import pairwise
from uuid import UUID

from checker.evidence import Database, Event, Evidence, Fault, Faults, Kind, Span, highest, journal

GENESIS = bytes(32)
#: Of rows that differ between two regions so many are named, the rest counted.
_NAMED = 20
_Chain = tuple[int, int]
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def check(evidence: Evidence) -> Faults:
    """History in each region by itself, then the regions with each other."""
    everywhere = {
        (event.writer, event.journal, event.chain_seq): event
        for database in evidence.databases
        for event in database.events
    }
    heads = {(head.writer, head.journal): head for database in evidence.databases for head in database.heads}
    gaps = [gap for database in evidence.databases for gap in database.gaps]
    for database in evidence.databases:
        chains: defaultdict[_Chain, list[Event | Span]] = defaultdict(list)
        links: tuple[Event | Span, ...] = (*database.events, *gaps)
        for link in links:
            chains[link.writer, link.journal].append(link)
        for which in sorted({*chains, *(which for which, head in heads.items() if head.last)}):
            for said, event in _chain(chains[which], heads.get(which), which, everywhere):
                yield _fault(evidence, database, said, event)
        yield from _folds(evidence, database)
    yield from _equal(evidence)
    yield from _takers(evidence)


# -- chains -----------------------------------------------------------------------------------------------------------


def _chain(
    links: list[Event | Span], head: Span | None, which: _Chain, everywhere: Mapping[tuple[int, int, int], Event]
) -> Iterator[tuple[str, Event | None]]:
    """Walk a journal from its first event: what does not hold, and of which event."""
    seq, previous, name = 0, GENESIS, journal(*which)
    for link in _ordered(links):
        first, last = _places(link)
        for missing in range(seq + 1, first):
            lost = everywhere.get((*which, missing))
            yield f"{_event(lost)} is missing: place {missing} of {name} is empty", lost
        event = link if isinstance(link, Event) else None
        if first <= seq:
            yield f"{_event(event)} stands at place {first} of {name}, as another does", event
            continue
        if link.previous != previous and first == seq + 1:
            yield f"{_event(event)} does not follow what stands before it in {name}, place {first}", event
        if event is not None:
            yield from ((said, event) for said in _altered(event))
        seq, previous = last, link.hash
    if head is None or seq > head.last:
        return
    for missing in range(seq + 1, head.last + 1):
        lost = everywhere.get((*which, missing))
        yield f"{_event(lost)} is missing: {name} ends at place {seq}, its head says {head.last}", lost
    if seq == head.last and previous != head.hash:
        yield f"the end of {name} (place {seq}) is not the one that its head names", everywhere.get((*which, seq))


def _ordered(links: list[Event | Span]) -> Iterator[Event | Span]:
    """By place; archived runs that are back in the database stand there as events."""
    reached = 0
    for link in sorted(links, key=lambda link: (_places(link)[0], isinstance(link, Span))):
        first, last = _places(link)
        if first > reached or isinstance(link, Event):
            reached = max(reached, last)
            yield link


def _places(link: Event | Span) -> tuple[int, int]:
    return (link.first, link.last) if isinstance(link, Span) else (link.chain_seq, link.chain_seq)


def _altered(event: Event) -> Iterator[str]:
    if sha256(event.previous + event.content).digest() != event.hash:
        yield f"{_event(event)} was altered: its hash is not that of its content"
    elif (event.said.get("tx"), event.said.get("seq")) != (event.tx.hex, event.seq):
        yield f"{_event(event)} stands where its content does not belong"


def _event(event: Event | None) -> str:
    return "an event" if event is None else f"{event.name} of transaction {event.tx}"


# -- rows -------------------------------------------------------------------------------------------------------------


def _folds(evidence: Evidence, database: Database) -> Faults:
    """Each transaction stands as the last event of its row's region says, and no event before that is missing.

    A row that another region's outranks is left as it is, whatever its home has found in it since.
    """
    seqs: defaultdict[UUID, set[int]] = defaultdict(set)
    standing: defaultdict[tuple[UUID, int, int], list[Event]] = defaultdict(list)
    for event in database.events:
        seqs[event.tx].add(event.seq)
        standing[event.tx, event.region, event.seq].append(event)
    for row in highest(database.transactions).values():
        last = max(standing.get((row.id, row.region, row.version), ()), key=lambda event: event.epoch, default=None)
        whose = f"the row of transaction {row.id} by region {evidence.name(row.region)}"
        if last is None or any(seq not in seqs[row.id] for seq in range(1, row.version)):
            yield _fault(
                evidence, database, f"{whose} has version {row.version}, but its events are not all there", row.id
            )
        elif (row.state, row.status, row.end) != (shown := (last.state, last.said.get("status"), last.said.get("end"))):
            told = f"{whose} says {row.state}, {row.status}, end {row.end}, but its last one, {last.name},"
            yield _fault(evidence, database, f"{told} says {', '.join(map(str, shown))}", row.id)
    for tx in seqs.keys() - database.ids:
        yield _fault(evidence, database, f"transaction {tx} has events, but no row", tx)


# -- regions ----------------------------------------------------------------------------------------------------------


def _equal(evidence: Evidence) -> Faults:
    """What is replicated is the same everywhere."""
    for one, other in pairwise(evidence.databases):
        for table in sorted({*one.tables, *other.tables}):
            if one.tables.get(table) == other.tables.get(table):
                continue
            mine, theirs = one.rows.get(table, {}), other.rows.get(table, {})
            keys = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
            for key in keys[:_NAMED]:
                where = f"only in region {one.name}" if key not in theirs else f"only in region {other.name}"
                where = "another" if key in mine and key in theirs else where
                yield _unequal(evidence, one, other, table, f"row {key} is {where}", key)
            more = len(keys) - _NAMED
            if not keys or more > 0:
                said = f"{more} more rows differ" if keys else "its rows differ"
                yield _unequal(evidence, one, other, table, said)


def _unequal(evidence: Evidence, one: Database, other: Database, table: str, said: str, key: str = "") -> Fault:
    found = _UUID.search(key)
    told = f"table {table} differs between regions {one.name} and {other.name}: {said}"
    places = (f"{one.name}.{table}", f"{other.name}.{table}")
    return evidence.fault(Kind.UNEQUAL, told, UUID(found[0]) if found else None, *places, region=other.name)


def _takers(evidence: Evidence) -> Faults:
    """One region takes another over at a time."""
    takers: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for database in evidence.databases:
        for takeover in database.takeovers:
            takers[takeover.home, takeover.generation].add(takeover.region)
    for (lost, generation), by in takers.items():
        if len(by) > 1:
            who = " and ".join(evidence.name(number) for number in sorted(by))
            said = f"region {evidence.name(lost)} was taken over by {who} at once (generation {generation})"
            yield evidence.fault(Kind.DOUBLED, said, None, "takeovers", region=evidence.name(lost))


def _fault(evidence: Evidence, database: Database, said: str, of: Event | UUID | None) -> Fault:
    tx = of.tx if isinstance(of, Event) else of
    told = f"in region {database.name}'s database {said}"
    return evidence.fault(Kind.HISTORY, told, tx, f"{database.name}.events", region=database.name)
