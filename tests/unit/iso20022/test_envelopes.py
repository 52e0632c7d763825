import csv
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.iso20022.bulk.recognising import recognise
from interlock.iso20022.envelopes import Envelope, Limits, is_json, path_of, pinpoint, read
from interlock.iso20022.fields import extract
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Agent, EnvelopeKind, Original, to_decimal

SAMPLES: Final = Path(__file__).parents[2] / "samples"
ORACLE: Final = Path(__file__).parents[3].parent / "shared" / "iso20022"
NS: Final = "urn:iso:std:iso:20022:tech:xsd:"
BARE: Final = (SAMPLES / "pacs.008.001.08.xml").read_bytes()
WRAPPED: Final = (SAMPLES / "pacs.008.001.08_bah.xml").read_bytes()
SMALL: Final = f'<Document xmlns="{NS}pacs.008.001.08"><FIToFICstmrCdtTrf/></Document>'
HEADER: Final = f'<AppHdr xmlns="{NS}head.001.001.02"><BizMsgIdr>B1</BizMsgIdr></AppHdr>'

#: What the reference's own sample does: namespaces bound to prefixes that no element uses.
UNUSED: Final = f"""<RequestPayload>
<AppHdr xmlns:h="{NS}head.001.001.02"><BizMsgIdr>B1</BizMsgIdr></AppHdr>
<Document xmlns:p="{NS}pacs.008.001.08">
<FIToFICstmrCdtTrf><GrpHdr><MsgId>M1</MsgId></GrpHdr></FIToFICstmrCdtTrf></Document></RequestPayload>"""


def rules(envelope: Envelope) -> list[str]:
    return [finding.rule for finding in envelope.findings]


def original(document: str, definition: str) -> Original:
    return extract(read(f'<Document xmlns="{NS}{definition}">{document}</Document>'.encode()))


# ------------------------------------------------------------------------------------------------------- recognising


def test_bare_document() -> None:
    """A Document alone is a message without header and wrapper."""
    envelope = read(BARE)
    assert (envelope.definition, envelope.header_definition, envelope.wrapper) == ("pacs.008.001.08", None, None)
    assert not envelope.findings


SAA: Final = "urn:swift:saa:xsd:saa.2.0"
NVLP: Final = f"{NS}nvlp.001.001.01"
PARTS: Final = f"{HEADER}{SMALL}"
FEDNOW: Final = (
    '<FedNowIncoming xmlns="urn:fednow:incoming:v001"><FedNowTechnicalHeader><x/></FedNowTechnicalHeader>'
    f"<FedNowIncomingMessage><FedNowCustomerCreditTransfer>{PARTS}</FedNowCustomerCreditTransfer>"
    "</FedNowIncomingMessage></FedNowIncoming>"
)
FEDWIRE: Final = (
    '<FedwireFundsOutgoing xmlns="urn:fedwirefunds:outgoing:v001"><FedwireFundsOutgoingMessage>'
    f"<FedwireFundsCustomerCreditTransfer>{PARTS}</FedwireFundsCustomerCreditTransfer>"
    "</FedwireFundsOutgoingMessage></FedwireFundsOutgoing>"
)
RTP: Final = (
    f'<Message xmlns="urn:tch" xmlns:head="{NS}head.001.001.02" xmlns:ct="{NS}pacs.008.001.08">'
    "<AppHdr><head:Fr/></AppHdr>\n<CreditTransfer><ct:FIToFICstmrCdtTrf/></CreditTransfer></Message>"
)


@pytest.mark.parametrize(
    ("body", "wrapper", "kind"),
    [
        (SMALL, None, EnvelopeKind.BARE),
        (PARTS, None, EnvelopeKind.SIBLINGS),
        (f"<Any>{PARTS}</Any>", "Any", EnvelopeKind.OTHER),
        (f"<Any>{SMALL}{HEADER}</Any>", "Any", EnvelopeKind.OTHER),
        (f"<a><b><c><Head>{HEADER}</Head></c></b><d>{SMALL}</d></a>", "a", EnvelopeKind.OTHER),
        (f"<RequestPayload>{PARTS}</RequestPayload>", "RequestPayload", EnvelopeKind.REQUEST_PAYLOAD),
        (f'<S:DataPDU xmlns:S="{SAA}"><S:Body>{PARTS}</S:Body></S:DataPDU>', "DataPDU", EnvelopeKind.DATA_PDU),
        (f'<DataPDU xmlns="urn:other"><Body>{PARTS}</Body></DataPDU>', "DataPDU", EnvelopeKind.OTHER),
        (
            f'<BizMsgEnvlp xmlns="{NVLP}"><Hdr>{HEADER}</Hdr><Doc>{SMALL}</Doc></BizMsgEnvlp>',
            "BizMsgEnvlp",
            EnvelopeKind.BUSINESS_MESSAGE,
        ),
        (
            f'<e:BizMsgEnvlp xmlns:e="{NS}nvlp.001.001.02"><e:Doc>{SMALL}</e:Doc></e:BizMsgEnvlp>',
            "BizMsgEnvlp",
            EnvelopeKind.BUSINESS_MESSAGE,
        ),
        (FEDNOW, "FedNowIncoming", EnvelopeKind.FEDNOW),
        (FEDWIRE, "FedwireFundsOutgoing", EnvelopeKind.FEDWIRE),
        (RTP, "Message", EnvelopeKind.RTP),
    ],
)
def test_envelopes_of_every_kind(body: str, wrapper: str | None, kind: EnvelopeKind) -> None:
    """Header and document are found in every kind of wrapper, also in those that nobody told us of, and it is named."""
    envelope = read(body.encode())
    assert envelope.definition == "pacs.008.001.08"
    assert envelope.header_definition in ("head.001.001.02", None)
    assert (envelope.wrapper, envelope.kind) == (wrapper, kind)
    assert [rule for rule in rules(envelope) if rule != "xml.siblings"] == []


