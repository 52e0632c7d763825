"""Schema validation at the official grade, for every version that pyiso20022 knows and every schema of the operator's.

Owns: which versions there are, where their schemas come from (the operator's folder first, then the compiler in `xsd`
behind a cache on disk), the few that are loaded, and the findings made of libxml2's errors. Must not know: what the
elements mean; that is `rules`.

    folder of *.xsd ─┐
    pyiso20022 ─ compiler ─ cache ─┴─ XSD text ─ libxml2 schema (bounded, least recently used goes) ─ findings

XMLParser(target=, schema=) is never used: it accepts invalid documents without a word.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

from lxml import etree

from interlock.errors import ConfigError
from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.xsd import (
    COMPILER_VERSION,
    Child,
    ContentModel,
    Definition,
    Source,
    UserFolder,
    UserSchemaError,
    compile_source,
    definition_of_namespace,
    namespace_of,
    root_of,
)

__all__ = ["Catalogue", "Child", "Definition", "Source", "UserSchemaError", "definition_of_namespace"]

#: Families of messages that are compiled; pyiso20022 has collateral management too, which is no payment.
_FAMILIES: Final = ("admi", "camt", "head", "pacs", "pain", "remt")

#: Every schema finding is this one to ISO: ExternalStatusReason1Code FF01, InvalidFileFormat.
_REASON: Final = "FF01"

#: lxml writes a path for each error and walks all elder siblings for it. Over this product of errors and siblings (a
#: fifth of a second) a hostile message would stop the house for minutes, so its errors come without places.
_PATH_STEPS_MAX: Final = 100_000_000
_IS_LARGE: Final = etree.XPath("boolean(descendant::*[5001])")

#: Bounds of what a text lists, and of a name in it; ISO's longest name has some forty letters.
_EXPECTED_MAX: Final = 30
_NAME_MAX: Final = 100

#: libxml2's error -> kind, the words before the limit, what ends it, our words. No words before: no limit.
_LIMITS: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "SCHEMAV_CVC_PATTERN_VALID": ("pattern", "by the pattern '", "'.", "must match the pattern {}"),
    "SCHEMAV_CVC_ENUMERATION_VALID": ("enumeration", "an element of the set {", "}.", "must be {}."),
    "SCHEMAV_CVC_LENGTH_VALID": ("length", "the allowed length of '", "'.", "must have a length of {}."),
    "SCHEMAV_CVC_MINLENGTH_VALID": ("minLength", "minimum length of '", "'.", "must have a length of at least {}."),
    "SCHEMAV_CVC_MAXLENGTH_VALID": ("maxLength", "maximum length of '", "'.", "must have a length of at most {}."),
    "SCHEMAV_CVC_TOTALDIGITS_VALID": ("totalDigits", " allowed ('", "').", "must have at most {} digits."),
    "SCHEMAV_CVC_FRACTIONDIGITS_VALID": (
        *("fractionDigits", " allowed ('", "').", "must have at most {} digits after the point."),
    ),
    "SCHEMAV_CVC_MININCLUSIVE_VALID": ("minInclusive", " allowed ('", "').", "must be at least {}."),
    "SCHEMAV_CVC_MAXINCLUSIVE_VALID": ("maxInclusive", " allowed ('", "').", "must be at most {}."),
    "SCHEMAV_CVC_MINEXCLUSIVE_VALID": ("minExclusive", " must be greater than '", "'.", "must be greater than {}."),
    "SCHEMAV_CVC_MAXEXCLUSIVE_VALID": ("maxExclusive", " must be less than '", "'.", "must be less than {}."),
    "SCHEMAV_CVC_COMPLEX_TYPE_4": (
        *("attributeMissing", "The attribute '", "' is required but missing.", "must have the attribute {}: add it."),
    ),
    "SCHEMAV_CVC_COMPLEX_TYPE_2_1": ("text", "", "", "must be empty: remove its text."),
    "SCHEMAV_CVC_COMPLEX_TYPE_2_2": ("elements", "", "", "must hold a value, not elements: remove them."),
    "SCHEMAV_CVC_COMPLEX_TYPE_2_3": ("text", "", "", "must hold elements only: remove the text."),
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_1": ("attribute", "", "", "is not allowed: remove it."),
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_2": ("attribute", "", "", "is not allowed: remove it."),
    "SCHEMAV_CVC_TYPE_3_1_1": ("attribute", "", "", "is not allowed: remove it."),
    "SCHEMAV_CVC_TYPE_3_1_2": ("elements", "", "", "must hold a value, not elements: remove them."),
    "SCHEMAV_CVC_ELT_1": ("undeclared", "", "", "is not in the schema: mend its name or its namespace."),
    "SCHEMAV_CVC_ELT_3_1": ("nil", "", "", "must not be nil: give its content, or leave it out."),
    "SCHEMAV_CVC_ELT_4_2": ("type", "", "", "names no type of the schema: remove the attribute."),
}
_FACETS: Final = frozenset(kind for kind, marker, _, _ in _LIMITS.values() if marker) - {"attributeMissing"}
_OTHER: Final = ("other", "", "", "does not conform to the schema.")

_DATATYPES: Final[Mapping[str, str]] = {
    "base64Binary": "base64",
    "boolean": "true or false",
    "date": "a date, such as 2026-01-31",
    "dateTime": "a date and time, such as 2026-01-31T09:30:00+01:00",
    "decimal": "a decimal number with a point and without an exponent",
    "gYear": "a year of four digits",
    "gYearMonth": "a year and month, such as 2026-01",
    "time": "a time, such as 09:30:00+01:00",
}

_SUBJECT: Final = re.compile(r"Element '(?:\{[^}]*\})?([^']*)'(?:, attribute '(?:\{[^}]*\})?([^']*)')?")
_STEP: Final = re.compile(r"(?:([^/:\[]+):)?([^/:\[]+)(?:\[(\d+)\])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A schema in memory, about 0.7 MB."""

    schema: etree.XMLSchema
    model: ContentModel
    #: The error log belongs to the schema: who validates holds this until the log is read.
    lock: Lock = field(default_factory=Lock)
    #: Path -> children: answers ask for the same few paths again and again.
    children: dict[tuple[str, ...], tuple[Child, ...]] = field(default_factory=dict)


