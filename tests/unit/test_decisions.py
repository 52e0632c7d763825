from datetime import UTC, datetime
from uuid import UUID

import pytest

from interlock.decisions import Decision, DecisionKind, checked, event_for
from interlock.errors import IllegalDecision, RequestError
from interlock.iso20022.codes import Status
from interlock.lifecycle import TABLE, EventKind, Standing, State
from interlock.routes import Route
from interlock.stages.steps import Steps
from interlock.transaction import Transaction

AT = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN, FOUR_EYES = Route(name="default"), Route(name="default", four_eyes=True)
ACCEPT, REJECT, CANCEL, RETRY = DecisionKind
_EVENTS = {
    ACCEPT: EventKind.ACCEPTED,
    REJECT: EventKind.REJECTED,
    CANCEL: EventKind.CANCELLED,
    RETRY: EventKind.RETRIED,
}


def by(kind: DecisionKind, actor: str = "c:anna", reason: str | None = None, note: str | None = None) -> Decision:
    return Decision(kind=kind, actor=actor, reason=reason, note=note)


def taken(*kinds: EventKind) -> Steps:
    """A transaction with its history; its first two events are its birth."""
    unborn = Transaction(
        id=UUID(int=1), client="c", region=0, route="default", standing=Standing(), version=0, created_at=AT,
        updated_at=AT, deadline=None,
    )  # fmt: skip
    steps = Steps(unborn, AT)
    for kind in (EventKind.ID_ISSUED, EventKind.RECEIVED, *kinds):
        steps.take(kind)
    return steps


HELD = (EventKind.HELD_FOR_DECISION,)


def decide(steps: Steps, decision: Decision, route: Route = PLAIN) -> EventKind | None:
    return event_for(steps.transaction, decision, route, steps.events)


# -- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        (by(ACCEPT), None),
        (by(RETRY), None),
        (by(CANCEL), "DS02"),
        (by(CANCEL, reason="AC04"), "AC04"),
        (by(REJECT, reason="AC04"), "AC04"),
        (by(REJECT, reason="NARR", note="we do not know them"), "NARR"),
    ],
)
def test_a_good_decision_has_its_reason(decision: Decision, reason: str | None) -> None:
    """Given, or the cancel's own; who decided and the note stay."""
    found = checked(decision)
    assert found.reason == reason
    assert (found.kind, found.actor, found.note) == (decision.kind, decision.actor, decision.note)


@pytest.mark.parametrize(
    ("decision", "says"),
    [
        (by(REJECT), "needs a reason"),
        (by(REJECT, reason=""), "ExternalStatusReason1Code"),
        (by(REJECT, reason="TOUT"), "ExternalStatusReason1Code"),
        (by(REJECT, reason="ac04"), "ExternalStatusReason1Code"),
        (by(CANCEL, reason="TECH"), "ExternalStatusReason1Code"),
        (by(REJECT, reason="NARR"), "note"),
        (by(CANCEL, reason="NARR", note=""), "note"),
        (by(ACCEPT, reason="AC04"), "no reason"),
        (by(RETRY, reason="AC04"), "no reason"),
    ],
)
def test_a_bad_decision_is_the_callers_mistake(decision: Decision, says: str) -> None:
    """It says what to change; a cancellation reason such as TECH is no status reason."""
    with pytest.raises(RequestError, match=says):
        checked(decision)


# -- where it is legal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DecisionKind)
@pytest.mark.parametrize("state", [state for state in State if state is not State.NONE])
def test_the_table_says_where_a_decision_is_legal(kind: DecisionKind, state: State) -> None:
    """Exactly where the lifecycle has a move for it; elsewhere the caller learns what stands."""
    status = {State.END: Status.ACSC, State.ACCP: Status.ACCP, State.ACTC: Status.ACTC}.get(state, Status.PDNG)
    transaction = Transaction(
        id=UUID(int=1), client="c", region=0, route="r", version=5, created_at=AT, updated_at=AT, deadline=None,
        standing=Standing(state, status, status if state is State.END else None),
    )  # fmt: skip
    if state in TABLE[_EVENTS[kind]]:
        assert event_for(transaction, by(kind), PLAIN, ()) is _EVENTS[kind]
    else:
        with pytest.raises(IllegalDecision) as caught:
            event_for(transaction, by(kind), PLAIN, ())
        assert str(status) in str(caught.value)
        assert str(kind) in str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "decision"),
    [
        ((*HELD, EventKind.ACCEPTED), ACCEPT),
        ((*HELD, EventKind.ACCEPTED, EventKind.SETTLED), ACCEPT),
        ((*HELD, EventKind.REJECTED), REJECT),
        ((*HELD, EventKind.CANCELLED), CANCEL),
        ((EventKind.CANCELLED,), CANCEL),
        ((EventKind.STAGE_FAULT, EventKind.RETRIED), RETRY),
    ],
)
def test_the_same_decision_again_is_no_mistake(kinds: tuple[EventKind, ...], decision: DecisionKind) -> None:
    """Nothing is to be done: it stands already, whoever repeats it."""
    assert decide(taken(*kinds), by(decision, "c:somebody else")) is None


