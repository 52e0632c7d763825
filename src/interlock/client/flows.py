"""What the client says and in which order, without doing it. Pure but for the clock and the dice, which are arguments.

A flow is a generator. It yields a `Request` and is sent the `Reply` to it, or yields a `Pause` and is sent None once
that has passed; it returns the result or raises one of `interlock.errors`. The two drivers in `drivers` do the sending
and the waiting, one with threads in mind and one for asyncio, and know nothing else; so there is one place where it is
decided when to try again.
"""

import base64
import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import ceil
from typing import Any, TypeVar, Unpack
from urllib.parse import quote
from uuid import UUID

import msgspec

from interlock import errors
from interlock.client.records import (
    DecisionKind,
    Event,
    Filter,
    MessageKind,
    Page,
    PaymentName,
    PaymentPage,
    Problem,
    Redrives,
    Transaction,
    Validation,
)
from interlock.errors import (
    ConflictError,
    DependencyError,
    Forbidden,
    InterlockError,
    NotReplicated,
    OutcomeUnknown,
    RequestError,
    Unauthorised,
    UnknownTransaction,
)
from interlock.iso20022.codes import Status

T = TypeVar("T")

_XML = {"Content-Type": "application/xml"}
#: What says "later": too many requests, and unavailable. Gateways between say the other two when they lose the server.
_LATER = frozenset({429, 502, 503, 504})
#: Gateways: the server may have got the request, or not.
_GATEWAY = frozenset({502, 504})
#: What the server says beside a cancellation when it took the transaction over from a region that was lost.
RECOVERED = "RCVR"
#: Longest wait that is asked of the server at once; gateways cut longer ones.
_WAIT_SECONDS_MAX = 20
#: A token is renewed this long before its end, so that it does not run out on its way.
_TOKEN_MARGIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Who calls, and how patiently."""

    client_id: str
    client_secret: str = field(repr=False)
    #: Scopes to ask for; empty: all that the client has.
    scopes: tuple[str, ...] = ()
    #: Longest time for one call with all its retries, in seconds.
    patience: float = 30.0
    #: Longest time for one answer, in seconds.
    timeout: float = 10.0
    #: First and longest pause between tries, in seconds.
    backoff: float = 0.1
    backoff_max: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """To be sent."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Sequence[tuple[str, str]] = ()
    content: bytes | None = None
    #: Longest time for the answer, in seconds.
    timeout: float
    #: The same again does no harm, so it may be sent again although its answer was lost.
    repeatable: bool = True
    #: Which of the servers is to have it, counted on and on.
    server: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """To be waited."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Response:
    """What the server answered."""

    status: int
    #: Names in lower case.
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer came."""

    why: str
    #: The request may have arrived.
    sent: bool


Reply = Response | Lost
Flow = Generator[Request | Pause, Any, T]


