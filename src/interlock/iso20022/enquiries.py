"""What an enquiry is answered under which condition: ISO codes and words, as data. Pure.

Owns: the tables of `data/enquiries.toml` that are not about versions. Must not know: how a condition is found out.
"""

import tomllib
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from interlock.iso20022.codes import HeldCause
from interlock.iso20022.reasons import reason_for


class Words(NamedTuple):
    """Status and reason as codes of the answer's own code sets, and what they mean here."""

    status: str
    reason: str | None = None
    text: str | None = None


_DATA: Final[Mapping[str, Any]] = tomllib.loads(
    resources.files("interlock.iso20022").joinpath("data/enquiries.toml").read_text("utf-8")
)


def _words(table: Mapping[str, Mapping[str, str]]) -> Mapping[str, Words]:
    return MappingProxyType({condition: Words(**words) for condition, words in table.items()})


#: What a camt.029 says by condition, where the original's family has no codes of its own.
CANCELLATIONS: Final = _words(_DATA["cancellation"])
_CANCELLATION_OF: Final = {family: _words(table) for family, table in _DATA["cancellation_of"].items()}
_STATUS_OF: Final = _words(_DATA["status_of"])
_TYPES: Final = frozenset(_DATA["investigation"]["types"])
_INVESTIGATION: Final = _words({name: words for name, words in _DATA["investigation"].items() if name != "types"})


def cancellation(condition: str, definition: str | None) -> Words:
    """What a camt.029 says of a reference to an original of that definition; KeyError for an unknown condition."""
    own = _CANCELLATION_OF.get((definition or "")[:8], {})
    return own.get(condition) or CANCELLATIONS[condition]


def status_of(condition: str) -> Words:
    """What a pacs.002 says of a reference to no known payment; KeyError for an unknown condition."""
    return _STATUS_OF[condition]


def held(cause: HeldCause) -> str:
    """What holds a payment, in words."""
    return str(_DATA["held"][cause])


def status_reason(cancellation_reason: str | None) -> str:
    """The status reason of a payment that is cancelled on request, for that reason."""
    return str(_DATA["status_reasons"].get(cancellation_reason, reason_for("cancelled_by_consumer")))


def confirmation(family: str, condition: str) -> str | None:
    """The outcome of an investigation of that family; None where there is none of that kind."""
    return _DATA["confirmations"].get(family, {}).get(condition)  # type: ignore[no-any-return]


def modification_rejections(names: tuple[str, ...]) -> tuple[str, ...]:
    """The codes that refuse the modification of these elements, each once."""
    codes = (_DATA["modifications"].get(name) for name in names)
    return tuple(dict.fromkeys(code for code in codes if code is not None))


def is_about_status(type_code: str | None) -> bool:
    """True for investigations that the status of a payment answers; those without a code of ISO's are taken so."""
    return type_code is None or type_code in _TYPES


def investigation(condition: str) -> Words:
    """What a camt.111 says; KeyError for an unknown condition."""
    return _INVESTIGATION[condition]
