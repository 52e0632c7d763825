"""Applying the rules: which of them hold for a message, and what it breaks. Pure.

Which rules hold depends on the definition, the day and the profile's settings, and is the same for thousands of
messages in a row, so it is worked out once for each. Elements are found by one walk of libxml2 over the document,
which gives only those that some rule looks at; rules that ask which elements stand together share one look at the
names, and verdicts on names are remembered.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from lxml import etree

from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Original, OriginalPayment
from interlock.iso20022.rules.places import Places
from interlock.iso20022.rules.registry import RULES
from interlock.iso20022.rules.rule import (
    SETTLEMENT_DATE,
    DocumentCheck,
    ElementCheck,
    MessageCheck,
    PaymentCheck,
    Place,
    Rule,
    ShapeCheck,
    at_settlement_date,
)
from interlock.iso20022.rules.xml import local_name

#: A profile's: another severity for a rule, or None for off. A rule that is off by default holds only where named.
Settings: TypeAlias = Mapping[str, Severity | None]
#: An element, the path from it to what is at fault, and the rule that this breaks.
_Fault: TypeAlias = tuple[etree._Element, str, Rule]  # noqa: SLF001 - lxml names its type so


def check(
    original: Original,
    *,
    today: date,
    document: etree._Element | None = None,
    header: etree._Element | None = None,
    settings: Settings | None = None,
) -> tuple[Finding, ...]:
    """Every rule that the message breaks on a day: of the message, of its payments, of elements, of the header.

    document, header: the elements that `original` was read from; without them the rules on elements are left out.
    settings: must not change once they were used, for what follows from them is remembered.
    """
    # The root's tag has the namespace that all tags below are in.
    selection = _select(original.definition, "" if document is None else document.tag, today, settings)
    findings: list[Finding] = []
    for message_check, rule in selection.message:
        places = message_check(original, today)
        if places:
            findings.extend(_finding(rule, place) for place in places)
    for payment in original.payments:
        for payment_check, rule in selection.payment:
            path = payment_check(payment, today)
            if path is not None:
                written = _as_written(path, original, payment, document)
                findings.append(_finding(rule, _in_payment(original, payment, written)))
    if document is not None:
        faults = list(_faults(document, selection, today))
        if faults:
            quotes = original.definition.startswith(_STATEMENTS)
            findings.extend(_in_elements(faults, Places(original, document), findings, quotes=quotes))
    if header is not None and original.header is not None:
        findings.extend(_in_header(header, original.header.xpath, selection, today))
    return tuple(findings)


def weight(rule: Rule, settings: Settings | None = None) -> Severity | None:
    """What a rule weighs under a profile's settings, its days aside; None where it is off."""
    usual = rule.severity if rule.is_default else None
    return usual if settings is None else settings.get(rule.id, usual)


def holding(definition: str, day: date, settings: Settings | None = None) -> Iterator[Rule]:
    """The rules that hold for a definition on a day under a profile's settings, with the severity they then have.

    definition: empty for all of them.
    """
    for rule in RULES.values():
        severity = weight(rule, settings)
        if severity is not None and rule.is_valid_on(day) and (not definition or rule.is_for(definition)):
            yield rule if severity is rule.severity else replace(rule, severity=severity)


class _Watch(NamedTuple):
    """What is asked of the elements with one tag."""

    elements: tuple[tuple[ElementCheck, Rule], ...]
    shapes: tuple[tuple[ShapeCheck, Rule], ...]
    #: Faults by tags of the children: few shapes make up nearly all messages.
    known: dict[tuple[object, ...], tuple[tuple[str, Rule], ...]]


class _Selection(NamedTuple):
    """The rules that hold for a definition on a day, by kind."""

    message: tuple[tuple[MessageCheck, Rule], ...]
    payment: tuple[tuple[PaymentCheck, Rule], ...]
    header: tuple[tuple[ElementCheck, Rule], ...]
    document: tuple[tuple[DocumentCheck, Rule], ...]
    #: By full tag.
    watches: Mapping[str, _Watch]
    tags: tuple[str, ...]


#: Selections by definition, root tag, day and identity of the settings; the settings are kept with them, so that no
#: others can come to have their identity.
_SELECTIONS: Final[dict[tuple[str, str, date, int], tuple[Settings | None, _Selection]]] = {}
_SELECTIONS_MAX: Final = 512
_SHAPES_MAX: Final = 512


def _select(definition: str, tag: str, day: date, settings: Settings | None) -> _Selection:
    key = (definition, tag, day, id(settings))
    known = _SELECTIONS.get(key)
    if known is not None:
        return known[1]
    if len(_SELECTIONS) >= _SELECTIONS_MAX:
        _SELECTIONS.clear()
    selection = _selection(tuple(holding(definition, day, settings)), definition, tag)
    _SELECTIONS[key] = (settings, selection)
    return selection


def _selection(rules: tuple[Rule, ...], definition: str, root_tag: str) -> _Selection:
    namespace, brace, _ = root_tag.rpartition("}")
    watches = _watches(rules, definition, namespace + brace)
    return _Selection(
        message=tuple((rule.message_check, rule) for rule in rules if rule.message_check is not None),
        payment=tuple((rule.payment_check, rule) for rule in rules if rule.payment_check is not None),
        header=tuple((rule.header_check, rule) for rule in rules if rule.header_check is not None),
        document=tuple((rule.document_check, rule) for rule in rules if rule.document_check is not None),
        watches=watches,
        tags=tuple(watches),
    )


