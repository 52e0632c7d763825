"""Bodies that are too long for memory: on disk for as long as the request lasts, and no longer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import wraps
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from interlock.api.exchange import ClientGone, Intake, Request, Spooled, TooSlow
from interlock.config import Config
from interlock.errors import BodyTooLarge, InterlockError, Overloaded

CHUNK = b"<" + b"x" * 65_535
#: Says that what follows never comes.
_SILENCE: dict[str, Any] = {}


def awaited(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """A test that needs an event loop."""

    @wraps(test)
    def run(**given: Any) -> None:
        asyncio.run(test(**given))

    return run


def intake(tmp_path: Path, **settings: Any) -> Intake:
    """With bounds that are met soon."""
    given = {"body_bytes_max": 100_000, "bulk_bytes_max": 1_000_000, "bulk_files_max": 1, **settings}
    return Intake(Config(data=tmp_path, **given))


def request(*messages: dict[str, Any], **headers: str) -> Request:
    """One whose body comes like this, and then not at all."""

    async def receive() -> dict[str, Any]:
        message = next(coming)
        if message is _SILENCE:
            await asyncio.Event().wait()
        return message

    coming: Iterator[dict[str, Any]] = iter([*messages, _SILENCE])
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "path": "/v1/messages", "headers": named}, receive, 0.0)


def chunks(number: int, *, end: bool = True) -> list[dict[str, Any]]:
    """A body in so many parts."""
    return [{"type": "http.request", "body": CHUNK, "more_body": not end or n < number - 1} for n in range(number)]


def files(tmp_path: Path) -> list[Path]:
    """What lies on the disk."""
    return list((tmp_path / "spool").glob("*"))


@awaited
async def test_a_long_body_is_on_disk_while_the_request_lasts(tmp_path: Path) -> None:
    """With its digest and its first bytes; a short one is in memory."""
    taking = intake(tmp_path)
    async with taking.take(request(*chunks(4)), "c_alice") as body:
        assert isinstance(body, Spooled)
        assert (body.digest, body.head[:2]) == (sha256(CHUNK * 4).digest(), b"<x")
        assert body.path.read_bytes() == CHUNK * 4
    assert (files(tmp_path), taking.files) == ([], 0)
    async with taking.take(request(*chunks(1)), "c_alice") as body:
        assert body == CHUNK


@pytest.mark.parametrize(
    ("messages", "headers", "settings", "error"),
    [
        (chunks(40), {}, {}, BodyTooLarge),
        ([], {"content_length": "1000001"}, {}, BodyTooLarge),
        ([*chunks(3, end=False), {"type": "http.disconnect"}], {}, {}, ClientGone),
        (chunks(3, end=False), {}, {"body_seconds_max": 0.05}, TooSlow),
        (chunks(3), {"content_length": "9" * 18}, {"bulk_bytes_max": 4_294_967_296}, BodyTooLarge),
    ],
    ids=["too long", "announced too long", "client gone", "slow", "announced far too long"],
)
@awaited
async def test_nothing_is_left_of_a_body_that_did_not_come(
    tmp_path: Path, messages: list[dict[str, Any]], headers: dict[str, str], settings: dict[str, Any], error: type
) -> None:
    """Whatever kept it from coming."""
    taking = intake(tmp_path, **settings)
    with pytest.raises(error):
        await wait_for(taking.take(request(*messages, **headers), "c_alice"))
    assert (files(tmp_path), taking.files) == ([], 0)


async def wait_for(taken: Any) -> None:
    """Until the body is there."""
    async with taken:
        pass


@awaited
async def test_there_are_so_many_at_once(tmp_path: Path) -> None:
    """One more is refused, and taken once there is room."""
    taking = intake(tmp_path)
    async with taking.take(request(*chunks(4)), "c_alice"):
        with pytest.raises(Overloaded):
            await wait_for(taking.take(request(*chunks(4)), "c_alice"))
    await wait_for(taking.take(request(*chunks(4)), "c_alice"))


@awaited
async def test_a_long_message_that_comes_slowly_holds_nobody_else_up(tmp_path: Path) -> None:
    """Its client has to wait for its end; others do not."""
    taking = intake(tmp_path, bulk_files_max=1)
    coming = asyncio.create_task(wait_for(taking.take(request(*chunks(4, end=False)), "c_alice")))
    await until(lambda: files(tmp_path) != [])
    with pytest.raises(Overloaded, match="of yours"):
        await wait_for(taking.take(request(*chunks(4)), "c_alice"))
    await wait_for(taking.take(request(*chunks(4)), "c_bob"))
    coming.cancel()
    with suppress(asyncio.CancelledError):
        await coming
    await wait_for(taking.take(request(*chunks(4)), "c_alice"))
    assert files(tmp_path) == []


@awaited
async def test_what_is_still_coming_is_told_when_the_process_ends(tmp_path: Path) -> None:
    """And what comes then is refused."""
    taking = intake(tmp_path)
    coming = asyncio.create_task(wait_for(taking.take(request(*chunks(4, end=False)), "c_alice")))
    await until(lambda: files(tmp_path) != [])
    taking.interrupt()
    with pytest.raises(Overloaded, match="being stopped"):
        await coming
    with pytest.raises(InterlockError, match="being stopped"):
        await wait_for(taking.take(request(*chunks(4)), "c_alice"))
    assert files(tmp_path) == []


async def until(so: Callable[[], bool]) -> None:
    """Let others go on until it is so."""
    async with asyncio.timeout(10):
        async for _ in _turns():
            if so():
                return


async def _turns() -> AsyncIterator[None]:
    while True:
        yield
        await asyncio.sleep(0)


def test_files_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    """What nobody holds any more."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "left.part").write_bytes(b"<a>")
    intake(tmp_path)
    assert files(tmp_path) == []
