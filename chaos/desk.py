"""A consumer that makes one call after the other, at the region that it is told, and notes what came of each."""

from dataclasses import dataclass, field
from typing import Any

import httpx

from chaos.world import World
from checker.log import ClientLog
from interlock.demo.messages import Message

#: How long an end may take on a busy machine, and a call.
_END_SECONDS, _CALL_SECONDS = 20.0, 25.0


@dataclass
class Desk:
    """A consumer that notes what it sends and is told."""

    world: World
    credentials: tuple[str, str]
    log: ClientLog
    #: Of one call, in seconds.
    patience: float = _CALL_SECONDS
    tokens: dict[str, str] = field(default_factory=dict)
    #: A connection a call, so that none is left over from before a fault; to make the client is what costs.
    http: httpx.Client = field(
        default_factory=lambda: httpx.Client(limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))
    )

    def token(self, region: str) -> str:
        """From that region; fetched once."""
        if region not in self.tokens:
            url = f"{self.world.regions[region].url}/oauth2/token"
            told = self.http.post(
                url, data={"grant_type": "client_credentials"}, auth=self.credentials, timeout=self.patience
            )
            assert told.status_code == 200, told.text
            self.tokens[region] = told.json()["access_token"]
        return self.tokens[region]

    def call(self, region: str, method: str, path: str, *, token: str | None = None, **more: Any) -> httpx.Response:
        """A call; the token is any region's."""
        headers = {"Authorization": f"Bearer {token or self.token(region)}", **more.pop("headers", {})}
        return self.http.request(
            method, self.world.regions[region].url + path, headers=headers, timeout=self.patience, **more
        )

    def submit(
        self, region: str, message: Message, *, wait: int = 0, consistency: str | None = None, key: str | None = None
    ) -> httpx.Response:
        """Send a message."""
        names: Any = {"message": message.message_id, "uetr": message.transfers[0].uetr}
        headers = {"Prefer": f"wait={wait}", "Content-Type": "application/xml"}
        headers |= {"X-Consistency": consistency} if consistency else {}
        headers |= {"Idempotency-Key": key} if key else {}
        self.log.sent(region, content=message.content, consistency=consistency, **names)
        told = self.call(region, "POST", "/v1/messages", content=message.content, headers=headers)
        if told.status_code in (200, 202):
            one = told.json()
            self.log.acknowledged(
                region, transaction=one["transaction_id"], status=one["status"], replicated=one["replicated"],
                fencing=one["fencing"], consistency=consistency, **names,
            )  # fmt: skip
        else:
            self.log.unknown(region, note=told.text, **names)
        return told

    def taken(self, region: str, message: Message, **more: Any) -> dict[str, Any]:
        """Send a message that must be taken; the transaction."""
        told = self.submit(region, message, **more)
        assert told.status_code in (200, 202), told.text
        one: dict[str, Any] = told.json()
        return one

    def get(self, region: str, id_: str, *, wait: int = 0) -> httpx.Response:
        """How it stands there."""
        told = self.call(region, "GET", f"/v1/transactions/{id_}", headers={"Prefer": f"wait={wait}"})
        if told.status_code == 200:
            self.log.answered(region, transaction=id_, status=told.json()["status"])
        return told

    def end(self, region: str, id_: str) -> dict[str, Any]:
        """Once it has one there; asked for again while a region is being lost or found."""
        found: dict[str, Any] = {}

        def ended() -> bool:
            told = self.get(region, id_, wait=2)
            if told.status_code == 200:
                found.update(told.json())
            return bool(found.get("final"))

        self.world.until(ended, f"{id_} ends", seconds=_END_SECONDS)
        return found

    def decide(self, region: str, id_: str, decision: str, *payments: int) -> httpx.Response:
        """Decide, on all or on the payments with these ordinals, and note it where it was taken."""
        some = {"payments": payments} if payments else {}
        told = self.call(region, "POST", f"/v1/transactions/{id_}/decisions", json={"decision": decision, **some})
        if told.status_code == 200 and not payments:
            self.log.decided(region, transaction=id_, decision=decision)
        if told.status_code == 201:
            one = told.json()
            self.log.redriven(region, transaction=one["transaction_id"], redrive_of=id_, attempt=one["attempt"])
        return told

    def issue(self, region: str) -> str:
        """An id from `GET /uuid`."""
        told = self.call(region, "GET", "/uuid")
        assert told.status_code == 200, told.text
        return str(told.json()["transaction_id"])
