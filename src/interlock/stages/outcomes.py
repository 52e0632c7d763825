"""What a stage can come to. A refusal is an outcome like others, not an error: it is stored, answered and counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from interlock.iso20022.findings import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why something is refused: a message, or a payment in it."""

    #: ISO ExternalStatusReason1Code.
    reason: str
    #: In words, without personal data; goes into the answer's AddtlInf.
    note: str
    findings: tuple[Finding, ...] = ()
    #: Of a message: payments with a reason of their own, by ordinal.
    payments: "Mapping[int, Refusal]" = field(default_factory=dict)
    #: It cannot be treated as a business message at all: answered with admi.002, whatever can be read of it.
    untreatable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """The stage has nothing against it; some payments may be refused all the same, by ordinal."""

    refused: Mapping[int, Refusal] = field(default_factory=dict)
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A consumer must decide first."""

    note: str
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    warnings: tuple[Finding, ...] = ()
