"""Columns of a batch as binary array parameters.

A batch goes to the server as one array a column. The driver's own way of making them adapts each value by itself, which
for the some 150 values of a payment costs more than all else that is done for it here; a column of one known type is
laid out at once. The format is that of PostgreSQL's `array_send`.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format

_NULL = struct.pack("!i", -1)
_length = struct.Struct("!i").pack


class Column:
    """A column of values, laid out for the server."""

    __slots__ = ("data",)
    #: Type of the array, and of its elements, by PostgreSQL's numbers (pg_type.dat); they never change.
    array: ClassVar[int]
    element: ClassVar[int]

    def __init__(self, values: Sequence[Any]) -> None:
        """values: as the column's type wants them; None is NULL."""
        parts: list[bytes] = [b""]
        nulls = 0
        for value in values:
            if value is None:
                nulls = 1
                parts.append(_NULL)
            else:
                data = self.lay_out(value)
                parts.append(_length(len(data)))
                parts.append(data)
        # An empty array has no dimension at all.
        head = (1, nulls, self.element, len(values), 1) if values else (0, 0, self.element)
        parts[0] = struct.pack(f"!{len(head)}i", *head)
        self.data = b"".join(parts)

    #: One value as bytes.
    lay_out: Callable[[Any], bytes]


class Texts(Column):
    """`text[]` of strings."""

    array, element = 1009, 25
    lay_out = staticmethod(str.encode)


class Bytes(Column):
    """`bytea[]` of bytes."""

    array, element = 1001, 17
    lay_out = staticmethod(bytes)


class Ids(Column):
    """`uuid[]` of an id's 16 bytes."""

    array, element = 2951, 2950
    lay_out = staticmethod(bytes)


class Integers(Column):
    """`integer[]`."""

    array, element = 1007, 23
    lay_out = staticmethod(struct.Struct("!i").pack)


class Smalls(Column):
    """`smallint[]`."""

    array, element = 1005, 21
    lay_out = staticmethod(struct.Struct("!h").pack)


class Bigs(Column):
    """`bigint[]`."""

    array, element = 1016, 20
    lay_out = staticmethod(struct.Struct("!q").pack)


class Floats(Column):
    """`double precision[]`."""

    array, element = 1022, 701
    lay_out = staticmethod(struct.Struct("!d").pack)


class Truths(Column):
    """`boolean[]` of anything that is true or false."""

    array, element = 1000, 16
    lay_out = staticmethod(lambda value: b"\1" if value else b"\0")


def columns(types: Sequence[type[Column]], rows: Iterable[Sequence[Any]]) -> list[Column]:
    """Rows turned into columns of these types; there must be a row at least."""
    return [kind(values) for kind, values in zip(types, zip(*rows, strict=True), strict=True)]


class _ColumnDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Column) -> Buffer:
        return obj.data


def register(adapters: AdaptersMap) -> None:
    """Teach a connection our columns."""
    for kind in (Texts, Bytes, Ids, Integers, Smalls, Bigs, Floats, Truths):
        adapters.register_dumper(kind, type(f"{kind.__name__}Dumper", (_ColumnDumper,), {"oid": kind.array}))


#: The columns that rows of each table are written with, in their order.
BORN = (
    Ids, Texts, Integers, Integers, Integers, Texts, Texts, Texts, Texts, Bigs, Bigs, Texts, Bigs, Floats, Texts, Texts,
    Texts, Texts, Texts, Texts, Texts, Integers, Bytes, Texts, Bytes, Truths, Integers, Ids, Ids, Texts, Truths,
    Truths,
)  # fmt: skip
GROWN = (
    Integers, Integers, Texts, Texts, Texts, Texts, Bigs, Texts, Bigs, Floats, Texts, Texts, Texts, Texts, Texts,
    Integers, Bytes, Texts, Bytes, Truths, Ids, Texts, Truths, Truths, Ids,
)  # fmt: skip
EVENTS = (Ids, Integers, Integers, Bytes, Bytes, Bytes)
BODIES = (Ids, Smalls, Integers, Integers, Texts, Bytes, Bytes)
PAYMENTS = (Ids, Integers, Texts, Texts, Texts, Texts, Texts, Texts, Texts, Texts, Texts)
KEYS = (Texts, Texts, Texts, Ids, Integers)
DELIVERIES = (Ids, Texts, Texts, Bigs)
