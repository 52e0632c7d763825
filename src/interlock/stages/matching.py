"""Matching: which original a request about other messages means, among those that the ledger has.

An id that both sides have must be the same, and so must the amount where the request gives one: a reference that fits
only in part means nothing here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from interlock.iso20022 import answers
from interlock.iso20022.codes import Status
from interlock.iso20022.original import Level, Original, OriginalPayment, Reference, to_decimal
from interlock.iso20022.profiles.facts import Recall
from interlock.transaction import KeyKind, Payment, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the ledger has under a reference: a transaction of the same client, and its payments."""

    transaction: Transaction
    payments: tuple[Payment, ...]
    #: Within what time it can be asked back, by its profile; none: whenever.
    recalls: tuple[Recall, ...] = ()
    #: Read again from the message received, where it is to be had: without it a PmtInf cannot be told from another, and
    #: an answer cannot repeat agents and dates.
    original: Original | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that was looked up for one request."""

    #: By ordinal of the reference; none, or no entries: nothing is known under it.
    entries: Mapping[int, Sequence[Entry]] = field(default_factory=dict)
    #: False where a region that may know more could not be asked: what is not found is then not unknown.
    complete: bool = True
    #: A recall of what was settled is offered, not refused.
    offer_return: bool = True
    #: By ordinal, when it was asked for the first time: a repetition means what was meant then, and is as timely.
    asked: Mapping[int, datetime] = field(default_factory=dict)
    #: The identification of the request is that of another before it, about other originals.
    reused: bool = False
    #: Of a status request: by id of a request to cancel that it chases, what was looked up for that one.
    chased: Mapping[UUID, "Facts"] = field(default_factory=dict)


def keys(reference: Reference) -> tuple[tuple[KeyKind, str], ...]:
    """Names under which the original may be found, the most telling first: to be asked for until one finds something.

    A message or block is found by its MsgId alone. Values are without qualifiers, as for any search by name.
    """
    found: list[tuple[KeyKind, str]] = []
    if is_chase(reference):  # what it says of payments is said of those of the request
        return ((KeyKind.MESSAGE, reference.message_id),) if reference.message_id else ()
    if reference.level is Level.PAYMENT:
        if reference.uetr:
            found.append((KeyKind.UETR, reference.uetr.lower()))
        if reference.transaction_id:
            found.append((KeyKind.TRANSACTION, reference.transaction_id))
    if reference.message_id:
        found.append((KeyKind.MESSAGE, reference.message_id))
    if reference.level is Level.PAYMENT and _is_given(reference.end_to_end_id):
        found.append((KeyKind.END_TO_END, reference.end_to_end_id or ""))
    return tuple(found)


def is_chase(reference: Reference) -> bool:
    """Whether it means a request to cancel: also where only the family is named, as some schemes want it."""
    return (reference.definition or "").startswith(("camt.055", "camt.056"))


def _is_given(end_to_end_id: str | None) -> bool:
    return bool(end_to_end_id) and end_to_end_id != "NOTPROVIDED"


@dataclass(frozen=True, slots=True)
class Match:
    """The one original that a reference means, and which of its payments; or why there is none."""

    entry: Entry | None
    payments: tuple[Payment, ...] = ()
    condition: str = ""


class Matcher:
    """Finds what references mean; a large message is gone through once, however many references name it."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._named: dict[UUID, dict[str, list[Payment]]] = {}
        self._live: dict[UUID, frozenset[int]] = {}

    def match(self, reference: Reference) -> Match:
        """The one original that a reference means, or why there is none."""
        fitting = [
            Match(entry, payments)
            for entry in _newest(self._meant_when_asked(reference))
            if _is_of(reference, entry.transaction) and (payments := self._meant(reference, entry)) is not None
        ]
        if len(fitting) > 1:
            # Of a payment that was rejected and sent again, the one that lives or was settled is meant.
            fitting = [one for one in fitting if not _is_dead(one)] or fitting[:1]
        if len(fitting) > 1 and not reference.definition:
            # A return carries the names of what it returns, which is what is meant.
            fitting = [one for one in fitting if not _is_undoing(one.entry)] or fitting
        if not fitting:
            return Match(None, condition="unknown" if self._facts.complete else "uncertain")
        is_many = len(fitting) > 1 or (reference.level is Level.PAYMENT and len(fitting[0].payments) > 1)
        return Match(None, condition="ambiguous") if is_many else fitting[0]

    def live(self, entry: Entry) -> frozenset[int]:
        """Ordinals of the payments that have no end yet."""
        if entry.transaction.id not in self._live:
            open_ones = frozenset(payment.ordinal for payment in entry.payments if not payment.status.is_final)
            self._live[entry.transaction.id] = open_ones
        return self._live[entry.transaction.id]

    def is_returned(self, reference: Reference, payments: Sequence[Payment]) -> bool:
        """Whether all of it has come back already, by returns that were settled."""
        returns = [
            one
            for entry in self._facts.entries.get(reference.ordinal, ())
            if (entry.transaction.definition or "").startswith("pacs.004")
            for one in entry.payments
            if one.status is Status.ACSC and one.amount is not None
        ]
        return bool(payments) and all(_sum_of(returns, payment) >= (payment.amount or 1) for payment in payments)

    def _meant_when_asked(self, reference: Reference) -> Sequence[Entry]:
        """What there was when it was asked for first: not a later attempt at what was cancelled then."""
        entries = self._facts.entries.get(reference.ordinal, ())
        asked = self._facts.asked.get(reference.ordinal)
        if asked is None:
            return entries
        return [entry for entry in entries if entry.transaction.created_at <= asked] or entries

    def _meant(self, reference: Reference, entry: Entry) -> tuple[Payment, ...] | None:
        """The payments of the entry that the reference means; None where it means none of it."""
        if not entry.payments:
            return () if reference.message_id else None
        if reference.level is not Level.PAYMENT:
            if not reference.message_id:
                return None
            return entry.payments if reference.level is Level.MESSAGE else _of_block(reference, entry)
        given = names(reference)
        named: tuple[Payment, ...]
        if not given and len(entry.payments) == 1 and reference.message_id:
            named = entry.payments  # the message has one payment, and nothing was said to tell it by
        else:
            known = self._by_name(entry)
            found = {payment.ordinal: payment for name in given for payment in known.get(name, ())}
            named = tuple(payment for payment in found.values() if is_named_alike(reference, payment))
        return tuple(payment for payment in named if _is_same_amount(reference, payment)) or None

    def _by_name(self, entry: Entry) -> dict[str, list[Payment]]:
        known = self._named.get(entry.transaction.id)
        if known is None:
            known = self._named[entry.transaction.id] = {}
            for payment in entry.payments:
                for name in {name for name in _ids(payment) if name}:
                    known.setdefault(name, []).append(payment)
        return known


