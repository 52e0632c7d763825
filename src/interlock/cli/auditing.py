"""Whether what a store holds follows from its history. In bounded memory, beside running servers.

Three questions. Do the chains of events hold, so that none was altered, moved or removed? Are the messages those that
the events name? Does the present state follow: each transaction from its events by the lifecycle's table, and its
payments and keys from its message, read again?

History is what it was when we began; what servers add meanwhile is for the next audit. A fault is told only if it holds
when it is looked at a second time: rows that are moved to an archive in between are no fault.

Out of scope, for neither events nor messages tell of it: clients, signing keys and operators' orders; routes, and when
a clock fires; references, idempotency keys and deliveries; whether a key is reserved or only finds; rows that belong to
no transaction. What was archived is not here to be looked at: of its events the chain holds both ends, and the archive
is verified by itself. Messages are read by this version's rules, which is what a later version must keep to.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from uuid import UUID

from interlock import chain
from interlock.chain import Gap, Head, Link
from interlock.cli.consequences import unlike
from interlock.cli.dossiers import UNREADABLE, Dossier, Name, Reader, dossiers
from interlock.errors import RequestError
from interlock.lifecycle import EventKind
from interlock.ports import Store
from interlock.regions.rules import Post

#: Events read together; as many as a store reads at a time itself.
_PAGE = 5000
#: Before any event: one that was given a number below the first must be met too.
_BEFORE_ALL = -(1 << 62)
#: How often it is asked whether events beyond a head are only newer than it.
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Anchor:
    """The end of a chain as somebody noted it down. Without a journal: of the one that there is."""

    journal: str | None
    seq: int
    hash: bytes


def faults(
    store: Store,
    anchors: Sequence[Anchor] = (),
    *,
    chain_only: bool = False,
    tell: Callable[[str], object] = lambda _: None,
) -> Iterator[str]:
    """A sentence for each thing that does not hold.

    tell: is told now and then how far it has come. Raises RequestError for an anchor that does not say its journal
    where there are several.
    """
    heads = store.heads()
    noted = _by_journal(store, heads, anchors)
    with dossiers(store) as reader:
        chains = _Chains(store, noted, tell)
        for head in heads:
            # Where an archive takes over a run of events while we walk, a second walk finds the gap that it leaves.
            if any(True for _ in chains.faults(head)):
                yield from chains.faults(head)
        yield from chains.elsewhere(heads, reader)
        if not chain_only:
            state = _State(store, reader, tell)
            for head in heads:
                yield from state.missing(head)
            yield from state.faults()


def _by_journal(store: Store, heads: Sequence[Head], anchors: Sequence[Anchor]) -> dict[str, list[Anchor]]:
    """The anchors of each journal."""
    noted: dict[str, list[Anchor]] = {}
    for anchor in anchors:
        journal = anchor.journal
        if not store.shared:
            # One chain, over all incarnations: an anchor may bear the name of a former one.
            journal = heads[0].journal if heads else ""
        elif journal is None:
            if len(heads) > 1:
                names = ", ".join(head.journal for head in heads)
                raise RequestError(f"anchor {anchor.seq}: there are several journals ({names}); write JOURNAL/SEQ:HASH")
            journal = heads[0].journal if heads else ""
        noted.setdefault(journal, []).append(anchor)
    return noted


# -- chains -----------------------------------------------------------------------------------------------------------


class _Chains:
    """The chains of all journals, walked one after the other and watched for anchors."""

    def __init__(self, store: Store, noted: dict[str, list[Anchor]], tell: Callable[[str], object]) -> None:
        self._store = store
        self._noted = noted
        self._tell = tell

    def faults(self, head: Head) -> Iterator[str]:
        """Of one journal."""
        watch = _Watch(self._noted.get(head.journal, ()))
        walked = _walk(self._store, head, self._tell)
        yield from chain.faults((watch.saw(item) for item in walked), head)
        yield from watch.faults(head.journal)
        yield from self._beyond(head)

    def _beyond(self, head: Head) -> Iterator[str]:
        """An event after the head, where that is not because a server has moved it on."""
        end = head.seq
        for _ in range(_TRIES):
            item = next(self._store.chain(head.journal, end), None)
            if item is None:
                return
            end = next((h.seq for h in self._store.heads() if h.journal == head.journal), 0)
            if _first(item) > end:
                yield f"journal {head.journal}: event {_first(item)} is beyond its head ({end}): it was added behind it"
                return

    def elsewhere(self, heads: Sequence[Head], reader: Reader) -> Iterator[str]:
        """Events and anchors of journals that have no head."""
        known = {head.journal for head in heads}
        found = reader.journals()
        for journal in set(found) - known - {head.journal for head in self._store.heads()}:
            if self._is_copied(journal):
                yield from self._copied(journal)
            else:
                yield f"journal {journal}: there are events of it, and its head is missing"
        for journal in self._noted.keys() - known:
            whose = f"journal {journal}" if journal else "the store"
            yield f"{whose} has no events, and one was noted down: history was rewritten"

    def _is_copied(self, journal: str) -> bool:
        """Whether it is another region's, whose head is in that one's own database."""
        return self._store.post != Post() and int(journal.partition(".")[0]) != self._store.region

    def _copied(self, journal: str) -> Iterator[str]:
        """Of another region's journal, as far as it has come here by now."""
        last: Link | Gap | None = None
        for item in self._store.chain(journal):
            last = item
        if last is not None:
            end = _last(last)
            come = takewhile(lambda item: _last(item) <= end, self._store.chain(journal))
            yield from chain.faults(come, Head(journal, end, last.hash))


