"""A region's keeper: does what `rules.next_step` says, one step of the record 0012 after the other.

Two of them run at once, and each may stop anywhere and go on later.
"""

from collections.abc import Callable
from typing import Any

from interlock.regions import rules
from interlock.regions.rules import Admit, Drop, Entry, Fence, Peer, Post, Resume
from simulation.region import Region
from simulation.schedule import Call, Process, Steps, Until

_ROUND_SECONDS = 0.3
#: A peer that was not heard of for so long, or is so far behind, is not waited for.
_SILENT_SECONDS = 1.2
#: How long a peer has to flush the change of the post.
_ADMIT_SECONDS = 2.0


def begin(region: Region, process: Process) -> None:
    """A keeper."""
    region.world.schedule.start(process, "keeper", _keep(region))


def _keep(region: Region) -> Steps:
    marks: list[tuple[float, int]] = []
    world = region.world
    while True:
        yield _ROUND_SECONDS + world.schedule.moment()
        marks.append((world.schedule.now, region.db.position))
        marks = [mark for mark in marks if mark[0] >= world.schedule.now - 2 * _SILENT_SECONDS]
        entry: Entry | None = yield Call("w", _read(region))
        post = region.db.post
        yield world.schedule.moment()
        informed = entry is not None and region.informed(_asked(post, entry))
        peers = {peer: _seen(region, peer, marks) for peer in region.db.slots}
        step = rules.next_step(post, entry, peers, region.wanted, informed=informed)
        if step is None or entry is None:
            continue
        if world.tracing:
            world.trace(f"{region.node} keeper sees {_shown(post, entry)}: {step}")
        match step:
            case Drop():
                yield from _drop(region, entry, post, step.peer)
            case Admit():
                yield from _admit(region, entry, post, step.peer)
            case Fence():
                region.change_post(post, step.post, "fenced")
            case Resume():
                yield from _resume(region, entry, post)


def _asked(post: Post, entry: Entry) -> int:
    """Of which takeover it must be told: a fenced post says so, for the entry may be older than that."""
    return post.generation if post.fenced else entry.generation


def _shown(post: Post, entry: Entry) -> str:
    return (
        f"post {post.epoch} {sorted(post.guards)}, entry {entry.version}: generation {entry.generation}, "
        f"members {sorted(entry.members)}, taker {entry.taker}"
    )


def _read(region: Region) -> Callable[[Callable[[Any], None]], None]:
    return lambda reply: reply(region.world.witness.entries[region.number])


def _replace(region: Region, read: Entry, entry: Entry | None) -> Call:
    return Call("w", lambda reply: reply(region.world.witness.replace(region.number, read, entry)))


def _seen(region: Region, peer: int, marks: list[tuple[float, int]]) -> Peer:
    now, slot = region.world.schedule.now, region.db.slots[peer]
    old = [position for at, position in marks if at <= now - _SILENT_SECONDS]
    follows = not old or slot.flushed >= old[-1]
    heard = now - slot.heard < _SILENT_SECONDS
    return Peer(healthy=heard and (follows or peer not in region.db.post.guards), ready=slot.ready)


def _drop(region: Region, entry: Entry, post: Post, peer: int) -> Steps:
    plants, without = region.world.plants, post.change(post.guards - {peer})
    if plants.post_before_witness:
        if region.change_post(post, without, f"without {peer}"):
            yield region.world.schedule.moment()
            yield _replace(region, entry, rules.removed(entry, peer))
        return
    if plants.removed_without_version and peer not in entry.members and entry.taker is None:
        done = True
    else:
        done = yield _replace(region, entry, rules.removed(entry, peer))
    yield region.world.schedule.moment()
    if done:
        region.change_post(post, without, f"without {peer}")


def _admit(region: Region, entry: Entry, post: Post, peer: int) -> Steps:
    world = region.world
    if not region.change_post(post, post.change(post.guards | {peer}), f"with {peer}"):
        return
    position, until = region.db.position, world.schedule.now + _ADMIT_SECONDS
    while not world.plants.added_without_flush and region.flushed().get(peer, -1) < position:
        if world.schedule.now >= until:
            return
        yield Until(region.stirred, until - world.schedule.now)
    yield world.schedule.moment()
    done = yield _replace(region, entry, rules.added(entry, peer))
    if world.tracing:
        world.trace(f"{region.node} keeper: {peer} {'is' if done else 'did not become'} a member")


def _resume(region: Region, entry: Entry, post: Post) -> Steps:
    if post.fenced and not region.world.plants.nothing_left:
        # Before anybody can be admitted who has our changes, but not the taker's.
        region.db.leave()
        yield region.world.schedule.moment()
    if post.fenced and not region.change_post(post, rules.resumed(post), "resumed"):
        return
    yield region.world.schedule.moment()
    yield _replace(region, entry, rules.returned(entry, post.generation))
