"""How long takeovers and returns took, whether they came to their end, and what was settled too late."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from checker.evidence import DECISION, END, UNKNOWN, Event, Evidence, Fault, Faults, Kind, Takeover, Transaction
from checker.timeline import Deed, Moment

#: What a takeover may leave a transaction in.
_DECIDED = (END, UNKNOWN, DECISION)
_TAKEN_OVER = {"TakenOverCancel", "TakenOverHold"}
#: Time left is kept in binary seconds while a consumer decides, so it may be off by a little after that.
_ROUNDING = 1e-3
#: Times of a database and of whoever wrote the timeline need not agree to the last.
_SKEW = 1.0


class Span(NamedTuple):
    """How long a takeover, or a return, took."""

    region: str
    seconds: float
    #: The taker; of a return, the region itself.
    by: str
    #: In-flight transactions that were decided.
    transactions: int = 0


def check(evidence: Evidence) -> Faults:
    """Every takeover and return ended, and every settlement came in time."""
    yield from _unfinished(evidence)
    if evidence.sla:
        for row in evidence.standing.values():
            yield from _late(evidence, row)


# -- takeovers and returns --------------------------------------------------------------------------------------------


def takeovers(evidence: Evidence) -> tuple[Span, ...]:
    """From each kill to the last in-flight transaction decided, by the events of whoever took the region over."""
    found: list[Span] = []
    for kill, until in _periods(evidence, Deed.KILL):
        for takeover in _of(evidence, kill, until):
            decided = [at for _, at in _decisions(evidence, takeover, kill, until) if at is not None]
            last = max(decided, default=takeover.completed_at)
            if last is not None:
                found.append(Span(kill.region, last / 1e6 - kill.at, evidence.name(takeover.region), len(decided)))
    return tuple(found)


def rejoins(evidence: Evidence) -> tuple[Span, ...]:
    """From each return to the first time that the region was seen to be healthy again."""
    return tuple(
        Span(back.region, healthy.at - back.at, back.region)
        for back, until in _periods(evidence, Deed.RETURN)
        if (healthy := _first(evidence, Deed.REJOINED, back, until)) is not None
    )


def _unfinished(evidence: Evidence) -> Faults:
    for kill, until in _periods(evidence, Deed.KILL):
        taken = tuple(_of(evidence, kill, until))
        if not taken and _first(evidence, Deed.RETURN, kill, until) is None:
            yield _fault(kill, f"region {kill.region} was killed ({kill.place}), and nobody has taken it over")
        for takeover in taken:
            yield from _undecided(evidence, takeover, kill, until)
    for back, until in _periods(evidence, Deed.RETURN):
        if _first(evidence, Deed.REJOINED, back, until) is None:
            yield _fault(back, f"region {back.region} returned ({back.place}), and was not seen healthy after that")
    yield from _unrecorded(evidence)


def _undecided(evidence: Evidence, takeover: Takeover, kill: Moment, until: float) -> Faults:
    for event, at in _decisions(evidence, takeover, kill, until):
        if at is None:
            said = f"transaction {event.tx} was in flight when region {kill.region} was killed ({kill.place})"
            by = evidence.name(takeover.region)
            said = f"{said} and was never decided by region {by}, which took it over"
            yield evidence.fault(Kind.UNFINISHED, said, event.tx, kill.place, "events", region=by)


def _unrecorded(evidence: Evidence) -> Faults:
    """Takeovers that were seen and are in no database, or are there and have no end."""
    for seen in (moment for moment in evidence.timeline if moment.deed is Deed.TAKEOVER):
        if not any(takeover.home == evidence.numbers.get(seen.region) for takeover in evidence.takeovers):
            told = f"region {seen.region} was seen to be taken over ({seen.place})"
            yield _fault(seen, f"{told}, but no region's database knows of it")
    for takeover in evidence.takeovers:
        if takeover.completed_at is None:
            home, by = evidence.name(takeover.home), evidence.name(takeover.region)
            said = (
                f"the takeover of region {home} by region {by} (generation {takeover.generation}) was never completed"
            )
            yield evidence.fault(Kind.UNFINISHED, said, None, "takeovers", region=home)


def _periods(evidence: Evidence, deed: Deed) -> Iterator[tuple[Moment, float]]:
    """Each moment of that kind, and when the next one of the same kind and region comes."""
    for region in dict.fromkeys(moment.region for moment in evidence.timeline):
        of = [moment for moment in evidence.timeline if (moment.deed, moment.region) == (deed, region)]
        yield from ((one, next_.at) for one, next_ in pairwise(of))
        yield from ((last, float("inf")) for last in of[-1:])


def _first(evidence: Evidence, deed: Deed, after: Moment, until: float) -> Moment | None:
    return next(
        (
            moment
            for moment in evidence.timeline
            if (moment.deed, moment.region) == (deed, after.region) and after.at <= moment.at < until
        ),
        None,
    )


def _of(evidence: Evidence, kill: Moment, until: float) -> Iterator[Takeover]:
    """Takeovers of a region that followed its kill."""
    lost = evidence.numbers.get(kill.region)
    for takeover in evidence.takeovers:
        if takeover.home == lost and kill.at - _SKEW <= takeover.begun_at / 1e6 < until:
            yield takeover


def _decisions(
    evidence: Evidence, takeover: Takeover, kill: Moment, until: float
) -> Iterator[tuple[Event, float | None]]:
    """What a taker did first with each transaction in flight, and when that was decided; None: never."""
    for events in evidence.events.values():
        own = [event for event in events if event.region == takeover.region]
        for number, event in enumerate(own):
            if event.kinds & _TAKEN_OVER and kill.at - _SKEW <= event.at / 1e6 < until:
                yield event, next((later.at for later in own[number:] if later.state in _DECIDED), None)
                break


def _fault(moment: Moment, said: str) -> Fault:
    return Fault(kind=Kind.UNFINISHED, sentence=said, region=moment.region, evidence=(moment.place,))


# -- deadlines --------------------------------------------------------------------------------------------------------


def _late(evidence: Evidence, row: Transaction) -> Faults:
    sla = evidence.sla.get(row.route, evidence.sla.get("*"))
    events = evidence.line(row)
    release = _release(events)
    if sla is None or release is None or not events:
        return
    held = _held(events, release)
    seconds = (release.at - events[0].at) / 1e6 - held
    if seconds >= sla + (_ROUNDING if held else 0):
        said = f"transaction {row.id} of client {row.client} was settled {seconds:.3f} s after its id was issued"
        said = f"{said} by {release.name} of region {evidence.name(release.region)}; route {row.route} gives {sla:g} s"
        yield evidence.fault(Kind.LATE, said, row.id, "events")


def _release(events: list[Event]) -> Event | None:
    """The last moment at which it was still possible not to settle; None: it has not settled.

    What was handed over is ended by the downstream alone, and a taker ends what the lost region may have shown already.
    """
    intent = None
    for event in events:
        if event.state == "handed":
            return event
        if event.end == "ACSC":
            return intent if intent is not None and event.kinds & _TAKEN_OVER else event
        if event.state != "ending" or event.said.get("end") != "ACSC":
            intent = None
        elif intent is None:
            intent = event
    return None


def _held(events: list[Event], release: Event) -> float:
    """Seconds for which a consumer was deciding: the clock stands still."""
    until = events[: events.index(release) + 1]
    return sum(later.at - event.at for event, later in pairwise(until) if event.state == DECISION) / 1e6
