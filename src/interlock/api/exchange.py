"""One HTTP request and its response, as thin as the hot calls need them; and the limits on what comes in.

Reading a body is where a client can hold us up, so every bound on it is here: size, time, memory for all bodies at
once, and requests at once.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import uuid_utils

from interlock.api.spool import SpoolFile, SpoolFolder
from interlock.config import Config
from interlock.errors import BodyTooLarge, EmptyBody, NotXml, Overloaded, RequestError
from interlock.iso20022.envelopes import is_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

JSON = (b"content-type", b"application/json")
XML = (b"content-type", b"application/xml")
NO_STORE = (b"cache-control", b"no-store")
_CLOSE = (b"connection", b"close")

#: A body that nobody has read and that is larger than this ends the connection, so that it need not be read.
_UNREAD_BYTES = 16_384
_DIGITS_MAX = 19
#: How long and how much a refused client may still send before the connection is closed: most clients look for the
#: answer only when they have sent everything, and a reset would take it away from them.
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 8_388_608
#: How much of a long body is in memory at a time.
_SPOOL_BYTES = 1_048_576
_HEAD_BYTES = 4_096
#: Of its length, what a long message needs on the disk: itself, its fields, its rows and keys, the log of these.
_ROOM = 4
#: How many long messages may be coming, of all clients.
_ARRIVING_MAX = 64


class TooSlow(RequestError):
    """The request's body did not come in time."""

    code = "request_timeout"


class ClientGone(Exception):
    """The client closed the connection before its request was whole; there is nobody to answer."""


class Response(NamedTuple):
    """What is sent back; content-length is added."""

    status: int
    headers: Headers
    body: bytes
    #: What comes before it, where that is too long for memory; there is no content-length then.
    more: AsyncIterator[bytes] | None = None


