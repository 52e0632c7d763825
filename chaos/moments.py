"""What is so when a fault strikes."""

from collections.abc import Callable, Mapping

from chaos import schemas
from chaos.stage import HOME, PEER, Stage
from chaos.world import WITNESS

_SECONDS = 30.0


def held(stage: Stage) -> None:
    """Payments wait for a decision, and the guards know them."""
    stage.send_some(True, True, True)


def intended(stage: Stage) -> None:
    """Ends are intended and known at the guards, and that they are is not known at home."""
    stage.world.links.cut(HOME, WITNESS)
    for guard in stage.world.peers(HOME):
        stage.world.links.cut(guard, HOME, both=False)
    stage.send_some(True, False, False)


def unseen(stage: Stage) -> None:
    """What the home has taken has come to no guard."""
    for guard in stage.world.peers(HOME):
        stage.world.links.cut(HOME, guard)
    stage.send_some(True, False, False)


def half_seen(stage: Stage) -> None:
    """Of two guards one has what the home has taken, and the other one has not."""
    stage.world.links.cut(HOME, PEER)
    stage.send_some(True, False, False)


def returning(stage: Stage) -> None:
    """The home was lost and taken over, and is just being started again."""
    held(stage)
    stage.world.lose(HOME)
    stage.world.until(lambda: stage.world.is_decided(HOME), "the first takeover is complete", seconds=_SECONDS)
    stage.before = {region: stage.world.entry(region).generation for region in stage.world.regions}
    stage.world.bring_back(HOME)


def admitting(stage: Stage) -> None:
    """A guard has been cut off, and is about to be one again."""
    world = stage.world
    world.links.cut(HOME, PEER)
    stage.send_some(False)
    number = world.regions[PEER].number
    world.until(lambda: number not in world.entry(HOME).members, "the guard is dropped")
    held(stage)
    world.links.heal(HOME, PEER)
    world.until(lambda: PEER in world.status(HOME).guards, "the guard is taken in")


#: By name.
MOMENTS: Mapping[str, Callable[[Stage], None]] = {
    "held": held,
    "intended": intended,
    "unseen": unseen,
    "half-seen": half_seen,
    "returning": returning,
    "admitting": admitting,
    "migrated-there": schemas.migrated_there,
    "migrated-here": schemas.migrated_here,
}
