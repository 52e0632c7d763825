"""Requests about other messages: what the ledger has of the originals, and what is done to them before the answer.

Owns: looking originals up for the client that asks, and cancelling them. What that means, and what is answered, is
`stages/enquire.py`'s.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple, Protocol
from uuid import UUID

from interlock.decisions import Decision, DecisionKind
from interlock.errors import IllegalDecision, OwnedElsewhere
from interlock.iso20022.codes import HeldCause, Status
from interlock.iso20022.original import Original, Reference
from interlock.iso20022.profiles.facts import Recall
from interlock.journal import Journal
from interlock.ports import Query, Store
from interlock.selection import Selector
from interlock.stages import enquire, matching, receive
from interlock.stages.cancelling import Cancel
from interlock.stages.enquire import Outcome
from interlock.stages.matching import Entry, Facts
from interlock.transaction import KeyKind, Payment, Transaction

#: Of transactions that share a name, how many newest ones are looked at.
_ENTRIES_MAX = 20
#: Of so many cases in one request it is looked up what was asked in them before; a request has one as a rule.
_CASES_MAX = 20
#: Of a request with more references than this, other regions are not asked one by one.
_ASKED_MAX = 50
#: How long a request waits for changes of another region that are on their way.
_COPY_WITHIN = timedelta(seconds=3)
#: A message with more payments than this is not read again for what the ledger does not keep of them.
_READ_AGAIN_MAX = 1000
#: How often it is decided anew after what was found has moved.
_TRIES = 8


class Abroad(Protocol):
    """The other regions, as long as they can be asked."""

    async def cancel(self, region: int, client: str, cancel: Cancel) -> bool:
        """Cancel there; whether that region has said what it made of it, which then comes with its changes."""
        ...

    async def knows(self, region: int, client: str, key: tuple[KeyKind, str]) -> bool | None:
        """Whether it has something of the client's under a name; None: it cannot be asked."""
        ...

    async def standing(self, region: int, client: str, transaction: UUID) -> tuple[Status, HeldCause | None] | None:
        """Status of a transaction there, and what holds it; None: it cannot be asked."""
        ...


