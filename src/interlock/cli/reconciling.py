"""Whether what clients sent, what the store says became of it and what they were told come to the same.

Three accounts of the transactions that began in a period, each from a source of its own: the messages as received, read
again (in); payments and statuses in the store (state); the answers, read by the standard's tags alone (out). They are
compared transaction by transaction, so that each difference has a name, and added up by client and currency. In bounded
memory, over any store, beside a running server.

Out of scope: whether history holds (`audit verify`), the reasons that answers give, and whether a payment came in two
messages, which the store's keys refuse. A cancelled payment is told as RJCT: ISO's CANC is for API contexts only.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Context, Decimal, Inexact
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

import zstandard
from iso4217 import Currency
from lxml import etree

from interlock.chain import micros
from interlock.errors import Archived
from interlock.iso20022 import answers, envelopes, fields
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.original import Original, OriginalPayment, to_decimal
from interlock.lifecycle import EventKind
from interlock.ports import Query, Store
from interlock.transaction import Body, BodyKind, Event, Payment, Transaction

_PAGE = 500
#: How often a transaction is read anew that a server moves on while we read.
_TRIES = 8
#: Sentences about one transaction; the rest are counted.
_SAID_MAX = 20
#: What a row raises whose values are none of ours.
_UNREADABLE = (ValueError, ArithmeticError, TypeError)

# -- the books --------------------------------------------------------------------------------------------------------

#: Digits before or behind the point; a message can hold amounts of so many, if only to be rejected.
_DIGITS_MAX = 40
#: Sums are exact, or they fail.
_EXACT = Context(prec=200, traps=[Inexact])


@dataclass(slots=True)
class Sum:
    """So many payments, and their amounts together."""

    payments: int = 0
    amount: Decimal = Decimal(0)

    def add(self, amount: Decimal | None) -> None:
        """One more payment; one whose amount cannot be read counts with none."""
        self.payments += 1
        if amount is not None:
            self.amount = _EXACT.add(self.amount, amount)

    def __add__(self, other: "Sum") -> "Sum":
        """Both together."""
        return Sum(self.payments + other.payments, _EXACT.add(self.amount, other.amount))

    def __sub__(self, other: "Sum") -> "Sum":
        """What is missing from the other one; negative where that has more."""
        return Sum(self.payments - other.payments, _EXACT.subtract(self.amount, other.amount))

    def __bool__(self) -> bool:
        """False where there is nothing in it."""
        return bool(self.payments or self.amount)


@dataclass(slots=True)
class Account:
    """The payments of one client in one currency, from all sides."""

    #: Messages that hold such payments: sent by the client, and driven again from the store.
    messages: int = 0
    messages_again: int = 0
    #: In: what these messages say.
    sent: Sum = field(default_factory=Sum)
    again: Sum = field(default_factory=Sum)
    #: State: what the store says of payments whose transaction has ended, and of all others.
    settled: Sum = field(default_factory=Sum)
    rejected: Sum = field(default_factory=Sum)
    cancelled: Sum = field(default_factory=Sum)
    in_flight: Sum = field(default_factory=Sum)
    #: Out: what the answers say.
    told_settled: Sum = field(default_factory=Sum)
    told_rejected: Sum = field(default_factory=Sum)
    #: Those of them whose amount the answer does not repeat, so that the store's was taken.
    unquoted: Sum = field(default_factory=Sum)

    @property
    def difference(self) -> Sum:
        """The widest gap between two sides: in and state, settled and told so, rejected or cancelled and told so."""
        ended = self.rejected + self.cancelled
        gaps = (
            self.sent + self.again - (self.settled + ended + self.in_flight),
            self.settled - self.told_settled,
            ended - self.told_rejected,
        )
        return Sum(max(abs(gap.payments) for gap in gaps), max(gap.amount.copy_abs() for gap in gaps))

    def include(self, other: "Account") -> None:
        """Add another account to this one, for a total."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Tally:
    """The transactions and messages of one client, whatever they hold."""

    transactions: int = 0
    #: Sent by the client, and driven again from the store.
    messages: int = 0
    messages_again: int = 0
    #: Those of them that could not be read.
    unreadable: int = 0
    #: Those of them that could be read and hold no payment: status reports, or invalid ones.
    without_payments: int = 0
    #: Ids that were issued, and for which no message has come.
    without_message: int = 0
    statuses: Counter[Status] = field(default_factory=Counter)
    #: By family: `pacs.002`.
    answers: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Books:
    """What is added up while the transactions are compared; its size goes with clients and currencies."""

    #: By client and currency; None where a payment names no currency.
    accounts: dict[tuple[str, str | None], Account] = field(default_factory=dict)
    #: By client.
    clients: dict[str, Tally] = field(default_factory=dict)
    transactions: int = 0
    differences: int = 0

    def account(self, client: str, currency: str | None) -> Account:
        """The account for a currency as it was written; whatever is none shares one."""
        known = currency if currency is not None and _is_currency(currency) else None
        return self.accounts.setdefault((client, known), Account())

    def totals(self) -> dict[str | None, Account]:
        """By currency, over all clients."""
        totals: dict[str | None, Account] = {}
        for (_, currency), account in self.accounts.items():
            totals.setdefault(currency, Account()).include(account)
        return totals


