"""What follows from a transaction's events and from its message, against what is stored of it.

Each answer is a sentence that names what differs. Values are told only where they cannot be personal data.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from uuid import UUID

from interlock import lifecycle
from interlock.apart import NONE_APART
from interlock.cli.dossiers import UNREADABLE, Dossier, Name
from interlock.cli.rereading import WIDEST, Message, is_lenient, is_limit, read_again
from interlock.errors import IllegalTransition
from interlock.iso20022 import envelopes
from interlock.iso20022.codes import Status
from interlock.iso20022.forms import SETTLED_CODES
from interlock.iso20022.original import Original, OriginalPayment
from interlock.lifecycle import Effect, EventKind, Standing
from interlock.ports import Store
from interlock.stages import receive
from interlock.transaction import Body, BodyKind, Event, Payment, PaymentEnd, Transaction


def unlike(store: Store, dossier: Dossier, names: list[tuple[str, Name]]) -> Iterator[str]:
    """Faults of one transaction.

    names: is given the keys that it must be found by, and what they are called.
    """
    if not dossier.entries:
        yield "history does not know it"
    elif len(dossier.rows) > 1:
        yield "it is there more than once"
    else:
        yield from _unlike(store, dossier, names)


def _unlike(store: Store, dossier: Dossier, names: list[tuple[str, Name]]) -> Iterator[str]:
    bodies = tuple(dossier.bodies())
    yield from _unlike_digests(dossier, [sha256(body.content).digest() for body in bodies])
    try:
        transaction, owners, events = dossier.transaction(), *dossier.history()
    except UNREADABLE as exc:
        yield f"its state cannot be read: {exc}"
        return
    strange = _strange(transaction, owners, events)
    if strange is not None:
        yield strange
        return
    try:
        told = _Told(events)
    except IllegalTransition:
        yield "its events do not follow one another by the lifecycle's table"
        return
    yield from _unlike_events(transaction, events, told)
    yield from _unlike_attempts(store, transaction, told)
    inbox = next((body for body in bodies if body.kind is BodyKind.INBOX), None)
    # Where an intended end was replaced there are the answers of both; the transaction says which one counts.
    written = [body for body in bodies if body.kind is BodyKind.OUTBOX]
    outbox = next((body for body in written if body.digest == transaction.answer_digest), next(iter(written), None))
    message = Message()
    if inbox is not None and not told.limited:
        message = _read(inbox.content, known=told.entered, lenient=told.lenient)
    if transaction.digest != (None if inbox is None else sha256(inbox.content).digest()):
        yield "its message is not the one that it was received with"
        return  # all that follows would be said of another message
    if inbox is not None and inbox.parts:
        return  # it is as it came; to read so long a message again takes more memory than there may be
    yield from _unlike_message(transaction, told, inbox, message)
    yield from _unlike_answer(transaction, told, outbox, message)
    try:
        payments = dossier.payments()
    except UNREADABLE:
        yield "a payment of it cannot be read: its status or amount is none"
        return
    placed = told.placed if told.placed is not None else bool(transaction.payments or payments)
    yield from _unlike_payments(payments, message.payments if placed else ())
    yield from _unlike_end(transaction, told, payments, outbox)
    if told.entered and message.original is not None:
        names += _names(transaction.id, events[0].actor, message.original)


def _strange(transaction: Transaction, owners: set[UUID], events: Sequence[Event]) -> str | None:
    """What keeps events from being a transaction's history at all."""
    if owners != {transaction.id}:
        return "an event of another transaction stands among its own"
    if len(events) != transaction.version:
        return f"its version is {transaction.version}, its events are {len(events)}"
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        return "its events are numbered otherwise than they are stored"
    return None


def _unlike_digests(dossier: Dossier, held: list[bytes]) -> Iterator[str]:
    """Its messages against those that its events name."""
    named: list[bytes] = []
    for entry in dossier.entries:
        digests = _digests(entry.content)
        named += digests
        for digest in digests:
            if digest not in held:
                yield f"a message is not the one that event {entry.seq} names"
    if len(held) > len(named) or any(digest not in named for digest in held):
        yield "it holds a message that no event of it names: one was added behind its back"
    if held == named[::-1] != named:
        yield "its message and its answer have changed places"


