"""Options that several commands share, each with one name, one variable and one help text."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DataFolder = Annotated[Path | None, typer.Option("--data", help="Data folder [INTERLOCK_DATA].", show_default=False)]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file [INTERLOCK_CONFIG].", show_default=False)
]
Url = Annotated[
    str,
    typer.Option("--url", envvar="INTERLOCK_URL", help="The server.", show_envvar=True),
]
ClientId = Annotated[
    str, typer.Option("--client-id", envvar="INTERLOCK_CLIENT_ID", help="Who you are.", show_default=False)
]
ClientSecret = Annotated[
    str,
    typer.Option(
        "--client-secret", envvar="INTERLOCK_CLIENT_SECRET", help="Its secret; better in the variable.",
        show_default=False,
    ),
]  # fmt: skip
DEFAULT_URL = "http://127.0.0.1:8080"
