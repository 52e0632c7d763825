"""What happens: to processes, links, disks, slots, and to several of them one after the other.

A fault strikes while payments come in everywhere. `World.mend` undoes it, and then whatever it has put into
`Stage.afterwards`.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import psycopg

from chaos import commits, slots
from chaos.stage import HOME, PEER, THIRD, Stage
from chaos.world import WITNESS, World
from interlock.errors import InterlockError

#: After which something is taken for what comes of a fault where nothing can be waited for.
_MOMENT_SECONDS = 3.0
#: So often a full disk's log is made to go on to its next file.
_LOG_FILES = 12


class Fault(NamedTuple):
    """Something that happens."""

    strike: Callable[[Stage], None]
    #: Regions that are taken over because of it, where the moment does not forbid that.
    takes: frozenset[str] = frozenset()
    #: What else comes of it; by default just some time.
    comes: Callable[[Stage], bool] = lambda stage: time.monotonic() - stage.struck >= _MOMENT_SECONDS


def _on(do: Callable[[World], None]) -> Callable[[Stage], None]:
    return lambda stage: do(stage.world)


def _taking(region: str, strike: Callable[[Stage], None]) -> Fault:
    return Fault(strike, takes=frozenset({region}))


# -- what comes of it -------------------------------------------------------------------------------------------------


def _alone(*regions: str, without: str) -> Callable[[Stage], bool]:
    """Each of them goes on without another one, and has done so for a moment where that was so before."""

    def comes(stage: Stage) -> bool:
        if time.monotonic() - stage.struck < _MOMENT_SECONDS:
            return False
        with suppress(psycopg.Error):
            return all(without not in stage.world.status(region).guards for region in regions)
        return False

    return comes


def _silent(region: str) -> Callable[[Stage], bool]:
    """The witness has not heard of it for longer than its lease."""

    def comes(stage: Stage) -> bool:
        with suppress(InterlockError):
            return stage.world.leases()[region][1] <= 0 and time.monotonic() - stage.struck >= _MOMENT_SECONDS
        return False

    return comes


# -- processes and links ----------------------------------------------------------------------------------------------


def _cut(sender: str, receiver: str, *, both: bool = True) -> Callable[[Stage], None]:
    return lambda stage: stage.world.links.cut(sender, receiver, both=both)


def _cut_from_all(stage: Stage) -> None:
    stage.world.links.cut(HOME, WITNESS)
    for guard in stage.world.peers(HOME):
        stage.world.links.cut(HOME, guard)


def _cut_witness_and(sender: str, receiver: str) -> Callable[[Stage], None]:
    def strike(stage: Stage) -> None:
        stage.world.links.cut(HOME, WITNESS)
        stage.world.links.cut(sender, receiver, both=False)

    return strike


def _lose_both(stage: Stage) -> None:
    stage.lose(HOME)
    stage.lose(PEER)


def _pause_between(stage: Stage) -> None:
    commits.stop_between(stage.world, HOME)
    stage.struck = time.monotonic()


def _pause_within(stage: Stage) -> None:
    commits.stop_within(stage.world, HOME)
    stage.world.regions[HOME].server.pause()
    stage.struck = time.monotonic()


def _hang_within(stage: Stage) -> None:
    commits.stop_within(stage.world, HOME)
    stage.struck = time.monotonic()


_PROCESSES: Mapping[str, Fault] = {
    "nothing": Fault(lambda _: None, comes=lambda stage: time.monotonic() - stage.struck >= 1.0),
    "kill-region": _taking(HOME, lambda stage: stage.lose(HOME)),
    "kill-server": _taking(HOME, _on(lambda world: world.regions[HOME].server.kill())),
    "kill-database": _taking(HOME, _on(lambda world: world.regions[HOME].cluster.kill())),
    "pause-server": _taking(HOME, _on(lambda world: world.regions[HOME].server.pause())),
    "pause-database": _taking(HOME, _on(lambda world: world.regions[HOME].cluster.pause())),
    "pause-between-check-and-commit": _taking(HOME, _pause_between),
    "pause-within-commit": _taking(HOME, _pause_within),
    "hang-within-commit": Fault(_hang_within),
    "kill-peer": _taking(PEER, lambda stage: stage.lose(PEER)),
    "kill-peers-server": _taking(PEER, _on(lambda world: world.regions[PEER].server.kill())),
    "kill-peers-database": _taking(PEER, _on(lambda world: world.regions[PEER].cluster.kill())),
    "pause-peers-server": _taking(PEER, _on(lambda world: world.regions[PEER].server.pause())),
    "pause-peers-database": _taking(PEER, _on(lambda world: world.regions[PEER].cluster.pause())),
    "kill-both": Fault(_lose_both),
    "kill-witness": Fault(_on(World.lose_witness)),
    "pause-witness": Fault(_on(World.pause_witness)),
}
_BOTH_ALONE = _alone(HOME, without=PEER)
_LINKS: Mapping[str, Fault] = {
    "cut-peer": Fault(_cut(HOME, PEER), comes=_BOTH_ALONE),
    "cut-peer-there": Fault(_cut(HOME, PEER, both=False), comes=_BOTH_ALONE),
    "cut-peer-back": Fault(_cut(PEER, HOME, both=False), comes=_BOTH_ALONE),
    "cut-witness": Fault(_cut(HOME, WITNESS), comes=_silent(HOME)),
    "cut-witness-there": Fault(_cut(HOME, WITNESS, both=False), comes=_silent(HOME)),
    "cut-witness-back": Fault(_cut(WITNESS, HOME, both=False), comes=_silent(HOME)),
    "cut-peers-witness": Fault(_cut(PEER, WITNESS), comes=_silent(PEER)),
    "cut-all": _taking(HOME, _cut_from_all),
    "cut-witness-and-there": _taking(HOME, _cut_witness_and(HOME, PEER)),
    "cut-witness-and-back": _taking(HOME, _cut_witness_and(PEER, HOME)),
}


# -- disks and slots --------------------------------------------------------------------------------------------------


def _fill(region: str) -> Callable[[Stage], None]:
    return lambda stage: stage.world.disks[region].fill()


def _fill_log(region: str) -> Callable[[Stage], None]:
    """Also what the server had made ready for its log: it cannot write one commit more."""

    def strike(stage: Stage) -> None:
        stage.world.disks[region].fill()
        with suppress(psycopg.Error):
            for _ in range(_LOG_FILES):
                stage.world.query(region, "SELECT pg_logical_emit_message(true, 'chaos', 'x')")
                stage.world.query(region, "SELECT pg_switch_wal()")

    return strike


_RESOURCES: Mapping[str, Fault] = {
    "disk-full": Fault(_fill(HOME)),
    "disk-full-log": Fault(_fill_log(HOME)),
    "peers-disk-full": Fault(_fill(PEER)),
    "peers-disk-full-log": Fault(_fill_log(PEER)),
    "slot-dropped": Fault(slots.drop),
    "slot-outgrown": Fault(slots.outgrow),
}


# -- three regions ----------------------------------------------------------------------------------------------------


def _lose_two(stage: Stage) -> None:
    stage.lose(HOME)
    stage.lose(PEER)


def _lose_taker(stage: Stage, *, decided: bool) -> None:
    stage.lose(HOME)
    taker = stage.await_taker(HOME, decided=decided)
    # What it has decided is known to nobody else once it is gone.
    stage.look()
    stage.lose(taker)


def _pause_taker(stage: Stage) -> None:
    stage.lose(HOME)
    taker = stage.await_taker(HOME)
    stage.lost[taker] = time.monotonic()
    stage.world.regions[taker].server.pause()


def _cut_taker_off(stage: Stage) -> None:
    stage.lose(HOME)
    taker = stage.await_taker(HOME)
    stage.lost[taker] = time.monotonic()
    for other in (*stage.world.peers(taker), WITNESS):
        stage.world.links.cut(taker, other)


def _return_without_taker(stage: Stage) -> None:
    stage.lose(HOME)
    taker = stage.await_taker(HOME, decided=True)
    stage.look()
    stage.lose(taker)
    stage.await_taker(taker, decided=True)
    stage.look()
    stage.world.bring_back(HOME)


def _lose_while_guards_are_apart(stage: Stage) -> None:
    stage.world.links.cut(PEER, THIRD)
    stage.lose(HOME)


def _lose_with_one_guard_dropped(stage: Stage) -> None:
    world, number = stage.world, stage.world.regions[PEER].number
    world.links.cut(HOME, PEER)
    world.until(lambda: number not in world.entry(HOME).members, f"{PEER} is dropped")
    stage.lose(HOME)
    taker = stage.await_taker(HOME)
    assert taker == THIRD, f"{taker} has taken over, which was no guard"


def _cut_guards(stage: Stage) -> None:
    for guard in stage.world.peers(HOME):
        stage.world.links.cut(HOME, guard)


def _chained(stage: Stage) -> bool:
    """The taker was taken over as well."""
    return len(stage.taken.keys() - {HOME}) > 0


_THREE: Mapping[str, Fault] = {
    "cut-one-guard": Fault(_cut(HOME, PEER), comes=_BOTH_ALONE),
    "cut-guards": Fault(
        _cut_guards,
        comes=lambda stage: _alone(HOME, without=PEER)(stage) and _alone(HOME, without=THIRD)(stage),
    ),
    "cut-guards-apart": Fault(_cut(PEER, THIRD), comes=_alone(PEER, without=THIRD)),
    "kill-two": Fault(_lose_two, takes=frozenset({HOME, PEER})),
    "kill-while-guards-are-apart": _taking(HOME, _lose_while_guards_are_apart),
    "kill-with-one-guard-dropped": _taking(HOME, _lose_with_one_guard_dropped),
    "kill-then-taker": Fault(lambda stage: _lose_taker(stage, decided=True), comes=_chained),
    "kill-then-taker-at-once": Fault(lambda stage: _lose_taker(stage, decided=False), comes=_chained),
    "kill-then-pause-taker": Fault(_pause_taker, comes=_chained),
    "kill-then-cut-taker-off": Fault(_cut_taker_off, comes=_chained),
    "return-without-taker": Fault(_return_without_taker),
}

#: By name.
FAULTS: Mapping[str, Fault] = {**_PROCESSES, **_LINKS, **_RESOURCES, **_THREE}
