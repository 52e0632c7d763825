"""The worlds of `lease`: clocks that run at slightly different rates, and a process that may pause.

Real time goes in steps of half a second, and the witness's clock with it; the home's runs at nine or eleven tenths of
that, differently in every step. The witness gives the lease for five seconds from when it carries the request out;
the home counts them from before it asked. A takeover is granted once the lease has run out at the witness: that
condition is no function of `rules` (`Entry` knows no time), it belongs to the witness's own row.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from interlock.regions import rules
from interlock.regions.rules import Entry, Post
from models.search import World

PEER = 2
#: In hundredths of a second.
STEP, LEASE = 50, 500
RATES = (45, 55)
#: Longer than this nothing need be counted.
_FOREVER = LEASE + 2 * STEP


class Setup(NamedTuple):
    """Bounds."""

    #: For how many steps of time a process may pause between its check and its commit.
    pause: int = 1
    #: Whether what the home commits is at the peer at once.
    lags: bool = False


class Lease(NamedTuple):
    """All there is."""

    post: Post = Post(2, frozenset({PEER}))
    entry: Entry = Entry(members=frozenset({PEER}))
    #: At the witness: how long the lease still runs.
    left: int = LEASE
    #: At the home, by its own clock: how long ago it asked for the lease that it has.
    since: int = 0
    #: A request for a lease: how long ago it was sent, and whether the witness has carried it out.
    asked: int = -1
    given: bool = False
    #: A process that has checked the lease: for how many steps it has paused since; -1: none has.
    paused: int = -1
    #: The fact is committed; it is at the peer; the peer has decided by what it had.
    fact: bool = False
    copied: bool = False
    decided: bool = False
    cancelled: bool = False


BUGS = {
    "no_margin": "the lease is trusted to its last moment",
    "counted_from_answer": "the lease is counted from when its answer came",
    "granted_early": "the witness grants a takeover while the lease runs",
    "renewed_after_grant": "the witness renews the lease of a home that was taken over",
    "clock_stands": "the home's clock stands still while its machine is suspended",
    "clock_slow": "the home's clock runs at seven tenths",
}


def wrong(world: Lease) -> str | None:
    """What must never be."""
    return "two ends of one transaction: ACSC, CANC" if world.fact and world.cancelled else None


def _time(setup: Setup, world: Lease, bug: str) -> Iterator[tuple[str, Lease]]:
    """Half a second goes by. A process that has checked must be done within its pause."""
    if world.paused >= setup.pause and bug != "clock_stands":
        return
    rates = {"clock_slow": (35, *RATES), "clock_stands": (0, *RATES)}.get(bug, RATES)
    for rate in rates:
        yield (
            f"half a second goes by, {rate / 100} s at the home",
            world._replace(
                left=max(0, world.left - STEP),
                since=min(_FOREVER, world.since + rate),
                asked=world.asked if world.asked < 0 else min(_FOREVER, world.asked + rate),
                paused=world.paused if world.paused < 0 else min(setup.pause, world.paused + 1),
            ),
        )


def _home(_: Setup, world: Lease, bug: str) -> Iterator[tuple[str, Lease]]:
    if world.asked < 0:
        yield "home: asks for the lease", world._replace(asked=0, given=False)
    else:
        yield "home: the request is lost", world._replace(asked=-1, given=False)
    if world.given:
        since = 0 if bug == "counted_from_answer" else world.asked
        yield "home: has the lease", world._replace(since=since, asked=-1, given=False)
    now, until = world.since / 100, LEASE / 100
    if bug == "no_margin":
        until += rules.MARGIN_SECONDS
    if world.paused < 0 and not world.fact and rules.may_conclude_by_lease(world.post, now, until):
        yield f"home: checks, {now} s into its lease", world._replace(paused=0)
    if world.paused >= 0:
        yield "home: commits the fact", world._replace(paused=-1, fact=True)
    post = rules.fenced(world.post, world.entry)
    if post is not None:
        # Whoever has checked before finds another epoch when it commits.
        yield "home: is back, takes the generation into its post", world._replace(post=post, paused=-1)


def _witness(_: Setup, world: Lease, bug: str) -> Iterator[tuple[str, Lease]]:
    may_renew = world.entry.taker is None or bug == "renewed_after_grant"
    if world.asked >= 0 and not world.given and may_renew:
        yield "witness: gives the lease", world._replace(left=LEASE, given=True)
    granted = rules.granted(world.entry, Entry(), PEER, world.entry.generation + 1)
    if granted is not None and (world.left == 0 or bug == "granted_early"):
        yield "witness: the peer may take over", world._replace(entry=granted)


def _peer(setup: Setup, world: Lease, _: str) -> Iterator[tuple[str, Lease]]:
    if world.entry.taker is None or world.decided:
        if setup.lags and world.fact and not world.decided:
            yield "peer: has the fact", world._replace(copied=True)
        return
    has = world.fact and (world.copied or not setup.lags)
    text = "peer: has the end, leaves it" if has else "peer: has no end, cancels"
    yield text, world._replace(decided=True, cancelled=not has)


def _steps(setup: Setup, world: Lease, bug: str) -> Iterator[tuple[str, Lease]]:
    for part in (_time, _home, _witness, _peer):
        yield from part(setup, world, bug)


def _world(name: str, says: str, setup: Setup, window: str | None = None, *bugs: str) -> World[Lease]:
    return World(name, says, Lease(), partial(_steps, setup), wrong, {bug: BUGS[bug] for bug in bugs}, window)


WORLDS: tuple[World[Lease], ...] = (
    _world("lease", "pauses of half a second at most, no lag of replication", Setup(), None, *BUGS),
    _world(
        "lease-pause", "a pause of more than the margin between check and commit", Setup(pause=3),
        "a process that pauses for longer than the margin commits after the takeover",
    ),
    _world(
        "lease-lag", "the home's facts reach the peer late", Setup(lags=True),
        "what the home had ended and not yet replicated is decided again by the taker",
    ),
)  # fmt: skip
