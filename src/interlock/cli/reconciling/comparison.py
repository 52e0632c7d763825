"""Whether the sides of one transaction come to the same; a sentence for each difference.

Values are told only where they cannot be personal data.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from uuid import UUID

from interlock.cli.reconciling.answers import FAMILIES, NAMES, OTHERS, Answer
from interlock.cli.reconciling.books import Sum, written
from interlock.cli.reconciling.cases import UNREADABLE, Case
from interlock.iso20022.codes import Status
from interlock.iso20022.forms import SETTLED_CODES
from interlock.iso20022.original import Original, OriginalPayment, to_decimal
from interlock.lifecycle import EventKind
from interlock.ports import Store
from interlock.transaction import Event, Payment, Transaction

_IDS = tuple(NAMES.values())


def unlike(store: Store, case: Case) -> Iterator[str]:
    """A sentence for each difference; those that say most come first."""
    yield from case.unread
    if case.events is not None:
        yield from _unlike_history(case.transaction, case.events)
    yield from _unlike_attempts(store, case.transaction)
    if case.unread or (case.inbox is None and case.transaction.digest is not None):
        if not case.unread:
            yield "a message came for it, and is not in the store"
        return  # all that follows would be said of half a transaction
    yield from _unlike_message(case)
    yield from _unlike_payments(case)
    yield from _unlike_end(case)
    yield from _unlike_answer(case)


def _unlike_history(transaction: Transaction, events: Sequence[Event]) -> Iterator[str]:
    """To whom and to which day it belongs, and where it stands: of this the messages say nothing."""
    if not events:
        yield "history does not know it"
        return
    first, last, standing = events[0], events[-1], transaction.standing
    if first.actor != transaction.client:
        yield f"it is kept as {transaction.client}'s, and {first.actor} sent it"
    if first.at != transaction.created_at:
        yield f"it is kept as begun at {transaction.created_at.isoformat()}, and began at {first.at.isoformat()}"
    if last.standing != standing:
        yield f"it is kept as {_standing(standing.status, standing.end)}, and its history ends with " + _standing(
            last.standing.status, last.standing.end
        )
    ends = sum(event.kind is EventKind.ENDED for event in events)
    if ends > 1:
        yield f"it has ended {ends} times"


def _standing(status: Status | None, end: Status | None) -> str:
    return f"{status}" if end in (None, status) else f"{status} (end: {end})"


def _unlike_message(case: Case) -> Iterator[str]:
    transaction, inbox = case.transaction, case.inbox
    if inbox is None:
        if transaction.standing.status not in (Status.ACCP, Status.RJCT, Status.CANC):
            yield f"it is {transaction.standing.status}, and no message came for it"
        return
    if sha256(inbox).digest() != transaction.digest:
        yield "its message is not the one that was received"
    if case.message.definition is None and transaction.standing.status in (Status.ACSC, Status.ACSP):
        yield f"it is {transaction.standing.status}, and its message cannot be read"


def _unlike_attempts(store: Store, transaction: Transaction) -> Iterator[str]:
    """A payment that is driven again must be the same, and must not have been settled before."""
    if transaction.redriven_as is not None and transaction.standing.end is Status.ACSC:
        yield f"it is ACSC, and was driven again as {transaction.redriven_as}"
    if transaction.redrive_of is None:
        return
    try:
        former = store.get(transaction.redrive_of)
    except UNREADABLE:
        return  # told of where that one is looked at
    if former is not None and former.standing.end is Status.ACSC:
        yield f"it drives {former.id} again, which is ACSC"
    if former is not None and former.digest != transaction.digest:
        yield f"it drives {former.id} again, with another message"


def _unlike_payments(case: Case) -> Iterator[str]:
    """The store's payments against those of the message."""
    due = {payment.ordinal: payment for payment in case.message.payments}
    kept = {payment.ordinal: payment for payment in case.kept}
    if len(case.payments) != case.transaction.payments:
        yield f"it is said to hold {case.transaction.payments} payments, the store has {len(case.payments)} of it"
    if due and not kept:
        if case.is_refused_as_one and not case.transaction.payments:
            return
        yield f"its message holds {len(due)} payments, and none is in the store"
        return
    for ordinal, payment in due.items():
        if ordinal not in kept:
            shown = written(payment.decimal, payment.currency)
            yield f"payment {ordinal} of its message, {shown}, is not in the store"
        else:
            yield from _unlike_payment(payment, kept[ordinal])
    for ordinal in kept.keys() - due.keys():
        shown = written(kept[ordinal].amount, kept[ordinal].currency)
        yield f"payment {ordinal} in the store, {shown}, is not in its message"


