"""Schemas: what is valid, what is said of what is not, and where schemas come from."""

import re
import threading
from pathlib import Path
from typing import Final

import pytest
from lxml import etree

from interlock.errors import ConfigError
from interlock.iso20022 import schemas
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.schemas import Catalogue, Source, UserSchemaError, definition_of_namespace

PACS_008: Final = "pacs.008.001.08"
NAMESPACE: Final = f"urn:iso:std:iso:20022:tech:xsd:{PACS_008}"

PAYMENT: Final = """<CdtTrfTxInf>
    <PmtId><EndToEndId>E1</EndToEndId></PmtId>
    <IntrBkSttlmAmt Ccy="EUR">12.34</IntrBkSttlmAmt>
    <IntrBkSttlmDt>2026-01-31</IntrBkSttlmDt>
    <ChrgBr>SLEV</ChrgBr>
    <Dbtr><Nm>Anna Test</Nm></Dbtr>
    <DbtrAgt><FinInstnId><BICFI>AAAADEFFXXX</BICFI></FinInstnId></DbtrAgt>
    <CdtrAgt><FinInstnId><BICFI>BBBBDEFFXXX</BICFI></FinInstnId></CdtrAgt>
    <Cdtr><Nm>Bert Test</Nm></Cdtr>
  </CdtTrfTxInf>"""

DOCUMENT: Final = f"""<Document xmlns="{NAMESPACE}"><FIToFICstmrCdtTrf>
  <GrpHdr>
    <MsgId>M1</MsgId>
    <CreDtTm>2026-01-31T09:30:00Z</CreDtTm>
    <NbOfTxs>1</NbOfTxs>
    <SttlmInf><SttlmMtd>CLRG</SttlmMtd></SttlmInf>
  </GrpHdr>
  {PAYMENT}
</FIToFICstmrCdtTrf></Document>"""

USER_SCHEMA: Final = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="{namespace}"
    targetNamespace="{namespace}" elementFormDefault="qualified">
  {more}
  <xs:element name="Document" type="Document"/>
  <xs:complexType name="Document"><xs:sequence>
    <xs:element name="Only" type="Max3" maxOccurs="2"/><xs:element name="Day" type="xs:date" minOccurs="0"/>
  </xs:sequence></xs:complexType>
  {max3}
