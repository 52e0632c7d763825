"""The worlds of keys: one payment, submitted or driven again as several attempts in two regions.

Every client has a region that owns its keys, here 1; a takeover moves that to 2, where it stays. Under `consistent` an
attempt is accepted only once the owner has reserved the payment's key for it and every guard of the owner has that
reservation: the same rule as for an end. Under `available` each region reserves for itself, and a double is seen when
replication has caught up. Which keys are free is decided here, by what a region has; there is no such function in
`regions.rules`.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from interlock.lifecycle import EventKind, State
from interlock.regions import rules
from interlock.regions.rules import Entry, Post
from models.search import World

A, B = 1, 2
#: Where each attempt is made. The later ones are a client's retry without an answer, or a redrive.
HOMES = (A, B, A)


class Setup(NamedTuple):
    """Bounds."""

    consistent: bool = True
    #: The taker drives again at once what it has cancelled.
    redrives: bool = False


class Rec(NamedTuple):
    """A commit of region 1: a reservation for an attempt, or the intent to release it."""

    what: str
    attempt: int


class Keys(NamedTuple):
    """All there is."""

    post: Post = Post(2, frozenset({B}))
    entry: Entry = Entry(members=frozenset({B}))
    log: tuple[Rec, ...] = ()
    #: Region 2: how much of that it has, whether it listens, its own reservations, and those that 1 has.
    applied: int = 0
    listens: bool = True
    own: tuple[int, ...] = ()
    back: int = 0
    completed: bool = False
    informed: bool = False
    #: Of each attempt: '', asked, held (the owner has reserved), live, ACSC, CANC or RJCT, by whoever owns it.
    attempts: tuple[str, ...] = ("", "", "")
    #: The epoch under which a process of the owner looked, and for which attempt.
    looked: tuple[int, int] = (-1, -1)
    #: The double was seen.
    flagged: bool = False


BUGS = {
    "answers_unacked": "the owner answers before its guards have the reservation",
    "owner_no_epoch": "the owner reserves whatever its epoch is now",
    "rest_unreserved": "a returned home goes on with what the taker never had, without reserving its key anew",
    "answers_old": "a returned owner answers for another region what it had reserved before the takeover",
    "ownership_returns": "the home is owner of the keys again as soon as it is back",
    "taker_forgets": "the taker, as the new owner, knows only the keys that it has reserved itself",
    "redrive_unreserved": "a redrive does not reserve the payment's key",
    "cancels_released": "the taker cancels an attempt that has an intent",
}
SEEN_BUGS = {"seen_when_reserving": "other regions' keys are looked at when one's own is reserved, not when they come"}
_LIVE, _PAID, _FAILED = "live", "ACSC", ("CANC", "RJCT")


def _count(world: Keys) -> int:
    return sum(state in (_LIVE, _PAID, "two ends") for state in world.attempts)


def wrong(world: Keys) -> str | None:
    """What must never be under `consistent`."""
    if "two ends" in world.attempts:
        return "two ends of one attempt"
    return "two attempts of one payment are live or paid" if _count(world) > 1 else None


def unseen(world: Keys) -> str | None:
    """What must never be under `available`: a double that nobody sees although replication has caught up."""
    caught_up = world.applied == len(world.log) and world.back == len(world.own)
    return "a double is not seen" if _count(world) > 1 and caught_up and not world.flagged else None


# -- what is known where ----------------------------------------------------------------------------------------------


def _holders(world: Keys, region: int, bug: str) -> set[int]:
    """Attempts that have the key, as this region knows."""
    if region == A:
        known = {rec.attempt for rec in world.log if rec.what == "key"} | set(world.own[: world.back])
    else:
        seen = () if bug == "taker_forgets" else world.log[: world.applied]
        known = {rec.attempt for rec in seen if rec.what == "key"} | set(world.own)
    return {attempt for attempt in known if world.attempts[attempt] not in _FAILED}


def _owner(world: Keys, bug: str) -> int:
    """The region that may reserve. It stays with the taker."""
    if bug == "ownership_returns" and world.informed and not world.post.fenced:
        return A
    return B if world.completed else A


def _set(world: Keys, attempt: int, state: str) -> Keys:
    attempts = list(world.attempts)
    attempts[attempt] = state
    return world._replace(attempts=tuple(attempts))


def _position(world: Keys, what: str, attempt: int) -> int:
    return max((at for at, rec in enumerate(world.log) if rec == Rec(what, attempt)), default=-1)


# -- submitting and reserving -----------------------------------------------------------------------------------------


def _submits(setup: Setup, world: Keys, bug: str) -> Iterator[tuple[str, Keys]]:
    for attempt, home in enumerate(HOMES):
        if world.attempts[attempt] or (home == A and world.post.fenced):
            continue
        # The third is made where the first was, and only once that has come to nothing.
        if attempt == 2 and world.attempts[0] not in (*_FAILED, "held"):
            continue
        if setup.consistent:
            redriven = bug == "redrive_unreserved" and attempt == 2 and world.attempts[0] == "CANC"
            yield f"attempt {attempt + 1}: comes to {home}", _set(world, attempt, _LIVE if redriven else "asked")
        elif not _holders(world, home, bug):
            yield f"attempt {attempt + 1}: accepted at {home}", _reserve(_set(world, attempt, _LIVE), home, attempt)


def _reserve(world: Keys, owner: int, attempt: int) -> Keys:
    if owner == A:
        return world._replace(log=(*world.log, Rec("key", attempt)))
    return world._replace(own=(*world.own, attempt))


def _reserves(setup: Setup, world: Keys, bug: str) -> Iterator[tuple[str, Keys]]:
    """The owner reserves, waits for its guards, answers."""
    if not setup.consistent:
        return
    owner = _owner(world, bug)
    for attempt, state in enumerate(world.attempts):
        name = f"attempt {attempt + 1}"
        if state == "asked" and owner == B:
            held = _holders(world, B, bug) - {attempt}
            after = _set(world, attempt, "RJCT" if held else _LIVE)
            yield (
                f"{name}: 2, as owner, {'refuses' if held else 'reserves'}",
                (after if held else _reserve(after, B, attempt)),
            )
        if state == "asked":
            yield from _reserves_at_home(world, attempt, bug)
        if state == "held":
            position = _position(world, "key", attempt)
            flushed = {B: world.applied - 1}
            if rules.may_conclude(world.post, flushed, position) or bug == "answers_unacked":
                yield f"{name}: every guard of 1 has the reservation, accepted", _set(world, attempt, _LIVE)


def _reserves_at_home(world: Keys, attempt: int, bug: str) -> Iterator[tuple[str, Keys]]:
    name = f"attempt {attempt + 1}"
    is_owner = not world.informed or bug == "ownership_returns"  # for all that it knows
    present = world.post.epoch, attempt
    if is_owner and world.looked != present and not world.post.fenced and not _holders(world, A, bug):
        yield f"{name}: 1, as owner, sees that the key is free", world._replace(looked=present)
    epoch, looked = world.looked
    if looked != attempt or (epoch != world.post.epoch and bug != "owner_no_epoch"):
        return
    # The database refuses a second row of this region's; of the other's it knows nothing.
    mine = {rec.attempt for rec in world.log if rec.what == "key"} - {attempt}
    if all(world.attempts[other] in _FAILED for other in mine):
        after = _reserve(_set(world, attempt, "held"), A, attempt)
        yield f"{name}: 1 commits the reservation", after._replace(looked=(-1, -1))


# -- releasing, and the regions ---------------------------------------------------------------------------------------


def _releases(_: Setup, world: Keys, __: str) -> Iterator[tuple[str, Keys]]:
    for attempt, home in enumerate(HOMES):
        state, name = world.attempts[attempt], f"attempt {attempt + 1}"
        if home == B and state == _LIVE:
            yield f"{name}: 2 releases", _set(world, attempt, _PAID)
        if home == B or world.post.fenced:
            continue
        position = _position(world, "intent", attempt)
        # After its return the home sees what the taker has decided; before, it does not know.
        knows = world.informed and world.post.generation > 0
        if position < 0 and (state == _LIVE or (state == "CANC" and not knows)):
            log = (*world.log, Rec("intent", attempt))
            yield f"{name}: 1 commits the intent to release", world._replace(log=log)
        acked = position >= 0 and rules.may_conclude(world.post, {B: world.applied - 1}, position)
        if acked and state in (_LIVE, "CANC") and not (knows and state == "CANC"):
            yield f"{name}: 1 releases", _set(world, attempt, _PAID if state == _LIVE else "two ends")


def _drops(_: Setup, world: Keys, __: str) -> Iterator[tuple[str, Keys]]:
    """The guard is removed at the witness, then leaves the post; it is not taken back here."""
    if world.entry.members and (entry := rules.removed(world.entry, B)) is not None:
        yield "keeper: removes 2 at the witness", world._replace(entry=entry)
    if not world.entry.members and world.post.guards:
        yield "keeper: takes 2 out of the post", world._replace(post=world.post.change(frozenset()))


def _replicates(setup: Setup, world: Keys, bug: str) -> Iterator[tuple[str, Keys]]:
    flags = not setup.consistent and bug != "seen_when_reserving" and _count(world) > 1
    if world.listens and world.applied < len(world.log):
        after = world._replace(applied=world.applied + 1, flagged=world.flagged or (flags and bool(world.own)))
        yield "2: has the next of 1's log", after
    if world.back < len(world.own):
        after = world._replace(back=world.back + 1, flagged=world.flagged or (flags and bool(world.log)))
        yield "1: has the next of 2's log", after


def _takes(setup: Setup, world: Keys, bug: str) -> Iterator[tuple[str, Keys]]:
    entry = world.entry
    granted = rules.granted(entry, Entry(), B, entry.generation + 1)
    if granted is not None and entry.generation == 0:
        yield "witness: 2 may take over", world._replace(entry=granted)
    if entry.taker == B and world.listens and not world.completed:
        yield "2: hears no more of 1", world._replace(listens=False)
    if entry.taker == B and not world.listens and not world.completed:
        yield "2: decides everything that it has, is owner of the keys", _decided(setup, world, bug)
    if world.completed and not world.informed and world.back == len(world.own):
        yield "1: has the record of completion", world._replace(informed=True)


def _decided(setup: Setup, world: Keys, bug: str) -> Keys:
    """What a taker does with all attempts of the home that it has."""
    after, seen = world._replace(completed=True), world.log[: world.applied]
    for attempt, home in enumerate(HOMES):
        state = world.attempts[attempt]
        if home != A or Rec("key", attempt) not in seen or state not in ("held", _LIVE, _PAID):
            continue
        intended = Rec("intent", attempt) in seen and bug != "cancels_released"
        standing = State.ENDING if intended else State.ACSP
        takeover = rules.takeover_epoch(world.entry)
        verdict = rules.verdict(standing, takeover - 1, takeover, "redrive" if setup.redrives else "cancel")
        assert verdict is not None  # it has no end and is older than the takeover
        assert verdict.event is EventKind.TAKEN_OVER_CANCEL
        if not intended:
            after = _set(after, attempt, "two ends" if state == _PAID else "CANC")
            if verdict.redrive and not after.attempts[1]:
                after = _set(after, 1, "asked")
        elif state != _PAID:
            after = _set(after, attempt, _PAID)
    return after


def _returns(_: Setup, world: Keys, bug: str) -> Iterator[tuple[str, Keys]]:
    post = rules.fenced(world.post, world.entry)
    if post is not None:
        yield "1: is back, fenced", world._replace(post=post)
    if world.post.fenced and world.informed:
        after = world._replace(post=rules.resumed(world.post), listens=True)
        for attempt, home in enumerate(HOMES):
            if world.attempts[attempt] != "held":
                continue
            # What the taker never had is the home's again: as if it came anew. Nor is anybody else answered for what
            # was reserved under an epoch that is over.
            if home == A:
                after = _set(after, attempt, _LIVE if bug == "rest_unreserved" else "asked")
            elif bug != "answers_old":
                after = _set(after, attempt, "asked")
        yield "1: knows everything, resumes", after


_PARTS = (_submits, _reserves, _releases, _drops, _replicates, _takes, _returns)


def _steps(setup: Setup, world: Keys, bug: str) -> Iterator[tuple[str, Keys]]:
    for part in _PARTS:
        yield from part(setup, world, bug)


WORLDS: tuple[World[Keys], ...] = (
    World("keys", "`consistent`: the owner reserves before an attempt is accepted", Keys(),
          partial(_steps, Setup()), wrong, BUGS),
    World("keys-redrive", "`consistent`, and the taker drives again at once", Keys(),
          partial(_steps, Setup(redrives=True)), wrong,
          {bug: BUGS[bug] for bug in ("rest_unreserved", "ownership_returns", "redrive_unreserved")}),
    World("keys-seen", "`available`: a double is seen once replication has caught up", Keys(),
          partial(_steps, Setup(consistent=False)), unseen, SEEN_BUGS),
    World("keys-double", "`available`: each region reserves for itself", Keys(),
          partial(_steps, Setup(consistent=False)), wrong,
          window="two regions accept the same payment before either has heard of the other's key"),
)  # fmt: skip
