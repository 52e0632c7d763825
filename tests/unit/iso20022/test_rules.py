import dataclasses
from datetime import date
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iso4217 import Currency
from msgspec.structs import replace

from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Agent
from interlock.iso20022.reasons import is_status_reason
from interlock.iso20022.rules import RULES, Rule, check, holding
from interlock.iso20022.rules.amounts import _TABLE
from tests.unit.iso20022.rule_examples import (
    BAD,
    BLOCKS,
    FILES,
    GOOD,
    THREE,
    Message,
    block,
    edited,
    header,
    message,
    parsed,
    payment,
    sample,
)

TODAY: Final = date(2026, 11, 22)


def looked_at(one: Message, **more: Any) -> tuple[Finding, ...]:
    return check(one.original, today=TODAY, document=one.document, header=one.header, **more)


def turned_on(*rules: str) -> dict[str, Severity | None]:
    """Settings of a profile that asks for these rules."""
    return {rule: RULES[rule].severity for rule in rules}


@pytest.mark.parametrize("file", FILES)
def test_good_messages_break_no_rule(file: str) -> None:
    """Our own samples are valid on the day for which they were made."""
    assert looked_at(sample(file)) == ()


@pytest.mark.parametrize(("rule", "broken", "payments"), BAD, ids=[f"{n}-{row[0]}" for n, row in enumerate(BAD)])
def test_what_breaks_a_rule(rule: str, broken: Message, payments: list[int | None]) -> None:
    """Each cause has its own finding, and costs the payments concerned and no others."""
    findings = [one for one in looked_at(broken, settings=turned_on(rule)) if one.rule not in _BESIDE.get(rule, ())]
    assert {finding.rule for finding in findings} == {rule}
    assert [finding.payment for finding in findings] == payments
    assert {(finding.severity, finding.reason) for finding in findings} == {(RULES[rule].severity, RULES[rule].reason)}
    assert {finding.text for finding in findings} == {RULES[rule].text}


#: What cannot be broken alone.
_BESIDE: Final = {"header.copy_related": {"header.copy"}}


@pytest.mark.parametrize(("rule", "good"), GOOD, ids=[f"{n}-{row[0]}" for n, row in enumerate(GOOD)])
def test_what_comes_near(rule: str, good: Message) -> None:
    """Odd forms that the standards allow do not break the rule, even where a profile turns it on."""
    assert rule not in {finding.rule for finding in looked_at(good, settings=turned_on(rule))}


@pytest.mark.parametrize("examples", [BAD, GOOD], ids=["bad", "good"])
def test_every_rule_has_examples(examples: list[tuple[Any, ...]]) -> None:
    """No rule without a row in each table, and no row without a rule."""
    assert {row[0] for row in examples} == set(RULES)


def test_rules_are_complete() -> None:
    """Each rule has a reason of ISO's, a text, a source, and exactly one check; elements where it looks at such."""
    for rule in RULES.values():
        assert is_status_reason(rule.reason)
        assert rule.text.endswith(".")
        assert rule.source
        checks = (rule.payment_check, rule.message_check, rule.document_check, rule.header_check)
        of_elements = (rule.element_check, rule.shape_check)
        assert sum(one is not None for one in (*checks, *of_elements)) == 1
        assert bool(rule.elements) == any(one is not None for one in of_elements)
        assert rule.instead_of is None or rule.instead_of in RULES


def test_places() -> None:
    """A finding names the element, in the block where that holds it."""

    def xpaths(broken: Message, *rules: str) -> list[str]:
        return [finding.xpath for finding in looked_at(broken, settings=turned_on(*rules))]

    base = "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[2]"
    assert xpaths(payment(creditor_iban="X")) == [f"{base}/CdtrAcct/Id/IBAN"]
    assert xpaths(payment(amount="0")) == [f"{base}/IntrBkSttlmAmt"]
    assert xpaths(payment(uetr="X")) == [f"{base}/PmtId/UETR"]
    assert xpaths(message(control_sum="1")) == ["/Document/FIToFICstmrCdtTrf/GrpHdr/CtrlSum"]
    group = "/Document/CstmrCdtTrfInitn/PmtInf[2]"
    assert xpaths(payment(3, of=BLOCKS, debtor_iban="X")) == [f"{group}/DbtrAcct/Id/IBAN"]
    assert xpaths(payment(3, of=BLOCKS, creditor_iban="X")) == [f"{group}/CdtTrfTxInf[1]/CdtrAcct/Id/IBAN"]
    order = f"{group}/CdtTrfTxInf[1]/Amt"
    assert xpaths(payment(3, of=BLOCKS, currency="EUX")) == [f"{order}/InstdAmt/@Ccy"]
    assert xpaths(payment(3, of=BLOCKS, currency="EUX", amount_is_equivalent=True)) == [f"{order}/EqvtAmt/Amt/@Ccy"]
    assert xpaths(block(control_sum="1"))[0] == "/Document/CstmrCdtTrfInitn/PmtInf[1]/CtrlSum"


