"""Putting down messages of many payments in PostgreSQL, beside the journal.

Each step is a transaction of its own that need not be on disk (`synchronous_commit = off`): the log is one, so the
commit that makes the message count brings everything before it there. What a step takes of others, or others of it, is
settled on the row in `stagings`: who wants a key holds it `FOR SHARE`, the commit that makes the message count
`FOR UPDATE`.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow

from interlock.errors import Contended, LeaseLost
from interlock.stores import rows as mapping
from interlock.stores.postgres.arrays import KEYS, PAYMENTS, Ids, Integers, Texts, columns
from interlock.stores.postgres.batch import Seat
from interlock.stores.postgres.connections import Connection, fetch, for_bulk, translated
from interlock.stores.postgres.waves import Name
from interlock.stores.statements import queries
from interlock.transaction import BodyKind, Key, KeyKind, Staged

#: Rows deleted at a time.
_STEP = 5000
#: How often a step is tried again that met others at the wrong moment.
_TRIES = 20
#: What others can do to a step; a check is violated where a partition is made for its rows meanwhile.
_RACES = (psycopg.errors.DeadlockDetected, psycopg.errors.CheckViolation, psycopg.errors.UniqueViolation)


class _Raced(Exception):
    """Somebody else got between two statements."""


class PostgresStager:
    """`interlock.ports.Stager` over one database."""

    def __init__(self, url: str, seat: Seat, transaction: UUID, client: str) -> None:
        """seat: of the process that has it in hand."""
        self._seat = seat
        self._tx = transaction
        self._client = client
        self._sql = queries("postgres")
        with translated():
            self._connection: Connection = for_bulk(url, synchronous_commit="off")

    def begin(self) -> None:
        """Note that it is being put down."""
        with translated():
            self._connection.execute(self._sql["begin_staging"], (self._tx, self._client, self._seat.token))

    def _do(self, name: str, *bindings: Any) -> list[TupleRow]:
        return fetch(self._connection, self._sql[name], bindings)

    def _run(self, name: str, *bindings: Any) -> int:
        return self._connection.execute(self._sql[name], bindings).rowcount

    def _step(self, work: Callable[[], Any]) -> Any:
        """One small transaction, tried again where it met others."""
        with translated():
            for _ in range(_TRIES):
                try:
                    with self._connection.transaction():
                        if not self._do("may_stage", self._tx, self._seat.token):
                            raise LeaseLost("this process's lease has run out, or another has its work")
                        return work()
                except (_Raced, *_RACES):
                    continue
        raise Contended("too many others write the same at once")

    def stage(self, staged: Staged, reason: str, note: str) -> frozenset[int]:
        return frozenset(self._step(lambda: self._stage(staged, reason, note)))

    def _stage(self, staged: Staged, reason: str, note: str) -> set[int]:
        tx, region = self._tx.bytes, self._seat.region
        wanted: dict[Name, Key] = {}
        for key in staged.reserves:
            wanted.setdefault((self._client, key.kind, key.value), key)
        taken = self._reserve(wanted, rob=False)
        payments, earlier = mapping.marked(staged, taken, reason, note)
        if payments:
            self._run("insert_payments", *columns(PAYMENTS, [mapping.paid(tx, p) for p in payments]), region)
        if earlier:
            self._refuse(earlier)
        names: list[tuple[str, str, str, bytes, int]] = [
            (self._client, key.kind, key.value, tx, key.payment) for key in staged.names
        ]
        names += [(*name, tx, key.payment) for name, key in wanted.items() if key.payment in taken]
        if names:
            self._run("name_keys", *columns(KEYS, names), region)
        return taken

    def _reserve(self, wanted: dict[Name, Key], *, rob: bool) -> set[int]:
        """Take the keys; ordinals of payments whose key is another's.

        rob: also take those of what does not count either; else that is left to `duplicates`.
        """
        if not wanted:
            return set()
        tx, region = self._tx.bytes, self._seat.region
        rows = [(*name, tx, key.payment) for name, key in wanted.items()]
        got = set(self._do("reserve", *columns(KEYS, rows), region))
        holders = self._holders([name for name in wanted if name not in got])
        ids = Ids(sorted({holder for _, _, _, holder, _ in holders}))
        # In this order: what counts since it was looked whether it does may have come to nothing with that.
        weak = {holder for (holder,) in self._do("weak", ids)}
        failed = set(self._do("failed_payments", ids))
        taken: dict[Name, int] = {}
        for client, kind, value, holder, payment in sorted(holders):
            key = wanted[client, kind, value]
            if holder == tx:
                continue  # the rules judge what stands twice in one message
            if holder in weak and not rob:
                self._run("lose", self._tx, key.payment, kind, value)
                continue
            if (holder, payment) not in failed and holder not in weak:
                taken[client, kind, value] = key.payment
                continue
            row = (client, kind, value, UUID(bytes=holder), payment, self._tx, key.payment, region)
            if not self._do("take_over", *row):
                raise _Raced
            if holder in weak:
                self._run("lose", UUID(bytes=holder), payment, kind, value)
        self._holders(list(taken))  # what held one may have been swept, and is no more
        return set(taken.values())

    def _holders(self, names: list[Name]) -> list[TupleRow]:
        """Who holds each of these keys."""
        if not names:
            return []
        holders = self._do("holders", *columns((Texts, Texts, Texts), names), self._seat.region)
        if len(holders) != len(names):
            raise _Raced
        return holders

    def part(self, kind: BodyKind, number: int, content: bytes) -> None:
        place = int(kind is BodyKind.OUTBOX) + 2 * number
        row = (self._tx, place, self._seat.writer, sha256(content).digest(), mapping.compress(content))
        self._step(lambda: self._run("put_part", *row))

    def drop_parts(self, kind: BodyKind, beyond: int) -> None:
        self._step(lambda: self._run("drop_parts", self._tx, int(kind is BodyKind.OUTBOX), beyond))

    def refuse(self, refused: Sequence[tuple[int, str, str | None]]) -> None:
        if refused:
            self._step(lambda: self._refuse(refused))

    def _refuse(self, refused: Sequence[tuple[int, str, str | None]]) -> None:
        self._run("refuse_payments", self._tx, *columns((Integers, Texts, Texts), refused), self._seat.region)

    def duplicates(self, reason: str, note: str) -> frozenset[int]:
        found: set[int] = set()
        while (lost := self._step(lambda: self._settle(reason, note))) is not None:
            found |= lost
        return frozenset(found)

    def _settle(self, reason: str, note: str) -> set[int] | None:
        """Some losses; None where there are none left."""
        losses = self._do("take_losses", self._tx, _STEP)
        if not losses:
            return None
        wanted = {
            (self._client, kind, value): Key(kind=KeyKind(kind), value=value, payment=payment)
            for kind, value, payment in losses
        }
        lost = self._reserve(wanted, rob=True)
        if lost:
            self._refuse([(ordinal, reason, note) for ordinal in sorted(lost)])
            names = [(*name, self._tx.bytes, key.payment) for name, key in wanted.items() if key.payment in lost]
            self._run("name_keys", *columns(KEYS, names), self._seat.region)
        return lost

    def follow(self) -> None:
        while self._step(lambda: self._run("follow", self._tx, self._seat.region, _STEP)):
            pass
        self._forget_losses()

    def _forget_losses(self) -> None:
        while self._step(lambda: self._do("take_losses", self._tx, _STEP)):
            pass

    def drop_payments(self) -> None:
        while self._step(lambda: self._run("delete_staged_keys", self._tx, _STEP)):
            pass
        while self._step(lambda: self._run("delete_staged_payments", self._tx, _STEP, self._seat.region)):
            pass
        self._forget_losses()

    def give_up(self) -> None:
        with translated():
            self._run("give_up_staging", self._tx, self._seat.token)

    def sweep(self) -> None:
        """Take everything away."""
        self.drop_payments()
        while self._step(lambda: self._run("delete_staged_parts", self._tx, 20)):
            pass
        # Last, for as long as it is there everything else is known for what it is.
        self._step(lambda: self._run("end_staging", [self._tx]))

    def close(self) -> None:
        self._connection.close()


def adopted(url: str, seat: Seat) -> PostgresStager | None:
    """What a process that is gone was putting down, in this one's hands now; None: there is none."""
    with translated():
        connection = for_bulk(url)
        try:
            rows = fetch(connection, queries("postgres")["adopt_staging"], (seat.token,))
        finally:
            connection.close()
    return PostgresStager(url, seat, *rows[0]) if rows else None
