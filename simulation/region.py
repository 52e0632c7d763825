"""One region: its database, its clock, its processes, and what they all need of the world."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec.structs import replace

from interlock.apart import NONE_APART, fold
from interlock.lifecycle import Standing, State
from interlock.ports import Outcome, Won
from interlock.regions.rules import Post
from interlock.stages.facts import Inspection
from interlock.stages.steps import Steps as Course
from interlock.transaction import Body, Change, Payment, Transaction, home_of
from simulation.database import Database
from simulation.messages import BEGIN
from simulation.promises import Broken, name
from simulation.schedule import Process, Signal

if TYPE_CHECKING:
    from simulation.world import World


class Unavailable(Exception):
    """Nothing is decided here now: taken over, or somebody else's."""


class Region:
    """What is found in one place, and lost with it."""

    def __init__(self, world: "World", number: int, peers: tuple[int, ...]) -> None:
        self.world = world
        self.number = number
        self.peers = peers
        self.node = f"r{number}"
        self.up = True
        self.db = Database(number, peers, world.plants)
        self.db.post = Post(guards=frozenset(peers))
        #: The disk is gone; nothing runs until the region is seeded anew.
        self.lost = False
        #: What the operator wants as guards.
        self.wanted = frozenset(peers)
        self.processes = [Process(f"{self.node}.{role}", self.node) for role in world.roles]
        #: Something was committed, a peer has flushed, the post was changed.
        self.stirred = Signal()
        #: Ends that were just intended, the version that does, and where: for whichever worker comes first.
        self.intents: dict[UUID, tuple[int, int]] = {}
        #: What it takes to apply a record, besides; seconds.
        self.apply_seconds = 0.0
        self.offset = 0.0
        self.rate = 1.0
        self._ids = 0

    # -- time --

    def now(self) -> datetime:
        """The region's own clock, which need not be right."""
        return BEGIN + timedelta(seconds=100.0 + self.offset + self.rate * self.world.schedule.now)

    def set_rate(self, rate: float) -> None:
        """The clock goes on from where it stands at another rate."""
        self.offset += (self.rate - rate) * self.world.schedule.now
        self.rate = rate

    # -- life and death --

    def begin(self) -> None:
        """All processes start."""
        for process in self.processes:
            self.start(process)

    def start(self, process: Process) -> None:
        """A process starts, without memory."""
        if not self.up or self.lost:
            return
        process.up = True
        process.paused_until = 0.0
        self.world.begin(self, process)

    def kill(self, process: Process) -> None:
        """A process ends between two steps."""
        process.up = False
        process.life += 1
        process.traps = []

    def crash(self, *, disk: bool = False) -> None:
        """Everything here stops at once. disk: with all that was stored."""
        self.up = False
        self.lost |= disk
        self.intents.clear()
        for process in self.processes:
            self.kill(process)

    def recover(self) -> None:
        """Power is back."""
        if not self.up and not self.lost:
            self.up = True
            self.begin()

    # -- deciding --

    def new_id(self) -> UUID:
        """An id that says where it is from."""
        self._ids += 1
        return UUID(int=(self._ids << 8) | self.number)

    def course(self, row: Transaction, post: Post) -> Course:
        """Steps of a transaction that is ours, decided under this post. Raises Unavailable."""
        if post.fenced and not self.world.plants.works_before_informed:
            raise Unavailable("fenced")
        if row.region != self.number and row.region not in self.db.taken():
            raise Unavailable(f"is region {row.region}'s")
        return self.steps(row, post)

    def steps(self, row: Transaction, post: Post) -> Course:
        """Steps of a transaction, with what of it ended by itself."""
        known = row.payments > 1 and (home_of(row.id) == self.number or not self.world.plants.taker_forgets_some)
        apart = fold(self.db.history(row.id), row) if known else NONE_APART
        return Course(row, self.now(), alone=False, epoch=post.epoch, region=self.number, apart=apart)

    def owned(self, change: Change, row: Transaction) -> Change:
        """The change of a row, decided now: of another region's it makes one of our own, if there is none of before."""
        if row.region == self.number:
            return change
        own = self.db.rows[row.id].get(self.number)
        payments = self.db.payments_of(row)
        return replace(change, read=0 if own is None else own.version, payments=payments)

    def facts(self, row: Transaction) -> tuple[Inspection | None, tuple[Payment, ...]]:
        """What is known of the message received, and its payments as they stand."""
        if row.digest is None:
            return None, ()
        body = self.db.bodies.get(row.id, {}).get(row.digest)
        if body is None:
            raise Broken(f"nothing is lost: the message of {name(row.id)} is not in region {self.number}")
        return self.world.inspections[body.digest], self.db.payments_of(row)

    def answer(self, row: Transaction) -> Body | None:
        """The answer that its end has, or is to have."""
        if row.answer_digest is None:
            return None
        body = self.db.bodies.get(row.id, {}).get(row.answer_digest)
        if body is None:
            raise Broken(f"one answer: that of {name(row.id)} is not in region {self.number}")
        return body

    def commit(self, change: Change) -> Outcome:
        """One change, looked at by those who watch over the promises."""
        before = self._before(change)
        apart = (
            fold(self.db.history(change.after.id), before) if before is not None and before.payments > 1 else NONE_APART
        )
        stood = (Standing(), 0, apart) if before is None else (before.standing, before.version, apart)
        outcome = self.db.commit(change)
        world = self.world
        if isinstance(outcome, Won):
            after = change.after
            if world.tracing:
                events = " ".join(event.kind.value for event in change.events)
                world.trace(
                    f"{self.node} {name(after.id)} {events}: {after.standing.state} {after.standing.end or ''}"
                    f" epoch {after.epoch} position {self.db.position}"
                )
            world.promises.committed(change, stood, world.payment_of(after), self.db.payments_of(after))
            world.schedule.fire(self.stirred)
        elif world.tracing:
            world.trace(f"{self.node} {name(change.after.id)} not committed: {type(outcome).__name__}")
        return outcome

    def _before(self, change: Change) -> Transaction | None:
        """The row that a change was decided on."""
        version, epoch = change.events[0].seq - 1, change.after.epoch
        # Of a higher epoch is what a taker has made of it, while its home does not know of that.
        known = self.db.rows.get(change.after.id, {}).values()
        rows = (row for row in known if row.version == version and row.epoch <= epoch)
        row = max(rows, key=lambda row: row.epoch, default=None)
        ignored = self.world.plants.taker_ignores_intent and row is not None and row.region != self.number
        if row is not None and ignored and row.standing.state is State.ENDING:
            return replace(row, standing=Standing(State.ACSP, row.standing.status))
        return row

    def change_post(
        self,
        read: Post,
        post: Post,
        why: str,
        *,
        begun: tuple[int, int] | None = None,
        completed: tuple[int, int] | None = None,
        returned: tuple[int, int] | None = None,
    ) -> bool:
        """Compare and set."""
        done = self.db.change_post(read, post, begun=begun, completed=completed, returned=returned)
        world = self.world
        if world.tracing:
            shown = f"epoch {post.epoch} guards {sorted(post.guards)}{' fenced' if post.fenced else ''}"
            world.trace(f"{self.node} post ({why}): {shown if done else 'lost the race'}")
        if done:
            world.guarded(self.number)
            world.schedule.fire(self.stirred)
        return done

    def flushed(self) -> Mapping[int, int]:
        """How far each peer has our changes on disk, as far as we were told."""
        return {peer: slot.flushed for peer, slot in self.db.slots.items() if slot.ready}

    def informed(self, generation: int) -> bool:
        """Whether the taker's word is here that all is decided, and that it knows that we are back."""
        told = self.db.completed if self.world.plants.informed_at_completion else self.db.returned
        return any(done[:2] == (self.number, generation) for done in told)

    # -- reading --

    def show(self, id_: UUID) -> Transaction | None:
        """What a client is shown; of an end with its answer, which is then a promise."""
        row = self.db.get(id_)
        if row is not None and row.standing.is_final:
            body = None if row.answer is None else self.answer(row)
            self.world.promises.told(row, None if body is None else body.content)
        return row
