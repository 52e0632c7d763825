"""Two real regions and a witness, and what really happens to them: killed, stopped, cut off, one way and both.

One world serves all tests; each leaves it whole again, and then the checker, which knows nothing of Interlock, finds
nothing lost, nothing doubled and the same in both databases.
"""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from lxml import etree

from chaos import commits
from chaos.consumers import ROUTES
from chaos.desk import Desk
from chaos.processes import command
from chaos.stage import Stage
from chaos.world import WITNESS, World
from checker import databases, log, report
from checker.evidence import Evidence
from checker.log import ClientLog
from interlock.demo.messages import Author, Message
from tests.enquiries import Ids, request
from tests.postgres import installation

pytestmark = [pytest.mark.xdist_group("regions"), pytest.mark.timeout(180)]

HOME, PEER = "east", "west"
#: How long ends and the like may take on a busy machine.
SECONDS = 20
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_author = Author(datetime.now(UTC))


def small() -> Message:
    """Settles at once."""
    return _author.pacs008()


def large() -> Message:
    """Held for a decision; cancelled where its region is lost."""
    return _author.pacs008(_author.transfer(amount="25000.00"))


def treasury() -> Message:
    """Held for a decision; still held where its region is lost."""
    return _author.pacs009()


# -- the world --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("regions")


@pytest.fixture(scope="module")
def _world(_folder: Path) -> Iterator[World]:
    installation()
    with World(
        (HOME, PEER), routes=ROUTES, settings="replicated_within_seconds = 1", lease_seconds=2, durable=False,
        folder=_folder / "world",
    ) as world:  # fmt: skip
        world.await_whole()
        yield world
        for region in world.regions.values():
            assert "Traceback" not in region.server.said()


@pytest.fixture(scope="module")
def _desk(_world: World, _folder: Path) -> Iterator[Desk]:
    credentials = _world.add_client("shop", "rp2/read", "rp2/write")
    with ClientLog(_folder / "logs" / "shop.jsonl", credentials[0]) as lines:
        yield Desk(_world, credentials, lines)


@pytest.fixture
def desk(_world: World, _desk: Desk, _folder: Path) -> Iterator[Desk]:
    """The consumer, in a world that is whole before and after; and the checker's word for that."""
    yield _desk
    _world.mend()
    _world.await_whole()
    _await_healthy(_world)
    _verdict(_world, _folder)


@pytest.fixture
def world(_world: World, desk: Desk) -> World:
    """The regions."""
    return _world


def _verdict(world: World, folder: Path) -> None:
    """No fault, once the last rows have come from one region to the other."""
    until = time.monotonic() + SECONDS
    while True:
        urls = {name: region.database for name, region in world.regions.items()}
        calls = log.calls(folder / "logs")
        found = report.judge(Evidence(databases=databases.read(urls), calls=calls, now=time.time()))
        if found.holds or time.monotonic() >= until or not calls:
            break
        time.sleep(0.2)
    assert not found.faults, "\n".join(map(str, found.faults))


def _await_there(world: World, *ids: str) -> None:
    """Wait until the peer has them too."""

    def there() -> bool:
        ((number,),) = world.query(PEER, "SELECT count(*) FROM transactions WHERE id = ANY (%s)", list(map(UUID, ids)))
        return number == len(ids)

    world.until(there, f"{PEER} has {ids}", seconds=SECONDS)


def _await_healthy(world: World) -> None:
    """Wait until each hears the other again, which takes a moment once a way is mended."""

    def healthy() -> bool:
        looks = [httpx.get(region.url).json()["healthy_regions"] for region in world.regions.values()]
        return all(len(look) == len(world.regions) for look in looks)

    world.until(healthy, "both are healthy in both", seconds=SECONDS)


def _await_taken(world: World) -> None:
    world.until(lambda: world.is_decided(HOME), "everything in flight is decided by the taker")


def _hold_back_acks(world: World) -> None:
    """What the home commits reaches the peer; that it did is not known at home, and the peer cannot be dropped."""
    world.links.cut(HOME, WITNESS)
    world.links.cut(PEER, HOME, both=False)


def _standing(world: World, id_: str) -> set[tuple[Any, ...]]:
    """State, end and answer in each region's eyes."""
    rows = 'SELECT DISTINCT ON (id) state, "end", answer_digest, region FROM transactions WHERE id = %s ORDER BY id, '
    return {
        tuple(row) for name in world.regions for row in world.query(name, f"{rows} epoch DESC, version DESC", UUID(id_))
    }


