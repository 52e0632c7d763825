"""Check digits find what they are there to find: any one character that is wrong, and two that changed places."""

from contextlib import suppress
from datetime import date
from random import Random
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from schwifty import IBAN, registry
from schwifty.exceptions import InvalidCountryCode, SchwiftyException

from interlock.iso20022.rules import RULES, Settings, check
from interlock.iso20022.rules.clearing import is_member
from tests.messages import CREDITOR_IBAN
from tests.unit.iso20022.rule_examples import Message, edited, payment

TODAY: Final = date(2026, 11, 22)
QR_TABLE: Final = (0, 9, 4, 6, 8, 2, 7, 1, 3, 5)


def mod_97(text: str) -> int:
    """ISO 7064 MOD 97-10, from the standard's own definition: letters are numbers from 10 on."""
    return int("".join(str(int(character, 36)) for character in text)) % 97


def is_good(message: Message, rule: str) -> bool:
    """Whether a message does not break a rule, which a profile would turn on if need be."""
    found = check(message.original, today=TODAY, document=message.document, settings=_ON[rule])
    return rule not in {finding.rule for finding in found}


#: Settings are remembered by who they are, so each is made once.
_ON: Final[dict[str, Settings]] = {
    rule: {rule: RULES[rule].severity}
    for rule in ("iban.debtor", "iban.creditor", "lei.form", "reference.rf", "reference.qr")
}


def changed(text: str, place: int, by: int) -> str:
    """One digit made another."""
    place %= len(text)
    return f"{text[:place]}{(int(text[place]) + 1 + by % 9) % 10}{text[place + 1 :]}"


@settings(deadline=None)
@given(st.integers(0, 10**18 - 1), st.integers(0, 17), st.integers(0, 8))
def test_iban(number: int, place: int, by: int) -> None:
    """An IBAN with right check digits passes, and with any one digit changed it does not."""
    bban = f"{number:018d}"
    digits = 98 - mod_97(f"{bban}DE00")
    assert is_good(payment(debtor_iban=f"DE{digits:02d}{bban}"), "iban.debtor")
    assert not is_good(payment(debtor_iban=f"DE{digits:02d}{changed(bban, place, by)}"), "iban.debtor")


@settings(deadline=None)
@given(st.sampled_from(sorted(registry.get_countries())), st.randoms(use_true_random=False), st.integers(0, 40))
def test_iban_is_as_the_registry_has_it(country: str, random: Random, place: int) -> None:
    """Of every country: our quick look agrees with schwifty about an IBAN, and about one with a digit changed."""
    good = f"{country}{random.randrange(100):02d}{random.randrange(10**26):026d}"[: random.randrange(15, 30)]
    with suppress(SchwiftyException, ValueError):
        good = str(IBAN.random(country, random=random, use_registry=False))
    place %= len(good)
    for iban in (good, f"{good[:place]}7{good[place + 1 :]}", good.lower()):
        try:
            expected = bool(IBAN(iban))
        except InvalidCountryCode:
            continue
        except SchwiftyException:
            expected = False
        assert is_good(payment(debtor_iban=iban), "iban.debtor") is expected


@settings(deadline=None)
@given(st.integers(4, len(CREDITOR_IBAN) - 2))
def test_iban_with_two_characters_swapped(place: int) -> None:
    """Neighbours that changed places are found, unless they are the same."""
    one, two = CREDITOR_IBAN[place], CREDITOR_IBAN[place + 1]
    swapped = CREDITOR_IBAN[:place] + two + one + CREDITOR_IBAN[place + 2 :]
    assert is_good(payment(creditor_iban=swapped), "iban.creditor") is (one == two)


@settings(deadline=None)
@given(st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=18, max_size=18), st.integers(0, 1), st.integers(0, 8))
def test_lei(base: str, place: int, by: int) -> None:
    """Likewise for an LEI, of whose check digits either is changed."""
    digits = f"{98 - mod_97(base + '00'):02d}"

    def message(lei: str) -> Message:
        return edited(("</PstlAdr>", f"</PstlAdr><Id><OrgId><LEI>{lei}</LEI></OrgId></Id>"))

    assert is_good(message(base + digits), "lei.form")
    assert not is_good(message(base + changed(digits, place, by)), "lei.form")


@settings(deadline=None)
@given(st.integers(0, 10**8 - 1), st.integers(0, 8), st.integers(0, 8))
def test_routing_number(number: int, place: int, by: int) -> None:
    """An ABA routing number passes with its check digit alone (weights 3, 7 and 1)."""
    base = f"{number:08d}"
    total = sum(int(digit) * weight for digit, weight in zip(base, (3, 7, 1) * 3, strict=False))
    good = f"{base}{-total % 10}"
    assert is_member("USABA", good)
    assert not is_member("USABA", changed(good, place, by))


@settings(deadline=None)
@given(st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=21), st.integers(0, 1), st.integers(0, 8))
def test_creditor_reference(reference: str, place: int, by: int) -> None:
    """A creditor reference of ISO 11649."""
    digits = f"{98 - mod_97(reference + 'RF00'):02d}"

    def message(text: str) -> Message:
        strd = f"<Strd><CdtrRefInf><Tp><CdOrPrtry><Cd>SCOR</Cd></CdOrPrtry></Tp><Ref>{text}</Ref></CdtrRefInf></Strd>"
        return edited(("<RmtInf>", f"<RmtInf>{strd}"))

    assert is_good(message(f"RF{digits}{reference}"), "reference.rf")
    assert not is_good(message(f"RF{changed(digits, place, by)}{reference}"), "reference.rf")


@settings(deadline=None)
@given(st.integers(1, 10**26 - 1), st.integers(0, 26), st.integers(0, 8))
def test_qr_reference(number: int, place: int, by: int) -> None:
    """A QR reference has a check digit modulo 10, recursively; a profile turns the rule on."""
    base = f"{number:026d}"
    carry = 0
    for digit in base:
        carry = QR_TABLE[(carry + int(digit)) % 10]
    good = f"{base}{(10 - carry) % 10}"

    def message(text: str) -> Message:
        kind = "<Tp><CdOrPrtry><Prtry>QRR</Prtry></CdOrPrtry></Tp>"
        strd = f"<Strd><CdtrRefInf>{kind}<Ref>{text}</Ref></CdtrRefInf></Strd>"
        return edited(("<RmtInf>", f"<RmtInf>{strd}"))

    assert is_good(message(good), "reference.qr")
    assert not is_good(message(changed(good, place, by)), "reference.qr")