def test_a_network_with_names_of_its_own() -> None:
    """What it calls otherwise is header and document, and paths and lines are those of the bytes received."""
    envelope = read(RTP.encode())
    assert envelope.header is not None
    assert path_of(envelope.header) == "/Message/AppHdr"
    original = extract(envelope)
    assert (original.xpath, original.line) == ("/Message/CreditTransfer/FIToFICstmrCdtTrf", 2)
    place = f"{original.xpath}/GrpHdr/MsgId"
    finding = Finding(severity=Severity.ERROR, rule="r", reason="FF01", xpath=place, line=None, text="t")
    assert [told.line for told in pinpoint(envelope, [finding])] == [2]


@pytest.mark.parametrize(
    ("change", "rule", "says"),
    [
        (("CreditTransfer>", "PaymentRequest>"), "envelope.no_document", "into one element CreditTransfer in"),
        (("CreditTransfer>", "Document>"), "envelope.namespace", "Document is in a namespace that is not its own"),
        (("<head:Fr/>", ""), "envelope.namespace", "AppHdr is in a namespace that is not its own"),
        (("<ct:FIToFICstmrCdtTrf/>", ""), "envelope.no_document", "the message itself is missing"),
        (
            ("pacs.008.001.08", "camt.060.001.05"),
            "envelope.no_document",
            "An element of camt.060.001.05 does not stand",
        ),
    ],
)
def test_a_network_names_that_do_not_fit(change: tuple[str, str], rule: str, says: str) -> None:
    """An element that does not hold what its name says, or holds nothing, is not taken for it."""
    envelope = read(RTP.replace(*change).encode())
    found = [finding for finding in envelope.findings if finding.severity is Severity.ERROR]
    assert rule in [finding.rule for finding in found]
    assert any(says in finding.text for finding in found)
    assert envelope.kind is EnvelopeKind.RTP


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (FEDNOW, []),
        (
            FEDNOW.replace("FedNowCustomerCreditTransfer", "FedNowReturnRequest"),
            ["FedNowReturnRequest is for camt.056,"],
        ),
        (
            FEDWIRE.replace("CustomerCreditTransfer", "PaymentReturn"),
            ["FedwireFundsPaymentReturn is for pacs.004, and holds pacs.008.001.08:"],
        ),
        (FEDWIRE.replace("CustomerCreditTransfer", "SomethingElse"), []),
    ],
)
def test_a_message_in_an_element_for_others(body: str, said: list[str]) -> None:
    """What a scheme's envelope calls something else than it is, is neither."""
    found = [finding for finding in read(body.encode()).findings if finding.rule == "envelope.place"]
    assert [(one.severity, one.text[: len(text)]) for one, text in zip(found, said, strict=True)] == [
        (Severity.WARNING, text) for text in said
    ]


def test_siblings_are_a_warning() -> None:
    """Header and document with nothing around them are read, in either order, and the sender is told."""
    for body in (PARTS, f"\ufeff<?xml version='1.0' encoding='UTF-8'?>\n{SMALL}\n {HEADER}\n"):
        envelope = read(body.encode())
        assert (envelope.definition, envelope.header_definition) == ("pacs.008.001.08", "head.001.001.02")
        (finding,) = envelope.findings
        assert (finding.rule, finding.severity) == ("xml.siblings", Severity.WARNING)
    original = extract(read(f"{HEADER}\n{SMALL}".encode()))
    assert (original.xpath, original.line) == ("/Document/FIToFICstmrCdtTrf", 2)
    assert original.header is not None
    assert original.header.xpath == "/AppHdr"


@pytest.mark.parametrize(
    "body",
    [
        SMALL + SMALL,
        HEADER + HEADER + SMALL,
        PARTS + "text",
        PARTS + "<more/>",
        f"<a/>{SMALL}",
        f"{HEADER}<!DOCTYPE a>{SMALL}",
        f"{HEADER}<?xml version='1.0'?>{SMALL}",
    ],
)
def test_other_siblings_are_not_read(body: str) -> None:
    """Anything else that is more than one document is no XML."""
    envelope = read(body.encode())
    assert envelope.document is None
    assert rules(envelope) in (["xml.malformed"], ["xml.doctype"])


