"""The commands of docs/postgres-operations.md, as they stand there: backup, restore to a moment, standbys, failover.

They run in the shell of the server's user, or of Interlock's, with the page's variables set. What a person would do by
hand between two of them is done by hand here: a role, a line in pg_hba.conf, a port.

Each test has a version of its own, so that on a machine with several all the commands of the page meet most of them.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import httpx
import psycopg
import pytest

from interlock.demo.ports import free_port
from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import Installation
from tests.acceptance.conftest import LARGE, Caller, Server, end, start
from tests.messages import Transfer, pacs008
from tests.postgres import MAJORS, installation

PAGE = Path(__file__).parents[2] / "docs" / "postgres-operations.md"
#: Variables, beside the usual ones.
Given = Mapping[str, object]
#: A crash of the machine is not on test.
QUICK = {"fsync": "off"}
PATIENCE_SECONDS = 30

#: Base backups are synced to the disk, whoever else is at it.
pytestmark = pytest.mark.timeout(240)


def block(name: str) -> str:
    """The commands that the page marks with a name."""
    found = re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None, f"{PAGE.name} has no block {name}"
    return found[1]


def run(script: str, variables: Mapping[str, str], **account: Any) -> str:
    """What a script prints; it must not fail anywhere."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=variables, cwd="/",
        capture_output=True, text=True, timeout=60, check=False, **account,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return str(done.stdout).strip()


def until(true: Callable[[], object], what: str) -> None:
    """Return when it is; for what tells nobody that it has come about."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} seconds: {what}"
        time.sleep(0.05)


# -- who is at the keyboard -------------------------------------------------------------------------------------------


class Machine:
    """The shell of the database server's user, with the page's variables."""

    def __init__(self, cluster: Cluster) -> None:
        ((self.programs,),) = cluster.query("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
        superuser = psycopg.conninfo.conninfo_to_dict(cluster.superuser_url)
        owner = cluster.data.stat()
        # Where we are root, the server is not.
        self._account: dict[str, Any] = (
            {} if os.geteuid() else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        )
        self.folder = cluster.folder
        self.variables = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "LC_ALL": "C",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(cluster.port),
            "PGUSER": str(superuser["user"]),
            "PGPASSWORD": str(superuser["password"]),
            "PGDATA": str(cluster.data),
            "ARCHIVE": str(self.folder / "archive"),
            "BACKUPS": str(self.folder / "backups"),
        }

    def sh(self, script: str, given: Given = MappingProxyType({})) -> str:
        """What a script prints; it must not fail anywhere."""
        more = {name: str(value) for name, value in given.items()}
        return run(script, {**self.variables, **more}, **self._account)

    def do(self, name: str, given: Given = MappingProxyType({}), *, without: str | None = None) -> str:
        """Run a block of the page; without: leave out the one line that has these words."""
        script = block(name)
        if without is not None:
            script, number = re.subn(rf"^.*{re.escape(without)}.*\n", "", script, flags=re.MULTILINE)
            assert number == 1, f"{name} has not one line with {without}"
        return self.sh(script, given)

    def value(self, statement: str, given: Given = MappingProxyType({})) -> str:
        """What the superuser gets for a statement."""
        return self.sh('psql -X -v ON_ERROR_STOP=1 -d postgres -Atc "$STATEMENT"', {**given, "STATEMENT": statement})

    def back_up(self) -> str:
        """The page's base backup; its name. Not verified where that program does not even start, as in one wheel."""
        starts = self.sh("pg_verifybackup --version || true")
        self.do("pg-backup", without=None if starts else "pg_verifybackup")
        return self.sh('ls "$BACKUPS" | grep -v key').splitlines()[-1]

    def close(self) -> None:
        """End all servers: those that `pg_ctl` has started are nobody's children."""
        for running in self.folder.glob("*/postmaster.pid"):
            self.sh('pg_ctl -D "$PGDATA" -m immediate -w stop || true', {"PGDATA": running.parent})


@contextmanager
def machine(found: Installation) -> Iterator[tuple[Cluster, Machine]]:
    """A server, and the shell beside it."""
    with Cluster(found, settings=QUICK) as cluster:
        shell = Machine(cluster)
        try:
            yield cluster, shell
        finally:
            shell.close()


class Desk:
    """The shell of Interlock's user, with its settings."""

    def __init__(self, shell: Machine, settings: Mapping[str, str]) -> None:
        path = f"{Path(sys.executable).parent}:{shell.programs}:{os.environ['PATH']}"
        self._variables = {**settings, "PATH": path, "BACKUPS": shell.variables["BACKUPS"]}

    def sh(self, script: str) -> str:
        """What a script prints; it must not fail anywhere."""
        return run(script, self._variables)

    def do(self, name: str) -> str:
        """Run a block of the page."""
        return self.sh(block(name))

    def incarnations(self) -> set[str]:
        """Which have written: `0.1` of the journals `0.1.1` and `0.1.2`."""
        return {journal.rpartition(".")[0] for journal in json.loads(self.sh("interlock db info --json"))["journals"]}


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Server]:
    """An Interlock, until the block ends."""
    server = start(folder, **settings)
    try:
        yield server
    finally:
        end(server)


