import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from lxml import etree
from msgspec.structs import replace

from interlock.iso20022.answers import Answer
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import read
from interlock.iso20022.fields import extract
from interlock.iso20022.findings import Severity
from interlock.iso20022.original import Original
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.profiles.facts import Recall
from interlock.iso20022.reasons import CANCELLATION_REJECTIONS
from interlock.iso20022.schemas import Catalogue
from interlock.lifecycle import EventKind, Standing
from interlock.stages.enquire import Outcome, answer, is_enquiry, run
from interlock.stages.matching import Entry, Facts, keys
from interlock.stages.steps import Steps
from interlock.transaction import KeyKind, Payment, Transaction
from tests.enquiries import UETR, Ids, request

SAMPLES: Final = Path(__file__).parents[1] / "samples"
AT: Final = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
CATALOGUE: Final = Catalogue()
PROFILES: Final = Profiles.load()
SINGLE: Final = extract(read((SAMPLES / "pacs.008.001.08_bah.xml").read_bytes()))
THREE: Final = extract(read((SAMPLES / "pacs.008.001.08.xml").read_bytes()))
BLOCKS: Final = extract(read((SAMPLES / "pain.001.001.09.xml").read_bytes()))

#: The ways in which a transaction can stand, by the events that led there after it was received.
ACTC: Final = ()
HELD: Final = (EventKind.HELD_FOR_DECISION,)
FAULT: Final = (EventKind.STAGE_FAULT,)
ACSP: Final = (EventKind.PASSED,)
HANDED: Final = (EventKind.PASSED, EventKind.HAND_OVER_INTENDED, EventKind.HANDED_OVER)
UNKNOWN: Final = (*HANDED, EventKind.DEADLINE)
SETTLED: Final = (EventKind.PASSED, EventKind.SETTLED)
REJECTED: Final = (EventKind.REFUSED,)
CANCELLED: Final = (EventKind.CANCELLED,)


def entry(
    original: Original = SINGLE,
    *events: EventKind,
    number: int = 1,
    refused: Sequence[int] = (),
    alone: bool = True,
    with_original: bool = True,
    recalls: tuple[Recall, ...] = (),
    **changes: object,
) -> Entry:
    """A message in the ledger after these events; some of its payments may have been refused before."""
    unborn = Transaction(
        id=UUID(int=number),
        client="c",
        region=0,
        route="default",
        standing=Standing(),
        version=0,
        created_at=AT + timedelta(seconds=number),
        updated_at=AT,
        deadline=None,
        definition=original.definition,
        message_id=original.message_id,
        payments=len(original.payments),
    )
    steps = Steps(unborn, AT, alone=alone)
    for kind in (EventKind.ID_ISSUED, EventKind.RECEIVED, *events):
        reason = {EventKind.REFUSED: "AC03", EventKind.CANCELLED: "DS02"}.get(kind)
        steps.take(kind, reason=reason, note=None if reason is None else f"noted {reason}")
    transaction = replace(steps.transaction, **changes)
    status = transaction.standing.status
    assert status is not None
    payments = tuple(
        Payment(
            ordinal=one.ordinal,
            instruction_id=one.instruction_id,
            end_to_end_id=one.end_to_end_id,
            transaction_id=one.transaction_id,
            uetr=one.uetr,
            amount=one.decimal,
            currency=one.currency,
            status=Status.RJCT if one.ordinal in refused else status,
            reason="AM05" if one.ordinal in refused else transaction.reason if status.is_final else None,
        )
        for one in original.payments
    )
    read_again = original if with_original else None
    return Entry(transaction=transaction, payments=payments, original=read_again, recalls=recalls)


def asked(definition: str, *ids: Ids, whole: bool = False, reason: str | None = None) -> Original:
    return extract(read(request(definition, *ids, whole=whole, reason=reason)))


def ids_of(original: Original, place: int, *, amount: str | None = None) -> Ids:
    """What a request calls a payment of that message."""
    payment = original.payments[place]
    return Ids(
        message_id=original.message_id,
        definition=original.definition,
        instruction_id=payment.instruction_id,
        end_to_end_id=payment.end_to_end_id,
        transaction_id=payment.transaction_id,
        uetr=payment.uetr,
        amount=amount,
    )


def answered(original: Original, outcome: Outcome, definition: str | None = None) -> Answer:
    """The answer, which is valid and the same each time."""
    one = answer(original, outcome, answer_id="A-1", now=AT, definition=definition)
    envelope = read(one.body)
    assert envelope.document is not None
    assert [f.text for f in CATALOGUE.validate(one.definition, envelope.document)] == []
    assert one == answer(original, outcome, answer_id="A-1", now=AT, definition=definition)
    return one


