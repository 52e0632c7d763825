"""Inspection joins schemas, rules and profiles: which profile judges, and what that changes."""

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import pytest

from interlock.errors import ConfigError
from interlock.inspection import Inspector, ProfileOf, inspect
from interlock.iso20022 import envelopes
from interlock.iso20022.answers import build_admi002
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.findings import Severity
from interlock.iso20022.original import EnvelopeKind
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.profiles.examples import folder_of
from interlock.iso20022.schemas import Catalogue
from interlock.stages.facts import Inspection
from tests.enquiries import request
from tests.messages import Transfer, pacs008

TODAY: Final = date(2026, 11, 23)
NOW: Final = datetime(2026, 11, 23, 10, tzinfo=UTC)
CATALOGUE: Final = Catalogue()
LIMITS: Final = Limits()
OURS: Final = Profiles.load()


def example(profile: str, file: str) -> bytes:
    return (folder_of(OURS.named(profile), None) / file).read_bytes()


def look(content: bytes, profile: str | ProfileOf | None = None, *, lenient: bool = False) -> Inspection:
    return inspect(content, CATALOGUE, limits=LIMITS, today=TODAY, profile=profile, lenient=lenient)


@pytest.mark.parametrize(
    ("content", "named", "profile", "edition", "valid"),
    [
        (pacs008(), None, "generic", None, True),
        (pacs008(), "sepa-inst", "sepa-inst", "2025", False),
        (pacs008(), {"pacs.008.001.08": "fednow"}.get, "fednow", "2025-11", False),
        (pacs008(), lambda _: None, "generic", None, True),
        (example("cbprplus", "transfer.xml"), None, "cbprplus", "SR2026", True),
        (example("cbprplus", "slashes.xml"), None, "cbprplus", "SR2026", False),
        (example("cbprplus", "slashes.xml"), "generic", "generic", None, True),
        (example("fedwire", "euros.xml"), None, "fedwire", "2025", False),
    ],
    ids=["of none", "of a route", "of a definition", "of no definition", "by itself", "forbidden", "another", "euros"],
)  # fmt: skip
def test_which_profile_judges(
    content: bytes, named: str | ProfileOf | None, profile: str, edition: str | None, valid: object
) -> None:
    """The one that is named for the definition, else the header's, else generic; the verdict is its."""
    found = look(content, named)
    assert (found.profile, found.edition, found.valid) == (profile, edition, valid)


def test_what_is_no_message_has_no_profile() -> None:
    """There is nothing to be judged; a schema's verdict stands before any profile's."""
    assert look(b"<nothing/>").profile is None
    broken = look(pacs008().replace(b"<NbOfTxs>1</NbOfTxs>", b""), "sepa-inst")
    assert (broken.profile, broken.edition, broken.business) == ("sepa-inst", None, ())


def test_a_name_that_is_not_there_is_said() -> None:
    """It is a mistake of the configuration, which is checked at the start: no message can be judged without."""
    with pytest.raises(ConfigError, match="no profile 'nowhere'"):
        look(pacs008(), "nowhere")
    held = asyncio.run(Inspector(CATALOGUE, LIMITS).inspect(pacs008(), TODAY, profile="nowhere"))
    assert held.failure == "ConfigError"


def test_a_profile_weighs_our_rules(tmp_path: Path) -> None:
    """A rule that it turns off does not refuse, one that it turns on does."""
    (tmp_path / "mine.toml").write_text(
        "title = 'Mine'\n[rules]\n'iban.creditor' = { severity = 'off' }\n'iban.form' = { severity = 'off' }\n"
        "'charges.no_slev' = { severity = 'warning' }\n",
        "utf-8",
    )
    content = pacs008(Transfer(creditor_iban="FR1420041010050500013M02607"))
    inspector = Inspector(CATALOGUE, LIMITS, Profiles.load(tmp_path))
    usual, mine = (asyncio.run(inspector.inspect(content, TODAY, profile=name)) for name in (None, "mine"))
    assert [finding.rule for finding in usual.findings] == ["iban.creditor"]
    assert ([finding.rule for finding in mine.findings], mine.valid) == (["charges.no_slev"], True)


