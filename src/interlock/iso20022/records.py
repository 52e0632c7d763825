"""Reading the records of a message (the message, a header, a block, a payment, a reference) into slots. Pure.

The paths that matter are data (`data/fields.toml`), compiled into a trie of tags once for each message version; the
walk enters only elements that are in it, so that cost goes with the payments and not with what else a message holds.
A record is read into a list of slots; `data/fields.toml` says which path fills which slot. The first element that
fits wins.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import resources
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from lxml import etree
from msgspec import structs

from interlock.iso20022.original import Agent, Party

#: An agent takes six slots, in this order.
_AGENT_SLOTS: Final = ("bic", "system", "proprietary_system", "member", "lei", "other")
#: An amount takes two: the number, and after it the currency.
_AMOUNTS: Final = ("amount", "equivalent_amount", "total_amount", "undone_amount")
#: Numbers, dates, codes and the like, around which white space means nothing: it is taken off.
_WORDS: Final = frozenset({
    *_AMOUNTS, "accepted_at", "control_sum", "created_at", "creditor_iban", "debtor_iban", "message_definition",
    "number_of_transactions", "possible_duplicate", "requested_execution_date", "settlement_date", "uetr",
})  # fmt: skip

#: What stands in the slots of a record.
Slots: TypeAlias = list[str | None]


def _load_tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("interlock.iso20022").joinpath("data/fields.toml").read_text("utf-8"))


TABLES: Final = _load_tables()


def paths(*tables: str) -> dict[str, str]:
    """Path to slot of the tables named, agents and parties spelt out.

    `DbtrAgt` gives `DbtrAgt/FinInstnId/BICFI` and so on.
    """
    found: dict[str, str] = {}
    for name in tables:
        table = TABLES[name]
        found.update(table.get("texts", {}))
        agents, organisations = dict(table.get("agents", {})), dict(table.get("organisations", {}))
        for prefix, slot in table.get("parties", {}).items():
            agents[f"{prefix}/Agt"] = f"{slot}_agent"
            organisations[f"{prefix}/Pty/Id/OrgId"] = f"{slot}_organisation"
            found[f"{prefix}/Pty/Nm"] = f"{slot}_name"
        for prefixes, middle, below in ((agents, "/FinInstnId", "agent"), (organisations, "", "organisation")):
            for prefix, slot in prefixes.items():
                found.update({f"{prefix}{middle}/{path}": f"{slot}.{one}" for path, one in TABLES[below].items()})
    return found


class _Step(NamedTuple):
    """What the walk does at an element: go in, take its text, or note it as a block of its own."""

    #: Slot that the text goes to; -1 for a block.
    slot: int
    below: "dict[str, _Step] | None"
    is_amount: bool
    is_word: bool


class Record(NamedTuple):
    """A compiled table: the trie, and where each slot is."""

    trie: dict[str, _Step]
    slots: dict[str, int]
    #: First of the six slots of each agent.
    agents: dict[str, int]
    #: A slot more than there are names, which nothing fills.
    empty: tuple[None, ...]

    def select(self, *names: str) -> Callable[[Slots], tuple[str | None, ...]]:
        """What takes several texts out of the slots at once; None for a name that the record does not have."""
        return itemgetter(*(self.slots.get(name, len(self.slots)) for name in names))


_BLOCK: Final = _Step(-1, None, False, False)
TEXT_MAX: Final = 256


def compile_record(namespace: str, paths: Mapping[str, str], block: str | None = None) -> Record:
    """Trie over full tags; a full tag is what lxml gives for nothing more than the name."""
    slots = _slots(paths.values())
    trie: dict[str, _Step] = {}
    for path, slot in paths.items():
        tags = [f"{{{namespace}}}{name}" for name in path.split("/")]
        _insert(trie, tags, _Step(slots[slot], None, slot in _AMOUNTS, slot in _WORDS))
    if block is not None:
        trie[f"{{{namespace}}}{block}"] = _BLOCK
    agents = {name.removesuffix(".bic"): place for name, place in slots.items() if name.endswith(".bic")}
    return Record(trie, slots, agents, (None,) * (len(slots) + 1))


def _slots(names: Iterable[str]) -> dict[str, int]:
    """A place for each name; an agent's six lie together, an amount's currency follows it."""
    slots: dict[str, int] = {}
    for name in names:
        agent, dot, _ = name.partition(".")
        for each in [f"{agent}.{part}" for part in _AGENT_SLOTS] if dot else [name]:
            slots.setdefault(each, len(slots))
        if name in _AMOUNTS:
            slots.setdefault(f"{name}.currency", len(slots))
    return slots


def _insert(trie: dict[str, _Step], tags: list[str], leaf: _Step) -> None:
    """Add one path; where it goes on below one that ends, the walk there does both."""
    *above, last = tags
    for tag in above:
        step = trie.get(tag, _INNER)
        below = {} if step.below is None else step.below
        trie[tag] = step._replace(below=below)
        trie = below
    trie.setdefault(last, leaf)


_INNER: Final = _Step(-1, None, False, False)


def _walk(element: etree._Element, trie: dict[str, _Step], slots: Slots, blocks: list[etree._Element]) -> None:
    """Fill the slots from the elements below; the depth is that of the trie, however deep the message is."""
    for child in element:
        step = trie.get(child.tag)
        if step is None:
            continue
        slot, below, is_amount, is_word = step
        if below is not None:
            _walk(child, below, slots, blocks)
            if slot < 0 or len(child):
                continue
        elif slot < 0:
            blocks.append(child)
            continue
        if slots[slot] is None:
            text = child.text
            if text is not None:
                # No field here is that long, so what is cut cannot fill the caches it meets. Only numbers and points in
                # time can be so long and valid, by their zeros: they are none then.
                if is_word:
                    text = text.strip()
                slots[slot] = text[:TEXT_MAX]
            if is_amount:
                slots[slot + 1] = (child.get("Ccy") or "")[:TEXT_MAX] or None


class Fields:
    """The slots of one record by name."""

    __slots__ = ("agents", "blocks", "places", "slots")

    def __init__(self, element: etree._Element, record: Record) -> None:
        self.places = record.slots
        self.agents = record.agents
        self.slots: Slots = list(record.empty)
        self.blocks: list[etree._Element] = []
        _walk(element, record.trie, self.slots, self.blocks)

    def text(self, name: str) -> str | None:
        """As written."""
        place = self.places.get(name)
        return None if place is None else self.slots[place]

    def word(self, name: str) -> str | None:
        """Without the white space around, which in numbers, dates and codes means nothing."""
        text = self.text(name)
        return None if text is None else text.strip()

    def agent(self, name: str) -> Agent | None:
        """The institution in that role; None where it has no name that we read."""
        place = self.agents.get(name)
        return None if place is None else _agent_of(*self.slots[place : place + 6])

    def organisation(self, name: str) -> Agent | None:
        """The organisation in that role."""
        agent = self.agent(name)
        return None if agent is None else structs.replace(agent, is_organisation=True)

    def party(self, name: str) -> Party | None:
        """Who has that role: an institution, an organisation, or somebody known by name only."""
        agent = self.agent(f"{name}_agent") or self.organisation(f"{name}_organisation")
        known_as = self.text(f"{name}_name")
        return Party(agent=agent, name=known_as) if agent or known_as else None


# The same few institutions come again and again, within a message and between messages.
@lru_cache(maxsize=4096)
def _agent_of(
    bic: str | None = None,
    system: str | None = None,
    proprietary_system: str | None = None,
    member: str | None = None,
    lei: str | None = None,
    other: str | None = None,
) -> Agent | None:
    named = (bic, member, lei, other)
    if not any(named):
        return None
    return Agent(
        bic=bic.strip() if bic else None,
        clearing_system=system or proprietary_system,
        clearing_system_is_proprietary=system is None and proprietary_system is not None,
        clearing_member=member,
        lei=lei.strip() if lei else None,
        other=other,
    )
