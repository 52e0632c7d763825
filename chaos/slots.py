"""Replication slots that are lost while their peer is away, and the copy that is made anew."""

import time
from contextlib import suppress

import psycopg

from chaos.processes import command
from chaos.stage import HOME, PEER, Stage
from chaos.world import World
from interlock.stores.postgres.subscriptions import slot

_SECONDS = 20.0
_TINY, _USUAL = "1MB", "1GB"
_LOG = "SELECT count(pg_logical_emit_message(false, 'chaos', repeat('x', 500000))) FROM generate_series(1, 40)"


def drop(stage: Stage) -> None:
    """The peer is killed, and an operator drops its slot at home."""
    stage.lose(PEER)
    name = _name(stage.world)

    def dropped() -> bool:
        # As long as the server has not noticed that its reader is gone, it is in use.
        with suppress(psycopg.errors.ObjectInUse):
            stage.world.query(HOME, "SELECT pg_drop_replication_slot(%s)", name)
            return True
        return False

    stage.world.until(dropped, f"the slot {name} is dropped", seconds=_SECONDS)
    _begin(stage)


def outgrow(stage: Stage) -> None:
    """The peer is killed and stays away for longer than the home may keep its log for it."""
    world, name = stage.world, _name(stage.world)
    stage.lose(PEER)
    cluster = world.regions[HOME].cluster
    cluster.configure(max_slot_wal_keep_size=_TINY)

    def lost() -> bool:
        cluster.query(_LOG)
        cluster.query("SELECT pg_switch_wal()")
        cluster.query("CHECKPOINT")
        found = world.query(HOME, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", name)
        return found == [("lost",)]

    try:
        world.until(lost, f"the slot {name} is lost", seconds=_SECONDS)
    finally:
        cluster.configure(max_slot_wal_keep_size=_USUAL)
    _begin(stage)


def _begin(stage: Stage) -> None:
    stage.struck = time.monotonic()
    stage.afterwards.append(lambda: _reseed(stage.world))


def _name(world: World) -> str:
    return slot(world.regions[HOME].number, world.regions[PEER].number)


def _reseed(world: World) -> None:
    """What the operator does at the peer, once the home does not count on it."""
    world.until(lambda: PEER not in world.status(HOME).guards, f"{PEER} is dropped", seconds=_SECONDS)
    command(world.regions[PEER].server.config, "regions", "reseed", HOME, "--yes")
