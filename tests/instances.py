"""Random messages made from a schema: valid ones, and mutants that may or may not be.

For differential tests: two schemas that say the same must judge every message the same, and where the ways of going
wrong are drawn at random nobody has chosen them to be easy. Everything is drawn from one seeded source, so that a
failure can be had again.
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from random import Random
from typing import Any, Final

from lxml import etree

XS: Final = "{http://www.w3.org/2001/XMLSchema}"
XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
#: Elements of one message, about; optional ones are left out beyond it.
_NODES_MAX: Final = 300
_LETTERS: Final = "ABCXYZabcxyz0189 -/?:().,'+&<>\"éßЖ漢😀"

_BUILT_IN: Final[dict[str, Sequence[str]]] = {
    "boolean": ("true", "false", "1", "0"),
    "date": ("2026-01-31", "2024-02-29", "2026-12-31Z", "2026-06-01+14:00"),
    "dateTime": ("2026-01-31T09:30:00", "2026-01-31T09:30:00.123456789Z", "2024-02-29T00:00:00-05:00"),
    "time": ("09:30:00", "23:59:59.999Z", "00:00:00+01:00", "24:00:00"),
    "gYear": ("2026", "1999Z", "-0044"),
    "gYearMonth": ("2026-01", "2026-12+01:00"),
    "gMonth": ("--01",),
    "gMonthDay": ("--02-29",),
    "base64Binary": ("", "QQ==", "QUI=", "QUJD", "QU JD"),
    "string": ("text", "", " "),
    "decimal": ("0", "1.5"),
}  # fmt: skip

#: What goes wrong in values, whatever their type.
NASTY: Final = (
    *("", " ", "  x  ", "x", "0", "-1", "-0", "+1", "1.", ".5", ".", "1e3", "NaN", "INF", "1,5", "\u0661", "1 000"),
    *("9" * 18, "9" * 19, "1." + "0" * 6, "1.123456", "0." + "1" * 17, "true", "TRUE", "yes", "\t1\n", "1\n"),
    *("2026-02-29", "2026-13-01", "2026-1-1", "20260131", "2026-01-31T25:00:00", "2026-01-31 09:30:00", "0000-01-01"),
    *("2026-01-31T09:30:00+15:00", "2026-01-31T23:59:60", "2026-01-31T24:00:00", "12026-01-31", " 2026-01-31\n"),
    *("24:00:01", "--13", "QQ=", "Q", "====", "Q Q = =", "eur", "EURO", "EU", "DE", "de", "😀" * 35, "😀" * 36),
    *("AAAADEFF", "AAAADEFFXXX", "aaaadeff", "DE89370400440532013000", "de8937", " true "),
    *("x" * 34, "x" * 35, "x" * 36, "x" * 140, "x" * 141, "é" * 35, "é" * 36, "\u00a0", "\u2028", "]]>", "a&b", "<x>"),
    *("+49-301234567", "+49301234567", "0e8b2a4c-5d6f-4a1b-9c3d-7e8f9a0b1c2d", "0E8B2A4C-5D6F-4A1B-9C3D-7E8F9A0B1C2D"),
)  # fmt: skip


class Instances:
    """Draws messages from one schema of the kind that ISO 20022 has."""

    def __init__(self, xsd: bytes, root: str, random: Random) -> None:
        schema = etree.fromstring(xsd)
        self._namespace = str(schema.get("targetNamespace"))
        self._named = {
            str(node.get("name")): node for node in schema.iterchildren(f"{XS}complexType", f"{XS}simpleType")
        }
        self._complex = [name for name, node in self._named.items() if node.tag == f"{XS}complexType"]
        element = next(node for node in schema.iterchildren(f"{XS}element") if node.get("name") == root)
        self._root = (root, str(element.get("type")))
        self._random = random
        self._nodes = 0

    def valid(self) -> etree._Element:
        """A message that the schema takes."""
        self._nodes = 0
        name, type_name = self._root
        namespaces: Any = {None: self._namespace, "xsi": XSI}
        element = etree.Element(f"{{{self._namespace}}}{name}", nsmap=namespaces)
        self._fill(element, type_name, 0)
        return element

    def mutant(self, message: etree._Element) -> etree._Element:
        """A copy with one to three changes; most are not valid any more, but some are."""
        self._nodes = 0
        changed = copy.deepcopy(message)
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            node = self._random.choice(list(changed.iter(etree.Element)))
            self._random.choice(self._mutations)(node)
        return changed

    # Building

    def _fill(self, element: etree._Element, type_name: str, depth: int) -> None:
        self._nodes += 1
        node = self._named.get(type_name)
        if node is None or node.tag == f"{XS}simpleType":
            element.text = self._value(type_name)
            return
        extension = node.find(f"{XS}simpleContent/{XS}extension")
        if extension is not None:
            element.text = self._value(str(extension.get("base")))
            for attribute in extension.iterchildren(f"{XS}attribute"):
                if attribute.get("use") == "required" or self._random.random() < 0.5:
                    element.set(str(attribute.get("name")), self._value(str(attribute.get("type"))))
            return
        for group in node.iterchildren(f"{XS}sequence", f"{XS}choice"):
            self._particle(element, group, depth)

    def _particle(self, parent: etree._Element, node: etree._Element, depth: int) -> None:
        for _ in range(self._times(node, depth)):
            if node.tag == f"{XS}sequence":
                for child in node.iterchildren(f"{XS}*"):
                    self._particle(parent, child, depth)
            elif node.tag == f"{XS}choice":
                self._particle(parent, self._chosen(node, depth), depth)
            elif node.tag == f"{XS}any":
                self._any(parent, str(node.get("namespace", "##any")))
            else:
                child = etree.SubElement(parent, f"{{{self._namespace}}}{node.get('name')}")
                self._fill(child, str(node.get("type")), depth + 1)

    def _chosen(self, node: etree._Element, depth: int) -> etree._Element:
        """One of a choice; deep down one that holds a value, so that what refers to itself comes to an end."""
        members = list(node.iterchildren(f"{XS}*"))
        if depth > 12:
            members = [child for child in members if self._is_simple(child)] or members
        return self._random.choice(members)

    def _is_simple(self, node: etree._Element) -> bool:
        kind = self._named.get(str(node.get("type")))
        return node.tag == f"{XS}element" and (kind is None or kind.tag == f"{XS}simpleType")

    def _times(self, node: etree._Element, depth: int) -> int:
        least = int(node.get("minOccurs", "1"))
        most = node.get("maxOccurs", "1")
        room = (10**9 if most == "unbounded" else int(most)) - least
        wanted = self._random.random() < max(0.05, 0.6 - 0.07 * depth) and self._nodes < _NODES_MAX and depth < 14
        if not room or not wanted:
            return least
        return least + self._random.choice((1, 1, 1, min(room, 2), min(room, 5)))

    def _any(self, parent: etree._Element, namespace: str) -> None:
        """What a wildcard takes: something of the namespace that it names, or else of nobody's."""
        child = etree.SubElement(parent, f"{{{'urn:other' if namespace[0] == '#' else namespace}}}Any", {"a": "b"})
        etree.SubElement(child, "{urn:other}More").text = "text"

    # Values

    def _value(self, type_name: str) -> str:
        """A value of a simple type, often at the edge of what it allows."""
        base, facets, enumeration = self._restrictions(type_name)
        if enumeration:
            return self._random.choice(enumeration)
        if base == "decimal":
            return self._decimal(facets)
        if base == "string" and "pattern" in facets:
            return self._matching(facets["pattern"], int(facets.get("maxLength", "200")))
        if base == "string" and "maxLength" in facets:
            return self._text(int(facets.get("minLength", "0")), int(facets["maxLength"]))
        # Bytes with bounds, and the one date and time that must be in UTC.
        fitting = {"base64Binary": "QUJD", "dateTime": "2026-01-31T09:30:00Z"}
        return fitting[base] if facets else self._random.choice(_BUILT_IN[base])

    def _restrictions(self, type_name: str) -> tuple[str, dict[str, str], Sequence[str]]:
        """The built-in type below, the facets on the way down to it, and the codes, if it has such."""
        enumeration: list[str] = []
        facets: dict[str, str] = {}
        while (base := type_name.rpartition(":")[2]) not in _BUILT_IN or type_name in self._named:
            restriction = self._named[type_name].find(f"{XS}restriction")
            assert restriction is not None
            for facet in restriction:
                value = str(facet.get("value"))
                if facet.tag == f"{XS}enumeration":
                    enumeration.append(value)
                else:
                    facets.setdefault(str(etree.QName(facet).localname), value)
            type_name = str(restriction.get("base"))
        return base, facets, enumeration

    def _text(self, least: int, most: int) -> str:
        length = self._random.choice((least, most, self._random.randint(least, most), min(most, least + 5)))
        return "".join(self._random.choice(_LETTERS) for _ in range(min(length, 2000)))

    def _decimal(self, facets: dict[str, str]) -> str:
        total, fraction = int(facets.get("totalDigits", "12")), int(facets.get("fractionDigits", "4"))
        after = self._random.choice((0, fraction, self._random.randint(0, fraction)))
        before = self._random.choice((1, max(1, total - after)))
        number = "".join(self._random.choice("123456789") for _ in range(before))
        text = number + ("." + "".join(self._random.choice("0123456789") for _ in range(after)) if after else "")
        sign = self._random.choice(("", "+", "00")) if "minInclusive" in facets else self._random.choice(("", "-", "+"))
        return sign + text

    def _matching(self, pattern: str, length_max: int) -> str:
        """A text that a pattern takes; Python reads ISO's patterns as XSD does."""
        parser: Any = import_module("re._parser")
        while True:
            text = "".join(_letters(parser.parse(pattern), self._random))
            if len(text) <= length_max and re.fullmatch(pattern, text):
                return text

    # Mutations

    @property
    def _mutations(self) -> Sequence[Callable[[etree._Element], None]]:
        return (
            *[self._spoil_value] * 5,
            *[self._cross_limit] * 4,
            self._stretch_value,
            *[self._insert_known] * 4,
            *[self._drop] * 2,
            *(self._spoil_attributes, self._drop_attribute, self._repeat, self._swap, self._rename),
            *(self._move_namespace, self._insert_unknown, self._add_text),
            *(self._nil, self._name_type, self._comment, self._empty, self._graft),
        )  # fmt: skip

    def _spoil_value(self, node: etree._Element) -> None:
        """Another value, in the next element that has one."""
        leaf = next((one for one in node.iter(etree.Element) if not len(one)), node)
        leaf.text = self._random.choice(NASTY)

    def _cross_limit(self, node: etree._Element) -> None:
        """A value at a limit that the schema sets to an element of this name, or just beyond."""
        leaf = self._random.choice([one for one in node.iter(etree.Element) if one.find("*") is None])
        types = {str(part.get("type")) for part in self._particles() if leaf.tag.endswith(f"}}{part.get('name')}")}
        simple = sorted(name for name in types if name not in self._complex)
        if not simple:
            return
        _, facets, enumeration = self._restrictions(self._random.choice(simple))
        edges = [text for name, value in facets.items() for text in _edges(name, value)]
        leaf.text = self._random.choice([*edges, *enumeration[:3], *(code + "X" for code in enumeration[:3]), ""])

    def _stretch_value(self, node: etree._Element) -> None:
        """A little longer, shorter or padded."""
        leaf = next((one for one in node.iter(etree.Element) if not len(one)), node)
        text = leaf.text or ""
        leaf.text = self._random.choice(
            (text + text[-1:], text[:-1], " " + text, text + "\n", text + "0", text.lower(), text.upper())
        )

    def _drop(self, node: etree._Element) -> None:
        parent = node.getparent()
        if parent is not None:
            parent.remove(node)

    def _repeat(self, node: etree._Element) -> None:
        if node.getparent() is not None:
            node.addnext(copy.deepcopy(node))

    def _swap(self, node: etree._Element) -> None:
        following = node.getnext()
        if following is not None:
            following.addnext(node)

    def _rename(self, node: etree._Element) -> None:
        node.tag = node.tag + self._random.choice(("x", "_", ".1"))

    def _move_namespace(self, node: etree._Element) -> None:
        name = etree.QName(node).localname
        other = self._namespace[:-1] + ("0" if self._namespace[-1] != "0" else "1")
        node.tag = self._random.choice((name, f"{{urn:other}}{name}", f"{{{other}}}{name}"))

    def _insert_unknown(self, node: etree._Element) -> None:
        tag = self._random.choice(("{urn:other}Any", f"{{{self._namespace}}}Nope", "Bare"))
        node.insert(self._random.randint(0, len(node)), etree.Element(tag))

    def _insert_known(self, node: etree._Element) -> None:
        """An element of the schema, perhaps where it belongs, perhaps one too many or the other of a choice."""
        names = [child.tag for child in node] or [f"{{{self._namespace}}}Id"]
        known = [part for part in self._particles() if f"{{{self._namespace}}}{part.get('name')}" in names]
        siblings = [one for part in known[:50] for one in self._beside(part)]
        if siblings:
            part = self._random.choice(siblings)
            child = etree.Element(f"{{{self._namespace}}}{part.get('name')}")
            self._fill(child, str(part.get("type")), 8)
            node.insert(self._random.randint(0, len(node)), child)

    def _particles(self) -> Iterator[etree._Element]:
        for name in self._complex:
            yield from self._named[name].iter(f"{XS}element")

    @staticmethod
    def _beside(part: etree._Element) -> Iterator[etree._Element]:
        parent = part.getparent()
        return iter(()) if parent is None else parent.iterchildren(f"{XS}element")

    def _add_text(self, node: etree._Element) -> None:
        where = self._random.choice(list(node.iter(etree.Element)))
        where.tail = self._random.choice(("text", " ", "\n", "\u00a0")) if where is not node else where.tail

    def _spoil_attributes(self, node: etree._Element) -> None:
        holder = self._random.choice([*self._holders(node), node])
        name = self._random.choice([*holder.attrib, "nope", f"{{{XSI}}}schemaLocation", "{urn:other}a"])
        holder.set(name, self._random.choice(NASTY))

    def _drop_attribute(self, node: etree._Element) -> None:
        for holder in self._holders(node)[:1]:
            holder.attrib.clear()

    @staticmethod
    def _holders(node: etree._Element) -> list[etree._Element]:
        """The elements of the message that have attributes."""
        return [one for one in node.getroottree().getroot().iter(etree.Element) if one.attrib]

    def _nil(self, node: etree._Element) -> None:
        node.set(f"{{{XSI}}}nil", self._random.choice(("true", "false", "1", "maybe")))

    def _name_type(self, node: etree._Element) -> None:
        """Complex types alone: the names of simple ones are made up by the compiler."""
        node.set(f"{{{XSI}}}type", self._random.choice([*self._complex[:20], "Nope", "q:Nope"]))

    def _comment(self, node: etree._Element) -> None:
        node.insert(self._random.randint(0, len(node)), self._random.choice((etree.Comment("x"), etree.PI("x", "y"))))

    def _empty(self, node: etree._Element) -> None:
        for child in list(node):
            node.remove(child)
        node.text = self._random.choice((None, " ", "x"))

    def _graft(self, node: etree._Element) -> None:
        """A copy of some other part of the message."""
        other = self._random.choice(list(node.getroottree().getroot().iter(etree.Element)))
        if sum(1 for _ in other.iter()) < 100:
            node.insert(self._random.randint(0, len(node)), copy.deepcopy(other))