class Catalogue:
    """Every schema that we can validate with. Safe for use by several threads, each with a tree of its own."""

    def __init__(
        self,
        *,
        cache: Path | None = None,
        user: Path | None = None,
        loaded_max: int = 32,
        findings_max: int = 100,
    ) -> None:
        """Read the names of what there is; schemas are compiled and loaded when first asked for.

        cache: folder for compiled schemas, made if absent; may be lost at any time; None keeps nothing.
        user: folder of *.xsd that go before compiled ones. Raises UserSchemaError for a file that cannot be used.
        loaded_max: how many schemas are kept in memory. findings_max: how many findings one validation gives.
        """
        self._cache = _Cache(cache) if cache else None
        self._user = UserFolder(user) if user else None
        self._loaded_max = loaded_max
        self._findings_max = findings_max
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._lock = Lock()

    def definitions(self) -> Sequence[Definition]:
        """Every version known, by name."""
        return tuple(self._definitions.values())

    def knows(self, definition: str) -> bool:
        """Whether the version can be validated."""
        return definition in self._definitions

    def xsd(self, definition: str) -> bytes:
        """The text of the schema: compiled (from the cache if there) or the operator's file. KeyError if unknown."""
        if self._user and self._definitions[definition].source is Source.USER:
            return self._user.text(definition)
        text = self._cache.get(definition) if self._cache else None
        if text is None:
            text = compile_source(_source_path(self._definitions[definition].name).read_text("utf-8"), definition)
            if self._cache:
                self._cache.put(definition, text)
        return text

    def check(self) -> None:
        """Load every user schema once, so that a broken one is found at the start. Raises UserSchemaError."""
        for definition in self._definitions.values():
            if definition.source is Source.USER:
                self._load(definition.name)

    def validate(self, definition: str, element: etree._Element) -> tuple[Finding, ...]:
        """What the schema says against the element and all below it; empty if it is valid.

        element: the Document or AppHdr, also inside a wrapper, which is not looked at. Its tree must not be in use by
        another thread meanwhile: libxml2 is shown the element as if it were a root.
        Raises KeyError for an unknown version: ask `knows` before.
        """
        loaded = self._load(definition)
        if _IS_LARGE(element) and (errors := _errors_if_many(loaded, element)):
            return _findings(errors, element, loaded.model, self._findings_max)
        with loaded.lock:
            if loaded.schema.validate(element):
                return ()
            errors = _errors(loaded.schema.error_log)
        return _findings(errors, element, loaded.model, self._findings_max)

    def children(self, definition: str, path: Sequence[str] = ()) -> tuple[Child, ...]:
        """The child elements, in the order of the schema, of the one at the path below Document or AppHdr.

        path: local names such as ("FIToFIPmtStsRpt", "TxInfAndSts"). Empty for an element that holds a value.
        Raises KeyError for an unknown version, and for a path that the version does not have.
        """
        loaded = self._load(definition)
        key = tuple(path)
        if key not in loaded.children:
            loaded.children[key] = loaded.model.children(self._definitions[definition].root, key)
        return loaded.children[key]

    @cached_property
    def _definitions(self) -> Mapping[str, Definition]:
        known = {definition.name: definition for definition in _compiled_definitions()}
        if self._user:
            known |= {definition.name: definition for definition in self._user.definitions()}
        return dict(sorted(known.items()))

    def _load(self, definition: str) -> _Loaded:
        with self._lock:
            if loaded := self._loaded.get(definition):
                self._loaded.move_to_end(definition)
                return loaded
        # Outside the lock, so that others go on meanwhile. Two threads may load the same schema; one copy is dropped.
        loaded = self._read(definition)
        with self._lock:
            loaded = self._loaded.setdefault(definition, loaded)
            while len(self._loaded) > self._loaded_max:
                self._loaded.popitem(last=False)
        return loaded

    def _read(self, definition: str) -> _Loaded:
        if self._user and self._definitions[definition].source is Source.USER:
            schema, model = self._user.load(definition)
            return _Loaded(schema=schema, model=model)
        root = etree.fromstring(self.xsd(definition))
        return _Loaded(schema=etree.XMLSchema(root), model=ContentModel(root))


