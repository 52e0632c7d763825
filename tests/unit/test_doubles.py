# ruff: noqa: F811 - fixtures are imported, and named again where they are used
"""What is made of another region's end that contradicts ours: an incident, once, and both ends stay as they are."""

from uuid import uuid4

import pytest

from interlock.lifecycle import EventKind
from interlock.ports import Query
from interlock.regions.doubles import Double
from tests.messages import pacs008
from tests.world import ALICE, CONSUMER, Place, a_world, place, world_database  # noqa: F401 - fixtures

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_an_end_that_another_region_contradicts_is_recorded_once_and_stays(place: Place) -> None:
    """The transaction is flagged and found so; a second contradiction is a second event, the same one again is none."""
    async with a_world(place) as world:
        ended = await world.workflow.receiving.submit(ALICE, pacs008())
        first, second = (Double(ended.id, uuid4(), region, "ACSC") for region in (2, 3))
        assert [await world.workflow.concluding.note_double(double) for double in (first, second, first)] == [
            True,
            True,
            False,
        ]
        now = await world.workflow.reading.get(ALICE, ended.id)
        assert (now.standing, now.answer_digest, now.flagged) == (ended.standing, ended.answer_digest, True)
        noted = (await world.workflow.reading.history(ALICE, ended.id))[-2:]
        assert [(event.kind, event.note, event.detail) for event in noted] == [
            (EventKind.ENDED_TWICE, double.note, double.detail) for double in (first, second)
        ]
        assert (await world.workflow.reading.find(Query(client=ALICE, flagged=True))).transactions == (now,)


async def test_what_has_not_ended_or_is_another_region_s_is_left_alone(place: Place) -> None:
    """Whoever goes on with a transaction records what contradicts it; before its end nothing does."""
    async with a_world(place, CONSUMER) as world:
        held = await world.workflow.receiving.submit(ALICE, pacs008())
        assert not await world.workflow.concluding.note_double(Double(held.id, uuid4(), 2, "ACSC"))
        assert world.store.get(held.id) == held
    async with a_world(place) as world:
        ended = await world.workflow.receiving.submit(ALICE, pacs008())
        place.execute("UPDATE transactions SET region = 2")
        world.workflow.begin_anew()
        assert not await world.workflow.concluding.note_double(Double(ended.id, uuid4(), 2, "ACSC"))
        assert not (await world.workflow.reading.get(ALICE, ended.id)).flagged


def test_it_is_told_in_words_which_of_the_two_it_is() -> None:
    """One transaction that ended in two ways, or one payment that settled as two transactions."""
    one, other = uuid4(), uuid4()
    assert (
        Double(one, one, 2, "CANC").note == "region 2 has ended it too, as CANC or with another answer; both are kept"
    )
    assert Double(one, other, 2, "ACSC").note == f"region 2 has settled the same payment too, as {other}; both are kept"
