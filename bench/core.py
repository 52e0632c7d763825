"""The message core beside bare lxml: what a message costs from its bytes to its answer, without server and store.

Bare is what libxml2 must do at least: parse, and validate header and document. Whole is what Interlock does on top:
recognise the envelope, read the fields, apply the rules and the profile, and write the answer. Both, and each step by
itself, are measured in turn in each round, in CPU time of one thread; the ratios are those within a round, and their
median counts.

Nearly everything that verdicts are remembered for in life repeats here too (institutions, countries, dates, shapes);
accounts, UETRs and amounts do not: each message has its own.
"""

import gc
import os
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from lxml import etree
from rich.console import Console
from rich.table import Table

from bench import ceilings, validating
from bench.message import Messages, identities
from bench.report import Findings, Reach, show_rest
from bench.servers import ROOT
from bench.validating import Validated
from interlock.inspection import inspect
from interlock.iso20022 import answers, envelopes, fields, rules
from interlock.iso20022.answers import Verdict
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Envelope, Limits
from interlock.iso20022.original import Original
from interlock.iso20022.profiles import Profile, Profiles
from interlock.iso20022.profiles.loading import folder_of_ours
from interlock.iso20022.schemas import Catalogue
from interlock.stages.facts import Inspection

#: What the whole way may cost, in terms of bare lxml.
OVER_BARE: Final = 2.5
BARE: Final = "bare lxml: parse, validate"
WHOLE: Final = "whole way, ACSC"
REJECTED: Final = "whole way, RJCT"
#: The examples of our profiles, and the sample, were made for this day.
NOW: Final = datetime(2026, 11, 23, 10, tzinfo=UTC)
_CALLS: Final = 20
_LIMITS: Final = Limits()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    quick: bool
    #: Of each case; a round does each step for twenty messages.
    rounds: int
    #: In the folder that is validated.
    files: int


FULL: Final = Settings(quick=False, rounds=60, files=1_000)
QUICK: Final = Settings(quick=True, rounds=10, files=200)
#: How often that folder is validated.
_FOLDER_ROUNDS: Final = 5


class Step(msgspec.Struct, kw_only=True, frozen=True):
    """CPU microseconds of a message, over rounds."""

    name: str
    median: float
    min: float
    #: In terms of the bare cost in the same round: the median, and where the middle half of the rounds lies.
    over_bare: float
    quartiles: tuple[float, float]


class Case(msgspec.Struct, kw_only=True, frozen=True):
    """One kind of message under one profile."""

    message: str
    profile: str
    bytes: int
    steps: list[Step]

    def over_bare(self, name: str) -> float:
        """Of a step."""
        return next(step.over_bare for step in self.steps if step.name == name)


class Report(Findings, kw_only=True):
    """Everything of one run over the message core."""

    cases: list[Case] = msgspec.field(default_factory=list)
    folders: list[Validated] = msgspec.field(default_factory=list)


def reached(report: Report) -> list[Reach]:
    """The figures that we want to reach: of every message and profile."""
    return [
        Reach(
            name=f"{case.message}, `{case.profile}`: whole way over bare lxml", sense="<=", limit=OVER_BARE,
            measured=case.over_bare(WHOLE),
        )
        for case in report.cases
    ]  # fmt: skip


# -- messages ---------------------------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """A message to be measured."""

    message: str
    profile: str
    content: bytes


