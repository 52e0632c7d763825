"""`POST /oauth2/token`: OAuth 2.0 client credentials (RFC 6749, section 4.4), as the reference's clients call it."""

import base64
import binascii
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_plus

import msgspec

from interlock.api.exchange import JSON, NO_STORE, Headers, Intake, Request, Response
from interlock.api.problems import extra_headers, kind_of
from interlock.auth import Authority, Throttle
from interlock.errors import InterlockError, RequestError, Unauthorised

_HEADERS: Headers = (JSON, NO_STORE, (b"pragma", b"no-cache"))
_FIELDS_MAX = 20
#: Under which all guesses of strangers are counted, so that nobody can lock a client out by failing in its name.
_STRANGERS = ""


class _Credentials(NamedTuple):
    client_id: str
    secret: str


class Tokens:
    """Gives tokens to clients that know their secret."""

    def __init__(self, authority: Authority, intake: Intake, throttle: Throttle) -> None:
        self._authority = authority
        self._intake = intake
        self._throttle = throttle

    async def give(self, request: Request) -> Response:
        """The call."""
        body = await self._intake.read(request)
        form = _form(body)
        if form is None:
            return _error("invalid_request")
        if form.get("grant_type") != "client_credentials":
            return _error("unsupported_grant_type" if form.get("grant_type") else "invalid_request")
        credentials = _credentials(request.header(b"authorization"), form)
        if credentials is None:
            return _error("invalid_client")
        try:
            client = await self._authority.authenticate(*credentials)
        except Unauthorised:
            return self._throttled(_STRANGERS) or _error("invalid_client")
        if (refusal := self._throttled(client.id)) is not None:
            return refusal
        try:
            token = await self._authority.issue(client, form.get("scope", "").split())
        except RequestError:
            return _error("invalid_scope")
        given = {"access_token": token.text, "expires_in": token.seconds, "token_type": "Bearer"}
        return Response(200, _HEADERS, msgspec.json.encode(given))

    def _throttled(self, name: str) -> Response | None:
        wait = self._throttle.wait(name)
        if not wait:
            return None
        return _error("too_many_requests", 429, (b"retry-after", b"%d" % wait))


def refuse(_: Request, error: InterlockError) -> Response:
    """An error of another kind, in OAuth's shape."""
    code = {503: "temporarily_unavailable", 500: "server_error"}.get(kind_of(error).status, "invalid_request")
    return _error(code, kind_of(error).status, *extra_headers(error))


def _error(code: str, status: int = 400, *headers: tuple[bytes, bytes]) -> Response:
    # 400 also for invalid_client, where RFC 6749 would have 401 after a Basic header: the reference's clients see 400.
    return Response(status, (*_HEADERS, *headers), b'{"error":"%s"}' % code.encode())


def _form(body: bytes) -> dict[str, str] | None:
    """The fields of a form; None where it is none, or says a thing twice (RFC 6749, section 3.2)."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        return None
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else None


def _credentials(authorization: str | None, form: dict[str, str]) -> _Credentials | None:
    """From the Basic header, else from the form."""
    if authorization is None:
        client_id, secret = form.get("client_id"), form.get("client_secret")
        return _Credentials(client_id, secret) if client_id and secret else None
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return _Credentials(unquote_plus(client_id), unquote_plus(secret)) if colon else None
