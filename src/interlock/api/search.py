"""Finding transactions: the filter that lists and bulk redrives share."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

from pydantic import FailFast, Field

from interlock.api.access import view_of
from interlock.api.calls import Cursor, Input, Moment, Name
from interlock.auth import Identity
from interlock.errors import Forbidden
from interlock.iso20022.codes import HeldCause, Status
from interlock.ports import Page, Query
from interlock.transaction import KeyKind, Transaction
from interlock.workflow.reading import Reading

_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


class Names(Input):
    """By what a caller knows a transaction or payment; every one that is given must hold."""

    uetr: Annotated[Name | None, Field(description="UETR of a payment.")] = None
    message_id: Annotated[Name | None, Field(description="MsgId of the message.")] = None
    end_to_end_id: Annotated[Name | None, Field(description="EndToEndId of a payment.")] = None
    transaction_reference: Annotated[Name | None, Field(description="TxId of a payment.")] = None
    reference: Annotated[Name | None, Field(description="The client's own reference for the call.")] = None
    since: Annotated[Moment | None, Field(description="Created at or after.")] = None
    until: Annotated[Moment | None, Field(description="Created before.")] = None
    client: Annotated[Name | None, Field(description="Id of a client; for operators.")] = None
    cursor: Annotated[Cursor | None, Field(description="`next` of the page before.")] = None

    def keys(self) -> Iterator[tuple[KeyKind, str]]:
        """The names given, the most telling first."""
        if self.uetr is not None:
            yield KeyKind.UETR, self.uetr.lower()
        if self.message_id is not None:
            yield KeyKind.MESSAGE, self.message_id
        if self.transaction_reference is not None:
            yield KeyKind.TRANSACTION, self.transaction_reference
        if self.reference is not None:
            yield KeyKind.REFERENCE, self.reference
        if self.end_to_end_id is not None:
            yield KeyKind.END_TO_END, self.end_to_end_id


class Filter(Names):
    """Which transactions to list."""

    status: Annotated[tuple[Status, ...], FailFast(), Field(description="Any of these; may be given again.")] = ()
    held: Annotated[HeldCause | None, Field(description="PDNG for this cause.")] = None
    flagged: Annotated[bool, Field(description="Only those that something late or contradictory was recorded of.")] = (
        False
    )
    limit: Annotated[int, Field(ge=1, le=500, description="Most transactions in a page.")] = 50


async def find(
    reading: Reading,
    identity: Identity,
    names: Names,
    *,
    statuses: frozenset[Status],
    held: HeldCause | None,
    limit: int,
    flagged: bool = False,
) -> Page:
    """A page of what the caller may see, newest first; it can be shorter than the limit and not be the last.

    Raises Forbidden where a tenant asks for another client's.
    """
    client = view_of(identity)
    if names.client is not None and client is not None and names.client != client:
        raise Forbidden("only operators may ask for other clients' transactions")
    keys = list(names.keys())
    page = await reading.find(
        Query(
            client=names.client or client,
            statuses=statuses,
            cause=held,
            flagged=flagged,
            key=keys[0] if keys else None,
            since=_within_reach(names.since),
            until=_within_reach(names.until),
            after=names.cursor,
            limit=limit,
        )
    )
    if len(keys) < 2:
        return page
    # The store looks one name up; the others are compared with what that found, which is little.
    matching = [found for found in page.transactions if await _holds(reading, found, keys[1:])]
    return Page(tuple(matching), page.next)


def _within_reach(moment: datetime | None) -> datetime | None:
    """The moment, or the nearest that can be reckoned with: nothing of ours is older or younger."""
    return None if moment is None else min(max(moment, _EARLIEST), _LATEST)


async def _holds(reading: Reading, found: Transaction, keys: list[tuple[KeyKind, str]]) -> bool:
    payments = await reading.payments(None, found.id)
    known = {
        KeyKind.MESSAGE: {found.message_id},
        KeyKind.REFERENCE: {found.reference},
        KeyKind.TRANSACTION: {payment.transaction_id for payment in payments},
        KeyKind.END_TO_END: {payment.end_to_end_id for payment in payments},
    }
    return all(value in known[kind] for kind, value in keys)
