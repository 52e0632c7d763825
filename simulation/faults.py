"""What goes wrong in a world, by its seed: when, and to whom."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulation.region import Region
from simulation.schedule import Process

if TYPE_CHECKING:
    from simulation.world import World


def plan(world: "World") -> None:
    """Choose the world's weather, and its accidents."""
    chance = world.schedule.random
    network = world.network
    network.lost = chance.choice((0.0, 0.0, 0.02, 0.15))
    network.doubled = chance.choice((0.0, 0.02, 0.2))
    network.late = chance.choice((0.0, 0.01, 0.1))
    network.slow = chance.choice((0.005, 0.02, 0.15))
    world.schedule.stalls = chance.choice((0.0, 0.003, 0.02))
    world.schedule.slow = chance.choice((0.004, 0.03, 0.3))
    for region in world.regions.values():
        region.offset = chance.uniform(-1.0, 1.0)
        region.rate = chance.choice((1.0, 1.0, 0.9, 1.15))
        region.apply_seconds = chance.choice((0.0, 0.0, 0.03, 0.3))
    for _ in range(chance.randrange(9)):
        accident = chance.choices([fault for fault, _ in _FAULTS], [weight for _, weight in _FAULTS])[0]
        world.schedule.at(chance.uniform(0.5, world.faulty_seconds), accident, world)


def heal(world: "World") -> None:
    """All that is wrong ends; clocks stay wrong, but go."""
    world.healing = True
    network = world.network
    network.cut.clear()
    network.lost = network.doubled = network.late = 0.0
    world.schedule.stalls = 0.0
    world.schedule.slow = 0.004
    world.orders.clear()
    for region in world.regions.values():
        region.set_rate(1.0)
        region.apply_seconds = 0.0
        region.wanted = world.living_peers(region)
        region.recover()
        for process in region.processes:
            process.traps = []
            process.paused_until = 0.0
            if not process.up:
                region.start(process)
    world.witness_up = True


# -- accidents --------------------------------------------------------------------------------------------------------


def _any(world: "World") -> Region:
    return world.regions[world.schedule.random.choice(sorted(world.regions))]


def _process_dies(world: "World") -> None:
    region, chance = _any(world), world.schedule.random
    process = chance.choice(region.processes)

    def strike() -> None:
        world.trace(f"{process.name} is killed")
        region.kill(process)
        world.schedule.at(chance.uniform(0.1, 3.0), region.start, process)

    process.traps.append((chance.randrange(6), strike))


def _process_pauses(world: "World") -> None:
    region, chance = _any(world), world.schedule.random
    _sleeps(world, chance.choice(region.processes), chance.uniform(0.3, 6.0))


def _region_pauses(world: "World") -> None:
    region, chance = _any(world), world.schedule.random
    seconds = chance.uniform(0.5, 8.0)

    def strike() -> None:
        world.trace(f"{region.node} is paused for {seconds:.1f} s")
        for process in region.processes:
            process.paused_until = world.schedule.now + seconds

    chance.choice(region.processes[1:3]).traps.append((chance.randrange(8), strike))


def _region_dies(world: "World") -> None:
    region = _any(world)
    world.trace(f"{region.node} dies")
    region.crash()
    world.schedule.at(world.schedule.random.uniform(0.2, 8.0), region.recover)


def _disk_is_lost(world: "World") -> None:
    region = _any(world)
    if world.disks_lost or any(entry.taker is not None for entry in world.witness.entries.values()):
        return  # what was on one disk only is gone with it: that is not promised
    world.lose_disk(region)


def _witness_dies(world: "World") -> None:
    world.trace("the witness is down")
    world.witness_up = False
    world.schedule.at(world.schedule.random.uniform(0.5, 5.0), _witness_recovers, world)


def _witness_recovers(world: "World") -> None:
    world.witness_up = True


def _cut(world: "World", links: list[tuple[str, str]]) -> None:
    world.trace("cut: " + ", ".join(f"{source} to {target}" for source, target in links))
    world.network.cut.update(links)

    def mend() -> None:
        world.network.cut.difference_update(links)

    world.schedule.at(world.schedule.random.uniform(0.5, 7.0), mend)


