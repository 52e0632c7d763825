"""What can go wrong, sorted by who must act. A business refusal is not among it: that is an outcome (`Refused`).

    InterlockError                 never raised itself
    ├── RequestError      the caller   never retried as it is: EmptyBody, BodyTooLarge, NotXml, UnknownTransaction, ...
    │   └── DuplicateMismatch          same key or id, other content
    ├── ConflictError     nobody       we lost a race: StaleVersion, LeaseLost
    │   └── IllegalDecision            the table of the lifecycle says no; the caller learns what stands
    ├── DependencyError   time         retried later: StoreUnavailable, Overloaded, Stopped
    │   └── OutcomeUnknown             sent, no answer: ask again by id, never assume, never resend blind
    └── ConfigError       the operator refuse to start, name the setting
    IllegalTransition(AssertionError)  us: a stage asked for a move that the table does not have

`code` is the stable word that problem documents, the command line and the docs use.
"""

from typing import ClassVar


class InterlockError(Exception):
    """Says what happened, to which transaction, and what to do now."""

    code: ClassVar[str] = "internal"


class RequestError(InterlockError):
    """The caller must change the request; the same request fails again."""

    code = "bad_request"


class EmptyBody(RequestError):
    """The request carries no message."""

    code = "empty_body"


class NotXml(RequestError):
    """The body is JSON; an ISO 20022 message is wanted as XML."""

    code = "not_xml"


class BodyTooLarge(RequestError):
    """The body is over the size limit."""

    code = "body_too_large"


class UnknownTransaction(RequestError):
    """No such transaction for this client: never issued, or another's; the two are told apart by nobody."""

    code = "unknown_transaction"


class Archived(UnknownTransaction):
    """Nothing of that time is in the database any more; the text says which archive has it."""

    code = "archived"


class NoAnswer(RequestError):
    """There is no answer to give (yet, or ever)."""

    code = "no_answer"


class DuplicateMismatch(RequestError):
    """The same idempotency key or transaction id came with other content."""

    code = "duplicate_mismatch"


class EndedBefore(RequestError):
    """The transaction had ended before its message came; a new id is wanted."""

    code = "ended_before"


class Unauthorised(RequestError):
    """No token, or one that does not verify."""

    code = "unauthorised"


class Forbidden(RequestError):
    """The token is good but lacks the scope."""

    code = "forbidden"


class ConflictError(InterlockError):
    """We lost a race; reload and go on."""

    code = "conflict"


class StaleVersion(ConflictError):
    """Somebody changed the transaction since we read it."""

    code = "stale_version"


class LeaseLost(ConflictError):
    """Another process has taken our work over; this one must not write any more."""

    code = "lease_lost"


class IllegalDecision(ConflictError):
    """The decision is not legal in the state that the transaction is in."""

    code = "illegal_decision"


class DependencyError(InterlockError):
    """Something that we need is not there now; the same request may do better later."""

    code = "unavailable"
    #: Seconds after which to try again, as told in Retry-After.
    retry_after: ClassVar[int] = 1


class StoreUnavailable(DependencyError):
    """The store refuses reads or writes: disk full, read-only, gone."""

    code = "store_unavailable"


class Overloaded(DependencyError):
    """More work is in flight than we promise to finish; nothing of this request was stored."""

    code = "overloaded"


class TooManyInFlight(DependencyError):
    """This client has as many transactions in flight as it may have."""

    code = "too_many_in_flight"


class Stopped(DependencyError):
    """An operator has stopped this route or client."""

    code = "stopped"
    retry_after = 30


class RegionFenced(DependencyError):
    """Another region has taken this one over, and has not told it everything yet; call that one."""

    code = "region_fenced"


class OwnedElsewhere(ConflictError):
    """The transaction is another region's to go on with."""

    code = "owned_elsewhere"

    def __init__(self, region: int) -> None:
        super().__init__(f"region {region} goes on with this transaction; call it there")
        self.region = region


class HomeRegionLost(DependencyError):
    """The region that issued this id is gone, and its message had not come here before."""

    code = "home_region_lost"
    retry_after = 2


class NotReplicated(DependencyError):
    """It is stored in its region, but no other one has confirmed it in the time that was given."""

    code = "not_replicated"


class Contended(StoreUnavailable):
    """A batch met others again and again, or waited for one too long; each of its writes may do better alone."""

    code = "contended"


class OutcomeUnknown(DependencyError):
    """The commit was sent and its outcome could not be read back: ask by id; do not send again blind."""

    code = "outcome_unknown"


class ConfigError(InterlockError):
    """A setting is wrong; the text names each one and what it must be."""

    code = "config"


class IllegalTransition(AssertionError):
    """A stage asked for a move that the lifecycle's table does not have: our mistake, never the caller's."""
