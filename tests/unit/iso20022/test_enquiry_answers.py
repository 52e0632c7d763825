import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from interlock.iso20022.answers import (
    RESOLUTIONS,
    Answer,
    Cancellation,
    InvestigationResult,
    Resolution,
    Resolved,
    Statement,
    Verdict,
    answer_definition,
    build,
    build_admi002,
    build_investigation,
    build_receipt,
    build_resolution,
    build_statuses,
    can_confirm,
    enquiry_definition,
    has_usable_original,
    is_answer,
    not_served,
    receipt_definition,
)
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits, read
from interlock.iso20022.fields import extract
from interlock.iso20022.original import Level, Original
from interlock.iso20022.references import REFERENCES_MAX
from interlock.iso20022.schemas import Catalogue
from tests.enquiries import UETR, Ids, request

SAMPLES: Final = Path(__file__).parents[2] / "samples"
ORACLE: Final = Path(__file__).parents[3].parent / "shared" / "iso20022"
NOW: Final = datetime(2026, 11, 22, 10, 30, 0, 250_000, tzinfo=UTC)
CATALOGUE: Final = Catalogue(loaded_max=100)
FAMILIES: Final = ("pacs.028", "camt.055", "camt.056", "camt.026", "camt.027", "camt.087", "camt.110")
#: Every version of a request about others that we have a schema for; that of 2005 is not served.
REQUESTS: Final = [
    one.name
    for one in CATALOGUE.definitions()
    if one.name.startswith(FAMILIES) and one.name not in ("camt.026.001.01", "camt.027.001.01")
]


def original(definition: str, *ids: Ids, whole: bool = False) -> Original:
    return extract(read(request(definition, *ids, whole=whole)))


def answers_to(one: Original) -> Iterator[Answer]:
    """Every kind of answer that a request can get."""
    yield build(
        one, Verdict(status=Status.RJCT, reason="FF01", narrative="Not <valid> & so on."), answer_id="A-1", now=NOW
    )
    family = one.definition[:8]
    if family == "pacs.028" and one.references:
        known = extract(read((SAMPLES / "pacs.008.001.08.xml").read_bytes())).payments[0]
        for status, reason in (("ACSC", None), ("RJCT", "AC03"), ("PDNG", "NARR"), ("ACSP", None)):
            told = [
                Statement(reference=reference, status=status, reason=reason, payment=payment, definition=definition)
                for reference in one.references
                for payment, definition in ((known, "pacs.008.001.08"), (None, None))
            ]
            yield build_statuses(one, told, answer_id="A-1", now=NOW)
    elif family in ("camt.055", "camt.056"):
        for status in Cancellation:
            cases = tuple(
                Resolved(reference=reference, status=status, reason=reason, narrative="Words.")
                for reference in one.references
                for reason in (None, "NOOR", "NARR", "CUST")
            )
            yield build_resolution(one, Resolution(confirmation="PDCR", cases=cases), answer_id="A-1", now=NOW)
    elif family == "camt.110":
        told = [Statement(reference=reference, status="ACSC") for reference in one.references]
        for result in (
            InvestigationResult(status="CLSD", statements=tuple(told)),
            InvestigationResult(status="RJCT", reason="NOOR", narrative="Unknown. " * 100),
        ):
            yield build_investigation(one, result, answer_id="A-1", now=NOW)
    elif family != "pacs.028":
        codes = ("UM23", "UM15")
        yield build_resolution(one, Resolution(confirmation="CONF"), answer_id="A-1", now=NOW)
        yield build_resolution(one, Resolution(modification_rejections=codes), answer_id="A-1", now=NOW)


