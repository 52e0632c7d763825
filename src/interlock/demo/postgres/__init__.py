"""A private PostgreSQL server over a folder of its own: for the demo, the tests and the benchmark.

    with Cluster(newest()) as cluster:
        url = cluster.create_database("pay")      # postgresql://interlock@127.0.0.1:21873/pay

It listens on 127.0.0.1 only, and asks nobody but its superuser for a password: that one could run programs in our
name, which others on this machine must not; the rest is for synthetic messages, never for payments that matter.

**Whose process it is.** PostgreSQL refuses to run as root; where we are root, it runs as `nobody`, whom its folder
belongs to. The server is our child, so that its end is known at once and its process id cannot be anybody else's.

No server is left behind (`watchman`), and starts are quick (`templates`).
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

from interlock.demo.ports import NoPort, free_port
from interlock.demo.postgres.folders import claim, temporary_folder, write
from interlock.demo.postgres.installations import Installation, reachable
from interlock.demo.postgres.processes import (
    STOP_SECONDS,
    ClusterFailed,
    await_end,
    clean_environment,
    family_of,
    run,
    send_signal,
    server_account,
)
from interlock.demo.postgres.templates import SETTINGS, SUPERUSER, template_of, write_settings
from interlock.demo.postgres.watchman import Watchman

#: The role that owns what `create_database` makes; it may do nothing else.
OWNER = "interlock"

Mode = Literal["smart", "fast", "immediate"]
_SIGNALS: Mapping[Mode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

_PORT_TRIES = 10
#: Recovery after a crash included.
_START_SECONDS = 60.0
_POLL_SECONDS = 0.01
_LOG_LINES = 30


class Cluster:
    """A PostgreSQL server over a folder of its own; a context manager that ends with both gone.

    folder: must be empty, or not there yet, or a cluster that was kept; by default a new one for temporary files.
    It is removed at the end, with all that is in it. settings: go into the configuration, so that `configure` can
    change them. keep: the server outlives this process, and the folder stays; `close` ends the server all the same.
    """

    def __init__(
        self,
        installation: Installation,
        folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        keep: bool = False,
    ) -> None:
        """Nothing happens before `start`."""
        self.installation = installation
        self._folder = folder
        self._settings = {**SETTINGS, **(settings or {})}
        self._keep = keep
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watchman: Watchman | None = None
        self._paused = False

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End it and remove its folder, unless it is to be kept and all went well."""
        if not self._keep or kind is not None:
            self.close()

    # -- where --

    @property
    def folder(self) -> Path:
        """Data and log are in it."""
        assert self._folder is not None, "start it first"
        return self._folder

    @property
    def data(self) -> Path:
        """PostgreSQL's own folder."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "server.log"

    @property
    def _password(self) -> Path:
        """The superuser's, beside the data: whoever can read this folder may be superuser."""
        return self.folder / "password"

    @property
    def port(self) -> int:
        """On 127.0.0.1; the same after a restart."""
        assert self._port is not None, "start it first"
        return self._port

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._running().pid

    def url(self, database: str = "postgres", user: str = OWNER) -> str:
        """As libpq reads it; the superuser's with the password."""
        who = quote(user, safe="")
        if user == SUPERUSER:
            who = f"{who}:{self._password.read_text(encoding='utf-8')}"
        return f"postgresql://{who}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    @property
    def superuser_url(self) -> str:
        """The superuser's own database."""
        return self.url("postgres", SUPERUSER)

    # -- to and fro --

    @property
    def running(self) -> bool:
        """Whether the server is there, be it paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when it takes connections; after `stop` and `kill` it comes back with its data, on its port."""
        if self.running:
            return
        self._prepare()
        if self._port is not None:
            self._launch()
            return
        for tried in range(1, _PORT_TRIES + 1):
            try:
                self._port = free_port()
                self._launch()
            except NoPort as exc:
                raise ClusterFailed(str(exc)) from exc
            except ClusterFailed as exc:
                self._port = None
                # Somebody was quicker.
                if "Address already in use" not in str(exc) or tried == _PORT_TRIES:
                    raise
            else:
                return

    def stop(self, mode: Mode = "fast") -> None:
        """Shut it down as PostgreSQL does: `smart` waits for clients, `fast` ends them, `immediate` leaves recovery."""
        if not self.running:
            return
        process = self._running()
        if self._paused:
            self.resume()
        process.send_signal(_SIGNALS[mode])
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ClusterFailed(self._told(f"it did not stop ({mode}) within {STOP_SECONDS:.0f} seconds")) from None
        self._tell_watchman()

    def restart(self, mode: Mode = "fast") -> None:
        """Stop and start."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """End all of its processes at once, as a crash of the machine would; what they had written to files stays."""
        process = self._running()
        pids = self._freeze(process)
        for pid in pids:
            send_signal(pid, signal.SIGKILL)
        process.wait()
        await_end(pids)
        self._paused = False
        self._tell_watchman()

    def pause(self) -> None:
        """Stop the clock for all of its processes: connections stand, and nobody answers."""
        pids = self._freeze(self._running())
        self._paused = True
        self._tell_watchman(pids)

    def resume(self) -> None:
        """Go on after `pause`."""
        process = self._running()
        for pid in family_of(process.pid):
            send_signal(pid, signal.SIGCONT)
        self._paused = False
        self._tell_watchman()

    def close(self) -> None:
        """End it, and remove its folder unless it is to be kept."""
        try:
            # What is removed need not be written back first.
            self.stop("fast" if self._keep else "immediate")
        finally:
            if self._watchman is not None:
                self._watchman.dismiss()
                self._watchman = None
                self._port = None

    # -- what is in it --

    def create_database(self, name: str) -> str:
        """URL of a new database for its owner, who is no superuser."""
        from psycopg import sql

        owner = sql.Identifier(OWNER)
        # Two that come at once may both find it missing; one of them is told that it is there.
        self.query(
            f"DO $$ BEGIN CREATE ROLE {OWNER} LOGIN; "
            "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
        self.query(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), owner).as_string())
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected."""
        from psycopg import sql

        self.query(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)).as_string())

    def query(self, text: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What the superuser gets for a statement; for what surrounds a test. Each is a transaction of its own."""
        import psycopg

        # Such statements must not wait for a standby that may be the one that was taken away.
        with psycopg.connect(
            self.url(database, SUPERUSER), autocommit=True, options="-c synchronous_commit=local"
        ) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def until(self, text: str, database: str = "postgres", *, seconds: float = 30.0) -> None:
        """Return when the first value that the statement gives is true."""
        deadline = time.monotonic() + seconds
        while not ((rows := self.query(text, database)) and rows[0][0]):
            if time.monotonic() >= deadline:
                raise ClusterFailed(self._told(f"not so within {seconds:.0f} seconds: {text}"))
            time.sleep(_POLL_SECONDS)

    def configure(self, **settings: str) -> None:
        """Change settings while it runs (ALTER SYSTEM), and return when the server has read them."""
        from psycopg import sql

        for name, value in settings.items():
            change = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
            self.query(change.as_string())
        before = self.query("SELECT pg_conf_load_time()::text")[0][0]
        self.query("SELECT pg_reload_conf()")
        # A new connection has what the postmaster has.
        self.until(f"SELECT pg_conf_load_time() > '{before}'")

    # -- its standbys --

    def standby(
        self, folder: Path | None = None, name: str = "standby", settings: Mapping[str, str] | None = None
    ) -> "Cluster":
        """A physical standby of this server, with a replication slot of its name; to be started.

        name: what `synchronous_standby_names` calls it.
        """
        return _Standby(self, folder, name, settings)

    def promote(self) -> None:
        """Make a standby the primary; return when it takes writes."""
        if self.query(f"SELECT pg_promote(true, {_START_SECONDS:.0f})") != [(True,)]:
            raise ClusterFailed(self._told("it was not promoted"))

    # -- how --

    def _prepare(self) -> None:
        """Folder, data and configuration."""
        if self._folder is None:
            self._folder = temporary_folder()
        elif self._watchman is None:
            claim(self._folder)
        if not (self.data / "PG_VERSION").exists():
            self._watch()
            self._fill()
        version = (self.data / "PG_VERSION").read_text(encoding="utf-8").strip()
        if version != str(self.installation.major):
            raise ClusterFailed(f"{self.data} is PostgreSQL {version}, not {self.installation.major}")

    def _watch(self) -> None:
        """From now on the folder goes when we go."""
        if self._watchman is None and not self._keep:
            self._watchman = Watchman(self.folder)

    def _fill(self) -> None:
        """Make the data."""
        template = template_of(self.installation)
        # By its owner, so that the copy is its own.
        run(["cp", "-R", "-p", str(template / "data"), str(template / "password"), "."], self.folder)

    def _launch(self) -> None:
        settings = {**self._settings, "port": str(self.port)}
        write_settings(self.data, settings)
        began = self.log.stat().st_size if self.log.exists() else 0
        program = reachable(self.installation).program("postgres")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program found on this machine
                [program, "-D", str(self.data)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                # Out of reach of the terminal's Ctrl-C: we stop it, in our order.
                env=clean_environment(), start_new_session=True, **server_account(),
            )  # fmt: skip
        self._tell_watchman()
        try:
            self._await_ready(self._process, began)
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._tell_watchman()
            raise
        # Not before: a kept cluster that cannot be opened, as its server is still up, is not ours to remove.
        self._watch()
        self._tell_watchman()

    def _await_ready(self, process: subprocess.Popen[bytes], began: int) -> None:
        """PostgreSQL notes its state in a file, which is what its own `pg_ctl` waits for as well."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if _state(self.data, process.pid) in {"ready", "standby"}:
                return
            if process.poll() is not None:
                raise ClusterFailed(self._told(f"it ended with {process.returncode} instead of starting", began))
            time.sleep(_POLL_SECONDS)
        raise ClusterFailed(self._told(f"it did not start within {_START_SECONDS:.0f} seconds", began))

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ClusterFailed("it was not started")
        if self._process.poll() is not None:
            raise ClusterFailed(self._told(f"it is not running any more: it ended with {self._process.returncode}"))
        return self._process

    def _freeze(self, process: subprocess.Popen[bytes]) -> list[int]:
        """Stop the postmaster first: then there are no new processes, and all of them can be stopped."""
        if self._paused:
            return family_of(process.pid)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        family = family_of(process.pid)
        for pid in family[1:]:
            send_signal(pid, signal.SIGSTOP)
        return family

    def _tell_watchman(self, pids: Sequence[int] | None = None) -> None:
        if self._watchman is not None:
            self._watchman.tell(pids if pids is not None else [self.pid] if self.running else [])

    def _told(self, what: str, began: int = 0) -> str:
        """The sentence, and what the server had to say."""
        said = self.log.read_bytes()[began:].decode(errors="replace") if self.log.exists() else ""
        end = "\n".join(said.splitlines()[-_LOG_LINES:])
        return f"PostgreSQL {self.installation.major} in {self.folder}: {what}. Its log:\n{end or '(empty)'}"


class _Standby(Cluster):
    """Begins as a copy of its primary and follows it."""

    def __init__(self, primary: Cluster, folder: Path | None, name: str, settings: Mapping[str, str] | None) -> None:
        self._primary = primary
        self._name = name
        follows = {
            "primary_conninfo": f"{primary.superuser_url}?application_name={quote(name)}",
            "primary_slot_name": name,
        }
        super().__init__(primary.installation, folder, {**primary._settings, **(settings or {}), **follows})  # noqa: SLF001 - of our own class

    def _fill(self) -> None:
        password = self._primary._password.read_text(encoding="utf-8")  # noqa: SLF001 - of our own class
        backup = [
            reachable(self.installation).program("pg_basebackup"), f"--pgdata={self.data}", "--no-sync",
            "--host=127.0.0.1", f"--port={self._primary.port}", f"--username={SUPERUSER}",
            "--wal-method=stream", "--checkpoint=fast", "--create-slot", f"--slot={self._name}",
        ]  # fmt: skip
        # Command lines are for all to see, environments are not.
        run(backup, self.folder, PGPASSWORD=password)
        write(self.data / "standby.signal", "")
        write(self._password, password)


def _state(data: Path, pid: int) -> str:
    """What the server with that process id notes as its state; empty as long as it does not."""
    with suppress(FileNotFoundError):
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        # The file of a server that crashed lies there until the next one writes its own.
        if len(lines) > 7 and lines[0] == str(pid):
            return lines[7].strip()
    return ""
