"""Reads answer messages for the demo: independently of interlock, by the standard's tags alone."""

from dataclasses import dataclass
from typing import Any

from lxml import etree

_PREFIX = "urn:iso:std:iso:20022:tech:xsd:"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFacts:
    """One TxInfAndSts."""

    instruction_id: str | None
    end_to_end_id: str | None
    transaction_id: str | None
    uetr: str | None
    amount: str | None
    currency: str | None
    status: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFacts:
    """What an answer message says."""

    #: `pacs.002.001.10`, from the document's namespace.
    definition: str | None
    #: OrgnlMsgId and OrgnlMsgNmId.
    message_id: str | None = None
    message_name: str | None = None
    #: GrpSts, and its reason.
    group: str | None = None
    reason: str | None = None
    payments: tuple[PaymentFacts, ...] = ()
    #: MsgDefIdr of the header, and BizMsgIdr of the related one; None without a header.
    header_definition: str | None = None
    related_id: str | None = None
    #: BICs of Fr and To.
    header_from: str | None = None
    header_to: str | None = None


def read(content: bytes) -> AnswerFacts:
    """What the bytes of a pacs.002, pain.002 or admi.002 say."""
    root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    document = _first(root, "descendant-or-self::*[local-name()='Document']")
    if document is None:
        return AnswerFacts(definition=None)
    definition = (etree.QName(document).namespace or "").removeprefix(_PREFIX)
    header = _first(root, "descendant-or-self::*[local-name()='AppHdr']")
    if definition.startswith("admi.002"):
        return AnswerFacts(definition=definition, reason=_text(document, "RjctgPtyRsn"))
    return AnswerFacts(
        definition=definition,
        message_id=_text(document, "OrgnlGrpInfAndSts/OrgnlMsgId"),
        message_name=_text(document, "OrgnlGrpInfAndSts/OrgnlMsgNmId"),
        group=_text(document, "OrgnlGrpInfAndSts/GrpSts"),
        reason=_text(document, "OrgnlGrpInfAndSts/StsRsnInf/Rsn/Cd"),
        payments=tuple(_payment(element) for element in _all(document, "TxInfAndSts")),
        header_definition=None if header is None else _text(header, "MsgDefIdr"),
        related_id=None if header is None else _text(header, "Rltd/BizMsgIdr"),
        header_from=None if header is None else _text(header, "Fr/FIId/FinInstnId/BICFI"),
        header_to=None if header is None else _text(header, "To/FIId/FinInstnId/BICFI"),
    )


def _payment(element: etree._Element) -> PaymentFacts:
    amounts = _all(element, "OrgnlTxRef/IntrBkSttlmAmt") or _all(element, "OrgnlTxRef/Amt/InstdAmt")
    return PaymentFacts(
        instruction_id=_text(element, "OrgnlInstrId"),
        end_to_end_id=_text(element, "OrgnlEndToEndId"),
        transaction_id=_text(element, "OrgnlTxId"),
        uetr=_text(element, "OrgnlUETR"),
        amount=amounts[0].text if amounts else None,
        currency=amounts[0].get("Ccy") if amounts else None,
        status=_text(element, "TxSts"),
        reason=_text(element, "StsRsnInf/Rsn/Cd"),
    )


def _all(element: etree._Element, path: str) -> list[etree._Element]:
    """Elements below that end this path of local names, in the order of the document."""
    steps = "/".join(f"*[local-name()='{step}']" for step in path.split("/"))
    return _found(element, f"descendant-or-self::node()/{steps}")


def _first(element: etree._Element, xpath: str) -> etree._Element | None:
    found = _found(element, xpath)
    return found[0] if found else None


def _found(element: etree._Element, xpath: str) -> list[etree._Element]:
    elements: Any = element.xpath(xpath)
    return list(elements)


def _text(element: etree._Element, path: str) -> str | None:
    found = _all(element, path)
    return found[0].text if found else None
