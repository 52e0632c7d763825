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
        pace.learn(0.07, asked=True)
    known = _looks(pace, until=0.073)
    assert known[0] == pytest.approx(0.063, abs=0.001)
    assert len(known) <= 4 < unknown


def test_what_has_become_quicker_is_found_out() -> None:
    """After an outage a score of waits is slow at most, however many had to sit through it."""
    pace = Pace()
    for _ in range(1000):
        pace.learn(1.1, asked=True)
    for _ in range(20):
        looked = -1.0
        asked = False
        while (looked := pace.next_look(0.0, looked)) < 0.01:
            asked = True
        pace.learn(looked, asked=asked)
    assert _looks(pace, until=1.0)[0] < 0.012


def test_what_does_not_come_is_asked_for_ever_more_rarely() -> None:
    looks = _looks(Pace(), until=20.0)
    gaps = [later - earlier for earlier, later in pairwise(looks)]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(gaps))
    assert gaps[-1] == pytest.approx(0.1)
