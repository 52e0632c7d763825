"""Chasing: what a status request (pacs.028) about a request to cancel is told, which is a camt.029.

By market practice OrgnlMsgNmId says what is chased: of a payment a pacs.002 tells, of a recall the answer that the
recall itself gets. It tells how the originals of the request stand now, as the request would be told again, and changes
nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from interlock.iso20022 import answers
from interlock.iso20022.answers import Resolution, Resolved
from interlock.iso20022.codes import Status
from interlock.iso20022.original import Level, Original, Party, Reference
from interlock.iso20022.references import REFERENCES_MAX
from interlock.stages import cancelling
from interlock.stages.cancelling import Matches
from interlock.stages.matching import Entry, Facts, Match, Matcher, ids, is_chase, is_named_alike


class Chase(NamedTuple):
    """What is told of requests to cancel."""

    #: As if they had asked again: who assigned the case, and how the answer is wrapped.
    about: Original
    resolution: Resolution
    #: The version of camt.029: that in which the requests were answered, or would be.
    definition: str


def chase(asking: Original, matches: Matches, facts: Facts) -> Chase | None:
    """What is told of the requests that are chased; None where a pacs.002 tells of all that was asked for.

    A camt.029 is about one kind of request: who asks for more at once, or for payments besides, is told in a pacs.002.
    """
    definitions = {_definition(reference, match) for reference, match in matches}
    definition = definitions.pop() if len(definitions) == 1 else None
    if definition is None:
        return None
    cases: list[Resolved] = []
    requests: list[Original] = []
    for reference, match in matches:
        told = _told(reference, match, facts)
        if told is None or len(cases) + len(told) > REFERENCES_MAX:
            return None
        cases += told
        if match.entry is not None and match.entry.original is not None:
            requests.append(match.entry.original)
    numbered = [_at(case, place) for place, case in enumerate(cases, 1)]
    return Chase(_about(asking, requests), cancelling.resolution(numbered), definition)


def _at(case: Resolved, place: int) -> Resolved:
    reference = replace(case.reference, ordinal=place)
    return Resolved(reference=reference, status=case.status, reason=case.reason, narrative=case.narrative)


def _definition(reference: Reference, match: Match) -> str | None:
    """The version that answers what is chased; None where that is no request to cancel, or its version is not known."""
    if match.entry is None:
        return answers.enquiry_definition(reference.definition or "") if is_chase(reference) else None
    transaction = match.entry.transaction
    if not (transaction.definition or "").startswith(("camt.055", "camt.056")):
        return None
    given = transaction.answer
    if given is not None and given.startswith("camt.029"):
        return given  # a profile may have named it
    return answers.enquiry_definition(transaction.definition or "")


def _told(reference: Reference, match: Match, facts: Facts) -> Sequence[Resolved] | None:
    """How what it asked for stands now; None where that cannot be looked up."""
    if match.entry is None:
        condition = "uncertain" if match.condition == "uncertain" else "no_request"
        return (cancelling.resolved(reference, condition),)
    request = match.entry.original
    known = facts.chased.get(match.entry.transaction.id)
    if request is None or known is None:
        return None
    meant = [one for one in request.references if _is_meant(reference, one)]
    if not meant:
        return (cancelling.resolved(reference, "no_request"),)
    whole = _of_request(match.entry, request, known)
    if whole is not None:
        return tuple(cancelling.resolved(one, whole) for one in meant)
    matcher = Matcher(known)
    return tuple(_present(one, matcher.match(one), known, matcher) for one in meant)


def _is_meant(reference: Reference, one: Reference) -> bool:
    """Whether a status request that names payments names this one, or names none and means the request as a whole."""
    if reference.level is not Level.PAYMENT or not ids(reference):
        return True
    # Some give the CxlId of the request in place of the payment's own id.
    return is_named_alike(reference, one) or (one.own_id is not None and one.own_id in ids(reference))


def _of_request(entry: Entry, request: Original, known: Facts) -> str | None:
    """What there is to say of the request itself; None where it is told by how its originals stand."""
    standing = entry.transaction.standing
    if not standing.is_final:
        return "taken"
    if standing.end is not Status.ACSC:
        return "refused"
    if known.reused:
        return "reused"
    return "too_many" if request.references_cut else None


def _present(one: Reference, match: Match, known: Facts, matcher: Matcher) -> Resolved:
    condition = cancelling.condition_of(one, match, known, matcher)
    # It was refused or not known when it was asked for, and nobody cancels it now.
    return cancelling.resolved(one, "open" if condition == "cancel" else condition, match.entry)


def _about(asking: Original, requests: Sequence[Original]) -> Original:
    """What the camt.029 answers: as the request, wrapped as the status request; several have no case in common."""
    if not requests:
        parties = Party(agent=asking.instructing_agent), Party(agent=asking.instructed_agent)
        return replace(asking, assigner=parties[0], assignee=parties[1])
    about = replace(requests[0], header=asking.header, transport=asking.transport, message_id=asking.message_id)
    return about if len(requests) == 1 else replace(about, case_id=None, case_creator=None)
