"""The standard's words that the whole of Interlock speaks: statuses and reason codes. Pure data."""

from enum import StrEnum


class Status(StrEnum):
    """ISO ExternalPaymentTransactionStatus1Code, as far as a transaction here can have it (DESIGN: lifecycle)."""

    #: AcceptedCustomerProfile. Here: id issued, message awaited.
    ACCP = "ACCP"
    #: AcceptedTechnicalValidation. Here: message durable, well-formed, schema-valid, no duplicate.
    ACTC = "ACTC"
    #: Pending. Here: held, for the cause shown beside it.
    PDNG = "PDNG"
    #: AcceptedSettlementInProcess. Here: all checks and decisions passed.
    ACSP = "ACSP"
    #: AcceptedSettlementCompleted. Here: released, answer available. Final.
    ACSC = "ACSC"
    #: Rejected, with an ISO reason; answer available. Final.
    RJCT = "RJCT"
    #: Cancelled, by the consumer or by recovery. Final.
    CANC = "CANC"

    @property
    def is_final(self) -> bool:
        """True for the three ends, which nothing follows."""
        return self in _FINAL


_FINAL = frozenset({Status.ACSC, Status.RJCT, Status.CANC})


class HeldCause(StrEnum):
    """Why a transaction is PDNG; ours, not ISO's."""

    #: A consumer must decide.
    DECISION = "decision"
    #: An outside answer is due.
    CHECK = "check"
    #: Our own failure; an operator looks.
    FAULT = "fault"
    #: Handed to a downstream, or about to be, and no answer.
    UNKNOWN = "unknown"
