"""Matching: which original a request about other messages means, among those that the ledger has.

An id that both sides have must be the same, and so must the amount where the request gives one: a reference that fits
only in part means nothing here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from interlock.iso20022 import answers
from interlock.iso20022.codes import HeldCause, Status
from interlock.iso20022.original import Level, Original, OriginalPayment, Reference, to_decimal
from interlock.iso20022.profiles.facts import Recall
from interlock.iso20022.rules.dates import day_of
from interlock.transaction import KeyKind, Payment, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the ledger has under a reference: a transaction of the same client, and its payments."""

    transaction: Transaction
    #: All of them; of a message of very many that has ended, those that the request names, and one of each status.
    payments: tuple[Payment, ...]
    is_partial: bool = False
    #: Ordinals of payments whose own end is intended and no fact yet; looked up only where nobody is waited for.
    intended: frozenset[int] = frozenset()
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
    #: Its time is over: it is told how everything stands, and cancels nothing any more.
    late: bool = False
    #: Ordinals of references under which there is more than was looked at.
    cut: frozenset[int] = frozenset()
    #: Returns of what is settled among the entries, as far as they are under other names than the reference's.
    returns: Sequence[Entry] = ()
    #: Of a status request: by id of a request to cancel that it chases, what was looked up for that one.
    chased: Mapping[UUID, "Facts"] = field(default_factory=dict)


def asks(transaction: Transaction) -> bool:
    """Whether it is a request about others: what that is answered is what was found, and no clock rejects it."""
    return answers.enquiry_definition(transaction.definition or "") is not None


def keys(reference: Reference) -> tuple[tuple[KeyKind, str], ...]:
    """Names under which the original may be found, the most telling first: to be asked for until one finds something.

    A message or block is found by its MsgId alone. Values are without qualifiers, as for any search by name.
    """
    if is_chase(reference):  # what it says of payments is said of those of the request
        return ((KeyKind.MESSAGE, reference.message_id),) if reference.message_id else ()
    own = _of_payment(reference) if reference.level is Level.PAYMENT else {}
    found = {**own, KeyKind.MESSAGE: reference.message_id}
    return _telling(found)


#: From the most telling name to the least.
_TELLING: Final = (KeyKind.UETR, KeyKind.TRANSACTION, KeyKind.MESSAGE, KeyKind.END_TO_END)


def keys_of(payment: Payment) -> tuple[tuple[KeyKind, str], ...]:
    """Names under which others that mention a payment may be found, likewise."""
    return _telling(_of_payment(payment))


def _telling(found: Mapping[KeyKind, str | None]) -> tuple[tuple[KeyKind, str], ...]:
    values = ((kind, found.get(kind)) for kind in _TELLING)
    return tuple((kind, value) for kind, value in values if value)


def _of_payment(one: Reference | Payment) -> dict[KeyKind, str | None]:
    uetr, transaction_id, _, end_to_end_id = _ids(one)
    return {KeyKind.UETR: uetr, KeyKind.TRANSACTION: transaction_id, KeyKind.END_TO_END: end_to_end_id}


def is_return(transaction: Transaction) -> bool:
    """Whether it brings back what was settled."""
    return (transaction.definition or "").startswith("pacs.004")


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
        if not keys(reference):
            return Match(None, condition="unnamed")
        entries = [
            entry for entry in _newest(self._meant_when_asked(reference)) if _is_of(reference, entry.transaction)
        ]
        found = [(entry, self._meant(reference, entry)) for entry in entries]
        fitting = [Match(entry, payments) for entry, payments in found if payments is not None]
        if len(fitting) > 1:
            # Of a payment that was rejected and sent again, the one that lives or was settled is meant.
            fitting = [one for one in fitting if not _is_dead(one)] or fitting[:1]
        if len(fitting) > 1 and not _definition(reference):
            # A return carries the names of what it returns, which is what is meant.
            fitting = [one for one in fitting if not _is_undoing(one.entry)] or fitting
        if reference.ordinal in self._facts.cut:
            return Match(None, condition="ambiguous")
        if not fitting:
            return Match(None, condition=self._why_not(reference, entries))
        if len(fitting) > 1 or (reference.level is Level.PAYMENT and len(fitting[0].payments) > 1):
            return Match(None, condition="ambiguous")
        if reference.level is not Level.PAYMENT and not _is_counted_alike(reference, fitting[0]):
            return Match(None, condition="counts")
        return fitting[0]

    def _why_not(self, reference: Reference, entries: Iterable[Entry]) -> str:
        """Why nothing of what was looked up is meant; it may still be that it cannot be told."""
        if any(entry.transaction.standing.cause is HeldCause.FAULT and not entry.payments for entry in entries):
            return "fault"
        if any(_lacks_blocks(reference, entry) for entry in entries):
            return "blocks"
        return "unknown" if self._facts.complete else "uncertain"

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
            for entry in {
                entry.transaction.id: entry
                for entry in (*self._facts.entries.get(reference.ordinal, ()), *self._facts.returns)
            }.values()
            if is_return(entry.transaction)
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
            is_one = reference.level is Level.PAYMENT and entry.transaction.standing.cause is HeldCause.FAULT
            return () if reference.message_id and not is_one else None
        if reference.level is not Level.PAYMENT:
            if not reference.message_id:
                return None
            return entry.payments if reference.level is Level.MESSAGE else _of_block(reference, entry)
        named_by = ids(reference)
        named: tuple[Payment, ...]
        if not named_by and reference.message_id:
            # Nothing was said to tell it by: that is enough where the message has one payment.
            named = entry.payments[:_AMBIGUOUS]
            if len(named) > 1:
                return named
        else:
            known = self._by_name(entry)
            found = {payment.ordinal: payment for name in named_by for payment in known.get(name, ())}
            named = tuple(payment for payment in found.values() if is_named_alike(reference, payment))
        if reference.payment_information_id and named:
            if _lacks_blocks(reference, entry):
                return None
            inside = _in_block(reference, entry)
            named = tuple(payment for payment in named if inside is None or payment.ordinal in inside)
        return (
            tuple(
                payment
                for payment in named
                if _is_same_amount(reference, payment) and _is_same_day(reference, payment, entry.original)
            )
            or None
        )

    def _by_name(self, entry: Entry) -> dict[str, list[Payment]]:
        known = self._named.get(entry.transaction.id)
        if known is None:
            known = self._named[entry.transaction.id] = {}
            for payment in entry.payments:
                for name in set(ids(payment)):
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
    if _definition(reference) not in ("", definition[:8]):
        return False
    return not reference.message_id or reference.message_id == transaction.message_id


