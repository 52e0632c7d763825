"""Reading a message of many payments from a file, in memory that does not grow with it.

    file ── parser ── pieces ── schema, fields, rules ── batches of payments with findings
                         └────── what remains ── envelope, header, rules on the whole ── verdict

Nothing may be believed before the end: the last byte can still make the whole message malformed. So batches are to be
staged by whoever reads, and the verdict says whether they stand.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import file_digest
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self, cast

from lxml import etree
from msgspec import structs

from interlock.iso20022 import envelopes, fields
from interlock.iso20022.bulk.judging import Judge, Places, envelope_of
from interlock.iso20022.bulk.pieces import Cutter, Offsets, Piece
from interlock.iso20022.bulk.recognising import Layout, layout_of, recognise
from interlock.iso20022.bulk.source import BulkLimits, Names, NotWellFormed, Refused, Source, fault
from interlock.iso20022.bulk.spool import Spool
from interlock.iso20022.bulk.tally import Tally
from interlock.iso20022.envelopes import Envelope, _deeper_than, _depth_finding, _finding, _limit_finding, _open
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.original import Original, OriginalPayment, PaymentGroup
from interlock.iso20022.schemas import Catalogue, definition_of_namespace


class Batch(NamedTuple):
    """Payments in the order of the file, and what is wrong with them by the rules."""

    #: Blocks (PmtInf) that begin among these payments; `OriginalPayment.group` counts all of the file.
    groups: tuple[PaymentGroup, ...]
    payments: tuple[OriginalPayment, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a file holds, once it was read to its end."""

    definition: str | None
    header_definition: str | None
    #: The message without its groups and payments; without a definition where there is none, but a header or an
    #: envelope; None where there is neither.
    original: Original | None
    #: Of reading and of the schemas, of all parts; an error here refuses the message as a whole.
    technical: tuple[Finding, ...]
    #: False where no schema is known here, so that nobody can say whether it is valid.
    judged: bool
    #: SHA-256 of the bytes, and their number.
    digest: bytes
    size: int

    @property
    def is_sound(self) -> bool:
        """Whether it can be treated as a message at all; if not, no batch counts."""
        return self.original is not None and not any(each.severity is Severity.ERROR for each in self.technical)


