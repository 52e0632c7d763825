"""Messages spoilt in every way that chance finds: each is taken, judged, ended and answered; nothing crashes.

INTERLOCK_EXAMPLES (default 200) makes it longer.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lxml import etree

from interlock.inspection import inspect
from interlock.iso20022.codes import HeldCause, Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.findings import Severity
from interlock.stages.facts import Inspection
from interlock.transaction import BodyKind
from tests.messages import Transfer, pacs002, pacs008
from tests.world import ALICE, STORES, World, catalogue, new_place, world_database  # noqa: F401 - fixtures

_LIMITS = Limits(bytes_max=200_000, depth_max=64, nodes_max=20_000)
_SAMPLES = sorted((Path(__file__).parent.parent / "samples").glob("*.xml"))
#: Real messages of every family, where they are at hand.
_ORACLE = sorted((Path(__file__).parents[2].parent / "shared" / "iso20022" / "samples").glob("*.xml"))
_BASES = [pacs008(Transfer(), Transfer(uetr=None)), pacs002(), *(path.read_bytes() for path in _SAMPLES)]
_BASES += [path.read_bytes() for path in _ORACLE if path.stat().st_size < 20_000]


def _is_well_formed(content: bytes) -> bool:
    try:
        etree.fromstring(content)
    except etree.XMLSyntaxError:
        return False
    return True


_TREES = [content for content in _BASES if _is_well_formed(content)]
_EXAMPLES = settings(
    max_examples=int(os.environ.get("INTERLOCK_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
#: Texts that have broken parsers, decimals, dates and databases before.
_TEXTS = st.sampled_from(
    [
        "", " ", "\t", "0", "-0", "-1", "1e5", "NaN", "INF", ".", "1.", ".5", "+5", "0000000000000000.000", "9" * 400,
        "0." + "0" * 400 + "1", "١٢٣", "1 000", "1,000", "0x10", "true", "2026-02-30", "0000-00-00", "9999-12-31",
        "-0001-01-01", "10000-01-01", "2026-01-01T24:00:00", "2026-01-01T00:00:60", "2026-01-01T00:00:00+99:00",
        "2026-01-01Z", "--01", "x" * 40_000, "'; DROP TABLE events; --", "%s%n", "\u202e", "\ufeff", "e\u0301",
        "🏦" * 9,
        "&amp;", "]]>", "<a/>", "../../etc/passwd", "DE89370400440532013000", "de89370400440532013000",
        "00000000-0000-0000-0000-000000000000", "EUR", "eur", "XXX", "ZZZ", "NOTPROVIDED", "a/b", "a\nb",
    ]
) | st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=50)  # fmt: skip


def look(content: bytes) -> Inspection:
    return inspect(content, catalogue(), limits=_LIMITS, today=date(2026, 6, 1))


# -- how they are spoilt ----------------------------------------------------------------------------------------------


@st.composite
def spoilt_bytes(draw: st.DrawFn) -> bytes:
    """A message with some bytes changed, lost, doubled, or cut off."""
    raw = bytearray(draw(st.sampled_from(_BASES)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        length = draw(st.integers(1, 60))
        match draw(st.sampled_from(["flip", "set", "insert", "delete", "double", "cut", "markup"])):
            case "flip" if raw:
                raw[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if raw:
                raw[at] = draw(st.integers(0, 255))
            case "insert":
                raw[at:at] = draw(st.binary(max_size=20))
            case "delete":
                del raw[at : at + length]
            case "double":
                raw[at:at] = raw[at : at + length]
            case "cut":
                del raw[at:]
            case "markup":
                raw[at:at] = draw(
                    st.sampled_from(
                        [
                            b"<", b">", b"&", b"&#0;", b"&#x110000;", b"&amp;", b"<!--", b"-->", b"<![CDATA[", b"]]>",
                            b"<?pi?>", b"<!DOCTYPE a>", b"\0", b"\xff\xfe", b"</Document>", b"<a>", b' xmlns="x"',
                            b'<?xml version="1.0" encoding="UTF-7"?>', b'<?xml version="1.1"?>',
                        ]
                    )
                )  # fmt: skip
    return bytes(raw)


@st.composite
def spoilt_trees(draw: st.DrawFn) -> bytes:
    """A well-formed message with elements lost, doubled, moved, renamed, emptied, or with another text."""
    root = etree.fromstring(draw(st.sampled_from(_TREES)))
    for _ in range(draw(st.integers(1, 4))):
        elements = [element for element in root.iter("{*}*") if element is not root]
        if elements:
            _spoil(draw, draw(st.sampled_from(elements)), elements)
    encoding = draw(st.sampled_from(["UTF-8", "UTF-16", "ISO-8859-1", "US-ASCII"]))
    return cast("bytes", etree.tostring(root, encoding=encoding, xml_declaration=True))


def _spoil(draw: st.DrawFn, element: etree._Element, elements: list[etree._Element]) -> None:
    match draw(st.sampled_from(["drop", "double", "move", "empty", "text", "attribute", "name"])):
        case "drop":
            _parent(element).remove(element)
        case "double":
            copy = etree.fromstring(etree.tostring(element, with_tail=False))
            _parent(element).insert(0, copy)
        case "move":
            other = draw(st.sampled_from(elements))
            if element not in {other, *other.iterancestors()}:
                other.append(element)
        case "empty":
            element[:] = []
        case "text":
            element.text = draw(_TEXTS)
        case "attribute":
            element.set(draw(st.sampled_from(["Ccy", "Id", "x"])), draw(_TEXTS))
        case _:
            name = etree.QName(element)
            spaces = [name.namespace, "urn:x", "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.02"]
            names = [name.localname, "Document", "AppHdr", "MsgId", "IBAN", "UETR", "Cd", "Prtry", "x"]
            element.tag = etree.QName(draw(st.sampled_from(spaces)), draw(st.sampled_from(names))).text


def _parent(element: etree._Element) -> etree._Element:
    parent = element.getparent()
    assert parent is not None  # the root is never spoilt
    return parent


# -- what must hold ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=STORES)
def submit(request: pytest.FixtureRequest) -> Iterator[Callable[[bytes], None]]:
    """Puts a message through a world, and asserts what holds for all of them."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        world = World(new_place(request, Path(folder)))

        async def taken(content: bytes) -> None:
            done = await world.workflow.reading.until_end(await world.workflow.receiving.submit(ALICE, content), 10)
            assert world.verify(done.id) == done
            assert done.standing.cause is not HeldCause.FAULT, done.note
            assert done.standing.status in (Status.ACSC, Status.RJCT)
            assert (await world.workflow.reading.message(ALICE, done.id, BodyKind.INBOX)).content == content
            answer = world.answer(done)
            if not done.answer_due:
                assert answer is None
                return
            assert answer is not None
            wrong = [finding for finding in look(answer).technical if finding.severity is Severity.ERROR]
            assert wrong == [], answer
            if done.standing.status is Status.RJCT:
                assert done.reason is not None
                assert done.reason.encode() in answer

        def submit(content: bytes) -> None:
            runner.run(taken(content))

        yield submit
        runner.run(world.close())


