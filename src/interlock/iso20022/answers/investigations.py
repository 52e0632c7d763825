"""camt.111: the answer to an investigation of the new kind. Pure."""

from datetime import datetime
from typing import Final

from interlock.iso20022.answers.editions import RESOLUTIONS, Shape, enquiry_definition, formed
from interlock.iso20022.answers.naming import message_id as named
from interlock.iso20022.answers.pieces import (
    NOT_PROVIDED,
    cut,
    element,
    escape,
    party_in,
    text_of,
    uetr_of,
    words_of,
)
from interlock.iso20022.answers.reasons import status_reason
from interlock.iso20022.answers.verdicts import Answer, InvestigationResult, PaymentVerdict, Statement
from interlock.iso20022.answers.wrapping import enveloped
from interlock.iso20022.codes import Status
from interlock.iso20022.forms import NO_FORMS, Forms
from interlock.iso20022.original import Investigation, Original, Reference

_NOTHING: Final = Investigation()


def build_investigation(
    original: Original,
    result: InvestigationResult,
    *,
    answer_id: str,
    now: datetime,
    definition: str | None = None,
    forms: Forms = NO_FORMS,
) -> Answer:
    """The answer to a camt.110: where the investigation stands, and how the payments in question do.

    Raises ValueError for what only a caller can get wrong: another kind of request, an unknown definition, no id, a
    naive time.
    """
    shape = RESOLUTIONS.get(definition or enquiry_definition(original.definition) or "")
    if shape is None or not shape.definition.startswith("camt.111"):
        raise ValueError("no answer of this kind can be written for this message; use build_admi002")
    shape = formed(shape, forms)
    message_id = named(answer_id, shape.message_id, original, now)
    asked = original.investigation or _NOTHING
    reason = element("StsRsn", element("Cd", text_of(result.reason)))
    document = (
        f'<Document xmlns="{shape.namespace}"><{shape.root}>'
        f"<InvstgtnRspn><MsgId>{message_id}</MsgId>{element('RspndrInvstgtnId', text_of(asked.responder_id))}"
        f"<InvstgtnSts><Sts>{result.status}</Sts>{reason}</InvstgtnSts>{_data(shape, result)}</InvstgtnRspn>"
        f"<OrgnlInvstgtnReq><MsgId>{text_of(original.message_id) or NOT_PROVIDED}</MsgId>"
        f"{element('RqstrInvstgtnId', text_of(asked.requestor_id))}"
        f"{element('RspndrInvstgtnId', text_of(asked.responder_id))}{_type(asked)}{_underlying(original.references)}"
        f"{party_in(shape.has, 'Rqstr', asked.requestor)}{party_in(shape.has, 'Rspndr', asked.responder)}"
        f"</OrgnlInvstgtnReq></{shape.root}></Document>"
    )
    body = enveloped(document, shape.definition, original, message_id, now, has=shape.has)
    return Answer(definition=shape.definition, body=body)


def _type(asked: Investigation) -> str:
    """InvstgtnTp, which is mandatory."""
    code = asked.type_code or ""
    choice = f"<Cd>{escape(code)}</Cd>" if 0 < len(code) <= 4 else ""
    choice = choice or f"<Prtry>{text_of(asked.proprietary_type) or NOT_PROVIDED}</Prtry>"
    return f"<InvstgtnTp>{choice}</InvstgtnTp>"


def _data(shape: Shape, result: InvestigationResult) -> str:
    """InvstgtnData: the status of each payment, or what there is to say in words."""
    data = [element("TxSts", _status(shape, one)) for one in result.statements]
    if not data:
        data = [element("RspnNrrtv", cut(words_of(result.narrative or ""), 500))]
    return "".join(element("InvstgtnData", element("RspnData", one)) for one in data)


def _status(shape: Shape, statement: Statement) -> str:
    verdict = PaymentVerdict(status=Status.RJCT, reason=statement.reason, narrative=statement.narrative)
    return f"<Sts><Cd>{statement.status}</Cd></Sts>{status_reason(shape, statement.status, verdict)}"


def _underlying(references: tuple[Reference, ...]) -> str:
    """Undrlyg, where it was one payment between banks."""
    if len(references) != 1 or references[0].element != "IntrBk":
        return ""
    one = references[0]
    group = ""
    if text_of(one.message_id) and text_of(one.definition):
        group = (
            f"<OrgnlGrpInf><OrgnlMsgId>{text_of(one.message_id)}</OrgnlMsgId>"
            f"<OrgnlMsgNmId>{text_of(one.definition)}</OrgnlMsgNmId></OrgnlGrpInf>"
        )
    ids = (
        group,
        element("OrgnlInstrId", text_of(one.instruction_id)),
        element("OrgnlEndToEndId", text_of(one.end_to_end_id)),
        element("OrgnlTxId", text_of(one.transaction_id)),
        element("OrgnlUETR", uetr_of(one.uetr)),
    )
    return element("Undrlyg", element("IntrBk", "".join(ids)))
