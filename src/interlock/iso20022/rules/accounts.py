"""Accounts: IBANs, wherever they stand. Pure."""

import re
from datetime import date
from functools import lru_cache
from typing import Final

from lxml import etree
from schwifty import IBAN, registry
from schwifty.exceptions import InvalidCountryCode, SchwiftyException
from stdnum.iso7064 import mod_97_10

from interlock.iso20022.original import OriginalPayment
from interlock.iso20022.rules.rule import ElementCheck, PaymentCheck, ShapeCheck
from interlock.iso20022.rules.xml import child


def _debtor_iban(payment: OriginalPayment, _today: date) -> str | None:
    iban = payment.debtor_iban
    return None if iban is None or _is_iban(iban) else "DbtrAcct/Id/IBAN"


def _creditor_iban(payment: OriginalPayment, _today: date) -> str | None:
    iban = payment.creditor_iban
    return None if iban is None or _is_iban(iban) else "CdtrAcct/Id/IBAN"


@lru_cache(maxsize=16_384)
def _is_iban(text: str) -> bool:
    """Whether length, structure and check digits are those of an IBAN of its country.

    Of a country that is not in the registry of ISO 13616 the check digits alone are judged: some use IBANs without it.
    """
    form = _form(text[:2])
    if form is not None and form.fullmatch(text) and text[2:4] in _CHECK_DIGITS and _remainder(text) == 1:
        return True  # as nearly all; what follows says the same, and why the others are wrong, at six times the cost
    try:
        IBAN(text)
    except InvalidCountryCode:
        return len(text) <= 34 and text.isascii() and mod_97_10.is_valid(text[4:] + text[:4])
    except SchwiftyException:
        return False
    return text.isalnum()  # schwifty forgives spaces, ISO 20022 does not


@lru_cache(maxsize=1024)
def _form(country: str) -> re.Pattern[str] | None:
    """What an IBAN of the country looks like by the registry; None for a country that is not in it."""
    try:
        spec = registry.get_iban_spec(country)
    except InvalidCountryCode:
        return None
    bban = spec.regex.pattern.removeprefix("^").removesuffix("$")
    return re.compile(rf"(?=[A-Z0-9]{{{spec.iban_length}}}\Z)..[0-9]{{2}}(?:{bban})")


#: 00, 01 and 99 leave the same remainders as others, but are never computed.
_CHECK_DIGITS: Final = frozenset(f"{number:02}" for number in range(2, 99))
#: Letters count as numbers from 10.
_NUMBERS: Final = {ord("A") + place: str(place + 10) for place in range(26)}


def _remainder(text: str) -> int:
    """By ISO 7064, modulo 97-10: 1 where the check digits are right."""
    return int((text[4:] + text[:4]).translate(_NUMBERS)) % 97


def _iban(element: etree._Element, _today: date) -> str | None:
    text = element.text
    return None if text is not None and len(text) <= _IBAN_MAX and _is_iban(text.strip()) else ""


#: Longer ones are no IBANs, and must not fill the memory of verdicts.
_IBAN_MAX: Final = 64


def _iban_only(element: etree._Element, _today: date) -> str | None:
    return None if child(element, "Id", "IBAN") is not None else "Id"


def _debtor_account(names: tuple[str, ...]) -> str | None:
    return None if "DbtrAcct" in names else ""


def _creditor_account(names: tuple[str, ...]) -> str | None:
    return None if "CdtrAcct" in names else ""


PAYMENT_CHECKS: Final[dict[str, PaymentCheck]] = {"iban.debtor": _debtor_iban, "iban.creditor": _creditor_iban}
ELEMENT_CHECKS: Final[dict[str, ElementCheck]] = {"iban.form": _iban, "account.iban_only": _iban_only}
SHAPE_CHECKS: Final[dict[str, ShapeCheck]] = {
    "account.debtor": _debtor_account,
    "account.creditor": _creditor_account,
}
