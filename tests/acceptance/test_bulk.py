"""Messages of many payments, over HTTP: through a file, rows put down beforehand, and one commit."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import apsw
import httpx
import psutil
import psycopg
import pytest
from lxml import etree

from tests.acceptance.conftest import LARGE, Caller, Server
from tests.enquiries import Ids, request
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
    assert alice.outbox(id_).content == answer
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


def test_requests_about_payments_of_a_long_message(alice: Caller) -> None:
    """Each payment is found by its own names, told as it stands, and recalled for itself."""
    transfers = many(_3=Transfer(creditor_iban=BAD_IBAN))
    message_id = fresh()
    assert alice.submit(pacs008(*transfers, message_id=message_id)).json()["status"] == "ACSC"
    settled, refused = (
        Ids(
            message_id=message_id, instruction_id=None, end_to_end_id=one.end_to_end_id,
            transaction_id=one.transaction_id, uetr=one.uetr, amount=one.amount,
        )
        for one in (transfers[1499], transfers[2])
    )  # fmt: skip

    def told(definition: str, *, whole: bool = False) -> etree._Element:
        message = request(definition, settled, *([] if whole else [refused]), whole=whole)
        message = message.replace(b"EXAMPLE-C-0001", fresh().encode())
        shown = alice.submit(message, Prefer="wait=10").json()
        assert shown["status"] == "ACSC"
        answer = alice.get(shown["transaction_id"], "/messages/outbox").content
        checked = alice.call("POST", "/v1/validations", {"Content-Type": "application/xml"}, content=answer).json()
        assert [finding for finding in checked["findings"] if finding["severity"] == "error"] == []
        return etree.fromstring(answer)

    status = told("pacs.028.001.03")
    assert statuses(etree.tostring(status)) == [("ACSC", None), ("RJCT", "AC03")]
    assert status.findtext(".//{*}TxInfAndSts/{*}OrgnlUETR") == transfers[1499].uetr
    recall = told("camt.056.001.08")
    assert recall.findtext(".//{*}Conf") == "PDCR"
    assert [one.text for one in recall.iter("{*}TxCxlSts")] == ["PDCR", "RJCR"]
    assert [one.text for one in recall.iterfind(".//{*}CxlStsRsnInf/{*}Rsn/{*}Cd")] == ["RQDA", "NARR"]
    assert told("pacs.028.001.03", whole=True).findtext(".//{*}GrpSts") == "PART"
    assert told("camt.056.001.08", whole=True).findtext(".//{*}GrpCxlSts") == "PDCR"


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
    answer = etree.fromstring(alice.get(again["transaction_id"], "/messages/outbox").content)
    assert (answer.findtext(".//{*}GrpSts") or answer.findtext(".//{*}RjctgPtyRsn")) in ("RJCT", "DU01")
    assert answer.find(".//{*}TxSts") is None


def test_one_payment_ends_once(alice: Caller) -> None:
    """Sent in two long messages and by itself at the same time, it is settled in one of them alone."""
    shared = Transfer()
    messages = [pacs008(*many(_5=shared)), pacs008(*many(_1111=shared)), pacs008(shared)]
    with ThreadPoolExecutor(3) as pool:
        ids = [one.json()["transaction_id"] for one in pool.map(alice.submit, messages)]
    ends = [alice.get(ids[0], "/payments?after=4&limit=1"), alice.get(ids[1], "/payments?after=1110&limit=1")]
    ends.append(alice.get(ids[2], "/payments"))
    found = [one.json()["payments"][0] for one in ends]
    assert {one["uetr"] for one in found} == {shared.uetr}
    assert sorted(one["status"] for one in found) == ["ACSC", "RJCT", "RJCT"]
    for id_, message in zip(ids[:2], messages[:2], strict=True):
        said = statuses(alice.get(id_, "/messages/outbox").content)
        assert [status for status, _ in said] == [one["status"] for one in pages(alice, id_)]
        assert message.count(b"<CdtTrfTxInf>") == len(said)


def test_what_must_wait_for_somebody_is_not_taken(alice: Caller) -> None:
    """Where a consumer would have to decide, so long a message is refused before anything is stored."""
    transfers = many(_9=Transfer(amount=LARGE))
    refused = alice.submit(pacs008(*transfers))
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert alice.submit(pacs008(transfers[0])).json()["status"] == "ACSC"


def test_the_process_that_reads_is_killed(servers: Callable[..., Server]) -> None:
    """The caller is told so, nothing of the message counts, and all of it can be sent again."""
    server = servers("crash", lease_seconds=2)
    caller = server.add("crash")
    message = pacs008(*many())
    with caller.http, ThreadPoolExecutor(1) as pool:
        calling = pool.submit(caller.submit, message)
        process = psutil.Process(server.process.pid)
        while not (children := process.children()):
            assert not calling.done()
        children[0].kill()
        assert (calling.result().status_code, calling.result().json()["code"]) == (503, "reading_failed")
        assert caller.call("GET", "/v1/transactions").json()["transactions"] == []
        shown = caller.submit(message).json()
        assert (shown["status"], shown["payments_count"]) == ("ACSC", MANY)
        assert pages(caller, shown["transaction_id"], status="RJCT") == []
    assert not list((server.data / "spool").glob("*"))


@contextmanager
def counting(server: Server) -> Iterator[Callable[[str], int]]:
    """Gives the number that a query of a server's database gives, as anybody beside it sees it."""
    store = server.settings.get("INTERLOCK_STORE")
    if store is None:
        with closing(apsw.Connection(str(server.data / "interlock.db"), flags=apsw.SQLITE_OPEN_READONLY)) as sqlite:
            yield lambda query: int(next(sqlite.execute(query))[0])
    else:
        with psycopg.connect(store, autocommit=True) as postgres:
            yield lambda query: int(postgres.execute(query).fetchall()[0][0])