def texts(one: Answer, tag: str) -> list[str | None]:
    return [element.text for element in etree.fromstring(one.body).iter(f"{{*}}{tag}")]


def known(*entries: Entry, references: int = 1, complete: bool = True, offer_return: bool = True) -> Facts:
    """The same entries for each reference."""
    return Facts(
        entries=dict.fromkeys(range(1, references + 1), entries),
        complete=complete,
        offer_return=offer_return,
    )


# ---------------------------------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize(
    ("events", "cancels", "confirmation", "status", "reason"),
    [
        (ACTC, True, "CNCL", "ACCR", None),
        (HELD, True, "CNCL", "ACCR", None),
        (FAULT, True, "CNCL", "ACCR", None),
        (ACSP, True, "CNCL", "ACCR", None),
        (HANDED, False, "PDCR", "PDCR", "PTNA"),
        (UNKNOWN, False, "PDCR", "PDCR", "PTNA"),
        (SETTLED, False, "PDCR", "PDCR", "RQDA"),
        (REJECTED, False, "RJCR", "RJCR", "NARR"),
        (CANCELLED, False, "CNCL", "ACCR", None),
    ],
)
@pytest.mark.parametrize("definition", ["camt.056.001.08", "camt.056.001.11", "camt.056.001.04"])
def test_cancellation(
    definition: str,
    events: tuple[EventKind, ...],
    confirmation: str,
    status: str,
    reason: str | None,
    *,
    cancels: bool,
) -> None:
    """What can still be cancelled is; what cannot is answered with why; what was cancelled already is cancelled."""
    original = asked(definition)
    outcome = run(original, known(entry(SINGLE, *events)))
    assert [(cancel.transaction, cancel.reason) for cancel in outcome.cancels] == (
        [(UUID(int=1), "DUPL")] if cancels else []
    )
    one = answered(original, outcome)
    assert (texts(one, "Conf"), texts(one, "TxCxlSts")) == ([confirmation], [status])
    said = texts(one, "Cd") + texts(one, "Prtry")
    assert said == ([] if reason is None else [reason])


def test_intents_are_not_told() -> None:
    """Where a peer can take over, an end is told once it is a fact, and waited for; until then it is pending."""
    for events, says in (
        (CANCELLED, "The cancellation is under way"),
        (SETTLED, "about to end"),
        ((EventKind.PASSED, EventKind.REFUSED), "about to end"),
    ):
        outcome = run(asked("camt.056.001.08"), known(entry(SINGLE, *events, alone=False)))
        assert (outcome.cancels, outcome.waits) == ((), (UUID(int=1),))
        told = answered(asked("camt.056.001.08"), outcome)
        assert texts(told, "TxCxlSts") == ["PDCR"]
        assert says in " ".join(filter(None, texts(told, "AddtlInf")))


def test_recalls_that_are_not_offered() -> None:
    """Where returns are not offered, or no longer, a recall of what was settled is refused."""
    original = asked("camt.056.001.08")
    refused = answered(original, run(original, known(entry(SINGLE, *SETTLED), offer_return=False)))
    assert (texts(refused, "Conf"), texts(refused, "Cd")) == (["RJCR"], ["AGNT"])


@pytest.mark.parametrize(
    ("profile", "reason", "days", "status", "code"),
    [
        ("sepa-inst", "DUPL", 1, "PDCR", "RQDA"),
        ("sepa-inst", "DUPL", 30, "RJCR", "AGNT"),
        ("sepa-inst", "FRAD", 30, "PDCR", "RQDA"),
        ("sepa-inst", "MODT", 1, "RJCR", "AGNT"),
        ("sepa-sct", "TECH", 1, "PDCR", "RQDA"),
        ("sepa-sct", "TECH", 30, "RJCR", "AGNT"),
        ("fednow", "DUPL", 59, "PDCR", "RQDA"),
        ("fednow", "DUPL", 70, "PDCR", "RQDA"),
        ("fednow", "DUPL", 100, "RJCR", "AGNT"),
        ("cbprplus", "DUPL", 1000, "PDCR", "RQDA"),
        ("generic", "DUPL", 1000, "PDCR", "RQDA"),
    ],
)
def test_recalls_by_profile(profile: str, reason: str, days: int, status: str, code: str) -> None:
    """Within the scheme's time, and for one of its reasons, a return is offered; else it is refused, with why."""
    original = asked("camt.056.001.08", reason=reason)
    settled = entry(SINGLE, *SETTLED, recalls=PROFILES.named(profile).recall)
    on = datetime(2026, 11, 23, tzinfo=UTC) + timedelta(days=days)
    one = answered(original, run(original, Facts(entries={1: (settled,)}, asked={1: on})))
    assert (texts(one, "Conf"), texts(one, "TxCxlSts"), texts(one, "Cd")) == ([status], [status], [code])
    assert code in CANCELLATION_REJECTIONS.codes
    # By what the profile demands itself; the request had no header, so neither has its answer.
    envelope = read(one.body)
    found = PROFILES.named(profile).check(extract(envelope), today=on.date(), document=envelope.document)
    assert [f for f in found if f.severity is Severity.ERROR and not f.rule.startswith("profile.header")] == []


