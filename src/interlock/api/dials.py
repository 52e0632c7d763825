"""How far from home a message must be before it counts as taken, and what is told of that."""

from typing import NamedTuple

from interlock.acks import Acks
from interlock.api.exchange import Request
from interlock.api.problems import InvalidRequest
from interlock.errors import NotReplicated
from interlock.lifecycle import State
from interlock.routes import Consistency, Fencing, Routes
from interlock.transaction import Transaction
from interlock.workflow.concluding import Concluding

HEADER = b"x-consistency"


class Distance(NamedTuple):
    """What an answer says of the copies that there are."""

    #: Another region has all of the transaction on its disk.
    replicated: bool
    fencing: Fencing


class Confirmed(NamedTuple):
    """A transaction as its caller may be told of it."""

    transaction: Transaction
    #: Of the transaction as it is here; None: nothing was waited for, and it is whatever it is when it is told.
    distance: Distance | None


class Dials:
    """The two dials, by route and by call."""

    def __init__(self, concluding: Concluding, acks: Acks, routes: Routes, *, seconds: float, peers: int) -> None:
        """seconds: how long a consistent call waits for other regions. peers: how many there are."""
        self._concluding = concluding
        self._acks = acks
        self._routes = routes
        self._seconds = seconds
        #: Whether there are other regions at all.
        self.regional = peers > 0
        self._peers = peers

    def asked(self, request: Request) -> Consistency | None:
        """What the call itself asks for. Raises InvalidRequest."""
        value = request.header(HEADER)
        if value is None:
            return None
        try:
            wanted = Consistency(value.strip().lower())
        except ValueError:
            names = ", ".join(f"`{each}`" for each in Consistency)
            raise InvalidRequest(f"the header X-Consistency takes one of {names}") from None
        if wanted.copies(self._peers) and not self.regional:
            raise InvalidRequest(
                f"X-Consistency: {wanted} cannot be had: there is one region only. Nothing was stored; leave the "
                "header out, or send `available`"
            )
        return wanted

    async def confirm(self, transaction: Transaction, asked: Consistency | None) -> Confirmed:
        """The transaction once so many other regions have it as are wanted, and none of them the same payments.

        Raises NotReplicated.
        """
        copies = (asked or self._routes.named(transaction.route).consistency).copies(self._peers)
        if not copies:
            return Confirmed(transaction, None)
        there = await self._is_there(transaction, copies)
        if there and _is_undecided(transaction):
            # Whoever has the same payments is seen only once all who could have them have ours.
            there = await self._acks.wait_for_all(transaction, self._seconds)
            transaction = await self._concluding.take_turn(transaction) if there else transaction
            there = there and await self._is_there(transaction, copies)  # it may have given way
        if not there:
            raise NotReplicated(
                f"{transaction.id} is stored in its region, and {copies} wanted of the others have not confirmed it in "
                f"{self._seconds:g} s; it goes its way: ask for it by its id"
            )
        # Not looked up again: it may have gone on meanwhile, and what came then is not there yet.
        return Confirmed(transaction, Distance(True, self._routes.named(transaction.route).fencing))

    async def _is_there(self, transaction: Transaction, copies: int) -> bool:
        if self._acks.has(transaction, copies):
            return True
        return await self._acks.wait_for(transaction, self._seconds, copies) and self._acks.stands(transaction)

    def distance(self, transaction: Transaction) -> Distance:
        """How far the transaction has come."""
        return Distance(self._acks.has(transaction), self._routes.named(transaction.route).fencing)


def _is_undecided(transaction: Transaction) -> bool:
    """Whether it holds payments, and nobody looks for the same in other regions before its end is intended."""
    standing = transaction.standing
    return bool(transaction.payments) and not standing.is_final and standing.state is not State.ENDING
