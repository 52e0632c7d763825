"""The Python client against a real server, in a process of its own."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from interlock.client import AsyncClient, Client, Transaction, problem_of
from interlock.demo.messages import BAD_IBAN, Author
from interlock.demo.ports import free_port
from interlock.demo.scenario import ALPHA, BETA, HURRIED, LARGE
from interlock.demo.server import Database, Place, register, serving
from interlock.errors import (
    DependencyError,
    DuplicateMismatch,
    IllegalDecision,
    NoAnswer,
    RequestError,
    Unauthorised,
    UnknownTransaction,
)
from interlock.iso20022.codes import Status
from tests.acceptance.conftest import settings_for

pytestmark = [pytest.mark.timeout(120), pytest.mark.stores("sqlite", "postgres")]

NOBODY = UUID("01980000-0000-7000-8000-000000000000")


@dataclass
class House:
    """A running server, who may call it, and messages for it."""

    place: Place
    clients: dict[str, tuple[str, str]]
    author: Author

    def client(self, name: str = ALPHA, transport: httpx.BaseTransport | None = None) -> Client:
        """A client under one of the two names."""
        return Client(self.place.url, *self.clients[name], patience=10, transport=transport)

    def twin(self, name: str = ALPHA) -> AsyncClient:
        """Its asynchronous twin."""
        return AsyncClient(self.place.url, *self.clients[name], patience=10)


@pytest.fixture(scope="module")
def house(request: pytest.FixtureRequest, store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    with settings_for(request, store) as settings:
        url = settings.of("house").get("store")
        with serving(folder, keep=False, over=None if url is None else Database(url=url, pid=0)) as place:
            yield House(place, register(folder), Author(datetime.now(UTC)))


def test_a_message_goes_through(house: House) -> None:
    """Submitted, settled, found by every name, its bytes and its answer read back."""
    message = house.author.pacs008()
    with house.client() as client:
        transaction = client.submit(message.content, wait=5, reference="order 7")
        assert (transaction.status, transaction.final, transaction.reference) == (Status.ACSC, True, "order 7")
        assert transaction.message_id == message.message_id
        detail = client.status(transaction.transaction_id)
        assert [payment.end_to_end_id for payment in detail.payments] == [message.transfers[0].end_to_end_id]
        assert str(detail.payments[0].amount) == "100.00"
        assert client.message(transaction.transaction_id, "inbox") == message.content
        assert (message.message_id or "").encode() in client.answer(transaction.transaction_id)
        assert [event.status for event in client.events(transaction.transaction_id)][-1] is Status.ACSC
        for found in (
            client.find(uetr=message.transfers[0].uetr),
            client.find(message_id=message.message_id),
            client.find(reference="order 7"),
            client.find(end_to_end_id=message.transfers[0].end_to_end_id),
        ):
            assert [one.transaction_id for one in found] == [transaction.transaction_id]


def test_decisions_and_redrive(house: House) -> None:
    """Held, cancelled, driven again, accepted: each step as the lifecycle has it, and too late is told so."""
    message = house.author.pacs008(house.author.transfer(amount=LARGE))
    with house.client() as client:
        held = client.submit(message.content)
        assert (held.status, held.held) == (Status.PDNG, "decision")
        with pytest.raises(NoAnswer):
            client.answer(held.transaction_id)
        cancelled = client.cancel(held.transaction_id, note="changed our mind")
        assert (cancelled.status, cancelled.reason and cancelled.reason.code) == (Status.CANC, "DS02")
        dry = client.redrive_all(message_id=message.message_id)
        assert [(one.transaction_id, one.outcome) for one in dry.results] == [(held.transaction_id, "drivable")]
        again = client.redrive(held.transaction_id, by="alice")
        assert (again.attempt, again.redrive_of) == (2, held.transaction_id)
        assert client.accept(again.transaction_id, by="alice").status is Status.ACSC
        assert client.accept(again.transaction_id, by="alice").status is Status.ACSC
        with pytest.raises(IllegalDecision) as caught:
            client.reject(again.transaction_id, "AC04")
        told = problem_of(caught.value)
        assert told is not None
        assert told.status == 409


def test_a_key_makes_a_call_repeatable(house: House) -> None:
    """The same key gives the same transaction; with other content it is refused."""
    message = house.author.pacs008()
    with house.client() as client:
        first = client.submit(message.content, idempotency_key="once")
        assert client.submit(message.content, idempotency_key="once").transaction_id == first.transaction_id
        with pytest.raises(DuplicateMismatch):
            client.submit(house.author.pacs008().content, idempotency_key="once")


class _Losing(httpx.HTTPTransport):
    """Loses the answers to the first calls of a path, after the server has given them."""

    def __init__(self, path: str, times: int) -> None:
        super().__init__()
        self._path, self._left = path, times

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and maybe forget what came back."""
        response = super().handle_request(request)
        if request.url.path == self._path and self._left:
            self._left -= 1
            response.close()
            raise httpx.ReadError("lost on its way")
        return response


