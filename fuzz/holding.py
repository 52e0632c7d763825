"""What must hold for every message, however it was spoilt."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from hashlib import sha256
from random import Random
from typing import Final, get_args

from msgspec.structs import replace

from fuzz import commands
from fuzz.broken import Broken
from fuzz.canaries import is_told
from fuzz.measured import PEAK_MEGABYTES_MAX, Peak, quick
from interlock.inspection import inspect
from interlock.iso20022 import answers, envelopes
from interlock.iso20022.answers import Answer, PaymentVerdict, Verdict
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.forms import PARTS, Form, Forms, SettledCode
from interlock.iso20022.original import EnvelopeKind, Original, OriginalPayment, Reference
from interlock.iso20022.profiles import Profiles
from interlock.lifecycle import EventKind
from interlock.stages import enquire
from interlock.stages.facts import Inspection
from interlock.stages.matching import Facts
from tests.properties.test_bulk import _as_whole, _in_pieces, _Verdict, assert_same
from tests.unit.test_enquire import entry
from tests.world import catalogue

_NOW: Final = datetime(2026, 6, 1, 9, 30, tzinfo=UTC)
_LIMITS: Final = Limits()
#: Around changes of versions, of addresses, of editions; and far away from all.
_DAYS: Final = (
    date(2026, 6, 1),
    date(2025, 11, 22),
    date(2026, 11, 21),
    date(2026, 11, 22),
    date(1999, 1, 1),
    date(2099, 1, 1),
)
_REASONS: Final = (None, "AC03", "AB05", "NARR", "DUPL", "FF01", "TM01", "FOCR", "DS02")
_NARRATIVES: Final = (None, "words", "x" * 1000, "a&b <c> \u202e 'd' \"e\" \u00e9\u6f22\U0001f600", "\n", "")
#: Larger messages are not also read in pieces, which costs some ten times as much.
_BULK_BYTES_MAX: Final = 60_000
_CHUNKS: Final = (64, 500, 2000, 5000)
#: Where the two ways differ by intent: only one has the limit.
_ONE_WAY: Final = (
    "xml.size",
    "xml.names",
    "xml.nodes",
    "xml.depth",
    "envelope.order",
    "envelope.short",
    "schema.more",
    "xml.payments",
)


def check(content: bytes, random: Random, *, in_pieces: bool = True) -> str:
    """What was found, as text. Raises Broken, or whatever else comes, where something does not hold."""
    profile = random.choice((None, *sorted(one.name for one in Profiles.load())))
    day = random.choice((_DAYS[0], random.choice(_DAYS)))
    is_cut = in_pieces and len(content) <= _BULK_BYTES_MAX and random.random() < 0.3
    chunk, is_commanded = random.choice(_CHUNKS), random.random() < 0.2
    peak = Peak()
    found = _looked_at(content, profile, day)
    _is_quiet(found.findings)
    for answer in _answers(found, random):
        _is_good(answer, found)
    if is_cut:
        _agrees(content, chunk, found)
    if is_commanded:
        commands.check(content, found, day)
    grown = peak.megabytes()
    if grown > PEAK_MEGABYTES_MAX:
        raise Broken("memory", f"{grown:.0f} MB more at the peak, for {len(content)} bytes")
    return repr((found.definition, found.valid, found.findings, found.answer, found.profile, found.edition))


def _looked_at(content: bytes, profile: str | None, day: date) -> Inspection:
    """The verdict: the same each time, with a parser of its own too; and one where lenience is asked for."""

    def look(*, lenient: bool = False, fresh: bool = False) -> Inspection:
        parser = envelopes.new_parser() if fresh else None
        return inspect(content, catalogue(), limits=_LIMITS, today=day, profile=profile, lenient=lenient, parser=parser)

    found = quick("verdict", look)
    if found.content != content or found.digest != sha256(content).digest():
        raise Broken("bytes changed", "what is kept is not what was sent")
    if found != look(fresh=True):
        raise Broken("verdict changes", "the same bytes were judged differently")
    if (found.valid is True) and any(one.severity is Severity.ERROR for one in found.findings):
        raise Broken("valid with errors", "an error does not count")
    lenient = quick("lenient verdict", lambda: look(lenient=True))
    _is_quiet(lenient.findings)
    if found.valid and not lenient.valid:
        raise Broken("lenience is stricter", "what is valid is not when read leniently")
    if found.is_answer and (found.answer or found.enquiry):
        raise Broken("answer to an answer", f"{found.definition} would be answered")
    return found


def _is_quiet(findings: Sequence[Finding]) -> None:
    for finding in findings:
        if is_told(finding.text):
            raise Broken(f"{finding.rule} repeats a value", finding.text)
        if len(finding.text) > 2000 or len(finding.xpath) > 20_000:
            raise Broken(f"{finding.rule} is long", f"{len(finding.text)} and {len(finding.xpath)} characters")


# -- answers ----------------------------------------------------------------------------------------------------------


def _answers(found: Inspection, random: Random) -> Iterator[Answer]:
    """Whatever could be answered: by the message's own family, as refused, as settled, and by the ledger."""
    original = found.original
    if original is None or found.is_answer:
        return
    yield answers.build_admi002(
        reason=random.choice(("NARR", "FF01", "schema.unexpected", "")),
        narrative=random.choice(_NARRATIVES) or "",
        reference=original.message_id or "",
        now=_NOW,
        answer_id="A-1",
        original=original,
    )
    if answers.receipt_definition(original.definition) is not None:
        yield answers.build_receipt(original, reference=original.message_id or "", answer_id="A-1", now=_NOW)
    if found.enquiry is not None and found.judged:  # a version without a schema is never answered otherwise
        yield from _of_enquiry(original, found, random)
    chosen = found.answer or found.enquiry
    if not found.is_usable or chosen is None:
        return
    forms = _forms(found, random)
    for status in (Status.RJCT, Status.CANC, *([Status.ACSC] if found.enquiry is None else [])):
        verdict = _verdict(original, status, random)
        build = partial(answers.build, original, verdict, answer_id="A-1", now=_NOW, definition=chosen, forms=forms)
        answer = quick("answer", build)
        if answer.definition != chosen and not answer.definition.startswith("admi.002"):
            raise Broken("answer of another version", f"{answer.definition} in place of {chosen}")
        yield answer


