"""A schema put into the operator's folder: checked first, written whole or not at all, and never over another unasked.

Servers read their folder when they start, so they take a new schema at their next start.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lxml import etree

from interlock.errors import ConflictError, RequestError
from interlock.iso20022.schemas.catalogue import Catalogue
from interlock.iso20022.schemas.folder import (
    PROFILE_NAME,
    UserFolder,
    UserSchemaError,
    check_references,
    compiled,
    facts_of,
    parse,
)
from interlock.iso20022.xsd import root_of

#: ISO's largest schema has 0.4 MB.
_BYTES_MAX: Final = 16_777_216


class UnfitSchema(RequestError):
    """The file cannot be registered; the text says why and what to do."""


class SchemaStands(ConflictError):
    """The folder has a schema for this version already, and was not told to replace it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What came of it."""

    definition: str
    #: The profile that it restricts the version for; None if it is the version's own schema.
    profile: str | None
    path: Path
    #: Names of the files that it took the place of.
    replaced: Sequence[str]
    #: False where the very same file was there already, so that nothing was done.
    changed: bool


def register(
    folder: Path, file: Path, catalogue: Catalogue, *, profile: str | None = None, replace: bool = False
) -> Registered:
    """Check the file and put it into the folder under its version's name, durably.

    folder: that of the operator's schemas; made if absent, as is the profile's below it. catalogue: what is known so
    far. Raises UnfitSchema; SchemaStands where another schema is there and `replace` is not set; UserSchemaError where
    something is wrong with what the folder has already.
    """
    if profile is not None and not PROFILE_NAME.fullmatch(profile):
        raise UnfitSchema(
            f"{profile!r} cannot be a profile's name: use lower-case letters, digits, points and hyphens."
        )
    target = folder / profile if profile else folder
    content = _content(file)
    try:
        definition = _definition(content, file, target)
    except UserSchemaError as exc:
        raise UnfitSchema(str(exc)) from exc
    _check_use(definition, profile, catalogue)
    standing = UserFolder(target).files(definition) if target.is_dir() else ()
    path = target / f"{definition}.xsd"
    if list(standing) == [path.name] and path.read_bytes() == content:
        return Registered(definition=definition, profile=profile, path=path, replaced=(), changed=False)
    if standing and not replace:
        raise SchemaStands(
            f"{target} has a schema for {definition} already: {', '.join(standing)}. Use --force to replace it."
        )
    target.mkdir(parents=True, exist_ok=True)
    _write(path, content, replace=replace)
    for name in standing:
        if name != path.name:
            (target / name).unlink(missing_ok=True)
    return Registered(definition=definition, profile=profile, path=path, replaced=tuple(standing), changed=True)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(_BYTES_MAX + 1)
    except OSError as exc:
        raise UnfitSchema(f"{file} cannot be read: {exc.strerror or exc}.") from exc
    if len(content) > _BYTES_MAX:
        raise UnfitSchema(f"{file} is larger than {_BYTES_MAX} bytes: that is no schema of a message.")
    return content


def _definition(content: bytes, file: Path, target: Path) -> str:
    """The version that the file is a schema of. Raises UnfitSchema and UserSchemaError."""
    root = parse(lambda: content, file, target)
    facts = facts_of(root)
    if facts.definition is None:
        raise UnfitSchema(
            f"The target namespace of {file} is that of no ISO 20022 message: it must be such as "
            "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08. A part that other schemas include is copied into the "
            "folder by hand."
        )
    names = {path.name: None for path in target.glob("*.xsd")} if target.is_dir() else {}
    check_references(facts, file, names)
    wanted = root_of(facts.definition)
    if wanted not in facts.elements:
        raise UnfitSchema(
            f"{file} has no global element {wanted}, which every schema of {facts.definition} has: "
            "is it a part of another file?"
        )
    schema = compiled(root, file)
    outermost = etree.Element(etree.QName(facts.namespace, wanted))
    etree.SubElement(outermost, "{urn:nonsense}Nonsense")
    if schema.validate(outermost):
        raise UnfitSchema(
            f"{file} takes anything at all for a {wanted}, so nothing would be judged by it: its type must name the "
            "message's elements."
        )
    return facts.definition


def _check_use(definition: str, profile: str | None, catalogue: Catalogue) -> None:
    """A restricted schema judges after the version's own. Raises UnfitSchema where that is not there."""
    if profile is not None and not catalogue.knows(definition):
        raise UnfitSchema(
            f"{definition} is not known here, and a profile's schema only narrows the version's own: first "
            f"{catalogue.how_to_add(definition)}."
        )


def _write(path: Path, content: bytes, *, replace: bool) -> None:
    """Whole or not at all; of two who add at once without `replace` one is refused."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # The server that reads it may be another user.
        Path(temporary).chmod(0o644)
        if replace:
            Path(temporary).replace(path)
        else:
            os.link(temporary, path)
    except FileExistsError as exc:
        raise SchemaStands(f"{path} is there already. Use --force to replace it.") from exc
    finally:
        Path(temporary).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
