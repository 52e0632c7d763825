"""Counts and sums: what a message says of itself. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Final

from interlock.iso20022.original import Level, Original, OriginalPayment, to_decimal
from interlock.iso20022.rules.amounts import amount_element, number_of
from interlock.iso20022.rules.rule import MessageCheck, Place, in_group_header


def _group_count(original: Original, _today: date) -> Iterable[Place]:
    said, counted = original.number_of_transactions, len(original.payments)
    if said is None or not counted or _is_count(said, counted):
        return ()
    return (in_group_header(original, "NbOfTxs"),)


def _is_count(said: str, counted: int) -> bool:
    return len(said) <= 15 and said.isascii() and said.isdigit() and int(said) == counted


def _group_sum(original: Original, _today: date) -> Iterable[Place]:
    """CtrlSum adds the amounts whatever their currencies."""
    if original.control_sum is None or not original.payments:
        return ()
    if _is_sum(original.control_sum, original.payments):
        return ()
    return (in_group_header(original, "CtrlSum"),)


def _is_sum(said: str, payments: Iterable[OriginalPayment]) -> bool:
    """Whether the amounts add up; where one cannot be read, or is an equivalent, there is nothing to compare."""
    total = _total(payments)
    return total is None or to_decimal(said) == total


def _total(payments: Iterable[OriginalPayment]) -> Decimal | None:
    total = Decimal(0)
    for payment in payments:
        number = number_of(payment.amount)
        if number is None or payment.amount_is_equivalent:
            return None
        total += number
    return total


def _settlement_total(original: Original, _today: date) -> Iterable[Place]:
    if original.total_amount is None or not original.payments or _is_sum(original.total_amount, original.payments):
        return ()
    return (in_group_header(original, "TtlIntrBkSttlmAmt"),)


def _settlement_currency(original: Original, _today: date) -> Iterable[Place]:
    total = original.total_currency
    if total is None:
        return ()
    return [
        Place(f"{payment.xpath}/{amount_element(payment)}/@Ccy", payment.line, payment.ordinal)
        for payment in original.payments
        if payment.currency != total
    ]


def _block_count(original: Original, _today: date) -> Iterable[Place]:
    if not original.groups:
        return ()
    return _broken_blocks(
        original,
        "NbOfTxs",
        lambda index, payments: _said_count(original.groups[index].number_of_transactions, payments),
    )


def _said_count(said: str | None, payments: list[OriginalPayment]) -> bool:
    return said is None or _is_count(said, len(payments))


def _block_sum(original: Original, _today: date) -> Iterable[Place]:
    if not original.groups:
        return ()
    return _broken_blocks(
        original, "CtrlSum", lambda index, payments: _said_sum(original.groups[index].control_sum, payments)
    )


def _said_sum(said: str | None, payments: list[OriginalPayment]) -> bool:
    return said is None or _is_sum(said, payments)


def _broken_blocks(
    original: Original, element: str, is_good: Callable[[int, list[OriginalPayment]], bool]
) -> Iterator[Place]:
    """A block that is wrong is wrong for each of its payments, and for no other."""
    blocks: dict[int, list[OriginalPayment]] = defaultdict(list)
    for payment in original.payments:
        if payment.group is not None:
            blocks[payment.group].append(payment)
    for index, payments in blocks.items():
        if not is_good(index, payments):
            group = original.groups[index]
            for payment in payments:
                yield Place(f"{group.xpath}/{element}", group.line, payment.ordinal)


def _nothing_to_pay(original: Original, _today: date) -> Iterable[Place]:
    return () if original.payments else (Place(original.xpath, original.line),)


def _nothing_to_cancel(original: Original, _today: date) -> Iterable[Place]:
    return () if original.references else (Place(original.xpath, original.line),)


def _request_count(original: Original, _today: date) -> Iterable[Place]:
    said = original.number_of_transactions
    if said is None or not _names_payments(original) or _is_count(said, len(original.references)):
        return ()
    return (Place(f"{original.xpath}/CtrlData/NbOfTxs", original.line),)


def _request_sum(original: Original, _today: date) -> Iterable[Place]:
    amounts = [number_of(reference.amount) for reference in original.references]
    if original.control_sum is None or not _names_payments(original) or None in amounts:
        return ()
    if to_decimal(original.control_sum) == sum(filter(None, amounts), Decimal(0)):
        return ()
    return (Place(f"{original.xpath}/CtrlData/CtrlSum", original.line),)


def _names_payments(original: Original) -> bool:
    """Whether a request names each payment by itself: how many there are in a whole message it cannot be held to."""
    named = original.references
    return bool(named) and not original.references_cut and all(one.level is Level.PAYMENT for one in named)


MESSAGE_CHECKS: Final[dict[str, MessageCheck]] = {
    "count.none": _nothing_to_pay,
    "count.nothing_asked": _nothing_to_cancel,
    "count.request": _request_count,
    "count.message": _group_count,
    "count.block": _block_count,
    "sum.request": _request_sum,
    "sum.message": _group_sum,
    "sum.block": _block_sum,
    "sum.settlement": _settlement_total,
    "currency.settlement": _settlement_currency,
}
