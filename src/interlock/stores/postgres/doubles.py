"""Ends of other regions that contradict those here, found as they come in: by what is new in each journal of theirs.

A region's own ends are never looked through. Of two ends that contradict each other one came second, by the time of
commit, and its region does not know of the first one, or has had it before: whichever region gets the later one finds
both. It records that on its own transaction, and that event in turn comes to the other region, which looks at the same
transactions again and then has both too.

Owns: what has been looked at, and what is compared. Must not know: what is made of a contradiction.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from uuid import UUID

from interlock.chain import decode
from interlock.regions.doubles import Arrivals, Double, Place
from interlock.stores.postgres.connections import Connection, fetch
from interlock.stores.postgres.publications import INCARNATIONS
from interlock.stores.rows import id_bound
from interlock.stores.statements import queries


def arrivals(connection: Connection, regions: Iterable[int], limit: int, since: datetime | None) -> Arrivals:
    """What has come from these regions since it was last looked at; limit: events of each journal.

    since: transactions that began before are left out where nothing says that there is something of theirs; None: all
    are looked at, in every partition.
    """
    statements = queries("postgres", "replication.sql")
    oldest = UUID(int=0) if since is None else UUID(bytes=id_bound(since))
    reached: dict[Place, int] = {}
    arrived: set[UUID] = set()
    more = False
    for region in regions:
        bounds = (region * INCARNATIONS, (region + 1) * INCARNATIONS, oldest)
        for writer, journal, seen in fetch(connection, statements["journals_of"], bounds):
            rows = fetch(connection, statements["arrived"], (writer, journal, seen, limit, oldest))
            if rows and rows[-1][0] - seen > len(rows):
                # Numbers follow each other without a gap: what is missing is of an older transaction.
                rows = fetch(connection, statements["arrived"], (writer, journal, seen, limit, UUID(int=0)))
            arrived.update(id_ for _, id_ in rows)
            more |= len(rows) == limit
            if rows:
                reached[Place(writer, journal)] = rows[-1][0]
    return Arrivals(_among(connection, arrived), reached, more)


def _among(connection: Connection, ids: Collection[UUID]) -> tuple[Double, ...]:
    """Contradictions that these transactions have a part in."""
    if not ids:
        return ()
    statements = queries("postgres", "replication.sql")
    names = ("ended_apart", "settled_twice")
    return tuple(Double(*row) for name in names for row in fetch(connection, statements[name], (list(ids),)))


def everywhere(connection: Connection) -> list[Double]:
    """Every contradiction that there is: reads all transactions and keys."""
    statements = queries("postgres", "replication.sql")
    names = ("ended_apart_anywhere", "settled_twice_anywhere")
    return sorted(Double(*row) for name in names for row in fetch(connection, statements[name]))


def note_seen(connection: Connection, reached: Mapping[Place, int]) -> None:
    """Note up to where each journal was looked at; never back."""
    writers, journals = [place.writer for place in reached], [place.journal for place in reached]
    statement = queries("postgres", "replication.sql")["note_seen"]
    connection.execute(statement, (writers, journals, list(reached.values())))


def recorded(connection: Connection, region: int, limit: int) -> tuple[int, list[tuple[UUID, str | None]]]:
    """How many transactions of a region have a contradiction on record, and the newest of them with its words."""
    statements = queries("postgres", "replication.sql")
    flagged = [id_ for (id_,) in fetch(connection, statements["flagged"], (region,))]
    rows = fetch(connection, statements["ended_twice"], (flagged,)) if flagged else []
    return len(rows), [(id_, decode(content)[1].note) for id_, content in rows[:limit]]
