"""The process that reads a file: judges it, says what is to be put down, and writes the answer.

It ends with the process that started it: then nobody reads what it writes.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Self

from msgspec import msgpack

from interlock.bulk.frames import (
    Again,
    Failed,
    Job,
    Late,
    Piece,
    Read,
    RefusedPayment,
    Some,
    Write,
    Written,
    receive,
    send,
)
from interlock.inspection import answer_for, enquiry_for, practice_of
from interlock.iso20022 import answers
from interlock.iso20022.answers import PaymentVerdict, Verdict
from interlock.iso20022.bulk import Batch, BulkLimits, Judge, Reading, by_profile
from interlock.iso20022.codes import Status
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Original, OriginalPayment
from interlock.iso20022.profiles import Profile, Profiles
from interlock.iso20022.schemas import Catalogue
from interlock.routes import Route, Routes
from interlock.stages import receive as receiving
from interlock.stages.facts import Inspection
from interlock.transaction import Key, KeyKind, Payment, Staged

#: Payments put down at a time: a step of some milliseconds.
_STEP = 250
_KEYS_STEP = 500
_ERRORS_MAX = 50
_PIECE_BYTES = 1_048_576


def run(source: BinaryIO, target: BinaryIO) -> None:
    """Do one job."""
    os.nice(10)
    job = receive(source, msgpack.Decoder(Job))
    if job is None:
        return
    try:
        with _Bench(job, target) as reading:
            orders = msgpack.Decoder(Write)
            while (order := receive(source, orders)) is not None:
                reading.write(order)
    except BrokenPipeError:
        os._exit(1)  # nobody is there any more; the interpreter would complain at its end
    except Exception as exc:
        send(target, Failed(type(exc).__name__))
        print(f"{type(exc).__name__} while a file was read", file=sys.stderr)  # noqa: T201 - the server's log has it
        raise


class _Bench:
    """One file in hand."""

    def __init__(self, job: Job, target: BinaryIO) -> None:
        self._job = job
        self._target = target
        self._catalogue = Catalogue(
            cache=Path(job.cache) if job.cache else None, user=Path(job.schemas) if job.schemas else None
        )
        self._profiles = Profiles.load(Path(job.profiles) if job.profiles else None)
        listed = [Route(name="", messages=patterns, profile=profile) for patterns, profile in job.routes]
        self._routes = Routes(listed, Route(name="", profile=job.default))
        self._profile: Profile | None = None
        self._head: Original | None = None
        self._refused: dict[int, tuple[str, str | None]] = {}
        self._errors: list[Finding] = []
        self._errors_number = 0
        self._whole: Finding | None = None
        self._largest: dict[str | None, Decimal | None] = {}
        #: Kind, value, payment, and whether it refuses another.
        self._keys: list[tuple[KeyKind, str, int, bool]] = []

    def __enter__(self) -> Self:
        edition = 0
        while True:
            self._reading = self._begin(edition)
            self._read()
            judge = self._reading.judge
            if not self._errors_number or judge is None or not judge.others:
                break
            # A change-over: what the newest edition refuses an older one that is in force as well may allow.
            self._reading.__exit__(None, None, None)
            send(self._target, Again())
            edition += 1
        self._tell()
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.__exit__(None, None, None)

    # -- reading --

    def _begin(self, edition: int) -> Reading:
        job = self._job
        limits = BulkLimits(bytes_max=job.bytes_max, payments_max=job.payments_max, depth_max=job.depth_max)

        def named(definition: str) -> str | None:
            return self._routes.profile_for("", definition)

        judging = by_profile(self._profiles, job.today, named=named, edition=edition)

        def judge(head: Original) -> Judge:
            self._head = head
            self._profile = self._profiles.choose(head, named=named(head.definition))
            return judging(head)

        self._refused, self._errors, self._errors_number, self._whole, self._largest = {}, [], 0, None, {}
        self._keys.clear()
        return Reading(Path(job.path), self._catalogue, judge, limits).__enter__()

    def _read(self) -> None:
        for batch in self._reading:
            for finding in batch.findings:
                self._note(finding)
            for start in range(0, len(batch.payments), _STEP):
                send(self._target, Some(self._staged(batch, start), self._duplicate_reason))
        if self._reading.verdict.is_sound:
            for some in _some(self._late(), 1000):
                send(self._target, Late(tuple(some)))
            for staged in self._in_order():
                send(self._target, Some(staged, self._duplicate_reason))

    def _note(self, finding: Finding) -> bool:
        """Keep an error; whether it refuses a payment that was not refused before."""
        if finding.severity is not Severity.ERROR:
            return False
        self._errors_number += 1
        if len(self._errors) < _ERRORS_MAX:
            self._errors.append(finding)
        if finding.payment is None:
            self._whole = self._whole or finding
            return False
        if finding.payment in self._refused:
            return False
        self._refused[finding.payment] = finding.reason, _told(finding)
        return True

    def _late(self) -> Iterator[RefusedPayment]:
        for finding in self._reading.late():
            if self._note(finding):
                assert finding.payment is not None  # else it is of the whole
                yield finding.payment, finding.reason, _told(finding)

    def _staged(self, batch: Batch, start: int) -> Staged:
        head, profile = self._head, self._profile
        assert head is not None  # there are payments, so somebody was appointed to judge them
        assert profile is not None  # likewise
        wanted, noted = profile.duplicate_keys, self._keys
        payments = batch.payments[start : start + _STEP]
        for payment in payments:
            for key in receiving.payment_keys(head, payment, wanted):
                noted.append((key.kind, key.value, payment.ordinal, True))
            for key in receiving.finding_keys(head, payment, wanted):
                noted.append((key.kind, key.value, payment.ordinal, False))
        return Staged(payments=tuple(map(self._row, payments)))

    def _in_order(self) -> Iterator[Staged]:
        """The keys, in the order in which an index has them: out of it, each would touch another page of its own."""
        self._keys.sort()
        for start in range(0, len(self._keys), _KEYS_STEP):
            reserves: list[Key] = []
            names: list[Key] = []
            for kind, value, ordinal, reserved in self._keys[start : start + _KEYS_STEP]:
                key = Key(kind=kind, value=value, payment=ordinal)
                (reserves if reserved and ordinal not in self._refused else names).append(key)
            yield Staged(payments=(), reserves=tuple(reserves), names=tuple(names))
        self._keys.clear()

    def _row(self, payment: OriginalPayment) -> Payment:
        refused = self._refused.get(payment.ordinal)
        amount, currency = payment.decimal, payment.currency
        if refused is None:
            before = self._largest.setdefault(currency, amount)
            if amount is None or (before is not None and amount > before):
                self._largest[currency] = amount
        return Payment(
            ordinal=payment.ordinal,
            instruction_id=payment.instruction_id,
            end_to_end_id=payment.end_to_end_id,
            transaction_id=payment.transaction_id,
            uetr=payment.uetr,
            amount=amount,
            currency=currency,
            status=Status.RJCT if refused else Status.ACTC,
            reason=refused[0] if refused else None,
            note=refused[1] if refused else None,
            follows=refused is None,
        )

    @property
    def _duplicate_reason(self) -> str | None:
        profile = self._profile
        return None if profile is None or profile.duplicates is None else profile.duplicates.reason

    def _tell(self) -> None:
        verdict, judge, profile, job = self._reading.verdict, self._reading.judge, self._profile, self._job
        definition, original = verdict.definition, verdict.original
        inspection = Inspection(
            content=b"",
            digest=verdict.digest,
            definition=definition,
            header_definition=verdict.header_definition,
            original=original,
            technical=verdict.technical,
            business=(),
            judged=verdict.judged,
            is_answer=definition is not None and answers.is_answer(definition),
            is_usable=original is not None and answers.has_usable_original(original),
            answer=None if definition is None else answer_for(definition, profile, job.today),
            enquiry=None if definition is None else enquiry_for(definition, profile, job.today),
            profile=None if judge is None else judge.profile,
            edition=None if judge is None else judge.edition,
            practice=practice_of(profile, job.today),
        )
        self._inspection = inspection
        frame = Read(
            inspection=inspection,
            payments=len(self._reading.payments) if verdict.is_sound else 0,
            refused=len(self._refused),
            largest=tuple((amount, currency) for currency, amount in self._largest.items()),
            whole=self._whole,
            errors=tuple(self._errors),
            errors_left_out=self._errors_number - len(self._errors),
        )
        send(self._target, frame)

    # -- the answer --

    def write(self, order: Write) -> None:
        """Write the answer, which covers every payment."""
        reading, original = self._reading, self._inspection.original
        assert original is not None  # what is not sound is answered elsewhere
        refused = {**self._refused, **dict.fromkeys(order.duplicates, (order.reason, order.note))}
        first = refused[1] if len(refused) == len(reading.payments) else None
        verdict = Verdict(
            status=Status.ACSC if first is None else Status.RJCT,
            reason=None if first is None else first[0],
            narrative=None if first is None else first[1],
            payments={
                ordinal: PaymentVerdict(status=Status.RJCT, reason=reason, narrative=note)
                for ordinal, (reason, note) in refused.items()
            },
        )
        definition, pieces = answers.stream(
            original, verdict, reading.payments, reading.groups,
            answer_id=order.answer_id, now=order.now, definition=self._inspection.answer,
            forms=self._inspection.practice.forms,
        )  # fmt: skip
        digest, number = sha256(), 0
        for piece in _joined(pieces):
            digest.update(piece)
            number += 1
            send(self._target, Piece(piece))
        written = Written(
            definition=definition, digest=digest.digest(), pieces=number, refused=len(refused), all_refused=first
        )
        send(self._target, written)


def _told(finding: Finding) -> str:
    return f"{finding.rule} at {finding.xpath}: {finding.text}"


def _some(items: Iterable[RefusedPayment], number: int) -> Iterator[list[RefusedPayment]]:
    some: list[RefusedPayment] = []
    for item in items:
        some.append(item)
        if len(some) == number:
            yield some
            some = []
    if some:
        yield some


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces as few larger ones."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= _PIECE_BYTES:
            yield bytes(held)
            held.clear()
    yield bytes(held)
