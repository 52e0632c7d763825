"""Several servers over one PostgreSQL: any call to any of them, each payment once, whichever of them dies or sleeps."""

import asyncio
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.fleet import Callers, Fleet, Loaded, Told, fleet, metric, play, problem, until
from tests.acceptance.torture import Audit, Client, Log, Reply, Server, Wire, until_all_ended
from tests.messages import Transfer, fresh, pacs008
from tests.postgres import Databases, Servers, installation

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("postgres_installation"),
    pytest.mark.xdist_group("processes"),  # the servers are shared
]

LEASE_SECONDS = 1.0
#: What a busy machine may take longer than promised.
SLACK_SECONDS = 3.0
DECIDES = """
[routes.default]
decision_above = { EUR = 1000000 }
"""
HOLDS = """
[routes.default]
sla_seconds = 60
when_stopped = "hold"
"""
LARGE = "1000000.01"


def large() -> bytes:
    """A message that is held for a consumer's decision."""
    return pacs008(Transfer(amount=LARGE))


async def submit(wire: Wire, content: bytes | None = None, **headers: str) -> Reply:
    """`POST /v1/messages`."""
    return await wire.call("POST", "/v1/messages", content or pacs008(), **headers)


async def show(wire: Wire, id_: str, rest: str = "", **headers: str) -> Reply:
    """`GET /v1/transactions/{id}` or what is below it."""
    return await wire.call("GET", f"/v1/transactions/{id_}{rest}", b"", **headers)


async def post(wire: Wire, path: str, **body: object) -> Reply:
    """A call with a JSON body."""
    return await wire.call("POST", path, json.dumps(body).encode(), content_type="application/json")


async def decide(wire: Wire, id_: str, decision: str, **more: object) -> Reply:
    """One decision."""
    return await post(wire, f"/v1/transactions/{id_}/decisions", decision=decision, **more)


async def control(wire: Wire, name: str, *, stopped: bool) -> Reply:
    """An operator's order about a route."""
    return await post(wire, "/v1/controls", scope="route", name=name, stopped=stopped, note="drill", by="eve")


# -- three that live --------------------------------------------------------------------------------------------------


class Trio:
    """A server of each role, and who calls them."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        roles = ("api", "worker", "all")
        self.servers = [fleet.server(role, role=role) for role in roles]
        self.tenant = fleet.add_client("tenant")
        self.desk = fleet.add_client("desk", "interlock/operate", "interlock/admin")
        fleet.start(*roles)

    def run(self, scenario: Callable[[Callers, list[Wire]], Awaitable[None]]) -> None:
        """A scenario with a connection of the tenant's to each of them."""

        async def whole(callers: Callers) -> None:
            await scenario(callers, await callers.of(self.tenant, *self.servers))

        play(whole)


