"""The way of a message joined: which stages run now, and the one change that comes of it.

Stages that need not wait for one another share a commit; each event keeps its own record. Whoever calls commits the
change and, where keys turn out to be another's, calls again with that fact.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from interlock import apart
from interlock.decisions import Decision
from interlock.iso20022 import reasons
from interlock.iso20022.answers import Answer
from interlock.iso20022.codes import Status
from interlock.iso20022.findings import Finding
from interlock.lifecycle import EventKind, Standing, State, judge
from interlock.regions.rivals import Rival
from interlock.routes import Route
from interlock.stages import clocks, deliver, matching, process, receive, release
from interlock.stages.enquire import Outcome
from interlock.stages.facts import Inspection
from interlock.stages.outcomes import Held, Passed, Refusal
from interlock.stages.steps import Steps
from interlock.transaction import (
    Body,
    BodyKind,
    Change,
    Clock,
    Deadline,
    Event,
    Idempotency,
    Key,
    KeyKind,
    Payment,
    PaymentEnd,
    Transaction,
)

#: Ours, shown beside the ISO reason of a time-out, as the reference's clients know it.
TIMED_OUT = "TOUT"
#: How many findings are kept with an event; the rest are counted.
_FINDINGS_MAX = 50


class Arrival(Struct, frozen=True, kw_only=True):
    """A message that is to go its way, and what is known beside it."""

    inspection: Inspection
    route: Route
    #: Keys that are another transaction's, as the store has said.
    taken: Mapping[Key, UUID] = {}
    #: Payments that were refused when the message was received, before it was held back.
    refused: Mapping[int, Refusal] = {}
    #: An operator has stopped the route or client: receive, and wait there.
    stopped: bool = False
    #: Id of the first attempt, where this is a redrive: its message keys are the family's own.
    root: UUID | None = None
    idempotency: Idempotency | None = None
    #: On the original, told in the same commit.
    original: Change | None = None
    #: Of a request about other messages, once it is known: without it the request is received, and waits there.
    outcome: Outcome | None = None


#: What a transaction is before its first event.
UNBORN = Standing()


#: In an end's event: the regions that had the intent before it became a fact.
CONFIRMED = "confirmed_by"
#: Ours, for what a takeover has cancelled.
RECOVERED = "RCVR"
_RECOVERY_REASON = reasons.reason_for("cancelled_by_recovery")
_DUPLICATE_REASON = reasons.reason_for("duplicate_payment")
#: Handed over, or about to be, for all that is known.
_UNKNOWN = (State.HANDING, State.HANDED, State.HELD_UNKNOWN)
#: Somebody else has said that it is settled: no clock of ours says otherwise.
_BY_WORD = (EventKind.DOWNSTREAM_YES, EventKind.RESOLVED_SETTLED)
#: How long a rejection or cancellation waits for a peer before that is recorded.
_PEER_WITHIN = timedelta(seconds=30)
#: And how long until it is looked at again.
_PEER_AGAIN = timedelta(hours=1)
#: A request about others has this time at least: a scheme's clock is for payments, and a request may cancel a thousand.
_ASKED_WITHIN = timedelta(seconds=60)


def issue(transaction: Transaction, now: datetime, *, alone: bool = True) -> Steps:
    """The birth of a transaction."""
    steps = Steps(transaction, now, alone=alone)
    steps.take(EventKind.ID_ISSUED, actor=transaction.client)
    return steps


def issued(steps: Steps) -> Change:
    """The change that only issues an id."""
    return Change(after=steps.transaction, events=steps.events, read=0, names=_reference(steps.transaction))


def advance(steps: Steps, arrival: Arrival, now: datetime) -> Change:
    """Receive, process and release as far as nothing is waited for.

    Works on ACCP (the message has just come) and on ACTC (it came before a crash, a hold or a retry).
    """
    inspection, route = arrival.inspection, arrival.route
    before = steps.transaction
    steps.transaction = _placed(before, inspection, route)
    outcome: Passed | Held | Refusal = receive.run(inspection, arrival.taken)
    # A second attempt is not late by the stamps of the first.
    if before.standing.state is State.ACCP and arrival.root is None and isinstance(outcome, Passed):
        steps.transaction = _timed(steps.transaction, inspection, route)
        outcome = clocks.ahead(inspection, now) or outcome
    entered = isinstance(outcome, Passed)
    if isinstance(outcome, Passed):
        if arrival.refused:
            outcome = dataclasses.replace(outcome, refused={**outcome.refused, **arrival.refused})
        if before.standing.state is State.ACCP:
            steps.take(EventKind.RECEIVED, actor=before.client, detail=_told(outcome.warnings))
        # What is asked of the ledger is looked up next, unless the rules refuse to: then nothing may be done about it.
        waits = inspection.enquiry is not None and arrival.outcome is None and not process.is_refused(inspection)
        if arrival.stopped or waits:
            return _change(steps, arrival, before, outcome.refused, entered=entered)
        outcome = process.run(inspection, outcome, route)
    untreatable = False
    match outcome:
        case Refusal():
            refused, untreatable = outcome.payments, outcome.untreatable
            steps.take(EventKind.REFUSED, reason=outcome.reason, note=outcome.note, detail=_told(outcome.findings))
        case Held():
            refused = outcome.refused
            hold(steps, route, outcome.note, now)
        case Passed():
            refused = outcome.refused
            steps.take(EventKind.PASSED, detail=_told(tuple(f for r in refused.values() for f in r.findings)))
            if arrival.outcome is None:
                settle(steps, route, now)
            else:
                steps.take(EventKind.SETTLED)  # what was found, and what was done, is so however late it is told
    return _change(steps, arrival, before, refused, entered=entered, untreatable=untreatable)


def fault(steps: Steps, arrival: Arrival, note: str) -> Change:
    """A stage failed by our own mistake: the message is kept as it came, and an operator looks."""
    inspection, before = arrival.inspection, steps.transaction
    original = inspection.original
    steps.transaction = replace(
        before,
        digest=inspection.digest,
        definition=inspection.definition,
        message_id=None if original is None else original.message_id,
    )
    steps.take(EventKind.STAGE_FAULT, note=note)
    _, names = _keys(steps.transaction, arrival, {}, entered=False)  # so that whoever asks for it finds it
    return Change(
        after=steps.transaction,
        events=steps.events,
        read=steps.read,
        bodies=() if before.digest is not None else (inbox(inspection),),
        names=names + (_reference(before) if steps.read == 0 else ()),
        idempotency=arrival.idempotency,
        original=arrival.original,
    )


def settle(steps: Steps, route: Route, now: datetime) -> None:
    """Release: settle here, unless it is too late."""
    if release.is_late(steps.transaction.deadline, now):
        expire(steps, route)
    else:
        steps.take(EventKind.SETTLED)


def expire(steps: Steps, route: Route) -> None:
    """The clock that runs has run out."""
    clock = steps.transaction.deadline
    if clock is not None and clock.clock is Clock.PEER:
        later = Deadline(clock=Clock.PEER, at=steps.now + _PEER_AGAIN)
        steps.take(EventKind.PEER_UNCONFIRMED, note="no peer has confirmed the end; it stays intended", deadline=later)
        return
    note = f"the {'time' if clock is None else _CLOCK_WORDS[clock.clock]} ran out"
    if clock is not None and clock.at <= steps.transaction.created_at:
        note = "its time had run out before it came: it counts from the payment's own time stamp"
    steps.take(EventKind.DEADLINE, reason=route.timeout_reason, code=TIMED_OUT, note=note)


_CLOCK_WORDS = {
    Clock.SLA: "time for the transaction",
    Clock.DECIDE: "time for the consumer's decision",
    Clock.CHECK: "time for an outside check",
    Clock.PEER: "time for a peer's word",
}


def hold(steps: Steps, route: Route, note: str, now: datetime) -> None:
    """Hold for a consumer's decision: the SLA stops, the decision's clock runs."""
    deadline = steps.transaction.deadline
    if release.is_late(deadline, now):
        expire(steps, route)
        return
    left = None if deadline is None else (deadline.at - now).total_seconds()
    steps.take(
        EventKind.HELD_FOR_DECISION,
        note=note,
        sla_left=left,
        deadline=Deadline(clock=Clock.DECIDE, at=now + route.decide_within),
    )


def unhold(transaction: Transaction, route: Route, now: datetime) -> Deadline:
    """The SLA goes on where it was stopped."""
    left = route.sla if transaction.sla_left is None else timedelta(seconds=transaction.sla_left)
    return Deadline(clock=Clock.SLA, at=now + left)


def decided(steps: Steps, kind: EventKind, decision: Decision, route: Route, named: Collection[int] = ()) -> None:
    """A consumer or operator has decided; an acceptance releases at once, for nothing else is waited for.

    named: the payments that the decision names, where it does not end the transaction as a whole.
    """
    note = decision.note
    match kind:
        case _ if kind in _TOO_LATE and release.is_late(steps.transaction.deadline, steps.now):
            expire(steps, route)  # the timer is late; the decision is all the more
        case EventKind.ACCEPTED:
            deadline = unhold(steps.transaction, route, steps.now)
            steps.take(kind, actor=decision.actor, note=note, deadline=deadline, sla_left=None)
            settle(steps, route, steps.now)
        case EventKind.APPROVED:
            steps.take(kind, actor=decision.actor, note=note, approved_by=decision.actor)
        case _:
            detail = {apart.NAMED: sorted(named)} if named else None
            steps.take(kind, actor=decision.actor, reason=decision.reason, note=note, detail=detail)


#: What lets a transaction go on, or the rest of it. To end all of it comes to the same, late or not.
_TOO_LATE = (EventKind.ACCEPTED, *apart.INTENTS)


def part(steps: Steps, named: Collection[int], had: Collection[int]) -> Change:
    """The end of some payments, which was intended, becomes a fact. had: regions that have confirmed the intent."""
    _end_apart(steps, named, had)
    return Change(after=steps.transaction, events=steps.events, read=steps.read, ended=steps.ended)


def _end_apart(steps: Steps, named: Collection[int], had: Collection[int] = ()) -> None:
    detail = {apart.NAMED: sorted(named)} | ({CONFIRMED: sorted(had)} if had else {})
    steps.take(EventKind.PAYMENTS_ENDED, detail=detail)


def finish(steps: Steps, inspection: Inspection | None, payments: tuple[Payment, ...]) -> Change:
    """The change of steps that were taken after the message had come: with the answer if they ended it."""
    transaction = steps.transaction
    if not steps.ends:
        return Change(after=transaction, events=steps.events, read=steps.read, ended=steps.ended)
    refused = {p.ordinal: (p.reason or "NARR", p.note) for p in payments if p.status is Status.RJCT}
    refused |= _told_apart(steps)
    answer = release.answer(transaction, inspection, refused, transaction.updated_at)
    transaction, bodies = _answered(steps, transaction, answer)
    is_final = transaction.standing.is_final
    return Change(
        after=transaction,
        events=steps.events,
        read=steps.read,
        bodies=bodies,
        ended=steps.ended,
        ends_all=_rest(steps, transaction) if payments and is_final else None,
        deliveries=deliver.run(transaction.answer) if is_final else (),
    )


def _told_apart(steps: Steps) -> dict[int, tuple[str, str | None]]:
    """What the answer says of payments with an end of their own, by ordinal: reason and note."""
    return {ordinal: (end.reason or "NARR", end.note) for ordinal, end in steps.apart.ends.items()}


def refused_apart(steps: Steps) -> dict[int, Refusal]:
    """Payments with an end of their own, which the stages leave out."""
    return {
        ordinal: Refusal(reason=reason, note=note or "ended by a decision on it alone")
        for ordinal, (reason, note) in _told_apart(steps).items()
    }


def left_out(payments: Collection[Payment]) -> dict[int, Refusal]:
    """Payments that a new attempt leaves out, for an earlier one has ended them by themselves."""
    return {
        payment.ordinal: Refusal(
            reason=payment.reason or "NARR",
            note=payment.note or "ended by a decision on it alone, in an earlier attempt",
        )
        for payment in payments
    }


def conclude(steps: Steps, answer: str | None, had: Collection[int]) -> Change:
    """The end that was intended becomes a fact: what waited for a peer's word is shown.

    answer: its definition. had: regions that have confirmed the intent.
    """
    before = steps.transaction
    detail = {CONFIRMED: sorted(had)}
    steps.take(EventKind.ENDED, reason=before.reason, code=before.code, note=before.note, detail=detail, answer=answer)
    after = steps.transaction
    return Change(
        after=after,
        events=steps.events,
        read=steps.read,
        ended=steps.ended,
        ends_all=_rest(steps, after) if after.payments else None,
        deliveries=deliver.run(answer),
    )


def taken_over(steps: Steps, event: EventKind, route: Route) -> None:
    """A peer has taken the transaction over: cancelled, held for a decision, as intended, or unknown."""
    before = steps.transaction
    if before.standing.state is State.ENDING:
        steps.take(event, reason=before.reason, code=before.code, note=before.note)
        return
    note = "its region was lost; another has taken it over"
    if event is EventKind.TAKEN_OVER_HOLD and before.standing.state not in (State.ACCP, *_UNKNOWN):
        deadline = Deadline(clock=Clock.DECIDE, at=steps.now + route.decide_within)
        steps.take(event, note=note, deadline=deadline)
    else:
        steps.take(event, reason=_RECOVERY_REASON, code=RECOVERED, note=note)
    if (pending := steps.apart.pending()) and not steps.ends:
        # The lost region may have told of them as soon as we had the intent.
        _end_apart(steps, pending)


def confirmed(history: Sequence[Event], region: int) -> bool:
    """Whether a region had the intent to end before the end that these events tell of became a fact."""
    ended = next((event for event in reversed(history) if event.kind is EventKind.ENDED), None)
    told = () if ended is None else ended.detail.get(CONFIRMED, ())
    return isinstance(told, Sequence) and region in told


def yield_to(steps: Steps, rivals: Collection[Rival]) -> bool:
    """Give way to transactions of other regions that have taken the same payments; False where it is too late."""
    note = f"the same payment was taken in another region, as {', '.join(str(rival.transaction) for rival in rivals)}"
    standing = steps.transaction.standing
    if standing.state is State.ENDING and standing.end is not Status.ACSC:
        return False
    kinds = (EventKind.REFUSED, EventKind.CANCELLED, EventKind.DEADLINE)
    kind = next((kind for kind in kinds if judge(standing, kind) is not None), None)
    if kind is None or standing.state in (*_UNKNOWN, State.END):
        return False
    steps.take(kind, reason=_DUPLICATE_REASON, note=note)
    return True


def ended_as_intended(steps: Steps, answer: str | None) -> Change:
    """The change of a taker that makes the lost region's last intent a fact: the same end, the same bytes."""
    transaction = replace(steps.transaction, answer=answer)
    return Change(
        after=transaction,
        events=steps.events,
        read=steps.read,
        ended=steps.ended,
        ends_all=_rest(steps, transaction) if transaction.payments else None,
        deliveries=deliver.run(answer),
    )


