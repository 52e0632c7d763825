"""Holding a message against one edition of a profile. Pure.

What is to be looked for is compiled once for each edition and namespace. A message without fault costs one XPath that
says so, and one search for characters; only where something is wrong is looked for what and where.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, NamedTuple

from lxml import etree

from interlock.iso20022.envelopes import path_of
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Original, OriginalPayment
from interlock.iso20022.profiles import paths
from interlock.iso20022.profiles.facts import (
    HEADER,
    Amount,
    Characters,
    CharacterSet,
    Checks,
    Codes,
    Count,
    Demand,
    Forbidden,
    Length,
    Mandatory,
    Mark,
    Matching,
    Placed,
)
from interlock.iso20022.profiles.patterns import Matches, matching
from interlock.iso20022.profiles.wording import currencies, said
from interlock.iso20022.rules.amounts import amount_element
from interlock.iso20022.rules.places import Places


class Kind(NamedTuple):
    """A kind of finding: its id, and the ISO reason where a profile names none."""

    rule: str
    reason: str


VERSION: Final = Kind("profile.version", "FF01")
UNLISTED: Final = Kind("profile.message", "FF01")
NO_HEADER: Final = Kind("profile.header", "FF01")
#: More than one kind can be behind a demand: an amount's currency is one, and its size another.
KINDS: Final[dict[type[Demand], Kind]] = {
    Mandatory: Kind("profile.mandatory", "TD03"),
    Forbidden: Kind("profile.forbidden", "TD03"),
    Codes: Kind("profile.code", "TD03"),
    Length: Kind("profile.length", "TD03"),
    Count: Kind("profile.count", "TD03"),
    Matching: Kind("profile.pattern", "TD03"),
    Characters: Kind("profile.characters", "RR10"),
}
CURRENCY: Final = Kind("profile.currency", "AM03")
TOO_MUCH: Final = Kind("profile.amount", "AM02")
TOO_LITTLE: Final = Kind("profile.amount", "AM12")
#: Every id that a finding of a profile can have, and what it says.
RULES: Final = {
    VERSION.rule: "a version of the message that the profile does not use on that day",
    UNLISTED.rule: "a message that the profile does not list",
    NO_HEADER.rule: "a business application header that the profile demands and that is not there",
    "profile.mandatory": "an element that the profile demands is not there",
    "profile.forbidden": "an element that the profile does not allow",
    "profile.code": "a code that is not one of the profile's",
    "profile.count": "an element occurs more often than the profile allows",
    "profile.length": "a text is longer than the profile allows",
    "profile.pattern": "a text does not have the form that the profile demands",
    "profile.characters": "a character that is not in the profile's set",
    CURRENCY.rule: "a currency that the profile does not settle",
    TOO_MUCH.rule: "an amount outside the profile's limits",
}

#: Where a message has more payments its expressions are not those of single payments: an XPath serves one thread at a
#: time, and a single payment must not wait until a large message has been looked through.
_FEW: Final = 50
#: Of one demand: a profile that everything breaks must not make a hundred thousand findings of one message.
_FINDINGS_MAX: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A demand as an edition holds it: with the weight and reason that it has here."""

    demand: Demand
    kind: Kind
    severity: Severity
    mark: Mark

    @property
    def reason(self) -> str:
        """ISO reason of a rejection for it."""
        return self.demand.reason or self.kind.reason


class _Searched(NamedTuple):
    """A demand on characters, on the texts that an XPath gives, or on all."""

    held: Held
    nodes: etree.XPath | None
    #: What must not be found.
    strange: re.Pattern[str]


class _Patterned(NamedTuple):
    """A demand on the form of the texts that an XPath gives."""

    held: Held
    nodes: etree.XPath
    matches: Matches


class _Compiled(NamedTuple):
    """What is looked for in documents of one namespace."""

    #: Whether any of `placed` is at fault; nearly always one expression.
    quick: tuple[etree.XPath, ...]
    placed: tuple[tuple[Held, etree.XPath], ...]
    searched: tuple[_Searched, ...]
    patterned: tuple[_Patterned, ...]
    amounts: tuple[Held, ...]


#: All text of an element, without that of the attributes.
_TEXT: Final = etree.XPath("string()")
_TEXT_OF_MANY: Final = etree.XPath("string()")


