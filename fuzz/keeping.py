"""Inputs that broke something, kept so that they can be looked at again."""

import re
from pathlib import Path
from typing import Final

from fuzz.broken import Broken

#: Below the folder of whatever is built; nothing of it is ever committed.
FOLDER: Final = Path("build/fuzz")
#: Of one promise so many are kept: the hundredth shows nothing that the others do not.
_EACH_MAX: Final = 5


class Kept:
    """A folder of inputs, each named by what it broke and by its case."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._counts: dict[str, int] = {}

    @property
    def counts(self) -> dict[str, int]:
        """How many inputs broke each promise."""
        return dict(self._counts)

    def keep(self, promise: str, case: str, suffix: str, content: bytes) -> Path | None:
        """Write an input down; None where there are enough of the kind."""
        count = self._counts[promise] = self._counts.get(promise, 0) + 1
        if count > _EACH_MAX:
            return None
        name = re.sub(r"[^A-Za-z0-9.]+", "-", promise)[:60]
        path = self._folder / f"{name}.{case}{suffix}"
        path.write_bytes(content)
        return path


def promise_of(exc: BaseException) -> str:
    """What an exception breaks, in words that are the same wherever it comes from the same place."""
    if isinstance(exc, Broken):
        return exc.promise
    trace = exc.__traceback__
    place = ""
    while trace is not None:
        if "interlock" in trace.tb_frame.f_code.co_filename:
            place = f" in {Path(trace.tb_frame.f_code.co_filename).stem}.{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    return f"{type(exc).__name__}{place}"
