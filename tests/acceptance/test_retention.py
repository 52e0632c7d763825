"""Retention as it is used: over HTTP, by the command line, in an S3-compatible store, killed, and in bulk."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import httpx
import psycopg
import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from interlock.archives import open_target
from interlock.chain import link
from interlock.cli import app
from interlock.cli.exits import Exit
from interlock.config import load
from interlock.errors import ConfigError
from interlock.retention import Done, Policy, Retention
from interlock.stores.postgres import PostgresStore
from interlock.stores.postgres.periods import PostgresPeriods
from interlock.transaction import BodyKind, Delivery
from tests.acceptance import commands
from tests.acceptance.conftest import Caller, Server, command, environment
from tests.contracts.store import AT, Writer, birth, body, new_id, settled
from tests.contracts.test_periods import ended, faults, told
from tests.messages import Transfer, fresh_uetr, pacs008
from tests.postgres import NewDatabase

NAME = "interlock-local-20260304-20260305"
DAY = timedelta(days=1)
ROUTES = """
[routes.default]
retention_days = 30
decision_above = { EUR = 1000000 }
"""
#: After so long a command that hangs is told of.
PATIENCE_SECONDS = 60


class Shell:
    """The command line over a database and a place for its archives."""

    def __init__(self, folder: Path, store: str, archive: str, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "retention.toml"
        config.write_text(ROUTES, encoding="utf-8")
        self.environment = environment(folder / "data", config=config, store=store, archive=archive, **settings)

    def run(self, *words: str, code: int = Exit.OK, error: str = "") -> list[dict[str, Any]]:
        """What an `interlock archive` command prints with --json, a value a line."""
        done = commands.run(self.environment, "archive", *words, "--json")
        assert done.exit_code == code, done.output
        assert error in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def say(self, *words: str) -> str:
        """What a command that must succeed prints for people."""
        done = commands.run(self.environment, *words)
        assert done.exit_code == Exit.OK, done.output
        return done.stdout


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """A folder for archives."""
    return str(tmp_path / "archives")


@pytest.fixture
def old(postgres_url: str) -> Iterator[PostgresStore]:
    """A store over a database with partitions around AT, which is months ago."""
    store = PostgresStore(postgres_url)
    store.maintain(AT)
    yield store
    store.close()


# -- over HTTP --------------------------------------------------------------------------------------------------------


def archived_ahead(store: str, folder: str) -> list[str]:
    """Archive as if it were forty days later, by a clock of the test's own; the names of the archives."""
    now = datetime.now(UTC) + timedelta(days=40)
    config = load({}, None, store=store, archive=folder, routes={"default": {"retention_days": 30}})
    periods = PostgresPeriods(store)
    job = Retention(periods, open_target(folder, now=lambda: now), Policy.of(config), lambda: now)
    try:
        done = list(job.run())
    finally:
        periods.close()
    assert all(isinstance(outcome, Done) for outcome in done)
    return [outcome.manifest.name for outcome in done if isinstance(outcome, Done) and outcome.manifest]


def seen(caller: Caller, transaction_id: str) -> list[Any]:
    """All that a client can read of a transaction."""
    rests = ("", "/events", "/messages/inbox", "/messages/outbox")
    return [(r.status_code, r.content) for r in (caller.get(transaction_id, rest) for rest in rests)]


@pytest.mark.stores("postgres")
def test_clients_hear_where_their_old_transactions_are(
    servers: Callable[..., Server], postgres_url: str, archive: str, tmp_path: Path
) -> None:
    """410 and the archive's name while it is archived; all as before, byte for byte, while it is restored."""
    given: dict[str, Any] = {"routes": ROUTES, "store": postgres_url, "archive": archive}
    server = servers("one", **given)
    alice = server.add("alice", "rp2/read", "rp2/write")
    with alice.http:
        message, key, ids = at_work(alice)
        before = [seen(alice, id_) for id_ in ids]
        assert {status for parts in before for status, _ in parts} == {200}
    assert server.stop() == 0

    shell = Shell(tmp_path, postgres_url, archive)
    names = archived_ahead(postgres_url, archive)
    again = servers("two", **given, server_key=server.data / "server.key")
    alice = replace(alice, http=httpx.Client(base_url=again.url, timeout=20))
    with alice.http:
        for id_ in ids:
            response = alice.get(id_)
            problem = response.json()
            assert (response.status_code, problem["code"]) == (410, "archived")
            assert any(f"in the archive {name}" in problem["detail"] for name in names)
            assert alice.get(id_, "/messages/outbox").status_code == 410
            outbox = alice.outbox(id_)
            assert (outbox.status_code, outbox.json()["error_code"]) == (400, "MISS"), "as the reference says it"
        assert alice.call("GET", "/v1/transactions").json()["transactions"] == []
        assert alice.submit(message, prefer="wait=5").json()["status"] == "RJCT", "duplicates are refused as before"
        assert "history holds" in shell.say("audit", "verify")

        # The server has made today's partition anew; it goes likewise, under a name of its own.
        assert archived_ahead(postgres_url, archive) == [f"{names[-1]}-2"]
        for name in names:
            shell.run("restore", name)
        assert [seen(alice, id_) for id_ in ids] == before
        found = alice.call("GET", "/v1/transactions", params={"uetr": key}).json()["transactions"]
        assert set(ids[:2]) <= {transaction["transaction_id"] for transaction in found}
        assert "history holds" in shell.say("audit", "verify")
        for name in names:
            shell.run("drop", name)
        assert {alice.get(id_).status_code for id_ in ids} == {410}
        assert "history holds" in shell.say("audit", "verify")


