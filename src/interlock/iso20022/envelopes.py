"""From bytes to envelopes: the business application header and the document, whatever they are wrapped in. Pure.

Owns: recognising envelopes and the XML limits. Must not know: fields, schemas, business rules, stores.
`read` parses bytes of unknown merit; it never raises for bad ones, it reports.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

from lxml import etree

from interlock.iso20022 import wrappers
from interlock.iso20022.findings import Finding, Severity, short
from interlock.iso20022.original import EnvelopeKind, Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of what is parsed at all; libxml2 has none of its own for total size or number of nodes."""

    bytes_max: int = 1_048_576
    depth_max: int = 64
    nodes_max: int = 200_000


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
    #: What an answer in the same kind of envelope needs to know; None for a Document and nothing else.
    transport: Transport | None = None
    #: A copy of what was sent before, in a report about it: there is nothing to be done, and nothing to be answered.
    is_report: bool = False

    @property
    def kind(self) -> EnvelopeKind:
        """What header and document came wrapped in."""
        return EnvelopeKind.BARE if self.transport is None else self.transport.kind


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

#: Encodings in which `<!DOCTYPE` is these very bytes; in any other the prolog is parsed to see. A zero after the first
#: sign is UTF-16 or UTF-32 that does not say so.
_ASCII_ENCODINGS: Final = rb"utf-?8|us-ascii|ascii|iso-?8859-?\d{1,2}|latin-?1|windows-125\d|cp125\d"
_PLAIN: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*<(?!\?xml|\0)"
    rb"|(?:\xef\xbb\xbf)?<\?xml\s(?![^>]{0,200}encoding)"
    rb"|(?:\xef\xbb\xbf)?<\?xml\s[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"'](?:" + _ASCII_ENCODINGS + rb")[\"']",
    re.IGNORECASE,
)
#: Also where the version is left out: then it is one that nobody has a schema for, which is not the same as invalid.
_NAMESPACE: Final = re.compile(r"urn:iso:std:iso:20022:(?:tech:)?xsd:([a-z]{4}(?:\.\d{3}){0,2}(?:\.\d{2})?)\Z")
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
        root = parse(body, parser or _PARSER)
    except etree.XMLSyntaxError as exc:
        return _nothing(_limit_finding(exc, limits.depth_max) or _syntax_finding(exc))
    except (ValueError, LookupError):  # an encoding that lxml refuses before it parses
        return _nothing(_encoding_finding())
    refused = _refuse_parsed(root, body, limits)
    if refused is not None:
        return _nothing(refused)
    return _open(root, lenient=lenient)


def parse(body: bytes, parser: etree.XMLParser) -> etree._Element:
    """The outermost element; around AppHdr and Document that stand side by side it is one of ours.

    What a wrapper that is known by name calls otherwise is AppHdr and Document in the tree.
    Raises etree.XMLSyntaxError; ValueError or LookupError for an encoding that lxml refuses before it parses.
    """
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as exc:
        siblings = _siblings(body, exc, parser)
        if siblings is None:
            raise
        return siblings
    wrappers.rename(root)
    return root


_LIMITS: Final = Limits()

#: What is put around header and document that came with nothing around them; no path shows it.
_SIBLINGS: Final = "{urn:interlock:siblings}siblings"
_BEFORE: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml\s[^>]{0,200}\?>)?")


def _siblings(body: bytes, exc: etree.XMLSyntaxError, parser: etree.XMLParser) -> etree._Element | None:
    """AppHdr and Document that stand side by side without an outermost element, put into one; None for all else.

    Such a body is two XML documents in one, but it is what some gateways hand on.
    """
    if _error_name(exc) != "document end" or not _PLAIN.match(body):
        return None
    match = _BEFORE.match(body)
    start = match.end() if match else 0
    pieces = (body[:start], b'<i:siblings xmlns:i="urn:interlock:siblings">', body[start:], b"</i:siblings>")
    try:
        root = etree.fromstring(b"".join(pieces), parser)
    except (etree.XMLSyntaxError, ValueError, LookupError):
        return None
    texts = (root.text, *(child.tail for child in root))
    names = sorted(local_name(child) for child in root)
    return root if names == ["AppHdr", "Document"] and not any(text and text.strip() for text in texts) else None


