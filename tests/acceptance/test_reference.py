"""The reference surface: the recorded exchanges of the public sample as oracle, and what ours must do better."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from lxml import etree

from tests.acceptance.conftest import LARGE, Caller, Server
from tests.messages import Transfer, pacs002, pacs008

pytestmark = pytest.mark.stores("sqlite", "postgres")

TRANSCRIPTS = Path(__file__).parents[3] / "shared" / "reference" / "transcripts"

#: What our address, region and life of a token are called in the recordings does not matter.
_FREE = frozenset({"api_endpoint", "region_id", "expires_in"})
_IDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Recording:
    """The steps of one recorded case, to be gone through in order."""

    def __init__(self, case: str) -> None:
        path = TRANSCRIPTS / f"{case}.json"
        if not path.exists():
            pytest.skip(f"no recordings of the reference at {TRANSCRIPTS}")
        steps = json.loads(path.read_text("utf-8"))["normalized"]["steps"]
        self.steps = [step for step in steps if "request" in step]

    def next(self, method: str, path: str) -> Mapping[str, Any]:
        """The response recorded for the next step, which must be this call."""
        step = self.steps.pop(0)
        assert (step["request"]["method"], step["request"]["path"]) == (method, path)
        response: Mapping[str, Any] = step["response"]
        return response


def assert_alike(response: httpx.Response, recorded: Mapping[str, Any]) -> None:
    """Status, content type, keys in their order, types of values, and constants are the recorded ones."""
    assert response.status_code == recorded["status"]
    assert response.headers["content-type"] == recorded["headers"]["Content-Type"]
    assert_alike_body(response.json(), recorded)
    assert ("\n    " in response.text) == ("\n    " in recorded["body"])


def assert_alike_body(ours: Any, recorded: Mapping[str, Any], *, more: frozenset[str] = frozenset()) -> None:
    """more: keys that ours has besides."""
    theirs = json.loads(_filled(recorded["body"]))
    assert [key for key in ours if key not in more] == list(theirs)
    for key, value in theirs.items():
        assert isinstance(ours[key], float | int if isinstance(value, float | int) else type(value)), key
        if key not in _FREE and "${" not in str(value) and isinstance(value, str):
            assert ours[key] == value, key
    assert more <= set(ours)


def _filled(body: str) -> str:
    """The recording as JSON: what stands for a number becomes one."""
    return body.replace("${SECONDS}", "0.5").replace("${EPOCH_MS}", "1700000000000")


def assert_miss(response: httpx.Response) -> None:
    """The answer for what is not there, not ready, or not yours."""
    assert response.status_code == 400
    assert response.json()["error_code"] == "MISS"


oracle = pytest.mark.oracle


@oracle
def test_00_token(alice: Caller) -> None:
    """The token endpoint gives and refuses as the sample's."""
    recorded = Recording("00_token")
    form = {"grant_type": "client_credentials", "client_id": alice.client_id, "scope": "rp2/read rp2/write"}
    auth = (alice.client_id, alice.secret)
    assert_alike(alice.http.post("/oauth2/token", auth=auth, data=form), recorded.next("POST", "/oauth2/token"))
    refusals: list[tuple[tuple[str, str], dict[str, str]]] = [
        ((alice.client_id, "wrong"), {"grant_type": "client_credentials"}),
        (auth, {"grant_type": "password"}),
        (auth, {"grant_type": "client_credentials", "scope": "foo/bar"}),
    ]
    for credentials, fields in refusals:
        response = alice.http.post("/oauth2/token", auth=credentials, data=fields)
        theirs = recorded.next("POST", "/oauth2/token")
        assert (response.status_code, response.json()) == (theirs["status"], json.loads(theirs["body"]))


@oracle
@pytest.mark.parametrize("case", ["01_happy", "08_lowercase_headers"])
def test_01_happy(alice: Caller, case: str) -> None:
    """Id, message, answer: the recorded statuses, headers and shapes; the answer is XML and the real one.

    Header names may be in any case.
    """
    recorded = Recording(case)
    change: Callable[[str], str] = str.lower if case.startswith("08") else str
    issued = alice.call("GET", "/uuid", {change("X-Message-Type"): "pacs.008"})
    assert_alike(issued, recorded.next("GET", "/uuid"))
    transaction_id = issued.json()["transaction_id"]
    headers = {change("X-Transaction-Id"): transaction_id, change("X-Message-Type"): "pacs.008"}
    transfer = Transfer()
    received = alice.call("POST", "/inbox", headers, content=pacs008(transfer))
    assert_alike(received, recorded.next("POST", "/inbox"))
    assert received.json()["transaction_id"] == transaction_id
    collected = alice.call("POST", "/outbox", {change("X-Transaction-Id"): transaction_id})
    assert collected.status_code == 200
    assert collected.headers["content-type"] == "application/xml"
    answer = etree.fromstring(collected.content)
    assert answer.findtext(".//{*}OrgnlEndToEndId") == transfer.end_to_end_id
    assert answer.findtext(".//{*}TxSts") == "ACSC"


