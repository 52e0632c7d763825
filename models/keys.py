"""The worlds of keys: one payment, submitted in several regions, each of which reserves its keys for itself.

Before a region releases, every guard must have its attempt; then it looks for the same payment of other regions, and
`regions.rivals` says whose turn it is. What a lost region had intended its taker decides, with the same look. An
attempt is named by its region here; the lower one came first.
"""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

from interlock.regions.rivals import PATIENCE, Rival, Turn, taken_turn, turn
from models.search import World

#: That the first region had the intent before its attempt was paid, as the end's event says.
_CONFIRMED = "was confirmed"
_KEY, _GIVES_WAY, _PAID, _FAILED = "intends to release", "intends to fail", "paid", "failed"
_NO_TIME = timedelta(0)


class Setup(NamedTuple):
    """Bounds."""

    regions: int = 2
    #: The call wants every region to have a payment before it settles.
    everywhere: bool = False
    #: Regions that may drop their guards.
    drops: frozenset[int] = frozenset()
    #: The first region may be lost; the second takes it over.
    lost: bool = False
    #: The second may have dropped it as its guard before.
    drops_before: bool = False


class Rec(NamedTuple):
    """A commit of a region: what became of whose attempt."""

    what: str
    attempt: int


class Region(NamedTuple):
    """One region: its log, how much of each other's log it has, and the guards in its post."""

    log: tuple[Rec, ...] = ()
    has: tuple[int, ...] = ()
    guards: frozenset[int] = frozenset()
    epoch: int = 0
    #: What its last look for rivals came to, and under which epoch; None: it has not looked, or has acted on it.
    looked: tuple[Turn, int] | None = None
    #: Whether the first region had the attempt then.
    confirmed: bool = False


class Keys(NamedTuple):
    """All there is."""

    regions: tuple[Region, ...]
    #: The first region: 'up'; 'granted' to the second, which then 'cut's it off, and has 'decided'.
    first: str = "up"


BUGS = {
    "looks_unacked": "a region looks for rivals before its guards have its attempt",
    "first_goes_on": "who came first goes on without waiting for the others to give way",
    "settled_unseen": "what another has settled is no rival any more",
}
BUGS_THREE = {**BUGS, "any_guard": "one guard's word is enough"}
BUGS_CUT = {"alone_is_enough": "`everywhere` is forgotten where the other region is no guard"}
BUGS_LOST = {
    "same_end": "the taker makes the lost region's release a fact, whatever has settled meanwhile",
    "waits_for_none": "the taker does not wait for what it is about to settle itself",
}


def start(setup: Setup) -> Keys:
    """Everybody is everybody's guard, and nothing has happened."""
    names = range(setup.regions)
    return Keys(tuple(Region(has=(0,) * len(names), guards=frozenset(names) - {own}) for own in names))


def _ends(world: Keys) -> set[Rec]:
    return {rec for region in world.regions for rec in region.log if rec.what in (_PAID, _FAILED)}


def two_ends(world: Keys) -> str | None:
    """What must never be, whatever the setting."""
    ends = _ends(world)
    return "two ends of one attempt" if len({rec.attempt for rec in ends}) < len(ends) else None


def wrong(world: Keys) -> str | None:
    """What must never be: two attempts paid, or two ends of one."""
    ends = _ends(world)
    if two_ends(world):
        return two_ends(world)
    return "two attempts of one payment are paid" if sum(rec.what == _PAID for rec in ends) > 1 else None


# -- what is known where ----------------------------------------------------------------------------------------------


def _known(world: Keys, own: int) -> set[Rec]:
    """All that a region has: its own log, and of the others' what came."""
    logs = (
        (region.log if at == own else region.log[: world.regions[own].has[at]])
        for at, region in enumerate(world.regions)
    )
    return {rec for log in logs for rec in log}


