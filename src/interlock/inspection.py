"""All that can be said of a message from its bytes alone: the facts that the stages judge.

Joins what the pure modules must not: schemas are compiled and cached on disk, so their verdicts come in here as facts.
"""

from datetime import date
from hashlib import sha256

from interlock.iso20022 import answers, envelopes, rules
from interlock.iso20022.envelopes import Envelope, Limits
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.schemas import Catalogue
from interlock.stages.facts import Inspection


def inspect(
    content: bytes, catalogue: Catalogue, *, limits: Limits, today: date, schema_only: bool = False
) -> Inspection:
    """Read, validate and check a message; never raises for what the bytes hold."""
    envelope = envelopes.read(content, limits)
    technical, judged = _technical(envelope, catalogue)
    original = None if envelope.document is None or envelope.definition is None else envelopes.extract(envelope)
    sound = original is not None and not any(finding.severity is Severity.ERROR for finding in technical)
    business: tuple[Finding, ...] = ()
    if original is not None and sound and not schema_only:
        business = rules.check(original, today=today)
        if business:
            business = envelopes.pinpoint(envelope, business)
    definition = envelope.definition
    return Inspection(
        content=content,
        digest=sha256(content).digest(),
        definition=definition,
        header_definition=envelope.header_definition,
        original=original,
        technical=technical,
        business=business,
        judged=judged,
        is_answer=definition is not None and answers.is_answer(definition),
        is_usable=original is not None and answers.has_usable_original(original),
        answer=None if definition is None else answers.answer_definition(definition),
    )


def uninspected(content: bytes, failure: str) -> Inspection:
    """What is known of a message that we failed to look at."""
    return Inspection(
        content=content,
        digest=sha256(content).digest(),
        definition=None,
        header_definition=None,
        original=None,
        technical=(),
        business=(),
        judged=False,
        is_answer=False,
        is_usable=False,
        answer=None,
        failure=failure,
    )


def _technical(envelope: Envelope, catalogue: Catalogue) -> tuple[tuple[Finding, ...], bool]:
    """Findings of reading and of the schemas, and whether every part had a schema."""
    findings = envelope.findings
    judged = True
    parts = ((envelope.header_definition, envelope.header), (envelope.definition, envelope.document))
    for definition, element in parts:
        if definition is None or element is None:
            continue
        if catalogue.knows(definition):
            findings += catalogue.validate(definition, element)
        else:
            judged = False
            findings += (_unknown(definition, envelopes.path_of(element)),)
    return findings, judged


def _unknown(definition: str, xpath: str) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        rule="definition.unknown",
        reason="FF01",
        xpath=xpath,
        line=None,
        text=f"there is no schema for {definition} here; see the list of definitions, or put its XSD into the folder "
        "of your own schemas",
    )
