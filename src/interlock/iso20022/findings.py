"""What is wrong with a message, said so that its sender can mend it.

Schemas, envelopes and rules all make findings; none of them owns the word.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How much a finding weighs."""

    #: The message, or the payment named, is refused.
    ERROR = "error"
    #: The message goes on; the finding is recorded and told.
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule that a message breaks.

    `text` says what is expected and what to do; it never repeats a value from the message, which may be personal data.
    """

    severity: Severity
    #: Stable id, dotted: `xml.doctype`, `schema.pattern`, `iban.checksum`.
    rule: str
    #: ISO ExternalStatusReason1Code that a rejection for this carries.
    reason: str
    #: Where, from the root of the bytes received: `/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[2]/CdtrAcct/Id/IBAN`.
    xpath: str
    #: Line in the bytes received, from 1; None where libxml2 tells none.
    line: int | None
    text: str
    #: Ordinal of the payment that it concerns, from 1; None where it concerns the whole message.
    payment: int | None = None


#: Characters of an element's name in a finding; ISO's longest name has some forty.
_NAME_MAX: Final = 100


def short(name: str) -> str:
    """The name, or its start: a sender may give a wrapper names of 50,000 letters, repeated in each finding."""
    return name if len(name) <= _NAME_MAX else f"{name[:_NAME_MAX]}..."
