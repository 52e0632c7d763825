"""Findings as they are shown: the first ones, each once for a place that payments share, and the number of all."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from interlock.iso20022.findings import Finding, Severity


class Gathered(NamedTuple):
    """A finding, and how often it came for the same place: once for each payment that the place is part of."""

    finding: Finding
    times: int


#: What makes two findings of payments one for whoever mends the file; any other stands for itself.
_Same = tuple[str, str, str | int]


@dataclass(slots=True)
class Findings:
    """The first findings, in the order in which they came, and the number of all."""

    most: int = sys.maxsize
    errors: int = 0
    warnings: int = 0
    #: Number in the file, finding and times of those that are kept.
    _errors: dict[_Same, tuple[int, Finding, int]] = field(default_factory=dict)
    _warnings: dict[_Same, tuple[int, Finding, int]] = field(default_factory=dict)

    def add(self, findings: Iterable[Finding]) -> None:
        """Count them, and keep what there is room for."""
        for finding in findings:
            self._add(finding, 1)

    def join(self, others: "Findings") -> None:
        """Add those of another, which come after these."""
        first = others.first()
        for finding, times in first:
            self._add(finding, times)
        shown = [one.times for one in first if one.finding.severity is Severity.ERROR]
        self.errors += others.errors - sum(shown)
        self.warnings += others.warnings - sum(one.times for one in first) + sum(shown)

    def _add(self, finding: Finding, times: int) -> None:
        number = self.errors + self.warnings
        is_error = finding.severity is Severity.ERROR
        if is_error:
            self.errors += times
        else:
            self.warnings += times
        kept = self._errors if is_error else self._warnings
        same = finding.rule, finding.xpath, number if finding.payment is None else finding.text
        if (before := kept.get(same)) is not None:
            kept[same] = (before[0], before[1], before[2] + times)
        elif len(kept) < self.most:
            kept[same] = (number, finding, times)

    def first(self) -> tuple[Gathered, ...]:
        """Those to be shown: warnings only as far as errors leave room."""
        room = self.most - len(self._errors)
        shown = sorted([*self._errors.values(), *list(self._warnings.values())[:room]], key=lambda one: one[0])
        return tuple(Gathered(finding, times) for _, finding, times in shown)

    @property
    def more(self) -> int:
        """How many there are beside those."""
        return self.errors + self.warnings - sum(one.times for one in self.first())
