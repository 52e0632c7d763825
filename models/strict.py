"""The worlds of `strict`: one transaction, its home 1, one or two peers, the witness; no clock anywhere.

Whatever happens to the transaction is asked of `lifecycle`, whatever happens to the regions of `regions.rules`. A part
that is slow, paused, dead or cut off takes no step. Each world opens some of the doors (keeper's changes, return, a
second process of the taker) and leaves the others shut, so that it can be searched to its end.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

from interlock import lifecycle
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind, Standing, State
from interlock.regions import rules
from interlock.regions.rules import Entry, Post
from models import keeper as keepers
from models.keeper import Keeper, Scene, keeper_steps
from models.search import World

#: The home's first epoch, beyond its peers': epochs of two regions have nothing to do with each other.
FIRST = 2
_FINAL_WORDS = (EventKind.DOWNSTREAM_YES, EventKind.DOWNSTREAM_NO)


class Setup(NamedTuple):
    """Which doors of a world are open."""

    peers: tuple[int, ...] = (2,)
    #: What the home may begin with the transaction.
    begins: tuple[EventKind, ...] = ()
    #: The home's clock may run out.
    deadline: bool = False
    #: How often the post may change within a generation by its keeper, and the entry in all.
    changes: int = 0
    versions: int = 6
    #: Whether guards are dropped; where they are not, none are taken in before the first takeover either.
    drops: bool = True
    #: How many takeovers there may be, and whether the home comes back.
    takeovers: int = 1
    returns: bool = True
    #: Processes of each taker that do the same work.
    processes: int = 1
    rule: str = "cancel"
    #: Members at the start, where not every peer is one.
    members: tuple[int, ...] = ()


class Rec(NamedTuple):
    """A commit of the home that matters: of the transaction, or (no standing) of the post."""

    epoch: int
    standing: Standing | None


class Worker(NamedTuple):
    """A process of the home that ends the transaction or hands it over, with what it knew when it last looked."""

    at: str = "idle"
    post: Post = Post()
    #: Where the intent was committed that it waits for.
    mine: int = -1


class Taker(NamedTuple):
    """A process of a peer that does a takeover: the number of it, and the peer's own post, as it has read them."""

    at: str = "idle"
    post: Post = Post()
    generation: int = 0


class Row(NamedTuple):
    """A row of the transaction that a taker has written: its own, beside the home's."""

    epoch: int
    standing: Standing


class Region(NamedTuple):
    """A peer."""

    #: How much of the home's log it has on disk, and whether more comes in.
    applied: int = 0
    subscribed: bool = True
    post: Post = Post()
    row: Row | None = None
    #: The takeover that it has begun, has cut the home off for, and has completed.
    begun: int = 0
    cut: int = 0
    completed: int = 0
    #: The newest record of completion that it has: its own, or another's by that one's stream.
    told: int = 0
    processes: tuple[Taker, ...] = (Taker(),)


class Strict(NamedTuple):
    """All there is."""

    post: Post
    entry: Entry
    log: tuple[Rec, ...]
    peers: tuple[Region, ...]
    worker: Worker = Worker()
    keeper: Keeper = Keeper()
    #: The newest record of completion that the home has.
    told: int = 0
    #: What the downstream has said.
    word: Status | None = None


BUGS: Mapping[str, str] = {
    "no_epoch_check": "a fact is committed whatever the epoch is now",
    "no_ack": "a fact does not wait for the guards",
    "ends_replaced_intent": "a fact is committed though the intent was replaced",
    "outside_members": "the witness grants a takeover to any peer",
    "removed_after_grant": "a member is removed though a takeover was granted",
    "taker_ignores_intent": "the taker cancels what has an intent",
    "no_cut": "the taker decides while the home's changes still come in",
    "opens_before_fence": "the taker listens again before the home has taken in its generation",
    "works_before_informed": "a home that is back works before it has the record of completion",
    "keeps_its_epoch": "the taker decides under the epoch that it had",
    "handed_uncommitted": "a payment is handed over with the intent alone",
    "no_record_check": "a process of the taker decides without looking whether the takeover is complete",
    "post_read_last": "a process of the taker reads its post after it has looked for the record, not before",
    "decides_after_record": "refused because its post has changed, it decides again without looking for the record",
    "any_record": "the record of an earlier takeover counts as that of the last",
    "any_ack": "an ack by any one guard is enough, though a taker goes by what it has alone",
    "unaware_member": "a peer may take over though it has not the record of the home's takeover before",
    "clock_after_word": "the clock goes on after the hand-over, and replaces the end that the downstream's word gave",
    "resolves_early": "the taker says `never handed over` before it has all that the home had written",
}


