"""Lets the stages go on with a transaction, whatever comes of it: a message that was taken is never lost to a mistake.

Owns: what becomes of a message over which a stage, or its inspection, failed.
"""

from collections.abc import Callable

import structlog

from interlock.stages import way
from interlock.stages.steps import Steps
from interlock.stages.way import Arrival
from interlock.transaction import Change

_log = structlog.get_logger()


def advance(begin: Callable[[], Steps], arrival: Arrival) -> Change:
    """The stages' change; where they fail by our own mistake the message is kept and held for an operator."""
    failure = arrival.inspection.failure
    if failure is not None:
        return way.fault(begin(), arrival, f"the message could not be inspected: {failure}")
    steps = begin()
    try:
        return way.advance(steps, arrival, steps.now)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the message must not be lost
        _log.exception("stage failed", transaction=str(steps.transaction.id))
        return way.fault(begin(), arrival, f"a stage failed: {type(exc).__name__}")
