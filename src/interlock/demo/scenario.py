"""What the demo sends and what must come of it: plain data, written by hand from the standard and the documentation.

Nothing of interlock is used here: what is expected must not come from what is tested.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from interlock.demo.messages import BAD_IBAN, Author, Message, Transfer

REFERENCE = "reference"
V1 = "v1"
FACES = (REFERENCE, V1)
#: The demo's two clients.
ALPHA, BETA = "alpha", "beta"

#: The server's configuration: large amounts wait for a consumer's decision, and one kind of message is in a hurry.
SETTINGS = """\
# Written by `interlock demo`.

[routes.hurried]
messages = ["pacs.009.001.09"]
decision = "consumer"
sla_seconds = 1.5
decide_within_seconds = 1

[routes.default]
decision_above = { EUR = 1000000 }
"""
HURRIED = "pacs.009.001.09"
LARGE = "2500000.00"
#: Ways of cases that end by the clock.
SLOW = frozenset({"wait", "only_id"})
#: What the server takes at most, as its documentation says.
BODY_BYTES_MAX = 1_048_576
#: Payments of a message that is longer than that, and which of them is bad.
_MANY, _BAD = 1_500, 700


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must come of a message."""

    #: HTTP status of the call that counts.
    http: int = 200
    #: Code of the refusal: `error_code` on the reference surface, `code` on v1.
    error: str | None = None
    #: Status on v1 in the end; None where no transaction came of it.
    status: str | None = "ACSC"
    #: ISO reason.
    reason: str | None = None
    #: Interlock's own code beside the ISO reason.
    code: str | None = None
    #: Definition of the answer; None where none is due.
    answer: str | None = None
    #: GrpSts of the answer.
    group: str | None = "ACSC"
    #: Status and reason of single payments, by ordinal; the others follow the whole.
    payments: Mapping[int, tuple[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that the demo does."""

    what: str
    face: str
    message: Message
    expected: Expected
    #: The way it goes; the runner has a function for each.
    how: str = "submit"
    client: str = ALPHA
    #: A message that goes before.
    other: Message | None = None


#: Which answer belongs to which message: the one of the same edition of the standard.
_ANSWERS = {
    "pacs.008.001.08": "pacs.002.001.10",
    "pacs.008.001.10": "pacs.002.001.12",
    "pacs.009.001.08": "pacs.002.001.10",
    "pacs.009.001.09": "pacs.002.001.11",
    "pain.001.001.09": "pain.002.001.10",
    # What names nothing that an answer could refer to.
    None: "admi.002.001.01",
}


def _settled(message: Message) -> Expected:
    """Released, with the answer of its kind."""
    return Expected(answer=_ANSWERS[message.definition])


def _rejected(message: Message, reason: str) -> Expected:
    """Rejected as a whole."""
    return Expected(status="RJCT", reason=reason, answer=_ANSWERS[message.definition], group="RJCT")


def _partly(message: Message, reasons: Mapping[int, str]) -> Expected:
    """Released but for some payments."""
    payments = {ordinal: ("RJCT", reason) for ordinal, reason in reasons.items()}
    return Expected(answer=_ANSWERS[message.definition], group="PART", payments=payments)


def _refused(http: int, error: str) -> Expected:
    """Refused at the door: nothing comes of it."""
    return Expected(http=http, error=error, status=None, answer=None)


def cases(author: Author) -> list[Case]:
    """Everything, in the order in which it is sent."""
    groups = (
        _everyday,
        _unusual,
        _unreadable,
        _against_schema,
        _against_rules,
        _duplicates,
        _repeated,
        _at_the_door,
        _unknown,
        _walls,
        _decisions,
        _late,
    )
    return [case for group in groups for case in group(author)]


def _on_both(what: str, make: Callable[[], Message], expect: Callable[[Message], Expected]) -> Iterator[Case]:
    """The same over both faces; a message each, for the same one twice would be a duplicate."""
    for face in FACES:
        message = make()
        yield Case(what=what, face=face, message=message, expected=expect(message))


def _on_v1(what: str, message: Message, expected: Expected) -> Case:
    return Case(what=what, face=V1, message=message, expected=expected)


def _everyday(author: Author) -> Iterator[Case]:
    """What most messages are, each bare and with a header, over both faces and by both clients."""
    makers: Mapping[str, Callable[[bool], Message]] = {
        "pacs.008 SEPA-like, single": lambda header: author.pacs008(header=header),
        "pacs.008 SEPA-like, five payments": lambda header: author.pacs008(
            *_small_amounts(author), control_sum="1002588.21", header=header
        ),
        "pacs.008 cross-border, single": lambda header: author.pacs008(
            *_dollars(author, "271.35"), style="crossborder", header=header
        ),
        "pacs.008 cross-border, three payments": lambda header: author.pacs008(
            *_dollars(author, "271.35", "9.99", "100000.00"), style="crossborder", header=header
        ),
        "pacs.009": lambda header: author.pacs009(header=header),
        "pain.001, two PmtInf blocks": lambda header: author.pain001(*_wages(author), header=header),
    }
    for what, make in makers.items():
        for header, how in ((False, "bare"), (True, "with BAH")):
            for face, client in zip(FACES, (ALPHA, BETA), strict=True):
                message = make(header)
                expected = _settled(message)
                yield Case(what=f"{what}, {how}", face=face, client=client, message=message, expected=expected)


def _small_amounts(author: Author) -> list[Transfer]:
    return [author.transfer(amount=amount) for amount in ("10.00", "2500.50", "0.01", "999999.99", "77.71")]


def _dollars(author: Author, *amounts: str) -> list[Transfer]:
    return [author.transfer(amount=amount, currency="USD", creditor_bic="EXMPUS33XXX") for amount in amounts]


def _wages(author: Author) -> list[list[Transfer]]:
    blocks = (("1850.00", "2100.00"), ("990.10", "45.00", "7.25"))
    return [[author.transfer(amount=amount) for amount in block] for block in blocks]


def _unusual(author: Author) -> Iterator[Case]:
    yen = author.pacs008(author.transfer(amount="15000", currency="JPY"), style="crossborder")
    yield _on_v1("pacs.008 in yen, no decimals", yen, _settled(yen))
    dinar = author.pacs008(author.transfer(amount="12.345", currency="KWD"), style="crossborder")
    yield _on_v1("pacs.008 in dinar, three decimals", dinar, _settled(dinar))
    newer = author.pacs008(version="10")
    yield _on_v1("pacs.008 of a newer version", newer, _settled(newer))
    plain = author.pacs008(author.transfer(uetr=None))
    yield _on_v1("pacs.008 without UETR", plain, _settled(plain))
    yield from _on_both("pacs.002: an answer, never answered", author.pacs002, lambda _: Expected(answer=None))


def _unreadable(author: Author) -> Iterator[Case]:
    """What cannot be read, or must not be: kept, and answered with admi.002."""
    kinds: Mapping[str, Callable[[Message], Message]] = {
        "malformed XML: cut off": lambda message: replace(message, content=message.content[:-200]),
        "malformed XML: tags do not match": lambda message: message.with_text("</GrpHdr>", "</GrpHead>"),
        "no XML at all": lambda message: replace(message, content=b"Please pay Ada 100 euros. Thank you!"),
        "wrong namespace": lambda message: message.with_text("urn:iso:std:iso:20022:tech:xsd:", "urn:example:"),
        "XML bomb": _bomb,
        "external entity": _external_entity,
    }
    for what, spoil in kinds.items():
        for face in FACES:
            message = spoil(author.pacs008()).unusable()
            yield Case(what=what, face=face, message=message, expected=_rejected(message, "FF01"))


def _bomb(message: Message) -> Message:
    """A billion laughs: ten levels of entities, each ten times the one below."""
    levels = "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10))
    declared = message.with_text("?>", f'?>\n<!DOCTYPE Document [<!ENTITY l0 "lol">{levels}]>')
    return declared.with_text("Invoice 2026-0042", "&l9;")


def _external_entity(message: Message) -> Message:
    """Asks for a file of the server's."""
    declared = message.with_text("?>", '?>\n<!DOCTYPE Document [<!ENTITY x SYSTEM "file:///etc/passwd">]>')
    return declared.with_text("Invoice 2026-0042", "&x;")


def _against_schema(author: Author) -> Iterator[Case]:
    def salaries() -> Message:
        return author.pain001([author.transfer()], [author.transfer()])

    kinds: Mapping[str, Callable[[], Message]] = {
        "schema: element missing": lambda: author.pacs008().with_text("      <ChrgBr>SLEV</ChrgBr>\n", ""),
        "schema: not a date": lambda: author.pacs008().with_text("<CreDtTm>", "<CreDtTm>yesterday, "),
        "schema: unknown element, with BAH": lambda: author.pacs008(header=True).with_text(
            "<ChrgBr>", "<Colour>red</Colour><ChrgBr>"
        ),
        "schema: no such code, pain.001": lambda: salaries().with_text(">TRF<", ">BARTER<"),
    }
    for what, make in kinds.items():
        yield from _on_both(what, make, lambda message: _rejected(message, "FF01"))


def _against_rules(author: Author) -> Iterator[Case]:
    new = author.transfer

    def bad() -> Transfer:
        return new(creditor_iban=BAD_IBAN)

    yield from _on_both("bad IBAN checksum, creditor", lambda: author.pacs008(bad()), lambda m: _rejected(m, "AC03"))
    debtor = author.pacs008(new(debtor_iban="DE89370400440532013001"))
    yield _on_v1("bad IBAN checksum, debtor", debtor, _rejected(debtor, "AC02"))
    yield from _on_both(
        "bad IBAN checksum, one payment of three",
        lambda: author.pacs008(new(), bad(), new(), header=True),
        lambda message: _partly(message, {2: "AC03"}),
    )
    yield from _on_both(
        "bad IBAN checksum, one of three, pain.001",
        lambda: author.pain001([bad(), new()], [new()]),
        lambda message: _partly(message, {1: "AC03"}),
    )
    yield from _on_both(
        "wrong control sum, pain.001",
        lambda: author.pain001([new()], [new()], control_sum="200.01"),
        lambda message: _rejected(message, "AM10"),
    )
    yield from _on_both(
        "wrong control sum, pacs.008",
        lambda: author.pacs008(new(), new(), control_sum="2000.00"),
        lambda message: _rejected(message, "AM10"),
    )
    yield from _on_both("wrong count", lambda: author.pacs008(new(), count=3), lambda m: _rejected(m, "AM19"))
    block = author.pain001([new()], [new(), new()], second_block_count=5)
    yield _on_v1("wrong count in the second PmtInf", block, _partly(block, {2: "AM20", 3: "AM20"}))
    yen = author.pacs008(new(amount="100.5", currency="JPY"), style="crossborder")
    yield _on_v1("half a yen", yen, _rejected(yen, "CH20"))
    nothing = author.pacs008(new(amount="0.00"))
    yield _on_v1("amount zero", nothing, _rejected(nothing, "AM01"))
    header = author.pacs008(header=True).with_text(">pacs.008.001.08<", ">pacs.009.001.08<")
    yield _on_v1("BAH names another message", header, _rejected(header, "FF01"))


def _duplicates(author: Author) -> Iterator[Case]:
    for face in FACES:
        message = author.pacs008()
        first = author.pacs008()
        again = author.pacs008(author.transfer(uetr=first.transfers[0].uetr))
        for what, before, after, reason in (
            ("duplicate message", message, message, "DU01"),
            ("duplicate UETR", first, again, "AM05"),
        ):
            yield Case(
                what=what, face=face, how="after", other=before, message=after, expected=_rejected(after, reason)
            )
    first = author.pacs008()
    mixed = author.pacs008(author.transfer(), author.transfer(uetr=first.transfers[0].uetr))
    yield Case(
        what="duplicate UETR, one payment of two",
        face=V1,
        how="after",
        other=first,
        message=mixed,
        expected=_partly(mixed, {2: "AM05"}),
    )


def _repeated(author: Author) -> Iterator[Case]:
    """A call made again because its answer was lost is no duplicate: same id or key, same transaction."""
    for face, what, http in ((REFERENCE, "id", 400), (V1, "Idempotency-Key", 422)):
        message = author.pacs008()
        yield Case(
            what=f"the same message again under its {what}",
            face=face,
            how="again",
            other=message,
            message=message,
            expected=_settled(message),
        )
        yield Case(
            what=f"another message under the same {what}",
            face=face,
            how="again",
            other=author.pacs008(),
            message=author.pacs008(),
            expected=_refused(http, "duplicate_mismatch"),
        )


def _at_the_door(author: Author) -> Iterator[Case]:
    small = author.pacs008()
    large = replace(small, content=small.content + b"\n" * BODY_BYTES_MAX)
    json = Message(content=b'{"FIToFICstmrCdtTrf": {}}')
    for what, message, on_reference, on_v1 in (
        ("an empty body", Message(content=b""), _refused(400, "empty_body"), _refused(400, "empty_body")),
        ("a JSON body", json, _refused(400, "not_xml"), _refused(415, "not_xml")),
    ):
        yield Case(what=what, face=REFERENCE, message=message, expected=on_reference)
        yield Case(what=what, face=V1, message=message, expected=on_v1)
    yield Case(what="an oversized body", face=REFERENCE, message=large, expected=_refused(413, "body_too_large"))
    # The other face takes what is too long for memory another way in.
    new = author.transfer
    many = author.pacs008(*(new(creditor_iban=BAD_IBAN) if number == _BAD else new() for number in range(1, _MANY + 1)))
    yield _on_v1(f"{_MANY} payments in one message, one of them bad", many, _partly(many, {_BAD: "AC03"}))


def _unknown(author: Author) -> Iterator[Case]:
    rows: Iterable[tuple[str, str, str, Expected]] = (
        ("unknown transaction id: message", REFERENCE, "unknown_id", _refused(400, "unknown_transaction")),
        ("unknown transaction id: answer", REFERENCE, "unknown_id_answer", _refused(400, "MISS")),
        ("unknown transaction id: status", V1, "unknown_id", _refused(404, "unknown_transaction")),
        ("no token", V1, "no_token", _refused(401, "unauthorised")),
    )
    for what, face, how, expected in rows:
        yield Case(what=what, face=face, how=how, message=author.pacs008(), expected=expected)


def _walls(author: Author) -> Iterator[Case]:
    """Beta names a transaction of alpha's, and must not learn that there is one."""
    rows: Iterable[tuple[str, str, str, Expected]] = (
        ("another client's id: status", V1, "others_status", _refused(404, "unknown_transaction")),
        ("another client's id: decision", V1, "others_decision", _refused(404, "unknown_transaction")),
        ("another client's id: answer", REFERENCE, "others_answer", _refused(400, "MISS")),
        ("another client's id: message", REFERENCE, "others_message", _refused(400, "unknown_transaction")),
    )
    for what, face, how, expected in rows:
        yield Case(what=what, face=face, how=how, client=BETA, message=author.pacs008(), expected=expected)


def _decisions(author: Author) -> Iterator[Case]:
    def large() -> Message:
        return author.pacs008(author.transfer(amount=LARGE), header=True)

    ways: Mapping[str, tuple[str, Callable[[Message], Expected]]] = {
        "held for decision, then accepted": ("accept", _settled),
        "held for decision, rejected by the consumer": ("reject", lambda m: _rejected(m, "FRAD")),
        "held for decision, then cancelled": ("cancel", lambda m: replace(_rejected(m, "DS02"), status="CANC")),
        "cancelled, redriven, then accepted": ("redrive", lambda m: replace(_settled(m), attempt=2)),
    }
    for what, (how, expect) in ways.items():
        for face in FACES:
            message = large()
            yield Case(what=what, face=face, how=how, message=message, expected=expect(message))
    for what, how in (
        ("cancel of what was released", "cancel_settled"),
        ("redrive of what was released", "redrive_settled"),
        ("rejection of what was accepted", "reject_accepted"),
    ):
        yield Case(what=what, face=V1, how=how, message=large(), expected=_refused(409, "illegal_decision"))


def _late(author: Author) -> Iterator[Case]:
    for face in FACES:
        late = author.pacs009(version="09")
        expected = replace(_rejected(late, "AB06"), code="TOUT")
        yield Case(what="timed out: nobody decided", face=face, how="wait", message=late, expected=expected)
    silent = Message(content=b"")
    yield Case(
        what="timed out: id without a message",
        face=REFERENCE,
        how="only_id",
        message=silent,
        expected=replace(_rejected(silent, "AB06"), code="TOUT"),
    )
