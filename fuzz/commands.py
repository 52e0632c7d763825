"""What `interlock validate` makes of a message: the same verdict, lines and marks, and reports that can be read."""

import json
import tempfile
from datetime import date
from pathlib import Path
from typing import Final

from lxml import etree

from fuzz.broken import Broken
from fuzz.measured import quick
from interlock.cli import reports, validation
from interlock.cli.large import judge_large
from interlock.cli.verdicts import Settings, Verdict, judge
from interlock.iso20022.profiles import Profiles
from interlock.stages.facts import Inspection
from tests.world import catalogue

#: Of what is shown of a line, with what says that it goes on.
_SHOWN_MAX: Final = 102
#: Larger files are not also read in pieces by way of the command.
_BYTES_MAX: Final = 200_000


def check(content: bytes, found: Inspection, day: date) -> None:
    """found: the verdict on it by another way. Raises Broken, or whatever else comes."""
    with tempfile.TemporaryDirectory(prefix="interlock-fuzz-") as name:
        file = Path(name) / "message.xml"
        file.write_bytes(content)
        settings = Settings(today=day, cache=_CACHE)
        verdict = quick("command", lambda: judge(str(file), settings))
        _is_printable(verdict)
        _is_reported(verdict)
        if len(content) <= 1_048_576 and verdict.definitions != found.definitions:
            raise Broken("the command finds another message", f"{verdict.definitions} and {found.definitions}")
        if len(content) <= _BYTES_MAX:
            profiles = Profiles.load()
            quick(
                "command in pieces",
                lambda: judge_large(file, catalogue(), profiles, today=day, profile=None, schema_only=False),
            )
        if file.read_bytes() != content:
            raise Broken("bytes changed", "the file is not what it was")


_FOLDER: Final = tempfile.TemporaryDirectory(prefix="interlock-fuzz-schemas-")
_CACHE: Final = Path(_FOLDER.name)


def _is_printable(verdict: Verdict) -> None:
    """The excerpt is one line, of a bounded length, and its mark stands under it."""
    for place in verdict.places:
        piece = place.excerpt
        if piece is None:
            continue
        if len(piece.text) > _SHOWN_MAX or not piece.text.isprintable():
            raise Broken("excerpt", f"{len(piece.text)} characters")
        if not 0 <= piece.indent <= len(piece.text) or piece.length < 1:
            raise Broken("mark", f"{piece.length} at {piece.indent} of {len(piece.text)}")


def _is_reported(verdict: Verdict) -> None:
    """Each of the forms for machines can be read again."""
    json.loads(json.dumps(validation._as_json(verdict)))  # noqa: SLF001 - it has no name outside
    json.loads(json.dumps(reports.sarif([verdict])))
    etree.fromstring(reports.junit([verdict]))