def test_strangers_in_a_wrapper_are_told() -> None:
    """An element beside header and document that is not known there is a warning with its place, never dropped."""
    envelope = read(f"<Any><Who>Ada</Who>{HEADER}<Deep><x/>{SMALL}</Deep></Any>".encode())
    assert envelope.document is not None
    assert [(f.rule, f.severity, f.xpath) for f in envelope.findings] == [
        ("envelope.unknown", Severity.WARNING, "/Any/Who"),
        ("envelope.unknown", Severity.WARNING, "/Any/Deep/x"),
    ]
    assert "Ada" not in "".join(f.text for f in envelope.findings)
    known = read(f'<DataPDU xmlns="{SAA}"><Revision>2</Revision><Other/><Body>{SMALL}</Body></DataPDU>'.encode())
    assert [f.xpath for f in known.findings] == ["/DataPDU/Other"]


def test_many_strangers_are_counted() -> None:
    """A wrapper full of strangers gives a bounded number of findings."""
    findings = read(f"<Any>{'<x/>' * 5000}{SMALL}</Any>".encode()).findings
    assert len(findings) == 21
    assert "4980 further" in findings[-1].text


def test_content_in_no_namespace_is_named() -> None:
    """A prefix on the outermost element alone leaves its content in no namespace: the finding says so, and how to mend.

    Lenient, it is read as meant.
    """
    body = f'<p:Document xmlns:p="{NS}pacs.008.001.08">\n<FIToFICstmrCdtTrf><GrpHdr><MsgId>M1</MsgId></GrpHdr>'
    body += "</FIToFICstmrCdtTrf></p:Document>"
    strict, lenient = read(body.encode()), read(body.encode(), lenient=True)
    (finding,) = strict.findings
    assert (finding.rule, finding.severity, finding.line) == ("envelope.namespace", Severity.ERROR, 2)
    assert "FIToFICstmrCdtTrf is in none" in finding.text
    assert [f.severity for f in lenient.findings] == [Severity.WARNING]
    assert (extract(strict).message_id, extract(lenient).message_id) == (None, "M1")
    other = read(f'<Document xmlns="{NS}pacs.008.001.08"><F xmlns="urn:other"/></Document>'.encode(), lenient=True)
    assert [(f.rule, f.severity) for f in other.findings] == [("envelope.namespace", Severity.ERROR)]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso-8859-1", "windows-1252"]
)
def test_encodings(encoding: str) -> None:
    """Every encoding that the declaration or a byte order mark names gives the same fields."""
    name = encoding.removesuffix("-sig").removesuffix("-le").removesuffix("-be")
    text = f'<?xml version="1.0" encoding="{name}"?>' + SMALL.replace(
        "<FIToFICstmrCdtTrf/>", "<FIToFICstmrCdtTrf><GrpHdr><MsgId>é1</MsgId></GrpHdr></FIToFICstmrCdtTrf>"
    )
    body = text.encode(encoding)
    if encoding in ("utf-16-le", "utf-16-be"):
        body = "\ufeff".encode(encoding) + body
    assert extract(read(body)).message_id == "é1"


def test_first_edition_namespace() -> None:
    """The namespaces of 2005 have no `tech` in them and are namespaces of ISO 20022 all the same."""
    envelope = read(b'<Document xmlns="urn:iso:std:iso:20022:xsd:pain.001.001.01"><pain.001.001.01/></Document>')
    assert envelope.definition == "pain.001.001.01"


def test_lines_are_those_of_the_bytes() -> None:
    """A payment's line is the one that its sender sees."""
    payment = extract(read(BARE)).payments[1]
    assert payment.line is not None
    assert b"<CdtTrfTxInf>" in BARE.splitlines()[payment.line - 1]


# ----------------------------------------------------------------------------------------------------------- refusing

BOMB: Final = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><a x="&c;">&c;</a>'


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "xml.empty"),
        (b" \r\n", "xml.empty"),
        (b"{}", "envelope.json"),
        (b"not xml", "xml.malformed"),
        (b"\0\0\0\0", "xml.malformed"),
        (b"<a><b></a>", "xml.malformed"),
        (b"<a/><b/>", "xml.malformed"),
        (b"<a>&nbsp;</a>", "xml.malformed"),
        (b'<?xml version="1.0" encoding="none-such"?><a/>', "xml.malformed"),
        (b"<a>\xff</a>", "xml.malformed"),
        (b"<!DOCTYPE a><a/>", "xml.doctype"),
        (b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd"><a/>', "xml.doctype"),
        (b'<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]><a/>', "xml.doctype"),
        (BOMB.encode(), "xml.doctype"),
        (BOMB.encode("utf-16"), "xml.doctype"),
        (f'<?xml version="1.0" encoding="UTF-16LE"?>{BOMB}'.encode("utf-16-le"), "xml.doctype"),
        (f'<?xml version="1.0" encoding="UTF-16BE"?>{BOMB}'.encode("utf-16-be"), "xml.doctype"),
        (BARE.decode().encode("utf-32"), "xml.malformed"),
        (BARE.decode().encode("utf-32-be"), "xml.malformed"),
        (b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE a+AD4APA-a/+AD4-', "xml.doctype"),
        (b" " * 5000 + b"<!DOCTYPE a><a/>", "xml.doctype"),
        (b"<a>" * 65 + b"</a>" * 65, "xml.depth"),
        (b"<a>" * 5000 + b"</a>" * 5000, "xml.depth"),
        (b"<a>" + b"x" * 10_100_000 + b"</a>", "xml.size"),
        (b"<" + b"n" * 60_000 + b"/>", "xml.size"),
        (b"<a>" + b"<b/>" * 200_000 + b"</a>", "xml.nodes"),
        (b"<a>" + b" " * 1_048_576 + b"</a>", "xml.size"),
        (b"<a/>", "envelope.no_document"),
        (HEADER.encode(), "envelope.no_document"),
        (f"<a>{SMALL}{SMALL}</a>".encode(), "envelope.many"),
        (f"<a>{HEADER}{HEADER}{SMALL}</a>".encode(), "envelope.many_headers"),
        (b"<Document/>", "envelope.namespace"),
        (b'<Document xmlns="https://example.org/pacs.008/1.5"/>', "envelope.namespace"),
        (f'<a><AppHdr xmlns="{NS}pacs.008.001.08"/>{SMALL}</a>'.encode(), "envelope.namespace"),
    ],
)
def test_refusals(body: bytes, rule: str) -> None:
    """Each thing that makes bytes no message has a finding of its own, of weight error, with a reason of ISO."""
    envelope = read(body)
    assert rules(envelope) == [rule]
    assert envelope.findings[0].severity is Severity.ERROR
    assert envelope.findings[0].reason == "FF01"
    assert envelope.document is None or rule in ("envelope.many_headers", "envelope.namespace")


