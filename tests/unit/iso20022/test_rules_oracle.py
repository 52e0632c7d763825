"""The rules on real messages, valid by their schemas, which lie beside the repository where developers have them."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final

import pytest
from stdnum import iban

from interlock.iso20022.envelopes import pinpoint, read
from interlock.iso20022.fields import extract
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.rules import RULES, check
from interlock.iso20022.rules.xml import local_name

SAMPLES: Final = Path(__file__).parents[3].parent / "shared" / "iso20022" / "samples"
TODAY: Final = date(2026, 11, 22)

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no samples at {SAMPLES}"),
]

#: The errors that were looked at, one by one, and are errors: by rule the samples, by the end of their names.
TRUE_ERRORS: Final = {
    # nothing is paid
    "amount.zero": "3b7fa91a 87665443",
    # countries such as EU and OR
    "bic.creditor_agent": "1969332b 50e0eebe 532bafb1 68f8603e db188d97 f5ecb2b6",
    # a country that there is not
    "bic.form": "f33733d8",
    # country ZT
    "bic.instructing_agent": "2dff5700",
    # 111111111, whose check digit is not 1
    "clearing.form": "3d52377f",
    # another number said than there is
    "count.block": "340f5d74",
    # another number said than there is
    "count.message": "1969332b 340f5d74 4c6bcf0c 532bafb1 68f8603e adec9f5a f5ecb2b6",
    # blocks that share a PmtInfId
    "duplicate.block": "340f5d74",
    # another version than the document's
    "header.definition": (
        "3f13f2c5 50fac20e 5b6756a1 6531eed4 6f42ee7f 7b8e4d72 8d2de636 902164c2 9e267bf4 a73d0464 b55936be "
        "d7e435a8 e89470a0 ea54374c ed31054c"
    ),
    # check digits made up
    "iban.creditor": (
        "0de77d48 1784d355 2d425270 35324d50 465f192d 490d7c08 49eda96f 4c6bcf0c 82ba3d4a 880b04ae 88a76d59 "
        "abfd3da1 adec9f5a bfe4d2c6 e069ab78"
    ),
    # check digits made up
    "iban.debtor": (
        "0de77d48 340f5d74 49eda96f 60bd81ad 6cc3eab4 7282cdfc 75c15dec 99c8a886 9a8c4b2b adec9f5a b3da2385 e93e9566"
    ),
    # two days for one payment
    "settlement_date.twice": "2b50de79 56274c5e",
    # another sum said than there is
    "sum.block": "340f5d74",
    # another sum said than there is
    "sum.message": "1969332b 2b50de79 4c6bcf0c 532bafb1 56274c5e 68f8603e f5ecb2b6",
    # another sum said than there is
    "sum.settlement": "2b50de79 56274c5e",
}


def errors() -> Iterator[tuple[str, str, Finding]]:
    """File, the text found, and what our default rules have against it."""
    with (SAMPLES / "INDEX.tsv").open(encoding="utf-8") as index:
        rows = [row for row in csv.DictReader(index, delimiter="\t") if row["expected"] == "valid"]
    for row in rows:
        envelope = read((SAMPLES / row["file"]).read_bytes(), lenient=True)
        if envelope.document is None or envelope.definition is None:
            continue
        found = check(extract(envelope), today=TODAY, document=envelope.document, header=envelope.header)
        for finding in pinpoint(envelope, found):
            if finding.severity is Severity.ERROR:
                yield row["file"].removesuffix(".xml").rpartition("_")[2], row["file"], finding


def test_no_error_that_is_none() -> None:
    """On good messages of others no default rule finds an error but those that we know to be true."""
    found = defaultdict(set)
    for name, _, finding in errors():
        found[finding.rule].add(name)
    assert {rule: " ".join(sorted(names)) for rule, names in sorted(found.items())} == TRUE_ERRORS


def test_ibans_are_bad_by_another_library_too() -> None:
    """Where we find an IBAN wrong, python-stdnum does, which has its own tables."""
    judged = 0
    for _, file, finding in errors():
        if finding.rule.startswith("iban."):
            assert not iban.is_valid(_at(file, finding.xpath))
            judged += 1
    assert judged > 30


def _at(file: str, xpath: str) -> str:
    """The text at a path in local names."""
    envelope = read((SAMPLES / file).read_bytes(), lenient=True)
    assert envelope.document is not None
    element = envelope.document.getroottree().getroot()
    for step in xpath.split("/")[2:]:
        name, _, position = step.rstrip("]").partition("[")
        named = [one for one in element.iterchildren("*") if local_name(one) == name]
        element = named[int(position or 1) - 1]
    return element.text or ""


def test_all_rules_at_once_end() -> None:
    """With every rule on, whatever the profile, each sample is judged, the broken ones too."""
    everything = {rule.id: rule.severity for rule in RULES.values()}
    judged = 0
    for path in SAMPLES.glob("*.xml"):
        envelope = read(path.read_bytes(), lenient=True)
        if envelope.document is not None and envelope.definition is not None:
            check(
                extract(envelope),
                today=TODAY,
                document=envelope.document,
                header=envelope.header,
                settings=everything,
            )
            judged += 1
    assert judged > 200
