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
import resource
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, cast

import msgspec
import uvloop

from bench.message import Identity, Messages, identities

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
    port: int
    client_id: str
    client_secret: str
    #: The server's process, whose CPU time and memory are read.
    pid: int
    #: `reference` (/uuid, /inbox, /outbox) or `v1` (POST /v1/messages).
    face: str
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


class Measured(msgspec.Struct, kw_only=True, frozen=True):
    """What was seen between the end of the warm-up and the end."""

    face: str
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
    #: From /inbox (or the one call of v1) sent to the answer read.
    answer_ms: Spread
    #: The whole transaction, from when it should have begun.
    whole_ms: Spread
    #: Open loop: from when it should have begun to when it was. Much of it: the server, or we, did not keep up.
    late_ms: Spread | None
    #: CPU microseconds a transaction, of all of the process's threads.
    server_user_us: float
    server_system_us: float
    generator_user_us: float
    generator_system_us: float
    #: Share of the machine's CPU time that went to neither of the two; much of it: another's work disturbed this one.
    others_share: float
    #: Transactions done when, and the server's resident memory then, in MB.
    memory: list[tuple[int, float]]

    @property
    def server_us(self) -> float:
        return self.server_user_us + self.server_system_us

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
        if load.face == "v1":
            self.sent = self.began
            self._ask(load.submission(self._identity), self._on_answer)
        else:
            self._ask(load.issue, self._on_issued)

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

    def _prepare(self, token: str) -> None:
        """Everything of a request that does not change."""
        common = f"Host: {self._plan.host}:{self._plan.port}\r\nAuthorization: Bearer {token}\r\n"
        length = f"Content-Length: {self._messages.length}\r\n"
        self.issue = f"GET /uuid HTTP/1.1\r\n{common}X-Message-Type: pacs.008\r\n\r\n".encode()
        self._inbox = (
            f"POST /inbox HTTP/1.1\r\n{common}Content-Type: application/json\r\n{length}"
            "X-Message-Type: pacs.008\r\nX-Transaction-Id: "
        ).encode()
        self._outbox = f"POST /outbox HTTP/1.1\r\n{common}Content-Length: 0\r\nX-Transaction-Id: ".encode()
        self._submit = (
            f"POST /v1/messages HTTP/1.1\r\n{common}Content-Type: application/xml\r\n{length}"
            "Accept: application/xml\r\nPrefer: wait=5\r\nIdempotency-Key: "
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
        try:
            _, caller = await self._loop.create_connection(lambda: Caller(self), self._plan.host, self._plan.port)
        except OSError as exc:
            self._note(f"no connection: {exc}")
            return
        self._all.add(caller)

    async def run(self) -> Measured:
        plan = self._plan
        self._loop.set_exception_handler(self._broken)
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
        self._counting, before = True, _cpu(plan.pid)
        started = self.time()
        memory = await self._wait(started)
        taken, after = self.time() - started, _cpu(plan.pid)
        completed = self.completed
        used = [late - early for early, late in zip(before, after, strict=True)]
        self._beginning = self._counting = False
        await self._drain()
        for caller in tuple(self._all):
            caller.close()
        each = [round(seconds * 1e6 / max(1, completed), 1) for seconds in used[:4]]
        return Measured(
            face=plan.face, callers=plan.callers, rate=plan.rate, seconds=round(taken, 3), transactions=completed,
            per_second=round(completed / taken, 1), failures=self.failures, failed=self.failed, misses=self.misses,
            answer_ms=spread(self.answer), whole_ms=spread(self.whole),
            late_ms=spread(self.late) if self._open else None,
            server_user_us=each[0], server_system_us=each[1], generator_user_us=each[2], generator_system_us=each[3],
            others_share=round(max(0.0, used[4] - sum(used[:4])) / (taken * (os.cpu_count() or 1)), 3), memory=memory,
        )  # fmt: skip

    async def _wait(self, started: float) -> list[tuple[int, float]]:
        """Until the measurement is over; samples memory meanwhile."""
        plan = self._plan
        memory = [(0, _memory(plan.pid))]
        while not self.over.is_set() and (left := started + plan.seconds - self.time()) > 0:
            nap = min(left, plan.sample_seconds or left)
            try:
                await asyncio.wait_for(self.over.wait(), nap)
            except TimeoutError:
                memory.append((self.completed, _memory(plan.pid)))
        return memory

    async def _drain(self) -> None:
        """What was begun ends; in an open loop what should have begun in the measurement still does."""
        if not self._busy and not self._due:
            return
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


_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _cpu(pid: int) -> tuple[float, float, float, float, float]:
    """Seconds of CPU used so far: the server's user and system, our user and system, everybody's."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    own = resource.getrusage(resource.RUSAGE_SELF)
    return int(fields[11]) / _TICK, int(fields[12]) / _TICK, own.ru_utime, own.ru_stime, machine_seconds()


def machine_seconds() -> float:
    """Seconds of CPU that everybody on this machine has used so far, and what a hypervisor took away."""
    ticks = [int(field) for field in Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:]]
    return sum(ticks[:3] + ticks[5:8]) / _TICK  # the others are idle, waiting for disks, and guests counted already


def _memory(pid: int) -> float:
    """Resident memory in MB."""
    return round(int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE / 1e6, 1)


def fetch_token(plan: Plan) -> str:
    """A token by client credentials."""
    connection = http.client.HTTPConnection(plan.host, plan.port, timeout=10)
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
