"""The world of payments that end by themselves: one of two is cancelled while its region may be lost.

Whatever happens to the transaction is asked of `lifecycle`, what of it ends by itself of `apart`. A peer guards its
home: it may be dropped, or take the home over, and then goes by what it has of the home's log.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from interlock import lifecycle
from interlock.apart import INTENTS, NAMED, NONE_APART, Apart
from interlock.iso20022.codes import Status
from interlock.lifecycle import Effect, EventKind, Standing, State
from interlock.transaction import Event
from models.search import World

_E = EventKind
_AT = datetime(2026, 1, 1, tzinfo=UTC)
#: The payment that is cancelled, and the other one.
_ONE, _OTHER = 1, 2
#: Held for a decision: where every log begins.
_HELD = Standing(State.HELD_DECISION, Status.PDNG)


class Step(NamedTuple):
    """An event of a log; alone: what it intends is a fact with it."""

    kind: EventKind
    alone: bool = False


Log = tuple[Step, ...]


class Some(NamedTuple):
    """All there is."""

    #: The home's, how much of it the peer has, and how much of it the home knows the peer to have.
    log: Log = ()
    has: int = 0
    word: int = 0
    #: Whether the witness would let the peer take over, and whether the home waits for it.
    member: bool = True
    guards: bool = True
    #: 'up'; 'granted' the home; it has 'cut' that off.
    peer: str = "up"
    #: The log as the peer goes on with it; empty: it has not decided yet.
    taken: Log = ()


BUGS = {
    "told_before_ack": "the end of some is a fact without the guard's word",
    "word_for_later": "the word for one intent counts for those that came after it",
    "taker_forgets": "a taker does not know of payments that were to end by themselves",
}


@lru_cache(maxsize=1 << 16)
def _read(log: Log) -> tuple[Standing, Apart]:
    """Where a log leads, and which payments have ended by themselves."""
    standing, apart = _HELD, NONE_APART
    for seq, (kind, alone) in enumerate(log, 1):
        step = lifecycle.apply(standing, kind, alone=alone, cancelled=apart.cancelled)
        fused = alone and step.effect in (Effect.END, Effect.APART)
        fact = _E.ENDED if step.effect is Effect.END else _E.PAYMENTS_ENDED
        names = kind in INTENTS or kind is _E.PAYMENTS_ENDED
        event = Event(
            seq=seq, kind=fact if fused else kind, because=kind if fused else None, at=_AT, actor="c",
            standing=step.standing, reason="DS02", detail={NAMED: [_ONE]} if names else {},
        )  # fmt: skip
        standing, apart = step.standing, apart.then(event)
    return standing, apart


def _ends(log: Log) -> dict[int, Status]:
    """What each payment is shown to have ended as."""
    standing, apart = _read(log)
    told = {ordinal: end.status for ordinal, end in apart.ends.items() if ordinal in apart.facts}
    if not standing.is_final:
        return told
    assert standing.end is not None  # it is final
    rest = apart.rest or standing.end
    return {_ONE: rest, _OTHER: rest} | told


def wrong(world: Some) -> str | None:
    """A payment that is shown with two ends, in one region after another or in both."""
    shown: dict[int, set[Status]] = {_ONE: set(), _OTHER: set()}
    for log in (world.log, world.taken):
        for length in range(1, len(log) + 1):
            for ordinal, status in _ends(log[:length]).items():
                shown[ordinal].add(status)
    doubled = (f"payment {one} ends as {' and '.join(sorted(ends))}" for one, ends in shown.items() if len(ends) > 1)
    return next(doubled, None)


# -- what may happen --------------------------------------------------------------------------------------------------


def steps(world: Some, bug: str) -> Iterator[tuple[str, Some]]:
    """The home goes on as long as it lives, whether it was taken over or not."""
    yield from _decided(world, bug)
    yield from _concluded(world, bug)
    yield from _guarded(world)
    yield from _taken_over(world, bug)


_SAID = {
    _E.APPROVED: "approves",
    _E.PAYMENTS_CANCELLED: "cancels one",
    _E.ACCEPTED: "accepts",
    _E.DEADLINE: "is late",
}


def _decided(world: Some, bug: str) -> Iterator[tuple[str, Some]]:
    standing, _ = _read(world.log)
    for kind, said in _SAID.items():
        move = lifecycle.judge(standing, kind)
        if move is None or move.effect is Effect.FLAG or kind in {step.kind for step in world.log}:
            continue
        told = bug == "told_before_ack" and kind in INTENTS
        log: Log = (*world.log, Step(kind, not world.guards or told))
        if kind is _E.ACCEPTED:
            log = (*log, Step(_E.SETTLED, not world.guards))
        yield f"home: {said}", world._replace(log=log)


def _concluded(world: Some, bug: str) -> Iterator[tuple[str, Some]]:
    standing, apart = _read(world.log)
    if standing.state is State.ENDING:
        if not world.guards or world.word >= len(world.log):
            yield "home: ends", world._replace(log=(*world.log, Step(_E.ENDED)))
        return
    any_word = bug == "word_for_later" and world.word > 0
    due = apart.pending(None if any_word or not world.guards else world.word)
    if due and not standing.is_final:
        yield "home: one has ended", world._replace(log=(*world.log, Step(_E.PAYMENTS_ENDED)))


def _guarded(world: Some) -> Iterator[tuple[str, Some]]:
    if world.has < len(world.log) and world.peer != "cut":
        yield "peer: has more", world._replace(has=world.has + 1)
    if world.word < world.has:
        yield "home: hears so", world._replace(word=world.has)
    if world.member and world.peer == "up":
        yield "witness: the peer is no member", world._replace(member=False)
    if world.guards and not world.member:
        yield "home: waits for the peer no more", world._replace(guards=False)


def _taken_over(world: Some, bug: str) -> Iterator[tuple[str, Some]]:
    if world.member and world.peer == "up":
        yield "witness: the peer takes over", world._replace(peer="granted")
    if world.peer == "granted":
        yield "peer: cuts the home off", world._replace(peer="cut")
    known = world.log[: world.has]
    if bug == "taker_forgets":
        known = tuple(step for step in known if step.kind not in INTENTS)
    standing, apart = _read(known)
    if world.peer == "cut" and not world.taken and not standing.is_final:
        held: Log = (Step(_E.TAKEN_OVER_HOLD),)
        if standing.state is not State.ENDING and apart.pending():
            held = (*held, Step(_E.PAYMENTS_ENDED))
        yield "peer: cancels", world._replace(taken=(*known, Step(_E.TAKEN_OVER_CANCEL, alone=True)))
        yield "peer: holds", world._replace(taken=known + held)
    if world.taken and _read(world.taken)[0].state is State.HELD_DECISION:
        accepted = (*world.taken, Step(_E.ACCEPTED), Step(_E.SETTLED, alone=True))
        yield "peer: accepts", world._replace(taken=accepted)


WORLDS = (
    World(
        "some",
        "one of two payments is cancelled by itself, with a peer that guards, is dropped or takes over",
        Some(), steps, wrong, BUGS,
    ),
)  # fmt: skip
