"""The witness: one row a region, compare-and-set, a lease by its own clock, one takeover at a time."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from interlock.demo.postgres import Cluster
from interlock.demo.postgres.installations import Installation
from interlock.errors import ConfigError, StoreUnavailable
from interlock.regions import rules
from interlock.regions.rules import Entry
from interlock.stores.postgres.witness import WitnessStore
from tests.postgres import QUICK

HOME, PEER, THIRD = 1, 2, 3


@pytest.fixture
def witness(every_postgres_url: str) -> Iterator[WitnessStore]:
    """One that knows three regions."""
    with closing(WitnessStore(every_postgres_url)) as store:
        store.install()
        for region in (HOME, PEER, THIRD):
            store.ensure(region)
        yield store


def admit(witness: WitnessStore, peer: int, home: int = HOME) -> Entry:
    entry, _ = witness.entry(home)
    after = rules.added(entry, peer)
    assert after is not None
    assert witness.change(home, entry, after)
    return after


def test_it_is_set_up_once_however_often(witness: WitnessStore) -> None:
    """What is there stays as it is."""
    admit(witness, PEER)
    witness.install()
    witness.ensure(HOME)
    assert witness.entry(HOME) == (Entry(members=frozenset({PEER}), version=1), 0)
    assert set(witness.entries()) == {HOME, PEER, THIRD}


def test_what_it_does_not_know_it_says(postgres_url: str) -> None:
    """And how that is mended."""
    with closing(WitnessStore(postgres_url)) as witness:
        with pytest.raises(ConfigError, match="the witness was not set up: run `interlock regions init`"):
            witness.entries()
        witness.install()
        with pytest.raises(ConfigError, match="the witness does not know region 1"):
            witness.entry(HOME)
        with pytest.raises(ConfigError, match="the witness does not know region 1"):
            witness.grant(PEER, HOME, lease_must_be_over=False)
        assert not witness.renew(HOME, 0, 5)
        assert witness.entries() == {}


def test_a_change_of_what_is_not_there_any_more_fails(witness: WitnessStore) -> None:
    """Each names the version that it was read at."""
    entry, _ = witness.entry(HOME)
    first, second = rules.added(entry, PEER), rules.removed(entry, PEER)
    assert first is not None
    assert second is not None
    assert witness.change(HOME, entry, first)
    assert not witness.change(HOME, entry, second)
    assert witness.entry(HOME)[0] == first


def test_of_two_threads_that_change_one_entry_one_wins_each_time(
    witness: WitnessStore, every_postgres_url: str
) -> None:
    """As many versions as changes that were told to have been made."""
    won = [0, 0]

    def change(place: int) -> None:
        with closing(WitnessStore(every_postgres_url)) as own:
            for _ in range(60):
                entry, _ = own.entry(HOME)
                after = rules.added(entry, PEER + place)
                assert after is not None
                won[place] += own.change(HOME, entry, after)

    threads = [threading.Thread(target=change, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(won)
    entry, _ = witness.entry(HOME)
    assert entry == Entry(members=frozenset({PEER, THIRD}), version=sum(won))


def test_only_a_member_takes_over_and_only_one(witness: WitnessStore, every_postgres_url: str) -> None:
    """Both ask at the same time."""
    assert witness.grant(PEER, HOME, lease_must_be_over=False) is None
    for peer in (PEER, THIRD):
        admit(witness, peer)
    granted: dict[int, Entry | None] = {}
    together = threading.Barrier(2)

    def take(peer: int) -> None:
        with closing(WitnessStore(every_postgres_url)) as own:
            own.entries()
            together.wait()
            granted[peer] = own.grant(peer, HOME, lease_must_be_over=True)

    threads = [threading.Thread(target=take, args=(peer,)) for peer in (PEER, THIRD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (taker,) = (peer for peer, entry in granted.items() if entry is not None)
    entry, _ = witness.entry(HOME)
    assert entry == granted[taker]
    assert (entry.taker, entry.generation) == (taker, 1)


def test_takeovers_of_all_regions_are_numbered_by_one_counter(witness: WitnessStore) -> None:
    """And who is taken over takes nobody over."""
    admit(witness, PEER)
    admit(witness, HOME, home=PEER)
    admit(witness, PEER, home=THIRD)
    first = witness.grant(PEER, HOME, lease_must_be_over=True)
    assert first is not None
    assert witness.grant(HOME, PEER, lease_must_be_over=True) is None
    second = witness.grant(PEER, THIRD, lease_must_be_over=True)
    assert second is not None
    assert (first.generation, second.generation) == (1, 2)
    back = rules.returned(first, 1)
    assert back is not None
    assert witness.change(HOME, first, back)
    third = witness.grant(HOME, PEER, lease_must_be_over=True)
    assert third is not None
    assert third.generation == 3


def test_nobody_is_taken_over_while_its_lease_runs(witness: WitnessStore) -> None:
    """Unless an operator says so."""
    entry = admit(witness, PEER)
    assert witness.renew(HOME, 0, 0.3)
    found, left = witness.entry(HOME)
    assert found == entry
    assert 0 < left <= 0.3
    assert witness.grant(PEER, HOME, lease_must_be_over=True) is None
    time.sleep(left + 0.05)
    assert witness.entry(HOME)[1] == 0
    assert witness.grant(PEER, HOME, lease_must_be_over=True) is not None


def test_a_lease_is_given_to_nobody_that_was_taken_over(witness: WitnessStore) -> None:
    """Nor to one that has been, and does not know yet."""
    admit(witness, PEER)
    assert witness.renew(HOME, 0, 60)
    granted = witness.grant(PEER, HOME, lease_must_be_over=False)
    assert granted is not None
    assert not witness.renew(HOME, 0, 60)
    assert not witness.renew(HOME, 1, 60)
    back = rules.returned(granted, 1)
    assert back is not None
    assert witness.change(HOME, granted, back)
    assert not witness.renew(HOME, 0, 60)
    assert witness.renew(HOME, 1, 60)
    assert witness.change(HOME, back, back._replace(retired=True, version=back.version + 1))
    assert not witness.renew(HOME, 1, 60)


def test_a_lease_ends_though_the_clock_was_set_back(witness: WitnessStore, every_postgres_url: str) -> None:
    """An hour later at the latest would be too late: it ends after its own length."""
    admit(witness, PEER)
    assert witness.renew(HOME, 0, 0.3)
    with psycopg.connect(every_postgres_url, autocommit=True) as connection:
        connection.execute("UPDATE interlock_entries SET lease_until = lease_until + interval '1 hour'")
    assert 0 < witness.entry(HOME)[1] <= 0.3
    assert witness.grant(PEER, HOME, lease_must_be_over=True) is None
    time.sleep(0.35)
    assert witness.grant(PEER, HOME, lease_must_be_over=True) is not None


def test_nobody_waits_long_for_a_witness_that_does_not_answer(postgres_installation: Installation) -> None:
    """Neither where it is gone, nor where it stands still; and it is asked again once it is back."""
    with Cluster(postgres_installation, settings={**QUICK, "shared_buffers": "16MB"}) as cluster:
        url = cluster.create_database("witness")
        with closing(WitnessStore(url)) as witness:
            witness.install()
            witness.ensure(HOME)
            cluster.pause()
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="the witness: no answer within 2 seconds"):
                witness.renew(HOME, 0, 5)
            with pytest.raises(StoreUnavailable, match="the witness"):
                witness.entry(HOME)
            assert time.monotonic() - began < 6
            cluster.resume()
            _eventually(witness)
            cluster.restart("immediate")
            with pytest.raises(StoreUnavailable, match="the witness"):
                witness.entries()
            _eventually(witness)


def test_who_holds_an_entry_is_not_waited_for_long(postgres_url: str) -> None:
    """Somebody has stopped in the midst of a takeover."""
    with closing(WitnessStore(postgres_url)) as witness, psycopg.connect(postgres_url) as holder:
        witness.install()
        witness.ensure(HOME)
        holder.execute("SELECT 1 FROM interlock_entries FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="the witness"):
            witness.renew(HOME, 0, 5)
        assert time.monotonic() - began < 4


def _eventually(witness: WitnessStore) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            assert HOME in witness.entries()
        except StoreUnavailable:
            assert time.monotonic() < deadline, "it never came back"
            time.sleep(0.05)
        else:
            return
