"""The composition root: a configuration becomes running parts. The only module that names a concrete store or clock.

Also what a data folder holds: the store's file, the server's key, the schema cache, and the lock that keeps a second
server out.
"""

import asyncio
import contextlib
import fcntl
import hmac
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import structlog
import uuid_utils

from interlock.acks import Acks
from interlock.auth import Authority
from interlock.bulk import BulkSettings
from interlock.clock import CommonTime, Now, SteadyClock
from interlock.config import Config, Role, Validation
from interlock.errors import ConfigError
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.schemas import Catalogue
from interlock.journal import Journal
from interlock.keeper import Keeper
from interlock.keeper import Settings as KeeperSettings
from interlock.ports import Replication, Store
from interlock.regions.rules import may_conclude_by_lease
from interlock.retention import Policy, Retention, target_of
from interlock.routes import Fencing, Route
from interlock.stores.files import sync_folder
from interlock.stores.sqlite import SqliteStore
from interlock.worker import Again, Deadlines
from interlock.workflow import Settings, Workflow

_log = structlog.get_logger()


#: How long a shared store may take before it is asked whether it is there, and to answer that. Callers want to know
#: within a second.
_PATIENCE_SECONDS = 0.4
#: How often each process looks at what others may have changed: orders, work in flight, ends that somebody waits for.
_REFRESH_SECONDS, _ENDS_SECONDS = 1.0, 0.03
#: How often work of processes that are gone is looked for.
_TAKE_OVER_SECONDS = 0.2
#: How often expired periods are looked for, and how much of its thread's time archiving takes in a process that serves.
_ARCHIVE_SECONDS, _ARCHIVE_SHARE = 600.0, 0.25
#: How often partitions and the like are seen to.
_UPKEEP_SECONDS = 600.0
#: How often the regions' keeper looks around, and how long it waits for a peer's API.
_KEEP_SECONDS, _PROBE_SECONDS = 0.25, 1.0
#: How long its database may take for a question.
_PEER_SECONDS = 2.0
#: How often is looked for messages of many payments that were put down in part and given up.
_SWEEP_SECONDS = 10.0
#: How often a process asks for its region's lease, where a route goes by that.
_LEASE_SECONDS = 1.0


def open_store(config: Config) -> Store:
    """The store that the configuration names, made or migrated as needed. Raises ConfigError, StoreUnavailable."""
    if config.is_shared:
        from interlock.stores.postgres import PostgresStore

        return PostgresStore(
            config.store, region=config.region_number, lease=config.lease_seconds,
            partition_days=config.partition_days, migrate=config.migrate == "auto", regional=config.is_regional,
        )  # fmt: skip
    try:
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # It holds signing keys and other people's payments; SQLite gives its log the same mode.
        config.file.touch(mode=0o600)
    except OSError as exc:
        raise ConfigError(f"data: the folder {config.data} cannot be made: {exc.strerror}") from exc
    return SqliteStore(config.file, region=config.region_number)


def open_retention(config: Config, now: Now) -> Retention | None:
    """The archiving of what no route wants kept; None where it is not configured. Raises ConfigError (place, keys)."""
    if config.archive is None:
        return None
    from interlock.stores.postgres.periods import PostgresPeriods

    return Retention(
        PostgresPeriods(config.store), target_of(config, now), Policy.of(config), now, share=_ARCHIVE_SHARE
    )


def open_replication(config: Config, region: int) -> Replication:
    """The database of a region, this one's or a peer's, as the regions see it. Raises ConfigError."""
    from interlock.stores.postgres.replication import Replication as PostgresReplication

    if region == config.region_number:
        return PostgresReplication(config.store, region)
    peer = next(peer for peer in config.regions.values() if peer.number == region)
    # One that stands still must not hold up what is done for the others.
    return PostgresReplication(peer.database, region, patience_seconds=_PEER_SECONDS)


def answers(endpoint: str) -> bool:
    """Whether the API at an endpoint does, and can store what it is sent."""
    import httpx

    try:
        return httpx.get(f"{endpoint}/readyz", timeout=_PROBE_SECONDS).status_code == 200
    except httpx.HTTPError:
        return False


def open_catalogue(config: Config) -> Catalogue:
    """The schemas: the operator's own first; compiled ones are cached in the data folder."""
    return Catalogue(cache=config.data / "schemas", user=config.schemas, profiles=config.open_profiles().versions)


