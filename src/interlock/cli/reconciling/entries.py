"""Transactions entered in the books: each side from its own source alone, so that the sums can be held together."""

from interlock.cli.reconciling.answers import FAMILIES, OTHERS, Answer, Told
from interlock.cli.reconciling.books import Account, Books, Sum, Tally
from interlock.cli.reconciling.cases import Case
from interlock.iso20022.codes import Status
from interlock.transaction import Payment, Transaction

_TOLD_ENDS = ("ACSC", "RJCT")


def enter(case: Case, books: Books) -> None:
    """Enter a transaction in the books, each side from its own source alone."""
    transaction, client = case.transaction, case.transaction.client
    tally = books.clients.setdefault(client, Tally())
    tally.transactions += 1
    if transaction.standing.status is not None:
        tally.statuses[transaction.standing.status] += 1
    if case.inbox is None:
        tally.without_message += transaction.digest is None
    else:
        _enter_message(case, tally, books)
    for payment in case.kept:
        _side(transaction, payment, books.account(client, payment.currency)).add(payment.amount)
    if case.answer is not None:
        tally.answers[case.answer.family if case.answer.family in (*FAMILIES, *OTHERS) else "other"] += 1
        if not case.message.is_about_others:
            _enter_answer(case, case.answer, books)


def _enter_message(case: Case, tally: Tally, books: Books) -> None:
    again = case.transaction.redrive_of is not None
    tally.messages += not again
    tally.messages_again += again
    tally.unreadable += case.message.definition is None
    tally.without_payments += case.message.definition is not None and not case.message.payments
    accounts: list[Account] = []
    for payment in case.message.payments:
        account = books.account(case.transaction.client, payment.currency)
        (account.again if again else account.sent).add(payment.decimal)
        if not any(account is other for other in accounts):
            accounts.append(account)
    for account in accounts:
        account.messages += not again
        account.messages_again += again


def _side(transaction: Transaction, payment: Payment, account: Account) -> Sum:
    """Where a payment stands; what a transaction that is still open says of its payments can be told to nobody yet."""
    if not transaction.standing.is_final:
        return account.in_flight
    ends = {Status.ACSC: account.settled, Status.RJCT: account.rejected, Status.CANC: account.cancelled}
    return ends.get(payment.status, account.in_flight)


def _enter_answer(case: Case, answer: Answer, books: Books) -> None:
    client, kept = case.transaction.client, case.kept
    told = answer.payments
    if answer.is_rejection:
        told = (Told("RJCT", None, None, {}),) * len(kept)
    for place, one in enumerate(told):
        amount, currency = one.amount, one.currency
        quoted = amount is not None and currency is not None
        if not quoted and len(told) == len(kept):
            amount, currency = kept[place].amount, kept[place].currency
        account = books.account(client, currency)
        if not quoted:
            account.unquoted.add(amount)
        if one.status in _TOLD_ENDS:
            (account.told_settled if one.status == "ACSC" else account.told_rejected).add(amount)
