"""A message of many payments, put down before: the one change that makes it count. Pure.

All its stages share that change, so that it is answered when it is acknowledged. What holds for single messages holds
here, but that an answer to one that is refused as a whole does not list its payments: they are refused with it.
"""

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from interlock.iso20022.findings import Finding
from interlock.lifecycle import EventKind
from interlock.routes import Route
from interlock.stages import deliver, receive, release
from interlock.stages.facts import Inspection
from interlock.stages.outcomes import Passed, Refusal
from interlock.stages.steps import Steps
from interlock.stages.way import Arrival, _answered, _keys, _placed, _reference, _told
from interlock.transaction import Body, BodyKind, Change, Idempotency, Key


class Gathered(Struct, frozen=True, kw_only=True):
    """What a message of many payments came to when it was read."""

    inspection: Inspection
    payments: int
    #: In how many parts it is kept.
    parts: int
    #: Breaks a rule on the whole message.
    whole: Finding | None = None
    #: Reason and note of the first payment, where all of them are refused for themselves.
    all_refused: tuple[str, str | None] | None = None
    errors: tuple[Finding, ...] = ()
    errors_left_out: int = 0
    #: The answer that covers each payment, put down too; None where it is refused as a whole.
    answer: Body | None = None
    idempotency: Idempotency | None = None


def accept(steps: Steps, gathered: Gathered, route: Route, taken: Mapping[Key, UUID]) -> Change:
    """Receive, process and release. taken: keys of the message that are another's."""
    inspection = gathered.inspection
    steps.transaction = replace(_placed(steps.transaction, inspection, route), payments=gathered.payments)
    outcome = receive.run(inspection, taken)
    entered = isinstance(outcome, Passed)
    told = {**_told(gathered.errors), "findings_left_out": gathered.errors_left_out} if gathered.errors else {}
    if isinstance(outcome, Passed):
        steps.take(EventKind.RECEIVED, actor=steps.transaction.client, detail=_told(outcome.warnings))
        refusal = _refusal(gathered)
    else:
        refusal, told = outcome, _told(outcome.findings)
    if refusal is not None:
        steps.take(EventKind.REFUSED, reason=refusal.reason, note=refusal.note, detail=told)
    else:
        steps.take(EventKind.PASSED, detail=told)
        steps.take(EventKind.SETTLED)
    return _change(steps, gathered, route, refusal, entered=entered)


def _refusal(gathered: Gathered) -> Refusal | None:
    """Why it is refused, where it is."""
    whole = gathered.whole
    if whole is not None:
        return Refusal(reason=whole.reason, note=f"{whole.rule} at {whole.xpath}: {whole.text}")
    if gathered.all_refused is not None:
        reason, note = gathered.all_refused
        return Refusal(reason=reason, note=note or "")
    return None


def _change(steps: Steps, gathered: Gathered, route: Route, refusal: Refusal | None, *, entered: bool) -> Change:
    inspection, transaction = gathered.inspection, steps.transaction
    inbox = Body(
        kind=BodyKind.INBOX,
        definition=inspection.definition,
        content=b"",
        digest=inspection.digest,
        parts=gathered.parts,
    )
    bodies: tuple[Body, ...]
    if entered and gathered.answer is not None:
        written = gathered.answer
        transaction = replace(transaction, answer=written.definition, answer_digest=written.digest)
        bodies = (inbox, written)
    else:
        untreatable = refusal is not None and refusal.untreatable
        answer = release.answer(transaction, inspection, {}, transaction.updated_at, untreatable=untreatable)
        transaction, answers = _answered(steps, transaction, answer)
        bodies = (inbox, *answers)
    arrival = Arrival(inspection=inspection, route=route)
    reserves, names = _keys(transaction, arrival, {}, entered=entered)
    return Change(
        after=transaction,
        events=steps.events,
        read=steps.read,
        bodies=bodies,
        reserves=reserves,
        names=names + _reference(transaction),
        deliveries=deliver.run(transaction.answer),
        idempotency=gathered.idempotency,
        staged=True,
    )