@pytest.mark.parametrize(
    ("profile", "definition", "answer"),
    [
        (None, "pacs.008.001.10", "pacs.002.001.12"),
        ("fednow", "pacs.008.001.10", "pacs.002.001.10"),
        ("fednow", "pacs.008.001.08", "pacs.002.001.10"),
    ],
)
def test_the_profile_names_the_answer(profile: str | None, definition: str, answer: str) -> None:
    """The version that it names is taken; where it names none, the one published with the request."""
    content = pacs008().replace(b"pacs.008.001.08", definition.encode())
    assert look(content, profile).answer == answer


def test_doubles_are_known_by_the_profiles_keys() -> None:
    """What makes a double comes with the inspection, and nothing where the profile does not say."""
    assert look(pacs008()).practice.duplicate_keys is None
    found = look(pacs008(), "cbprplus")
    assert (found.practice.duplicate_keys, found.practice.duplicate_reason) == (("message", "header", "uetr"), "AM05")


@pytest.mark.parametrize(
    ("body", "kind", "has_header"),
    [
        ("<RequestPayload>{header}<Document/></RequestPayload>", EnvelopeKind.REQUEST_PAYLOAD, True),
        ("<RequestPayload><AppHdr/><Document/></RequestPayload>", EnvelopeKind.REQUEST_PAYLOAD, False),
        ("<a><b>{header}</b><c><Document/></c><c><Document/></c></a>", EnvelopeKind.OTHER, True),
        ("{header}<Document/>", EnvelopeKind.SIBLINGS, True),
        ("<a>{header}</a>", EnvelopeKind.OTHER, True),
        (
            '<B xmlns="urn:b"><BizMsgEnvlp xmlns="urn:n"><Hdr>{header}</Hdr><Document/></BizMsgEnvlp></B>',
            EnvelopeKind.OTHER,
            True,
        ),
    ],
)
def test_what_holds_no_message_is_refused_in_its_own_envelope(
    body: str, kind: EnvelopeKind, *, has_header: bool
) -> None:
    """Whoever sent it reads answers in that envelope; and it has no profile, since nothing is to be judged."""
    header = (
        '<AppHdr xmlns="urn:iso:std:iso:20022:tech:xsd:head.001.001.02"><Fr><FIId><FinInstnId>'
        "<BICFI>TESTDEFFXXX</BICFI></FinInstnId></FIId></Fr><To><FIId><FinInstnId><BICFI>TESTFRPPXXX</BICFI>"
        "</FinInstnId></FIId></To><BizMsgIdr>B1</BizMsgIdr><MsgDefIdr>pacs.008.001.08</MsgDefIdr>"
        "<CreDt>2026-11-22T10:00:00Z</CreDt></AppHdr>"
    )
    found = look(body.format(header=header).encode())
    assert (found.definition, found.profile, found.valid, found.is_usable) == (None, None, False, False)
    answer = build_admi002(reason="FF01", narrative="", reference="R", now=NOW, answer_id="A1", original=found.original)
    told = envelopes.read(answer.body)
    assert (told.definition, told.kind) == ("admi.002.001.01", kind)
    assert (told.header is not None) is has_header


def test_what_a_network_writes_otherwise_is_a_warning() -> None:
    """The RTP network's header has no offset in its time, whatever the standard wants; the rest of it is judged."""
    content = example("rtp", "network.xml")
    found = look(content, "rtp")
    assert [(one.rule, one.severity, one.xpath) for one in found.findings] == [
        ("schema.pattern", Severity.WARNING, "/Message/AppHdr/CreDt")
    ]
    assert (found.valid, found.definition, found.answer) == (True, "pacs.008.001.08", "pacs.002.001.10")
    spoilt = look(content.replace(b":NbOfTxs>1<", b":NbOfTxs>one<").replace(b"EXAMPLE-B-0001", b"B" * 36), "rtp")
    assert [(one.rule, one.xpath) for one in spoilt.findings if one.severity is Severity.ERROR] == [
        ("schema.maxLength", "/Message/AppHdr/BizMsgIdr"),
        ("schema.pattern", "/Message/CreditTransfer/FIToFICstmrCdtTrf/GrpHdr/NbOfTxs"),
    ]


