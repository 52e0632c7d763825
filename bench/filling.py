"""Years of payments in minutes: the tables filled with copies of one real transaction, as they would have come to be.

Each partition of the past is made as a table of its own: filled by COPY, frozen, its indexes built in one go, and then
made part of the table. One connection of the server makes the rows and another takes them, through a pipe, for only
COPY may write rows as frozen; else the first readers, or a vacuum, would write every page again. What is not
partitioned is made anew with what it had. The rows are those of the template but for what `bench.rows` says; the chain
of their events does not verify, and no journal claims it.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

from bench.rows import TABLES, Numbers, Template
from interlock.chain import micros
from interlock.demo.postgres import OWNER, Cluster
from interlock.stores import rows as mapping
from interlock.stores.postgres import schema
from interlock.stores.postgres.connections import Connection, fetch, for_bulk

_DAY = timedelta(days=1)
#: A journal that nobody has.
_JOURNAL = "900000"
_PARALLEL = min(4, os.cpu_count() or 1)
_SETTINGS = "SET maintenance_work_mem = '512MB'; SET synchronous_commit = off"


class Era(NamedTuple):
    """Copies to be made: so many a day, over some days."""

    #: The last midnight of it.
    ends: datetime
    days: int
    daily: int
    #: The number of the first copy.
    first: int
    small_bodies: bool = False

    @property
    def copies(self) -> int:
        return self.days * self.daily

    @property
    def begins(self) -> datetime:
        return self.ends - self.days * _DAY

    def numbers(self, client: str, events: int, day: int | None = None) -> Numbers:
        """Those of one day, from 0, or all of them."""
        first = self.first + (day or 0) * self.daily
        last = first + (self.copies if day is None else self.daily) - 1
        step = 86_400_000_000 // self.daily
        return Numbers(
            source=f"generate_series(CAST({first} AS bigint), {last}) AS x(g)",
            at=f"{micros(self.begins)} + (g - {self.first}) * CAST({step} AS bigint)",
            journal=_JOURNAL,
            chain=f"g * {events}",
            client=client,
            small_bodies=self.small_bodies,
        )

    def partitions(self) -> list[schema.Partition]:
        """One a day, oldest first."""
        days = [self.begins + day * _DAY for day in range(self.days)]
        return [schema.Partition(f"p{day:%Y%m%d}", _bound(day), _bound(day + _DAY)) for day in days]


def _bound(at: datetime) -> UUID:
    return UUID(bytes=mapping.id_bound(at))


def newest_midnight(now: datetime) -> datetime:
    """The last one before which a store that is used now has made no partitions."""
    return datetime(now.year, now.month, now.day, tzinfo=UTC) - _DAY


class Filling:
    """Fills a database that nobody uses."""

    def __init__(self, cluster: Cluster, url: str, template: Template, client: str) -> None:
        """client: whom every tenth transaction is of."""
        self._cluster = cluster
        self._url = url
        self._template = template
        self.client = client
        # The server is ours alone, and the pipe is a file to it.
        cluster.query(f"GRANT pg_read_server_files, pg_write_server_files TO {OWNER}")

    def fill(self, era: Era, told: Callable[[str], None]) -> None:
        """None of the era's partitions may be there yet. told: what is being done."""
        template = self._template
        with contextlib.closing(for_bulk(self._url)) as connection, ThreadPoolExecutor(_PARALLEL) as threads:
            parts = [
                _Part(table, f"{table}_{partition.name}", era.numbers(self.client, template.events, day))
                for table in schema.PARTITIONED
                for day, partition in enumerate(era.partitions())
            ]
            wholes = [
                _Part(table, f"{table}_filled", era.numbers(self.client, template.events), anew=True)
                for table in TABLES
                if table not in schema.PARTITIONED
            ]
            # The largest first, so that it is not waited for at the end.
            tasks = [threads.submit(self._make, part, _indexes(connection, part.table)) for part in [*wholes, *parts]]
            for number, task in enumerate(tasks, 1):
                told(f"{number} of {len(tasks)} tables")
                _result(task, tasks)
            for whole in wholes:
                with connection.transaction():
                    connection.execute(f"DROP TABLE {whole.table}".encode())
                    connection.execute(f"ALTER TABLE {whole.name} RENAME TO {whole.table}".encode())
            for partition in era.partitions():
                schema.attach(connection, partition)
            told("statistics")
            for table in TABLES:
                connection.execute(f"VACUUM (ANALYZE) {table}".encode(), prepare=False)

    def _make(self, part: "_Part", indexes: Sequence[str]) -> None:
        """A table of its own with its rows and indexes."""
        columns = self._template.columns(part.table)
        rows = self._template.select(part.table, part.numbers)
        if part.anew:
            rows = f"SELECT {columns} FROM {part.table} UNION ALL {rows}"  # noqa: S608 - names and numbers of ours
        with contextlib.closing(for_bulk(self._url)) as target, self._pipe() as pipe:
            target.execute(_SETTINGS.encode(), prepare=False)
            with target.transaction():
                like = f"(LIKE {part.table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
                target.execute(f"CREATE TABLE {part.name} {like}".encode(), prepare=False)
                with ThreadPoolExecutor(1) as thread:
                    source = thread.submit(self._send, f"COPY ({rows}) TO '{pipe}' (FORMAT binary)", pipe)
                    taken = f"COPY {part.name} ({columns}) FROM '{pipe}' (FORMAT binary, FREEZE)"
                    with _unblocking(pipe):
                        target.execute(taken.encode(), prepare=False)
                    source.result()
                for index in indexes:
                    target.execute(index.format(part.name).encode(), prepare=False)

    def _send(self, copy: str, pipe: Path) -> None:
        with contextlib.closing(for_bulk(self._url)) as source, _unblocking(pipe):
            source.execute(copy.encode(), prepare=False)

    @contextlib.contextmanager
    def _pipe(self) -> Iterator[Path]:
        """A named pipe that the server's user may open."""
        path = self._cluster.folder / f"pipe-{uuid4().hex}"
        os.mkfifo(path, 0o600)
        owner = self._cluster.data.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        try:
            yield path
        finally:
            path.unlink()


class _Part(NamedTuple):
    """A table to be made."""

    #: Like which one.
    table: str
    name: str
    numbers: Numbers
    #: It takes the other's place, with what that has.
    anew: bool = False


def _result(task: "Future[None]", others: "Sequence[Future[None]]") -> None:
    try:
        task.result()
    except BaseException:
        for other in others:
            other.cancel()
        raise


@contextlib.contextmanager
def _unblocking(pipe: Path) -> Iterator[None]:
    """Where one end fails before it has opened the pipe, the other must not wait for it for ever."""
    try:
        yield
    except BaseException:
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))
        raise


def _indexes(connection: Connection, table: str) -> list[str]:
    """Statements that make a table's indexes on another, whose name is to be put in."""
    keys = fetch(
        connection,
        "SELECT conindid, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = $1::regclass AND contype IN ('p', 'u')",
        (table,),
    )
    made = [f"ALTER TABLE {{}} ADD {definition}" for _, definition in keys]
    rest = fetch(
        connection,
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = $1::regclass AND NOT indexrelid = ANY ($2)",
        (table, [index for index, _ in keys]),
    )
    for (definition,) in rest:
        # CREATE INDEX name ON ONLY public.table USING btree (...)
        made.append(re.sub(r"INDEX \S+ ON (ONLY )?\S+ ", "INDEX ON {} ", definition, count=1))
    return made
