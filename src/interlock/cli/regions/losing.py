"""`interlock regions fence`, `takeover`, `rejoin` and `retire`: when a region is lost, and when it is back."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile
from interlock.cli.printing import emit, say
from interlock.cli.regions.dialogue import DryRun, Peer, Yes, sure, tell
from interlock.cli.regions.looking import incoming
from interlock.cli.regions.seat import Seat, seated
from interlock.errors import ConflictError
from interlock.regions import rules

if TYPE_CHECKING:
    from interlock.regions.rules import Entry


def fence(*, dry_run: DryRun = False, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Make this region know that it was taken over, before anything of it runs again.

    Its processes do so themselves when they start; this is for a region whose database is back and whose processes are
    not. From then on nothing is begun or ended here until the taker has told everything. It needs the witness.
    """
    with seated(config) as seat:
        entry, _ = seat.witness.entry(seat.number)
        post = seat.replication.read_post()
        after = rules.fenced(post, entry)
        if after is None:
            told = [f"nothing to do: epoch {post.epoch} is that of takeover {entry.generation}, or of a later one"]
        elif dry_run:
            told = [f"epoch {after.epoch} would be taken: {seat.name(entry.taker)} has taken this region over"]
        else:
            seat.replication.take_post(after)
            told = [f"fenced at epoch {after.epoch}: {seat.name(entry.taker)} has taken this region over"]
    tell(told, "", as_json=as_json, fenced=after is not None and not dry_run)