# -- what can be seen -------------------------------------------------------------------------------------------------


def standing_of(log: tuple[Rec, ...]) -> Rec | None:
    """The transaction as this much of the home's log tells it."""
    return next((rec for rec in reversed(log) if rec.standing is not None), None)


def _standing(world: Strict) -> Standing:
    rec = standing_of(world.log)
    assert rec is not None  # every world begins with it
    assert rec.standing is not None
    return rec.standing


def _intent_at(log: tuple[Rec, ...]) -> int:
    return max((at for at, rec in enumerate(log) if rec.standing is not None), default=-1)


def _handed(log: tuple[Rec, ...]) -> bool:
    return any(rec.standing is not None and rec.standing.state is State.HANDED for rec in log)


def _rows(world: Strict) -> list[Row]:
    return [region.row for region in world.peers if region.row is not None]


def _theirs(world: Strict) -> bool:
    """Whether, as the home sees it, the transaction is a taker's: the row of the highest epoch counts."""
    mine = standing_of(world.log)
    assert mine is not None  # every world begins with it
    return any(row.epoch > mine.epoch for row in _rows(world))


def _fenced(world: Strict, bug: str) -> bool:
    return world.post.fenced and bug != "works_before_informed"


def _may_work(world: Strict, bug: str) -> bool:
    """Whether the home may touch the transaction; of what it was not told yet it sees no row."""
    return not _fenced(world, bug) and not (world.told >= world.post.generation > 0 and _theirs(world))


def wrong(world: Strict) -> str | None:
    """What must never be."""
    ends = {row.standing.end for row in _rows(world) if row.standing.is_final}
    ends |= {rec.standing.end for rec in world.log if rec.standing is not None and rec.standing.is_final}
    if len(ends) > 1:
        return f"two ends of one transaction: {', '.join(sorted(str(end) for end in ends))}"
    if _handed(world.log) and ends - {world.word}:
        return "handed over, and ended without the downstream's word"
    entry = world.entry
    if entry.taker is None and not entry.members <= world.post.guards:
        return "a peer may take over though the home does not wait for it"
    generation = world.log[-1].epoch // rules.CHANGES
    if world.log[-1].standing is not None and generation > world.told:
        return "the home works on what is old before it was informed"
    return None


def _named(standing: Standing) -> str:
    return f"{standing.state}{'' if standing.end is None else f' {standing.end}'}"


# -- the home ---------------------------------------------------------------------------------------------------------


def _begins(setup: Setup, world: Strict, bug: str) -> Iterator[tuple[str, Strict]]:
    """A process looks, and commits what begins an end or a hand-over."""
    worker, now = world.worker, _standing(world)
    behind = worker.post != world.post or worker.mine not in (-1, _intent_at(world.log))
    if worker.at != "done" and behind and _may_work(world, bug):
        open_ = now.state in (State.ENDING, State.HANDING)
        at, mine = ("intended", _intent_at(world.log)) if open_ else ("read", -1)
        yield "home: a process looks", world._replace(worker=Worker(at, world.post, mine))
    if worker.at != "read" or (worker.post.epoch != world.post.epoch and bug != "no_epoch_check"):
        return
    for kind in setup.begins:
        if lifecycle.judge(now, kind) is None:
            continue
        step = lifecycle.apply(now, kind, alone=not worker.post.guards)
        log = (*world.log, Rec(worker.post.epoch, step.standing))
        if bug == "handed_uncommitted" and kind is EventKind.HAND_OVER_INTENDED:
            log = (*log, Rec(worker.post.epoch, Standing(State.HANDED, Status.ACSP)))
        after = worker._replace(at="done" if step.standing.is_final else "intended", mine=len(world.log))
        yield f"home: {kind} gives {_named(step.standing)}", world._replace(log=log, worker=after)


def _concludes(setup: Setup, world: Strict, bug: str) -> Iterator[tuple[str, Strict]]:
    """The intent is acknowledged, then the fact is committed under the epoch that was known."""
    worker = world.worker
    if worker.at == "intended":
        flushed = {peer: region.applied - 1 for peer, region in zip(setup.peers, world.peers, strict=True)}
        post = worker.post
        if bug == "any_ack" and any(flushed[peer] >= worker.mine for peer in post.guards):
            post = post._replace(guards=frozenset())
        if rules.may_conclude(post, flushed, worker.mine) or bug == "no_ack":
            yield "home: every guard has the intent", world._replace(worker=worker._replace(at="cleared"))
    under = worker.post.epoch == world.post.epoch or bug == "no_epoch_check"
    last = worker.mine == _intent_at(world.log) or bug == "ends_replaced_intent"
    if worker.at != "cleared" or not under or not last:
        return
    intent = world.log[worker.mine].standing
    assert intent is not None  # a worker waits for an intent only
    kind = EventKind.ENDED if intent.state is State.ENDING else EventKind.HANDED_OVER
    if lifecycle.judge(intent, kind) is not None:
        step = lifecycle.apply(intent, kind, alone=not worker.post.guards)
        log = (*world.log, Rec(worker.post.epoch, step.standing))
        yield f"home: the fact, {_named(step.standing)}", world._replace(log=log, worker=worker._replace(at="done"))