def test_places_of_elements() -> None:
    """An element's finding has its very path and line, and numbers only where there are several of a name."""
    (finding,) = looked_at(edited(("<Ctry>DE</Ctry>", "<Ctry>UK</Ctry>")))
    assert finding.xpath == "/BusinessMessage/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[1]/Dbtr/PstlAdr/Ctry"
    assert finding.line == 60
    assert finding.payment == 1
    two = edited(("</RmtInf>", "<Ustrd>Ł</Ustrd></RmtInf>"))
    (finding,) = looked_at(two, settings=turned_on("characters.latin_1"))
    assert finding.xpath.endswith("/CdtTrfTxInf[1]/RmtInf/Ustrd[2]")


_DEBTOR: Final = "<BICFI>EXMPDEFFXXX</BICFI>\n        </FinInstnId>\n      </Dbtr>"
_FOREIGN: Final = "<{0}><FinInstnId><BICFI>EXMPQQJT</BICFI></FinInstnId></{0}>"


@pytest.mark.parametrize(
    ("edit", "rule", "place"),
    [
        ((_DEBTOR, _DEBTOR.replace("EXMPDE", "EXMPQQ")), "debtor", "Dbtr"),
        (("EXMPJPJT", "EXMPQQJT"), "creditor", "Cdtr"),
        (("</Dbtr>", f"</Dbtr>{_FOREIGN.format('DbtrAgt')}"), "debtor", "DbtrAgt"),
        (("</Dbtr>", f"</Dbtr>{_FOREIGN.format('CdtrAgt')}"), "creditor", "CdtrAgt"),
    ],
)
def test_banks_that_pay_each_other_are_debtor_and_creditor(edit: tuple[str, str], rule: str, place: str) -> None:
    """A fault of theirs is found once, where it is written; they have agents only where the message says so."""
    (finding,) = looked_at(edited(edit, file=FILES[2]))
    assert finding.rule == f"bic.{rule}_agent"
    assert finding.xpath.endswith(f"/CdtTrfTxInf[1]/{place}/FinInstnId")


def test_a_settlement_date_is_found_where_it_stands() -> None:
    """In the group header, where that says one for all; each payment has the fault."""
    long_ago = "2020-01-06"
    (finding,) = looked_at(payment(settlement_date=long_ago))
    assert finding.xpath == "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf[2]/IntrBkSttlmDt"
    payments = tuple(replace(one, settlement_date=long_ago) for one in THREE.payments)
    findings = looked_at(message(payments=payments, settlement_date=long_ago))
    assert {(one.xpath, one.rule) for one in findings} == {
        ("/Document/FIToFICstmrCdtTrf/GrpHdr/IntrBkSttlmDt", "settlement_date.past")
    }
    assert [one.payment for one in findings] == [one.ordinal for one in payments]


def test_a_fault_above_payments_costs_each_of_its_block() -> None:
    """What stands in a block beside its payments is wrong for each of them, and for no other."""
    broken = edited(("<Nm>Ada Example</Nm>\n      </Dbtr>", "<CtryOfRes>UK</CtryOfRes></Dbtr>"), file=FILES[3])
    findings = looked_at(broken)
    assert [(finding.rule, finding.payment) for finding in findings] == [("country.known", 1), ("country.known", 2)]
    assert {finding.xpath for finding in findings} == {"/Document/CstmrCdtTrfInitn/PmtInf[1]/Dbtr/CtryOfRes"}


def test_a_fault_is_found_once() -> None:
    """Where a rule on payments names a fault, the wider rule on elements is silent; elsewhere it speaks."""
    broken = edited(("DE89370400440532013000", "DE89370400440532013001"))
    assert [finding.rule for finding in looked_at(broken)] == ["iban.debtor"]
    assert [finding.rule for finding in check(broken.original, today=TODAY)] == ["iban.debtor"]
    off = looked_at(broken, settings={"iban.debtor": None})
    assert [(finding.rule, finding.payment) for finding in off] == [("iban.form", 1)]


def test_foreign_namespaces_are_left_alone() -> None:
    """What stands in SplmtryData in a namespace of its own has names of its own."""
    foreign = '<SplmtryData><Envlp><x:IBAN xmlns:x="urn:x">none</x:IBAN></Envlp></SplmtryData></CdtTrfTxInf>'
    assert looked_at(edited(("</CdtTrfTxInf>", foreign))) == ()


def test_settings() -> None:
    """A profile turns rules off and on, and makes them weigh more or less."""
    broken = header(business_message_id="OTHER")
    assert [finding.severity for finding in looked_at(broken)] == [Severity.WARNING]
    assert [one.severity for one in looked_at(broken, settings={"header.id": Severity.ERROR})] == [Severity.ERROR]
    assert looked_at(broken, settings={"header.id": None}) == ()
    assert "header.service" not in {rule.id for rule in holding("pacs.008.001.08", TODAY)}
    asked = holding("pacs.008.001.08", TODAY, {"header.service": Severity.WARNING})
    assert [rule.severity for rule in asked if rule.id == "header.service"] == [Severity.WARNING]


def test_settings_of_other_profiles_do_not_mix() -> None:
    """What follows from one profile's settings is not taken for another's, though the first be gone."""
    broken = header(business_message_id="OTHER")
    for _ in range(50):
        assert len(looked_at(broken, settings={"header.id": Severity.ERROR})) == 1
        assert looked_at(broken, settings={"header.id": None}) == ()


