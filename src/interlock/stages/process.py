"""Process: do the business rules allow it, and must somebody decide."""

from collections.abc import Iterable

from interlock.iso20022.findings import Finding, Severity
from interlock.routes import Route
from interlock.stages.facts import Inspection
from interlock.stages.outcomes import Held, Passed, Refusal


def is_refused(inspection: Inspection) -> bool:
    """Whether a rule refuses the whole message, so that nothing is to be done about it, not even looked up."""
    return any(finding.severity is Severity.ERROR and finding.payment is None for finding in inspection.business)


def run(inspection: Inspection, received: Passed, route: Route) -> Passed | Held | Refusal:
    """Judge a message that was received; `received` says which payments are refused already."""
    errors = [finding for finding in inspection.business if finding.severity is Severity.ERROR]
    whole = [finding for finding in errors if finding.payment is None]
    if whole:
        return _refusal(whole[0], errors)
    refused = dict(received.refused)
    for finding in errors:
        assert finding.payment is not None  # the others were taken out above
        refused.setdefault(finding.payment, _refusal(finding, [f for f in errors if f.payment == finding.payment]))
    payments = () if inspection.original is None else inspection.original.payments
    if payments and all(payment.ordinal in refused for payment in payments):
        first = refused[payments[0].ordinal]
        return Refusal(reason=first.reason, note=first.note, findings=tuple(errors), payments=refused)
    warnings = received.warnings + tuple(f for f in inspection.business if f.severity is Severity.WARNING)
    going = ((payment.decimal, payment.currency) for payment in payments if payment.ordinal not in refused)
    if inspection.answer is not None and route.needs_decision(going):
        return Held(note=f"route {route.name} wants a consumer's decision", refused=refused, warnings=warnings)
    return Passed(refused=refused, warnings=warnings)


def _refusal(finding: Finding, findings: Iterable[Finding]) -> Refusal:
    return Refusal(
        reason=finding.reason, note=f"{finding.rule} at {finding.xpath}: {finding.text}", findings=tuple(findings)
    )