</xs:schema>"""
MAX3: Final = """<xs:simpleType name="Max3"><xs:restriction base="xs:string">
    <xs:maxLength value="3"/></xs:restriction></xs:simpleType>"""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def user_schema(namespace: str = NAMESPACE, *, more: str = "", max3: str = MAX3) -> str:
    return USER_SCHEMA.format(namespace=namespace, more=more, max3=max3)


def changed(before: str, after: str) -> etree._Element:
    """The valid document with one change."""
    assert before in DOCUMENT
    return etree.fromstring(DOCUMENT.replace(before, after))


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding


# What there is


def test_definitions_are_sorted_and_of_all_payment_families(catalogue: Catalogue) -> None:
    """The catalogue lists its versions by name, of every family, without compiling one."""
    names = [definition.name for definition in catalogue.definitions()]
    assert names == sorted(names)
    assert {name[:4] for name in names} == {"admi", "camt", "head", "pacs", "pain", "remt"}
    assert len(names) == 272


def test_definition_tells_namespace_and_root(catalogue: Catalogue) -> None:
    """A header's root is AppHdr, any other's Document; the two oldest namespaces lack `tech`."""
    by_name = {definition.name: definition for definition in catalogue.definitions()}
    assert by_name["head.001.001.02"].root == "AppHdr"
    assert by_name[PACS_008].root == "Document"
    assert by_name[PACS_008].namespace == NAMESPACE
    assert by_name["pain.001.001.01"].namespace == "urn:iso:std:iso:20022:xsd:pain.001.001.01"


def test_unknown_version_is_a_key_error(catalogue: Catalogue) -> None:
    """Who validates a version without asking `knows` has made a mistake, and is told so."""
    assert not catalogue.knows("pacs.008.001.99")
    with pytest.raises(KeyError):
        catalogue.validate("pacs.008.001.99", etree.fromstring(DOCUMENT))
    with pytest.raises(KeyError):
        catalogue.xsd("../../etc/passwd")


@pytest.mark.parametrize(
    ("namespace", "definition"),
    [
        (NAMESPACE, PACS_008),
        ("urn:iso:std:iso:20022:xsd:pain.001.001.01", "pain.001.001.01"),
        ("urn:iso:std:iso:20022:tech:xsd:supl.001.001.01.extra", None),
        ("urn:iso:std:iso:20022:tech:xsd:../../x", None),
        ("http://www.w3.org/2000/09/xmldsig#", None),
        ("", None),
    ],
)
def test_definition_of_namespace(namespace: str, definition: str | None) -> None:
    """Only an ISO 20022 message namespace names a version."""
    assert definition_of_namespace(namespace) == definition


# Verdicts and findings


def test_valid_document_has_no_findings(catalogue: Catalogue) -> None:
    """A valid document gives nothing at all."""
    assert catalogue.validate(PACS_008, etree.fromstring(DOCUMENT)) == ()


def with_prefix(xml: str, prefix: str) -> str:
    """The same with every element prefixed."""
    return re.sub(r"<(/?)(\w)", rf"<\1{prefix}:\2", xml)


UNDECLARED: Final = DOCUMENT.replace(f' xmlns="{NAMESPACE}"', "")


@pytest.mark.parametrize(
    "wrapped",
    [
        f'<w:E xmlns:w="urn:w"><w:Any/><!-- a -->{DOCUMENT}<w:After/></w:E>',
        f'<E xmlns="{NAMESPACE}" xmlns:w="urn:w"><w:x/>{UNDECLARED}<AppHdr/></E>',
        f'<w:E xmlns:w="urn:w" xmlns:p="{NAMESPACE}">text{with_prefix(UNDECLARED, "p")}text</w:E>',
    ],
    ids=["own declaration", "default namespace of the wrapper", "prefix of the wrapper"],
)
def test_document_in_a_wrapper_is_validated_alone(catalogue: Catalogue, wrapped: str) -> None:
    """What surrounds a document plays no part, wherever its namespace is declared; and the tree stays as it was."""
    root = etree.fromstring(wrapped)
    document = next(root.iter(f"{{{NAMESPACE}}}Document"))
    before = etree.tostring(root)
    assert catalogue.validate(PACS_008, document) == ()
    next(document.iter(f"{{{NAMESPACE}}}NbOfTxs")).text = "x"
    assert only(catalogue.validate(PACS_008, document)).rule == "schema.pattern"
    next(document.iter(f"{{{NAMESPACE}}}NbOfTxs")).text = "1"
    assert etree.tostring(root) == before


def test_finding_says_all_there_is_to_say(catalogue: Catalogue) -> None:
    """A finding has severity, rule, ISO reason, place in the bytes received and words, but no payment."""
    root = etree.fromstring("<Envelope>\n" + DOCUMENT.replace("SLEV", "NOPE") + "\n</Envelope>")
    assert only(catalogue.validate(PACS_008, root[0])) == Finding(
        severity=Severity.ERROR,
        rule="schema.enumeration",
        reason="FF01",
        xpath="/Envelope/Document/FIToFICstmrCdtTrf/CdtTrfTxInf/ChrgBr",
        line=13,
        text="ChrgBr must be one of DEBT, CRED, SHAR, SLEV.",
    )


@pytest.mark.parametrize(
    ("before", "after", "rule", "where", "text"),
    [
        (
            *("<MsgId>M1</MsgId>", "", "unexpected", "GrpHdr/CreDtTm"),
            "CreDtTm is not expected here: next must come MsgId. Remove it, or put it where it belongs.",
        ),
        (
            *("</Cdtr>", "</Cdtr><Secret/>", "unexpected", "CdtTrfTxInf/Secret"),
            None,
        ),
        (
            *("<SttlmMtd>CLRG</SttlmMtd>", "", "missing", "GrpHdr/SttlmInf"),
            "SttlmInf is incomplete: next must come SttlmMtd.",
        ),
        (
            *("AAAADEFFXXX", "secret", "pattern", "CdtTrfTxInf/DbtrAgt/FinInstnId/BICFI"),
            "BICFI must match the pattern [A-Z0-9]{4,4}[A-Z]{2,2}[A-Z0-9]{2,2}([A-Z0-9]{3,3}){0,1}",
        ),
        (
            *("EUR", "secret", "pattern", "CdtTrfTxInf/IntrBkSttlmAmt/@Ccy"),
            "Attribute Ccy of IntrBkSttlmAmt must match the pattern [A-Z]{3,3}",
        ),
        (
            *(' Ccy="EUR"', "", "attributeMissing", "CdtTrfTxInf/IntrBkSttlmAmt"),
            "IntrBkSttlmAmt must have the attribute Ccy: add it.",
        ),
        (
            *("<ChrgBr>", '<ChrgBr secret="secret">', "attribute", "CdtTrfTxInf/ChrgBr/@secret"),
            "Attribute secret of ChrgBr is not allowed: remove it.",
        ),
        (*("E1", "", "minLength", "CdtTrfTxInf/PmtId/EndToEndId"), "EndToEndId must have a length of at least 1."),
        (
            *("E1", "secret" * 6, "maxLength", "CdtTrfTxInf/PmtId/EndToEndId"),
            "EndToEndId must have a length of at most 35.",
        ),
        (
            *("12.34", "7777.123456", "fractionDigits", "CdtTrfTxInf/IntrBkSttlmAmt"),
            "IntrBkSttlmAmt must have at most 5 digits after the point.",
        ),
        (
            *("12.34", "7" * 19, "totalDigits", "CdtTrfTxInf/IntrBkSttlmAmt"),
            "IntrBkSttlmAmt must have at most 18 digits.",
        ),
        (
            *("12.34", "-7777", "minInclusive", "CdtTrfTxInf/IntrBkSttlmAmt"),
            "IntrBkSttlmAmt must be at least 0.",
        ),
        (
            *("12.34", "secret", "datatype", "CdtTrfTxInf/IntrBkSttlmAmt"),
            "IntrBkSttlmAmt must be a decimal number with a point and without an exponent.",
        ),
        (
            *("2026-01-31<", "secret<", "datatype", "CdtTrfTxInf/IntrBkSttlmDt"),
            "IntrBkSttlmDt must be a date, such as 2026-01-31.",
        ),
        (*("</GrpHdr>", "secret</GrpHdr>", "text", "GrpHdr"), "GrpHdr must hold elements only: remove the text."),
        (
            *("SLEV", "<Secret/>", "elements", "CdtTrfTxInf/ChrgBr"),
            "ChrgBr must hold a value, not elements: remove them.",
        ),
    ],
)
def test_each_kind_of_error(
    catalogue: Catalogue, before: str, after: str, rule: str, where: str, text: str | None
) -> None:
    """One mistake is one finding, of its kind, at its place, with what is expected and without what was sent."""
    finding = only(catalogue.validate(PACS_008, changed(before, after)))
    assert finding.rule == f"schema.{rule}"
    assert finding.xpath == f"/Document/FIToFICstmrCdtTrf/{where}"
    assert text is None or finding.text == text
    assert "secret" not in finding.text.replace("Attribute secret", "")
    assert "7777" not in finding.text


def test_undeclared_root(catalogue: Catalogue) -> None:
    """A root that the schema does not have is one finding at the root."""
    finding = only(catalogue.validate(PACS_008, etree.fromstring('<Document xmlns="urn:other"/>')))
    assert (finding.rule, finding.xpath) == ("schema.undeclared", "/Document")


def test_value_cannot_pose_as_a_limit(catalogue: Catalogue) -> None:
    """A value that looks like libxml2's own words is not repeated either."""
    finding = only(catalogue.validate(PACS_008, changed("AAAADEFFXXX", "x' by the pattern 'secret'.")))
    assert "secret" not in finding.text


