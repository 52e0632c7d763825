"""Kills `interlock serve` at random moments under load, and holds it to what it has acknowledged.

    python -m tests.acceptance.torture --rounds 300

Knows Interlock by its commands, its HTTP faces and its tables only. What was sent and what was acknowledged goes into a
log of our own, synced line by line; `Audit` compares that log with the tables, read by plain SQL, whichever store they
are in. `postgres_torture` does worse to several servers over one PostgreSQL.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg
import psycopg.rows
import zstandard

from tests.acceptance.commands import printed
from tests.messages import Transfer, fresh_uetr, pacs008

FINAL = {"ACSC", "RJCT", "CANC"}
_ROUTES = """
[routes.held]
clients = ["{held}"]
decision = "consumer"
decide_within_seconds = 2.0
[routes.default]
sla_seconds = 2.0
"""


class Gone(Exception):
    """The connection broke before the answer was whole: nobody can say what became of the call."""


# -- the server -------------------------------------------------------------------------------------------------------


class Server:
    """`interlock serve` over a folder, as many times as it takes."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """environment: settings, as INTERLOCK_* without the prefix."""
        self.folder = folder
        ours = {f"INTERLOCK_{name.upper()}": value for name, value in environment.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        self.environment = {**inherited, "INTERLOCK_DATA": str(folder), "INTERLOCK_PORT": "0", **ours}
        self.errors = folder.with_name(folder.name + ".stderr")
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run one of its other commands."""
        whole = [sys.executable, "-m", "interlock.cli", *arguments]
        return subprocess.run(whole, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def add_client(self, name: str, *scopes: str) -> "Client":
        """Register a client."""
        options = [part for scope in scopes for part in ("--scope", scope)]
        told = printed(self.environment, "clients", "add", name, *options)
        return Client(told["client_id"], told["client_secret"])

    def spawn(self) -> "subprocess.Popen[str]":
        """Begin to start it."""
        assert self.process is None
        # As most systems have it: 1,024 open files, which a process may raise for itself.
        command = 'ulimit -S -n 1024; exec "$0" -m interlock.cli serve --json'
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", command, sys.executable],
                env=self.environment, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        return self.process

    def start(self, seconds: float = 30) -> Self:
        """Start it, until it says where it listens."""
        process = self.spawn()
        assert process.stdout is not None
        watch = threading.Timer(seconds, process.kill)
        watch.start()
        line = process.stdout.readline()
        watch.cancel()
        if not line:
            code = process.wait()
            self.process = None
            raise AssertionError(f"it did not start ({code}): {self.errors.read_text()[-3000:]}")
        self.url = json.loads(line)["url"]
        return self

    def kill(self) -> None:
        """`kill -9`, and wait until it is dead."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Ask it to stop in order; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        parts = urllib.parse.urlsplit(self.url)
        return parts.hostname or "", parts.port or 0


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Server]:
    """A server that is dead at the end, whatever happens."""
    server = Server(folder, **environment)
    try:
        yield server
    finally:
        server.kill()


# -- HTTP -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Wire:
    """One connection, kept alive; plain HTTP/1.1."""

    def __init__(self, address: tuple[str, int], token: str = "") -> None:
        self._address = address
        self.token = token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """One call; raises Gone."""
        named = {"host": "localhost", "content-length": str(len(body)), "content-type": "application/xml"}
        if self.token:
            named["authorization"] = f"Bearer {self.token}"
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._address)
            reader, writer = self._streams
            writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            return await asyncio.wait_for(self._reply(reader), 30)
        except (OSError, EOFError, asyncio.LimitOverrunError) as exc:
            self.close()
            raise Gone(str(exc)) from exc

    async def _reply(self, reader: asyncio.StreamReader) -> Reply:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Reply(int(first.split()[1]), headers, body)

    def twin(self) -> "Wire":
        """Another connection of the same caller."""
        return Wire(self._address, self.token)

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def __aenter__(self) -> Self:
        """Nothing is opened before the first call."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up."""
        self.close()


@dataclass(frozen=True)
class Client:
    """Who calls."""

    id: str
    secret: str

    async def login(self, server: Server) -> Reply:
        """What the server says to this client's secret; raises Gone."""
        basic = base64.b64encode(f"{self.id}:{self.secret}".encode()).decode()
        form = b"grant_type=client_credentials"
        headers = {"authorization": f"Basic {basic}", "content_type": "application/x-www-form-urlencoded"}
        async with Wire(server.address) as wire:
            return await wire.call("POST", "/oauth2/token", form, **headers)

    async def wire(self, server: Server) -> Wire:
        """A connection with a fresh token."""
        reply = await self.login(server)
        assert reply.status == 200, reply
        return Wire(server.address, reply.json["access_token"])


# -- our own log ------------------------------------------------------------------------------------------------------


def sha(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


class Log:
    """What we sent and what we were told, on disk before we go on."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.entries: list[dict[str, Any]] = []

    def write(self, what: str, **particulars: Any) -> None:
        """One line, synced."""
        entry = {"what": what, **particulars}
        os.write(self._handle, json.dumps(entry).encode() + b"\n")
        os.fsync(self._handle)
        self.entries.append(entry)

    def of(self, what: str) -> list[dict[str, Any]]:
        """All entries of one kind."""
        return [entry for entry in self.entries if entry["what"] == what]

    def close(self) -> None:
        """No more is written."""
        os.close(self._handle)


# -- load -------------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Clients of every kind, until the server dies under them."""

    server: Server
    plain: Client
    held: Client
    log: Log
    luck: random.Random
    #: Calls whose outcome nobody knows, to be repeated once the server is back: (client, call, body, headers).
    unknown: list[tuple[Client, str, bytes, dict[str, str]]] = field(default_factory=list)
    #: UETRs of payments that were sent, to be sent again as doubles.
    uetrs: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    async def run(self, seconds: float, workers: int = 12) -> None:
        """Load the server, kill it in the middle, and wait until all have noticed."""
        kinds = [self._one_call, self._three_calls, self._decide, self._abandon]
        tasks = [asyncio.create_task(self._forever(kinds[n % len(kinds)])) for n in range(workers)]
        await asyncio.sleep(seconds)
        # The moment is a thread's, so that it falls anywhere in what the server and our loop do.
        await asyncio.to_thread(self.server.kill)
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, Gone):
                raise outcome

    async def _forever(self, kind: Any) -> None:
        client = self.held if kind == self._decide else self.plain
        async with await self.connect(client) as wire:
            while True:
                await kind(wire)

    async def connect(self, client: Client) -> Wire:
        """A connection in a client's name."""
        return await client.wire(self.server)

    def _message(self) -> bytes:
        """Good, double or bad, as luck will have it."""
        if self.uetrs and self.luck.random() < 0.15:
            transfers = [Transfer(uetr=self.luck.choice(self.uetrs)), Transfer()][: self.luck.randint(1, 2)]
        else:
            transfers = [Transfer(uetr=fresh_uetr()) for _ in range(self.luck.choice((1, 1, 1, 3)))]
            self.uetrs += [transfer.uetr for transfer in transfers if transfer.uetr is not None]
        return pacs008(*transfers, count=9 if self.luck.random() < 0.1 else None)

    async def _one_call(self, wire: Wire) -> None:
        await self.submit(wire, self.plain, self._message(), str(self.luck.random()))

    async def submit(self, wire: Wire, client: Client, content: bytes, key: str) -> dict[str, Any]:
        """`POST /v1/messages`, logged before and after; the transaction."""
        self.log.write("sent", client=client.id, sha=sha(content), key=key)
        try:
            reply = await wire.call("POST", "/v1/messages", content, idempotency_key=key)
        except Gone:
            self.unknown.append((client, "/v1/messages", content, {"idempotency_key": key}))
            raise
        assert reply.status in (200, 202), reply
        transaction: dict[str, Any] = reply.json
        self.log.write("acked", client=client.id, id=transaction["transaction_id"], sha=sha(content), key=key)
        self._told(transaction)
        self.counts["acked"] += 1
        if transaction["final"] and self.luck.random() < 0.5:
            await self.collect(wire, transaction["transaction_id"])
        return transaction

    async def _three_calls(self, wire: Wire) -> None:
        reply = await wire.call("GET", "/uuid")
        assert reply.status == 200, reply
        id_ = reply.json["transaction_id"]
        self.log.write("issued", client=self.plain.id, id=id_)
        self.counts["issued"] += 1
        content = self._message()
        self.log.write("sent", client=self.plain.id, sha=sha(content), id=id_)
        try:
            reply = await wire.call("POST", "/inbox", content, x_transaction_id=id_)
        except Gone:
            self.unknown.append((self.plain, "/inbox", content, {"x_transaction_id": id_}))
            raise
        if _came_too_late(reply):
            return
        assert reply.status == 200, reply
        self.log.write("acked", client=self.plain.id, id=id_, sha=sha(content), key=None)
        self.counts["acked"] += 1
        reply = await wire.call("POST", "/outbox", x_transaction_id=id_)
        assert reply.status == 200, reply
        self.log.write("answer", id=id_, sha=sha(reply.body))

    async def _abandon(self, wire: Wire) -> None:
        """An id whose message never comes."""
        reply = await wire.call("GET", "/uuid")
        assert reply.status == 200, reply
        self.log.write("issued", client=self.plain.id, id=reply.json["transaction_id"])
        self.counts["issued"] += 1
        await asyncio.sleep(0.02)

    async def _decide(self, wire: Wire) -> None:
        """A held message, decided by several at once or by nobody; what was cancelled may be driven again."""
        transaction = await self.submit(wire, self.held, self._message(), str(self.luck.random()))
        id_ = transaction["transaction_id"]
        if transaction["final"] or self.luck.random() < 0.2:
            return
        rivals = [wire.twin() for _ in range(self.luck.choice((0, 0, 2)))]
        decisions = self.luck.sample(("accept", "reject", "cancel"), 1 + len(rivals))
        calls = [self._say(way, id_, what) for way, what in zip((wire, *rivals), decisions, strict=True)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for rival in rivals:
            rival.close()
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _say(self, wire: Wire, id_: str, what: str) -> None:
        body: dict[str, str] = {"decision": what} | ({"reason": "AC04"} if what == "reject" else {})
        path = f"/v1/transactions/{id_}/decisions"
        reply = await wire.call("POST", path, json.dumps(body).encode(), content_type="application/json")
        assert reply.status in (200, 409), reply
        if reply.status != 200:
            return
        self._told(reply.json)
        self.counts["decided"] += 1
        if what == "cancel" and self.luck.random() < 0.5:
            reply = await wire.call("POST", path, b'{"decision":"redrive"}', content_type="application/json")
            assert reply.status in (200, 201, 202, 409), reply
            if reply.status != 409:
                self.log.write("redriven", of=id_, id=reply.json["transaction_id"])
                self._told(reply.json)
                self.counts["redriven"] += 1

    def _told(self, transaction: Mapping[str, Any]) -> None:
        """An end that we were told stands for ever."""
        if transaction["final"]:
            self.log.write("end", id=transaction["transaction_id"], status=transaction["status"])

    async def collect(self, wire: Wire, id_: str) -> None:
        """Read the answer, and note what it is."""
        reply = await wire.call("GET", f"/v1/transactions/{id_}/messages/outbox")
        assert reply.status == 200, reply
        self.log.write("answer", id=id_, sha=sha(reply.body))

    # -- after the restart --

    async def repeat(self) -> None:
        """Send again, as a client would, what was never answered: each is taken, and none is taken for a double."""
        unknown, self.unknown = self.unknown, []
        for client, path, content, headers in unknown:
            async with await self.connect(client) as wire:
                reply = await wire.call("POST", path, content, **headers)
            if path == "/inbox" and _came_too_late(reply):
                continue  # it never arrived, and its id has run out since
            assert reply.status in (200, 202), (path, reply)
            told = reply.json
            if path == "/v1/messages":
                assert told["reason"] != "DU01", f"its own first copy made it a double: {told}"
                self._told(told)
            id_ = told["transaction_id"]
            key = headers.get("idempotency_key")
            self.log.write("acked", client=client.id, id=id_, sha=sha(content), key=key)
            self.counts["repeated"] += 1

    async def verify(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """By HTTP, as its clients see it: what was acknowledged is there, what was told is still so."""
        owners = {entry["id"]: entry["client"] for entry in self.log.entries if "id" in entry and "client" in entry}
        async with await self.connect(self.plain) as plain, await self.connect(self.held) as held:
            await self._verify(entries, owners, {self.plain.id: plain, self.held.id: held})

    async def _verify(
        self, entries: Sequence[Mapping[str, Any]], owners: dict[str, str], wires: Mapping[str, Wire]
    ) -> None:
        for entry in entries:
            id_ = str(entry.get("id", ""))
            if entry["what"] == "redriven":
                owners[id_] = self.held.id
            if id_ not in owners or entry["what"] == "sent":
                continue
            wire = wires[owners[id_]]
            match entry["what"]:
                case "acked":
                    reply = await wire.call("GET", f"/v1/transactions/{id_}/messages/inbox")
                    assert (reply.status, sha(reply.body)) == (200, entry["sha"]), f"{id_}: {reply}"
                case "answer":
                    reply = await wire.call("GET", f"/v1/transactions/{id_}/messages/outbox")
                    assert (reply.status, sha(reply.body)) == (200, entry["sha"]), f"{id_}: {reply}"
                case "end":
                    reply = await wire.call("GET", f"/v1/transactions/{id_}")
                    assert (reply.status, reply.json["status"]) == (200, entry["status"]), f"{id_}: {reply}"
                case _:
                    reply = await wire.call("GET", f"/v1/transactions/{id_}")
                    assert reply.status == 200, f"{id_}: {reply}"


def _came_too_late(reply: Reply) -> bool:
    """Whether an id had run out before its message came."""
    return reply.status == 400 and b"before a message came" in reply.body


# -- the audit --------------------------------------------------------------------------------------------------------


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    """The file, read-only, by the standard library."""
    with closing(sqlite3.connect(f"file:{urllib.parse.quote(str(file))}?mode=ro", uri=True, timeout=10)) as db:
        db.row_factory = sqlite3.Row
        yield db


#: Where a server keeps its tables: an SQLite file, or the URL of a database.
Where = Path | str


def in_flight(where: Where) -> int:
    """Transactions without an end."""
    query = 'SELECT count(*) FROM transactions WHERE "end" IS NULL'
    if isinstance(where, Path):
        with opened(where) as db:
            return int(db.execute(query).fetchone()[0])
    with psycopg.connect(where) as connection:
        rows = connection.execute(query).fetchall()
        return int(rows[0][0])


def until_all_ended(where: Where, seconds: float = 20) -> None:
    """Wait until the clocks have ended everything; fails where something stays."""
    limit = time.monotonic() + seconds
    while (left := in_flight(where)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert left == 0, f"{left} transactions have no end though their clocks ran out"


Row = Mapping[str, Any]
_NO_HASH = bytes(32)


@dataclass(frozen=True)
class Chain:
    """The events that one journal has written, as they are linked, and where it says that they end."""

    name: str
    #: Number, content, hash of the one before, hash.
    links: Sequence[tuple[int, bytes, bytes, bytes]]
    head: tuple[int, bytes]


@dataclass(frozen=True)
class Books:
    """All that a store holds, the same for every store; ids as text."""

    #: What the store itself says is wrong with it.
    damage: Sequence[str]
    chains: Sequence[Chain]
    transactions: Mapping[str, Row]
    #: Contents, oldest first, by transaction.
    events: Mapping[str, Sequence[bytes]]
    #: Digest and compressed content, by transaction and kind: 0 inbox, 1 outbox.
    bodies: Mapping[tuple[str, int], tuple[bytes, bytes]]
    #: With `tx`.
    payments: Sequence[Row]


def books_of(where: Where) -> Books:
    """Read everything."""
    return _books_of_file(where) if isinstance(where, Path) else _books_of_database(where)


def _books_of_file(file: Path) -> Books:
    with opened(file) as db:
        sound = db.execute("PRAGMA integrity_check").fetchone()[0]
        links = db.execute("SELECT chain_seq, content, previous, hash FROM events ORDER BY chain_seq").fetchall()
        head = db.execute("SELECT chain_seq, chain_hash FROM writer").fetchone()
        rows = {row["row"]: dict(row) for row in db.execute("SELECT * FROM transactions")}
        names = {number: _uuid(row["id"]) for number, row in rows.items()}
        events: dict[str, list[bytes]] = {}
        for number, content in db.execute("SELECT tx, content FROM events ORDER BY tx, seq"):
            events.setdefault(names.get(number, str(number)), []).append(bytes(content))
        bodies = {}
        for number, digest, content in db.execute("SELECT row, digest, content FROM bodies"):
            bodies[names.get(number // 2, str(number)), number % 2] = (digest, content)
        payments = [
            dict(row) | {"tx": names.get(row["tx"], str(row["tx"]))} for row in db.execute("SELECT * FROM payments")
        ]
    for row in rows.values():
        row["redrive_of"] = row["redrive_of"] and _uuid(row["redrive_of"])
    transactions = {names[number]: row for number, row in rows.items()}
    chain = Chain("the chain", [tuple(link) for link in links], tuple(head))
    return Books([] if sound == "ok" else [str(sound)], [chain], transactions, events, bodies, payments)


def _books_of_database(url: str) -> Books:
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as db:
        db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        rows = {str(row["id"]): row for row in db.execute("SELECT * FROM transactions")}
        events: dict[str, list[bytes]] = {}
        links: dict[tuple[int, int], list[tuple[int, bytes, bytes, bytes]]] = {}
        for row in db.execute("SELECT * FROM events ORDER BY tx, seq, writer"):
            events.setdefault(str(row["tx"]), []).append(row["content"])
        for row in db.execute("SELECT * FROM events ORDER BY writer, journal, chain_seq"):
            link = (row["chain_seq"], row["content"], row["previous"], row["hash"])
            links.setdefault((row["writer"], row["journal"]), []).append(link)
        chains = [
            Chain(
                f"journal {row['writer']}.{row['journal']}",
                links.pop((row["writer"], row["journal"]), []),
                (row["chain_seq"], row["chain_hash"]),
            )
            for row in db.execute("SELECT * FROM journals")
        ]
        damage = [f"events of a journal that is not there: {name}" for name in links]
        bodies = {
            (str(row["tx"]), row["kind"]): (row["digest"], row["content"]) for row in db.execute("SELECT * FROM bodies")
        }
        payments = [row | {"tx": str(row["tx"])} for row in db.execute("SELECT * FROM payments")]
    for transaction in rows.values():
        transaction["redrive_of"] = transaction["redrive_of"] and str(transaction["redrive_of"])
    return Books(damage, chains, rows, events, bodies, payments)


class Audit:
    """The tables against our log; `faults` is empty where every promise was kept."""

    def __init__(self, where: Where, log: Sequence[Mapping[str, Any]] = ()) -> None:
        self.faults: list[str] = []
        self._log = log
        self._books = books_of(where)
        self.faults += self._books.damage
        for chain in self._books.chains:
            self._check_chain(chain)
        for name, row in self._books.transactions.items():
            self._check_transaction(name, row)
        self._check_payments()
        self._check_families()
        self._check_log()

    def _require(self, holds: object, text: str) -> None:
        if not holds:
            self.faults.append(text)

    def _check_chain(self, chain: Chain) -> None:
        """Each hash is SHA-256 of the one before and the content; the head is the last one."""
        previous, number = _NO_HASH, 0
        for seq, content, before, digest in chain.links:
            number += 1
            whole = (seq, before, digest) == (number, previous, hashlib.sha256(before + content).digest())
            self._require(whole, f"{chain.name} is broken at {seq}")
            previous = digest
        self._require(tuple(chain.head) == (number, previous), f"{chain.name} does not end at its head")

    def _check_transaction(self, name: str, row: Row) -> None:
        """One end, reached by the last event that moves; one answer where one is due."""
        events = [json.loads(content) for content in self._books.events.get(name, ())]
        numbers = [event["seq"] for event in events]
        self._require(numbers == list(range(1, row["version"] + 1)), f"{name}: its history has gaps: {numbers}")
        self._require(all(event["tx"] == name.replace("-", "") for event in events), f"{name}: another's event")
        ends = [event for event in events if event["kind"] == "Ended"]
        self._require(len(ends) == 1, f"{name}: {len(ends)} ends")
        last = events[-1] if events else {}
        shown = (row["state"], row["status"], row["end"])
        self._require((last.get("state"), last.get("status"), last.get("end")) == shown, f"{name}: no fold: {shown}")
        self._require(row["status"] == row["end"] and row["end"] in FINAL, f"{name}: not ended: {shown}")
        after = [event for event in events if event["seq"] > ends[0]["seq"]] if ends else []
        stays = all(event["end"] == row["end"] and event["state"] == "end" for event in after)
        self._require(stays, f"{name}: moved after its end")
        bodies = [body for kind in (0, 1) if (body := self._books.bodies.get((name, kind))) is not None]
        answered = (name, 1) in self._books.bodies
        self._require(answered == bool(row["answer_due"]), f"{name}: answer due and answer differ")
        for digest, content in bodies:
            whole = zstandard.ZstdDecompressor().decompress(content)
            self._require(hashlib.sha256(whole).digest() == digest, f"{name}: a body is not its digest")
        self._require(row["due_at"] is None, f"{name}: ended, but a clock runs")

    def _check_payments(self) -> None:
        """Each has an end that fits its transaction's; no UETR settles twice."""
        settled: Counter[tuple[str, str]] = Counter()
        for payment in self._books.payments:
            transaction = self._books.transactions.get(payment["tx"])
            if transaction is None:
                self._require(False, f"a payment of no transaction: {payment['tx']}")
                continue
            status, end = payment["status"], transaction["end"]
            self._require(status in FINAL, f"{payment['tx']}: a payment has no end")
            fits = status in ("RJCT", end)
            self._require(fits, f"{payment['tx']}: payment and transaction disagree: {status}, {end}")
            if status == "ACSC" and payment["uetr"] is not None:
                settled[transaction["client"], payment["uetr"]] += 1
        for (client, uetr), times in settled.items():
            self._require(times == 1, f"settled {times} times: {uetr} of {client}")

    def _check_families(self) -> None:
        """No message is taken twice; one attempt is driven again once."""
        taken: Counter[tuple[str, str]] = Counter()
        driven: Counter[str] = Counter()
        for row in self._books.transactions.values():
            if row["redrive_of"] is not None:
                driven[row["redrive_of"]] += 1
            elif row["message_id"] is not None and row["reason"] != "DU01" and row["status"] == "ACSC":
                taken[row["client"], row["message_id"]] += 1
        for name, times in (taken + Counter(driven)).items():
            self._require(times == 1, f"{times} times: {name}")

    def _check_log(self) -> None:
        """What we were told is so, and nothing is there that nobody sent."""
        digests = {key: digest.hex() for key, (digest, _) in self._books.bodies.items()}
        by_key: dict[tuple[str, str], set[str]] = {}
        for entry in self._log:
            if entry["what"] == "sent":
                continue
            row = self._books.transactions.get(entry["id"])
            if row is None:
                self._require(False, f"acknowledged and lost: {dict(entry)}")
                continue
            self._check_entry(entry, row, digests)
            if entry.get("key") is not None:
                by_key.setdefault((entry["client"], entry["key"]), set()).add(entry["id"])
        for key, ids in by_key.items():
            self._require(len(ids) == 1, f"one idempotency key, {len(ids)} transactions: {key}")
        sent = {(entry["client"], entry["sha"]) for entry in self._log if entry["what"] == "sent"}
        senders = {client for client, _ in sent}
        for id_, row in self._books.transactions.items():
            known = digests.get((id_, 0))
            strange = known is not None and row["client"] in senders and (row["client"], known) not in sent
            self._require(not strange, f"{id_}: nobody sent this")

    def _check_entry(self, entry: Mapping[str, Any], row: Row, digests: Mapping[tuple[str, int], str]) -> None:
        """One line of the log against one transaction."""
        id_ = entry["id"]
        match entry["what"]:
            case "acked":
                self._require(row["client"] == entry["client"], f"{id_}: another client's")
                self._require(digests.get((id_, 0)) == entry["sha"], f"{id_}: another message")
            case "answer":
                self._require(digests.get((id_, 1)) == entry["sha"], f"{id_}: another answer")
            case "end":
                self._require(row["end"] == entry["status"], f"{id_}: was {entry['status']}, is {row['end']}")


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


# -- rounds -----------------------------------------------------------------------------------------------------------


def torture(folder: Path, rounds: int, seed: int, *, say: Any = None) -> Counter[str]:
    """So many deaths under load, each followed by a look at what is left; then the audit. What was done, counted."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    luck = random.Random(seed)
    config = folder / "interlock.toml"
    config.write_text("")
    log = Log(folder / "client.log")
    with serving(data, config=str(config)) as server:
        plain, held = server.add_client("plain"), server.add_client("held")
        config.write_text(_ROUTES.format(held=held.id))
        load = Load(server, plain, held, log, luck)
        seen = 0
        for number in range(rounds):
            server.start()
            fresh, seen = log.entries[seen:], len(log.entries)
            asyncio.run(_round(load, fresh, luck.uniform(0.05, 0.7)))
            if say is not None:
                say(f"round {number + 1} of {rounds}: {dict(load.counts)}")
        server.start()
        asyncio.run(_round(load, log.entries, None))
        until_all_ended(data / "interlock.db")
        assert server.terminate() == 0
    audit = Audit(data / "interlock.db", log.entries)
    log.close()
    assert audit.faults == [], f"seed {seed}: " + "\n".join(audit.faults[:20])
    return load.counts


async def _round(load: Load, fresh: Sequence[Mapping[str, Any]], seconds: float | None) -> None:
    await load.repeat()
    await load.verify(fresh)
    if seconds is not None:
        await load.run(seconds)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="kill -9 under load, again and again")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="folder to leave behind")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4), "big")

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    say(f"seed {seed}")
    with tempfile.TemporaryDirectory() as scratch, suppress(KeyboardInterrupt):
        counts = torture(given.keep or Path(scratch) / "torture", given.rounds, seed, say=say)
        say(f"torture: {given.rounds} deaths, every promise kept: {dict(counts)}")


if __name__ == "__main__":
    main()
