"""`interlock regions`: connecting regions, watching them, and what an operator does when one is lost.

Run in the region that is meant by "this one", with its configuration; every command may be given again. What follows
from a command is done by the processes that run in the region, which look at the witness every second.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile
from interlock.cli.printing import complain, console, emit, say, table
from interlock.cli.service import effective
from interlock.errors import ConfigError, ConflictError, InterlockError, RequestError, StoreUnavailable
from interlock.regions import rules

if TYPE_CHECKING:
    from interlock.config import Config, PeerConfig
    from interlock.ports import Takeover
    from interlock.regions.flows import Inbound, Outbound, PeerStatus
    from interlock.regions.rules import Entry, Post
    from interlock.stores.postgres.replication import Replication
    from interlock.stores.postgres.witness import WitnessStore

regions = typer.Typer(help="Connect regions, watch them, take one over that is lost.", no_args_is_help=True)

Peer = Annotated[str, typer.Argument(help="Name of the other region, as in [regions.NAME].", show_default=False)]
SomePeer = Annotated[
    str | None, typer.Argument(help="Name of the other region; all of them if left out.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it: the risks above are understood.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="How long to wait for it to be done, in seconds.")]

_POLL_SECONDS = 0.2
#: Somebody else may change an entry between our looking and our writing.
_TRIES = 10


@dataclass(frozen=True, slots=True)
class _Seat:
    """This region, its peers and the witness."""

    settings: "Config"
    replication: "Replication"
    witness: "WitnessStore"

    @property
    def number(self) -> int:
        """Of this region."""
        return self.settings.region_number

    @property
    def peers(self) -> Mapping[str, "PeerConfig"]:
        """The others."""
        return self.settings.regions

    def peer(self, name: str) -> "PeerConfig":
        """The one of that name."""
        if name not in self.peers:
            raise RequestError(f"there is no region {name} among the peers: {', '.join(self.peers)}")
        return self.peers[name]

    def some(self, name: str | None) -> Mapping[str, "PeerConfig"]:
        """The one of that name, or all."""
        return self.peers if name is None else {name: self.peer(name)}

    def name(self, number: int | None) -> str | None:
        """What a region is called."""
        if number is None:
            return None
        names = {peer.number: name for name, peer in self.peers.items()} | {self.number: self.settings.region}
        return names.get(number, f"region {number}")

    def names(self, numbers: frozenset[int]) -> list[str]:
        """What regions are called."""
        return [self.name(number) or "" for number in sorted(numbers)]


@contextmanager
def _seat(config: Any) -> Iterator[_Seat]:
    settings = effective(config)
    if not settings.regions:
        raise ConfigError("no other regions are configured: name them in [regions.NAME], and `witness`; see regions")
    from interlock.stores.postgres.replication import Replication
    from interlock.stores.postgres.witness import WitnessStore

    with (
        closing(Replication(settings.store, settings.region_number)) as replication,
        closing(WitnessStore(settings.witness)) as witness,
    ):
        yield _Seat(settings, replication, witness)


def _sure(risk: str, *, yes: bool) -> None:
    """Refuse to go on unless the operator has said so."""
    if not yes:
        raise RequestError(f"{risk} Say --yes if that is what you want")


def _done(lines: list[str], otherwise: str, *, as_json: bool, **more: Any) -> None:
    """Tell what was done."""
    if as_json:
        emit({"done": lines, **more})
        return
    for line in lines or [otherwise]:
        say(line)


# -- connecting -------------------------------------------------------------------------------------------------------


@regions.command()
def init(*, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Set this region up for others: its entry at the witness, what it publishes, its guards.

    Once in each region, after `interlock db migrate`; and again in each once all were migrated, so that new columns are
    published. It changes only what is not as it should be.
    """
    with _seat(config) as seat:
        seat.witness.install()
        seat.witness.ensure(seat.number)
        told = seat.replication.install(seat.peers)
    _done(told, "everything is as it should be", as_json=as_json)