def _returned(amount: str, *events: EventKind) -> Entry:
    payment = replace(SINGLE.payments[0], own_id="EXAMPLE-R-1", amount=amount)
    original = replace(SINGLE, definition="pacs.004.001.09", message_id="EXAMPLE-R-0001", payments=(payment,))
    return entry(original, *events, number=2)


@pytest.mark.parametrize(
    ("came_back", "code"),
    [
        (_returned("250.00", *SETTLED), "ARDT"),
        (_returned("250.00", *HELD), "RQDA"),
        (_returned("249.99", *SETTLED), "RQDA"),
        (_returned("250.00", *REJECTED), "RQDA"),
    ],
)
@pytest.mark.parametrize("ids", [Ids(), Ids(message_id=None)])
def test_what_was_returned_already(ids: Ids, came_back: Entry, code: str) -> None:
    """A payment that has come back as a whole is not asked back again, whether or not its message is named."""
    original = asked("camt.056.001.08", ids)
    outcome = run(original, known(entry(SINGLE, *SETTLED), came_back))
    assert outcome.cancels == ()
    assert texts(answered(original, outcome), "Cd") == [code]


def test_a_repetition_means_what_was_meant_before() -> None:
    """A later attempt at what was cancelled on request is not cancelled by the same request again."""
    original = asked("camt.056.001.08")
    first = entry(SINGLE, *CANCELLED, number=1, redriven_as=UUID(int=2))
    second = entry(SINGLE, *HELD, number=2)
    then = first.transaction.created_at
    again = run(original, Facts(entries={1: (first, second)}, asked={1: then}))
    assert again.cancels == ()
    assert texts(answered(original, again), "Conf") == ["CNCL"]
    anew = run(original, Facts(entries={1: (first, second)}, asked={1: second.transaction.created_at}))
    assert [cancel.transaction for cancel in anew.cancels] == [UUID(int=2)]
    overtaken = run(original, Facts(entries={1: (second,)}, asked={1: then}))
    assert [cancel.transaction for cancel in overtaken.cancels] == [UUID(int=2)]


def test_an_identification_that_was_used_before() -> None:
    """One request's id on another is a mistake: nothing is done about it."""
    original = asked("camt.056.001.08")
    outcome = run(original, Facts(entries={1: (entry(),)}, reused=True))
    assert outcome.cancels == ()
    assert (texts(answered(original, outcome), "Conf"), texts(answered(original, outcome), "Cd")) == (
        ["RJCR"],
        ["NARR"],
    )


@pytest.mark.parametrize(
    ("reason", "expected"), [("DUPL", "DUPL"), ("FRAD", "FRAD"), ("CUST", "CUST"), ("TECH", "DS02"), ("AC03", "DS02")]
)
def test_reason_of_the_cancelled_payment(reason: str, expected: str) -> None:
    """The status of the payment carries why it was cancelled, as far as that is a reason of statuses."""
    outcome = run(asked("camt.056.001.08", reason=reason), known(entry()))
    assert [cancel.reason for cancel in outcome.cancels] == [expected]


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (Ids(), True),
        (Ids(message_id=None), True),
        (Ids(uetr=UETR.upper(), transaction_id=None, instruction_id=None, end_to_end_id=None), True),
        (Ids(uetr=None, transaction_id=None, instruction_id=None, end_to_end_id=None), True),
        (Ids(uetr=None, transaction_id=None, end_to_end_id="NOTPROVIDED"), True),
        (Ids(uetr="0e8b2a4c-5d6f-4a1b-9c3d-000000000000"), False),
        (Ids(end_to_end_id="OTHER"), False),
        (Ids(transaction_id="OTHER"), False),
        (Ids(message_id="OTHER"), False),
        (Ids(definition="pacs.009.001.08"), False),
        (Ids(definition="pacs.008"), True),
        (Ids(amount="250"), True),
        (Ids(amount="250.01"), False),
        (Ids(amount=f"{'0' * 41}250.00"), True),
        (Ids(amount=f"{'0' * 41}250.01"), False),
        (Ids(amount=f"{' ' * 300}250.01"), False),
        (Ids(amount=f"{'0' * 300}250.01"), False),
        (Ids(amount=f"{'9' * 41}"), False),
        (Ids(amount=None), True),
    ],
)
def test_references_must_fit(ids: Ids, *, found: bool) -> None:
    """By any of its names a payment is found; a name or an amount that is another's means that it is not this one."""
    original = asked("camt.056.001.08", ids)
    outcome = run(original, known(entry()))
    one = answered(original, outcome)
    assert len(outcome.cancels) == int(found)
    assert texts(one, "Cd") == ([] if found else ["NOOR"])


