"""Messages received, read again as the server read them; for audits of what it made of them.

Without the limits of any server: what one refused by its own is known from its events, and is not to be read.
"""

from typing import NamedTuple

from lxml import etree

from interlock.iso20022 import answers, envelopes, fields
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.original import Original, OriginalPayment
from interlock.transaction import Event

#: Wider than any that a server can have.
WIDEST = Limits(bytes_max=1 << 40, depth_max=256, nodes_max=1 << 40)
_LIMITS = ("xml.size", "xml.nodes", "xml.depth")


class Message(NamedTuple):
    """A message received, read again; without an original it could not be read."""

    definition: str | None = None
    original: Original | None = None

    @property
    def payments(self) -> tuple[OriginalPayment, ...]:
        """Those that it holds; none where it could not be read."""
        return () if self.original is None else self.original.payments

    @property
    def is_answer(self) -> bool:
        """Whether it reports on other messages, so that it is not answered itself."""
        return self.definition is not None and answers.is_answer(self.definition)


def read_again(content: bytes, parser: etree.XMLParser | None = None) -> Message:
    """What a message says; nothing where it cannot be read.

    parser: the calling thread's own; the names in a message stay in memory as long as the thread that met them.
    """
    try:
        envelope = envelopes.read(content, WIDEST, parser=parser)
        if envelope.document is None or envelope.definition is None:
            return Message(envelope.definition)
        return Message(envelope.definition, fields.extract(envelope))
    except Exception:  # noqa: BLE001 - as the server: what we fail to look at is told as such
        return Message()


def is_limit(event: Event) -> bool:
    """Whether a message was refused for what was beyond a server's limits, so that it was not read."""
    listed = event.detail.get("findings")
    return isinstance(listed, list) and any(isinstance(each, dict) and each.get("rule") in _LIMITS for each in listed)
