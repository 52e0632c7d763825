"""The server that commands talk to, and how what it says is shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from interlock.cli.printing import emit, fields, table
from interlock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interlock.client import Client, Reason, Transaction


#: Somebody sits before the screen: a server that cannot be reached is told of soon.
_PATIENCE_SECONDS = 5.0


@contextmanager
def connected(url: str, client_id: str, client_secret: str) -> Iterator["Client"]:
    """A client of the server. Raises ConfigError that names everything that is missing."""
    given = {"INTERLOCK_URL": url, "INTERLOCK_CLIENT_ID": client_id, "INTERLOCK_CLIENT_SECRET": client_secret}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise ConfigError(f"set {', '.join(missing)}, or the options of that name; ids: interlock clients add NAME")
    if not url.startswith(("http://", "https://")):
        raise ConfigError("INTERLOCK_URL must begin with http:// or https://")
    from interlock.client import Client

    with Client(url, client_id, client_secret, patience=_PATIENCE_SECONDS) as client:
        yield client


def plain(record: object) -> object:
    """A record as JSON has it."""
    import msgspec

    return msgspec.to_builtins(record)


def show(transaction: "Transaction", *, as_json: bool) -> None:
    """One transaction."""
    if as_json:
        emit(plain(transaction))
        return
    t = transaction
    fields(
        (
            ("transaction", t.transaction_id),
            ("status", status_of(t)),
            ("reason", reason_of(t.reason)),
            ("code", t.transaction_code),
            ("note", t.note),
            ("message", " ".join(part for part in (t.definition, t.message_id) if part)),
            ("reference", t.reference),
            ("route", t.route),
            ("payments", t.payments_count or None),
            ("created", t.created_at.isoformat()),
            ("updated", t.updated_at.isoformat()),
            ("deadline", None if t.deadline is None else f"{t.deadline.at.isoformat()} ({t.deadline.clock})"),
            ("attempt", t.attempt if t.attempt > 1 else None),
            ("redrive of", t.redrive_of),
            ("redriven as", t.redriven_as),
            ("answer", t.answer.definition if t.answer.due else "none is due"),
            ("flagged", "something late or contradictory was recorded" if t.flagged else None),
        )
    )


def status_of(transaction: "Transaction") -> str:
    """Its status, with what holds it."""
    return transaction.status if transaction.held is None else f"{transaction.status} ({transaction.held})"


def reason_of(reason: "Reason | None") -> str:
    """A reason's code and name."""
    if reason is None:
        return ""
    return f"{reason.code} {reason.name}" if reason.name else reason.code


def listing(transactions: "Iterable[Transaction]", *, as_json: bool) -> None:
    """Many transactions: a line each."""
    if as_json:
        for transaction in transactions:
            emit(plain(transaction))
        return
    rows = (
        (
            t.transaction_id,
            status_of(t),
            reason_of(t.reason),
            t.definition,
            t.message_id,
            f"{t.created_at:%Y-%m-%d %H:%M:%S}",
        )
        for t in transactions
    )
    table(("transaction", "status", "reason", "definition", "message", "created"), rows, empty="none found")
