"""Answers in the form that a scheme has for them: what it leaves out, against its own grammar and its own profile."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import uuid_utils
from lxml import etree
from msgspec.structs import replace
from pydantic import ValidationError

from interlock.inspection import inspect
from interlock.iso20022 import answers
from interlock.iso20022.answers import (
    Answer,
    Cancellation,
    InvestigationResult,
    PaymentVerdict,
    Resolution,
    Resolved,
    Statement,
    Verdict,
)
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.findings import Severity
from interlock.iso20022.forms import PARTS, Form, Forms, Part, SettledCode
from interlock.iso20022.original import Agent, Header, Original, Party
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.profiles.facts import AnswerForm, ProfileFile
from interlock.iso20022.schemas import Catalogue
from interlock.stages.facts import Inspection
from tests.enquiries import Ids, request

OURS: Final = Profiles.load()
CATALOGUE: Final = Catalogue(loaded_max=100)
NOW: Final = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
DAY: Final = date(2026, 11, 23)
EXAMPLES: Final = Path(answers.__file__).parents[1] / "data" / "profiles"
SAMPLES: Final = Path(__file__).parents[2] / "samples"
LONG: Final = "The account cannot be credited as things are. " * 8
VERDICTS: Final = (
    Verdict(status=Status.ACSC),
    Verdict(status=Status.RJCT, reason="AC03", narrative=LONG),
    Verdict(status=Status.CANC, reason="DS02", narrative="Cancelled."),
    Verdict(status=Status.ACSC, payments={1: PaymentVerdict(status=Status.RJCT, reason="NARR")}),
)


def _el(name: str, *inside: str) -> str:
    """An element in `content`, as a regular expression."""
    return f"<{name} {''.join(inside)}>"


def _maybe(*inside: str) -> str:
    return f"(?:{''.join(inside)})?"


def _names(names: str) -> str:
    """Elements with a text; what has `?` may be absent."""
    return "".join(_maybe(_el(name[:-1])) if name.endswith("?") else _el(name) for name in names.split())


#: What the schemes' own schemas have in these answers, as far as we write it; the facts are of the profiles' sources.
_RSN: Final = _el("Rsn", f"(?:{_el('Cd')}|{_el('Prtry')})")
_REASON: Final = _maybe(_el("StsRsnInf", _RSN, _names("AddtlInf?")))
_WHY: Final = _maybe(_el("CxlStsRsnInf", _RSN, _names("AddtlInf?")))
_WHY_AT_LENGTH: Final = _maybe(_el("CxlStsRsnInf", _RSN, f"(?:{_el('AddtlInf')})*"))
_MESSAGE: Final = _el("OrgnlGrpInf", _names("OrgnlMsgId OrgnlMsgNmId OrgnlCreDtTm"))
_MEMBER: Final = _el("FinInstnId", _el("ClrSysMmbId", _maybe(_el("ClrSysId", _el("Cd"))), _el("MmbId")))
_BIC: Final = _el("FinInstnId", _el("BICFI"), r"(?:<ClrSysMmbId (?:<ClrSysId <Cd >>)?<MmbId >>)?", _names("LEI?"))
_IDS: Final = _names("OrgnlInstrId? OrgnlEndToEndId? OrgnlTxId? OrgnlUETR?")
_ASSIGNED: Final = _el("Assgnmt", _el("Id"), "<Assgnr .*?><Assgne .*?>", _el("CreDtTm"))
_CASE: Final = "<RslvdCase <Id ><Cretr .*?>>"
_HEADER: Final = _el("GrpHdr", _names("MsgId CreDtTm"))


def _agents(names: str) -> str:
    return _el("InstgAgt", names) + _el("InstdAgt", names)


GRAMMARS: Final = {
    ("fednow", "pacs.002"): _HEADER
    + _el("TxInfAndSts", _MESSAGE, _IDS, _el("TxSts"), _REASON, _names("AccptncDtTm?"), _agents(_MEMBER)),
    ("fedwire", "pacs.002"): _HEADER
    + _el(
        "TxInfAndSts", _MESSAGE, _names("OrgnlUETR TxSts"),
        _maybe(_el("StsRsnInf", _el("Rsn", _el("Prtry")), _el("AddtlInf"))), _names("AccptncDtTm?"), _agents(_MEMBER),
    ),
    ("cbprplus", "pacs.002"): _HEADER
    + _el(
        "TxInfAndSts", _MESSAGE, _names("OrgnlInstrId? OrgnlEndToEndId OrgnlTxId? OrgnlUETR TxSts"), _REASON,
        _agents(_BIC),
    ),
    ("rtp", "pacs.002"): _HEADER
    + _el("OrgnlGrpInfAndSts", _names("OrgnlMsgId OrgnlMsgNmId OrgnlCreDtTm OrgnlNbOfTxs"))
    + _el(
        "TxInfAndSts", _names("OrgnlInstrId OrgnlTxId? OrgnlUETR? TxSts"), _REASON, _names("AccptncDtTm"),
        _agents(_MEMBER), _maybe(_el("OrgnlTxRef", _names("IntrBkSttlmAmt? IntrBkSttlmDt?"))),
    ),
    ("fednow", "camt.029"): _ASSIGNED + _CASE + _el("Sts", _el("Conf"))
    + _el("CxlDtls", _el("TxInfAndSts", _MESSAGE, _IDS, _WHY)),
    ("fednow", "camt.029 on camt.055"): _ASSIGNED + _CASE + _el("Sts", _el("Conf"))
    + _el(
        "CxlDtls",
        _el(
            "OrgnlPmtInfAndSts", _el("OrgnlPmtInfId"), _MESSAGE,
            _el("TxInfAndSts", _names("OrgnlInstrId? OrgnlEndToEndId? UETR?"), _WHY),
        ),
    ),
    ("fednow", "camt.029 on camt.026"): _ASSIGNED + _CASE + _el("Sts", _el("Conf")),
    ("fedwire", "camt.029"): _ASSIGNED + _CASE + _el("Sts", _el("Conf"))
    + _el("CxlDtls", _el("TxInfAndSts", _names("CxlStsId?"), _MESSAGE, _IDS, _WHY_AT_LENGTH)),
    ("cbprplus", "camt.029"): _ASSIGNED + _el("Sts", _el("Conf"))
    + _el("CxlDtls", _el("TxInfAndSts", _el("CxlStsId"), _CASE, _MESSAGE, _IDS, _WHY_AT_LENGTH)),
    ("fednow", "pain.014"): _el(
        "GrpHdr", _names("MsgId CreDtTm"), _el("InitgPty", _el("Nm")), _el("DbtrAgt", _MEMBER), _el("CdtrAgt", _MEMBER)
    )
    + _el("OrgnlGrpInfAndSts", _names("OrgnlMsgId OrgnlMsgNmId OrgnlCreDtTm"))
    + _el(
        "OrgnlPmtInfAndSts", _el("OrgnlPmtInfId"),
        _el("TxInfAndSts", _names("OrgnlInstrId? OrgnlEndToEndId? OrgnlUETR? TxSts"), _REASON),
    ),
}  # fmt: skip
GRAMMARS["fedwire", "pain.014"] = GRAMMARS["fednow", "pain.014"].replace(_names("AddtlInf?"), f"(?:{_el('AddtlInf')})*")


def _written(element: Any) -> str:
    return f"<{etree.QName(element).localname} " + "".join(_written(child) for child in element) + ">"


def content(one: Answer) -> str:
    """What is in the answer's document."""
    document = next(etree.fromstring(one.body).iter("{*}Document"))
    return "".join(_written(child) for child in document[0])


