"""The line of a message that a finding is about, with a mark under the place. For people, and for reports.

Findings carry a line where libxml2 tells one, but no column, and messages often come as one long line. So the place is
looked up by the finding's path, with expat, which knows the byte at which each element begins. A message is a stream
here, read again from its beginning, and only pieces of it are in memory: it may be one of a hundred thousand payments.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple
from xml.parsers import expat

from interlock.iso20022.findings import Finding

#: Characters that are shown of a line.
_WIDTH = 100
#: Bytes of a line that are read on both sides of a place: more than are ever shown, whatever the encoding.
_AROUND = 8 * _WIDTH
_STEP_BYTES = 65_536
_COLUMN = re.compile(r"line (\d+), column (\d+)")


class Excerpt(NamedTuple):
    """A piece of one line, and where in it the mark stands."""

    line: int
    text: str
    #: Characters before the mark.
    indent: int
    #: Length of the mark.
    length: int


class Spot(NamedTuple):
    """Where a finding is, as far as it can be told."""

    excerpt: Excerpt | None
    #: In bytes, from 1; only of an element that was found.
    column: int | None


class _Found(Exception):
    """Stops the parser once every place is known."""


def spots(message: BinaryIO, findings: Sequence[Finding]) -> Iterator[Spot]:
    """One for each finding."""
    offsets = places(message, {finding.xpath for finding in findings if not finding.rule.startswith("xml.")})
    named = [None if finding.xpath in offsets else _named(finding) for finding in findings]
    lines = _lines_at(message, offsets.values())
    starts = _starts_of(message, (line for one in named if one is not None for line in (one[0], one[0] - 1)))
    for finding, one in zip(findings, named, strict=True):
        if (offset := offsets.get(finding.xpath)) is not None:
            line, start = lines[offset]
            yield Spot(_excerpt(message, line, start, offset - start), offset - start + 1)
        elif one is not None and one[0] in starts:
            yield Spot(_excerpt(message, one[0], starts[one[0]], one[1]), None)
        elif (
            one is not None and one[0] - 1 in starts
        ):  # libxml2 names the line after the last where it misses something
            yield Spot(_end_of(message, one[0] - 1, starts[one[0] - 1]), None)
        else:
            yield Spot(None, None)


def places(message: BinaryIO, paths: Iterable[str]) -> dict[str, int]:
    """Offset in bytes of the element at each path, where the message has it.

    Content that is not well-formed gives what came before the fault; a DOCTYPE gives nothing, so nothing is expanded.
    An encoding that expat cannot read gives nothing, though libxml2 may know it.
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
        if wanted:
            for piece in _pieces(message):
                parser.Parse(piece, False)
            parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError, _Found):
        return found
    return found


def _plain(path: str) -> str:
    """The path with a position at every step, and without an attribute at its end."""
    steps = [step for step in path.split("/") if step and not step.startswith("@")]
    return "".join(f"/{step}" if step.endswith("]") else f"/{step}[1]" for step in steps)


def _named(finding: Finding) -> tuple[int, int] | None:
    """Line and column that a finding itself names; -1 is the first visible character."""
    if (at := _COLUMN.search(finding.text)) is not None:
        return int(at[1]), max(0, int(at[2]) - 1)
    return None if finding.line is None else (finding.line, -1)


def _pieces(message: BinaryIO) -> Iterator[bytes]:
    message.seek(0)
    while piece := message.read(_STEP_BYTES):
        yield piece


def _lines_at(message: BinaryIO, offsets: Iterable[int]) -> Mapping[int, tuple[int, int]]:
    """The line of each offset, and where that line begins."""
    wanted = sorted(set(offsets), reverse=True)
    found: dict[int, tuple[int, int]] = {}
    line, start, base = 1, 0, 0
    for piece in _pieces(message):
        if not wanted:
            break
        stops = [wanted.pop() for _ in range(sum(offset < base + len(piece) for offset in wanted))]
        begin = 0
        for stop in (*(offset - base for offset in stops), len(piece)):
            line += piece.count(b"\n", begin, stop)
            if (last := piece.rfind(b"\n", begin, stop)) >= 0:
                start = base + last + 1
            if base + stop in stops:
                found[base + stop] = (line, start)
            begin = stop
        base += len(piece)
    return found


def _starts_of(message: BinaryIO, lines: Iterable[int]) -> Mapping[int, int]:
    """Where each of the lines begins, of those that the message has."""
    wanted = sorted({line for line in lines if line > 0}, reverse=True)
    found: dict[int, int] = {}
    line, start, base = 1, 0, 0
    for piece in _pieces(message):
        begin, end = 0, line + piece.count(b"\n")
        while wanted and wanted[-1] <= end:
            while line < wanted[-1]:
                begin = piece.index(b"\n", begin) + 1
                line, start = line + 1, base + begin
            found[wanted.pop()] = start
        base, line = base + len(piece), end
        if not wanted:
            break
    return {line: start for line, start in found.items() if start < _size(message) or start == 0}


def _size(message: BinaryIO) -> int:
    return message.seek(0, 2)


def _end_of(message: BinaryIO, line: int, start: int) -> Excerpt:
    """The last line, with the mark after it."""
    begin = max(start, _size(message) - _AROUND)
    message.seek(begin)
    raw = message.read(_AROUND).rstrip(b"\r\n")
    return _cut(raw, line, len(raw))


def _excerpt(message: BinaryIO, line: int, start: int, column: int) -> Excerpt:
    """What is around a column of the line that begins there; -1 marks its first visible character."""
    begin = max(start, start + column - _AROUND)
    message.seek(begin)
    raw = message.read(2 * _AROUND).partition(b"\n")[0].rstrip(b"\r")
    return _cut(raw, line, column if column < 0 else start + column - begin)


def _cut(raw: bytes, line: int, column: int) -> Excerpt:
    """As much of the line as fits, around the column."""
    if b"\0" in raw:  # UTF-16, of which the half without zeros is what people read
        column, raw = column - raw.count(b"\0", 0, max(0, column)), raw.replace(b"\0", b"")
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
