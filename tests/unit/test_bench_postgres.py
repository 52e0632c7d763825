"""The benchmark over PostgreSQL: copies of a real payment are real payments, and figures are those of one run."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pytest

from bench import findings, lookups, publish, usage
from bench.ceilings import Machine, Rate
from bench.filling import Era, Filling, newest_midnight
from bench.findings import Report
from bench.load import Busy, Measured, Spread
from bench.lookups import Looked, Lookup
from bench.pgbench import Ceiling
from bench.report import Stores
from bench.rows import CLIENT, TABLES, Template, spotless
from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import Installation
from interlock.iso20022.codes import Status
from interlock.ports import Query
from interlock.stores.postgres import PostgresStore
from interlock.transaction import BodyKind, KeyKind
from tests.postgres import QUICK

NOW: Final = datetime.now(UTC)
DAILY: Final = 1_000
DAYS: Final = 2


@pytest.fixture(scope="module")
def cluster(postgres_installation: Installation) -> Iterator[Cluster]:
    """Of our own: a store is filled by a role that may open files of the server."""
    with Cluster(postgres_installation, settings={**QUICK, "track_wal_io_timing": "on"}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def template(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """In the database `full`, whose partitions of today are there."""
    url = cluster.create_database("full")
    store = PostgresStore(url)
    store.maintain(NOW)
    store.close()
    return Template(url, tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def full(cluster: Cluster, template: Template) -> str:
    """URL of a store with two thousand transactions and another twenty from the days before, without bodies."""
    filling = Filling(cluster, cluster.url("full"), template, CLIENT)
    era = Era(newest_midnight(NOW), DAYS, DAILY, 0)
    filling.fill(era, lambda _: None)
    filling.fill(Era(era.begins, 1, 20, era.copies, small_bodies=True), lambda _: None)
    return cluster.url("full")


def test_a_filled_store_is_a_sound_store(full: str) -> None:
    """Copies are found by client, key and status, have both messages and a whole history, and lie in their days."""
    store = PostgresStore(full, migrate=False)
    try:
        store.maintain(NOW)
        found = store.find(Query(client=CLIENT, statuses=frozenset({Status.ACSC}), limit=500)).transactions
        # Every tenth is this client's; two of those were rejected, one is held; and there is the sample itself.
        assert len({transaction.id for transaction in found}) == 200 + 2 - 2 - 1 + 1
        copies = found[1:]
        assert all(transaction.created_at < newest_midnight(NOW) for transaction in copies)
        assert all(len(store.history(transaction.id)) == transaction.version for transaction in copies[::20])
        for copy in (copies[7], copies[-1]):
            (payment,) = store.payments(copy.id)
            for kind, value in ((KeyKind.UETR, payment.uetr), (KeyKind.END_TO_END, payment.end_to_end_id)):
                assert store.find(Query(client=None, key=(kind, value or ""))).transactions == (copy,)
            assert all(store.message(copy.id, kind) for kind in BodyKind)
        assert not store.check()
    finally:
        store.close()


def test_a_filled_store_has_something_to_look_for(full: str) -> None:
    """Rejected ones of all clients but one, and some that wait for a decision, none of them overdue."""
    store = PostgresStore(full, migrate=False)
    try:
        rejected = Query(client=None, statuses=frozenset({Status.RJCT}))
        assert len(store.find(rejected).transactions) == 2 * 9
        assert not store.find(of_client(rejected, spotless(CLIENT))).transactions
        assert len(store.in_flight(None, 100)) == 10
        assert not store.overdue(NOW, 100)
    finally:
        store.close()


def of_client(query: Query, client: str) -> Query:
    """The same of one client."""
    return Query(client=client, statuses=query.statuses)


def test_filled_partitions_are_like_others(cluster: Cluster, full: str) -> None:
    """Every index of a table is on its filled partitions too, and nothing lies in the DEFAULT one."""
    assert full
    missing = cluster.query(
        "SELECT i.indexrelid::regclass, c.relname FROM pg_index i JOIN pg_inherits h ON h.inhparent = i.indrelid "
        "JOIN pg_class c ON c.oid = h.inhrelid WHERE NOT EXISTS (SELECT 1 FROM pg_index p JOIN pg_inherits ph "
        "ON ph.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND ph.inhparent = i.indexrelid)",
        "full",
    )
    assert missing == []
    assert cluster.query("SELECT count(*) FROM transactions_default", "full") == [(0,)]


def test_look_ups_find_and_explain(full: str) -> None:
    """Each kind has a plan, and what is there is found."""
    looked = lookups.look(full, NOW, spotless(CLIENT), rounds=3)
    assert looked.transactions == DAYS * DAILY + 20 + 1
    assert all(kind.plans and "Execution Time" in kind.plans[0] for kind in looked.lookups)
    assert all(1 <= kind.pages < 1_000 and 0 < kind.planning_ms < 1_000 for kind in looked.lookups)
    found = {kind.name: kind.found for kind in looked.lookups}
    assert (found["by id"], found["by UETR, of a client"], found["by UETR, nobody's"]) == (1, 1, 0)
    assert (found["all rejected"], found["a client's rejected, without any"]) == (18, 0)
    assert (found["in flight"], found["overdue: nothing"]) == (10, 0)


def test_the_ceiling_writes_the_same_rows(cluster: Cluster, tmp_path: Path) -> None:
    """So many lifecycles as it says, each with as many rows as a payment leaves."""
    ceiling = Ceiling(cluster, tmp_path / "ceiling")
    try:
        assert [cost.rows > 0 for cost in ceiling.template.costs] == [True] * len(TABLES)
        before = usage.log_of(cluster.superuser_url)
        rate = ceiling.measure(3, 2, pipelined=True, warmup_seconds=0, seconds=1)
        after = usage.log_of(cluster.superuser_url)
        ((transactions,),) = cluster.query("SELECT count(*) - 1 FROM transactions", "ceiling")
        for cost in ceiling.template.costs:
            ((rows,),) = cluster.query(f"SELECT count(*) FROM {cost.table}", "ceiling")  # noqa: S608 - ours
            assert rows == (transactions + 1) * cost.rows
    finally:
        ceiling.close()
    # The warm-up, a second like the measurement, wrote the rest.
    assert 3 <= rate.transactions < transactions
    assert rate.transactions % 3 == 0
    assert transactions // 3 <= after.commits - before.commits <= transactions // 3 + 50
    assert after.bytes - before.bytes > transactions * sum(cost.bytes for cost in ceiling.template.costs)


# -- arithmetic -------------------------------------------------------------------------------------------------------


def measured(per_second: float, *, us: float = 100, callers: int = 64, processes: int = 1) -> Measured:
    spread = Spread(p50=1, p90=1, p99=1, max=1)
    return Measured(
        face="reference", processes=processes, callers=callers, rate=None, seconds=1, transactions=1,
        per_second=per_second, failures=0, failed=[], misses=0, answer_ms=spread, whole_ms=spread, late_ms=None,
        server_user_us=us, server_system_us=0, generator_user_us=0, generator_system_us=0, postgres_user_us=us,
        others_share=0, busy=Busy(machine=0.5, server=0.9, loop=0.8), memory=[],
    )  # fmt: skip


def rate(per_second: float, each: int = 1) -> Rate:
    return Rate(
        transactions=1, seconds=1, per_second=per_second, user_us=1, system_us=1, others_share=0, each=each,
        callers=8, commit_ms=1,
    )  # fmt: skip


def looked(transactions: int, by_id: float, listed: float) -> Looked:
    kinds = [
        Lookup(name=name, found=1, p50_ms=ms, p99_ms=2 * ms, pages=4, planning_ms=0.1, plans=["Index Scan"])
        for name, ms in (("by id", by_id), ("all rejected", listed))
    ]
    return Looked(transactions=transactions, bytes=1, partitions=9, rounds=1, lookups=kinds)


def report() -> Report:
    made = Report(
        started=NOW,
        machine=Machine(
            id="0", cpu="?", cores=2, memory_gb=1, kernel="?", filesystem="?", fdatasync_per_second=1,
            load_average=0, versions={"python": "3"}, commit="?",
        ),
        settings={}, parts=[], version="18",
        single=[rate(2_000), rate(1_000), rate(9_000)], pipelined=[rate(4_000)],
        many=[rate(10_000, 200), rate(16_000, 200)], dbos=rate(80),
        sqlite=[measured(2_000)], reference=[measured(9, callers=1), measured(1_600)], v1=[],
        processes=[measured(1, us=us, processes=n) for n, us in ((1, 100), (2, 105), (4, 130), (1, 120), (2, 137))],
        stores=Stores(prefilled=5, bytes=1, empty=[measured(1, us=50)], full=[measured(1, us=70)]),
        looked=[looked(1, 0.1, 0.1), looked(10, 0.1, 1.0), looked(99, 0.9, 1.5)],
    )  # fmt: skip
    made.reached = findings.reached(made)
    return made


def test_reached_compares_figures_of_one_run() -> None:
    """At 64 callers on one process, with medians where something was measured several times."""
    assert [(reach.measured, reach.met) for reach in report().reached] == [
        (0.8, True),  # 1,600 of 2,000
        (0.4, None),  # of 4,000, for comparison only
        (0.1, True),  # of the better one
        (20, True),
        (0.8, None),
        (None, None),  # v1 was not measured
        (None, None),
        (1.1, True),  # 121 of 110
        (1.182, None),
        (1.4, False),
        (3, False),  # "by id"; what takes less than 0.3 ms is taken to have taken that
        (3.0, None),
    ]


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    """A run of some parts says nothing of the others."""
    nothing = Report(started=NOW, machine=report().machine, settings={}, parts=[])
    assert {(reach.measured, reach.met) for reach in findings.reached(nothing)} == {(None, None)}


def test_a_report_can_be_read_back() -> None:
    """The JSON holds everything."""
    assert msgspec.json.decode(msgspec.json.encode(report()), type=Report) == report()


def test_figures_get_into_the_page() -> None:
    """Every measured part of the page is made from the report, and what is there already is replaced."""
    page = publish.PAGE.read_text("utf-8")
    once = publish.filled(page, report(), "result.json")
    assert "[result.json](../bench/results/result.json)" in once
    assert "| reference | 1 | 64 | 1,600 |" in once
    assert publish.filled(once, report(), "result.json") == once
