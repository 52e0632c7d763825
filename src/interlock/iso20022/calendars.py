"""Days on which a settlement system is open, and until when on such a day. Pure; the facts are `data/calendars.toml`.

A calendar says nothing of days outside those that its source covers: an operator that changes its days does so on a
date, and until somebody has written that down the answer is None, not a guess.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

_SATURDAY: Final = 5
_SUNDAY: Final = 6
_WEEK: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Holiday:
    """A day off that comes every year: a fixed day, a day by Easter, or a weekday counted in its month."""

    name: str
    valid_from: date | None = None
    valid_until: date | None = None
    month: int | None = None
    day: int | None = None
    #: Days from Easter Sunday.
    easter: int | None = None
    #: From 0, Monday; with `month` and `count`.
    weekday: int | None = None
    #: Which one in the month; negative counts from its end.
    count: int | None = None
    #: True where the Monday after is off when the day is a Sunday.
    is_moved_from_sunday: bool = False
    #: True where the next day that is neither of the weekend nor another holiday is off instead.
    is_moved_from_weekend: bool = False

    def in_year(self, year: int) -> date | None:
        """The day in a year; None where it is none, or not yet, or no more."""
        day = self._day(year)
        if self.is_moved_from_sunday and day.weekday() == _SUNDAY:
            day += timedelta(days=1)
        return day if (self.valid_from or day) <= day <= (self.valid_until or day) else None

    def _day(self, year: int) -> date:
        if self.easter is not None:
            return easter(year) + timedelta(days=self.easter)
        assert self.month is not None  # the table's own shape
        if self.day is not None:
            return date(year, self.month, self.day)
        assert self.weekday is not None  # likewise
        assert self.count is not None
        return _counted(year, self.month, self.weekday, self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """Until when a system takes messages of some families for the same day."""

    families: tuple[str, ...]
    time: time
    valid_from: date | None = None
    valid_until: date | None = None

    def holds(self, family: str, day: date) -> bool:
        """Whether it is the one for a family on a day."""
        return family in self.families and (self.valid_from or day) <= day <= (self.valid_until or day)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The days and hours of one system."""

    name: str
    title: str
    source: str
    #: What it settles.
    currency: str
    zone: ZoneInfo
    known_from: date
    known_until: date | None
    holidays: tuple[Holiday, ...]
    cut_offs: tuple[CutOff, ...]

    def is_open(self, day: date) -> bool | None:
        """Whether it settles on a day; None for days that the source does not cover."""
        if day < self.known_from or (self.known_until is not None and day > self.known_until):
            return None
        return day.weekday() < _SATURDAY and day not in _days_off(self.name, day.year)

    def next_open(self, day: date) -> date | None:
        """The first open day from this one on, itself included; None where the source does not reach so far."""
        while (is_open := self.is_open(day)) is False:
            day += timedelta(days=1)
        return day if is_open else None

    def closes(self, day: date, family: str) -> datetime | None:
        """The cut-off of a day for a family such as `pacs.008`; None where there is none."""
        for cut_off in self.cut_offs:
            if cut_off.holds(family, day):
                return datetime.combine(day, cut_off.time, tzinfo=self.zone)
        return None

    def is_after_cut_off(self, moment: datetime, day: date | None, family: str) -> bool:
        """Whether a message of this moment is too late to settle on that day."""
        closes = None if day is None else self.closes(day, family)
        return closes is not None and moment > closes

    def days_off(self, year: int) -> Iterator[tuple[date, str]]:
        """Holidays of a year with their names, weekends aside."""
        taken: set[date] = set()
        for holiday in self.holidays:
            day = holiday.in_year(year)
            if day is None:
                continue
            while holiday.is_moved_from_weekend and (day.weekday() >= _SATURDAY or day in taken):
                day += timedelta(days=1)
            taken.add(day)
            yield day, holiday.name


@lru_cache(maxsize=64)
def _days_off(name: str, year: int) -> frozenset[date]:
    return frozenset(day for day, _ in CALENDARS[name].days_off(year))


@lru_cache(maxsize=256)
def easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar.

    Source: the algorithm of an unnamed author in Nature, 1876, as Jean Meeus gives it in Astronomical Algorithms.
    """
    golden = year % 19
    century, in_century = divmod(year, 100)
    leap_centuries, century_rest = divmod(century, 4)
    moon = (century - (century + 8) // 25 + 1) // 3
    epact = (19 * golden + century - leap_centuries - moon + 15) % 30
    leap_years, year_rest = divmod(in_century, 4)
    weekday = (32 + 2 * century_rest + 2 * leap_years - epact - year_rest) % _WEEK
    late = (golden + 11 * epact + 22 * weekday) // 451
    month, day = divmod(epact + weekday - _WEEK * late + 114, 31)
    return date(year, month, day + 1)


def _counted(year: int, month: int, weekday: int, count: int) -> date:
    """The so-many-th weekday of a month, from its beginning or its end."""
    if count > 0:
        first = date(year, month, 1)
        return first + timedelta(days=(weekday - first.weekday()) % _WEEK + _WEEK * (count - 1))
    last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - weekday) % _WEEK + _WEEK * (-count - 1))


def _load() -> Mapping[str, Calendar]:
    text = resources.files("interlock.iso20022").joinpath("data/calendars.toml").read_text("utf-8")
    return MappingProxyType({name: _calendar(name, table) for name, table in tomllib.loads(text).items()})


def _calendar(name: str, table: dict[str, Any]) -> Calendar:
    return Calendar(
        name=name,
        title=table["title"],
        source=table["source"],
        currency=table["currency"],
        zone=ZoneInfo(table["time_zone"]),
        known_from=table["known_from"],
        known_until=table.get("known_until"),
        holidays=tuple(Holiday(**holiday) for holiday in table["holidays"]),
        cut_offs=tuple(CutOff(**{**one, "families": tuple(one["families"])}) for one in table["cut_offs"]),
    )


#: By name.
CALENDARS: Final = _load()
