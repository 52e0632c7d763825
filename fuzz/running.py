"""The loop: processes that go through cases, one after the other, and what is told of them."""

import multiprocessing
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

from fuzz.keeping import Kept, promise_of

#: Cases that one process goes through: libxml2 keeps every name it meets for as long as its thread lives.
_CASES: Final = 3000
#: Of silence, after which a process is taken to hang. Wall time, on a machine that may have much else to do.
_HANG_SECONDS: Final = 120.0
_TELL_SECONDS: Final = 60.0


class _Failed(NamedTuple):
    """What a process says of a case in which something did not hold."""

    number: int
    promise: str
    detail: str


def run(seed: str, seconds: float, folder: Path) -> int:
    """Cases until the time is over; 0 where all held."""
    began = told = time.monotonic()
    kept, number = Kept(folder), 0
    while time.monotonic() - began < seconds:
        for said in _process(seed, number, began + seconds):
            if isinstance(said, _Failed):
                _keep(kept, seed, said)
                number = said.number + 1
            else:
                number = said + 1
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                _say(f"{number} cases in {told - began:.0f} s, {sum(kept.counts.values())} broke something")
    total = sum(kept.counts.values())
    outcome = "everything held" if not total else f"{total} BROKE something"
    _say(f"fuzz: seed {seed}, {number} cases in {time.monotonic() - began:.0f} s: {outcome}")
    for promise, count in sorted(kept.counts.items()):
        _say(f"    {count:5}  {promise}")
    return 1 if total else 0


def replay(case: Any) -> int:
    """One case again; 0 where everything held."""
    try:
        case.check()
    except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
        traceback.print_exc()
        return 1
    _say("fuzz: everything held")
    return 0


def _process(seed: str, first: int, until: float) -> Any:
    """What a process says: the number of each case as it begins, and what failed. It ends after some, or by failing."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_go, args=(theirs, seed, first), daemon=True)
    process.start()
    theirs.close()
    number = first - 1
    try:
        while time.monotonic() < until:
            if not ours.poll(_HANG_SECONDS):
                yield _Failed(number, "hang", f"nothing for {_HANG_SECONDS:.0f} s")
                return
            said = ours.recv()
            number = said.number if isinstance(said, _Failed) else said
            yield said
    except EOFError:
        process.join()
        if process.exitcode:
            signal_name = signal.Signals(-process.exitcode).name if process.exitcode < 0 else str(process.exitcode)
            yield _Failed(max(number, first), "death", f"the process ended: {signal_name}")
    finally:
        process.kill()
        process.join()
        ours.close()


def _go(say: Connection, seed: str, first: int) -> None:
    """Go through some cases; the number of each is said before it is looked at."""
    from fuzz.cases import cases

    drawn = cases(seed)
    for number in range(first, first + _CASES):
        say.send(number)
        try:
            drawn.case(number).check()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is what is looked for
            say.send(_Failed(number, promise_of(exc), str(exc)[:500]))


def _keep(kept: Kept, seed: str, failed: _Failed) -> None:
    from fuzz.cases import cases

    case = cases(seed).case(failed.number)
    path = kept.keep(failed.promise, f"{seed}-{failed.number}", case.suffix, case.content)
    if path is not None:
        _say(f"{seed}:{failed.number} {failed.promise}: {failed.detail[:300]!r}, kept in {path}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
