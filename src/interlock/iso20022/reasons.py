"""ISO 20022 reason codes: what exists, what we use for what, and what may be driven again. Pure, dated data.

Owns: the four code sets that must never be mixed (a cancellation reason such as TECH is no status reason), our default
choice of code for each condition, and the reasons after which a redrive makes sense. The facts are in
`data/reasons.toml`; schemes that use other codes or subsets say so in their profile.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib import resources
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReason:
    """One code of ExternalStatusReason1Code."""

    code: str
    #: ISO's short name; None where we have not seen it confirmed.
    name: str | None
    #: Edition of the code set that it was taken from, such as `2025-05`.
    edition: str
    #: First day of that edition; a code may be older.
    valid_from: date
    #: Last day, where ISO has withdrawn the code.
    valid_until: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSet:
    """A code set of which only the codes matter here."""

    edition: str
    valid_from: date
    codes: frozenset[str]


def _load() -> dict[str, Any]:
    return tomllib.loads(resources.files("interlock.iso20022").joinpath("data/reasons.toml").read_text("utf-8"))


def _status_reasons(table: dict[str, Any]) -> dict[str, StatusReason]:
    return {
        code: StatusReason(
            code=code,
            name=name or None,
            edition=table["edition"],
            valid_from=table["valid_from"],
            valid_until=table["withdrawn"].get(code),
        )
        for code, name in table["codes"].items()
    }


def _code_set(table: dict[str, Any]) -> CodeSet:
    return CodeSet(edition=table["edition"], valid_from=table["valid_from"], codes=frozenset(table["codes"]))


_DATA: Final = _load()

#: ExternalStatusReason1Code: why a status report says what it says.
STATUS_REASONS: Final[Mapping[str, StatusReason]] = MappingProxyType(_status_reasons(_DATA["status"]))
#: ExternalCancellationReason1Code, for camt.055 and camt.056.
CANCELLATION_REASONS: Final = _code_set(_DATA["cancellation"])
#: ExternalPaymentCancellationRejection1Code, for camt.029.
CANCELLATION_REJECTIONS: Final = _code_set(_DATA["cancellation_rejection"])
#: ExternalInvestigationExecutionConfirmation1Code, for camt.029.
INVESTIGATION_CONFIRMATIONS: Final = _code_set(_DATA["investigation_confirmation"])
#: Condition to code; `reason_for` reads it.
CONDITIONS: Final[Mapping[str, str]] = MappingProxyType(_DATA["conditions"])
#: Code to one sentence that says why a redrive may succeed.
RETRYABLE: Final[Mapping[str, str]] = MappingProxyType(_DATA["retryable"])


def is_status_reason(code: str, *, on: date | None = None) -> bool:
    """True for a code that a status report can carry; with `on`, true on that day.

    The beginning of the edition is no bound, since most codes are older than it.
    """
    reason = STATUS_REASONS.get(code)
    if reason is None:
        return False
    return on is None or reason.valid_until is None or on <= reason.valid_until


def is_retryable(code: str) -> bool:
    """True for a rejection after which the same bytes may be driven again."""
    return code in RETRYABLE


def reason_for(condition: str) -> str:
    """Our default code for a condition such as `timeout_creditor_agent`; KeyError for one that we do not know."""
    return CONDITIONS[condition]
