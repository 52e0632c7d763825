"""Profiles from files: ours, which come with Interlock, and the operator's folder, checked whole.

A profile is `NAME.toml` in the folder, or `NAME/profile.toml`; beside it, in `NAME/examples`, may lie messages with the
verdict that is expected of each. Every fault of every file is told at once.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from interlock.errors import ConfigError
from interlock.iso20022.original import Original
from interlock.iso20022.profiles.facts import (
    CharacterSet,
    Fact,
    ProfileFile,
    Source,
)
from interlock.iso20022.profiles.merging import editions_of
from interlock.iso20022.profiles.profile import Profile
from interlock.iso20022.rules import RULES

#: What judges where nothing else is chosen.
GENERIC: Final = "generic"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}\Z")
_EXTENDS_MAX: Final = 8
#: What reading TOML raises: ValueError for all that is wrong in it, numbers of too many digits too, and RecursionError
#: for values in values without end.
UNREADABLE: Final = (OSError, ValueError, RecursionError)


class _Written(NamedTuple):
    """A profile's file as read."""

    name: str
    path: str
    file: ProfileFile
    is_ours: bool


class Profiles:
    """All profiles by name, and the choice among them."""

    def __init__(self, profiles: Iterable[Profile]) -> None:
        """The operator's come before ours in the choice by header."""
        self._profiles = {profile.name: profile for profile in profiles}
        self._exact: dict[str, Profile] = {}
        self._beginning: list[tuple[str, Profile]] = []
        for profile in sorted(self._profiles.values(), key=lambda one: (one.is_ours, one.name)):
            if profile.choice is not None:
                for code in (*profile.choice.business_service, *profile.choice.market_practice):
                    if code.endswith("*"):
                        self._beginning.append((code[:-1], profile))
                    else:
                        self._exact.setdefault(code, profile)

    @staticmethod
    def load(user: Path | None = None) -> "Profiles":
        """Ours, and those in the operator's folder. Raises ConfigError with every fault of every file."""
        return _ours() if user is None else Profiles(_read_all(user))

    def __iter__(self) -> Iterator[Profile]:
        """All of them, by name."""
        yield from sorted(self._profiles.values(), key=lambda profile: profile.name)

    def __contains__(self, name: object) -> bool:
        """Whether there is one of that name."""
        return name in self._profiles

    @property
    def versions(self) -> Mapping[str, frozenset[str]]:
        """The message versions that each profile takes, in any of its editions."""
        return {
            profile.name: frozenset(
                definition
                for edition in profile.editions
                for versions in edition.checks.versions.values()
                for definition in versions.accepted
            )
            for profile in self
        }

    def named(self, name: str) -> Profile:
        """By name. Raises ConfigError where there is none."""
        profile = self._profiles.get(name)
        if profile is None:
            raise ConfigError(f"there is no profile {name!r}; there are {', '.join(sorted(self._profiles))}")
        return profile

    def choose(self, original: Original, *, named: str | None = None) -> Profile:
        """The profile that judges a message: the one named, else the header's, else `generic`."""
        if named is not None:
            return self.named(named)
        header = original.header
        found = None
        if header is not None:
            found = self._by(header.business_service) or self._by(header.market_practice)
        return found or self._profiles[GENERIC]

    def _by(self, text: str | None) -> Profile | None:
        if text is None:
            return None
        exact = self._exact.get(text)
        if exact is not None:
            return exact
        return next((profile for beginning, profile in self._beginning if text.startswith(beginning)), None)


def folder_of_ours() -> Path:
    """Where the profiles that come with Interlock lie, with their examples."""
    return Path(str(resources.files("interlock.iso20022").joinpath("data/profiles")))


@lru_cache(maxsize=1)
def _ours() -> Profiles:
    return Profiles(_read_all(None))


def _read_all(user: Path | None) -> Iterator[Profile]:
    faults: list[str] = []
    written = {one.name: one for one in _read_folder(folder_of_ours(), faults, is_ours=True)}
    if user is not None:
        if not user.is_dir():
            raise ConfigError(f"profiles: there is no folder {user}")
        for one in _read_folder(user, faults, is_ours=False):
            if one.name in written and written[one.name].is_ours:
                faults.append(f"{one.path}: a profile {one.name} comes with Interlock; take another name and extend it")
            else:
                written[one.name] = one
    profiles = []
    for one in written.values():
        layers = _layers(one, written, faults)
        if layers is not None:
            profiles.append(_profile(one, layers, faults))
    if faults:
        raise ConfigError("profiles have faults:\n  " + "\n  ".join(faults))
    return iter(profiles)


