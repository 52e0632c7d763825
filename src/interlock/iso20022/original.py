"""What Interlock needs of a message, read once: some dozen fields, as their sender wrote them. Pure data."""

import re
from decimal import Decimal
from enum import StrEnum
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


class Party(Struct, frozen=True, kw_only=True):
    """Who has assigned a case, or created it: an institution or organisation, or somebody known by name only."""

    agent: Agent | None = None
    name: str | None = None


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
    #: MktPrctc: Regy and Id.
    market_practice_registry: str | None = None
    market_practice: str | None = None
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
    #: Of a return or reversal: the amount of the payment that it undoes, OrgnlIntrBkSttlmAmt or OrgnlInstdAmt.
    undone_amount: str | None = None
    undone_currency: str | None = None
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

    @property
    def undoes_all(self) -> bool:
        """Whether a return or reversal says that it gives back the whole of the payment, or more."""
        whole = to_decimal(self.undone_amount)
        back = self.decimal
        return whole is not None and back is not None and self.currency == self.undone_currency and back >= whole


class PaymentGroup(Struct, frozen=True, kw_only=True):
    """A PmtInf block of a pain message."""

    payment_information_id: str | None
    number_of_transactions: str | None
    control_sum: str | None
    requested_execution_date: str | None
    xpath: str
    line: int | None


class Level(StrEnum):
    """What a reference is to."""

    #: A whole message.
    MESSAGE = "message"
    #: A PmtInf block of a message.
    BLOCK = "block"
    #: One payment.
    PAYMENT = "payment"


class Reference(Struct, frozen=True, kw_only=True):
    """What a request such as a camt.056 or a pacs.028 refers to: one original, by whichever of its names it gives."""

    #: Place in the message, from 1, over all cases.
    ordinal: int
    level: Level
    xpath: str
    line: int | None
    #: Local name of its element: TxInf, IntrBk, OrgnlGrpInfAndCxl and so on.
    element: str = ""
    #: CxlId, GrpCxlId, PmtCxlId or StsReqId: the request's own name for this.
    own_id: str | None = None
    #: Case/Id and Case/Cretr, of the reference itself or else of the request.
    case_id: str | None = None
    case_creator: Party | None = None
    #: OrgnlMsgId and OrgnlMsgNmId, its own or those of what it stands under.
    message_id: str | None = None
    definition: str | None = None
    created_at: str | None = None
    payment_information_id: str | None = None
    instruction_id: str | None = None
    end_to_end_id: str | None = None
    transaction_id: str | None = None
    uetr: str | None = None
    amount: str | None = None
    currency: str | None = None
    settlement_date: str | None = None
    #: Rsn/Cd, as written.
    reason: str | None = None
    #: Rsn/Prtry, where there is no code.
    proprietary_reason: str | None = None
    #: GrpCxl or PmtInfCxl: whether it means everything in the message or block; None: it does not say.
    whole: bool | None = None
    #: NbOfTxs and CtrlSum of a message or block, as written.
    number_of_transactions: str | None = None
    control_sum: str | None = None


class Investigation(Struct, frozen=True, kw_only=True):
    """What a camt.110 asks, so that a camt.111 can repeat it."""

    #: RqstrInvstgtnId and RspndrInvstgtnId.
    requestor_id: str | None = None
    responder_id: str | None = None
    #: InvstgtnTp, as a code of ExternalInvestigationType1Code or a proprietary one.
    type_code: str | None = None
    proprietary_type: str | None = None
    requestor: Party | None = None
    responder: Party | None = None


class EnvelopeKind(StrEnum):
    """How header and document come wrapped."""

    #: A Document and nothing else.
    BARE = "bare"
    #: AppHdr and Document side by side with nothing around them, which is two XML documents in one.
    SIBLINGS = "siblings"
    #: ISO's own business message envelope, nvlp.001.
    BUSINESS_MESSAGE = "BizMsgEnvlp"
    #: Of samples and some gateways.
    REQUEST_PAYLOAD = "RequestPayload"
    #: Swift Alliance Access, XML version 2.
    DATA_PDU = "DataPDU"
    FEDNOW = "FedNow"
    FEDWIRE = "Fedwire"
    #: The RTP network's, which has names of its own for Document.
    RTP = "RTP"
    #: Any other wrapper.
    OTHER = "other"


class Transport(Struct, frozen=True, kw_only=True):
    """The envelope that a message came in, so that its answer can come in one of the same kind.

    Levels are elements, outermost first, each a local name and a namespace. Those in `around` hold both parts; those in
    `header` and `document` only one each.
    """

    kind: EnvelopeKind
    around: tuple[tuple[str, str | None], ...] = ()
    header: tuple[tuple[str, str | None], ...] = ()
    document: tuple[tuple[str, str | None], ...] = ()
    #: Of a DataPDU: paths below its header, and their texts.
    details: tuple[tuple[str, str], ...] = ()


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
    #: What it came in; None for a Document and nothing else, and where nothing can be said.
    transport: Transport | None = None
    #: What the message refers to, where it is about others (a status request, a cancellation, an investigation).
    references: tuple[Reference, ...] = ()
    #: There were more than are read.
    references_cut: bool = False
    #: Assgnmt/Assgnr and Assgnmt/Assgne of the messages that assign a case.
    assigner: Party | None = None
    assignee: Party | None = None
    #: Case/Id and Case/Cretr of the request as a whole.
    case_id: str | None = None
    case_creator: Party | None = None
    investigation: Investigation | None = None
    #: Local names of what a camt.087 wants modified.
    modifications: tuple[str, ...] = ()


def to_decimal(text: str | None) -> Decimal | None:
    """Exact number from an XSD decimal; None for anything else, exponents, infinities and absence included.

    And for one of more than 40 digits before or behind the point, zeros in front aside: no amount is one.
    """
    return Decimal(text) if text is not None and _DECIMAL.match(text) else None


_DECIMAL: Final = re.compile(r"[+-]?0*(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})\Z")
