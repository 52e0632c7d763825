"""Several events of one transaction on their way into one change.

`Steps` asks the lifecycle for each of them where it leads, numbers them, and keeps the present state in step.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from interlock import lifecycle
from interlock.apart import NONE_APART, Apart
from interlock.lifecycle import Effect, EventKind
from interlock.transaction import Event, PaymentEnd, Transaction

INTERLOCK = "interlock"


class Steps:
    """Collects events; `now` and `alone` (no peer can take over) hold for all of them."""

    def __init__(
        self,
        transaction: Transaction,
        now: datetime,
        *,
        alone: bool = True,
        epoch: int | None = None,
        region: int | None = None,
        apart: Apart = NONE_APART,
    ) -> None:
        """Nothing has happened yet.

        epoch: of the region now; None: the transaction's. region: the one that takes the steps; another than the
        transaction's own writes a row of its own. apart: payments that have ended by themselves, or are to.
        """
        self._read = transaction.version
        if region is not None and region != transaction.region:
            transaction, self._read = replace(transaction, region=region, own_version=0), transaction.own_version
        if epoch is not None and epoch != transaction.epoch:
            transaction = replace(transaction, epoch=epoch)
        self._events: list[Event] = []
        self.now = now
        self._alone = alone
        self.transaction = transaction
        self._apart_before = self.apart = apart
        #: One of the steps has decided an end; it is a fact with them where the transaction is final.
        self.ends = False

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened, in order."""
        return tuple(self._events)

    @property
    def read(self) -> int:
        """The version that the change was decided on."""
        return self._read

    @property
    def ended(self) -> tuple[PaymentEnd, ...]:
        """Payments whose own end has become a fact with these steps."""
        return self.apart.facts_since(self._apart_before)

    def take(
        self,
        kind: EventKind,
        *,
        actor: str = INTERLOCK,
        reason: str | None = None,
        code: str | None = None,
        note: str | None = None,
        detail: Mapping[str, object] | None = None,
        **changes: Any,
    ) -> None:
        """Add an event; `changes` are fields of the transaction that change with it.

        Raises IllegalTransition: callers ask `lifecycle.judge` first where the world may say no.
        """
        before = self.transaction
        step = lifecycle.apply(before.standing, kind, alone=self._alone, cancelled=self.apart.cancelled)
        recorded = self._recorded(kind, step)
        self.ends |= step.effect is Effect.END
        version = before.version + 1
        self._events.append(
            Event(
                seq=version,
                kind=recorded,
                because=None if recorded is kind else kind,
                at=self.now,
                actor=actor,
                standing=step.standing,
                reason=reason,
                code=code,
                note=note,
                detail=detail or {},
                epoch=before.epoch,
            )
        )
        self.apart = self.apart.then(self._events[-1])
        if step.effect in (Effect.GO, Effect.END):
            changes.update(reason=reason, code=code, note=note)
        if step.effect in (Effect.FLAG, Effect.INCIDENT):
            changes["flagged"] = True
        if step.standing.is_final:
            changes.update(deadline=None, sla_left=None)
        self.transaction = replace(before, standing=step.standing, version=version, updated_at=self.now, **changes)

    def _recorded(self, kind: EventKind, step: lifecycle.Step) -> EventKind:
        """What is recorded: of an intent that is a fact at once, the fact."""
        match step.effect:
            case Effect.END if step.standing.is_final:
                return EventKind.ENDED
            case Effect.APART if self._alone:
                return EventKind.PAYMENTS_ENDED
            case _:
                return kind
