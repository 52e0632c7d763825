"""The watchman: sees to it that no server and no folder is left behind, however we end.

One small shell a folder, which reads a pipe that only we write to. When we end, the pipe does too: he then ends the
server and removes the folder. Linux could have sent the server a signal at its parent's death, but it sends that at the
end of the *thread* that started it, only on Linux, and nobody would remove the folder.
"""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class Watchman:
    """Removes a folder when he is dismissed; or when we are gone, and then ends the server first."""

    #: Lines are process ids, the postmaster's first; the last line counts. A line, not only the end of the pipe,
    #: dismisses him: our own children may have the pipe open as well. SIGCONT, for what is paused hears nothing else.
    _ORDERS = """
        pids=
        while read -r line; do
            [ "$line" = dismissed ] && { rm -rf -- "$1"; exit; }
            pids=$line
        done
        if [ -n "$pids" ]; then
            kill -CONT $pids
            kill -QUIT "${pids%% *}"
            seconds=0
            while kill -0 "${pids%% *}" && [ $seconds -lt 10 ]; do sleep 1; seconds=$((seconds + 1)); done
            kill -KILL $pids
        fi
        rm -rf -- "$1"
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the system's shell
            ["/bin/sh", "-c", self._ORDERS, "interlock-watchman", str(folder)], stdin=subprocess.PIPE, bufsize=0,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
        )  # fmt: skip

    def tell(self, pids: Sequence[int]) -> None:
        """Whom he ends when we are gone: the postmaster first."""
        self._say(" ".join(map(str, pids)))

    def dismiss(self) -> None:
        """Return when the folder is removed and he has gone."""
        with suppress(BrokenPipeError):
            self._say("dismissed")
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None  # it is a pipe
        self._process.stdin.write(f"{line}\n".encode())
