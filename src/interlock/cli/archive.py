"""`interlock archive`: periods that leave the database for archives, and come back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile, DataFolder
from interlock.cli.printing import complain, emit, say, table
from interlock.cli.service import effective
from interlock.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from interlock.archivist import Listed
    from interlock.config import Config
    from interlock.retention import Done, Retention

archive = typer.Typer(help="Old transactions in archives: run, list, verify, restore, drop.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The archive; see `interlock archive list`.", show_default=False)]


@contextmanager
def _opened(settings: "Config") -> Iterator["Retention"]:
    """The job, by the database's clock. Raises ConfigError where there is nothing for it to do."""
    if not settings.is_shared:
        raise ConfigError("store: archives are of a PostgreSQL database; one SQLite file keeps everything")
    from interlock.archives import UnknownArchive
    from interlock.retention import Policy, Retention, target_of
    from interlock.stores.postgres.periods import PostgresPeriods

    periods = PostgresPeriods(settings.store)
    try:
        yield Retention(periods, target_of(settings, periods.clock), Policy.of(settings), periods.clock)
    except UnknownArchive as exc:
        complain(str(exc))
        raise typer.Exit(Exit.NOT_FOUND) from exc
    finally:
        periods.close()


@archive.command()
def run(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which periods have expired.")] = False,
    data: DataFolder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Archive and drop every period that has expired, as the workers do by themselves.

    Exit code 1 if one must stay. Servers may run meanwhile.
    """
    from interlock.retention import Failed

    failed = number = 0
    with _opened(effective(config, data=data)) as retention:
        if dry_run:
            for period in retention.expired():
                number += 1
                told = {"period": period.name, "begins": period.begins.isoformat(), "ends": period.ends.isoformat()}
                emit(told) if as_json else say(f"{told['begins']} to {told['ends']}")
        else:
            for outcome in retention.run():
                number += 1
                if not isinstance(outcome, Failed):
                    _tell(outcome, as_json=as_json)
                    continue
                failed += 1
                if as_json:
                    emit({"period": outcome.period.name, "archive": None, "error": str(outcome.error)})
                else:
                    complain(str(outcome.error))
    if not number and not as_json:
        say("nothing has expired")
    raise typer.Exit(Exit.FAILED if failed else Exit.OK)


def _tell(done: "Done", *, as_json: bool) -> None:
    kept = done.manifest
    if as_json:
        size = (0, 0) if kept is None else (kept.rows, kept.stored.bytes)
        emit(
            {
                "period": done.period.name,
                "archive": None if kept is None else kept.name,
                "rows": size[0],
                "bytes": size[1],
                "seconds": round(done.seconds, 3),
            }
        )
    elif kept is None:
        say(f"{done.period.name}  was empty, and is dropped")
    else:
        say(f"{kept.name}  {kept.rows:,} rows  {kept.stored.bytes:,} bytes  {done.seconds:.1f} s")


@archive.command("list")
def list_archives(*, data: DataFolder = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the archives of the target and of the database side by side.

    Exit code 1 if one is missing, replaced or damaged.
    """
    from interlock.archivist import State

    with _opened(effective(config, data=data)) as retention:
        listing = retention.archivist.listing()
    shown = [_shown(listed) for listed in listing.archives]
    shown += [{"name": file, "state": "leftover"} for file in listing.leftovers]
    if as_json:
        for item in shown:
            emit(item)
    else:
        columns = ("archive", "state", "begins", "ends", "rows", "bytes", "encrypted")
        rows = [[_plain(item.get(column.replace("archive", "name"))) for column in columns] for item in shown]
        table(columns, rows, empty="no archives yet")
    for fault in listing.faults:
        complain(fault)
    wrong = any(listed.state in (State.MISSING, State.REPLACED) for listed in listing.archives)
    raise typer.Exit(Exit.FAILED if wrong or listing.faults else Exit.OK)


def _shown(listed: "Listed") -> dict[str, Any]:
    manifest, record = listed.manifest, listed.record
    shown: dict[str, Any] = {"name": listed.name, "state": str(listed.state)}
    if manifest is not None:
        shown |= {
            "begins": manifest.period.begin.isoformat(),
            "ends": manifest.period.end.isoformat(),
            "rows": manifest.rows,
            "bytes": manifest.stored.bytes,
            "encrypted": manifest.key or "no",
            "written_at": manifest.written_at.isoformat(),
        }
    if record is not None:
        shown["archived_at"] = record.archived_at.isoformat()
        shown["restored_at"] = None if record.restored_at is None else record.restored_at.isoformat()
    return shown


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value or "").removesuffix("T00:00:00+00:00")


@archive.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Archives; see `interlock archive list`.", show_default=False)
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All archives of the target and of the database.")] = False,
    data: DataFolder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Read archives back and check them.

    Their bytes, what their rows come to, the chain of their events, and what the database keeps of it.
    Exit code 1 if there is a fault.
    """
    if bool(names) == everything:
        raise RequestError("name archives, or take --all")
    faulty = 0
    with _opened(effective(config, data=data)) as retention:
        archivist = retention.archivist
        chosen = list(names or [])
        if everything:
            listing = archivist.listing()
            chosen = [listed.name for listed in listing.archives]
            chosen += [name for name in (fault.partition(":")[0] for fault in listing.faults) if name not in chosen]
        for name in chosen:
            found = list(archivist.faults(name))
            faulty += bool(found)
            if as_json:
                emit({"name": name, "ok": not found, "faults": found})
            elif not found:
                say(f"{name}  is whole", style="green")
            for fault in [] if as_json else found:
                complain(f"{name}: {fault}")
    if not chosen and not as_json:
        say("no archives yet")
    raise typer.Exit(Exit.FAILED if faulty else Exit.OK)


@archive.command()
def restore(
    name: Name,
    *,
    data: DataFolder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Put the rows of an archive back into the database, where everybody finds them as before.

    They stay until `interlock archive drop`.
    """
    with _opened(effective(config, data=data)) as retention:
        record = retention.archivist.restore(name)
    marks = record.fingerprint.marks
    if as_json:
        emit({"archive": name, "transactions": marks.transactions, "events": record.fingerprint.events})
    else:
        say(f"{name}  {marks.transactions:,} transactions are back; `interlock archive drop {name}` drops them again")


@archive.command()
def drop(
    name: Name,
    *,
    anew: Annotated[
        bool, typer.Option("--anew", help="Archive them again first where something was written to them since.")
    ] = False,
    data: DataFolder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Take the rows of a restored archive out of the database again, once the archive is seen to be whole.

    Where something was written to them since they stay, and the exit code is 4.
    """
    with _opened(effective(config, data=data)) as retention:
        _tell(retention.drop(name, anew=anew), as_json=as_json)
