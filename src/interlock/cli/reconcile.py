"""`interlock reconcile`: a period's messages in against answers out, for the back office."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile, DataFolder
from interlock.cli.printing import complain, console, emit, say, table
from interlock.cli.service import effective
from interlock.cli.upkeep import present
from interlock.errors import RequestError

if TYPE_CHECKING:
    from interlock.cli.reconciling import Difference
    from interlock.cli.reconciling.books import Account, Books, Sum, Tally
    from interlock.ports import Store

#: Differences that the JSON object lists; the rest are counted.
_LISTED_MAX = 100_000
#: Years that can be asked for.
_YEARS = range(2000, 2100)


def reconcile(
    *,
    day: Annotated[
        str | None, typer.Option("--day", metavar="DAY", help="A day in UTC, as 2026-11-22.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Or a time with its zone, ...", show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="... and one to stop before.", show_default=False)
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--csv", help="File to write the payments' table to.", show_default=False)
    ] = None,
    data: DataFolder = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare what came in with what went out, for a day.

    For all transactions that began in it, by client and currency: what the messages say, read again, against what the
    store says, against what the answers say. A difference is named by its transaction; what is in flight is none.

    Exit code 1 if there is a difference. A server may run meanwhile.
    """
    start, end = _period(day, since, until)
    settings = effective(config, data=data)
    _check_place(export)
    with present(settings) as store:
        books, listed = _walked(store, start, end, as_json=as_json)
    if export is not None:
        _export(export, books, start, end)
    if as_json:
        emit(_as_json(books, listed, start, end))
    else:
        _show(books, start, end)
    raise typer.Exit(Exit.FAILED if books.differences else Exit.OK)


def _period(day: str | None, since: str | None, until: str | None) -> tuple[datetime, datetime]:
    """Where the period begins, and where the next one does, in UTC. Raises RequestError."""
    if day is not None and since is None and until is None:
        start = _moment("--day", day, "2026-11-22")
        return start, start + timedelta(days=1)
    if day is not None or since is None or until is None:
        raise RequestError("say which period: --day DAY, or --from TIME and --until TIME")
    start, end = (
        _moment(option, text, "2026-11-22T08:00:00+01:00") for option, text in (("--from", since), ("--until", until))
    )
    if start >= end:
        raise RequestError("--until must be later than --from")
    return start, end


def _moment(option: str, text: str, example: str) -> datetime:
    """A moment in UTC; of a day its first."""
    try:
        if option == "--day":
            moment = datetime.combine(date.fromisoformat(text), time(), UTC)
        else:
            moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise RequestError(f"{option} takes the like of {example}") from exc
    if moment.tzinfo is None:
        raise RequestError(f"{option} needs a time zone, as in {example}")
    if moment.year not in _YEARS:
        raise RequestError(f"{option} must lie between the years {_YEARS[0]} and {_YEARS[-1]}")
    return moment.astimezone(UTC)


# -- walking ----------------------------------------------------------------------------------------------------------


def _walked(store: "Store", since: datetime, until: datetime, *, as_json: bool) -> "tuple[Books, Sequence[Difference]]":
    """The books, and the differences for machines; people are told of each as it is found."""
    from interlock.cli.reconciling import differences
    from interlock.cli.reconciling.books import Books

    books = Books()
    listed: list[Difference] = []
    out = console(stderr=True)
    with nullcontext() if as_json or not out.is_terminal else out.status(_Progress(books)):
        for difference in differences(store, since, until, books):
            if not as_json:
                out.print(f"error: {difference}", style="red")
            elif len(listed) < _LISTED_MAX:
                listed.append(difference)
    return books, listed


class _Progress:
    """How far it is, asked whenever the line is drawn."""

    def __init__(self, books: "Books") -> None:
        self._books = books

    def __rich__(self) -> str:
        """The line."""
        return f"{self._books.transactions:,} transactions"


# -- telling ----------------------------------------------------------------------------------------------------------

#: The columns of an account, by their names in it: (name, heading in the table; None where it is for machines only).
_PARTS = (
    ("sent", "in"),
    ("again", "driven again"),
    ("settled", "settled"),
    ("rejected", "rejected"),
    ("cancelled", "cancelled"),
    ("in_flight", "in flight"),
    ("told_settled", None),
    ("told_rejected", None),
    ("unquoted", None),
    ("difference", "difference"),
)
_ALL = "all"


def _show(books: "Books", since: datetime, until: datetime) -> None:
    say(f"{since.isoformat()} to {until.isoformat()}: {books.transactions:,} transactions\n")
    if books.clients:
        names = ("client", "transactions", "messages", "driven again", "unreadable", "without payments", "no message")
        _table(names, [_messages(client, tally) for client, tally in sorted(books.clients.items())], words=2)
        say("")
    if books.accounts:
        heads = ("client", "currency", "messages", *(heading for _, heading in _PARTS if heading))
        rows = [(client, currency or "none", *_amounts(currency, account)) for client, currency, account in _all(books)]
        _table(heads, rows, words=2)
        say("")
    if books.differences:
        complain(f"{books.differences:,} differences")
    else:
        say("what came in, what is stored and what was answered come to the same", style="green")