def judged_twice_alike(content: bytes) -> Inspection:
    """The verdict on the same bytes is the same."""
    first, second = look(content), look(content)
    assert first == second
    assert first.failure is None
    return first


@_EXAMPLES
@given(content=spoilt_bytes())
@example(content=b"")
@example(content=b"\xef\xbb\xbf")
@example(content=b"<")
@example(content=b"\0" * 100)
def test_spoilt_bytes_are_judged(submit: Callable[[bytes], None], content: bytes) -> None:
    """Whatever bytes come: a verdict, the same each time, an end, and an answer that is valid itself."""
    judged_twice_alike(content)
    submit(content)


@_EXAMPLES
@given(content=spoilt_trees())
def test_spoilt_trees_are_judged(submit: Callable[[bytes], None], content: bytes) -> None:
    """Well-formed nonsense gets as far as our rules and answers, and harms none of them."""
    judged_twice_alike(content)
    submit(content)


@_EXAMPLES
@given(content=st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_noise_is_judged(submit: Callable[[bytes], None], content: bytes) -> None:
    """What is no message at all is rejected as such, with an answer."""
    assert judged_twice_alike(content).valid is False
    submit(content)


@settings(_EXAMPLES, max_examples=30)
@given(depth=st.integers(1, 400), width=st.integers(0, 25_000), size=st.integers(0, 150_000))
def test_size_and_shape_are_bounded(submit: Callable[[bytes], None], depth: int, width: int, size: int) -> None:
    """Too deep, too wide, too long: a verdict, never a crash."""
    content = b"<a>" * depth + b"<b/>" * width + b"x" * size + b"</a>" * depth
    judged_twice_alike(content)
    submit(content)


@pytest.mark.parametrize("path", _SAMPLES, ids=lambda path: path.name)
def test_what_is_spoilt_here_was_good(path: Path) -> None:
    """The messages that chance spoils have nothing wrong with them before."""
    found = inspect(path.read_bytes(), catalogue(), limits=_LIMITS, today=date.today())  # noqa: DTZ011 - any day does
    assert [finding for finding in found.technical if finding.severity is Severity.ERROR] == []