def test_unknown_and_not_known_for_sure() -> None:
    """What the ledger does not have was never received; where not all of it can be asked, nobody says so."""
    original = asked("camt.056.001.08")
    assert texts(answered(original, run(original, Facts())), "Cd") == ["NOOR"]
    unsure = answered(original, run(original, Facts(complete=False)))
    assert (texts(unsure, "Conf"), texts(unsure, "Cd")) == (["PDCR"], ["NARR"])


def test_one_of_several_payments() -> None:
    """One of three is cancelled by itself; all that still live are their message."""
    one, two, three = (ids_of(THREE, place) for place in range(3))
    several = asked("camt.056.001.08", three)
    outcome = run(several, known(entry(THREE)))
    assert [cancel.payments for cancel in outcome.cancels] == [(3,)]
    assert texts(answered(several, outcome), "TxCxlSts") == ["ACCR"]
    everything = asked("camt.056.001.08", one, two, three)
    outcome = run(everything, known(entry(THREE), references=3))
    assert [cancel.payments for cancel in outcome.cancels] == [None]
    assert texts(answered(everything, outcome), "TxCxlSts") == ["ACCR"] * 3
    alive = asked("camt.056.001.08", one, two, three)
    outcome = run(alive, known(entry(THREE, refused=[2]), references=3))
    assert [cancel.payments for cancel in outcome.cancels] == [None]
    assert texts(answered(alive, outcome), "TxCxlSts") == ["ACCR", "RJCR", "ACCR"]
    assert texts(answered(alive, outcome), "Conf") == ["PECR"]


def test_a_message_whose_payments_are_not_known_is_cancelled_as_a_whole() -> None:
    """A fault came before they were noted down."""
    faulty = dataclasses.replace(entry(SINGLE, *FAULT), payments=())
    outcome = run(asked("camt.056.001.08", whole=True, reason="FRAD"), known(faulty))
    assert [(cancel.payments, cancel.reason) for cancel in outcome.cancels] == [(None, "FRAD")]


def test_each_payment_is_cancelled_for_its_own_reason() -> None:
    """As many cancellations as reasons; one that is named twice has the first."""
    one, two, three = (ids_of(THREE, place) for place in range(3))
    original = asked("camt.056.001.08", one, two, three, one)
    reasons = ("DUPL", "FRAD", "DUPL", "CUST")
    references = tuple(
        replace(reference, reason=reason) for reference, reason in zip(original.references, reasons, strict=True)
    )
    outcome = run(replace(original, references=references), known(entry(THREE), references=4))
    assert [(cancel.payments, cancel.reason) for cancel in outcome.cancels] == [((1, 3), "DUPL"), ((2,), "FRAD")]


def test_part_of_a_request() -> None:
    """Of two payments of different messages one may be cancelled and one not: each is told, the whole is in part."""
    original = asked("camt.056.001.08", Ids(), Ids(transaction_id="OTHER", uetr=None))
    outcome = run(original, Facts(entries={1: (entry(),), 2: ()}))
    one = answered(original, outcome)
    assert (texts(one, "Conf"), texts(one, "TxCxlSts")) == (["PECR"], ["ACCR", "RJCR"])


def test_a_whole_message() -> None:
    """A message that is meant as a whole is cancelled as such, whatever is in it."""
    original = asked("camt.056.001.08", Ids(message_id=THREE.message_id), whole=True)
    outcome = run(original, known(entry(THREE)))
    assert len(outcome.cancels) == 1
    assert texts(answered(original, outcome), "GrpCxlSts") == ["ACCR"]


def test_blocks_of_a_customers_message() -> None:
    """One block of two is cancelled by itself; to know what is in it the message is needed."""
    first, both = (
        Ids(message_id=BLOCKS.message_id, definition="pain.001.001.09", block=f"EXAMPLE-P-000{number}")
        for number in (1, 2)
    )
    one = asked("camt.055.001.08", first, whole=True)
    assert [cancel.payments for cancel in run(one, known(entry(BLOCKS))).cancels] == [(1, 2)]
    assert [cancel.payments for cancel in run(one, known(entry(BLOCKS, refused=[3]))).cancels] == [None]
    all_of_it = asked("camt.055.001.08", first, both, whole=True)
    outcome = run(all_of_it, known(entry(BLOCKS), references=2))
    assert len(outcome.cancels) == 1
    assert texts(answered(all_of_it, outcome), "PmtInfCxlSts") == ["ACCR", "ACCR"]
    assert run(all_of_it, known(entry(BLOCKS, with_original=False), references=2)).cancels == ()