def seen(body: bytes, profile: str | None = None) -> Inspection:
    return inspect(body, CATALOGUE, limits=Limits(), today=DAY, profiles=OURS, profile=profile)


def example(profile: str) -> bytes:
    """The payment that comes with a profile, which it takes."""
    folder = EXAMPLES / profile / "examples"
    return next(folder / name for name in ("transfer.xml", "payment.xml") if (folder / name).exists()).read_bytes()


def reports(profile: str) -> Iterator[Answer]:
    """Each kind of report on that payment."""
    asked = seen(example(profile), profile)
    assert asked.original is not None
    assert asked.valid, asked.findings
    for verdict in VERDICTS:
        yield answers.build(
            asked.original, verdict, answer_id="A-1", now=NOW, definition=asked.answer, forms=asked.practice.forms
        )
    yield _streamed(asked)
    if profile == "rtp":  # who asks there names the message, and the answer would have to count its payments
        return
    chased = seen(request("pacs.028.001.03", Ids()), profile)
    request_ = _headed(chased, profile)
    payment = asked.original.payments[0]
    statement = Statement(
        reference=request_.references[0], status="RJCT", reason="AC03", narrative=LONG, payment=payment,
        message_id=asked.original.message_id, definition=asked.definition, created_at=asked.original.created_at,
    )  # fmt: skip
    yield answers.build_statuses(
        request_, [statement], answer_id="A-1", now=NOW, definition=chased.enquiry, forms=chased.practice.forms
    )


