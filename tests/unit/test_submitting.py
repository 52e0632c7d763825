# ruff: noqa: F811 - fixtures are imported, and named again where they are used
"""A message of many payments on its way in, when whoever sent it does not wait for the end."""

import asyncio
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from interlock.ports import Query, Stager
from tests.messages import pacs008
from tests.world import ALICE, Place, a_world, place, world_database  # noqa: F401 - fixtures

pytestmark = pytest.mark.anyio


async def test_what_is_given_up_while_it_begins_is_closed(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread cannot be stopped half-way: what it begins meanwhile is given up too, and nothing of it is kept."""
    content = pacs008()
    file = tmp_path / "message.xml"
    file.write_bytes(content)
    begun, goes_on = threading.Event(), threading.Event()
    stagers: list[Stager] = []
    closed: list[Stager] = []
    async with a_world(place) as world:
        make = world.store.stager

        def slowly(*given: object) -> Stager:
            begun.set()
            assert goes_on.wait(10)
            stager = make(*given)  # type: ignore[arg-type]
            close = stager.close

            def noted() -> None:
                closed.append(stager)
                close()

            monkeypatch.setattr(stager, "close", noted)
            stagers.append(stager)
            return stager

        monkeypatch.setattr(world.store, "stager", slowly)
        digest = sha256(content).digest()
        assert world.workflow.bulk is not None
        submitted = asyncio.ensure_future(
            world.workflow.bulk.submit(ALICE, file, digest, idempotency_key=None, reference=None)
        )
        assert await asyncio.to_thread(begun.wait, 10)
        submitted.cancel()
        await asyncio.sleep(0)  # it is told
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await submitted
        assert len(stagers) == 1
        assert closed == stagers
        assert (await world.workflow.reading.find(Query(client=ALICE))).transactions == ()
