"""admi.002, the rejection of what is no business message, and admi.007, the receipt. Pure."""

import re
from datetime import datetime
from typing import Final

from interlock.iso20022.answers.editions import REJECTION
from interlock.iso20022.answers.pieces import (
    ID_MAX,
    NAMESPACE,
    NOT_PROVIDED,
    cut,
    element,
    required_text,
    text_of,
    timestamp,
    words_of,
)
from interlock.iso20022.answers.reasons import UNSPECIFIED
from interlock.iso20022.answers.verdicts import Answer
from interlock.iso20022.answers.wrapping import enveloped
from interlock.iso20022.forms import NO_FORMS, Forms, Part
from interlock.iso20022.original import Header, Original


def build_admi002(  # noqa: PLR0913 - one call, each of its facts by name
    *,
    reason: str,
    narrative: str,
    reference: str,
    now: datetime,
    answer_id: str,
    header: Header | None = None,
    original: Original | None = None,
    location: str | None = None,
    forms: Forms = NO_FORMS,
) -> Answer:
    """The rejection of what cannot be treated as a business message: unreadable, of unknown kind, or nameless.

    reason: code or id of the rule, at most 35 characters; reference: whatever identifies the message to its sender
    (BizMsgIdr, MsgId, transaction id); location: path of the first fault.
    forms: of which the one of admi.002 says whether its header tells of the message's.
    header: where the message had one; original: where there is one, for its wrapper (and header).
    Source: ISO 20022 admi.002.001.01; what calls for it and not for a pacs.002: DOMAIN, FedNow operating procedures.
    """
    narrative = words_of(narrative)
    document = (
        f'<Document xmlns="{NAMESPACE}{REJECTION}"><{REJECTION}>'
        f"<RltdRef><Ref>{text_of(reference) or NOT_PROVIDED}</Ref></RltdRef>"
        f"<Rsn><RjctgPtyRsn>{cut(reason, ID_MAX) or UNSPECIFIED}</RjctgPtyRsn>"
        f"<RjctnDtTm>{timestamp(now)}</RjctnDtTm>"
        f"{element('ErrLctn', cut(location, 350))}{element('RsnDesc', cut(narrative, 350))}"
        f"{element('AddtlData', cut(narrative, 20_000)) if len(narrative) > 350 else ''}"
        f"</Rsn></{REJECTION}></Document>"
    )
    if original is None:
        original = _NO_ORIGINAL
    header = header or original.header
    form = forms.get(REJECTION[:8])
    has = {Part.RELATED} - (frozenset() if form is None else form.without)
    body = enveloped(document, REJECTION, original, required_text(answer_id), now, header, has=has)
    return Answer(definition=REJECTION, body=body)


_NO_ORIGINAL: Final = Original(
    definition="",
    message_id=None,
    created_at=None,
    number_of_transactions=None,
    control_sum=None,
    instructing_agent=None,
    instructed_agent=None,
    header=None,
)

_RECEIPT: Final = "admi.007.001.01"
_STATUS_CODE: Final = re.compile(r"[a-zA-Z0-9]{1,4}\Z")
#: What a receipt says by default; schemes have codes of their own.
_RECEIVED: Final = "RCVD"


def build_receipt(
    original: Original,
    *,
    reference: str,
    answer_id: str,
    now: datetime,
    status_code: str = _RECEIVED,
    narrative: str | None = None,
) -> Answer:
    """The admi.007 that acknowledges a message which asks for nothing more.

    reference: whatever identifies the message to its sender; status_code: up to four letters and digits, as the scheme
    has them. Raises ValueError for another code, no id, a naive time.
    """
    if not _STATUS_CODE.match(status_code):
        raise ValueError("the status code of a receipt has one to four letters and digits")
    message_id, moment = required_text(answer_id), timestamp(now)
    document = (
        f'<Document xmlns="{NAMESPACE}{_RECEIPT}"><RctAck>'
        f"<MsgId><MsgId>{message_id}</MsgId><CreDtTm>{moment}</CreDtTm></MsgId>"
        f"<Rpt><RltdRef><Ref>{text_of(reference) or NOT_PROVIDED}</Ref>"
        f"{element('MsgNm', text_of(original.definition))}</RltdRef>"
        f"<ReqHdlg><StsCd>{status_code}</StsCd><StsDtTm>{moment}</StsDtTm>"
        f"{element('Desc', cut(words_of(narrative or ''), 140))}</ReqHdlg></Rpt></RctAck></Document>"
    )
    return Answer(definition=_RECEIPT, body=enveloped(document, _RECEIPT, original, message_id, now))
