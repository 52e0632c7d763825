"""Subscriptions as a region's database has them: their names and slots, their options, and what is copied.

A subscription survives the loss of a connection or server by itself. What it does not survive is the loss of its slot
at the publisher, after an absence that was too long: then the copy is made anew.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from interlock.stores.postgres.connections import Connection, fetch
from interlock.stores.postgres.publications import OPERATIONS, TABLES
from interlock.stores.statements import queries

#: Why each is so: with `off` a peer's commits wait for our log writer, and with `on` two regions wait in a circle; a
#: stream of unfinished transactions is written to files first; and to disable on an error takes a lost connection for
#: one, for good.
OPTIONS = {"synchronous_commit": "local", "streaming": "off", "binary": "true", "disable_on_error": "false"}


class Subscription(NamedTuple):
    """Our subscription to a peer, as our database has it."""

    oid: int
    enabled: bool
    binary: bool
    streaming: bool
    synchronous_commit: str
    disable_on_error: bool
    slot: str | None
    publications: Sequence[str]

    @property
    def faults(self) -> list[str]:
        """Options that are not as they must be."""
        found = []
        if self.synchronous_commit != OPTIONS["synchronous_commit"]:
            found.append(f"synchronous_commit is {self.synchronous_commit}, not local")
        if self.disable_on_error:
            found.append("disable_on_error is on: a lost connection would end it for good")
        if self.streaming:
            found.append("streaming is not off")
        if not self.binary:
            found.append("binary is off")
        if sorted(self.publications) != sorted(OPERATIONS):
            found.append(f"it is to {', '.join(self.publications)}, not {', '.join(OPERATIONS)}")
        return found


def slot(publisher: int, subscriber: int) -> str:
    """Name of a subscriber's slot at the publisher."""
    return f"interlock_{publisher}_to_{subscriber}"


def subscription(peer: int) -> str:
    """Name of the subscription to a peer."""
    return f"interlock_from_{peer}"


def peer_of(name: str) -> int:
    """The peer that a slot of ours or a subscription is for, by its name."""
    return int(name.rsplit("_", 1)[1])


def find(connection: Connection, peer: int) -> Subscription | None:
    """The subscription to a peer."""
    rows = fetch(connection, queries("postgres", "replication.sql")["subscription"], (subscription(peer),))
    return Subscription(*rows[0]) if rows else None


def followed(connection: Connection) -> list[int]:
    """The peers that there is a subscription to."""
    return [peer_of(name) for (name,) in fetch(connection, queries("postgres", "replication.sql")["subscribed"])]


def table_states(connection: Connection, oid: int) -> dict[str, str]:
    """How far each table of a subscription is copied; `r`: all of it."""
    return dict(fetch(connection, queries("postgres", "replication.sql")["table_states"], (oid,)))


def copied(tables: Mapping[str, str]) -> bool:
    """Whether every table that regions share was copied."""
    return all(tables.get(table.name) == "r" for table in TABLES)
