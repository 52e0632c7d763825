"""Calls for a transaction of another region are answered by that region, as long as it can be reached."""

import asyncio
import re
from collections.abc import Mapping
from uuid import UUID

import httpx
import structlog

from interlock.api.exchange import Request, Response
from interlock.config import Config
from interlock.errors import HomeRegionLost, OwnedElsewhere, UnknownTransaction
from interlock.regions.rules import Health, condition
from interlock.workflow.ownership import Ownership

_log = structlog.get_logger()

#: A call that was forwarded says by whom, and is not forwarded again.
_BY = b"x-interlock-forwarded-by"
_PATH = re.compile(r"^/v1/transactions/([0-9a-fA-F-]{36})(?:/|$)")
#: What concerns one connection only, or is made anew.
_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"host", b"te", b"upgrade"})
_TIMEOUT = httpx.Timeout(10.0, connect=1.0)
_PROBE_SECONDS = 1.0
_SUSPECT_AFTER, _DEAD_AFTER = 2, 4


class Peers:
    """The other regions' APIs: how they are, and how they are called."""

    def __init__(self, config: Config, ownership: Ownership) -> None:
        """Nothing is called before `watch`."""
        self._own = config.region_number
        self._region = config.region.encode()
        self._ownership = ownership
        self._peers = {peer.number: (name, peer.endpoint) for name, peer in config.regions.items()}
        self._health: dict[int, Health] = dict.fromkeys(self._peers, Health())
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False)
        self._watching: asyncio.Task[None] | None = None

    # -- health --

    def watch(self) -> None:
        """Look at every peer once a second from here on."""
        if self._peers and self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch(), name="peers")

    async def close(self) -> None:
        """Look no more."""
        if self._watching is not None:
            self._watching.cancel()
        await self._client.aclose()

    async def _watch(self) -> None:
        while True:
            await asyncio.gather(*map(self._probe, self._peers), asyncio.sleep(_PROBE_SECONDS))

    async def _probe(self, number: int) -> None:
        before = self._health[number]
        try:
            response = await self._client.get(f"{self._peers[number][1]}/readyz", timeout=_PROBE_SECONDS)
            alive = response.status_code == 200
        except httpx.HTTPError:
            alive = False
        self._health[number] = before.heard() if alive else before.missed(_PROBE_SECONDS)

    def conditions(self, taken: frozenset[int]) -> Mapping[int, str]:
        """What each peer is: healthy, suspect, dead, fenced or rejoining."""
        return {
            number: condition(
                health, suspect_after=_SUSPECT_AFTER, dead_after=_DEAD_AFTER, post_fenced=False, taken=number in taken
            )
            for number, health in self._health.items()
        }

    # -- forwarding --

    async def elsewhere(self, request: Request) -> int | None:
        """The region that a call must go to; None: this one.

        Raises HomeRegionLost where nobody here knows the transaction, and its home cannot be asked.
        """
        if not self._peers or _BY in request.headers:
            return None
        id_ = _named(request)
        home = None if id_ is None else id_.int & 0xFF
        if id_ is None or (home == self._own and request.scope["method"] in ("GET", "HEAD")):
            return None
        try:
            owner = await self._ownership.owner(id_)
        except UnknownTransaction:
            if home not in self._peers:
                return None
            if self._health[home].failures >= _SUSPECT_AFTER:
                raise HomeRegionLost(
                    f"region {self._peers[home][0]} issued this id and cannot be asked; it is not known here"
                ) from None
            return home
        reads = request.scope["method"] in ("GET", "HEAD") or request.path == "/outbox"
        return None if reads or owner == self._own else owner

    async def ask(self, number: int, method: str, path: str, *, token: str, content: bytes | None) -> httpx.Response:
        """A call of our own to another region, which is not handed on there. Raises HomeRegionLost, OwnedElsewhere.

        Soon: whoever asks has others to go on with.
        """
        if number not in self._peers:
            raise OwnedElsewhere(number)
        name, endpoint = self._peers[number]
        if self._health[number].failures >= _SUSPECT_AFTER:
            raise HomeRegionLost(f"region {name} cannot be asked")
        headers = [(b"authorization", f"Bearer {token}".encode()), (_BY, self._region)]
        if content is not None:
            headers.append((b"content-type", b"application/json"))
        try:
            return await self._client.request(
                method, f"{endpoint}{path}", headers=headers, content=content, timeout=_PROBE_SECONDS
            )
        except httpx.HTTPError as exc:
            raise HomeRegionLost(f"region {name} does not answer ({type(exc).__name__})") from exc

    async def forward(self, request: Request, body: bytes, number: int) -> Response:
        """The other region's answer. Raises HomeRegionLost, OwnedElsewhere."""
        if number not in self._peers:
            raise OwnedElsewhere(number)
        name, endpoint = self._peers[number]
        query = request.scope.get("query_string", b"").decode("latin-1")
        url = f"{endpoint}{request.path}{f'?{query}' if query else ''}"
        headers = [(key, value) for key, value in request.scope["headers"] if key not in _HOP]
        headers.append((_BY, self._region))
        try:
            found = await self._client.request(request.scope["method"], url, headers=headers, content=body)
        except httpx.HTTPError as exc:
            raise HomeRegionLost(
                f"region {name} goes on with this transaction and does not answer ({type(exc).__name__})"
            ) from exc
        kept = tuple((key.lower(), value) for key, value in found.headers.raw if key.lower() not in _HOP)
        return Response(found.status_code, kept, found.content)


def _named(request: Request) -> UUID | None:
    """The transaction that a call is about."""
    found = _PATH.match(request.path)
    value = found[1] if found is not None else request.header(b"x-transaction-id")
    try:
        return None if value is None else UUID(value)
    except ValueError:
        return None
