"""What is this region's to go on with, and under which epoch: its own transactions, and those of regions taken over.

Every step of a transaction begins here, so that none is taken by a region that may not, or under an epoch that is over.

Owns: what is known of the other regions, and whether an end is a fact at once. Why a region may take another one over
is `regions/rules.py`'s.
"""

from collections.abc import Callable
from uuid import UUID

from msgspec import structs

from interlock.apart import NONE_APART, Apart
from interlock.errors import OwnedElsewhere, RegionFenced, StoreUnavailable
from interlock.regions.rules import CHANGES
from interlock.routes import Consistency, Route
from interlock.stages import way
from interlock.stages.steps import Steps
from interlock.transaction import BodyKind, Change, Transaction
from interlock.workflow.ground import Ground
from interlock.workflow.reading import Reading, Recalled


class Ownership:
    """What this region may decide on."""

    def __init__(self, ground: Ground, reading: Reading, region: int) -> None:
        """region: this one's number, which every id carries."""
        self._store = ground.store
        self._journal = ground.journal
        self._memory = ground.memory
        self._reading = reading
        self._routes = ground.routes
        self._now = ground.now
        self.region = region
        #: Regions that this one has taken over: what they had begun is ours to go on with. And the epoch under which
        #: that was so.
        self._taken: frozenset[int] = frozenset()
        self._taken_under = 0
        #: Whether an end on this route is a fact at once.
        self.alone: Callable[[Route], bool] = lambda _: not ground.store.post.guards
        #: Numbers of all other regions.
        self.peers: frozenset[int] = frozenset()
        #: Those that were given up for good, as the witness says.
        self.retired: frozenset[int] = frozenset()

    # -- the regions --

    async def look(self) -> None:
        """Read again which regions this one has taken over; under another epoch that may have changed."""
        epoch = self._store.post.epoch  # before it is read: what changes later makes another epoch
        if epoch != self._taken_under:
            self._memory.clear()  # what was ours may be another region's
        self._taken = await self._journal.look(self._store.taken)
        self._taken_under = epoch

    @property
    def taken(self) -> frozenset[int]:
        """Regions that this one has taken over, as last looked."""
        return self._taken

    def is_ours(self, transaction: Transaction) -> bool:
        """Whether this region goes on with it."""
        return transaction.region == self.region or transaction.region in self._taken

    async def owner(self, transaction_id: UUID) -> int:
        """Number of the region that goes on with a transaction. Raises UnknownTransaction."""
        transaction = await self._reading.get(None, transaction_id, Recalled.ANYTHING)
        if transaction.epoch // CHANGES != self._store.post.generation:
            # Of before a takeover: what this process remembers another region may have decided since.
            transaction = await self._reading.get(None, transaction_id)
        return self.region if transaction.region in self._taken else transaction.region

    def others(self) -> frozenset[int]:
        """Regions that may take payments of their own: not what we have taken over, as long as we know of it."""
        known = self._taken_under == self._store.post.epoch
        return self.peers - self.retired - (self._taken if known else frozenset())

    def is_everywhere(self, route: Route, asked: Consistency | None) -> bool:
        """Whether payments must be known in every other region before they settle."""
        peers, wanted = len(self.peers), asked or route.consistency
        return peers > 0 and (wanted is Consistency.CONSISTENT or wanted.copies(peers) >= peers)

    # -- the steps of what is ours --

    async def begin(self, present: Transaction) -> Steps:
        """Steps as `steps` makes them, with what is known of payments that end by themselves: for all that may end."""
        return self.steps(present, await self._reading.apart(present))

    def steps(self, present: Transaction, apart: Apart = NONE_APART) -> Steps:
        """Steps of a transaction that is ours, under the region's present epoch.

        Raises RegionFenced, OwnedElsewhere.
        """
        post, region = self._store.post, self.region
        if post.fenced:
            raise RegionFenced("this region was taken over and does not know yet what was decided for it")
        if present.region != region:
            if present.region not in self._taken:
                raise OwnedElsewhere(present.region)
            if self._taken_under != post.epoch:
                raise StoreUnavailable("who goes on with this is being looked up; try again")
        alone = self._is_alone(present)
        return Steps(present, self._now(), alone=alone, epoch=post.epoch, region=region, apart=apart)

    def birth(self, newborn: Transaction) -> Steps:
        """The first steps of a transaction, likewise. Raises RegionFenced."""
        post = self._store.post
        if post.fenced:
            raise RegionFenced("this region was taken over and does not know yet what was decided for it")
        newborn = structs.replace(newborn, epoch=post.epoch)
        return way.issue(newborn, newborn.created_at, alone=self._is_alone(newborn))

    def _is_alone(self, transaction: Transaction) -> bool:
        """Whether an end of it is a fact at once: nobody waits for anybody."""
        return self.alone(self._routes.named(transaction.route)) and not (transaction.everywhere and self.others())

    def is_of_before(self, present: Transaction) -> bool:
        """Whether it is ours and has come no further since this region was lost and taken over."""
        if present.standing.is_final or present.version == 0:
            return False
        return present.epoch // CHANGES < self._store.post.generation and present.region == self.region

    async def whole(self, before: Transaction, change: Change) -> Change:
        """The change with what else must be written where the transaction becomes ours with it."""
        if before.version == 0 or before.region == change.after.region:
            return change
        read = self._journal.read
        inbox = await read(self._store.message, before.id, BodyKind.INBOX)
        answer = await self._reading.answer(before) if before.answer_digest == change.after.answer_digest else None
        return structs.replace(
            change,
            payments=await read(self._store.payments, before.id),
            events=(*await read(self._store.inherited, before.id), *change.events),
            inherited_from=before.region,
            bodies=(*(body for body in (inbox, answer) if body is not None), *change.bodies),
        )
