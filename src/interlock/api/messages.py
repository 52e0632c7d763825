"""`POST /v1/messages`: id, message and answer in one call."""

import asyncio
import contextlib
import re
from typing import NamedTuple

from interlock.api.access import Access
from interlock.api.dials import Dials
from interlock.api.exchange import JSON, XML, Headers, Intake, Request, Response, Spooled, refuse_unless_message
from interlock.api.problems import InvalidRequest
from interlock.api.views import Views, as_json
from interlock.auth import Scope
from interlock.errors import DependencyError
from interlock.transaction import Transaction
from interlock.workflow import Workflow
from interlock.workflow.reading import Reading

IDEMPOTENCY_KEY_CHARS_MAX = 255
REFERENCE_CHARS_MAX = 140
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


class Preference(NamedTuple):
    """How long the caller would wait, in seconds; 0: not at all."""

    seconds: float

    @property
    def applied(self) -> Headers:
        """The header that tells it was honoured."""
        return ((b"preference-applied", b"wait=%d" % self.seconds),) if self.seconds else ()


class Patience:
    """Waits for ends on a caller's behalf, until the server is to stop."""

    def __init__(self, reading: Reading, seconds_max: float) -> None:
        self._reading = reading
        self._seconds_max = seconds_max
        #: Set when the server is to stop: who waits is answered with what is.
        self.stopping = asyncio.Event()

    def preference(self, prefer: str | None) -> Preference:
        """What a Prefer header asks for; what we do not know in it is ignored, as RFC 7240 says."""
        found = None if prefer is None else _WAIT.search(prefer)
        return Preference(0 if found is None else min(int(found[1]), self._seconds_max))

    async def until_end(self, transaction: Transaction, preference: Preference) -> Transaction:
        """The transaction once it has ended, or as it stands when the time is up."""
        if transaction.standing.is_final or not preference.seconds or self.stopping.is_set():
            return transaction
        ended = asyncio.ensure_future(self._reading.until_end(transaction, preference.seconds))
        stopping = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            return await ended if ended.done() else transaction
        finally:
            ended.cancel()
            stopping.cancel()


class Messages:
    """The call."""

    def __init__(
        self, workflow: Workflow, access: Access, intake: Intake, patience: Patience, views: Views, dials: Dials
    ) -> None:
        self._workflow = workflow
        self._access = access
        self._intake = intake
        self._patience = patience
        self._views = views
        self._dials = dials

    async def submit(self, request: Request) -> Response:
        """200 with the transaction once it has ended, 202 while it has not; refused messages are RJCT, not errors."""
        identity = await self._access.require(request, Scope.WRITE)
        consistency = self._dials.asked(request)
        idempotency_key = _text(request, b"idempotency-key", IDEMPOTENCY_KEY_CHARS_MAX)
        reference = _text(request, b"x-client-reference", REFERENCE_CHARS_MAX)
        async with self._intake.take(request, identity.client_id) as content:
            if isinstance(content, Spooled):
                refuse_unless_message(content.head)
                bulk = self._workflow.bulk
                assert bulk is not None  # else nobody makes files of messages
                transaction = await bulk.submit(
                    identity.client_id, content.path, content.digest,
                    idempotency_key=idempotency_key, reference=reference,
                )  # fmt: skip
            else:
                refuse_unless_message(content)
                transaction = await self._workflow.receiving.submit(
                    identity.client_id, content,
                    idempotency_key=idempotency_key, reference=reference, consistency=consistency,
                )  # fmt: skip
        confirmed = await self._dials.confirm(transaction, consistency)
        preference = self._patience.preference(request.header(b"prefer"))
        transaction = await self._patience.until_end(confirmed.transaction, preference)
        if transaction.version != confirmed.transaction.version:
            confirmed = await self._dials.confirm(transaction, consistency)
            transaction = confirmed.transaction
        location = (b"location", f"/v1/transactions/{transaction.id}".encode())
        headers: Headers = (location, *preference.applied)
        if transaction.standing.is_final and _wants_xml(request) and not isinstance(content, Spooled):
            # What was acknowledged is told as such, even if its answer cannot be read this moment.
            with contextlib.suppress(DependencyError):
                _, answer = await self._workflow.reading.collect(identity.client_id, transaction.id)
                if answer is not None:
                    return Response(200, (XML, *headers), answer.content)
        body = as_json(self._views.transaction(transaction, confirmed.distance))
        return Response(200 if transaction.standing.is_final else 202, (JSON, *headers), body)


def _text(request: Request, name: bytes, chars_max: int) -> str | None:
    """A header of the caller's own words. Raises InvalidRequest where it is empty or too long."""
    value = request.header(name)
    if value is not None and not 0 < len(value) <= chars_max:
        raise InvalidRequest(f"the header {name.decode()} must have 1 to {chars_max} characters")
    return value


def _wants_xml(request: Request) -> bool:
    accept = request.headers.get(b"accept", b"")
    return b"/xml" in accept and b"json" not in accept
