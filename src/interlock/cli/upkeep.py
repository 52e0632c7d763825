"""`interlock db` and `interlock audit`: the store's file or database, and whether its history holds.

The only commands that know what the store is: an SQLite file, which they also copy and put back, or a PostgreSQL
database, which has better tools for that. None of them but `migrate` and `restore` changes what it looks at.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.administration import now, opened
from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile, DataFolder
from interlock.cli.printing import complain, console, emit, fields, say
from interlock.cli.service import effective
from interlock.errors import ConfigError, ConflictError, RequestError
from interlock.stores.files import sync_folder

if TYPE_CHECKING:
    from interlock.cli.auditing import Anchor
    from interlock.config import Config
    from interlock.ports import Store
    from interlock.stores.postgres.connections import Connection

db = typer.Typer(help="The store: check, info, migrate; backup and restore.", no_args_is_help=True)
audit = typer.Typer(help="History: verify it, and note where it ends.", no_args_is_help=True)

#: What SQLite keeps beside its file.
_COMPANIONS = ("", "-wal", "-shm")

_ANCHOR = re.compile(r"((?P<journal>[0-9.]+)/)?(?P<seq>[0-9]+):(?P<hash>[0-9a-fA-F]{64})")

Force = Annotated[bool, typer.Option("--force", help="Although there is one already.")]


@contextmanager
def present(settings: "Config") -> Iterator["Store"]:
    """The store, which must be there and up to date: looking at one must not make or migrate it."""
    if settings.is_shared:
        with _database(settings) as connection:
            from interlock.stores.postgres import schema

            if not schema.number(connection):
                complain(f"there is no store in {_named(connection)}")
                raise typer.Exit(Exit.NOT_FOUND)
    elif not settings.file.exists():
        complain(f"there is no store in {settings.data.resolve()}")
        raise typer.Exit(Exit.NOT_FOUND)
    else:
        _refuse_outdated(settings.file)
    with opened(settings.model_copy(update={"migrate": "manual"})) as store:
        yield store


@contextmanager
def _database(settings: "Config") -> Iterator["Connection"]:
    """The PostgreSQL database, before anything is known of it."""
    from interlock.stores.postgres import connections

    with closing(connections.for_bulk(settings.store)) as connection, connections.translated():
        yield connection


def _named(connection: "Connection") -> str:
    """The database in words; never by its URL, which may hold a password."""
    found = connection.info
    return f"the database {found.dbname} on {found.host}:{found.port}"


def _refuse_outdated(file: Path) -> None:
    import apsw

    from interlock.stores.statements import migrations

    wanted = migrations("sqlite")[-1].number
    try:
        with closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            present = int(connection.pragma("user_version"))
    except apsw.Error:
        return  # what is wrong with it, the store says itself
    if present < wanted:
        raise ConfigError(f"{file} has schema {present}, this Interlock wants {wanted}: run `interlock db migrate`")


def _refuse_postgres(settings: "Config", command: str) -> None:
    if settings.is_shared:
        raise RequestError(
            f"`interlock db {command}` is for a file, and the store is a PostgreSQL database. Take base backups "
            "of it (pg_basebackup) and archive its log (WAL): so every moment can be restored, and a copy is known for "
            "one. A dump (pg_dump) gives neither. See docs/postgres-operations.md, Backup"
        )


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
    _refuse_postgres(settings, "backup")
    if target.exists() and not force:
        raise RequestError(f"{target} exists; choose another name, or --force")
    if target.resolve() == settings.file.resolve():
        raise RequestError("that is the store itself")
    if not target.resolve().parent.is_dir():
        raise RequestError(f"there is no folder {target.resolve().parent}")
    from interlock.stores.sqlite import SqliteStore

    with present(settings) as store:
        assert isinstance(store, SqliteStore)  # it is no other
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
    _refuse_postgres(settings, "restore")
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
    """Check the integrity of the store's file or database.

    Exit code 1 if it has a fault.
    """
    settings = effective(config, data=data)
    with present(settings) as store:
        faults = store.check()
    _verdict(faults, f"the {'database' if settings.is_shared else 'file'} is sound", as_json=as_json)


@db.command()
def info(*, data: DataFolder = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show where the store is, how large, and what is in flight."""
    settings = effective(config, data=data)
    with present(settings) as store:
        heads, latest = store.heads(), store.latest()
        shown: dict[str, Any] = {
            **(_of_database(settings) if settings.is_shared else _of_file(settings.file)),
            "journals": {head.journal: head.seq for head in heads},
            "events": sum(head.seq for head in heads),
            "latest": None if latest is None else latest.isoformat(),
            "clients": len(store.clients()),
            "in_flight": {
                f"{status}{f' ({cause})' if cause else ''}": found.number
                for (status, cause), found in sorted(store.open_by_status().items(), key=str)
            },
        }
    if as_json:
        emit(shown)
        return
    for name in ("partitions", "journals", "in_flight"):
        if name in shown:
            shown[name] = ", ".join(f"{what}: {value}" for what, value in shown[name].items() if value) or "none"
    fields((name.replace("_", " "), value) for name, value in shown.items())


