"""Deliver: what must be told to whom."""

from interlock.iso20022.answers import Answer
from interlock.transaction import Delivery

#: The client fetches its answer itself; the delivery is confirmed once it has.
OUTBOX = "outbox"


def run(answer: Answer | None) -> tuple[Delivery, ...]:
    """The deliveries that an end brings with it."""
    return () if answer is None else (Delivery(channel=OUTBOX),)
