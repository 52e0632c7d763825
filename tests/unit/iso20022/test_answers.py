import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from msgspec.structs import replace

from interlock.iso20022.answers import (
    SHAPES,
    Answer,
    PaymentVerdict,
    Verdict,
    answer_definition,
    build,
    build_admi002,
    has_usable_original,
    is_answer,
    stream,
)
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits, read
from interlock.iso20022.fields import extract
from interlock.iso20022.original import Agent, EnvelopeKind, Header, Original, OriginalPayment, Transport
from interlock.iso20022.records import TABLES, paths
from interlock.iso20022.schemas import Catalogue

SAMPLES: Final = Path(__file__).parents[2] / "samples"
ORACLE: Final = Path(__file__).parents[3].parent / "shared" / "iso20022"
NOW: Final = datetime(2026, 11, 22, 10, 30, 0, 250_000, tzinfo=UTC)
CATALOGUE: Final = Catalogue(loaded_max=100)

SETTLED: Final = Verdict(status=Status.ACSC)
REJECTED: Final = Verdict(status=Status.RJCT, reason="AB05", narrative="The creditor agent did not answer in time.")
MIXED: Final = Verdict(
    status=Status.ACSC,
    payments={2: PaymentVerdict(status=Status.RJCT, reason="AC03", narrative="Check digits <&> length.")},
)
VERDICTS: Final = (SETTLED, REJECTED, MIXED)


def sample(file: str) -> Original:
    return extract(read((SAMPLES / file).read_bytes()))


THREE: Final = sample("pacs.008.001.08.xml")
HEADED: Final = sample("pacs.008.001.08_bah.xml")
BLOCKS: Final = sample("pain.001.001.09.xml")


def answer(original: Original, verdict: Verdict = SETTLED, **more: Any) -> Answer:
    return build(original, verdict, answer_id="ANSWER-1", now=NOW, **more)


def faults(one: Answer) -> list[str]:
    """What our schemas have against an answer, header included."""
    envelope = read(one.body, Limits(bytes_max=10_000_000))
    assert envelope.definition == one.definition
    assert envelope.document is not None
    findings = list(envelope.findings)
    if CATALOGUE.knows(one.definition):
        findings += CATALOGUE.validate(one.definition, envelope.document)
    if envelope.header is not None and envelope.header_definition is not None:
        findings += CATALOGUE.validate(envelope.header_definition, envelope.header)
    return [f"{finding.xpath}: {finding.text}" for finding in findings]


def texts(one: Answer, tag: str) -> list[str | None]:
    """Texts of every element of that name, in order."""
    return [element.text for element in etree.fromstring(one.body).iter(f"{{*}}{tag}")]


# ------------------------------------------------------------------------------------------------------- which answer


@pytest.mark.parametrize(
    ("request_definition", "expected"),
    [
        ("pacs.008.001.08", "pacs.002.001.10"),
        ("pacs.009.001.08", "pacs.002.001.10"),
        ("pacs.008.001.01", "pacs.002.001.02"),
        ("pacs.008.001.02", "pacs.002.001.03"),
        ("pacs.008.001.12", "pacs.002.001.14"),
        ("pacs.003.001.08", "pacs.002.001.10"),
        ("pacs.010.001.03", "pacs.002.001.10"),
        ("pacs.004.001.09", "pacs.002.001.10"),
        ("pacs.007.001.09", "pacs.002.001.10"),
        ("pain.001.001.03", "pain.002.001.03"),
        ("pain.001.001.09", "pain.002.001.10"),
        ("pain.001.001.01", "pain.002.001.01"),
        ("pain.008.001.02", "pain.002.001.03"),
        ("pain.008.001.08", "pain.002.001.10"),
        ("pain.013.001.07", "pain.014.001.07"),
        ("camt.053.001.08", None),
        ("pacs.008.001.99", None),
        ("", None),
    ],
)
def test_answer_of_the_same_edition(request_definition: str, expected: str | None) -> None:
    """A request is answered in the version that ISO published together with its own."""
    assert answer_definition(request_definition) == expected


