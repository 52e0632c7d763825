"""What a profile's file can say: every fact with the source that it comes from, and how sure that is. Pure.

A file is one profile. What stands at its top holds always; `[[editions]]` add what holds from a day or until one. Paths
are local names from the element inside Document, `CdtTrfTxInf/PmtId/UETR`; those of the header begin inside AppHdr.
"""

import re
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from interlock.iso20022.findings import Severity
from interlock.iso20022.forms import PARTS, Part, SettledCode
from interlock.iso20022.profiles.patterns import matching
from interlock.iso20022.reasons import is_status_reason


class Mark(StrEnum):
    """How sure a fact is."""

    #: The scheme's own text was read.
    PRIMARY = "P"
    #: Somebody else's account of it: a bank's guide, an implementation, a reputable article.
    SECONDARY = "S"
    #: A single or old account, or common knowledge.
    WEAK = "W"
    #: Follows from other facts.
    DERIVED = "D"
    #: Not verified at all.
    UNVERIFIED = "U"
    #: The operator's own decision, which needs no source.
    OWN = "own"

    @property
    def severity(self) -> Severity:
        """What breaking such a fact weighs, unless the profile says otherwise: hearsay refuses no payment."""
        return Severity.WARNING if self in (Mark.WEAK, Mark.UNVERIFIED) else Severity.ERROR


#: A header's own family, for demands on AppHdr.
HEADER: Final = "head.001"

_STEP = r"[A-Za-z][A-Za-z0-9]*"
_PATH: Final = re.compile(rf"(?:{_STEP}/)*(?:{_STEP}|@{_STEP})\Z")
_WITHIN: Final = re.compile(rf"(?://)?{_STEP}(?:/{_STEP})*\Z")
_CONDITION: Final = re.compile(rf"/?(?:{_STEP}/)*(?:{_STEP}|@{_STEP})(?:=[A-Za-z0-9._-]+)?\Z")
_FAMILY: Final = re.compile(r"[a-z]{4}\.\d{3}(?:\.\d{3}\.\d{2})?\Z")
_DEFINITION: Final = re.compile(r"[a-z]{4}\.\d{3}\.\d{3}\.\d{2}\Z")
_CODE: Final = re.compile(r"[A-Za-z0-9._+/ -]{1,70}\*?\Z")
#: Of a set of characters.
_INSIDE: Final = re.compile(r"\]?(?:[^\\\]]|\\.)*\Z")
_PATTERN_MAX: Final = 200
#: No message is deeper.
_STEPS_MAX: Final = 64
_CONDITIONS_MAX: Final = 1_000
_CODES_MAX: Final = 10_000


