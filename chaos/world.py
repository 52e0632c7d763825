"""Two or three regions and a witness on one machine, and what can happen to them.

    with World(("east", "west")) as world:
        world.await_whole()
        world.lose("east")                                    # kill -9: its server and its database
        world.until(lambda: world.entry("east").taker is not None, "east is taken over")
        world.bring_back("east")

Each region has a PostgreSQL of its own and one `interlock serve`; all that a region calls at another one or at the
witness goes through `links`. Whoever watches from here does so directly, past all cuts.
"""

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import psycopg

from chaos.disks import Disk
from chaos.links import Links
from chaos.processes import Server, command
from interlock.demo.ports import free_port
from interlock.demo.postgres import OWNER, Cluster
from interlock.demo.postgres.installations import newest
from interlock.regions.rules import Entry
from interlock.stores.postgres.witness import WitnessStore

T = TypeVar("T")

WITNESS = "witness"
DATABASE = "interlock"
#: As operators are told to set them, but for smaller memory and quicker tries: several servers share one machine.
_SETTINGS = {
    "wal_level": "logical",
    "max_replication_slots": "16",
    "max_wal_senders": "16",
    "max_logical_replication_workers": "12",
    "max_sync_workers_per_subscription": "6",
    "max_worker_processes": "20",
    "max_slot_wal_keep_size": "1GB",
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "10s",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
    "max_connections": "50",
    "shared_buffers": "32MB",
}
#: For runs in which no machine loses power: what a process has written outlives its end all the same.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
_POLL_SECONDS = 0.02
_PROBE_SECONDS = 2.0
#: Longer than a small database takes to recover.
_RECOVERY_SECONDS = 5.0
ROUTES = """
[routes.default]
sla_seconds = 600
"""


class NotSo(Exception):
    """What was waited for has not come."""


class Status(NamedTuple):
    """A region as its own database has it."""

    epoch: int
    #: Names of the regions whose word its ends wait for.
    guards: frozenset[str]
    fenced: bool
    #: Transactions of its own, or taken over, without an end.
    in_flight: int
    #: Those that have ended here.
    ended: int
    #: By peer, what that has not yet on its disk, in bytes.
    lag: Mapping[str, int]


@dataclass(frozen=True)
class Region:
    """One region's processes, and where they are reached past all links."""

    name: str
    number: int
    cluster: Cluster
    server: Server
    #: Of its API.
    url: str
    #: Of its database.
    database: str


