"""A region is lost under load: how soon the other one has decided all, what is missing there, how soon it is back."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import psycopg

from bench import servers
from bench.distance import Sample, Watch
from bench.load import Measured
from bench.sites import HOME, PEER, Two

#: Sent before, and held: what is surely in flight when the region is lost.
_HELD = 50
_HELD_SECONDS = 20.0
_HELD_ROUTE = 'decision = "consumer"\nsla_seconds = 600'
#: Payments that begin a second of each kind; and how long before the loss, the load generator's start included.
_PACE, _BEFORE_SECONDS, _AFTER_SECONDS = 60.0, 3.0, 1.0
_CALLERS = 32
#: How often a peer that comes back is looked at, and how long.
_LOOK_SECONDS, _PATIENCE_SECONDS = 0.05, 120.0
#: How long a load generator takes to start, at most; and how long it goes on while the peer comes back.
_START_SECONDS, _RETURN_SECONDS = 2.0, 8.0


class Takeover(msgspec.Struct, kw_only=True, frozen=True):
    """One loss: `kill -9` of a region's server and database."""

    round_trip_ms: float
    lost: str
    in_flight: int
    #: From the kill: the witness has granted the takeover; the last transaction in flight is decided.
    granted_seconds: float
    decided_seconds: float
    #: From its start: both regions are whole again.
    rejoined_seconds: float
    #: Acknowledged before the kill, and of those not in the other region.
    consistent: int
    consistent_lost: int
    available: int
    available_lost: int


class Return(msgspec.Struct, kw_only=True, frozen=True):
    """A peer comes back after an outage, while the other region goes on taking payments."""

    round_trip_ms: float
    outage_seconds: float
    #: Payments begun a second all the while.
    pace: float
    #: What the peer lacked when it was started again.
    payments: int
    megabytes: float
    #: From its start until the stream flowed, until it had what it lacked, and until both regions were whole.
    flows_seconds: float
    caught_up_seconds: float
    rejoined_seconds: float

    @property
    def per_second(self) -> float:
        """Payments of the backlog applied a second."""
        return self.payments / max(1e-3, self.caught_up_seconds - self.flows_seconds)

    @property
    def megabytes_per_second(self) -> float:
        return self.megabytes / max(1e-3, self.caught_up_seconds - self.flows_seconds)


def lose(two: Two, lost: str) -> Takeover:
    """Lose a region under load, see it taken over, and bring it back."""
    world, taker = two.world, PEER if lost == HOME else HOME
    held = two.client("held", _HELD_ROUTE)
    plan = two.plan("acknowledged", 8, held, lost, seconds=_HELD_SECONDS)
    servers.load(msgspec.structs.replace(plan, transactions=_HELD))
    with ThreadPoolExecutor(2) as pool:
        loads = {kind: pool.submit(_acknowledge, two, lost, kind) for kind in ("consistent", "available")}
        time.sleep(_BEFORE_SECONDS)
        in_flight = world.status(lost).in_flight
        killed = time.monotonic()
        world.lose(lost)
        world.until(lambda: world.entry(lost).taker is not None, f"{lost} is taken over")
        granted = time.monotonic() - killed
        world.until(lambda: world.is_decided(lost), f"all that {lost} had begun is decided")
        decided = time.monotonic() - killed
        acknowledged = {kind: load.result().acknowledged for kind, load in loads.items()}
    missing = {kind: _missing(two.url(taker), ids) for kind, ids in acknowledged.items()}
    back = time.monotonic()
    world.bring_back(lost)
    world.await_whole(seconds=_PATIENCE_SECONDS)
    return Takeover(
        round_trip_ms=two.delays.round_trip_ms, lost=lost, in_flight=in_flight, granted_seconds=round(granted, 2),
        decided_seconds=round(decided, 2), rejoined_seconds=round(time.monotonic() - back, 2),
        consistent=len(acknowledged["consistent"]), consistent_lost=missing["consistent"],
        available=len(acknowledged["available"]), available_lost=missing["available"],
    )  # fmt: skip


def _acknowledge(two: Two, home: str, consistency: str) -> Measured:
    """Payments until the region is gone, and which of them it has acknowledged."""
    seconds = _BEFORE_SECONDS + _AFTER_SECONDS
    plan = two.plan("acknowledged", _CALLERS, two.client("bench"), home, seconds=seconds)
    return servers.load(msgspec.structs.replace(plan, rate=_PACE, consistency=consistency, keep=True))


def _missing(database: str, ids: Sequence[str]) -> int:
    """How many of these a region does not have."""
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT count(*) FROM unnest(%s::uuid[]) AS told(id)"
            " WHERE NOT EXISTS (SELECT 1 FROM transactions t WHERE t.id = told.id)",
            ([*ids],),
        ).fetchone()
    assert row is not None  # an aggregate
    return int(row[0])


def stay_away(two: Two, *, seconds: float, pace: float) -> Return:
    """Kill the peer, go on without it, start it again, and watch it catch up."""
    world = two.world
    before = _payments(two)
    with ThreadPoolExecutor(1) as pool:
        world.lose(PEER)
        load = pool.submit(_go_on, two, seconds=_START_SECONDS + seconds + _RETURN_SECONDS, pace=pace)
        time.sleep(_START_SECONDS + seconds)
        lacks = _payments(two) - before
        back = time.monotonic()
        with Watch(two.url(HOME), two.slot()) as watch:
            world.bring_back(PEER)
            flows, caught_up, megabytes = _caught_up(watch, load)
            world.await_whole(seconds=_PATIENCE_SECONDS)
            rejoined = time.monotonic()
        load.result()
    return Return(
        round_trip_ms=two.delays.round_trip_ms, outage_seconds=seconds, pace=pace, payments=lacks,
        megabytes=round(megabytes, 2), flows_seconds=round(flows - back, 2),
        caught_up_seconds=round(caught_up - back, 2), rejoined_seconds=round(rejoined - back, 2),
    )  # fmt: skip


def _go_on(two: Two, *, seconds: float, pace: float) -> Measured:
    plan = two.plan("v1", _CALLERS, two.client("bench"), seconds=seconds)
    return servers.load(msgspec.structs.replace(plan, rate=pace))


def _payments(two: Two) -> int:
    number = two.world.regions[HOME].number
    ((count,),) = two.world.query(HOME, "SELECT count(*) FROM transactions WHERE region = %s", number)
    return int(str(count))


def _caught_up(watch: Watch, load: "Future[Measured]") -> tuple[float, float, float]:
    """When the stream flowed, when everything of before had come, and how much that was in megabytes."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        samples = watch.samples
        if watch.fault is not None:
            raise RuntimeError(f"the peer's lag could not be read: {watch.fault}")
        if not samples:
            continue
        goal = samples[0].written
        if samples[-1].confirmed >= goal:
            begun = next(sample for sample in samples if sample.active)
            there = next(sample for sample in samples if sample.confirmed >= goal)
            return begun.at, there.at, megabytes_of(samples[0])
        if load.done():
            load.result()  # says what went wrong with it
    raise RuntimeError(f"the peer has not caught up within {_PATIENCE_SECONDS:.0f} s")


def megabytes_of(sample: Sample) -> float:
    """What was not confirmed."""
    return (sample.written - sample.confirmed) / 1e6
