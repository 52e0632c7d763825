"""The smallest input that still breaks what a larger one broke, as far as it is found in a bounded time."""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
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
    # By digest: a large input has thousands of parts, and so thousands of candidates of almost its own size.
    failed: set[bytes] = set()
    smallest = content

    def still(candidate: bytes) -> bool:
        nonlocal smallest
        if time.monotonic() > until:
            raise _TimeIsOver
        digest = sha256(candidate).digest()
        if candidate == smallest:
            return True
        if digest in failed or not breaks(candidate):
            failed.add(digest)
            return False
        smallest = candidate
        return True

    before = None
    with suppress(_TimeIsOver):
        while smallest != before:
            before = smallest
            _without_elements(smallest, still)
            _cut(_TOKEN.findall(smallest), lambda parts: still(b"".join(parts)))
            if len(smallest) <= _BYTES:
                _cut(smallest, lambda parts: still(bytes(parts)))
    return smallest


class _TimeIsOver(Exception):
    """What is smallest now stays so."""


def _without_elements(content: bytes, still: Callable[[bytes], bool]) -> None:
    """Whole elements lost, the largest first."""
    root = tree_of(content)
    if root is None or not still(etree.tostring(root, encoding="UTF-8")):
        return
    elements = sorted(root.iter("{*}*"), key=lambda one: sum(1 for _ in one.iter()), reverse=True)
    for element in elements:
        parent = element.getparent()
        if parent is None or element.getroottree().getroot() is not root:
            continue
        place = parent.index(element)
        parent.remove(element)
        if not still(etree.tostring(root, encoding="UTF-8")):
            parent.insert(place, element)


def _cut(parts: Sequence[PartT], still: Callable[[Sequence[PartT]], bool]) -> None:
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
