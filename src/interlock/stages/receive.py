"""Receive: whether this is a message that we can treat at all, and whether it is new.

The order of the questions is the field's (format before identity before business), so that a message with several
faults gets the same reason everywhere.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from interlock.iso20022 import answers
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Agent, Original, OriginalPayment
from interlock.iso20022.profiles.facts import DuplicateKey, Untreatable
from interlock.iso20022.reasons import reason_for
from interlock.stages.facts import Inspection
from interlock.stages.outcomes import Passed, Refusal
from interlock.transaction import QUALIFIER, Key, KeyKind

_MESSAGE_DUPLICATE = Refusal(reason=reason_for("duplicate_message"), note="the message identification was used before")
_HEADER_DUPLICATE = Refusal(
    reason=reason_for("duplicate_message"),
    note="the business message identifier was used before by this sender",
    untreatable=True,
)
DUPLICATE_REASON = reason_for("duplicate")
PAYMENT_DUPLICATE = "this payment was sent before: its identification belongs to another transaction"


def run(inspection: Inspection, taken: Mapping[Key, UUID]) -> Passed | Refusal:
    """Judge a message by what it is (`inspection`) and by which of its keys are another transaction's (`taken`)."""
    warnings = tuple(finding for finding in inspection.technical if finding.severity is Severity.WARNING)
    untaken = _untaken(inspection, warnings)
    if untaken is not None:
        return untaken
    kinds = {key.kind for key in taken}
    # First the envelope: a status report on what comes again in the same one would speak of the payments in the first.
    if KeyKind.HEADER in kinds:
        return replace(_HEADER_DUPLICATE, findings=warnings)
    if KeyKind.MESSAGE in kinds:
        untreatable = Untreatable.MESSAGE in inspection.practice.untreatable
        return replace(_MESSAGE_DUPLICATE, findings=warnings, untreatable=untreatable)
    reason, note = inspection.practice.duplicate_reason or DUPLICATE_REASON, PAYMENT_DUPLICATE
    refused = {key.payment: Refusal(reason=reason, note=note) for key in taken if key.payment}
    if refused and inspection.original is not None and len(refused) == len(inspection.original.payments):
        return Refusal(reason=reason, note=note, findings=warnings)
    return Passed(refused=refused, warnings=warnings)


def _untaken(inspection: Inspection, warnings: tuple[Finding, ...]) -> Refusal | None:
    """Why it is nothing that is dealt with here, where it is none."""
    if inspection.valid is None and answers.is_understood(inspection.definition or ""):
        # Nothing is done about it in any version: that a schema is missing here would help nobody.
        return _not_served(inspection, inspection.technical)
    if (format_fault := _first_error(inspection.technical)) is not None:
        refusal = _refusal(format_fault, inspection.technical)
        return replace(refusal, untreatable=Untreatable.SCHEMA in inspection.practice.untreatable)
    return None if _is_served(inspection) else _not_served(inspection, warnings)


def _is_served(inspection: Inspection) -> bool:
    """Whether something is done about it: paid, answered from the ledger, acknowledged, or taken note of."""
    if inspection.answer is not None or inspection.enquiry is not None or inspection.is_answer:
        return True
    return inspection.definition is not None and answers.receipt_definition(inspection.definition) is not None


def _first_error(findings: Sequence[Finding]) -> Finding | None:
    return next((finding for finding in findings if finding.severity is Severity.ERROR), None)


def _refusal(finding: Finding, findings: tuple[Finding, ...]) -> Refusal:
    where = f" at {finding.xpath}" if finding.xpath not in ("", "/") else ""
    line = "" if finding.line is None else f", line {finding.line}"
    return Refusal(reason=finding.reason, note=f"{finding.rule}{where}{line}: {finding.text}", findings=findings)


def _not_served(inspection: Inspection, warnings: tuple[Finding, ...]) -> Refusal:
    finding = Finding(
        severity=Severity.ERROR,
        rule="definition.not_served",
        reason="FF01",
        xpath="/",
        line=None,
        text=answers.not_served(inspection.definition or "the message"),
    )
    return Refusal(reason=finding.reason, note=finding.text, findings=(finding, *warnings))


# -- under which names a message and its payments are known -----------------------------------------------------------

#: What makes doubles where no profile says otherwise.
USUAL_KEYS = frozenset({DuplicateKey.MESSAGE, DuplicateKey.HEADER, DuplicateKey.UETR, DuplicateKey.TRANSACTION})


def message_keys(original: Original, wanted: Collection[DuplicateKey] | None = None) -> tuple[Key, ...]:
    """The keys of the whole message: MsgId, and BizMsgIdr with its sender where there is a header.

    wanted: those that the profile has; None: the usual ones. The others only find, see `message_names`.
    """
    kept = _kept(original, wanted)
    return tuple(key for kind, key in _of_message(original) if kind in kept)


def _kept(original: Original, wanted: Collection[DuplicateKey] | None) -> Collection[DuplicateKey]:
    kept = USUAL_KEYS if wanted is None else wanted
    # A request to cancel that comes again is told the same again, not that it is a double.
    return frozenset(kept) - {DuplicateKey.MESSAGE} if is_repeatable(original.definition) else kept


def is_repeatable(definition: str) -> bool:
    """True for requests that are judged again when they come again: those to cancel."""
    return definition.startswith(("camt.055", "camt.056"))