def _unlike_payment(due: OriginalPayment, kept: Payment) -> Iterator[str]:
    if (due.decimal, due.currency) != (kept.amount, kept.currency):
        sent, stored = written(due.decimal, due.currency), written(kept.amount, kept.currency)
        yield f"payment {due.ordinal} is {sent} in its message, {stored} in the store"
    differing = [name for name in _IDS if getattr(due, name) != getattr(kept, name)]
    if differing:  # their values are not shown: they may be personal data
        yield f"payment {due.ordinal} has another {' and '.join(differing)} in its message than in the store"


def _unlike_end(case: Case) -> Iterator[str]:
    """How its payments ended, against how it ended itself, and against the sums that its message declares."""
    standing = case.transaction.standing
    status, end = standing.status, standing.end if standing.is_final else None
    if status is None or standing.is_final != status.is_final or end not in (None, status):
        yield f"it is shown as {status}, and " + ("has not ended" if end is None else f"ended as {end}")
    alone = case.ended_alone
    for payment in case.kept:
        by_itself = alone.get(payment.ordinal)
        if by_itself is not None:
            if payment.status is not by_itself:
                yield f"payment {payment.ordinal} is {payment.status}, and ended as {by_itself} by itself"
        elif end is None and payment.status in (Status.ACSC, Status.CANC):
            yield f"payment {payment.ordinal} is {payment.status}, and the transaction has not ended"
        elif end is not None and payment.status not in (end, Status.RJCT):
            yield f"payment {payment.ordinal} is {payment.status}, and the transaction is {end}"
    settled = [payment for payment in case.kept if payment.status is Status.ACSC]
    if end is Status.ACSC and case.kept and not settled:
        yield "it is ACSC, and none of its payments is"
    if end is Status.ACSC and settled and case.message.original is not None:
        yield from _unlike_sums(case.message.original, {payment.ordinal for payment in settled})


def _unlike_sums(original: Original, settled: set[int]) -> Iterator[str]:
    """Numbers and sums that a message declares of itself, where they should have kept it from being settled."""
    payments = original.payments
    if not _is_count(original.number_of_transactions, payments):
        yield f"it was settled, and its message declares another number of payments than its {len(payments)}"
    if not _is_sum(original.control_sum, payments) or not _is_sum(original.total_amount, payments):
        yield "it was settled, and its message declares another sum than that of its payments"
    for place, group in enumerate(original.groups, 1):
        inside = [payment for payment in payments if payment.group == place - 1]
        if not any(payment.ordinal in settled for payment in inside):
            continue
        if not _is_count(group.number_of_transactions, inside) or not _is_sum(group.control_sum, inside):
            yield f"it was settled, and block {place} of its message declares another number or sum than it holds"


def _is_count(declared: str | None, payments: Sequence[OriginalPayment]) -> bool:
    return declared is None or to_decimal(declared) == len(payments)


def _is_sum(declared: str | None, payments: Iterable[OriginalPayment]) -> bool:
    """Whether they come to it; an equivalent, or an amount that cannot be read, leaves nothing to compare."""
    total = Sum()
    for payment in payments:
        if payment.decimal is None or payment.amount_is_equivalent:
            return True
        total.add(payment.decimal)
    return declared is None or to_decimal(declared) == total.amount


# -- its answer --------------------------------------------------------------------------------------------------------


def _unlike_answer(case: Case) -> Iterator[str]:
    status, final = case.transaction.standing.status, case.transaction.standing.is_final
    answer, message = case.answer, case.message
    if case.outbox is None:
        if final and not message.is_answer:
            yield f"it is {status}, and has no answer"
        return
    if not final:
        yield f"it is {status}, and was answered already"
    if message.is_answer and not case.faulted:  # after a fault it may not have been known for what it is
        yield "its message is an answer itself, and was answered"
    if answer is None or answer.family not in (*(OTHERS if message.is_about_others else ()), *FAMILIES):
        yield "its answer cannot be read, or is none"
        return
    if answer.reports != 1:
        yield f"it has {answer.reports} answers in one"
    yield from _unlike_reference(case, answer)
    if not final:
        return
    if answer.is_rejection:
        yield from _unlike_rejection(case)
    elif not message.is_about_others:
        yield from _unlike_told(case, answer)
        yield from _unlike_group(case, answer)