def faults(one: Answer) -> list[str]:
    """What our schemas have against an answer, header included."""
    envelope = read(one.body)
    assert envelope.definition == one.definition
    assert envelope.document is not None
    findings = list(envelope.findings)
    if CATALOGUE.knows(one.definition):
        findings += CATALOGUE.validate(one.definition, envelope.document)
    if envelope.header is not None and envelope.header_definition is not None:
        findings += CATALOGUE.validate(envelope.header_definition, envelope.header)
    return [f"{finding.xpath}: {finding.text}" for finding in findings]


def texts(one: Answer, tag: str) -> list[str | None]:
    return [element.text for element in etree.fromstring(one.body).iter(f"{{*}}{tag}")]


# ----------------------------------------------------------------------------------------------------- which answer


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("pacs.028.001.01", "pacs.002.001.08"),
        ("pacs.028.001.03", "pacs.002.001.10"),
        ("camt.056.001.01", "camt.029.001.03"),
        ("camt.056.001.08", "camt.029.001.09"),
        ("camt.055.001.08", "camt.029.001.09"),
        ("camt.026.001.07", "camt.029.001.09"),
        ("camt.110.001.01", "camt.111.001.01"),
        ("camt.026.001.01", None),
        ("pacs.008.001.08", None),
        ("camt.060.001.05", None),
    ],
)
def test_answer_of_the_same_edition(definition: str, expected: str | None) -> None:
    """A request about others is answered in the version published with its own; a payment is none."""
    assert enquiry_definition(definition) == expected


def test_every_version_has_an_answer() -> None:
    """No version of such a request that we can validate is left without an answer, but those of 2005."""
    assert len(REQUESTS) > 35
    assert [name for name in REQUESTS if enquiry_definition(name) is None] == []


def test_later_requests_get_later_answers() -> None:
    """Within a family, a newer version never gets an older answer."""
    ours = {name: shape.published for shape in RESOLUTIONS.values() for name in shape.requests}
    for family in {name[:8] for name in ours}:
        versions = sorted(name for name in ours if name.startswith(family))
        assert [ours[version] for version in versions] == sorted(ours[version] for version in versions)


def test_families_are_answered_in_one_way() -> None:
    """What asks about others reports on no payments of its own, and nothing is both a request and an answer."""
    for shape in RESOLUTIONS.values():
        for one in shape.requests:
            assert answer_definition(one) is None
            assert not is_answer(one)
        assert is_answer(shape.definition)


@pytest.mark.parametrize("family", ["camt.060", "camt.003", "acmt.023", "admi.006", "camt.053"])
def test_what_is_understood_but_not_served_says_why(family: str) -> None:
    """A reader of the rejection learns what to do instead; other messages are refused in general words."""
    text = not_served(f"{family}.001.05")
    assert text.startswith(f"{family}.001.05 is understood but not served here: ")
    assert "see the list" not in text
    assert "see the list" in not_served("xxxx.001.001.01")


def test_rejection_of_what_is_not_served_is_valid() -> None:
    """It goes out as an admi.002, whatever its words."""
    text = not_served("camt.060.001.05")
    one = build_admi002(reason="FF01", narrative=text, reference="M", now=NOW, answer_id="A-1")
    assert faults(one) == []
    assert texts(one, "RsnDesc") == [text]


# ------------------------------------------------------------------------------------------------------- references


@pytest.mark.parametrize("definition", REQUESTS)
def test_templates_are_valid(definition: str) -> None:
    """The requests that these tests are made of are good ones."""
    for whole in (False, True):
        envelope = read(request(definition, whole=whole))
        assert envelope.document is not None
        assert [f.text for f in CATALOGUE.validate(definition, envelope.document)] == []


