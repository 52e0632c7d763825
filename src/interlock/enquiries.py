"""Requests about other messages: what the ledger has of the originals, and what is done to them before the answer.

Owns: looking originals up for the client that asks, and cancelling them. What that means, and what is answered, is
`stages/enquire.py`'s.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from interlock.decisions import Decision, DecisionKind
from interlock.errors import IllegalDecision, OwnedElsewhere
from interlock.iso20022.codes import Status
from interlock.iso20022.original import Original, Reference
from interlock.iso20022.profiles.facts import Recall
from interlock.journal import Journal
from interlock.ports import Query, Store
from interlock.stages import enquire, matching, receive
from interlock.stages.enquire import Cancel, Outcome
from interlock.stages.matching import Entry, Facts
from interlock.transaction import KeyKind, Payment, Transaction

#: Of transactions that share a name, how many newest ones are looked at.
_ENTRIES_MAX = 20
#: Of so many cases in one request it is looked up what was asked in them before; a request has one as a rule.
_CASES_MAX = 20
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
    #: Within what time it can be asked back, by the profile of its route, or the one that its message chooses.
    recalls: Callable[[Transaction, Original | None], tuple[Recall, ...]]
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
            facts = await self._facts(request, original)
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

    async def _facts(self, request: Transaction, original: Original) -> Facts:
        """What the ledger has under each reference, of this client's."""
        client = request.client
        entries: dict[int, tuple[Entry, ...]] = {}
        met: dict[UUID, Entry] = {}
        is_complete = True
        cancels = receive.is_repeatable(original.definition)
        asked, is_reused = await self._asked(request, original) if cancels else ({}, False)
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
        return Facts(entries=entries, complete=is_complete, asked=asked, reused=is_reused)

    async def _asked(self, request: Transaction, original: Original) -> tuple[dict[int, datetime], bool]:
        """When the same was asked for first, and whether the request's own id was used for something else before.

        The same is the same original, for the same reason, in the same case or under the same id.
        """
        cases = dict.fromkeys(one.case_id for one in original.references if one.case_id)
        names = [(KeyKind.CASE, case) for case in islice(cases, _CASES_MAX)]
        if original.message_id:
            names.append((KeyKind.MESSAGE, original.message_id))
        first: dict[_Same, datetime] = {}
        is_reused = False
        for one in await self._before(request, names):
            earlier = await self._means.original(one)
            if earlier is None:
                continue
            meant = [_same(reference) for reference in earlier.references]
            is_reused |= earlier.message_id == original.message_id and meant != [_same(r) for r in original.references]
            for same in meant:
                first[same] = min(one.created_at, first.get(same, one.created_at))
        asked = {one.ordinal: first.get(_same(one), request.created_at) for one in original.references}
        return asked, is_reused

    async def _before(self, request: Transaction, names: Iterable[tuple[KeyKind, str]]) -> Iterable[Transaction]:
        """Requests of the same kind that came before under one of these names, and were not refused."""
        found: dict[UUID, Transaction] = {}
        for name in names:
            query = Query(client=request.client, key=name, limit=_ENTRIES_MAX)
            for one in (await self._journal.read(self._store.find, query)).transactions:
                is_kind = (one.definition or "")[:8] == (request.definition or "")[:8]
                is_before = (one.created_at, one.id) < (request.created_at, request.id)
                if is_kind and is_before and one.standing.end is not Status.RJCT:
                    found[one.id] = one
        return found.values()

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
        recalls = self._means.recalls(transaction, original)
        return Entry(transaction=transaction, payments=payments, original=original, recalls=recalls)


#: What makes two references the same.
_Same = tuple[str | None, ...]


def _same(one: Reference) -> _Same:
    return (
        one.level, one.case_id, one.message_id, one.payment_information_id, one.instruction_id, one.end_to_end_id,
        one.transaction_id, one.uetr, one.reason or one.proprietary_reason,
    )  # fmt: skip


def _entries(facts: Facts) -> Iterable[Entry]:
    return (entry for entries in facts.entries.values() for entry in entries)
