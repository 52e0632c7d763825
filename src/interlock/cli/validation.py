"""`interlock validate`: what is wrong with message files. Needs neither server nor configuration nor data folder."""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson
from interlock.cli.printing import complain, console, emit

if TYPE_CHECKING:
    from interlock.iso20022.findings import Finding
    from interlock.stages.facts import Inspection

_VERDICT = {True: ("valid", "green"), False: ("invalid", "red"), None: ("unknown", "yellow")}
_WEIGHT = {"error": "red", "warning": "yellow"}


def validate(
    files: Annotated[list[str], typer.Argument(help="Messages; - is the standard input.", show_default=False)],
    *,
    as_json: AsJson = False,
    schema_only: Annotated[bool, typer.Option("--schema-only", help="Leave business rules out.")] = False,
    schemas: Annotated[
        Path | None,
        typer.Option(envvar="INTERLOCK_SCHEMAS", help="Folder of your own XSDs, which come first.", show_default=False),
    ] = None,
) -> None:
    """Check messages: XML, schema, business rules. No server is needed.

    Exit code 0 only if every message is valid; 2 if one is not, cannot be read, or has no schema here, so that its
    `valid` is null.
    """
    look = _inspector(schemas, schema_only=schema_only)
    valid = True
    for file, content in _contents(files):
        if isinstance(content, OSError):
            valid = False
            _unreadable(file, content, as_json=as_json)
            continue
        inspection = look(content)
        valid = valid and inspection.valid is True
        if as_json:
            emit(_as_json(file, inspection))
        else:
            _show(file, content, inspection)
    raise typer.Exit(Exit.OK if valid else Exit.INVALID)


class _inspector:  # noqa: N801 - used as a function
    """Looks at messages with the schemas of this user, which are compiled when first needed."""

    def __init__(self, schemas: Path | None, *, schema_only: bool) -> None:
        from interlock.iso20022.schemas import Catalogue

        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._catalogue = Catalogue(cache=base / "interlock" / "schemas", user=schemas)
        self._schema_only = schema_only

    def __call__(self, content: bytes) -> "Inspection":
        """All that can be said of these bytes."""
        from interlock.inspection import inspect
        from interlock.iso20022.envelopes import Limits

        today = datetime.now(UTC).date()  # noqa: TID251 - a command's own clock
        return inspect(content, self._catalogue, limits=Limits(), today=today, schema_only=self._schema_only)


def _contents(files: list[str]) -> Iterator[tuple[str, bytes | OSError]]:
    for file in files:
        try:
            yield file, sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        except OSError as exc:
            yield file, exc


def _unreadable(file: str, exc: OSError, *, as_json: bool) -> None:
    """A line for the file all the same: whoever counts lines must not take the next one's verdict for this one's."""
    text = f"cannot be read: {exc.strerror or exc}"
    complain(f"{file} {text}")
    if as_json:
        # TD02 is ISO's FileNonReadable.
        finding = {"severity": "error", "rule": "file.unreadable", "reason": "TD02", "xpath": "", "line": None}
        emit({"file": file, "valid": None, "definitions": [], "findings": [{**finding, "text": text}]})


def _as_json(file: str, inspection: "Inspection") -> dict[str, object]:
    findings = [
        {
            "severity": finding.severity.value,
            "rule": finding.rule,
            "reason": finding.reason,
            "xpath": finding.xpath,
            "line": finding.line,
            "text": finding.text,
        }
        for finding in inspection.findings
    ]
    definitions = list(inspection.definitions)
    return {"file": file, "valid": inspection.valid, "definitions": definitions, "findings": findings}


def _show(file: str, content: bytes, inspection: "Inspection") -> None:
    from interlock.cli.excerpts import places

    out = console()
    word, style = _VERDICT[inspection.valid]
    out.print(word, style=style, end="  ")
    out.print(file, " ".join(inspection.definitions), sep="  ")
    offsets = places(content, {finding.xpath for finding in inspection.findings if not finding.rule.startswith("xml.")})
    for finding in inspection.findings:
        _show_finding(content, finding, offsets.get(finding.xpath))


def _show_finding(content: bytes, finding: "Finding", offset: int | None) -> None:
    from interlock.cli.excerpts import excerpt

    out = console()
    out.print(f"  {finding.severity.value}", style=_WEIGHT[finding.severity], end=" ")
    out.print(f"{finding.rule} ({finding.reason}): {finding.text}")
    piece = excerpt(content, finding, offset)
    if piece is not None:
        number = f"{piece.line:>6}"
        out.print(f"{number} | {piece.text}")
        out.print(f"{' ' * len(number)} | {' ' * piece.indent}{'^' * piece.length}", style="red")
    if finding.xpath not in ("", "/"):
        out.print(f"         at {finding.xpath}", style="dim")
