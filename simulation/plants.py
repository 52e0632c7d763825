"""Mistakes that can be planted, to show that the world finds them. None of them is in the rules."""

from msgspec import Struct


class Plants(Struct, frozen=True, kw_only=True):
    """Which mistakes this world has; each field is one, and its name is what `--bug` takes."""

    #: A commit counts whatever epoch it was decided under.
    skip_epoch: bool = False
    #: An intended end becomes a fact without the guards' word.
    release_before_ack: bool = False
    #: The taker decides while the home's changes still come in.
    cancel_without_cut: bool = False
    #: The taker takes an intent to end for nothing.
    taker_ignores_intent: bool = False
    #: A home that has come back works at once.
    works_before_informed: bool = False
    #: A peer becomes a member before it has everything.
    added_without_flush: bool = False
    #: To remove a peer that is no member makes no new version.
    removed_without_version: bool = False
    #: A guard is taken out of the post first and removed at the witness later.
    post_before_witness: bool = False
    #: The taker listens to the home again before the home knows.
    opened_too_early: bool = False
    #: The word for an intent counts for the one that has replaced it.
    stale_intent: bool = False
    #: A takeover that is complete does not stop a second taker that is still at it.
    completed_without_epoch: bool = False
    #: The home goes on as soon as all is decided, while the taker still takes payments in its place.
    informed_at_completion: bool = False
    #: A payment that every region must have settles as soon as all guards have it.
    alone_is_enough: bool = False
    #: A taker makes a lost region's release a fact, whatever has settled meanwhile.
    taker_looks_nowhere: bool = False
    #: A payment settles though another region holds its keys.
    settled_beside_another: bool = False
    #: What was begun before a takeover is acknowledged as consistent after it.
    confirmed_after_takeover: bool = False
    #: What a taker writes of a transaction leaves out the message, which its home has written.
    taken_without_message: bool = False
    #: The end of some payments is a fact without the guards' word.
    told_before_ack: bool = False
    #: A taker does not know of payments that were to end by themselves.
    taker_forgets_some: bool = False
    #: A home that is back does not say in its own log which transactions are the taker's.
    nothing_left: bool = False


NAMES = Plants.__struct_fields__


def plant(name: str | None) -> Plants:
    """The world's mistakes: none, or one."""
    return Plants() if name is None else Plants(**{name: True})
