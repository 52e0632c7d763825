"""The client's flows against scripted answers, under a clock that the test moves; no I/O."""

import inspect
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

import pytest

from interlock import errors
from interlock.client import AsyncClient, Client, problem_of
from interlock.client.flows import Flow, Flows, Lost, Pause, Reply, Request, Response, Settings
from interlock.errors import (
    DependencyError,
    Forbidden,
    IllegalDecision,
    InterlockError,
    NoAnswer,
    OutcomeUnknown,
    RequestError,
    Unauthorised,
    UnknownTransaction,
)

T = TypeVar("T")
ID = UUID("01980000-0000-7000-8000-000000000001")
SHOWN = {
    "transaction_id": str(ID),
    "client_id": "c_1",
    "status": "ACSC",
    "final": True,
    "created_at": "2026-11-22T10:00:00.000000Z",
    "updated_at": "2026-11-22T10:00:00.000000Z",
    "reason": None,
    "a_field_of_a_newer_server": 1,
}
TOKEN = {"access_token": "t0", "expires_in": 3600, "token_type": "Bearer"}


def answer(status: int, body: object = None, **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def problem(status: int, code: str, **headers: str) -> Response:
    return answer(status, {"status": status, "code": code, "title": "T", "detail": "why"}, **headers)


@dataclass
class Stage:
    """Plays the server's part: gives the scripted replies in order, and a token whenever one is asked for."""

    script: Sequence[Reply]
    settings: Settings = field(default_factory=lambda: Settings(client_id="c_1", client_secret="s"))
    now: float = 1000.0
    requests: list[Request] = field(default_factory=list)
    tokens: int = 0
    pauses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the flows that are played."""
        keys = count(1)
        self.flows = Flows(
            self.settings, clock=lambda: self.now, dice=random.Random(1), new_key=lambda: f"key-{next(keys)}"
        )
        self._replies = iter(self.script)

    def play(self, flow: Flow[T]) -> T:
        """What the flow comes to."""
        reply: Reply | None = None
        try:
            while True:
                step = flow.send(reply)
                reply = None
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                else:
                    reply = self._answer(step)
        except StopIteration as done:
            result: T = done.value
            return result

    def _answer(self, request: Request) -> Reply:
        if request.path == "/oauth2/token":
            self.tokens += 1
            return answer(200, {**TOKEN, "access_token": f"t{self.tokens}"})
        self.requests.append(request)
        return next(self._replies)


# -- tokens --


def test_one_token_serves_many_calls() -> None:
    """A token is fetched before the first call and used until shortly before it ends; then it is renewed."""
    stage = Stage([answer(200, SHOWN)] * 3)
    stage.play(stage.flows.status(ID))
    stage.play(stage.flows.status(ID))
    assert stage.tokens == 1
    stage.now += 3590
    stage.play(stage.flows.status(ID))
    assert stage.tokens == 2
    assert [request.headers["Authorization"] for request in stage.requests] == ["Bearer t1", "Bearer t1", "Bearer t2"]


def test_a_refused_token_is_replaced_once() -> None:
    """After 401 the call is made once more with a new token; a second 401 is told."""
    stage = Stage([problem(401, "unauthorised"), answer(200, SHOWN)])
    assert stage.play(stage.flows.status(ID)).transaction_id == ID
    assert stage.tokens == 2
    stage = Stage([problem(401, "unauthorised")] * 2)
    with pytest.raises(Unauthorised):
        stage.play(stage.flows.status(ID))


def test_the_secret_is_not_shown() -> None:
    """The settings' repr, which may land in a log, does not hold the secret."""
    assert "hush" not in repr(Settings(client_id="c_1", client_secret="hush"))


# -- trying again --


def test_a_message_is_sent_again_under_the_same_key() -> None:
    """After lost answers and a busy server the message goes again with its first key, so it cannot count twice."""
    stage = Stage([Lost("reset", sent=True), problem(503, "overloaded"), answer(502, b""), answer(200, SHOWN)])
    stage.play(stage.flows.submit(b"<A/>"))
    assert {request.headers["Idempotency-Key"] for request in stage.requests} == {"key-1"}
    assert len(stage.requests) == 4


def test_each_submission_has_its_own_key() -> None:
    """Two calls with the same bytes are two submissions; the given key is used as it is."""
    stage = Stage([answer(202, SHOWN)] * 3)
    for key in (None, None, "mine"):
        stage.play(stage.flows.submit(b"<A/>", idempotency_key=key))
    assert [request.headers["Idempotency-Key"] for request in stage.requests] == ["key-1", "key-2", "mine"]


def test_retry_after_is_honoured() -> None:
    """The pause is at least what the server asks for."""
    stage = Stage([problem(429, "too_many_in_flight", retry_after="7"), answer(200, SHOWN)])
    stage.play(stage.flows.status(ID))
    assert stage.pauses == [7.0]


def test_pauses_grow_and_end() -> None:
    """Without advice the pauses double, with jitter, and no call lasts longer than the caller's patience."""
    stage = Stage([Lost("refused", sent=False)] * 100)
    with pytest.raises(DependencyError, match="cannot be reached"):
        stage.play(stage.flows.status(ID))
    assert stage.now <= 1000.0 + stage.settings.patience
    for number, pause in enumerate(stage.pauses):
        assert min(5.0, 0.1 * 2**number) / 2 <= pause <= min(5.0, 0.1 * 2**number)


def test_patience_ends_with_what_the_server_said() -> None:
    """A server that stays busy is told of by its own problem."""
    stage = Stage([problem(503, "stopped", retry_after="30")] * 2)
    with pytest.raises(errors.Stopped) as caught:
        stage.play(stage.flows.submit(b"<A/>"))
    assert problem_of(caught.value) is not None


def test_a_message_without_an_answer_is_unknown() -> None:
    """When patience ends without any answer to a message that was sent, nobody may assume that it failed."""
    stage = Stage([Lost("reset", sent=True)] * 100)
    with pytest.raises(OutcomeUnknown):
        stage.play(stage.flows.submit(b"<A/>"))


@pytest.mark.parametrize("lost", [Lost("reset", sent=True), answer(504, b""), problem(503, "outcome_unknown")])
def test_a_redrive_is_never_sent_twice(lost: Reply) -> None:
    """A redrive whose answer was lost may have happened: it is not repeated, and that is said."""
    stage = Stage([lost])
    with pytest.raises(OutcomeUnknown):
        stage.play(stage.flows.redrive(ID))
    assert len(stage.requests) == 1


@pytest.mark.parametrize("unharmed", [Lost("refused", sent=False), problem(503, "overloaded")])
def test_a_redrive_that_cannot_have_happened_is_sent_again(unharmed: Reply) -> None:
    """A redrive that never arrived, or was refused for now, is tried again."""
    stage = Stage([unharmed, answer(201, SHOWN)])
    assert stage.play(stage.flows.redrive(ID)).transaction_id == ID


# -- errors --


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "empty_body", errors.EmptyBody),
        (404, "unknown_transaction", UnknownTransaction),
        (404, "no_answer_yet", NoAnswer),
        (404, "no_answer_due", NoAnswer),
        (409, "illegal_decision", IllegalDecision),
        (422, "duplicate_mismatch", errors.DuplicateMismatch),
        (403, "forbidden", Forbidden),
        (400, "a_word_of_tomorrow", RequestError),
        (404, "a_word_of_tomorrow", UnknownTransaction),
        (500, "internal", DependencyError),
    ],
)
def test_a_problem_becomes_the_error_of_its_code(status: int, code: str, error: type[InterlockError]) -> None:
    """A refusal is raised as the class that has its code, the nearest one there is, with the server's words."""
    stage = Stage([problem(status, code)])
    with pytest.raises(error, match="why") as caught:
        stage.play(stage.flows.status(ID))
    assert type(caught.value) is error
    told = problem_of(caught.value)
    assert told is not None
    assert (told.status, told.code) == (status, code)


