"""Traces: whose trace a request is in, which spans it has, what they say, and what becomes of them."""

import asyncio
import http.server
import io
import logging
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from interlock import tracing
from interlock.api import logs
from interlock.api.asgi import Faces, make_tracing
from interlock.app import Interlock
from interlock.auth import Scope
from interlock.config import Config, RouteConfig
from interlock.errors import ConfigError, StoreUnavailable
from interlock.routes import DecisionRule
from interlock.tracing import Tracing
from tests.messages import CREDITOR_IBAN, DEBTOR_IBAN, Transfer, pacs008

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
OTHERS = {"traceparent": "00-11111111111111111111111111111111-2222222222222222-01"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# -- an Interlock whose spans are seen --------------------------------------------------------------------------------


class Spans:
    """The spans that have ended, in that order."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(SimpleSpanProcessor(self.exporter))

    def all(self) -> Sequence[ReadableSpan]:
        """All of them."""
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> Sequence[ReadableSpan]:
        """Those of a name."""
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The one of that name."""
        (found,) = self.named(name)
        return found


@dataclass
class Traced:
    """A running Interlock with its faces, and one client's way to them."""

    interlock: Interlock
    spans: Spans
    http: httpx.AsyncClient

    async def submit(self, message: bytes | None = None, headers: Mapping[str, str] | None = None) -> str:
        """`POST /v1/messages`; the transaction's id."""
        response = await self.http.post("/v1/messages", content=message or pacs008(), headers=headers)
        assert response.status_code in (200, 202), response.text
        return str(response.json()["transaction_id"])


@asynccontextmanager
async def traced(folder: Path, **settings: Any) -> AsyncIterator[Traced]:
    """One over a fresh folder."""
    interlock = Interlock(Config(data=folder / "data", **settings))
    await interlock.start()
    try:
        spans = Spans()
        faces = Faces(interlock, endpoint="interlock.test")
        interlock.workflow.traces.tracing = spans.tracing
        client, _ = await interlock.authority.add_client("alice", (Scope.READ, Scope.WRITE))
        token = (await interlock.authority.issue(client)).text
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=faces),
            base_url="http://interlock.test",
            headers={"Authorization": f"Bearer {token}"},
        ) as caller:
            yield Traced(interlock, spans, caller)
    finally:
        await interlock.stop()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def context(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


# -- within a request -------------------------------------------------------------------------------------------------


async def test_a_message_is_seen_in_its_callers_trace_from_request_to_commit(tmp_path: Path) -> None:
    """The request is a child of the caller's span, and its steps are children of the request, in order."""
    async with traced(tmp_path) as t:
        id_ = await t.submit(headers={**TRACEPARENT, "tracestate": "vendor=1"})
        *steps, request = t.spans.all()
        assert [span.name for span in steps] == ["inspect", "commit"]
        assert request.name == "POST /v1/messages"
        assert request.kind is SpanKind.SERVER
        assert request.context is not None
        assert f"{request.context.trace_id:032x}" == TRACE
        assert request.context.trace_state.get("vendor") == "1"
        assert request.parent is not None
        assert f"{request.parent.span_id:016x}" == PARENT
        assert attributes(request) == {
            "http.request.method": "POST",
            "url.scheme": "http",
            "http.route": "/v1/messages",
            "http.response.status_code": 200,
            "interlock.transaction": id_,
        }
        for step in steps:
            assert step.parent is not None
            assert (step.parent.trace_id, step.parent.span_id) == context(request)
        assert not get_current_span().get_span_context().is_valid


async def test_steps_say_what_came_of_them(tmp_path: Path) -> None:
    """The definition and findings of an inspection; of a commit the transaction, its status, and its batch."""
    async with traced(tmp_path) as t:
        message = pacs008()
        id_ = await t.submit(message)
        assert attributes(t.spans.one("inspect")) == {
            "interlock.definition": "pacs.008.001.08",
            "interlock.bytes": len(message),
            "interlock.findings": 0,
        }
        said = attributes(t.spans.one("commit"))
        assert said.pop("interlock.batch.seconds") > 0
        assert said.pop("interlock.client").startswith("c_")
        assert said == {
            "interlock.transaction": id_,
            "interlock.status": "ACSC",
            "interlock.definition": "pacs.008.001.08",
            "interlock.batch.writes": 1,
            "interlock.outcome": "Won",
        }


async def test_each_commit_says_how_large_its_own_batch_was(tmp_path: Path) -> None:
    """Also where many come at once: those of one batch say the same of it, and they are as many as it was large."""
    async with traced(tmp_path) as t:
        before = t.interlock.journal.tally.batches
        await asyncio.gather(*(t.submit() for _ in range(20)))
        batches = [
            (attributes(span)["interlock.batch.seconds"], attributes(span)["interlock.batch.writes"])
            for span in t.spans.named("commit")
        ]
        assert len(batches) == 20
        assert all(number == size for (_, size), number in Counter(batches).items())
        assert len(set(batches)) == t.interlock.journal.tally.batches - before


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01")],
        [("traceparent", "nonsense")],
        [("traceparent", TRACEPARENT["traceparent"]), ("traceparent", OTHERS["traceparent"])],
    ],
    ids=["none", "no trace", "nonsense", "two"],
)
async def test_without_one_good_parent_a_request_begins_a_trace(tmp_path: Path, headers: list[tuple[str, str]]) -> None:
    """Whatever a caller sends instead of a parent, the request is served and has a trace of its own."""
    async with traced(tmp_path) as t:
        assert (await t.http.get("/v1/me", headers=headers)).status_code == 200
        request = t.spans.one("GET /v1/me")
        assert request.parent is None
        assert f"{context(request)[0]:032x}" not in (TRACE, "0" * 32)


