"""`interlock regions status` and `verify`: how regions stand to each other, and whether they hold the same."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile
from interlock.cli.printing import complain, emit, say, table
from interlock.cli.regions.dialogue import SomePeer, Wait
from interlock.cli.regions.seat import Seat, seated
from interlock.errors import InterlockError

if TYPE_CHECKING:
    from interlock.ports import Takeover
    from interlock.regions.flows import Inbound, Outbound, PeerStatus
    from interlock.regions.rules import Entry, Post


def status(*, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the regions as this one sees them, and every fault that is found.

    Exit code 1 if there is one: each says what to do.
    """
    from interlock.stores.postgres.diagnosis import check

    with seated(config) as seat:
        post, found = seat.replication.read_post(), seat.replication.status(seat.peers)
        faults = check(seat.replication, seat.peers)
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
    seat: Seat,
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
                "this region" if number == seat.number else "" if state is None else incoming(state.inbound),
                "" if state is None else _outbound(state.outbound),
            )
        )
    columns = ("region", "takeover", "may be taken over by", "taken over by", "lease", "from there", "to there")
    table(columns, rows, empty="no regions")
    for over in takeovers:
        if over.returned_at is None:
            done = f"decided {over.transactions:,}" if over.completed_at else "deciding"
            say(f"{seat.name(over.region)} has taken {seat.name(over.home)} over since {over.begun_at:%F %T}: {done}")


def incoming(flow: "Inbound") -> str:
    """How far what comes from a peer is, in words."""
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
    seat: Seat,
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

    with seated(config) as seat:
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