def _others(setup: Setup, world: Strict, bug: str) -> Iterator[tuple[str, Strict]]:
    """Another process of the home: the clock runs out, or the downstream has answered."""
    now = _standing(world)
    kinds: list[EventKind] = []
    stopped = _handed(world.log) and bug != "clock_after_word"
    if setup.deadline and now.state in (State.ENDING, State.HANDING) and not stopped:
        kinds.append(EventKind.DEADLINE)
    if now.state is State.HANDED:
        kinds.extend(_FINAL_WORDS)
    if not _may_work(world, bug):
        return
    for kind in kinds:
        word = {EventKind.DOWNSTREAM_YES: Status.ACSC, EventKind.DOWNSTREAM_NO: Status.RJCT}.get(kind)
        if word is not None and world.word not in (None, word):
            continue
        step = lifecycle.apply(now, kind, alone=not world.post.guards)
        if step.standing == now:
            continue
        after = world._replace(log=(*world.log, Rec(world.post.epoch, step.standing)), word=word or world.word)
        if word is not None:
            after = after._replace(worker=Worker())
        yield f"home: {kind} gives {_named(step.standing)}", after


def _keeps(setup: Setup, world: Strict, bug: str) -> Iterator[tuple[str, Strict]]:
    """The home's keeper."""
    if not setup.changes and not setup.returns:
        return
    ready = [p for p, r in zip(setup.peers, world.peers, strict=True)
             if r.told >= world.entry.generation or bug == "unaware_member"]  # fmt: skip
    known = 1 if bug == "any_record" else world.entry.generation
    scene = Scene(
        world.post,
        world.entry,
        {peer: region.applied - 1 for peer, region in zip(setup.peers, world.peers, strict=True)},
        ready,
        setup.peers,
        world.told >= known > 0 or bug == "works_before_informed",
        len(world.log),
    )
    for did in keeper_steps(world.keeper, scene, bug, at_once=True):
        entry = did.entry
        first = FIRST if did.post.generation == 0 else 1
        changed = did.post.epoch % rules.CHANGES - first > setup.changes
        if changed or entry.version > setup.versions or (not setup.changes and did.keeper.at in ("put", "remove")):
            continue
        if (did.keeper.at == "fence" and not setup.returns) or (did.keeper.at == "remove" and not setup.drops):
            continue
        if did.keeper.at == "put" and did.post.generation == 0 and not setup.drops:
            continue
        log = world.log if did.post == world.post else (*world.log, Rec(did.post.epoch, None))
        yield f"keeper: {did.text}", world._replace(post=did.post, entry=entry, log=log, keeper=did.keeper)
    if bug == "removed_after_grant" and world.entry.taker is not None and not world.post.fenced and world.post.guards:
        post = world.post.change(frozenset())
        entry = world.entry._replace(version=world.entry.version + 1)
        log = (*world.log, Rec(post.epoch, None))
        yield "keeper: drops the guards after the grant", world._replace(post=post, entry=entry, log=log)


# -- the peers --------------------------------------------------------------------------------------------------------


def _with(world: Strict, at: int, **changes: object) -> Strict:
    regions = list(world.peers)
    regions[at] = regions[at]._replace(**changes)  # type: ignore[arg-type]
    return world._replace(peers=tuple(regions))


def _replicates(setup: Setup, world: Strict, bug: str) -> Iterator[tuple[str, Strict]]:
    """Streams: in order, each as far as it has come; a record of completion comes after all that it completes."""
    for at, (peer, region) in enumerate(zip(setup.peers, world.peers, strict=True)):
        if region.subscribed and region.applied < len(world.log):
            yield f"{peer}: has the home's next change", _with(world, at, applied=region.applied + 1)
        if region.completed > world.told:
            yield f"home: has the record of {peer}'s takeover", world._replace(told=region.completed)
        for other, (name, listener) in enumerate(zip(setup.peers, world.peers, strict=True)):
            if region.completed > listener.told:
                text = f"{name}: has the record of {peer}'s takeover"
                yield text, _with(world, other, told=region.completed)
        back = world.post.generation >= region.cut > 0
        if not region.subscribed and (back or (bug == "opens_before_fence" and region.completed)):
            yield f"{peer}: listens to the home again", _with(world, at, subscribed=True)


