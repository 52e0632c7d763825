"""What messages say: looked at when they come, and again from their bytes whenever their transaction is decided on.

Owns: by which profile, and how strictly, a message is read. The looking itself is `inspection.py`'s.
"""

from functools import partial

from interlock.inspection import Inspector, ProfileOf
from interlock.iso20022.original import Original
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.profiles.facts import Recall
from interlock.stages.facts import Inspection
from interlock.transaction import BodyKind, Payment, Transaction
from interlock.workflow.ground import Ground


class Contents:
    """Reads messages."""

    def __init__(self, ground: Ground, inspector: Inspector, profiles: Profiles, lenient: frozenset[str]) -> None:
        """lenient: clients whose messages are read leniently."""
        self._store = ground.store
        self._journal = ground.journal
        self._inspector = inspector
        self._traces = ground.traces
        self._routes = ground.routes
        self._profiles = profiles
        self._lenient = lenient
        self._now = ground.now

    async def inspect(self, content: bytes, client: str, profile: ProfileOf | None = None) -> Inspection:
        """profile: of the route on which the message is already; unset, of the one that it will choose."""
        named = profile or partial(self._routes.profile_for, client)
        lenient = client in self._lenient
        tracing = self._traces.tracing
        if tracing is None:
            return await self._inspector.inspect(content, self._now().date(), profile=named, lenient=lenient)
        with tracing.step("inspect") as span:
            inspection = await self._inspector.inspect(content, self._now().date(), profile=named, lenient=lenient)
            span.set_attributes(
                {
                    "interlock.definition": inspection.definition or "",
                    "interlock.bytes": len(content),
                    "interlock.findings": len(inspection.findings),
                }
            )
            return inspection

    async def facts(self, transaction: Transaction) -> tuple[Inspection | None, tuple[Payment, ...]]:
        """The message received, looked at again, and its payments as they stand."""
        if transaction.digest is None:
            return None, ()
        body = await self._journal.read(self._store.message, transaction.id, BodyKind.INBOX)
        assert body is not None  # its digest was committed with it
        payments = await self._journal.read(self._store.payments, transaction.id)
        profile = self._routes.named(transaction.route).profile
        return await self.inspect(body.content, transaction.client, lambda _: profile), payments

    async def original(self, transaction: Transaction) -> Original | None:
        """What a transaction's message says; None where it is too long to be read again."""
        if await self._journal.read(self._store.parts, transaction.id, BodyKind.INBOX):
            return None
        inspection, _ = await self.facts(transaction)
        return None if inspection is None else inspection.original

    def recalls(self, transaction: Transaction, original: Original | None) -> tuple[Recall, ...]:
        """Within what time it can be asked back."""
        named = self._routes.named(transaction.route).profile
        if original is None:
            return () if named is None else self._profiles.named(named).recall
        return self._profiles.choose(original, named=named).recall