def _edges(facet: str, value: str) -> tuple[str, ...]:
    """Values at and beyond a limit."""
    match facet:
        case "maxLength" | "length" | "minLength":
            # What may be endless is not tried to its end.
            return tuple("x" * max(0, int(value) + more) for more in (-1, 0, 1)) if int(value) < 20_000 else ()
        case "totalDigits":
            return "1" * int(value), "1" * (int(value) + 1)
        case "fractionDigits":
            return "1." + "1" * int(value), "1." + "1" * (int(value) + 1), "1." + "0" * (int(value) + 1)
        case "minInclusive" | "maxInclusive":
            return value, f"{value}.00001", f"-{value}.00001"
    return ()


def _letters(parsed: Any, random: Random) -> Iterator[str]:
    """Letters that a parsed pattern takes."""
    for operation, argument in parsed:
        match str(operation):
            case "LITERAL":
                yield chr(argument)
            case "ANY":
                yield random.choice("2026-01-31T09:30:00")
            case "IN":
                yield random.choice(list(_members(argument)))
            case "MAX_REPEAT":
                least, most, inside = argument
                most = min(int(most), least + 34)
                for _ in range(random.choice((least, most, random.randint(least, most)))):
                    yield from _letters(inside, random)
            case "SUBPATTERN":
                yield from _letters(argument[3], random)
            case "BRANCH":
                yield from _letters(random.choice(argument[1]), random)
            case _:
                raise NotImplementedError(f"{operation} in a pattern")


def _members(parts: Any) -> Iterator[str]:
    for operation, argument in parts:
        if str(operation) == "RANGE":
            yield from map(chr, range(argument[0], argument[1] + 1))
        else:
            yield chr(argument)
