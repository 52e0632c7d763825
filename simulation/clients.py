"""Clients: they send, retry with the same key, ask for ends, decide on what is held, drive again what was cancelled."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from interlock.decisions import Decision, DecisionKind
from interlock.iso20022.codes import Status
from interlock.lifecycle import State
from interlock.selection import Selector
from simulation import worker
from simulation.region import Region
from simulation.schedule import Call, Process, Steps

if TYPE_CHECKING:
    from simulation.world import World

_PATIENCE_SECONDS = 1.6
_ATTEMPTS = 8
#: How many of the decisions name some payments, where there are several.
_SOME = 0.7
#: How often one payment is driven again.
_REDRIVES = 2


def begin(world: "World", number: int, payments: int) -> Process:
    """One client with some payments; clients do not die."""
    process = Process(f"c{number}", f"c{number}")
    for payment in range(payments):
        world.schedule.start(process, "payment", _payment(world, number, number * 100 + payment))
    return process


def _payment(world: "World", client: int, number: int) -> Steps:
    chance = world.schedule.random
    yield chance.uniform(0.0, world.faulty_seconds * 0.8)
    consistent = chance.random() < 0.5
    numbers = sorted(world.regions)
    region = chance.choice(numbers)
    ask: Callable[[Region, worker.Reply], Steps]
    if chance.random() < 0.2:
        ask = worker.issue_and_receive(f"c{client}", number, consistent=consistent)
    else:
        ask = worker.submit(f"c{client}", number, f"key {number}", consistent=consistent)
    id_ = None
    for attempt in range(_ATTEMPTS):
        answer = yield Call(f"r{region}", _served(world.regions[region], ask), _PATIENCE_SECONDS)
        match answer:
            case ("accepted", accepted):
                id_ = accepted
                break
            case ("unconfirmed", there):
                id_ = there  # it is there, but nobody promises; the same key asks again
        yield chance.uniform(0.2, 1.5)
        region = yield from _next(world, region, consistent=consistent, attempt=attempt)
    if id_ is not None:
        yield from _follow(world, id_, consistent=consistent)


def _next(world: "World", region: int, *, consistent: bool, attempt: int) -> Steps:
    """Where to try next. A client that wants no double stays with its region until that was taken over."""
    if consistent:
        entry = yield Call("w", lambda reply: reply(world.witness.entries[region]))
        return entry.taker if entry is not None and entry.taker is not None else region
    if attempt % 2:
        return world.schedule.random.choice(sorted(world.regions))
    return region


def _served(region: Region, ask: Callable[[Region, worker.Reply], Steps]) -> Callable[[worker.Reply], None]:
    return lambda reply: worker.serve(region, reply, ask)


def _follow(world: "World", id_: UUID, *, consistent: bool) -> Steps:
    """Ask until there is an end, here or elsewhere; drive again what came to nothing."""
    chance, redrives, numbers = world.schedule.random, 0, sorted(world.regions)
    while True:
        yield chance.uniform(0.4, 1.6)
        asked = chance.choice(numbers)
        shown: Any = yield Call(f"r{asked}", _looked(world.regions[asked], id_))
        if shown is None:
            continue
        standing, owner, newer = shown
        if newer is not None:
            id_ = newer
        elif standing.is_final:
            if standing.end is not Status.CANC or redrives >= _REDRIVES or world.healing:
                return
            driven = yield from _asked(world, owner, worker.drive_again(id_, consistent=consistent))
            if driven is not None and driven[0] in ("accepted", "unconfirmed"):
                redrives += 1
                id_ = driven[1]
        elif standing.state is State.HELD_DECISION and chance.random() < 0.5:
            kind = chance.choice((DecisionKind.ACCEPT, DecisionKind.CANCEL))
            decision = _on_some(chance) if world.several and chance.random() < _SOME else Decision(kind=kind, actor="c")
            yield from _asked(world, owner, worker.decide(id_, decision))


def _on_some(chance: Random) -> Decision:
    """One payment or two, of three."""
    kind = chance.choice((DecisionKind.REJECT, DecisionKind.CANCEL))
    ordinals = chance.sample((1, 2, 3), chance.randint(1, 2))
    reason = "AC04" if kind is DecisionKind.REJECT else None
    return Decision(kind=kind, actor="c", reason=reason, payments=tuple(Selector(ordinal=one) for one in ordinals))


def _asked(world: "World", owner: int, ask: Callable[[Region, worker.Reply], Steps]) -> Steps:
    """A call that only the owner serves: it says who that is."""
    for _ in range(2):
        answer = yield Call(f"r{owner}", _served(world.regions[owner], ask), _PATIENCE_SECONDS)
        if answer is None or answer[0] != "elsewhere":
            return answer
        owner = answer[1]
    return None


def _looked(region: Region, id_: UUID) -> Callable[[worker.Reply], None]:
    def ask(reply: worker.Reply) -> None:
        if not region.lost:
            worker.look(id_)(region, reply)

    return ask