def _rivals(world: Keys, own: int, attempt: int) -> list[Rival]:
    """Attempts besides this one that hold the payment, in the eyes of a region."""
    known = _known(world, own)
    others = {rec.attempt for rec in known if rec.what == _KEY} - {attempt}
    live = sorted(other for other in others if Rec(_FAILED, other) not in known)
    return [
        Rival(UUID(int=other), settled=Rec(_PAID, other) in known, settles=Rec(_PAID, other) not in known)
        for other in live
    ]


def _is_there(setup: Setup, world: Keys, own: int, bug: str) -> bool:
    """Whether everybody who must has the last that the region intends for its attempt."""
    others = frozenset(range(setup.regions)) - {own}
    gone = {0} if own == 1 and world.first in ("cut", "decided") else set()
    wanted = world.regions[own].guards - gone
    if setup.everywhere and bug != "alone_is_enough":
        wanted |= others - gone
    place = max(at for at, rec in enumerate(world.regions[own].log) if rec.attempt == own)
    having = {other for other in wanted if world.regions[other].has[own] > place}
    return bool(having) if bug == "any_guard" and wanted else having == wanted


def _put(world: Keys, own: int, region: Region) -> Keys:
    regions = list(world.regions)
    regions[own] = region
    return world._replace(regions=tuple(regions))


def _write(world: Keys, own: int, what: str, attempt: int) -> Keys:
    region = world.regions[own]
    looked = None if attempt == own else region.looked
    return _put(world, own, region._replace(log=(*region.log, Rec(what, attempt)), looked=looked))


def _is_open(world: Keys, own: int) -> bool:
    """Whether the region's own attempt has no end."""
    known = world.regions[own].log
    return Rec(_KEY, own) in known and not {Rec(_PAID, own), Rec(_FAILED, own)} & set(known)


# -- the steps --------------------------------------------------------------------------------------------------------


def _region_steps(setup: Setup, world: Keys, own: int, bug: str) -> Iterator[tuple[str, Keys]]:
    region = world.regions[own]
    if Rec(_KEY, own) not in region.log and not _rivals(world, own, own):
        yield f"{own}: takes the payment", _write(world, own, _KEY, own)
    if _is_open(world, own):
        if Rec(_GIVES_WAY, own) not in region.log:
            yield from _looks(setup, world, own, bug)
            yield from _acts(world, own, bug)
        elif _is_there(setup, world, own, bug):
            yield f"{own}: fails", _write(world, own, _FAILED, own)
    if region.guards and _may_drop(setup, world, own):
        after = region._replace(guards=frozenset(), epoch=region.epoch + 1)
        yield f"{own}: drops its guards", _put(world, own, after)


def _may_drop(setup: Setup, world: Keys, own: int) -> bool:
    """A region that another may take over cannot drop it any more; its taker drops it once it hears no more of it."""
    if own not in setup.drops or (own == 0 and world.first != "up"):
        return False
    return setup.everywhere or setup.drops_before or not setup.lost or world.first in ("cut", "decided")


def _looks(setup: Setup, world: Keys, own: int, bug: str) -> Iterator[tuple[str, Keys]]:
    if bug != "looks_unacked" and not _is_there(setup, world, own, bug):
        return
    region, rivals = world.regions[own], _rivals(world, own, own)
    if bug == "settled_unseen":
        rivals = [rival for rival in rivals if not rival.settled]
    seen = region._replace(confirmed=own == 1 and world.regions[0].has[own] > 0)
    for waited in (_NO_TIME, PATIENCE):
        found = turn(UUID(int=own), rivals, waited)
        if bug == "first_goes_on" and found is Turn.WAIT:
            found = Turn.GO
        yield f"{own}: looks: {found.name}", _put(world, own, seen._replace(looked=(found, region.epoch)))


def _acts(world: Keys, own: int, bug: str) -> Iterator[tuple[str, Keys]]:
    """On what was seen, unless the epoch is another by now."""
    region = world.regions[own]
    if region.looked is None or (region.looked[1] != region.epoch and bug != "old_look"):
        return
    if region.looked[0] is Turn.GO:
        after = _write(world, own, _PAID, own)
        if region.confirmed:
            after = _write(after, own, _CONFIRMED, own)
        yield f"{own}: settles", after
    if region.looked[0] is Turn.YIELD:
        yield f"{own}: gives way", _write(world, own, _GIVES_WAY, own)


