"""One batch on its way into SQLite: within the one transaction that its store has begun.

Owns: which writes lose, and what they came to. Must not know: when a batch is committed, or what a failed commit means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import apsw

from interlock.chain import encode, link, micros
from interlock.errors import LeaseLost
from interlock.ports import Client, Control, DeliveryUpdate, IdempotencyTaken, KeysTaken, Outcome, SigningKey, Write
from interlock.stores import rows as mapping
from interlock.stores.rows import Row
from interlock.transaction import BodyKind, Change, Key, KeyKind


@dataclass(slots=True)
class Tail:
    """Where the next commit goes on."""

    #: The last event of the chain.
    chain_seq: int
    chain_hash: bytes
    #: The number of the next new transaction's row.
    next_row: int


class Batch:
    """One batch on its way into the file: what can lose is tried at once, the rest is gathered and written together."""

    def __init__(
        self,
        db: apsw.Connection,
        sql: Mapping[str, str],
        tail: Tail,
        *,
        batch: bytes,
        writer: int,
        token: int,
        seals: bool,
    ) -> None:
        """seals: this process is the writer; an administrator's beside it leaves the writer's own row alone."""
        self.tail = replace(tail)
        self._db = db
        self._sql = sql
        self._id = batch
        self._writer = writer
        self._token = token
        self._seals = seals
        self._events: list[Row] = []
        self._bodies: list[Row] = []
        self._payments: list[Row] = []
        self._names: list[Row] = []
        self._deliveries: list[Row] = []

    def write(self, write: Write) -> Outcome:
        match write:
            case Change():
                if not self._seals:
                    raise LeaseLost("only the process that is registered may change transactions")
                return self._change(write)
            case Client():
                scopes = " ".join(sorted(write.scopes))
                disabled = None if write.disabled_at is None else micros(write.disabled_at)
                row = (write.id, write.name, write.secret_mac, scopes, micros(write.created_at), disabled)
                self._do("put_client", row)
            case SigningKey():
                retired = None if write.retired_at is None else micros(write.retired_at)
                self._do("put_signing_key", (write.id, write.private_pem, micros(write.created_at), retired))
            case Control():
                order = (write.scope, write.name, int(write.stopped), write.actor, write.note, micros(write.at))
                self._do("put_control", order)
            case DeliveryUpdate():
                self._flush()
                state = write.state
                self._do("update_delivery", (state, micros(write.at), write.transaction.bytes, write.channel, state))
        return mapping.WON

    def _do(self, name: str, bindings: Row) -> int:
        self._db.execute(self._sql[name], bindings)
        return int(self._db.changes())

    def _get(self, name: str, bindings: Row) -> Row | None:
        row: Row | None = self._db.execute(self._sql[name], bindings).fetchone()
        return row

    # -- a change --

    def _change(self, change: Change) -> Outcome:
        """Everything that can make it lose first, so that a loser has little to undo."""
        if change.original is not None and self._locate(change.original) is None:
            return mapping.STALE
        row = self._locate(change) if change.read else self._insert(change)
        if row is None:
            return mapping.STALE
        lost = self._claim_idempotency(change, row) or self._losses(change, row) or self._reserve(change, row)
        if lost is not None:
            self._undo(change, row, lost)
            return lost
        if change.read:
            self._do("update_transaction", (*mapping.grown(change.after), row))
        elif change.staged:
            self._do("end_staging", (row,))
            self._do("forget_staged_keys", (row,))
        else:
            self.tail.next_row += 1
        self._gather(change, row)
        if change.original is not None:
            self._change(change.original)
        return mapping.WON

    def _locate(self, change: Change) -> int | None:
        """The row of a transaction, if it still has the version that the change was decided on."""
        found = self._get("locate", (change.after.id.bytes,))
        return found[0] if found is not None and found[1] == change.read else None

    def _insert(self, change: Change) -> int | None:
        """The row of a new transaction; None where its id is not new."""
        row = self.tail.next_row
        if change.staged:
            staging = self._get("staging", (change.after.id.bytes, self._token))
            if staging is None:
                return None
            row = staging[0]
        return row if self._do("insert_transaction", (*mapping.born(change.after), row)) else None

    def _undo(self, change: Change, row: int, lost: Outcome) -> None:
        """Take back what a change did before it lost; the keys it got are taken back where that was noticed."""
        if change.idempotency is not None and not isinstance(lost, IdempotencyTaken):
            self._do("forget_idempotency", (change.after.client, change.idempotency.key))
        if not change.read:
            self._do("delete_transaction", (row,))

    def _claim_idempotency(self, change: Change, row: int) -> Outcome | None:
        claim = change.idempotency
        if claim is None:
            return None
        client = change.after.client
        if self._do("insert_idempotency", (client, claim.key, claim.digest, row)):
            return None
        found = self._get("idempotent", (client, claim.key))
        assert found is not None  # the insert found it, and nobody else writes
        return IdempotencyTaken(UUID(bytes=found[0]), found[1])

    def _losses(self, change: Change, row: int) -> Outcome | None:
        """Keys that a staged message wants and others had, or have taken; whose they are now its stager looks up."""
        if not change.staged:
            return None
        rows: list[Row] = self._db.execute(self._sql["losses"], (row, -1)).fetchall()
        taken = (
            (Key(kind=KeyKind(kind), value=value, payment=payment), change.after.id) for payment, kind, value in rows
        )
        return KeysTaken(tuple(taken)) if rows else None

    def _reserve(self, change: Change, row: int) -> Outcome | None:
        client = change.after.client
        taken: list[tuple[Key, UUID]] = []
        got: list[Key] = []
        for key in change.reserves:
            if self._do("reserve", (client, key.kind, key.value, row, key.payment)):
                got.append(key)
                continue
            holder, payment, holder_id, free, weak = self._holder(client, key)
            if holder == row:
                continue  # held since an earlier step, or named twice in this one
            if payment and (free or weak):
                self._take_over(client, key, row, (holder, payment))
                if weak:
                    self._do("lose", (holder, payment, key.kind, key.value))
                got.append(key)
            else:
                taken.append((key, UUID(bytes=holder_id)))
        if not taken:
            return None
        for key in got:
            self._do("unreserve", (client, key.kind, key.value))
        return KeysTaken(tuple(taken))

    def _holder(self, client: str, key: Key) -> Row:
        """Who holds a key: its row, the payment, its id, and whether that payment was rejected or cancelled."""
        self._flush()
        found = self._get("holder", (client, key.kind, key.value))
        assert found is not None  # the insert found it, and nobody else writes
        return found

    def _take_over(self, client: str, key: Key, row: int, holder: tuple[int, int]) -> None:
        """Take a key whose payment came to nothing; the old holder is still found by it."""
        tx, payment = holder
        self._do("name_key", (client, key.kind, key.value, tx, tx, payment))
        self._do("unreserve", (client, key.kind, key.value))
        self._do("reserve", (client, key.kind, key.value, row, key.payment))

    def _gather(self, change: Change, row: int) -> None:
        after, tail = change.after, self.tail
        digests = [body.digest for body in change.bodies]
        for event in change.events:
            content = encode(after.id, event, digests)
            digests = []  # the first event of the step is the one that the bodies came with
            previous, tail.chain_hash = tail.chain_hash, link(tail.chain_hash, content)
            tail.chain_seq += 1
            self._events.append((tail.chain_seq, self._writer, row, event.seq, content, previous, tail.chain_hash))
        for body in change.bodies:
            place = row * 2 + (body.kind is BodyKind.OUTBOX)
            content = b"" if body.parts else mapping.compress(body.content)
            self._bodies.append((place, body.definition, body.digest, content))
        self._payments.extend(mapping.paid(row, payment) for payment in change.payments)
        self._names.extend((after.client, key.kind, key.value, row, row, key.payment) for key in change.names)
        at = micros(after.updated_at)
        self._deliveries.extend((row, delivery.channel, delivery.state, at) for delivery in change.deliveries)
        for ordinal, status, reason, note in change.ended:
            self._flush()
            self._do("end_payment", (status, reason, note, row, ordinal))
        if change.ends_all is not None:
            self._flush()
            self._do("end_payments", (*change.ends_all, row))

    def _flush(self) -> None:
        """Write what was gathered, so that what follows in the batch sees it."""
        for name, rows in (
            ("insert_event", self._events),
            ("insert_body", self._bodies),
            ("insert_payment", self._payments),
            ("name_key", self._names),
            ("insert_delivery", self._deliveries),
        ):
            if rows:
                self._db.executemany(self._sql[name], rows)
                rows.clear()

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        self._flush()
        if self._seals:
            self._do("seal", (self._id, mapping.pack_outcomes(outcomes), self.tail.chain_seq, self.tail.chain_hash))