def _is_currency(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()


def money(amount: Decimal, currency: str | None, *, grouped: bool = False) -> str:
    """An amount with its currency's decimals, or with more where it has more: nothing is ever rounded."""
    exponent = amount.normalize(_EXACT).as_tuple().exponent
    assert isinstance(exponent, int)  # amounts are finite
    decimals = max(_decimals(currency), -exponent)
    return f"{amount:,.{decimals}f}" if grouped else f"{amount:.{decimals}f}"


@lru_cache(maxsize=1024)
def _decimals(currency: str | None) -> int:
    """The minor unit of a currency; 0 where it has none, or is not in use."""
    try:
        return Currency(currency).exponent or 0
    except ValueError:
        return 0


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
    _refuse_archived(store, since, until)
    with closing(_Reader()) as reader:
        for found in _transactions(store, since, until):
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
            shown = f"{gap.payments} payments, {_shown(gap.amount, currency)}"
            yield Difference(f"{client}: its sums differ by {shown}, though no transaction does", client=client)


# -- which transactions there are -------------------------------------------------------------------------------------


#: The store's partitions are whole days, so none of them lies between two moments of this distance.
_DAY = timedelta(days=1)
_MILLISECOND = timedelta(milliseconds=1)


def _refuse_archived(store: Store, since: datetime, until: datetime) -> None:
    last = max(since, until - _MILLISECOND)
    days = (since + day * _DAY for day in range((last - since) // _DAY + 1))
    for moment in (*days, last):
        archive = store.archived(_id_at(moment))
        if archive is not None:
            raise Archived(f"what began at {moment.isoformat()} is in archive {archive}; restore it, then reconcile")


def _id_at(moment: datetime) -> UUID:
    """The smallest id (UUIDv7) of a millisecond."""
    return UUID(int=micros(moment) // 1000 << 80)


class _Spoilt(NamedTuple):
    """A moment at which something began that cannot be read."""

    at: datetime
    why: str


def _transactions(store: Store, since: datetime, until: datetime) -> Iterator[Transaction | _Spoilt]:
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
            except _UNREADABLE as exc:
                if high - low <= _MICROSECOND:
                    yield _Spoilt(low, str(exc))
                else:
                    middle = low + (high - low) // 2
                    spans += [(low, middle, after), (middle, high, after)]
                break
            yield from page.transactions
            after = page.next
            if after is None:
                break


_MICROSECOND = timedelta(microseconds=1)


def _reckoned(store: Store, found: Transaction | _Spoilt, reader: "_Reader", books: Books) -> Iterator[Difference]:
    """Compare one transaction, and enter it in the books."""
    books.transactions += 1
    if isinstance(found, _Spoilt):
        yield Difference(f"what began at {found.at.isoformat()} cannot be read ({found.why}); audit verify names it")
        return
    case = _gathered(store, found, reader)
    id_, client = case.transaction.id, case.transaction.client
    _enter(case, books)
    said = _unlike(store, case)
    yield from (Difference(text, id_, client) for text in islice(said, _SAID_MAX))
    more = sum(1 for _ in said)
    if more:
        yield Difference(f"{more} more differences", id_, client)


# -- one transaction, from all sides ----------------------------------------------------------------------------------


class _Message(NamedTuple):
    """A message received, read again; without an original it could not be read."""

    definition: str | None = None
    original: Original | None = None

    @property
    def payments(self) -> tuple[OriginalPayment, ...]:
        return () if self.original is None else self.original.payments

    @property
    def is_answer(self) -> bool:
        return self.definition is not None and answers.is_answer(self.definition)


class _Case(NamedTuple):
    """One transaction, and what each side says of it."""

    transaction: Transaction
    #: None where they cannot be read.
    events: Sequence[Event] | None
    payments: Sequence[Payment]
    #: The messages as they are; None where there is none.
    inbox: bytes | None
    outbox: bytes | None
    message: _Message
    answer: "_Answer | None"
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


def _gathered(store: Store, transaction: Transaction, reader: "_Reader") -> _Case:
    """All sides at one moment: read again where the transaction has moved on meanwhile."""
    for _ in range(_TRIES):
        case = _read(store, transaction, reader)
        if transaction.standing.is_final:
            break
        try:
            present = store.get(transaction.id)
        except _UNREADABLE:
            break
        if present is None or present.version == transaction.version:
            break
        transaction = present
    return case


def _read(store: Store, transaction: Transaction, reader: "_Reader") -> _Case:
    unread: list[str] = []
    events: Sequence[Event] | None = None
    payments: Sequence[Payment] = ()
    try:
        events = store.history(transaction.id)
    except _UNREADABLE:
        unread.append("its history cannot be read")
    try:
        payments = _sound(store.payments(transaction.id))
    except _UNREADABLE:
        unread.append("its payments cannot be read: a status or an amount is none")
    (inbox, parts), (outbox, _) = (_content(store, transaction.id, kind, unread) for kind in BodyKind)
    # What was beyond the limits then was not read, and must not be read now.
    limited = any(_is_limit(event) for event in events or ())
    message, answer = reader.read(None if limited else inbox, outbox)
    return _Case(transaction, events, payments, inbox, outbox, message, answer, unread, is_long=parts > 0)


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
    except (zstandard.ZstdError, MemoryError, *_UNREADABLE):
        unread.append(f"its {'message' if kind is BodyKind.INBOX else 'answer'} cannot be unpacked")
        return None, 0
    return (None, 0) if body is None else (body.content, body.parts)


_LIMITS = ("xml.size", "xml.nodes", "xml.depth")


def _is_limit(event: Event) -> bool:
    listed = event.detail.get("findings")
    return isinstance(listed, list) and any(isinstance(each, dict) and each.get("rule") in _LIMITS for each in listed)


# -- what bytes say ---------------------------------------------------------------------------------------------------

#: Wider than any that a server can have: what it refused by its own is known from its events.
_WIDEST = Limits(bytes_max=1 << 40, depth_max=256, nodes_max=1 << 40)
#: How much is read in one thread.
_THREAD_BYTES = 16_777_216


class _Reader:
    """Reads messages and answers, in a thread that is renewed every so often.

    libxml2 keeps every name that it meets for as long as the thread that met it lives, and senders may invent names.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._parser: etree.XMLParser | None = None
        self._left = 0

    def read(self, inbox: bytes | None, outbox: bytes | None) -> "tuple[_Message, _Answer | None]":
        """What a message and its answer say."""
        if self._thread is None or self._left <= 0:
            self.close()
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="reading")
            self._parser = self._thread.submit(envelopes.new_parser).result()
            self._left = _THREAD_BYTES
        self._left -= len(inbox or b"") + len(outbox or b"")
        return self._thread.submit(_said, inbox, outbox, self._parser).result()

    def close(self) -> None:
        """End the thread; the names that it has met go with it."""
        self._parser = None
        if self._thread is not None:
            self._thread.shutdown()


def _said(
    inbox: bytes | None, outbox: bytes | None, parser: etree.XMLParser | None
) -> "tuple[_Message, _Answer | None]":
    message = _Message() if inbox is None else _message_of(inbox, parser)
    return message, None if outbox is None else _answer_of(outbox, parser)


def _message_of(content: bytes, parser: etree.XMLParser | None) -> _Message:
    try:
        envelope = envelopes.read(content, _WIDEST, parser=parser)
        if envelope.document is None or envelope.definition is None:
            return _Message(envelope.definition)
        return _Message(envelope.definition, fields.extract(envelope))
    except Exception:  # noqa: BLE001 - as the server: what we fail to look at is told as such
        return _Message()


class _Told(NamedTuple):
    """What an answer says of one payment."""

    status: str | None
    amount: Decimal | None
    currency: str | None
    #: As they are repeated, by their names in the store.
    names: dict[str, str]


class _Answer(NamedTuple):
    """What an answer says."""

    #: `pacs.002`, or whatever else it is.
    family: str
    #: How many answers these bytes hold.
    reports: int = 1
    #: Its own identification; None in an admi.002.
    id: str | None = None
    #: What it answers: MsgId and message definition, in an admi.002 the one reference.
    original_id: str | None = None
    original_definition: str | None = None
    #: Number of payments and control sum of the original, repeated.
    counts: tuple[str | None, str | None] = (None, None)
    status: str | None = None
    payments: tuple[_Told, ...] = ()
    #: Of each PmtInf block: its status, and those of the payments in it.
    blocks: tuple[tuple[str | None, tuple[str | None, ...]], ...] = ()

    @property
    def is_rejection(self) -> bool:
        """True for admi.002, which speaks of the whole alone."""
        return self.family == "admi.002"


_REPORTS = ("pacs.002", "pain.002", "pain.014")
_FAMILIES = (*_REPORTS, "admi.002")


def _answer_of(content: bytes, parser: etree.XMLParser | None) -> _Answer | None:
    """None where there is no answer in these bytes."""
    try:
        root = etree.fromstring(content, parser)
        documents = [element for element in root.iter() if _name(element) == "Document"]
        bodies = [body for document in documents for body in document]
        if not bodies:
            return None
        family = documents[0].tag.rpartition("}")[0].rpartition(":")[2][:8]
        return _report(family, len(bodies), bodies[0])
    except Exception:  # noqa: BLE001 - whatever it is, it is no answer
        return None


def _report(family: str, reports: int, body: Any) -> _Answer:
    if family == "admi.002":
        return _Answer(family, reports, original_id=_text(body, "RltdRef", "Ref"))
    first = _first(body, "OrgnlGrpRefInfAndSts")
    if first is not None:  # the edition of 2005, which nothing later resembles
        return _Answer(
            family=family,
            reports=reports,
            id=_text(body, "GnlInf", "PmtInitnStsId"),
            original_id=_text(first, "GrpId"),
            original_definition=_text(first, "OrgnlMsgTp"),
            status=_text(first, "GrpSts"),
            payments=tuple(_first_told(element) for element in _all(body, "OrgnlPmtInf", "OrgnlTxRefInfAndSts")),
        )
    whole = "OrgnlGrpInfAndSts"
    payments: list[_Told] = []
    blocks = []
    for element in body:
        if _name(element) == "TxInfAndSts":
            payments.append(_told(element))
        elif _name(element) == "OrgnlPmtInfAndSts":
            inside = [_told(payment) for payment in _all(element, "TxInfAndSts")]
            payments += inside
            blocks.append((_text(element, "PmtInfSts"), tuple(told.status for told in inside)))
    return _Answer(
        family=family,
        reports=reports,
        id=_text(body, "GrpHdr", "MsgId"),
        original_id=_text(body, whole, "OrgnlMsgId"),
        original_definition=_text(body, whole, "OrgnlMsgNmId"),
        counts=(_text(body, whole, "OrgnlNbOfTxs"), _text(body, whole, "OrgnlCtrlSum")),
        status=_text(body, whole, "GrpSts"),
        payments=tuple(payments),
        blocks=tuple(blocks),
    )


_NAMES = {
    "OrgnlInstrId": "instruction_id",
    "OrgnlEndToEndId": "end_to_end_id",
    "OrgnlTxId": "transaction_id",
    "OrgnlUETR": "uetr",
}
_FIRST_NAMES = {"InstrId": "instruction_id", "EndToEndId": "end_to_end_id"}


def _told(element: Any) -> _Told:
    """One TxInfAndSts."""
    amount = _first(element, "OrgnlTxRef", "IntrBkSttlmAmt")
    if amount is None:
        amount = _first(element, "OrgnlTxRef", "Amt", "InstdAmt")
    return _Told(
        status=_text(element, "TxSts"),
        amount=None if amount is None else to_decimal(amount.text),
        currency=None if amount is None else amount.get("Ccy"),
        names={_NAMES[name]: child.text or "" for child in element if (name := _name(child)) in _NAMES},
    )


def _first_told(element: Any) -> _Told:
    """One OrgnlTxRefInfAndSts of 2005: no amounts, and an EndToEndId even where there was none."""
    names = {_FIRST_NAMES[name]: text for name in _FIRST_NAMES if (text := _text(element, "PmtId", name))}
    if names.get("end_to_end_id") == "NOTPROVIDED":
        del names["end_to_end_id"]
    return _Told(_text(element, "TxSts"), None, None, names)


def _name(element: Any) -> str:
    """Without the namespace."""
    return str(element.tag).rpartition("}")[2]


def _all(element: Any, *path: str) -> list[Any]:
    """The elements at a path of local names, in the order of the document."""
    found = [element]
    for step in path:
        found = [child for parent in found for child in parent if _name(child) == step]
    return found


def _first(element: Any, *path: str) -> Any:
    return next(iter(_all(element, *path)), None)


def _text(element: Any, *path: str) -> str | None:
    found = _first(element, *path)
    return None if found is None else found.text


# -- adding up --------------------------------------------------------------------------------------------------------


def _enter(case: _Case, books: Books) -> None:
    """Enter a transaction in the books, each side from its own source alone."""
    transaction, client = case.transaction, case.transaction.client
    tally = books.clients.setdefault(client, Tally())
    tally.transactions += 1
    if transaction.standing.status is not None:
        tally.statuses[transaction.standing.status] += 1
    if case.inbox is None:
        tally.without_message += transaction.digest is None
    else:
        _enter_message(case, tally, books)
    for payment in case.kept:
        _side(transaction, payment, books.account(client, payment.currency)).add(payment.amount)
    if case.answer is not None:
        tally.answers[case.answer.family if case.answer.family in _FAMILIES else "other"] += 1
        _enter_answer(case, case.answer, books)


def _enter_message(case: _Case, tally: Tally, books: Books) -> None:
    again = case.transaction.redrive_of is not None
    tally.messages += not again
    tally.messages_again += again
    tally.unreadable += case.message.original is None
    tally.without_payments += case.message.original is not None and not case.message.payments
    accounts: list[Account] = []
    for payment in case.message.payments:
        account = books.account(case.transaction.client, payment.currency)
        (account.again if again else account.sent).add(payment.decimal)
        if not any(account is other for other in accounts):
            accounts.append(account)
    for account in accounts:
        account.messages += not again
        account.messages_again += again


def _side(transaction: Transaction, payment: Payment, account: Account) -> Sum:
    """Where a payment stands; what a transaction that is still open says of its payments can be told to nobody yet."""
    if not transaction.standing.is_final:
        return account.in_flight
    ends = {Status.ACSC: account.settled, Status.RJCT: account.rejected, Status.CANC: account.cancelled}
    return ends.get(payment.status, account.in_flight)


def _enter_answer(case: _Case, answer: _Answer, books: Books) -> None:
    client, kept = case.transaction.client, case.kept
    told = answer.payments
    if answer.is_rejection:
        told = (_Told("RJCT", None, None, {}),) * len(kept)
    for place, one in enumerate(told):
        amount, currency = one.amount, one.currency
        quoted = amount is not None and currency is not None
        if not quoted and len(told) == len(kept):
            amount, currency = kept[place].amount, kept[place].currency
        account = books.account(client, currency)
        if not quoted:
            account.unquoted.add(amount)
        if one.status in _TOLD_ENDS:
            (account.told_settled if one.status == "ACSC" else account.told_rejected).add(amount)


_TOLD_ENDS = ("ACSC", "RJCT")

# -- comparing --------------------------------------------------------------------------------------------------------


def _unlike(store: Store, case: _Case) -> Iterator[str]:
    """A sentence for each difference; those that say most come first."""
    yield from case.unread
    if case.events is not None:
        yield from _unlike_history(case.transaction, case.events)
    yield from _unlike_attempts(store, case.transaction)
    if case.unread or (case.inbox is None and case.transaction.digest is not None):
        if not case.unread:
            yield "a message came for it, and is not in the store"
        return  # all that follows would be said of half a transaction
    yield from _unlike_message(case)
    yield from _unlike_payments(case)
    yield from _unlike_end(case)
    yield from _unlike_answer(case)


def _unlike_history(transaction: Transaction, events: Sequence[Event]) -> Iterator[str]:
    """To whom and to which day it belongs, and where it stands: of this the messages say nothing."""
    if not events:
        yield "history does not know it"
        return
    first, last, standing = events[0], events[-1], transaction.standing
    if first.actor != transaction.client:
        yield f"it is kept as {transaction.client}'s, and {first.actor} sent it"
    if first.at != transaction.created_at:
        yield f"it is kept as begun at {transaction.created_at.isoformat()}, and began at {first.at.isoformat()}"
    if last.standing != standing:
        yield f"it is kept as {_standing(standing.status, standing.end)}, and its history ends with " + _standing(
            last.standing.status, last.standing.end
        )
    ends = sum(event.kind is EventKind.ENDED for event in events)
    if ends > 1:
        yield f"it has ended {ends} times"


def _standing(status: Status | None, end: Status | None) -> str:
    return f"{status}" if end in (None, status) else f"{status} (end: {end})"


def _unlike_message(case: _Case) -> Iterator[str]:
    transaction, inbox = case.transaction, case.inbox
    if inbox is None:
        if transaction.standing.status not in (Status.ACCP, Status.RJCT, Status.CANC):
            yield f"it is {transaction.standing.status}, and no message came for it"
        return
    if sha256(inbox).digest() != transaction.digest:
        yield "its message is not the one that was received"
    if case.message.original is None and transaction.standing.status in (Status.ACSC, Status.ACSP):
        yield f"it is {transaction.standing.status}, and its message cannot be read"


def _unlike_attempts(store: Store, transaction: Transaction) -> Iterator[str]:
    """A payment that is driven again must be the same, and must not have been settled before."""
    if transaction.redriven_as is not None and transaction.standing.end is Status.ACSC:
        yield f"it is ACSC, and was driven again as {transaction.redriven_as}"
    if transaction.redrive_of is None:
        return
    try:
        former = store.get(transaction.redrive_of)
    except _UNREADABLE:
        return  # told of where that one is looked at
    if former is not None and former.standing.end is Status.ACSC:
        yield f"it drives {former.id} again, which is ACSC"
    if former is not None and former.digest != transaction.digest:
        yield f"it drives {former.id} again, with another message"


def _unlike_payments(case: _Case) -> Iterator[str]:
    """The store's payments against those of the message."""
    due = {payment.ordinal: payment for payment in case.message.payments}
    kept = {payment.ordinal: payment for payment in case.kept}
    if len(case.payments) != case.transaction.payments:
        yield f"it is said to hold {case.transaction.payments} payments, the store has {len(case.payments)} of it"
    if due and not kept:
        if case.is_refused_as_one and not case.transaction.payments:
            return
        yield f"its message holds {len(due)} payments, and none is in the store"
        return
    for ordinal, payment in due.items():
        if ordinal not in kept:
            shown = _shown(payment.decimal, payment.currency)
            yield f"payment {ordinal} of its message, {shown}, is not in the store"
        else:
            yield from _unlike_payment(payment, kept[ordinal])
    for ordinal in kept.keys() - due.keys():
        shown = _shown(kept[ordinal].amount, kept[ordinal].currency)
        yield f"payment {ordinal} in the store, {shown}, is not in its message"


_IDS = tuple(_NAMES.values())


def _unlike_payment(due: OriginalPayment, kept: Payment) -> Iterator[str]:
    if (due.decimal, due.currency) != (kept.amount, kept.currency):
        sent, stored = _shown(due.decimal, due.currency), _shown(kept.amount, kept.currency)
        yield f"payment {due.ordinal} is {sent} in its message, {stored} in the store"
    differing = [name for name in _IDS if getattr(due, name) != getattr(kept, name)]
    if differing:  # their values are not shown: they may be personal data
        yield f"payment {due.ordinal} has another {' and '.join(differing)} in its message than in the store"


def _shown(amount: Decimal | None, currency: str | None) -> str:
    known = currency if currency is not None and _is_currency(currency) else None
    number = "no readable amount" if amount is None else money(amount, known)
    return f"{number} {known or '(no currency)'}"


def _unlike_end(case: _Case) -> Iterator[str]:
    """How its payments ended, against how it ended itself, and against the sums that its message declares."""
    standing = case.transaction.standing
    status, end = standing.status, standing.end if standing.is_final else None
    if status is None or standing.is_final != status.is_final or end not in (None, status):
        yield f"it is shown as {status}, and " + ("has not ended" if end is None else f"ended as {end}")
    for payment in case.kept:
        if end is None and payment.status in (Status.ACSC, Status.CANC):
            yield f"payment {payment.ordinal} is {payment.status}, and the transaction has not ended"
        elif end is not None and payment.status not in (end, Status.RJCT):
            yield f"payment {payment.ordinal} is {payment.status}, and the transaction is {end}"
    settled = [payment for payment in case.kept if payment.status is Status.ACSC]
    if end is Status.ACSC and case.kept and not settled:
        yield "it is ACSC, and none of its payments is"
    if end is Status.ACSC and settled and case.message.original is not None:
        yield from _unlike_sums(case.message.original, {payment.ordinal for payment in settled})


def _unlike_sums(original: Original, settled: set[int]) -> Iterator[str]:
    """Numbers and sums that a message declares of itself, where they should have kept it from being settled."""
    payments = original.payments
    if not _is_count(original.number_of_transactions, payments):
        yield f"it was settled, and its message declares another number of payments than its {len(payments)}"
    if not _is_sum(original.control_sum, payments) or not _is_sum(original.total_amount, payments):
        yield "it was settled, and its message declares another sum than that of its payments"
    for place, group in enumerate(original.groups, 1):
        inside = [payment for payment in payments if payment.group == place - 1]
        if not any(payment.ordinal in settled for payment in inside):
            continue
        if not _is_count(group.number_of_transactions, inside) or not _is_sum(group.control_sum, inside):
            yield f"it was settled, and block {place} of its message declares another number or sum than it holds"


def _is_count(declared: str | None, payments: Sequence[OriginalPayment]) -> bool:
    return declared is None or to_decimal(declared) == len(payments)


def _is_sum(declared: str | None, payments: Iterable[OriginalPayment]) -> bool:
    """Whether they come to it; an equivalent, or an amount that cannot be read, leaves nothing to compare."""
    total = Sum()
    for payment in payments:
        if payment.decimal is None or payment.amount_is_equivalent:
            return True
        total.add(payment.decimal)
    return declared is None or to_decimal(declared) == total.amount


# -- comparing the answer ---------------------------------------------------------------------------------------------


def _unlike_answer(case: _Case) -> Iterator[str]:
    status, final = case.transaction.standing.status, case.transaction.standing.is_final
    answer, message = case.answer, case.message
    if case.outbox is None:
        if final and not message.is_answer:
            yield f"it is {status}, and has no answer"
        return
    if not final:
        yield f"it is {status}, and was answered already"
    if message.is_answer and not case.faulted:  # after a fault it may not have been known for what it is
        yield "its message is an answer itself, and was answered"
    if answer is None or answer.family not in _FAMILIES:
        yield "its answer cannot be read, or is none"
        return
    if answer.reports != 1:
        yield f"it has {answer.reports} answers in one"
    yield from _unlike_reference(case, answer)
    if not final:
        return
    if answer.is_rejection:
        if case.transaction.standing.end is Status.ACSC:
            yield "it is ACSC, and its answer is a rejection of the whole (admi.002)"
        return
    yield from _unlike_told(case, answer)
    yield from _unlike_group(case, answer)


def _unlike_reference(case: _Case, answer: _Answer) -> Iterator[str]:
    """Whose answer it is, and which message it names."""
    original, own = case.message.original, case.transaction.id.hex
    if answer.is_rejection:
        header = None if original is None else original.header
        names = (own, original and original.message_id, header and header.business_message_id)
        if answer.original_id not in names:
            yield "its answer (admi.002) refers to another message"
        return
    if answer.id != own:
        yield f"its answer is not its own: it is {_id_shown(answer.id)}"
    if original is None:
        yield "its message cannot be read, and its answer repeats it"
        return
    if (answer.original_id, answer.original_definition) != (original.message_id, original.definition):
        yield "its answer is to another message"
    due = (original.number_of_transactions, original.control_sum)
    if any(told not in (None, said) for told, said in zip(answer.counts, due, strict=True)):
        yield "its answer repeats another number or control sum than its message declares"


def _id_shown(text: str | None) -> str:
    """The transaction that an answer names itself by."""
    try:
        return f"the answer of {UUID(hex=text or '')}"
    except ValueError:
        return "named by no transaction"


def _unlike_told(case: _Case, answer: _Answer) -> Iterator[str]:
    """What it says of each payment, against the store's status and the message's identifications and amounts."""
    kept, sent = case.kept, case.message.payments
    if case.is_refused_as_one and not answer.payments:
        return
    if len(answer.payments) != len(sent):
        yield f"its answer speaks of {len(answer.payments)} payments, its message holds {len(sent)}"
        return
    stands = {payment.ordinal: payment.status for payment in kept}
    for told, due in zip(answer.payments, sent, strict=True):
        status = stands.get(due.ordinal)
        if status is not None and told.status != _said_as(status):
            yield f"payment {due.ordinal} is {status}, and its answer says {_code(told.status)}"
        if told.amount is not None and (told.amount, told.currency) != (due.decimal, due.currency):
            repeated, shown = _shown(told.amount, told.currency), _shown(due.decimal, due.currency)
            yield f"payment {due.ordinal} is {shown} in its message, {repeated} in its answer"
        differing = [name for name, text in told.names.items() if text != getattr(due, name)]
        if differing:
            yield f"payment {due.ordinal} has another {' and '.join(differing)} in its message than in its answer"


def _said_as(status: Status) -> str:
    """How an answer says it."""
    return "RJCT" if status is Status.CANC else status.value


def _code(status: str | None) -> str:
    return status if status is not None and len(status) == 4 and status.isascii() and status.isalpha() else "nothing"


def _unlike_group(case: _Case, answer: _Answer) -> Iterator[str]:
    """The status of the whole and of each block, against those of the payments in it."""
    end = case.transaction.standing.end
    due = _together([told.status for told in answer.payments]) if answer.payments else end and _said_as(end)
    if answer.status != due:
        yield f"its answer says {_code(answer.status)} of the whole, and it is {_code(due)}"
    for place, (status, inside) in enumerate(answer.blocks, 1):
        if inside and status != _together(inside):
            yield f"its answer says {_code(status)} of block {place}, and {_code(_together(inside))} of what is in it"


def _together(statuses: Sequence[str | None]) -> str | None:
    return statuses[0] if len(set(statuses)) == 1 else "PART"
