"""Demands as XPath: what is at fault in a message, found by libxml2 itself. Pure.

Each demand becomes an expression that gives the elements at fault, and all of a message's become one that says whether
there are any. A good message costs that one call, some microseconds however many demands there are.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from interlock.iso20022.profiles.facts import Characters, Codes, Count, Forbidden, Length, Mandatory, Matching, Placed

#: The prefix that expressions use for the message's namespace.
PREFIX: Final = "p"


class Fault(NamedTuple):
    """What breaks a demand."""

    #: Expression for the elements in which it is looked for, from the message.
    within: str
    #: What is then so of one of them, seen from there: a path that gives something, or a condition.
    found: str
    is_path: bool

    @property
    def elements(self) -> str:
        """Expression for the elements at fault; what is missing or there too often is so of that in which it is."""
        return f"{self.within}/{self.found}" if self.is_path else f"{self.within}[{self.found}]"


def fault(demand: Placed) -> Fault | None:
    """What breaks the demand; None where that takes more than XPath (patterns)."""
    within = _within(demand)
    path = _path(demand.path)
    match demand:
        case Mandatory():
            there = _chain("or", [path, *(_condition(one, demand) for one in demand.alternatives)])
            return Fault(within, f"not({there})", is_path=False)
        case Forbidden():
            return Fault(within, path, is_path=True)
        case Codes(codes=codes, without=without):
            wanted = _chain("or", [_is(code) for code in codes or without])
            return Fault(within, f"{path}[not({wanted})]" if codes else f"{path}[{wanted}]", is_path=True)
        case Length(max=most):
            return Fault(within, f"{path}[string-length(.) > {most}]", is_path=True)
        case Count(max=most):
            return Fault(within, f"count({path}) > {most}", is_path=False)
        case _:
            return None


def looked_at(demand: Matching | Characters) -> str:
    """Expression for the elements whose text a regular expression judges."""
    if isinstance(demand, Matching):
        return f"{_within(demand)}/{_path(demand.path)}"
    return " | ".join(_start(path) for path in demand.paths)


def _within(demand: Placed) -> str:
    """The elements in which the path begins, those that the conditions leave."""
    start = "." if demand.within is None else _start(demand.within)
    conditions = [f"({_condition(one, demand)})" for one in demand.when]
    conditions += [f"not({_condition(one, demand)})" for one in demand.unless]
    if demand.within is None:
        start = "self::*"
    return f"{start}[{_chain('and', conditions)}]" if conditions else start


def _start(path: str) -> str:
    return f".//{_path(path[2:])}" if path.startswith("//") else _path(path)


def _path(path: str) -> str:
    return "/".join(step if step.startswith("@") else f"{PREFIX}:{step}" for step in path.split("/"))


def _condition(condition: str, demand: Placed) -> str:
    """A path that is there, or has a text; `/` goes back from `within` to the message."""
    path, _, value = condition.partition("=")
    if path.startswith("/"):
        depth = 0 if demand.within is None else demand.within.count("/") + 1
        inside = "../" * depth + _path(path[1:])
    else:
        inside = _path(path)
    return f"{inside}='{value}'" if value else inside


def _is(code: str) -> str:
    return f"starts-with(.,'{code[:-1]}')" if code.endswith("*") else f".='{code}'"


def joined(faults: Iterable[Fault]) -> list[str]:
    """Whether there is any of them; several expressions, where one would be more than libxml2 compiles.

    What is looked for in the same elements is looked for in one go: these are found once.
    """
    found_in: dict[str, list[Fault]] = {}
    for one in faults:
        found_in.setdefault(one.within, []).append(one)
    expressions = []
    for within, several in found_in.items():
        if len(several) == 1:  # libxml2 stops at the first that a path gives, but not inside of a condition
            expressions.append(several[0].elements)
        else:
            parts = _split([one.found for one in several])
            expressions += [f"{within}[{_chain('or', part)}]" for part in parts]
    return [_chain("or", [f"boolean({one})" for one in part]) for part in _split(expressions)]


def _split(expressions: Sequence[str]) -> list[list[str]]:
    """In parts that are not too long together."""
    parts: list[list[str]] = []
    room = 0
    for expression in expressions:
        if not parts or room < len(expression):
            parts.append([])
            room = _EXPRESSION_MAX
        parts[-1].append(expression)
        room -= len(expression)
    return parts


def _chain(operator: str, operands: Sequence[str]) -> str:
    """Operands joined; in halves where there are many, for libxml2 goes one level deeper for each that is in a row."""
    if len(operands) <= _IN_A_ROW:
        return f" {operator} ".join(operands)
    middle = len(operands) // 2
    return f"({_chain(operator, operands[:middle])}) {operator} ({_chain(operator, operands[middle:])})"


_IN_A_ROW: Final = 100
#: Characters; libxml2 compiles at most a million steps, of which a character makes less than one.
_EXPRESSION_MAX: Final = 500_000
