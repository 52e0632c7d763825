"""`interlock serve` as anybody starts it, and the load generator beside it: processes of their own."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Self

import msgspec

from bench.load import Measured, Plan

ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


class _Process:
    """One `interlock serve`, in a process group of its own."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._log = folder / "server.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        self.pid = self._process.pid

    def listening(self) -> int:
        """Its port, once it listens. Raises RuntimeError where it does not."""
        assert self._process.stdout is not None  # it is a pipe
        ready, _, _ = select.select([self._process.stdout], [], [], _START_SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if not line.startswith(b"{"):
            log = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the server did not start: {line!r}\n{log}")
        return int(json.loads(line)["url"].rpartition(":")[2])

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Server:
    """Interlock over a folder, with one client; one process or, where the store can be shared, several.

    A context manager; its processes have ended at the latest on leaving it.
    """

    def __init__(self, data: Path, store: str | None = None, processes: int = 1) -> None:
        """store: URL of a database; without it, SQLite in the folder."""
        self._data = data
        self._number = processes
        data.mkdir(parents=True, exist_ok=True)
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
        self._environment["INTERLOCK_LOG_LEVEL"] = "warning"
        if store is not None:
            self._environment["INTERLOCK_STORE"] = store
        credentials = data / "bench-client.json"
        if not credentials.exists():
            credentials.write_bytes(self._interlock("clients", "add", "bench", "--json"))
        client = json.loads(credentials.read_text())
        self.client_id: str = client["client_id"]
        self.client_secret: str = client["client_secret"]
        self._processes: list[_Process] = []
        self.ports: list[int] = []

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "interlock.cli", *arguments, "--data", str(self._data)]

    def _interlock(self, *arguments: str) -> bytes:
        done = subprocess.run(
            self._command(*arguments), cwd=self._data, env=self._environment, capture_output=True, check=False,
            timeout=_START_SECONDS,
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.decode(errors="replace")[-2000:]
            raise RuntimeError(f"interlock {' '.join(arguments)} ended with {done.returncode}: {said}")
        return done.stdout

    def __enter__(self) -> Self:
        command = self._command("serve", "--json", "--host", "127.0.0.1", "--port", "0")
        try:
            for _ in range(self._number):
                self._processes.append(_Process(command, self._data, self._environment))
            self.ports = [process.listening() for process in self._processes]
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        while self._processes:
            self._processes.pop().end()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def plan(self, face: str, callers: int, *, warmup_seconds: float, seconds: float) -> Plan:
        """A closed loop against this server."""
        return Plan(
            host="127.0.0.1", ports=self.ports, client_id=self.client_id, client_secret=self.client_secret,
            pids=self.pids, face=face, callers=callers, warmup_seconds=warmup_seconds, seconds=seconds,
        )  # fmt: skip


def load(plan: Plan) -> Measured:
    """Let a load generator do the plan. Raises RuntimeError where it cannot."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(msgspec.json.encode(plan), timeout=plan.warmup_seconds + plan.seconds + 150)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise RuntimeError(f"the load generator failed: {err.decode(errors='replace')[-2000:]}")
    measured = msgspec.json.decode(out, type=Measured)
    if not measured.transactions:
        raise RuntimeError(f"{plan.face}, {plan.callers} callers: not one transaction ended: {measured.failed}")
    return measured
