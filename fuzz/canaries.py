"""Values that would be known again wherever they came out: no finding may repeat what a message says."""

import re
from random import Random
from typing import Final

#: Of every form that some rule or facet looks at: texts, ids, accounts, codes, numbers, moments.
CANARIES: Final = (
    "KXQZVWJ", "Kxqzvwj Person", "kxqzvwj@example.org", "KXQZDEFFXXX", "KXQZDEFF", "DE89KXQZ0440532013000", "KXQZ",
    "73519460284", "73519460284.77", "-73519460284", "+49-73519460284", "2773-05-19", "2773-05-19T07:35:19",
    "7351946d-0284-4a1b-9c3d-7e8f9a0b1c2d", "7351946D-0284-1A1B-9C3D-7E8F9A0B1C2D", "KXQZVWJ" * 20, "KXQZ\u00e9\u00e9",
    "<KXQZVWJ>", "KXQZVWJ\nKXQZVWJ", "QXK", "urn:kxqzvwj:x", "a'KXQZVWJ'b", 'a"KXQZVWJ"b',
)  # fmt: skip
_TRACE: Final = re.compile(r"KXQZ|QXK|73519460|7351946d|2773-05-19|07:35:19", re.IGNORECASE)


def canary(random: Random) -> str:
    """One of them."""
    return random.choice(CANARIES)


def is_told(text: str) -> bool:
    """Whether a text has one in it, or a part by which it could be told."""
    return _TRACE.search(text) is not None
