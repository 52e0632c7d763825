"""The load generator: a process of its own, so that its work is not counted as the server's. Linux.

Reads a `Plan` as JSON from stdin, does it, writes a `Measured` as JSON to stdout. Each caller is one keep-alive
connection that does one transaction after the other; no tasks and no futures, for the generator shares the machine.

Closed loop: each caller begins again as soon as it is done, so the server sets the pace. Open loop: transactions begin
when chance says (Poisson), whether or not the server keeps up; they wait for a free connection if they must, and their
time counts from the moment at which they should have begun.
"""

import asyncio
import base64
import gc
import http.client
import math
import os
import random
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle
from typing import Any, NoReturn, cast

import msgspec
import uvloop

from bench import usage
from bench.message import Identity, Messages, identities
from bench.usage import Cpu, Log, Snapshot, Watched

#: The longest that a transaction may take before the run is given up.
_PATIENCE_SECONDS = 60.0
#: How soon an answer is asked for again while there is none.
_POLL_SECONDS = 0.002
#: How soon a caller begins again after a failure, so that a refusing server is not hammered.
_PAUSE_SECONDS = 0.05
#: Failures that are told in words; the rest are counted.
_TOLD_MAX = 5
#: Identities made before the clock starts; more are made as they are needed, at 2 us each.
_PREPARED_MAX = 60_000


class Plan(msgspec.Struct, kw_only=True, frozen=True):
    """What to do."""

    host: str
    #: One for each process of the server; connections are spread over them evenly.
    ports: list[int]
    client_id: str
    client_secret: str
    #: The server's processes, whose CPU time and memory are read.
    pids: list[int]
    #: PostgreSQL's first process, whose family's CPU time is read, and a superuser's URL for its statistics.
    postmaster: int | None = None
    statistics: str | None = None
    #: Processes that take part besides, by what they are, whose CPU time is read too.
    beside: dict[str, Watched] = {}
    #: `reference` (/uuid, /inbox, /outbox), `v1` (POST /v1/messages, and waits for the answer) or `acknowledged` (the
    #: same call, which waits for nothing).
    face: str
    #: What each call asks for by X-Consistency; None: as the route says.
    consistency: str | None = None
    #: Whether the ids of what was acknowledged are wanted.
    keep: bool = False
    #: Connections.
    callers: int
    warmup_seconds: float
    #: Length of the measurement; with `transactions` its longest.
    seconds: float
    #: The measurement ends once so many are done.
    transactions: int | None = None
    #: Open loop: transactions begun a second on average.
    rate: float | None = None
    seed: int = 1
    #: Every so often memory is sampled; 0: only at the end.
    sample_seconds: float = 0


class Spread(msgspec.Struct, kw_only=True, frozen=True):
    """Percentiles of durations, in milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float


class Busy(msgspec.Struct, kw_only=True, frozen=True):
    """What was busy for which share of the time; the first that comes near 1 is the limit."""

    #: All cores, whoever used them.
    machine: float
    #: The busiest process of the server (Python runs on one core at a time), and of it the event loop's thread.
    server: float
    loop: float
    #: All of PostgreSQL, in cores, and its busiest process.
    postgres: float = 0
    backend: float = 0
    #: Forcing PostgreSQL's log to the disk.
    sync: float = 0

    @property
    def limit(self) -> str:
        """In words: what was used up, or that nothing was."""
        shares = {
            "server process": self.server,
            "PostgreSQL process": self.backend,
            "disk": self.sync,
            "all cores": self.machine,
        }
        name, most = max(shares.items(), key=lambda item: item[1])
        return f"{name} {most:.0%}" if most >= _USED_UP else f"turns ({name} {most:.0%})"


#: Share of the time from which something counts as used up; below it callers wait for each other's commits.
_USED_UP = 0.8


class Measured(msgspec.Struct, kw_only=True, frozen=True):
    """What was seen between the end of the warm-up and the end."""

    face: str
    #: Of the server.
    processes: int = 1
    callers: int
    #: Transactions begun a second, in an open loop.
    rate: float | None
    seconds: float
    transactions: int
    per_second: float
    failures: int
    #: The first few, in words.
    failed: list[str]
    #: /outbox calls that found no answer yet.
    misses: int
    #: From /inbox (or the one call) sent to the answer, or the acknowledgement, read.
    answer_ms: Spread
    #: The whole transaction, from when it should have begun.
    whole_ms: Spread
    #: Open loop: from when it should have begun to when it was. Much of it: the server, or we, did not keep up.
    late_ms: Spread | None
    #: CPU microseconds a transaction, of all threads of the server's processes.
    server_user_us: float
    server_system_us: float
    generator_user_us: float
    generator_system_us: float
    #: Of PostgreSQL's processes.
    postgres_user_us: float = 0
    postgres_system_us: float = 0
    #: Of the processes that take part besides, user and system together.
    beside_us: dict[str, float] = {}
    #: Share of the machine's CPU time that went to none of these; much of it: another's work disturbed this one.
    others_share: float
    busy: Busy | None = None
    #: PostgreSQL's, a transaction; and the milliseconds that a sync of its log took.
    commits: float = 0
    log_bytes: float = 0
    sync_ms: float = 0
    #: Transactions done when, and the server's resident memory then, in MB.
    memory: list[tuple[int, float]]
    #: Ids of what was acknowledged, where they are wanted; the warm-up's too.
    acknowledged: list[str] = []

    @property
    def server_us(self) -> float:
        return self.server_user_us + self.server_system_us

    @property
    def postgres_us(self) -> float:
        return self.postgres_user_us + self.postgres_system_us

    @property
    def generator_us(self) -> float:
        return self.generator_user_us + self.generator_system_us


def percentile(ordered: "array[float] | list[float]", share: float) -> float:
    """The value that a share of them does not exceed; nearest rank. 0 where there are none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(seconds: "array[float]") -> Spread:
    """Percentiles of durations that were taken in seconds."""
    ordered = sorted(seconds)
    p50, p90, p99, most = (round(percentile(ordered, share) * 1000, 3) for share in (0.5, 0.9, 0.99, 1.0))
    return Spread(p50=p50, p90=p90, p99=p99, max=most)


