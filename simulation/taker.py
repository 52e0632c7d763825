"""Watching peers, taking over one that is gone, and listening to it again once it knows.

Two takers of a region run at once, as two processes can that both think they lead.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from interlock.iso20022.codes import Status
from interlock.lifecycle import Standing, State
from interlock.ports import Won
from interlock.regions import rules
from interlock.regions.rivals import Rival, Turn, taken_turn
from interlock.regions.rules import Entry, OnTakeover, Post
from interlock.stages import way
from interlock.transaction import Change, Transaction, home_of
from simulation.region import Region, Unavailable
from simulation.schedule import Call, Process, Steps, Until

_ROUND_SECONDS = 0.6
#: Failures in a row after which a peer is taken for dead.
_DEAD_AFTER = 3
#: How long a look at the world may last before what it saw is looked at again.
_WORKER_SECONDS = 0.2


def begin(region: Region, process: Process) -> None:
    """A taker."""
    region.world.schedule.start(process, "taker", _watch(region))


def _watch(region: Region) -> Steps:
    world = region.world
    failures = dict.fromkeys(region.peers, 0)
    while True:
        yield _ROUND_SECONDS + world.schedule.moment()
        for home in region.peers:
            answer = yield Call(f"r{home}", lambda reply, home=home: reply(_alive(world.regions[home])))
            failures[home] = 0 if answer else failures[home] + 1
            entry: Entry | None = yield Call("w", lambda reply, home=home: reply(world.witness.entries[home]))
            if entry is None:
                continue
            ordered = (region.number, home) in world.orders
            wanted = failures[home] >= _DEAD_AFTER or ordered
            if entry.taker is None and wanted and _can_take(region, home, entry):
                world.orders.discard((region.number, home))
                entry = yield Call("w", lambda reply, home=home: reply(world.witness.grant(home, region.number)))
            if entry is None:
                continue
            if entry.taker == region.number and not region.db.has_completed(home, entry.generation):
                yield from _take_over(region, home, entry)
            else:
                yield from _listen(region, home, entry)


def _alive(home: Region) -> bool:
    """A deep probe: not only that somebody answers."""
    return any(process.up and process.paused_until <= home.world.schedule.now for process in home.processes)


def _can_take(region: Region, home: int, entry: Entry) -> bool:
    """Asked for only by a member that has all its tables and is not itself taken over, as far as it knows."""
    subscription = region.db.subscriptions[home]
    return region.number in entry.members and subscription.ready and not region.db.post.fenced


def _take_over(region: Region, home: int, entry: Entry) -> Steps:
    """Everything that a granted takeover is: once more from the beginning, wherever it was left."""
    world = region.world
    if world.tracing:
        world.trace(f"{region.node} takes over region {home}, generation {entry.generation}")
    raised: Post | None = yield from _raised(region, home, entry)
    if raised is None:
        return
    yield world.schedule.moment()
    subscription = region.db.subscriptions[home]
    if not world.plants.cancel_without_cut:
        if region.db.post.epoch != raised.epoch:
            return  # somebody else is at it, or has done it; what they have opened stays open
        subscription.enabled = False
        yield world.schedule.moment()
        while subscription.running:
            yield Until(region.stirred, _WORKER_SECONDS)
        if world.tracing:
            world.trace(f"{region.node} has cut region {home} off at {subscription.applied}")
    for _ in range(8):
        # In this order: whoever has completed it has changed the post since.
        post = region.db.post
        yield world.schedule.moment()
        if post.fenced or region.db.has_completed(home, entry.generation):
            return
        yield world.schedule.moment()
        left = [row for row in region.db.open() if row.region == home and not region.db.is_left(row)]
        sure = yield from _decided(region, home, entry, post, left)
        if sure and (yield from _completed(region, home, entry, post)):
            return


def _raised(region: Region, home: int, entry: Entry) -> Steps:
    """The generation goes into our own post first: what we decide outranks whatever was written before."""
    post = region.db.post
    yield region.world.schedule.moment()
    if post.fenced:
        return None
    raised = rules.taking(post, entry.generation)
    done = region.change_post(post, raised, "takes over", begun=(home, entry.generation))
    return raised if done else None


def _decided(region: Region, home: int, entry: Entry, post: Post, left: list[Transaction]) -> Steps:
    """Decide each; False where one was not, and must be looked at again."""
    world, sure = region.world, True
    for seen in left:
        yield world.schedule.moment()
        row = region.db.get(seen.id)
        if row is None or row.region != home:
            continue  # another taker of ours has decided it
        verdict = rules.verdict(row.standing.state, row.epoch, rules.takeover_epoch(entry), world.rule(row))
        if verdict is None:
            continue
        try:
            change = _change(region, row, post, verdict, entry)
        except Unavailable:
            return False
        if change is None:
            sure = False
            yield _WORKER_SECONDS
        elif isinstance(region.commit(change), Won):
            world.note(region, change)
            if world.driven_at_once(verdict):
                world.drive_again(region, row.id)
        else:
            present = region.db.get(row.id)
            sure &= present is not None and present.region == region.number
    return sure


def _counts(region: Region, row: Transaction, rival: Rival, entry: Entry) -> bool:
    """Whether it is a guard's, without which the home settled nothing; of two that are ours the first comes first."""
    home = home_of(rival.transaction)
    guards = row.everywhere or home in entry.members or home == region.number
    return guards and (rival.settled or home not in region.db.taken() or rival.transaction < row.id)