async def test_states_of_several_headers_are_one(tmp_path: Path) -> None:
    """RFC 9110 lets a list be sent as several fields."""
    async with traced(tmp_path) as t:
        given = [*TRACEPARENT.items(), ("tracestate", "a=1"), ("tracestate", "b=2")]
        await t.http.get("/v1/me", headers=given)
        request = t.spans.one("GET /v1/me")
        assert request.context is not None
        assert dict(request.context.trace_state) == {"a": "1", "b": "2"}


async def test_what_its_caller_does_not_sample_is_not_recorded(tmp_path: Path) -> None:
    """The caller's decision holds for all of its trace."""
    async with traced(tmp_path) as t:
        await t.submit(headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        assert t.spans.all() == ()


async def test_probes_are_not_traced(tmp_path: Path) -> None:
    """What machines ask every second is no news."""
    async with traced(tmp_path) as t:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await t.http.get(path)).status_code == 200
        assert t.spans.all() == ()


async def test_a_span_names_the_route_and_not_the_path(tmp_path: Path) -> None:
    """Paths and queries hold what clients know payments by; and anything at all where nothing is there."""
    async with traced(tmp_path) as t:
        id_ = await t.submit()
        for path, route, status in (
            (f"/v1/transactions/{id_}?", "/v1/transactions/{transaction_id}", 200),
            ("/v1/transactions?end_to_end_id=SECRET", "/v1/transactions", 200),
            ("/SECRET", "other", 403),
        ):
            assert (await t.http.get(path)).status_code == status
            request = t.spans.all()[-1]
            assert request.name == f"GET {route}"
            assert attributes(request)["http.response.status_code"] == status
        assert "SECRET" not in repr([attributes(span) for span in t.spans.all()])


async def test_nothing_that_a_client_sent_is_in_a_span(tmp_path: Path) -> None:
    """No amount, name, account, or reference of a message, of a good one and of a bad one."""
    async with traced(tmp_path) as t:
        for amount in ("1234.56", "1234.5678"):
            transfer = Transfer(amount=amount)
            message = pacs008(transfer, message_id="MSGID-SECRET")
            id_ = await t.submit(message, {"X-Client-Reference": "REF-SECRET", "Idempotency-Key": amount})
            await t.http.get(f"/v1/transactions/{id_}/messages/outbox")
            secrets = (
                "1234", "Synthetic", DEBTOR_IBAN, CREDITOR_IBAN, "SECRET", transfer.end_to_end_id,
                transfer.transaction_id, str(transfer.uetr),
            )  # fmt: skip
            seen = "\n".join(span.to_json() for span in t.spans.all())
            assert [secret for secret in secrets if secret in seen] == []
            assert len(t.spans.named("deliver")) > 0


