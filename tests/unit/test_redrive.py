from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from interlock import redrive
from interlock.errors import IllegalDecision
from interlock.iso20022.codes import Status
from interlock.lifecycle import Standing, State
from interlock.transaction import Transaction

AT = datetime(2026, 1, 1, tzinfo=UTC)


def ended(end: Status, reason: str | None = None, **fields: Any) -> Transaction:
    whole: dict[str, Any] = {
        "id": UUID(int=1), "client": "c", "region": 0, "route": "r", "version": 3, "created_at": AT, "updated_at": AT,
        "standing": Standing(State.END, end, end), "reason": reason, "digest": b"d" * 32, "payments": 1,
        "deadline": None, **fields,
    }  # fmt: skip
    return Transaction(**whole)


@pytest.mark.parametrize(
    "transaction",
    [
        ended(Status.CANC, "DS02"),
        ended(Status.CANC, "AB10"),
        ended(Status.CANC),
        ended(Status.CANC, "AC04"),
        ended(Status.RJCT, "AB05"),
        ended(Status.RJCT, "AB06"),
        ended(Status.RJCT, "AB06", attempt=7),
        ended(Status.RJCT, "ED06", payments=500),
    ],
)
def test_what_may_do_better_is_driven_again(transaction: Transaction) -> None:
    """Whatever was cancelled, and what was rejected because of a moment or a machine."""
    redrive.refuse_unless_drivable(transaction)


@pytest.mark.parametrize(
    ("transaction", "says"),
    [
        (ended(Status.ACSC), "settled"),
        (ended(Status.RJCT, "AC04"), "AC04"),
        (ended(Status.RJCT, "FF01"), "FF01"),
        (ended(Status.RJCT, "AM05"), "AM05"),
        (ended(Status.RJCT, "FRAD"), "FRAD"),
        (ended(Status.RJCT, None), "rejected"),
        (ended(Status.CANC, "DS02", digest=None), "never had a message"),
        (ended(Status.RJCT, "AB06", digest=None), "never had a message"),
        (ended(Status.CANC, "DS02", payments=0), "no payments"),
        (ended(Status.CANC, "DS02", answer_due=False), "no payments"),
    ],
)
def test_what_would_double_or_fail_again_is_refused(transaction: Transaction, says: str) -> None:
    """A settled payment, a reason that a second attempt cannot mend, nothing to drive; it says which."""
    with pytest.raises(IllegalDecision, match=says):
        redrive.refuse_unless_drivable(transaction)


@pytest.mark.parametrize("state", [state for state in State if state not in (State.END, State.NONE)])
def test_what_has_not_ended_is_refused(state: State) -> None:
    """Also where an end is intended, or nobody knows whether the payment went through."""
    status = Status.PDNG if state.value.startswith("PDNG") else Status.ACSP
    end = Status.CANC if state is State.ENDING else None
    with pytest.raises(IllegalDecision, match="has not ended"):
        redrive.refuse_unless_drivable(ended(Status.CANC, "DS02", standing=Standing(state, status, end)))
