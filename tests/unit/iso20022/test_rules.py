import dataclasses
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from interlock.iso20022.envelopes import read
from interlock.iso20022.fields import extract
from interlock.iso20022.findings import Severity
from interlock.iso20022.original import Agent, Original
from interlock.iso20022.reasons import is_status_reason
from interlock.iso20022.rules import RULES, Rule, check

SAMPLES: Final = Path(__file__).parents[2] / "samples"
TODAY: Final = date(2026, 11, 22)
FILES: Final = ("pacs.008.001.08.xml", "pacs.008.001.08_bah.xml", "pacs.009.001.08_bah.xml", "pain.001.001.09.xml")


def sample(file: str) -> Original:
    return extract(read((SAMPLES / file).read_bytes()))


THREE: Final = sample(FILES[0])
HEADED: Final = sample(FILES[1])
BLOCKS: Final = sample(FILES[3])


def payment(ordinal: int = 2, *, of: Original = THREE, **changes: Any) -> Original:
    """The message with one payment changed."""
    payments = [replace(one, **changes) if one.ordinal == ordinal else one for one in of.payments]
    return replace(of, payments=tuple(payments))


def header(**changes: Any) -> Original:
    assert HEADED.header is not None
    return replace(HEADED, header=replace(HEADED.header, **changes))


def block(**changes: Any) -> Original:
    return replace(BLOCKS, groups=(replace(BLOCKS.groups[0], **changes), *BLOCKS.groups[1:]))


@pytest.mark.parametrize("file", FILES)
def test_good_messages_break_no_rule(file: str) -> None:
    """Our own samples are valid on the day for which they were made."""
    assert check(sample(file), today=TODAY) == ()


#: One row a cause: what is broken, the rule that says so, and the payments that it costs (None is the message).
CAUSES: Final[list[tuple[Original, str, list[int | None]]]] = [
    (header(message_definition="pacs.008.001.09"), "header.definition", [None]),
    (header(business_message_id="OTHER"), "header.id", [None]),
    (header(sender=Agent(bic="OTHRDEFFXXX")), "header.sender", [None]),
    (header(receiver=Agent(bic="OTHRFRPPXXX")), "header.receiver", [None]),
    (header(created_at="2026-11-22T10:00:00"), "header.created", [None]),
    (replace(THREE, number_of_transactions="2"), "count.message", [None]),
    (replace(THREE, number_of_transactions="٣"), "count.message", [None]),
    (block(number_of_transactions="3"), "count.block", [1, 2]),
    (replace(THREE, control_sum="1349.94"), "sum.message", [None]),
    (replace(THREE, control_sum="many"), "sum.message", [None]),
    (block(control_sum="30.31"), "sum.block", [1, 2]),
    (replace(THREE, total_amount="1349.96", total_currency="EUR"), "sum.settlement", [None]),
    (replace(payment(currency="USD"), total_amount="1349.95", total_currency="EUR"), "currency.settlement", [2]),
    (replace(THREE, instructing_agent=Agent(bic="EXMPXX00")), "agent.bic", [None]),
    (payment(3, uetr=THREE.payments[0].uetr), "duplicate.uetr", [3]),
    (payment(3, transaction_id=THREE.payments[0].transaction_id), "duplicate.transaction", [3]),
    (block(requested_execution_date="2026-02-30"), "execution_date.readable", [1, 2]),
    (block(requested_execution_date="2025-11-20"), "execution_date.past", [1, 2]),
    (block(requested_execution_date="2027-11-24"), "execution_date.future", [1, 2]),
    (payment(debtor_iban="DE89370400440532013001"), "iban.debtor", [2]),
    (payment(creditor_iban="FR1420041010050500013M0260"), "iban.creditor", [2]),
    (payment(creditor_iban="FR14 2004 1010 0505 0001 3M02 606"), "iban.creditor", [2]),
    (payment(creditor_iban="ZZ00123456789"), "iban.creditor", [2]),
    (payment(creditor_iban=""), "iban.creditor", [2]),
    (payment(debtor_agent=Agent(bic="EXMPDEF")), "bic.debtor_agent", [2]),
    (payment(creditor_agent=Agent(bic="EXMPXXPP")), "bic.creditor_agent", [2]),
    (payment(instructing_agent=Agent(bic="exmpdeff")), "bic.instructing_agent", [2]),
    (payment(instructed_agent=Agent(bic="EXMPDEFFX")), "bic.instructed_agent", [2]),
    (payment(debtor_agent=Agent(lei="5493001KJTIIGC8Y1R18")), "lei.agent", [2]),
    (payment(amount=None), "amount.number", [2]),
    (payment(amount="1e3"), "amount.number", [2]),
    (payment(amount="-1"), "amount.number", [2]),
    (payment(amount="0.00"), "amount.zero", [2]),
    (payment(amount="1.001"), "amount.decimals", [2]),
    (payment(amount="1.5", currency="JPY"), "amount.decimals", [2]),
    (payment(amount="9" * 40 + ".001"), "amount.decimals", [2]),
    (payment(currency="EUX"), "currency.known", [2]),
    (payment(currency="XXX"), "currency.known", [2]),
    (payment(currency=None), "currency.known", [2]),
    (payment(currency="BGN"), "currency.withdrawn", [2]),
    (payment(uetr="0E8B2A4C-5D6F-4A1B-9C3D-7E8F9A0B1C2D"), "uetr.form", [2]),
    (payment(uetr="0e8b2a4c-5d6f-1a1b-9c3d-7e8f9a0b1c2d"), "uetr.form", [2]),
    (payment(settlement_date="2026-02-30"), "settlement_date.readable", [2]),
    (payment(settlement_date="tomorrow"), "settlement_date.readable", [2]),
    (payment(settlement_date="2025-11-20"), "settlement_date.past", [2]),
    (payment(settlement_date="2027-02-21"), "settlement_date.future", [2]),
]


