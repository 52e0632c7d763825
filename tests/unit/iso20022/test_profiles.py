"""Profiles: ours are as their examples say, and an operator's means what it says."""

import re
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from interlock.errors import ConfigError
from interlock.inspection import inspect
from interlock.iso20022 import answers
from interlock.iso20022.envelopes import Limits, read
from interlock.iso20022.fields import extract
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Original
from interlock.iso20022.profiles import GENERIC, RULES, Mark, Profile, Profiles, examples
from interlock.iso20022.profiles.facts import DuplicateKey, Fact
from interlock.iso20022.profiles.patterns import matching
from interlock.iso20022.profiles.profile import mark_of
from interlock.iso20022.profiles.telling import told
from interlock.iso20022.schemas import Catalogue
from tests.messages import Transfer, pacs008

CATALOGUE: Final = Catalogue()
OURS: Final = Profiles.load()
TODAY: Final = date(2026, 11, 23)
EXAMPLES: Final = [
    (profile.name, example) for profile in OURS for example in examples.read(examples.folder_of(profile, None))
]


def write(folder: Path, text: str, name: str = "mine") -> Profiles:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.toml").write_text(f'title = "Mine"\n{text}', "utf-8")
    return Profiles.load(folder)


def held_to(profile: Profile, body: bytes, on: date = TODAY) -> tuple[Finding, ...]:
    envelope = read(body, Limits(bytes_max=10_000_000))
    assert envelope.document is not None
    return profile.check(extract(envelope), today=on, document=envelope.document, header=envelope.header)


def judged(folder: Path, text: str, body: bytes, on: date = TODAY) -> tuple[Finding, ...]:
    return held_to(write(folder, text).named("mine"), body, on)


def facts(profile: Profile) -> Iterator[Fact]:
    for edition in profile.editions:
        yield edition.fact
        yield from (one.fact for one in told(profile, edition))


# -- ours -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[f"{name}-{one.path.stem}" for name, one in EXAMPLES])
def test_examples_are_judged_as_expected(name: str, example: examples.Example) -> None:
    """Each message beside a profile is found to be what the profile's author says."""
    found = inspect(example.path.read_bytes(), CATALOGUE, limits=Limits(), today=example.on, profile=name)
    assert example.missing(found.findings) == []


def test_every_profile_has_good_and_bad_examples() -> None:
    """Each of ours shows a message that it takes and, but for `generic`, one that it alone refuses."""
    good = {name for name, example in EXAMPLES if not example.expect}
    bad = {name for name, example in EXAMPLES if any(one.startswith("profile.") for one in example.expect)}
    everyone = {profile.name for profile in OURS}
    assert good == everyone
    assert bad == everyone - {GENERIC}
    assert everyone >= {"cbprplus", "sepa-sct", "sepa-inst", "fednow", "fedwire", "rtp", "chaps", "t2", "swiss-sps"}


@pytest.mark.parametrize("profile", [*OURS], ids=lambda profile: str(profile.name))
def test_each_fact_has_a_source(profile: Profile) -> None:
    """Nothing in our profiles is there without somebody who says so; only days that bound nothing need nobody."""
    bare = [fact for edition in profile.editions for fact in edition.checks.facts if not fact.source]
    bare += [one.fact for one in told(profile, profile.editions[-1]) if not one.fact.source]
    bare += [one.fact for one in profile.editions if (one.valid_from or one.valid_until) and not one.fact.source]
    assert bare == []


@pytest.mark.parametrize("profile", [*OURS], ids=lambda profile: str(profile.name))
def test_hearsay_refuses_nothing(profile: Profile) -> None:
    """What is not verified, or weak, only warns."""
    refusing = [
        one.text
        for edition in profile.editions
        for one in told(profile, edition)
        if one.weight == Severity.ERROR and mark_of(one.fact, profile.sources) in (Mark.WEAK, Mark.UNVERIFIED)
    ]
    assert refusing == []


