"""A worker of a region: takes messages, makes intended ends facts, watches deadlines, as the product's workflow does.

Every read and every commit is a step of its own: what was read may be old when it is committed.
"""

from collections.abc import Callable
from uuid import UUID

from msgspec.structs import replace

from interlock import decisions, redrive
from interlock.apart import fold, named_alone
from interlock.decisions import Decision
from interlock.errors import IllegalDecision
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind, State
from interlock.ports import IdempotencyTaken, KeysTaken, Outcome, Refenced, Won
from interlock.regions import rules
from interlock.regions.rivals import Turn, turn
from interlock.regions.rules import Post
from interlock.routes import Route
from interlock.stages import release, way
from interlock.stages.steps import Steps as Course
from interlock.stages.way import Arrival
from interlock.transaction import Change, Clock, Deadline, Idempotency, Key, Transaction
from simulation.promises import name
from simulation.region import Region, Unavailable
from simulation.schedule import Process, Steps, Until

Reply = Callable[[object], None]
#: Decides on the present row under a post, knowing which keys are taken; None: there is nothing to do.
Decide = Callable[[Transaction, Post], Change | None]

#: How often something is decided anew after losing a race.
_TRIES = 5
#: How long a client's call waits for all guards.
_CONFIRM_SECONDS = 1.0
_DEADLINES_SECONDS = 0.4
#: How often what others have left intended is taken up.
_SCAN_SECONDS = 1.5


def begin(region: Region, process: Process) -> None:
    """What a worker does unasked."""
    start = region.world.schedule.start
    start(process, "conclude", _concluder(region))
    start(process, "deadlines", _deadlines(region))


# -- what is intended becomes a fact ----------------------------------------------------------------------------------


def _concluder(region: Region) -> Steps:
    #: By transaction: the version that intends the end, and where in the log it is.
    awaited: dict[UUID, tuple[int, int]] = {}
    scanned = -_SCAN_SECONDS
    world = region.world
    while True:
        if world.schedule.now - scanned > _SCAN_SECONDS:
            scanned = world.schedule.now
            _scan(region, awaited)
        for id_, (_, position) in list(awaited.items()):
            post = region.db.post
            early = world.plants.release_before_ack or (world.plants.told_before_ack and not _is_ending(region, id_))
            sure = early or _may_conclude(region, post, position)
            if not sure or not _is_everywhere(region, id_, position):
                continue
            yield world.schedule.moment()
            yield from _concluded(region, awaited, id_, post)
        fresh, region.intents = region.intents, {}
        awaited.update(fresh)
        if not fresh:
            yield Until(region.stirred, _SCAN_SECONDS)


def _is_ending(region: Region, id_: UUID) -> bool:
    row = region.db.get(id_)
    return row is not None and row.standing.state is State.ENDING


def _may_conclude(region: Region, post: Post, position: int) -> bool:
    if region.world.plants.works_before_informed:
        post = post._replace(fenced=False)
    return rules.may_conclude(post, region.flushed(), position)


def _is_everywhere(region: Region, id_: UUID, position: int) -> bool:
    """Whether all who could take its payments have it, where it is to wait for that; what is too late need not wait."""
    row = region.db.get(id_)
    if row is None or not row.everywhere or row.standing.end is not Status.ACSC or region.world.plants.alone_is_enough:
        return True
    if release.is_late(row.deadline, region.now()):
        return True
    flushed = region.flushed()
    return all(flushed.get(peer, -1) >= position for peer in set(region.peers) - region.db.taken())


def _scan(region: Region, awaited: dict[UUID, tuple[int, int]]) -> None:
    for row in region.db.open():
        if row.standing.state is State.ENDING and row.region == region.number and row.id not in awaited:
            awaited[row.id] = (row.version, region.db.position)


