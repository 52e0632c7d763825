"""What an operator may hand us by mistake: schemas and profiles, spoilt. Each is taken, or refused with a reason."""

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from random import Random
from typing import Final

from lxml import etree

from fuzz.broken import Broken
from fuzz.measured import quick
from fuzz.spoiling import spoil_bytes, spoil_tokens
from interlock.errors import ConfigError, ConflictError, RequestError
from interlock.inspection import inspect
from interlock.iso20022.envelopes import Limits, read
from interlock.iso20022.profiles import Profiles, examples
from interlock.iso20022.schemas import Catalogue
from interlock.iso20022.schemas.registering import register
from interlock.stages.facts import Inspection
from tests.instances import NASTY, XS
from tests.messages import pacs008
from tests.world import catalogue

_VALUES: Final = (
    "unbounded", "0", "-1", "1", "2", "999999999", "99999999999999999999", "(a+)+", "([a-z]*)*b", "[", "(", "a{99999}",
    r"\p{L}{1,500}", "a{2147483648}", "(((((a*)*)*)*)*)*", "xs:string", "Max35Text", "Nope", "x" * 40_000, "https://[",
    "http://localhost:1/x.xsd", "file:///dev/zero", "../../x.xsd", "/dev/zero", "pacs.008.001.08.xsd", "%00", *NASTY,
)  # fmt: skip
_PARTS: Final = (
    "include", "import", "redefine", "override", "any", "anyAttribute", "element", "attribute", "group", "key",
    "notation", "all", "choice", "sequence", "union", "list", "annotation", "simpleType", "complexType", "pattern",
)  # fmt: skip
_TOML: Final = (
    "0", "-1", "1e400", "nan", "inf", "true", '""', '"x"', "[]", "{}", "[[]]", "2026-01-01", "0001-01-01", "00:00:00",
    "2026-01-01T00:00:00Z", "9" * 5000, "0x" + "f" * 900, '"(a+)+$"', '"["', '"a{99999999999999999999}"', "{a.b.c = 1}",
    '"(?P<x>a)(?P<x>b)"', '"' + "(" * 99 + '"', '"\\u0000"', '"../x"', '"pacs.008.001.99"', '"cbprplus"', '"//x"',
    '"' + "a/" * 5000 + 'b"', "[" * 3000 + "]" * 3000, '"""', '"' + "(?:" * 190 + '"', "1e9999999", "-0.0", "0b1",
)  # fmt: skip
_LINES: Final = (
    'extends = "own"', 'extends = "generic"', "[[editions]]", "[sources]", "[a.b.c]", "[[a]]", "[[mandatory]]", "= 1",
    "a" * 9000 + " = 1", ".".join("a" * 2000) + " = 1", "\0", "\ufeff", "[choose]", "[answers]", "[rules]", "\r",
    "x = {" * 999, "[[patterns]]", "[[characters]]",
)  # fmt: skip
_REFUSAL_MAX: Final = 100_000


def spoilt_schema(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """A schema with facets, bounds, types and references that are not as they were; or no schema any more."""
    if random.random() < 0.3:
        spoil = random.choice((spoil_bytes, spoil_tokens))
        return spoil(content, random, others)
    root = etree.fromstring(content)
    for _ in range(random.choice((1, 2, 5))):
        node = random.choice(list(root.iter(etree.Element)))
        match random.randrange(5):
            case 0 if node.attrib:
                node.set(random.choice(list(node.attrib)), random.choice(_VALUES))
            case 1:
                names = (
                    "value",
                    "type",
                    "base",
                    "ref",
                    "minOccurs",
                    "maxOccurs",
                    "name",
                    "schemaLocation",
                    "namespace",
                )
                node.set(random.choice(names), random.choice(_VALUES))
            case 2 if (parent := node.getparent()) is not None:
                parent.remove(node)
            case 3:
                part = etree.SubElement(node, f"{XS}{random.choice(_PARTS)}")
                for name in ("schemaLocation", "namespace", "value", "type", "name", "ref", "maxOccurs"):
                    if random.random() < 0.3:
                        part.set(name, random.choice(_VALUES))
            case _:
                other = random.choice(list(root.iter(etree.Element)))
                if other not in (node, *node.iterancestors()) and node not in other.iterancestors():
                    node.append(other)
    return etree.tostring(root)


def spoilt_profile(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """A profile with other values, lines and tables; or no TOML any more."""
    if random.random() < 0.15:
        return spoil_bytes(content, random, others)
    lines = content.decode().splitlines()
    for _ in range(random.choice((1, 1, 2, 4))):
        lines = lines or [""]
        at = random.randrange(len(lines))
        key, equals, _ = lines[at].partition(" = ")
        match random.randrange(6):
            case 0 | 1 | 2 if equals:
                lines[at] = f"{key} = {random.choice(_TOML)}"
            case 3:
                lines[at:at] = [random.choice(_LINES)]
            case 4:
                lines[at:at] = (
                    random.choice(others).decode().splitlines()[random.randrange(20) :][: random.randint(1, 9)]
                )
            case _:
                del lines[at : at + random.randint(1, 3)]
    return "\n".join(lines).encode()


def check_schema(content: bytes, _random: Random) -> str:
    """Registered or refused; and where it is registered, it judges."""
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name) / "schemas", Path(name) / "x.xsd"
        file.write_bytes(content)
        try:
            done = quick("registering", lambda: register(folder, file, catalogue(), replace=True))
        except (RequestError, ConflictError, ConfigError) as exc:
            return _refusal("schema", str(exc), name)
        own = Catalogue(user=folder)
        own.check()
        document = read(pacs008()).document
        assert document is not None
        found = quick("judging by it", lambda: own.validate(done.definition, document))
        return repr((done.definition, found))


def check_profile(content: bytes, _random: Random) -> str:
    """Loaded or refused; and where it is loaded, it judges. Its examples may be spoilt as well."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "own.toml").write_bytes(content)
        (folder / examples.EXPECTED).write_bytes(content)
        with suppress(ConfigError):
            quick("reading examples", lambda: list(examples.read(folder)))
        (folder / examples.EXPECTED).unlink()
        try:
            profiles = quick("loading profiles", lambda: Profiles.load(folder))
        except ConfigError as exc:
            return _refusal("profile", str(exc), name)
        limits, day = Limits(), date(2026, 6, 1)

        def look() -> Inspection:
            return inspect(pacs008(), catalogue(), limits=limits, today=day, profiles=profiles, profile="own")

        return repr(quick("judging by it", look).findings)


def _refusal(what: str, text: str, folder: str) -> str:
    """The same wherever the file was. Raises Broken where nobody would read it."""
    if len(text) > _REFUSAL_MAX:
        raise Broken(f"long refusal of a {what}", f"{len(text)} characters")
    return text.replace(folder, "")
