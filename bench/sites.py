"""Where the benchmark of regions runs: one region alone, and two regions with a distance between them.

Both are real: PostgreSQL servers that sync each commit, and `interlock serve` with default settings. The two regions
are `chaos/world.py`'s, whose links are replaced by those that take time.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

import psycopg

from bench.delays import Delays
from bench.load import Plan
from bench.usage import Watched, cpu_of, parent_of, process_with
from chaos.world import World
from interlock.stores.postgres.subscriptions import slot

HOME, PEER = "east", "west"
#: The product's default, by which takeovers are timed.
_LEASE_SECONDS = 5
#: From a start until what it brings with it is done.
_SETTLE_SECONDS = 2.0
_ROUTES = "[routes.default]\n"
_QUIET = 'log_level = "warning"\n'
#: Of PostgreSQL, as far as figures may hang on them.
_TOLD = (
    "fsync", "full_page_writes", "max_wal_size", "server_version", "shared_buffers", "synchronous_commit", "wal_level",
)  # fmt: skip


class Client(NamedTuple):
    """Who sends."""

    id: str
    secret: str


class Idle(NamedTuple):
    """CPU milliseconds a second while nobody calls."""

    server: float
    postgres: float


def told_settings(url: str) -> dict[str, str]:
    """What a server is set to. url: a superuser's, or any user's."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)", ([*_TOLD],)
        )
        return dict(sorted((str(name), str(value)) for name, value in rows))


def at_rest(server: int, postmaster: int, seconds: float) -> Idle:
    """What a region's processes use while nobody calls."""
    time.sleep(_SETTLE_SECONDS)
    watched = Watched(pid=server, family=False), Watched(pid=postmaster, family=True)
    before = [cpu_of(one) for one in watched]
    time.sleep(seconds)
    used = [(cpu_of(one) - cpu).all * 1000 / seconds for one, cpu in zip(watched, before, strict=True)]
    return Idle(*(round(milliseconds, 1) for milliseconds in used))


class Two:
    """Two regions and a witness, equally far apart. A context manager."""

    def __init__(self, folder: Path) -> None:
        """folder: for configurations and logs."""
        self.delays = Delays()
        self.world = World(
            (HOME, PEER), routes=_ROUTES, settings=_QUIET, lease_seconds=_LEASE_SECONDS, folder=folder / "world"
        )
        self.world.links = self.delays
        self._clients: dict[str, Client] = {}
        #: The round trip that was asked for, in milliseconds, and as it was measured.
        self.round_trips: dict[float, float] = {}

    def __enter__(self) -> Self:
        self.world.__enter__()
        try:
            self.world.await_whole()
            self.client("bench")
        except BaseException:
            self.world.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.delays.set_round_trip(0)
        self.world.__exit__()

    # -- what can be set --

    def part(self, milliseconds: float) -> None:
        """Put so long a round trip between all places, and wait until both regions take that for normal.

        Whatever a measurement that failed has left undone is mended.
        """
        self.delays.set_round_trip(milliseconds)
        if milliseconds not in self.round_trips:
            self.round_trips[milliseconds] = round(self.delays.measure(), 2)
        self.world.mend()
        self.world.await_whole()

    def client(self, name: str, route: str | None = None) -> Client:
        """One that every region knows. route: settings of a route of its own, for which both servers start anew."""
        if name not in self._clients:
            self._clients[name] = Client(*self.world.add_client(name, "rp2/read", "rp2/write"))
            if route is not None:
                self._add_route(name, route)
        return self._clients[name]

    def _add_route(self, name: str, settings: str) -> None:
        for region in self.world.regions.values():
            config = region.server.config
            table = f'\n[routes.{name}]\nclients = ["{self._clients[name].id}"]\n{settings}\n'
            config.write_text(config.read_text("utf-8") + table, "utf-8")
            region.server.stop()
            region.server.start()
        self.world.await_whole()

    # -- what can be asked --

    def url(self, name: str) -> str:
        """A region's database, past all delays."""
        return self.world.regions[name].database

    def slot(self, home: str = HOME, peer: str = PEER) -> str:
        """The peer's, at home."""
        return slot(self.world.regions[home].number, self.world.regions[peer].number)

    def server(self, name: str) -> int:
        """Process id of a region's server."""
        return process_with(str(self.world.regions[name].server.config))

    def plan(self, face: str, callers: int, client: Client, home: str = HOME, *, seconds: float) -> Plan:
        """A closed loop against a region, of which nothing but the answers is measured."""
        port = int(self.world.regions[home].url.rpartition(":")[2])
        return Plan(
            host="127.0.0.1", ports=[port], client_id=client.id, client_secret=client.secret, pids=[], face=face,
            callers=callers, warmup_seconds=0, seconds=seconds,
        )  # fmt: skip

    def beside(self, links: int) -> Mapping[str, Watched]:
        """All processes but the home's own, by what they are. links: the process that the delays run in."""
        with psycopg.connect(self.world.witness_url) as connection:
            witness = parent_of(connection.info.backend_pid)
        return {
            "peer": Watched(pid=self.server(PEER), family=False),
            "peer's PostgreSQL": Watched(pid=self.world.regions[PEER].cluster.pid, family=True),
            "witness": Watched(pid=witness, family=True),
            "links": Watched(pid=links, family=False),
        }
