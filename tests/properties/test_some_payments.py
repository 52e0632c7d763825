"""Any sequence of decisions, on some payments or all, leaves each payment with exactly one end; the pure core alone.

The world is a list of events and a dictionary of payments, written as a store would write them. Where peers guard, an
intent becomes a fact only when their word comes, or when the whole ends.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from interlock import decisions, lifecycle
from interlock.apart import INTENTS, NONE_APART, fold, shown
from interlock.decisions import Decision, DecisionKind
from interlock.errors import IllegalDecision
from interlock.inspection import inspect
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.schemas import Catalogue
from interlock.lifecycle import EventKind, Standing, State
from interlock.routes import DecisionRule, Route
from interlock.selection import Selector
from interlock.stages import way
from interlock.stages.facts import Inspection
from interlock.stages.steps import Steps
from interlock.transaction import BodyKind, Change, Event, Payment, Transaction

AT = datetime(2026, 11, 23, 9, tzinfo=UTC)
ROUTE = Route(name="r", decision=DecisionRule.CONSUMER, decide_within=timedelta(hours=1))
SAMPLE = Path(__file__).parents[1] / "samples" / "pacs.008.001.08.xml"
PAYMENTS = 3
ORDINALS = st.sets(st.integers(1, PAYMENTS), min_size=1)

DECISIONS = st.one_of(
    st.just(Decision(kind=DecisionKind.ACCEPT, actor="c")),
    st.builds(
        lambda reason, some: Decision(
            kind=DecisionKind.REJECT, actor="c", reason=reason, note="so it is",
            payments=None if some is None else tuple(Selector(ordinal=one) for one in sorted(some)),
        ),
        st.sampled_from(("AC04", "FRAD")),
        st.none() | ORDINALS,
    ),
    st.builds(
        lambda some: Decision(
            kind=DecisionKind.CANCEL, actor="c",
            payments=None if some is None else tuple(Selector(ordinal=one) for one in sorted(some)),
        ),
        st.none() | ORDINALS,
    ),
)  # fmt: skip
#: The peers' word comes; time passes; another region takes over, and cancels or holds.
OTHERS = st.sampled_from(("word", "late", "taken: cancel", "taken: hold"))


@cache
def inspection() -> Inspection:
    found = inspect(SAMPLE.read_bytes(), Catalogue(), limits=Limits(), today=AT.date())
    assert found.original is not None
    assert len(found.original.payments) == PAYMENTS
    return found


class Ledger:
    """What a store would have of one transaction."""

    def __init__(self, *, guarded: bool) -> None:
        self.guarded = guarded
        self.now = AT
        self.history: list[Event] = []
        self.payments: dict[int, Payment] = {}
        self.answers = 0
        unborn = Transaction(
            id=UUID(int=1), client="c", region=0, route="r", standing=Standing(), version=0, created_at=AT,
            updated_at=AT, deadline=None,
        )  # fmt: skip
        steps = way.issue(unborn, AT, alone=not guarded)
        self.write(way.advance(steps, way.Arrival(inspection=inspection(), route=ROUTE), AT))

    def write(self, change: Change) -> None:
        """As a store does: one end a payment, whatever comes later."""
        self.transaction = change.after
        self.history += change.events
        self.payments |= {payment.ordinal: payment for payment in change.payments}
        for end in change.ended:
            self._end(end.ordinal, end.status, end.reason, end.note)
        for ordinal in self.payments if change.ends_all is not None else ():
            assert change.ends_all is not None
            self._end(ordinal, *change.ends_all, None)
        self.answers += any(body.kind is BodyKind.OUTBOX for body in change.bodies) and change.after.standing.is_final

    def _end(self, ordinal: int, status: Status, reason: str | None, note: str | None) -> None:
        payment = self.payments[ordinal]
        if not payment.status.is_final:
            self.payments[ordinal] = replace(payment, status=status, reason=reason, note=note)

    def begin(self) -> Steps:
        """Steps of it as it stands."""
        apart = fold(self.history, self.transaction)
        return Steps(self.transaction, self.now, alone=not self.guarded, apart=apart)

    def every(self) -> tuple[Payment, ...]:
        """Its payments as they are stored."""
        return tuple(payment for _, payment in sorted(self.payments.items()))

    def told(self) -> list[tuple[Status, str | None]]:
        """What a client sees."""
        apart = fold(self.history, self.transaction)
        return [(one.status, one.reason) for one in shown(self.transaction, self.every(), apart)]

    # -- what happens --

    def decide(self, decision: Decision) -> bool:
        """False where it is illegal."""
        decision = decisions.checked(decision)
        named: tuple[int, ...] = ()
        try:
            if decision.payments is None:
                kind = decisions.event_for(self.transaction, decision, ROUTE, self.history)
            else:
                kind, all_named, ends = decisions.on_some(self.transaction, decision, self.every(), self.history)
                named = ends or (all_named if fold(self.history, self.transaction).decided else ())
        except IllegalDecision:
            return False
        if kind is not None:
            steps = self.begin()
            way.decided(steps, kind, decision, ROUTE, named)
            self.write(way.finish(steps, inspection(), self.every()))
        return True

    def word(self) -> None:
        """The peers have everything so far."""
        steps = self.begin()
        if self.transaction.standing.state is State.ENDING:
            self.write(way.conclude(steps, "pacs.002.001.10", ()))
            self.answers += 1
        elif pending := steps.apart.pending():
            self.write(way.part(steps, pending, (1,)))

    def late(self) -> None:
        """Its clock has run out."""
        self.now += timedelta(hours=2)
        if self.transaction.deadline is not None and self.transaction.deadline.at <= self.now:
            steps = self.begin()
            way.expire(steps, ROUTE)
            self.write(way.finish(steps, inspection(), self.every()))

    def taken_over(self, event: EventKind) -> None:
        """Another region goes on with it."""
        if lifecycle.judge(self.transaction.standing, event) is None:
            return
        steps = self.begin()
        ending = self.transaction.standing.state is State.ENDING
        way.taken_over(steps, event, ROUTE)
        if ending:
            self.write(way.ended_as_intended(steps, "pacs.002.001.10"))
            self.answers += 1
        else:
            self.write(way.finish(steps, inspection(), self.every()))

    def happen(self, what: Decision | str) -> None:
        """One of all that can."""
        match what:
            case Decision():
                self.decide(what)
            case "word":
                self.word()
            case "late":
                self.late()
            case "taken: cancel":
                self.taken_over(EventKind.TAKEN_OVER_CANCEL)
            case _:
                self.taken_over(EventKind.TAKEN_OVER_HOLD)


@given(guarded=st.booleans(), happenings=st.lists(DECISIONS | OTHERS, max_size=12))
def test_each_payment_has_one_end(*, guarded: bool, happenings: list[Decision | str]) -> None:
    """What was shown as ended stays so, the fold says the same as the payments, and in the end all have one."""
    ledger = Ledger(guarded=guarded)
    ends: dict[int, tuple[Status, str | None]] = {}
    for what in (*happenings, "late", "word", "word"):
        ledger.happen(what)
        for ordinal, told in enumerate(ledger.told(), 1):
            if told[0].is_final:
                assert ends.setdefault(ordinal, told) == told
            else:
                assert ordinal not in ends
    transaction, final = ledger.transaction, ledger.told()
    assert transaction.standing.is_final
    assert len(ends) == PAYMENTS
    statuses = {status for status, _ in final}
    assert transaction.standing.end is (
        Status.ACSC if Status.ACSC in statuses else Status.RJCT if statuses == {Status.RJCT} else Status.CANC
    )
    assert ledger.answers == 1
    _folds(ledger)


def _folds(ledger: Ledger) -> None:
    """History leads to what is stored, event by event; each decision on some was made a fact."""
    standing, apart = Standing(), NONE_APART
    for number, event in enumerate(ledger.history, 1):
        kind, alone = event.because or event.kind, event.because is not None
        step = lifecycle.apply(standing, kind, alone=alone, cancelled=apart.cancelled)
        assert (event.seq, step.standing) == (number, event.standing)
        standing, apart = step.standing, apart.then(event)
    assert standing == ledger.transaction.standing
    assert apart.pending() == ()
    decided = [event for event in ledger.history if (event.because or event.kind) in INTENTS]
    named = [ordinal for event in decided for ordinal in event.detail["payments"]]  # type: ignore[attr-defined]
    assert sorted(named) == sorted(set(named)) == sorted(apart.decided)
    for end in apart.ends.values():
        payment = ledger.payments[end.ordinal]
        assert (payment.status, payment.reason, payment.note) == end[1:]


@given(guarded=st.booleans(), happenings=st.lists(DECISIONS | OTHERS, max_size=6), decision=DECISIONS)
def test_the_same_decision_again_changes_nothing(
    *, guarded: bool, happenings: list[Decision | str], decision: Decision
) -> None:
    """Whatever has happened before: if it was legal, it is legal again, and writes nothing."""
    ledger = Ledger(guarded=guarded)
    for what in happenings:
        ledger.happen(what)
    if ledger.decide(decision):
        before = ledger.transaction, ledger.every(), list(ledger.history)
        assert ledger.decide(decision)
        assert (ledger.transaction, ledger.every(), ledger.history) == before
