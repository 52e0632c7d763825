"""What v1 shows: transactions, payments, events, clients, as they appear in JSON and in the OpenAPI document."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from interlock.api.dials import Distance
from interlock.iso20022 import reasons
from interlock.iso20022.codes import HeldCause, Status
from interlock.iso20022.findings import Finding, Severity
from interlock.lifecycle import EventKind, State
from interlock.ports import Client, Control, ControlScope
from interlock.transaction import Clock, DeliveryState, Event, Payment, Transaction


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, always with microseconds."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


Instant = Annotated[
    datetime,
    PlainSerializer(instant, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-31T09:30:00.123456Z"]}),
]
Money = Annotated[Decimal, PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})]

_FACETS = frozenset({State.ENDING, State.HANDING, State.HANDED})
_OPERATOR = "operator"


class View(BaseModel):
    """Something that is shown."""

    model_config = ConfigDict(frozen=True)


class ReasonView(View):
    """Why a transaction or payment was rejected or cancelled."""

    code: str = Field(description="ISO 20022 ExternalStatusReason1Code.", examples=["AM05"])
    name: str | None = Field(description="Its ISO name.", examples=["Duplication"])


class DeadlineView(View):
    """The clock that runs."""

    clock: Clock
    at: Instant


class AnswerView(View):
    """The one answer to the message."""

    definition: str | None = Field(
        description="Its ISO message definition; null while there is none.", examples=["pacs.002.001.12"]
    )
    due: bool = Field(description="False where the message is itself an answer, and is never answered.")


class TransactionView(View):
    """The run of one message."""

    transaction_id: UUID
    client_id: str
    status: Status = Field(description="ISO 20022 ExternalPaymentTransactionStatus1Code.")
    final: bool = Field(description="Nothing can follow: the status is ACSC, RJCT or CANC.")
    held: HeldCause | None = Field(description="Why the status is PDNG.")
    facet: Literal["ending", "handing", "handed"] | None = Field(
        description="An end or a hand-over to a downstream is under way."
    )
    reason: ReasonView | None
    transaction_code: str | None = Field(description="Ours, beside the reason: TOUT (time-out), RCVR (recovery).")
    note: str | None = Field(description="In words.")
    route: str
    definition: str | None = Field(description="ISO message definition of the message.", examples=["pacs.008.001.08"])
    message_id: str | None = Field(description="MsgId of the message.")
    reference: str | None = Field(description="The client's own reference for the call.")
    payments_count: int
    created_at: Instant
    updated_at: Instant
    deadline: DeadlineView | None
    attempt: int = Field(description="1, or more where it drives the payments of another one again.")
    redrive_of: UUID | None
    redriven_as: UUID | None
    answer: AnswerView
    region: str
    replicated: bool = Field(description="Whether another region has it durably.")
    fencing: Literal["strict", "lease"]
    consistency: Literal["local", "replicated"] = Field(
        description="Where it is on disk by now: in its region alone, or in another one too."
    )
    approved: bool = Field(description="The first of four eyes has accepted; another must.")
    flagged: bool = Field(description="Something late or contradictory was recorded.")


class PaymentView(View):
    """One payment in a message."""

    ordinal: int = Field(description="Place in the message, from 1.")
    instruction_id: str | None
    end_to_end_id: str | None
    transaction_reference: str | None = Field(description="TxId of the payment.")
    uetr: str | None
    amount: Money | None
    currency: str | None
    status: Status
    reason: ReasonView | None
    note: str | None = Field(description="Why it was refused, in words, where it has a reason of its own.")


class PaymentPageView(View):
    """Some payments of a message, in their order."""

    payments: tuple[PaymentView, ...]
    next: int | None = Field(description="What `after` is for the next page; null on the last.")


class TransactionDetailView(TransactionView):
    """A transaction with its payments and the delivery of its answer."""

    payments: tuple[PaymentView, ...]
    delivery: DeliveryState | None = Field(
        description="How far the telling of the answer has come; null while there is none."
    )


class DecidedView(TransactionView):
    """A transaction after a decision on some of its payments."""

    payments: tuple[PaymentView, ...] = Field(
        description="Those that the decision named. One without an end yet waits for a peer's word: ask again."
    )


class TransactionPageView(View):
    """A page of transactions, newest first."""

    transactions: tuple[TransactionView, ...]
    next: str | None = Field(description="Cursor of the next page; null on the last.")


class EventView(View):
    """What happened to a transaction."""

    seq: int
    event: EventKind
    at: Instant
    actor: str = Field(description="A client, `operator`, or `interlock`.")
    status: Status
    held: HeldCause | None
    because: EventKind | None = Field(description="For Ended: what caused the end.")
    reason: ReasonView | None
    transaction_code: str | None
    note: str | None
    detail: Mapping[str, object]


class EventsView(View):
    """The history of a transaction, oldest first."""

    transaction_id: UUID
    events: tuple[EventView, ...]


class FindingView(View):
    """What is wrong with a message."""

    severity: Severity
    rule: str
    reason: str
    xpath: str
    line: int | None
    text: str
    payment: int | None = Field(description="Ordinal of the payment that it concerns.")


class ValidationView(View):
    """All that is wrong with a message."""

    valid: bool | None = Field(description="Null where no schema is known here, so that it cannot be said.")
    definitions: tuple[str, ...]
    profile: str | None = Field(
        description="The market practice that judged; null where there was no message to judge."
    )
    edition: str | None = Field(description="The edition of it that judged, where it has several.")
    findings: tuple[FindingView, ...]


class DefinitionView(View):
    """A message definition that is known here."""

    definition: str
    answer: str | None = Field(
        description="The definition of its answer, admi.002 where it is not served; null where it is never answered."
    )
    source: str = Field(
        description="Where its schema comes from: `compiled` or `packaged` (a package), `user` (the operator's folder)."
    )
    origin: str = Field(description="The package and its version, or the name of the operator's file.")
    profiles: tuple[str, ...] = Field(description="The profiles that use it.")
    restricted_by: tuple[str, ...] = Field(
        description="Those of them that have a schema of their own for it, which judges after its own."
    )


class DefinitionsView(View):
    """All that is supported."""

    definitions: tuple[DefinitionView, ...]


class RedriveResultView(View):
    """What came of one transaction in a bulk redrive."""

    transaction_id: UUID
    outcome: Literal["redriven", "drivable", "refused"] = Field(description="`drivable` in a dry run.")
    redriven_as: UUID | None
    code: str | None = Field(description="Why it was refused, as a problem code.")
    detail: str | None


class RedrivesView(View):
    """What came of a bulk redrive, one by one."""

    dry_run: bool
    results: tuple[RedriveResultView, ...]
    next: str | None = Field(description="Cursor to go on with; null where everything that matched is here.")


class ControlView(View):
    """An operator's order that stands."""

    scope: ControlScope
    name: str
    stopped: bool
    actor: str
    note: str | None
    at: Instant