def _definition(reference: Reference) -> str:
    """The family that the original is of; empty for what is no name of ISO 20022, such as MT103 or NOTPROVIDED."""
    asked = (reference.definition or "").strip().lower()
    return asked[:8] if _DEFINITION.match(asked) else ""


_DEFINITION: Final = re.compile(r"[a-z]{4}\.\d{3}")


def needs_blocks(reference: Reference) -> bool:
    """Whether only the message itself can say what is meant: the ledger does not keep which block a payment is in."""
    return bool(reference.payment_information_id)


def _lacks_blocks(reference: Reference, entry: Entry) -> bool:
    """A UETR is one payment's, whatever its block."""
    return needs_blocks(reference) and entry.original is None and not reference.uetr


def _in_block(reference: Reference, entry: Entry) -> set[int] | None:
    """Ordinals of the payments in the block that the reference names; None where the message has no blocks."""
    original = entry.original
    if original is None or not original.groups:
        return None
    return {
        payment.ordinal
        for payment in original.payments
        if payment.group is not None
        and original.groups[payment.group].payment_information_id == reference.payment_information_id
    }


def _of_block(reference: Reference, entry: Entry) -> tuple[Payment, ...] | None:
    inside = _in_block(reference, entry) or ()
    return tuple(payment for payment in entry.payments if payment.ordinal in inside) or None


def _ids(one: Reference | Payment) -> tuple[str | None, str | None, str | None, str | None]:
    end_to_end_id = one.end_to_end_id if _is_given(one.end_to_end_id) else None
    return one.uetr.lower() if one.uetr else None, one.transaction_id, one.instruction_id, end_to_end_id


def ids(one: Reference | Payment) -> tuple[str, ...]:
    """All that it names a payment by."""
    return tuple(name for name in _ids(one) if name)


def is_named_alike(one: Reference | Payment, other: Reference | Payment) -> bool:
    """At least one id is the same, and none that both have differs."""
    said = [(asked, known) for asked, known in zip(_ids(one), _ids(other), strict=True) if asked and known]
    return bool(said) and all(asked == known for asked, known in said)


def _is_counted_alike(reference: Reference, match: Match) -> bool:
    """Whether a message or block is as large as whoever asks believes, where it is all there to be counted."""
    if match.entry is None or match.entry.is_partial or not match.payments:
        return True
    number, total = to_decimal(reference.number_of_transactions), to_decimal(reference.control_sum)
    if _is_unreadable(reference.number_of_transactions) or _is_unreadable(reference.control_sum):
        return False
    amounts = [payment.amount for payment in match.payments]
    is_sum = total is None or None in amounts or total == sum(amount for amount in amounts if amount is not None)
    return number in (None, len(amounts)) and is_sum


def _is_unreadable(number: str | None) -> bool:
    """Whether there is a number that is none we can read: what cannot be compared is not the same."""
    return number is not None and to_decimal(number) is None


#: So many payments are not told apart as well as all.
_AMBIGUOUS: Final = 2


def _is_same_day(reference: Reference, payment: Payment, original: Original | None) -> bool:
    """By the settlement date, where both say one."""
    asked = day_of(reference.settlement_date)
    if asked is None or original is None or payment.ordinal > len(original.payments):
        return True
    return day_of(original.payments[payment.ordinal - 1].settlement_date) in (None, asked)


def _is_same_amount(reference: Reference, payment: Payment) -> bool:
    amount = to_decimal(reference.amount)
    if _is_unreadable(reference.amount):
        return False
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
