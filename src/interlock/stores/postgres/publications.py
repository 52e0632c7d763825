"""What a region publishes to its peers, and the guards that keep it from writing what is theirs.

Two publications: `interlock_rows` never deletes at a peer (what lies in a DEFAULT partition is moved by deleting it,
and every region drops its periods by itself), `interlock_names` does. Each row says whose it is, and only own rows are
published: so nothing comes back, and no two regions ever write one row.

Neither publishes TRUNCATE, which heeds no filter and would empty the peers' own rows. Columns are listed: one that a
peer does not have yet would stop it.

Owns: publications and guards of one database. Must not know: who subscribes, and what is decided.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from psycopg import sql

from interlock.stores.postgres.connections import Connection, fetch
from interlock.stores.postgres.schema import PARTITIONED
from interlock.stores.statements import queries

ROWS, NAMES = "interlock_rows", "interlock_names"
#: What of each publication reaches the peers.
OPERATIONS = {ROWS: "insert, update", NAMES: "insert, update, delete"}
#: A writer is a region and its incarnation: region * INCARNATIONS + incarnation.
INCARNATIONS = 1_000_000
_GUARDS = {"INSERT": "interlock_guard_insert", "UPDATE": "interlock_guard_update"}


class Published(NamedTuple):
    """A table that regions share."""

    name: str
    publication: str
    #: The column that says whose a row is.
    owner: str

    def belongs(self, region: int, row: str = "") -> str:
        """The condition that a row is this region's."""
        column = f"{row}{self.owner}"
        if self.owner == "writer":
            return f"{column} >= {region * INCARNATIONS} AND {column} < {(region + 1) * INCARNATIONS}"
        return f"{column} = {region:d}"


#: Rows that refer to others come after them.
TABLES = (
    *(Published(name, ROWS, "writer" if name in {"events", "bodies"} else "region") for name in PARTITIONED),
    Published("takeovers", ROWS, "region"),
    *(Published(name, NAMES, "region") for name in ("keys", "idempotency", "clients", "signing_keys", "controls")),
)
TABLE_NAMES = tuple(table.name for table in TABLES)


class Part(NamedTuple):
    """A table as a publication has it."""

    filter: str | None
    #: None: all, whatever comes.
    columns: tuple[str, ...] | None


class Publication(NamedTuple):
    """A publication as the database has it."""

    operations: str
    truncate: bool
    via_root: bool
    parts: Mapping[str, Part]


Columns = Mapping[str, Collection[str]]


def publications(connection: Connection) -> dict[str, Publication]:
    """Ours, as far as they are there."""
    statements = queries("postgres", "replication.sql")
    parts: dict[str, dict[str, Part]] = {}
    names = list(OPERATIONS)
    for publication, table, condition, columns in fetch(connection, statements["published"], (names,)):
        listed = None if columns is None else tuple(columns)
        parts.setdefault(publication, {})[table] = Part(condition, listed)
    found = {}
    for name, insert, update, delete, truncate, via_root, _ in fetch(connection, statements["publications"], (names,)):
        done = {"insert": insert, "update": update, "delete": delete}
        operations = ", ".join(what for what, does in done.items() if does)
        found[name] = Publication(operations, truncate, via_root, parts.get(name, {}))
    return found


