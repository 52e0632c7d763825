# ruff: noqa: F811 - fixtures are imported, and named again where they are used
"""The clock of an instant payment begins where its scheme says, whenever the message comes."""

from datetime import UTC, datetime, timedelta

import pytest

from interlock.iso20022.codes import Status
from interlock.iso20022.profiles import Profiles, examples
from interlock.routes import Route
from interlock.stages.way import TIMED_OUT
from interlock.transaction import Transaction
from tests.world import ALICE, AUTO, Place, World, a_world, place, world_database  # noqa: F401

pytestmark = pytest.mark.anyio

#: When the profiles' examples say that they were made.
MADE = datetime(2026, 11, 23, 9, tzinfo=UTC)
STAMP = b"2026-11-23T10:00:00+01:00</Acc"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def example(profile: str) -> bytes:
    """The payment that comes with a profile, which it takes; accepted at that time."""
    content = (examples.folder_of(Profiles.load().named(profile), None) / "payment.xml").read_bytes()
    return content.replace(b"2026-11-23T08:59:59.500Z</Acc", STAMP)


def route(profile: str, **more: object) -> Route:
    """One with the profile's own clock and reason."""
    known = Profiles.load().named(profile)
    assert known.sla is not None
    assert known.timeout_reason is not None
    given = {"name": "scheme", "sla": known.sla, "timeout_reason": known.timeout_reason, "profile": profile}
    return Route(**{**given, **more})  # type: ignore[arg-type]


async def ended(world: World, transaction: Transaction) -> Transaction:
    return await world.workflow.reading.until_end(transaction, 10)


@pytest.mark.parametrize(
    ("profile", "late", "end", "reason"),
    [
        ("sepa-inst", 0, Status.ACSC, None),
        ("sepa-inst", 9.999, Status.ACSC, None),
        ("sepa-inst", 10, Status.RJCT, "AB05"),
        ("sepa-inst", 3 * 86_400, Status.RJCT, "AB05"),
        ("sepa-inst", -60, Status.ACSC, None),
        ("sepa-inst", -61, Status.RJCT, "DT04"),
        ("fednow", 19.999, Status.ACSC, None),
        ("fednow", 20, Status.RJCT, "AB06"),
        ("fednow", -3600, Status.RJCT, "DT04"),
        ("rtp", 3600, Status.ACSC, None),
    ],
)
async def test_its_time_begins_with_its_stamp(
    place: Place, profile: str, late: float, end: Status, reason: str | None
) -> None:
    """What comes too late is rejected as what took too long is; what comes from the future is told so."""
    async with a_world(place, route(profile)) as world:
        world.hand.now = MADE + timedelta(seconds=late)
        found = await ended(world, await world.workflow.receiving.submit(ALICE, example(profile)))
        assert (found.standing.end, found.reason) == (end, reason)
        assert (found.code == TIMED_OUT) is (reason in ("AB05", "AB06"))
        assert ("own time stamp" in (found.note or "")) is (reason in ("AB05", "AB06"))
        assert world.verify(found.id).standing == found.standing


async def test_the_id_alone_does_not_make_it_younger(place: Place) -> None:
    """The message of an id that was fetched before has the time of its own stamp, and the id's at most."""
    async with a_world(place, route("sepa-inst")) as world:
        for fetched, sent, end in ((-5, 4, Status.ACSC), (-5, 5, Status.RJCT), (9, 11, Status.RJCT)):
            world.hand.now = MADE + timedelta(seconds=fetched)
            issued = await world.workflow.receiving.issue(ALICE)
            world.hand.now = MADE + timedelta(seconds=sent)
            content = example("sepa-inst").replace(b"EXAMPLE-", f"E{fetched}{sent}-".encode())
            found = await ended(world, await world.workflow.receiving.receive(ALICE, issued.id, content))
            assert found.standing.end is end, found.note


async def test_what_is_driven_again_begins_anew(place: Place) -> None:
    """The operator who drives a payment again that was too late wants it to be paid."""
    async with a_world(place, route("sepa-inst")) as world:
        world.hand.now = MADE + timedelta(seconds=30)
        late = await ended(world, await world.workflow.receiving.submit(ALICE, example("sepa-inst")))
        assert late.reason == "AB05"
        again = await ended(world, await world.workflow.driving.again(ALICE, late.id, ALICE))
        assert again.standing.end is Status.ACSC


@pytest.mark.parametrize(
    ("stamp", "reason"),
    [
        ("2026-11-22T24:00:00Z", "AB05"),
        ("2020-01-01T24:00:00.000+02:00", "AB05"),
        ("2099-01-01T24:00:00Z", "DT04"),
        (f"2020-01-01T00:00:00.1{'0' * 40}Z", "AB05"),
        (f"2020-01-01T00:00:00.1{'0' * 300}Z", "DT01"),
        ("-2020-01-01T00:00:00Z", "DT01"),
        ("12020-01-01T00:00:00Z", "DT01"),
        ("9999-12-31T23:59:59-14:00", "DT01"),
        ("0001-01-01T00:00:00+14:00", "DT01"),
    ],
)
async def test_odd_stamps_do_not_stop_the_clock(place: Place, stamp: str, reason: str) -> None:
    """The end of a day, and years that no clock shows: what is late is late, and what is no time is told so."""
    async with a_world(place, route("sepa-inst")) as world:
        world.hand.now = MADE + timedelta(seconds=1)
        content = example("sepa-inst").replace(STAMP, f"{stamp}</Acc".encode())
        assert stamp.encode() in content
        found = await ended(world, await world.workflow.receiving.submit(ALICE, content))
        assert (found.standing.end, found.reason) == (Status.RJCT, reason)


@pytest.mark.parametrize("stamp", ["2026-11-20T09:00:00", "2026-11-23T09:00:00.123456789+00:00"])
async def test_a_stamp_of_no_known_time_decides_nothing(place: Place, stamp: str) -> None:
    """Without an offset nobody here knows when that was; what cannot be read is no time either."""
    async with a_world(place, route("sepa-inst"), AUTO) as world:
        world.hand.now = MADE + timedelta(seconds=1)
        content = example("sepa-inst").replace(STAMP, f"{stamp}</Acc".encode())
        assert stamp.encode() in content
        found = await ended(world, await world.workflow.receiving.submit(ALICE, content))
        assert found.standing.end is Status.ACSC
