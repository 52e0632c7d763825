"""Every status meets every event. The expectation is written out by hand below, as the design's table reads."""

from itertools import product

import pytest

from interlock import lifecycle
from interlock.errors import IllegalTransition
from interlock.iso20022.codes import HeldCause, Status
from interlock.lifecycle import TABLE, Effect, EventKind, Standing, State

# Columns in the design's order; a cell: `.` illegal, `=` recorded, `!` recorded and flagged, `X` incident, a state's
# letter for a move, R C S for RJCT, CANC, ACSC intended, P for the end of some payments.
COLUMNS = (
    State.NONE, State.ACCP, State.ACTC, State.HELD_CHECK, State.HELD_DECISION, State.HELD_FAULT, State.ACSP,
    State.ENDING, State.HANDING, State.HANDED, State.HELD_UNKNOWN, State.END,
)  # fmt: skip
MOVES = {
    "a": State.ACCP,
    "t": State.ACTC,
    "k": State.HELD_CHECK,
    "d": State.HELD_DECISION,
    "f": State.HELD_FAULT,
    "p": State.ACSP,
    "h": State.HANDING,
    "o": State.HANDED,
    "u": State.HELD_UNKNOWN,
    "e": State.END,
}
ENDS = {"R": Status.RJCT, "C": Status.CANC, "S": Status.ACSC}
DESIGN = {
    EventKind.ID_ISSUED: "a...........",
    EventKind.RECEIVED: ".t==========",
    EventKind.REFUSED: ".RRR.RR.....",
    EventKind.HELD_FOR_CHECK: "..k=........",
    EventKind.HELD_FOR_DECISION: "..dd=.......",
    EventKind.PASSED: "..pp........",
    EventKind.CHECK_ANSWERED: "..==!!!!!!!!",
    EventKind.CHECK_REFUSED: "..=RR!!!!!!!",
    EventKind.APPROVED: "....=.......",
    EventKind.ACCEPTED: "....p.......",
    EventKind.REJECTED: "....R.......",
    EventKind.CANCELLED: ".CCCCCC.....",
    EventKind.PAYMENTS_REJECTED: "....P.......",
    EventKind.PAYMENTS_CANCELLED: "..PPPPP.....",
    EventKind.PAYMENTS_ENDED: "..=====.===.",
    EventKind.STAGE_FAULT: ".fff==f!!u=!",
    EventKind.RETRIED: ".....t......",
    EventKind.DEADLINE: ".RRRRRRRRu=!",
    EventKind.DEADLINE_OPEN: "...p........",
    EventKind.SETTLED: "......S.....",
    EventKind.HAND_OVER_INTENDED: "......h.=...",
    EventKind.HANDED_OVER: "........o=..",
    EventKind.ENDED: ".......e...=",
    EventKind.PEER_UNCONFIRMED: ".......==...",
    EventKind.DOWNSTREAM_INTERIM: "!!!!!!!!!==!",
    EventKind.DOWNSTREAM_YES: "XXXXXXXXXSSX",
    EventKind.DOWNSTREAM_NO: "XXXXXXXXXRRX",
    EventKind.TAKEN_OVER_CANCEL: ".CCCCCCeuu=.",
    EventKind.TAKEN_OVER_HOLD: ".Cdddddeuu=.",
    EventKind.HOME_RETURNED_HANDED: "..........=!",
    EventKind.HOME_RETURNED_UNHANDED: "..........C!",
    EventKind.RESOLVED_SETTLED: "..........S.",
    EventKind.RESOLVED_REJECTED: "..........R.",
    EventKind.REDRIVEN: "...........=",
    EventKind.ENDED_TWICE: "...........X",
}
EFFECTS = {"=": Effect.STAY, "!": Effect.FLAG, "X": Effect.INCIDENT, "P": Effect.APART}


def standing(state: State) -> Standing:
    """A transaction in a state, as one can be there: with an intent to release in ENDING, CANC at the end."""
    match state:
        case State.NONE:
            return Standing()
        case State.ENDING:
            return Standing(state, Status.ACSP, Status.ACSC)
        case State.END:
            return Standing(state, Status.CANC, Status.CANC)
        case _:
            return Standing(state, Status.PDNG if state.value.startswith("PDNG") else Status.ACTC)


def test_the_table_has_a_row_for_each_event() -> None:
    """No event is without a rule, and none is written down that does not exist."""
    assert set(DESIGN) == set(EventKind) == set(TABLE)
    assert all(len(row) == len(COLUMNS) for row in DESIGN.values())
    assert set(COLUMNS) == set(State)