async def test_a_refusal_is_no_error_of_ours(tmp_path: Path) -> None:
    """What the caller must mend leaves the span's status unset; a message that is rejected has its reason."""
    async with traced(tmp_path) as t:
        assert (await t.http.get(f"/v1/transactions/{uuid4()}")).status_code == 404
        assert t.spans.all()[-1].status.status_code is StatusCode.UNSET
        await t.submit(b"<nonsense/>")
        commit = t.spans.one("commit")
        assert (attributes(commit)["interlock.status"], commit.status.status_code) == ("RJCT", StatusCode.UNSET)
        assert attributes(commit)["interlock.reason"]


async def test_a_failure_of_ours_is_an_error_and_its_text_stays_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that failed and the request that it failed say by a code what it was."""
    async with traced(tmp_path) as t:

        def fail(*_: object) -> None:
            raise StoreUnavailable("SECRET")

        monkeypatch.setattr(t.interlock.store, "commit", fail)
        response = await t.http.post("/v1/messages", content=pacs008())
        assert response.status_code == 503
        commit, request = t.spans.one("commit"), t.spans.one("POST /v1/messages")
        assert attributes(commit)["error.type"] == "store_unavailable"
        assert attributes(request)["error.type"] == "503"
        for span in (commit, request):
            assert span.status.status_code is StatusCode.ERROR
            assert span.status.description is None
            assert span.events == ()


# -- from one request to the next -------------------------------------------------------------------------------------


async def test_a_delivery_is_linked_to_the_submission(tmp_path: Path) -> None:
    """Whoever fetches the answer in another trace finds the request that brought the message."""
    async with traced(tmp_path) as t:
        id_ = await t.submit(headers=TRACEPARENT)
        brought = context(t.spans.one("POST /v1/messages"))
        outbox = f"/v1/transactions/{id_}/messages/outbox"
        assert (await t.http.get(outbox, headers=OTHERS)).status_code == 200
        deliver = t.spans.one("deliver")
        assert links(deliver) == [brought]
        assert f"{context(deliver)[0]:032x}" == OTHERS["traceparent"][3:35]
        assert attributes(deliver)["interlock.transaction"] == id_
        t.spans.exporter.clear()
        await t.http.get(outbox, headers=TRACEPARENT)
        assert links(t.spans.one("deliver")) == []  # of one trace anyhow


async def test_the_reference_surface_is_linked_call_by_call(tmp_path: Path) -> None:
    """The message to the call that gave the id, the answer to the call that brought the message."""
    async with traced(tmp_path) as t:
        id_ = (await t.http.get("/uuid")).json()["transaction_id"]
        given = {"X-Transaction-Id": id_}
        assert (await t.http.post("/inbox", content=pacs008(), headers=given)).status_code == 200
        assert (await t.http.post("/outbox", headers=given)).status_code == 200
        issued, received = t.spans.named("commit")
        assert links(issued) == []
        assert links(received) == [context(t.spans.one("GET /uuid"))]
        assert links(t.spans.one("deliver")) == [context(t.spans.one("POST /inbox"))]


async def test_a_decision_is_linked_to_the_submission(tmp_path: Path) -> None:
    """The consumer who accepts comes in a trace of its own."""
    routes = {"default": RouteConfig(decision=DecisionRule.CONSUMER)}
    async with traced(tmp_path, routes=routes) as t:
        id_ = await t.submit()
        t.spans.exporter.clear()
        path = f"/v1/transactions/{id_}/decisions"
        response = await t.http.post(path, json={"decision": "accept"})
        assert response.json()["status"] == "ACSC", response.text
        commit = t.spans.one("commit")
        assert len(links(commit)) == 1
        assert commit.parent is not None
        assert commit.parent.span_id == context(t.spans.one("POST /v1/transactions/{transaction_id}/decisions"))[1]


async def test_a_redrive_is_linked_to_what_it_drives_again(tmp_path: Path) -> None:
    """And what follows it to the redrive."""
    routes = {"default": RouteConfig(decision=DecisionRule.CONSUMER)}
    async with traced(tmp_path, routes=routes) as t:
        id_ = await t.submit()
        brought = context(t.spans.one("POST /v1/messages"))
        again = ""
        for decision in ("cancel", "redrive", "cancel"):
            t.spans.exporter.clear()
            reason = {"reason": "CUST"} if decision == "cancel" else {}
            path = f"/v1/transactions/{again or id_}/decisions"
            response = await t.http.post(path, json={"decision": decision, **reason})
            assert response.is_success, response.text
            again = response.json()["transaction_id"]
            assert links(t.spans.one("commit")) == [brought]
            if decision == "redrive":
                brought = context(t.spans.one("POST /v1/transactions/{transaction_id}/decisions"))
        assert again != id_


async def test_a_deadline_is_linked_to_the_submission(tmp_path: Path) -> None:
    """What nobody asked for has a trace of its own, with all its steps."""
    routes = {"default": RouteConfig(decision=DecisionRule.CONSUMER, decide_within_seconds=0.05)}
    async with traced(tmp_path, routes=routes) as t:
        id_ = await t.submit()
        brought = context(t.spans.one("POST /v1/messages"))
        held = await t.interlock.workflow.reading.get(None, UUID(id_))
        assert (await t.interlock.workflow.reading.until_end(held, 10)).reason == "AB06"
        commit, expire = t.spans.all()[-2:]
        assert (commit.name, expire.name, expire.parent) == ("commit", "expire", None)
        assert links(expire) == links(commit) == [brought]
        assert commit.parent is not None
        assert commit.parent.span_id == context(expire)[1]


async def test_what_is_remembered_of_requests_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go; a delivery of theirs has no link, and is made all the same."""
    monkeypatch.setattr(tracing, "_REQUESTS_MAX", 2)
    async with traced(tmp_path) as t:
        ids = [await t.submit() for _ in range(3)]
        for id_ in ids:
            assert (await t.http.get(f"/v1/transactions/{id_}/messages/outbox")).status_code == 200
        assert [len(links(span)) for span in t.spans.named("deliver")] == [0, 1, 1]


