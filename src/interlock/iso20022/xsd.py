"""XML Schemas made from dataclasses: the source of two packages that keep ISO 20022 so goes in, XSD comes out. Pure.

Owns: the compiler, with what must be known beyond the source, and how definitions, namespaces and roots belong
together. Knows nothing of files, caches, messages or findings. The source is read by `ast` and never imported:
importing one of these modules costs 300 ms, reading it 15.

The compiler keeps what decides a verdict (elements, order, occurrence, facets, attributes, wildcards) and the names of
complex types. The names of simple types are not in the source; it makes up its own.
"""

import ast
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import quoteattr

#: Part of the key of every cached schema: to be raised with each change of what the compiler writes.
COMPILER_VERSION: Final = 2

XS: Final = "http://www.w3.org/2001/XMLSchema"
_NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:"
#: The first two messages came before the standard settled on `tech`.
_NAMESPACE_OLD: Final = "urn:iso:std:iso:20022:xsd:"
_WITHOUT_TECH: Final = frozenset({"pain.001.001.01", "pain.002.001.01"})

#: The global element of the headers; that of any other message is Document.
_ROOTS: Final[Mapping[str, str]] = {"head.001": "AppHdr", "head.002": "Xchg"}

_DEFINITION: Final = re.compile(r"urn:iso:std:iso:20022:(?:tech:)?xsd:([a-z]{4}\.\d{3}\.\d{3}\.\d{2})")

#: What a class of elements that is derived from nothing else has as its first base.
_PLAIN_BASES: Final = frozenset({"", "ISO20022Message", "ISO20022MessageElement"})

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
    "AlternateSecurityIdentification1": ("DmstIdSrc", "PrtryIdSrc"),
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
    """One field of a dataclass, as its source tells."""

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


def definition_of_namespace(namespace: str) -> str | None:
    """`pacs.008.001.08` of `urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08`; None if it is not ISO 20022's."""
    found = _DEFINITION.fullmatch(namespace)
    return found[1] if found else None


def namespace_of(definition: str) -> str:
    """The target namespace that the official schema of the version has."""
    return (_NAMESPACE_OLD if definition in _WITHOUT_TECH else _NAMESPACE) + definition


def root_of(definition: str) -> str:
    """The name of the version's global element."""
    return _ROOTS.get(definition[:8], "Document")


def _no_module(name: str) -> str:
    raise TypeError(f"the source imports {name}, and nothing was given to read it with")


def compile_source(source: str, definition: str, *, read: Callable[[str], str] = _no_module) -> bytes:
    """The schema of one version as UTF-8 text, from the source of its module in pyiso20022 or python-iso20022.

    read: gives the source of a module whose enumerations this one imports, by its dotted name.
    """
    with _parsing:
        module = ast.parse(source)
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    enums = [
        node for node in module.body if isinstance(node, ast.ImportFrom) and (node.module or "").endswith(".enums")
    ]
    for node in enums:
        wanted = {alias.name for alias in node.names}
        classes |= {item.name: item for item in _classes(read(node.module or "")) if item.name in wanted}
    return _Compiler(definition, classes).compile()


def _classes(source: str) -> Iterator[ast.ClassDef]:
    with _parsing:
        module = ast.parse(source)
    return (node for node in module.body if isinstance(node, ast.ClassDef))


#: CPython counts the depth of what it parses for all threads together, and fails where two are at it (SystemError).
_parsing = threading.Lock()


class _Compiler:
    """Collects the parts of one schema."""

    def __init__(self, definition: str, classes: Mapping[str, ast.ClassDef]) -> None:
        self._definition = definition
        self._classes = classes
        family, *numbers = definition.split(".")
        # What python-iso20022 hangs on each class, and what it calls the document; pyiso20022 does neither.
        suffix = family.capitalize() + "".join(numbers)
        is_hung = any(name != suffix and name.endswith(suffix) for name in classes)
        self._names = {name: _type_name(node, suffix if is_hung else "") for name, node in classes.items()}
        self._root_type = ""
        self._types: list[str] = []
        #: (base, facets, name where it must have one) -> name: each simple type is written once, but for those below
        #: an amount with its currency: such an amount would else be derived from a type that is another's officially.
        self._simple: dict[tuple[str, tuple[tuple[str, str], ...], str], str] = {}

    def compile(self) -> bytes:
        for node in self._classes.values():
            self._class(node)
        namespace = quoteattr(namespace_of(self._definition))
        lines = (
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<xs:schema xmlns:xs="{XS}" xmlns={namespace} targetNamespace={namespace} elementFormDefault="qualified">',
            f'<xs:element name="{root_of(self._definition)}" type="{self._root_type}"/>',
            *self._types,
            *(_simple_type(name, base, facets) for (base, facets, _), name in self._simple.items()),
            "</xs:schema>",
            "",
        )
        return "\n".join(lines).encode()

    def _class(self, node: ast.ClassDef) -> None:
        base = node.bases[0].id if node.bases and isinstance(node.bases[0], ast.Name) else ""
        name = self._name(node.name)
        if base == "Enum":
            values = [("enumeration", _text(item.value)) for item in node.body if isinstance(item, ast.Assign)]
            self._types.append(_simple_type(name, "string", values))
        elif name == root_of(self._definition) and base not in _PLAIN_BASES:
            self._root_type = base  # The class of the root only gives the header's type an element name.
        else:
            self._complex_type(name, [_read_field(item) for item in node.body if isinstance(item, ast.AnnAssign)])
            if name == root_of(self._definition):
                self._root_type = name

    def _name(self, class_name: str) -> str:
        """ISO's name of the type that a class stands for."""
        return self._names.get(class_name, class_name) or root_of(self._definition)

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
            return self._name(field.annotation)
        facets = tuple((_FACETS[key], value) for key, value in field.meta.items() if key in _FACETS)
        if not facets:
            return f"xs:{base}"
        key = (base, facets, named)
        if key not in self._simple:
            self._simple[key] = named or _simple_name(base, dict(facets), len(self._simple))
        return self._simple[key]


def _type_name(node: ast.ClassDef, suffix: str) -> str:
    """ISO's name of a type: its class says where Python's habits changed it. Empty for the document."""
    for item in node.body:
        if isinstance(item, ast.ClassDef) and item.name == "Meta":
            for line in item.body:
                match line:
                    case ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(name))):
                        return name
    return node.name.removesuffix(suffix)


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
    """The name of the type, and whether it is a list of it, of `X`, `None | X`, `Optional[X]` or `list[X]`."""
    match node:
        case ast.Name(id=name):
            return name, False
        case ast.BinOp(left=ast.Constant(value=None), right=ast.Name(id=name)):
            return name, False
        case ast.Subscript(value=ast.Name(id="Optional"), slice=ast.Name(id=name)):
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