class Checker:
    """The demands of one edition."""

    def __init__(self, name: str, checks: Checks, marks: dict[int, Mark], sets: dict[str, CharacterSet]) -> None:
        """name: as findings call it; marks: of each fact, by identity."""
        self._name = name
        self._checks = checks
        self._held = tuple(self._hold(demand, marks) for demand in checks.demands if demand.severity != "off")
        self._sets = sets
        self._marks = marks
        self._compiled: dict[tuple[str, str, bool], _Compiled] = {}

    def _hold(self, demand: Demand, marks: dict[int, Mark]) -> Held:
        mark = marks[id(demand)]
        severity = mark.severity if demand.severity is None else Severity(demand.severity)
        kind = CURRENCY if isinstance(demand, Amount) else KINDS[type(demand)]
        return Held(demand=demand, kind=kind, severity=severity, mark=mark)

    @property
    def held(self) -> tuple[Held, ...]:
        """All demands."""
        return self._held

    def findings(
        self, original: Original, document: etree._Element | None, header: etree._Element | None
    ) -> list[Finding]:
        """Everything that the message breaks; without the elements, what can be said of its fields."""
        findings = self._of_version(original)
        if header is None and original.header is None:
            self._miss_header(original, findings)
        if document is not None and len(document):
            compiled = self._compile(document.tag, original.definition, is_many=len(original.payments) > _FEW)
            findings.extend(self._in_document(compiled, original, document))
            for held in compiled.amounts:
                findings.extend(self._of_amounts(held, original))
        if header is not None and original.header is not None:
            findings.extend(self._in_header(original, header))
        return findings[:_FINDINGS_MAX]

    # -- which message --

    def _of_version(self, original: Original) -> list[Finding]:
        definition = original.definition
        found: list[Finding] = []
        header = original.header
        if header is not None and HEADER in self._checks.versions:
            found.extend(self._judge_version(HEADER, header.definition, header.xpath, header.line))
        if definition[:8] in self._checks.versions:
            found.extend(self._judge_version(definition[:8], definition, "/", None))
        elif self._checks.versions:
            unlisted = self._checks.unlisted
            severity = Severity.WARNING if unlisted is None else unlisted.severity
            if severity != "off":
                listed = ", ".join(sorted(family for family in self._checks.versions if family != HEADER))
                text = f"{definition[:8]} is none of its messages, which are {listed}"
                found.append(self._finding(UNLISTED, Severity(severity), UNLISTED.reason, "/", None, text))
        return found

    def _judge_version(self, family: str, definition: str, xpath: str, line: int | None) -> Iterator[Finding]:
        versions = self._checks.versions[family]
        if definition not in versions.accepted:
            text = f"{definition} is not in use; send {' or '.join(versions.accepted)}"
            yield self._finding(VERSION, self._marks[id(versions)].severity, VERSION.reason, xpath, line, text)

    def _miss_header(self, original: Original, findings: list[Finding]) -> None:
        header = self._checks.header
        if header is not None and header.demanded:
            severity = header.severity or self._marks[id(header)].severity
            text = "there must be a business application header, AppHdr, beside the Document: add it"
            findings.append(self._finding(NO_HEADER, severity, NO_HEADER.reason, "/", original.line, text))

    # -- what is in it --

    def _compile(self, tag: str, definition: str, *, is_many: bool = False) -> _Compiled:
        key = (tag, definition, is_many)
        known = self._compiled.get(key)
        if known is None:
            known = self._compiled[key] = self._make(tag.rpartition("}")[0][1:], definition)
        return known

    def _make(self, namespace: str, definition: str) -> _Compiled:
        def xpath(expression: str) -> etree.XPath:
            return etree.XPath(expression, namespaces={paths.PREFIX: namespace} if namespace else None)

        placed: list[tuple[Held, paths.Fault]] = []
        searched: list[_Searched] = []
        patterned: list[_Patterned] = []
        amounts: list[Held] = []
        for held in self._held:
            demand = held.demand
            if not _is_about(demand, definition):
                continue
            if isinstance(demand, Amount):
                amounts.append(held)
            elif isinstance(demand, Characters):
                nodes = xpath(paths.looked_at(demand)) if demand.paths else None
                searched.append(_Searched(held, nodes, re.compile(self._sets[demand.set].strange)))
            elif isinstance(demand, Matching):
                patterned.append(_Patterned(held, xpath(paths.looked_at(demand)), matching(demand.pattern)))
            elif isinstance(demand, Placed) and (fault := paths.fault(demand)) is not None:
                placed.append((held, fault))
        return _Compiled(
            quick=tuple(xpath(each) for each in paths.joined(fault for _, fault in placed)),
            placed=tuple((held, xpath(fault.elements)) for held, fault in placed),
            searched=tuple(searched),
            patterned=tuple(patterned),
            amounts=tuple(amounts),
        )

    def _in_document(self, compiled: _Compiled, original: Original, document: etree._Element) -> Iterator[Finding]:
        is_many = len(original.payments) > _FEW
        faults = list(_faults(compiled, document[0], _TEXT_OF_MANY if is_many else _TEXT))
        if not faults:
            return
        places = Places(original, document)
        for held, element, path in faults:
            for place in places.at(element, path):
                yield self._broken(held, place.xpath, place.line, place.payment)

    def _in_header(self, original: Original, header: etree._Element) -> Iterator[Finding]:
        definition = "" if original.header is None else original.header.definition
        for held, element, path in _faults(self._compile(header.tag, definition), header, _TEXT):
            xpath = f"{path_of(element)}/{path}" if path else path_of(element)
            line: int | None = element.sourceline  # type: ignore[assignment] # the stubs give it no type
            yield self._broken(held, xpath, line, None)

    def _of_amounts(self, held: Held, original: Original) -> Iterator[Finding]:
        demand = held.demand
        assert isinstance(demand, Amount)  # the compiled ones are
        for payment in original.payments:
            amount = payment.decimal
            if demand.currencies and payment.currency not in demand.currencies:
                yield self._of_payment(held, CURRENCY, payment, currencies(demand.currencies))
            elif amount is not None and demand.max is not None and amount > demand.max:
                text = f"the amount is above {demand.max:f}, the most that is settled in one payment"
                yield self._of_payment(held, TOO_MUCH, payment, text)
            elif amount is not None and demand.min is not None and amount < demand.min:
                yield self._of_payment(held, TOO_LITTLE, payment, f"the amount must be {demand.min:f} or more")

    def _of_payment(self, held: Held, kind: Kind, payment: OriginalPayment, text: str) -> Finding:
        reason, text = held.demand.reason or kind.reason, held.demand.text or text
        xpath = f"{payment.xpath}/{amount_element(payment)}{'/@Ccy' if kind is CURRENCY else ''}"
        return self._finding(kind, held.severity, reason, xpath, payment.line, text, payment.ordinal)

    def _broken(self, held: Held, xpath: str, line: int | None, payment: int | None) -> Finding:
        text = held.demand.text or said(held.demand)
        return self._finding(held.kind, held.severity, held.reason, xpath, line, text, payment)

    def _finding(
        self, kind: Kind, severity: Severity, reason: str, xpath: str, line: int | None, text: str,
        payment: int | None = None,
    ) -> Finding:  # fmt: skip
        text = f"{self._name}: {text.removesuffix('.')}."
        return Finding(
            severity=severity, rule=kind.rule, reason=reason, xpath=xpath, line=line, text=text, payment=payment
        )