def _answered(steps: Steps, transaction: Transaction, answer: Answer | None) -> tuple[Transaction, tuple[Body, ...]]:
    """An end with its answer, and what of it is told already: nothing, as long as it is only intended."""
    body = None if answer is None else outbox(answer)
    digest = None if body is None else body.digest
    bodies = () if body is None else (body,)
    if transaction.standing.is_final:
        answered = replace(transaction, answer=None if body is None else body.definition, answer_digest=digest)
        return answered, bodies
    deadline = transaction.deadline
    if transaction.standing.end is not Status.ACSC or matching.asks(transaction) or steps.events[-1].kind in _BY_WORD:
        # Nothing replaces it any more, so its clock has nothing left to do.
        deadline = Deadline(clock=Clock.PEER, at=transaction.updated_at + _PEER_WITHIN)
    return replace(transaction, answer_digest=digest, deadline=deadline), bodies


def outbox(answer: Answer) -> Body:
    """An answer as a body."""
    digest = sha256(answer.body).digest()
    return Body(kind=BodyKind.OUTBOX, definition=answer.definition, content=answer.body, digest=digest)


def inbox(inspection: Inspection) -> Body:
    """A message received as a body."""
    return Body(
        kind=BodyKind.INBOX, definition=inspection.definition, content=inspection.content, digest=inspection.digest
    )


