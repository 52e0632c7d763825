"""The fuzzer breaks nothing in the product, finds what is planted, and keeps it as small as it can be had.

`make fuzz` does the same for as long as one likes; `docs/fuzzing.md` says what is drawn and looked at.
"""

import subprocess
import sys
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import calls, holding
from fuzz.broken import Broken
from fuzz.cases import CHECKS, Case, Cases, of_file
from fuzz.minimising import minimised
from fuzz.plants import PLANTS
from fuzz.running import Plan, run
from fuzz.trying import Trial

_ROOT = Path(__file__).parents[2]
#: Enough for every kind of case, in a few seconds.
_CASES = 160


def test_cases_of_a_fixed_seed_hold() -> None:
    """Messages, schemas, profiles and calls: each is taken or refused, in time, quietly, and elsewhere alike."""
    drawn = Cases("tests", oracle=False)
    kinds = set()
    with Trial() as one, Trial(sets=1) as other:
        for number in range(_CASES):
            case = drawn.case(number)
            outcome = one.of(case)
            assert outcome.promise is None, f"{case.draw}: {outcome.promise}: {outcome.detail}"
            if number % 8 == 0:
                assert other.of(case) == outcome, case.draw
            kinds.add(case.suffix)
    assert kinds == CHECKS.keys()


_SEEN_AT_ONCE = {
    "crash": "AttributeError",
    "forget": "verdict changes",
    "leak": "repeats a value",
    "tidy": "bytes changed",
    "misspell": "answer is not valid",
}


@pytest.mark.parametrize("name", _SEEN_AT_ONCE)
def test_a_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon, and for what it is."""
    place, attribute, mistake = PLANTS[name]
    monkeypatch.setattr(place, attribute, mistake(getattr(place, attribute)))
    drawn = Cases("planted", oracle=False)
    for number in count():
        case = drawn.case(number)
        if case.suffix != ".xml":
            continue
        if told := _broken(case):
            assert _SEEN_AT_ONCE[name] in told
            return


def _broken(case: Case) -> str:
    try:
        holding.check(case.content, Random(case.draw), in_pieces=False)
    except (Broken, AttributeError) as exc:
        return f"{type(exc).__name__} {exc}"
    return ""


def test_a_call_after_the_keys_were_revoked_is_the_same_call() -> None:
    bearer = b"\nauthorization: Bearer {token}"
    validation = b"POST /v1/validations" + bearer + b'\n\n{"a": 1}'
    first = calls.check(validation, Random(1))
    assert first.startswith("415")
    calls.check(
        b"POST /v1/keys/rotations" + bearer + b'\ncontent-type: application/json\n\n{"revoke": true}', Random(1)
    )
    assert calls.check(validation, Random(1)) == first


def test_a_loop_without_end_is_found() -> None:
    """The process that is in it is ended."""
    with Trial(("hang",), 1) as trial:
        assert trial.of(Case(".xml", b"<a><![CDATA[x]]></a>", "1")).promise == "hang"


def test_what_is_found_is_kept_small_and_breaks_again(tmp_path: Path) -> None:
    """Also an order of findings that is another one in each process."""
    plan = Plan(
        seed="planted", seconds=100, folder=tmp_path, plants=("flap", "crash"), enough=2, minimise_seconds=1, shared=2
    )
    tally = run(plan)
    assert {promise.partition(" ")[0] for promise in tally.kept.counts} == {"verdict", "AttributeError"}
    crash = next(tmp_path.glob("AttributeError*"))
    case = of_file(crash)
    assert len(case.content) < len(Cases("planted").case(int(case.draw.partition("-")[2])).content)
    replay = [sys.executable, "-m", "fuzz", "--replay", str(crash), "--plant", "crash"]
    again = subprocess.run(replay, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert (again.returncode, "has no attribute 'localname'" in again.stderr) == (1, True)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from([b"<a>", b"</a>", b"<b/>", b"text", b"\n", b"<", b"&", b"\xff"]), max_size=60), st.data()
)
def test_what_is_kept_is_all_that_is_needed(tokens: list[bytes], data: st.DataObject) -> None:
    """Of whatever stands around it nothing is left."""
    place = data.draw(st.integers(0, len(tokens)))
    content = b"".join([*tokens[:place], b"<x>culprit</x>", *tokens[place:]])
    assert minimised(content, lambda smaller: b"culprit" in smaller, seconds=60) == b"culprit"


def test_a_length_of_many_digits_is_more_than_anybody_takes() -> None:
    """It is refused like other lengths that are too large, and not by an error of ours."""
    call = b"POST /v1/messages\ncontent-length: " + b"9" * 5000 + b"\nauthorization: Bearer {token}\n\n<a/>"
    calls.check(call, Random(1))