# -- switched off -----------------------------------------------------------------------------------------------------


def test_without_a_collector_nothing_of_opentelemetry_is_loaded() -> None:
    """A server that does not trace needs neither the extra nor the memory for it."""
    script = "import sys, interlock.api.server; print({'opentelemetry.sdk', 'interlock.tracing'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
    assert make_tracing(Config()) is None


def test_a_collector_without_the_extra_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the setting and what to install."""
    monkeypatch.setitem(sys.modules, "interlock.tracing", None)
    with pytest.raises(ConfigError, match=r"otlp_endpoint: .*interlock\[otel\]"):
        make_tracing(Config(otlp_endpoint="http://127.0.0.1:4318"))


@pytest.mark.parametrize("value", ["127.0.0.1:4318", "grpc://collector:4317"])
def test_an_endpoint_that_is_no_url_of_http_is_refused(value: str) -> None:
    """It would only be noticed by the traces that never came."""
    with pytest.raises(ValueError, match="http://"):
        Config(otlp_endpoint=value)


# -- to a collector ---------------------------------------------------------------------------------------------------


@dataclass
class Collector:
    """A little OTLP/HTTP collector."""

    url: str
    #: What it answers with.
    status: int = 200
    paths: list[str] = field(default_factory=list)
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of all spans that came."""
        return [
            span.name
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """One that runs."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.paths.append(self.path)
            if found.status == 200:
                found.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Tracing]]:
    """Makes tracing to a collector, as a server does; what that changes in this process is put back."""
    made: list[Tracing] = []
    processors = structlog.get_config()["processors"]
    monkeypatch.setattr("atexit.register", lambda _: None)

    def make(url: str) -> Tracing:
        found = make_tracing(Config(otlp_endpoint=url, region="north"))
        assert found is not None
        made.append(found)
        return found

    yield make
    for found in made:
        found.stop()
    structlog.configure(processors=processors)
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


@pytest.mark.parametrize("path", ["", "/", "/v1/traces"])
def test_a_collector_is_told_by_otlp(collector: Collector, sent: Callable[[str], Tracing], path: str) -> None:
    """Over HTTP, with or without the path in the setting, with what this process is; at the latest at its end."""
    tracing = sent(collector.url + path)
    with tracing.request("POST", [(b"traceparent", TRACEPARENT["traceparent"].encode())]) as answered:
        with tracing.step("commit", uuid4()):
            pass
        answered("/v1/messages", 200)
    tracing.stop()
    assert collector.paths == ["/v1/traces"]
    assert collector.names == ["commit", "POST /v1/messages"]
    (resource,) = collector.requests[0].resource_spans
    said = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert (said["service.name"], said["interlock.region"]) == ("interlock", "north")
    assert said["service.version"]
    assert said["service.instance.id"]
    assert {span.trace_id.hex() for span in resource.scope_spans[0].spans} == {TRACE}


def test_the_environment_may_name_the_service(
    collector: Collector, sent: Callable[[str], Tracing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard variables come before our own words, and the sampler is theirs alone."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "payments-north")
    tracing = sent(collector.url)
    with tracing.step("commit"):
        pass
    tracing.stop()
    attributes = collector.requests[0].resource_spans[0].resource.attributes
    assert "payments-north" in {item.value.string_value for item in attributes if item.key == "service.name"}
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    silent = sent(collector.url)
    with silent.step("commit"):
        pass
    silent.stop()
    assert len(collector.requests) == 1


def test_a_log_line_names_its_span(collector: Collector, sent: Callable[[str], Tracing]) -> None:
    """Once traces are made, so that one leads to the other; outside of any span a line is as it was."""
    logs.configure("info", "json")
    told = io.StringIO()
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(told))
    tracing = sent(collector.url)
    log = structlog.get_logger()
    with tracing.request("POST", [(b"traceparent", TRACEPARENT["traceparent"].encode())]):
        log.info("within")
    log.info("without")
    within, without = told.getvalue().splitlines()
    assert f'"trace_id": "{TRACE}"' in within
    assert '"span_id": "' in within
    assert "trace_id" not in without
    structlog.reset_defaults()


class Scripted(SpanExporter):
    """Does with each batch what the next one of a list says."""

    def __init__(self, *results: SpanExportResult) -> None:
        self._results = list(results)
        self.batches = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        self.batches += 1
        return self._results.pop(0)


def test_a_collector_that_is_away_is_told_of_once() -> None:
    """And once that it is back, with how much was dropped."""
    ok, failed = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
    sender = tracing._Sender(Scripted(ok, failed, failed, ok, ok))
    (span,) = _ended()
    with structlog.testing.capture_logs() as told:
        for _ in range(5):
            sender.export([span] * 10)
    assert [(line["event"], line.get("spans_dropped")) for line in told] == [
        ("traces cannot be sent, and are dropped", None),
        ("traces are sent again", 20),
    ]


def test_at_the_end_there_is_a_time_to_give_up() -> None:
    """A collector that is away holds up no server's end: what is left after a moment is not tried any more."""
    exporter = Scripted()
    sender = tracing._Sender(exporter)
    sender.end_by = 0.0
    assert sender.export(_ended()) is SpanExportResult.FAILURE
    assert exporter.batches == 0


def _ended() -> Sequence[ReadableSpan]:
    spans = Spans()
    with spans.tracing.step("commit"):
        pass
    return spans.all()


def test_a_server_goes_on_while_the_collector_is_away(collector: Collector, sent: Callable[[str], Tracing]) -> None:
    """Spans beyond what is kept are dropped at once, and nobody waits; the rest is sent when it takes them again."""
    collector.status = 400  # not one that is tried again
    tracing = sent(collector.url)
    for _ in range(3000):
        with tracing.step("commit"):
            pass
    collector.status = 200
    tracing.stop()
    assert 0 < len(collector.names) < 3000


def test_the_last_spans_are_sent_at_the_end_of_the_process(collector: Collector) -> None:
    """A process that ends at once after a request has told of it: spans are sent before it is gone."""
    script = f"""
from interlock.tracing import to_collector
with to_collector({collector.url!r}, version="1", region="r").step("last"):
    pass
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert collector.names == ["last"]
