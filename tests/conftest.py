"""Fixtures that tests of every kind use."""

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
