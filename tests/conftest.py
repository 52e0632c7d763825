"""Fixtures that tests of every kind use."""

from collections.abc import Iterator

import pytest
import structlog

from tests.postgres import (
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
    "every_postgres",
    "every_postgres_installation",
    "every_postgres_url",
    "new_database",
    "postgres",
    "postgres_installation",
    "postgres_servers",
    "postgres_url",
]


@pytest.fixture(autouse=True)
def _logs_as_they_come() -> Iterator[None]:
    """What a command has set up for its logs is not the next test's."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
