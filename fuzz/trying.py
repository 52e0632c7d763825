"""Single cases in a process of their own, which may die of them."""

import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, NamedTuple, Self

from fuzz import limits
from fuzz.cases import Case
from fuzz.keeping import promise_of

#: Wall time, on a machine that may have much else to do; CPU time is bounded by the kernel.
_SILENCE_SECONDS: Final = 120.0
#: No worker orders its sets by this number.
_SETS: Final = 1000


class Outcome(NamedTuple):
    """What came of a case."""

    #: What it broke; None: everything held.
    promise: str | None
    detail: str = ""
    #: Of all that was found, the same wherever and whenever it is looked at.
    fingerprint: str = ""


def outcome_of(case: Case) -> Outcome:
    """Look at a case in this process, which it may end."""
    try:
        return Outcome(None, fingerprint=case.check())
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is what is looked for
        return Outcome(promise_of(exc), str(exc)[:500])


class Trial:
    """A process that looks at cases one after the other, and is replaced when it ends by one."""

    def __init__(
        self, plants: tuple[str, ...] = (), hang_seconds: int = limits.HANG_SECONDS, *, sets: int = _SETS
    ) -> None:
        """plants: mistakes to look with, see `fuzz.plants`. sets: the number by which it orders them."""
        self._context = multiprocessing.get_context("spawn")
        self._given = (plants, hang_seconds)
        self._sets = sets
        self._is_begun = False

    def _begin(self) -> None:
        self._is_begun = True
        self._ours, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs, *self._given), daemon=True)
        self._folder = tempfile.TemporaryDirectory(prefix="interlock-fuzz-")
        with limits.environment(sets=self._sets, folder=self._folder.name):
            self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The end of the process."""
        if self._is_begun:
            self._end()

    def _end(self) -> None:
        self._is_begun = False
        self._process.kill()
        self._process.join()
        self._ours.close()
        self._folder.cleanup()

    def of(self, case: Case) -> Outcome:
        """What comes of a case; where the process ends by it, that."""
        if not self._is_begun:
            self._begin()
        try:
            self._ours.send(case)
            if self._ours.poll(_SILENCE_SECONDS):
                found: Outcome = self._ours.recv()
                return found
            outcome = Outcome("hang", f"nothing for {_SILENCE_SECONDS:.0f} s")
        except (EOFError, OSError):
            self._process.join()
            outcome = Outcome(limits.promise_of_end(self._process.exitcode), "the process ended")
        self._end()
        return outcome


def _serve(asked: Connection, plants: tuple[str, ...], hang_seconds: int) -> None:
    from fuzz.plants import plant

    plant(*plants)
    limits.bound_memory()
    while True:
        try:
            case: Case = asked.recv()
        except EOFError:
            return
        limits.bound_time(hang_seconds)
        asked.send(outcome_of(case))