class _Watch:
    """Looks out for anchors."""

    def __init__(self, anchors: Sequence[Anchor]) -> None:
        #: Each that was not met yet, with the archive that it is in.
        self._unmet = dict.fromkeys(anchors, "")

    def saw(self, item: Link | Gap) -> Link | Gap:
        """The item, looked at in passing."""
        for anchor in tuple(self._unmet):
            if (anchor.seq, anchor.hash) == (_last(item), item.hash):
                del self._unmet[anchor]
            elif isinstance(item, Gap) and item.first <= anchor.seq < item.last:
                self._unmet[anchor] = item.archive
        return item

    def faults(self, journal: str) -> Iterator[str]:
        """A fault for each that was not met."""
        for anchor, archive in self._unmet.items():
            if archive:
                yield (
                    f"journal {journal}: event {anchor.seq}, which was noted down, is in the archive {archive} and "
                    "cannot be compared here; give a later one, and verify the archive"
                )
            else:
                yield f"journal {journal}: event {anchor.seq} is not the one noted down: history was rewritten"


def _walk(store: Store, head: Head, tell: Callable[[str], object]) -> Iterator[Link | Gap]:
    """A journal's chain as long as it was when we began; a server may be adding to it.

    In pages, for a read that stays open keeps an SQLite server's log from shrinking. A page begins with the last of the
    one before: another event under the same number would be overlooked between two pages.
    """
    after, last = _BEFORE_ALL, None
    while after < head.seq:
        page = list(islice(store.chain(head.journal, after if last is None else after - 1), _PAGE))
        if last is not None and page[:1] == [last]:
            del page[0]
        if not page:
            return
        yield from (item for item in page if _last(item) <= head.seq)
        last = page[-1]
        after = max(_last(last), after + 1)
        tell(f"journal {head.journal}: {min(after, head.seq):,} of {head.seq:,} events")


def _first(item: Link | Gap) -> int:
    return item.first if isinstance(item, Gap) else item.seq


def _last(item: Link | Gap) -> int:
    return item.last if isinstance(item, Gap) else item.seq


# -- transactions -----------------------------------------------------------------------------------------------------


class _State:
    """All transactions, against their histories."""

    def __init__(self, store: Store, reader: Reader, tell: Callable[[str], object]) -> None:
        self._store = store
        self._reader = reader
        self._tell = tell

    def missing(self, head: Head) -> Iterator[str]:
        """Transactions that began in a journal, and are not there any more."""
        walked = _walk(self._store, head, lambda said: self._tell(f"transactions that began in {said}"))
        while page := list(islice(walked, _PAGE)):
            born = [id_ for item in page if isinstance(item, Link) and (id_ := _born(item)) is not None]
            for id_ in self._reader.missing(born) if born else ():
                if not self._is_archived(id_):
                    yield f"transaction {id_}: history tells of it, and it is missing"

    def _is_archived(self, id_: UUID) -> bool:
        """Whether it went to an archive, with its events."""
        try:
            return self._store.archived(id_) is not None and not self._store.history(id_)
        except UNREADABLE:
            return False  # an event of it is there

    def faults(self) -> Iterator[str]:
        """Of all that there are."""
        number = 0
        for page in self._reader.pages():
            for dossier, found in zip(page, self._looked_at(page), strict=True):
                if found:
                    yield from (f"transaction {dossier.id}: {fault}" for fault in self._again(dossier))
            number += len(page)
            self._tell(f"{number:,} transactions")

    def _looked_at(self, page: Sequence[Dossier]) -> list[list[str]]:
        """Faults of each."""
        found: list[list[str]] = []
        names: list[list[tuple[str, Name]]] = []
        for dossier in page:
            names.append([])
            found.append(list(unlike(self._store, dossier, names[-1])))
        unknown = self._reader.unknown([name for of_one in names for _, name in of_one])
        for of_one, told in zip(names, found, strict=True):
            told += [
                f"its key {what} is missing: a double would not be known for one"
                for what, name in of_one
                if name in unknown
            ]
        return found

    def _again(self, dossier: Dossier) -> list[str]:
        """Faults that are still there."""
        now = self._reader.again(dossier)
        if now.rows:
            return self._looked_at([now])[0]
        return [] if self._is_archived(dossier.id) else ["it was there a moment ago, and it is missing"]


def _born(link: Link) -> UUID | None:
    """The transaction that begins with an event."""
    if b'"IdIssued"' not in link.content:
        return None
    try:
        transaction, event = chain.decode(link.content)
    except ValueError:
        return None  # the chain has told of it
    return transaction if event.kind is EventKind.ID_ISSUED else None
