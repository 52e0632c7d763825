"""Putting down messages of many payments in SQLite, beside the journal, which never waits for more than one small step.

SQLite has one writer at a time. A stager writes over a connection of its own, some hundred rows at a time; between two
steps whoever commits goes first. Its steps are not synced: the log is one, so the commit that makes the message count
brings everything before it to the disk. It brings the log into the file itself, else whoever commits would have to.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import apsw
import msgspec

from interlock.errors import LeaseLost, StoreUnavailable
from interlock.stores import rows as mapping
from interlock.transaction import BodyKind, Key, KeyKind, Staged

Row = tuple[Any, ...]
#: Rows deleted at a time.
_STEP = 1000
#: Pages in the log from which on it is brought into the file; fewer than those at which the journal does so.
_LOG_PAGES = 2000


class Turn:
    """A lock that lets the one who commits go before those who stage."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nobody_first = threading.Event()
        self._nobody_first.set()

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """For the journal, which is alone in this."""
        self._nobody_first.clear()
        try:
            with self._lock:
                yield
        finally:
            self._nobody_first.set()

    def __enter__(self) -> None:
        """For all others: once nobody who goes first is waiting."""
        self._nobody_first.wait()
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Whoever waits may go."""
        self._lock.release()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns what SQLite says about disks and files into our own words."""
    try:
        yield
    except (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.BusyError) as exc:
        raise StoreUnavailable(f"the store cannot be used now: {exc}") from exc
    except (apsw.CorruptError, apsw.NotADBError) as exc:
        raise StoreUnavailable(f"the store's file is damaged ({exc}); restore a backup: interlock db restore") from exc


