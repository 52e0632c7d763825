"""Institutions: that each is named, and by a name of good form. Pure; clearing members are in `clearing`."""

import re
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from typing import Final

from lxml import etree
from schwifty import BIC
from schwifty.exceptions import InvalidCountryCode, SchwiftyException
from stdnum import lei

from interlock.iso20022.original import Agent, Original, OriginalPayment
from interlock.iso20022.rules.clearing import has_good_member, is_member
from interlock.iso20022.rules.rule import (
    ElementCheck,
    MessageCheck,
    PaymentCheck,
    Place,
    ShapeCheck,
    in_group_header,
)
from interlock.iso20022.rules.xml import child, has, local_name, text_of


def _debtor_agent_bic(payment: OriginalPayment, _today: date) -> str | None:
    return None if _has_good_bic(payment.debtor_agent) else "DbtrAgt/FinInstnId"


def _creditor_agent_bic(payment: OriginalPayment, _today: date) -> str | None:
    return None if _has_good_bic(payment.creditor_agent) else "CdtrAgt/FinInstnId"


def _instructing_agent_bic(payment: OriginalPayment, _today: date) -> str | None:
    return None if _has_good_bic(payment.instructing_agent) else "InstgAgt/FinInstnId"


def _instructed_agent_bic(payment: OriginalPayment, _today: date) -> str | None:
    return None if _has_good_bic(payment.instructed_agent) else "InstdAgt/FinInstnId"


def _group_agent_bics(original: Original, _today: date) -> Iterable[Place]:
    if _has_good_bic(original.instructing_agent) and _has_good_bic(original.instructed_agent):
        return ()
    pairs = (("InstgAgt", original.instructing_agent), ("InstdAgt", original.instructed_agent))
    return [in_group_header(original, f"{name}/FinInstnId") for name, agent in pairs if not _has_good_bic(agent)]


def _has_good_bic(agent: Agent | None) -> bool:
    return agent is None or agent.bic is None or _is_bic(agent.bic)


@lru_cache(maxsize=8192)
def _is_bic(text: str) -> bool:
    """Whether the text has the form of a BIC, its country included; no directory is asked whether it exists."""
    if not _BIC.match(text):
        return False
    try:
        BIC(text)
    except InvalidCountryCode:
        return text[4:6] == "XK"  # Kosovo's code is in use, but no member of ISO 3166
    except SchwiftyException:
        return False
    return True


_BIC: Final = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\Z")


def _lei(payment: OriginalPayment, _today: date) -> str | None:
    for name, agent in (("DbtrAgt", payment.debtor_agent), ("CdtrAgt", payment.creditor_agent)):
        if agent is not None and agent.lei is not None and not _is_lei(agent.lei):
            return f"{name}/FinInstnId/LEI"
    return None


@lru_cache(maxsize=4096)
def _is_lei(text: str) -> bool:
    return text.isascii() and text.isalnum() and lei.is_valid(text)


def _bic(element: etree._Element, _today: date) -> str | None:
    text = element.text
    return None if text is not None and len(text) <= _TEXT_MAX and _is_bic(text.strip()) else ""


def _lei_element(element: etree._Element, _today: date) -> str | None:
    text = element.text
    return None if text is not None and len(text) <= _TEXT_MAX and _is_lei(text.strip()) else ""


def _header_agents(original: Original, _today: date) -> Iterable[Place]:
    header = original.header
    if header is None or (_is_well_formed(header.sender) and _is_well_formed(header.receiver)):
        return ()
    named = (("Fr", header.sender), ("To", header.receiver))
    return [Place(f"{header.xpath}/{name}", header.line) for name, agent in named if not _is_well_formed(agent)]


def _is_well_formed(agent: Agent | None) -> bool:
    return _has_good_bic(agent) and has_good_member(agent)


def _debtor_agent_member(payment: OriginalPayment, _today: date) -> str | None:
    return None if has_good_member(payment.debtor_agent) else "DbtrAgt/FinInstnId/ClrSysMmbId"


def _creditor_agent_member(payment: OriginalPayment, _today: date) -> str | None:
    return None if has_good_member(payment.creditor_agent) else "CdtrAgt/FinInstnId/ClrSysMmbId"


def _member(element: etree._Element, _today: date) -> str | None:
    system, member = text_of(child(element, "ClrSysId", "Cd")), child(element, "MmbId")
    return None if member is None or is_member(system, text_of(member)[:_TEXT_MAX]) else "MmbId"


def _both_levels(original: Original, _today: date) -> Iterable[Place]:
    """What the group header says holds for all; a payment that says it too can only contradict."""
    if original.instructing_agent is None and original.instructed_agent is None:
        return ()
    return [
        Place(f"{payment.xpath}/{name}", payment.line, payment.ordinal)
        for payment in original.payments
        for name, above, own in (
            ("InstgAgt", original.instructing_agent, payment.instructing_agent),
            ("InstdAgt", original.instructed_agent, payment.instructed_agent),
        )
        if above is not None and own is not None
    ]


def _empty(element: etree._Element, _today: date) -> str | None:
    return None if len(element) else ""


def _out_of_order(element: etree._Element, _today: date) -> str | None:
    """A second agent of a chain without a first, or a third without a second."""
    name = local_name(element)
    before = f"{name[:-1]}{int(name[-1]) - 1}"
    payment = element.getparent()
    return None if payment is None or has(payment, before) else ""


def _account_alone(element: etree._Element, _today: date) -> str | None:
    """The account of an agent that is not there."""
    payment = element.getparent()
    return None if payment is None or has(payment, local_name(element).removesuffix("Acct")) else ""


def _name_and_address(element: etree._Element, _today: date) -> str | None:
    """One of the two without the other; a BIC alone, as nearly always, is neither."""
    if len(element) == 1 and local_name(element[0]) not in ("Nm", "PstlAdr"):
        return None
    return None if has(element, "Nm") is has(element, "PstlAdr") else ""


def _creditor_agent(names: tuple[str, ...]) -> str | None:
    return None if "CdtrAgt" in names else ""


def _debtor_agent(names: tuple[str, ...]) -> str | None:
    return None if "DbtrAgt" in names else ""


#: Longer texts are neither BIC, LEI nor member, and must not fill the memory of verdicts.
_TEXT_MAX: Final = 64

PAYMENT_CHECKS: Final[dict[str, PaymentCheck]] = {
    "bic.debtor_agent": _debtor_agent_bic,
    "bic.creditor_agent": _creditor_agent_bic,
    "bic.instructing_agent": _instructing_agent_bic,
    "bic.instructed_agent": _instructed_agent_bic,
    "lei.agent": _lei,
    "clearing.debtor_agent": _debtor_agent_member,
    "clearing.creditor_agent": _creditor_agent_member,
}
MESSAGE_CHECKS: Final[dict[str, MessageCheck]] = {
    "agent.bic": _group_agent_bics,
    "agent.twice": _both_levels,
    "header.agents": _header_agents,
}
ELEMENT_CHECKS: Final[dict[str, ElementCheck]] = {
    "bic.form": _bic,
    "lei.form": _lei_element,
    "clearing.form": _member,
    "agent.empty": _empty,
    "agent.name_and_address": _name_and_address,
    "agent.order": _out_of_order,
    "agent.account": _account_alone,
}
SHAPE_CHECKS: Final[dict[str, ShapeCheck]] = {
    "agent.creditor": _creditor_agent,
    "agent.debtor": _debtor_agent,
}
