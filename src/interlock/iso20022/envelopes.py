"""From bytes to what Interlock needs of a message: the header, the document and some dozen fields. Pure.

Owns: recognising envelopes, the XML limits, reading fields. Must not know: schemas (their verdicts are facts passed
to others), business rules, stores.

Two steps. `read` parses bytes of unknown merit and finds the business application header and the document in them,
whatever they are wrapped in; it never raises for bad bytes, it reports. `extract` then takes the fields in one walk:
the paths that matter are compiled into a trie of tags once for each message version, and the walk enters only elements
that are in it, so that cost goes with the payments and not with what else a message carries.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import Any, Final, NamedTuple, cast

from lxml import etree
from msgspec import Struct, structs

from interlock.iso20022.findings import Finding, Severity

# ---------------------------------------------------------------------------------------------------------------------
# What is read
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of what is parsed at all; libxml2 has none of its own for total size or number of nodes."""

    bytes_max: int = 1_048_576
    depth_max: int = 64
    nodes_max: int = 200_000


class Agent(Struct, frozen=True, kw_only=True):
    """A financial institution, by whichever of its names the message gives."""

    bic: str | None = None
    #: ClrSysId: a code of ExternalClearingSystemIdentification1Code, such as `USABA`, or a proprietary name.
    clearing_system: str | None = None
    clearing_system_is_proprietary: bool = False
    clearing_member: str | None = None
    lei: str | None = None
    #: Othr/Id, where the message has no better name.
    other: str | None = None
    #: True where a header names an organisation (OrgId) and not a financial institution.
    is_organisation: bool = False


class Header(Struct, frozen=True, kw_only=True):
    """A business application header (head.001), as read."""

    definition: str
    #: BICs or other ids of Fr and To.
    sender: Agent | None
    receiver: Agent | None
    business_message_id: str | None
    #: MsgDefIdr, as written by the sender.
    message_definition: str | None
    business_service: str | None
    #: CreDt, as written.
    created_at: str | None
    possible_duplicate: bool
    xpath: str = "/AppHdr"
    line: int | None = None


class OriginalPayment(Struct, frozen=True, kw_only=True):
    """One payment in a message; texts are as received, so that an answer can repeat them to the letter."""

    #: Place in the message, from 1, over all groups.
    ordinal: int
    #: Index into `Original.groups` (pain.001 PmtInf), or None where the message has no such blocks.
    group: int | None
    xpath: str
    line: int | None
    instruction_id: str | None
    end_to_end_id: str | None
    #: TxId; in a return or reversal OrgnlTxId, or for want of it the id of the return or reversal itself.
    transaction_id: str | None
    uetr: str | None
    amount: str | None
    currency: str | None
    #: True where `amount` is an EqvtAmt: what is to be transferred is this amount's worth in another currency.
    amount_is_equivalent: bool = False
    #: IntrBkSttlmDt of the payment, or the group header's.
    settlement_date: str | None
    #: AccptncDtTm as written.
    accepted_at: str | None = None
    debtor_agent: Agent | None
    creditor_agent: Agent | None
    instructing_agent: Agent | None = None
    instructed_agent: Agent | None = None
    debtor_iban: str | None
    creditor_iban: str | None

    @property
    def decimal(self) -> Decimal | None:
        """Amount as a number; None where absent or unreadable."""
        return to_decimal(self.amount)


class PaymentGroup(Struct, frozen=True, kw_only=True):
    """A PmtInf block of a pain message."""

    payment_information_id: str | None
    number_of_transactions: str | None
    control_sum: str | None
    requested_execution_date: str | None
    xpath: str
    line: int | None


