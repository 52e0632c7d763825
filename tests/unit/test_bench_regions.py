"""The benchmark of regions: distances are as long as they say and no narrower, and figures are those of one run."""

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import pytest

from bench import publish, regional
from bench.ceilings import Machine
from bench.delays import Delays
from bench.distance import Sample, lag_of
from bench.load import Load, Measured, Plan, Spread
from bench.regional import ALONE, AVAILABLE, CONSISTENT, Level, Report, Rest
from bench.takeovers import Return, Takeover

LOCAL: Final = "127.0.0.1"


# -- distance ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def delays() -> Iterator[Delays]:
    with Delays() as made:
        yield made


def answering(content: bytes) -> tuple[int, list[bytes]]:
    """A server that reads one connection to its end, then says something and closes; its port, and what it has read."""
    server = socket.create_server((LOCAL, 0))
    read: list[bytes] = []

    def serve() -> None:
        with server:
            connection, _ = server.accept()
            with connection:
                while came := connection.recv(1 << 20):
                    read.append(came)
                connection.sendall(content)

    threading.Thread(target=serve, daemon=True).start()
    return int(server.getsockname()[1]), read


@pytest.mark.parametrize("asked", [0.0, 30.0])
def test_a_round_trip_is_as_long_as_asked(delays: Delays, asked: float) -> None:
    """Never shorter, and not much longer."""
    delays.set_round_trip(asked)
    assert asked <= delays.measure() < asked + 15


def test_a_distance_keeps_order_and_makes_nothing_narrow(delays: Delays) -> None:
    """Twenty megabytes come as they were sent; were each piece held up in turn, it would take five seconds or more."""
    content = b"".join(number.to_bytes(4, "big") for number in range(5_000_000))
    port, read = answering(b"thanks")
    delays.set_round_trip(40)
    began = time.monotonic()
    with socket.create_connection((LOCAL, delays.listen("east", "west", port)), timeout=30) as caller:
        caller.sendall(content)
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(64) == b"thanks"
        assert caller.recv(64) == b""
    assert time.monotonic() - began < 4
    assert hashlib.sha256(b"".join(read)).digest() == hashlib.sha256(content).digest()


def test_whoever_is_gone_is_seen_to_be_gone(delays: Delays) -> None:
    """A connection to a port that nobody listens at ends, instead of standing still for ever."""
    with socket.create_server((LOCAL, 0)) as server:
        port = int(server.getsockname()[1])
    with socket.create_connection((LOCAL, delays.listen("east", "west", port)), timeout=10) as caller:
        assert caller.recv(1) == b""


# -- lag --------------------------------------------------------------------------------------------------------------


def sample(at: float, written: int, confirmed: int) -> Sample:
    return Sample(at, written * 1_000, confirmed * 1_000)


@pytest.mark.parametrize(
    ("samples", "kilobytes", "milliseconds"),
    [
        pytest.param([(0, 5, 5), (1, 7, 5), (2, 7, 6), (3, 7, 7)], 2, 2_000, id="until all of it is confirmed"),
        pytest.param([(0, 5, 5), (1, 7, 7)], 0, 0, id="confirmed when it was first seen"),
        pytest.param([(0, 5, 5), (1, 7, 5), (4, 7, 6)], 2, 3_000, id="not confirmed to the end"),
        pytest.param([(0, 5, 1), (1, 5, 2), (2, 6, 6)], 0, 0, id="only what was written meanwhile counts"),
        pytest.param([(0, 1, 1), (1, 2, 1), (2, 3, 2), (3, 4, 4)], 1, 1_000, id="the largest of several"),
    ],
)
def test_lag_is_the_time_to_the_confirmation(
    samples: list[tuple[float, int, int]], kilobytes: float, milliseconds: float
) -> None:
    """Of each moment at which something had been written since the last look."""
    lag = lag_of([sample(*one) for one in samples])
    assert lag is not None
    assert (lag.kilobytes.max, lag.ms.max) == (kilobytes, milliseconds)


def test_without_writing_there_is_no_lag() -> None:
    """Nothing was written, so nobody can be late with it."""
    assert lag_of([sample(0, 5, 1), sample(1, 5, 1)]) is None


# -- acknowledgements -------------------------------------------------------------------------------------------------


def test_acknowledgements_are_kept_and_faults_are_not() -> None:
    """The load generator's word on what was acknowledged: nothing refused, held by a fault or rejected is among it."""
    told = [
        (202, '{"transaction_id":"one","status":"ACSP","held":null}'),
        (503, '{"code":"not_replicated"}'),
        (202, '{"transaction_id":"two","status":"PDNG","held":"fault"}'),
        (200, '{"transaction_id":"three","status":"RJCT","held":null}'),
        (200, '{"transaction_id":"four","status":"ACSC","held":null}'),
    ]
    heads: list[bytes] = []

    async def work() -> Measured:
        answers = iter(told)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for status, body in answers:
                head = await reader.readuntil(b"\r\n\r\n")
                heads.append(head)
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, LOCAL, 0)
        async with server:
            plan = Plan(
                host=LOCAL, ports=[server.sockets[0].getsockname()[1]], client_id="", client_secret="", pids=[],
                face="acknowledged", consistency="consistent", keep=True, callers=1, warmup_seconds=0, seconds=10,
                transactions=2,
            )  # fmt: skip
            return await Load(plan, "token").run()

    found = asyncio.run(work())
    assert found.acknowledged == ["one", "four"]
    assert found.transactions == 2
    assert [said.split()[1] for said in found.failed[:3]] == ["503", "202", "200"]
    assert all(b"X-Consistency: consistent" in head and b"Prefer" not in head for head in heads)


