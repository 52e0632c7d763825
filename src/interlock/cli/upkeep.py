"""`interlock db` and `interlock audit`: the store's file, and whether its history holds.

The only commands that know that the store is an SQLite file; where it is another one they have nothing to do.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.administration import now, opened
from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile, DataFolder
from interlock.cli.printing import complain, emit, fields, say
from interlock.cli.service import effective
from interlock.errors import ConfigError, ConflictError, RequestError
from interlock.stores.files import sync_folder

if TYPE_CHECKING:
    from interlock.config import Config
    from interlock.ports import Store

db = typer.Typer(help="The store's file: backup, restore, check, info, migrate.", no_args_is_help=True)
audit = typer.Typer(help="History: verify it, and note where it ends.", no_args_is_help=True)

#: What SQLite keeps beside its file.
_COMPANIONS = ("", "-wal", "-shm")

Force = Annotated[bool, typer.Option("--force", help="Although there is one already.")]


@contextmanager
def _present(settings: "Config") -> Iterator["Store"]:
    """The store, which must be there: looking at one must not make it."""
    if not settings.file.exists():
        complain(f"there is no store in {settings.data.resolve()}")
        raise typer.Exit(Exit.NOT_FOUND)
    with opened(settings) as store:
        yield store


def _schema(file: Path) -> int:
    """Number of the newest migration that a file has. Raises RequestError where it is no store."""
    import apsw

    try:
        with closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'writer'").fetchone()
            number = int(connection.pragma("user_version"))
    except apsw.Error as exc:
        raise RequestError(f"{file} is no store of Interlock's: {exc}") from exc
    if not tables or not tables[0]:
        raise RequestError(f"{file} is no store of Interlock's")
    return number


@db.command()
def backup(
    target: Annotated[Path, typer.Argument(help="File to write.", show_default=False)],
    *,
    force: Force = False,
    data: DataFolder = None,
    config: ConfigFile = None,
) -> None:
    """Write a consistent copy, also while a server runs."""
    settings = effective(config, data=data)
    if target.exists() and not force:
        raise RequestError(f"{target} exists; choose another name, or --force")
    if target.resolve() == settings.file.resolve():
        raise RequestError("that is the store itself")
    if not target.resolve().parent.is_dir():
        raise RequestError(f"there is no folder {target.resolve().parent}")
    with _present(settings) as store:
        store.backup(target)
    say(f"{target}  {target.stat().st_size:,} bytes")
    say(f"Keep {settings.data / 'server.key'} too: without it every client needs a new secret.")


@db.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A file that `interlock db backup` wrote.", show_default=False)],
    *,
    force: Force = False,
    data: DataFolder = None,
    config: ConfigFile = None,
) -> None:
    """Put a backup in the place of the store.

    No server may run on it. The former store is kept beside it.
    """
    settings = effective(config, data=data)
    if not source.is_file():
        complain(f"there is no file {source}")
        raise typer.Exit(Exit.NOT_FOUND)
    _schema(source)
    if settings.file.exists() and not force:
        raise ConflictError(f"there is a store in {settings.data.resolve()}; --force replaces it, and keeps it beside")
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _unserved(settings.data):
        fresh = settings.file.with_name(settings.file.name + ".restored")
        try:
            fresh.touch(mode=0o600)  # it holds signing keys and other people's payments
            shutil.copyfile(source, fresh)
            _renew(fresh)
            kept = _set_aside(settings.file)
            fresh.replace(settings.file)
        finally:
            fresh.unlink(missing_ok=True)
        sync_folder(settings.data)
    if kept is not None:
        say(f"The former store is kept as {kept}")
    say(f"{settings.file} is restored from {source}")


@contextmanager
def _unserved(folder: Path) -> Iterator[None]:
    """Keeps servers out; raises ConflictError where one is in."""
    from interlock.app import sole_server

    try:
        with sole_server(folder):
            yield
    except ConfigError as exc:
        raise ConflictError(f"a server runs on {folder.resolve()}; stop it first") from exc


def _renew(file: Path) -> None:
    """Check a copy and begin a new incarnation in it, so that no key of the time after the backup is used twice."""
    import apsw

    with closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        try:
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            if faults != ["ok"]:
                raise RequestError(f"the backup is damaged: {faults[0]}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("UPDATE writer SET incarnation = incarnation + 1")
        except apsw.Error as exc:
            raise RequestError(f"the backup is damaged: {exc}") from exc


def _set_aside(file: Path) -> Path | None:
    """Rename the store, log included; None where there is none."""
    if not file.exists():
        return None
    kept = file.with_name(f"{file.name}.{now():%Y%m%dT%H%M%S}")
    for suffix in _COMPANIONS:
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.replace(kept.with_name(kept.name + suffix))
    return kept


@db.command()
def check(*, data: DataFolder = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Check the integrity of the store's file.

    Exit code 1 if it has a fault.
    """
    with _present(effective(config, data=data)) as store:
        faults = store.check()
    _verdict(faults, "the file is sound", as_json=as_json)


