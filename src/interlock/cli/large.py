"""A file of many payments judged for `interlock validate`: in pieces, so that memory does not grow with it.

Its verdict is the one that the same bytes would get whole. Of its findings the first are kept, errors before warnings,
and all are counted: a file can be wrong in each of a hundred thousand payments.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from itertools import count
from pathlib import Path

from interlock.cli.gathering import Findings
from interlock.iso20022.bulk import BulkLimits, Judge, Reading, by_profile
from interlock.iso20022.findings import Severity
from interlock.iso20022.original import Original
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.rules import RULES
from interlock.iso20022.schemas import Catalogue

#: Statements and reports are not read in pieces. For the sake of one's own files they may take some memory.
LIMITS = BulkLimits(part_bytes_max=16 * 1024 * 1024)
FINDINGS_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a file is, and what is wrong with it."""

    #: None: it cannot be said, for there is no schema here.
    valid: bool | None
    definitions: tuple[str, ...]
    findings: Findings
    payments: int
    #: The profile that judged it and its edition; None: none did.
    profile: str | None
    edition: str | None


def judge_large(
    path: Path, catalogue: Catalogue, profiles: Profiles, *, today: date, profile: str | None, schema_only: bool
) -> Judged:
    """Read a file payment by payment. profile: by name; None: the message's header chooses. Raises ConfigError."""
    with tempfile.TemporaryDirectory(prefix="interlock-") as folder:
        # Room is taken beside the file that is read, and a user's own folder may have none, or let nobody write.
        link = Path(folder) / "message.xml"
        link.symlink_to(path.absolute())
        first: Judged | None = None
        for edition in count():
            judge = _judge(profiles, today, profile, edition, schema_only=schema_only)
            with Reading(link, catalogue, judge, LIMITS) as reading:
                judged = _read(reading, schema_only=schema_only)
                first = first or judged
                if judged.findings.errors == 0 or not reading.verdict.is_sound:
                    return judged
                # During a change-over a message is good if any edition finds it so.
                if reading.judge is None or not reading.judge.others:
                    return first
    raise AssertionError  # there is a last edition


def _judge(
    profiles: Profiles, today: date, profile: str | None, edition: int, *, schema_only: bool
) -> Callable[[Original], Judge]:
    appoint = by_profile(profiles, today, named=None if profile is None else lambda _: profile, edition=edition)

    def by_schemas_alone(head: Original) -> Judge:
        return replace(appoint(head), settings=_NO_RULES, further=None, others=0, bounds=frozenset())

    return by_schemas_alone if schema_only else appoint


_NO_RULES = dict.fromkeys(RULES)


def _read(reading: Reading, *, schema_only: bool) -> Judged:
    business = Findings(FINDINGS_MAX)
    for batch in reading:
        business.add(batch.findings)
    verdict, judge = reading.verdict, reading.judge
    findings = Findings(FINDINGS_MAX)
    findings.add(verdict.technical)
    if verdict.is_sound and not schema_only:
        business.add(reading.late())
        findings.join(business)  # after those of the schemas, of which there are only warnings, if any
    only_unknown = all(
        finding.rule == "definition.unknown" for finding in verdict.technical if finding.severity is Severity.ERROR
    )
    return Judged(
        valid=findings.errors == 0 or (None if not verdict.judged and only_unknown else False),
        definitions=tuple(name for name in (verdict.header_definition, verdict.definition) if name is not None),
        findings=findings,
        payments=len(reading.payments),
        profile=None if judge is None else judge.profile,
        edition=None if judge is None else judge.edition,
    )
