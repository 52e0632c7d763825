"""Ways to spoil a message as bytes and as tokens, whether or not it is XML before or after."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from fuzz.canaries import canary
from tests.instances import NASTY

_MARKUP: Final = (
    b"<", b">", b"&", b"&#0;", b"&#x110000;", b"&#xD800;", b"&amp;", b"&x;", b"<!--", b"-->", b"<!-- KXQZVWJ -->",
    b"<![CDATA[", b"]]>", b"<![CDATA[KXQZVWJ]]>", b"<?pi?>", b"<?KXQZVWJ KXQZVWJ?>", b"<!DOCTYPE a>",
    b'<!DOCTYPE a [<!ENTITY x "KXQZVWJ">]>', b"\0", b"\x0b", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80",
    b"\xf4\x90\x80\x80", b"</Document>", b"<Document>", b"<AppHdr/>", b"<a>", b"<a/>", b' xmlns="x"', b' xmlns=""',
    b' xmlns:p="urn:kxqzvwj:x"', b' a="KXQZVWJ"', b' xml:lang="KXQZVWJ"', b' xml:id="KXQZVWJ"', b' Ccy="KXQZ"',
    b' xsi:type="KXQZVWJ"', b'<?xml version="1.1"?>',
    b'<?xml version="1.0" encoding="KXQZVWJ"?>', b'<?xml version="1.0" standalone="yes"?>', b"\r", b"\r\n", b"\t",
    b"--", b"<p:x/>", b'<?xml version="1.0" encoding="UTF-7"?>', b'<?xml version="1.0"?>',
)  # fmt: skip
_TOKEN: Final = re.compile(rb"<[^<>]{0,4000}>|[^<>]+|[<>]")
#: No message grows beyond what the readers refuse unread, except where its size is the matter.
BYTES_MAX: Final = 1_200_000


def spoil_bytes(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Some bytes changed, lost, doubled, or replaced by some of another message."""
    at = random.randint(0, len(content))
    end = min(len(content), at + random.choice((1, 1, 2, 5, 20, 60, 400)))
    match random.randrange(8):
        case 0:
            changed = bytes(byte ^ 1 << random.randrange(8) for byte in content[at : at + 1])
            return content[:at] + changed + content[at + 1 :]
        case 1:
            return content[:at] + random.randbytes(random.randint(1, 8)) + content[at:]
        case 2:
            return content[:at] + content[end:] if random.random() < 0.7 else content[:at]
        case 3:
            return content[:at] + content[at:end] * random.choice((2, 3, 50)) + content[end:]
        case 4:
            other = random.choice(others)
            start = random.randint(0, len(other))
            return content[:at] + other[start : start + random.randint(1, 600)] + content[end:]
        case _:
            return content[:at] + random.choice(_MARKUP) + content[at:]


def spoil_tokens(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Tags and texts lost, doubled, swapped, exchanged or with something in them that does not belong there."""
    tokens = _TOKEN.findall(content)
    if not tokens:
        return random.choice(others)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(tokens))
        random.choice(_TOKENS)(tokens, at, random, others)
    return b"".join(tokens)[:BYTES_MAX]


_Spoil = Callable[[list[bytes], int, Random, Sequence[bytes]], None]


def _drop(tokens: list[bytes], at: int, random: Random, _others: Sequence[bytes]) -> None:
    tokens[at : at + random.choice((1, 1, 3))] = [b""]


def _repeat(tokens: list[bytes], at: int, random: Random, _others: Sequence[bytes]) -> None:
    width = random.choice((1, 1, 3, 9))
    tokens[at:at] = tokens[at : at + width] * random.choice((1, 2, 40))


def _swap(tokens: list[bytes], at: int, random: Random, _others: Sequence[bytes]) -> None:
    other = random.randrange(len(tokens))
    tokens[at], tokens[other] = tokens[other], tokens[at]


def _exchange(tokens: list[bytes], at: int, random: Random, others: Sequence[bytes]) -> None:
    tokens[at] = random.choice(_TOKEN.findall(random.choice(others)) or [b""])


def _say(tokens: list[bytes], at: int, random: Random, _others: Sequence[bytes]) -> None:
    """Another value, raw or escaped."""
    text = canary(random) if random.random() < 0.5 else random.choice(NASTY)
    value = text.encode()
    if random.random() < 0.7:
        value = value.replace(b"&", b"&amp;").replace(b"<", b"&lt;")
    place = next((one for one in range(at, len(tokens)) if not tokens[one].startswith(b"<")), at)
    tokens[place] = value


def _attribute(tokens: list[bytes], at: int, random: Random, _others: Sequence[bytes]) -> None:
    """Something more in a tag: an attribute, a namespace, a slash."""
    place = next((one for one in range(at, len(tokens)) if tokens[one][:1] == b"<" and tokens[one][-1:] == b">"), None)
    if place is not None:
        more = random.choice(_MARKUP) if random.random() < 0.8 else b"/"
        tokens[place] = tokens[place][:-1] + more + b">"


def _insert(tokens: list[bytes], at: int, random: Random, _others: Sequence[bytes]) -> None:
    tokens[at:at] = [random.choice(_MARKUP)]


def _wrap(tokens: list[bytes], at: int, random: Random, _others: Sequence[bytes]) -> None:
    end = min(len(tokens), at + random.choice((1, 3, 9)))
    name = random.choice((b"a", b"Document", b"AppHdr", b"p:Document", b"Body"))
    tokens[end:end] = [b"</" + name + b">"]
    tokens[at:at] = [b"<" + name + b">"]


_TOKENS: Final[tuple[_Spoil, ...]] = (_drop, _repeat, _swap, _exchange, _say, _say, _attribute, _insert, _wrap)
