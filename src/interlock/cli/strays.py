"""Demands of a profile that no message can meet or break: on elements that the schemas do not have."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from interlock.iso20022.profiles.facts import HEADER, Demand, Placed
from interlock.iso20022.profiles.wording import NAMES

if TYPE_CHECKING:
    from interlock.iso20022.profiles import Profile
    from interlock.iso20022.profiles.profile import Edition
    from interlock.iso20022.schemas import Catalogue


def strays(profile: "Profile", catalogue: "Catalogue") -> Iterator[str]:
    """Each demand whose element is in none of the versions that it is about, as it is written, once.

    A misspelt one would say nothing for ever. Left out are demands on elements anywhere (`//Name`), and on messages of
    no schema here.
    """
    told: set[str] = set()
    for edition in profile.editions:
        for demand in edition.checks.demands:
            for path in _paths(demand):
                text = f"{NAMES[type(demand)]}: {path}"
                if text not in told and not _exists(path, _versions(demand, edition, catalogue), catalogue):
                    told.add(text)
                    yield text


def _paths(demand: Demand) -> Iterator[str]:
    if isinstance(demand, Placed) and not (demand.within or "").startswith("//"):
        yield f"{demand.within}/{demand.path}" if demand.within else demand.path


def _versions(demand: Demand, edition: "Edition", catalogue: "Catalogue") -> list[str]:
    """The versions that a demand is about: of those that the profile uses, or else of all."""
    known = [one.name for one in catalogue.definitions()]
    used = [name for one in edition.checks.versions.values() for name in one.accepted if name in known]
    families = demand.messages or tuple(name for name in used if not name.startswith(HEADER))
    return [name for name in used if name.startswith(families)] or [name for name in known if name.startswith(families)]


def _exists(path: str, versions: list[str], catalogue: "Catalogue") -> bool:
    """Whether one of these versions has the element; true where there is none to be asked."""
    steps = [step for step in path.split("/") if not step.startswith("@")]
    return not versions or any(_has(version, steps, catalogue) for version in reversed(versions))


def _has(version: str, steps: list[str], catalogue: "Catalogue") -> bool:
    try:
        above = [] if version.startswith(HEADER) else [catalogue.children(version)[0].name]
        catalogue.children(version, [*above, *steps])
    except KeyError:
        return False
    return True