def message_names(original: Original, wanted: Collection[DuplicateKey] | None = None) -> tuple[Key, ...]:
    """Names that find a message but, by its profile or kind, refuse no other; of a request to cancel also its cases."""
    kept = _kept(original, wanted)
    names = tuple(key for kind, key in _of_message(original) if kind not in kept)
    if not is_repeatable(original.definition):
        return names
    cases = dict.fromkeys(one.case_id for one in original.references if one.case_id)
    return (*names, *(Key(kind=KeyKind.CASE, value=case) for case in cases))


def _of_message(original: Original) -> list[tuple[DuplicateKey, Key]]:
    keys = []
    if original.message_id:
        keys.append((DuplicateKey.MESSAGE, Key(kind=KeyKind.MESSAGE, value=original.message_id)))
    header = original.header
    if header is not None and header.business_message_id:
        value = f"{header.business_message_id}{QUALIFIER}{_named(header.sender)}"
        keys.append((DuplicateKey.HEADER, Key(kind=KeyKind.HEADER, value=value)))
    return keys


def payment_keys(
    original: Original, payment: OriginalPayment, wanted: Collection[DuplicateKey] | None = None
) -> tuple[Key, ...]:
    """The keys that make a payment unique: its UETR, and its TxId with the instructing agent.

    Both, so that a payment which is sent again without its UETR, or with another, is still a duplicate. They are
    qualified by the business function: a cover pacs.009 carries the UETR of its pacs.008 by rule. A return or reversal
    is known by its own id, for one payment may be returned in several parts; the original's ids only find it. But what
    gives back the whole is known by the original's ids too: that is done once.

    wanted: those that the profile has, maybe by InstrId or EndToEndId as well; None: the usual ones.
    """
    if payment.own_id:
        return (_transaction_key(original, payment, payment.own_id), *_whole_keys(original, payment))
    carried = _carried_keys(original, payment)
    if wanted is None:
        return carried
    kept = tuple(key for key in carried if _DUPLICATE_KEYS[key.kind] in wanted)
    return kept + tuple(_further_keys(original, payment, wanted))


def _whole_keys(original: Original, payment: OriginalPayment) -> Iterator[Key]:
    """By what the whole return or reversal of a payment is known, whoever gives it back."""
    names = (payment.uetr, payment.transaction_id if payment.transaction_id != payment.own_id else None)
    for name in names if payment.undoes_all else ():
        if name:
            value = f"{name}{QUALIFIER}whole{QUALIFIER}{original.definition[:8]}"
            yield Key(kind=KeyKind.TRANSACTION, value=value, payment=payment.ordinal)


def finding_keys(
    original: Original, payment: OriginalPayment, wanted: Collection[DuplicateKey] | None = None
) -> tuple[Key, ...]:
    """Names that find a payment but refuse no other: EndToEndId, and what a return says of its original.

    Also the usual keys that the profile does not have.
    """
    names: tuple[Key, ...] = ()
    if payment.own_id:
        names = _carried_keys(original, payment)
    elif wanted is not None:
        names = tuple(key for key in _carried_keys(original, payment) if _DUPLICATE_KEYS[key.kind] not in wanted)
    if payment.end_to_end_id and payment.end_to_end_id != _NOT_PROVIDED:
        names += (Key(kind=KeyKind.END_TO_END, value=payment.end_to_end_id, payment=payment.ordinal),)
    return names


_DUPLICATE_KEYS = {KeyKind.UETR: DuplicateKey.UETR, KeyKind.TRANSACTION: DuplicateKey.TRANSACTION}
#: What stands where a debtor gave no EndToEndId.
_NOT_PROVIDED = "NOTPROVIDED"


def _further_keys(original: Original, payment: OriginalPayment, wanted: Collection[DuplicateKey]) -> Iterator[Key]:
    """Keys that only some profiles have. They are kept among the transaction ids, and cannot be taken for one."""
    if DuplicateKey.INSTRUCTION in wanted and payment.instruction_id:
        yield _transaction_key(original, payment, f"{payment.instruction_id}{QUALIFIER}InstrId")
    if DuplicateKey.END_TO_END in wanted and payment.end_to_end_id not in (None, _NOT_PROVIDED):
        facts = (
            payment.end_to_end_id,
            "EndToEndId",
            _named(payment.debtor_agent),
            _named(payment.creditor_agent),
            payment.amount,
            payment.currency,
            payment.settlement_date,
        )
        yield _transaction_key(original, payment, QUALIFIER.join(fact or "-" for fact in facts))


def _carried_keys(original: Original, payment: OriginalPayment) -> tuple[Key, ...]:
    keys: tuple[Key, ...] = ()
    if payment.uetr:
        value = f"{payment.uetr}{QUALIFIER}{original.definition[:8]}"
        keys += (Key(kind=KeyKind.UETR, value=value, payment=payment.ordinal),)
    if payment.transaction_id:
        keys += (_transaction_key(original, payment, payment.transaction_id),)
    return keys


def _transaction_key(original: Original, payment: OriginalPayment, identification: str) -> Key:
    agent = _named(payment.instructing_agent or original.instructing_agent or payment.debtor_agent)
    value = f"{identification}{QUALIFIER}{agent}{QUALIFIER}{original.definition[:8]}"
    return Key(kind=KeyKind.TRANSACTION, value=value, payment=payment.ordinal)


_BIC8: Final = 8


def _named(agent: Agent | None) -> str:
    if agent is None:
        return "-"
    if agent.bic and len(agent.bic) == _BIC8:
        return f"{agent.bic}XXX"  # the bank itself, as the one with XXX is
    return agent.bic or agent.clearing_member or agent.lei or agent.other or "-"
