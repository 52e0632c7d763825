"""A world: regions, the witness, clients and a network, made by a seed, gone through, and judged.

Chance comes from one source and time from one queue, so one seed is one history, step for step.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from interlock.apart import INTENTS
from interlock.errors import IllegalTransition
from interlock.lifecycle import State
from interlock.regions.rules import CHANGES, Entry, OnTakeover, Post
from interlock.routes import DecisionRule, Route
from interlock.stages.facts import Inspection
from interlock.transaction import Change, Transaction
from simulation import clients, faults, keeper, messages, replication, taker, worker
from simulation.database import Database
from simulation.network import Network
from simulation.plants import Plants
from simulation.promises import Broken, Promises, name
from simulation.region import Region
from simulation.schedule import Process, Schedule
from simulation.witness import Witness

#: How long things go wrong, and how long it may take until all is well again; simulated seconds.
FAULTY_SECONDS = 12.0
HEALING_SECONDS = 60.0
#: Server, two workers, two keepers, two takers.
ROLES = ("s", "w1", "w2", "k1", "k2", "t1", "t2")


class Way(NamedTuple):
    """A route, and what becomes of its transactions at a takeover."""

    route: Route
    on_takeover: str


_SLA, _DECIDE = timedelta(seconds=4), timedelta(seconds=6)
_WAYS = {
    way.route.name: way
    for way in (
        Way(Route(name="short", sla=timedelta(seconds=0.8), decide_within=_DECIDE), "cancel"),
        Way(Route(name="cancel", sla=_SLA, decide_within=_DECIDE), "cancel"),
        Way(Route(name="redrive", sla=_SLA, decide_within=_DECIDE), "redrive"),
        Way(Route(name="hold", sla=_SLA, decide_within=_DECIDE, decision=DecisionRule.CONSUMER), "hold"),
        Way(Route(name="ask", sla=_SLA, decide_within=_DECIDE, decision=DecisionRule.CONSUMER), "cancel"),
    )
}


#: Where each message has some payments: how many, and the routes, on which more is decided.
_SEVERAL = 3
_HELD = ("hold", "ask", "redrive", "hold", "ask")


class Told(NamedTuple):
    """What became of a world."""

    seed: int
    #: The promise that was broken; None: none was.
    broken: str | None
    events: int = 0
    ended: int = 0
    takeovers: int = 0
    doubles: int = 0


class World:
    """All that there is."""

    roles = ROLES
    faulty_seconds = FAULTY_SECONDS

    def __init__(
        self,
        seed: int,
        *,
        regions: int = 2,
        plants: Plants | None = None,
        trace: Callable[[str], None] | None = None,
        weather: bool = True,
        several: bool = False,
    ) -> None:
        """trace: told of each step. weather: whether anything goes wrong. several: messages have some payments each."""
        self.seed = seed
        self.several = several
        self.plants = plants or Plants()
        self.tracing = trace is not None
        self._trace = trace
        self.schedule = Schedule(seed)
        self.promises = Promises()
        self.network = Network(self.schedule, self._is_up)
        self.witness_up = True
        self.healing = False
        #: An operator's: peer and home.
        self.orders: set[tuple[int, int]] = set()
        #: A disk was lost, or a region given up: not twice in one world.
        self.disks_lost = False
        self._excused: set[int] = set()
        self.takeovers = 0
        self.inspections: dict[bytes, Inspection] = {}
        numbers = tuple(range(1, regions + 1))
        self.regions = {n: Region(self, n, tuple(p for p in numbers if p != n)) for n in numbers}
        self.witness = Witness(numbers, self._entry_changed)
        for region in self.regions.values():
            region.begin()
        chance = self.schedule.random
        for number in range(1, 1 + chance.randint(2, 4)):
            clients.begin(self, number, chance.randint(2, 5))
        if weather:
            faults.plan(self)

    # -- running --

    def run(self) -> None:
        """The whole history. Raises Broken."""
        self.schedule.run(FAULTY_SECONDS)
        self.trace("healing begins")
        faults.heal(self)
        until = FAULTY_SECONDS + HEALING_SECONDS
        while self.schedule.now < until:
            self.schedule.run(self.schedule.now + 1.0)
            self._mend()
            left = self._left()
            if not left:
                break
        else:
            raise Broken(f"always an end: {left} after {HEALING_SECONDS:.0f} quiet seconds")
        self._judge()

    def trace(self, text: str) -> None:
        """Say what happens."""
        if self._trace is not None:
            self._trace(f"{self.schedule.now:8.3f}  {text}")

    def begin(self, region: Region, process: Process) -> None:
        """A process of a region starts."""
        role = process.name.split(".")[1][0]
        {"s": replication.begin, "w": worker.begin, "k": keeper.begin, "t": taker.begin}[role](region, process)

    def _is_up(self, node: str) -> bool:
        if node == "w":
            return self.witness_up
        return node[0] != "r" or self.regions[int(node[1:])].up

    # -- messages and routes --

    def inspection(self, number: int) -> Inspection:
        """Of a client's message."""
        found = messages.message(number, _SEVERAL if self.several else 1)
        self.inspections[found.digest] = found
        return found

    def choose(self, number: int) -> Route:
        """The route of a client's message."""
        ways = _HELD if self.several else ("short", "cancel", "redrive", "hold", "cancel", "ask", "short")
        return _WAYS[ways[number % len(ways)]].route

    def route(self, row: Transaction) -> Route:
        """The route that a transaction follows."""
        return _WAYS[row.route].route

    def rule(self, row: Transaction) -> str:
        """What becomes of it at a takeover."""
        return _WAYS[row.route].on_takeover

    def payment_of(self, row: Transaction) -> str | None:
        """Which payment this is an attempt of."""
        return None if row.message_id is None else f"{row.client} {row.message_id}"

    def note(self, region: Region, change: Change) -> None:
        """An end was intended, of all or some."""
        row = change.after
        if row.standing.state is State.ENDING or any(event.kind in INTENTS for event in change.events):
            region.intents[row.id] = (row.version, region.db.position)

    # -- what changes --

    def _entry_changed(self, home: int, entry: Entry) -> None:
        if self.tracing:
            self.trace(f"witness: region {home} {entry}")
        self.takeovers = max(self.takeovers, entry.generation)
        self.guarded(home)

    def guarded(self, home: int) -> None:
        """After each change of an entry or a post."""
        region = self.regions[home]
        if not region.lost:
            self.promises.guarded(home, self.witness.entries[home], region.db.post)

    # -- disks --

    def lose_disk(self, region: Region) -> None:
        """Everything that is stored in a region is gone."""
        self.trace(f"{region.node} dies, and its disk with it")
        self.disks_lost = True
        self._excused.add(region.number)
        region.crash(disk=True)

    def retire(self, region: Region) -> None:
        """An operator gives a region up for good: whoever can takes it over."""
        self._excused.add(region.number)
        self.witness.retire(region.number)
        self.orders.update((peer, region.number) for peer in region.peers)
        for peer in region.peers:
            self.regions[peer].wanted = self.living_peers(self.regions[peer])

    def living_peers(self, region: Region) -> frozenset[int]:
        """Peers that were not given up."""
        return frozenset(peer for peer in region.peers if not self.witness.entries[peer].retired)

    def look_for_consistent(self, region: Region, home: int) -> None:
        """After a takeover: what was acknowledged as consistent is at the taker."""
        for id_, told in self.promises.acknowledged.items():
            if told.consistent and told.region == home and not self.is_excused(home):
                self.promises.kept(id_, region.db.get(id_), f"in region {region.number}, which has taken it over")

    def is_excused(self, home: int) -> bool:
        """Whether what only this home had may be gone, or never end."""
        return home in self._excused

    def _mend(self) -> None:
        """What operators do when the dust has settled: seed a lost region anew, or give it up."""
        for region in self.regions.values():
            if not region.lost:
                continue
            entry = self.witness.entries[region.number]
            if entry.retired:
                continue
            if entry.taker is None:
                if not entry.members:
                    self.retire(region)
                continue
            peers = [self.regions[peer] for peer in region.peers]
            complete = self.regions[entry.taker].db.has_completed(region.number, entry.generation)
            if complete and not any(peer.lost for peer in peers):
                self._seed_anew(region, peers, entry)

    def _seed_anew(self, region: Region, peers: list[Region], entry: Entry) -> None:
        before = region.db
        db = Database(region.number, region.peers, self.plants, before.incarnation + 1)
        for peer in peers:
            for writer in self.regions:
                db.copy(peer.db, writer)
            db.subscriptions[peer.number].ready = False
            db.slots[peer.number].ready = False
        db.post = Post(epoch=entry.generation * CHANGES, fenced=True)
        region.db = db
        region.lost = False
        self.trace(f"{region.node} is seeded anew")
        region.recover()

    # -- judging --

    def _left(self) -> str | None:
        """What is not well yet."""
        for number, region in self.regions.items():
            entry, post = self.witness.entries[number], region.db.post
            if region.lost and not entry.retired:
                return f"region {number} has lost its disk"
            if entry.retired or self._is_stranded(number):
                continue
            guards = self.living_peers(region)
            if entry.taker is not None or post.fenced:
                return f"region {number} is taken over"
            if not any(map(self._is_stranded, self.regions)) and (post.guards != guards or entry.members != guards):
                return f"region {number} waits for {sorted(post.guards)}, members are {sorted(entry.members)}"
        return self._unended()

    def _is_stranded(self, number: int) -> bool:
        """Taken over by a region that was then given up: nobody can say that it may go on, but an operator."""
        taker = self.witness.entries[number].taker
        return taker is not None and self.witness.entries[taker].retired

    def _living(self) -> list[Region]:
        gone = {number for number, entry in self.witness.entries.items() if entry.retired or self._is_stranded(number)}
        return [region for number, region in self.regions.items() if number not in gone]

    def _unended(self) -> str | None:
        living = self._living()
        owners = {region.number for region in living}
        for region in living:
            for row in region.db.open():
                if row.region in owners and not region.db.is_left(row):
                    return f"{name(row.id)} is {row.standing.state} in region {row.region}, seen in {region.number}"
            for peer in living:
                if peer is not region and peer.db.slots[region.number].flushed < peer.db.position:
                    return f"region {region.number} has not all of region {peer.number}"
        return None

    def _judge(self) -> None:
        """At rest: everything acknowledged is everywhere, with one end, one answer, one history."""
        for region in self._living():
            for id_, told in self.promises.acknowledged.items():
                if told.consistent or not self.is_excused(told.region):
                    self.promises.kept(id_, region.db.get(id_), f"in region {region.number}")
            for id_ in region.db.rows:
                row = region.show(id_)
                history = region.db.history(id_)
                assert row is not None  # it is among the rows
                if not history or history[-1].standing != row.standing or len(history) != row.version:
                    raise Broken(f"history: {name(id_)} in region {region.number} is not the fold of its events")

    # -- what the taker asks --

    def driven_at_once(self, verdict: OnTakeover) -> bool:
        """Whether the route has what was cancelled driven again at once."""
        return verdict.redrive

    def drive_again(self, region: Region, id_: UUID) -> None:
        """Drive a cancelled transaction again here, once its end is a fact."""
        worker.serve(region, lambda _: None, worker.drive_again(id_, consistent=False))


def live(
    seed: int,
    *,
    regions: int = 2,
    plants: Plants | None = None,
    trace: Callable[[str], None] | None = None,
    several: bool = False,
) -> Told:
    """One world from its beginning to its end."""
    world = World(seed, regions=regions, plants=plants, trace=trace, several=several)
    broken = None
    try:
        world.run()
    except (Broken, IllegalTransition) as exc:
        broken = str(exc)
        world.trace(f"BROKEN: {broken}")
    ends = world.promises.ends.values()
    return Told(seed, broken, world.schedule.events, len(ends), world.takeovers, world.promises.doubles)
