"""Regions in a simulated world: the rules keep every promise, and each planted mistake is found."""

import pytest

from simulation.__main__ import of
from simulation.plants import plant
from simulation.world import Told, World, live


def _first_broken(bug: str, first: int) -> Told | None:
    """Of the next four hundred worlds the first that breaks a promise."""
    worlds = (live(seed, regions=of(seed), plants=plant(bug)) for seed in range(first, first + 400))
    return next((told for told in worlds if told.broken is not None), None)


@pytest.mark.parametrize("regions", [2, 3])
def test_a_quiet_world_ends_everything_without_a_takeover(regions: int) -> None:
    """Where nothing goes wrong there is no takeover, and every payment settles or is decided."""
    world = World(1, regions=regions, weather=False)
    world.run()
    assert world.takeovers == 0
    assert world.promises.ends


def test_the_rules_keep_every_promise() -> None:
    """Whatever goes wrong in these worlds, nothing acknowledged is lost and nothing ends twice."""
    told = [live(seed, regions=of(seed)) for seed in range(200)]
    assert [(world.seed, world.broken) for world in told if world.broken is not None] == []
    assert sum(world.takeovers for world in told) > 50


def test_one_seed_is_one_history() -> None:
    """A seed gone through twice does the same, step for step."""
    first: list[str] = []
    second: list[str] = []
    live(29, regions=3, trace=first.append)
    live(29, regions=3, trace=second.append)
    assert first == second
    assert first


# Each begins a little before the first seed that finds it today, so that the tests stay short.
@pytest.mark.parametrize(
    ("bug", "first"),
    [
        ("alone_is_enough", 2385),
        ("skip_epoch", 2490),
        ("release_before_ack", 0),
        ("cancel_without_cut", 40),
        ("taker_ignores_intent", 0),
        ("works_before_informed", 0),
        ("added_without_flush", 70),
        ("removed_without_version", 0),
        ("post_before_witness", 0),
        ("opened_too_early", 30),
        ("stale_intent", 10),
    ],
)
def test_a_planted_mistake_is_found(bug: str, first: int) -> None:
    """A world with this mistake breaks a promise, within some hundred seeds."""
    assert _first_broken(bug, first) is not None


@pytest.mark.parametrize(
    ("bug", "first"),
    [
        ("taken_without_message", 2179),
        ("informed_at_completion", 120),
        ("nothing_left", 8383),
    ],
)
def test_what_a_seed_once_found_is_found_again(bug: str, first: int) -> None:
    """These mistakes were in the rules, or in how they were followed, until a world showed them."""
    assert _first_broken(bug, first) is not None


def test_payments_that_end_by_themselves_end_once() -> None:
    """Where clients reject and cancel single payments of several, each has one end, whoever takes over whom."""
    told = [live(seed, regions=of(seed), several=True) for seed in range(150)]
    assert [(world.seed, world.broken) for world in told if world.broken is not None] == []
    assert sum(world.takeovers for world in told) > 40


@pytest.mark.parametrize("bug", ["told_before_ack", "taker_forgets_some"])
def test_a_mistake_about_single_payments_is_found(bug: str) -> None:
    """An end of some that is told too early, or that a taker does not know, ends a payment twice."""
    worlds = (live(seed, regions=of(seed), plants=plant(bug), several=True) for seed in range(100))
    assert any(told.broken is not None for told in worlds)