def _unlike_rejection(case: Case) -> Iterator[str]:
    if case.transaction.standing.end is Status.ACSC:
        yield "it is ACSC, and its answer is a rejection of the whole (admi.002)"


def _unlike_reference(case: Case, answer: Answer) -> Iterator[str]:
    """Whose answer it is, and which message it names."""
    original, own = case.message.original, case.transaction.id.hex
    if answer.is_rejection:
        header = None if original is None else original.header
        names = (own, original and original.message_id, header and header.business_message_id)
        if answer.original_id not in names:
            yield "its answer (admi.002) refers to another message"
        return
    if answer.id != own:
        yield f"its answer is not its own: it is {_id_shown(answer.id)}"
    if case.message.is_about_others:
        return
    if original is None:
        yield "its message cannot be read, and its answer repeats it"
        return
    if (answer.original_id, answer.original_definition) != (original.message_id, original.definition):
        yield "its answer is to another message"
    due = (original.number_of_transactions, original.control_sum)
    if any(told not in (None, said) for told, said in zip(answer.counts, due, strict=True)):
        yield "its answer repeats another number or control sum than its message declares"


def _id_shown(text: str | None) -> str:
    """The transaction that an answer names itself by."""
    try:
        return f"the answer of {UUID(hex=text or '')}"
    except ValueError:
        return "named by no transaction"


def _unlike_told(case: Case, answer: Answer) -> Iterator[str]:
    """What it says of each payment, against the store's status and the message's identifications and amounts."""
    kept, sent = case.kept, case.message.payments
    if case.is_refused_as_one and not answer.payments:
        return
    if len(answer.payments) != len(sent):
        yield f"its answer speaks of {len(answer.payments)} payments, its message holds {len(sent)}"
        return
    stands = {payment.ordinal: payment.status for payment in kept}
    for told, due in zip(answer.payments, sent, strict=True):
        status = stands.get(due.ordinal)
        if status is not None and _known_as(told.status) != _said_as(status):
            yield f"payment {due.ordinal} is {status}, and its answer says {_code(told.status)}"
        if told.amount is not None and (told.amount, told.currency) != (due.decimal, due.currency):
            repeated, shown = written(told.amount, told.currency), written(due.decimal, due.currency)
            yield f"payment {due.ordinal} is {shown} in its message, {repeated} in its answer"
        differing = [name for name, text in told.names.items() if text != getattr(due, name)]
        if differing:
            yield f"payment {due.ordinal} has another {' and '.join(differing)} in its message than in its answer"


def _said_as(status: Status) -> str:
    """How an answer says it."""
    return "RJCT" if status is Status.CANC else status.value


def _known_as(code: str | None) -> str | None:
    """An answer's code as ours: schemes have several for what was settled."""
    return Status.ACSC.value if code in SETTLED_CODES else code


def _code(status: str | None) -> str:
    return status if status is not None and len(status) == 4 and status.isascii() and status.isalpha() else "nothing"


def _unlike_group(case: Case, answer: Answer) -> Iterator[str]:
    """The status of the whole and of each block, against those of the payments in it."""
    end = case.transaction.standing.end
    due = _together([told.status for told in answer.payments]) if answer.payments else end and _said_as(end)
    # A scheme's form may leave out what the payments say as well.
    if _known_as(answer.status) != _known_as(due) and not (answer.status is None and answer.payments):
        yield f"its answer says {_code(answer.status)} of the whole, and it is {_code(due)}"
    for place, (status, inside) in enumerate(answer.blocks, 1):
        if inside and status is not None and status != _together(inside):
            yield f"its answer says {_code(status)} of block {place}, and {_code(_together(inside))} of what is in it"


def _together(statuses: Sequence[str | None]) -> str | None:
    return statuses[0] if len(set(statuses)) == 1 else "PART"