def _headed(asked: Inspection, profile: str) -> Original:
    """The request under the header of that payment."""
    original, paid = asked.original, seen(example(profile), profile).original
    assert original is not None
    assert paid is not None
    header = paid.header
    return replace(
        original, header=header, transport=paid.transport, assigner=header and Party(agent=header.sender),
        assignee=header and Party(agent=header.receiver),
        references=tuple(replace(one, created_at="2026-11-23T09:00:00+00:00") for one in original.references),
    )  # fmt: skip


def _streamed(asked: Inspection) -> Answer:
    original = asked.original
    assert original is not None
    definition, pieces = answers.stream(
        original, VERDICTS[1], original.payments, original.groups,
        answer_id="A-1", now=NOW, definition=asked.answer, forms=asked.practice.forms,
    )  # fmt: skip
    return Answer(definition=definition, body=b"".join(pieces))


def resolutions(profile: str) -> Iterator[Answer]:
    """Each outcome of a request to give that payment back."""
    asked = seen(request("camt.056.001.08", Ids()), profile)
    yield from _resolved(asked, _headed(asked, profile))


def withdrawals(profile: str) -> Iterator[Answer]:
    """Each outcome of a request for payment that is withdrawn."""
    asked = of_scheme(profile, "request-withdrawn.xml")
    assert asked.original is not None
    yield from _resolved(asked, asked.original)


def information(profile: str) -> Iterator[Answer]:
    """The answer to who misses something in a payment."""
    asked = of_scheme(profile, "information-request.xml")
    assert asked.original is not None
    yield answers.build_resolution(
        asked.original, Resolution(confirmation="NINF"),
        answer_id="A-1", now=NOW, definition=asked.enquiry, forms=asked.practice.forms,
    )  # fmt: skip


def of_scheme(profile: str, name: str) -> Inspection:
    """A request that comes with the profile, which takes it."""
    asked = seen((EXAMPLES / profile / "examples" / name).read_bytes(), profile)
    assert asked.valid, asked.findings
    return asked


def _resolved(asked: Inspection, original: Original) -> Iterator[Answer]:
    for status, confirmation in ((Cancellation.ACCEPTED, "CNCL"), (Cancellation.REJECTED, "RJCR")):
        one = Resolved(reference=original.references[0], status=status, reason="CUST", narrative=LONG)
        yield answers.build_resolution(
            original, Resolution(confirmation=confirmation, cases=(one,)),
            answer_id="A-1", now=NOW, definition=asked.enquiry, forms=asked.practice.forms,
        )  # fmt: skip
    yield answers.build(
        original, VERDICTS[1], answer_id="A-1", now=NOW, definition=asked.enquiry, forms=asked.practice.forms
    )


@pytest.mark.parametrize(("profile", "family"), GRAMMARS, ids=str)
def test_answers_fit_the_scheme(profile: str, family: str) -> None:
    """They have what the scheme's schema demands, in its order, and nothing that it does not have."""
    for one in answers_of(profile, family):
        assert re.fullmatch(GRAMMARS[profile, family], content(one)), content(one)


