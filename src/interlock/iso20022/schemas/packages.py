"""The packages that message definitions come from: which versions each has, and the text of their schemas.

Packages are read as files and never imported. Which there are, and what one that is not installed would add, is data:
`data/packages.toml`.
"""

import importlib.metadata
import importlib.util
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Final

from interlock.errors import ConfigError
from interlock.iso20022.schemas.definitions import Source
from interlock.iso20022.xsd import compile_source

_NAME: Final = re.compile(r"([a-z]{4})[._](\d{3})[._](\d{3})[._](\d{2})(?:\.xsd)?")


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package that has message definitions."""

    #: As it is installed: `python-iso20022`.
    name: str
    #: As it would be imported: `python_iso20022`.
    module: str
    source: Source
    #: Below the module's folder, for all versions: which files or folders there are.
    pattern: str
    #: Below the module's folder, for one version, with `{family}` and `{folder}`: the file to read.
    file: str
    #: Beginnings of the definitions that are taken; the rest of the package is no payments message.
    messages: tuple[str, ...]
    #: Whether we do not start without it.
    required: bool
    #: The extra of ours that installs it; empty where it comes with us.
    extra: str
    #: What it adds to the packages before it, to be told where it is not installed.
    adds: frozenset[str]

    @cached_property
    def folder(self) -> Path | None:
        """Where it is installed; None if it is not."""
        spec = importlib.util.find_spec(self.module)
        places = spec.submodule_search_locations if spec else None
        return Path(places[0]) if places else None

    @cached_property
    def origin(self) -> str:
        """Name and version."""
        return f"{self.name} {importlib.metadata.version(self.name)}"

    def definitions(self) -> Iterator[str]:
        """The versions that it has; none if it is not installed."""
        for path in self.folder.glob(self.pattern) if self.folder else ():
            found = _NAME.fullmatch(path.name)
            name = ".".join(found.groups()) if found else ""
            if found and name.startswith(self.messages):
                yield name

    def text(self, definition: str) -> bytes:
        """The schema of one of its versions, compiled or as it is."""
        assert self.folder is not None  # only what `definitions` gave is asked for
        file = self.file.format(family=definition[:4], folder=definition.replace(".", "_"), definition=definition)
        path = self.folder / file
        if self.source is Source.COMPILED:
            return compile_source(path.read_text("utf-8"), definition, read=self._module)
        return path.read_bytes()

    def _module(self, name: str) -> str:
        """The source of one of its modules."""
        assert self.folder is not None  # as above
        _, *below = name.split(".")
        return self.folder.joinpath(*below).with_suffix(".py").read_text("utf-8")


def read() -> Sequence[Package]:
    """The packages, in the order in which they go before each other."""
    text = resources.files("interlock.iso20022").joinpath("data/packages.toml").read_text("utf-8")
    return tuple(
        Package(
            name=name,
            module=table["module"],
            source=Source(table["source"]),
            pattern=table["pattern"],
            file=table["file"],
            messages=tuple(table["messages"]),
            required=table.get("required", False),
            extra=table.get("extra", ""),
            adds=frozenset(table.get("adds", ())),
        )
        for name, table in tomllib.loads(text).items()
    )


def available(packages: Sequence[Package]) -> Mapping[str, Package]:
    """Every version that the installed packages have, and the first package that has it. Raises ConfigError."""
    found: dict[str, Package] = {}
    for package in packages:
        if package.required and package.folder is None:
            raise ConfigError(
                f"The package {package.name}, which the schemas are made from, is not installed: install it."
            )
        for name in package.definitions():
            found.setdefault(name, package)
    return found


def offered() -> Mapping[str, Package]:
    """Every version that there is with all packages installed, whichever are, and the package that has it."""
    packages = read()
    found = {name: package for package in packages for name in package.adds}
    return {**available([package for package in packages if package.required]), **found}
