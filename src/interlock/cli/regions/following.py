"""`interlock regions init`, `join`, `leave` and `reseed`: who follows whom."""

from functools import partial
from typing import TYPE_CHECKING

from interlock.cli.options import AsJson, ConfigFile
from interlock.cli.regions.dialogue import DryRun, Peer, SomePeer, Wait, Yes, sure, tell, until
from interlock.cli.regions.seat import Seat, seated
from interlock.errors import ConflictError
from interlock.regions import rules

if TYPE_CHECKING:
    from interlock.config import PeerConfig
    from interlock.regions.rules import Entry


def init(*, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Set this region up for others: its entry at the witness, what it publishes, its guards.

    Once in each region, after `interlock db migrate`; and again in each once all were migrated, so that new columns are
    published. It changes only what is not as it should be.
    """
    from interlock.stores.postgres import joining

    with seated(config) as seat:
        seat.witness.install()
        seat.witness.ensure(seat.number)
        told = joining.install(seat.replication, seat.peers)
    tell(told, "everything is as it should be", as_json=as_json)


def join(name: SomePeer = None, *, wait: Wait = 600, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Follow another region, or all: copy its rows, then take in its changes as they come.

    In each region, after all of them were set up. On PostgreSQL 15 the database's user must be a superuser; from 16 on
    the role pg_create_subscription is enough, and the other database's URL needs a password.
    """
    from interlock.stores.postgres import joining

    with seated(config) as seat:
        told = []
        for other, peer in seat.some(name).items():
            new = joining.subscribe(seat.replication, peer)
            told.append(f"{other} is followed now" if new else f"{other} is followed already")
        for other, peer in seat.some(name).items():
            if seat.replication.is_cut(peer.number):
                told.append(f"{other} is cut off: a takeover of it has not come to its end")
                continue
            ready = until(partial(seat.replication.ready, peer.number), wait, f"{other} is being copied", quiet=as_json)
            told.append(f"{other} was copied, and is followed" if ready else f"{other} is still being copied")
    tell(told, "", as_json=as_json)


def leave(
    name: Peer, *, yes: Yes = False, dry_run: DryRun = False, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Follow another region no more.

    Rows that have come stay. From then on this region cannot take the other one over: if that is lost, what is in
    flight there waits for its return. Give the command in the other region too, and take both out of the configuration.
    """
    from interlock.stores.postgres import joining

    with seated(config) as seat:
        peer = seat.peer(name)
        retired = seat.witness.entry(peer.number)[0].retired
        open_ = any(over.home == peer.number and over.returned_at is None for over in seat.own_takeovers())
        if open_ and not retired:
            raise ConflictError(f"this region has taken {name} over, and goes on with its payments until it is back")
        if dry_run:
            tell([f"{name} would not be followed any more; its rows would stay here"], "", as_json=as_json)
            return
        sure(f"If {name} is lost from here on, nobody in this region can take its payments over.", yes=yes)
        if not retired:
            _resign(seat, peer)
        gone = joining.unsubscribe(seat.replication, peer)
        if not retired:
            # Its keeper may have taken us in again in between; from now on it cannot.
            _resign(seat, peer)
    told = [f"{name} is not followed any more"]
    if not gone:
        told.append("its database could not be reached: do this again once it can, or it keeps its log for nobody")
    tell(told, "", as_json=as_json)


def _resign(seat: Seat, peer: "PeerConfig") -> None:
    """Be no more among those that may take a peer over."""

    def without_us(entry: "Entry") -> "Entry | None":
        if seat.number not in entry.members:
            return None
        after = rules.removed(entry, seat.number)
        if after is None:
            raise ConflictError(
                f"{seat.name(peer.number)} was taken over by {seat.name(entry.taker)}: let that end first"
            )
        return after

    seat.change(peer, without_us)


def reseed(
    name: Peer, *, yes: Yes = False, dry_run: DryRun = False, wait: Wait = 600, config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make the copy of another region's rows anew, after its slot was lost or the copy is wrong.

    Its rows are deleted here and copied again, which may take hours; until that is done, this region cannot take the
    other one over. This region's own rows are not touched. Refused while this region guards the other one or has taken
    it over: then its copy counts.
    """
    from interlock.stores.postgres import joining

    with seated(config) as seat:
        peer = seat.peer(name)
        if dry_run:
            present = seat.replication.subscription_to(peer.number)
            followed = "is followed" if present is not None else "is not followed"
            tell([f"{name} {followed}; all its rows here would be deleted, and copied again"], "", as_json=as_json)
            return
        sure(f"All rows of {name} in this region are deleted before they are copied again.", yes=yes)
        deleted = joining.reseed(seat.replication, peer)
        ready = until(partial(seat.replication.ready, peer.number), wait, f"{name} is being copied", quiet=as_json)
    state = "was copied again, and is followed" if ready else "is still being copied"
    tell([f"{deleted:,} rows were deleted; {name} {state}"], "", as_json=as_json, deleted=deleted, ready=ready)
