"""`interlock serve` as a process of its own, started, stopped, killed and frozen as often as it takes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

_START_SECONDS = 60.0
_STOP_SECONDS = 40.0
_TOLD = 3_000


class ServerFailed(Exception):
    """The server, or another of the commands, does not do what it was told; with the end of what it said."""


class Server:
    """A server over a configuration file."""

    def __init__(self, config: Path, log: Path) -> None:
        """log: gets what it says, over all its lives."""
        self.config = config
        self.log = log
        self._process: subprocess.Popen[str] | None = None
        self.is_paused = False

    # -- to and fro --

    def spawn(self) -> None:
        """Begin to start it."""
        if self.is_running:
            return
        self._forget()
        with self.log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [*_COMMAND, "serve", "--json", "--config", str(self.config)],
                env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                # Out of reach of the terminal's Ctrl-C: we end it, in our order.
                start_new_session=True,
            )  # fmt: skip

    def ready(self) -> None:
        """Return once it listens."""
        process = self._running()
        assert process.stdout is not None
        watch = threading.Timer(_START_SECONDS, process.kill)
        watch.start()
        line = process.stdout.readline()
        watch.cancel()
        if not line:
            code = process.wait()
            raise ServerFailed(f"it did not start ({code}): {self.said()[-_TOLD:]}")

    def start(self) -> None:
        """Start it, until it listens."""
        if not self.is_running:
            self.spawn()
            self.ready()

    def kill(self) -> None:
        """`kill -9`, and wait until it is dead."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end in good order; its exit code."""
        self.resume()
        return self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Stop its clock, and wait until it stands: connections are open, and nobody answers."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        self.is_paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        if self.is_paused and self.is_running:
            self._running().send_signal(signal.SIGCONT)
        self.is_paused = False

    # -- what of it --

    @property
    def is_running(self) -> bool:
        """Whether the process is there, be it paused."""
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        """All that it has logged."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def _running(self) -> "subprocess.Popen[str]":
        assert self._process is not None, "start it first"
        return self._process

    def _end(self, number: signal.Signals) -> int:
        if not self.is_running:
            self._forget()
            return 0
        process = self._running()
        process.send_signal(number)
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            self.is_paused = False
            self._forget()

    def _forget(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdout is not None:
            process.stdout.close()


def command(config: Path, *arguments: str) -> str:
    """What another of interlock's commands prints. Raises ServerFailed."""
    whole = [*_COMMAND, *arguments, "--config", str(config)]
    try:
        done = subprocess.run(
            whole, env=_environment(), capture_output=True, text=True, check=False, timeout=_START_SECONDS
        )
    except subprocess.TimeoutExpired as exc:
        raise ServerFailed(f"{' '.join(arguments)} has not ended within {_START_SECONDS:g} s") from exc
    if done.returncode:
        raise ServerFailed(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-_TOLD:].strip()}")
    return done.stdout


_COMMAND = (sys.executable, "-m", "interlock.cli")


def _environment() -> Mapping[str, str]:
    """Ours without settings: this must not run on those of a real server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
