"""What operators watch: the metrics of one process and of several, while the database is away, and traces on their way.

`docs/observability.md` says what each metric means; here it is seen to mean that.
"""

import asyncio
import http.server
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from interlock.api.asgi import Faces
from interlock.app import Interlock
from interlock.auth import Scope
from interlock.config import Config, RouteConfig
from interlock.demo.ports import free_port
from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import Installation
from interlock.errors import OutcomeUnknown
from interlock.ports import Control, ControlScope, DeliveryUpdate
from interlock.routes import DecisionRule, WhenStopped
from interlock.stages import deliver
from interlock.transaction import DeliveryState
from tests.acceptance.conftest import LARGE, START_SECONDS, Caller, Server
from tests.messages import Transfer, pacs008
from tests.postgres import QUICK

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"
#: What a scrape may take, with the database or without; some more than is promised, for the sake of a busy machine.
SCRAPE_SECONDS = 1.5
OPERATE = "interlock/operate"
#: A scraper on another machine, behind a proxy.
AFAR = {"X-Forwarded-For": "192.0.2.1"}


class Scrape:
    """The samples of one answer."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float | None:
        """A value; None where it is not told."""
        return self._values.get((name, frozenset(labels.items())))

    def of(self, name: str, **labels: str) -> float:
        """A value that is told."""
        found = self.get(name, **labels)
        assert found is not None, (name, labels)
        return found

    @property
    def names(self) -> set[str]:
        """Of all samples."""
        return {name for name, _ in self._values}


def scraped(server: Server | str, headers: Mapping[str, str] | None = None) -> Scrape:
    """What a server tells, within the time that a scraper gives it."""
    url = server if isinstance(server, str) else server.url
    began = time.monotonic()
    response = httpx.get(f"{url}/metrics", headers=headers, timeout=START_SECONDS)
    assert response.status_code == 200, response.text
    assert time.monotonic() - began < SCRAPE_SECONDS
    return Scrape(response.text)


def until(server: Server, seen: Callable[[Scrape], bool]) -> Scrape:
    """The first scrape in which something is seen."""
    deadline = time.monotonic() + START_SECONDS
    while not seen(found := scraped(server)):
        assert time.monotonic() < deadline, found.families
        time.sleep(0.05)
    return found


# -- one process ------------------------------------------------------------------------------------------------------


@dataclass
class Running:
    """An Interlock in this process."""

    interlock: Interlock
    http: httpx.AsyncClient

    async def submit(self) -> httpx.Response:
        """A good payment."""
        return await self.http.post("/v1/messages", content=pacs008())

    async def scrape(self) -> Scrape:
        """Its metrics."""
        return Scrape((await self.http.get("/metrics")).text)

    async def until(self, seen: Callable[[Scrape], bool]) -> Scrape:
        """The first scrape in which something is seen that its loops bring about."""
        async with asyncio.timeout(START_SECONDS):
            told = await self.scrape()
            while not seen(told):
                told = await self.scrape()
        return told


@asynccontextmanager
async def running(folder: Path, **route: Any) -> AsyncIterator[Running]:
    """One over a folder, whose only route is so."""
    interlock = Interlock(Config(data=folder, routes={"default": RouteConfig(**route)}))
    await interlock.start()
    try:
        faces = Faces(interlock, endpoint="interlock.test")
        client, _ = await interlock.authority.add_client("alice", (Scope.READ, Scope.WRITE))
        token = (await interlock.authority.issue(client)).text
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=faces),
            base_url="http://interlock.test",
            headers={"Authorization": f"Bearer {token}"},
        ) as http:
            yield Running(interlock, http)
    finally:
        await interlock.stop()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_ends_are_counted_and_timed(tmp_path: Path) -> None:
    """By status and reason, and how long they took; nothing is in flight after them."""
    async with running(tmp_path) as one:
        for _ in range(3):
            assert (await one.submit()).json()["status"] == "ACSC"
        await one.http.post("/v1/messages", content=b"<nonsense/>")
        told = await one.scrape()
        assert told.of("interlock_ends_total", status="ACSC", reason="") == 3
        rejected = [s for s in told.families["interlock_ends"].samples if s.labels.get("status") == "RJCT"]
        assert [(sample.value, bool(sample.labels["reason"])) for sample in rejected] == [(1, True)]
        name = "interlock_transaction_seconds"
        assert told.of(f"{name}_count", status="ACSC") == told.of(f"{name}_bucket", status="ACSC", le="+Inf") == 3
        assert 0 < told.of(f"{name}_sum", status="ACSC") < 60
        buckets = [
            s.value for s in told.families[name].samples if s.labels.get("status") == "ACSC" and "le" in s.labels
        ]
        assert buckets == sorted(buckets)
        assert told.families[name].type == "histogram"
        assert not any(sample.value for sample in told.families["interlock_in_flight"].samples)


@pytest.mark.anyio
async def test_what_waits_is_told_with_its_age_and_cause(tmp_path: Path) -> None:
    """The oldest counts: a second one that comes later does not make it younger."""
    async with running(tmp_path, decision=DecisionRule.CONSUMER) as one:
        first = (await one.submit()).json()
        labels = {"status": "PDNG", "held": "decision"}
        before = (await one.scrape()).of("interlock_oldest_in_flight_seconds", **labels)
        await one.submit()
        told = await one.scrape()
        assert told.of("interlock_in_flight", **labels) == 2
        assert told.of("interlock_oldest_in_flight_seconds", **labels) > before > 0
        path = f"/v1/transactions/{first['transaction_id']}/decisions"
        await one.http.post(path, json={"decision": "accept"})
        told = await one.scrape()
        assert told.of("interlock_in_flight", **labels) == 1
        assert told.of("interlock_transaction_seconds_count", status="ACSC") == 1


@pytest.mark.anyio
async def test_what_is_taken_over_is_counted(tmp_path: Path) -> None:
    """A process tells how much it found half-way when it came."""
    async with running(tmp_path, when_stopped=WhenStopped.HOLD) as one:
        order = Control(
            scope=ControlScope.ROUTE, name="default", stopped=True, actor="operator", note=None,
            at=one.interlock.clock(),
        )  # fmt: skip
        await one.interlock.workflow.resuming.control(order)
        for _ in range(2):
            assert (await one.submit()).json()["status"] == "ACTC"
        assert (await one.scrape()).of("interlock_claims_taken_over_total") == 0
    async with running(tmp_path) as another:
        told = await another.until(lambda told: told.of("interlock_claims_taken_over_total") > 0)
        assert told.of("interlock_claims_taken_over_total") == 2
        assert told.of("interlock_in_flight", status="ACTC", held="") == 2


@pytest.mark.anyio
async def test_deliveries_that_were_given_up_are_told(tmp_path: Path) -> None:
    """Until somebody has seen to them."""
    async with running(tmp_path) as one:
        id_ = UUID((await one.submit()).json()["transaction_id"])
        assert (await one.scrape()).of("interlock_deliveries_parked") == 0
        for state, number in ((DeliveryState.PARKED, 1), (DeliveryState.CONFIRMED, 0)):
            at = one.interlock.clock()
            update = DeliveryUpdate(transaction=id_, channel=deliver.OUTBOX, state=state, at=at)
            await one.interlock.journal.commit(update)
            assert (await one.scrape()).of("interlock_deliveries_parked") == number


@pytest.mark.anyio
async def test_outcomes_that_nobody_knows_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each caller that was told so; what was merely not written is another count."""
    async with running(tmp_path) as one:

        def fail(*_: object) -> None:
            raise OutcomeUnknown("nobody answers")

        monkeypatch.setattr(one.interlock.store, "commit", fail)
        monkeypatch.setattr(one.interlock.store, "committed", fail)
        assert (await one.submit()).json()["code"] == "outcome_unknown"
        told = await one.scrape()
        assert told.of("interlock_outcomes_unknown_total") == 1
        assert told.of("interlock_journal_failures_total") == 1


