"""How replication goes, both ways: what has come and gone, how far behind it is, and whether it stands still."""

import contextlib
import time

from interlock.errors import InterlockError
from interlock.regions.flows import Inbound, Outbound, PeerStatus
from interlock.stores.postgres.connections import fetch
from interlock.stores.postgres.sites import Peers, PeerSettings, Site
from interlock.stores.postgres.subscriptions import copied, find, followed, peer_of, slot, table_states

_POLL_SECONDS = 0.01


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


class Flows:
    """What flows between a region and its peers; used by one thread."""

    def __init__(self, site: Site, stall_seconds: float) -> None:
        """stall_seconds: without any move, though there is something to apply, after which a flow counts as stalled."""
        self.stall_seconds = stall_seconds
        self._site = site
        self._progress: dict[tuple[int, bool], Progress] = {}

    def flushed(self) -> tuple[int, dict[int, int]]:
        """How far our log is on disk here, and how far each peer has it on disk.

        What a peer has counts only once it has all tables too (`ready` there): a copy is behind its slot.
        """
        with self._site.use() as connection:
            rows = fetch(connection, self._site.sql["flushed"], (rf"interlock\_{self._site.region}\_to\_%",))
        position = int(rows[0][0])
        return position, {peer_of(name): flush for _, name, flush in rows if flush is not None}

    def await_flushed(self, peer: int, position: int, seconds: float) -> bool:
        """Wait until a peer has everything up to a position on its disk; False: it did not in time."""
        deadline = time.monotonic() + seconds
        while self.flushed()[1].get(peer, -1) < position:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def status(self, peers: Peers | None = None) -> dict[int, PeerStatus]:
        """Replication with each peer that there is anything of, and with those given, both ways.

        peers: those that may be asked how far they are. Stalls are noticed from the second call on.
        """
        by_number = {peer.number: peer for peer in (peers or {}).values()}
        with self._site.use() as connection:
            numbers = {*by_number, *followed(connection)}
        numbers |= self.flushed()[1].keys()
        return {
            number: PeerStatus(number, self.inbound(number, by_number.get(number)), self._outbound(number))
            for number in sorted(numbers)
        }

    def inbound(self, number: int, peer: PeerSettings | None = None) -> Inbound:
        """What comes from a peer. peer: where it may be asked how far it is."""
        with self._site.use() as connection:
            present = find(connection, number)
            if present is None:
                return Inbound(subscribed=False)
            ((pid, received, done, silent, apply_errors, sync_errors),) = fetch(
                connection, self._site.sql["inbound"], (present.oid,)
            )
            tables = table_states(connection, present.oid)
        lag_bytes, goal = None, received
        if peer is not None:
            with contextlib.suppress(InterlockError), self._site.abroad(peer) as there:
                for _, flush, _, _, position, _ in fetch(
                    there, self._site.sql["slot"], (slot(number, self._site.region),)
                ):
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
        with self._site.use() as connection:
            found = fetch(connection, self._site.sql["slot"], (slot(self._site.region, number),))
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