@pytest.mark.parametrize(("broken", "rule", "payments"), CAUSES, ids=[f"{n}-{row[1]}" for n, row in enumerate(CAUSES)])
def test_causes(broken: Original, rule: str, payments: list[int | None]) -> None:
    """Each cause has its own finding, and costs the payments concerned and no others."""
    findings = check(broken, today=TODAY)
    assert {finding.rule for finding in findings} == {rule}
    assert [finding.payment for finding in findings] == payments
    assert {(finding.severity, finding.reason) for finding in findings} == {(RULES[rule].severity, RULES[rule].reason)}


def test_every_rule_has_a_cause() -> None:
    """No rule without a row above, and no row without a rule."""
    assert {row[1] for row in CAUSES} == set(RULES)


@pytest.mark.parametrize(
    "good",
    [
        payment(currency="BGN", settlement_date="2025-12-31"),
        payment(currency="HRK", settlement_date="2022-06-01"),
        payment(amount="100.000"),
        payment(amount="1.001", currency="KWD"),
        payment(amount="1.00", currency="JPY"),
        payment(currency="XAU", amount="1.23456"),
        payment(creditor_iban=None, creditor_agent=None, uetr=None, settlement_date=None),
        payment(creditor_iban="DZ580002100001113000000570"),
        payment(creditor_agent=Agent(bic="EXMPXKPR")),
        payment(creditor_agent=Agent(bic="1XMPDEFF")),
        payment(creditor_agent=Agent(clearing_member="021000021", clearing_system="USABA")),
        payment(debtor_agent=Agent(lei="5493001KJTIIGC8Y1R17")),
        payment(settlement_date="2026-11-23Z"),
        payment(settlement_date="2027-02-20"),
        replace(THREE, number_of_transactions="0003", control_sum="1349.950"),
        replace(THREE, total_amount="1349.95", total_currency="EUR"),
        replace(THREE, payments=()),
        header(sender=Agent(bic="EXMPDEFF")),
        header(sender=Agent(clearing_member="021000021")),
        header(created_at="2026-11-22T10:00:00Z"),
        header(message_definition=None, business_message_id=None, created_at=None, sender=None, receiver=None),
        block(requested_execution_date="2026-11-23T08:00:00+01:00", control_sum=None, number_of_transactions=None),
        payment(1, of=replace(BLOCKS, control_sum=None), amount_is_equivalent=True),
    ],
)
def test_what_is_unusual_and_good(good: Original) -> None:
    """Odd forms that the standards allow break no rule of weight error."""
    assert [finding.rule for finding in check(good, today=TODAY) if finding.severity is Severity.ERROR] == []


