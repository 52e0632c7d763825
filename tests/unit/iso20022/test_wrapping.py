import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from lxml import etree

from interlock.iso20022.answers import Verdict, build, build_admi002
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import read
from interlock.iso20022.fields import extract
from interlock.iso20022.original import EnvelopeKind
from interlock.iso20022.schemas import Catalogue
from tests.enquiries import request

SAMPLES: Final = Path(__file__).parents[2] / "samples"
NOW: Final = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
CATALOGUE: Final = Catalogue()
NS: Final = "urn:iso:std:iso:20022:tech:xsd:"
SETTLED: Final = Verdict(status=Status.ACSC)
REFUSED: Final = Verdict(status=Status.RJCT, reason="AC03")


def _parts() -> tuple[str, str]:
    """Header and document of our own sample, as text."""
    root = etree.parse(SAMPLES / "pacs.008.001.08_bah.xml").getroot()
    header, document = (etree.tostring(part, encoding="unicode", with_tail=False) for part in root)
    return header, document


HEADER, DOCUMENT = _parts()
PARTS: Final = HEADER + DOCUMENT
PDU: Final = f"""<Saa:DataPDU xmlns:Saa="urn:swift:saa:xsd:saa.2.0"><Saa:Revision>2.0.14</Saa:Revision><Saa:Header>
<Saa:Message><Saa:SenderReference>R-1</Saa:SenderReference><Saa:MessageIdentifier>pacs.008.001.08</Saa:MessageIdentifier>
<Saa:Format>MX</Saa:Format><Saa:SubFormat>Output</Saa:SubFormat>
<Saa:Sender><Saa:DN>ou=xxx,o=exmpdeff,o=swift</Saa:DN><Saa:FullName><Saa:X1>EXMPDEFFXXX</Saa:X1></Saa:FullName></Saa:Sender>
<Saa:Receiver><Saa:DN>ou=xxx,o=exmpfrpp,o=swift</Saa:DN><Saa:FullName><Saa:X1>EXMPFRPPXXX</Saa:X1><Saa:X2>xxx</Saa:X2>
</Saa:FullName></Saa:Receiver><Saa:NetworkInfo><Saa:Service>swift.finplus!p</Saa:Service><Saa:SWIFTNetNetworkInfo>
<Saa:RequestSubtype>swift.cbprplus.02</Saa:RequestSubtype></Saa:SWIFTNetNetworkInfo></Saa:NetworkInfo></Saa:Message>
</Saa:Header><Saa:Body>{PARTS}</Saa:Body></Saa:DataPDU>"""


def scheme(name: str, message: str, inner: str, namespace: str) -> str:
    """An envelope of FedNow or Fedwire."""
    inside = f"<{name}Message><{inner}>{message}</{inner}></{name}Message>"
    return f'<{name} xmlns="{namespace}">{inside}</{name}>'


def answered(body: str, verdict: Verdict = SETTLED) -> etree._Element:
    """The answer to a message, well-formed and with both parts valid."""
    one = build(extract(read(body.encode())), verdict, answer_id="A-1", now=NOW)
    envelope = read(one.body)
    assert envelope.findings == ()
    for definition, part in (
        (envelope.definition, envelope.document),
        (envelope.header_definition, envelope.header),
    ):
        if definition is not None and part is not None:
            assert CATALOGUE.validate(definition, part) == ()
    return etree.fromstring(one.body)


def path_to(root: etree._Element, name: str) -> list[str]:
    """Names from the root to an element."""
    element = root if etree.QName(root).localname == name else root.find(f".//{{*}}{name}")
    assert element is not None
    return [etree.QName(one).localname for one in reversed([element, *element.iterancestors()])]


