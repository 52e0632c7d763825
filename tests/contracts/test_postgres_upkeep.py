"""`interlock db` over PostgreSQL: what is there, whether it is sound, its schema, and what it leaves to others."""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from interlock.cli import app
from interlock.cli.exits import Exit
from interlock.demo.postgres import Cluster
from interlock.demo.postgres.templates import SUPERUSER
from interlock.lifecycle import EventKind
from interlock.stores.postgres import PostgresStore, schema
from interlock.stores.statements import Migration, migrations
from tests.contracts.store import BOB, Writer, a_client, birth, step
from tests.contracts.tampering import PostgresTarget

Run = Callable[..., Result]
NEWEST = migrations("postgres")[-1].number


@pytest.fixture
def run(postgres_url: str, tmp_path: Path) -> Run:
    """A command over a new, empty database."""

    def run(*words: str, url: str = postgres_url, **variables: str) -> Result:
        environment = {"INTERLOCK_STORE": url, **variables}
        return CliRunner().invoke(app, [*words, "--data", str(tmp_path / "data")], env=environment)

    return run


@pytest.fixture
def url(postgres_url: str) -> str:
    """A database with the present schema."""
    PostgresStore(postgres_url).close()
    return postgres_url


def tables(url: str) -> int:
    """How many there are."""
    with psycopg.connect(url) as db:
        ((number,),) = db.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    return int(number)


LOOKING = [("db", "check"), ("db", "info"), ("audit", "head"), ("audit", "verify")]


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_looking_makes_nothing(run: Run, postgres_url: str, command: tuple[str, str]) -> None:
    """A database without our tables is no store, and stays so."""
    done = run(*command)
    assert done.exit_code == Exit.NOT_FOUND
    assert "error: there is no store in the database test_" in done.stderr
    assert tables(postgres_url) == 0


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """This program is one that knows one migration more."""
    more = Migration(NEWEST + 1, "more", "CREATE TABLE more (one integer)")
    monkeypatch.setattr(schema, "migrations", lambda engine: (*migrations(engine), more))


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_looking_does_not_migrate(run: Run, url: str, request: pytest.FixtureRequest, command: tuple[str, str]) -> None:
    """What an older Interlock has made is left as it is, and it is said what to do."""
    before = tables(url)
    request.getfixturevalue("next_version")
    done = run(*command)
    assert done.exit_code == Exit.CONFIG
    assert "run `interlock db migrate`" in done.stderr
    assert tables(url) == before


def test_migrate_says_where_it_stands(run: Run) -> None:
    """From nothing to the newest schema; a second time there is nothing to do."""
    assert run("db", "migrate").stdout == f"schema 0 is now schema {NEWEST}\n"
    assert run("db", "migrate").stdout == f"schema {NEWEST}\n"
    assert run("db", "check").exit_code == Exit.OK


def test_a_newer_schema_is_reached_where_servers_may_not(run: Run, url: str, request: pytest.FixtureRequest) -> None:
    """With `migrate = manual` the command alone migrates; whoever knows the schema before it still reads the store."""
    request.getfixturevalue("next_version")
    assert run("db", "migrate", INTERLOCK_MIGRATE="manual").stdout == f"schema {NEWEST} is now schema {NEWEST + 1}\n"
    request.getfixturevalue("monkeypatch").undo()
    assert run("db", "migrate").stdout == f"schema {NEWEST + 1}\n"
    assert json.loads(run("db", "info", "--json").stdout)["schema"] == NEWEST + 1
    PostgresTarget(url).change("UPDATE schema_migrations SET oldest = number WHERE number > ?", NEWEST)
    for command in (("db", "migrate"), *LOOKING):
        done = run(*command)
        assert done.exit_code == Exit.CONFIG
        assert f"needs an Interlock that knows schema {NEWEST + 1} or later" in done.stderr


def test_a_user_who_may_not_is_told(run: Run, postgres: Cluster, postgres_url: str) -> None:
    """What is missing is said as a setting's fault, with what to do about it."""
    name = postgres_url.rpartition("/")[2]
    postgres.query(f"ALTER DATABASE {name} OWNER TO {SUPERUSER}")
    done = run("db", "migrate")
    assert done.exit_code == Exit.CONFIG
    assert "GRANT CREATE ON SCHEMA public" in done.stderr


def test_info_shows_what_is_there(run: Run, url: str) -> None:
    """Server, database, size, schema, partitions, journals, and what is in flight; for people and for machines."""
    with closing(PostgresStore(url)) as one, closing(PostgresStore(url)) as other:
        one.maintain(datetime.now(UTC))
        writer = Writer(one)
        held, _ = writer.won(birth(), birth())
        Writer(other).won(step(held, EventKind.HELD_FOR_DECISION), birth(BOB))
        writer.commit(a_client())
        latest = one.latest()
    assert latest is not None
    shown = json.loads(run("db", "info", "--json").stdout)
    with psycopg.connect(url) as db:
        assert shown.pop("host") == f"{db.info.host}:{db.info.port}"
        assert shown.pop("database") == db.info.dbname
        assert int(shown.pop("postgresql").partition(".")[0]) == db.info.server_version // 10_000
    assert shown.pop("bytes") > 1_000_000
    partitions = shown.pop("partitions")
    assert partitions["number"] > 7
    assert partitions["oldest"] < datetime.now(UTC).isoformat() < partitions["newest"]
    assert shown == {
        "schema": NEWEST,
        "journals": {"0.1.1": 4, "0.1.2": 3},
        "events": 7,
        "latest": latest.isoformat(),
        "clients": 1,
        "in_flight": {"ACTC": 2, "PDNG (decision)": 1},
    }
    told = run("db", "info").stdout
    assert "journals    0.1.1: 4, 0.1.2: 3" in told
    assert "in flight   ACTC: 2, PDNG (decision): 1" in told


def test_a_password_is_never_shown(run: Run, postgres: Cluster, url: str) -> None:
    """Neither where all is well, nor where there is no such database or no server."""
    name = url.rpartition("/")[2]
    good = postgres.url(name, SUPERUSER)
    password = good.partition("@")[0].rpartition(":")[2]
    assert len(password) > 8
    done = [run(*command, url=good) for command in LOOKING]
    assert [one.exit_code for one in done] == [Exit.OK] * len(LOOKING)
    for bad in (f"{good}_gone", good.replace(f":{postgres.port}/", ":1/")):
        for command in (("db", "migrate"), *LOOKING):
            done.append(run(*command, url=bad))
            assert done[-1].exit_code == Exit.UNAVAILABLE
    assert not any(password in one.stdout + one.stderr for one in done)


def test_check_names_an_index_that_is_not_valid(run: Run, postgres: Cluster, url: str) -> None:
    """As a build that was broken off leaves it; exit code 1."""
    assert run("db", "check").stdout == "the database is sound\n"
    name = url.rpartition("/")[2]
    postgres.query("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'keys_pkey'::regclass", name)
    done = run("db", "check", "--json")
    assert done.exit_code == Exit.FAILED
    (fault,) = json.loads(done.stdout)["faults"]
    assert "keys_pkey" in fault


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_backups_are_left_to_better_tools(run: Run, url: str, tmp_path: Path, command: str) -> None:
    """Refused, with what is to be used instead; nothing is written."""
    done = run("db", command, str(tmp_path / "backup.db"))
    assert done.exit_code == Exit.INVALID
    assert "pg_basebackup" in done.stderr
    assert "docs/postgres-operations.md" in done.stderr
    assert not (tmp_path / "backup.db").exists()
