"""Who uses the machine: CPU time by process, as Linux counts it, and PostgreSQL's own figures of its log."""

import os
import resource
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Cpu(msgspec.Struct, frozen=True):
    """Seconds of CPU used so far."""

    user: float
    system: float

    @property
    def all(self) -> float:
        return self.user + self.system

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user - other.user, self.system - other.system)


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A process whose CPU time is read."""

    pid: int
    #: With all below it, and what those used that have ended: a database server.
    family: bool


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What everybody has used so far."""

    #: Each process of the server, all threads; and of it the thread that the event loop runs in.
    servers: dict[int, Cpu]
    loops: dict[int, Cpu]
    #: All of PostgreSQL, processes that have ended included; and each that is there.
    postgres: Cpu
    backends: dict[int, Cpu]
    #: Others that were asked for, by name.
    beside: dict[str, Cpu]
    own: Cpu
    #: Everybody's.
    machine: float


def snapshot(
    servers: Sequence[int], postmaster: int | None = None, beside: Mapping[str, Watched] | None = None
) -> Snapshot:
    """Of these processes, PostgreSQL's, any others and our own."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    backends, ended = ({}, Cpu(0, 0)) if postmaster is None else _family(postmaster)
    return Snapshot(
        servers={pid: _used(Path(f"/proc/{pid}/stat")) for pid in servers},
        loops={pid: _used(Path(f"/proc/{pid}/task/{pid}/stat")) for pid in servers},
        postgres=sum(backends.values(), ended),
        backends=backends,
        beside={name: cpu_of(watched) for name, watched in (beside or {}).items()},
        own=Cpu(own.ru_utime, own.ru_stime),
        machine=machine_seconds(),
    )


def cpu_of(watched: Watched) -> Cpu:
    """What it has used so far."""
    if watched.family:
        backends, ended = _family(watched.pid)
        return sum(backends.values(), ended)
    return _used(Path(f"/proc/{watched.pid}/stat"))


def parent_of(pid: int) -> int:
    """Of a process."""
    return int(_fields(Path(f"/proc/{pid}/stat"))[1])


def process_with(argument: str) -> int:
    """The one process that was started with this argument. Raises RuntimeError where there is not exactly one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if argument.encode() in arguments:
            found.append(int(folder.name))
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} processes were started with {argument}")
    return found[0]


def _fields(path: Path) -> list[str]:
    """What follows the name, which may hold spaces and brackets: state, parent, ..."""
    return path.read_text("ascii", errors="replace").rpartition(")")[2].split()


def _used(path: Path) -> Cpu:
    fields = _fields(path)
    return Cpu(int(fields[11]) / _TICK, int(fields[12]) / _TICK)


def _family(root: int) -> tuple[dict[int, Cpu], Cpu]:
    """A process and all below it; and what those of its children used that have ended."""
    children = defaultdict(list)
    used = {}
    ended = Cpu(0, 0)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = _fields(folder / "stat")
        except OSError:  # it has ended meanwhile
            continue
        pid = int(folder.name)
        children[int(fields[1])].append(pid)
        used[pid] = Cpu(int(fields[11]) / _TICK, int(fields[12]) / _TICK)
        if pid == root:
            ended = Cpu(int(fields[13]) / _TICK, int(fields[14]) / _TICK)
    family = [root]
    for member in family:
        family += children[member]
    return {pid: used[pid] for pid in family if pid in used}, ended


def machine_seconds() -> float:
    """Seconds of CPU that everybody on this machine has used so far, and what a hypervisor took away."""
    ticks = [int(field) for field in Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:]]
    return sum(ticks[:3] + ticks[5:8]) / _TICK  # the others are idle, waiting for disks, and guests counted already


def memory(pids: Sequence[int]) -> float:
    """Resident memory of processes together, in MB."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) for pid in pids)
    return round(pages * _PAGE / 1e6, 1)


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """PostgreSQL's log (WAL) so far."""

    #: Transactions that wrote something.
    commits: int
    bytes: int
    #: Times that it was forced to the disk, and the seconds that took; servers tell them up to a second late.
    syncs: int
    sync_seconds: float


def log_of(url: str) -> Log:
    """Needs `track_wal_io_timing`. url: a superuser's."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:

        def value(sql: str) -> tuple[Any, ...]:
            row = connection.execute(sql.encode()).fetchone()
            assert row is not None  # aggregates
            return row

        (version,) = value("SELECT current_setting('server_version_num')::integer")
        commits, size = value(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,"
            " (pg_current_wal_insert_lsn() - '0/0')::bigint"
        )
        syncs, milliseconds = value(
            "SELECT coalesce(sum(fsyncs), 0)::bigint, coalesce(sum(fsync_time), 0)::float FROM pg_stat_io"
            " WHERE object = 'wal' AND context = 'normal'"
            if version >= 180_000
            else "SELECT wal_sync, wal_sync_time::float FROM pg_stat_wal"
        )
    return Log(commits=commits, bytes=size, syncs=syncs, sync_seconds=milliseconds / 1000)