def _replicates(_: Setup, world: Keys, __: str) -> Iterator[tuple[str, Keys]]:
    for own, region in enumerate(world.regions):
        for other, place in enumerate(region.has):
            is_cut = own == 1 and other == 0 and world.first in ("cut", "decided")
            if other != own and not is_cut and place < len(world.regions[other].log):
                has = (*region.has[:other], place + 1, *region.has[other + 1 :])
                yield f"{own}: has the next of {other}'s log", _put(world, own, region._replace(has=has))


def _takes(setup: Setup, world: Keys, bug: str) -> Iterator[tuple[str, Keys]]:
    """The second region is granted the first, raises its own epoch, cuts it off, and decides what it has of it."""
    if not setup.lost or not world.regions[0].guards:
        return
    taker = world.regions[1]
    if world.first == "up":
        after = _put(world, 1, taker._replace(epoch=taker.epoch + 1))
        yield "1: takes 0 over, raises its epoch", after._replace(first="granted")
    if world.first == "granted":
        yield "1: hears no more of 0", world._replace(first="cut")
    known = _known(world, 1)
    if world.first == "cut" and Rec(_KEY, 0) in known and not {Rec(_PAID, 0), Rec(_FAILED, 0)} & known:
        rivals = [rival for rival in _rivals(world, 1, 0) if rival.transaction.int == 1]
        had = {rival.transaction for rival in rivals if Rec(_CONFIRMED, 1) in known or bug == "confirmed_by_nobody"}
        found = taken_turn(rivals, had)
        if bug == "same_end" or (bug == "waits_for_none" and found is Turn.WAIT):
            found = Turn.GO
        if Rec(_GIVES_WAY, 0) in known:
            found = Turn.YIELD
        if found is not Turn.WAIT:
            did = "settles" if found is Turn.GO else "rejects"
            after = _write(world, 1, _PAID if found is Turn.GO else _FAILED, 0)
            yield f"1: as taker, {did} 0's attempt", after._replace(first="decided")


def _steps(setup: Setup, world: Keys, bug: str) -> Iterator[tuple[str, Keys]]:
    for own in range(setup.regions):
        yield from _region_steps(setup, world, own, bug)
    yield from _replicates(setup, world, bug)
    yield from _takes(setup, world, bug)


def _world(name: str, says: str, setup: Setup, bugs: dict[str, str], window: str | None = None) -> World[Keys]:
    return World(name, says, start(setup), partial(_steps, setup), wrong, bugs, window)


_ALONE = Setup(lost=True, drops_before=True, drops=frozenset({1}))
WORLDS: tuple[World[Keys], ...] = (
    _world("keys", "two regions take one payment", Setup(), BUGS),
    _world("keys-three", "three regions take one payment", Setup(regions=3), BUGS_THREE),
    _world("keys-cut", "`everywhere`: two regions, and either may drop the other",
           Setup(everywhere=True, drops=frozenset({0, 1})), BUGS_CUT),
    _world("keys-lost", "the first region is lost, the second takes it over and drops it",
           Setup(lost=True, drops=frozenset({1})), BUGS_LOST),
    _world("keys-lost-cut", "`everywhere`: the same, and it is dropped at any time",
           Setup(lost=True, everywhere=True, drops=frozenset({0, 1})), BUGS_LOST),
    World("keys-lost-alone", "the first is lost, and the second may have dropped it before: no attempt ends twice",
          start(_ALONE), partial(_steps, _ALONE), two_ends,
          {"confirmed_by_nobody": "the taker rejects what it has settled itself, whether or not the home knew"}),
    _world("keys-alone", "without `everywhere`, and the second may drop the first", Setup(drops=frozenset({1})), {},
           window="a region that is alone settles what another that it does not hear of settles too"),
)  # fmt: skip