@pytest.mark.parametrize("profile", [*OURS], ids=lambda profile: str(profile.name))
def test_answers_are_ones_that_we_can_write(profile: Profile) -> None:
    """An answer that a profile names is of a version that is known, and of the family that answers."""
    for edition in profile.editions:
        for request, answer in edition.checks.answers.items():
            assert answer.definition in answers.SHAPES or answer.definition in answers.RESOLUTIONS, request
            versions = edition.checks.versions.get(request[:8])
            for version in versions.accepted if versions else ():
                usual = answers.answer_definition(version) or answers.enquiry_definition(version)
                assert usual is None or usual[:8] == answer.definition[:8]


def test_what_a_profile_knows_besides() -> None:
    """Clocks, reasons, keys, retries and recalls are there as data."""
    fednow, instant = OURS.named("fednow"), OURS.named("sepa-inst")
    assert fednow.sla is not None
    assert fednow.sla.total_seconds() == 20
    assert fednow.retry is not None
    assert (fednow.retry.status_request_after_seconds, fednow.retry.unknown) == (25, "same_id")
    assert instant.timeout_reason == "AB05"
    assert instant.decide_within == instant.sla
    assert instant.duplicate_keys == OURS.named("sepa-sct").duplicate_keys
    assert [(recall.business_days, recall.months) for recall in instant.recall] == [(10, None), (None, 13), (None, 13)]
    assert OURS.named(GENERIC).sla is None


# -- which profile ----------------------------------------------------------------------------------------------------


def with_header(service: str | None, practice: str | None = None) -> Original:
    body = (Path(__file__).parents[2] / "samples" / "pacs.008.001.08_bah.xml").read_bytes()
    original = extract(read(body))
    assert original.header is not None
    return replace(original, header=replace(original.header, business_service=service, market_practice=practice))


@pytest.mark.parametrize(
    ("service", "practice", "name"),
    [
        ("swift.cbprplus.03", None, "cbprplus"),
        ("swift.cbprplus.cov.04", None, "cbprplus"),
        ("swift.cbprplu", None, "generic"),
        ("TEST", "frb.fedwire.01", "fedwire"),
        (None, "frb.fednow.01", "fednow"),
        ("swift.cbprplus.03", "frb.fednow.01", "cbprplus"),
        ("TEST", None, "generic"),
        (None, None, "generic"),
    ],
)
def test_the_header_chooses(service: str | None, practice: str | None, name: str) -> None:
    """By business service, then by market practice; what neither knows is generic."""
    assert OURS.choose(with_header(service, practice)).name == name


def test_the_route_goes_before_the_header() -> None:
    """A profile that is named is the one; a name that is not there is the operator's mistake."""
    assert OURS.choose(with_header("swift.cbprplus.03"), named="fednow").name == "fednow"
    with pytest.raises(ConfigError, match="no profile 'nowhere'; there are cbprplus"):
        OURS.choose(with_header(None), named="nowhere")


def test_an_operators_profile_is_chosen_before_ours(tmp_path: Path) -> None:
    """By the same header, and also by one of its own; to extend a profile alone changes nothing."""
    text = 'extends = "cbprplus"\n[choose]\nbusiness_service = ["swift.cbprplus.*", "acme"]\n'
    profiles = write(tmp_path, text)
    assert profiles.choose(with_header("swift.cbprplus.03")).name == "mine"
    assert profiles.choose(with_header("acme")).name == "mine"
    quiet = write(tmp_path / "other", 'extends = "cbprplus"\n')
    assert quiet.choose(with_header("swift.cbprplus.03")).name == "cbprplus"


# -- what is demanded -------------------------------------------------------------------------------------------------

