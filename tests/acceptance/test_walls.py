"""Walls between tenants: another's transaction is told like one that never was, byte for byte, on every call.

Only what the caller itself sent (the id) and what differs from call to call (times, request ids) may differ.
"""

import re
from collections.abc import Callable
from uuid import UUID, uuid4

import httpx
import pytest

from tests.acceptance.conftest import LARGE, Caller
from tests.messages import Transfer, fresh, pacs008

pytestmark = pytest.mark.stores("sqlite", "postgres")

ZERO = "00000000-0000-0000-0000-000000000000"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VARYING = re.compile(
    r'"request_duration": [0-9.]+|"request_timestamp": ("[0-9 :.-]+"|\d+)'
    r"|\d{4}-\d\d-\d\dT[0-9:.]+Z"
)


def seen(response: httpx.Response) -> tuple[int, dict[str, str], str]:
    """A response without what may differ."""
    headers = {name: value for name, value in response.headers.items() if name not in ("date", "x-amzn-requestid")}
    return response.status_code, headers, _VARYING.sub("~", _UUID.sub(ZERO, response.text))


def never_issued(like: str) -> str:
    """An id of the same form and time that nobody was given."""
    value = UUID(like).int ^ (0xFFFFFFFF << 16)
    return str(UUID(int=value))


# -- transactions of alice's, in every state that a stranger might tell apart ------------------------------------------


def issued(alice: Caller) -> str:
    return alice.issue()


def held(alice: Caller) -> str:
    return str(alice.submit(pacs008(Transfer(amount=LARGE))).json()["transaction_id"])


def settled(alice: Caller) -> str:
    transaction_id = alice.issue()
    assert alice.inbox(transaction_id, pacs008()).status_code == 200
    return transaction_id


def collected(alice: Caller) -> str:
    transaction_id = settled(alice)
    assert alice.outbox(transaction_id).status_code == 200
    return transaction_id


def rejected(alice: Caller) -> str:
    return str(alice.submit(b"<a/>").json()["transaction_id"])


def cancelled(alice: Caller) -> str:
    transaction_id = held(alice)
    assert alice.decide(transaction_id, "cancel").json()["status"] == "CANC"
    return transaction_id


STATES = (issued, held, settled, collected, rejected, cancelled)

# -- everything that bob can try on an id -----------------------------------------------------------------------------

Try = Callable[[Caller, str], httpx.Response]


def _get(rest: str) -> Try:
    return lambda caller, id_: caller.get(id_, rest)


def _decide(decision: str, **more: str) -> Try:
    return lambda caller, id_: caller.decide(id_, decision, **more)


def _redrive(*, dry_run: bool) -> Try:
    return lambda caller, id_: caller.call("POST", "/v1/redrives", json={"transaction_ids": [id_], "dry_run": dry_run})


def _look(status: str | None) -> Try:
    def look(caller: Caller, id_: str) -> httpx.Response:
        headers = {"X-Transaction-Id": id_, **({"X-Transaction-Status": status} if status else {})}
        return caller.call("GET", "/", headers)

    return look


TRIES: dict[str, Try] = {
    "transaction": _get(""),
    "transaction, waiting": lambda caller, id_: caller.call("GET", f"/v1/transactions/{id_}", {"Prefer": "wait=30"}),
    "events": _get("/events"),
    "payments": _get("/payments"),
    "message": _get("/messages/inbox"),
    "answer": _get("/messages/outbox"),
    "accept": _decide("accept"),
    "reject": _decide("reject", reason="AC04"),
    "cancel": _decide("cancel"),
    "redrive": _decide("redrive"),
    "retry": _decide("retry"),
    "redrives": _redrive(dry_run=False),
    "redrives, dry": _redrive(dry_run=True),
    "outbox": lambda caller, id_: caller.outbox(id_),
    "outbox as JSON": lambda caller, id_: caller.outbox(id_, Accept="application/json"),
    "inbox": lambda caller, id_: caller.inbox(id_, b"<B/>"),
    "inbox, empty": lambda caller, id_: caller.inbox(id_, b""),
    "look": _look(None),
    "look for ACCP": _look("ACCP"),
    "look for ACSC": _look("ACSC"),
    "look for PDNG": _look("PDNG"),
}


@pytest.fixture(scope="module")
def theirs(alice: Caller) -> dict[str, str]:
    """Alice's transactions, by state."""
    return {state.__name__: state(alice) for state in STATES}


