"""Plays scenarios in one world, one after the other: each from whole to whole, and then the checker's word.

A fault lasts until what is to come of it has come (a takeover that is complete, a guard that is dropped, a lease
that is over), and a moment longer, in which payments go on coming in.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg

from chaos.desk import Desk
from chaos.faults import FAULTS, Fault
from chaos.grid import Scenario
from chaos.moments import MOMENTS
from chaos.processes import ServerFailed
from chaos.results import TAKEOVER_SECONDS, Result, Results
from chaos.stage import HOME, Stage
from chaos.world import NotSo, World
from checker import databases, log, report
from checker.evidence import Evidence, Kind
from checker.evidence import Fault as Broken
from checker.log import ClientLog
from interlock.demo.messages import Author, Message
from interlock.demo.postgres.processes import ClusterFailed
from interlock.errors import InterlockError

#: In these moments every guard may take over, so that a takeover must come where a fault asks for one.
_SURE = ("held", "intended", "migrated-there", "migrated-here")
#: The longest that a fault lasts; where nothing can come of it; and how long it goes on after something has.
_FAULT_SECONDS, _NOTHING_SECONDS, _ANYWAY_SECONDS = 7.0, 2.0, 0.4
_WHOLE_SECONDS, _END_SECONDS, _PATIENCE_SECONDS = 60.0, 25.0, 15.0
#: Of a call while things happen, and while payments are seen through.
_CALL_SECONDS, _PATIENT_CALL_SECONDS = 3.0, 20.0
_LOOK_SECONDS = 0.05
_SAID, _LOG_CHARS = 400, 100_000
_KNOCKS = ("the database system is", "Consistent recovery state has not")
_FAILURES = (
    NotSo, AssertionError, httpx.HTTPError, psycopg.Error, ServerFailed, ClusterFailed, InterlockError, OSError,
)  # fmt: skip


class Player:
    """Plays scenarios in one world."""

    def __init__(self, world: World, folder: Path, results: Results, judge: Executor) -> None:
        """folder: for the consumers' logs, one a scenario. judge: another process, for all links run in this one."""
        self._world = world
        self._judges = judge
        self._folder = folder
        self._results = results
        self._number = 0
        self._credentials = world.add_client("shop", "rp2/read", "rp2/write")
        self._author = Author(datetime.now(UTC), seed=random.getrandbits(32))

    def play(self, scenario: Scenario) -> Result:
        """One scenario; the world is whole after it if it has come to its end."""
        began, at, stuck, whole = time.monotonic(), time.time(), None, None
        said = {name: len(region.server.said()) for name, region in self._world.regions.items()}
        self._number += 1
        with ClientLog(self._folder / f"{self._number:04}.jsonl", self._credentials[0]) as lines:
            desk = Desk(self._world, self._credentials, lines, patience=_CALL_SECONDS)
            stage = Stage(self._world, desk, self._writer(scenario.fencing), scenario.consistency)
            try:
                whole = self._strike(stage, scenario)
                self._see_through(stage)
            except _FAILURES as exc:
                stuck = f"{type(exc).__name__}: {exc}"
                self._keep(scenario, said, stuck)
                with suppress(*_FAILURES):
                    self._world.mend()
                    self._world.await_whole(seconds=_WHOLE_SECONDS)
        try:
            found = self._judge()
        except psycopg.Error as exc:
            found, stuck = None, stuck or f"the databases cannot be read: {exc}"
        faults = () if found is None else found.faults
        told = [*map(str, faults), *self._crashes(said)]
        if told and stuck is None:
            self._keep(scenario, said, "\n".join(told))
        return Result(
            name=scenario.name, at=at, stuck=stuck, takeovers=stage.taken, whole_seconds=whole,
            payments=len(stage.known), lost=_number(faults, Kind.LOST), doubled=_number(faults, Kind.DOUBLED),
            faults=tuple(told), seconds=time.monotonic() - began, looked_at="" if found is None else found.looked_at,
        )  # fmt: skip

    def _writer(self, fencing: str) -> Callable[[bool], Message]:
        write = self._author.pacs008 if fencing == "strict" else self._author.pacs009
        lock = threading.Lock()

        def message(held: bool) -> Message:  # noqa: FBT001 - called by position in one place
            with lock:
                return write(self._author.transfer(amount="25000.00" if held else "100.00"))

        return message

    # -- it happens --

    def _strike(self, stage: Stage, scenario: Scenario) -> float:
        """Let it happen; how long the regions took to be whole after all was mended."""
        world, fault = self._world, FAULTS[scenario.fault]
        world.await_whole(seconds=_WHOLE_SECONDS)
        for region in world.regions:
            stage.desk.token(region)
        stage.before = {region: world.entry(region).generation for region in world.regions}
        MOMENTS[scenario.moment](stage)
        with stage.load():
            stage.struck = time.monotonic()
            fault.strike(stage)
            _await_consequence(stage, fault, sure=scenario.moment in _SURE)
            mended = time.monotonic()
            world.mend()
        for do in stage.afterwards:
            do()
        world.await_whole(seconds=_WHOLE_SECONDS)
        stage.look()
        return time.monotonic() - mended

    def _see_through(self, stage: Stage) -> None:
        """Accept what is held, drive again what was cancelled with its region, and see each end."""
        stage.desk.patience = _PATIENT_CALL_SECONDS
        waiting = list(stage.known)
        while waiting:
            id_ = waiting.pop()
            ended = _end(stage, id_)
            if ended.get("transaction_code") == "RCVR" and ended.get("redriven_as") is None:
                again = stage.desk.decide(HOME, id_, "redrive")
                assert again.status_code == 201, again.text
                waiting.append(again.json()["transaction_id"])

    # -- what came of it --

    def _judge(self) -> report.Report:
        """The checker's word, once the last rows have come from one region to another."""
        urls = {name: region.database for name, region in self._world.regions.items()}
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            found = self._judges.submit(_judged, urls, self._folder).result()
            if found.holds or time.monotonic() >= until:
                return found
            time.sleep(_LOOK_SECONDS)

    def _crashes(self, said: Mapping[str, int]) -> list[str]:
        """What no server may ever say."""
        return [
            f"crash: the server of region {name} said {_traceback(told)}"
            for name, region in self._world.regions.items()
            if "Traceback" in (told := region.server.said()[said[name] :])
        ]

    def _keep(self, scenario: Scenario, said: Mapping[str, int], why: str) -> None:
        """Everything that helps to find out: what servers and consumers wrote, and how the regions stand."""
        folder = self._results.evidence(scenario.name)
        (folder / "why.txt").write_text(why + "\n", encoding="utf-8")
        for name, region in self._world.regions.items():
            (folder / f"{name}.log").write_text(region.server.said()[said[name] :], encoding="utf-8")
            (folder / f"{name}.postgres.log").write_text(_tail(region.cluster.log), encoding="utf-8")
        calls = self._folder / f"{self._number:04}.jsonl"
        (folder / "calls.jsonl").write_text(calls.read_text(encoding="utf-8"), encoding="utf-8")