class Reading:
    """One file, read once: iterate for the batches, then ask for the verdict. Use it as a context.

    libxml2's memory of names belongs to the thread that iterates: let it be one that ends.
    """

    def __init__(
        self,
        path: Path,
        catalogue: Catalogue,
        judge: Judge | Callable[[Original], Judge],
        limits: BulkLimits | None = None,
    ) -> None:
        """path: of the whole file; beside it some room is taken on disk, about half its size.

        judge: by what it is judged beside the schemas; or what says so once header and group header are known.
        """
        self._path = path
        self._catalogue = catalogue
        self._judge_of = judge
        self._judge: Judge | None = judge if isinstance(judge, Judge) else None
        self._limits = limits or BulkLimits()
        self._names = Names(self._limits.names_bytes_max)
        self._technical = _Technical(self._limits.findings_max)
        self._tally = Tally()
        self._layout = Layout(None, None)
        self._places: Places | None = None
        self._rest: tuple[Envelope, Original] | None = None
        #: What was cut off before that.
        self._cut = Offsets(0, 0, 0)
        self._verdict: Verdict | None = None
        #: All payments and groups, read back from disk; complete once the batches have come to their end.
        self.payments = Spool(OriginalPayment, path.parent)
        self.groups = Spool(PaymentGroup, path.parent)

    def __enter__(self) -> Self:
        """Only here, so that the room on disk is given back."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back the room on disk; payments and groups cannot be read any more."""
        self.payments.close()
        self.groups.close()

    @property
    def verdict(self) -> Verdict:
        """What the file holds; only once the batches have come to their end."""
        assert self._verdict is not None  # else the caller asks too early
        return self._verdict

    @property
    def judge(self) -> Judge | None:
        """Who judges; None where nothing could be judged."""
        return self._judge

    def __iter__(self) -> Iterator[Batch]:
        """The payments, some at a time, as soon as they are read; once only."""
        with self._path.open("rb") as file:
            try:
                yield from self._read(file)
            except Refused as refusal:
                self._conclude(file, None, refusal.finding)
            except NotWellFormed:
                self._conclude(file, None, fault(self._path, file.tell(), self._limits.chunk_bytes))
            except etree.XMLSyntaxError as exc:
                limit = _limit_finding(exc, self._limits.depth_max)
                self._conclude(file, None, limit or fault(self._path, file.tell(), self._limits.chunk_bytes))

    def late(self) -> Iterator[Finding]:
        """What is wrong by the rules on the whole message: with it, or with payments because of others.

        Only for a sound message. There may be as many as payments, so they come one by one.
        """
        assert self._rest is not None  # a message without a document is not sound
        assert self._places is not None  # likewise
        assert self._judge is not None  # likewise
        envelope, last = self._rest
        groups = self.groups if last.groups else ()
        whole = structs.replace(last, payments=cast("Any", self.payments), groups=cast("Any", groups))
        for finding in self._judge.of_message(whole, self.payments, self._tally):
            # What stands in blocks and payments is gone by now; a rule on the whole knows where they begin.
            inside = self._places.is_inside(finding.xpath)
            yield finding if inside else envelopes.pinpoint(envelope, (finding,))[0]
        around = self._judge.of_elements(last, envelope, len(self.payments))
        found = envelopes.pinpoint(envelope, (finding for finding in around if finding.payment is None))
        yield from self._places.of_rest(found, last, self._cut)

    # -- from the first byte to the last ------------------------------------------------------------------------------

    def _read(self, file: BinaryIO) -> Iterator[Batch]:
        bytes_max = self._limits.bytes_max
        if file.seek(0, 2) > bytes_max:
            raise Refused(_finding("xml.size", f"The message is larger than {bytes_max} bytes; split it."))
        file.seek(0)
        recognised = recognise(file, self._limits.part_bytes_max)
        if recognised.refused is not None:
            raise Refused(recognised.refused)
        file.seek(0)
        self._layout = layout_of(recognised)
        source = Source(file, recognised, self._layout, self._limits)
        cutter = Cutter(self._layout)
        for data, last in source:
            if self._technical.is_full:
                self._names.count(data)
            else:
                self._names.look(data)
            piece = None if last is None else cutter.cut(last)
            if piece is None:
                continue
            source.was_cut()
            if self._places is None and source.document is not None:
                self._places = Places(envelopes.path_of(source.document[0]), self._layout)
            envelope = envelope_of(piece, recognised.definition or "")
            original = fields.extract(envelope)
            if self._judge is None:
                self._judge = self._appointed(_head(original, source.document))
            yield self._batch(piece, envelope, original, self._judge, data)
            self._check_number(cutter.offsets.payments)
        root = source.close()
        self._check_depth(root, 0)
        envelope = _open(root, lenient=False)
        if envelope.document is not None and envelope.definition is not None:
            last_original = fields.extract(envelope)
            self._check_number(cutter.offsets.payments + len(last_original.payments))
            self._places = Places(last_original.xpath, self._layout)
            self._rest = (envelope, last_original)
            judge = self._appointed(last_original)
            if self._judge is not None and (judge.profile, judge.edition) != (self._judge.profile, self._judge.edition):
                raise Refused(_order_finding())
            self._judge = judge
            self._cut = cutter.offsets
            yield self._batch(cutter.rest(envelope.document), envelope, last_original, judge, b"")
        self._conclude(file, envelope)

    def _appointed(self, head: Original) -> Judge:
        return self._judge_of if isinstance(self._judge_of, Judge) else self._judge_of(head)

    def _check_number(self, payments: int) -> None:
        payments_max = self._limits.payments_max
        if payments > payments_max:
            raise Refused(_finding("xml.payments", f"The message has more than {payments_max} payments; split it."))

    def _check_depth(self, element: etree._Element, above: int) -> None:
        depth_max = self._limits.depth_max
        if _deeper_than(depth_max - above)(element):
            raise Refused(_depth_finding(depth_max))

    # -- a piece ------------------------------------------------------------------------------------------------------

    def _batch(self, piece: Piece, envelope: Envelope, original: Original, judge: Judge, data: bytes) -> Batch:
        """Validate a piece, and judge its payments."""
        places = self._places or Places(original.xpath, self._layout)
        if not piece.is_last:
            self._check_depth(piece.document, places.body.count("/") - 2)
        self._validate(piece, original.definition, places, data)
        read = places.of_fields(original, piece)
        findings: tuple[Finding, ...] = ()
        if not self._technical.has_error:
            found = tuple(judge.of_piece(original, envelope))
            if found:
                findings = tuple(places.of_findings(envelopes.pinpoint(envelope, found), original, piece))
        self.payments.extend(read.payments)
        self.groups.extend(read.groups)
        self._tally.add(read.groups, read.payments)
        return Batch(read.groups, read.payments, findings)

    @property
    def _profile(self) -> str | None:
        return None if self._judge is None else self._judge.profile

    def _validate(self, piece: Piece, definition: str, places: Places, data: bytes) -> None:
        if self._technical.is_full or not self._catalogue.knows(definition):
            return
        findings = self._catalogue.validate(definition, piece.document, self._profile)
        if findings:
            self._names.count(data)
            base = envelopes.path_of(piece.document[0]) if len(piece.document) else places.body
            self._technical.add(places.of_schema(map(_without_siblings, findings), base, piece))

    # -- the verdict --------------------------------------------------------------------------------------------------

    def _conclude(self, file: BinaryIO, envelope: Envelope | None, refused: Finding | None = None) -> None:
        """Say what the file holds; all of it is read for its digest."""
        file.seek(0)
        digest = file_digest(cast("BufferedReader", file), "sha256").digest()
        size = file.tell()
        if envelope is None:
            findings = () if refused is None else (refused,)
            self._verdict = Verdict(
                definition=None,
                header_definition=None,
                original=None,
                technical=findings,
                judged=True,
                digest=digest,
                size=size,
            )
            return
        technical, judged = self._technical_of(envelope)
        original = fields.extract_any(envelope) if self._rest is None else self._rest[1]
        self._verdict = Verdict(
            definition=envelope.definition,
            header_definition=envelope.header_definition,
            original=None if original is None else structs.replace(original, payments=(), groups=()),
            technical=technical,
            judged=judged,
            digest=digest,
            size=size,
        )

    def _check_bounds(self, definition: str, document: etree._Element) -> None:
        """Whether there are more payments, or blocks, than a schema allows: no piece has them all.

        The standard's own allow any number, or one; a scheme's may say ten.
        """
        tag, count = self._layout.payment, len(self.payments)
        if self._layout.block is not None:
            tag, count = self._layout.block, len(self.groups)
        if tag is None or self._places is None or not len(document):
            return
        name = tag.rpartition("}")[2]
        try:
            children = self._catalogue.children(definition, (envelopes.local_name(document[0]),))
        except KeyError:  # no element of the schema, which says so
            return
        bound = next((child.occurs_max for child in children if child.name == name), None)
        if bound is not None and count > bound:
            text = f"{name} is not expected here: at most {bound} may come. Remove it, or send another message."
            xpath = f"{self._places.body}/{name}[{bound + 1}]"
            if not self._technical.has_told("schema.unexpected", xpath):
                line = None if self._layout.block is not None else self.payments[bound].line
                self._technical.add((_finding("schema.unexpected", text, xpath=xpath, line=line),))

    def _technical_of(self, envelope: Envelope) -> tuple[tuple[Finding, ...], bool]:
        """Findings of reading and of the schemas, and whether every part had a schema."""
        findings, judged = list(envelope.findings), True
        parts = ((envelope.header_definition, envelope.header), (envelope.definition, envelope.document))
        for definition, element in parts:
            if definition is None or element is None:
                continue
            if not self._catalogue.knows(definition):
                judged = False
                findings.append(self._catalogue.unknown(definition, envelopes.path_of(element)))
            elif element is envelope.header:
                findings.extend(self._catalogue.validate(definition, element, self._profile))
            else:
                self._check_bounds(definition, element)
                findings.extend(self._technical.told())
        return tuple(_without_siblings(finding) for finding in findings), judged