def _package() -> Path:
    """The folder of pyiso20022, found without importing it."""
    spec = importlib.util.find_spec("pyiso20022")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("The package pyiso20022, which the schemas are made from, is not installed: install it.")
    return Path(spec.submodule_search_locations[0])


def _compiled_definitions() -> Iterator[Definition]:
    package = _package()
    for family in _FAMILIES:
        for folder in package.glob(f"{family}/{family}_???_???_??"):
            name = folder.name.replace("_", ".")
            yield Definition(name=name, namespace=namespace_of(name), root=root_of(name), source=Source.COMPILED)


def _source_path(definition: str) -> Path:
    module = definition.replace(".", "_")
    return _package() / definition[:4] / module / f"{module}.py"


class _Cache:
    """Compiled schemas on disk. Whatever fails here costs time only: it is then compiled again."""

    def __init__(self, folder: Path) -> None:
        self._root = folder

    def get(self, definition: str) -> bytes | None:
        """The schema as it was put; None if it is absent, of another compiler or package, or damaged."""
        try:
            stored = (self._folder / f"{definition}.xsd").read_bytes()
        except OSError:
            return None
        text, _, _ = stored.rpartition(b"<!--")
        return text if stored == _sealed(text) else None

    def put(self, definition: str, text: bytes) -> None:
        """Write it whole or not at all."""
        # A cache that cannot be written (read-only image, full disk) is a slower start, not a fault.
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=f".{definition}.")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_sealed(text))
                Path(temporary).replace(self._folder / f"{definition}.xsd")
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise

    @cached_property
    def _folder(self) -> Path:
        """One folder for each compiler and package: what another made is never read."""
        return self._root / f"{COMPILER_VERSION}-{importlib.metadata.version('pyiso20022')}"