@pytest.mark.parametrize(
    ("body", "header", "document"),
    [
        (DOCUMENT, None, ["Document"]),
        (f"<RequestPayload>{PARTS}</RequestPayload>", ["RequestPayload", "AppHdr"], ["RequestPayload", "Document"]),
        (f"<RequestPayload>{DOCUMENT}</RequestPayload>", None, ["RequestPayload", "Document"]),
        (f'<Envelope xmlns="urn:x">{PARTS}</Envelope>', ["Envelope", "AppHdr"], ["Envelope", "Document"]),
        (
            f'<Envelope xmlns="urn:x"><Body>{PARTS}</Body></Envelope>',
            ["Envelope", "Body", "AppHdr"],
            ["Envelope", "Body", "Document"],
        ),
        (
            f'<m><h:Head xmlns:h="urn:h">{HEADER}</h:Head><Content>{DOCUMENT}</Content></m>',
            ["m", "Head", "AppHdr"],
            ["m", "Content", "Document"],
        ),
        (
            f'<BizMsgEnvlp xmlns="{NS}nvlp.001.001.02"><Hdr>{HEADER}</Hdr><Doc>{DOCUMENT}</Doc></BizMsgEnvlp>',
            ["BizMsgEnvlp", "Hdr", "AppHdr"],
            ["BizMsgEnvlp", "Doc", "Document"],
        ),
        (
            f'<BizMsgEnvlp xmlns="{NS}nvlp.001.001.01"><Doc>{DOCUMENT}</Doc></BizMsgEnvlp>',
            None,
            ["BizMsgEnvlp", "Doc", "Document"],
        ),
        (PDU, ["DataPDU", "Body", "AppHdr"], ["DataPDU", "Body", "Document"]),
    ],
)
def test_answers_come_as_requests_come(body: str, header: list[str] | None, document: list[str]) -> None:
    """In the same elements of the same namespaces, with a header where there was one."""
    root, before = answered(body), etree.fromstring(body)
    assert path_to(root, "Document") == path_to(before, "Document") == document
    assert (None if root.find(".//{*}AppHdr") is None else path_to(root, "AppHdr")) == header
    around = [[one.tag for one in tree.iter() if not one.tag.startswith(f"{{{NS}")] for tree in (root, before)]
    if not body.startswith("<Saa"):
        assert around[0] == around[1]


def network(header: str = HEADER, document: str = DOCUMENT, name: str = "CreditTransfer") -> str:
    """Header and document as the RTP network wraps them."""
    parts = [
        re.sub(rf"(?<=</){old}(?=>$)", f"t:{new}", re.sub(rf"^<{old}", f"<t:{new}", part))
        for part, old, new in ((header, "AppHdr", "AppHdr"), (document, "Document", name))
    ]
    return f'<t:Message xmlns:t="urn:tch">{"".join(parts)}</t:Message>'


CANCELLATION: Final = request("camt.056.001.08").decode()


@pytest.mark.parametrize(
    ("body", "name", "holds"),
    [
        (network(), "MessageStatusReport", "FIToFIPmtStsRpt"),
        (network(document=CANCELLATION, name="ReturnOfFunds"), "ResponseReturnOfFunds", "RsltnOfInvstgtn"),
        (network(header=""), "MessageStatusReport", "FIToFIPmtStsRpt"),
    ],
)
def test_a_network_is_answered_in_its_own_names(body: str, name: str, holds: str) -> None:
    """Header and document under its names, in its namespace; what is in them in those of ISO 20022."""
    one = build(extract(read(body.encode())), REFUSED, answer_id="A-1", now=NOW)
    envelope = read(one.body)
    assert (envelope.findings, envelope.kind, envelope.definition) == ((), EnvelopeKind.RTP, one.definition)
    root = etree.fromstring(one.body)
    tags = ["{urn:tch}AppHdr"] * (envelope.header is not None) + [f"{{urn:tch}}{name}"]
    assert (root.tag, [child.tag for child in root]) == ("{urn:tch}Message", tags)
    assert root[-1][0].tag == f"{{{NS}{one.definition}}}{holds}"
    assert envelope.document is not None
    assert CATALOGUE.validate(one.definition, envelope.document) == ()
    if envelope.header is not None:
        assert envelope.header_definition is not None
        assert CATALOGUE.validate(envelope.header_definition, envelope.header) == ()


