"""The two thin drivers of `flows`: they send requests over httpx and wait, and decide nothing."""

import asyncio
import functools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack
from uuid import UUID, uuid4  # noqa: TID251 - the client makes its own idempotency keys

import httpx

from interlock.client.flows import Flow, Flows, Lost, Pause, Reply, Request, Response, Settings
from interlock.client.records import Filter, Payment, Transaction
from interlock.iso20022.codes import Status

P = ParamSpec("P")
T = TypeVar("T")

#: Never reached the server: sending it again can do no harm.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def _blocking(call: Callable[Concatenate[Flows, P], Flow[T]]) -> Callable[Concatenate["Client", P], T]:
    """The flow as a method that blocks."""

    @functools.wraps(call)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(call(self._flows, *args, **kwargs))

    return method


def _awaiting(call: Callable[Concatenate[Flows, P], Flow[T]]) -> Callable[Concatenate["AsyncClient", P], Awaitable[T]]:
    """The flow as a coroutine method."""

    @functools.wraps(call)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(call(self._flows, *args, **kwargs))

    return method


def _flows(settings: Settings) -> Flows:
    def new_key() -> str:
        return str(uuid4())

    return Flows(settings, clock=time.monotonic, dice=random.SystemRandom(), new_key=new_key)


def _bases(url: str | Sequence[str]) -> Sequence[str]:
    return (url,) if isinstance(url, str) else url


def _arguments(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.path,
        "headers": dict(request.headers),
        "params": list(request.params),
        "content": request.content,
        "timeout": request.timeout,
    }


def _response(response: httpx.Response) -> Response:
    return Response(response.status_code, response.headers, response.content)


def _lost(exc: httpx.TransportError) -> Lost:
    return Lost(str(exc) or type(exc).__name__, sent=not isinstance(exc, _UNSENT))


class Client:
    """Talks to an Interlock server; every method blocks until there is a result. Use it as a context manager.

    Threads may share one. Arguments: see `Settings`; url: of the server, or of several, one a region, of which another
    is called where one does not answer; transport is httpx's, for tests.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        client_id: str,
        client_secret: str,
        *,
        patience: float = 30.0,
        timeout: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        settings = Settings(client_id=client_id, client_secret=client_secret, patience=patience, timeout=timeout)
        self._flows = _flows(settings)
        self._https = [httpx.Client(base_url=base, transport=transport) for base in _bases(url)]

    submit = _blocking(Flows.submit)
    wait = _blocking(Flows.wait)
    status = _blocking(Flows.status)
    events = _blocking(Flows.events)
    payments_page = _blocking(Flows.payments_page)
    page = _blocking(Flows.page)
    accept = _blocking(Flows.accept)
    reject = _blocking(Flows.reject)
    cancel = _blocking(Flows.cancel)
    decide = _blocking(Flows.decide)
    redrive = _blocking(Flows.redrive)
    redrive_all = _blocking(Flows.redrive_all)
    answer = _blocking(Flows.answer)
    message = _blocking(Flows.message)
    validate = _blocking(Flows.validate)

    def payments(self, transaction_id: UUID | str, *, status: Status | str | None = None) -> Iterator[Payment]:
        """Every payment of a message, in their order, fetched page by page. status: only those that have it."""
        after: int | None = 0
        while after is not None:
            page = self.payments_page(transaction_id, after=after, status=status)
            yield from page.payments
            after = page.next

    def find(self, **filters: Unpack[Filter]) -> Iterator[Transaction]:
        """Every transaction that matches, newest first, fetched page by page; filters as `page` takes them."""
        while True:
            page = self.page(**filters)
            yield from page.transactions
            if page.next is None:
                return
            filters["cursor"] = page.next

    def close(self) -> None:
        """Give the connections back."""
        for http in self._https:
            http.close()

    def __enter__(self) -> Self:
        """Nothing to be opened: connections are made when needed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        reply: Reply | None = None
        try:
            while True:
                step = flow.send(reply)
                reply = None
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                else:
                    reply = self._send(step)
        except StopIteration as done:
            result: T = done.value
            return result

    def _send(self, request: Request) -> Reply:
        try:
            http = self._https[request.server % len(self._https)]
            return _response(http.request(**_arguments(request)))
        except httpx.TransportError as exc:
            return _lost(exc)


class AsyncClient:
    """`Client` for asyncio: the same methods, awaited; `find` is an asynchronous iterator."""

    def __init__(
        self,
        url: str | Sequence[str],
        client_id: str,
        client_secret: str,
        *,
        patience: float = 30.0,
        timeout: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        settings = Settings(client_id=client_id, client_secret=client_secret, patience=patience, timeout=timeout)
        self._flows = _flows(settings)
        self._https = [httpx.AsyncClient(base_url=base, transport=transport) for base in _bases(url)]

    submit = _awaiting(Flows.submit)
    wait = _awaiting(Flows.wait)
    status = _awaiting(Flows.status)
    events = _awaiting(Flows.events)
    payments_page = _awaiting(Flows.payments_page)
    page = _awaiting(Flows.page)
    accept = _awaiting(Flows.accept)
    reject = _awaiting(Flows.reject)
    cancel = _awaiting(Flows.cancel)
    decide = _awaiting(Flows.decide)
    redrive = _awaiting(Flows.redrive)
    redrive_all = _awaiting(Flows.redrive_all)
    answer = _awaiting(Flows.answer)
    message = _awaiting(Flows.message)
    validate = _awaiting(Flows.validate)

    async def payments(
        self, transaction_id: UUID | str, *, status: Status | str | None = None
    ) -> AsyncIterator[Payment]:
        """Every payment of a message, in their order, fetched page by page. status: only those that have it."""
        after: int | None = 0
        while after is not None:
            page = await self.payments_page(transaction_id, after=after, status=status)
            for payment in page.payments:
                yield payment
            after = page.next

    async def find(self, **filters: Unpack[Filter]) -> AsyncIterator[Transaction]:
        """Every transaction that matches, newest first, fetched page by page; filters as `page` takes them."""
        while True:
            page = await self.page(**filters)
            for transaction in page.transactions:
                yield transaction
            if page.next is None:
                return
            filters["cursor"] = page.next

    async def close(self) -> None:
        """Give the connections back."""
        for http in self._https:
            await http.aclose()

    async def __aenter__(self) -> Self:
        """Nothing to be opened: connections are made when needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        reply: Reply | None = None
        try:
            while True:
                step = flow.send(reply)
                reply = None
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                else:
                    reply = await self._send(step)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _send(self, request: Request) -> Reply:
        try:
            http = self._https[request.server % len(self._https)]
            return _response(await http.request(**_arguments(request)))
        except httpx.TransportError as exc:
            return _lost(exc)
