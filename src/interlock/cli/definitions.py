"""`interlock definitions`: the message versions that are known here, and schemas of your own. No server is needed."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile
from interlock.cli.printing import complain, emit, fields, say, table
from interlock.cli.service import effective
from interlock.errors import ConfigError

if TYPE_CHECKING:
    from interlock.iso20022.schemas import Catalogue, Definition
    from interlock.iso20022.schemas.registering import Registered

definitions = typer.Typer(help="Message versions and their schemas: list, show, add.", no_args_is_help=True)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--schemas",
        envvar="INTERLOCK_SCHEMAS",
        help="Folder of your own XSDs; without it, that of the configuration.",
        show_default=False,
    ),
]
Profile = Annotated[
    str | None, typer.Option("--profile", help="Of this profile, such as sepa-inst.", show_default=False)
]


@definitions.command("list")
def list_definitions(
    pattern: Annotated[str, typer.Argument(help="Only these, such as 'pacs.008.*' or pain.", show_default=False)] = "",
    *,
    profile: Profile = None,
    schemas: Folder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List the versions that are known here.

    With each: where its schema comes from, what answers it, which profiles use it. Exit code 3 if none fits.
    """
    shown = [
        definition
        for definition in _with_profiles(schemas, config).definitions()
        if (fnmatchcase(definition.name, pattern) or definition.name.startswith(pattern))
        and (profile is None or profile in definition.profiles)
    ]
    if as_json:
        for definition in shown:
            emit(_as_json(definition))
    else:
        rows = ((d.name, d.source, d.origin, _answer(d.name), " ".join(d.profiles)) for d in shown)
        table(("definition", "source", "from", "answer", "profiles"), rows, empty="no such definition")
    if not shown:
        raise typer.Exit(Exit.NOT_FOUND)


@definitions.command()
def show(
    definition: Annotated[str, typer.Argument(help="Message version, such as pacs.008.001.08.", show_default=False)],
    *,
    xsd: Annotated[bool, typer.Option("--xsd", help="Print the schema itself.")] = False,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="With --xsd: the restricted schema of this profile.", show_default=False),
    ] = None,
    schemas: Folder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one version, or its schema.

    Exit code 3 if it is not known here; then it says how to add it.
    """
    catalogue = _with_profiles(schemas, config)
    if not catalogue.knows(definition):
        complain(f"{definition} is not known here: {catalogue.how_to_add(definition)}")
        raise typer.Exit(Exit.NOT_FOUND)
    if xsd:
        if profile is not None and not catalogue.restricts(profile, definition):
            complain(f"{profile} has no schema of its own for {definition}")
            raise typer.Exit(Exit.NOT_FOUND)
        typer.echo(catalogue.xsd(definition, profile), nl=False)
        return
    known = catalogue.definition(definition)
    if as_json:
        emit(_as_json(known))
        return
    fields(
        (
            ("definition", known.name),
            ("namespace", known.namespace),
            ("root", known.root),
            ("source", known.source),
            ("from", known.origin),
            ("message", " ".join(child.name for child in catalogue.children(definition))),
            ("answer", _answer(known.name) or "none"),
            ("profiles", " ".join(known.profiles)),
            ("restricted by", " ".join(known.restricted_by)),
        )
    )


@definitions.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The XSD.", show_default=False)],
    *,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", help="It is this profile's restricted schema, not the version's own.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the one that is there.")] = False,
    schemas: Folder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check a schema and put it into your folder.

    There it goes before all others. Checked are: that it is an XSD, that it compiles, its namespace, its outermost
    element, and that it refers to nothing outside the folder. Servers take it at their next start. Exit code 2 if it
    cannot be used, 4 if one is there already.
    """
    from interlock.iso20022.schemas import Catalogue
    from interlock.iso20022.schemas.registering import register

    folder = schemas or effective(config).schemas
    if folder is None:
        raise ConfigError(
            "schemas: there is no folder for schemas of your own; set INTERLOCK_SCHEMAS or `schemas` in the "
            "configuration, or name one with --schemas"
        )
    if profile is not None:
        effective(config).open_profiles().named(profile)  # a name that is none would judge nothing
    catalogue = Catalogue(user=folder if folder.is_dir() else None)
    done = register(folder, file, catalogue, profile=profile, replace=force)
    if as_json:
        emit(
            {
                "definition": done.definition,
                "profile": done.profile,
                "file": str(done.path),
                "replaced": list(done.replaced),
                "changed": done.changed,
            }
        )
    else:
        say(_told(done, catalogue))


def _told(done: "Registered", catalogue: "Catalogue") -> str:
    """What came of adding a schema, and what it means."""
    if not done.changed:
        return f"{done.definition}: {done.path} has this very schema already; nothing was done"
    lines = [f"{done.definition}: {done.path}"]
    if done.replaced:
        lines.append(f"replaces what was there: {', '.join(done.replaced)}")
    elif done.profile is None and catalogue.knows(done.definition):
        lines.append(f"goes before the schema from {catalogue.definition(done.definition).origin}")
    if done.profile is not None:
        lines.append(f"judges messages of the profile {done.profile}, after the version's own schema")
    lines.append("servers that run take it at their next start")
    return "\n  ".join(lines)


def _with_profiles(schemas: Path | None, config: Path | None) -> "Catalogue":
    """The catalogue, which tells too what the profiles use in any of their editions."""
    from interlock.iso20022.profiles import Profiles
    from interlock.iso20022.schemas import Catalogue

    settings = effective(config)
    used = Profiles.load(settings.profiles.folder).versions
    return Catalogue(user=schemas or settings.schemas, profiles=used)


def _answer(definition: str) -> str | None:
    from interlock.iso20022 import answers

    return answers.answer_to(definition)


def _as_json(definition: "Definition") -> dict[str, object]:
    return {
        "definition": definition.name,
        "namespace": definition.namespace,
        "root": definition.root,
        "source": definition.source.value,
        "origin": definition.origin,
        "answer": _answer(definition.name),
        "profiles": list(definition.profiles),
        "restricted_by": list(definition.restricted_by),
    }
