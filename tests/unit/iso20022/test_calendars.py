from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.iso20022.calendars import CALENDARS, easter

TARGET: Final = CALENDARS["target"]
FEDWIRE: Final = CALENDARS["fedwire"]


@pytest.mark.parametrize(
    ("year", "day"),
    [
        (1961, date(1961, 4, 2)),
        (2000, date(2000, 4, 23)),
        (2019, date(2019, 4, 21)),
        (2024, date(2024, 3, 31)),
        (2025, date(2025, 4, 20)),
        (2026, date(2026, 4, 5)),
        (2038, date(2038, 4, 25)),
        (2285, date(2285, 3, 22)),
    ],
)
def test_easter(year: int, day: date) -> None:
    """Easter as it was and will be kept, the earliest and latest days among them."""
    assert easter(year) == day


@settings(deadline=None)
@given(st.integers(1583, 4000))
def test_easter_is_a_sunday_in_spring(year: int) -> None:
    """In each year of the Gregorian calendar, from 22 March to 25 April."""
    day = easter(year)
    assert day.weekday() == 6
    assert date(year, 3, 22) <= day <= date(year, 4, 25)


@pytest.mark.parametrize(
    ("year", "moved"),
    [
        (2024, [date(2024, 1, 1), date(2024, 12, 25), date(2024, 12, 26)]),
        (2026, [date(2026, 1, 1), date(2026, 12, 25), date(2026, 12, 28)]),
        (2027, [date(2027, 1, 1), date(2027, 12, 27), date(2027, 12, 28)]),
    ],
)
def test_bank_holidays_of_england(year: int, moved: list[date]) -> None:
    """Those that the government has published: a holiday on a weekend is moved to the next free day."""
    closed = [day for day, _ in CALENDARS["chaps"].days_off(year)]
    mondays = {2024: [(5, 6), (5, 27), (8, 26)], 2026: [(5, 4), (5, 25), (8, 31)], 2027: [(5, 3), (5, 31), (8, 30)]}
    by_easter = [easter(year) + timedelta(days=days) for days in (-2, 1)]
    assert sorted(closed) == sorted([*moved, *by_easter, *(date(year, *day) for day in mondays[year])])


def test_target_days_of_2026() -> None:
    """The closing days that the European Central Bank has published for 2026, weekends aside."""
    closed = [day for day, _ in TARGET.days_off(2026)]
    assert closed == [
        date(2026, 1, 1),
        date(2026, 4, 3),
        date(2026, 4, 6),
        date(2026, 5, 1),
        date(2026, 12, 25),
        date(2026, 12, 26),
    ]


@pytest.mark.parametrize(
    ("year", "closed"),
    [
        (
            # A holiday on a Saturday, 19 June 2021 among them, is not moved; Christmas of 2022 was a Sunday.
            2021,
            ["01-01", "01-18", "02-15", "05-31", "07-05", "09-06", "10-11", "11-11", "11-25", "12-25"],
        ),
        (
            2022,
            ["01-01", "01-17", "02-21", "05-30", "06-20", "07-04", "09-05", "10-10", "11-11", "11-24", "12-26"],
        ),
        (
            2026,
            ["01-01", "01-19", "02-16", "05-25", "06-19", "07-04", "09-07", "10-12", "11-11", "11-26", "12-25"],
        ),
    ],
)
def test_fedwire_days(year: int, closed: list[str]) -> None:
    """The holidays of the Federal Reserve, moved from Sunday to Monday and from Saturday to no day."""
    assert [f"{day:%m-%d}" for day, _ in FEDWIRE.days_off(year)] == closed


@pytest.mark.parametrize(
    ("day", "is_open"),
    [
        (date(2026, 11, 23), True),
        (date(2026, 11, 26), False),
        (date(2026, 11, 28), False),
        (date(2026, 7, 3), True),
        (date(2027, 12, 31), True),
        (date(2028, 1, 3), None),
        (date(1989, 12, 29), None),
    ],
)
def test_fedwire_is_open(day: date, is_open: bool | None) -> None:  # noqa: FBT001 - the answer that is expected
    """Open on weekdays but for holidays; of days that its source does not cover nothing is said."""
    assert FEDWIRE.is_open(day) is is_open


def test_next_open() -> None:
    """Over Easter four days pass; beyond what is known there is no next day."""
    assert TARGET.next_open(date(2026, 4, 3)) == date(2026, 4, 7)
    assert TARGET.next_open(date(2026, 4, 7)) == date(2026, 4, 7)
    assert FEDWIRE.next_open(date(2028, 1, 1)) is None


def test_cut_offs() -> None:
    """In local time, summer and winter, customers before banks."""
    assert TARGET.closes(date(2026, 11, 23), "pacs.008") == datetime(2026, 11, 23, 16, tzinfo=UTC)
    assert TARGET.closes(date(2026, 7, 23), "pacs.009") == datetime(2026, 7, 23, 16, tzinfo=UTC)
    assert TARGET.closes(date(2026, 7, 23), "camt.056") is None
    assert FEDWIRE.closes(date(2026, 11, 23), "pacs.008") == datetime(2026, 11, 23, 23, 45, tzinfo=UTC)
    assert FEDWIRE.closes(date(2020, 11, 23), "pacs.008") is None


@settings(deadline=None)
@given(st.dates(date(2002, 1, 1), date(2027, 12, 24)))
def test_no_system_is_closed_for_long(day: date) -> None:
    """There is an open day within five, in each calendar."""
    for calendar in (TARGET, FEDWIRE):
        following = calendar.next_open(day)
        assert following is not None
        assert 0 <= (following - day).days <= 4


def test_days_off_are_in_order() -> None:
    """The table is written in the order of the year."""
    for calendar in CALENDARS.values():
        days = [day for day, _ in calendar.days_off(2026)]
        assert all(earlier < later for earlier, later in pairwise(days))
