"""`interlock send`, `status`, `decide` and `redrive`: transactions, over a server."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from interlock.cli.connection import connected, listing, plain, reason_of, show, status_of
from interlock.cli.exits import Exit
from interlock.cli.options import DEFAULT_URL, AsJson, ClientId, ClientSecret, Url
from interlock.cli.printing import complain, console, emit, say, table
from interlock.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from interlock.client import Client, Event, Filter, PaymentName, Redrive, Transaction

TransactionId = Annotated[str, typer.Argument(metavar="ID", help="Id of the transaction.", show_default=False)]
Note = Annotated[str | None, typer.Option(help="Why, in words; without personal data.", show_default=False)]
Payments = Annotated[
    list[str] | None,
    typer.Option(
        "--payment",
        metavar="WHICH",
        help="Only this payment: its ordinal, or NAME=VALUE, where NAME is uetr, end_to_end_id, transaction_reference "
        "or instruction_id; may be repeated. With reject and cancel.",
        show_default=False,
    ),
]
By = Annotated[str | None, typer.Option(help="The person or application that decides.", show_default=False)]
#: What `--filter` takes: the names that the client's `find` has, but for its paging.
FILTERS = (
    "status", "held", "flagged", "uetr", "message_id", "end_to_end_id", "transaction_reference", "reference", "client",
    "since", "until",
)  # fmt: skip
#: What `--payment` takes besides an ordinal.
PAYMENT_NAMES = ("uetr", "end_to_end_id", "transaction_reference", "instruction_id")
#: Of the largest that the server takes.
_ORDINAL_DIGITS_MAX = 10
_REDRIVES_AT_ONCE = 100
Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="NAME=VALUE", help=f"Which ones; may be repeated. {', '.join(FILTERS)}."),
]


class Decision(StrEnum):
    """What can be decided."""

    ACCEPT = "accept"
    REJECT = "reject"
    CANCEL = "cancel"
    RETRY = "retry"


def send(
    files: Annotated[list[Path], typer.Argument(help="Messages, one transaction each.", show_default=False)],
    *,
    wait: Annotated[float, typer.Option(help="Seconds to wait for each end.")] = 5.0,
    reference: Annotated[str | None, typer.Option(help="What you call it.", show_default=False)] = None,
    url: Url = DEFAULT_URL,
    client_id: ClientId = "",
    client_secret: ClientSecret = "",
    as_json: AsJson = False,
) -> None:
    """Send messages and show what became of them.

    Exit code 0 if none was rejected; 2 if one was, or could not be read or sent.
    """
    bad = False
    sent: list[tuple[Path, Transaction]] = []
    with connected(url, client_id, client_secret) as client:
        for file in _progress(files, as_json=as_json):
            transaction = _send(client, file, wait=wait, reference=reference)
            if transaction is None or transaction.status == "RJCT":
                bad = True
            if transaction is not None and as_json:
                emit({"file": str(file), **cast("dict[str, object]", plain(transaction))})
            elif transaction is not None:
                sent.append((file, transaction))
    if not as_json:
        rows = [(file, t.transaction_id, status_of(t), reason_of(t.reason), t.note) for file, t in sent]
        table(("file", "transaction", "status", "reason", "note"), rows, empty="nothing was sent")
    raise typer.Exit(Exit.INVALID if bad else Exit.OK)


def _send(client: "Client", file: Path, *, wait: float, reference: str | None) -> "Transaction | None":
    """One file; None where it could not be sent, which was told. Errors that meet the others too are raised."""
    try:
        return client.submit(file.read_bytes(), wait=wait, reference=reference)
    except OSError as exc:
        complain(f"{file} cannot be read: {exc.strerror or exc}")
    except RequestError as exc:
        complain(f"{file}: {exc}")
    return None


def _progress(files: "Sequence[Path]", *, as_json: bool) -> "Sequence[Path]":
    """The files, with a bar at a terminal where there are many."""
    out = console(stderr=True)
    if as_json or len(files) < 3 or not out.is_terminal:
        return files
    from rich.progress import track

    return cast("Sequence[Path]", track(files, description="sending", console=out, transient=True))


def status(
    transaction_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the transaction; all without one.", show_default=False)
    ] = None,
    *,
    filters: Filters = None,
    limit: Annotated[int, typer.Option(min=1, help="Most transactions shown.")] = 50,
    answer: Annotated[bool, typer.Option("--answer", help="Print the answer message and nothing else.")] = False,
    url: Url = DEFAULT_URL,
    client_id: ClientId = "",
    client_secret: ClientSecret = "",
    as_json: AsJson = False,
) -> None:
    """Show one transaction, or list the newest that match."""
    with connected(url, client_id, client_secret) as client:
        if transaction_id is None:
            if answer:
                raise RequestError("--answer needs the id of a transaction")
            listing(_some(client, _filter(filters), limit), as_json=as_json)
        elif answer:
            sys.stdout.buffer.write(client.answer(transaction_id))
        else:
            _show_one(client, transaction_id, as_json=as_json)


def _some(client: "Client", chosen: "Filter", limit: int) -> "list[Transaction]":
    from itertools import islice

    chosen["limit"] = min(limit, 100)
    return list(islice(client.find(**chosen), limit))


def _filter(given: list[str] | None) -> "Filter":
    """The filter that was typed. Raises RequestError for a name that there is not."""
    chosen: dict[str, str | list[str]] = {}
    for item in given or ():
        name, sign, value = item.partition("=")
        if not sign or name not in FILTERS:
            raise RequestError(f"--filter takes NAME=VALUE, where NAME is one of {', '.join(FILTERS)}")
        chosen[name] = value.split(",") if name == "status" else value
    return cast("Filter", chosen)


def _show_one(client: "Client", transaction_id: str, *, as_json: bool) -> None:
    transaction, events = client.status(transaction_id), client.events(transaction_id)
    if as_json:
        emit({**cast("dict[str, object]", plain(transaction)), "events": plain(events)})
        return
    show(transaction, as_json=False)
    if transaction.payments:
        _show_payments(transaction)
    history = [(f"{e.at:%H:%M:%S.%f}", _what(e), e.status, e.actor, reason_of(e.reason), e.note) for e in events]
    say("")
    table(("time", "event", "status", "by", "reason", "note"), history, empty="")


def _show_payments(transaction: "Transaction") -> None:
    rows = [
        (p.ordinal, p.end_to_end_id, p.uetr, p.amount, p.currency, p.status, reason_of(p.reason))
        for p in transaction.payments
    ]
    say("")
    table(("payment", "end-to-end id", "UETR", "amount", "currency", "status", "reason"), rows, empty="")


def _what(event: "Event") -> str:
    return event.event if event.because is None else f"{event.event} ({event.because})"


def decide(  # noqa: PLR0913 - the options of a command
    transaction_id: TransactionId,
    decision: Annotated[Decision, typer.Argument(help="What you decide.", show_default=False)],
    *,
    payments: Payments = None,
    reason: Annotated[
        str | None, typer.Option(help="ISO reason code; a rejection needs one.", show_default=False)
    ] = None,
    note: Note = None,
    by: By = None,
    url: Url = DEFAULT_URL,
    client_id: ClientId = "",
    client_secret: ClientSecret = "",
    as_json: AsJson = False,
) -> None:
    """Accept, reject or cancel all or some payments.

    Accept and reject what waits for your decision; cancel what was not released; retry, an operator's, what was held
    after a fault. Payments that are rejected or cancelled by themselves end at once, the others go on.
    """
    chosen = None if payments is None else [_payment(text) for text in payments]
    with connected(url, client_id, client_secret) as client:
        decided = client.decide(transaction_id, decision.value, payments=chosen, reason=reason, note=note, by=by)
        show(decided, as_json=as_json)
        if decided.payments and not as_json:
            _show_payments(decided)


def _payment(text: str) -> "PaymentName":
    """Which payment was typed. Raises RequestError."""
    name, sign, value = text.partition("=")
    if sign and name in PAYMENT_NAMES:
        return {name: value}
    if text.isascii() and text.isdecimal() and len(text) <= _ORDINAL_DIGITS_MAX:
        return int(text)
    raise RequestError(f"--payment takes an ordinal, or NAME=VALUE, where NAME is one of {', '.join(PAYMENT_NAMES)}")


def redrive(
    transaction_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the transaction.", show_default=False)
    ] = None,
    *,
    filters: Filters = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --filter: only say which they are.")] = False,
    by: By = None,
    url: Url = DEFAULT_URL,
    client_id: ClientId = "",
    client_secret: ClientSecret = "",
    as_json: AsJson = False,
) -> None:
    """Drive a transaction again, or all that match.

    That is possible after a cancel, and after a rejection for a reason that may be gone, such as a time-out.
    """
    if (transaction_id is None) == (not filters):
        raise RequestError("give the id of a transaction, or --filter, and not both")
    with connected(url, client_id, client_secret) as client:
        if transaction_id is None:
            _show_redrives(
                _redrives(client, _filter(filters), dry_run=dry_run, by=by), dry_run=dry_run, as_json=as_json
            )
        elif dry_run:
            raise RequestError("--dry-run goes with --filter; `interlock status ID` shows one transaction")
        else:
            show(client.redrive(transaction_id, by=by), as_json=as_json)


def _redrives(client: "Client", chosen: "Filter", *, dry_run: bool, by: str | None) -> "Iterator[Redrive]":
    """All that match, page by page."""
    chosen["limit"] = _REDRIVES_AT_ONCE
    while True:
        page = client.redrive_all(dry_run=dry_run, by=by, **chosen)
        yield from page.results
        if page.next is None:
            return
        chosen["cursor"] = page.next


def _show_redrives(redrives: "Iterator[Redrive]", *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        for one in redrives:
            emit(plain(one))
        return
    rows = [(one.transaction_id, one.outcome, one.redriven_as, one.detail) for one in redrives]
    table(("transaction", "outcome", "driven again as", "note"), rows, empty="none match")
    if dry_run:
        say("This was a dry run: nothing was driven again.")