def _judged(urls: Mapping[str, str], folder: Path) -> report.Report:
    return report.judge(Evidence(databases=databases.read(urls), calls=log.calls(folder), now=time.time()))


def _await_consequence(stage: Stage, fault: Fault, *, sure: bool) -> None:
    """Wait for what is to come, and a moment longer. Raises NotSo where a takeover must come in time and does not."""
    promised = sure and fault.takes
    # Some faults take several seconds to strike, one after the other; what is promised counts from the first.
    until = stage.struck + TAKEOVER_SECONDS if promised else time.monotonic() + _FAULT_SECONDS
    while time.monotonic() < until:
        stage.look()
        came = fault.takes <= stage.taken.keys() if fault.takes else fault.comes(stage)
        if came or (fault.takes and not sure and _nothing_can_come(stage, fault)):
            break
        time.sleep(_LOOK_SECONDS)
    else:
        if promised:
            missing = ", ".join(sorted(fault.takes - stage.taken.keys()))
            raise NotSo(f"not within {TAKEOVER_SECONDS:g} s: {missing} is taken over, and all in flight is decided")
    time.sleep(_ANYWAY_SECONDS)


def _nothing_can_come(stage: Stage, fault: Fault) -> bool:
    """Nobody may take over what is lost, or somebody has long before."""
    if time.monotonic() - stage.struck < _NOTHING_SECONDS:
        return False
    with suppress(InterlockError, psycopg.Error):
        entries = [(stage.world.entry(region), stage.before[region]) for region in fault.takes]
        # One that was granted since is still to be complete.
        return all(
            not entry.members if entry.taker is None else entry.generation == before for entry, before in entries
        )
    return False


def _end(stage: Stage, id_: str) -> Mapping[str, object]:
    """A transaction once it has ended, decided on where that is wanted; asked for again while things are found."""
    found: dict[str, object] = {}

    def ended() -> bool:
        told = stage.desk.get(HOME, id_)
        if told.status_code == 200:
            found.update(told.json())
            if found.get("held") == "decision":
                stage.desk.decide(HOME, id_, "accept")
        return bool(found.get("final"))

    stage.world.until(ended, f"{id_} ends", seconds=_END_SECONDS)
    return found


def _number(faults: Sequence[Broken], kind: Kind) -> int:
    return len({fault.transaction or fault.sentence for fault in faults if fault.kind is kind})


def _traceback(told: str) -> str:
    """The last line of the first one, and where it began."""
    after = told[told.index("Traceback") :].splitlines()
    return next((line for line in after[1:] if line and not line.startswith((" ", "\t"))), after[0])[:_SAID]


def _tail(path: Path) -> str:
    """Without what a database that is starting says to everybody who knocks."""
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return "".join(line for line in lines if not any(knock in line for knock in _KNOCKS))[-_LOG_CHARS:]
