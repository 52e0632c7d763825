"""Fixtures: PostgreSQL servers of the tests' own, one a version and test process, started by the first test that asks.

A test that needs a database takes `postgres_url`, or `new_database` for several; one whose subject differs between
versions takes `every_postgres_url`. A new database with our schema takes half a second: many small tests that need just
that, and no more of it than one at a time, take `emptied_url` or `every_emptied_url`. These servers do not write
through to the disk, so that tests are quick: one that is about durability, or that kills its server, starts a
`Cluster(postgres_installation)` of its own.

Without any PostgreSQL such tests are skipped, and say what to install; in continuous integration they fail.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psycopg
import pytest

from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import WHAT_TO_INSTALL, Installation, installations
from interlock.errors import InterlockError
from interlock.stores.postgres import PostgresStore

#: For tests whose subject is not what a crash of the machine leaves.
QUICK = {"fsync": "off", "full_page_writes": "off"}
#: None, where there is none, so that the tests are seen to be skipped.
MAJORS = tuple(found.major for found in installations()) or (None,)

NewDatabase = Callable[[], str]


def installation(major: int | None = None) -> Installation:
    """That version, by default the newest; skips the test where it is missing, but fails it where CI is true."""
    for found in installations():
        if major in {None, found.major}:
            return found
    if os.environ.get("CI") == "true":
        pytest.fail(WHAT_TO_INSTALL)
    pytest.skip(WHAT_TO_INSTALL)


class Servers:
    """A server a version, each started when it is first asked for."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._started: dict[int, Cluster] = {}

    def of(self, found: Installation) -> Cluster:
        """The server of that version."""
        if found.major not in self._started:
            self._started[found.major] = self._stack.enter_context(Cluster(found, settings=QUICK))
        return self._started[found.major]

    def close(self) -> None:
        """End them all."""
        self._stack.close()


class Databases:
    """Fresh databases on a server, dropped again at the end."""

    _numbers = itertools.count(1)

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._names: list[str] = []

    def new(self) -> str:
        """URL of an empty database, as its owner, who is no superuser."""
        self._names.append(f"test_{next(self._numbers)}")
        return self._cluster.create_database(self._names[-1])

    def drop(self) -> None:
        """Drop them, whoever is connected: hundreds of them would fill the disk."""
        for name in self._names:
            self._cluster.drop_database(name)


def empty(url: str) -> None:
    """Take all rows away, in milliseconds; the schema and its partitions stay, and what says which database it is."""
    with psycopg.connect(url, autocommit=True) as db:
        tables = db.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
            # Others refer to archives: these come last.
            "AND NOT relispartition AND relname NOT IN ('region', 'schema_migrations') ORDER BY relname = 'archives'"
        )
        db.execute("; ".join(f"DELETE FROM {name}" for (name,) in tables).encode())  # noqa: S608 - names of our own


#: Whoever a test has left behind, perhaps in the midst of a transaction.
_LEFT_BEHIND = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
)
_TABLES = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
    "ORDER BY relispartition DESC"
)
#: What tells databases without rows from each other: tables, columns, indexes, constraints, owners, which one it is.
_LAYOUT = """
SELECT c.relname, c.relkind::text, c.relowner::regrole::text, c.reloptions::text, pg_get_expr(c.relpartbound, c.oid),
    i.inhparent::regclass::text, pg_get_indexdef(x.indexrelid), x.indisvalid,
    (SELECT array_agg(a.attname || format_type(a.atttypid, a.atttypmod) || a.attnotnull ORDER BY a.attnum)::text
        FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attnum > 0),
    (SELECT array_agg(pg_get_constraintdef(k.oid) ORDER BY k.conname)::text FROM pg_constraint k
        WHERE k.conrelid = c.oid)
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_index x ON x.indexrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace
UNION ALL SELECT nspname, nspacl::text, '', '', '', '', '', NULL, '', '' FROM pg_namespace WHERE nspname !~ '^pg_'
UNION ALL SELECT proname, prosrc, '', '', '', '', '', NULL, '', '' FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT r::text, '', '', '', '', '', '', NULL, '', '' FROM region r
UNION ALL SELECT s::text, '', '', '', '', '', '', NULL, '', '' FROM schema_migrations s
"""


