"""The answer to a request that was refused or settled as such, whatever its family. Pure.

Owns: which builder a family has. A request about other messages that is not refused is answered from the ledger, by
`build_statuses`, `build_resolution` or `build_investigation`.
"""

from dataclasses import replace
from datetime import datetime

from interlock.iso20022.answers.administration import build_admi002
from interlock.iso20022.answers.editions import answer_definition, enquiry_definition
from interlock.iso20022.answers.investigations import build_investigation
from interlock.iso20022.answers.reports import build_report
from interlock.iso20022.answers.resolutions import build_resolution
from interlock.iso20022.answers.verdicts import (
    Answer,
    Cancellation,
    InvestigationResult,
    Resolution,
    Resolved,
    Verdict,
)
from interlock.iso20022.codes import Status
from interlock.iso20022.forms import NO_FORMS, Forms
from interlock.iso20022.original import Original

#: What a camt.029 has for the outcome of a cancellation that is refused.
_REJECTED = "RJCR"
_PENDING = "PDCR"
_ASK_AGAIN = (
    "What it has cancelled until then is cancelled: ask for the status of each payment, or send the request again."
)


def build(
    original: Original,
    verdict: Verdict,
    *,
    answer_id: str,
    now: datetime,
    definition: str | None = None,
    forms: Forms = NO_FORMS,
) -> Answer:
    """The answer of the request's own family to a verdict on it, with a header where the request had one.

    original: must have a usable original (`has_usable_original`); what in it does not fit the answer's types is left
    out, so that the answer is valid even if the request was not.
    answer_id: MsgId and BizMsgIdr, 1 to 35 characters; now: aware.
    definition: the version that a profile names, in place of the one published with the request; forms: how the
    scheme wants it.
    Raises ValueError for what only a caller can get wrong: no usable original, unknown definition, no id, naive time, a
    request about others that was not refused.
    """
    chosen = definition or answer_definition(original.definition) or enquiry_definition(original.definition) or ""
    family = chosen[:8]
    if family not in ("camt.029", "camt.111"):
        return build_report(original, verdict, answer_id=answer_id, now=now, definition=chosen, forms=forms)
    if verdict.status not in (Status.RJCT, Status.CANC):
        raise ValueError("a request about other messages is answered from the ledger")
    words = " ".join(filter(None, (verdict.reason, verdict.narrative)))
    if family == "camt.111":
        result = InvestigationResult(status="RJCT", narrative=words or None)
        return build_investigation(original, result, answer_id=answer_id, now=now, definition=chosen, forms=forms)
    if original.references and original.definition[:8] in ("camt.055", "camt.056"):
        is_refused = not verdict.is_partly_done
        told = Resolved(
            reference=original.references[0],
            status=Cancellation.REJECTED if is_refused else Cancellation.PENDING,
            reason="NARR",
            narrative=words if is_refused else f"{words} {_ASK_AGAIN}",
        )
        cases = tuple(replace(told, reference=one) for one in original.references)
        resolution = Resolution(confirmation=_REJECTED if is_refused else _PENDING, cases=cases)
        return build_resolution(original, resolution, answer_id=answer_id, now=now, definition=chosen, forms=forms)
    # A camt.029 has no word for an investigation that was not taken in, and no room for why.
    return build_admi002(
        reason=verdict.reason or "NARR",
        narrative=verdict.narrative or "",
        reference=original.message_id or "",
        now=now,
        answer_id=answer_id,
        original=original,
    )
