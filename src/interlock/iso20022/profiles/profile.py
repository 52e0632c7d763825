"""A profile: the market practice of one scheme, and its editions by day. Pure.

Owns: which edition judges a message on a day, and what the profile knows besides (clocks, time-outs, doubles, retries,
recalls). Must not know: files, clocks of machines, what becomes of a message that breaks it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Final, NamedTuple

from lxml import etree

from interlock.iso20022 import rules
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.forms import Form, Forms
from interlock.iso20022.original import Original
from interlock.iso20022.profiles.checking import Checker
from interlock.iso20022.profiles.facts import (
    CharacterSet,
    Checks,
    Choice,
    Count,
    DuplicateKey,
    Duplicates,
    Fact,
    Mark,
    Recall,
    Rejection,
    Retry,
    Sla,
    Source,
    Span,
    TimeoutReason,
)

#: Names of the elements that hold a payment.
_PAYMENTS: Final = frozenset({"CdtTrfTxInf", "DrctDbtTxInf", "TxInf"})
#: Days for which editions are remembered.
_DAYS_MAX: Final = 64
#: The source of what an operator decides himself.
OWN = Source(text="the profile itself", mark=Mark.OWN)


@dataclass(frozen=True, kw_only=True)
class Edition:
    """What a profile demands in a time."""

    profile: str
    name: str
    valid_from: date | None
    valid_until: date | None
    checks: Checks
    sources: Mapping[str, Source]
    character_sets: Mapping[str, CharacterSet] = field(default_factory=dict)
    #: Of the edition's own days.
    fact: Fact = field(default_factory=Fact)

    def is_valid_on(self, day: date) -> bool:
        """Whether it holds on a day; both bounds belong to it."""
        return (self.valid_from or day) <= day <= (self.valid_until or day)

    @cached_property
    def checker(self) -> Checker:
        """What judges messages."""
        marks = {id(fact): mark_of(fact, self.sources) for fact in self.checks.facts}
        title = self.profile if not self.name else f"{self.profile} {self.name}"
        return Checker(title, self.checks, marks, dict(self.character_sets))

    @cached_property
    def rules(self) -> Mapping[str, Severity | None]:
        """Settings for our rules: another severity, or None for off; the same object each time."""
        return MappingProxyType(
            {
                name: None if setting.severity == "off" else Severity(setting.severity)
                for name, setting in self.checks.rules.items()
            }
        )

    def payments_max(self, definition: str) -> int | None:
        """The most payments that a message may hold; None: no such limit. For what is read payment by payment."""
        most = [
            held.demand.max
            for held in self.checker.held
            if isinstance(held.demand, Count) and held.demand.path in _PAYMENTS and held.severity is Severity.ERROR
            if not held.demand.messages or definition.startswith(held.demand.messages)
        ]
        return min(most, default=None)

    def answer_definition(self, definition: str) -> str | None:
        """The version of the answer; None where the profile names none."""
        answers = self.checks.answers
        answer = answers.get(definition) or answers.get(definition[:8])
        return None if answer is None else answer.definition

    @cached_property
    def forms(self) -> Forms:
        """The form of its answers, by their family; the same object each time."""
        return {
            family: Form(
                without=frozenset(form.without),
                settled=form.settled,
                originator=form.originator,
                message_id=form.message_id,
                timed=form.timed,
                reasons=frozenset(form.reasons),
            )
            for family, form in self.checks.forms.items()
        }


def source_of(fact: Fact, sources: Mapping[str, Source]) -> Source:
    """Who says so."""
    return sources[fact.source] if fact.source else OWN


def mark_of(fact: Fact, sources: Mapping[str, Source]) -> Mark:
    """How sure a fact is: as its source, unless it says otherwise itself."""
    return fact.mark or source_of(fact, sources).mark


class Judgement(NamedTuple):
    """What a profile says of a message, and by which edition."""

    edition: Edition
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The market practice of a scheme."""

    name: str
    title: str
    text: str = ""
    #: Name of the profile that it extends.
    extends: str | None = None
    #: By their first day; those without one come first.
    editions: tuple[Edition, ...]
    sources: Mapping[str, Source] = field(default_factory=dict)
    choice: Choice | None = None
    #: Facts about time and doubles, with their sources; `sla` and the like give the values.
    sla_fact: Sla | None = None
    decide_within_fact: Span | None = None
    timeout_fact: TimeoutReason | None = None
    duplicates: Duplicates | None = None
    untreatable: Rejection | None = None
    retry: Retry | None = None
    recall: tuple[Recall, ...] = ()
    #: False for one of the operator's.
    is_ours: bool = True

    @property
    def sla(self) -> timedelta | None:
        """Time from the id to the end; None: the profile does not say."""
        return None if self.sla_fact is None else timedelta(seconds=self.sla_fact.seconds)

    @property
    def decide_within(self) -> timedelta | None:
        """How long a consumer may take; None: the profile does not say."""
        return None if self.decide_within_fact is None else timedelta(seconds=self.decide_within_fact.seconds)

    @property
    def timeout_reason(self) -> str | None:
        """ISO reason of a time-out."""
        return None if self.timeout_fact is None else self.timeout_fact.reason

    @property
    def duplicate_keys(self) -> tuple[DuplicateKey, ...] | None:
        """Under what messages and payments are known; None: as everywhere."""
        return None if self.duplicates is None else self.duplicates.keys

    @property
    def rules(self) -> Mapping[str, Severity | None]:
        """Settings for our rules, of the newest edition."""
        return self.editions[-1].rules

    def editions_on(self, day: date) -> tuple[Edition, ...]:
        """The editions that hold on a day, newest first; outside all of them the one that is nearest."""
        known = self._by_day.get(day)
        if known is None:
            if len(self._by_day) >= _DAYS_MAX:
                self._by_day.clear()
            known = self._by_day[day] = self._editions_on(day)
        return known

    @cached_property
    def _by_day(self) -> dict[date, tuple[Edition, ...]]:
        """What was found before: nearly all messages are judged on one and the same day."""
        return {}

    def _editions_on(self, day: date) -> tuple[Edition, ...]:
        valid = tuple(edition for edition in reversed(self.editions) if edition.is_valid_on(day))
        if valid:
            return valid
        begun = [edition for edition in self.editions if edition.valid_from is None or edition.valid_from <= day]
        return (begun[-1] if begun else self.editions[0],)

    def judge(
        self,
        original: Original,
        *,
        today: date,
        document: etree._Element | None = None,
        header: etree._Element | None = None,
    ) -> Judgement:
        """Hold a message against our rules, as the profile weighs them, and against the edition of a day.

        During a change-over, when editions overlap, a message is good if any of them finds it so; if none does, the
        newest says what is wrong.
        """

        def everything(edition: Edition) -> tuple[Finding, ...]:
            # A profile without settings gives none, so that all of them share what the rules remember.
            broken = rules.check(
                original, today=today, document=document, header=header, settings=edition.rules or None
            )
            own = edition.checker.findings(original, document, header)
            return (*broken, *own) if own else broken

        return _best(self.editions_on(today), everything)

    def check(
        self,
        original: Original,
        *,
        today: date,
        document: etree._Element | None = None,
        header: etree._Element | None = None,
    ) -> tuple[Finding, ...]:
        """What is wrong with a message by what the profile itself demands on a day, our rules left out."""
        return _best(
            self.editions_on(today), lambda edition: tuple(edition.checker.findings(original, document, header))
        ).findings

    def forms(self, on: date) -> Forms:
        """The form of answers on a day."""
        return self.editions_on(on)[0].forms

    def answer_definition(self, definition: str, on: date) -> str | None:
        """The version of the answer to a definition on a day; None: the profile leaves it to the usual table."""
        return self.editions_on(on)[0].answer_definition(definition)


def _best(editions: tuple[Edition, ...], judge: Callable[[Edition], tuple[Finding, ...]]) -> Judgement:
    """The judgement of the newest edition that finds no error; the newest one's where all do."""
    first: Judgement | None = None
    for edition in editions:
        judgement = Judgement(edition, judge(edition))
        if not judgement.findings or all(one.severity is not Severity.ERROR for one in judgement.findings):
            return judgement
        first = first or judgement
    assert first is not None  # there is always an edition
    return first
