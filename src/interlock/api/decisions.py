"""v1: decisions on transactions, and on some of their payments."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Body
from fastapi.responses import Response
from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from interlock.api.access import Access, actor_of, view_of
from interlock.api.calls import DECIDERS, By, Input, Name, Note, ReasonCode, caller, opened_by
from interlock.api.problems import DecisionRefused
from interlock.api.views import DecidedView, TransactionView, Views
from interlock.app import Interlock
from interlock.auth import Identity
from interlock.decisions import Decision, DecisionKind
from interlock.errors import Forbidden, IllegalDecision
from interlock.selection import SELECTED_MAX, Selector, chosen
from interlock.transaction import Transaction

#: What both databases hold as an integer.
_ORDINAL_MAX = 2**31 - 1

#: What the stages' own check demands, said so that machines know it: reason NARR means that a note explains it.
_NARRATIVE = ConfigDict(
    json_schema_extra={
        "if": {"properties": {"reason": {"const": "NARR"}}, "required": ["reason"]},
        "then": {"properties": {"note": {"type": "string", "minLength": 1}}, "required": ["note"]},
    }
)


def _is_whole(value: object) -> object:
    """JSON knows no integers: 2.0 is one too; neither `true` nor a text is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be an ordinal, or the names of a payment")  # noqa: TRY004 - what pydantic catches
    return value


class PaymentNames(Input):
    """One payment of the transaction, by what its sender calls it; every name that is given must be its own."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    # Whoever sends null has not said what is meant, so it can be left out only.
    uetr: Name = None  # type: ignore[assignment]
    end_to_end_id: Annotated[Name, Field(description="EndToEndId.")] = None  # type: ignore[assignment]
    transaction_reference: Annotated[Name, Field(description="TxId.")] = None  # type: ignore[assignment]
    instruction_id: Annotated[Name, Field(description="InstrId.")] = None  # type: ignore[assignment]


def _tag(value: object) -> str:
    return "names" if isinstance(value, dict | PaymentNames) else "ordinal"


_Ordinal = Annotated[int, Field(ge=1, le=_ORDINAL_MAX), BeforeValidator(_is_whole), Tag("ordinal")]
_Which = Annotated[_Ordinal | Annotated[PaymentNames, Tag("names")], Discriminator(_tag)]
#: Null is a mistake here: taken for "left out", it would end everything.
Chosen = Annotated[
    list[_Which],
    Field(
        min_length=1,
        max_length=SELECTED_MAX,
        description="Only these payments, each by its ordinal or by its names; each item must mean one payment, or "
        "nothing is decided. They end at once and by themselves, the others go on. Left out: all that have no end yet.",
        examples=[[2, {"end_to_end_id": "E-4711"}]],
    ),
]


class Accept(Input):
    """Let a held transaction go on: with all its payments that have no end yet."""

    decision: Literal["accept"]
    note: Note | None = None
    by: By | None = None

    @model_validator(mode="before")
    @classmethod
    def _takes_all(cls, given: Any) -> Any:
        if isinstance(given, dict) and "payments" in given:
            raise ValueError("accept takes no payments: reject or cancel the others first, then accept what is left")
        return given


class Reject(Input):
    """End a held transaction as RJCT, or some of its payments."""

    model_config = _NARRATIVE

    decision: Literal["reject"]
    payments: Chosen = None  # type: ignore[assignment]
    reason: ReasonCode
    note: Note | None = None
    by: By | None = None


class Cancel(Input):
    """End a transaction as CANC, or some of its payments, while that is still possible."""

    model_config = _NARRATIVE

    decision: Literal["cancel"]
    payments: Chosen = None  # type: ignore[assignment]
    reason: ReasonCode | None = None
    note: Note | None = None
    by: By | None = None


class Redrive(Input):
    """Drive the payments of a cancelled or retryably rejected transaction again, as a new one."""

    decision: Literal["redrive"]
    by: By | None = None


class Retry(Input):
    """Let the stages try again after a fault of ours; operators only."""

    decision: Literal["retry"]
    note: Note | None = None
    by: By | None = None


Deciding = Annotated[Accept | Reject | Cancel | Redrive | Retry, Field(discriminator="decision")]


def router(interlock: Interlock, access: Access, views: Views) -> APIRouter:
    """The call."""
    routes = APIRouter(prefix="/v1")
    workflow = interlock.workflow
    decider = caller(access, *DECIDERS)

    @routes.post(
        "/transactions/{transaction_id}/decisions",
        tags=["decisions"],
        responses={
            200: {"description": "The transaction as it stands after the decision; with the payments that it named."},
            201: {"model": TransactionView, "description": "Redriven: the new transaction."},
        },
        openapi_extra=opened_by(*DECIDERS),
    )
    async def decide(
        identity: Annotated[Identity, decider],
        transaction_id: UUID,
        deciding: Annotated[Deciding, Body()],
        response: Response,
    ) -> DecidedView | TransactionView:
        """Accept, reject, cancel or redrive; the same decision again gives the same answer."""
        view = view_of(identity)
        transaction = await workflow.reading.get(view, transaction_id)
        try:
            decided = await _decide(interlock, identity, transaction, deciding)
        except IllegalDecision as exc:
            transaction = await workflow.reading.get(view, transaction_id)
            raise DecisionRefused(
                str(exc),
                transaction_id=str(transaction.id),
                transaction_status=transaction.standing.status,
                held=transaction.standing.cause,
                redriven_as=None if transaction.redriven_as is None else str(transaction.redriven_as),
            ) from exc
        if isinstance(deciding, Redrive):
            response.status_code = 201
            response.headers["location"] = f"/v1/transactions/{decided.id}"
        selectors = _selectors(deciding)
        if selectors is None:
            return views.transaction(decided)
        return views.decided(decided, chosen(await workflow.reading.payments(view, transaction_id), selectors))

    return routes


async def _decide(
    interlock: Interlock, identity: Identity, transaction: Transaction, deciding: Deciding
) -> Transaction:
    view, actor = view_of(identity), actor_of(identity, deciding.by)
    if isinstance(deciding, Redrive):
        return await interlock.workflow.driving.again(view, transaction.id, actor)
    if isinstance(deciding, Retry) and view is not None:
        raise Forbidden("only operators may retry")
    decision = Decision(
        kind=DecisionKind(deciding.decision),
        actor=actor,
        reason=deciding.reason if isinstance(deciding, Reject | Cancel) else None,
        note=deciding.note,
        payments=_selectors(deciding),
    )
    return await interlock.workflow.deciding.decide(view, transaction.id, decision)


def _selectors(deciding: Deciding) -> tuple[Selector, ...] | None:
    """The payments that it names; None: all."""
    if not isinstance(deciding, Reject | Cancel) or deciding.payments is None:
        return None
    return tuple(
        Selector(ordinal=one) if isinstance(one, int) else Selector(**one.model_dump()) for one in deciding.payments
    )