ONE: Final = Transfer(end_to_end_id="E-1", transaction_id="T-1", uetr="5f0d6a1e-2b3c-4d5e-8f90-a1b2c3d4e5f6")
TWO: Final = Transfer(end_to_end_id="E-2", transaction_id="T-2", uetr=None, amount="5.00", currency="USD")
BODY: Final = pacs008(ONE, TWO, message_id="M-1")
TX: Final = "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[[mandatory]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/UETR'", [("mandatory", f"{TX}[2]/PmtId/UETR", 2)]),
        ("[[mandatory]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/UETR'\nor = ['PmtId/TxId']", []),
        ("[[mandatory]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtTpInf'\nor = ['/GrpHdr/InstgAgt']", []),
        ("[[mandatory]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/UETR'\nor = ['ChrgBr=DEBT']",
         [("mandatory", f"{TX}[2]/PmtId/UETR", 2)]),
        ("[[mandatory]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/UETR'\nwhen = ['IntrBkSttlmAmt/@Ccy=EUR']", []),
        ("[[mandatory]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/UETR'\nunless = ['IntrBkSttlmAmt/@Ccy=USD']", []),
        ("[[mandatory]]\npath = 'GrpHdr/CtrlSum'", [("mandatory", "/Document/FIToFICstmrCdtTrf/GrpHdr/CtrlSum", None)]),
        ("[[mandatory]]\nmessages = ['pacs.009']\npath = 'GrpHdr/CtrlSum'", []),
        ("[[mandatory]]\nmessages = ['pacs.008.001.08']\nwithin = '//PmtId'\npath = 'UETR'",
         [("mandatory", f"{TX}[2]/PmtId/UETR", 2)]),
        ("[[forbidden]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/UETR'", [("forbidden", f"{TX}[1]/PmtId/UETR", 1)]),
        ("[[codes]]\nwithin = 'CdtTrfTxInf'\npath = 'ChrgBr'\ncodes = ['SHAR', 'SLEV']", []),
        ("[[codes]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/TxId'\ncodes = ['T-1']",
         [("code", f"{TX}[2]/PmtId/TxId", 2)]),
        ("[[codes]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/TxId'\ncodes = ['T*']", []),
        ("[[codes]]\npath = 'CdtTrfTxInf/PmtId/TxId'\nwithout = ['T-2']", [("code", f"{TX}[2]/PmtId/TxId", 2)]),
        ("[[codes]]\npath = 'CdtTrfTxInf/IntrBkSttlmAmt/@Ccy'\ncodes = ['EUR']",
         [("code", f"{TX}[2]/IntrBkSttlmAmt", 2)]),
        ("[[counts]]\npath = 'CdtTrfTxInf'\nmax = 2", []),
        ("[[counts]]\npath = 'CdtTrfTxInf'\nmax = 1",
         [("count", "/Document/FIToFICstmrCdtTrf/CdtTrfTxInf", None)]),
        ("[[lengths]]\npath = 'GrpHdr/MsgId'\nmax = 3", []),
        ("[[lengths]]\npath = 'GrpHdr/MsgId'\nmax = 2", [("length", "/Document/FIToFICstmrCdtTrf/GrpHdr/MsgId", None)]),
        ("[[patterns]]\npath = 'CdtTrfTxInf/PmtId/TxId'\npattern = 'T-[12]'", []),
        ("[[patterns]]\npath = 'CdtTrfTxInf/PmtId/TxId'\npattern = 'T-'",
         [("pattern", f"{TX}[1]/PmtId/TxId", 1), ("pattern", f"{TX}[2]/PmtId/TxId", 2)]),
        ("[character_sets.c]\nallowed = 'A-Z'\n[[characters]]\nset = 'c'\npaths = ['GrpHdr/MsgId']",
         [("characters", "/Document/FIToFICstmrCdtTrf/GrpHdr/MsgId", None)]),
        ("[character_sets.c]\nallowed = '\\x20-\\x7e'\n[[characters]]\nset = 'c'", []),
        ("[character_sets.c]\nallowed = 'A-DF-Za-z0-9:. -'\n[[characters]]\nset = 'c'\nmessages = ['pacs']", None),
        ("[[amounts]]\ncurrencies = ['EUR']", [("currency", f"{TX}[2]/IntrBkSttlmAmt/@Ccy", 2)]),
        ("[[amounts]]\nmax = 99.99", [("amount", f"{TX}[1]/IntrBkSttlmAmt", 1)]),
        ("[[amounts]]\nmax = 100\nmin = 5", []),
        ("[[amounts]]\nmin = 5.01", [("amount", f"{TX}[2]/IntrBkSttlmAmt", 2)]),
        ("[header]\ndemanded = true", [("header", "/", None)]),
        ("[header]\ndemanded = false", []),
        ("[versions]\n'pacs.008' = { accepted = ['pacs.008.001.08'] }", []),
        ("[versions]\n'pacs.008' = { accepted = ['pacs.008.001.10'] }", [("version", "/", None)]),
        ("[versions]\n'pacs.009' = { accepted = ['pacs.009.001.08'] }", [("message", "/", None)]),
        ("[unlisted]\nseverity = 'off'\n[versions]\n'pacs.009' = { accepted = ['pacs.009.001.08'] }", []),
    ],
)  # fmt: skip
def test_demands(tmp_path: Path, text: str, found: list[tuple[str, str, int | None]] | None) -> None:
    """Each kind of demand names the very element, and the payment that it concerns, and nothing that is good."""
    if found is None:
        with pytest.raises(ConfigError, match="must be a family"):
            judged(tmp_path, text, BODY)
        return
    findings = judged(tmp_path, text, BODY)
    assert [(finding.rule, finding.xpath, finding.payment) for finding in findings] == [
        (f"profile.{kind}", path, payment) for kind, path, payment in found
    ]
    assert all(finding.rule in RULES and finding.text.startswith("mine: ") for finding in findings)
    assert not any(value in finding.text for finding in findings for value in ("E-1", "M-1", "Synthetic"))


