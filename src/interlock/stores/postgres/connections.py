"""Connections to PostgreSQL: how they are set up, given up and made anew, and its errors in our own words.

A connection that fails is dropped, and the next use makes another. While the server cannot be reached, attempts are
spaced out, at random and ever further, and whoever comes between two of them is refused at once: so callers hear within
a moment, and a server that comes back is not run over by all processes together.
"""

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import errors
from psycopg.rows import TupleRow

from interlock.errors import ConfigError, StoreUnavailable
from interlock.stores.postgres import arrays

Connection = psycopg.Connection[TupleRow]

#: What every connection of ours has in common. Its statements look up by keys whose plan is known beforehand: a planner
#: that has never seen the tables full must not read them whole, nor gather and sort what an index has in order.
_COMMON = {
    "application_name": "interlock",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "timezone": "UTC",
}
#: A writer waits for nobody long: who holds a lock that long has stalled. One that stalls itself is ended, so that
#: nobody waits for it. Its commits are durable whatever the server's default says.
_WRITING = {
    "synchronous_commit": "on",
    "lock_timeout": "3s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",
    # A machine that is gone is noticed by the server too, or what it has locked would stay so for hours.
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "5000",
}
#: What is read is planned for its own values each time, since only so are the partitions left out (and not locked) that
#: it does not touch. A writer's inserts need no such thing, and it leaves that to the planner.
_READING = {"statement_timeout": "10s", "plan_cache_mode": "force_custom_plan"}
#: After connecting: given as an option it would make libpq take every server for a standby that it must pass by.
_READ_ONLY = "SET default_transaction_read_only = on"
#: Reports and archives read for hours, and much of it.
_BULK = {"application_name": "interlock", "jit": "off", "timezone": "UTC"}

#: A peer that is gone without a word is noticed within some seconds.
_NETWORK = {
    "connect_timeout": 2,
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}

#: Seconds between two attempts to connect: the first and the longest.
_PAUSE_FIRST, _PAUSE_MOST = 0.1, 2.0

#: How long one thread waits for another's attempt, in seconds.
_PATIENCE = 3.0

#: What is answered "try again": the server's state is at fault, not our statement.
_PASSING = (
    psycopg.OperationalError,
    errors.ReadOnlySqlTransaction,
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.IdleInTransactionSessionTimeout,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    psycopg.InterfaceError,
)


class Gate:
    """Lets through one attempt to connect at a time, and fewer the longer they fail."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_until = 0.0
        self._why = ""

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """An attempt. Raises StoreUnavailable at once where it is too early for one."""
        # While all is well one waits for the other's attempt; once it is not, nobody does.
        if not self._lock.acquire(timeout=_PATIENCE if self.open else 0):
            raise StoreUnavailable("the database is being connected to; try again shortly")
        try:
            if time.monotonic() < self._closed_until:
                raise StoreUnavailable(f"the database cannot be reached: {self._why}")
            try:
                yield
            except (psycopg.Error, StoreUnavailable) as exc:
                self._failures += 1
                pause = min(_PAUSE_MOST, _PAUSE_FIRST * 2 ** min(self._failures, 10))
                self._closed_until = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                self._why = said(exc)
                raise
            self._failures = 0
        finally:
            self._lock.release()

    @property
    def open(self) -> bool:
        """Whether the last attempt succeeded."""
        return self._failures == 0


def said(exc: BaseException) -> str:
    """What the server or driver said, on one line."""
    return " ".join(str(exc).split()) or type(exc).__name__


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns what the driver says of servers and connections into our own words."""
    try:
        yield
    except _PASSING as exc:
        raise StoreUnavailable(f"the database cannot be used now: {said(exc)}") from exc


def connect(url: str, settings: dict[str, str]) -> Connection:
    """A connection with these settings. Raises psycopg's errors, ConfigError where the URL is none."""
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    try:
        parsed = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # What libpq says of it repeats parts of it, and one of them may be the password.
        raise ConfigError(
            "store: the URL cannot be read; are characters such as % @ : / in its password percent-encoded?"
        ) from None
    own = {name: value for name, value in _NETWORK.items() if name not in parsed}
    both = f"{parsed.pop('options', '')} {options}".strip()
    connection = psycopg.Connection[TupleRow].connect(**{**parsed, **own}, options=both, autocommit=True)  # type: ignore[arg-type]
    connection.prepare_threshold = 0
    connection.cursor_factory = psycopg.RawCursor
    arrays.register(connection.adapters)
    return connection


def for_bulk(url: str, **settings: str) -> Connection:
    """A connection for reports, archives and changes of the schema, without time limits. Raises StoreUnavailable.

    settings: of the server, beside the usual.
    """
    try:
        return connect(url, _BULK | settings)
    except psycopg.Error as exc:
        raise StoreUnavailable(f"the database cannot be reached: {said(exc)}") from exc


class Line:
    """One connection that comes back; used by one thread."""

    def __init__(self, url: str, gate: Gate, *, writes: bool) -> None:
        self._url = url
        self._gate = gate
        self._writes = writes
        self._settings = {**_COMMON, **(_WRITING if writes else _READING)}
        self._connection: Connection | None = None
        self._is_closed = False
        #: Called with each new connection before anything else is; what it raises counts as a failed attempt.
        self.on_connect: Callable[[Connection], None] = lambda _: None

    def get(self) -> Connection:
        """The connection, made anew if need be. Raises StoreUnavailable."""
        if self._connection is not None and self._connection.closed:
            self.drop()
        if self._connection is None:
            with translated(), self._gate.attempt():
                connection = connect(self._url, self._settings)
                try:
                    if not self._writes:
                        connection.execute(_READ_ONLY)
                    self.on_connect(connection)
                except BaseException:
                    connection.close()
                    raise
                self._connection = connection
        connection = self._connection
        if (
            self._is_closed
        ):  # looked at last: whoever closes it meanwhile finds the connection, or we find that it is closed
            self.drop()
            raise StoreUnavailable("the store is closed")
        return connection

    @property
    def lost(self) -> bool:
        """Whether there was a connection, and it has failed."""
        return self._connection is not None and (self._connection.closed or self._connection.broken)

    def cut(self) -> None:
        """Cut it, from any thread: whoever waits for an answer gets an error instead. Nothing is cancelled by that."""
        connection = self._connection
        if connection is not None and not connection.closed:
            with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give it up for good, also where another thread is about to connect."""
        self._is_closed = True
        self.drop()

    def drop(self) -> None:
        """Give the connection up; the next use makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()


def fetch(connection: Connection, sql: str, bindings: Sequence[Any] = ()) -> list[TupleRow]:
    """All rows of a statement."""
    return connection.execute(sql, bindings, binary=True).fetchall()