def _digests(content: bytes) -> list[bytes]:
    """SHA-256 of the messages that came with an event."""
    if b'"bodies"' not in content:
        return []
    try:
        return [bytes.fromhex(digest) for digest in json.loads(content).get("bodies", ())]
    except (ValueError, AttributeError, TypeError):
        return []  # the chain has told of it


# -- what events tell of a transaction --------------------------------------------------------------------------------


class _Told:
    """What events say of a transaction's present state. Raises IllegalTransition where they cannot follow so."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.standing = Standing()
        #: Payments that have ended by themselves, or are to.
        self.apart = NONE_APART
        #: The last one that moved it: its reason, code and note are the transaction's.
        self.moved: Event | None = None
        #: It was found technically valid and new, so that it reserved its keys.
        self.entered = False
        #: What its message tells was noted down; None where it may have been.
        self.placed: bool | None = False
        #: A stage of ours failed on the way.
        self.faulted = False
        #: Its message was beyond the limits of what is read at all.
        self.limited = False
        #: It was read as it was meant.
        self.lenient = False
        self.flagged = False
        self.approved_by: str | None = None
        self.redriven: str | None = None
        self.statuses: set[Status | None] = set()
        retried = False
        for event in events:
            kind = event.because or event.kind
            effect = self._follow(event, kind)
            if effect in (Effect.GO, Effect.END):
                self.moved = event
                self.entered |= kind in _ENTERING
                self.placed = self.placed or kind in _PLACING or (None if retried and kind in _MAY_PLACE else False)
            self.flagged |= effect in (Effect.FLAG, Effect.INCIDENT)
            self.faulted |= kind is EventKind.STAGE_FAULT
            self.limited |= kind is EventKind.REFUSED and is_limit(event)
            self.lenient |= is_lenient(event)
            retried |= kind is EventKind.RETRIED
            if kind is EventKind.APPROVED:
                self.approved_by = event.actor
            if kind is EventKind.REDRIVEN:
                self.redriven = event.note

    def _follow(self, event: Event, kind: EventKind) -> Effect:
        alone = event.kind is EventKind.ENDED and event.because is not None
        step = lifecycle.apply(self.standing, kind, alone=alone, cancelled=self.apart.cancelled)
        if step.standing != event.standing:
            raise IllegalTransition(f"event {event.seq} is not what the lifecycle makes of {kind}")
        self.apart = self.apart.then(event)
        self.standing = step.standing
        self.statuses.add(step.standing.status)
        return step.effect


_ENTERING = (EventKind.RECEIVED, EventKind.PASSED, EventKind.HELD_FOR_DECISION)
_PLACING = (*_ENTERING, EventKind.REFUSED)
#: After a retry the stages may find that it is too late, or the clock may have come first: the events are the same.
_MAY_PLACE = (EventKind.DEADLINE,)


# -- what a message tells ---------------------------------------------------------------------------------------------


def _read(content: bytes, *, known: bool, lenient: bool) -> Message:
    """known: it was technically valid. The names in any other stay in memory as long as the thread that met them."""
    if known:
        return read_again(content, lenient=lenient)
    read: list[Message] = []
    thread = threading.Thread(target=lambda: read.append(read_again(content, envelopes.new_parser(), lenient=lenient)))
    thread.start()
    thread.join()
    return read[0]


# -- its state, against its events ------------------------------------------------------------------------------------


def _unlike_events(transaction: Transaction, events: Sequence[Event], told: _Told) -> Iterator[str]:
    if transaction.standing != told.standing:
        yield _stands_otherwise(transaction.standing, told.standing)
    first, last, moved = events[0], events[-1], told.moved
    assert moved is not None  # the first event moves it, by the table
    for name, present, due in (
        ("client", transaction.client, first.actor),
        ("beginning", transaction.created_at, first.at),
        ("last change", transaction.updated_at, last.at),
        ("epoch", transaction.epoch, last.epoch),
        ("reason", transaction.reason, moved.reason),
        ("code", transaction.code, moved.code),
        ("note", transaction.note, moved.note),
        ("first approval", transaction.approved_by, told.approved_by),
    ):
        if present != due:
            yield f"its {name} is {_said(present)}, its events say {_said(due)}"
    # A fault may have set the flag too, where one was parked.
    if transaction.flagged != told.flagged and not (transaction.flagged and told.faulted):
        yield f"its flag for the operations desk is {_said(transaction.flagged)}, its events say otherwise"
    if told.standing.is_final and (transaction.deadline is not None or transaction.sla_left is not None):
        yield f"it is {told.standing.status}, and a clock of it still runs"
    if not told.standing.is_final and transaction.deadline is None:
        yield f"it is {told.standing.status}, and no clock of it runs: it would never end"


def _stands_otherwise(present: Standing, due: Standing) -> str:
    if _shown(present) == _shown(due):
        return f"it shows {present.status} as its events say, but its state behind that is another"
    return f"it is {_shown(present)}, its events say {_shown(due)}"


def _shown(standing: Standing) -> str:
    """The status, with what else is known of it."""
    more = "" if standing.cause is None else f" (held: {standing.cause})"
    return f"{standing.status}{more}" + (
        f" (end: {standing.end})" if standing.end not in (None, standing.status) else ""
    )


def _said(value: object) -> str:
    return "not set" if value is None else str(value)


def _unlike_attempts(store: Store, transaction: Transaction, told: _Told) -> Iterator[str]:
    """What binds the attempts at one message, from both sides."""
    again, of = transaction.redriven_as, transaction.redrive_of
    if told.redriven != (None if again is None else f"as {again}"):
        yield f"it was driven again as {_said(again)}, its events say {_said(told.redriven)}"
    elif again is not None and not _is_relative(
        store, again, lambda next_: (next_.redrive_of, next_.attempt) == (transaction.id, transaction.attempt + 1)
    ):
        yield f"it was driven again as {again}, which is not the attempt after it"
    if of is None:
        if transaction.attempt != 1:
            yield f"it is attempt {transaction.attempt} of nothing"
    elif not _is_relative(
        store, of, lambda former: (former.redriven_as, former.attempt) == (transaction.id, transaction.attempt - 1)
    ):
        yield f"it is attempt {transaction.attempt}, and {of} is not the one before it"


def _is_relative(store: Store, id_: UUID, fits: Callable[[Transaction], bool]) -> bool:
    """Whether another attempt fits; one that is archived cannot be asked, and is believed."""
    try:
        found = store.get(id_)
    except UNREADABLE:
        return False
    return store.archived(id_) is not None if found is None else fits(found)


def _unlike_message(transaction: Transaction, told: _Told, inbox: Body | None, message: Message) -> Iterator[str]:
    if inbox is not None and inbox.digest != transaction.digest:
        yield "its message is stored under another digest than its own"
    # Where a stage has failed, the definition may not have been read.
    known = {message.definition, None} if told.faulted or not told.placed else {message.definition}
    if inbox is not None and inbox.definition not in known:
        yield f"its message is stored as {_said(inbox.definition)}, it is {_said(message.definition)}"
    if transaction.definition not in known:
        yield f"its definition is {_said(transaction.definition)}, its message is {_said(message.definition)}"
    original = message.original
    message_id = None if original is None else original.message_id
    blank: tuple[str | None, int, bool] = (None, 0, True)
    full = (message_id, len(message.payments), not message.is_answer)
    held = (message_id, 0, True)  # for a fault of ours, and yet to be found
    allowed = {None: (blank, held, full), False: (blank, held), True: (full,)}[told.placed]
    present = (transaction.message_id, transaction.payments, transaction.answer_due)
    if present not in allowed:
        names = ("message identification", "number of payments", "whether an answer is due")
        differing = [name for name, one, other in zip(names, present, allowed[-1], strict=True) if one != other]
        yield f"not as its message says: {', '.join(differing)}"


def _unlike_answer(transaction: Transaction, told: _Told, outbox: Body | None, message: Message) -> Iterator[str]:
    if transaction.answer != (None if outbox is None else outbox.definition):
        yield "the definition of its answer is not that of the answer stored"
    if outbox is None:
        # One that answers is not answered; after a fault it may not have been known for what it is.
        if told.standing.is_final and not message.is_answer:
            yield f"it is {told.standing.status}, and has no answer"
        return
    if not told.standing.is_final:
        yield f"it is {told.standing.status}, and has an answer already"
    elif message.is_answer and told.placed and not told.faulted:
        yield "it is an answer, and has an answer itself"
    if outbox.digest != sha256(outbox.content).digest() or outbox.definition != _definition(outbox.content):
        yield "its answer is stored under another definition or digest than its own"


def _definition(content: bytes) -> str | None:
    try:
        return envelopes.read(content, WIDEST).definition
    except Exception:  # noqa: BLE001 - whatever it is, it is no answer of ours
        return None


# -- its payments and keys --------------------------------------------------------------------------------------------


def _unlike_payments(payments: Sequence[Payment], due: Sequence[OriginalPayment]) -> Iterator[str]:
    """Against the message, field by field; values are not repeated, for they may be personal data."""
    if [payment.ordinal for payment in payments] != [payment.ordinal for payment in due]:
        yield f"it holds {len(payments)} payments, its message {len(due)}, or they are numbered otherwise"
        return
    for payment, original in zip(payments, due, strict=True):
        if (
            payment.amount == original.decimal
            and payment.uetr == original.uetr
            and payment.currency == original.currency
            and payment.instruction_id == original.instruction_id
            and payment.end_to_end_id == original.end_to_end_id
            and payment.transaction_id == original.transaction_id
        ):
            continue
        names = ("instruction_id", "end_to_end_id", "transaction_id", "uetr", "currency")
        differing = [name for name in names if getattr(payment, name) != getattr(original, name)]
        differing += ["amount"] if payment.amount != original.decimal else []
        yield f"payment {payment.ordinal} is not as in its message: {', '.join(differing)}"


def _unlike_end(
    transaction: Transaction, told: _Told, payments: Sequence[Payment], outbox: Body | None
) -> Iterator[str]:
    """Statuses of payments against the transaction's, and against what the answer says of each."""
    end = (told.apart.rest or told.standing.end) if told.standing.is_final else None
    allowed = {Status.RJCT, *told.statuses} - {Status.ACSC, Status.CANC} if end is None else {end, Status.RJCT}
    for payment in payments:
        if payment.ordinal in told.apart.facts:
            yield from _unlike_alone(payment, told.apart.ends[payment.ordinal])
        elif payment.status not in allowed:
            yield f"payment {payment.ordinal} is {payment.status} where the transaction is {told.standing.status}"
        elif payment.reason != _reason_due(transaction, payment):
            yield f"payment {payment.ordinal} is {payment.status} with another reason than the transaction"
    if end is Status.ACSC and payments and all(payment.status is not Status.ACSC for payment in payments):
        yield "it is ACSC, and none of its payments is"
    said = [] if outbox is None else _STATUS_SAID.findall(outbox.content)
    if len(said) != len(payments):
        return  # the answer tells nothing of single payments
    for payment, status in zip(payments, said, strict=True):
        if (payment.status is Status.ACSC) != (status.decode() in SETTLED_CODES):
            yield f"payment {payment.ordinal} is {payment.status}, the answer said {status.decode()}"


def _unlike_alone(payment: Payment, own: PaymentEnd) -> Iterator[str]:
    """How a payment ended on which a decision was taken by itself."""
    if payment.status is not own.status:
        yield f"payment {payment.ordinal} is {payment.status}, and ended as {own.status} by itself"
    elif (payment.reason, payment.note) != (own.reason, own.note):
        yield f"payment {payment.ordinal} has another reason or note than the decision that ended it by itself"


_STATUS_SAID = re.compile(rb"<TxSts>([A-Z]{4})</TxSts>")


def _reason_due(transaction: Transaction, payment: Payment) -> str | None:
    """The reason that a payment must have: none while it is open, its own where it was rejected alone."""
    if payment.status is Status.RJCT:
        return payment.reason or "a reason"
    return transaction.reason if payment.status.is_final else None


def _names(id_: UUID, client: str, original: Original) -> Iterator[tuple[str, Name]]:
    """Names under which a double of it would be refused, and what each is called."""
    for key in receive.message_keys(original):
        yield str(key.kind), Name(id_, client, key.kind, key.value)
    for payment in original.payments:
        for key in receive.payment_keys(original, payment):
            yield f"{key.kind} of payment {key.payment}", Name(id_, client, key.kind, key.value)
