"""The operator's folder: schemas of one's own, restricted ones of a profile, and how one is added."""

import os
import threading
from pathlib import Path
from typing import Final

import pytest
from lxml import etree

from interlock.errors import ConfigError
from interlock.iso20022.findings import Finding
from interlock.iso20022.schemas import Catalogue, Source, UserSchemaError, registering
from interlock.iso20022.schemas.registering import SchemaStands, UnfitSchema, register

PACS_008: Final = "pacs.008.001.08"
NAMESPACE: Final = f"urn:iso:std:iso:20022:tech:xsd:{PACS_008}"

USER_SCHEMA: Final = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="{namespace}"
    targetNamespace="{namespace}" elementFormDefault="qualified">
  {more}
  <xs:element name="Document" type="Document"/>
  <xs:complexType name="Document"><xs:sequence>
    <xs:element name="Only" type="Max3" maxOccurs="2"/><xs:element name="Day" type="xs:date" minOccurs="0"/>
  </xs:sequence></xs:complexType>
  {max3}
</xs:schema>"""
MAX3: Final = """<xs:simpleType name="Max3"><xs:restriction base="xs:string">
    <xs:maxLength value="3"/></xs:restriction></xs:simpleType>"""


def user_schema(namespace: str = NAMESPACE, *, more: str = "", max3: str = MAX3) -> str:
    return USER_SCHEMA.format(namespace=namespace, more=more, max3=max3)


def document(inside: str, namespace: str = NAMESPACE) -> etree._Element:
    return etree.fromstring(f'<Document xmlns="{namespace}">{inside}</Document>')


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding


def test_user_schema_goes_first(tmp_path: Path) -> None:
    """A file for a known version replaces the compiled schema, whatever its name; others stay."""
    (tmp_path / "our-scheme.xsd").write_text(user_schema())
    catalogue = Catalogue(user=tmp_path)
    catalogue.check()
    sources = {definition.name: definition.source for definition in catalogue.definitions()}
    assert sources[PACS_008] is Source.USER
    assert sources["pacs.008.001.09"] is Source.COMPILED
    assert catalogue.xsd(PACS_008) == user_schema().encode()
    assert (
        catalogue.validate(PACS_008, etree.fromstring(f'<Document xmlns="{NAMESPACE}"><Only>a</Only></Document>')) == ()
    )
    assert catalogue.validate(PACS_008, etree.fromstring(f'<Document xmlns="{NAMESPACE}"><Other/></Document>')) != ()


def test_user_schema_adds_a_version(tmp_path: Path) -> None:
    """A version that we do not have is there once its file is."""
    namespace = "urn:iso:std:iso:20022:tech:xsd:pain.008.001.77"
    (tmp_path / "x.xsd").write_text(user_schema(namespace))
    catalogue = Catalogue(user=tmp_path)
    assert catalogue.knows("pain.008.001.77")
    bad = etree.fromstring(f'<Document xmlns="{namespace}"><Only>a</Only><Day>secret</Day></Document>')
    assert only(catalogue.validate("pain.008.001.77", bad)).text == "Day must be a date, such as 2026-01-31."
    assert [child.name for child in catalogue.children("pain.008.001.77")] == ["Only", "Day"]


def test_user_schema_may_include_a_file_of_its_folder(tmp_path: Path) -> None:
    """A schema in several files works, in a folder with an awkward name too; parts are no versions of their own."""
    folder = tmp_path / "my schémas"
    folder.mkdir()
    (folder / "main.xsd").write_text(user_schema(more='<xs:include schemaLocation="a%20part.xsd"/>', max3=""))
    part = f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="{NAMESPACE}">{MAX3}</xs:schema>'
    (folder / "a part.xsd").write_text(part)
    catalogue = Catalogue(user=folder)
    root = etree.fromstring(f'<Document xmlns="{NAMESPACE}"><Only>secret</Only></Document>')
    assert only(catalogue.validate(PACS_008, root)).text == "Only must have a length of at most 3: shorten it."


ANYTHING = (
    '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" elementFormDefault="qualified"'
    f' targetNamespace="urn:iso:std:iso:20022:tech:xsd:{PACS_008}">{{}}</xs:schema>'
)
LAX = (
    "<xs:element name='Document'><xs:complexType><xs:sequence><xs:any processContents='lax' maxOccurs='unbounded'/>"
    "</xs:sequence></xs:complexType></xs:element>"
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<xs:schema", "cannot be read"),
        ("<html/>", "not an XSD"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + user_schema(), "DOCTYPE"),
        (user_schema(more='<xs:include schemaLocation="../other.xsd"/>'), "bare file name"),
        (user_schema(more='<xs:include schemaLocation="/etc/other.xsd"/>'), "bare file name"),
        (user_schema(more='<xs:include schemaLocation="absent.xsd"/>'), "bare file name"),
        (user_schema(more='<xs:import namespace="u:d" schemaLocation="http://127.0.0.1:9/d.xsd"/>'), "bare file name"),
        (user_schema(max3=""), "not a valid XSD"),
    ],
)
def test_broken_user_schema_names_its_file(tmp_path: Path, text: str, says: str) -> None:
    """A file that cannot be used is refused at the start, by name and with the cause; nothing is fetched for it."""
    (tmp_path / "other.xsd").write_text(user_schema("urn:iso:std:iso:20022:tech:xsd:pain.008.001.77"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "broken.xsd").write_text(text)
    with pytest.raises(UserSchemaError, match=says) as caught:
        Catalogue(user=folder).check()
    assert str(folder / "broken.xsd") in str(caught.value)
    assert isinstance(caught.value, ConfigError)


def test_two_user_schemas_for_one_version(tmp_path: Path) -> None:
    """Of two files for one version the one named after it counts; if none is, the operator must say."""
    (tmp_path / "a.xsd").write_text(user_schema())
    (tmp_path / "b.xsd").write_text(user_schema())
    with pytest.raises(UserSchemaError, match=r"a\.xsd, b\.xsd"):
        Catalogue(user=tmp_path)
    (tmp_path / f"{PACS_008}.xsd").write_text(user_schema())
    assert Catalogue(user=tmp_path).knows(PACS_008)


def test_absent_user_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is set but not there is a mistake of the configuration, not an empty folder."""
    with pytest.raises(UserSchemaError, match="not there"):
        Catalogue(user=tmp_path / "nope")


