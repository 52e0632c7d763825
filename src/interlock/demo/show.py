"""Holds the demo and shows it: progress, a table, and one line that says how it went."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from interlock.demo.desk import Desk
from interlock.demo.judging import differences, expected_in_short, got_in_short
from interlock.demo.messages import Author
from interlock.demo.scenario import ALPHA, BETA, SLOW, Case, cases
from interlock.demo.server import DemoFailed, Place, data_of, database, register, serve_command, serving
from interlock.demo.ways import Desks, play

#: Logs have no width: a row stays on one line.
_LOG_COLUMNS = 2000
#: In a log, one line of progress for so many cases.
_LOG_EVERY = 20


class Result(NamedTuple):
    """A case and what came of it."""

    case: Case
    got: str
    #: Empty if it is as expected.
    differences: list[str]


def run(folder: Path | None = None, *, store: str = "sqlite", keep: bool = False) -> bool:
    """Hold the demo; true if everything came as expected.

    folder: must be empty, or not there yet; by default a new one for temporary files. store: `sqlite`, or `postgres`: a
    PostgreSQL of its own with two servers, one for each client. keep: all of it stays up.
    """
    out = _console()
    began = time.monotonic()
    folder = _fresh(folder)
    out.print(f"Starting Interlock on a free port, data in {data_of(folder)}")
    with ExitStack() as stack:
        shared = stack.enter_context(database(store, keep=keep))
        place = second = stack.enter_context(serving(folder, keep=keep, over=shared))
        pids = [place.pid]
        if shared is not None:
            second = stack.enter_context(serving(folder, keep=keep, over=shared, name="second"))
            pids += [second.pid, shared.pid]
            out.print(f"A second process, on {second.url}, shares a PostgreSQL with it: beta calls there")
        clients = register(folder)
        places = {ALPHA: place, BETA: second}
        desks = {name: _desk(stack, places[name], *credentials) for name, credentials in clients.items()}
        out.print(f"It listens on {place.url}; clients: " + ", ".join(f"{n} ({c[0]})" for n, c in clients.items()))
        results = list(_play_all(out, cases(Author(datetime.now(UTC))), desks))  # noqa: TID251 - the messages' own time
    _print_table(out, results)
    _print_epilogue(out, place, clients, pids, keep=keep)
    good = sum(not result.differences for result in results)
    out.print(f"{len(results)} cases in {time.monotonic() - began:.1f} seconds")
    out.print(f"demo: {good} of {len(results)} as expected")
    return good == len(results)


def _console() -> Console:
    console = Console(markup=False, highlight=False)
    return console if console.is_terminal else Console(markup=False, highlight=False, width=_LOG_COLUMNS)


def _fresh(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="interlock-demo-"))
    if folder.exists() and any(folder.iterdir()):
        raise DemoFailed(f"{folder} is not empty; the demo needs a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def _desk(stack: ExitStack, place: Place, client_id: str, client_secret: str) -> Desk:
    desk = Desk(place.url, client_id, client_secret)
    stack.callback(desk.close)
    return desk


def _play_all(out: Console, played: Sequence[Case], desks: Desks) -> Iterator[Result]:
    """In order, but for those that end by the clock: they begin at once, and run beside the others."""
    with ThreadPoolExecutor() as pool:
        slow = {number: pool.submit(_play, case, desks) for number, case in enumerate(played, 1) if case.how in SLOW}
        for number, case in enumerate(_progress(out, played), start=1):
            yield slow[number].result() if number in slow else _play(case, desks)
            if not out.is_terminal and (number % _LOG_EVERY == 0 or number == len(played)):
                out.print(f"sent {number} of {len(played)}")


def _play(case: Case, desks: Desks) -> Result:
    """One case; what breaks it off is its own failure and nobody else's."""
    try:
        got = play(case, desks)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the others must be played too
        return Result(case, type(exc).__name__, [f"it broke off: {exc}"])
    return Result(case, got_in_short(got), differences(case, got))


def _progress(out: Console, played: Sequence[Case]) -> Sequence[Case] | Iterator[Case]:
    """A bar at a terminal; a log gets lines instead."""
    return iter(track(played, "Sending", console=out, transient=True)) if out.is_terminal else played


def _print_table(out: Console, results: Sequence[Result]) -> None:
    table = Table("", "sent", "over", "by", "expected", "got", "", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, (case, got, wrong) in enumerate(results, start=1):
        style = "red" if wrong else None
        verdict = "NO" if wrong else "ok"
        table.add_row(
            str(number), case.what, case.face, case.client, expected_in_short(case.expected), got, verdict, style=style
        )
    out.print(table)
    for number, result in enumerate(results, start=1):
        for difference in result.differences:
            out.print(f"{number}: {result.case.what} over {result.case.face}: {difference}", style="red")


def _print_epilogue(
    out: Console, place: Place, clients: dict[str, tuple[str, str]], pids: Sequence[int], *, keep: bool
) -> None:
    """pids: of the server, and of whatever shares a PostgreSQL with it, whose data goes with it."""
    lasting = len(pids) == 1
    if lasting:
        out.print(f"The data is in {place.data}", soft_wrap=True)
    if not keep:
        if lasting:
            out.print(f"To serve it again: {serve_command(place.folder)}", soft_wrap=True)
        return
    client_id, client_secret = clients[ALPHA]
    stop = " ".join(str(pid) for pid in pids)
    out.print(f"The server is up on {place.url}; to stop it: kill {stop}", soft_wrap=True)
    out.print("To look around:", soft_wrap=True)
    out.print(f"  export INTERLOCK_URL={place.url}", soft_wrap=True)
    out.print(f"  export INTERLOCK_CLIENT_ID={client_id} INTERLOCK_CLIENT_SECRET={client_secret}", soft_wrap=True)
    out.print("  interlock status", soft_wrap=True)
    if lasting:
        out.print(f"To serve it again later: {serve_command(place.folder)}", soft_wrap=True)
