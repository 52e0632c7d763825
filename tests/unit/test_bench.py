from array import array
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pytest

from bench import ceilings, core, load, publish, sqlite, validating
from bench.ceilings import Cost, Machine, Rate
from bench.load import Busy, Measured, Spread
from bench.message import Messages, identities
from bench.report import Stores, growth, shares
from bench.sqlite import Report
from bench.validating import Validated
from interlock.chain import faults
from interlock.inspection import inspect
from interlock.iso20022.codes import Status
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.schemas import Catalogue
from interlock.ports import Query
from interlock.stores.sqlite import SqliteStore
from interlock.transaction import BodyKind, KeyKind

CATALOGUE: Final = Catalogue()
NOW: Final = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
MACHINE: Final = Machine(
    id="0", cpu="?", cores=2, memory_gb=1, kernel="?", filesystem="?", fdatasync_per_second=1, load_average=0,
    versions={}, commit="?",
)  # fmt: skip


# -- the message ------------------------------------------------------------------------------------------------------


def test_the_message_has_no_findings() -> None:
    """Header and document conform to their schemas, and no business rule has anything to say, not even a warning."""
    (identity,) = identities(1)
    found = inspect(Messages(NOW).make(identity), CATALOGUE, limits=Limits(), today=NOW.date())
    assert (found.definition, found.header_definition, found.judged) == ("pacs.008.001.08", "head.001.001.02", True)
    assert (found.technical, found.business) == ((), ())


def test_the_message_is_of_a_real_messages_size() -> None:
    """About 4.5 KB, and as long as it says."""
    messages = Messages(NOW)
    assert 4_300 < messages.length < 4_700
    assert all(len(messages.make(identity)) == messages.length for identity in identities(3))


def test_messages_share_no_identification() -> None:
    """Each has names of its own, and a UETR of the form that RFC 4122 gives version 4."""
    messages = Messages(NOW)
    originals = [
        inspect(messages.make(identity), CATALOGUE, limits=Limits(), today=NOW.date()).original
        for identity in identities(50)
    ]
    names = [
        (o.message_id, o.header and o.header.business_message_id, p.instruction_id, p.end_to_end_id, p.uetr)
        for o in originals
        if o is not None
        for p in o.payments
    ]
    assert len(names) == 50
    assert all(len(set(column)) == 50 for column in zip(*names, strict=True))


def test_an_identity_names_its_message() -> None:
    """What the load generator looks for in the answer is the message's MsgId."""
    (identity,) = identities(1)
    assert b"<MsgId>" + identity.message_id + b"</MsgId>" in Messages(NOW).make(identity)


# -- copies of a real transaction -------------------------------------------------------------------------------------


def test_a_prefilled_store_is_a_sound_store(tmp_path: Path) -> None:
    """Copies are found under their keys, have both messages and a whole history, and their chain verifies."""
    sample, pragmas = ceilings.take_sample("c_bench", tmp_path / "sample")
    assert "PRAGMA synchronous = FULL" in pragmas
    file = tmp_path / "full.db"
    SqliteStore(file).close()
    ceilings.prefill(sample, file, 25, lambda _: None, each=10)
    store = SqliteStore(file)
    try:
        found = store.find(Query(client="c_bench", statuses=frozenset({Status.ACSC}))).transactions
        assert len({transaction.id for transaction in found}) == 25
        assert all(len(store.history(transaction.id)) == transaction.version for transaction in found)
        (payment,) = store.payments(found[7].id)
        assert store.find(Query(client=None, key=(KeyKind.UETR, payment.uetr or ""))).transactions == (found[7],)
        assert all(store.message(found[0].id, kind) for kind in BodyKind)
        (head,) = store.heads()
        assert not list(faults(store.chain(head.journal), head))
        assert not store.check()
        assert not store.in_flight(None, 1)
    finally:
        store.close()


def test_the_ceiling_writes_the_same_rows(tmp_path: Path) -> None:
    """So many transactions as it says, by the statements of the product."""
    sample, pragmas = ceilings.take_sample("c_bench", tmp_path / "sample")
    rate = ceilings.write_rows(sample, pragmas, tmp_path / "rows.db", commits=2, each=5)
    assert rate.transactions == 10
    store = SqliteStore(tmp_path / "rows.db")
    try:
        assert len(store.find(Query(client="c_bench")).transactions) == 10
    finally:
        store.close()


