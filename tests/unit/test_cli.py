"""The parts of the command line that need neither files nor a server."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from interlock.cli import app
from interlock.cli.excerpts import Spot, places, spots
from interlock.cli.exits import MEANING, Exit, exit_of
from interlock.cli.gathering import Findings, Gathered
from interlock.cli.large import judge_large
from interlock.cli.transactions import FILTERS, _filter
from interlock.client import Filter
from interlock.errors import (
    ConfigError,
    IllegalDecision,
    InterlockError,
    NoAnswer,
    OutcomeUnknown,
    RequestError,
    StoreUnavailable,
    Unauthorised,
    UnknownTransaction,
)
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.profiles import Profiles
from tests.messages import Transfer, pacs008
from tests.world import catalogue

HEAVY = {"apsw", "cryptography", "fastapi", "httpx", "lxml", "pydantic", "rich", "schwifty", "structlog", "uvicorn"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError, Exit.INVALID),
        (Unauthorised, Exit.INVALID),
        (UnknownTransaction, Exit.NOT_FOUND),
        (NoAnswer, Exit.NOT_FOUND),
        (IllegalDecision, Exit.CONFLICT),
        (StoreUnavailable, Exit.UNAVAILABLE),
        (OutcomeUnknown, Exit.UNAVAILABLE),
        (ConfigError, Exit.CONFIG),
        (InterlockError, Exit.FAILED),
    ],
)
def test_exit_code_says_who_must_act(error: type[InterlockError], code: Exit) -> None:
    """Each kind of error has the exit code of whoever must act: caller, nobody, time, operator."""
    assert exit_of(error("x")) is code


def test_help_explains_every_exit_code() -> None:
    """The table of exit codes stands under `--help`, each code with its meaning."""
    shown = CliRunner().invoke(app, ["--help"]).output
    for code, meaning in MEANING.items():
        assert f"{code.value:>2}  {meaning}" in shown


def test_summaries_fit_their_line() -> None:
    """No command's summary is cut off in the list of commands."""
    for group in ([], ["clients"], ["keys"], ["db"], ["audit"]):
        shown = CliRunner().invoke(app, [*group, "--help"]).output
        assert not [line for line in shown.splitlines()[1:] if line.endswith("...")]


def test_wrong_usage_is_an_invalid_request() -> None:
    """A command that there is not, and an option that there is not, end with exit code 2."""
    assert CliRunner().invoke(app, ["nonsense"]).exit_code == Exit.INVALID
    assert CliRunner().invoke(app, ["validate", "--nonsense", "x"]).exit_code == Exit.INVALID


def test_starts_without_heavy_modules() -> None:
    """`interlock --help` loads none of the modules that take long to import, so it answers at once."""
    code = "import sys, interlock.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_missing_credentials_are_named_together() -> None:
    """A command that needs a server names every setting that is missing, as a configuration fault."""
    result = CliRunner().invoke(app, ["status"], env={"INTERLOCK_CLIENT_ID": "", "INTERLOCK_CLIENT_SECRET": ""})
    assert result.exit_code == Exit.CONFIG
    assert "INTERLOCK_CLIENT_ID, INTERLOCK_CLIENT_SECRET" in result.output


def test_faults_of_the_configuration_are_told_all_at_once() -> None:
    """Two wrong settings are both named, and the exit code is 78."""
    result = CliRunner().invoke(app, ["config"], env={"INTERLOCK_PORT": "x", "INTERLOCK_REGION": ""})
    assert result.exit_code == Exit.CONFIG
    assert "port:" in result.output
    assert "region:" in result.output


@pytest.mark.parametrize("value", ["on", "nonsense"])
def test_redrive_wants_an_id_or_a_filter(value: str) -> None:
    """Neither, or both, of an id and a filter is an invalid request."""
    given = ["redrive"] if value == "on" else ["redrive", "x", "--filter", "status=CANC"]
    assert CliRunner().invoke(app, given).exit_code == Exit.INVALID


# -- filters --


def test_filters_are_those_of_the_client() -> None:
    """What `--filter` takes is what the client library takes, but for paging."""
    assert set(FILTERS) == set(Filter.__annotations__) - {"limit", "cursor"}


