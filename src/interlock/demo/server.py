"""The server that the demo runs on: a fresh folder, a free port, a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock.demo.scenario import ALPHA, BETA, SETTINGS

_START_SECONDS = 30.0
_COMMAND = (sys.executable, "-m", "interlock.cli")


class DemoFailed(Exception):
    """The demo could not be held at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a demo is held."""

    folder: Path
    url: str
    pid: int

    @property
    def data(self) -> Path:
        """The data folder."""
        return data_of(self.folder)

    @property
    def settings(self) -> Path:
        """The configuration file."""
        return settings_of(self.folder)


def data_of(folder: Path) -> Path:
    """Where the server of a demo keeps its data."""
    return folder / "data"


def settings_of(folder: Path) -> Path:
    """Where the configuration of a demo is."""
    return folder / "interlock.toml"


def serve_command(folder: Path) -> str:
    """What serves that folder again."""
    name = Path(sys.argv[0])
    program = name if name.name == "interlock" and name.is_file() else "interlock"
    return f"{program} serve --config {settings_of(folder)} --data {data_of(folder)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A fresh database on a PostgreSQL of the demo's own."""

    url: str
    #: Of the server's first process.
    pid: int


@contextmanager
def database(store: str, *, keep: bool) -> Iterator[Database | None]:
    """A database of the demo's own, which is gone after it, unless it is to be kept; None for the embedded store."""
    if store == "sqlite":
        yield None
        return
    from interlock.demo.postgres import Cluster
    from interlock.demo.postgres.installations import newest
    from interlock.demo.postgres.processes import ClusterFailed

    try:
        with Cluster(newest(), keep=keep) as cluster:
            yield Database(url=cluster.create_database("interlock"), pid=cluster.pid)
    except ClusterFailed as exc:
        raise DemoFailed(str(exc)) from exc


@contextmanager
def serving(
    folder: Path, *, keep: bool, port: int = 0, over: Database | None = None, name: str = "server"
) -> Iterator[Place]:
    """A server over the folder, by default on a free port; stopped at the end, unless it is to be kept.

    over: its database; without one it has an embedded store. name: for its log, where a folder has several.
    """
    store = "" if over is None else f'store = "{over.url}"\n'
    settings_of(folder).write_text(store + SETTINGS, encoding="utf-8")
    said, log = folder / f"{name}.json", folder / f"{name}.log"
    arguments = ("serve", "--port", str(port), "--host", "127.0.0.1", "--json", *_where(folder))
    # Files, not pipes: a server that is kept must not stop when nobody reads any more.
    with said.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*_COMMAND, *arguments], stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=_environment(),
            start_new_session=keep,
        )  # fmt: skip
    try:
        yield Place(folder=folder, url=_url(process, said, log), pid=process.pid)
    except BaseException:
        _stop(process)
        raise
    if not keep:
        _stop(process)


def _where(folder: Path) -> tuple[str, ...]:
    return ("--data", str(data_of(folder)), "--config", str(settings_of(folder)))


def _environment() -> dict[str, str]:
    """Ours without settings: the demo must not run on those of a real server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}


def _url(process: subprocess.Popen[bytes], said: Path, log: Path) -> str:
    """The address, once the server has told it."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        line = said.read_text(encoding="utf-8")
        if line.endswith("\n"):
            return str(json.loads(line)["url"])
        if process.poll() is not None:
            raise DemoFailed(f"the server ended with {process.returncode}: {log.read_text(encoding='utf-8').strip()}")
        time.sleep(0.02)
    raise DemoFailed(f"the server did not start within {_START_SECONDS:.0f} seconds; see {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def register(folder: Path) -> dict[str, tuple[str, str]]:
    """Register the two clients with the command line; id and secret of each."""
    processes = {
        name: subprocess.Popen(  # noqa: S603 - our own program
            [*_COMMAND, "clients", "add", name, "--json", *_where(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(),
        )
        for name in (ALPHA, BETA)
    }  # fmt: skip
    return {name: _registered(process) for name, process in processes.items()}


def _registered(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    out, err = process.communicate(timeout=_START_SECONDS)
    if process.returncode:
        raise DemoFailed(f"`interlock clients add` ended with {process.returncode}: {err.decode().strip()}")
    told: dict[str, Any] = json.loads(out)
    return told["client_id"], told["client_secret"]
