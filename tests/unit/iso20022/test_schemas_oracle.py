"""The compiled schemas against the official ones, which lie beside the repository where the developers have them."""

import csv
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from lxml import etree

from interlock.iso20022.schemas import Catalogue, definition_of_namespace

ORACLE: Final = Path(__file__).parents[3].parent / "shared" / "iso20022"
XS: Final = "{http://www.w3.org/2001/XMLSchema}"
#: Versions of the extra package that no official file is at hand for.
NOT_COMPARED: Final = {"camt.088.001.02", "camt.105.001.02", "camt.106.001.02"}

#: What a type is: nested tuples of plain words; references to other types stay names.
Shape: TypeAlias = tuple[object, ...]

#: Compiled schemas, so that each is compiled once; gone with the process.
CACHE: Final = tempfile.TemporaryDirectory(prefix="interlock-oracle-")
CATALOGUE: Final = Catalogue(cache=Path(CACHE.name), loaded_max=500)
KNOWN: Final = [definition.name for definition in CATALOGUE.definitions()]

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not (ORACLE / "xsd").is_dir(), reason=f"no official schemas at {ORACLE}"),
]


class Schema:
    """A schema as shapes of its types: what decides a verdict, without annotations, prefixes and simple type names."""

    def __init__(self, text: bytes) -> None:
        self.root = etree.fromstring(text)
        self._named = {node.get("name"): node for node in self.root if node.get("name")}

    def elements(self) -> dict[str, str]:
        """Global elements and their types."""
        return {str(node.get("name")): str(node.get("type")) for node in self.root.iterchildren(f"{XS}element")}

    def shape(self, type_name: str) -> Shape:
        """A complex type's content, or a simple type's base and facets."""
        if type_name.startswith("xs:"):
            return ("simple", type_name)
        node = self._named[type_name]
        if node.tag == f"{XS}simpleType":
            return self._simple(node)
        extension = node.find(f"{XS}simpleContent/{XS}extension")
        if extension is not None:
            return ("value", self.shape(str(extension.get("base"))), *map(self._attribute, extension))
        (group,) = node.iterchildren(f"{XS}*")
        return ("complex", *self._group(group))

    def _simple(self, node: etree._Element) -> Shape:
        (restriction,) = node.iterchildren(f"{XS}restriction")
        facets = sorted((etree.QName(facet).localname, str(facet.get("value"))) for facet in restriction)
        return ("simple", str(restriction.get("base")), *facets)

    def _attribute(self, node: etree._Element) -> Shape:
        return ("attribute", str(node.get("name")), str(node.get("use")), self.shape(str(node.get("type"))))

    def _group(self, node: etree._Element) -> Shape:
        members = [self._particle(child) for child in node.iterchildren(f"{XS}*")]
        if len(members) == 1 and members[0][0] in ("choice", "sequence") and not node.attrib:
            return members[0]  # A group that holds one group alone says no more than that one.
        return (etree.QName(node).localname, *self._occurs(node), *members)

    def _particle(self, node: etree._Element) -> Shape:
        if node.tag == f"{XS}any":
            return ("any", *self._occurs(node), node.get("namespace"), node.get("processContents"))
        if node.tag == f"{XS}element":
            return ("element", *self._occurs(node), str(node.get("name")), str(node.get("type")))
        return self._group(node)

    @staticmethod
    def _occurs(node: etree._Element) -> tuple[str, str]:
        return str(node.get("minOccurs", "1")), str(node.get("maxOccurs", "1"))


def differences(ours: Schema, official: Schema) -> Iterator[str]:
    """Walk both schemas from their global elements; every pair of types that meet must have the same shape."""
    if ours.root.get("targetNamespace") != official.root.get("targetNamespace"):
        yield f"namespace {ours.root.get('targetNamespace')} is officially {official.root.get('targetNamespace')}"
    if ours.elements().keys() != official.elements().keys():
        yield f"global elements {list(ours.elements())} are officially {list(official.elements())}"
        return
    todo = [(kind, official.elements()[name], name) for name, kind in ours.elements().items()]
    seen = set()
    while todo:
        our_type, official_type, path = todo.pop()
        if (our_type, official_type) in seen:
            continue
        seen.add((our_type, official_type))
        one, other = ours.shape(our_type), official.shape(official_type)
        if _without_types(one) != _without_types(other):
            yield f"{path}: {_without_types(one)} is officially {_without_types(other)}"
        else:
            pairs = zip(_element_types(one), _element_types(other), strict=True)
            todo += [(mine, theirs, f"{path}/{name}") for (name, mine), (_, theirs) in pairs]


def _without_types(shape: Shape) -> Shape:
    if shape[0] == "element":
        return shape[:-1]
    return tuple(_without_types(part) if isinstance(part, tuple) and part else part for part in shape)


def _element_types(shape: Shape) -> Iterator[tuple[str, str]]:
    if shape[0] == "element":
        yield str(shape[-2]), str(shape[-1])
        return
    for part in shape:
        if isinstance(part, tuple) and part:
            yield from _element_types(part)


def official(definition: str) -> Schema:
    return Schema((ORACLE / "xsd" / f"{definition}.xsd").read_bytes())


