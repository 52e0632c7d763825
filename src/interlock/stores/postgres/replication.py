"""Replication between regions, seen from one region's database: what goes out, what comes in, and what stops it.

PostgreSQL does the work: each region publishes its own rows (`publications`) and subscribes to every peer. Here are the
subscriptions with the options that were found to be safe, what is read of them, and the post and takeovers, which every
commit and every peer goes by.

A subscription survives the loss of a connection or server by itself. What it does not survive is the loss of its slot
at the publisher, after an absence that was too long: then the copy is made anew (`reseed`).

Owns: subscriptions, slots, the post, records of takeovers. Must not know: when any of that is due.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

import psycopg
from psycopg import errors, sql

from interlock.chain import micros, moment
from interlock.errors import ConfigError, ConflictError, InterlockError, StoreUnavailable
from interlock.ports import Takeover
from interlock.regions.doubles import Arrivals, Double, Place
from interlock.regions.flows import Inbound, Outbound, PeerStatus
from interlock.regions.rules import Post
from interlock.stores.postgres import doubles, publications, schema
from interlock.stores.postgres.connections import Connection, fetch, for_bulk, said, translated
from interlock.stores.postgres.publications import OPERATIONS, TABLES, Columns
from interlock.stores.postgres.witness import BoundedLine
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
#: Why each is so: with `off` a peer's commits wait for our log writer, and with `on` two regions wait in a circle; a
#: stream of unfinished transactions is written to files first; and to disable on an error takes a lost connection for
#: one, for good.
_OPTIONS = {"synchronous_commit": "local", "streaming": "off", "binary": "true", "disable_on_error": "false"}
#: How long an apply worker may take to end by itself, and then when it was told to; and how often that is looked at.
_GRACE_SECONDS, _END_SECONDS, _POLL_SECONDS = 1.0, 10.0, 0.01
#: A slot is made once every transaction that runs over there has ended.
_SLOT_TIMEOUT = "60s"
#: Pages from which copied rows are deleted together: 8 MB.
_PAGES = 1_000
_ROWS = 1_000
_NULL_ID = UUID(int=0)
#: Longer than any statement of ours may take by itself: it is for a server that has stopped.
_PATIENCE_SECONDS = 12.0


class PeerSettings(Protocol):
    """What is configured of a peer, as far as its database goes."""

    @property
    def number(self) -> int:
        """Of its region."""
        ...

    @property
    def database(self) -> str:
        """URL by which our server and we reach its database."""
        ...


Peers = Mapping[str, PeerSettings]


class Subscription(NamedTuple):
    """Our subscription to a peer, as our database has it."""

    oid: int
    enabled: bool
    binary: bool
    streaming: bool
    synchronous_commit: str
    disable_on_error: bool
    slot: str | None
    publications: Sequence[str]

    @property
    def faults(self) -> list[str]:
        """Options that are not as they must be."""
        found = []
        if self.synchronous_commit != _OPTIONS["synchronous_commit"]:
            found.append(f"synchronous_commit is {self.synchronous_commit}, not local")
        if self.disable_on_error:
            found.append("disable_on_error is on: a lost connection would end it for good")
        if self.streaming:
            found.append("streaming is not off")
        if not self.binary:
            found.append("binary is off")
        if sorted(self.publications) != sorted(OPERATIONS):
            found.append(f"it is to {', '.join(self.publications)}, not {', '.join(OPERATIONS)}")
        return found


class _Abroad(NamedTuple):
    """What is read of a peer's database."""

    region: int
    schema: int
    post: Post
    wal_level: str
    publications: Mapping[str, publications.Publication]


class Progress:
    """Whether a position moves while there is something to move for. Pure: the time is an argument."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._seen: tuple[int, int] | None = None
        self._since = 0.0

    def still(self, position: int, goal: int, now: float) -> float:
        """For how many seconds it has not moved though it was behind a goal already; 0: it moves, or need not."""
        if self._seen is None or position != self._seen[0] or position >= self._seen[1]:
            self._seen, self._since = (position, goal), now
        return now - self._since


def copied(tables: Mapping[str, str]) -> bool:
    """Whether every table that regions share was copied."""
    return all(tables.get(table.name) == "r" for table in TABLES)


def slot(publisher: int, subscriber: int) -> str:
    """Name of a subscriber's slot at the publisher."""
    return f"interlock_{publisher}_to_{subscriber}"