def test_every_error_that_a_server_tells_can_be_raised() -> None:
    """There is no code of ours that the client turns into another error."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, InterlockError) and kind is not InterlockError:
            stage = Stage([problem(400, kind.code)])
            with pytest.raises(kind):
                stage.play(stage.flows.status(ID))


def test_what_is_no_interlock_is_told_so() -> None:
    """A page of something else at the address is no success."""
    stage = Stage([answer(200, b"<html>Welcome</html>")])
    with pytest.raises(DependencyError, match="no Interlock"):
        stage.play(stage.flows.status(ID))


# -- what is sent --


def test_preferences_and_references_are_headers() -> None:
    """`wait` is asked for in whole seconds, rounded up, and the call is given that much longer."""
    stage = Stage([answer(200, SHOWN)])
    stage.play(stage.flows.submit(b"<A/>", wait=0.2, reference="mine"))
    headers = stage.requests[0].headers
    assert (headers["Prefer"], headers["X-Client-Reference"]) == ("wait=1", "mine")
    assert headers["Content-Type"] == "application/xml"


def test_a_filter_repeats_what_may_be_several() -> None:
    """Several statuses are given one after the other; a time has its offset; what is None is left out."""
    stage = Stage([answer(200, {"transactions": [SHOWN], "next": None})])
    since = datetime(2026, 11, 22, tzinfo=UTC)
    stage.play(stage.flows.page(status=["RJCT", "CANC"], since=since, uetr=None, limit=7))
    assert list(stage.requests[0].params) == [
        ("status", "RJCT"),
        ("status", "CANC"),
        ("since", "2026-11-22T00:00:00+00:00"),
        ("limit", "7"),
    ]


def test_a_bulk_redrive_is_dry_by_default() -> None:
    """Without being told otherwise a bulk redrive only looks; its filter has statuses as a list."""
    stage = Stage([answer(200, {"dry_run": True, "results": [], "next": None})])
    stage.play(stage.flows.redrive_all(status="CANC", reason="AB06"))
    content = stage.requests[0].content
    assert content is not None
    assert json.loads(content) == {"dry_run": True, "filter": {"status": ["CANC"], "reason": "AB06"}}


def test_an_id_cannot_leave_its_place_in_the_path() -> None:
    """An id that is none, with slashes in it, stays one segment of the path."""
    stage = Stage([problem(400, "invalid_request")])
    with pytest.raises(RequestError):
        stage.play(stage.flows.status("../v1/clients?x=1"))
    assert stage.requests[0].path == "/v1/transactions/..%2Fv1%2Fclients%3Fx%3D1"


# -- waiting --


def test_waiting_ends_with_the_end() -> None:
    """`wait` asks the server to wait, and gives the transaction once it has ended."""
    held = {**SHOWN, "status": "PDNG", "final": False, "held": "decision"}
    stage = Stage([answer(200, held), answer(200, SHOWN)])
    assert stage.play(stage.flows.wait(ID, seconds=30)).final
    assert stage.requests[0].headers["Prefer"] == "wait=20"


def test_waiting_ends_with_the_time() -> None:
    """`wait` gives the transaction as it stands when the time is up, and does not hammer at a server that answers."""
    held = {**SHOWN, "status": "PDNG", "final": False}
    stage = Stage([answer(200, held)] * 1000)
    assert not stage.play(stage.flows.wait(ID, seconds=10)).final
    assert stage.now == pytest.approx(1010, abs=0.01)
    assert len(stage.requests) < 30


# -- the twins --


def _calls(kind: type) -> dict[str, Callable[..., Any]]:
    return {name: value for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}


def test_both_clients_have_the_same_methods() -> None:
    """Whatever one client can do the other can, with the same arguments and the same documentation."""
    sync, twin = _calls(Client), _calls(AsyncClient)
    assert set(sync) == set(twin)
    for name in sync:
        assert sync[name].__doc__ == twin[name].__doc__
        ours, theirs = inspect.signature(sync[name]), inspect.signature(twin[name])
        assert list(ours.parameters) == list(theirs.parameters)


def test_every_flow_is_a_method_of_the_clients() -> None:
    """No call of the core is left out by the drivers."""
    assert set(_calls(Flows)) <= set(_calls(Client))
