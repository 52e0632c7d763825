"""Folders and files that belong to the server's user, and that nobody else can read."""

import atexit
import os
import tempfile
from pathlib import Path

from interlock.demo.postgres.processes import ClusterFailed, run, server_account
from interlock.demo.postgres.watchman import Watchman


def temporary_folder() -> Path:
    """A new folder that the server's user can enter."""
    last = ""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108 - mkdtemp makes it safe
        folder = Path(tempfile.mkdtemp(prefix="interlock-postgres-", dir=parent))
        try:
            claim(folder)
        except ClusterFailed as exc:
            folder.rmdir()
            last = str(exc)
        else:
            return folder
    raise ClusterFailed(last)


def folder_of_ours() -> Path:
    """A new folder that goes when we end."""
    folder = temporary_folder()
    atexit.register(Watchman(folder).dismiss)
    return folder


def claim(folder: Path) -> None:
    """Make the folder the server's; refuse one that is not empty, or that it cannot enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / "data" / "PG_VERSION").exists():
        raise ClusterFailed(f"{folder} is neither empty nor a cluster that was kept")
    account = server_account()
    if not account:
        return
    os.chown(folder, account["user"], account["group"])
    try:
        # From elsewhere: where a process begins is not checked against the user it becomes.
        run(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)], Path("/"))
    except ClusterFailed as exc:
        raise ClusterFailed(
            f"PostgreSQL does not run as root, and the user nobody cannot enter {folder}: choose a folder below "
            "one that everybody may enter"
        ) from exc


def write(path: Path, text: str) -> None:
    """A file that the server's user alone may read."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    account = server_account()
    if account:
        os.chown(path, account["user"], account["group"])
