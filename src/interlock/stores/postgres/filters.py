"""A filter over transactions as a statement. Only fixed fragments are joined, every value is bound."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

from interlock.chain import micros
from interlock.iso20022.codes import Status
from interlock.ports import Query
from interlock.stores import rows as mapping
from interlock.stores.statements import queries
from interlock.transaction import QUALIFIER

_FAILED = frozenset({Status.RJCT, Status.CANC})

#: Every client that has a key, by hops along the index; a plain DISTINCT would read all of it.
_ALL_CLIENTS = (
    "WITH RECURSIVE hop(client) AS ((SELECT client FROM keys ORDER BY client LIMIT 1) UNION ALL "
    "SELECT (SELECT k.client FROM keys k WHERE k.client > hop.client ORDER BY k.client LIMIT 1) FROM hop "
    "WHERE hop.client IS NOT NULL) SELECT client FROM hop WHERE client IS NOT NULL"
)


class _Values:
    """Bound values, and the marks that stand for them."""

    def __init__(self) -> None:
        self.bound: list[Any] = []

    def mark(self, value: Any) -> str:
        self.bound.append(value)
        return f"${len(self.bound)}"


#: A statement that lacks only how many rows are wanted.
Limited = Callable[[int], tuple[str, list[Any]]]


def within(query: Query, lower: UUID, upper: UUID) -> Limited | None:
    """The statement for a filter within a range of ids; None where nothing of the range can match."""
    lower, upper = _narrowed(query, lower, upper)
    if lower >= upper:
        return None
    values = _Values()
    return _select(values, query, f"t.id >= {values.mark(lower)} AND t.id < {values.mark(upper)}")


def among(query: Query, ids: Sequence[UUID]) -> Limited:
    """The statement for a filter among these ids."""
    values = _Values()
    return _select(values, query, f"t.id = ANY ({values.mark(list(ids))})")


def named(query: Query, upper: UUID, limit: int) -> tuple[str, list[Any]]:
    """The statement for the ids that the filter's key names, newest first, from before an id.

    By the key itself, or with any qualifier behind it.
    """
    assert query.key is not None  # else there is nothing to look up
    kind, value = query.key
    values = _Values()
    lower, upper = _narrowed(query, UUID(int=0), upper)
    whose = f"k.client = {values.mark(query.client)}" if query.client is not None else f"k.client IN ({_ALL_CLIENTS})"
    # The character after the qualifier's is a space: between the two lies every value that the qualifier follows.
    low, high = f"{value}{QUALIFIER}", f"{value}{chr(ord(QUALIFIER) + 1)}"
    among_keys = (
        f"SELECT k.tx FROM keys k WHERE {whose} AND k.kind = {values.mark(str(kind))} "  # noqa: S608 - fixed fragments
        f"AND k.tx >= {values.mark(lower)} AND k.tx < {values.mark(upper)} AND"
    )
    # Two look-ups and not an OR; UNION makes each transaction one.
    sql = (
        f"{among_keys} k.value = {values.mark(value)} UNION "
        f"{among_keys} k.value > {values.mark(low)} AND k.value < {values.mark(high)} "
        f"ORDER BY tx DESC LIMIT {values.mark(limit)}"
    )
    return sql, values.bound


def _select(values: _Values, query: Query, where: str) -> Limited:
    columns = f"SELECT {queries('postgres')['transaction']}"
    conditions = " AND ".join([where, *_fields(values, query)])

    def limited(limit: int) -> tuple[str, list[Any]]:
        order = f"ORDER BY t.id DESC LIMIT {values.mark(limit)}"
        return f"{columns} FROM transactions t WHERE {conditions} {order}", values.bound

    return limited


def _narrowed(query: Query, lower: UUID, upper: UUID) -> tuple[UUID, UUID]:
    """The range of ids that the filter's times leave."""
    if query.since is not None:
        lower = max(lower, UUID(bytes=mapping.id_bound(query.since - mapping.ID_SLACK)))
    if query.until is not None:
        upper = min(upper, UUID(bytes=mapping.id_bound(query.until + mapping.ID_SLACK)))
    if query.after is not None:
        upper = min(upper, query.after)
    return lower, upper


def _fields(values: _Values, query: Query) -> Iterator[str]:
    """A condition for each field that is set."""
    if query.client is not None:
        yield f"t.client = {values.mark(query.client)}"
    if query.statuses:
        statuses = sorted(str(status) for status in query.statuses)
        # Of one status an index has the ids in order.
        one = len(statuses) == 1
        yield f"t.status = {values.mark(statuses[0])}" if one else f"t.status = ANY ({values.mark(statuses)})"
        # Each lets the planner see that a partial index serves.
        if query.statuses <= _FAILED:
            yield "t.status IN ('RJCT', 'CANC')"
        elif not any(status.is_final for status in query.statuses):
            yield "t.due_at IS NOT NULL"
    if query.cause is not None:
        yield f"t.state = {values.mark(f'PDNG/{query.cause}')} AND t.due_at IS NOT NULL"
    if query.flagged:
        yield "t.flagged"
    if query.since is not None:
        yield f"t.created_at >= {values.mark(micros(query.since))}"
    if query.until is not None:
        yield f"t.created_at < {values.mark(micros(query.until))}"