def test_many_payments_are_judged_like_few(tmp_path: Path) -> None:
    """Of a message of a hundred payments each one at fault is named; the good ones are not."""
    bodies = [Transfer(uetr=None) if number % 10 == 0 else Transfer() for number in range(1, 101)]
    findings = judged(tmp_path, "[[mandatory]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/UETR'", pacs008(*bodies))
    assert [finding.payment for finding in findings] == list(range(10, 101, 10))


@pytest.mark.parametrize(
    "text",
    [
        "[[patterns]]\npath = 'CdtTrfTxInf/PmtId/TxId'\npattern = 'T-1'",
        "[character_sets.c]\nallowed = 'T1-'\n[[characters]]\nset = 'c'\npaths = ['CdtTrfTxInf/PmtId/TxId']",
    ],
    ids=["form", "characters"],
)
def test_the_last_of_very_many_is_judged_too(tmp_path: Path, text: str) -> None:
    """What comes after a thousand good ones has its finding."""
    body = pacs008(*(Transfer(transaction_id="T-1") for _ in range(1200)), Transfer(transaction_id="T-2"))
    assert [finding.payment for finding in judged(tmp_path, text, body)] == [1201]


def test_a_pattern_that_takes_too_long_is_told(tmp_path: Path) -> None:
    """A text for which a pattern would take years counts as wrong, and the finding says whose fault that is."""
    text = "[[patterns]]\npath = 'CdtTrfTxInf/PmtId/EndToEndId'\npattern = '(A|AA)+!'"
    [finding] = judged(tmp_path, text, pacs008(*(Transfer(end_to_end_id="A" * 140) for _ in range(3))))
    assert (finding.rule, finding.payment) == ("profile.pattern", 1)
    assert "make the pattern simpler" in finding.text
    assert judged(tmp_path, text, pacs008(Transfer(end_to_end_id="AAA!"))) == ()


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("[0-9]{8}[A-Z0-9]{9}[a-z]{1,18}", "20261123ABCDEFGHIa", "20261123ABCDEFGHI"),
        ("STANDARD|IXB|Z{2}E?", "ZZE", "ZE"),
        (r"frb\.fednow\.([a-z]{3}\.)?01", "frb.fednow.abc.01", "frb.fednow.abc01"),
        ("(?!/)(?!.*//).*(?<!/)", "a/b", "a//b"),
        ("([A-Z0-9]+ ?)+", "A1 B2", "a"),
        (r"[\]A\-]+", "]-A", "B"),
        ("(..)\\1", "abab", "abba"),
        ("", "", "A"),
    ],
)
def test_patterns_match_from_end_to_end(pattern: str, good: str, bad: str) -> None:
    """Whichever engine looks: as Python's own."""
    matches = matching(pattern)
    for text in (good, bad, f"{good} ", f" {good}", f"{good}\n", "A" * 30):
        assert bool(matches(text)) is bool(re.fullmatch(pattern, text))
    assert matches(good)
    assert not matches(bad)


