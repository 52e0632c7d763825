"""What the demo sends and what must come of it: plain data, written by hand from the standard and the documentation.

Nothing of interlock is used here: what is expected must not come from what is tested.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from interlock.demo.messages import BAD_IBAN, Author, Message

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
LARGE = "2500000.00"
BODY_BYTES_MAX = 1_048_576


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
    #: The way it is sent; the runner has a function for each.
    how: str = "submit"
    client: str = ALPHA
    #: Message that goes before, or with it.
    other: Message | None = None


_ANSWERS = {
    "pacs.008.001.08": "pacs.002.001.10",
    "pacs.008.001.10": "pacs.002.001.12",
    "pacs.009.001.08": "pacs.002.001.10",
    "pacs.009.001.09": "pacs.002.001.11",
    "pain.001.001.09": "pain.002.001.10",
}


def settled(message: Message, **more: object) -> Expected:
    """Released, with the answer of its kind."""
    expected = Expected(answer=_ANSWERS[message.definition or ""])
    return replace(expected, **more)  # type: ignore[arg-type]


def rejected(message: Message, reason: str, **more: object) -> Expected:
    """Rejected as a whole; what names nothing that an answer can refer to is answered with admi.002."""
    answer = "admi.002.001.01" if message.definition is None else _ANSWERS[message.definition]
    expected = Expected(status="RJCT", reason=reason, answer=answer, group="RJCT")
    return replace(expected, **more)  # type: ignore[arg-type]


def partly(message: Message, payments: Mapping[int, tuple[str, str]]) -> Expected:
    """Released but for some payments."""
    return settled(message, group="PART", payments=payments)


def refused(http: int, error: str) -> Expected:
    """Refused at the door: nothing comes of it."""
    return Expected(http=http, error=error, status=None, answer=None)


def cases(author: Author) -> list[Case]:
    """Everything, in the order in which it is sent."""
    groups = (_good, _unreadable, _invalid, _against_rules, _duplicates, _at_the_door, _walls, _decisions, _late)
    return [case for group in groups for case in group(author)]


def _both(what: str, messages: tuple[Message, Message], expected: list[Expected], **more: str) -> Iterator[Case]:
    """The same over both faces; a message each, for the same one twice would be a duplicate."""
    for face, message, wanted in zip(FACES, messages, expected, strict=True):
        yield Case(what=what, face=face, message=message, expected=wanted, **more)  # type: ignore[arg-type]


def _good(author: Author) -> Iterator[Case]:
    def several(currency: str = "EUR") -> list:  # type: ignore[type-arg]
        amounts = ("10.00", "2500.50", "0.01", "999999.99", "77.7")
        return [author.transfer(amount=amount, currency=currency) for amount in amounts]

    def dollars(**given: str) -> object:
        return author.transfer(**{"currency": "USD", "amount": "271.35", "creditor_bic": "EXMPUS33XXX", **given})

    def wages() -> list:  # type: ignore[type-arg]
        return [
            [author.transfer(amount="1850.00"), author.transfer(amount="2100.00")],
            [author.transfer(amount="990.10"), author.transfer(amount="45.00"), author.transfer(amount="7.25")],
        ]

    for face in FACES:
        other = BETA if face == V1 else ALPHA
        good = {
            "pacs.008 SEPA-like, single, bare": author.pacs008(),
            "pacs.008 SEPA-like, single, with BAH": author.pacs008(header=True),
            "pacs.008 SEPA-like, five payments, bare": author.pacs008(*several(), control_sum="1002588.20"),
            "pacs.008 SEPA-like, five payments, with BAH": author.pacs008(*several(), header=True),
            "pacs.008 cross-border, single, bare": author.pacs008(dollars(), style="crossborder"),  # type: ignore[arg-type]
            "pacs.008 cross-border, single, with BAH": author.pacs008(dollars(), style="crossborder", header=True),  # type: ignore[arg-type]
            "pacs.008 cross-border, three payments, with BAH": author.pacs008(
                dollars(),
                dollars(amount="9.99"),
                dollars(amount="100000.00"),
                style="crossborder",
                header=True,  # type: ignore[arg-type]
            ),
            "pacs.009, bare": author.pacs009(),
            "pacs.009, with BAH": author.pacs009(header=True),
            "pain.001, two PmtInf blocks, bare": author.pain001(*wages()),
            "pain.001, two PmtInf blocks, with BAH": author.pain001(*wages(), header=True),
        }
        for what, message in good.items():
            yield Case(what=what, face=face, message=message, expected=settled(message), client=other)
    yen = author.pacs008(author.transfer(amount="15000", currency="JPY"), style="crossborder")
    yield Case(what="pacs.008 in yen, without decimals", face=V1, message=yen, expected=settled(yen))
    dinar = author.pacs008(author.transfer(amount="12.345", currency="KWD"), style="crossborder")
    yield Case(what="pacs.008 in dinar, three decimals", face=V1, message=dinar, expected=settled(dinar))
    newer = author.pacs008(version="10")
    yield Case(what="pacs.008 of a newer version", face=V1, message=newer, expected=settled(newer))
    plain = author.pacs008(author.transfer(uetr=None))
    yield Case(what="pacs.008 without UETR", face=REFERENCE, message=plain, expected=settled(plain))
    report = author.pacs002()
    none_due = Expected(answer=None)
    yield from _both("pacs.002: an answer, never answered", (report, author.pacs002()), [none_due, none_due])


def _unreadable(author: Author) -> Iterator[Case]:
    def pair(make: object) -> tuple[Message, Message]:
        return make(author.pacs008()), make(author.pacs008())  # type: ignore[operator]

    def truncated(message: Message) -> Message:
        return replace(message.unusable(), content=message.content[:-200])

    def mismatched(message: Message) -> Message:
        return message.with_text("</GrpHdr>", "</GrpHead>").unusable()

    def foreign(message: Message) -> Message:
        return message.with_text("urn:iso:std:iso:20022:tech:xsd:", "urn:example:").unusable()

    def bomb(message: Message) -> Message:
        entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
        doctype = f'?>\n<!DOCTYPE Document [<!ENTITY l0 "lol">{entities}]>'
        return message.with_text("?>", doctype).with_text("Invoice 2026-0042", "&l9;").unusable()

    def external(message: Message) -> Message:
        doctype = '?>\n<!DOCTYPE Document [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        return message.with_text("?>", doctype).with_text("Invoice 2026-0042", "&x;").unusable()

    def prose(_: Message) -> Message:
        return Message(content=b"Please pay Ada 100 euros. Thank you!")

    kinds = {
        "malformed XML: cut off": truncated,
        "malformed XML: tags that do not match": mismatched,
        "no XML at all": prose,
        "wrong namespace": foreign,
        "XML bomb": bomb,
        "external entity": external,
    }
    for what, make in kinds.items():
        messages = pair(make)
        yield from _both(what, messages, [rejected(message, "FF01") for message in messages])


def _invalid(author: Author) -> Iterator[Case]:
    def missing() -> Message:
        return author.pacs008().with_text("      <ChrgBr>SLEV</ChrgBr>\n", "")

    def datatype() -> Message:
        return author.pacs008().with_text("<CreDtTm>", "<CreDtTm>yesterday, ")

    def unknown() -> Message:
        return author.pacs008(header=True).with_text("      <ChrgBr>", "      <Colour>red</Colour><ChrgBr>")

    def customer() -> Message:
        message = author.pain001([author.transfer()], [author.transfer()])
        return message.with_text("<PmtMtd>TRF</PmtMtd>", "<PmtMtd>BARTER</PmtMtd>")

    kinds = {
        "schema: element missing": missing,
        "schema: not a date": datatype,
        "schema: unknown element": unknown,
        "schema: no such code, pain.001": customer,
    }
    for what, make in kinds.items():
        messages = (make(), make())
        yield from _both(what, messages, [rejected(message, "FF01") for message in messages])


def _against_rules(author: Author) -> Iterator[Case]:
    creditor = (
        author.pacs008(author.transfer(creditor_iban=BAD_IBAN)),
        author.pacs008(author.transfer(creditor_iban=BAD_IBAN)),
    )
    yield from _both("bad IBAN checksum: creditor", creditor, [rejected(message, "AC03") for message in creditor])
    debtor = author.pacs008(author.transfer(debtor_iban="DE89370400440532013001"))
    yield Case(what="bad IBAN checksum: debtor", face=V1, message=debtor, expected=rejected(debtor, "AC02"))
    some = [
        author.pacs008(author.transfer(), author.transfer(creditor_iban=BAD_IBAN), author.transfer(), header=True)
        for _ in FACES
    ]
    yield from _both(
        "bad IBAN checksum: one payment of three",
        (some[0], some[1]),
        [partly(message, {2: ("RJCT", "AC03")}) for message in some],
    )
    wages = [
        author.pain001([author.transfer(creditor_iban=BAD_IBAN), author.transfer()], [author.transfer()]) for _ in FACES
    ]
    yield from _both(
        "bad IBAN checksum: one of three, pain.001",
        (wages[0], wages[1]),
        [partly(message, {1: ("RJCT", "AC03")}) for message in wages],
    )
    sums = (
        author.pain001([author.transfer()], [author.transfer()], control_sum="200.01"),
        author.pacs008(author.transfer(), author.transfer(), control_sum="2000.00"),
    )
    yield from _both("wrong control sum", sums, [rejected(message, "AM10") for message in sums])
    counts = (author.pacs008(author.transfer(), author.transfer(), count=3), author.pacs008(count=2, header=True))
    yield from _both("wrong count", counts, [rejected(message, "AM19") for message in counts])
    block = author.pain001([author.transfer()], [author.transfer(), author.transfer()], second_block_count=5)
    yield Case(
        what="wrong count in the second PmtInf",
        face=V1,
        message=block,
        expected=partly(block, {2: ("RJCT", "AM20"), 3: ("RJCT", "AM20")}),
    )
    yen = author.pacs008(author.transfer(amount="100.5", currency="JPY"), style="crossborder")
    yield Case(what="half a yen", face=V1, message=yen, expected=rejected(yen, "CH20"))
    nothing = author.pacs008(author.transfer(amount="0.00"))
    yield Case(what="amount zero", face=REFERENCE, message=nothing, expected=rejected(nothing, "AM01"))
    header = author.pacs008(header=True).with_text(
        "<MsgDefIdr>pacs.008.001.08</MsgDefIdr>", "<MsgDefIdr>pacs.009.001.08</MsgDefIdr>"
    )
    yield Case(what="BAH names another message", face=V1, message=header, expected=rejected(header, "FF01"))


def _duplicates(author: Author) -> Iterator[Case]:
    for face in FACES:
        message = author.pacs008()
        yield Case(
            what="duplicate message",
            face=face,
            how="after_other",
            message=message,
            other=message,
            expected=rejected(message, "DU01"),
        )
        first = author.pacs008()
        again = author.pacs008(author.transfer(uetr=first.transfers[0].uetr))
        yield Case(
            what="duplicate UETR",
            face=face,
            how="after_other",
            message=again,
            other=first,
            expected=rejected(again, "AM05"),
        )
    first = author.pacs008()
    mixed = author.pacs008(author.transfer(), author.transfer(uetr=first.transfers[0].uetr))
    yield Case(
        what="duplicate UETR: one payment of two",
        face=V1,
        how="after_other",
        message=mixed,
        other=first,
        expected=partly(mixed, {2: ("RJCT", "AM05")}),
    )
    same = author.pacs008()
    yield Case(what="the same /inbox call again", face=REFERENCE, how="again", message=same, expected=settled(same))
    yield Case(
        what="another message under the same id",
        face=REFERENCE,
        how="again",
        message=author.pacs008(),
        other=author.pacs008(),
        expected=refused(400, "duplicate_mismatch"),
    )
    repeated = author.pacs008()
    yield Case(
        what="the same Idempotency-Key again", face=V1, how="again", message=repeated, expected=settled(repeated)
    )
    yield Case(
        what="another message with the same key",
        face=V1,
        how="again",
        message=author.pacs008(),
        other=author.pacs008(),
        expected=refused(422, "duplicate_mismatch"),
    )


def _at_the_door(author: Author) -> Iterator[Case]:
    nothing = Message(content=b"")
    yield from _both("an empty body", (nothing, nothing), [refused(400, "empty_body"), refused(400, "empty_body")])
    json = Message(content=b'{"FIToFICstmrCdtTrf": {}}')
    yield from _both("a JSON body", (json, json), [refused(400, "not_xml"), refused(415, "not_xml")])
    small = author.pacs008()
    large = replace(small, content=small.content + b"\n" * BODY_BYTES_MAX)
    yield from _both("an oversized body", (large, large), [refused(413, "body_too_large")] * 2)
    message = author.pacs008()
    yield Case(
        what="unknown transaction id: message",
        face=REFERENCE,
        how="unknown_id",
        message=message,
        expected=refused(400, "unknown_transaction"),
    )
    yield Case(
        what="unknown transaction id: answer",
        face=REFERENCE,
        how="unknown_id_answer",
        message=message,
        expected=refused(400, "MISS"),
    )
    yield Case(
        what="unknown transaction id",
        face=V1,
        how="unknown_id",
        message=message,
        expected=refused(404, "unknown_transaction"),
    )
    yield Case(what="no token", face=V1, how="no_token", message=message, expected=refused(401, "unauthorised"))


def _walls(author: Author) -> Iterator[Case]:
    for how, face, expected in (
        ("others_read", V1, refused(404, "unknown_transaction")),
        ("others_decision", V1, refused(404, "unknown_transaction")),
        ("others_answer", REFERENCE, refused(400, "MISS")),
        ("others_message", REFERENCE, refused(400, "unknown_transaction")),
    ):
        what = f"another client's id: {how.removeprefix('others_')}"
        yield Case(what=what, face=face, how=how, client=BETA, message=author.pacs008(), expected=expected)


def _decisions(author: Author) -> Iterator[Case]:
    def large() -> Message:
        return author.pacs008(author.transfer(amount=LARGE), header=True)

    for face in FACES:
        accepted, refusal, cancelled, redriven = large(), large(), large(), large()
        yield Case(
            what="held for decision, accepted", face=face, how="accept", message=accepted, expected=settled(accepted)
        )
        yield Case(
            what="held for decision, rejected by the consumer",
            face=face,
            how="reject",
            message=refusal,
            expected=rejected(refusal, "FRAD"),
        )
        yield Case(
            what="held for decision, cancelled",
            face=face,
            how="cancel",
            message=cancelled,
            expected=rejected(cancelled, "DS02", status="CANC"),
        )
        yield Case(
            what="cancelled, redriven, accepted",
            face=face,
            how="redrive",
            message=redriven,
            expected=settled(redriven, attempt=2),
        )
    for how, what in (
        ("cancel_settled", "cancel of what was released"),
        ("redrive_settled", "redrive of what was released"),
        ("reject_accepted", "reject of what was accepted"),
    ):
        yield Case(what=what, face=V1, how=how, message=large(), expected=refused(409, "illegal_decision"))


def _late(author: Author) -> Iterator[Case]:
    late = [author.pacs009(version="09") for _ in FACES]
    yield from _both(
        "timed out: nobody decided",
        (late[0], late[1]),
        [rejected(message, "AB06", code="TOUT") for message in late],
        how="wait",
    )
    silent = Message(content=b"")
    yield Case(
        what="timed out: id without a message",
        face=REFERENCE,
        how="only_id",
        message=silent,
        expected=rejected(silent, "AB06", code="TOUT"),
    )
