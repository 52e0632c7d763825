"""Receive: whether this is a message that we can treat at all, and whether it is new.

The order of the questions is the field's (format before identity before business), so that a message with several
faults gets the same reason everywhere.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Agent, Original, OriginalPayment
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
_PAYMENT_DUPLICATE = (
    reason_for("duplicate"),
    "this payment was sent before: its identification belongs to another transaction",
)


def run(inspection: Inspection, taken: Mapping[Key, UUID]) -> Passed | Refusal:
    """Judge a message by what it is (`inspection`) and by which of its keys are another transaction's (`taken`)."""
    if (format_fault := _first_error(inspection.technical)) is not None:
        return _refusal(format_fault, inspection.technical)
    if inspection.answer is None and not inspection.is_answer:
        return _not_served(inspection)
    kinds = {key.kind for key in taken}
    if KeyKind.MESSAGE in kinds:
        return _MESSAGE_DUPLICATE
    if KeyKind.HEADER in kinds:
        return _HEADER_DUPLICATE
    reason, note = _PAYMENT_DUPLICATE
    refused = {key.payment: Refusal(reason=reason, note=note) for key in taken if key.payment}
    if refused and inspection.original is not None and len(refused) == len(inspection.original.payments):
        return Refusal(reason=reason, note=note)
    warnings = tuple(finding for finding in inspection.technical if finding.severity is Severity.WARNING)
    return Passed(refused=refused, warnings=warnings)


def _first_error(findings: Sequence[Finding]) -> Finding | None:
    return next((finding for finding in findings if finding.severity is Severity.ERROR), None)


def _refusal(finding: Finding, findings: tuple[Finding, ...]) -> Refusal:
    where = f" at {finding.xpath}" if finding.xpath not in ("", "/") else ""
    line = "" if finding.line is None else f", line {finding.line}"
    return Refusal(reason=finding.reason, note=f"{finding.rule}{where}{line}: {finding.text}", findings=findings)


def _not_served(inspection: Inspection) -> Refusal:
    finding = Finding(
        severity=Severity.ERROR,
        rule="definition.not_served",
        reason="FF01",
        xpath="/",
        line=None,
        text=f"{inspection.definition} is understood but not served here",
    )
    return Refusal(reason=finding.reason, note=finding.text, findings=(finding,))


# -- under which names a message and its payments are known -----------------------------------------------------------


def message_keys(original: Original) -> tuple[Key, ...]:
    """The keys of the whole message: MsgId, and BizMsgIdr with its sender where there is a header."""
    keys = []
    if original.message_id:
        keys.append(Key(kind=KeyKind.MESSAGE, value=original.message_id))
    header = original.header
    if header is not None and header.business_message_id:
        value = f"{header.business_message_id}{QUALIFIER}{_named(header.sender)}"
        keys.append(Key(kind=KeyKind.HEADER, value=value))
    return tuple(keys)


def payment_keys(original: Original, payment: OriginalPayment) -> tuple[Key, ...]:
    """The keys that make a payment unique: its UETR, and its TxId with the instructing agent.

    Both, so that a payment which is sent again without its UETR, or with another, is still a duplicate. They are
    qualified by the business function: a cover pacs.009 carries the UETR of its pacs.008 by rule. A return or reversal
    is known by its own id, for one payment may be returned in several parts; the original's ids only find it.
    """
    if payment.own_id:
        return (_transaction_key(original, payment, payment.own_id),)
    return _carried_keys(original, payment)


def finding_keys(original: Original, payment: OriginalPayment) -> tuple[Key, ...]:
    """Names that find a payment but refuse no other: EndToEndId, and what a return says of its original."""
    names = _carried_keys(original, payment) if payment.own_id else ()
    if payment.end_to_end_id and payment.end_to_end_id != "NOTPROVIDED":
        names += (Key(kind=KeyKind.END_TO_END, value=payment.end_to_end_id, payment=payment.ordinal),)
    return names


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


def _named(agent: Agent | None) -> str:
    if agent is None:
        return "-"
    return agent.bic or agent.clearing_member or agent.lei or agent.other or "-"
