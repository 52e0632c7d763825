"""How often peers' positions are asked for while somebody waits."""

from itertools import pairwise

import pytest

from interlock.acks import Pace


def _looks(pace: Pace, *, until: float) -> list[float]:
    """When is asked for what waits since 0."""
    looks, looked = [], -1.0
    while (looked := pace.next_look(0.0, looked)) < until:
        looks.append(looked)
    return looks


def test_what_takes_a_round_trip_is_not_asked_for_before() -> None:
    """Seventy milliseconds that nothing is known of cost a score of questions; once known, a few."""
    pace = Pace()
    unknown = len(_looks(pace, until=0.07))
    for _ in range(50):
        pace.learn(0.07)
    known = _looks(pace, until=0.073)
    assert known[0] == pytest.approx(0.063, abs=0.001)
    assert len(known) <= 4 < unknown


def test_what_has_become_quicker_is_found_out() -> None:
    pace = Pace()
    for _ in range(50):
        pace.learn(0.1)
    for _ in range(200):
        waited = next(look for look in _looks(pace, until=1.0) if look >= 0.01)
        pace.learn(waited)
    assert _looks(pace, until=1.0)[0] < 0.02


def test_what_does_not_come_is_asked_for_ever_more_rarely() -> None:
    looks = _looks(Pace(), until=20.0)
    gaps = [later - earlier for earlier, later in pairwise(looks)]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(gaps))
    assert gaps[-1] == pytest.approx(0.1)