def test_every_version_has_an_answer() -> None:
    """No version of a request that we can validate is left without an answer."""
    families = (
        "pacs.008",
        "pacs.009",
        "pacs.003",
        "pacs.010",
        "pacs.004",
        "pacs.007",
        "pain.001",
        "pain.007",
        "pain.008",
        "pain.013",
    )
    names = [one.name for one in CATALOGUE.definitions() if one.name.startswith(families)]
    assert len(names) > 80
    assert [name for name in names if answer_definition(name) is None] == []


def test_later_requests_get_later_answers() -> None:
    """Within a family, a newer version never gets an older answer."""
    for family in {request[:8] for shape in SHAPES.values() for request in shape.requests}:
        ours = {request: shape.published for shape in SHAPES.values() for request in shape.requests}
        versions = sorted(request for request in ours if request.startswith(f"{family}.001"))
        assert [ours[version] for version in versions] == sorted(ours[version] for version in versions)


@pytest.mark.parametrize(
    ("definition", "verdict"),
    [
        ("pacs.002.001.10", True),
        ("pain.002.001.10", True),
        ("pain.014.001.07", True),
        ("camt.029.001.09", True),
        ("admi.002.001.01", True),
        ("admi.007.001.01", True),
        ("pacs.008.001.08", False),
        ("camt.056.001.08", False),
        ("pacs.028.001.03", False),
        ("camt.060.001.05", False),
        ("camt.006.001.08", True),
        ("acmt.024.001.03", True),
    ],
)
def test_answers_are_never_answered(definition: str, *, verdict: bool) -> None:
    """Reports, resolutions, receipts and rejections end a conversation."""
    assert is_answer(definition) is verdict


@pytest.mark.parametrize(
    ("original", "verdict"),
    [
        (THREE, True),
        (replace(THREE, message_id=None), False),
        (replace(THREE, message_id=""), False),
        (replace(THREE, definition="camt.056.001.08"), True),
        (replace(THREE, definition="camt.060.001.05"), False),
        (extract(read(b"nothing")), False),
    ],
)
def test_usable_originals(original: Original, *, verdict: bool) -> None:
    """An answer of its own family needs a request of a kind that has one, and its name."""
    assert has_usable_original(original) is verdict


# ----------------------------------------------------------------------------------------------------- what they hold


def test_answer_repeats_the_original() -> None:
    """Identifiers, amounts, dates and agents are those of the request, to the letter, payment by payment."""
    one = answer(THREE)
    assert one.definition == "pacs.002.001.10"
    assert texts(one, "OrgnlMsgId") == ["EXAMPLE-M-0001"]
    assert texts(one, "OrgnlMsgNmId") == ["pacs.008.001.08"]
    assert texts(one, "OrgnlCreDtTm") == ["2026-11-22T10:00:00+01:00"]
    assert texts(one, "OrgnlNbOfTxs") == ["3"]
    assert texts(one, "OrgnlTxId") == ["EXAMPLE-T-0001", "EXAMPLE-T-0002", "EXAMPLE-T-0003"]
    assert texts(one, "OrgnlUETR") == [payment.uetr for payment in THREE.payments]
    assert texts(one, "IntrBkSttlmAmt") == ["250.00", "99.95", "1000"]
    assert texts(one, "IntrBkSttlmDt") == ["2026-11-23"] * 3
    assert texts(one, "TxSts") == ["ACSC"] * 3
    assert texts(one, "GrpSts") == ["ACSC"]
    assert texts(one, "Rsn") == []


def test_answer_goes_the_other_way() -> None:
    """Who was instructed now instructs, in the document and in the header."""
    root = etree.fromstring(answer(HEADED).body)
    ways = (("Fr", "EXMPFRPPXXX"), ("To", "EXMPDEFFXXX"), ("InstgAgt", "EXMPFRPPXXX"), ("InstdAgt", "EXMPDEFFXXX"))
    assert [root.findtext(f".//{{*}}{tag}//{{*}}BICFI") for tag, _ in ways] == [bic for _, bic in ways]


def test_group_header_agents() -> None:
    """Agents of the request's group header stand in the answer's."""
    original = replace(THREE, instructing_agent=Agent(bic="EXMPDEFF"), instructed_agent=Agent(bic="EXMPFRPP"))
    group_header = etree.fromstring(answer(original).body).find(".//{*}GrpHdr")
    assert group_header is not None
    assert [element.text for element in group_header.iter("{*}BICFI")] == ["EXMPFRPP", "EXMPDEFF"]


