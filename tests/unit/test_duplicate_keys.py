"""Under which names a message and its payments are known, by what a profile calls a double."""

from typing import Final

import pytest
from msgspec.structs import replace

from interlock.iso20022.envelopes import read
from interlock.iso20022.fields import extract
from interlock.iso20022.original import Agent
from interlock.iso20022.profiles.facts import DuplicateKey as Key
from interlock.stages import receive
from interlock.transaction import QUALIFIER
from tests.messages import Transfer, pacs008

UETR: Final = "5f0d6a1e-2b3c-4d5e-8f90-a1b2c3d4e5f6"
ORIGINAL: Final = extract(read(pacs008(Transfer(end_to_end_id="E", transaction_id="T", uetr=UETR), message_id="M")))
PAYMENT: Final = replace(ORIGINAL.payments[0], instruction_id="I")


def firsts(keys: tuple[object, ...]) -> list[str]:
    """Kind and own part of each key."""
    return [f"{key.kind}:{key.value.partition(QUALIFIER)[0]}" for key in keys]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wanted", "reserved", "finding"),
    [
        (None, ["uetr:" + UETR, "txid:T"], ["e2e:E"]),
        ({Key.UETR, Key.TRANSACTION}, ["uetr:" + UETR, "txid:T"], ["e2e:E"]),
        ({Key.UETR}, ["uetr:" + UETR], ["txid:T", "e2e:E"]),
        ({Key.MESSAGE}, [], ["uetr:" + UETR, "txid:T", "e2e:E"]),
        ({Key.INSTRUCTION}, ["txid:I"], ["uetr:" + UETR, "txid:T", "e2e:E"]),
        ({Key.END_TO_END}, ["txid:E"], ["uetr:" + UETR, "txid:T", "e2e:E"]),
    ],
)
def test_payments(wanted: set[Key] | None, reserved: list[str], finding: list[str]) -> None:
    """What the profile wants refuses doubles; every other name still finds."""
    assert firsts(receive.payment_keys(ORIGINAL, PAYMENT, wanted)) == reserved
    assert firsts(receive.finding_keys(ORIGINAL, PAYMENT, wanted)) == finding


@pytest.mark.parametrize(
    ("wanted", "reserved", "names"),
    [(None, ["msgid:M"], []), ({Key.MESSAGE}, ["msgid:M"], []), ({Key.UETR}, [], ["msgid:M"])],
)
def test_messages(wanted: set[Key] | None, reserved: list[str], names: list[str]) -> None:
    """Likewise of the whole message."""
    assert firsts(receive.message_keys(ORIGINAL, wanted)) == reserved
    assert firsts(receive.message_names(ORIGINAL, wanted)) == names


def test_different_keys_are_never_one() -> None:
    """An InstrId or EndToEndId that reads like another payment's TxId is no double of it."""
    same = replace(PAYMENT, transaction_id="X", instruction_id="X", end_to_end_id="X", uetr=None)
    every = {Key.TRANSACTION, Key.INSTRUCTION, Key.END_TO_END}
    assert len({key.value for key in receive.payment_keys(ORIGINAL, same, every)}) == 3


def test_a_bank_is_one_however_its_bic_is_written() -> None:
    """With XXX behind it or without; a branch is another sender."""
    values = {
        bic: receive.payment_keys(ORIGINAL, replace(PAYMENT, instructing_agent=Agent(bic=bic)), {Key.TRANSACTION})
        for bic in ("EXMPDEFF", "EXMPDEFFXXX", "EXMPDEFF123")
    }
    assert values["EXMPDEFF"] == values["EXMPDEFFXXX"] != values["EXMPDEFF123"]


def test_the_end_to_end_id_alone_is_no_key() -> None:
    """Another amount makes another payment, and what was not provided makes none."""
    keys = {
        receive.payment_keys(ORIGINAL, replace(PAYMENT, **changes), {Key.END_TO_END})
        for changes in ({}, {"amount": "7.00"}, {"end_to_end_id": "NOTPROVIDED"}, {"end_to_end_id": None})
    }
    assert sorted(len(one) for one in keys) == [0, 1, 1]


def test_a_return_is_known_by_its_own_id() -> None:
    """Whatever the profile wants: the original's ids only find it."""
    own = replace(PAYMENT, own_id="R")
    assert firsts(receive.payment_keys(ORIGINAL, own, {Key.UETR})) == ["txid:R"]
    assert firsts(receive.finding_keys(ORIGINAL, own, {Key.UETR})) == ["uetr:" + UETR, "txid:T", "e2e:E"]


def test_the_return_of_the_whole_is_known_by_what_it_returns() -> None:
    """Under each name of it, whoever returns it; a part of it, or of an amount that is not told, is not."""
    whole = replace(PAYMENT, own_id="R", amount="6.50", undone_amount="6.5", undone_currency=PAYMENT.currency)
    found = receive.payment_keys(ORIGINAL, whole)
    assert firsts(found) == ["txid:R", "txid:" + UETR, "txid:T"]
    other = replace(whole, own_id="S", instructing_agent=None, debtor_agent=None)
    assert set(found[1:]) == set(receive.payment_keys(ORIGINAL, other)[1:])
    for changes in ({"amount": "6.49"}, {"undone_amount": None}, {"undone_currency": "XXX"}, {"amount": "x"}):
        assert firsts(receive.payment_keys(ORIGINAL, replace(whole, **changes))) == ["txid:R"]
    assert firsts(receive.payment_keys(ORIGINAL, replace(whole, transaction_id="R"))) == ["txid:R", "txid:" + UETR]
