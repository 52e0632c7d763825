"""Traces for OpenTelemetry: from the caller's `traceparent` to the delivery of the answer.

Needs the extra `otel`, so it is imported only where a collector is configured; nobody else knows more of it than the
name of a type. Spans are sent in batches by a thread of their own, and what the collector does not take is dropped:
tracing never holds a payment up. Spans name transactions, clients, statuses and codes, never what clients sent: no path
or query, no amount, no name, no text of an error.

Owns: spans, and the memory of which request brought which transaction. Must not know: what a transaction is.
"""

import atexit
import contextlib
import logging
import os
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from uuid import UUID

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.typing import EventDict

_log = structlog.get_logger()

#: Told how a request was answered: the route, and the status.
Answered = Callable[[str, int], None]

_PARENT, _STATE = b"traceparent", b"tracestate"
_PATH = "/v1/traces"
_TRANSACTION = "interlock.transaction"
#: Requests that are remembered for the transaction they brought.
_REQUESTS_MAX = 16_384
#: The longest that one batch is tried for, and that spans are still sent at the end.
_SEND_SECONDS, _END_SECONDS = 3.0, 2.0


class Tracing:
    """Makes the spans of one process."""

    def __init__(self, processor: SpanProcessor, resource: Resource | None = None) -> None:
        """processor: gets each span that has ended. resource: what this process is."""
        # Its own end is bound to nothing; `stop` is.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("interlock")
        self._propagator = TraceContextTextMapPropagator()
        self._requests: OrderedDict[UUID, SpanContext] = OrderedDict()

    @contextlib.contextmanager
    def request(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[Answered]:
        """Around a request that is served; within its caller's trace where the headers name one."""
        span = self._tracer.start_span(
            method,
            self._propagator.extract(_carrier(headers)),
            SpanKind.SERVER,
            {"http.request.method": method, "url.scheme": "http"},
        )

        def answered(route: str, status: int) -> None:
            span.update_name(f"{method} {route}")
            span.set_attributes({"http.route": route, "http.response.status_code": status})
            if status >= 500:  # what is the caller's to mend is no error of ours
                span.set_attribute("error.type", str(status))
                span.set_status(StatusCode.ERROR)

        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield answered

    @contextlib.contextmanager
    def step(
        self,
        name: str,
        transaction: UUID | None = None,
        attributes: Mapping[str, str | int] | None = None,
        *,
        brings: bool = False,
        instead_of: UUID | None = None,
    ) -> Iterator[Span]:
        """Around a step of ours. One that concerns a transaction is linked to the request that brought it.

        brings: the present request is that one from now on. instead_of: another transaction that this one drives again,
        to whose request it is linked.
        """
        caller = trace.get_current_span()
        present = caller.get_span_context()
        if present.is_valid and not caller.is_recording():  # nobody will see it
            yield caller
            return
        links = []
        if transaction is not None:
            links = self._links(instead_of if brings and instead_of else transaction, present)
            attributes = {_TRANSACTION: str(transaction), **(attributes or {})}
            caller.set_attribute(_TRANSACTION, str(transaction))
        span = self._tracer.start_span(name, links=links, attributes=attributes)
        if transaction is not None and brings:
            self._remember(transaction, span, caller)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except Exception as exc:
                span.set_attribute("error.type", str(getattr(exc, "code", type(exc).__name__)))
                span.set_status(StatusCode.ERROR)
                raise

    def _links(self, transaction: UUID, present: SpanContext) -> list[Link]:
        """To the request that brought it, unless that is of the same trace anyhow."""
        found = self._requests.get(transaction)
        return [] if found is None or found.trace_id == present.trace_id else [Link(found)]

    def _remember(self, transaction: UUID, span: Span, caller: Span) -> None:
        named = caller.get_span_context()
        if not named.is_valid:
            named = span.get_span_context()
        self._requests[transaction] = SpanContext(named.trace_id, named.span_id, False, named.trace_flags)
        self._requests.move_to_end(transaction)
        if len(self._requests) > _REQUESTS_MAX:
            self._requests.popitem(last=False)

    def stop(self) -> None:
        """Send what is left, if that can be done in a moment."""
        self._provider.shutdown()


def _carrier(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """The headers that name a trace; a parent that is given twice is none."""
    parents, states = [], []
    for name, value in headers:
        if name == _PARENT:
            parents.append(value.decode("latin-1"))
        elif name == _STATE:
            states.append(value.decode("latin-1"))
    return {"traceparent": parents, "tracestate": states} if len(parents) == 1 else {}


# -- to a collector ---------------------------------------------------------------------------------------------------


def to_collector(endpoint: str, *, version: str, region: str) -> Tracing:
    """Tracing that a collector is told over OTLP/HTTP, and log lines that name their span.

    endpoint: URL, with or without the path of traces. The standard variables OTEL_TRACES_SAMPLER, OTEL_BSP_*,
    OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS and the like are obeyed.
    """
    url = endpoint.rstrip("/")
    sender = _Sender(OTLPSpanExporter(url if url.endswith(_PATH) else url + _PATH, timeout=_SEND_SECONDS))
    ours = {
        "service.name": "interlock",
        "service.version": version,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        "interlock.region": region,
    }
    resource = Resource.create(ours).merge(OTELResourceDetector().detect())
    tracing = Tracing(BatchSpanProcessor(sender), resource)
    # From here on it has nothing to say that the sender does not say, once and in our log's form.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    structlog.configure(processors=[name_span, *structlog.get_config()["processors"]])

    def end() -> None:
        sender.end_by = time.monotonic() + _END_SECONDS
        tracing.stop()

    # After all else has ended, so that the last requests are told too.
    atexit.register(end)
    return tracing


class _Sender(SpanExporter):
    """Sends spans; says once that this fails, and once that it works again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._dropped = 0
        #: When, by the steady clock, there is no more time for sending; None: the process goes on.
        self.end_by: float | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; in the thread of the processor."""
        if self.end_by is not None and time.monotonic() > self.end_by:
            return SpanExportResult.FAILURE
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._dropped:
                _log.warning("traces are sent again", spans_dropped=self._dropped)
            self._dropped = 0
        else:
            if not self._dropped:
                _log.warning("traces cannot be sent, and are dropped", setting="otlp_endpoint")
            self._dropped += len(spans)
        return result

    def shutdown(self) -> None:
        """Give the connection back."""
        self._exporter.shutdown()


def name_span(_: object, __: str, event: EventDict) -> EventDict:
    """A processor of structlog: each line says in which span it was written."""
    present = trace.get_current_span().get_span_context()
    if present.is_valid:
        event["trace_id"] = trace.format_trace_id(present.trace_id)
        event["span_id"] = trace.format_span_id(present.span_id)
    return event