class _Transaction(msgspec.Struct):
    """The uuid call's answer, as far as it is needed."""

    transaction_id: str


_issued = msgspec.json.Decoder(_Transaction).decode


class Caller(asyncio.Protocol):
    """One connection; does one transaction at a time."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._expect: Callable[[int, bytes], None] | None = None
        self._identity: Identity | None = None
        self._collect = b""
        #: Times of the loop: when it should have begun, when it did, when the message was sent.
        self.intended = self.began = self.sent = 0.0

    # -- the connection --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        busy = self._expect is not None
        self._expect = None
        self._load.lost(self, f"the connection was lost: {exc or 'closed by the server'}" if busy else None)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        at = data.find(b"content-length:", 0, end)
        length = int(data[at + 15 : data.find(b"\r", at)]) if at > 0 else 0
        if end < 0 or len(data) < end + 4 + length:
            self._buffer = data
            return
        self._buffer = b""
        expect, self._expect = self._expect, None
        if expect is None:
            self._load.fail(self, f"unexpected bytes: {data[:80]!r}")
        else:
            expect(int(data[9:12]), data[end + 4 :])

    def _ask(self, request: bytes, expect: Callable[[int, bytes], None]) -> None:
        assert self._transport is not None
        self._expect = expect
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- the transaction --

    def begin(self, intended: float) -> None:
        """Start a transaction that should have begun at `intended`."""
        load = self._load
        self.intended, self.began = intended, load.time()
        self._identity = load.next_identity()
        if load.face == "reference":
            self._ask(load.issue, self._on_issued)
            return
        self.sent = self.began
        expect = self._on_answer if load.face == "v1" else self._on_acknowledged
        self._ask(load.submission(self._identity), expect)

    def _on_issued(self, status: int, body: bytes) -> None:
        assert self._identity is not None
        if status != 200:
            self._load.fail(self, f"/uuid: {status} {body[:200]!r}")
            return
        named = _issued(body).transaction_id.encode()
        self._collect = self._load.collection(named)
        self.sent = self._load.time()
        self._ask(self._load.delivery(named, self._identity), self._on_received)

    def _on_received(self, status: int, body: bytes) -> None:
        if status != 200:
            self._load.fail(self, f"/inbox: {status} {body[:200]!r}")
            return
        self._ask(self._collect, self._on_answer)

    def _on_acknowledged(self, status: int, body: bytes) -> None:
        if status not in (200, 202) or b'"RJCT"' in body or b'"held":"fault"' in body:
            self._load.fail(self, f"acknowledgement: {status} {body[:400]!r}")
            return
        if self._load.acknowledged is not None:
            self._load.acknowledged.append(_issued(body).transaction_id)
        self._load.done(self)

    def _on_answer(self, status: int, body: bytes) -> None:
        assert self._identity is not None
        if status == 400 and b'"MISS"' in body and self._load.time() - self.sent < _PATIENCE_SECONDS:
            self._load.miss(lambda: self._ask(self._collect, self._on_answer))
        elif status != 200 or b">ACSC<" not in body or b"OrgnlMsgId>" + self._identity.message_id not in body:
            self._load.fail(self, f"answer: {status} {body[:400]!r}")
        else:
            self._load.done(self)


class Load:
    """All callers, and what they see."""

    def __init__(self, plan: Plan, token: str) -> None:
        self._plan = plan
        self.face = plan.face
        self._messages = Messages()
        self._loop = asyncio.get_running_loop()
        self.time = time.monotonic  # uvloop tells whole milliseconds, and those of the turn before
        prepared = min(_PREPARED_MAX, int(3_000 * (plan.warmup_seconds + plan.seconds)))
        self._identities: Iterator[Identity] = chain(identities(prepared), _endless())
        self.next_identity = self._identities.__next__
        self._prepare(token)
        self._ports = cycle(plan.ports)
        self._all: set[Caller] = set()
        self._idle: deque[Caller] = deque()
        #: Open loop: transactions that should have begun and wait for a connection.
        self._due: deque[float] = deque()
        self._open = plan.rate is not None
        self._beginning = self._counting = False
        self._from = self._until = 0.0
        self._busy = 0
        self._quiet = asyncio.Event()
        self.over = asyncio.Event()
        self.completed = self.misses = self.failures = 0
        self.failed: list[str] = []
        self.answer, self.whole, self.late = array("d"), array("d"), array("d")
        self.acknowledged: list[str] | None = [] if plan.keep else None

    def _prepare(self, token: str) -> None:
        """Everything of a request that does not change."""
        common = f"Host: {self._plan.host}\r\nAuthorization: Bearer {token}\r\n"
        length = f"Content-Length: {self._messages.length}\r\n"
        self.issue = f"GET /uuid HTTP/1.1\r\n{common}X-Message-Type: pacs.008\r\n\r\n".encode()
        self._inbox = (
            f"POST /inbox HTTP/1.1\r\n{common}Content-Type: application/json\r\n{length}"
            "X-Message-Type: pacs.008\r\nX-Transaction-Id: "
        ).encode()
        self._outbox = f"POST /outbox HTTP/1.1\r\n{common}Content-Length: 0\r\nX-Transaction-Id: ".encode()
        wanted = "Accept: application/xml\r\nPrefer: wait=5\r\n" if self.face == "v1" else ""
        if self._plan.consistency is not None:
            wanted += f"X-Consistency: {self._plan.consistency}\r\n"
        self._submit = (
            f"POST /v1/messages HTTP/1.1\r\n{common}Content-Type: application/xml\r\n{length}{wanted}Idempotency-Key: "
        ).encode()

    def delivery(self, transaction: bytes, identity: Identity) -> bytes:
        return b"%b%b\r\n\r\n%b" % (self._inbox, transaction, self._messages.make(identity))

    def collection(self, transaction: bytes) -> bytes:
        return b"%b%b\r\n\r\n" % (self._outbox, transaction)

    def submission(self, identity: Identity) -> bytes:
        return b"%b%b\r\n\r\n%b" % (self._submit, identity.token, self._messages.make(identity))

    # -- what callers tell --

    def free(self, caller: Caller) -> None:
        """It can take a transaction."""
        if self._due:
            self._start(caller, self._due.popleft())
        elif self._beginning and not self._open:
            self._start(caller, self.time())
        else:
            self._idle.append(caller)

    def _start(self, caller: Caller, intended: float) -> None:
        self._busy += 1
        if self._open and self._counts(intended):
            self.late.append(self.time() - intended)
        caller.begin(intended)

    def _counts(self, intended: float) -> bool:
        """Closed: what ends in the measurement counts; open: what should have begun in it."""
        return self._from <= intended < self._until if self._open else self._counting

    def done(self, caller: Caller) -> None:
        now = self.time()
        if self._counting:
            self.completed += 1
            if self.completed == self._plan.transactions:
                self.over.set()
        if self._counts(caller.intended):
            self.answer.append(now - caller.sent)
            self.whole.append(now - caller.intended)
        self._ended()
        self.free(caller)

    def miss(self, again: Callable[[], None]) -> None:
        self.misses += 1
        self._loop.call_later(_POLL_SECONDS, again)

    def fail(self, caller: Caller, why: str) -> None:
        self._note(why)
        self._ended()
        self._loop.call_later(_PAUSE_SECONDS, self.free, caller)

    def lost(self, caller: Caller, why: str | None) -> None:
        """Its connection is gone; another takes its place."""
        self._all.discard(caller)
        if caller in self._idle:
            self._idle.remove(caller)
        if why is not None:
            self._note(why)
            self._ended()
        if self._beginning:
            self._loop.create_task(self._connect())

    def _note(self, why: str) -> None:
        self.failures += 1
        if len(self.failed) < _TOLD_MAX:
            self.failed.append(why)

    def _broken(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A mistake of the generator's own."""
        self._note(f"{context['message']}: {context.get('exception')!r}")

    def _ended(self) -> None:
        self._busy -= 1
        if not self._busy and not self._due:
            self._quiet.set()

    # -- the run --

    async def _connect(self) -> None:
        port = next(self._ports)
        try:
            _, caller = await self._loop.create_connection(lambda: Caller(self), self._plan.host, port)
        except OSError as exc:
            self._note(f"no connection: {exc}")
            return
        self._all.add(caller)

    async def run(self) -> Measured:
        plan = self._plan
        self._loop.set_exception_handler(self._broken)
        self._log()  # what it needs is loaded before anything is measured
        await asyncio.gather(*(self._connect() for _ in range(plan.callers)))
        gc.collect()
        gc.freeze()
        gc.disable()  # nothing here makes cycles
        begun = self.time()
        self._from = begun + plan.warmup_seconds
        self._until = self._from + plan.seconds
        self._beginning = True
        if plan.rate is not None:
            self._arrive(self._arrivals(plan.rate, begun))
        else:
            for _ in range(len(self._idle)):
                self.free(self._idle.popleft())
        await asyncio.sleep(plan.warmup_seconds)
        log = self._log()
        before = usage.snapshot(plan.pids, plan.postmaster, plan.beside)
        started, self._counting = self.time(), True
        memory = await self._wait(started)
        taken, after = self.time() - started, usage.snapshot(plan.pids, plan.postmaster, plan.beside)
        completed, written = self.completed, _Written(log, self._log())
        self._beginning = self._counting = False
        await self._drain()
        for caller in tuple(self._all):
            caller.close()
        return self._measured(_Used(before, after), written, taken, completed, memory)

    def _log(self) -> Log | None:
        """Asked for without leaving the loop: it takes some milliseconds, before and after what is measured."""
        return None if self._plan.statistics is None else usage.log_of(self._plan.statistics)

    def _measured(
        self, used: "_Used", written: "_Written", taken: float, completed: int, memory: list[tuple[int, float]]
    ) -> Measured:
        plan, number = self._plan, max(1, completed)

        def each(cpu: Cpu) -> tuple[float, float]:
            return round(cpu.user * 1e6 / number, 1), round(cpu.system * 1e6 / number, 1)

        server, postgres, own = each(used.server), each(used.postgres), each(used.own)
        return Measured(
            face=plan.face, processes=len(plan.pids), callers=plan.callers, rate=plan.rate, seconds=round(taken, 3),
            transactions=completed, per_second=round(completed / taken, 1), failures=self.failures,
            failed=self.failed, misses=self.misses, answer_ms=spread(self.answer), whole_ms=spread(self.whole),
            late_ms=spread(self.late) if self._open else None,
            server_user_us=server[0], server_system_us=server[1],
            generator_user_us=own[0], generator_system_us=own[1],
            postgres_user_us=postgres[0], postgres_system_us=postgres[1],
            beside_us={name: round(cpu.all * 1e6 / number, 1) for name, cpu in used.beside.items()},
            others_share=used.others(taken), busy=used.busy(taken, written.sync_seconds),
            commits=round(written.commits / number, 4), log_bytes=round(written.bytes / number),
            sync_ms=round(written.sync_seconds * 1000 / max(1, written.syncs), 3), memory=memory,
            acknowledged=self.acknowledged or [],
        )  # fmt: skip

    async def _wait(self, started: float) -> list[tuple[int, float]]:
        """Until the measurement is over; samples memory meanwhile."""
        plan = self._plan
        memory = [(0, usage.memory(plan.pids))]
        while not self.over.is_set() and (left := started + plan.seconds - self.time()) > 0:
            nap = min(left, plan.sample_seconds or left)
            try:
                await asyncio.wait_for(self.over.wait(), nap)
            except TimeoutError:
                memory.append((self.completed, usage.memory(plan.pids)))
        return memory

    async def _drain(self) -> None:
        """What was begun ends; in an open loop what should have begun in the measurement still does."""
        if not self._all or (not self._busy and not self._due):
            return  # nothing is left to be done, or nobody to do it: the server is gone
        self._quiet.clear()
        try:
            await asyncio.wait_for(self._quiet.wait(), _PATIENCE_SECONDS)
        except TimeoutError:
            self._note(f"{self._busy + len(self._due)} transactions did not end within {_PATIENCE_SECONDS:.0f} s")

    # -- open loop --

    def _arrivals(self, rate: float, begun: float) -> Iterator[float]:
        """Times of a Poisson process until the end of the measurement."""
        dice = random.Random(self._plan.seed)
        at = begun
        while (at := at + dice.expovariate(rate)) < self._until:
            yield at

    def _arrive(self, arrivals: Iterator[float]) -> None:
        """Begin what is due, come back for the rest: at each millisecond, for uvloop's timers are no finer."""
        now = self.time()
        for at in arrivals:
            if at > now:
                self._loop.call_later(max(0.001, at - now), self._arrive, chain((at,), arrivals))
                return
            if self._idle:
                self._start(self._idle.popleft(), at)
            else:
                self._due.append(at)


