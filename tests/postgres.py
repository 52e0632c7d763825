"""Fixtures: PostgreSQL servers of the tests' own, one a version and test process, started by the first test that asks.

A test that needs a database takes `postgres_url`, or `new_database` for several; one whose subject differs between
versions takes `every_postgres_url`. These servers do not write through to the disk, so that tests are quick: one that
is about durability, or that kills its server, starts a `Cluster(postgres_installation)` of its own.

Without any PostgreSQL such tests are skipped, and say what to install; in continuous integration they fail.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from interlock.demo.postgres import WHAT_TO_INSTALL, Cluster, Installation, installations

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