def test_the_live_attempt_is_meant() -> None:
    """Of a payment that was rejected and sent again, and of attempts, the one that lives is meant."""
    rejected, alive = entry(SINGLE, *REJECTED, number=1), entry(SINGLE, number=2)
    for entries in ((rejected, alive), (alive, rejected)):
        outcome = run(asked("camt.056.001.08"), known(*entries))
        assert [cancel.transaction for cancel in outcome.cancels] == [UUID(int=2)]
    first = entry(SINGLE, *CANCELLED, number=1, redriven_as=UUID(int=2))
    outcome = run(asked("camt.056.001.08"), known(first, entry(SINGLE, *SETTLED, number=2)))
    assert texts(answered(asked("camt.056.001.08"), outcome), "Cd") == ["RQDA"]


def test_ambiguous_references() -> None:
    """Where two payments that live fit, neither is touched."""
    original = asked("camt.056.001.08", Ids(message_id=None, uetr=None, transaction_id=None))
    outcome = run(original, known(entry(number=1), entry(number=2)))
    assert outcome.cancels == ()
    assert texts(answered(original, outcome), "Cd") == ["NARR"]


def test_requests_are_no_payments() -> None:
    """A request to cancel cannot be cancelled, and an answer is not what a reference means."""
    request_before = replace(asked("camt.056.001.08"), message_id="EXAMPLE-M-0001")
    ids = Ids(definition="camt.056.001.08")
    outcome = run(asked("camt.056.001.08", ids), known(entry(request_before)))
    assert outcome.cancels == ()
    answer_before = replace(SINGLE, definition="pacs.002.001.10", payments=())
    assert run(asked("camt.056.001.08", Ids(definition="pacs.002.001.10")), known(entry(answer_before))).cancels == ()


def test_requests_to_pay_have_codes_of_their_own() -> None:
    """The cancellation of a pain.013 is refused with the codes for requests to pay."""
    pain = replace(BLOCKS, definition="pain.013.001.09")
    ids = Ids(message_id=BLOCKS.message_id, definition="pain.013.001.09", block="EXAMPLE-P-0001")
    original = asked("camt.055.001.10", ids, whole=True)
    assert texts(answered(original, run(original, known(entry(pain, *SETTLED)))), "Cd") == ["AACR"]
    assert texts(answered(original, run(original, known(entry(pain, *REJECTED)))), "Cd") == ["ARJR"]
    assert texts(answered(original, run(original, Facts())), "Cd") == ["URTP"]


def test_too_many_references() -> None:
    """A request that refers to more than is looked up is refused, and nothing is cancelled."""
    original = replace(asked("camt.056.001.08"), references_cut=True)
    outcome = run(original, known(entry()))
    assert outcome.cancels == ()
    assert texts(answered(original, outcome), "Conf") == ["RJCR"]


def test_requests_that_refer_to_nothing() -> None:
    """A request without a reference is answered all the same: that it asks for nothing."""
    for definition in ("camt.056.001.08", "pacs.028.001.03"):
        original = replace(asked(definition), references=())
        assert answered(original, run(original, Facts())).definition == "admi.002.001.01"


# ---------------------------------------------------------------------------------------------------------- statuses


@pytest.mark.parametrize(
    ("events", "status", "reason", "words"),
    [
        (ACTC, "ACTC", None, None),
        (HELD, "PDNG", None, "Held for a decision."),
        (FAULT, "PDNG", None, "Held for a technical fault, which is looked into."),
        (ACSP, "ACSP", None, None),
        (HANDED, "ACSP", None, None),
        (UNKNOWN, "PDNG", None, "Handed on; the outcome is not known yet."),
        (SETTLED, "ACSC", None, None),
        (REJECTED, "RJCT", "AC03", "noted AC03"),
        (CANCELLED, "RJCT", "DS02", "noted DS02"),
    ],
)
@pytest.mark.parametrize("definition", ["pacs.028.001.01", "pacs.028.001.03", "pacs.028.001.06"])
def test_status(
    definition: str, events: tuple[EventKind, ...], status: str, reason: str | None, words: str | None
) -> None:
    """A status request gets the present truth of the payment, and nothing is done."""
    original = asked(definition)
    outcome = run(original, known(entry(SINGLE, *events)))
    assert outcome.cancels == ()
    one = answered(original, outcome)
    assert texts(one, "TxSts") == [status]
    assert [code for code in texts(one, "Cd") if code != "USABA"] == ([] if reason is None else [reason])
    assert texts(one, "AddtlInf") == ([] if words is None else [words])
    assert texts(one, "IntrBkSttlmAmt") == ["250.00"]
    assert texts(one, "OrgnlMsgId") == ["EXAMPLE-M-0001"]