@pytest.mark.parametrize(
    ("rule", "before", "first"),
    [
        ("address.unstructured_cbprplus", date(2026, 11, 13), date(2026, 11, 14)),
        ("address.unstructured_sepa", date(2026, 11, 14), date(2026, 11, 15)),
    ],
)
def test_dated_rules(rule: str, before: date, first: date) -> None:
    """The deadline for unstructured addresses is a day, and not another."""
    broken = next(broken for name, broken, _ in BAD if name == rule)

    def fires(day: date) -> bool:
        found = check(broken.original, today=day, document=broken.document, settings=turned_on(rule))
        return rule in {finding.rule for finding in found}

    assert (fires(before), fires(first)) == (False, True)


def test_exempt_messages() -> None:
    """Reports keep their unstructured addresses in CBPR+."""
    rule = RULES["address.unstructured_cbprplus"]
    assert [rule.is_for(one) for one in ("camt.053.001.08", "camt.054.001.08", "pacs.008.001.08")] == [
        False,
        False,
        True,
    ]


def test_validity() -> None:
    """A rule holds from its first day to its last, both included."""
    dated = dataclasses.replace(RULES["amount.zero"], valid_from=date(2026, 1, 1), valid_until=date(2026, 12, 31))
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 12, 31), date(2027, 1, 1)]
    assert [dated.is_valid_on(day) for day in days] == [False, True, True, False]
    assert Rule.is_valid_on(RULES["amount.zero"], date(1900, 1, 1))


def test_many_faults_take_no_long_time() -> None:
    """Twenty thousand faults among siblings are placed by counting once, not once each."""
    lines = "<Strd><Ctry>UK</Ctry></Strd>" * 20_000
    crowded = edited(("<Ustrd>Invoice 2026-1, café &amp; bakery</Ustrd>", lines))
    findings = looked_at(crowded)
    assert len(findings) == 20_000
    assert findings[-1].xpath.endswith("/RmtInf/Strd[20000]/Ctry")


ALL: Final = {rule.id: rule.severity for rule in RULES.values()}
TEXTS: Final = st.none() | st.text(max_size=40)


@settings(deadline=None)
@given(
    amount=TEXTS, currency=TEXTS, debtor_iban=TEXTS, creditor_iban=TEXTS, uetr=TEXTS, settlement_date=TEXTS, bic=TEXTS
)
def test_check_never_raises(bic: str | None, **texts: str | None) -> None:
    """Whatever the texts of a message are, checking it ends with findings, not with an error."""
    changes: dict[str, Any] = {**texts, "debtor_agent": Agent(bic=bic, lei=bic, clearing_member=bic)}
    broken = payment(**changes).original
    broken = replace(broken, control_sum=texts["amount"], number_of_transactions=texts["uetr"], total_amount=bic)
    broken = replace(broken, created_at=texts["settlement_date"])
    assert all(isinstance(finding.rule, str) for finding in check(broken, today=TODAY, settings=ALL))


#: Elements that some rule looks at, with text that means nothing, in any nesting.
NAMES: Final = sorted({name for rule in RULES.values() for name in rule.elements} | {"Id", "Tp", "Cd", "Nm", "AdrLine"})
TREES: Final = st.recursive(
    st.tuples(st.sampled_from(NAMES), st.text("AZ09 ./-é", max_size=6)).map(
        lambda one: f"<{one[0]}>{one[1]}</{one[0]}>"
    ),
    lambda inner: st.tuples(st.sampled_from(NAMES), st.lists(inner, max_size=4)).map(
        lambda one: f"<{one[0]}>{''.join(one[1])}</{one[0]}>"
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(TREES)
def test_elements_never_raise(tree: str) -> None:
    """Whatever stands wherever, all rules at once end with findings whose places are in the document."""
    namespace = "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"
    odd = parsed(
        f'<Document xmlns="{namespace}"><FIToFICstmrCdtTrf><GrpHdr/><CdtTrfTxInf>{tree}</CdtTrfTxInf>{tree}'
        "</FIToFICstmrCdtTrf></Document>".encode()
    )
    for finding in looked_at(odd, settings=ALL):
        assert finding.xpath.startswith("/Document/FIToFICstmrCdtTrf")


def test_payments_share_no_finding() -> None:
    """A fault in one payment is told with that payment's ordinal."""
    broken = edited(("<Ctry>FR</Ctry>", "<Ctry>FX</Ctry>"), file=FILES[0])
    assert [finding.payment for finding in looked_at(broken)] == [1]
    assert THREE.payments[0].ordinal == 1


def test_withdrawn_currencies_are_withdrawn() -> None:
    """None of them is in the list of currencies in use, and each has had its last day."""
    withdrawn = _TABLE["withdrawn"]
    assert {currency.code for currency in Currency}.isdisjoint(withdrawn)
    assert all(past["last_day"] < TODAY for past in withdrawn.values())
    assert all(past["decimals"] in (0, 2, 3) for past in withdrawn.values())
