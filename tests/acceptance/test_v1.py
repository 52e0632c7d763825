"""The v1 surface over HTTP: what it gives, what it refuses and how it says so, and how it bears bad clients."""

import gzip
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from lxml import etree

from interlock.stores.sqlite import SqliteStore
from tests.acceptance.conftest import LARGE, START_SECONDS, Caller, Server, command
from tests.messages import Transfer, fresh, pacs002, pacs008

pytestmark = pytest.mark.stores("sqlite", "postgres")
#: On one will do: what happens does not get as far as the store.
no_store = pytest.mark.stores("sqlite")

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def large() -> bytes:
    """A message that is held for a consumer's decision."""
    return pacs008(Transfer(amount=LARGE))


def held(caller: Caller) -> str:
    """The id of a transaction that is held for a decision."""
    response = caller.submit(large())
    assert (response.status_code, response.json()["held"]) == (202, "decision")
    return str(response.json()["transaction_id"])


def cancelled(caller: Caller) -> str:
    """The id of a transaction that was cancelled."""
    transaction_id = held(caller)
    assert caller.decide(transaction_id, "cancel").json()["status"] == "CANC"
    return transaction_id


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """A problem document (RFC 9457), whose type leads somewhere."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"/problems/{code}")
    assert problem["title"]
    assert problem["detail"]
    return problem


# -- submitting -------------------------------------------------------------------------------------------------------


def test_a_message_in_one_call(alice: Caller) -> None:
    """One call takes the message and gives the end: the whole transaction, and where it is found again."""
    response = alice.submit(pacs008(message_id=(message_id := fresh())))
    assert response.status_code == 200
    shown = response.json()
    assert response.headers["location"] == f"/v1/transactions/{shown['transaction_id']}"
    assert UUID(shown["transaction_id"]).version == 7
    assert INSTANT.fullmatch(shown["created_at"])
    expected = {
        "client_id": alice.client_id, "status": "ACSC", "final": True, "held": None, "facet": None, "reason": None,
        "transaction_code": None, "route": "default", "definition": "pacs.008.001.08", "message_id": message_id,
        "payments_count": 1, "deadline": None, "attempt": 1, "redrive_of": None, "redriven_as": None,
        "answer": {"definition": "pacs.002.001.10", "due": True}, "region": "local", "replicated": False,
        "fencing": "strict", "consistency": "local", "flagged": False,
    }  # fmt: skip
    assert {key: shown[key] for key in expected} == expected
    detail = alice.get(shown["transaction_id"]).json()
    assert {key: detail[key] for key in shown} == shown
    assert len(detail["payments"]) == 1


def test_a_refused_message_is_no_error(alice: Caller) -> None:
    """A message that breaks the rules is taken, and its transaction says why it was rejected."""
    response = alice.submit(pacs008(Transfer(creditor_iban="DE00370400440532013000")))
    assert response.status_code == 200
    assert response.json()["status"] == "RJCT"
    assert response.json()["reason"]["code"] == "AC03"
    assert response.json()["reason"]["name"]


@pytest.mark.parametrize("wanted", ["consistent", "majority", "ALL"])
def test_other_regions_than_there_are_cannot_be_waited_for(alice: Caller, wanted: str) -> None:
    """With one region nothing could ever be confirmed: the call is refused, and nothing is stored."""
    message_id = fresh()
    refused = alice.submit(pacs008(message_id=message_id), X_Consistency=wanted)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert "one region only" in refused.json()["detail"]
    found = alice.call("GET", "/v1/transactions", params={"message_id": message_id})
    assert found.json()["transactions"] == []
    taken = alice.submit(pacs008(message_id=message_id), X_Consistency="available")
    assert taken.json()["status"] == "ACSC"


@pytest.mark.parametrize("prefer", ["wait=abc", "respond-async", "", "null", "handling=strict; wait", "wait=-1"])
def test_unknown_preferences_are_ignored(alice: Caller, prefer: str) -> None:
    """What we do not know in a Prefer header is no reason to refuse (RFC 7240)."""
    response = alice.submit(large(), Prefer=prefer)
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


def test_waiting_for_the_end(alice: Caller) -> None:
    """`Prefer: wait` holds the answer back until the end comes, or until the time is up."""
    reference = fresh()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(alice.submit, large(), Prefer="respond-async, wait=15", X_Client_Reference=reference)
        accept_once_there(alice, reference)
        response = waiting.result()
    assert (response.status_code, response.json()["status"]) == (200, "ACSC")
    assert response.headers["preference-applied"] == "wait=15"
    began = time.monotonic()
    assert alice.submit(large(), Prefer="wait=1").status_code == 202
    assert 0.9 < time.monotonic() - began < 5


def accept_once_there(caller: Caller, reference: str) -> None:
    """Accept the transaction with this reference as soon as it is found."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = caller.call("GET", "/v1/transactions", params={"reference": reference}).json()["transactions"]
        if found:
            assert caller.decide(found[0]["transaction_id"], "accept").status_code == 200
            return
    pytest.fail("it never appeared")


def test_waiting_for_one_that_is_there(alice: Caller) -> None:
    """A transaction can be asked for with patience, too."""
    transaction_id = held(alice)
    with ThreadPoolExecutor(1) as pool:
        path = f"/v1/transactions/{transaction_id}"
        waiting = pool.submit(alice.call, "GET", path, {"Prefer": "wait=15"})
        alice.decide(transaction_id, "reject", reason="AC04")
        assert waiting.result().json()["status"] == "RJCT"


