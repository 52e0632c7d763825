"""One message version, as the catalogue tells of it. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """Where a schema comes from."""

    #: Made from a package's dataclasses; structurally the official one.
    COMPILED = "compiled"
    #: An XSD that a package carries.
    PACKAGED = "packaged"
    #: A file in the operator's folder; goes before all others.
    USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One message version that the catalogue can validate."""

    #: For instance `pacs.008.001.08`.
    name: str
    namespace: str
    #: Local name of the global element: `Document` or `AppHdr`.
    root: str
    source: Source
    #: The package and its version, `pyiso20022 1.6.2`, or the name of the operator's file.
    origin: str
    #: Names of the profiles that use it, sorted: those that say so, and those that have a schema of their own for it.
    profiles: tuple[str, ...] = ()
    #: Those of them that have a restricted schema for it in the operator's folder.
    restricted_by: tuple[str, ...] = ()