@pytest.mark.parametrize("definition", REQUESTS)
def test_references_are_read(definition: str) -> None:
    """Every version says which payment it is about, by every name that it has, and why."""
    one = original(definition)
    (reference,) = one.references
    assert one.message_id == "EXAMPLE-C-0001"
    assert (reference.level, reference.message_id, reference.definition) == (
        Level.PAYMENT,
        "EXAMPLE-M-0001",
        "pacs.008.001.08",
    )
    assert (reference.instruction_id, reference.end_to_end_id) == ("EXAMPLE-I-0001", "EXAMPLE-E-0001")
    if not definition.startswith("camt.055"):
        assert reference.transaction_id == "EXAMPLE-T-0001"
    assert reference.uetr in (UETR, None)
    if definition.startswith(("camt.055", "camt.056")):
        assert (reference.reason, reference.amount, reference.currency) == ("DUPL", "250.00", "EUR")
        assert reference.own_id == "EXAMPLE-X-1"
    if definition.startswith("camt.0"):
        assert reference.case_id == one.case_id == "EXAMPLE-CASE-1"
        assert one.assigner is not None
        assert one.assigner.agent is not None
        assert one.assigner.agent.bic == "EXMPDEFFXXX"
    if definition.startswith("camt.110"):
        assert one.investigation is not None
        assert (one.investigation.type_code, one.investigation.requestor_id) == ("CCNR", "EXAMPLE-V-1")


def test_newer_versions_have_a_uetr() -> None:
    """Since 2019 a reference can be by UETR."""
    assert [original(name).references[0].uetr for name in ("camt.056.001.08", "pacs.028.001.03")] == [UETR] * 2


@pytest.mark.parametrize(
    ("definition", "level"),
    [("camt.056.001.08", Level.MESSAGE), ("camt.055.001.08", Level.BLOCK), ("pacs.028.001.03", Level.MESSAGE)],
)
def test_whole_messages_and_blocks(definition: str, level: Level) -> None:
    """What is meant as a whole is one reference, with the message it is in."""
    (reference,) = original(definition, whole=True).references
    assert (reference.level, reference.message_id) == (level, "EXAMPLE-M-0001")
    if level is Level.BLOCK:
        assert (reference.payment_information_id, reference.whole) == ("EXAMPLE-P-0001", True)


def test_payments_take_their_message_from_above() -> None:
    """A payment that does not say which message it was in takes that of the group that it stands with."""
    ns = "urn:iso:std:iso:20022:tech:xsd:pacs.028.001.03"
    body = (
        f'<Document xmlns="{ns}"><FIToFIPmtStsReq><GrpHdr><MsgId>Q</MsgId></GrpHdr><OrgnlGrpInf>'
        "<OrgnlMsgId>M</OrgnlMsgId><OrgnlMsgNmId>pacs.008.001.08</OrgnlMsgNmId></OrgnlGrpInf>"
        "<TxInf><OrgnlTxId>1</OrgnlTxId></TxInf><TxInf><OrgnlTxId>2</OrgnlTxId></TxInf></FIToFIPmtStsReq></Document>"
    )
    one = extract(read(body.encode()))
    assert [(r.ordinal, r.level, r.message_id, r.transaction_id) for r in one.references] == [
        (1, Level.PAYMENT, "M", "1"),
        (2, Level.PAYMENT, "M", "2"),
    ]
    assert one.references[1].xpath == "/Document/FIToFIPmtStsReq/TxInf[2]"


def test_references_are_bounded() -> None:
    """A request that refers to more than is looked up says so, and is read no further."""
    ids = [Ids(transaction_id=f"T{place}") for place in range(REFERENCES_MAX + 5)]
    one = original("camt.056.001.08", *ids)
    assert (len(one.references), one.references_cut) == (REFERENCES_MAX, True)
    assert not original("camt.056.001.08", *ids[:REFERENCES_MAX]).references_cut
    body = request("camt.056.001.08")
    many = body.replace(b"<Undrlyg>", b"<Undrlyg/>" * (REFERENCES_MAX + 5) + b"<Undrlyg>")
    assert (len(extract(read(many)).references), extract(read(many)).references_cut) == (1, False)


