"""How replication with a peer goes, as one region's database tells: records for the keeper, metrics and commands."""

from collections.abc import Mapping
from typing import NamedTuple


class Inbound(NamedTuple):
    """How a peer's changes come in."""

    subscribed: bool
    enabled: bool = False
    worker: bool = False
    #: Tables by the server's letter: `r` is ready, all others are being copied.
    tables: Mapping[str, str] = {}
    apply_errors: int = 0
    sync_errors: int = 0
    #: How far the peer is ahead; None: it cannot be asked.
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    #: It has come further since it was last looked at, or lacks nothing.
    moves: bool = False
    #: There is something to apply, and for a while nothing of it was.
    stalled: bool = False
    #: Everything that regions share was copied.
    copied: bool = False

    @property
    def ready(self) -> bool:
        """Everything was copied, and what is new is being applied."""
        return self.worker and self.copied

    @property
    def flows(self) -> bool:
        """Somebody applies what comes, and gets on with it."""
        return self.enabled and self.worker and not self.stalled


class Outbound(NamedTuple):
    """How our changes reach a peer."""

    #: It has a slot with us.
    slot: bool
    worker: bool = False
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    #: `lost`: what it still lacks is not there any more; it must be reseeded.
    wal_status: str | None = None
    #: What may still be written before that happens; None: there is no limit.
    safe_wal_size: int | None = None
    #: As of what comes in.
    moves: bool = False
    stalled: bool = False


class PeerStatus(NamedTuple):
    """Replication with one peer, both ways."""

    number: int
    inbound: Inbound
    outbound: Outbound
