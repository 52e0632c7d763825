"""Messages of many payments: limits, places, batches and memory.

That verdicts equal those of single messages is a property, see tests/properties/test_bulk.py.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from interlock.inspection import inspect
from interlock.iso20022.bulk import Batch, BulkLimits, Judge, Reading, Spool, Verdict
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.findings import Finding
from interlock.iso20022.original import OriginalPayment
from interlock.iso20022.schemas import Catalogue
from tests.messages import Transfer, pacs008
from tests.world import catalogue

_TODAY = datetime.now(UTC).date()
_SAMPLES = Path(__file__).parents[2] / "samples"


def _read(
    folder: Path, content: bytes, limits: BulkLimits | None = None, judge: Judge | None = None
) -> tuple[Verdict, list[Batch], list[Finding]]:
    """The verdict, the batches, and what is found late."""
    path = folder / "message.xml"
    path.write_bytes(content)
    with Reading(path, catalogue(), judge or Judge(today=_TODAY), limits) as reading:
        batches = list(reading)
        return reading.verdict, batches, list(reading.late()) if reading.verdict.is_sound else []


def _many(count: int, **more: str) -> list[Transfer]:
    return [Transfer(**more) for _ in range(count)]


_SMALL = BulkLimits(chunk_bytes=2000)


def test_payments_come_in_order_with_their_places(tmp_path: Path) -> None:
    """Ordinals and paths count over the whole file, wherever it is cut."""
    transfers = _many(40)
    verdict, batches, late = _read(tmp_path, pacs008(*transfers), _SMALL)
    payments = [payment for batch in batches for payment in batch.payments]
    assert len(batches) > 10
    assert verdict.is_sound
    assert late == []
    assert [payment.ordinal for payment in payments] == list(range(1, 41))
    assert [payment.end_to_end_id for payment in payments] == [transfer.end_to_end_id for transfer in transfers]
    assert payments[17].xpath == "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[18]"


def test_a_fault_is_told_with_its_line_in_the_file(tmp_path: Path) -> None:
    """Beyond the 65,535 lines too, after which libxml2 counts differently."""
    padding = "\n" * 3000
    lines = [Transfer() for _ in range(29)] + [Transfer(creditor_iban="DE00370400440532013000"), Transfer()]
    text = pacs008(*lines).decode().replace("<CdtTrfTxInf>", f"{padding}<CdtTrfTxInf>").replace("><", ">\n<")
    wanted = text[: text.index("DE00370400440532013000")].count("\n") + 1
    assert wanted > 65_535
    _, batches, _ = _read(tmp_path, text.encode(), _SMALL)
    findings = [finding for batch in batches for finding in batch.findings if finding.rule == "iban.creditor"]
    assert [(finding.payment, finding.line) for finding in findings] == [(30, wanted)]
    assert findings[0].xpath == "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[30]/CdtrAcct/Id/IBAN"


def test_a_schema_fault_far_behind_is_told_with_line_and_path(tmp_path: Path) -> None:
    """What libxml2 validates as a stream has neither."""
    transfers = [*_many(25), Transfer(amount="1,00"), *_many(5)]
    text = pacs008(*transfers).decode().replace("<CdtTrfTxInf>", "\n<CdtTrfTxInf>")
    verdict, _, _ = _read(tmp_path, text.encode(), _SMALL)
    assert [(finding.rule, finding.xpath, finding.line) for finding in verdict.technical] == [
        ("schema.datatype", "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[26]/IntrBkSttlmAmt", 27)
    ]
    assert not verdict.is_sound


def test_rules_over_all_payments(tmp_path: Path) -> None:
    """Counts and repetitions are judged over the file, though no two of the payments are ever in memory together."""
    twin = Transfer()
    transfers = [twin, *_many(30), Transfer(uetr=twin.uetr), *_many(3)]
    _, _, late = _read(tmp_path, pacs008(*transfers, count=999), _SMALL)
    assert {(finding.rule, finding.payment) for finding in late} == {("count.message", None), ("duplicate.uetr", 32)}


def test_sums_of_blocks(tmp_path: Path) -> None:
    """A block whose sum is wrong is wrong for each of its payments, and for no other."""
    text = (_SAMPLES / "pain.001.001.09.xml").read_text()
    start, end = text.index("<PmtInf>"), text.index("</PmtInf>") + len("</PmtInf>")
    block = text[start:end]
    count = block.count("<CdtTrfTxInf>")
    wrong = block.replace("<PmtMtd>TRF</PmtMtd>", "<PmtMtd>TRF</PmtMtd><NbOfTxs>77</NbOfTxs>")
    if "<NbOfTxs>" in block:
        first, _, rest = block.partition("<NbOfTxs>")
        wrong = f"{first}<NbOfTxs>77{rest[rest.index('</NbOfTxs>') :]}"
    content = (text[:start] + block * 3 + wrong + block * 2 + text[end:]).encode()
    _, batches, late = _read(tmp_path, content, BulkLimits(chunk_bytes=700))
    assert len(batches) > 3
    concerned = [finding.payment for finding in late if finding.rule == "count.block"]
    assert concerned == list(range(3 * count + 1, 4 * count + 1))
    groups = [group for batch in batches for group in batch.groups]
    assert [group.xpath.rpartition("/")[2] for group in groups] == [f"PmtInf[{number}]" for number in range(1, 8)]


_HEAD = pacs008().partition(b"<CdtTrfTxInf>")[0]
_PAYMENT = b"<CdtTrfTxInf>" + pacs008().partition(b"<CdtTrfTxInf>")[2].partition(b"</CdtTrfTxInf>")[0]


@pytest.mark.parametrize(
    ("make", "limits", "rule"),
    [
        pytest.param(lambda: b"", BulkLimits(), "xml.empty", id="empty"),
        pytest.param(lambda: b" \n" * 9000, BulkLimits(), "xml.malformed", id="blank"),
        pytest.param(lambda: b'{"a": 1}', BulkLimits(), "envelope.json", id="json"),
        pytest.param(lambda: pacs008(*_many(9)), BulkLimits(bytes_max=2000), "xml.size", id="large"),
        pytest.param(lambda: pacs008(*_many(9)), BulkLimits(payments_max=8), "xml.payments", id="many"),
        pytest.param(
            lambda: pacs008(*_many(9)),
            BulkLimits(payments_max=8, chunk_bytes=500),
            "xml.payments",
            id="many in pieces",
        ),
        pytest.param(
            lambda: b'<!DOCTYPE a [<!ENTITY x "y">]>' + pacs008().partition(b"?>")[2],
            BulkLimits(),
            "xml.doctype",
            id="doctype",
        ),
        pytest.param(
            lambda: _HEAD + _PAYMENT + b"<a>" * 70 + b"</a>" * 70 + b"</CdtTrfTxInf></FIToFICstmrCdtTrf></Document>",
            BulkLimits(),
            "xml.depth",
            id="deep",
        ),
        pytest.param(
            lambda: _HEAD + _PAYMENT + b"<a>" * 300,
            BulkLimits(),
            "xml.depth",
            id="deeper than libxml2 goes",
        ),
        pytest.param(
            lambda: (
                b"<a"
                + b"".join(b' xmlns:n%d="u:%d"' % (one, one) for one in range(300))
                + b">"
                + pacs008(*_many(9)).partition(b"?>")[2]
                + b"</a>"
            ),
            BulkLimits(),
            "xml.namespaces",
            id="a crowd of namespaces",
        ),
        pytest.param(lambda: b"<a>" * 2_000_000, BulkLimits(), "xml.depth", id="nothing but depth"),
        pytest.param(
            lambda: _HEAD + b"<a>" + b"x" * 10_100_000 + b"</a>",
            BulkLimits(part_bytes_max=16_777_216),
            "xml.size",
            id="a long text",
        ),
        pytest.param(
            lambda: _HEAD + b"<!-- -->" * 1000 + b"<x/>" * 2000,
            BulkLimits(part_bytes_max=4000, chunk_bytes=1000),
            "xml.size",
            id="no payment for long",
        ),
        pytest.param(
            lambda: pacs008(*_many(5)).replace(b"<RmtInf>", b"") + b"<", BulkLimits(), "xml.malformed", id="torn"
        ),
        pytest.param(
            lambda: (
                _HEAD
                + b"".join(_PAYMENT + b"<n%040d/></CdtTrfTxInf>" % number for number in range(200))
                + b"</FIToFICstmrCdtTrf></Document>"
            ),
            BulkLimits(names_bytes_max=4000, chunk_bytes=2000),
            "xml.names",
            id="names",
        ),
        pytest.param(
            lambda: b'<Message xmlns="urn:tch">' + pacs008(*_many(9)).partition(b"?>")[2] + b"</Message>",
            BulkLimits(),
            "envelope.short",
            id="an envelope for one payment",
        ),
    ],
)
def test_limits(tmp_path: Path, make: Callable[[], bytes], limits: BulkLimits, rule: str) -> None:
    """What is beyond a limit, or no message, is refused with one finding, and nothing of it counts."""
    verdict, _, _ = _read(tmp_path, make(), limits)
    assert [finding.rule for finding in verdict.technical] == [rule]
    assert verdict.original is None
    assert not verdict.is_sound
    assert verdict.size == len(make())


@pytest.mark.parametrize("attribute", [b':=""', b'p:a="" xmlns:p="no uri"'])
def test_attributes_that_lxml_reads_and_cannot_make(tmp_path: Path, attribute: bytes) -> None:
    """They are faults of the message, told as for a message read at once, and not ours."""
    content = pacs008(*_many(9)).replace(b"<Document ", b"<Document " + attribute + b" ")
    content = content.replace(b"<MsgId>", b'<b xmlns="relative"/><MsgId>')
    verdict, _, _ = _read(tmp_path, content, BulkLimits(chunk_bytes=700))
    at_once = inspect(content, catalogue(), limits=Limits(), today=_TODAY)
    assert {one.rule for one in verdict.technical} == {one.rule for one in at_once.technical}
    assert not verdict.is_sound


def test_findings_are_bounded(tmp_path: Path) -> None:
    """A file that is wrong throughout is told so, not in ten thousand words."""
    verdict, batches, _ = _read(
        tmp_path, pacs008(*_many(60, amount="x")), BulkLimits(findings_max=10, chunk_bytes=2000)
    )
    assert len(verdict.technical) == 10
    assert verdict.technical[-1].rule == "schema.more"
    assert sum(len(batch.payments) for batch in batches) == 60


def test_a_spool_gives_back_what_it_got(tmp_path: Path) -> None:
    """In order, by place and by slice, also while something is added; and leaves no file behind."""
    path = tmp_path / "message.xml"
    path.write_bytes(pacs008(*_many(30)))
    with Reading(path, catalogue(), Judge(today=_TODAY), _SMALL) as reading:
        payments = [payment for batch in reading for payment in batch.payments]
        spool: Spool[OriginalPayment] = Spool(OriginalPayment, tmp_path)
        for place, payment in enumerate(payments):
            spool.extend([payment])
            assert spool[place] == payment
        assert list(spool) == payments == list(reading.payments)
        assert spool[-1] == payments[-1]
        assert spool[3:5] == payments[3:5]
        assert [path.name for path in tmp_path.iterdir()] == ["message.xml"]
        spool.close()


_MEASURE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from interlock.iso20022.bulk import Judge, Reading
from interlock.iso20022.schemas import Catalogue
with Reading(Path(sys.argv[1]), Catalogue(cache=Path(sys.argv[2])), Judge(today=datetime.now(UTC).date())) as reading:
    count = sum(len(batch.payments) for batch in reading)
    late = sum(1 for _ in reading.late())
status = Path("/proc/self/status").read_text()
print(count, late, status.partition("VmHWM:")[2].split()[0])
"""


