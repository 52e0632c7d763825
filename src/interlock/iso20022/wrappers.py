"""What messages come wrapped in, and what their answers are wrapped in. Pure; the names are in `data/wrappers.toml`.

Owns: kinds of envelopes, and what may stand in them beside header and document. Must not know: what either holds.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import quoteattr

from lxml import etree

from interlock.iso20022.original import EnvelopeKind, Transport


class Wrapper(NamedTuple):
    """A wrapper known by name; one table of `data/wrappers.toml`, which explains each word."""

    kind: EnvelopeKind
    #: Local names and namespaces; with two, a message in the one is answered in the other.
    roots: tuple[tuple[str, str], ...]
    beside: frozenset[str]
    header: str | None
    document: str | None
    body: str | None
    #: Of one that brings reports too: in which element of it stands what only a message has.
    message: tuple[str, ...]
    details: tuple[str, ...]
    messages: tuple[str, ...]
    answers: Mapping[str, str]
    documents: Mapping[str, str]
    eased: frozenset[str]
    holds: Mapping[str, str]

    @property
    def directions(self) -> tuple[tuple[tuple[str, str], str], ...]:
        """Roots of the two directions with the element in them, for the wrappers that have directions."""
        return tuple(zip(self.roots, self.messages, strict=True)) if self.messages else ()


def _wrapper(kind: EnvelopeKind, table: Mapping[str, Any]) -> Wrapper:
    return Wrapper(
        kind=kind,
        roots=tuple((name, namespace) for name, namespace in table["roots"]),
        beside=frozenset(table["beside"]),
        header=table.get("header"),
        document=table.get("document"),
        body=table.get("body"),
        message=tuple(table.get("message", ())),
        details=tuple(table.get("details", ())),
        messages=tuple(table.get("messages", ())),
        answers=MappingProxyType(table.get("answers", {})),
        documents=MappingProxyType(table.get("documents", {})),
        eased=frozenset(table.get("eased", ())),
        holds=MappingProxyType(table.get("holds", {})),
    )


@cache
def wrappers() -> Mapping[EnvelopeKind, Wrapper]:
    """Those known by name."""
    text = resources.files("interlock.iso20022").joinpath("data/wrappers.toml").read_text("utf-8")
    return MappingProxyType(
        {EnvelopeKind(name): _wrapper(EnvelopeKind(name), table) for name, table in tomllib.loads(text).items()}
    )


@cache
def _roots() -> Mapping[tuple[str, str | None], Wrapper]:
    return {root: wrapper for wrapper in wrappers().values() for root in wrapper.roots}


def rename(root: etree._Element) -> None:
    """Call header and document AppHdr and Document where the wrapper has names of its own for them; lines stay."""
    wrapper = renaming(root.tag)
    if wrapper is None:
        return
    own = root.tag.rpartition("}")[0]
    for element in root.iterchildren("*"):
        inside = next(element.iterchildren("*"), None)
        namespace, _, name = element.tag.rpartition("}")
        if inside is None or namespace != own:
            continue
        meant = inside.tag.rpartition("}")[0]
        family = _family(meant)
        if name == "AppHdr" and family == "head.001":
            element.tag = f"{meant}}}AppHdr"
        elif wrapper.documents.get(family) == name:
            element.tag = f"{meant}}}Document"


def renaming(tag: str) -> Wrapper | None:
    """The wrapper of that tag, if it has names of its own for what it holds."""
    namespace, _, name = tag.rpartition("}")
    wrapper = _roots().get((name, namespace[1:] or None))
    return wrapper if wrapper is not None and wrapper.documents else None


def eased(kind: EnvelopeKind) -> frozenset[str]:
    """Elements of the header that come otherwise than ISO's schema wants in envelopes of that kind."""
    wrapper = wrappers().get(kind)
    return frozenset() if wrapper is None else wrapper.eased


def _family(namespace: str) -> str:
    """`pacs.008` of a namespace of ISO 20022 with its version."""
    return namespace.rpartition(":")[2][:8]


def name_of_document(root: str, definition: str) -> str:
    """What a message of that definition has to stand in, in a wrapper with that tag."""
    wrapper = renaming(root)
    return "Document" if wrapper is None else wrapper.documents.get(definition[:8], "Document")


def received_name(element: etree._Element) -> str:
    """The local name that an element had in the bytes received, `rename` or not."""
    namespace, _, name = element.tag.rpartition("}")
    above = element.getparent() if name == "Document" else None
    return name if above is None else name_of_document(above.tag, _family(namespace))


#: No sane envelope is deeper, and no sane name longer: an answer does not repeat such.
_LEVELS_MAX: Final = 8
_NAME_MAX: Final = 256


@lru_cache(maxsize=256)
def flat(tag: str) -> Transport | None:
    """The envelope that holds header and document, or the latter alone, directly; None where more must be looked at."""
    namespace, _, name = tag.rpartition("}")
    root = name, namespace[1:] or None
    wrapper = _roots().get(root)
    if wrapper is not None or not _is_repeatable(tag):
        return None
    return Transport(kind=_kind_of(name), around=(root,))


