import json
from typing import Any

from typer.testing import CliRunner

from interlock.cli import app
from interlock.cli.exits import Exit
from interlock.iso20022.rules import RULES


def listed(*arguments: str) -> dict[str, dict[str, Any]]:
    result = CliRunner().invoke(app, ["rules", "list", *arguments, "--json"])
    assert result.exit_code == Exit.OK, result.output
    return {row["rule"]: row for row in map(json.loads, result.output.splitlines())}


def test_list() -> None:
    """Every rule that is valid today, those that wait for a profile as off."""
    rows = listed()
    assert list(rows) == [rule.id for rule in RULES.values()]
    assert rows["iban.debtor"]["weight"] == "error"
    assert rows["address.unstructured"]["weight"] is None


def test_list_as_a_profile_weighs() -> None:
    """A profile turns rules on, from their first day."""
    of_profile = ("--profile", "cbprplus", "--for", "pacs.008.001.08")
    assert listed(*of_profile, "--on", "2026-11-14")["address.unstructured_cbprplus"]["weight"] == "error"
    assert "address.unstructured_cbprplus" not in listed(*of_profile, "--on", "2026-11-13")
    assert "address.unstructured_cbprplus" not in listed(
        "--profile", "cbprplus", "--for", "camt.053.001.08", "--on", "2026-11-14"
    )


def test_list_some() -> None:
    """By the beginning of the id, or by pattern; nothing is an answer of its own."""
    assert set(listed("iban")) == set(listed("iban.*")) == {"iban.debtor", "iban.creditor", "iban.form"}
    assert CliRunner().invoke(app, ["rules", "list", "nothing"]).exit_code == Exit.NOT_FOUND


def test_show() -> None:
    """All that is known of a rule, for people and for machines."""
    shown = CliRunner().invoke(app, ["rules", "show", "address.unstructured_sepa", "--on", "2026-11-15"])
    assert shown.exit_code == Exit.OK
    for said in (RULES["address.unstructured_sepa"].text, "2026-11-15", "CH21", "PstlAdr"):
        assert said in shown.output
    row = json.loads(CliRunner().invoke(app, ["rules", "show", "iban.debtor", "--json"]).output)
    assert (row["weight"], row["reason"], row["instead_of"]) == ("error", "AC02", "iban.form")
    assert CliRunner().invoke(app, ["rules", "show", "nothing"]).exit_code == Exit.NOT_FOUND


def test_an_unknown_profile_is_a_wrong_setting() -> None:
    """The message says which there are."""
    result = CliRunner().invoke(app, ["rules", "list", "--profile", "nothing"])
    assert result.exit_code == Exit.CONFIG
    assert "cbprplus" in result.stderr
