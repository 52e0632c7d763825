"""The catalogue: which versions there are, where from, and what is compiled and kept when."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from lxml import etree

from interlock.errors import ConfigError
from interlock.iso20022.schemas import Catalogue, Source, cache, definition_of_namespace, packages
from interlock.iso20022.xsd import compile_source

SAMPLE: Final = Path(__file__).parents[2] / "samples" / "pacs.008.001.08_bah.xml"
PACS_008: Final = "pacs.008.001.08"
NAMESPACE: Final = f"urn:iso:std:iso:20022:tech:xsd:{PACS_008}"
PACKAGES: Final = {package.name: package for package in packages.read()}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def test_definitions_are_sorted_and_of_all_payment_families(catalogue: Catalogue) -> None:
    """The catalogue lists its versions by name, of every family."""
    names = [definition.name for definition in catalogue.definitions()]
    assert names == sorted(names)
    assert {"admi", "camt", "head", "pacs", "pain", "remt"} <= {name[:4] for name in names}
    compiled = [definition for definition in catalogue.definitions() if definition.origin.startswith("pyiso20022 ")]
    assert len(compiled) == 272
    assert {definition.source for definition in compiled} == {Source.COMPILED}


def test_definition_tells_namespace_and_root(catalogue: Catalogue) -> None:
    """A header's root is AppHdr, any other's Document; the two oldest namespaces lack `tech`."""
    assert catalogue.definition("head.001.001.02").root == "AppHdr"
    assert catalogue.definition(PACS_008).root == "Document"
    assert catalogue.definition(PACS_008).namespace == NAMESPACE
    assert catalogue.definition("pain.001.001.01").namespace == "urn:iso:std:iso:20022:xsd:pain.001.001.01"


def test_unknown_version_is_a_key_error(catalogue: Catalogue) -> None:
    """Who validates a version without asking `knows` has made a mistake, and is told so."""
    assert not catalogue.knows("pacs.008.001.99")
    for call in (catalogue.xsd, catalogue.definition, catalogue.children):
        with pytest.raises(KeyError):
            call("../../etc/passwd")
    with pytest.raises(KeyError):
        catalogue.validate("pacs.008.001.99", etree.fromstring("<Document/>"))


@pytest.mark.parametrize(
    ("namespace", "definition"),
    [
        (NAMESPACE, PACS_008),
        ("urn:iso:std:iso:20022:xsd:pain.001.001.01", "pain.001.001.01"),
        ("urn:iso:std:iso:20022:tech:xsd:supl.001.001.01.extra", None),
        ("urn:iso:std:iso:20022:tech:xsd:../../x", None),
        ("http://www.w3.org/2000/09/xmldsig#", None),
        ("", None),
    ],
)
def test_definition_of_namespace(namespace: str, definition: str | None) -> None:
    """Only an ISO 20022 message namespace names a version."""
    assert definition_of_namespace(namespace) == definition


def test_profiles_that_use_a_version_are_told() -> None:
    """What profiles say they use stands beside the version, by name."""
    catalogue = Catalogue(profiles={"sepa-inst": {PACS_008}, "cbprplus": [PACS_008, "pacs.009.001.08"]})
    assert catalogue.definition(PACS_008).profiles == ("cbprplus", "sepa-inst")
    assert catalogue.definition(PACS_008).restricted_by == ()
    assert catalogue.definition("pacs.009.001.08").profiles == ("cbprplus",)
    assert catalogue.definition("pacs.009.001.09").profiles == ()


# Packages


@pytest.mark.parametrize("name", [package.name for package in PACKAGES.values() if package.adds])
def test_what_a_package_adds_is_as_said(name: str) -> None:
    """The list of what an absent package would add is what it adds where it is installed."""
    package = PACKAGES[name]
    if package.folder is None:
        pytest.skip(f"{name} is not installed")
    found = packages.available(list(PACKAGES.values()))
    assert {definition for definition, source in found.items() if source is package} == package.adds


@pytest.mark.parametrize("name", [package.name for package in PACKAGES.values() if package.adds])
def test_every_added_version_loads(name: str, catalogue: Catalogue) -> None:
    """What an added package has compiles to schemas that libxml2 takes, with content below their roots."""
    package = PACKAGES[name]
    if package.folder is None:
        pytest.skip(f"{name} is not installed")
    for definition in sorted(package.adds)[::5]:
        assert catalogue.children(definition), definition
        assert catalogue.definition(definition).origin == package.origin


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> Catalogue:
    """A catalogue where these packages are not installed."""
    absent = {PACKAGES[name].module for name in names}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    return Catalogue()


def test_absent_package_is_said_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra its versions are unknown, and it is said what has them; the others are there."""
    catalogue = without(monkeypatch, "python-iso20022", "sepaxml")
    assert catalogue.knows(PACS_008)
    assert not catalogue.knows("pain.008.001.11")
    assert "interlock[catalogue]" in catalogue.how_to_add("pain.008.001.11")
    assert "sepaxml" in catalogue.how_to_add("pain.008.001.08")
    assert catalogue.how_to_add("pacs.008.001.99") == "add its XSD with: interlock definitions add FILE.xsd"


def test_required_package_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package that nearly all schemas are made from we do not start, and say why."""
    with pytest.raises(ConfigError, match="pyiso20022"):
        without(monkeypatch, "pyiso20022").definitions()


def test_enumerations_elsewhere_are_read() -> None:
    """A source may import its code sets; types and root have ISO's names, not the package's."""
    source = """
