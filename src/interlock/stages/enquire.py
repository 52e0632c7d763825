"""Enquire: what a request about other messages is answered, from what the ledger has of them, and what is to be done.

A status request (pacs.028), a request to cancel (camt.055, camt.056) and the investigations (camt.026, camt.027,
camt.087, camt.110) name originals. Whoever calls looks those up under `matching.keys`, for the same client only, and
gives what was found as `Entry`s; another client's are unknown here, and never told of. `run` then says which
transactions are to be cancelled and what the answer holds, as if they had been. Whoever calls cancels them, and where
one of them has moved meanwhile, looks up and runs again: a payment that is cancelled already is answered as cancelled,
so that a request which is taken up again after a crash comes to the same answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from interlock.iso20022 import answers, enquiries, recalls
from interlock.iso20022.answers import (
    Answer,
    Cancellation,
    InvestigationResult,
    Resolution,
    Resolved,
    Statement,
)
from interlock.iso20022.codes import Status
from interlock.iso20022.original import Level, Original, OriginalPayment, Reference
from interlock.iso20022.recalls import Recallable
from interlock.iso20022.references import REFERENCES_MAX
from interlock.iso20022.rules.dates import day_of
from interlock.lifecycle import EventKind, State, judge
from interlock.stages.matching import Entry, Facts, Match, Matcher
from interlock.transaction import Payment, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A transaction to be cancelled before the request is answered."""

    transaction: UUID
    #: Version on which that was decided.
    version: int
    #: ISO ExternalStatusReason1Code.
    reason: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What comes of a request."""

    cancels: tuple[Cancel, ...] = ()
    #: Transactions whose cancellation is intended and no fact yet: once they have ended, another run says more.
    waits: tuple[UUID, ...] = ()
    #: What the answer holds, by kind of request. It is true once the cancels are facts, and must not be told before.
    statements: tuple[Statement, ...] = ()
    #: The message that reports the statements, where it is another than usual: a pain.014 on a request to pay.
    report: str | None = None
    resolution: Resolution | None = None
    #: Why nothing can be said at all: an admi.002 tells it.
    refusal: str | None = None
    investigation: InvestigationResult | None = None


def is_enquiry(original: Original) -> bool:
    """True for a request that `run` can judge."""
    return answers.enquiry_definition(original.definition) is not None


def asks(transaction: Transaction) -> bool:
    """Whether it is such a request: what that is answered is what was found, and no clock makes it a rejection."""
    return answers.enquiry_definition(transaction.definition or "") is not None


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
            return _status(original, matches)
        case "camt.055" | "camt.056":
            if original.references_cut or facts.reused:
                return _refused(original.references, "reused" if facts.reused else "too_many")
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


_Matches = Sequence[tuple[Reference, Match]]


def _status(original: Original, matches: _Matches) -> Outcome:
    if original.references_cut:
        return Outcome(refusal=enquiries.cancellation("too_many", None).text)
    return Outcome(statements=_statements(matches), report=_report_on(matches))


def _statements(matches: _Matches) -> tuple[Statement, ...]:
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


def _report_on(matches: _Matches) -> str | None:
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
        narrative=_why(transaction, payment.status, payment.reason),
        payment=_known(entry, payment),
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


def _known(entry: Entry, payment: Payment) -> OriginalPayment | None:
    """The payment as its message has it, where that is to be had; else as the ledger has it."""
    if entry.original is not None:
        payments = entry.original.payments
        return payments[payment.ordinal - 1] if payment.ordinal <= len(payments) else None
    is_interbank = (entry.transaction.definition or "").startswith("pacs")
    return OriginalPayment(
        ordinal=payment.ordinal,
        group=None,
        xpath="",
        line=None,
        instruction_id=payment.instruction_id,
        end_to_end_id=payment.end_to_end_id,
        transaction_id=payment.transaction_id,
        uetr=payment.uetr,
        # A customer's amount is no interbank amount: it is not said rather than said as another.
        amount=format(payment.amount, "f") if payment.amount is not None and is_interbank else None,
        currency=payment.currency,
        settlement_date=None,
        debtor_agent=None,
        creditor_agent=None,
        debtor_iban=None,
        creditor_iban=None,
    )


def _block(entry: Entry, payment: Payment) -> str | None:
    original = entry.original
    if original is None or payment.ordinal > len(original.payments):
        return None
    group = original.payments[payment.ordinal - 1].group
    return None if group is None else original.groups[group].payment_information_id


def _cancellation(matches: _Matches, facts: Facts, matcher: Matcher) -> Outcome:
    wanted: dict[UUID, set[int]] = {}
    for _, match in matches:
        if match.entry is not None:
            wanted.setdefault(match.entry.transaction.id, set()).update(one.ordinal for one in match.payments)
    cancels: dict[UUID, Cancel] = {}
    waits: dict[UUID, None] = {}
    cases = []
    for reference, match in matches:
        entry, condition = match.entry, match.condition
        if entry is not None:
            takes_all = matcher.live(entry) <= wanted[entry.transaction.id]
            condition = _condition(match.payments, entry.transaction, takes_all=takes_all)
            if condition == "settled":
                condition = _recall(reference, match, facts, matcher)
            elif condition == "cancel" and facts.late:
                condition = "late"
        if entry is not None and condition == "cancel":
            transaction = entry.transaction
            cancels.setdefault(
                transaction.id,
                Cancel(
                    transaction=transaction.id,
                    version=transaction.version,
                    reason=enquiries.status_reason(reference.reason),
                    note="cancelled on request",
                ),
            )
            condition = "cancelled"
        elif entry is not None and condition == "cancelling" and not facts.late:
            waits[entry.transaction.id] = None
        cases.append(_resolved(reference, condition, entry))
    resolution = Resolution(confirmation=_outcome_of(cases), cases=tuple(cases))
    return Outcome(cancels=tuple(cancels.values()), waits=tuple(waits), resolution=resolution)


def _resolved(reference: Reference, condition: str, entry: Entry | None = None) -> Resolved:
    definition = reference.definition if entry is None else entry.transaction.definition
    words = enquiries.cancellation(condition, definition)
    return Resolved(reference=reference, status=Cancellation(words.status), reason=words.reason, narrative=words.text)


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
    known = (_known(entry, payment) for payment in payments)
    days = (day_of(one.settlement_date) for one in known if one is not None)
    return next((day for day in days if day is not None), entry.transaction.created_at.date())


def _condition(payments: Iterable[Payment], transaction: Transaction, *, takes_all: bool) -> str:
    """How an original that is known stands to its cancellation.

    takes_all: the request asks for everything of its message that has no end yet.
    """
    standing = transaction.standing
    if asks(transaction):
        return "unknown"  # a request is no payment, and is not cancelled
    stands: set[Status | None] = {payment.status for payment in payments} or {standing.status}
    if Status.ACSC in stands:
        return "settled"
    if stands <= {Status.CANC, Status.RJCT}:
        return "cancelled" if Status.CANC in stands else "rejected"
    if judge(standing, EventKind.CANCELLED) is None:
        # An end is under way, which is not to be told before it is a fact; or the outcome is a downstream's to tell.
        is_cancelling = standing.state is State.ENDING and standing.end is Status.CANC
        return "cancelling" if is_cancelling else "handed"
    return "cancel" if takes_all else "several"


def _outcome_of(cases: Iterable[Resolved]) -> str:
    """The confirmation for the whole: cancelled, in part, pending or rejected."""
    statuses = {case.status for case in cases}
    if statuses == {Cancellation.ACCEPTED}:
        return "CNCL"
    if Cancellation.ACCEPTED in statuses:
        return "PECR"
    return "PDCR" if Cancellation.PENDING in statuses else "RJCR"


def _refused(references: Iterable[Reference], condition: str) -> Outcome:
    cases = tuple(_resolved(reference, condition) for reference in references)
    return Outcome(resolution=Resolution(confirmation=_outcome_of(cases), cases=cases))


def _confirmation(family: str, matches: _Matches) -> str | None:
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


def _investigation(original: Original, matches: _Matches) -> InvestigationResult:
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
    original: Original, outcome: Outcome, *, answer_id: str, now: datetime, definition: str | None = None
) -> Answer:
    """The answer to a request, once what it asked for is done; an admi.002 where its version has no word for that.

    definition: the version that a profile names, in place of the one published with the request.
    """
    chosen = definition or answers.enquiry_definition(original.definition) or ""
    if outcome.investigation is not None:
        return answers.build_investigation(
            original, outcome.investigation, answer_id=answer_id, now=now, definition=chosen
        )
    resolution = outcome.resolution
    if resolution is not None and _can_say(resolution, chosen):
        return answers.build_resolution(original, resolution, answer_id=answer_id, now=now, definition=chosen)
    if outcome.statements:
        report = outcome.report or chosen
        return answers.build_statuses(original, outcome.statements, answer_id=answer_id, now=now, definition=report)
    words = "nothing that was asked for can be told or changed here: the payment is as it was sent."
    return answers.build_admi002(
        reason="NARR",
        narrative=outcome.refusal or f"{original.definition} is understood, but {words}",
        reference=original.message_id or "",
        now=now,
        answer_id=answer_id,
        original=original,
    )


def _can_say(resolution: Resolution, definition: str) -> bool:
    if resolution.modification_rejections:
        return True
    return resolution.confirmation is not None and answers.can_confirm(definition, resolution.confirmation)