@regions.command()
def join(name: SomePeer = None, *, wait: Wait = 600, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Follow another region, or all: copy its rows, then take in its changes as they come.

    In each region, after all of them were set up. On PostgreSQL 15 the database's user must be a superuser; from 16 on
    the role pg_create_subscription is enough, and the other database's URL needs a password.
    """
    with _seat(config) as seat:
        told = []
        for other, peer in seat.some(name).items():
            new = seat.replication.subscribe(peer)
            told.append(f"{other} is followed now" if new else f"{other} is followed already")
        for other, peer in seat.some(name).items():
            if seat.replication.is_cut(peer.number):
                told.append(f"{other} is cut off: a takeover of it has not come to its end")
                continue
            ready = _until(
                partial(seat.replication.ready, peer.number), wait, f"{other} is being copied", quiet=as_json
            )
            told.append(f"{other} was copied, and is followed" if ready else f"{other} is still being copied")
    _done(told, "", as_json=as_json)


@regions.command()
def leave(
    name: Peer, *, yes: Yes = False, dry_run: DryRun = False, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Follow another region no more.

    Rows that have come stay. From then on this region cannot take the other one over: if that is lost, what is in
    flight there waits for its return. Give the command in the other region too, and take both out of the configuration.
    """
    with _seat(config) as seat:
        peer = seat.peer(name)
        retired = seat.witness.entry(peer.number)[0].retired
        open_ = any(over.home == peer.number and over.returned_at is None for over in _own_takeovers(seat))
        if open_ and not retired:
            raise ConflictError(f"this region has taken {name} over, and goes on with its payments until it is back")
        if dry_run:
            _done([f"{name} would not be followed any more; its rows would stay here"], "", as_json=as_json)
            return
        _sure(f"If {name} is lost from here on, nobody in this region can take its payments over.", yes=yes)
        if not retired:
            _resign(seat, peer)
        gone = seat.replication.unsubscribe(peer)
        if not retired:
            # Its keeper may have taken us in again in between; from now on it cannot.
            _resign(seat, peer)
    told = [f"{name} is not followed any more"]
    if not gone:
        told.append("its database could not be reached: do this again once it can, or it keeps its log for nobody")
    _done(told, "", as_json=as_json)


def _resign(seat: _Seat, peer: "PeerConfig") -> None:
    """Be no more among those that may take a peer over."""
    for _ in range(_TRIES):
        entry, _ = seat.witness.entry(peer.number)
        if seat.number not in entry.members:
            return
        after = rules.removed(entry, seat.number)
        if after is None:
            raise ConflictError(
                f"{seat.name(peer.number)} was taken over by {seat.name(entry.taker)}: let that end first"
            )
        if seat.witness.change(peer.number, entry, after):
            return
    raise StoreUnavailable("the witness's entry changes again and again; try again")


@regions.command()
def reseed(
    name: Peer, *, yes: Yes = False, dry_run: DryRun = False, wait: Wait = 600, config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make the copy of another region's rows anew, after its slot was lost or the copy is wrong.

    Its rows are deleted here and copied again, which may take hours; until that is done, this region cannot take the
    other one over. This region's own rows are not touched. Refused while this region guards the other one or has taken
    it over: then its copy counts.
    """
    with _seat(config) as seat:
        peer = seat.peer(name)
        if dry_run:
            present = seat.replication.subscription_to(peer.number)
            followed = "is followed" if present is not None else "is not followed"
            _done([f"{name} {followed}; all its rows here would be deleted, and copied again"], "", as_json=as_json)
            return
        _sure(f"All rows of {name} in this region are deleted before they are copied again.", yes=yes)
        deleted = seat.replication.reseed(peer)
        ready = _until(partial(seat.replication.ready, peer.number), wait, f"{name} is being copied", quiet=as_json)
    state = "was copied again, and is followed" if ready else "is still being copied"
    _done([f"{deleted:,} rows were deleted; {name} {state}"], "", as_json=as_json, deleted=deleted, ready=ready)


# -- looking ----------------------------------------------------------------------------------------------------------


@regions.command()
def status(*, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the regions as this one sees them, and every fault that is found.

    Exit code 1 if there is one: each says what to do.
    """
    with _seat(config) as seat:
        post, found = seat.replication.read_post(), seat.replication.status(seat.peers)
        faults = seat.replication.check(seat.peers)
        entries: Mapping[int, tuple[Entry, float]] | None = None
        try:
            entries = seat.witness.entries()
        except InterlockError as exc:
            faults.append(str(exc))
        if entries is not None and seat.number not in entries:
            faults.append("the witness does not know this region: run `interlock regions init`")
        takeovers = seat.replication.takeovers()
        if as_json:
            told = _as_json(seat, post, entries, found, takeovers, faults)
            emit(told | {"ended_twice": seat.replication.ended_twice()})
        else:
            _show(seat, post, entries, found, takeovers)
            for fault in faults:
                complain(fault)
    raise typer.Exit(Exit.FAILED if faults else Exit.OK)


def _show(
    seat: _Seat,
    post: "Post",
    entries: "Mapping[int, tuple[Entry, float]] | None",
    found: "Mapping[int, PeerStatus]",
    takeovers: "tuple[Takeover, ...]",
) -> None:
    fenced = (
        "; fenced: another region has taken it over, and this one waits to be told everything" if post.fenced else ""
    )
    guards = ", ".join(seat.names(post.guards)) or "nobody"
    say(f"{seat.settings.region}: epoch {post.epoch}, ends wait for {guards}{fenced}")
    rows = []
    for number in sorted({seat.number, *found, *(entries or {})}):
        entry, left = (entries or {}).get(number, (None, 0.0))
        state = found.get(number)
        rows.append(
            (
                seat.name(number),
                "" if entry is None else entry.generation,
                "" if entry is None else ", ".join(seat.names(entry.members)) or "nobody",
                "" if entry is None else "given up" if entry.retired else seat.name(entry.taker),
                "" if entry is None else f"{left:.1f} s",
                "this region" if number == seat.number else "" if state is None else _inbound(state.inbound),
                "" if state is None else _outbound(state.outbound),
            )
        )
    columns = ("region", "takeover", "may be taken over by", "taken over by", "lease", "from there", "to there")
    table(columns, rows, empty="no regions")
    for over in takeovers:
        if over.returned_at is None:
            done = f"decided {over.transactions:,}" if over.completed_at else "deciding"
            say(f"{seat.name(over.region)} has taken {seat.name(over.home)} over since {over.begun_at:%F %T}: {done}")


def _inbound(flow: "Inbound") -> str:
    if not flow.subscribed:
        return "not followed"
    if not flow.enabled:
        return "cut off"
    copying = sum(state != "r" for state in flow.tables.values())
    if copying or not flow.tables:
        return f"copying, {copying} tables to go"
    return "nobody applies it" if not flow.worker else "stands still" if flow.stalled else _lag(flow)


def _outbound(flow: "Outbound") -> str:
    if not flow.slot:
        return "does not follow"
    if flow.wal_status == "lost":
        return "slot lost"
    return "away" if not flow.worker else "stands still" if flow.stalled else _lag(flow)


def _lag(flow: "Inbound | Outbound") -> str:
    if flow.lag_bytes is None:
        return "follows, lag unknown"
    return f"{flow.lag_bytes:,} bytes, {flow.lag_seconds or 0:.1f} s behind" if flow.lag_bytes else "level"


def _as_json(
    seat: _Seat,
    post: "Post",
    entries: "Mapping[int, tuple[Entry, float]] | None",
    found: "Mapping[int, PeerStatus]",
    takeovers: "tuple[Takeover, ...]",
    faults: list[str],
) -> dict[str, Any]:
    return {
        "region": seat.settings.region,
        "number": seat.number,
        "post": {"epoch": post.epoch, "guards": seat.names(post.guards), "fenced": post.fenced},
        "witness": None
        if entries is None
        else {
            seat.name(number): {
                "generation": entry.generation,
                "members": seat.names(entry.members),
                "taker": seat.name(entry.taker),
                "retired": entry.retired,
                "lease_seconds": round(left, 3),
            }
            for number, (entry, left) in sorted(entries.items())
        },
        "peers": {
            seat.name(number): {
                "inbound": {**state.inbound._asdict(), "ready": state.inbound.ready},
                "outbound": state.outbound._asdict(),
            }
            for number, state in found.items()
        },
        "takeovers": [
            {
                **over._asdict(),
                "home": seat.name(over.home),
                "region": seat.name(over.region),
                **{
                    name: None if at is None else at.isoformat()
                    for name, at in over._asdict().items()
                    if name.endswith("_at")
                },
            }
            for over in takeovers
        ],
        "faults": faults,
    }


@regions.command()
def verify(name: SomePeer = None, *, wait: Wait = 60, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Compare what this region and another hold, row by row; servers may run meanwhile.

    Both read all their rows once. What is in an archive at either side is left out. Then all transactions here are
    looked through for ends of two regions that contradict each other. Exit code 1 if a row differs, which is named by
    its table and key, or a transaction or payment has ended twice.
    """
    from interlock.stores.postgres.comparison import Difference
    from interlock.stores.postgres.comparison import verify as compare

    differences: list[Difference] = []
    told: dict[str, Any] = {}

    def found(difference: Difference) -> None:
        differences.append(difference)
        if not as_json:
            complain(str(difference))

    with _seat(config) as seat:
        for other, peer in seat.some(name).items():
            compared = compare(seat.settings.store, seat.number, peer, seconds=wait, found=found)
            told[other] = {"rows": compared.rows, "differences": compared.differences}
            if not as_json:
                say(f"{other}: {compared.rows:,} rows compared, {compared.differences:,} differ")
        twice = seat.replication.doubles()
    if as_json:
        incidents = [{"id": str(double.transaction), **double.detail} for double in twice]
        emit({"regions": told, "differences": [one._asdict() for one in differences], "ended_twice": incidents})
    else:
        for double in twice:
            complain(f"INCIDENT: transaction {double.transaction} has ended twice: {double.note}")
    raise typer.Exit(Exit.FAILED if differences or twice else Exit.OK)


# -- when one is lost -------------------------------------------------------------------------------------------------


@regions.command()
def fence(*, dry_run: DryRun = False, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Make this region know that it was taken over, before anything of it runs again.

    Its processes do so themselves when they start; this is for a region whose database is back and whose processes are
    not. From then on nothing is begun or ended here until the taker has told everything. It needs the witness.
    """
    with _seat(config) as seat:
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
    _done(told, "", as_json=as_json, fenced=after is not None and not dry_run)


@regions.command()
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
    with _seat(config) as seat:
        peer = seat.peer(name)
        entry, left = seat.witness.entry(peer.number)
        refusal = _refusal(seat, name, entry, left, force=force)
        if entry.taker == seat.number:
            _done([f"{name} was granted to this region before, as takeover {entry.generation}"], "", as_json=as_json)
            return
        if dry_run:
            _done([refusal or f"{name} would be granted to this region"], "", as_json=as_json, granted=refusal is None)
            return
        if refusal is not None:
            raise ConflictError(refusal)
        _sure(
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
    _done(
        [f"{name} is granted to this region as takeover {granted.generation}; its processes decide what is in flight"],
        "", as_json=as_json, generation=granted.generation,
    )  # fmt: skip


def _refusal(seat: _Seat, name: str, entry: "Entry", left: float, *, force: bool) -> str | None:
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


@regions.command()
def rejoin(*, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Bring this region back after it was taken over: say what is still missing, and do what can be done from here.

    It fences the region and opens what was left cut off; the rest is the taker's, whose processes must run. Exit code 1
    while something is missing.
    """
    with _seat(config) as seat:
        steps = list(_steps_back(seat))
    missing = [what for done, what in steps if not done]
    if as_json:
        emit({"back": not missing, "steps": [{"done": done, "what": what} for done, what in steps]})
    else:
        for done, what in steps:
            say(f"{'✓' if done else '·'} {what}")
    raise typer.Exit(Exit.FAILED if missing else Exit.OK)


def _steps_back(seat: _Seat) -> Iterator[tuple[bool, str]]:
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


def _flows_back(seat: _Seat) -> Iterator[tuple[bool, str]]:
    """Replication with each peer; what nobody keeps cut off for a reason is opened."""
    for other, peer in seat.peers.items():
        if seat.replication.subscription_to(peer.number) is None:
            yield False, f"{other} is not followed: run `interlock regions join`"
            continue
        if seat.replication.is_cut(peer.number):
            if any(over.home == peer.number and over.returned_at is None for over in _own_takeovers(seat)):
                yield False, f"{other} is cut off, for this region has taken it over and it is not back"
                continue
            seat.replication.open(peer.number)
        state = seat.replication.status(seat.peers)[peer.number]
        ready = state.inbound.ready
        yield ready, f"{other} is followed" if ready else f"{other} is not followed yet: {_inbound(state.inbound)}"
        lost = not state.outbound.slot or state.outbound.wal_status == "lost"
        yield (
            not lost,
            f"{other} needs `interlock regions {'reseed' if state.outbound.slot else 'join'}` over there"
            if lost
            else f"{other} can follow this region from where it was",
        )


def _own_takeovers(seat: _Seat) -> "list[Takeover]":
    return [over for over in seat.replication.takeovers() if over.region == seat.number]


@regions.command()
def retire(
    name: Peer, *, yes: Yes = False, dry_run: DryRun = False, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Give up for good a region that was taken over and will not come back.

    It can never return under its number: make a new region with another one. What it acknowledged and had not
    replicated is lost with it; payments held as unknown may then be resolved here, by two operators with evidence from
    the downstream.
    """
    with _seat(config) as seat:
        peer = seat.peer(name)
        for _ in range(_TRIES):
            entry, _ = seat.witness.entry(peer.number)
            after = rules.retired(entry)
            if after is None:
                _done([f"{name} was given up before"], "", as_json=as_json)
                return
            if entry.taker is None:
                raise ConflictError(f"nobody has taken {name} over: `interlock regions takeover` comes first")
            if dry_run:
                _done(
                    [f"{name} would be given up for good; {seat.name(entry.taker)} has taken it over"],
                    "",
                    as_json=as_json,
                )
                return
            _sure(f"{name} can never come back; what only it has is lost.", yes=yes)
            if seat.witness.change(peer.number, entry, after):
                _done([f"{name} is given up for good"], "", as_json=as_json)
                return
    raise StoreUnavailable("the witness's entry changes again and again; try again")


# -- waiting ----------------------------------------------------------------------------------------------------------


def _until(true: Callable[[], bool], seconds: float, what: str, *, quiet: bool) -> bool:
    """Wait until something is so; whether it came to that in time."""
    deadline = monotonic() + seconds
    with console(stderr=True).status(what) if not quiet else _silence():
        while not true():
            if monotonic() >= deadline:
                return False
            sleep(_POLL_SECONDS)
    return True


@contextmanager
def _silence() -> Iterator[None]:
    yield
