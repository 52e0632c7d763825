"""What commands about regions and their operators say to each other: the options they share, consent, and waiting."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Annotated, Any

import typer

from interlock.cli.printing import console, emit, say
from interlock.errors import RequestError

Peer = Annotated[str, typer.Argument(help="Name of the other region, as in [regions.NAME].", show_default=False)]
SomePeer = Annotated[
    str | None, typer.Argument(help="Name of the other region; all of them if left out.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it: the risks above are understood.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="How long to wait for it to be done, in seconds.")]

_POLL_SECONDS = 0.2


def sure(risk: str, *, yes: bool) -> None:
    """Refuse to go on unless the operator has said so."""
    if not yes:
        raise RequestError(f"{risk} Say --yes if that is what you want")


def tell(lines: list[str], otherwise: str, *, as_json: bool, **more: Any) -> None:
    """Tell what was done."""
    if as_json:
        emit({"done": lines, **more})
        return
    for line in lines or [otherwise]:
        say(line)


def until(true: Callable[[], bool], seconds: float, what: str, *, quiet: bool) -> bool:
    """Wait until something is so; whether it came to that in time."""
    deadline = monotonic() + seconds
    with console(stderr=True).status(what) if not quiet else _silence():
        while not true():
            if monotonic() >= deadline:
                return False
            sleep(_POLL_SECONDS)
    return True


@contextmanager
def _silence() -> Iterator[None]:
    yield