def _error_name(exc: etree.XMLSyntaxError) -> str:
    """What libxml2 calls the fault, for instance ERR_TAG_NAME_MISMATCH, in words."""
    entry = cast("Any", exc.error_log).last_error
    return "syntax" if entry is None else str(entry.type_name.removeprefix("ERR_").replace("_", " ").lower())


def is_utf32(head: bytes) -> bool:
    """Whether XML that begins so is in UTF-32, of which libxml2 does not see in a stream what is wrong with it."""
    return head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff", b"<\0\0\0", b"\0\0\0<"))


def _encoding_finding() -> Finding:
    return _finding("xml.malformed", "The encoding of the XML is not supported; use UTF-8.")


def _refuse_unparsed(body: bytes, limits: Limits) -> Finding | None:
    """Finding where the bytes need no parsing to be refused."""
    if len(body) > limits.bytes_max:
        return _finding("xml.size", f"The message is larger than {limits.bytes_max} bytes; split it.")
    if not body or body.isspace():
        return _finding("xml.empty", "There is no message: the body is empty. Send an ISO 20022 message in XML.")
    if is_json(body):
        return _finding("envelope.json", "The body is JSON; an ISO 20022 message in XML is wanted.")
    if is_utf32(body):
        return _encoding_finding()
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
    # An element costs a `<`, in these encodings a byte of its own: ordinary messages need no counting.
    elements_max = body.count(b"<") if len(body) > limits.nodes_max and _PLAIN.match(body) else len(body)
    if elements_max > limits.nodes_max and _count(root) > limits.nodes_max:
        return _finding("xml.nodes", f"The message has more than {limits.nodes_max} elements; split it.")
    if _deeper_than(limits.depth_max)(root):
        return _depth_finding(limits.depth_max)
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


def _depth_finding(depth_max: int) -> Finding:
    return _finding("xml.depth", f"Elements are nested deeper than {depth_max} levels.")


def _limit_finding(exc: etree.XMLSyntaxError, depth_max: int) -> Finding | None:
    """Finding for XML that libxml2 gives up at a limit of its own, which is wider than ours; None for other faults."""
    message = exc.msg or ""
    if message.startswith("Excessive depth"):
        return _depth_finding(depth_max)
    if any(words in message for words in _TOO_LONG):
        return _finding(
            "xml.size", "One text, name, attribute or comment is longer than any message needs; shorten it."
        )
    return None


#: In what libxml2 says of something longer than it takes: 10,000,000 bytes, and 50,000 for a name.
_TOO_LONG: Final = ("Resource limit exceeded", "too big found", "ame too long")


def _syntax_finding(exc: etree.XMLSyntaxError) -> Finding:
    """Finding for XML that is not well-formed: the place, and libxml2's name of the error, but nothing of the text.

    Its message is not used: it can repeat what stands at that place, which may be personal data.
    """
    line, column = exc.position
    name = _error_name(exc)
    text = f"The XML is not well-formed ({name}) at line {line}, column {column}."
    if name == "document end":
        text += " There must be one outermost element: wrap AppHdr and Document into one."
    elif name == "reserved xml name":
        text += " Nothing may stand before <?xml ...?>, and only one message in a body: send one at a time."
    elif name.startswith("war ns uri"):
        text = f"A namespace at line {line} is no URI: it must have no white space and no letters beyond ASCII."
    elif name == "document empty":
        text += " The body does not begin with an element: send the XML alone."
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


#: What is remembered must not be as long as a sender likes.
_TAG_MAX: Final = 100