def _takes(setup: Setup, world: Strict, bug: str) -> Iterator[tuple[str, Strict]]:
    """Takeovers, each by one or more processes of the taker."""
    for at, (peer, region) in enumerate(zip(setup.peers, world.peers, strict=True)):
        entry = world.entry
        if entry.generation < setup.takeovers:
            asked = entry._replace(members=frozenset(setup.peers)) if bug == "outside_members" else entry
            new = rules.granted(asked, Entry(), peer, entry.generation + 1)
            if new is not None:
                yield f"witness: {peer} may take over", world._replace(entry=new)
        for number, process in enumerate(region.processes):
            for text, moved, changes in _process(setup, world, at, process, bug):
                processes = list(region.processes)
                processes[number] = moved
                name = f"{peer}" if len(processes) == 1 else f"{peer}.{number + 1}"
                yield f"{name}: {text}", _with(world, at, processes=tuple(processes), **changes)


_Moved = tuple[str, Taker, dict[str, object]]


def _process(setup: Setup, world: Strict, at: int, process: Taker, bug: str) -> Iterator[_Moved]:
    """A process of a taker: begin, cut, then decide and complete under a post that was read first."""
    region, entry = world.peers[at], world.entry
    granted = entry.taker == setup.peers[at]
    if granted and region.begun < entry.generation:
        post = region.post if bug == "keeps_its_epoch" else rules.taking(region.post, entry.generation)
        yield "begins, under a new epoch of its own", process, {"begun": entry.generation, "post": post}
    if region.cut < region.begun:
        subscribed = region.subscribed if bug == "no_cut" else False
        yield "hears no more of the home", process, {"cut": region.begun, "subscribed": subscribed}
    match process.at:
        case "idle" if region.cut:
            if region.completed < region.cut or bug == "no_record_check":
                yield "reads its post", Taker("read", region.post, region.cut), {}
        case "read":
            if region.completed < process.generation or bug == "no_record_check":
                after = process._replace(at="late" if bug == "post_read_last" else "sure")
                yield "reads that the takeover is not complete", after, {}
            else:
                yield "reads that the takeover is complete", Taker(), {}
        case "late":
            yield "reads its post again", process._replace(at="sure", post=region.post), {}
        case "sure":
            yield from _decides(setup, world, at, process, bug)


def _decides(setup: Setup, world: Strict, at: int, process: Taker, bug: str) -> Iterator[_Moved]:
    region = world.peers[at]
    if process.post.epoch != region.post.epoch:
        # Refused. Whoever only takes the new epoch, and does not look again, decides after the record.
        again = Taker("sure" if bug == "decides_after_record" else "idle", region.post, process.generation)
        yield "is refused: its post has changed", again, {}
        return
    decided = _decision(setup, world, at, process.generation, bug)
    if decided is not None:
        yield f"decides: {_named(decided)}", process, {"row": Row(region.post.epoch, decided)}
    if decided is None and region.completed < process.generation:
        post = rules.taken(region.post)
        told = {"completed": process.generation, "told": process.generation}
        yield "records that all is decided", Taker(), {"post": post, **told}


def _decision(setup: Setup, world: Strict, at: int, generation: int, bug: str) -> Standing | None:
    """What a taker makes of the transaction as it has it; None: nothing."""
    region = world.peers[at]
    seen = standing_of(world.log[: region.applied])
    if seen is None or seen.standing is None:
        return None
    rows = [other.row for other in world.peers if other.row is not None and region.told >= other.completed > 0]
    mine = region.row is not None and (region.row.epoch > seen.epoch or bug == "keeps_its_epoch")
    if mine or any(row.epoch > seen.epoch for row in rows):
        return None
    takeover = rules.takeover_epoch(Entry(generation=generation))
    verdict = rules.verdict(seen.standing.state, seen.epoch, takeover, setup.rule)
    if verdict is None:
        return None
    if bug == "taker_ignores_intent":
        return Standing(State.END, Status.CANC, Status.CANC)
    return lifecycle.apply(seen.standing, verdict.event, alone=True).standing


