"""Profiles in words: what demands say where their profile has none, and all that a profile says. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from interlock.iso20022.profiles.facts import (
    Amount,
    Characters,
    Codes,
    Count,
    Demand,
    Forbidden,
    Length,
    Mandatory,
    Matching,
    Placed,
)

#: Codes that a text lists.
_CODES_SHOWN: Final = 20


def said(demand: Demand) -> str:
    """One sentence without its full stop: what is expected, and what to do."""
    words = _WORDS[type(demand)](demand)
    return f"{words}{_when(demand)}" if isinstance(demand, Placed) else words


def _mandatory(demand: Mandatory) -> str:
    return f"{' or '.join([demand.path, *demand.alternatives])} must be there, so add it"


def _forbidden(demand: Forbidden) -> str:
    return f"{demand.path} is not allowed, so leave it out"


def _codes(demand: Codes) -> str:
    listed = demand.codes or demand.without
    few = " or ".join(listed[:_CODES_SHOWN]) + (", ..." if len(listed) > _CODES_SHOWN else "")
    return f"{demand.path} must be {few}" if demand.codes else f"{demand.path} must not be {few}"


def _length(demand: Length) -> str:
    return f"{demand.path} has at most {demand.max} characters, so shorten it"


def _count(demand: Count) -> str:
    times = {0: "never", 1: "at most once", 2: "at most twice"}.get(demand.max, f"at most {demand.max} times")
    return f"{demand.path} occurs {times}"


def _matching(demand: Matching) -> str:
    return f"{demand.path} must match the pattern {demand.pattern}"


def _characters(demand: Characters) -> str:
    return f"only characters of the set {demand.set} are allowed: replace the others"


def _amount(demand: Amount) -> str:
    parts = [currencies(demand.currencies)] if demand.currencies else []
    parts += [] if demand.min is None else [f"the amount must be {demand.min:f} or more"]
    parts += [] if demand.max is None else [f"the amount must be {demand.max:f} or less"]
    return ", ".join(parts)


def currencies(codes: Sequence[str]) -> str:
    """What the currency must be."""
    return f"the currency must be {' or '.join(codes)}"


def _when(demand: Placed) -> str:
    there = f" where {' and '.join(demand.when)} is there" if demand.when else ""
    return there + (f" unless {' or '.join(demand.unless)} is there" if demand.unless else "")


#: What each kind of demand is called.
NAMES: Final[Mapping[type[Demand], str]] = {
    Mandatory: "mandatory",
    Forbidden: "forbidden",
    Codes: "codes",
    Length: "length",
    Count: "count",
    Matching: "pattern",
    Characters: "characters",
    Amount: "amount",
}
_WORDS: Final[Mapping[type[Demand], Callable[[Any], str]]] = {
    Mandatory: _mandatory,
    Forbidden: _forbidden,
    Codes: _codes,
    Length: _length,
    Count: _count,
    Matching: _matching,
    Characters: _characters,
    Amount: _amount,
}