def _kind(tag: str) -> tuple[bool, str | None] | None:
    """Whether a tag, `{namespace}name`, is that of a header, and its definition; None for other elements."""
    if not tag.endswith(("Document", "AppHdr")):
        return None
    return _named(tag) if len(tag) <= _TAG_MAX else _named.__wrapped__(tag)


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
        if is_crowded(root):
            return _nothing(namespaces_finding())
        bare: list[Finding] = []
        _judge_content(_Part(root, *kind), bare, lenient=lenient)
        return Envelope(
            wrapper=None, header=None, document=root, header_definition=None, definition=kind[1], findings=tuple(bare)
        )
    findings: list[Finding] = []
    parts = _parts(root)
    headers = _of_kind(parts, findings, is_header=True, lenient=lenient)
    documents = _of_kind(parts, findings, is_header=False, lenient=lenient)
    _judge_number(headers, documents, findings)
    if all(part.is_header for part in parts):
        findings.append(_missing_finding(root, headers))
    header = headers[0] if headers else None
    crowded = next((part for part in (header, *documents[:1]) if part is not None and is_crowded(part.element)), None)
    if crowded is not None:
        return _nothing(namespaces_finding())
    # Of two documents neither is *the* message: an answer to one would speak for the other.
    document = documents[0] if len(documents) == 1 else None
    for part in (header, document):
        if part is not None:
            _judge_content(part, findings, lenient=lenient)
    # Parts that are not what they should be still show what they came in, and so what their refusal is to come in.
    shown = _first(parts, header, is_header=True), _first(parts, document, is_header=False)
    transport = _around(root, parts, shown, findings) if parts and root not in shown else None
    is_wrapped = transport is not None and transport.kind is not EnvelopeKind.SIBLINGS
    namespace, _, name = root.tag.rpartition("}") if is_wrapped else ("", "", None)
    return Envelope(
        wrapper=name,
        wrapper_namespace=namespace[1:] or None,
        transport=transport,
        header=header.element if header else None,
        document=document.element if document else None,
        header_definition=header.definition if header else None,
        definition=document.definition if document else None,
        findings=tuple(findings),
        is_report=any(finding.rule == _REPORT for finding in findings),
    )


#: libxml2 copies the namespaces around an element that it validates, each beside all before it: thousands take minutes.
_NAMESPACES_MAX: Final = 256


def is_crowded(element: etree._Element) -> bool:
    """Whether more namespaces are declared on and around an element than any message needs."""
    return len(element.nsmap) > _NAMESPACES_MAX


def namespaces_finding() -> Finding:
    """Why such a message is not looked at."""
    words = "namespaces are declared on and around the message: leave out those that nothing is in"
    return _finding("xml.namespaces", f"More than {_NAMESPACES_MAX} {words}.")


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


def _around(
    root: etree._Element,
    parts: list[_Part],
    shown: tuple[etree._Element | None, etree._Element | None],
    findings: list[Finding],
) -> Transport:
    """What header and document came in, as an answer repeats it; what is wrong with it is told."""
    if root.tag == _SIBLINGS:
        findings.append(_siblings_finding())
        return Transport(kind=EnvelopeKind.SIBLINGS)
    # The usual wrapper holds both and nothing else.
    if len(root) == len(parts) and all(part.element.getparent() is root for part in parts):
        usual = wrappers.flat(root.tag) if len(root.tag) <= _TAG_MAX else None
        if usual is not None:
            return usual
    if len(parts) <= _PARTS_LOOKED_AROUND:
        _judge_strangers(root, parts, findings)
        _judge_place(root, parts, findings)
    for level in dict.fromkeys(
        level for part in parts[:_PARTS_LOOKED_AROUND] for level in part.element.iterancestors()
    ):
        if (report := wrappers.report(level)) is not None:
            findings.append(report_finding(report, path_of(level), line_of(level)))
            break
    return wrappers.transport(root, *shown)


def _first(parts: list[_Part], chosen: _Part | None, *, is_header: bool) -> etree._Element | None:
    """The header or the document: the one that counts, or else the first one named so."""
    if chosen is not None:
        return chosen.element
    return next((part.element for part in parts if part.is_header is is_header), None)


def _of_kind(parts: list[_Part], findings: list[Finding], *, is_header: bool, lenient: bool) -> list[_Part]:
    """The headers, or the documents, in an ISO 20022 namespace; strangers only matter where there is no other."""
    named = [part for part in parts if part.is_header is is_header]
    good = [part for part in named if part.definition is not None]
    if good:
        return good
    for stranger in named[:_STRANGERS_MAX]:
        namespace = _unused_namespace(stranger)
        mended = lenient and namespace is not None and "}" not in stranger.element.tag
        findings.append(_namespace_finding(stranger, namespace, Severity.WARNING if mended else Severity.ERROR))
        if mended and namespace is not None:
            good.append(_moved(stranger, namespace))
    return good


def _unused_namespace(part: _Part) -> tuple[str, str] | None:
    """Prefix and definition of a fitting ISO 20022 namespace that is declared here but that no element is in."""
    around = {element.tag.rpartition("}")[0][1:] for element in part.element.iterancestors()}
    for prefix, namespace in part.element.nsmap.items():
        match = None if namespace in around else _NAMESPACE.match(namespace)
        if match and prefix is not None and match[1].startswith("head.001.") is part.is_header:
            return prefix, match[1]
    return None