def test_long_lists_are_judged_like_short_ones(tmp_path: Path) -> None:
    """libxml2 goes a level deeper for each operand in a row, and no more than 5,000 levels; we have no such bound."""
    codes = [f"X{number}" for number in range(9_000)]
    text = "".join(f"[[forbidden]]\npath = 'CdtTrfTxInf/X{number}'\n" for number in range(12_000))
    text += f"[[codes]]\npath = 'CdtTrfTxInf/ChrgBr'\ncodes = {codes}\n"
    text += "[[mandatory]]\npath = 'CdtTrfTxInf/UltmtDbtr'\n"
    found = judged(tmp_path, text, pacs008())
    assert sorted(one.rule for one in found) == ["profile.code", "profile.mandatory"]


def test_findings_are_bounded(tmp_path: Path) -> None:
    """A message that breaks a demand everywhere does not get a finding for each of ten thousand places."""
    body = pacs008(*(Transfer() for _ in range(2000)))
    assert len(judged(tmp_path, "[[forbidden]]\nwithin = 'CdtTrfTxInf'\npath = 'PmtId/UETR'", body)) == 1000


@pytest.mark.parametrize(
    ("more", "severity", "reason"),
    [
        ("", "error", "TD03"),
        ("severity = 'warning'", "warning", "TD03"),
        ("source = 's'", "warning", "TD03"),
        ("source = 's'\nmark = 'S'", "error", "TD03"),
        ("source = 's'\nseverity = 'error'", "error", "TD03"),
        ("reason = 'RR10'", "error", "RR10"),
    ],
)
def test_what_breaking_a_demand_weighs(tmp_path: Path, more: str, severity: str, reason: str) -> None:
    """As much as its author says, else as sure as its source is."""
    text = f"[sources]\ns = {{ mark = 'U', text = 'hearsay' }}\n[[mandatory]]\npath = 'GrpHdr/CtrlSum'\n{more}"
    (finding,) = judged(tmp_path, text, BODY)
    assert (finding.severity, finding.reason) == (severity, reason)


# -- editions and layers ----------------------------------------------------------------------------------------------

DATED: Final = """
[[editions]]
name = "old"
valid_until = 2026-11-20
[[editions.forbidden]]
path = "GrpHdr/CtrlSum"
[[editions]]
name = "new"
valid_from = 2026-11-14
[[editions.mandatory]]
path = "GrpHdr/CtrlSum"
[editions.answers]
"pacs.008" = { definition = "pacs.002.001.12" }
"""


def with_sum() -> bytes:
    return BODY.replace(b"</NbOfTxs>", b"</NbOfTxs><CtrlSum>105.00</CtrlSum>")


@pytest.mark.parametrize(
    ("day", "with_it", "without_it"),
    [
        (date(2020, 1, 1), ["profile.forbidden"], []),
        (date(2026, 11, 13), ["profile.forbidden"], []),
        (date(2026, 11, 14), [], []),
        (date(2026, 11, 20), [], []),
        (date(2026, 11, 21), [], ["profile.mandatory"]),
        (date(2040, 1, 1), [], ["profile.mandatory"]),
    ],
)
def test_the_day_chooses_the_edition(tmp_path: Path, day: date, with_it: list[str], without_it: list[str]) -> None:
    """Each edition judges on its days, and during the change-over either will do."""
    profile = write(tmp_path, DATED).named("mine")
    assert [finding.rule for finding in held_to(profile, with_sum(), day)] == with_it
    assert [finding.rule for finding in held_to(profile, BODY, day)] == without_it


def test_during_a_change_over_the_newest_says_what_is_wrong(tmp_path: Path) -> None:
    """A message that no edition takes is told what the newest wants."""
    text = "[[amounts]]\ncurrencies = ['CHF']" + DATED
    profile = write(tmp_path, text).named("mine")
    findings = held_to(profile, BODY, date(2026, 11, 15))
    assert [finding.rule for finding in findings] == ["profile.mandatory", "profile.currency", "profile.currency"]
    assert all(finding.text.startswith("mine new: ") for finding in findings)


