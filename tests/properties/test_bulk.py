"""A message read payment by payment gets the verdict that it gets as a whole: the same findings, fields and payments.

INTERLOCK_EXAMPLES (default 100) makes it longer.
"""

import copy
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from msgspec import structs

from interlock.inspection import inspect
from interlock.iso20022.bulk import BulkLimits, Reading, by_profile
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.findings import Finding
from interlock.iso20022.original import Original
from interlock.iso20022.profiles import Profiles
from tests.messages import Transfer, pacs008
from tests.world import catalogue

_TODAY = date(2026, 6, 1)
_SAMPLES = sorted((Path(__file__).parent.parent / "samples").glob("*.xml"))
_ORACLE = sorted((Path(__file__).parents[2].parent / "shared" / "iso20022" / "samples").glob("*.xml"))
_PAYMENTS = ("CdtTrfTxInf", "DrctDbtTxInf", "TxInf", "PmtTx", "CdtTrfTx")
_BLOCKS = ("PmtInf", "CdtInstr", "OrgnlPmtInfAndRvsl")


def _multiplied(content: bytes) -> bytes:
    """The message with each payment three times, and then each block twice."""
    root = etree.fromstring(content)
    for names, times in ((_PAYMENTS, 2), (_BLOCKS, 1)):
        for element in [element for name in names for element in root.iter(f"{{*}}{name}")]:
            for _ in range(times):
                element.addnext(copy.deepcopy(element))
    return etree.tostring(root)


def _bases() -> Iterator[bytes]:
    yield pacs008(*[Transfer() for _ in range(7)])
    for path in _SAMPLES:
        yield _multiplied(path.read_bytes())
    for path in _ORACLE:
        if path.name.startswith(("pacs.0", "pain.0")) and "malformed" not in path.name and path.stat().st_size < 20_000:
            yield _multiplied(path.read_bytes())


_BASES = list(_bases())


# -- the two ways -----------------------------------------------------------------------------------------------------


class _Verdict:
    """What one of the two ways says, in a form that can be compared."""

    def __init__(
        self, original: Original | None, technical: tuple[Finding, ...], business: tuple[Finding, ...], *, sound: bool
    ) -> None:
        self.sound = sound
        self.original = original
        self.technical = {_place(finding) for finding in technical}
        self.business = Counter(_place(finding) for finding in business)
        self.lines = {_place(finding)[:3]: finding.line for finding in (*technical, *business)}


def _place(finding: Finding) -> tuple[str, str, int | None]:
    """A finding without its line; a position of 1 may be written or not, and so may what our parsing puts around."""
    return finding.rule, re.sub(r"\[1\]", "", finding.xpath.removeprefix("/siblings")), finding.payment


def _as_whole(content: bytes) -> _Verdict:
    found = inspect(content, catalogue(), limits=Limits(bytes_max=10_000_000), today=_TODAY)
    sound = found.original is not None and not any(each.severity == "error" for each in found.technical)
    return _Verdict(found.original, found.technical, found.business, sound=sound)


def _in_pieces(content: bytes, chunk_bytes: int) -> tuple[_Verdict, int]:
    """The verdict, and how many pieces there were."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "message.xml"
        path.write_bytes(content)
        limits = BulkLimits(chunk_bytes=chunk_bytes)
        with Reading(path, catalogue(), by_profile(Profiles.load(), _TODAY), limits) as reading:
            batches = list(reading)
            verdict = reading.verdict
            original = verdict.original
            if original is not None:
                original = structs.replace(original, payments=tuple(reading.payments), groups=tuple(reading.groups))
                assert [each for batch in batches for each in batch.payments] == list(reading.payments)
            business: tuple[Finding, ...] = ()
            if verdict.is_sound:
                business = (*(each for batch in batches for each in batch.findings), *reading.late())
            return _Verdict(original, verdict.technical, business, sound=verdict.is_sound), len(batches)


def assert_same(content: bytes, chunk_bytes: int) -> int:
    """Both ways agree; gives the number of pieces."""
    whole = _as_whole(content)
    pieces, count = _in_pieces(content, chunk_bytes)
    assert pieces.sound is whole.sound
    rules = {rule for rule, _, _ in whole.technical}
    if rules & {"xml.malformed", "schema.more"}:
        assert rules & {rule for rule, _, _ in pieces.technical}
        return count
    # After an element that is not expected libxml2 is silent on what follows; in the next piece it speaks again.
    assert whole.technical <= pieces.technical
    if whole.sound:
        assert pieces.technical == whole.technical
        assert pieces.business == whole.business
        assert pieces.original == whole.original
    return count


# -- what is the same -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*_SAMPLES, *_ORACLE], ids=lambda path: path.name)
def test_samples_are_judged_alike(path: Path) -> None:
    """Whatever the message: payments or none, any envelope, valid or not."""
    assert_same(path.read_bytes(), 700)


@pytest.mark.parametrize("chunk_bytes", [97, 400, 1000, 2500, 6000])
def test_pieces_of_every_size(chunk_bytes: int) -> None:
    """Where a message is cut changes nothing; and it is cut."""
    pieces = max(assert_same(content, chunk_bytes) for content in _BASES[:6])
    assert pieces > 1


_ENCODINGS = (
    "UTF-8",
    "UTF-8-SIG",
    "UTF-16",
    "UTF-16LE",
    "UTF-16BE",
    "UTF-32",
    "UTF-32BE",
    "ISO-8859-1",
    "GB18030",
    "HZ",
)


@pytest.mark.parametrize("encoding", _ENCODINGS)
@pytest.mark.parametrize("said", ["UTF-16", "UTF-16LE", "UTF-32", "GB18030", "none-such", None])
def test_encodings_are_judged_alike(encoding: str, said: str | None) -> None:
    """Whatever the declaration says of them, and where a byte is none of the encoding's."""
    text = re.sub(r"<\?xml[^>]*\?>", "", pacs008(Transfer(), Transfer()).decode())
    content = ("" if said is None else f'<?xml version="1.0" encoding="{said}"?>') + text
    for stray in (b"", b"\0\x11\0\0", b"\xd8\0"):
        body = content.encode(encoding)
        assert_same(body[:-400] + stray + body[-400:], 900)