class Original(Struct, frozen=True, kw_only=True):
    """What an answer repeats and a rule looks at, of one message; any field may be absent in an invalid one."""

    #: For instance `pacs.008.001.08`; empty where there is no document at all.
    definition: str
    message_id: str | None
    #: GrpHdr/CreDtTm as written.
    created_at: str | None
    number_of_transactions: str | None
    control_sum: str | None
    instructing_agent: Agent | None
    instructed_agent: Agent | None
    header: Header | None
    groups: tuple[PaymentGroup, ...] = ()
    payments: tuple[OriginalPayment, ...] = ()
    #: TtlIntrBkSttlmAmt (in returns TtlRtrdIntrBkSttlmAmt, in reversals TtlRvsdIntrBkSttlmAmt) of the group header.
    total_amount: str | None = None
    total_currency: str | None = None
    #: GrpHdr/IntrBkSttlmDt.
    settlement_date: str | None = None
    #: Of the element inside Document, for instance `/Document/FIToFICstmrCdtTrf`.
    xpath: str = ""
    line: int | None = None
    #: Local name and namespace of the element that holds AppHdr and Document side by side, so that an answer can use
    #: the same; None where there is no such element, or where it is not the outermost.
    wrapper: str | None = None
    wrapper_namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A parsed message. Without a `document` there is at least one finding of severity error that says why."""

    #: Local name of the outermost element where it wraps header or document, else None.
    wrapper: str | None
    header: etree._Element | None
    document: etree._Element | None
    #: From the namespaces: `head.001.001.02`, `pacs.008.001.08`; None where absent or not an ISO 20022 namespace.
    header_definition: str | None
    definition: str | None
    findings: tuple[Finding, ...] = field(default=())
    wrapper_namespace: str | None = None
    #: True where AppHdr and Document are children of the outermost element, not deeper.
    wrapper_is_flat: bool = False


def to_decimal(text: str | None) -> Decimal | None:
    """Exact number from an XSD decimal; None for anything else, exponents, infinities and absence included."""
    return Decimal(text) if text is not None and _DECIMAL.match(text) else None


_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})\Z")

# ---------------------------------------------------------------------------------------------------------------------
# Bytes to envelope
# ---------------------------------------------------------------------------------------------------------------------


#: Comments and processing instructions are dropped while parsing, so that text around them is one text: what a rule
#: sees is then what a schema sees. Entities cannot occur, since a DOCTYPE is refused.
def new_parser() -> etree.XMLParser:
    """A hardened parser; one made in a thread of its own takes the names it has met with it when the thread ends."""
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )


_PARSER: Final = new_parser()

#: Encodings in which `<!DOCTYPE` is these very bytes; in any other the prolog is parsed to see.
_ASCII_ENCODINGS: Final = rb"utf-?8|us-ascii|ascii|iso-?8859-?\d{1,2}|latin-?1|windows-125\d|cp125\d"
_PLAIN: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*<(?!\?xml)"
    rb"|(?:\xef\xbb\xbf)?<\?xml\s(?![^>]{0,200}encoding)"
    rb"|(?:\xef\xbb\xbf)?<\?xml\s[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"'](?:" + _ASCII_ENCODINGS + rb")[\"']",
    re.IGNORECASE,
)
_NAMESPACE: Final = re.compile(r"urn:iso:std:iso:20022:(?:tech:)?xsd:([a-z]{4}\.\d{3}\.\d{3}\.\d{2})\Z")
_CHUNK_BYTES: Final = 4096


def is_json(body: bytes) -> bool:
    """True where the first character can only begin JSON; told from a few bytes, without parsing."""
    return body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[", b'"')


def read(
    body: bytes, limits: Limits | None = None, *, lenient: bool = False, parser: etree.XMLParser | None = None
) -> Envelope:
    """Header and document in the bytes of one message, in any wrapper at any depth, or findings that say why not.

    Never raises for bad bytes. Any DOCTYPE is refused, whatever the encoding.

    lenient: a Document or AppHdr in no namespace is moved into the one that its sender declared but did not use (the
    fault of a well-known public sample); the findings are then warnings.
    """
    limits = limits or _LIMITS
    refused = _refuse_unparsed(body, limits)
    if refused is not None:
        return _nothing(refused)
    try:
        root = etree.fromstring(body, parser or _PARSER)
    except etree.XMLSyntaxError as exc:
        return _nothing(_syntax_finding(exc))
    except (ValueError, LookupError):  # an encoding that lxml refuses before it parses
        return _nothing(_finding("xml.malformed", "The encoding of the XML is not supported; use UTF-8."))
    refused = _refuse_parsed(root, body, limits)
    if refused is not None:
        return _nothing(refused)
    return _open(root, lenient=lenient)


_LIMITS: Final = Limits()


def _refuse_unparsed(body: bytes, limits: Limits) -> Finding | None:
    """Finding where the bytes need no parsing to be refused."""
    if len(body) > limits.bytes_max:
        return _finding("xml.size", f"The message is larger than {limits.bytes_max} bytes; split it.")
    if not body or body.isspace():
        return _finding("xml.empty", "There is no message: the body is empty. Send an ISO 20022 message in XML.")
    if is_json(body):
        return _finding("envelope.json", "The body is JSON; an ISO 20022 message in XML is wanted.")
    if (b"<!DOCTYPE" in body or not _PLAIN.match(body)) and _prolog_has_doctype(body):
        return _doctype_finding()
    return None


class _Stop(Exception):
    """The prolog has been seen as far as it matters."""


class _Prolog:
    """Parser target that stops at a DOCTYPE, before anything is declared, or else at the first element."""

    def __init__(self) -> None:
        self.has_doctype = False

    def doctype(self, _name: str, _public: str | None, _system: str | None) -> None:
        self.has_doctype = True
        raise _Stop

    def start(self, _tag: str, _attributes: Mapping[str, str]) -> None:
        raise _Stop

    def close(self) -> None:
        """Nothing was built."""


def _prolog_has_doctype(body: bytes) -> bool:
    """True where a DOCTYPE comes before the first element; reads no further, so nothing is expanded."""
    prolog = _Prolog()
    parser = etree.XMLParser(
        target=cast("Any", prolog), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    # What else is wrong the real parse says, and it looks for a DOCTYPE too.
    with suppress(_Stop, etree.XMLSyntaxError, ValueError, LookupError):
        for start in range(0, len(body), _CHUNK_BYTES):
            parser.feed(body[start : start + _CHUNK_BYTES])
    return prolog.has_doctype


def _has_doctype(element: etree._Element) -> bool:
    return element.getroottree().docinfo.internalDTD is not None


def _refuse_parsed(root: etree._Element, body: bytes, limits: Limits) -> Finding | None:
    """Finding where the tree is beyond the limits or came with a DOCTYPE."""
    if _has_doctype(root):
        return _doctype_finding()
    # Each element and each level costs a `<`, in these encodings a byte of its own: ordinary messages pass by counting.
    elements_max = body.count(b"<") if _PLAIN.match(body) else len(body)
    if elements_max > limits.nodes_max and _count(root) > limits.nodes_max:
        return _finding("xml.nodes", f"The message has more than {limits.nodes_max} elements; split it.")
    if elements_max > limits.depth_max and _deeper_than(limits.depth_max)(root):
        return _finding("xml.depth", f"Elements are nested deeper than {limits.depth_max} levels.")
    return None


def _count(root: etree._Element) -> int:
    return sum(1 for _ in root.iter())


@lru_cache(maxsize=8)
def _deeper_than(depth: int) -> etree.XPath:
    return etree.XPath(f"boolean({'/*' * (depth + 1)})")


def _finding(
    rule: str, text: str, *, xpath: str = "/", line: int | None = None, severity: Severity = Severity.ERROR
) -> Finding:
    """Finding about the form of the message: ISO reason FF01, invalid file format."""
    return Finding(severity=severity, rule=rule, reason="FF01", xpath=xpath, line=line, text=text)


def _doctype_finding() -> Finding:
    return _finding("xml.doctype", "A DOCTYPE is not accepted; remove it.")


def _syntax_finding(exc: etree.XMLSyntaxError) -> Finding:
    """Finding for XML that is not well-formed: the place, and libxml2's name of the error, but nothing of the text.

    Its message is not used: it can repeat what stands at that place, which may be personal data.
    """
    line, column = exc.position
    # libxml2 names what it found, for instance ERR_TAG_NAME_MISMATCH.
    entry = cast("Any", exc.error_log).last_error
    name = "syntax" if entry is None else entry.type_name.removeprefix("ERR_").replace("_", " ").lower()
    text = f"The XML is not well-formed ({name}) at line {line}, column {column}."
    if name == "document end":
        text += " There must be one outermost element: wrap AppHdr and Document into one."
    return _finding("xml.malformed", text, line=line or None)


def _nothing(finding: Finding) -> Envelope:
    return Envelope(
        wrapper=None, header=None, document=None, header_definition=None, definition=None, findings=(finding,)
    )


class _Part(NamedTuple):
    """An element named Document or AppHdr."""

    element: etree._Element
    is_header: bool
    #: From its namespace; None where that is not one of ISO 20022 for such an element.
    definition: str | None


def _kind(tag: str) -> tuple[bool, str | None] | None:
    """Whether a tag, `{namespace}name`, is that of a header, and its definition; None for other elements."""
    if not tag.endswith(("Document", "AppHdr")):
        return None
    # What is remembered must not be as long as a sender likes.
    return _named(tag) if len(tag) <= 100 else _named.__wrapped__(tag)


@lru_cache(maxsize=1024)
def _named(tag: str) -> tuple[bool, str | None] | None:
    namespace, _, name = tag.rpartition("}")
    if name not in ("Document", "AppHdr"):
        return None
    is_header = name == "AppHdr"
    match = _NAMESPACE.match(namespace.removeprefix("{"))
    definition = match[1] if match else None
    if definition is not None and definition.startswith("head.001.") is not is_header:
        definition = None
    return is_header, definition


def _open(root: etree._Element, *, lenient: bool) -> Envelope:
    """The envelope around what is inside."""
    kind = _kind(root.tag)
    if kind is not None and not kind[0] and kind[1] is not None:
        return Envelope(wrapper=None, header=None, document=root, header_definition=None, definition=kind[1])
    findings: list[Finding] = []
    parts = _parts(root)
    headers = _of_kind(parts, findings, is_header=True, lenient=lenient)
    documents = _of_kind(parts, findings, is_header=False, lenient=lenient)
    _judge_number(headers, documents, findings)
    header = headers[0] if headers else None
    # Of two documents neither is *the* message: an answer to one would speak for the other.
    document = documents[0] if len(documents) == 1 else None
    shown = [part.element for part in (header, document) if part is not None]
    is_wrapped = bool(shown) and root not in shown
    namespace, _, name = root.tag.rpartition("}")
    return Envelope(
        wrapper=name if is_wrapped else None,
        wrapper_namespace=namespace[1:] or None if is_wrapped else None,
        wrapper_is_flat=is_wrapped and all(element.getparent() is root for element in shown),
        header=header.element if header else None,
        document=document.element if document else None,
        header_definition=header.definition if header else None,
        definition=document.definition if document else None,
        findings=tuple(findings),
    )


def _parts(root: etree._Element) -> list[_Part]:
    """Every Document and AppHdr, in document order, not looking inside either."""
    parts = []
    waiting = [root]
    while waiting:
        element = waiting.pop()
        kind = _kind(element.tag)
        if kind is None:
            waiting.extend(reversed(element))
        else:
            parts.append(_Part(element, *kind))
    return parts


def _of_kind(parts: list[_Part], findings: list[Finding], *, is_header: bool, lenient: bool) -> list[_Part]:
    """The headers, or the documents, in an ISO 20022 namespace; strangers only matter where there is no other."""
    named = [part for part in parts if part.is_header is is_header]
    good = [part for part in named if part.definition is not None]
    if good:
        return good
    for stranger in named:
        namespace = _unused_namespace(stranger)
        mended = lenient and namespace is not None and "}" not in stranger.element.tag
        findings.append(_namespace_finding(stranger, namespace, Severity.WARNING if mended else Severity.ERROR))
        if mended and namespace is not None:
            good.append(_moved(stranger, namespace))
    return good


def _unused_namespace(part: _Part) -> tuple[str, str] | None:
    """Prefix and definition of a fitting ISO 20022 namespace that is declared here but that the element is not in."""
    for prefix, namespace in part.element.nsmap.items():
        match = _NAMESPACE.match(namespace)
        if match and prefix is not None and match[1].startswith("head.001.") is part.is_header:
            return prefix, match[1]
    return None


def _namespace_finding(part: _Part, unused: tuple[str, str] | None, severity: Severity) -> Finding:
    name = "AppHdr" if part.is_header else "Document"
    wanted = "head.001.001.02" if part.is_header else "pacs.008.001.08"
    is_bare = "}" not in part.element.tag
    text = f"{name} is in {'no namespace' if is_bare else 'a namespace that is not its own in ISO 20022'}. "
    if unused:
        prefix, definition = unused
        text += (
            f"The prefix {_printable(prefix)} is bound to the namespace of {definition} but not used: "
            f"write {_printable(prefix)}:{name} and so on for all elements, or declare it as the default, xmlns=."
        )
    else:
        text += f"Its namespace is the message version, for instance urn:iso:std:iso:20022:tech:xsd:{wanted}."
    return _finding(
        "envelope.namespace", text, xpath=path_of(part.element), line=_line(part.element), severity=severity
    )


def _printable(prefix: str) -> str:
    """A prefix as it may be shown: a sender could write anything there."""
    return prefix if len(prefix) <= 20 and prefix.isascii() else "declared"


def _moved(part: _Part, namespace: tuple[str, str]) -> _Part:
    """The same elements, in the namespace that their sender meant; lines stay."""
    uri = part.element.nsmap[namespace[0]]
    for element in part.element.iter():
        if "}" not in element.tag:
            element.tag = f"{{{uri}}}{element.tag}"
    return _Part(part.element, part.is_header, namespace[1])


def _judge_number(headers: list[_Part], documents: list[_Part], findings: list[Finding]) -> None:
    """One document, and at most one header."""
    for many, rule, name in ((headers, "envelope.many_headers", "AppHdr"), (documents, "envelope.many", "Document")):
        if len(many) > 1:
            extra = many[1].element
            text = f"There is more than one {name}: send one message at a time."
            findings.append(_finding(rule, text, xpath=path_of(extra), line=_line(extra)))
    if not documents and not any(finding.rule == "envelope.namespace" for finding in findings):
        text = (
            "There is no ISO 20022 message in the XML: an element Document in the namespace of its version is wanted."
        )
        findings.append(_finding("envelope.no_document", text))


def _line(element: etree._Element) -> int | None:
    return cast("int | None", element.sourceline)  # the stubs give it no type


def path_of(element: etree._Element) -> str:
    """Path from the root of the bytes received, in local names, as findings give it."""
    names = [_local_name(element)]
    above = element.getparent()
    while above is not None:
        names.append(_local_name(above))
        above = above.getparent()
    names.append("")
    names.reverse()
    return "/".join(names)


def _local_name(element: etree._Element) -> str:
    return element.tag.rpartition("}")[2]


def pinpoint(envelope: Envelope, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings with the line of the very element they name, where the document has it.

    Rules see fields and know only where a payment begins; messages without findings need not pay for more.
    """
    return tuple(_with_line(envelope, finding) for finding in findings)


