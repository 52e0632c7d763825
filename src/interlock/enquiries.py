"""Requests about other messages: what the ledger has of the originals, and what is done to them before the answer.

Owns: looking originals up for the client that asks, and cancelling them. What that means, and what is answered, is
`stages/enquire.py`'s.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple
from uuid import UUID

from interlock.decisions import Decision, DecisionKind
from interlock.errors import IllegalDecision, OwnedElsewhere
from interlock.iso20022.original import Original
from interlock.journal import Journal
from interlock.ports import Query, Store
from interlock.stages import enquire, matching
from interlock.stages.enquire import Cancel, Outcome
from interlock.stages.matching import Entry, Facts
from interlock.transaction import KeyKind, Payment, Transaction

#: Of transactions that share a name, how many newest ones are looked at.
_ENTRIES_MAX = 20
#: A message with more payments than this is not read again for what the ledger does not keep of them.
_READ_AGAIN_MAX = 1000
#: How often it is decided anew after what was found has moved.
_TRIES = 8


class Means(NamedTuple):
    """What is done with transactions, which is the workflow's."""

    #: Takes a client's decision on one of its transactions.
    decide: Callable[[str, UUID, Decision], Awaitable[Transaction]]
    #: Waits for its end, so many seconds at most.
    until_end: Callable[[Transaction, float], Awaitable[Transaction]]
    #: As the client may be told of them.
    payments: Callable[[str, UUID], Awaitable[tuple[Payment, ...]]]
    #: What its message says.
    original: Callable[[Transaction], Awaitable[Original | None]]
    #: Whether this region goes on with it.
    is_ours: Callable[[Transaction], bool]
    #: Whether there are other regions.
    is_regional: Callable[[], bool]


class Enquiries:
    """Looks up and cancels on behalf of requests."""

    def __init__(self, store: Store, journal: Journal, means: Means) -> None:
        self._store = store
        self._journal = journal
        self._means = means

    async def outcome(self, request: Transaction, original: Original, seconds: float) -> Outcome | None:
        """What is answered, once all that was to be cancelled is; None where that is not known in time.

        seconds: how long the request may wait for what it cancels.
        """
        for _ in range(_TRIES):
            facts = await self._facts(request.client, original)
            outcome = enquire.run(original, facts)
            if not outcome.cancels and not outcome.waits:
                return outcome
            for cancel in outcome.cancels:
                await self._cancel(request.client, cancel)
            waited = [entry.transaction for entry in _entries(facts) if entry.transaction.id in outcome.waits]
            if waited and not (await self._means.until_end(waited[0], seconds)).standing.is_final:
                return None
        return None

    async def _cancel(self, client: str, cancel: Cancel) -> None:
        decision = Decision(kind=DecisionKind.CANCEL, actor=client, reason=cancel.reason, note=cancel.note)
        try:
            await self._means.decide(client, cancel.transaction, decision)
        except (IllegalDecision, OwnedElsewhere):
            return  # it has moved: what it is now the next look tells

    async def _facts(self, client: str, original: Original) -> Facts:
        """What the ledger has under each reference, of this client's."""
        entries: dict[int, tuple[Entry, ...]] = {}
        met: dict[UUID, Entry] = {}
        is_complete = True
        cancels = original.definition.startswith(("camt.055", "camt.056"))
        for reference in original.references:
            found = await self._named(client, matching.keys(reference))
            # What another region goes on with can be told of, but is not this one's to cancel.
            known = tuple(one for one in found if not cancels or self._means.is_ours(one) or one.standing.is_final)
            if len(known) < len(found):
                # Of several attempts the one that lives may be among those: then nothing can be said of any.
                known, is_complete = (), False
            # What is not here may be in another region, whose changes have not come yet.
            is_complete &= bool(known) or not self._means.is_regional()
            for one in known:
                if one.id not in met:  # a thousand references may name one message
                    met[one.id] = await self._entry(client, one)
            entries[reference.ordinal] = tuple(met[one.id] for one in known)
        return Facts(entries=entries, complete=is_complete)

    async def _named(self, client: str, keys: Iterable[tuple[KeyKind, str]]) -> tuple[Transaction, ...]:
        for key in keys:
            page = await self._journal.read(self._store.find, Query(client=client, key=key, limit=_ENTRIES_MAX))
            if page.transactions:
                return page.transactions
        return ()

    async def _entry(self, client: str, transaction: Transaction) -> Entry:
        payments = await self._means.payments(client, transaction.id)
        original = None
        if transaction.digest is not None and transaction.payments <= _READ_AGAIN_MAX:
            original = await self._means.original(transaction)
        return Entry(transaction=transaction, payments=payments, original=original)


def _entries(facts: Facts) -> Iterable[Entry]:
    return (entry for entries in facts.entries.values() for entry in entries)
