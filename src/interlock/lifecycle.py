"""The life of a transaction: which event leads from which state to which. Nothing else assigns a status.

Every rule about statuses lives in `TABLE` below; the documentation's diagram is drawn from it and every cell is tested.
The states are the columns of the design's table: an ISO status, split where the rules differ by cause or facet.

    (none) ─▶ ACCP ─▶ ACTC ─▶ ACSP ─▶ ENDING ─▶ END          the way of a message
                        │ ▲     ▲        ▲
                        ▼ │     │        │ RJCT↓ CANC↓ from every state before
                PDNG/check · PDNG/decision · PDNG/fault
                               ACSP ─▶ HANDING ─▶ HANDED ─▶ PDNG/unknown      where there is a downstream

An end takes two steps: the intent (ENDING, under the epoch) and the fact (END). Where no peer can take the region over
both are one commit and one event, `Ended`, which names what caused it. Handing over likewise, but its fact is always a
commit of its own, before the first byte leaves: from then on only the downstream's answer ends the transaction.

Some payments of a transaction may end by themselves, likewise in two steps: the intent is the consumer's decision on
them, which nothing replaces any more, and the fact is `PaymentsEnded`. The transaction's own state stays (`apart.py`).
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from interlock.errors import IllegalTransition
from interlock.iso20022.codes import HeldCause, Status


class State(StrEnum):
    """Where a transaction is: a column of the table."""

    #: Not there yet.
    NONE = "none"
    #: Id issued, message awaited. Left by Received, the deadline or a cancel; a crash leaves it so.
    ACCP = "ACCP"
    #: Message durable, technically valid. Left by the process stage; after a crash the next claimant runs that again.
    ACTC = "ACTC"
    #: An outside answer is due. Left by that answer, the check's deadline or a cancel.
    HELD_CHECK = "PDNG/check"
    #: A consumer must decide. Left by the decision or its deadline.
    HELD_DECISION = "PDNG/decision"
    #: Our own failure. Left by an operator's retry, a cancel or the deadline.
    HELD_FAULT = "PDNG/fault"
    #: All checks and decisions passed. Left by the release stage; after a crash the next claimant runs that again.
    ACSP = "ACSP"
    #: An end is intended and a peer's ack awaited; shows its former status.
    ENDING = "ending"
    #: A hand-over is intended and a peer's ack awaited; shows ACSP.
    HANDING = "handing"
    #: Handed to the downstream; shows ACSP. Left by the downstream's answer, else held as unknown.
    HANDED = "handed"
    #: Handed over, or about to be, and no answer. Left by the downstream's answer or a resolution with evidence.
    HELD_UNKNOWN = "PDNG/unknown"
    #: ACSC, RJCT or CANC. Nothing leaves it.
    END = "end"


class EventKind(StrEnum):
    """What can happen to a transaction: a row of the table."""

    ID_ISSUED = "IdIssued"
    RECEIVED = "Received"
    REFUSED = "Refused"
    HELD_FOR_CHECK = "HeldForCheck"
    HELD_FOR_DECISION = "HeldForDecision"
    PASSED = "Passed"
    CHECK_ANSWERED = "CheckAnswered"
    #: The outside answer was a refusal.
    CHECK_REFUSED = "CheckRefused"
    #: The first of four eyes.
    APPROVED = "Approved"
    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    CANCELLED = "Cancelled"
    #: The consumer rejected some of its payments; others live.
    PAYMENTS_REJECTED = "PaymentsRejected"
    PAYMENTS_CANCELLED = "PaymentsCancelled"
    #: The end of some of its payments is a fact.
    PAYMENTS_ENDED = "PaymentsEnded"
    STAGE_FAULT = "StageFault"
    RETRIED = "Retried"
    DEADLINE = "Deadline"
    #: The deadline of a check whose route says that no answer counts as a pass.
    DEADLINE_OPEN = "DeadlineOpen"
    SETTLED = "Settled"
    HAND_OVER_INTENDED = "HandOverIntended"
    HANDED_OVER = "HandedOver"
    ENDED = "Ended"
    PEER_UNCONFIRMED = "PeerUnconfirmed"
    DOWNSTREAM_INTERIM = "DownstreamInterim"
    DOWNSTREAM_YES = "DownstreamYes"
    DOWNSTREAM_NO = "DownstreamNo"
    #: A region took over; the route's rule says cancel (or redrive: a cancel, and a new attempt).
    TAKEN_OVER_CANCEL = "TakenOverCancel"
    #: A region took over; the route's rule says hold for a decision.
    TAKEN_OVER_HOLD = "TakenOverHold"
    #: The home came back and had handed the payment over: it owns it again.
    HOME_RETURNED_HANDED = "HomeReturnedHanded"
    #: The home came back and had not handed the payment over.
    HOME_RETURNED_UNHANDED = "HomeReturnedUnhanded"
    RESOLVED_SETTLED = "ResolvedSettled"
    RESOLVED_REJECTED = "ResolvedRejected"
    REDRIVEN = "Redriven"
    #: Another region has ended it otherwise, or settled the same payment: both ends are kept.
    ENDED_TWICE = "EndedTwice"


class Effect(StrEnum):
    """What a cell of the table does besides, or instead of, a plain move."""

    #: The state changes to the move's target.
    GO = "go"
    #: Recorded; the state stays.
    STAY = "="
    #: Recorded and flagged for the operations desk; the state stays.
    FLAG = "rec"
    #: Recorded, flagged and alarmed: history disagrees with the world.
    INCIDENT = "incident"
    #: An end is intended: ENDING, or END at once where no peer can take over.
    END = "↓"
    #: The end of some payments is intended, or a fact at once where no peer can take over; the state stays.
    APART = "apart"


class Move(NamedTuple):
    """One cell: what an event does in a state."""

    effect: Effect
    #: The state that follows, for GO.
    to: State | None = None
    #: The end that is intended, for END.
    end: Status | None = None


def _go(to: State) -> Move:
    return Move(Effect.GO, to=to)


def _end(status: Status) -> Move:
    return Move(Effect.END, end=status)


STAY = Move(Effect.STAY)
FLAG = Move(Effect.FLAG)
INCIDENT = Move(Effect.INCIDENT)
APART = Move(Effect.APART)
REJECT = _end(Status.RJCT)
CANCEL = _end(Status.CANC)
SETTLE = _end(Status.ACSC)

_S = State
_E = EventKind
_BEFORE_RELEASE = (_S.ACCP, _S.ACTC, _S.HELD_CHECK, _S.HELD_DECISION, _S.HELD_FAULT, _S.ACSP)
#: Its payments are known, and none of them is on its way out.
_DIVISIBLE = (_S.ACTC, _S.HELD_CHECK, _S.HELD_DECISION, _S.HELD_FAULT, _S.ACSP)
_STARTED = tuple(state for state in State if state is not _S.NONE)
_RECEIVED = tuple(state for state in _STARTED if state is not _S.ACCP)


def _row(*cells: tuple[State | tuple[State, ...], Move]) -> Mapping[State, Move]:
    """A row of the table; of two cells for one state the later stands, so exceptions follow the rule."""
    row: dict[State, Move] = {}
    for states, move in cells:
        for state in (states,) if isinstance(states, State) else states:
            row[state] = move
    return MappingProxyType(row)


#: The table. A state that a row does not name is illegal there: nothing is written, the caller gets a conflict.
TABLE: Mapping[EventKind, Mapping[State, Move]] = MappingProxyType(
    {
        _E.ID_ISSUED: _row((_S.NONE, _go(_S.ACCP))),
        # A second body under one id is legal only if it is the same; that comparison is the receive stage's.
        _E.RECEIVED: _row((_RECEIVED, STAY), (_S.ACCP, _go(_S.ACTC))),
        _E.REFUSED: _row(((_S.ACCP, _S.ACTC, _S.HELD_CHECK, _S.HELD_FAULT, _S.ACSP), REJECT)),
        _E.HELD_FOR_CHECK: _row((_S.ACTC, _go(_S.HELD_CHECK)), (_S.HELD_CHECK, STAY)),
        _E.HELD_FOR_DECISION: _row(((_S.ACTC, _S.HELD_CHECK), _go(_S.HELD_DECISION)), (_S.HELD_DECISION, STAY)),
        _E.PASSED: _row(((_S.ACTC, _S.HELD_CHECK), _go(_S.ACSP))),
        _E.CHECK_ANSWERED: _row((_RECEIVED, FLAG), ((_S.ACTC, _S.HELD_CHECK), STAY)),
        _E.CHECK_REFUSED: _row((_RECEIVED, FLAG), (_S.ACTC, STAY), ((_S.HELD_CHECK, _S.HELD_DECISION), REJECT)),
        _E.APPROVED: _row((_S.HELD_DECISION, STAY)),
        _E.ACCEPTED: _row((_S.HELD_DECISION, _go(_S.ACSP))),
        _E.REJECTED: _row((_S.HELD_DECISION, REJECT)),
        _E.CANCELLED: _row((_BEFORE_RELEASE, CANCEL)),
        _E.PAYMENTS_REJECTED: _row((_S.HELD_DECISION, APART)),
        _E.PAYMENTS_CANCELLED: _row((_DIVISIBLE, APART)),
        # In ENDING it waits for the end of the whole, with which all that is intended becomes a fact.
        _E.PAYMENTS_ENDED: _row(((*_DIVISIBLE, _S.HANDING, _S.HANDED, _S.HELD_UNKNOWN), STAY)),
        _E.STAGE_FAULT: _row(
            ((_S.ACCP, _S.ACTC, _S.HELD_CHECK, _S.ACSP), _go(_S.HELD_FAULT)),
            ((_S.HELD_DECISION, _S.HELD_FAULT, _S.HELD_UNKNOWN), STAY),
            ((_S.ENDING, _S.HANDING, _S.END), FLAG),
            (_S.HANDED, _go(_S.HELD_UNKNOWN)),
        ),
        _E.RETRIED: _row((_S.HELD_FAULT, _go(_S.ACTC))),
        # In ENDING a deadline replaces the intent to release by one to reject; any other intent stays (`replaces`).
        _E.DEADLINE: _row(
            (_BEFORE_RELEASE, REJECT),
            ((_S.ENDING, _S.HANDING), REJECT),
            (_S.HANDED, _go(_S.HELD_UNKNOWN)),
            (_S.HELD_UNKNOWN, STAY),
            (_S.END, FLAG),
        ),
        _E.DEADLINE_OPEN: _row((_S.HELD_CHECK, _go(_S.ACSP))),
        _E.SETTLED: _row((_S.ACSP, SETTLE)),
        _E.HAND_OVER_INTENDED: _row((_S.ACSP, _go(_S.HANDING)), (_S.HANDING, STAY)),
        # Again in HANDED: sent once more, with the same id and the possible-duplicate flag.
        _E.HANDED_OVER: _row((_S.HANDING, _go(_S.HANDED)), (_S.HANDED, STAY)),
        _E.ENDED: _row((_S.ENDING, _go(_S.END)), (_S.END, STAY)),
        _E.PEER_UNCONFIRMED: _row(((_S.ENDING, _S.HANDING), STAY)),
        _E.DOWNSTREAM_INTERIM: _row((tuple(State), FLAG), ((_S.HANDED, _S.HELD_UNKNOWN), STAY)),
        _E.DOWNSTREAM_YES: _row((tuple(State), INCIDENT), ((_S.HANDED, _S.HELD_UNKNOWN), SETTLE)),
        _E.DOWNSTREAM_NO: _row((tuple(State), INCIDENT), ((_S.HANDED, _S.HELD_UNKNOWN), REJECT)),
        _E.TAKEN_OVER_CANCEL: _row(
            (_BEFORE_RELEASE, CANCEL),
            (_S.ENDING, _go(_S.END)),
            ((_S.HANDING, _S.HANDED), _go(_S.HELD_UNKNOWN)),
            (_S.HELD_UNKNOWN, STAY),
        ),
        _E.TAKEN_OVER_HOLD: _row(
            (_BEFORE_RELEASE, _go(_S.HELD_DECISION)),
            (_S.ACCP, CANCEL),
            (_S.ENDING, _go(_S.END)),
            ((_S.HANDING, _S.HANDED), _go(_S.HELD_UNKNOWN)),
            (_S.HELD_UNKNOWN, STAY),
        ),
        _E.HOME_RETURNED_HANDED: _row((_S.HELD_UNKNOWN, STAY), (_S.END, FLAG)),
        _E.HOME_RETURNED_UNHANDED: _row((_S.HELD_UNKNOWN, CANCEL), (_S.END, FLAG)),
        _E.RESOLVED_SETTLED: _row((_S.HELD_UNKNOWN, SETTLE)),
        _E.RESOLVED_REJECTED: _row((_S.HELD_UNKNOWN, REJECT)),
        # Which ends may be driven again, and with which reasons, is `redrive.py`'s.
        _E.REDRIVEN: _row((_S.END, STAY)),
        _E.ENDED_TWICE: _row((_S.END, INCIDENT)),
    }
)

_STATUS = {
    _S.ACCP: Status.ACCP,
    _S.ACTC: Status.ACTC,
    _S.HELD_CHECK: Status.PDNG,
    _S.HELD_DECISION: Status.PDNG,
    _S.HELD_FAULT: Status.PDNG,
    _S.HELD_UNKNOWN: Status.PDNG,
    _S.ACSP: Status.ACSP,
    _S.HANDING: Status.ACSP,
    _S.HANDED: Status.ACSP,
}
_CAUSE = {
    _S.HELD_CHECK: HeldCause.CHECK,
    _S.HELD_DECISION: HeldCause.DECISION,
    _S.HELD_FAULT: HeldCause.FAULT,
    _S.HELD_UNKNOWN: HeldCause.UNKNOWN,
}


_DOWNSTREAM_VERDICT = {_E.DOWNSTREAM_YES: Status.ACSC, _E.DOWNSTREAM_NO: Status.RJCT}


class Standing(NamedTuple):
    """All that the lifecycle knows of a transaction: enough to judge the next event."""

    state: State = State.NONE
    #: What is shown; None only before the first event.
    status: Status | None = None
    #: The end intended (ENDING) or reached (END).
    end: Status | None = None

    @property
    def cause(self) -> HeldCause | None:
        """Why it is held, if it is."""
        return _CAUSE.get(self.state)

    @property
    def is_final(self) -> bool:
        """True once nothing can follow."""
        return self.state is State.END


class Step(NamedTuple):
    """What an event did: where the transaction stands now, and with which effect it got there."""

    standing: Standing
    effect: Effect


def judge(standing: Standing, kind: EventKind) -> Move | None:
    """The cell of the table that applies; None where the event is illegal."""
    move = TABLE[kind].get(standing.state)
    if kind is EventKind.DEADLINE and standing.state is State.ENDING and standing.end is not Status.ACSC:
        return STAY  # only an intent to release is replaced; a rejection or cancel that is under way stays
    if standing.state is State.END and _DOWNSTREAM_VERDICT.get(kind) is standing.end:
        return FLAG  # a late answer that agrees with the end is no incident
    return move


def apply(standing: Standing, kind: EventKind, *, alone: bool, cancelled: bool = False) -> Step:
    """Where a transaction stands after an event.

    alone: no peer can take over, so an intended end is a fact at once; the event recorded is then `Ended`.
    cancelled: some of its payments were cancelled by themselves. RJCT says that all were rejected, so that what would
    end so ends as CANC.
    Raises IllegalTransition where the table has no such move: callers ask `judge` first where the world may say no.
    """
    move = judge(standing, kind)
    if move is None:
        raise IllegalTransition(f"{kind} is illegal in {standing.state}")
    match move.effect:
        case Effect.END:
            assert move.end is not None  # the table's own shape, tested
            end = Status.CANC if cancelled and move.end is Status.RJCT else move.end
            if alone:
                return Step(Standing(State.END, end, end), Effect.END)
            return Step(Standing(State.ENDING, standing.status, end), Effect.END)
        case Effect.GO:
            assert move.to is not None  # the table's own shape, tested
            if move.to is State.END:
                return Step(Standing(State.END, standing.end, standing.end), Effect.GO)
            return Step(Standing(move.to, _STATUS[move.to]), Effect.GO)
        case _:
            return Step(standing, move.effect)