_USABA: Final = "<ClrSysMmbId><ClrSysId><Cd>USABA</Cd></ClrSysId><MmbId>021150706</MmbId></ClrSysMmbId>"
_FEDNOW: Final = "www2.swift.com/mystandards/#/group/Federal_Reserve_Financial_Services/FedNow_Service"
#: Of a connection: without the clearing system.
_MEMBER: Final = "<ClrSysMmbId><MmbId>021150706</MmbId></ClrSysMmbId>"
_EXAMPLES: Final = {"cbprplus": "transfer.xml", "sepa-inst": "payment.xml", "fednow": "payment.xml"}
#: What makes the realistic message one of a scheme: what there is, and what takes its place.
_CHANGES: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "cbprplus": (
        ("interlock.bench.01", "swift.cbprplus.03"),
        (r"\s*<Nm>Testbank[^<]*</Nm>", ""),
        (r"(TSTEDEFFXXX</BICFI>)\s*<PstlAdr>.*?</PstlAdr>", r"\1"),
    ),
    "sepa-inst": (
        (r"<Cd>G001</Cd>\s*</SvcLvl>", "<Cd>SEPA</Cd></SvcLvl><LclInstrm><Cd>INST</Cd></LclInstrm>"),
        (r"(</SttlmPrty>)", rf"\1<AccptncDtTm>{NOW:%Y-%m-%dT%H:%M:%S}Z</AccptncDtTm>"),
        ("SHAR", "SLEV"),
    ),
    "fednow": (
        (r"<BizSvc>.*?</BizSvc>", f"<MktPrctc><Regy>{_FEDNOW}</Regy><Id>frb.fednow.01</Id></MktPrctc>"),
        (r"<FIId>\s*<FinInstnId>.*?</FinInstnId>", f"<FIId><FinInstnId>{_MEMBER}</FinInstnId>"),
        (r"BENCH-M-(\w{18})\w+", rf"{NOW:%Y%m%d}021150706\1"),
        (r"<Prty>NORM</Prty>|<(SttlmPrty|InstdAmt|ChrgsInf|PrvsInstgAgt1|IntrmyAgt1|InstrPrty)\b.*?</\1>\s*", ""),
        (r"(<(?:Dbtr|Cdtr)Agt>\s*<FinInstnId>)\s*<BICFI>[^<]*</BICFI>", rf"\1{_USABA}"),
        (r"(<PstlAdr>)\s*(<TwnNm>)", r"\1<PstCd>10001</PstCd>\2"),
        (r"(</TwnNm>)", r"\1<CtrySubDvsn>NY</CtrySubDvsn>"),
        ("SHAR", "SLEV"),
        ('"EUR"', '"USD"'),
        (r"INDA</SttlmMtd>\s*<SttlmAcct>.*?</SttlmAcct>", "CLRG</SttlmMtd><ClrSys><Cd>FDN</Cd></ClrSys>"),
        (
            r"(<Inst[gd]Agt>\s*<FinInstnId>)\s*<BICFI>[^<]*</BICFI>",
            rf"\1{_USABA}",
        ),
        (
            r"(</SvcLvl>)",
            r"\1<LclInstrm><Prtry>FDNA</Prtry></LclInstrm><CtgyPurp><Prtry>CONSUMER</Prtry></CtgyPurp>",
        ),
    ),
}


def kinds() -> Iterator[_Kind]:
    """A small message and one of the size that banks send, under no scheme and under three."""
    sample = ROOT / "tests" / "samples" / "pacs.008.001.08_bah.xml"
    yield _Kind("sample", "generic", sample.read_bytes())
    realistic = Messages(NOW).make(identities(1)[0]).decode()
    yield _Kind("realistic", "generic", realistic.encode())
    for profile, example in _EXAMPLES.items():
        yield _Kind("example", profile, (folder_of_ours() / profile / "examples" / example).read_bytes())
        changed = realistic
        for found, put in _CHANGES[profile]:
            changed = re.sub(found, put, changed, flags=re.DOTALL)
        yield _Kind("realistic", profile, changed.encode())


_UETR: Final = re.compile(rb"(?<=<UETR>)[0-9a-f-]{36}")
_IBAN: Final = re.compile(rb"(?<=<IBAN>)\w+")
_AMOUNT: Final = re.compile(rb'(?<=Amt Ccy="...">)\d+\.\d\d')


def renewed(content: bytes) -> bytes:
    """The same message with a UETR, accounts and an amount that nobody has seen."""
    digits = os.urandom(16).hex()
    uetr = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
    amount = f"{random.randrange(1, 90_000)}.{random.randrange(100):02}"
    content = _UETR.sub(uetr.encode(), content)
    content = _AMOUNT.sub(amount.encode(), content)
    return _IBAN.sub(lambda _: _iban(), content)


