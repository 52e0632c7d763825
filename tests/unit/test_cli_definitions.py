"""`interlock definitions`: what it lists, shows and adds, and how it ends."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner, Result

from interlock.cli import app
from interlock.cli.exits import Exit

NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"
SCHEMA: Final = f"""<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="{NAMESPACE}"
    targetNamespace="{NAMESPACE}" elementFormDefault="qualified">
  <xs:element name="Document" type="Document"/>
  <xs:complexType name="Document"><xs:sequence><xs:element name="A" type="xs:date"/></xs:sequence></xs:complexType>
</xs:schema>"""


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTERLOCK_SCHEMAS", raising=False)
    monkeypatch.delenv("INTERLOCK_CONFIG", raising=False)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "given.xsd"
    path.write_text(SCHEMA)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["definitions", *map(str, arguments)])


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_list_tells_source_answer_and_profiles() -> None:
    """A pattern or a beginning chooses; each version says where its schema comes from and what answers it."""
    found = lines(run("list", "pacs.008.*", "--json"))
    assert [one["definition"] for one in found[:2]] == ["pacs.008.001.01", "pacs.008.001.02"]
    assert found == lines(run("list", "pacs.008", "--json"))
    assert {name: value for name, value in found[7].items() if name != "profiles"} == {
        "definition": "pacs.008.001.08",
        "namespace": NAMESPACE,
        "root": "Document",
        "source": "compiled",
        "origin": found[0]["origin"],
        "answer": "pacs.002.001.10",
        "restricted_by": [],
    }
    assert {"cbprplus", "sepa-inst"} <= {*found[7]["profiles"]}
    assert found[6]["profiles"] == []
    assert found[0]["origin"].startswith("pyiso20022 ")
    assert "pacs.008.001.08" in run("list").stdout


def test_list_of_nothing() -> None:
    """Where nothing fits it says so, also by its exit code."""
    done = run("list", "nope.*")
    assert (done.exit_code, done.stdout.strip()) == (Exit.NOT_FOUND, "no such definition")


def test_show(given: Path) -> None:
    """One version in full; its schema as it is; and for an unknown one how to add it."""
    shown = run("show", "pacs.008.001.08").stdout
    assert "FIToFICstmrCdtTrf" in shown
    assert NAMESPACE in shown
    assert run("show", "pacs.008.001.08", "--xsd").stdout.startswith("<?xml")
    unknown = run("show", "pacs.008.001.99")
    assert unknown.exit_code == Exit.NOT_FOUND
    assert "definitions add" in unknown.stderr


def test_add_for_a_profile(given: Path, tmp_path: Path) -> None:
    """What is added for a profile is listed with it, and can be shown."""
    folder = ("--schemas", tmp_path / "s")
    (done,) = lines(run("add", given, "--profile", "sepa-inst", *folder, "--json"))
    assert done == {
        "definition": "pacs.008.001.08",
        "profile": "sepa-inst",
        "file": str(tmp_path / "s" / "sepa-inst" / "pacs.008.001.08.xsd"),
        "replaced": [],
        "changed": True,
    }
    used = {one["definition"]: one for one in lines(run("list", "--profile", "sepa-inst", *folder, "--json"))}
    assert [name for name, one in used.items() if one["restricted_by"] == ["sepa-inst"]] == ["pacs.008.001.08"]
    assert used["pacs.008.001.08"]["source"] == "compiled"
    restricted = run("show", "pacs.008.001.08", "--xsd", "--profile", "sepa-inst", *folder)
    assert restricted.stdout == SCHEMA
    assert run("show", "pacs.008.001.09", "--xsd", "--profile", "sepa-inst", *folder).exit_code == Exit.NOT_FOUND


def test_add_says_what_it_does(given: Path, tmp_path: Path) -> None:
    """New, the same again, another refused, another replaced: each is said, and has its exit code."""
    folder = ("--schemas", tmp_path / "s")
    first = run("add", given, *folder)
    assert first.exit_code == 0
    assert "goes before the schema from pyiso20022" in first.stdout
    assert "next start" in first.stdout
    assert "nothing was done" in run("add", given, *folder).stdout
    given.write_text(SCHEMA.replace("xs:date", "xs:time"))
    refused = run("add", given, *folder)
    assert refused.exit_code == Exit.CONFLICT
    assert "--force" in refused.stderr
    assert "replaces what was there: pacs.008.001.08.xsd" in run("add", given, *folder, "--force").stdout
    (shown,) = lines(run("show", "pacs.008.001.08", *folder, "--json"))
    assert (shown["source"], shown["origin"]) == ("user", "pacs.008.001.08.xsd")


def test_add_refuses(given: Path, tmp_path: Path) -> None:
    """A bad file is the caller's to mend; a missing folder the operator's, who is told what to set."""
    given.write_text("<html/>")
    bad = run("add", given, "--schemas", tmp_path / "s")
    assert bad.exit_code == Exit.INVALID
    assert "not an XSD" in bad.stderr
    stranger = run("add", given, "--profile", "sepa-inst2", "--schemas", tmp_path / "s")
    assert stranger.exit_code == Exit.CONFIG
    assert "there is no profile 'sepa-inst2'" in stranger.stderr
    assert not (tmp_path / "s").exists()
    nowhere = run("add", given)
    assert nowhere.exit_code == Exit.CONFIG
    assert "INTERLOCK_SCHEMAS" in nowhere.stderr


def test_folder_of_the_configuration(given: Path, tmp_path: Path) -> None:
    """Without the option the folder is the configuration's."""
    (tmp_path / "s").mkdir()
    config = tmp_path / "its.toml"
    config.write_text(f'schemas = "{tmp_path / "s"}"\n')
    assert run("add", given, "--config", config).exit_code == 0
    (listed,) = lines(run("list", "pacs.008.001.08", "--config", config, "--json"))
    assert listed["source"] == "user"


def test_summaries_fit_their_line() -> None:
    """No command's summary is cut off in the list of commands."""
    assert not [line for line in run("--help").output.splitlines()[1:] if line.endswith("...")]
