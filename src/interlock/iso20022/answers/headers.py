"""The business application header of an answer. Pure."""

import re
from datetime import datetime
from functools import lru_cache
from typing import Final

from interlock.iso20022.answers.pieces import (
    BIC,
    BIC_2014,
    LEI,
    NAMESPACE,
    NOT_PROVIDED,
    date_time_of,
    element,
    escape,
    member_of,
    text_of,
    timestamp,
)
from interlock.iso20022.original import Agent, Header
from interlock.iso20022.records import TEXT_MAX

#: The versions there are; a header of any other is answered with the one most in use.
_HEADERS: Final = ("head.001.001.01", "head.001.001.02", "head.001.001.03", "head.001.001.04")

#: The variant of a message in a CBPR+ service (`swift.cbprplus.stp.03`); a report has none of them.
_VARIANT: Final = re.compile(r"(?<=^swift\.cbprplus)\.(?:stp|cov|adv|col)(?=\.\d\d\Z)")


def service_of_answer(service: str) -> str:
    """The business service of an answer to what came under that one."""
    return _VARIANT.sub("", service)


def app_header(header: Header, definition: str, message_id: str, now: datetime, *, related: bool = True) -> str:
    """AppHdr of the answer: the version of the request's, sender and receiver swapped, the request's related."""
    version = header.definition if header.definition in _HEADERS else _HEADERS[1]
    is_first = version == _HEADERS[0]
    created_at = timestamp(now)
    if is_first:  # Its type wants Z; later versions, and CBPR+, an offset.
        created_at = created_at.replace("+00:00", "Z")
    service = element("BizSvc", text_of(header.business_service))
    own_service = element("BizSvc", text_of(service_of_answer(header.business_service or "")))
    return (
        f'<AppHdr xmlns="{NAMESPACE}{version}">'
        f"<Fr>{_party(header.receiver, is_first)}</Fr><To>{_party(header.sender, is_first)}</To>"
        f"<BizMsgIdr>{message_id}</BizMsgIdr><MsgDefIdr>{definition}</MsgDefIdr>{own_service}"
        f"{'' if is_first else _market_practice(header)}"
        f"<CreDt>{created_at}</CreDt>{_related(header, is_first, service) if related else ''}</AppHdr>"
    )


def _market_practice(header: Header) -> str:
    """MktPrctc, the request's, where it is whole: texts are read up to some length only."""
    registry, practice = header.market_practice_registry, header.market_practice
    if not registry or not practice or max(len(registry), len(practice)) >= TEXT_MAX:
        return ""
    return f"<MktPrctc><Regy>{escape(registry)}</Regy><Id>{escape(practice)}</Id></MktPrctc>"


def _related(header: Header, is_first: bool, service: str) -> str:  # noqa: FBT001 - private
    """Rltd: the request's header in short; nothing where that lacks what is mandatory here."""
    reference, definition = text_of(header.business_message_id), text_of(header.message_definition)
    created_at = date_time_of(header.created_at)
    if not (reference and definition and created_at) or (is_first and not created_at.endswith("Z")):
        return ""
    return (
        f"<Rltd><Fr>{_party(header.sender, is_first)}</Fr><To>{_party(header.receiver, is_first)}</To>"
        f"<BizMsgIdr>{reference}</BizMsgIdr><MsgDefIdr>{definition}</MsgDefIdr>{service}"
        f"<CreDt>{created_at}</CreDt></Rltd>"
    )


@lru_cache(maxsize=1024)
def _party(agent: Agent | None, is_first: bool) -> str:  # noqa: FBT001 - private
    """Content of Fr or To, never empty."""
    agent = agent or _NOBODY
    bic = agent.bic if agent.bic and (BIC if is_first else BIC_2014).match(agent.bic) else None
    lei = agent.lei if agent.lei and not is_first and LEI.match(agent.lei) else None
    if agent.is_organisation:
        other = text_of(agent.other) or (None if bic or lei else NOT_PROVIDED)
        generic = other and f"<Othr><Id>{other}</Id></Othr>"
        content = f"{element('AnyBIC', bic)}{element('LEI', lei)}{generic or ''}"
        return f"<OrgId><Id><OrgId>{content}</OrgId></Id></OrgId>"
    names = f"{element('BICFI', bic)}{member_of(agent)}{element('LEI', lei)}"
    names = names or f"<Othr><Id>{text_of(agent.other) or NOT_PROVIDED}</Id></Othr>"
    return f"<FIId><FinInstnId>{names}</FinInstnId></FIId>"


_NOBODY: Final = Agent()
