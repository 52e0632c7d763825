"""What traces show of a transaction's way; next to nothing is done while nobody traces.

Owns: which of a transaction's fields a span tells. How spans are made is `tracing.py`'s.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from interlock.transaction import Transaction

if TYPE_CHECKING:
    from interlock.tracing import Tracing

#: Around a step while nobody traces.
_UNSEEN = nullcontext()


def told(transaction: Transaction) -> dict[str, str | int]:
    """What traces show of a transaction; nothing personal is among it."""
    shown = {
        "interlock.client": transaction.client,
        "interlock.status": transaction.standing.status,
        "interlock.reason": transaction.reason,
        "interlock.definition": transaction.definition,
    }
    return {name: value for name, value in shown.items() if value is not None}


class Traces:
    """Shows steps of transactions to whoever traces."""

    def __init__(self) -> None:
        """Nobody traces yet."""
        #: Told of the steps of a message; None: nobody traces.
        self.tracing: Tracing | None = None

    def step(self, name: str, transaction: Transaction) -> AbstractContextManager[object]:
        """Around a step that is shown in traces."""
        if self.tracing is None:
            return _UNSEEN
        return self.tracing.step(name, transaction.id, told(transaction))
