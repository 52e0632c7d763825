"""Texts against the regular expressions that profiles hold, in bounded time. Pure.

A sender chooses the text, and an innocent expression such as `([A-Z0-9]+ ?)+` takes hours for some texts in Python's
own engine. One that repeats one thing at most a varying number of times cannot, and nearly all are so; the others go
to an engine that gives up.
"""

import re
import warnings
from functools import partial
from typing import Final, Protocol

import regex

#: For one text. Expressions that are not made to be slow take microseconds.
SECONDS_MAX: Final = 0.05

_ATOM: Final = r"(?:\[\^?\]?(?:[^\\\]]|\\.)*\]|\\[^\d]|[^\\\[(){}*+?|^$])"
_FIXED: Final = rf"(?:{_ATOM}(?:\{{\d{{1,4}}\}})?)"
_VARYING: Final = rf"(?:{_ATOM}(?:[*+?]|\{{\d*,\d*\}}))"
_SEQUENCE: Final = rf"(?:{_FIXED}*+(?:{_VARYING}{_FIXED}*+)?)"
#: Alternatives without groups, each of which repeats one thing at most a varying number of times.
_PLAIN: Final = re.compile(rf"{_SEQUENCE}(?:\|{_SEQUENCE})*\Z")


class Matches(Protocol):
    """Tells whether a text matches from end to end; raises TimeoutError where that takes too long."""

    def __call__(self, text: str, /) -> object:
        """Something true where it does."""
        ...


def matching(pattern: str) -> Matches:
    """Raises ValueError for what is no regular expression."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            plain = re.compile(pattern)
            if _PLAIN.match(pattern):
                return plain.fullmatch
            return partial(regex.compile(pattern).fullmatch, timeout=SECONDS_MAX)
    except FutureWarning as exc:
        raise ValueError(
            f"{pattern!r} can be read in two ways: {exc}. Put a backslash before what stands there"
        ) from exc
    except (re.error, regex.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"{pattern!r} is no regular expression: {exc}") from exc
