"""Which payments of a transaction are meant: by their place in the message, or by names that their sender has. Pure.

Each item means exactly one payment. One that fits none, or several, is the caller's mistake, and nothing is done for
the others: whoever decides on money says precisely on which.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from interlock.errors import RequestError
from interlock.transaction import Payment

#: Payments that one decision can name.
SELECTED_MAX: Final = 1000
#: How many that fit are listed where there should be one.
_LISTED_MAX: Final = 5


class Selector(Struct, frozen=True, kw_only=True):
    """One payment; all that is given must be its own."""

    #: Place in the message, from 1.
    ordinal: int | None = None
    uetr: str | None = None
    end_to_end_id: str | None = None
    #: TxId.
    transaction_reference: str | None = None
    instruction_id: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Names of what is given."""
        return tuple(name for name in self.__struct_fields__ if getattr(self, name) is not None)


def chosen(payments: Sequence[Payment], selectors: Sequence[Selector]) -> tuple[Payment, ...]:
    """The payments that are meant, each once, in the order of the message. Raises RequestError; echoes no value."""
    if not 0 < len(selectors) <= SELECTED_MAX:
        raise RequestError(f"payments: name 1 to {SELECTED_MAX:,} of them, or leave it out to decide on all")
    # A long list over a long message is gone through once each.
    known: dict[tuple[str, object], list[Payment]] = {}
    for payment in payments:
        for name, value in _names(payment).items():
            if value is not None:
                known.setdefault((name, value), []).append(payment)
    found = {payment.ordinal: payment for payment in (_one(known, *each) for each in enumerate(selectors))}
    return tuple(payment for _, payment in sorted(found.items()))


def _one(known: dict[tuple[str, object], list[Payment]], place: int, selector: Selector) -> Payment:
    given = selector.given
    if not given:
        raise RequestError(f"payments[{place}] names nothing: give an ordinal, or a name that the payment has")
    wanted = {name: _value(name, getattr(selector, name)) for name in given}
    fitting = [
        payment
        for payment in known.get((given[0], wanted[given[0]]), ())
        if all(_names(payment)[name] == value for name, value in wanted.items())
    ]
    said = " and ".join(given)
    if not fitting:
        raise RequestError(f"payments[{place}]: no payment of this transaction has this {said}; nothing was decided")
    if len(fitting) > 1:
        listed = ", ".join(str(payment.ordinal) for payment in fitting[:_LISTED_MAX])
        more = f" and {len(fitting) - _LISTED_MAX:,} more" if len(fitting) > _LISTED_MAX else ""
        raise RequestError(
            f"payments[{place}]: {len(fitting):,} payments have this {said} (payments {listed}{more}); "
            "give the ordinal of the one that is meant; nothing was decided"
        )
    return fitting[0]


def _names(payment: Payment) -> dict[str, object]:
    return {
        "ordinal": payment.ordinal,
        "uetr": _value("uetr", payment.uetr),
        "end_to_end_id": payment.end_to_end_id,
        "transaction_reference": payment.transaction_id,
        "instruction_id": payment.instruction_id,
    }


def _value(name: str, value: object) -> object:
    """A UETR is the same in capitals; all else is taken letter by letter."""
    return value.lower() if name == "uetr" and isinstance(value, str) else value
