"""Operators' orders to stop and resume routes and clients, and what new work is refused for.

Owns: which orders stand, and what one process may have in flight. Going on with what an order has held back is
`resuming.py`'s.
"""

from collections.abc import Callable

from interlock.errors import Stopped, TooManyInFlight
from interlock.ports import Control, ControlScope
from interlock.routes import Route, WhenStopped
from interlock.workflow.ground import Ground


class Controls:
    """The orders that stand, as this process knows them."""

    def __init__(self, ground: Ground, in_flight_max: int) -> None:
        """in_flight_max: transactions without an end that one client may have."""
        self._store = ground.store
        self._journal = ground.journal
        self._memory = ground.memory
        self._in_flight_max = in_flight_max
        self._orders: dict[tuple[ControlScope, str], Control] = {}
        #: How many of them were given at this process.
        self._given = 0
        #: Called when what was stopped is not any more.
        self.on_lifted: Callable[[], None] = lambda: None

    @property
    def orders(self) -> tuple[Control, ...]:
        """Those that stand."""
        return tuple(self._orders.values())

    async def look(self) -> None:
        """Read again what other processes were ordered."""
        given = self._given
        orders = await self._journal.look(self._store.controls)
        if given == self._given:  # else one was given here while we read, and the next look will do
            for order in orders:
                self._obey(order)

    async def give(self, order: Control) -> None:
        """Stop or resume a route or client."""
        await self._journal.commit(order, lambda _: self._take(order))

    def _take(self, order: Control) -> None:
        self._given += 1
        self._obey(order)

    def _obey(self, order: Control) -> None:
        before = self._orders.get((order.scope, order.name))
        self._orders[order.scope, order.name] = order
        if before is not None and before.stopped and not order.stopped:
            self.on_lifted()

    def holds(self, client: str, route: Route) -> bool:
        """Whether an operator holds this client or route back."""
        orders = (
            self._orders.get((ControlScope.ROUTE, route.name)),
            self._orders.get((ControlScope.CLIENT, client)),
        )
        return any(order is not None and order.stopped for order in orders)

    # -- admission --

    def admit(self, client: str, route: Route) -> None:
        """Refuse new work before it costs anything. Raises Stopped, TooManyInFlight."""
        self.refuse_if_stopped(client, route)
        if self._memory.in_flight[client] >= self._in_flight_max:
            raise TooManyInFlight(f"{self._in_flight_max} transactions are in flight; wait for some to end")

    def refuse_if_stopped(self, client: str, route: Route) -> None:
        """Raises Stopped where this client or route is held back, and the route refuses then."""
        if route.when_stopped is WhenStopped.REFUSE:
            self.refuse_if_held(client, route)

    def refuse_if_held(self, client: str, route: Route) -> None:
        """Raises Stopped where this client or route is held back, whatever the route does then."""
        if self.holds(client, route):
            raise Stopped("an operator has stopped this route or client; nothing was stored, try again later")