def _endless() -> Iterator[Identity]:
    while True:
        yield from identities(1)


class _Used:
    """What everybody used between two moments."""

    def __init__(self, before: Snapshot, after: Snapshot) -> None:
        self._servers = _differences(before.servers, after.servers)
        self._loops = _differences(before.loops, after.loops)
        self._backends = _differences(before.backends, after.backends)
        self.server = sum(self._servers, Cpu(0, 0))
        self.postgres = after.postgres - before.postgres
        self.own = after.own - before.own
        self.beside = {name: cpu - before.beside[name] for name, cpu in after.beside.items()}
        self._machine = after.machine - before.machine

    def others(self, taken: float) -> float:
        """Share of the machine that went to nobody of ours."""
        ours = self.server.all + self.postgres.all + self.own.all + sum(cpu.all for cpu in self.beside.values())
        return round(max(0.0, self._machine - ours) / (taken * _CORES), 3)

    def busy(self, taken: float, sync_seconds: float) -> Busy:
        return Busy(
            machine=round(min(1, self._machine / (taken * _CORES)), 3),
            server=round(max((cpu.all for cpu in self._servers), default=0) / taken, 3),
            loop=round(max((cpu.all for cpu in self._loops), default=0) / taken, 3),
            postgres=round(self.postgres.all / taken, 3),
            backend=round(max((cpu.all for cpu in self._backends), default=0) / taken, 3),
            sync=round(sync_seconds / taken, 3),
        )