def test_position_only_among_siblings_of_one_name(catalogue: Catalogue) -> None:
    """An index tells siblings of one name apart, and is left out where there is nothing to tell apart."""
    root = changed(PAYMENT, PAYMENT + "<!-- between -->" + PAYMENT.replace("SLEV", "NOPE"))
    finding = only(catalogue.validate(PACS_008, root))
    assert finding.xpath == "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[2]/ChrgBr"


def test_place_with_mixed_prefixes(catalogue: Catalogue) -> None:
    """The place is found also where siblings of one name differ in prefix only."""
    wrong = PAYMENT.replace("SLEV", "NOPE")
    text = DOCUMENT.replace(PAYMENT, PAYMENT + with_prefix(wrong, "p") + wrong + with_prefix(wrong, "p"))
    root = etree.fromstring(text.replace("<Document", f'<Document xmlns:p="{NAMESPACE}"'))
    places = [finding.xpath for finding in catalogue.validate(PACS_008, root)]
    assert places == [f"/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[{n}]/ChrgBr" for n in (2, 3, 4)]


def test_findings_are_bounded() -> None:
    """Of very many errors only so many are told, and the last finding tells how many are not."""
    root = changed(PAYMENT, PAYMENT.replace("SLEV", "NOPE") * 50)
    findings = Catalogue(findings_max=10).validate(PACS_008, root)
    assert len(findings) == 10
    assert findings[-1].rule == "schema.more"
    assert findings[-1].text.startswith("41 more schema errors")