def transport(root: etree._Element, header: etree._Element | None, document: etree._Element | None) -> Transport:
    """How header and document lie below the root, which is neither of them."""
    kind, wrapper = _kind(root)
    if wrapper is not None and wrapper.details:
        return Transport(kind=kind, around=(_named(root),), details=_details(root, wrapper))
    above_header, above_document = _above(header), _above(document)
    around = _shared(above_header, above_document) if above_header and above_document else above_header + above_document
    below_header, below_document = above_header[len(around) :], above_document[len(around) :]
    for levels in (around, below_header, below_document):
        if len(levels) > _LEVELS_MAX or not all(_is_repeatable(element.tag) for element in levels):
            return Transport(kind=kind)
    return Transport(
        kind=kind,
        around=tuple(_named(element) for element in around),
        header=tuple(_named(element) for element in below_header),
        document=tuple(_named(element) for element in below_document),
    )


def _is_repeatable(tag: str) -> bool:
    """Whether an answer can hold such an element; lxml lets a namespace that is no URI pass where a warning follows."""
    return len(tag) <= _NAME_MAX and _is_well_formed(tag)


@lru_cache(maxsize=256)
def _is_well_formed(tag: str) -> bool:
    namespace, _, name = tag.rpartition("}")
    try:
        etree.fromstring(f"<{name} xmlns={quoteattr(namespace[1:])}/>")
    except etree.XMLSyntaxError:
        return False
    return True


def report(root: etree._Element) -> str | None:
    """What a wrapper brings in place of a message: the name of a report about one that was sent before."""
    for header in root.iterchildren("*"):
        message = message_in(root.tag, header.tag)
        if message is not None:
            return report_among([child.tag for child in header.iterchildren("*")], message)
    return None


def message_in(root: str, tag: str) -> str | None:
    """The full tag of what only a message has in an element of a wrapper; None for elements that do not tell."""
    namespace, _, name = root.rpartition("}")
    wrapper = _roots().get((name, namespace[1:] or None))
    if wrapper is None or not wrapper.message or tag != f"{namespace}}}{wrapper.message[0]}":
        return None
    return f"{namespace}}}{wrapper.message[1]}"


def report_among(tags: Sequence[str], message: str) -> str | None:
    """The name of what stands there in place of a message."""
    return tags[0].rpartition("}")[2] if tags and message not in tags else None


def _shared(one: list[etree._Element], other: list[etree._Element]) -> list[etree._Element]:
    """The levels that two elements have in common."""
    return [mine for mine, theirs in zip(one, other, strict=False) if mine is theirs]


def _kind(root: etree._Element) -> tuple[EnvelopeKind, Wrapper | None]:
    name, namespace = _named(root)
    wrapper = _roots().get((name, namespace))
    if wrapper is not None:
        return wrapper.kind, wrapper
    return _kind_of(name), None


def _kind_of(name: str) -> EnvelopeKind:
    return EnvelopeKind.REQUEST_PAYLOAD if name == "RequestPayload" else EnvelopeKind.OTHER


def _named(element: etree._Element) -> tuple[str, str | None]:
    namespace, _, name = element.tag.rpartition("}")
    return name, namespace[1:] or None


def _above(element: etree._Element | None) -> list[etree._Element]:
    """The elements around one, outermost first."""
    above: list[etree._Element] = []
    while element is not None and (element := element.getparent()) is not None:
        above.append(element)
    above.reverse()
    return above


def _details(root: etree._Element, wrapper: Wrapper) -> tuple[tuple[str, str], ...]:
    prefix = f"{{{_named(root)[1]}}}"
    found = []
    for path in wrapper.details:
        text = root.findtext("/".join(f"{prefix}{name}" for name in path.split("/")))
        if text is not None and 0 < len(text.strip()) <= _NAME_MAX:
            found.append((path, text.strip()))
    return tuple(found)


def held(root: etree._Element, document: etree._Element) -> str | None:
    """The family that the element around a document is for; None where the wrapper has no such elements."""
    around = document.getparent()
    _, wrapper = _kind(root)
    if wrapper is None or around is None or not wrapper.holds:
        return None
    name, namespace = _named(around)
    return wrapper.holds.get(name) if namespace == _named(root)[1] else None


def strangers(root: etree._Element, parts: Iterable[etree._Element]) -> Iterator[etree._Element]:
    """Elements in a wrapper that are neither header nor document, nor around them, nor the wrapper's own; in order."""
    parts = set(parts)
    around = {level for part in parts for level in _above(part)}
    _, wrapper = _kind(root)
    own = frozenset[str]() if wrapper is None else {f"{{{_named(root)[1]}}}{name}" for name in wrapper.beside}
    waiting = [iter(root)]
    while waiting:
        child = next(waiting[-1], None)
        if child is None:
            waiting.pop()
        elif child in around:
            waiting.append(iter(child))
        elif child not in parts and not (len(waiting) == 1 and child.tag in own):
            yield child
