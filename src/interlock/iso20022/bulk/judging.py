"""Judging a message that is read in pieces, by the same schemas, fields and rules as one that is read whole.

What concerns a payment is judged in its piece. What concerns the message is judged once, at its end, over all payments.
Findings in a piece name places in it; here they become places in the file.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Final, Protocol

from lxml import etree
from msgspec import Struct, structs

from interlock.iso20022 import rules
from interlock.iso20022.bulk.pieces import Offsets, Piece
from interlock.iso20022.bulk.recognising import Layout
from interlock.iso20022.bulk.spool import Spool
from interlock.iso20022.bulk.tally import Tally
from interlock.iso20022.envelopes import Envelope
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Original, OriginalPayment, PaymentGroup
from interlock.iso20022.rules.checking import Settings, holding


class FurtherCheck(Protocol):
    """What a profile demands beside the rules."""

    def __call__(
        self,
        original: Original,
        *,
        today: date,
        document: etree._Element | None,
        header: etree._Element | None,
    ) -> tuple[Finding, ...]:
        """What is wrong with a message; a finding that concerns one payment names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """By what a message is judged, beside the schemas."""

    today: date
    settings: Settings | None = None
    #: Also this; it sees pieces, and at the end the message without its payments. What it says of payments counts from
    #: the pieces, what it says of the message from the end.
    further: FurtherCheck | None = None
    #: Name of the profile whose restricted schemas judge too, and of its edition; None: no profile.
    profile: str | None = None
    edition: str | None = None
    #: Older editions of that profile that are in force as well: where this one finds errors, they may find none.
    others: int = 0
    #: The bounds that `further` sets to numbers of elements: one more than that it has to be shown together.
    bounds: frozenset[int] = frozenset()

    def of_piece(self, original: Original, envelope: Envelope) -> Iterator[Finding]:
        """What is wrong with the payments in a piece, in its own places."""
        settings = _narrowed(_frozen(self.settings), _OF_MESSAGE)
        yield from rules.check(original, today=self.today, document=envelope.document, settings=settings)
        if self.further is not None:
            yield from self.further(original, today=self.today, document=envelope.document, header=None)

    def of_elements(self, original: Original, envelope: Envelope, count: int) -> Iterator[Finding]:
        """What is wrong with the elements around the payments.

        original, envelope: of the last piece, which is changed. count: of the payments in the whole message.
        """
        document, header = envelope.document, envelope.header
        # With all rules, for a particular one keeps a wider one quiet; the rules on the message are asked elsewhere.
        findings = rules.check(original, today=self.today, document=document, header=header, settings=self.settings)
        yield from (finding for finding in findings if finding.rule not in _OF_MESSAGE)
        if self.further is not None:
            yield from self.further(original, today=self.today, document=document, header=header)
            wanted = max((bound + 1 for bound in self.bounds if bound < count), default=0)
            if document is not None and len(original.payments) < wanted:
                _fill(document, original, wanted)
                found = self.further(original, today=self.today, document=document, header=header)
                yield from (finding for finding in found if finding.rule == _COUNT)

    def of_message(self, original: Original, payments: Spool[OriginalPayment], tally: Tally) -> Iterator[Finding]:
        """What is wrong with the message as a whole, and with payments because of others.

        original: with its payments and groups read back from disk. One rule after the other, so that the findings of
        one alone are in memory, of which there may be as many as payments.
        """
        for rule in holding(original.definition, self.today, self.settings):
            if rule.message_check is not None and not tally.proves(rule.id, original):
                seen = original
                if rule.id in _OF_BLOCKS:
                    seen = structs.replace(original, payments=_Viewed(payments, _Counted))
                yield from (_finding(rule, place) for place in rule.message_check(seen, self.today))


#: What a profile says of a message with too many payments.
_COUNT: Final = "profile.count"


def _fill(document: etree._Element, original: Original, count: int) -> None:
    """Have so many payments in a document, as far as they are counted: those that are added are empty."""
    if not original.payments:
        return
    name = original.payments[-1].xpath.rpartition("/")[2].partition("[")[0]
    last = [element for element in document.iter(f"{{*}}{name}") if element.getparent() is not None][-1]
    parent = last.getparent()
    assert parent is not None  # a payment is no root
    for _ in range(count - len(original.payments)):
        etree.SubElement(parent, last.tag)


_OF_MESSAGE: Final = frozenset(name for name, rule in rules.RULES.items() if rule.message_check is not None)
#: Rules that hold the payments of a block in memory together, of which they need little.
_OF_BLOCKS: Final = frozenset({"count.block", "sum.block"})


def _frozen(settings: Settings | None) -> frozenset[tuple[str, Severity | None]]:
    return frozenset((settings or {}).items())


# The rules remember what follows from settings, by identity: so equal ones are made once.
@lru_cache(maxsize=64)
def _narrowed(settings: frozenset[tuple[str, Severity | None]], without: frozenset[str]) -> Settings:
    return dict(settings) | dict.fromkeys(without)


def _finding(rule: rules.Rule, place: rules.Place) -> Finding:
    return Finding(
        severity=rule.severity,
        rule=rule.id,
        reason=rule.reason,
        xpath=place.xpath,
        line=place.line,
        text=rule.text,
        payment=place.payment,
    )


class _Counted(Struct, frozen=True, kw_only=True):
    """What counts and sums of blocks need of a payment."""

    ordinal: int
    group: int | None
    amount: str | None
    amount_is_equivalent: bool


