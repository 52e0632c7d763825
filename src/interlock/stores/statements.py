"""SQL in files: named statements and numbered migrations, the same for every back end."""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple


class Migration(NamedTuple):
    """One step of a schema, applied whole or not at all."""

    number: int
    name: str
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of its text: a migration that was applied must never change."""
        return sha256(self.text.encode()).hexdigest()


@cache
def queries(engine: str, file: str = "queries.sql") -> Mapping[str, str]:
    """The named statements of an engine's file."""
    parts = (_folder(engine) / file).read_text(encoding="utf-8").split("-- name: ")[1:]
    named = (part.split("\n", 1) for part in parts)
    statements = {name.strip(): _statement(text) for name, text in named}
    # What several statements have in common is written once, and named in braces.
    shared = {mark: text for name, text in statements.items() if (mark := f"{{{name}}}") in "".join(parts)}
    return {name: _filled(text, shared) for name, text in statements.items()}


def _filled(text: str, shared: Mapping[str, str]) -> str:
    for mark, part in shared.items():
        text = text.replace(mark, part)
    return text


def _statement(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip()


@cache
def migrations(engine: str) -> tuple[Migration, ...]:
    """Every migration of an engine, in order."""
    found = [entry for entry in (_folder(engine) / "migrations").iterdir() if entry.name.endswith(".sql")]
    return tuple(
        sorted(Migration(int(entry.name[:4]), entry.name[5:-4], entry.read_text(encoding="utf-8")) for entry in found)
    )


def _folder(engine: str) -> Traversable:
    return files("interlock.stores") / "sql" / engine
