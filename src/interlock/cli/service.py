"""`interlock serve` and `interlock config`: the server and its settings."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock import __version__
from interlock.cli.options import AsJson, ConfigFile, DataFolder
from interlock.cli.printing import emit, say, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from interlock.app import Interlock
    from interlock.config import Config
    from interlock.ports import Client

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on [INTERLOCK_HOST].", show_default=False)]
Port = Annotated[
    int | None,
    typer.Option("--port", help="Port to listen on; 0 takes a free one [INTERLOCK_PORT].", show_default=False),
]
Region = Annotated[
    str | None, typer.Option("--region", help="Name of this region [INTERLOCK_REGION].", show_default=False)
]

RoleName = Annotated[
    str | None,
    typer.Option(
        "--role", help="all, api or worker; the latter two over PostgreSQL [INTERLOCK_ROLE].", show_default=False
    ),
]


def effective(config: "Path | None", **given: Any) -> "Config":
    """The configuration, command line first. Raises ConfigError that names every fault."""
    from interlock.config import load

    return load(file=config, **given)


def serve(
    *,
    host: Host = None,
    port: Port = None,
    data: DataFolder = None,
    region: Region = None,
    role: RoleName = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Run the server in the foreground, until SIGTERM or SIGINT.

    It prints one line once it listens; with --json an object with `url`, `data` and `clients`.
    """
    settings = effective(config, host=host, port=port, data=data, region=region, role=role)
    from interlock.api import logs
    from interlock.api.server import run

    logs.configure(settings.log_level, settings.log_format)

    def ready(interlock: "Interlock", url: str) -> None:
        _announce(url, settings, interlock.store.clients(), as_json=as_json)

    run(settings, ready)


def _announce(url: str, settings: "Config", clients: "Sequence[Client]", *, as_json: bool) -> None:
    active = [client for client in clients if client.disabled_at is None]
    data = settings.data.resolve()
    if as_json:
        listed = [{"client_id": client.id, "name": client.name} for client in active]
        emit({"url": url, "data": str(data), "clients": listed})
        return
    names = ", ".join(f"{client.name} ({client.id})" for client in active)
    names = names or f"none yet: interlock clients add NAME --data {data}"
    kept = f"store {settings.store_shown}" if settings.is_shared else f"data in {data}"
    say(f"interlock {__version__} listens on {url}, {kept}, clients: {names}")


def config(
    *,
    host: Host = None,
    port: Port = None,
    data: DataFolder = None,
    region: Region = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the effective settings.

    Of each the command line's, else the environment's, else the file's, else the default.
    """
    settings = effective(config, host=host, port=port, data=data, region=region)
    shown = {**settings.model_dump(mode="json"), "store": settings.store_shown}
    if as_json:
        emit(shown)
        return
    from interlock.config import ENVIRONMENT_PREFIX

    rows = [
        (
            name,
            _plain(shown[name]),
            "" if name == "routes" else f"{ENVIRONMENT_PREFIX}{name.upper()}",
            field.description,
        )
        for name, field in type(settings).model_fields.items()
    ]
    table(("setting", "value", "variable", "what it is"), rows, empty="")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