def _namespace_finding(part: _Part, unused: tuple[str, str] | None, severity: Severity) -> Finding:
    name = "AppHdr" if part.is_header else "Document"
    wanted = "head.001.001.02" if part.is_header else _meant(part) or "pacs.008.001.08"
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
        "envelope.namespace", text, xpath=path_of(part.element), line=line_of(part.element), severity=severity
    )


def _printable(prefix: str) -> str:
    """A prefix as it may be shown: a sender could write anything there."""
    return prefix if len(prefix) <= 20 and prefix.isascii() else "declared"


def _meant(part: _Part) -> str | None:
    """The definition that the header names, which is that of the document; a name of ISO's repeats nothing personal."""
    for element in part.element.getroottree().getroot().iter("{*}MsgDefIdr"):
        name = (element.text or "").strip()
        return name if _DEFINITION.match(name) else None
    return None


_DEFINITION: Final = re.compile(r"[a-z]{4}\.\d{3}\.\d{3}\.\d{2}\Z")


def _moved(part: _Part, namespace: tuple[str, str]) -> _Part:
    """The same elements, in the namespace that their sender meant; lines stay."""
    _move(part.element, part.element.nsmap[namespace[0]])
    return _Part(part.element, part.is_header, namespace[1])


def _move(part: etree._Element, uri: str) -> None:
    """Put all elements that are in no namespace into this one."""
    for element in part.iter():
        if "}" not in element.tag:
            element.tag = f"{{{uri}}}{element.tag}"


def _judge_number(headers: list[_Part], documents: list[_Part], findings: list[Finding]) -> None:
    """One document, and at most one header."""
    for many, rule, name in ((headers, "envelope.many_headers", "AppHdr"), (documents, "envelope.many", "Document")):
        if len(many) > 1:
            extra = many[1].element
            text = f"There is more than one {name}: send one message at a time."
            findings.append(_finding(rule, text, xpath=path_of(extra), line=line_of(extra)))


def _missing_finding(root: etree._Element, headers: list[_Part]) -> Finding:
    """There is no Document, and what there is in its place."""
    rule = "envelope.no_document"
    for element in root.iter():
        match = _NAMESPACE.match(element.tag.rpartition("}")[0].removeprefix("{"))
        if match and not match[1].startswith(("head.001.", "nvlp.001.")):
            name = wrappers.name_of_document(root.tag, match[1])
            where = "in the same namespace" if name == "Document" else "in the namespace of the wrapper"
            text = (
                f"An element of {match[1]} does not stand in a {name}: put what the message holds into one element "
                f"{name} {where}, spelt so."
            )
            return _finding(rule, text, xpath=path_of(element), line=line_of(element))
    if headers:
        text = "There is an AppHdr, but no Document: the message itself is missing."
        return _finding(rule, text, xpath=path_of(headers[0].element), line=line_of(headers[0].element))
    text = "There is no ISO 20022 message in the XML: an element Document in the namespace of its version is wanted."
    return _finding(rule, text)


def _judge_content(part: _Part, findings: list[Finding], *, lenient: bool) -> None:
    """The first element in a header or document is in its namespace too, not only the outermost."""
    content = next(iter(part.element), None)
    namespace = part.element.tag.rpartition("}")[0]
    if content is None or content.tag.startswith(f"{namespace}}}"):
        return
    is_bare = "}" not in content.tag
    mended = lenient and is_bare
    outer, inner = local_name(part.element), "its content" if len(content.tag) > 100 else local_name(content)
    text = (
        f"{outer} is in the namespace of {part.definition}, but {inner} is in "
        f"{'none' if is_bare else 'another'}: a prefix holds for one element only. Write it on every element, or "
        f"declare the namespace on {outer} as the default, xmlns=."
    )
    severity = Severity.WARNING if mended else Severity.ERROR
    place = path_of(content)
    findings.append(_finding("envelope.namespace", text, xpath=place, line=line_of(content), severity=severity))
    if mended:
        _move(part.element, namespace[1:])


#: Beyond one header and one document it is wrong for that reason, whatever else stands there.
_PARTS_LOOKED_AROUND: Final = 2
#: How many strangers in a wrapper are told one by one.
_STRANGERS_MAX: Final = 20


