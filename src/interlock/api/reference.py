"""The reference surface: `GET /`, `GET /uuid`, `POST /inbox`, `POST /outbox`, as the public sample's clients know it.

Bodies and statuses are the sample's to the letter, except where it was wrong; decision 0005 lists those places.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from uuid import UUID

import msgspec
import uuid_utils

from interlock.api.access import Access
from interlock.api.dials import Confirmed, Dials
from interlock.api.documents import as_object
from interlock.api.exchange import JSON, XML, Intake, Request, Response, refuse_unless_message
from interlock.api.health import Health
from interlock.api.problems import InvalidRequest, extra_headers, kind_of
from interlock.auth import Scope
from interlock.errors import Forbidden, InterlockError, RequestError, Unauthorised, UnknownTransaction
from interlock.transaction import BodyKind
from interlock.workflow import Workflow

PATHS = frozenset({"/", "/uuid", "/inbox", "/outbox"})

_UNAUTHORIZED = b'{"message":"Unauthorized"}'
_MISS = "missing object in s3"
_encode = msgspec.json.encode


def unknown_path(_: Request) -> Response:
    """What the sample's gateway says of a path or method that it does not have."""
    return Response(403, (JSON,), b'{"message":"Missing Authentication Token"}')


def preflight(allowed: Sequence[str]) -> Response:
    """`OPTIONS`: what a path takes, without opening anything to browsers."""
    return Response(204, ((b"allow", ", ".join([*allowed, "OPTIONS"]).encode()),), b"")


