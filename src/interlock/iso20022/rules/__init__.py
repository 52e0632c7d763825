"""What schemas cannot say: checksums, sums, counts, dates, doubles, and whether header and document agree. Pure.

Owns: the rules; their weight, ISO reason, text, source and days of validity are data, `data/rules.toml`. Must not know:
what becomes of a message that breaks one (stages), market practice (profiles), schemas.

A module a subject, each with the checks behind its rules; `registry` joins them with the data, `checking` applies them.
"""

from interlock.iso20022.rules.characters import CHARACTER_SETS, CharacterSet
from interlock.iso20022.rules.checking import Settings, check, holding, weight
from interlock.iso20022.rules.registry import RULES
from interlock.iso20022.rules.rule import Place, Rule

__all__ = ["CHARACTER_SETS", "RULES", "CharacterSet", "Place", "Rule", "Settings", "check", "holding", "weight"]