class _Viewed(Sequence[OriginalPayment]):
    """Payments read back with few of their fields; a stand-in for those rules alone that ask for no others."""

    def __init__(self, payments: Spool[OriginalPayment], view: type[_Counted]) -> None:
        self._payments = payments
        self._view = view

    def __len__(self) -> int:
        """All of them."""
        return len(self._payments)

    def __iter__(self) -> Iterator[OriginalPayment]:
        """In the order of the file."""
        return self._payments.viewed(self._view)  # type: ignore[arg-type] # says what it is above

    def __getitem__(self, index: int | slice) -> OriginalPayment:  # type: ignore[override] # one is what is asked for
        return self._payments[index]  # type: ignore[return-value] # likewise


class Read(Struct, frozen=True):
    """The fields of a piece, with the places in the file."""

    groups: tuple[PaymentGroup, ...]
    payments: tuple[OriginalPayment, ...]


def envelope_of(piece: Piece, definition: str) -> Envelope:
    """A piece as a message without header and wrapper."""
    return Envelope(wrapper=None, header=None, document=piece.document, header_definition=None, definition=definition)


class Places:
    """From places in pieces to places in the file."""

    def __init__(self, body: str, layout: Layout) -> None:
        """body: path of the element inside Document."""
        self.body = body
        names = [tag.rpartition("}")[2] for tag in (layout.block, layout.payment) if tag is not None]
        self._steps = [(name, re.compile(rf"/{name}(?:\[(\d+)\])?(?=/|\Z)")) for name in names]

    def of_fields(self, original: Original, piece: Piece) -> Read:
        """The groups that begin in a piece, and its payments."""
        offsets, witness = piece.offsets, piece.witness
        payments = original.payments[:-1] if witness else original.payments
        # A group that began earlier was told then, and one that begins with a witness is told later.
        begun = 1 if offsets.in_block else 0
        groups = original.groups[begun : len(original.groups) - (len(witness) < len(self._steps) and bool(witness))]
        base = original.xpath
        return Read(
            tuple(structs.replace(group, xpath=self._moved(group.xpath, base, offsets)) for group in groups),
            tuple(
                structs.replace(
                    payment,
                    ordinal=payment.ordinal + offsets.payments,
                    group=None if payment.group is None else payment.group + offsets.blocks,
                    xpath=self._moved(payment.xpath, base, offsets),
                )
                for payment in payments
            ),
        )

    def of_findings(self, findings: Iterable[Finding], original: Original, piece: Piece) -> Iterator[Finding]:
        """Those that name a payment of the piece's own, or are in a block of it that has none."""
        witness = original.payments[-1].ordinal if piece.witness else None
        filled: set[tuple[int, ...]] | None = None
        for finding in findings:
            payment = finding.payment
            if payment is None:
                # What is around the payments the last piece has, too; where there are some each has its own finding.
                block = self._split(finding.xpath, original.xpath)[0][:1]
                if piece.is_last or not block or len(self._steps) == 1:
                    continue
                if filled is None:
                    filled = {self._split(one.xpath, original.xpath)[0][:1] for one in original.payments}
                if block in filled:
                    continue
            elif payment != witness:
                payment += piece.offsets.payments
            else:
                continue
            yield replace(finding, xpath=self._moved(finding.xpath, original.xpath, piece.offsets), payment=payment)

    def of_rest(self, findings: Iterable[Finding], original: Original, cut: Offsets) -> Iterator[Finding]:
        """What was found in what remains at the end, which has lost blocks and payments before it.

        Where there are too many payments is not found in it, but counted.
        """
        for finding in findings:
            is_counted = finding.rule == _COUNT
            yield finding if is_counted else replace(finding, xpath=self._moved(finding.xpath, original.xpath, cut))

    def of_schema(self, findings: Iterable[Finding], base: str, piece: Piece) -> Iterator[Finding]:
        """What a schema says of a piece, but for its witness, and for what is missing only because it is a piece.

        base: path of the element inside Document, as these findings have it.
        """
        for finding in findings:
            numbers, rest = self._split(finding.xpath, base)
            is_witness = piece.witness and numbers[: len(piece.witness)] == piece.witness
            # That it may not stand where it stands, nobody sees but this piece.
            if is_witness and (rest or numbers != piece.witness or finding.rule != "schema.unexpected"):
                continue
            is_open = not rest and (numbers in ((), (piece.open_block,)))
            if is_open and finding.rule == "schema.missing" and finding.xpath.startswith(base) and not piece.is_last:
                continue
            yield replace(finding, xpath=self._moved(finding.xpath, base, piece.offsets))

    def is_inside(self, xpath: str) -> bool:
        """Whether a place in the file is in a block or payment."""
        return bool(self._split(xpath, self.body)[0])

    def _moved(self, xpath: str, base: str, offsets: Offsets) -> str:
        numbers, rest = self._split(xpath, base)
        if not numbers:
            return self.body + rest if xpath.startswith(base) else xpath
        if len(self._steps) == 1:
            numbers = (numbers[0] + offsets.payments,)
        else:
            # Only the first block of a piece has payments in earlier ones.
            earlier = offsets.in_block if numbers[0] == 1 else 0
            numbers = (numbers[0] + offsets.blocks, *(number + earlier for number in numbers[1:]))
        steps = (f"/{name}[{number}]" for (name, _), number in zip(self._steps, numbers, strict=False))
        return f"{self.body}{''.join(steps)}{rest}"

    def _split(self, xpath: str, base: str) -> tuple[tuple[int, ...], str]:
        """Positions of block and payment, as far as a place is inside of them, and what comes below."""
        numbers: tuple[int, ...] = ()
        place = len(base) if xpath.startswith(base) else len(xpath)
        place += 3 * xpath.startswith("[1]", place)  # where there is another beside it
        for _, step in self._steps:
            match = step.match(xpath, place)
            if match is None:
                break
            numbers += (int(match[1] or 1),)
            place = match.end()
        return numbers, xpath[place:]