def test_rejection_says_why() -> None:
    """A rejection carries its ISO reason and our words, for the group and for each payment."""
    one = answer(THREE, REJECTED)
    assert texts(one, "GrpSts") == ["RJCT"]
    assert texts(one, "Cd") == ["AB05"] * 4
    assert texts(one, "AddtlInf") == [REJECTED.narrative] * 4


def test_part() -> None:
    """Of mixed payments the group says PART, and each payment its own."""
    one = answer(THREE, MIXED)
    assert texts(one, "GrpSts") == ["PART"]
    assert texts(one, "TxSts") == ["ACSC", "RJCT", "ACSC"]
    assert texts(one, "Cd") == ["AC03"]
    assert texts(one, "AddtlInf") == ["Check digits <&> length."]


def test_all_rejected_for_different_reasons() -> None:
    """Payments that are all rejected make a rejected group; no single reason is claimed for it."""
    reasons = {1: "AC02", 2: "AC03", 3: "AM05"}
    payments = {ordinal: PaymentVerdict(status=Status.RJCT, reason=reason) for ordinal, reason in reasons.items()}
    one = answer(THREE, Verdict(status=Status.ACSC, payments=payments))
    assert texts(one, "GrpSts") == ["RJCT"]
    assert texts(one, "Cd") == ["AC02", "AC03", "AM05"]


def test_cancelled_is_written_rejected() -> None:
    """ISO's CANC is for API contexts: a message says RJCT with the reason of the cancellation."""
    one = answer(HEADED, Verdict(status=Status.CANC, reason="DS02"))
    assert (texts(one, "GrpSts"), texts(one, "TxSts"), texts(one, "Cd")) == (["RJCT"], ["RJCT"], ["DS02", "DS02"])


def test_customer_report_has_blocks() -> None:
    """A pain.002 speaks of each PmtInf, with its own status, and of the payments in it."""
    one = answer(BLOCKS, MIXED)
    assert one.definition == "pain.002.001.10"
    assert texts(one, "OrgnlPmtInfId") == ["EXAMPLE-P-0001", "EXAMPLE-P-0002"]
    assert (texts(one, "GrpSts"), texts(one, "PmtInfSts")) == (["PART"], ["PART", "ACSC"])
    assert texts(one, "OrgnlEndToEndId") == ["EXAMPLE-E-0101", "EXAMPLE-E-0102", "EXAMPLE-E-0103"]
    assert texts(one, "OrgnlNbOfTxs") == ["3", "2", "1"]
    assert texts(one, "OrgnlCtrlSum") == ["60.30", "30.30", "30"]
    assert texts(one, "InstdAmt") == ["10.10", "20.20", "30.00"]


def test_header_only_where_the_request_had_one() -> None:
    """A bare request gets a bare answer; one with a header gets a header, in the same wrapper."""
    assert etree.QName(etree.fromstring(answer(THREE).body)).localname == "Document"
    envelope = read(answer(HEADED).body)
    assert (envelope.wrapper, envelope.header_definition) == ("BusinessMessage", "head.001.001.02")


def test_header_of_the_answer() -> None:
    """The header names the answer, and the request's header as related."""
    root = etree.fromstring(answer(HEADED).body)
    assert [element.text for element in root.iter("{*}BizMsgIdr")] == ["ANSWER-1", "EXAMPLE-M-0001"]
    assert [element.text for element in root.iter("{*}MsgDefIdr")] == ["pacs.002.001.10", "pacs.008.001.08"]
    created = [element.text for element in root.iter("{*}CreDt")]
    assert created == ["2026-11-22T10:30:00.250+00:00", "2026-11-22T10:00:00+01:00"]


def test_wrappers() -> None:
    """A wrapper with a namespace is used again; where there is none to use, one of ours holds header and document."""
    transport = Transport(kind=EnvelopeKind.OTHER, around=(("DataPDU", "urn:a?b&c'd"),))
    envelope = read(answer(replace(HEADED, transport=transport)).body)
    assert (envelope.wrapper, envelope.wrapper_namespace) == ("DataPDU", "urn:a?b&c'd")
    assert read(answer(replace(HEADED, transport=None)).body).wrapper == "BusinessMessage"
    assert read(answer(replace(HEADED, transport=Transport(kind=EnvelopeKind.OTHER))).body).wrapper == "BusinessMessage"


