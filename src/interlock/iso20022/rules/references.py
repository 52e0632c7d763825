"""References: their form, and that each is used once in a message. Pure."""

import re
from collections.abc import Callable, Iterable
from datetime import date
from typing import Final

from lxml import etree

from interlock.iso20022.original import Original, OriginalPayment
from interlock.iso20022.rules.rule import ElementCheck, MessageCheck, PaymentCheck, Place
from interlock.iso20022.rules.xml import text_of

_UETR: Final = re.compile(r"[a-f0-9]{8}-[a-f0-9]{4}-4[a-f0-9]{3}-[89ab][a-f0-9]{3}-[a-f0-9]{12}\Z")


def _uetr_form(payment: OriginalPayment, _today: date) -> str | None:
    uetr = payment.uetr
    return None if uetr is None or _UETR.match(uetr) else _reference_element(payment, "UETR")


def _reference_element(payment: OriginalPayment, name: str) -> str:
    return f"Orgnl{name}" if "/TxInf[" in payment.xpath else f"PmtId/{name}"


def _repeated_uetr(original: Original, _today: date) -> Iterable[Place]:
    return _repeated(original, "UETR", [payment.uetr for payment in original.payments])


def _repeated_transaction_id(original: Original, _today: date) -> Iterable[Place]:
    return _repeated(original, "TxId", [payment.transaction_id for payment in original.payments])


def _repeated(original: Original, name: str, values: list[str | None]) -> Iterable[Place]:
    return _later_ones(original, lambda payment: _reference_element(payment, name), values)


def _later_ones(
    original: Original, element: Callable[[OriginalPayment], str], values: list[str | None]
) -> Iterable[Place]:
    """The later ones of payments with the same reference; the first is as good as any."""
    if len(values) < 2 or len(set(values)) == len(values):
        return ()
    seen: set[str] = set()
    places = []
    for payment, value in zip(original.payments, values, strict=True):
        if value is not None and value in seen:
            places.append(Place(f"{payment.xpath}/{element(payment)}", payment.line, payment.ordinal))
        elif value is not None:
            seen.add(value)
    return places


def _repeated_own_id(original: Original, _today: date) -> Iterable[Place]:
    """RtrId and RvslId: of the return or reversal itself."""
    values = [payment.own_id for payment in original.payments]
    if len(values) < 2 or not any(values):
        return ()
    element = "RvslId" if "/FIToFIPmtRvsl/" in original.payments[0].xpath else "RtrId"
    return _later_ones(original, lambda _: element, values)


def _repeated_instruction_id(original: Original, _today: date) -> Iterable[Place]:
    return _repeated(original, "InstrId", [payment.instruction_id for payment in original.payments])


def _repeated_end_to_end_id(original: Original, _today: date) -> Iterable[Place]:
    ids = (payment.end_to_end_id for payment in original.payments)
    return _repeated(original, "EndToEndId", [None if one == _NOT_PROVIDED else one for one in ids])


#: What stands where the debtor gave no reference: ISO 20022 usage, and SEPA's.
_NOT_PROVIDED: Final = "NOTPROVIDED"


def _repeated_block_id(original: Original, _today: date) -> Iterable[Place]:
    """The payments of the later blocks; those of the first are as good as any."""
    if len(original.groups) < 2:
        return ()
    seen: set[str] = set()
    repeated = set()
    for index, group in enumerate(original.groups):
        name = group.payment_information_id
        if name is not None and name in seen:
            repeated.add(index)
        elif name is not None:
            seen.add(name)
    return [
        Place(f"{original.groups[payment.group].xpath}/PmtInfId", payment.line, payment.ordinal)
        for payment in (original.payments if repeated else ())
        if payment.group in repeated
    ]


def _uetr(element: etree._Element, _today: date) -> str | None:
    text = element.text
    return None if text is not None and _UETR.match(text.strip()) else ""


def _slashes(element: etree._Element, _today: date) -> str | None:
    text = text_of(element)
    return "" if text.startswith("/") or text.endswith("/") or "//" in text else None


PAYMENT_CHECKS: Final[dict[str, PaymentCheck]] = {"uetr.form": _uetr_form}
MESSAGE_CHECKS: Final[dict[str, MessageCheck]] = {
    "duplicate.uetr": _repeated_uetr,
    "duplicate.transaction": _repeated_transaction_id,
    "duplicate.own_id": _repeated_own_id,
    "duplicate.block": _repeated_block_id,
    "duplicate.instruction": _repeated_instruction_id,
    "duplicate.end_to_end": _repeated_end_to_end_id,
}
ELEMENT_CHECKS: Final[dict[str, ElementCheck]] = {"uetr.elsewhere": _uetr, "reference.slashes": _slashes}
