"""Requests about other messages: what is done to the originals before the answer.

Owns: cancelling them, and until when. Which they are is `originals.py`'s to look up; what that means, and what is
answered, `stages/enquire.py`'s to say.
"""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from interlock.decisions import Decision, DecisionKind
from interlock.errors import IllegalDecision, OwnedElsewhere
from interlock.iso20022.original import Original
from interlock.journal import Journal
from interlock.ports import Store
from interlock.selection import Selector
from interlock.stages import enquire
from interlock.stages.cancelling import Cancel
from interlock.stages.enquire import Outcome
from interlock.stages.matching import Entry, Facts
from interlock.transaction import Transaction
from interlock.workflow.originals import Abroad, ComeAgain, Means, Originals

#: How long a request waits at a time for what it has cancelled: whoever takes it up has others to go on with.
PATIENCE_SECONDS = 0.5
#: How often it is decided anew after what was found has moved.
_TRIES = 8
#: How many originals are cancelled at a time.
_AT_ONCE = 16
#: So long before its time is over a request cancels nothing more: whoever answers it then finds what is so for good.
_MARGIN = timedelta(seconds=15)


class Enquiries:
    """Looks up and cancels on behalf of requests."""

    def __init__(self, store: Store, journal: Journal, means: Means) -> None:
        self._originals = Originals(store, journal, means)
        self._means = means
        #: How other regions are asked about what they go on with; None: they cannot be from here.
        self.abroad: Abroad | None = None

    async def outcome(self, request: Transaction, original: Original, seconds: float) -> Outcome | None:
        """What is answered, once all that was to be cancelled is; None where that is not known in time.

        seconds: how long the request may wait for what it cancels. Once its own time is over it is answered with what
        was done until then.
        """
        lost: set[UUID] = set()
        if request.deadline is not None and request.deadline.at <= self._means.now():
            return enquire.run(original, await self._originals.facts(request, original, lost, late=True))
        done: tuple[Cancel, ...] = ()
        try:
            for _ in range(_TRIES):
                facts = await self._originals.facts(request, original, lost)
                outcome = enquire.run(original, facts)
                if not outcome.cancels and not outcome.waits:
                    return outcome
                known = {entry.transaction.id: entry.transaction for entry in _entries(facts)}
                if outcome.cancels and outcome.cancels == done:
                    self._await_word(request, [known[one.transaction] for one in done], lost)
                done = outcome.cancels
                wanted = [one for one in done if one.transaction not in lost]
                for start in range(0, len(wanted), _AT_ONCE):
                    if request.deadline is not None and request.deadline.at - _MARGIN <= self._means.now():
                        return None
                    some = wanted[start : start + _AT_ONCE]
                    told = await asyncio.gather(*(self._cancel(request.client, cancel) for cancel in some))
                    lost.update(cancel.transaction for cancel, said in zip(some, told, strict=True) if not said)
                # What was cancelled here has ended, or is about to; what was elsewhere ends here when it has come.
                whole = (one.transaction for one in outcome.cancels if one.payments is None)
                abroad = (id_ for id_ in whole if not self._means.is_ours(known[id_]))
                for id_ in (*outcome.waits[:1], *abroad):
                    if id_ not in lost:
                        await self._await_end(request, known[id_], seconds, lost)
        except ComeAgain:
            return None
        return None

    def _await_word(self, request: Transaction, cancelled: Iterable[Transaction], lost: set[UUID]) -> None:
        """What was cancelled just now shows no end yet: come again, or give up what another region does not tell."""
        for one in cancelled:
            if self._means.is_ours(one):
                raise ComeAgain
            self._originals.be_patient(request)
            lost.add(one.id)

    async def _cancel(self, client: str, cancel: Cancel) -> bool:
        """False where another region goes on with it and cannot be asked."""
        some = None if cancel.payments is None else tuple(Selector(ordinal=one) for one in cancel.payments)
        decision = Decision(
            kind=DecisionKind.CANCEL, actor=client, reason=cancel.reason, note=cancel.note, payments=some
        )
        try:
            await self._means.decide(client, cancel.transaction, decision)
        except IllegalDecision:
            return True  # it has moved: what it is now the next look tells
        except OwnedElsewhere as exc:
            return self.abroad is not None and await self.abroad.cancel(exc.region, client, cancel)
        return True

    async def _await_end(self, request: Transaction, transaction: Transaction, seconds: float, lost: set[UUID]) -> None:
        if (await self._means.until_end(transaction, seconds)).standing.is_final:
            return
        if self._means.is_ours(transaction):
            raise ComeAgain
        self._originals.be_patient(request)
        lost.add(transaction.id)


def _entries(facts: Facts) -> Iterable[Entry]:
    return (entry for entries in facts.entries.values() for entry in entries)