def _concluded(region: Region, awaited: dict[UUID, tuple[int, int]], id_: UUID, post: Post) -> Steps:
    version, position = awaited[id_]
    row = region.db.get(id_)
    if row is None or row.region != region.number or row.standing.state is not State.ENDING:
        yield from _some_concluded(region, awaited, id_, row, post)
        return
    if row.version != version and not region.world.plants.stale_intent:
        # Another intent has replaced it, and nobody has given their word for that one.
        awaited[id_] = (row.version, region.db.position)
        return
    try:
        course = region.course(row, post)
    except Unavailable:
        awaited.pop(id_, None)
        return
    if row.standing.end is Status.ACSC:
        rivals = region.db.rivals(row)
        whose = (
            Turn.GO if region.world.plants.settled_beside_another else turn(row.id, rivals, course.now - row.updated_at)
        )
        if release.is_late(row.deadline, course.now):
            way.expire(course, region.world.route(row))
        elif whose is Turn.WAIT:
            return  # looked at again with what comes meanwhile
        elif whose is Turn.YIELD:
            way.yield_to(course, rivals)
    if course.events:
        change = way.finish(course, *region.facts(row))
    else:
        body = region.answer(row)
        had = [peer for peer, reached in region.flushed().items() if reached >= position]
        change = way.conclude(course, None if body is None else body.definition, had)
    yield region.world.schedule.moment()
    if isinstance(region.commit(change), Won):
        awaited.pop(id_, None)
        _note(region, change)


def _some_concluded(
    region: Region, awaited: dict[UUID, tuple[int, int]], id_: UUID, row: Transaction | None, post: Post
) -> Steps:
    """Of what is not ending, or not ours any more: the end of some payments becomes a fact, if there is one to be."""
    version, position = awaited.pop(id_)
    if row is None or row.region != region.number:
        return
    try:
        course = region.course(row, post)
    except Unavailable:
        return
    due = course.apart.pending(version)
    if not due or row.standing.is_final:
        return
    change = way.part(course, due, [peer for peer, reached in region.flushed().items() if reached >= position])
    yield region.world.schedule.moment()
    if not isinstance(region.commit(change), Won):
        awaited.setdefault(row.id, (version, position))  # somebody got on meanwhile


def _note(region: Region, change: Change) -> None:
    """What was just intended, and where."""
    region.world.note(region, change)
    if change.after.id in region.intents:
        region.world.schedule.fire(region.stirred)


# -- deadlines --------------------------------------------------------------------------------------------------------


def _deadlines(region: Region) -> Steps:
    while True:
        yield _DEADLINES_SECONDS
        now = region.now()
        for row in region.db.open():
            if row.region == region.number and row.deadline is not None and row.deadline.at <= now:
                yield from pursue(region, row.id, lambda present, post: _expired(region, present, post))


def _expired(region: Region, row: Transaction, post: Post) -> Change | None:
    if row.deadline is None or row.deadline.at > region.now():
        return None
    course = region.course(row, post)
    inspection, payments = region.facts(row)
    way.expire(course, region.world.route(row))
    return way.finish(course, inspection, payments)


def pursue(region: Region, id_: UUID, decide: Decide) -> Steps:
    """Decide and commit until it is won, or there is nothing left to decide."""
    for _ in range(_TRIES):
        post, row = region.db.post, region.db.get(id_)
        if row is None:
            return
        yield region.world.schedule.moment()
        try:
            change = decide(row, post)
        except Unavailable:
            return
        if change is None:
            return
        yield region.world.schedule.moment()
        if isinstance(region.commit(change), Won):
            _note(region, change)
            return


# -- what clients ask for ---------------------------------------------------------------------------------------------


def serve(region: Region, reply: Reply, asked: Callable[[Region, Reply], Steps]) -> None:
    """Let one of the workers see to a call."""
    workers = [process for process in region.processes if process.up and ".w" in process.name]
    if workers:
        process = workers[region.world.schedule.random.randrange(len(workers))]
        region.world.schedule.start(process, "call", asked(region, reply))


def submit(client: str, number: int, key: str, *, consistent: bool) -> Callable[[Region, Reply], Steps]:
    """A client sends a message."""

    def steps(region: Region, reply: Reply) -> Steps:
        inspection = region.world.inspection(number)
        route = region.world.choose(number)
        claim = Idempotency(key=key, digest=inspection.digest)
        arrival = Arrival(inspection=inspection, route=route, idempotency=claim)
        newborn = _newborn(region, client, route)
        yield from _born(region, reply, newborn, arrival, consistent=consistent)

    return steps


