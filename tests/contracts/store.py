"""What every store must hold, in words of `interlock.ports.Store` and nothing else.

A back end brings a fixture `backend` that opens stores over one and the same data, each as another process would.
"""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import pytest
from msgspec import structs

from interlock import chain
from interlock.chain import Link
from interlock.errors import LeaseLost
from interlock.iso20022.codes import HeldCause, Status
from interlock.lifecycle import EventKind, Standing
from interlock.ports import (
    Client,
    Control,
    ControlScope,
    DeliveryUpdate,
    IdempotencyTaken,
    KeysTaken,
    Open,
    Outcome,
    Query,
    SigningKey,
    Stager,
    Stale,
    Store,
    Won,
    Write,
)
from interlock.stages.steps import Steps
from interlock.transaction import (
    QUALIFIER,
    Body,
    BodyKind,
    Change,
    Clock,
    Deadline,
    Delivery,
    DeliveryState,
    Event,
    Idempotency,
    Key,
    KeyKind,
    Payment,
    PaymentEnd,
    Staged,
    Transaction,
)

AT = datetime(2026, 3, 4, 5, 6, 7, 891011, UTC)
ALICE, BOB = "c_alice", "c_bob"


class Backend(Protocol):
    """Opens stores over the same data."""

    def open(self) -> Store:
        """One more store, as another process would open it."""
        ...

    def succeed(self, store: Store) -> Store:
        """One more, registered, in the place of a process that writes: that one has been given up."""
        ...


# -- making changes ---------------------------------------------------------------------------------------------------


def new_id(at: datetime = AT) -> UUID:
    """A UUIDv7 of a moment."""
    millis = chain.micros(at) // 1000
    return UUID(int=(millis << 80) | (7 << 76) | (2 << 62) | (uuid.uuid4().int & ((1 << 62) - 1)) & ~0xFF)


def body(content: bytes, kind: BodyKind = BodyKind.INBOX, definition: str | None = "pacs.008.001.08") -> Body:
    """A body with its digest."""
    return Body(kind=kind, definition=definition, content=content, digest=sha256(content).digest())


def payment(ordinal: int = 1, status: Status = Status.ACTC, **changes: Any) -> Payment:
    """A payment with every field set."""
    return structs.replace(
        Payment(
            ordinal=ordinal,
            instruction_id=f"I{ordinal}",
            end_to_end_id=f"E{ordinal}",
            transaction_id=f"T{ordinal}",
            uetr=str(uuid.uuid4()),
            amount=Decimal("12345678901234.56789"),
            currency="EUR",
            status=status,
            reason=None,
        ),
        **changes,
    )


def uetr(value: str = "", payment: int = 1) -> Key:
    """A payment's key."""
    return Key(kind=KeyKind.UETR, value=f"{value or uuid.uuid4()}{QUALIFIER}pacs.008", payment=payment)


def msgid(value: str = "") -> Key:
    """A message's key."""
    return Key(kind=KeyKind.MESSAGE, value=value or uuid.uuid4().hex)


def birth(client: str = ALICE, at: datetime = AT, *, sla: timedelta = timedelta(seconds=30), **parts: Any) -> Change:
    """A transaction born with its message, in ACTC, with one payment; `parts` are fields of the change."""
    fields = parts.pop("fields", {})
    unborn = Transaction(
        **{
            "id": new_id(at), "client": client, "region": 0, "route": "default", "standing": Standing(), "version": 0,
            "created_at": at, "updated_at": at, "deadline": Deadline(clock=Clock.SLA, at=at + sla), **fields,
        }
    )  # fmt: skip
    steps = Steps(unborn, at)
    steps.take(EventKind.ID_ISSUED, actor=client)
    content = b"<Document/>" + unborn.id.bytes
    steps.take(
        EventKind.RECEIVED, actor=client, digest=sha256(content).digest(), definition="pacs.008.001.08", payments=1
    )
    whole: dict[str, Any] = {"bodies": (body(content),), "payments": (payment(),), **parts}
    return Change(after=_answered(steps.transaction, whole), events=steps.events, read=0, **whole)


#: What a payment is told whose key is another's.
DOUBLE = ("AM05", "sent before")


def bulk(**parts: Any) -> Change:
    """A transaction born with what was put down for it before."""
    content = Body(kind=BodyKind.INBOX, definition="pacs.008.001.08", content=b"", digest=b"\1" * 32, parts=2)
    return birth(bodies=(content,), payments=(), staged=True, **parts)


def staging(store: Store, writer: "Writer", transaction: UUID) -> AbstractContextManager[Stager]:
    """A stager of the process that writes, closed at the end."""
    return closing(store.stager(writer.token, transaction, ALICE))


def step(before: Transaction, kind: EventKind, at: datetime = AT, **parts: Any) -> Change:
    """One more event on a transaction; an end brings all payments to it."""
    steps = Steps(before, at)
    reason = "AB06" if kind in (EventKind.REFUSED, EventKind.DEADLINE) else None
    steps.take(kind, reason=reason)
    after = steps.transaction
    if after.standing.end is not None:
        parts.setdefault("ends_all", (after.standing.end, reason))
    return Change(after=_answered(after, parts), events=steps.events, read=steps.read, **parts)


def settled(before: Transaction, at: datetime = AT, **parts: Any) -> Change:
    """A transaction in ACTC to its end."""
    steps = Steps(before, at)
    steps.take(EventKind.PASSED)
    steps.take(EventKind.SETTLED)
    parts.setdefault("ends_all", (Status.ACSC, None))
    return Change(after=_answered(steps.transaction, parts), events=steps.events, read=steps.read, **parts)


def _answered(transaction: Transaction, parts: dict[str, Any]) -> Transaction:
    """The transaction with the digest of the answer that a change brings."""
    for one in parts.get("bodies", ()):
        if one.kind is BodyKind.OUTBOX:
            return structs.replace(transaction, answer_digest=one.digest)
    return transaction


def poisoned() -> Change:
    """A change that no store can write: a particular of its event is no JSON."""
    change = birth()
    spoilt = structs.replace(change.events[-1], detail={"impossible": object()})
    return structs.replace(change, events=(*change.events[:-1], spoilt))


def verified(store: Store) -> int:
    """The number of events in the chain, after it was found whole."""
    events = 0
    for head in store.heads():
        links = list(store.chain(head.journal))
        assert list(chain.faults(links, head)) == []
        events += len(links)
    return events


def links_of(store: Store) -> list[Link]:
    """The events of the one journal that there is."""
    (head,) = store.heads()
    links = list(store.chain(head.journal))
    return [item for item in links if isinstance(item, Link)]


class Writer:
    """A process that writes: a store with its token."""

    def __init__(self, store: Store, token: int | None = None) -> None:
        self.store = store
        self.token = store.register(AT) if token is None else token

    def commit(self, *writes: Write) -> list[Outcome]:
        """One batch."""
        return self.store.commit(self.token, writes, uuid.uuid4().bytes)

    def won(self, *changes: Change) -> list[Transaction]:
        """Commit changes that must win."""
        assert self.commit(*changes) == [Won()] * len(changes)
        return [change.after for change in changes]


def leaves_no_trace(store: Store, change: Change) -> None:
    """Assert that nothing of a newborn change was kept."""
    id_, client = change.after.id, change.after.client
    assert store.get(id_) is None
    assert store.history(id_) == ()
    assert store.payments(id_) == ()
    assert store.message(id_, BodyKind.INBOX) is None
    assert store.delivery(id_, "outbox") is None
    for key in (*change.reserves, *change.names):
        assert id_ not in {t.id for t in store.find(Query(client=client, key=(key.kind, key.value))).transactions}
    if change.idempotency is not None:
        used = store.idempotent(client, change.idempotency.key)
        assert used is None or used.transaction != id_


# -- the contract -----------------------------------------------------------------------------------------------------


