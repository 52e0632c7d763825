"""Cases by seed and number: which input, and what is looked at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Final

from fuzz import asking, calls, files, holding, listening, seeds
from fuzz.extremes import EXTREMES
from fuzz.spoiling import BYTES_MAX, spoil_bytes, spoil_tokens
from fuzz.trees import Trees, tree_of
from tests.world import catalogue

#: By the name's end of the file in which an input is kept.
CHECKS: Final[Mapping[str, Callable[[bytes, Random], str]]] = MappingProxyType(
    {".xml": holding.check, ".xsd": files.check_schema, ".toml": files.check_profile, ".http": calls.check}
)
#: How many of a hundred cases are schemas, profiles, and calls; all others are messages.
_SCHEMAS, _PROFILES, _CALLS = 4, 6, 10


@dataclass(frozen=True, slots=True)
class Case:
    """One input, of the kind that its suffix says."""

    suffix: str
    content: bytes
    #: What the rest is drawn from: by which profile and on which day it is judged, how it is answered.
    draw: str

    def check(self) -> str:
        """Raise where something does not hold; else what was found, in a few letters, the same each time."""
        random = Random(self.draw)  # noqa: S311 - chance, not secrets
        listening.listen()
        found = CHECKS[self.suffix](self.content, random)
        listening.heard()
        return sha256(found.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Cases:
    """All cases of a seed."""

    def __init__(self, seed: str, *, oracle: bool = True) -> None:
        """oracle: begin with messages of others too, where they are at hand."""
        self._seed = seed
        self._random = Random()  # noqa: S311 - chance, not secrets
        self._messages = seeds.messages(oracle=oracle)
        self._trees = Trees(catalogue(), self._random)
        self._schemas = [one.name for one in catalogue().definitions()]

    def case(self, number: int) -> Case:
        """The same for the same seed and number."""
        random, draw = self._random, f"{self._seed}-{number}"
        random.seed(draw)
        kind = random.randrange(100)
        if kind < _SCHEMAS:
            name, other = random.choice(self._schemas), random.choice(self._schemas)
            return Case(".xsd", files.spoilt_schema(catalogue().xsd(name), random, [catalogue().xsd(other)]), draw)
        if kind < _SCHEMAS + _PROFILES:
            profiles = seeds.profiles()
            return Case(".toml", files.spoilt_profile(random.choice(profiles), random, profiles), draw)
        if kind < _SCHEMAS + _PROFILES + _CALLS:
            return Case(".http", asking.drawn(random, self._message), draw)
        return Case(".xml", self._message(), draw)

    def _message(self) -> bytes:
        random = self._random
        content = self._trees.drawn() if random.random() < 0.2 else random.choice(self._messages)
        for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
            way = random.random()
            if way < 0.45:
                content = self._as_tree(content)
            elif way < 0.65:
                content = spoil_tokens(content, random, self._messages)
            elif way < 0.8:
                content = spoil_bytes(content, random, self._messages)
            else:
                content = random.choice(EXTREMES)(content, random, self._messages)
        return content[: BYTES_MAX + 1000]

    def _as_tree(self, content: bytes) -> bytes:
        random = self._random
        root = tree_of(content)
        if root is None:
            return spoil_tokens(content, random, self._messages)
        if random.random() < 0.25:
            return self._trees.planted(root)
        return self._trees.spoilt(root, tree_of(random.choice(self._messages)))


@lru_cache(maxsize=4)
def cases(seed: str, *, oracle: bool = True) -> Cases:
    """All cases of a seed."""
    return Cases(seed, oracle=oracle)


def of_file(path: Path) -> Case:
    """The case that was kept in a file, or any other message, schema or profile."""
    return Case(path.suffix, path.read_bytes(), path.stem.rpartition(".")[2])
