"""A filter over transactions as an SQLite statement. Only fixed fragments are joined, every value is bound."""

from collections.abc import Iterator
from typing import Any

from interlock.chain import micros
from interlock.iso20022.codes import Status
from interlock.ports import Query
from interlock.stores import rows
from interlock.transaction import QUALIFIER, KeyKind


def where(query: Query) -> tuple[str, list[Any]]:
    """The statement for a filter: only fixed fragments are joined, every value is bound."""
    parts: list[str] = []
    bindings: list[Any] = []

    def both(fragment: str, *values: Any) -> None:
        parts.append(fragment)
        bindings.extend(values)

    # A key finds few: begin with it. The sign keeps SQLite from walking all of a client's transactions instead.
    sign = "" if query.key is None else "+"
    if query.client is not None:
        both(f"{sign}client = ?", query.client)
    if query.statuses:
        both(f"{sign}status IN ({_marks(len(query.statuses))})", *sorted(query.statuses))
        if Status.ACSC not in query.statuses:
            parts.append("status <> 'ACSC'")  # lets SQLite see that the partial index serves
    if query.cause is not None:
        both("state = ?", f"PDNG/{query.cause}")
    if query.flagged:
        parts.append("flagged = 1")  # as the partial index has it
    if query.key is not None:
        both(*_named(query.client, *query.key))
    for fragment, value in _range(query, sign):
        both(fragment, value)
    where = " AND ".join(parts) or "1"
    sql = f"SELECT * FROM transactions WHERE {where} ORDER BY {sign}id DESC LIMIT ?"  # noqa: S608 - fixed fragments
    return sql, [*bindings, query.limit + 1]


def _range(query: Query, sign: str) -> Iterator[tuple[str, Any]]:
    """When it was created, and which page it is on: a range of time is a range of ids."""
    if query.since is not None:
        yield "created_at >= ?", micros(query.since)
        yield f"{sign}id >= ?", rows.id_bound(query.since - rows.ID_SLACK)
    if query.until is not None:
        yield "created_at < ?", micros(query.until)
        yield f"{sign}id < ?", rows.id_bound(query.until + rows.ID_SLACK)
    if query.after is not None:
        yield f"{sign}id < ?", query.after.bytes


def _named(client: str | None, kind: KeyKind, value: str) -> tuple[str, ...]:
    """The transactions that a key names: itself, or with any qualifier behind it."""
    whose = "k.client = ?" if client is not None else f"k.client IN ({_ALL_CLIENTS})"
    keys = f"SELECT k.tx FROM keys k WHERE {whose} AND k.kind = ?"  # noqa: S608 - fixed fragments
    # Two look-ups and not an OR, for which SQLite would read every key of the kind.
    fragment = f"row IN ({keys} AND k.value = ? UNION ALL {keys} AND k.value > ? AND k.value < ?)"
    # The character after the qualifier's is a space: between the two lies every value that the qualifier follows.
    low, high = f"{value}{QUALIFIER}", f"{value}{chr(ord(QUALIFIER) + 1)}"
    owner = () if client is None else (client,)
    return (fragment, *owner, kind, value, *owner, kind, low, high)


#: Every client that has a key, by hops along the index; a plain DISTINCT would read all of it.
_ALL_CLIENTS = (
    "WITH RECURSIVE hop(client) AS (SELECT min(client) FROM keys UNION ALL "
    "SELECT (SELECT min(client) FROM keys WHERE client > hop.client) FROM hop WHERE hop.client IS NOT NULL) "
    "SELECT client FROM hop WHERE client IS NOT NULL"
)


def _marks(number: int) -> str:
    return ", ".join("?" * number)
