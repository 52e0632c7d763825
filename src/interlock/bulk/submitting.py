"""Submitting a message of many payments: from a file to the one commit with which all of it counts, answered.

Owns: what is refused before anything is put down, what is tried again, and what is taken back. Must not know: HTTP,
SQL, or how a file is read.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from interlock.bulk.frames import Job, Read
from interlock.bulk.taking import BulkSettings, ReadingFailed, Taking
from interlock.clock import Now
from interlock.errors import BodyTooLarge, InterlockError, LeaseLost, StoreUnavailable
from interlock.journal import Journal
from interlock.ports import IdempotencyTaken, KeysTaken, Outcome, Refenced, Stale, Store, Won
from interlock.routes import Route, Routes
from interlock.stages.bulk import Gathered, accept
from interlock.stages.steps import Steps
from interlock.transaction import Body, BodyKind, Change, Deadline, Idempotency, Key, Transaction

#: How often the commit is tried anew; each time others have taken keys of it, or the region's epoch has changed.
_TRIES = 8
#: From the making of its id to its commit: ids are found by time, and may be off by somewhat more than this.
_AGE_MAX = timedelta(minutes=10)


class Means(NamedTuple):
    """What is done with transactions, which is the workflow's."""

    #: Refuses new work of a client on a route. Raises Stopped, TooManyInFlight.
    admit: Callable[[str, Route], None]
    #: Raises Stopped where an operator holds this route or client back, whatever becomes of short messages then.
    refuse_if_held: Callable[[str, Route], None]
    #: Of a client, on a route, with the client's reference.
    newborn: Callable[[str, Route, str | None], Transaction]
    birth: Callable[[Transaction], Steps]
    commit: Callable[[Change], Awaitable[Outcome]]
    #: The transaction for which an idempotency key was used before. Raises DuplicateMismatch.
    again: Callable[[str, IdempotencyTaken, Idempotency], Awaitable[Transaction]]


