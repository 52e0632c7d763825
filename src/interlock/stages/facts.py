"""The facts that the stages judge, gathered before they run."""

from msgspec import Struct

from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.forms import Form
from interlock.iso20022.original import Original
from interlock.iso20022.profiles.facts import ClockStart, DuplicateKey, Untreatable


class Practice(Struct, frozen=True, kw_only=True):
    """What the profile says of clocks, doubles and answers; without one all is as usual."""

    #: By what it knows doubles, and the ISO reason of a payment that is one; None: as usual.
    duplicate_keys: tuple[DuplicateKey, ...] | None = None
    duplicate_reason: str | None = None
    #: What makes a message none that could be answered in its own family.
    untreatable: frozenset[Untreatable] = frozenset()
    #: The time stamp at which a payment's time begins; None: it begins when the message comes.
    clock: ClockStart | None = None
    #: Of answers, by their family.
    forms: dict[str, Form] = {}


class Inspection(Struct, frozen=True, kw_only=True):
    """What one message is, and what is wrong with it."""

    content: bytes
    #: SHA-256 of the content.
    digest: bytes
    definition: str | None
    header_definition: str | None
    #: Without a definition where there is no message, but a header or an envelope; None where there is neither.
    original: Original | None
    #: Of reading and of the schemas; an error here refuses the message as a whole.
    technical: tuple[Finding, ...]
    #: Of the business rules; empty where there are technical errors.
    business: tuple[Finding, ...]
    #: False where no schema is known here, so that nobody can say whether it is valid.
    judged: bool
    #: The message is itself an answer: it ends here and is never answered.
    is_answer: bool
    #: Enough of the original is readable to be answered in its own family.
    is_usable: bool
    #: The definition of its answer; None: not one that is answered here.
    answer: str | None
    #: The definition of the answer to a request about other messages; None: it is no such request.
    enquiry: str | None = None
    #: Name of the profile that judged it, and of that one's edition; None: none did.
    profile: str | None = None
    edition: str | None = None
    practice: Practice = Practice()
    #: Our own mistake kept us from looking at it; the message is held for an operator, not judged.
    failure: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them, as met."""
        return self.technical + self.business

    @property
    def valid(self) -> bool | None:
        """Whether nothing is wrong; None where it cannot be said."""
        if any(finding.severity is Severity.ERROR for finding in self.findings):
            return None if not self.judged and self._only_unjudged() else False
        return True

    def _only_unjudged(self) -> bool:
        errors = (finding for finding in self.findings if finding.severity is Severity.ERROR)
        return all(finding.rule == "definition.unknown" for finding in errors)

    @property
    def definitions(self) -> tuple[str, ...]:
        """Of the header, where there is one, and of the document."""
        return tuple(name for name in (self.header_definition, self.definition) if name is not None)
