"""Until when a settled payment can be asked back."""

from datetime import date

import pytest

from interlock.iso20022.profiles import Profiles
from interlock.iso20022.profiles.facts import Recall
from interlock.iso20022.recalls import Recallable, judge, last_day

PROFILES = Profiles.load()
SETTLED = date(2026, 3, 27)


@pytest.mark.parametrize(
    ("window", "settled", "currency", "last"),
    [
        (Recall(days=60), date(2026, 1, 1), "USD", date(2026, 3, 2)),
        (Recall(months=13), date(2026, 1, 31), "EUR", date(2027, 2, 28)),
        (Recall(months=1), date(2025, 12, 15), "EUR", date(2026, 1, 15)),
        # Good Friday, Easter Monday and 1 May are no days of TARGET.
        (Recall(business_days=10), date(2026, 3, 27), "EUR", date(2026, 4, 14)),
        (Recall(business_days=1), date(2026, 4, 30), "EUR", date(2026, 5, 4)),
        # Where no calendar is known, weekends alone are left out.
        (Recall(business_days=10), date(2026, 3, 27), "SEK", date(2026, 4, 10)),
        (Recall(business_days=1), date(2026, 3, 28), "SEK", date(2026, 3, 30)),
    ],
)
def test_last_day(window: Recall, settled: date, currency: str, last: date) -> None:
    """By days, by months that may be shorter, or by the days on which the currency's system is open."""
    assert last_day(window, settled, currency) == last


@pytest.mark.parametrize(
    ("profile", "reason", "asked", "told"),
    [
        ("sepa-sct", "DUPL", date(2026, 4, 14), Recallable.OPEN),
        ("sepa-sct", "DUPL", date(2026, 4, 15), Recallable.OVER),
        ("sepa-inst", "TECH", date(2026, 4, 14), Recallable.OPEN),
        ("sepa-inst", "TECH", date(2026, 4, 15), Recallable.OVER),
        ("sepa-inst", "FRAD", date(2027, 4, 27), Recallable.OPEN),
        ("sepa-inst", "FRAD", date(2027, 4, 28), Recallable.OVER),
        ("sepa-inst", "MODT", date(2026, 3, 27), Recallable.UNLISTED),
        ("sepa-inst", None, date(2026, 3, 27), Recallable.UNLISTED),
        ("fednow", None, date(2026, 5, 26), Recallable.OPEN),
        ("fednow", "FRAD", date(2026, 5, 27), Recallable.GROUNDS),
        ("fednow", "FRAD", date(2026, 6, 30), Recallable.GROUNDS),
        ("fednow", "FRAD", date(2026, 7, 1), Recallable.OVER),
        ("cbprplus", "DUPL", date(2030, 1, 1), Recallable.OPEN),
        ("generic", None, date(2030, 1, 1), Recallable.OPEN),
    ],
)
def test_windows_of_profiles(profile: str, reason: str | None, asked: date, told: Recallable) -> None:
    """What a scheme says counts to the day; what it does not say refuses nothing."""
    currency = "USD" if profile == "fednow" else "EUR"
    windows = PROFILES.named(profile).recall
    assert judge(windows, reason, settled=SETTLED, asked=asked, currency=currency) is told
