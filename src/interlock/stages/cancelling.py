"""Cancelling: what a request to cancel (camt.055, camt.056) comes to, original by original, and what is cancelled.

What can still be cancelled is, be it a message or some payments of one; what has ended is told as it ended; of what was
settled it is told whether it can come back.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple
from uuid import UUID

from interlock.iso20022 import enquiries, recalls
from interlock.iso20022.answers import Cancellation, Resolution, Resolved
from interlock.iso20022.codes import Status
from interlock.iso20022.original import Reference
from interlock.iso20022.recalls import Recallable
from interlock.iso20022.rules.dates import day_of
from interlock.lifecycle import EventKind, State, judge
from interlock.selection import SELECTED_MAX
from interlock.stages.matching import Entry, Facts, Match, Matcher, asks, known_as
from interlock.transaction import Payment, Transaction

Matches = Sequence[tuple[Reference, Match]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A transaction, or some payments of one, to be cancelled before the request is answered."""

    transaction: UUID
    #: ISO ExternalStatusReason1Code.
    reason: str
    note: str
    #: Ordinals; None: all that have no end yet.
    payments: tuple[int, ...] | None = None


class Plan(NamedTuple):
    """What comes of a request to cancel."""

    #: As they are once the cancels are facts.
    cases: tuple[Resolved, ...]
    cancels: tuple[Cancel, ...]
    #: Transactions whose end is intended and no fact yet.
    waits: tuple[UUID, ...]


class _Wanted:
    """What is to be cancelled of one transaction, for which reason; the first reason of a payment counts."""

    def __init__(self, reason: str) -> None:
        """reason: the first; of a message that is held for a fault, whose payments are not known yet, the only one."""
        self._reason = reason
        self._reasons: dict[int, str] = {}

    def add(self, payments: Iterable[Payment], reason: str) -> None:
        for payment in payments:
            self._reasons.setdefault(payment.ordinal, reason)

    def cancels(self, entry: Entry, live: frozenset[int]) -> Iterator[Cancel]:
        """As one where all that lives is meant, and for one reason."""
        id_, note = entry.transaction.id, "cancelled on request"
        wanted = {ordinal: reason for ordinal, reason in self._reasons.items() if ordinal in live}
        reasons = dict.fromkeys(wanted.values())
        if wanted.keys() == live and len(reasons) <= 1:
            yield Cancel(transaction=id_, reason=next(iter(reasons), self._reason), note=note)
            return
        for reason in reasons:
            ordinals = sorted(ordinal for ordinal, own in wanted.items() if own == reason)
            for start in range(0, len(ordinals), SELECTED_MAX):
                some = tuple(ordinals[start : start + SELECTED_MAX])
                yield Cancel(transaction=id_, reason=reason, note=note, payments=some)


def plan(matches: Matches, facts: Facts, matcher: Matcher) -> Plan:
    """What is to be cancelled, and what is told then."""
    wanted: dict[UUID, tuple[Entry, _Wanted]] = {}
    waits: dict[UUID, None] = {}
    cases = []
    for reference, match in matches:
        condition = condition_of(reference, match, facts, matcher)
        if match.entry is not None and condition == "cancel":
            reason = enquiries.status_reason(reference.reason)
            _, those = wanted.setdefault(match.entry.transaction.id, (match.entry, _Wanted(reason)))
            those.add(match.payments, reason)
            condition = "cancelled"
        elif match.entry is not None and condition in ("cancelling", "ending") and not facts.late:
            waits[match.entry.transaction.id] = None
        cases.append(resolved(reference, condition, match.entry))
    cancels = (cancel for entry, those in wanted.values() for cancel in those.cancels(entry, matcher.live(entry)))
    return Plan(tuple(cases), tuple(cancels), tuple(waits))


def condition_of(reference: Reference, match: Match, facts: Facts, matcher: Matcher) -> str:
    """How an original stands to its cancellation, as `data/enquiries.toml` calls it; `cancel`: it can be."""
    if match.entry is None:
        return match.condition
    condition = _condition(match.payments, match.entry.transaction)
    if condition == "settled":
        return _recall(reference, match, facts, matcher)
    if condition == "cancel" and facts.late:
        is_intended = any(payment.ordinal in match.entry.intended for payment in match.payments)
        return "cancelling" if is_intended else "late"
    return condition


def resolved(reference: Reference, condition: str, entry: Entry | None = None) -> Resolved:
    """What a camt.029 says of a reference under a condition."""
    definition = reference.definition if entry is None else entry.transaction.definition
    words = enquiries.cancellation(condition, definition)
    return Resolved(reference=reference, status=Cancellation(words.status), reason=words.reason, narrative=words.text)


def resolution(cases: Sequence[Resolved]) -> Resolution:
    """What a camt.029 says of the whole: cancelled, in part, pending or rejected."""
    return Resolution(confirmation=_outcome_of(cases), cases=tuple(cases))


def refused(references: Iterable[Reference], condition: str) -> Resolution:
    """All of a request is refused, for what it is itself."""
    return resolution([resolved(reference, condition) for reference in references])


def _outcome_of(cases: Iterable[Resolved]) -> str:
    statuses = {case.status for case in cases}
    if statuses == {Cancellation.ACCEPTED}:
        return "CNCL"
    if Cancellation.ACCEPTED in statuses:
        return "PECR"
    return "PDCR" if Cancellation.PENDING in statuses else "RJCR"


def _condition(payments: Iterable[Payment], transaction: Transaction) -> str:
    standing = transaction.standing
    if asks(transaction):
        return "unknown"  # a request is no payment, and is not cancelled
    stands: set[Status | None] = {payment.status for payment in payments} or {standing.status}
    if Status.ACSC in stands:
        return "settled"
    if stands <= {Status.CANC, Status.RJCT}:
        return "cancelled" if Status.CANC in stands else "rejected"
    if judge(standing, EventKind.CANCELLED) is None:
        if standing.state is not State.ENDING:
            return "handed"  # the outcome is a downstream's to tell
        # An end is under way, which is not to be told before it is a fact.
        return "cancelling" if standing.end is Status.CANC else "ending"
    return "cancel"


def _recall(reference: Reference, match: Match, facts: Facts, matcher: Matcher) -> str:
    """How what was settled stands to its being asked back."""
    entry = match.entry
    assert entry is not None  # what was settled is known
    if (entry.transaction.definition or "").startswith("pain.013"):
        return "settled"  # no money has moved
    if matcher.is_returned(reference, match.payments):
        return "returned"
    if not facts.offer_return:
        return "settled"
    asked = facts.asked.get(reference.ordinal)
    if asked is None:
        return "return"
    currency = next((payment.currency for payment in match.payments if payment.currency), "")
    reason = reference.reason or reference.proprietary_reason
    told = recalls.judge(
        entry.recalls, reason, settled=_settled_on(entry, match.payments), asked=asked.date(), currency=currency
    )
    return _RECALLS[told]


_RECALLS: Final = {
    Recallable.OPEN: "return",
    Recallable.GROUNDS: "grounds",
    Recallable.OVER: "expired",
    Recallable.UNLISTED: "unlisted",
}


def _settled_on(entry: Entry, payments: Iterable[Payment]) -> date:
    """The settlement date of a payment, as its message has it; for want of one, the day on which it came."""
    known = (known_as(entry, payment) for payment in payments)
    days = (day_of(one.settlement_date) for one in known if one is not None)
    return next((day for day in days if day is not None), entry.transaction.created_at.date())
