"""The business application header: by itself, and against the document. Pure."""

import re
from collections.abc import Iterable
from datetime import date
from typing import Final

from lxml import etree

from interlock.iso20022.original import Agent, Header, Original
from interlock.iso20022.rules.dates import is_ahead
from interlock.iso20022.rules.rule import ElementCheck, MessageCheck, Place
from interlock.iso20022.rules.xml import has

_OFFSET: Final = re.compile(r".*(?:Z|[+-][0-9]{2}:[0-9]{2})\Z")


def _in_header(header: Header, path: str) -> tuple[Place, ...]:
    return (Place(f"{header.xpath}/{path}", header.line),)


def _header_definition(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or not original.definition or header.message_definition in (None, original.definition):
        return ()
    return _in_header(header, "MsgDefIdr")


def _header_id(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or original.message_id is None or header.business_message_id in (None, original.message_id):
        return ()
    return _in_header(header, "BizMsgIdr")


def _header_created(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or header.created_at is None or _OFFSET.match(header.created_at):
        return ()
    return _in_header(header, "CreDt")


def _header_sender(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or _agree(header.sender, _instructing(original)):
        return ()
    return _in_header(header, "Fr")


def _header_receiver(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or _agree(header.receiver, _instructed(original)):
        return ()
    return _in_header(header, "To")


def _instructing(original: Original) -> Agent | None:
    payments = original.payments
    return original.instructing_agent or (payments[0].instructing_agent if payments else None)


def _instructed(original: Original) -> Agent | None:
    payments = original.payments
    return original.instructed_agent or (payments[0].instructed_agent if payments else None)


def _agree(one: Agent | None, other: Agent | None) -> bool:
    """False only where both are named in the same manner, and differently; a branch is its bank."""
    if one is None or other is None or one == other:
        return True
    if one.bic is not None and other.bic is not None:
        return one.bic[:8] == other.bic[:8]
    if one.clearing_member is not None and other.clearing_member is not None:
        return one.clearing_member == other.clearing_member
    return True


def _header_created_future(original: Original, today: date) -> Iterable[Place]:
    header = original.header
    return _in_header(header, "CreDt") if header is not None and is_ahead(header.created_at, today) else ()


def _service_missing(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    return _in_header(header, "BizSvc") if header is not None and not header.business_service else ()


def _service_of_cbprplus(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or header.business_service is None or _CBPRPLUS.match(header.business_service):
        return ()
    return _in_header(header, "BizSvc")


_CBPRPLUS: Final = re.compile(r"swift\.cbprplus(?:\.[a-z]{3,8})?\.[0-9]{2}\Z")


def _variant_of_cbprplus(original: Original, _today: date) -> Iterable[Place]:
    """A service that is of another message than the one below it."""
    header = original.header
    found = None if header is None else _VARIANT.match(header.business_service or "")
    if header is None or found is None or original.definition.startswith(_VARIANTS[found[1]]):
        return ()
    return _in_header(header, "BizSvc")


_VARIANT: Final = re.compile(r"swift\.cbprplus\.(stp|cov|adv)\.")
_VARIANTS: Final = {"stp": "pacs.008", "cov": "pacs.009", "adv": "pacs.009"}


def _possible_duplicate(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    return _in_header(header, "PssblDplct") if header is not None and header.possible_duplicate else ()


def _copy(header: etree._Element, _today: date) -> str | None:
    return "CpyDplct" if has(header, "CpyDplct") else None


def _copy_of_nothing(header: etree._Element, _today: date) -> str | None:
    return "CpyDplct" if has(header, "CpyDplct") and not has(header, "Rltd") else None


MESSAGE_CHECKS: Final[dict[str, MessageCheck]] = {
    "header.definition": _header_definition,
    "header.id": _header_id,
    "header.sender": _header_sender,
    "header.receiver": _header_receiver,
    "header.created": _header_created,
    "header.created_future": _header_created_future,
    "header.possible_duplicate": _possible_duplicate,
    "header.service": _service_missing,
    "header.service_cbprplus": _service_of_cbprplus,
    "header.service_variant": _variant_of_cbprplus,
}
HEADER_CHECKS: Final[dict[str, ElementCheck]] = {
    "header.copy": _copy,
    "header.copy_related": _copy_of_nothing,
}