def _with_line(envelope: Envelope, finding: Finding) -> Finding:
    anchor = envelope.document if envelope.document is not None else envelope.header
    if anchor is None:
        return finding
    element: etree._Element | None = anchor.getroottree().getroot()
    for step in finding.xpath.split("/")[2:]:
        child = _child(element, step)
        if child is None:
            break  # The element is missing: the line of what should hold it.
        element = child
    line = _line(element) if element is not None else None
    return replace(finding, line=line or finding.line)


def _child(element: etree._Element | None, step: str) -> etree._Element | None:
    """Child by a step such as `CdtTrfTxInf[2]`; namespaces do not matter here."""
    name, _, position = step.rstrip("]").partition("[")
    found = 0
    for child in element if element is not None else ():
        found += _local_name(child) == name
        if found == int(position or 1):
            return child
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Envelope to fields
# ---------------------------------------------------------------------------------------------------------------------
# A record (message, header, block, payment) is read into a list of slots; `data/fields.toml` says which path fills
# which slot. The first element that fits wins.

#: An agent takes six slots, in this order.
_AGENT_SLOTS: Final = ("bic", "system", "proprietary_system", "member", "lei", "other")
#: An amount takes two: the number, and after it the currency.
_AMOUNTS: Final = ("amount", "equivalent_amount", "total_amount")