@pytest.mark.parametrize(("kind", "state"), list(product(EventKind, State)), ids=str)
def test_each_event_in_each_state_does_what_the_design_says(kind: EventKind, state: State) -> None:
    """The table in code equals the design's, cell by cell; an illegal event raises and a legal one moves."""
    cell = DESIGN[kind][COLUMNS.index(state)]
    before = standing(state)
    if cell == ".":
        assert lifecycle.judge(before, kind) is None
        with pytest.raises(IllegalTransition):
            lifecycle.apply(before, kind, alone=True)
        return
    step = lifecycle.apply(before, kind, alone=True)
    if cell in MOVES:
        assert (step.effect, step.standing.state) == (Effect.GO, MOVES[cell])
    elif cell in ENDS:
        assert step == (Standing(State.END, ENDS[cell], ENDS[cell]), Effect.END)
    else:
        assert step == (before, EFFECTS[cell])


@pytest.mark.parametrize(("kind", "state"), [(k, s) for k in EventKind for s in State if s is not State.END], ids=str)
def test_where_a_peer_can_take_over_an_end_is_first_an_intent(kind: EventKind, state: State) -> None:
    """Not alone, only Ended (or a takeover of an intent) reaches the end; till then the former status is shown."""
    before = standing(state)
    if lifecycle.judge(before, kind) is None:
        return
    step = lifecycle.apply(before, kind, alone=False)
    if step.effect is Effect.END:
        assert step.standing.state is State.ENDING
        assert step.standing.status is before.status
    elif step.standing.state is State.END:
        assert before.state is State.ENDING
        assert step.standing.status is before.end


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("kind", "state"), [(k, s) for k in EventKind for s in State], ids=str)
def test_where_a_payment_was_cancelled_the_whole_is_not_rejected(kind: EventKind, state: State, *, alone: bool) -> None:
    """What would end as RJCT ends as CANC; nothing else differs."""
    before = standing(state)
    if lifecycle.judge(before, kind) is None:
        return
    usual = lifecycle.apply(before, kind, alone=alone)
    found = lifecycle.apply(before, kind, alone=alone, cancelled=True)
    if usual.effect is Effect.END and usual.standing.end is Status.RJCT:
        status = Status.CANC if alone else before.status
        assert found == (Standing(usual.standing.state, status, Status.CANC), Effect.END)
    else:
        assert found == usual


@pytest.mark.parametrize("end", [Status.RJCT, Status.CANC])
def test_a_deadline_replaces_only_an_intent_to_release(end: Status) -> None:
    """A rejection or cancel under way stays as it is; a release under way becomes a rejection."""
    stays = Standing(State.ENDING, Status.ACSP, end)
    assert lifecycle.apply(stays, EventKind.DEADLINE, alone=False) == (stays, Effect.STAY)
    release = Standing(State.ENDING, Status.ACSP, Status.ACSC)
    assert lifecycle.apply(release, EventKind.DEADLINE, alone=False).standing.end is Status.RJCT


@pytest.mark.parametrize(
    ("kind", "end", "effect"),
    [
        (EventKind.DOWNSTREAM_YES, Status.ACSC, Effect.FLAG),
        (EventKind.DOWNSTREAM_NO, Status.RJCT, Effect.FLAG),
        (EventKind.DOWNSTREAM_YES, Status.RJCT, Effect.INCIDENT),
        (EventKind.DOWNSTREAM_NO, Status.ACSC, Effect.INCIDENT),
    ],
)
def test_a_late_answer_of_the_downstream_is_an_incident_only_if_it_disagrees(
    kind: EventKind, end: Status, effect: Effect
) -> None:
    """The end stays in any case; who says otherwise is alarmed about."""
    before = Standing(State.END, end, end)
    assert lifecycle.apply(before, kind, alone=True) == (before, effect)


def test_the_end_is_left_by_nothing() -> None:
    """Terminal is terminal: no event changes the state or the end of what has ended."""
    for kind in EventKind:
        before = standing(State.END)
        if lifecycle.judge(before, kind) is not None:
            assert lifecycle.apply(before, kind, alone=True).standing == before


def test_pending_has_a_cause_and_nothing_else_has() -> None:
    """PDNG is never shown without saying what it waits for."""
    causes = {state: Standing(state, Status.PDNG).cause for state in State}
    assert {state for state, cause in causes.items() if cause is not None} == {
        State.HELD_CHECK,
        State.HELD_DECISION,
        State.HELD_FAULT,
        State.HELD_UNKNOWN,
    }
    assert set(causes.values()) - {None} == set(HeldCause)