def _pair_is_cut(world: "World") -> None:
    source, target = world.schedule.random.sample([*(f"r{n}" for n in sorted(world.regions)), "w"], 2)
    _cut(world, [(source, target), (target, source)])


def _one_way_is_cut(world: "World") -> None:
    source, target = world.schedule.random.sample([*(f"r{n}" for n in sorted(world.regions)), "w"], 2)
    _cut(world, [(source, target)])


def _region_is_cut_off(world: "World") -> None:
    region = _any(world)
    others = [f"r{peer}" for peer in region.peers] + world.schedule.random.choice((["w"], []))
    _cut(world, [link for other in others for link in ((region.node, other), (other, region.node))])


def _clock_jumps(world: "World") -> None:
    region, seconds = _any(world), world.schedule.random.choice((-5.0, -0.5, 0.5, 3.0))
    world.trace(f"{region.node}'s clock jumps by {seconds} s")
    region.offset += seconds


def _clock_goes_wrong(world: "World") -> None:
    region, rate = _any(world), world.schedule.random.choice((0.5, 0.95, 1.05, 2.0))
    world.trace(f"{region.node}'s clock goes at {rate}")
    region.set_rate(rate)


def _takeover_by_mistake(world: "World") -> None:
    region = _any(world)
    peer = world.schedule.random.choice(region.peers)
    world.trace(f"an operator orders region {peer} to take over region {region.number}")
    world.orders.add((peer, region.number))


def _cut_off_and_taken_over(world: "World") -> None:
    """Left alone for a while, and taken over as soon as there is a peer again, while somebody sleeps."""
    region, chance = _any(world), world.schedule.random
    peer = chance.choice(region.peers)
    links = [(region.node, f"r{peer}"), (f"r{peer}", region.node)]
    seconds = chance.uniform(2.0, 5.0)
    world.trace(f"r{peer} is cut off from {region.node} for {seconds:.1f} s, and is to take it over")
    world.network.cut.update(links)

    def mend() -> None:
        world.network.cut.difference_update(links)
        world.orders.add((peer, region.number))

    world.schedule.at(seconds, mend)
    for process in region.processes[1:3]:
        world.schedule.at(chance.uniform(1.5, seconds), _sleeps, world, process, chance.uniform(1.0, 6.0))


def _sleeps(world: "World", process: Process, seconds: float) -> None:
    def strike() -> None:
        world.trace(f"{process.name} is paused for {seconds:.1f} s")
        process.paused_until = world.schedule.now + seconds

    process.traps.append((world.schedule.random.randrange(5), strike))


def _wrong_guards(world: "World") -> None:
    region, chance = _any(world), world.schedule.random
    wanted = chance.choice((frozenset(), frozenset({region.number}), frozenset({9}), frozenset(region.peers[:1])))
    world.trace(f"an operator wants {sorted(wanted)} as guards of region {region.number}")
    region.wanted = wanted

    def mend() -> None:
        region.wanted = world.living_peers(region)

    world.schedule.at(chance.uniform(0.5, 4.0), mend)


def _retired_by_mistake(world: "World") -> None:
    region = _any(world)
    if world.schedule.random.random() < 0.3 and not world.disks_lost:
        world.trace(f"an operator retires region {region.number}")
        world.disks_lost = True  # one such loss is enough for a world
        world.retire(region)


_FAULTS: tuple[tuple[Callable[["World"], None], int], ...] = (
    (_process_dies, 5),
    (_process_pauses, 5),
    (_region_pauses, 9),
    (_region_dies, 6),
    (_disk_is_lost, 2),
    (_witness_dies, 2),
    (_pair_is_cut, 5),
    (_one_way_is_cut, 4),
    (_region_is_cut_off, 4),
    (_clock_jumps, 1),
    (_clock_goes_wrong, 1),
    (_takeover_by_mistake, 5),
    (_cut_off_and_taken_over, 16),
    (_wrong_guards, 3),
    (_retired_by_mistake, 1),
)
