"""Payments of a transaction that end by themselves, before the rest of it. Pure.

A consumer's decision on some payments is final from its commit on: nothing replaces it, and the end of the whole leaves
those payments as they are. It is told to nobody before it is a fact; until then the table of payments, from which keys
are freed and readers served, knows nothing of it. What is intended and what is a fact is a fold over the events, so it
is in every region that has them.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from msgspec.structs import replace

from interlock.iso20022.codes import Status
from interlock.lifecycle import TABLE, EventKind, State
from interlock.transaction import Event, Payment, PaymentEnd, Transaction

#: The decisions on some payments, and how they end these.
INTENTS: Final[Mapping[EventKind, Status]] = MappingProxyType(
    {EventKind.PAYMENTS_REJECTED: Status.RJCT, EventKind.PAYMENTS_CANCELLED: Status.CANC}
)
#: How an event ends what it ends, by itself.
_ENDS: Final = {kind: move.end for kind, row in TABLE.items() for move in row.values() if move.end is not None}
#: In the detail of such an event: the ordinals. Of the end of the whole: those that were named for it.
NAMED: Final = "payments"


class _Decided(NamedTuple):
    end: PaymentEnd
    #: Of the event that decided it.
    seq: int


class Apart(NamedTuple):
    """Which payments have an end of their own, and for which of them that is a fact."""

    decided: Mapping[int, _Decided]
    facts: frozenset[int]
    #: How the others end, once that is intended: RJCT also where the whole, of which some were cancelled, is CANC.
    rest: Status | None = None

    @property
    def ends(self) -> Mapping[int, PaymentEnd]:
        """How they end, by ordinal."""
        return {ordinal: one.end for ordinal, one in self.decided.items()}

    @property
    def cancelled(self) -> bool:
        """Whether some were cancelled, so that the whole cannot be rejected any more."""
        return any(one.end.status is Status.CANC for one in self.decided.values())

    def pending(self, version: int | None = None) -> tuple[int, ...]:
        """Ordinals of those whose end is intended only. version: only what was by then."""
        return tuple(
            ordinal
            for ordinal, one in sorted(self.decided.items())
            if ordinal not in self.facts and (version is None or one.seq <= version)
        )

    def facts_since(self, before: "Apart") -> tuple[PaymentEnd, ...]:
        """Ends that have become facts since then."""
        return tuple(self.decided[ordinal].end for ordinal in sorted(self.facts - before.facts))

    def then(self, event: Event) -> "Apart":
        """With one event more."""
        kind = event.because or event.kind
        decided, facts = self.decided, self.facts
        if kind in INTENTS:
            status = INTENTS[kind]
            ends = {
                ordinal: _Decided(PaymentEnd(ordinal, status, event.reason, event.note), event.seq)
                for ordinal in named(event)
            }
            decided = {**ends, **decided}  # one end a payment: the first
        elif not decided:
            return self
        if event.kind is EventKind.PAYMENTS_ENDED:
            facts |= frozenset(named(event)) & decided.keys()
        elif event.standing.state is State.END:
            facts = frozenset(decided)
        return Apart(decided, facts, self._rest(event, kind))

    def _rest(self, event: Event, kind: EventKind) -> Status | None:
        end = _ENDS.get(kind)
        if event.standing.end is None or end is None or self.rest not in (None, Status.ACSC):
            return self.rest  # only an intent to release is ever replaced
        is_it = end is event.standing.end or (end, event.standing.end) == (Status.RJCT, Status.CANC)
        return end if is_it else self.rest


NONE_APART: Final = Apart(MappingProxyType({}), frozenset())


def named(event: Event) -> tuple[int, ...]:
    """The payments that an event names."""
    told = event.detail.get(NAMED, ())
    return tuple(told) if isinstance(told, Sequence) else ()


def fold(history: Iterable[Event], transaction: Transaction) -> Apart:
    """What events come to that led to a transaction as it was read; as a store gives them, by epoch and number.

    What has happened since then is left out: its home may not know yet that another region goes on with it.
    """
    apart = NONE_APART
    for event in _valid(history, transaction):
        apart = apart.then(event)
    return apart


def named_alone(history: Iterable[Event], transaction: Transaction) -> frozenset[int]:
    """Payments that decisions named, and so ended by themselves; not those that ended with their transaction."""
    ending = (*INTENTS, EventKind.REJECTED, EventKind.CANCELLED)
    found = _valid(history, transaction)
    return frozenset(ordinal for event in found if (event.because or event.kind) in ending for ordinal in named(event))


def _valid(history: Iterable[Event], transaction: Transaction) -> list[Event]:
    """Without what is superseded: what an older epoch has beyond the beginning of a newer one counts for nothing."""
    valid: list[Event] = []
    for event in history:
        if event.epoch > transaction.epoch or event.seq > transaction.version:
            continue
        while valid and valid[-1].seq >= event.seq:
            valid.pop()
        valid.append(event)
    return valid


def living(payments: Iterable[Payment], apart: Apart) -> tuple[int, ...]:
    """Ordinals of the payments that have no end, and none intended for them alone."""
    return tuple(p.ordinal for p in payments if not p.status.is_final and p.ordinal not in apart.decided)


def shown(transaction: Transaction, payments: Sequence[Payment], apart: Apart) -> tuple[Payment, ...]:
    """Payments as they are shown: those without an end stand as their transaction does.

    apart: needed only while an end of the whole is intended, of which nothing is shown before it is a fact.
    """
    status = transaction.standing.status
    assert status is not None  # what is stored has had an event
    if transaction.standing.state is State.ENDING:
        hidden = (replace(p, status=status, reason=None, note=None) for p in payments)
        known = {payment.ordinal: payment for payment in payments if payment.ordinal in apart.facts}
        return tuple(known.get(payment.ordinal, payment) for payment in hidden)
    return tuple(p if p.status.is_final else replace(p, status=status) for p in payments)