# -- arithmetic -------------------------------------------------------------------------------------------------------


def test_percentiles_are_by_nearest_rank() -> None:
    """A percentile is a value that was measured, and the 99th of a hundred is the 99th."""
    hundred = [float(value) for value in range(1, 101)]
    assert [load.percentile(hundred, share) for share in (0.5, 0.9, 0.99, 1.0)] == [50, 90, 99, 100]
    assert load.percentile([7.0], 0.5) == 7
    assert load.percentile([], 0.5) == 0


def test_a_spread_is_in_milliseconds() -> None:
    """From seconds in any order."""
    assert load.spread(array("d", [0.003, 0.001, 0.002])) == Spread(p50=2, p90=3, p99=3, max=3)


def test_growth_is_that_of_the_second_half() -> None:
    """What a server needs to get warm does not count as growth; what it gains afterwards does."""
    warm = [(0, 100.0), (1_000, 180.0), (2_000, 200.0), (3_000, 200.0), (4_000, 200.0), (5_000, 200.0)]
    assert growth(warm) == pytest.approx(0)
    assert growth([(at, 100 + at / 1_000) for at in range(0, 9_000, 1_000)]) == pytest.approx(1 / 1_000)
    assert growth([(0, 100.0)]) == 0


def test_shares_leave_waiting_out() -> None:
    """Threads that wait for work are no work; lines of one function count together."""
    stacks = [
        "run (interlock/a.py:1);f (interlock/b.py:2) 30",
        "run (interlock/a.py:1);f (interlock/b.py:9) 10",
        "run (interlock/a.py:1);c (other.py:1) 60",
        "_worker (concurrent/futures/thread.py:81) 900",
    ]
    found = {share.function: (share.whole, share.own) for share in shares(stacks)}
    assert found == {"run (interlock/a.py)": (1, 0), "f (interlock/b.py)": (0.4, 0.4), "c (other.py)": (0.6, 0.6)}
    assert shares([]) == []


def measured(per_second: float, server_us: float, *, callers: int = 64, rate: float | None = None) -> Measured:
    spread = Spread(p50=1, p90=1, p99=1, max=1)
    return Measured(
        face="reference", callers=callers, rate=rate, seconds=10, transactions=100_000, per_second=per_second,
        failures=0, failed=[], misses=0, answer_ms=spread, whole_ms=spread, late_ms=None,
        server_user_us=server_us - 100, server_system_us=100, generator_user_us=50, generator_system_us=10,
        others_share=0, memory=[(0, 90.0), (50_000, 250.0), (100_000, 250.0)],
    )  # fmt: skip


def rate(per_second: float) -> Rate:
    return Rate(transactions=1, seconds=1, per_second=per_second, user_us=1, system_us=1, others_share=0)


def report() -> Report:
    costs = {"bare: both": 80.0, "extract": 40.0, "receive stage": 150.0}
    return Report(
        started=NOW, machine=MACHINE, settings={}, parts=[],
        pieces=[Cost(name=name, median=cost, min=cost) for name, cost in costs.items()],
        ceiling=[rate(4_000), rate(9_000), rate(5_000)],
        reference=[measured(9_999, 1, callers=1), measured(1_250, 700), measured(9_999, 1, rate=800)],
        dbos=rate(100),
        stores=Stores(
            prefilled=1, bytes=1,
            empty=[measured(1, cpu) for cpu in (500, 9_000, 600)], full=[measured(1, cpu) for cpu in (690, 1, 900)],
        ),
        memory=measured(1, 1),
    )  # fmt: skip


def test_reached_compares_figures_of_one_run() -> None:
    """At 64 callers in a closed loop, with medians where something was measured several times."""
    found = [(reach.measured, reach.met) for reach in sqlite.reached(report())]
    assert found == [
        (0.25, True),  # 1,250 of 5,000
        (None, None),  # v1 was not measured
        (0.938, True),  # 150 of 1.5 x 80 + 40
        (12.5, False),  # 1,250 of 100
        (700, True),
        (1.15, True),  # 690 of 600
        (250, True),
        (0, True),
    ]