@pytest.mark.parametrize("attempt", TRIES)
@pytest.mark.parametrize("state", [state.__name__ for state in STATES])
def test_anothers_id_is_as_unknown(
    alice: Caller, bob: Caller, theirs: dict[str, str], state: str, attempt: str
) -> None:
    """Whatever another client tries on an id that is not its own, it learns nothing and changes nothing."""
    transaction_id = theirs[state]
    before = alice.get(transaction_id).json(), alice.get(transaction_id, "/events").json()
    tried = TRIES[attempt]
    assert seen(tried(bob, transaction_id)) == seen(tried(bob, never_issued(transaction_id)))
    assert (alice.get(transaction_id).json(), alice.get(transaction_id, "/events").json()) == before


def test_the_attempts_are_real(alice: Caller) -> None:
    """The owner gets something else: the matrix would not pass for calls that never work."""
    transaction_id = settled(alice)
    for attempt in ("transaction", "events", "message", "answer", "outbox", "outbox as JSON"):
        assert TRIES[attempt](alice, transaction_id).status_code == 200
    assert TRIES["look for ACSC"](alice, transaction_id).json()["dynamodb_count"] == "1"
    assert TRIES["cancel"](alice, transaction_id).status_code == 409


@pytest.fixture(scope="module")
def named(alice: Caller) -> dict[str, str]:
    """What one of alice's messages is known by."""
    transfer, message_id, reference = Transfer(), fresh(), fresh()
    message = pacs008(transfer, message_id=message_id)
    made = alice.submit(message, X_Client_Reference=reference, Idempotency_Key=reference)
    assert made.json()["status"] == "ACSC"
    return {
        "uetr": str(transfer.uetr),
        "message_id": message_id,
        "end_to_end_id": transfer.end_to_end_id,
        "transaction_reference": transfer.transaction_id,
        "reference": reference,
    }


@pytest.mark.parametrize("name", ["uetr", "message_id", "end_to_end_id", "transaction_reference", "reference"])
def test_anothers_names_find_nothing(bob: Caller, named: dict[str, str], name: str) -> None:
    """A name that finds another's transaction for its owner finds nothing for anybody else."""
    unknown = str(uuid4()) if name == "uetr" else fresh()
    answers = [bob.call("GET", "/v1/transactions", params={name: value}) for value in (named[name], unknown)]
    assert answers[0].json()["transactions"] == []
    assert seen(answers[0]) == seen(answers[1])


def test_anothers_keys_are_free(bob: Caller, named: dict[str, str]) -> None:
    """A message id, UETR or idempotency key that another client has used is no duplicate: none learns of the other."""
    transfer = Transfer(uetr=named["uetr"], end_to_end_id=named["end_to_end_id"])
    message = pacs008(transfer, message_id=named["message_id"])
    response = bob.submit(message, Idempotency_Key=named["reference"], X_Client_Reference=named["reference"])
    assert (response.status_code, response.json()["status"]) == (200, "ACSC")
    assert response.json()["client_id"] == bob.client_id


def test_a_list_is_ones_own(alice: Caller, bob: Caller) -> None:
    """A tenant's list holds its own only, and it cannot ask for another's; a client that is not is told alike."""
    settled(alice)
    settled(bob)
    shown = bob.call("GET", "/v1/transactions", params={"limit": 500}).json()["transactions"]
    assert {transaction["client_id"] for transaction in shown} == {bob.client_id}
    calls: list[Callable[[str], httpx.Response]] = [
        lambda client: bob.call("GET", "/v1/transactions", params={"client": client}),
        lambda client: bob.call("POST", "/v1/redrives", json={"filter": {"client": client}, "dry_run": True}),
    ]
    for call in calls:
        foreign, unknown = call(alice.client_id), call("c_0123456789abcdef")
        assert foreign.status_code == 403
        assert seen(foreign) == seen(unknown)


def test_anothers_cursor_leads_nowhere(alice: Caller, bob: Caller) -> None:
    """A position in another's list is but a position in one's own."""
    settled(alice), settled(alice)
    cursor = alice.call("GET", "/v1/transactions", params={"limit": 1}).json()["next"]
    shown = bob.call("GET", "/v1/transactions", params={"cursor": cursor}).json()["transactions"]
    assert {transaction["client_id"] for transaction in shown} <= {bob.client_id}


def test_open_calls_tell_nothing(alice: Caller, bob: Caller) -> None:
    """What anybody may call is the same before and after another client's work."""
    calls = ("/", "/healthz", "/readyz", "/.well-known/jwks.json")
    before = [seen(bob.http.get(path)) for path in calls]
    held(alice), settled(alice)
    assert [seen(bob.http.get(path)) for path in calls] == before


@pytest.mark.parametrize("path", ["/v1/controls", "/v1/clients", "/metrics"])
def test_the_operators_view_is_closed(bob: Caller, path: str) -> None:
    """What shows all clients is not for tenants."""
    assert bob.call("GET", path, {"X-Forwarded-For": "203.0.113.9"}).status_code == 403
