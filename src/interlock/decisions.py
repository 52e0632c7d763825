"""What consumers and operators may decide, and when it is too late. Pure.

The lifecycle's table says which decision is legal where; this module adds what the table cannot know: that the same
decision again is no mistake, that two must agree where a route wants four eyes, and what to do when it is too late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from interlock.errors import IllegalDecision, RequestError
from interlock.iso20022 import reasons
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind, State, judge
from interlock.routes import Route
from interlock.transaction import Event, Transaction


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


_EVENT = {
    DecisionKind.ACCEPT: EventKind.ACCEPTED,
    DecisionKind.REJECT: EventKind.REJECTED,
    DecisionKind.CANCEL: EventKind.CANCELLED,
    DecisionKind.RETRY: EventKind.RETRIED,
}
#: Cancelled by customer: what a cancel without a reason of its own carries.
_CANCEL_REASON = reasons.reason_for("cancelled_by_consumer")


def checked(decision: Decision) -> Decision:
    """The decision with its reason filled in; raises RequestError where the reason is missing or none of ISO's."""
    reason, note = decision.reason, (decision.note or "").strip() or None
    match decision.kind:
        case DecisionKind.ACCEPT | DecisionKind.RETRY:
            if reason is not None:
                raise RequestError(f"{decision.kind} takes no reason; leave it out")
            return Decision(kind=decision.kind, actor=decision.actor, note=note)
        case DecisionKind.CANCEL:
            reason = reason or _CANCEL_REASON
        case DecisionKind.REJECT:
            if reason is None:
                raise RequestError("reject needs a reason: an ISO ExternalStatusReason1Code such as AC04 or FRAD")
    if not reasons.is_status_reason(reason):
        raise RequestError("reason is not an ISO ExternalStatusReason1Code")
    if reason == "NARR" and note is None:
        raise RequestError("reason NARR says that a note explains it; give a note")
    return Decision(kind=decision.kind, actor=decision.actor, reason=reason, note=note)


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
    if any(kind in (event.kind, event.because) and event.reason == decision.reason for event in history):
        return None
    raise IllegalDecision(_too_late(transaction, decision))


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
