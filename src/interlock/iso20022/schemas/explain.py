"""Findings made of libxml2's errors: one of each place and cause, at its place in the whole tree. Pure."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, NamedTuple

from lxml import etree

from interlock.iso20022.findings import Finding, Severity, short
from interlock.iso20022.schemas.content import ContentModel
from interlock.iso20022.schemas.wording import FACETS, explained, subject
from interlock.iso20022.wrappers import received_name

#: Every schema finding is this one to ISO: ExternalStatusReason1Code FF01, InvalidFileFormat.
_REASON: Final = "FF01"

_STEP: Final = re.compile(r"(?:([^/:\[]+):)?([^/:\[]+)(?:\[(\d+)\])?")


class Error(NamedTuple):
    """One line of libxml2's error log."""

    type_name: str
    message: str
    #: From the element validated: `/*/*[2]/p:Name[1]`; None if libxml2 tells none.
    path: str | None


def errors_of(log: Any) -> list[Error]:
    """What a schema or parser has logged."""
    return [Error(entry.type_name, entry.message, entry.path) for entry in log]


def findings_of(
    errors: Sequence[Error], element: etree._Element, model: ContentModel, findings_max: int
) -> tuple[Finding, ...]:
    """Findings of the errors, one of each place and cause; at the bound the last says how many errors are left out."""
    findings: list[Finding] = []
    causes: dict[tuple[str | None, str, str | None], set[str]] = {}
    for number, error in enumerate(errors):
        about = subject(error.message)
        kind, text = explained(error.type_name, error.message, model.base_of)
        earlier = causes.setdefault((error.path, *about), set())
        if not _repeats(kind, earlier, placed=error.path is not None):
            if len(findings) == findings_max:
                return (*findings[:-1], _left_out(len(errors) - number + 1, element))
            findings.append(_finding(error.path, kind, about, text, element))
        earlier.add(kind)
    return tuple(findings)


def joined(official: Sequence[Finding], restricted: Sequence[Finding], profile: str) -> tuple[Finding, ...]:
    """The findings of ISO's schema, then those of a profile's restricted one.

    Where both find the same at one place the profile's counts: what it asks for is the narrower, so that who does that
    has done both.
    """
    places = {(finding.xpath, finding.rule): finding.text for finding in official}
    said = {
        (finding.xpath, finding.rule): replace(finding, text=f"{finding.text} (So the schema of {profile}.)")
        for finding in restricted
        if places.get((finding.xpath, finding.rule)) != finding.text
    }
    first = [said.pop((finding.xpath, finding.rule), finding) for finding in official]
    return (*first, *said.values())


def _repeats(kind: str, earlier: set[str], *, placed: bool) -> bool:
    """Whether an error says nothing new after the earlier ones of its place (or, without a place, of its name)."""
    if not placed:
        return kind in earlier
    if kind == "datatype":
        return bool(earlier)
    return kind in FACETS and not earlier.isdisjoint({"elements", "nil"})


def _finding(path: str | None, kind: str, about: tuple[str, str | None], text: str, element: etree._Element) -> Finding:
    name, attribute = about
    node = _find(element, path)
    return Finding(
        severity=Severity.ERROR,
        rule=f"schema.{kind}",
        reason=_REASON,
        xpath=_xpath(node) + (f"/@{attribute}" if attribute else ""),
        line=_line(node) if path else None,
        text=f"{f'Attribute {attribute} of {name}' if attribute else name} {text}",
    )


def _line(node: etree._Element) -> int | None:
    line: Any = node.sourceline
    return int(line) if line else None


def _left_out(count: int, element: etree._Element) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        rule="schema.more",
        reason=_REASON,
        xpath=_xpath(element),
        line=None,
        text=f"{count} more schema errors are not listed: mend those above and check again.",
    )


def _find(element: etree._Element, path: str | None) -> etree._Element:
    """The element at libxml2's path, which starts at the element validated and counts as XPath does."""
    node = element
    for step in _STEP.finditer(path.partition("/")[2].partition("/")[2] if path else ""):
        prefix, name, position = step.groups()
        same = (
            child
            for child in node.iterchildren("*" if name == "*" else f"{{*}}{name}")
            if name == "*" or child.prefix == prefix
        )
        found = next(islice(same, int(position or 1) - 1, None), None)
        if found is None:
            return node
        node = found
    return node


def _xpath(element: etree._Element) -> str:
    """Local names from the root of the whole tree, with a position only where a sibling has the same name."""
    steps = [_step(node) for node in (element, *element.iterancestors())]
    return "".join(f"/{step}" for step in reversed(steps))


def _step(node: etree._Element) -> str:
    name = received_name(node)
    elder = sum(1 for _ in node.itersiblings(f"{{*}}{name}", preceding=True))
    if elder or next(node.itersiblings(f"{{*}}{name}"), None) is not None:
        return f"{short(name)}[{elder + 1}]"
    return short(name)
