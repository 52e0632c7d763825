"""Who may call: clients and their secrets, signing keys, tokens. OAuth 2.0 client credentials with ES256 tokens.

Everything is kept in the store and written through the journal; what is in memory here is a copy, read again every
second or two, and at once for a client or key that it does not know. So keys and clients that another process adds or
takes away count within seconds, without a restart.

Owns: what makes a token good. Must not know: HTTP, or what a scope allows on which call.
"""

import asyncio
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol

from interlock.clock import Now
from interlock.errors import RequestError, Unauthorised
from interlock.journal import Journal
from interlock.ports import Client, SigningKey, Store


class Scope(StrEnum):
    """What a token allows."""

    #: See one's own transactions.
    READ = "rp2/read"
    #: Submit, decide and fetch answers, for oneself.
    WRITE = "rp2/write"
    #: See and decide all transactions, stop and resume; never submit for another.
    OPERATE = "interlock/operate"
    #: Clients and keys.
    ADMIN = "interlock/admin"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, as a verified token says."""

    client_id: str
    scopes: frozenset[str]
    expires: datetime


class Token(NamedTuple):
    """A token that was given, and what it allows."""

    text: str
    seconds: int
    scopes: frozenset[str]


_ALGORITHM = "ES256"
#: What an id of ours can look like.
_CLIENT_ID = re.compile(r"c_[A-Za-z0-9_-]{1,61}")
#: A copy of clients and keys older than this is read again, by the next call that needs it.
_REFRESH = timedelta(seconds=2)
#: A key may sign this much longer than its retirement says, until every server has noticed.
_GRACE = timedelta(seconds=60)
#: Unknown keys make us read again at most this often: a flood of bad tokens must not become a flood of reads.
_REFRESH_UNKNOWN_SECONDS = 0.2
_VERIFIED_MAX = 16_384
_TOKEN_CHARS_MAX = 4_096
_NEVER = datetime.min.replace(tzinfo=UTC)


#: A client's name is shown on terminals and in one line of the log: nothing in it may move the cursor.
NAME_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]+$"
NAME_MAX = 140


def new_client(name: str, scopes: Iterable[str], server_key: bytes, now: datetime) -> tuple[Client, str]:
    """A client to be written to the store, and its secret, which is kept nowhere else. Raises RequestError."""
    if re.fullmatch(NAME_PATTERN, name) is None or len(name) > NAME_MAX:
        raise RequestError(f"name must be 1 to {NAME_MAX} characters, none of them a control character")
    wanted = frozenset(scopes)
    if not wanted or not wanted <= set(Scope):
        raise RequestError(f"scopes must be one or more of {', '.join(Scope)}")
    secret = secrets.token_urlsafe(32)
    client = Client(
        id=f"c_{secrets.token_hex(8)}",
        name=name,
        secret_mac=_mac(server_key, secret),
        scopes=wanted,
        created_at=now,
    )
    return client, secret


def new_signing_key(now: datetime) -> SigningKey:
    """A key to be written to the store; the newest one that is not retired signs."""
    pem = ECKey.generate_key("P-256").as_pem(private=True)
    return SigningKey(id=f"k_{secrets.token_hex(8)}", private_pem=pem, created_at=now)


def _mac(server_key: bytes, secret: str) -> bytes:
    # A secret is 256 random bits: there is nothing to guess, so no slow hash on the token path.
    return hmac.digest(server_key, secret.encode("utf-8", "surrogatepass"), "sha256")


class LacksScope(RequestError):
    """The client asks for a token with more than it may do."""

    code = "invalid_scope"


class _UnknownKey(Exception):
    """The token names a key or client that we have not read."""


class Authority:
    """Gives tokens and says whose they are."""

    def __init__(
        self, store: Store, journal: Journal, server_key: bytes, *, issuer: str, token_seconds: int, now: Now
    ) -> None:
        """server_key: what client secrets are kept under."""
        self._store = store
        self._journal = journal
        self._server_key = server_key
        self._issuer = issuer
        self._life = timedelta(seconds=token_seconds)
        self._now = now
        self._clients: Mapping[str, Client] = {}
        self._records: tuple[SigningKey, ...] = ()
        self._keys: dict[str, ECKey] = {}
        self._signing: tuple[str, ECKey] | None = None
        #: By SHA-256 of the token, oldest first.
        self._verified: dict[bytes, Identity] = {}
        self._read_at = _NEVER
        #: When the last reading began, by the loop's clock, and that reading where many wait for it together.
        self._began = float("-inf")
        self._reading: asyncio.Future[None] | None = None
        self._reads = self._taken = 0
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(now().timestamp()),
            iss={"essential": True, "value": issuer},
            sub={"essential": True},
            exp={"essential": True},
        )

    # -- keeping the copy --

    async def load(self) -> None:
        """Read clients and keys; make the first key where there is none."""
        await self._refresh()
        if self._signing is None:
            await self._journal.commit(new_signing_key(self._now()))
            await self._refresh()

    async def _refresh(self) -> None:
        self._began = asyncio.get_running_loop().time()
        before, self._read_at = self._read_at, self._now()  # whoever comes meanwhile goes on with what is known
        self._reads += 1
        number = self._reads
        try:
            clients = await self._journal.read(self._store.clients)
            records = await self._journal.read(self._store.signing_keys)
        except BaseException:
            self._read_at = before
            raise
        if number > self._taken:  # of two reads at once the one that began later knows more
            self._taken = number
            self._take(clients, records)

    async def _refresh_if_older(self, age: timedelta) -> None:
        if self._now() - self._read_at > age:
            await self._refresh()

    async def _refresh_soon(self) -> None:
        """Read what another process may have written until now; a flood of strangers makes us read no more often."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        await asyncio.sleep(max(0.0, self._began + _REFRESH_UNKNOWN_SECONDS - asked))
        if self._began < asked:
            self._reading = asyncio.ensure_future(self._refresh())
        if self._reading is not None:
            await asyncio.shield(self._reading)

    def _take(self, clients: tuple[Client, ...], records: tuple[SigningKey, ...]) -> None:
        now = self._now()
        live = tuple(key for key in records if self._verifies(key, now))
        by_id = {client.id: client for client in clients}
        if live == self._records and by_id == self._clients:
            return
        self._verified.clear()  # what was good may not be any more
        self._clients = by_id
        if live == self._records:
            return
        self._records = live
        known = self._keys
        self._keys = {key.id: known.get(key.id) or _import(key) for key in live}
        signs = [key.id for key in live if key.retired_at is None]
        self._signing = (signs[-1], self._keys[signs[-1]]) if signs else None

    def _verifies(self, key: SigningKey, now: datetime) -> bool:
        return key.retired_at is None or now < key.retired_at + self._life + _GRACE

    # -- keys --

    async def rotate(self, *, revoke: bool = False) -> SigningKey:
        """Make a new key that signs at once; old ones verify until their tokens have expired.

        revoke: the old keys stop verifying now, for one has leaked; every client needs a new token.
        """
        now = self._now()
        fresh = new_signing_key(now)
        retired_at = now - self._life - _GRACE if revoke else now
        await self._journal.commit(fresh)
        for key in self._records:
            if key.retired_at is None or revoke:
                await self._journal.commit(replace(key, retired_at=retired_at))
        await self._refresh()
        return fresh

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The public keys that tokens are verified with, as a JSON Web Key Set."""
        extra = {"use": "sig", "alg": _ALGORITHM}
        return {"keys": [{**key.as_dict(private=False), "kid": id_, **extra} for id_, key in self._keys.items()]}

    # -- clients --

    def client(self, client_id: str) -> Client | None:
        """A client as last read."""
        return self._clients.get(client_id)

    async def clients(self) -> tuple[Client, ...]:
        """All clients, oldest first."""
        await self._refresh()
        return tuple(self._clients.values())

    async def add_client(self, name: str, scopes: Iterable[str]) -> tuple[Client, str]:
        """Register a client; its secret is told now and never again."""
        client, secret = new_client(name, scopes, self._server_key, self._now())
        await self._journal.commit(client)
        await self._refresh()
        return client, secret

    async def disable_client(self, client_id: str) -> Client | None:
        """Give it no tokens any more, and let the ones it has stop working; None where there is no such client."""
        if not _CLIENT_ID.fullmatch(client_id):
            return None
        client = await self._journal.read(self._store.client, client_id)
        if client is None:
            return None
        if client.disabled_at is None:
            client = replace(client, disabled_at=self._now())
            await self._journal.commit(client)
            await self._refresh()
        return client

    async def authenticate(self, client_id: str, secret: str) -> Client:
        """The client whose secret this is. Raises Unauthorised, alike for a wrong secret and an unknown client."""
        await self._refresh_if_older(_REFRESH)
        client = self._clients.get(client_id)
        if client is None and _CLIENT_ID.fullmatch(client_id):
            await self._refresh_soon()  # another process may have just added it; its token must verify too
            client = self._clients.get(client_id)
        expected = bytes(32) if client is None else client.secret_mac
        right = hmac.compare_digest(_mac(self._server_key, secret), expected)
        if client is None or not right or client.disabled_at is not None:
            raise Unauthorised("no such client, or not its secret")
        return client

    # -- tokens --

    async def issue(self, client: Client, scopes: Iterable[str] = ()) -> Token:
        """A token for some of the client's scopes, all by default. Raises LacksScope."""
        wanted = frozenset(scopes) or client.scopes
        if not wanted <= client.scopes:
            raise LacksScope("the client does not have this scope")
        await self._refresh_if_older(_REFRESH)
        if self._signing is None:
            await self.load()
        assert self._signing is not None  # load makes a key
        kid, key = self._signing
        issued = int(self._now().timestamp())
        seconds = int(self._life.total_seconds())
        claims = {
            "iss": self._issuer,
            "sub": client.id,
            "scope": " ".join(sorted(wanted)),
            "iat": issued,
            "exp": issued + seconds,
            "jti": secrets.token_hex(8),
        }
        header = {"alg": _ALGORITHM, "kid": kid, "typ": "JWT"}
        return Token(jwt.encode(header, claims, key, algorithms=[_ALGORITHM]), seconds, wanted)

    async def verify(self, token: str) -> Identity:
        """Whose token this is. Raises Unauthorised; the reason is for the log of nobody but the caller."""
        await self._refresh_if_older(_REFRESH)
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        identity = self._verified.get(digest)
        if identity is None:
            identity = await self._verify_anew(token)
            if len(self._verified) >= _VERIFIED_MAX:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = identity
        elif identity.expires <= self._now():
            del self._verified[digest]
            raise Unauthorised("the token has expired; get a new one")
        return identity

    async def _verify_anew(self, token: str) -> Identity:
        if len(token) > _TOKEN_CHARS_MAX:
            raise Unauthorised("the token is not one of ours")
        try:
            return self._identify(token)
        except _UnknownKey:
            await self._refresh_soon()
        try:
            return self._identify(token)
        except _UnknownKey as exc:
            raise Unauthorised(
                "the token is signed with a key that is not, or no longer, ours, or its client is unknown"
            ) from exc

    def _identify(self, token: str) -> Identity:
        try:
            decoded = jwt.decode(token, self._key_of, algorithms=[_ALGORITHM])
            self._claims.validate(decoded.claims)
        except (JoseError, ValueError, TypeError) as exc:
            raise Unauthorised("the token is not one of ours, or has expired") from exc
        claims = decoded.claims
        client = self._clients.get(claims["sub"])
        if client is None:
            raise _UnknownKey  # added elsewhere a moment ago, as the key may have been
        if client.disabled_at is not None:
            raise Unauthorised("the client is disabled")
        granted = frozenset(str(claims.get("scope", "")).split())
        return Identity(client.id, granted & client.scopes, datetime.fromtimestamp(claims["exp"], UTC))

    def _key_of(self, token: GuestProtocol) -> ECKey:
        key = self._keys.get(str(token.headers().get("kid")))
        if key is None:
            raise _UnknownKey
        return key


def _import(key: SigningKey) -> ECKey:
    return ECKey.import_key(key.private_pem)


class Throttle:
    """How often a minute somebody may do something. Bounded: callers keep strangers under one name."""

    def __init__(self, per_minute: int, now: Now) -> None:
        """per_minute: for each name."""
        self._most = per_minute
        self._now = now
        self._until = _NEVER
        self._counts: dict[str, int] = {}

    def wait(self, name: str) -> int:
        """Count one; 0, or the seconds to wait where that was one too many."""
        now = self._now()
        if now >= self._until:
            self._counts.clear()
            self._until = now + timedelta(minutes=1)
        count = self._counts.get(name, 0) + 1
        self._counts[name] = count
        return 0 if count <= self._most else int((self._until - now).total_seconds()) + 1
