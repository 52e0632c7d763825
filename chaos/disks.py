"""A disk of its own for one database, which can become full in a moment and be freed again.

It is a file system in memory, whose size can be changed while it is used: full is what is no larger than what is on it.
To mount one takes root's rights on Linux; `Disk.why_not` says what is missing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

#: More than anything that is ever on it, and what is left on a full one: less than one page of a database.
_ROOM, _LEFT = "2g", 4096
_TRIES = 50
_TOOLS = ("mount", "umount", "unshare")


class Disk:
    """A file system that can be filled; a context manager."""

    def __init__(self) -> None:
        """Nothing is mounted before it is entered."""
        # Its user must be able to pass through, whoever that is.
        self.folder = Path(tempfile.gettempdir()) / "nowhere"
        self._full = False

    @staticmethod
    def why_not() -> str | None:
        """What keeps us from having one; None: nothing."""
        if not sys.platform.startswith("linux"):
            return "file systems whose size can be changed are Linux's"
        if os.geteuid() != 0:
            return "to mount a file system takes root's rights"
        missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
        return f"there is no {', '.join(missing)}" if missing else None

    def __enter__(self) -> Self:
        """Mount it. Raises OSError."""
        self.folder = Path(tempfile.mkdtemp(prefix="interlock-disk-"))
        try:
            _do("mount", "-t", "tmpfs", "-o", f"size={_ROOM},mode=0755", "interlock-disk", str(self.folder))
        except OSError:
            self.folder.rmdir()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Unmount it, with all that is on it."""
        _do("umount", "--lazy", str(self.folder))
        self.folder.rmdir()

    def fill(self) -> None:
        """Leave no room: who wants more gets `No space left on device`."""
        for _ in range(_TRIES):
            found = os.statvfs(self.folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            try:
                self._resize(str(used + _LEFT))
            except OSError:
                continue  # somebody has written meanwhile
            self._full = True
            return
        raise OSError(f"{self.folder} is written to faster than it can be made smaller")

    def free(self) -> bool:
        """Make room again; whether there was none."""
        was_full = self._full
        if was_full:
            self._resize(_ROOM)
            self._full = False
        return was_full

    def _resize(self, size: str) -> None:
        _do("mount", "-o", f"remount,size={size}", str(self.folder))


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
