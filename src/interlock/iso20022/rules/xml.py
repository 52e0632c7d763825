"""Looking around an element: its namespace, its children, what is said above it. Pure.

Names are compared whole, with the namespace that the element itself is in, which is the quickest that lxml can do and
leaves out what stands in foreign namespaces (SplmtryData).
"""

from lxml import etree


def local_name(element: etree._Element) -> str:
    """The name without its namespace."""
    return element.tag.rpartition("}")[2]


def sibling_tag(element: etree._Element, name: str) -> str:
    """The full tag of an element of another name in the same namespace."""
    namespace, brace, _ = element.tag.rpartition("}")
    return f"{namespace}{brace}{name}"


def child(element: etree._Element, *names: str) -> etree._Element | None:
    """The first element by a path of local names."""
    found: etree._Element | None = element
    for name in names:
        if found is not None:
            found = next(found.iterchildren(sibling_tag(element, name)), None)
    return found


def children(element: etree._Element, name: str) -> list[etree._Element]:
    """All children of that name."""
    return list(element.iterchildren(sibling_tag(element, name)))


def has(element: etree._Element, name: str) -> bool:
    """Whether there is a child of that name."""
    return child(element, name) is not None


def text_of(element: etree._Element | None) -> str:
    """The text of an element without the white space around it; empty where there is none."""
    return "" if element is None or element.text is None else element.text.strip()
