"""PostgreSQL is stopped, killed, paused, promoted, its connections are cut: what was acknowledged stays, once.

The tests have a PostgreSQL of their own, which syncs to disk, and two servers that live through all that is done to it.
"""

import asyncio
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from interlock import chain
from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import Installation
from interlock.errors import OutcomeUnknown, StoreUnavailable
from interlock.journal import Journal
from interlock.ports import Outcome, Won
from interlock.stores.postgres import PostgresStore
from tests.acceptance.fleet import Callers, Fleet, Loaded, Told, fleet, play, problem, token_of, until
from tests.acceptance.torture import Audit, Log, Reply, Wire, sha, until_all_ended
from tests.contracts.store import birth
from tests.messages import Transfer, fresh, pacs008

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("postgres_installation"),
    pytest.mark.xdist_group("database loss"),  # the servers are shared
]

ROUTES = """
[routes.default]
decision_above = { EUR = 1000000 }
"""
#: How soon a caller is told that the database is away, and what a busy machine may take longer.
TOLD_SECONDS, SLACK_SECONDS = 1.0, 0.5
#: How soon all is well again once the database is back.
BACK_SECONDS = 6.0
#: Connections of one process: one writes, two read for its callers and one for itself, one asks whether the database is
#: there.
CONNECTIONS_MAX = 5


@pytest.fixture(scope="module")
def cluster(postgres_installation: Installation) -> Iterator[Cluster]:
    """A PostgreSQL that each test leaves as it was."""
    with Cluster(postgres_installation) as own:
        yield own


class House:
    """A database, servers over it, callers, and a log of what they were told."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.client = fleet.add_client("c")
        #: Sends what is in the log, and nothing else.
        self.sender = fleet.add_client("sender")
        self.servers = fleet.start("one", "two")
        self.log = Log(folder / "client.log")
        self.told = Told()
        self._audited = 0

    def load(self, callers: int = 8) -> Loaded:
        """Callers, as long as it is entered."""
        self.told = Told()
        return Loaded(self.sender, self.servers, self.log, self.told, callers)

    def audit(self, *, url: str | None = None) -> None:
        """Everything is as it was told: by SQL, and as its sender sees it."""
        where = url or self.fleet.url
        until_all_ended(where)
        assert Audit(where, self.log.entries).faults == []
        play(self._read)

    async def _read(self, callers: Callers) -> None:
        """What was acknowledged is listed, each once and ended; what is new since the last look is read."""
        acked = {entry["id"]: entry["sha"] for entry in self.log.of("acked")}
        fresh = list(acked)[self._audited :]
        self._audited = len(acked)
        (way,) = await callers.of(self.sender, self.servers[0])
        listed: list[str] = []
        cursor = ""
        while True:
            page = (await way.call("GET", f"/v1/transactions?limit=500{cursor}")).json
            listed += [one["transaction_id"] for one in page["transactions"]]
            assert {one["status"] for one in page["transactions"]} <= {"ACSC"}
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert sorted(listed) == sorted(acked)
        for id_ in fresh[::5]:
            reply = await way.call("GET", f"/v1/transactions/{id_}/messages/inbox")
            assert (reply.status, sha(reply.body)) == (200, acked[id_]), reply
            assert (await way.call("GET", f"/v1/transactions/{id_}/messages/outbox")).status == 200


@pytest.fixture(scope="module")
def house(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two servers over a database, which live through everything that is done to it."""
    folder = tmp_path_factory.mktemp("house")
    with fleet(folder, cluster.create_database("pay"), ROUTES) as made:
        house = House(made, folder)
        yield house
        for server in house.servers:
            assert server.terminate() == 0
        house.log.close()


