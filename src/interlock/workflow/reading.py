"""Transactions as they are told: their state, history, payments and messages, and the wait for their end.

What was committed here is kept in mind, so that the happy way never asks the store; where other processes write too
the store is asked wherever it matters.

Owns: to whom a transaction is told, and from where. Changes nothing but that an answer was fetched.
"""

import asyncio
from collections.abc import AsyncIterator
from enum import Enum, auto
from typing import NamedTuple
from uuid import UUID

from interlock.apart import NONE_APART, Apart, fold, shown
from interlock.errors import Archived, DependencyError, NoAnswer, UnknownTransaction
from interlock.iso20022.codes import Status
from interlock.lifecycle import State
from interlock.ports import DeliveryUpdate, Page, Query
from interlock.regions.rivals import Rival
from interlock.stages import deliver
from interlock.transaction import Body, BodyKind, DeliveryState, Event, Payment, Transaction
from interlock.workflow.ground import Ground


class Recalled(Enum):
    """What of our memory will do although other processes write too."""

    #: An end and its answer never change; what is said of the transaction besides may.
    END = auto()
    #: Anything, for the commit that follows finds out whether it still stands.
    ANYTHING = auto()


def _is_enough(recalled: Recalled | None, transaction: Transaction) -> bool:
    return recalled is Recalled.ANYTHING or (recalled is Recalled.END and transaction.standing.is_final)


class Answered(NamedTuple):
    """A transaction, and its answer where it has one."""

    transaction: Transaction
    answer: Body | None