def at_work(alice: Caller) -> tuple[bytes, str, list[str]]:
    """A day's work: a payment, its duplicate, one cancelled, and that one driven again; all answers fetched."""
    key = fresh_uetr()
    message = pacs008(Transfer(uetr=key))
    ids = [alice.submit(message, prefer="wait=5").json()["transaction_id"] for _ in range(2)]
    ids.append(alice.submit(pacs008(Transfer(amount="2000000.00"))).json()["transaction_id"])
    assert alice.decide(ids[2], "cancel", reason="DS02", by="anna").status_code == 200
    ids.append(alice.decide(ids[2], "redrive", by="anna").json()["transaction_id"])
    assert alice.decide(ids[3], "accept", by="anna").status_code == 200
    assert {alice.outbox(id_).status_code for id_ in ids} == {200}
    # That they were fetched is noted with the next commit.
    while {alice.get(id_).json()["delivery"] for id_ in ids} != {"confirmed"}:
        time.sleep(0.05)
    return message, key, ids


@pytest.mark.stores("postgres")
def test_workers_archive_by_themselves(
    servers: Callable[..., Server], old: PostgresStore, postgres_url: str, archive: str, tmp_path: Path
) -> None:
    """What has expired leaves soon after a worker starts, once, whichever of several it is; an API process waits."""
    writer = Writer(old)
    transactions = ended(writer)
    old.release(writer.token)
    given: dict[str, Any] = {"routes": ROUTES, "store": postgres_url, "archive": archive, "log_format": "json"}
    first = servers("api", role="api", **given)
    key = first.data / "server.key"
    workers = [servers(f"worker-{number}", role="worker", server_key=key, **given) for number in range(2)]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while old.archived(transactions[0].id) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    shell = Shell(tmp_path, postgres_url, archive)
    assert [listed["state"] for listed in shell.run("list")] == ["dropped"]
    assert shell.run("verify", "--all")[0]["ok"]
    assert all(worker.stop() == 0 for worker in workers)
    assert NAME not in first.log.read_text("utf-8")
    assert sum(worker.log.read_text("utf-8").count('"event": "archived"') for worker in workers) == 1


def test_an_altered_gap_fails_the_audit(old: PostgresStore, postgres_url: str, archive: str, tmp_path: Path) -> None:
    """What is left of archived events is part of what `interlock audit verify` proves."""
    ended(Writer(old))
    shell = Shell(tmp_path, postgres_url, archive)
    shell.run("run")
    assert "history holds" in shell.say("audit", "verify")
    with psycopg.connect(postgres_url) as db:
        db.execute("UPDATE gaps SET hash = sha256(hash)")
    done = commands.run(shell.environment, "audit", "verify")
    assert done.exit_code == Exit.FAILED, done.stdout
    assert "journal 0.1.1" in done.stderr


# -- by the command line ----------------------------------------------------------------------------------------------


