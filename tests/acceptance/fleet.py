"""Several `interlock serve` over one PostgreSQL, as on several machines, and callers that bear with them.

Like `torture`, whose servers and connections these are, it knows Interlock by its command, its HTTP faces and its
tables only.
"""

import asyncio
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import psycopg

from tests.acceptance.torture import Client, Gone, Log, Reply, Server, Wire, sha
from tests.messages import Transfer, fresh, fresh_uetr, pacs008

_T = TypeVar("_T")
#: A caller gives up, and the test fails, where nobody takes a call for this long.
PATIENCE_SECONDS = 60.0


def rows(url: str, query: str, *bindings: Any) -> list[tuple[Any, ...]]:
    """What a statement gives, beside the servers."""
    with psycopg.connect(url, autocommit=True) as db:
        cursor = db.execute(query.encode(), bindings or None)
        return cursor.fetchall() if cursor.description else []


class Fleet:
    """Servers over one database. They share a folder too, so that each finds the schemas that another has compiled."""

    def __init__(self, folder: Path, url: str, routes: str = "", **settings: object) -> None:
        """routes: the configuration file. settings: of all servers."""
        folder.mkdir(parents=True, exist_ok=True)
        self.url = url
        self._folder = folder
        self._config = folder / "interlock.toml"
        self._config.write_text(routes)
        self._settings = {"store": url, "config": self._config, **settings}
        self.servers: dict[str, Server] = {}

    def configure(self, routes: str) -> None:
        """Another configuration, for servers that start from now on."""
        self._config.write_text(routes)

    def server(self, name: str, **settings: object) -> Server:
        """A server, to be started; by its name the one that was made before."""
        if name not in self.servers:
            given = {key: str(value) for key, value in {**self._settings, **settings}.items()}
            made = Server(self._folder / "data", **given)
            made.errors = self._folder / f"{name}.stderr"
            self.servers[name] = made
        return self.servers[name]

    def start(self, *names: str, **settings: object) -> list[Server]:
        """Start those of these servers that do not run, all at once; all of them."""
        made = [self.server(name, **settings) for name in names]
        dead = [server for server in made if server.process is None]
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(Server.start, dead))
        return made

    def add_client(self, name: str, *scopes: str) -> Client:
        """A client, made by the command line."""
        return self.server("command").add_client(name, *scopes)

    def rows(self, query: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """What a statement gives."""
        return rows(self.url, query, *bindings)

    def logs(self) -> str:
        """All that the servers said."""
        return "".join(path.read_text() for path in sorted(self._folder.glob("*.stderr")))

    def end(self) -> None:
        """Kill them."""
        for server in self.servers.values():
            server.kill()


@contextmanager
def fleet(folder: Path, url: str, routes: str = "", **settings: object) -> Iterator[Fleet]:
    """Servers that are dead at the end, and to whom nothing happened that they did not expect."""
    made = Fleet(folder, url, routes, **settings)
    try:
        yield made
    finally:
        made.end()
    logs = made.logs()
    assert "Traceback" not in logs, logs[-8000:]


def metric(server: Server, name: str) -> float:
    """The sum of a metric over its labels, as a server on this machine tells it."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=20) as response:  # noqa: S310 - http, ours
        text = response.read().decode()
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    assert found, f"no metric {name} in:\n{text}"
    return sum(map(float, found))


# -- callers ----------------------------------------------------------------------------------------------------------


@dataclass
class Told:
    """What callers were told, over all of them."""

    #: By status, `code` of a refusal, or "gone".
    counts: Counter[str] = field(default_factory=Counter)
    #: Seconds that each answer took, and its status; without the ones that never came.
    times: list[tuple[float, int]] = field(default_factory=list)

    def slowest(self, *statuses: int) -> float:
        """Of answers with these statuses; of all by default."""
        return max((took for took, status in self.times if not statuses or status in statuses), default=0.0)


class Patient(Wire):
    """A caller of whichever server takes its call: what was refused for now, or not answered, it sends again."""

    def __init__(self, servers: Sequence[Server], token: str = "", told: Told | None = None, turn: int = 0) -> None:
        """turn: with which of them it begins."""
        super().__init__(("", 0), token)
        self._servers = servers
        self._turn = turn
        self.told = told or Told()
        self._wire = Wire(("", 0))
        self._url = ""

    def twin(self) -> "Patient":
        """Another caller in the same name, who begins with another server."""
        return Patient(self._servers, self.token, self.told, self._turn + 1)

    async def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """One call, until somebody answers it for good."""
        limit = time.monotonic() + PATIENCE_SECONDS
        while True:
            began = time.monotonic()
            assert began < limit, f"{method} {path}: nobody took it for {PATIENCE_SECONDS:.0f} s: {self.told.counts}"
            try:
                reply = await self._one_of_them().call(method, path, body, **headers)
            except Gone:
                self.told.counts["gone"] += 1
                self._turn += 1
                await asyncio.sleep(0.02)
                continue
            self.told.times.append((time.monotonic() - began, reply.status))
            if reply.status != 503:
                self.told.counts[str(reply.status)] += 1
                return reply
            self.told.counts[_code(reply)] += 1
            assert int(reply.headers["retry-after"]) >= 1, reply
            self._turn += 1
            await asyncio.sleep(0.1)  # less than it is told, for the test's sake

    def _one_of_them(self) -> Wire:
        server = self._servers[self._turn % len(self._servers)]
        if server.url != self._url:
            self._wire.close()
            self._url = server.url
            self._wire = Wire(server.address)
        self._wire.token = self.token
        return self._wire

    def close(self) -> None:
        """Hang up."""
        self._wire.close()


def _code(reply: Reply) -> str:
    """The `code` of a problem; on the reference surface, which has none, the status."""
    try:
        return str(reply.json["code"])
    except (ValueError, KeyError):
        return str(reply.status)


class Loaded:
    """Callers who send one message after the other, each with a key of its own, for as long as it is entered."""

    def __init__(self, client: Client, servers: Sequence[Server], log: Log, told: Told, callers: int = 8) -> None:
        self._client = client
        self._servers = servers
        self._log = log
        self._told = told
        self._callers = callers
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self.acked = 0

    async def __aenter__(self) -> Self:
        """Begin."""
        token = await token_of(self._client, self._servers)
        self._tasks = [asyncio.create_task(self._send(turn, token)) for turn in range(self._callers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Each gets its last answer."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def _send(self, turn: int, token: str) -> None:
        async with Patient(self._servers, token, self._told, turn) as way:
            while not self._stopping.is_set():
                content, key = pacs008(Transfer(uetr=fresh_uetr())), fresh()
                self._log.write("sent", client=self._client.id, sha=sha(content), key=key)
                reply = await way.call("POST", "/v1/messages", content, idempotency_key=key)
                assert reply.status == 200, reply
                shown = reply.json
                # Sent again because nobody answered, it is never taken for a double of itself.
                assert shown["status"] == "ACSC", shown
                told = {"client": self._client.id, "id": shown["transaction_id"]}
                self._log.write("acked", sha=sha(content), key=key, **told)
                self._log.write("end", id=shown["transaction_id"], status="ACSC")
                self.acked += 1
                await asyncio.sleep(0.01)


class Callers:
    """Connections for a scenario, which are closed with it."""

    def __init__(self) -> None:
        self._wires: list[Wire] = []

    def to(self, server: Server, token: str = "") -> Wire:
        """A connection with a token."""
        self._wires.append(Wire(server.address, token))
        return self._wires[-1]

    async def of(self, client: Client, *servers: Server) -> list[Wire]:
        """A connection to each, in the client's name, all with one token, which the first that answers gives."""
        token = await token_of(client, servers)
        return [self.to(server, token) for server in servers]

    async def one(self, client: Client, server: Server) -> Wire:
        """A connection to one."""
        return (await self.of(client, server))[0]

    def close(self) -> None:
        """Hang up everywhere."""
        for wire in self._wires:
            wire.close()


def play(scenario: Callable[[Callers], Awaitable[_T]]) -> _T:
    """Run a scenario with connections of its own."""

    async def whole() -> _T:
        callers = Callers()
        try:
            return await scenario(callers)
        finally:
            callers.close()

    return asyncio.run(whole())


async def token_of(client: Client, servers: Sequence[Server]) -> str:
    """A fresh token, from whoever gives one."""
    reply: Reply | None = None
    for attempt in range(100):
        try:
            reply = await client.login(servers[attempt % len(servers)])
        except Gone:
            await asyncio.sleep(0.1)
            continue
        if reply.status != 503:
            break
        await asyncio.sleep(0.1)
    assert reply is not None, "nobody answers"
    assert reply.status == 200, reply
    return str(reply.json["access_token"])


async def until(condition: Any, seconds: float = 20.0, what: str = "it did not come to pass") -> float:
    """Wait until a condition holds, which may be a coroutine function; the seconds that it took."""
    began = time.monotonic()
    while True:
        holds = condition()
        if asyncio.iscoroutine(holds):
            holds = await holds
        if holds:
            return time.monotonic() - began
        assert time.monotonic() - began < seconds, f"{what} within {seconds} s"
        await asyncio.sleep(0.02)


def problem(reply: Reply, status: int, *codes: str) -> Mapping[str, Any]:
    """A refusal of one of these kinds."""
    told: Mapping[str, Any] = reply.json
    assert reply.status == status, reply
    assert told["code"] in codes, reply
    return told
