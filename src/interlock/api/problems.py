"""What went wrong, as HTTP says it. THE table of statuses, and RFC 9457 problem documents."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import structlog

from interlock import errors
from interlock.api.exchange import Request, Response, TooSlow

_log = structlog.get_logger()

PROBLEM = (b"content-type", b"application/problem+json")


class NotFound(errors.RequestError):
    """There is nothing at this path."""

    code = "not_found"


class MethodNotAllowed(errors.RequestError):
    """The path is there, but not for this method."""

    code = "method_not_allowed"


class InvalidRequest(errors.RequestError):
    """A parameter, header or field has a value that it cannot have."""

    code = "invalid_request"


class NoAnswerYet(errors.NoAnswer):
    """The transaction has not ended; its answer comes with its end."""

    code = "no_answer_yet"


class NoAnswerDue(errors.NoAnswer):
    """The message is itself an answer, and is never answered."""

    code = "no_answer_due"


class DecisionRefused(errors.IllegalDecision):
    """An illegal decision, with what stands."""

    def __init__(self, text: str, **members: object) -> None:
        """members: what the problem document says beside the text."""
        super().__init__(text)
        self.members = members


class Kind(NamedTuple):
    """How an error is told: status and title."""

    status: int
    title: str


#: An error that is not named here is told as the nearest of its ancestors that is.
TABLE: Mapping[type[errors.InterlockError], Kind] = MappingProxyType(
    {
        errors.InterlockError: Kind(500, "Internal error"),
        errors.RequestError: Kind(400, "Bad request"),
        InvalidRequest: Kind(400, "Invalid request"),
        errors.EmptyBody: Kind(400, "Empty body"),
        errors.Unauthorised: Kind(401, "Unauthorised"),
        errors.Forbidden: Kind(403, "Forbidden"),
        NotFound: Kind(404, "Not found"),
        errors.UnknownTransaction: Kind(404, "Unknown transaction"),
        errors.Archived: Kind(410, "Archived"),
        errors.NoAnswer: Kind(404, "No such message"),
        NoAnswerYet: Kind(404, "No answer yet"),
        NoAnswerDue: Kind(404, "No answer due"),
        MethodNotAllowed: Kind(405, "Method not allowed"),
        TooSlow: Kind(408, "Request timeout"),
        errors.ConflictError: Kind(409, "Conflict"),
        errors.EndedBefore: Kind(409, "Ended before the message came"),
        errors.IllegalDecision: Kind(409, "Illegal decision"),
        errors.BodyTooLarge: Kind(413, "Body too large"),
        errors.NotXml: Kind(415, "Not XML"),
        errors.DuplicateMismatch: Kind(422, "Same key, other content"),
        errors.TooManyInFlight: Kind(429, "Too many in flight"),
        errors.DependencyError: Kind(503, "Unavailable"),
        errors.StoreUnavailable: Kind(503, "Store unavailable"),
        errors.Contended: Kind(503, "Others write the same"),
        errors.Overloaded: Kind(503, "Overloaded"),
        errors.Stopped: Kind(503, "Stopped by an operator"),
        errors.OutcomeUnknown: Kind(503, "Outcome unknown"),
        errors.RegionFenced: Kind(503, "Region taken over"),
        errors.HomeRegionLost: Kind(503, "Home region lost"),
        errors.NotReplicated: Kind(503, "Not replicated in time"),
        errors.OwnedElsewhere: Kind(409, "Another region's"),
        errors.LeaseLost: Kind(503, "Another process serves this store"),
    }
)

#: Codes that a problem's `type` can name, with what they mean.
CODES: Mapping[str, tuple[Kind, str]] = MappingProxyType(
    {error.code: (kind, (error.__doc__ or "").partition("\n")[0]) for error, kind in TABLE.items()}
)


def kind_of(error: errors.InterlockError) -> Kind:
    """Status and title of an error."""
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def extra_headers(error: errors.InterlockError) -> tuple[tuple[bytes, bytes], ...]:
    """What a status demands: when to come back, how to log in."""
    if isinstance(error, errors.LeaseLost):
        return ((b"retry-after", b"1"),)
    if isinstance(error, errors.DependencyError):
        return ((b"retry-after", b"%d" % error.retry_after),)
    if isinstance(error, errors.Unauthorised):
        return ((b"www-authenticate", b'Bearer realm="interlock"'),)
    if isinstance(error, errors.Forbidden):
        return ((b"www-authenticate", b'Bearer realm="interlock", error="insufficient_scope"'),)
    return ()


def document(error: errors.InterlockError, **members: object) -> dict[str, object]:
    """The problem document of an error."""
    kind = kind_of(error)
    detail = str(error) or kind.title
    if kind.status == 500:
        detail = "something went wrong on our side; it was logged"
    if isinstance(error, DecisionRefused):
        members = {**error.members, **members}
    return {
        "type": f"/problems/{error.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": error.code,
        **members,
    }


def refuse(request: Request, error: errors.InterlockError, **members: object) -> Response:
    """The response that tells a v1 client of an error."""
    if kind_of(error).status == 500:
        members["request_id"] = request.request_id
    body = msgspec.json.encode(document(error, **members))
    return Response(kind_of(error).status, (PROBLEM, *extra_headers(error)), body)


def unexpected(request: Request, exc: Exception) -> errors.InterlockError:
    """Log what nobody expected, without anything the client sent, and what to tell the client instead."""
    _log.error("request failed", path=request.path, request_id=request.request_id, exc_info=exc)
    return errors.InterlockError("something went wrong on our side; it was logged")
