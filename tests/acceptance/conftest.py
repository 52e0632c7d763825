"""A real `interlock serve` in a process of its own, on a free port, over a fresh folder; and callers for it.

What is marked `stores("sqlite", "postgres")` and asks for a server runs on each of these; the setting is all that
differs. What is not marked runs on SQLite.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.commands import printed
from tests.postgres import Databases, Servers, installation

START_SECONDS = 30
#: What is held for a consumer: pacs.008 payments above this, in euro.
LARGE = "1000000.01"
ROUTES = """
[routes.default]
decision_above = { EUR = 1000000 }
"""


def command(*arguments: str) -> list[str]:
    """The `interlock` command of this environment."""
    return [sys.executable, "-m", "interlock.cli", *arguments]


def environment(data: Path, **settings: object) -> dict[str, str]:
    """Ours, with these settings of interlock's and no others."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    given = {f"INTERLOCK_{name.upper()}": str(value) for name, value in settings.items()}
    return {**ours, "INTERLOCK_DATA": str(data), **given}


@dataclass
class Caller:
    """An API consumer with a connection of its own."""

    client_id: str
    secret: str
    http: httpx.Client
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, scope: str = "") -> str:
        """A token, with all the client's scopes unless some are named; fetched once."""
        if scope not in self.tokens:
            form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
            response = self.http.post("/oauth2/token", auth=(self.client_id, self.secret), data=form)
            assert response.status_code == 200, response.text
            self.tokens[scope] = response.json()["access_token"]
        return self.tokens[scope]

    def call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, *, scope: str = "", **more: Any
    ) -> httpx.Response:
        """A call in its name."""
        given = {"Authorization": f"Bearer {self.token(scope)}", **(headers or {})}
        return self.http.request(method, path, headers=given, **more)

    def submit(self, message: bytes, **headers: str) -> httpx.Response:
        """`POST /v1/messages`; headers by their names in snake_case."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call("POST", "/v1/messages", {"Content-Type": "application/xml", **given}, content=message)

    def issue(self) -> str:
        """An id from `GET /uuid`."""
        response = self.call("GET", "/uuid", {"X-Message-Type": "pacs.008"})
        assert response.status_code == 200, response.text
        return str(response.json()["transaction_id"])

    def inbox(self, transaction_id: str, message: bytes, **headers: str) -> httpx.Response:
        """`POST /inbox` as the reference's clients send it."""
        given = {"X-Transaction-Id": transaction_id, "Content-Type": "application/json", **headers}
        return self.call("POST", "/inbox", given, content=message)

    def outbox(self, transaction_id: str, **headers: str) -> httpx.Response:
        """`POST /outbox`."""
        return self.call("POST", "/outbox", {"X-Transaction-Id": transaction_id, **headers})

    def get(self, transaction_id: str, rest: str = "") -> httpx.Response:
        """`GET /v1/transactions/{id}` or what is below it."""
        return self.call("GET", f"/v1/transactions/{transaction_id}{rest}")

    def decide(self, transaction_id: str, decision: str, **more: object) -> httpx.Response:
        """`POST /v1/transactions/{id}/decisions`."""
        return self.call("POST", f"/v1/transactions/{transaction_id}/decisions", json={"decision": decision, **more})