def test_status_of_a_message_with_all_its_payments() -> None:
    """A message that was asked for as a whole is told as a whole, and payment by payment."""
    original = asked("pacs.028.001.03", Ids(message_id=THREE.message_id), whole=True)
    one = answered(original, run(original, known(entry(THREE, *SETTLED, refused=[2]))))
    assert (texts(one, "GrpSts"), texts(one, "TxSts")) == (["PART"], ["ACSC", "RJCT", "ACSC"])
    assert texts(one, "Cd") == ["AM05"]
    assert texts(one, "OrgnlTxId") == [payment.transaction_id for payment in THREE.payments]


def test_status_of_what_is_not_known() -> None:
    """Nothing was carried out under a reference that nobody knows; where that is not sure, it is pending."""
    original = asked("pacs.028.001.03")
    unknown, unsure = (answered(original, run(original, Facts(complete=sure))) for sure in (True, False))
    assert (texts(unknown, "TxSts"), texts(unknown, "Cd")) == (["RJCT"], ["NARR"])
    assert (texts(unsure, "TxSts"), texts(unsure, "Cd")) == (["PDNG"], ["NARR"])
    assert texts(unknown, "OrgnlUETR") == [UETR]


def test_status_without_the_message() -> None:
    """What the ledger alone has is enough: ids and amount, but not a customer's amount as one between banks."""
    original = asked("pacs.028.001.03")
    one = answered(original, run(original, known(entry(SINGLE, *SETTLED, with_original=False))))
    assert [Decimal(str(text)) for text in texts(one, "IntrBkSttlmAmt")] == [Decimal(250)]
    pain = asked("pacs.028.001.03", ids_of(BLOCKS, 0))
    for with_original in (True, False):
        one = answered(pain, run(pain, known(entry(BLOCKS, *SETTLED, with_original=with_original))))
        assert (texts(one, "TxSts"), texts(one, "IntrBkSttlmAmt")) == (["ACSC"], [])


def _requests_to_pay(version: int) -> Original:
    return replace(BLOCKS, definition=f"pain.013.001.{version:02}")


@pytest.mark.parametrize("version", range(1, 12))
@pytest.mark.parametrize(("events", "status"), [(HELD, "PDNG"), (SETTLED, "ACSC"), (REJECTED, "RJCT")])
def test_status_of_a_request_to_pay(version: int, events: tuple[EventKind, ...], status: str) -> None:
    """It is told in a pain.014, in the block that it stands in, with what is known of it."""
    known_as = _requests_to_pay(version)
    original = asked("pacs.028.001.03", ids_of(known_as, 2))
    one = answered(original, run(original, known(entry(known_as, *events))))
    assert one.definition == f"pain.014.001.{version:02}"
    assert (texts(one, "TxSts"), texts(one, "GrpSts")) == ([status], [])
    assert texts(one, "OrgnlPmtInfId") == [known_as.groups[1].payment_information_id]
    assert texts(one, "OrgnlMsgId") == [known_as.message_id]
    whole = asked("pacs.028.001.03", Ids(message_id=known_as.message_id, definition=known_as.definition), whole=True)
    one = answered(whole, run(whole, known(entry(known_as, *events))))
    assert (texts(one, "GrpSts"), texts(one, "TxSts")) == ([status], [status] * 3)
    assert len(texts(one, "OrgnlPmtInfId")) == 2


def test_a_request_to_pay_is_told_as_it_was_answered() -> None:
    """In the version that its profile had named."""
    before = entry(_requests_to_pay(7), *SETTLED, answer="pain.014.001.10")
    original = asked("pacs.028.001.03", ids_of(_requests_to_pay(7), 0))
    assert answered(original, run(original, known(before))).definition == "pain.014.001.10"


def test_requests_to_pay_that_a_pain014_has_no_room_for() -> None:
    """One that nobody knows is told in a pain.014 too; of several messages, or beside a payment, in a pacs.002."""
    unknown = asked("pacs.028.001.03", ids_of(_requests_to_pay(7), 0))
    one = answered(unknown, run(unknown, Facts()))
    assert (one.definition, texts(one, "TxSts"), texts(one, "Cd")) == ("pain.014.001.07", ["RJCT"], ["NARR"])
    mixed = asked("pacs.028.001.03", ids_of(_requests_to_pay(7), 0), ids_of(SINGLE, 0))
    facts = Facts(entries={1: (entry(_requests_to_pay(7), *HELD),), 2: (entry(SINGLE, *SETTLED, number=2),)})
    one = answered(mixed, run(mixed, facts))
    assert (one.definition, texts(one, "TxSts")) == ("pacs.002.001.10", ["PDNG", "ACSC"])