@pytest.mark.parametrize("definition", KNOWN)
def test_compiled_is_structurally_official(definition: str) -> None:
    """From the global element down, a compiled schema says what the official one says."""
    if not (ORACLE / "xsd" / f"{definition}.xsd").exists():
        pytest.skip("no official schema of this version")
    assert list(differences(Schema(CATALOGUE.xsd(definition)), official(definition))) == []


def test_all_versions_are_compared() -> None:
    """The comparison above covers every version of the catalogue but three, and these are at least 272."""
    compared = {name for name in KNOWN if (ORACLE / "xsd" / f"{name}.xsd").exists()}
    assert len(compared) >= 272
    assert {*KNOWN} - compared <= NOT_COMPARED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<xs:maxLength value="35"/>', b'<xs:maxLength value="36"/>'),
        (b'<xs:fractionDigits value="5"/>', b""),
        (b'base="xs:dateTime"', b'base="xs:date"'),
        (b'name="UETR"', b'name="UETRX"'),
        (b'<xs:element name="IBAN"', b'<xs:element minOccurs="0" name="IBAN"'),
        (b'maxOccurs="unbounded"', b'maxOccurs="9"'),
        (b'<xs:enumeration value="SLEV"/>', b""),
        (b'processContents="lax"', b'processContents="skip"'),
        (b'use="required"', b'use="optional"'),
        (b"xs:choice>", b"xs:sequence>"),
    ],
)
def test_comparison_sees_changes(before: bytes, after: bytes) -> None:
    """The structural comparison is no rubber stamp: a changed facet, order, occurrence or group is a difference."""
    text = (ORACLE / "xsd" / "pacs.008.001.08.xsd").read_bytes()
    assert before in text
    assert list(differences(Schema(text.replace(before, after)), Schema(text)))


def samples() -> Iterator[dict[str, str]]:
    index = ORACLE / "samples" / "INDEX.tsv"
    if index.exists():
        with index.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


def parts(root: etree._Element) -> Iterator[tuple[str, etree._Element]]:
    """Every ISO 20022 header and document, wherever it is, with its version."""
    for part in root.iter("{*}AppHdr", "{*}Document"):
        if definition := definition_of_namespace(etree.QName(part).namespace or ""):
            yield definition, part


def parse(file: str) -> etree._Element | None:
    try:
        return etree.fromstring((ORACLE / "samples" / file).read_bytes(), etree.XMLParser(resolve_entities=False))
    except etree.XMLSyntaxError:
        return None


def verdict(catalogue: Catalogue, file: str) -> str:
    """What the catalogue says of every header and document in the file; NOSCHEMA if it lacks one, or there is none."""
    root = parse(file)
    if root is None:
        return "malformed"
    found = list(parts(root))
    if not found or not all(catalogue.knows(definition) for definition, _ in found):
        return "NOSCHEMA"
    valid = [catalogue.validate(definition, part) == () for definition, part in found]
    return "valid" if all(valid) else "invalid"


def test_verdicts_on_samples_are_official() -> None:
    """Every sample whose versions we have gets the verdict of the official schemas."""
    ours = {sample["file"]: verdict(CATALOGUE, sample["file"]) for sample in samples()}
    judged = {file for file, value in ours.items() if value != "NOSCHEMA" and not definitions(file) & NOT_COMPARED}
    assert len(judged) >= 240
    assert {file: ours[file] for file in judged} == {
        sample["file"]: sample["expected"] for sample in samples() if sample["file"] in judged
    }


def test_errors_on_samples_are_official() -> None:
    """The compiled schema finds the same errors at the same places as the official one, not only the same verdict."""
    compared = 0
    for sample in samples():
        root = parse(sample["file"])
        for definition, part in parts(root) if root is not None else ():
            if not CATALOGUE.knows(definition) or definition in NOT_COMPARED:
                continue
            compiled, theirs = both(definition)
            assert errors(compiled, part) == errors(theirs, part), sample["file"]
            compared += 1
    assert compared >= 300


@cache
def both(definition: str) -> tuple[etree.XMLSchema, etree.XMLSchema]:
    """The compiled and the official schema."""
    return etree.XMLSchema(etree.fromstring(CATALOGUE.xsd(definition))), etree.XMLSchema(official(definition).root)


def errors(schema: etree.XMLSchema, part: etree._Element) -> list[tuple[str, str]]:
    schema.validate(part)
    log: Any = schema.error_log
    return [(entry.type_name, entry.path) for entry in log]


def test_official_schemas_as_user_folder() -> None:
    """With the official files as an operator's folder each of the 282 samples gets the verdict that is expected of it.

    What the official files have no schema for is unknown here too, unless the extra package has it.
    """
    catalogue = Catalogue(user=ORACLE / "xsd")
    expected = {sample["file"]: sample["expected"] for sample in samples()}
    assert len(expected) == 282
    differing = {
        file: (found, wanted) for file, wanted in expected.items() if (found := verdict(catalogue, file)) != wanted
    }
    extra = {file for file in differing if definitions(file) & NOT_COMPARED & {*KNOWN}}
    assert {file: differing[file] for file in differing.keys() - extra} == {}


def definitions(file: str) -> set[str]:
    root = parse(file)
    return {definition for definition, _ in parts(root)} if root is not None else set()
