"""What requests about other messages need of the other regions, asked over their APIs in the client's name."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import httpx
import msgspec

from interlock.api.forwarding import Peers
from interlock.auth import Authority
from interlock.errors import HomeRegionLost, OwnedElsewhere
from interlock.iso20022.codes import HeldCause, Status
from interlock.stages.cancelling import Cancel
from interlock.transaction import KeyKind

#: Names by which transactions are searched for.
_PARAMETERS = {
    KeyKind.UETR: "uetr",
    KeyKind.MESSAGE: "message_id",
    KeyKind.TRANSACTION: "transaction_reference",
    KeyKind.END_TO_END: "end_to_end_id",
}


class Abroad:
    """The other regions, each asked with a token of the client whose request it is: it sees and does no more there."""

    def __init__(self, peers: Peers, authority: Authority) -> None:
        """Nothing is asked before it is needed."""
        self._peers = peers
        self._authority = authority

    async def cancel(self, region: int, client: str, cancel: Cancel) -> bool:
        """Cancel there; whether that region has said what it made of it, which then comes with its changes."""
        body: dict[str, object] = {"decision": "cancel", "reason": cancel.reason, "note": cancel.note}
        if cancel.payments is not None:
            body["payments"] = cancel.payments
        path = f"/v1/transactions/{cancel.transaction}/decisions"
        found = await self._ask(region, client, "POST", path, msgspec.json.encode(body))
        return found is not None and found.status_code in (httpx.codes.OK, httpx.codes.CONFLICT)

    async def knows(self, region: int, client: str, key: tuple[KeyKind, str], *, living: bool) -> bool | None:
        """Whether it has something of the client's under a name; None: it cannot be asked.

        living: something that was not rejected or cancelled.
        """
        statuses = [status for status in Status if status not in (Status.RJCT, Status.CANC)] if living else []
        query = urlencode({_PARAMETERS[key[0]]: key[1], "limit": 1, "status": statuses}, doseq=True)
        found = await self._ask(region, client, "GET", f"/v1/transactions?{query}")
        told = _content(found)
        return None if told is None else bool(told["transactions"])

    async def standing(self, region: int, client: str, transaction: UUID) -> tuple[Status, HeldCause | None] | None:
        """Status of a transaction there, and what holds it; None: it cannot be asked."""
        told = _content(await self._ask(region, client, "GET", f"/v1/transactions/{transaction}"))
        if told is None:
            return None
        held = told["held"]
        return Status(told["status"]), None if held is None else HeldCause(held)

    async def _ask(
        self, region: int, client: str, method: str, path: str, content: bytes | None = None
    ) -> httpx.Response | None:
        known = self._authority.client(client)
        if known is None or known.disabled_at is not None:
            return None
        token = await self._authority.issue(known)
        try:
            return await self._peers.ask(region, method, path, token=token.text, content=content)
        except (HomeRegionLost, OwnedElsewhere):
            return None


def _content(found: httpx.Response | None) -> dict[str, Any] | None:
    if found is None or found.status_code != httpx.codes.OK:
        return None
    told: dict[str, Any] = found.json()
    return told
