"""Keeps a region: who may take it over, and whom it takes over. One process a region does this at a time.

Each turn looks at the witness and at the databases, asks `regions/rules.py` what may be done, and does it. A turn may
be broken off anywhere, and two processes may be at it at once for a moment: every write is a compare-and-set.

Owns: the order of looking and doing. Must not know: SQL, or why a rule is as it is.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import NamedTuple
from uuid import UUID

import structlog

from interlock.clock import Now
from interlock.config import PeerConfig
from interlock.errors import DependencyError, IllegalDecision, InterlockError, StoreUnavailable
from interlock.journal import Journal
from interlock.ports import Replication, Store, Takeover, Witness
from interlock.regions import rules
from interlock.regions.doubles import Double
from interlock.regions.flows import PeerStatus
from interlock.regions.rules import Admit, Drop, Entry, Fence, Peer, Post, Resume
from interlock.routes import Routes
from interlock.transaction import Transaction
from interlock.workflow import Workflow

_log = structlog.get_logger()

#: The job that one process does for all.
_JOB = "regions"
#: A guard that lacks what it could have had for so long is dropped, lest ends wait for it.
_PATIENCE_SECONDS = 1.5
#: How long a cancellation may take to become a fact, before what it cancelled is driven again.
_END_SECONDS = 60.0
#: Transactions decided together in a takeover.
_PAGE = 500
#: Between two looks at how replication goes and at what has come of recent transactions; and of all.
_LOOK_SECONDS, _COUNT_SECONDS = 1.0, 60.0
_RECENT = timedelta(days=2)
#: Events of a journal that are looked at together, and how often in one turn: ends at home must not wait for it.
_EVENTS, _LOOKS = 1_000, 5
_ACTOR = "interlock"


class Settings(NamedTuple):
    """What the operator has configured for regions."""

    region: int
    peers: Mapping[str, PeerConfig]
    lease_seconds: float
    automatic: bool
    routes: Routes


@dataclass(slots=True)
class _Seen:
    """The world as one turn has found it."""

    post: Post
    #: Of this region; None while the witness cannot be reached.
    entry: Entry | None
    #: Of the peers, with what is left of their leases in seconds.
    entries: Mapping[int, tuple[Entry, float]]
    position: int
    flushed: Mapping[int, int]


class _Admission(NamedTuple):
    """A guard on its way into the witness's entry."""

    #: As it was read before the post was changed.
    entry: Entry
    epoch: int
    #: What it must have flushed.
    position: int


@dataclass(slots=True)
class Tally:
    """What the keeper has done, for metrics."""

    takeovers: int = 0
    #: Transactions decided in takeovers.
    decided: int = 0
    fenced: int = 0
    resumed: int = 0
    dropped: int = 0
    admitted: int = 0
    #: What was last said of the world.
    conditions: dict[str, str] = field(default_factory=dict)
    #: Whether the witness answered when it was last asked.
    witness: bool = False
    #: Number of the last takeover that the witness knows of: of any region, and of this one.
    generation: int = 0
    own_generation: int = 0
    #: Replication with each peer, by number.
    flows: Mapping[int, PeerStatus] = field(default_factory=dict)
    #: Transactions of this region that another one's end contradicts, as recorded.
    ended_twice: int = 0