def server_key(config: Config, store: Store | None = None) -> bytes:
    """The key under which client secrets are kept; made at first use, readable by the owner alone.

    Raises ConfigError where it is damaged, another than the store's clients were made under, or missing though the
    store holds clients: none of them could log in.
    """
    path = config.server_key or config.data / "server.key"
    folder = path.parent
    if not path.exists():
        if config.server_key is not None:
            raise ConfigError(f"server_key: there is no file {path}; make one with: openssl rand 32 > {path}")
        if store is not None and store.clients():
            raise ConfigError(f"{path} is missing, and without it no client can log in; restore it from a backup")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whole or not at all, and of two processes at once one wins: written beside, then linked into place.
        part = folder / f"server.key.{os.getpid()}"
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
        part.unlink()
        sync_folder(folder)
    key = path.read_bytes()
    if len(key) != 32:
        raise ConfigError(
            f"{path} is damaged: it must hold 32 bytes; restore it from a backup, or no client can log in"
        )
    if store is not None and not store.check_server_key(hmac.digest(key, b"interlock server key", "sha256")):
        raise ConfigError(
            f"server_key: {path} is not the key that this store's clients were made under; "
            "all processes need the same file"
        )
    return key


@contextlib.contextmanager
def sole_server(folder: Path) -> Iterator[None]:
    """Holds the folder for this server; raises ConfigError where another one serves it."""
    try:
        lock = (folder / "server.lock").open("w")
    except OSError as exc:
        raise ConfigError(f"data: {folder} cannot be written to: {exc.strerror}") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise ConfigError(
                f"data: another interlock serves {folder} already; stop it or choose another folder"
            ) from exc
        yield


def id_maker(now: Callable[[], datetime], region: int) -> Callable[[], UUID]:
    """Makes UUIDv7s on our own clock whose last 8 bits are the region's number."""
    make = uuid_utils.uuid7

    def new_id() -> UUID:
        return UUID(int=make(nanoseconds=int(now().timestamp() * 1e9)).int & ~0xFF | region)

    return new_id