def _read_folder(folder: Path, faults: list[str], *, is_ours: bool) -> Iterator[_Written]:
    files = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    files |= {path.parent.name: path for path in sorted(folder.glob("*/profile.toml"))}
    for name, path in files.items():
        shown = path.name if is_ours else str(path)
        if not _NAME.match(name):
            faults.append(f"{shown}: a profile's name has lower-case letters, digits, dots and hyphens, at most 40")
            continue
        try:
            table: dict[str, Any] = tomllib.loads(path.read_text("utf-8"), parse_float=_number)
            yield _Written(name, shown, ProfileFile.model_validate(table), is_ours)
        except ValidationError as exc:
            faults.extend(f"{shown}: {fault}" for fault in _told(exc))
        except UNREADABLE as exc:
            faults.append(f"{shown} cannot be read: {exc}")


def _number(text: str) -> Decimal:
    """An exact number. Raises ValueError for one that it would take millions of digits to write: 1e9999999."""
    number = Decimal(text)
    if number.is_finite() and abs(number.adjusted()) > _MAGNITUDE_MAX:
        raise ValueError(f"{text[:20]} is no number that a profile could need")
    return number


#: ISO 20022's amounts have 18 digits.
_MAGNITUDE_MAX: Final = 18


def _told(exc: ValidationError) -> Iterator[str]:
    for error in exc.errors():
        where = ".".join(str(part) for part in error["loc"])
        text = "there is no such setting" if error["type"] == "extra_forbidden" else error["msg"]
        yield f"{where}: {text.removeprefix('Value error, ')}"


def _layers(one: _Written, written: Mapping[str, _Written], faults: list[str]) -> list[_Written] | None:
    """The profile and all that it extends, the farthest first."""
    layers = [one]
    while (above := layers[0].file.extends) is not None:
        if above not in written:
            faults.append(f"{one.path}: extends: there is no profile {above}")
            return None
        if any(layer.name == above for layer in layers) or len(layers) >= _EXTENDS_MAX:
            faults.append(f"{one.path}: extends: {above} leads back to itself, or too far")
            return None
        layers.insert(0, written[above])
    return layers


def _profile(one: _Written, layers: list[_Written], faults: list[str]) -> Profile:
    """A profile with what it takes over from those that it extends."""
    sources: dict[str, Source] = {}
    sets: dict[str, CharacterSet] = {}
    for layer in layers:
        sources |= layer.file.sources
        sets |= layer.file.character_sets
    files = [layer.file for layer in layers]
    editions = tuple(editions_of(one.name, files, sources, sets))
    profile = Profile(
        name=one.name,
        title=one.file.title,
        text=one.file.text,
        extends=one.file.extends,
        editions=editions,
        sources=sources,
        # Who extends a profile is not chosen in its place unless he says so.
        choice=one.file.choose,
        sla_fact=_last(file.sla for file in files),
        decide_within_fact=_last(file.decide_within for file in files),
        timeout_fact=_last(file.timeout for file in files),
        duplicates=_last(file.duplicates for file in files),
        untreatable=_last(file.untreatable for file in files),
        retry=_last(file.retry for file in files),
        recall=next((file.recall for file in reversed(files) if file.recall), ()),
        is_ours=one.is_ours,
    )
    faults.extend(f"{one.path}: {fault}" for fault in dict.fromkeys(_faults_of(profile, sets)))
    return profile


def _last(values: Iterable[Any]) -> Any:
    """The nearest that says something."""
    return next((value for value in reversed(list(values)) if value is not None), None)


def _faults_of(profile: Profile, sets: Mapping[str, CharacterSet]) -> Iterator[str]:
    """What the form of a file cannot show: names of things that are not there."""
    facts: list[Fact] = [fact for fact in _besides(profile) if fact is not None]
    for edition in profile.editions:
        facts += [*edition.checks.facts, edition.fact]
        for rule in edition.checks.rules:
            if rule not in RULES:
                yield f"rules.{rule}: there is no such rule; `interlock rules` lists them"
        for demand in edition.checks.characters:
            if demand.set not in sets:
                yield f"characters: there is no set {demand.set} in [character_sets]"
        for family, versions in edition.checks.versions.items():
            strangers = [one for one in versions.accepted if not one.startswith(family)]
            if strangers:
                yield f"versions.{family}: {strangers[0]} is not of this family"
    for fact in facts:
        if fact.source and fact.source not in profile.sources:
            yield f"source: there is no source {fact.source} in [sources]"


def _besides(profile: Profile) -> tuple[Fact | None, ...]:
    return (
        profile.choice, profile.sla_fact, profile.decide_within_fact, profile.timeout_fact, profile.duplicates,
        profile.untreatable, profile.retry, *profile.recall,
    )  # fmt: skip
