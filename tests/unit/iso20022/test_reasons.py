import json
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from interlock.iso20022.reasons import (
    CANCELLATION_REASONS,
    CANCELLATION_REJECTIONS,
    CONDITIONS,
    INVESTIGATION_CONFIRMATIONS,
    RETRYABLE,
    STATUS_REASONS,
    is_retryable,
    is_status_reason,
    reason_for,
)
from interlock.iso20022.rules import coded

#: Those that only the rules know.
OTHERS: Final = {
    "return_reason": coded._REASONS["RtrRsnInf"],
    "reversal_reason": coded._REASONS["RvslRsnInf"],
    "payment_transaction_status": coded._STATUSES["TxSts"],
    "payment_group_status": coded._STATUSES["GrpSts"],
    "purpose": coded._KINDS["Purp"],
    "category_purpose": coded._KINDS["CtgyPurp"],
    "service_level": coded._KINDS["SvcLvl"],
    "local_instrument": coded._KINDS["LclInstrm"],
}
CODES: Final = Path(__file__).parents[3].parent / "shared" / "iso20022" / "codes"


def test_codes_are_four_characters() -> None:
    """Every code of every set fits ISO's type: one to four characters, here always four."""
    sets = (
        STATUS_REASONS,
        CANCELLATION_REASONS.codes,
        CANCELLATION_REJECTIONS.codes,
        INVESTIGATION_CONFIRMATIONS.codes,
    )
    assert {len(code) for codes in sets for code in codes} == {4}


def test_number_of_codes() -> None:
    """The tables are whole: as many codes as ISO's edition of May 2025 has."""
    assert len(STATUS_REASONS) == 301
    sets = (CANCELLATION_REASONS, CANCELLATION_REJECTIONS, INVESTIGATION_CONFIRMATIONS)
    assert [len(one.codes) for one in sets] == [33, 26, 31]


def test_names() -> None:
    """A code has ISO's short name, or none where we have not seen it confirmed."""
    assert STATUS_REASONS["AC01"].name == "IncorrectAccountNumber"
    assert STATUS_REASONS["AB12"].name is None
    assert STATUS_REASONS["AC01"].edition == "2025-05"


@pytest.mark.parametrize("code", ["TECH", "TOUT", "RCVR", "LEGL", "TS02", "TS03", "FAIL", "", "ac01"])
def test_what_is_no_status_reason(code: str) -> None:
    """Codes of other sets, of the reference, and invented ones never stand in a status report."""
    assert not is_status_reason(code)


def test_sets_stay_apart() -> None:
    """TECH asks for a cancellation and LEGL refuses one; neither is a reason for a status."""
    assert "TECH" in CANCELLATION_REASONS.codes
    assert "LEGL" in CANCELLATION_REJECTIONS.codes
    assert "CNCL" in INVESTIGATION_CONFIRMATIONS.codes


def test_every_condition_has_a_code_of_the_set() -> None:
    """What we find is always said in a code that exists, today too."""
    assert all(is_status_reason(code, on=date(2026, 11, 22)) for code in CONDITIONS.values())
    assert reason_for("timeout_creditor_agent") == "AB05"
    assert (reason_for("cancelled_by_consumer"), reason_for("cancelled_by_recovery")) == ("DS02", "AB10")


def test_retryable_codes_exist_and_say_why() -> None:
    """Each retryable reason is a status reason, with a sentence."""
    assert all(is_status_reason(code) and text.endswith(".") for code, text in RETRYABLE.items())


@pytest.mark.parametrize(
    "code", ["AB01", "AB03", "AB05", "AB06", "AB11", "AB02", "AB04", "AB07", "AB08", "AB09", "AB10"]
)
def test_time_outs_and_technical_faults_are_retryable(code: str) -> None:
    """What failed for a moment or a machine may be driven again."""
    assert is_retryable(code)


@pytest.mark.parametrize(
    "code", ["FF01", "AC01", "AC03", "AM05", "DU03", "DUPL", "FR01", "FRAD", "AM04", "AM10", "RR04", "DS02"]
)
def test_what_would_fail_again_is_not_retryable(code: str) -> None:
    """Format, account, duplicate, funds, fraud: the same bytes would fail again, or must not be tried."""
    assert not is_retryable(code)


@pytest.mark.oracle
@pytest.mark.skipif(not CODES.is_dir(), reason=f"no official code sets at {CODES}")
@pytest.mark.parametrize(
    ("file", "codes"),
    [
        ("external_status_reason_code", frozenset(STATUS_REASONS)),
        *((f"external_{name}_code", codes) for name, codes in OTHERS.items()),
        ("external_cancellation_reason_code", CANCELLATION_REASONS.codes),
        ("external_payment_cancellation_rejection_code", CANCELLATION_REJECTIONS.codes),
        ("external_investigation_execution_confirmation_code", INVESTIGATION_CONFIRMATIONS.codes),
    ],
)
def test_sets_are_official(file: str, codes: frozenset[str]) -> None:
    """Our tables have the codes of ISO's files, no more and no fewer."""
    official = json.loads((CODES / f"{file}.json").read_text("utf-8"))["codes"]
    assert codes == frozenset(official)
