"""The rules by which regions never end a payment twice, as pure functions: the product and the simulation go by these.

Words and reasons are in `docs/decisions/0012-regions.md`. In short: the *post* is one row in the home's database, under
whose epoch everything is committed; the *entry* is one row a home at the witness. `members` of the entry, the peers
that may take the home over, are always among the *guards* of the post, whose acknowledgement every end waits for.

Owns: what may follow what. Must not know: databases, sockets, clocks.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from interlock.lifecycle import EventKind, State

#: Changes of the post within one generation; a takeover begins the next one.
CHANGES = 1_000_000
#: The longest a lease is trusted, less than it was given for: clocks of two machines run at slightly different rates.
MARGIN_SECONDS = 1.0


class Post(NamedTuple):
    """The epoch row in the home's own database."""

    epoch: int = 1
    #: Peers whose acknowledgement an end waits for; none: the home is alone.
    guards: frozenset[int] = frozenset()
    #: Taken over, and not yet told everything that the taker has decided: nothing is begun, nothing ended.
    fenced: bool = False

    @property
    def generation(self) -> int:
        """Number of the last takeover that this region was part of, as home or taker; there is one counter for all."""
        return self.epoch // CHANGES

    def change(self, guards: frozenset[int]) -> "Post":
        """The next post within this generation. Always another epoch, though the guards may be the same."""
        return self._replace(epoch=self.epoch + 1, guards=guards)


class Entry(NamedTuple):
    """What the witness knows of a home. Every change of it makes a new version, and names the one that was read."""

    #: Number of its last takeover. One counter for all homes: whatever is written after a takeover, by whomever,
    #: outranks all that was written before it.
    generation: int = 0
    #: Peers that may take over.
    members: frozenset[int] = frozenset()
    #: The one that has.
    taker: int | None = None
    version: int = 0
    #: The home was given up for good by an operator.
    retired: bool = False


# -- at the witness ---------------------------------------------------------------------------------------------------
#
# Each gives the entry as it is to be, or None where it must not be changed. Whoever calls writes it by
# compare-and-set on the version of the entry that was given.


def removed(entry: Entry, peer: int) -> Entry | None:
    """The entry without a member. Also where it was none: whoever is about to add it must fail."""
    if entry.taker is not None:
        return None
    return entry._replace(members=entry.members - {peer}, version=entry.version + 1)


def added(entry: Entry, peer: int) -> Entry | None:
    """The entry with a member that has everything."""
    if entry.taker is not None:
        return None
    return entry._replace(members=entry.members | {peer}, version=entry.version + 1)


def granted(entry: Entry, own: Entry, taker: int, generation: int) -> Entry | None:
    """The entry after a takeover was granted; only a member is, only one, and none that was taken over itself.

    own: the taker's own entry, held against changes together with the home's. generation: the next number of the one
    counter.
    """
    if entry.taker is not None or taker not in entry.members or own.taker is not None:
        return None
    if generation <= max(entry.generation, own.generation):
        return None
    return entry._replace(generation=generation, taker=taker, version=entry.version + 1)


def returned(entry: Entry, generation: int) -> Entry | None:
    """The entry after the home of a takeover has come back and knows all that was decided."""
    if entry.taker is None or entry.generation != generation or entry.retired:
        return None
    return entry._replace(members=frozenset(), taker=None, version=entry.version + 1)


def retired(entry: Entry) -> Entry | None:
    """The entry of a home that an operator gives up for good: it is never let back. None where that was done before.

    Who may take it over still may, and must: what it had in flight is decided by nobody else.
    """
    return None if entry.retired else entry._replace(retired=True, version=entry.version + 1)


# -- at the home ------------------------------------------------------------------------------------------------------


def may_conclude(post: Post, flushed: Mapping[int, int], position: int) -> bool:
    """Whether the fact may follow an intent that was committed at this position, under the post's epoch.

    flushed: how far each peer has the home's changes on disk.
    """
    return not post.fenced and all(flushed.get(guard, -1) >= position for guard in post.guards)


def may_conclude_by_lease(post: Post, now: float, until: float) -> bool:
    """The same where a route trusts clocks. until: the lease's end, counted from before it was asked for; seconds."""
    return not post.fenced and now < until - MARGIN_SECONDS


def fenced(post: Post, entry: Entry) -> Post | None:
    """The post that a home must take at once because it was taken over; None where it was not, or knows already."""
    if entry.generation <= post.generation:
        return None
    return Post(epoch=entry.generation * CHANGES, guards=frozenset(), fenced=True)


def resumed(post: Post) -> Post:
    """The post of a home that has taken in all that was decided for it."""
    return post._replace(epoch=post.epoch + 1, fenced=False)