def test_siblings_are_answered_as_siblings() -> None:
    """Who sends header and document with nothing around them gets the answer so."""
    one = build(extract(read(PARTS.encode())), SETTLED, answer_id="A-1", now=NOW)
    envelope = read(one.body)
    assert (envelope.kind, envelope.header_definition, envelope.definition) == (
        EnvelopeKind.SIBLINGS,
        "head.001.001.02",
        "pacs.002.001.10",
    )


def test_data_pdu_is_turned_round() -> None:
    """The answer's DataPDU has a header of its own: sender and receiver and the direction change places."""
    root = answered(PDU)
    saa = "{urn:swift:saa:xsd:saa.2.0}"
    message = root.find(f"{saa}Header/{saa}Message")
    assert message is not None
    assert [etree.QName(child).localname for child in message] == [
        "SenderReference",
        "MessageIdentifier",
        "Format",
        "SubFormat",
        "Sender",
        "Receiver",
        "InterfaceInfo",
        "NetworkInfo",
    ]
    said = {etree.QName(child).localname: "".join(map(str, child.itertext())) for child in message}
    assert said["SenderReference"] == "A-1"
    assert said["MessageIdentifier"] == "pacs.002.001.10"
    assert (said["Format"], said["SubFormat"]) == ("MX", "Input")
    assert said["Sender"] == "ou=xxx,o=exmpfrpp,o=swiftEXMPFRPPXXXxxx"
    assert said["Receiver"] == "ou=xxx,o=exmpdeff,o=swiftEXMPDEFFXXX"
    assert said["NetworkInfo"] == "swift.finplus!ppacs.002.001.10swift.cbprplus.02"
    assert root.findtext(f"{saa}Revision") == "2.0.14"


def test_data_pdu_with_next_to_nothing() -> None:
    """A DataPDU that says nothing of itself gets one with what must be there."""
    root = answered(f'<DataPDU xmlns="urn:swift:saa:xsd:saa.2.0"><Body>{PARTS}</Body></DataPDU>')
    saa = "{urn:swift:saa:xsd:saa.2.0}"
    assert root.findtext(f"{saa}Header/{saa}Message/{saa}Sender/{saa}DN") == "NOTPROVIDED"


FEDNOW_IN, FEDNOW_OUT = "urn:fednow:incoming:v001", "urn:fednow:outgoing:v001"


@pytest.mark.parametrize(
    ("body", "path", "namespace"),
    [
        (
            scheme("FedNowIncoming", PARTS, "FedNowCustomerCreditTransfer", FEDNOW_IN),
            ["FedNowOutgoing", "FedNowOutgoingMessage", "FedNowPaymentStatus", "Document"],
            FEDNOW_OUT,
        ),
        (
            scheme("FedNowOutgoing", PARTS, "FedNowCustomerCreditTransfer", FEDNOW_OUT),
            ["FedNowIncoming", "FedNowIncomingMessage", "FedNowPaymentStatus", "Document"],
            FEDNOW_IN,
        ),
        (
            scheme("FedNowIncoming", request("camt.056.001.08").decode(), "FedNowReturnRequest", FEDNOW_IN),
            ["FedNowOutgoing", "FedNowOutgoingMessage", "FedNowReturnRequestResponse", "Document"],
            FEDNOW_OUT,
        ),
        (
            scheme(
                "FedNowIncoming",
                request("camt.055.001.08").decode(),
                "FedNowRequestForPaymentCancellationRequest",
                FEDNOW_IN,
            ),
            [
                "FedNowOutgoing",
                "FedNowOutgoingMessage",
                "FedNowRequestForPaymentCancellationRequestResponse",
                "Document",
            ],
            FEDNOW_OUT,
        ),
        (
            scheme(
                "FedwireFundsIncoming",
                PARTS,
                "FedwireFundsCustomerCreditTransfer",
                "urn:fedwirefunds:incoming:v001",
            ),
            ["FedwireFundsOutgoing", "FedwireFundsOutgoingMessage", "FedwireFundsPaymentStatus", "Document"],
            "urn:fedwirefunds:outgoing:v001",
        ),
    ],
)
def test_schemes_are_answered_in_the_other_direction(body: str, path: list[str], namespace: str) -> None:
    """What goes to FedNow or Fedwire is answered by what comes from it, under the name that the scheme has for it."""
    root = answered(body, REFUSED)
    assert path_to(root, "Document") == path
    assert root.tag == f"{{{namespace}}}{path[0]}"


