"""Transactions that rest received or passed: held back by an operator, or because the store failed.

Owns: which of them are this process's to go on with, and whether to look at them again is worth while. Going on is
`resuming.py`'s.
"""

from uuid import UUID

from interlock.lifecycle import State
from interlock.routes import Routes
from interlock.transaction import Transaction
from interlock.workflow.controls import Controls

#: A transaction that rests in one of these is its process's to go on with.
HALF_WAY = (State.ACTC, State.ACSP)


class HalfWay:
    """What rests half-way in this process."""

    def __init__(self, controls: Controls, routes: Routes) -> None:
        """Nothing rests yet."""
        self._controls = controls
        self._routes = routes
        self._resting: dict[UUID, Transaction] = {}
        #: Something may have changed for one of them.
        self.stirred = False

    def stir(self) -> None:
        """Something may have changed for one of them."""
        self.stirred = True

    def is_held(self, transaction: Transaction) -> bool:
        """Whether an operator holds it back."""
        return self._controls.holds(transaction.client, self._routes.named(transaction.route))

    def ready(self) -> list[Transaction]:
        """Those that nobody holds back."""
        return [transaction for transaction in self._resting.values() if not self.is_held(transaction)]

    def keep(self, transaction: Transaction) -> None:
        """It rests here."""
        self._resting[transaction.id] = transaction

    def drop(self, transaction: Transaction) -> None:
        """It went on, or is not this process's to go on with."""
        self._resting.pop(transaction.id, None)

    def clear(self) -> None:
        """Others have all of them."""
        self._resting.clear()

    def note(self, transaction: Transaction) -> None:
        """Note what rests half-way. If nothing holds it back, the operator's order was lifted while it was written."""
        if transaction.standing.state not in HALF_WAY:
            self.drop(transaction)
            return
        self.keep(transaction)
        if not self.is_held(transaction):
            self.stirred = True
