"""Who asks for Interlock from outside: the balancer's rules, tried on HAProxy itself, and the image's health check."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from interlock.config import Config
from interlock.demo.ports import free_port
from tests.docs.deployed import parsed, run, text, told, tool


class Stub:
    """Stands in for an Interlock behind the balancer: counts what it is sent, and answers or hangs up."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.health = {"/healthz": 200, "/readyz": 200}
        self.hangs_up = False
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stub._take(self)

            def do_POST(self) -> None:
                stub._take(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Who asks after health hangs up early; that is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    def _take(self, call: BaseHTTPRequestHandler) -> None:
        call.rfile.read(int(call.headers.get("content-length", 0)))
        if call.path not in self.health:
            self.seen[f"{call.command} {call.path}"] += 1
            if self.hangs_up:
                call.close_connection = True
                call.connection.shutdown(socket.SHUT_RDWR)
                return
        call.send_response(self.health.get(call.path, 200))
        call.send_header("content-length", "0")
        call.end_headers()

    def __enter__(self) -> Self:
        """Answer from now on."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


def status(port: int, method: str, path: str, headers: Mapping[str, str] | None = None) -> int | None:
    """What a call is answered; None if nobody takes it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, b"x" * 4_500 if method == "POST" else None, headers or {})
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """For what another program does in its own time."""
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


@contextmanager
def balancer(folder: Path, first: Stub, second: Stub) -> Iterator[int]:
    """HAProxy with our configuration, but for addresses; gives its port once it has found both servers ready."""
    program, port, own = tool("haproxy"), free_port(), free_port()
    config = text("haproxy/haproxy.cfg").replace(" resolvers containers init-addr libc,none", "")
    for name, address in (
        ("bind :8080", f"bind 127.0.0.1:{port}"),
        ("bind :8404", f"bind 127.0.0.1:{own}"),
        ("interlock-1:8080", f"127.0.0.1:{first.port}"),
        ("interlock-2:8080", f"127.0.0.1:{second.port}"),
    ):
        config = config.replace(name, address)
    (folder / "haproxy.cfg").write_text(config, "utf-8")
    run(program, "-c", "-f", folder / "haproxy.cfg")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, "-db", "-f", folder / "haproxy.cfg"], stdout=log, stderr=log)
    try:
        wait_until(lambda: status(own, "GET", "/healthz") == 200)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_the_balancer_fits_interlock_and_compose() -> None:
    """It waits longer than a client may ask Interlock to, and serves exactly the processes that there are."""
    config = text("haproxy/haproxy.cfg")
    waits = re.search(r"timeout server (\d+)s", config)
    assert waits is not None
    assert int(waits[1]) > Config.model_fields["wait_seconds_max"].default
    processes = parsed("compose.yaml")["services"]["balancer"]["depends_on"]
    assert set(re.findall(r"^    server (\S+) ", config, re.MULTILINE)) == set(processes)


def test_the_balancer_sends_no_payment_twice(tmp_path: Path) -> None:
    """When a server hangs up on it, it asks again only for what changes nothing if it comes twice."""
    keyed = {"Idempotency-Key": "k"}
    with Stub() as first, Stub() as second, balancer(tmp_path, first, second) as port:

        def times_sent(method: str, path: str, headers: Mapping[str, str] | None = None) -> int:
            before = (first.seen + second.seen)[f"{method} {path}"]
            assert status(port, method, path, headers) == 502
            return (first.seen + second.seen)[f"{method} {path}"] - before

        assert status(port, "POST", "/inbox") == 200
        assert status(port, "GET", "/metrics") == 404
        first.hangs_up = second.hangs_up = True
        assert times_sent("POST", "/inbox") == 1
        assert times_sent("POST", "/v1/messages") == 1
        assert times_sent("POST", "/v1/redrives", keyed) == 1
        assert times_sent("GET", "/uuid") == 1
        assert times_sent("POST", "/v1/messages", keyed) == 3
        assert times_sent("GET", "/v1/transactions") == 3


def test_the_balancer_lets_interlock_say_that_it_is_not_ready(tmp_path: Path) -> None:
    """While no server is ready they are asked all the same, for their 503 says what is the matter."""
    with Stub() as first, Stub() as second, balancer(tmp_path, first, second) as port:

        def came_by(backend: str) -> bool:
            assert status(port, "GET", "/probe") == 200
            lines = (tmp_path / "log").read_text("utf-8").splitlines()
            return f" {backend}/" in [line for line in lines if " /probe " in line][-1]

        wait_until(lambda: came_by("ready"))
        first.health["/readyz"] = second.health["/readyz"] = 503
        wait_until(lambda: came_by("alive"))
        second.health["/readyz"] = 200
        wait_until(lambda: came_by("ready"))


def test_the_health_check_tells_good_from_bad() -> None:
    """The image's own command ends with 0 if the server answers 200, and only then; proxies' settings are no matter."""
    command = json.loads(told("HEALTHCHECK").partition("CMD")[2])
    assert command[0] == "python"
    command[0] = sys.executable
    with Stub() as stub:
        environment = {**os.environ, "INTERLOCK_PORT": str(stub.port), "http_proxy": "http://192.0.2.1:1"}

        def exit_code() -> int:
            return subprocess.run(command, env=environment, capture_output=True, timeout=10, check=False).returncode

        assert exit_code() == 0
        stub.health["/healthz"] = 503
        assert exit_code() == 1
    assert exit_code() == 1