@oracle
def test_01_happy_as_json(alice: Caller, servers: Callable[..., Server]) -> None:
    """With `Accept: application/json` the answer is an object; with the reference's format, the sample's string."""
    recorded = Recording("01_happy").steps[-1]["response"]
    transaction_id = alice.issue()
    alice.inbox(transaction_id, pacs008())
    shown = alice.outbox(transaction_id, Accept="application/json")
    assert shown.headers["content-type"] == "application/json"
    theirs = json.loads(json.loads(recorded["body"]))
    assert_shaped(shown.json(), theirs)
    own = servers(outbox_format="reference").add("a")
    with own.http:
        transaction_id = own.issue()
        own.inbox(transaction_id, pacs008())
        doubled = own.outbox(transaction_id)
        assert doubled.headers["content-type"] == recorded["headers"]["Content-Type"]
        assert doubled.text.startswith('"{\\"Document\\": {\\"@xmlns\\": \\"urn:')
        assert_shaped(json.loads(doubled.json()), theirs)
        assert own.outbox(transaction_id, Accept="application/xml").content.startswith(b"<?xml")


def assert_shaped(ours: Any, theirs: Any) -> None:
    """A pacs.002 of the same form: attributes and text where the sample has them."""
    assert set(ours) == set(theirs) == {"Document"}
    assert ours["Document"]["@xmlns"].startswith("urn:iso:std:iso:20022:tech:xsd:pacs.002.001.")
    our_report, their_report = (document["Document"]["FIToFIPmtStsRpt"] for document in (ours, theirs))
    assert set(our_report) == set(their_report)
    our_amount, their_amount = (
        report["TxInfAndSts"]["OrgnlTxRef"]["IntrBkSttlmAmt"] for report in (our_report, their_report)
    )
    assert set(our_amount) == set(their_amount) == {"@Ccy", "#text"}


@oracle
def test_03_before_ready(alice: Caller) -> None:
    """Before there is an answer, `/outbox` says what the sample says; after it, it gives the answer."""
    recorded = Recording("03_outbox_before_ready")
    assert_alike(issued := alice.call("GET", "/uuid"), recorded.next("GET", "/uuid"))
    transaction_id = issued.json()["transaction_id"]
    assert_alike(alice.outbox(transaction_id), recorded.next("POST", "/outbox"))
    alice.inbox(transaction_id, pacs008(Transfer(amount=LARGE)))
    recorded.next("POST", "/inbox")
    assert_alike(alice.outbox(transaction_id), recorded.next("POST", "/outbox"))
    assert alice.decide(transaction_id, "accept").status_code == 200
    assert alice.outbox(transaction_id).status_code == 200


@oracle
def test_07_missing_headers(alice: Caller) -> None:
    """The sample's shapes, but a missing id is the caller's to mend (400), and a missing type is no fault."""
    recorded = Recording("07_missing_headers")
    assert_alike(alice.call("GET", "/uuid"), recorded.next("GET", "/uuid"))
    why = frozenset({"error_code", "error_message"})
    without_id = alice.call("POST", "/inbox", {"X-Message-Type": "pacs.008"}, content=pacs008())
    assert without_id.status_code == 400
    assert_alike_body(without_id.json(), recorded.next("POST", "/inbox"), more=why)
    transaction_id = alice.issue()
    assert alice.call("POST", "/inbox", {"X-Transaction-Id": transaction_id}, content=pacs008()).status_code == 200
    recorded.next("POST", "/inbox")
    for headers in ({}, {"X-Transaction-Id": ""}):
        response = alice.call("POST", "/outbox", headers)
        assert response.status_code == 400
        assert set(json.loads(recorded.next("POST", "/outbox")["body"])) <= set(response.json())


@oracle
def test_09_auth(alice: Caller) -> None:
    """Who has no token, a bad one, or one without the scope, and what is at no path: as the sample's gateway."""
    recorded = Recording("09_auth")
    assert_alike(alice.http.get("/uuid"), recorded.next("GET", "/uuid"))
    assert_alike(alice.http.get("/uuid", headers={"Authorization": "Bearer junk"}), recorded.next("GET", "/uuid"))
    read = "rp2/read"
    assert_alike(issued := alice.call("GET", "/uuid", scope=read), recorded.next("GET", "/uuid"))
    headers = {"X-Transaction-Id": issued.json()["transaction_id"]}
    assert_alike(alice.call("POST", "/inbox", headers, scope=read, content=pacs008()), recorded.next("POST", "/inbox"))
    assert_alike(alice.call("POST", "/outbox", headers, scope=read), recorded.next("POST", "/outbox"))
    assert_alike(alice.http.post("/inbox", headers=headers, content=b"x"), recorded.next("POST", "/inbox"))
    assert_alike(alice.call("GET", "/nope"), recorded.next("GET", "/nope"))
    assert_alike(alice.call("GET", "/inbox"), recorded.next("GET", "/inbox"))
    assert alice.http.options("/inbox").status_code == 204


