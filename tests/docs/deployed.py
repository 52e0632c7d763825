"""What the tests of deploy/ share: its files, and programs of others that may be asked about them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts import docs

yaml: Any = pytest.importorskip("yaml")

ROOT = docs.ROOT
DEPLOY = ROOT / "deploy"


def name_of(path: Path) -> str:
    """A file's name for people."""
    return str(path.relative_to(ROOT))


def text(name: str) -> str:
    """A file of deploy/."""
    return (DEPLOY / name).read_text("utf-8")


def parsed(name: str) -> Any:
    """A YAML file of deploy/ with one document."""
    return yaml.safe_load(text(name))


def tool(name: str) -> str:
    """Path of a program that is not ours to install; the test is skipped without it."""
    beside = ROOT / ".venv" / "bin" / name
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine")
    return path


def run(*command: str | Path, **options: Any) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, continuation lines joined and comments left out."""
    lines = [line for line in text("Dockerfile").splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def last_stage() -> list[tuple[str, str]]:
    """What the image itself is made by."""
    everything = instructions()
    return everything[max(number for number, (word, _) in enumerate(everything) if word == "FROM") :]


def told(word: str) -> str:
    """The last instruction of a kind in the last stage."""
    return [rest for kind, rest in last_stage() if kind == word][-1]