@pytest.mark.parametrize("profile", [profile.name for profile in OURS])
def test_a_profile_takes_the_reports_on_its_own_examples(profile: str) -> None:
    """Whatever comes of a payment that a profile takes, the report on it is one that the profile takes."""
    asked = [seen(file.read_bytes(), profile) for file in sorted((EXAMPLES / profile / "examples").glob("*.xml"))]
    reported = 0
    for one in asked:
        is_too_much = any(
            found.rule == "profile.count" for found in one.findings
        )  # so would be the report on all of it
        if not one.valid or is_too_much or one.answer is None or one.original is None:
            continue
        for verdict in VERDICTS:
            report = answers.build(
                one.original, verdict, answer_id="A-1", now=NOW, definition=one.answer, forms=one.practice.forms
            )
            found = seen(report.body, profile).findings
            assert [(f.rule, f.xpath) for f in found if f.severity is Severity.ERROR] == []
            reported += 1
    assert reported


def answers_of(profile: str, family: str) -> Iterator[Answer]:
    """Answers of a family under a profile; all are valid by the standard's schema, and by the profile itself."""
    for one in _MAKERS[family](profile):
        assert one.definition.startswith(family.partition(" ")[0])
        judged = seen(one.body, profile)
        assert [(f.xpath, f.text) for f in judged.findings if f.severity is Severity.ERROR] == []
        yield one


def requests_to_pay(profile: str) -> Iterator[Answer]:
    """Each kind of report on a request to pay."""
    asked = seen(_REQUEST_TO_PAY.encode(), profile)
    original = _headed(asked, profile)
    assert asked.technical == ()
    for verdict in VERDICTS:
        yield answers.build(
            original, verdict, answer_id="A-1", now=NOW, definition=asked.answer, forms=asked.practice.forms
        )


_MAKERS: Final = {
    "pacs.002": reports,
    "camt.029": resolutions,
    "camt.029 on camt.055": withdrawals,
    "camt.029 on camt.026": information,
    "pain.014": requests_to_pay,
}


_BY_NUMBER: Final = (
    "<FinInstnId><ClrSysMmbId><ClrSysId><Cd>USABA</Cd></ClrSysId><MmbId>{}</MmbId></ClrSysMmbId></FinInstnId>"
)
_REQUEST_TO_PAY: Final = f"""<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.013.001.07"><CdtrPmtActvtnReq>
<GrpHdr><MsgId>EXAMPLE-0001</MsgId><CreDtTm>2026-11-23T04:00:00-05:00</CreDtTm><NbOfTxs>1</NbOfTxs>
<InitgPty><Nm>Example Utility</Nm></InitgPty></GrpHdr>
<PmtInf><PmtInfId>EXAMPLE-P-0001</PmtInfId><PmtMtd>TRF</PmtMtd><ReqdExctnDt><Dt>2026-11-24</Dt></ReqdExctnDt>
<Dbtr><Nm>Ada Example</Nm></Dbtr><DbtrAgt>{_BY_NUMBER.format("021000021")}</DbtrAgt>
<CdtTrfTx><PmtId><InstrId>EXAMPLE-I-0001</InstrId><EndToEndId>EXAMPLE-E-0001</EndToEndId></PmtId>
<Amt><InstdAmt Ccy="USD">12.50</InstdAmt></Amt><ChrgBr>SLEV</ChrgBr>
<CdtrAgt>{_BY_NUMBER.format("011000015")}</CdtrAgt><Cdtr><Nm>Example Utility</Nm></Cdtr></CdtTrfTx></PmtInf>
</CdtrPmtActvtnReq></Document>"""


@pytest.mark.parametrize(("profile", "code"), [("sepa-inst", "ACCP"), ("rtp", "ACTC"), ("fednow", "ACSC")])
def test_what_was_settled_is_said_in_the_schemes_word(profile: str, code: str) -> None:
    """Of each payment and of the whole; also where one is asked for its status."""
    settled, *_ = made = list(reports(profile))
    root = etree.fromstring(settled.body)
    assert {one.text for tag in ("TxSts", "GrpSts") for one in root.iter(f"{{*}}{tag}")} == {code}
    mixed = etree.fromstring(made[3].body)
    assert [one.text for one in mixed.iter("{*}TxSts")] == ["RJCT"]
    chased = seen(request("pacs.028.001.03", Ids()), profile)
    assert chased.original is not None
    statement = Statement(reference=chased.original.references[0], status="ACSC")
    told = answers.build_statuses(
        chased.original, [statement], answer_id="A-1", now=NOW, definition=chased.enquiry, forms=chased.practice.forms
    )
    assert [one.text for one in etree.fromstring(told.body).iter("{*}TxSts")] == [code]


