"""A grid of real faults: what fails, when in a payment's life, how consistent the call, how fenced the route.

    python -m chaos.run                          # all of it, in sequence: more than an hour
    python -m chaos.run --only kill-region       # those whose name has that in it
    python -m chaos.run --list

Each scenario strikes in a world that is whole, lets the regions do what they do, mends everything, waits until they are
whole again, sees every payment through, and asks the checker. Results go to `chaos/results/` as JSON. Exit code 0 only
if every scenario came to its end and no `strict` one shows a fault; for `lease` the docs say what it may show.
"""

import argparse
import json
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import NamedTuple

import httpx

from chaos.desk import Desk
from chaos.watching import console
from chaos.world import WITNESS, NotSo, World
from checker import databases, log, report
from checker.evidence import Evidence, Fault, Kind
from checker.log import ClientLog
from interlock.demo.messages import Author, Message

HOME, PEER = "east", "west"
ROUTES = """
[routes.lease]
messages = ["pacs.009.*"]
fencing = "lease"
decision_above = { EUR = 10000 }
sla_seconds = 600
[routes.default]
decision_above = { EUR = 10000 }
sla_seconds = 600
"""
_LEASE_SECONDS = 2.0
#: How long a fault lasts, unless a takeover is complete before.
_FAULT_SECONDS = 6.0
_WHOLE_SECONDS, _PATIENCE_SECONDS, _CALL_SECONDS = 60.0, 20.0, 3.0
_HELD = 3
_ANYWAY = 0.1
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RESULTS = Path(__file__).with_name("results")


# -- what the grid is made of -----------------------------------------------------------------------------------------


def _cut_all(world: World) -> None:
    world.links.cut(HOME, PEER)
    world.links.cut(HOME, WITNESS)


def _cut_witness_and(sender: str, receiver: str) -> Callable[[World], None]:
    def strike(world: World) -> None:
        world.links.cut(HOME, WITNESS)
        world.links.cut(sender, receiver, both=False)

    return strike


#: By name: what is done to the home or its peer. `World.mend` undoes all of it.
FAULTS: Mapping[str, Callable[[World], None]] = {
    "kill-region": lambda world: world.lose(HOME),
    "kill-server": lambda world: world.regions[HOME].server.kill(),
    "kill-database": lambda world: world.regions[HOME].cluster.kill(),
    "pause-server": lambda world: world.regions[HOME].server.pause(),
    "pause-database": lambda world: world.regions[HOME].cluster.pause(),
    "kill-peer": lambda world: world.lose(PEER),
    "kill-peers-server": lambda world: world.regions[PEER].server.kill(),
    "pause-peers-server": lambda world: world.regions[PEER].server.pause(),
    "pause-peers-database": lambda world: world.regions[PEER].cluster.pause(),
    "cut-peer": lambda world: world.links.cut(HOME, PEER),
    "cut-peer-there": lambda world: world.links.cut(HOME, PEER, both=False),
    "cut-peer-back": lambda world: world.links.cut(PEER, HOME, both=False),
    "cut-witness": lambda world: world.links.cut(HOME, WITNESS),
    "cut-peers-witness": lambda world: world.links.cut(PEER, WITNESS),
    "cut-all": _cut_all,
    "cut-witness-and-there": _cut_witness_and(HOME, PEER),
    "cut-witness-and-back": _cut_witness_and(PEER, HOME),
    "pause-witness": lambda world: world.pause_witness(),
}


