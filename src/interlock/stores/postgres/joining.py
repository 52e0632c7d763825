"""Who follows whom: what a region publishes, its subscriptions to peers, and the copies that those begin with.

For operators, beside the servers that run; each may be called again. Raises what `Replication` raises.

Owns: making, mending and dropping subscriptions and their slots. Must not know: takeovers, but that they stand in the
way.
"""

import contextlib
import time
from collections.abc import Iterator

import psycopg
from psycopg import errors, sql

from interlock.errors import ConfigError, ConflictError, InterlockError, StoreUnavailable
from interlock.stores.postgres import publications, schema
from interlock.stores.postgres.connections import fetch, for_bulk, said, translated
from interlock.stores.postgres.publications import OPERATIONS, TABLES, Columns
from interlock.stores.postgres.replication import Replication
from interlock.stores.postgres.sites import Abroad, Peers, PeerSettings
from interlock.stores.postgres.subscriptions import OPTIONS, Subscription, find, slot, subscription, table_states
from interlock.stores.statements import queries

#: What our server's connection to a peer must have: a peer that is gone without a word is noticed within seconds, and
#: a server that is stopped is not waited for.
_NETWORK = {
    "connect_timeout": "2",
    "keepalives": "1",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
}
#: A slot is made once every transaction that runs over there has ended.
_SLOT_TIMEOUT = "60s"
#: How long whoever uses a slot may take to end, and how often that is looked at.
_END_SECONDS, _POLL_SECONDS = 10.0, 0.01
#: Pages from which copied rows are deleted together: 8 MB.
_PAGES = 1_000


def install(replication: Replication, peers: Peers) -> list[str]:
    """Make or mend what this region publishes, and its guards; what was done, a sentence each.

    A column that is new is published once every peer has it, so this is done again after all were migrated.
    """
    with replication.site.use() as connection:
        schema.check(connection)
        if not fetch(connection, queries("postgres")["region"]):
            ((server,),) = fetch(connection, queries("postgres")["server"])
            connection.execute(queries("postgres")["make_region"], (replication.site.region, server))
    abroad: list[Columns | None] = []
    for peer in peers.values():
        try:
            with replication.site.abroad(peer) as there:
                # One that has no tables yet will have ours.
                abroad.append(publications.columns(there))
        except InterlockError:
            abroad.append(None)
    with replication.site.use() as connection:
        return publications.install(connection, replication.site.region, abroad)


def subscribe(replication: Replication, peer: PeerSettings) -> bool:
    """Follow a peer, beginning with a copy of its rows; whether that is new. One that was cut off stays so.

    Raises ConfigError where a database or its server is not set up for it, ConflictError where it must not be.
    """
    there = replication.site.know(peer)
    _must_fit(replication, peer, there)
    with replication.site.use() as connection:
        present = find(connection, peer.number)
    if present is not None:
        _mend(replication, peer, present)
        return False
    _must_know_takeover(replication, peer, there)
    _must_be_empty(replication, peer)
    _drop_slot(replication, peer)
    statement = sql.SQL(
        "CREATE SUBSCRIPTION {name} CONNECTION {conninfo} PUBLICATION {publications} "
        "WITH (slot_name = {slot}, create_slot = false, copy_data = true, {options})"
    )
    with _subscribing(peer):
        _make_slot(replication, peer)
    try:
        _subscribe(replication, peer, statement)
    except InterlockError:
        # One that nobody reads keeps the peer's log for ever.
        with contextlib.suppress(InterlockError):
            _drop_slot(replication, peer)
        raise
    return True


def _subscribe(replication: Replication, peer: PeerSettings, statement: sql.SQL) -> None:
    words = {
        "name": sql.Identifier(subscription(peer.number)),
        "conninfo": sql.Literal(_conninfo(replication, peer)),
        "publications": sql.SQL(", ").join(map(sql.Identifier, OPERATIONS)),
        "slot": sql.Identifier(slot(peer.number, replication.site.region)),
        "options": sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.SQL(name), sql.SQL(value)) for name, value in OPTIONS.items()
        ),
    }
    with _subscribing(peer), replication.site.long(_SLOT_TIMEOUT) as connection:
        connection.execute(statement.format(**words))


def _make_slot(replication: Replication, peer: PeerSettings) -> None:
    """In a call of its own, for a slot waits for every transaction over there.

    Made by CREATE SUBSCRIPTION it would wait within a transaction here; two regions that follow each other at the
    same moment would wait for each other.
    """
    with translated(), contextlib.closing(for_bulk(peer.database)) as there:
        there.execute("SELECT set_config('statement_timeout', $1, false)", (_SLOT_TIMEOUT,))
        fetch(there, replication.site.sql["make_slot"], (slot(peer.number, replication.site.region),))


