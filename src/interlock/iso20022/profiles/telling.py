"""All that a profile says, fact by fact, for people: the command line and the documentation. Pure."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from interlock.iso20022.profiles.facts import (
    AnswerForm,
    Characters,
    ClockStart,
    Fact,
    Placed,
    Recall,
    Retry,
    Untreatable,
)
from interlock.iso20022.profiles.profile import Edition, Profile, mark_of
from interlock.iso20022.profiles.wording import NAMES, said


class Told(NamedTuple):
    """A fact in words."""

    kind: str
    text: str
    #: `error`, `warning`, `off`, or nothing where it judges no message.
    weight: str
    fact: Fact


def told(profile: Profile, edition: Edition) -> Iterator[Told]:
    """First what is known besides, then what the edition demands of messages."""
    yield from _besides(profile)
    checks, sources = edition.checks, edition.sources
    if checks.header is not None:
        weight = checks.header.severity or mark_of(checks.header, sources).severity
        demanded = checks.header.demanded
        text = "there must be a business application header" if demanded else "a header is not demanded"
        yield Told("header", text, weight if demanded else "", checks.header)
    for family, versions in sorted(checks.versions.items()):
        weight = mark_of(versions, sources).severity
        yield Told("version", f"{family}: {', '.join(versions.accepted)}", weight, versions)
    if checks.unlisted is not None:
        yield Told("version", "families that are not listed", checks.unlisted.severity, checks.unlisted)
    for held in edition.checker.held:
        demand = held.demand
        where = ", ".join(demand.messages) or "all"
        if isinstance(demand, Placed) and demand.within is not None:
            where += f" in {demand.within}"
        elif isinstance(demand, Characters) and demand.paths:
            where += f" in {', '.join(demand.paths)}"
        yield Told(NAMES[type(demand)], f"{where}: {said(demand)}", held.severity, demand)
    for family, answer in sorted(checks.answers.items()):
        yield Told("answer", f"{family} is answered with {answer.definition}", "", answer)
    for family, form in sorted(checks.forms.items()):
        yield Told("form", f"{family}: {_form(form)}", "", form)
    for rule, setting in checks.rules.items():
        yield Told("rule", rule, setting.severity, setting)


def _besides(profile: Profile) -> Iterator[Told]:
    choice, sla, decide, timeout = (
        profile.choice, profile.sla_fact, profile.decide_within_fact, profile.timeout_fact,
    )  # fmt: skip
    if choice is not None:
        listed = [f"BizSvc {code}" for code in choice.business_service]
        listed += [f"MktPrctc {code}" for code in choice.market_practice]
        yield Told("chosen by", ", ".join(listed), "", choice)
    if sla is not None:
        since = "" if sla.starts is ClockStart.RECEIVED else f" from {_STARTS[sla.starts]}"
        yield Told("SLA", f"{sla.seconds:g} s{since}. {sla.text}".strip(), "", sla)
    if decide is not None:
        yield Told("decide within", f"{decide.seconds:g} s. {decide.text}".strip(), "", decide)
    if timeout is not None:
        yield Told("time-out", timeout.reason, "", timeout)
    if profile.duplicates is not None:
        keys = ", ".join(profile.duplicates.keys)
        text = f"{keys}; a payment that is one: {profile.duplicates.reason}. {profile.duplicates.text}"
        yield Told("duplicates", text.strip(), "", profile.duplicates)
    if profile.untreatable is not None:
        words = ", ".join(_UNTREATABLE[one] for one in profile.untreatable.when)
        yield Told("admi.002", f"answers {words}. {profile.untreatable.text}".strip(), "", profile.untreatable)
    if profile.retry is not None:
        yield Told("retry", _retry(profile.retry), "", profile.retry)
    for recall in profile.recall:
        yield Told("recall", _recall(recall), "", recall)


_STARTS: Final = {ClockStart.ACCEPTED: "AccptncDtTm", ClockStart.CREATED: "GrpHdr/CreDtTm"}
_UNTREATABLE: Final = {
    Untreatable.SCHEMA: "what is not valid by its schema",
    Untreatable.MESSAGE: "a MsgId that was used before",
}


def _form(form: AnswerForm) -> str:
    parts = [f"without {', '.join(form.without)}"] if form.without else []
    if form.settled != "ACSC":
        parts.append(f"what was settled is {form.settled}")
    if form.originator:
        parts.append("reasons name who gives them")
    return "; ".join(parts)


def _retry(retry: Retry) -> str:
    parts = []
    if retry.status_request_after_seconds is not None:
        parts.append(f"ask after {retry.status_request_after_seconds:g} s at the soonest")
    words = {"same_id": "under the same id", "new_id": "under a new id"}
    if retry.unknown is not None:
        parts.append(f"what is not known: again {words[retry.unknown]}")
    if retry.rejected is not None:
        parts.append(f"what was rejected: again {words[retry.rejected]}")
    return ". ".join(part for part in ("; ".join(parts), retry.text) if part)


def _recall(recall: Recall) -> str:
    reasons = ", ".join(recall.reasons) or "any reason"
    spans = ((recall.days, "days"), (recall.business_days, "business days"), (recall.months, "months"))
    span = next(f"{number} {unit}" for number, unit in spans if number is not None)
    grounds = f", only where {recall.grounds}" if recall.grounds else ""
    return f"{reasons}: within {span}{grounds}. {recall.text}".strip()