def test_the_command_from_run_to_drop(old: PostgresStore, postgres_url: str, archive: str, tmp_path: Path) -> None:
    """Each of its parts says what it did, for machines and for people, and ends as the table of exit codes says."""
    writer = Writer(old)
    transactions = ended(writer)
    before = told(old, transactions)
    shell = Shell(tmp_path, postgres_url, archive)
    assert shell.run("list") == []
    dry = shell.run("run", "--dry-run")
    assert {"period": "p20260304", "begins": "2026-03-04T00:00:00+00:00", "ends": "2026-03-05T00:00:00+00:00"} in dry
    assert told(old, transactions) == before

    done = [outcome for outcome in shell.run("run") if outcome["archive"]]
    assert [outcome["archive"] for outcome in done] == [NAME]
    assert shell.run("run") == []
    (listed,) = shell.run("list")
    assert (listed["name"], listed["state"], listed["encrypted"]) == (NAME, "dropped", "no")
    assert (listed["rows"], listed["bytes"]) == (done[0]["rows"], done[0]["bytes"])
    assert shell.run("verify", "--all") == shell.run("verify", NAME) == [{"name": NAME, "ok": True, "faults": []}]
    assert "dropped" in shell.say("archive", "list")
    assert f"{NAME}  is whole" in shell.say("archive", "verify", NAME)
    assert "nothing has expired" in shell.say("archive", "run")

    assert shell.run("restore", NAME)[0]["transactions"] == len(transactions)
    assert told(old, transactions) == before
    assert shell.run("list")[0]["state"] == "restored"
    shell.run("restore", NAME, code=Exit.CONFLICT, error="was restored at")
    assert f"{NAME}  " in shell.say("archive", "drop", NAME)
    assert shell.run("list")[0]["state"] == "dropped"

    shell.run("drop", NAME, code=Exit.CONFLICT, error="is not restored")
    shell.run("restore", "nothing", code=Exit.NOT_FOUND, error="has dropped no rows for an archive nothing")
    shell.run("verify", code=Exit.INVALID, error="name archives, or take --all")
    (Path(archive) / f"{NAME}.json").unlink()
    assert shell.run("verify", "--all", code=Exit.FAILED)[0]["ok"] is False
    missing, leftover = shell.run("list", code=Exit.FAILED)
    assert (missing["state"], leftover["state"]) == ("missing", "leftover")
    shell.run("restore", NAME, code=Exit.NOT_FOUND, error="there is no manifest")


def test_a_period_that_must_stay_is_told_of(
    old: PostgresStore, postgres_url: str, archive: str, tmp_path: Path
) -> None:
    """Exit code 1, and which one and why; the others go."""
    writer = Writer(old)
    ended(writer)
    writer.won(birth(at=AT - DAY, sla=timedelta(days=9000)))
    shell = Shell(tmp_path, postgres_url, archive)
    outcomes = shell.run("run", code=Exit.FAILED)
    assert [o["error"] for o in outcomes if "error" in o] == [
        "1 transactions of p20260303 are without an end; it stays"
    ]
    assert NAME in [outcome["archive"] for outcome in outcomes]


def test_encrypted_archives_by_the_settings(
    old: PostgresStore, postgres_url: str, archive: str, tmp_path: Path
) -> None:
    """Keys are files; what was encrypted with a former one is read with it."""
    transactions = ended(Writer(old))
    before = told(old, transactions)
    first, second = tmp_path / "first.key", tmp_path / "second.key"
    first.write_bytes(os.urandom(32))
    second.write_bytes(os.urandom(32))
    Shell(tmp_path, postgres_url, archive, archive_key=first).run("run")
    (stored,) = Path(archive).glob("*.sealed")
    assert b"Document" not in stored.read_bytes()
    without = Shell(tmp_path, postgres_url, archive)
    assert without.run("list")[0]["encrypted"] != "no"
    without.run("restore", NAME, code=Exit.CONFIG, error="encrypted with the key")
    assert without.run("verify", NAME, code=Exit.FAILED)[0]["faults"] != []
    later = Shell(tmp_path, postgres_url, archive, archive_key=second, archive_old_keys=f"{first}:{second}")
    later.run("restore", NAME)
    assert told(old, transactions) == before


def test_archives_need_a_place_and_a_database(tmp_path: Path) -> None:
    """Settings that cannot work are refused, and it is said what is missing."""
    routes = {"default": {"retention_days": 30}}
    url = "postgresql://x@localhost/x"
    refused: list[tuple[dict[str, Any], str]] = [
        ({"routes": routes}, "needs `archive`, a place for what leaves the database; and PostgreSQL"),
        ({"routes": routes, "store": url}, "routes.default.retention_days needs `archive`"),
        ({"archive": "x"}, "archive needs PostgreSQL"),
        ({"archive": "x", "store": url, "archive_lock_days": 3}, "archive_lock_days needs `archive` to be s3://"),
        ({"archive_key": "x"}, "say nothing without `archive`"),
        ({"keys_retention_days": 90, "store": url}, "say nothing without `archive`"),
        ({"archive": "x", "store": url, "routes": {"a": {"retention_days": 0}}}, "greater than or equal to 1"),
    ]
    for settings, said in refused:
        with pytest.raises(ConfigError, match=said):
            load({}, None, **settings)
    routed = load({}, None, store=url, archive="x", routes=routes).choice_of_routes()
    assert routed.retention("anything") == timedelta(days=30)
    done = CliRunner().invoke(app, ["archive", "list", "--data", str(tmp_path)])
    assert done.exit_code == Exit.CONFIG
    assert "one SQLite file keeps everything" in done.stderr
    done = CliRunner().invoke(app, ["archive", "list", "--data", str(tmp_path)], env={"INTERLOCK_STORE": url})
    assert done.exit_code == Exit.CONFIG
    assert "archive is not set" in done.stderr


