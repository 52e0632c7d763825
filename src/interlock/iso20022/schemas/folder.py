"""The operator's schemas: ISO's own that the packages lack, and a scheme's restricted ones in a subfolder per profile.

Nothing outside a folder is read for its schemas, nothing is fetched. A subfolder is a folder like the one above it, and
neither may refer to the other.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

from lxml import etree

from interlock.errors import ConfigError
from interlock.iso20022.schemas.content import ContentModel
from interlock.iso20022.schemas.definitions import Definition, Source
from interlock.iso20022.xsd import XS, definition_of_namespace, root_of

#: Names of profiles, and so of subfolders: what no file system and no URL takes amiss.
PROFILE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class UserSchemaError(ConfigError):
    """A file in the folder of user schemas cannot be used; the text names it and says why."""


class Reference(NamedTuple):
    """An include or import in a schema."""

    line: int | None
    #: The file name that it gives; None where it gives none.
    location: str | None
    is_import: bool


class Facts(NamedTuple):
    """What is kept of a file: its tree would be a hundred times as large."""

    #: The message version of its target namespace; None if that is none of ISO 20022.
    definition: str | None
    namespace: str
    #: Names of the global elements; none in a part that others include.
    elements: tuple[str, ...]
    references: tuple[Reference, ...]


class UserFolder:
    """One folder of *.xsd."""

    def __init__(self, folder: Path) -> None:
        """Read all files: each must be an XSD, refer to the folder only, and be the only one of its version."""
        self._folder = folder
        if not folder.is_dir():
            raise UserSchemaError(f"The folder of user schemas {folder} is not there: make it, or unset it.")
        self._files = {path.name: facts_of(parse(path.read_bytes, path)) for path in sorted(folder.glob("*.xsd"))}
        for name, facts in self._files.items():
            check_references(facts, folder / name, self._files)
        self._names = {definition: self._choose(definition, files) for definition, files in self._by_definition()}

    def definitions(self) -> Iterator[Definition]:
        """The versions that the folder has a schema for."""
        for name, file in self._names.items():
            facts = self._files[file]
            root = root_of(name) if root_of(name) in facts.elements else facts.elements[0]
            yield Definition(name=name, namespace=facts.namespace, root=root, source=Source.USER, origin=file)

    def has(self, definition: str) -> bool:
        """Whether it has a schema for the version."""
        return definition in self._names

    def files(self, definition: str) -> Sequence[str]:
        """All files for the version, also those that do not count beside one named after it."""
        return dict(self._by_definition()).get(definition, ())

    def path(self, definition: str) -> Path:
        """The file that counts."""
        return self._folder / self._names[definition]

    def load(self, definition: str) -> tuple[etree.XMLSchema, ContentModel]:
        """The schema, ready to validate, and its content model. Raises UserSchemaError if libxml2 refuses it."""
        path = self.path(definition)
        root = parse(path.read_bytes, path)
        parts = (parse((self._folder / name).read_bytes, self._folder / name) for name in self._included(path.name))
        return compiled(root, path), ContentModel(root, *parts)

    def _by_definition(self) -> Iterator[tuple[str, Sequence[str]]]:
        found: dict[str, list[str]] = {}
        for file, facts in self._files.items():
            # A file without global elements is a part that others include.
            if facts.definition and facts.elements:
                found.setdefault(facts.definition, []).append(file)
        yield from found.items()

    def _choose(self, definition: str, files: Sequence[str]) -> str:
        """Of several files for one definition the one named after it counts."""
        if len(files) == 1:
            return files[0]
        if f"{definition}.xsd" in files:
            return f"{definition}.xsd"
        raise UserSchemaError(
            f"Several user schemas in {self._folder} are for {definition}: {', '.join(files)}. "
            f"Keep one, or name the one that counts {definition}.xsd."
        )

    def _included(self, file: str) -> Sequence[str]:
        """The files that the file includes, each once, however deep."""
        found: dict[str, None] = {}
        todo = [file]
        while todo:
            for reference in self._files[todo.pop()].references:
                location = reference.location
                if location and location not in found and location != file and not reference.is_import:
                    found[location] = None
                    todo.append(location)
        return tuple(found)


def profile_folders(folder: Path) -> Mapping[str, UserFolder]:
    """Profile -> the subfolder with its restricted schemas. Raises UserSchemaError.

    Folders without any *.xsd (`lost+found` where the folder is a disk of its own) are nobody's, and passed over.
    """
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.is_dir() or next(path.glob("*.xsd"), None) is None:
            continue
        if not PROFILE_NAME.fullmatch(path.name):
            raise UserSchemaError(
                f"The folder {path} holds schemas, but {path.name!r} cannot be a profile's name: "
                "use lower-case letters, digits, points and hyphens."
            )
        found[path.name] = UserFolder(path)
    return found


class _FolderOnly(etree.Resolver):
    """Answers libxml2's wish for another file with one of the folder, or with nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def resolve(self, system_url: str, public_id: str, context: Any) -> Any:  # type: ignore[override]  # noqa: ARG002
        # References were checked to be bare names; this is the second lock, so whatever the path, its end counts.
        path = self._folder / Path(unquote(system_url)).name
        return self.resolve_string(path.read_bytes(), context, base_url=system_url)