class Reference:
    """The four calls."""

    def __init__(
        self,
        workflow: Workflow,
        access: Access,
        intake: Intake,
        health: Health,
        *,
        region: str,
        endpoint: str,
        doubly_encoded: bool,
        dials: Dials,
    ) -> None:
        """endpoint: host name of this region. doubly_encoded: answers as the sample's JSON string of JSON."""
        #: Names and host names of the other regions that are healthy; None: there are no others.
        self.others: Callable[[], Iterable[tuple[str, str]]] | None = None
        self._region, self._endpoint = region, endpoint
        self._workflow = workflow
        self._access = access
        self._intake = intake
        self._health = health
        self._doubly_encoded = doubly_encoded
        self._now = workflow.now
        self._dials = dials
        self._place = b'"region_id": %s, "api_endpoint": %s' % (_encode(region), _encode(endpoint))
        self._inbox_place = b'    "region_id": %s,\n    "api_endpoint": %s' % (
            _encode(region),
            _encode(f"https://{endpoint}"),
        )

    # -- GET /uuid --

    async def issue(self, request: Request) -> Response:
        """Give an id."""
        identity = await self._access.require(request, Scope.READ, Scope.WRITE)
        announced, consistency = request.header(b"x-message-type"), self._dials.asked(request)
        transaction = await self._workflow.receiving.issue(
            identity.client_id, announced=_announced(announced), consistency=consistency
        )
        confirmed = await self._dials.confirm(transaction, consistency)
        body = b'{"message": "transaction initialized successfully", %s, "transaction_id": "%s", %s, %s%s}' % (
            self._stamp(request),
            str(transaction.id).encode(),
            self._place,
            self._replicated(confirmed),
            _duration(request),
        )
        return self._json(request, 200, body)

    def _replicated(self, confirmed: Confirmed) -> bytes:
        """Whether the other region has the id already; nothing is said where there is no other."""
        if not self._dials.regional:
            return b""
        distance = confirmed.distance or self._dials.distance(confirmed.transaction)
        return b'"dynamodb_replicated": "%s", ' % str(distance.replicated).encode()

    # -- POST /inbox --

    async def receive(self, request: Request) -> Response:
        """Take the message for an id."""
        identity = await self._access.require(request, Scope.WRITE)
        content, consistency = await self._intake.read(request), self._dials.asked(request)
        refuse_unless_message(content)
        transaction_id = _transaction_id(request)
        transaction = await self._workflow.receiving.receive(
            identity.client_id, transaction_id, content, consistency=consistency
        )
        await self._dials.confirm(transaction, consistency)
        return self._json(request, 200, self._inbox_body(request, b"transaction received successfully"))

    def refuse_inbox(self, request: Request, error: InterlockError) -> Response:
        """Why a message was not taken."""
        if isinstance(error, Unauthorised | Forbidden):
            return self._unauthorized(request)
        why = b',\n    "error_code": %s,\n    "error_message": %s' % _why(error)
        body = self._inbox_body(request, b"transaction received failed", why)
        return self._json(request, _status(error), body, error)

    def _inbox_body(self, request: Request, message: bytes, more: bytes = b"") -> bytes:
        return (
            b'{\n    "message": "%s",\n    "transaction_id": %s,\n    "request_id": "%s",\n'
            b'    "request_timestamp": %d,\n%s%s\n}'
        ) % (
            message,
            _encode(request.header(b"x-transaction-id") or ""),
            request.request_id.encode(),
            int(self._now().timestamp() * 1000),
            self._inbox_place,
            more,
        )

    # -- POST /outbox --

    async def collect(self, request: Request) -> Response:
        """Give the answer, as often as it is asked for."""
        identity = await self._access.require(request, Scope.WRITE)
        id_ = _transaction_id(request)
        if parts := await self._workflow.reading.parts(identity.client_id, id_, BodyKind.OUTBOX):
            self._workflow.reading.note_collected(id_)
            streamed = self._workflow.reading.streamed(id_, BodyKind.OUTBOX, parts)
            return Response(200, (XML, *self._headers(request)), b"", streamed)
        transaction, answer = await self._workflow.reading.collect(identity.client_id, id_)
        if answer is not None:
            return self._answer(request, answer.content)
        if transaction.standing.is_final:
            return Response(204, self._headers(request), b"")  # it is itself an answer: none is due
        raise UnknownTransaction(_MISS)

    def refuse_outbox(self, request: Request, error: InterlockError) -> Response:
        """Why there is no answer; a foreign, unknown or unfinished transaction are told alike."""
        if isinstance(error, UnknownTransaction):
            return self._json(request, 400, self._failure(request, b'"MISS"', _encode(_MISS)))
        return self.refuse(request, error)

    def _answer(self, request: Request, content: bytes) -> Response:
        accept = request.headers.get(b"accept", b"")
        if self._doubly_encoded and b"xml" not in accept:
            return self._json(request, 200, json.dumps(json.dumps(as_object(content))).encode())
        if b"application/json" in accept and b"xml" not in accept:
            return self._json(request, 200, _encode(as_object(content)))
        return Response(200, (XML, *self._headers(request)), content)

    # -- GET / --

    async def look(self, request: Request) -> Response:
        """Health, and whether the owner's transaction has reached a status."""
        headers = request.headers
        given = request.header(b"x-transaction-id")
        fault = await self._health.fault()
        counts = []
        if b"x-sqs-skip" not in headers:
            counts.append(b'"sqs_count": "0", ')
        if b"x-s3-skip" not in headers and fault is None:
            counts.append(b'"s3_count": "1", ')
        if b"x-dynamodb-skip" not in headers:
            count = await self._count(request, given) if given and fault is None else 0
            counts.append(b'"dynamodb_count": "%d", ' % count)
        body = b'{"message": "%s", %s, "transaction_id": %s, %s, %s%s%s}' % (
            b"execution successful" if fault is None else b"execution failed",
            self._stamp(request),
            _encode(given or str(uuid_utils.uuid4())),
            self._place,
            b"".join(counts),
            self._healthy(own=fault is None),
            _duration(request),
        )
        return self._json(request, 200 if fault is None else 500, body)

    def _healthy(self, *, own: bool) -> bytes:
        """The regions that can be called, this one first; nothing is said where there is no other."""
        if self.others is None:
            return b""
        named = [(self._region, self._endpoint)] if own else []
        listed = [{"region_id": region, "api_endpoint": endpoint} for region, endpoint in (*named, *self.others())]
        return b'"healthy_regions": %s, ' % _encode(listed)

    async def _count(self, request: Request, transaction_id: str) -> int:
        """How many statuses the caller's own transaction has had; with a status named, 1 if that is one of them."""
        identity = await self._access.identify(request)
        if identity is None:
            return 0
        try:
            history = await self._workflow.reading.history(identity.client_id, _uuid(transaction_id))
        except UnknownTransaction:
            return 0
        reached = {event.standing.status for event in history}
        wanted = request.header(b"x-transaction-status")
        return len(reached) if wanted is None else int(wanted in reached)

    # -- what they share --

    def refuse(self, request: Request, error: InterlockError) -> Response:
        """Any other error, in the sample's shape."""
        if isinstance(error, Unauthorised | Forbidden):
            return self._unauthorized(request)
        return self._json(request, _status(error), self._failure(request, *_why(error)), error)

    def _unauthorized(self, request: Request) -> Response:
        return self._json(request, 401, _UNAUTHORIZED)

    def _failure(self, request: Request, code: bytes, text: bytes) -> bytes:
        return b'{"message": %s, "error_code": %s, "error_message": %s, %s, "transaction_id": %s, %s}' % (
            text,
            code,
            text,
            self._stamp(request),
            _encode(request.header(b"x-transaction-id") or ""),
            _duration(request),
        )

    def _stamp(self, request: Request) -> bytes:
        now = self._now().replace(tzinfo=None).isoformat(" ", "microseconds")
        return b'"request_id": "%s", "request_timestamp": "%s"' % (request.request_id.encode(), now.encode())

    def _json(self, request: Request, status: int, body: bytes, error: InterlockError | None = None) -> Response:
        more = () if error is None else extra_headers(error)
        return Response(status, (JSON, *self._headers(request), *more), body)

    def _headers(self, request: Request) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"x-amzn-requestid", request.request_id.encode()),)


def _status(error: InterlockError) -> int:
    """The sample has one status for all that is the caller's to mend, but 413 says more."""
    status = kind_of(error).status
    return 400 if isinstance(error, RequestError) and status not in (408, 413) else status


def _why(error: InterlockError) -> tuple[bytes, bytes]:
    """Code and text of an error, as JSON."""
    return _encode(error.code), _encode(str(error) or kind_of(error).title)


def _transaction_id(request: Request) -> UUID:
    """The id that the caller names. Raises UnknownTransaction where it is none of ours by its form already."""
    value = request.header(b"x-transaction-id")
    if not value:
        raise InvalidRequest("the header X-Transaction-Id is missing")
    return _uuid(value)


def _uuid(value: str) -> UUID:
    if len(value) != 36:
        raise UnknownTransaction("no such transaction")
    try:
        return UUID(value)
    except ValueError:
        raise UnknownTransaction("no such transaction") from None


def _announced(message_type: str | None) -> str | None:
    """The kind of message that a client announces; never trusted for more than choosing a route."""
    return None if not message_type else message_type[:35]


def _duration(request: Request) -> bytes:
    return b'"request_duration": %.6f' % (perf_counter() - request.began)
