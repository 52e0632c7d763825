"""pacs.002, or for a request to pay pain.014, on a pacs.028: the present truth of each payment asked for. Pure."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

from interlock.iso20022.answers.editions import SHAPES, Shape, enquiry_definition, formed
from interlock.iso20022.answers.naming import message_id as named
from interlock.iso20022.answers.pieces import (
    ID_MAX,
    NOT_PROVIDED,
    date_time_of,
    element,
    route,
    text_of,
    timestamp,
    uetr_of,
)
from interlock.iso20022.answers.reasons import status_reason
from interlock.iso20022.answers.reports import agents_of, ends, reference, said
from interlock.iso20022.answers.verdicts import Answer, PaymentVerdict, Statement
from interlock.iso20022.answers.wrapping import enveloped
from interlock.iso20022.codes import Status
from interlock.iso20022.forms import NO_FORMS, Forms
from interlock.iso20022.original import Level, Original


def build_statuses(
    original: Original,
    statements: Sequence[Statement],
    *,
    answer_id: str,
    now: datetime,
    definition: str | None = None,
    forms: Forms = NO_FORMS,
) -> Answer:
    """The status report on a status request: a group status for each message asked for, a status for each payment.

    definition: the version, in place of the pacs.002 published with the request; forms: how the scheme wants it. A
    pain.014 has room for one message: all statements must be about the same.
    Raises ValueError for what only a caller can get wrong: another kind of request, an unknown definition, no
    statement, no id, a naive time.
    """
    shape = SHAPES.get(definition or enquiry_definition(original.definition) or "")
    if shape is None or not shape.definition.startswith(("pacs.002", "pain.014")) or not statements:
        raise ValueError("no status report can be written for this message; use build_admi002")
    shape = formed(shape, forms)
    message_id = named(answer_id, shape.message_id, original, now)
    groups = [one for one in statements if one.reference.level is Level.MESSAGE]
    payments = [one for one in statements if one.reference.level is not Level.MESSAGE]
    if shape.definition.startswith("pain.014"):
        known = [one.payment for one in payments if one.payment is not None]
        party = "<InitgPty><Nm>NOTPROVIDED</Nm></InitgPty>" + ends(shape, known)
        content = _requests_to_pay(shape, groups, payments)
    else:
        is_told = "header_agents" in shape.has
        between = (original.instructing_agent, original.instructed_agent) if is_told else agents_of(original)
        asked = route(shape.has, *between)
        party = asked if is_told else ""
        content = "".join(
            [*(_group(shape, one) for one in groups), *(_payment(shape, one, message_id, asked) for one in payments)]
        )
    document = (
        f'<Document xmlns="{shape.namespace}"><{shape.root}>'
        f"<GrpHdr><MsgId>{message_id}</MsgId><CreDtTm>{timestamp(now)}</CreDtTm>{party}</GrpHdr>"
        f"{content}</{shape.root}></Document>"
    )
    body = enveloped(document, shape.definition, original, message_id, now, has=shape.has)
    return Answer(definition=shape.definition, body=body)


def _message(statement: Statement) -> str:
    """OrgnlMsgId, OrgnlMsgNmId and OrgnlCreDtTm; the first two are mandatory."""
    asked = statement.reference
    message_id = text_of(statement.message_id or asked.message_id)
    definition = text_of(statement.definition or asked.definition)
    created_at = date_time_of(statement.created_at if statement.message_id else asked.created_at)
    return (
        f"<OrgnlMsgId>{message_id or NOT_PROVIDED}</OrgnlMsgId>"
        f"<OrgnlMsgNmId>{definition or NOT_PROVIDED}</OrgnlMsgNmId>"
        f"{element('OrgnlCreDtTm', created_at)}"
    )


def _why(shape: Shape, statement: Statement) -> str:
    verdict = PaymentVerdict(status=Status.RJCT, reason=statement.reason, narrative=statement.narrative)
    return status_reason(shape, statement.status, verdict)


def _group(shape: Shape, statement: Statement) -> str:
    return (
        f"<OrgnlGrpInfAndSts>{_message(statement)}<GrpSts>{said(shape, statement.status)}</GrpSts>"
        f"{_why(shape, statement)}</OrgnlGrpInfAndSts>"
    )


def _payment(shape: Shape, statement: Statement, message_id: str, route_: str) -> str:
    """TxInfAndSts; the ids are those that were asked with, where the ledger has no better.

    route_: InstgAgt and InstdAgt of this answer, for one that must have them and for which the ledger has none.
    """
    has, asked, payment = shape.has, statement.reference, statement.payment
    instruction_id = text_of(payment.instruction_id if payment else asked.instruction_id)
    end_to_end_id = text_of(payment.end_to_end_id if payment else asked.end_to_end_id)
    transaction_id = text_of(payment.transaction_id if payment else asked.transaction_id)
    uetr = uetr_of(payment.uetr if payment else asked.uetr) if "uetr" in has else None
    accepted = agents = told = ""
    # What a customer has instructed is no interbank amount.
    if payment is not None and (statement.definition or "").startswith("pacs"):
        accepted = element("AccptncDtTm", date_time_of(payment.accepted_at)) if "accepted" in has else ""
        agents = route(has, payment.instructing_agent, payment.instructed_agent)
        told = reference(shape, payment)
    if not agents and "header_agents" not in has:
        agents = route_
    return (
        f"<TxInfAndSts>{element('StsId', numbered(message_id, asked.ordinal)) if 'status_id' in has else ''}"
        f"<OrgnlGrpInf>{_message(statement)}</OrgnlGrpInf>"
        f"{element('OrgnlInstrId', instruction_id) if 'instruction' in has else ''}"
        f"{element('OrgnlEndToEndId', end_to_end_id) if 'end_to_end' in has else ''}"
        f"{element('OrgnlTxId', transaction_id) if 'tx' in has else ''}{element('OrgnlUETR', uetr)}"
        f"<TxSts>{said(shape, statement.status)}</TxSts>{_why(shape, statement)}{accepted}{agents}{told}</TxInfAndSts>"
    )


def _requests_to_pay(shape: Shape, groups: Sequence[Statement], payments: Sequence[Statement]) -> str:
    """OrgnlGrpInfAndSts, which a pain.014 must have, and the payments in the blocks of their message."""
    whole = groups[0] if groups else None
    status = ""
    if whole is not None and "group_status" in shape.has:
        status = f"<GrpSts>{said(shape, whole.status)}</GrpSts>{_why(shape, whole)}"
    about = _message(whole or payments[0])
    blocks = []
    for block, members in groupby(payments, lambda one: one.block or one.reference.payment_information_id):
        content = "".join([_request_to_pay(shape, one) for one in members])
        name = text_of(block) or NOT_PROVIDED
        blocks.append(f"<OrgnlPmtInfAndSts><OrgnlPmtInfId>{name}</OrgnlPmtInfId>{content}</OrgnlPmtInfAndSts>")
    return f"<OrgnlGrpInfAndSts>{about}{status}</OrgnlGrpInfAndSts>{''.join(blocks)}"


def _request_to_pay(shape: Shape, statement: Statement) -> str:
    asked, payment = statement.reference, statement.payment
    instruction_id = text_of(payment.instruction_id if payment else asked.instruction_id)
    end_to_end_id = text_of(payment.end_to_end_id if payment else asked.end_to_end_id)
    uetr = uetr_of(payment.uetr if payment else asked.uetr) if "uetr" in shape.has else None
    told = "" if payment is None else reference(shape, payment)
    status = f"<TxSts>{said(shape, statement.status)}</TxSts>{_why(shape, statement)}"
    return (
        f"<TxInfAndSts>{element('OrgnlInstrId', instruction_id)}{element('OrgnlEndToEndId', end_to_end_id)}"
        f"{element('OrgnlUETR', uetr)}{status}{told}</TxInfAndSts>"
    )


def numbered(message_id: str, ordinal: int) -> str:
    """An id for one part of a message, made of the message's and its place; at most 35 characters.

    message_id: escaped already, so it is cut only where it has nothing escaped in it.
    """
    end = f"-{ordinal}"
    room = ID_MAX - len(end)
    return f"{message_id[:room] if '&' not in message_id else NOT_PROVIDED}{end}"
