"""Speaks HTTP for the demo: both faces, for each client. Plain httpx; nothing of interlock."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from interlock.demo.messages import Message
from interlock.demo.scenario import REFERENCE

_XML = {"Content-Type": "application/xml"}
#: The reference's clients say so although they send XML.
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What came of the call that counts."""

    http: int
    #: `error_code` or `code` of a refusal.
    error: str | None = None
    transaction_id: str | None = None


class Desk:
    """One client's place at the counter."""

    def __init__(self, url: str, client_id: str, client_secret: str) -> None:
        """Fetch a token."""
        self._http = httpx.Client(base_url=url, timeout=30)
        pair = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        form = {"grant_type": "client_credentials", "client_id": client_id, "scope": "rp2/read rp2/write"}
        response = self._http.post("/oauth2/token", data=form, headers={"Authorization": f"Basic {pair}"})
        response.raise_for_status()
        self._token = {"Authorization": f"Bearer {response.json()['access_token']}"}

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def _call(
        self, method: str, path: str, content: Any = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        return self._http.request(method, path, content=content, headers={**self._token, **(headers or {})})

    # -- submitting --

    def new_id(self, definition: str | None) -> str:
        """An id from `GET /uuid`."""
        response = self._call("GET", "/uuid", headers={"X-Message-Type": definition or "pacs.008"})
        response.raise_for_status()
        return str(response.json()["transaction_id"])

    def inbox(self, transaction_id: str, message: Message) -> Call:
        """`POST /inbox`."""
        headers = {**_JSON, "X-Transaction-Id": transaction_id, "X-Message-Type": message.definition or "pacs.008"}
        return _told(self._call("POST", "/inbox", message.content, headers), transaction_id)

    def messages(self, message: Message, *, key: str | None = None, token: bool = True) -> Call:
        """`POST /v1/messages`."""
        headers = {**_XML} if key is None else {**_XML, "Idempotency-Key": key}
        if not token:
            headers["Authorization"] = ""
        return _told(self._call("POST", "/v1/messages", message.content, headers))

    def submit(self, face: str, message: Message) -> Call:
        """A message over one of the faces."""
        if face == REFERENCE:
            return self.inbox(self.new_id(message.definition), message)
        return self.messages(message)

    # -- looking --

    def transaction(self, transaction_id: str, *, seconds: float = 0) -> dict[str, Any]:
        """The transaction on v1, once it has ended or the time is up."""
        end = time.monotonic() + seconds
        while True:
            response = self._call("GET", f"/v1/transactions/{transaction_id}")
            response.raise_for_status()
            found: dict[str, Any] = response.json()
            if found["final"] or time.monotonic() >= end:
                return found
            time.sleep(0.03)

    def status(self, transaction_id: str) -> Call:
        """`GET /v1/transactions/{id}`, whatever comes of it."""
        return _told(self._call("GET", f"/v1/transactions/{transaction_id}"))

    def outbox(self, transaction_id: str) -> Call:
        """`POST /outbox`, whatever comes of it."""
        return _told(self._call("POST", "/outbox", headers={"X-Transaction-Id": transaction_id}), transaction_id)

    def answer(self, face: str, transaction_id: str) -> bytes | None:
        """The answer over one of the faces; None where none is due."""
        if face == REFERENCE:
            response = self._call("POST", "/outbox", headers={"X-Transaction-Id": transaction_id})
            none_due = response.status_code == 204
        else:
            response = self._call("GET", f"/v1/transactions/{transaction_id}/messages/outbox")
            none_due = response.status_code == 404 and response.json().get("code") == "no_answer_due"
        if none_due:
            return None
        response.raise_for_status()
        return response.content

    # -- deciding --

    def decide(self, transaction_id: str, decision: str, **more: str) -> Call:
        """`POST /v1/transactions/{id}/decisions`."""
        path = f"/v1/transactions/{transaction_id}/decisions"
        headers = {**self._token}
        return _told(self._http.post(path, json={"decision": decision, **more}, headers=headers))


def _told(response: httpx.Response, transaction_id: str | None = None) -> Call:
    body = _json(response)
    error = body.get("error_code") or body.get("code") if response.status_code >= 400 else None
    return Call(http=response.status_code, error=error, transaction_id=transaction_id or body.get("transaction_id"))


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
