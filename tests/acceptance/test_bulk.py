"""Messages of many payments, over HTTP: through a file, rows put down beforehand, and one commit."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import httpx
import psutil
import pytest
from lxml import etree

from tests.acceptance.conftest import LARGE, Caller, Server
from tests.messages import Transfer, fresh, pacs008

pytestmark = pytest.mark.stores("sqlite", "postgres")

#: So many payments are over a megabyte.
MANY = 1600
BAD_IBAN = "FR1420041010050500013M02607"


def many(count: int = MANY, **changed: Transfer) -> list[Transfer]:
    """So many transfers; `_7=...` is the seventh."""
    transfers = [Transfer() for _ in range(count)]
    for name, transfer in changed.items():
        transfers[int(name[1:]) - 1] = transfer
    return transfers


def statuses(answer: bytes) -> list[tuple[str, str | None]]:
    """What an answer says of each payment: its status and reason."""
    found = etree.fromstring(answer).findall(".//{*}TxInfAndSts")
    return [(one.findtext("{*}TxSts") or "", one.findtext("{*}StsRsnInf/{*}Rsn/{*}Cd")) for one in found]


def pages(caller: Caller, transaction_id: str, **params: object) -> list[dict[str, object]]:
    """All payments, page by page."""
    found: list[dict[str, object]] = []
    after: int | None = 0
    while after is not None:
        query = "&".join(f"{name}={value}" for name, value in {"after": after, "limit": 700, **params}.items())
        page = caller.get(transaction_id, f"/payments?{query}").json()
        found += page["payments"]
        after = page["next"]
    return found


def test_many_payments_are_taken_and_answered(alice: Caller) -> None:
    """Each payment has its status and reason, in the answer and by query; the message is kept byte for byte."""
    one = alice.submit(pacs008(taken := Transfer())).json()
    assert one["status"] == "ACSC"
    transfers = many(_3=Transfer(creditor_iban=BAD_IBAN), _1500=taken, _1600=Transfer(end_to_end_id="last"))
    message = pacs008(*transfers)
    response = alice.submit(message, X_Client_Reference=(reference := fresh()))
    shown = response.json()
    assert (response.status_code, shown["status"], shown["payments_count"]) == (200, "ACSC", MANY)
    id_ = shown["transaction_id"]
    assert [event["event"] for event in alice.get(id_, "/events").json()["events"]] == [
        "IdIssued", "Received", "Passed", "Ended",
    ]  # fmt: skip
    answer = alice.get(id_, "/messages/outbox").content
    said = statuses(answer)
    assert etree.fromstring(answer).findtext(".//{*}GrpSts") == "PART"
    assert {n: one for n, one in enumerate(said, 1) if one[0] != "ACSC"} == {
        3: ("RJCT", "AC03"),
        1500: ("RJCT", "AM05"),
    }
    assert len(said) == MANY
    assert alice.get(id_, "/messages/inbox").content == message
    payments = pages(alice, id_)
    assert [p["ordinal"] for p in payments] == list(range(1, MANY + 1))
    assert payments[-1]["end_to_end_id"] == "last"
    refused = pages(alice, id_, status="RJCT")
    assert [(p["ordinal"], p["reason"]["code"]) for p in refused] == [(3, "AC03"), (1500, "AM05")]  # type: ignore[index]
    assert all(p["note"] for p in refused)
    assert len(alice.get(id_).json()["payments"]) == 1000
    for name, value in (("uetr", transfers[4].uetr), ("end_to_end_id", "last"), ("reference", reference)):
        (found,) = alice.call("GET", f"/v1/transactions?{name}={value}").json()["transactions"]
        assert found["transaction_id"] == id_
    # What it holds is taken; what it was refused is free.
    assert alice.submit(pacs008(transfers[7])).json()["reason"]["code"] == "AM05"
    fixed = Transfer(
        end_to_end_id=transfers[2].end_to_end_id, transaction_id=transfers[2].transaction_id, uetr=transfers[2].uetr
    )
    assert alice.submit(pacs008(fixed)).json()["status"] == "ACSC"


@pytest.mark.parametrize(
    ("make", "status", "reason", "payments"),
    [
        (lambda: pacs008(*many(), count=7), "RJCT", "AM19", MANY),
        (lambda: pacs008(*many())[:-30], "RJCT", "FF01", 0),
        (lambda: pacs008(*many(_1590=Transfer(uetr="none"))), "RJCT", "FF01", 0),
        (lambda: pacs008(*(Transfer(creditor_iban=BAD_IBAN) for _ in range(MANY))), "RJCT", "AC03", MANY),
    ],
    ids=["count", "cut off", "schema", "all of them"],
)
def test_what_is_refused(alice: Caller, make: Callable[[], bytes], status: str, reason: str, payments: int) -> None:
    """A fault of the whole refuses all of it, with an answer; its payments can be sent again."""
    message = make()
    shown = alice.submit(message).json()
    assert (shown["status"], shown["reason"]["code"], shown["payments_count"]) == (status, reason, payments)
    assert alice.get(shown["transaction_id"], "/messages/outbox").content
    listed = pages(alice, shown["transaction_id"])
    assert [p["status"] for p in listed] == ["RJCT"] * payments
    (again,) = re.findall(rb"<CdtTrfTxInf>.*?</CdtTrfTxInf>", message)[:1]
    mended = again.replace(BAD_IBAN.encode(), b"FR1420041010050500013M02606")
    single = re.sub(rb"<CdtTrfTxInf>.*</CdtTrfTxInf>", b"@", pacs008(message_id=fresh())).replace(b"@", mended)
    assert alice.submit(single).json()["status"] == "ACSC"


def test_the_same_call_again(alice: Caller) -> None:
    """An idempotency key gives the same transaction; without one the message is a duplicate."""
    message, key = pacs008(*many()), fresh()
    first = alice.submit(message, Idempotency_Key=key).json()
    assert first["status"] == "ACSC"
    assert alice.submit(message, Idempotency_Key=key).json()["transaction_id"] == first["transaction_id"]
    assert alice.submit(pacs008(*many()), Idempotency_Key=key).status_code == 422
    again = alice.submit(message).json()
    assert (again["status"], again["reason"]["code"]) == ("RJCT", "DU01")
    assert [p["status"] for p in pages(alice, again["transaction_id"], status="RJCT")] == ["RJCT"] * MANY


def test_what_must_wait_for_somebody_is_not_taken(alice: Caller) -> None:
    """Where a consumer would have to decide, so long a message is refused before anything is stored."""
    transfers = many(_9=Transfer(amount=LARGE))
    refused = alice.submit(pacs008(*transfers))
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert alice.submit(pacs008(transfers[0])).json()["status"] == "ACSC"


@pytest.mark.parametrize("moment", ["reading", "server"])
def test_a_crash_leaves_nothing(servers: Callable[..., Server], moment: str) -> None:
    """A process killed in the midst of a message: nothing of it counts, and all of it can be sent again."""
    server = servers("crash")
    caller = server.add("crash")
    with caller.http, ThreadPoolExecutor(1) as pool:
        message = pacs008(*many(8 * MANY))
        process = psutil.Process(server.process.pid)
        calling = pool.submit(caller.submit, message)
        end = time.monotonic() + 20
        while not (children := process.children()):
            assert time.monotonic() < end
            assert not calling.done()
        if moment == "reading":
            children[0].kill()
            assert calling.result().json()["code"] == "reading_failed"
        else:
            time.sleep(1.5)  # somewhere in the midst of it: wherever that is, it must hold
            server.process.kill()
            server.process.wait()
            with pytest.raises(httpx.TransportError):
                calling.result()
    server = server if moment == "reading" else servers("crash")
    with server.add("again").http, httpx.Client(base_url=server.url, timeout=60) as http:
        caller.http = http
        assert caller.call("GET", "/v1/transactions").json()["transactions"] == []
        shown = caller.submit(message).json()
        assert (shown["status"], shown["payments_count"]) == ("ACSC", 8 * MANY)
        assert pages(caller, shown["transaction_id"], status="RJCT") == []
        assert (
            sha256(caller.get(shown["transaction_id"], "/messages/inbox").content).digest() == sha256(message).digest()
        )
    assert not list((server.data / "spool").glob("*"))
    assert server.run("audit", "verify", "--json")  # and exits with 0: history holds


def test_limits(servers: Callable[..., Server]) -> None:
    """Too many bytes are refused with 413 whether they were announced or not, too many payments with an answer."""
    server = servers("limits", bulk_bytes_max=1_400_000, bulk_payments_max=1_650, bulk_files_max=1)
    caller = server.add("limits")
    with caller.http:
        long = pacs008(*many(2 * MANY))
        assert caller.submit(long).status_code == 413
        assert caller.submit(iter([long[:700_000], long[700_000:]])).status_code == 413  # type: ignore[arg-type]
        assert caller.submit(iter([pacs008()])).json()["status"] == "ACSC"  # type: ignore[arg-type]
        assert caller.submit(iter([pacs008(*many(1_650))])).json()["status"] == "ACSC"  # type: ignore[arg-type]
        shown = caller.submit(pacs008(*many(1_651))).json()
        assert (shown["status"], shown["payments_count"]) == ("RJCT", 0)
        with ThreadPoolExecutor(2) as pool:
            codes = sorted(one.status_code for one in pool.map(caller.submit, [pacs008(*many()) for _ in range(2)]))
        assert codes == [200, 503]
    assert not list((server.data / "spool").glob("*"))