def test_doctype_in_comment_is_none() -> None:
    """The word alone is no DOCTYPE: comments and texts may hold it."""
    assert not read(SMALL.replace("<FI", "<!-- <!DOCTYPE a> --><FI").encode()).findings


def test_limits_are_limits() -> None:
    """What is just at a limit passes."""
    nested = b"<a>" * 63 + SMALL.encode() + b"</a>" * 63
    assert rules(read(nested)) == ["xml.depth"]
    assert not read(nested, Limits(depth_max=65)).findings
    assert not read(BARE, Limits(bytes_max=len(BARE))).findings
    assert rules(read(BARE, Limits(bytes_max=len(BARE) - 1))) == ["xml.size"]


def test_syntax_findings_hold_nothing_of_the_message() -> None:
    """Where it breaks and how is said; what stands there is not, since it may be personal data."""
    (finding,) = read(b"<a>\n<Nm>Ada Example</Nam></a>").findings
    assert (finding.line, "Ada" in finding.text, "tag name mismatch" in finding.text) == (2, False, True)


def test_unused_prefix_is_named() -> None:
    """The finding about a declared but unused namespace tells the prefix and what to do."""
    envelope = read(UNUSED.encode())
    assert envelope.document is None
    assert rules(envelope) == ["envelope.namespace", "envelope.namespace"]
    about_header, about_document = envelope.findings
    assert "prefix h " in about_header.text
    assert "head.001.001.02" in about_header.text
    assert "p:Document" in about_document.text
    assert (about_document.xpath, about_document.line) == ("/RequestPayload/Document", 3)


def test_a_namespace_that_is_used_is_not_the_one_meant() -> None:
    """That of the envelope itself is no message's, whatever its prefix, and a lenient reader moves nothing into it."""
    body = f'<e:BizMsgEnvlp xmlns:e="{NS}nvlp.001.001.01"><e:Doc><Document/></e:Doc></e:BizMsgEnvlp>'.encode()
    for envelope in (read(body), read(body, lenient=True)):
        assert (rules(envelope), envelope.document) == (["envelope.namespace"], None)
        assert "nvlp" not in envelope.findings[0].text


@pytest.mark.parametrize(
    ("body", "xpath", "says"),
    [
        (HEADER, "/AppHdr", "the message itself is missing"),
        (f"<a>{HEADER}</a>", "/a/AppHdr", "the message itself is missing"),
        (
            f'<BizMsgEnvlp xmlns="{NS}nvlp.001.001.01"><Hdr>{HEADER}</Hdr></BizMsgEnvlp>',
            "/BizMsgEnvlp/Hdr/AppHdr",
            "the message itself is missing",
        ),
        (f"<a>{SMALL}</a>".replace("Document", "document"), "/a/document", "pacs.008.001.08 does not stand in a Doc"),
        (f'<FIToFICstmrCdtTrf xmlns="{NS}pacs.008.001.08"/>', "/FIToFICstmrCdtTrf", "pacs.008.001.08 does not stand"),
        ("<invoice/>", "/", "an element Document in the namespace of its version is wanted"),
    ],
)
def test_what_stands_in_place_of_a_document_is_told(body: str, xpath: str, says: str) -> None:
    """A header alone, a message that is not in a Document, and what is no message at all are different mistakes."""
    (finding,) = read(body.encode()).findings
    assert (finding.rule, finding.xpath) == ("envelope.no_document", xpath)
    assert says in finding.text


def test_lenient_reads_what_the_sender_meant() -> None:
    """A lenient reader moves the elements into the declared namespace, keeps the lines, and warns."""
    envelope = read(UNUSED.encode(), lenient=True)
    assert (envelope.header_definition, envelope.definition) == ("head.001.001.02", "pacs.008.001.08")
    assert {finding.severity for finding in envelope.findings} == {Severity.WARNING}
    read_original = extract(envelope)
    assert (read_original.message_id, read_original.line) == ("M1", 4)
    assert read_original.header is not None
    assert read_original.header.business_message_id == "B1"


