"""Verdicts for machines that people work with: SARIF 2.1.0 for code review, JUnit XML for test runners. Pure."""

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from lxml import etree

from interlock import __version__
from interlock.cli.verdicts import Place, Verdict, of_payments, shown
from interlock.iso20022.findings import Severity

_LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning"}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """One run: a rule for each that was broken, a result for each finding."""
    findings = [place.finding for verdict in verdicts for place in verdict.places]
    rules = {finding.rule: finding for finding in findings}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Interlock",
                        "version": __version__,
                        "rules": [
                            {
                                "id": rule,
                                "shortDescription": {"text": finding.text},
                                "properties": {"reason": finding.reason},
                            }
                            for rule, finding in sorted(rules.items())
                        ],
                    }
                },
                "artifacts": [_artifact(verdict) for verdict in verdicts],
                "results": [_result(verdict, place) for verdict in verdicts for place in verdict.places],
            }
        ],
    }


def _artifact(verdict: Verdict) -> dict[str, Any]:
    """A file; where it has more findings than are listed, with the number of all."""
    artifact: dict[str, Any] = {"location": {"uri": _uri(verdict.file)}}
    return artifact | {"properties": {"findings": verdict.findings}} if verdict.more else artifact


def _result(verdict: Verdict, place: Place) -> dict[str, Any]:
    finding = place.finding
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(verdict.file)}}
    if place.line is not None:
        physical["region"] = {"startLine": place.line}
        if place.column is not None:
            physical["region"]["startColumn"] = place.column
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding.xpath not in ("", "/"):
        location["logicalLocations"] = [{"fullyQualifiedName": finding.xpath, "kind": "element"}]
    properties: dict[str, Any] = {"reason": finding.reason}
    if place.times > 1:
        properties["payments"] = place.times
    elif finding.payment is not None:
        properties["payment"] = finding.payment
    return {
        "ruleId": finding.rule,
        "level": _LEVEL[finding.severity],
        "message": {"text": finding.text},
        "locations": [location],
        "properties": properties,
    }


def _uri(file: str) -> str:
    return quote(os.fsencode(PurePath(file).as_posix())) if file != "-" else "stdin"


def junit(verdicts: Iterable[Verdict]) -> bytes:
    """A test case a file: failed where it is not valid, in error where that cannot be said."""
    suite = etree.Element("testsuite", name="interlock validate")
    tests = failures = errors = 0
    for verdict in verdicts:
        tests += 1
        name = " ".join(verdict.definitions) or "message"
        case = etree.SubElement(suite, "testcase", classname=name, name=_printable(shown(verdict.file)))
        lines = [_line(place) for place in verdict.places]
        lines += [f"and {verdict.more} more findings"] if verdict.more else []
        told = "\n".join(lines)
        if verdict.valid is False:
            failures += 1
            _add(case, "failure", lines, told)
        elif verdict.valid is None:
            errors += 1
            _add(case, "error", lines, told)
        elif told:
            etree.SubElement(case, "system-out").text = told
    suite.set("tests", str(tests))
    suite.set("failures", str(failures))
    suite.set("errors", str(errors))
    root = etree.Element("testsuites")
    root.append(suite)
    return etree.tostring(root, xml_declaration=True, encoding="utf-8", pretty_print=True)


def _add(case: etree._Element, kind: str, lines: Sequence[str], told: str) -> None:
    element = etree.SubElement(case, kind, message=lines[0] if lines else "not valid", type="interlock")
    element.text = told


def _line(place: Place) -> str:
    finding = place.finding
    at = "" if place.line is None else f"line {place.line}: "
    told = f"{finding.text}{of_payments(place)} [{finding.xpath}]"
    return _printable(f"{at}{finding.severity.value} {finding.rule} ({finding.reason}): {told}")


def _printable(text: str) -> str:
    """XML has no control characters, and a file's name may hold any."""
    return "".join(char if char.isprintable() else "?" for char in text)
