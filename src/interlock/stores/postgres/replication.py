"""Replication between regions, seen from one region's database: the post, takeovers, and what comes in and goes out.

PostgreSQL does the work: each region publishes its own rows (`publications`) and subscribes to every peer
(`subscriptions`). Here is what a region's keeper goes by, while regions run; who follows whom is set up in `joining`.

Owns: the post, records of takeovers. Must not know: when any of that is due.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from uuid import UUID

from psycopg import sql

from interlock.chain import micros, moment
from interlock.errors import ConfigError, StoreUnavailable
from interlock.ports import Takeover
from interlock.regions.doubles import Arrivals, Double, Place
from interlock.regions.flows import PeerStatus
from interlock.regions.rules import Post
from interlock.stores import rows as mapping
from interlock.stores.postgres import doubles
from interlock.stores.postgres.connections import Connection, fetch
from interlock.stores.postgres.flows import Flows
from interlock.stores.postgres.sites import PATIENCE_SECONDS, Peers, PeerSettings, Site
from interlock.stores.postgres.subscriptions import Subscription, copied, find, followed, subscription, table_states
from interlock.stores.statements import queries

#: How long an apply worker may take to end by itself, and then when it was told to; and how often that is looked at.
_GRACE_SECONDS, _END_SECONDS, _POLL_SECONDS = 1.0, 10.0, 0.01
_ROWS = 1_000
_NULL_ID = UUID(int=0)


class Replication:
    """Replication of one region's database with its peers; used by one thread.

    Every method raises StoreUnavailable where a database cannot be asked, also where it is not known whether it has
    done what it was asked: all of them may be called again.
    """

    def __init__(
        self, url: str, region: int, *, patience_seconds: float = PATIENCE_SECONDS, stall_seconds: float = 10.0
    ) -> None:
        """Connects when it is first used. Raises ConfigError then where the database is another region's.

        patience_seconds: how long one use may last; less for a database that is not this process's own region's.
        stall_seconds: without any move, though there is something to apply, after which replication counts as stalled.
        """
        self.site = Site(url, region, patience_seconds)
        self._flows = Flows(self.site, stall_seconds)

    def close(self) -> None:
        """End all connections."""
        self.site.close()

    # -- the post --

    def read_post(self) -> Post:
        """This region's post. Raises ConfigError where there is none yet."""
        with self.site.use() as connection:
            rows = fetch(connection, queries("postgres")["post"])
        if not rows:
            raise ConfigError("the database has no region yet: run `interlock regions init`")
        return mapping.post(*rows[0])

    def post_of(self, peer: PeerSettings) -> Post:
        """The post of a peer, as its own database has it."""
        return self.site.know(peer).post

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
            return connection.execute(self.site.sql["raise_post"], values).rowcount == 1

    @contextlib.contextmanager
    def _alone_at_post(self) -> Iterator[Connection]:
        with self.site.use() as connection, connection.transaction():
            connection.execute(queries("postgres")["change_epoch"])
            yield connection

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
            present = find(connection, peer)
            if present is None:
                return True
            connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
        seen: set[int] = set()
        began = time.monotonic()
        while True:
            with self.site.use() as connection:
                seen = {pid for (pid,) in fetch(connection, self.site.sql["workers"], (present.oid, list(seen)))}
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
        if find(connection, peer) is None:
            raise ConfigError(f"region {peer} is not subscribed to: run `interlock regions join`")
        connection.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(subscription(peer))))

    def _stands(self, connection: Connection, epoch: int | None) -> bool:
        return epoch is None or mapping.post(*fetch(connection, queries("postgres")["post"])[0]).epoch == epoch

    def is_cut(self, peer: int) -> bool:
        """Whether a peer was cut off and nothing of it comes in; one that was never followed was not cut off."""
        with self.site.use() as connection:
            present = find(connection, peer)
            return (
                present is not None
                and not present.enabled
                and not fetch(connection, self.site.sql["workers"], (present.oid, []))
            )

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
            connection.execute(self.site.sql["note_returned"], (home, generation, self.site.region, micros(at)))
            self._enable(connection, home)
            return True

    def _note_under(self, post: tuple[Post, Post], name: str, home: int, generation: int, *values: int) -> bool:
        with self._alone_at_post() as connection:
            if not self._change_post(connection, *post):
                return False
            connection.execute(self.site.sql[name], (home, generation, self.site.region, *values))
            return True

    def _note(self, name: str, home: int, generation: int, at: int) -> None:
        with self.site.use() as connection:
            connection.execute(self.site.sql[name], (home, generation, self.site.region, at))

    def takeovers(self) -> tuple[Takeover, ...]:
        """Every record of a takeover that has come here, by whichever taker."""
        with self.site.use() as connection:
            rows = fetch(connection, self.site.sql["takeovers"])
        return tuple(
            Takeover(
                home, generation, region, moment(begun), _moment(cut), _moment(completed), _moment(returned), number
            )
            for home, generation, region, begun, cut, completed, returned, number in rows
        )

    def informed(self, home: int, generation: int) -> bool:
        """Whether the taker's word has come that the home may go on, and so has all that was decided before it."""
        with self.site.use() as connection:
            return bool(fetch(connection, self.site.sql["informed"], (home, generation)))

    def leave_superseded(self) -> int:
        """Leave own transactions without an end that another region has taken over: no clock of theirs runs any more.

        How many. For a region that is fenced, once it is informed.
        """
        number = 0
        while True:
            with self.site.use() as connection:
                left = connection.execute(self.site.sql["leave_superseded"], (self.site.region, _ROWS)).rowcount
            number += left
            if left < _ROWS:
                return number

    def in_flight_of(self, home: int, epoch_below: int, after: UUID | None, limit: int) -> list[UUID]:
        """Transactions of a home, of epochs before that one, that have no end and nobody has taken over; by id."""
        with self.site.use() as connection:
            rows = fetch(connection, self.site.sql["in_flight_of"], (home, epoch_below, after or _NULL_ID, limit))
        return [id_ for (id_,) in rows]

    # -- ends that contradict each other --

    def arrivals(self, limit: int, since: datetime | None = None) -> Arrivals:
        """What has come from peers since the last look, and which ends of it contradict those of other regions.

        limit: events of each journal. since: transactions that began before are looked at only where the journals show
        that something of theirs has come; None: all are. A peer whose rows are still being copied is left for later:
        they come table by table.
        """
        with self.site.use() as connection:
            whole = [
                number
                for number in followed(connection)
                if (present := find(connection, number)) and copied(table_states(connection, present.oid))
            ]
            return doubles.arrivals(connection, whole, limit, since)

    def note_seen(self, reached: Mapping[Place, int]) -> None:
        """Note how far it was looked: what came before is not looked at again."""
        with self.site.use() as connection:
            doubles.note_seen(connection, reached)

    def ended_twice(self) -> int:
        """How many transactions of this region are flagged with another region's end that contradicts theirs."""
        with self.site.use() as connection:
            return doubles.recorded(connection, self.site.region, 0)[0]

    def doubles(self) -> list[Double]:
        """Every one that there is, by a look at all transactions."""
        with self.site.long() as connection:
            return doubles.everywhere(connection)

    # -- how far it is --

    def subscription_to(self, peer: int) -> Subscription | None:
        """Our subscription to a peer."""
        with self.site.use() as connection:
            return find(connection, peer)

    @property
    def stall_seconds(self) -> float:
        """After so long without a move, though there is something to apply, replication counts as stalled."""
        return self._flows.stall_seconds

    def flushed(self) -> tuple[int, dict[int, int]]:
        """How far our log is on disk here, and how far each peer has it on disk.

        What a peer has counts only once it has all tables too (`ready` there): a copy is behind its slot.
        """
        return self._flows.flushed()

    def await_flushed(self, peer: int, position: int, seconds: float) -> bool:
        """Wait until a peer has everything up to a position on its disk; False: it did not in time."""
        return self._flows.await_flushed(peer, position, seconds)

    def ready(self, peer: int) -> bool:
        """Whether all of a peer's rows have come, and its changes are being applied."""
        return self._flows.inbound(peer).ready

    def status(self, peers: Peers | None = None) -> dict[int, PeerStatus]:
        """Replication with each peer that there is anything of, and with those given, both ways.

        peers: those that may be asked how far they are. Stalls are noticed from the second call on.
        """
        return self._flows.status(peers)


def _moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)
