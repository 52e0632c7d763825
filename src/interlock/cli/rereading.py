"""Messages received, read again as the server read them; for audits of what it made of them.

Without the limits of any server: what one refused by its own is known from its events, and is not to be read.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lxml import etree

from interlock.iso20022 import answers, envelopes, fields
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.original import Original, OriginalPayment
from interlock.transaction import Event

#: Wider than any that a server can have.
WIDEST = Limits(bytes_max=1 << 40, depth_max=256, nodes_max=1 << 40)
_LIMITS = ("xml.size", "xml.nodes", "xml.depth")
_MENDED = ("envelope.namespace", "warning")


class Message(NamedTuple):
    """A message received, read again; without a definition it could not be read."""

    definition: str | None = None
    #: As the server has it: where there is no message, what stood around one.
    original: Original | None = None
    #: A report about a message that was sent before, in place of one.
    is_report: bool = False

    @property
    def payments(self) -> tuple[OriginalPayment, ...]:
        """Those that it holds; none where it could not be read."""
        return () if self.original is None else self.original.payments

    @property
    def is_answer(self) -> bool:
        """Whether it reports on other messages, so that it is not answered itself."""
        return self.is_report or (self.definition is not None and answers.is_answer(self.definition))

    @property
    def is_about_others(self) -> bool:
        """Whether it asks about other messages, or for nothing: what it is answered tells of no payment in it."""
        name = self.definition or ""
        return answers.enquiry_definition(name) is not None or answers.receipt_definition(name) is not None


def read_again(content: bytes, parser: etree.XMLParser | None = None, *, lenient: bool = False) -> Message:
    """What a message says; nothing where it cannot be read.

    lenient: the server has read it so (`is_lenient`).
    parser: the calling thread's own; the names in a message stay in memory as long as the thread that met them.
    """
    try:
        envelope = envelopes.read(content, WIDEST, lenient=lenient, parser=parser)
        return Message(envelope.definition, fields.extract_any(envelope), envelope.is_report)
    except Exception:  # noqa: BLE001 - as the server: what we fail to look at is told as such
        return Message()


def is_limit(event: Event) -> bool:
    """Whether a message was refused for what was beyond a server's limits, so that it was not read."""
    return any(finding.get("rule") in _LIMITS for finding in _findings(event))


def is_lenient(event: Event) -> bool:
    """Whether a message was read as it was meant: what was wrong with its namespaces was mended, and told."""
    return any((each.get("rule"), each.get("severity")) == _MENDED for each in _findings(event))


def _findings(event: Event) -> Iterator[Mapping[str, object]]:
    """What an event tells of its message, as far as it can be read."""
    listed = event.detail.get("findings")
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict):
            yield each
