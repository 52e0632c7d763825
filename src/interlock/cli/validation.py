"""`interlock validate`: what is wrong with message files. Needs neither server nor configuration nor data folder."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson
from interlock.cli.printing import complain, console, emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from interlock.cli.verdicts import Place, Verdict

_VERDICT = {True: ("valid", "green"), False: ("invalid", "red"), None: ("unknown", "yellow")}
#: As shells have it for Ctrl-C.
_INTERRUPTED = 130
_WEIGHT = {"error": "red", "warning": "yellow"}
#: So many files are worth a line that counts them, at a terminal.
_WORTH_PROGRESS = 50


def validate(  # noqa: PLR0913 - an option each
    files: Annotated[
        list[str],
        typer.Argument(help="Messages, or folders of *.xml; - is the standard input.", show_default=False),
    ],
    *,
    as_json: AsJson = False,
    sarif: Annotated[
        Path | None, typer.Option(help="Write the findings as SARIF 2.1.0 to this file too.", show_default=False)
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write the verdicts as JUnit XML to this file too.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing of what is valid.")] = False,
    schema_only: Annotated[bool, typer.Option("--schema-only", help="Leave business rules out.")] = False,
    profile: Annotated[
        str | None,
        typer.Option(help="Market practice to judge by; else the message's header says.", show_default=False),
    ] = None,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Mend namespaces that were declared and not used; told as warnings.")
    ] = False,
    on: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The day to judge by, instead of today.", show_default=False),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; else one a core.", show_default=False)] = None,
    schemas: Annotated[
        Path | None,
        typer.Option(envvar="INTERLOCK_SCHEMAS", help="Folder of your own XSDs, which come first.", show_default=False),
    ] = None,
    profiles: Annotated[
        Path | None,
        typer.Option(envvar="INTERLOCK_PROFILES", help="Folder of your own profiles.", show_default=False),
    ] = None,
) -> None:
    """Check messages: XML, schema, business rules, market practice. No server is needed.

    Exit code 0 only if every message is valid; 2 if one is not, cannot be read, or has no schema here, so that its
    `valid` is null.
    """
    from interlock.cli.verdicts import Settings, cores, end_processes, files_of, judge_all, shown

    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    settings = Settings(
        today=_today() if on is None else on.date(), cache=base / "interlock" / "schemas", schema_only=schema_only,
        lenient=lenient, profile=profile, schemas=schemas, profiles=profiles,
    )  # fmt: skip
    listed = files_of(files)
    if not listed:
        complain(f"there is no *.xml file in {' or '.join(files)}")
        raise typer.Exit(Exit.INVALID)
    counted: Counter[bool | None] = Counter()
    kept: list[Verdict] = []
    try:
        with _progress(len(listed)) as step:
            for verdict in judge_all(listed, settings, jobs=jobs or cores()):
                counted[verdict.valid] += 1
                if sarif is not None or junit is not None:
                    kept.append(verdict)
                if as_json:
                    emit(_as_json(verdict))
                    if verdict.unreadable is not None:
                        complain(f"{shown(verdict.file)} {verdict.unreadable}")
                elif not (quiet and verdict.valid):
                    _show(verdict)
                step()
    except KeyboardInterrupt:
        sys.stdout.flush()
        end_processes()
        os._exit(_INTERRUPTED)  # the pool is broken now, and would say so at length
    _report(kept, sarif, junit)
    if len(listed) > 1 and not as_json:
        _sum_up(counted)
    raise typer.Exit(Exit.OK if counted.total() == counted[True] else Exit.INVALID)


def _today() -> date:
    return datetime.now(UTC).date()  # noqa: TID251 - a command's own clock


@contextmanager
def _progress(count: int) -> "Iterator[Callable[[], None]]":
    """Counts files at a terminal, where there are many, beside what is printed."""
    if count < _WORTH_PROGRESS or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=count)
        yield lambda: bar.advance(task)


def _report(verdicts: "list[Verdict]", sarif: Path | None, junit: Path | None) -> None:
    from interlock.cli import reports

    try:
        if sarif is not None:
            sarif.write_text(json.dumps(reports.sarif(verdicts), ensure_ascii=False, indent=2) + "\n", "utf-8")
        if junit is not None:
            junit.write_bytes(reports.junit(verdicts))
    except OSError as exc:
        complain(f"the report cannot be written: {exc.filename}: {exc.strerror or exc}")
        raise typer.Exit(Exit.INVALID) from exc


def _as_json(verdict: "Verdict") -> dict[str, Any]:
    told = {
        "file": os.fsencode(verdict.file).decode("utf-8", "backslashreplace"), "valid": verdict.valid,
        "definitions": list(verdict.definitions), "profile": verdict.profile, "edition": verdict.edition,
        "findings": [_place_as_json(place) for place in verdict.places],
    }  # fmt: skip
    return told | {"findings_total": verdict.findings} if verdict.more else told


def _place_as_json(place: "Place") -> dict[str, Any]:
    finding = place.finding
    told = {
        "severity": finding.severity.value,
        "rule": finding.rule,
        "reason": finding.reason,
        "xpath": finding.xpath,
        "line": finding.line,
        "text": finding.text,
        "payment": finding.payment,
    }
    return told | {"payment": None, "payments": place.times} if place.times > 1 else told


def _show(verdict: "Verdict") -> None:
    from interlock.cli.verdicts import shown

    if verdict.unreadable is not None:
        complain(f"{shown(verdict.file)} {verdict.unreadable}")
        return
    out = console()
    word, style = _VERDICT[verdict.valid]
    out.print(word, style=style, end="  ")
    payments = f"{verdict.payments:,} payments" if verdict.payments and verdict.definitions else ""
    out.print(
        "  ".join(filter(None, (shown(verdict.file), " ".join(verdict.definitions), _practice(verdict), payments)))
    )
    for place in verdict.places:
        _show_place(place)
    if verdict.more:
        out.print(f"  and {verdict.more:,} more findings", style="bold")


def _practice(verdict: "Verdict") -> str:
    """What judged it, where that was not the profile for all."""
    return " ".join(filter(None, (verdict.profile, verdict.edition))) if verdict.profile != "generic" else ""


def _show_place(place: "Place") -> None:
    from interlock.cli.verdicts import of_payments

    out, finding = console(), place.finding
    out.print(f"  {finding.severity.value}", style=_WEIGHT[finding.severity], end=" ")
    out.print(f"{finding.rule} ({finding.reason}): {finding.text}{of_payments(place)}")
    piece = place.excerpt
    if piece is not None:
        number = f"{piece.line:>6}"
        out.print(f"{number} | {piece.text}")
        out.print(f"{' ' * len(number)} | {' ' * piece.indent}{'^' * piece.length}", style="red")
    if finding.xpath not in ("", "/"):
        out.print(f"         at {finding.xpath}", style="dim")


def _sum_up(counted: "Counter[bool | None]") -> None:
    out = console()
    parts = [f"{counted[valid]} {word}" for valid, (word, _) in _VERDICT.items() if counted[valid]]
    out.print(f"{counted.total()} files: {', '.join(parts)}", style="bold")