def test_hostile_number_of_errors_costs_little(catalogue: Catalogue) -> None:
    """A hundred thousand bad siblings are refused at once; without a place, since to find places would take minutes."""
    root = changed("</Cdtr>", "</Cdtr><RmtInf>" + "<Ustrd/>" * 100_000 + "</RmtInf>")
    finding = only(catalogue.validate(PACS_008, root))
    assert finding.rule == "schema.minLength"
    assert (finding.xpath, finding.line) == ("/Document", None)


def test_many_good_siblings_hide_no_bad_one(catalogue: Catalogue) -> None:
    """In a large document a single error is found, with its place."""
    root = changed("</Cdtr>", "</Cdtr><RmtInf>" + "<Ustrd>x</Ustrd>" * 6000 + "<Ustrd/></RmtInf>")
    assert only(catalogue.validate(PACS_008, root)).xpath.endswith("/RmtInf/Ustrd[6001]")


def test_schema_location_is_not_followed(catalogue: Catalogue) -> None:
    """A message cannot name its own schema."""
    hint = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:schemaLocation="urn:x file:///nowhere.xsd"'
    assert catalogue.validate(PACS_008, changed("<Document", f"<Document {hint}")) == ()


def test_threads_get_their_own_findings(catalogue: Catalogue) -> None:
    """Threads that validate against one schema at once never see each other's errors."""
    wrong: list[object] = []

    def work(after: str, rules: list[str]) -> None:
        for _ in range(200):
            found = [finding.rule for finding in catalogue.validate(PACS_008, changed("SLEV", after))]
            if found != rules:
                wrong.append(found)

    cases = [("SLEV", list[str]()), ("NOPE", ["schema.enumeration"]), ("<a/>", ["schema.elements"])]
    threads = [threading.Thread(target=work, args=case) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_names_in_findings_are_bounded(catalogue: Catalogue) -> None:
    """A sender's endless element names do not swell the findings."""
    name = "x" * 10_000
    root = etree.fromstring(f"<{name}>{DOCUMENT.replace('</Cdtr>', f'</Cdtr><{name}/>')}</{name}>")
    finding = only(catalogue.validate(PACS_008, root[0]))
    assert len(finding.xpath) + len(finding.text) < 600


# Content models


def test_children_in_order_with_occurrence(catalogue: Catalogue) -> None:
    """The content model tells names, order, occurrence and choice, by path."""
    (message,) = catalogue.children(PACS_008)
    assert message.name == "FIToFICstmrCdtTrf"
    group, payment, extra = catalogue.children(PACS_008, ("FIToFICstmrCdtTrf",))
    assert (group.name, group.occurs_min, group.occurs_max) == ("GrpHdr", 1, 1)
    assert (payment.name, payment.occurs_min, payment.occurs_max) == ("CdtTrfTxInf", 1, None)
    assert (extra.name, extra.occurs_min) == ("SplmtryData", 0)
    account = catalogue.children(PACS_008, ("FIToFICstmrCdtTrf", "CdtTrfTxInf", "DbtrAcct", "Id"))
    assert [(child.name, child.in_choice) for child in account] == [("IBAN", True), ("Othr", True)]


def test_children_of_value_and_of_nothing(catalogue: Catalogue) -> None:
    """An element with a value has no children; a path that the version does not have is an error."""
    assert catalogue.children(PACS_008, ("FIToFICstmrCdtTrf", "GrpHdr", "MsgId")) == ()
    assert catalogue.children(PACS_008, ("FIToFICstmrCdtTrf", "CdtTrfTxInf", "IntrBkSttlmAmt")) == ()
    with pytest.raises(KeyError):
        catalogue.children(PACS_008, ("FIToFICstmrCdtTrf", "Nope"))


# Cache and memory


def forbid_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(schemas, "compile_source", refuse)


def test_cache_saves_compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process has compiled, the next one reads."""
    text = Catalogue(cache=tmp_path / "new").xsd(PACS_008)
    forbid_compiling(monkeypatch)
    assert Catalogue(cache=tmp_path / "new").xsd(PACS_008) == text


def test_cache_of_another_compiler_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new compiler does not trust what an old one wrote."""
    Catalogue(cache=tmp_path).xsd(PACS_008)
    monkeypatch.setattr(schemas, "COMPILER_VERSION", 0)
    forbid_compiling(monkeypatch)
    with pytest.raises(AssertionError, match="compiled again"):
        Catalogue(cache=tmp_path).xsd(PACS_008)


@pytest.mark.parametrize("damage", [b"", b"<xs:schema", b"\xff\xfe", None])
def test_damaged_cache_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    """A torn or edited file is noticed, replaced, and changes no verdict."""
    text = Catalogue(cache=tmp_path).xsd(PACS_008)
    (file,) = tmp_path.rglob("*.xsd")
    stored = file.read_bytes()
    file.write_bytes(stored.replace(b'"35"', b'"99"') if damage is None else damage)
    assert Catalogue(cache=tmp_path).xsd(PACS_008) == text
    assert file.read_bytes() == stored
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    """No cache is no fault: here its folder is a file."""
    (tmp_path / "file").write_text("")
    assert Catalogue(cache=tmp_path / "file").validate(PACS_008, etree.fromstring(DOCUMENT)) == ()


def test_loaded_schemas_are_bounded() -> None:
    """Only so many schemas are held; the one not used for longest goes first."""
    catalogue = Catalogue(loaded_max=2)
    for definition in ("head.001.001.01", "head.001.001.02", "head.001.001.01", "head.001.001.03"):
        catalogue.children(definition)
    assert list(catalogue._loaded) == ["head.001.001.01", "head.001.001.03"]


# The operator's folder


def test_user_schema_goes_first(tmp_path: Path) -> None:
    """A file for a known version replaces the compiled schema, whatever its name; others stay."""
    (tmp_path / "our-scheme.xsd").write_text(user_schema())
    catalogue = Catalogue(user=tmp_path)
    catalogue.check()
    sources = {definition.name: definition.source for definition in catalogue.definitions()}
    assert sources[PACS_008] is Source.USER
    assert sources["pacs.008.001.09"] is Source.COMPILED
    assert catalogue.xsd(PACS_008) == user_schema().encode()
    assert (
        catalogue.validate(PACS_008, etree.fromstring(f'<Document xmlns="{NAMESPACE}"><Only>a</Only></Document>')) == ()
    )
    assert catalogue.validate(PACS_008, etree.fromstring(DOCUMENT)) != ()


def test_user_schema_adds_a_version(tmp_path: Path) -> None:
    """A version that we do not have is there once its file is."""
    namespace = "urn:iso:std:iso:20022:tech:xsd:pain.008.001.77"
    (tmp_path / "x.xsd").write_text(user_schema(namespace))
    catalogue = Catalogue(user=tmp_path)
    assert catalogue.knows("pain.008.001.77")
    bad = etree.fromstring(f'<Document xmlns="{namespace}"><Only>a</Only><Day>secret</Day></Document>')
    assert only(catalogue.validate("pain.008.001.77", bad)).text == "Day must be a date, such as 2026-01-31."
    assert [child.name for child in catalogue.children("pain.008.001.77")] == ["Only", "Day"]


def test_user_schema_may_include_a_file_of_its_folder(tmp_path: Path) -> None:
    """A schema in several files works, in a folder with an awkward name too; parts are no versions of their own."""
    folder = tmp_path / "my schémas"
    folder.mkdir()
    (folder / "main.xsd").write_text(user_schema(more='<xs:include schemaLocation="a%20part.xsd"/>', max3=""))
    part = f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="{NAMESPACE}">{MAX3}</xs:schema>'
    (folder / "a part.xsd").write_text(part)
    catalogue = Catalogue(user=folder)
    root = etree.fromstring(f'<Document xmlns="{NAMESPACE}"><Only>secret</Only></Document>')
    assert only(catalogue.validate(PACS_008, root)).text == "Only must have a length of at most 3."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<xs:schema", "cannot be read"),
        ("<html/>", "not an XSD"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + user_schema(), "DOCTYPE"),
        (user_schema(more='<xs:include schemaLocation="../other.xsd"/>'), "bare file name"),
        (user_schema(more='<xs:include schemaLocation="/etc/other.xsd"/>'), "bare file name"),
        (user_schema(more='<xs:include schemaLocation="absent.xsd"/>'), "bare file name"),
        (user_schema(more='<xs:import namespace="u:d" schemaLocation="http://127.0.0.1:9/d.xsd"/>'), "bare file name"),
        (user_schema(max3=""), "not a valid XSD"),
    ],
)
def test_broken_user_schema_names_its_file(tmp_path: Path, text: str, says: str) -> None:
    """A file that cannot be used is refused at the start, by name and with the cause; nothing is fetched for it."""
    (tmp_path / "other.xsd").write_text(user_schema("urn:iso:std:iso:20022:tech:xsd:pain.008.001.77"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "broken.xsd").write_text(text)
    with pytest.raises(UserSchemaError, match=says) as caught:
        Catalogue(user=folder).check()
    assert str(folder / "broken.xsd") in str(caught.value)
    assert isinstance(caught.value, ConfigError)


def test_two_user_schemas_for_one_version(tmp_path: Path) -> None:
    """Of two files for one version the one named after it counts; if none is, the operator must say."""
    (tmp_path / "a.xsd").write_text(user_schema())
    (tmp_path / "b.xsd").write_text(user_schema())
    with pytest.raises(UserSchemaError, match=r"a\.xsd, b\.xsd"):
        Catalogue(user=tmp_path)
    (tmp_path / f"{PACS_008}.xsd").write_text(user_schema())
    assert Catalogue(user=tmp_path).knows(PACS_008)


def test_absent_user_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is set but not there is a mistake of the configuration, not an empty folder."""
    with pytest.raises(UserSchemaError, match="not there"):
        Catalogue(user=tmp_path / "nope")
