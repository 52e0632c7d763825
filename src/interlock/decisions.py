"""What consumers and operators may decide, and when it is too late. Pure.

The lifecycle's table says which decision is legal where; this module adds what the table cannot know: that the same
decision again is no mistake, that two must agree where a route wants four eyes, what to do when it is too late, and
which payments are left where a decision names some.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from interlock.apart import INTENTS, fold, living
from interlock.errors import IllegalDecision, RequestError
from interlock.iso20022 import reasons
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind, State, judge
from interlock.routes import Route
from interlock.selection import Selector, chosen
from interlock.transaction import Event, Payment, Transaction


class DecisionKind(StrEnum):
    """What can be decided about one transaction."""

    ACCEPT = "accept"
    REJECT = "reject"
    CANCEL = "cancel"
    #: An operator's: let the stages try again after a fault of ours.
    RETRY = "retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who decides what, and why."""

    kind: DecisionKind
    #: The client, with the person or application that it names: `c_1a2b:alice`; or `operator:NAME`.
    actor: str
    #: ISO ExternalStatusReason1Code.
    reason: str | None = None
    note: str | None = None
    #: Only these payments; None: all that have no end yet.
    payments: tuple[Selector, ...] | None = None


class Verdict(NamedTuple):
    """What a decision on some payments comes to."""

    #: None: it stands already.
    event: EventKind | None
    #: Ordinals of all that it names.
    named: tuple[int, ...]
    #: Of those that end with it; none where all that live do, and so the transaction.
    ends: tuple[int, ...] = ()


_EVENT = {
    DecisionKind.ACCEPT: EventKind.ACCEPTED,
    DecisionKind.REJECT: EventKind.REJECTED,
    DecisionKind.CANCEL: EventKind.CANCELLED,
    DecisionKind.RETRY: EventKind.RETRIED,
}
_EVENT_OF_SOME = {
    DecisionKind.REJECT: EventKind.PAYMENTS_REJECTED,
    DecisionKind.CANCEL: EventKind.PAYMENTS_CANCELLED,
}
#: Cancelled by customer: what a cancel without a reason of its own carries.
_CANCEL_REASON = reasons.reason_for("cancelled_by_consumer")


def checked(decision: Decision) -> Decision:
    """The decision with its reason filled in; raises RequestError where the reason is missing or none of ISO's."""
    reason, note = decision.reason, _said(decision.note)
    if decision.payments is not None and decision.kind not in _EVENT_OF_SOME:
        raise RequestError(_ALL_OR_NONE[decision.kind])
    match decision.kind:
        case DecisionKind.ACCEPT | DecisionKind.RETRY:
            if reason is not None:
                raise RequestError(f"{decision.kind} takes no reason; leave it out")
            return replace(decision, note=note)
        case DecisionKind.CANCEL:
            reason = reason or _CANCEL_REASON
        case DecisionKind.REJECT:
            if reason is None:
                raise RequestError("reject needs a reason: an ISO ExternalStatusReason1Code such as AC04 or FRAD")
    if not reasons.is_status_reason(reason):
        raise RequestError("reason is not an ISO ExternalStatusReason1Code")
    if reason == "NARR" and note is None:
        raise RequestError("reason NARR says that a note explains it; give a note")
    return replace(decision, reason=reason, note=note)


def _said(note: str | None) -> str | None:
    """The note; None where there is nothing to be read in it."""
    note = (note or "").strip()
    return note if any(sign.isprintable() and not sign.isspace() for sign in note) else None


_ALL_OR_NONE = {
    DecisionKind.ACCEPT: "accept takes no payments: reject or cancel the others first, then accept what is left",
    DecisionKind.RETRY: "retry takes no payments: the message as a whole is tried again",
}


def event_for(transaction: Transaction, decision: Decision, route: Route, history: Sequence[Event]) -> EventKind | None:
    """The event that the decision makes; None where the same decision already stands.

    history: events of the transaction. Raises IllegalDecision, which says what stands and what can be done instead.
    """
    kind = _EVENT[decision.kind]
    if decision.kind is DecisionKind.ACCEPT and _wants_another(transaction, route):
        return EventKind.APPROVED
    if decision.kind is DecisionKind.ACCEPT and _approved_already(transaction, decision, route):
        return None
    if judge(transaction.standing, kind) is not None:
        return kind
    if _has_been(history, kind, decision.reason):
        return None
    raise IllegalDecision(_too_late(transaction, decision))


