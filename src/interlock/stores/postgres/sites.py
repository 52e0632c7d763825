"""A region's database and those of its peers, as replication reaches them: who they are, and how long they may take.

Owns: the connections, and what errors say of them. Must not know: what is replicated, or why.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from psycopg import errors

from interlock.errors import ConfigError
from interlock.regions.rules import Post
from interlock.stores import rows as mapping
from interlock.stores.postgres import publications, schema
from interlock.stores.postgres.connections import Connection, fetch, for_bulk, said, translated
from interlock.stores.postgres.witness import BoundedLine
from interlock.stores.statements import queries

#: Longer than any statement of ours may take by itself: it is for a server that has stopped.
PATIENCE_SECONDS = 12.0


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


class Abroad(NamedTuple):
    """What is read of a peer's database."""

    region: int
    schema: int
    post: Post
    wal_level: str
    publications: Mapping[str, publications.Publication]


class Site:
    """One region's database, and its peers' when they are asked; used by one thread.

    Every method raises StoreUnavailable where a database cannot be asked.
    """

    def __init__(self, url: str, region: int, patience_seconds: float) -> None:
        """Connects when it is first used. Raises ConfigError then where the database is another region's."""
        self.region = region
        self.sql = queries("postgres", "replication.sql")
        self._url = url
        self._line = BoundedLine(url, f"the database of region {region}", patience_seconds, self._recognise)
        self._abroad: dict[str, BoundedLine] = {}

    def close(self) -> None:
        """End all connections."""
        self._line.close()
        for line in self._abroad.values():
            line.close()
        self._abroad.clear()

    @contextlib.contextmanager
    def use(self) -> Iterator[Connection]:
        """Our database's connection, for as long as patience lasts."""
        with self._told(), self._line.use() as connection:
            yield connection

    @contextlib.contextmanager
    def long(self, timeout: str = "0") -> Iterator[Connection]:
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

    def know(self, peer: PeerSettings) -> Abroad:
        """A peer's database. Raises ConfigError where it is none of ours yet."""
        with self.abroad(peer) as there:
            number = schema.number(there)
            if not number:
                raise ConfigError(f"region {peer.number} has no schema of ours yet: run `interlock db migrate` there")
            rows = fetch(there, queries("postgres")["region"])
            if not rows:
                raise ConfigError(f"region {peer.number} was not set up: run `interlock regions init` there")
            ((level,),) = fetch(there, "SELECT current_setting('wal_level')")
            post = mapping.post(*fetch(there, queries("postgres")["post"])[0])
            return Abroad(rows[0][0], number, post, level, publications.publications(there))

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