def _load_tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("interlock.iso20022").joinpath("data/fields.toml").read_text("utf-8"))


_TABLES: Final = _load_tables()


def _paths(*tables: str) -> dict[str, str]:
    """Path to slot of the tables named, agents spelt out: `DbtrAgt` gives `DbtrAgt/FinInstnId/BICFI` and so on."""
    paths: dict[str, str] = {}
    for name in tables:
        table = _TABLES[name]
        paths.update(table.get("texts", {}))
        for kind, middle, below in (("agents", "/FinInstnId", "agent"), ("organisations", "", "organisation")):
            for prefix, slot in table.get(kind, {}).items():
                paths.update({f"{prefix}{middle}/{path}": f"{slot}.{one}" for path, one in _TABLES[below].items()})
    return paths


class _Layout(NamedTuple):
    """Where one family of messages has its payments; `data/fields.toml` explains each field."""

    payment: str | None = None
    payment_tables: Sequence[str] = ()
    block: str | None = None
    block_tables: Sequence[str] = ()
    is_group: bool = False


_LAYOUTS: Final = {name: _Layout(**layout) for name, layout in _TABLES["layouts"].items()}
_OTHER: Final = _Layout()


class _Step(NamedTuple):
    """What the walk does at an element: go in, take its text, or note it as a block of its own."""

    #: Slot that the text goes to; -1 for a block.
    slot: int
    below: "dict[str, _Step] | None"
    is_amount: bool


