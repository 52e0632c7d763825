"""Amounts and currencies. Pure; currencies that were withdrawn are data, `data/currencies.toml`."""

import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from iso4217 import Currency
from lxml import etree

from interlock.iso20022.original import OriginalPayment, to_decimal
from interlock.iso20022.rules.dates import day_of
from interlock.iso20022.rules.rule import ElementCheck, PaymentCheck
from interlock.iso20022.rules.xml import child, has, local_name, text_of


class _Money(NamedTuple):
    """A currency: its minor unit, None where it has none, and its last day where it has had one."""

    decimals: int | None
    last_day: date | None


def _load_table() -> dict[str, Any]:
    return tomllib.loads(resources.files("interlock.iso20022").joinpath("data/currencies.toml").read_text("utf-8"))


def _load_currencies(table: dict[str, Any]) -> Mapping[str, _Money]:
    """Currencies in use and withdrawn; what is withdrawn is said by our table, whatever the package still lists."""
    known = {currency.code: _Money(currency.exponent, None) for currency in Currency}
    known |= {code: _Money(past["decimals"], past["last_day"]) for code, past in table["withdrawn"].items()}
    for code in table["not_for_payments"]:
        known.pop(code, None)
    return MappingProxyType(known)


_TABLE: Final = _load_table()
_CURRENCIES: Final = _load_currencies(_TABLE)
_COMMODITIES: Final = frozenset(_TABLE["commodities"])


def amount_element(payment: OriginalPayment) -> str:
    """Path to the element that holds the amount, told from the path of the payment."""
    path = payment.xpath
    if "/PmtInf[" in path:
        if "/DrctDbtTxInf" in path:
            return "InstdAmt"
        return "Amt/EqvtAmt/Amt" if payment.amount_is_equivalent else "Amt/InstdAmt"
    if "/CstmrPmtRvsl/" in path:
        return "RvsdInstdAmt"
    if "/TxInf[" in path:
        return "RvsdIntrBkSttlmAmt" if "/FIToFIPmtRvsl/" in path else "RtrdIntrBkSttlmAmt"
    return "IntrBkSttlmAmt"


def _amount_number(payment: OriginalPayment, _today: date) -> str | None:
    number = number_of(payment.amount)
    return amount_element(payment) if number is None or number < 0 else None


def _amount_zero(payment: OriginalPayment, _today: date) -> str | None:
    return amount_element(payment) if number_of(payment.amount) == 0 else None


def _amount_decimals(payment: OriginalPayment, _today: date) -> str | None:
    """Digits that carry value: 10.00 is a good amount of yen, if a strange one."""
    money = _CURRENCIES.get(payment.currency or "")
    amount = payment.amount
    if money is None or money.decimals is None or amount is None or number_of(amount) is None:
        return None
    return amount_element(payment) if len(amount.partition(".")[2].rstrip("0")) > money.decimals else None


def _currency_known(payment: OriginalPayment, _today: date) -> str | None:
    return None if payment.currency in _CURRENCIES else f"{amount_element(payment)}/@Ccy"


def _currency_withdrawn(payment: OriginalPayment, today: date) -> str | None:
    money = _CURRENCIES.get(payment.currency or "")
    if money is None or money.last_day is None:
        return None
    return f"{amount_element(payment)}/@Ccy" if (day_of(payment.settlement_date) or today) > money.last_day else None


@lru_cache(maxsize=4096)
def number_of(text: str | None) -> Decimal | None:
    """The exact number of an amount as written; None where it is none."""
    return to_decimal(text)


def _commodity(payment: OriginalPayment, _today: date) -> str | None:
    return f"{amount_element(payment)}/@Ccy" if payment.currency in _COMMODITIES else None


def _amount_currency(element: etree._Element, _today: date) -> str | None:
    currency = element.get("Ccy")
    return None if currency is None or currency in _CURRENCIES else "@Ccy"


def _amount_decimals_of(element: etree._Element, _today: date) -> str | None:
    """Nearly every amount is in whole minor units of two digits, which is seen without counting."""
    text, currency = element.text, element.get("Ccy")
    if text is None or currency is None:
        return None
    digits = len(text.strip().partition(".")[2].rstrip("0"))
    money = _CURRENCIES.get(currency)
    if money is None or money.decimals is None or digits <= money.decimals:
        return None
    above = element.getparent()
    # The price of one unit has thirteen decimals in the schemas, for it is nothing that is paid.
    return None if above is not None and local_name(above) == "Val" else ""


#: What comes back, and what was paid.
_UNDONE: Final = (
    ("RtrdIntrBkSttlmAmt", "OrgnlIntrBkSttlmAmt"),
    ("RvsdIntrBkSttlmAmt", "OrgnlIntrBkSttlmAmt"),
    ("RvsdInstdAmt", "OrgnlInstdAmt"),
)


def _amount_undone(element: etree._Element, _today: date) -> str | None:
    """More than was paid comes back; that is right only where it says that it compensates for something."""
    for name, paid in _UNDONE:
        back, whole = child(element, name), child(element, paid)
        if back is None or whole is None or back.get("Ccy") != whole.get("Ccy"):
            continue
        number, limit = number_of(text_of(back)), number_of(text_of(whole))
        if number is not None and limit is not None and number > limit and not has(element, "CompstnAmt"):
            return name
    return None


def _currency_code(element: etree._Element, _today: date) -> str | None:
    return None if text_of(element) in _CURRENCIES else ""


PAYMENT_CHECKS: Final[dict[str, PaymentCheck]] = {
    "amount.number": _amount_number,
    "amount.zero": _amount_zero,
    "amount.decimals": _amount_decimals,
    "currency.known": _currency_known,
    "currency.withdrawn": _currency_withdrawn,
    "currency.commodity": _commodity,
}
ELEMENT_CHECKS: Final[dict[str, ElementCheck]] = {
    "amount.decimals_elsewhere": _amount_decimals_of,
    "currency.known_elsewhere": _amount_currency,
    "currency.code": _currency_code,
    "amount.undone": _amount_undone,
}