# -- a region is lost -------------------------------------------------------------------------------------------------


def test_a_region_killed_with_intents_in_flight_is_taken_over_and_comes_back(world: World, desk: Desk) -> None:
    """Intended ends end as intended; held ones as their route says; what the peer never had waits for the home."""
    _hold_back_acks(world)
    available = desk.taken(HOME, small())
    assert (available["facet"], available["replicated"]) == ("ending", False)
    refused = desk.submit(HOME, small(), consistency="consistent")
    assert (refused.status_code, refused.json()["code"]) == (503, "not_replicated")
    (consistent,) = _ID.findall(refused.json()["detail"])
    cancelled, kept, empty = desk.taken(HOME, large()), desk.taken(HOME, treasury()), desk.issue(HOME)
    ids = [available["transaction_id"], consistent, cancelled["transaction_id"], kept["transaction_id"]]
    _await_there(world, *ids, empty)
    world.links.cut(HOME, PEER)
    unseen = desk.taken(HOME, small())["transaction_id"]
    began = time.monotonic()
    world.lose(HOME)
    _await_taken(world)
    assert time.monotonic() - began < 10
    assert [desk.end(PEER, id_)["status"] for id_ in ids[:2]] == ["ACSC", "ACSC"]
    ended = desk.end(PEER, ids[2])
    assert (ended["status"], ended["transaction_code"], ended["region"]) == ("CANC", "RCVR", PEER)
    redriven = desk.decide(PEER, ids[2], "redrive").json()["transaction_id"]
    assert desk.decide(PEER, redriven, "accept").status_code == 200
    assert desk.end(PEER, redriven)["status"] == "ACSC"
    assert desk.get(PEER, ids[3]).json()["held"] == "decision"
    assert desk.decide(PEER, ids[3], "accept").status_code == 200
    assert desk.end(PEER, empty)["status"] == "CANC"
    lost = desk.get(PEER, unseen)
    assert (lost.status_code, lost.json()["code"]) == (503, "home_region_lost")
    world.links.heal_all()
    world.bring_back(HOME)
    world.await_whole()
    assert desk.end(HOME, unseen)["status"] == "ACSC"
    assert [desk.end(HOME, id_)["status"] for id_ in ids] == ["ACSC", "ACSC", "CANC", "ACSC"]


def test_a_server_stopped_through_its_takeover_commits_nothing_of_before(world: World, desk: Desk) -> None:
    """It wakes with intents whose acks have come meanwhile, and with a decision in its hands: one end, the taker's."""
    _hold_back_acks(world)
    intended = desk.taken(HOME, small())["transaction_id"]
    held = desk.taken(HOME, large())["transaction_id"]
    _await_there(world, intended, held)
    token = desk.token(HOME)
    world.regions[HOME].server.pause()
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(
            desk.call, HOME, "POST", f"/v1/transactions/{held}/decisions", token=token, json={"decision": "accept"}
        )
        world.links.heal_all()
        _await_taken(world)
        world.regions[HOME].server.resume()
        with suppress(httpx.HTTPError):
            assert late.result().json().get("final") is not True
    world.await_whole()
    assert desk.end(PEER, intended)["status"] == "ACSC"
    assert desk.end(HOME, held)["transaction_code"] == "RCVR"
    for id_, end in ((intended, "ACSC"), (held, "CANC")):
        ((state, ended, _, region),) = _standing(world, id_)
        assert (state, ended, region) == ("end", end, world.regions[PEER].number)


def test_a_server_stopped_between_its_checks_and_its_commit_ends_nothing_that_the_taker_has(
    world: World, desk: Desk
) -> None:
    """Its transaction stands open through the takeover; whatever it then commits, each payment has one end."""
    stage = Stage(world, desk, lambda _: small(), "available")
    with stage.load():
        commits.stop_between(world, HOME)
        _await_taken(world)
        world.regions[HOME].server.resume()
    world.await_whole()
    assert {desk.end(HOME, id_)["status"] for id_ in stage.known} <= {"ACSC", "CANC"}