def _messages(client: str, tally: "Tally") -> tuple[str, ...]:
    statuses = ", ".join(f"{number:,} {status}" for status, number in sorted(tally.statuses.items()))
    numbers = (tally.messages, tally.messages_again, tally.unreadable, tally.without_payments, tally.without_message)
    return client, statuses, *(f"{number:,}" for number in numbers)


def _amounts(currency: str | None, account: "Account") -> tuple[str, ...]:
    from interlock.cli.reconciling.books import money

    parts: list[Sum] = [getattr(account, name) for name, heading in _PARTS if heading]
    return (
        f"{account.messages + account.messages_again:,}",
        *(f"{money(part.amount, currency, grouped=True)} ({part.payments:,})" if part else "-" for part in parts),
    )


def _sorted(books: "Books") -> "Iterator[tuple[str, str | None, Account]]":
    """The accounts by client and currency; what has no currency comes last."""
    for client, currency in sorted(books.accounts, key=lambda key: (key[0], key[1] is None, key[1])):
        yield client, currency, books.accounts[client, currency]


def _totals(books: "Books") -> "Iterator[tuple[str | None, Account]]":
    totals = books.totals()
    return ((currency, totals[currency]) for currency in sorted(totals, key=lambda key: (key is None, key)))


def _all(books: "Books") -> "Iterator[tuple[str, str | None, Account]]":
    """The accounts, and below them the totals where there are several clients."""
    yield from _sorted(books)
    if len({client for client, _ in books.accounts}) > 1:
        yield from ((_ALL, currency, account) for currency, account in _totals(books))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> None:
    """A table whose columns of numbers, all but the first so many, are flush right; a list where it is too wide.

    A terminal that is too narrow would cut amounts off.
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    if sum(widths) + _GAP * len(widths) > console().width:
        _list(heads, rows, words=words)
        return

    def flush(cells: Sequence[str]) -> list[str]:
        return [cell if place < words else cell.rjust(widths[place]) for place, cell in enumerate(cells)]

    table(flush(heads), map(flush, rows), empty="")


#: Between two columns.
_GAP = 3


def _list(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> None:
    """A line a number, under one with the words; what there is none of is left out."""
    for row in rows:
        say("  ".join(row[:words]))
        shown = [(head, cell) for head, cell in zip(heads[words:], row[words:], strict=True) if cell not in ("-", "0")]
        width = max((len(cell) for _, cell in shown), default=0)
        for head, cell in shown:
            say(f"  {head:<{max(map(len, heads))}}  {cell:>{width}}")


def _as_json(books: "Books", listed: "Sequence[Difference]", since: datetime, until: datetime) -> dict[str, Any]:
    return {
        "from": since.isoformat(),
        "until": until.isoformat(),
        "ok": not books.differences,
        "transactions": books.transactions,
        "clients": [_client(client, tally) for client, tally in sorted(books.clients.items())],
        "accounts": [{"client": client, **_account(currency, account)} for client, currency, account in _sorted(books)],
        "totals": [_account(currency, account) for currency, account in _totals(books)],
        "differences": [
            {"transaction": found.transaction and str(found.transaction), "client": found.client, "text": found.text}
            for found in listed
        ],
        "differences_left_out": books.differences - len(listed),
    }


def _client(client: str, tally: "Tally") -> dict[str, Any]:
    return {
        "client": client,
        "transactions": tally.transactions,
        "statuses": {status.value: number for status, number in sorted(tally.statuses.items())},
        "messages": tally.messages,
        "messages_again": tally.messages_again,
        "unreadable": tally.unreadable,
        "without_payments": tally.without_payments,
        "without_message": tally.without_message,
        "answers": dict(sorted(tally.answers.items())),
    }


def _account(currency: str | None, account: "Account") -> dict[str, Any]:
    """Amounts are texts: JSON's numbers would not be exact."""
    from interlock.cli.reconciling.books import money

    shown: dict[str, Any] = {
        "currency": currency,
        "messages": account.messages,
        "messages_again": account.messages_again,
    }
    for name, _ in _PARTS:
        part: Sum = getattr(account, name)
        shown[name] = {"payments": part.payments, "amount": money(part.amount, currency)}
    return shown


def _check_place(export: Path | None) -> None:
    """Raises RequestError, before the work, where the file cannot be put."""
    if export is not None and not export.resolve().parent.is_dir():
        raise RequestError(f"there is no folder {export.resolve().parent}")
    if export is not None and export.is_dir():
        raise RequestError(f"{export} is a folder; name a file")


def _export(file: Path, books: "Books", since: datetime, until: datetime) -> None:
    """The accounts as CSV, in place only once it is whole. Raises RequestError where it cannot be written."""
    part = file.with_name(file.name + ".part")
    names = [f"{name}_{what}" for name, _ in _PARTS for what in ("payments", "amount")]
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("from", "until", "client", "currency", "messages", "messages_again", *names))
            for client, currency, account in _sorted(books):
                shown = _account(currency, account)
                sums = [shown[name][what] for name, _ in _PARTS for what in ("payments", "amount")]
                head = (since.isoformat(), until.isoformat(), client, currency or "")
                writer.writerow((*head, account.messages, account.messages_again, *sums))
        part.replace(file)
    except OSError as exc:
        raise RequestError(f"{file} cannot be written: {exc.strerror or exc}") from exc