def test_a_lost_answer_does_not_double_a_message(house: House) -> None:
    """When answers are lost on their way the client sends again, and there is one transaction, not a duplicate."""
    message = house.author.pacs008()
    with house.client(transport=_Losing("/v1/messages", 2)) as client:
        transaction = client.submit(message.content)
        assert transaction.status is Status.ACSC
        found = list(client.find(message_id=message.message_id))
        assert [one.transaction_id for one in found] == [transaction.transaction_id]


def test_find_goes_through_all_pages(house: House) -> None:
    """`find` yields everything that matches, once each, whatever the size of a page."""
    with house.client() as client:
        sent = {client.submit(house.author.pacs008().content, reference="many").transaction_id for _ in range(7)}
        found = [one.transaction_id for one in client.find(reference="many", limit=2)]
    assert len(found) == 7
    assert set(found) == sent


def test_waiting_for_an_end(house: House) -> None:
    """`wait` returns with the end when it comes: here the deadline's, a second after the message."""
    message = house.author.pacs009(version=HURRIED[-2:])
    with house.client() as client:
        held = client.submit(message.content)
        assert not client.wait(held.transaction_id, seconds=0.1).final
        ended = client.wait(held.transaction_id, seconds=10)
    assert (ended.status, ended.transaction_code) == (Status.RJCT, "TOUT")


def test_validation_stores_nothing(house: House) -> None:
    """Findings come back with rule, reason, place and line; the message can be sent afterwards."""
    message = house.author.pacs008(house.author.transfer(creditor_iban=BAD_IBAN))
    with house.client() as client:
        result = client.validate(message.content)
        assert result.valid is False
        assert [(one.reason, one.payment) for one in result.findings] == [("AC03", 1)]
        assert result.findings[0].line
        assert not list(client.find(message_id=message.message_id))


def test_walls_and_wrong_secrets(house: House) -> None:
    """Another client's id is as unknown as one that never was; a wrong secret is told as such; so is no server."""
    message = house.author.pacs008()
    with house.client() as alpha, house.client(BETA) as beta:
        theirs = alpha.submit(message.content).transaction_id
        for call in (beta.status, beta.answer, beta.events, beta.cancel):
            for unknown in (theirs, NOBODY):
                with pytest.raises(UnknownTransaction):
                    call(unknown)
        with pytest.raises(RequestError):
            alpha.submit(b"")
    client_id, _ = house.clients[ALPHA]
    with Client(house.place.url, client_id, "wrong") as stranger, pytest.raises(Unauthorised):
        stranger.status(NOBODY)
    with Client("http://127.0.0.1:9", client_id, "x", patience=0.5) as lonely, pytest.raises(DependencyError):
        lonely.status(NOBODY)


def test_the_asynchronous_twin_does_the_same(house: House) -> None:
    """Many submissions at once, decisions, answers and pages, awaited."""

    async def use() -> list[Transaction]:
        async with house.twin() as client:
            messages = [house.author.pacs008() for _ in range(20)]
            sent = await asyncio.gather(*(client.submit(one.content, reference="twins") for one in messages))
            held = await client.submit(house.author.pacs008(house.author.transfer(amount=LARGE)).content)
            rejected = await client.reject(held.transaction_id, "FRAD", note="looks wrong")
            assert (await client.wait(rejected.transaction_id)).status is Status.RJCT
            assert b"FRAD" in await client.answer(held.transaction_id)
            found = [one async for one in client.find(reference="twins", limit=9)]
            assert {one.transaction_id for one in found} == {one.transaction_id for one in sent}
            return found

    assert all(one.status is Status.ACSC for one in asyncio.run(use()))


def test_a_client_may_be_shared_by_threads(house: House) -> None:
    """Threads that use one client each get their own results."""
    messages = [house.author.pacs008() for _ in range(24)]
    results: dict[int, Transaction] = {}
    with house.client() as client:

        def send(number: int) -> None:
            results[number] = client.submit(messages[number].content)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(len(messages))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [results[number].message_id for number in range(24)] == [message.message_id for message in messages]


def test_a_restart_is_bridged(tmp_path: Path) -> None:
    """While the server is away calls wait, within the caller's patience, and then go through."""
    folder = tmp_path / "restart"
    folder.mkdir()
    author, port = Author(datetime.now(UTC)), free_port()
    with serving(folder, keep=False, port=port) as place:
        credentials = register(folder)[ALPHA]
    client = Client(place.url, *credentials, patience=30)
    answers: list[Transaction] = []
    caller = threading.Thread(target=lambda: answers.append(client.submit(author.pacs008().content)))
    caller.start()
    with serving(folder, keep=False, port=port):
        caller.join()
    client.close()
    assert [one.status for one in answers] == [Status.ACSC]
