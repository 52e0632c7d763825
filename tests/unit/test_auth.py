"""Clients, keys and tokens, over a store in a temporary folder and a clock that the tests turn."""

import base64
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from interlock.auth import Authority, LacksScope, Scope, Throttle, new_client, new_signing_key
from interlock.errors import RequestError, Unauthorised
from interlock.journal import Journal
from interlock.ports import Write
from interlock.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

KEY = bytes(range(32))
LIFE = 3600


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Hand:
    """A clock that stands until it is turned."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The present."""
        return self.at

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)


class World:
    """An authority with all that it stands on."""

    def __init__(self, folder: Path) -> None:
        self.clock = Hand()
        self.store = SqliteStore(folder / "auth.db")
        self.journal = Journal(self.store, self.store.register(self.clock()))
        self.authority = self.another()

    def another(self) -> Authority:
        """A second server's authority over the same store."""
        return Authority(self.store, self.journal, KEY, issuer="here", token_seconds=LIFE, now=self.clock)

    def write_beside(self, *writes: Write) -> None:
        """What the command line does while a server runs."""
        self.store.commit(self.store.current_token(), writes, os.urandom(16))

    async def token(self, *scopes: Scope) -> tuple[str, str]:
        """A new client's id, and a token of its."""
        client, secret = await self.authority.add_client("a", scopes or (Scope.READ, Scope.WRITE))
        token = await self.authority.issue(await self.authority.authenticate(client.id, secret))
        return client.id, token.text


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.authority.load()
    yield world
    await world.journal.stop()
    world.store.close()


def with_claims(token: str, **changes: Any) -> str:
    """The token with other claims under the old signature."""
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**claims, **changes}).encode()).decode().rstrip("=")
    return f"{head}.{changed}.{signature}"


async def refused(world: World, token: str) -> bool:
    try:
        await world.authority.verify(token)
    except Unauthorised:
        return True
    return False


async def test_a_token_says_whose_it_is(world: World) -> None:
    """A client that proves its secret gets a token that names it, its scopes, and its end."""
    client_id, token = await world.token(Scope.READ)
    identity = await world.authority.verify(token)
    assert identity.client_id == client_id
    assert identity.scopes == {Scope.READ}
    assert identity.expires == world.clock() + timedelta(seconds=LIFE)
    assert await world.authority.verify(token) == identity


async def test_secrets_are_random_and_nowhere_kept(world: World) -> None:
    """A secret has 256 bits; the store holds its MAC under the server's key, and nothing to get it back from."""
    client, secret = await world.authority.add_client("a", [Scope.READ])
    assert len(base64.urlsafe_b64decode(secret + "=")) == 32
    assert client.id.startswith("c_")
    assert len(client.id) == 18
    stored = world.store.client(client.id)
    assert stored is not None
    assert secret not in repr(stored)
    assert all(secret.encode() not in bytes(part) for part in (stored.secret_mac, stored.name.encode()))


@pytest.mark.parametrize("secret", ["", "wrong", "\ud800"])
async def test_a_wrong_secret_is_refused_like_an_unknown_client(world: World, secret: str) -> None:
    """Nobody learns whether a client exists by trying secrets."""
    client, _ = await world.authority.add_client("a", [Scope.READ])
    texts = set()
    for client_id in (client.id, "c_0000000000000000", "", "x" * 9999):
        with pytest.raises(Unauthorised) as refusal:
            await world.authority.authenticate(client_id, secret)
        texts.add(str(refusal.value))
    assert len(texts) == 1


async def test_scopes_can_be_narrowed_but_not_widened(world: World) -> None:
    """A token can be asked for with fewer scopes than the client has, never with others."""
    client, _ = await world.authority.add_client("a", [Scope.READ, Scope.WRITE])
    narrow = await world.authority.issue(client, [Scope.READ])
    assert (await world.authority.verify(narrow.text)).scopes == {Scope.READ}
    with pytest.raises(LacksScope):
        await world.authority.issue(client, [Scope.READ, Scope.ADMIN])


@pytest.mark.parametrize("scopes", [(), ("rp2/nope",), ("rp2/read", "x")])
async def test_clients_have_known_scopes(scopes: tuple[str, ...]) -> None:
    """A client without a scope, or with one that we do not know, cannot be made."""
    with pytest.raises(RequestError):
        new_client("a", scopes, KEY, datetime.now(UTC))


