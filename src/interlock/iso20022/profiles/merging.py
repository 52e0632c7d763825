"""Editions from layers: what a profile, those that it extends and the editions of all of them say together. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from interlock.iso20022.profiles.facts import (
    CharacterSet,
    Checks,
    Codes,
    Demand,
    EditionFile,
    Fact,
    ProfileFile,
    Source,
)
from interlock.iso20022.profiles.profile import Edition


def editions_of(
    name: str, files: list[ProfileFile], sources: Mapping[str, Source], sets: Mapping[str, CharacterSet]
) -> Iterator[Edition]:
    """The editions by their first day: those of the nearest file that has any, over what the files above say."""
    dated = next((file.editions for file in reversed(files) if file.editions), ())
    base = EditionFile(name="-")
    for written in sorted(dated, key=lambda edition: (edition.valid_from is not None, edition.valid_from)) or [base]:
        layers: list[Checks] = []
        for file in files:
            layers.append(file)
            # An edition of a profile that is extended counts under the same name.
            layers.extend(edition for edition in file.editions if edition.name == written.name)
        yield Edition(
            profile=name,
            name="" if written is base else written.name,
            valid_from=written.valid_from,
            valid_until=written.valid_until,
            checks=_merged(layers),
            sources=sources,
            character_sets=sets,
            fact=Fact(source=written.source, mark=written.mark),
        )


def _merged(layers: Iterable[Checks]) -> Checks:
    """What several layers say together: of the same demand the last, and of what it leaves open the one before."""
    single: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {"versions": {}, "answers": {}, "forms": {}, "rules": {}}
    demands: dict[str, dict[tuple[object, ...], Demand]] = {}
    for layer in layers:
        single |= {key: value for key in ("header", "unlisted") if (value := getattr(layer, key)) is not None}
        for key, table in tables.items():
            table.update(getattr(layer, key))
        for key in _DEMANDS:
            kept = demands.setdefault(key, {})
            for demand in getattr(layer, key):
                kept[demand.identity] = _over(kept.pop(demand.identity, None), demand)
    lists = {
        key: tuple(demand for demand in kept.values() if demand.severity != "off") for key, kept in demands.items()
    }
    return Checks.model_construct(None, **{**single, **tables, **lists})


def _over(before: Demand | None, demand: Demand) -> Demand:
    """A demand over the same one of the layer below."""
    if before is None or before.severity == "off":
        return demand
    said = {name: getattr(demand, name) for name in demand.model_fields_set}
    if "source" in said:
        said.setdefault("mark", None)  # how sure is another's word
    if isinstance(demand, Codes):
        said |= {"codes": demand.codes, "without": demand.without}  # one or the other
    return before.model_copy(update=said)


_DEMANDS: Final = ("mandatory", "forbidden", "codes", "lengths", "counts", "patterns", "characters", "amounts")