def _iban() -> bytes:
    """A German one that checks."""
    account = f"{random.randrange(10**18):018}"
    return f"DE{98 - int(f'{account}131400') % 97:02}{account}".encode()


# -- measuring --------------------------------------------------------------------------------------------------------


class _Way:
    """What is done to messages of one kind."""

    def __init__(self, kind: _Kind, catalogue: Catalogue) -> None:
        self.kind = kind
        self._catalogue = catalogue
        self._profiles = Profiles.load()
        self._profile: Profile = self._profiles.named(kind.profile)
        self._parser = etree.XMLParser(resolve_entities=False, no_network=True)
        found = self._inspected(kind.content)
        if found.original is None or found.findings:
            raise RuntimeError(f"{kind.message}, {kind.profile}: the message has findings: {found.findings}")
        self._schemas = {
            f"{{{definition.namespace}}}{definition.root}": etree.XMLSchema(
                etree.fromstring(catalogue.xsd(definition.name))
            )
            for definition in map(catalogue.definition, found.definitions)
        }
        # A second schema of the same text: compiled alike, so that neither side is the one with the warmer memory.
        if not all(self._bare(kind.content)):
            raise RuntimeError(f"{kind.message}, {kind.profile}: bare lxml does not find the message valid")

    def steps(self) -> dict[str, tuple[Callable[[bytes], object], Callable[..., object]]]:
        """By name: what prepares a message for the step, unmeasured, and the step."""

        def same(content: bytes) -> bytes:
            return content

        return {
            BARE: (same, self._bare),
            WHOLE: (same, partial(self._whole, Verdict(status=Status.ACSC))),
            REJECTED: (same, partial(self._whole, Verdict(status=Status.RJCT, reason="AC04", narrative="Closed."))),
            "parse, envelope": (same, lambda content: envelopes.read(content, _LIMITS)),
            "validate": (self._opened, self._validate),
            "extract": (self._opened, fields.extract),
            "rules": (self._extracted, self._rules),
            "demands of the profile": (self._extracted, self._demands),
            "inspect, whole": (same, self._inspected),
            "answer ACSC": (self._inspected, partial(_answer, Verdict(status=Status.ACSC))),
        }

    def _bare(self, content: bytes) -> list[bool]:
        root = etree.fromstring(content, self._parser)
        if root.tag in self._schemas:
            return [self._schemas[root.tag].validate(root)]
        return [self._schemas[child.tag].validate(child) for child in root]

    def _inspected(self, content: bytes) -> Inspection:
        return inspect(
            content, self._catalogue, limits=_LIMITS, today=NOW.date(), profiles=self._profiles,
            profile=self.kind.profile,
        )  # fmt: skip

    def _whole(self, verdict: Verdict, content: bytes) -> object:
        return _answer(verdict, self._inspected(content))

    def _opened(self, content: bytes) -> Envelope:
        return envelopes.read(content, _LIMITS)

    def _extracted(self, content: bytes) -> tuple[Original, Envelope]:
        envelope = self._opened(content)
        return fields.extract(envelope), envelope

    def _validate(self, envelope: Envelope) -> object:
        for name, element in (
            (envelope.header_definition, envelope.header),
            (envelope.definition, envelope.document),
        ):
            if name is not None and element is not None and self._catalogue.validate(name, element):
                raise RuntimeError("a message became invalid")
        return None

    def _rules(self, extracted: tuple[Original, Envelope]) -> object:
        original, envelope = extracted
        edition = self._profile.editions_on(NOW.date())[0]
        return rules.check(
            original, today=NOW.date(), document=envelope.document, header=envelope.header,
            settings=edition.rules or None,
        )  # fmt: skip

    def _demands(self, extracted: tuple[Original, Envelope]) -> object:
        original, envelope = extracted
        edition = self._profile.editions_on(NOW.date())[0]
        return edition.checker.findings(original, envelope.document, envelope.header)


def _answer(verdict: Verdict, inspection: Inspection) -> bytes:
    assert inspection.original is not None  # it was looked at before
    return answers.build(
        inspection.original, verdict, answer_id="c0ffee0123456789", now=NOW, definition=inspection.answer
    ).body


