"""What Interlock needs of a message, read once: some dozen fields, as their sender wrote them. Pure data."""

import re
from decimal import Decimal
from typing import Final

from msgspec import Struct


class Agent(Struct, frozen=True, kw_only=True):
    """A financial institution, by whichever of its names the message gives."""

    bic: str | None = None
    #: ClrSysId: a code of ExternalClearingSystemIdentification1Code, such as `USABA`, or a proprietary name.
    clearing_system: str | None = None
    clearing_system_is_proprietary: bool = False
    clearing_member: str | None = None
    lei: str | None = None
    #: Othr/Id, where the message has no better name.
    other: str | None = None
    #: True where a header names an organisation (OrgId) and not a financial institution.
    is_organisation: bool = False


class Header(Struct, frozen=True, kw_only=True):
    """A business application header (head.001), as read."""

    definition: str
    #: BICs or other ids of Fr and To.
    sender: Agent | None
    receiver: Agent | None
    business_message_id: str | None
    #: MsgDefIdr, as written by the sender.
    message_definition: str | None
    business_service: str | None
    #: CreDt, as written.
    created_at: str | None
    possible_duplicate: bool
    xpath: str = "/AppHdr"
    line: int | None = None


class OriginalPayment(Struct, frozen=True, kw_only=True):
    """One payment in a message; texts are as received, so that an answer can repeat them to the letter."""

    #: Place in the message, from 1, over all groups.
    ordinal: int
    #: Index into `Original.groups` (pain.001 PmtInf), or None where the message has no such blocks.
    group: int | None
    xpath: str
    line: int | None
    instruction_id: str | None
    end_to_end_id: str | None
    #: TxId; in a return or reversal OrgnlTxId, or for want of it the id of the return or reversal itself.
    transaction_id: str | None
    #: RtrId or RvslId of a return or reversal, whose other ids are those of the payment that it undoes.
    own_id: str | None = None
    uetr: str | None
    amount: str | None
    currency: str | None
    #: True where `amount` is an EqvtAmt: what is to be transferred is this amount's worth in another currency.
    amount_is_equivalent: bool = False
    #: IntrBkSttlmDt of the payment, or the group header's.
    settlement_date: str | None
    #: AccptncDtTm as written.
    accepted_at: str | None = None
    debtor_agent: Agent | None
    creditor_agent: Agent | None
    instructing_agent: Agent | None = None
    instructed_agent: Agent | None = None
    debtor_iban: str | None
    creditor_iban: str | None

    @property
    def decimal(self) -> Decimal | None:
        """Amount as a number; None where absent or unreadable."""
        return to_decimal(self.amount)


class PaymentGroup(Struct, frozen=True, kw_only=True):
    """A PmtInf block of a pain message."""

    payment_information_id: str | None
    number_of_transactions: str | None
    control_sum: str | None
    requested_execution_date: str | None
    xpath: str
    line: int | None


class Original(Struct, frozen=True, kw_only=True):
    """What an answer repeats and a rule looks at, of one message; any field may be absent in an invalid one."""

    #: For instance `pacs.008.001.08`; empty where there is no document at all.
    definition: str
    message_id: str | None
    #: GrpHdr/CreDtTm as written.
    created_at: str | None
    number_of_transactions: str | None
    control_sum: str | None
    instructing_agent: Agent | None
    instructed_agent: Agent | None
    header: Header | None
    groups: tuple[PaymentGroup, ...] = ()
    payments: tuple[OriginalPayment, ...] = ()
    #: TtlIntrBkSttlmAmt (in returns TtlRtrdIntrBkSttlmAmt, in reversals TtlRvsdIntrBkSttlmAmt) of the group header.
    total_amount: str | None = None
    total_currency: str | None = None
    #: GrpHdr/IntrBkSttlmDt.
    settlement_date: str | None = None
    #: Of the element inside Document, for instance `/Document/FIToFICstmrCdtTrf`.
    xpath: str = ""
    line: int | None = None
    #: Local name and namespace of the element that holds AppHdr and Document side by side, so that an answer can use
    #: the same; None where there is no such element, or where it is not the outermost.
    wrapper: str | None = None
    wrapper_namespace: str | None = None


def to_decimal(text: str | None) -> Decimal | None:
    """Exact number from an XSD decimal; None for anything else, exponents, infinities and absence included."""
    return Decimal(text) if text is not None and _DECIMAL.match(text) else None


_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})\Z")