class SqliteStager:
    """`interlock.ports.Stager` over one file."""

    def __init__(
        self, db: apsw.Connection, sql: Mapping[str, str], turn: Turn, row: int, client: str, token: int
    ) -> None:
        """row: of the transaction that is to be. token: of the process that has it in hand."""
        self._db = db
        self._sql = sql
        self._turn = turn
        self._row = row
        self._client = client
        self._token = token
        self._number = 0
        self._log_pages = 0
        db.set_wal_hook(self._note_log)

    def _note_log(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _empty_log(self) -> None:
        """Bring the log into the file, most of it beside whoever commits; the next to write begins it anew."""
        if self._log_pages < _LOG_PAGES:
            return
        with contextlib.suppress(apsw.BusyError):  # somebody else is at it
            self._db.wal_checkpoint()
            with self._turn:
                self._db.wal_checkpoint()
        self._log_pages = 0

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        """One small transaction, in turn."""
        db = self._db
        with translated(), self._turn:
            db.execute("BEGIN IMMEDIATE")
            try:
                if not self._get("may_stage", (self._row, self._token)):
                    raise LeaseLost("it counts already, or another process writes to this store now")
                yield
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        with translated():
            self._empty_log()

    def _do(self, name: str, bindings: Row) -> int:
        self._db.execute(self._sql[name], bindings)
        return int(self._db.changes())

    def _get(self, name: str, bindings: Row) -> list[Row]:
        found: list[Row] = self._db.execute(self._sql[name], bindings).fetchall()
        return found

    def stage(self, staged: Staged, reason: str, note: str) -> frozenset[int]:
        with self._step():
            taken = self._note(staged) if staged.reserves or staged.names else frozenset()
            payments, earlier = mapping.marked(staged, taken, reason, note)
            self._db.executemany(self._sql["insert_payment"], [mapping.paid(self._row, p) for p in payments])
            self._refuse(earlier)
        return taken

    def _note(self, staged: Staged) -> frozenset[int]:
        """Take the keys, and note them; ordinals of payments whose key is another's."""
        taken = self._reserve(staged.reserves, rob=False)
        self._name(staged.names)
        self._number += 1
        keys = [(key.kind.value, key.value) for key in (*staged.reserves, *staged.names)]
        packed = mapping.compress(msgspec.msgpack.encode(keys))
        self._do("insert_staged_keys", (self._row, self._number, packed))
        return taken

    def _name(self, keys: Sequence[Key]) -> None:
        names = [(self._client, key.kind.value, key.value, self._row, self._row, key.payment) for key in keys]
        self._db.executemany(self._sql["name_key"], names)

    def _reserve(self, keys: Sequence[Key], *, rob: bool) -> frozenset[int]:
        """Take the keys; ordinals of payments whose key is another's, and which then only finds them.

        rob: also take those of what does not count either; else that is left to `duplicates`.
        """
        row, client = self._row, self._client
        taken: list[Key] = []
        for key in keys:
            if self._do("reserve", (client, key.kind, key.value, row, key.payment)):
                continue
            holder, payment, _, free, weak = self._get("holder", (client, key.kind, key.value))[0]
            if holder == row:
                continue  # the rules judge what stands twice in one message
            if weak and not rob:
                self._do("lose", (row, key.payment, key.kind, key.value))
            elif free or weak:
                self._do("name_key", (client, key.kind, key.value, holder, holder, payment))
                self._do("unreserve", (client, key.kind, key.value))
                self._do("reserve", (client, key.kind, key.value, row, key.payment))
                if weak:
                    self._do("lose", (holder, payment, key.kind, key.value))
            else:
                taken.append(key)
        self._name(taken)
        return frozenset(key.payment for key in taken)

    def part(self, kind: BodyKind, number: int, content: bytes) -> None:
        place = self._row * 2 + (kind is BodyKind.OUTBOX)
        packed = mapping.compress(content)
        with self._step():
            self._do("put_part", (place, number, packed))

    def drop_parts(self, kind: BodyKind, beyond: int) -> None:
        with self._step():
            self._do("drop_parts", (self._row * 2 + (kind is BodyKind.OUTBOX), beyond))

    def refuse(self, refused: Sequence[tuple[int, str, str | None]]) -> None:
        with self._step():
            self._refuse(refused)

    def _refuse(self, refused: Sequence[tuple[int, str, str | None]]) -> None:
        self._db.executemany(
            self._sql["refuse_payment"], [(reason, note, self._row, ordinal) for ordinal, reason, note in refused]
        )

    def duplicates(self, reason: str, note: str) -> frozenset[int]:
        found: set[int] = set()
        more = True
        while more:
            with self._step():
                losses = self._get("losses", (self._row, _STEP))
                more = bool(losses)
                for payment, kind, _ in losses:
                    self._do("forget_loss", (self._row, payment, kind))
                lost = self._reserve([Key(kind=KeyKind(k), value=v, payment=p) for p, k, v in losses], rob=True)
                self._refuse([(ordinal, reason, note) for ordinal in sorted(lost)])
            found |= lost
        return frozenset(found)

    def follow(self) -> None:
        more = True
        while more:
            with self._step():
                more = self._do("follow", (self._row, _STEP)) > 0
        with self._step():
            self._do("forget_losses", (self._row,))

    def drop_payments(self) -> None:
        more = True
        while more:
            with self._step():
                more = self._drop_keys() or self._do("delete_payments", (self._row, _STEP)) > 0
        with self._step():
            self._do("forget_losses", (self._row,))

    def _drop_keys(self) -> bool:
        """Take back the keys of one step; False where there are none left."""
        found = self._get("staged_keys", (self._row,))
        for number, packed in found:
            keys = msgspec.msgpack.decode(mapping.decompress(packed), type=list[tuple[str, str]])
            # Reserved, or only a name: because its payment was a duplicate, or because somebody else has taken it.
            both = [(self._client, *key, freed, self._row) for key in keys for freed in (0, self._row)]
            self._db.executemany(self._sql["delete_key"], both)
            self._do("delete_staged_keys", (self._row, number))
        return bool(found)

    def give_up(self) -> None:
        with translated(), self._turn:
            self._do("give_up_staging", (self._row, self._token))

    def sweep(self) -> None:
        """Take everything away."""
        self.drop_payments()
        more = True
        while more:
            with self._step():
                more = self._do("delete_parts", (self._row, 1)) > 0
        # Last, for as long as it is there everything else is known for what it is.
        with self._step():
            self._do("end_staging", (self._row,))

    def close(self) -> None:
        self._db.close()