def test_a_report_is_called_as_the_scheme_prescribes() -> None:
    """FedNow: the day, the connection that sends it, and enough of our own name for it to be no other's."""
    asked = seen(example("fednow"), "fednow")
    assert asked.original is not None
    given = [uuid_utils.uuid7().hex for _ in range(20)]
    called = set()
    for answer_id in given:
        one = answers.build(
            asked.original, VERDICTS[0], answer_id=answer_id, now=NOW, definition=asked.answer,
            forms=asked.practice.forms,
        )  # fmt: skip
        root = etree.fromstring(one.body)
        name = root.findtext(".//{*}GrpHdr/{*}MsgId") or ""
        assert name == f"20261123011000015{answer_id[-18:]}" == root.findtext(".//{*}BizMsgIdr")
        assert re.fullmatch("[0-9]{8}[a-zA-Z0-9]{9}[a-zA-Z0-9]{1,18}", name)
        called.add(name)
    assert len(called) == len(given)


@pytest.mark.parametrize(
    ("receiver", "form", "name"),
    [
        (Agent(clearing_member="011000015"), "{date}{own}{serial}", "20261123011000015A1"),
        (Agent(clearing_member="011000015"), "M{date}X{serial}", "M20261123XA1"),
        (Agent(clearing_member="0" * 20), "{date}{own}{serial}", "A-1"),
        (Agent(clearing_member="01 10"), "{date}{own}{serial}", "A-1"),
        (Agent(bic="EXMPDEFF"), "{date}{own}{serial}", "A-1"),
        (None, "{date}{own}{serial}", "A-1"),
    ],
)
def test_where_the_scheme_cannot_be_followed_the_name_is_ours(receiver: Agent | None, form: str, name: str) -> None:
    """Who sends the answer is not known, or the name would not be unique."""
    original = seen(example("fednow"), "fednow").original
    assert original is not None
    assert original.header is not None
    to = replace(original, header=replace(original.header, receiver=receiver))
    one = answers.build(
        to, VERDICTS[0], answer_id="A-1", now=NOW, definition="pacs.002.001.10",
        forms={"pacs.002": Form(message_id=form)},
    )  # fmt: skip
    assert etree.fromstring(one.body).findtext(".//{*}GrpHdr/{*}MsgId") == name


@pytest.mark.parametrize("form", ["{serial}{date}", "{date}", "{day}{serial}", "{date}-{serial}"])
def test_a_name_that_could_not_be(form: str) -> None:
    """Our own name must be in it, at the end, and nothing unknown."""
    with pytest.raises(ValidationError, match="String should match pattern"):
        AnswerForm(message_id=form)


def test_a_reason_names_who_gives_it() -> None:
    """The agent that was instructed, by its BIC; nobody where the form does not ask, or no BIC is known."""
    for profile, named in (("sepa-sct", True), ("sepa-inst", True), ("cbprplus", False)):
        asked = seen(example(profile) if profile != "sepa-sct" else _transfers(), profile)
        original = asked.original
        assert original is not None
        for bic in ("EXMPFRPPXXX", "none"):
            agent = Agent(bic=bic)
            payments = tuple(replace(one, instructed_agent=agent) for one in original.payments)
            request_ = replace(original, header=None, transport=None, instructed_agent=agent, payments=payments)
            one = answers.build(request_, VERDICTS[1], answer_id="A-1", now=NOW, forms=asked.practice.forms)
            assert seen(one.body).technical == ()
            found = [element.text for element in etree.fromstring(one.body).iterfind(".//{*}Orgtr//{*}AnyBIC")]
            assert set(found) == ({bic} if named and bic != "none" else set())


def _transfers() -> bytes:
    return (EXAMPLES / "sepa-sct" / "examples" / "transfers.xml").read_bytes()


@pytest.mark.parametrize("profile", ["cbprplus", "fednow"])
def test_a_report_without_payments_speaks_of_the_group(profile: str) -> None:
    """Where no payment could be read, something must be said all the same: of the message."""
    empty = re.sub(rb"<CdtTrfTxInf>.*</CdtTrfTxInf>", b"", example(profile), flags=re.DOTALL)
    broken = seen(empty, profile)
    assert broken.original is not None
    assert broken.original.payments == ()
    one = answers.build(
        broken.original, VERDICTS[1], answer_id="A-1", now=NOW, definition=broken.answer, forms=broken.practice.forms
    )
    assert "<OrgnlGrpInfAndSts " in content(one)
    assert seen(one.body).technical == ()


