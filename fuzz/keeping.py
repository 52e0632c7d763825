"""Inputs that broke something, kept so that they can be looked at again."""

import re
from pathlib import Path
from typing import Final

from fuzz.broken import Broken
from fuzz.cases import Case

#: Below the folder of whatever is built; nothing of it is ever committed.
FOLDER: Final = Path("build/fuzz")
#: Of one promise so many are kept: the hundredth shows nothing that the others do not.
_EACH_MAX: Final = 3


class Kept:
    """A folder of inputs, each named by what it broke and by its case."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.counts: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Inputs that broke something."""
        return sum(self.counts.values())

    def count(self, promise: str) -> bool:
        """One more that broke it; whether it is to be kept."""
        count = self.counts[promise] = self.counts.get(promise, 0) + 1
        return count <= _EACH_MAX

    def keep(self, promise: str, case: Case) -> Path:
        """Write an input down. The name's last part is what the rest of the case is drawn from."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", promise)[:60]
        path = self._folder / f"{name}.{case.draw}{case.suffix}"
        path.write_bytes(case.content)
        return path


def promise_of(exc: BaseException) -> str:
    """What an exception breaks, in words that are the same wherever it comes from the same place."""
    if isinstance(exc, Broken):
        return exc.promise
    trace = exc.__traceback__
    place = ""
    while trace is not None:
        if "interlock" in trace.tb_frame.f_globals.get("__name__", ""):
            place = f" in {trace.tb_frame.f_globals['__name__']}.{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    return f"{type(exc).__name__}{place}"
