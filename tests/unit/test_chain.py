from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import chain
from interlock.chain import GENESIS, Head, Link
from interlock.iso20022.codes import Status
from interlock.lifecycle import EventKind, Standing, State
from interlock.transaction import Event

_ID = UUID(int=7)


def event(seq: int = 1, note: str | None = None) -> Event:
    standing = Standing(State.ACTC, Status.ACTC)
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    return Event(seq=seq, kind=EventKind.RECEIVED, at=at, actor="c", standing=standing, note=note)


def links(number: int) -> list[Link]:
    """A sound chain."""
    made: list[Link] = []
    previous = GENESIS
    for seq in range(1, number + 1):
        content = chain.encode(_ID, event(seq))
        made.append(Link(seq, content, previous, chain.link(previous, content)))
        previous = made[-1].hash
    return made


def head(made: Sequence[Link]) -> Head:
    return Head("0.1", made[-1].seq, made[-1].hash) if made else Head("0.1", 0, GENESIS)


moments = st.datetimes(datetime(1970, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - given UTC
texts = st.none() | st.text(max_size=40)
events = st.builds(
    Event,
    seq=st.integers(1, 2**40),
    kind=st.sampled_from(EventKind),
    at=moments,
    actor=st.text(max_size=40),
    standing=st.builds(
        Standing, st.sampled_from(State), st.none() | st.sampled_from(Status), st.none() | st.sampled_from(Status)
    ),
    because=st.none() | st.sampled_from(EventKind),
    reason=texts,
    code=texts,
    note=texts,
    detail=st.dictionaries(st.text(max_size=10), st.none() | st.integers(-9, 9) | st.text(max_size=9), max_size=4),
    epoch=st.integers(1, 9),
)


@given(st.uuids(), events, st.lists(st.binary(min_size=32, max_size=32), max_size=2))
def test_what_is_encoded_is_decoded(id_: UUID, written: Event, digests: list[bytes]) -> None:
    """An event survives its canonical bytes whole, to the microsecond, and the bytes are always the same."""
    content = chain.encode(id_, written, digests)
    assert chain.decode(content) == (id_, written)
    assert chain.encode(*chain.decode(content), digests) == content
    assert all(digest.hex().encode() in content for digest in digests)


@given(moments)
def test_moments_are_exact(at: datetime) -> None:
    """Microseconds and back: nothing is rounded, whatever the offset it was written with."""
    assert chain.moment(chain.micros(at)) == at
    assert chain.micros(at.astimezone(timezone(timedelta(hours=5, minutes=45)))) == chain.micros(at)


def test_the_hash_is_what_an_auditor_can_compute() -> None:
    """SHA-256 of the previous hash and the content, from 32 zero bytes on."""
    first, second = links(2)
    assert first.hash == sha256(bytes(32) + first.content).digest()
    assert second.hash == sha256(first.hash + second.content).digest()


@pytest.mark.parametrize("number", [0, 1, 2, 50])
def test_a_sound_chain_has_no_faults(number: int) -> None:
    """Neither without events nor with many."""
    made = links(number)
    assert list(chain.faults(made, head(made))) == []


@given(st.data())
def test_any_single_change_is_found(data: st.DataObject) -> None:
    """Altered content, previous or hash, an event taken out, doubled or moved: the walk says so."""
    made = links(data.draw(st.integers(2, 9)))
    end = head(made)
    at = data.draw(st.integers(0, len(made) - 1))
    item = made[at]
    flipped = bytes([data.draw(st.integers(1, 255))])

    def flip(text: bytes) -> bytes:
        place = data.draw(st.integers(0, len(text) - 1))
        return text[:place] + bytes([text[place] ^ flipped[0]]) + text[place + 1 :]

    match data.draw(st.sampled_from(["content", "previous", "hash", "rehash", "remove", "renumber", "swap"])):
        case "content":
            made[at] = replace(item, content=flip(item.content))
        case "previous":
            made[at] = replace(item, previous=flip(item.previous))
        case "hash":
            made[at] = replace(item, hash=flip(item.hash))
        case "rehash":
            content = flip(item.content)
            made[at] = replace(item, content=content, hash=chain.link(item.previous, content))
        case "remove":
            del made[at]
        case "renumber":
            del made[at]
            made = [replace(link, seq=number) for number, link in enumerate(made, 1)]
        case _:
            other = data.draw(st.integers(0, len(made) - 1).filter(lambda n: n != at))
            made[at], made[other] = replace(made[other], seq=at + 1), replace(made[at], seq=other + 1)
    assert list(chain.faults(made, end)) != []


def test_missing_events_are_told_by_their_numbers() -> None:
    """With the journal that they are missing from."""
    made = links(5)
    (told,) = chain.faults([*made[:2], *made[3:]], head(made))
    assert told == "journal 0.1: events 3 to 3 are missing"


def gap(made: list[Link], first: int, last: int) -> chain.Gap:
    """What archiving leaves of a run of events."""
    return chain.Gap(first, last, made[first - 1].previous, made[last - 1].hash, "an-archive")


@pytest.mark.parametrize(("first", "last"), [(1, 3), (2, 2), (4, 7), (5, 8), (1, 8)])
def test_a_chain_holds_across_what_was_archived(first: int, last: int) -> None:
    """Runs at the beginning, in the midst and at the end; several of them, next to each other too."""
    made = links(8)
    rest: list[Link | chain.Gap] = [*made[: first - 1], gap(made, first, last), *made[last:]]
    assert list(chain.faults(rest, head(made))) == []
    rest[first - 1 : first] = (
        [gap(made, first, first), gap(made, first + 1, last)] if last > first else rest[first - 1 : first]
    )
    assert list(chain.faults(rest, head(made))) == []


@pytest.mark.parametrize("spoilt", ["first", "last", "previous", "hash"])
def test_a_gap_that_was_altered_is_found(spoilt: str) -> None:
    """It vouches for the events before and after it no less than they would."""
    made = links(8)
    whole = gap(made, 3, 5)
    value = getattr(whole, spoilt)
    other: Any = value + 1 if isinstance(value, int) else bytes(32)
    altered = replace(whole, **{spoilt: other})
    assert list(chain.faults([*made[:2], altered, *made[5:]], head(made))) != []
    assert list(chain.faults([*made[:2], *made[5:]], head(made))) != []


def test_an_emptied_chain_is_told_by_its_head() -> None:
    """If all events are gone the head still says how many there were."""
    made = links(3)
    (told,) = chain.faults([], head(made))
    assert "3" in told


def test_one_fault_is_told_once() -> None:
    """A change in the middle does not make all that follows suspicious."""
    made = links(100)
    made[49] = replace(made[49], content=b"other")
    assert list(chain.faults(made, head(made))) == ["journal 0.1: event 50 was altered"]