class _Record(NamedTuple):
    """A compiled table: the trie, and where each slot is."""

    trie: dict[str, _Step]
    slots: dict[str, int]
    #: First of the six slots of each agent.
    agents: dict[str, int]
    empty: tuple[None, ...]


_BLOCK: Final = _Step(-1, None, False)
_TEXT_MAX: Final = 256


def _compile(namespace: str, paths: Mapping[str, str], block: str | None = None) -> _Record:
    """Trie over full tags; a full tag is what lxml gives for nothing more than the name."""
    slots = _slots(paths.values())
    trie: dict[str, _Step] = {}
    for path, slot in paths.items():
        tags = [f"{{{namespace}}}{name}" for name in path.split("/")]
        _insert(trie, tags, _Step(slots[slot], None, slot in _AMOUNTS))
    if block is not None:
        trie[f"{{{namespace}}}{block}"] = _BLOCK
    agents = {name.removesuffix(".bic"): place for name, place in slots.items() if name.endswith(".bic")}
    return _Record(trie, slots, agents, (None,) * len(slots))


def _slots(names: Iterable[str]) -> dict[str, int]:
    """A place for each name; an agent's six lie together, an amount's currency follows it."""
    slots: dict[str, int] = {}
    for name in names:
        agent, dot, _ = name.partition(".")
        for each in [f"{agent}.{part}" for part in _AGENT_SLOTS] if dot else [name]:
            slots.setdefault(each, len(slots))
        if name in _AMOUNTS:
            slots.setdefault(f"{name}.currency", len(slots))
    return slots


