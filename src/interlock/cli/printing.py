"""What commands print: tables and colour for people at a terminal, plain lines in logs, JSON for machines."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

#: Logs have no width: a row stays on one line, and is not squeezed into a terminal that is not there.
_LOG_COLUMNS = 2000


def console(*, stderr: bool = False) -> "Console":
    """Where people read: markup and guesses at what should be coloured are off, for messages hold brackets too."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _LOG_COLUMNS
    return Console(stderr=stderr, width=width, markup=False, highlight=False, soft_wrap=True)


def emit(value: object) -> None:
    """One JSON value on a line, at once: the reader may be waiting for it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str, style: str | None = None) -> None:
    """A line for people."""
    console().print(text, style=style)


def complain(text: str) -> None:
    """What went wrong, where it does not mix with results."""
    console(stderr=True).print(f"error: {text}", style="red")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Rows under headings; `empty` where there are none."""
    from rich import box
    from rich.table import Table

    grid = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for row in rows:
        grid.add_row(*("" if cell is None else str(cell) for cell in row))
    if grid.row_count:
        console().print(grid, soft_wrap=False)
    else:
        say(empty)


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line; what is not set is left out."""
    shown = [(name, str(value)) for name, value in pairs if value not in (None, "", (), [])]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{name:<{width}}  {value}")