# -- the parts of a change --------------------------------------------------------------------------------------------


def _placed(transaction: Transaction, inspection: Inspection, route: Route) -> Transaction:
    """The transaction with what its message tells, on the route that the message chose."""
    original = inspection.original
    deadline = transaction.deadline
    if deadline is not None and deadline.clock is Clock.SLA and route.name != transaction.route:
        deadline = Deadline(clock=Clock.SLA, at=transaction.created_at + route.sla)
    if deadline is not None and deadline.clock is Clock.SLA and inspection.enquiry is not None:
        deadline = Deadline(clock=Clock.SLA, at=max(deadline.at, transaction.created_at + _ASKED_WITHIN))
    return replace(
        transaction,
        route=route.name,
        deadline=deadline,
        definition=inspection.definition,
        message_id=None if original is None else original.message_id,
        digest=inspection.digest,
        answer_due=not inspection.is_answer,
        payments=0 if original is None else len(original.payments),
    )


def _timed(transaction: Transaction, inspection: Inspection, route: Route) -> Transaction:
    """The transaction with the clock of its scheme, where that has begun before the message came."""
    deadline = transaction.deadline
    if deadline is None or deadline.clock is not Clock.SLA:
        return transaction
    return replace(transaction, deadline=replace(deadline, at=clocks.due(inspection, route.sla, deadline.at)))


