"""The command line. A module a group of commands; this one lists them and turns errors into exit codes.

Owns: what is typed and printed. Must not know: how anything is decided. Heavy modules are imported where a command
needs them, so that `interlock --help` answers at once.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from interlock import __version__
from interlock.cli import (
    administration,
    archive,
    benchmark,
    definitions,
    demonstration,
    profiles,
    reconcile,
    regions,
    rules,
    service,
    transactions,
    upkeep,
    validation,
)
from interlock.cli.exits import epilog, exit_of
from interlock.cli.printing import complain
from interlock.errors import InterlockError


class _Commands(TyperGroup):
    """Ends with the exit code of our table where a command raises one of our errors."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except InterlockError as exc:
            complain(str(exc))
            raise typer.Exit(exit_of(exc)) from exc


app = typer.Typer(
    name="interlock",
    cls=_Commands,
    help="Receives, decides on and releases ISO 20022 payment messages.",
    epilog=epilog(),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help starts twice as fast
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def everywhere(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Receives, decides on and releases ISO 20022 payment messages."""


for command in (
    service.serve,
    demonstration.demo,
    transactions.send,
    transactions.status,
    transactions.decide,
    transactions.redrive,
    validation.validate,
    reconcile.reconcile,
    service.config,
    benchmark.bench,
):
    app.command()(command)
app.add_typer(administration.clients, name="clients")
app.add_typer(administration.keys, name="keys")
app.add_typer(upkeep.db, name="db")
app.add_typer(upkeep.audit, name="audit")
app.add_typer(archive.archive, name="archive")
app.add_typer(profiles.profiles, name="profiles")
app.add_typer(regions.regions, name="regions")
app.add_typer(definitions.definitions, name="definitions")
app.add_typer(rules.rules, name="rules")


def main() -> None:
    """Run the command that was typed."""
    try:
        app()
    except KeyboardInterrupt:  # before the command itself had begun
        raise SystemExit(130) from None
