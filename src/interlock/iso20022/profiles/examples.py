"""Examples beside a profile: messages, and the verdict that is expected of each. Pure but for reading its folder.

`examples/expected.toml` has a table a file:

    ["no-uetr.xml"]
    on = 2026-11-23
    expect = ["profile.mandatory at PmtId/UETR"]

`expect` lists what must be found, by rule id and, where that matters, the end of its path; every error must be among
it, and warnings may. `expect = []` is a message without error.
"""

import tomllib
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from interlock.errors import ConfigError
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.profiles.loading import UNREADABLE, folder_of_ours
from interlock.iso20022.profiles.profile import Profile

#: The file that says what is expected.
EXPECTED = "expected.toml"
_BETWEEN = " at "


class Example(NamedTuple):
    """A message with its expected verdict."""

    path: Path
    #: The day on which it is judged.
    on: date
    expect: tuple[str, ...]

    def missing(self, findings: Iterable[Finding]) -> list[str]:
        """What was expected and not found, and errors that were found and not expected, each as `expect` has it."""
        found = list(findings)
        absent = [f"not found: {one}" for one in self.expect if not any(_is(finding, one) for finding in found)]
        surprising = [
            f"not expected: {finding.rule}{_BETWEEN}{finding.xpath}"
            for finding in found
            if finding.severity is Severity.ERROR and not any(_is(finding, one) for one in self.expect)
        ]
        return absent + surprising


def _is(finding: Finding, expected: str) -> bool:
    rule, _, path = expected.partition(_BETWEEN)
    return finding.rule == rule and (not path or finding.xpath.endswith(f"/{path}"))


def folder_of(profile: Profile, user: Path | None) -> Path:
    """Where the examples of a profile lie, if it has any."""
    folder = folder_of_ours() if profile.is_ours or user is None else user
    return folder / profile.name / "examples"


def read(folder: Path) -> Iterator[Example]:
    """The examples in a folder, by name. Raises ConfigError with every fault of it at once."""
    file = folder / EXPECTED
    try:
        tables: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError as exc:
        raise ConfigError(f"there is no {file}, which says what is expected of each example") from exc
    except UNREADABLE as exc:
        raise ConfigError(f"{file} cannot be read: {exc}") from exc
    faults = list(_faults(folder, tables))
    if faults:
        raise ConfigError(f"{file} has faults:\n  " + "\n  ".join(faults))
    for name in sorted(tables):
        yield Example(folder / name, tables[name]["on"], tuple(tables[name]["expect"]))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _faults(folder: Path, tables: dict[str, Any]) -> Iterator[str]:
    for name, table in tables.items():
        if not isinstance(table, dict) or set(table) != {"on", "expect"}:
            yield f"{name}: needs `on`, a day, and `expect`, a list, and nothing else"
        elif type(table["on"]) is not date:
            yield f"{name}.on: must be a day, such as 2026-11-23"
        elif not isinstance(table["expect"], list) or not all(isinstance(one, str) for one in table["expect"]):
            yield f"{name}.expect: must be a list of rule ids"
        if not _is_file(folder / name):
            yield f"{name}: there is no such file"
    for path in sorted(folder.glob("*.xml")):
        if path.name not in tables:
            yield f"{path.name}: nothing is expected of it; give it a table"