def _change(
    steps: Steps,
    arrival: Arrival,
    before: Transaction,
    refused: Mapping[int, Refusal],
    *,
    entered: bool,
    untreatable: bool = False,
) -> Change:
    """entered: the message entered ACTC, so that it reserves its keys."""
    inspection, transaction = arrival.inspection, steps.transaction
    bodies: tuple[Body, ...] = () if before.digest is not None else (inbox(inspection),)
    if steps.ends:
        narrated = {ordinal: (refusal.reason, refusal.note) for ordinal, refusal in refused.items()} | _told_apart(
            steps
        )
        answer = release.answer(
            transaction, inspection, narrated, transaction.updated_at, untreatable=untreatable, outcome=arrival.outcome
        )
        transaction, answers = _answered(steps, transaction, answer)
        bodies += answers
    reserves, names = _keys(transaction, arrival, refused, entered=entered)
    change = Change(
        after=transaction,
        events=steps.events,
        read=steps.read,
        bodies=bodies,
        reserves=reserves,
        names=names + (_reference(transaction) if steps.read == 0 else ()),
        deliveries=deliver.run(transaction.answer) if transaction.standing.is_final else (),
        idempotency=arrival.idempotency,
        original=arrival.original,
    )
    if not before.payments:
        return replace(change, payments=_payments(transaction, inspection, refused))
    # They were stored when the message was received, and only end now.
    ended = steps.ended + tuple(
        PaymentEnd(ordinal, Status.RJCT, refusal.reason, refusal.note)
        for ordinal, refusal in refused.items()
        if ordinal not in steps.apart.decided
    )
    final = _rest(steps, transaction) if transaction.standing.is_final else None
    return replace(change, ended=ended, ends_all=final)