@contextlib.contextmanager
def _subscribing(peer: PeerSettings) -> Iterator[None]:
    """Says what stands in the way of it."""
    try:
        yield
    except StoreUnavailable as exc:
        if isinstance(exc.__cause__, errors.QueryCanceled):
            raise StoreUnavailable(
                f"region {peer.number}: its server has made no slot within {_SLOT_TIMEOUT}; a transaction that "
                "stays open over there keeps it from that"
            ) from exc
        if isinstance(exc.__cause__, errors.ProhibitedSqlStatementAttempted):
            raise ConfigError(
                f"region {peer.number}: {said(exc.__cause__)} A subscription whose owner is no superuser needs a "
                "password in the URL of the peer's database, and a peer that asks for it"
            ) from exc
        raise
    except psycopg.Error as exc:
        raise ConfigError(f"region {peer.number} cannot be subscribed to: {said(exc)}") from exc


def _conninfo(replication: Replication, peer: PeerSettings) -> str:
    try:
        parsed = psycopg.conninfo.conninfo_to_dict(peer.database)
    except psycopg.ProgrammingError:
        # What libpq says of it repeats parts of it, and one of them may be the password.
        raise ConfigError(f"region {peer.number}: the database's URL cannot be read") from None
    own = {name: value for name, value in _NETWORK.items() if name not in parsed}
    return psycopg.conninfo.make_conninfo(
        **{**parsed, **own, "application_name": f"interlock_{replication.site.region}"}  # type: ignore[arg-type]
    )


def _mend(replication: Replication, peer: PeerSettings, present: Subscription) -> None:
    """Options, connection and tables of a subscription that is there already."""
    if present.slot is None or not _has_slot(replication, peer):
        raise ConflictError(
            f"region {peer.number} has no slot for this region any more: `interlock regions reseed` makes the copy anew"
        )
    name = sql.Identifier(subscription(peer.number))
    if present.faults:
        options = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.SQL(name_), sql.SQL(value)) for name_, value in OPTIONS.items()
        )
        with replication.site.use() as connection:
            connection.execute(sql.SQL("ALTER SUBSCRIPTION {} SET ({})").format(name, options))
            if sorted(present.publications) != sorted(OPERATIONS):
                listed = sql.SQL(", ").join(map(sql.Identifier, OPERATIONS))
                change = sql.SQL("ALTER SUBSCRIPTION {} SET PUBLICATION {} WITH (refresh = false)")
                connection.execute(change.format(name, listed))
    # What it is cannot be read back without special rights; a worker only begins anew where it is another one.
    conninfo = sql.SQL("ALTER SUBSCRIPTION {} CONNECTION {}").format(name, sql.Literal(_conninfo(replication, peer)))
    with replication.site.use() as connection:
        connection.execute(conninfo)
        tables = table_states(connection, present.oid)
    if present.enabled and set(tables) != set(publications.TABLE_NAMES):
        _subscribe(replication, peer, sql.SQL("ALTER SUBSCRIPTION {name} REFRESH PUBLICATION"))


def _must_fit(replication: Replication, peer: PeerSettings, there: Abroad) -> None:
    """Raise ConfigError where the peer's database or server does not publish what we can take."""
    where = f"region {peer.number}"
    if there.region != peer.number:
        raise ConfigError(f"{where}: that database is of region {there.region}")
    if there.wal_level != "logical":
        raise ConfigError(f"{where}: its server has wal_level = {there.wal_level}; set it to logical and restart it")
    if set(there.publications) != set(OPERATIONS):
        raise ConfigError(f"{where} does not publish yet: run `interlock regions init` there")
    if any(publication.truncate for publication in there.publications.values()):
        raise ConfigError(f"{where} publishes TRUNCATE, which would empty this region: run `interlock regions init`")
    unknown = _unknown_columns(replication, there)
    if unknown:
        raise ConfigError(f"{where} publishes what this schema does not have: {', '.join(unknown)}; migrate here")


def _unknown_columns(replication: Replication, there: Abroad) -> list[str]:
    with replication.site.use() as connection:
        own = publications.columns(connection)
    return [
        f"{table}.{column or '*'}"
        for publication in there.publications.values()
        for table, part in publication.parts.items()
        for column in part.columns or ("",)
        if column not in own.get(table, ())
    ]


