"""Who calls, and whether they may: the one place where a scope opens a call."""

from interlock.api.exchange import Request
from interlock.auth import Authority, Identity, Scope
from interlock.errors import Forbidden, Unauthorised

_BEARER = "bearer "


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header. Raises Unauthorised."""
    if authorization is None or authorization[:7].lower() != _BEARER:
        raise Unauthorised("this call needs a bearer token; get one from /oauth2/token")
    return authorization[7:].strip()


class Access:
    """Opens calls to those who may make them."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def require(self, request: Request, *scopes: Scope) -> Identity:
        """Who calls, if they hold one of the scopes. Raises Unauthorised, Forbidden."""
        return await self.require_of(request.header(b"authorization"), *scopes)

    async def require_of(self, authorization: str | None, *scopes: Scope) -> Identity:
        """The same for the header alone."""
        identity = await self._authority.verify(bearer(authorization))
        if not identity.scopes.intersection(scopes):
            raise Forbidden(f"this call needs the scope {' or '.join(scopes)}")
        return identity

    async def identify(self, request: Request) -> Identity | None:
        """Who calls, where a call is open to all but tells some more; None for a stranger."""
        try:
            return await self._authority.verify(bearer(request.header(b"authorization")))
        except Unauthorised:
            return None


def view_of(identity: Identity) -> str | None:
    """Whose transactions a caller sees: its own; None for an operator, who sees all."""
    return None if Scope.OPERATE in identity.scopes else identity.client_id


def actor_of(identity: Identity, by: str | None = None) -> str:
    """How a caller stands in the history: `c_1a2b`, `c_1a2b:alice`, `operator:c_1a2b:alice`."""
    parts = ("operator",) if Scope.OPERATE in identity.scopes else ()
    return ":".join((*parts, identity.client_id, *((by,) if by else ())))