def measure(kind: _Kind, catalogue: Catalogue, rounds: int) -> Case:
    """Each step in turn, as often as there are rounds; the first round warms up and does not count."""
    way = _Way(kind, catalogue)
    steps = way.steps()
    costs: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, (prepare, step) in steps.items():
            inputs = [prepare(renewed(kind.content)) for _ in range(_CALLS)]
            gc.collect(0)
            started = time.process_time_ns()
            for each in inputs:
                step(each)
            taken = time.process_time_ns() - started
            if number:
                costs[name].append(taken / 1000 / _CALLS)
    bare = costs[BARE]
    return Case(
        message=kind.message,
        profile=kind.profile,
        bytes=len(kind.content),
        steps=[_step(name, found, bare) for name, found in costs.items()],
    )


def _step(name: str, costs: Sequence[float], bare: Sequence[float]) -> Step:
    ratios = [cost / least for cost, least in zip(costs, bare, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Step(
        name=name,
        median=round(statistics.median(costs), 1),
        min=round(min(costs), 1),
        over_bare=round(middle, 2),
        quartiles=(round(low, 2), round(high, 2)),
    )


# -- the run ----------------------------------------------------------------------------------------------------------


class Bench:
    """One run over the message core."""

    PARTS: Final = ("core", "validate")

    def __init__(self, settings: Settings, parts: Sequence[str], folder: Path, console: Console) -> None:
        self._settings = settings
        self._folder = folder
        self._console = console
        self.report = Report(
            started=datetime.now(UTC),
            machine=ceilings.describe(folder),
            settings=msgspec.to_builtins(settings),
            parts=list(parts),
        )

    def run(self) -> None:
        """Measure every part; one that cannot be measured does not keep the others from it."""
        if "core" in self.report.parts:
            self._messages()
        if "validate" in self.report.parts:
            with self._console.status("validate"):
                self._files()

    def _files(self) -> None:
        try:
            self.report.folders = validating.measure(self._folder, files=self._settings.files, rounds=_FOLDER_ROUNDS)
        except (OSError, RuntimeError) as exc:
            self.report.faults.append(f"validate: {exc}")

    def _messages(self) -> None:
        catalogue = Catalogue(cache=self._folder / "schemas")
        for kind in kinds():
            name = f"{kind.message}, {kind.profile}"
            try:
                with self._console.status(name):
                    case = measure(kind, catalogue, self._settings.rounds)
            except Exception as exc:  # noqa: BLE001 - told in the report and by the exit code
                self.report.faults.append(f"{name}: {exc}")
                continue
            self.report.cases.append(case)
            self._console.print(f"  {name}: {case.over_bare(WHOLE):.2f} x bare lxml", highlight=False)


Rows = tuple[Sequence[str], list[Sequence[str]]]


def table(report: Report) -> Rows:
    """Headings and rows: of each step, microseconds and, in brackets, in terms of bare lxml."""
    heads = ("CPU us (x bare)", *(f"{case.message}, `{case.profile}`, {case.bytes:,} B" for case in report.cases))
    steps = zip(*(case.steps for case in report.cases), strict=True)
    return heads, [(each[0].name, *(f"{one.median:.0f} ({one.over_bare:.2f})" for one in each)) for each in steps]


def folders(report: Report) -> Rows:
    """Headings and rows: of each number of processes."""
    heads = ("processes", "files", "bytes each", "s", "files/s", "CPU s", "s for one file")
    return heads, [
        (
            str(one.jobs), f"{one.files:,}", f"{one.bytes:,}", f"{one.seconds:.2f}", f"{one.per_second:,.0f}",
            f"{one.cpu_seconds:.2f}", f"{one.start_seconds:.2f}",
        )
        for one in report.folders
    ]  # fmt: skip


def show(report: Report, console: Console) -> None:
    """The report for people."""
    titles = {"the message core, CPU of one thread a message": table, "interlock validate on a folder": folders}
    for title, make in titles.items():
        heads, rows = make(report)
        shown = Table(title=title)
        for number, head in enumerate(heads):
            shown.add_column(head, justify="right" if number else "left")
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
    show_rest(report, console)