from somewhere.enums import SideCode
@dataclass
class Amount1Test00100101(ISO20022MessageElement):
    side: Optional[SideCode] = field(default=None, metadata={"name": "Side", "type": "Element", "required": True})
@dataclass
class FitoFiamount1Test00100101(ISO20022MessageElement):
    class Meta:
        name = "FIToFIAmount1"
    amount: list[Amount1Test00100101] = field(default_factory=list, metadata={"name": "Amt", "type": "Element"})
@dataclass
class Test00100101(ISO20022Message):
    class Meta:
        namespace = "urn:x"
    inside: Optional[FitoFiamount1Test00100101] = field(default=None, metadata={"name": "In", "type": "Element"})
"""
    enums = 'class OtherCode(Enum):\n    A = "A"\nclass SideCode(Enum):\n    VALUE_1 = "1ST"\n    LAST = "LAST"\n'
    text = compile_source(source, "test.001.001.01", read={"somewhere.enums": enums}.__getitem__)
    schema = etree.XMLSchema(etree.fromstring(text))
    namespace = "urn:iso:std:iso:20022:tech:xsd:test.001.001.01"
    document = f'<Document xmlns="{namespace}"><In><Amt><Side>{{}}</Side></Amt></In></Document>'
    assert schema.validate(etree.fromstring(document.format("1ST")))
    assert not schema.validate(etree.fromstring(document.format("VALUE_1")))
    assert b'name="FIToFIAmount1"' in text
    assert b"OtherCode" not in text


# What is compiled, and kept


def test_listing_compiles_loads_and_imports_nothing() -> None:
    """A start that only lists what there is reads no schema, and never imports a package of message classes."""
    script = """
import sys
from interlock.iso20022.schemas import Catalogue, loaded, packages
def refuse(*_, **__):
    raise AssertionError("compiled")
packages.compile_source = refuse
loaded.Loaded.__init__ = refuse
assert len(Catalogue().definitions()) > 200
assert Catalogue().knows("pacs.008.001.08")
messages = {"pyiso20022", "python_iso20022", "sepaxml", "xsdata"}
print([name for name in sys.modules if name.partition(".")[0] in messages])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_start_compiles_and_loads_no_schema(tmp_path: Path) -> None:
    """A server that has started holds no schema; its first message has its own two compiled, and no third."""
    script = f"""
import asyncio, sys
from interlock.app import Interlock
from interlock.config import Config
from interlock.iso20022.schemas import loaded, packages
made, compiled = [], []
compiling, loading = packages.compile_source, loaded.Loaded.__init__
packages.compile_source = lambda *args, **kwargs: compiled.append(args[1]) or compiling(*args, **kwargs)
loaded.Loaded.__init__ = lambda *args, **kwargs: made.append(kwargs["root"]) or loading(*args, **kwargs)
async def main():
    interlock = Interlock(Config(data={str(tmp_path)!r}, log_level="warning"))
    await interlock.start()
    print(made, compiled, [name for name in sys.modules if name.startswith("pyiso20022.")])
    issued = await interlock.workflow.receiving.issue("c_someone", announced="pacs.008")
    content = open({str(SAMPLE)!r}, "rb").read()
    await interlock.workflow.receiving.receive("c_someone", issued.id, content)
    print(sorted(compiled))
    await interlock.stop()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] [] []", "['head.001.001.02', 'pacs.008.001.08']"]


def forbid_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(packages, "compile_source", refuse)


def test_cache_saves_compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process has compiled, the next one reads."""
    text = Catalogue(cache=tmp_path / "new").xsd(PACS_008)
    forbid_compiling(monkeypatch)
    assert Catalogue(cache=tmp_path / "new").xsd(PACS_008) == text


def test_cache_of_another_compiler_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new compiler does not trust what an old one wrote."""
    Catalogue(cache=tmp_path).xsd(PACS_008)
    monkeypatch.setattr(cache, "COMPILER_VERSION", 0)
    forbid_compiling(monkeypatch)
    with pytest.raises(AssertionError, match="compiled again"):
        Catalogue(cache=tmp_path).xsd(PACS_008)


@pytest.mark.parametrize("damage", [b"", b"<xs:schema", b"\xff\xfe", None])
def test_damaged_cache_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    """A torn or edited file is noticed, replaced, and changes no verdict."""
    text = Catalogue(cache=tmp_path).xsd(PACS_008)
    (file,) = tmp_path.rglob("*.xsd")
    stored = file.read_bytes()
    file.write_bytes(stored.replace(b'"35"', b'"99"') if damage is None else damage)
    assert Catalogue(cache=tmp_path).xsd(PACS_008) == text
    assert file.read_bytes() == stored
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    """No cache is no fault: here its folder is a file."""
    (tmp_path / "file").write_text("")
    assert Catalogue(cache=tmp_path / "file").children(PACS_008)


def test_loaded_schemas_are_bounded() -> None:
    """Only so many schemas are held; the one not used for longest goes first."""
    catalogue = Catalogue(loaded_max=2)
    for definition in ("head.001.001.01", "head.001.001.02", "head.001.001.01", "head.001.001.03"):
        catalogue.children(definition)
    assert list(catalogue._loaded) == [("head.001.001.01", None), ("head.001.001.03", None)]
