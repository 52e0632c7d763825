"""What PostgreSQL itself could take here: the rows of a payment, written by pgbench into the real tables.

Each commit writes the rows of one lifecycle, or of many, as they are at its end, and moves a journal on, as each of our
commits does. Statements are prepared, rows are made by the server, nothing is read, judged or answered: this is what
tables, indexes, log and disk cost. The statements of a commit go out one by one, as pgbench and most programs do it, or
together (pipeline mode).
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench import usage
from bench.ceilings import Rate
from bench.rows import TABLES, Numbers, Template
from interlock.chain import micros
from interlock.demo.postgres import Cluster
from interlock.stores.postgres import PostgresStore

_CORES = os.cpu_count() or 1
#: Copies that one client may make in a run.
_ROOM = 1_000_000_000
#: Each run's numbers begin where nobody's else do.
_RUN = 1_000_000_000_000
_JOURNALS = 64


class Ceiling:
    """A database of its own, with the product's schema, its partitions and journals."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """folder: for the scripts, and what the sample needs."""
        self._cluster = cluster
        self._folder = folder
        folder.mkdir()
        self.url = cluster.create_database("ceiling")
        store = PostgresStore(self.url)
        store.maintain(datetime.now(UTC))
        store.close()
        self.template = Template(self.url, folder / "sample")
        cluster.query(
            "INSERT INTO journals (writer, journal, lease_until, chain_hash) "  # noqa: S608 - numbers of ours
            "SELECT writer, 1000 + g, lease_until, "
            f"chain_hash FROM journals, generate_series(0, {_JOURNALS - 1}) AS g WHERE journal = 1",
            "ceiling",
        )
        self._runs = 0

    def close(self) -> None:
        self._cluster.drop_database("ceiling")

    def measure(self, lifecycles: int, clients: int, *, pipelined: bool, warmup_seconds: float, seconds: float) -> Rate:
        """So many lifecycles a commit. Raises RuntimeError where pgbench fails."""
        script = self._folder / "script.sql"
        script.write_text("\n".join(self._script(lifecycles, pipelined=pipelined)) + "\n")
        self._run(script, clients, warmup_seconds)
        before, began = usage.snapshot([], self._cluster.pid), time.perf_counter()
        child = os.times()
        told = self._run(script, clients, seconds)
        taken, after, ended = time.perf_counter() - began, usage.snapshot([], self._cluster.pid), os.times()
        found = re.search(r"number of transactions actually processed: (\d+)", told)
        speed = re.search(r"tps = ([\d.]+)", told)
        wait = re.search(r"latency average = ([\d.]+) ms", told)
        if found is None or speed is None or wait is None or int(found[1]) == 0:
            raise RuntimeError(f"pgbench told nothing: {told[-1000:]}")
        count = int(found[1]) * lifecycles
        user, system = ended.children_user - child.children_user, ended.children_system - child.children_system
        postgres = (after.postgres - before.postgres).all
        others = max(0.0, after.machine - before.machine - postgres - user - system)
        each = 1e6 / count
        return Rate(
            transactions=count, seconds=round(taken, 3), per_second=round(float(speed[1]) * lifecycles, 1),
            user_us=round(user * each, 1), system_us=round(system * each, 1), postgres_us=round(postgres * each, 1),
            others_share=round(others / (taken * _CORES), 3), each=lifecycles, callers=clients,
            commit_ms=float(wait[1]),
        )  # fmt: skip

    def _run(self, script: Path, clients: int, seconds: float) -> str:
        self._runs += 1
        now = micros(datetime.now(UTC)) // 1000
        variables = {"i": 0, "now": now, "offset": self._runs * _RUN}
        done = subprocess.run(
            [
                self._cluster.installation.program("pgbench"), "--no-vacuum", "--protocol=prepared",
                f"--client={clients}", f"--jobs={min(clients, _CORES)}", f"--time={max(1, round(seconds))}",
                f"--file={script}", *(f"--define={name}={value}" for name, value in variables.items()), self.url,
            ],
            capture_output=True, text=True, check=False, timeout=seconds + 60,
            # As the product's connections have it.
            env={**os.environ, "PGOPTIONS": "-c synchronous_commit=on -c jit=off", "LC_ALL": "C"},
        )  # fmt: skip
        if done.returncode or "ERROR" in done.stderr:
            raise RuntimeError(f"pgbench failed: {done.stderr[-1000:]}")
        return done.stdout

    def _script(self, lifecycles: int, *, pipelined: bool) -> Iterator[str]:
        """In pgbench's language; its variables outlive a commit, which is how clients count."""
        template = self.template
        source = f"generate_series(CAST(:first AS bigint), CAST(:first AS bigint) + {lifecycles - 1}) AS x(g)"
        numbers = Numbers(
            source="(VALUES (CAST(:first AS bigint))) AS x(g)" if lifecycles == 1 else source,
            at="CAST(:now AS bigint) * 1000 + CAST(:i AS bigint) * 1000",
            journal="1000 + CAST(:client_id AS integer)",
            chain=f"g * {template.events}",
        )
        yield r"\set i :i + 1"
        yield rf"\set first :offset + :client_id * {_ROOM} + :i * {lifecycles}"
        if pipelined:
            yield r"\startpipeline"
        yield "BEGIN;"
        for table in TABLES:
            yield f"INSERT INTO {table} ({template.columns(table)}) {template.select(table, numbers)};"
        yield (
            "UPDATE journals SET batch = decode(md5(CAST(:i AS text)), 'hex'), "  # noqa: S608 - likewise
            "outcomes = int4send(1), "
            f"chain_seq = chain_seq + {lifecycles * template.events}, "
            "chain_hash = sha256(int8send(CAST(:first AS bigint))), latest = CAST(:now AS bigint) * 1000, "
            f"lease_until = clock_timestamp() + 5 * CAST('1 second' AS interval) "
            f"WHERE writer = {template.writer} AND journal = 1000 + CAST(:client_id AS integer);"
        )
        yield "COMMIT;"
        if pipelined:
            yield r"\endpipeline"