def test_rejections_come_as_requests_come() -> None:
    """An admi.002 is wrapped like any other answer."""
    body = scheme("FedNowIncoming", PARTS, "FedNowCustomerCreditTransfer", FEDNOW_IN)
    original = extract(read(body.encode()))
    one = build_admi002(reason="FF01", narrative="x", reference="R", now=NOW, answer_id="A-1", original=original)
    assert path_to(etree.fromstring(one.body), "Document") == [
        "FedNowOutgoing",
        "FedNowOutgoingMessage",
        "FedNowMessageReject",
        "Document",
    ]


def test_market_practice_is_repeated() -> None:
    """An answer's header names the market practice of the request's."""
    practice = "<MktPrctc><Regy>example registry</Regy><Id>example &amp; co</Id></MktPrctc>"
    header = HEADER.replace("<CreDt>", f"{practice}<CreDt>")
    root = answered(f"<a>{header}{DOCUMENT}</a>")
    assert root.findtext(".//{*}MktPrctc/{*}Regy") == "example registry"
    assert root.findtext(".//{*}MktPrctc/{*}Id") == "example & co"
    long = HEADER.replace("<CreDt>", f"{practice.replace('example', 'e' * 400)}<CreDt>")
    one = build(extract(read(f"<a>{long}{DOCUMENT}</a>".encode())), SETTLED, answer_id="A-1", now=NOW)
    assert b"MktPrctc" not in one.body


@pytest.mark.parametrize(
    ("service", "repeated"),
    [
        ("swift.cbprplus.stp.03", "swift.cbprplus.03"),
        ("swift.cbprplus.cov.04", "swift.cbprplus.04"),
        ("swift.cbprplus.03", "swift.cbprplus.03"),
        ("acme.stp.03", "acme.stp.03"),
    ],
)
def test_a_report_is_of_no_variant(service: str, repeated: str) -> None:
    """BizSvc, and in a DataPDU RequestSubtype, without the variant of the request; Rltd repeats that as it was."""
    header = HEADER.replace("<CreDt>", f"<BizSvc>{service}</BizSvc><CreDt>")
    root = answered(PDU.replace(HEADER, header).replace("swift.cbprplus.02", service))
    assert [one.text for one in root.iter("{*}BizSvc")] == [repeated, service]
    assert root.findtext(".//{*}RequestSubtype") == repeated


def test_strange_names_are_not_repeated() -> None:
    """A wrapper that is deeper, or whose names are longer, than any sane one is not built again."""
    deep = "<w>" * 20 + PARTS + "</w>" * 20
    long = "w" * 300
    # lxml refuses a namespace that is no URI, unless libxml2 has warned of something since.
    no_uri = f'<p:w xmlns:p="no uri">{PARTS}<b xmlns="relative"/></p:w>'
    below = f'<a><p:w xmlns:p="no uri">{PARTS}</p:w><b xmlns="relative"/></a>'
    for body in (deep, f"<{long}>{PARTS}</{long}>", no_uri, below):
        assert path_to(answered(body), "Document") == ["BusinessMessage", "Document"]