def test_our_rules_count_in_the_change_over(tmp_path: Path) -> None:
    """A rule that only the new edition turns on does not refuse while the old one holds."""
    text = """
[[editions]]
name = "old"
valid_until = 2026-11-20
[[editions]]
name = "new"
valid_from = 2026-11-14
[editions.rules]
"charges.no_slev" = { severity = "error" }
"""
    profile = write(tmp_path, text).named("mine")
    envelope = read(BODY)
    original = extract(envelope)
    days = [date(2026, 11, 14), date(2026, 11, 21)]
    judgements = [profile.judge(original, today=day, document=envelope.document) for day in days]
    assert [judgement.edition.name for judgement in judgements] == ["old", "new"]
    assert ["charges.no_slev" in {f.rule for f in judgement.findings} for judgement in judgements] == [False, True]


@pytest.mark.parametrize(
    ("day", "first", "answer"),
    [
        (date(2020, 1, 1), None, None),
        (date(2026, 11, 10), None, None),
        (date(2026, 11, 16), None, "pacs.002.001.12"),
        (date(2027, 1, 1), date(2026, 11, 14), "pacs.002.001.12"),
        (date(2020, 1, 1), date(2026, 11, 14), "pacs.002.001.12"),
    ],
)
def test_answers_are_the_editions(tmp_path: Path, day: date, first: date | None, answer: str | None) -> None:
    """The newest edition of the day names the answer; before the first day of all, the first edition does."""
    text = DATED if first is None else DATED.partition('name = "old"')[0] + DATED.partition('CtrlSum"\n[[editions]]')[2]
    profile = write(tmp_path, text if first is None else f"[[editions]]{text.removeprefix(chr(10) + '[[editions]]')}")
    assert profile.named("mine").answer_definition("pacs.008.001.08", day) == answer


def test_a_profile_extends_another(tmp_path: Path) -> None:
    """It takes all over, says some of it otherwise, takes one demand out and adds one."""
    write(tmp_path, "[[mandatory]]\npath = 'GrpHdr/CtrlSum'\n[[counts]]\npath = 'CdtTrfTxInf'\nmax = 1\n"
          "[sla]\nseconds = 7\n[timeout]\nreason = 'AB05'", "base")  # fmt: skip
    text = (
        "extends = 'base'\n[[mandatory]]\npath = 'GrpHdr/CtrlSum'\nseverity = 'off'\n[[counts]]\npath = 'CdtTrfTxInf'\n"
        "max = 1\nseverity = 'warning'\n[[forbidden]]\npath = 'GrpHdr/InstdAgt'\n[timeout]\nreason = 'AB06'"
    )
    profile = write(tmp_path, text).named("mine")
    found = [(finding.rule, finding.severity) for finding in held_to(profile, BODY)]
    assert found == [("profile.forbidden", Severity.ERROR), ("profile.count", Severity.WARNING)]
    assert profile.sla is not None
    assert (profile.sla.total_seconds(), profile.timeout_reason) == (7, "AB06")


def test_what_a_demand_leaves_open_stays(tmp_path: Path) -> None:
    """Field by field; but whose word it is, and so how sure, is the later one's."""
    (tmp_path / "base.toml").write_text(
        "title = 'Base'\n[sources]\nguess = { text = 'g', mark = 'W' }\nread = { text = 'r', mark = 'P' }\n"
        "[[amounts]]\ncurrencies = ['EUR']\nmax = 10\nsource = 'guess'\nmark = 'D'\ntext = 'small'\n"
        "[[codes]]\npath = 'GrpHdr/X'\ncodes = ['A']\nreason = 'CH17'\n[[counts]]\npath = 'CdtTrfTxInf'\nmax = 1\n"
        "severity = 'off'\n",
        "utf-8",
    )
    (tmp_path / "over.toml").write_text(
        "title = 'Over'\nextends = 'base'\n[[amounts]]\nmax = 20\nsource = 'read'\n"
        "[[codes]]\npath = 'GrpHdr/X'\nwithout = ['B']\n[[counts]]\npath = 'CdtTrfTxInf'\nmax = 2\n",
        "utf-8",
    )
    checks = Profiles.load(tmp_path).named("over").editions[-1].checks
    (amount,), (codes,), (count,) = checks.amounts, checks.codes, checks.counts
    assert amount.currencies == ("EUR",)
    assert amount.max == 20
    assert (amount.text, amount.source) == ("small", "read")
    assert amount.mark is None
    assert (codes.codes, codes.without, codes.reason) == ((), ("B",), "CH17")
    assert (count.max, count.severity) == (2, None)