#: What is gone with each part of a document, as far as it is to be seen in the answers of `whole`.
GONE: Final = {
    "pacs.002": {
        Part.GROUP: "<OrgnlGrpInfAndSts ", Part.GROUP_STATUS: "<GrpSts ", Part.COUNT: "<OrgnlNbOfTxs ",
        Part.CONTROL_SUM: "<OrgnlCtrlSum ", Part.HEADER_AGENTS: "<CreDtTm ><InstgAgt ", Part.STATUS_ID: "<StsId ",
        Part.INSTRUCTION: "<OrgnlInstrId ", Part.END_TO_END: "<OrgnlEndToEndId ", Part.TRANSACTION: "<OrgnlTxId ",
        Part.ACCEPTED: "<AccptncDtTm ", Part.REFERENCE: "<OrgnlTxRef ", Part.REFERENCE_AGENTS: "<DbtrAgt ",
        Part.REASON_CODES: "<Cd >", Part.MORE_TEXTS: "<AddtlInf ><AddtlInf ",
    },
    "pain.002": {
        Part.GROUP_STATUS: "<GrpSts ", Part.BLOCK_STATUS: "<PmtInfSts ", Part.COUNT: "<OrgnlNbOfTxs ",
        Part.CONTROL_SUM: "<OrgnlCtrlSum ", Part.INSTRUCTION: "<OrgnlInstrId ", Part.END_TO_END: "<OrgnlEndToEndId ",
        Part.ACCEPTED: "<AccptncDtTm ", Part.REFERENCE: "<OrgnlTxRef ", Part.REFERENCE_AGENTS: "<DbtrAgt ",
        Part.REASON_CODES: "<Cd >", Part.MORE_TEXTS: "<AddtlInf ><AddtlInf ",
    },
    "pain.014": {
        Part.GROUP_STATUS: "<GrpSts ", Part.BLOCK_STATUS: "<PmtInfSts ", Part.COUNT: "<OrgnlNbOfTxs ",
        Part.CONTROL_SUM: "<OrgnlCtrlSum ", Part.HEADER_AGENTS: "<DbtrAgt ", Part.INSTRUCTION: "<OrgnlInstrId ",
        Part.END_TO_END: "<OrgnlEndToEndId ", Part.ACCEPTED: "<AccptncDtTm ", Part.REFERENCE: "<OrgnlTxRef ",
        Part.REFERENCE_AGENTS: "<Nothing ", Part.REASON_CODES: "<StsRsnInf <Rsn <Cd >",
        Part.MORE_TEXTS: "<AddtlInf ><AddtlInf ",
    },
    "camt.029": {
        Part.STATUS_ID: "<CxlStsId ", Part.INSTRUCTION: "<OrgnlInstrId ", Part.END_TO_END: "<OrgnlEndToEndId ",
        Part.TRANSACTION: "<OrgnlTxId ", Part.REASON_CODES: "<Rsn <Cd >", Part.MORE_TEXTS: "<AddtlInf ><AddtlInf ",
        Part.CASE: "<CreDtTm >><RslvdCase ", Part.CANCELLATION_IDS: "<OrgnlGrpCxlId ",
        Part.CANCELLATION_STATUS: "CxlSts ", Part.AMOUNT: "<OrgnlIntrBkSttlmAmt ",
    },
    "camt.111": {Part.REASON_CODES: "<Rsn <Cd >", Part.MORE_TEXTS: "<AddtlInf ><AddtlInf "},
}  # fmt: skip


@pytest.mark.parametrize("family", GONE)
def test_every_part_can_be_left_out(family: str) -> None:
    """Each alone, and all together: what is left is valid by the standard."""
    assert GONE[family].keys() == PARTS[family] - {Part.RELATED}
    for parts in [*({part} for part in GONE[family]), set(GONE[family])]:
        for one in whole(family, {family: Form(without=frozenset(parts))}):
            assert one.definition.startswith(family)
            assert [(f.xpath, f.text) for f in seen(one.body).technical] == [], parts
            assert [part for part in parts if GONE[family][part] in content(one)] == []