def test_the_answer_itself(alice: Caller) -> None:
    """Who accepts XML gets the answer document at once, where there is one."""
    response = alice.submit(pacs008(), Accept="application/xml")
    assert response.headers["content-type"] == "application/xml"
    transaction_id = response.headers["location"].rsplit("/", 1)[1]
    assert response.content == alice.get(transaction_id, "/messages/outbox").content
    assert alice.submit(large(), Accept="application/xml").headers["content-type"] == "application/json"


def test_an_idempotency_key_makes_a_call_safe_to_repeat(alice: Caller, bob: Caller) -> None:
    """The same key and body give the same transaction, also at once; another body is refused; keys are per client."""
    message, key = pacs008(), fresh()
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: alice.submit(message, Idempotency_Key=key), range(8)))
    assert {response.json()["transaction_id"] for response in responses} == {responses[0].json()["transaction_id"]}
    assert_problem(alice.submit(pacs008(), Idempotency_Key=key), 422, "duplicate_mismatch")
    other = bob.submit(message, Idempotency_Key=key)
    assert other.json()["transaction_id"] != responses[0].json()["transaction_id"]
    assert other.json()["status"] == "ACSC"
    for bad in ("", "x" * 256):
        assert_problem(alice.submit(pacs008(), Idempotency_Key=bad), 400, "invalid_request")


@pytest.mark.parametrize(
    ("body", "media", "status", "code"),
    [
        (b"", "application/xml", 400, "empty_body"),
        (b'{"Document": {}}', "application/xml", 415, "not_xml"),
        (b'{"Document": {}}', "application/json", 415, "not_xml"),
    ],
)
def test_what_is_no_message_is_refused(alice: Caller, body: bytes, media: str, status: int, code: str) -> None:
    """Empty, JSON, or of another media type: refused, and nothing is stored."""
    before = alice.call("GET", "/v1/transactions", params={"limit": 1}).json()
    assert_problem(alice.submit(body, Content_Type=media), status, code)
    assert alice.call("GET", "/v1/transactions", params={"limit": 1}).json() == before


def test_a_compressed_body_is_refused(alice: Caller) -> None:
    """What we would not decompress is refused, not taken for a message that makes no sense."""
    assert_problem(alice.submit(gzip.compress(pacs008()), Content_Encoding="gzip"), 415, "not_xml")


@pytest.mark.parametrize("media", ["text/xml; charset=utf-8", "application/iso20022+xml", "application/octet-stream"])
def test_xml_by_any_of_its_names(alice: Caller, media: str) -> None:
    """Every media type that XML goes by is taken."""
    assert alice.submit(pacs008(), Content_Type=media).json()["status"] == "ACSC"


# -- looking ----------------------------------------------------------------------------------------------------------


def test_finding(alice: Caller) -> None:
    """A transaction is found by every name that its client knows it by, alone and together."""
    transfer, message_id, reference = Transfer(), fresh(), fresh()
    made = alice.submit(pacs008(transfer, message_id=message_id), X_Client_Reference=reference).json()
    names = {"uetr": transfer.uetr, "message_id": message_id, "end_to_end_id": transfer.end_to_end_id,
             "reference": reference}  # fmt: skip
    for chosen in [{name: value} for name, value in names.items()] + [names]:
        found = alice.call("GET", "/v1/transactions", params=chosen).json()
        assert [shown["transaction_id"] for shown in found["transactions"]] == [made["transaction_id"]], chosen
    assert found_ids(alice, {**names, "end_to_end_id": "another"}) == []
    assert found_ids(alice, {"uetr": str(transfer.uetr).upper()}) == [made["transaction_id"]]


def found_ids(caller: Caller, params: Any) -> list[str]:
    """What a filter finds."""
    response = caller.call("GET", "/v1/transactions", params=params)
    assert response.status_code == 200, response.text
    return [shown["transaction_id"] for shown in response.json()["transactions"]]


def test_filters(server: Server) -> None:
    """Status, cause and time narrow the list."""
    caller = server.add("filters")
    with caller.http:
        settled = caller.submit(pacs008()).json()["transaction_id"]
        waiting, dropped = held(caller), cancelled(caller)
        assert found_ids(caller, {}) == [dropped, waiting, settled]
        assert found_ids(caller, {"status": "PDNG"}) == found_ids(caller, {"held": "decision"}) == [waiting]
        assert found_ids(caller, [("status", "ACSC"), ("status", "CANC")]) == [dropped, settled]
        hour = timedelta(hours=1)
        assert found_ids(caller, {"since": (datetime.now(UTC) + hour).isoformat()}) == []
        assert found_ids(caller, {"until": (datetime.now(UTC) - hour).isoformat()}) == []
        assert len(found_ids(caller, {"since": "0001-01-01T00:00:00+23:59", "until": "9999-12-31T23:59:59-23:59"})) == 3