class _Technical:
    """What the schema says of all pieces, told once and up to a bound."""

    def __init__(self, findings_max: int) -> None:
        self._max = findings_max
        self._findings: dict[tuple[str, str, str], Finding] = {}
        self.is_full = False
        self.has_error = False

    def add(self, findings: Iterable[Finding]) -> None:
        """What stands around the payments is seen in every piece, and told by the first."""
        for finding in findings:
            self.has_error |= finding.severity is Severity.ERROR
            key = (finding.rule, finding.xpath, finding.text)
            if key in self._findings:
                continue
            if finding.rule == "schema.more" or len(self._findings) >= self._max:
                self.is_full = True
                return
            self._findings[key] = finding

    def has_told(self, rule: str, xpath: str) -> bool:
        """Whether there is a finding of this rule at this place."""
        return any(key[:2] == (rule, xpath) for key in self._findings)

    def told(self) -> Iterator[Finding]:
        """All of them, and at the bound that there may be more."""
        yield from list(self._findings.values())[: self._max - 1 if self.is_full else None]
        if self.is_full:
            yield Finding(
                severity=Severity.ERROR,
                rule="schema.more",
                reason="FF01",
                xpath="/",
                line=None,
                text="There are more schema errors, which are not listed: mend those above and check again.",
            )


def _head(original: Original, document: etree._Element | None) -> Original:
    """The first fields of a message with those of its header, as far as that was met before the payments."""
    if document is None:
        return original
    headers = document.getroottree().getroot().iter("{*}AppHdr")
    # One within the document is none of its own.
    header = next((one for one in headers if document not in one.iterancestors()), None)
    namespace = "" if header is None else header.tag.rpartition("}")[0][1:]
    definition = definition_of_namespace(namespace)
    if header is None or definition is None:
        return original
    envelope = Envelope(wrapper=None, header=header, document=None, header_definition=definition, definition=None)
    return structs.replace(original, header=fields.extract(envelope).header)


def _order_finding() -> Finding:
    text = (
        "AppHdr comes after the payments: in a message of so many put it before Document, for it says by which "
        "practice they are judged."
    )
    return _finding("envelope.order", text)


def _without_siblings(finding: Finding) -> Finding:
    """What is put around header and document while they are parsed is nothing of the sender's."""
    return replace(finding, xpath=finding.xpath.removeprefix("/siblings")) if finding.line is not None else finding
