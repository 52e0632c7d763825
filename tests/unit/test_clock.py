from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.clock import CommonTime, SteadyClock

_START = datetime(2026, 1, 2, 3, 4, 5, 600000, UTC)


class Hands:
    """A wall clock and a steady one, set by the test."""

    def __init__(self) -> None:
        self.wall = _START.timestamp()
        self.steady = 1000.0

    def go(self, seconds: float) -> None:
        """Time passes."""
        self.wall += seconds
        self.steady += seconds

    def clock(self, not_before: datetime | None = None) -> SteadyClock:
        """A clock over these hands."""
        return SteadyClock(lambda: self.wall, lambda: self.steady, not_before=not_before)


@pytest.fixture
def hand() -> Hands:
    return Hands()


def test_it_starts_at_the_wall_clock_and_is_aware(hand: Hands) -> None:
    """The present is the wall clock's at the start, in UTC, to the microsecond."""
    now = hand.clock()()
    assert now.tzinfo is UTC
    assert abs(now - _START) <= timedelta(microseconds=1)


def test_it_goes_by_age(hand: Hands) -> None:
    """What passes is what the steady clock counts."""
    clock = hand.clock()
    before = clock()
    hand.go(12.345678)
    assert abs(clock() - before - timedelta(seconds=12.345678)) <= timedelta(microseconds=1)


@pytest.mark.parametrize("step", [-3600.0, 3600.0, -86400.0 * 365, 86400.0 * 365])
def test_a_step_of_the_wall_clock_is_not_followed(hand: Hands, step: float) -> None:
    """Set an hour or a year back or ahead, it neither holds nor fires a deadline."""
    clock = hand.clock()
    before = clock()
    hand.wall += step
    clock.slew()
    hand.go(1)
    clock.slew()
    assert timedelta(seconds=0.998) < clock() - before < timedelta(seconds=1.002)


def test_it_starts_no_earlier_than_what_has_happened(hand: Hands) -> None:
    """A wall clock that was stepped back while no process ran does not bring new events before old ones."""
    newest = _START + timedelta(hours=1)
    clock = hand.clock(not_before=newest)
    assert clock() >= newest
    assert timedelta(minutes=59) < clock.ahead < timedelta(minutes=61)
    assert hand.clock(not_before=_START - timedelta(hours=1))() == hand.clock()()


def test_it_creeps_towards_the_wall_clock(hand: Hands) -> None:
    """Drift is made good at no more than 0.5 ms a second, until there is none."""
    clock = hand.clock()
    hand.wall += 0.25
    for _ in range(400):
        hand.go(1)
        clock.slew()
    assert timedelta(seconds=-0.06) < clock.ahead < timedelta(seconds=-0.04)
    for _ in range(200):
        hand.go(1)
        clock.slew()
    assert abs(clock.ahead) < timedelta(microseconds=10)


def test_it_comes_back_to_a_wall_clock_that_is_behind(hand: Hands) -> None:
    """It goes slower for a while, never backwards."""
    clock = hand.clock()
    hand.wall -= 0.01
    for _ in range(30):
        before = clock()
        hand.go(1)
        clock.slew()
        assert timedelta(seconds=0.999) < clock() - before <= timedelta(seconds=1)
    assert abs(clock.ahead) < timedelta(microseconds=10)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(-10, 10), st.booleans()), max_size=30))
def test_it_never_runs_backwards(moves: list[tuple[float, float, bool]]) -> None:
    """However the wall clock jumps, and whenever it is followed, each reading is no less than the one before."""
    hand = Hands()
    clock = hand.clock()
    before = clock()
    for passes, jump, follow in moves:
        hand.go(passes)
        hand.wall += jump
        for reading in range(2):
            now = clock()
            assert now >= before
            before = now
            if follow and reading == 0:
                clock.slew()


def test_common_time_is_the_stores() -> None:
    """However far this machine's clock is off, all go by the store's; the promptest of the first answers counts."""
    wall = [1000.0]
    takes = iter([3.0, 0.5, 0.01, 0.2, 0.3])

    def asked() -> datetime:
        wall[0] += next(takes)
        return datetime.fromtimestamp(wall[0] + 4000, UTC)

    time = CommonTime(lambda: wall[0], asked)
    assert time() == 1000.0
    time.set_right()
    assert time() - wall[0] == pytest.approx(4000, abs=0.006)
    wall[0] += 7
    assert time() - wall[0] == pytest.approx(4000, abs=0.006)


def test_an_answer_that_took_long_changes_nothing_later() -> None:
    """Once the time is known it is set right by prompt answers alone; at first a slow one is better than none."""
    wall, ahead, took = [1000.0], [50.0], [2.0]

    def asked() -> datetime:
        wall[0] += took[0]
        return datetime.fromtimestamp(wall[0] + ahead[0], UTC)

    time = CommonTime(lambda: wall[0], asked)
    time.set_right()
    assert time() - wall[0] == pytest.approx(51)
    ahead[0] = 90.0
    time.set_right()
    assert time() - wall[0] == pytest.approx(51)
    took[0] = 0.0
    time.set_right()
    assert time() - wall[0] == pytest.approx(90)


def test_common_time_without_a_store_of_its_own_time_is_ours() -> None:
    """One process alone has nobody to agree with."""
    time = CommonTime(lambda: 1000.0, lambda: None)
    time.set_right()
    assert time() == 1000.0
