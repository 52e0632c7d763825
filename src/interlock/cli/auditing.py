"""Whether what a store holds follows from its history. In bounded memory, beside a running server.

Three questions. Does the chain of events hold, so that none was altered, moved or removed? Does the present state of
each transaction follow from its events by the lifecycle's table? Are the messages those that the events name?
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import takewhile
from uuid import UUID

import zstandard

from interlock import chain, lifecycle
from interlock.chain import Head, Link
from interlock.errors import IllegalTransition
from interlock.lifecycle import EventKind, Standing
from interlock.ports import Query, Store
from interlock.transaction import BodyKind, Event, Transaction

_PAGE = 500


def faults(store: Store, anchor: tuple[int, bytes] | None = None) -> Iterator[str]:
    """A sentence for each thing that does not hold.

    anchor: number and hash of an event, noted down earlier.
    """
    head = store.head()
    links = _Links(store, head, anchor)
    yield from chain.faults(links, head)
    yield from links.missing_anchor()
    named = 0
    for link in _until(store, head):
        digests = _digests(link)
        named += len(digests)
        yield from _unknown_bodies(store, link, digests)
    seen = 0
    for transaction in _transactions(store, head):
        yield from _unlike_history(store, transaction)
        seen += sum(1 for _ in _bodies(store, transaction.id))
    if head is not None and store.head() == head and seen > named:
        yield f"there are {seen} messages, and history names {named}: some were added behind its back"


def _until(store: Store, head: Head | None) -> Iterator[Link]:
    """The chain as long as it was when we began; a server may be adding to it."""
    end = 0 if head is None else head.seq
    return takewhile(lambda link: link.seq <= end, store.chain())


class _Links:
    """The chain, watched for an anchor as it is walked."""

    def __init__(self, store: Store, head: Head | None, anchor: tuple[int, bytes] | None) -> None:
        self._links = _until(store, head)
        self._anchor = anchor
        self._found = anchor is None

    def __iter__(self) -> Iterator[Link]:
        for link in self._links:
            self._found = self._found or (link.seq, link.hash) == self._anchor
            yield link

    def missing_anchor(self) -> Iterator[str]:
        """A fault if the anchor was not met."""
        if not self._found and self._anchor is not None:
            yield f"event {self._anchor[0]} is not the one noted down: history was rewritten"


def _digests(link: Link) -> list[str]:
    """SHA-256 of the messages that came with an event."""
    if b'"bodies"' not in link.content:
        return []
    try:
        return list(json.loads(link.content).get("bodies", ()))
    except (ValueError, AttributeError):
        return []  # the chain has told of it


def _unknown_bodies(store: Store, link: Link, digests: list[str]) -> Iterator[str]:
    if not digests:
        return
    try:
        transaction, _ = chain.decode(link.content)
    except ValueError:
        return  # the chain has told of it
    held = set(_bodies(store, transaction))
    for digest in digests:
        if digest not in held:
            yield f"transaction {transaction}: a message is not the one that event {link.seq} names"


def _bodies(store: Store, transaction: UUID) -> Iterator[str]:
    """SHA-256 of the messages as they are now; of one that cannot be unpacked, nothing."""
    for kind in BodyKind:
        try:
            body = store.message(transaction, kind)
        except zstandard.ZstdError:
            continue
        if body is not None:
            yield sha256(body.content).hexdigest()


def _transactions(store: Store, head: Head | None) -> Iterator[Transaction]:
    """All transactions, newest first."""
    after = None
    while head is not None:
        page = store.find(Query(client=None, after=after, limit=_PAGE))
        yield from page.transactions
        after = page.next
        if after is None:
            return


def _unlike_history(store: Store, transaction: Transaction) -> Iterator[str]:
    """Faults of one transaction's state against its events."""
    events = store.history(transaction.id)
    if len(events) != transaction.version:  # it may have moved on between the two reads
        present = store.get(transaction.id)
        transaction = transaction if present is None else present
        events = store.history(transaction.id)
    if [event.seq for event in events] != list(range(1, transaction.version + 1)):
        yield f"transaction {transaction.id}: its version is {transaction.version}, its events are {len(events)}"
        return
    try:
        standing = fold(events)
    except IllegalTransition as exc:
        yield f"transaction {transaction.id}: {exc}"
        return
    if standing != transaction.standing:
        yield f"transaction {transaction.id}: it is {transaction.standing.state}, its events say {standing.state}"


def fold(events: tuple[Event, ...]) -> Standing:
    """Where events lead by the lifecycle's table. Raises IllegalTransition where one says otherwise than the table."""
    standing = Standing()
    for event in events:
        fused = event.kind is EventKind.ENDED and event.because is not None
        kind = event.because if fused and event.because is not None else event.kind
        standing = lifecycle.apply(standing, kind, alone=fused).standing
        if standing != event.standing:
            raise IllegalTransition(f"event {event.seq} says {event.standing.state}, the table {standing.state}")
    return standing
