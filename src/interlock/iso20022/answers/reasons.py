"""Why: the reasons that answers carry. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from interlock.iso20022.answers.editions import FIRST_CUSTOMER_REPORT, Shape
from interlock.iso20022.answers.pieces import ID_MAX, cut, element, narrative_pieces, organisation
from interlock.iso20022.answers.verdicts import PaymentVerdict
from interlock.iso20022.codes import Status
from interlock.iso20022.original import Agent
from interlock.iso20022.reasons import CANCELLATION_REJECTIONS, is_status_reason

#: What a rejection without a reason says: not specified, by an agent.
UNSPECIFIED: Final = "MS03"
#: NARR points to a text, which must then be there.
NO_NARRATIVE: Final = "No further information."


def status_reason(shape: Shape, status: str, verdict: PaymentVerdict, originator: Agent | None = None) -> str:
    """StsRsnInf, or nothing where there is nothing to say. originator: who says it, where the form has that."""
    code = verdict.reason or (UNSPECIFIED if status == Status.RJCT else None)
    if code is not None and shape.scheme_reasons and code not in shape.scheme_reasons:
        code, verdict = "NARR", replace(verdict, narrative=f"{code} {verdict.narrative or ''}".strip())
    narrative = verdict.narrative or (NO_NARRATIVE if code == "NARR" else "")
    if shape.definition == FIRST_CUSTOMER_REPORT:
        return _first_customer_reason(shape, code, narrative)
    name, text_name = ("StsRsn", "AddtlStsRsnInf") if shape.is_first_edition else ("Rsn", "AddtlInf")
    texts = "".join(element(text_name, piece) for piece in _pieces(shape, narrative))
    known = code in shape.reasons if shape.reasons else code is not None and is_status_reason(code)
    known = known and "reason_codes" in shape.has
    # A code that the version does not know can still be said, as a proprietary one.
    choice = element("Cd" if known else "Prtry", cut(code, ID_MAX))
    content = (choice and f"<{name}>{choice}</{name}>") + texts
    if content and shape.originator and originator is not None and not shape.is_first_edition:
        content = element("Orgtr", organisation(shape.has, originator)) + content
    return content and f"<StsRsnInf>{content}</StsRsnInf>"


def _pieces(shape: Shape, narrative: str) -> Iterator[str]:
    return islice(narrative_pieces(narrative), None if "more_texts" in shape.has else 1)


def _first_customer_reason(shape: Shape, code: str | None, narrative: str) -> str:
    """StsRsn and AddtlInf of 2005: one line, and no proprietary codes."""
    if code in shape.reasons:
        return element("StsRsn", code) + element("AddtlInf", next(narrative_pieces(narrative), None))
    return element("AddtlInf", next(narrative_pieces(f"{code or ''} {narrative}".strip()), None))


def cancellation_reason(shape: Shape, code: str | None, narrative: str | None) -> str:
    """CxlStsRsnInf of a camt.029, or nothing where there is nothing to say."""
    known = "reason_codes" in shape.has and code in (shape.reasons or CANCELLATION_REJECTIONS.codes)
    words = narrative or (NO_NARRATIVE if code == "NARR" else "")
    choice = element("Cd" if known else "Prtry", cut(code, ID_MAX))
    texts = "".join(element("AddtlInf", piece) for piece in _pieces(shape, words))
    return element("CxlStsRsnInf", element("Rsn", choice) + texts)