def test_times_are_in_utc() -> None:
    """Whatever zone the time comes in, the answer is in UTC with an offset; version 1 of the header wants Z."""
    east = NOW.astimezone(timezone(timedelta(hours=9)))
    assert build(THREE, SETTLED, answer_id="A", now=east) == build(THREE, SETTLED, answer_id="A", now=NOW)
    assert texts(answer(THREE), "CreDtTm") == ["2026-11-22T10:30:00.250+00:00"]
    assert HEADED.header is not None
    first = replace(HEADED, header=replace(HEADED.header, definition="head.001.001.01"))
    assert texts(answer(first), "CreDt") == ["2026-11-22T10:30:00.250Z"]


def test_same_arguments_same_bytes() -> None:
    """An answer can be made again, byte for byte."""
    assert answer(BLOCKS, MIXED) == answer(BLOCKS, MIXED)
    assert answer(BLOCKS).body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<')


def test_long_narratives_are_split() -> None:
    """A narrative goes on in further elements of at most 105 characters, and loses no word."""
    narrative = "Seventeen words of some length explain what is wrong. " * 6
    one = answer(HEADED, Verdict(status=Status.RJCT, reason="NARR", narrative=narrative))
    pieces = texts(one, "AddtlInf")
    assert len(pieces) > 4
    assert all(piece and len(piece) <= 105 for piece in pieces)
    assert " ".join(filter(None, pieces[: len(pieces) // 2])) == narrative.strip()


def test_narrative_reason_has_a_text() -> None:
    """NARR without words would point to nothing."""
    assert (
        texts(answer(HEADED, Verdict(status=Status.RJCT, reason="NARR")), "AddtlInf") == ["No further information."] * 2
    )


def test_rejection_without_reason() -> None:
    """A rejection must have a reason: not specified, if we have none."""
    assert set(texts(answer(HEADED, Verdict(status=Status.RJCT)), "Cd")) == {"MS03"}


def test_reasons_that_a_version_does_not_know() -> None:
    """Early versions have few codes: others are said as proprietary ones; what is no ISO code is never a code."""
    early = answer(HEADED, REJECTED, definition="pacs.002.001.02")
    assert (texts(early, "Cd"), texts(early, "Prtry")) == ([], ["AB05", "AB05"])
    invented = answer(HEADED, Verdict(status=Status.RJCT, reason="TOUT"))
    assert (texts(invented, "Cd"), texts(invented, "Prtry")) == ([], ["TOUT", "TOUT"])


@pytest.mark.parametrize(
    ("original", "answer_id", "now"),
    [
        (replace(THREE, message_id=None), "A", NOW),
        (replace(THREE, definition="camt.056.001.08"), "A", NOW),
        (THREE, "", NOW),
        (THREE, "A", NOW.replace(tzinfo=None)),
    ],
)
def test_callers_faults(original: Original, answer_id: str, now: datetime) -> None:
    """What only a caller can get wrong is an error, not a strange message."""
    with pytest.raises(ValueError, match=r"."):
        build(original, SETTLED, answer_id=answer_id, now=now)


# ------------------------------------------------------------------------------------------------------------ admi.002


@pytest.mark.parametrize("header", [None, HEADED.header])
def test_rejection_of_what_is_no_message(header: Header | None) -> None:
    """An admi.002 says what, why and where, with a header if there was one, and is valid."""
    one = build_admi002(
        reason="xml.malformed",
        narrative="Not well-formed\0 at <line> 3.",
        reference="T-1",
        now=NOW,
        answer_id="ANSWER-1",
        header=header,
        location="/",
    )
    assert one.definition == "admi.002.001.01"
    assert faults(one) == []
    assert (texts(one, "Ref"), texts(one, "RjctgPtyRsn"), texts(one, "ErrLctn")) == (["T-1"], ["xml.malformed"], ["/"])
    assert texts(one, "RsnDesc") == ["Not well-formed at <line> 3."]


def test_rejection_with_next_to_nothing() -> None:
    """Even without reference, reason and words the rejection is valid; with too many, too."""
    assert faults(build_admi002(reason="", narrative="", reference="", now=NOW, answer_id="A")) == []
    long = build_admi002(reason="r" * 99, narrative="n" * 30_000, reference="&" * 99, now=NOW, answer_id="A" * 99)
    assert faults(long) == []


# ------------------------------------------------------------------------------------------------------------ validity


@pytest.mark.parametrize("definition", SHAPES)
def test_every_version_is_valid(definition: str) -> None:
    """Each version of each answer, to requests of its kind, for each verdict, with and without header, is valid."""
    originals = (BLOCKS,) if definition.startswith("pain") else (THREE, HEADED)
    for original in originals:
        for verdict in VERDICTS:
            assert faults(answer(original, verdict, definition=definition)) == []


def _names(definition: str, *path: str) -> set[str]:
    return {child.name for child in CATALOGUE.children(definition, path)}


@pytest.mark.parametrize("definition", [name for name in SHAPES if CATALOGUE.knows(name) and name != "pain.002.001.01"])
def test_shapes_are_those_of_the_schemas(definition: str) -> None:
    """What `answers.toml` says a version has room for is what its schema has room for."""
    shape = SHAPES[definition]
    inside = (shape.root, "OrgnlPmtInfAndSts") if "blocks" in shape.has else (shape.root,)
    payment = (*inside, "TxInfAndSts")
    agent = (*payment, "OrgnlTxRef", "DbtrAgt", "FinInstnId")
    names = _names(definition, *payment)
    has = {
        "bicfi": "BICFI" in _names(definition, *agent),
        "lei": "LEI" in _names(definition, *agent),
        "member": "MmbId" in _names(definition, *agent, "ClrSysMmbId"),
        "uetr": "OrgnlUETR" in names,
        "blocks": "OrgnlPmtInfAndSts" in _names(definition, shape.root),
        "party": any(
            child.name == "InitgPty" and child.occurs_min
            for child in CATALOGUE.children(definition, (shape.root, "GrpHdr"))
        ),
        "reference": not any(child.occurs_min for child in CATALOGUE.children(definition, (*payment, "OrgnlTxRef"))),
    }
    assert {word for word in has if word in shape.has} == {word for word, there in has.items() if there}
    if definition.startswith("pacs"):
        assert {"InstgAgt", "InstdAgt", "OrgnlTxId"} <= names
        assert {"agents", "tx"} <= shape.has
    assert shape.is_first_edition is ("StsRsn" in _names(definition, shape.root, "OrgnlGrpInfAndSts", "StsRsnInf"))


def test_early_reasons_are_those_of_the_schemas() -> None:
    """The versions that list reason codes by themselves list the ones that we have."""
    types = {"PaymentReject1Code", "TransactionRejectReason2Code"}
    for definition, shape in SHAPES.items():
        if CATALOGUE.knows(definition):
            schema = etree.fromstring(CATALOGUE.xsd(definition))
            listed = [one for one in schema.iter("{*}simpleType") if one.get("name") in types]
            codes = {str(code.get("value")) for one in listed for code in one.iter("{*}enumeration")}
            assert codes == shape.reasons


#: A value that fits each field; what is not named here is an id.
FITTING: Final = {
    "created_at": "2026-11-22T10:00:00+01:00",
    "number_of_transactions": "1",
    "control_sum": "10",
    "total_amount": "10",
    "amount": "10",
    "equivalent_amount": "10",
    "settlement_date": "2026-11-23",
    "requested_execution_date": "2026-11-23",
    "accepted_at": "2026-11-22T10:00:00+01:00",
    "uetr": "0e8b2a4c-5d6f-4a1b-9c3d-7e8f9a0b1c2d",
    "bic": "EXMPDEFFXXX",
    "lei": "5493001KJTIIGC8Y1R12",
}


def filled(definition: str) -> bytes:
    """A request of that version with every field that is read, at every place where versions have it."""
    layouts = TABLES["layouts"]
    layout = layouts.get(definition) or layouts.get(definition[:8], {})

    def record(*tables: str) -> etree._Element:
        element = etree.Element("record")
        for path, slot in paths(*tables).items():
            inside = element
            for name in path.split("/"):
                found = inside.find(name)
                inside = etree.SubElement(inside, name) if found is None else found
            inside.text = FITTING.get(slot.rpartition(".")[2], f"EXAMPLE-{slot[:20]}")
            if slot.endswith("amount"):
                inside.set("Ccy", "EUR")
        return element

    body = record("message")
    payment = record(*layout["payment_tables"])
    payment.tag = layout["payment"]
    if "block" in layout:
        block = record(*layout.get("block_tables", ()))
        block.tag = layout["block"]
        block.append(payment)
        body.append(block)
    else:
        body.append(payment)
    body.tag = CATALOGUE.children(definition)[0].name
    tech = "" if definition == "pain.001.001.01" else "tech:"
    content = etree.tostring(body, encoding="unicode")
    return f'<Document xmlns="urn:iso:std:iso:20022:{tech}xsd:{definition}">{content}</Document>'.encode()


@pytest.mark.parametrize(
    "definition", [one.name for one in CATALOGUE.definitions() if answer_definition(one.name) is not None]
)
def test_every_request_version_gets_a_valid_answer(definition: str) -> None:
    """To every version of every request, with all that can be read of it, the answer is valid and names the payment."""
    original = extract(read(filled(definition)))
    assert len(original.payments) == 1
    for verdict in (SETTLED, REJECTED):
        one = answer(original, verdict)
        assert one.definition == answer_definition(definition)
        assert faults(one) == []
        assert texts(one, "TxSts") == [verdict.status.value]
        ids = texts(one, "OrgnlEndToEndId") + texts(one, "EndToEndId")
        assert ids == [original.payments[0].end_to_end_id]


XML_TEXT: Final = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")
)
FIELD: Final = (
    st.none() | XML_TEXT | st.sampled_from(["", "2026-11-22", "2026-02-30", "9" * 40, "1.123456789", " ", "-1"])
)
AGENT: Final = st.none() | st.builds(
    Agent,
    bic=FIELD | st.sampled_from(["EXMPDEFF", "1XMPDEFF"]),
    clearing_system=FIELD,
    clearing_system_is_proprietary=st.booleans(),
    clearing_member=FIELD,
    lei=FIELD,
    other=FIELD,
    is_organisation=st.booleans(),
)
PAYMENT: Final = st.builds(
    OriginalPayment,
    ordinal=st.just(1),
    group=st.none(),
    xpath=st.just(""),
    line=st.none(),
    instruction_id=FIELD,
    end_to_end_id=FIELD,
    transaction_id=FIELD,
    uetr=FIELD,
    amount=FIELD | st.sampled_from(["1.10", "+5.", ".5", "1e3", "123456789012345678.1"]),
    currency=FIELD | st.just("EUR"),
    settlement_date=FIELD,
    accepted_at=FIELD | st.sampled_from(["2026-11-22T10:00:00Z", "2026-11-22T24:00:00", "2026-11-22T10:61:00"]),
    debtor_agent=AGENT,
    creditor_agent=AGENT,
    instructing_agent=AGENT,
    instructed_agent=AGENT,
    debtor_iban=FIELD,
    creditor_iban=FIELD,
)
HEADER: Final = st.builds(
    Header,
    definition=st.sampled_from([f"head.001.001.0{version}" for version in range(1, 5)]),
    sender=AGENT,
    receiver=AGENT,
    business_message_id=FIELD,
    message_definition=FIELD,
    business_service=FIELD,
    created_at=FIELD | st.sampled_from(["2026-11-22T10:00:00Z", "2026-11-22T10:00:00+01:00"]),
    possible_duplicate=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(
    definition=st.sampled_from([name for name in SHAPES if CATALOGUE.knows(name)]),
    payments=st.lists(PAYMENT, max_size=3),
    header=st.none() | HEADER,
    message_id=XML_TEXT.filter(bool),
    created_at=FIELD,
    number=FIELD,
    total=FIELD,
    agent=AGENT,
    reason=st.none() | st.sampled_from(["AC03", "NARR", "TOUT", "MS03"]),
    narrative=st.none() | st.text(max_size=300),
)
def test_broken_requests_get_valid_answers(
    *,
    definition: str,
    payments: list[OriginalPayment],
    header: Header | None,
    message_id: str,
    created_at: str | None,
    number: str | None,
    total: str | None,
    agent: Agent | None,
    reason: str | None,
    narrative: str | None,
) -> None:
    """However invalid a request is, its answer is valid, and names it."""
    original = Original(
        definition="pain.001.001.09" if definition.startswith("pain") else "pacs.008.001.08",
        message_id=message_id,
        created_at=created_at,
        number_of_transactions=number,
        control_sum=total,
        instructing_agent=agent,
        instructed_agent=agent,
        header=header,
        payments=tuple(replace(payment, ordinal=place) for place, payment in enumerate(payments, 1)),
    )
    verdict = Verdict(status=Status.RJCT, reason=reason, narrative=narrative)
    if not has_usable_original(original):  # cut to fit, its name would be another message's
        with pytest.raises(ValueError, match="build_admi002"):
            answer(original, verdict, definition=definition)
        return
    one = answer(original, verdict, definition=definition)
    assert faults(one) == []
    name = "GrpId" if definition == "pain.002.001.01" else "OrgnlMsgId"
    assert texts(one, name) == [message_id]


def test_many_payments() -> None:
    """Thousands of payments are answered each, in order, in a valid answer."""
    payments = tuple(replace(THREE.payments[0], ordinal=place, transaction_id=f"T{place}") for place in range(1, 3001))
    one = answer(replace(THREE, payments=payments), MIXED)
    assert texts(one, "OrgnlTxId") == [f"T{place}" for place in range(1, 3001)]
    assert texts(one, "TxSts").count("RJCT") == 1
    assert faults(one) == []


# -------------------------------------------------------------------------------------------------------------- oracle

FAMILIES: Final = (
    "pacs.008",
    "pacs.009",
    "pacs.003",
    "pacs.010",
    "pacs.004",
    "pacs.007",
    "pain.001",
    "pain.008",
    "pain.013",
)


@cache
def official(definition: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(ORACLE / "xsd" / f"{definition}.xsd"))


def requests() -> Iterator[tuple[str, Original]]:
    """Every real request that a status report can answer."""
    with (ORACLE / "samples" / "INDEX.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            body = (ORACLE / "samples" / row["file"]).read_bytes()
            original = extract(read(body, Limits(bytes_max=10_000_000)))
            if original.definition.startswith(FAMILIES) and has_usable_original(original):
                yield row["file"], original


@pytest.mark.oracle
@pytest.mark.skipif(not ORACLE.is_dir(), reason=f"no official schemas at {ORACLE}")
def test_answers_to_real_requests_are_officially_valid() -> None:
    """To every real request, valid or not, the answers are valid by ISO's own schemas, in each version there is."""
    wrong = []
    count = 0
    for file, original in requests():
        for verdict in VERDICTS:
            for definition in [name for name in SHAPES if name[:4] == original.definition[:4]]:
                count += 1
                envelope = read(answer(original, verdict, definition=definition).body, Limits(bytes_max=10_000_000))
                document, header = envelope.document, envelope.header
                good = document is not None and official(definition).validate(document)
                if header is not None and envelope.header_definition is not None:
                    good = good and official(envelope.header_definition).validate(header)
                if not good:
                    wrong.append((file, definition))
    assert count > 4000
    assert wrong == []


@pytest.mark.parametrize("verdict", VERDICTS, ids=["settled", "rejected", "mixed"])
@pytest.mark.parametrize("original", [THREE, HEADED, BLOCKS], ids=["three", "headed", "blocks"])
@pytest.mark.parametrize("definition", [None, "first"])
def test_an_answer_in_pieces_is_the_same(original: Original, verdict: Verdict, definition: str | None) -> None:
    """What is streamed over payments that are walked again and again comes to the same bytes."""
    if definition is not None:
        family = (answer_definition(original.definition) or "")[:8]
        definition = min(name for name in SHAPES if name.startswith(family))
    more = {} if definition is None else {"definition": definition}
    whole = answer(original, verdict, **more)
    rest = replace(original, payments=(), groups=())
    name, pieces = stream(
        rest, verdict, original.payments, original.groups, answer_id="ANSWER-1", now=NOW, definition=definition
    )
    assert (name, b"".join(pieces)) == (whole.definition, whole.body)
