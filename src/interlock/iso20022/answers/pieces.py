"""The small parts of every answer: each gives text that fits its type in the schema, or nothing. Pure.

Owns: escaping, and what fits into a Max35Text, an amount, a date, an agent. Must not know: messages.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final

from interlock.iso20022.original import Agent, Party

#: Characters of a Max35Text, which most identifications are.
ID_MAX: Final = 35
NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:"
NOT_PROVIDED: Final = "NOTPROVIDED"
_NARRATIVE_PIECE_CHARACTERS: Final = 105
_NARRATIVE_PIECES_MAX: Final = 20

BIC: Final = re.compile(r"[A-Z]{6}[A-Z2-9][A-NP-Z0-9](?:[A-Z0-9]{3})?\Z")
BIC_2014: Final = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\Z")
LEI: Final = re.compile(r"[A-Z0-9]{18}[0-9]{2}\Z")
_UETR: Final = re.compile(r"[a-f0-9]{8}-[a-f0-9]{4}-4[a-f0-9]{3}-[89ab][a-f0-9]{3}-[a-f0-9]{12}\Z")
_CURRENCY: Final = re.compile(r"[A-Z]{3}\Z")
_AMOUNT: Final = re.compile(r"\+?(?=[0-9.]{1,19}\Z)(?:[0-9]{1,18}(?:\.[0-9]{0,5})?|\.[0-9]{1,5})\Z")
_SUM: Final = re.compile(r"[+-]?(?=[0-9.]{1,19}\Z)(?:[0-9]{1,18}(?:\.[0-9]{0,17})?|\.[0-9]{1,17})\Z")
_COUNT: Final = re.compile(r"[0-9]{1,15}\Z")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])?\Z"
)
_SPECIAL: Final = re.compile(r"[&<>\r]")
#: What XML 1.0 cannot hold; our own texts are cleaned of it, texts from a parsed message cannot have it.
ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(name: str, content: str | None) -> str:
    """The element with that content; nothing without content."""
    return f"<{name}>{content}</{name}>" if content else ""


def escape(text: str) -> str:
    """Text as the content of an element."""
    if _SPECIAL.search(text) is None:
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\r", "&#13;")


def attribute(text: str) -> str:
    """Text as an attribute's value."""
    return escape(text).replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#9;")


def text_of(text: str | None) -> str:
    """A Max35Text; empty (to be left out) where there is none, or one that is longer: cut it would name another."""
    return escape(text) if text and len(text) <= ID_MAX else ""


def cut(text: str | None, characters_max: int) -> str:
    """Words, which may be cut."""
    return escape(text[:characters_max]) if text else ""


def required_text(text: str) -> str:
    """An id of our own, made to fit a Max35Text."""
    if not text:
        raise ValueError("an answer needs an id of its own")
    return cut(ILLEGAL.sub("?", text), ID_MAX)


def words_of(text: str) -> str:
    """Words of our own in one line, without what XML cannot hold."""
    return " ".join(ILLEGAL.sub(" ", text).split())


def timestamp(now: datetime) -> str:
    """The moment, in UTC with its offset."""
    if now.tzinfo is None:
        raise ValueError("the time of an answer must be aware")
    return now.astimezone(UTC).isoformat(timespec="milliseconds")


def uetr_of(text: str | None) -> str | None:
    """A UETR; None for what is none."""
    return text if text and _UETR.match(text) else None


def date_of(text: str | None) -> str | None:
    """A date that the calendar has."""
    return text if text and _DATE.match(text) and _is_calendar_date(text) else None


# Most messages of a day carry the same few dates.
@lru_cache(maxsize=1024)
def _is_calendar_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def date_time_of(text: str | None) -> str | None:
    """A date and time, as written; None for what XSD would not take."""
    if not text or not _DATE_TIME.match(text) or not _is_calendar_date(text[:10]):
        return None
    return text if text[11:13] < "24" and text[14:16] < "60" and text[17:19] < "60" else None


def counts(has: frozenset[str], number: str | None, control_sum: str | None) -> str:
    """OrgnlNbOfTxs and OrgnlCtrlSum."""
    number = number if number and "count" in has and _COUNT.match(number) else None
    control_sum = control_sum if control_sum and "control_sum" in has and _SUM.match(control_sum) else None
    return element("OrgnlNbOfTxs", number) + element("OrgnlCtrlSum", control_sum)


