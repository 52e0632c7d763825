"""The loop: processes that go through cases, what is told of them, and what becomes of cases that broke something.

Two or more processes share the cases. Every eighth is looked at by all of them, and what they found must be the same:
each has met other cases before it, and orders its sets in another way.
"""

import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, NamedTuple

from fuzz import limits
from fuzz.cases import Case, cases
from fuzz.keeping import Kept
from fuzz.minimising import minimised
from fuzz.trying import Outcome, Trial, outcome_of

#: Cases that one process goes through: libxml2 keeps every name it meets for as long as its thread lives.
_CASES: Final = 3000
#: Of silence, after which a process is taken to hang. Wall time, on a machine that may have much else to do.
_SILENCE_SECONDS: Final = 120.0
_TELL_SECONDS: Final = 60.0
#: For one input that broke something.
_MINIMISE_SECONDS: Final = 20.0
_ELSEWHERE: Final = "verdict of another process"


class _Said(NamedTuple):
    """Of one case, by one process; no outcome: it begins."""

    number: int
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done."""

    seed: str
    seconds: float
    folder: Path
    jobs: int = 2
    #: Mistakes to look with, see `fuzz.plants`.
    plants: tuple[str, ...] = ()
    #: End once so many promises were broken.
    enough: int | None = None
    hang_seconds: int = limits.HANG_SECONDS
    minimise_seconds: float = _MINIMISE_SECONDS
    #: Each so manieth case is looked at by all processes.
    shared: int = 8


class Worker:
    """One process, and the next one when it has ended."""

    def __init__(self, plan: Plan, index: int) -> None:
        self._plan = plan
        self._index = index
        #: The case that it is at.
        self.number = 0
        self.heard_at = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        self.said: Connection = ours
        given = (theirs, self._plan, self._index, self.number)
        self._process: BaseProcess = context.Process(target=_go, args=given, daemon=True)
        self._folder = tempfile.TemporaryDirectory(prefix="interlock-fuzz-")
        with limits.environment(sets=self._index + 1, folder=self._folder.name):
            self._process.start()
        theirs.close()
        self.heard_at = time.monotonic()

    def hear(self) -> Iterator[_Said]:
        """What it says; where it has ended, how, and the next one begins."""
        try:
            said: _Said = self.said.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            number, self.number = self.number, self.number + (1 if code else 0)
            self.end()
            self._begin()
            if code:
                yield _Said(number, Outcome(limits.promise_of_end(code), "the process ended"))
            return
        self.heard_at = time.monotonic()
        self.number = said.number + (said.outcome is not None)
        if said.outcome is not None:
            yield said

    def end_if_silent(self) -> Iterator[_Said]:
        """Give it up where it has said nothing for too long."""
        if time.monotonic() - self.heard_at > _SILENCE_SECONDS:
            number, self.number = self.number, self.number + 1
            self.end()
            self._begin()
            yield _Said(number, Outcome("hang", f"nothing for {_SILENCE_SECONDS:.0f} s"))

    def end(self) -> None:
        """At once."""
        self._process.kill()
        self._process.join()
        self.said.close()
        self._folder.cleanup()


@dataclass
class Tally:
    """What was found so far."""

    plan: Plan
    kept: Kept
    trial: Trial
    counted: int = 0
    twice: int = 0
    _prints: dict[int, str] = field(default_factory=dict)

    def take(self, said: _Said) -> None:
        """Count a case; keep it where it broke something, as small as it can be had."""
        outcome, number = said.outcome, said.number
        assert outcome is not None  # only what is done with is taken
        first = self._prints.pop(number, None) if number % self.plan.shared == 0 else None
        if first is None:
            self.counted += 1
            if number % self.plan.shared == 0 and self.plan.jobs > 1:
                self._prints[number] = outcome.fingerprint or f"{outcome.promise}"
        else:
            self.twice += 1
            if first != (outcome.fingerprint or f"{outcome.promise}"):
                self._keep(number, Outcome(_ELSEWHERE, f"{first} and {outcome.fingerprint or outcome.promise}"))
        if outcome.promise is not None and (first is None or first == outcome.fingerprint):
            self._keep(number, outcome)

    def _keep(self, number: int, outcome: Outcome) -> None:
        promise = outcome.promise or ""
        if not self.kept.count(promise):
            return
        case = cases(self.plan.seed).case(number)
        small = self._minimised(case, promise)
        path = self.kept.keep(promise, small)
        size = f"{len(case.content)} bytes" + (f", {len(small.content)} now" if small != case else "")
        _say(f"{case.draw} {promise} ({size}): {outcome.detail[:300]!r}\n    again: python -m fuzz --replay {path}")

    def _minimised(self, case: Case, promise: str) -> Case:
        """The smallest case that breaks the same in another process; the case itself where none does."""

        def breaks(content: bytes) -> bool:
            return self.trial.of(replace(case, content=content)).promise == promise

        if promise == _ELSEWHERE or not breaks(case.content):
            return case
        return replace(case, content=minimised(case.content, breaks, seconds=self.plan.minimise_seconds))


def run(plan: Plan) -> Tally:
    """Cases until the time is over, or enough was broken."""
    began = told = time.monotonic()
    workers = [Worker(plan, index) for index in range(plan.jobs)]
    with Trial(plan.plants, plan.hang_seconds) as trial:
        tally = Tally(plan, Kept(plan.folder), trial)
        try:
            while time.monotonic() - began < plan.seconds and not _is_enough(tally):
                ready = wait([worker.said for worker in workers], timeout=1)
                for worker in workers:
                    for said in worker.hear() if worker.said in ready else worker.end_if_silent():
                        tally.take(said)
                        worker.heard_at = time.monotonic()
                if time.monotonic() - told > _TELL_SECONDS:
                    told = time.monotonic()
                    _say(f"{tally.counted} cases in {told - began:.0f} s, {tally.kept.total} broke something")
        finally:
            for worker in workers:
                worker.end()
    total = tally.kept.total
    outcome = "everything held" if not total else f"{total} BROKE something"
    took = time.monotonic() - began
    _say(f"fuzz: seed {plan.seed}, {tally.counted} cases in {took:.0f} s, {tally.twice} of them twice: {outcome}")
    for promise, count in sorted(tally.kept.counts.items()):
        _say(f"    {count:5}  {promise}")
    return tally


def _is_enough(tally: Tally) -> bool:
    return tally.plan.enough is not None and len(tally.kept.counts) >= tally.plan.enough


def replay(case: Case, *plants: str) -> int:
    """One case again, in two processes; 0 where everything held and both found the same."""
    with Trial(plants) as other:
        elsewhere = other.of(case)
    if elsewhere.promise is not None and elsewhere.promise.startswith(("hang", "death")):
        _say(f"fuzz: {elsewhere.promise}: {elsewhere.detail}")
        return 1
    limits.bound_memory()
    try:
        here = Outcome(None, fingerprint=case.check())
    except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
        traceback.print_exc()
        return 1
    if here != elsewhere:
        _say(f"fuzz: {elsewhere.promise or _ELSEWHERE}: {elsewhere.detail or 'not the same'}")
        return 1
    _say("fuzz: everything held")
    return 0


def _go(say: Connection, plan: Plan, index: int, first: int) -> None:
    """Go through this process's cases; each is named before it is looked at."""
    from fuzz.plants import plant

    plant(*plan.plants)
    limits.bound_memory()
    drawn, done, number = cases(plan.seed), 0, first
    while done < _CASES:
        if number % plan.jobs == index or number % plan.shared == 0:
            say.send(_Said(number, None))
            limits.bound_time(plan.hang_seconds)
            say.send(_Said(number, outcome_of(drawn.case(number))))
            done += 1
        number += 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