def _insert(trie: dict[str, _Step], tags: list[str], leaf: _Step) -> None:
    """Add one path; where it goes on below one that ends, the walk there does both."""
    *above, last = tags
    for tag in above:
        step = trie.get(tag, _INNER)
        below = {} if step.below is None else step.below
        trie[tag] = step._replace(below=below)
        trie = below
    trie.setdefault(last, leaf)


_INNER: Final = _Step(-1, None, False)


class _Reader(NamedTuple):
    """All tables for one message version."""

    message: _Record
    block: _Record | None
    payment: _Record | None
    layout: _Layout


@lru_cache(maxsize=256)
def _reader(namespace: str, definition: str) -> _Reader:
    layout = _LAYOUTS.get(definition) or _LAYOUTS.get(definition[:8], _OTHER)
    return _Reader(
        message=_compile(namespace, _paths("message"), layout.block or layout.payment),
        block=_compile(namespace, _paths(*layout.block_tables), layout.payment) if layout.block else None,
        payment=_compile(namespace, _paths(*layout.payment_tables)) if layout.payment else None,
        layout=layout,
    )


@lru_cache(maxsize=16)
def _header_record(namespace: str) -> _Record:
    return _compile(namespace, _paths("header"))


def _walk(
    element: etree._Element, trie: dict[str, _Step], slots: list[str | None], blocks: list[etree._Element]
) -> None:
    """Fill the slots from the elements below; the depth is that of the trie, however deep the message is."""
    for child in element:
        step = trie.get(child.tag)
        if step is None:
            continue
        slot, below, is_amount = step
        if below is not None:
            _walk(child, below, slots, blocks)
            if slot < 0 or len(child):
                continue
        elif slot < 0:
            blocks.append(child)
            continue
        if slots[slot] is None:
            text = child.text
            # No field here is that long: what is cut was invalid, still is, and cannot fill the caches that it meets.
            slots[slot] = text if text is None or len(text) <= _TEXT_MAX else text[:_TEXT_MAX]
            if is_amount:
                slots[slot + 1] = (child.get("Ccy") or "")[:_TEXT_MAX] or None