class _ComeAgain(Exception):
    """What another region has said is on its way here: it is told once it has come."""


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
    #: Numbers of the other regions that may know more.
    others: Callable[[], frozenset[int]]
    #: How they are asked; None: they cannot be from here.
    abroad: Callable[[], Abroad | None]
    now: Callable[[], datetime]


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
        lost: set[UUID] = set()
        done: tuple[Cancel, ...] = ()
        try:
            for _ in range(_TRIES):
                facts = await self._facts(request, original, lost)
                outcome = enquire.run(original, facts)
                if not outcome.cancels and not outcome.waits:
                    return outcome
                known = {entry.transaction.id: entry.transaction for entry in _entries(facts)}
                if outcome.cancels and outcome.cancels == done:
                    self._await_word(request, [known[one.transaction] for one in done], lost)
                for cancel in outcome.cancels:
                    if cancel.transaction not in lost and not await self._cancel(request.client, cancel):
                        lost.add(cancel.transaction)
                done = outcome.cancels
                # What was cancelled here has ended, or is about to; what was elsewhere ends here when it has come.
                whole = (one.transaction for one in outcome.cancels if one.payments is None)
                abroad = (id_ for id_ in whole if not self._means.is_ours(known[id_]))
                for id_ in (*outcome.waits[:1], *abroad):
                    if id_ not in lost:
                        await self._await_end(request, known[id_], seconds, lost)
        except _ComeAgain:
            return None
        return None

    def _await_word(self, request: Transaction, cancelled: Iterable[Transaction], lost: set[UUID]) -> None:
        """What was cancelled just now shows no end yet: come again, or give up what another region does not tell."""
        for one in cancelled:
            if self._means.is_ours(one):
                raise _ComeAgain
            self._be_patient(request)
            lost.add(one.id)

    async def _cancel(self, client: str, cancel: Cancel) -> bool:
        """False where another region goes on with it and cannot be asked."""
        some = None if cancel.payments is None else tuple(Selector(ordinal=one) for one in cancel.payments)
        decision = Decision(
            kind=DecisionKind.CANCEL, actor=client, reason=cancel.reason, note=cancel.note, payments=some
        )
        try:
            await self._means.decide(client, cancel.transaction, decision)
        except IllegalDecision:
            return True  # it has moved: what it is now the next look tells
        except OwnedElsewhere as exc:
            abroad = self._means.abroad()
            return abroad is not None and await abroad.cancel(exc.region, client, cancel)
        return True

    async def _await_end(self, request: Transaction, transaction: Transaction, seconds: float, lost: set[UUID]) -> None:
        if (await self._means.until_end(transaction, seconds)).standing.is_final:
            return
        if self._means.is_ours(transaction):
            raise _ComeAgain
        self._be_patient(request)
        lost.add(transaction.id)

    def _be_patient(self, request: Transaction) -> None:
        """Come again as long as changes of another region may be on their way; after that they are not waited for."""
        if self._means.now() - request.updated_at < _COPY_WITHIN:
            raise _ComeAgain

    async def _facts(self, request: Transaction, original: Original, lost: Collection[UUID]) -> Facts:
        """What the ledger has under each reference, of this client's.

        lost: transactions that another region goes on with and that nothing can be said of.
        """
        client = request.client
        entries: dict[int, tuple[Entry, ...]] = {}
        met: dict[UUID, Entry] = {}
        chased: dict[UUID, Facts] = {}
        is_complete = True
        is_few = len(original.references) <= _ASKED_MAX
        cancels = receive.is_repeatable(original.definition)
        asked, is_reused = await self._asked(request, original) if cancels else ({}, False)
        for reference in original.references:
            found = await self._named(client, matching.keys(reference))
            known = tuple(one for one in found if one.id not in lost)
            if len(known) < len(found):
                # Of several attempts the one that lives may be among those: then nothing can be said of any.
                known, is_complete = (), False
            elif not known and is_complete:
                # What is not here may be in another region, whose changes have not come yet.
                is_complete = await self._is_nowhere(request, reference if is_few else None)
            if not cancels and is_few:
                await self._await_copies(request, known)
            for one in known:
                if one.id not in met:  # a thousand references may name one message
                    met[one.id] = entry = await self._entry(client, one)
                    if not cancels and entry.original is not None and receive.is_repeatable(one.definition or ""):
                        chased[one.id] = await self._facts(one, entry.original, lost)
            entries[reference.ordinal] = tuple(met[one.id] for one in known)
        return Facts(entries=entries, complete=is_complete, asked=asked, reused=is_reused, chased=chased)

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
        # The id may be older than the message that came under it.
        asked = {one.ordinal: first.get(_same(one), request.updated_at) for one in original.references}
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

    async def _is_nowhere(self, request: Transaction, reference: Reference | None) -> bool:
        """Whether no other region knows it either; False also where one of them cannot be asked.

        reference: None where nobody is to be asked.
        """
        others, abroad = self._means.others(), self._means.abroad()
        if not others:
            return True
        if abroad is None or reference is None:
            return False
        for region in others:
            for key in matching.keys(reference):
                knows = await abroad.knows(region, request.client, key)
                if knows is None:
                    return False
                if knows:
                    self._be_patient(request)
                    return False
        return True

    async def _await_copies(self, request: Transaction, known: Iterable[Transaction]) -> None:
        """Come again where our copy is behind the region that goes on with it; of one that is lost the copy is told."""
        abroad = self._means.abroad()
        for one in known:
            if abroad is None or one.standing.is_final or self._means.is_ours(one):
                continue
            present = await abroad.standing(one.region, request.client, one.id)
            if present not in (None, (one.standing.status, one.standing.cause)):
                self._be_patient(request)

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
