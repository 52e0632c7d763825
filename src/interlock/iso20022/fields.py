"""From an envelope to the fields that matter, in one walk. Pure.

Which element of a family is a payment, and which hold several, is data (`data/fields.toml`), as the paths are.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from lxml import etree
from msgspec import structs

from interlock.iso20022 import references
from interlock.iso20022.envelopes import Envelope, line_of, local_name, path_of
from interlock.iso20022.findings import short
from interlock.iso20022.original import Header, Investigation, Original, OriginalPayment, PaymentGroup
from interlock.iso20022.records import TABLES, Fields, Record, Slots, compile_record, paths


class _Layout(NamedTuple):
    """Where one family of messages has its payments; `data/fields.toml` explains each field."""

    payment: str | None = None
    payment_tables: Sequence[str] = ()
    block: str | None = None
    block_tables: Sequence[str] = ()
    is_group: bool = False
    message_tables: Sequence[str] = ()


_LAYOUTS: Final = {name: _Layout(**layout) for name, layout in TABLES["layouts"].items()}
_OTHER: Final = _Layout()


#: Takes the texts that are wanted of a record out of its slots, in a fixed order.
_Texts: TypeAlias = Callable[[Slots], tuple[str | None, ...]]


class _Reader(NamedTuple):
    """All tables for one message version."""

    message: Record
    message_texts: _Texts
    block: Record | None
    payment: Record
    payment_texts: _Texts
    layout: _Layout


#: In the order in which they are taken apart below.
_MESSAGE: Final = (
    "message_id", "created_at", "number_of_transactions", "control_sum", "total_amount", "total_amount.currency",
    "settlement_date",
)  # fmt: skip
_PAYMENT: Final = (
    "instruction_id", "end_to_end_id", "transaction_id", "own_id", "uetr", "amount", "amount.currency",
    "equivalent_amount", "equivalent_amount.currency", "settlement_date", "accepted_at", "debtor_iban", "creditor_iban",
    "undone_amount", "undone_amount.currency",
)  # fmt: skip
_HEADER: Final = (
    "business_message_id", "message_definition", "business_service", "market_practice_registry", "market_practice",
    "created_at", "possible_duplicate",
)  # fmt: skip


@lru_cache(maxsize=256)
def _reader(namespace: str, definition: str) -> _Reader:
    layout = _LAYOUTS.get(definition) or _LAYOUTS.get(definition[:8], _OTHER)
    message = compile_record(namespace, paths("message", *layout.message_tables), layout.block or layout.payment)
    payment = compile_record(namespace, paths(*layout.payment_tables))
    return _Reader(
        message=message,
        message_texts=message.select(*_MESSAGE),
        block=compile_record(namespace, paths(*layout.block_tables), layout.payment) if layout.block else None,
        payment=payment,
        payment_texts=payment.select(*_PAYMENT),
        layout=layout,
    )


@lru_cache(maxsize=16)
def _header_record(namespace: str) -> tuple[Record, _Texts]:
    record = compile_record(namespace, paths("header"))
    return record, record.select(*_HEADER)


def extract(envelope: Envelope) -> Original:
    """The fields of a message, in one walk, schema-valid or not; time and memory go with the number of payments."""
    header = _header(envelope)
    document = envelope.document
    body = next(iter(document), None) if document is not None else None
    if document is None or body is None or envelope.definition is None:
        return _blank(envelope, header)
    namespace = document.tag.rpartition("}")[0][1:]
    reader = _reader(namespace, envelope.definition)
    fields = Fields(body, reader.message)
    xpath = path_of(body) if envelope.wrapper else f"/Document/{short(local_name(body))}"
    groups, payments = _payments(reader, fields, xpath)
    message_id, created_at, number, control_sum, total, currency, settlement_date = reader.message_texts(fields.slots)
    original = Original(
        definition=envelope.definition,
        message_id=message_id,
        created_at=created_at,
        number_of_transactions=number,
        control_sum=control_sum,
        instructing_agent=fields.agent("instructing_agent"),
        instructed_agent=fields.agent("instructed_agent"),
        header=header,
        groups=groups,
        payments=payments,
        total_amount=total,
        total_currency=currency,
        settlement_date=settlement_date,
        xpath=xpath,
        line=line_of(body),
        transport=envelope.transport,
    )
    return _about_others(original, body, fields, reader) if references.has_references(envelope.definition) else original


def extract_any(envelope: Envelope) -> Original | None:
    """Likewise; without a message what is around one, so that its refusal can come in the same; None without either.

    Of a report nothing else is read either: the payments in it are those of another message.
    """
    if envelope.definition is None and envelope.header is None and envelope.transport is None:
        return None
    return _blank(envelope, _header(envelope)) if envelope.is_report else extract(envelope)


def _about_others(original: Original, body: etree._Element, fields: Fields, reader: _Reader) -> Original:
    """A request about other messages, with what it refers to."""
    referred, is_cut = references.read(body, original.definition, fields, original.xpath)
    return structs.replace(
        original,
        references=referred,
        references_cut=is_cut,
        assigner=fields.party("assigner"),
        assignee=fields.party("assignee"),
        case_id=fields.text("case_id"),
        case_creator=fields.party("case_creator"),
        modifications=references.modifications(body, original.definition),
        investigation=_investigation(fields) if "investigation" in reader.layout.message_tables else None,
    )


def _investigation(fields: Fields) -> Investigation:
    return Investigation(
        requestor_id=fields.text("requestor_id"),
        responder_id=fields.text("responder_id"),
        type_code=fields.word("type_code"),
        proprietary_type=fields.text("proprietary_type"),
        requestor=fields.party("requestor"),
        responder=fields.party("responder"),
    )


def _blank(envelope: Envelope, header: Header | None) -> Original:
    """What is left to say of a message without content."""
    return Original(
        definition=envelope.definition or "",
        message_id=None,
        created_at=None,
        number_of_transactions=None,
        control_sum=None,
        instructing_agent=None,
        instructed_agent=None,
        header=header,
        transport=envelope.transport,
    )


def _header(envelope: Envelope) -> Header | None:
    element = envelope.header
    if element is None or envelope.header_definition is None:
        return None
    record, texts = _header_record(element.tag.rpartition("}")[0][1:])
    fields = Fields(element, record)
    message_id, definition, service, registry, practice, created_at, duplicate = texts(fields.slots)
    return Header(
        definition=envelope.header_definition,
        sender=fields.agent("sender") or fields.organisation("sending_organisation"),
        receiver=fields.agent("receiver") or fields.organisation("receiving_organisation"),
        business_message_id=message_id,
        message_definition=definition,
        business_service=service,
        market_practice_registry=registry,
        market_practice=practice,
        created_at=created_at,
        possible_duplicate=duplicate in ("true", "1"),
        xpath=path_of(element),
        line=line_of(element),
    )


def _payments(
    reader: _Reader, message: Fields, xpath: str
) -> tuple[tuple[PaymentGroup, ...], tuple[OriginalPayment, ...]]:
    """Groups and payments in the order of the message."""
    layout = reader.layout
    groups: list[PaymentGroup] = []
    payments: list[OriginalPayment] = []
    if layout.payment is None:
        return (), ()
    if reader.block is None:
        _add_payments(payments, reader, message.blocks, f"{xpath}/{layout.payment}", message, None, None)
        return (), tuple(payments)
    for position, element in enumerate(message.blocks, 1):
        block = Fields(element, reader.block)
        path = f"{xpath}/{layout.block}[{position}]"
        if layout.is_group:
            groups.append(_group(block, path, line_of(element)))
        index = position - 1 if layout.is_group else None
        _add_payments(payments, reader, block.blocks, f"{path}/{layout.payment}", message, block, index)
    return tuple(groups), tuple(payments)


def _group(fields: Fields, xpath: str, line: int | None) -> PaymentGroup:
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
    reader: _Reader,
    elements: list[etree._Element],
    xpath: str,
    message: Fields,
    block: Fields | None,
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
        fields = Fields(element, reader.payment)
        agent = fields.agent
        (
            instruction_id, end_to_end_id, transaction_id, own_id, uetr, amount, currency, equivalent,
            equivalent_currency, own_date, accepted_at, own_debtor_iban, own_creditor_iban,
            undone_amount, undone_currency,
        ) = reader.payment_texts(fields.slots)  # fmt: skip
        is_equivalent = False
        if amount is None and "equivalent_amount" in reader.payment.slots:
            amount, currency, is_equivalent = equivalent, equivalent_currency, equivalent is not None
        payments.append(
            OriginalPayment(
                ordinal=len(payments) + 1,
                group=group,
                xpath=f"{xpath}[{position}]",
                line=line_of(element),
                instruction_id=instruction_id,
                end_to_end_id=end_to_end_id,
                transaction_id=transaction_id,
                own_id=own_id,
                uetr=uetr,
                amount=amount,
                currency=currency,
                amount_is_equivalent=is_equivalent,
                undone_amount=undone_amount,
                undone_currency=undone_currency,
                settlement_date=own_date or settlement_date,
                accepted_at=accepted_at,
                debtor_agent=agent("debtor_agent") or agent("debtor") or debtor_agent,
                creditor_agent=agent("creditor_agent") or agent("creditor") or creditor_agent,
                instructing_agent=agent("instructing_agent") or instructing_agent,
                instructed_agent=agent("instructed_agent") or instructed_agent,
                debtor_iban=own_debtor_iban or debtor_iban,
                creditor_iban=own_creditor_iban or creditor_iban,
            )
        )