def test_lenient_does_not_guess() -> None:
    """Without a declared namespace there is nothing to move elements into."""
    assert rules(read(b"<Document/>", lenient=True)) == ["envelope.namespace"]
    assert read(b"<Document/>", lenient=True).document is None


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (b'{"a": 1}', True),
        (b" \n[1]", True),
        (b'\xef\xbb\xbf"text"', True),
        (b"<a/>", False),
        (b"", False),
        (b"null", False),
    ],
)
def test_json_is_recognised(body: bytes, *, verdict: bool) -> None:
    """JSON objects, arrays and texts are told from XML by their first character."""
    assert is_json(body) is verdict


@given(st.binary(max_size=200))
def test_read_never_raises(body: bytes) -> None:
    """Whatever the bytes: an envelope, and a reason where it has no document."""
    envelope = read(body)
    assert envelope.document is not None or envelope.findings
    extract(envelope)


@given(st.integers(0, len(WRAPPED) - 1), st.binary(max_size=4), st.integers(0, 40))
def test_damaged_messages_never_raise(position: int, put: bytes, removed: int) -> None:
    """A message damaged anywhere is read, with or without findings, and what is left of it extracted."""
    body = WRAPPED[:position] + put + WRAPPED[position + removed :]
    envelope = read(body)
    assert envelope.document is not None or envelope.findings
    extract(envelope)


# ------------------------------------------------------------------------------------------------------------- fields


def test_fields_of_a_credit_transfer() -> None:
    """Every field of the model is read from where the message has it."""
    message = extract(read(WRAPPED))
    assert (message.message_id, message.created_at) == ("EXAMPLE-M-0001", "2026-11-22T10:00:00+01:00")
    assert (message.number_of_transactions, message.control_sum, message.groups) == ("1", None, ())
    assert message.transport is not None
    assert message.transport.around == (("BusinessMessage", None),)
    (payment,) = message.payments
    assert payment.xpath == "/BusinessMessage/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[1]"
    ids = payment.instruction_id, payment.end_to_end_id, payment.transaction_id, payment.uetr
    assert ids == ("EXAMPLE-I-0001", "EXAMPLE-E-0001", "EXAMPLE-T-0001", "0e8b2a4c-5d6f-4a1b-9c3d-7e8f9a0b1c2d")
    assert (payment.amount, payment.currency, payment.decimal) == ("250.00", "EUR", Decimal(250))
    assert payment.settlement_date == "2026-11-23"
    assert (payment.debtor_agent, payment.creditor_agent) == (Agent(bic="EXMPDEFFXXX"), Agent(bic="EXMPFRPPXXX"))
    assert (payment.instructing_agent, payment.instructed_agent) == (payment.debtor_agent, payment.creditor_agent)
    assert (payment.debtor_iban, payment.creditor_iban) == ("DE89370400440532013000", "FR1420041010050500013M02606")


def test_fields_of_a_header() -> None:
    """The header gives sender, receiver, id, and what it says the message is."""
    header = extract(read(WRAPPED)).header
    assert header is not None
    assert (header.sender, header.receiver) == (Agent(bic="EXMPDEFFXXX"), Agent(bic="EXMPFRPPXXX"))
    assert (header.business_message_id, header.message_definition) == ("EXAMPLE-M-0001", "pacs.008.001.08")
    assert (header.definition, header.possible_duplicate) == ("head.001.001.02", False)
    assert (header.xpath, header.line) == ("/BusinessMessage/AppHdr", 4)


def test_header_of_an_organisation() -> None:
    """A header can name organisations, by BIC, LEI or another id, and can mark a possible duplicate."""
    fr = "<Fr><OrgId><Id><OrgId><Othr><Id>ACME</Id></Othr></OrgId></Id></OrgId></Fr><PssblDplct>true</PssblDplct>"
    header = extract(read(f"<a>{HEADER.replace('<BizMsgIdr>', fr + '<BizMsgIdr>')}{SMALL}</a>".encode())).header
    assert header is not None
    assert header.sender == Agent(other="ACME", is_organisation=True)
    assert header.possible_duplicate


def test_groups_of_a_customer_message() -> None:
    """Each PmtInf is a group; its payments take debtor and account from it, ordinals run over all of them."""
    message = extract(read((SAMPLES / "pain.001.001.09.xml").read_bytes()))
    assert [group.payment_information_id for group in message.groups] == ["EXAMPLE-P-0001", "EXAMPLE-P-0002"]
    assert [(group.number_of_transactions, group.control_sum) for group in message.groups] == [
        ("2", "30.30"),
        ("1", "30"),
    ]
    assert {group.requested_execution_date for group in message.groups} == {"2026-11-23"}
    assert [(payment.ordinal, payment.group) for payment in message.payments] == [(1, 0), (2, 0), (3, 1)]
    assert {payment.debtor_iban for payment in message.payments} == {"DE89370400440532013000"}
    assert message.payments[2].xpath == "/Document/CstmrCdtTrfInitn/PmtInf[2]/CdtTrfTxInf[1]"


