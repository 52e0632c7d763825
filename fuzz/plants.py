"""Mistakes that are planted to prove that they would be found: `python -m fuzz --plant NAME`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from msgspec import structs

from fuzz import holding
from interlock.iso20022 import answers
from interlock.stages.facts import Inspection

Inspect = Callable[..., Inspection]
_VALUE: Final = re.compile(rb">([^<>]*)</")


def _crashing(inspect: Inspect) -> Inspect:
    """Comments are no elements."""

    def crash(content: bytes, *given: Any, **named: Any) -> Inspection:
        if b"<!--" in content:
            raise AttributeError("'_Comment' object has no attribute 'localname'")
        return inspect(content, *given, **named)

    return crash


def _hanging(inspect: Inspect) -> Inspect:
    """A loop that some input never ends."""

    def hang(content: bytes, *given: Any, **named: Any) -> Inspection:
        while b"<![CDATA[" in content:
            pass
        return inspect(content, *given, **named)

    return hang


def _flapping(inspect: Inspect) -> Inspect:
    """The order of a set, which is another one in each process."""

    def flap(content: bytes, *given: Any, **named: Any) -> Inspection:
        found = inspect(content, *given, **named)
        return structs.replace(found, technical=tuple(sorted(found.technical, key=lambda one: hash(one.text))))

    return flap


def _forgetting(inspect: Inspect) -> Inspect:
    """Another verdict each time."""
    calls = [0]

    def forget(content: bytes, *given: Any, **named: Any) -> Inspection:
        calls[0] += 1
        found = inspect(content, *given, **named)
        return structs.replace(found, technical=found.technical[calls[0] % 2 :])

    return forget


def _leaking(inspect: Inspect) -> Inspect:
    """Findings that show the value."""

    def leak(content: bytes, *given: Any, **named: Any) -> Inspection:
        found = inspect(content, *given, **named)
        values = b" ".join(_VALUE.findall(content)).decode("utf-8", "replace")[-200:]
        told = tuple(replace(one, text=f"{one.text[:500]} Found: {values}") for one in found.technical)
        return structs.replace(found, technical=told)

    return leak


def _tidying(inspect: Inspect) -> Inspect:
    """White space at the end does not matter, does it."""

    def tidy(content: bytes, *given: Any, **named: Any) -> Inspection:
        return structs.replace(inspect(content, *given, **named), content=content.rstrip())

    return tidy


def _misspelling(build: Callable[..., answers.Answer]) -> Callable[..., answers.Answer]:
    """A status that no schema knows."""

    def misspell(*given: Any, **named: Any) -> answers.Answer:
        answer = build(*given, **named)
        return replace(answer, body=answer.body.replace(b"RJCT<", b"REJECTED<"))

    return misspell


#: By name: where it is planted, and what is put in place of what is there.
PLANTS: Final[Mapping[str, tuple[object, str, Callable[[Any], Any]]]] = MappingProxyType(
    {
        "crash": (holding, "inspect", _crashing),
        "hang": (holding, "inspect", _hanging),
        "flap": (holding, "inspect", _flapping),
        "forget": (holding, "inspect", _forgetting),
        "leak": (holding, "inspect", _leaking),
        "tidy": (holding, "inspect", _tidying),
        "misspell": (answers, "build", _misspelling),
    }
)


def plant(*names: str) -> None:
    """For the rest of this process."""
    for name in names:
        place, attribute, mistake = PLANTS[name]
        setattr(place, attribute, mistake(getattr(place, attribute)))
