"""Release: the end and its one answer."""

from collections.abc import Mapping
from datetime import datetime

from interlock.iso20022 import answers
from interlock.iso20022.answers import Answer, PaymentVerdict, Verdict
from interlock.iso20022.codes import Status
from interlock.iso20022.forms import NO_FORMS, Forms
from interlock.iso20022.original import Original
from interlock.stages import enquire
from interlock.stages.facts import Inspection
from interlock.transaction import Deadline, Transaction

#: Characters that a reference in admi.002 can have; cut, it would name another message.
_REFERENCE_MAX = 35


def is_late(deadline: Deadline | None, now: datetime) -> bool:
    """Nothing is released at or after its deadline, even if the timer is late."""
    return deadline is not None and now >= deadline.at


def answer(
    transaction: Transaction,
    inspection: Inspection | None,
    refused: Mapping[int, tuple[str, str | None]],
    now: datetime,
    *,
    untreatable: bool = False,
    outcome: enquire.Outcome | None = None,
) -> Answer | None:
    """The answer to a transaction that ends as `transaction` says; None where none is due.

    inspection: of the message received, with the version of its answer; None where there is none (the id's clock ran
    out first).
    refused: by ordinal, reason and note of payments that have a reason of their own.
    untreatable: the message must not be treated as a business message, though it can be read.
    outcome: of a request about other messages, what the ledger says.
    """
    if inspection is not None and inspection.is_answer:
        return None
    end = transaction.standing.end
    assert end is not None  # only what ends is answered
    original = None if inspection is None else inspection.original
    note = transaction.note if end is not Status.ACSC else None
    chosen = None if inspection is None else inspection.answer or inspection.enquiry
    forms = NO_FORMS if inspection is None else inspection.practice.forms
    if original is not None and end is Status.ACSC and not untreatable:
        served = _served(transaction, original, outcome, now, chosen, forms)
        if served is not None:
            return served
    usable = inspection is not None and inspection.is_usable and chosen is not None and not untreatable
    if original is None or not usable:
        return answers.build_admi002(
            reason=transaction.reason or "NARR",
            narrative=note or "",
            reference=_reference(transaction, original),
            now=now,
            answer_id=transaction.id.hex,
            original=original,
            forms=forms,
        )
    payments = {
        ordinal: PaymentVerdict(status=Status.RJCT, reason=reason, narrative=text)
        for ordinal, (reason, text) in refused.items()
    }
    verdict = Verdict(
        status=end,
        reason=transaction.reason if end is not Status.ACSC else None,
        narrative=note,
        payments=payments,
        # A code of ours: no rule has refused it, but its time was over, or its region was lost.
        is_partly_done=end is Status.CANC or transaction.code is not None,
    )
    return answers.build(original, verdict, answer_id=transaction.id.hex, now=now, definition=chosen, forms=forms)


def _served(
    transaction: Transaction,
    original: Original,
    outcome: enquire.Outcome | None,
    now: datetime,
    definition: str | None,
    forms: Forms,
) -> Answer | None:
    """The answer to what is no payment and was not refused: from the ledger, or a receipt; None for payments."""
    answer_id = transaction.id.hex
    if outcome is not None:
        return enquire.answer(original, outcome, answer_id=answer_id, now=now, definition=definition, forms=forms)
    if answers.receipt_definition(original.definition) is not None:
        reference = _reference(transaction, original)
        return answers.build_receipt(original, reference=reference, answer_id=answer_id, now=now)
    return None


def _reference(transaction: Transaction, original: Original | None) -> str:
    """What admi.002 refers to: the original's own identification where it can be read, else our id of it."""
    header = None if original is None else original.header
    names = (header and header.business_message_id, original and original.message_id)
    return next((name for name in names if name and len(name) <= _REFERENCE_MAX), transaction.id.hex)