# -- arithmetic -------------------------------------------------------------------------------------------------------


def level(
    setting: str, p50: float, *, us: float = 100, peer: float = 0, asked: float = 0, callers: int = 1,
    face: str = "v1", rate: float | None = None,
) -> Level:  # fmt: skip
    spread = Spread(p50=p50, p90=p50, p99=2 * p50, max=3 * p50)
    measured = Measured(
        face=face, callers=callers, rate=rate, seconds=1, transactions=1, per_second=9, failures=0, failed=[],
        misses=0, answer_ms=spread, whole_ms=spread, late_ms=None, server_user_us=us, server_system_us=0,
        generator_user_us=0, generator_system_us=0, beside_us={"peer": peer} if peer else {}, others_share=0,
        memory=[],
    )  # fmt: skip
    return Level(setting=setting, round_trip_ms=asked, measured=measured)


def takeover(decided: float, lost: int) -> Takeover:
    return Takeover(
        round_trip_ms=10, lost="east", in_flight=9, granted_seconds=5, decided_seconds=decided, rejoined_seconds=3,
        consistent=100, consistent_lost=lost, available=200, available_lost=7,
    )  # fmt: skip


def empty() -> Report:
    machine = Machine(
        id="0", cpu="?", cores=2, memory_gb=1, kernel="?", filesystem="?", fdatasync_per_second=1, load_average=0,
        versions={"python": "3"}, commit="?",
    )  # fmt: skip
    return Report(started=datetime.now(UTC), machine=machine, settings={}, parts=[])


def report() -> Report:
    made = empty()
    made.round_trips = {0: 0.5, 10: 11}
    made.rests = [Rest(setting=ALONE, server=20, postgres=3)]
    made.levels = [
        level(ALONE, 1, us=100, rate=150), level(ALONE, 1, us=140, rate=150),
        level(AVAILABLE, 1, us=130, peer=20, rate=150), level(CONSISTENT, 1, us=170, peer=10, rate=150),
        level(AVAILABLE, 3, us=900, peer=90, asked=10, rate=150),
        level(AVAILABLE, 4, asked=10, face="acknowledged"), level(CONSISTENT, 19, asked=10, face="acknowledged"),
        level(AVAILABLE, 20, asked=10), level(CONSISTENT, 40, asked=10),
        level(ALONE, 5, us=50, callers=32), level(AVAILABLE, 9, us=70, peer=5, callers=32),
    ]  # fmt: skip
    made.takeovers = [takeover(6, 0), takeover(7.5, 0), takeover(6.5, 1)]
    made.returns = [
        Return(
            round_trip_ms=0, outage_seconds=15, pace=150, payments=2_000, megabytes=20, flows_seconds=1,
            caught_up_seconds=3, rejoined_seconds=5,
        )
    ]  # fmt: skip
    made.reached = regional.reached(made)
    return made


def test_reaches_compare_what_was_measured_at_one_distance() -> None:
    """At the same pace, of both processes; less the round trip as it was; the slowest takeover; every loss."""
    assert [(reach.measured, reach.met) for reach in report().reached] == [
        (1.25, False),  # (130 + 20) / the mean of both times alone
        (1.5, False),  # (70 + 5) / 50
        (1.083, None),  # the home alone
        (1.5, None),  # (170 + 10) / 120
        (None, None),  # nothing was measured at 0 ms
        (None, None),
        (4, True),  # 19 - 4 - 11
        (9, False),
        (7.5, True),
        (6.5, None),
        (1, False),
        (21, None),
        (1_000, None),
    ]


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    """A run of some parts says so."""
    assert {(reach.measured, reach.met) for reach in regional.reached(empty())} == {(None, None)}


def test_figures_get_into_the_page_beside_the_others() -> None:
    """Every part of the page about regions is made from the report; the rest of it stays as it is."""
    page = publish.PAGE.read_text("utf-8")
    once = publish.filled(page, report(), "result.json")
    assert "[result.json](../bench/results/result.json)" in once
    assert "| consistent | 10 ms | 19.0 / 38.0 | 40.0 / 80.0 |  |" in once
    assert "| 10 ms | east | 9 | 5.0 | 7.5 | 3.0 | 0 of 100 | 7 of 200 |" in once
    assert publish.filled(once, report(), "result.json") == once
    before, rest = page.split("## Two regions")[0], once.split("## Two regions")[0]
    assert before == rest
