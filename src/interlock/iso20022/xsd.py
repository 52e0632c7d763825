"""XML Schemas: those made from the dataclasses of the package pyiso20022, and those in the operator's folder.

Owns: the compiler (Python source in, XSD out) with what must be known beyond the source, the operator's folder with
what it may refer to, and the reader of content models. Knows nothing of caches, messages or findings. The source is
read by `ast` and never imported: importing one of these modules costs 300 ms, reading it 15.

The compiler keeps what decides a verdict (elements, order, occurrence, facets, attributes, wildcards) and the names of
complex types. The names of simple types are not in the source; it makes up its own.
"""

import ast
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

from lxml import etree

from interlock.errors import ConfigError

#: Part of the key of every cached schema: to be raised with each change of what the compiler writes.
COMPILER_VERSION: Final = 1

XS: Final = "http://www.w3.org/2001/XMLSchema"
_NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:"
#: The first two messages came before the standard settled on `tech`.
_NAMESPACE_OLD: Final = "urn:iso:std:iso:20022:xsd:"
_WITHOUT_TECH: Final = frozenset({"pain.001.001.01", "pain.002.001.01"})

_DEFINITION: Final = re.compile(r"urn:iso:std:iso:20022:(?:tech:)?xsd:([a-z]{4}\.\d{3}\.\d{3}\.\d{2})")

#: What a field's annotation means as an XSD type. `object` is a wildcard and XmlPeriod depends on the element.
_BASES: Final[Mapping[str, str]] = {
    "str": "string",
    "bool": "boolean",
    "Decimal": "decimal",
    "bytes": "base64Binary",
    "XmlDate": "date",
    "XmlDateTime": "dateTime",
    "XmlTime": "time",
}

_FACETS: Final[Mapping[str, str]] = {
    "min_length": "minLength",
    "max_length": "maxLength",
    "pattern": "pattern",
    "total_digits": "totalDigits",
    "fraction_digits": "fractionDigits",
    "min_inclusive": "minInclusive",
    "max_inclusive": "maxInclusive",
}

# What follows is lost in the dataclasses, or never was in them. Source: the official schemas, which tests compare with.

#: A type named so is a choice of its elements; any other is a sequence.
_CHOICE_NAME: Final = re.compile(r"Choice\d*$")
#: Choices that are not named so.
_CHOICES: Final = frozenset({"CashAccountType2", "CashBalanceAvailabilityDate1"})

#: Type -> the neighbouring elements that form a choice inside its sequence.
_INNER_CHOICE: Final[Mapping[str, tuple[str, ...]]] = {
    "CreditTransferTypeIdentification": ("Cd", "LclInstrm"),
    "CreditorReferenceType1": ("Cd", "Prtry"),
    "OriginalGroupInformation1": ("OrgnlMsgId", "NtwkFileNm"),
    "OriginalTransactionReference1": ("ReqdExctnDt", "ReqdColltnDt"),
    "PaymentTypeInformation1": ("SvcLvl", "ClrChanl"),
    "PaymentTypeInformation2": ("SvcLvl", "ClrChanl"),
    "PaymentTypeInformation3": ("SvcLvl", "ClrChanl"),
    "PaymentTypeInformation4": ("SvcLvl", "ClrChanl"),
    "PaymentTypeInformation5": ("SvcLvl", "ClrChanl"),
    "PaymentTypeInformation6": ("SvcLvl", "ClrChanl"),
    "PersonIdentification2": (
        *("DrvrsLicNb", "SclSctyNb", "AlnRegnNb", "PsptNb", "TaxIdNb", "IdntyCardNb", "MplyrIdNb", "OthrId"),
    ),
    "PersonIdentification3": (
        *("DrvrsLicNb", "CstmrNb", "SclSctyNb", "AlnRegnNb", "PsptNb", "TaxIdNb", "IdntyCardNb", "MplyrIdNb"),
        *("DtAndPlcOfBirth", "OthrId"),
    ),
    "ProprietaryDate1": ("Dt", "DtTm"),
    "ReferredDocumentType1": ("Cd", "Prtry"),
}

#: Members of a choice are required in it (the source calls them all optional), but for these (type, tag); a tag of
#: None is every member of the type.
_OPTIONAL_IN_CHOICE: Final = frozenset(
    {
        ("CreditTransferTypeIdentification", None),
        ("MandateRelatedData1Choice", None),
        ("MandateRelatedData2Choice", None),
        ("MandateRelatedData3Choice", None),
        ("OriginalTransactionReference1", None),
        *((f"PaymentTypeInformation{n}", None) for n in range(1, 7)),
        ("References74Choice", "CtrPtyMktInfrstrctrTxId"),
    }
)