class Submitting:
    """Takes messages of many payments."""

    def __init__(
        self, store: Store, journal: Journal, routes: Routes, settings: BulkSettings, means: Means, now: Now
    ) -> None:
        self._store = store
        self._journal = journal
        self._routes = routes
        self._settings = settings
        self._means = means
        self._now = now
        self._in_hand: set[Taking] = set()

    def interrupt(self) -> None:
        """Give up what is still being read: its callers are told to try again."""
        for taking in self._in_hand:
            taking.interrupt()

    async def submit(
        self, client: str, path: Path, digest: bytes, *, idempotency_key: str | None, reference: str | None
    ) -> Transaction:
        """The transaction of the message in a file, ended and durable.

        digest: SHA-256 of the file. Raises BodyTooLarge where the message is of a kind that is taken in memory only,
        ReadingFailed, and what taking a short message raises.
        """
        claim = None if idempotency_key is None else Idempotency(key=idempotency_key, digest=digest)
        if claim is not None and (used := await self._journal.read(self._store.idempotent, client, claim.key)):
            return await self._means.again(client, used, claim)
        route = self._routes.choose(client, None)
        self._means.admit(client, route)
        newborn = self._means.newborn(client, route, reference)
        job = self._settings.job(path, client, self._routes, self._now().date())
        outcome = await self._take(newborn, job, claim)
        if isinstance(outcome, IdempotencyTaken):
            assert claim is not None  # only a claim can be taken
            return await self._means.again(client, outcome, claim)
        return outcome

    async def _take(self, newborn: Transaction, job: Job, claim: Idempotency | None) -> Transaction | IdempotencyTaken:
        """Put it down and make it count; what does not count in the end is given up."""
        beginning = asyncio.ensure_future(asyncio.to_thread(self._begin, newborn, job))
        try:
            taking = await asyncio.shield(beginning)
        except asyncio.CancelledError:  # the thread goes on, and what it has begun nobody else would give up
            with contextlib.suppress(InterlockError):
                await asyncio.to_thread((await beginning).close)
            raise
        self._in_hand.add(taking)
        try:
            read = await asyncio.to_thread(taking.read)
            self._refuse_unless_bulk(newborn.client, read)
            return await self._bear(newborn, taking, read, claim)
        finally:
            self._in_hand.discard(taking)
            await asyncio.shield(asyncio.to_thread(taking.close))

    def _begin(self, newborn: Transaction, job: Job) -> Taking:
        stager = self._store.stager(self._journal.token, newborn.id, newborn.client)
        try:
            return Taking(stager, job)
        except OSError as exc:  # no more processes, no memory
            with contextlib.closing(stager):
                stager.give_up()
            raise ReadingFailed("no process could be started to read it; nothing was stored, try again") from exc

    def _refuse_unless_bulk(self, client: str, read: Read) -> None:
        """What would have to wait for somebody is taken in memory only."""
        route = self._routes.choose(client, read.inspection.definition)
        self._means.refuse_if_held(client, route)
        if read.inspection.enquiry is not None:
            raise BodyTooLarge("a request about other messages may not be so long; nothing was stored, split it")
        if read.payments and route.needs_decision(read.largest):
            raise BodyTooLarge(
                f"on route {route.name} consumers decide on it, which so long a message cannot wait for; "
                "nothing was stored, split it"
            )

    async def _bear(
        self, newborn: Transaction, taking: Taking, read: Read, claim: Idempotency | None
    ) -> Transaction | IdempotencyTaken:
        """Commit a transaction for which everything was put down, with its answer."""
        inspection = read.inspection
        route = self._routes.choose(newborn.client, inspection.definition)
        gathered = Gathered(
            inspection=inspection, payments=read.payments, parts=taking.parts, whole=read.whole,
            errors=read.errors, errors_left_out=read.errors_left_out, idempotency=claim,
        )  # fmt: skip
        #: Keys of the message itself; those of its payments are settled where it is put down.
        taken: dict[Key, UUID] = {}
        covers = bool(read.payments) and read.whole is None and inspection.answer is not None and inspection.is_usable
        for _ in range(_TRIES):
            if covers and not taken:
                gathered = await self._answered(newborn, taking, gathered)
            else:
                await asyncio.to_thread(taking.follow)
                gathered = replace(gathered, answer=None)
            self._means.refuse_if_held(newborn.client, route)
            now = self._now()
            if now - newborn.created_at > _AGE_MAX:
                raise ReadingFailed("to read it has taken too long; nothing was stored, try again when less is done")
            # Its clock runs from now on: before, nobody has promised anything.
            deadline = newborn.deadline and Deadline(clock=newborn.deadline.clock, at=now + route.sla)
            steps = self._means.birth(replace(newborn, created_at=now, deadline=deadline))
            change = accept(steps, gathered, route, taken)
            outcome = await self._means.commit(change)
            match outcome:
                case Won():
                    return change.after
                case IdempotencyTaken():
                    return outcome
                case KeysTaken():
                    # Of payments: they are settled anew, and the answer written anew where that changes it.
                    taken = {**taken, **{key: holder for key, holder in outcome.taken if not key.payment}}
                case Refenced():
                    continue
                case Stale():
                    raise LeaseLost("this process was given up while it read; nothing was stored, try again")
        raise StoreUnavailable("others came between too often; nothing was stored, try again")

    async def _answered(self, newborn: Transaction, taking: Taking, gathered: Gathered) -> Gathered:
        """With the answer that covers each payment, put down as they stand now."""
        written = await asyncio.to_thread(taking.write, newborn.id.hex, self._now())
        answer = Body(
            kind=BodyKind.OUTBOX, definition=written.definition, content=b"", digest=written.digest,
            parts=written.pieces,
        )  # fmt: skip
        return replace(gathered, answer=answer, all_refused=written.all_refused)