def _goes_on(setup: Setup, world: Strict, bug: str) -> Iterator[tuple[str, Strict]]:
    """What becomes of a taker's row: a consumer's decision, the downstream's word, or what the home's log shows."""
    for at, (peer, region) in enumerate(zip(setup.peers, world.peers, strict=True)):
        row = region.row
        if row is None:
            continue
        for kind, word in _news(world, region, row.standing, bug):
            if kind is EventKind.HOME_RETURNED_HANDED:
                log = (*world.log, Rec(world.post.epoch, Standing(State.HANDED, Status.ACSP)))
                text = f"{peer}: it was handed over; the home has it again"
                yield text, _with(world._replace(log=log, worker=Worker()), at, row=None)
                continue
            standing = row.standing
            steps = (kind, EventKind.SETTLED) if kind is EventKind.ACCEPTED else (kind,)
            for step in steps:
                standing = lifecycle.apply(standing, step, alone=True).standing
            after = _with(world, at, row=Row(region.post.epoch, standing))
            yield f"{peer}: {kind} gives {_named(standing)}", after._replace(word=word or world.word)


def _news(world: Strict, region: Region, standing: Standing, bug: str) -> Iterator[tuple[EventKind, Status | None]]:
    if standing.state is State.HELD_DECISION:
        yield from ((EventKind.ACCEPTED, None), (EventKind.REJECTED, None))
    if standing.state is not State.HELD_UNKNOWN:
        return
    if _handed(world.log):
        for kind, word in zip(_FINAL_WORDS, (Status.ACSC, Status.RJCT), strict=True):
            if world.word in (None, word):
                yield kind, word
    seen = world.log[: region.applied]
    everything = any(rec.epoch >= region.cut * rules.CHANGES for rec in seen)
    if not everything and bug != "resolves_early":
        return
    if not _handed(seen):
        yield EventKind.HOME_RETURNED_UNHANDED, None
    elif world.told >= world.entry.generation and not world.post.fenced:
        yield EventKind.HOME_RETURNED_HANDED, None


_PARTS = (_begins, _concludes, _others, _keeps, _replicates, _takes, _goes_on)


def _steps(setup: Setup, world: Strict, bug: str) -> Iterator[tuple[str, Strict]]:
    for part in _PARTS:
        yield from part(setup, world, bug)


def _start(setup: Setup) -> Strict:
    everybody = frozenset(setup.peers)
    received = Rec(FIRST, Standing(State.ACSP, Status.ACSP))
    region = Region(processes=(Taker(),) * setup.processes)
    return Strict(
        Post(FIRST, everybody),
        Entry(members=frozenset(setup.members) or everybody),
        (received,),
        (region,) * len(setup.peers),
    )


def _world(name: str, says: str, setup: Setup, *bugs: str) -> World[Strict]:
    known = {**BUGS, **keepers.BUGS, **keepers.RETURN_BUGS}
    return World(name, says, _start(setup), partial(_steps, setup), wrong, {bug: known[bug] for bug in bugs})


_ENDS = (EventKind.SETTLED, EventKind.REFUSED)
_HANDS = (EventKind.HAND_OVER_INTENDED,)

WORLDS: tuple[World[Strict], ...] = (
    _world(
        "ends", "one peer; the home ends the transaction, drops its guard, is taken over and returns",
        Setup(begins=_ENDS, deadline=True, changes=2),
        "no_epoch_check", "no_ack", "ends_replaced_intent", "outside_members", "removed_after_grant",
        "taker_ignores_intent", "no_cut", "opens_before_fence", "works_before_informed", "keeps_its_epoch",
    ),
    _world(
        "hands", "one peer; the home hands the payment over, once and irrevocably, and a downstream answers",
        Setup(begins=_HANDS, deadline=True, changes=1),
        "no_epoch_check", "no_ack", "handed_uncommitted", "resolves_early", "taker_ignores_intent", "clock_after_word",
    ),
    _world(
        "twice", "one peer; the home is taken over, returns, takes its guard back and is taken over again",
        Setup(begins=_ENDS[:1], changes=1, takeovers=2, versions=8),
        "any_record",
    ),
    _world(
        "takers", "one peer with two processes, each of which takes over on its own; the home returns",
        Setup(begins=_ENDS[:1], processes=2),
        "no_record_check", "post_read_last", "decides_after_record", "keeps_its_epoch", "opens_before_fence",
    ),
    _world(
        "three", "two peers, each a guard and a possible taker; guards are dropped and taken back",
        Setup(peers=(2, 3), begins=_ENDS[:1], changes=2, versions=3, returns=False),
        "any_ack", "no_ack", "outside_members", "removed_after_grant",
    ),
    _world(
        "three-again", "two peers; taken over by one, back, taken over by the other; what was held is decided by hand",
        Setup(peers=(2, 3), changes=1, drops=False, takeovers=2, versions=4, rule="hold", members=(2,)),
        "unaware_member",
    ),
)  # fmt: skip