class Peer(NamedTuple):
    """What a keeper sees of a peer that is, or could be, a guard."""

    #: It takes in the home's changes without delay.
    healthy: bool
    #: All tables were copied and it follows.
    ready: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove a guard at the witness, then from the post that was read: `removed`, then `Post.change`."""

    peer: int


@dataclass(frozen=True, slots=True)
class Admit:
    """Take a guard in: read the entry, `Post.change`, wait until it has flushed that, then `added` to that entry."""

    peer: int


@dataclass(frozen=True, slots=True)
class Fence:
    """Take the witness's generation into the post: `fenced`."""

    post: Post


@dataclass(frozen=True, slots=True)
class Resume:
    """Everything that was decided is known: leave what is the taker's, `resumed`, then `returned` at the witness."""


Step = Drop | Admit | Fence | Resume


def next_step(
    post: Post, entry: Entry | None, peers: Mapping[int, Peer], wanted: Collection[int], *, informed: bool
) -> Step | None:
    """What a home's keeper does next; None: nothing, or nothing that it may.

    entry: None while the witness cannot be reached: then guards are neither dropped nor taken in.
    wanted: peers that the operator wants as guards. informed: for the generation of the post, the taker's word has come
    that this region may go on.
    """
    if entry is None:
        return None
    post_behind = fenced(post, entry)
    if post_behind is not None:
        return Fence(post_behind)
    if post.fenced or entry.taker is not None:
        # In the latter case it is back, and only the witness was not told yet. An entry that was read before a later
        # takeover tells nothing of that one.
        this_one = entry.generation == post.generation
        return Resume() if informed and this_one and not entry.retired else None
    for guard in sorted(post.guards):
        seen = peers.get(guard)
        if guard not in wanted or seen is None or not seen.healthy:
            return Drop(guard)
    for peer in sorted(wanted):
        seen = peers.get(peer)
        missing = peer not in post.guards or peer not in entry.members
        if missing and seen is not None and seen.healthy and seen.ready:
            return Admit(peer)
    return None


# -- at the taker -----------------------------------------------------------------------------------------------------


def taking(post: Post, generation: int) -> Post:
    """The taker's own post, before it decides anything: what it writes from here on outranks the home's."""
    return post._replace(epoch=max(post.epoch + 1, generation * CHANGES))


def taken(post: Post) -> Post:
    """Its post in the commit that says that all is decided, or that the home is back.

    A new epoch, so that a process that slept since it last looked decides nothing more.
    """
    return post._replace(epoch=post.epoch + 1)


class OnTakeover(NamedTuple):
    """What becomes of a transaction that has no end."""

    event: EventKind
    #: Drive it again at once.
    redrive: bool = False


def verdict(state: State, epoch: int, takeover: int, rule: str) -> OnTakeover | None:
    """What the taker does with a transaction as it has it; None: nothing (it has ended, or is of the home's return).

    epoch: the one that its last event was written under. takeover: the first epoch of the takeover's generation.
    rule: the route's: `cancel`, `redrive` or `hold`.
    """
    if state is State.END or epoch >= takeover:
        return None
    if rule == "hold":
        return OnTakeover(EventKind.TAKEN_OVER_HOLD)
    untouched = state not in (State.ENDING, State.HANDING, State.HANDED, State.HELD_UNKNOWN, State.ACCP)
    return OnTakeover(EventKind.TAKEN_OVER_CANCEL, redrive=rule == "redrive" and untouched)


def takeover_epoch(entry: Entry) -> int:
    """Epoch of the decisions of a takeover."""
    return entry.generation * CHANGES


# -- health -----------------------------------------------------------------------------------------------------------


class Health(NamedTuple):
    """What somebody makes of a peer's answers, one after the other."""

    failures: int = 0
    #: Seconds since it was last heard of.
    silent: float = 0.0

    def heard(self) -> "Health":
        """It has answered."""
        return Health()

    def missed(self, seconds: float) -> "Health":
        """It has not, for another so many seconds."""
        return Health(self.failures + 1, self.silent + seconds)


#: What is shown of a region.
CONDITIONS = ("healthy", "suspect", "dead", "fenced", "rejoining")


def condition(health: Health, *, suspect_after: int, dead_after: int, post_fenced: bool, taken: bool) -> str:
    """One of `CONDITIONS`."""
    if taken:
        return "rejoining" if health.failures == 0 else "fenced"
    if post_fenced:
        return "rejoining"
    if health.failures >= dead_after:
        return "dead"
    return "suspect" if health.failures >= suspect_after else "healthy"
