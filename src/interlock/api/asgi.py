"""Tells requests apart: the hot calls go straight to their endpoint, the wide rest of v1 to FastAPI.

Owns: which path belongs to which face, the bounds around every request, and that every request is answered.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from interlock import __version__
from interlock.api import openapi, problems, reference, tokens
from interlock.api.abroad import Abroad
from interlock.api.access import Access
from interlock.api.dials import Dials
from interlock.api.exchange import (
    JSON,
    ClientGone,
    Intake,
    Message,
    Receive,
    Request,
    Response,
    Scope,
    Send,
)
from interlock.api.forwarding import Peers
from interlock.api.health import Health
from interlock.api.messages import Messages, Patience
from interlock.api.metrics import Metrics, Regional
from interlock.api.reference import Reference
from interlock.api.regions import healthy
from interlock.api.tokens import Tokens
from interlock.api.v1 import REQUEST, make_v1
from interlock.api.views import Views
from interlock.app import Interlock
from interlock.auth import Throttle
from interlock.config import Config
from interlock.errors import ConfigError, InterlockError

if TYPE_CHECKING:
    from interlock.tracing import Tracing

Refuse = Callable[[Request, InterlockError], Response]

#: Paths below these are FastAPI's.
_WIDE = ("/v1/", "/problems/")
#: What machines ask for again and again, which no trace is about.
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_HTML = (b"content-type", b"text/html; charset=utf-8")


class Endpoint(NamedTuple):
    """What answers a call, and what tells its caller of errors."""

    answer: Callable[[Request], Awaitable[Response]]
    refuse: Refuse = problems.refuse


class Served(NamedTuple):
    """How a request was answered."""

    route: str
    status: int


def make_tracing(config: Config) -> "Tracing | None":
    """Traces, where the operator wants them. Raises ConfigError where OpenTelemetry is not installed."""
    if not config.otlp_endpoint:
        return None
    try:
        from interlock.tracing import to_collector
    except ImportError as exc:
        raise ConfigError(f"otlp_endpoint: traces need OpenTelemetry; install interlock[otel] ({exc})") from exc
    return to_collector(config.otlp_endpoint, version=__version__, region=config.region)


class Faces:
    """The ASGI application."""

    def __init__(self, interlock: Interlock, *, endpoint: str) -> None:
        """endpoint: host name, and port where it matters, that clients reach this region by."""
        config, workflow = interlock.config, interlock.workflow
        self._workflow = workflow
        workflow.traces.tracing = make_tracing(config)
        self.intake = Intake(config)
        self.patience = Patience(workflow.reading, config.wait_seconds_max)
        access = Access(interlock.authority)
        routes = config.choice_of_routes()
        dials = Dials(
            workflow.concluding,
            interlock.acks,
            routes,
            seconds=config.replicated_within_seconds,
            peers=len(config.regions),
        )
        names = {config.region_number: config.region} | {peer.number: name for name, peer in config.regions.items()}
        views = Views(names, dials.distance)
        self.peers = Peers(config, workflow.ownership)
        if config.is_regional:
            workflow.enquiries.abroad = Abroad(self.peers, interlock.authority)
        health = Health(interlock.journal)
        health.is_fenced = lambda: interlock.store.post.fenced
        health.is_stopping = self.patience.stopping.is_set
        throttle = Throttle(config.token_calls_per_minute, interlock.clock)
        self.metrics = Metrics(
            interlock.store, interlock.journal, workflow, interlock.deadlines, interlock.clock, self.intake, access,
            interlock.acks,
        )  # fmt: skip
        face = Reference(
            workflow, access, self.intake, health,
            region=config.region, endpoint=endpoint, doubly_encoded=config.outbox_format == "reference", dials=dials,
        )  # fmt: skip
        if config.is_regional:
            face.others = partial(healthy, interlock, self.peers)
            self.metrics.regional = Regional(
                {number: name for number, name in names.items() if number != config.region_number},
                sum(peer.guard for peer in config.regions.values()),
                lambda: self.peers.conditions(workflow.ownership.taken),
                interlock.keeper,
            )
        messages = Messages(workflow, access, self.intake, self.patience, views, dials)
        self._authority = interlock.authority
        self._hot: Mapping[tuple[str, str], Endpoint] = {
            ("GET", "/uuid"): Endpoint(face.issue, face.refuse),
            ("POST", "/inbox"): Endpoint(face.receive, face.refuse_inbox),
            ("POST", "/outbox"): Endpoint(face.collect, face.refuse_outbox),
            ("GET", "/"): Endpoint(face.look, face.refuse),
            ("HEAD", "/"): Endpoint(face.look, face.refuse),
            ("POST", "/v1/messages"): Endpoint(messages.submit),
            ("POST", "/oauth2/token"): Endpoint(Tokens(interlock.authority, self.intake, throttle).give, tokens.refuse),
            ("GET", "/healthz"): Endpoint(health.alive),
            ("GET", "/readyz"): Endpoint(health.ready),
            ("GET", "/metrics"): Endpoint(self.metrics.show),
            ("GET", "/.well-known/jwks.json"): Endpoint(self._jwks),
            ("GET", "/openapi.json"): Endpoint(self._openapi),
            ("GET", "/docs"): Endpoint(self._docs),
        }
        self._hot_paths = frozenset(path for _, path in self._hot)
        self._wide = make_v1(interlock, access, self.patience, views, peers=self.peers, endpoint=endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        assert scope["type"] == "http"  # the server speaks nothing else
        request = Request(scope, receive, perf_counter())
        tracing = self._workflow.traces.tracing
        if tracing is None or request.path in _PROBES:
            await self._serve(request, send)
            return
        with tracing.request(scope["method"], scope["headers"]) as answered:
            served = await self._serve(request, send)
            if served is not None:
                answered(*served)

    async def _serve(self, request: Request, send: Send) -> Served | None:
        """Answer a request; None where its caller has gone."""
        method, path = request.scope["method"], request.path
        hot = self._hot.get((method, path))
        try:
            if hot is None and path.startswith(_WIDE) and path not in self._hot_paths:
                return await self._answer_wide(request, send)
            response = await self._answer(request, hot or self._elsewhere(method, path))
            served = Served(path if hot else "other", response.status)
            self.metrics.requests[method, *served] += 1
            await request.respond(send, response)
        except ClientGone:
            return None
        return served

    async def _answer(self, request: Request, endpoint: Endpoint) -> Response:
        try:
            self.intake.enter()
        except InterlockError as exc:
            return endpoint.refuse(request, exc)
        try:
            region = await self.peers.elsewhere(request)
            if region is not None:
                body = await self.intake.read(request) if request.has_body else b""
                return await self.peers.forward(request, body, region)
            return await endpoint.answer(request)
        except InterlockError as exc:
            return endpoint.refuse(request, exc)
        except ClientGone:
            raise
        except Exception as exc:  # noqa: BLE001 - every request is answered
            return endpoint.refuse(request, problems.unexpected(request, exc))
        finally:
            self.intake.leave(request)

    def _elsewhere(self, method: str, path: str) -> Endpoint:
        """What answers where no endpoint is."""
        allowed = sorted({known for known, hot in self._hot if hot == path})

        async def answer(request: Request) -> Response:
            if method == "OPTIONS" and allowed:
                return reference.preflight(allowed)
            if not allowed or path in reference.PATHS:
                return reference.unknown_path(request)
            refusal = problems.refuse(request, problems.MethodNotAllowed(f"{path} takes {', '.join(allowed)}"))
            return refusal._replace(headers=(*refusal.headers, (b"allow", ", ".join(allowed).encode())))

        return Endpoint(answer)

    async def _jwks(self, _: Request) -> Response:
        headers = (JSON, (b"cache-control", b"max-age=60"))
        return Response(200, headers, msgspec.json.encode(self._authority.jwks()))

    async def _openapi(self, _: Request) -> Response:
        return Response(200, (JSON,), msgspec.json.encode(openapi.document_of(self._wide)))

    async def _docs(self, _: Request) -> Response:
        return Response(200, (_HTML,), openapi.page_of(openapi.document_of(self._wide)).encode())

    # -- the wide rest --

    async def _answer_wide(self, request: Request, send: Send) -> Served:
        """Read the body within our bounds, then let FastAPI answer."""
        started = [0]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                started[0] = message["status"]
            await send(message)

        async def answer(request: Request) -> Response:
            request.scope[REQUEST] = request
            body = await self.intake.read(request) if request.has_body else b""
            await self._wide(request.scope, _replay(request, body), counted)
            return Response(started[0], (), b"")

        response = await self._answer(request, Endpoint(answer))
        if not started[0]:
            await request.respond(send, response)
        served = Served(getattr(request.scope.get("route"), "path", "other"), response.status)
        self.metrics.requests[request.scope["method"], *served] += 1
        return served


def _replay(request: Request, body: bytes) -> Receive:
    """The body again, as if it had just come."""
    parts = [body]

    async def receive() -> Message:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        try:
            return await request.next_message()
        except ClientGone:
            return {"type": "http.disconnect"}

    return receive