class StoreContract:
    """Every test's docstring is one sentence of the contract."""

    #: Transactions that share one name: more than SQLite takes values in one statement, which are 32,766.
    THOUSANDS = 34

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        """Abstract: each back end's test class brings its own; the contract by itself is never run."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, backend: Backend) -> Store:
        """A store over fresh data."""
        return backend.open()

    @pytest.fixture
    def writer(self, store: Store) -> Writer:
        """The process that writes to it."""
        return Writer(store)

    # -- what is written is what is read --

    def test_a_new_store_is_empty(self, store: Store) -> None:
        """Before the first write everything is absent, and the chain is whole."""
        assert store.get(new_id()) is None
        assert store.find(Query(client=None)).transactions == ()
        assert store.in_flight(None, 10) == ()
        assert store.overdue(AT, 10) == ()
        assert store.next_deadline() is None
        assert store.latest() is None
        assert store.heads() == ()
        assert not store.clients()
        assert not store.signing_keys()
        assert not store.controls()
        assert store.open_by_status() == {}
        assert store.open_by_client() == {}
        assert verified(store) == 0
        assert store.check() == []

    def test_a_change_is_read_as_it_was_written(self, store: Store, writer: Writer) -> None:
        """Every field of every record comes back equal: state, events, payments, bodies, deliveries, idempotency."""
        refused = payment(2, Status.RJCT, reason="AM05", uetr=None, amount=None, currency=None)
        change = birth(
            payments=(payment(), refused),
            deliveries=(Delivery(channel="outbox"),),
            idempotency=Idempotency(key="k1", digest=b"d" * 32),
            fields={
                "announced": "pacs.008", "reference": "my ref", "message_id": "M1", "sla_left": 12.345678,
                "attempt": 3, "redrive_of": new_id(), "epoch": 7, "approved_by": "c:anna", "flagged": True,
                "note": "Zürich ✓", "code": "TOUT", "answer": "pacs.002.001.10", "answer_due": False,
            },
        )  # fmt: skip
        change = structs.replace(change, after=structs.replace(change.after, redriven_as=new_id(), reason="AB06"))
        writer.won(change)
        assert store.get(change.after.id) == change.after
        assert store.history(change.after.id) == change.events
        assert store.payments(change.after.id) == change.payments
        assert store.message(change.after.id, BodyKind.INBOX) == change.bodies[0]
        assert store.message(change.after.id, BodyKind.OUTBOX) is None
        assert store.delivery(change.after.id, "outbox") is DeliveryState.PENDING
        assert store.idempotent(ALICE, "k1") == IdempotencyTaken(change.after.id, b"d" * 32)

    def test_a_later_step_is_read_as_it_was_written(self, store: Store, writer: Writer) -> None:
        """What changes with a step is all kept, and what was fixed at birth stays."""
        (before,) = writer.won(birth(fields={"reference": "r", "announced": "pacs.008"}))
        steps = Steps(before, AT + timedelta(microseconds=1))
        steps.take(
            EventKind.HELD_FOR_DECISION, note="why", sla_left=1.5, approved_by="x", flagged=True, route="other",
            deadline=Deadline(clock=Clock.DECIDE, at=AT + timedelta(days=1, microseconds=7)),
            detail={"findings": [{"line": 3, "text": "ß"}], "n": 1.25, "none": None},
        )  # fmt: skip
        assert writer.commit(Change(after=steps.transaction, events=steps.events, read=steps.read)) == [Won()]
        assert store.get(before.id) == steps.transaction
        assert store.history(before.id)[2:] == steps.events

    @pytest.mark.parametrize(
        "content",
        [b"", b"\0", b"<a/>\r\n", bytes(range(256)) * 5, "é\ufeff".encode("utf-16"), bytes(3_000_000)],
        ids=["empty", "nul", "crlf", "binary", "utf-16", "3 MB"],
    )
    def test_bodies_are_kept_to_the_byte(self, store: Store, writer: Writer, content: bytes) -> None:
        """A message is read back as the bytes received, whatever they are, with its digest."""
        change = birth(bodies=(body(content), body(content + b"!", BodyKind.OUTBOX, None)))
        writer.won(change)
        assert store.message(change.after.id, BodyKind.INBOX) == change.bodies[0]
        assert store.message(change.after.id, BodyKind.OUTBOX) == change.bodies[1]

    def test_times_are_kept_to_the_microsecond(self, store: Store, writer: Writer) -> None:
        """No moment is rounded, neither far in the past nor far ahead."""
        for at in (
            datetime(1970, 1, 1, tzinfo=UTC),
            datetime(1999, 12, 31, 23, 59, 59, 999999, UTC),
            datetime(2026, 1, 1, 0, 0, 0, 1, UTC),
            datetime(2107, 8, 9, 10, 11, 12, 131415, UTC),
        ):
            (written,) = writer.won(birth(at=at))
            read = store.get(written.id)
            assert read is not None
            assert (read.created_at, read.updated_at, read.deadline) == (at, at, written.deadline)
            assert {event.at for event in store.history(written.id)} == {at}

    def test_history_is_in_order_and_without_gaps(self, store: Store, writer: Writer) -> None:
        """Events come oldest first, numbered from 1, also where many transactions are interleaved."""
        present = writer.won(*(birth() for _ in range(5)))
        for second in range(4):
            at = AT + timedelta(seconds=second)
            present = writer.won(*(step(t, EventKind.RECEIVED, at) for t in reversed(present)))[::-1]
        for transaction in present:
            history = store.history(transaction.id)
            assert [event.seq for event in history] == [1, 2, 3, 4, 5, 6]
            assert [event.at for event in history] == sorted(event.at for event in history)
            assert history[-1].seq == transaction.version

    def test_everything_committed_is_there_after_a_death(self, backend: Backend, writer: Writer) -> None:
        """A process that ends right after a commit, without closing anything, has lost nothing."""
        changes = [birth(reserves=(uetr(), msgid())) for _ in range(20)]
        for change in changes:
            writer.won(change)
        risen = backend.open()
        for change in changes:
            assert risen.get(change.after.id) == change.after
            assert risen.history(change.after.id) == change.events
            assert risen.message(change.after.id, BodyKind.INBOX) == change.bodies[0]
        assert verified(risen) == 40

    # -- versions --

    def test_of_two_changes_to_one_version_the_first_wins(self, store: Store, writer: Writer) -> None:
        """In one batch the second is told that it is stale, and leaves nothing behind."""
        (before,) = writer.won(birth())
        first = settled(before, bodies=(body(b"answer 1", BodyKind.OUTBOX),), deliveries=(Delivery(channel="outbox"),))
        second = step(
            before, EventKind.CANCELLED, reserves=(uetr("k"),), names=(msgid("n"),),
            bodies=(body(b"answer 2", BodyKind.OUTBOX),), deliveries=(Delivery(channel="other"),),
        )  # fmt: skip
        assert writer.commit(first, second) == [Won(), Stale()]
        assert store.get(before.id) == first.after
        assert [event.kind for event in store.history(before.id)][2:] == [EventKind.PASSED, EventKind.ENDED]
        assert [p.status for p in store.payments(before.id)] == [Status.ACSC]
        answer = store.message(before.id, BodyKind.OUTBOX)
        assert answer is not None
        assert answer.content == b"answer 1"
        assert store.delivery(before.id, "other") is None
        assert store.find(Query(client=ALICE, key=(KeyKind.MESSAGE, "n"))).transactions == ()
        assert writer.commit(birth(reserves=(uetr("k"),))) == [Won()]

    def test_a_change_to_an_older_version_is_stale(self, store: Store, writer: Writer) -> None:
        """In a later batch too; and one to a transaction that is not there."""
        (before,) = writer.won(birth())
        (now,) = writer.won(settled(before))
        assert writer.commit(step(before, EventKind.CANCELLED)) == [Stale()]
        unknown = structs.replace(before, id=new_id())
        assert writer.commit(step(unknown, EventKind.CANCELLED)) == [Stale()]
        assert store.get(before.id) == now
        assert store.get(unknown.id) is None

    def test_an_id_is_born_once(self, store: Store, writer: Writer) -> None:
        """A second birth under one id is stale: it neither changes the first nor fails its neighbours."""
        first, neighbour = birth(), birth()
        second = structs.replace(birth(), after=structs.replace(birth().after, id=first.after.id))
        writer.won(first)
        assert writer.commit(second, neighbour) == [Stale(), Won()]
        assert store.get(first.after.id) == first.after
        assert store.history(first.after.id) == first.events

    def test_one_end_whatever_races(self, store: Store, writer: Writer) -> None:
        """Of many threads that end one version, each in a commit of its own, exactly one wins."""
        lock = threading.Lock()  # the journal's part: one commit at a time

        def race(kind: EventKind) -> Outcome:
            start.wait()
            change = settled(before) if kind is EventKind.SETTLED else step(before, kind)
            with lock:
                return writer.commit(change)[0]

        for _ in range(10):
            (before,) = writer.won(birth())
            kinds = [EventKind.SETTLED, EventKind.CANCELLED, EventKind.DEADLINE, EventKind.REFUSED] * 2
            start = threading.Barrier(len(kinds))
            with ThreadPoolExecutor(len(kinds)) as pool:
                outcomes = list(pool.map(race, kinds))
            assert sorted(map(repr, outcomes)) == ["Stale()"] * 7 + ["Won()"]
            history = store.history(before.id)
            assert [event.kind for event in history].count(EventKind.ENDED) == 1
            present = store.get(before.id)
            assert present is not None
            assert present.standing == history[-1].standing

    # -- keys --

    @pytest.mark.parametrize(
        "key", [uetr("u"), msgid("m"), Key(kind=KeyKind.HEADER, value="a/b")], ids=lambda k: k.kind
    )
    def test_a_key_is_reserved_once(self, store: Store, writer: Writer, key: Key) -> None:
        """The second one with a key loses, in the same batch or later, and is told who holds it."""
        holder, double, late = birth(reserves=(key,)), birth(reserves=(key,)), birth(reserves=(key,))
        taken = KeysTaken(((key, holder.after.id),))
        assert writer.commit(holder, double) == [Won(), taken]
        assert writer.commit(late) == [taken]
        leaves_no_trace(store, double)
        leaves_no_trace(store, late)
        assert writer.commit(birth(BOB, reserves=(key,))) == [Won()]  # another client's keys are its own

    def test_a_loser_leaves_no_trace(self, store: Store, writer: Writer) -> None:
        """No state, event, body, payment, delivery, key or idempotency record; its neighbours win."""
        holder = birth(reserves=(uetr("taken"),))
        loser = birth(
            reserves=(msgid("free"), uetr("free"), uetr("taken", 2), msgid("free 2")),
            names=(Key(kind=KeyKind.END_TO_END, value="e2e"),),
            deliveries=(Delivery(channel="outbox"),),
            idempotency=Idempotency(key="idem", digest=b"1"),
        )
        before, after = birth(), birth()
        outcomes = writer.commit(holder, before, loser, after)
        assert outcomes == [Won(), Won(), KeysTaken(((uetr("taken", 2), holder.after.id),)), Won()]
        leaves_no_trace(store, loser)
        heir = birth(reserves=loser.reserves[:2], idempotency=loser.idempotency)
        assert writer.commit(heir) == [Won()]
        for neighbour in (holder, before, after):
            assert store.history(neighbour.after.id) == neighbour.events
            assert store.payments(neighbour.after.id) == neighbour.payments
        assert verified(store) == 8

    def test_all_taken_keys_are_told_at_once(self, writer: Writer) -> None:
        """A loser learns every key that is another's, so that it need not lose once for each."""
        one, two = writer.won(birth(reserves=(uetr("1"),)), birth(reserves=(uetr("2"),)))
        outcome = writer.commit(birth(reserves=(uetr("1", 1), uetr("2", 2), uetr("3", 3))))
        assert outcome == [KeysTaken(((uetr("1", 1), one.id), (uetr("2", 2), two.id)))]

    def test_a_step_that_loses_keeps_what_it_held(self, store: Store, writer: Writer) -> None:
        """A transaction that reserves its own key again, and loses to another key, still holds its own."""
        other, mine = writer.won(birth(reserves=(uetr("other"),)), birth(reserves=(uetr("mine"), msgid("mine"))))
        again = structs.replace(settled(mine), reserves=(uetr("mine"), msgid("mine"), uetr("other", 2)))
        assert writer.commit(again) == [KeysTaken(((uetr("other", 2), other.id),))]
        assert writer.commit(birth(reserves=(uetr("mine"),))) == [KeysTaken(((uetr("mine"), mine.id),))]
        assert writer.commit(birth(reserves=(msgid("mine"),))) == [KeysTaken(((msgid("mine"), mine.id),))]
        assert store.get(mine.id) == mine

    def test_a_step_may_reserve_its_own_keys_again(self, writer: Writer) -> None:
        """What a transaction holds is no obstacle to itself."""
        (mine,) = writer.won(birth(reserves=(uetr("mine"), msgid("mine"))))
        assert writer.commit(structs.replace(settled(mine), reserves=(uetr("mine"), msgid("mine")))) == [Won()]

    def test_one_change_may_name_a_key_twice(self, writer: Writer) -> None:
        """Two payments of one newborn message with one key are no obstacle to each other; the rules judge them."""
        change = birth(reserves=(uetr("same", 1), uetr("same", 2)), payments=(payment(1), payment(2)))
        assert writer.commit(change) == [Won()]
        assert writer.commit(birth(reserves=(uetr("same"),))) == [KeysTaken(((uetr("same"), change.after.id),))]

    @pytest.mark.parametrize("kind", [EventKind.REFUSED, EventKind.CANCELLED, EventKind.DEADLINE], ids=str)
    def test_the_key_of_a_payment_that_failed_is_free(self, store: Store, writer: Writer, kind: EventKind) -> None:
        """It may be taken over once its payment is rejected or cancelled, by one only; both are found by it."""
        (first,) = writer.won(birth(reserves=(uetr("u"),)))
        assert writer.commit(birth(reserves=(uetr("u"),))) == [KeysTaken(((uetr("u"), first.id),))]
        heir, late = birth(at=AT + timedelta(seconds=1), reserves=(uetr("u"),)), birth(reserves=(uetr("u"),))
        writer.won(step(first, kind))
        assert writer.commit(heir, late) == [Won(), KeysTaken(((uetr("u"), heir.after.id),))]
        assert writer.commit(birth(reserves=(uetr("u"),))) == [KeysTaken(((uetr("u"), heir.after.id),))]
        found = store.find(Query(client=ALICE, key=(KeyKind.UETR, "u"))).transactions
        assert [t.id for t in found] == [heir.after.id, first.id]

    def test_a_key_that_one_message_had_twice_is_freed_like_any_other(self, store: Store, writer: Writer) -> None:
        """The second payment with it was refused and only named by it; the first one's end frees it all the same."""
        key, twin = uetr("u"), uetr("u", payment=2)
        both = (payment(), payment(2, Status.RJCT, reason="AM05"))
        (first,) = writer.won(birth(reserves=(key,), names=(twin,), payments=both))
        writer.won(step(first, EventKind.CANCELLED))
        heir, neighbour = birth(reserves=(key,)), birth()
        assert writer.commit(heir, neighbour) == [Won(), Won()]
        found = store.find(Query(client=ALICE, key=(key.kind, key.value))).transactions
        assert {transaction.id for transaction in found} == {first.id, heir.after.id}

    def test_the_key_of_a_payment_that_settled_is_never_free(self, writer: Writer) -> None:
        """A second payment under it would be a double."""
        (first,) = writer.won(birth(reserves=(uetr("u"),)))
        writer.won(settled(first))
        assert writer.commit(birth(reserves=(uetr("u"),))) == [KeysTaken(((uetr("u"), first.id),))]

    def test_keys_go_by_payment(self, writer: Writer) -> None:
        """Where one payment of a message was rejected and the other settled, only the rejected one's key is free."""
        two = (payment(1), payment(2))
        (first,) = writer.won(birth(payments=two, reserves=(uetr("1", 1), uetr("2", 2))))
        writer.won(settled(first, ended=(PaymentEnd(1, Status.RJCT, "AC02"),)))
        assert writer.commit(birth(reserves=(uetr("2"),))) == [KeysTaken(((uetr("2"), first.id),))]
        assert writer.commit(birth(reserves=(uetr("1"),))) == [Won()]

    @pytest.mark.parametrize("kind", [KeyKind.MESSAGE, KeyKind.HEADER], ids=str)
    def test_the_key_of_a_message_stays_after_its_end(self, writer: Writer, kind: KeyKind) -> None:
        """A message identification is used once, however its message ended."""
        key = Key(kind=kind, value="m")
        (first,) = writer.won(birth(reserves=(key,)))
        writer.won(step(first, EventKind.CANCELLED))
        assert writer.commit(birth(reserves=(key,))) == [KeysTaken(((key, first.id),))]

    def test_a_take_over_that_loses_after_all_gives_the_key_back(self, store: Store, writer: Writer) -> None:
        """A key that was free is free again where its taker lost to another one, and still finds its first holder."""
        (first,) = writer.won(birth(reserves=(uetr("u"),)))
        (live,) = writer.won(birth(reserves=(uetr("live"),)))
        writer.won(step(first, EventKind.CANCELLED))
        loser = birth(reserves=(uetr("u", 1), uetr("live", 2)))
        assert writer.commit(loser) == [KeysTaken(((uetr("live", 2), live.id),))]
        leaves_no_trace(store, loser)
        found = store.find(Query(client=ALICE, key=(KeyKind.UETR, "u"))).transactions
        assert [t.id for t in found] == [first.id]
        assert writer.commit(birth(reserves=(uetr("u"),))) == [Won()]

    def test_names_find_but_refuse_nobody(self, store: Store, writer: Writer) -> None:
        """Many may share an EndToEndId or a reference; all are found, newest first."""
        name = Key(kind=KeyKind.END_TO_END, value="e", payment=1)
        many = [birth(at=AT + timedelta(seconds=n), names=(name, name)) for n in range(3)]
        writer.won(*many)
        found = store.find(Query(client=ALICE, key=(KeyKind.END_TO_END, "e"))).transactions
        assert [t.id for t in found] == [change.after.id for change in reversed(many)]

    def test_one_of_many_threads_gets_a_key(self, writer: Writer) -> None:
        """However many threads want it at once."""
        lock = threading.Lock()

        def want(_: int) -> Outcome:
            change = birth(reserves=(key,))
            start.wait()
            with lock:
                return writer.commit(change)[0]

        for _ in range(10):
            key, start = uetr(), threading.Barrier(8)
            with ThreadPoolExecutor(8) as pool:
                outcomes = list(pool.map(want, range(8)))
            assert sum(outcome == Won() for outcome in outcomes) == 1

    # -- idempotency --

    def test_an_idempotency_key_is_used_once(self, store: Store, writer: Writer) -> None:
        """The second call learns what it was used for and leaves nothing; another client's key is its own."""
        first = birth(idempotency=Idempotency(key="k", digest=b"1"))
        again = birth(idempotency=Idempotency(key="k", digest=b"1"), reserves=(uetr("x"),))
        other = birth(idempotency=Idempotency(key="k", digest=b"2"))
        taken = IdempotencyTaken(first.after.id, b"1")
        assert writer.commit(first, again) == [Won(), taken]
        assert writer.commit(other) == [taken]
        leaves_no_trace(store, again)
        leaves_no_trace(store, other)
        assert store.idempotent(ALICE, "k") == taken
        assert store.idempotent(BOB, "k") is None
        assert writer.commit(birth(BOB, idempotency=Idempotency(key="k", digest=b"2"))) == [Won()]
        assert writer.commit(birth(reserves=(uetr("x"),))) == [Won()]

    # -- driving again --

    def test_a_redrive_tells_its_original_in_the_same_commit(self, store: Store, writer: Writer) -> None:
        """New attempt and note on the original are one; of two redrives of one version the first wins."""
        (first,) = writer.won(birth(reserves=(uetr("u"),)))
        (ended,) = writer.won(step(first, EventKind.CANCELLED))
        attempt = birth(fields={"redrive_of": first.id, "attempt": 2}, reserves=(uetr("u"),))
        rival = birth(fields={"redrive_of": first.id, "attempt": 2})
        told = [step(ended, EventKind.REDRIVEN, ends_all=None) for _ in range(2)]
        one, two = (
            structs.replace(change, original=original) for change, original in zip((attempt, rival), told, strict=True)
        )
        assert writer.commit(one, two) == [Won(), Stale()]
        leaves_no_trace(store, two)
        assert store.get(attempt.after.id) == attempt.after
        assert store.get(first.id) == told[0].after
        assert [event.kind for event in store.history(first.id)][-1] is EventKind.REDRIVEN
        assert verified(store) == 6

    def test_a_redrive_that_loses_its_keys_leaves_the_original_alone(self, store: Store, writer: Writer) -> None:
        """Nothing is told on the original of an attempt that was not made."""
        (first,) = writer.won(birth(reserves=(uetr("u"),)))
        (ended,) = writer.won(step(first, EventKind.CANCELLED))
        (live,) = writer.won(birth(reserves=(uetr("u"),)))
        attempt = birth(reserves=(uetr("u"),), original=step(ended, EventKind.REDRIVEN, ends_all=None))
        assert writer.commit(attempt) == [KeysTaken(((uetr("u"), live.id),))]
        leaves_no_trace(store, attempt)
        assert store.get(first.id) == ended
        assert len(store.history(first.id)) == 3

    # -- a batch is whole --

    def test_an_exception_midway_leaves_no_trace(self, store: Store, writer: Writer) -> None:
        """A write that breaks the batch takes all of it back; the next batch is as if it had never been."""
        (present,) = writer.won(birth())
        before = birth(reserves=(uetr("k"),), idempotency=Idempotency(key="i", digest=b""))
        after = birth()
        with pytest.raises(TypeError):
            writer.commit(before, settled(present), poisoned(), after)
        leaves_no_trace(store, before)
        leaves_no_trace(store, after)
        assert store.get(present.id) == present
        assert writer.commit(before, settled(present), after) == [Won()] * 3
        assert verified(store) == 8

    def test_a_batch_is_read_back_by_its_id(self, backend: Backend, store: Store, writer: Writer) -> None:
        """`committed` gives the very outcomes of the last batch, also to a new process, and None for any other."""
        first, batches = (
            birth(reserves=(uetr("u"),), idempotency=Idempotency(key="i", digest=b"1")),
            (b"1" * 16, b"2" * 16),
        )
        all_won = store.commit(writer.token, [first, birth()], batches[0])
        assert store.committed(batches[0]) == all_won == [Won(), Won()]
        mixed = [
            settled(first.after),
            step(first.after, EventKind.CANCELLED),
            birth(reserves=(uetr("u", 4),)),
            birth(idempotency=Idempotency(key="i", digest=b"2")),
        ]
        outcomes = store.commit(writer.token, mixed, batches[1])
        assert outcomes == [
            Won(),
            Stale(),
            KeysTaken(((uetr("u", 4), first.after.id),)),
            IdempotencyTaken(first.after.id, b"1"),
        ]
        assert store.committed(batches[1]) == outcomes
        assert store.committed(batches[0]) is None
        assert store.committed(b"3" * 16) is None

    def test_a_batch_that_was_not_committed_is_not_read_back(self, store: Store, writer: Writer) -> None:
        """After a failure `committed` says None, and the store goes on."""
        writer.won(birth())
        with pytest.raises(TypeError):
            store.commit(writer.token, [poisoned()], b"4" * 16)
        assert store.committed(b"4" * 16) is None
        writer.won(birth())
        assert verified(store) == 4

    def test_an_empty_batch_is_a_batch(self, store: Store, writer: Writer) -> None:
        """Nothing to write is nothing wrong."""
        assert store.commit(writer.token, [], b"5" * 16) == []
        writer.won(birth())

    # -- fencing --

    def test_an_older_token_writes_nothing(self, backend: Backend, store: Store, writer: Writer) -> None:
        """Once another process has registered, the one before is refused whatever it writes, and leaves no trace."""
        (present,) = writer.won(birth(reserves=(uetr("u"),)))
        heir = Writer(backend.succeed(store))
        attempts: list[Write] = [
            birth(),
            settled(present),
            a_client(),
            Control(scope=ControlScope.ROUTE, name="r", stopped=True, actor="o", note=None, at=AT),
        ]
        for write in attempts:
            with pytest.raises(LeaseLost):
                writer.commit(write)
        assert heir.store.get(present.id) == present
        assert not heir.store.clients()
        assert not heir.store.controls()
        heir.won(settled(present), birth())
        assert verified(heir.store) == 6
        assert verified(writer.store) == 6

    def test_tokens_only_rise(self, backend: Backend) -> None:
        """Each registration fences off all before it."""
        tokens = [backend.open().register(AT) for _ in range(3)]
        assert tokens == sorted(set(tokens))

    def test_an_heir_goes_on_where_the_last_commit_ended(self, backend: Backend, writer: Writer) -> None:
        """What the former process wrote after the heir was opened, but before it registered, is seen and kept."""
        store = backend.open()
        (present,) = writer.won(birth(reserves=(uetr("u"),)))
        heir = Writer(store)
        assert heir.commit(settled(present), birth(), birth(reserves=(uetr("u"),))) == [
            Won(),
            Won(),
            KeysTaken(((uetr("u"), present.id),)),
        ]
        assert verified(store) == 6

    def test_an_administrator_fences_nobody(self, backend: Backend, store: Store, writer: Writer) -> None:
        """Writes under the current token, beside the running process, harm neither it, its read-back nor the chain."""
        last = uuid.uuid4().bytes
        admin = backend.open()
        change = birth()
        outcomes = store.commit(writer.token, [change], last)
        assert admin.commit(admin.current_token(), [a_client()], uuid.uuid4().bytes) == [Won()]
        assert store.committed(last) == outcomes
        assert writer.commit(settled(change.after)) == [Won()]
        assert store.clients() == admin.clients() == (a_client(),)
        assert verified(admin) == 4

    def test_an_administrator_changes_no_transaction(self, backend: Backend, store: Store, writer: Writer) -> None:
        """Only the process that is registered may, since only it knows where the chain ends."""
        admin, change = backend.open(), birth()
        with pytest.raises(LeaseLost):
            admin.commit(admin.current_token(), [change], uuid.uuid4().bytes)
        leaves_no_trace(store, change)
        writer.won(change)

    def test_processes_that_fence_each_other_off_lose_and_double_nothing(self, backend: Backend) -> None:
        """Two that register in turn, in threads of their own: what was won is there, what was refused is not."""
        won: list[Change] = []
        refused: list[Change] = []

        def live(store: Store) -> None:
            for _ in range(15):
                writer = Writer(store)
                with suppress(LeaseLost):
                    for _ in range(10):
                        change = birth()
                        refused.append(change)
                        writer.won(change)
                        won.append(change)
                        refused.remove(change)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(live, [backend.open(), backend.open()]))
        store = backend.open()
        for change in won:
            assert store.history(change.after.id) == change.events
        for change in refused:
            leaves_no_trace(store, change)
        assert verified(store) == 2 * len(won)

    def test_readers_see_whole_commits(self, store: Store, writer: Writer) -> None:
        """Threads that read while another writes see, at any moment, what some commit has made true."""
        (present,) = writer.won(birth())
        done = threading.Event()
        seen: list[str] = []

        def read() -> int:
            looks = 0
            while not done.is_set():
                looks += 1
                before = store.get(present.id)
                history = store.history(present.id)
                after = store.get(present.id)
                if before is None or after is None or not before.version <= len(history) <= after.version:
                    seen.append(f"{before} {len(history)} {after}")
            return looks

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            try:
                for number in range(200):
                    (present,) = writer.won(step(present, EventKind.RECEIVED, AT + timedelta(milliseconds=number)))
            finally:
                done.set()
        assert seen == []
        assert all(reader.result() > 0 for reader in readers)

    # -- finding --

    def test_find_by_each_field(self, store: Store, writer: Writer) -> None:
        """Every filter alone and all together give exactly the transactions that match, newest first."""
        hours = [AT + timedelta(hours=n) for n in range(6)]
        reference = Key(kind=KeyKind.REFERENCE, value="ref")
        a, b, c, d, e, f = writer.won(
            birth(at=hours[0], reserves=(msgid("m0"),)),
            birth(at=hours[1], reserves=(uetr("u1"),), names=(reference,)),
            birth(at=hours[2]),
            birth(BOB, at=hours[3], names=(reference,), reserves=(msgid("m0"),)),
            birth(at=hours[4], names=(reference,)),
            birth(at=hours[5]),
        )
        b, c, e, f = writer.won(
            settled(b),
            step(c, EventKind.HELD_FOR_DECISION),
            step(e, EventKind.DEADLINE),
            step(f, EventKind.STAGE_FAULT),
        )

        def found(**fields: Any) -> list[Transaction]:
            return list(store.find(Query(**{"client": ALICE, **fields})).transactions)

        assert found() == [f, e, c, b, a]
        assert found(client=None) == [f, e, d, c, b, a]
        assert found(client=BOB) == [d]
        assert found(client="nobody") == []
        assert found(statuses=frozenset({Status.ACTC})) == [a]
        assert found(statuses=frozenset({Status.ACSC})) == [b]
        assert found(statuses=frozenset({Status.ACTC, Status.ACSC, Status.RJCT})) == [e, b, a]
        assert found(statuses=frozenset(Status)) == [f, e, c, b, a]
        assert found(cause=HeldCause.DECISION) == [c]
        assert found(cause=HeldCause.FAULT) == [f]
        assert found(statuses=frozenset({Status.PDNG}), cause=HeldCause.CHECK) == []
        assert found(flagged=True) == []
        (b,) = writer.won(step(b, EventKind.ENDED_TWICE))
        assert found(flagged=True) == [b]
        assert found(flagged=True, statuses=frozenset({Status.RJCT})) == []
        assert found(key=(KeyKind.MESSAGE, "m0")) == [a]
        assert found(key=(KeyKind.UETR, "u1")) == [b]
        assert found(key=(KeyKind.UETR, "u")) == []
        assert found(key=(KeyKind.REFERENCE, "ref")) == [e, b]
        assert found(client=None, key=(KeyKind.REFERENCE, "ref")) == [e, d, b]
        assert found(since=hours[2]) == [f, e, c]
        assert found(until=hours[2]) == [b, a]
        assert found(since=hours[1], until=hours[4]) == [c, b]
        assert found(key=(KeyKind.REFERENCE, "ref"), statuses=frozenset({Status.RJCT}), since=hours[1]) == [e]
        assert found(key=(KeyKind.REFERENCE, "ref"), until=hours[1]) == []
        assert found(after=c.id) == [b, a]

    def test_bounds_of_time_are_exact(self, store: Store, writer: Writer) -> None:
        """`since` takes the moment in, `until` leaves it out, to the microsecond, also within one millisecond."""
        moments = [AT + timedelta(microseconds=n) for n in (0, 1, 2, 900, 1000, 1001)]
        for at in moments:
            writer.won(birth(at=at))
        for low in moments:
            for high in moments:
                found = store.find(Query(client=ALICE, since=low, until=high)).transactions
                assert sorted(t.created_at for t in found) == [at for at in moments if low <= at < high]

    def test_bounds_of_time_go_by_creation(self, store: Store, writer: Writer) -> None:
        """An id made a little after the moment it is for, in the next millisecond, hides nothing."""
        at = datetime(2026, 1, 1, 0, 0, 0, 999, UTC)
        (late,) = writer.won(birth(at=at, fields={"id": new_id(at + timedelta(milliseconds=3))}))
        for query in (
            Query(client=ALICE, since=at),
            Query(client=ALICE, until=at + timedelta(microseconds=1)),
            Query(client=ALICE, since=at, until=at + timedelta(microseconds=1)),
        ):
            assert store.find(query).transactions == (late,)

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 50])
    def test_pages_join_up(self, store: Store, writer: Writer, limit: int) -> None:
        """Page after page gives everything that matches once, in order; the last page says that it is."""
        written = writer.won(*(birth(at=AT + timedelta(milliseconds=n // 2)) for n in range(7)), birth(BOB))[:7]
        collected: list[Transaction] = []
        after: UUID | None = None
        for _ in range(10):
            page = store.find(Query(client=ALICE, after=after, limit=limit))
            assert len(page.transactions) <= limit
            collected += page.transactions
            after = page.next
            if after is None:
                break
        assert collected == sorted(written, key=lambda t: t.id, reverse=True)

    def test_a_name_that_very_many_share_is_found_in_pages(self, store: Store, writer: Writer) -> None:
        """However often a client used one reference, a page of it is a page."""
        name = Key(kind=KeyKind.REFERENCE, value="always the same")
        for _ in range(self.THOUSANDS):
            writer.won(*(birth(payments=(), bodies=(), names=(name,)) for _ in range(1000)))
        page = store.find(Query(client=ALICE, key=(name.kind, name.value), limit=5))
        assert len(page.transactions) == 5
        assert page.next is not None

    def test_counts_are_of_what_is_in_flight(self, store: Store, writer: Writer) -> None:
        """By status and cause, with the beginning of the oldest, and by client; what has ended is not counted."""
        earlier = AT - timedelta(minutes=1)
        a, b, _, d, _ = writer.won(birth(), birth(), birth(at=earlier), birth(), birth(BOB))
        writer.won(settled(a), step(b, EventKind.HELD_FOR_DECISION), step(d, EventKind.STAGE_FAULT))
        received, decision, fault = (
            (Status.ACTC, None),
            (Status.PDNG, HeldCause.DECISION),
            (Status.PDNG, HeldCause.FAULT),
        )
        assert store.open_by_client() == {ALICE: 3, BOB: 1}
        assert store.open_by_status() == {received: Open(2, earlier), decision: Open(1, AT), fault: Open(1, AT)}

    # -- clocks --

    def test_overdue_is_by_deadline(self, store: Store, writer: Writer) -> None:
        """Oldest deadline first, the moment itself taken in, bounded; what has ended has no clock."""
        born = writer.won(*(birth(sla=timedelta(seconds=s)) for s in (30, 10, 20, 40)))
        thirty, ten, twenty, _ = born
        at = AT + timedelta(seconds=30)
        assert store.overdue(at, 10) == (ten, twenty, thirty)
        assert store.overdue(at - timedelta(microseconds=1), 10) == (ten, twenty)
        assert store.overdue(at, 2) == (ten, twenty)
        assert store.next_deadline() == ten.deadline
        writer.won(settled(ten))
        assert store.overdue(at, 10) == (twenty, thirty)
        assert store.next_deadline() == twenty.deadline
        steps = Steps(twenty, AT)
        later = Deadline(clock=Clock.DECIDE, at=AT + timedelta(hours=1))
        steps.take(EventKind.HELD_FOR_DECISION, deadline=later)
        writer.won(Change(after=steps.transaction, events=steps.events, read=steps.read))
        assert store.overdue(at, 10) == (thirty,)

    def test_in_flight_is_what_has_no_end(self, store: Store, writer: Writer) -> None:
        """Oldest first, page by page, each with a position from which to go on."""
        born = writer.won(*(birth() for _ in range(7)))
        for transaction in born[1:3]:
            writer.won(settled(transaction))
        collected: list[Transaction] = []
        after: UUID | None = None
        while page := store.in_flight(after, 2):
            assert len(page) <= 2
            collected += page
            after = page[-1].id
        assert collected == sorted((born[0], *born[3:]), key=lambda transaction: transaction.id)

    def test_what_has_ended_is_told_from_the_rest(self, store: Store, writer: Writer) -> None:
        """Of many at once; an id that nobody knows has not ended."""
        open_, done = writer.won(birth(), birth())
        writer.won(settled(done))
        assert store.ended([open_.id, done.id, new_id()]) == {done.id}
        assert store.ended([]) == frozenset()

    def test_what_was_left_half_way_is_claimed_once(self, backend: Backend, store: Store, writer: Writer) -> None:
        """By the process that comes after, oldest first; what waits for somebody or has ended is nobody's to claim."""
        born = writer.won(*(birth(at=AT + timedelta(seconds=n)) for n in range(6)))
        writer.won(settled(born[1]), step(born[2], EventKind.HELD_FOR_DECISION))
        heir = backend.succeed(store)
        token = Writer(heir).token
        claimed = [*heir.claim(token, 2), *heir.claim(token, 2), *heir.claim(token, 2)]
        assert claimed == [born[0], *born[3:]]
        assert heir.claim(token, 2) == ()

    def test_nobody_claims_what_a_living_process_has(self, store: Store, writer: Writer) -> None:
        """A process's own work is not given to it again."""
        store.claim(writer.token, 10)
        writer.won(birth())
        assert store.claim(writer.token, 10) == ()

    def test_one_process_leads(self, store: Store, writer: Writer) -> None:
        """The one that does a job goes on doing it, and may do several."""
        assert store.lead(writer.token, "deadlines")
        assert store.lead(writer.token, "deadlines")
        assert store.lead(writer.token, "upkeep")

    def test_latest_is_the_newest_event(self, backend: Backend, store: Store, writer: Writer) -> None:
        """A clock that starts there stands not before anything that has happened."""
        (before,) = writer.won(birth())
        assert store.latest() == AT
        writer.won(settled(before, AT + timedelta(seconds=5, microseconds=1)))
        assert store.latest() == backend.open().latest() == AT + timedelta(seconds=5, microseconds=1)

    # -- what is not about transactions --

    def test_clients_keys_and_orders_are_kept(self, backend: Backend, store: Store, writer: Writer) -> None:
        """Each is read as written; a client is changed in place, a key is retired, of orders the newest stands."""
        client, other = a_client(), replace(a_client(), id="c_2", name="Zwei", created_at=AT + timedelta(seconds=1))
        key = SigningKey(id="k1", private_pem=b"pem", created_at=AT)
        stop = Control(scope=ControlScope.ROUTE, name="r", stopped=True, actor="operator:x", note="why", at=AT)
        assert writer.commit(other, client, key, stop) == [Won()] * 4
        assert store.clients() == (client, other)
        assert store.client(client.id) == client
        assert store.client("c_none") is None
        assert store.signing_keys() == (key,)
        disabled = replace(client, disabled_at=AT + timedelta(days=1), scopes=frozenset())
        retired = replace(key, retired_at=AT + timedelta(microseconds=1))
        resumed = replace(stop, stopped=False, at=AT + timedelta(seconds=1))
        elsewhere = replace(stop, scope=ControlScope.CLIENT)
        writer.commit(disabled, retired, resumed, elsewhere)
        for reader in (store, backend.open()):
            assert reader.client(client.id) == disabled
            assert reader.signing_keys() == (retired,)
            assert set(reader.controls()) == {resumed, elsewhere}

    def test_a_secret_is_in_no_repr(self) -> None:
        """What is printed or logged of a client or key tells no secret."""
        key = SigningKey(id="k", private_pem=b"SECRETPEM", created_at=AT)
        assert "SECRET" not in repr(key)
        assert "SECRET" not in repr(replace(a_client(), secret_mac=b"SECRETMAC"))

    def test_a_delivery_only_moves_on(self, store: Store, writer: Writer) -> None:
        """What was confirmed stays so; an update for what is not there changes nothing."""
        (t,) = writer.won(birth(deliveries=(Delivery(channel="outbox"), Delivery(channel="hook"))))

        def told(state: DeliveryState, channel: str = "outbox", id_: UUID = t.id) -> DeliveryState | None:
            update = DeliveryUpdate(transaction=id_, channel=channel, state=state, at=AT)
            assert writer.commit(update) == [Won()]
            return store.delivery(t.id, "outbox")

        assert told(DeliveryState.SENT) is DeliveryState.SENT
        assert told(DeliveryState.CONFIRMED) is DeliveryState.CONFIRMED
        assert told(DeliveryState.CONFIRMED) is DeliveryState.CONFIRMED
        assert told(DeliveryState.SENT) is DeliveryState.CONFIRMED
        assert told(DeliveryState.PARKED, "nowhere") is DeliveryState.CONFIRMED
        assert told(DeliveryState.PARKED, "outbox", new_id()) is DeliveryState.CONFIRMED
        assert store.delivery(t.id, "hook") is DeliveryState.PENDING

    def test_a_delivery_is_told_in_the_batch_that_makes_it(self, store: Store, writer: Writer) -> None:
        """Within one batch what comes first is seen by what follows."""
        change = birth(deliveries=(Delivery(channel="outbox"),))
        update = DeliveryUpdate(transaction=change.after.id, channel="outbox", state=DeliveryState.CONFIRMED, at=AT)
        assert writer.commit(change, update) == [Won(), Won()]
        assert store.delivery(change.after.id, "outbox") is DeliveryState.CONFIRMED

    # -- payments --

    def test_a_payment_ends_once(self, store: Store, writer: Writer) -> None:
        """What has ended keeps its end and reason, whatever comes later."""
        three = (payment(1), payment(2), payment(3, Status.RJCT, reason="AM05"))
        (first,) = writer.won(birth(payments=three))
        writer.won(settled(first, ended=(PaymentEnd(1, Status.RJCT, "AC02"), PaymentEnd(3, Status.RJCT, "AC03"))))
        ends = [(p.ordinal, p.status, p.reason) for p in store.payments(first.id)]
        assert ends == [(1, Status.RJCT, "AC02"), (2, Status.ACSC, None), (3, Status.RJCT, "AM05")]

    def test_some_payments_end_before_their_transaction(self, store: Store, writer: Writer) -> None:
        """They have their reason and note from then on, and their keys are free; the others go on."""
        three = (payment(1), payment(2), payment(3))
        keys = tuple(uetr(f"some {ordinal}", ordinal) for ordinal in (1, 2, 3))
        (first,) = writer.won(birth(payments=three, reserves=keys))
        own = (PaymentEnd(2, Status.CANC, "DS02", "not this one"), PaymentEnd(3, Status.RJCT, "FRAD"))
        (after,) = writer.won(step(first, EventKind.PAYMENTS_CANCELLED, ended=own, ends_all=None))
        assert after.standing == first.standing

        def shown() -> list[tuple[Status, str | None, str | None]]:
            return [(p.status, p.reason, p.note) for p in store.payments(first.id)]

        ended = [(Status.CANC, "DS02", "not this one"), (Status.RJCT, "FRAD", None)]
        assert shown() == [(Status.ACTC, None, None), *ended]
        assert [p.ordinal for p in store.payments_page(first.id, 0, 10, Status.CANC)] == [2]
        again = [uetr(f"some {ordinal}") for ordinal in (1, 2, 3)]
        assert writer.commit(birth(reserves=(again[0],))) == [KeysTaken(((again[0], first.id),))]
        assert writer.commit(*(birth(reserves=(key,)) for key in again[1:])) == [Won(), Won()]
        late = (PaymentEnd(2, Status.RJCT, "AC04", "too late"),)
        writer.won(settled(after, ended=late))
        assert shown() == [(Status.ACSC, None, None), *ended]

    def test_payments_follow_their_transaction(self, store: Store, writer: Writer) -> None:
        """Those without a status of their own have its, and its reason; those with one keep theirs."""
        refused = payment(2, Status.RJCT, reason="AM05", note="sent before")
        (first,) = writer.won(birth(payments=(payment(1, follows=True), refused, payment(3, follows=True))))

        def shown() -> list[tuple[Status, str | None, str | None, bool]]:
            return [(p.status, p.reason, p.note, p.follows) for p in store.payments(first.id)]

        own = (Status.RJCT, "AM05", "sent before", False)
        assert shown() == [(Status.ACTC, None, None, True), own, (Status.ACTC, None, None, True)]
        (passed,) = writer.won(step(first, EventKind.PASSED))
        late = step(passed, EventKind.DEADLINE, ended=(PaymentEnd(3, Status.RJCT, "AC04"),))
        (ended,) = writer.won(late)
        assert shown() == [(Status.RJCT, ended.reason, None, True), own, (Status.RJCT, "AC04", None, False)]

    def test_keys_of_following_payments_are_free_once_their_transaction_fails(
        self, store: Store, writer: Writer
    ) -> None:
        """What follows a rejected transaction holds its key no more; what follows an open one does."""
        key, other = uetr("follows", 1), uetr("follows", 1)
        (first,) = writer.won(birth(payments=(payment(1, follows=True),), reserves=(key,)))
        assert isinstance(writer.commit(birth(reserves=(other,)))[0], KeysTaken)
        writer.won(step(first, EventKind.CANCELLED))
        writer.won(birth(reserves=(other,)))

    @pytest.mark.parametrize(
        ("after", "limit", "status", "ordinals"),
        [
            (0, 10, None, [1, 2, 3, 4]),
            (2, 1, None, [3]),
            (4, 10, None, []),
            (0, 10, Status.RJCT, [2]),
            (0, 10, Status.ACTC, [1, 3, 4]),
            (1, 1, Status.ACTC, [3]),
            (0, 10, Status.ACSC, []),
        ],
    )
    def test_payments_by_page(
        self, store: Store, writer: Writer, after: int, limit: int, status: Status | None, ordinals: list[int]
    ) -> None:
        """In order behind an ordinal, and by the status that is shown: open ones have their transaction's."""
        four = (payment(1, follows=True), payment(2, Status.RJCT, reason="AM05"), payment(3, Status.ACCP), payment(4))
        (first,) = writer.won(birth(payments=four))
        found = store.payments_page(first.id, after, limit, status)
        assert [p.ordinal for p in found] == ordinals

    # -- messages of many payments --

    def test_what_is_staged_counts_with_its_change_and_not_before(self, store: Store, writer: Writer) -> None:
        """Payments, keys and parts are seen by nobody, and all at once from the commit on."""
        change = bulk()
        id_ = change.after.id
        key, name = uetr("staged", 1), Key(kind=KeyKind.END_TO_END, value="e2e", payment=2)
        content = [b"first" * 100, b"second"]
        with staging(store, writer, id_) as stager:
            refused = payment(2, Status.RJCT, reason="AC01", note="the account number is wrong")
            two = (payment(1, follows=True), refused)
            assert stager.stage(Staged(payments=two, reserves=(key,), names=(name,)), *DOUBLE) == frozenset()
            for number, part in enumerate(content, 1):
                stager.part(BodyKind.INBOX, number, b"an earlier try")
                stager.part(BodyKind.INBOX, number, part)
        assert store.get(id_) is None
        assert store.payments(id_) == store.payments_page(id_, 0, 10) == ()
        assert store.message(id_, BodyKind.INBOX) is None
        assert store.parts(id_, BodyKind.INBOX) == 0
        for kind, value in ((key.kind, key.value), (name.kind, name.value)):
            assert store.find(Query(client=ALICE, key=(kind, value))).transactions == ()
        writer.won(change)
        assert [(p.ordinal, p.status, p.reason) for p in store.payments(id_)] == [
            (1, Status.ACTC, None), (2, Status.RJCT, "AC01"),
        ]  # fmt: skip
        message = store.message(id_, BodyKind.INBOX)
        assert message is not None
        assert (message.content, message.parts) == (b"".join(content), 2)
        assert [store.part(id_, BodyKind.INBOX, n) for n in (1, 2)] == content
        for kind, value in ((key.kind, key.value), (name.kind, name.value)):
            (found,) = store.find(Query(client=ALICE, key=(kind, value))).transactions
            assert found.id == id_
        assert isinstance(writer.commit(birth(reserves=(uetr("staged"),)))[0], KeysTaken)

    def test_a_staged_key_is_anybodys_until_it_counts(self, store: Store, writer: Writer) -> None:
        """A single payment takes it; the message is told before it counts, and then counts without that payment."""
        change = bulk()
        with staging(store, writer, change.after.id) as stager:
            three = tuple(payment(n, follows=True) for n in (1, 2, 3))
            stager.stage(Staged(payments=three, reserves=(uetr("a", 1), uetr("b", 2), uetr("c", 3))), *DOUBLE)
            writer.won(birth(reserves=(uetr("b"),)))
            (lost,) = writer.commit(change)
            assert isinstance(lost, KeysTaken)
            assert [key.payment for key, _ in lost.taken] == [2]
            assert store.get(change.after.id) is None
            assert stager.duplicates(*DOUBLE) == {2}
            assert stager.duplicates(*DOUBLE) == frozenset()
        writer.won(change)
        told = [(p.status, p.reason, p.note) for p in store.payments(change.after.id)]
        assert told == [(Status.ACTC, None, None), (Status.RJCT, *DOUBLE), (Status.ACTC, None, None)]
        assert isinstance(writer.commit(birth(reserves=(uetr("a"),)))[0], KeysTaken)

    def test_a_key_in_one_batch_with_the_message_that_has_it(self, store: Store, writer: Writer) -> None:
        """Whichever of the two comes first in a batch has the key, and the other loses."""
        for first in ("thief", "message"):
            change, thief = bulk(), birth(reserves=(uetr(first),))
            with staging(store, writer, change.after.id) as stager:
                stager.stage(Staged(payments=(payment(1, follows=True),), reserves=(uetr(first, 1),)), *DOUBLE)
                both = (thief, change) if first == "thief" else (change, thief)
                won, lost = writer.commit(*both)
                assert (isinstance(won, Won), isinstance(lost, KeysTaken)) == (True, True)

    def test_what_is_anothers_already_is_told_when_it_is_staged(self, store: Store, writer: Writer) -> None:
        """A duplicate of a live payment is refused at once, but not of one that failed.

        Of two messages at once the one that counts first has the key. What stands twice in one is the rules' affair.
        """
        (live, failed) = writer.won(birth(reserves=(uetr("live"),)), birth(reserves=(uetr("failed"),)))
        writer.won(step(failed, EventKind.CANCELLED))
        change, other = bulk(), bulk()
        keys = ("live", "failed", "own", "own", "both")
        payments = tuple(payment(n, follows=True) for n in range(1, 6))
        reserves = tuple(uetr(value, n) for n, value in enumerate(keys, 1))
        with staging(store, writer, change.after.id) as first, staging(store, writer, other.after.id) as second:
            assert first.stage(Staged(payments=payments), *DOUBLE) == frozenset()
            assert first.stage(Staged(payments=(), reserves=reserves), *DOUBLE) == {1}
            both = Staged(payments=(payment(1, follows=True),), reserves=(uetr("both", 1),))
            assert second.stage(both, *DOUBLE) == frozenset()
            assert isinstance(writer.commit(other)[0], KeysTaken)
            assert second.duplicates(*DOUBLE) == frozenset()
            writer.won(other)
            assert first.duplicates(*DOUBLE) == {5}
        writer.won(change)
        assert [p.ordinal for p in store.payments_page(change.after.id, 0, 10, Status.RJCT)] == [1, 5]
        assert {t.id for t in store.find(Query(client=ALICE, key=(KeyKind.UETR, "live"))).transactions} == {
            live.id, change.after.id,
        }  # fmt: skip

    @pytest.mark.parametrize("end", ["given up", "swept", "dropped", "cancelled", "settled"])
    def test_a_key_that_was_taken_comes_back(self, store: Store, writer: Writer, end: str) -> None:
        """Whatever becomes of who took it: it is one's that counts, or the message's again; never nobody's."""
        change, other = bulk(), bulk()
        mine = Staged(payments=(payment(1, follows=True),), reserves=(uetr("x", 1),))
        with staging(store, writer, change.after.id) as first:
            first.stage(mine, *DOUBLE)
            if end in ("cancelled", "settled"):
                (thief,) = writer.won(birth(reserves=(uetr("x"),)))
                writer.won(step(thief, EventKind.CANCELLED if end == "cancelled" else EventKind.RECEIVED))
            else:
                with staging(store, writer, other.after.id) as second:
                    second.stage(mine, *DOUBLE)
                    assert second.duplicates(*DOUBLE) == frozenset()
                    if end == "dropped":
                        second.drop_payments()
                    else:
                        second.give_up()
                if end == "swept":
                    assert store.sweep(writer.token) == 1
            assert isinstance(writer.commit(change)[0], KeysTaken)
            assert first.duplicates(*DOUBLE) == ({1} if end == "settled" else frozenset())
        writer.won(change)
        assert isinstance(writer.commit(birth(reserves=(uetr("x"),)))[0], KeysTaken)

    def test_two_messages_want_the_same(self, store: Store, writer: Writer) -> None:
        """Neither is refused for the other before one of them counts, however often they take it from each other."""
        one, two = bulk(), bulk()
        mine = Staged(payments=(payment(1, follows=True),), reserves=(uetr("x", 1),))
        with staging(store, writer, one.after.id) as first, staging(store, writer, two.after.id) as second:
            for stager in (first, second):
                assert stager.stage(mine, *DOUBLE) == frozenset()
            for stager in (first, second, first, second):
                assert stager.duplicates(*DOUBLE) == frozenset()
            assert isinstance(writer.commit(one)[0], KeysTaken)
            writer.won(two)
            assert first.duplicates(*DOUBLE) == {1}
            writer.won(one)
        assert [p.status for p in store.payments(one.after.id)] == [Status.RJCT]
        assert [p.status for p in store.payments(two.after.id)] == [Status.ACTC]

    def test_a_loss_gives_no_idempotency_key_away(self, store: Store, writer: Writer) -> None:
        """One that another has used stays its own."""
        used = Idempotency(key="k", digest=bytes(32))
        (born,) = writer.won(structs.replace(birth(reserves=(uetr("x"),)), idempotency=used))
        change = structs.replace(bulk(), idempotency=used)
        with staging(store, writer, change.after.id) as stager:
            stager.stage(Staged(payments=(payment(1, follows=True),), reserves=(uetr("y", 1),)), *DOUBLE)
            writer.won(birth(reserves=(uetr("y"),)))
            assert not isinstance(writer.commit(change)[0], Won)
        assert store.idempotent(ALICE, "k") == IdempotencyTaken(born.id, bytes(32))

    def test_what_is_refused_as_a_whole_is_refused_alike(self, store: Store, writer: Writer) -> None:
        """Whatever payments came to for themselves, and whatever keys they have lost."""
        change = bulk()
        with staging(store, writer, change.after.id) as stager:
            payments = (payment(1, Status.RJCT, reason="AC01"), payment(2, follows=True))
            stager.stage(Staged(payments=payments, reserves=(uetr("x", 2),)), *DOUBLE)
            writer.won(birth(reserves=(uetr("x"),)))
            assert isinstance(writer.commit(change)[0], KeysTaken)
            stager.follow()
        writer.won(change)
        assert [(p.status, p.reason, p.note) for p in store.payments(change.after.id)] == [
            (Status.ACTC, None, None)
        ] * 2

    def test_payments_are_refused_late(self, store: Store, writer: Writer) -> None:
        """What the end of a message shows of its payments is noted too; a first reason stays."""
        change = bulk()
        with staging(store, writer, change.after.id) as stager:
            stager.stage(Staged(payments=(payment(1, Status.RJCT, reason="AC01"), payment(2, follows=True))), *DOUBLE)
            stager.refuse([(1, "AM05", "later"), (2, "AM05", "stands twice in the message")])
        writer.won(change)
        assert [(p.reason, p.note) for p in store.payments(change.after.id)] == [
            ("AC01", None), ("AM05", "stands twice in the message"),
        ]  # fmt: skip

    def test_an_answer_may_be_put_down_anew(self, store: Store, writer: Writer) -> None:
        """Of a longer one before nothing stays, and of the message received nothing is lost."""
        change, parts = bulk(), [b"one", b"two", b"three"]
        with staging(store, writer, change.after.id) as stager:
            for kind in BodyKind:
                for number, part in enumerate(parts, 1):
                    stager.part(kind, number, part)
            stager.drop_parts(BodyKind.OUTBOX, 2)
            writer.won(change)
        assert [store.parts(change.after.id, kind) for kind in (BodyKind.INBOX, BodyKind.OUTBOX)] == [3, 2]
        assert [store.part(change.after.id, BodyKind.OUTBOX, number) for number in (1, 2)] == parts[:2]

    def test_what_was_given_up_never_counts(self, store: Store, writer: Writer) -> None:
        """Without its payments a message can still count; given up as a whole it cannot, and is swept at once."""
        change, other = bulk(), bulk()
        for one in (change, other):
            with staging(store, writer, one.after.id) as stager:
                stager.stage(Staged(payments=(payment(1, follows=True),), reserves=(uetr("free", 1),)), *DOUBLE)
                stager.part(BodyKind.INBOX, 1, b"part")
                stager.part(BodyKind.INBOX, 2, b"part")
                if one is change:
                    stager.drop_payments()
                else:
                    stager.give_up()
                    with pytest.raises(LeaseLost):
                        stager.refuse([(1, *DOUBLE)])
        writer.won(change)
        assert store.payments(change.after.id) == ()
        assert store.parts(change.after.id, BodyKind.INBOX) == 2
        assert isinstance(writer.commit(other)[0], Stale)
        assert [store.sweep(writer.token) for _ in range(2)] == [1, 0]
        writer.won(birth(reserves=(uetr("free"),)))

    def test_what_counts_cannot_be_given_up(self, store: Store, writer: Writer) -> None:
        """Who does not know yet that it counts takes nothing of it away."""
        change = bulk()
        with staging(store, writer, change.after.id) as stager:
            stager.stage(Staged(payments=(payment(1, follows=True),), reserves=(uetr("kept", 1),)), *DOUBLE)
            writer.won(change)
            stager.give_up()
        assert store.sweep(writer.token) == 0
        assert [p.ordinal for p in store.payments(change.after.id)] == [1]
        assert isinstance(writer.commit(birth(reserves=(uetr("kept"),)))[0], KeysTaken)

    def test_what_a_process_that_is_gone_has_staged_is_swept(
        self, backend: Backend, store: Store, writer: Writer
    ) -> None:
        """Its keys hurt nobody meanwhile, and what is in hand is left alone."""
        lost, kept = bulk(), bulk()
        with staging(store, writer, lost.after.id) as stager:
            for n in range(1, 4):
                staged = Staged(payments=(payment(n, follows=True),), reserves=(uetr(f"lost {n}", n),))
                stager.stage(staged, *DOUBLE)
            stager.part(BodyKind.INBOX, 1, b"part")
        heir = backend.succeed(store)
        successor = Writer(heir)
        successor.won(birth(reserves=(uetr("lost 1"),)))
        with staging(heir, successor, kept.after.id) as stager:
            stager.stage(Staged(payments=(payment(1, follows=True),), reserves=(uetr("kept", 1),)), *DOUBLE)
            assert heir.sweep(successor.token) == 1
            assert heir.sweep(successor.token) == 0
        successor.won(kept)
        assert isinstance(successor.commit(lost)[0], Stale)
        assert [p.ordinal for p in heir.payments(kept.after.id)] == [1]
        assert isinstance(successor.commit(birth(reserves=(uetr("lost 1"),)))[0], KeysTaken)
        successor.won(birth(reserves=(uetr("lost 2"),)))

    def test_nothing_is_staged_without_a_lease(self, backend: Backend, store: Store, writer: Writer) -> None:
        """A process that was given up puts nothing down any more."""
        with staging(store, writer, new_id()) as stager:
            Writer(backend.succeed(store))
            with pytest.raises(LeaseLost):
                stager.stage(Staged(payments=(payment(1, follows=True),)), *DOUBLE)

    def test_the_journal_goes_on_while_others_stage(self, store: Store, writer: Writer) -> None:
        """Thieves and stagers at once: each key has one owner in the end, and no commit fails."""
        change = bulk()
        with staging(store, writer, change.after.id) as stager, ThreadPoolExecutor(1) as pool:

            def stage() -> None:
                for n in range(1, 201, 20):
                    some = range(n, n + 20)
                    payments = tuple(payment(i, follows=True) for i in some)
                    reserves = tuple(uetr(f"race {i}", i) for i in some)
                    duplicates.update(stager.stage(Staged(payments=payments, reserves=reserves), *DOUBLE))

            duplicates: set[int] = set()
            done = pool.submit(stage)
            singles = [writer.commit(birth(reserves=(uetr(f"race {i}"),)))[0] for i in range(1, 201, 7)]
            done.result()
            assert all(isinstance(one, Won) for one in singles), singles
            duplicates |= stager.duplicates(*DOUBLE)
        assert duplicates == set(range(1, 201, 7)), duplicates
        writer.won(change)
        rejected = [p.ordinal for p in store.payments_page(change.after.id, 0, 500, Status.RJCT)]
        assert rejected == sorted(duplicates), (rejected, duplicates)

    # -- the chain --

    def test_every_event_is_in_the_chain(self, store: Store, writer: Writer) -> None:
        """In the order of commits, each with its transaction and the digests of its bodies; the head is its end."""
        changes = [birth() for _ in range(4)]
        writer.won(*changes)
        writer.won(settled(changes[2].after))
        links = links_of(store)
        told = [chain.decode(item.content) for item in links]
        expected: list[tuple[UUID, Event]] = [(c.after.id, event) for c in changes for event in c.events]
        assert told[:8] == expected
        assert [item.seq for item in links] == list(range(1, 11))
        assert changes[0].bodies[0].digest.hex().encode() in links[0].content
        (head,) = store.heads()
        assert (head.seq, head.hash) == (10, links[-1].hash)
        assert verified(store) == 10

    def test_the_chain_can_be_walked_from_anywhere(self, store: Store, writer: Writer) -> None:
        """After a link that an auditor has noted, only what follows is given."""
        writer.won(*(birth() for _ in range(5)))
        (head,) = store.heads()
        links = links_of(store)
        assert list(store.chain(head.journal, 4)) == links[4:]
        assert list(store.chain(head.journal, 10)) == []

    def test_a_loser_is_not_in_the_chain(self, store: Store, writer: Writer) -> None:
        """Only what was won is history."""
        (t,) = writer.won(birth(reserves=(uetr("u"),)))
        writer.commit(settled(t), step(t, EventKind.CANCELLED), birth(reserves=(uetr("u"),)), birth())
        assert verified(store) == 6

    # -- upkeep --

    def test_check_finds_nothing_wrong_with_a_sound_store(self, store: Store, writer: Writer) -> None:
        """No fault is told where there is none."""
        writer.won(*(birth() for _ in range(50)))
        assert store.check() == []


def a_client() -> Client:
    """A client with every field set."""
    return Client(
        id="c_1", name="Eins", secret_mac=b"\0mac", scopes=frozenset({"rp2/read", "rp2/write"}), created_at=AT
    )
