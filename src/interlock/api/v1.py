"""The wide v1 surface, on FastAPI: what it is made of, and how its errors are told."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request as FastRequest
from fastapi.responses import Response as FastResponse
from starlette.exceptions import HTTPException

from interlock import __version__
from interlock.api import administration, decisions, problems, redrives, regions, transactions
from interlock.api.access import Access
from interlock.api.exchange import Request, Response
from interlock.api.forwarding import Peers
from interlock.api.messages import Patience
from interlock.api.openapi import document_of
from interlock.api.views import Views
from interlock.app import Interlock
from interlock.errors import InterlockError

#: Where the dispatcher leaves its own view of the request.
REQUEST = "interlock.request"
#: Mistakes in a request that are told, and characters of the name of each field.
_ERRORS_MAX, _NAME_MAX = 50, 100
#: How many of them stand in the sentence.
_SAID_MAX = 3


def make_v1(
    interlock: Interlock, access: Access, patience: Patience, views: Views, *, peers: Peers, endpoint: str
) -> FastAPI:
    """The application; its documents are served by `openapi`."""
    app = FastAPI(
        title="Interlock",
        version=__version__,
        summary="Receives, decides on and releases ISO 20022 payment messages.",
        openapi_url=None,
        redirect_slashes=False,
    )
    app.include_router(transactions.router(interlock, access, patience, views))
    app.include_router(decisions.router(interlock, access, views))
    app.include_router(redrives.router(interlock, access))
    app.include_router(administration.router(interlock, access))
    app.include_router(regions.router(interlock, access, peers, endpoint))
    app.include_router(_problem_pages())
    app.add_exception_handler(InterlockError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(Exception, _unexpected)
    return app


def _problem_pages() -> APIRouter:
    pages = APIRouter(include_in_schema=False)

    @pages.get("/problems/{code}")
    async def problem(code: str) -> dict[str, object]:
        """What a problem's `type` leads to."""
        if code not in problems.CODES:
            raise problems.NotFound("there is no such kind of problem")
        kind, meaning = problems.CODES[code]
        return {"code": code, "status": kind.status, "title": kind.title, "meaning": meaning}

    return pages


# -- errors -----------------------------------------------------------------------------------------------------------


def told(request: FastRequest, error: InterlockError, **members: object) -> FastResponse:
    """The response for an error."""
    return _as_fast(problems.refuse(_own(request), error, **members))


async def _told(request: FastRequest, exc: Exception) -> FastResponse:
    assert isinstance(exc, InterlockError)  # registered for these
    return told(request, exc)


async def _invalid(request: FastRequest, exc: Exception) -> FastResponse:
    assert isinstance(exc, RequestValidationError)  # registered for these
    errors = [{"field": _field(error["loc"]), "text": _text(error)} for error in exc.errors()[:_ERRORS_MAX]]
    said = "; ".join(f"{error['field']}: {error['text']}" for error in errors[:_SAID_MAX])
    more = f"; and {len(errors) - _SAID_MAX} more" if len(errors) > _SAID_MAX else ""
    return told(request, problems.InvalidRequest(f"not as it must be: {said}{more}"), errors=errors)


def _text(error: Mapping[str, Any]) -> str:
    """What is wrong; pydantic's own words, but for those that repeat the value."""
    if error["type"] == "union_tag_invalid":
        return f"Input should be {error['ctx']['expected_tags']}"
    return str(error["msg"]).removeprefix("Value error, ")


def _field(location: Sequence[Any]) -> str:
    """Where a mistake is; a name that we do not know is the caller's own, and may be of any length."""
    return ".".join(str(part)[:_NAME_MAX] for part in location)


async def _of_framework(request: FastRequest, exc: Exception) -> FastResponse:
    assert isinstance(exc, HTTPException)  # registered for these
    match exc.status_code:
        case 404:
            return told(request, problems.NotFound("there is nothing at this path"))
        case 405:
            allowed = _methods(request, (exc.headers or {}).get("Allow", ""))
            response = told(request, problems.MethodNotAllowed(f"this path takes {allowed}"))
            response.headers["allow"] = allowed
            return response
        case _:
            return told(request, problems.InvalidRequest("the request cannot be read"))


def _methods(request: FastRequest, told_by_framework: str) -> str:
    """All that the path takes; the framework itself tells those of one of its routes only."""
    path: str = request.scope["path"]
    for template, operations in document_of(request.app)["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return ", ".join(sorted(method.upper() for method in operations))
    return told_by_framework


async def _unexpected(request: FastRequest, _: Exception) -> FastResponse:
    # The framework raises it on once this is sent; the dispatcher logs it.
    return told(request, InterlockError())


def _own(request: FastRequest) -> Request:
    own: Request = request.scope[REQUEST]
    return own


def _as_fast(response: Response) -> FastResponse:
    fast = FastResponse(response.body, response.status)
    fast.raw_headers = [*response.headers, (b"content-length", b"%d" % len(response.body))]
    return fast
