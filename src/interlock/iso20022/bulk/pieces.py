"""Cutting a message into pieces while it is parsed, each a small message of its own. No judgement here.

A piece is a contiguous part of the file with what stands above it repeated: the group header, and in a block (PmtInf)
the fields of the block. Pieces are cut between two payments only. A content model that may repeat a payment is in the
same state before and after each, so a message is valid exactly when its pieces are, the last being what remains at the
end of the file, with all that follows the payments. Where something else stands between the two payments at a cut, the
later one is shown to the earlier piece too, as a witness that something follows.

What the parser has not finished is never touched: its last element stays in the tree, since text may still be growing
behind it.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from lxml import etree

from interlock.iso20022.bulk.recognising import Layout
from interlock.iso20022.envelopes import local_name


class Offsets(NamedTuple):
    """Where the first block and payment of a piece stand in the whole message, from 0."""

    #: Payments before this piece.
    payments: int
    #: Blocks before the first one of this piece.
    blocks: int
    #: Payments that the first block of this piece had in earlier ones.
    in_block: int


class Piece(NamedTuple):
    """A part of the message as a document of its own."""

    document: etree._Element
    offsets: Offsets
    #: Positions of what is only a witness, by block and payment as far as there are; it is judged with the next piece.
    witness: tuple[int, ...] = ()
    #: Position of the block that goes on in the next piece.
    open_block: int | None = None
    #: It is what remains at the end: whatever is missing in it is missing.
    is_last: bool = False


class Cutter:
    """Takes finished payments out of a tree that is still growing."""

    def __init__(self, layout: Layout) -> None:
        self._payment = layout.payment
        self._block = layout.block
        #: Where the tree that is left begins.
        self.offsets = Offsets(0, 0, 0)

    def is_payment(self, element: etree._Element, document: etree._Element | None) -> bool:
        """Whether an element that has a payment's name stands where the payments of this document stand."""
        if document is None:
            return False
        body = element.getparent()
        if body is not None and self._block is not None:
            body = body.getparent() if body.tag == self._block else None
        return body is not None and body.getparent() is document and body.getprevious() is None

    def cut(self, last: etree._Element) -> Piece | None:
        """Everything before a payment, as a piece; None where there is no payment before it."""
        container = last.getparent()
        assert container is not None  # `is_payment` said where it stands
        if self._block is None:
            return self._cut_flat(container, last)
        return self._cut_blocks(container, last)

    def rest(self, document: etree._Element) -> Piece:
        """What is left once the file has ended."""
        return Piece(document, self.offsets, is_last=True)

    def _cut_flat(self, body: etree._Element, last: etree._Element) -> Piece | None:
        before, moving = _parted(body, last, self._payment)
        if not moving:
            return None
        offsets, count = self.offsets, _count(moving, self._payment)
        shell = _shell(body, before)
        shell.extend(moving)
        witness: tuple[int, ...] = ()
        if shell[-1].tag != self._payment:
            shell.append(_witness(last))
            witness = (_position(shell[-1]),)
        self.offsets = Offsets(offsets.payments + count, 0, 0)
        return Piece(_root(shell), offsets, witness)

    def _cut_blocks(self, block: etree._Element, last: etree._Element) -> Piece | None:
        body = block.getparent()
        assert body is not None  # as above
        before, blocks = _parted(body, block, self._block)
        moving = _parted(block, last, self._payment)[1]
        if not moving and not blocks:
            return None
        offsets, whole = self.offsets, _count(blocks, self._block)
        here, elsewhere = _count(moving, self._payment), sum(_count(each, self._payment) for each in blocks)
        shell = _shell(body, before)
        shell.extend(blocks)
        witness: tuple[int, ...] = ()
        open_block = None
        if moving:
            part = self._part(shell, block, last, moving)
            open_block = _position(part)
            if part[-1].tag != self._payment:
                part.append(_witness(last))
                witness = (open_block, _position(part[-1]))
        elif shell[-1].tag != self._block:
            part = self._part(shell, block, last, moving)
            part.append(_witness(last))
            witness = (_position(part),)
        self.offsets = Offsets(
            payments=offsets.payments + elsewhere + here,
            blocks=offsets.blocks + whole,
            in_block=here if whole else here + offsets.in_block,
        )
        return Piece(_root(shell), offsets, witness, open_block)

    def _part(
        self, shell: etree._Element, block: etree._Element, last: etree._Element, moving: list[etree._Element]
    ) -> etree._Element:
        """The block again, with the payments that go into the piece."""
        part = _again(block, shell)
        if block.text and not block.text.isspace():
            part.text = block.text
        # The fields themselves go into this piece, for they know their lines; copies stay for the next.
        own = list(block)
        own = own[: own.index(moving[0] if moving else last)]
        copies = [copy.deepcopy(field) for field in own]
        part.extend(own)
        part.extend(moving)
        block[0:0] = copies
        return part


def _count(elements: Iterable[etree._Element], tag: str | None) -> int:
    return sum(1 for element in elements if element.tag == tag)


#: libxml2 keeps higher lines elsewhere, and finds them by this one.
_LINE_MAX: Final = 65_535


def _parted(
    parent: etree._Element, last: etree._Element, tag: str | None
) -> tuple[Sequence[etree._Element], list[etree._Element]]:
    """The children before the first one of this name, and from there up to `last`, without it."""
    children = list(parent)
    first = next(place for place, child in enumerate(children) if child.tag == tag)
    return children[:first], children[first : children.index(last, first)]


def _shell(body: etree._Element, before: Sequence[etree._Element]) -> etree._Element:
    """The Document and the element inside it again, with what stands before the payments."""
    document = body.getparent()
    assert document is not None  # the body is inside it
    root = _again(document, None)
    shell = _again(body, root)
    root.text, shell.text = document.text, body.text
    shell.extend([copy.deepcopy(each) for each in before])
    return shell


def _again(element: etree._Element, parent: etree._Element | None) -> etree._Element:
    """An element with the same name, attributes, namespaces and line, and nothing in it."""
    try:
        made = _made(element, parent, _attributes(element), element.nsmap)
    except ValueError:
        # lxml reads namespaces that are no URI, and names such as `:`, but makes none. An attribute of that kind is an
        # error, which the last piece shows, for that has the element itself.
        own: dict[str | None, str] = {element.prefix: element.tag.rpartition("}")[0][1:]}
        made = _made(element, parent, {}, own)
        for name, value in _attributes(element).items():
            with suppress(ValueError):
                made.set(name, value)
    line: Any = element.sourceline  # the stubs give it no type
    made.sourceline = min(line or 0, _LINE_MAX)  # type: ignore[assignment]
    return made


def _made(
    element: etree._Element, parent: etree._Element | None, attributes: dict[str, str], nsmap: Mapping[Any, str]
) -> etree._Element:
    if parent is None:
        return etree.Element(element.tag, attributes, nsmap)
    return etree.SubElement(parent, element.tag, attributes, nsmap)


def _attributes(element: etree._Element) -> dict[str, str]:
    return {str(name): str(value) for name, value in element.attrib.items()}


def _position(element: etree._Element) -> int:
    """Among all of this name, whatever their namespace: so findings of schemas count."""
    return 1 + sum(1 for _ in element.itersiblings(f"{{*}}{local_name(element)}", preceding=True))


def _witness(payment: etree._Element) -> etree._Element:
    witness = copy.deepcopy(payment)
    witness.tail = None
    return witness


def _root(body: etree._Element) -> etree._Element:
    root = body.getparent()
    assert root is not None  # made so
    return root