class _Fields:
    """The slots of one record by name."""

    __slots__ = ("agents", "blocks", "places", "slots")

    def __init__(self, element: etree._Element, record: _Record) -> None:
        self.places = record.slots
        self.agents = record.agents
        self.slots: list[str | None] = list(record.empty)
        self.blocks: list[etree._Element] = []
        _walk(element, record.trie, self.slots, self.blocks)

    def text(self, name: str) -> str | None:
        """As written."""
        place = self.places.get(name)
        return None if place is None else self.slots[place]

    def word(self, name: str) -> str | None:
        """Without the white space around, which in numbers, dates and codes means nothing."""
        text = self.text(name)
        return None if text is None else text.strip()

    def agent(self, name: str) -> Agent | None:
        """The institution in that role; None where it has no name that we read."""
        place = self.agents.get(name)
        return None if place is None else _agent_of(*self.slots[place : place + 6])


# The same few institutions come again and again, within a message and between messages.
@lru_cache(maxsize=4096)
def _agent_of(
    bic: str | None = None,
    system: str | None = None,
    proprietary_system: str | None = None,
    member: str | None = None,
    lei: str | None = None,
    other: str | None = None,
) -> Agent | None:
    named = (bic, member, lei, other)
    if not any(named):
        return None
    return Agent(
        bic=bic.strip() if bic else None,
        clearing_system=system or proprietary_system,
        clearing_system_is_proprietary=system is None and proprietary_system is not None,
        clearing_member=member,
        lei=lei.strip() if lei else None,
        other=other,
    )


def extract(envelope: Envelope) -> Original:
    """The fields of a message, in one walk, schema-valid or not; time and memory go with the number of payments."""
    header = _header(envelope)
    document = envelope.document
    body = next(iter(document), None) if document is not None else None
    if document is None or body is None or envelope.definition is None:
        return _blank(envelope, header)
    namespace = document.tag.rpartition("}")[0][1:]
    reader = _reader(namespace, envelope.definition)
    fields = _Fields(body, reader.message)
    xpath = path_of(body) if envelope.wrapper else f"/Document/{_local_name(body)}"
    groups, payments = _payments(reader, fields, xpath)
    wrapper, wrapper_namespace = _reusable_wrapper(envelope)
    return Original(
        definition=envelope.definition,
        message_id=fields.text("message_id"),
        created_at=fields.word("created_at"),
        number_of_transactions=fields.word("number_of_transactions"),
        control_sum=fields.word("control_sum"),
        instructing_agent=fields.agent("instructing_agent"),
        instructed_agent=fields.agent("instructed_agent"),
        header=header,
        groups=groups,
        payments=payments,
        total_amount=fields.word("total_amount"),
        total_currency=fields.text("total_amount.currency"),
        settlement_date=fields.word("settlement_date"),
        xpath=xpath,
        line=_line(body),
        wrapper=wrapper,
        wrapper_namespace=wrapper_namespace,
    )


def _blank(envelope: Envelope, header: Header | None) -> Original:
    """What is left to say of a message without content."""
    wrapper, wrapper_namespace = _reusable_wrapper(envelope)
    return Original(
        definition=envelope.definition or "",
        message_id=None,
        created_at=None,
        number_of_transactions=None,
        control_sum=None,
        instructing_agent=None,
        instructed_agent=None,
        header=header,
        wrapper=wrapper,
        wrapper_namespace=wrapper_namespace,
    )


def _reusable_wrapper(envelope: Envelope) -> tuple[str | None, str | None]:
    """Name and namespace of a wrapper that an answer can use too: a flat one, with a name of sane length."""
    name, namespace = envelope.wrapper, envelope.wrapper_namespace
    if name is None or not envelope.wrapper_is_flat or len(name) + len(namespace or "") > _TEXT_MAX:
        return None, None
    return name, namespace


