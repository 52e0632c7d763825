"""What a status request, a cancellation or an investigation refers to. Pure.

Owns: which originals a request names, level by level. Must not know: whether there are such.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from lxml import etree
from msgspec import structs

from interlock.iso20022.envelopes import line_of, local_name
from interlock.iso20022.original import Level, Party, Reference
from interlock.iso20022.records import TABLES, Fields, Record, compile_record, paths

#: More than this a request can ask for only in several messages: each is looked up in the ledger.
REFERENCES_MAX: Final = 1000


class _Layout(NamedTuple):
    """Where a family has its references; `data/fields.toml` explains each field."""

    around: Sequence[str] = ()
    message: str | None = None
    block: str | None = None
    payments: Sequence[str] = ()


_LAYOUTS: Final = {name: _Layout(**layout) for name, layout in TABLES["references"].items()}


@lru_cache(maxsize=64)
def _record(namespace: str) -> Record:
    return compile_record(namespace, paths("reference"))


class _Case(NamedTuple):
    """Whose case it is, said for the whole request."""

    case_id: str | None
    creator: Party | None


def has_references(definition: str) -> bool:
    """True for requests about other messages."""
    return definition[:8] in _LAYOUTS


def read(body: etree._Element, definition: str, message: Fields, xpath: str) -> tuple[tuple[Reference, ...], bool]:
    """The references of a request whose own fields are `message`, and whether there are more than are read."""
    walk = _Walk(body, _LAYOUTS[definition[:8]], _Case(message.text("case_id"), message.party("case_creator")))
    found = [
        structs.replace(reference, ordinal=place)
        for place, reference in enumerate(islice(walk.references(body, xpath), REFERENCES_MAX + 1), 1)
    ]
    return tuple(found[:REFERENCES_MAX]), walk.is_cut or len(found) > REFERENCES_MAX


#: A camt.087 has room for some two dozen.
_MODIFICATIONS_MAX: Final = 50


def modifications(body: etree._Element, definition: str) -> tuple[str, ...]:
    """What a request to modify a payment wants modified: names of elements, in order."""
    if definition[:8] != "camt.087":
        return ()
    wanted = body.find(body.tag.rpartition("}")[0] + "}Mod")
    return () if wanted is None else tuple(local_name(child) for child in islice(wanted, _MODIFICATIONS_MAX))


class _Walk:
    """Goes through the references of one request, no further than they are asked for."""

    def __init__(self, body: etree._Element, layout: _Layout, case: _Case) -> None:
        prefix = body.tag.rpartition("}")[0] + "}"
        self._around = tuple(prefix + name for name in layout.around)
        self._message = () if layout.message is None else (prefix + layout.message,)
        self._block = () if layout.block is None else (prefix + layout.block,)
        self._payments = tuple(prefix + name for name in layout.payments)
        self._case = case
        #: Something had more elements of a kind than are read.
        self.is_cut = False

    def references(self, element: etree._Element, path: str, depth: int = 0) -> Iterator[Reference]:
        """All of them, in the order of the message but for messages and blocks, which come before their payments."""
        if depth == len(self._around):
            yield from self._within(element, path)
            return
        for place, child in enumerate(element.iterchildren(self._around[depth]), 1):
            yield from self.references(child, f"{path}/{local_name(child)}[{place}]", depth + 1)

    def _within(self, container: etree._Element, path: str) -> Iterator[Reference]:
        """Messages that are meant as a whole, then blocks, then payments.

        A message or block is meant as a whole where it says so; where it does not say, if nothing in it is named.
        """
        messages = [
            _reference(child, below, Level.MESSAGE, self._case, None)
            for child, below in self._children(container, path, self._message)
        ]
        # Of several messages, which one a payment is in that does not say it is not known.
        above = messages[0] if len(messages) == 1 else None
        blocks = [
            (child, below, _reference(child, below, Level.BLOCK, self._case, above))
            for child, below in self._children(container, path, self._block)
        ]
        payments = list(self._read_payments(container, path, above))
        named = {one.message_id for one in payments} | {block.message_id for _, _, block in blocks}
        yield from (one for one in messages if _is_meant(one, is_named=one.message_id in named))
        for element, below, block in blocks:
            inside = self._read_payments(element, below, block)
            first = next(inside, None)
            if _is_meant(block, is_named=first is not None):
                yield block
            if first is not None:
                yield first
                yield from inside
        yield from payments

    def _read_payments(self, element: etree._Element, path: str, above: Reference | None) -> Iterator[Reference]:
        for child, below in self._children(element, path, self._payments):
            yield _reference(child, below, Level.PAYMENT, self._case, above)

    def _children(
        self, element: etree._Element, path: str, tags: Sequence[str]
    ) -> Iterator[tuple[etree._Element, str]]:
        """The children of these names, with their paths."""
        counts = dict.fromkeys(tags, 0)
        for child in element if tags else ():
            count = counts.get(child.tag)
            if count is None:
                continue
            if count == REFERENCES_MAX:
                self.is_cut = True
                return
            counts[child.tag] = count + 1
            yield child, f"{path}/{local_name(child)}[{count + 1}]"


def _is_meant(one: Reference, *, is_named: bool) -> bool:
    return not is_named if one.whole is None else one.whole


def _reference(element: etree._Element, path: str, level: Level, case: _Case, above: Reference | None) -> Reference:
    """One reference; of which message it is, the one above says where it does not say so itself."""
    fields = Fields(element, _record(element.tag.rpartition("}")[0][1:]))
    text, word = fields.text, fields.word
    message_id, definition, created_at = text("message_id"), word("definition"), word("created_at")
    block_id = text("payment_information_id")
    if above is not None:
        block_id = block_id or above.payment_information_id
        if message_id is None:
            message_id, definition, created_at = above.message_id, above.definition, above.created_at
    case_id, creator = text("case_id"), fields.party("case_creator")
    if case_id is None:
        case_id, creator = (above.case_id, above.case_creator) if above is not None else case
    code, whole = word("reason"), word("whole")
    return Reference(
        ordinal=0,
        level=level,
        xpath=path,
        line=line_of(element),
        element=local_name(element),
        own_id=text("own_id"),
        case_id=case_id,
        case_creator=creator,
        message_id=message_id,
        definition=definition,
        created_at=created_at,
        payment_information_id=block_id,
        instruction_id=text("instruction_id"),
        end_to_end_id=text("end_to_end_id"),
        transaction_id=text("transaction_id"),
        uetr=word("uetr"),
        amount=word("amount"),
        currency=text("amount.currency"),
        settlement_date=word("settlement_date"),
        reason=code or (above.reason if above is not None and text("proprietary_reason") is None else None),
        proprietary_reason=text("proprietary_reason"),
        whole=None if whole is None else whole in ("true", "1"),
        number_of_transactions=word("number_of_transactions"),
        control_sum=word("control_sum"),
    )
