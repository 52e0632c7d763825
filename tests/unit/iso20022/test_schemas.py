"""Schemas: what is valid, and what is said of what is not."""

import re
import threading
from typing import Final

import pytest
from lxml import etree

from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.schemas import Catalogue

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


BIC: Final = "a BIC of 8 or 11 characters: bank, country, place and maybe branch, such as AAAADEFFXXX"
CURRENCY: Final = "a currency's code of three capital letters, such as EUR"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def changed(before: str, after: str) -> etree._Element:
    """The valid document with one change."""
    assert before in DOCUMENT
    return etree.fromstring(DOCUMENT.replace(before, after))


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding


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
            *("<NbOfTxs>", '<NbOfTxs xmlns="urn:secret">', "unexpected", "GrpHdr/NbOfTxs"),
            "NbOfTxs is expected here, but in another namespace: put it into that of its message.",
        ),
        (
            *("<NbOfTxs>1", "<NbOfTxs>secret", "pattern", "GrpHdr/NbOfTxs"),
            "NbOfTxs must be 1 to 15 digits (pattern [0-9]{1,15}).",
        ),
        (
            *(
                "<Cdtr>",
                '<Cdtr xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true">',
                "nil",
                "CdtTrfTxInf/Cdtr",
            ),
            "Cdtr must not be nil: give its content, or leave it out.",
        ),
        (
            *("<Cdtr>", '<Cdtr xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="secret">'),
            *("type", "CdtTrfTxInf/Cdtr/@type"),
            "Attribute type of Cdtr names no type of the schema: remove the attribute xsi:type.",
        ),
        (
            *("<SttlmMtd>CLRG</SttlmMtd>", "", "missing", "GrpHdr/SttlmInf"),
            "SttlmInf is incomplete: next must come SttlmMtd.",
        ),
        (
            *("AAAADEFFXXX", "secret", "pattern", "CdtTrfTxInf/DbtrAgt/FinInstnId/BICFI"),
            f"BICFI must be {BIC} (pattern [A-Z0-9]{{4,4}}[A-Z]{{2,2}}[A-Z0-9]{{2,2}}([A-Z0-9]{{3,3}}){{0,1}}).",
        ),
        (
            *("EUR", "secret", "pattern", "CdtTrfTxInf/IntrBkSttlmAmt/@Ccy"),
            f"Attribute Ccy of IntrBkSttlmAmt must be {CURRENCY} (pattern [A-Z]{{3,3}}).",
        ),
        (
            *(' Ccy="EUR"', "", "attributeMissing", "CdtTrfTxInf/IntrBkSttlmAmt"),
            "IntrBkSttlmAmt must have the attribute Ccy: add it.",
        ),
        (
            *("<ChrgBr>", '<ChrgBr secret="secret">', "attribute", "CdtTrfTxInf/ChrgBr/@secret"),
            "Attribute secret of ChrgBr is not allowed: remove it.",
        ),
        (
            *("E1", "", "minLength", "CdtTrfTxInf/PmtId/EndToEndId"),
            "EndToEndId must not be empty: give a value, or leave it out.",
        ),
        (
            *("E1", "secret" * 6, "maxLength", "CdtTrfTxInf/PmtId/EndToEndId"),
            "EndToEndId must have a length of at most 35: shorten it.",
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