def _of_file(file: Path) -> dict[str, Any]:
    import apsw

    return {
        "file": str(file.resolve()),
        "bytes": sum(part.stat().st_size for part in _parts(file)),
        "schema": _schema(file),
        "sqlite": apsw.sqlitelibversion(),
    }


def _of_database(settings: "Config") -> dict[str, Any]:
    from interlock.stores.postgres import schema
    from interlock.stores.postgres.connections import fetch

    with _database(settings) as connection:
        ((version, size),) = fetch(
            connection, "SELECT current_setting('server_version'), pg_database_size(current_database())"
        )
        partitions = schema.partitions(connection)
        return {
            "database": connection.info.dbname,
            "host": f"{connection.info.host}:{connection.info.port}",
            "bytes": size,
            "schema": schema.number(connection),
            "postgresql": version,
            "partitions": {
                "number": len(partitions),
                "oldest": partitions[0].begins.isoformat() if partitions else None,
                "newest": partitions[-1].begins.isoformat() if partitions else None,
            },
        }


def _parts(file: Path) -> Iterator[Path]:
    return (part for part in (file.with_name(file.name + suffix) for suffix in _COMPANIONS) if part.exists())


@db.command()
def migrate(*, data: DataFolder = None, config: ConfigFile = None) -> None:
    """Bring the store to this version's schema.

    A server does so by itself when it starts, unless `migrate` is `manual`. On PostgreSQL servers of the version before
    go on meanwhile.
    """
    settings = effective(config, data=data)
    if settings.is_shared:
        from interlock.stores.postgres import schema

        with _database(settings) as connection:
            before, after = schema.migrate(connection)
            schema.check(connection)
    else:
        before = _schema(settings.file) if settings.file.exists() else 0
        with opened(settings):
            after = _schema(settings.file)
    say(f"schema {after}" if before == after else f"schema {before} is now schema {after}")


@audit.command()
def verify(
    *,
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JOURNAL/SEQ:HASH",
            help="A head noted down earlier, which must be there; may be repeated.",
            show_default=False,
        ),
    ] = None,
    chain: Annotated[
        bool, typer.Option("--chain", help="Only whether events are untouched; not what follows from them.")
    ] = False,
    data: DataFolder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check that history is whole and that all follows from it.

    No event may have been altered, moved or removed; states must follow from events; messages must be as received.
    Exit code 1 if there is a fault. Servers may run meanwhile.
    """
    from interlock.cli.auditing import faults

    anchors = [_anchor(text) for text in anchor or ()]
    with present(effective(config, data=data)) as store, _progress(hidden=as_json) as tell:
        heads = store.heads()
        found = []
        for fault in faults(store, anchors, chain_only=chain, tell=tell):
            found.append(fault)
            if not as_json:
                complain(fault)
    events = f"{sum(head.seq for head in heads):,} events in {len(heads)} journal{'s' * (len(heads) != 1)}"
    _verdict(found, f"{'the chain' if chain else 'history'} holds: {events}", as_json=as_json, told=True)


def _anchor(text: str) -> "Anchor":
    from interlock.cli.auditing import Anchor

    found = _ANCHOR.fullmatch(text)
    if found is None:
        raise RequestError("--anchor takes JOURNAL/SEQ:HASH as `interlock audit head` prints it")
    return Anchor(found["journal"], int(found["seq"]), bytes.fromhex(found["hash"]))


@contextmanager
def _progress(*, hidden: bool) -> Iterator[Callable[[str], object]]:
    """Somewhere to tell how far it has come: a line that changes, for people at a terminal."""
    if hidden or not sys.stderr.isatty():
        yield lambda _: None
        return
    with console(stderr=True).status("") as line:
        yield line.update


@audit.command()
def head(*, data: DataFolder = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show where history ends, a line for each journal.

    Note it down elsewhere, and `verify --anchor` will show whether history was rewritten.
    """
    with present(effective(config, data=data)) as store:
        heads = store.heads()
    if as_json:
        emit({"journals": [{"journal": end.journal, "seq": end.seq, "hash": end.hash.hex()} for end in heads]})
        return
    for end in heads:
        say(f"{end.journal}/{end.seq}:{end.hash.hex()}")
    if not heads:
        say("there are no events yet")


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
