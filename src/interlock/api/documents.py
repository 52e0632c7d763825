"""An answer document as JSON, in the form the reference's clients know: `@attribute`, `#text`, lists where repeated."""

from typing import Any

from lxml import etree


def as_object(content: bytes) -> dict[str, Any]:
    """The document that XML bytes of our own hold; its root is the only key."""
    root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    return {_name(root): _value(root, None)}


def _name(element: etree._Element) -> str:
    return etree.QName(element).localname


def _value(element: etree._Element, namespace: str | None) -> Any:
    """A string for a plain leaf, None for an empty one, else an object."""
    own = etree.QName(element).namespace
    parts: dict[str, Any] = {} if own == namespace or own is None else {"@xmlns": own}
    parts.update({f"@{name!s}": value for name, value in element.attrib.items()})
    for child in element.iterchildren("*"):
        _add(parts, _name(child), _value(child, own))
    text = (element.text or "").strip()
    if text and parts:
        parts["#text"] = text
    return parts or text or None


def _add(parts: dict[str, Any], name: str, value: Any) -> None:
    if name not in parts:
        parts[name] = value
    elif isinstance(parts[name], list):
        parts[name].append(value)
    else:
        parts[name] = [parts[name], value]