# Restricted schemas of profiles

#: Narrower than USER_SCHEMA: one letter, and no day.
RESTRICTED: Final = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="{namespace}"
    targetNamespace="{namespace}" elementFormDefault="qualified">
  <xs:element name="Document" type="Document"/>
  <xs:complexType name="Document"><xs:sequence><xs:element name="Only" type="Max1"/></xs:sequence></xs:complexType>
  <xs:simpleType name="Max1"><xs:restriction base="xs:string">
    <xs:maxLength value="1"/><xs:pattern value="[a-z]*"/></xs:restriction></xs:simpleType>
</xs:schema>"""


@pytest.fixture
def restricting(tmp_path: Path) -> Catalogue:
    """A catalogue with a schema of our own, and a narrower one for the profile `narrow`."""
    (tmp_path / "own.xsd").write_text(user_schema())
    (tmp_path / "narrow").mkdir()
    (tmp_path / "narrow" / "any-name.xsd").write_text(RESTRICTED.format(namespace=NAMESPACE))
    catalogue = Catalogue(user=tmp_path)
    catalogue.check()
    return catalogue


def test_restricted_schema_judges_its_profile_alone(restricting: Catalogue) -> None:
    """The same message is valid by itself and under other profiles, and not where the profile is narrower."""
    element = document("<Only>ab</Only>")
    assert restricting.validate(PACS_008, element) == ()
    assert restricting.validate(PACS_008, element, "other") == ()
    finding = only(restricting.validate(PACS_008, element, "narrow"))
    assert (finding.rule, finding.xpath) == ("schema.maxLength", "/Document/Only")
    assert finding.text == "Only must have a length of at most 1: shorten it. (So the schema of narrow.)"
    assert restricting.validate(PACS_008, document("<Only>a</Only>"), "narrow") == ()


def test_one_fault_is_told_once_with_the_narrower_demand(restricting: Catalogue) -> None:
    """What both schemas find at one place is one finding; what only one of them finds stays."""
    found = restricting.validate(PACS_008, document("<Only>ABCD</Only><Day>secret</Day>"), "narrow")
    assert [(finding.rule, finding.xpath) for finding in found] == [
        ("schema.maxLength", "/Document/Only"),
        ("schema.datatype", "/Document/Day"),
        ("schema.pattern", "/Document/Only"),
        ("schema.unexpected", "/Document/Day"),
    ]
    assert "at most 1:" in found[0].text
    assert "narrow" not in found[1].text
    assert not [finding for finding in found if "secret" in finding.text or "ABCD" in finding.text]


def test_same_finding_of_both_is_the_versions_own(restricting: Catalogue) -> None:
    """Where the profile asks for nothing more, the finding is not the profile's."""
    element = document("<Only>a</Only><Only>b</Only><Other/>")
    (first, *_) = restricting.validate(PACS_008, document("<Other/>"), "narrow")
    assert first == only(restricting.validate(PACS_008, document("<Other/>")))
    assert len(restricting.validate(PACS_008, element, "narrow")) == 2