def on_some(
    transaction: Transaction, decision: Decision, payments: Sequence[Payment], history: Sequence[Event]
) -> Verdict:
    """What a decision on some payments makes; `decision.payments` says on which.

    payments: all of the transaction's, as the store has them. Raises RequestError where it is not clear which are
    meant, IllegalDecision where one of them has ended otherwise: then nothing is decided on the others either.
    """
    assert decision.payments is not None  # else all are meant
    if not payments:
        raise IllegalDecision(f"no payments of {transaction.id} are known here; decide on it as a whole")
    of_some, apart = _EVENT_OF_SOME[decision.kind], fold(history, transaction)
    meant = chosen(payments, decision.payments)
    named = tuple(payment.ordinal for payment in meant)
    ended = {payment.ordinal: (payment.status, payment.reason) for payment in meant if payment.status.is_final}
    ended |= {ordinal: apart.ends[ordinal][1:3] for ordinal in named if ordinal in apart.decided}
    for ordinal, end in ended.items():
        if end != (INTENTS[of_some], decision.reason):
            raise IllegalDecision(_stands(transaction, decision, ordinal, end, is_told=ordinal not in apart.pending()))
    left = tuple(ordinal for ordinal in named if ordinal not in ended)
    if not left:
        return Verdict(None, named)
    takes_all = set(left) == set(living(payments, apart))
    event = _EVENT[decision.kind] if takes_all else of_some
    if judge(transaction.standing, event) is not None:
        return Verdict(event, named, () if takes_all else left)
    if _has_been(history, _EVENT[decision.kind], decision.reason):
        return Verdict(None, named)
    raise IllegalDecision(_too_late(transaction, decision))


def were_made(history: Sequence[Event]) -> bool:
    """Whether anybody has decided to end a transaction, or some of its payments."""
    ending = {EventKind.REJECTED, EventKind.CANCELLED, *_EVENT_OF_SOME.values()}
    return any(event.kind in ending or event.because in ending for event in history)


def _has_been(history: Sequence[Event], kind: EventKind, reason: str | None) -> bool:
    return any(kind in (event.kind, event.because) and event.reason == reason for event in history)


def _stands(
    transaction: Transaction, decision: Decision, ordinal: int, end: tuple[Status, str | None], *, is_told: bool
) -> str:
    says = f"{decision.kind} is not possible: payment {ordinal} of {transaction.id}"
    if not is_told:
        return f"{says} is being ended by another decision; nothing was decided"
    status, reason = end
    says += f" is {status}" + ("" if reason is None else f" ({reason})")
    if decision.kind is DecisionKind.CANCEL and status is Status.ACSC:
        return f"{says}; ask for its return with a cancellation request, camt.056; nothing was decided"
    return f"{says}, and that is final; nothing was decided"


def _wants_another(transaction: Transaction, route: Route) -> bool:
    held = transaction.standing.state is State.HELD_DECISION
    return held and route.four_eyes and transaction.approved_by is None


def _approved_already(transaction: Transaction, decision: Decision, route: Route) -> bool:
    """The first of four eyes looks again: that is no second look."""
    held = transaction.standing.state is State.HELD_DECISION
    return held and route.four_eyes and transaction.approved_by == decision.actor


def _too_late(transaction: Transaction, decision: Decision) -> str:
    standing = transaction.standing
    says = f"{decision.kind} is not possible: {transaction.id} is {standing.status}"
    if standing.cause is not None:
        says += f" (held: {standing.cause})"
    if decision.kind is DecisionKind.CANCEL and (
        standing.end is Status.ACSC or standing.state in (State.HANDING, State.HANDED, State.HELD_UNKNOWN)
    ):
        return f"{says}; ask for its return with a cancellation request, camt.056"
    if standing.is_final:
        return f"{says}, and that is final"
    return says
