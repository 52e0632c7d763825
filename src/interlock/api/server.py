"""Runs the HTTP faces: one listening socket, an orderly end, and no patience with clients that stall.

Owns: the socket, signals, the order of starting and stopping. Must not know: what a request means.
"""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from interlock.api import logs
from interlock.api.asgi import Faces
from interlock.app import Interlock, sole_server
from interlock.config import Config
from interlock.errors import ConfigError, LeaseLost

_log = structlog.get_logger()

#: Time that a client has to send its request's headers, or to take what we send.
_STALL_SECONDS = 10.0
_HEADERS_BYTES_MAX = 65_536
_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75
#: Time that requests in progress have to finish once the server is to stop.
_FINISH_SECONDS = 20
#: And at its end, to be told that they have not.
_TELL_SECONDS = 3
#: Open files, that is connections, that we ask for where the system's hard limit allows it.
_FILES_MAX = 65_536


class _OneWrite:
    """A transport for one response that sends its head and the beginning of its body with one call of the system's."""

    __slots__ = ("_cycle", "_head", "_transport")

    def __init__(self, cycle: RequestResponseCycle, transport: asyncio.Transport) -> None:
        self._cycle = cycle
        self._transport = transport
        self._head: bytes | None = b""

    def write(self, piece: bytes) -> None:
        """Hold the head back until the body comes; `100 Continue` goes before the response and at once."""
        if self._head is None or not self._cycle.response_started:
            self._transport.write(piece)
        elif not self._head:
            self._head = piece
        else:
            head, self._head = self._head, None
            self._transport.write(head + piece)

    def close(self) -> None:
        """Send what is held, then close."""
        if self._head:
            self._transport.write(self._head)
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is closing."""
        return self._transport.is_closing()


class Protocol(HttpToolsProtocol):
    """uvicorn's, with bounds on what comes before the application is asked, and on clients that do not read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that sends nothing is given up like one that sends half a request."""
        super().connection_made(transport)
        self.stalled_since: float | None = self.loop.time()
        self._header_bytes = 0

    def on_message_begin(self) -> None:
        """Another request begins."""
        super().on_message_begin()
        self.stalled_since = self.loop.time()
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """From here on the application keeps the time."""
        self.stalled_since = None
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # its response has no body that would take the head along
            self.cycle.transport = _OneWrite(self.cycle, self.transport)  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Count what comes before the headers are whole."""
        super().data_received(data)
        if self.stalled_since is None:
            return
        self._header_bytes += len(data)
        if self._header_bytes > _HEADERS_BYTES_MAX and self.transport is not None:
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read what we send."""
        super().pause_writing()
        self.stalled_since = self.loop.time()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self.stalled_since = None

    def give_up_if_stalled(self, now: float) -> None:
        """Close the connection if the client has stalled for too long."""
        if self.stalled_since is not None and now - self.stalled_since > _STALL_SECONDS:
            self.transport.abort()


class _Server(uvicorn.Server):
    """uvicorn's, with our signals and a look at stalled connections."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are handled by `serve`, which has more to stop than this server."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.give_up_if_stalled(now)
        return await super().on_tick(counter)


def listen(config: Config) -> socket.socket:
    """A bound socket. Raises ConfigError where the address cannot be had."""
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise ConfigError(f"host: {config.host} cannot be listened on: {exc.strerror or exc}") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as exc:
        listener.close()
        raise ConfigError(f"port: {config.host}:{config.port} cannot be listened on: {exc.strerror or exc}") from exc
    return listener


def url_of(listener: socket.socket) -> str:
    """Where clients on this machine find it."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(config: Config, on_ready: Callable[[Interlock, str], None]) -> None:
    """Serve a data folder in this process, on uvloop, until SIGTERM or SIGINT.

    on_ready: told the parts and the URL once requests are taken. Raises ConfigError (the address or the data folder
    is taken), LeaseLost.
    """
    logs.configure(config.log_level, config.log_format)
    try:
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"data: the folder {config.data} cannot be made: {exc.strerror}") from exc
    # Before the parts are made: to open the store for writing would fence off the server that has the folder. Processes
    # over a shared store may share a folder too.
    alone = contextlib.nullcontext() if config.is_shared else sole_server(config.data)
    with alone, asyncio.Runner(loop_factory=_new_loop) as runner:
        interlock = Interlock(config)
        _tune_process()
        runner.run(serve(interlock, config, lambda url: on_ready(interlock, url)))


def _tune_process() -> None:
    """Room for thousands of connections, and a collector that does not look at everything again and again.

    What is loaded by now lives as long as the process; requests leave few cycles behind.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _FILES_MAX)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    # The event loop and the journal's thread take turns by themselves, at each statement and each wait; forced turns
    # every 5 ms only cost both of them their caches.
    sys.setswitchinterval(0.02)


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def serve(interlock: Interlock, config: Config, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was accepted and stop the parts.

    on_ready: told the URL once requests are taken. Raises ConfigError (the address is taken), LeaseLost (another
    process has begun to write to the store).
    """
    try:
        with contextlib.closing(listen(config)) as listener:
            url = url_of(listener)
            await interlock.start()
            faces = Faces(interlock, endpoint=config.api_endpoint or url.removeprefix("http://"))
            faces.peers.watch()
            try:
                await _run(interlock, faces, listener, lambda: on_ready(url))
            finally:
                await faces.peers.close()
    finally:
        await interlock.stop()
    if interlock.fenced.is_set():
        raise LeaseLost("another process has begun to write to this store; this one has stopped")


async def _run(interlock: Interlock, faces: Faces, listener: socket.socket, on_started: Callable[[], None]) -> None:
    server = _Server(_settings(faces), on_started)

    def stop() -> None:
        faces.patience.stopping.set()
        server.should_exit = True
        # Long messages may take longer than we wait; their callers are told so before they are cut off.
        asyncio.get_running_loop().call_later(_FINISH_SECONDS - _TELL_SECONDS, interrupt)

    def interrupt() -> None:
        faces.intake.interrupt()
        if interlock.workflow.bulk is not None:
            interlock.workflow.bulk.interrupt()

    fenced = asyncio.create_task(interlock.fenced.wait(), name="fenced")
    fenced.add_done_callback(lambda _: stop())
    try:
        with _stopping_by_signal(stop):
            await server.serve(sockets=[listener])
    finally:
        fenced.cancel()


def _settings(faces: Faces) -> uvicorn.Config:
    return uvicorn.Config(
        faces,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_FINISH_SECONDS,
    )


@contextlib.contextmanager
def _stopping_by_signal(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT stop, once; the second one kills."""
    loop = asyncio.get_running_loop()

    def heard(number: int) -> None:
        loop.remove_signal_handler(number)
        stop()

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, heard, number)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
