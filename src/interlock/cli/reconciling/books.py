"""What is added up over a period: by client and currency, each side from its own source alone.

Sums are exact, and their size does not go with the number of payments. Must not know: stores, messages.
"""

from collections import Counter
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact
from functools import lru_cache

from iso4217 import Currency

from interlock.iso20022.codes import Status

#: Sums are exact, or they fail.
_EXACT = Context(prec=200, traps=[Inexact])


@dataclass(slots=True)
class Sum:
    """So many payments, and their amounts together."""

    payments: int = 0
    amount: Decimal = Decimal(0)

    def add(self, amount: Decimal | None) -> None:
        """One more payment; one whose amount cannot be read counts with none."""
        self.payments += 1
        if amount is not None:
            self.amount = _EXACT.add(self.amount, amount)

    def __add__(self, other: "Sum") -> "Sum":
        """Both together."""
        return Sum(self.payments + other.payments, _EXACT.add(self.amount, other.amount))

    def __sub__(self, other: "Sum") -> "Sum":
        """What is missing from the other one; negative where that has more."""
        return Sum(self.payments - other.payments, _EXACT.subtract(self.amount, other.amount))

    def __bool__(self) -> bool:
        """False where there is nothing in it."""
        return bool(self.payments or self.amount)


@dataclass(slots=True)
class Account:
    """The payments of one client in one currency, from all sides."""

    #: Messages that hold such payments: sent by the client, and driven again from the store.
    messages: int = 0
    messages_again: int = 0
    #: In: what these messages say.
    sent: Sum = field(default_factory=Sum)
    again: Sum = field(default_factory=Sum)
    #: State: what the store says of payments whose transaction has ended, and of all others.
    settled: Sum = field(default_factory=Sum)
    rejected: Sum = field(default_factory=Sum)
    cancelled: Sum = field(default_factory=Sum)
    in_flight: Sum = field(default_factory=Sum)
    #: Out: what the answers say.
    told_settled: Sum = field(default_factory=Sum)
    told_rejected: Sum = field(default_factory=Sum)
    #: Those of them whose amount the answer does not repeat, so that the store's was taken.
    unquoted: Sum = field(default_factory=Sum)

    @property
    def difference(self) -> Sum:
        """The widest gap between two sides: in and state, settled and told so, rejected or cancelled and told so."""
        ended = self.rejected + self.cancelled
        gaps = (
            self.sent + self.again - (self.settled + ended + self.in_flight),
            self.settled - self.told_settled,
            ended - self.told_rejected,
        )
        return Sum(max(abs(gap.payments) for gap in gaps), max(gap.amount.copy_abs() for gap in gaps))

    def include(self, other: "Account") -> None:
        """Add another account to this one, for a total."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Tally:
    """The transactions and messages of one client, whatever they hold."""

    transactions: int = 0
    #: Sent by the client, and driven again from the store.
    messages: int = 0
    messages_again: int = 0
    #: Those of them that could not be read.
    unreadable: int = 0
    #: Those of them that could be read and hold no payment: status reports, or invalid ones.
    without_payments: int = 0
    #: Ids that were issued, and for which no message has come.
    without_message: int = 0
    statuses: Counter[Status] = field(default_factory=Counter)
    #: By family: `pacs.002`.
    answers: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Books:
    """What is added up while the transactions are compared; its size goes with clients and currencies."""

    #: By client and currency; None where a payment names no currency.
    accounts: dict[tuple[str, str | None], Account] = field(default_factory=dict)
    #: By client.
    clients: dict[str, Tally] = field(default_factory=dict)
    transactions: int = 0
    differences: int = 0

    def account(self, client: str, currency: str | None) -> Account:
        """The account for a currency as it was written; whatever is none shares one."""
        known = currency if currency is not None and _is_currency(currency) else None
        return self.accounts.setdefault((client, known), Account())

    def totals(self) -> dict[str | None, Account]:
        """By currency, over all clients."""
        totals: dict[str | None, Account] = {}
        for (_, currency), account in self.accounts.items():
            totals.setdefault(currency, Account()).include(account)
        return totals


def _is_currency(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()


def money(amount: Decimal, currency: str | None, *, grouped: bool = False) -> str:
    """An amount with its currency's decimals, or with more where it has more: nothing is ever rounded."""
    exponent = amount.normalize(_EXACT).as_tuple().exponent
    assert isinstance(exponent, int)  # amounts are finite
    decimals = max(_decimals(currency), -exponent)
    return f"{amount:,.{decimals}f}" if grouped else f"{amount:.{decimals}f}"


@lru_cache(maxsize=1024)
def _decimals(currency: str | None) -> int:
    """The minor unit of a currency; 0 where it has none, or is not in use."""
    try:
        return Currency(currency).exponent or 0
    except ValueError:
        return 0


def written(amount: Decimal | None, currency: str | None) -> str:
    """An amount and its currency as a message has them; also where one of them is none."""
    known = currency if currency is not None and _is_currency(currency) else None
    number = "no readable amount" if amount is None else money(amount, known)
    return f"{number} {known or '(no currency)'}"