def takeover(
    name: Peer,
    *,
    force: Annotated[bool, typer.Option("--force", help="Do not wait for its lease to end.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Take over a region that is lost: this region decides what is in flight there.

    The witness grants it to one region, and only to one that has everything that an end could have waited for. The
    running processes of this region then decide each payment as its route says; what may have been handed to a
    downstream is held as unknown. The other region ends nothing more from then on, and is fenced when it returns.

    Risks: what the other region acknowledged as `available` and had not replicated comes back only with it. With
    --force, a route with fencing = lease may still release there, by a lease that has not ended: only where that region
    is known to be down.
    """
    with seated(config) as seat:
        peer = seat.peer(name)
        entry, left = seat.witness.entry(peer.number)
        refusal = _refusal(seat, name, entry, left, force=force)
        if entry.taker == seat.number:
            tell([f"{name} was granted to this region before, as takeover {entry.generation}"], "", as_json=as_json)
            return
        if dry_run:
            tell([refusal or f"{name} would be granted to this region"], "", as_json=as_json, granted=refusal is None)
            return
        if refusal is not None:
            raise ConflictError(refusal)
        sure(
            f"{name} ends nothing more from here on until it has come back and was told everything"
            + ("; by its lease it may still release what goes by a lease." if force and left > 0 else "."),
            yes=yes,
        )
        granted = seat.witness.grant(seat.number, peer.number, lease_must_be_over=not force)
        if granted is None:
            entry, left = seat.witness.entry(peer.number)
            raise ConflictError(
                _refusal(seat, name, entry, left, force=force) or "the witness's entry has changed; try again"
            )
    tell(
        [f"{name} is granted to this region as takeover {granted.generation}; its processes decide what is in flight"],
        "", as_json=as_json, generation=granted.generation,
    )  # fmt: skip


def _refusal(seat: Seat, name: str, entry: "Entry", left: float, *, force: bool) -> str | None:
    """Why a takeover would not be granted."""
    own, _ = seat.witness.entry(seat.number)
    if entry.taker is not None:
        return f"{name} was taken over by {seat.name(entry.taker)} already"
    if own.taker is not None:
        return f"this region was taken over itself, by {seat.name(own.taker)}"
    if seat.number not in entry.members:
        others = ", ".join(seat.names(entry.members)) or "nobody: it ended alone, and nobody has all of it"
        return f"this region may not take {name} over, it may lack something; those that may: {others}"
    if left > 0 and not force:
        return f"{name} was heard of: its lease runs for {left:.1f} seconds more; wait for that, or --force"
    return None


def rejoin(*, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Bring this region back after it was taken over: say what is still missing, and do what can be done from here.

    It fences the region and opens what was left cut off; the rest is the taker's, whose processes must run. Exit code 1
    while something is missing.
    """
    with seated(config) as seat:
        steps = list(_steps_back(seat))
    missing = [what for done, what in steps if not done]
    if as_json:
        emit({"back": not missing, "steps": [{"done": done, "what": what} for done, what in steps]})
    else:
        for done, what in steps:
            say(f"{'✓' if done else '·'} {what}")
    raise typer.Exit(Exit.FAILED if missing else Exit.OK)


def _steps_back(seat: Seat) -> Iterator[tuple[bool, str]]:
    entry, _ = seat.witness.entry(seat.number)
    if entry.retired:
        yield False, f"this region was given up for good; what it had is {seat.name(entry.taker)}'s"
        return
    after = rules.fenced(seat.replication.read_post(), entry)
    if after is not None:
        seat.replication.take_post(after)
    post = seat.replication.read_post()
    taker = seat.name(entry.taker)
    if entry.taker is not None:
        yield True, f"it knows that {taker} has taken it over (epoch {post.epoch})"
    yield from _flows_back(seat)
    if entry.taker is not None:
        informed = seat.replication.informed(seat.number, entry.generation)
        told = "has told" if informed else "has not yet told"
        yield informed, f"{taker} {told} everything that it decided, and that this region may go on"
    if post.fenced or entry.taker is not None:
        yield False, "the processes of this region go on once all of that is done; they must run"
    else:
        yield True, "this region goes on with its own payments"


def _flows_back(seat: Seat) -> Iterator[tuple[bool, str]]:
    """Replication with each peer; what nobody keeps cut off for a reason is opened."""
    for other, peer in seat.peers.items():
        if seat.replication.subscription_to(peer.number) is None:
            yield False, f"{other} is not followed: run `interlock regions join`"
            continue
        if seat.replication.is_cut(peer.number):
            if any(over.home == peer.number and over.returned_at is None for over in seat.own_takeovers()):
                yield False, f"{other} is cut off, for this region has taken it over and it is not back"
                continue
            seat.replication.open(peer.number)
        state = seat.replication.status(seat.peers)[peer.number]
        ready = state.inbound.ready
        yield ready, f"{other} is followed" if ready else f"{other} is not followed yet: {incoming(state.inbound)}"
        lost = not state.outbound.slot or state.outbound.wal_status == "lost"
        yield (
            not lost,
            f"{other} needs `interlock regions {'reseed' if state.outbound.slot else 'join'}` over there"
            if lost
            else f"{other} can follow this region from where it was",
        )


def retire(
    name: Peer, *, yes: Yes = False, dry_run: DryRun = False, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Give up for good a region that was taken over and will not come back.

    It can never return under its number: make a new region with another one. What it acknowledged and had not
    replicated is lost with it; payments held as unknown may then be resolved here, by two operators with evidence from
    the downstream.
    """
    with seated(config) as seat:
        peer = seat.peer(name)

        def for_good(entry: "Entry") -> "Entry | None":
            after = _given_up(name, entry)
            if after is not None:
                sure(f"{name} can never come back; what only it has is lost.", yes=yes)
            return after

        told = f"{name} was given up before"
        if dry_run:
            entry, _ = seat.witness.entry(peer.number)
            if _given_up(name, entry) is not None:
                told = f"{name} would be given up for good; {seat.name(entry.taker)} has taken it over"
        elif seat.change(peer, for_good):
            told = f"{name} is given up for good"
    tell([told], "", as_json=as_json)


def _given_up(name: str, entry: "Entry") -> "Entry | None":
    """What its entry becomes; None where it was given up before."""
    after = rules.retired(entry)
    if after is not None and entry.taker is None:
        raise ConflictError(f"nobody has taken {name} over: `interlock regions takeover` comes first")
    return after