# -- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_a_job_that_is_killed_again_and_again_gets_there(
    old: PostgresStore, postgres_url: str, archive: str, tmp_path: Path
) -> None:
    """SIGKILL at random moments: at each of them all rows of a day are in the database, or in a good archive."""
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    chance = random.Random(seed)
    writer = Writer(old)
    days = [AT + DAY * number for number in range(3)]
    of_day = {at: ended(writer, 400, at) for at in days}
    before = {at: told(old, transactions) for at, transactions in of_day.items()}
    shell = Shell(tmp_path, postgres_url, archive)
    killed = 0
    for _ in range(60):
        process = subprocess.Popen(
            command("archive", "run"), env=shell.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            # The longer it takes to be killed, the further it gets; the first ones do not get far.
            code = process.wait(chance.uniform(0.3, 0.8 + killed / 3))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        else:
            # A server process whose client was killed holds its lock until it notices.
            assert code in (Exit.OK, Exit.CONFLICT), f"seed {seed}"
            if code == Exit.OK:
                break
        for at, transactions in of_day.items():
            gone = {old.archived(transaction.id) for transaction in transactions}
            assert gone == {None} or None not in gone, f"seed {seed}"
            if gone == {None}:
                assert told(old, transactions[:3]) == before[at][:3], f"seed {seed}"
        assert faults(old) == [], f"seed {seed}"
    else:
        pytest.fail(f"it did not get there; seed {seed}")
    assert killed > 0
    assert all(found["ok"] for found in shell.run("verify", "--all") if found["name"].count("-") == 3)
    names = [found["name"] for found in shell.run("list") if found["state"] == "dropped"]
    assert len(names) == 3
    for name in names:
        shell.run("restore", name)
    assert {at: told(old, transactions) for at, transactions in of_day.items()} == before
    assert faults(old) == []


# -- in an S3-compatible store ----------------------------------------------------------------------------------------


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, str]]:
    """Such a store in this process, and what an operator sets for it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    surroundings = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
    }
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    yield surroundings
    store.stop()


def test_archives_in_s3_under_lock(
    s3: Mapping[str, str], old: PostgresStore, postgres_url: str, tmp_path: Path
) -> None:
    """There and back, encrypted; the store refuses to delete what was written for as long as was set."""
    client: Any = boto3.client("s3")
    place = {"LocationConstraint": "eu-central-1"}
    client.create_bucket(Bucket="old-payments", CreateBucketConfiguration=place, ObjectLockEnabledForBucket=True)
    transactions = ended(Writer(old))
    before = told(old, transactions)
    key = tmp_path / "archive.key"
    key.write_bytes(os.urandom(32))
    shell = Shell(tmp_path, postgres_url, "s3://old-payments/region", archive_key=key, archive_lock_days=90)
    shell.environment.update(s3)
    shell.run("run")
    objects = [item["Key"] for item in client.list_objects_v2(Bucket="old-payments")["Contents"]]
    assert sorted(name.rpartition(".")[2] for name in objects) == ["json", "sealed"]
    for name in objects:
        head = client.head_object(Bucket="old-payments", Key=name)
        assert head["ObjectLockMode"] == "COMPLIANCE"
        assert head["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(days=89)
    assert shell.run("verify", "--all") == [{"name": NAME, "ok": True, "faults": []}]
    shell.run("restore", NAME)
    assert told(old, transactions) == before
    shell.run("drop", NAME)
    assert shell.run("list")[0]["state"] == "dropped"


# -- in bulk ----------------------------------------------------------------------------------------------------------

#: Events of a transaction that is received and settles.
EVENTS = 4


def filled(url: str, number: int, at: datetime) -> int:
    """A period of many transactions, as many times the same one; how many rows it has."""
    store = PostgresStore(url)
    store.maintain(at)
    writer = Writer(store)
    inbox, outbox = os.urandom(1500), os.urandom(1200)
    (first,) = writer.won(birth(at=at, bodies=(body(inbox),)))
    answer = {"bodies": (body(outbox, BodyKind.OUTBOX),), "deliveries": (Delivery(channel="outbox"),)}
    writer.won(settled(first, at, **answer))
    store.release(writer.token)
    store.close()
    with psycopg.connect(url) as db:
        _multiply(db, first.id, [new_id(at) for _ in range(number)])
    return number * (1 + EVENTS + 2 + 1 + 1 + 2)


_OTHERS = """
INSERT INTO bodies SELECT f.id, kind, writer, seq, epoch, definition, digest, content FROM bodies m, fresh f
WHERE m.tx = %(tx)s;
INSERT INTO payments SELECT f.id, ordinal, region, instruction_id, end_to_end_id, transaction_id, uetr, amount,
    currency, status, reason FROM payments m, fresh f WHERE m.tx = %(tx)s;