def _must_know_takeover(replication: Replication, peer: PeerSettings, there: Abroad) -> None:
    """A home that was taken over says so in its own post before anything of it comes in again."""
    taken = [over.generation for over in replication.takeovers() if over.home == peer.number]
    if taken and max(taken) > there.post.generation:
        raise ConflictError(
            f"region {peer.number} was taken over and does not go by that yet: run `interlock regions fence` there"
        )


def _must_be_empty(replication: Replication, peer: PeerSettings) -> None:
    with replication.site.use() as connection:
        for table in TABLES:
            some = sql.SQL("SELECT 1 FROM {} WHERE {} LIMIT 1").format(
                sql.Identifier(table.name), sql.SQL(table.belongs(peer.number))
            )  # fmt: skip
            if fetch(connection, some.as_string(connection)):
                raise ConflictError(
                    f"there are rows of region {peer.number} here already, which a copy would collide with: "
                    "`interlock regions reseed` replaces them"
                )


def unsubscribe(replication: Replication, peer: PeerSettings) -> bool:
    """Follow a peer no more, also where it is gone; whether its slot over there is known to be gone too.

    Rows that have come stay. A slot that is left makes the peer keep its log for nobody.
    """
    name = sql.Identifier(subscription(peer.number))
    with replication.site.use() as connection:
        present = find(connection, peer.number)
    if present is not None:
        replication.cut(peer.number)
        with replication.site.long(_SLOT_TIMEOUT) as connection:
            # Without its slot it can be dropped whether or not the peer answers.
            if present.slot is not None:
                connection.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(name))
            connection.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))
    try:
        _drop_slot(replication, peer, None if present is None else present.oid)
    except StoreUnavailable:
        return False
    return True


def _has_slot(replication: Replication, peer: PeerSettings) -> bool:
    with replication.site.abroad(peer) as there:
        found = fetch(there, replication.site.sql["slot"], (slot(peer.number, replication.site.region),))
    return bool(found) and found[0][2] != "lost"


def _drop_slot(replication: Replication, peer: PeerSettings, oid: int | None = None) -> None:
    """Drop our slot over there, whoever holds it, and those that copying has left. oid: of the subscription."""
    name = slot(peer.number, replication.site.region)
    deadline = time.monotonic() + _END_SECONDS
    while True:
        with replication.site.abroad(peer) as there:
            there.execute(replication.site.sql["end_sender"], (name,))
            there.execute(replication.site.sql["drop_slot"], (name,))
            if oid is not None:
                there.execute(replication.site.sql["drop_copying_slots"], (rf"pg\_{oid}\_sync\_%",))
            if not fetch(there, replication.site.sql["slot"], (name,)):
                return
        if time.monotonic() >= deadline:
            raise StoreUnavailable(f"the slot {name} at region {peer.number} is in use, and its user does not end")
        time.sleep(_POLL_SECONDS)


def reseed(replication: Replication, peer: PeerSettings) -> int:
    """Make the copy of a peer's rows anew, where its slot was lost; how many rows of the old one were deleted.

    May be called again where it was broken off. Raises ConflictError where the copy is one that counts: while
    this region is a guard of the peer, or has taken it over and the peer does not know all yet.
    """
    there = replication.site.know(peer)
    _must_fit(replication, peer, there)
    _must_know_takeover(replication, peer, there)
    if replication.site.region in there.post.guards:
        raise ConflictError(
            f"this region guards region {peer.number}, whose ends count on what is here; its keeper drops a guard "
            "that does not follow: wait for that, or take this one out of its peers"
        )
    own = (
        over for over in replication.takeovers() if (over.home, over.region) == (peer.number, replication.site.region)
    )
    if any(over.returned_at is None for over in own):
        raise ConflictError(f"this region has taken region {peer.number} over, and goes by these rows until it is back")
    unsubscribe(replication, peer)
    deleted = _delete_copies(replication, peer.number)
    subscribe(replication, peer)
    return deleted


def _delete_copies(replication: Replication, region: int) -> int:
    """Delete what has come from a region. Guards let deletions pass, and none of another's rows is published."""
    assert region != replication.site.region, "own rows are nowhere else"
    deleted = 0
    with replication.site.long() as connection:
        for table in TABLES:
            for leaf, pages in fetch(connection, replication.site.sql["leaves"], (table.name,)):
                for first in range(0, int(pages), _PAGES):
                    some = sql.SQL("DELETE FROM {leaf} WHERE ctid >= {first} AND ctid < {end} AND {foreign}").format(
                        leaf=sql.Identifier(leaf),
                        first=sql.Literal(f"({first},0)"),
                        end=sql.Literal(f"({first + _PAGES},0)"),
                        foreign=sql.SQL(table.belongs(region)),
                    )
                    deleted += connection.execute(some).rowcount
    return deleted