def columns(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Columns of the tables that regions share, in order; a table that is not there is left out."""
    found = fetch(connection, queries("postgres", "replication.sql")["columns"], (list(TABLE_NAMES),))
    return {table: tuple(names) for table, names in found}


def install(connection: Connection, region: int, abroad: Sequence[Columns | None]) -> list[str]:
    """Make or mend the publications and guards; what was done, and what was not yet, a sentence each.

    abroad: columns of each peer's tables; None where they are not known. A new column is published once every peer has
    it.
    """
    told: list[str] = []
    own, present = columns(connection), publications(connection)
    with connection.transaction():
        for name, operations in OPERATIONS.items():
            wanted = {
                table.name: Part(
                    table.belongs(region), _listed(table.name, own[table.name], present.get(name), abroad, told)
                )
                for table in TABLES
                if table.publication == name
            }
            told += _publish(connection, name, operations, wanted, present.get(name))
        told += _guard(connection, region)
    return told


def _listed(
    table: str, own: Sequence[str], present: Publication | None, abroad: Sequence[Columns | None], told: list[str]
) -> tuple[str, ...]:
    """Columns to publish of a table: those of before, and those that everybody has."""
    before = present.parts[table].columns if present and table in present.parts else None
    listed = []
    for column in own:
        lacking = sum(peer is not None and column not in peer.get(table, (column,)) for peer in abroad)
        unknown = before is not None and any(peer is None for peer in abroad)
        if before is not None and column in before:
            listed.append(column)
        elif lacking:
            told.append(f"{table}.{column} is not published yet: migrate the other regions first, then do this again")
        elif unknown:
            told.append(f"{table}.{column} is not published yet: a peer cannot be asked whether it has it")
        else:
            listed.append(column)
    return tuple(listed)


def _publish(
    connection: Connection, name: str, operations: str, wanted: Mapping[str, Part], present: Publication | None
) -> list[str]:
    tables = sql.SQL(", ").join(
        sql.SQL("TABLE {} ({}) WHERE ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, part.columns or ())),
            sql.SQL(part.filter or ""),
        )
        for table, part in wanted.items()
    )
    options = {"name": sql.Identifier(name), "tables": tables, "operations": sql.Literal(operations)}
    if present is None:
        made = sql.SQL(
            "CREATE PUBLICATION {name} FOR {tables} WITH (publish = {operations}, publish_via_partition_root = true)"
        )
        connection.execute(made.format(**options))
        return [f"publication {name} was made"]
    told = []
    if (present.operations, present.truncate, present.via_root) != (operations, False, True):
        mended = sql.SQL("ALTER PUBLICATION {name} SET (publish = {operations}, publish_via_partition_root = true)")
        connection.execute(mended.format(**options))
        told.append(f"publication {name} publishes {operations} now, and nothing else")
    if not same_parts(present.parts, wanted):
        connection.execute(sql.SQL("ALTER PUBLICATION {name} SET {tables}").format(**options))
        told.append(f"publication {name} has its tables, rows and columns now")
    return told


def same_parts(present: Mapping[str, Part], wanted: Mapping[str, Part]) -> bool:
    """Whether tables, filters and columns are the same, however the server writes them."""
    return {table: (_plain(part.filter), part.columns) for table, part in present.items()} == {
        table: (_plain(part.filter), part.columns) for table, part in wanted.items()
    }


def right_filter(table: Published, part: Part, region: int) -> bool:
    """Whether it lets through this region's rows and no others."""
    return _plain(part.filter) == _plain(table.belongs(region))


def _plain(condition: str | None) -> str | None:
    return None if condition is None else re.sub(r"[\s()]", "", condition)


def _guard(connection: Connection, region: int) -> list[str]:
    """After each row, not before it: before an update the server would lock and log the old row first."""
    present = guards(connection)
    told: list[str] = []
    for table in TABLES:
        rows = {"INSERT": ("new.",), "UPDATE": ("old.", "new.")}
        for event, name in _GUARDS.items():
            enabled = present.get((table.name, name))
            words = {"table": sql.Identifier(table.name), "name": sql.Identifier(name)}
            if enabled is None:
                if not told:
                    connection.execute(queries("postgres", "replication.sql")["make_refusal"])
                foreign = " OR ".join(f"NOT ({table.belongs(region, row)})" for row in rows[event])
                made = sql.SQL(
                    "CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW WHEN ({foreign}) "
                    "EXECUTE FUNCTION interlock_refuse_foreign_row()"
                ).format(event=sql.SQL(event), foreign=sql.SQL(foreign), **words)
                connection.execute(made)
                told.append(f"{table.name} refuses an {event} of another region's rows now")
            elif enabled != "O":
                connection.execute(sql.SQL("ALTER TABLE {table} ENABLE TRIGGER {name}").format(**words))
                told.append(f"{table.name} refuses an {event} of another region's rows again")
    return told


def guards(connection: Connection) -> dict[tuple[str, str], str]:
    """By table and name: whether each guard is on, `O` as it should be."""
    found = fetch(
        connection, queries("postgres", "replication.sql")["guards"], (list(TABLE_NAMES), list(_GUARDS.values()))
    )
    return {(table, name): enabled for table, name, enabled in found}


def unguarded(connection: Connection) -> list[str]:
    """Tables of which a guard is missing or off."""
    present = guards(connection)
    return [name for name in TABLE_NAMES if any(present.get((name, guard)) != "O" for guard in _GUARDS.values())]