@given(st.sampled_from(REQUESTS), st.integers(0, 2000), st.binary(max_size=4), st.integers(0, 40))
def test_damaged_requests_never_raise(definition: str, position: int, put: bytes, removed: int) -> None:
    """What is left of a request damaged anywhere is read, and refused in a valid answer where it can still be named."""
    body = request(definition)
    one = extract(read(body[:position] + put + body[position + removed :]))
    if one.definition in REQUESTS and has_usable_original(one):
        refused = Verdict(status=Status.RJCT, reason="FF01", narrative="Not valid.")
        assert faults(build(one, refused, answer_id="A-1", now=NOW)) == []


def test_payments_refer_to_nothing() -> None:
    """What is no such request has no references."""
    one = extract(read((SAMPLES / "pacs.008.001.08.xml").read_bytes()))
    assert (one.references, one.assigner, one.investigation) == ((), None, None)


# ------------------------------------------------------------------------------------------------------- what they hold


@pytest.mark.parametrize("definition", REQUESTS)
def test_every_answer_to_every_version_is_valid(definition: str) -> None:
    """Whatever a request about others is answered, in whatever version, the answer is valid, and the same each time."""
    for whole in (False, True):
        one = original(definition, whole=whole)
        assert has_usable_original(one)
        for place, answer in enumerate(answers_to(one)):
            assert faults(answer) == [], place
        assert list(answers_to(one)) == list(answers_to(one))


def test_statuses_tell_each_payment() -> None:
    """A status request is answered payment by payment, with the message that each was in."""
    one = original("pacs.028.001.03", Ids(), Ids(message_id="OTHER", transaction_id="T-2", uetr=None))
    first, second = one.references
    told = [
        Statement(reference=first, status="ACSC", message_id="EXAMPLE-M-0001", definition="pacs.008.001.08"),
        Statement(reference=second, status="RJCT", reason="AC03", narrative="No such account."),
    ]
    answer = build_statuses(one, told, answer_id="A-1", now=NOW)
    assert answer.definition == "pacs.002.001.10"
    assert texts(answer, "TxSts") == ["ACSC", "RJCT"]
    assert texts(answer, "OrgnlMsgId") == ["EXAMPLE-M-0001", "OTHER"]
    assert texts(answer, "OrgnlTxId") == ["EXAMPLE-T-0001", "T-2"]
    assert texts(answer, "StsId") == ["A-1-1", "A-1-2"]
    assert texts(answer, "Cd") == ["AC03"]
    assert texts(answer, "GrpSts") == []


def test_status_of_a_whole_message() -> None:
    """A message that was asked for as a whole has a status of its own."""
    one = original("pacs.028.001.03", whole=True)
    told = [Statement(reference=one.references[0], status="PART")]
    answer = build_statuses(one, told, answer_id="A-1", now=NOW)
    assert (texts(answer, "GrpSts"), texts(answer, "TxSts")) == (["PART"], [])


def test_resolution_of_a_cancellation() -> None:
    """A camt.029 goes back to who assigned the case, repeats it, and says what became of each payment and why."""
    one = original("camt.056.001.08", Ids(), Ids(transaction_id="T-2"))
    first, second = one.references
    cases = (
        Resolved(reference=first, status=Cancellation.ACCEPTED),
        Resolved(reference=second, status=Cancellation.REJECTED, reason="NOOR", narrative="Unknown."),
    )
    answer = build_resolution(one, Resolution(confirmation="PECR", cases=cases), answer_id="A-1", now=NOW)
    root = etree.fromstring(answer.body)
    assert answer.definition == "camt.029.001.09"
    assert root.findtext(".//{*}Assgnr//{*}BICFI") == "EXMPFRPPXXX"
    assert root.findtext(".//{*}Assgne//{*}BICFI") == "EXMPDEFFXXX"
    assert texts(answer, "Conf") == ["PECR"]
    assert texts(answer, "TxCxlSts") == ["ACCR", "RJCR"]
    assert texts(answer, "Cd") == ["NOOR"]
    assert texts(answer, "OrgnlUETR") == [UETR] * 2
    assert texts(answer, "OrgnlIntrBkSttlmAmt") == ["250.00"] * 2
    assert [element.findtext("{*}Id") for element in root.iter("{*}RslvdCase")] == ["EXAMPLE-CASE-1"]


