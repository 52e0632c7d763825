"""Where an element stands: its path in the manner of findings, and the payments that it concerns. Pure.

Made only for a message that has a fault. Positions among siblings are counted once for each parent, so that a message
with a hundred thousand faults costs no more than a hundred thousand steps.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from lxml import etree

from interlock.iso20022.original import Original, OriginalPayment
from interlock.iso20022.rules.rule import Place

#: Payments and the blocks around them always carry their position, as in `Original`; others where there are several.
_NUMBERED: Final = frozenset(
    {"CdtTrfTxInf", "DrctDbtTxInf", "TxInf", "PmtInf", "CdtInstr", "PmtTx", "CdtTrfTx", "OrgnlPmtInfAndRvsl"}
)


class Places:
    """Places in one document."""

    def __init__(self, original: Original, document: etree._Element) -> None:
        self._payments = {payment.xpath: payment for payment in original.payments}
        self._blocks: dict[str, list[OriginalPayment]] | None = None
        self._base = original.xpath
        body = next(iter(document), None)
        self._paths: dict[etree._Element, str] = {document: original.xpath.rpartition("/")[0]}
        if body is not None:
            self._paths[body] = original.xpath

    def at(self, element: etree._Element, path: str) -> Iterator[Place]:
        """The place by a path from an element: once for each payment that it concerns, or once for the message.

        What stands in a block beside its payments is wrong for each of them, and for no other.
        """
        xpath = self.path_of(element)
        line: int | None = element.sourceline  # type: ignore[assignment] # the stubs give it no type
        whole = f"{xpath}/{path}" if path else xpath
        concerned = self._concerned(xpath)
        if not concerned:
            yield Place(whole, line)
        for payment in concerned:
            yield Place(whole, line, payment.ordinal)

    def path_of(self, element: etree._Element) -> str:
        """The path of an element from the root of the bytes received."""
        known = self._paths.get(element)
        if known is not None:
            return known
        parent = element.getparent()
        if parent is None:
            return f"/{_local(element.tag)}"
        self._number(parent)
        return self._paths[element]

    def _number(self, parent: etree._Element) -> None:
        """Work out the paths of all children at once."""
        above = self.path_of(parent)
        names = [(child, _local(child.tag)) for child in parent.iterchildren("*")]
        totals = Counter(name for _, name in names)
        seen: Counter[str] = Counter()
        for child, name in names:
            seen[name] += 1
            is_numbered = totals[name] > 1 or name in _NUMBERED
            self._paths[child] = f"{above}/{name}[{seen[name]}]" if is_numbered else f"{above}/{name}"

    def _concerned(self, xpath: str) -> list[OriginalPayment]:
        """The payments that an element belongs to: the one it is in, those of its block, or none."""
        steps = xpath.removeprefix(self._base).split("/", 3)[1:3]
        if not self._payments or not steps:
            return []
        block = f"{self._base}/{steps[0]}"
        payment = self._payments.get(block) or self._payments.get(f"{block}/{steps[-1]}")
        if payment is not None:
            return [payment]
        if self._blocks is None:
            self._blocks = {}
            for each in self._payments.values():
                self._blocks.setdefault(each.xpath.rpartition("/")[0], []).append(each)
        return self._blocks.get(block, [])


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