#: What tells that a message has come so far.
MOMENTS = {
    "payments": "SELECT count(*) FROM payments",
    "keys": "SELECT count(*) FROM keys WHERE kind = 'uetr'",
    "answer": "SELECT count(*) FROM {parts}",
}
PARTS = {"sqlite": "parts WHERE place % 2 = 1", "postgres": "bodies WHERE kind > 1 AND kind % 2 = 1"}


@pytest.mark.parametrize("moment", ["arriving", *MOMENTS, "acknowledged"])
def test_a_crash_at_each_moment(servers: Callable[..., Server], store: str, moment: str) -> None:
    """After kill -9 all of the message counts or nothing does; what was acknowledged counts; each payment ends once."""
    server = servers("crash", lease_seconds=2)
    caller = server.add("crash")
    message = pacs008(*many(2 * MANY))
    with caller.http, ThreadPoolExecutor(1) as pool, counting(server) as count:
        if moment == "arriving":
            connection = socket.create_connection(("127.0.0.1", server.port))
            lines = ["POST /v1/messages HTTP/1.1", "Host: x", f"Authorization: Bearer {caller.token()}"]
            connection.sendall("\r\n".join([*lines, f"Content-Length: {len(message)}", "", ""]).encode())
            connection.sendall(message[:1_500_000])
            wait(lambda: sum(path.stat().st_size for path in (server.data / "spool").glob("*")) > 1_000_000)
        else:
            calling = pool.submit(caller.submit, message)
            if moment == "acknowledged":
                assert calling.result().json()["status"] == "ACSC"
            else:
                wait(lambda: calling.done() or count(MOMENTS[moment].format(parts=PARTS[store])) > 0)
                assert not calling.done() or calling.result().status_code == 200, calling.result().text
        server.process.kill()
        server.process.wait()
        if moment == "arriving":
            connection.close()
        elif moment != "acknowledged":
            with suppress(httpx.TransportError):
                calling.result()
    server = servers("crash", lease_seconds=2)
    with httpx.Client(base_url=server.url, timeout=60) as http, counting(server) as count:
        caller.http = http
        found = caller.call("GET", "/v1/transactions").json()["transactions"]
        assert [(one["status"], one["payments_count"]) for one in found] in ([], [("ACSC", 2 * MANY)])
        assert found or moment != "acknowledged"
        again = caller.submit(message).json()
        assert (again["status"], again["reason"] and again["reason"]["code"]) == (
            ("RJCT", "DU01") if found else ("ACSC", None)
        )
        kept = found[0]["transaction_id"] if found else again["transaction_id"]
        payments = pages(caller, kept)
        assert [(p["ordinal"], p["status"]) for p in payments] == [(n, "ACSC") for n in range(1, 2 * MANY + 1)]
        assert sha256(caller.get(kept, "/messages/inbox").content).digest() == sha256(message).digest()
        assert statuses(caller.get(kept, "/messages/outbox").content) == [("ACSC", None)] * (2 * MANY)
        # Nothing that does not count is left: not on disk, and not in the database.
        assert not list((server.data / "spool").glob("*"))
        wait(lambda: count("SELECT count(*) FROM stagings") == 0)
        assert count("SELECT count(*) FROM payments") == 2 * MANY * (2 if found else 1)
    assert server.run("audit", "verify", "--json")  # and exits with 0: history holds


def wait(for_what: Callable[[], bool], seconds: float = 60) -> None:
    """Look until it is so."""
    end = time.monotonic() + seconds
    while not for_what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)


def test_limits(servers: Callable[..., Server], tmp_path: Path) -> None:
    """Too many bytes are refused with 413 whether they were announced or not, too many payments with an answer.

    The answer is in the form that the profile has for it.
    """
    (tmp_path / "terse.toml").write_text('title = "Terse"\n[forms]\n"pacs.002" = { without = ["group"] }\n', "utf-8")
    routes = f'[profiles]\nfolder = "{tmp_path}"\n[routes.default]\nprofile = "terse"\n'
    server = servers("limits", routes, bulk_bytes_max=1_400_000, bulk_payments_max=1_650, bulk_files_max=1)
    caller = server.add("limits")
    with caller.http:
        long = pacs008(*many(2 * MANY))
        assert caller.submit(long).status_code == 413
        assert caller.submit(iter([long[:700_000], long[700_000:]])).status_code == 413  # type: ignore[arg-type]
        assert caller.submit(iter([pacs008()])).json()["status"] == "ACSC"  # type: ignore[arg-type]
        taken = caller.submit(iter([pacs008(*many(1_650))])).json()  # type: ignore[arg-type]
        answer = etree.fromstring(caller.get(taken["transaction_id"], "/messages/outbox").content)
        assert (taken["status"], answer.find(".//{*}OrgnlGrpInfAndSts")) == ("ACSC", None)
        assert len(answer.findall(".//{*}TxInfAndSts/{*}OrgnlGrpInf")) == 1_650
        shown = caller.submit(pacs008(*many(1_651))).json()
        assert (shown["status"], shown["payments_count"]) == ("RJCT", 0)
        with ThreadPoolExecutor(2) as pool:
            codes = sorted(one.status_code for one in pool.map(caller.submit, [pacs008(*many()) for _ in range(2)]))
        assert codes == [200, 503]
    assert not list((server.data / "spool").glob("*"))