def test_an_extended_profile_keeps_its_editions(tmp_path: Path) -> None:
    """The days of the profile extended hold, with what the other adds to all or to one of them."""
    write(tmp_path, DATED, "base")
    text = "extends = 'base'\n[[counts]]\npath = 'CdtTrfTxInf'\nmax = 1\n"
    profile = write(tmp_path, text).named("mine")
    assert [edition.name for edition in profile.editions] == ["old", "new"]
    assert [f.rule for f in held_to(profile, BODY, date(2027, 1, 1))] == ["profile.mandatory", "profile.count"]


# -- faults -----------------------------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    """All files, all faults, each with its place."""
    (tmp_path / "one.toml").write_text("title = 'x'\nextends = 'nowhere'\n", "utf-8")
    (tmp_path / "two.toml").write_text(
        "title = 'x'\nspeed = 1\n[[mandatory]]\npath = 'a b'\n[[codes]]\npath = 'GrpHdr'\n[timeout]\nreason = 'TOUT'\n"
        "[[patterns]]\npath = 'GrpHdr'\npattern = '['\n",
        "utf-8",
    )
    (tmp_path / "three.toml").write_text("title = 'x'\n[rules]\n'no.rule' = { severity = 'off' }\n"
        "[versions]\n'pacs.008' = { accepted = ['pacs.009.001.08'] }\n"
        "[[characters]]\nset = 'none'\nsource = 'nobody'\n",
        "utf-8",
    )  # fmt: skip
    (tmp_path / "four.toml").write_text("title = ", "utf-8")
    (tmp_path / "fednow.toml").write_text("title = 'x'", "utf-8")
    (tmp_path / "Bad Name.toml").write_text("title = 'x'", "utf-8")
    with pytest.raises(ConfigError) as raised:
        Profiles.load(tmp_path)
    told_of = str(raised.value)
    for part in (
        "one.toml: extends: there is no profile nowhere",
        "two.toml: speed: there is no such setting",
        "two.toml: mandatory.0.path: 'a b' must be a path of element names",
        "two.toml: codes.0: either `codes` or `without` must list some",
        "two.toml: timeout.reason: 'TOUT' must be an ISO ExternalStatusReason1Code",
        "two.toml: patterns.0.pattern: '[' is no regular expression",
        "three.toml: rules.no.rule: there is no such rule",
        "three.toml: versions.pacs.008: pacs.009.001.08 is not of this family",
        "three.toml: characters: there is no set none",
        "three.toml: source: there is no source nobody",
        "four.toml cannot be read",
        "fednow.toml: a profile fednow comes with Interlock",
        "Bad Name.toml: a profile's name has",
    ):
        assert part in told_of


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends = 'mine'", "leads back to itself"),
        ("[[editions]]\nname = 'x'\nvalid_from = 2026-01-02\nvalid_until = 2026-01-01", "valid_until is before"),
        ("[[recall]]\ndays = 1\nmonths = 1", "one of days, business_days and months"),
        ("[[mandatory]]\nwithin = '//PmtId'\npath = 'UETR'\nwhen = ['/GrpHdr']", "the way back is not known"),
        ("[[codes]]\npath = 'GrpHdr'\ncodes = [\"it's\"]", "must be a code"),
        ("[character_sets.c]\nallowed = 'z-a'", "is no regular expression"),
        ("[character_sets.c]\nallowed = 'A](a+)+['", "must be what stands within brackets"),
        ("[[patterns]]\npath = 'GrpHdr'\npattern = 'a{9999999999999999999999}'", "is no regular expression"),
        ("[[patterns]]\npath = 'GrpHdr'\npattern = '(A|B'", "is no regular expression"),
        ("[[patterns]]\npath = 'GrpHdr'\npattern = '[A--B]'", "can be read in two ways"),
        (f"speed = {'9' * 5000}", "cannot be read"),
        ("[[recall]]\ndays = 1e9999999", "1e9999999 is no number that a profile could need"),
        (f"speed = {'[' * 3000}{']' * 3000}", "cannot be read"),
        (f"[[mandatory]]\npath = '{'a/' * 65}a'", "a path has at most 64 names"),
        (f"[[codes]]\npath = 'GrpHdr'\ncodes = {['A'] * 10_001}", "at most 10000 items"),
    ],
    ids=range(15),
)
def test_faults(tmp_path: Path, text: str, said: str) -> None:
    """What cannot be meant is refused when it is read."""
    with pytest.raises(ConfigError, match=said):
        write(tmp_path, text)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(ConfigError, match="there is no folder"):
        Profiles.load(tmp_path / "nowhere")