def issue_and_receive(client: str, number: int, *, consistent: bool) -> Callable[[Region, Reply], Steps]:
    """The same in two calls, as the reference surface has it: an id, then the message."""

    def steps(region: Region, reply: Reply) -> Steps:
        route = region.world.choose(number)
        post = region.db.post
        if post.fenced:
            reply(("unavailable", None))
            return
        newborn = _newborn(region, client, route)
        change = way.issued(_birth(region, newborn, post))
        yield region.world.schedule.moment()
        if not isinstance(region.commit(change), Won):
            reply(("unavailable", None))
            return
        yield region.world.schedule.moment()
        yield from _received(region, reply, newborn.id, number, consistent=consistent)

    return steps


def _received(region: Region, reply: Reply, id_: UUID, number: int, *, consistent: bool) -> Steps:
    inspection = region.world.inspection(number)
    taken: dict[Key, UUID] = {}
    for _ in range(_TRIES):
        post, row = region.db.post, region.db.get(id_)
        yield region.world.schedule.moment()
        if row is None or row.standing.state is not State.ACCP:
            break
        try:
            course = region.course(replace(row, everywhere=consistent or row.everywhere), post)
        except Unavailable:
            break
        arrival = Arrival(inspection=inspection, route=region.world.choose(number), taken=taken)
        change = way.advance(course, arrival, course.now)
        yield region.world.schedule.moment()
        outcome = region.commit(change)
        if isinstance(outcome, KeysTaken):
            taken = {**taken, **dict(outcome.taken)}
        elif isinstance(outcome, Won):
            _note(region, change)
            yield from _confirmed(region, reply, change.after, consistent=consistent)
            return
    reply(("unavailable", None))


def _newborn(region: Region, client: str, route: Route, of: Transaction | None = None) -> Transaction:
    now = region.now()
    return Transaction(
        id=region.new_id(),
        client=client,
        region=region.number,
        route=route.name,
        standing=way.UNBORN,
        version=0,
        created_at=now,
        updated_at=now,
        deadline=Deadline(clock=Clock.SLA, at=now + route.sla),
        attempt=1 if of is None else of.attempt + 1,
        redrive_of=None if of is None else of.id,
        everywhere=of is not None and of.everywhere,
    )


def _birth(region: Region, newborn: Transaction, post: Post) -> Course:
    course = region.course(replace(newborn, epoch=post.epoch), post)
    course.take(EventKind.ID_ISSUED, actor=newborn.client)
    return course


def _born(region: Region, reply: Reply, newborn: Transaction, arrival: Arrival, *, consistent: bool) -> Steps:
    taken: dict[Key, UUID] = {}
    newborn = replace(newborn, everywhere=consistent or newborn.everywhere)
    for _ in range(_TRIES):
        post = region.db.post
        yield region.world.schedule.moment()
        try:
            course = _birth(region, newborn, post)
        except Unavailable:
            break
        change = way.advance(course, replace(arrival, taken=taken), course.now)
        yield region.world.schedule.moment()
        outcome: Outcome = region.commit(change)
        match outcome:
            case Won():
                _note(region, change)
                yield from _confirmed(region, reply, change.after, consistent=consistent)
                return
            case IdempotencyTaken():
                yield from _again(region, reply, outcome.transaction, consistent=consistent)
                return
            case KeysTaken() if arrival.root is not None:
                break
            case KeysTaken():
                taken = {**taken, **dict(outcome.taken)}
            case Refenced():
                continue
            case _:
                break
    reply(("unavailable", None))


def _again(region: Region, reply: Reply, id_: UUID, *, consistent: bool) -> Steps:
    row = region.db.get(id_)
    if row is None:
        reply(("unavailable", None))
    else:
        yield from _confirmed(region, reply, row, consistent=consistent)


def _confirmed(region: Region, reply: Reply, row: Transaction, *, consistent: bool) -> Steps:
    """The commit's acknowledgement: at once, or when every guard has it; there must be one."""
    world, position = region.world, region.db.position
    # Of what is a peer's it is said that it is here, but only its home can say that the guards have it.
    ours = row.id.int & 0xFF == region.number and row.region == region.number
    consistent_here = consistent and ours
    born = _generation(region, row)
    until = world.schedule.now + _CONFIRM_SECONDS
    while consistent_here and not _held(region, position, born):
        if world.schedule.now >= until:
            reply(("unconfirmed", row.id))
            return
        yield Until(region.stirred, until - world.schedule.now)
    yield world.schedule.moment()
    if world.tracing:
        world.trace(f"{region.node} acknowledges {name(row.id)}{' as consistent' if consistent_here else ''}")
    world.promises.acknowledge(row, consistent=consistent_here)
    reply(("accepted", row.id))