@db.command()
def info(*, data: DataFolder = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show where the store is, how large, and what is in flight."""
    import apsw

    settings = effective(config, data=data)
    with _present(settings) as store:
        head, latest = store.head(), store.latest()
        flying = {f"{status}{f' ({cause})' if cause else ''}": n for (status, cause), n in store.counts(None).items()}
        shown: dict[str, Any] = {
            "file": str(settings.file.resolve()),
            "bytes": sum(part.stat().st_size for part in _parts(settings.file)),
            "schema": _schema(settings.file),
            "sqlite": apsw.sqlitelibversion(),
            "journal": None if head is None else head.journal,
            "events": 0 if head is None else head.seq,
            "latest": None if latest is None else latest.isoformat(),
            "clients": len(store.clients()),
            "in_flight": flying,
        }
    if as_json:
        emit(shown)
    else:
        shown["in_flight"] = ", ".join(f"{number} {what}" for what, number in flying.items()) or "none"
        fields((name.replace("_", " "), value) for name, value in shown.items())


def _parts(file: Path) -> Iterator[Path]:
    return (part for part in (file.with_name(file.name + suffix) for suffix in _COMPANIONS) if part.exists())


@db.command()
def migrate(*, data: DataFolder = None, config: ConfigFile = None) -> None:
    """Bring the store to this version's schema.

    A server does so by itself when it starts.
    """
    settings = effective(config, data=data)
    before = _schema(settings.file) if settings.file.exists() else 0
    with opened(settings):
        after = _schema(settings.file)
    say(f"schema {after}" if before == after else f"schema {before} is now schema {after}")


@audit.command()
def verify(
    *,
    anchor: Annotated[
        str | None,
        typer.Option(metavar="SEQ:HASH", help="A head noted down earlier, which must be there.", show_default=False),
    ] = None,
    data: DataFolder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check that history is whole and that all follows from it.

    No event may have been altered, moved or removed; states must follow from events; messages must be as received.
    Exit code 1 if there is a fault. A server may run meanwhile.
    """
    from interlock.cli.auditing import faults

    with _present(effective(config, data=data)) as store:
        found = []
        for fault in faults(store, _anchor(anchor)):
            found.append(fault)
            if not as_json:
                complain(fault)
        head = store.head()
    events = 0 if head is None else head.seq
    _verdict(found, f"history holds: {events} events", as_json=as_json, told=True)


def _anchor(text: str | None) -> tuple[int, bytes] | None:
    if text is None:
        return None
    seq, _, digest = text.partition(":")
    try:
        return int(seq), bytes.fromhex(digest)
    except ValueError as exc:
        raise RequestError("--anchor takes SEQ:HASH as `interlock audit head` prints it") from exc


@audit.command()
def head(*, data: DataFolder = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show where history ends.

    Note it down elsewhere, and `verify --anchor` will show whether history was rewritten.
    """
    with _present(effective(config, data=data)) as store:
        end = store.head()
    shown = {
        "journal": None if end is None else end.journal,
        "seq": 0 if end is None else end.seq,
        "hash": None if end is None else end.hash.hex(),
    }
    if as_json:
        emit(shown)
    else:
        say("there are no events yet" if end is None else f"{end.seq}:{end.hash.hex()}  journal {end.journal}")


def _verdict(faults: list[str], good: str, *, as_json: bool, told: bool = False) -> None:
    """Say whether there are faults, and end accordingly. told: people have been told of each already."""
    if as_json:
        emit({"ok": not faults, "faults": faults})
    elif not faults:
        say(good, style="green")
    elif not told:
        for fault in faults:
            complain(fault)
    raise typer.Exit(Exit.FAILED if faults else Exit.OK)
