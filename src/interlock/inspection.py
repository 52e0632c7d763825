"""All that can be said of a message from its bytes alone: the facts that the stages judge.

Joins what the pure modules must not: schemas are compiled and cached on disk, so their verdicts come in here as facts.
"""

import asyncio
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from hashlib import sha256
from typing import TypeAlias

import structlog
from lxml import etree

from interlock.iso20022 import answers, envelopes, fields, wrappers
from interlock.iso20022.envelopes import Envelope, Limits
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Original
from interlock.iso20022.profiles import Profile, Profiles
from interlock.iso20022.profiles.facts import ClockStart
from interlock.iso20022.schemas import Catalogue
from interlock.stages.facts import Inspection, Practice

#: Names the profile for a definition (None: not known) where a route does; None leaves the choice to the header.
ProfileOf: TypeAlias = Callable[[str | None], str | None]


class Inspector:
    """Looks at messages for a server: small ones at once, the others where they hold nobody up.

    libxml2 keeps every element and attribute name it meets for as long as the thread that met it lives. The standard's
    names are few; a client that invents new ones in each message would fill the memory. So the names in refused
    messages are counted, and once there are too many each message is read in a thread of its own, which takes its
    names with it. Large messages are read so always: a megabyte holds a hundred thousand names.
    """

    def __init__(self, catalogue: Catalogue, limits: Limits, profiles: Profiles | None = None) -> None:
        """profiles: unset, those that come with Interlock."""
        self._catalogue = catalogue
        self._limits = limits
        self._profiles = profiles or Profiles.load()
        # A tree is some twenty times its text: few large ones at once.
        self._large = asyncio.Semaphore(2)
        self._names: set[bytes] = set()
        self._names_bytes = 0

    async def inspect(
        self,
        content: bytes,
        today: date,
        *,
        schema_only: bool = False,
        profile: str | ProfileOf | None = None,
        lenient: bool = False,
    ) -> Inspection:
        """As the function `inspect`; what we fail to look at comes back as such, for it must not be lost."""

        def look(parser: etree.XMLParser | None) -> Inspection:
            return self._look(content, today, schema_only=schema_only, profile=profile, lenient=lenient, parser=parser)

        if len(content) <= _LARGE_BYTES and self._names_bytes <= _NAMES_BYTES_MAX:
            return look(None)
        async with self._large:
            return await _in_own_thread(lambda: look(envelopes.new_parser()))

    def _look(
        self,
        content: bytes,
        today: date,
        *,
        schema_only: bool,
        profile: str | ProfileOf | None,
        lenient: bool,
        parser: etree.XMLParser | None,
    ) -> Inspection:
        try:
            inspection = inspect(
                content,
                self._catalogue,
                limits=self._limits,
                today=today,
                schema_only=schema_only,
                profiles=self._profiles,
                profile=profile,
                lenient=lenient,
                parser=parser,
            )
        except Exception as exc:  # noqa: BLE001 - whatever it is, the message must not be lost
            _log.exception("inspection failed")
            return uninspected(content, type(exc).__name__)
        if parser is None and inspection.technical:
            self._count_names(content)
        return inspection

    def _count_names(self, content: bytes) -> None:
        for name in _NAME.findall(content):
            if name not in self._names:
                self._names.add(name)
                self._names_bytes += len(name)


_log = structlog.get_logger()
#: A message larger than this is read beside the event loop.
_LARGE_BYTES = 65_536
#: Bytes of names from refused messages that may stay in memory; twice and more of it with libxml2's copy.
_NAMES_BYTES_MAX = 8_388_608
#: Whatever stands where an element's or attribute's name would.
_NAME = re.compile(rb"[<\s]/?([^\s<>=/\"'!?]{1,1024})")


async def _in_own_thread(work: Callable[[], Inspection]) -> Inspection:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Inspection] = loop.create_future()

    def tell(result: Inspection) -> None:
        if not future.done():  # whoever asked may have gone
            future.set_result(result)

    def run() -> None:
        result = work()
        loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=run, name="inspection", daemon=True).start()
    return await future


