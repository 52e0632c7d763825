"""Compiled schemas on disk. Whatever fails here costs time only: it is then compiled again."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from interlock.iso20022.xsd import COMPILER_VERSION


class Cache:
    """A folder of compiled schemas; may be lost at any time."""

    def __init__(self, folder: Path) -> None:
        self._root = folder

    def get(self, maker: str, definition: str) -> bytes | None:
        """The schema as it was put; None if it is absent, of another compiler or package, or damaged.

        maker: the package and its version that it is made from.
        """
        try:
            stored = (self._folder(maker) / f"{definition}.xsd").read_bytes()
        except OSError:
            return None
        text, _, _ = stored.rpartition(b"<!--")
        return text if stored == _sealed(text) else None

    def put(self, maker: str, definition: str, text: bytes) -> None:
        """Write it whole or not at all."""
        folder = self._folder(maker)
        # A cache that cannot be written (read-only image, full disk) is a slower start, not a fault.
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{definition}.")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_sealed(text))
                Path(temporary).replace(folder / f"{definition}.xsd")
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise

    def _folder(self, maker: str) -> Path:
        """One folder for each compiler and package: what another made is never read."""
        return self._root / f"{COMPILER_VERSION}-{maker.replace(' ', '-')}"


def _sealed(text: bytes) -> bytes:
    """The text with its digest in a comment behind it: a torn or edited file is known as such, and is still an XSD."""
    return text + b"<!-- sha256 " + hashlib.sha256(text).hexdigest().encode() + b" -->\n"