def _forms(found: Inspection, random: Random) -> Forms:
    """How the answers are written: as the profile has it, or as any other might."""
    if random.random() < 0.5:
        return found.practice.forms
    return {
        family: Form(
            without=frozenset(part for part in sorted(parts) if random.random() < 0.5),
            settled=random.choice(get_args(SettledCode)),
            originator=random.random() < 0.5,
        )
        for family, parts in PARTS.items()
    }


def _verdict(original: Original, status: Status, random: Random) -> Verdict:
    """One for the message, and perhaps others for some of its payments."""
    payments = {
        one.ordinal: PaymentVerdict(
            status=Status.RJCT, reason=random.choice(_REASONS[1:]), narrative=random.choice(_NARRATIVES)
        )
        for one in original.payments[:50]
        if random.random() < 0.3
    }
    reason = random.choice(_REASONS[1:]) if status is not Status.ACSC else None
    return Verdict(status=status, reason=reason, narrative=random.choice(_NARRATIVES), payments=payments)


def _of_enquiry(original: Original, found: Inspection, random: Random) -> Iterator[Answer]:
    """What the ledger says: that it knows nothing of what is asked for, or that it has just what is asked for."""
    events = random.choice(((), (EventKind.PASSED, EventKind.SETTLED), (EventKind.REFUSED,), (EventKind.CANCELLED,)))
    asked = original.references[:20]
    known = {one.ordinal: (entry(_asked_for(original, one), *events),) for one in asked}
    before = dict.fromkeys(known, _NOW - timedelta(days=random.choice((0, 20, 90, 400))))
    forms = _forms(found, random)
    unsure = Facts(entries=known, complete=False, offer_return=False, asked=before, reused=random.random() < 0.3)
    for facts in (Facts(), Facts(entries=known), unsure):
        outcome = quick("enquiry", partial(enquire.run, original, facts))
        build = partial(
            enquire.answer, original, outcome, answer_id="A-1", now=_NOW, definition=found.enquiry, forms=forms
        )
        yield quick("answer", build)