@dataclass
class Server:
    """A running server."""

    url: str
    data: Path
    process: subprocess.Popen[str]
    log: Path
    settings: Mapping[str, str]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rsplit(":", 1)[1])

    def run(self, *arguments: str) -> dict[str, Any]:
        """Another `interlock` command over the same folder; what it prints with --json."""
        done = subprocess.run(
            command(*arguments), env=dict(self.settings), capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        printed: dict[str, Any] = json.loads(done.stdout)
        return printed

    def add(self, name: str, *scopes: str) -> Caller:
        """A client made by the command beside the running server."""
        wanted = [part for scope in scopes for part in ("--scope", scope)]
        made = printed(self.settings, "clients", "add", name, *wanted)
        return Caller(made["client_id"], made["client_secret"], httpx.Client(base_url=self.url, timeout=20))

    def stop(self) -> int:
        """End it in good order; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_SECONDS)


def start(folder: Path, routes: str = ROUTES, **settings: object) -> Server:
    """Start a server over a folder and wait until it says where it listens."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "interlock.toml"
    config.write_text(routes, encoding="utf-8")
    given = environment(folder / "data", config=config, **{"port": 0, **settings})
    log = folder / "server.log"
    with log.open("a", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            command("serve", "--json"), env=given, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(START_SECONDS)
        pytest.fail(f"the server did not start:\n{log.read_text('utf-8')}")
    return Server(json.loads(line)["url"], folder / "data", process, log, given)


def end(server: Server) -> None:
    """End a server, and see that nothing went wrong unseen."""
    server.process.terminate()
    try:
        server.process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
        raise
    finally:
        if server.process.stdout is not None:
            server.process.stdout.close()
    log = server.log.read_text("utf-8")
    assert "Traceback" not in log, log


def pytest_configure(config: pytest.Config) -> None:
    """What our mark means."""
    config.addinivalue_line("markers", "stores(*names): on which stores a test runs that asks for a server")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test or module says on which stores it runs."""
    if "store" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("stores")
        stores = ("sqlite",) if mark is None else mark.args
        metafunc.parametrize("store", stores, scope="session", indirect=True)


class Settings:
    """What makes a server run on a store: nothing for SQLite, a database of its own for PostgreSQL."""

    def __init__(self, databases: Databases | None) -> None:
        self._databases = databases
        self._by_name: dict[str, dict[str, str]] = {}

    def of(self, name: str) -> dict[str, str]:
        """For a server's name; a second server of one name has the database of the first."""
        if name not in self._by_name:
            self._by_name[name] = {} if self._databases is None else {"store": self._databases.new()}
        return self._by_name[name]


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest) -> str:
    """The store that a test runs on: sqlite or postgres."""
    return str(request.param)


@contextmanager
def settings_for(request: pytest.FixtureRequest, store: str) -> Iterator[Settings]:
    """Databases on the shared server, where they are needed; dropped at the end."""
    if store == "sqlite":
        yield Settings(None)
        return
    shared: Servers = request.getfixturevalue("postgres_servers")
    databases = Databases(shared.of(installation()))
    yield Settings(databases)
    databases.drop()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with default settings, shared by the tests of a run: each uses clients or messages of its own."""
    with settings_for(request, store) as settings:
        running = start(tmp_path_factory.mktemp(f"server-{store}"), **settings.of("server"))
        yield running
        end(running)


@pytest.fixture
def servers(request: pytest.FixtureRequest, store: str, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers with settings of the test's own; they are ended with it."""
    with settings_for(request, store) as settings, ExitStack() as stack:

        def started(name: str = "own", routes: str = ROUTES, **given: object) -> Server:
            own = {} if "store" in given else settings.of(name)
            running = start(tmp_path / name, routes, **{**own, **given})
            stack.callback(end, running)
            return running

        yield started


def _caller(server: Server, name: str, *scopes: str) -> Iterator[Caller]:
    caller = server.add(name, *scopes)
    with caller.http:
        yield caller


@pytest.fixture(scope="session")
def alice(server: Server) -> Iterator[Caller]:
    """A tenant."""
    yield from _caller(server, "alice", "rp2/read", "rp2/write")


@pytest.fixture(scope="session")
def bob(server: Server) -> Iterator[Caller]:
    """Another tenant."""
    yield from _caller(server, "bob", "rp2/read", "rp2/write")


@pytest.fixture(scope="session")
def operator(server: Server) -> Iterator[Caller]:
    """Somebody at the operations desk."""
    yield from _caller(server, "desk", "interlock/operate")


@pytest.fixture(scope="session")
def admin(server: Server) -> Iterator[Caller]:
    """Somebody who makes clients and keys."""
    yield from _caller(server, "admin", "interlock/admin")