class Reading:
    """Tells of transactions."""

    def __init__(self, ground: Ground) -> None:
        """ground: whose transactions these are."""
        self._store = ground.store
        self._journal = ground.journal
        self._memory = ground.memory
        self._traces = ground.traces
        self._now = ground.now

    async def get(self, client: str | None, transaction_id: UUID, recalled: Recalled | None = None) -> Transaction:
        """The present state of a transaction of this client, or of any for None. Raises UnknownTransaction, Archived.

        Another's is as unknown as one that never was. recalled: what is good enough where other processes may have
        changed it; by default only the store's word.
        """
        transaction = self._memory.transaction(transaction_id)
        if transaction is None or (self._store.shared and not _is_enough(recalled, transaction)):
            transaction = await self._journal.read(self._store.get, transaction_id)
        if transaction is None:
            archive = await self._journal.read(self._store.archived, transaction_id)
            if archive is not None:
                raise Archived(f"transactions of that time are in the archive {archive}; interlock archive restore")
        if transaction is None or (client is not None and transaction.client != client):
            raise UnknownTransaction("no such transaction")
        return transaction

    async def find(self, query: Query) -> Page:
        """A page of transactions."""
        return await self._journal.read(self._store.find, query)

    async def history(self, client: str | None, transaction_id: UUID) -> tuple[Event, ...]:
        """Its events, oldest first."""
        await self.get(client, transaction_id)
        return await self._journal.read(self._store.history, transaction_id)

    async def payments(self, client: str | None, transaction_id: UUID) -> tuple[Payment, ...]:
        """Its payments, by ordinal; one that is still open shows the transaction's status."""
        transaction = await self.get(client, transaction_id)
        payments = await self._journal.read(self._store.payments, transaction_id)
        is_ending = transaction.standing.state is State.ENDING
        return shown(transaction, payments, await self.apart(transaction) if is_ending else NONE_APART)

    async def payments_page(
        self, client: str | None, transaction_id: UUID, after: int, limit: int, status: Status | None
    ) -> tuple[Payment, ...]:
        """Some of its payments after an ordinal, as `payments` shows them. status: only those that are shown so."""
        before = await self.get(client, transaction_id)
        while True:
            found = await self._journal.read(self._store.payments_page, transaction_id, after, limit, status)
            transaction = await self.get(client, transaction_id)
            if transaction.standing.state is State.ENDING:  # what of it shows only its history tells
                every = await self.payments(client, transaction_id)
                return tuple(p for p in every if p.ordinal > after and status in (None, p.status))[:limit]
            if transaction.version == before.version:  # else they may be of before or of after
                return shown(transaction, found, NONE_APART)
            before = transaction

    async def message(self, client: str | None, transaction_id: UUID, kind: BodyKind) -> Body:
        """One of its two messages, as it was received or sent. Raises NoAnswer where there is none."""
        transaction = await self.get(client, transaction_id, Recalled.END)
        if kind is BodyKind.OUTBOX and transaction.answer is None:
            raise NoAnswer(f"there is no {kind} message")
        body = self._memory.answer(transaction_id) if kind is BodyKind.OUTBOX else None
        if body is None or (kind is BodyKind.OUTBOX and body.digest != transaction.answer_digest):
            body = await self._journal.read(self._store.message, transaction_id, kind)
        if body is None:
            raise NoAnswer(f"there is no {kind} message")
        return body

    async def collect(self, client: str, transaction_id: UUID) -> Answered:
        """The answer for the client that fetches it; that it has done so is recorded in the background."""
        transaction = await self.get(client, transaction_id, Recalled.END)
        if transaction.answer is None:
            return Answered(transaction, None)
        with self._traces.step("deliver", transaction):
            body = await self.message(client, transaction_id, BodyKind.OUTBOX)
            self.note_collected(transaction_id)
        return Answered(transaction, body)

    def note_collected(self, transaction_id: UUID) -> None:
        """Its client fetches the answer; that is written in the background, once."""
        if self._memory.first_collection(transaction_id):
            update = DeliveryUpdate(
                transaction=transaction_id, channel=deliver.OUTBOX, state=DeliveryState.CONFIRMED, at=self._now()
            )
            self._journal.note(update, failed=lambda: self._memory.uncollect(transaction_id))

    async def parts(self, client: str | None, transaction_id: UUID, kind: BodyKind) -> int:
        """How many parts one of its two messages is kept in; 0: it is kept whole, or there is none."""
        transaction = await self.get(client, transaction_id, Recalled.END)
        is_whole = kind is BodyKind.OUTBOX and self._memory.answer(transaction_id) is not None
        if is_whole or not transaction.standing.is_final:  # what is kept in parts is born with its end
            return 0
        return await self._journal.read(self._store.parts, transaction_id, kind)

    async def streamed(self, transaction_id: UUID, kind: BodyKind, parts: int) -> AsyncIterator[bytes]:
        """One of its messages, part by part."""
        for number in range(1, parts + 1):
            yield await self._journal.read(self._store.part, transaction_id, kind, number)

    # -- the end --

    async def until_end(self, transaction: Transaction, seconds: float) -> Transaction:
        """The transaction once it has ended, or as it stands when the time is up.

        Where the store cannot be asked meanwhile it is told as it is known: what was acknowledged stays so.
        """
        if transaction.standing.is_final or seconds <= 0:
            return transaction
        with self._memory.waiter(transaction.id) as ended:
            # What is in flight here is not asked of the store: should another process end it, that wakes us too.
            present = self._memory.transaction(transaction.id) or await self.known(transaction)
            if not present.standing.is_final:
                await asyncio.wait([ended], timeout=seconds)
        return await self.known(transaction)

    async def known(self, transaction: Transaction) -> Transaction:
        """As it stands, if that can be found out."""
        try:
            return await self.get(None, transaction.id, Recalled.END)
        except DependencyError:
            return transaction

    # -- what decisions are based on --

    async def apart(self, present: Transaction) -> Apart:
        """The payments of it that end by themselves."""
        if present.payments < 2:
            return NONE_APART
        return fold(await self._journal.read(self._store.history, present.id), present)

    async def answer(self, transaction: Transaction) -> Body | None:
        """The answer that its end has, or is to have."""
        if transaction.answer_digest is None:
            return None
        body = self._memory.answer(transaction.id)
        if body is None or body.digest != transaction.answer_digest:
            body = await self._journal.read(self._store.message, transaction.id, BodyKind.OUTBOX)
        assert body is not None  # it was committed with the intent
        return body

    async def rivals(self, transaction: Transaction) -> tuple[Rival, ...]:
        """Others that hold payments of it, in other regions than the one that goes on with it."""
        found = await self._journal.read(self._store.rivals, [transaction.id], transaction.region)
        return found.get(transaction.id, ())

    async def root(self, transaction: Transaction) -> Transaction:
        """The first attempt."""
        while (before := await self.attempt_before(transaction)) is not None:
            transaction = before
        return transaction

    async def attempt_before(self, transaction: Transaction) -> Transaction | None:
        """The one that this one drives again."""
        return None if transaction.redrive_of is None else await self.get(None, transaction.redrive_of)