def test_resolution_of_a_customers_cancellation() -> None:
    """To a customer the camt.029 speaks of blocks, each once, and of the payments in them."""
    one = original("camt.055.001.08", Ids(), Ids(end_to_end_id="E-2"), Ids(block="EXAMPLE-P-0002"))
    cases = tuple(Resolved(reference=reference, status=Cancellation.ACCEPTED) for reference in one.references)
    answer = build_resolution(one, Resolution(confirmation="CNCL", cases=cases), answer_id="A-1", now=NOW)
    assert texts(answer, "OrgnlPmtInfId") == ["EXAMPLE-P-0001", "EXAMPLE-P-0002"]
    assert texts(answer, "OrgnlEndToEndId") == ["EXAMPLE-E-0001", "E-2", "EXAMPLE-E-0001"]
    assert texts(answer, "OrgnlInstdAmt") == ["250.00"] * 3


def test_early_versions_say_unknown_reasons_as_proprietary() -> None:
    """The camt.029 of 2009 knows three reasons: others are said, but not as codes."""
    one = original("camt.056.001.01")
    cases = (Resolved(reference=one.references[0], status=Cancellation.REJECTED, reason="NOOR"),)
    answer = build_resolution(one, Resolution(confirmation="RJCR", cases=cases), answer_id="A-1", now=NOW)
    assert (texts(answer, "Cd"), texts(answer, "Prtry")) == ([], ["NOOR"])


def test_words_that_a_version_lacks() -> None:
    """An outcome that a version has no word for is an error of the caller, who can ask before."""
    assert can_confirm("camt.029.001.09", "NINF")
    assert not can_confirm("camt.029.001.03", "NINF")
    assert not can_confirm("camt.029.001.99", "CNCL")
    with pytest.raises(ValueError, match="no word"):
        build_resolution(original("camt.026.001.03"), Resolution(confirmation="NINF"), answer_id="A-1", now=NOW)


def test_investigation_repeats_the_request() -> None:
    """A camt.111 names the request, its type and its parties, and the status of the payment."""
    one = original("camt.110.001.01")
    statement = Statement(reference=one.references[0], status="PDNG", narrative="Held for a decision.")
    result = InvestigationResult(status="CLSD", statements=(statement,))
    answer = build_investigation(one, result, answer_id="A-1", now=NOW)
    assert texts(answer, "MsgId") == ["A-1", "EXAMPLE-C-0001"]
    assert texts(answer, "RqstrInvstgtnId") == ["EXAMPLE-V-1"]
    assert texts(answer, "Cd") == ["PDNG", "CCNR"]
    assert texts(answer, "BICFI") == ["EXMPDEFFXXX", "EXMPFRPPXXX"]
    assert texts(answer, "OrgnlUETR") == [UETR]


@pytest.mark.parametrize("definition", ["camt.055.001.08", "camt.056.001.08", "camt.110.001.01", "pacs.028.001.03"])
def test_refused_requests_are_answered_in_their_family(definition: str) -> None:
    """A request that was not taken in is refused in the form in which it would have been answered."""
    verdict = Verdict(status=Status.RJCT, reason="DU01", narrative="The message identification was used before.")
    answer = build(original(definition), verdict, answer_id="A-1", now=NOW)
    assert answer.definition == enquiry_definition(definition)
    assert b"used before" in answer.body


def test_a_settled_request_is_no_answer() -> None:
    """Nobody can confirm a cancellation by merely having taken the request in."""
    with pytest.raises(ValueError, match="from the ledger"):
        build(original("camt.056.001.08"), Verdict(status=Status.ACSC), answer_id="A-1", now=NOW)