@pytest.mark.parametrize(
    ("kinds", "decision"),
    [
        ((*HELD, EventKind.ACCEPTED, EventKind.SETTLED), REJECT),
        ((*HELD, EventKind.ACCEPTED, EventKind.SETTLED), CANCEL),
        ((*HELD, EventKind.REJECTED), ACCEPT),
        ((*HELD, EventKind.REJECTED), CANCEL),
        ((*HELD, EventKind.CANCELLED), REJECT),
        ((*HELD, EventKind.DEADLINE), ACCEPT),
        ((EventKind.PASSED, EventKind.SETTLED), ACCEPT),
        ((EventKind.REFUSED,), CANCEL),
    ],
)
def test_another_decision_is_too_late(kinds: tuple[EventKind, ...], decision: DecisionKind) -> None:
    """What stands is told, and that it is final or what can still be asked for."""
    steps = taken(*kinds)
    with pytest.raises(IllegalDecision, match=str(steps.transaction.standing.status)):
        decide(steps, by(decision))


def test_a_cancel_after_settlement_names_the_message_that_asks_for_it() -> None:
    """Money that has moved is asked back with a camt.056; a rejected payment needs none."""
    with pytest.raises(IllegalDecision, match=r"camt\.056"):
        decide(taken(EventKind.PASSED, EventKind.SETTLED), by(CANCEL))
    with pytest.raises(IllegalDecision) as caught:
        decide(taken(EventKind.REFUSED), by(CANCEL))
    assert "camt.056" not in str(caught.value)
    with pytest.raises(IllegalDecision, match=r"camt\.056"):
        decide(taken(EventKind.PASSED, EventKind.HAND_OVER_INTENDED, EventKind.HANDED_OVER), by(CANCEL))


# -- four eyes --------------------------------------------------------------------------------------------------------


def approved() -> Steps:
    steps = taken(*HELD)
    steps.take(EventKind.APPROVED, actor="c:anna", approved_by="c:anna")
    return steps


def test_the_first_of_four_eyes_approves() -> None:
    """One accepts: it is recorded, and nothing is released."""
    assert decide(taken(*HELD), by(ACCEPT, "c:anna"), FOUR_EYES) is EventKind.APPROVED


def test_the_second_of_four_eyes_accepts() -> None:
    """Another one accepts: that is the acceptance."""
    assert decide(approved(), by(ACCEPT, "c:bert"), FOUR_EYES) is EventKind.ACCEPTED


def test_one_person_has_two_eyes() -> None:
    """The same one again changes nothing, however often."""
    assert decide(approved(), by(ACCEPT, "c:anna"), FOUR_EYES) is None


def test_one_of_four_eyes_can_reject() -> None:
    """To refuse it takes one, before and after the first approval, also the approver."""
    assert decide(taken(*HELD), by(REJECT), FOUR_EYES) is EventKind.REJECTED
    assert decide(approved(), by(REJECT, "c:anna"), FOUR_EYES) is EventKind.REJECTED
    assert decide(approved(), by(CANCEL, "c:bert"), FOUR_EYES) is EventKind.CANCELLED


def test_four_eyes_do_not_matter_elsewhere() -> None:
    """Where nothing is held nobody approves: it is too late, or too early."""
    for kinds in ((), (EventKind.PASSED, EventKind.SETTLED)):
        with pytest.raises(IllegalDecision):
            decide(taken(*kinds), by(ACCEPT), FOUR_EYES)


def test_an_approval_is_no_acceptance() -> None:
    """Whoever approved, and finds it rejected or timed out since, is told so, as anybody else is."""
    for end in (EventKind.REJECTED, EventKind.DEADLINE):
        steps = approved()
        steps.take(end)
        for actor in ("c:anna", "c:bert"):
            with pytest.raises(IllegalDecision, match="RJCT"):
                decide(steps, by(ACCEPT, actor), FOUR_EYES)


def test_both_approvers_may_repeat_what_they_decided() -> None:
    """After the release both get the same answer again."""
    steps = approved()
    steps.take(EventKind.ACCEPTED, actor="c:bert")
    steps.take(EventKind.SETTLED)
    assert decide(steps, by(ACCEPT, "c:anna"), FOUR_EYES) is None
    assert decide(steps, by(ACCEPT, "c:bert"), FOUR_EYES) is None
