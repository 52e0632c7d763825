"""The smallest input that still breaks what a larger one broke, as far as it is found in a bounded time."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from lxml import etree

from fuzz.trees import tree_of

_TOKEN: Final = re.compile(rb"<[^<>]*>|[^<>\n]+\n?|[<>\n]")
#: Larger inputs are not cut byte by byte.
_BYTES: Final = 3000
PartT = TypeVar("PartT")


def minimised(content: bytes, breaks: Callable[[bytes], bool], *, seconds: float) -> bytes:
    """content: known to break it. Cuts whole elements first, then tags and texts, then bytes."""
    until = time.monotonic() + seconds
    tried: dict[bytes, bool] = {content: True}

    def still(candidate: bytes) -> bool:
        if candidate not in tried:
            tried[candidate] = time.monotonic() < until and breaks(candidate)
        return tried[candidate]

    before = None
    while content != before and time.monotonic() < until:
        before = content
        content = _without_elements(content, still)
        content = b"".join(_cut(_TOKEN.findall(content), lambda parts: still(b"".join(parts))))
        if len(content) <= _BYTES:
            content = bytes(_cut(content, lambda parts: still(bytes(parts))))
    return content


def _without_elements(content: bytes, still: Callable[[bytes], bool]) -> bytes:
    """Whole elements lost, the largest first."""
    root = tree_of(content)
    if root is None or not still(etree.tostring(root, encoding="UTF-8")):
        return content
    elements = sorted(root.iter("{*}*"), key=lambda one: sum(1 for _ in one.iter()), reverse=True)
    for element in elements:
        parent = element.getparent()
        if parent is None or element.getroottree().getroot() is not root:
            continue
        place = parent.index(element)
        parent.remove(element)
        smaller = etree.tostring(root, encoding="UTF-8")
        if still(smaller):
            content = smaller
        else:
            parent.insert(place, element)
    return content


def _cut(parts: Sequence[PartT], still: Callable[[Sequence[PartT]], bool]) -> Sequence[PartT]:
    """Runs of parts lost, long ones first: what is left breaks it still, and no run of it can be lost."""
    size = max(1, len(parts) // 2)
    while parts:
        at, before = 0, len(parts)
        while at < len(parts):
            smaller = [*parts[:at], *parts[at + size :]]
            if still(smaller):
                parts = smaller
            else:
                at += size
        if size == 1 and len(parts) == before:
            break
        size = max(1, size // 2)
    return parts