def _sealed(text: bytes) -> bytes:
    """The text with its digest in a comment behind it: a torn or edited file is known as such, and is still an XSD."""
    return text + b"<!-- sha256 " + hashlib.sha256(text).hexdigest().encode() + b" -->\n"


class _Error(NamedTuple):
    """One line of libxml2's error log."""

    type_name: str
    message: str
    #: From the element validated: `/*/*[2]/p:Name[1]`; None if libxml2 tells none.
    path: str | None


def _errors(log: Any) -> list[_Error]:
    return [_Error(entry.type_name, entry.message, entry.path) for entry in log]


def _errors_if_many(loaded: _Loaded, element: etree._Element) -> list[_Error]:
    """The errors of a large tree, without places, if they are so many that to find the places would take too long.

    Empty if they are few, or none. The tree is validated as a stream, in which libxml2 gives no paths.
    """
    parser = etree.XMLParser(schema=loaded.schema, huge_tree=True, no_network=True, resolve_entities=False)
    with loaded.lock, suppress(etree.XMLSyntaxError):
        etree.fromstring(etree.tostring(element, with_tail=False), parser)
    errors = _errors(parser.error_log)
    widest = max(len(node) for node in element.iter(etree.Element))
    return errors if len(errors) * widest > _PATH_STEPS_MAX else []


def _findings(
    errors: Sequence[_Error], element: etree._Element, model: ContentModel, findings_max: int
) -> tuple[Finding, ...]:
    """Findings of the errors, one of each place and cause; at the bound the last says how many errors are left out."""
    findings: list[Finding] = []
    causes: dict[tuple[str | None, str, str | None], set[str]] = {}
    for number, error in enumerate(errors):
        subject = _subject(error.message)
        kind, text = _explain(error, model)
        earlier = causes.setdefault((error.path, *subject), set())
        if not _repeats(kind, earlier, placed=error.path is not None):
            if len(findings) == findings_max:
                return (*findings[:-1], _left_out(len(errors) - number + 1, element))
            findings.append(_finding(error.path, kind, subject, text, element))
        earlier.add(kind)
    return tuple(findings)


def _repeats(kind: str, earlier: set[str], *, placed: bool) -> bool:
    """Whether an error says nothing new after the earlier ones of its place (or, without a place, of its name)."""
    if not placed:
        return kind in earlier
    if kind == "datatype":
        return bool(earlier)
    return kind in _FACETS and not earlier.isdisjoint({"elements", "nil"})


def _finding(
    path: str | None, kind: str, subject: tuple[str, str | None], text: str, element: etree._Element
) -> Finding:
    name, attribute = subject
    node = _find(element, path)
    return Finding(
        severity=Severity.ERROR,
        rule=f"schema.{kind}",
        reason=_REASON,
        xpath=_xpath(node) + (f"/@{attribute}" if attribute else ""),
        line=_line(node) if path else None,
        text=f"{f'Attribute {attribute} of {name}' if attribute else name} {text}",
    )


def _line(node: etree._Element) -> int | None:
    line: Any = node.sourceline
    return int(line) if line else None


def _left_out(count: int, element: etree._Element) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        rule="schema.more",
        reason=_REASON,
        xpath=_xpath(element),
        line=None,
        text=f"{count} more schema errors are not listed: mend those above and check again.",
    )