def test_a_region_whose_database_has_stopped_is_taken_over(world: World, desk: Desk) -> None:
    """Its server still runs, and can do nothing; once the database goes on it learns that it was taken over."""
    held = desk.taken(HOME, large())["transaction_id"]
    _await_there(world, held)
    world.regions[HOME].cluster.pause()
    _await_taken(world)
    assert desk.end(PEER, held)["transaction_code"] == "RCVR"
    world.regions[HOME].cluster.resume()
    world.await_whole()
    assert desk.end(HOME, held)["transaction_code"] == "RCVR"


def test_a_keeper_killed_in_the_midst_of_a_takeover_leaves_it_to_the_next(world: World, desk: Desk) -> None:
    """The witness has granted it, and nothing is decided yet; whoever is started there goes on."""
    held = [desk.taken(HOME, large())["transaction_id"] for _ in range(10)]
    _await_there(world, *held)
    world.lose(HOME)
    world.until(lambda: world.entry(HOME).taker is not None, "the takeover is granted")
    world.regions[PEER].server.kill()
    assert not world.is_decided(HOME)
    world.regions[PEER].server.start()
    _await_taken(world)
    assert {desk.end(PEER, id_)["transaction_code"] for id_ in held} == {"RCVR"}


def test_a_peer_that_was_cut_off_may_not_take_over(world: World, desk: Desk) -> None:
    """The home went on alone; when it dies the peer does not know all, and says so."""
    world.links.cut(HOME, PEER)
    alone = desk.taken(HOME, small(), wait=SECONDS)
    assert (alone["status"], alone["replicated"]) == ("ACSC", False)
    world.lose(HOME)
    world.until(lambda: world.leases()[HOME][1] <= 0, "its lease is over")
    # Whatever the peer's keeper does, it does within a turn or two; its probes of the home have failed by then.
    world.until(
        lambda: desk.get(PEER, alone["transaction_id"]).json().get("code") == "home_region_lost",
        "the peer says that the home is lost",
    )
    entry = world.entry(HOME)
    assert (entry.taker, entry.members) == (None, frozenset())
    assert desk.taken(PEER, small(), wait=SECONDS)["status"] == "ACSC"
    world.mend()
    world.await_whole()
    assert world.entry(HOME).generation == entry.generation
    assert desk.end(PEER, alone["transaction_id"])["status"] == "ACSC"


# -- links are cut ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "receiver", "both"),
    [(HOME, PEER, True), (HOME, PEER, False), (PEER, HOME, False)],
    ids=["both-ways", "there", "back"],
)
def test_a_cut_between_the_regions_stops_neither(
    world: World, desk: Desk, sender: str, receiver: str, *, both: bool
) -> None:
    """Ends go on once the guard is dropped, and say that they are nowhere else.

    `consistent` is refused in time, and does not settle before the other region has it.
    """
    world.links.cut(sender, receiver, both=both)
    # Both begin at once: each region drops the other one meanwhile.
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda name: desk.taken(name, small(), wait=SECONDS), world.regions))
    assert [one["status"] for one in told] == ["ACSC", "ACSC"]
    assert told[0]["replicated"] is False or not both
    began = time.monotonic()
    refused = desk.submit(HOME, small(), consistency="consistent")
    assert (refused.status_code, refused.json()["code"]) == (503, "not_replicated")
    assert time.monotonic() - began < 5
    (id_,) = _ID.findall(refused.json()["detail"])
    assert desk.get(HOME, id_).json()["facet"] == "ending"
    assert {world.entry(name).taker for name in world.regions} == {None}
    world.links.heal_all()
    assert desk.end(HOME, id_)["status"] == "ACSC"
    world.await_whole()
    again = desk.taken(HOME, small(), wait=SECONDS, consistency="consistent")
    assert (again["status"], again["replicated"]) == ("ACSC", True)


def test_a_cut_from_the_witness_stops_nothing(world: World, desk: Desk) -> None:
    """The lease runs out, and nobody takes over a region that answers."""
    world.links.cut(HOME, WITNESS)
    world.until(lambda: world.leases()[HOME][1] <= 0, "its lease is over")
    assert desk.taken(HOME, small(), wait=SECONDS)["status"] == "ACSC"
    told = desk.taken(HOME, small(), wait=SECONDS, consistency="consistent")
    assert (told["status"], told["replicated"]) == ("ACSC", True)
    assert world.entry(HOME).taker is None