#: XmlPeriod stands for gYear, but in these elements (of payment cards) for gYearMonth.
_YEAR_AND_MONTH: Final = frozenset({"FctvDt", "XpryDt"})

#: (definition, tag) of what the source takes for text: a date and time that a pattern narrows to UTC.
_DATE_TIMES: Final = frozenset({("head.001.001.01", "CreDt")})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """One field of a dataclass of pyiso20022, as its source tells."""

    #: Tag of the element or attribute; empty for a type's own text and for a wildcard.
    tag: str
    #: Element, Attribute, Wildcard; empty for a type's own text.
    kind: str
    annotation: str
    is_list: bool
    meta: Mapping[str, str]

    @property
    def occurs(self) -> tuple[int, str]:
        """Least and greatest number, the latter perhaps `unbounded`, in a sequence."""
        if self.is_list:
            return int(self.meta.get("min_occurs", "0")), self.meta.get("max_occurs", "unbounded")
        return (1 if "required" in self.meta else 0), "1"


class Source(StrEnum):
    """Where a schema comes from."""

    #: Made from pyiso20022; structurally the official one.
    COMPILED = "compiled"
    #: A file in the operator's folder; goes before a compiled one.
    USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One message version that the catalogue can validate."""

    #: For instance `pacs.008.001.08`.
    name: str
    namespace: str
    #: Local name of the global element: `Document` or `AppHdr`.
    root: str
    source: Source


class UserSchemaError(ConfigError):
    """A file in the folder of user schemas cannot be used; the text names it and says why."""


def definition_of_namespace(namespace: str) -> str | None:
    """`pacs.008.001.08` of `urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08`; None if it is not ISO 20022's."""
    found = _DEFINITION.fullmatch(namespace)
    return found[1] if found else None


def namespace_of(definition: str) -> str:
    """The target namespace that the official schema of the version has."""
    return (_NAMESPACE_OLD if definition in _WITHOUT_TECH else _NAMESPACE) + definition


def root_of(definition: str) -> str:
    """The name of the version's global element."""
    return "AppHdr" if definition.startswith("head.") else "Document"


def compile_source(source: str, definition: str) -> bytes:
    """The schema of one version as UTF-8 text, from the source of its pyiso20022 module."""
    return _Compiler(definition).compile(source)


#: CPython counts the depth of what it parses for all threads together, and fails where two are at it (SystemError).
_parsing = threading.Lock()