def _find(element: etree._Element, path: str | None) -> etree._Element:
    """The element at libxml2's path, which starts at the element validated and counts as XPath does."""
    node = element
    for step in _STEP.finditer(path.partition("/")[2].partition("/")[2] if path else ""):
        prefix, name, position = step.groups()
        same = (
            child
            for child in node.iterchildren("*" if name == "*" else f"{{*}}{name}")
            if name == "*" or child.prefix == prefix
        )
        found = next(islice(same, int(position or 1) - 1, None), None)
        if found is None:
            return node
        node = found
    return node


def _xpath(element: etree._Element) -> str:
    """Local names from the root of the whole tree, with a position only where a sibling has the same name."""
    steps = [_step(node) for node in (element, *element.iterancestors())]
    return "".join(f"/{step}" for step in reversed(steps))


def _step(node: etree._Element) -> str:
    name = etree.QName(node).localname
    elder = sum(1 for _ in node.itersiblings(f"{{*}}{name}", preceding=True))
    if elder or next(node.itersiblings(f"{{*}}{name}"), None) is not None:
        return f"{_short(name)}[{elder + 1}]"
    return _short(name)


def _short(name: str) -> str:
    """The name, or its start: a sender may give a wrapper names of 50,000 letters, repeated in each finding."""
    return name if len(name) <= _NAME_MAX else f"{name[:_NAME_MAX]}..."


def _subject(message: str) -> tuple[str, str | None]:
    """Local names of the element, and of the attribute if it is one, that the message begins with."""
    found = _SUBJECT.match(message)
    return (_short(found[1]), found[2] and _short(found[2])) if found else ("The message", None)


def _explain(error: _Error, model: ContentModel) -> tuple[str, str]:
    """The kind of an error, and what is expected in words. Nothing of the message's values gets into them."""
    if error.type_name == "SCHEMAV_ELEMENT_CONTENT":
        return _explain_content(error.message)
    if error.type_name.startswith("SCHEMAV_CVC_DATATYPE"):
        return "datatype", _explain_datatype(error.message, model)
    kind, marker, end, text = _LIMITS.get(error.type_name, _OTHER)
    if not marker:
        return kind, text
    # The value comes first and may hold anything, the schema's own words last: so the last marker is the true one.
    _, found, limit = error.message.rpartition(marker)
    if not found or not limit.endswith(end):
        return kind, f"does not keep the limit that the schema sets ({kind})."
    limit = limit.removesuffix(end)
    return kind, text.format(_listed(limit.strip("'").split("', '")) if kind == "enumeration" else limit)


def _explain_content(message: str) -> tuple[str, str]:
    _, found, expected = message.rpartition("Expected is ")
    names = [_expected_name(name) for name in expected.partition("( ")[2].removesuffix(" ).").split(", ")]
    due = f"next must come {_listed(names)}" if found else "nothing more may come"
    if "Missing child element(s)." in message:
        return "missing", f"is incomplete: {due}."
    return "unexpected", f"is not expected here: {due}. Remove it, or put it where it belongs."


def _expected_name(name: str) -> str:
    return "any element" if name.startswith("##") else name.rpartition("}")[2]


def _explain_datatype(message: str, model: ContentModel) -> str:
    name = message.rpartition(" type '")[2].removesuffix("'.")
    base = name.removeprefix("xs:") if name.startswith("xs:") else model.base_of(name.rpartition("}")[2])
    return f"must be {_DATATYPES.get(base or '', 'a value of the type that the schema names')}."


def _listed(names: Sequence[str]) -> str:
    """`A`, `one of A, B`, or the first of many."""
    if len(names) == 1:
        return names[0]
    more = f" and {len(names) - _EXPECTED_MAX} others" if len(names) > _EXPECTED_MAX else ""
    return f"one of {', '.join(names[:_EXPECTED_MAX])}{more}"