class Emptied:
    """Databases on each version that are used by one test after the other, without a trace of the one before.

    Its rows and tables are taken away. A database that is still not as it was at first is given up for a new one.
    """

    def __init__(self, servers: Servers, prepare: Callable[[str], None]) -> None:
        """prepare: makes the schema, and makes it whole again where tables are missing."""
        self._servers = servers
        self._prepare = prepare
        self._first: dict[int, tuple[Databases, str, set[str], set[object]]] = {}

    def of(self, found: Installation) -> str:
        """URL of one on that version, which nobody else uses."""
        if found.major in self._first:
            databases, url, tables, layout = self._first[found.major]
            with suppress(psycopg.Error, InterlockError):
                self._clean(url, tables)
                if self._read(url, _LAYOUT) == layout:
                    return url
            databases.drop()
        databases = Databases(self._servers.of(found))
        url = databases.new()
        self._prepare(url)
        tables = {name for (name,) in self._read(url, _TABLES)}
        self._first[found.major] = databases, url, tables, self._read(url, _LAYOUT)
        return url

    def _clean(self, url: str, tables: set[str]) -> None:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(_LEFT_BEHIND)
            added = [name for (name,) in db.execute(_TABLES) if name not in tables]
            db.execute("; ".join(f"DROP TABLE IF EXISTS {name} CASCADE" for name in added).encode())
        empty(url)
        self._prepare(url)

    @staticmethod
    def _read(url: str, statement: str) -> set[Any]:
        with psycopg.connect(url) as db:
            return set(db.execute(statement.encode()))

    def drop(self) -> None:
        """Drop them."""
        for databases, *_ in self._first.values():
            databases.drop()


_servers = Servers()


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[Servers]:
    """The servers of this process, however many modules import this fixture; no test alters or stops them."""
    yield _servers
    _servers.close()


@pytest.fixture(scope="session")
def postgres_installation() -> Installation:
    """The newest version: for tests with a server of their own."""
    return installation()


@pytest.fixture
def postgres(postgres_servers: Servers, postgres_installation: Installation) -> Cluster:
    """The shared server of the newest version."""
    return postgres_servers.of(postgres_installation)


@pytest.fixture
def new_database(postgres: Cluster) -> Iterator[NewDatabase]:
    """A function that gives the URL of a new database on the newest version."""
    databases = Databases(postgres)
    yield databases.new
    databases.drop()


@pytest.fixture
def postgres_url(new_database: NewDatabase) -> str:
    """A new database on the newest version."""
    return new_database()


@pytest.fixture(params=MAJORS, ids="postgres-{}".format)
def every_postgres_installation(request: pytest.FixtureRequest) -> Installation:
    """Each version in turn."""
    return installation(request.param)


@pytest.fixture
def every_postgres(postgres_servers: Servers, every_postgres_installation: Installation) -> Cluster:
    """The shared server of each version in turn."""
    return postgres_servers.of(every_postgres_installation)


@pytest.fixture
def every_postgres_url(every_postgres: Cluster) -> Iterator[str]:
    """A new database on each version in turn."""
    databases = Databases(every_postgres)
    yield databases.new()
    databases.drop()


def migrated(url: str) -> None:
    """Make the schema."""
    PostgresStore(url).close()


@pytest.fixture(scope="session")
def emptied_databases(postgres_servers: Servers) -> Iterator[Emptied]:
    """Databases with our schema and without rows."""
    databases = Emptied(postgres_servers, migrated)
    yield databases
    databases.drop()


@pytest.fixture
def emptied_url(emptied_databases: Emptied, postgres_installation: Installation) -> str:
    """A database with our schema and without rows on the newest version."""
    return emptied_databases.of(postgres_installation)


@pytest.fixture
def every_emptied_url(emptied_databases: Emptied, every_postgres_installation: Installation) -> str:
    """The same on each version in turn."""
    return emptied_databases.of(every_postgres_installation)
