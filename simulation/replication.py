"""Logical replication between two regions: one apply worker a subscription, in commit order, and its word of the flush.

Runs in the database servers; what is received and not applied yet when a subscription is disabled may still be applied
until the worker has ended.
"""

from simulation.database import Slot
from simulation.region import Region
from simulation.schedule import Process, Steps, Until

#: Records applied together.
_BATCH = 4
#: How often a worker that has nothing to do says how far it is.
_STATUS_SECONDS = 0.5


def begin(region: Region, process: Process) -> None:
    """An apply worker for each peer."""
    for home in region.peers:
        region.db.subscriptions[home].running = False
        region.world.schedule.start(process, f"apply {home}", _apply(region, home))


def _apply(region: Region, home: int) -> Steps:
    world, db = region.world, region.db
    publisher, subscription = world.regions[home], db.subscriptions[home]
    while True:
        subscription.running = False
        if not subscription.enabled or not _connected(region, publisher):
            yield 0.1
            continue
        subscription.running = True
        if subscription.incarnation != publisher.db.incarnation or not subscription.ready:
            yield from _copied(region, publisher)
            continue
        records = publisher.db.log[subscription.applied : subscription.applied + _BATCH]
        incarnation, at = subscription.incarnation, subscription.applied
        if not records:
            _tell(region, publisher)
            yield Until(publisher.stirred, _STATUS_SECONDS)
            continue
        yield world.network.delay()
        for number, record in enumerate(records, 1):
            # Received: it is applied whatever becomes of the link meanwhile, unless the worker dies.
            if subscription.incarnation != incarnation:
                break
            db.apply(record)
            subscription.applied = at + number
            yield world.schedule.moment() + region.apply_seconds
            _tell(region, publisher)
        world.schedule.fire(region.stirred)


def _connected(region: Region, publisher: Region) -> bool:
    network = region.world.network
    both = network.reaches(region.node, publisher.node) and network.reaches(publisher.node, region.node)
    return both and not publisher.lost


def _copied(region: Region, publisher: Region) -> Steps:
    """Copy all tables anew, from another slot: one of the two databases is not the one that there was."""
    world, db = region.world, region.db
    subscription = db.subscriptions[publisher.number]
    subscription.ready = False
    publisher.db.slots[region.number] = Slot(db.incarnation, ready=False)
    yield 0.05 + world.network.delay()
    if not _connected(region, publisher) or not subscription.enabled:
        return
    db.copy(publisher.db, publisher.number)
    subscription.incarnation = publisher.db.incarnation
    subscription.applied = publisher.db.position
    subscription.ready = True
    if world.tracing:
        world.trace(f"{region.node} has copied all of region {publisher.number} up to {subscription.applied}")
    _tell(region, publisher)


def _tell(region: Region, publisher: Region) -> None:
    """How far we have flushed."""
    subscription = region.db.subscriptions[publisher.number]
    word = (region.number, region.db.incarnation, subscription.incarnation, subscription.applied, subscription.ready)
    region.world.network.send(region.node, publisher.node, _heard, publisher, *word)


def _heard(publisher: Region, peer: int, subscriber: int, incarnation: int, flushed: int, ready: bool) -> None:  # noqa: FBT001 - sent as a message
    slot = publisher.db.slots.get(peer)
    if slot is None or slot.incarnation != subscriber or publisher.db.incarnation != incarnation:
        return  # of a slot that is no more
    slot.heard = publisher.world.schedule.now
    slot.ready = slot.ready or ready
    if flushed > slot.flushed:
        slot.flushed = flushed
        publisher.world.schedule.fire(publisher.stirred)
