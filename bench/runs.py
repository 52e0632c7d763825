"""What the runs over SQLite and over PostgreSQL have in common: parts in order, servers, load, a look inside."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
from rich.console import Console

from bench import ceilings, servers
from bench.ceilings import Rate
from bench.load import Measured, Plan
from bench.report import MAIN, Findings, shares, told
from bench.servers import ROOT


class Run:
    """One run of some parts; what it finds is in its `report`."""

    #: Names of the parts in order; `_name` does it.
    PARTS: ClassVar[Sequence[str]] = ()
    report: Findings

    def __init__(self, folder: Path, console: Console, *, profile: bool, peer: str) -> None:
        """profile: look with py-spy where the server's time goes. peer: the interpreter that has `dbos`."""
        self._folder = folder
        self._console = console
        self._profile = profile
        self._peer = peer

    def run(self) -> None:
        """Measure the parts; one that cannot be measured does not keep the others from it."""
        for part in self.report.parts:
            self._attempt(part)

    def _attempt(self, part: str) -> None:
        try:
            getattr(self, f"_{part}")()
        except Exception as exc:  # noqa: BLE001 - told in the report and by the exit code
            self.report.faults.append(f"{part}: {exc}")
            self._console.print(f"{part}: {exc}", style="red", markup=False)

    def _say(self, what: str, figure: str) -> None:
        self._console.print(f"  {what}: {figure}", highlight=False)

    def _load(self, what: str, plan: Plan) -> Measured:
        with self._console.status(what):
            found = servers.load(plan)
        failures = f", [red]{found.failures} failures: {found.failed[0]}[/red]" if found.failures else ""
        postgres = f", PostgreSQL {found.postgres_us:.0f} us" if plan.postmaster else ""
        limit = "" if found.busy is None else f"; limit: {found.busy.limit}"
        self._say(
            what,
            f"{found.per_second:,.0f}/s, p50 {found.answer_ms.p50:.1f} ms, p99 {found.answer_ms.p99:.1f} ms, "
            f"server {found.server_us:.0f} us{postgres}, generator {found.generator_us:.0f} us, "
            f"others {found.others_share:.0%}{limit}{failures}",
        )
        return found

    def _look(self, what: str, server: int, plan: Plan) -> None:
        """Where a server process's time goes, at our level of callers; measured apart, for looking costs."""
        raw = self._folder / "profile.txt"
        plan = msgspec.structs.replace(plan, callers=MAIN, rate=None)
        spy = subprocess.Popen(
            [
                shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy", "record", "--pid",
                str(server), "--duration", str(max(1, int(plan.seconds))), "--rate", "250",
                "--format", "raw", "--output", str(raw),
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            servers.load(plan)
            _, err = spy.communicate(timeout=60)
        finally:
            if spy.poll() is None:
                spy.kill()
                spy.wait()
        if spy.returncode:
            raise RuntimeError(f"py-spy failed: {err.decode(errors='replace')[-500:]}")
        self.report.profile[what] = shares(raw.read_text().splitlines())

    def _on_dbos(self, seconds: float, *more: str) -> Rate | None:
        """The same steps on DBOS; None where it is not installed. more: URL of a database, and its first process."""
        if self._peer == sys.executable and not ceilings.has_dbos():
            self.report.notes.append("dbos is not installed here, so it was not measured: pip install dbos")
            self._say("dbos", "not installed here, skipped: pip install dbos")
            return None
        folder = self._folder / "dbos"
        folder.mkdir()
        with self._console.status("the same steps on DBOS"):
            done = subprocess.run(
                [self._peer, "-m", "bench.ceilings", str(folder), str(seconds), *more],
                cwd=ROOT, capture_output=True, check=False, timeout=seconds + 120,
                env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
            )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace").strip()[-500:])
        rate = msgspec.json.decode(done.stdout, type=Rate)
        self._say("the same steps on DBOS", told(rate))
        return rate
