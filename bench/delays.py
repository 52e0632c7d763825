"""Links between regions that take time, like those between data centres: each direction takes half of a round trip.

What comes in at one end leaves at the other when its time has come, in order, and as much at once as came: only the
distance is longer, not the road narrower. A reader that does not keep up slows the sender down, as TCP would.

A proxy of our own, since few machines let a benchmark delay packets in their kernel (`tc netem`). It is as exact as
`select()`, which takes microseconds; `epoll` rounds up to whole milliseconds.
"""

import asyncio
import selectors
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self, TypeVar, cast

from chaos.links import Links

T = TypeVar("T")

_ADDRESS = "127.0.0.1"
_PINGS = 50


class Delays(Links):
    """All links of a world, with a distance between its places that can be changed. None of them can be cut.

    A context manager; at its end every connection is broken.
    """

    def __init__(self) -> None:
        """Nothing runs before it is entered; there is no distance before it is set."""
        super().__init__()
        self._clock = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._runner = threading.Thread(target=self._clock.run_forever, name="delays", daemon=True)
        self._listening: list[asyncio.Server] = []
        self._ends: set[_End] = set()
        #: Seconds that each direction takes.
        self.one_way = 0.0

    def __enter__(self) -> Self:
        """Start the thread."""
        super().__enter__()
        self._runner.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Hang up everywhere."""
        self._do(self._hang_up())
        self._clock.call_soon_threadsafe(self._clock.stop)
        self._runner.join()
        self._clock.close()
        super().__exit__(*exc)

    def _do(self, doing: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self._clock).result()

    @property
    def round_trip_ms(self) -> float:
        """There and back."""
        return self.one_way * 2000

    def set_round_trip(self, milliseconds: float) -> None:
        """From now on; what is on its way arrives as it was sent."""
        self.one_way = milliseconds / 2000

    def listen(self, caller: str, callee: str, port: int) -> int:  # noqa: ARG002 - all places are equally far apart
        """A port at which one place reaches what another has on that port."""
        return self._do(self._accept(port))

    def measure(self) -> float:
        """The round trip as it is, in milliseconds: the median of some bytes sent through a link and back."""
        with socket.create_server((_ADDRESS, 0)) as echo:
            threading.Thread(target=_echo, args=(echo,), daemon=True).start()
            port = self.listen("here", "there", echo.getsockname()[1])
            with socket.create_connection((_ADDRESS, port)) as ends:
                ends.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                taken = [_ping(ends) for _ in range(_PINGS)]
        return statistics.median(taken) * 1000

    async def _accept(self, port: int) -> int:
        def caller() -> _End:
            return _End(self, self._ends, port)

        server = await self._clock.create_server(caller, _ADDRESS, 0)
        self._listening.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _hang_up(self) -> None:
        for server in self._listening:
            server.close()
        for end in tuple(self._ends):
            end.abort()
        await asyncio.sleep(0)


class _End(asyncio.Protocol):
    """One of a connection's two ends; what comes in here leaves at the other."""

    def __init__(self, delays: Delays, ends: "set[_End]", port: int | None, other: "_End | None" = None) -> None:
        """port: what the caller wants to reach; None: this is the callee's end, and `other` the caller's."""
        self._delays = delays
        self._ends = ends
        self._port = port
        self._other = other
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        #: What is on its way to the other end, and when it arrives; None: this end has no more to say.
        self._way: deque[tuple[float, bytes | None]] = deque()
        self._waits = False
        #: Nothing more comes in here; nothing more leaves here.
        self._heard_all = self._said_all = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ends.add(self)
        if self._port is not None:
            self._connecting = self._loop.create_task(self._connect(self._port))

    async def _connect(self, port: int) -> None:
        """The handshake takes a round trip."""
        await asyncio.sleep(self._delays.one_way * 2)
        try:
            _, other = await self._loop.create_connection(
                lambda: _End(self._delays, self._ends, None, self), _ADDRESS, port
            )
        except OSError:
            self.abort()
            return
        self._other = other
        if self._transport is None or self._transport.is_closing():
            other.abort()
        self._deliver()

    def data_received(self, data: bytes) -> None:
        self._send(data)

    def eof_received(self) -> bool:
        self._heard_all = True
        self._send(None)
        self._close_if_done()
        return True  # the other direction goes on

    def _send(self, data: bytes | None) -> None:
        self._way.append((self._loop.time() + self._delays.one_way, data))
        if not self._waits:
            self._await_next()

    def _await_next(self) -> None:
        self._waits = bool(self._way)
        if self._waits:
            self._loop.call_at(self._way[0][0], self._deliver)

    def _deliver(self) -> None:
        """Whatever is due leaves at the other end, at once."""
        self._waits = False
        other = self._other
        if other is None or other._transport is None:  # noqa: SLF001 - the other end of this connection
            return  # it is being connected to, which ends here
        now = self._loop.time()
        due: list[bytes] = []
        while self._way and self._way[0][0] <= now:
            _, data = self._way.popleft()
            if data is None:
                other.write(due)
                other.finish()
                due = []
            else:
                due.append(data)
        other.write(due)
        self._await_next()

    def write(self, pieces: list[bytes]) -> None:
        if pieces and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pieces)

    def finish(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            with suppress(OSError):
                self._transport.write_eof()
            self._said_all = True
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._heard_all and self._said_all and self._transport is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        """Our reader does not keep up: the other end takes no more in."""
        self._let_other_read(read=False)

    def resume_writing(self) -> None:
        self._let_other_read(read=True)

    def _let_other_read(self, *, read: bool) -> None:
        transport = None if self._other is None else self._other._transport  # noqa: SLF001 - as above
        if transport is None or transport.is_closing():
            return
        if read:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end hears of it when what was sent before has arrived."""
        self._ends.discard(self)
        self._transport = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._other is not None and (exc is not None or not self._heard_all):
            self._loop.call_later(self._delays.one_way, self._other.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _echo(server: socket.socket) -> None:
    with suppress(OSError):
        ends, _ = server.accept()
        with ends:
            ends.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while said := ends.recv(64):
                ends.sendall(said)


def _ping(ends: socket.socket) -> float:
    began = time.perf_counter()
    ends.sendall(b"ping")
    ends.recv(64)
    return time.perf_counter() - began