def test_a_region_cut_off_from_all_stops_ending_and_is_taken_over(world: World, desk: Desk) -> None:
    """It takes messages and ends none; when it is back what the taker has is the taker's, and the rest its own."""
    held = desk.taken(HOME, large())["transaction_id"]
    _await_there(world, held)
    world.links.cut(HOME, PEER)
    world.links.cut(HOME, WITNESS)
    before = desk.taken(HOME, small())["transaction_id"]
    _await_taken(world)
    after = desk.taken(HOME, small(), wait=1)
    assert after["facet"] == "ending"
    assert desk.get(HOME, before).json()["facet"] == "ending"
    assert desk.end(PEER, held)["transaction_code"] == "RCVR"
    assert desk.taken(PEER, small(), wait=SECONDS)["status"] == "ACSC"
    world.links.heal_all()
    world.await_whole()
    assert {desk.end(HOME, id_)["status"] for id_ in (before, after["transaction_id"])} == {"ACSC"}
    assert desk.end(HOME, held)["transaction_code"] == "RCVR"


# -- all is well ------------------------------------------------------------------------------------------------------


def test_either_region_is_good_for_a_call(world: World, desk: Desk) -> None:
    """Each takes the other's tokens, and hands on what only the other one may decide."""
    held = desk.taken(HOME, large())["transaction_id"]
    _await_there(world, held)
    tokens = {desk.token(name) for name in world.regions}
    assert len(tokens) == 2
    for token in tokens:
        found = desk.call(PEER, "GET", f"/v1/transactions/{held}", token=token)
        assert (found.status_code, found.json()["region"], found.json()["held"]) == (200, HOME, "decision")
    decided = desk.decide(PEER, held, "accept")
    assert (decided.status_code, decided.json().get("region")) == (200, HOME), decided.text
    assert desk.end(PEER, held)["status"] == "ACSC"
    assert {region for *_, region in _standing(world, held)} == {world.regions[HOME].number}


def _asked(desk: Desk, definition: str, message: Message, *codes: str) -> list[str | None]:
    """What the peer answers to a request about a message: the texts of these elements."""
    transfer = message.transfers[0]
    ids = Ids(
        message_id=message.message_id, instruction_id=None, end_to_end_id=None, transaction_id=None,
        uetr=transfer.uetr, amount=None,
    )  # fmt: skip
    content = request(definition, ids).replace(b"EXAMPLE-C-0001", uuid4().hex.encode())
    content = content.replace(b"EXAMPLE-CASE-1", uuid4().hex.encode())
    taken = desk.call(PEER, "POST", "/v1/messages", content=content, headers={"Content-Type": "application/xml"})
    id_ = taken.json()["transaction_id"]
    desk.end(PEER, id_)
    answer = etree.fromstring(desk.call(PEER, "GET", f"/v1/transactions/{id_}/messages/outbox").content)
    return [element.text for code in codes for element in answer.iter(f"{{*}}{code}")]


def test_a_request_about_a_payment_of_the_other_region_is_that_regions_to_carry_out(world: World, desk: Desk) -> None:
    """It is told and cancelled there while it can be asked; cut off from it, nobody says more than is known."""
    message, unsure, unknown = large(), large(), large()
    held = desk.taken(HOME, message)["transaction_id"]
    assert _asked(desk, "pacs.028.001.03", message, "TxSts") == ["PDNG"]
    assert _asked(desk, "camt.056.001.08", message, "Conf", "TxCxlSts") == ["CNCL", "ACCR"]
    ended = desk.end(HOME, held)
    assert (ended["status"], ended["region"]) == ("CANC", HOME)
    assert _asked(desk, "pacs.028.001.03", message, "TxSts", "Cd")[:2] == ["RJCT", "DUPL"]
    assert _asked(desk, "camt.056.001.08", unknown, "Conf", "Cd") == ["RJCR", "NOOR"]
    waiting = desk.taken(HOME, unsure)["transaction_id"]
    _await_there(world, waiting)
    world.links.cut(HOME, PEER)
    assert _asked(desk, "camt.056.001.08", unsure, "Conf", "TxCxlSts") == ["PDCR", "PDCR"]
    assert _asked(desk, "pacs.028.001.03", unknown, "TxSts") == ["PDNG"]
    world.links.heal_all()
    # What was pending may have been carried out, for the call was on its way; asked again, it is, and is told so.
    again = "the request is carried out and told"
    world.until(lambda: _asked(desk, "camt.056.001.08", unsure, "Conf") == ["CNCL"], again, seconds=SECONDS)
    assert desk.end(HOME, waiting)["status"] == "CANC"