def test_banks_as_debtor_and_creditor() -> None:
    """In pacs.009 a debtor or creditor without an agent is its own."""
    (payment,) = extract(read((SAMPLES / "pacs.009.001.08_bah.xml").read_bytes())).payments
    assert (payment.debtor_agent, payment.creditor_agent) == (Agent(bic="EXMPDEFFXXX"), Agent(bic="EXMPJPJTXXX"))


def test_equivalent_amounts() -> None:
    """An EqvtAmt is told from an instructed amount, since an answer must not repeat it as one."""
    amt = '<Amt><EqvtAmt><Amt Ccy="USD">5</Amt><CcyOfTrf>EUR</CcyOfTrf></EqvtAmt></Amt>'
    body = f"<CstmrCdtTrfInitn><PmtInf><CdtTrfTxInf>{amt}</CdtTrfTxInf></PmtInf></CstmrCdtTrfInitn>"
    (payment,) = original(body, "pain.001.001.09").payments
    assert (payment.amount, payment.currency, payment.amount_is_equivalent) == ("5", "USD", True)


def test_returns() -> None:
    """The payments of a return are those that come back, under their original references."""
    body = """<PmtRtr><GrpHdr><MsgId>R1</MsgId><TtlRtrdIntrBkSttlmAmt Ccy="EUR">7</TtlRtrdIntrBkSttlmAmt></GrpHdr>
      <TxInf><RtrId>X</RtrId><OrgnlEndToEndId>E</OrgnlEndToEndId><OrgnlTxId>T</OrgnlTxId>
      <RtrdIntrBkSttlmAmt Ccy="EUR">7</RtrdIntrBkSttlmAmt></TxInf><TxInf><RtrId>Y</RtrId></TxInf></PmtRtr>"""
    message = original(body, "pacs.004.001.09")
    assert (message.total_amount, message.total_currency) == ("7", "EUR")
    assert [payment.transaction_id for payment in message.payments] == ["T", None]
    assert [payment.own_id for payment in message.payments] == ["X", "Y"]
    assert (message.payments[0].end_to_end_id, message.payments[0].amount) == ("E", "7")


def test_reversals_between_customer_and_bank() -> None:
    """The payments of a pain.007 are those that are undone, in the blocks that they were sent in."""
    payment = '<RvslId>X</RvslId><OrgnlEndToEndId>E</OrgnlEndToEndId><RvsdInstdAmt Ccy="EUR">7</RvsdInstdAmt>'
    block = f"<OrgnlPmtInfId>P</OrgnlPmtInfId><OrgnlNbOfTxs>9</OrgnlNbOfTxs><TxInf>{payment}</TxInf>"
    body = f"<CstmrPmtRvsl><OrgnlPmtInfAndRvsl>{block}</OrgnlPmtInfAndRvsl></CstmrPmtRvsl>"
    message = original(body, "pain.007.001.09")
    assert [(one.payment_information_id, one.number_of_transactions) for one in message.groups] == [("P", None)]
    (one,) = message.payments
    assert (one.own_id, one.end_to_end_id, one.amount, one.group) == ("X", "E", "7", 0)


def test_direct_debits_between_banks() -> None:
    """In pacs.010 the payments lie in credit instructions, which answers do not speak of."""
    bank = "<Cdtr><FinInstnId><BICFI>EXMPDEFFXXX</BICFI></FinInstnId></Cdtr><IntrBkSttlmDt>2026-11-23</IntrBkSttlmDt>"
    body = f"<FIDrctDbt><CdtInstr><CdtId>1</CdtId>{bank}<DrctDbtTxInf/><DrctDbtTxInf/></CdtInstr></FIDrctDbt>"
    message = original(body, "pacs.010.001.03")
    assert message.groups == ()
    assert [payment.creditor_agent for payment in message.payments] == [Agent(bic="EXMPDEFFXXX")] * 2
    assert [payment.settlement_date for payment in message.payments] == ["2026-11-23"] * 2


@pytest.mark.parametrize(
    ("definition", "body"),
    [
        ("camt.056.001.08", "<A><Assgnmt><Id>M</Id><CreDtTm>C</CreDtTm></Assgnmt></A>"),
        ("acmt.023.001.02", "<A><Assgnmt><MsgId>M</MsgId><CreDtTm>C</CreDtTm></Assgnmt></A>"),
        ("camt.003.001.07", "<A><MsgHdr><MsgId>M</MsgId><CreDtTm>C</CreDtTm></MsgHdr></A>"),
        ("pacs.028.001.03", "<A><GrpHdr><MsgId>M</MsgId><CreDtTm>C</CreDtTm></GrpHdr></A>"),
        ("pain.001.001.01", "<A><GrpHdr><GrpId>M</GrpId><CreDtTm>C</CreDtTm></GrpHdr></A>"),
    ],
)
def test_ids_of_other_messages(definition: str, body: str) -> None:
    """Messages that we know little of still say who they are and of when."""
    message = original(body, definition)
    assert (message.message_id, message.created_at, message.payments) == ("M", "C", ())


