"""All that can be said of a message from its bytes alone: the facts that the stages judge.

Joins what the pure modules must not: schemas are compiled and cached on disk, so their verdicts come in here as facts.
"""

import asyncio
import re
import threading
from collections.abc import Callable
from datetime import date
from hashlib import sha256

import structlog
from lxml import etree

from interlock.iso20022 import answers, envelopes, fields, rules
from interlock.iso20022.envelopes import Envelope, Limits
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.schemas import Catalogue
from interlock.stages.facts import Inspection


class Inspector:
    """Looks at messages for a server: small ones at once, the others where they hold nobody up.

    libxml2 keeps every element and attribute name it meets for as long as the thread that met it lives. The standard's
    names are few; a client that invents new ones in each message would fill the memory. So the names in refused
    messages are counted, and once there are too many each message is read in a thread of its own, which takes its
    names with it. Large messages are read so always: a megabyte holds a hundred thousand names.
    """

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        self._catalogue = catalogue
        self._limits = limits
        # A tree is some twenty times its text: few large ones at once.
        self._large = asyncio.Semaphore(2)
        self._names: set[bytes] = set()
        self._names_bytes = 0

    async def inspect(self, content: bytes, today: date, *, schema_only: bool = False) -> Inspection:
        """As the function `inspect`; what we fail to look at comes back as such, for it must not be lost."""
        if len(content) <= _LARGE_BYTES and self._names_bytes <= _NAMES_BYTES_MAX:
            return self._look(content, today, schema_only=schema_only, parser=None)
        async with self._large:
            return await _in_own_thread(
                lambda: self._look(content, today, schema_only=schema_only, parser=envelopes.new_parser())
            )

    def _look(self, content: bytes, today: date, *, schema_only: bool, parser: etree.XMLParser | None) -> Inspection:
        try:
            inspection = inspect(
                content, self._catalogue, limits=self._limits, today=today, schema_only=schema_only, parser=parser
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


def inspect(
    content: bytes,
    catalogue: Catalogue,
    *,
    limits: Limits,
    today: date,
    schema_only: bool = False,
    parser: etree.XMLParser | None = None,
) -> Inspection:
    """Read, validate and check a message; never raises for what the bytes hold."""
    envelope = envelopes.read(content, limits, parser=parser)
    technical, judged = _technical(envelope, catalogue)
    if schema_only and envelope.header is not None:  # a header by itself has a schema, though it is no message
        technical = tuple(finding for finding in technical if finding.rule != "envelope.no_document")
    original = None if envelope.document is None or envelope.definition is None else fields.extract(envelope)
    sound = original is not None and not any(finding.severity is Severity.ERROR for finding in technical)
    business: tuple[Finding, ...] = ()
    if original is not None and sound and not schema_only:
        business = rules.check(original, today=today)
        if business:
            business = envelopes.pinpoint(envelope, business)
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
        is_answer=definition is not None and answers.is_answer(definition),
        is_usable=original is not None and answers.has_usable_original(original),
        answer=None if definition is None else answers.answer_definition(definition),
    )


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


def _technical(envelope: Envelope, catalogue: Catalogue) -> tuple[tuple[Finding, ...], bool]:
    """Findings of reading and of the schemas, and whether every part had a schema."""
    findings = envelope.findings
    judged = True
    parts = ((envelope.header_definition, envelope.header), (envelope.definition, envelope.document))
    for definition, element in parts:
        if definition is None or element is None:
            continue
        if catalogue.knows(definition):
            findings += catalogue.validate(definition, element)
        else:
            judged = False
            findings += (_unknown(definition, envelopes.path_of(element)),)
    return findings, judged


def _unknown(definition: str, xpath: str) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        rule="definition.unknown",
        reason="FF01",
        xpath=xpath,
        line=None,
        text=f"there is no schema for {definition} here; see the list of definitions, or put its XSD into the folder "
        "of your own schemas",
    )
