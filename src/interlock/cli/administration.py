"""`interlock clients` and `interlock keys`: who may call, and what tokens are signed with. Beside a server or without.

What is written here goes into the store under the token of whatever server runs, so it fences nobody off; the server
sees it at once.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile, DataFolder
from interlock.cli.printing import complain, emit, fields, say, table
from interlock.cli.service import effective
from interlock.errors import LeaseLost

if TYPE_CHECKING:
    from interlock.config import Config
    from interlock.ports import Client, Store, Write

DEFAULT_SCOPES = ("rp2/read", "rp2/write")
#: How often a write is tried while servers come and go.
_TRIES = 3

clients = typer.Typer(help="Who may call: add, list, disable.", no_args_is_help=True)
keys = typer.Typer(help="What tokens are signed with: list, rotate.", no_args_is_help=True)


@contextmanager
def opened(settings: "Config") -> Iterator["Store"]:
    """The store of these settings, given back at the end."""
    from interlock.api import logs
    from interlock.app import open_store

    logs.configure("warning", "text")  # to standard error: what is printed must stay what was asked for
    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()


def now() -> datetime:
    """The present, by the system's clock."""
    return datetime.now(UTC)  # noqa: TID251 - a command's own clock


def write(store: "Store", *writes: "Write") -> None:
    """Write beside whatever server runs."""
    for attempt in range(_TRIES):
        try:
            store.commit(store.current_token(), writes, os.urandom(16))
        except LeaseLost:  # a server has started between the two calls
            if attempt == _TRIES - 1:
                raise
        else:
            return


@clients.command("add")
def add_client(
    name: Annotated[str, typer.Argument(help="What to call it.", show_default=False)],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="rp2/read, rp2/write, interlock/operate, interlock/admin; may be repeated. Without it: the first two.",
        ),
    ] = None,
    data: DataFolder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Register a client; its secret is shown now and never again."""
    scopes = {word for given in scope or DEFAULT_SCOPES for word in given.split()}
    settings = effective(config, data=data)
    with opened(settings) as store:
        from interlock.app import server_key
        from interlock.auth import new_client

        client, secret = new_client(name, scopes, server_key(settings, store), now())
        write(store, client)
    shown = {"client_id": client.id, "client_secret": secret, "name": client.name, "scopes": sorted(client.scopes)}
    if as_json:
        emit(shown)
        return
    fields((key, " ".join(value) if isinstance(value, list) else value) for key, value in shown.items())
    say("Note the secret down: it is kept nowhere.", style="yellow")


@clients.command("list")
def list_clients(*, data: DataFolder = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show all clients, oldest first."""
    with opened(effective(config, data=data)) as store:
        shown = [_told(client) for client in store.clients()]
    if as_json:
        for client in shown:
            emit(client)
        return
    rows = [
        (c["client_id"], c["name"], " ".join(c["scopes"]), c["created_at"], c["disabled_at"])  # type: ignore[arg-type]
        for c in shown
    ]
    table(("client", "name", "scopes", "created", "disabled"), rows, empty="no clients: interlock clients add NAME")


def _told(client: "Client") -> dict[str, object]:
    return {
        "client_id": client.id,
        "name": client.name,
        "scopes": sorted(client.scopes),
        "created_at": client.created_at.isoformat(),
        "disabled_at": None if client.disabled_at is None else client.disabled_at.isoformat(),
    }


@clients.command("disable")
def disable_client(
    client_id: Annotated[str, typer.Argument(help="Its id; see `interlock clients list`.", show_default=False)],
    *,
    data: DataFolder = None,
    config: ConfigFile = None,
) -> None:
    """Give a client no more tokens; what it has sent goes its way."""
    with opened(effective(config, data=data)) as store:
        client = store.client(client_id)
        if client is None:
            complain(f"there is no client {client_id}; see `interlock clients list`")
            raise typer.Exit(Exit.NOT_FOUND)
        if client.disabled_at is None:
            write(store, replace(client, disabled_at=now()))
    say(f"{client_id} is disabled")


@keys.command("list")
def list_keys(*, data: DataFolder = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the signing keys, oldest first."""
    with opened(effective(config, data=data)) as store:
        shown = [
            {
                "key_id": key.id,
                "created_at": key.created_at.isoformat(),
                "retired_at": None if key.retired_at is None else key.retired_at.isoformat(),
            }
            for key in store.signing_keys()
        ]
    if as_json:
        for key in shown:
            emit(key)
        return
    rows = [(key["key_id"], key["created_at"], key["retired_at"]) for key in shown]
    table(("key", "created", "retired"), rows, empty="no keys yet: the first server makes one")


@keys.command("rotate")
def rotate_keys(
    *,
    revoke: Annotated[bool, typer.Option("--revoke", help="A key has leaked: tokens of the old ones end now.")] = False,
    data: DataFolder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Sign with a new key from now on.

    Tokens of the old ones stay good until they run out. A running server takes the new key up within seconds.
    """
    with opened(effective(config, data=data)) as store:
        from interlock.auth import new_signing_key

        at = now()
        fresh = new_signing_key(at)
        # A key verifies for a token's life after its retirement, and no token lives longer than a day.
        end = at - timedelta(days=2) if revoke else at
        retired = [replace(key, retired_at=end) for key in store.signing_keys() if revoke or key.retired_at is None]
        write(store, *retired, fresh)
    if as_json:
        emit({"key_id": fresh.id, "created_at": fresh.created_at.isoformat(), "retired": [key.id for key in retired]})
    else:
        say(f"{fresh.id} signs from now on")
