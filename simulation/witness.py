"""The witness: one entry a home, changed by compare-and-set on its version."""

from collections.abc import Callable

from interlock.regions import rules
from interlock.regions.rules import Entry


class Witness:
    """What it has on its disk; it decides nothing that `rules` does not."""

    def __init__(self, regions: tuple[int, ...], changed: Callable[[int, Entry], None]) -> None:
        """changed: told of each change."""
        peers = frozenset(regions)
        self.entries = {region: Entry(members=peers - {region}) for region in regions}
        self._changed = changed
        #: Of all homes together: a takeover outranks everything that was written anywhere before it.
        self._generation = 0

    def replace(self, home: int, read: Entry, entry: Entry | None) -> bool:
        """Compare and set."""
        if entry is None or self.entries[home].version != read.version:
            return False
        self.entries[home] = entry
        self._changed(home, entry)
        return True

    def grant(self, home: int, taker: int) -> Entry | None:
        """Let a peer take a home over; the entry then, or None where it must not."""
        read, own, generation = self.entries[home], self.entries[taker], self._generation + 1
        entry = rules.granted(read, own, taker, generation)
        if entry is not None:
            self._generation += 1
            self.replace(home, read, entry)
        return entry

    def retire(self, home: int) -> None:
        """An operator gives a home up for good."""
        read = self.entries[home]
        self.replace(home, read, rules.retired(read))