class Interlock:
    """All running parts of one process."""

    def __init__(self, config: Config) -> None:
        """Open everything; nothing runs before `start`."""
        self.config = config
        self.store: Store = open_store(config)
        self._wall = CommonTime(time.time, self.store.clock)
        self._wall.set_right()
        self.clock = SteadyClock(self._wall, time.monotonic, not_before=self.store.latest())
        self.catalogue = open_catalogue(config)
        self.catalogue.check()
        self.journal = self._make_journal()
        settings = Settings(
            routes=config.choice_of_routes(),
            limits=Limits(
                bytes_max=config.body_bytes_max, depth_max=config.xml_depth_max, nodes_max=config.xml_nodes_max
            ),
            region=config.region_number,
            in_flight_max=config.in_flight_max,
            profiles=config.open_profiles(),
            bulk=BulkSettings(
                bytes_max=config.bulk_bytes_max,
                payments_max=config.bulk_payments_max,
                depth_max=config.xml_depth_max,
                cache=config.data / "schemas",
                schemas=config.schemas,
                profiles=config.profiles.folder,
            ),
            lenient=frozenset(c for c in config.clients if config.validation_of(c) is Validation.LENIENT),
        )
        self.workflow = Workflow(
            self.store,
            self.journal,
            self.catalogue,
            settings,
            now=self.clock,
            new_id=id_maker(self.clock, config.region_number),
        )
        self.authority = Authority(
            self.store, self.journal, server_key(config, self.store), issuer=config.issuer,
            token_seconds=config.token_seconds, now=self.clock,
        )  # fmt: skip
        self.deadlines = Deadlines(
            self.store, self.journal, self.workflow, self.clock, self.clock.slew, lease=config.lease_seconds
        )
        self._retention = open_retention(config, self.clock)
        self.acks = Acks(self.store, self.journal, self.clock, position=self.workflow.memory.position)
        self.acks.conclude = self.workflow.concluding.conclude
        self.workflow.committing.on_intent = self.acks.intend
        self.acks.others = self.workflow.ownership.others
        self.workflow.ownership.peers = frozenset(peer.number for peer in self.config.regions.values())
        self.keeper: Keeper | None = None
        #: Until when this region's lease may be trusted, in seconds on the clock that runs while the machine sleeps.
        self._leased_until = 0.0
        if config.is_regional:
            self._connect_regions()
        self._tasks: list[asyncio.Task[None]] = []
        #: Set when this process must stop: another one writes to its store.
        self.fenced = asyncio.Event()

    def _connect_regions(self) -> None:
        from interlock.stores.postgres.witness import WitnessStore

        config = self.config
        self.workflow.ownership.alone = self._is_alone
        self._witness = WitnessStore(config.witness)
        if config.role is not Role.API:
            settings = KeeperSettings(
                config.region_number, config.regions, config.region_lease_seconds,
                config.takeover == "automatic", config.choice_of_routes(),
            )  # fmt: skip
            self.keeper = Keeper(
                settings, self.store, self.journal, self.workflow, WitnessStore(config.witness),
                partial(open_replication, config), answers, self.clock,
            )  # fmt: skip

    def _is_alone(self, route: Route) -> bool:
        """Whether an end on this route is a fact at once: there are no other regions, or the route trusts the lease.

        Not where nobody may take over just now: before a release it is looked who else has the payment.
        """
        if not self.config.is_regional:
            return True
        post = self.store.post
        if route.fencing is not Fencing.LEASE:
            return False
        return not post.guards or may_conclude_by_lease(post, _boottime(), self._leased_until)

    async def _look_at_lease(self) -> None:
        asked = _boottime()
        entry, left = (await asyncio.to_thread(self._witness.entries))[self.config.region_number]
        mine = entry.taker is None and entry.generation <= self.store.post.generation
        self._leased_until = asked + left if mine else 0.0

    def _make_journal(self) -> Journal:
        def register() -> int:
            return self.store.register(self.clock())

        if self.store.shared:
            return Journal(self.store, register(), register=register, patience=_PATIENCE_SECONDS)
        return Journal(self.store, register())

    async def start(self) -> None:
        """Load what is needed, take up what a crash left, start the loops that this process's role has."""
        self.journal.on_lease_lost = self.fenced.set
        self.journal.on_begun_anew = self.workflow.begin_anew
        await self.authority.load()
        await self.workflow.refresh()
        for name, loop in self._loops():
            self._tasks.append(asyncio.create_task(loop, name=name))

    def _loops(self) -> Iterator[tuple[str, Coroutine[None, None, None]]]:
        workflow, shared = self.workflow, self.store.shared
        again: list[tuple[str, Callable[[], Awaitable[object]], float]] = []
        if shared:
            again += [
                ("lease", self.journal.renew, self.config.lease_seconds / 5),
                ("refresh", self._refresh, _REFRESH_SECONDS),
                ("ends", workflow.resuming.look_for_ends, _ENDS_SECONDS),
            ]
        again.append(("go on", workflow.resuming.go_on, _TAKE_OVER_SECONDS))
        again.append(("upkeep", self._upkeep, _UPKEEP_SECONDS))
        again.append(("sweep", self._sweep, _SWEEP_SECONDS))
        if self.config.is_regional:
            yield "acks", self.acks.run()
            if any(route.fencing is Fencing.LEASE for route in self.config.choice_of_routes()):
                again.append(("lease at the witness", self._look_at_lease, _LEASE_SECONDS))
        if self.keeper is not None:
            again.append(("regions", self.keeper.turn, _KEEP_SECONDS))
        if self.config.role is not Role.API:
            yield "deadlines", self.deadlines.run()
            again.append(("take over", self._take_over, _TAKE_OVER_SECONDS if shared else _REFRESH_SECONDS))
            if self._retention is not None:
                again.append(("archive", partial(self._archive, self._retention), _ARCHIVE_SECONDS))
        for name, step, every in again:
            yield name, Again(name, step, every).run()

    async def _refresh(self) -> None:
        await self.workflow.refresh()
        await self.journal.look(self._wall.set_right)
        self.clock.slew()

    async def _take_over(self) -> None:
        taken_over = await self.workflow.resuming.take_over()
        if taken_over:
            _log.info("taken over", transactions=taken_over)

    async def _archive(self, retention: Retention) -> None:
        if await self.journal.lead("archive"):
            await asyncio.to_thread(retention.work)

    async def _upkeep(self) -> None:
        await asyncio.to_thread(self.store.maintain, self.clock())

    async def _sweep(self) -> None:
        swept = await asyncio.to_thread(self.store.sweep, self.journal.token)
        if swept:
            _log.info("swept", messages=swept)

    async def stop(self) -> None:
        """Finish what was accepted, then give everything back."""
        if self._retention is not None:
            self._retention.interrupt()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.journal.stop()
        self.store.close()


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
