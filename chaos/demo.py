"""Two regions and a witness, live: one is lost with payments in flight, taken over, and comes back.

    python -m chaos.demo

Applications send payments in both regions all the while. At the end `checker`, which knows nothing of Interlock, holds
their logs against both databases. Exit code 0 only if nothing was lost, nothing doubled, and every other promise held.
"""

import asyncio
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from chaos.consumers import ROUTES, Application, Place
from chaos.processes import ServerFailed
from chaos.watching import Screen, Watch, console
from chaos.world import NotSo, World
from checker.log import ClientLog
from checker.timeline import Timeline
from interlock.demo.messages import Author
from interlock.demo.postgres.processes import ClusterFailed

LOST, TAKER = "east", "west"
#: Payments that begin each second, in each region.
_PACE = 8.0
_BEFORE_SECONDS, _WITHOUT_SECONDS, _AFTER_SECONDS = 8.0, 6.0, 5.0
_LOOK_SECONDS = 0.05
_WAIT_SECONDS = 60.0
#: Answers that are read again at once.
_AT_ONCE = 16
_SLA_SECONDS = 600
#: How long the checker may wait for the last rows to come from one region to the other.
_PATIENCE_SECONDS = 30


def main() -> int:
    """Hold it; the exit code."""
    # An end by `kill` cleans up like one by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="interlock-regions-demo-"))
    out = console()
    out.print("Starting two regions and a witness, each with a PostgreSQL of its own ...")
    try:
        code = _hold(folder)
    except (ClusterFailed, ServerFailed, NotSo) as exc:
        out.print(str(exc), style="red")
        code = 1
    except KeyboardInterrupt:
        out.print("broken off; everything is gone again")
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    if code:
        out.print(f"logs of applications and servers are in {folder}", soft_wrap=True)
    else:
        shutil.rmtree(folder)
    return code


def _hold(folder: Path) -> int:
    with World((LOST, TAKER), routes=ROUTES, folder=folder / "world") as world:
        world.await_whole()
        credentials = world.add_client("shop", "rp2/read", "rp2/write")
        with Watch(world) as watch, Screen(watch, (LOST, TAKER)) as screen:
            given_up = asyncio.run(_play(world, screen, credentials, folder))
        for said in given_up:
            screen.console.print(f"not seen through: {said}", style="red")
        return _check(world, folder) or (1 if given_up else 0)


async def _play(world: World, screen: Screen, credentials: tuple[str, str], folder: Path) -> Sequence[str]:
    """Everything that happens; what the applications could not see through."""
    author = Author(datetime.now(UTC), seed=random.getrandbits(32))
    async with AsyncExitStack() as stack:
        timeline = stack.enter_context(closing(Timeline(folder / "timeline.jsonl")))
        applications = []
        for home, other in ((LOST, TAKER), (TAKER, LOST)):
            places = [Place(name, world.regions[name].url) for name in (home, other)]
            log = stack.enter_context(ClientLog(folder / "logs" / f"{home}.jsonl", credentials[0]))
            one = Application(places, credentials, log, author, random.Random())
            applications.append(await stack.enter_async_context(one))
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as load:
            for application in applications:
                load.create_task(application.send(_PACE, enough))
            await _lose_and_find(world, screen, timeline, applications)
            enough.set()
        screen.tell(f"the load ends; {sum(one.under_way for one in applications)} payments are still under way")
        await asyncio.gather(*(application.see_through() for application in applications))
        screen.tell(_tally(applications))
        await _look_up(applications)
        screen.tell("every transaction was looked up, and its answer read again")
        return [said for application in applications for said in application.given_up]


async def _lose_and_find(world: World, screen: Screen, timeline: Timeline, applications: Sequence[Application]) -> None:
    screen.tell(f"applications send {_PACE:g} payments a second in each region")
    await asyncio.sleep(_BEFORE_SECONDS)
    in_flight = (await asyncio.to_thread(world.status, LOST)).in_flight
    screen.tell(f"region {LOST} is killed (kill -9: server and database), {in_flight} payments in flight", "bold red")
    timeline.kill(LOST, number=world.regions[LOST].number)
    killed = time.monotonic()
    await asyncio.to_thread(world.lose, LOST)
    await _until(lambda: world.entry(LOST).taker is not None, f"{LOST} is taken over")
    timeline.takeover(LOST, by=TAKER)
    screen.tell(f"the witness has granted {TAKER} the takeover, {time.monotonic() - killed:.1f} s after the kill")
    await _until(lambda: world.is_decided(LOST), "the takeover is complete")
    screen.tell(f"everything in flight is decided, {time.monotonic() - killed:.1f} s after the kill", "bold green")
    await asyncio.sleep(_WITHOUT_SECONDS)
    screen.tell(f"region {LOST} is started again; {_tally(applications)}")
    timeline.returned(LOST)
    back = time.monotonic()
    await asyncio.to_thread(world.bring_back, LOST)
    await _until(lambda: all(map(world.is_whole, world.regions)), f"{LOST} has rejoined")
    timeline.rejoined(LOST)
    screen.tell(f"region {LOST} has rejoined, {time.monotonic() - back:.1f} s after its start", "bold green")
    for application in applications:
        await application.go_home()
    await asyncio.sleep(_AFTER_SECONDS)


async def _until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that is asked in a thread, so that whoever breaks this off need not wait for it."""
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - nobody tells us, we must look
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError as exc:
        raise NotSo(f"not within {_WAIT_SECONDS:g} s: {what}") from exc


async def _look_up(applications: Sequence[Application]) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(application: Application, other: Application) -> None:
        # In the other region: what one has told, both must know.
        async def read(id_: UUID) -> None:
            async with gate:
                await other.look_up(id_)

        await asyncio.gather(*(read(id_) for id_ in application.known))

    first, second = applications
    await asyncio.gather(one(first, second), one(second, first))


def _tally(applications: Sequence[Application]) -> str:
    kinds = dict.fromkeys(kind for application in applications for kind in application.tally)
    return ", ".join(f"{sum(one.tally[kind] for one in applications)} {kind}" for kind in kinds)


def _check(world: World, folder: Path) -> int:
    """Let the checker judge; its exit code."""
    databases = [f"--database={name}={region.database}" for name, region in world.regions.items()]
    return subprocess.run(
        [
            sys.executable, "-m", "checker", "--logs", str(folder / "logs"), *databases,
            "--timeline", str(folder / "timeline.jsonl"), "--sla", str(_SLA_SECONDS),
            "--patience", str(_PATIENCE_SECONDS),
        ],
        check=False,
    ).returncode  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
