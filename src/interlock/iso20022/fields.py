"""From an envelope to the fields that matter, in one walk. Pure.

The paths that matter are data (`data/fields.toml`), compiled into a trie of tags once for each message version; the
walk enters only elements that are in it, so that cost goes with the payments and not with what else a message holds.
A record (message, header, block, payment) is read into a list of slots; `data/fields.toml` says which path fills
which slot. The first element that fits wins.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any, Final, NamedTuple

from lxml import etree
from msgspec import structs

from interlock.iso20022.envelopes import Envelope, line_of, local_name, path_of
from interlock.iso20022.original import Agent, Header, Original, OriginalPayment, PaymentGroup

#: An agent takes six slots, in this order.
_AGENT_SLOTS: Final = ("bic", "system", "proprietary_system", "member", "lei", "other")
#: An amount takes two: the number, and after it the currency.
_AMOUNTS: Final = ("amount", "equivalent_amount", "total_amount")


def _load_tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("interlock.iso20022").joinpath("data/fields.toml").read_text("utf-8"))


_TABLES: Final = _load_tables()


def _paths(*tables: str) -> dict[str, str]:
    """Path to slot of the tables named, agents spelt out: `DbtrAgt` gives `DbtrAgt/FinInstnId/BICFI` and so on."""
    paths: dict[str, str] = {}
    for name in tables:
        table = _TABLES[name]
        paths.update(table.get("texts", {}))
        for kind, middle, below in (("agents", "/FinInstnId", "agent"), ("organisations", "", "organisation")):
            for prefix, slot in table.get(kind, {}).items():
                paths.update({f"{prefix}{middle}/{path}": f"{slot}.{one}" for path, one in _TABLES[below].items()})
    return paths


class _Layout(NamedTuple):
    """Where one family of messages has its payments; `data/fields.toml` explains each field."""

    payment: str | None = None
    payment_tables: Sequence[str] = ()
    block: str | None = None
    block_tables: Sequence[str] = ()
    is_group: bool = False


_LAYOUTS: Final = {name: _Layout(**layout) for name, layout in _TABLES["layouts"].items()}
_OTHER: Final = _Layout()


class _Step(NamedTuple):
    """What the walk does at an element: go in, take its text, or note it as a block of its own."""

    #: Slot that the text goes to; -1 for a block.
    slot: int
    below: "dict[str, _Step] | None"
    is_amount: bool


class _Record(NamedTuple):
    """A compiled table: the trie, and where each slot is."""

    trie: dict[str, _Step]
    slots: dict[str, int]
    #: First of the six slots of each agent.
    agents: dict[str, int]
    empty: tuple[None, ...]


_BLOCK: Final = _Step(-1, None, False)
_TEXT_MAX: Final = 256


def _compile(namespace: str, paths: Mapping[str, str], block: str | None = None) -> _Record:
    """Trie over full tags; a full tag is what lxml gives for nothing more than the name."""
    slots = _slots(paths.values())
    trie: dict[str, _Step] = {}
    for path, slot in paths.items():
        tags = [f"{{{namespace}}}{name}" for name in path.split("/")]
        _insert(trie, tags, _Step(slots[slot], None, slot in _AMOUNTS))
    if block is not None:
        trie[f"{{{namespace}}}{block}"] = _BLOCK
    agents = {name.removesuffix(".bic"): place for name, place in slots.items() if name.endswith(".bic")}
    return _Record(trie, slots, agents, (None,) * len(slots))


def _slots(names: Iterable[str]) -> dict[str, int]:
    """A place for each name; an agent's six lie together, an amount's currency follows it."""
    slots: dict[str, int] = {}
    for name in names:
        agent, dot, _ = name.partition(".")
        for each in [f"{agent}.{part}" for part in _AGENT_SLOTS] if dot else [name]:
            slots.setdefault(each, len(slots))
        if name in _AMOUNTS:
            slots.setdefault(f"{name}.currency", len(slots))
    return slots


def _insert(trie: dict[str, _Step], tags: list[str], leaf: _Step) -> None:
    """Add one path; where it goes on below one that ends, the walk there does both."""
    *above, last = tags
    for tag in above:
        step = trie.get(tag, _INNER)
        below = {} if step.below is None else step.below
        trie[tag] = step._replace(below=below)
        trie = below
    trie.setdefault(last, leaf)


_INNER: Final = _Step(-1, None, False)


class _Reader(NamedTuple):
    """All tables for one message version."""

    message: _Record
    block: _Record | None
    payment: _Record | None
    layout: _Layout


@lru_cache(maxsize=256)
def _reader(namespace: str, definition: str) -> _Reader:
    layout = _LAYOUTS.get(definition) or _LAYOUTS.get(definition[:8], _OTHER)
    return _Reader(
        message=_compile(namespace, _paths("message"), layout.block or layout.payment),
        block=_compile(namespace, _paths(*layout.block_tables), layout.payment) if layout.block else None,
        payment=_compile(namespace, _paths(*layout.payment_tables)) if layout.payment else None,
        layout=layout,
    )


@lru_cache(maxsize=16)
def _header_record(namespace: str) -> _Record:
    return _compile(namespace, _paths("header"))


def _walk(
    element: etree._Element, trie: dict[str, _Step], slots: list[str | None], blocks: list[etree._Element]
) -> None:
    """Fill the slots from the elements below; the depth is that of the trie, however deep the message is."""
    for child in element:
        step = trie.get(child.tag)
        if step is None:
            continue
        slot, below, is_amount = step
        if below is not None:
            _walk(child, below, slots, blocks)
            if slot < 0 or len(child):
                continue
        elif slot < 0:
            blocks.append(child)
            continue
        if slots[slot] is None:
            text = child.text
            # No field here is that long: what is cut was invalid, still is, and cannot fill the caches that it meets.
            slots[slot] = text if text is None or len(text) <= _TEXT_MAX else text[:_TEXT_MAX]
            if is_amount:
                slots[slot + 1] = (child.get("Ccy") or "")[:_TEXT_MAX] or None


class _Fields:
    """The slots of one record by name."""

    __slots__ = ("agents", "blocks", "places", "slots")

    def __init__(self, element: etree._Element, record: _Record) -> None:
        self.places = record.slots
        self.agents = record.agents
        self.slots: list[str | None] = list(record.empty)
        self.blocks: list[etree._Element] = []
        _walk(element, record.trie, self.slots, self.blocks)

    def text(self, name: str) -> str | None:
        """As written."""
        place = self.places.get(name)
        return None if place is None else self.slots[place]

    def word(self, name: str) -> str | None:
        """Without the white space around, which in numbers, dates and codes means nothing."""
        text = self.text(name)
        return None if text is None else text.strip()

    def agent(self, name: str) -> Agent | None:
        """The institution in that role; None where it has no name that we read."""
        place = self.agents.get(name)
        return None if place is None else _agent_of(*self.slots[place : place + 6])


# The same few institutions come again and again, within a message and between messages.
@lru_cache(maxsize=4096)
def _agent_of(
    bic: str | None = None,
    system: str | None = None,
    proprietary_system: str | None = None,
    member: str | None = None,
    lei: str | None = None,
    other: str | None = None,
) -> Agent | None:
    named = (bic, member, lei, other)
    if not any(named):
        return None
    return Agent(
        bic=bic.strip() if bic else None,
        clearing_system=system or proprietary_system,
        clearing_system_is_proprietary=system is None and proprietary_system is not None,
        clearing_member=member,
        lei=lei.strip() if lei else None,
        other=other,
    )


def extract(envelope: Envelope) -> Original:
    """The fields of a message, in one walk, schema-valid or not; time and memory go with the number of payments."""
    header = _header(envelope)
    document = envelope.document
    body = next(iter(document), None) if document is not None else None
    if document is None or body is None or envelope.definition is None:
        return _blank(envelope, header)
    namespace = document.tag.rpartition("}")[0][1:]
    reader = _reader(namespace, envelope.definition)
    fields = _Fields(body, reader.message)
    xpath = path_of(body) if envelope.wrapper else f"/Document/{local_name(body)}"
    groups, payments = _payments(reader, fields, xpath)
    wrapper, wrapper_namespace = _reusable_wrapper(envelope)
    return Original(
        definition=envelope.definition,
        message_id=fields.text("message_id"),
        created_at=fields.word("created_at"),
        number_of_transactions=fields.word("number_of_transactions"),
        control_sum=fields.word("control_sum"),
        instructing_agent=fields.agent("instructing_agent"),
        instructed_agent=fields.agent("instructed_agent"),
        header=header,
        groups=groups,
        payments=payments,
        total_amount=fields.word("total_amount"),
        total_currency=fields.text("total_amount.currency"),
        settlement_date=fields.word("settlement_date"),
        xpath=xpath,
        line=line_of(body),
        wrapper=wrapper,
        wrapper_namespace=wrapper_namespace,
    )


def _blank(envelope: Envelope, header: Header | None) -> Original:
    """What is left to say of a message without content."""
    wrapper, wrapper_namespace = _reusable_wrapper(envelope)
    return Original(
        definition=envelope.definition or "",
        message_id=None,
        created_at=None,
        number_of_transactions=None,
        control_sum=None,
        instructing_agent=None,
        instructed_agent=None,
        header=header,
        wrapper=wrapper,
        wrapper_namespace=wrapper_namespace,
    )


def _reusable_wrapper(envelope: Envelope) -> tuple[str | None, str | None]:
    """Name and namespace of a wrapper that an answer can use too: a flat one, with a name of sane length."""
    name, namespace = envelope.wrapper, envelope.wrapper_namespace
    if name is None or not envelope.wrapper_is_flat or len(name) + len(namespace or "") > _TEXT_MAX:
        return None, None
    return name, namespace


def _header(envelope: Envelope) -> Header | None:
    element = envelope.header
    if element is None or envelope.header_definition is None:
        return None
    fields = _Fields(element, _header_record(element.tag.rpartition("}")[0][1:]))
    return Header(
        definition=envelope.header_definition,
        sender=fields.agent("sender") or _organisation(fields.agent("sending_organisation")),
        receiver=fields.agent("receiver") or _organisation(fields.agent("receiving_organisation")),
        business_message_id=fields.text("business_message_id"),
        message_definition=fields.word("message_definition"),
        business_service=fields.text("business_service"),
        created_at=fields.word("created_at"),
        possible_duplicate=fields.word("possible_duplicate") in ("true", "1"),
        xpath=path_of(element),
        line=line_of(element),
    )


def _organisation(agent: Agent | None) -> Agent | None:
    return structs.replace(agent, is_organisation=True) if agent is not None else None


def _payments(
    reader: _Reader, message: _Fields, xpath: str
) -> tuple[tuple[PaymentGroup, ...], tuple[OriginalPayment, ...]]:
    """Groups and payments in the order of the message."""
    layout = reader.layout
    groups: list[PaymentGroup] = []
    payments: list[OriginalPayment] = []
    if reader.payment is None:
        return (), ()
    if reader.block is None:
        _add_payments(payments, reader.payment, message.blocks, f"{xpath}/{layout.payment}", message, None, None)
        return (), tuple(payments)
    for position, element in enumerate(message.blocks, 1):
        block = _Fields(element, reader.block)
        path = f"{xpath}/{layout.block}[{position}]"
        if layout.is_group:
            groups.append(_group(block, path, line_of(element)))
        index = position - 1 if layout.is_group else None
        _add_payments(payments, reader.payment, block.blocks, f"{path}/{layout.payment}", message, block, index)
    return tuple(groups), tuple(payments)


def _group(fields: _Fields, xpath: str, line: int | None) -> PaymentGroup:
    return PaymentGroup(
        payment_information_id=fields.text("payment_information_id"),
        number_of_transactions=fields.word("number_of_transactions"),
        control_sum=fields.word("control_sum"),
        requested_execution_date=fields.word("requested_execution_date"),
        xpath=xpath,
        line=line,
    )


def _add_payments(
    payments: list[OriginalPayment],
    record: _Record,
    elements: list[etree._Element],
    xpath: str,
    message: _Fields,
    block: _Fields | None,
    group: int | None,
) -> None:
    """Read the payments of one block; what a payment leaves open its block says, and then the group header."""
    # What the block says is the same for each of its payments, so it is looked up once.
    debtor_agent = creditor_agent = instructing_agent = instructed_agent = None
    debtor_iban = creditor_iban = None
    settlement_date = message.word("settlement_date")
    if block is not None:
        debtor_agent = block.agent("debtor_agent") or block.agent("debtor")
        creditor_agent = block.agent("creditor_agent") or block.agent("creditor")
        instructing_agent, instructed_agent = block.agent("instructing_agent"), block.agent("instructed_agent")
        debtor_iban, creditor_iban = block.word("debtor_iban"), block.word("creditor_iban")
        settlement_date = block.word("settlement_date") or settlement_date
    for position, element in enumerate(elements, 1):
        fields = _Fields(element, record)
        text, word, agent = fields.text, fields.word, fields.agent
        amount, currency, is_equivalent = word("amount"), text("amount.currency"), False
        if amount is None and "equivalent_amount" in record.slots:
            amount, currency = word("equivalent_amount"), text("equivalent_amount.currency")
            is_equivalent = amount is not None
        payments.append(
            OriginalPayment(
                ordinal=len(payments) + 1,
                group=group,
                xpath=f"{xpath}[{position}]",
                line=line_of(element),
                instruction_id=text("instruction_id"),
                end_to_end_id=text("end_to_end_id"),
                transaction_id=text("transaction_id"),
                own_id=text("own_id"),
                uetr=word("uetr"),
                amount=amount,
                currency=currency,
                amount_is_equivalent=is_equivalent,
                settlement_date=word("settlement_date") or settlement_date,
                accepted_at=word("accepted_at"),
                debtor_agent=agent("debtor_agent") or agent("debtor") or debtor_agent,
                creditor_agent=agent("creditor_agent") or agent("creditor") or creditor_agent,
                instructing_agent=agent("instructing_agent") or instructing_agent,
                instructed_agent=agent("instructed_agent") or instructed_agent,
                debtor_iban=word("debtor_iban") or debtor_iban,
                creditor_iban=word("creditor_iban") or creditor_iban,
            )
        )