@oracle
def test_16_body_sizes(alice: Caller) -> None:
    """A megabyte is taken, more is refused with 413 in the sample's shape; the id can still be used."""
    recorded = Recording("16_body_sizes")
    for size in (200_000, 300_000, 1_000_000):
        response = alice.inbox(alice.issue(), b"<a>" + b"x" * size + b"</a>")
        step = next(step for step in recorded.steps if step["request"]["path"] == "/inbox")
        recorded.steps.remove(step)
        assert_alike(response, step["response"])
    transaction_id = alice.issue()
    response = alice.inbox(transaction_id, b"<a>" + b"x" * 1_200_000 + b"</a>")
    step = next(step for step in recorded.steps if step["request"]["path"] == "/inbox")
    assert response.status_code == 413
    assert_alike_body(response.json(), step["response"], more=frozenset({"error_code", "error_message"}))
    assert_miss(alice.outbox(transaction_id))
    assert alice.inbox(transaction_id, pacs008()).status_code == 200


@oracle
def test_22_health(alice: Caller, bob: Caller) -> None:
    """`GET /` as the sample's, skip headers included; counts about a transaction only for its owner."""
    recorded = Recording("22_health")
    skips = {"X-S3-Skip": "1", "X-SQS-Skip": "1"}
    assert_alike(alice.http.get("/"), recorded.next("GET", "/"))
    assert_alike(issued := alice.call("GET", "/uuid"), recorded.next("GET", "/uuid"))
    assert_alike(alice.http.get("/", headers={**skips, "X-SNS-Skip": "1"}), recorded.next("GET", "/"))
    probe = {**skips, "X-Transaction-Id": issued.json()["transaction_id"], "X-Transaction-Status": "ACCP"}
    assert_alike(alice.call("GET", "/", probe), recorded.next("GET", "/"))
    for stranger in (alice.http.get("/", headers=probe), bob.call("GET", "/", probe)):
        assert stranger.json()["dynamodb_count"] == "0"
    probe["X-Transaction-Status"] = "ACSC"
    assert_alike(alice.call("GET", "/", probe), recorded.next("GET", "/"))
    assert_alike(alice.http.get("/", headers={**skips, "X-DynamoDB-Skip": "1"}), recorded.next("GET", "/"))


@oracle
def test_23_tenants(alice: Caller, bob: Caller) -> None:
    """Where the sample gave another client's answer away and took its body, ours says that there is nothing."""
    recorded = Recording("23_tenant_isolation")
    transaction_id = alice.issue()
    assert bob.inbox(transaction_id, b"<B/>").status_code == 400
    alice.inbox(transaction_id, pacs008())
    stolen = bob.outbox(transaction_id)
    assert_alike(stolen, recorded.steps[-1]["response"])
    assert_miss(stolen)
    assert alice.outbox(transaction_id).status_code == 200


# -- what the sample got wrong, and ours must not ---------------------------------------------------------------------


def test_an_answer_can_be_read_again(alice: Caller) -> None:
    """However often it is fetched, the answer is the same to the byte."""
    transaction_id = alice.issue()
    alice.inbox(transaction_id, pacs008())
    first = alice.outbox(transaction_id)
    assert {alice.outbox(transaction_id).content for _ in range(3)} == {first.content}


@pytest.mark.parametrize(
    ("message", "definition"),
    [
        (b"<a><b></a>", "admi.002.001.01"),
        (b"not xml at all", "admi.002.001.01"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "admi.002.001.01"),
        (pacs008(count=7), "pacs.002.001.10"),
    ],
    ids=["malformed", "text", "doctype", "wrong count"],
)
def test_a_bad_message_gets_a_rejection(alice: Caller, message: bytes, definition: str) -> None:
    """What cannot be processed is taken, ends as RJCT, and `/outbox` gives the rejection: no hang, no ACSC."""
    transaction_id = alice.issue()
    assert alice.inbox(transaction_id, message).status_code == 200
    answer = alice.outbox(transaction_id)
    assert answer.status_code == 200
    assert definition.encode() in answer.content
    assert alice.get(transaction_id).json()["status"] == "RJCT"


def test_a_cancelled_one_has_an_answer(alice: Caller) -> None:
    """Who cancels what is held finds an answer that says so."""
    transaction_id = alice.issue()
    alice.inbox(transaction_id, pacs008(Transfer(amount=LARGE)))
    assert alice.decide(transaction_id, "cancel").json()["status"] == "CANC"
    answer = etree.fromstring(alice.outbox(transaction_id).content)
    assert answer.findtext(".//{*}Rsn/{*}Cd") == "DS02"


