"""Dates: that they are days, and days on which somebody can mean to pay. Pure."""

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

from interlock.iso20022 import calendars
from interlock.iso20022.original import Original, OriginalPayment
from interlock.iso20022.rules.rule import (
    SETTLEMENT_DATE,
    MessageCheck,
    PaymentCheck,
    Place,
    at_settlement_date,
    in_group_header,
)

#: Real systems are late, replay, and test with old messages: older than this is worth a word, not a rejection.
_PAST_MAX: Final = timedelta(days=366)
#: Banks settle days ahead, not seasons.
_SETTLEMENT_AHEAD_MAX: Final = timedelta(days=90)
#: Customers order up to a year ahead.
_EXECUTION_AHEAD_MAX: Final = timedelta(days=366)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


# The same few dates stand in most messages of a day.
@lru_cache(maxsize=1024)
def day_of(text: str | None) -> date | None:
    """The calendar day of an ISODate or ISODateTime, whatever its offset; None where there is none."""
    if text is None or not _DATE.match(text):
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _date_readable(payment: OriginalPayment, _today: date) -> str | None:
    text = payment.settlement_date
    return None if text is None or day_of(text) is not None else SETTLEMENT_DATE


def _date_past(payment: OriginalPayment, today: date) -> str | None:
    day = day_of(payment.settlement_date)
    return SETTLEMENT_DATE if day is not None and today - day > _PAST_MAX else None


def _date_future(payment: OriginalPayment, today: date) -> str | None:
    day = day_of(payment.settlement_date)
    return SETTLEMENT_DATE if day is not None and day - today > _SETTLEMENT_AHEAD_MAX else None


def _date_ahead(payment: OriginalPayment, today: date) -> str | None:
    day = day_of(payment.settlement_date)
    return SETTLEMENT_DATE if day is not None and day - today > timedelta(days=1) else None


def _execution_readable(original: Original, _today: date) -> Iterable[Place]:
    return _in_bad_blocks(original, lambda text: day_of(text) is None)


def _execution_past(original: Original, today: date) -> Iterable[Place]:
    return _in_bad_blocks(original, lambda text: today - (day_of(text) or today) > _PAST_MAX)


def _execution_future(original: Original, today: date) -> Iterable[Place]:
    return _in_bad_blocks(original, lambda text: (day_of(text) or today) - today > _EXECUTION_AHEAD_MAX)


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


def _date_missing(payment: OriginalPayment, _today: date) -> str | None:
    return None if payment.settlement_date is not None else SETTLEMENT_DATE


def _date_twice(original: Original, _today: date) -> Iterable[Place]:
    """A payment's date that is not the group header's, where that says one for all."""
    common = original.settlement_date
    if common is None:
        return ()
    return [
        Place(f"{payment.xpath}/{SETTLEMENT_DATE}", payment.line, payment.ordinal)
        for payment in original.payments
        if payment.settlement_date != common
    ]


#: Clocks differ, and so do days between time zones: a day ahead is no fault.
_CLOCK_AHEAD_MAX: Final = timedelta(days=1)


def is_ahead(text: str | None, today: date) -> bool:
    """Whether a point in time lies further ahead than any clock or time zone can explain."""
    day = day_of(text)
    return day is not None and day - today > _CLOCK_AHEAD_MAX


def _created_future(original: Original, today: date) -> Iterable[Place]:
    return (in_group_header(original, "CreDtTm"),) if is_ahead(original.created_at, today) else ()


def _accepted_future(payment: OriginalPayment, today: date) -> str | None:
    return "AccptncDtTm" if is_ahead(payment.accepted_at, today) else None


def _closed(system: str) -> PaymentCheck:
    calendar = calendars.CALENDARS[system]

    def check(payment: OriginalPayment, _today: date) -> str | None:
        if payment.currency != calendar.currency:
            return None
        day = day_of(payment.settlement_date)
        return SETTLEMENT_DATE if day is not None and calendar.is_open(day) is False else None

    return check


def _after_cut_off(system: str) -> MessageCheck:
    calendar = calendars.CALENDARS[system]

    def check(original: Original, _today: date) -> Iterable[Place]:
        """Payments that were made after the cut-off of the day on which they are to settle."""
        created = moment_of(original.created_at)
        if created is None:
            return ()
        kind = original.definition[:8]
        return [
            at_settlement_date(original, payment)
            for payment in original.payments
            if payment.currency == calendar.currency
            and calendar.is_after_cut_off(created, day_of(payment.settlement_date), kind)
        ]

    return check


def moment_of(text: str | None) -> datetime | None:
    """The point in time of an ISODateTime; None for one without an offset, which is none, or of no near year."""
    text = text or ""
    midnight = _MIDNIGHT.match(text)
    try:
        moment = datetime.fromisoformat(f"{midnight[1]}T00:00:00{midnight[2]}" if midnight else text)
    except ValueError:
        return None
    # At the very ends of the calendar another time zone, or a second later, is outside of it.
    if moment.tzinfo is None or not _YEARS[0] <= moment.year <= _YEARS[1]:
        return None
    return moment + timedelta(days=1) if midnight else moment


#: The end of a day, which Python does not know.
_MIDNIGHT: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T24:00:00(?:\.0+)?(.*)\Z")
_YEARS: Final = (1000, 9000)


def is_local(text: str) -> bool:
    """Whether it is an ISODateTime without an offset."""
    return _LOCAL.match(text) is not None


_LOCAL: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,50})?\Z")


PAYMENT_CHECKS: Final[dict[str, PaymentCheck]] = {
    "settlement_date.readable": _date_readable,
    "settlement_date.past": _date_past,
    "settlement_date.future": _date_future,
    "settlement_date.missing": _date_missing,
    "accepted.future": _accepted_future,
    "settlement_date.instant": _date_ahead,
    "calendar.chaps": _closed("chaps"),
    "calendar.target": _closed("target"),
    "calendar.fedwire": _closed("fedwire"),
}
MESSAGE_CHECKS: Final[dict[str, MessageCheck]] = {
    "created.future": _created_future,
    "settlement_date.twice": _date_twice,
    "execution_date.readable": _execution_readable,
    "execution_date.past": _execution_past,
    "execution_date.future": _execution_future,
    "cut_off.target": _after_cut_off("target"),
    "cut_off.fedwire": _after_cut_off("fedwire"),
}