@pytest.mark.parametrize("definition", [name for name in answers.SHAPES if CATALOGUE.knows(name)])
def test_every_version_can_be_in_any_form(definition: str) -> None:
    """Whatever a scheme leaves out, and whatever it calls settled: early versions need more, and keep it."""
    family = definition[:8]
    original = _rich(seen(REQUESTS[family], "generic"))
    forms = [Form(without=frozenset({part})) for part in PARTS[family]]
    forms += [
        Form(without=PARTS[family]),
        Form(originator=True),
        Form(message_id="{date}{own}{serial}", timed=True),
        *(Form(settled=code) for code in get_args(SettledCode)),
    ]
    for form in forms:
        for verdict in VERDICTS:
            one = answers.build(
                original, verdict, answer_id="A-1", now=NOW, definition=definition, forms={family: form}
            )
            assert one.definition == definition
            assert [(f.xpath, f.text) for f in seen(one.body).technical] == [], (form, verdict)


@pytest.mark.parametrize("family", GONE)
def test_nothing_is_left_out_unasked(family: str) -> None:
    """What a form can take away is there without one; a pain.014 has no room for some of it."""
    told = "".join(content(one) for one in whole(family, {}))
    missing = {part for part, gone in GONE[family].items() if gone not in told}
    assert missing == ({Part.REFERENCE, Part.REFERENCE_AGENTS} if family == "pain.014" else set())


def test_a_refusal_without_the_requests_header() -> None:
    """RTP's headers go without Rltd, that of an admi.002 too."""
    original = seen(example("rtp"), "rtp").original
    practice = seen(example("rtp"), "rtp").practice
    for forms, there in ((practice.forms, False), ({}, True)):
        one = answers.build_admi002(
            reason="NARR", narrative="No.", reference="R", now=NOW, answer_id="A-1", original=original, forms=forms
        )
        assert (etree.fromstring(one.body).find(".//{*}Rltd") is not None) is there


@pytest.mark.parametrize("profile", ["fednow", "cbprplus"])
def test_of_a_payment_that_nobody_knows_the_agents_are_told(profile: str) -> None:
    """Where each payment must have them: those of the request's header."""
    chased = seen(request("pacs.028.001.03", Ids()), profile)
    original = _headed(chased, profile)
    statement = Statement(reference=original.references[0], status="RJCT", reason="NARR")
    one = answers.build_statuses(
        original, [statement], answer_id="A-1", now=NOW, definition=chased.enquiry, forms=chased.practice.forms
    )
    root = etree.fromstring(one.body)
    assert [len(root.findall(f".//{{*}}TxInfAndSts/{{*}}{name}")) for name in ("InstgAgt", "InstdAgt")] == [1, 1]
    assert [f.text for f in seen(one.body, profile).findings if f.severity is Severity.ERROR] == []


@pytest.mark.parametrize("family", ["pacs.002", "camt.029", "camt.111"])
def test_a_header_without_the_requests(family: str) -> None:
    """Rltd is there unless the form leaves it out; the rest of the header stays, and is valid."""
    header = seen(example("cbprplus"), "cbprplus").original
    assert header is not None
    for forms, there in (({}, True), ({family: Form(without=frozenset({Part.RELATED}))}, False)):
        for one in whole(family, forms, header=header.header):
            root = etree.fromstring(one.body)
            assert root.find(".//{*}AppHdr/{*}BizMsgIdr") is not None
            assert (root.find(".//{*}AppHdr/{*}Rltd") is not None) is there
            assert seen(one.body).technical == ()