@pytest.mark.anyio
async def test_the_one_process_over_a_file_does_everything(tmp_path: Path) -> None:
    """It leads, is connected, and loses no lease."""
    async with running(tmp_path) as one:
        await one.submit()
        told = await one.until(lambda told: told.of("interlock_leader", job="deadlines") == 1)
        assert told.of("interlock_store_connected") == 1
        assert told.of("interlock_lease_losses_total") == 0


@pytest.mark.anyio
async def test_each_metric_is_explained(tmp_path: Path) -> None:
    """The page names each that is told, and none that is not."""
    async with running(tmp_path, decision=DecisionRule.CONSUMER) as one:
        await one.submit()
        told = await one.scrape()
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in told.families.values()}
    page = PAGE.read_text("utf-8")
    assert sorted(name for name in names if f"`{name}" not in page) == []
    named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\b(?:interlock|process)_[a-z_]+", page)}
    assert named - names == set()


# -- while the database is away ---------------------------------------------------------------------------------------


@pytest.fixture
def cluster(postgres_installation: Installation) -> Iterator[Cluster]:
    """A database server of the test's own, to be stopped."""
    with Cluster(postgres_installation, settings=QUICK) as own:
        yield own


@pytest.mark.parametrize("away", ["stopped", "paused"])
def test_metrics_are_told_while_the_database_is_away(
    cluster: Cluster, servers: Callable[..., Server], away: str
) -> None:
    """Within the time that a scraper has: all but what is in the store, also to a scraper from afar that it knows."""
    server = servers(store=cluster.create_database("pay"), lease_seconds=1)
    alice, desk = server.add("alice", "rp2/read", "rp2/write"), server.add("desk", OPERATE)
    with alice.http, desk.http:
        assert alice.submit(pacs008()).json()["status"] == "ACSC"
        known = {**AFAR, "Authorization": f"Bearer {desk.token()}"}
        assert scraped(server, known).of("interlock_store_connected") == 1
        if away == "stopped":
            cluster.stop("immediate")
        else:
            cluster.pause()
        told = until(server, lambda told: told.of("interlock_store_connected") == 0)
        assert told.names.isdisjoint({"interlock_in_flight", "interlock_deliveries_parked"})
        assert told.of("interlock_ends_total", status="ACSC", reason="") == 1
        told = until(server, lambda told: told.of("interlock_leader", job="deadlines") == 0)
        assert scraped(server, known).of("interlock_store_connected") == 0
        stranger = httpx.get(f"{server.url}/metrics", headers={**AFAR, "Authorization": "Bearer x"}, timeout=20)
        assert stranger.status_code in (401, 503)
        if away == "stopped":
            cluster.start()
        else:
            cluster.resume()
        told = until(server, lambda told: told.of("interlock_leader", job="deadlines") == 1)
        assert told.of("interlock_store_connected") == 1
        assert told.of("interlock_deliveries_parked") == 0


