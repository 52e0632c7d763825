"""The witness: a small PostgreSQL database of its own that says who may take over whom, and who has.

It holds no payment and decides nothing by itself. A change of an entry is a compare-and-set on the version that it was
read at, and `interlock.regions.rules` says what it may be; a takeover is decided by those rules too, under locks.

Whoever asks it waits for two seconds at most, whatever has become of it (`BoundedLine`, which serves for regions too):
limits of the server do not help where the server itself has stopped.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from psycopg import errors

from interlock.errors import ConfigError, StoreUnavailable
from interlock.regions import rules
from interlock.regions.rules import Entry
from interlock.stores.postgres.connections import Connection, Gate, Line, fetch, said, translated
from interlock.stores.statements import queries

_PATIENCE_SECONDS = 2.0


class BoundedLine:
    """A connection to a database, for one thread at a time; no use of it lasts longer than `seconds`.

    name: what errors call that database.
    """

    def __init__(
        self,
        url: str,
        name: str,
        seconds: float = _PATIENCE_SECONDS,
        on_connect: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """Connects when it is first used; `on_connect` may refuse what it finds there."""
        self._name = name
        self._seconds = seconds
        self._recognise = on_connect
        self._line = Line(url, Gate(), writes=True)
        self._line.on_connect = self._prepare

    def _prepare(self, connection: Connection) -> None:
        # The server is told too, so that it does not go on with what nobody waits for any more.
        connection.execute("SELECT set_config('statement_timeout', $1, false)", (str(int(self._seconds * 1_000)),))
        self._recognise(connection)

    @contextlib.contextmanager
    def use(self) -> Iterator[Connection]:
        """The connection. Raises StoreUnavailable where it cannot be had, or what is done with it takes too long."""
        cut = threading.Event()

        def end() -> None:
            cut.set()
            self._line.cut()

        timer = threading.Timer(self._seconds, end)
        timer.daemon = True
        try:
            with translated():
                # To connect has a limit of its own.
                connection = self._line.get()
                timer.start()
                yield connection
        except StoreUnavailable as exc:
            why = f"no answer within {self._seconds:.0f} seconds" if cut.is_set() else said(exc)
            raise StoreUnavailable(f"{self._name}: {why}") from exc
        finally:
            timer.cancel()
            if cut.is_set() or self._line.lost:
                self._line.drop()

    def close(self) -> None:
        """Give it up."""
        self._line.close()


class WitnessStore:
    """The entries of all regions at one witness; used by one thread.

    Every method raises StoreUnavailable where the witness cannot be asked, also where it cannot be known whether it has
    done what it was asked: read the entry again.
    """

    def __init__(self, url: str) -> None:
        """Connects when it is first used."""
        self._line = BoundedLine(url, "the witness")
        self._sql = queries("postgres", "witness.sql")

    def close(self) -> None:
        """End the connection."""
        self._line.close()

    def install(self) -> None:
        """Make its table, unless it is there. Raises ConfigError where the user may not."""
        with self._asked() as connection:
            if not fetch(connection, self._sql["present"]):
                # Two that come at once may both find it missing; one of them is told that it is there.
                with contextlib.suppress(errors.UniqueViolation, errors.DuplicateTable):
                    connection.execute(self._sql["install"])

    def ensure(self, region: int) -> None:
        """Make the region's entry, unless it is there."""
        with self._asked() as connection:
            connection.execute(self._sql["ensure"], (region,))

    def entry(self, region: int) -> tuple[Entry, float]:
        """A region's entry, and for how many seconds its lease still runs. Raises ConfigError where there is none."""
        with self._asked() as connection:
            rows = fetch(connection, self._sql["one"], (region,))
        if not rows:
            raise ConfigError(f"the witness does not know region {region}: run `interlock regions init` there")
        return _entry(rows[0])

    def entries(self) -> Mapping[int, tuple[Entry, float]]:
        """Entry and remaining lease of each region."""
        with self._asked() as connection:
            return {row[0]: _entry(row) for row in fetch(connection, self._sql["all"])}

    def change(self, region: int, before: Entry, after: Entry) -> bool:
        """Put one entry in the place of another; False where that is not what stands any more."""
        assert after.version > before.version, "each change makes a new version"
        values = (after.generation, sorted(after.members), after.taker, after.version, after.retired)
        with self._asked() as connection:
            return connection.execute(self._sql["change"], (region, before.version, *values)).rowcount == 1

    def renew(self, region: int, generation: int, seconds: float) -> bool:
        """Give the region's lease anew; False where it was taken over or given up, or the generation is another."""
        with self._asked() as connection:
            return connection.execute(self._sql["renew"], (region, generation, float(seconds))).rowcount == 1

    def grant(self, taker: int, home: int, *, lease_must_be_over: bool) -> Entry | None:
        """Grant a takeover; the home's entry then. None where the rules or the home's lease do not allow it (yet)."""
        with self._asked() as connection, connection.transaction():
            held = {row[0]: _entry(row) for row in fetch(connection, self._sql["hold"])}
            for region in (home, taker):
                if region not in held:
                    raise ConfigError(f"the witness does not know region {region}: run `interlock regions init` there")
            (entry, lease_left), (own, _) = held[home], held[taker]
            if lease_must_be_over and lease_left > 0:
                connection.execute(self._sql["shorten"], (home,))
                return None
            generation = 1 + max(other.generation for other, _ in held.values())
            after = rules.granted(entry, own, taker, generation)
            if after is not None:
                values = (after.generation, sorted(after.members), after.taker, after.version, after.retired)
                connection.execute(self._sql["change"], (home, entry.version, *values))
            return after

    @contextlib.contextmanager
    def _asked(self) -> Iterator[Connection]:
        try:
            with self._line.use() as connection:
                yield connection
        except errors.UndefinedTable as exc:
            raise ConfigError("the witness was not set up: run `interlock regions init`") from exc
        except errors.InsufficientPrivilege as exc:
            raise ConfigError(
                f"the witness: {said(exc)}; make the user the owner of that database, or GRANT CREATE ON SCHEMA public"
            ) from exc


def _entry(row: Sequence[Any]) -> tuple[Entry, float]:
    _, generation, members, taker, version, retired, lease_left = row
    return Entry(generation, frozenset(members), taker, version, retired), lease_left
