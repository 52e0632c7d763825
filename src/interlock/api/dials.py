"""How far from home a message must be before it counts as taken, and what is told of that."""

from typing import NamedTuple

from interlock.acks import Acks
from interlock.api.exchange import Request
from interlock.api.problems import InvalidRequest
from interlock.errors import NotReplicated
from interlock.routes import Consistency, Fencing, Routes
from interlock.transaction import Transaction

HEADER = b"x-consistency"


class Distance(NamedTuple):
    """What an answer says of the copies that there are."""

    #: Another region has all of the transaction on its disk.
    replicated: bool
    fencing: Fencing


class Dials:
    """The two dials, by route and by call."""

    def __init__(self, acks: Acks, routes: Routes, *, seconds: float, regional: bool) -> None:
        """seconds: how long a consistent call waits for another region."""
        self._acks = acks
        self._routes = routes
        self._seconds = seconds
        #: Whether there are other regions at all.
        self.regional = regional

    def asked(self, request: Request) -> Consistency | None:
        """What the call itself asks for. Raises InvalidRequest."""
        value = request.header(HEADER)
        if value is None:
            return None
        try:
            return Consistency(value.strip().lower())
        except ValueError:
            raise InvalidRequest("the header X-Consistency takes `available` or `consistent`") from None

    async def confirm(self, transaction: Transaction, asked: Consistency | None) -> None:
        """Wait until another region has the transaction too, where that is wanted. Raises NotReplicated."""
        wanted = asked or self._routes.named(transaction.route).consistency
        if wanted is Consistency.AVAILABLE or self._acks.has(transaction):
            return
        if not self.regional:
            raise NotReplicated(f"{transaction.id} is stored, but there is no other region that could confirm it")
        if not (await self._acks.wait_for(transaction, self._seconds) and self._acks.stands(transaction)):
            raise NotReplicated(
                f"{transaction.id} is stored in its region, and no other one has confirmed it in {self._seconds:g} s; "
                "it goes its way: ask for it by its id"
            )

    def distance(self, transaction: Transaction) -> Distance:
        """How far the transaction has come."""
        return Distance(self._acks.has(transaction), self._routes.named(transaction.route).fencing)
