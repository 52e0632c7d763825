"""`interlock profiles`, as typed."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from interlock.cli import app
from interlock.cli.exits import Exit
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.profiles.examples import folder_of
from tests.messages import pacs008


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anybody's configuration."""
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["profiles", *map(str, arguments)])
    return result.exit_code, result.output


def lines(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_list() -> None:
    """Each profile with the edition of the day."""
    code, output = run("list", "--on", "2026-11-01", "--json")
    editions = {str(line["profile"]): line["editions"] for line in lines(output)}
    assert code == Exit.OK
    assert editions["cbprplus"] == ["SR2025"]
    assert editions["generic"] == []
    assert "SEPA instant credit transfer" in run("list")[1]


def test_show_says_how_sure_each_fact_is() -> None:
    """Source and mark are with every fact; what is not verified says so."""
    code, output = run("show", "rtp", "--json")
    told = lines(output)
    assert code == Exit.OK
    (sla,) = [line for line in told if line["kind"] == "SLA"]
    assert (sla["says"], sla["mark"]) == ("15 s.", "U")
    assert all(line["source"] for line in told)
    assert "no text of the scheme was found" in run("show", "rtp")[1]


def test_show_by_day() -> None:
    """Of the edition that holds then."""
    assert "100000 or less" in run("show", "sepa-inst", "--on", "2025-01-01")[1]
    assert "100000 or less" not in run("show", "sepa-inst", "--on", "2026-01-01")[1]


def test_unknown_names() -> None:
    """They are the operator's mistake."""
    code, output = run("show", "nowhere")
    assert code == Exit.CONFIG
    assert "there is no profile 'nowhere'" in output


def test_our_examples() -> None:
    """They can be tested by anybody, one profile's or all."""
    code, output = run("test", "swiss-sps")
    assert code == Exit.OK, output
    assert "10 of 10 examples are as expected" in output
    code, output = run("test")
    assert code == Exit.OK, output
    told = re.search(r"(\d+) of (\d+) examples are as expected", output)
    assert told is not None
    assert told[1] == told[2] != "10"


def test_all_profiles(tmp_path: Path) -> None:
    """Ours and one's own, one without examples too; one that is not as expected is enough."""
    (tmp_path / "plain.toml").write_text('title = "Plain"\n', "utf-8")
    (tmp_path / "acme" / "examples").mkdir(parents=True)
    (tmp_path / "acme" / "profile.toml").write_text('title = "Acme"\n', "utf-8")
    (tmp_path / "acme" / "examples" / "a.xml").write_bytes(pacs008())
    expected = tmp_path / "acme" / "examples" / "expected.toml"
    expected.write_text('["a.xml"]\non = 2026-11-23\nexpect = ["profile.mandatory"]\n', "utf-8")
    code, output = run("test", "--folder", tmp_path)
    assert code == Exit.FAILED
    assert "plain has no examples" in output
    wrong = [line for line in lines(run("test", "--folder", tmp_path, "--json")[1]) if not line["as_expected"]]
    assert [line["profile"] for line in wrong] == ["acme"]
    assert run("test", "plain", "--folder", tmp_path)[0] == Exit.CONFIG


def test_an_own_profile(tmp_path: Path) -> None:
    """Written, tested, found wanting, mended."""
    folder = tmp_path / "mine"
    (folder / "acme" / "examples").mkdir(parents=True)
    (folder / "acme" / "profile.toml").write_text('title = "Acme"\nextends = "sepa-inst"\n', "utf-8")
    ours = folder_of(Profiles.load().named("sepa-inst"), None)
    (folder / "acme" / "examples" / "a.xml").write_bytes((ours / "no-instrument.xml").read_bytes())
    expected = folder / "acme" / "examples" / "expected.toml"
    expected.write_text('["a.xml"]\non = 2026-11-23\nexpect = []\n', "utf-8")
    code, output = run("test", "acme", "--folder", folder)
    assert code == Exit.FAILED
    assert "not expected: profile.mandatory at" in output
    assert "0 of 1 examples" in output
    expected.write_text('["a.xml"]\non = 2026-11-23\nexpect = ["profile.mandatory"]\n', "utf-8")
    assert run("test", "acme", "--folder", folder)[0] == Exit.OK
    assert lines(run("test", "acme", "--folder", folder, "--json")[1])[0]["as_expected"] is True


def test_any_messages(tmp_path: Path) -> None:
    """Files and folders are held to a profile as they are."""
    (tmp_path / "messages").mkdir()
    (tmp_path / "messages" / "a.xml").write_bytes(pacs008())
    assert run("test", "generic", tmp_path / "messages")[0] == Exit.OK
    code, output = run("test", "sepa-inst", tmp_path / "messages" / "a.xml")
    assert code == Exit.INVALID
    assert "profile.mandatory (TD03): sepa-inst 2025: LclInstrm/Cd must say" in output
    code, output = run("test", "sepa-inst", tmp_path / "messages", "--json")
    assert (code, lines(output)[0]["valid"]) == (Exit.INVALID, False)
    assert run("test", "generic", tmp_path / "nothing.xml")[0] == Exit.INVALID
    (tmp_path / "empty").mkdir()
    assert run("test", "generic", tmp_path / "empty")[0] == Exit.INVALID


_UETR = "CdtTrfTxInf/PmtId/UETR"
_OLD = "[versions]\n'pacs.008' = { accepted = ['pacs.008.001.02'] }"


@pytest.mark.parametrize(
    ("text", "stray"),
    [
        ("[[counts]]\nmessages = ['pacs.008']\nwithin = 'CdtTrfTxInff'\npath = 'X'\nmax = 1", "count: CdtTrfTxInff/X"),
        ("[[forbidden]]\nmessages = ['pacs.008']\npath = 'CdtTrfTxInf/RmtInff'", "forbidden: CdtTrfTxInf/RmtInff"),
        ("[[codes]]\nmessages = ['head.001']\npath = 'Prio'\ncodes = ['NORM']", "codes: Prio"),
        ("[[mandatory]]\nmessages = ['pacs.008']\nwithin = 'CdtTrfTxInf'\npath = 'IntrBkSttlmAmt/@Ccy'", None),
        ("[[mandatory]]\nmessages = ['head.001']\npath = 'BizSvc'", None),
        ("[[mandatory]]\nmessages = ['pacs.008']\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/UETR'", None),
        (f"{_OLD}\n[[mandatory]]\npath = '{_UETR}'", f"mandatory: {_UETR}"),
        ("[[mandatory]]\nmessages = ['zzzz.001']\npath = 'Anything'", None),
    ],
    ids=range(8),
)  # fmt: skip
def test_demands_on_nothing(tmp_path: Path, text: str, stray: str | None) -> None:
    """One on an element that no version has would never say a word, so the test does."""
    (tmp_path / "acme.toml").write_text(f"title = 'Acme'\n{text}\n", "utf-8")
    (tmp_path / "acme" / "examples").mkdir(parents=True)
    (tmp_path / "acme" / "examples" / "expected.toml").write_text("", "utf-8")
    code, output = run("test", "acme", "--folder", tmp_path, "--json")
    assert code == (Exit.OK if stray is None else Exit.FAILED)
    assert [line["demand"] for line in lines(output)] == ([] if stray is None else [stray])
    assert ("misspelt" in run("test", "acme", "--folder", tmp_path)[1]) is (stray is not None)


def test_faults_of_a_folder(tmp_path: Path) -> None:
    """All of them, and exit code 78."""
    (tmp_path / "acme.toml").write_text('title = "Acme"\nspeed = 1\n', "utf-8")
    code, output = run("list", "--folder", tmp_path)
    assert code == Exit.CONFIG
    assert "acme.toml: speed: there is no such setting" in output