@pytest.mark.parametrize(
    ("inner", "agent"),
    [
        ("<BICFI>B</BICFI>", Agent(bic="B")),
        ("<BIC>B</BIC>", Agent(bic="B")),
        (
            "<ClrSysMmbId><ClrSysId><Cd>USABA</Cd></ClrSysId><MmbId>1</MmbId></ClrSysMmbId>",
            Agent(clearing_system="USABA", clearing_member="1"),
        ),
        (
            "<ClrSysMmbId><ClrSysId><Prtry>Club</Prtry></ClrSysId><MmbId>1</MmbId></ClrSysMmbId>",
            Agent(clearing_system="Club", clearing_system_is_proprietary=True, clearing_member="1"),
        ),
        ("<LEI>L</LEI>", Agent(lei="L")),
        ("<Othr><Id>O</Id></Othr>", Agent(other="O")),
        ("<CmbndId><BIC>B</BIC></CmbndId>", Agent(bic="B")),
        ("<Nm>Only a name</Nm>", None),
    ],
)
def test_names_of_agents(inner: str, agent: Agent | None) -> None:
    """An institution is known by BIC, clearing member, LEI or another id, whatever the version calls them."""
    body = f"<F><GrpHdr><InstgAgt><FinInstnId>{inner}</FinInstnId></InstgAgt></GrpHdr></F>"
    assert original(body, "pacs.008.001.08").instructing_agent == agent


def test_comments_do_not_split_texts() -> None:
    """A comment or processing instruction within a text hides none of it."""
    body = "<F><GrpHdr><MsgId>A<!-- x -->B<?y?>C<![CDATA[D]]></MsgId></GrpHdr></F>"
    assert original(body, "pacs.008.001.08").message_id == "ABCD"


def test_endless_texts_are_cut() -> None:
    """A text longer than any field may be is kept in part only: invalid as before, but no burden on memory."""
    message = original(f"<F><GrpHdr><MsgId>{'M' * 100_000}</MsgId></GrpHdr></F>", "pacs.008.001.08")
    assert message.message_id == "M" * 256
    name = "W" * 5000
    transport = extract(read(f"<{name}>{HEADER}{SMALL}</{name}>".encode())).transport
    assert transport is not None
    assert transport.around == ()


def test_first_element_wins() -> None:
    """Of an element that may stand once, and stands twice, the first counts."""
    body = "<F><GrpHdr><MsgId>A</MsgId><MsgId>B</MsgId></GrpHdr></F>"
    assert original(body, "pacs.008.001.08").message_id == "A"


def test_elements_of_other_namespaces_are_not_ours() -> None:
    """A stranger with a familiar local name is not taken for the real thing."""
    body = '<F><GrpHdr><MsgId xmlns="urn:x">A</MsgId></GrpHdr></F>'
    assert original(body, "pacs.008.001.08").message_id is None


def test_many_payments() -> None:
    """Thousands of payments keep their order and their own fields."""
    payment = "<CdtTrfTxInf><PmtId><TxId>T{}</TxId></PmtId></CdtTrfTxInf>"
    body = "<F>" + "".join(payment.format(number) for number in range(5000)) + "</F>"
    payments = original(body, "pacs.008.001.08").payments
    assert [one.transaction_id for one in payments] == [f"T{number}" for number in range(5000)]
    assert [one.ordinal for one in payments] == list(range(1, 5001))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10.50", Decimal("10.50")),
        ("+1", Decimal(1)),
        (".5", Decimal("0.5")),
        ("5.", Decimal(5)),
        ("-0", Decimal(0)),
        ("1e5", None),
        ("NaN", None),
        ("Infinity", None),
        ("1,5", None),
        ("1_000", None),
        ("", None),
        (" 1", None),
        ("٣", None),
        (None, None),
    ],
)
def test_decimals(text: str | None, number: Decimal | None) -> None:
    """Only what XSD calls a decimal is a number."""
    assert to_decimal(text) == number


def test_pinpoint() -> None:
    """A finding gets the line of the very element, or of the last one on its path that there is."""

    def line(path: str) -> str:
        finding = Finding(severity=Severity.ERROR, rule="x", reason="FF01", xpath=path, line=None, text="")
        (found,) = pinpoint(read(BARE), [finding])
        assert found.line is not None
        return BARE.decode().splitlines()[found.line - 1].strip()

    base = "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[2]"
    assert line(f"{base}/IntrBkSttlmAmt") == '<IntrBkSttlmAmt Ccy="EUR">99.95</IntrBkSttlmAmt>'
    assert line(f"{base}/IntrBkSttlmAmt/@Ccy") == '<IntrBkSttlmAmt Ccy="EUR">99.95</IntrBkSttlmAmt>'
    assert line(f"{base}/NoSuch/Thing") == "<CdtTrfTxInf>"


# ------------------------------------------------------------------------------------------------------------- oracle


def _index() -> list[dict[str, str]]:
    path = ORACLE / "samples" / "INDEX.tsv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


