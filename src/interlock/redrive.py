"""What may be driven again. Pure.

A redrive is a new transaction over the archived bytes of one that ended without money moving: cancelled, or rejected
for a reason that may not hold the next time. Anything else would double a payment or fail the same way again.

Of several payments it covers those that ended with their transaction. What a consumer has rejected or cancelled by
itself was meant, and stays as it is through all attempts: whoever wants it after all sends it again.
"""

from collections.abc import Collection, Iterable

from interlock.errors import IllegalDecision
from interlock.iso20022 import reasons
from interlock.iso20022.codes import Status
from interlock.transaction import Payment, Transaction


def refuse_unless_drivable(transaction: Transaction) -> None:
    """Raise IllegalDecision, with the reason in words, where this must not be driven again."""
    end = transaction.standing.end
    if not transaction.standing.is_final:
        raise IllegalDecision(f"{transaction.id} has not ended: it is {transaction.standing.status}; cancel it first")
    if end is Status.ACSC:
        raise IllegalDecision(f"{transaction.id} was settled; a second one would be a second payment")
    if transaction.digest is None:
        raise IllegalDecision(f"{transaction.id} never had a message; ask for a new id and send it")
    if not transaction.answer_due or transaction.payments == 0:
        raise IllegalDecision(f"{transaction.id} holds no payments")
    if end is Status.RJCT and not reasons.is_retryable(transaction.reason or ""):
        raise IllegalDecision(
            f"{transaction.id} was rejected with {transaction.reason}, which a second attempt cannot mend; "
            "send a corrected message"
        )


def left_out(payments: Iterable[Payment], apart: Collection[int]) -> tuple[Payment, ...]:
    """The payments that are not driven again.

    apart: those that a decision has ended by themselves, in any attempt. Raises IllegalDecision where none is left.
    """
    known = tuple(payments)
    left = tuple(payment for payment in known if payment.ordinal in apart)
    if left and len(left) == len(known):
        raise IllegalDecision(
            "each of its payments was rejected or cancelled by itself; send again what should go after all"
        )
    return left