#: Elements that are known to stand in some families alone: elsewhere looking for them would be time lost.
_ONLY_IN: Final[Mapping[str, tuple[str, ...]]] = {
    "RtrdInstdAmt": ("pacs.004",),
    "RtrdIntrBkSttlmAmt": ("pacs.004",),
    "TtlRtrdIntrBkSttlmAmt": ("pacs.004",),
    "CompstnAmt": ("pacs.004", "pacs.007", "pain.007"),
    "RvsdInstdAmt": ("pacs.007", "pain.007"),
    "RvsdIntrBkSttlmAmt": ("pacs.007",),
    "TtlRvsdIntrBkSttlmAmt": ("pacs.007",),
    "RtrId": ("pacs.004", "camt."),
    "RvslId": ("pacs.007", "pain.007", "camt."),
    "CxlId": ("camt.",),
}


def _watches(rules: tuple[Rule, ...], definition: str, namespace: str) -> Mapping[str, _Watch]:
    """namespace: as tags begin, `{urn:...}`; empty where there is none."""
    watches: dict[str, _Watch] = {}
    for rule in rules:
        for name in rule.elements:
            if not definition.startswith(_ONLY_IN.get(name, "")):
                continue
            watch = watches.get(namespace + name) or _Watch((), (), {})
            if rule.element_check is not None:
                watch = watch._replace(elements=(*watch.elements, (rule.element_check, rule)))
            if rule.shape_check is not None:
                watch = watch._replace(shapes=(*watch.shapes, (rule.shape_check, rule)))
            watches[namespace + name] = watch
    return watches


def _finding(rule: Rule, place: Place) -> Finding:
    return Finding(
        severity=rule.severity,
        rule=rule.id,
        reason=rule.reason,
        xpath=place.xpath,
        line=place.line,
        text=rule.text,
        payment=place.payment,
    )


#: Parties whose elements stand in the block around the payments, by family.
_IN_BLOCK: Final = {"pain.001": "Dbtr", "pain.013": "Dbtr", "pain.008": "Cdtr", "pacs.010": "Cdtr"}


#: Payments between banks, which are debtor and creditor themselves and need no agents, by the payment's element.
_BANKS: Final = {"pacs.009": "CdtTrfTxInf", "pacs.010": "DrctDbtTxInf"}


def _as_written(path: str, original: Original, payment: OriginalPayment, document: etree._Element | None) -> str:
    """The path to debtor or creditor in place of its agent, where the message has no such agent."""
    name = _BANKS.get(original.definition[:8])
    if name is None or document is None or not path.startswith(("DbtrAgt/", "CdtrAgt/")):
        return path
    namespace = document.tag.rpartition("}")[0] + "}"
    for element in islice(document.iter(namespace + name), payment.ordinal - 1, payment.ordinal):
        around = (element, element.getparent())
        if all(one is None or one.find(f"{namespace}{path[:7]}") is None for one in around):
            return f"{path[:4]}{path[7:]}"
    return path


def _in_payment(original: Original, payment: OriginalPayment, path: str) -> Place:
    if path == SETTLEMENT_DATE:
        return at_settlement_date(original, payment)
    above = payment.xpath
    outside = _IN_BLOCK.get(original.definition[:8])
    if outside is not None and path.startswith(outside):
        above = above.rpartition("/")[0]
    return Place(f"{above}/{path}" if path else above, payment.line, payment.ordinal)


def _faults(document: etree._Element, selection: _Selection, today: date) -> Iterator[_Fault]:
    """Every element at fault, in the order of the document."""
    watches = selection.watches
    for element in document.iter(*selection.tags) if selection.tags else ():
        watch = watches[element.tag]
        elements, shapes, _ = watch
        for element_check, rule in elements:
            path = element_check(element, today)
            if path is not None:
                yield element, path, rule
        if shapes:
            for path, rule in _shape_faults(element, watch):
                yield element, path, rule
    for document_check, rule in selection.document:
        for element in document_check(document, today):
            yield element, "", rule


def _shape_faults(element: etree._Element, watch: _Watch) -> tuple[tuple[str, Rule], ...]:
    tags = tuple([child.tag for child in element])
    known = watch.known.get(tags)
    if known is None:
        names = tuple(local_name(child) for child in element.iterchildren("*"))  # but for comments
        found = ((shape_check(names), rule) for shape_check, rule in watch.shapes)
        known = tuple((path, rule) for path, rule in found if path is not None)
        if len(watch.known) >= _SHAPES_MAX:
            watch.known.clear()
        # What is remembered must not be as long as a sender likes.
        if len(tags) <= 64:
            watch.known[tags] = known
    return known


#: What others have booked is told as it is.
_STATEMENTS: Final = ("camt.052", "camt.053", "camt.054")
#: Holds what was in a message before; often it is wrong, and that is why it is quoted.
_QUOTED: Final = "/OrgnlTxRef/"


def _in_elements(faults: list[_Fault], places: Places, earlier: list[Finding], *, quotes: bool) -> Iterator[Finding]:
    """Findings for elements, but for what a more particular rule has found before.

    quotes: the whole message tells of others. What is only quoted refuses nothing.
    """
    found = {(RULES[finding.rule].instead_of, finding.xpath) for finding in earlier}
    for element, path, rule in faults:
        xpath = places.path_of(element)
        parent = xpath.rpartition("/")[0]
        if found.isdisjoint({(rule.id, xpath), (rule.id, parent), (rule.id, parent.rpartition("/")[0])}):
            weighed = replace(rule, severity=Severity.WARNING) if quotes or _QUOTED in xpath else rule
            for place in places.at(element, path):
                yield _finding(weighed, place)


def _in_header(header: etree._Element, xpath: str, selection: _Selection, today: date) -> Iterator[Finding]:
    line: int | None = header.sourceline  # type: ignore[assignment] # the stubs give it no type
    for header_check, rule in selection.header:
        path = header_check(header, today)
        if path is not None:
            yield _finding(rule, Place(f"{xpath}/{path}" if path else xpath, line))
