"""Bodies that are too long for memory, in files that are gone with the request, at the latest with the next start."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from uuid import uuid4  # noqa: TID251 - the name of a file, which nobody sees


class SpoolFile:
    """One body, as it comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = sha256()
        self._file = path.open("xb", buffering=0)
        os.fchmod(self._file.fileno(), 0o600)  # it holds people's payments
        # Held as long as the file is wanted: what nobody holds was left by a process that is gone.
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def write(self, content: bytes) -> None:
        """Add to it. Raises OSError where there is no room."""
        self.digest.update(content)
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]

    def remove(self) -> None:
        """It is not wanted any more."""
        self.path.unlink(missing_ok=True)
        self._file.close()


class SpoolFolder:
    """Where they lie."""

    def __init__(self, folder: Path) -> None:
        """Take away what processes that are gone have left."""
        self._folder = folder
        for path in folder.glob("*.part"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    @property
    def free_bytes(self) -> int:
        """Room on the disk."""
        return shutil.disk_usage(self._folder.parent).free

    @contextlib.asynccontextmanager
    async def file(self) -> AsyncIterator[SpoolFile]:
        """One more, for as long as this lasts."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = SpoolFile(self._folder / f"{uuid4().hex}.part")
        try:
            yield file
        finally:
            file.remove()