async def test_an_expired_token_is_refused(world: World) -> None:
    """A token works to its last second and not after, whether it was seen before or not."""
    _, token = await world.token()
    world.clock.turn(LIFE - 1)
    assert not await refused(world, token)
    world.clock.turn(1)
    assert await refused(world, token)
    other = world.another()
    await other.load()
    with pytest.raises(Unauthorised):
        await other.verify(token)


async def test_a_tampered_token_is_refused(world: World) -> None:
    """A token with another subject, scope or end, or a mended signature, is nobody's."""
    other, _ = await world.token()
    _, token = await world.token()
    assert await refused(world, with_claims(token, sub=other))
    assert await refused(world, with_claims(token, scope="interlock/admin"))
    assert await refused(world, with_claims(token, exp=2**40))
    assert await refused(world, token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB"))
    assert await refused(world, token + "x" * 5000)
    for junk in ("", ".", "a.b.c", "\ud800", "Bearer", token.rsplit(".", 1)[0] + "."):
        assert await refused(world, junk)


async def test_unsigned_and_symmetric_tokens_are_refused(world: World) -> None:
    """`alg: none`, and HMAC with our public key as the secret, are not taken for ES256."""
    client_id, token = await world.token()
    kid = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))["kid"]
    claims = {"iss": "here", "sub": client_id, "scope": "interlock/admin", "exp": 2**40}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    for alg in ("none", "None", "NONE"):
        head = base64.urlsafe_b64encode(json.dumps({"alg": alg, "kid": kid}).encode()).decode().rstrip("=")
        assert await refused(world, f"{head}.{body}.")
    public = json.dumps(world.authority.jwks()).encode()
    forged = jwt.encode({"alg": "HS256", "kid": kid}, claims, OctKey.import_key(public))
    assert await refused(world, forged)


async def test_a_token_of_another_key_is_refused(world: World) -> None:
    """A good ES256 signature of somebody else's key counts for nothing, whatever key it claims to be of."""
    client_id, token = await world.token()
    kid = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))["kid"]
    theirs = ECKey.generate_key("P-256")
    claims = {"iss": "here", "sub": client_id, "scope": "rp2/read", "exp": 2**40}
    for header in ({"alg": "ES256", "kid": kid}, {"alg": "ES256", "kid": "k_theirs"}, {"alg": "ES256"}):
        assert await refused(world, jwt.encode(header, claims, theirs))


async def test_a_token_of_another_issuer_is_refused(world: World) -> None:
    """Our key under another issuer's name (a test system with a copied store) does not open this one."""
    client_id, _ = await world.token()
    record = world.store.signing_keys()[-1]
    key = ECKey.import_key(record.private_pem)
    header = {"alg": "ES256", "kid": record.id}
    for claims in (
        {"iss": "elsewhere", "sub": client_id, "exp": 2**33},
        {"sub": client_id, "exp": 2**33},
        {"iss": "here", "exp": 2**33},
        {"iss": "here", "sub": client_id},
        {"iss": "here", "sub": client_id, "exp": "soon"},
        {"iss": "here", "sub": ["x"], "exp": 2**33},
    ):
        assert await refused(world, jwt.encode(header, claims, key)), claims
    good = {"iss": "here", "sub": client_id, "exp": 2**33}
    assert not await refused(world, jwt.encode(header, good, key))


async def test_a_disabled_client_stops_working_at_once(world: World) -> None:
    """Once a client is disabled its tokens are refused, also those seen before, and it gets no new ones."""
    client, secret = await world.authority.add_client("a", [Scope.READ])
    token = (await world.authority.issue(client)).text
    assert not await refused(world, token)
    await world.authority.disable_client(client.id)
    assert await refused(world, token)
    with pytest.raises(Unauthorised):
        await world.authority.authenticate(client.id, secret)
    assert await world.authority.disable_client("c_nobody") is None


async def test_a_client_disabled_by_another_process_stops_within_seconds(world: World) -> None:
    """What the command line does while a server runs counts without a restart."""
    client, secret = await world.authority.add_client("a", [Scope.READ])
    token = (await world.authority.issue(client)).text
    assert not await refused(world, token)
    world.write_beside(replace(client, disabled_at=world.clock()))
    world.clock.turn(3)
    assert await refused(world, token)
    with pytest.raises(Unauthorised):
        await world.authority.authenticate(client.id, secret)


