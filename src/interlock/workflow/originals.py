"""The originals that a request about others names: what the ledger has under each name, and what was asked before.

Owns: looking them up for the client that asks, here and in other regions, within bounds that no request exceeds. Which
of them is meant is `stages/matching.py`'s.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import NamedTuple, Protocol
from uuid import UUID

from interlock import apart
from interlock.decisions import Decision
from interlock.iso20022.codes import HeldCause, Status
from interlock.iso20022.original import Original, Reference
from interlock.iso20022.profiles.facts import Recall
from interlock.iso20022.references import REFERENCES_MAX
from interlock.journal import Journal
from interlock.ports import Query, Store
from interlock.stages import matching, receive
from interlock.stages.cancelling import Cancel
from interlock.stages.matching import Entry, Facts
from interlock.transaction import KeyKind, Payment, Transaction

#: Of transactions under one name that were rejected or cancelled, how many newest ones are looked at.
_ENTRIES_MAX = 20
#: Of the others, how many; where there are more the name does not tell them apart.
_LIVING_MAX = 500
#: How many transactions are looked at for one request.
_LOOKED_AT_MAX = 2000
#: How many requests that came before are read again, of the first ones and of the newest, and how many are gone through
#: to find them.
_BEFORE_MAX, _BEFORE_PAGE, _BEFORE_PAGES = 50, 200, 25
#: Of what was settled with so many payments it is not looked up whether all of them have come back.
_RETURNED_MAX = 100
_DEAD = frozenset({Status.RJCT, Status.CANC})
_LIVING = frozenset(Status) - _DEAD
#: Of a request with more references than this, other regions are not asked one by one.
_ASKED_MAX = 50
#: How long a request waits for changes of another region that are on their way.
_COPY_WITHIN = timedelta(seconds=3)
#: A message with more payments than this is read again only for what the ledger does not keep of them: its blocks.
_LONG = 1000
#: How many payments of long messages are gone through for one request, and how many at a time.
_PAGED_MAX, _PAGE = 1_000_000, 1000


class Abroad(Protocol):
    """The other regions, as long as they can be asked."""

    async def cancel(self, region: int, client: str, cancel: Cancel) -> bool:
        """Cancel there; whether that region has said what it made of it, which then comes with its changes."""
        ...

    async def knows(self, region: int, client: str, key: tuple[KeyKind, str], *, living: bool) -> bool | None:
        """Whether it has something of the client's under a name; None: it cannot be asked.

        living: something that was not rejected or cancelled.
        """
        ...

    async def standing(self, region: int, client: str, transaction: UUID) -> tuple[Status, HeldCause | None] | None:
        """Status of a transaction there, and what holds it; None: it cannot be asked."""
        ...


class ComeAgain(Exception):
    """What another region has said is on its way here: it is told once it has come."""


class Means(NamedTuple):
    """What is done with transactions, which is the workflow's."""

    #: Takes a client's decision on one of its transactions.
    decide: Callable[[str, UUID, Decision], Awaitable[Transaction]]
    #: Waits for its end, so many seconds at most.
    until_end: Callable[[Transaction, float], Awaitable[Transaction]]
    #: As the client may be told of them.
    payments: Callable[[str, UUID], Awaitable[tuple[Payment, ...]]]
    #: Some of them after an ordinal, at most so many, perhaps of one status.
    payments_page: Callable[[str, UUID, int, int, Status | None], Awaitable[tuple[Payment, ...]]]
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


