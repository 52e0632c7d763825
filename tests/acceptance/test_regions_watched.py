"""What two real regions tell of each other: which of them can be called, what metrics say, and what must never be."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chaos.desk import Desk
from chaos.processes import ServerFailed, command
from chaos.world import World
from checker.log import ClientLog
from interlock.demo.messages import Author
from tests.postgres import installation

pytestmark = [pytest.mark.xdist_group("regions"), pytest.mark.timeout(180)]

HOME, PEER = "east", "west"
SECONDS = 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two regions that are well."""
    installation()
    with World((HOME, PEER), lease_seconds=10, durable=False, folder=tmp_path / "world") as world:
        world.await_whole()
        yield world
        for region in world.regions.values():
            assert "Traceback" not in region.server.said()


@pytest.fixture
def desk(world: World, tmp_path: Path) -> Iterator[Desk]:
    """A consumer; what it notes is not needed here."""
    credentials = world.add_client("shop", "rp2/read", "rp2/write")
    with ClientLog(tmp_path / "shop.jsonl", credentials[0]) as lines:
        yield Desk(world, credentials, lines)


def told(world: World, region: str) -> dict[tuple[str, ...], float]:
    """What a region's metrics say: by name and the values of the labels."""
    text = httpx.get(f"{world.regions[region].url}/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("interlock_")
    }


def tells(world: World, region: str, *sample: str) -> bool:
    """Whether a region's metrics say that something is so, or is once."""
    return told(world, region).get(sample) == 1


def is_alone(world: World, region: str) -> bool:
    """Whether a region's ends wait for nobody."""
    return not world.status(region).guards


def healthy(desk: Desk, region: str) -> list[str]:
    """Whom a region names at its global endpoint; v1 names the same."""
    look = desk.call(region, "GET", "/").json()
    assert list(look) == [
        "message", "request_id", "request_timestamp", "transaction_id", "region_id", "api_endpoint", "sqs_count",
        "s3_count", "dynamodb_count", "healthy_regions", "request_duration",
    ]  # fmt: skip
    named = look["healthy_regions"]
    regions: dict[str, Any] = desk.call(region, "GET", "/v1/regions").json()
    assert [one["api_endpoint"] for one in named] == [url.removeprefix("http://") for url in regions["healthy"]]
    return [one["region_id"] for one in named]


def test_a_payment_that_both_regions_settle_apart_is_an_incident_in_both(world: World, desk: Desk) -> None:
    """Cut off from each other, each goes on alone and says so; when they meet, both ends are kept, flagged and told."""
    assert healthy(desk, HOME) == [HOME, PEER]
    world.until(partial(tells, world, HOME, "interlock_peer_applied", PEER), "a first look", seconds=SECONDS)
    well = told(world, HOME)
    for name, value in {
        ("interlock_leader", "regions"): 1, ("interlock_witness_connected",): 1, ("interlock_region_guards",): 1,
        ("interlock_region_guards_wanted",): 1, ("interlock_peer_state", PEER, "healthy"): 1,
        ("interlock_peer_state", PEER, "dead"): 0, ("interlock_peer_taken_over", PEER): 0,
        ("interlock_slot_lost", PEER): 0, ("interlock_peer_applied", PEER): 1, ("interlock_ended_twice",): 0,
    }.items():  # fmt: skip
        assert well[name] == value, name
    assert well["interlock_slot_safe_bytes", PEER] > 2**29

    world.links.cut(HOME, PEER)
    for region in (HOME, PEER):
        world.until(partial(is_alone, world, region), f"{region} is alone", seconds=SECONDS)
    message = Author(datetime.now(UTC)).pacs008()
    ids = {region: desk.taken(region, message, wait=SECONDS)["transaction_id"] for region in (HOME, PEER)}
    assert {desk.end(region, id_)["status"] for region, id_ in ids.items()} == {"ACSC"}
    world.until(partial(tells, world, HOME, "interlock_peer_state", PEER, "dead"), "it is seen", seconds=SECONDS)
    assert healthy(desk, HOME) == [HOME]
    assert told(world, HOME)["interlock_region_guards",] == 0

    world.links.heal_all()
    world.await_whole()
    for region, other in ((HOME, PEER), (PEER, HOME)):
        world.until(partial(tells, world, region, "interlock_ended_twice"), f"{region} tells", seconds=SECONDS)
        page = desk.call(region, "GET", "/v1/transactions?flagged=true").json()["transactions"]
        assert {one["transaction_id"]: one["flagged"] for one in page}[ids[region]] is True
        one = desk.get(region, ids[region]).json()
        assert (one["status"], one["final"], one["flagged"]) == ("ACSC", True, True)
        events = desk.call(region, "GET", f"/v1/transactions/{ids[region]}/events").json()["events"]
        assert [event["event"] for event in events].count("EndedTwice") == 1
        assert events[-1]["detail"] == {
            "transaction": ids[other], "region": world.regions[other].number, "status": "ACSC",
        }  # fmt: skip
        with pytest.raises(ServerFailed, match="INCIDENT: transaction"):
            command(world.regions[region].server.config, "regions", "status")
    assert healthy(desk, PEER) == [PEER, HOME]