@pytest.mark.oracle
@pytest.mark.skipif(not ORACLE.is_dir(), reason=f"no official samples at {ORACLE}")
def test_real_messages_are_recognised() -> None:
    """Of every real message we see the header, the document and the wrapper that are there, and say why where not."""
    wrong = []
    for row in _index():
        envelope = read((ORACLE / "samples" / row["file"]).read_bytes(), Limits(bytes_max=10_000_000))
        seen = "+".join(filter(None, (envelope.header_definition, envelope.definition)))
        if row["expected"] == "malformed":
            good = rules(envelope) in (["xml.malformed"], ["xml.siblings"])
        elif "." not in row["msgid"]:  # a namespace without its version: read, for no schema to judge
            good = seen == row["msgid"] and not envelope.findings
        elif row["msgid"].count("+") > 1:
            good = "envelope.many" in rules(envelope)
        elif row["msgid"].startswith("head.") and "+" not in row["msgid"]:
            good = seen == row["msgid"] and rules(envelope) == ["envelope.no_document"]
        else:
            known = {rule for rule in rules(envelope) if rule not in ("envelope.unknown", "envelope.place")}
            good = seen == row["msgid"] and (envelope.wrapper or "") == row["envelope"] and not known
        if not good:
            wrong.append((row["file"], seen, rules(envelope)))
    assert not wrong


@pytest.mark.parametrize("at", ["around", "on"])
def test_crowds_of_namespaces_are_refused(at: str) -> None:
    """What libxml2 does with them would take minutes; those that a message needs are few."""
    for number, rule in ((200, []), (300, ["xml.namespaces"]), (20_000, ["xml.namespaces"])):
        crowd = "".join(f' xmlns:n{one}="u:{one}"' for one in range(number))
        body = f"<a{crowd}>{PARTS}</a>" if at == "around" else SMALL.replace("<Document", f"<Document{crowd}", 1)
        assert [found.rule for found in read(body.encode()).findings] == rule


@pytest.mark.parametrize("report", ["TransmissionReport", "DeliveryNotification"])
def test_a_report_is_no_message(tmp_path: Path, report: str) -> None:
    """What a network tells of a message holds a copy of it, which must not be carried out again."""
    reported = f'<DataPDU xmlns="{SAA}"><Header><{report}/></Header><Body>{PARTS}</Body></DataPDU>'.encode()
    envelope = read(reported)
    assert envelope.is_report
    assert [(one.rule, one.severity) for one in envelope.findings] == [("envelope.report", Severity.ERROR)]
    assert report in envelope.findings[0].text
    path = tmp_path / "report.xml"
    path.write_bytes(reported)
    with path.open("rb") as file:
        refused = recognise(file, 100_000).refused
    assert refused is not None
    assert (refused.rule, refused.text) == ("envelope.report", envelope.findings[0].text)
    for around in ('<Envelope xmlns="urn:soap"><Body>{}</Body></Envelope>', "<a><b><c>{}</c></b></a>"):
        wrapped = around.format(reported.decode()).encode()
        assert [one.rule for one in read(wrapped).findings if one.severity is Severity.ERROR] == ["envelope.report"]
        assert read(wrapped).is_report
        path.write_bytes(wrapped)
        with path.open("rb") as file:
            assert recognise(file, 100_000).refused == refused
    message = reported.replace(report.encode(), b"Message")
    assert not read(message).is_report
    path.write_bytes(message)
    with path.open("rb") as file:
        assert recognise(file, 100_000).refused is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b' <?xml version="1.0"?><a/>', "Nothing may stand before"),
        (b'<?xml version="1.0"?><a/><?xml version="1.0"?><a/>', "one message in a body"),
        (b"Sent by a bank", "does not begin with an element"),
    ],
)
def test_what_is_not_well_formed_is_told_with_what_to_do(body: bytes, says: str) -> None:
    """Where libxml2's own name of the fault says too little."""
    (finding,) = read(body).findings
    assert finding.rule == "xml.malformed"
    assert says in finding.text


def test_the_header_says_which_namespace_is_meant() -> None:
    """Of a document in no namespace of ISO's."""
    header = (
        '<AppHdr xmlns="urn:iso:std:iso:20022:tech:xsd:head.001.001.02"><MsgDefIdr>camt.018.001.03</MsgDefIdr></AppHdr>'
    )
    told = read(f'<a>{header}<Document xmlns="urn:other"><b/></Document></a>'.encode()).findings[0]
    assert told.rule == "envelope.namespace"
    assert told.text.endswith("for instance urn:iso:std:iso:20022:tech:xsd:camt.018.001.03.")


@pytest.mark.parametrize("namespace", ["urn:\u00fc", f"{NS}pacs.008.001.08 ", "a b"])
def test_a_namespace_that_is_no_uri_is_called_so(namespace: str) -> None:
    """libxml2 calls it not well-formed, which it is."""
    (finding,) = read(f'<Document xmlns="{namespace}"/>'.encode()).findings
    assert finding.rule == "xml.malformed"
    assert "A namespace at line 1 is no URI" in finding.text


def test_paths_are_no_longer_than_names_are() -> None:
    """A sender may call an element what it likes; it is not told again at any length."""
    stranger = "s" * 20_000
    (finding,) = read(f"<a>{SMALL}<{stranger}/></a>".encode()).findings
    assert (finding.rule, finding.xpath) == ("envelope.unknown", f"/a/{stranger[:100]}...")
