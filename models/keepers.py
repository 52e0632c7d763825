"""Two keepers of one home at once: each may sleep between any two of its steps, be stopped, and begin anew.

The transactions are left out: what counts is whether a peer that may take over could lack anything that the home has
made a fact without waiting for it. A request that the witness carries out late is a keeper that sleeps before it while
the other, as its later self, has gone on. A reseed, which empties a peer's copy, goes on beside them.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from interlock.regions import rules
from interlock.regions.rules import Entry, Post
from models.keeper import BUGS, RETURN_BUGS, Keeper, Scene, keeper_steps
from models.search import World

PEER = 2


class Setup(NamedTuple):
    """Bounds."""

    changes: int = 3
    versions: int = 4
    takeovers: int = 0
    reseeds: int = 0
    #: Guards may be dropped; facts may be committed that wait for nobody.
    drops: bool = True
    facts: bool = True


class Keepers(NamedTuple):
    """All there is."""

    post: Post = Post(2, frozenset({PEER}))
    entry: Entry = Entry(members=frozenset({PEER}))
    #: How long the home's log is, how much of it the peer has, and where the last fact is that waited for nobody.
    end: int = 1
    applied: int = 1
    fact: int = -1
    keepers: tuple[Keeper, ...] = (Keeper(), Keeper())
    #: The home as the post stood when one of its processes looked: it is alone, and will commit a fact.
    alone: Post | None = None
    #: The takeover that was completed, which the home has the record of.
    informed: int = 0
    #: Of the peer's reseed: how far it is, and the entry that it has read.
    reseed: str = "none"
    listens: bool = True
    ready: bool = True


RESEED_BUGS = {
    "empties_first": "a peer empties its copy before it is removed at the witness",
    "reseed_skips_removal": "a peer that is no member just now empties its copy without a new version at the witness",
    "reseed_still_acks": "a peer still listens, and acknowledges, when it is removed for a reseed",
    "ready_ignored": "a peer is added while its tables are still being copied",
}
FACT_BUGS = {
    "alone_no_epoch": "a fact that waits for nobody is committed whatever the epoch is now",
}


def wrong(world: Keepers) -> str | None:
    """What must never be."""
    entry, post = world.entry, world.post
    if entry.taker is None:
        if not entry.members <= post.guards:
            return "a peer may take over though the home does not wait for it"
        if entry.members and world.applied <= world.fact:
            return "a peer may take over without having what the home has made a fact"
        if entry.members and not world.ready:
            return "a peer may take over with tables that are not all there"
        if entry.generation > post.generation:
            return "the witness has forgotten a takeover that the home never took in"
    if post.generation < world.informed:
        return "the home has gone back to an epoch from before its takeover"
    return None


def _keeps(setup: Setup, world: Keepers, bug: str) -> Iterator[tuple[str, Keepers]]:
    ready = (PEER,) if world.ready or bug == "ready_ignored" else ()
    for at, keeper in enumerate(world.keepers):
        scene = Scene(
            world.post,
            world.entry,
            {PEER: world.applied - 1},
            ready,
            (PEER,),
            world.informed >= world.entry.generation > 0,
            world.end,
        )
        for did in keeper_steps(keeper, scene, bug):
            first = 2 if did.post.generation == 0 else 1
            if did.post.epoch % rules.CHANGES - first > setup.changes or did.entry.version > setup.versions:
                continue
            if did.keeper.at == "remove" and not setup.drops:
                continue
            both = list(world.keepers)
            both[at] = did.keeper
            after = world._replace(post=did.post, entry=did.entry, keepers=tuple(both))
            if did.post != world.post:
                after = after._replace(end=world.end + 1)
            yield f"keeper {at + 1}: {did.text}", after


def _home(setup: Setup, world: Keepers, bug: str) -> Iterator[tuple[str, Keepers]]:
    """Facts that wait for nobody: one position in the log stands for all of them."""
    post = world.post
    if not setup.facts:
        return
    if world.alone != post and rules.may_conclude(post, {}, 0):
        yield "home: a process sees that it is alone", world._replace(alone=post)
    if world.alone is not None and (world.alone.epoch == post.epoch or bug == "alone_no_epoch"):
        if world.fact == world.end - 1:
            return
        yield "home: commits a fact that waits for nobody", world._replace(fact=world.end, end=world.end + 1)


def _peer(setup: Setup, world: Keepers, bug: str) -> Iterator[tuple[str, Keepers]]:
    if world.listens and world.ready and world.applied < world.end:
        yield "peer: has everything up to now", world._replace(applied=world.end)
    entry = world.entry
    if entry.generation < setup.takeovers:
        granted = rules.granted(entry, Entry(), PEER, entry.generation + 1)
        if granted is not None:
            yield "witness: the peer may take over", world._replace(entry=granted)
    if entry.taker is not None and world.informed < entry.generation == world.post.generation:
        yield "home: has the record of completion", world._replace(informed=entry.generation)
    yield from _reseed(setup, world, bug)


def _reseed(setup: Setup, world: Keepers, bug: str) -> Iterator[tuple[str, Keepers]]:
    """Stop listening, so that nothing more is acknowledged; then off the members; only then empty the copy."""
    entry = world.entry
    emptied = world._replace(applied=0, ready=False, listens=False)
    match world.reseed:
        case "none" if setup.reseeds:
            if bug == "empties_first":
                yield "reseed: empties the copy", emptied._replace(reseed="emptied")
            else:
                listens = bug == "reseed_still_acks"
                yield "reseed: stops listening", world._replace(reseed="stopped", listens=listens)
        case "stopped":
            if bug == "reseed_skips_removal" and PEER not in entry.members:
                yield "reseed: sees that it is no member", world._replace(reseed="removed")
            else:
                removed = rules.removed(entry, PEER)
                if removed is not None and removed.version <= setup.versions:
                    yield "reseed: removes the peer at the witness", world._replace(entry=removed, reseed="removed")
        case "removed":
            yield "reseed: empties the copy", emptied._replace(reseed="emptied")
        case "emptied":
            copied = world._replace(applied=world.end, listens=True, reseed="copied")
            yield "reseed: copies begin, what is new comes in", copied
        case "copied":
            yield "reseed: all tables are there", world._replace(ready=True, applied=world.end, reseed="over")
        case _:
            pass


def _steps(setup: Setup, world: Keepers, bug: str) -> Iterator[tuple[str, Keepers]]:
    for part in (_keeps, _home, _peer):
        yield from part(setup, world, bug)


WORLDS: tuple[World[Keepers], ...] = (
    World(
        "keepers", "two keepers drop the guard and take it back", Keepers(), partial(_steps, Setup()), wrong,
        {**BUGS, "alone_no_epoch": FACT_BUGS["alone_no_epoch"]},
    ),
    World(
        "keepers-return", "two keepers of a home that was taken over and returns", Keepers(),
        partial(_steps, Setup(changes=2, versions=5, takeovers=2, drops=False, facts=False)), wrong, RETURN_BUGS,
    ),
    World(
        "reseed", "two keepers, while the peer's copy is emptied and filled again", Keepers(),
        partial(_steps, Setup(changes=2, versions=3, reseeds=1)), wrong, RESEED_BUGS,
    ),
)  # fmt: skip