class World:
    """The regions, their witness and all links between them. A context manager that leaves nothing behind."""

    def __init__(
        self,
        names: Sequence[str] = ("east", "west"),
        *,
        routes: str = ROUTES,
        settings: str = "",
        lease_seconds: float = 3,
        durable: bool = True,
        folder: Path | None = None,
        disks: Mapping[str, Disk] | None = None,
    ) -> None:
        """Nothing happens before it is entered.

        routes: `[routes.NAME]` tables, for all regions; settings: more lines for all. lease_seconds: silence after
        which a region may be taken over. durable: whether the databases write through to the disk. folder: for logs; a
        temporary one goes at the end. disks: of regions whose database has one of its own, which can become full.
        """
        self._names = tuple(names)
        self._routes = routes
        self._more = settings
        self._lease_seconds = lease_seconds
        self._settings = _SETTINGS if durable else {**_SETTINGS, **_NOT_DURABLE}
        self._folder = folder
        self._stack = ExitStack()
        self.disks = dict(disks or {})
        self.links = Links()
        # One for all calls, and a connection each: to make the client is what costs.
        self._http = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=_PROBE_SECONDS)
        self.regions: dict[str, Region] = {}
        self._witness_cluster = Cluster(newest(), settings={} if durable else _NOT_DURABLE)

    # -- begin and end --

    def __enter__(self) -> Self:
        """Start and connect all of it; each region may soon take the others over, see `await_whole`."""
        with ExitStack() as stack:
            self.folder = self._folder or stack.enter_context(_temporary())
            self.folder.mkdir(parents=True, exist_ok=True)
            stack.callback(self._http.close)
            stack.enter_context(self.links)
            for disk in self.disks.values():
                stack.enter_context(disk)
            clusters = {name: self._cluster(name) for name in self._names}
            stack.callback(_each, Cluster.close, [*clusters.values(), self._witness_cluster])
            # One first: what `initdb` makes serves all.
            self._witness_cluster.start()
            _each(Cluster.start, list(clusters.values()))
            self.witness_url = self._witness_cluster.create_database(WITNESS)
            for number, (name, cluster) in enumerate(clusters.items(), 1):
                self.regions[name] = self._region(name, number, cluster)
            stack.callback(_each, Server.kill, [region.server for region in self.regions.values()])
            self._connect()
            _each(Server.start, [region.server for region in self.regions.values()])
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        for region in self.regions.values():
            if region.cluster.running:
                with suppress(ProcessLookupError):
                    region.cluster.resume()
        self._stack.close()

    def _cluster(self, name: str) -> Cluster:
        folder = self.disks[name].folder / "postgres" if name in self.disks else None
        return Cluster(newest(), folder, settings=self._settings)

    def _region(self, name: str, number: int, cluster: Cluster) -> Region:
        url = cluster.create_database(DATABASE)
        # Whoever subscribes without a password must be superuser, and these servers ask nobody else for one.
        cluster.query(f"ALTER ROLE {OWNER} SUPERUSER")
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        server = Server(folder / "interlock.toml", folder / "server.log")
        return Region(name, number, cluster, server, f"http://127.0.0.1:{free_port()}", url)

    def _connect(self) -> None:
        """What an operator does once: configure, migrate, set up, follow each other."""
        key = self.folder / "server.key"
        key.write_bytes(secrets.token_bytes(32))
        regions = list(self.regions.values())
        for region in regions:
            self._lay(region, key)
        for words in (("db", "migrate"), ("regions", "init")):
            _each(partial(_command, words), regions)
        # One after the other: to be followed, a region must have ended its own transactions.
        for region in regions:
            _command(("regions", "join"), region)

    def _lay(self, region: Region, key: Path) -> None:
        """Links from a region to all else, and its configuration by them."""
        witness_port = self.links.listen(region.name, WITNESS, self._witness_cluster.port)
        tables = []
        for peer in self.regions.values():
            if peer.name == region.name:
                continue
            database = self.links.listen(region.name, peer.name, peer.cluster.port)
            endpoint = self.links.listen(region.name, peer.name, _port(peer.url))
            tables.append(
                f'[regions.{peer.name}]\nnumber = {peer.number}\ndatabase = "{_at(peer.database, database)}"\n'
                f'endpoint = "http://127.0.0.1:{endpoint}"\n'
            )
        region.server.config.write_text(
            f'region = "{region.name}"\nregion_number = {region.number}\nport = {_port(region.url)}\n'
            f'data = "{region.server.config.parent}/data"\nstore = "{region.database}"\nserver_key = "{key}"\n'
            f'witness = "{_at(self.witness_url, witness_port)}"\nregion_lease_seconds = {self._lease_seconds}\n'
            f"{self._more}\n" + "".join(tables) + self._routes,
            encoding="utf-8",
        )

    def add_client(self, name: str, *scopes: str, region: str | None = None) -> tuple[str, str]:
        """Id and secret of a new client, which every region soon knows."""
        options = [part for scope in scopes for part in ("--scope", scope)]
        config = self.regions[region or self._names[0]].server.config
        made = json.loads(command(config, "clients", "add", name, *options, "--json"))
        id_, secret = str(made["client_id"]), str(made["client_secret"])
        self.until(lambda: all(self._knows(region, id_) for region in self.regions), f"all know client {name}")
        return id_, secret

    def _knows(self, name: str, client: str) -> bool:
        return bool(self.query(name, "SELECT 1 FROM clients WHERE id = %s", client))

    # -- what can happen --

    def lose(self, name: str) -> None:
        """`kill -9`, both its server and its database."""
        region = self.regions[name]
        if region.server.is_running:
            region.server.kill()
        if region.cluster.running:
            region.cluster.kill()

    def bring_back(self, name: str) -> None:
        """Start again what of it does not run."""
        region = self.regions[name]
        region.cluster.start()
        region.server.start()

    def mend(self) -> None:
        """Undo whatever was done: heal the links, go on with what is paused, start what does not run."""
        self.links.heal_all()
        full = [name for name, disk in self.disks.items() if disk.free()]
        for region in self.regions.values():
            if region.cluster.running:
                region.cluster.resume()
            region.server.resume()
        self._witness_cluster.start()
        self._witness_cluster.resume()
        _each(self._revive, full)
        _each(self.bring_back, list(self.regions))

    def _revive(self, name: str) -> None:
        """Kill a database that hangs since there was no room for its recovery, as whoever supervises it would.

        PostgreSQL 18.4 is sometimes left without the process that recovers, and neither begins it again nor ends.
        """
        region = self.regions[name]
        if not region.cluster.running:
            return
        try:
            self.until(lambda: self._accepts(name), f"{name} takes connections", seconds=_RECOVERY_SECONDS)
        except NotSo:
            region.cluster.kill()

    def _accepts(self, name: str) -> bool:
        with suppress(psycopg.OperationalError):
            return bool(self.query(name, "SELECT 1"))
        return False

    def pause_witness(self) -> None:
        """Stop the witness's clock."""
        self._witness_cluster.pause()

    def lose_witness(self) -> None:
        """`kill -9`."""
        if self._witness_cluster.running:
            self._witness_cluster.kill()

    # -- what can be seen --

    def query(self, name: str, text: str, *values: object) -> list[tuple[object, ...]]:
        """What a region's database says. Raises psycopg.OperationalError where it is not there."""
        with psycopg.connect(self.regions[name].database, connect_timeout=2, autocommit=True) as connection:
            cursor = connection.execute(text.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def entry(self, name: str) -> Entry:
        """What the witness knows of a region."""
        return self.leases()[name][0]

    def leases(self) -> Mapping[str, tuple[Entry, float]]:
        """Every region's entry at the witness, and what is left of its lease in seconds; 0: it is over."""
        with closing(WitnessStore(self.witness_url)) as witness:
            found = witness.entries()
        return {region.name: found[region.number] for region in self.regions.values()}

    def status(self, name: str) -> Status:
        """A region by its own database. Raises psycopg.OperationalError where that is not there."""
        with psycopg.connect(self.regions[name].database, connect_timeout=2, autocommit=True) as connection:
            return self.look(name, connection)

    def look(self, name: str, connection: psycopg.Connection) -> Status:
        """The same over a connection that is kept."""
        number = self.regions[name].number
        ((epoch, guards, fenced),) = connection.execute("SELECT epoch, guards, fenced FROM region").fetchall()
        ((in_flight, ended),) = connection.execute(
            "SELECT count(*) FILTER (WHERE due_at IS NOT NULL), count(*) FILTER (WHERE state = 'end') "
            "FROM transactions WHERE region = %s",
            (number,),
        ).fetchall()
        slots = connection.execute(
            "SELECT slot_name, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn)::bigint "
            "FROM pg_replication_slots WHERE slot_name LIKE %s",
            (f"interlock\\_{number}\\_to\\_%",),
        ).fetchall()
        lag = {self.name(int(slot.rsplit("_", 1)[1])): max(0, behind or 0) for slot, behind in slots}
        return Status(epoch, frozenset(map(self.name, guards)), fenced, in_flight, ended, lag)

    def is_decided(self, home: str) -> bool:
        """Whether a region is taken over, and its taker has decided all that was in flight."""
        entry = self.entry(home)
        return entry.taker is not None and bool(
            self.query(
                self.name(entry.taker),
                "SELECT 1 FROM takeovers WHERE home = %s AND generation = %s AND completed_at IS NOT NULL",
                self.regions[home].number, entry.generation,
            )
        )  # fmt: skip

    def name(self, number: int) -> str:
        """Of a region by its number."""
        return next(region.name for region in self.regions.values() if region.number == number)

    def peers(self, name: str) -> frozenset[str]:
        """All other regions."""
        return frozenset(self.regions) - {name}

    def is_ready(self, name: str) -> bool:
        """Whether the region says that it can take messages."""
        try:
            return self._http.get(f"{self.regions[name].url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def is_whole(self, name: str) -> bool:
        """Whether a region takes messages, nobody has taken it over, and each other one is its guard and may."""
        try:
            status, entry = self.status(name), self.entry(name)
        except psycopg.OperationalError:
            return False
        members = frozenset(map(self.name, entry.members))
        guarded = status.guards == members == self.peers(name)
        return guarded and not status.fenced and entry.taker is None and self.is_ready(name)

    def until(self, holds: Callable[[], object], what: str, *, seconds: float = 30) -> float:
        """Wait for something, and no longer than that; for how long it was. Raises NotSo."""
        began = time.monotonic()
        while not holds():
            waited = time.monotonic() - began
            if waited >= seconds:
                raise NotSo(f"not within {seconds:g} s: {what}; {self._as_it_stands()}")
            time.sleep(_POLL_SECONDS)
        return time.monotonic() - began

    def await_whole(self, *, seconds: float = 60) -> float:
        """Wait until every region is whole; for how long it was."""
        return self.until(lambda: all(map(self.is_whole, self.regions)), "every region is whole", seconds=seconds)

    def _as_it_stands(self) -> str:
        return "; ".join(self._standing())

    def _standing(self) -> Iterator[str]:
        for name, region in self.regions.items():
            try:
                status: object = self.status(name)
            except psycopg.OperationalError as exc:
                status = str(exc).strip()
            yield f"{name}: {status}, {self.entry(name)}; its server said: {region.server.said()[-1_000:]}"


def _command(words: Sequence[str], region: Region) -> None:
    command(region.server.config, *words)


def _each(do: Callable[[T], object], things: Sequence[T]) -> None:
    """To all of them at once; raises what one has raised, once all are done."""
    with ThreadPoolExecutor(max(1, len(things))) as pool:
        done = [pool.submit(do, thing) for thing in things]
    for one in done:
        one.result()


@contextmanager
def _temporary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="interlock-regions-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def _at(url: str, port: int) -> str:
    """The same database, reached at another port."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}@{parts.hostname}:{port}").geturl()