def test_a_filter_is_read_from_name_and_value() -> None:
    """Statuses may be several, joined by commas; a value may hold an equals sign."""
    assert _filter(["status=RJCT,CANC", "reference=a=b"]) == {"status": ["RJCT", "CANC"], "reference": "a=b"}


@pytest.mark.parametrize("typed", ["status", "nonsense=1", "=1"])
def test_an_unknown_filter_is_refused(typed: str) -> None:
    """A misspelt filter is not ignored, for it would match everything."""
    with pytest.raises(RequestError):
        _filter([typed])


# -- files of many payments --


def finding(xpath: str, line: int | None = None, text: str = "x") -> Finding:
    return Finding(severity=Severity.ERROR, rule="r", reason="FF01", xpath=xpath, line=line, text=text)


def test_of_many_findings_errors_are_kept_first() -> None:
    """Warnings fill the room that errors leave; all are counted, and those that are kept stay in their order."""
    findings = Findings(most=4)
    warnings = [replace(finding(f"/W[{number}]"), severity=Severity.WARNING) for number in range(10)]
    errors = [finding(f"/E[{number}]") for number in range(3)]
    findings.add([*warnings[:5], *errors, *warnings[5:]])
    assert findings.first() == tuple(Gathered(one, 1) for one in (warnings[0], *errors))
    assert (findings.errors, findings.warnings, findings.more) == (3, 10, 9)


def test_what_payments_share_is_told_once() -> None:
    """A fault in the header or a block is one for whoever mends it, and takes the room of one."""
    findings = Findings(most=2)
    shared = [replace(finding("/Document/GrpHdr/IntrBkSttlmDt"), payment=number) for number in range(1, 301)]
    own = [replace(finding(f"/Document/Tx[{number}]"), payment=number) for number in range(1, 4)]
    findings.add([*shared, own[0]])
    technical = Findings(most=2)
    technical.add([replace(finding("/Document"), severity=Severity.WARNING)])
    technical.join(findings)
    technical.add(own[1:])
    assert technical.first() == (Gathered(shared[0], 300), Gathered(own[0], 1))
    assert (technical.errors, technical.warnings, technical.more) == (303, 1, 3)
    alike = Findings()
    alike.add([finding("/Document"), finding("/Document")])
    assert [one.times for one in alike.first()] == [1, 1]


def test_a_large_file_is_good_if_either_edition_takes_it(tmp_path: Path) -> None:
    """During a change-over the older edition is asked too, and where none takes it the newest says what is wrong."""
    (tmp_path / "acme.toml").write_text(_CHANGE_OVER, "utf-8")
    path = tmp_path / "message.xml"
    profiles = Profiles.load(tmp_path)
    for amount, valid, edition in (("5.00", True, "new"), ("50.00", True, "old"), ("500.00", False, "new")):
        path.write_bytes(pacs008(Transfer(amount=amount), Transfer(amount="1.00")))
        judged = judge_large(
            path, catalogue(), profiles, today=datetime.now(UTC).date(), profile="acme", schema_only=False
        )
        assert (judged.valid, judged.edition, judged.payments) == (valid, edition, 2)
        texts = [one.finding.text for one in judged.findings.first()]
        assert all(text.startswith("acme new") for text in texts)
        assert bool(texts) is not valid


_CHANGE_OVER = """
title = "Acme"
[sources]
contract = { mark = "P", text = "Agreement" }
[[editions]]
name = "old"
[[editions.amounts]]
messages = ["pacs.008"]
max = 100
source = "contract"
[[editions]]
name = "new"
valid_from = 2020-01-01
[[editions.amounts]]
messages = ["pacs.008"]
max = 10
source = "contract"
"""


# -- excerpts --


def spot(content: bytes, found: Finding) -> Spot:
    (only,) = spots(BytesIO(content), [found])
    return only


def test_places_tell_elements_of_one_name_apart() -> None:
    """The second of two elements is found, in a message of a single line, whatever the prefixes."""
    content = b'<p:A xmlns:p="u"><p:B>1</p:B><p:B><p:C>2</p:C></p:B></p:A>'
    assert places(BytesIO(content), ["/A/B[2]/C"]) == {"/A/B[2]/C": content.index(b"<p:C>")}