class ControlledView(ControlView):
    """An order just given."""

    resumed: int = Field(description="Transactions that go on because of it.")


class ControlsView(View):
    """All orders that stand."""

    controls: tuple[ControlView, ...]


class ClientView(View):
    """An API consumer."""

    client_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: Instant
    disabled_at: Instant | None


class NewClientView(ClientView):
    """A client just made; the secret is told now and never again."""

    client_secret: str


class ClientsView(View):
    """All clients, oldest first."""

    clients: tuple[ClientView, ...]


class RotationView(View):
    """The key that signs from now on."""

    key_id: str
    created_at: Instant


class IdentityView(View):
    """Who calls."""

    client_id: str
    scopes: tuple[str, ...]
    expires_at: Instant
    region: str


class ProblemView(View):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field(description="A page about this kind of problem.", examples=["/problems/unknown_transaction"])
    title: str
    status: int
    detail: str
    code: str = Field(examples=["unknown_transaction"])


class Views:
    """Makes views of what the workflow gives; knows the region's name."""

    def __init__(self, names: Mapping[int, str], distance: Callable[[Transaction], Distance]) -> None:
        """names: of the regions, by number."""
        self._names = names
        self._distance = distance

    def transaction(self, t: Transaction, distance: Distance | None = None) -> TransactionView:
        """A transaction. distance: of it as it is here, where that was waited for."""
        return TransactionView.model_construct(**self._fields(t, distance))

    def detail(
        self, t: Transaction, payments: Sequence[Payment], delivery: DeliveryState | None
    ) -> TransactionDetailView:
        """With its payments."""
        shown = tuple(payment_view(payment) for payment in payments)
        return TransactionDetailView.model_construct(**self._fields(t), payments=shown, delivery=delivery)

    def decided(self, t: Transaction, payments: Sequence[Payment]) -> DecidedView:
        """With those of its payments that a decision named."""
        shown = tuple(payment_view(payment) for payment in payments)
        return DecidedView.model_construct(**self._fields(t), payments=shown)

    def _fields(self, t: Transaction, distance: Distance | None = None) -> dict[str, Any]:
        standing = t.standing
        deadline = t.deadline
        distance = distance or self._distance(t)
        # Of an end nothing is shown before it is a fact.
        ending = standing.state is State.ENDING
        return {
            "transaction_id": t.id,
            "client_id": t.client,
            "status": standing.status,
            "final": standing.is_final,
            "held": standing.cause,
            "facet": standing.state.value if standing.state in _FACETS else None,
            "reason": None if ending else reason_view(t.reason),
            "transaction_code": None if ending else t.code,
            "note": None if ending else t.note,
            "route": t.route,
            "definition": t.definition,
            "message_id": t.message_id,
            "reference": t.reference,
            "payments_count": t.payments,
            "created_at": t.created_at,
            "updated_at": t.updated_at,
            "deadline": deadline and DeadlineView.model_construct(clock=deadline.clock, at=deadline.at),
            "attempt": t.attempt,
            "redrive_of": t.redrive_of,
            "redriven_as": t.redriven_as,
            "answer": AnswerView.model_construct(definition=t.answer, due=t.answer_due),
            "region": self._names.get(t.region, str(t.region)),
            "replicated": distance.replicated,
            "fencing": distance.fencing,
            "consistency": "replicated" if distance.replicated else "local",
            "approved": t.approved_by is not None and not standing.is_final,
            "flagged": t.flagged,
        }


