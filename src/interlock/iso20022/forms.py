"""The form of an answer: how a scheme wants what the standard leaves open. Pure data."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct


class Part(StrEnum):
    """A part of an answer that a scheme may do without."""

    #: OrgnlGrpInfAndSts: each payment names its message instead, in OrgnlGrpInf.
    GROUP = "group"
    #: GrpSts, and why.
    GROUP_STATUS = "group_status"
    #: PmtInfSts, and why.
    BLOCK_STATUS = "block_status"
    #: OrgnlNbOfTxs.
    COUNT = "count"
    #: OrgnlCtrlSum.
    CONTROL_SUM = "control_sum"
    #: The agents in the answer's own header: InstgAgt and InstdAgt, which each payment has then; in a pain.014 DbtrAgt
    #: and CdtrAgt.
    HEADER_AGENTS = "header_agents"
    #: StsId or CxlStsId: our own name for what is said of one payment.
    STATUS_ID = "status_id"
    #: OrgnlInstrId.
    INSTRUCTION = "instruction"
    #: OrgnlEndToEndId.
    END_TO_END = "end_to_end"
    #: OrgnlTxId.
    TRANSACTION = "tx"
    #: AccptncDtTm.
    ACCEPTED = "accepted"
    #: OrgnlTxRef.
    REFERENCE = "reference"
    #: DbtrAgt and CdtrAgt in OrgnlTxRef.
    REFERENCE_AGENTS = "reference_agents"
    #: Rsn/Cd: a reason is given as a proprietary one, Rsn/Prtry.
    REASON_CODES = "reason_codes"
    #: All texts of a reason but the first, AddtlInf.
    MORE_TEXTS = "more_texts"
    #: RslvdCase of the whole: each payment names its case instead.
    CASE = "case"
    #: OrgnlGrpCxlId and OrgnlPmtInfCxlId: the request's own names for what was to be cancelled.
    CANCELLATION_IDS = "cancellation_ids"
    #: GrpCxlSts, PmtInfCxlSts and TxCxlSts: the outcome of the whole says it.
    CANCELLATION_STATUS = "cancellation_status"
    #: OrgnlIntrBkSttlmAmt and OrgnlIntrBkSttlmDt, or OrgnlInstdAmt.
    AMOUNT = "amount"
    #: Rltd in the answer's AppHdr: the request's header in short.
    RELATED = "related"


_PAYMENT: Final = {
    Part.GROUP_STATUS, Part.COUNT, Part.CONTROL_SUM, Part.HEADER_AGENTS, Part.INSTRUCTION, Part.END_TO_END,
    Part.ACCEPTED, Part.REFERENCE, Part.REFERENCE_AGENTS, Part.REASON_CODES, Part.MORE_TEXTS, Part.RELATED,
}  # fmt: skip
#: By the family of the answer, what a scheme may leave out.
PARTS: Final[Mapping[str, frozenset[Part]]] = MappingProxyType(
    {
        "pacs.002": frozenset({*_PAYMENT, Part.GROUP, Part.STATUS_ID, Part.TRANSACTION}),
        "pain.002": frozenset({*_PAYMENT, Part.BLOCK_STATUS} - {Part.HEADER_AGENTS}),
        "pain.014": frozenset({*_PAYMENT, Part.BLOCK_STATUS}),
        "camt.029": frozenset(
            {
                Part.STATUS_ID,
                Part.INSTRUCTION,
                Part.END_TO_END,
                Part.TRANSACTION,
                Part.REASON_CODES,
                Part.MORE_TEXTS,
                Part.CASE,
                Part.CANCELLATION_IDS,
                Part.CANCELLATION_STATUS,
                Part.AMOUNT,
                Part.RELATED,
            }
        ),
        "admi.002": frozenset({Part.RELATED}),
        "camt.111": frozenset({Part.REASON_CODES, Part.MORE_TEXTS, Part.RELATED}),
    }
)


#: How schemes say of a payment that it was settled, or as good as; all versions of reports have these.
SettledCode: TypeAlias = Literal["ACSC", "ACCP", "ACSP", "ACTC"]
SETTLED_CODES: Final[frozenset[str]] = frozenset(get_args(SettledCode))


class Form(Struct, frozen=True, kw_only=True):
    """How a scheme wants one family of answers."""

    without: frozenset[Part] = frozenset()
    #: The status of a payment that has been settled.
    settled: SettledCode = "ACSC"
    #: Reasons name who gives them, in StsRsnInf/Orgtr: the agent that was instructed.
    originator: bool = False
    #: What the scheme makes of our name for the answer, as a MsgId: `{date}` (CCYYMMDD, UTC), `{own}` (the clearing
    #: member that the request's header was sent to), and at the end `{serial}`, as much of our name as there is room.
    message_id: str = ""
    #: Each report on a payment has AccptncDtTm: where the payment has none, the time of the report.
    timed: bool = False
    #: The only reasons that a report gives by code; any other is NARR, and in its text. Empty: ISO's external set.
    reasons: frozenset[str] = frozenset()


#: How a form of MsgId ends.
SERIAL: Final = "{serial}"
#: By the family of the answer; where there is none it is as the standard has it.
Forms: TypeAlias = Mapping[str, Form]
NO_FORMS: Final[Forms] = MappingProxyType({})