@dataclass
class Stage:
    """What a scenario has in hand while it plays."""

    world: World
    desk: Desk
    write: Callable[[bool], Message]
    consistency: str
    #: Transactions that were taken, in order.
    known: dict[str, None] = field(default_factory=dict)
    #: Lost region and seconds from the strike until everything in flight was decided.
    taken: dict[str, float] = field(default_factory=dict)

    def send(self, region: str, *, held: bool = False) -> None:
        """A payment, whatever comes of it; held: for a decision."""
        with suppress(httpx.HTTPError, AssertionError):
            told = self.desk.submit(region, self.write(held), consistency=self.consistency)
            if told.status_code in (200, 202):
                self.known[told.json()["transaction_id"]] = None
            elif told.json().get("code") == "not_replicated":
                # Stored all the same, and to be asked for by its id.
                self.known.update(dict.fromkeys(_ID.findall(told.json()["detail"])))

    @contextmanager
    def load(self) -> Iterator[None]:
        """Payments in both regions all the while."""
        over = threading.Event()

        def go_on(region: str) -> None:
            while not over.wait(_ANYWAY):
                self.send(region)

        threads = [threading.Thread(target=go_on, args=(region,)) for region in (HOME, PEER)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


def _held(stage: Stage) -> None:
    """Payments wait for a decision, and the peer knows them."""
    for _ in range(_HELD):
        stage.send(HOME, held=True)


def _intended(stage: Stage) -> None:
    """Ends are intended and known over there, and that they are is not known at home."""
    stage.world.links.cut(HOME, WITNESS)
    stage.world.links.cut(PEER, HOME, both=False)
    for number in range(_HELD):
        stage.send(HOME, held=number == 0)


def _unseen(stage: Stage) -> None:
    """What the home has taken has not come to the peer."""
    stage.world.links.cut(HOME, PEER)
    for number in range(_HELD):
        stage.send(HOME, held=number == 0)


def _returning(stage: Stage) -> None:
    """The home was lost and taken over, and is just being started again."""
    _held(stage)
    stage.world.lose(HOME)
    stage.world.until(lambda: stage.world.is_decided(HOME), "the first takeover is complete", seconds=_WHOLE_SECONDS)
    stage.world.bring_back(HOME)


def _admitting(stage: Stage) -> None:
    """The peer has been cut off, and is about to be a guard again."""
    stage.world.links.cut(HOME, PEER)
    stage.send(HOME)
    stage.world.until(lambda: not stage.world.entry(HOME).members, "the guard is dropped")
    _held(stage)
    stage.world.links.heal(HOME, PEER)
    stage.world.until(lambda: stage.world.status(HOME).guards, "the guard is taken in")


#: By name: what is so when the fault strikes.
MOMENTS: Mapping[str, Callable[[Stage], None]] = {
    "held": _held,
    "intended": _intended,
    "unseen": _unseen,
    "returning": _returning,
    "admitting": _admitting,
}
_CONSISTENCIES = ("available", "consistent")
_FENCINGS = ("strict", "lease")


class Scenario(NamedTuple):
    """A cell of the grid."""

    fault: str
    moment: str
    consistency: str
    fencing: str

    @property
    def name(self) -> str:
        """As `--only` looks for it."""
        return "/".join(self)


def scenarios(only: str = "") -> Sequence[Scenario]:
    """All whose name has that in it."""
    grid = (Scenario(*cell) for cell in product(FAULTS, MOMENTS, _CONSISTENCIES, _FENCINGS))
    return [scenario for scenario in grid if only in scenario.name]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a scenario."""

    name: str
    #: Why it did not come to its end; None: it did.
    stuck: str | None
    #: By region that was lost: seconds from the strike until everything in flight was decided.
    takeovers: Mapping[str, float]
    #: From the mending until every region was whole again.
    whole_seconds: float | None
    payments: int
    lost: int
    doubled: int
    faults: Sequence[str]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether all promises were kept."""
        return self.stuck is None and not self.faults


# -- playing ----------------------------------------------------------------------------------------------------------


class Player:
    """Plays scenarios in one world, one after the other."""

    def __init__(self, world: World, folder: Path) -> None:
        """folder: for the consumers' logs, one a scenario."""
        self._world = world
        self._folder = folder
        self._credentials = world.add_client("shop", "rp2/read", "rp2/write")
        self._author = Author(datetime.now(UTC), seed=random.getrandbits(32))
        #: Faults that an earlier scenario has left in the databases are its own.
        self._known_faults: set[Fault] = set()

    def play(self, number: int, scenario: Scenario) -> Result:
        """One scenario, from whole to whole."""
        began = time.monotonic()
        with ClientLog(self._folder / f"{number:04}.jsonl", self._credentials[0]) as lines:
            desk = Desk(self._world, self._credentials, lines, patience=_CALL_SECONDS)
            stage = Stage(self._world, desk, self._writer(scenario.fencing), scenario.consistency)
            stuck, whole = None, None
            try:
                whole = self._strike(stage, scenario)
                self._see_through(stage)
            except (NotSo, AssertionError, httpx.HTTPError) as exc:
                stuck = f"{type(exc).__name__}: {exc}"
                self._world.mend()
        faults = self._judge()
        return Result(
            name=scenario.name, stuck=stuck, takeovers=stage.taken, whole_seconds=whole, payments=len(stage.known),
            lost=_number(faults, Kind.LOST), doubled=_number(faults, Kind.DOUBLED),
            faults=tuple(map(str, faults)), seconds=time.monotonic() - began,
        )  # fmt: skip

    def _writer(self, fencing: str) -> Callable[[bool], Message]:
        write = self._author.pacs008 if fencing == "strict" else self._author.pacs009
        lock = threading.Lock()

        def message(held: bool) -> Message:  # noqa: FBT001 - called by position in one place
            with lock:
                return write(self._author.transfer(amount="25000.00" if held else "100.00"))

        return message

    def _strike(self, stage: Stage, scenario: Scenario) -> float:
        """Let it happen; how long the regions took to be whole after all was mended."""
        world = self._world
        world.await_whole(seconds=_WHOLE_SECONDS)
        for region in (HOME, PEER):
            stage.desk.token(region)
        MOMENTS[scenario.moment](stage)
        before = {region: world.entry(region).generation for region in world.regions}
        struck = time.monotonic()
        with stage.load():
            FAULTS[scenario.fault](world)
            while time.monotonic() - struck < _FAULT_SECONDS and not stage.taken:
                for region in (HOME, PEER):
                    with suppress(Exception):
                        if world.entry(region).generation > before[region] and world.is_decided(region):
                            stage.taken[region] = time.monotonic() - struck
                time.sleep(_ANYWAY)
        world.mend()
        return world.await_whole(seconds=_WHOLE_SECONDS)

    def _see_through(self, stage: Stage) -> None:
        """Accept what is held, drive again what was cancelled with its region, and see each end."""
        stage.desk.patience = _PATIENCE_SECONDS
        waiting = list(stage.known)
        while waiting:
            id_ = waiting.pop()
            found = stage.desk.get(HOME, id_).json()
            if found.get("held") == "decision":
                stage.desk.decide(HOME, id_, "accept")
            ended = stage.desk.end(HOME, id_)
            if ended.get("transaction_code") == "RCVR" and ended.get("redriven_as") is None:
                again = stage.desk.decide(HOME, id_, "redrive")
                assert again.status_code == 201, again.text
                waiting.append(again.json()["transaction_id"])

    def _judge(self) -> Sequence[Fault]:
        """Whatever is new since the last scenario, once the last rows have come."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            urls = {name: region.database for name, region in self._world.regions.items()}
            found = report.judge(
                Evidence(databases=databases.read(urls), calls=log.calls(self._folder), now=time.time())
            )
            new = [fault for fault in found.faults if fault not in self._known_faults]
            if not new or time.monotonic() >= until:
                self._known_faults.update(new)
                return new
            time.sleep(_ANYWAY)


def _number(faults: Sequence[Fault], kind: Kind) -> int:
    return len({fault.transaction or fault.sentence for fault in faults if fault.kind is kind})


# -- telling ----------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, write, tell; the exit code."""
    parser = argparse.ArgumentParser(prog="chaos.run", description="Real faults in real regions, a grid of them.")
    parser.add_argument("--only", default="", metavar="TEXT", help="scenarios whose name has that in it")
    parser.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn")
    parser.add_argument("--seed", type=int, default=0, help="for the drawing")
    parser.add_argument("--list", action="store_true", help="their names, and nothing else")
    asked = parser.parse_args(arguments)
    chosen = list(scenarios(asked.only))
    if asked.sample is not None:
        chosen = random.Random(asked.seed).sample(chosen, min(asked.sample, len(chosen)))
    if asked.list:
        sys.stdout.writelines(f"{scenario.name}\n" for scenario in chosen)
        return 0
    if not chosen:
        parser.error(f"no scenario has {asked.only!r} in its name")
    return _play(chosen)


def _play(chosen: Sequence[Scenario]) -> int:
    out = console()
    results: list[Result] = []
    target = _RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    with (
        tempfile.TemporaryDirectory(prefix="interlock-chaos-") as folder,
        World((HOME, PEER), routes=ROUTES, settings="replicated_within_seconds = 1", lease_seconds=_LEASE_SECONDS,
              durable=False, folder=Path(folder) / "world") as world,
    ):  # fmt: skip
        player = Player(world, Path(folder) / "logs")
        for number, scenario in enumerate(chosen, 1):
            result = player.play(number, scenario)
            results.append(result)
            _write(target, results)
            style = None if result.holds else "red"
            out.print(f"{number}/{len(chosen)} {result.name}: {_in_short(result)}", style=style)
            for said in (result.stuck, *result.faults):
                if said:
                    out.print(f"    {said[:1_000]}", style=style)
    out.print(f"results: {target}")
    out.print(_verdict(results))
    return 0 if all(result.holds or (_is_lease(result) and result.stuck is None) for result in results) else 1


def _in_short(result: Result) -> str:
    taken = ", ".join(f"{region} taken over in {seconds:.1f} s" for region, seconds in result.takeovers.items())
    whole = "never whole" if result.whole_seconds is None else f"whole {result.whole_seconds:.1f} s after"
    return (
        f"{result.payments} payments, {taken or 'no takeover'}, {whole}, {result.lost} lost, {result.doubled} doubled"
    )


def _verdict(results: Sequence[Result]) -> str:
    takeovers = sorted(seconds for result in results for seconds in result.takeovers.values())
    times = f"{len(takeovers)} takeovers, the longest {takeovers[-1]:.1f} s" if takeovers else "no takeover"
    strict = [result for result in results if not _is_lease(result)]
    lease = [result for result in results if _is_lease(result)]
    return (
        f"chaos: {len(results)} scenarios, {times}; strict: {_sums(strict)}; lease: {_sums(lease)}; "
        f"{sum(result.stuck is not None for result in results)} stuck"
    )


def _sums(results: Sequence[Result]) -> str:
    lost, doubled = sum(result.lost for result in results), sum(result.doubled for result in results)
    others = sum(len(result.faults) for result in results) - lost - doubled
    return f"{lost} lost, {doubled} doubled, {max(0, others)} other faults in {len(results)}"


def _is_lease(result: Result) -> bool:
    return result.name.endswith("/lease")


def _write(target: Path, results: Sequence[Result]) -> None:
    target.parent.mkdir(exist_ok=True)
    document = {"verdict": _verdict(results), "scenarios": [{"holds": r.holds, **asdict(r)} for r in results]}
    target.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
