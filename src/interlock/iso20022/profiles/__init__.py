"""Profiles: the market practice of schemes and of the operator's own counterparties, as dated data.

A profile says which versions of messages are in use, what must and must not be in them, which codes, characters, counts
and amounts; how our rules weigh there; and what it knows of clocks, time-outs, doubles, retries and recalls. Each fact
has its source, and a mark that says how sure it is.

Owns: choosing the profile and edition for a message and holding it against that. Must not know: stages, stores, faces.
"""

from interlock.iso20022.profiles.checking import RULES
from interlock.iso20022.profiles.facts import Mark
from interlock.iso20022.profiles.loading import GENERIC, Profiles
from interlock.iso20022.profiles.profile import Edition, Judgement, Profile

__all__ = ["GENERIC", "RULES", "Edition", "Judgement", "Mark", "Profile", "Profiles"]
