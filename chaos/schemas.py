"""A change of the schema while regions go on, in the order that the docs prescribe, and stopped half-way.

There is but one migration of Interlock's own, so a column that nobody asks for stands for the next one. It is made as
an operator's migration makes one: in one region after the other, and published by `interlock regions init` once all
have it. What is shown: payments, takeovers and returns go on between the two steps, in both orders; no column reaches a
peer that lacks it; and once it is published what is written to it arrives.
"""

import itertools
from contextlib import suppress

import psycopg
from psycopg import errors

from chaos.processes import command
from chaos.stage import HOME, PEER, Stage
from chaos.world import World

_SECONDS = 20.0
_numbers = itertools.count(1)


def migrated_there(stage: Stage) -> None:
    """The peer has the new column, as it should have first; the home has it not yet."""
    _begin(stage, first=PEER, then=HOME)


def migrated_here(stage: Stage) -> None:
    """The home has the new column and has set itself up again; the peer, which should have been first, has it not."""
    _begin(stage, first=HOME, then=PEER)


def _begin(stage: Stage, first: str, then: str) -> None:
    column = f"added_{next(_numbers)}"
    _add(stage.world, first, column)
    command(stage.world.regions[first].server.config, "regions", "init")
    stage.send_some(True, True, False)

    def go_on() -> None:
        _add(stage.world, then, column)
        for region in (then, first):
            command(stage.world.regions[region].server.config, "regions", "init")
        # Not before all is well again: a home that was taken over may not write.
        stage.world.await_whole()
        _write(stage.world, column)

    stage.afterwards.append(go_on)


def _add(world: World, region: str, column: str) -> None:
    """In a moment between two commits, tried until there is one: who waits for the lock holds up all others."""

    def added() -> bool:
        with suppress(errors.LockNotAvailable, psycopg.OperationalError):
            world.query(region, "SET lock_timeout = '200ms'; " + f"ALTER TABLE payments ADD COLUMN {column} integer")
            return True
        return False

    world.until(added, f"{region} has the column {column}", seconds=_SECONDS)


def _write(world: World, column: str) -> None:
    """What is written to the column in one region arrives in the other."""
    for here, there in ((HOME, PEER), (PEER, HOME)):
        number = world.regions[here].number
        (ids,) = world.query(here, "SELECT array(SELECT tx FROM payments WHERE region = %s LIMIT 5)", number)[0]
        world.query(here, f"UPDATE payments SET {column} = 7 WHERE region = %s AND tx = ANY (%s)", number, ids)
        filled = f"SELECT count(*) FROM payments WHERE {column} = 7 AND region = %s"
        assert isinstance(ids, list), "an array"
        (expected,) = world.query(here, filled, number)[0]
        _await_filled(world, there, filled, number, expected)


def _await_filled(world: World, region: str, filled: str, number: int, expected: object) -> None:
    world.until(
        lambda: world.query(region, filled, number) == [(expected,)],
        f"what was written to a new column has come to {region}", seconds=_SECONDS,
    )  # fmt: skip
