"""v1: driving many transactions again, by their ids or by a filter, for real or to see what would happen."""

import asyncio
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Body
from pydantic import FailFast, Field

from interlock.api.access import Access, actor_of, view_of
from interlock.api.calls import DECIDERS, By, Input, ReasonCode, caller, cursor, opened_by
from interlock.api.search import Names, find
from interlock.api.views import RedriveResultView, RedrivesView
from interlock.app import Interlock
from interlock.auth import Identity
from interlock.errors import ConflictError, DependencyError, InterlockError, UnknownTransaction
from interlock.iso20022.codes import Status
from interlock.transaction import Transaction
from interlock.workflow.driving import Driving
from interlock.workflow.reading import Reading

#: Redrives under way at once: enough to share commits, few enough to leave room for others.
_AT_ONCE = 32
_DRIVABLE = frozenset({Status.RJCT, Status.CANC})
_MOST = 1000


class Which(Names):
    """Which ended transactions to drive again; those that have been already are left out."""

    status: Annotated[tuple[Literal["RJCT", "CANC"], ...], FailFast(), Field(max_length=2)] = ()
    reason: ReasonCode | None = None
    limit: Annotated[int, Field(ge=1, le=_MOST, description="Most transactions looked at.")] = 100


class ByIds(Input):
    """Drive these again."""

    transaction_ids: Annotated[list[UUID], Field(min_length=1, max_length=_MOST)]
    dry_run: Annotated[bool, Field(strict=True)] = False
    by: By | None = None


class ByFilter(Input):
    """Drive those again that match."""

    filter: Which
    dry_run: Annotated[bool, Field(strict=True)] = False
    by: By | None = None


def router(interlock: Interlock, access: Access) -> APIRouter:
    """The call."""
    routes = APIRouter(prefix="/v1", tags=["decisions"])
    workflow = interlock.workflow

    @routes.post("/redrives", openapi_extra=opened_by(*DECIDERS))
    async def redrive_many(
        identity: Annotated[Identity, caller(access, *DECIDERS)], wanted: Annotated[ByIds | ByFilter, Body()]
    ) -> RedrivesView:
        """Drive many again; each is told for itself, with the reason where it must not be."""
        if isinstance(wanted, ByIds):
            ids, after = list(dict.fromkeys(wanted.transaction_ids)), None
        else:
            ids, after = await _matching(workflow.reading, identity, wanted.filter)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(transaction_id: UUID) -> RedriveResultView:
            async with gate:
                return await _one(workflow.driving, identity, transaction_id, dry_run=wanted.dry_run, by=wanted.by)

        results = await asyncio.gather(*(one(transaction_id) for transaction_id in ids))
        return RedrivesView(dry_run=wanted.dry_run, results=tuple(results), next=cursor(after))

    return routes


async def _matching(reading: Reading, identity: Identity, which: Which) -> tuple[list[UUID], UUID | None]:
    statuses = frozenset(Status(status) for status in which.status) or _DRIVABLE
    page = await find(reading, identity, which, statuses=statuses, held=None, limit=which.limit)
    matching = [
        found.id for found in page.transactions if found.redriven_as is None and which.reason in (None, found.reason)
    ]
    return matching, page.next


async def _one(
    driving: Driving, identity: Identity, transaction_id: UUID, *, dry_run: bool, by: str | None
) -> RedriveResultView:
    """One of them; what refuses it, or stands in its way now, is its result and nobody else's."""
    view = view_of(identity)
    redriven: Transaction | None = None
    try:
        if dry_run:
            await driving.refuse_unless_drivable(view, transaction_id)
        else:
            redriven = await driving.again(view, transaction_id, actor_of(identity, by))
    except (ConflictError, UnknownTransaction, DependencyError) as exc:
        return _refused(transaction_id, exc)
    return RedriveResultView(
        transaction_id=transaction_id,
        outcome="drivable" if redriven is None else "redriven",
        redriven_as=None if redriven is None else redriven.id,
        code=None,
        detail=None,
    )


def _refused(transaction_id: UUID, exc: InterlockError) -> RedriveResultView:
    return RedriveResultView(
        transaction_id=transaction_id, outcome="refused", redriven_as=None, code=exc.code, detail=str(exc)
    )