def test_a_scraper_that_may_not_is_refused(server: Server, alice: Caller, operator: Caller) -> None:
    """Totals over all clients tell of each of them: from afar they are an operator's only."""
    for caller, status in ((alice, 403), (operator, 200)):
        assert caller.call("GET", "/metrics", AFAR).status_code == status
    assert httpx.get(f"{server.url}/metrics", headers=AFAR).status_code == 401


# -- several processes ------------------------------------------------------------------------------------------------


def test_one_process_leads_and_another_follows_it(
    new_database: Callable[[], str], servers: Callable[..., Server], tmp_path: Path
) -> None:
    """One alone says that it leads; while it stands still another does, and it tells of its lost lease when it wakes.

    What is in the store is told by both alike.
    """
    key = tmp_path / "server.key"
    key.write_bytes(bytes(range(32)))
    shared = {"store": new_database(), "server_key": key, "lease_seconds": 1}
    one, two = (servers(name, **shared) for name in ("one", "two"))
    api = servers("api", role="api", **shared)

    def leads(told: Scrape) -> bool:
        return told.of("interlock_leader", job="deadlines") == 1

    while not (leads(scraped(one)) or leads(scraped(two))):
        time.sleep(0.05)
    leader, other = (one, two) if leads(scraped(one)) else (two, one)
    assert not leads(scraped(other))
    assert not leads(scraped(api))
    caller = api.add("alice", "rp2/read", "rp2/write")
    with caller.http:
        assert caller.submit(pacs008(Transfer(amount=LARGE))).json()["held"] == "decision"
    for server in (one, two, api):
        assert scraped(server).of("interlock_in_flight", status="PDNG", held="decision") == 1
    leader.process.send_signal(signal.SIGSTOP)
    try:
        until(other, leads)
    finally:
        leader.process.send_signal(signal.SIGCONT)
    told = until(leader, lambda told: told.of("interlock_lease_losses_total") >= 1)
    assert told.of("interlock_store_connected") == 1
    until(leader, lambda told: not leads(told))


