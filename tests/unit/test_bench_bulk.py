"""The benchmark of long messages: its message is sound, and its figures are those that we want to reach."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from bench import bulk, many, publish
from bench.bulk import Report, Waits, Way
from bench.ceilings import Machine


@pytest.mark.parametrize("mode", many.MODES)
def test_its_message_is_read_whole(tmp_path: Path, mode: str) -> None:
    """Every way of reading counts its payments, which are as long as those of life, and finds nothing wrong."""
    path = tmp_path / "message.xml"
    many.write(path, 40)
    assert many.read(mode, path, tmp_path / "schemas").payments == 40
    assert 1_100 < path.stat().st_size / 40 < 1_300


def waits(p99_ms: float) -> Waits:
    """Of single payments."""
    return Waits(number=600, p50_ms=4, p99_ms=p99_ms, max_ms=30)


def way(**changed: float) -> Way:
    """A message's way in, with what a test is about."""
    given = {"cpu_seconds": 20.0, "postgres_seconds": 0.0, "memory_mb": 250.0, "beside": 12.0, **changed}
    return Way(
        store="sqlite", payments=100_000, megabytes=116, seconds=12, cpu_seconds=given["cpu_seconds"],
        postgres_seconds=given["postgres_seconds"], memory_mb=given["memory_mb"], reader_mb=130, before_mb=120,
        alone=waits(9), beside=waits(given["beside"]),
    )  # fmt: skip


def report(*ways: Way) -> Report:
    """Of these ways in."""
    machine = Machine(
        id="0a1b2c", cpu="a CPU", cores=2, memory_gb=8, kernel="6", filesystem="ext4", fdatasync_per_second=1000,
        load_average=0, versions={"python": "3.11"}, commit="c0ffee",
    )  # fmt: skip
    return Report(started=datetime(2026, 11, 22, tzinfo=UTC), machine=machine, settings={}, parts=[], ways=[*ways])


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({}, []),
        ({"cpu_seconds": 30, "postgres_seconds": 10}, ["sqlite: the whole way, a second of CPU"]),
        ({"memory_mb": 301}, ["sqlite: memory of both processes"]),
        ({"beside": 14}, ["sqlite: p99 of single payments, beside it over alone"]),
    ],
)
def test_what_is_missed_is_said(changed: dict[str, float], missed: list[str]) -> None:
    """Each figure has its own bound; CPU is everybody's."""
    assert [reach.name for reach in bulk.reached(report(way(**changed))) if reach.met is False] == missed


def test_the_page_has_its_figures() -> None:
    """Every part of the page is made from the result as it is read back."""
    kept = msgspec.json.decode(msgspec.json.encode(report(way())), type=Report)
    page = publish.filled(publish.BULK_PAGE.read_text("utf-8"), kept, "bench-x.json")
    assert "| sqlite | 8,333 | 5,000 | 12.0 |" in page
    assert "commit `c0ffee`" in page