class Answered(Exception):
    """Stands behind an error: what the server said."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status} {problem.code}")
        self.problem = problem


def problem_of(error: InterlockError) -> Problem | None:
    """The problem document that an error was made from; None where the server said nothing."""
    return error.__cause__.problem if isinstance(error.__cause__, Answered) else None


class Flows:
    """Every call, as a flow. Keeps the token; may be shared by tasks and threads, which at worst fetch it twice."""

    def __init__(
        self, settings: Settings, *, clock: Callable[[], float], dice: random.Random, new_key: Callable[[], str]
    ) -> None:
        """clock: steady, in seconds. dice: for jitter, so that clients do not come back all at once.

        new_key: makes idempotency keys.
        """
        self._settings = settings
        self._clock = clock
        self._dice = dice
        self._new_key = new_key
        self._token: str | None = None
        self._token_until = 0.0
        #: The server that answered last, or the one after it where it did not.
        self._server = 0

    # -- the calls --

    def submit(
        self,
        message: bytes,
        *,
        idempotency_key: str | None = None,
        reference: str | None = None,
        wait: float = 0,
    ) -> Flow[Transaction]:
        """Send a message; the transaction that it became, stored durably by the server.

        idempotency_key: the same key again gives the same transaction; without one each call makes its own, so that
        its retries after a lost answer cannot send the message twice.
        reference: what you call it; found by `find(reference=...)`. wait: seconds to wait for the end.
        """
        headers = {**_XML, "Idempotency-Key": idempotency_key or self._new_key()}
        if reference is not None:
            headers["X-Client-Reference"] = reference
        if wait > 0:
            headers["Prefer"] = f"wait={ceil(wait)}"
        timeout = self._settings.timeout + wait
        request = Request(method="POST", path="/v1/messages", headers=headers, content=message, timeout=timeout)
        return (yield from self._read(request, Transaction, patience=self._settings.patience + wait))

    def wait(self, transaction_id: UUID | str, *, seconds: float = 30, redrive: bool = False) -> Flow[Transaction]:
        """The transaction once it has ended, or as it stands when the time is up; see `final`.

        redrive: what was cancelled because its region was lost is driven again, and that one waited for.
        """
        end = self._clock() + seconds
        pause = 0.02
        while True:
            left = end - self._clock()
            transaction = yield from self._look(transaction_id, wait=round(min(max(left, 0), _WAIT_SECONDS_MAX)))
            left = end - self._clock()
            if redrive and left > 0 and transaction.transaction_code == RECOVERED:
                newest = transaction.redriven_as or (yield from self.redrive(transaction_id)).transaction_id
                return (yield from self.wait(newest, seconds=left, redrive=True))
            if transaction.final or left <= 0:
                return transaction
            # The server answers early when it stops, or waits less than asked for: do not hammer at it.
            yield Pause(min(pause, left))
            pause = min(pause * 1.5, 1.0)

    def _look(self, transaction_id: UUID | str, *, wait: int) -> Flow[Transaction]:
        request = self._get(_path(transaction_id))
        if wait:
            request = replace(request, headers={"Prefer": f"wait={wait}"}, timeout=request.timeout + wait)
        return (yield from self._read(request, Transaction, patience=self._settings.patience + wait))

    def status(self, transaction_id: UUID | str) -> Flow[Transaction]:
        """The transaction as it stands, with its payments."""
        return (yield from self._look(transaction_id, wait=0))

    def events(self, transaction_id: UUID | str) -> Flow[tuple[Event, ...]]:
        """What happened to it, oldest first."""
        found = yield from self._read(self._get(_path(transaction_id, "/events")), _Events)
        return found.events

    def payments_page(
        self, transaction_id: UUID | str, *, after: int = 0, limit: int = 500, status: Status | str | None = None
    ) -> Flow[PaymentPage]:
        """Some of its payments, in their order, behind an ordinal. status: only those that have it."""
        params = {"after": str(after), "limit": str(limit), **({} if status is None else {"status": str(status)})}
        request = replace(self._get(_path(transaction_id, "/payments")), params=tuple(params.items()))
        return (yield from self._read(request, PaymentPage))

    def page(self, **filters: Unpack[Filter]) -> Flow[Page]:
        """A page of transactions, newest first, that match everything given."""
        request = replace(self._get("/v1/transactions"), params=_params(filters))
        return (yield from self._read(request, Page))

    def accept(
        self, transaction_id: UUID | str, *, note: str | None = None, by: str | None = None
    ) -> Flow[Transaction]:
        """Accept what is held for your decision. by: the person or application that decides."""
        return (yield from self.decide(transaction_id, DecisionKind.ACCEPT, note=note, by=by))

    def reject(
        self,
        transaction_id: UUID | str,
        reason: str,
        *,
        payments: Iterable[PaymentName] | None = None,
        note: str | None = None,
        by: str | None = None,
    ) -> Flow[Transaction]:
        """Reject what is held for your decision, or some of its payments: `decide` says how they are named.

        reason: an ISO code, such as AC04 or FRAD.
        """
        kind = DecisionKind.REJECT
        return (yield from self.decide(transaction_id, kind, payments=payments, reason=reason, note=note, by=by))

    def cancel(
        self,
        transaction_id: UUID | str,
        *,
        payments: Iterable[PaymentName] | None = None,
        reason: str | None = None,
        note: str | None = None,
        by: str | None = None,
    ) -> Flow[Transaction]:
        """Cancel what has not been released, or some of its payments. Raises IllegalDecision where it is too late."""
        kind = DecisionKind.CANCEL
        return (yield from self.decide(transaction_id, kind, payments=payments, reason=reason, note=note, by=by))

    def decide(
        self,
        transaction_id: UUID | str,
        decision: DecisionKind | str,
        *,
        payments: Iterable[PaymentName] | None = None,
        reason: str | None = None,
        note: str | None = None,
        by: str | None = None,
    ) -> Flow[Transaction]:
        """Decide; the same decision again gives the same answer. Raises IllegalDecision where another one stands.

        payments: only these, each by its ordinal or by names that it has, such as `{"end_to_end_id": "E-4711"}`; the
        transaction that comes back has them as they stand. Unset: all that have no end yet.
        """
        named = None if payments is None else list(payments)
        content = _body(decision=str(decision), payments=named, reason=reason, note=note, by=by)
        request = self._post(_path(transaction_id, "/decisions"), content)
        return (yield from self._read(request, Transaction))

    def redrive(self, transaction_id: UUID | str, *, by: str | None = None) -> Flow[Transaction]:
        """Drive the payments of a cancelled or retryably rejected transaction again; the new transaction.

        Not sent again after a lost answer, for that could make two attempts: OutcomeUnknown is raised, and
        `redriven_as` of the original tells.
        """
        content = _body(decision="redrive", by=by)
        request = replace(self._post(_path(transaction_id, "/decisions"), content), repeatable=False)
        return (yield from self._read(request, Transaction))

    def redrive_all(
        self, *, dry_run: bool = True, reason: str | None = None, by: str | None = None, **filters: Unpack[Filter]
    ) -> Flow[Redrives]:
        """Drive again all that match and may be; by default only says which these are.

        reason: of the rejection. Goes through as many as `limit` says; `next` of the result is the `cursor` to go on.
        """
        chosen = _listed(filters) if reason is None else {**_listed(filters), "reason": reason}
        content = _body(dry_run=dry_run, by=by, filter=chosen)
        request = replace(self._post("/v1/redrives", content), repeatable=dry_run)
        return (yield from self._read(request, Redrives))

    def answer(self, transaction_id: UUID | str) -> Flow[bytes]:
        """The answer message, as often as you like. Raises NoAnswer while there is none, or where none is due."""
        return (yield from self.message(transaction_id, MessageKind.OUTBOX))

    def message(self, transaction_id: UUID | str, kind: MessageKind | str) -> Flow[bytes]:
        """One of its two messages, byte for byte."""
        request = replace(self._get(_path(transaction_id, f"/messages/{kind}")), headers={"Accept": "application/xml"})
        response = yield from self._call(request)
        return response.content

    def validate(self, message: bytes) -> Flow[Validation]:
        """What the server would find wrong with a message; nothing is stored."""
        return (yield from self._read(self._post("/v1/validations", message, _XML), Validation))

    # -- how a call is made --

    def _get(self, path: str) -> Request:
        return Request(method="GET", path=path, timeout=self._settings.timeout)

    def _post(self, path: str, content: bytes, headers: Mapping[str, str] | None = None) -> Request:
        headers = {"Content-Type": "application/json"} if headers is None else headers
        return Request(method="POST", path=path, headers=headers, content=content, timeout=self._settings.timeout)

    def _read(self, request: Request, kind: type[T], *, patience: float | None = None) -> Flow[T]:
        response = yield from self._call(request, patience=patience)
        return _decode(response.content, kind)

    def _call(self, request: Request, *, patience: float | None = None) -> Flow[Response]:
        """The good answer to a request; raises for any other."""
        until = self._clock() + (self._settings.patience if patience is None else patience)
        response = yield from self._authorised(request, until)
        if response.status == 401:  # the keys were changed, or the token was taken back: once more with a new one
            self._token = None
            response = yield from self._authorised(request, until)
        if response.status >= 400:
            raise_problem(response)
        return response

    def _authorised(self, request: Request, until: float) -> Flow[Response]:
        if self._token is None or self._clock() >= self._token_until:
            yield from self._fetch_token(until)
        headers = {**request.headers, "Authorization": f"Bearer {self._token}"}
        return (yield from self._tried(replace(request, headers=headers), until))

    def _fetch_token(self, until: float) -> Flow[None]:
        settings = self._settings
        # RFC 6749, 2.3.1: both are form-encoded before they are joined.
        pair = f"{quote(settings.client_id, safe='')}:{quote(settings.client_secret, safe='')}".encode()
        form = "grant_type=client_credentials"
        if settings.scopes:
            form += "&scope=" + quote(" ".join(settings.scopes))
        headers = {
            "Authorization": "Basic " + base64.b64encode(pair).decode(),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        request = Request(
            method="POST", path="/oauth2/token", headers=headers, content=form.encode(), timeout=settings.timeout
        )
        response = yield from self._tried(request, until)
        if response.status >= 500:
            raise_problem(response)
        if response.status != 200:
            raise Unauthorised("the server gives no token: check client id, secret and scopes")
        token = _decode(response.content, _Token)
        self._token = token.access_token
        self._token_until = self._clock() + max(0.0, token.expires_in - _TOKEN_MARGIN_SECONDS)

    def _tried(self, request: Request, until: float) -> Flow[Response]:
        """The answer to a request, tried again while that may help and time is left."""
        backoff = self._settings.backoff
        silences = 0
        while True:
            left = until - self._clock()
            server = self._server
            reply: Reply = yield replace(request, timeout=max(0.001, min(request.timeout, left)), server=server)
            if isinstance(reply, Response) and reply.status not in _LATER:
                return reply
            silences += isinstance(reply, Lost) and reply.sent
            if _elsewhere(reply, silences) and self._server == server:
                self._server += 1
            if not request.repeatable and _may_have_arrived(reply):
                raise OutcomeUnknown(f"the answer to {request.method} {request.path} was lost; look before you repeat")
            pause = max(_retry_after(reply), backoff * self._dice.uniform(0.5, 1.0))
            if self._clock() + pause >= until:
                return _given_up(reply, request)
            yield Pause(pause)
            backoff = min(backoff * 2, self._settings.backoff_max)


#: What the server says of a message that it may have, or has: another server has perhaps neither it nor its key.
_KEPT = frozenset({OutcomeUnknown.code, NotReplicated.code})


def _elsewhere(reply: Reply, silences: int) -> bool:
    """Whether another server may do better, and nothing is kept at this one as far as can be known.

    One that was silent once is asked again, for it may just have begun anew.
    """
    if isinstance(reply, Lost):
        return not reply.sent or silences > 1
    return reply.status != 429 and problem_in(reply).code not in _KEPT


def _may_have_arrived(reply: Reply) -> bool:
    if isinstance(reply, Lost):
        return reply.sent
    return reply.status in _GATEWAY or (reply.status == 503 and problem_in(reply).code == OutcomeUnknown.code)


def _given_up(reply: Reply, request: Request) -> Response:
    """The last answer, for the caller to raise; where there was none, raises."""
    if isinstance(reply, Response):
        return reply
    if reply.sent and request.method != "GET":
        raise OutcomeUnknown(f"no answer to {request.method} {request.path}: {reply.why}; ask by id before you repeat")
    raise DependencyError(f"the server cannot be reached: {reply.why}")


def _retry_after(reply: Reply) -> float:
    """Seconds that the server asks us to wait; 0 where it does not say so in seconds."""
    if isinstance(reply, Lost):
        return 0.0
    text = reply.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


# -- what comes back --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    access_token: str
    expires_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    events: tuple[Event, ...] = ()


def _decode(content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as exc:
        raise DependencyError(f"what answered is no Interlock that this client knows: {exc}") from exc


def problem_in(response: Response) -> Problem:
    """The problem document in an answer, or one made of its status where it has none."""
    try:
        return msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        return Problem(status=response.status, code="")


#: Code to class.
_BY_CODE: Mapping[str, type[InterlockError]] = {
    kind.code: kind
    for kind in reversed(list(vars(errors).values()))  # of several with one code the nearest to the root
    if isinstance(kind, type) and issubclass(kind, InterlockError) and kind is not InterlockError
}


def _kind_of(problem: Problem) -> type[InterlockError]:
    """The error of a code; the server refines codes by more words, so `no_answer_due` is a `no_answer`."""
    code = problem.code
    while code:
        if code in _BY_CODE:
            return _BY_CODE[code]
        code = code.rpartition("_")[0]
    return _BY_STATUS.get(problem.status, RequestError if problem.status < 500 else DependencyError)


_BY_STATUS: Mapping[int, type[InterlockError]] = {
    401: Unauthorised,
    403: Forbidden,
    404: UnknownTransaction,
    409: ConflictError,
    429: DependencyError,
}


def raise_problem(response: Response) -> None:
    """Raise the error that an answer tells of; its cause holds the problem document."""
    problem = problem_in(response)
    text = problem.detail or problem.title or f"the server answered {response.status}"
    raise _kind_of(problem)(text) from Answered(problem)


def _path(transaction_id: UUID | str, rest: str = "") -> str:
    return f"/v1/transactions/{quote(_sendable(str(transaction_id)), safe='')}{rest}"


def _params(filters: Filter) -> list[tuple[str, str]]:
    """A filter as it stands in a query: several values are given one after the other, times as RFC 3339 has them."""
    return [(name, text) for name, value in filters.items() for text in _texts(value)]


def _texts(value: object) -> Iterator[str]:
    match value:
        case None:
            return
        case datetime():
            yield value.isoformat()
        case str() | int():
            yield _sendable(str(value))
        case Iterable():
            yield from (_sendable(str(each)) for each in value)


def _listed(filters: Filter) -> dict[str, object]:
    """A filter as it stands in JSON: statuses are a list."""
    chosen: dict[str, object] = {name: value for name, value in filters.items() if value is not None}
    if isinstance(status := filters.get("status"), str):
        chosen["status"] = [status]
    return chosen


def _sendable(text: str) -> str:
    """The text. Raises RequestError where it is none that can be sent, such as an argument in another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise RequestError(_UNSENDABLE) from exc
    return text


_UNSENDABLE = "what was given is no Unicode text, and cannot be sent; is it in the encoding of the terminal?"


def _body(**given: object) -> bytes:
    try:
        return msgspec.json.encode({name: value for name, value in given.items() if value is not None})
    except UnicodeEncodeError as exc:
        raise RequestError(_UNSENDABLE) from exc