def test_lenient_reading_mends_namespaces() -> None:
    """A namespace that was declared for a prefix which nothing uses: refused, or mended and told."""
    namespace = b"urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"
    content = pacs008().replace(b'xmlns="' + namespace, b'xmlns:doc="' + namespace)
    assert look(content).valid is False
    mended = look(content, lenient=True)
    assert mended.valid is True
    assert [finding.rule for finding in mended.findings] == ["envelope.namespace"]


def test_lenient_reading_takes_a_header_as_it_is() -> None:
    """What is wrong in the header is told, and refuses nothing; in the message it refuses as ever."""
    header = (
        b'<AppHdr xmlns="urn:iso:std:iso:20022:tech:xsd:head.001.001.02"><Fr><FIId><FinInstnId>'
        b"<BICFI>TESTDEFFXXX</BICFI></FinInstnId></FIId></Fr><To><FIId><FinInstnId><BICFI>TESTFRPPXXX</BICFI></FinInstnId></FIId></To>"
        b"<BizMsgIdr>B1</BizMsgIdr><MsgDefIdr>pacs.008.001.08</MsgDefIdr><CreDt>2026-11-22</CreDt></AppHdr>"
    )
    document = pacs008().split(b"?>", 1)[1]
    content = b"<Wrapper>" + header + document + b"</Wrapper>"
    assert look(content).valid is False
    taken = look(content, lenient=True)
    assert taken.valid is True
    assert {finding.xpath for finding in taken.technical} == {"/Wrapper/AppHdr/CreDt"}
    assert look(content.replace(b"SLEV", b"NONE"), lenient=True).valid is False


def test_a_restricted_schema_of_the_profile_judges_too(tmp_path: Path) -> None:
    """Beside ISO's; for other profiles it is not there."""
    (tmp_path / "sepa-sct").mkdir()
    restricted = CATALOGUE.xsd("pacs.008.001.08").replace(b'value="SLEV"', b'value="NONE"')
    (tmp_path / "sepa-sct" / "pacs.008.001.08.xsd").write_bytes(restricted)
    catalogue = Catalogue(user=tmp_path)
    content = example("sepa-sct", "transfers.xml")
    valid = [
        inspect(content, catalogue, limits=LIMITS, today=TODAY, profile=name).valid for name in ("sepa-sct", "generic")
    ]
    assert valid == [False, True]


def test_what_is_quoted_refuses_nothing() -> None:
    """A recall because of a wrong account quotes it; the same account in the message itself is a fault."""
    quoted = "<OrgnlTxRef><CdtrAcct><Id><IBAN>DE00370400440532013000</IBAN></Id></CdtrAcct></OrgnlTxRef></TxInf>"
    found = look(request("camt.056.001.08", reason="AC03").replace(b"</TxInf>", quoted.encode()))
    assert [(one.rule, one.severity) for one in found.findings] == [("iban.form", Severity.WARNING)]
    found = look(pacs008(Transfer(creditor_iban="DE00370400440532013000")))
    assert Severity.ERROR in {one.severity for one in found.findings}


def test_a_report_about_a_message_is_neither_carried_out_nor_answered() -> None:
    """A copy of a payment in a network's report."""
    payment = pacs008().partition(b"?>")[2].decode()
    wrapper = (
        '<DataPDU xmlns="urn:swift:saa:xsd:saa.2.0"><Header><TransmissionReport/></Header><Body>{}</Body></DataPDU>'
    )
    found = look(wrapper.format(payment).encode())
    assert found.is_answer
    assert [one.rule for one in found.technical] == ["envelope.report"]
