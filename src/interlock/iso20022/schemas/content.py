"""What a schema lets stand where: its elements by path, in order, with their occurrence. Pure.

Answers are written by it, and findings ask it what a type restricts. Reads an XSD as a tree; libxml2 judges.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lxml import etree

from interlock.iso20022.xsd import XS


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