def _change(region: Region, row: Transaction, post: Post, verdict: OnTakeover, entry: Entry) -> Change | None:
    """What the taker writes of a transaction: a row of its own; None while another is about to settle the payment."""
    if region.world.plants.taker_ignores_intent and row.standing.state is State.ENDING:
        row = replace(row, standing=Standing(State.ACSP, row.standing.status), answer_digest=None)
    course = region.steps(row, post)
    if post.fenced:
        raise Unavailable("fenced")
    if row.standing.end is Status.ACSC and not region.world.plants.taker_looks_nowhere:
        rivals = [one for one in region.db.rivals(row) if _counts(region, row, one, entry)]
        confirmed = {
            one.transaction
            for one in rivals
            if one.settled and way.confirmed(region.db.history(one.transaction), row.region)
        }
        match taken_turn(rivals, confirmed):
            case Turn.WAIT:
                return None
            case Turn.YIELD if way.yield_to(course, rivals):
                return region.owned(way.finish(course, *region.facts(row)), row)
    way.taken_over(course, verdict.event, region.world.route(row))
    if row.standing.state is State.ENDING:
        body = region.answer(row)
        return region.owned(way.ended_as_intended(course, None if body is None else body.definition), row)
    inspection, payments = region.facts(row)
    return region.owned(way.finish(course, inspection, payments), row)


def _completed(region: Region, home: int, entry: Entry, post: Post) -> Steps:
    """The record, with a new epoch: another taker of ours that is still at it decides nothing any more."""
    world = region.world
    yield world.schedule.moment()
    after = post if world.plants.completed_without_epoch else rules.taken(post)
    generation = entry.generation
    done = region.change_post(post, after, f"takeover of {home} complete", completed=(home, generation))
    if done:
        world.look_for_consistent(region, home)
    return done


def _listen(region: Region, home: int, entry: Entry) -> Steps:
    """Open the subscription again, once the home's database says that it knows of the takeover, and tell it so.

    All under the epoch that was read first: another takeover that has begun since has made a new one.
    """
    world, subscription, own = region.world, region.db.subscriptions[home], region.db.post
    generation = region.db.generation_of(home)
    if entry.retired:
        return  # it never goes on: what is its taker's stays so
    if subscription.enabled or own.fenced or not region.db.has_completed(home, generation):
        return
    yield world.schedule.moment()
    post: Post | None = yield Call(f"r{home}", _read_post(world.regions[home]))
    early = world.plants.opened_too_early and entry.taker is not None
    if post is None or (post.generation < generation and not early):
        return
    yield world.schedule.moment()
    # From here on nothing of the home's is ours, and whatever we have begun of it counts no more.
    if region.change_post(own, rules.taken(own), f"region {home} is back", returned=(home, generation)):
        subscription.enabled = True
        world.trace(f"{region.node} listens to region {home} again")


def _read_post(home: Region) -> Callable[[Callable[[Any], None]], None]:
    return lambda reply: reply(None if home.lost else home.db.post)