INSERT INTO deliveries SELECT f.id, channel, region, state, at FROM deliveries m, fresh f WHERE m.tx = %(tx)s;
CREATE TEMPORARY TABLE one AS SELECT * FROM transactions WHERE id = %(tx)s;
CREATE TEMPORARY TABLE many AS SELECT one.* FROM one, fresh;
UPDATE many SET id = f.id FROM (SELECT id, row_number() OVER () AS place FROM fresh) f,
    (SELECT ctid, row_number() OVER () AS place FROM many) m WHERE m.place = f.place AND many.ctid = m.ctid;
INSERT INTO transactions SELECT * FROM many;
"""


def _multiply(db: psycopg.Connection[Any], model: UUID, fresh: list[UUID]) -> None:
    """Write new transactions that are all as the model."""
    rows = db.execute("SELECT writer, journal, content FROM events WHERE tx = %s ORDER BY seq", (model,))
    events = rows.fetchall()
    assert len(events) == EVENTS
    ((seq, hash_),) = db.execute("SELECT chain_seq, chain_hash FROM journals").fetchall()
    db.execute("CREATE TEMPORARY TABLE fresh (id uuid)")
    with db.cursor().copy("COPY fresh FROM STDIN") as copy:
        for id_ in fresh:
            copy.write_row((id_,))
    for statement in _OTHERS.split(";")[:-1]:
        db.execute(statement.encode(), {"tx": model})
    with db.cursor().copy("COPY events FROM STDIN") as copy:
        for id_ in fresh:
            for place, (writer, journal, content) in enumerate(events, 1):
                own = content.replace(model.hex.encode(), id_.hex.encode())
                seq, previous, hash_ = seq + 1, hash_, link(hash_, own)
                copy.write_row((id_, place, 1, writer, journal, seq, own, previous, hash_))
    db.execute("UPDATE journals SET chain_seq = %s, chain_hash = %s", (seq, hash_))
    with db.cursor().copy("COPY keys FROM STDIN") as copy:
        for id_ in fresh:
            digest = sha256(id_.bytes).hexdigest()
            copy.write_row(("c_alice", "msgid", digest, UUID(int=0), 0, id_, 0))
            copy.write_row(("c_alice", "e2e", digest, id_, 0, id_, 1))


def peak(shell: Shell, *words: str) -> int:
    """The most memory that a command takes, in kilobytes."""
    most = 0
    with subprocess.Popen(command("archive", *words), env=shell.environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            # Not by getrusage: that knows the peak of whoever has started the process, too.
            with suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
                found = re.search(r"VmHWM:\s*(\d+) kB", status)
                most = int(found[1]) if found else most
            time.sleep(0.01)
    assert process.returncode == 0, words
    return most


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(600)
def test_a_large_period_takes_no_more_memory_than_a_small_one(new_database: NewDatabase, tmp_path: Path) -> None:
    """60,000 events and all that belongs to them go and come back in the memory that a hundred take."""
    peaks: dict[str, list[int]] = {}
    for size, number in (("small", 25), ("large", 15_000)):
        url = new_database()
        rows = filled(url, number, AT)
        shell = Shell(tmp_path / size, url, str(tmp_path / size / "archives"))
        for words in (("run",), ("verify", NAME), ("restore", NAME), ("drop", NAME)):
            began = time.monotonic()
            peaks.setdefault(words[0], []).append(peak(shell, *words))
            sys.stdout.write(f"{size} {words[0]}: {rows / (time.monotonic() - began):,.0f} rows a second\n")
    more = {word: large - small for word, (small, large) in peaks.items()}
    sys.stdout.write(f"kilobytes more: {more}\n")
    # What is as large as one table of the large period comes to 35 MB and more.
    assert max(more.values()) < 25_000, peaks