def test_places_of_an_attribute_are_its_elements() -> None:
    """A finding about an attribute points to the element that has it."""
    assert places(BytesIO(b'<A><B Ccy="EUR">1</B></A>'), ["/A/B/@Ccy"]) == {"/A/B/@Ccy": 3}


def test_places_expand_nothing() -> None:
    """A message with a DOCTYPE is not looked into."""
    assert places(BytesIO(b'<!DOCTYPE A [<!ENTITY x "y">]><A><B>&x;</B></A>'), ["/A/B"]) == {}


@pytest.mark.parametrize("encoding", ["SHIFT_JIS", "GB18030", "x" * 500, "base64"])
def test_places_in_an_encoding_that_expat_cannot_read_are_not_told(encoding: str) -> None:
    """Nothing is marked, and nothing is thrown: libxml2 has judged the message all the same."""
    content = f'<?xml version="1.0" encoding="{encoding}"?><A><B/></A>'.encode()
    assert places(BytesIO(content), ["/A/B"]) == {}


def test_the_mark_stands_under_the_element() -> None:
    """The caret's place and length are those of the element with its value."""
    piece, column = spot(b"<A>\n  <B>value</B>\n</A>", finding("/A/B", 2))
    assert piece is not None
    assert (piece.line, column) == (2, 3)
    assert piece.text[piece.indent : piece.indent + piece.length] == "<B>value</B>"


def test_a_line_without_a_place_is_marked_where_it_begins() -> None:
    """Where only the line is known its first visible character is marked."""
    piece, column = spot(b"<A>\r\n  <B/>\r\n</A>", finding("/nowhere", 2))
    assert piece is not None
    assert (piece.line, piece.text, piece.indent, piece.length) == (2, "  <B/>", 2, 4)
    assert column is None


@pytest.mark.parametrize("before", [500, 9000, 200_000])
def test_a_long_line_is_cut_around_the_mark(before: int) -> None:
    """In a message of one long line the piece shown holds the element, however far it is from both ends."""
    content = b"<A>" + b"<X>\xc3\xa9</X>" * before + b"<B>value</B>" + b"<X>1</X>" * 500 + b"</A>"
    piece, column = spot(content, finding("/A/B", 1))
    assert piece is not None
    assert len(piece.text) < 110
    assert piece.text[piece.indent :].startswith("<B>value</B>")
    assert column == content.index(b"<B>") + 1


def test_a_line_of_utf16_can_be_read() -> None:
    """Every other byte of it is zero; the mark stands where it should all the same."""
    content = '<?xml version="1.0" encoding="UTF-16"?><A>\n <B>value</B></A>'.encode("utf-16")
    piece, _ = spot(content, finding("/A/B", 2))
    assert piece is not None
    assert piece.text[piece.indent : piece.indent + piece.length] == "<B>value</B>"


def test_each_of_many_findings_has_its_line() -> None:
    """Lines and columns are counted over the whole message, in whatever order the findings come."""
    lines = [b"<A>", *(b"<B>%d</B> <B>x</B>" % number for number in range(20_000)), b"</A>"]
    content = b"\n".join(lines)
    wanted = [2, 19_999, 7_000, 1, 10_000]
    findings = [finding(f"/A/B[{2 * number - 1}]") for number in wanted]
    findings += [finding("/", number + 1) for number in wanted]
    shown = [one.excerpt for one in spots(BytesIO(content), findings)]
    assert [(piece.line, piece.text) for piece in shown if piece is not None] == [
        (number + 1, lines[number].decode()) for number in (*wanted, *wanted)
    ]


def test_xml_that_ends_too_soon_is_marked_at_its_end() -> None:
    """Where libxml2 names the line after the last, the end of the last is shown."""
    for content in (b"<A><B>\n", b"<A><B>"):
        piece, _ = spot(content, finding("/", 2, "not well-formed at line 2, column 1."))
        assert piece is not None
        assert (piece.line, piece.indent) == (1, 6)


def test_no_line_no_excerpt() -> None:
    """A finding about the whole message shows no line; nor does one about a line that is not there."""
    for found in (finding("/"), finding("/", 77), finding("/", 0)):
        assert spot(b"<A/>", found) == (None, None)
