"""The line of a message that a finding is about, with a mark under the place. For people only. Pure.

Findings carry a line where libxml2 tells one, but no column, and messages often come as one long line. So the place is
looked up by the finding's path, with expat, which knows the byte at which each element begins.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple
from xml.parsers import expat

from interlock.iso20022.findings import Finding

_WIDTH = 100
_COLUMN = re.compile(r"line (\d+), column (\d+)")


class Excerpt(NamedTuple):
    """A piece of one line, and where in it the mark stands."""

    line: int
    text: str
    #: Characters before the mark.
    indent: int
    #: Length of the mark.
    length: int


class _Found(Exception):
    """Stops the parser once every place is known."""


def places(content: bytes, paths: Iterable[str]) -> dict[str, int]:
    """Offset in bytes of the element at each path, where the message has it.

    Content that is not well-formed gives what came before the fault; a DOCTYPE gives nothing, so nothing is expanded.
    """
    wanted = {_plain(path): path for path in paths}
    found: dict[str, int] = {}
    parser = expat.ParserCreate()
    trail: list[str] = []
    siblings: list[Counter[str]] = [Counter()]

    def start(tag: str, _: object) -> None:
        name = tag.rpartition(":")[2]
        siblings[-1][name] += 1
        trail.append(f"{name}[{siblings[-1][name]}]")
        siblings.append(Counter())
        if (path := wanted.get("/" + "/".join(trail))) is not None:
            found[path] = parser.CurrentByteIndex
            if len(found) == len(wanted):
                raise _Found

    def end(_: str) -> None:
        trail.pop()
        siblings.pop()

    def refuse(*_: object) -> None:
        raise _Found

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, _Found):
        return found
    return found


def _plain(path: str) -> str:
    """The path with a position at every step, and without an attribute at its end."""
    steps = [step for step in path.split("/") if step and not step.startswith("@")]
    return "".join(f"/{step}" if step.endswith("]") else f"/{step}[1]" for step in steps)


def excerpt(content: bytes, finding: Finding, offset: int | None) -> Excerpt | None:
    """The line at an offset, or the one that the finding names; None where there is no line to show."""
    if offset is not None:
        line = content.count(b"\n", 0, offset) + 1
        column = offset - (content.rfind(b"\n", 0, offset) + 1)
    elif (at := _COLUMN.search(finding.text)) is not None:
        line, column = int(at[1]), max(0, int(at[2]) - 1)
    elif finding.line is not None:
        line, column = finding.line, -1
    else:
        return None
    lines = content.splitlines() or [b""]
    if line == len(lines) + 1:  # libxml2 names the line after the last where it misses something
        line, column = len(lines), len(lines[-1])
    return _cut(lines[line - 1], line, column) if 0 < line <= len(lines) else None


def _cut(raw: bytes, line: int, column: int) -> Excerpt:
    """As much of the line as fits, around the column; -1 marks its first visible character."""
    text = raw.decode("utf-8", "replace").replace("\t", " ")
    at = len(raw[:column].decode("utf-8", "replace")) if column >= 0 else len(text) - len(text.lstrip())
    begin = 0 if len(text) <= _WIDTH else max(0, min(at - _WIDTH // 4, len(text) - _WIDTH))
    shown = "".join(char if char.isprintable() else "?" for char in text[begin : begin + _WIDTH])
    shown = ("…" if begin else "") + shown + ("…" if begin + _WIDTH < len(text) else "")
    indent = at - begin + (1 if begin else 0)
    return Excerpt(line, shown, indent, _mark(shown[indent:]))


def _mark(rest: str) -> int:
    """The element with its value where it closes on the line, else its tag, else one character."""
    if (whole := re.match(r"<([\w:.-]+)[^<>]*>[^<>]*</\1>", rest)) is not None:
        return whole.end()
    tag = re.match(r"<[^<>]*>", rest)
    return 1 if tag is None else tag.end()