def test_callers_faults() -> None:
    """What only a caller can get wrong is an error, not a strange message."""
    one = original("camt.056.001.08")
    with pytest.raises(ValueError, match="build_admi002"):
        build_statuses(one, (), answer_id="A-1", now=NOW)
    with pytest.raises(ValueError, match="build_admi002"):
        build_investigation(one, InvestigationResult(status="CLSD"), answer_id="A-1", now=NOW)
    with pytest.raises(ValueError, match="build_admi002"):
        build_resolution(original("pacs.028.001.03"), Resolution(confirmation="CNCL"), answer_id="A-1", now=NOW)


def test_receipts() -> None:
    """A system event is acknowledged, with the code that the scheme has for it."""
    body = b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:admi.004.001.02"><SysEvtNtfctn/></Document>'
    one = extract(read(body))
    assert receipt_definition(one.definition) == "admi.007.001.01"
    assert receipt_definition("pacs.008.001.08") is None
    answer = build_receipt(one, reference="B-1", answer_id="A-1", now=NOW, status_code="TS01", narrative="Taken in.")
    assert faults(answer) == []
    assert (texts(answer, "Ref"), texts(answer, "StsCd")) == (["B-1"], ["TS01"])
    with pytest.raises(ValueError, match="one to four"):
        build_receipt(one, reference="B-1", answer_id="A-1", now=NOW, status_code="NOT OK")


# -------------------------------------------------------------------------------------------------------------- oracle


@cache
def official(definition: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(ORACLE / "xsd" / f"{definition}.xsd"))


def is_officially_valid(body: bytes) -> bool:
    envelope = read(body, Limits(bytes_max=10_000_000))
    parts = ((envelope.definition, envelope.document), (envelope.header_definition, envelope.header))
    assert envelope.document is not None
    return all(official(definition).validate(part) for definition, part in parts if definition and part is not None)


@pytest.mark.oracle
@pytest.mark.skipif(not ORACLE.is_dir(), reason=f"no official schemas at {ORACLE}")
def test_every_real_message_gets_an_officially_valid_answer() -> None:
    """To every real message that is no answer itself there is one that is valid by ISO's own schemas, never silence."""
    wrong = []
    kinds = set()
    with (ORACLE / "samples" / "INDEX.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            envelope = read((ORACLE / "samples" / row["file"]).read_bytes(), Limits(bytes_max=10_000_000))
            one = extract(envelope)
            if is_answer(one.definition):
                continue
            if has_usable_original(one) and answer_definition(one.definition):
                given = [build(one, Verdict(status=Status.ACSC), answer_id="A-1", now=NOW)]
            elif has_usable_original(one):
                given = list(answers_to(one))
            else:
                words = not_served(one.definition) if one.definition else "not readable"
                given = [
                    build_admi002(reason="FF01", narrative=words, reference="M", now=NOW, answer_id="A-1", original=one)
                ]
            kinds |= {answer.definition[:8] for answer in given}
            wrong += [(row["file"], answer.definition) for answer in given if not is_officially_valid(answer.body)]
    assert kinds == {"pacs.002", "pain.002", "camt.029", "camt.111", "admi.002"}
    assert wrong == []


@pytest.mark.oracle
@pytest.mark.skipif(not ORACLE.is_dir(), reason=f"no official schemas at {ORACLE}")
def test_every_version_is_officially_valid() -> None:
    """Also the versions that only the official schemas know: what answers.toml says of them is true."""
    names = sorted({name for shape in RESOLUTIONS.values() for name in shape.requests})
    wrong = [
        (name, answer.definition)
        for name in (*names, "pacs.028.001.07")
        for whole in (False, True)
        for answer in answers_to(original(name, whole=whole))
        if (ORACLE / "xsd" / f"{answer.definition}.xsd").is_file() and not is_officially_valid(answer.body)
    ]
    assert wrong == []
