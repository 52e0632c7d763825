"""What answers say, before it is written: verdicts on payments, and the answer as bytes. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from interlock.iso20022.codes import Status
from interlock.iso20022.original import OriginalPayment, Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentVerdict:
    """What an answer says of one payment."""

    status: Status
    #: ISO code, for RJCT and CANC.
    reason: str | None = None
    #: In our own words, without personal data.
    narrative: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an answer says of a message."""

    #: ACSC, RJCT or CANC; a CANC is written RJCT, since ISO's CANC is for API contexts only.
    status: Status
    #: ISO code, for RJCT and CANC.
    reason: str | None = None
    #: In our own words, without personal data; split into pieces of 105 characters.
    narrative: str | None = None
    #: By ordinal, where they differ from the whole.
    payments: Mapping[int, PaymentVerdict] = field(default_factory=dict)
    #: Of a request to cancel that ended before it was answered: some of what it asks for may have been done.
    is_partly_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A message ready to be stored and delivered."""

    #: For instance `pacs.002.001.10`.
    definition: str
    #: UTF-8 with XML declaration; the same for the same arguments, byte for byte.
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a status report says of one reference of a status request."""

    reference: Reference
    #: ISO ExternalPaymentTransactionStatus1Code, of a group also PART.
    status: str
    reason: str | None = None
    narrative: str | None = None
    #: What the ledger has of the payment; what it does not know, the answer does not say.
    payment: OriginalPayment | None = None
    #: PmtInfId of the block that it stands in, where its message has blocks and could be read.
    block: str | None = None
    #: Of the message that it came in, as the ledger has them; for want of them those of the reference are repeated.
    message_id: str | None = None
    definition: str | None = None
    created_at: str | None = None


class Cancellation(StrEnum):
    """ISO CancellationIndividualStatus1Code: what became of a request to cancel."""

    ACCEPTED = "ACCR"
    REJECTED = "RJCR"
    PENDING = "PDCR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a camt.029 says of one reference."""

    reference: Reference
    status: Cancellation
    #: ISO ExternalPaymentCancellationRejection1Code.
    reason: str | None = None
    narrative: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What a camt.029 says."""

    #: ISO ExternalInvestigationExecutionConfirmation1Code; None where `modification_rejections` say it.
    confirmation: str | None = None
    cases: tuple[Resolved, ...] = ()
    #: ISO ExternalPaymentModificationRejection1Code.
    modification_rejections: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InvestigationResult:
    """What a camt.111 says: where the investigation stands, and for each payment how that stands."""

    #: ISO ExternalInvestigationStatus1Code: CLSD, PDNG or RJCT.
    status: str
    #: ISO ExternalInvestigationStatusReason1Code.
    reason: str | None = None
    statements: tuple[Statement, ...] = ()
    #: In our own words, where there is no statement.
    narrative: str | None = None
