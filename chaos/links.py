"""Networks that can be cut, also one way: a small TCP proxy for each thing that one place calls at another.

What is cut off is kept back, not thrown away, as TCP would have it: neither side is told anything, a new connection
gets no answer, and what was on its way arrives once the cut is healed.

All of it runs in one thread of its own, on one event loop; the methods here may be called from any thread.
"""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NamedTuple, Self, TypeVar

T = TypeVar("T")

_CHUNK = 65_536
_ADDRESS = "127.0.0.1"


class Way(NamedTuple):
    """One direction between two places."""

    sender: str
    receiver: str


class Links:
    """All links of a world. A context manager; at its end every connection is broken."""

    def __init__(self) -> None:
        """Nothing runs before it is entered."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._open: dict[Way, asyncio.Event] = {}
        self._servers: list[asyncio.Server] = []
        self._pipes: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up everywhere."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, doing: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result()

    # -- what can be done --

    def listen(self, caller: str, callee: str, port: int) -> int:
        """A port at which `caller` reaches what `callee` has on that port."""
        return self._run(self._listen(Way(caller, callee), Way(callee, caller), port))

    def cut(self, sender: str, receiver: str, *, both: bool = True) -> None:
        """Let nothing through from one place to the other; both: and nothing back."""
        self._run(self._set(self._ways(sender, receiver, both=both), through=False))

    def heal(self, sender: str, receiver: str, *, both: bool = True) -> None:
        """Let it through again, with what was kept back."""
        self._run(self._set(self._ways(sender, receiver, both=both), through=True))

    def heal_all(self) -> None:
        """Let everything through."""
        self._run(self._set(tuple(self._open), through=True))

    @property
    def are_cut(self) -> tuple[Way, ...]:
        """The directions in which nothing gets through."""
        return tuple(way for way, through in self._open.items() if not through.is_set())

    # -- how --

    def _ways(self, sender: str, receiver: str, *, both: bool) -> tuple[Way, ...]:
        there, back = Way(sender, receiver), Way(receiver, sender)
        unknown = {there, back} - self._open.keys()
        assert not unknown, f"there is no such link: {unknown}"
        return (there, back) if both else (there,)

    async def _set(self, ways: tuple[Way, ...], *, through: bool) -> None:
        for way in ways:
            if through:
                self._open[way].set()
            else:
                self._open[way].clear()

    async def _listen(self, there: Way, back: Way, port: int) -> int:
        for way in (there, back):
            if way not in self._open:
                self._open[way] = asyncio.Event()
                self._open[way].set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            pipe = self._loop.create_task(self._pipe(reader, writer, there, back, port))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

        server = await asyncio.start_server(connected, _ADDRESS, 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Way, back: Way, port: int
    ) -> None:
        """One connection, from the moment that its caller has made it."""
        sides = [writer]
        try:
            await self._open[there].wait()
            await self._open[back].wait()
            answers, target = await asyncio.open_connection(_ADDRESS, port)
            sides.append(target)
            async with asyncio.TaskGroup() as both:
                both.create_task(_forward(reader, target, self._open[there]))
                both.create_task(_forward(answers, writer, self._open[back]))
        except* OSError:
            pass  # broken off by one side; the other one gets to know that now
        finally:
            for side in sides:
                side.transport.abort()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)


async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter, through: asyncio.Event) -> None:
    """Pass on what comes, and its end, as long as the way is open."""
    while content := await source.read(_CHUNK):
        await through.wait()
        sink.write(content)
        await sink.drain()
    await through.wait()
    with suppress(OSError):
        sink.write_eof()