def test_a_payment_that_was_cancelled_by_itself_stays_so_when_its_region_is_lost(world: World, desk: Desk) -> None:
    """What a consumer was told survives the takeover, and what was only intended counts; the taker accepts the rest."""
    several = [_author.pacs009(*(_author.transfer() for _ in range(3))) for _ in range(2)]
    told, intended = (desk.taken(HOME, message)["transaction_id"] for message in several)
    decided = desk.decide(HOME, told, "cancel", 2)
    assert (decided.status_code, decided.json()["payments"][0]["status"]) == (200, "CANC")
    _await_there(world, told, intended)
    _hold_back_acks(world)
    there = "SELECT 1 FROM events WHERE tx = %s AND position('PaymentsCancelled'::bytea IN content) > 0"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(desk.decide, HOME, intended, "cancel", 3)
        world.until(lambda: world.query(PEER, there, UUID(intended)), "the peer has the intent", seconds=SECONDS)
        shown = [one["status"] for one in desk.get(HOME, intended).json()["payments"]]
        assert (shown, waiting.done()) == (["PDNG"] * 3, False)  # nobody is told before it is known to be safe
        world.lose(HOME)
        with suppress(httpx.HTTPError):
            waiting.result()
    _await_taken(world)
    for id_, expected in ((told, ["PDNG", "CANC", "PDNG"]), (intended, ["PDNG", "PDNG", "CANC"])):
        payments = desk.get(PEER, id_).json()["payments"]
        assert [one["status"] for one in payments] == expected
        assert desk.decide(PEER, id_, "accept").status_code == 200
        assert desk.end(PEER, id_)["status"] == "ACSC"
    world.links.heal_all()
    world.bring_back(HOME)
    world.await_whole()
    for id_, place in ((told, 1), (intended, 2)):
        statuses = ["ACSC"] * 3
        statuses[place] = "CANC"
        for region in (HOME, PEER):
            assert [one["status"] for one in desk.get(region, id_).json()["payments"]] == statuses


def test_a_message_sent_again_in_the_other_region_is_the_same_one(world: World, desk: Desk) -> None:
    """By its idempotency key; without one it is a duplicate."""
    message = small()
    first = desk.taken(HOME, message, wait=SECONDS, key="once", consistency="consistent")
    again = desk.taken(PEER, message, wait=SECONDS, key="once")
    assert again["transaction_id"] == first["transaction_id"]
    double = desk.taken(PEER, message, wait=SECONDS)
    assert (double["status"], double["transaction_id"] == first["transaction_id"]) == ("RJCT", False)


@pytest.mark.parametrize("consistency", [None, "consistent"])
def test_of_one_payment_taken_in_both_regions_at_once_one_settles(
    world: World, desk: Desk, consistency: str | None
) -> None:
    """Neither knows of the other when it takes it; whoever came later gives way."""
    for _ in range(5):
        message = small()
        with ThreadPoolExecutor(2) as pool:
            taken = partial(desk.taken, message=message, wait=SECONDS, consistency=consistency)
            told = list(pool.map(taken, world.regions))
        assert sorted(one["status"] for one in told) == ["ACSC", "RJCT"]


def test_of_one_payment_that_waits_in_both_regions_one_is_taken(world: World, desk: Desk) -> None:
    """Under `consistent` the other is refused before it counts as taken, not when it comes to settle."""
    message = large()
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda name: desk.taken(name, message, consistency="consistent"), world.regions))
    ids = {name: one["transaction_id"] for name, one in zip(world.regions, told, strict=True)}

    def decided() -> bool:
        statuses = sorted(desk.get(name, id_).json()["status"] for name, id_ in ids.items())
        return statuses in (["CANC", "PDNG"], ["PDNG", "RJCT"])

    world.until(decided, "one of them gives way")


def test_history_verifies_in_each_region(world: World) -> None:
    """Its own, and its copy of the other's, whatever was taken over and came back."""
    world.await_whole()
    configs = [region.server.config for region in world.regions.values()]
    with ThreadPoolExecutor(len(configs)) as pool:
        told = list(pool.map(lambda config: command(config, "audit", "verify"), configs))
    assert all("history holds" in one for one in told)
