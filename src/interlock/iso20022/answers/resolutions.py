"""camt.029: what became of a request to cancel, or of another investigation of the old kind. Pure."""

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import groupby

from interlock.iso20022.answers.editions import RESOLUTIONS, Shape, enquiry_definition, formed
from interlock.iso20022.answers.naming import message_id as named
from interlock.iso20022.answers.pieces import (
    NOT_PROVIDED,
    amount_of,
    date_of,
    date_time_of,
    element,
    party_in,
    text_of,
    timestamp,
    uetr_of,
)
from interlock.iso20022.answers.reasons import cancellation_reason
from interlock.iso20022.answers.statuses import numbered
from interlock.iso20022.answers.verdicts import Answer, Resolution, Resolved
from interlock.iso20022.answers.wrapping import enveloped
from interlock.iso20022.forms import NO_FORMS, Forms
from interlock.iso20022.original import Level, Original, Party, Reference


def can_confirm(definition: str, confirmation: str) -> bool:
    """True where that version of the answer has this word for an outcome: early ones have few."""
    shape = RESOLUTIONS.get(definition)
    return shape is not None and (not shape.confirmations or confirmation in shape.confirmations)


def build_resolution(
    original: Original,
    resolution: Resolution,
    *,
    answer_id: str,
    now: datetime,
    definition: str | None = None,
    forms: Forms = NO_FORMS,
) -> Answer:
    """The resolution of an investigation: the outcome of the whole, then case by case.

    original: a camt.055, camt.056, camt.026, camt.027 or camt.087; forms: how the scheme wants it.
    Raises ValueError for what only a caller can get wrong: another kind of request, an unknown definition, an outcome
    that the version has no word for, no id, a naive time.
    """
    shape = RESOLUTIONS.get(definition or enquiry_definition(original.definition) or "")
    if shape is None or not shape.definition.startswith("camt.029"):
        raise ValueError("no resolution can be written for this message; use build_admi002")
    shape = formed(shape, forms)
    message_id = named(answer_id, shape.message_id, original, now)
    case = _case(shape, original.case_id, original.case_creator) if "case" in shape.has else ""
    document = (
        f'<Document xmlns="{shape.namespace}"><{shape.root}>'
        f"<Assgnmt><Id>{message_id}</Id>{party_in(shape.has, 'Assgnr', original.assignee)}"
        f"{party_in(shape.has, 'Assgne', original.assigner)}<CreDtTm>{timestamp(now)}</CreDtTm></Assgnmt>"
        f"{case}<Sts>{_outcome(shape, resolution)}</Sts>"
        f"{_details(shape, original, resolution.cases, message_id)}</{shape.root}></Document>"
    )
    body = enveloped(document, shape.definition, original, message_id, now, has=shape.has)
    return Answer(definition=shape.definition, body=body)


def _outcome(shape: Shape, resolution: Resolution) -> str:
    if resolution.modification_rejections:
        codes = [text_of(code) for code in resolution.modification_rejections]
        # Early versions have the code itself, later ones a choice of code and proprietary one.
        contents = codes if shape.confirmations else [f"<Cd>{code}</Cd>" for code in codes]
        return "".join(f"<RjctdMod>{content}</RjctdMod>" for content in contents)
    code = resolution.confirmation or ""
    if not can_confirm(shape.definition, code) or not 0 < len(code) <= 4:
        raise ValueError(f"{shape.definition} has no word for this outcome; use build_admi002")
    return f"<Conf>{code}</Conf>"


def _case(shape: Shape, case_id: str | None, creator: Party | None) -> str:
    """RslvdCase, where the request named a case."""
    identification = text_of(case_id)
    if not identification:
        return ""
    return f"<RslvdCase><Id>{identification}</Id>{party_in(shape.has, 'Cretr', creator)}</RslvdCase>"


def _details(shape: Shape, original: Original, cases: Iterable[Resolved], message_id: str) -> str:
    """CxlDtls: a block for each message that was to be cancelled as a whole, and one for all else."""
    is_customers = original.definition.startswith("camt.055")

    def case(one: Reference) -> str:
        """The case of a reference, where it is not told as that of the whole."""
        is_told = "case" in shape.has and one.case_id == original.case_id
        return "" if is_told else _case(shape, one.case_id, one.case_creator)

    rest = []
    details = []
    for one in cases:
        if one.reference.level is Level.MESSAGE:
            details.append(f"<CxlDtls>{_message(shape, one, case)}</CxlDtls>")
        else:
            rest.append(one)
    content = (_blocks if is_customers else _payments)(shape, rest, message_id, case)
    return "".join(details) + element("CxlDtls", content)


_CaseOf = Callable[[Reference], str]


def _group(one: Reference) -> str:
    """OrgnlMsgId, OrgnlMsgNmId and OrgnlCreDtTm; the first two are mandatory."""
    return (
        f"<OrgnlMsgId>{text_of(one.message_id) or NOT_PROVIDED}</OrgnlMsgId>"
        f"<OrgnlMsgNmId>{text_of(one.definition) or NOT_PROVIDED}</OrgnlMsgNmId>"
        f"{element('OrgnlCreDtTm', date_time_of(one.created_at))}"
    )


