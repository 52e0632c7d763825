"""What must hold, looked at after every step that could break it; DESIGN's promises in the simulated world's words."""

from uuid import UUID

from msgspec import Struct

from interlock import lifecycle
from interlock.apart import Apart
from interlock.iso20022.codes import Status
from interlock.lifecycle import Standing
from interlock.regions.rules import Entry, Post
from interlock.transaction import Change, Event, Payment, Transaction


class Broken(AssertionError):
    """A promise was broken; says which, and by what."""


class Acknowledged(Struct, frozen=True):
    """What a client was told to be safe."""

    region: int
    #: It was told that all guards have it.
    consistent: bool


class End(Struct, frozen=True):
    """The end of a transaction, and its answer's digest."""

    status: Status
    digest: bytes | None


class Promises:
    """Remembers what was promised, and compares."""

    def __init__(self) -> None:
        self.acknowledged: dict[UUID, Acknowledged] = {}
        self.ends: dict[UUID, tuple[End, int]] = {}
        self._told: dict[UUID, bytes | None] = {}
        #: By transaction and ordinal.
        self._ends_of_payments: dict[tuple[UUID, int], Status] = {}
        #: By payment, the attempts that settled.
        self._settled: dict[str, list[UUID]] = {}
        #: Payments that settled twice where that was not excluded: flagged, no promise broken.
        self.doubles = 0

    def acknowledge(self, transaction: Transaction, *, consistent: bool) -> None:
        """A client is told that a transaction is safe."""
        before = self.acknowledged.get(transaction.id)
        safe = consistent or (before is not None and before.consistent)
        home = transaction.region if before is None else before.region
        self.acknowledged[transaction.id] = Acknowledged(home, safe)
        for attempts in self._settled.values():
            if transaction.id in attempts:
                self._look_for_doubles(attempts)

    def committed(
        self,
        change: Change,
        before: tuple[Standing, int, Apart],
        payment: str | None,
        payments: tuple[Payment, ...],
    ) -> None:
        """A change was won: its events lead from where the transaction stood to where it stands, and no end is another.

        before: standing and version that it was decided on, and what of it had ended by itself. payments: all that it
        has, as they are now.
        """
        after = change.after
        self._folds(change.events, before, after)
        for one in payments:
            if one.status.is_final:
                end = self._ends_of_payments.setdefault((after.id, one.ordinal), one.status)
                if end is not one.status:
                    raise Broken(f"one end: payment {one.ordinal} of {name(after.id)} ended {end} and {one.status}")
        if after.standing.is_final and not before[0].is_final:
            self._ended(after, payment)

    def _folds(self, events: tuple[Event, ...], before: tuple[Standing, int, Apart], after: Transaction) -> None:
        standing, version, apart = before
        for event in events:
            version += 1
            kind = event.because or event.kind
            step = lifecycle.apply(standing, kind, alone=event.because is not None, cancelled=apart.cancelled)
            if event.seq != version or step.standing != event.standing:
                raise Broken(f"history: event {event.seq} {event.kind} does not follow what was before it")
            standing, apart = event.standing, apart.then(event)
        if (standing, version) != (after.standing, after.version):
            raise Broken("history: the row is not the fold of its events")

    def _ended(self, after: Transaction, payment: str | None) -> None:
        assert after.standing.end is not None  # it is final
        end = End(after.standing.end, after.answer_digest)
        first, region = self.ends.setdefault(after.id, (end, after.region))
        if first.status is not end.status:
            raise Broken(
                f"one end: {name(after.id)} ended {first.status} in region {region} "
                f"and {end.status} in region {after.region}"
            )
        if first.digest != end.digest:
            raise Broken(f"one answer: {name(after.id)} has another in region {after.region} than in region {region}")
        if payment is not None and end.status is Status.ACSC:
            attempts = self._settled.setdefault(payment, [])
            if after.id not in attempts:
                attempts.append(after.id)
                self._look_for_doubles(attempts)

    def _look_for_doubles(self, attempts: list[UUID]) -> None:
        if len(attempts) < 2:
            return
        sure = [id_ for id_ in attempts if id_ in self.acknowledged and self.acknowledged[id_].consistent]
        if len(sure) > 1:
            shown = " and ".join(name(id_) for id_ in sure)
            raise Broken(
                f"no live attempt twice: {shown} are one payment, both acknowledged as consistent, both settled"
            )
        self.doubles += 1

    def told(self, transaction: Transaction, content: bytes | None) -> None:
        """A client reads an end; content: of its answer."""
        assert transaction.standing.end is not None  # it is final
        known = self.ends.get(transaction.id)
        if known is None or known[0].status is not transaction.standing.end:
            raise Broken(f"one end: {name(transaction.id)} is shown as {transaction.standing.end}, which is no fact")
        if self._told.setdefault(transaction.id, content) != content:
            raise Broken(f"one answer: {name(transaction.id)} is answered with other bytes than before")

    def guarded(self, home: int, entry: Entry, post: Post) -> None:
        """Members are among the guards, unless a takeover was granted."""
        if entry.taker is None and entry.generation <= post.generation and not entry.members <= post.guards:
            raise Broken(
                f"members are guards: {sorted(entry.members)} may take over region {home}, "
                f"which waits for {sorted(post.guards)}"
            )

    def kept(self, id_: UUID, present: Transaction | None, where: str) -> None:
        """Something acknowledged is looked for."""
        if present is None:
            raise Broken(f"nothing acknowledged is lost: {name(id_)} is not {where}")


def name(id_: UUID) -> str:
    """How traces call a transaction."""
    return f"#{id_.int >> 8:x}.{id_.int & 0xFF}"
