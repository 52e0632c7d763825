"""What is said of random broken messages: always what to do, and never what was sent."""

import re
from random import Random
from typing import Final

import pytest
from lxml import etree

from interlock.iso20022.findings import Severity
from interlock.iso20022.schemas import Catalogue
from interlock.iso20022.schemas.wording import KINDS
from tests.instances import NASTY, XSI, Instances

CATALOGUE: Final = Catalogue()
CANARY: Final = "Zqx7Canary"
#: What must never be told, in shapes that libxml2's own words have too.
HOSTILE: Final = (
    CANARY,
    f"{CANARY}' by the pattern '{CANARY}'.",
    f"x' is not an element of the set {{'{CANARY}'}}.",
    f"' allowed ('{CANARY}').",
    f"{CANARY}' is required but missing.",
    f"Missing child element(s). Expected is ( {CANARY} ).",
    f"Element '{CANARY}', attribute '{CANARY}'",
    f"minimum length of '{CANARY}'.",
    f"of the atomic type '{CANARY}'.",
    f"2026-01-31{CANARY}\n<&\u00e9",
)


def poisoned(message: etree._Element, random: Random) -> None:
    """The canary into values, attributes and between elements, in some of the shapes."""
    for node in message.iter(etree.Element):
        if random.random() < 0.3:
            node.text = random.choice(HOSTILE)
        if node is not message and random.random() < 0.1:
            node.tail = random.choice(HOSTILE)
        if random.random() < 0.2:
            name = random.choice([*node.attrib, f"{{{XSI}}}type", f"{{{XSI}}}nil"])
            node.set(name, random.choice(HOSTILE))


@pytest.mark.parametrize(
    "definition",
    ["pacs.008.001.08", "pain.001.001.09", "camt.053.001.08", "pacs.008.001.01", "head.001.001.02", "camt.029.001.09"],
)
def test_findings_say_what_to_do_and_nothing_of_the_message(definition: str) -> None:
    """Each finding is of a known kind, a sentence about an element, and free of every value, wherever it stood."""
    random = Random(definition)
    drawn = Instances(CATALOGUE.xsd(definition), CATALOGUE.definition(definition).root, random)
    kinds = set()
    for _ in range(60):
        message = drawn.mutant(drawn.valid())
        poisoned(message, random)
        received = etree.fromstring(etree.tostring(message))
        for finding in CATALOGUE.validate(definition, received):
            kind = finding.rule.removeprefix("schema.")
            kinds.add(kind)
            assert CANARY not in finding.text + finding.xpath
            assert re.fullmatch(r"[^\n]{10,}\.", finding.text), finding.text
            assert (finding.severity, finding.reason, finding.line is None) == (Severity.ERROR, "FF01", kind == "more")
            assert kind in KINDS - {"other"}, finding
    assert len(kinds) >= 6


def test_same_message_same_findings() -> None:
    """A message has the same findings however often it is judged, and by whichever catalogue."""
    random = Random(7)
    drawn = Instances(CATALOGUE.xsd("pacs.008.001.08"), "Document", random)
    messages = [etree.tostring(drawn.mutant(drawn.valid())) for _ in range(40)]
    said = [CATALOGUE.validate("pacs.008.001.08", etree.fromstring(message)) for message in messages]
    assert any(said)
    for catalogue in (CATALOGUE, Catalogue()):
        assert [catalogue.validate("pacs.008.001.08", etree.fromstring(message)) for message in messages] == said


@pytest.mark.parametrize("value", NASTY)
def test_no_value_is_repeated(value: str) -> None:
    """Values that look like nothing special are not repeated either."""
    namespace = "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"
    message = etree.fromstring(
        f'<Document xmlns="{namespace}"><FIToFICstmrCdtTrf><GrpHdr/></FIToFICstmrCdtTrf></Document>'
    )
    marked = f"{value}{CANARY}"
    for name in ("MsgId", "CreDtTm", "NbOfTxs", "CtrlSum", "TtlIntrBkSttlmAmt", "IntrBkSttlmDt"):
        etree.SubElement(message[0][0], f"{{{namespace}}}{name}", Ccy=marked).text = marked
    findings = CATALOGUE.validate("pacs.008.001.08", message)
    assert findings
    assert not [finding for finding in findings if CANARY in finding.text]