class _Compiler:
    """Collects the parts of one schema."""

    def __init__(self, definition: str) -> None:
        self._definition = definition
        self._root_type = ""
        self._types: list[str] = []
        #: (base, facets) -> name: each simple type is written once.
        self._simple: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}

    def compile(self, source: str) -> bytes:
        with _parsing:
            module = ast.parse(source)
        for node in module.body:
            if isinstance(node, ast.ClassDef):
                self._class(node)
        namespace = quoteattr(namespace_of(self._definition))
        lines = (
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<xs:schema xmlns:xs="{XS}" xmlns={namespace} targetNamespace={namespace} elementFormDefault="qualified">',
            f'<xs:element name="{root_of(self._definition)}" type="{self._root_type}"/>',
            *self._types,
            *(_simple_type(name, base, facets) for (base, facets), name in self._simple.items()),
            "</xs:schema>",
            "",
        )
        return "\n".join(lines).encode()

    def _class(self, node: ast.ClassDef) -> None:
        base = node.bases[0].id if node.bases and isinstance(node.bases[0], ast.Name) else ""
        if base == "Enum":
            values = [("enumeration", _text(item.value)) for item in node.body if isinstance(item, ast.Assign)]
            self._types.append(_simple_type(node.name, "string", values))
        elif node.name == root_of(self._definition) and base:
            self._root_type = base  # AppHdr only gives the header's type an element name.
        else:
            self._complex_type(node.name, [_read_field(item) for item in node.body if isinstance(item, ast.AnnAssign)])
            if node.name == root_of(self._definition):
                self._root_type = node.name

    def _complex_type(self, name: str, fields: Sequence[_Field]) -> None:
        if any(not field.kind for field in fields):
            body = self._simple_content(name, fields)
        elif name in _CHOICES or _CHOICE_NAME.search(name):
            body = self._group("choice", self._choice_members(name, fields))
        else:
            body = self._group("sequence", self._sequence_members(name, fields))
        self._types.append(f'<xs:complexType name="{name}">{body}</xs:complexType>')

    def _simple_content(self, name: str, fields: Sequence[_Field]) -> str:
        """A value with attributes: an amount and its currency."""
        text = next(field for field in fields if not field.kind)
        attributes = "".join(
            f'<xs:attribute name="{field.tag}" type="{self._type(field)}" '
            f'use="{"required" if "required" in field.meta else "optional"}"/>'
            for field in fields
            if field.kind == "Attribute"
        )
        base = self._type(text, named=f"{name}_SimpleType")
        return f'<xs:simpleContent><xs:extension base="{base}">{attributes}</xs:extension></xs:simpleContent>'

    def _group(self, kind: str, members: Iterable[str]) -> str:
        return f"<xs:{kind}>{''.join(members)}</xs:{kind}>"

    def _choice_members(self, name: str, fields: Iterable[_Field]) -> Iterator[str]:
        for field in fields:
            optional = not _OPTIONAL_IN_CHOICE.isdisjoint({(name, None), (name, field.tag)})
            yield self._particle(field, least=0 if optional else max(1, field.occurs[0]))

    def _sequence_members(self, name: str, fields: Sequence[_Field]) -> Iterator[str]:
        inner = _INNER_CHOICE.get(name, ())
        chosen = [field for field in fields if field.tag in inner]
        for field in fields:
            if not chosen or field.tag not in inner:
                yield self._particle(field, least=field.occurs[0])
            elif field is chosen[0]:
                yield self._group("choice", self._choice_members(name, chosen))

    def _particle(self, field: _Field, *, least: int) -> str:
        if field.kind == "Wildcard":
            # Lax is what the official schemas have wherever the source does not say `skip`.
            process = field.meta.get("process_contents", "lax")
            return f'<xs:any namespace="{field.meta["namespace"]}" processContents="{process}"/>'
        most = field.occurs[1]
        occurs = (f' minOccurs="{least}"' if least != 1 else "") + (f' maxOccurs="{most}"' if most != "1" else "")
        return f'<xs:element name="{field.tag}" type="{self._type(field)}"{occurs}/>'

    def _type(self, field: _Field, *, named: str = "") -> str:
        """The field's type by name: another class, a built-in type, or a simple type made for its facets."""
        base = "dateTime" if (self._definition, field.tag) in _DATE_TIMES else _base(field)
        if base is None:
            return field.annotation
        facets = tuple((_FACETS[key], value) for key, value in field.meta.items() if key in _FACETS)
        if not facets:
            return f"xs:{base}"
        key = (base, facets)
        if key not in self._simple:
            self._simple[key] = named or _simple_name(base, dict(facets), len(self._simple))
        return self._simple[key]


def _read_field(node: ast.AnnAssign) -> _Field:
    annotation, is_list = _read_annotation(node.annotation)
    call = node.value
    if not isinstance(call, ast.Call):
        raise TypeError(f"line {node.lineno}: a field without field(...)")
    metadata = next(item.value for item in call.keywords if item.arg == "metadata")
    if not isinstance(metadata, ast.Dict):
        raise TypeError(f"line {node.lineno}: metadata is not written out")
    meta = {_text(key): _text(value) for key, value in zip(metadata.keys, metadata.values, strict=True)}
    return _Field(
        tag=meta.get("name", ""), kind=meta.get("type", ""), annotation=annotation, is_list=is_list, meta=meta
    )


def _read_annotation(node: ast.expr) -> tuple[str, bool]:
    """The name of the type, and whether it is a list of it, of `X`, `None | X` or `list[X]`."""
    match node:
        case ast.Name(id=name):
            return name, False
        case ast.BinOp(left=ast.Constant(value=None), right=ast.Name(id=name)):
            return name, False
        case ast.Subscript(value=ast.Name(id="list"), slice=ast.Name(id=name)):
            return name, True
    raise TypeError(f"line {node.lineno}: unknown annotation {ast.unparse(node)}")


