"""Members of national clearing systems: the form of their numbers, and check digits where there are any. Pure.

The systems are data, `data/clearing.toml`. A system that is not in it, or that is no code of ISO's, is not judged.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final

from stdnum.us import rtn

from interlock.iso20022.original import Agent


def _load() -> Mapping[str, re.Pattern[str]]:
    text = resources.files("interlock.iso20022").joinpath("data/clearing.toml").read_text("utf-8")
    systems = tomllib.loads(text)["systems"]
    return MappingProxyType({code: re.compile(f"(?:{system['pattern']})\\Z") for code, system in systems.items()})


_PATTERNS: Final = _load()


def has_good_member(agent: Agent | None) -> bool:
    """Whether the agent's clearing member, where it is named by one, is of its system's form."""
    if agent is None or agent.clearing_member is None or agent.clearing_system_is_proprietary:
        return True
    return is_member(agent.clearing_system or "", agent.clearing_member.strip())


@lru_cache(maxsize=4096)
def is_member(system: str, member: str) -> bool:
    """Whether the number has the form that the system's members have; of routing numbers the check digit counts too."""
    pattern = _PATTERNS.get(system)
    if pattern is None:
        return True
    return pattern.match(member) is not None and (system != "USABA" or rtn.is_valid(member))
