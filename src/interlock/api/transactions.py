"""v1: transactions, their messages and history, decisions on them, and validation without any of that."""

import asyncio
from enum import StrEnum
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query
from fastapi.requests import Request as FastRequest
from fastapi.responses import Response, StreamingResponse

from interlock.api.access import Access, view_of
from interlock.api.calls import READERS, Flag, caller, cursor, opened_by
from interlock.api.exchange import refuse_unless_message
from interlock.api.messages import Patience
from interlock.api.problems import InvalidRequest, NoAnswerDue, NoAnswerYet
from interlock.api.search import Filter, find
from interlock.api.views import (
    DefinitionsView,
    DefinitionView,
    EventsView,
    IdentityView,
    PaymentPageView,
    TransactionDetailView,
    TransactionPageView,
    ValidationView,
    Views,
    event_view,
    finding_view,
    payment_view,
)
from interlock.app import Interlock
from interlock.auth import Identity, Scope
from interlock.config import Validation
from interlock.errors import InterlockError
from interlock.iso20022 import answers
from interlock.iso20022.codes import Status
from interlock.stages import deliver
from interlock.stages.facts import Inspection
from interlock.transaction import BodyKind

XML = "application/xml"
#: What both databases hold as an integer.
_ORDINAL_MAX = 2**31 - 1
#: Payments that are shown with their transaction; of more there are pages.
_SHOWN_MAX = 1000
VALIDATORS = (Scope.READ, Scope.WRITE, Scope.OPERATE)

_XML_CONTENT = {"content": {XML: {"schema": {"type": "string"}}}}


class Which(StrEnum):
    """Which of a transaction's two messages."""

    INBOX = "inbox"
    OUTBOX = "outbox"


def router(interlock: Interlock, access: Access, patience: Patience, views: Views) -> APIRouter:
    """The calls."""
    routes = APIRouter(prefix="/v1")
    _reading(routes, interlock, access, patience, views)
    _asking(routes, interlock, access)
    return routes


def _reading(routes: APIRouter, interlock: Interlock, access: Access, patience: Patience, views: Views) -> None:
    reading = interlock.workflow.reading
    reader = caller(access, *READERS)

    @routes.get("/transactions", tags=["transactions"], openapi_extra=opened_by(*READERS))
    async def list_transactions(
        identity: Annotated[Identity, reader], chosen: Annotated[Filter, Query()]
    ) -> TransactionPageView:
        """Find transactions, newest first."""
        page = await find(
            reading, identity, chosen,
            statuses=frozenset(chosen.status), held=chosen.held, flagged=chosen.flagged, limit=chosen.limit,
        )  # fmt: skip
        shown = tuple(views.transaction(found) for found in page.transactions)
        return TransactionPageView.model_construct(transactions=shown, next=cursor(page.next))

    @routes.get("/transactions/{transaction_id}", tags=["transactions"], openapi_extra=opened_by(*READERS))
    async def get_transaction(
        identity: Annotated[Identity, reader],
        transaction_id: UUID,
        prefer: Annotated[str | None, Header(description="`wait=N`: wait up to N seconds for its end.")] = None,
    ) -> TransactionDetailView:
        """One transaction, with its payments: the first 1,000 of them."""
        view = view_of(identity)
        transaction = await reading.get(view, transaction_id)
        transaction = await patience.until_end(transaction, patience.preference(prefer))
        payments = await reading.payments_page(view, transaction_id, 0, _SHOWN_MAX, None)
        delivery = await interlock.journal.read(interlock.store.delivery, transaction_id, deliver.OUTBOX)
        return views.detail(transaction, payments, delivery)

    @routes.get("/transactions/{transaction_id}/payments", tags=["transactions"], openapi_extra=opened_by(*READERS))
    async def get_payments(
        identity: Annotated[Identity, reader],
        transaction_id: UUID,
        *,
        after: Annotated[
            int, Query(ge=0, le=_ORDINAL_MAX, description="`next` of the page before: the ordinal to go on behind.")
        ] = 0,
        limit: Annotated[int, Query(ge=1, le=1000, description="Longest page.")] = 500,
        status: Annotated[Status | None, Query(description="Only payments with this status.")] = None,
    ) -> PaymentPageView:
        """Its payments, page by page, in the order of the message."""
        found = await reading.payments_page(view_of(identity), transaction_id, after, limit + 1, status)
        shown = tuple(payment_view(payment) for payment in found[:limit])
        return PaymentPageView.model_construct(
            payments=shown, next=found[limit - 1].ordinal if len(found) > limit else None
        )

    @routes.get("/transactions/{transaction_id}/events", tags=["transactions"], openapi_extra=opened_by(*READERS))
    async def get_events(identity: Annotated[Identity, reader], transaction_id: UUID) -> EventsView:
        """What happened to it, oldest first."""
        view = view_of(identity)
        history = await reading.history(view, transaction_id)
        shown = tuple(event_view(event, for_operator=view is None) for event in history)
        return EventsView.model_construct(transaction_id=transaction_id, events=shown)

    @routes.get(
        "/transactions/{transaction_id}/messages/{which}",
        tags=["transactions"],
        response_class=Response,
        responses={200: {"description": "The message, byte for byte.", **_XML_CONTENT}},
        openapi_extra=opened_by(*READERS),
    )
    async def get_message(identity: Annotated[Identity, reader], transaction_id: UUID, which: Which) -> Response:
        """The message received (`inbox`) or its answer (`outbox`)."""
        view = view_of(identity)
        kind = BodyKind.INBOX if which is Which.INBOX else BodyKind.OUTBOX
        parts = await reading.parts(view, transaction_id, kind)
        if parts:
            if kind is BodyKind.OUTBOX and view is not None:
                reading.note_collected(transaction_id)
            return StreamingResponse(reading.streamed(transaction_id, kind, parts), media_type=XML)
        if which is Which.INBOX:
            received = await reading.message(view, transaction_id, BodyKind.INBOX)
            return Response(received.content, media_type=XML)
        return Response(await _answer(interlock, view, transaction_id), media_type=XML)