def test_a_reversal_with_an_unknown_currency_is_judged_alike() -> None:
    """Findings on the amounts of a pain.007 name elements that it has, and are each payment's own."""
    reversal = '<TxInf><RvsdInstdAmt Ccy="RUM">1.76</RvsdInstdAmt></TxInf>'
    content = (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.007.001.03"><CstmrPmtRvsl><GrpHdr><MsgId>A</MsgId>'
        "<CreDtTm>2026-02-28T00:00:00-05:00</CreDtTm><NbOfTxs>2</NbOfTxs></GrpHdr><OrgnlGrpInf><OrgnlMsgId>B</OrgnlMsgId>"
        "<OrgnlMsgNmId>C</OrgnlMsgNmId></OrgnlGrpInf><OrgnlPmtInfAndRvsl><OrgnlPmtInfId>D</OrgnlPmtInfId>"
        f"{reversal}{reversal}</OrgnlPmtInfAndRvsl></CstmrPmtRvsl></Document>"
    ).encode()
    assert_same(content, 64)
    told = {(rule, xpath) for rule, xpath, _ in _as_whole(content).business if rule == "currency.known"}
    steps = "/Document/CstmrPmtRvsl/OrgnlPmtInfAndRvsl/TxInf{}/RvsdInstdAmt/@Ccy"
    assert told == {("currency.known", steps.format(number)) for number in ("", "[2]")}


@pytest.mark.parametrize("letters", [99, 100, 101, 5000])
def test_endless_names_are_cut_alike(letters: int) -> None:
    content = f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.056.001.08"><{"n" * letters}/></Document>'
    assert_same(content.encode(), 64)


@pytest.mark.parametrize("chunk_bytes", [1, 64, 5000])
def test_a_block_without_payments_is_judged_alike(chunk_bytes: int) -> None:
    """What is wrong in it concerns no payment, and so the message; it may stand between blocks that have some."""
    empty = "<OrgnlPmtInfAndRvsl><RvslRsnInf><Orgtr><CtryOfRes>TU</CtryOfRes></Orgtr></RvslRsnInf></OrgnlPmtInfAndRvsl>"
    filled = (
        "<OrgnlPmtInfAndRvsl><OrgnlPmtInfId>D</OrgnlPmtInfId><TxInf><RvslId>R</RvslId></TxInf></OrgnlPmtInfAndRvsl>"
    )
    content = (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.007.001.11"><CstmrPmtRvsl><GrpHdr><MsgId>A</MsgId>'
        "<CreDtTm>2026-02-28T00:00:00-05:00</CreDtTm><NbOfTxs>2</NbOfTxs></GrpHdr><OrgnlGrpInf><OrgnlMsgId>B</OrgnlMsgId>"
        "<OrgnlMsgNmId>C</OrgnlMsgNmId></OrgnlGrpInf>"
        + f"{empty}{filled}{empty}{filled}{empty}".replace(
            "<RvslRsnInf>", "<OrgnlPmtInfId>E</OrgnlPmtInfId><RvslRsnInf>"
        )
        + "</CstmrPmtRvsl></Document>"
    ).encode()
    assert_same(content, chunk_bytes)
    told = [xpath for rule, xpath, payment in _as_whole(content).business if (rule, payment) == ("country.known", None)]
    assert len(told) == 3


_STRAYS = (
    '<SplmtryData><Envlp><x xmlns="urn:y"/></Envlp></SplmtryData>',
    "<x/>",
    "text",
    '<CdtTrfTxInf xmlns="urn:z"/>',
    "<CdtTrfTxInf/>",
    "<PmtInf/>",
    "<!-- nothing -->",
)


