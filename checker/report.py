"""The verdict: all checks over all evidence, in lines for people or as JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID

from checker import history, messages, payments, times
from checker.evidence import Evidence, Fault, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found."""

    faults: tuple[Fault, ...]
    #: Messages and transactions that are lost, or have two of what there must be one of.
    lost: int
    doubled: int
    #: Transactions that drive another one again.
    redriven: int
    #: Acknowledged with `replicated: false`, and gone with the disk of their home: documented, and counted apart.
    excused: tuple[UUID, ...]
    takeovers: tuple[times.Span, ...]
    rejoins: tuple[times.Span, ...]
    #: How much was looked at.
    looked_at: str

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not self.faults

    @property
    def line(self) -> str:
        """The verdict in one line."""
        told = f"regions: {self.lost} lost, {self.doubled} doubled, {self.redriven} redriven"
        told += f", {_longest('takeover', self.takeovers)}, {_longest('rejoin', self.rejoins)}"
        others = sum(fault.kind not in (Kind.LOST, Kind.DOUBLED) for fault in self.faults)
        told += f", {others} other faults" if others else ""
        return told + (f", {len(self.excused)} gone with a disk before replication" if self.excused else "")

    def lines(self) -> Iterator[str]:
        """For people: each fault, what was looked at, the verdict."""
        yield from map(str, self.faults)
        for span in self.takeovers:
            told = f"{span.transactions} transactions in flight were decided in {span.seconds:.1f} s"
            yield f"takeover of region {span.region} by region {span.by}: {told}"
        for span in self.rejoins:
            yield f"region {span.region} rejoined in {span.seconds:.1f} s"
        for tx in self.excused:
            yield f"not counted: transaction {tx}, acknowledged with replicated: false, went with its region's disk"
        yield f"looked at: {self.looked_at}"
        yield self.line

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "holds": self.holds,
            "verdict": self.line,
            "lost": self.lost,
            "doubled": self.doubled,
            "redriven": self.redriven,
            "excused": [str(tx) for tx in self.excused],
            "takeovers": [span._asdict() for span in self.takeovers],
            "rejoins": [span._asdict() for span in self.rejoins],
            "looked_at": self.looked_at,
            "faults": [
                {
                    "kind": fault.kind,
                    "sentence": fault.sentence,
                    "transaction": None if fault.transaction is None else str(fault.transaction),
                    "client": fault.client,
                    "region": fault.region,
                    "evidence": list(fault.evidence),
                }
                for fault in self.faults
            ],
        }


def judge(evidence: Evidence) -> Report:
    """Hold everything against everything else."""
    found = chain.from_iterable(module.check(evidence) for module in (messages, payments, history, times))
    # One and the same fault may show in several places; the first sentence names it.
    faults = tuple(dict.fromkeys(found))
    return Report(
        faults=faults,
        lost=_number(faults, Kind.LOST),
        doubled=_number(faults, Kind.DOUBLED),
        redriven=sum(row.redrive_of is not None for row in evidence.standing.values()),
        excused=tuple(sorted(evidence.excused)),
        takeovers=times.takeovers(evidence),
        rejoins=times.rejoins(evidence),
        looked_at=_looked_at(evidence),
    )


def _number(faults: tuple[Fault, ...], kind: Kind) -> int:
    """How many transactions are concerned; a fault that names none counts by itself."""
    return len({fault.transaction or fault.sentence for fault in faults if fault.kind is kind})


def _looked_at(evidence: Evidence) -> str:
    clients = len({call.client for call in evidence.calls})
    told = f"{len(evidence.acknowledged)} acknowledged transactions of {clients} clients in {len(evidence.calls)} lines"
    events = sum(map(len, evidence.events.values()))
    told = f"{len(evidence.databases)} databases, {len(evidence.standing)} transactions, {events} events; {told}"
    deadlines = "" if evidence.sla else "; deadlines of settlements were not: no --sla was given"
    return told + deadlines


def _longest(what: str, spans: tuple[times.Span, ...]) -> str:
    return f"{what} {max(span.seconds for span in spans):.1f} s" if spans else f"no {what}"
