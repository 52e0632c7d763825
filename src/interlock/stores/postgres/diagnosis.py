"""What can be wrong with replication between regions, found before it hurts: each trap that is known, a sentence each.

Owns: the list of traps. Must not know: how any of them is mended, but for the command to name.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

from interlock.errors import InterlockError, StoreUnavailable
from interlock.regions.flows import Inbound, Outbound, PeerStatus
from interlock.stores.postgres import doubles, publications, schema
from interlock.stores.postgres.connections import fetch
from interlock.stores.postgres.publications import OPERATIONS, TABLES, Part, Publication, Published
from interlock.stores.postgres.replication import Replication
from interlock.stores.postgres.sites import Peers, PeerSettings
from interlock.stores.statements import queries

#: What of the server is looked at.
_SETTINGS = (
    "max_active_replication_origins",
    "max_logical_replication_workers",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "max_sync_workers_per_subscription",
    "max_wal_senders",
    "max_worker_processes",
    "synchronous_standby_names",
    "wal_level",
)
_INCIDENTS = 20
#: A worker that fails is begun again every five seconds, as the server has it by default.
_LOOK_SECONDS, _POLL_SECONDS = 1.0, 0.1
_INIT = "run `interlock regions init`"


def check(replication: Replication, peers: Peers) -> list[str]:
    """Every trap that a region or its peers stand in, a sentence each."""
    return list(_faults(replication, peers))


def _faults(replication: Replication, peers: Peers) -> Iterator[str]:
    parts = [_of_server(replication, peers), _of_publications(replication), _of_tables(replication)]
    for name, peer in peers.items():
        parts += [_of_subscription(replication, name, peer), _of_schema(replication, name, peer)]
    parts += [_of_flow(replication, peers), _incidents(replication)]
    for part in parts:
        try:
            yield from part
        except StoreUnavailable as exc:
            # A table that somebody holds: all else can still be told.
            yield f"cannot be looked at now: {exc}"


def _of_server(replication: Replication, peers: Peers) -> Iterator[str]:
    statements = queries("postgres", "replication.sql")
    with replication.site.use() as connection:
        found: Mapping[str, str] = dict(fetch(connection, statements["settings"], (list(_SETTINGS),)))
        ((used,),) = fetch(connection, statements["slots_used"])
    _, flushed = replication.flushed()
    if found["wal_level"] != "logical":
        yield f"wal_level is {found['wal_level']}: peers cannot follow; set it to logical and restart the server"
    if found["max_slot_wal_keep_size"] == "-1":
        yield (
            "max_slot_wal_keep_size is not set: while a peer is away this region keeps its whole log for it, until the "
            "disk is full"
        )
    among = f" with {len(peers)} peer{'s' * (len(peers) != 1)}"
    copying = int(found["max_sync_workers_per_subscription"])
    # Each peer has a slot and a sender, and some more while it copies; slots of others need room too.
    outgoing = used + len([peer for peer in peers.values() if peer.number not in flushed]) + copying
    for name in ("max_replication_slots", "max_wal_senders"):
        if int(found[name]) < outgoing:
            yield f"{name} is {found[name]}, and {outgoing} are needed{among}"
    incoming = len(peers) + copying
    # Beside what applies and copies, the server itself needs one to launch them.
    for name, needed in (("max_logical_replication_workers", incoming), ("max_worker_processes", incoming + 1)):
        if int(found[name]) < needed:
            yield f"{name} is {found[name]}, and {needed} are needed{among}"
    origins = found.get("max_active_replication_origins")
    if origins is not None and int(origins) < incoming:
        yield f"max_active_replication_origins is {origins}, and {incoming} are needed{among}"
    names = found["synchronous_standby_names"]
    if "*" in names or "interlock_" in names:
        yield (
            f"synchronous_standby_names is {names!r}, which counts peers among the standbys: commits would hang while "
            "they are away; name the standbys one by one"
        )


def _of_publications(replication: Replication) -> Iterator[str]:
    with replication.site.use() as connection:
        present, own = publications.publications(connection), publications.columns(connection)
    for name in OPERATIONS:
        if name not in present:
            yield f"publication {name} is missing: {_INIT}"
            continue
        yield from _of_publication(name, present[name])
        for table in TABLES:
            if table.publication == name:
                part = present[name].parts.get(table.name)
                yield from _of_part(table, part, own[table.name], replication.site.region)


def _of_publication(name: str, found: Publication) -> Iterator[str]:
    if found.truncate:
        yield f"publication {name} publishes TRUNCATE, which empties the peers' own rows: {_INIT}"
    if found.operations != OPERATIONS[name]:
        yield f"publication {name} publishes {found.operations or 'nothing'}, not {OPERATIONS[name]}: {_INIT}"
    if not found.via_root:
        yield f"publication {name} publishes partitions by their own names, which peers do not have: {_INIT}"


def _of_part(table: Published, part: Part | None, own: Sequence[str], region: int) -> Iterator[str]:
    if part is None:
        yield f"{table.name} is not published: {_INIT}"
        return
    if not publications.right_filter(table, part, region):
        yield f"{table.name} is published with other rows than this region's own: {_INIT}"
    if part.columns is None:
        yield f"{table.name} is published without a list of columns: the next new one would stop every peer; {_INIT}"
        return
    for column in own:
        if column not in part.columns:
            yield f"{table.name}.{column} is not published: once every region has it, {_INIT} in each"


def _of_tables(replication: Replication) -> Iterator[str]:
    statements = queries("postgres", "replication.sql")
    with replication.site.use() as connection:
        for name in publications.unguarded(connection):
            yield f"{name} does not refuse other regions' rows: run `interlock regions init`"
        for (name,) in fetch(connection, statements["without_default"], (list(schema.PARTITIONED),)):
            yield f"{name} has no DEFAULT partition: a peer's row that fits no other one would stop what comes from it"
        for (name,) in fetch(connection, statements["odd_identities"], (list(publications.TABLE_NAMES),)):
            yield f"{name} has another replica identity than its key: updates may fail, or cost several times as much"


def _of_subscription(replication: Replication, name: str, peer: PeerSettings) -> Iterator[str]:
    present = replication.subscription_to(peer.number)
    if present is None:
        yield f"this region does not follow {name}: run `interlock regions join`"
        return
    for fault in present.faults:
        yield f"the subscription to {name}: {fault}; run `interlock regions join`"
    if not present.enabled:
        yield f"the subscription to {name} is cut: nothing of it comes in until it is opened"
    if present.slot is None:
        yield f"the subscription to {name} has no slot: run `interlock regions reseed`"


def _of_schema(replication: Replication, name: str, peer: PeerSettings) -> Iterator[str]:
    with replication.site.use() as connection:
        own, number = publications.columns(connection), schema.number(connection)
    try:
        with replication.site.abroad(peer) as there:
            theirs, their_number = publications.publications(there), schema.number(there)
    except InterlockError as exc:
        yield f"{name} cannot be asked: {exc}"
        return
    if number != their_number:
        behind = name if their_number < number else "this region"
        yield (
            f"{name} has schema {their_number}, this region {number}: migrate {behind} next (`interlock db migrate`); "
            "when all have it, run `interlock regions init` in each"
        )
    for publication in theirs.values():
        for table, part in publication.parts.items():
            for column in part.columns or ():
                if column not in own.get(table, ()):
                    yield f"{name} publishes {table}.{column}, which is missing here: what comes from it stops"


def _of_flow(replication: Replication, peers: Peers) -> Iterator[str]:
    """Looked at until all moves, or something has stood still for long."""
    first = last = replication.status(peers)
    deadline = time.monotonic() + replication.stall_seconds + _LOOK_SECONDS
    if any(_fails(status.inbound) for status in first.values()):
        time.sleep(_LOOK_SECONDS)
        last = replication.status(peers)
    # Whether something moves is only seen from the second look on.
    while any(_may_stall(status, looked=last is not first) for status in last.values()):
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_SECONDS)
        last = replication.status(peers)
    named = {peer.number: name for name, peer in peers.items()}
    for number, status in last.items():
        name = named.get(number, f"region {number}")
        yield from _of_inbound(name, first.get(number, status).inbound, status.inbound)
        yield from _of_outbound(name, status.outbound)
        if number not in named:
            yield f"{name} is no peer of this region, yet one follows the other: run `interlock regions leave` in both"


def _fails(inbound: Inbound) -> bool:
    return inbound.enabled and (not inbound.worker or inbound.apply_errors + inbound.sync_errors > 0)


def _may_stall(status: PeerStatus, *, looked: bool) -> bool:
    return any(
        flow.worker and flow.lag_bytes != 0 and not flow.stalled and not (looked and flow.moves)
        for flow in (status.inbound, status.outbound)
    )


def _of_inbound(name: str, former: Inbound, inbound: Inbound) -> Iterator[str]:
    if not inbound.enabled:
        return
    errors = inbound.apply_errors + inbound.sync_errors
    if errors > former.apply_errors + former.sync_errors:
        yield f"what comes from {name} fails again and again ({errors} times): the server's log says why"
    elif not inbound.worker and not former.worker:
        yield f"nobody applies what comes from {name}: the server's log says why"
    elif inbound.stalled:
        yield f"what comes from {name} stands still, though there is more: does somebody here lock a table?"
    waiting = [table for table, state in inbound.tables.items() if state != "r"]
    if waiting:
        yield f"of {name} these tables are still being copied: {', '.join(waiting)}"


def _of_outbound(name: str, outbound: Outbound) -> Iterator[str]:
    if not outbound.slot:
        yield f"{name} does not follow this region: run `interlock regions join` there"
    elif outbound.wal_status == "lost":
        yield f"the slot of {name} is lost, it was away for too long: run `interlock regions reseed` there"
    elif outbound.wal_status == "unreserved":
        yield f"the slot of {name} is about to be lost: the log that it needs may go at any moment"
    elif outbound.stalled:
        yield f"{name} stands still {outbound.lag_bytes} bytes behind this region"


def _incidents(replication: Replication) -> Iterator[str]:
    """What is recorded: whatever comes is looked at as it comes."""
    with replication.site.use() as connection:
        number, newest = doubles.recorded(connection, replication.site.region, _INCIDENTS)
    for id_, note in newest:
        yield f"INCIDENT: transaction {id_} has ended twice: {note}"
    if number > len(newest):
        yield f"INCIDENT: {number - len(newest)} more transactions have ended twice; list them by `flagged`"
