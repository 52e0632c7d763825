"""Decisions on some payments of a message over HTTP: what ends, what goes on, and what real calls at one moment do."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from interlock.client import Client
from interlock.errors import IllegalDecision
from tests.acceptance.conftest import LARGE, Caller, Server
from tests.messages import Transfer, pacs008

pytestmark = pytest.mark.stores("sqlite", "postgres")


def held(caller: Caller, *transfers: Transfer) -> str:
    """The id of a transaction of some payments that is held for a decision."""
    chosen = transfers or tuple(Transfer(amount=LARGE) for _ in range(3))
    response = caller.submit(pacs008(*chosen))
    assert (response.status_code, response.json()["held"]) == (202, "decision")
    return str(response.json()["transaction_id"])


def ends(caller: Caller, transaction_id: str) -> list[str]:
    """Status and reason of each payment."""
    payments = caller.get(transaction_id, "/payments").json()["payments"]
    return [one["status"] + (f" {one['reason']['code']}" if one["reason"] else "") for one in payments]


def test_some_payments_are_decided(alice: Caller) -> None:
    """Named by ordinal or by what they are called; told at once, in the history, and in the one answer."""
    transfers = tuple(Transfer(amount=LARGE) for _ in range(4))
    transaction_id = held(alice, *transfers)
    named: list[object] = [2, {"end_to_end_id": transfers[3].end_to_end_id}]
    for _ in range(2):  # the same again is no mistake
        decided = alice.decide(transaction_id, "cancel", payments=named, reason="CUST", note="sent twice", by="ada")
        assert decided.status_code == 200
        shown = decided.json()
        assert (shown["status"], shown["held"], shown["final"]) == ("PDNG", "decision", False)
        told = [(one["ordinal"], one["status"], one["reason"]["code"], one["note"]) for one in shown["payments"]]
        assert told == [(2, "CANC", "CUST", "sent twice"), (4, "CANC", "CUST", "sent twice")]
    alice.decide(transaction_id, "reject", payments=[{"uetr": transfers[0].uetr}], reason="FRAD")
    assert ends(alice, transaction_id) == ["RJCT FRAD", "CANC CUST", "PDNG", "CANC CUST"]
    events = alice.get(transaction_id, "/events").json()["events"]
    last = [(event["event"], event["because"], event["detail"]["payments"]) for event in events[-2:]]
    assert last == [("PaymentsEnded", "PaymentsCancelled", [2, 4]), ("PaymentsEnded", "PaymentsRejected", [1])]
    assert alice.decide(transaction_id, "accept").json()["status"] == "ACSC"
    answer = alice.outbox(transaction_id).text
    assert "<GrpSts>PART</GrpSts>" in answer
    assert re.findall("<TxSts>(.{4})</TxSts>", answer) == ["RJCT", "RJCT", "ACSC", "RJCT"]
    assert re.findall("<Rsn><Cd>(.{4})</Cd>", answer) == ["FRAD", "CUST", "CUST"]


@pytest.mark.parametrize(
    ("decision", "more", "says"),
    [
        ("accept", {"payments": [1]}, "accept takes no payments"),
        ("cancel", {"payments": []}, "at least 1"),
        ("cancel", {"payments": [0]}, "greater than or equal to 1"),
        ("cancel", {"payments": [0]}, "body.cancel.payments.0.ordinal: "),
        ("cancel", {"payments": [True]}, "must be an ordinal"),
        ("cancel", {"payments": None}, "body.cancel.payments: Input should be a valid list"),
        ("cancel", {"payments": [{"uetr": None}]}, "body.cancel.payments.0.names.uetr: "),
        ("cancel", {"payments": [1], "reason": "NARR", "note": "\u200b \u0001"}, "give a note"),
        ("cancel", {"payments": [{"name": "x"}]}, "Extra inputs"),
        ("cancel", {"payments": [{}]}, "payments[0] names nothing"),
        ("cancel", {"payments": [1, 4]}, "payments[1]: no payment of this transaction has this ordinal"),
        ("cancel", {"payments": [{"end_to_end_id": "shared"}]}, "2 payments have this end_to_end_id (payments 1, 2)"),
    ],
)
def test_what_does_not_name_payments_is_refused(alice: Caller, decision: str, more: dict[str, Any], says: str) -> None:
    """With a sentence that says what to change; nothing is decided."""
    one, two = (Transfer(amount=LARGE, end_to_end_id="shared") for _ in range(2))
    transaction_id = held(alice, one, two)
    refused = alice.decide(transaction_id, decision, **more)
    assert refused.status_code == 400
    assert says in refused.text
    assert ends(alice, transaction_id) == ["PDNG", "PDNG"]


def test_a_conflict_names_the_payment(alice: Caller, bob: Caller) -> None:
    """And what stands; another client learns nothing."""
    transaction_id = held(alice)
    alice.decide(transaction_id, "cancel", payments=[3])
    refused = alice.decide(transaction_id, "reject", reason="AC04", payments=[1, 3])
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal_decision")
    assert "payment 3" in refused.json()["detail"]
    assert "CANC (DS02)" in refused.json()["detail"]
    assert ends(alice, transaction_id) == ["PDNG", "PDNG", "CANC DS02"]
    assert bob.decide(transaction_id, "cancel", payments=[1]).status_code == 404


def test_one_is_cancelled_while_all_are_accepted(alice: Caller) -> None:
    """Of calls at one moment each payment has one end, and each call is told what stands."""
    with ThreadPoolExecutor(8) as pool:
        for _ in range(12):
            transaction_id = held(alice)
            calls = [
                pool.submit(alice.decide, transaction_id, "cancel", payments=[2]),
                pool.submit(alice.decide, transaction_id, "accept"),
                pool.submit(alice.decide, transaction_id, "reject", payments=[2, 3], reason="AC04"),
                pool.submit(alice.decide, transaction_id, "cancel", payments=[2]),
            ]
            cancelled, accepted, rejected, again = (call.result() for call in calls)
            assert {call.status_code for call in (cancelled, accepted, rejected, again)} <= {200, 409}
            found = ends(alice, transaction_id)
            assert (cancelled.status_code == 200) == (again.status_code == 200) == (found[1] == "CANC DS02")
            assert (rejected.status_code == 200) == (found[1:] == ["RJCT AC04"] * 2)
            assert accepted.status_code == 200
            assert found[0] == "ACSC"
            answer = alice.outbox(transaction_id).text
            said = re.findall("<TxSts>(.{4})</TxSts>", answer)
            assert said in ([], ["ACSC" if end == "ACSC" else "RJCT" for end in found])


def test_the_client_names_payments(server: Server) -> None:
    """By ordinal or by names, and gets them back as they stand."""
    caller = server.add("selecting", "rp2/read", "rp2/write")
    with caller.http, Client(server.url, caller.client_id, caller.secret) as client:
        transfers = tuple(Transfer(amount=LARGE) for _ in range(3))
        transaction_id = client.submit(pacs008(*transfers)).transaction_id
        names = {"transaction_reference": transfers[1].transaction_id}
        decided = client.cancel(transaction_id, payments=[names], note="not now")
        assert [(one.ordinal, one.status, one.note) for one in decided.payments] == [(2, "CANC", "not now")]
        client.reject(transaction_id, "AC04", payments=[1, 3])
        after = client.status(transaction_id)
        assert (after.status, [one.status for one in after.payments]) == ("CANC", ["RJCT", "CANC", "RJCT"])
        with pytest.raises(IllegalDecision, match="payment 2"):
            client.reject(transaction_id, "AC04", payments=(2,))


def test_a_redrive_covers_what_ended_with_its_message(alice: Caller) -> None:
    """A dry run says so too: where each payment was ended by itself there is nothing to drive."""
    whole, one_by_one = held(alice), held(alice)
    alice.decide(whole, "reject", payments=[1], reason="FRAD")
    alice.decide(whole, "cancel")
    for place in (1, 2, 3):
        alice.decide(one_by_one, "cancel", payments=[place])
    for dry_run, outcome in ((True, "drivable"), (False, "redriven")):
        told = alice.call(
            "POST", "/v1/redrives", json={"transaction_ids": [whole, one_by_one], "dry_run": dry_run}
        ).json()["results"]
        assert [one["outcome"] for one in told] == [outcome, "refused"]
        assert "by itself" in told[1]["detail"]
    again = told[0]["redriven_as"]
    assert ends(alice, again) == ["RJCT FRAD", "PDNG", "PDNG"]
    assert alice.decide(again, "accept").json()["status"] == "ACSC"
    assert ends(alice, again) == ["RJCT FRAD", "ACSC", "ACSC"]


def test_operators_decide_too(alice: Caller, operator: Caller) -> None:
    """Under their own name, on anybody's."""
    transaction_id = held(alice)
    decided: httpx.Response = operator.decide(transaction_id, "cancel", payments=[1], by="eve")
    assert decided.status_code == 200
    assert ends(alice, transaction_id) == ["CANC DS02", "PDNG", "PDNG"]
    assert alice.get(transaction_id, "/events").json()["events"][-1]["actor"] == "operator"
