"""The ways in which the demo's cases go: a function for each `how` of the scenario."""

from collections.abc import Callable, Mapping

from interlock.demo.desk import Call, Desk
from interlock.demo.judging import Got
from interlock.demo.reading import read
from interlock.demo.scenario import ALPHA, HURRIED, REFERENCE, Case

#: Longer than any clock of the demo's routes.
_PATIENCE_SECONDS = 8.0
_NO_SUCH_ID = "01980000-0000-7000-8000-000000000000"

Desks = Mapping[str, Desk]


def play(case: Case, desks: Desks) -> Got:
    """Send a case on its way and look at what came of it."""
    call = _WAYS[case.how](case, desks)
    if case.expected.status is None or call.transaction_id is None:
        return Got(call=call)
    desk = desks[case.client]
    transaction = desk.transaction(call.transaction_id, seconds=_PATIENCE_SECONDS)
    if not transaction["final"]:
        return Got(call=call, transaction=transaction)
    answer = desk.answer(case.face, call.transaction_id)
    again = desk.answer(case.face, call.transaction_id)
    facts = None if answer is None else read(answer)
    return Got(call=call, transaction=transaction, answer=facts, repeatable=answer == again)


def _submit(case: Case, desks: Desks) -> Call:
    return desks[case.client].submit(case.face, case.message)


def _after(case: Case, desks: Desks) -> Call:
    """After another message, in a transaction of its own."""
    assert case.other is not None  # the scenario has one for this way
    desks[case.client].submit(case.face, case.other)
    return _submit(case, desks)


def _again(case: Case, desks: Desks) -> Call:
    """The call made twice under one id or key; `other` is what it held the first time."""
    assert case.other is not None  # the scenario has one for this way
    desk = desks[case.client]
    if case.face == REFERENCE:
        transaction_id = desk.new_id(case.message.definition)
        desk.inbox(transaction_id, case.other)
        return desk.inbox(transaction_id, case.message)
    key = f"key-of-{case.other.message_id}"
    first = desk.messages(case.other, key=key)
    second = desk.messages(case.message, key=key)
    if second.error is None and second.transaction_id != first.transaction_id:
        return Call(http=second.http, error="another transaction")
    return second


def _held(case: Case, desks: Desks) -> str:
    """Id of a transaction that waits for the decision; over v1 that is a 202."""
    call = _submit(case, desks)
    assert call.transaction_id is not None  # it was taken
    return call.transaction_id


def _accept(case: Case, desks: Desks) -> Call:
    transaction_id = _held(case, desks)
    desks[case.client].decide(transaction_id, "accept", by="alice")
    return desks[case.client].decide(transaction_id, "accept", by="alice")  # the same again is no mistake


def _reject(case: Case, desks: Desks) -> Call:
    return desks[case.client].decide(_held(case, desks), "reject", reason="FRAD", note="looks wrong", by="bob")


def _cancel(case: Case, desks: Desks) -> Call:
    return desks[case.client].decide(_held(case, desks), "cancel")


def _redrive(case: Case, desks: Desks) -> Call:
    desk, transaction_id = desks[case.client], _held(case, desks)
    desk.decide(transaction_id, "cancel")
    redriven = desk.decide(transaction_id, "redrive")
    if redriven.transaction_id is None or redriven.transaction_id == transaction_id:
        return redriven
    return desk.decide(redriven.transaction_id, "accept", by="alice")


def _after_acceptance(decision: str, **more: str) -> Callable[[Case, Desks], Call]:
    def way(case: Case, desks: Desks) -> Call:
        transaction_id = _held(case, desks)
        desks[case.client].decide(transaction_id, "accept")
        return desks[case.client].decide(transaction_id, decision, **more)

    return way


def _wait(case: Case, desks: Desks) -> Call:
    """Nobody decides. What v1 says at once, that it is under way (202), is told apart by the case itself."""
    transaction_id = _held(case, desks)
    desks[case.client].transaction(transaction_id, seconds=_PATIENCE_SECONDS)
    return desks[case.client].status(transaction_id)


def _only_id(case: Case, desks: Desks) -> Call:
    transaction_id = desks[case.client].new_id(HURRIED)
    return Call(http=200, transaction_id=transaction_id)


def _unknown_id(case: Case, desks: Desks) -> Call:
    if case.face == REFERENCE:
        return desks[case.client].inbox(_NO_SUCH_ID, case.message)
    return desks[case.client].status(_NO_SUCH_ID)


def _others(look: Callable[[Desk, str, Case], Call]) -> Callable[[Case, Desks], Call]:
    """With the id of a transaction that belongs to alpha."""

    def way(case: Case, desks: Desks) -> Call:
        call = desks[ALPHA].submit(case.face, case.message)
        assert call.transaction_id is not None  # it was taken
        return look(desks[case.client], call.transaction_id, case)

    return way


_WAYS: Mapping[str, Callable[[Case, Desks], Call]] = {
    "submit": _submit,
    "after": _after,
    "again": _again,
    "accept": _accept,
    "reject": _reject,
    "cancel": _cancel,
    "redrive": _redrive,
    "cancel_settled": _after_acceptance("cancel"),
    "redrive_settled": _after_acceptance("redrive"),
    "reject_accepted": _after_acceptance("reject", reason="AC04"),
    "wait": _wait,
    "only_id": _only_id,
    "unknown_id": _unknown_id,
    "unknown_id_answer": lambda case, desks: desks[case.client].outbox(_NO_SUCH_ID),
    "no_token": lambda case, desks: desks[case.client].messages(case.message, token=False),
    "others_status": _others(lambda desk, transaction_id, _: desk.status(transaction_id)),
    "others_decision": _others(lambda desk, transaction_id, _: desk.decide(transaction_id, "cancel")),
    "others_answer": _others(lambda desk, transaction_id, _: desk.outbox(transaction_id)),
    "others_message": _others(lambda desk, transaction_id, case: desk.inbox(transaction_id, case.message)),
}


def known() -> frozenset[str]:
    """Every `how` there is."""
    return frozenset(_WAYS)
