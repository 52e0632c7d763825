"""The rules of regions, searched state by state. `make model` searches every world; this is what takes seconds."""

from dataclasses import replace
from typing import Any

import pytest

from interlock.iso20022.codes import Status
from interlock.lifecycle import State
from models import keepers, keys, lease, strict
from models.__main__ import WORLDS, main
from models.search import World

BY_NAME = {world.name: world for world in WORLDS}
#: Worlds that are searched to their end in a second or two each.
QUICK = (
    "takers",
    "keepers-return",
    "some",
    "keys",
    "keys-three",
    "keys-cut",
    "keys-lost",
    "keys-lost-cut",
    "keys-lost-alone",
)
#: A mistake stops its search early, so more of them are quick than worlds are.
PLANTED = [
    *((name, bug) for name in QUICK for bug in BY_NAME[name].bugs),
    *(
        ("ends", bug)
        for bug in ("no_ack", "ends_replaced_intent", "removed_after_grant", "taker_ignores_intent", "no_cut")
    ),
    *(("hands", bug) for bug in ("handed_uncommitted", "resolves_early", "clock_after_word")),
    *(("keepers", bug) for bug in BY_NAME["keepers"].bugs),
    *(("reseed", bug) for bug in BY_NAME["reseed"].bugs),
    ("lease", "granted_early"),
]


@pytest.mark.parametrize("name", QUICK)
def test_rules_hold(name: str) -> None:
    """By the rules as they are, no state is wrong, however the steps interleave."""
    found = BY_NAME[name].search()
    assert found.why is None, "\n".join(found.path)


@pytest.mark.parametrize(("name", "bug"), PLANTED)
def test_planted_mistake_is_found(name: str, bug: str) -> None:
    """A search that finds no mistake where there is one would prove nothing."""
    found = BY_NAME[name].search(bug)
    assert found.why is not None
    assert found.path


@pytest.mark.parametrize("name", ["keys-alone"])
def test_documented_window(name: str) -> None:
    """Where the product gives no promise the search shows why, and the world says so."""
    world = BY_NAME[name]
    assert world.window is not None
    assert world.search().why is not None


def _home_ends_after_its_return(world: strict.Strict) -> str | None:
    last = world.log[-1]
    is_end = last.standing is not None and last.standing.is_final
    return "reached" if is_end and last.epoch >= 1_000_000 else None


def _taker_ends_as_intended(world: strict.Strict) -> str | None:
    row = world.peers[0].row
    return "reached" if row is not None and row.standing.end is Status.ACSC else None


def _home_has_it_again(world: strict.Strict) -> str | None:
    last = world.log[-1]
    handed = last.standing is not None and last.standing.state is State.HANDED
    return "reached" if handed and last.epoch >= 1_000_000 else None


def _back_among_members(world: keepers.Keepers) -> str | None:
    return "reached" if world.entry.members and world.entry.generation and world.entry.taker is None else None


def _reseeded_and_member(world: keepers.Keepers) -> str | None:
    return "reached" if world.reseed == "over" and world.entry.members else None


def _first_is_paid(world: keys.Keys) -> str | None:
    first, second = (region.log for region in world.regions)
    return "reached" if keys.Rec("paid", 0) in first and keys.Rec("failed", 1) in second else None


def _taker_rejects(world: keys.Keys) -> str | None:
    return "reached" if {keys.Rec("paid", 1), keys.Rec("failed", 0)} <= set(world.regions[1].log) else None


def _taken_over_in_time(world: lease.Lease) -> str | None:
    return "reached" if world.cancelled and world.post.fenced else None


@pytest.mark.parametrize(
    ("name", "goal"),
    [
        ("takers", _home_ends_after_its_return),
        ("takers", _taker_ends_as_intended),
        ("hands", _home_has_it_again),
        ("keepers-return", _back_among_members),
        ("reseed", _reseeded_and_member),
        ("keys", _first_is_paid),
        ("keys-lost", _taker_rejects),
        ("lease", _taken_over_in_time),
    ],
)
def test_worlds_are_not_empty(name: str, goal: Any) -> None:
    """Nothing is wrong in a world where nothing happens: what the rules are for does happen."""
    assert replace(BY_NAME[name], wrong=goal).search().why == "reached"


def test_path_is_shortest() -> None:
    """The steps printed lead there, and no fewer would."""

    def steps(number: int, _: str) -> list[tuple[str, int]]:
        return [("one more", number + 1), ("double", number * 2)] if number < 50 else []

    world = World("numbers", "", 1, steps, lambda number: "ten" if number == 10 else None)
    assert world.search().path == ("one more", "double", "one more", "double")


def test_command_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    """A planted mistake that is found is a success, and printed with the way to it."""
    assert main(["--world", "takers", "--bug", "post_read_last"]) == 0
    told = capsys.readouterr().out
    assert "two ends of one transaction" in told
    assert "1 searches" in told


def test_command_fails_where_rules_are_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """A wrong state with the right rules is a failure."""
    broken = replace(BY_NAME["keys-alone"], window=None)
    monkeypatch.setattr("models.__main__.WORLDS", (broken,))
    assert main([]) == 1
    assert "WRONG in 8 steps" in capsys.readouterr().out


def test_unknown_mistake_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no world knows is an error, not an empty success."""
    assert main(["--bug", "no_such"]) == 2
    assert "no_such" in capsys.readouterr().err
