"""Enquire: what a request about other messages is answered, from what the ledger has of them, and what is to be done.

A status request (pacs.028), a request to cancel (camt.055, camt.056) and the investigations (camt.026, camt.027,
camt.087, camt.110) name originals. Whoever calls looks those up under `matching.keys`, for the same client only, and
gives what was found as `Entry`s; another client's are unknown here, and never told of. `run` then says which
transactions are to be cancelled and what the answer holds, as if they had been. Whoever calls cancels them, and where
one of them has moved meanwhile, looks up and runs again: a payment that is cancelled already is answered as cancelled,
so that a request which is taken up again after a crash comes to the same answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from interlock.iso20022 import answers, enquiries
from interlock.iso20022.answers import (
    Answer,
    InvestigationResult,
    Resolution,
    Statement,
)
from interlock.iso20022.codes import Status
from interlock.iso20022.forms import NO_FORMS, Forms
from interlock.iso20022.original import Level, Original, Reference
from interlock.iso20022.references import REFERENCES_MAX
from interlock.stages import cancelling, chasing
from interlock.stages.cancelling import Cancel, Matches
from interlock.stages.chasing import Chase
from interlock.stages.matching import Entry, Facts, Matcher, asks, known_as
from interlock.transaction import Payment, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What comes of a request."""

    cancels: tuple[Cancel, ...] = ()
    #: Transactions whose end is intended and no fact yet: once they have ended, another run says more.
    waits: tuple[UUID, ...] = ()
    #: What the answer holds, by kind of request. It is true once the cancels are facts, and must not be told before.
    statements: tuple[Statement, ...] = ()
    #: The message that reports the statements, where it is another than usual: a pain.014 on a request to pay.
    report: str | None = None
    resolution: Resolution | None = None
    #: Why nothing can be said at all: an admi.002 tells it.
    refusal: str | None = None
    #: Of a status request about requests to cancel; told instead of the statements, where its version has the words.
    chase: Chase | None = None
    investigation: InvestigationResult | None = None


def is_enquiry(original: Original) -> bool:
    """True for a request that `run` can judge."""
    return answers.enquiry_definition(original.definition) is not None


# -- judging ----------------------------------------------------------------------------------------------------------


def run(original: Original, facts: Facts) -> Outcome:
    """What is to be done about a request that passed the receive stage, and what it is answered.

    Raises ValueError for a message that is no such request (`is_enquiry`).
    """
    family = original.definition[:8]
    matcher = Matcher(facts)
    matches = [(reference, matcher.match(reference)) for reference in original.references]
    match family:
        case "pacs.028":
            return _status(original, matches, facts)
        case "camt.055" | "camt.056":
            if original.references_cut or facts.reused:
                condition = "reused" if facts.reused else "too_many"
                return Outcome(resolution=cancelling.refused(original.references, condition))
            return _cancellation(matches, facts, matcher) if matches else Outcome()
        case "camt.026" | "camt.027":
            return Outcome(resolution=Resolution(confirmation=_confirmation(family, matches)))
        case "camt.087":
            codes = enquiries.modification_rejections(original.modifications)
            return Outcome(resolution=Resolution(modification_rejections=codes))
        case "camt.110":
            return Outcome(investigation=_investigation(original, matches))
        case _:
            raise ValueError(f"{family} is no request about other messages")


def _status(original: Original, matches: Matches, facts: Facts) -> Outcome:
    if original.references_cut:
        return Outcome(refusal=enquiries.cancellation("too_many", None).text)
    chase = chasing.chase(original, matches, facts) if matches else None
    return Outcome(statements=_statements(matches), report=_report_on(matches), chase=chase)


def _statements(matches: Matches) -> tuple[Statement, ...]:
    """The present truth of each payment that was asked for; of a message, as a whole and payment by payment."""
    told: list[Statement] = []
    room = REFERENCES_MAX
    ordinal = len(matches)
    for reference, match in matches:
        if match.entry is None:
            words = enquiries.status_of(match.condition)
            told.append(Statement(reference=reference, status=words.status, reason=words.reason, narrative=words.text))
        elif reference.level is Level.PAYMENT and match.payments:
            told.append(_statement(reference, match.entry, match.payments[0]))
        else:
            told.append(_summary(reference, match.entry, match.payments))
            if len(match.payments) <= room and not match.entry.is_partial:
                room -= len(match.payments)
                for payment in match.payments:
                    ordinal += 1
                    one = replace(reference, ordinal=ordinal, level=Level.PAYMENT)
                    told.append(_statement(one, match.entry, payment))
    return tuple(told)


def _report_on(matches: Matches) -> str | None:
    """The version of pain.014 that tells how a request to pay stands; None where a pacs.002 tells.

    A pain.014 has room for one message: whoever asks for requests to pay of several, or for payments besides, is told
    in a pacs.002, which has room for all.
    """
    about = {
        (reference.message_id, reference.definition)
        if match.entry is None
        else (match.entry.transaction.message_id, match.entry.transaction.definition)
        for reference, match in matches
    }
    _, definition = about.pop() if len(about) == 1 else (None, None)
    if definition is None or not definition.startswith("pain.013"):
        return None
    given = next((match.entry.transaction.answer for _, match in matches if match.entry is not None), None)
    # In the version of the answer that the request to pay had, which its profile may have named.
    return given if given is not None and given.startswith("pain.014") else answers.answer_definition(definition)