def parse(read: Callable[[], bytes], path: Path, folder: Path | None = None) -> etree._Element:
    """The tree of an XSD. Raises UserSchemaError if it is none.

    read: gives the bytes. path: to be named where something is wrong. folder: where what it includes is looked for, if
    that is not where it lies.
    """
    parser = etree.XMLParser(no_network=True, resolve_entities=False, load_dtd=False)
    parser.resolvers.add(_FolderOnly(folder or path.parent))
    try:
        root = etree.fromstring(read(), parser, base_url=f"/user/{quote(path.name)}")
    except (OSError, ValueError, LookupError, etree.XMLSyntaxError) as error:
        raise UserSchemaError(f"The user schema {path} cannot be read: {error}") from error
    docinfo: Any = root.getroottree().docinfo
    if docinfo.doctype:
        raise UserSchemaError(f"The user schema {path} has a DOCTYPE: remove it.")
    if root.tag != f"{{{XS}}}schema":
        raise UserSchemaError(f"The user schema {path} is not an XSD: its outermost element must be xs:schema.")
    return root


def facts_of(schema: etree._Element) -> Facts:
    """What must be known of a schema before it is used."""
    namespace = str(schema.get("targetNamespace", ""))
    return Facts(
        definition=definition_of_namespace(namespace),
        namespace=namespace,
        elements=tuple(str(node.get("name")) for node in schema.iterchildren(f"{{{XS}}}element")),
        references=tuple(_references(schema)),
    )


def check_references(facts: Facts, path: Path, names: Mapping[str, object]) -> None:
    """Raise UserSchemaError where a schema refers to what is not in its folder, whose files have these names."""
    for reference in facts.references:
        if reference.location is not None and reference.location not in names:
            raise UserSchemaError(
                f"The user schema {path}, line {reference.line}, refers to {reference.location!r}: "
                "only another *.xsd of the same folder may be named, by its bare file name."
            )


def compiled(root: etree._Element, path: Path) -> etree.XMLSchema:
    """The schema, ready to validate. Raises UserSchemaError if libxml2 refuses it."""
    try:
        return etree.XMLSchema(root)
    except etree.XMLSchemaParseError as error:
        raise UserSchemaError(f"The user schema {path} is not a valid XSD: {error}") from error


def _references(schema: etree._Element) -> Iterator[Reference]:
    for node in schema.iterchildren(*(f"{{{XS}}}{name}" for name in ("include", "import", "redefine", "override"))):
        location = node.get("schemaLocation")
        # It is a URI, so that a space is %20.
        name = None if location is None else unquote(str(location))
        line: Any = node.sourceline
        yield Reference(line, name, node.tag == f"{{{XS}}}import")
