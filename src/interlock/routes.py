"""Routes: which rules of the operator a transaction follows. Pure data and the choice among it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase


class DecisionRule(StrEnum):
    """Who decides."""

    #: Interlock itself, by its rules.
    AUTO = "auto"
    #: A consumer must accept or reject.
    CONSUMER = "consumer"


class WhenStopped(StrEnum):
    """What becomes of new messages while an operator has stopped a route or client."""

    #: 503 with Retry-After; nothing is stored.
    REFUSE = "refuse"
    #: Stored and acknowledged, and processed once resumed; its clock runs.
    HOLD = "hold"


class Consistency(StrEnum):
    """When a message counts as taken."""

    #: Once it is durable in its region.
    AVAILABLE = "available"
    #: Once another region has it too; its payments settle once every region has it, and none holds the same.
    CONSISTENT = "consistent"
    #: Once more than half of all regions have it: with three, whatever becomes of one of them.
    MAJORITY = "majority"
    #: Once every region has it; its payments settle as under `consistent`.
    ALL = "all"

    def copies(self, peers: int) -> int:
        """How many other regions must have it, of so many that there are."""
        match self:
            case Consistency.AVAILABLE:
                return 0
            case Consistency.CONSISTENT:
                return 1
            case Consistency.MAJORITY:
                return max(1, (peers + 1) // 2)
            case Consistency.ALL:
                return max(1, peers)


class Fencing(StrEnum):
    """What an end waits for where a peer may take the region over."""

    #: Every such peer has it, whatever the clocks say.
    STRICT = "strict"
    #: The region's lease has not run out, by clocks that go at about the same rate.
    LEASE = "lease"


class OnTakeover(StrEnum):
    """What becomes of a transaction without an end when its region is lost."""

    CANCEL = "cancel"
    #: Cancelled, and driven again at once in the region that takes over.
    REDRIVE = "redrive"
    #: Held for a consumer's decision.
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The operator's rules for some messages."""

    name: str
    #: Patterns of message definitions, with `*`: `pacs.008.*`. Empty: all.
    messages: tuple[str, ...] = ()
    #: Client ids. Empty: all.
    clients: frozenset[str] = frozenset()
    #: From the id to the end; stops while a consumer decides.
    sla: timedelta = timedelta(seconds=30)
    decision: DecisionRule = DecisionRule.AUTO
    #: By currency: a payment above this amount needs a consumer's decision whatever `decision` says.
    decision_above: Mapping[str, Decimal] = field(default_factory=dict)
    #: How long a consumer may take.
    decide_within: timedelta = timedelta(hours=24)
    #: Two consumers' applications must accept.
    four_eyes: bool = False
    #: ISO reason of a time-out: AB05 (creditor agent), AB06 (instructed agent), ...
    timeout_reason: str = "AB06"
    when_stopped: WhenStopped = WhenStopped.REFUSE
    consistency: Consistency = Consistency.AVAILABLE
    fencing: Fencing = Fencing.STRICT
    on_takeover: OnTakeover = OnTakeover.CANCEL
    #: Name of the profile that judges its messages; None: their header chooses.
    profile: str | None = None
    #: How long its transactions stay in the store; None: as long as the default route's.
    retention: timedelta | None = None

    def serves(self, client: str, definition: str | None) -> bool:
        """Whether this client's messages of this definition (or its beginning, or None: not known yet) go this way."""
        if self.clients and client not in self.clients:
            return False
        if not self.messages:
            return True
        return definition is not None and any(_matches(definition, pattern) for pattern in self.messages)

    def needs_decision(self, payments: Iterable[tuple[Decimal | None, str | None]]) -> bool:
        """Whether a consumer must decide on a message with these amounts and currencies."""
        if self.decision is DecisionRule.CONSUMER:
            return True
        if not self.decision_above:
            return False
        return any(self._above(amount, currency) for amount, currency in payments)

    def _above(self, amount: Decimal | None, currency: str | None) -> bool:
        limit = self.decision_above.get(currency or "")
        return limit is not None and (amount is None or amount > limit)


def _matches(definition: str, pattern: str) -> bool:
    # A client may announce just `pacs.008`; a pattern for all of its versions is meant to serve that too.
    return fnmatchcase(definition, pattern) or (
        len(definition) < len(pattern) and fnmatchcase(f"{definition}.", pattern)
    )


@dataclass(frozen=True, slots=True)
class Routes:
    """All routes in the operator's order, and the default that serves what no other does."""

    listed: Sequence[Route]
    default: Route

    def __iter__(self) -> Iterator[Route]:
        """All of them."""
        yield from (*self.listed, self.default)

    def choose(self, client: str, definition: str | None) -> Route:
        """The first that serves."""
        return next((route for route in self.listed if route.serves(client, definition)), self.default)

    def profile_for(self, client: str, definition: str | None) -> str | None:
        """Name of the profile that judges a client's message of this definition; None: the header chooses."""
        return self.choose(client, definition).profile

    def named(self, name: str) -> Route:
        """By name; the default where a route of that name is no longer configured."""
        return next((route for route in self.listed if route.name == name), self.default)

    def retention(self, name: str) -> timedelta | None:
        """How long a route's transactions stay in the store; None: for ever."""
        return self.named(name).retention or self.default.retention
