"""Whether a payment that was settled can still be asked back, by the windows that its profile has. Pure.

Owns: reckoning a window's last day. Must not know: what the answer to a recall says.
"""

import calendar
from collections.abc import Sequence
from datetime import date, timedelta
from enum import StrEnum, auto
from typing import Final

from interlock.iso20022 import calendars
from interlock.iso20022.profiles.facts import Recall

_SATURDAY: Final = 5
_MONTHS: Final = 12


class Recallable(StrEnum):
    """How a recall stands to the windows of a profile."""

    #: In time, and for a reason that is allowed; or the profile says nothing of recalls.
    OPEN = auto()
    #: In time only on grounds that the scheme names and a request cannot: somebody has to look.
    GROUNDS = auto()
    #: Its reason has a window, and that is over.
    OVER = auto()
    #: The profile has no window for that reason, or none was given and each window has reasons.
    UNLISTED = auto()


def judge(windows: Sequence[Recall], reason: str | None, *, settled: date, asked: date, currency: str) -> Recallable:
    """Hold a recall against the windows.

    reason: ISO ExternalCancellationReason1Code; asked: the day on which it was asked for first.
    """
    if not windows:
        return Recallable.OPEN
    fitting = [window for window in windows if not window.reasons or reason in window.reasons]
    if not fitting:
        return Recallable.UNLISTED
    still = [window for window in fitting if asked <= last_day(window, settled, currency)]
    if any(not window.grounds for window in still):
        return Recallable.OPEN
    return Recallable.GROUNDS if still else Recallable.OVER


def last_day(window: Recall, settled: date, currency: str) -> date:
    """The last day on which a payment that was settled on a day may be asked back."""
    try:
        return _last_day(window, settled, currency)
    except (OverflowError, ValueError):  # beyond the year 9999
        return date.max


def _last_day(window: Recall, settled: date, currency: str) -> date:
    if window.days is not None:
        return settled + timedelta(days=window.days)
    if window.months is not None:
        month = settled.month - 1 + window.months
        year, month = settled.year + month // _MONTHS, month % _MONTHS + 1
        return date(year, month, min(settled.day, calendar.monthrange(year, month)[1]))
    assert window.business_days is not None  # a window is one of the three
    day = settled
    for _ in range(window.business_days):
        day += timedelta(days=1)
        while not _is_business_day(day, currency):
            day += timedelta(days=1)
    return day


def _is_business_day(day: date, currency: str) -> bool:
    """By the calendar of the currency; where there is none, or it does not reach so far, weekdays are meant."""
    for system in calendars.CALENDARS.values():
        if system.currency == currency and (is_open := system.is_open(day)) is not None:
            return is_open
    return day.weekday() < _SATURDAY