def test_the_limit_is_what_was_used_up() -> None:
    """The busiest of all, if it was busy; where nothing was, callers waited for each other's turns."""
    assert Busy(machine=0.6, server=0.97, loop=0.8).limit == "server process 97%"
    assert Busy(machine=0.98, server=0.9, loop=0.8, backend=0.2).limit == "all cores 98%"
    assert Busy(machine=0.5, server=0.4, loop=0.3, sync=0.85).limit == "disk 85%"
    assert Busy(machine=0.5, server=0.4, loop=0.3, backend=0.6).limit == "turns (PostgreSQL process 60%)"


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    """A run of some parts says nothing of the others."""
    nothing = Report(started=NOW, machine=MACHINE, settings={}, parts=[])
    assert {(reach.measured, reach.met) for reach in sqlite.reached(nothing)} == {(None, None)}


def test_a_report_can_be_read_back() -> None:
    """The JSON holds everything."""
    full = report()
    full.reached = sqlite.reached(full)
    full.profile = {"v1": shares(["f (interlock/b.py:2) 1"])}
    assert msgspec.json.decode(msgspec.json.encode(full), type=Report) == full


# -- the message core -------------------------------------------------------------------------------------------------


def core_report(costs: dict[str, float]) -> core.Report:
    steps = [
        core.Step(name=name, median=us, min=us, over_bare=us / costs[core.BARE], quartiles=(1, 2))
        for name, us in costs.items()
    ]
    machine = msgspec.structs.replace(MACHINE, versions={"python": "3", "lxml": "6", "libxml2": "2"})
    report = core.Report(started=NOW, machine=machine, settings={}, parts=["core"])
    report.cases = [core.Case(message="realistic", profile="generic", bytes=4_465, steps=steps)]
    report.folders = [Validated(jobs=2, files=1_000, bytes=4_465, seconds=0.5, cpu_seconds=0.9, start_seconds=0.2)]
    report.reached = core.reached(report)
    return report


def test_the_cores_messages_are_good_and_their_copies_new() -> None:
    """Each is without findings under its profile, as are its copies, with another UETR, amount and accounts."""
    kinds = list(core.kinds())
    assert {kind.profile for kind in kinds} == {"generic", "cbprplus", "sepa-inst", "fednow"}
    for kind in kinds:
        copies = [
            inspect(core.renewed(kind.content), CATALOGUE, limits=Limits(), today=core.NOW.date(), profile=kind.profile)
            for _ in range(2)
        ]
        assert [copy.findings for copy in copies] == [(), ()], kind.message
        payments = [copy.original.payments[0] for copy in copies if copy.original is not None]
        one, other = [
            (payment.uetr, payment.amount, payment.debtor_iban, payment.creditor_iban) for payment in payments
        ]
        assert not [value for value, again in zip(one, other, strict=True) if value == again and value is not None]


def test_a_round_measures_every_step_beside_bare_lxml() -> None:
    """Bare is one in its own terms; the whole way is several times a step of it, whatever else runs here."""
    case = core.measure(next(core.kinds()), CATALOGUE, rounds=3)
    cost = {step.name: step.median for step in case.steps}
    assert case.over_bare(core.BARE) == 1
    assert cost[core.WHOLE] > cost["parse, envelope"] > 0
    assert cost["inspect, whole"] > cost["parse, envelope"]


def test_a_folder_is_judged_by_the_command_and_taken_away(tmp_path: Path) -> None:
    """With one process, and with as many as there are cores."""
    found = validating.measure(tmp_path, files=3, rounds=1)
    assert [one.jobs for one in found] == list(validating.jobs_to_try())
    assert all(one.start_seconds > 0 and one.cpu_seconds > 0 for one in found)
    assert list(tmp_path.iterdir()) == []


def test_the_cores_figures_get_into_the_page_beside_the_others() -> None:
    """What is wanted and each step, as measured; the other parts of the page stay as they are."""
    page = publish.PAGE.read_text("utf-8")
    once = publish.filled(page, core_report({core.BARE: 50, core.WHOLE: 130}), "result.json")
    assert "| realistic, `generic`: whole way over bare lxml | <= 2.5 | 2.60 | no |" in once
    assert f"| {core.WHOLE} | 130 (2.60) |" in once
    assert "| 2 | 1,000 | 4,465 | 0.50 | 2,000 | 0.90 | 0.20 |" in once
    assert publish.filled(once, core_report({core.BARE: 50, core.WHOLE: 130}), "result.json") == once
    assert page.split("## One message")[0] == once.split("## One message")[0]
    assert page.split("## Two regions")[1] == once.split("## Two regions")[1]