def _measured(path: Path, cache: Path) -> Sequence[int]:
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path), str(cache)], check=True, capture_output=True, text=True
    )
    return [int(word) for word in run.stdout.split()]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process its peak")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Ten times the payments take a few megabytes more, not ten times as many."""
    sizes = []
    for count in (60, 600, 6000):  # the first compiles the schema
        path = tmp_path / f"{count}.xml"
        path.write_bytes(pacs008(*_many(count)))
        read, late, kilobytes = _measured(path, tmp_path / "schemas")
        assert (read, late) == (count, 0)
        sizes.append(kilobytes)
    assert sizes[2] - sizes[1] < 8_000


def test_a_schema_that_bounds_the_number(tmp_path: Path) -> None:
    """No piece holds as many payments as a scheme's schema allows, and still one more is one too many."""
    folder = tmp_path / "schemas"
    folder.mkdir()
    text = catalogue().xsd("pacs.008.001.08")
    bounded = re.sub(rb'(<xs:element name="CdtTrfTxInf"[^>]*)maxOccurs="unbounded"', rb'\1maxOccurs="20"', text)
    assert bounded != text
    (folder / "bounded.xsd").write_bytes(bounded)
    theirs = Catalogue(user=folder)
    path = tmp_path / "message.xml"
    for count, told in ((20, []), (21, ["/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[21]"])):
        path.write_bytes(pacs008(*_many(count)))
        with Reading(path, theirs, Judge(today=_TODAY), _SMALL) as reading:
            assert sum(1 for _ in reading) > 5
            assert [finding.xpath for finding in reading.verdict.technical] == told
