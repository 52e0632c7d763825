"""Release: the end and its one answer."""

from collections.abc import Mapping
from datetime import datetime

from interlock.iso20022 import answers
from interlock.iso20022.answers import Answer, PaymentVerdict, Verdict
from interlock.iso20022.codes import Status
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
) -> Answer | None:
    """The answer to a transaction that ends as `transaction` says; None where none is due.

    inspection: of the message received; None where there is none (the id's clock ran out first).
    refused: by ordinal, reason and note of payments that have a reason of their own.
    untreatable: the message must not be treated as a business message, though it can be read.
    """
    if inspection is not None and inspection.is_answer:
        return None
    end = transaction.standing.end
    assert end is not None  # only what ends is answered
    original = None if inspection is None else inspection.original
    note = transaction.note if end is not Status.ACSC else None
    usable = inspection is not None and inspection.is_usable and inspection.answer is not None and not untreatable
    if original is None or not usable:
        return answers.build_admi002(
            reason=transaction.reason or "NARR",
            narrative=note or "",
            reference=_reference(transaction, inspection),
            now=now,
            answer_id=transaction.id.hex,
            original=original,
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
    )
    return answers.build(original, verdict, answer_id=transaction.id.hex, now=now)


def _reference(transaction: Transaction, inspection: Inspection | None) -> str:
    """What admi.002 refers to: the original's own identification where it can be read, else our id of it."""
    original = None if inspection is None else inspection.original
    header = None if original is None else original.header
    names = (header and header.business_message_id, original and original.message_id)
    return next((name for name in names if name and len(name) <= _REFERENCE_MAX), transaction.id.hex)
