"""`POST /oauth2/token`: OAuth 2.0 client credentials (RFC 6749, section 4.4), as the reference's clients call it."""

import base64
import binascii
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_plus

import msgspec

from interlock.api.exchange import JSON, NO_STORE, Headers, Intake, Request, Response
from interlock.api.problems import extra_headers, kind_of
from interlock.auth import Authority, LacksScope, Throttle
from interlock.errors import InterlockError, Unauthorised
from interlock.ports import Client

_HEADERS: Headers = (JSON, NO_STORE, (b"pragma", b"no-cache"))
_FIELDS_MAX = 20
#: Under which all guesses of strangers are counted, so that nobody can lock a client out by failing in its name.
_STRANGERS = ""


class _Credentials(NamedTuple):
    client_id: str
    secret: str


class _RefusedError(Exception):
    """Ends a call with an error of OAuth's."""

    def __init__(self, code: str, status: int = 400, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(code)
        self.response = _error(code, status, *headers)


class Tokens:
    """Gives tokens to clients that know their secret."""

    def __init__(self, authority: Authority, intake: Intake, throttle: Throttle) -> None:
        self._authority = authority
        self._intake = intake
        self._throttle = throttle

    async def give(self, request: Request) -> Response:
        """The call."""
        try:
            form = _form(await self._intake.read(request))
            client = await self._client(_credentials(request.header(b"authorization"), form))
            token = await self._authority.issue(client, form.get("scope", "").split())
        except _RefusedError as exc:
            return exc.response
        except LacksScope:
            return _error("invalid_scope")
        given = {"access_token": token.text, "expires_in": token.seconds, "token_type": "Bearer"}
        return Response(200, _HEADERS, msgspec.json.encode(given))

    async def _client(self, credentials: _Credentials) -> Client:
        try:
            client = await self._authority.authenticate(*credentials)
        except Unauthorised:
            self._refuse_many(_STRANGERS)
            raise _RefusedError("invalid_client") from None
        self._refuse_many(client.id)
        return client

    def _refuse_many(self, name: str) -> None:
        if wait := self._throttle.wait(name):
            raise _RefusedError("too_many_requests", 429, (b"retry-after", b"%d" % wait))


def refuse(_: Request, error: InterlockError) -> Response:
    """An error of another kind, in OAuth's shape."""
    code = {503: "temporarily_unavailable", 500: "server_error"}.get(kind_of(error).status, "invalid_request")
    return _error(code, kind_of(error).status, *extra_headers(error))


def _error(code: str, status: int = 400, *headers: tuple[bytes, bytes]) -> Response:
    # 400 also for invalid_client, where RFC 6749 would have 401 after a Basic header: the reference's clients see 400.
    return Response(status, (*_HEADERS, *headers), b'{"error":"%s"}' % code.encode())


def _form(body: bytes) -> dict[str, str]:
    """The fields of a form that asks for a token by client credentials; none may be given twice (RFC 6749, 3.2)."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise _RefusedError("invalid_request") from None
    fields = dict(pairs)
    if len(fields) != len(pairs) or "grant_type" not in fields:
        raise _RefusedError("invalid_request")
    if fields["grant_type"] != "client_credentials":
        raise _RefusedError("unsupported_grant_type")
    return fields


def _credentials(authorization: str | None, form: dict[str, str]) -> _Credentials:
    """From the Basic header, else from the form."""
    if authorization is None:
        return _Credentials(form.get("client_id", ""), form.get("client_secret", ""))
    scheme, _, encoded = authorization.partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise _RefusedError("invalid_client") from None
    if scheme.lower() != "basic" or not colon:
        raise _RefusedError("invalid_client")
    return _Credentials(unquote_plus(client_id), unquote_plus(secret))