def test_definitions_tell_who_restricts(restricting: Catalogue) -> None:
    """The profile stands beside the version, and the file of the version's own schema is its origin."""
    known = restricting.definition(PACS_008)
    assert (known.source, known.origin) == (Source.USER, "own.xsd")
    assert (known.profiles, known.restricted_by) == (("narrow",), ("narrow",))
    assert b"Max1" in restricting.xsd(PACS_008, "narrow")


def test_profile_folder_is_a_wall(tmp_path: Path) -> None:
    """A restricted schema may not refer to files outside its own subfolder."""
    (tmp_path / "part.xsd").write_text(user_schema())
    (tmp_path / "narrow").mkdir()
    (tmp_path / "narrow" / "a.xsd").write_text(user_schema(more='<xs:include schemaLocation="part.xsd"/>'))
    with pytest.raises(UserSchemaError, match="same folder"):
        Catalogue(user=tmp_path)


def test_folders_beside_profiles(tmp_path: Path) -> None:
    """Folders without schemas are passed over; one with schemas must have a name that a profile can have."""
    (tmp_path / "lost+found").mkdir()
    assert Catalogue(user=tmp_path).knows(PACS_008)
    (tmp_path / "lost+found" / "a.xsd").write_text(user_schema())
    with pytest.raises(UserSchemaError, match=r"lost\+found"):
        Catalogue(user=tmp_path)


# Adding


def put(folder: Path, text: str, name: str = "given.xsd") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_added_schema_is_used(tmp_path: Path) -> None:
    """A schema is put under its version's name, readable by others, and nothing else is left behind."""
    folder = tmp_path / "schemas"
    done = register(folder, put(tmp_path, user_schema()), Catalogue())
    assert (done.definition, done.path, done.replaced) == (PACS_008, folder / f"{PACS_008}.xsd", ())
    assert done.path.read_text() == user_schema()
    assert done.path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(folder) == [f"{PACS_008}.xsd"]  # noqa: PTH208 - hidden files too
    assert Catalogue(user=folder).validate(PACS_008, document("<Only>a</Only>")) == ()


def test_added_for_a_profile(tmp_path: Path) -> None:
    """A profile's schema stands in its subfolder, and judges after the version's own."""
    done = register(tmp_path / "s", put(tmp_path, user_schema()), Catalogue(), profile="sepa-inst")
    assert done.path == tmp_path / "s" / "sepa-inst" / f"{PACS_008}.xsd"
    catalogue = Catalogue(user=tmp_path / "s")
    assert catalogue.definition(PACS_008).source is Source.COMPILED
    assert catalogue.restricts("sepa-inst", PACS_008)


def test_another_is_replaced_only_when_asked(tmp_path: Path) -> None:
    """Another schema of the version stands unless it is to be replaced, whatever its file is called."""
    folder = tmp_path / "schemas"
    folder.mkdir()
    put(folder, user_schema(), "hand-made.xsd")
    changed = put(tmp_path, user_schema().replace('value="3"', 'value="4"'))
    with pytest.raises(SchemaStands, match=r"hand-made\.xsd.*--force"):
        register(folder, changed, Catalogue(user=folder))
    assert [path.name for path in folder.iterdir()] == ["hand-made.xsd"]
    done = register(folder, changed, Catalogue(user=folder), replace=True)
    assert (list(done.replaced), done.changed) == (["hand-made.xsd"], True)
    assert [path.name for path in folder.iterdir()] == [f"{PACS_008}.xsd"]
    assert done.path.read_bytes() == changed.read_bytes()