def _reference(transaction: Transaction) -> tuple[Key, ...]:
    """The client's own reference as a name, where it gave one."""
    reference = transaction.reference
    return () if reference is None else (Key(kind=KeyKind.REFERENCE, value=reference),)


def _keys(
    transaction: Transaction, arrival: Arrival, refused: Mapping[int, Refusal], *, entered: bool
) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
    """What is reserved, and what only finds: everything, where the message was refused at receive."""
    original = arrival.inspection.original
    if original is None:
        return (), ()
    kept: list[Key] = []
    names: list[Key] = []
    wanted = arrival.inspection.practice.duplicate_keys
    (kept if entered and arrival.root is None else names).extend(receive.message_keys(original, wanted))
    names.extend(receive.message_names(original, wanted))
    ended = transaction.standing.end in (Status.RJCT, Status.CANC)
    for payment in original.payments:
        keys = receive.payment_keys(original, payment, wanted)
        if arrival.root is not None:
            value = f"{arrival.root.hex}/{payment.ordinal}"
            keys += (Key(kind=KeyKind.ATTEMPT, value=value, payment=payment.ordinal),)
        lives = entered and not ended and payment.ordinal not in refused
        (kept if lives else names).extend(keys)
        names.extend(receive.finding_keys(original, payment, wanted))
    return tuple(kept), tuple(names)


def _payments(transaction: Transaction, inspection: Inspection, refused: Mapping[int, Refusal]) -> tuple[Payment, ...]:
    if inspection.original is None:
        return ()
    status, reason = _status(transaction), transaction.reason if transaction.standing.is_final else None
    return tuple(
        Payment(
            ordinal=payment.ordinal,
            instruction_id=payment.instruction_id,
            end_to_end_id=payment.end_to_end_id,
            transaction_id=payment.transaction_id,
            uetr=payment.uetr,
            amount=payment.decimal,
            currency=payment.currency,
            status=Status.RJCT if payment.ordinal in refused else status,
            reason=refused[payment.ordinal].reason if payment.ordinal in refused else reason,
            note=refused[payment.ordinal].note if payment.ordinal in refused else None,
        )
        for payment in inspection.original.payments
    )


def _rest(steps: Steps, transaction: Transaction) -> tuple[Status, str | None]:
    """How payments end that have no end of their own."""
    return steps.apart.rest or _status(transaction), transaction.reason


def _status(transaction: Transaction) -> Status:
    status = transaction.standing.status
    assert status is not None  # it has had an event
    return status


def _told(findings: tuple[Finding, ...]) -> dict[str, object]:
    """Findings as they stand in an event."""
    if not findings:
        return {}
    listed = [
        {
            "severity": finding.severity.value,
            "rule": finding.rule,
            "reason": finding.reason,
            "xpath": finding.xpath,
            "line": finding.line,
            "text": finding.text,
            "payment": finding.payment,
        }
        for finding in findings[:_FINDINGS_MAX]
    ]
    return {"findings": listed, "findings_left_out": max(0, len(findings) - _FINDINGS_MAX)}