def test_a_reason_that_the_scheme_does_not_know_is_told_in_words() -> None:
    """RTP's reports have some reasons by code; any other is NARR and in the text, for there is no other word."""
    asked = seen(example("rtp"), "rtp")
    assert asked.original is not None
    for reason, code, text in (
        ("AC03", "AC03", "Words."),
        ("AM11", "NARR", "AM11 Words."),
        (None, "NARR", "MS03 Words."),
    ):
        verdict = Verdict(status=Status.RJCT, reason=reason, narrative="Words.")
        one = answers.build(
            asked.original, verdict, answer_id="A-1", now=NOW, definition=asked.answer, forms=asked.practice.forms
        )
        root = etree.fromstring(one.body)
        assert [(why.findtext("{*}Rsn/{*}Cd"), why.findtext("{*}AddtlInf")) for why in root.iter("{*}StsRsnInf")] == [
            (code, text)
        ]
    with pytest.raises(ValidationError, match="NARR must be one"):
        AnswerForm(reasons=("AC03",))


#: What reports of a family answer.
REQUESTS: Final = {
    "pacs.002": example("generic"),
    "pain.002": (SAMPLES / "pain.001.001.09.xml").read_bytes(),
    "pain.014": _REQUEST_TO_PAY.encode(),
}


def whole(family: str, forms: Forms, *, header: Header | None = None) -> Iterator[Answer]:
    """Answers of a family that between them have all that they can have. header: of the requests."""
    if family in REQUESTS:
        original = _rich(seen(REQUESTS[family], "generic"), header)
        yield answers.build(original, VERDICTS[1], answer_id="A-1", now=NOW, forms=forms)
    if family == "pacs.002":
        chased = seen(request("pacs.028.001.03", Ids()), "generic").original
        assert chased is not None
        chased = replace(chased, instructing_agent=Agent(bic="EXMPDEFFXXX"), header=header or chased.header)
        statement = Statement(
            reference=chased.references[0], status="RJCT", reason="AC03", payment=original.payments[0],
            definition="pacs.008.001.08",
        )  # fmt: skip
        yield answers.build_statuses(chased, [statement], answer_id="A-1", now=NOW, forms=forms)
    elif family == "camt.029":
        for entire in (False, True):
            asked = seen(request("camt.056.001.08", Ids(), whole=entire), "generic").original
            assert asked is not None
            asked = replace(asked, header=header or asked.header)
            references = tuple(replace(one, own_id="EXAMPLE-C-0001") for one in asked.references)
            cases = tuple(
                Resolved(reference=one, status=Cancellation.REJECTED, reason="CUST", narrative=LONG)
                for one in references
            )
            resolution = Resolution(confirmation="RJCR", cases=cases)
            yield answers.build_resolution(asked, resolution, answer_id="A-1", now=NOW, forms=forms)
    elif family == "camt.111":
        asked = seen(request("camt.110.001.01", Ids()), "generic").original
        assert asked is not None
        asked = replace(asked, header=header or asked.header)
        statement = Statement(reference=asked.references[0], status="RJCT", reason="AC03", narrative=LONG)
        result = InvestigationResult(status="CLSD", statements=(statement,))
        yield answers.build_investigation(asked, result, answer_id="A-1", now=NOW, forms=forms)


def _rich(asked: Inspection, header: Header | None = None) -> Original:
    """The request with all that an answer repeats."""
    original = asked.original
    assert original is not None
    agent = Agent(bic="EXMPDEFFXXX")
    payments = tuple(
        replace(
            one, instruction_id="I", end_to_end_id="E", transaction_id="T", accepted_at="2026-11-23T10:00:00+00:00",
            settlement_date="2026-11-23", instructing_agent=agent, instructed_agent=agent, debtor_agent=agent,
            creditor_agent=agent,
        )
        for one in original.payments
    )  # fmt: skip
    return replace(
        original, payments=payments, number_of_transactions=str(len(payments)), control_sum="1.00",
        instructing_agent=agent, instructed_agent=agent, header=header or original.header,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("forms", "said"),
    [
        ({"pacs.002": {"without": ["case"]}}, "pacs.002 cannot be without case"),
        ({"pacs.008": {"without": ["group"]}}, "no such answer has a form"),
        ({"pacs.002": {"without": ["colour"]}}, "colour"),
    ],
)
def test_a_form_of_nothing_is_refused(forms: dict[str, Any], said: str) -> None:
    """A profile cannot leave out what is not there."""
    with pytest.raises(ValidationError, match="forms"):
        ProfileFile.model_validate({"title": "T", "forms": forms})
    with pytest.raises(ValidationError, match=said):
        ProfileFile.model_validate({"title": "T", "forms": forms})