@pytest.fixture(scope="module")
def trio(postgres_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """Three servers over one database, for tests that leave them as they are."""
    databases = Databases(postgres_servers.of(installation()))
    with fleet(tmp_path_factory.mktemp("trio"), databases.new(), DECIDES) as made:
        yield Trio(made)
        for server in made.servers.values():
            assert server.terminate() == 0
    databases.drop()


def test_what_one_takes_all_show(trio: Trio) -> None:
    """Taken at any of them, a message is shown by each at once, the same to the byte, by its id and by every name."""

    async def scenario(callers: Callers, ways: list[Wire]) -> None:
        for taking in ways:
            reference, content = fresh(), pacs008()
            taken = await submit(taking, content, x_client_reference=reference)
            assert (taken.status, taken.json["status"]) == (200, "ACSC")
            id_ = taken.json["transaction_id"]
            outboxes = set()
            for way in ways:
                assert (await show(way, id_)).json["status"] == "ACSC"
                assert (await show(way, id_, "/messages/inbox")).body == content
                outboxes.add((await show(way, id_, "/messages/outbox")).body)
                outboxes.add((await way.call("POST", "/outbox", x_transaction_id=id_)).body)
                found = (await way.call("GET", f"/v1/transactions?reference={reference}")).json["transactions"]
                assert [one["transaction_id"] for one in found] == [id_]
                events = (await show(way, id_, "/events")).json["events"]
                assert [event["event"] for event in events].count("Ended") == 1
            assert len(outboxes) == 1

    trio.run(scenario)


def test_id_message_and_answer_at_three(trio: Trio) -> None:
    """An id of one, its message at the next, its answer at the third; the message again at any is the same."""

    async def scenario(callers: Callers, ways: list[Wire]) -> None:
        for turn in range(3):
            giving, taking, answering = ways[turn:] + ways[:turn]
            id_, content = (await giving.call("GET", "/uuid")).json["transaction_id"], pacs008()
            assert (await answering.call("POST", "/outbox", x_transaction_id=id_)).status == 400
            replies = await asyncio.gather(
                *(way.call("POST", "/inbox", content, x_transaction_id=id_) for way in (taking, giving, answering))
            )
            assert [reply.status for reply in replies] == [200] * 3
            assert (await answering.call("POST", "/outbox", x_transaction_id=id_)).status == 200
            assert (await giving.call("POST", "/inbox", pacs008(), x_transaction_id=id_)).status == 400

    trio.run(scenario)


def test_who_waits_at_one_hears_of_a_decision_at_another(trio: Trio) -> None:
    """`Prefer: wait`, with the message or later, is answered as soon as somebody decides, wherever that is."""

    async def scenario(callers: Callers, ways: list[Wire]) -> None:
        for turn in range(3):
            first, second, third = ways[turn:] + ways[:turn]
            reference = fresh()
            waiting = asyncio.create_task(submit(first, large(), prefer="wait=30", x_client_reference=reference))
            found: list[Any] = []

            async def there(way: Wire = second, name: str = reference, found: list[Any] = found) -> bool:
                found[:] = (await way.call("GET", f"/v1/transactions?reference={name}")).json["transactions"]
                return bool(found)

            await until(there)
            id_ = found[0]["transaction_id"]
            other = asyncio.create_task(show(third, id_, prefer="wait=30"))
            await asyncio.sleep(0.1)
            began = time.monotonic()
            assert (await decide(second, id_, "accept")).json["status"] == "ACSC"
            for reply in (await waiting, await other):
                assert (reply.status, reply.json["status"]) == (200, "ACSC")
            assert time.monotonic() - began < 0.5 + SLACK_SECONDS

    trio.run(scenario)


def test_of_decisions_at_three_one_wins(trio: Trio) -> None:
    """Three different ones at one moment: one is done, the others are told what stands, and all show that one."""
    winners: Counter[str] = Counter()

    async def scenario(callers: Callers, ways: list[Wire]) -> None:
        for turn in range(12):
            held = (await submit(ways[turn % 3], large())).json
            assert held["held"] == "decision"
            id_ = held["transaction_id"]
            turned = ways[turn % 3 :] + ways[: turn % 3]
            replies = await asyncio.gather(
                decide(turned[0], id_, "accept"),
                decide(turned[1], id_, "reject", reason="AC04"),
                decide(turned[2], id_, "cancel"),
            )
            assert sorted(reply.status for reply in replies) == [200, 409, 409], replies
            (status,) = [reply.json["status"] for reply in replies if reply.status == 200]
            winners[status] += 1
            shown = [(await show(way, id_)).json["status"] for way in ways]
            assert shown == [status] * 3
            kinds = [event["event"] for event in (await show(ways[0], id_, "/events")).json["events"]]
            assert kinds.count("Ended") == 1

    trio.run(scenario)
    assert winners.total() == 12


@pytest.mark.parametrize("double", ["idempotency key", "message id", "uetr"])
def test_of_doubles_at_three_one_is_taken(trio: Trio, double: str) -> None:
    """Whatever makes them doubles, and though each process sees its own for the first time."""

    async def scenario(callers: Callers, ways: list[Wire]) -> None:
        for _ in range(8):
            transfer, content, key, message_id = Transfer(), pacs008(), fresh(), fresh()
            match double:
                case "idempotency key":
                    calls = [submit(way, content, idempotency_key=key) for way in ways]
                case "message id":
                    calls = [submit(way, pacs008(message_id=message_id)) for way in ways]
                case _:
                    calls = [submit(way, pacs008(transfer)) for way in ways]
            replies = await asyncio.gather(*calls)
            assert {reply.status for reply in replies} == {200}
            if double == "idempotency key":
                assert len({reply.json["transaction_id"] for reply in replies}) == 1
                continue
            assert sorted(reply.json["status"] for reply in replies) == ["ACSC", "RJCT", "RJCT"]
            reasons = {reply.json["reason"]["code"] for reply in replies if reply.json["status"] == "RJCT"}
            assert reasons == {"DU01" if double == "message id" else "AM05"}

    trio.run(scenario)


def test_an_order_at_one_is_obeyed_by_all(trio: Trio) -> None:
    """Within a second, whichever of them the operator calls: stopped, and resumed."""

    async def scenario(callers: Callers, ways: list[Wire]) -> None:
        desks = await callers.of(trio.desk, *trio.servers)
        for turn, desk in enumerate(desks):
            assert (await control(desk, "default", stopped=True)).status == 200
            problem(await submit(ways[turn]), 503, "stopped")
            for way in ways:

                async def refuses(way: Wire = way) -> bool:
                    return (await submit(way)).status == 503

                assert await until(refuses) < 1.0 + SLACK_SECONDS
            assert (await control(desks[turn - 1], "default", stopped=False)).status == 200
            for way in ways:

                async def takes(way: Wire = way) -> bool:
                    return (await submit(way)).status == 200

                assert await until(takes) < 1.0 + SLACK_SECONDS

    trio.run(scenario)


def test_clients_come_and_go_at_all(trio: Trio) -> None:
    """A client that one of them made can call all at once; disabled at one it is refused by all within seconds."""

    async def scenario(callers: Callers, _: list[Wire]) -> None:
        for turn in range(3):
            desks = await callers.of(trio.desk, *trio.servers)
            turned = trio.servers[turn:] + trio.servers[:turn]
            made = (await post(desks[turn], "/v1/clients", name="new", scopes=["rp2/read", "rp2/write"])).json
            fresh_one = Client(made["client_id"], made["client_secret"])
            ways = [await callers.one(fresh_one, server) for server in turned]
            ways += await callers.of(fresh_one, *turned)
            for way in ways:
                assert (await submit(way)).json["status"] == "ACSC"
            assert (await desks[turn].call("DELETE", f"/v1/clients/{fresh_one.id}")).status == 200
            assert (await submit(ways[0])).status == 401
            for way in ways:

                async def refused(way: Wire = way) -> bool:
                    return (await submit(way)).status == 401

                assert await until(refused) < 2.0 + SLACK_SECONDS
            assert {(await fresh_one.login(server)).status for server in turned} == {400}

    trio.run(scenario)


def test_keys_turn_at_all(trio: Trio) -> None:
    """A key that one of them makes is known to all at once; one that it revokes is good nowhere within seconds."""

    async def scenario(callers: Callers, ways: list[Wire]) -> None:
        desks = await callers.of(trio.desk, *trio.servers)
        assert (await post(desks[0], "/v1/keys/rotations")).status == 201
        for way in (*ways, *await callers.of(trio.tenant, *trio.servers)):
            assert (await submit(way)).status == 200
        assert (await post(desks[1], "/v1/keys/rotations", revoke=True)).status == 201
        for way in ways:

            async def refused(way: Wire = way) -> bool:
                return (await submit(way)).status == 401

            assert await until(refused) < 2.0 + SLACK_SECONDS
        for way in await callers.of(trio.tenant, *trio.servers):
            assert (await submit(way)).status == 200

    trio.run(scenario)


def test_all_of_them_are_ready_and_one_leads(trio: Trio) -> None:
    """Each answers its probes; the one that fires deadlines is not the one that only takes calls."""

    async def scenario(callers: Callers, ways: list[Wire]) -> None:
        for way in ways:
            for path in ("/healthz", "/readyz"):
                assert (await way.call("GET", path)).status == 200

    trio.run(scenario)
    leaders = [metric(server, "interlock_leader") for server in trio.servers]
    assert leaders[0] == 0
    assert sum(leaders) == 1


# -- deaths -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """A function that makes servers over a database of the test's own; they are dead at the end."""
    with ExitStack() as stack:

        def make(routes: str = "", **settings: object) -> Fleet:
            return stack.enter_context(fleet(tmp_path, new_database(), routes, **settings))

        yield make


class Mortals:
    """Servers that are killed in one test and alive again in the next."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.client = fleet.add_client("c", "rp2/read", "rp2/write", "interlock/operate")
        #: Sends what is in the log, and nothing else.
        self.sender = fleet.add_client("sender")
        self.log = Log(folder / "client.log")

    def start(self, *names: str) -> list[Server]:
        """These servers, none of which is held back."""
        servers = self.fleet.start(*names)

        async def scenario(callers: Callers) -> None:
            ways = await callers.of(self.client, *servers)
            assert (await control(ways[0], "default", stopped=False)).status == 200
            for way in ways:
                await until(lambda way=way: _is_free(way))

        play(scenario)
        return servers

    def audit(self) -> None:
        """Every promise was kept."""
        until_all_ended(self.fleet.url)
        assert Audit(self.fleet.url, self.log.entries).faults == []


async def _is_free(way: Wire) -> bool:
    return not await _is_stopped(way)


@pytest.fixture(scope="module")
def mortals(postgres_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortals]:
    """Servers with a short lease, where a stop holds messages back."""
    databases = Databases(postgres_servers.of(installation()))
    folder = tmp_path_factory.mktemp("mortals")
    with fleet(folder, databases.new(), HOLDS, lease_seconds=LEASE_SECONDS) as made:
        made.server("one", role="all")
        made.server("two", role="worker")
        made.server("three", role="api")
        those = Mortals(made, folder)
        yield those
        those.log.close()
    databases.drop()


def lateness(fleet: Fleet) -> list[float]:
    """Of each time-out: how long after its deadline it was decided, in seconds."""
    found = fleet.rows(
        "SELECT t.id, t.created_at, e.content FROM transactions t JOIN events e ON e.tx = t.id WHERE t.code = 'TOUT'"
    )
    ended = [(created, json.loads(content)) for _, created, content in found]
    return [event["at"] / 1e6 - created / 1e6 - 1.0 for created, event in ended if event["kind"] == "Ended"]


def test_deadlines_fire_once_and_in_time(own: Callable[..., Fleet]) -> None:
    """One of three fires for all; killed, another does so within its lease and a second; stopped in order, at once."""
    fleet = own("[routes.default]\nsla_seconds = 1.0\n", lease_seconds=LEASE_SECONDS)
    client = fleet.add_client("c")
    servers = fleet.start("one", "two", "three")

    def issue(number: int) -> None:
        async def scenario(callers: Callers) -> None:
            ways = await callers.of(client, *(server for server in servers if server.process is not None))
            for turn in range(number):
                assert (await ways[turn % len(ways)].call("GET", "/uuid")).status == 200

        play(scenario)

    def leader() -> Server:
        leads = [server for server in servers if server.process is not None and metric(server, "interlock_leader")]
        (one,) = leads
        return one

    issue(60)
    until_all_ended(fleet.url)
    fired = [metric(server, "interlock_deadlines_fired_total") for server in servers]
    assert sorted(fired) == [0, 0, 60]
    late = lateness(fleet)
    assert len(late) == 60
    assert min(late) >= -1e-6
    assert sorted(late)[56] < 0.1 + SLACK_SECONDS

    issue(30)
    leader().kill()
    until_all_ended(fleet.url)
    assert len(lateness(fleet)) == 90
    assert max(lateness(fleet)) < LEASE_SECONDS + 1 + SLACK_SECONDS

    asyncio.run(until(lambda: leader() is not None))
    issue(30)
    assert leader().terminate() == 0
    until_all_ended(fleet.url)
    assert len(lateness(fleet)) == 120
    assert max(lateness(fleet)[90:]) < 1 + SLACK_SECONDS
    assert Audit(fleet.url).faults == []


def test_a_leader_that_slept_leads_no_more(mortals: Mortals) -> None:
    """Another fires in its place; awake again it fires nothing a second time, and there is one leader."""
    servers = mortals.start("one", "two")
    asleep = next(server for server in servers if metric(server, "interlock_leader"))
    (awake,) = (server for server in servers if server is not asleep)

    async def scenario(callers: Callers) -> None:
        (way,) = await callers.of(mortals.client, asleep)
        os.kill(asleep.pid, signal.SIGSTOP)
        try:
            assert await until(lambda: metric(awake, "interlock_leader")) < LEASE_SECONDS + 1 + SLACK_SECONDS
        finally:
            os.kill(asleep.pid, signal.SIGCONT)

        async def takes_again() -> bool:
            return (await submit(way)).status == 200

        await until(takes_again)
        # With so short a lease a busy machine may hand the job on once more; but one of them has it.
        await until(lambda: metric(asleep, "interlock_leader") + metric(awake, "interlock_leader") == 1)

    play(scenario)
    mortals.audit()


async def _is_stopped(way: Wire) -> bool:
    """Whether this one knows that its route is stopped."""
    orders = (await way.call("GET", "/v1/controls")).json["controls"]
    return any(order["stopped"] for order in orders)


async def _hold(way: Wire, number: int) -> list[str]:
    """Messages that a server has in hand and may not go on with."""
    held = [(await submit(way)).json for _ in range(number)]
    assert {one["status"] for one in held} == {"ACTC"}
    return [one["transaction_id"] for one in held]


def _claims(fleet: Fleet) -> set[int]:
    """Who has what is half-way."""
    return {claim for (claim,) in fleet.rows("SELECT claim FROM transactions WHERE state = 'ACTC'")}


def _resume(fleet: Fleet) -> None:
    """The order is given where no process hears of it but by looking: none of them is called."""
    fleet.rows(
        "INSERT INTO controls (seq, region, scope, name, stopped, actor, note, at) "
        "SELECT max(seq) + 1, 0, 'route', 'default', false, 'operator:o', NULL, "
        "(extract(epoch FROM clock_timestamp()) * 1e6)::bigint FROM controls"
    )


def test_what_a_dead_one_left_half_way_another_goes_on_with(mortals: Mortals) -> None:
    """Within its lease."""
    mortals.start("one", "two")
    _dies(mortals.fleet, mortals.client, "kill", LEASE_SECONDS)
    mortals.audit()


def test_what_one_that_ended_in_order_left_another_goes_on_with(own: Callable[..., Fleet]) -> None:
    """At once, though its lease is long."""
    fleet = own(HOLDS, lease_seconds=60)
    fleet.server("one", role="api")
    fleet.server("two", role="worker")
    _dies(fleet, fleet.add_client("c", "rp2/read", "rp2/write", "interlock/operate"), "terminate", 0.5)
    assert Audit(fleet.url).faults == []


def _dies(fleet: Fleet, client: Client, death: str, seconds: float) -> None:
    """One of two dies with work in hand, which the other takes over in that time, and goes on with once it may."""
    one, two = fleet.start("one", "two")
    before_it = metric(two, "interlock_claims_taken_over_total")

    async def scenario(callers: Callers) -> None:
        way, other = await callers.of(client, one, two)
        assert (await control(way, "default", stopped=True)).status == 200
        await until(lambda: _is_stopped(other))
        held = await _hold(way, 25)
        (before,) = _claims(fleet)
        await asyncio.to_thread(one.kill if death == "kill" else one.terminate)
        assert await until(lambda: before not in _claims(fleet)) < seconds + SLACK_SECONDS
        assert len(_claims(fleet)) == 1
        _resume(fleet)
        await until(lambda: not _claims(fleet))
        assert [(await show(other, id_)).json["status"] for id_ in held] == ["ACSC"] * 25

    play(scenario)
    assert metric(two, "interlock_claims_taken_over_total") == before_it + 25


def test_killed_between_taking_and_settling(mortals: Mortals) -> None:
    """What was acknowledged and no more is settled by another within the lease and a second, without any order."""
    one, two = mortals.start("one", "two")

    async def scenario(callers: Callers) -> None:
        way, other = await callers.of(mortals.client, one, two)
        assert (await control(way, "default", stopped=True)).status == 200
        await until(lambda: _is_stopped(other))
        held = await _hold(way, 10)
        os.kill(one.pid, signal.SIGSTOP)  # it must not hear of the order below
        _resume(mortals.fleet)
        one.kill()
        began = time.monotonic()
        calls = (show(callers.to(two, other.token), id_, prefer="wait=20") for id_ in held)
        assert [reply.json["status"] for reply in await asyncio.gather(*calls)] == ["ACSC"] * 10
        assert time.monotonic() - began < LEASE_SECONDS + 1 + SLACK_SECONDS

    play(scenario)
    mortals.audit()


def test_one_that_slept_longer_than_its_lease_changes_nothing(mortals: Mortals) -> None:
    """Its work has been taken over; what it had in hand ends once; then it begins anew, and takes over from others."""
    one, two = mortals.start("one", "two")
    fleet, client = mortals.fleet, mortals.client
    lost = metric(one, "interlock_lease_losses_total")

    async def scenario(callers: Callers) -> None:
        way, other = await callers.of(client, one, two)
        assert (await control(way, "default", stopped=True)).status == 200
        held = await _hold(way, 20)
        (before,) = _claims(fleet)
        os.kill(one.pid, signal.SIGSTOP)
        try:
            # It has these in its hands when it wakes up; the same are sent to the other one meanwhile.
            contents = {fresh(): pacs008() for _ in range(5)}
            asleep = [
                asyncio.create_task(submit(callers.to(one, way.token), content, idempotency_key=key))
                for key, content in contents.items()
            ]
            assert (await control(other, "default", stopped=False)).status == 200
            took = await until(lambda: not fleet.rows("SELECT 1 FROM journals WHERE token = %s", before))
            assert took < LEASE_SECONDS + SLACK_SECONDS
            sent = [(await submit(other, content, idempotency_key=key)).json for key, content in contents.items()]
            for id_ in [*held, *(one["transaction_id"] for one in sent)]:
                assert (await show(other, id_, prefer="wait=10")).json["status"] == "ACSC"
            ends = _history(fleet)
        finally:
            os.kill(one.pid, signal.SIGCONT)
        for reply, before_it in zip(await asyncio.gather(*asleep), sent, strict=True):
            assert reply.status in (200, 503), reply
            assert reply.status == 503 or reply.json["transaction_id"] == before_it["transaction_id"]

        async def takes_again() -> bool:
            return (await submit(way)).status == 200

        assert await until(takes_again) < 2.0 + SLACK_SECONDS
        after = _history(fleet)
        assert {id_: after[id_] for id_ in ends} == ends

    play(scenario)
    assert metric(one, "interlock_lease_losses_total") == lost + 1

    async def the_other_dies(callers: Callers) -> None:
        way, other = await callers.of(client, one, two)
        assert (await control(other, "default", stopped=True)).status == 200
        held = await _hold(other, 5)
        os.kill(two.pid, signal.SIGSTOP)
        _resume(fleet)
        two.kill()
        for id_ in held:
            assert (await show(way, id_, prefer="wait=15")).json["status"] == "ACSC"

    play(the_other_dies)
    mortals.audit()


def _history(fleet: Fleet) -> dict[str, int]:
    """The number of events of each transaction that has ended."""
    found = fleet.rows(
        "SELECT t.id::text, count(*) FROM transactions t JOIN events e ON e.tx = t.id WHERE t.state = 'end' GROUP BY 1"
    )
    return {id_: int(number) for id_, number in found}


def test_naps_under_load_are_told_and_cost_nothing(mortals: Mortals) -> None:
    """Paused for longer than the lease, also in the midst of a commit: nothing is lost, doubled or odd."""
    servers = mortals.start("one", "two")
    lost = sum(metric(server, "interlock_lease_losses_total") for server in servers)
    told = Told()

    async def scenario(_: Callers) -> None:
        async with Loaded(mortals.sender, servers, mortals.log, told) as load:
            for turn in range(6):
                before = load.acked
                await until(lambda before=before: load.acked > before + 30)
                asleep = servers[turn % 2]
                # One of them is longer than what the database bears of a transaction that does nothing.
                os.kill(asleep.pid, signal.SIGSTOP)
                await asyncio.sleep(7.0 if turn == 3 else LEASE_SECONDS * 1.5)
                os.kill(asleep.pid, signal.SIGCONT)

    play(scenario)
    mortals.audit()
    assert set(told.counts) <= {"200", "gone", "store_unavailable", "outcome_unknown"}, told.counts
    # One that was paused in the midst of a commit has kept its journal locked: nobody could take it for dead.
    assert sum(metric(server, "interlock_lease_losses_total") for server in servers) > lost


_PARTITIONS = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '_p[0-9]{8}$' ORDER BY relname"
_LOCKS = (
    "SELECT DISTINCT pid FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' "
    "AND relation IN (SELECT oid FROM pg_class WHERE relname = 'transactions_default')"
)


def test_one_that_sleeps_in_the_midst_of_upkeep_holds_nobody_up(own: Callable[..., Fleet]) -> None:
    """Paused while it makes partitions, with the tables locked: within seconds the others go on as if it were gone."""
    fleet = own(lease_seconds=LEASE_SECONDS)
    client = fleet.add_client("c")
    (awake,) = fleet.start("awake")
    asyncio.run(until(lambda: len(fleet.rows(_PARTITIONS)) >= 5 * 7))
    for (name,) in fleet.rows(_PARTITIONS):
        fleet.rows(f"DROP TABLE {name}")  # so that the next one that starts has something to do
    asleep = fleet.server("asleep")
    asleep.spawn()
    asyncio.run(until(lambda: fleet.rows(_LOCKS)))
    os.kill(asleep.pid, signal.SIGSTOP)
    try:
        # It may just have been done when it was paused; then there is nothing to see.
        asyncio.run(until(lambda: not fleet.rows(_LOCKS), 6))

        async def scenario(callers: Callers) -> None:
            way = await callers.one(client, awake)

            async def takes_quickly() -> bool:
                began = time.monotonic()
                return (await submit(way)).status == 200 and time.monotonic() - began < 1

            assert await until(takes_quickly) < 1 + SLACK_SECONDS

        play(scenario)
    finally:
        os.kill(asleep.pid, signal.SIGCONT)
    asyncio.run(until(lambda: len(fleet.rows(_PARTITIONS)) >= 5 * 7))


def test_a_rolling_restart_loses_nothing(mortals: Mortals) -> None:
    """All of them ended in order and started again, one by one under load: callers see but what they may repeat."""
    servers = mortals.start("one", "two", "three")
    told = Told()

    async def scenario(_: Callers) -> int:
        async with Loaded(mortals.sender, servers, mortals.log, told) as load:
            for server in servers:
                before = load.acked
                assert await asyncio.to_thread(server.terminate) == 0
                await until(lambda before=before: load.acked > before + 20)
                await asyncio.to_thread(server.start)
                await until(lambda before=before: load.acked > before + 40)
        return load.acked

    (before,) = mortals.fleet.rows("SELECT count(*) FROM transactions")[0]
    acked = play(scenario)
    mortals.audit()
    assert set(told.counts) <= {"200", "gone", "stopped", "store_unavailable"}, told.counts
    assert mortals.fleet.rows("SELECT count(*) FROM transactions") == [(before + acked,)]


def test_one_that_lacks_the_key_of_the_others_does_not_start(mortals: Mortals, tmp_path: Path) -> None:
    """It could not know a client by its secret: it says so and exits as for a setting; with their key it starts."""
    other = tmp_path / "other.key"
    other.write_bytes(bytes(32))
    with fleet(tmp_path / "elsewhere", mortals.fleet.url, HOLDS) as elsewhere:
        for name, settings in (("without", {}), ("with another", {"server_key": other})):
            stranger = elsewhere.server(name, **settings)
            assert stranger.spawn().wait(30) == 78
            stranger.kill()
            assert re.search(r"server\.key is missing|other\.key is not the key", stranger.errors.read_text())
        (friend,) = elsewhere.start("friend", server_key=mortals.fleet.server("one").folder / "server.key")

        async def scenario(callers: Callers) -> None:
            assert (await submit(await callers.one(mortals.client, friend))).status == 200

        play(scenario)


def test_a_thundering_start_of_many(own: Callable[..., Fleet]) -> None:
    """Four at once over an empty database: one makes the schema and all serve, each with a journal of its own."""
    fleet = own()
    servers = fleet.start(*(f"server{number}" for number in range(4)))
    client = fleet.add_client("c")

    async def scenario(callers: Callers) -> None:
        for way in await callers.of(client, *servers):
            assert (await submit(way)).json["status"] == "ACSC"

    play(scenario)
    journals = fleet.rows("SELECT token, chain_seq FROM journals")
    assert len({token for token, _ in journals}) == len(journals) == 4
    assert len(fleet.rows("SELECT 1 FROM signing_keys WHERE retired_at IS NULL")) >= 1
    for server in servers:
        assert server.terminate() == 0
    assert fleet.rows("SELECT count(*) FROM journals WHERE token IS NOT NULL") == [(0,)]
    assert Audit(fleet.url).faults == []