def _asking(routes: APIRouter, interlock: Interlock, access: Access) -> None:
    anybody, validator = caller(access, *Scope), caller(access, *VALIDATORS)
    profiles, routes_of_messages = interlock.config.open_profiles(), interlock.config.choice_of_routes()

    @routes.get("/me", tags=["clients"], openapi_extra=opened_by(*Scope))
    async def me(identity: Annotated[Identity, anybody]) -> IdentityView:
        """Who the token says that you are."""
        return IdentityView(
            client_id=identity.client_id,
            scopes=tuple(sorted(identity.scopes)),
            expires_at=identity.expires,
            region=interlock.config.region,
        )

    @routes.post(
        "/validations",
        tags=["validation"],
        openapi_extra={
            **opened_by(*VALIDATORS),
            "requestBody": {"required": True, "content": {XML: {"schema": {"type": "string"}}}},
        },
    )
    async def validate(
        identity: Annotated[Identity, validator],
        request: FastRequest,
        *,
        schema_only: Annotated[Flag, Query(description="Leave business rules and market practice out.")] = False,
        profile: Annotated[
            str | None,
            Query(
                description="The market practice to judge by, such as `cbprplus`. Unset: that of the route that the "
                "message would take, else the one that its header names. 400 where there is none of that name.",
                json_schema_extra={"enum": [known.name for known in profiles]},
            ),
        ] = None,
        lenient: Annotated[
            Flag | None,
            Query(
                description="Read elements whose namespace was declared and then not used, and tell that as a warning. "
                "Unset: as for the messages that you send."
            ),
        ] = None,
    ) -> ValidationView:
        """All that is wrong with a message, as if you had sent it; nothing is stored."""
        content = await request.body()
        refuse_unless_message(content)
        if profile is not None and profile not in profiles:
            there = ", ".join(known.name for known in profiles)
            raise InvalidRequest(f"profile: there is none of that name; there are {there}")
        found = await interlock.workflow.inspector.inspect(
            content,
            interlock.clock().date(),
            schema_only=schema_only,
            profile=profile or partial(routes_of_messages.profile_for, identity.client_id),
            lenient=interlock.config.validation_of(identity.client_id) is Validation.LENIENT
            if lenient is None
            else lenient,
        )
        return _validation(found)

    @routes.get("/definitions", tags=["validation"], dependencies=[anybody], openapi_extra=opened_by(*Scope))
    async def definitions() -> DefinitionsView:
        """The message definitions known here: where their schemas come from, what answers them, who uses them."""
        known = await asyncio.to_thread(interlock.catalogue.definitions)
        return DefinitionsView(
            definitions=tuple(
                DefinitionView(
                    definition=d.name,
                    answer=answers.answer_to(d.name),
                    source=d.source.value,
                    origin=d.origin,
                    profiles=d.profiles,
                    restricted_by=d.restricted_by,
                )
                for d in known
            )
        )


async def _answer(interlock: Interlock, view: str | None, transaction_id: UUID) -> bytes:
    """The answer's bytes; a tenant that reads them has fetched its answer, an operator has only looked."""
    reading = interlock.workflow.reading
    if view is None:
        transaction = await reading.get(None, transaction_id)
        answer = None if transaction.answer is None else await reading.message(None, transaction_id, BodyKind.OUTBOX)
    else:
        transaction, answer = await reading.collect(view, transaction_id)
    if answer is not None:
        return answer.content
    if transaction.standing.is_final or not transaction.answer_due:
        raise NoAnswerDue("the message is itself an answer, and is never answered")
    raise NoAnswerYet("the transaction has not ended; its answer comes with its end")


def _validation(found: Inspection) -> ValidationView:
    """The verdict; raises InterlockError where the fault is ours, for then there is none."""
    if found.failure is not None:
        raise InterlockError(f"the message could not be inspected: {found.failure}")
    findings = tuple(finding_view(finding) for finding in found.findings)
    return ValidationView.model_construct(
        valid=found.valid,
        definitions=found.definitions,
        profile=found.profile,
        edition=found.edition,
        findings=findings,
    )
