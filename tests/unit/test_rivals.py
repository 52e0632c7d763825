"""Which of several regions goes on with a payment that more than one has taken."""

from datetime import timedelta
from itertools import permutations
from uuid import UUID

import pytest

from interlock.regions.rivals import PATIENCE, Rival, Turn, taken_turn, turn

FIRST, SECOND, THIRD = (UUID(int=number) for number in (1, 2, 3))
AT_ONCE = timedelta(0)


@pytest.mark.parametrize(
    ("own", "rivals", "waited", "expected"),
    [
        pytest.param(SECOND, (), AT_ONCE, Turn.GO, id="alone"),
        pytest.param(SECOND, (), PATIENCE, Turn.GO, id="alone at last"),
        pytest.param(FIRST, (Rival(SECOND, settled=False),), AT_ONCE, Turn.WAIT, id="first"),
        pytest.param(FIRST, (Rival(SECOND, settled=False),), PATIENCE, Turn.YIELD, id="first, the other stays"),
        pytest.param(FIRST, (Rival(SECOND, settled=True),), AT_ONCE, Turn.YIELD, id="the other has settled"),
        pytest.param(SECOND, (Rival(FIRST, settled=False),), AT_ONCE, Turn.YIELD, id="second"),
        pytest.param(
            SECOND, (Rival(THIRD, settled=False), Rival(FIRST, settled=False)), AT_ONCE, Turn.YIELD, id="in between"
        ),
    ],
)
def test_who_goes_on(own: UUID, rivals: tuple[Rival, ...], waited: timedelta, expected: Turn) -> None:
    assert turn(own, rivals, waited) is expected


@pytest.mark.parametrize("order", tuple(permutations((FIRST, SECOND, THIRD))))
def test_of_those_that_see_one_another_one_goes_on_and_none_waits_for_ever(order: tuple[UUID, ...]) -> None:
    live = set(order)
    for _ in order:
        for own in order:
            others = tuple(Rival(other, settled=False) for other in live if other != own)
            if own in live and turn(own, others, AT_ONCE) is Turn.YIELD:
                live.discard(own)
    assert live == {FIRST}
    assert turn(FIRST, (), AT_ONCE) is Turn.GO


@pytest.mark.parametrize(
    ("rival", "confirmed", "expected"),
    [
        pytest.param(Rival(SECOND), (), Turn.GO, id="not to settle yet"),
        pytest.param(Rival(SECOND, settles=True), (), Turn.WAIT, id="about to settle"),
        pytest.param(Rival(SECOND, settled=True), (SECOND,), Turn.YIELD, id="settled, and the lost region knew"),
        pytest.param(Rival(SECOND, settled=True), (), Turn.GO, id="settled, and the lost region may have too"),
    ],
)
def test_what_a_taker_does_with_a_lost_regions_release(
    rival: Rival, confirmed: tuple[UUID, ...], expected: Turn
) -> None:
    assert taken_turn((rival,), confirmed) is expected
