"""Demands as XPath: what is at fault in a message, found by libxml2 itself. Pure.

Each demand becomes an expression that gives the elements at fault, and all of a message's become one that says whether
there are any. A good message costs that one call, some microseconds however many demands there are.
"""

from collections.abc import Sequence
from typing import Final

from interlock.iso20022.profiles.facts import Characters, Codes, Count, Forbidden, Length, Mandatory, Matching, Placed

#: The prefix that expressions use for the message's namespace.
PREFIX: Final = "p"


def faults(demand: Placed) -> str | None:
    """Expression for the elements at fault, from the message; None where that takes more than XPath (patterns).

    For what is missing or there too often it gives the element in which it is.
    """
    within = _within(demand)
    path = _path(demand.path)
    match demand:
        case Mandatory():
            there = _chain("or", [path, *(_condition(one, demand) for one in demand.alternatives)])
            return f"{within}[not({there})]"
        case Forbidden():
            return f"{within}/{path}"
        case Codes(codes=codes, without=without):
            wanted = _chain("or", [_is(code) for code in codes or without])
            return f"{within}/{path}[not({wanted})]" if codes else f"{within}/{path}[{wanted}]"
        case Length(max=most):
            return f"{within}/{path}[string-length(.) > {most}]"
        case Count(max=most):
            return f"{within}[count({path}) > {most}]"
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


def joined(expressions: Sequence[str]) -> list[str]:
    """Whether any of them gives something; several, where one would be more than libxml2 compiles."""
    chains: list[list[str]] = []
    room = 0
    for expression in expressions:
        if not chains or room < len(expression):
            chains.append([])
            room = _EXPRESSION_MAX
        chains[-1].append(f"boolean({expression})")
        room -= len(expression)
    return [_chain("or", chain) for chain in chains]


def _chain(operator: str, operands: Sequence[str]) -> str:
    """Operands joined; in halves where there are many, for libxml2 goes one level deeper for each that is in a row."""
    if len(operands) <= _IN_A_ROW:
        return f" {operator} ".join(operands)
    middle = len(operands) // 2
    return f"({_chain(operator, operands[:middle])}) {operator} ({_chain(operator, operands[middle:])})"


_IN_A_ROW: Final = 100
#: Characters; libxml2 compiles at most a million steps, of which a character makes less than one.
_EXPRESSION_MAX: Final = 500_000