def _like(form: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if value.count("/") > _STEPS_MAX:
            raise ValueError(f"a path has at most {_STEPS_MAX} names")
        if not form.match(value):
            raise ValueError(f"{value!r} must be {what}")
        return value

    return AfterValidator(check)


def _is_pattern(value: str) -> str:
    if len(value) > _PATTERN_MAX:
        raise ValueError(f"a pattern has at most {_PATTERN_MAX} characters")
    matching(value)
    return value


def _is_reason(value: str) -> str:
    if not is_status_reason(value):
        raise ValueError(f"{value!r} must be an ISO ExternalStatusReason1Code")
    return value


Path = Annotated[str, _like(_PATH, "a path of element names, such as PmtId/UETR")]
Within = Annotated[str, _like(_WITHIN, "a path of element names, such as CdtTrfTxInf, or //Name for anywhere")]
Condition = Annotated[str, _like(_CONDITION, "a path of element names, with =VALUE where its text matters")]
Family = Annotated[str, _like(_FAMILY, "a family (pacs.008) or definition (pacs.008.001.08)")]
Definition = Annotated[str, _like(_DEFINITION, "a definition such as pacs.008.001.08")]
Code = Annotated[str, _like(_CODE, "a code, with * at its end for all that begin so")]
Pattern = Annotated[str, AfterValidator(_is_pattern)]
Reason = Annotated[str, AfterValidator(_is_reason)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, populate_by_name=True)


class Source(_Frozen):
    """Where facts come from."""

    text: str = Field(min_length=1)
    mark: Mark


class Fact(_Frozen):
    """Something that holds, and who says so."""

    #: Key of `[sources]`; empty: the operator's own decision.
    source: str = ""
    #: Where it differs from the source's.
    mark: Mark | None = None


# -- what is demanded of messages -------------------------------------------------------------------------------------


class Demand(Fact):
    """Something that a message must, or must not, have."""

    #: Families or definitions that it is about, `head.001` for the header; empty: every document.
    messages: tuple[Family, ...] = ()
    #: Unset: as sure as the source is. `off` takes a demand of the profile extended out again.
    severity: Severity | Literal["off"] | None = None
    #: Unset: the reason of its kind.
    reason: Reason | None = None
    #: Why, or what to do; unset: what its kind says.
    text: str = ""

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two demands the same, so that a profile can say otherwise than the one that it extends."""
        return (type(self), self.messages)


class Placed(Demand):
    """A demand on an element."""

    #: The element in which `path` begins, each time it occurs; unset: the message.
    within: Within | None = None
    path: Path
    #: Only where all of these are there, as paths in `within`, with `=VALUE` for a text; `/` begins at the message.
    when: tuple[Condition, ...] = Field((), max_length=_CONDITIONS_MAX)
    #: Only where none of these is.
    unless: tuple[Condition, ...] = Field((), max_length=_CONDITIONS_MAX)

    @property
    def identity(self) -> tuple[object, ...]:
        """Also where it looks, and when."""
        return (*super().identity, self.within, self.path, self.when, self.unless)

    @model_validator(mode="after")
    def _can_go_back(self) -> "Placed":
        if (self.within or "").startswith("//") and any(one.startswith("/") for one in (*self.when, *self.unless)):
            raise ValueError("a condition cannot begin with / where `within` is //Name: the way back is not known")
        return self


class Mandatory(Placed):
    """An element that must be there."""

    #: Any of these will do as well; `/` begins at the message.
    alternatives: tuple[Condition, ...] = Field((), alias="or", max_length=_CONDITIONS_MAX)


class Forbidden(Placed):
    """An element that must not be there."""


class Codes(Placed):
    """An element whose text is one of some."""

    #: The only ones.
    codes: tuple[Code, ...] = Field((), max_length=_CODES_MAX)
    #: All but these.
    without: tuple[Code, ...] = Field((), max_length=_CODES_MAX)

    @model_validator(mode="after")
    def _says_something(self) -> "Codes":
        if bool(self.codes) == bool(self.without):
            raise ValueError("either `codes` or `without` must list some")
        return self


class Length(Placed):
    """An element whose text has at most so many characters."""

    max: int = Field(ge=1)


class Count(Placed):
    """An element that occurs at most so often."""

    max: int = Field(ge=0)


class Matching(Placed):
    """An element whose text matches a regular expression from end to end."""

    pattern: Pattern


class Characters(Demand):
    """The characters that texts are made of."""

    #: Name of a set in `[character_sets]`.
    set: str
    #: The elements meant, as paths from the message; empty: all texts.
    paths: tuple[Within, ...] = Field((), max_length=_CONDITIONS_MAX)

    @property
    def identity(self) -> tuple[object, ...]:
        """Also where it looks."""
        return (*super().identity, self.paths)


class Amount(Demand):
    """What the amount of each payment may be."""

    #: The only ones; empty: any.
    currencies: tuple[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], ...] = ()
    min: Decimal | None = None
    max: Decimal | None = None


class Versions(Fact):
    """The versions of a family of messages that are in use."""

    accepted: tuple[Definition, ...] = Field(min_length=1)


class Header(Fact):
    """Whether there must be a business application header."""

    demanded: bool
    severity: Severity | None = None


class Unlisted(Fact):
    """What is made of messages of a family that `[versions]` does not list."""

    severity: Severity | Literal["off"]


class Answer(Fact):
    """The version of the answer to a family or definition."""

    definition: Definition


class AnswerForm(Fact):
    """How the answers of a family are written, where the standard leaves it open."""

    #: What they leave out of what their version has room for.
    without: tuple[Part, ...] = ()
    #: The status of a payment that has been settled.
    settled: SettledCode = "ACSC"
    #: Reasons name who gives them.
    originator: bool = False
    #: What is made of our own name for the answer, as its MsgId.
    message_id: Annotated[str, Field(pattern=r"^([A-Za-z0-9]|\{date\}|\{own\}){0,40}\{serial\}$")] = ""
    #: Each report on a payment has AccptncDtTm, if need be its own time.
    timed: bool = False
    #: The only reasons that a report gives by code.
    reasons: Annotated[tuple[Code, ...], Field(max_length=_CODES_MAX)] = ()

    @model_validator(mode="after")
    def _has_a_word_for_all(self) -> "AnswerForm":
        if self.reasons and "NARR" not in self.reasons:
            raise ValueError("NARR must be one of the `reasons`: it stands for all that are none of them")
        return self


def _can_be_without(forms: dict[str, AnswerForm]) -> dict[str, AnswerForm]:
    for family, form in forms.items():
        known = PARTS.get(family)
        if known is None:
            raise ValueError(f"{family}: no such answer has a form; those that have: {', '.join(sorted(PARTS))}")
        for part in form.without:
            if part not in known:
                raise ValueError(f"{family} cannot be without {part}; it can without {', '.join(sorted(known))}")
    return forms


class Setting(Fact):
    """A rule of ours with another weight, or turned on or off."""

    severity: Severity | Literal["off"]


class CharacterSet(Fact):
    """A set of characters: the inside of a regular expression's brackets."""

    allowed: Annotated[str, Field(min_length=1, max_length=400)]

    @model_validator(mode="after")
    def _is_a_class(self) -> "CharacterSet":
        if not _INSIDE.match(self.allowed):
            raise ValueError(
                f"{self.allowed!r} must be what stands within brackets: ] comes first, or behind a backslash"
            )
        matching(self.strange)
        return self

    @property
    def strange(self) -> str:
        """A pattern for a character that is not in the set; between lines and elements there may be white space."""
        allowed = self.allowed
        if allowed.endswith("-") and not allowed.endswith("\\-"):  # at the end it stands for itself
            allowed = f"{allowed[:-1]}\\-"
        return rf"[^{allowed}\t\r\n]"


class Checks(_Frozen):
    """All that is checked of messages: of a profile always, or in an edition of it."""

    header: Header | None = None
    unlisted: Unlisted | None = None
    versions: dict[Family, Versions] = {}
    mandatory: tuple[Mandatory, ...] = ()
    forbidden: tuple[Forbidden, ...] = ()
    codes: tuple[Codes, ...] = ()
    lengths: tuple[Length, ...] = ()
    counts: tuple[Count, ...] = ()
    patterns: tuple[Matching, ...] = ()
    characters: tuple[Characters, ...] = ()
    amounts: tuple[Amount, ...] = ()
    answers: dict[Family, Answer] = {}
    #: By the family of the answer.
    forms: Annotated[dict[str, AnswerForm], AfterValidator(_can_be_without)] = {}
    rules: dict[str, Setting] = {}

    @property
    def demands(self) -> tuple[Demand, ...]:
        """All demands, in the order in which they are told."""
        return (
            *self.mandatory, *self.forbidden, *self.codes, *self.counts, *self.lengths, *self.patterns,
            *self.characters, *self.amounts,
        )  # fmt: skip

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Everything here that has a source."""
        single = tuple(fact for fact in (self.header, self.unlisted) if fact is not None)
        tables = (*self.versions.values(), *self.answers.values(), *self.forms.values(), *self.rules.values())
        return (*single, *self.demands, *tables)


# -- what is known besides --------------------------------------------------------------------------------------------


class Span(Fact):
    """A time."""

    seconds: Seconds
    text: str = ""


class ClockStart(StrEnum):
    """When a payment's time begins."""

    #: When the message came.
    RECEIVED = "received"
    #: At its AccptncDtTm.
    ACCEPTED = "accepted"
    #: At GrpHdr/CreDtTm.
    CREATED = "created"


class Sla(Span):
    """The time that a payment has from its beginning to its end."""

    starts: ClockStart = ClockStart.RECEIVED


class TimeoutReason(Fact):
    """The ISO reason of a time-out."""

    reason: Reason


class DuplicateKey(StrEnum):
    """Under what a message or payment is known, so that its double is refused."""

    #: GrpHdr/MsgId.
    MESSAGE = "message"
    #: BizMsgIdr with its sender.
    HEADER = "header"
    #: UETR.
    UETR = "uetr"
    #: TxId with its instructing agent.
    TRANSACTION = "transaction"
    #: InstrId with its instructing agent.
    INSTRUCTION = "instruction"
    #: EndToEndId with debtor agent, creditor agent, amount and day.
    END_TO_END = "end_to_end"


class Duplicates(Fact):
    """What makes a message or payment the double of another."""

    keys: tuple[DuplicateKey, ...] = Field(min_length=1)
    #: Of a payment that is a double.
    reason: Reason = "AM05"
    text: str = ""


class Untreatable(StrEnum):
    """What makes a message none at all in a scheme, however much of it can be read."""

    #: It is not valid by its schema.
    SCHEMA = "schema"
    #: Its GrpHdr/MsgId was used before.
    MESSAGE = "message"


class Rejection(Fact):
    """When a message is answered with admi.002, not in its own family."""

    when: tuple[Untreatable, ...] = Field(min_length=1)
    text: str = ""


class Retry(Fact):
    """When a sender may ask, and under which identification it may send again."""

    #: The soonest that a status request makes sense, after the payment was sent.
    status_request_after_seconds: Seconds | None = None
    #: Where the answer is that nothing of it is known: `same_id` or `new_id`.
    unknown: Literal["same_id", "new_id"] | None = None
    #: Where it was rejected or ran out of time.
    rejected: Literal["same_id", "new_id"] | None = None
    text: str = ""


class Recall(Fact):
    """Until when a payment may be asked back; one window."""

    #: ISO ExternalCancellationReason1Code; empty: whatever the reason.
    reasons: tuple[Annotated[str, Field(pattern=r"^[A-Z0-9]{4}$")], ...] = ()
    days: int | None = Field(None, ge=1)
    business_days: int | None = Field(None, ge=1)
    months: int | None = Field(None, ge=1)
    #: Only on these grounds, in words: no request says whether they are given, so somebody has to look.
    grounds: str = ""
    text: str = ""

    @model_validator(mode="after")
    def _is_one(self) -> "Recall":
        if sum(value is not None for value in (self.days, self.business_days, self.months)) != 1:
            raise ValueError("one of days, business_days and months must be given")
        return self


class Choice(Fact):
    """The headers by which a profile is chosen where no route names one; `*` at the end stands for any rest."""

    business_service: tuple[Code, ...] = ()
    market_practice: tuple[Code, ...] = ()


class EditionFile(Checks):
    """What holds in a time; editions may overlap, and then either will do."""

    name: str = Field(min_length=1, max_length=40)
    valid_from: date | None = None
    valid_until: date | None = None
    source: str = ""
    mark: Mark | None = None

    @model_validator(mode="after")
    def _is_a_time(self) -> "EditionFile":
        if self.valid_from and self.valid_until and self.valid_until < self.valid_from:
            raise ValueError("valid_until is before valid_from")
        return self


class ProfileFile(Checks):
    """A profile as written."""

    title: str = Field(min_length=1)
    text: str = ""
    extends: str | None = None
    sources: dict[str, Source] = {}
    character_sets: dict[str, CharacterSet] = {}
    choose: Choice | None = None
    sla: Sla | None = None
    decide_within: Span | None = None
    timeout: TimeoutReason | None = None
    duplicates: Duplicates | None = None
    untreatable: Rejection | None = None
    retry: Retry | None = None
    recall: tuple[Recall, ...] = ()
    editions: tuple[EditionFile, ...] = ()
