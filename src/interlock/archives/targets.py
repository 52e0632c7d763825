"""Where archives lie: the contract in words, folders, and which place a location names."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol, Self
from urllib.parse import SplitResult, unquote, urlsplit

from interlock.archives.errors import ArchiveExists, UnknownArchive
from interlock.archives.format import Source
from interlock.errors import ConfigError, DependencyError

#: A folder's file is synced each time that so much was written: what is left for the end must not hold up the disk, on
#: which others may be committing payments.
_SYNC_BYTES = 64 << 20
_PART = ".part"


class Sink(Protocol):
    """Takes bytes in order."""

    def write(self, data: bytes, /) -> None:
        """Take all of them. Raises DependencyError."""


class Target(Protocol):
    """A place that keeps files, each written once and never changed."""

    @property
    def where(self) -> str:
        """The place as people know it."""

    def write(self, file: str) -> AbstractContextManager[Sink]:
        """A new file: there as a whole, and durable, once the context has ended well; else not there at all.

        Raises ArchiveExists at the beginning or the end where there is one, ConfigError, DependencyError.
        """

    def read(self, file: str) -> AbstractContextManager[Source]:
        """What a file holds. Raises UnknownArchive where there is none, ConfigError, DependencyError."""

    def exists(self, file: str) -> bool:
        """Whether there is such a file, whole. Raises ConfigError, DependencyError."""

    def files(self) -> Iterator[str]:
        """The names of all files that are whole, in any order. Raises ConfigError, DependencyError."""

    def sweep(self, before: datetime) -> int:
        """Take away what crashes have left of files that never became whole; how many.

        before: what was begun (S3) or last written to (folder) since then is left to its writer. No file is
        ever deleted. Raises ConfigError, DependencyError.
        """


class LockMode(StrEnum):
    """How an S3-compatible store keeps an object from being deleted."""

    #: By nobody, whoever asks.
    COMPLIANCE = "COMPLIANCE"
    #: By those only who have a special permission.
    GOVERNANCE = "GOVERNANCE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLock:
    """For how long a store must refuse to delete what was written."""

    days: int
    mode: LockMode = LockMode.COMPLIANCE

    def __post_init__(self) -> None:
        """Refuse what locks nothing."""
        if self.days < 1:
            raise ConfigError(f"an object lock of {self.days} days locks nothing; take 1 or more, or none at all")


def open_target(
    location: str, *, now: Callable[[], datetime], lock: ObjectLock | None = None, endpoint: str | None = None
) -> Target:
    """The place that a location names: a path, `file:///path`, or `s3://bucket/prefix`.

    lock, endpoint: for S3 alone; without an endpoint it is that of AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else AWS's.
    Nothing is asked of the place yet. Raises ConfigError.
    """
    try:
        url = urlsplit(location)
    except ValueError as exc:
        raise ConfigError(f"{location!r} is no place for archives: {exc}") from exc
    if url.scheme == "s3":
        return _s3(url, now, lock, endpoint)
    if "://" not in location:
        path = location
    elif url.scheme == "file" and url.netloc in {"", "localhost"} and not url.query and not url.fragment:
        path = unquote(url.path)
    else:
        raise ConfigError(f"{location!r} is no place for archives; take a path, file:///path or s3://bucket/prefix")
    if not path.strip("/"):
        raise ConfigError(f"{location!r} names no folder for archives")
    if lock is not None:
        raise ConfigError(f"{location!r} is a folder, and a folder offers no object lock; that takes s3://")
    return Folder(Path(path))


def _s3(url: SplitResult, now: Callable[[], datetime], lock: ObjectLock | None, endpoint: str | None) -> Target:
    if not url.netloc or "@" in url.netloc or ":" in url.netloc or url.query or url.fragment:
        raise ConfigError(
            "an S3 place for archives is s3://bucket/prefix and nothing else; credentials are those that AWS's own "
            "tools find, the endpoint is that of AWS_ENDPOINT_URL_S3"
        )
    from interlock.archives.s3 import S3

    return S3(url.netloc, url.path.strip("/"), now=now, lock=lock, endpoint=endpoint)


class Folder:
    """A folder of a file system. Made where it is missing, but not the one above it: that may be a disk not mounted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._path)

    @contextmanager
    def write(self, file: str) -> Iterator[Sink]:
        """Written under another name, synced, then given its own."""
        if self.exists(file):
            raise ArchiveExists(f"{self._path} has a file {file} already")
        self._make()
        part = self._path / f"{file}.{secrets.token_hex(4)}{_PART}"
        try:
            with self._telling("written to"):
                handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with _Synced(handle, self._telling) as sink:
                yield sink
            with self._telling("written to"):
                _publish(part, self._path / file)
                _sync(self._path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    @contextmanager
    def read(self, file: str) -> Iterator[Source]:
        """As it lies there."""
        with self._telling("read"):
            try:
                opened = (self._path / file).open("rb", buffering=0)
            except FileNotFoundError as exc:
                raise UnknownArchive(f"{self._path} has no file {file}") from exc
        with opened:
            yield _Read(opened, self._telling)

    def exists(self, file: str) -> bool:
        """Whether it has its own name."""
        with self._telling("read"):
            try:
                (self._path / file).stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def files(self) -> Iterator[str]:
        """Plain files, without what is being written."""
        with self._telling("read"):
            try:
                entries = list(os.scandir(self._path))
            except FileNotFoundError:
                return
            names = [entry.name for entry in entries if entry.is_file() and not entry.name.endswith(_PART)]
        yield from names

    def sweep(self, before: datetime) -> int:
        """Delete what was last written to before this."""
        swept = 0
        with self._telling("swept"):
            for part in self._path.glob(f"*{_PART}"):
                with contextlib.suppress(FileNotFoundError):
                    if part.stat().st_mtime < before.timestamp():
                        part.unlink()
                        swept += 1
        return swept

    def _make(self) -> None:
        with self._telling("made"):
            try:
                self._path.mkdir(mode=0o700)
                _sync(self._path.parent)
            except FileExistsError:
                if not self._path.is_dir():
                    raise ConfigError(f"the archive folder {self._path} is no folder") from None
            except FileNotFoundError as exc:
                raise ConfigError(
                    f"the archive folder {self._path} cannot be made: {self._path.parent} is missing"
                ) from exc

    @contextmanager
    def _telling(self, done: str) -> Iterator[None]:
        try:
            yield
        except PermissionError as exc:
            raise ConfigError(f"the archive folder {self._path} cannot be {done}: {exc.strerror or exc}") from exc
        except OSError as exc:
            raise DependencyError(f"the archive folder {self._path} cannot be {done}: {exc.strerror or exc}") from exc


_Telling = Callable[[str], AbstractContextManager[None]]


class _Synced:
    """A file that is on the disk once it is closed."""

    def __init__(self, handle: int, telling: _Telling) -> None:
        self._handle = handle
        self._telling = telling
        self._unsynced = 0

    def write(self, data: bytes) -> None:
        with self._telling("written to"):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
            self._unsynced += len(data)
            if self._unsynced >= _SYNC_BYTES:
                os.fdatasync(self._handle)
                self._unsynced = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                with self._telling("written to"):
                    os.fsync(self._handle)
        finally:
            os.close(self._handle)


class _Read:
    """A file whose errors are told."""

    def __init__(self, file: BinaryIO, telling: _Telling) -> None:
        self._file = file
        self._telling = telling

    def read(self, size: int) -> bytes:
        with self._telling("read"):
            return self._file.read(size)


def _publish(part: Path, final: Path) -> None:
    """Give a file its name, unless another one has it."""
    try:
        os.link(part, final)
    except FileExistsError as exc:
        raise ArchiveExists(f"{final.parent} has a file {final.name} already") from exc
    except OSError:
        # A file system without hard links. Only a manifest can meet another of its name, and that in the instant since
        # we looked; it would vouch for the same rows, in a file of its own.
        part.rename(final)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
