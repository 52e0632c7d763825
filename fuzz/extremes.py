"""What no schema speaks of: envelopes in envelopes, encodings, namespaces, and sizes of every kind."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from fuzz.canaries import canary
from fuzz.spoiling import BYTES_MAX
from interlock.iso20022.wrappers import wrappers

_DECLARATION: Final = re.compile(rb"^(?:\xef\xbb\xbf)?\s*<\?xml[^>]*\?>\s*")
_ENCODING: Final = re.compile(rb"""(encoding\s*=\s*["'])[^"']*""")
_NAMES: Final = ("BusinessMessage", "RequestPayload", "Envelope", "x", "Document", "AppHdr", "Body", "Hdr", "Doc")
_NAMESPACE: Final = re.compile(rb"urn:iso:std:iso:20022:tech:xsd:[a-z0-9.]+")
_HEADER: Final = re.compile(rb"<(?:\w+:)?AppHdr[ >].*?</(?:\w+:)?AppHdr>", re.DOTALL)
_OPENING: Final = re.compile(rb"<[A-Za-z][^<>/]*>")
_ENCODINGS: Final = (
    "UTF-8", "UTF-8-SIG", "UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32", "UTF-32BE", "ISO-8859-1", "ISO-8859-15", "CP1252",
    "CP037", "CP500", "UTF-7", "SHIFT_JIS", "GB18030", "BIG5", "KOI8-R", "US-ASCII", "EUC-JP", "ISO-2022-JP", "HZ",
)  # fmt: skip


def wrap(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """A wrapper around the message, known or not, with or without another message's header or document beside it."""
    inner = _DECLARATION.sub(b"", content)
    other = _DECLARATION.sub(b"", random.choice(others))
    header = _HEADER.search(other)
    beside = random.choice((b"", b"", header[0] if header else b"", other, b"<x>KXQZVWJ</x>", b"text"))
    parts = [inner, beside] if random.random() < 0.5 else [beside, inner]
    if random.random() < 0.1:
        return b"".join(parts)  # side by side, with nothing around them
    if random.random() < 0.6:
        wrapper = random.choice(list(wrappers().values()))
        name, namespace = random.choice(wrapper.roots)
        inside = random.choice((wrapper.body, wrapper.document, *wrapper.messages, None))
    else:
        name, namespace, inside = random.choice(_NAMES), random.choice(("", "urn:x", canary(random))), None
    if '"' in namespace or "<" in namespace:
        namespace = ""
    prefix = random.choice(("", "p:"))
    declared = f' xmlns{":p" if prefix else ""}="{namespace}"' if namespace else ""
    start, end = f"<{prefix}{name}{declared}>", f"</{prefix}{name}>"
    if not declared:
        start, end = f"<{name}>", f"</{name}>"
    if inside:
        start, end = f"{start}<{prefix if declared else ''}{inside}>", f"</{prefix if declared else ''}{inside}>{end}"
    return start.encode() + b"".join(parts) + end.encode()


def encode(content: bytes, random: Random, _others: Sequence[bytes]) -> bytes:
    """Another encoding, said, not said, or said wrongly."""
    encoding = random.choice(_ENCODINGS)
    text = content.decode("utf-8", "replace")
    said = random.choice((encoding, encoding, random.choice(_ENCODINGS), "KXQZVWJ", "x" * 5000, ""))
    body = text[match.end() :] if (match := re.match(r"\s*<\?xml[^>]*\?>", text)) else text
    declaration = "" if random.random() < 0.2 else f'<?xml version="1.0" encoding="{said}"?>'
    return (declaration + body).encode(encoding, random.choice(("xmlcharrefreplace", "replace")))


def rename(content: bytes, random: Random, _others: Sequence[bytes]) -> bytes:
    """Namespaces: other versions, none, prefixes that are not used, or not declared."""
    form = random.randrange(7)
    found = _NAMESPACE.findall(content)
    if not found or form == 0:
        return content.replace(b" xmlns=", random.choice((b" xmlns:d=", b" ", b" XMLNS=")))
    old = random.choice(found)
    match form:
        case 1:
            new = old[:-2] + f"{random.randint(0, 99):02}".encode()
        case 2:
            new = random.choice((old + b" ", old.upper(), b"", b"urn:kxqzvwj:x", old + b"x" * 9000, old + b".01", b" "))
        case 3:
            new = random.choice(
                (b"urn:swift:xsd:" + old.rpartition(b":")[2], b"urn:iso:std:iso:20022:xsd:pain.001.001.02")
            )
        case 4:
            new = random.choice((b"head.001.001.02", b"pacs.008.001.08", b"pacs.002.001.10", b"admi.002.001.01", b"x"))
            new = b"urn:iso:std:iso:20022:tech:xsd:" + new
        case 5:  # every element with a prefix
            prefixed = re.sub(rb"<(/?)(?=[A-Za-z])", rb"<\1d:", content)
            return prefixed.replace(b" xmlns=", b" xmlns:d=")
        case _:  # a declaration on each tag
            return _OPENING.sub(lambda match: match[0][:-1] + b' xmlns="' + old + b'">', content)[:BYTES_MAX]
    return content.replace(old, new, random.choice((1, -1)))


def swell(content: bytes, random: Random, _others: Sequence[bytes]) -> bytes:
    """Something huge, somewhere: a name, a value, a depth, a number of attributes, siblings or namespaces."""
    count = random.choice((10, 65, 300, 2_000, 20_000, 150_000, 400_000))
    way = random.random()
    if way < 0.1:
        return _repeated_element(content, random, min(count, 3000))
    if way < 0.2:
        return _stretched_value(content, random, count)
    places = [match.end() for match in _OPENING.finditer(content)]
    at = random.choice(places) if places else len(content)
    what = random.choice(_HUGE)(count)
    return (content[:at] + what + content[at:])[: BYTES_MAX + 1000]


#: Of about so many bytes.
_HUGE: Final[tuple[Callable[[int], bytes], ...]] = (
    lambda size: b"<" + b"n" * size + b"/>",
    lambda size: b"<a b='" + b"v" * size + b"'/>",
    lambda size: b"<a " + b"b" * size + b"=''/>",
    lambda size: b"<a xmlns='" + b"v" * size + b"'/>",
    lambda size: b"t" * size,
    lambda size: b"<a>" * (size // 7) + b"</a>" * (size // 7),
    lambda size: b"<a>" * (size // 3),
    lambda size: b"<a/>" * (size // 4),
    lambda size: b"<a " + b"".join(b"a%d='' " % number for number in range(size // 10)) + b"/>",
    lambda size: b"<a " + b"".join(b"xmlns:p%d='u%d' " % (number, number) for number in range(size // 24)) + b"/>",
    lambda size: b"".join(b"<n%d/>" % number for number in range(size // 9)),
    lambda size: b"<![CDATA[" + b"c" * size + b"]]>",
    lambda size: b"<!--" + b"c" * size + b"--><?p " + b"d" * size + b"?>",
    lambda size: b"<?p?><!---->" * (size // 12),
    lambda size: b"&#65;" * (size // 5),
    lambda size: b"<a>" * min(size // 7, 250) + b"<b/>" * (size // 4) + b"</a>" * min(size // 7, 250),
    lambda size: b"<a xmlns='u'>" * min(size // 17, 250) + b"</a>" * min(size // 17, 250),
    lambda size: b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08'/>" * (size // 65),
    lambda size: b"<AppHdr/><Document/>" * (size // 20),
)


def _repeated_element(content: bytes, random: Random, count: int) -> bytes:
    """One element of the message, many times."""
    names = sorted(set(re.findall(rb"</([A-Za-z][\w.:-]*)>", content)))
    if not names:
        return content * 2
    name = re.escape(random.choice(names))
    match = re.search(rb"<" + name + rb"(?:\s[^>]*)?>.*?</" + name + rb">", content, re.DOTALL)
    if match is None:
        return content
    times = min(count, 900_000 // max(1, len(match[0])))
    return content[: match.end()] + match[0] * times + content[match.end() :]


def _stretched_value(content: bytes, random: Random, count: int) -> bytes:
    """One value of the message, very long and of its own kind."""
    values = list(re.finditer(rb">([^<>\s][^<>]*)<", content))
    if not values:
        return content
    match = random.choice(values)
    value = match[1] * max(1, count // max(1, len(match[1])))
    return content[: match.start(1)] + value[:800_000] + content[match.end(1) :]


EXTREMES: Final[tuple[Callable[[bytes, Random, Sequence[bytes]], bytes], ...]] = (
    wrap,
    wrap,
    encode,
    rename,
    rename,
    swell,
)