def _header(envelope: Envelope) -> Header | None:
    element = envelope.header
    if element is None or envelope.header_definition is None:
        return None
    fields = _Fields(element, _header_record(element.tag.rpartition("}")[0][1:]))
    return Header(
        definition=envelope.header_definition,
        sender=fields.agent("sender") or _organisation(fields.agent("sending_organisation")),
        receiver=fields.agent("receiver") or _organisation(fields.agent("receiving_organisation")),
        business_message_id=fields.text("business_message_id"),
        message_definition=fields.word("message_definition"),
        business_service=fields.text("business_service"),
        created_at=fields.word("created_at"),
        possible_duplicate=fields.word("possible_duplicate") in ("true", "1"),
        xpath=path_of(element),
        line=_line(element),
    )


def _organisation(agent: Agent | None) -> Agent | None:
    return structs.replace(agent, is_organisation=True) if agent is not None else None


def _payments(
    reader: _Reader, message: _Fields, xpath: str
) -> tuple[tuple[PaymentGroup, ...], tuple[OriginalPayment, ...]]:
    """Groups and payments in the order of the message."""
    layout = reader.layout
    groups: list[PaymentGroup] = []
    payments: list[OriginalPayment] = []
    if reader.payment is None:
        return (), ()
    if reader.block is None:
        _add_payments(payments, reader.payment, message.blocks, f"{xpath}/{layout.payment}", message, None, None)
        return (), tuple(payments)
    for position, element in enumerate(message.blocks, 1):
        block = _Fields(element, reader.block)
        path = f"{xpath}/{layout.block}[{position}]"
        if layout.is_group:
            groups.append(_group(block, path, _line(element)))
        index = position - 1 if layout.is_group else None
        _add_payments(payments, reader.payment, block.blocks, f"{path}/{layout.payment}", message, block, index)
    return tuple(groups), tuple(payments)


def _group(fields: _Fields, xpath: str, line: int | None) -> PaymentGroup:
    return PaymentGroup(
        payment_information_id=fields.text("payment_information_id"),
        number_of_transactions=fields.word("number_of_transactions"),
        control_sum=fields.word("control_sum"),
        requested_execution_date=fields.word("requested_execution_date"),
        xpath=xpath,
        line=line,
    )


def _add_payments(
    payments: list[OriginalPayment],
    record: _Record,
    elements: list[etree._Element],
    xpath: str,
    message: _Fields,
    block: _Fields | None,
    group: int | None,
) -> None:
    """Read the payments of one block; what a payment leaves open its block says, and then the group header."""
    # What the block says is the same for each of its payments, so it is looked up once.
    debtor_agent = creditor_agent = instructing_agent = instructed_agent = None
    debtor_iban = creditor_iban = None
    settlement_date = message.word("settlement_date")
    if block is not None:
        debtor_agent = block.agent("debtor_agent") or block.agent("debtor")
        creditor_agent = block.agent("creditor_agent") or block.agent("creditor")
        instructing_agent, instructed_agent = block.agent("instructing_agent"), block.agent("instructed_agent")
        debtor_iban, creditor_iban = block.word("debtor_iban"), block.word("creditor_iban")
        settlement_date = block.word("settlement_date") or settlement_date
    for position, element in enumerate(elements, 1):
        fields = _Fields(element, record)
        text, word, agent = fields.text, fields.word, fields.agent
        amount, currency, is_equivalent = word("amount"), text("amount.currency"), False
        if amount is None and "equivalent_amount" in record.slots:
            amount, currency = word("equivalent_amount"), text("equivalent_amount.currency")
            is_equivalent = amount is not None
        payments.append(
            OriginalPayment(
                ordinal=len(payments) + 1,
                group=group,
                xpath=f"{xpath}[{position}]",
                line=_line(element),
                instruction_id=text("instruction_id"),
                end_to_end_id=text("end_to_end_id"),
                transaction_id=text("transaction_id") or text("own_id"),
                uetr=word("uetr"),
                amount=amount,
                currency=currency,
                amount_is_equivalent=is_equivalent,
                settlement_date=word("settlement_date") or settlement_date,
                accepted_at=word("accepted_at"),
                debtor_agent=agent("debtor_agent") or agent("debtor") or debtor_agent,
                creditor_agent=agent("creditor_agent") or agent("creditor") or creditor_agent,
                instructing_agent=agent("instructing_agent") or instructing_agent,
                instructed_agent=agent("instructed_agent") or instructed_agent,
                debtor_iban=word("debtor_iban") or debtor_iban,
                creditor_iban=word("creditor_iban") or creditor_iban,
            )
        )
