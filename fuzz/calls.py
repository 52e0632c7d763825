"""What must hold for every call of the HTTP faces.

A call goes to the application itself: what stands before it, uvicorn, is others' work.
"""

import asyncio
import json
import re
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import unquote
from uuid import UUID

from fuzz.broken import Broken
from fuzz.canaries import is_told
from fuzz.measured import quick
from interlock.auth import Scope
from interlock.ports import Client
from interlock.transaction import BodyKind
from tests.messages import pacs008

#: What a client is told in words; everything else it sent itself, or is an id.
_WORDS: Final = frozenset({"title", "detail", "text", "message", "error_message", "error_code", "msg"})
#: No more of a field's name is told.
_NAME_MAX: Final = 100


def check(content: bytes, _random: Random) -> str:
    """Answered, within the time, in a form that can be read, without what the caller said; and kept as it was sent."""
    server = _server()
    call = _Call.of(content, server.known)
    answer = quick("call", lambda: server.run(call))
    if answer.status == 401 and b"{token}" in content:  # an earlier call may have revoked the keys, which is its right
        server.renew()
        call = _Call.of(content, server.known)
        answer = quick("call", lambda: server.run(call))
    if not 200 <= answer.status < 500:
        raise Broken(f"answered {answer.status}", f"{call.method} {call.path[:100]}: {answer.body[:500]!r}")
    told = _read(call, answer)
    if answer.status >= 400:
        names = _names(call.body)
        for word, text in _words(told):
            if is_told(_without(text, names)):
                raise Broken("problem repeats a value", f"{word} of {answer.status} at {call.path[:100]}: {text[:200]}")
        if call.path.startswith("/v1/"):
            _is_problem(call, answer, told)
    elif call.method == "POST" and call.path in ("/v1/messages", "/inbox") and isinstance(told, dict):
        kept = server.message(UUID(str(told["transaction_id"])))
        if kept != call.body:
            raise Broken("bytes changed", f"{len(kept)} are kept, {len(call.body)} were sent")
    return f"{answer.status} {answer.body.decode()}" if call.path == "/v1/validations" else ""


def _read(call: "_Call", answer: "_Answer") -> Any:
    """Its body; None where it is no JSON and says so."""
    if not answer.body or b"json" not in answer.headers.get(b"content-type", b""):
        if answer.status >= 400 and answer.body and call.method != "HEAD":
            raise Broken("refusal in another form", f"{answer.status} {answer.headers}")
        return None
    try:
        return json.loads(answer.body.decode())
    except ValueError as exc:
        raise Broken("answer is no JSON", f"{call.method} {call.path[:100]}: {answer.body[:300]!r}") from exc


def _names(body: bytes) -> list[str]:
    """Those that the caller gave to fields, which it is told again where we do not know them."""
    found: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        found.extend(name for name, _ in pairs if name)

    with suppress(ValueError, RecursionError):
        json.loads(body, object_pairs_hook=note)
    return found


def _without(text: str, names: list[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name[:_NAME_MAX], "")
    return text


def _words(told: Any) -> list[tuple[str, str]]:
    if isinstance(told, dict):
        own = [(key, value) for key, value in told.items() if key in _WORDS and isinstance(value, str)]
        return own + [found for value in told.values() for found in _words(value)]
    return [found for value in told for found in _words(value)] if isinstance(told, list) else []


def _is_problem(call: "_Call", answer: "_Answer", told: Any) -> None:
    if call.method == "HEAD":
        return
    if not isinstance(told, dict) or not {"type", "title", "status", "detail", "code"} <= told.keys():
        raise Broken("no problem document", f"{answer.status} at {call.path[:100]}: {answer.body[:300]!r}")
    if told["status"] != answer.status or len(answer.body) > 20_000:
        raise Broken("problem document", f"{answer.status} and {told['status']}, {len(answer.body)} bytes")


class _Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class _Call(NamedTuple):
    """As the server in front of the application would hand it over."""

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def of(cls, content: bytes, known: Callable[[str], str]) -> "_Call":
        head, _, body = content.partition(b"\n\n")
        head = re.sub(rb"\{(\w+)\}", lambda match: known(match[1].decode()).encode(), head)
        body = body.replace(b"{ended}", known("ended").encode())
        first, *lines = head.split(b"\n")
        method, _, target = first.partition(b" ")
        raw, _, query = target.partition(b"?")
        pairs = [line.partition(b":")[::2] for line in lines if line]
        headers = [(name.strip().lower(), value.strip()) for name, value in pairs]
        if body and not any(name == b"content-length" for name, _ in headers):
            headers.append((b"content-length", b"%d" % len(body)))
        path = unquote(raw.decode("ascii", "replace").partition("#")[0])
        return cls(method.decode("ascii", "replace"), path, query.partition(b"#")[0], tuple(headers), body)


class _Server:
    """An Interlock with its faces, in this process, for as long as that lives."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="interlock-fuzz-")
        self._runner = asyncio.Runner()
        self._client, self._token, self._ended = self._runner.run(self._begin())

    async def _begin(self) -> tuple[Client, str, str]:
        from interlock.api.asgi import Faces
        from interlock.app import Interlock
        from interlock.config import Config

        config = Config(data=Path(self._folder.name), wait_seconds_max=0, token_calls_per_minute=1_000_000)
        self._interlock = Interlock(config)
        await self._interlock.start()
        self._faces = Faces(self._interlock, endpoint="interlock.test")
        client, _ = await self._interlock.authority.add_client("fuzz", tuple(Scope))
        token = (await self._interlock.authority.issue(client)).text
        ended = await self._interlock.workflow.receiving.submit(client.id, pacs008())
        return client, token, str(ended.id)

    def renew(self) -> None:
        """Get another token; the one before may be good no more."""
        self._token = self._runner.run(self._interlock.authority.issue(self._client)).text

    def known(self, name: str) -> str:
        """What stands for a word in braces."""
        match name:
            case "token":
                return self._token
            case "ended":
                return self._ended
            case "issued":
                return str(self._runner.run(self._interlock.workflow.receiving.issue(self._client.id)).id)
            case _:
                return f"{{{name}}}"

    def run(self, call: _Call) -> _Answer:
        """The answer to a call."""
        return self._runner.run(self._call(call))

    def message(self, transaction: UUID) -> bytes:
        """A message as it was kept."""
        workflow = self._interlock.workflow
        return self._runner.run(workflow.reading.message(self._client.id, transaction, BodyKind.INBOX)).content

    async def _call(self, call: _Call) -> _Answer:
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": call.method,
            "scheme": "http",
            "path": call.path,
            "raw_path": call.path.encode("utf-8", "replace"),
            "query_string": call.query,
            "root_path": "",
            "headers": list(call.headers),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        half = len(call.body) // 2
        waiting: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": call.body[:half], "more_body": True},
            {"type": "http.request", "body": call.body[half:], "more_body": False},
        ]
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        answered: Awaitable[None] = self._faces(scope, receive, send)
        await answered
        return _answer_of(sent)


def _answer_of(sent: Sequence[MutableMapping[str, Any]]) -> _Answer:
    starts = [message for message in sent if message["type"] == "http.response.start"]
    if len(starts) != 1:
        raise Broken("not answered once", f"{len(starts)} responses begin")
    body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return _Answer(starts[0]["status"], {name.lower(): value for name, value in starts[0]["headers"]}, body)


@cache
def _server() -> _Server:
    return _Server()