_CORES = os.cpu_count() or 1


def _differences(before: dict[int, Cpu], after: dict[int, Cpu]) -> Sequence[Cpu]:
    """Of each process that is there at the end."""
    return [cpu - before.get(pid, Cpu(0, 0)) for pid, cpu in after.items()]


class _Written:
    """What PostgreSQL wrote to its log between two moments."""

    def __init__(self, before: Log | None, after: Log | None) -> None:
        self.commits = self.bytes = self.syncs = 0
        self.sync_seconds = 0.0
        if before is not None and after is not None:
            self.commits = after.commits - before.commits
            self.bytes = after.bytes - before.bytes
            self.syncs = after.syncs - before.syncs
            self.sync_seconds = after.sync_seconds - before.sync_seconds


def fetch_token(plan: Plan) -> str:
    """A token by client credentials."""
    connection = http.client.HTTPConnection(plan.host, plan.ports[0], timeout=10)
    basic = base64.b64encode(f"{plan.client_id}:{plan.client_secret}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
    form = f"grant_type=client_credentials&client_id={plan.client_id}&scope=rp2/read+rp2/write"
    connection.request("POST", "/oauth2/token", form, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if response.status != 200:
        _give_up(f"no token: {response.status} {content[:200]!r}")
    token: str = msgspec.json.decode(content)["access_token"]
    return token


def _give_up(why: str) -> NoReturn:
    print(f"bench.load: {why}", file=sys.stderr)
    raise SystemExit(1)


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    token = fetch_token(plan)

    async def work() -> Measured:
        return await Load(plan, token).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measured = runner.run(work())
    sys.stdout.buffer.write(msgspec.json.encode(measured))


if __name__ == "__main__":
    main()
