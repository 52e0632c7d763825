"""What the rows of a period come to, counted outside the database: from an archive that is read back. Pure.

It is the same as `PostgresPeriods` counts inside, or something is lost; the chain of events is followed on the way.
"""

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any

from interlock.chain import link
from interlock.ports import Fingerprint, Marks, Rows, Run, Tally, digest

#: Faults that are told; whoever has so many need not hear of each.
_FAULTS_MAX = 100
#: A writer's number is its region's, times this, and its incarnation.
_INCARNATIONS = 1_000_000


def journal_name(writer: int, journal: int) -> str:
    """A journal as people know it: region, incarnation, number."""
    return f"{writer // _INCARNATIONS}.{writer % _INCARNATIONS}.{journal}"


def tally(tables: Iterable[Rows]) -> Tally:
    """Walk all tables, in bounded memory. Raises ValueError where a table or column is missing."""
    count = _Count()
    for rows in tables:
        count.take(rows)
    return Tally(count.fingerprint(), tuple(count.faults))


class _Count:
    def __init__(self) -> None:
        self.faults: list[str] = []
        self._numbers: dict[str, int] = {}
        self._open = self._versions = self._updated_at = 0
        self._deliveries: dict[str, tuple[int, int]] = {}
        self._runs = ""

    def take(self, rows: Rows) -> None:
        """Walk one table."""
        walk: Callable[[Rows], int] = {
            "transactions": self._take_transactions,
            "deliveries": self._take_deliveries,
            "events": self._take_events,
        }.get(rows.table, _number)
        self._numbers[rows.table] = walk(rows)

    def fingerprint(self) -> Fingerprint:
        """Of everything that was taken."""
        numbers = self._numbers
        if missing := {"transactions", "events", "bodies", "payments", "deliveries"} - numbers.keys():
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        marks = Marks(
            transactions=numbers["transactions"],
            open=self._open,
            versions=self._versions,
            updated_at=self._updated_at,
            deliveries=tuple((state, *sums) for state, sums in sorted(self._deliveries.items())),
        )
        return Fingerprint(
            marks=marks,
            events=numbers["events"],
            bodies=numbers["bodies"],
            payments=numbers["payments"],
            runs=self._runs,
        )

    def _take_transactions(self, rows: Rows) -> int:
        number = 0
        for state, version, updated_at in _values(rows, "state", "version", "updated_at"):
            number += 1
            self._open += state != "end"
            self._versions += version
            self._updated_at = max(self._updated_at, updated_at)
        return number

    def _take_deliveries(self, rows: Rows) -> int:
        for state, at in _values(rows, "state", "at"):
            count, times = self._deliveries.get(state, (0, 0))
            self._deliveries[state] = count + 1, times + at
        return sum(count for count, _ in self._deliveries.values())

    def _take_events(self, rows: Rows) -> int:
        before = len(self.faults)
        events = _Events(rows)
        self._runs = digest(events.runs())
        self.faults += events.faults[: _FAULTS_MAX - before]
        return events.number


def _number(rows: Rows) -> int:
    return sum(1 for _ in rows.rows)


def _values(rows: Rows, *names: str) -> Iterator[Any]:
    """Some columns of each row, by name."""
    if missing := [name for name in names if name not in rows.columns]:
        raise ValueError(f"its {rows.table} have no {', '.join(missing)}")
    return map(itemgetter(*(rows.columns.index(name) for name in names)), rows.rows)


class _Events:
    """The events of a period, in the order of their chains."""

    def __init__(self, rows: Rows) -> None:
        self._rows = _values(rows, "writer", "journal", "chain_seq", "content", "previous", "hash")
        self.number = 0
        self.faults: list[str] = []

    def runs(self) -> Iterator[Run]:
        """Each run, once it has ended."""
        chain: tuple[int, int] | None = None
        first, last, beginning, end = 0, 0, b"", b""
        for writer, journal, seq, content, previous, hash_ in self._rows:
            self.number += 1
            own = (writer, journal)
            if link(previous, content) != hash_:
                self._complain(own, f"event {seq} was altered")
            if chain == own and seq == last + 1:
                if previous != end:
                    self._complain(own, f"event {seq} does not follow event {last}")
            else:
                if chain is not None:
                    yield Run(journal_name(*chain), first, last, beginning, end)
                if chain == own and seq <= last:
                    self._complain(own, f"event {seq} is there twice, or out of order")
                chain, first, beginning = own, seq, previous
            last, end = seq, hash_
        if chain is not None:
            yield Run(journal_name(*chain), first, last, beginning, end)

    def _complain(self, chain: tuple[int, int], what: str) -> None:
        if len(self.faults) < _FAULTS_MAX:
            self.faults.append(f"journal {journal_name(*chain)}: {what}")