# -- the database goes away -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["stop", "kill", "pause"])
def test_while_the_database_is_away_callers_are_told_so(cluster: Cluster, house: House, harm: str) -> None:
    """503 with Retry-After within a second, each of them; back within seconds, by itself; nothing lost or doubled."""
    hurt: Callable[[], None] = {"stop": cluster.stop, "kill": cluster.kill, "pause": cluster.pause}[harm]
    heal = cluster.resume if harm == "pause" else cluster.start

    async def scenario(_: Callers) -> None:
        async with house.load() as load:
            await until(lambda: load.acked > 50)
            await asyncio.to_thread(hurt)
            before = load.acked
            await asyncio.sleep(4)
            assert load.acked <= before + 8, "each caller had at most one that was committed before"
            refused = sum(number for code, number in house.told.counts.items() if code.startswith(("store", "outcome")))
            assert refused > 20, "they are told, again and again"
            await asyncio.to_thread(heal)
            back, before = time.monotonic(), load.acked
            await until(lambda: load.acked > before)
            assert time.monotonic() - back < BACK_SECONDS
            await until(lambda: load.acked > before + 100)

    play(scenario)
    assert set(house.told.counts) <= {"200", "store_unavailable", "outcome_unknown"}, house.told.counts
    refusals = sorted(took for took, status in house.told.times if status == 503)
    assert refusals[len(refusals) * 9 // 10] < TOLD_SECONDS, refusals[-10:]
    assert refusals[-1] < TOLD_SECONDS + SLACK_SECONDS, refusals[-10:]
    house.audit()


def test_every_call_is_told_within_a_second(cluster: Cluster, house: House) -> None:
    """While the database hangs: whatever is called, also by those whose token nobody has seen yet; probes are right."""

    async def scenario(callers: Callers) -> None:
        (server, _) = house.servers
        (way,) = await callers.of(house.client, server)
        id_ = (await way.call("POST", "/v1/messages", pacs008())).json["transaction_id"]
        issued = (await way.call("GET", "/uuid")).json["transaction_id"]
        unseen = await token_of(house.client, [server])
        await asyncio.to_thread(cluster.pause)
        try:
            calls: dict[str, Callable[[Wire], Awaitable[Reply]]] = {
                "submit": lambda wire: wire.call("POST", "/v1/messages", pacs008()),
                "submit and wait": lambda wire: wire.call("POST", "/v1/messages", pacs008(), prefer="wait=10"),
                "list": lambda wire: wire.call("GET", "/v1/transactions"),
                "unknown": lambda wire: wire.call("GET", f"/v1/transactions/{issued[:-4]}0000"),
                "events": lambda wire: wire.call("GET", f"/v1/transactions/{id_}/events"),
                "uuid": lambda wire: wire.call("GET", "/uuid"),
                "inbox": lambda wire: wire.call("POST", "/inbox", pacs008(), x_transaction_id=issued),
                "ready": lambda wire: wire.call("GET", "/readyz"),
                "token": lambda _: house.client.login(server),
            }
            for _ in range(3):
                for token in (way.token, unseen):
                    wires = [callers.to(server, token) for _ in calls]
                    timed = [_timed(call(wire)) for call, wire in zip(calls.values(), wires, strict=True)]
                    for name, (took, reply) in zip(calls, await asyncio.gather(*timed), strict=True):
                        assert took < TOLD_SECONDS + SLACK_SECONDS, (name, took)
                        # Who calls is known for two seconds; to give a token costs no more than that.
                        if name != "token" or reply.status != 200:
                            assert reply.status == 503, (name, reply)
                            assert int(reply.headers["retry-after"]) >= 1, (name, reply)
            assert (await way.call("GET", "/healthz")).status == 200
        finally:
            await asyncio.to_thread(cluster.resume)

        async def ready() -> bool:
            return (await way.call("GET", "/readyz")).status == 200

        assert await until(ready) < BACK_SECONDS
        assert (await way.call("POST", "/v1/messages", pacs008())).status == 200

    play(scenario)


async def _timed(call: Awaitable[Reply]) -> tuple[float, Reply]:
    began = time.monotonic()
    reply = await call
    return time.monotonic() - began, reply


def test_who_waits_for_an_end_is_not_told_that_nothing_was_kept(cluster: Cluster, house: House) -> None:
    """A message that was taken stays taken: that its end cannot be looked up now is no refusal of it."""

    async def scenario(callers: Callers) -> None:
        (way, other) = await callers.of(house.client, *house.servers)
        content = pacs008(Transfer(amount="1000000.01"))
        waiting = asyncio.create_task(way.call("POST", "/v1/messages", content, prefer="wait=4"))
        held: list[str] = []

        async def taken() -> bool:
            found = (await other.call("GET", "/v1/transactions?status=PDNG")).json["transactions"]
            held[:] = [one["transaction_id"] for one in found]
            return bool(held)

        await until(taken)
        await asyncio.sleep(0.2)  # until it waits
        await asyncio.to_thread(cluster.kill)
        reply = await waiting
        assert (reply.status, reply.json["status"]) == (202, "PDNG"), reply
        assert [reply.json["transaction_id"]] == held
        await asyncio.to_thread(cluster.start)
        path = f"/v1/transactions/{held[0]}/decisions"

        async def decided() -> bool:
            reply = await way.call("POST", path, b'{"decision":"cancel"}', content_type="application/json")
            return reply.status == 200

        assert await until(decided) < BACK_SECONDS

    play(scenario)


@pytest.mark.parametrize("harm", ["kill", "pause"])
def test_a_server_ends_in_order_though_the_database_does_not_answer(cluster: Cluster, house: House, harm: str) -> None:
    """It has nothing to wait for that could come: SIGTERM ends it well before an orchestrator would kill it."""
    (server,) = house.fleet.start("mortal")

    async def scenario(callers: Callers) -> None:
        (way,) = await callers.of(house.client, server)
        assert (await way.call("POST", "/v1/messages", pacs008())).json["status"] == "ACSC"
        await asyncio.to_thread(cluster.kill if harm == "kill" else cluster.pause)
        try:
            problem(await way.call("POST", "/v1/messages", pacs008()), 503, "store_unavailable", "outcome_unknown")
            began = time.monotonic()
            assert await asyncio.to_thread(server.terminate) == 0
            assert time.monotonic() - began < 20
        finally:
            await asyncio.to_thread(cluster.start if harm == "kill" else cluster.resume)

    play(scenario)


def test_connections_cut_at_random_are_bridged(cluster: Cluster, house: House) -> None:
    """`pg_terminate_backend` of one after the other under load, in whatever they are doing: nothing lost or doubled."""
    luck = random.Random(5)

    def cut() -> int:
        return _cut(cluster, [pid for (pid,) in cluster.query(_OURS) if luck.random() < 0.3])

    async def scenario(_: Callers) -> int:
        number = 0
        async with house.load() as load:
            await until(lambda: load.acked > 50)
            end = time.monotonic() + 10
            while time.monotonic() < end:
                number += await asyncio.to_thread(cut)
                await asyncio.sleep(luck.uniform(0.01, 0.3))
            before = load.acked
            await until(lambda: load.acked > before + 50)
        return number

    assert play(scenario) > 30
    assert set(house.told.counts) <= {"200", "store_unavailable", "outcome_unknown"}, house.told.counts
    house.audit()


#: Connections of Interlock's.
_OURS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'interlock%'"


def _cut(cluster: Cluster, pids: Sequence[int]) -> int:
    """End these connections; how many there were."""
    return sum(cluster.query(f"SELECT pg_terminate_backend({pid})")[0][0] for pid in pids)


def _cut_all(cluster: Cluster) -> None:
    _cut(cluster, [pid for (pid,) in cluster.query(_OURS)])


def test_connections_are_few(cluster: Cluster, house: House) -> None:
    """No more for each process than it has jobs for, whatever the load, and no more after the database was away."""
    most = 0

    def count() -> None:
        nonlocal most
        most = max(most, len(cluster.query(_OURS)))

    async def scenario(_: Callers) -> None:
        async with house.load(callers=24) as load:
            for _round in range(3):
                before = load.acked
                await until(lambda before=before: load.acked > before + 50)
                for _look in range(20):
                    await asyncio.to_thread(count)
                await asyncio.to_thread(cluster.kill)
                await asyncio.to_thread(cluster.start)

    play(scenario)
    assert 0 < most <= CONNECTIONS_MAX * len(house.servers)
    house.audit()


def test_no_herd_runs_a_refusing_database_over(cluster: Cluster, house: House) -> None:
    """While it lets nobody in, each process tries a few times, ever more rarely, however many callers there are."""

    async def scenario(_: Callers) -> None:
        async with house.load(callers=24) as load:
            await until(lambda: load.acked > 50)
            cluster.query("ALTER ROLE interlock NOLOGIN")
            _cut_all(cluster)
            began = _attempts(cluster)
            await asyncio.sleep(8)
            attempts = _attempts(cluster) - began
            # With pauses of 0.2 s, doubled up to 2 s, a process tries some ten times.
            assert 2 * 3 <= attempts <= 2 * 14, attempts
            assert house.told.counts["store_unavailable"] > 100
            cluster.query("ALTER ROLE interlock LOGIN")
            before = load.acked
            assert await until(lambda: load.acked > before) < BACK_SECONDS

    play(scenario)
    house.audit()


def _attempts(cluster: Cluster) -> int:
    """How often somebody was not let in, so far."""
    return cluster.log.read_text(errors="replace").count('role "interlock" is not permitted to log in')


def test_a_database_that_is_full_up_is_waited_for(cluster: Cluster, house: House) -> None:
    """No connection is to be had, and those that there were are gone: told so, and bridged."""

    async def scenario(_: Callers) -> None:
        async with house.load() as load:
            await until(lambda: load.acked > 20)
            cluster.query("ALTER ROLE interlock CONNECTION LIMIT 0")
            _cut_all(cluster)
            await asyncio.sleep(2)
            cluster.query("ALTER ROLE interlock CONNECTION LIMIT -1")
            before = load.acked
            assert await until(lambda: load.acked > before) < BACK_SECONDS

    play(scenario)
    house.audit()


# -- another server ---------------------------------------------------------------------------------------------------


def test_a_failover_to_a_synchronous_standby_loses_nothing(postgres_installation: Installation, tmp_path: Path) -> None:
    """The primary is killed under load, its standby promoted: all that was acknowledged is there; a new incarnation."""
    with Cluster(postgres_installation) as cluster, cluster.standby(name="beside") as standby:
        cluster.create_database("pay")
        cluster.configure(synchronous_standby_names="beside")
        cluster.until("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        url = (
            f"postgresql://interlock@127.0.0.1:{cluster.port},127.0.0.1:{standby.port}/pay"
            "?target_session_attrs=read-write"
        )
        with fleet(tmp_path, url) as made:
            house = House(made, tmp_path)

            async def scenario(_: Callers) -> None:
                async with house.load() as load:
                    await until(lambda: load.acked > 100)
                    await asyncio.to_thread(cluster.kill)
                    await asyncio.sleep(1)
                    await asyncio.to_thread(standby.promote)
                    promoted, before = time.monotonic(), load.acked
                    await until(lambda: load.acked > before)
                    assert time.monotonic() - promoted < BACK_SECONDS
                    await until(lambda: load.acked > before + 100)

            play(scenario)
            house.audit(url=standby.url("pay"))
            assert standby.query("SELECT incarnation FROM region", "pay") == [(2,)]
            writers = standby.query("SELECT DISTINCT writer FROM events ORDER BY writer", "pay")
            assert writers == [(1,), (2,)]
            verified = made.server("one").command("audit", "verify", "--json")
            assert verified.returncode == 0, verified.stdout + verified.stderr
            assert set(house.told.counts) <= {"200", "store_unavailable", "outcome_unknown"}, house.told.counts


# -- a commit whose outcome is not known ------------------------------------------------------------------------------


class Cutter:
    """Stands between a store and its database, and cuts the line at a commit when it is told to.

    It reads the messages of PostgreSQL's protocol: statements are named once, and meant by that name from then on.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._server = ("127.0.0.1", cluster.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        #: What to do at the next commit: "before" it is sent on, "after", or "answered": once the server has done it.
        self.when: str | None = None
        #: Set: nobody is let through any more.
        self.closed = threading.Event()
        self.cuts = 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.closed.is_set():
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                self._open += [client, server]
                line = _Line(self, client, server)
                for target in (line.forth, line.back):
                    thread = threading.Thread(target=target, daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def close(self) -> None:
        """End all lines."""
        self.closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for end in self._open:
            end.close()


class _Line:
    """One connection through it."""

    def __init__(self, cutter: Cutter, client: socket.socket, server: socket.socket) -> None:
        self._cutter = cutter
        self._client = client
        self._server = server
        self._statements: dict[bytes, bytes] = {}
        #: The commit has gone to the server, whose answer is to be kept back.
        self._silent = threading.Event()

    def forth(self) -> None:
        """From the client to the server, message by message."""
        with suppress(OSError):
            self._begin()
            while head := self._read(5):
                kind, rest = head[:1], self._read(struct.unpack("!I", head[1:])[0] - 4)
                commits = self._commits(kind, rest)
                if commits and self._cutter.when == "before":
                    self._cut()
                    return
                if commits and self._cutter.when is not None:
                    self._silent.set()
                self._server.sendall(head + rest)
                if kind == b"S" and self._silent.is_set() and self._cutter.when == "after":
                    self._cut()
                    return
        self._hang_up()

    def back(self) -> None:
        """From the server to the client."""
        with suppress(OSError):
            while data := self._server.recv(65536):
                if self._silent.is_set():
                    if self._cutter.when == "answered" and b"COMMIT\0" in data:
                        self._cut()
                    continue
                self._client.sendall(data)
        self._hang_up()

    def _begin(self) -> None:
        """The first messages have no kind; those before the last of them ask for encryption, which is declined."""
        while True:
            (length,) = struct.unpack("!I", self._read(4))
            rest = self._read(length - 4)
            self._server.sendall(struct.pack("!I", length) + rest)
            if struct.unpack("!I", rest[:4])[0] >> 16 == 3:
                return

    def _commits(self, kind: bytes, rest: bytes) -> bool:
        """Whether this message executes a commit."""
        if kind == b"P":
            name, text, _ = rest.split(b"\0", 2)
            self._statements[name] = text
        elif kind == b"B":
            _, name, _ = rest.split(b"\0", 2)
            return self._statements.get(name) == b"COMMIT"
        return False

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._client.recv(size - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return data

    def _cut(self) -> None:
        self._cutter.when = None
        self._cutter.cuts += 1
        self._hang_up()

    def _hang_up(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Cut:
    """A journal over a store that reaches its database through a cutter."""

    def __init__(self, cluster: Cluster, lease: float) -> None:
        self.url = cluster.create_database(fresh())
        self.cutter = Cutter(cluster)
        self.store = PostgresStore(self.url.replace(f":{cluster.port}/", f":{self.cutter.port}/"), lease=lease)
        self.journal = Journal(self.store, self.register(), register=self.register)

    def register(self) -> int:
        """As a process does."""
        return self.store.register(datetime.now(UTC))

    async def commit(self, number: int = 3) -> list[Outcome | BaseException]:
        """Some messages in one batch."""
        self.sent = [birth(at=datetime.now(UTC)) for _ in range(number)]
        calls = (self.journal.commit(change) for change in self.sent)
        return list(await asyncio.gather(*calls, return_exceptions=True))

    def kept(self) -> int:
        """How many of them are in the database."""
        with psycopg.connect(self.url) as db:
            found = db.execute(
                "SELECT count(*) FROM transactions WHERE id = ANY (%s)", [[c.after.id for c in self.sent]]
            )
            return int(found.fetchall()[0][0])

    async def close(self) -> None:
        """Give all back."""
        self.cutter.close()
        await self.journal.stop()
        self.store.close()


def test_a_commit_whose_outcome_is_not_known_is_read_back(cluster: Cluster) -> None:
    """The line is cut before the commit, after it, and after it was done: its callers are told what is true."""

    async def scenario() -> None:
        cut = Cut(cluster, lease=60)
        assert await cut.commit() == [Won()] * 3
        for turn, when in enumerate(("before", "after", "answered") * 3, 1):
            cut.cutter.when = when
            outcomes = await cut.commit()
            assert cut.cutter.cuts == turn
            if when == "before":
                assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
                assert cut.kept() == 0
            else:
                assert outcomes == [Won()] * 3, when
                assert cut.kept() == 3
            assert await cut.commit() == [Won()] * 3
        for head in cut.store.heads():
            assert list(chain.faults(cut.store.chain(head.journal), head)) == []
        await cut.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("when", ["before", "answered"])
def test_a_commit_that_cannot_be_read_back_is_told_as_unknown(cluster: Cluster, when: str) -> None:
    """The line is cut at the commit, and nobody is let in: it is neither told as done nor as not done."""

    async def scenario() -> None:
        cut = Cut(cluster, lease=60)
        assert await cut.commit() == [Won()] * 3
        cut.cutter.closed.set()
        cut.cutter.when = when
        outcomes = await cut.commit()
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 3
        assert cut.kept() == (0 if when == "before" else 3)
        cut.cutter.closed.clear()
        assert await _until_won(cut) == [Won()] * 3
        await cut.close()

    asyncio.run(scenario())


async def _until_won(cut: Cut) -> list[Outcome | BaseException]:
    end = time.monotonic() + 10
    while True:
        outcomes = await cut.commit()
        if Won() in outcomes or time.monotonic() > end:
            return outcomes
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("when", ["before", "answered"])
def test_a_commit_is_not_denied_because_somebody_else_has_the_journal_since(cluster: Cluster, when: str) -> None:
    """Its own process was thought dead between the commit and the question: what was kept is never told as not kept."""

    async def scenario() -> None:
        cut = Cut(cluster, lease=60)
        assert await cut.commit() == [Won()] * 3
        asked = cut.store.committed

        def later(batch: bytes) -> list[Outcome] | None:
            # As if we had been paused here: our lease runs out, and a new process sits down at our journal and writes.
            with psycopg.connect(cut.url) as db:
                db.execute("UPDATE journals SET lease_until = clock_timestamp() - interval '1 second'")
            with closing(PostgresStore(cut.url)) as other:
                token = other.register(datetime.now(UTC))
                assert other.commit(token, [birth(at=datetime.now(UTC))], os.urandom(16)) == [Won()]
            return asked(batch)

        cut.store.committed = later  # type: ignore[method-assign]
        cut.cutter.when = when
        outcomes = await cut.commit()
        if when == "answered":
            assert cut.kept() == 3
            assert {type(outcome) for outcome in outcomes} <= {Won, OutcomeUnknown}
        else:
            assert cut.kept() == 0
            assert Won() not in outcomes
        await cut.close()

    asyncio.run(scenario())
