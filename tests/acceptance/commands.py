"""Interlock's commands for what surrounds a test, run in this process: a new one takes long to load what it needs.

To a server that runs, what writes beside it is another process all the same. What matters of a process of its own is
the subject of `test_cli`, `test_demo` and `tests/docs`.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from typer.testing import CliRunner, Result

from interlock.cli import app


def run(environment: Mapping[str, str], *arguments: str) -> Result:
    """Run a command to its end, in an environment whose settings are all that there are."""
    # None takes a variable away.
    others: dict[str, str | None] = {name: None for name in os.environ if name.startswith("INTERLOCK_")}
    done = CliRunner().invoke(app, arguments, env={**others, **environment})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def printed(environment: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """What a command that must succeed prints with --json."""
    done = run(environment, *arguments, "--json")
    assert done.exit_code == 0, f"{arguments}: {done.exit_code}, {done.output}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found