def _text(node: ast.expr | None) -> str:
    """A literal, or the literal inside Decimal("...")."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.Call(args=[ast.Constant(value=value)]):
            return str(value)
    raise TypeError("not a literal")


def _base(field: _Field) -> str | None:
    """The built-in type below the field's values; None if the type is another class."""
    if field.annotation == "XmlPeriod":
        return "gYearMonth" if field.tag in _YEAR_AND_MONTH else "gYear"
    return _BASES.get(field.annotation)


def _simple_name(base: str, facets: Mapping[str, str], number: int) -> str:
    """A name that ISO has no type of, but for the plain texts, which look like ISO's own."""
    if base == "string" and facets.keys() == {"minLength", "maxLength"} and facets["minLength"] == "1":
        return f"Max{facets['maxLength']}Text"
    return f"{base}_{number}"


def _simple_type(name: str, base: str, facets: Iterable[tuple[str, str]]) -> str:
    inside = "".join(f"<xs:{facet} value={quoteattr(value)}/>" for facet, value in facets)
    return f'<xs:simpleType name="{name}"><xs:restriction base="xs:{base}">{inside}</xs:restriction></xs:simpleType>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One element that a content model has."""

    name: str
    occurs_min: int
    #: None is unbounded.
    occurs_max: int | None
    #: True if it stands in a choice: then at most one of its neighbours is there.
    in_choice: bool


class ContentModel:
    """The elements of a schema by path. Reads schemas of the kind that ISO 20022 has: named types, no substitution."""

    def __init__(self, *schemas: etree._Element) -> None:
        """Read one schema: its file, and those that it includes."""
        parts = [node for schema in schemas for node in schema.iterchildren(f"{{{XS}}}*")]
        self._elements = {str(node.get("name")): node for node in parts if node.tag == f"{{{XS}}}element"}
        self._types = {str(node.get("name")): node for node in parts if str(node.tag).endswith("Type")}

    def children(self, root: str, path: Sequence[str]) -> tuple[Child, ...]:
        """The children, in order, of the element at the path below the root; none if it holds a value.

        Raises KeyError if the path names an element that the schema does not have.
        """
        node = self._elements[root]
        for name in path:
            inside = {str(child.get("name")): child for child, _ in self._particles(node)}
            node = inside[name]
        return tuple(_child(child, in_choice=in_choice) for child, in_choice in self._particles(node))

    def base_of(self, type_name: str) -> str | None:
        """The built-in type, such as `decimal`, that a named simple type restricts; None if there is no such name."""
        for _ in range(len(self._types)):
            node = self._types.get(type_name)
            restriction = None if node is None else node.find(f"{{{XS}}}restriction")
            if node is None or restriction is None:
                return None
            base = str(restriction.get("base"))
            prefix, _, type_name = base.rpartition(":")
            if restriction.nsmap.get(prefix or None) == XS:
                return type_name
        return None

    def _particles(self, element: etree._Element) -> Iterator[tuple[etree._Element, bool]]:
        """The elements of the content of an element, and whether each stands in a choice."""
        type_name = str(element.get("type", "")).rpartition(":")[2]
        node = self._types.get(type_name) if type_name else element.find(f"{{{XS}}}complexType")
        return iter(()) if node is None else _flatten(node, in_choice=False)


def _flatten(node: etree._Element, *, in_choice: bool) -> Iterator[tuple[etree._Element, bool]]:
    for child in node.iterchildren(f"{{{XS}}}element", f"{{{XS}}}sequence", f"{{{XS}}}choice", f"{{{XS}}}all"):
        if child.tag == f"{{{XS}}}element":
            yield child, in_choice
        else:
            yield from _flatten(child, in_choice=in_choice or child.tag == f"{{{XS}}}choice")


def _child(node: etree._Element, *, in_choice: bool) -> Child:
    most = str(node.get("maxOccurs", "1"))
    return Child(
        name=str(node.get("name")),
        occurs_min=int(str(node.get("minOccurs", "1"))),
        occurs_max=None if most == "unbounded" else int(most),
        in_choice=in_choice,
    )


