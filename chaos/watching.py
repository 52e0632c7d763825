"""What can be seen of regions while things happen to them, and how it is shown."""

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Self

import psycopg
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chaos.world import Status, World
from interlock.errors import InterlockError
from interlock.regions.rules import Entry

_LOOK_SECONDS = 0.25
#: What was seen longer ago is not shown as if it were so.
_STALE_SECONDS = 1.5
#: Logs have no width: a row stays on one line.
_LOG_COLUMNS = 2000
_LINE_SECONDS = 1.0
_TOLD = 12


@dataclass
class _Seen:
    """The last that was seen of a region's database."""

    status: Status | None = None
    at: float = 0.0
    #: Ends a second, of late.
    rate: float = 0.0


@dataclass(frozen=True)
class View:
    """A region, in words."""

    name: str
    state: str
    style: str
    epoch: str = "-"
    guards: str = "-"
    lag: str = "-"
    in_flight: str = "-"
    rate: str = "-"


class Watch:
    """Looks at every region, each in a thread of its own: a database that has stopped stops nobody else."""

    def __init__(self, world: World) -> None:
        """Nothing is seen before it is entered."""
        self._world = world
        self._seen = {name: _Seen() for name in world.regions}
        self._entries: Mapping[str, Entry] = {}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._look, args=(name,), daemon=True) for name in world.regions]
        self._threads.append(threading.Thread(target=self._ask, daemon=True))

    def __enter__(self) -> Self:
        """Begin to look."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more. Whoever waits for a database that has stopped is left behind."""
        self._over.set()
        for thread in self._threads:
            thread.join(_STALE_SECONDS)

    def _look(self, name: str) -> None:
        seen = self._seen[name]
        while not self._over.is_set():
            with suppress(psycopg.Error), ExitStack() as stack:
                connection = psycopg.connect(self._world.regions[name].database, connect_timeout=2, autocommit=True)
                stack.enter_context(connection)
                while not self._over.wait(_LOOK_SECONDS):
                    _note(seen, self._world.look(name, connection))
            seen.status = None
            self._over.wait(_LOOK_SECONDS)

    def _ask(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            with suppress(InterlockError):
                self._entries = {name: entry for name, (entry, _) in self._world.leases().items()}

    def view(self, name: str) -> View:
        """How a region is now."""
        seen, entry = self._seen[name], self._entries.get(name)
        status = seen.status if time.monotonic() - seen.at < _STALE_SECONDS else None
        state, style = self._state(status, entry)
        if status is None:
            return View(name, state, style)
        return View(
            name, state, style, f"{status.epoch:,}".replace(",", " "), ", ".join(sorted(status.guards)) or "none",
            ", ".join(f"{_bytes(behind)} ({peer})" for peer, behind in status.lag.items()),
            str(status.in_flight), f"{seen.rate:.0f}",
        )  # fmt: skip

    def _state(self, status: Status | None, entry: Entry | None) -> tuple[str, str]:
        taker = None if entry is None or entry.taker is None else self._world.name(entry.taker)
        if status is None:
            return ("no answer" if taker is None else f"lost, taken over by {taker}"), "red"
        if status.fenced or taker is not None:
            return f"back, takes in what {taker or 'its taker'} decided", "yellow"
        if not status.guards:
            return "alone", "yellow"
        return "guarded", "green"


def _note(seen: _Seen, status: Status) -> None:
    now = time.monotonic()
    if seen.status is not None:
        new = max(0, status.ended - seen.status.ended) / max(now - seen.at, 1e-6)
        seen.rate = 0.8 * seen.rate + 0.2 * new
    seen.status, seen.at = status, now


def _bytes(number: int) -> str:
    return f"{number} B" if number < 10_000 else f"{number / 1024:.0f} KB"


def console() -> Console:
    """Of the terminal's width, or for a log."""
    found = Console(markup=False, highlight=False)
    return found if found.is_terminal else Console(markup=False, highlight=False, width=_LOG_COLUMNS)


@dataclass
class Screen:
    """Shows the regions as they are, and what happens to them: live at a terminal, in lines elsewhere."""

    watch: Watch
    names: tuple[str, ...]
    console: Console = field(default_factory=console)

    def __post_init__(self) -> None:
        """The time counts from here."""
        self._began = time.monotonic()
        self._told: list[Text] = []
        self._over = threading.Event()
        self._live: Live | None = None
        self._thread = threading.Thread(target=self._lines, daemon=True)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        else:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What was told stays."""
        self._over.set()
        if self._live is not None:
            self._live.stop()
            for line in self._told:
                self.console.print(line)
        else:
            self._thread.join()

    def tell(self, said: str, style: str = "bold") -> None:
        """Something has happened."""
        line = Text(f"{time.monotonic() - self._began:6.1f} s  {said}", style=style)
        if self._live is None:
            self.console.print(line)
        else:
            self._told.append(line)

    def _lines(self) -> None:
        while not self._over.wait(_LINE_SECONDS):
            views = [self.watch.view(name) for name in self.names]
            shown = " | ".join(
                f"{view.name}: {view.state}, epoch {view.epoch}, guards {view.guards}, lag {view.lag}, "
                f"{view.in_flight} in flight, {view.rate}/s"
                for view in views
            )
            self.console.print(f"{time.monotonic() - self._began:6.1f} s  {shown}")

    def _render(self) -> Group:
        table = Table("region", "state", "epoch", "guards", "lag", "in flight", "ends/s", box=box.SIMPLE_HEAD)
        for view in (self.watch.view(name) for name in self.names):
            table.add_row(
                view.name, Text(view.state, style=view.style), view.epoch, view.guards, view.lag, view.in_flight,
                view.rate,
            )  # fmt: skip
        return Group(table, *self._told[-_TOLD:])
