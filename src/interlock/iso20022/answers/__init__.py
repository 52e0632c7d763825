"""The ISO 20022 messages that Interlock answers with, as bytes. Pure.

Owns: which message answers which, and the writing of pacs.002, pain.002, pain.014, camt.029, camt.111, admi.002 and
admi.007. Must not know: how a verdict came about, schemas (tests hold every answer here against them).

Answers are written as text from escaped pieces, not built as trees: that takes a tenth of the time. Each piece either
fits the type that the schema gives it or is left out, so that an answer to a broken request is valid too.
What versions differ in is data: `data/answers.toml` and `data/enquiries.toml`.
"""

from interlock.iso20022.answers.administration import build_admi002, build_receipt
from interlock.iso20022.answers.editions import (
    RESOLUTIONS,
    SHAPES,
    UNDERSTOOD,
    Shape,
    answer_definition,
    answer_to,
    enquiry_definition,
    has_usable_original,
    is_answer,
    is_understood,
    not_served,
    receipt_definition,
)
from interlock.iso20022.answers.investigations import build_investigation
from interlock.iso20022.answers.refusals import build
from interlock.iso20022.answers.reports import stream_report as stream
from interlock.iso20022.answers.resolutions import build_resolution, can_confirm
from interlock.iso20022.answers.statuses import build_statuses
from interlock.iso20022.answers.verdicts import (
    Answer,
    Cancellation,
    InvestigationResult,
    PaymentVerdict,
    Resolution,
    Resolved,
    Statement,
    Verdict,
)

__all__ = [
    "RESOLUTIONS",
    "SHAPES",
    "UNDERSTOOD",
    "Answer",
    "Cancellation",
    "InvestigationResult",
    "PaymentVerdict",
    "Resolution",
    "Resolved",
    "Shape",
    "Statement",
    "Verdict",
    "answer_definition",
    "answer_to",
    "build",
    "build_admi002",
    "build_investigation",
    "build_receipt",
    "build_resolution",
    "build_statuses",
    "can_confirm",
    "enquiry_definition",
    "has_usable_original",
    "is_answer",
    "is_understood",
    "not_served",
    "receipt_definition",
    "stream",
]