class UserFolder:
    """The operator's schemas. Nothing outside the folder is read for them, nothing is fetched."""

    def __init__(self, folder: Path) -> None:
        """Read all files: each must be an XSD, refer to the folder only, and be the only one of its version."""
        self._folder = folder
        if not folder.is_dir():
            raise UserSchemaError(f"The folder of user schemas {folder} is not there: make it, or unset it.")
        self._files = {path.name: _parse_user_schema(path) for path in sorted(folder.glob("*.xsd"))}
        for name in self._files:
            self._check_references(name)
        self._names = self._by_definition()

    def definitions(self) -> Iterator[Definition]:
        """The versions that the folder has a schema for."""
        for name, file in self._names.items():
            schema = self._files[file]
            elements = [str(node.get("name")) for node in schema.iterchildren(f"{{{XS}}}element")]
            root = root_of(name) if root_of(name) in elements else elements[0]
            namespace = str(schema.get("targetNamespace"))
            yield Definition(name=name, namespace=namespace, root=root, source=Source.USER)

    def text(self, definition: str) -> bytes:
        """The file as it is."""
        return (self._folder / self._names[definition]).read_bytes()

    def load(self, definition: str) -> tuple[etree.XMLSchema, ContentModel]:
        """The schema, ready to validate, and its content model. Raises UserSchemaError if libxml2 refuses it."""
        file = self._names[definition]
        root = _parse_user_schema(self._folder / file)
        try:
            schema = etree.XMLSchema(root)
        except etree.XMLSchemaParseError as error:
            raise UserSchemaError(f"The user schema {self._folder / file} is not a valid XSD: {error}") from error
        return schema, ContentModel(root, *self._included(file))

    def _by_definition(self) -> Mapping[str, str]:
        """Definition -> file. Of several files for one definition the one named after it counts."""
        found: dict[str, list[str]] = {}
        for file, schema in self._files.items():
            definition = definition_of_namespace(str(schema.get("targetNamespace", "")))
            # A file without global elements is a part that others include.
            if definition and schema.find(f"{{{XS}}}element") is not None:
                found.setdefault(definition, []).append(file)
        return {definition: self._choose(definition, files) for definition, files in found.items()}

    def _choose(self, definition: str, files: Sequence[str]) -> str:
        if len(files) == 1:
            return files[0]
        if f"{definition}.xsd" in files:
            return f"{definition}.xsd"
        raise UserSchemaError(
            f"Several user schemas in {self._folder} are for {definition}: {', '.join(files)}. "
            f"Keep one, or name the one that counts {definition}.xsd."
        )

    def _check_references(self, file: str) -> None:
        for node in _references(self._files[file]):
            location = _location(node)
            if location is not None and location not in self._files:
                raise UserSchemaError(
                    f"The user schema {self._folder / file}, line {node.sourceline}, refers to {location!r}: "
                    "only another *.xsd of the same folder may be named, by its bare file name."
                )

    def _included(self, file: str) -> Sequence[etree._Element]:
        """The files that the file includes, each once, however deep."""
        found: dict[str, etree._Element] = {}
        todo = [file]
        while todo:
            for node in _references(self._files[todo.pop()]):
                location = _location(node)
                if location and location not in found and node.tag != f"{{{XS}}}import":
                    found[location] = self._files[location]
                    todo.append(location)
        return [schema for name, schema in found.items() if name != file]


class _FolderOnly(etree.Resolver):
    """Answers libxml2's wish for another file with one of the folder, or with nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def resolve(self, system_url: str, public_id: str, context: Any) -> Any:  # type: ignore[override]  # noqa: ARG002
        # References were checked to be bare names; this is the second lock, so whatever the path, its end counts.
        path = self._folder / Path(unquote(system_url)).name
        return self.resolve_string(path.read_bytes(), context, base_url=system_url)


def _parse_user_schema(path: Path) -> etree._Element:
    parser = etree.XMLParser(no_network=True, resolve_entities=False, load_dtd=False)
    parser.resolvers.add(_FolderOnly(path.parent))
    try:
        root = etree.fromstring(path.read_bytes(), parser, base_url=f"/user/{quote(path.name)}")
    except (OSError, etree.XMLSyntaxError) as error:
        raise UserSchemaError(f"The user schema {path} cannot be read: {error}") from error
    docinfo: Any = root.getroottree().docinfo
    if docinfo.doctype:
        raise UserSchemaError(f"The user schema {path} has a DOCTYPE: remove it.")
    if root.tag != f"{{{XS}}}schema":
        raise UserSchemaError(f"The user schema {path} is not an XSD: its outermost element must be xs:schema.")
    return root


def _references(schema: etree._Element) -> Iterator[etree._Element]:
    return schema.iterchildren(*(f"{{{XS}}}{name}" for name in ("include", "import", "redefine", "override")))


def _location(reference: etree._Element) -> str | None:
    """The file name, of what is a URI."""
    location = reference.get("schemaLocation")
    return None if location is None else unquote(str(location))
