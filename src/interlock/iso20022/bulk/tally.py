"""What all payments of a message come to, added up as they pass: enough to know most rules kept without a second look.

A rule on the whole message is judged by the rule itself, over payments read back from disk. That is slow, and mostly
there is nothing to find: so whatever is added up here can prove a rule kept, and only that. It never finds a fault.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Final

from interlock.iso20022.original import Original, OriginalPayment, PaymentGroup, to_decimal

_CURRENCIES_MAX: Final = 500
#: Rules that a value may stand only once in a message, and the field that has it.
_DISTINCT: Final[Mapping[str, str]] = {
    "duplicate.uetr": "uetr",
    "duplicate.transaction": "transaction_id",
    "duplicate.own_id": "own_id",
    "duplicate.instruction": "instruction_id",
    "duplicate.end_to_end": "end_to_end_id",
}


class _Values:
    """Whether values repeat, from eight bytes of each; different values may look alike, equal ones never differ."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, value: str | None) -> None:
        if value is not None:
            self._hashes.append(hash(value))

    def are_distinct(self) -> bool:
        hashes = sorted(self._hashes)
        return all(one != other for one, other in pairwise(hashes))


class _Sum:
    """An exact sum; None where an amount cannot be added."""

    def __init__(self) -> None:
        self.total: Decimal | None = Decimal(0)

    def add(self, payment: OriginalPayment) -> None:
        if self.total is not None:
            number = None if payment.amount_is_equivalent else to_decimal(payment.amount)
            self.total = None if number is None else self.total + number

    def proves(self, said: str | None) -> bool:
        return said is None or self.total is None or to_decimal(said) == self.total


class Tally:
    """Counts, sums and repetitions over a whole message."""

    def __init__(self) -> None:
        self.payments = 0
        self._sum = _Sum()
        self._currencies: set[str | None] = set()
        self._values = {name: _Values() for name in _DISTINCT.values()}
        self._group: PaymentGroup | None = None
        self._group_index = -1
        self._group_count = 0
        self._group_sum = _Sum()
        self._counts_agree = True
        self._sums_agree = True

    def add(self, groups: Iterable[PaymentGroup], payments: Iterable[OriginalPayment]) -> None:
        """Count payments, with the blocks that begin among them."""
        beginning = iter(groups)
        for payment in payments:
            while payment.group is not None and payment.group != self._group_index:
                self._close_group()
                self._group = next(beginning, None)
                self._group_index += 1
            self.payments += 1
            self._group_count += 1
            self._sum.add(payment)
            if self._group is not None:
                self._group_sum.add(payment)
            if len(self._currencies) < _CURRENCIES_MAX:
                self._currencies.add(payment.currency)
            for name, values in self._values.items():
                values.add(getattr(payment, name))
        for group in beginning:  # a block whose payments are all still to come, or that has none
            self._close_group()
            self._group = group
            self._group_index += 1

    def proves(self, rule: str, original: Original) -> bool:
        """Whether the message, whose own fields `original` holds, certainly keeps a rule."""
        if rule in _DISTINCT:
            return self._values[_DISTINCT[rule]].are_distinct()
        proof = _PROOFS.get(rule)
        return proof is not None and proof(self, original)

    def _close_group(self) -> None:
        group = self._group
        if group is not None:
            said = group.number_of_transactions
            self._counts_agree &= said is None or said == str(self._group_count)
            self._sums_agree &= self._group_sum.proves(group.control_sum)
        self._group_count = 0
        self._group_sum = _Sum()

    def _blocks_agree(self) -> tuple[bool, bool]:
        self._close_group()
        self._group = None
        return self._counts_agree, self._sums_agree

    def _are_all_in(self, currency: str | None) -> bool:
        return currency is None or self._currencies == {currency}


_PROOFS: Final[Mapping[str, Callable[[Tally, Original], bool]]] = {
    "sum.message": lambda tally, original: tally._sum.proves(original.control_sum),  # noqa: SLF001 - its own table
    "sum.settlement": lambda tally, original: tally._sum.proves(original.total_amount),  # noqa: SLF001
    "currency.settlement": lambda tally, original: tally._are_all_in(original.total_currency),  # noqa: SLF001
    "count.block": lambda tally, _: tally._blocks_agree()[0],  # noqa: SLF001
    "sum.block": lambda tally, _: tally._blocks_agree()[1],  # noqa: SLF001
}
