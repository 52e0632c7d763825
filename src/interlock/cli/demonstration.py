"""`interlock demo`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from interlock.cli.exits import Exit
from interlock.cli.printing import complain


def demo(
    *,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="An empty folder for it; a new temporary one by default.", show_default=False),
    ] = None,
    store: Annotated[
        Literal["sqlite", "postgres"],
        typer.Option("--store", envvar="STORE", help="An embedded store, or two servers over a PostgreSQL of its own."),
    ] = "sqlite",
    keep: Annotated[bool, typer.Option("--keep", envvar="KEEP", help="Let the server stay up.")] = False,
) -> None:
    """Send messages of every kind, and check what comes of them.

    They go to a server of the demo's own, over a fresh folder or database.

    Exit code 0 only if everything came as expected.
    """
    from interlock.demo.server import DemoFailed
    from interlock.demo.show import run

    try:
        good = run(folder, store=store, keep=keep)
    except DemoFailed as exc:
        complain(str(exc))
        raise typer.Exit(Exit.FAILED) from exc
    raise typer.Exit(Exit.OK if good else Exit.FAILED)
