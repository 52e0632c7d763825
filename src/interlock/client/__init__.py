"""The Python client, sync and async.

    from interlock.client import Client

    with Client("http://127.0.0.1:8080", client_id, client_secret) as interlock:
        transaction = interlock.submit(Path("payment.xml").read_bytes(), wait=5)
        if transaction.held == "decision":
            transaction = interlock.accept(transaction.transaction_id, by="alice")
        print(transaction.status, transaction.reason)
        print(interlock.answer(transaction.transaction_id).decode())

`AsyncClient` has the same methods, to be awaited. Tokens are fetched and renewed by themselves. A call is tried again
while the server is busy, restarting or out of reach, up to `patience` seconds, and that never sends a payment twice.
What goes wrong is raised as one of `interlock.errors`, by the code that the server gave; `problem_of` has the rest.
"""

from interlock.client.drivers import AsyncClient, Client
from interlock.client.flows import problem_of
from interlock.client.records import (
    AnswerState,
    Deadline,
    DecisionKind,
    Event,
    Filter,
    Finding,
    MessageKind,
    Page,
    Payment,
    PaymentName,
    PaymentPage,
    Problem,
    Reason,
    Redrive,
    Redrives,
    Transaction,
    Validation,
)

__all__ = [
    "AnswerState",
    "AsyncClient",
    "Client",
    "Deadline",
    "DecisionKind",
    "Event",
    "Filter",
    "Finding",
    "MessageKind",
    "Page",
    "Payment",
    "PaymentName",
    "PaymentPage",
    "Problem",
    "Reason",
    "Redrive",
    "Redrives",
    "Transaction",
    "Validation",
    "problem_of",
]