@pytest.mark.parametrize("stray", _STRAYS)
@pytest.mark.parametrize("after", ["CdtTrfTxInf", "PmtInf", "GrpHdr", "DbtrAgt"])
def test_what_stands_between_payments_is_seen(stray: str, after: str) -> None:
    """Also where a message is cut, of which a piece alone would know nothing."""
    for name in ("pain.001.001.09.xml", "pacs.008.001.08.xml"):
        text = _multiplied((Path(__file__).parent.parent / "samples" / name).read_bytes()).decode()
        for end in [match.end() for match in re.finditer(f"</{after}>", text)][:4]:
            for chunk_bytes in (150, 900):
                assert_same((text[:end] + stray + text[end:]).encode(), chunk_bytes)


def test_a_header_among_the_payments_is_told_as_such() -> None:
    """One that stands inside the message is an element too many there, not a header that comes too late."""
    header = (
        '<AppHdr xmlns="urn:iso:std:iso:20022:tech:xsd:head.001.001.02"><Fr/><To/><BizMsgIdr>B</BizMsgIdr>'
        "<MsgDefIdr>pacs.008.001.08</MsgDefIdr>"
        "<BizSvc>swift.cbprplus.03</BizSvc><CreDt>2026-06-09T14:03:16+01:00</CreDt></AppHdr>"
    )
    for base in _BASES:
        text = etree.tostring(etree.fromstring(base), encoding="unicode")
        for place in (text.find("<GrpHdr"), text.find("<CdtTrfTxInf"), text.rfind("</CdtTrfTxInf>")):
            if place > 0:
                assert_same((text[:place] + header + text[place:]).encode(), 64)


_EXAMPLES = settings(
    max_examples=int(os.environ.get("INTERLOCK_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_TEXTS = st.sampled_from(["", " ", "x" * 50, "NaN", "-1", "2026-02-30", "EUR", "DE89370400440532013000", "0", "1e5"])
_NAMES = st.sampled_from(["Document", "AppHdr", "MsgId", "SplmtryData", "PmtInf", "CdtTrfTxInf", "x"])
_MARKUP = st.sampled_from(
    [b"<!--x-->", b"<?pi?>", b"<![CDATA[a]]>", b"</Document>", b"<a>", b"<a/>", b"<!DOCTYPE a>", b"]]>", b"&#0;", b"x"]
)


@st.composite
def _spoilt(draw: st.DrawFn) -> bytes:
    """A message of several payments with some elements lost, doubled, moved, emptied or renamed."""
    root = etree.fromstring(draw(st.sampled_from(_BASES)))
    for _ in range(draw(st.integers(1, 3))):
        elements = [element for element in root.iter("{*}*") if element is not root]
        shallow = [element for element in elements if sum(1 for _ in element.iterancestors()) <= 4]
        if elements:
            _spoil(draw, draw(st.sampled_from(draw(st.sampled_from([elements, shallow or elements])))), elements)
    encoding = draw(st.sampled_from(["UTF-8", "UTF-8", "UTF-16", "ISO-8859-1"]))
    return cast("bytes", etree.tostring(root, encoding=encoding, xml_declaration=True))


def _spoil(draw: st.DrawFn, element: etree._Element, elements: list[etree._Element]) -> None:
    parent = element.getparent()
    assert parent is not None  # the root is never spoilt
    match draw(st.sampled_from(["drop", "double", "move", "empty", "text", "attribute", "tail", "name"])):
        case "drop":
            parent.remove(element)
        case "double":
            element.addnext(copy.deepcopy(element))
        case "move":
            other = draw(st.sampled_from(elements))
            if element not in {other, *other.iterancestors()}:
                other.insert(draw(st.integers(0, len(other))), element)
        case "empty":
            element[:] = []
        case "text":
            element.text = draw(_TEXTS)
        case "attribute":
            element.set(draw(st.sampled_from(["Ccy", "x"])), draw(_TEXTS))
        case "tail":
            element.tail = draw(st.sampled_from([" ", "stray"]))
        case _:
            name = etree.QName(element)
            spaces = st.sampled_from([name.namespace, "urn:x"])
            element.tag = etree.QName(draw(spaces), draw(_NAMES | st.just(name.localname))).text


@_EXAMPLES
@given(content=_spoilt(), chunk_bytes=st.sampled_from([64, 500, 2000, 5000]))
def test_spoilt_messages_are_judged_alike(content: bytes, chunk_bytes: int) -> None:
    """Whatever is wrong with a message, and wherever it is cut."""
    assert_same(content, chunk_bytes)


@_EXAMPLES
@given(data=st.data(), chunk_bytes=st.sampled_from([64, 500, 2000]))
def test_spoilt_bytes_are_judged_alike(data: st.DataObject, chunk_bytes: int) -> None:
    """Also what is no XML."""
    content = bytearray(data.draw(st.sampled_from(_BASES)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 30))] = data.draw(_MARKUP | st.binary(max_size=9))
    assert_same(bytes(content), chunk_bytes)
