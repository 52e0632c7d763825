"""Every schema that we can validate with: which there are, the few that are loaded, and their verdicts."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock

from lxml import etree

from interlock.iso20022.findings import Finding, Severity
from interlock.iso20022.schemas import packages
from interlock.iso20022.schemas.cache import Cache
from interlock.iso20022.schemas.content import Child, ContentModel
from interlock.iso20022.schemas.definitions import Definition, Source
from interlock.iso20022.schemas.explain import joined
from interlock.iso20022.schemas.folder import UserFolder, profile_folders
from interlock.iso20022.schemas.loaded import Loaded
from interlock.iso20022.schemas.packages import Package
from interlock.iso20022.xsd import namespace_of, root_of


class Catalogue:
    """Every schema that we can validate with. Safe for use by several threads, each with a tree of its own."""

    def __init__(
        self,
        *,
        cache: Path | None = None,
        user: Path | None = None,
        profiles: Mapping[str, Collection[str]] | None = None,
        loaded_max: int = 32,
        findings_max: int = 100,
    ) -> None:
        """Read the names of what there is; schemas are compiled and loaded when first asked for.

        cache: folder for compiled schemas, made if absent; may be lost at any time; None keeps nothing.
        user: folder of *.xsd that go before all others, with a subfolder of restricted ones for each profile that has
        such. Raises UserSchemaError for a file that cannot be used.
        profiles: profile -> the versions that it uses, to be told in `definitions`.
        loaded_max: how many schemas are kept in memory. findings_max: how many findings one validation gives.
        """
        self._cache = Cache(cache) if cache else None
        self._user = UserFolder(user) if user else None
        self._restricted = profile_folders(user) if user else {}
        self._profiles = profiles or {}
        self._loaded_max = loaded_max
        self._findings_max = findings_max
        self._loaded: OrderedDict[tuple[str, str | None], Loaded] = OrderedDict()
        self._lock = Lock()

    def definitions(self) -> Sequence[Definition]:
        """Every version known, by name."""
        return tuple(self._definitions.values())

    def definition(self, name: str) -> Definition:
        """What is known of one version. KeyError if unknown."""
        return self._definitions[name]

    def knows(self, definition: str) -> bool:
        """Whether the version can be validated."""
        return definition in self._definitions

    def how_to_add(self, definition: str) -> str:
        """What an operator does to make an unknown version known."""
        for package in packages.read():
            if definition in package.adds and package.folder is None:
                return f"install {f'interlock[{package.extra}]' if package.extra else package.name}, which has it"
        return "add its XSD with: interlock definitions add FILE.xsd"

    def unknown(self, definition: str, xpath: str) -> Finding:
        """That there is no schema to judge an element by, and what to do about it."""
        text = f"There is no schema for {definition} here: {self.how_to_add(definition)}."
        return Finding(
            severity=Severity.ERROR, rule="definition.unknown", reason="FF01", xpath=xpath, line=None, text=text
        )

    def xsd(self, definition: str, profile: str | None = None) -> bytes:
        """The text of the schema, or of a profile's restricted one. KeyError if unknown."""
        if profile is not None:
            return self._restricted[profile].path(definition).read_bytes()
        if self._user and self._definitions[definition].source is Source.USER:
            return self._user.path(definition).read_bytes()
        package = self._packages[definition]
        if package.source is not Source.COMPILED or self._cache is None:
            return package.text(definition)
        text = self._cache.get(package.origin, definition)
        if text is None:
            text = package.text(definition)
            self._cache.put(package.origin, definition, text)
        return text

    def check(self) -> None:
        """Load every user schema once, so that a broken one is found at the start. Raises UserSchemaError."""
        folders = [*([self._user] if self._user else ()), *self._restricted.values()]
        for folder in folders:
            for definition in folder.definitions():
                folder.load(definition.name)

    def validate(self, definition: str, element: etree._Element, profile: str | None = None) -> tuple[Finding, ...]:
        """What the schema says against the element and all below it; empty if it is valid.

        element: the Document or AppHdr, also inside a wrapper, which is not looked at. Its tree must not be in use by
        another thread meanwhile: libxml2 is shown the element as if it were a root.
        profile: where it has a restricted schema of this version, that one judges too.
        Raises KeyError for an unknown version: ask `knows` before.
        """
        findings = self._load(definition, None).judge(element, self._findings_max)
        if profile is None or not self.restricts(profile, definition):
            return findings
        restricted = self._load(definition, profile).judge(element, self._findings_max)
        return joined(findings, restricted, profile)

    def restricts(self, profile: str, definition: str) -> bool:
        """Whether a profile has a restricted schema of a version."""
        return (folder := self._restricted.get(profile)) is not None and folder.has(definition)

    def children(self, definition: str, path: Sequence[str] = ()) -> tuple[Child, ...]:
        """The child elements, in the order of the schema, of the one at the path below Document or AppHdr.

        path: local names such as ("FIToFIPmtStsRpt", "TxInfAndSts"). Empty for an element that holds a value.
        Raises KeyError for an unknown version, and for a path that the version does not have.
        """
        return self._load(definition, None).children(path)

    @cached_property
    def _packages(self) -> Mapping[str, Package]:
        return packages.available(packages.read())

    @cached_property
    def _definitions(self) -> Mapping[str, Definition]:
        known = {
            name: Definition(
                name=name,
                namespace=namespace_of(name),
                root=root_of(name),
                source=package.source,
                origin=package.origin,
            )
            for name, package in self._packages.items()
        }
        if self._user:
            known |= {definition.name: definition for definition in self._user.definitions()}
        return {name: self._with_profiles(known[name]) for name in sorted(known)}

    def _with_profiles(self, definition: Definition) -> Definition:
        restricted = {name for name, folder in self._restricted.items() if folder.has(definition.name)}
        using = {name for name, used in self._profiles.items() if definition.name in used}
        if not restricted and not using:
            return definition
        return replace(definition, profiles=tuple(sorted(restricted | using)), restricted_by=tuple(sorted(restricted)))

    def _load(self, definition: str, profile: str | None) -> Loaded:
        key = (definition, profile)
        with self._lock:
            if loaded := self._loaded.get(key):
                self._loaded.move_to_end(key)
                return loaded
        # Outside the lock, so that others go on meanwhile. Two threads may load the same schema; one copy is dropped.
        loaded = self._read(definition, profile)
        with self._lock:
            loaded = self._loaded.setdefault(key, loaded)
            while len(self._loaded) > self._loaded_max:
                self._loaded.popitem(last=False)
        return loaded

    def _read(self, definition: str, profile: str | None) -> Loaded:
        known = self._definitions[definition]
        folder = self._restricted[profile] if profile is not None else self._user
        if folder is not None and (profile is not None or known.source is Source.USER):
            schema, model = folder.load(definition)
            return Loaded(schema=schema, model=model, root=known.root)
        root = etree.fromstring(self.xsd(definition))
        return Loaded(schema=etree.XMLSchema(root), model=ContentModel(root), root=known.root)
