"""What a scenario has in hand while it plays: the regions, a consumer, the payments that were taken."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx

from chaos.desk import Desk
from chaos.world import World
from interlock.demo.messages import Message

#: The region to which things happen, and those that guard it.
HOME, PEER, THIRD = "east", "west", "north"
#: Between two payments that a region gets all the while.
_PACE_SECONDS = 0.12
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Stage:
    """One scenario's."""

    world: World
    desk: Desk
    #: A message; whether it is held for a decision.
    write: Callable[[bool], Message]
    consistency: str
    #: Transactions that were taken, in order.
    known: dict[str, None] = field(default_factory=dict)
    #: When the fault struck, and when a region was lost by it where that was later.
    struck: float = 0.0
    lost: dict[str, float] = field(default_factory=dict)
    #: Generations of the entries before anything happened.
    before: dict[str, int] = field(default_factory=dict)
    #: By region that was taken over: seconds from its loss until everything in flight was decided.
    taken: dict[str, float] = field(default_factory=dict)
    #: What is left to do once all is mended, in order.
    afterwards: list[Callable[[], object]] = field(default_factory=list)

    # -- payments --

    def send(self, region: str, *, held: bool = False) -> None:
        """A payment, whatever comes of it; held: for a decision."""
        with suppress(httpx.HTTPError, AssertionError):
            told = self.desk.submit(region, self.write(held), consistency=self.consistency)
            if told.status_code in (200, 202):
                self.known[told.json()["transaction_id"]] = None
            elif told.json().get("code") == "not_replicated":
                # Stored all the same, and to be asked for by its id.
                self.known.update(dict.fromkeys(_ID.findall(told.json()["detail"])))

    def send_some(self, *held: bool) -> None:
        """Payments at home, all at once."""
        with ThreadPoolExecutor(len(held)) as pool:
            for sent in [pool.submit(self.send, HOME, held=one) for one in held]:
                sent.result()

    @contextmanager
    def load(self) -> Iterator[None]:
        """Payments in every region all the while."""
        over = threading.Event()

        def go_on(region: str) -> None:
            while not over.wait(_PACE_SECONDS):
                self.send(region)

        threads = [threading.Thread(target=go_on, args=(region,)) for region in self.world.regions]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    # -- takeovers --

    def lose(self, region: str) -> None:
        """Kill a region, and count its takeover's time from here."""
        self.lost[region] = time.monotonic()
        self.world.lose(region)

    def look(self) -> None:
        """Note takeovers that have come to their end."""
        for region in self.world.regions:
            if region in self.taken:
                continue
            with suppress(Exception):
                if self.world.entry(region).generation > self.before[region] and self.world.is_decided(region):
                    self.taken[region] = time.monotonic() - self.lost.get(region, self.struck)

    def await_taker(self, region: str, *, decided: bool = False) -> str:
        """Wait until the witness has granted a takeover, or until it is complete; who has it."""
        world = self.world
        if decided:
            world.until(lambda: world.is_decided(region), f"the takeover of {region} is complete")
        else:
            world.until(lambda: world.entry(region).taker is not None, f"the takeover of {region} is granted")
        taker = world.entry(region).taker
        assert taker is not None, "it was just there"
        return world.name(taker)