def test_an_answer_is_not_answered(alice: Caller) -> None:
    """For a message that is itself an answer there is none, and `/outbox` says so: 204."""
    transaction_id = alice.issue()
    assert alice.inbox(transaction_id, pacs002()).status_code == 200
    response = alice.outbox(transaction_id)
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("body", [b"", b'{"a": 1}', b' \n[{"a": 1}]', b"\xef\xbb\xbf{}"])
def test_what_is_no_message_is_refused(alice: Caller, body: bytes) -> None:
    """An empty or JSON body is 400, nothing is stored, and the id can still be used."""
    transaction_id = alice.issue()
    assert alice.inbox(transaction_id, body).status_code == 400
    assert alice.get(transaction_id).json()["status"] == "ACCP"
    assert alice.inbox(transaction_id, pacs008()).status_code == 200


def test_the_same_body_again_is_success_another_is_not(alice: Caller) -> None:
    """A repeated call gets what the first got; another body under the same id is refused and changes nothing."""
    transaction_id, message = alice.issue(), pacs008()
    assert [alice.inbox(transaction_id, message).status_code for _ in range(3)] == [200, 200, 200]
    answer = alice.outbox(transaction_id).content
    refusal = alice.inbox(transaction_id, pacs008())
    assert refusal.status_code == 400
    assert refusal.json()["error_code"] == "duplicate_mismatch"
    assert alice.outbox(transaction_id).content == answer


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Transaction-Id": "not-a-uuid"},
        {"X-Transaction-Id": "01a202dd-8cbf-7f50-96f6-dea2ab081700"},
        {"X-Transaction-Id": "x" * 5000},
    ],
    ids=["no UUID", "unknown", "long"],
)
def test_unknown_ids_are_told_alike(alice: Caller, headers: dict[str, str]) -> None:
    """Whatever is wrong with an id, it is simply not there; what was sent under it is not kept."""
    assert_miss(alice.call("POST", "/outbox", headers))
    refusal = alice.call("POST", "/inbox", headers, content=pacs008())
    assert refusal.status_code == 400
    assert refusal.json()["error_code"] == "unknown_transaction"
    assert refusal.json()["transaction_id"] == headers["X-Transaction-Id"]


def test_a_chunked_body_is_taken(alice: Caller) -> None:
    """A body without a length in advance is a body."""
    message = pacs008()

    def parts() -> Any:
        for start in range(0, len(message), 500):
            yield message[start : start + 500]

    transaction_id = alice.issue()
    assert alice.call("POST", "/inbox", {"X-Transaction-Id": transaction_id}, content=parts()).status_code == 200
    assert alice.get(transaction_id, "/messages/inbox").content == message


def test_token_by_form(alice: Caller) -> None:
    """Id and secret may come as fields of the form."""
    fields = {"client_id": alice.client_id, "client_secret": alice.secret, "grant_type": "client_credentials"}
    given = alice.http.post("/oauth2/token", data=fields)
    assert given.status_code == 200
    assert given.headers["cache-control"] == "no-store"
    for broken in ({**fields, "client_secret": "x"}, {"grant_type": "client_credentials"}):
        response = alice.http.post("/oauth2/token", data=broken)
        assert (response.status_code, response.json()) == (400, {"error": "invalid_client"})
    for header in ("Basic !!!", "Basic aGFsbG8=", "Bearer x", "Basic"):
        response = alice.http.post("/oauth2/token", data=fields, headers={"Authorization": header})
        assert (response.status_code, response.json()) == (400, {"error": "invalid_client"})
    for body in (b"", b"\xff\xfe", b"grant_type=client_credentials&grant_type=password", b"a=1&" * 50):
        response = alice.http.post("/oauth2/token", content=body)
        assert (response.status_code, response.json()) == (400, {"error": "invalid_request"})


def test_token_calls_are_limited(servers: Callable[..., Server]) -> None:
    """A client that asks for tokens too often is told when to come back; strangers cannot lock it out."""
    caller = servers(token_calls_per_minute=3).add("a")
    form = {"grant_type": "client_credentials"}
    with caller.http as http:
        guesses = [http.post("/oauth2/token", auth=(caller.client_id, "guess"), data=form) for _ in range(5)]
        assert [guess.status_code for guess in guesses] == [400, 400, 400, 429, 429]
        given = [http.post("/oauth2/token", auth=(caller.client_id, caller.secret), data=form) for _ in range(4)]
        assert [response.status_code for response in given] == [200, 200, 200, 429]
        assert 0 < int(given[-1].headers["retry-after"]) <= 60