def test_status_of_a_request() -> None:
    """A status request that chases a cancellation is told that it was answered, not that something was settled."""
    before = replace(asked("camt.056.001.08"), message_id="EXAMPLE-M-0001")
    original = asked("pacs.028.001.03", Ids(definition="camt.056.001.08"))
    one = answered(original, run(original, known(entry(before, *SETTLED))))
    assert (texts(one, "TxSts"), texts(one, "Cd")) == (["ACTC"], ["NARR"])


CHASED = replace(asked("camt.056.001.08"), message_id="EXAMPLE-R-0001")
CHASE = Ids(message_id="EXAMPLE-R-0001", definition="camt.056.001.08")


def _chased(
    chase: Ids, *found: Entry, request: Original = CHASED, events: tuple[EventKind, ...] = SETTLED, whole: bool = False
) -> Answer:
    """What is told of a request, of whose originals there are these."""
    before = entry(request, *events)
    facts = known(*found, references=len(request.references))
    original = asked("pacs.028.001.03", chase, whole=whole)
    asked_for = dataclasses.replace(known(before), chased={before.transaction.id: facts})
    return answered(original, run(original, asked_for))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("events", "confirmation", "status", "reason"),
    [
        (CANCELLED, "CNCL", "ACCR", None),
        (SETTLED, "PDCR", "PDCR", "RQDA"),
        (REJECTED, "RJCR", "RJCR", "NARR"),
        (HANDED, "PDCR", "PDCR", "PTNA"),
        (HELD, "RJCR", "RJCR", "NARR"),
        (None, "RJCR", "RJCR", "NOOR"),
    ],
)
def test_a_status_request_that_chases_a_recall_is_told_how_that_stands(
    events: tuple[EventKind, ...] | None, confirmation: str, status: str, reason: str | None, *, whole: bool
) -> None:
    """In a camt.029, as it would be told again, in its own case; nothing is cancelled for it."""
    one = _chased(CHASE, *(() if events is None else (entry(SINGLE, *events, number=2),)), whole=whole)
    assert one.definition == "camt.029.001.09"
    found = [texts(one, name) for name in ("Conf", "TxCxlSts", "Cd")]
    assert found == [[confirmation], [status], [] if reason is None else [reason]]
    assert texts(one, "OrgnlMsgId") == [SINGLE.message_id]
    assert texts(one, "Id")[1] == "EXAMPLE-CASE-1"


@pytest.mark.parametrize(
    ("events", "status", "words"),
    [(ACTC, "PDCR", "not answered yet"), (REJECTED, "RJCR", "rejected itself")],
)
def test_a_recall_without_an_answer_of_its_own(events: tuple[EventKind, ...], status: str, words: str) -> None:
    """It is still looked at, or was no good itself."""
    one = _chased(CHASE, entry(SINGLE, *SETTLED, number=2), events=events)
    assert texts(one, "TxCxlSts") == [status]
    assert words in " ".join(text or "" for text in texts(one, "AddtlInf"))


def test_a_chase_may_name_some_of_the_originals() -> None:
    """By their ids, or by the ids that the request gave them; of none that it has nothing is known."""
    ids = [ids_of(THREE, place) for place in range(3)]
    recall = replace(asked("camt.056.001.08", *ids), message_id="EXAMPLE-R-0001")
    found = entry(THREE, *SETTLED, number=2)
    second = dataclasses.replace(ids[1], message_id="EXAMPLE-R-0001", definition="camt.056.001.08")
    assert texts(_chased(second, found, request=recall), "OrgnlTxId") == [THREE.payments[1].transaction_id]
    by_name = Ids(
        message_id="EXAMPLE-R-0001", definition="camt.056", instruction_id="EXAMPLE-X-3", end_to_end_id=None,
        transaction_id=None, uetr=None,
    )  # fmt: skip
    assert texts(_chased(by_name, found, request=recall), "OrgnlTxId") == [THREE.payments[2].transaction_id]
    other = dataclasses.replace(CHASE, transaction_id="OTHER")
    one = _chased(other, found, request=recall)
    assert "No request" in " ".join(text or "" for text in texts(one, "AddtlInf"))
    assert len(texts(_chased(CHASE, found, request=recall, whole=True), "TxInfAndSts")) == 3


@pytest.mark.parametrize(
    ("definition", "answer"),
    [("camt.056.001.08", "camt.029.001.09"), ("camt.055.001.12", "camt.029.001.13"), ("camt.056", "pacs.002.001.10")],
)
def test_a_recall_that_nobody_knows(definition: str, answer: str) -> None:
    """Is told in the camt.029 of its version; where that is not said, in a pacs.002."""
    original = asked("pacs.028.001.03", Ids(definition=definition))
    assert answered(original, run(original, Facts())).definition == answer