def _newest(entries: Sequence[Entry]) -> list[Entry]:
    """Each transaction once, newest first; an attempt that was driven again gives way to the newer one."""
    known = {entry.transaction.id: entry for entry in entries}
    alive = (entry for entry in known.values() if entry.transaction.redriven_as not in known)
    return sorted(alive, key=lambda entry: (entry.transaction.created_at, entry.transaction.id), reverse=True)


def _is_dead(match: Match) -> bool:
    return all(payment.status in (Status.RJCT, Status.CANC) for payment in match.payments)


def _is_undoing(entry: Entry | None) -> bool:
    return entry is not None and (entry.transaction.definition or "").startswith(("pacs.004", "pacs.007"))


def _sum_of(returns: Sequence[Payment], payment: Payment) -> Decimal:
    """What came back of a payment, by its names and in its currency."""
    mine = (one for one in returns if one.currency == payment.currency and is_named_alike(one, payment))
    return sum((one.amount or Decimal(0) for one in mine), Decimal(0))


def _is_of(reference: Reference, transaction: Transaction) -> bool:
    """Whether the message is one that the reference may mean, by definition and MsgId."""
    definition = transaction.definition
    if definition is None or answers.is_answer(definition):
        return False
    if reference.definition and reference.definition[:8] != definition[:8]:
        return False
    return not reference.message_id or reference.message_id == transaction.message_id


def _of_block(reference: Reference, entry: Entry) -> tuple[Payment, ...] | None:
    original = entry.original
    if original is None:
        return None
    inside = {
        payment.ordinal
        for payment in original.payments
        if payment.group is not None
        and original.groups[payment.group].payment_information_id == reference.payment_information_id
    }
    return tuple(payment for payment in entry.payments if payment.ordinal in inside) or None


def _ids(one: Reference | Payment) -> tuple[str | None, str | None, str | None, str | None]:
    end_to_end_id = one.end_to_end_id if _is_given(one.end_to_end_id) else None
    return one.uetr.lower() if one.uetr else None, one.transaction_id, one.instruction_id, end_to_end_id


def names(reference: Reference) -> tuple[str, ...]:
    """The ids that it gives of a payment."""
    return tuple(name for name in _ids(reference) if name)


def is_named_alike(one: Reference | Payment, other: Reference | Payment) -> bool:
    """At least one id is the same, and none that both have differs."""
    said = [(asked, known) for asked, known in zip(_ids(one), _ids(other), strict=True) if asked and known]
    return bool(said) and all(asked == known for asked, known in said)


def _is_same_amount(reference: Reference, payment: Payment) -> bool:
    amount = to_decimal(reference.amount)
    if amount is None or payment.amount is None:
        return True
    return amount == payment.amount and (reference.currency in (None, payment.currency))


def known_as(entry: Entry, payment: Payment) -> OriginalPayment | None:
    """The payment as its message has it, where that is to be had; else as the ledger has it."""
    if entry.original is not None:
        payments = entry.original.payments
        return payments[payment.ordinal - 1] if payment.ordinal <= len(payments) else None
    is_interbank = (entry.transaction.definition or "").startswith("pacs")
    return OriginalPayment(
        ordinal=payment.ordinal,
        group=None,
        xpath="",
        line=None,
        instruction_id=payment.instruction_id,
        end_to_end_id=payment.end_to_end_id,
        transaction_id=payment.transaction_id,
        uetr=payment.uetr,
        # A customer's amount is no interbank amount: it is not said rather than said as another.
        amount=format(payment.amount, "f") if payment.amount is not None and is_interbank else None,
        currency=payment.currency,
        settlement_date=None,
        debtor_agent=None,
        creditor_agent=None,
        debtor_iban=None,
        creditor_iban=None,
    )
