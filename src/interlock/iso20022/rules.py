"""What schemas cannot say: checksums, sums, counts, dates, doubles, and whether header and document agree. Pure.

Owns: the rules; their weight, ISO reason, text, source and days of validity are data, `data/rules.toml`. Must not know:
what becomes of a message that breaks one (stages), market practice (profiles), schemas.

Two kinds of rule. One looks at a payment and names the element at fault; its findings carry the payment's ordinal, so
that a bad account in one payment rejects that payment only. The other looks at the whole message and gives places
anywhere in it. All are cheap for what is good: verdicts on values that repeat (accounts, institutions, dates) are
remembered, in bounded number.
"""

import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from iso4217 import Currency
from schwifty import BIC, IBAN
from schwifty.exceptions import InvalidCountryCode, SchwiftyException
from stdnum import lei
from stdnum.iso7064 import mod_97_10

from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Agent, Header, Original, OriginalPayment, to_decimal


class Place(NamedTuple):
    """Where a message breaks a rule."""

    xpath: str
    line: int | None
    #: Ordinal of the payment concerned; None for the whole message.
    payment: int | None = None


#: Gives the element at fault, as a path from the payment, or None; knows the day, for dates.
PaymentCheck: TypeAlias = Callable[[OriginalPayment, date], str | None]
#: Gives every place at fault.
MessageCheck: TypeAlias = Callable[[Original, date], Iterable[Place]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that is demanded of messages."""

    #: Stable id, dotted; clients may rely on it.
    id: str
    severity: Severity
    #: ISO ExternalStatusReason1Code of a rejection for it.
    reason: str
    #: What is expected and what to do; never a value from the message.
    text: str
    #: Who says so.
    source: str
    valid_from: date | None = None
    valid_until: date | None = None
    payment_check: PaymentCheck | None = None
    message_check: MessageCheck | None = None

    def is_valid_on(self, day: date) -> bool:
        """Whether the rule holds on a day; both bounds belong to it."""
        return (self.valid_from or day) <= day <= (self.valid_until or day)


def check(original: Original, *, today: date) -> tuple[Finding, ...]:
    """Every rule that the message breaks on a day, in the order of the table, then of the payments."""
    findings: list[Finding] = []
    for rule in _rules_on(today):
        if rule.message_check is not None:
            findings.extend(_finding(rule, place) for place in rule.message_check(original, today))
    checks = _payment_checks_on(today)
    for payment in original.payments:
        for payment_check, rule in checks:
            path = payment_check(payment, today)
            if path is not None:
                findings.append(_finding(rule, _in_payment(original, payment, path)))
    return tuple(findings)


# Days come in order, and few at a time: each keeps its selection.
@lru_cache(maxsize=4)
def _rules_on(day: date) -> tuple[Rule, ...]:
    return tuple(rule for rule in RULES.values() if rule.is_valid_on(day))


@lru_cache(maxsize=4)
def _payment_checks_on(day: date) -> tuple[tuple[PaymentCheck, Rule], ...]:
    return tuple((rule.payment_check, rule) for rule in _rules_on(day) if rule.payment_check is not None)


def _finding(rule: Rule, place: Place) -> Finding:
    return Finding(
        severity=rule.severity,
        rule=rule.id,
        reason=rule.reason,
        xpath=place.xpath,
        line=place.line,
        text=rule.text,
        payment=place.payment,
    )


#: Parties whose elements stand in the block around the payments, by family.
_IN_BLOCK: Final = {"pain.001": "Dbtr", "pain.013": "Dbtr", "pain.008": "Cdtr", "pacs.010": "Cdtr"}


def _in_payment(original: Original, payment: OriginalPayment, path: str) -> Place:
    above = payment.xpath
    outside = _IN_BLOCK.get(original.definition[:8])
    if outside is not None and path.startswith(outside):
        above = above.rpartition("/")[0]
    return Place(f"{above}/{path}", payment.line, payment.ordinal)


# ---------------------------------------------------------------------------------------------------------------------
# Accounts and institutions
# ---------------------------------------------------------------------------------------------------------------------


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
    try:
        IBAN(text)
    except InvalidCountryCode:
        return len(text) <= 34 and text.isascii() and mod_97_10.is_valid(text[4:] + text[:4])
    except SchwiftyException:
        return False
    return text.isalnum()  # schwifty forgives spaces, ISO 20022 does not


def _debtor_agent_bic(payment: OriginalPayment, _today: date) -> str | None:
    return None if _has_good_bic(payment.debtor_agent) else "DbtrAgt/FinInstnId"


def _creditor_agent_bic(payment: OriginalPayment, _today: date) -> str | None:
    return None if _has_good_bic(payment.creditor_agent) else "CdtrAgt/FinInstnId"


def _instructing_agent_bic(payment: OriginalPayment, _today: date) -> str | None:
    return None if _has_good_bic(payment.instructing_agent) else "InstgAgt/FinInstnId"


def _instructed_agent_bic(payment: OriginalPayment, _today: date) -> str | None:
    return None if _has_good_bic(payment.instructed_agent) else "InstdAgt/FinInstnId"


def _group_agent_bics(original: Original, _today: date) -> Iterable[Place]:
    if _has_good_bic(original.instructing_agent) and _has_good_bic(original.instructed_agent):
        return ()
    pairs = (("InstgAgt", original.instructing_agent), ("InstdAgt", original.instructed_agent))
    return [_in_group_header(original, f"{name}/FinInstnId") for name, agent in pairs if not _has_good_bic(agent)]


def _has_good_bic(agent: Agent | None) -> bool:
    return agent is None or agent.bic is None or _is_bic(agent.bic)


@lru_cache(maxsize=8192)
def _is_bic(text: str) -> bool:
    """Whether the text has the form of a BIC, its country included; no directory is asked whether it exists."""
    if not _BIC.match(text):
        return False
    try:
        BIC(text)
    except InvalidCountryCode:
        return text[4:6] == "XK"  # Kosovo's code is in use, but no member of ISO 3166
    except SchwiftyException:
        return False
    return True


_BIC: Final = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\Z")


def _lei(payment: OriginalPayment, _today: date) -> str | None:
    for name, agent in (("DbtrAgt", payment.debtor_agent), ("CdtrAgt", payment.creditor_agent)):
        if agent is not None and agent.lei is not None and not _is_lei(agent.lei):
            return f"{name}/FinInstnId/LEI"
    return None


@lru_cache(maxsize=4096)
def _is_lei(text: str) -> bool:
    return text.isascii() and text.isalnum() and lei.is_valid(text)


# ---------------------------------------------------------------------------------------------------------------------
# Amounts and currencies
# ---------------------------------------------------------------------------------------------------------------------


class _Money(NamedTuple):
    """A currency: its minor unit, None where it has none, and its last day where it has had one."""

    decimals: int | None
    last_day: date | None


def _load_currencies() -> Mapping[str, _Money]:
    """Currencies in use and withdrawn; what is withdrawn is said by our table, whatever the package still lists."""
    text = resources.files("interlock.iso20022").joinpath("data/currencies.toml").read_text("utf-8")
    table: dict[str, Any] = tomllib.loads(text)
    known = {currency.code: _Money(currency.exponent, None) for currency in Currency}
    known |= {code: _Money(past["decimals"], past["last_day"]) for code, past in table["withdrawn"].items()}
    for code in table["not_for_payments"]:
        known.pop(code, None)
    return MappingProxyType(known)


_CURRENCIES: Final = _load_currencies()


def _amount_element(payment: OriginalPayment) -> str:
    """Name of the element that holds the amount, told from the path of the payment."""
    path = payment.xpath
    if "/PmtInf[" in path:
        return "InstdAmt" if "/DrctDbtTxInf" in path else "Amt"
    if "/TxInf[" in path:
        return "RvsdIntrBkSttlmAmt" if "/FIToFIPmtRvsl/" in path else "RtrdIntrBkSttlmAmt"
    return "IntrBkSttlmAmt"


def _amount_number(payment: OriginalPayment, _today: date) -> str | None:
    number = _number(payment.amount)
    return _amount_element(payment) if number is None or number < 0 else None


def _amount_zero(payment: OriginalPayment, _today: date) -> str | None:
    return _amount_element(payment) if _number(payment.amount) == 0 else None


def _amount_decimals(payment: OriginalPayment, _today: date) -> str | None:
    """Digits that carry value: 10.00 is a good amount of yen, if a strange one."""
    money = _CURRENCIES.get(payment.currency or "")
    amount = payment.amount
    if money is None or money.decimals is None or amount is None or _number(amount) is None:
        return None
    return _amount_element(payment) if len(amount.partition(".")[2].rstrip("0")) > money.decimals else None


def _currency_known(payment: OriginalPayment, _today: date) -> str | None:
    return None if payment.currency in _CURRENCIES else f"{_amount_element(payment)}/@Ccy"


def _currency_withdrawn(payment: OriginalPayment, today: date) -> str | None:
    money = _CURRENCIES.get(payment.currency or "")
    if money is None or money.last_day is None:
        return None
    return f"{_amount_element(payment)}/@Ccy" if (_day(payment.settlement_date) or today) > money.last_day else None


@lru_cache(maxsize=4096)
def _number(text: str | None) -> Decimal | None:
    return to_decimal(text)


# ---------------------------------------------------------------------------------------------------------------------
# Counts and sums
# ---------------------------------------------------------------------------------------------------------------------


def _group_count(original: Original, _today: date) -> Iterable[Place]:
    said, counted = original.number_of_transactions, len(original.payments)
    if said is None or not counted or _is_count(said, counted):
        return ()
    return (_in_group_header(original, "NbOfTxs"),)


def _is_count(said: str, counted: int) -> bool:
    return len(said) <= 15 and said.isascii() and said.isdigit() and int(said) == counted


def _group_sum(original: Original, _today: date) -> Iterable[Place]:
    """CtrlSum adds the amounts whatever their currencies."""
    if original.control_sum is None or not original.payments:
        return ()
    if _is_sum(original.control_sum, original.payments):
        return ()
    return (_in_group_header(original, "CtrlSum"),)


def _is_sum(said: str, payments: Iterable[OriginalPayment]) -> bool:
    """Whether the amounts add up; where one cannot be read, or is an equivalent, there is nothing to compare."""
    total = _total(payments)
    return total is None or to_decimal(said) == total


def _total(payments: Iterable[OriginalPayment]) -> Decimal | None:
    total = Decimal(0)
    for payment in payments:
        number = _number(payment.amount)
        if number is None or payment.amount_is_equivalent:
            return None
        total += number
    return total


def _settlement_total(original: Original, _today: date) -> Iterable[Place]:
    if original.total_amount is None or not original.payments or _is_sum(original.total_amount, original.payments):
        return ()
    return (_in_group_header(original, "TtlIntrBkSttlmAmt"),)


def _settlement_currency(original: Original, _today: date) -> Iterable[Place]:
    total = original.total_currency
    if total is None:
        return ()
    return [
        Place(f"{payment.xpath}/{_amount_element(payment)}/@Ccy", payment.line, payment.ordinal)
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


def _in_group_header(original: Original, path: str) -> Place:
    return Place(f"{original.xpath}/GrpHdr/{path}", original.line)


# ---------------------------------------------------------------------------------------------------------------------
# References
# ---------------------------------------------------------------------------------------------------------------------

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
    """The later ones of payments with the same reference; the first is as good as any."""
    if len(values) < 2 or len(set(values)) == len(values):
        return ()
    seen: set[str] = set()
    places = []
    for payment, value in zip(original.payments, values, strict=True):
        if value is not None and value in seen:
            path = f"{payment.xpath}/{_reference_element(payment, name)}"
            places.append(Place(path, payment.line, payment.ordinal))
        elif value is not None:
            seen.add(value)
    return places


# ---------------------------------------------------------------------------------------------------------------------
# Dates
# ---------------------------------------------------------------------------------------------------------------------

#: Real systems are late, replay, and test with old messages: older than this is worth a word, not a rejection.
_PAST_MAX: Final = timedelta(days=366)
#: Banks settle days ahead, not seasons.
_SETTLEMENT_AHEAD_MAX: Final = timedelta(days=90)
#: Customers order up to a year ahead.
_EXECUTION_AHEAD_MAX: Final = timedelta(days=366)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


# The same few dates stand in most messages of a day.
@lru_cache(maxsize=1024)
def _day(text: str | None) -> date | None:
    """The calendar day of an ISODate or ISODateTime, whatever its offset; None where there is none."""
    if text is None or not _DATE.match(text):
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _date_readable(payment: OriginalPayment, _today: date) -> str | None:
    text = payment.settlement_date
    return None if text is None or _day(text) is not None else "IntrBkSttlmDt"


def _date_past(payment: OriginalPayment, today: date) -> str | None:
    day = _day(payment.settlement_date)
    return "IntrBkSttlmDt" if day is not None and today - day > _PAST_MAX else None


def _date_future(payment: OriginalPayment, today: date) -> str | None:
    day = _day(payment.settlement_date)
    return "IntrBkSttlmDt" if day is not None and day - today > _SETTLEMENT_AHEAD_MAX else None


def _execution_readable(original: Original, _today: date) -> Iterable[Place]:
    return _in_bad_blocks(original, lambda text: _day(text) is None)


def _execution_past(original: Original, today: date) -> Iterable[Place]:
    return _in_bad_blocks(original, lambda text: today - (_day(text) or today) > _PAST_MAX)


def _execution_future(original: Original, today: date) -> Iterable[Place]:
    return _in_bad_blocks(original, lambda text: (_day(text) or today) - today > _EXECUTION_AHEAD_MAX)


def _in_bad_blocks(original: Original, is_bad: Callable[[str], bool]) -> Iterable[Place]:
    """The payments of blocks whose requested date is bad."""
    if not original.groups:
        return ()
    name = "ReqdColltnDt" if original.definition.startswith("pain.008") else "ReqdExctnDt"
    dates = [group.requested_execution_date for group in original.groups]
    bad = {index for index, text in enumerate(dates) if text is not None and is_bad(text)}
    return [
        Place(f"{original.groups[payment.group].xpath}/{name}", payment.line, payment.ordinal)
        for payment in (original.payments if bad else ())
        if payment.group is not None and payment.group in bad
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Header against document
# ---------------------------------------------------------------------------------------------------------------------

_OFFSET: Final = re.compile(r".*(?:Z|[+-][0-9]{2}:[0-9]{2})\Z")


def _in_header(header: Header, path: str) -> tuple[Place, ...]:
    return (Place(f"{header.xpath}/{path}", header.line),)


def _header_definition(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or not original.definition or header.message_definition in (None, original.definition):
        return ()
    return _in_header(header, "MsgDefIdr")


def _header_id(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or original.message_id is None or header.business_message_id in (None, original.message_id):
        return ()
    return _in_header(header, "BizMsgIdr")


def _header_created(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or header.created_at is None or _OFFSET.match(header.created_at):
        return ()
    return _in_header(header, "CreDt")


def _header_sender(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or _agree(header.sender, _instructing(original)):
        return ()
    return _in_header(header, "Fr")


def _header_receiver(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or _agree(header.receiver, _instructed(original)):
        return ()
    return _in_header(header, "To")


def _instructing(original: Original) -> Agent | None:
    payments = original.payments
    return original.instructing_agent or (payments[0].instructing_agent if payments else None)


def _instructed(original: Original) -> Agent | None:
    payments = original.payments
    return original.instructed_agent or (payments[0].instructed_agent if payments else None)


def _agree(one: Agent | None, other: Agent | None) -> bool:
    """False only where both are named in the same manner, and differently; a branch is its bank."""
    if one is None or other is None or one == other:
        return True
    if one.bic is not None and other.bic is not None:
        return one.bic[:8] == other.bic[:8]
    if one.clearing_member is not None and other.clearing_member is not None:
        return one.clearing_member == other.clearing_member
    return True


# ---------------------------------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------------------------------

#: Checks of single payments, by rule.
_PAYMENT_CHECKS: Final[Mapping[str, PaymentCheck]] = {
    "iban.debtor": _debtor_iban,
    "iban.creditor": _creditor_iban,
    "bic.debtor_agent": _debtor_agent_bic,
    "bic.creditor_agent": _creditor_agent_bic,
    "bic.instructing_agent": _instructing_agent_bic,
    "bic.instructed_agent": _instructed_agent_bic,
    "lei.agent": _lei,
    "amount.number": _amount_number,
    "amount.zero": _amount_zero,
    "amount.decimals": _amount_decimals,
    "currency.known": _currency_known,
    "currency.withdrawn": _currency_withdrawn,
    "uetr.form": _uetr_form,
    "settlement_date.readable": _date_readable,
    "settlement_date.past": _date_past,
    "settlement_date.future": _date_future,
}
#: Checks of whole messages, by rule.
_MESSAGE_CHECKS: Final[Mapping[str, MessageCheck]] = {
    "header.definition": _header_definition,
    "header.id": _header_id,
    "header.sender": _header_sender,
    "header.receiver": _header_receiver,
    "header.created": _header_created,
    "count.message": _group_count,
    "count.block": _block_count,
    "sum.message": _group_sum,
    "sum.block": _block_sum,
    "sum.settlement": _settlement_total,
    "currency.settlement": _settlement_currency,
    "agent.bic": _group_agent_bics,
    "duplicate.uetr": _repeated_uetr,
    "duplicate.transaction": _repeated_transaction_id,
    "execution_date.readable": _execution_readable,
    "execution_date.past": _execution_past,
    "execution_date.future": _execution_future,
}


def _load_rules() -> Mapping[str, Rule]:
    text = resources.files("interlock.iso20022").joinpath("data/rules.toml").read_text("utf-8")
    rules = {}
    for name, table in tomllib.loads(text).items():
        rules[name] = Rule(
            id=name,
            severity=Severity(table["severity"]),
            reason=table["reason"],
            text=table["text"],
            source=table["source"],
            valid_from=table.get("valid_from"),
            valid_until=table.get("valid_until"),
            payment_check=_PAYMENT_CHECKS.get(name),
            message_check=_MESSAGE_CHECKS.get(name),
        )
    return MappingProxyType(rules)


#: Every rule by id, in the order in which they are checked.
RULES: Final = _load_rules()