def inspect(  # noqa: PLR0913 - one call, each of its facts by name
    content: bytes,
    catalogue: Catalogue,
    *,
    limits: Limits,
    today: date,
    schema_only: bool = False,
    profiles: Profiles | None = None,
    profile: str | ProfileOf | None = None,
    lenient: bool = False,
    parser: etree.XMLParser | None = None,
) -> Inspection:
    """Read, validate and check a message; never raises for what the bytes hold.

    profile: name of the profile that judges it, or what names one once the definition is known; otherwise the header
    chooses, and without its word `generic` it is. Raises ConfigError for a name that `profiles` does not have.
    lenient: namespaces that were declared and then not used are mended, and told as warnings.
    """
    envelope = envelopes.read(content, limits, lenient=lenient, parser=parser)
    original = fields.extract_any(envelope)
    chosen = _choose(profiles or Profiles.load(), envelope, original, profile)
    technical, judged = _technical(envelope, catalogue, None if chosen is None else chosen.name, lenient=lenient)
    if schema_only and envelope.header is not None:  # a header by itself has a schema, though it is no message
        technical = tuple(finding for finding in technical if finding.rule != "envelope.no_document")
    sound = original is not None and not any(finding.severity is Severity.ERROR for finding in technical)
    business: tuple[Finding, ...] = ()
    edition = None
    if original is not None and chosen is not None and sound and not schema_only:
        edition, business = _business(envelope, original, chosen, today)
    definition = envelope.definition
    return Inspection(
        content=content,
        digest=sha256(content).digest(),
        definition=definition,
        header_definition=envelope.header_definition,
        original=original,
        technical=technical,
        business=business,
        judged=judged,
        is_answer=envelope.is_report or (definition is not None and answers.is_answer(definition)),
        is_usable=original is not None and answers.has_usable_original(original),
        answer=None if definition is None else answer_for(definition, chosen, today),
        enquiry=None if definition is None else enquiry_for(definition, chosen, today),
        profile=None if chosen is None else chosen.name,
        edition=edition,
        practice=practice_of(chosen, today),
    )


def _choose(
    profiles: Profiles, envelope: Envelope, original: Original | None, named: str | ProfileOf | None
) -> Profile | None:
    """The profile that judges; None where there is no message to be judged."""
    if original is None or not original.definition:
        return None
    return profiles.choose(original, named=named(envelope.definition) if callable(named) else named)


def _business(
    envelope: Envelope, original: Original, profile: Profile, today: date
) -> tuple[str | None, tuple[Finding, ...]]:
    """The profile's edition that judged, and its findings."""
    edition, findings = profile.judge(original, today=today, document=envelope.document, header=envelope.header)
    return edition.name or None, envelopes.pinpoint(envelope, findings) if findings else ()


def practice_of(profile: Profile | None, today: date) -> Practice:
    """What the profile says of clocks, doubles and answers on that day."""
    if profile is None:
        return Practice()
    starts = ClockStart.RECEIVED if profile.sla_fact is None else profile.sla_fact.starts
    return Practice(
        duplicate_keys=profile.duplicate_keys,
        duplicate_reason=None if profile.duplicates is None else profile.duplicates.reason,
        untreatable=frozenset() if profile.untreatable is None else frozenset(profile.untreatable.when),
        clock=None if starts is ClockStart.RECEIVED else starts,
        forms=dict(profile.forms(today)),
    )


def answer_for(definition: str, profile: Profile | None, today: date) -> str | None:
    """The version of the status report: the profile's, where it names one that we can write."""
    usual = answers.answer_definition(definition)
    if usual is None or profile is None:
        return usual
    named = profile.answer_definition(definition, today)
    return named if named is not None and named in answers.SHAPES and named[:8] == usual[:8] else usual


def enquiry_for(definition: str, profile: Profile | None, today: date) -> str | None:
    """Likewise of the answer to a request about other messages."""
    usual = answers.enquiry_definition(definition)
    if usual is None or profile is None:
        return usual
    named = profile.answer_definition(definition, today)
    if named is None or named[:8] != usual[:8]:
        return usual
    return named if named in answers.RESOLUTIONS or named in answers.SHAPES else usual


def uninspected(content: bytes, failure: str) -> Inspection:
    """What is known of a message that we failed to look at."""
    return Inspection(
        content=content,
        digest=sha256(content).digest(),
        definition=None,
        header_definition=None,
        original=None,
        technical=(),
        business=(),
        judged=False,
        is_answer=False,
        is_usable=False,
        answer=None,
        failure=failure,
    )


def _technical(
    envelope: Envelope, catalogue: Catalogue, profile: str | None, *, lenient: bool
) -> tuple[tuple[Finding, ...], bool]:
    """Findings of reading and of the schemas, and whether every part had a schema.

    lenient: what is wrong in the header, which moves no money, is told and keeps nothing from going on. Likewise, for
    all, what a network is known to write otherwise than the standard.
    """
    findings = envelope.findings
    judged = True
    parts = ((envelope.header_definition, envelope.header), (envelope.definition, envelope.document))
    for definition, element in parts:
        if definition is None or element is None:
            continue
        if catalogue.knows(definition):
            found = catalogue.validate(definition, element, profile)
            if element is envelope.header:
                eased = wrappers.eased(envelope.kind)
                found = tuple(
                    replace(finding, severity=Severity.WARNING)
                    if lenient or finding.xpath.rpartition("/")[2] in eased
                    else finding
                    for finding in found
                )
            findings += found
        else:
            judged = False
            findings += (catalogue.unknown(definition, envelopes.path_of(element)),)
    return findings, judged
