"""Does to several servers and their PostgreSQL what machines do, at random, and holds them to what they acknowledged.

    python -m tests.acceptance.postgres_torture --rounds 300

In each round something is killed, paused, cut off or stopped in the midst of load. Callers behave as clients should:
what was refused for now, or not answered, they send again, to another server, under the same key. At the end everything
that was acknowledged is counted, as in `torture`, whose load, log and audit these are; and `interlock audit verify`
looks at it with its own eyes.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import newest
from tests.acceptance.fleet import Fleet, Patient, Told, fleet, token_of
from tests.acceptance.torture import Audit, Client, Load, Log, Wire, until_all_ended

NAMES = ("one", "two", "three")
LEASE_SECONDS = 1.0
_ROUTES = """
[routes.held]
clients = ["{held}"]
decision = "consumer"
decide_within_seconds = 8.0
[routes.default]
sla_seconds = 8.0
"""
#: What callers may be told besides answers.
_BEARABLE = {"gone", "store_unavailable", "outcome_unknown", "stopped", "503"}


class Crowd(Load):
    """The load of `torture`, whose callers turn to whichever server takes their calls."""

    def __init__(self, fleet: Fleet, plain: Client, held: Client, log: Log, luck: random.Random) -> None:
        self.servers = [fleet.server(name) for name in NAMES]
        super().__init__(self.servers[0], plain, held, log, luck)
        self.told = Told()
        self._tokens: dict[str, str] = {}

    async def connect(self, client: Client) -> Wire:
        """A caller who begins with any of them."""
        if client.id not in self._tokens:
            self._tokens[client.id] = await token_of(client, self.servers)
        return Patient(self.servers, self._tokens[client.id], self.told, self.luck.randrange(len(self.servers)))

    async def during(self, harm: Callable[[], None], workers: int = 8) -> None:
        """Callers of every kind while something is done, and a moment longer; each gets its last answer."""
        kinds = [self._one_call, self._three_calls, self._decide, self._abandon]
        self._ends = False
        tasks = [asyncio.create_task(self._until_the_end(kinds[number % len(kinds)])) for number in range(workers)]
        try:
            await asyncio.sleep(self.luck.uniform(0.1, 0.5))
            await asyncio.to_thread(harm)
            await asyncio.sleep(self.luck.uniform(0.1, 0.5))
        finally:
            self._ends = True
        await asyncio.gather(*tasks)

    async def _until_the_end(self, kind: Any) -> None:
        client = self.held if kind == self._decide else self.plain
        async with await self.connect(client) as wire:
            while not self._ends:
                await kind(wire)


class Harms:
    """What can be done to them; afterwards all of them live."""

    def __init__(self, cluster: Cluster, fleet: Fleet, luck: random.Random) -> None:
        self._cluster = cluster
        self._fleet = fleet
        self._luck = luck
        self.all: Mapping[str, Callable[[], None]] = {
            "kill a server": self._kill_a_server,
            "kill all servers": self._kill_all_servers,
            "let a server sleep": self._let_a_server_sleep,
            "end a server in order": self._end_a_server,
            "cut connections": self._cut_connections,
            "kill PostgreSQL": self._kill_postgres,
            "stop PostgreSQL": self._stop_postgres,
            "pause PostgreSQL": self._pause_postgres,
            "kill PostgreSQL and a server": self._kill_both,
        }

    def _some(self) -> str:
        return self._luck.choice(NAMES)

    def _kill_a_server(self) -> None:
        name = self._some()
        self._fleet.server(name).kill()
        time.sleep(self._luck.choice((0, LEASE_SECONDS * 1.2)))
        self._fleet.start(name)

    def _kill_all_servers(self) -> None:
        for name in NAMES:
            self._fleet.server(name).kill()
        self._fleet.start(*NAMES)

    def _let_a_server_sleep(self) -> None:
        pid = self._fleet.server(self._some()).pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self._luck.uniform(0.3, 2.5) * LEASE_SECONDS)
        os.kill(pid, signal.SIGCONT)

    def _end_a_server(self) -> None:
        name = self._some()
        assert self._fleet.server(name).terminate() == 0
        self._fleet.start(name)

    def _cut_connections(self) -> None:
        for _ in range(self._luck.randint(1, 8)):
            mine = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'interlock%'"
            for (pid,) in self._cluster.query(mine):
                if self._luck.random() < 0.5:
                    self._cluster.query(f"SELECT pg_terminate_backend({pid})")
            time.sleep(self._luck.uniform(0, 0.3))

    def _kill_postgres(self) -> None:
        self._cluster.kill()
        time.sleep(self._luck.choice((0, 1, 3)))
        self._cluster.start()

    def _stop_postgres(self) -> None:
        self._cluster.stop(self._luck.choice(("fast", "immediate")))
        time.sleep(self._luck.uniform(0, 1))
        self._cluster.start()

    def _pause_postgres(self) -> None:
        self._cluster.pause()
        time.sleep(self._luck.uniform(0.1, 3))
        self._cluster.resume()

    def _kill_both(self) -> None:
        name = self._some()
        self._cluster.kill()
        self._fleet.server(name).kill()
        self._cluster.start()
        self._fleet.start(name)


def _fleet(folder: Path, cluster: Cluster) -> AbstractContextManager[Fleet]:
    return fleet(folder, cluster.create_database("pay"), lease_seconds=LEASE_SECONDS)


def torture(folder: Path, rounds: int, seed: int, *, say: Any = None) -> Counter[str]:
    """So many rounds of harm under load, and an audit at the end. What was done, counted.

    For so many rounds as there are harms, each is done once; after that, as luck will have it.
    """
    luck = random.Random(seed)
    with (
        Cluster(newest()) as cluster,
        fleet(folder, cluster.create_database("pay"), lease_seconds=LEASE_SECONDS) as made,
    ):
        plain, held = made.add_client("plain"), made.add_client("held")
        made.configure(_ROUTES.format(held=held.id))
        made.start(*NAMES)
        log = Log(folder / "client.log")
        crowd, harms = Crowd(made, plain, held, log, luck), Harms(cluster, made, luck)
        order = luck.sample(list(harms.all), len(harms.all))
        for number in range(rounds):
            what = order[number] if number < len(order) else luck.choice(order)
            asyncio.run(crowd.during(harms.all[what]))
            crowd.counts[what] += 1
            if say is not None:
                say(f"round {number + 1} of {rounds}, {what}: {dict(crowd.counts)}, told {dict(crowd.told.counts)}")
        until_all_ended(made.url, 30)
        # The audit looks at all of them.
        asyncio.run(crowd.verify(luck.sample(log.entries, min(1000, len(log.entries)))))
        verified = made.server(NAMES[0]).command("audit", "verify", "--json")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        for name in NAMES:
            assert made.server(name).terminate() == 0
        audit = Audit(made.url, log.entries)
        log.close()
        assert audit.faults == [], f"seed {seed}: " + "\n".join(audit.faults[:20])
        odd = {code for code in crowd.told.counts if not code.startswith(("2", "4"))} - _BEARABLE
        assert not odd, f"seed {seed}: callers were told {odd}"
    return crowd.counts


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="harm at random under load, again and again")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="folder to leave behind")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4), "big")

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    say(f"seed {seed}")
    with tempfile.TemporaryDirectory() as scratch, suppress(KeyboardInterrupt):
        counts = torture(given.keep or Path(scratch) / "torture", given.rounds, seed, say=say)
        say(f"torture: {given.rounds} rounds, every promise kept: {dict(counts)}")


if __name__ == "__main__":
    main()