# -- traces -----------------------------------------------------------------------------------------------------------


@dataclass
class Collector:
    """A little collector of traces."""

    url: str
    spans: list[Span]
    #: Set: it answers; else it takes what comes and is silent.
    answers: threading.Event


@pytest.fixture
def collector() -> Iterator[Collector]:
    """One that answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.answers.wait(START_SECONDS)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found.spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        found = Collector(f"http://127.0.0.1:{listening.server_address[1]}", [], threading.Event())
        found.answers.set()
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield found
        finally:
            found.answers.set()
            listening.shutdown()
            thread.join()


def test_a_trace_goes_from_the_callers_parent_to_the_delivery(
    collector: Collector, servers: Callable[..., Server]
) -> None:
    """A real server tells a real collector, at the latest when it stops; the answer fetched later is linked."""
    server = servers(otlp_endpoint=collector.url)
    alice = server.add("alice", "rp2/read", "rp2/write")
    trace, other = "0af7651916cd43dd8448eb211c80319c", "11111111111111111111111111111111"
    with alice.http:
        submitted = alice.submit(pacs008(), traceparent=f"00-{trace}-b7ad6b7169203331-01")
        assert "traceresponse" not in submitted.headers
        outbox = f"/v1/transactions/{submitted.json()['transaction_id']}/messages/outbox"
        answer = alice.call("GET", outbox, {"traceparent": f"00-{other}-b7ad6b7169203331-01"})
        assert answer.status_code == 200
    assert server.stop() == 0
    spans = {span.name: span for span in collector.spans if span.trace_id.hex() in (trace, other)}
    request = spans["POST /v1/messages"]
    assert request.parent_span_id.hex() == "b7ad6b7169203331"
    for name in ("inspect", "commit"):
        assert spans[name].parent_span_id == request.span_id
        assert request.start_time_unix_nano <= spans[name].start_time_unix_nano
        assert spans[name].end_time_unix_nano <= request.end_time_unix_nano
    (link,) = spans["deliver"].links
    assert (link.trace_id, link.span_id) == (request.trace_id, request.span_id)


@pytest.mark.parametrize("away", ["refuses", "is silent"])
def test_a_collector_that_is_away_holds_nobody_up(
    collector: Collector, servers: Callable[..., Server], away: str
) -> None:
    """Neither a payment nor the server's end; the log says it once."""
    collector.answers.clear()
    server = servers(otlp_endpoint=collector.url if away == "is silent" else f"http://127.0.0.1:{free_port()}")
    alice = server.add("alice", "rp2/read", "rp2/write")
    with alice.http:
        for _ in range(200):
            assert alice.submit(pacs008()).json()["status"] == "ACSC"
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10
    log = server.log.read_text("utf-8")
    assert log.count("traces cannot be sent") == 1
    assert "opentelemetry" not in log