# -- examples ---------------------------------------------------------------------------------------------------------


def test_examples_of_an_operators_profile(tmp_path: Path) -> None:
    """They lie in the profile's folder; what differs from what is expected is told, both ways."""
    folder = tmp_path / "mine"
    (folder / "examples").mkdir(parents=True)
    (folder / "profile.toml").write_text("title = 'Mine'\n[[mandatory]]\npath = 'GrpHdr/CtrlSum'", "utf-8")
    (folder / "examples" / "a.xml").write_bytes(BODY)
    (folder / "examples" / "expected.toml").write_text(
        '["a.xml"]\non = 2026-11-23\nexpect = ["iban.debtor", "profile.mandatory at NbOfTxs"]\n', "utf-8"
    )
    profile = Profiles.load(tmp_path).named("mine")
    (example,) = examples.read(examples.folder_of(profile, tmp_path))
    assert example.missing(held_to(profile, BODY)) == [
        "not found: iban.debtor",
        "not found: profile.mandatory at NbOfTxs",
        "not expected: profile.mandatory at /Document/FIToFICstmrCdtTrf/GrpHdr/CtrlSum",
    ]


@pytest.mark.parametrize("text", ["x = " + "9" * 5000, "x = " + "[" * 3000 + "]" * 3000, "x = "], ids=range(3))
def test_expectations_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """Whatever the reader of TOML stumbles over is told with the file."""
    (tmp_path / "expected.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"expected\.toml cannot be read"):
        list(examples.read(tmp_path))


def test_faults_of_examples(tmp_path: Path) -> None:
    """A file without an expectation, and an expectation without a file, are faults; all are told at once."""
    with pytest.raises(ConfigError, match=r"there is no .*expected\.toml"):
        list(examples.read(tmp_path))
    shutil.copy(EXAMPLES[0][1].path, tmp_path / "alone.xml")
    (tmp_path / "expected.toml").write_text(
        '["gone.xml"]\non = 2026-11-23\nexpect = []\n["odd.xml"]\non = "x"\nexpect = []\n["bare.xml"]\n'
        f"[{'x' * 999}]\n",
        "utf-8",
    )
    with pytest.raises(ConfigError) as raised:
        list(examples.read(tmp_path))
    for part in ("alone.xml: nothing is expected", "gone.xml: there is no such file", "odd.xml.on: must be a day",
                 f"{'x' * 999}: there is no such file",
                 "bare.xml: needs `on`"):  # fmt: skip
        assert part in str(raised.value)


def test_payments_max_is_the_smallest_that_refuses(tmp_path: Path) -> None:
    """For messages that are read payment by payment the count is known beforehand; a warning is no limit."""
    text = "[[counts]]\nmessages = ['pacs.008']\npath = 'CdtTrfTxInf'\nmax = 10\n"
    edition = write(tmp_path, text).named("mine").editions[0]
    assert edition.payments_max("pacs.008.001.08") == 10
    assert edition.payments_max("pacs.009.001.08") is None
    warned = write(tmp_path / "w", text + "severity = 'warning'").named("mine").editions[0]
    assert warned.payments_max("pacs.008.001.08") is None


def test_duplicate_keys_are_words_that_receive_knows() -> None:
    """What profiles list as keys are the ones that there are."""
    assert {key for profile in OURS for key in profile.duplicate_keys or ()} <= set(DuplicateKey)