async def test_a_client_added_by_another_process_works_at_once(world: World) -> None:
    """A client that is not known is looked for in the store before it is refused."""
    client, secret = new_client("a", [Scope.READ], KEY, world.clock())
    world.write_beside(client)
    found = await world.authority.authenticate(client.id, secret)
    token = await world.authority.issue(found)
    assert (await world.authority.verify(token.text)).client_id == client.id


async def test_rotation_interrupts_nobody(world: World) -> None:
    """The new key signs at once; tokens of the old one stay good until they run out, and no longer."""
    client_id, old = await world.token()
    key = await world.authority.rotate()
    assert len(world.authority.jwks()["keys"]) == 2
    client = world.authority.client(client_id)
    assert client is not None
    new = (await world.authority.issue(client)).text
    assert json.loads(base64.urlsafe_b64decode(new.split(".")[0] + "=="))["kid"] == key.id
    assert not await refused(world, old)
    assert not await refused(world, new)
    world.clock.turn(LIFE + 61)
    assert await refused(world, old)
    assert len(world.authority.jwks()["keys"]) == 1


async def test_a_rotation_by_another_process_is_noticed(world: World) -> None:
    """A running server signs with the new key within seconds, and takes tokens of it at once."""
    client_id, old = await world.token()
    client = world.authority.client(client_id)
    assert client is not None
    fresh = new_signing_key(world.clock())
    world.write_beside(*(replace(key, retired_at=world.clock()) for key in world.store.signing_keys()), fresh)
    claims = {"iss": "here", "sub": client_id, "scope": "rp2/read", "exp": int(world.clock().timestamp()) + 60}
    theirs = jwt.encode({"alg": "ES256", "kid": fresh.id}, claims, ECKey.import_key(fresh.private_pem))
    world.clock.turn(1)
    assert not await refused(world, theirs)
    assert not await refused(world, old)
    world.clock.turn(3)
    new = (await world.authority.issue(client)).text
    assert json.loads(base64.urlsafe_b64decode(new.split(".")[0] + "=="))["kid"] == fresh.id


async def test_a_token_of_another_process_works_the_moment_it_is_given(world: World) -> None:
    """A process that has just read keys and clients reads again before it refuses what came into being since."""
    other = world.another()
    await other.load()
    await world.authority.rotate()
    _, token = await world.token()
    await other.verify(token)
    _, token = await world.token()  # a client of a moment later, under a key that is known by now
    await other.verify(token)


async def test_a_leaked_key_can_be_revoked(world: World) -> None:
    """Rotation with revocation makes every token of the old keys worthless at once, seen before or not."""
    _, seen = await world.token()
    _, unseen = await world.token()
    assert not await refused(world, seen)
    await world.authority.rotate(revoke=True)
    assert await refused(world, seen)
    assert await refused(world, unseen)
    assert len(world.authority.jwks()["keys"]) == 1


async def test_keys_survive_a_restart(world: World) -> None:
    """A new process verifies what the old one signed, and does not make a key of its own."""
    _, token = await world.token()
    other = world.another()
    await other.load()
    assert (await other.verify(token)).scopes == {Scope.READ, Scope.WRITE}
    assert len(world.store.signing_keys()) == 1


async def test_the_key_set_is_public(world: World) -> None:
    """The key set verifies our tokens and holds nothing private."""
    _, token = await world.token()
    (public,) = world.authority.jwks()["keys"]
    assert "d" not in public
    assert jwt.decode(token, ECKey.import_key(public), algorithms=["ES256"]).claims["iss"] == "here"


async def test_memory_of_tokens_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tokens come, only so many are remembered, and a forgotten one is simply verified again."""
    monkeypatch.setattr("interlock.auth._VERIFIED_MAX", 3)
    client, _ = await world.authority.add_client("a", [Scope.READ])
    tokens = [(await world.authority.issue(client)).text for _ in range(6)]
    for token in [*tokens, *tokens]:
        assert not await refused(world, token)
    assert len(world.authority._verified) == 3


def test_a_throttle_counts_by_name_and_minute() -> None:
    """Each name has its own count, it says how long to wait, and a new minute begins anew."""
    clock = Hand()
    throttle = Throttle(2, clock)
    assert [throttle.wait("a"), throttle.wait("a"), throttle.wait("b")] == [0, 0, 0]
    clock.turn(20)
    assert throttle.wait("a") == 41
    assert throttle.wait("b") == 0
    clock.turn(40)
    assert throttle.wait("a") == 0