def subscription(peer: int) -> str:
    """Name of the subscription to a peer."""
    return f"interlock_from_{peer}"


class Replication:
    """Replication of one region's database with its peers; used by one thread.

    Every method raises StoreUnavailable where a database cannot be asked, also where it is not known whether it has
    done what it was asked: all of them may be called again.
    """

    def __init__(
        self, url: str, region: int, *, patience_seconds: float = _PATIENCE_SECONDS, stall_seconds: float = 10.0
    ) -> None:
        """Connects when it is first used. Raises ConfigError then where the database is another region's.

        patience_seconds: how long one use may last; less for a database that is not this process's own region's.
        stall_seconds: without any move, though there is something to apply, after which replication counts as stalled.
        """
        self.region = region
        self._url = url
        self._sql = queries("postgres", "replication.sql")
        self._line = BoundedLine(url, f"the database of region {region}", patience_seconds, self._recognise)
        self._abroad: dict[str, BoundedLine] = {}
        self.stall_seconds = stall_seconds
        self._progress: dict[tuple[int, bool], Progress] = {}

    def close(self) -> None:
        """End all connections."""
        self._line.close()
        for line in self._abroad.values():
            line.close()
        self._abroad.clear()

    def _recognise(self, connection: Connection) -> None:
        try:
            found = fetch(connection, queries("postgres")["region"])
        except errors.UndefinedTable as exc:
            raise ConfigError(
                f"the database of region {self.region} has no schema of ours: run `interlock db migrate`"
            ) from exc
        if found and found[0][0] != self.region:
            raise ConfigError(f"region_number: the database is of region {found[0][0]}, not {self.region}")

    @contextlib.contextmanager
    def use(self) -> Iterator[Connection]:
        """Our database's connection, for as long as patience lasts."""
        with self._told(), self._line.use() as connection:
            yield connection

    @contextlib.contextmanager
    def _long(self, timeout: str = "0") -> Iterator[Connection]:
        """A connection for what may take long."""
        with self._told(), contextlib.closing(for_bulk(self._url)) as connection:
            self._recognise(connection)
            connection.execute("SELECT set_config('statement_timeout', $1, false)", (timeout,))
            yield connection

    @contextlib.contextmanager
    def abroad(self, peer: PeerSettings) -> Iterator[Connection]:
        """A peer's database, which is waited for no longer than seconds."""
        line = self._abroad.get(peer.database)
        if line is None:
            line = self._abroad[peer.database] = BoundedLine(peer.database, f"the database of region {peer.number}")
        try:
            with line.use() as connection:
                yield connection
        except errors.UndefinedTable as exc:
            raise ConfigError(
                f"the database of region {peer.number} has no schema of ours: run `interlock db migrate` there"
            ) from exc
        except errors.InsufficientPrivilege as exc:
            raise ConfigError(
                f"the database of region {peer.number}: {said(exc)}; the user of its URL must own our tables there or "
                "be able to read them, and have the attribute REPLICATION"
            ) from exc

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what the driver says into our own words."""
        try:
            with translated():
                yield
        except errors.InsufficientPrivilege as exc:
            raise ConfigError(f"store: the user may not do that: {said(exc)}. {self._rights()}") from exc

    def _rights(self) -> str:
        with self._line.use() as connection:
            info = connection.info
        if info.server_version < 160_000:
            return (
                "Subscriptions are for superusers alone on PostgreSQL 15: run this as one, or upgrade to 16, where the "
                "role pg_create_subscription is enough"
            )
        return (
            f'Subscriptions need: GRANT pg_create_subscription TO "{info.user}"; GRANT CREATE ON DATABASE '
            f'"{info.dbname}" TO "{info.user}"; and it must own the tables, or be able to become their owner'
        )

    # -- setting up --

    def install(self, peers: Peers) -> list[str]:
        """Make or mend what this region publishes, and its guards; what was done, a sentence each.

        A column that is new is published once every peer has it, so this is done again after all were migrated.
        """
        with self.use() as connection:
            schema.check(connection)
            if not fetch(connection, queries("postgres")["region"]):
                ((server,),) = fetch(connection, queries("postgres")["server"])
                connection.execute(queries("postgres")["make_region"], (self.region, server))
        abroad: list[Columns | None] = []
        for peer in peers.values():
            try:
                with self.abroad(peer) as there:
                    # One that has no tables yet will have ours.
                    abroad.append(publications.columns(there))
            except InterlockError:
                abroad.append(None)
        with self.use() as connection:
            return publications.install(connection, self.region, abroad)

    def subscribe(self, peer: PeerSettings) -> bool:
        """Follow a peer, beginning with a copy of its rows; whether that is new. One that was cut off stays so.

        Raises ConfigError where a database or its server is not set up for it, ConflictError where it must not be.
        """
        there = self._know(peer)
        self._must_fit(peer, there)
        with self.use() as connection:
            present = self._subscription(connection, peer.number)
        if present is not None:
            self._mend(peer, present)
            return False
        self._must_know_takeover(peer, there)
        self._must_be_empty(peer)
        self._drop_slot(peer)
        statement = sql.SQL(
            "CREATE SUBSCRIPTION {name} CONNECTION {conninfo} PUBLICATION {publications} "
            "WITH (slot_name = {slot}, create_slot = false, copy_data = true, {options})"
        )
        with self._subscribing(peer):
            self._make_slot(peer)
        try:
            self._subscribe(peer, statement)
        except InterlockError:
            # One that nobody reads keeps the peer's log for ever.
            with contextlib.suppress(InterlockError):
                self._drop_slot(peer)
            raise
        return True

    def _subscribe(self, peer: PeerSettings, statement: sql.SQL) -> None:
        words = {
            "name": sql.Identifier(subscription(peer.number)),
            "conninfo": sql.Literal(self._conninfo(peer)),
            "publications": sql.SQL(", ").join(map(sql.Identifier, OPERATIONS)),
            "slot": sql.Identifier(slot(peer.number, self.region)),
            "options": sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.SQL(name), sql.SQL(value)) for name, value in _OPTIONS.items()
            ),
        }
        with self._subscribing(peer), self._long(_SLOT_TIMEOUT) as connection:
            connection.execute(statement.format(**words))

    def _make_slot(self, peer: PeerSettings) -> None:
        """In a call of its own, for a slot waits for every transaction over there.

        Made by CREATE SUBSCRIPTION it would wait within a transaction here; two regions that follow each other at the
        same moment would wait for each other.
        """
        with translated(), contextlib.closing(for_bulk(peer.database)) as there:
            there.execute("SELECT set_config('statement_timeout', $1, false)", (_SLOT_TIMEOUT,))
            fetch(there, self._sql["make_slot"], (slot(peer.number, self.region),))

    @contextlib.contextmanager
    def _subscribing(self, peer: PeerSettings) -> Iterator[None]:
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

    def _conninfo(self, peer: PeerSettings) -> str:
        try:
            parsed = psycopg.conninfo.conninfo_to_dict(peer.database)
        except psycopg.ProgrammingError:
            # What libpq says of it repeats parts of it, and one of them may be the password.
            raise ConfigError(f"region {peer.number}: the database's URL cannot be read") from None
        own = {name: value for name, value in _NETWORK.items() if name not in parsed}
        return psycopg.conninfo.make_conninfo(
            **{**parsed, **own, "application_name": f"interlock_{self.region}"}  # type: ignore[arg-type]
        )

    def _mend(self, peer: PeerSettings, present: Subscription) -> None:
        """Options, connection and tables of a subscription that is there already."""
        if present.slot is None or not self._has_slot(peer):
            raise ConflictError(
                f"region {peer.number} has no slot for this region any more: `interlock regions reseed` makes the copy "
                "anew"
            )
        name = sql.Identifier(subscription(peer.number))
        if present.faults:
            options = sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.SQL(name_), sql.SQL(value)) for name_, value in _OPTIONS.items()
            )
            with self.use() as connection:
                connection.execute(sql.SQL("ALTER SUBSCRIPTION {} SET ({})").format(name, options))
                if sorted(present.publications) != sorted(OPERATIONS):
                    listed = sql.SQL(", ").join(map(sql.Identifier, OPERATIONS))
                    change = sql.SQL("ALTER SUBSCRIPTION {} SET PUBLICATION {} WITH (refresh = false)")
                    connection.execute(change.format(name, listed))
        # What it is cannot be read back without special rights; a worker only begins anew where it is another one.
        conninfo = sql.SQL("ALTER SUBSCRIPTION {} CONNECTION {}").format(name, sql.Literal(self._conninfo(peer)))
        with self.use() as connection:
            connection.execute(conninfo)
            tables = self._tables(connection, present.oid)
        if present.enabled and set(tables) != set(publications.TABLE_NAMES):
            self._subscribe(peer, sql.SQL("ALTER SUBSCRIPTION {name} REFRESH PUBLICATION"))

    def _must_fit(self, peer: PeerSettings, there: _Abroad) -> None:
        """Raise ConfigError where the peer's database or server does not publish what we can take."""
        where = f"region {peer.number}"
        if there.region != peer.number:
            raise ConfigError(f"{where}: that database is of region {there.region}")
        if there.wal_level != "logical":
            raise ConfigError(
                f"{where}: its server has wal_level = {there.wal_level}; set it to logical and restart it"
            )
        if set(there.publications) != set(OPERATIONS):
            raise ConfigError(f"{where} does not publish yet: run `interlock regions init` there")
        if any(publication.truncate for publication in there.publications.values()):
            raise ConfigError(
                f"{where} publishes TRUNCATE, which would empty this region: run `interlock regions init`"
            )
        unknown = self._unknown_columns(there)
        if unknown:
            raise ConfigError(f"{where} publishes what this schema does not have: {', '.join(unknown)}; migrate here")

    def _unknown_columns(self, there: _Abroad) -> list[str]:
        with self.use() as connection:
            own = publications.columns(connection)
        return [
            f"{table}.{column or '*'}"
            for publication in there.publications.values()
            for table, part in publication.parts.items()
            for column in part.columns or ("",)
            if column not in own.get(table, ())
        ]

    def _must_know_takeover(self, peer: PeerSettings, there: _Abroad) -> None:
        """A home that was taken over says so in its own post before anything of it comes in again."""
        taken = [over.generation for over in self.takeovers() if over.home == peer.number]
        if taken and max(taken) > there.post.generation:
            raise ConflictError(
                f"region {peer.number} was taken over and does not go by that yet: run `interlock regions fence` there"
            )

    def _must_be_empty(self, peer: PeerSettings) -> None:
        with self.use() as connection:
            for table in TABLES:
                some = sql.SQL("SELECT 1 FROM {} WHERE {} LIMIT 1").format(
                    sql.Identifier(table.name), sql.SQL(table.belongs(peer.number))
                )  # fmt: skip
                if fetch(connection, some.as_string(connection)):
                    raise ConflictError(
                        f"there are rows of region {peer.number} here already, which a copy would collide with: "
                        "`interlock regions reseed` replaces them"
                    )

    def unsubscribe(self, peer: PeerSettings) -> bool:
        """Follow a peer no more, also where it is gone; whether its slot over there is known to be gone too.

        Rows that have come stay. A slot that is left makes the peer keep its log for nobody.
        """
        name = sql.Identifier(subscription(peer.number))
        with self.use() as connection:
            present = self._subscription(connection, peer.number)
        if present is not None:
            self.cut(peer.number)
            with self._long(_SLOT_TIMEOUT) as connection:
                # Without its slot it can be dropped whether or not the peer answers.
                if present.slot is not None:
                    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(name))
                connection.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))
        try:
            self._drop_slot(peer, None if present is None else present.oid)
        except StoreUnavailable:
            return False
        return True

    def _has_slot(self, peer: PeerSettings) -> bool:
        with self.abroad(peer) as there:
            found = fetch(there, self._sql["slot"], (slot(peer.number, self.region),))
        return bool(found) and found[0][2] != "lost"

    def _drop_slot(self, peer: PeerSettings, oid: int | None = None) -> None:
        """Drop our slot over there, whoever holds it, and those that copying has left. oid: of the subscription."""
        name = slot(peer.number, self.region)
        deadline = time.monotonic() + _END_SECONDS
        while True:
            with self.abroad(peer) as there:
                there.execute(self._sql["end_sender"], (name,))
                there.execute(self._sql["drop_slot"], (name,))
                if oid is not None:
                    there.execute(self._sql["drop_copying_slots"], (rf"pg\_{oid}\_sync\_%",))
                if not fetch(there, self._sql["slot"], (name,)):
                    return
            if time.monotonic() >= deadline:
                raise StoreUnavailable(f"the slot {name} at region {peer.number} is in use, and its user does not end")
            time.sleep(_POLL_SECONDS)

    def reseed(self, peer: PeerSettings) -> int:
        """Make the copy of a peer's rows anew, where its slot was lost; how many rows of the old one were deleted.

        May be called again where it was broken off. Raises ConflictError where the copy is one that counts: while
        this region is a guard of the peer, or has taken it over and the peer does not know all yet.
        """
        there = self._know(peer)
        self._must_fit(peer, there)
        self._must_know_takeover(peer, there)
        if self.region in there.post.guards:
            raise ConflictError(
                f"this region guards region {peer.number}, whose ends count on what is here; its keeper drops a guard "
                "that does not follow: wait for that, or take this one out of its peers"
            )
        own = (over for over in self.takeovers() if (over.home, over.region) == (peer.number, self.region))
        if any(over.returned_at is None for over in own):
            raise ConflictError(
                f"this region has taken region {peer.number} over, and goes by these rows until it is back"
            )
        self.unsubscribe(peer)
        deleted = self._delete_copies(peer.number)
        self.subscribe(peer)
        return deleted

    def _delete_copies(self, region: int) -> int:
        """Delete what has come from a region. Guards let deletions pass, and none of another's rows is published."""
        assert region != self.region, "own rows are nowhere else"
        deleted = 0
        with self._long() as connection:
            for table in TABLES:
                for leaf, pages in fetch(connection, self._sql["leaves"], (table.name,)):
                    for first in range(0, int(pages), _PAGES):
                        some = sql.SQL(
                            "DELETE FROM {leaf} WHERE ctid >= {first} AND ctid < {end} AND {foreign}"
                        ).format(
                            leaf=sql.Identifier(leaf),
                            first=sql.Literal(f"({first},0)"),
                            end=sql.Literal(f"({first + _PAGES},0)"),
                            foreign=sql.SQL(table.belongs(region)),
                        )
                        deleted += connection.execute(some).rowcount
        return deleted

    # -- cutting off and letting in --

    def cut(self, peer: int, epoch: int | None = None) -> bool:
        """Let nothing of a peer's come in any more; returns when nobody applies anything of it.

        epoch: of the post under which that was decided; False where it is over, and nothing was done: whoever slept
        since must not do what another has gone beyond. Raises StoreUnavailable where the worker does not end: then
        something may still come.
        """
        name = sql.Identifier(subscription(peer))
        with self._alone_at_post() as connection:
            if not self._stands(connection, epoch):
                return False
            present = self._subscription(connection, peer)
            if present is None:
                return True
            connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
        seen: set[int] = set()
        began = time.monotonic()
        while True:
            with self.use() as connection:
                seen = {pid for (pid,) in fetch(connection, self._sql["workers"], (present.oid, list(seen)))}
                waited = time.monotonic() - began
                if not seen:
                    return True
                if waited >= _GRACE_SECONDS:
                    # It waits for a lock, or for a peer that does not answer.
                    connection.execute("SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS u (pid)",
                                       (list(seen),))  # fmt: skip
            if waited >= _GRACE_SECONDS + _END_SECONDS:
                raise StoreUnavailable(f"the worker that applies changes of region {peer} does not end")
            time.sleep(_POLL_SECONDS)

    def open(self, peer: int, epoch: int | None = None) -> bool:
        """Let a peer's changes come in again; False where the epoch is over under which that was decided.

        Raises ConfigError where it was not subscribed to.
        """
        with self._alone_at_post() as connection:
            if not self._stands(connection, epoch):
                return False
            self._enable(connection, peer)
            return True

    def _enable(self, connection: Connection, peer: int) -> None:
        if self._subscription(connection, peer) is None:
            raise ConfigError(f"region {peer} is not subscribed to: run `interlock regions join`")
        connection.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(subscription(peer))))

    def _stands(self, connection: Connection, epoch: int | None) -> bool:
        return epoch is None or _post(fetch(connection, queries("postgres")["post"])).epoch == epoch

    def is_cut(self, peer: int) -> bool:
        """Whether a peer was cut off and nothing of it comes in; one that was never followed was not cut off."""
        with self.use() as connection:
            present = self._subscription(connection, peer)
            return (
                present is not None
                and not present.enabled
                and not fetch(connection, self._sql["workers"], (present.oid, []))
            )

    # -- how far it is --

    def flushed(self) -> tuple[int, dict[int, int]]:
        """How far our log is on disk here, and how far each peer has it on disk.

        What a peer has counts only once it has all tables too (`ready` there): a copy is behind its slot.
        """
        with self.use() as connection:
            rows = fetch(connection, self._sql["flushed"], (rf"interlock\_{self.region}\_to\_%",))
        position = int(rows[0][0])
        return position, {int(name.rsplit("_", 1)[1]): flush for _, name, flush in rows if flush is not None}

    def await_flushed(self, peer: int, position: int, seconds: float) -> bool:
        """Wait until a peer has everything up to a position on its disk; False: it did not in time."""
        deadline = time.monotonic() + seconds
        while self.flushed()[1].get(peer, -1) < position:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def ready(self, peer: int) -> bool:
        """Whether all of a peer's rows have come, and its changes are being applied."""
        return self._inbound(peer).ready

    def status(self, peers: Peers | None = None) -> dict[int, PeerStatus]:
        """Replication with each peer that there is anything of, and with those given, both ways.

        peers: those that may be asked how far they are. Stalls are noticed from the second call on.
        """
        by_number = {peer.number: peer for peer in (peers or {}).values()}
        with self.use() as connection:
            names = [name for (name,) in fetch(connection, self._sql["subscribed"])]
        numbers = {*by_number, *(int(name.rsplit("_", 1)[1]) for name in names), *self.flushed()[1]}
        return {
            number: PeerStatus(number, self._inbound(number, by_number.get(number)), self._outbound(number))
            for number in sorted(numbers)
        }

    def _inbound(self, number: int, peer: PeerSettings | None = None) -> Inbound:
        with self.use() as connection:
            present = self._subscription(connection, number)
            if present is None:
                return Inbound(subscribed=False)
            ((pid, received, done, silent, apply_errors, sync_errors),) = fetch(
                connection, self._sql["inbound"], (present.oid,)
            )
            tables = self._tables(connection, present.oid)
        lag_bytes, goal = None, received
        if peer is not None:
            with contextlib.suppress(InterlockError), self.abroad(peer) as there:
                for _, flush, _, _, position, _ in fetch(there, self._sql["slot"], (slot(number, self.region),)):
                    done, goal = flush, position
                    lag_bytes = None if flush is None else max(0, position - flush)
        still = self._still(number, done, goal, inbound=True)
        return Inbound(
            subscribed=True, enabled=present.enabled, worker=pid is not None, tables=tables,
            apply_errors=apply_errors or 0, sync_errors=sync_errors or 0,
            lag_bytes=lag_bytes, lag_seconds=0.0 if lag_bytes == 0 else silent,
            moves=still == 0, stalled=present.enabled and still >= self.stall_seconds, copied=copied(tables),
        )  # fmt: skip

    def _outbound(self, number: int) -> Outbound:
        with self.use() as connection:
            found = fetch(connection, self._sql["slot"], (slot(self.region, number),))
        if not found:
            return Outbound(slot=False)
        pid, flush, wal_status, safe_wal_size, position, flush_lag = found[0]
        lag_bytes = None if flush is None else max(0, position - flush)
        still = self._still(number, flush, position, inbound=False)
        return Outbound(
            slot=True, worker=pid is not None, lag_bytes=lag_bytes,
            lag_seconds=0.0 if lag_bytes == 0 else max(flush_lag or 0.0, still),
            wal_status=wal_status, safe_wal_size=safe_wal_size,
            moves=still == 0, stalled=still >= self.stall_seconds,
        )  # fmt: skip

    def _still(self, number: int, position: int | None, goal: int | None, *, inbound: bool) -> float:
        """For how long what comes from a peer, or goes to it, has not moved though it should."""
        if goal is None:
            return 0.0
        progress = self._progress.setdefault((number, inbound), Progress())
        return progress.still(position or 0, goal, time.monotonic())

    def subscription_to(self, peer: int) -> Subscription | None:
        """Our subscription to a peer."""
        with self.use() as connection:
            return self._subscription(connection, peer)

    def _subscription(self, connection: Connection, peer: int) -> Subscription | None:
        rows = fetch(connection, self._sql["subscription"], (subscription(peer),))
        return Subscription(*rows[0]) if rows else None

    def _tables(self, connection: Connection, oid: int) -> dict[str, str]:
        return dict(fetch(connection, self._sql["table_states"], (oid,)))

    def _know(self, peer: PeerSettings) -> _Abroad:
        with self.abroad(peer) as there:
            number = schema.number(there)
            if not number:
                raise ConfigError(f"region {peer.number} has no schema of ours yet: run `interlock db migrate` there")
            rows = fetch(there, queries("postgres")["region"])
            if not rows:
                raise ConfigError(f"region {peer.number} was not set up: run `interlock regions init` there")
            ((level,),) = fetch(there, "SELECT current_setting('wal_level')")
            post = _post(fetch(there, queries("postgres")["post"]))
            return _Abroad(rows[0][0], number, post, level, publications.publications(there))

    # -- the post --

    def read_post(self) -> Post:
        """This region's post. Raises ConfigError where there is none yet."""
        with self.use() as connection:
            rows = fetch(connection, queries("postgres")["post"])
        if not rows:
            raise ConfigError("the database has no region yet: run `interlock regions init`")
        return _post(rows)

    def post_of(self, peer: PeerSettings) -> Post:
        """The post of a peer, as its own database has it."""
        return self._know(peer).post

    def change_post(self, before: Post, after: Post) -> bool:
        """Put one post in the place of another, after all who commit under it; False where another one stands.

        Raises StoreUnavailable also where somebody who commits does not end: nothing was changed, call again.
        """
        with self._alone_at_post() as connection:
            return self._change_post(connection, before, after)

    def _change_post(self, connection: Connection, before: Post, after: Post) -> bool:
        assert after.epoch > before.epoch, "each change makes a new epoch"
        values = (before.epoch, after.epoch, sorted(after.guards), after.fenced)
        return connection.execute(queries("postgres")["change_post"], values).rowcount == 1

    def take_post(self, post: Post) -> bool:
        """Put a post of a higher epoch in the place of whatever stands; False where one as high stands already."""
        with self._alone_at_post() as connection:
            values = (post.epoch, sorted(post.guards), post.fenced)
            return connection.execute(self._sql["raise_post"], values).rowcount == 1

    @contextlib.contextmanager
    def _alone_at_post(self) -> Iterator[Connection]:
        with self.use() as connection, connection.transaction():
            connection.execute(queries("postgres")["change_epoch"])
            yield connection

    # -- takeovers --

    def begin_takeover(self, home: int, generation: int, at: datetime) -> None:
        """Note that this region takes a home over; nothing where that was noted before."""
        self._note("begin_takeover", home, generation, micros(at))

    def note_cut(self, home: int, generation: int, at: datetime) -> None:
        """Note since when nothing of the home's comes in; the first time counts."""
        self._note("note_cut", home, generation, micros(at))

    def complete_takeover(
        self, home: int, generation: int, at: datetime, transactions: int, post: tuple[Post, Post]
    ) -> bool:
        """Note that everything is decided, and change the post in the same commit; False: nothing was done.

        What was decided must be committed before.
        """
        return self._note_under(post, "complete_takeover", home, generation, micros(at), transactions)

    def note_returned(self, home: int, generation: int, at: datetime, post: tuple[Post, Post]) -> bool:
        """Note that the home is back and that nothing more is decided for it, likewise, and listen to it again."""
        with self._alone_at_post() as connection:
            if not self._change_post(connection, *post):
                return False
            connection.execute(self._sql["note_returned"], (home, generation, self.region, micros(at)))
            self._enable(connection, home)
            return True

    def _note_under(self, post: tuple[Post, Post], name: str, home: int, generation: int, *values: int) -> bool:
        with self._alone_at_post() as connection:
            if not self._change_post(connection, *post):
                return False
            connection.execute(self._sql[name], (home, generation, self.region, *values))
            return True

    def _note(self, name: str, home: int, generation: int, at: int) -> None:
        with self.use() as connection:
            connection.execute(self._sql[name], (home, generation, self.region, at))

    def takeovers(self) -> tuple[Takeover, ...]:
        """Every record of a takeover that has come here, by whichever taker."""
        with self.use() as connection:
            rows = fetch(connection, self._sql["takeovers"])
        return tuple(
            Takeover(
                home, generation, region, moment(begun), _moment(cut), _moment(completed), _moment(returned), number
            )
            for home, generation, region, begun, cut, completed, returned, number in rows
        )

    def informed(self, home: int, generation: int) -> bool:
        """Whether the taker's word has come that the home may go on, and so has all that was decided before it."""
        with self.use() as connection:
            return bool(fetch(connection, self._sql["informed"], (home, generation)))

    def leave_superseded(self) -> int:
        """Leave own transactions without an end that another region has taken over: no clock of theirs runs any more.

        How many. For a region that is fenced, once it is informed.
        """
        number = 0
        while True:
            with self.use() as connection:
                left = connection.execute(self._sql["leave_superseded"], (self.region, _ROWS)).rowcount
            number += left
            if left < _ROWS:
                return number

    def in_flight_of(self, home: int, epoch_below: int, after: UUID | None, limit: int) -> list[UUID]:
        """Transactions of a home, of epochs before that one, that have no end and nobody has taken over; by id."""
        with self.use() as connection:
            rows = fetch(connection, self._sql["in_flight_of"], (home, epoch_below, after or _NULL_ID, limit))
        return [id_ for (id_,) in rows]

    # -- ends that contradict each other --

    def arrivals(self, limit: int, since: datetime | None = None) -> Arrivals:
        """What has come from peers since the last look, and which ends of it contradict those of other regions.

        limit: events of each journal. since: transactions that began before are looked at only where the journals show
        that something of theirs has come; None: all are. A peer whose rows are still being copied is left for later:
        they come table by table.
        """
        with self.use() as connection:
            numbers = (int(name.rsplit("_", 1)[1]) for (name,) in fetch(connection, self._sql["subscribed"]))
            followed = [
                number
                for number in numbers
                if (present := self._subscription(connection, number)) and copied(self._tables(connection, present.oid))
            ]
            return doubles.arrivals(connection, followed, limit, since)

    def note_seen(self, reached: Mapping[Place, int]) -> None:
        """Note how far it was looked: what came before is not looked at again."""
        with self.use() as connection:
            doubles.note_seen(connection, reached)

    def ended_twice(self) -> int:
        """How many transactions of this region are flagged with another region's end that contradicts theirs."""
        with self.use() as connection:
            return doubles.recorded(connection, self.region, 0)[0]

    def doubles(self) -> list[Double]:
        """Every one that there is, by a look at all transactions."""
        with self._long() as connection:
            return doubles.everywhere(connection)

    # -- what can be wrong --

    def check(self, peers: Peers) -> list[str]:
        """Every trap that this region or its peers stand in, a sentence each."""
        from interlock.stores.postgres.diagnosis import faults

        return list(faults(self, peers))


def _post(rows: Sequence[Sequence[object]]) -> Post:
    ((epoch, guards, fenced),) = rows
    assert isinstance(epoch, int)
    assert isinstance(guards, list)
    return Post(epoch, frozenset(guards), bool(fenced))


def _moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)