def _asked_for(original: Original, reference: Reference) -> Original:
    """A message of one payment such as a request refers to."""
    payment = OriginalPayment(
        ordinal=1,
        group=None,
        xpath="/Document",
        line=1,
        instruction_id=reference.instruction_id,
        end_to_end_id=reference.end_to_end_id,
        transaction_id=reference.transaction_id,
        uetr=reference.uetr,
        amount=reference.amount,
        currency=reference.currency,
        settlement_date=reference.settlement_date,
        debtor_agent=original.instructing_agent,
        creditor_agent=original.instructed_agent,
        debtor_iban=None,
        creditor_iban=None,
    )
    definition = reference.definition or "pacs.008.001.08"
    return replace(original, definition=definition, message_id=reference.message_id, payments=(payment,), references=())


def _is_good(answer: Answer, found: Inspection) -> None:
    """Valid by our own schema, never to be answered, and in the kind of envelope in which the message came."""
    again = inspect(answer.body, catalogue(), limits=Limits(bytes_max=50_000_000, nodes_max=5_000_000), today=_DAYS[0])
    # A request of a version without a schema here is answered in that version's own, which may have none either.
    without = not catalogue().knows(answer.definition)
    errors = [one for one in again.technical if one.severity is Severity.ERROR]
    if errors and not (without and {one.rule for one in errors} == {"definition.unknown"}):
        raise Broken(
            "answer is not valid", f"{answer.definition}: {errors[0].rule} at {errors[0].xpath}: {errors[0].text}"
        )
    if again.definition != answer.definition:
        raise Broken("answer is another message", f"{again.definition} in place of {answer.definition}")
    if not again.is_answer or again.answer or again.enquiry:
        raise Broken("answer to an answer", f"{answer.definition} would be answered")
    wanted = _kind(found.original)
    if wanted is EnvelopeKind.SIBLINGS and found.original is not None and found.original.header is None:
        wanted = EnvelopeKind.BARE  # a header in no namespace of ours cannot be repeated: nothing stands beside
    if _kind(again.original) is not wanted and EnvelopeKind.OTHER not in (wanted, _kind(again.original)):
        raise Broken("answer in another envelope", f"{_kind(again.original)} in place of {wanted}")


def _kind(original: Original | None) -> EnvelopeKind:
    return EnvelopeKind.BARE if original is None or original.transport is None else original.transport.kind


# -- in pieces --------------------------------------------------------------------------------------------------------


def _agrees(content: bytes, chunk_bytes: int, found: Inspection) -> None:
    """Read payment by payment, it gets the same verdict."""
    if any(one.rule in _ONE_WAY for one in found.findings):
        return
    try:
        quick("reading in pieces", lambda: assert_same(content, chunk_bytes))
    except AssertionError as exc:
        pieces, whole = _in_pieces(content, chunk_bytes)[0], _as_whole(content)
        is_bounded = any(rule in _ONE_WAY for rule, _, _ in pieces.technical)
        if not is_bounded and not _says_more_of_the_same_places(pieces, whole):
            raise Broken("pieces and whole disagree", f"in chunks of {chunk_bytes}") from exc


def _says_more_of_the_same_places(pieces: _Verdict, whole: _Verdict) -> bool:
    """Whether a piece tells by a wide rule what a later one tells by a narrow rule, which keeps the wide one quiet."""
    told = {(xpath, rule.partition(".")[0]) for rule, xpath, _ in whole.business}
    more = pieces.business - whole.business
    return (
        (pieces.sound, pieces.technical, pieces.original) == (whole.sound, whole.technical, whole.original)
        and not whole.business - pieces.business
        and all((xpath, rule.partition(".")[0]) in told for rule, xpath, _ in more)
    )