def as_json(view: View) -> bytes:
    """A view as it is sent."""
    return view.__pydantic_serializer__.to_json(view)


def reason_view(code: str | None) -> ReasonView | None:
    """A reason with its name."""
    if code is None:
        return None
    known = reasons.STATUS_REASONS.get(code)
    return ReasonView.model_construct(code=code, name=None if known is None else known.name)


def payment_view(p: Payment) -> PaymentView:
    """A payment."""
    return PaymentView.model_construct(
        ordinal=p.ordinal,
        instruction_id=p.instruction_id,
        end_to_end_id=p.end_to_end_id,
        transaction_reference=p.transaction_id,
        uetr=p.uetr,
        amount=p.amount,
        currency=p.currency,
        status=p.status,
        reason=reason_view(p.reason),
        note=p.note,
    )


def event_view(event: Event, *, for_operator: bool) -> EventView:
    """An event; a tenant learns that an operator acted, not which."""
    status = event.standing.status
    assert status is not None  # every event leads to one
    actor = event.actor
    if not for_operator and actor.startswith(f"{_OPERATOR}:"):
        actor = _OPERATOR
    return EventView.model_construct(
        seq=event.seq,
        event=event.kind,
        at=event.at,
        actor=actor,
        status=status,
        held=event.standing.cause,
        because=event.because,
        reason=reason_view(event.reason),
        transaction_code=event.code,
        note=event.note,
        detail=event.detail,
    )


def finding_view(finding: Finding) -> FindingView:
    """A finding."""
    return FindingView.model_construct(
        severity=finding.severity,
        rule=finding.rule,
        reason=finding.reason,
        xpath=finding.xpath,
        line=finding.line,
        text=finding.text,
        payment=finding.payment,
    )


def control_view(control: Control) -> ControlView:
    """An order."""
    return ControlView(
        scope=control.scope,
        name=control.name,
        stopped=control.stopped,
        actor=control.actor,
        note=control.note,
        at=control.at,
    )


def client_view(client: Client) -> ClientView:
    """A client, without its secret."""
    return ClientView(
        client_id=client.id,
        name=client.name,
        scopes=tuple(sorted(client.scopes)),
        created_at=client.created_at,
        disabled_at=client.disabled_at,
    )
