"""Fixtures that tests of every kind use."""

import atexit
import warnings
from collections.abc import Iterator

import pytest
import structlog

from tests.postgres import (
    emptied_databases,
    emptied_url,
    every_emptied_url,
    every_postgres,
    every_postgres_installation,
    every_postgres_url,
    new_database,
    postgres,
    postgres_installation,
    postgres_servers,
    postgres_url,
)

__all__ = [
    "emptied_databases",
    "emptied_url",
    "every_emptied_url",
    "every_postgres",
    "every_postgres_installation",
    "every_postgres_url",
    "new_database",
    "postgres",
    "postgres_installation",
    "postgres_servers",
    "postgres_url",
]


def pytest_unconfigure(config: pytest.Config) -> None:
    """pytest-xdist's workers leave without Python's exit handlers, and temporary folders would stay for good."""
    if hasattr(config, "workerinput"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # folders of a module's own go only now
            atexit._run_exitfuncs()


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    """Processes that tests start keep bytecode as Python does, whatever ours was told.

    There are hundreds of them, and each would take a second to compile all that it imports.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture(autouse=True)
def _logs_as_they_come() -> Iterator[None]:
    """What a command has set up for its logs is not the next test's."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