class Originals:
    """Looks originals up on behalf of requests."""

    def __init__(self, store: Store, journal: Journal, means: Means) -> None:
        self._store = store
        self._journal = journal
        self._means = means

    async def facts(
        self, request: Transaction, original: Original, lost: Collection[UUID], *, late: bool = False
    ) -> Facts:
        """What the ledger has under each reference, of this client's.

        lost: transactions that another region goes on with and that nothing can be said of. late: nobody is waited for.
        """
        look = _Look(request, original, frozenset(lost), late=late)
        asked, is_reused = await self._asked(request, original) if look.cancels else ({}, False)
        entries: dict[int, tuple[Entry, ...]] = {}
        for reference in original.references:
            known = await self._known(look, reference)
            entries[reference.ordinal] = tuple([await self._met(look, one, reference) for one in known])
        return Facts(
            entries=entries,
            complete=look.complete,
            asked=asked,
            reused=is_reused,
            late=late,
            cut=frozenset(look.cut),
            returns=await self._returns(look) if look.cancels else (),
            chased=look.chased,
        )

    async def _known(self, look: "_Look", reference: Reference) -> tuple[Transaction, ...]:
        """What there is under a reference, and can be told of."""
        found, is_cut = await self._named(look.request.client, matching.keys(reference), look.room)
        if is_cut:
            look.cut.add(reference.ordinal)
        known = tuple(one for one in found if one.id not in look.lost and not (look.late and self._is_open_abroad(one)))
        if len(known) < len(found):
            # Of several attempts the one that lives may be among those: then nothing can be said of any.
            known, look.complete = (), False
        elif look.complete and all(one.standing.end is Status.RJCT for one in known):
            # What is not here, or came to nothing here, may be in another region, whose changes have not come yet.
            asking = reference if look.may_ask else None
            if not await self._is_nowhere(look.request, asking, living=bool(known)):
                known, look.complete = (), False
        if look.may_ask and not look.cancels:
            await self._await_copies(look.request, known)
        return known

    async def _met(self, look: "_Look", one: Transaction, reference: Reference) -> Entry:
        """A transaction that a reference may mean, with what can be told of it."""
        entry = look.met.get(one.id)  # a thousand references may name one message
        if entry is None:
            entry = await self._entry(look, one)
            if look.late and not one.standing.is_final and one.payments > 1:
                history = await self._journal.read(self._store.history, one.id)
                entry = replace(entry, intended=frozenset(apart.fold(history, one).pending()))
            if not look.cancels and entry.original is not None and receive.is_repeatable(one.definition or ""):
                await self._chase(look, one, entry.original)
        if matching.needs_blocks(reference) and entry.original is None:
            entry = replace(entry, original=await self._means.original(one))
        look.met[one.id] = entry
        return entry

    async def _chase(self, look: "_Look", one: Transaction, original: Original) -> None:
        """How the originals of a request that is asked about stand; as far as an answer has room for them."""
        look.chased_references += len(original.references)
        if look.chased_references <= REFERENCES_MAX:
            look.chased[one.id] = await self.facts(one, original, look.lost)

    def be_patient(self, request: Transaction) -> None:
        """Come again as long as changes of another region may be on their way; after that they are not waited for."""
        if self._means.now() - request.updated_at < _COPY_WITHIN:
            raise ComeAgain

    def _is_open_abroad(self, transaction: Transaction) -> bool:
        """Whether another region may have cancelled it by now, which our copy does not show yet."""
        return not transaction.standing.is_final and not self._means.is_ours(transaction)

    async def _returns(self, look: "_Look") -> tuple[Entry, ...]:
        """What has come back of what was settled, under the names of the payments themselves."""
        client = look.request.client
        found: dict[UUID, Entry] = {}
        for name in dict.fromkeys(look.settled_names()):
            query = Query(client=client, key=name, statuses=frozenset({Status.ACSC}), limit=_ENTRIES_MAX)
            for one in (await self._journal.read(self._store.find, query)).transactions:
                if matching.is_return(one) and one.id not in look.met and one.id not in found:
                    found[one.id] = await self._entry(look, one)
        return tuple(found.values())

    async def _asked(self, request: Transaction, original: Original) -> tuple[dict[int, datetime], bool]:
        """When the same was asked for first, and whether the request's own id was used for something else before.

        The same is the same original, for the same reason, in the same case or under the same id.
        """
        cases = dict.fromkeys(one.case_id for one in original.references if one.case_id)
        names = [(KeyKind.CASE, case) for case in cases]
        if original.message_id:
            names.append((KeyKind.MESSAGE, original.message_id))
        first: dict[_Same, datetime] = {}
        #: What the same assigner asked for first under this id; what came under it later was refused.
        under_id: list[_Same] | None = None
        for one in await self._before(request, names):
            earlier = await self._means.original(one)
            if earlier is None:
                continue
            meant = [_same(reference) for reference in earlier.references]
            if (earlier.message_id, earlier.assigner) == (original.message_id, original.assigner):
                under_id = under_id or meant
            for same in meant:
                first[same] = min(one.created_at, first.get(same, one.created_at))
        # The id may be older than the message that came under it.
        asked = {one.ordinal: first.get(_same(one), request.updated_at) for one in original.references}
        return asked, under_id is not None and under_id != [_same(one) for one in original.references]

    async def _before(self, request: Transaction, names: Iterable[tuple[KeyKind, str]]) -> Collection[Transaction]:
        """Requests of the same kind that came before under one of these names, and were not refused.

        Of very many the first, which count, and the newest, which is what a repetition most likely repeats.
        """
        found: dict[UUID, Transaction] = {}
        for name in names:
            after: UUID | None = None
            for _ in range(_BEFORE_PAGES):
                query = Query(client=request.client, key=name, after=after, limit=_BEFORE_PAGE)
                page = await self._journal.read(self._store.find, query)
                for one in page.transactions:
                    is_kind = (one.definition or "")[:8] == (request.definition or "")[:8]
                    is_before = (one.created_at, one.id) < (request.created_at, request.id)
                    if is_kind and is_before and one.standing.end is not Status.RJCT:
                        found[one.id] = one
                after = page.next
                if after is None:
                    break
        before = sorted(found.values(), key=lambda one: (one.created_at, one.id))
        return before if len(before) <= 2 * _BEFORE_MAX else (*before[:_BEFORE_MAX], *before[-_BEFORE_MAX:])

    async def _is_nowhere(self, request: Transaction, reference: Reference | None, *, living: bool) -> bool:
        """Whether no other region knows it either; False also where one of them cannot be asked.

        reference: None where nobody is to be asked. living: what came to nothing there as well does not count.
        """
        others, abroad = self._means.others(), self._means.abroad()
        if not others:
            return True
        if abroad is None or reference is None:
            return False
        for region in others:
            for key in matching.keys(reference):
                knows = await abroad.knows(region, request.client, key, living=living)
                if knows is None:
                    return False
                if knows:
                    self.be_patient(request)
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
                self.be_patient(request)

    async def _named(
        self, client: str, keys: Iterable[tuple[KeyKind, str]], most: int
    ) -> tuple[tuple[Transaction, ...], bool]:
        """What lives or was settled under the first name that finds anything, then what came to nothing.

        And whether there is more of the former than is looked at.
        """
        most = min(most, _LIVING_MAX)
        if most <= 0:
            return (), True
        for key in keys:
            living = Query(client=client, key=key, statuses=_LIVING, limit=most)
            dead = Query(client=client, key=key, statuses=_DEAD, limit=_ENTRIES_MAX)
            page = await self._journal.read(self._store.find, living)
            found = page.transactions + (await self._journal.read(self._store.find, dead)).transactions
            if found:
                return found, page.next is not None
        return (), False

    async def _entry(self, look: "_Look", transaction: Transaction) -> Entry:
        original = None
        is_long = transaction.payments > _LONG
        if transaction.digest is not None and not is_long:
            original = await self._means.original(transaction)
        if is_long and transaction.standing.is_final:
            payments = await self._some(look, transaction)
        else:
            payments = await self._means.payments(look.request.client, transaction.id)
        recalls = self._means.recalls(transaction, original)
        return Entry(
            transaction=transaction, payments=payments, is_partial=len(payments) < transaction.payments,
            original=original, recalls=recalls,
        )  # fmt: skip

    async def _some(self, look: "_Look", transaction: Transaction) -> tuple[Payment, ...]:
        """Of a long message that has ended: what the request names in it, and one payment of each status."""
        found: list[Payment] = []
        seen: set[Status] = set()
        client, after = look.request.client, 0
        while page := await self._means.payments_page(client, transaction.id, after, _PAGE, None):
            after = page[-1].ordinal
            look.paged += len(page)
            for payment in page:
                if payment.status not in seen or not look.names.isdisjoint(matching.ids(payment)):
                    seen.add(payment.status)
                    found.append(payment)
        return tuple(found)