def _is_about(demand: Demand, definition: str) -> bool:
    """Whether a demand is made of such messages; of headers only where it says so."""
    if not demand.messages:
        return not definition.startswith(HEADER)
    return definition.startswith(demand.messages)


def _faults(
    compiled: _Compiled, body: etree._Element, text_of: etree.XPath
) -> Iterator[tuple[Held, etree._Element, str]]:
    """Each demand that is broken, with the element and, where that is what should hold another, the path from it."""
    if any(quick(body) for quick in compiled.quick):
        for held, expression in compiled.placed:
            demand = held.demand
            path = demand.path if isinstance(demand, Mandatory | Count) else ""
            for found in islice(_elements(expression, body), _FINDINGS_MAX):
                yield held, found, path
    for searched in compiled.searched:
        for element in islice(_strange(searched, body, text_of), _FINDINGS_MAX):
            yield searched.held, element, ""
    for patterned in compiled.patterned:
        for held, element in islice(_mismatched(patterned, body), _FINDINGS_MAX):
            yield held, element, ""


def _strange(searched: _Searched, body: etree._Element, text_of: etree.XPath) -> Iterator[etree._Element]:
    """The elements whose text has strange characters; all of a message's texts take one search."""
    _, nodes, strange = searched
    looked_at: Iterable[etree._Element]
    if nodes is not None:
        looked_at = _elements(nodes, body)
    else:
        looked_at = body.iter() if strange.search(str(text_of(body))) else ()
    for element in looked_at:
        text = element.text
        if text is not None and strange.search(text):
            yield element


#: Instead of the demand's own text.
_SLOW: Final = (
    "this text cannot be told from its form in reasonable time; whoever keeps the profile must make the pattern simpler"
)


def _mismatched(patterned: _Patterned, body: etree._Element) -> Iterator[tuple[Held, etree._Element]]:
    """The elements whose text has another form; no further than one that takes too long."""
    held, nodes, matches = patterned
    for element in _elements(nodes, body):
        text = element.text
        try:
            if text is not None and not matches(text):
                yield held, element
        except TimeoutError:
            yield replace(held, demand=held.demand.model_copy(update={"text": _SLOW})), element
            return


def _elements(expression: etree.XPath, body: etree._Element) -> Iterator[etree._Element]:
    """The elements that an XPath gives; an attribute stands for the element that has it."""
    found: Any = expression(body)  # the expressions are node sets
    for one in found:
        # A string is the value of an attribute, and knows whose.
        yield one if hasattr(one, "tag") else one.getparent()