# -- payments ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A payment that got a 2xx."""

    id: str
    message: bytes
    #: Before the request was sent, and after it was answered.
    began: datetime
    ended: datetime


def send(caller: Caller, message: bytes, **headers: str) -> Sent | None:
    """Send a payment. None: the database was too slow just then, and it was not acknowledged."""
    began = datetime.now(UTC)
    response = caller.submit(message, **headers)
    if response.status_code == 503:
        return None
    assert response.status_code in {200, 202}, response.text
    return Sent(response.json()["transaction_id"], message, began, datetime.now(UTC))


class Load:
    """Somebody who sends payments, each after the end of the one before."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stop = threading.Event()
        self._one_more = threading.Condition()
        self._thread = threading.Thread(target=self._run)
        self._failure: BaseException | None = None
        self.sent: list[Sent] = []

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; raises what has gone wrong."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.05):  # the processors are others' too
                one = send(self._caller, pacs008(), Prefer="wait=5")
                if one is None:
                    continue
                with self._one_more:
                    self.sent.append(one)
                    self._one_more.notify_all()
        except Exception as exc:  # noqa: BLE001 - raised where the load ends
            self._failure = exc

    def await_more(self, number: int) -> None:
        """Return when so many more were acknowledged."""
        with self._one_more:
            wanted = len(self.sent) + number
            assert self._one_more.wait_for(lambda: len(self.sent) >= wanted, PATIENCE_SECONDS), self._failure


def statuses(caller: Caller) -> dict[str, str]:
    """Status of each transaction of a caller."""
    found: dict[str, str] = {}
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        cursor = {"cursor": page["next"]} if page["next"] else {}
        page = caller.call("GET", "/v1/transactions", params={"limit": 500, **cursor}).json()
        found |= {shown["transaction_id"]: shown["status"] for shown in page["transactions"]}
    return found


def answer(caller: Caller, sent: Sent) -> bytes:
    """The answer to a payment, which must have one."""
    response = caller.get(sent.id, "/messages/outbox")
    assert response.status_code == 200, response.text
    return response.content


# -- back to a moment -------------------------------------------------------------------------------------------------


def test_a_moment_before_a_mistake_is_restored(tmp_path: Path) -> None:
    """Backed up and restored under load: all that was acknowledged before the moment is there, and nothing after."""
    key = tmp_path / "server.key"
    key.write_bytes(os.urandom(32))
    with machine(installation(MAJORS[0])) as (cluster, shell):
        shell.do("pg-archive")
        shell.do("pg-restart")
        with serving(tmp_path / "before", store=cluster.create_database("pay"), server_key=key) as server:
            desk = Desk(shell, server.settings)
            alice = server.add("alice", "rp2/read", "rp2/write")
            with alice.http, Load(alice) as load:
                load.await_more(5)
                backup = shell.back_up()
                held = send(alice, pacs008(Transfer(amount=LARGE)))
                assert held is not None
                head = desk.do("pg-keep").splitlines()[0]
                load.await_more(5)
                moment = datetime.now(UTC)
                load.await_more(5)
                before = [sent for sent in load.sent if sent.ended < moment]
                answers = {sent: answer(alice, sent) for sent in before[-5:]}
                assert alice.decide(held.id, "accept").status_code == 200
                # What all this is done for.
                cluster.query("DELETE FROM transactions WHERE id IN (SELECT id FROM transactions LIMIT 5)", "pay")
            after = [sent for sent in load.sent if sent.began > moment]
            desk.do("pg-size")
        shell.do("pg-stop")

        restored, port = shell.folder / "restored", free_port()
        # The damaged server's folder is not there, as on another machine.
        where = {"PGDATA": "/nowhere", "RESTORED": restored, "PORT": port}
        shell.do("pg-restore", {**where, "NAME": backup, "UNTIL": moment})
        store = f"postgresql://interlock@127.0.0.1:{port}/pay"
        key = shell.folder / "backups" / "server.key"
        restore = {"INTERLOCK_STORE": store, "INTERLOCK_SERVER_KEY": str(key), "HEAD": head}
        desk = Desk(shell, {**server.settings, **restore})
        assert held.id in desk.do("pg-look"), "it is in flight again"

        # From now on it is the server.
        there = {"PGDATA": restored, "PGPORT": port, "ARCHIVE": shell.folder / "archive-2"}
        shell.do("pg-archive", there)
        shell.do("pg-restart", there)
        with serving(tmp_path / "after", store=store, server_key=key) as server:
            again = Caller(alice.client_id, alice.secret, httpx.Client(base_url=server.url, timeout=20))
            with again.http:
                found = statuses(again)
                assert found.pop(held.id) == "PDNG"
                assert {found.get(sent.id) for sent in before} == {"ACSC"}
                assert {sent.id for sent in after} & found.keys() == set()
                assert {sent: answer(again, sent) for sent in answers} == answers
                # A double of what was before is known for one. What came after never was, and payments flow.
                assert again.submit(before[0].message, Prefer="wait=5").json()["status"] == "RJCT"
                assert again.submit(after[0].message, Prefer="wait=5").json()["status"] == "ACSC"
            assert desk.incarnations() == {"0.1", "0.2"}


def test_all_that_a_dead_server_had_is_restored() -> None:
    """Without a moment everything that was committed comes back, be it archived or only in the dead server's log."""
    with machine(installation(MAJORS[len(MAJORS) // 2])) as (_, shell):
        shell.do("pg-archive")
        shell.do("pg-restart")
        shell.value("CREATE TABLE kept AS SELECT 1 AS number")
        backup = shell.back_up()
        shell.value("INSERT INTO kept VALUES (2)")
        segment = shell.value("SELECT pg_walfile_name(pg_switch_wal())")
        until((shell.folder / "archive" / segment).exists, f"{segment} is archived")
        shell.value("INSERT INTO kept VALUES (3)")
        shell.sh('pg_ctl -D "$PGDATA" -m immediate -w stop')
        restored, port = shell.folder / "restored", free_port()
        where = {"RESTORED": restored, "PORT": port}
        shell.do("pg-restore", {**where, "NAME": backup}, without="recovery_target_time = ")
        found = shell.value("SELECT string_agg(number::text, ' ' ORDER BY number) FROM kept", {"PGPORT": port})
        assert found == "1 2 3"
        shell.do("pg-archive-cleanup")
        assert (shell.folder / "archive" / segment).exists()


# -- to a standby -----------------------------------------------------------------------------------------------------


def test_a_standby_takes_over(tmp_path: Path) -> None:
    """Two standbys are set up, one is promoted, the other follows it; Interlock goes on with all it acknowledged."""
    with machine(installation(MAJORS[-1])) as (cluster, shell):
        shell.value("CREATE ROLE replicator LOGIN REPLICATION")
        shell.sh('echo "host replication replicator 127.0.0.1/32 trust" >> "$PGDATA/pg_hba.conf"')
        shell.value("SELECT pg_reload_conf()")
        cluster.create_database("pay")
        standbys: dict[str, Given] = {}
        for name in ("standby_1", "standby_2"):
            standbys[name] = there = {"PGDATA": shell.folder / name, "PGPORT": free_port()}
            shell.do("pg-standby", {**there, "STANDBY": name, "PRIMARY": "127.0.0.1", "PRIMARY_PORT": cluster.port})
            # All of them are on one machine here.
            shell.sh('echo "port = $PGPORT" >> "$PGDATA/postgresql.conf"', there)
            shell.do("pg-start", there)
        shell.do("pg-synchronous")
        until(lambda: shell.do("pg-followers").count("quorum") == 2, "both standbys are in the quorum")

        hosts = ",".join(f"127.0.0.1:{port}" for port in (cluster.port, *(at["PGPORT"] for at in standbys.values())))
        store = f"postgresql://interlock@{hosts}/pay?target_session_attrs=primary"
        with serving(tmp_path / "server", store=store) as server:
            alice = server.add("alice", "rp2/read", "rp2/write")
            with alice.http:
                sent = [one for _ in range(5) if (one := send(alice, pacs008(), Prefer="wait=5"))]
                assert sent
                cluster.kill()
                received = {name: shell.do("pg-received", there) for name, there in standbys.items()}
                chosen = max(received, key=lambda name: [int(part, 16) for part in received[name].split("/")])
                (other,) = standbys.keys() - {chosen}
                primary, follower = standbys[chosen], standbys[other]
                shell.do("pg-promote", {**primary, "OTHER": other})
                assert alice.submit(pacs008()).status_code == 503  # nobody but the new primary has it
                now = {"STANDBY": other, "PRIMARY": "127.0.0.1", "PRIMARY_PORT": primary["PGPORT"]}
                shell.do("pg-follow", {**follower, **now})
                until(lambda: "quorum" in shell.do("pg-followers", primary), "the other follows")
                until(lambda: alice.submit(pacs008(), Prefer="wait=5").status_code == 200, "payments flow")
                assert {one.id for one in sent} <= statuses(alice).keys()
                assert shell.sh('psql -X -d pay -Atc "SELECT incarnation FROM region"', primary) == "2"