class _Look:
    """One look for a request's originals: how far it may go, and what was met on the way."""

    def __init__(self, request: Transaction, original: Original, lost: Collection[UUID], *, late: bool) -> None:
        self.request = request
        self.lost = lost
        self.late = late
        self.cancels = receive.is_repeatable(original.definition)
        #: Whether other regions are asked, and waited for.
        self.may_ask = not late and len(original.references) <= _ASKED_MAX
        #: All that it names payments by.
        self.names = frozenset(chain.from_iterable(map(matching.ids, original.references)))
        self.met: dict[UUID, Entry] = {}
        #: Ordinals of references under which there is more than was looked at.
        self.cut: set[int] = set()
        #: Nobody else may know more.
        self.complete = True
        #: Payments of long messages that were gone through.
        self.paged = 0
        #: Of requests to cancel that a status request chases.
        self.chased: dict[UUID, Facts] = {}
        self.chased_references = 0

    @property
    def room(self) -> int:
        """How many transactions may still be looked at."""
        return _LOOKED_AT_MAX - len(self.met) if self.paged < _PAGED_MAX else 0

    def settled_names(self) -> Iterator[tuple[KeyKind, str]]:
        """The most telling name of each payment that was settled, but for those of long messages."""
        for entry in self.met.values():
            transaction = entry.transaction
            if transaction.standing.end is Status.ACSC and transaction.payments <= _RETURNED_MAX:
                for payment in entry.payments:
                    yield from matching.keys_of(payment)[:1]


#: What makes two references the same.
_Same = tuple[str | None, ...]


def _same(one: Reference) -> _Same:
    return (
        one.level, one.case_id, one.message_id, one.payment_information_id, one.instruction_id, one.end_to_end_id,
        one.transaction_id, one.uetr, one.reason or one.proprietary_reason,
    )  # fmt: skip
