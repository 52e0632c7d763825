"""`interlock bench`."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

import interlock
from interlock.errors import ConfigError


def bench(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A minute or two; shows that it works, no more.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Parts to measure; may be repeated. Without it: all.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Where the JSON goes; bench/results by default.", show_default=False)
    ] = None,
) -> None:
    """Measure Interlock beside what this machine could do.

    From a checkout of the source, which holds the benchmark; `make bench` is the same.
    """
    checkout = Path(interlock.__file__).resolve().parents[2]
    if not (checkout / "bench" / "run.py").is_file():
        raise ConfigError("the benchmark is not part of the installed package; run it in a checkout of the source")
    sys.path.insert(0, str(checkout))
    arguments = ["--quick"] if quick else []
    arguments += ["--only", *only] if only else []
    arguments += ["--output", str(output)] if output else []
    raise typer.Exit(import_module("bench.run").main(arguments))
