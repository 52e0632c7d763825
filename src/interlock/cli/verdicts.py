"""Messages in files judged, one after the other or on all cores; each verdict comes with the places to show.

A worker process keeps its compiled schemas from file to file, and gives back what is to be printed, not the message.
What is larger than a server takes as one message is read in pieces, see `interlock.cli.large`.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from interlock.cli.excerpts import Excerpt, spots
from interlock.cli.gathering import Findings, Gathered
from interlock.iso20022.findings import Finding, Severity

if TYPE_CHECKING:
    from interlock.cli.large import Judged
    from interlock.stages.facts import Inspection

STDIN = "-"
#: Fewer files than this are judged sooner than other processes start.
_WORTH_PROCESSES = 16
#: Files that a process is given at once.
_CHUNK = 8
#: A file up to this is read into memory and judged as a whole; it is what a server takes unless told otherwise.
_WHOLE_BYTES_MAX = 1_048_576


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
    #: How often it was found at this place: once for each payment that the place is part of.
    times: int
    #: Line and column, both from 1; None where they cannot be told.
    line: int | None = None
    column: int | None = None
    excerpt: Excerpt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found in one file."""

    #: As it was named; its bytes need not be text.
    file: str
    #: None: it cannot be said.
    valid: bool | None
    definitions: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    #: How many findings there are beside these.
    more: int = 0
    #: How many payments, of a file that was read in pieces.
    payments: int | None = None
    #: The profile that judged it and its edition; None: none did.
    profile: str | None = None
    edition: str | None = None
    #: Why it could not be read at all.
    unreadable: str | None = None

    @property
    def findings(self) -> int:
        """The number of all, shown or not."""
        return sum(place.times for place in self.places) + self.more


def shown(file: str) -> str:
    """The name of a file as text; of bytes that are none, and of control characters, what they are."""
    text = os.fsencode(file).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def of_payments(place: Place) -> str:
    """Behind a finding that several payments share."""
    return f" ({place.times:,} payments)" if place.times > 1 else ""


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
    pool = ProcessPoolExecutor(jobs)
    try:
        with _interrupts_held():
            verdicts = pool.map(judge, files, [settings] * len(files), chunksize=_CHUNK)
        yield from verdicts
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that begin meanwhile never hear Ctrl-C, which goes to all: one that died of it would break the pool."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_processes() -> None:
    """At once, whatever they are at."""
    for process in multiprocessing.active_children():
        process.kill()


def cores() -> int:
    """How many processes can work at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def judge(file: str, settings: Settings) -> Verdict:
    """The verdict on one file, which may be none that can be read."""
    try:
        with _opened(file) as stream:
            content = stream.read(_WHOLE_BYTES_MAX + 1)
            if len(content) <= _WHOLE_BYTES_MAX:
                return _whole(file, content, settings)
            with _on_disk(content, stream) as path:
                return _large(file, path, settings)
    except OSError as exc:
        # TD02 is ISO's FileNonReadable.
        why = f"cannot be read: {exc.strerror or exc}"
        finding = Finding(severity=Severity.ERROR, rule="file.unreadable", reason="TD02", xpath="", line=None, text=why)
        return Verdict(file=file, valid=None, places=(Place(finding, 1),), unreadable=why)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == STDIN:
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as stream:
        yield stream


@contextmanager
def _on_disk(begun: bytes, stream: BinaryIO) -> Iterator[Path]:
    """Where a stream can be read from its beginning; a pipe is copied, as far as it would be read at all."""
    name = getattr(stream, "name", None)
    if isinstance(name, str) and Path(name).is_file():
        yield Path(name)
        return
    from interlock.cli.large import LIMITS

    with tempfile.NamedTemporaryFile(prefix="interlock-") as copy:
        copy.write(begun)
        while copy.tell() <= LIMITS.bytes_max and (piece := stream.read(_WHOLE_BYTES_MAX)):
            copy.write(piece)
        copy.flush()
        yield Path(copy.name)


def _whole(file: str, content: bytes, settings: Settings) -> Verdict:
    inspection = _inspector(settings)(content)
    findings = Findings()
    findings.add(inspection.findings)
    return Verdict(
        file=file,
        valid=inspection.valid,
        definitions=inspection.definitions,
        places=_places(BytesIO(content), findings.first()),
        profile=inspection.profile,
        edition=inspection.edition,
    )


def _large(file: str, path: Path, settings: Settings) -> Verdict:
    judged = _inspector(settings).judge_large(path)
    with path.open("rb") as message:
        places = _places(message, judged.findings.first())
    return Verdict(
        file=file,
        valid=judged.valid,
        definitions=judged.definitions,
        places=places,
        more=judged.findings.more,
        payments=judged.payments,
        profile=judged.profile,
        edition=judged.edition,
    )


def _places(message: BinaryIO, gathered: Sequence[Gathered]) -> tuple[Place, ...]:
    found = spots(message, [one.finding for one in gathered])
    return tuple(
        Place(finding, times, finding.line if piece is None else piece.line, column, piece)
        for (finding, times), (piece, column) in zip(gathered, found, strict=True)
    )


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

    def judge_large(self, path: Path) -> "Judged":
        """The same of a file that is read in pieces."""
        from interlock.cli.large import judge_large

        settings = self._settings
        return judge_large(
            path, self._catalogue, self._profiles,
            today=settings.today, profile=settings.profile, schema_only=settings.schema_only,
        )  # fmt: skip


@lru_cache(maxsize=1)
def _inspector(settings: Settings) -> _Inspector:
    return _Inspector(settings)
