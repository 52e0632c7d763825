"""Applications that send payments with the client library and see each of them through to its end.

Each calls its own region first, and another one where that does not answer, as the library does by itself. What it
sends, and what it is told, stands in its own log before it goes on: that is the checker's evidence.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import NamedTuple, Self, TypedDict, TypeVar
from uuid import UUID, uuid4

import httpx

from checker.log import ClientLog
from interlock.client import AsyncClient, Transaction
from interlock.demo.messages import Author, Message
from interlock.errors import ConflictError, DependencyError, InterlockError, NoAnswer, OutcomeUnknown

T = TypeVar("T")

#: The server's own word beside a cancellation: its region was lost.
RECOVERED = "RCVR"
ROUTES = """
[routes.treasury]
messages = ["pacs.009.*"]
decision = "consumer"
on_takeover = "hold"
sla_seconds = 600
[routes.default]
decision_above = { EUR = 10000 }
sla_seconds = 600
"""
#: What is sent, out of so many: held for a decision and cancelled at a takeover; held and kept; confirmed by a peer.
_LARGE, _TREASURY, _CONSISTENT, _OF = 4, 2, 5, 20
#: How long somebody looks at a payment before deciding.
_THINKING_SECONDS = (1.0, 6.0)
#: The longest that a payment is followed, and the pause before a call that was refused for now is made again.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 120.0, 0.25
_TIMEOUT_SECONDS, _WAIT_SECONDS = 5.0, 3.0

_called: ContextVar[str] = ContextVar("called")


class _Lookout(httpx.AsyncBaseTransport):
    """Notes which region a call goes to, and asks for consistency where that is wanted."""

    def __init__(self, regions: dict[str, str], consistency: str | None) -> None:
        """regions: names by host and port."""
        self._regions = regions
        self._headers = {} if consistency is None else {"X-Consistency": consistency}
        self._http = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=64, max_keepalive_connections=64))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass it on."""
        _called.set(self._regions[request.url.netloc.decode()])
        request.headers.update(self._headers)
        return await self._http.handle_async_request(request)

    async def aclose(self) -> None:
        """Hang up."""
        await self._http.aclose()


class Place(NamedTuple):
    """Where a region is called."""

    name: str
    url: str


class Caller:
    """A client of the library that knows which region it has called last."""

    def __init__(self, places: Sequence[Place], credentials: tuple[str, str], consistency: str | None) -> None:
        """places: in the order in which they are tried."""
        regions = {httpx.URL(place.url).netloc.decode(): place.name for place in places}
        self.consistency = consistency
        self.client = AsyncClient(
            [place.url for place in places], *credentials,
            timeout=_TIMEOUT_SECONDS, transport=_Lookout(regions, consistency),
        )  # fmt: skip


class _Names(TypedDict):
    """What ties the lines about one message together."""

    message: str | None
    uetr: str | None
    end_to_end: str


class Sent(NamedTuple):
    """A payment on its way."""

    message: Message
    caller: Caller
    key: str


