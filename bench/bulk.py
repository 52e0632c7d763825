"""One message of many payments, from the socket to its answer, with single payments beside it.

    python -m bench.bulk --payments 100000 --store sqlite

Says how many payments a second that is, the most memory that the server and the process that reads took, and how long
single payments took meanwhile and without it.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from interlock.demo.postgres import Cluster, newest
from tests.acceptance.conftest import Caller, Server, end, start
from tests.messages import Transfer, pacs008

#: Single payments that are sent beside it, a second.
_SINGLES = 50
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured."""

    store: str
    payments: int
    megabytes: float
    seconds: float
    status: str
    server_rss_mb: float
    server_rss_before_mb: float
    reader_rss_mb: float
    singles: int
    alone_p50_ms: float
    alone_p99_ms: float
    beside_p50_ms: float
    beside_p99_ms: float

    @property
    def per_second(self) -> float:
        return self.payments / self.seconds


class Singles:
    """Single payments at a steady pace, and how long each took."""

    def __init__(self, server: Server, caller: Caller, name: str) -> None:
        self._address = urlsplit(server.url).netloc
        self._headers = {"Authorization": f"Bearer {caller.token()}", "Content-Type": "application/xml"}
        self._name = name
        self._stop = threading.Event()
        self.milliseconds: list[float] = []
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        messages = [pacs008() for _ in range(200)]
        due = time.perf_counter()
        while not self._stop.wait(max(0.0, due - time.perf_counter())):
            if not messages:
                messages = [pacs008() for _ in range(20)]
            # By when it was due, not by when it could be sent: waiting in line is waiting.
            connection.request("POST", "/v1/messages", messages.pop(), self._headers)
            response = connection.getresponse()
            assert json.loads(response.read())["status"] == "ACSC"
            self.milliseconds.append((time.perf_counter() - due) * 1000)
            due += 1 / _SINGLES

    def percentile(self, share: float) -> float:
        return statistics.quantiles(self.milliseconds, n=1000, method="inclusive")[round(share * 1000) - 1]


class Memory:
    """The most that the server and its children have taken."""

    def __init__(self, server: Server) -> None:
        self._process = psutil.Process(server.process.pid)
        self.before = self.server = self._process.memory_info().rss
        self.reader = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self.server = max(self.server, self._process.memory_info().rss)
            for child in self._process.children():
                try:
                    self.reader = max(self.reader, child.memory_info().rss)
                except psutil.Error:
                    continue


def measure(payments: int, store: str, folder: Path) -> Result:
    """Start a server of its own, and send it the message."""
    settings = {} if store == "sqlite" else {"store": store}
    server = start(folder, "", **settings)
    try:
        caller = server.add("bench")
        message = pacs008(*(Transfer() for _ in range(payments)))
        caller.http.timeout = 600
        caller.submit(pacs008(*(Transfer() for _ in range(2000))))  # compiles and caches
        with Singles(server, caller, "alone") as alone:
            time.sleep(10)
        with Memory(server) as memory, Singles(server, caller, "beside") as beside:
            began = time.perf_counter()
            shown = caller.submit(message).json()
            seconds = time.perf_counter() - began
        return Result(
            store=store.split(":", 1)[0], payments=payments, megabytes=len(message) / 1e6, seconds=seconds,
            status=f"{shown['status']} {shown['payments_count']}",
            server_rss_mb=memory.server / 1e6, server_rss_before_mb=memory.before / 1e6,
            reader_rss_mb=memory.reader / 1e6, singles=len(beside.milliseconds),
            alone_p50_ms=alone.percentile(0.5), alone_p99_ms=alone.percentile(0.99),
            beside_p50_ms=beside.percentile(0.5), beside_p99_ms=beside.percentile(0.99),
        )  # fmt: skip
    finally:
        end(server)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=100_000)
    parser.add_argument("--store", default="sqlite", help="sqlite, postgres (one is started), or the URL of a database")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = asked.store
        if store == "postgres":
            cluster = stack.enter_context(Cluster(newest()))
            store = cluster.create_database("bulk")
        result = measure(asked.payments, store, folder / "server")
    print(json.dumps({**asdict(result), "per_second": result.per_second}, indent=2))


if __name__ == "__main__":
    main()