class Request:
    """What a hot call needs of a request; headers are scanned once, and their names are lower case."""

    __slots__ = ("_receive", "began", "body_bytes", "body_read", "half_read", "headers", "path", "request_id", "scope")

    def __init__(self, scope: Scope, receive: Receive, began: float) -> None:
        """began: by the performance counter, in seconds."""
        self.scope = scope
        self.path: str = scope["path"]
        self._receive = receive
        self.began = began
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.body_read = False
        #: Reading has begun and not come to the end: what follows on the connection cannot be told from the rest.
        self.half_read = False
        #: What of its body counts against the bound on all bodies.
        self.body_bytes = 0
        self.request_id = str(uuid_utils.uuid4())

    def header(self, name: bytes) -> str | None:
        """A header as text; None where it is absent."""
        value = self.headers.get(name)
        if value is None:
            return None
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:  # what RFC 9110 calls obs-text; it means something to the client only
            return value.decode("latin-1")

    @property
    def has_body(self) -> bool:
        """Whether the client announces one."""
        return b"transfer-encoding" in self.headers or self.headers.get(b"content-length", b"0") != b"0"

    async def next_message(self) -> Message:
        """The next part of the body, as the server has it. Raises ClientGone."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    async def refuse_body(self, send: Send, response: Response) -> None:
        """Answer, look away from what the client still sends, then close."""
        await send(_start(response, (*response.headers, _CLOSE)))
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while left > 0:
                    message = await self.next_message()
                    left -= len(message["body"])
                    if not message.get("more_body", False):
                        break
        except (TimeoutError, ClientGone):
            pass
        await send({"type": "http.response.body", "body": b""})

    async def respond(self, send: Send, response: Response) -> None:
        """Send the answer."""
        if self.half_read or (not self.body_read and self.has_body and self._is_large()):
            await self.refuse_body(send, response)
            return
        await send(_start(response, response.headers))
        if response.more is not None:
            async for piece in response.more:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": response.body})

    def _is_large(self) -> bool:
        return self.announced is None or self.announced > _UNREAD_BYTES

    @property
    def announced(self) -> int | None:
        """The length that its header says; None where it says none."""
        length = self.headers.get(b"content-length", b"")
        if not length.isdigit():
            return None
        # What has more digits is more than anybody takes, and int would rather not.
        return int(length) if len(length) <= _DIGITS_MAX else 10**_DIGITS_MAX


def _start(response: Response, headers: Iterable[tuple[bytes, bytes]]) -> Message:
    is_known = response.status != 204 and response.more is None
    length = ((b"content-length", b"%d" % len(response.body)),) if is_known else ()
    return {"type": "http.response.start", "status": response.status, "headers": [*headers, *length]}


class Spooled(NamedTuple):
    """A body that is on disk."""

    path: Path
    #: SHA-256 of it.
    digest: bytes
    #: Its first bytes.
    head: bytes


class Intake:
    """The bounds on requests and their bodies."""

    def __init__(self, config: Config) -> None:
        self._bulk_bytes_max = 0 if config.is_regional else config.bulk_bytes_max
        self._files_max = config.bulk_files_max
        self._places = asyncio.Semaphore(config.bulk_files_max)
        #: Long messages that are still coming, by client.
        self._arriving: Counter[str] = Counter()
        self._spool = SpoolFolder(config.data / "spool")
        #: Long messages that have come and are being taken in.
        self.files = 0
        #: When the patience with each of them ends that are still coming.
        self._coming: set[asyncio.Timeout] = set()
        self._is_stopping = False
        self._bytes_max = config.body_bytes_max
        self._seconds_max = config.body_seconds_max
        self._all_bytes_max = config.bodies_bytes_max
        self._requests_max = config.requests_max
        #: Requests being worked on, and the bytes of their bodies.
        self.requests = 0
        self.bytes = 0

    def enter(self) -> None:
        """Count a request in. Raises Overloaded; who is not refused must `leave`."""
        if self.requests >= self._requests_max:
            raise Overloaded("too many requests at once; try again shortly")
        self.requests += 1

    def leave(self, request: Request) -> None:
        """Count it out, with the body it had."""
        self.requests -= 1
        self.bytes -= request.body_bytes

    async def read(self, request: Request) -> bytes:
        """The whole body. Raises NotXml (it is compressed), BodyTooLarge, TooSlow, Overloaded, ClientGone."""
        if request.headers.get(b"content-encoding", b"identity") != b"identity":
            raise NotXml("the body is compressed; send it as it is, without Content-Encoding")
        request.half_read = True
        announced = request.announced
        if announced is not None:
            self._refuse_large(announced)
            self._refuse_crowd(announced)
        try:
            async with asyncio.timeout(self._seconds_max):
                return await self._gather(request)
        except TimeoutError as exc:
            raise TooSlow("the body did not come in time; nothing was stored") from exc

    @contextlib.asynccontextmanager
    async def take(self, request: Request, client: str) -> AsyncIterator[bytes | Spooled]:
        """The whole body; one that is too long for memory on disk, for as long as this lasts. Raises as `read`.

        Only those that have come take one of the places of `bulk_files_max`, so that one that comes slowly holds nobody
        up but its own client, of which no more than that many may be coming.
        """
        said = request.announced
        if not self._bulk_bytes_max or (said is not None and said <= self._bytes_max):
            yield await self.read(request)
            return
        if request.headers.get(b"content-encoding", b"identity") != b"identity":
            raise NotXml("the body is compressed; send it as it is, without Content-Encoding")
        if said is not None and said > self._bulk_bytes_max:
            raise BodyTooLarge(f"the body is over the limit of {self._bulk_bytes_max} bytes; nothing was stored")
        request.half_read = True
        announced = said or 0
        async with contextlib.AsyncExitStack() as stack:
            with self._arrival(client) as arrives:
                body = await self._fill(
                    request, lambda: stack.enter_async_context(self._one_more_file(announced, arrives))
                )
                if isinstance(body, Spooled):
                    await stack.enter_async_context(self._place())
            yield body

    @contextlib.contextmanager
    def _arrival(self, client: str) -> Iterator[Callable[[], None]]:
        """Counts a long message of a client, from when that is called to the end of this."""
        counted = 0

        def arrives() -> None:
            nonlocal counted
            if self._arriving[client] >= self._files_max:
                raise Overloaded(
                    "too many long messages of yours are still coming; nothing was stored, try again later"
                )
            if self._places.locked() or self._arriving.total() >= _ARRIVING_MAX:
                raise Overloaded("too many long messages at once; nothing was stored, try again shortly")
            self._arriving[client] += 1
            counted = 1

        try:
            yield arrives
        finally:
            self._arriving -= Counter({client: counted})  # those that have none are forgotten

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the long messages that are being taken in; who has sent all of one waits for it."""
        async with self._places:
            self.files += 1
            try:
                yield
            finally:
                self.files -= 1

    @contextlib.asynccontextmanager
    async def _one_more_file(self, announced: int, arrives: Callable[[], None]) -> AsyncIterator[SpoolFile]:
        """announced: its length; 0 where nobody says."""
        arrives()
        if self._spool.free_bytes < _ROOM * announced:
            raise Overloaded("there is no room for the message on disk; nothing was stored")
        async with self._spool.file() as file:
            yield file

    async def _fill(self, request: Request, open_file: Callable[[], Awaitable[SpoolFile]]) -> bytes | Spooled:
        """What comes, in memory as long as it may be, then in a file."""
        size, held, head = 0, bytearray(), b""
        file: SpoolFile | None = None
        more = True
        try:
            while more:
                self._refuse_if_stopping()
                async with asyncio.timeout(self._seconds_max) as patience:  # with each megabyte
                    self._coming.add(patience)
                    try:
                        more = await self._hold(request, held, in_memory=file is None)
                    finally:
                        self._coming.discard(patience)
                size += len(held)
                if size > self._bulk_bytes_max:
                    raise BodyTooLarge(
                        f"the body is over the limit of {self._bulk_bytes_max} bytes; nothing was stored"
                    )
                if file is None and size > self._bytes_max:
                    file, head = await open_file(), bytes(held[:_HEAD_BYTES])
                if file is not None:
                    await asyncio.to_thread(file.write, bytes(held))
                    held.clear()
        except TimeoutError as exc:
            self._refuse_if_stopping()
            raise TooSlow("the body did not come in time; nothing was stored") from exc
        except OSError as exc:
            raise Overloaded(f"there is no room for the message on disk: {exc.strerror}; nothing was stored") from exc
        request.body_read, request.half_read = True, False
        return bytes(held) if file is None else Spooled(file.path, file.digest.digest(), head)

    def _refuse_if_stopping(self) -> None:
        if self._is_stopping:
            raise Overloaded("this process is being stopped; nothing was stored, try again")

    def interrupt(self) -> None:
        """Give up long bodies that are still coming, for this process ends."""
        self._is_stopping = True
        for patience in tuple(self._coming):
            if not patience.expired():
                patience.reschedule(0)

    async def _hold(self, request: Request, held: bytearray, *, in_memory: bool) -> bool:
        """The next megabyte, or what may be in memory; whether there is more."""
        until = self._bytes_max if in_memory else _SPOOL_BYTES
        while len(held) <= until:
            message = await request.next_message()
            part = message["body"]
            if in_memory:
                self._refuse_crowd(len(part))
                request.body_bytes += len(part)
                self.bytes += len(part)
            held += part
            if not message.get("more_body", False):
                return False
        return True

    async def _gather(self, request: Request) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await request.next_message()
            part: bytes = message["body"]
            self._refuse_crowd(len(part))
            request.body_bytes += len(part)
            self.bytes += len(part)
            size += len(part)
            self._refuse_large(size)
            parts.append(part)
            if not message.get("more_body", False):
                request.body_read, request.half_read = True, False
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _refuse_large(self, size: int) -> None:
        if size > self._bytes_max:
            raise BodyTooLarge(f"the body is over the limit of {self._bytes_max} bytes; nothing was stored")

    def _refuse_crowd(self, more: int) -> None:
        if self.bytes + more > self._all_bytes_max:
            raise Overloaded("too much is being sent at once; nothing was stored, try again shortly")


def refuse_unless_message(body: bytes) -> None:
    """Raise EmptyBody or NotXml where a body cannot be an ISO 20022 XML message; all else is judged by the stages.

    The content type does not count: the reference's clients say `application/json` and send XML, curl says what it
    likes, and what is refused must be the same on every face.
    """
    if not body:
        raise EmptyBody("the body is empty; send the ISO 20022 message as XML")
    if is_json(body):
        raise NotXml("the body is JSON; send the ISO 20022 message as XML")