class Keeper:
    """One region's, over its own database, its peers' and the witness's."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        journal: Journal,
        workflow: Workflow,
        witness: Witness,
        connect: Callable[[int], Replication],
        answers: Callable[[str], bool],
        now: Now,
    ) -> None:
        """connect: the database of a region, by its number. answers: whether the API at an endpoint does."""
        self._settings = settings
        self._store = store
        self._journal = journal
        self._workflow = workflow
        self._witness = witness
        self._own = connect(settings.region)
        self._peers = {peer.number: connect(peer.number) for peer in settings.peers.values()}
        self._answers = answers
        self._now = now
        self._names = {peer.number: name for name, peer in settings.peers.items()}
        #: Positions of our log, and when we saw them: what a peer could have by now.
        self._marks: deque[tuple[float, int]] = deque(maxlen=64)
        self._admitting: dict[int, _Admission] = {}
        #: Transactions that were cancelled in a takeover and are to be driven again.
        self._redriving: set[asyncio.Task[None]] = set()
        self._silent: dict[int, rules.Health] = {}
        self._looked_at = self._counted_at = float("-inf")
        self.tally = Tally()
        self.leads = False

    # -- a turn --

    async def turn(self) -> None:
        """Look, and do what is due."""
        self.leads = await self._journal.lead(_JOB)
        if not self.leads:
            return
        seen = await asyncio.to_thread(self._look)
        await asyncio.to_thread(self._keep, seen)
        for number, (entry, left) in seen.entries.items():
            await self._watch(number, entry, left)
        if monotonic() - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = monotonic()
            self.tally.flows = await asyncio.to_thread(self._own.status)
            if not seen.post.fenced:
                await self._look_for_doubles()

    def _look(self) -> _Seen:
        post = self._own.read_post()
        entries: dict[int, tuple[Entry, float]] = {}
        entry: Entry | None = None
        try:
            self._witness.renew(self._settings.region, post.generation, self._settings.lease_seconds)
            found = self._witness.entries()
            entry = found[self._settings.region][0] if self._settings.region in found else None
            entries = {number: found[number] for number in self._peers if number in found}
            self._workflow.ownership.retired = frozenset(
                number for number, (known, _) in entries.items() if known.retired
            )
            self.tally.generation = max((known.generation for known, _ in found.values()), default=0)
            self.tally.own_generation = 0 if entry is None else entry.generation
            self.tally.witness = True
            self.tally.conditions.pop("witness", None)
        except DependencyError as exc:
            self.tally.witness = False
            self._say("witness", str(exc))
        position, flushed = self._own.flushed()
        self._marks.append((monotonic(), position))
        return _Seen(post, entry, entries, position, flushed)

    def _say(self, what: str, said: str) -> None:
        if self.tally.conditions.get(what) != said:
            self.tally.conditions[what] = said
            _log.warning("regions", what=what, said=said)

    # -- the region itself --

    def _keep(self, seen: _Seen) -> None:
        wanted = [peer.number for peer in self._settings.peers.values() if peer.guard]
        peers = {number: self._peer(number, seen) for number in self._peers}
        informed = seen.entry is not None and self._informed(seen.post, seen.entry)
        self._admit_further(seen)
        step = rules.next_step(seen.post, seen.entry, peers, wanted, informed=informed)
        match step:
            case Fence(post):
                if self._own.take_post(post):
                    self.tally.fenced += 1
                    _log.error("fenced: another region has taken this one over", epoch=post.epoch)
            case Resume():
                self._resume(seen)
            case Drop(peer):
                self._drop(seen, peer)
            case Admit(peer):
                self._admit(seen, peer)
            case None:
                return

    def _peer(self, number: int, seen: _Seen) -> Peer:
        """Whether a peer keeps up with us, and has all tables."""
        reached = seen.flushed.get(number)
        due = next((place for at, place in reversed(self._marks) if monotonic() - at >= _PATIENCE_SECONDS), None)
        healthy = reached is not None and (due is None or reached >= due)
        return Peer(healthy=healthy, ready=healthy and self._ready(number, seen))

    def _ready(self, number: int, seen: _Seen) -> bool:
        if number in seen.post.guards and (seen.entry is None or number in seen.entry.members):
            return True  # nothing is to be decided by it
        return self._has_all(number, seen)

    def _has_all(self, number: int, seen: _Seen) -> bool:
        try:
            there = self._peers[number]
            if not there.ready(self._settings.region):
                return False
            # Whatever a former taker has decided of ours must have come there too.
            generation = 0 if seen.entry is None else seen.entry.generation
            return not generation or there.informed(self._settings.region, generation)
        except DependencyError:
            return False

    def _informed(self, post: Post, entry: Entry) -> bool:
        if not post.fenced and entry.taker is None:
            return False
        return self._own.informed(self._settings.region, post.generation)

    def _resume(self, seen: _Seen) -> None:
        assert seen.entry is not None  # the rules ask for it
        if seen.post.fenced:
            self._own.leave_superseded()
            if not self._own.change_post(seen.post, rules.resumed(seen.post)):
                return
            self.tally.resumed += 1
            _log.warning("back: everything that was decided for this region is known", epoch=seen.post.epoch + 1)
        after = rules.returned(seen.entry, seen.post.generation)
        if after is not None:
            self._witness.change(self._settings.region, seen.entry, after)

    def _drop(self, seen: _Seen, peer: int) -> None:
        assert seen.entry is not None  # the rules ask for it
        after = rules.removed(seen.entry, peer)
        if after is None or not self._witness.change(self._settings.region, seen.entry, after):
            return
        self._admitting.pop(peer, None)
        if self._own.change_post(seen.post, seen.post.change(seen.post.guards - {peer})):
            self.tally.dropped += 1
            _log.warning("a peer does not keep up: ends wait for it no more", peer=self._names[peer])

    def _admit(self, seen: _Seen, peer: int) -> None:
        assert seen.entry is not None  # the rules ask for it
        under_way = self._admitting.get(peer)
        if under_way is not None and (under_way.epoch, under_way.entry) == (seen.post.epoch, seen.entry):
            return
        post = seen.post.change(seen.post.guards | {peer})
        if self._own.change_post(seen.post, post):
            position, _ = self._own.flushed()
            self._admitting[peer] = _Admission(seen.entry, post.epoch, position)

    def _admit_further(self, seen: _Seen) -> None:
        """Tell the witness of guards that have flushed all that they must have."""
        for peer, (entry, epoch, position) in list(self._admitting.items()):
            if seen.entry != entry or seen.post.epoch != epoch:
                del self._admitting[peer]
            elif seen.flushed.get(peer, -1) >= position:
                del self._admitting[peer]
                if not self._has_all(peer, seen):
                    continue  # it makes its copy anew, under a slot that is past the mark
                after = rules.added(entry, peer)
                if after is not None and self._witness.change(self._settings.region, entry, after):
                    seen.entry = after
                    self.tally.admitted += 1
                    _log.info("a peer has everything, and may take this region over", peer=self._names[peer])

    # -- ends that contradict each other --

    async def _look_for_doubles(self) -> None:
        """Compare what has come from peers with our own ends: what contradicts them is flagged, and both are kept."""
        recorded = 0
        whole = monotonic() - self._counted_at >= _COUNT_SECONDS
        since = None if whole else self._now() - _RECENT
        for _ in range(_LOOKS):
            found = await asyncio.to_thread(self._own.arrivals, _EVENTS, since)
            for double in found.doubles:
                recorded += await self._flag(double)
            if found.reached:
                # Only now: what was not recorded for want of the store is found again.
                await asyncio.to_thread(self._own.note_seen, found.reached)
            if not found.more:
                break
        if recorded or whole:
            self._counted_at = monotonic()
            self.tally.ended_twice = await asyncio.to_thread(self._own.ended_twice)

    async def _flag(self, double: Double) -> bool:
        try:
            recorded = await self._workflow.concluding.note_double(double)
        except DependencyError:
            raise
        except InterlockError as exc:
            _log.warning("incident not recorded", **double.detail, ours=str(double.transaction), error=str(exc))
            return False
        if recorded:
            _log.error("incident: ended twice", ours=str(double.transaction), **double.detail)
        return recorded

    # -- the peers --

    async def _watch(self, number: int, entry: Entry, left: float) -> None:
        if entry.taker == self._settings.region:
            await self._taken(number, entry)
            return
        if entry.taker is None:
            await asyncio.to_thread(self._reopen, number)
        if self._settings.automatic and await asyncio.to_thread(self._is_lost, number, entry, left):
            granted = await asyncio.to_thread(
                self._witness.grant, self._settings.region, number, lease_must_be_over=True
            )
            if granted is not None:
                self.tally.takeovers += 1
                _log.error("taking over", region=self._names[number], generation=granted.generation)
                await self._taken(number, granted)

    def _is_lost(self, number: int, entry: Entry, left: float) -> bool:
        """Whether a peer that this region may take over has gone, as far as the witness and we can see."""
        if self._settings.region not in entry.members or entry.taker is not None or left > 0:
            return False
        return not self._answers(self._settings.peers[self._names[number]].endpoint)

    def _reopen(self, number: int) -> None:
        """A cut that no takeover stands for any more: somebody stopped before opening it again."""
        post = self._own.read_post()  # first: a takeover that begins meanwhile makes another epoch
        if any(t.home == number and t.returned_at is None for t in self._takeovers()):
            return
        if self._own.is_cut(number):
            self._own.open(number, post.epoch)

    async def _taken(self, number: int, entry: Entry) -> None:
        """Go on with a takeover, wherever it stands."""
        record = await asyncio.to_thread(self._begin, number, entry.generation)
        if record is None:
            return
        if record.completed_at is None:
            await self._decide(number, entry)
        elif record.returned_at is None:
            if not entry.retired:  # what was given up stays ours: it never goes on
                await asyncio.to_thread(self._see_home, number, entry.generation)
        else:
            await asyncio.to_thread(self._reopen, number)

    def _begin(self, number: int, generation: int) -> Takeover | None:
        """Raise our own epoch above all of the home's, and cut what still comes from it."""
        post = self._own.read_post()
        if post.fenced:
            return None
        if post.generation < generation:
            self._own.change_post(post, rules.taking(post, generation))
            return None  # the next turn sees what came of it
        found = self._record(number, generation)
        if found is None or found.cut_at is None:
            self._own.begin_takeover(number, generation, self._now())
            if not self._own.cut(number, post.epoch):
                return None
            self._own.note_cut(number, generation, self._now())
            found = self._record(number, generation)
        return found

    def _record(self, number: int, generation: int) -> Takeover | None:
        found = (t for t in self._takeovers() if (t.home, t.generation) == (number, generation))
        return next(found, None)

    def _takeovers(self) -> list[Takeover]:
        return [record for record in self._own.takeovers() if record.region == self._settings.region]

    async def _decide(self, number: int, entry: Entry) -> None:
        generation = entry.generation
        members = entry.members | {self._settings.region}
        # The epoch first: whoever completes the takeover meanwhile makes another one, and we decide nothing more.
        await self._journal.renew()
        epoch = self._store.post.epoch
        record = await asyncio.to_thread(self._record, number, generation)
        if record is None or record.completed_at is not None or self._store.post.generation < generation:
            return
        await self._workflow.ownership.look()
        decided = 0
        after: UUID | None = None
        below = generation * rules.CHANGES
        while page := await asyncio.to_thread(self._own.in_flight_of, number, below, after, _PAGE):
            after = page[-1]
            settling = (self._settle(id_, number, below, (epoch, members)) for id_ in page)
            for id_, result in zip(page, await asyncio.gather(*settling, return_exceptions=True), strict=True):
                if isinstance(result, DependencyError):
                    raise result
                if isinstance(result, BaseException):  # one that cannot be decided keeps no other from it
                    _log.error("not decided", transaction=str(id_), exc_info=result)
                else:
                    decided += result
        self.tally.decided += decided
        if after is not None:
            return  # the next turn looks again, until nothing is left
        post = self._store.post
        if post.epoch != epoch:
            return
        completed = await asyncio.to_thread(
            self._own.complete_takeover, number, generation, self._now(), self.tally.decided, (post, rules.taken(post))
        )
        if completed:
            _log.warning("taken over: everything is decided", region=self._names[number])

    async def _settle(self, id_: UUID, home: int, below: int, sight: tuple[int, frozenset[int]]) -> int:
        """Decide one transaction of a lost region. sight: our epoch, and who might have taken it over."""
        present = await self._journal.read(self._store.get, id_)
        if present is None or present.region != home:
            return 0
        rule = self._settings.routes.named(present.route).on_takeover
        verdict = rules.verdict(present.standing.state, present.epoch, below, rule)
        if verdict is None:
            return 0
        decided = await self._workflow.concluding.take_over_from(present, verdict, *sight)
        if verdict.redrive:
            # Not here: the turn must go on for the cancellation to become a fact.
            task = asyncio.create_task(self._redrive_ended(decided), name="redrive")
            self._redriving.add(task)
            task.add_done_callback(self._redriving.discard)
        return int(decided.region != home)  # what waits for another region's word is looked at again

    async def _redrive_ended(self, transaction: Transaction) -> None:
        ended = await self._workflow.reading.until_end(transaction, _END_SECONDS)
        if not ended.standing.is_final:
            _log.warning("not driven again", transaction=str(transaction.id), why="its cancellation is no fact yet")
            return
        await self._redrive(ended)

    async def _redrive(self, transaction: Transaction) -> None:
        try:
            await self._workflow.driving.again(None, transaction.id, _ACTOR)
        except IllegalDecision as exc:
            _log.info("not driven again", transaction=str(transaction.id), why=str(exc))
        except InterlockError as exc:
            _log.warning("not driven again", transaction=str(transaction.id), error=str(exc))

    def _see_home(self, number: int, generation: int) -> None:
        """Let a home come back that has taken in that it was taken over: tell it so, and listen to it again."""
        with suppress(StoreUnavailable):
            post = self._own.read_post()  # first: whatever is decided from here on would be under another one
            if self._peers[number].read_post().generation < generation:
                return
            if self._own.note_returned(number, generation, self._now(), (post, rules.taken(post))):
                _log.warning("a region is back", region=self._names[number])