def test_pages(server: Server) -> None:
    """Following the cursor gives everything once, newest first."""
    caller = server.add("pages")
    with caller.http:
        made = [caller.submit(b"<a/>").json()["transaction_id"] for _ in range(7)]
        seen: list[str] = []
        cursor = None
        while True:
            params = {"limit": 3, **({"cursor": cursor} if cursor else {})}
            page = caller.call("GET", "/v1/transactions", params=params).json()
            seen += [shown["transaction_id"] for shown in page["transactions"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert seen == made[::-1]


def test_history(alice: Caller) -> None:
    """Every step has its record: what, when, who, and where it led."""
    transaction_id = held(alice)
    alice.decide(transaction_id, "accept", by="ada@example.org", note="checked by phone")
    events = alice.get(transaction_id, "/events").json()["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["status"] for event in events] == ["ACCP", "ACTC", "PDNG", "ACSP", "ACSC"]
    accepted = events[3]
    assert accepted["actor"] == f"{alice.client_id}:ada@example.org"
    assert accepted["note"] == "checked by phone"
    assert all(INSTANT.fullmatch(event["at"]) for event in events)


def test_messages_byte_for_byte(alice: Caller) -> None:
    """The message is given back as it came, and the answer the same each time."""
    message = b"\xef\xbb\xbf" + pacs008().replace(b"?>", b"?>\r\n<!-- kept -->\n")
    transaction_id = alice.submit(message).json()["transaction_id"]
    assert alice.get(transaction_id, "/messages/inbox").content == message
    answers = [alice.get(transaction_id, "/messages/outbox") for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert answers[0].headers["content-type"] == "application/xml"
    etree.fromstring(answers[0].content)


def test_no_answer(alice: Caller) -> None:
    """Where there is no answer, it is said whether one will come."""
    assert_problem(alice.get(held(alice), "/messages/outbox"), 404, "no_answer_yet")
    answer = alice.submit(pacs002()).json()
    assert answer["answer"] == {"definition": None, "due": False}
    assert_problem(alice.get(answer["transaction_id"], "/messages/outbox"), 404, "no_answer_due")
    assert_problem(alice.get(alice.issue(), "/messages/inbox"), 404, "no_answer")


def test_a_fetched_answer_is_delivered(alice: Caller) -> None:
    """The transaction shows whether its answer has been fetched; an operator's look does not count."""
    transaction_id = alice.submit(pacs008()).json()["transaction_id"]
    assert alice.get(transaction_id).json()["delivery"] == "pending"
    alice.get(transaction_id, "/messages/outbox")
    end = time.monotonic() + 5
    while alice.get(transaction_id).json()["delivery"] != "confirmed":
        assert time.monotonic() < end


# -- deciding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "more", "status", "reason"),
    [
        ("accept", {}, "ACSC", None),
        ("reject", {"reason": "AC04"}, "RJCT", "AC04"),
        ("reject", {"reason": "NARR", "note": "not ours"}, "RJCT", "NARR"),
        ("cancel", {}, "CANC", "DS02"),
    ],
)
def test_decisions(alice: Caller, decision: str, more: dict[str, str], status: str, reason: str | None) -> None:
    """A decision ends what is held; the same again is the same, another is too late and says what stands."""
    transaction_id = held(alice)
    decided = alice.decide(transaction_id, decision, **more)
    assert decided.status_code == 200
    assert decided.json()["status"] == status
    assert (decided.json()["reason"] or {}).get("code") == reason
    assert alice.decide(transaction_id, decision, **more).json()["status"] == status
    other = alice.decide(transaction_id, "reject", reason="AC01") if decision != "reject" else None
    problem = assert_problem(other or alice.decide(transaction_id, "accept"), 409, "illegal_decision")
    assert (problem["transaction_id"], problem["transaction_status"]) == (transaction_id, status)


@pytest.mark.parametrize(
    "body",
    [
        {"decision": "approve"},
        {"decision": "reject"},
        {"decision": "reject", "reason": "TECH"},
        {"decision": "reject", "reason": "NARR"},
        {"decision": "accept", "reason": "AC04"},
        {"decision": "accept", "by": "a:b"},
        {"decision": "accept", "note": "x" * 501},
        {"decision": "accept", "note": "\ud800"},
        {},
        [],
    ],
)
def test_decisions_that_say_nothing_clear_are_refused(alice: Caller, body: Any) -> None:
    """A decision that is not as it must be changes nothing, and the answer names the field."""
    transaction_id = held(alice)
    response = alice.call(
        "POST",
        f"/v1/transactions/{transaction_id}/decisions",
        {"Content-Type": "application/json"},
        content=json.dumps(body),
    )
    assert response.status_code == 400
    if response.json()["code"] == "invalid_request":
        assert all(error["field"].startswith("body") and error["text"] for error in response.json()["errors"])
    assert "approve" not in response.text  # names of fields are told again, values are not
    assert alice.get(transaction_id).json()["status"] == "PDNG"


def test_redriving_one(alice: Caller) -> None:
    """What was cancelled can be driven again: a new transaction from the archived bytes, linked both ways."""
    original = cancelled(alice)
    again = alice.decide(original, "redrive", by="ada")
    assert again.status_code == 201
    attempt = again.json()
    assert again.headers["location"] == f"/v1/transactions/{attempt['transaction_id']}"
    assert (attempt["redrive_of"], attempt["attempt"]) == (original, 2)
    assert alice.get(original).json()["redriven_as"] == attempt["transaction_id"]
    inboxes = {alice.get(id_, "/messages/inbox").content for id_ in (original, attempt["transaction_id"])}
    assert len(inboxes) == 1
    problem = assert_problem(alice.decide(original, "redrive"), 409, "illegal_decision")
    assert problem["redriven_as"] == attempt["transaction_id"]


def test_redriving_many(server: Server) -> None:
    """A dry run says what would be driven again and does nothing; the run does it, and says why where it does not."""
    caller = server.add("redrives")
    with caller.http:
        dropped = [cancelled(caller) for _ in range(3)]
        settled = caller.submit(pacs008()).json()["transaction_id"]
        wanted = {"filter": {"status": ["CANC"]}, "dry_run": True}
        planned = caller.call("POST", "/v1/redrives", json=wanted).json()
        assert {result["transaction_id"]: result["outcome"] for result in planned["results"]} == dict.fromkeys(
            dropped, "drivable"
        )
        assert found_ids(caller, {"status": "PDNG"}) == []
        ids = {"transaction_ids": [*dropped, settled, str(uuid4()), dropped[0]]}
        done = caller.call("POST", "/v1/redrives", json=ids).json()["results"]
        assert [result["outcome"] for result in done] == ["redriven"] * 3 + ["refused"] * 2
        assert [result["code"] for result in done[3:]] == ["illegal_decision", "unknown_transaction"]
        assert "settled" in done[3]["detail"]
        assert set(found_ids(caller, {"status": "PDNG"})) == {result["redriven_as"] for result in done[:3]}
        assert caller.call("POST", "/v1/redrives", json={"filter": {}}).json()["results"] == []
        mistakes: list[dict[str, Any]] = [
            {},
            {**ids, "filter": {}},
            {"transaction_ids": []},
            {"filter": {"status": ["ACSC"]}},
        ]
        for wrong in mistakes:
            assert_problem(caller.call("POST", "/v1/redrives", json=wrong), 400, "invalid_request")


# -- asking -----------------------------------------------------------------------------------------------------------


def test_validating_stores_nothing(alice: Caller) -> None:
    """Every finding is told with its rule, place, words and ISO reason; there is no transaction after it."""
    before = found_ids(alice, {"limit": 1})
    message = pacs008(Transfer(amount="1.234"), Transfer(creditor_iban="DE00370400440532013000"), count=3)
    verdict = alice.call("POST", "/v1/validations", {"Content-Type": "application/xml"}, content=message).json()
    assert verdict["valid"] is False
    assert verdict["definitions"] == ["pacs.008.001.08"]
    assert len(verdict["findings"]) >= 3
    for finding in verdict["findings"]:
        assert set(finding) == {"severity", "rule", "reason", "xpath", "line", "text", "payment"}
    path = "/v1/validations?schema_only=true"
    schema_only = alice.call("POST", path, {"Content-Type": "application/xml"}, content=message).json()
    judged = {"definitions": ["pacs.008.001.08"], "profile": "generic", "edition": None}
    assert schema_only == {"valid": True, "findings": [], **judged}
    assert found_ids(alice, {"limit": 1}) == before


def test_validation_by_a_market_practice(alice: Caller) -> None:
    """A profile that is named judges; a finding says which payment it concerns; there is no guess at a name."""
    message, headers = pacs008(Transfer(), Transfer(currency="USD")), {"Content-Type": "application/xml"}

    def judged(query: str) -> httpx.Response:
        return alice.call("POST", f"/v1/validations{query}", headers, content=message)

    assert judged("").json()["valid"] is True
    verdict = judged("?profile=sepa-sct").json()
    assert verdict["valid"] is False
    assert any(finding["payment"] == 2 and finding["rule"].startswith("profile.") for finding in verdict["findings"])
    problem = assert_problem(judged("?profile=sepa"), 400, "invalid_request")
    assert "sepa-sct" in problem["detail"]


def test_lenient_validation(alice: Caller) -> None:
    """Namespaces that were declared and then not used are mended when asked, and told all the same."""
    message = pacs008().replace(b"<Document xmlns=", b"<Document xmlns:d=")
    headers = {"Content-Type": "application/xml"}
    for query, valid, severity in (("", False, "error"), ("?lenient=true", True, "warning")):
        verdict = alice.call("POST", f"/v1/validations{query}", headers, content=message).json()
        found = [(each["rule"], each["severity"]) for each in verdict["findings"]]
        assert (verdict["valid"], found) == (valid, [("envelope.namespace", severity)])


@no_store
def test_validation_is_what_sending_would_say(servers: Callable[..., Server]) -> None:
    """Without a word a message is judged by its route's profile, and read as this client's messages are."""
    first = servers()
    caller = first.add("acme")
    caller.http.close()
    assert first.stop() == 0
    lenient = f'[clients."{caller.client_id}"]\nvalidation = "lenient"\n'
    caller.http = httpx.Client(base_url=servers(routes=f'[routes.default]\nprofile = "sepa-sct"\n{lenient}').url)
    with caller.http:
        message = pacs008(Transfer(currency="USD")).replace(b"<Document xmlns=", b"<Document xmlns:d=")
        headers = {"Content-Type": "application/xml"}
        verdict = caller.call("POST", "/v1/validations", headers, content=message).json()
        rules = {finding["rule"]: finding["severity"] for finding in verdict["findings"]}
        assert rules.pop("envelope.namespace") == "warning"
        assert any(rule.startswith("profile.") and severity == "error" for rule, severity in rules.items())
        assert caller.submit(message).json()["status"] == "RJCT"
        strict = caller.call("POST", "/v1/validations?lenient=false", headers, content=message).json()
        assert [finding["severity"] for finding in strict["findings"]] == ["error"]


def test_definitions(alice: Caller) -> None:
    """What is supported can be asked for, with what answers it."""
    known = {shown["definition"]: shown for shown in alice.call("GET", "/v1/definitions").json()["definitions"]}
    answered = {
        "pacs.008.001.08": "pacs.002.001.10",
        "camt.056.001.08": "camt.029.001.09",
        "admi.004.001.02": "admi.007.001.01",
        "pacs.002.001.10": None,
        "camt.060.001.05": "admi.002.001.01",
        "head.001.001.02": None,
    }
    assert {name: known[name]["answer"] for name in answered} == answered
    assert "sepa-sct" in known["pacs.008.001.08"]["profiles"]


def test_the_documents(server: Server) -> None:
    """The OpenAPI document is 3.1 and the page for people is made of it, with nothing from elsewhere."""
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    page = httpx.get(f"{server.url}/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"(src|href)=.?(https?:)?//", page.text)
    for path in document["paths"]:
        assert path in page.text
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        assert "422" not in operation["responses"]


def test_every_problem_has_a_page(server: Server) -> None:
    """A problem's type can be followed, for every kind that there is."""
    from interlock.api.problems import CODES

    for code, (kind, _) in CODES.items():
        page = httpx.get(f"{server.url}/problems/{code}")
        assert page.status_code == 200
        assert page.json()["status"] == kind.status
    assert_problem(httpx.get(f"{server.url}/problems/nonsense"), 404, "not_found")


def test_health(server: Server) -> None:
    """It says that it lives, and that it can write."""
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{server.url}/readyz").json() == {"status": "ready"}


def test_metrics(server: Server, alice: Caller, operator: Caller) -> None:
    """What the process does is counted; through a proxy it is told to operators only."""
    alice.submit(pacs008())
    held(alice)
    text = httpx.get(f"{server.url}/metrics").text
    for line in (
        'interlock_in_flight{held="decision",status="PDNG"}',
        'interlock_ends_total{reason="",status="ACSC"}',
        'interlock_requests_total{method="POST",route="/v1/messages",status="200"}',
        "interlock_journal_batches_total",
        'interlock_journal_commit_seconds{quantile="0.99"}',
        "process_resident_memory_bytes",
    ):
        assert line in text
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert_problem(httpx.get(f"{server.url}/metrics", headers=forwarded), 401, "unauthorised")
    assert_problem(alice.call("GET", "/metrics", forwarded), 403, "forbidden")
    assert operator.call("GET", "/metrics", forwarded).status_code == 200


# -- refusing ---------------------------------------------------------------------------------------------------------


def test_parameters_are_checked(alice: Caller) -> None:
    """A parameter that cannot be is named; one that we do not know is not ignored."""
    for params in (
        {"limit": 0}, {"limit": "x"}, {"status": "DONE"}, {"since": "yesterday"}, {"since": "1700000000"},
        {"since": "2026-01-01T00:00:00"}, {"cursor": "x"}, {"cursor": "!" * 22}, {"held": "x"}, {"colour": "red"},
        {"uetr": ""}, {"uetr": "x" * 141},
    ):  # fmt: skip
        problem = assert_problem(alice.call("GET", "/v1/transactions", params=params), 400, "invalid_request")
        (name,) = params
        assert any(name in error["field"] for error in problem["errors"])
    assert_problem(alice.get("not-a-uuid"), 400, "invalid_request")


def test_unreadable_json(alice: Caller) -> None:
    """Broken JSON, or none, is a bad request in the same shape as all others."""
    path = f"/v1/transactions/{held(alice)}/decisions"
    for body in (b"", b"{", b"\xff", b"nul", b'{"decision": "accept"'):
        response = alice.call("POST", path, {"Content-Type": "application/json"}, content=body)
        assert_problem(response, 400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [{"filter": {"status": ["x"] * 200_000}}, {"x" * 900_000: 1}, {f"k{number}": 1 for number in range(60_000)}],
    ids=["items", "name", "names"],
)
def test_what_is_wrong_is_told_within_bounds(alice: Caller, body: dict[str, Any]) -> None:
    """However much there is of it, and however long a name its caller made up."""
    response = alice.call("POST", "/v1/redrives", {"Content-Type": "application/json"}, content=json.dumps(body))
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert len(response.content) < 20_000


def test_paths_and_methods(alice: Caller) -> None:
    """What is not there is 404, and what is there for another method is 405 and says for which."""
    assert_problem(alice.call("GET", "/v1/nothing"), 404, "not_found")
    for method, path, allowed in (
        ("DELETE", "/v1/transactions", "GET"),
        ("PATCH", "/v1/clients", "GET, POST"),
        ("GET", "/v1/messages", "POST"),
        ("DELETE", "/healthz", "GET"),
        ("GET", "/oauth2/token", "POST"),
    ):
        response = alice.call(method, path)
        assert_problem(response, 405, "method_not_allowed")
        assert response.headers["allow"] == allowed


def test_tokens_are_asked_for(alice: Caller) -> None:
    """Without a good token nothing is told but how to get one."""
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}):
        for method, path in (("GET", "/v1/transactions"), ("POST", "/v1/messages"), ("GET", "/v1/me")):
            response = alice.http.request(method, path, headers=headers)
            assert_problem(response, 401, "unauthorised")
            assert response.headers["www-authenticate"].startswith("Bearer")


#: An id that nobody was given.
NOBODYS = UUID("01a202dd-8cbf-7f50-96f6-dea2ab081700")
CALLS = [
    ("GET", "/v1/transactions", {"rp2/read", "interlock/operate"}),
    ("GET", f"/v1/transactions/{NOBODYS}", {"rp2/read", "interlock/operate"}),
    ("GET", f"/v1/transactions/{NOBODYS}/events", {"rp2/read", "interlock/operate"}),
    ("GET", f"/v1/transactions/{NOBODYS}/payments", {"rp2/read", "interlock/operate"}),
    ("GET", f"/v1/transactions/{NOBODYS}/messages/inbox", {"rp2/read", "interlock/operate"}),
    ("POST", f"/v1/transactions/{NOBODYS}/decisions", {"rp2/write", "interlock/operate"}),
    ("POST", "/v1/messages", {"rp2/write"}),
    ("POST", "/v1/redrives", {"rp2/write", "interlock/operate"}),
    ("POST", "/v1/validations", {"rp2/read", "rp2/write", "interlock/operate"}),
    ("GET", "/v1/controls", {"interlock/operate"}),
    ("POST", "/v1/controls", {"interlock/operate"}),
    ("GET", "/v1/clients", {"interlock/admin"}),
    ("POST", "/v1/clients", {"interlock/admin"}),
    ("DELETE", "/v1/clients/c_x", {"interlock/admin"}),
    ("POST", "/v1/keys/rotations", {"interlock/admin"}),
]


@pytest.fixture(scope="module")
def everybody(server: Server) -> Iterator[Caller]:
    """A client with every scope, which takes tokens with one each."""
    caller = server.add("all", "rp2/read", "rp2/write", "interlock/operate", "interlock/admin")
    with caller.http:
        yield caller


@pytest.mark.parametrize(("method", "path", "opened_by"), CALLS)
def test_scopes(everybody: Caller, method: str, path: str, opened_by: set[str]) -> None:
    """Each call is open to its scopes and to no others."""
    for scope in ("rp2/read", "rp2/write", "interlock/operate", "interlock/admin"):
        if scope in opened_by and path == "/v1/keys/rotations":
            continue  # tested by itself
        body = b"{}" if method == "POST" else None
        response = everybody.call(method, path, {"Content-Type": "application/json"}, scope=scope, content=body)
        if scope in opened_by:
            assert response.status_code not in (401, 403), (scope, response.text)
        else:
            assert_problem(response, 403, "forbidden")


# -- operating and administering --------------------------------------------------------------------------------------


def test_an_operator_sees_and_decides_all(alice: Caller, bob: Caller, operator: Caller) -> None:
    """The operator's view spans clients; what it decides is recorded as an operator's; it submits for nobody."""
    theirs, others = held(alice), held(bob)
    for caller, transaction_id in ((alice, theirs), (bob, others)):
        found = found_ids(operator, {"client": caller.client_id, "held": "decision"})
        assert transaction_id in found
    assert operator.get(theirs).json()["client_id"] == alice.client_id
    assert operator.get(theirs, "/messages/inbox").status_code == 200
    assert operator.decide(theirs, "cancel", by="eve").json()["status"] == "CANC"
    assert operator.get(theirs, "/events").json()["events"][-1]["actor"] == f"operator:{operator.client_id}:eve"
    assert alice.get(theirs, "/events").json()["events"][-1]["actor"] == "operator"
    assert_problem(operator.decide(others, "retry"), 409, "illegal_decision")
    assert_problem(bob.decide(others, "retry"), 403, "forbidden")
    assert_problem(operator.submit(pacs008()), 403, "forbidden")


def test_stopping_and_resuming(servers: Callable[..., Server]) -> None:
    """An operator stops a client or a route: new messages are refused with a time to come back; then it goes on."""
    server = servers()
    desk, tenant = server.add("desk", "interlock/operate"), server.add("tenant")
    with desk.http, tenant.http:
        for scope, name in (("client", tenant.client_id), ("route", "default")):
            order = {"scope": scope, "name": name, "note": "drill", "by": "eve"}
            assert desk.call("POST", "/v1/controls", json={**order, "stopped": True}).json()["stopped"] is True
            refusal = tenant.submit(pacs008())
            assert_problem(refusal, 503, "stopped")
            assert int(refusal.headers["retry-after"]) > 0
            assert tenant.call("GET", "/uuid").status_code == 503
            assert desk.call("POST", "/v1/controls", json={**order, "stopped": False}).status_code == 200
            assert tenant.submit(pacs008()).json()["status"] == "ACSC"
        standing = desk.call("GET", "/v1/controls").json()["controls"]
        assert {(order["scope"], order["name"], order["stopped"]) for order in standing} == {
            ("client", tenant.client_id, False),
            ("route", "default", False),
        }
        nobody = {"scope": "client", "name": "c_nobody", "stopped": True}
        assert_problem(desk.call("POST", "/v1/controls", json=nobody), 404, "not_found")


def test_clients_come_and_go(server: Server, admin: Caller) -> None:
    """A client made over HTTP works at once; disabled, its token and secret stop at once; secrets are told once."""
    made = admin.call("POST", "/v1/clients", json={"name": "new", "scopes": ["rp2/read"]})
    assert made.status_code == 201
    told = made.json()
    listed = admin.call("GET", "/v1/clients").json()["clients"]
    assert told["client_secret"] not in json.dumps(listed)
    assert told["client_id"] in {client["client_id"] for client in listed}
    caller = Caller(told["client_id"], told["client_secret"], httpx.Client(base_url=server.url))
    with caller.http:
        me = caller.call("GET", "/v1/me").json()
        assert (me["client_id"], me["scopes"]) == (told["client_id"], ["rp2/read"])
        gone = admin.call("DELETE", f"/v1/clients/{told['client_id']}").json()
        assert INSTANT.fullmatch(gone["disabled_at"])
        assert_problem(caller.call("GET", "/v1/me"), 401, "unauthorised")
        caller.tokens.clear()
        form = {"grant_type": "client_credentials"}
        refused = caller.http.post("/oauth2/token", auth=(caller.client_id, caller.secret), data=form)
        assert refused.json() == {"error": "invalid_client"}
    assert_problem(admin.call("DELETE", "/v1/clients/c_nobody"), 404, "not_found")


def test_a_client_disabled_by_the_command_line_stops_within_seconds(server: Server) -> None:
    """What another process writes counts in the running server."""
    caller = server.add("short")
    with caller.http:
        assert caller.call("GET", "/v1/me").status_code == 200
        disable = command("clients", "disable", caller.client_id)
        subprocess.run(disable, env=dict(server.settings), check=True, timeout=60, capture_output=True)
        end = time.monotonic() + 8
        while caller.call("GET", "/v1/me").status_code == 200:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_keys_rotate_without_interruption(servers: Callable[..., Server]) -> None:
    """Over HTTP and by the command line: old tokens go on, new ones are of the new key; revoked ones stop."""
    server = servers()
    admin, tenant = server.add("admin", "interlock/admin"), server.add("tenant")
    with admin.http, tenant.http:
        old = {"Authorization": f"Bearer {tenant.token()}"}
        made = admin.call("POST", "/v1/keys/rotations")
        assert made.status_code == 201
        keys = httpx.get(f"{server.url}/.well-known/jwks.json").json()["keys"]
        assert made.json()["key_id"] in {key["kid"] for key in keys}
        assert len(keys) == 2
        tenant.tokens.clear()
        for headers in (old, {"Authorization": f"Bearer {tenant.token()}"}):
            assert tenant.http.get("/v1/me", headers=headers).status_code == 200
        server.run("keys", "rotate", "--json")
        assert tenant.http.get("/v1/me", headers=old).status_code == 200
        assert admin.call("POST", "/v1/keys/rotations", json={"revoke": True}).status_code == 201
        assert tenant.http.get("/v1/me", headers=old).status_code == 401


# -- bearing bad clients ----------------------------------------------------------------------------------------------


def raw(server: Server) -> socket.socket:
    """A bare connection."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def head(caller: Caller, path: str, *more: str) -> bytes:
    """The head of a POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {caller.token()}", *more, "", ""]
    return "\r\n".join(lines).encode()


@no_store
def test_a_body_over_the_limit_is_refused_at_once(servers: Callable[..., Server]) -> None:
    """The announced length alone is enough for 413; without one, so is what has come; the connection is closed."""
    server = servers(bulk_bytes_max=0)
    caller = server.add("large")
    with caller.http:
        with raw(server) as connection:
            connection.sendall(head(caller, "/v1/messages", "Content-Length: 99999999"))
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer
        with raw(server) as connection:
            connection.sendall(head(caller, "/v1/messages", "Transfer-Encoding: chunked"))
            for _ in range(20):
                connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
            assert read_all(connection).startswith(b"HTTP/1.1 413 ")
        assert_problem(caller.submit(b"<a>" + b"x" * 1_100_000), 413, "body_too_large")
        for path in ("/v1/validations", "/v1/redrives"):
            assert_problem(caller.call("POST", path, content=b"x" * 1_100_000), 413, "body_too_large")


@no_store
def test_a_slow_body_is_given_up(servers: Callable[..., Server]) -> None:
    """A body that does not come in time is answered 408, and nothing is stored."""
    server = servers(body_seconds_max=0.5)
    caller = server.add("slow")
    with caller.http:
        for path in ("/v1/messages", "/v1/redrives"):
            with raw(server) as connection:
                connection.sendall(head(caller, path, "Content-Length: 100") + b"<a>")
                assert read_all(connection).startswith(b"HTTP/1.1 408 ")
        assert found_ids(caller, {}) == []
        assert caller.submit(pacs008()).status_code == 200


@no_store
def test_slow_headers_are_given_up(server: Server) -> None:
    """A client that never finishes its headers, or never begins, is let go after some ten seconds."""
    began = time.monotonic()
    with raw(server) as silent, raw(server) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        assert read_all(slow) == b""
        assert read_all(silent) == b""
    assert 8 < time.monotonic() - began < 15


@no_store
def test_endless_headers_are_given_up(server: Server) -> None:
    """Headers without end are cut off before they fill the memory."""
    with raw(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        connection.settimeout(5)
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            connection.sendall(b"x" * 100_000_000)


def test_a_client_that_vanishes_leaves_nothing(server: Server) -> None:
    """Of a message whose sender goes away half-way nothing is stored, and the server is none the worse."""
    caller = server.add("vanishing")
    with caller.http:
        for path in ("/v1/messages", "/inbox", "/v1/redrives"):
            for _ in range(5):
                connection = raw(server)
                connection.sendall(head(caller, path, "Content-Length: 5000") + pacs008()[:1000])
                connection.close()
        assert found_ids(caller, {}) == []
        text = httpx.get(f"{server.url}/metrics").text
        assert "interlock_request_bytes_now 0.0" in text


@no_store
def test_too_many_bytes_at_once(servers: Callable[..., Server]) -> None:
    """When all bodies together would take more memory than allowed, new ones are told to come back."""
    server = servers(bodies_bytes_max=1_048_576)
    caller = server.add("many")
    with caller.http, raw(server) as first:
        first.sendall(head(caller, "/v1/messages", "Content-Length: 900000") + b"<a>" + b"x" * 600_000)
        end = time.monotonic() + 10
        while "interlock_request_bytes_now 600003.0" not in httpx.get(f"{server.url}/metrics").text:
            assert time.monotonic() < end
        refusal = caller.submit(b"<a>" + b"x" * 600_000)
        assert_problem(refusal, 503, "overloaded")
        assert int(refusal.headers["retry-after"]) > 0
        first.sendall(b"x" * (900_000 - 600_003))
        assert first.recv(100).startswith(b"HTTP/1.1 200 ")
        assert caller.submit(pacs008()).json()["status"] == "ACSC"


@no_store
def test_too_many_requests_at_once(servers: Callable[..., Server]) -> None:
    """More requests at once than allowed are told to come back, before anything is done for them."""
    server = servers(requests_max=2)
    caller = server.add("busy")
    with caller.http, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(caller.submit, large(), Prefer="wait=4") for _ in range(2)]
        end = time.monotonic() + 10
        while (refusal := httpx.get(f"{server.url}/v1/me")).status_code != 503:
            assert time.monotonic() < end
        assert_problem(refusal, 503, "overloaded")
        assert refusal.headers["retry-after"] == "1"
        assert {call.result().status_code for call in waiting} == {202}
        assert caller.submit(pacs008()).status_code == 200


def test_too_many_in_flight(servers: Callable[..., Server]) -> None:
    """A client that lets too much lie is told so; what it has can still be decided."""
    caller = servers(in_flight_max=2).add("idle")
    with caller.http:
        first, _ = held(caller), held(caller)
        refusal = caller.submit(large())
        assert_problem(refusal, 429, "too_many_in_flight")
        assert int(refusal.headers["retry-after"]) > 0
        caller.decide(first, "cancel")
        assert caller.submit(large()).status_code == 202


# -- starting and stopping --------------------------------------------------------------------------------------------


def test_an_orderly_end(servers: Callable[..., Server]) -> None:
    """On SIGTERM those who wait get what is, nothing new is taken, and the process ends well, with all on disk."""
    server = servers()
    caller = server.add("last")
    with caller.http, ThreadPoolExecutor(1) as pool:
        reference = fresh()
        waiting = pool.submit(caller.submit, large(), Prefer="wait=30", X_Client_Reference=reference)
        end = time.monotonic() + 10
        while not (found := found_ids(caller, {"reference": reference})):
            assert time.monotonic() < end
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        assert waiting.result().status_code == 202
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/healthz")
    again = servers()
    caller.http = httpx.Client(base_url=again.url)
    with caller.http:
        assert caller.get(found[0]).json()["held"] == "decision"


@no_store
def test_sigint_is_an_orderly_end_too(servers: Callable[..., Server]) -> None:
    """Ctrl-C ends it well."""
    server = servers()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(START_SECONDS) == 0


@no_store
def test_a_taken_port_is_a_fault_of_the_settings(server: Server, servers: Callable[..., Server]) -> None:
    """Where the port is taken it does not start, says which, and exits as for any setting."""
    other = servers("other")
    other.stop()
    refused = subprocess.run(
        command("serve", "--port", str(server.port)),
        env=dict(other.settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 78
    assert str(server.port) in refused.stderr


@pytest.mark.stores("sqlite")
def test_one_server_a_folder(servers: Callable[..., Server]) -> None:
    """A second server on the same folder does not start, and the first one does not notice."""
    server = servers()
    refused = subprocess.run(
        command("serve"), env=dict(server.settings), capture_output=True, text=True, check=False, timeout=60
    )
    assert refused.returncode == 78
    assert str(server.data) in refused.stderr
    caller = server.add("only")
    with caller.http:
        assert caller.submit(pacs008()).json()["status"] == "ACSC"


@pytest.mark.stores("sqlite")
def test_a_server_that_was_replaced_stops(servers: Callable[..., Server]) -> None:
    """Once another process writes to its file it acknowledges nothing more, and ends by itself."""
    server = servers()
    caller = server.add("last")
    with caller.http:
        assert caller.submit(pacs008()).status_code == 200
        other = SqliteStore(server.data / "interlock.db")
        other.register(datetime.now(UTC))
        other.close()
        refusal = caller.submit(pacs008())
        assert_problem(refusal, 503, "lease_lost")
    assert server.process.wait(START_SECONDS) not in (0, 78)
