"""Whether what clients sent, what the store says became of it and what they were told come to the same.

Three accounts of the transactions that began in a period, each from a source of its own: the messages as received, read
again (in); payments and statuses in the store (state); the answers, read by the standard's tags alone (out). They are
compared transaction by transaction, so that each difference has a name, and added up by client and currency. In bounded
memory, over any store, beside a running server.

Out of scope: whether history holds (`audit verify`), the reasons that answers give, and whether a payment came in two
messages, which the store's keys refuse. A cancelled payment is told as RJCT: ISO's CANC is for API contexts only.
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from interlock.cli.reconciling.books import Books, written
from interlock.cli.reconciling.cases import Reader, gathered
from interlock.cli.reconciling.comparison import unlike
from interlock.cli.reconciling.entries import enter
from interlock.cli.reconciling.periods import Spoilt, refuse_archived, transactions
from interlock.ports import Store
from interlock.transaction import Transaction

#: Sentences about one transaction; the rest are counted.
_SAID_MAX = 20


class Difference(NamedTuple):
    """Something that does not come to the same."""

    text: str
    transaction: UUID | None = None
    client: str | None = None

    def __str__(self) -> str:
        """As people read it."""
        return self.text if self.transaction is None else f"transaction {self.transaction}: {self.text}"


def differences(store: Store, since: datetime, until: datetime, books: Books) -> Iterator[Difference]:
    """Each difference among the transactions that began at or after `since` and before `until`; fills the books.

    Raises Archived where some of them are not in the store any more: a part of a period comes to nothing.
    """
    refuse_archived(store, since, until)
    with closing(Reader()) as reader:
        for found in transactions(store, since, until):
            for difference in _reckoned(store, found, reader, books):
                books.differences += 1
                yield difference
    if not books.differences:
        yield from _unbalanced(books)


def _unbalanced(books: Books) -> Iterator[Difference]:
    """The sums are added up from each side alone, so they must agree where no transaction differs."""
    for (client, currency), account in books.accounts.items():
        gap = account.difference
        if gap:
            books.differences += 1
            shown = f"{gap.payments} payments, {written(gap.amount, currency)}"
            yield Difference(f"{client}: its sums differ by {shown}, though no transaction does", client=client)


def _reckoned(store: Store, found: Transaction | Spoilt, reader: Reader, books: Books) -> Iterator[Difference]:
    """Compare one transaction, and enter it in the books."""
    books.transactions += 1
    if isinstance(found, Spoilt):
        yield Difference(f"what began at {found.at.isoformat()} cannot be read ({found.why}); audit verify names it")
        return
    case = gathered(store, found, reader)
    id_, client = case.transaction.id, case.transaction.client
    enter(case, books)
    said = unlike(store, case)
    yield from (Difference(text, id_, client) for text in islice(said, _SAID_MAX))
    more = sum(1 for _ in said)
    if more:
        yield Difference(f"{more} more differences", id_, client)
