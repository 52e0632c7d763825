"""The way of a message, joined from its parts: what takes it, decides on it, goes on with it and tells of it.

Each part does one thing and is called by its own name; what they share is made here, once. Every change is read for,
decided by the stages, and committed as one, see `committing.py`.

Owns: which parts there are, and which of them each one works with.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from interlock.bulk import BulkSettings, Submitting
from interlock.bulk import Means as BulkMeans
from interlock.clock import Now
from interlock.inspection import Inspector
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.schemas import Catalogue
from interlock.journal import Journal
from interlock.memory import Memory
from interlock.ports import Store
from interlock.routes import Routes
from interlock.workflow.committing import Committing
from interlock.workflow.concluding import Concluding
from interlock.workflow.contents import Contents
from interlock.workflow.controls import Controls
from interlock.workflow.deciding import Deciding
from interlock.workflow.driving import Driving
from interlock.workflow.enquiries import PATIENCE_SECONDS, Enquiries
from interlock.workflow.ground import Ground
from interlock.workflow.halfway import HalfWay
from interlock.workflow.originals import Means
from interlock.workflow.ownership import Ownership
from interlock.workflow.reading import Reading
from interlock.workflow.receiving import Receiving
from interlock.workflow.resuming import Resuming
from interlock.workflow.traces import Traces


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator has configured for transactions."""

    routes: Routes
    limits: Limits
    #: Number of this region, which every id carries.
    region: int
    #: Transactions without an end that one client may have.
    in_flight_max: int
    #: Ours, and the operator's.
    profiles: Profiles = field(default_factory=Profiles.load)
    #: Of messages of many payments; None: there are none.
    bulk: BulkSettings | None = None
    #: Clients whose messages are read leniently.
    lenient: frozenset[str] = frozenset()


class Workflow:
    """All parts of the main job in one process."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        catalogue: Catalogue,
        settings: Settings,
        *,
        now: Now,
        new_id: Callable[[], UUID],
    ) -> None:
        """new_id: makes a UUIDv7 that carries the region."""
        self.memory = Memory()
        self.traces = Traces()
        self.now = now
        self._ground = ground = Ground(store, journal, self.memory, settings.routes, self.traces, now)
        self.inspector = Inspector(catalogue, settings.limits, settings.profiles)
        self.controls = controls = Controls(ground, settings.in_flight_max)
        self._halfway = halfway = HalfWay(controls, settings.routes)
        controls.on_lifted = halfway.stir
        self.reading = reading = Reading(ground)
        contents = Contents(ground, self.inspector, settings.profiles, settings.lenient)
        self.ownership = ownership = Ownership(ground, reading, settings.region)
        self.committing = committing = Committing(ground, reading, contents, ownership, halfway)
        self.deciding = deciding = Deciding(
            ground, reading, contents, ownership, committing,
            # To go on may be to answer a request that cancels others: that is a decision again.
            take_up=lambda transaction: self.resuming.take_up(transaction),  # noqa: PLW0108 - it is made later
        )  # fmt: skip
        self.concluding = Concluding(ground, reading, contents, ownership, committing)
        means = Means(
            decide=partial(deciding.decide, patience=PATIENCE_SECONDS),
            until_end=reading.until_end,
            payments=reading.payments,
            payments_page=reading.payments_page,
            original=contents.original,
            recalls=contents.recalls,
            is_ours=ownership.is_ours,
            others=lambda: ownership.peers - ownership.retired,
            abroad=lambda: self.enquiries.abroad,
            now=now,
        )
        self.enquiries = Enquiries(store, journal, means)
        self.resuming = resuming = Resuming(
            ground, reading, contents, controls, ownership, halfway, committing, self.enquiries
        )
        self.receiving = receiving = Receiving(
            ground, reading, contents, controls, ownership, committing, resuming, new_id
        )
        self.driving = Driving(ground, reading, contents, controls, ownership, receiving)
        #: Takes messages of many payments from files; None: nobody makes files of messages.
        self.bulk = None if settings.bulk is None else self._bulk(settings.bulk)

    def _bulk(self, settings: BulkSettings) -> Submitting:
        ground, receiving, controls = self._ground, self.receiving, self.controls
        means = BulkMeans(
            admit=controls.admit,
            refuse_if_held=controls.refuse_if_held,
            newborn=lambda client, route, reference: receiving.newborn(client, route, reference=reference),
            birth=self.ownership.birth,
            commit=self.committing.commit,
            again=receiving.again,
        )
        return Submitting(ground.store, ground.journal, ground.routes, settings, means, self.now)

    # -- what concerns all parts --

    async def refresh(self) -> None:
        """Read what other processes may have changed, and what was before this one: orders, and what is in flight.

        Before the first request, and again and again; what others have resumed goes on here too.
        """
        await self.controls.look()
        before = self.memory.in_flight.copy()
        found = Counter(await self._ground.journal.look(self._ground.store.open_by_client))
        # What has ended here meanwhile may have been counted; nobody is refused for that.
        self.memory.in_flight = found - (before - self.memory.in_flight)
        await self.ownership.look()

    def begin_anew(self) -> None:
        """This process was given up, and has registered again: others have its work; what it remembers is hearsay."""
        self.memory.clear()
        self._halfway.clear()