class Application:
    """One consumer of one region; a context manager."""

    def __init__(
        self, places: Sequence[Place], credentials: tuple[str, str], log: ClientLog, author: Author, luck: random.Random
    ) -> None:
        """places: its own region first. author: shared, for no two messages may have one reference."""
        self._places = places
        self._credentials = credentials
        self._log = log
        self._author = author
        self._luck = luck
        self._under_way: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self.home = places[0].name
        #: Every transaction that it was told of, in order.
        self.known: dict[UUID, None] = {}
        #: Counts of what happened, for people.
        self.tally: Counter[str] = Counter()
        #: What could not be seen through, a sentence each.
        self.given_up: list[str] = []

    async def __aenter__(self) -> Self:
        """Ready to call."""
        await self.go_home()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Break off what is under way."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._stack.aclose()

    async def go_home(self) -> None:
        """From here on new payments go to its own region first again; those under way stay where they are."""
        self._plain = self._caller(None)
        self._careful = self._caller("consistent")

    def _caller(self, consistency: str | None) -> Caller:
        caller = Caller(self._places, self._credentials, consistency)
        self._stack.push_async_callback(caller.client.close)
        return caller

    # -- load --

    async def send(self, per_second: float, enough: asyncio.Event) -> None:
        """Begin payments at that pace, whether or not they get on, until it is enough."""
        number, began = 0, time.monotonic()
        while not enough.is_set():
            task = asyncio.create_task(self._pay(self._write(number)), name=f"payment {number} of {self.home}")
            self._under_way.add(task)
            task.add_done_callback(self._finished)
            number += 1
            pause = began + number / per_second - time.monotonic()
            await asyncio.sleep(max(0.0, pause))

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.given_up.append(f"{task.get_name()}: {exc!r}")

    @property
    def under_way(self) -> int:
        """Payments that it has sent, or is about to, and whose end it has not seen."""
        return len(self._under_way)

    async def see_through(self) -> None:
        """Wait until everything under way has its end."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _write(self, number: int) -> Sent:
        kind = number % _OF
        if kind < _LARGE:
            message = self._author.pacs008(self._author.transfer(amount="25000.00"))
        elif kind < _LARGE + _TREASURY:
            message = self._author.pacs009()
        else:
            message = self._author.pacs008()
        careful = _OF - kind <= _CONSISTENT
        return Sent(message, self._careful if careful else self._plain, str(uuid4()))

    # -- one payment --

    async def _pay(self, sent: Sent) -> None:
        transaction = await self._submit(sent)
        while True:
            transaction = await self._to_the_end(sent, transaction)
            if transaction.transaction_code != RECOVERED:
                break
            self.tally["cancelled by the takeover"] += 1
            transaction = await self._redrive(sent, transaction)
        await self.look_up(transaction.transaction_id, sent.caller)

    async def _submit(self, sent: Sent) -> Transaction:
        content, names = sent.message.content, _names(sent.message)
        async with self._patiently():
            while True:
                self._log.sent(self.home, content=content, consistency=sent.caller.consistency, **names)
                try:
                    told = await sent.caller.client.submit(content, idempotency_key=sent.key)
                except DependencyError as exc:
                    # Stored or not: the same key again can do no harm where it was.
                    self._log.unknown(_called.get(self.home), note=f"{exc.code}: {exc}", **names)
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                self._log.acknowledged(
                    _called.get(), transaction=told.transaction_id, consistency=sent.caller.consistency,
                    replicated=told.replicated, fencing=told.fencing, status=str(told.status), **names,
                )  # fmt: skip
                self.known[told.transaction_id] = None
                self.tally["acknowledged"] += 1
                return told

    async def _to_the_end(self, sent: Sent, transaction: Transaction) -> Transaction:
        """The transaction once it has ended; decided on where that is wanted."""
        client, id_ = sent.caller.client, transaction.transaction_id
        async with self._patiently():
            while not transaction.final:
                if transaction.held == "decision":
                    await asyncio.sleep(self._luck.uniform(*_THINKING_SECONDS))
                    await self._accept(sent, id_)
                transaction = await self._again(lambda: client.wait(id_, seconds=_WAIT_SECONDS))
        self._log.answered(_called.get(), transaction=id_, status=str(transaction.status))
        return transaction

    async def _accept(self, sent: Sent, id_: UUID) -> None:
        try:
            await self._again(lambda: sent.caller.client.accept(id_, by="desk"))
        except ConflictError as exc:
            # A takeover came first: what it made of the payment is seen next.
            self._log.refused(_called.get(), transaction=id_, note=f"{exc.code}: {exc}")
            return
        self._log.decided(_called.get(), transaction=id_, decision="accept")
        self.tally["decided"] += 1

    async def _redrive(self, sent: Sent, cancelled: Transaction) -> Transaction:
        """The next attempt at what was cancelled because its region was lost."""
        client, id_ = sent.caller.client, cancelled.transaction_id
        async with self._patiently():
            redriven = await self._attempt(client, id_)
            while redriven is None:
                await asyncio.sleep(_PAUSE_SECONDS)
                redriven = await self._attempt(client, id_)
        self._log.redriven(
            _called.get(), transaction=redriven.transaction_id, redrive_of=id_, attempt=redriven.attempt,
            status=str(redriven.status), replicated=redriven.replicated, fencing=redriven.fencing,
        )  # fmt: skip
        self.known[redriven.transaction_id] = None
        self.tally["redriven"] += 1
        return redriven

    async def _attempt(self, client: AsyncClient, id_: UUID) -> Transaction | None:
        """A redrive; None where it is not known, or not now."""
        try:
            return await client.redrive(id_, by="desk")
        except (OutcomeUnknown, ConflictError):
            # It may have gone through before, and only the word of it was lost.
            known = await self._again(lambda: client.status(id_))
            newest = known.redriven_as
            return None if newest is None else await self._again(lambda: client.status(newest))
        except DependencyError as exc:
            self._log.refused(_called.get(self.home), redrive_of=id_, note=f"{exc.code}: {exc}")
            return None

    async def look_up(self, id_: UUID, caller: Caller | None = None) -> None:
        """Read how it stands, and its answer, once more."""
        client = (caller or self._plain).client
        try:
            answer = await self._again(lambda: client.answer(id_))
        except NoAnswer:
            found = await self._again(lambda: client.status(id_))
            self._log.answered(_called.get(), transaction=id_, status=str(found.status))
        else:
            self._log.answered(_called.get(), transaction=id_, content=answer)
            self.tally["answers read"] += 1

    # -- patience --

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result, asked for again while a region is being lost or found."""
        while True:
            try:
                return await call()
            except DependencyError:
                await asyncio.sleep(_PAUSE_SECONDS)

    @asynccontextmanager
    async def _patiently(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                yield
        except TimeoutError as exc:
            raise InterlockError(f"given up after {_PATIENCE_SECONDS:g} s") from exc


def _names(message: Message) -> _Names:
    transfer = message.transfers[0]
    return {"message": message.message_id, "uetr": transfer.uetr, "end_to_end": transfer.end_to_end_id}