def test_the_same_again_is_nothing(tmp_path: Path) -> None:
    """To add what is there already is no fault, and changes nothing."""
    file = put(tmp_path, user_schema())
    first = register(tmp_path / "s", file, Catalogue())
    before = first.path.stat()
    assert not register(tmp_path / "s", file, Catalogue()).changed
    after = first.path.stat()  # it may have been read, but not written
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<xs:schema", "cannot be read"),
        ("<html/>", "not an XSD"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + user_schema(), "DOCTYPE"),
        (user_schema("urn:scheme:own"), "no ISO 20022 message"),
        (user_schema().replace('element name="Document"', 'element name="Dokument"'), "no global element Document"),
        (user_schema(max3=""), "not a valid XSD"),
        (ANYTHING.format("<xs:element name='Document'/>"), "takes anything at all"),
        (ANYTHING.format(LAX), "takes anything at all"),
        (user_schema(more='<xs:include schemaLocation="absent.xsd"/>'), "bare file name"),
        (user_schema(more='<xs:include schemaLocation="../given.xsd"/>'), "bare file name"),
        (user_schema(more='<xs:import namespace="u:d" schemaLocation="http://127.0.0.1:9/d.xsd"/>'), "bare file name"),
    ],
)
def test_unfit_schema_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """What cannot be used is refused with the cause, before anything is written."""
    with pytest.raises(UnfitSchema, match=says) as caught:
        register(tmp_path / "s", put(tmp_path, text), Catalogue())
    assert "given.xsd" in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_unfit_are_also(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there or endless, a name that is no profile's, a profile's schema of an unknown version."""
    with pytest.raises(UnfitSchema, match="cannot be read"):
        register(tmp_path, tmp_path / "absent.xsd", Catalogue())
    with pytest.raises(UnfitSchema, match="profile's name"):
        register(tmp_path, put(tmp_path, user_schema()), Catalogue(), profile="../up")
    unknown = put(tmp_path, user_schema("urn:iso:std:iso:20022:tech:xsd:pain.008.001.77"))
    with pytest.raises(UnfitSchema, match=r"pain\.008\.001\.77 is not known"):
        register(tmp_path / "s", unknown, Catalogue(), profile="sepa-inst")
    monkeypatch.setattr(registering, "_BYTES_MAX", 10)
    with pytest.raises(UnfitSchema, match="larger than 10 bytes"):
        register(tmp_path, unknown, Catalogue())


def test_part_in_the_folder_may_be_included(tmp_path: Path) -> None:
    """A schema in two files can be added once its part lies in the folder."""
    part = f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="{NAMESPACE}">{MAX3}</xs:schema>'
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "part.xsd").write_text(part)
    whole = put(tmp_path, user_schema(more='<xs:include schemaLocation="part.xsd"/>', max3=""))
    register(tmp_path / "s", whole, Catalogue())
    assert Catalogue(user=tmp_path / "s").validate(PACS_008, document("<Only>abcd</Only>")) != ()


def test_of_two_at_once_one_wins(tmp_path: Path) -> None:
    """Where many add different schemas of one version at once, one is whole in the folder and the others are told."""
    files = [put(tmp_path, user_schema().replace('"3"', f'"{n}"'), f"{n}.xsd") for n in range(4, 10)]
    ready = threading.Barrier(len(files))
    done: list[str] = []

    def add(file: Path) -> None:
        catalogue = Catalogue()
        ready.wait(10)
        try:
            register(tmp_path / "s", file, catalogue)
        except SchemaStands:
            done.append("")
        else:
            done.append(file.read_text())

    threads = [threading.Thread(target=add, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [text for text in done if text]
    assert len(done) == len(files)
    assert [path.read_text() for path in (tmp_path / "s").iterdir()] == [winner]
