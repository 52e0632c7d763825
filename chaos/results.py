"""What came of scenarios, one line of JSON each, on disk before the next one begins: an interruption loses nothing."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from checker.log import Lines

FOLDER = Path(__file__).with_name("results")
#: Promised, from the loss of a region to the last decision, in seconds.
TAKEOVER_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a scenario."""

    name: str
    #: Seconds since 1970.
    at: float
    #: By region that was lost: seconds from its loss until everything in flight was decided.
    takeovers: Mapping[str, float]
    #: Messages that were taken, and followed to their end.
    payments: int
    lost: int
    doubled: int
    faults: Sequence[str]
    seconds: float
    #: Of everything, as it was judged.
    looked_at: str = ""
    #: Why it did not come to its end; None: it did.
    stuck: str | None = None
    #: From the beginning of the mending until every region was whole again.
    whole_seconds: float | None = None

    @property
    def holds(self) -> bool:
        """Whether all promises were kept."""
        return self.stuck is None and not self.faults

    @property
    def is_lease(self) -> bool:
        """Whether clocks were trusted: of that the docs say what it may cost."""
        return self.name.endswith("/lease")


@dataclass(frozen=True)
class Results:
    """A folder of them."""

    folder: Path = field(default=FOLDER)

    @property
    def file(self) -> Path:
        """A line a scenario; the last one of a name counts."""
        return self.folder / "scenarios.jsonl"

    def add(self, result: Result) -> None:
        """Keep it."""
        with Lines(self.file) as lines:
            lines.write({"holds": result.holds, **asdict(result)})

    def begin(self) -> None:
        """Forget what there is."""
        self.file.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "evidence", ignore_errors=True)

    def read(self) -> Mapping[str, Result]:
        """By name."""
        if not self.file.exists():
            return {}
        told = [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]
        return {line["name"]: _result(line) for line in told}

    def evidence(self, name: str) -> Path:
        """A folder for what shows how a scenario came to fail."""
        folder = self.folder / "evidence" / name.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _result(line: Mapping[str, Any]) -> Result:
    return Result(**{name: value for name, value in line.items() if name != "holds"})