def _generation(region: Region, row: Transaction) -> int:
    return min(event.epoch for event in region.db.history(row.id)) // rules.CHANGES


def _held(region: Region, position: int, generation: int) -> bool:
    """Every guard has it, and there was no takeover since, during which others may have taken the same payment."""
    post, flushed = region.db.post, region.flushed()
    late = post.generation != generation and not region.world.plants.confirmed_after_takeover
    held = all(flushed.get(peer, -1) >= position for peer in post.guards)
    return bool(post.guards) and not post.fenced and not late and held


def drive_again(id_: UUID, *, consistent: bool) -> Callable[[Region, Reply], Steps]:
    """A client drives the newest attempt again; the region that owns it does so."""

    def steps(region: Region, reply: Reply) -> Steps:
        post, original = region.db.post, region.db.get(id_)
        while original is not None and original.redriven_as is not None:
            original = region.db.get(original.redriven_as)
        yield region.world.schedule.moment()
        if original is None:
            reply(("unavailable", None))
            return
        if original.region != region.number and original.region not in region.db.taken():
            reply(("elsewhere", original.region))
            return
        try:
            redrive.refuse_unless_drivable(original)
            told = region.course(original, post)
        except (Unavailable, IllegalDecision) as refused:
            reply(("unavailable" if isinstance(refused, Unavailable) else "refused", None))
            return
        inspection, payments = region.facts(original)
        assert inspection is not None  # what is drivable has a message
        try:
            left_out = way.left_out(redrive.left_out(payments, _apart(region, original)))
        except IllegalDecision:
            reply(("refused", None))
            return
        newborn = _newborn(region, original.client, region.world.route(original), of=original)
        told.take(EventKind.REDRIVEN, actor=original.client, note="again", redriven_as=newborn.id)
        arrival = Arrival(
            inspection=inspection,
            route=region.world.route(original),
            refused=left_out,
            root=_root(region, original),
            original=region.owned(Change(after=told.transaction, events=told.events, read=told.read), original),
        )
        yield from _born(region, reply, newborn, arrival, consistent=consistent)

    return steps


def _apart(region: Region, row: Transaction) -> frozenset[int]:
    """Payments that were ended by themselves, in any attempt that is known here."""
    found = named_alone(region.db.history(row.id), row)
    earlier = None if row.redrive_of is None else region.db.get(row.redrive_of)
    return found if earlier is None else found | _apart(region, earlier)


def _root(region: Region, row: Transaction) -> UUID:
    while row.redrive_of is not None:
        earlier = region.db.get(row.redrive_of)
        if earlier is None:
            return row.redrive_of
        row = earlier
    return row.id


def decide(id_: UUID, decision: Decision) -> Callable[[Region, Reply], Steps]:
    """A client decides on what is held."""

    def steps(region: Region, reply: Reply) -> Steps:
        row = region.db.get(id_)
        if row is not None and row.region != region.number:
            reply(("elsewhere", row.region))
            return
        yield from pursue(region, id_, lambda present, post: _decided(region, present, post, decision))
        reply(("done", id_))

    return steps


def _decided(region: Region, row: Transaction, post: Post, decision: Decision) -> Change | None:
    route, decision = region.world.route(row), decisions.checked(decision)
    history, named = region.db.history(row.id), tuple[int, ...]()
    try:
        if decision.payments is None:
            kind = decisions.event_for(row, decision, route, history)
        else:
            kind, all_named, ends = decisions.on_some(row, decision, region.db.payments_of(row), history)
            named = ends or (all_named if fold(history, row).decided else ())
    except IllegalDecision:
        return None
    if kind is None:
        return None
    course = region.course(row, post)
    inspection, payments = region.facts(row)
    way.decided(course, kind, decision, route, named)
    return way.finish(course, inspection, payments)


def look(id_: UUID) -> Callable[[Region, Reply], None]:
    """A client asks how a transaction stands; any region answers from what it has."""

    def ask(region: Region, reply: Reply) -> None:
        row = region.show(id_)
        reply(None if row is None else (row.standing, row.region, row.redriven_as))

    return ask
