"""What a rule is, and the kinds of check that can stand behind one. Pure.

A check is a function of what it looks at and of the day, and gives the places at fault: none for what is good, which
is what nearly all messages are. So checks are written to be quick at nothing; verdicts on values that repeat (accounts,
institutions, dates) are remembered, in bounded number.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple, TypeAlias

from lxml import etree

from interlock.iso20022.findings import Severity
from interlock.iso20022.original import Original, OriginalPayment


class Place(NamedTuple):
    """Where a message breaks a rule."""

    xpath: str
    line: int | None
    #: Ordinal of the payment concerned; None for the whole message.
    payment: int | None = None


#: Gives the element at fault, as a path from the payment, or None; knows the day, for dates.
PaymentCheck: TypeAlias = Callable[[OriginalPayment, date], str | None]
#: Gives every place at fault.
MessageCheck: TypeAlias = Callable[[Original, date], Iterable[Place]]
#: Gives the path at fault from the element ("" is the element itself), or None.
ElementCheck: TypeAlias = Callable[[etree._Element, date], str | None]  # noqa: SLF001 - lxml names its type so
#: Gives the path at fault from an element with children of these local names, in their order, or None.
ShapeCheck: TypeAlias = Callable[[tuple[str, ...]], str | None]
#: Gives every element at fault in a document.
DocumentCheck: TypeAlias = Callable[[etree._Element, date], Iterable[etree._Element]]  # noqa: SLF001 - likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that is demanded of messages."""

    #: Stable id, dotted; clients may rely on it.
    id: str
    severity: Severity
    #: ISO ExternalStatusReason1Code of a rejection for it.
    reason: str
    #: What is expected and what to do; never a value from the message.
    text: str
    #: Who says so.
    source: str
    #: True where every message is held to it; otherwise only where a profile turns it on.
    is_default: bool = True
    valid_from: date | None = None
    valid_until: date | None = None
    #: Beginnings of the definitions that it holds for, such as `pacs.008`; empty for all.
    families: tuple[str, ...] = ()
    #: Beginnings of the definitions that are exempt.
    exempt: tuple[str, ...] = ()
    #: Local names of the elements that an element or shape check looks at, wherever in the document they stand.
    elements: tuple[str, ...] = ()
    #: The wider rule that this one stands in for: a fault that this one names, that one does not name again.
    instead_of: str | None = None
    payment_check: PaymentCheck | None = None
    message_check: MessageCheck | None = None
    element_check: ElementCheck | None = None
    shape_check: ShapeCheck | None = None
    document_check: DocumentCheck | None = None
    #: Looks at the header's element.
    header_check: ElementCheck | None = None

    @property
    def looks_at(self) -> str:
        """What its check looks at, for people."""
        if self.payment_check is not None:
            return "payment"
        if self.message_check is not None:
            return "message"
        if self.header_check is not None:
            return "header"
        return ", ".join(self.elements) or "document"

    def is_valid_on(self, day: date) -> bool:
        """Whether the rule holds on a day; both bounds belong to it."""
        return (self.valid_from or day) <= day <= (self.valid_until or day)

    def is_for(self, definition: str) -> bool:
        """Whether the rule is about messages of this definition."""
        wanted = not self.families or definition.startswith(self.families)
        return wanted and not (self.exempt and definition.startswith(self.exempt))


SETTLEMENT_DATE: Final = "IntrBkSttlmDt"


def at_settlement_date(original: Original, payment: OriginalPayment) -> Place:
    """Where the settlement date of a payment stands: the group header may say one for all."""
    if original.settlement_date is not None and payment.settlement_date == original.settlement_date:
        return in_group_header(original, SETTLEMENT_DATE)._replace(payment=payment.ordinal)
    return Place(f"{payment.xpath}/{SETTLEMENT_DATE}", payment.line, payment.ordinal)


def in_group_header(original: Original, path: str) -> Place:
    """A place in the group header."""
    return Place(f"{original.xpath}/GrpHdr/{path}", original.line)