def _judge_strangers(root: etree._Element, parts: list[_Part], findings: list[Finding]) -> None:
    """Whatever stands in a wrapper and is not known there is said, since nothing here looks at it."""
    count = 0
    for stranger in wrappers.strangers(root, [part.element for part in parts]):
        count += 1
        if count <= _STRANGERS_MAX:
            text = (
                "This element beside AppHdr and Document is not known here: it is kept with the message, but nothing "
                "reads it. Put what matters into the message itself."
            )
            place, line = path_of(stranger), line_of(stranger)
            findings.append(_finding("envelope.unknown", text, xpath=place, line=line, severity=Severity.WARNING))
    if count > _STRANGERS_MAX:
        text = f"There are {count - _STRANGERS_MAX} further unknown elements beside AppHdr and Document."
        findings.append(_finding("envelope.unknown", text, xpath=path_of(root), severity=Severity.WARNING))


def _judge_place(root: etree._Element, parts: list[_Part], findings: list[Finding]) -> None:
    """A message stands in the element of the wrapper that is for such messages."""
    for part in parts:
        family = None if part.is_header or part.definition is None else wrappers.held(root, part.element)
        if part.definition is None or family is None or part.definition.startswith(family):
            continue
        above = path_of(part.element).rpartition("/")[0]
        text = (
            f"{above.rpartition('/')[2]} is for {family}, and holds {part.definition}: it is read all the same; better "
            "put the message into the element of the envelope that is for it."
        )
        place = _finding("envelope.place", text, xpath=above, line=line_of(part.element), severity=Severity.WARNING)
        findings.append(place)


_REPORT: Final = "envelope.report"


def report_finding(name: str, xpath: str = "/", line: int | None = None) -> Finding:
    """A wrapper with a report in place of a message."""
    text = (
        f"This is a {_printable(name)}: what it holds is a copy of a message that was sent before. Nothing is done "
        "about it; send messages alone, and keep reports for whoever sent the message."
    )
    return _finding(_REPORT, text, xpath=xpath, line=line)


def _siblings_finding() -> Finding:
    text = (
        "AppHdr and Document stand side by side with nothing around them, which is no well-formed XML. They are read "
        "all the same, and answered alike; better wrap both into one outermost element."
    )
    return _finding("xml.siblings", text, severity=Severity.WARNING)


def line_of(element: etree._Element) -> int | None:
    """Line in the bytes received, from 1."""
    return cast("int | None", element.sourceline)  # the stubs give it no type


def path_of(element: etree._Element) -> str:
    """Path from the root of the bytes received, in local names, as findings give it; very long names are cut."""
    names = [short(wrappers.received_name(element))]
    above = element.getparent()
    while above is not None and above.tag != _SIBLINGS:
        names.append(short(wrappers.received_name(above)))
        above = above.getparent()
    names.append("")
    names.reverse()
    return "/".join(names)


def local_name(element: etree._Element) -> str:
    """The name without its namespace."""
    return element.tag.rpartition("}")[2]


def pinpoint(envelope: Envelope, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings with the line of the very element they name, where the document has it.

    Rules see fields and know only where a payment begins; messages without findings need not pay for more.
    """
    anchor = envelope.document if envelope.document is not None else envelope.header
    if anchor is None:
        return tuple(findings)
    root = anchor.getroottree().getroot()
    children = _Children()
    return tuple(_with_line(root, finding, children) for finding in findings)


class _Children:
    """The children of elements by local name, gone through once: there may be thousands of both, and of findings."""

    def __init__(self) -> None:
        self._known: dict[etree._Element, dict[str, list[etree._Element]]] = {}

    def named(self, element: etree._Element, name: str) -> list[etree._Element]:
        """Those of an element that have this name."""
        known = self._known.get(element)
        if known is None:
            known = self._known[element] = {}
            for child in element:
                known.setdefault(wrappers.received_name(child), []).append(child)
        return known.get(name, [])


def _with_line(root: etree._Element, finding: Finding, children: _Children) -> Finding:
    element = root
    for step in finding.xpath.split("/")[1 if root.tag == _SIBLINGS else 2 :]:
        # A step such as `CdtTrfTxInf[2]`; namespaces do not matter here.
        name, _, position = step.rstrip("]").partition("[")
        named = children.named(element, name)
        if len(named) < int(position or 1):
            break  # The element is missing: the line of what should hold it.
        element = named[int(position or 1) - 1]
    return replace(finding, line=line_of(element) or finding.line)
