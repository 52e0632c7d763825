"""One transaction as each side has it: its messages read again, the store's rows, and what its answer says.

Owns: reading all of it as of one moment, beside a server that goes on. Must not know: what should come to the same.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import zstandard
from lxml import etree

from interlock.apart import fold
from interlock.cli.reconciling.answers import Answer, answer_of
from interlock.cli.rereading import Message, is_lenient, is_limit, read_again
from interlock.iso20022 import envelopes
from interlock.iso20022.codes import Status
from interlock.iso20022.original import OriginalPayment
from interlock.lifecycle import EventKind
from interlock.ports import Store
from interlock.transaction import Body, BodyKind, Event, Payment, Transaction

#: What a row raises whose values are none of ours.
UNREADABLE = (ValueError, ArithmeticError, TypeError)
#: How often a transaction is read anew that a server moves on while we read.
_TRIES = 8
#: Digits before or behind the point; a message can hold amounts of so many, if only to be rejected.
_DIGITS_MAX = 40
#: How much is read in one thread.
_THREAD_BYTES = 16_777_216


class Case(NamedTuple):
    """One transaction, and what each side says of it."""

    transaction: Transaction
    #: None where they cannot be read.
    events: Sequence[Event] | None
    payments: Sequence[Payment]
    #: The messages as they are; None where there is none.
    inbox: bytes | None
    outbox: bytes | None
    message: Message
    answer: Answer | None
    #: What could not be read of it.
    unread: Sequence[str]
    #: Its message came by the way for many payments.
    is_long: bool = False

    @property
    def is_refused_as_one(self) -> bool:
        """Such a message is then answered as one, and where it could not be read to its end no payments are kept."""
        return self.is_long and self.transaction.standing.end is Status.RJCT

    @property
    def faulted(self) -> bool:
        """A stage of ours failed on its way, so that little of its message may have been noted down."""
        return any(EventKind.STAGE_FAULT in (event.kind, event.because) for event in self.events or ())

    @property
    def is_unplaced(self) -> bool:
        """Our own failure kept its payments from being noted down: they go the way of the whole."""
        transaction = self.transaction
        return (
            not self.payments
            and not transaction.payments
            and transaction.standing.end is not Status.ACSC
            and self.faulted
        )

    @property
    def ended_alone(self) -> Mapping[int, Status]:
        """How payments ended on which a decision was taken by itself, by ordinal."""
        apart = fold(self.events or (), self.transaction)
        return {ordinal: apart.ends[ordinal].status for ordinal in apart.facts}

    @property
    def kept(self) -> Sequence[Payment]:
        """Its payments as the store has them."""
        status = self.transaction.standing.status
        if not self.is_unplaced or status is None:
            return self.payments
        return [_assumed(payment, status) for payment in self.message.payments]


def _assumed(payment: OriginalPayment, status: Status) -> Payment:
    return Payment(
        ordinal=payment.ordinal,
        instruction_id=payment.instruction_id,
        end_to_end_id=payment.end_to_end_id,
        transaction_id=payment.transaction_id,
        uetr=payment.uetr,
        amount=payment.decimal,
        currency=payment.currency,
        status=status,
    )


class Reader:
    """Reads messages and answers, in a thread that is renewed every so often.

    libxml2 keeps every name that it meets for as long as the thread that met it lives, and senders may invent names.
    """

    def __init__(self) -> None:
        #: The thread, with the parser that was made in it.
        self._reading: tuple[ThreadPoolExecutor, etree.XMLParser] | None = None
        self._left = 0

    def read(self, inbox: bytes | None, outbox: bytes | None, *, lenient: bool) -> tuple[Message, Answer | None]:
        """What a message and its answer say; lenient: the server has read the message so."""
        if self._reading is None or self._left <= 0:
            self.close()
            new = ThreadPoolExecutor(1, thread_name_prefix="reading")
            self._reading = new, new.submit(envelopes.new_parser).result()
            self._left = _THREAD_BYTES
        thread, parser = self._reading
        self._left -= len(inbox or b"") + len(outbox or b"")
        return thread.submit(_said, inbox, outbox, parser, lenient=lenient).result()

    def close(self) -> None:
        """End the thread; the names that it has met go with it."""
        if self._reading is not None:
            self._reading[0].shutdown()
            self._reading = None


def _said(
    inbox: bytes | None, outbox: bytes | None, parser: etree.XMLParser, *, lenient: bool
) -> tuple[Message, Answer | None]:
    message = Message() if inbox is None else read_again(inbox, parser, lenient=lenient)
    return message, None if outbox is None else answer_of(outbox, parser)


def gathered(store: Store, transaction: Transaction, reader: Reader) -> Case:
    """All sides at one moment: read again where the transaction has moved on meanwhile."""
    for _ in range(_TRIES):
        case = _read(store, transaction, reader)
        if transaction.standing.is_final:
            break
        try:
            present = store.get(transaction.id)
        except UNREADABLE:
            break
        if present is None or present.version == transaction.version:
            break
        transaction = present
    return case


def _read(store: Store, transaction: Transaction, reader: Reader) -> Case:
    unread: list[str] = []
    events: Sequence[Event] | None = None
    payments: Sequence[Payment] = ()
    try:
        events = store.history(transaction.id)
    except UNREADABLE:
        unread.append("its history cannot be read")
    try:
        payments = _sound(store.payments(transaction.id))
    except UNREADABLE:
        unread.append("its payments cannot be read: a status or an amount is none")
    (inbox, parts), (outbox, _) = (_content(store, transaction.id, kind, unread) for kind in BodyKind)
    # What was beyond the limits then was not read, and must not be read now.
    limited = any(is_limit(event) for event in events or ())
    lenient = any(is_lenient(event) for event in events or ())
    message, answer = reader.read(None if limited else inbox, outbox, lenient=lenient)
    return Case(transaction, events, payments, inbox, outbox, message, answer, unread, is_long=parts > 0)


def _sound(payments: Sequence[Payment]) -> Sequence[Payment]:
    """Raises ValueError where an amount is none that a message can have: infinite, say."""
    for payment in payments:
        _, _, exponent = (payment.amount or Decimal(0)).as_tuple()
        if not isinstance(exponent, int) or not -_DIGITS_MAX <= exponent <= _DIGITS_MAX:
            raise ValueError(payment.ordinal)
        if payment.amount and abs(payment.amount.adjusted()) > _DIGITS_MAX:
            raise ValueError(payment.ordinal)
    return payments


def _content(store: Store, id_: UUID, kind: BodyKind, unread: list[str]) -> tuple[bytes | None, int]:
    """A message, and how many parts it is kept in."""
    try:
        body: Body | None = store.message(id_, kind)
    except (zstandard.ZstdError, MemoryError, *UNREADABLE):
        unread.append(f"its {'message' if kind is BodyKind.INBOX else 'answer'} cannot be unpacked")
        return None, 0
    return (None, 0) if body is None else (body.content, body.parts)
