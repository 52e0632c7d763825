"""The grid: which fault strikes at which moment, under which dials, in which world.

Not every cell is a scenario. Left out is what another cell says already: for instance `lease` differs from `strict`
only in what an end waits for, so it is played where ends are cut off from somebody; and a moment that cuts what the
fault cuts is the fault alone.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

AVAILABLE, CONSISTENT = "available", "consistent"
STRICT, LEASE = "strict", "lease"
_USUAL = ((AVAILABLE, STRICT), (CONSISTENT, STRICT))
_ALL = (*_USUAL, (AVAILABLE, LEASE), (CONSISTENT, LEASE))
_THREE_DIALS = (*_USUAL, (AVAILABLE, LEASE))


class Scenario(NamedTuple):
    """A cell of the grid."""

    #: `two` or `three` regions, or two of which the disks can become `full`.
    world: str
    fault: str
    moment: str
    consistency: str
    fencing: str

    @property
    def name(self) -> str:
        """As `--only` looks for it."""
        return "/".join(self)


#: What takes the home away, or is at once in the way of it and of its guard.
_HOME = (
    "kill-region", "kill-server", "kill-database", "pause-server", "pause-database", "pause-between-check-and-commit",
    "pause-within-commit", "cut-all", "cut-witness-and-there", "cut-witness-and-back",
)  # fmt: skip
#: Of these the ones that differ most in what a lease may do.
_HOME_LEASE = ("kill-region", "pause-server", "pause-between-check-and-commit", "cut-all")
#: What happens to the peer, the witness, or a link.
_OTHERS = (
    "kill-peer", "kill-peers-server", "kill-peers-database", "pause-peers-server", "pause-peers-database", "kill-both",
    "kill-witness", "pause-witness", "hang-within-commit", "cut-peer", "cut-peer-there", "cut-peer-back", "cut-witness",
    "cut-witness-there", "cut-witness-back", "cut-peers-witness",
)  # fmt: skip
_WITNESS = ("kill-witness", "pause-witness", "cut-witness", "cut-witness-there", "cut-witness-back")
_RESOURCES = ("disk-full", "disk-full-log", "peers-disk-full", "peers-disk-full-log")
_SLOTS = ("slot-dropped", "slot-outgrown")
_MIGRATING = ("nothing", "kill-region", "pause-server", "cut-peer", "kill-peer", "cut-all")
_THREE_FAULTS = (
    "kill-region", "pause-server", "pause-between-check-and-commit", "cut-all", "cut-one-guard", "cut-guards",
    "cut-guards-apart", "kill-two", "kill-while-guards-are-apart", "kill-with-one-guard-dropped", "kill-then-taker",
    "kill-then-taker-at-once", "kill-then-pause-taker", "kill-then-cut-taker-off", "return-without-taker",
)  # fmt: skip
#: These begin by waiting for something that the moment forbids: a guard that is cut off is no guard any more.
_ALONE_WITH_GUARDS = ("kill-with-one-guard-dropped",)


def _two() -> Iterator[Scenario]:
    for fault, moment, dials in product(_HOME, ("held", "intended", "unseen", "returning", "admitting"), _THREE_DIALS):
        yield Scenario("two", fault, moment, *dials)
    for fault, moment in product(_HOME_LEASE, ("held", "intended", "returning")):
        yield Scenario("two", fault, moment, CONSISTENT, LEASE)
    for fault, moment, dials in product(_OTHERS, ("held", "returning", "admitting"), _USUAL):
        yield Scenario("two", fault, moment, *dials)
    for fault in _OTHERS:
        yield Scenario("two", fault, "held", AVAILABLE, LEASE)
    for fault in _WITNESS:
        yield Scenario("two", fault, "unseen", AVAILABLE, STRICT)
    for fault, moment, dials in product(_SLOTS, ("held", "unseen"), _USUAL):
        yield Scenario("two", fault, moment, *dials)
    for fault, moment in product(_MIGRATING, ("migrated-there", "migrated-here")):
        yield Scenario("two", fault, moment, AVAILABLE, STRICT)


def _full() -> Iterator[Scenario]:
    for fault, moment, dials in product(_RESOURCES, ("held", "intended"), _USUAL):
        yield Scenario("full", fault, moment, *dials)
    for fault in _RESOURCES:
        yield Scenario("full", fault, "returning", AVAILABLE, STRICT)
        yield Scenario("full", fault, "held", AVAILABLE, LEASE)


def _three() -> Iterator[Scenario]:
    for fault, moment in product(_THREE_FAULTS, ("held", "half-seen", "intended")):
        if fault in _ALONE_WITH_GUARDS and moment != "held":
            continue
        yield Scenario("three", fault, moment, AVAILABLE, STRICT)
        if moment != "intended":
            yield Scenario("three", fault, moment, CONSISTENT, STRICT)
    for fault in ("kill-region", "pause-server", "cut-all", "kill-then-taker"):
        yield Scenario("three", fault, "returning", AVAILABLE, STRICT)
        yield Scenario("three", fault, "held", AVAILABLE, LEASE)


def scenarios(only: str = "") -> Sequence[Scenario]:
    """All whose name has that in it."""
    return [scenario for scenario in (*_two(), *_full(), *_three()) if only in scenario.name]
