"""Messages in files judged, one after the other or on all cores; each verdict comes with the places to show.

A worker process keeps its compiled schemas from file to file, and gives back what is to be printed, not the message.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from interlock.cli.excerpts import Excerpt, excerpt, places
from interlock.iso20022.findings import Finding, Severity

if TYPE_CHECKING:
    from interlock.stages.facts import Inspection

STDIN = "-"
#: Fewer files than this are judged sooner than other processes start.
_WORTH_PROCESSES = 16
#: Files that a process is given at once.
_CHUNK = 8
#: Above the size of any single message; a larger file is not read into memory.
_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How messages are judged; a worker process is given it with each file."""

    today: date
    #: Folder for compiled schemas.
    cache: Path
    schema_only: bool = False
    lenient: bool = False
    #: Name of a profile; None: the message's header chooses.
    profile: str | None = None
    #: Folders of the user's own schemas and profiles.
    schemas: Path | None = None
    profiles: Path | None = None


class Place(NamedTuple):
    """A finding, and the piece of the message that it is about, where there is one."""

    finding: Finding
    excerpt: Excerpt | None
    #: Line and column, both from 1; None where they cannot be told.
    line: int | None
    column: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found in one file."""

    file: str
    #: None: it cannot be said.
    valid: bool | None
    definitions: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    #: Why it could not be read at all.
    unreadable: str | None = None


def files_of(paths: Iterable[str]) -> list[str]:
    """The paths, with each folder's XML files in its place, in the order of their names."""
    found: list[str] = []
    for path in paths:
        if path != STDIN and Path(path).is_dir():
            inside = (each for each in Path(path).rglob("*") if each.suffix.lower() == ".xml" and each.is_file())
            found.extend(str(each) for each in sorted(inside))
        else:
            found.append(path)
    return found


def judge_all(files: Sequence[str], settings: Settings, *, jobs: int) -> Iterator[Verdict]:
    """A verdict a file, in the order of the files. jobs: processes at most."""
    jobs = min(jobs, len(files) // _CHUNK)
    if jobs < 2 or len(files) < _WORTH_PROCESSES or STDIN in files:
        for file in files:
            yield judge(file, settings)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(judge, files, [settings] * len(files), chunksize=_CHUNK)


def cores() -> int:
    """How many processes can work at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def judge(file: str, settings: Settings) -> Verdict:
    """The verdict on one file, which may be none that can be read."""
    try:
        content = _content(file)
    except OSError as exc:
        # TD02 is ISO's FileNonReadable.
        why = f"cannot be read: {exc.strerror or exc}"
        finding = Finding(severity=Severity.ERROR, rule="file.unreadable", reason="TD02", xpath="", line=None, text=why)
        return Verdict(file=file, valid=None, places=(Place(finding, None, None, None),), unreadable=why)
    inspection = _inspector(settings)(content)
    paths = {finding.xpath for finding in inspection.findings if not finding.rule.startswith("xml.")}
    offsets = places(content, paths) if paths else {}
    return Verdict(
        file=file,
        valid=inspection.valid,
        definitions=inspection.definitions,
        places=tuple(_place(content, finding, offsets.get(finding.xpath)) for finding in inspection.findings),
    )


def _content(file: str) -> bytes:
    if file == STDIN:
        return sys.stdin.buffer.read(_BYTES_MAX + 1)
    with Path(file).open("rb") as stream:
        return stream.read(_BYTES_MAX + 1)


def _place(content: bytes, finding: Finding, offset: int | None) -> Place:
    piece = excerpt(content, finding, offset)
    if piece is None:
        return Place(finding, None, finding.line, None)
    column = None if offset is None else offset - (content.rfind(b"\n", 0, offset) + 1) + 1
    return Place(finding, piece, piece.line, column)


class _Inspector:
    """Looks at messages with the schemas of this user, which are compiled when first needed."""

    def __init__(self, settings: Settings) -> None:
        from interlock.iso20022.profiles import Profiles
        from interlock.iso20022.schemas import Catalogue

        self._settings = settings
        self._catalogue = Catalogue(cache=settings.cache, user=settings.schemas)
        self._profiles = Profiles.load(settings.profiles)

    def __call__(self, content: bytes) -> "Inspection":
        """All that can be said of these bytes."""
        from interlock.inspection import inspect
        from interlock.iso20022.envelopes import Limits

        settings = self._settings
        return inspect(
            content, self._catalogue, limits=Limits(), today=settings.today, schema_only=settings.schema_only,
            profiles=self._profiles, profile=settings.profile, lenient=settings.lenient,
        )  # fmt: skip


@lru_cache(maxsize=1)
def _inspector(settings: Settings) -> _Inspector:
    return _Inspector(settings)
