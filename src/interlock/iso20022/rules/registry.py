"""The registry: every rule, from its data and its check. Pure."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from interlock.iso20022.findings import Severity
from interlock.iso20022.rules import (
    accounts,
    addresses,
    agents,
    amounts,
    characters,
    charges,
    coded,
    counts,
    dates,
    header,
    parties,
    references,
    remittance,
    settlement,
)
from interlock.iso20022.rules.rule import (
    DocumentCheck,
    ElementCheck,
    MessageCheck,
    PaymentCheck,
    Rule,
    ShapeCheck,
)

_SUBJECTS: Final = (
    accounts,
    addresses,
    agents,
    amounts,
    characters,
    charges,
    coded,
    counts,
    dates,
    header,
    parties,
    references,
    remittance,
    settlement,
)


def _gather(kind: str) -> dict[str, Any]:
    """All checks of a kind, by rule."""
    checks: dict[str, Any] = {}
    for subject in _SUBJECTS:
        checks |= getattr(subject, kind, {})
    return checks


_PAYMENT_CHECKS: Final[Mapping[str, PaymentCheck]] = _gather("PAYMENT_CHECKS")
_MESSAGE_CHECKS: Final[Mapping[str, MessageCheck]] = _gather("MESSAGE_CHECKS")
_ELEMENT_CHECKS: Final[Mapping[str, ElementCheck]] = _gather("ELEMENT_CHECKS")
_SHAPE_CHECKS: Final[Mapping[str, ShapeCheck]] = _gather("SHAPE_CHECKS")
_DOCUMENT_CHECKS: Final[Mapping[str, DocumentCheck]] = _gather("DOCUMENT_CHECKS")
_HEADER_CHECKS: Final[Mapping[str, ElementCheck]] = _gather("HEADER_CHECKS")


def _load_rules() -> Mapping[str, Rule]:
    text = resources.files("interlock.iso20022").joinpath("data/rules.toml").read_text("utf-8")
    return MappingProxyType({name: _rule(name, table) for name, table in tomllib.loads(text).items()})


def _rule(name: str, table: Mapping[str, Any]) -> Rule:
    return Rule(
        id=name,
        severity=Severity(table["severity"]),
        reason=table["reason"],
        text=table["text"],
        source=table["source"],
        is_default=table.get("default", True),
        valid_from=table.get("valid_from"),
        valid_until=table.get("valid_until"),
        families=tuple(table.get("families", ())),
        exempt=tuple(table.get("exempt", ())),
        elements=tuple(table.get("elements", ())),
        instead_of=table.get("instead_of"),
        payment_check=_PAYMENT_CHECKS.get(name),
        message_check=_MESSAGE_CHECKS.get(name),
        element_check=_ELEMENT_CHECKS.get(name),
        shape_check=_SHAPE_CHECKS.get(name),
        document_check=_DOCUMENT_CHECKS.get(name),
        header_check=_HEADER_CHECKS.get(name),
    )


#: Every rule by id, in the order in which they are checked.
RULES: Final = _load_rules()