def test_places() -> None:
    """A finding names the element, in the block where that holds it."""

    def xpaths(broken: Original) -> list[str]:
        return [finding.xpath for finding in check(broken, today=TODAY)]

    base = "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[2]"
    assert xpaths(payment(creditor_iban="X")) == [f"{base}/CdtrAcct/Id/IBAN"]
    assert xpaths(payment(amount="0")) == [f"{base}/IntrBkSttlmAmt"]
    assert xpaths(payment(uetr="X")) == [f"{base}/PmtId/UETR"]
    assert xpaths(replace(THREE, control_sum="1")) == ["/Document/FIToFICstmrCdtTrf/GrpHdr/CtrlSum"]
    group = "/Document/CstmrCdtTrfInitn/PmtInf[2]"
    assert xpaths(payment(3, of=BLOCKS, debtor_iban="X")) == [f"{group}/DbtrAcct/Id/IBAN"]
    assert xpaths(payment(3, of=BLOCKS, creditor_iban="X")) == [f"{group}/CdtTrfTxInf[1]/CdtrAcct/Id/IBAN"]
    assert xpaths(block(control_sum="1"))[0] == "/Document/CstmrCdtTrfInitn/PmtInf[1]/CtrlSum"


def test_rules_are_complete() -> None:
    """Each rule has a reason of ISO's, a text, a source, and exactly one check."""
    for rule in RULES.values():
        assert is_status_reason(rule.reason)
        assert rule.text.endswith(".")
        assert rule.source
        assert (rule.payment_check is None) != (rule.message_check is None)


def test_texts_hold_no_values() -> None:
    """What a finding says is the rule's text to the letter: nothing of the message can leak into it."""
    for broken, rule, _ in CAUSES:
        assert {finding.text for finding in check(broken, today=TODAY)} == {RULES[rule].text}


def test_validity() -> None:
    """A rule holds from its first day to its last, both included."""
    dated = dataclasses.replace(RULES["amount.zero"], valid_from=date(2026, 1, 1), valid_until=date(2026, 12, 31))
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 12, 31), date(2027, 1, 1)]
    assert [dated.is_valid_on(day) for day in days] == [False, True, True, False]
    assert Rule.is_valid_on(RULES["amount.zero"], date(1900, 1, 1))


TEXTS: Final = st.none() | st.text(max_size=40)


@given(
    amount=TEXTS, currency=TEXTS, debtor_iban=TEXTS, creditor_iban=TEXTS, uetr=TEXTS, settlement_date=TEXTS, bic=TEXTS
)
def test_check_never_raises(bic: str | None, **texts: str | None) -> None:
    """Whatever the texts of a message are, checking it ends with findings, not with an error."""
    changes: dict[str, Any] = {**texts, "debtor_agent": Agent(bic=bic, lei=bic)}
    broken = payment(**changes)
    broken = replace(broken, control_sum=texts["amount"], number_of_transactions=texts["uetr"], total_amount=bic)
    assert all(isinstance(finding.rule, str) for finding in check(broken, today=TODAY))


@given(st.integers(0, 10**18 - 1))
def test_iban_checksum_finds_every_single_digit_error(number: int) -> None:
    """An IBAN with right check digits passes, and with any one digit changed it does not."""
    bban = f"{number:018d}"
    digits = 98 - int(f"{bban}131400") % 97
    good = f"DE{digits:02d}{bban}"
    is_good: Callable[[str], bool] = lambda iban: check(payment(debtor_iban=iban), today=TODAY) == ()  # noqa: E731
    assert is_good(good)
    place = 4 + number % 18
    assert not is_good(f"{good[:place]}{(int(good[place]) + 1) % 10}{good[place + 1 :]}")
