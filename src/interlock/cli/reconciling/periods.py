"""The transactions that began in a period: all of them, also past rows that cannot be read.

Owns: pages, and what stands in their way. Must not know: what is done with a transaction.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from interlock.chain import micros
from interlock.cli.reconciling.cases import UNREADABLE
from interlock.errors import Archived
from interlock.ports import Query, Store
from interlock.transaction import Transaction

_PAGE = 500
#: The store's partitions are whole days, so none of them lies between two moments of this distance.
_DAY = timedelta(days=1)
_MILLISECOND = timedelta(milliseconds=1)
_MICROSECOND = timedelta(microseconds=1)


def refuse_archived(store: Store, since: datetime, until: datetime) -> None:
    """Raise Archived where something of a period is not in the store any more."""
    last = max(since, until - _MILLISECOND)
    days = (since + day * _DAY for day in range((last - since) // _DAY + 1))
    for moment in (*days, last):
        archive = store.archived(_id_at(moment))
        if archive is not None:
            raise Archived(f"what began at {moment.isoformat()} is in archive {archive}; restore it, then reconcile")


def _id_at(moment: datetime) -> UUID:
    """The smallest id (UUIDv7) of a millisecond."""
    return UUID(int=micros(moment) // 1000 << 80)


class Spoilt(NamedTuple):
    """A moment at which something began that cannot be read."""

    at: datetime
    why: str


def transactions(store: Store, since: datetime, until: datetime) -> Iterator[Transaction | Spoilt]:
    """All of a period, newest first.

    A page that holds a row which cannot be read is not given at all, so its time is halved until that row is alone.
    """
    spans: list[tuple[datetime, datetime, UUID | None]] = [(since, until, None)]
    while spans:
        low, high, after = spans.pop()
        while True:
            query = Query(client=None, since=low, until=high, after=after, limit=_PAGE)
            try:
                page = store.find(query)
            except UNREADABLE as exc:
                if high - low <= _MICROSECOND:
                    yield Spoilt(low, str(exc))
                else:
                    middle = low + (high - low) // 2
                    spans += [(low, middle, after), (middle, high, after)]
                break
            yield from page.transactions
            after = page.next
            if after is None:
                break
