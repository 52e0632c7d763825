"""An answer document as JSON, in the form the reference's clients know: `@attribute`, `#text`, lists where repeated."""

import re
from typing import Any, Final

from lxml import etree

_DECLARATION: Final = re.compile(rb"\A\s*<\?xml[^>]*\?>")


def as_object(content: bytes) -> dict[str, Any]:
    """The documents that XML bytes of our own hold, by the names of their roots: an AppHdr may stand beside its own."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    # The declaration, where there is one, must stand first.
    inside = _DECLARATION.sub(b"", content, count=1)
    return {_name(root): _value(root, None) for root in etree.fromstring(b"<all>" + inside + b"</all>", parser)}


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