def amount_of(amount: str | None, currency: str | None) -> str:
    """The rest of an amount's start tag and its text, to the letter; nothing where either is unusable."""
    if not amount or not currency or not _CURRENCY.match(currency) or not _AMOUNT.match(amount):
        return ""
    return f' Ccy="{currency}">{amount}'


def route(has: frozenset[str], instructing: Agent | None, instructed: Agent | None) -> str:
    """InstgAgt and InstdAgt of the answer: who was instructed now instructs."""
    return agent_in(has, "InstgAgt", instructed) + agent_in(has, "InstdAgt", instructing)


def agent_in(has: frozenset[str], name: str, agent: Agent | None) -> str:
    """An agent in that role; nothing where there is none, or where the version has room for none of its names.

    has: words of the version, as in `data/answers.toml`.
    """
    return "" if agent is None else _named_agent(has, name, agent)


@lru_cache(maxsize=4096)
def _named_agent(has: frozenset[str], name: str, agent: Agent) -> str:
    names = _names(has, agent)
    return names and f"<{name}><FinInstnId>{names}</FinInstnId></{name}>"


@lru_cache(maxsize=4096)
def _names(has: frozenset[str], agent: Agent) -> str:
    """An agent by all the names that the version has room for; nothing where it has none of them."""
    bic = agent.bic if agent.bic and (BIC_2014 if "bic2014" in has else BIC).match(agent.bic) else None
    names = element("BICFI" if "bicfi" in has else "BIC", bic)
    if "member" in has:
        names += member_of(agent)
    if "lei" in has and agent.lei and LEI.match(agent.lei):
        names += element("LEI", agent.lei)
    if "member" in has and not names and agent.other:
        names = element("Othr", element("Id", text_of(agent.other)))
    return names


@lru_cache(maxsize=1024)
def party_in(has: frozenset[str], name: str, party: Party | None) -> str:
    """A party of a case in that role, as institution, organisation or person, by what the version has room for."""
    agent = None if party is None else party.agent
    if agent is not None and not agent.is_organisation:
        names = _names(has, agent)
        if names:
            return f"<{name}><Agt><FinInstnId>{names}</FinInstnId></Agt></{name}>"
    identity = "" if agent is None else organisation(has, agent)
    known_as = cut(party.name, 140) if party is not None else ""
    if not identity and not known_as:
        known_as = NOT_PROVIDED
    return f"<{name}><Pty>{element('Nm', known_as)}{identity}</Pty></{name}>"


def organisation(has: frozenset[str], agent: Agent) -> str:
    """Id of an organisation by what the version has room for."""
    bic = agent.bic if agent.bic and (BIC_2014 if "bic2014" in has else BIC).match(agent.bic) else None
    names = element("AnyBIC" if "bicfi" in has else "BICOrBEI", bic)
    if "lei" in has and agent.lei and LEI.match(agent.lei):
        names += element("LEI", agent.lei)
    names += element("Othr", element("Id", text_of(agent.other)))
    return names and f"<Id><OrgId>{names}</OrgId></Id>"


def member_of(agent: Agent) -> str:
    """ClrSysMmbId, with the clearing system where that is known."""
    member = text_of(agent.clearing_member)
    if not member:
        return ""
    system = text_of(agent.clearing_system)
    if system:
        is_code = not agent.clearing_system_is_proprietary and len(system) <= 5
        system = f"<ClrSysId>{element('Cd' if is_code else 'Prtry', system)}</ClrSysId>"
    return f"<ClrSysMmbId>{system}<MmbId>{member}</MmbId></ClrSysMmbId>"


def narrative_pieces(narrative: str) -> Iterator[str]:
    """The text in pieces that fit one element, cut at a space where there is one near the end."""
    rest = words_of(narrative)
    for _ in range(_NARRATIVE_PIECES_MAX):
        if not rest:
            return
        end = len(rest)
        if end > _NARRATIVE_PIECE_CHARACTERS:
            end = rest.rfind(" ", 1, _NARRATIVE_PIECE_CHARACTERS + 1)
            end = end if end > 0 else _NARRATIVE_PIECE_CHARACTERS
        yield escape(rest[:end])
        rest = rest[end:].lstrip()
