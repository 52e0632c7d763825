"""Our schemas against the official ones, message by message: each random one gets the same verdict from both.

In `make test` every sixth version takes part, with some thousands of messages. INTERLOCK_DIFFERENTIAL=SEED tries every
version with 330 messages each, drawn from that seed: 120,000 in about two minutes of a core.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from lxml import etree

from interlock.iso20022.schemas import Catalogue
from tests.instances import Instances

OFFICIAL: Final = Path(__file__).parents[2].parent / "shared" / "iso20022" / "xsd"
SEED: Final = os.environ.get("INTERLOCK_DIFFERENTIAL", "")
#: Valid messages of a version, and mutants of each.
VALID, MUTANTS = (30, 10) if SEED else (8, 8)

CATALOGUE: Final = Catalogue()
COMPARED: Final = [
    definition.name for definition in CATALOGUE.definitions() if (OFFICIAL / f"{definition.name}.xsd").exists()
]
#: The versions that most schemes use come always.
ALWAYS: Final = {"head.001.001.02", "pacs.002.001.10", "pacs.008.001.08", "pain.001.001.09", "pain.008.001.08"}

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"no official schemas at {OFFICIAL}"),
]


@cache
def official(definition: str) -> bytes:
    return (OFFICIAL / f"{definition}.xsd").read_bytes()


def messages(definition: str) -> Iterator[etree._Element]:
    """Valid messages, each followed by its mutants, as their receiver would have them: written and read again."""
    drawn = Instances(official(definition), CATALOGUE.definition(definition).root, Random(f"{definition} {SEED}"))
    for _ in range(VALID):
        valid = drawn.valid()
        yield etree.fromstring(etree.tostring(valid))
        for _ in range(MUTANTS):
            yield etree.fromstring(etree.tostring(drawn.mutant(valid)))


def errors(schema: etree.XMLSchema, message: etree._Element) -> set[tuple[str, str]]:
    """Kind and place of each error: more than the verdict, and none where it is valid."""
    schema.validate(message)
    log: Any = schema.error_log
    return {(entry.type_name, entry.path) for entry in log}


def disagreement(ours: bytes, definition: str) -> str | None:
    """The first message that the two schemas judge differently."""
    compiled, theirs = (etree.XMLSchema(etree.fromstring(text)) for text in (ours, official(definition)))
    for message in messages(definition):
        if errors(compiled, message) != errors(theirs, message):
            return etree.tostring(message, encoding="unicode")
    return None


@pytest.mark.parametrize(
    "definition", [name for number, name in enumerate(COMPARED) if SEED or number % 6 == 0 or name in ALWAYS]
)
def test_verdicts_are_those_of_the_official_schema(definition: str) -> None:
    """Valid messages and broken ones get the same errors at the same places from our schema and the official one."""
    assert disagreement(CATALOGUE.xsd(definition), definition) is None


@pytest.mark.parametrize("definition", sorted(ALWAYS & {*COMPARED}))
def test_messages_are_of_both_kinds(definition: str) -> None:
    """What is drawn as valid is valid; of the mutants most are not and some are; and they are not all alike."""
    theirs = etree.XMLSchema(etree.fromstring(official(definition)))
    found = [errors(theirs, message) for message in messages(definition)]
    assert not any(found[:: MUTANTS + 1])
    mutants = [one for number, one in enumerate(found) if number % (MUTANTS + 1)]
    assert len(mutants) * 0.4 < sum(map(bool, mutants)) < len(mutants)
    assert len({kind for one in mutants for kind, _ in one}) >= 5


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<xs:maxLength value="35"/>', b'<xs:maxLength value="36"/>'),
        (b'<xs:minLength value="1"/>', b""),
        (b'<xs:element name="Nm" ', b'<xs:element name="Nme" '),
        (b'<xs:enumeration value="CLRG"/>', b""),
        (b"choice>", b"sequence>"),
        (b' minOccurs="0"', b""),
        (b'use="required"', b'use="optional"'),
        (b'maxOccurs="unbounded"', b'maxOccurs="1"'),
    ],
)
def test_a_wrong_schema_is_found_out(before: bytes, after: bytes) -> None:
    """The messages are varied enough that a compiler that lost a facet, an element or a group would be caught."""
    right = CATALOGUE.xsd("pacs.008.001.08")
    assert before in right
    assert disagreement(right.replace(before, after), "pacs.008.001.08") is not None