def test_recalls_beside_payments_are_told_in_a_pacs002() -> None:
    """It has room for all that was asked for."""
    before, settled = entry(CHASED, *SETTLED), entry(SINGLE, *SETTLED, number=2)
    original = asked("pacs.028.001.03", CHASE, ids_of(SINGLE, 0))
    facts = Facts(entries={1: (before,), 2: (settled,)}, chased={before.transaction.id: known(settled)})
    one = answered(original, run(original, facts))
    assert (one.definition, texts(one, "TxSts")) == ("pacs.002.001.10", ["ACTC", "ACSC"])


def test_what_is_looked_up_of_a_chase() -> None:
    """The request by its own id: what it names of a payment is not the payment that is meant."""
    assert keys(asked("pacs.028.001.03", CHASE).references[0]) == ((KeyKind.MESSAGE, "EXAMPLE-R-0001"),)


# ---------------------------------------------------------------------------------------------------- investigations


@pytest.mark.parametrize(
    ("definition", "events", "expected"),
    [
        ("camt.026.001.07", SETTLED, "NINF"),
        ("camt.027.001.09", SETTLED, "CONF"),
        ("camt.027.001.09", REJECTED, "ACNR"),
        ("camt.027.001.09", HELD, "PDNG"),
        ("camt.027.001.09", None, "NINF"),
        ("camt.027.001.05", SETTLED, "CONF"),
        ("camt.026.001.03", SETTLED, None),
    ],
)
def test_investigations(definition: str, events: tuple[EventKind, ...] | None, expected: str | None) -> None:
    """An investigation is told how the payment stands, in the words of its version; without such words, in ours."""
    original = asked(definition)
    outcome = run(original, Facts() if events is None else known(entry(SINGLE, *events)))
    one = answered(original, outcome)
    assert one.definition.startswith("admi.002" if expected is None else "camt.029")
    assert texts(one, "Conf") == ([] if expected is None else [expected])


def test_modifications_are_refused_one_by_one() -> None:
    """Nothing that has come is modified: each element that a camt.087 wants changed has its own refusal."""
    original = asked("camt.087.001.09")
    assert original.modifications == ("IntrBkSttlmAmt", "RmtInf")
    one = answered(original, run(original, known(entry())))
    assert [element.findtext("{*}Cd") for element in etree.fromstring(one.body).iter("{*}RjctdMod")] == ["UM23", "UM15"]
    nothing = replace(original, modifications=("Strange",))
    assert answered(nothing, run(nothing, Facts())).definition == "admi.002.001.01"


@pytest.mark.parametrize(
    ("kind", "events", "status", "codes"),
    [
        ("CCNR", SETTLED, "CLSD", ["ACSC"]),
        ("CCNR", HELD, "CLSD", ["PDNG"]),
        ("RQFI", SETTLED, "RJCT", ["NOAD", "ACSC"]),
        ("CCNR", None, "RJCT", ["NOOR"]),
    ],
)
def test_new_investigations(kind: str, events: tuple[EventKind, ...] | None, status: str, codes: list[str]) -> None:
    """A camt.110 is told the status of the payment, which closes it where it asked for no more."""
    original = asked("camt.110.001.01", reason=kind)
    one = answered(original, run(original, Facts() if events is None else known(entry(SINGLE, *events))))
    assert one.definition == "camt.111.001.01"
    assert texts(one, "Sts")[:1] == [status]
    assert texts(one, "Cd") == [*codes, kind]


# ------------------------------------------------------------------------------------------------------- what to ask


def test_what_is_looked_up() -> None:
    """By the most telling name first; whole messages by their MsgId alone."""
    (payment,) = asked("camt.056.001.08").references
    assert keys(payment) == (
        (KeyKind.UETR, UETR),
        (KeyKind.TRANSACTION, "EXAMPLE-T-0001"),
        (KeyKind.MESSAGE, "EXAMPLE-M-0001"),
        (KeyKind.END_TO_END, "EXAMPLE-E-0001"),
    )
    (message,) = asked("camt.056.001.08", whole=True).references
    assert keys(message) == ((KeyKind.MESSAGE, "EXAMPLE-M-0001"),)
    nothing = Ids(message_id=None, uetr=None, transaction_id=None, end_to_end_id="NOTPROVIDED")
    assert keys(asked("camt.056.001.08", nothing).references[0]) == ()


def test_payments_are_no_enquiries() -> None:
    """Only requests about others are judged here."""
    assert is_enquiry(asked("camt.056.001.08"))
    assert not is_enquiry(SINGLE)
    with pytest.raises(ValueError, match="no request"):
        run(SINGLE, Facts())


def test_versions_that_a_profile_names() -> None:
    """The answer comes in the version that was asked for in place of the usual one."""
    original = asked("camt.055.001.09")
    one = answered(original, run(original, Facts()), "camt.029.001.09")
    assert one.definition == "camt.029.001.09"