def _why(shape: Shape, resolved: Resolved) -> str:
    return cancellation_reason(shape, resolved.reason, resolved.narrative)


def _message(shape: Shape, resolved: Resolved, case: _CaseOf) -> str:
    one = resolved.reference
    own_id = element("OrgnlGrpCxlId", text_of(one.own_id)) if "cancellation_ids" in shape.has else ""
    return (
        f"<OrgnlGrpInfAndSts>{own_id}{case(one)}{_group(one)}"
        f"{_status(shape, 'GrpCxlSts', resolved)}</OrgnlGrpInfAndSts>"
    )


def _status(shape: Shape, name: str, resolved: Resolved) -> str:
    """What became of one, in the element of that name, and why."""
    status = element(name, resolved.status) if "cancellation_status" in shape.has else ""
    return f"{status}{_why(shape, resolved)}"


def _status_id(shape: Shape, message_id: str, one: Reference) -> str:
    return element("CxlStsId", numbered(message_id, one.ordinal)) if "status_id" in shape.has else ""


def _payments(shape: Shape, cases: Iterable[Resolved], message_id: str, case: _CaseOf) -> str:
    """TxInfAndSts of payments between banks."""
    return "".join([_payment(shape, one, message_id, case) for one in cases])


def _payment(shape: Shape, resolved: Resolved, message_id: str, case: _CaseOf) -> str:
    has, one = shape.has, resolved.reference
    settled = ""
    if "amount" in has:
        amount = amount_of(one.amount, one.currency)
        settled = amount and f"<OrgnlIntrBkSttlmAmt{amount}</OrgnlIntrBkSttlmAmt>"
        settled += element("OrgnlIntrBkSttlmDt", date_of(one.settlement_date))
    return (
        f"<TxInfAndSts>{_status_id(shape, message_id, one)}{case(one)}"
        f"{element('OrgnlGrpInf', _group(one) if one.message_id else None)}{_ids(shape, one)}"
        f"{element('OrgnlTxId', text_of(one.transaction_id)) if 'tx' in has else ''}"
        f"{element('OrgnlUETR', uetr_of(one.uetr)) if 'uetr' in has else ''}"
        f"{_status(shape, 'TxCxlSts', resolved)}{settled}</TxInfAndSts>"
    )


def _ids(shape: Shape, one: Reference) -> str:
    instruction = element("OrgnlInstrId", text_of(one.instruction_id)) if "instruction" in shape.has else ""
    return instruction + (element("OrgnlEndToEndId", text_of(one.end_to_end_id)) if "end_to_end" in shape.has else "")


def _blocks(shape: Shape, cases: Iterable[Resolved], message_id: str, case: _CaseOf) -> str:
    """OrgnlPmtInfAndSts of a customer's payments, block by block."""
    pieces = []
    for (_, _, block_id), members in groupby(cases, lambda one: _block_of(one.reference)):
        pieces.append(_block(shape, block_id, tuple(members), message_id, case))
    return "".join(pieces)


def _block_of(one: Reference) -> tuple[str, str, str]:
    return one.message_id or "", one.definition or "", one.payment_information_id or ""


def _block(shape: Shape, block_id: str, members: tuple[Resolved, ...], message_id: str, case: _CaseOf) -> str:
    """One block: with a status of its own where it was to be cancelled as a whole, then the payments named in it."""
    whole = next((one for one in members if one.reference.level is Level.BLOCK), None)
    first = members[0].reference
    group = element("OrgnlGrpInf", _group(first) if first.message_id else None)
    own_id = own_case = status = ""
    if whole is not None:
        own_case, status = case(whole.reference), _status(shape, "PmtInfCxlSts", whole)
        if "cancellation_ids" in shape.has:
            own_id = element("OrgnlPmtInfCxlId", text_of(whole.reference.own_id))
    payments = [_customer_payment(shape, one, message_id, case) for one in members if one is not whole]
    return (
        f"<OrgnlPmtInfAndSts>{own_id}{own_case}<OrgnlPmtInfId>{text_of(block_id) or NOT_PROVIDED}</OrgnlPmtInfId>"
        f"{group}{status}{''.join(payments)}</OrgnlPmtInfAndSts>"
    )


def _customer_payment(shape: Shape, resolved: Resolved, message_id: str, case: _CaseOf) -> str:
    one = resolved.reference
    amount = amount_of(one.amount, one.currency) if "amount" in shape.has else ""
    return (
        f"<TxInfAndSts>{_status_id(shape, message_id, one)}{case(one)}{_ids(shape, one)}"
        f"{element('UETR', uetr_of(one.uetr)) if 'uetr' in shape.has else ''}"
        f"{_status(shape, 'TxCxlSts', resolved)}"
        f"{amount and f'<OrgnlInstdAmt{amount}</OrgnlInstdAmt>'}</TxInfAndSts>"
    )
