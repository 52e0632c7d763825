"""Holds what came against what was expected: statuses, references, amounts and reasons."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from interlock.demo.desk import Call
from interlock.demo.messages import Message, Transfer
from interlock.demo.reading import AnswerFacts, PaymentFacts
from interlock.demo.scenario import Case, Expected

#: BICs in the header of the templates; an answer has them the other way round.
_SENDER, _RECEIVER = "EXMPDEFFXXX", "EXMPFRPPXXX"


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What came of a case."""

    call: Call
    #: As v1 shows it; None where no transaction came of it.
    transaction: dict[str, Any] | None = None
    answer: AnswerFacts | None = None
    #: Read twice, the answer was the same to the byte.
    repeatable: bool = True


def expected_in_short(expected: Expected) -> str:
    """A cell of the table."""
    if expected.status is None:
        return f"{expected.http} {expected.error}"
    words = [expected.status, expected.reason, expected.code, expected.answer or "no answer", _part(expected.group)]
    return " ".join(word for word in words if word)


def got_in_short(got: Got) -> str:
    """The cell beside it."""
    if got.transaction is None:
        return f"{got.call.http} {got.call.error or ''}".strip()
    reason = (got.transaction.get("reason") or {}).get("code")
    answer = got.answer
    words = [
        got.transaction.get("status"),
        reason,
        got.transaction.get("transaction_code"),
        "no answer" if answer is None else answer.definition,
        None if answer is None else _part(answer.group),
    ]
    return " ".join(word for word in words if word)


def _part(group: str | None) -> str | None:
    return group if group == "PART" else None


def differences(case: Case, got: Got) -> list[str]:
    """Whatever is not as expected, a sentence each."""
    expected = case.expected
    found = list(_compare(("HTTP status", expected.http, got.call.http), ("error", expected.error, got.call.error)))
    if expected.status is None:
        return found
    if got.transaction is None:
        return [*found, "no transaction came of it"]
    found += _against_transaction(case, got.transaction)
    if expected.answer is None or got.answer is None:
        return [*found, *_compare(("answer", expected.answer, got.answer and got.answer.definition))]
    found += _against_answer(case, got.answer)
    if not got.repeatable:
        found.append("the answer is another one when it is read again")
    return found


def _against_transaction(case: Case, shown: dict[str, Any]) -> Iterator[str]:
    expected = case.expected
    yield from _compare(
        ("status", expected.status, shown.get("status")),
        ("reason", expected.reason, (shown.get("reason") or {}).get("code")),
        ("transaction code", expected.code, shown.get("transaction_code")),
        ("attempt", expected.attempt, shown.get("attempt")),
        ("message id", case.message.message_id, shown.get("message_id")),
        ("definition", case.message.definition, _known(case.message, shown.get("definition"))),
    )


def _known(message: Message, shown: Any) -> Any:
    """What is said of messages that name nothing is not held against anything."""
    return None if message.definition is None else shown


def _against_answer(case: Case, answer: AnswerFacts) -> Iterator[str]:
    expected, message = case.expected, case.message
    yield from _compare(("answer", expected.answer, answer.definition))
    if message.definition is None:
        yield from _compare(("reason in the answer", expected.reason, answer.reason))
        return
    yield from _compare(
        ("original message id", message.message_id, answer.message_id),
        ("original message name", message.definition, answer.message_name),
        ("group status", expected.group, answer.group),
        ("group reason", expected.reason, answer.reason),
        ("number of payments", len(message.transfers), len(answer.payments)),
    )
    yield from _against_header(case, answer)
    for ordinal, (transfer, payment) in enumerate(zip(message.transfers, answer.payments, strict=False), start=1):
        whole = ("RJCT", expected.reason) if expected.status in ("RJCT", "CANC") else (expected.status, None)
        yield from _against_payment(ordinal, transfer, payment, expected.payments.get(ordinal, whole))


def _against_header(case: Case, answer: AnswerFacts) -> Iterator[str]:
    message, has = case.message, case.message.has_header
    yield from _compare(
        ("header's message", case.expected.answer if has else None, answer.header_definition),
        ("header's related message", message.message_id if has else None, answer.related_id),
        ("header's sender", _RECEIVER if has else None, answer.header_from),
        ("header's receiver", _SENDER if has else None, answer.header_to),
    )


def _against_payment(
    ordinal: int, transfer: Transfer, payment: PaymentFacts, verdict: tuple[str | None, str | None]
) -> Iterator[str]:
    status, reason = verdict
    for difference in _compare(
        ("instruction id", transfer.instruction_id, payment.instruction_id),
        ("end-to-end id", transfer.end_to_end_id, payment.end_to_end_id),
        ("transaction id", transfer.transaction_id, payment.transaction_id),
        ("UETR", transfer.uetr, payment.uetr),
        ("amount", transfer.amount, payment.amount),
        ("currency", transfer.currency, payment.currency),
        ("status", status, payment.status),
        ("reason", reason, payment.reason),
    ):
        yield f"payment {ordinal}: {difference}"


def _compare(*rows: tuple[str, object, object]) -> Iterator[str]:
    """What is not the same, of names with an expected and a present value."""
    return (f"{name} is {got}, expected {wanted}" for name, wanted, got in rows if wanted != got)