def _statement(reference: Reference, entry: Entry, payment: Payment) -> Statement:
    transaction = entry.transaction
    status = Status.RJCT if payment.status is Status.CANC else payment.status
    return Statement(
        reference=reference,
        status=status,
        reason=payment.reason if status is Status.RJCT else None,
        narrative=payment.note or _why(transaction, payment.status, payment.reason),
        payment=known_as(entry, payment),
        block=_block(entry, payment),
        message_id=transaction.message_id,
        definition=transaction.definition,
        created_at=None if entry.original is None else entry.original.created_at,
    )


def _summary(reference: Reference, entry: Entry, payments: Iterable[Payment]) -> Statement:
    """A message as a whole: PART where its payments do not all stand alike."""
    transaction = entry.transaction
    standing = transaction.standing
    if standing.end is Status.ACSC and asks(transaction):
        return _answered(reference, transaction)
    stands: set[Status | None] = {payment.status for payment in payments} or {standing.status}
    shown = {Status.RJCT if status is Status.CANC else status for status in stands if status is not None}
    status = "PART" if len(shown) != 1 else shown.pop().value
    return Statement(
        reference=reference,
        status=status,
        reason=transaction.reason if status == Status.RJCT else None,
        narrative=_why(transaction, standing.status, transaction.reason),
        message_id=transaction.message_id,
        definition=transaction.definition,
        created_at=None if entry.original is None else entry.original.created_at,
    )


def _answered(reference: Reference, transaction: Transaction) -> Statement:
    """Of a request that is no payment: nothing was settled, it was answered."""
    words = enquiries.status_of("answered" if transaction.standing.is_final else "taken")
    return Statement(
        reference=reference,
        status=words.status,
        reason=words.reason,
        narrative=words.text,
        message_id=transaction.message_id,
        definition=transaction.definition,
    )


def _why(transaction: Transaction, status: Status | None, reason: str | None) -> str | None:
    """What there is to say of a status in words."""
    if status is None or not status.is_final:
        cause = transaction.standing.cause
        return None if cause is None else enquiries.held(cause)
    return transaction.note if status is not Status.ACSC and reason == transaction.reason else None


def _block(entry: Entry, payment: Payment) -> str | None:
    original = entry.original
    if original is None or payment.ordinal > len(original.payments):
        return None
    group = original.payments[payment.ordinal - 1].group
    return None if group is None else original.groups[group].payment_information_id


def _cancellation(matches: Matches, facts: Facts, matcher: Matcher) -> Outcome:
    plan = cancelling.plan(matches, facts, matcher)
    return Outcome(cancels=plan.cancels, waits=plan.waits, resolution=cancelling.resolution(plan.cases))


def _confirmation(family: str, matches: Matches) -> str | None:
    stands = {payment.status for _, match in matches for payment in match.payments}
    if not stands:
        condition = "unknown"
    elif Status.ACSC in stands:
        condition = "settled"
    else:
        condition = "rejected" if all(status.is_final for status in stands) else "pending"
    return enquiries.confirmation(family, condition)


#: Conditions under which no payment is found, and yet none is unknown.
_UNSURE: Final = ("uncertain", "fault", "ambiguous", "blocks", "unnamed")


def _investigation(original: Original, matches: Matches) -> InvestigationResult:
    statements = _statements([(reference, match) for reference, match in matches if match.entry is not None])
    asked = original.investigation
    if not original.references:
        words = enquiries.investigation("other")
    elif not statements:
        # What is not known for sure goes before what is unknown: somebody may have to look.
        conditions = {match.condition for _, match in matches}
        words = enquiries.investigation(next((one for one in _UNSURE if one in conditions), "unknown"))
    elif enquiries.is_about_status(None if asked is None else asked.type_code):
        words = enquiries.investigation("answered")
    else:
        words = enquiries.investigation("other")
    return InvestigationResult(
        status=words.status,
        reason=words.reason,
        statements=tuple(one for one in statements if one.reference.level is Level.PAYMENT),
        narrative=words.text,
    )


# -- the answer -------------------------------------------------------------------------------------------------------


def answer(
    original: Original,
    outcome: Outcome,
    *,
    answer_id: str,
    now: datetime,
    definition: str | None = None,
    forms: Forms = NO_FORMS,
) -> Answer:
    """The answer to a request, once what it asked for is done; an admi.002 where its version has no word for that.

    definition: the version that a profile names, in place of the one published with the request; forms: how the
    scheme wants it.
    """
    chosen = definition or answers.enquiry_definition(original.definition) or ""
    if outcome.investigation is not None:
        return answers.build_investigation(
            original, outcome.investigation, answer_id=answer_id, now=now, definition=chosen, forms=forms
        )
    chase = outcome.chase
    if chase is not None and _can_say(chase.resolution, chase.definition):
        return answers.build_resolution(
            chase.about, chase.resolution, answer_id=answer_id, now=now, definition=chase.definition,
            forms=forms,
        )  # fmt: skip
    resolution = outcome.resolution
    if resolution is not None and _can_say(resolution, chosen):
        return answers.build_resolution(
            original, resolution, answer_id=answer_id, now=now, definition=chosen, forms=forms
        )
    if outcome.statements:
        report = outcome.report or chosen
        return answers.build_statuses(
            original, outcome.statements, answer_id=answer_id, now=now, definition=report, forms=forms
        )
    words = "nothing that was asked for can be told or changed here: the payment is as it was sent."
    return answers.build_admi002(
        reason="NARR",
        narrative=outcome.refusal or f"{original.definition} is understood, but {words}",
        reference=original.message_id or "",
        now=now,
        answer_id=answer_id,
        original=original,
        forms=forms,
    )


def _can_say(resolution: Resolution, definition: str) -> bool:
    if resolution.modification_rejections:
        return True
    return resolution.confirmation is not None and answers.can_confirm(definition, resolution.confirmation)
