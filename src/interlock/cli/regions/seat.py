"""Where an operator of regions sits: this region, its peers as they are configured, and the witness."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interlock.cli.service import effective
from interlock.errors import ConfigError, RequestError, StoreUnavailable

if TYPE_CHECKING:
    from interlock.config import Config, PeerConfig
    from interlock.ports import Takeover
    from interlock.regions.rules import Entry
    from interlock.stores.postgres.replication import Replication
    from interlock.stores.postgres.witness import WitnessStore

#: Somebody else may change an entry between our looking and our writing.
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Seat:
    """This region, its peers and the witness."""

    settings: "Config"
    replication: "Replication"
    witness: "WitnessStore"

    @property
    def number(self) -> int:
        """Of this region."""
        return self.settings.region_number

    @property
    def peers(self) -> Mapping[str, "PeerConfig"]:
        """The others."""
        return self.settings.regions

    def peer(self, name: str) -> "PeerConfig":
        """The one of that name."""
        if name not in self.peers:
            raise RequestError(f"there is no region {name} among the peers: {', '.join(self.peers)}")
        return self.peers[name]

    def some(self, name: str | None) -> Mapping[str, "PeerConfig"]:
        """The one of that name, or all."""
        return self.peers if name is None else {name: self.peer(name)}

    def name(self, number: int | None) -> str | None:
        """What a region is called."""
        if number is None:
            return None
        names = {peer.number: name for name, peer in self.peers.items()} | {self.number: self.settings.region}
        return names.get(number, f"region {number}")

    def names(self, numbers: frozenset[int]) -> list[str]:
        """What regions are called."""
        return [self.name(number) or "" for number in sorted(numbers)]

    def own_takeovers(self) -> "list[Takeover]":
        """Takeovers by this region, also those that are over."""
        return [over for over in self.replication.takeovers() if over.region == self.number]

    def change(self, peer: "PeerConfig", change: "Callable[[Entry], Entry | None]") -> bool:
        """Change the witness's entry of a peer; False where it need not change, and so `change` gives None."""
        for _ in range(_TRIES):
            entry, _ = self.witness.entry(peer.number)
            after = change(entry)
            if after is None:
                return False
            if self.witness.change(peer.number, entry, after):
                return True
        raise StoreUnavailable("the witness's entry changes again and again; try again")


@contextmanager
def seated(config: Any) -> Iterator[Seat]:
    """This region's seat, as it is configured."""
    settings = effective(config)
    if not settings.regions:
        raise ConfigError("no other regions are configured: name them in [regions.NAME], and `witness`; see regions")
    from interlock.stores.postgres.replication import Replication
    from interlock.stores.postgres.witness import WitnessStore

    with (
        closing(Replication(settings.store, settings.region_number)) as replication,
        closing(WitnessStore(settings.witness)) as witness,
    ):
        yield Seat(settings, replication, witness)
