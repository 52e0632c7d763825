"""For each rule at least one message that breaks it and one that comes near and does not. Synthetic throughout."""

from pathlib import Path
from typing import Any, Final, NamedTuple

from lxml import etree
from msgspec.structs import replace

from interlock.iso20022.envelopes import read
from interlock.iso20022.fields import extract
from interlock.iso20022.original import Agent, Original
from tests.enquiries import Ids, request

SAMPLES: Final = Path(__file__).parents[2] / "samples"
FILES: Final = ("pacs.008.001.08.xml", "pacs.008.001.08_bah.xml", "pacs.009.001.08_bah.xml", "pain.001.001.09.xml")


class Message(NamedTuple):
    """What the rules look at."""

    original: Original
    document: etree._Element | None = None
    header: etree._Element | None = None


def parsed(body: bytes) -> Message:
    envelope = read(body)
    return Message(extract(envelope), envelope.document, envelope.header)


def sample(file: str) -> Message:
    return parsed((SAMPLES / file).read_bytes())


def edited(*edits: tuple[str, str], file: str = FILES[1]) -> Message:
    """A sample with texts replaced, the first occurrence of each; what is looked for must be there."""
    text = (SAMPLES / file).read_text("utf-8")
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return parsed(text.encode())


THREE: Final = sample(FILES[0]).original
HEADED: Final = sample(FILES[1]).original
BLOCKS: Final = sample(FILES[3]).original


def payment(ordinal: int = 2, *, of: Original = THREE, **changes: Any) -> Message:
    """The fields of a message with one payment changed, without its document."""
    payments = [replace(one, **changes) if one.ordinal == ordinal else one for one in of.payments]
    return Message(replace(of, payments=tuple(payments)))


def message(of: Original = THREE, **changes: Any) -> Message:
    return Message(replace(of, **changes))


def header(**changes: Any) -> Message:
    assert HEADED.header is not None
    return Message(replace(HEADED, header=replace(HEADED.header, **changes)))


def block(**changes: Any) -> Message:
    return Message(replace(BLOCKS, groups=(replace(BLOCKS.groups[0], **changes), *BLOCKS.groups[1:])))


def recall(control: str, one: Ids | None = None, *, whole: bool = False) -> Message:
    """A camt.056 about two payments, or two messages as a whole, of 250.00 each, with this in its CtrlData."""
    text = request("camt.056.001.08", one or Ids(), Ids(), whole=whole).decode()
    assert "<Undrlyg>" in text
    return parsed(text.replace("<Undrlyg>", f"<CtrlData>{control}</CtrlData><Undrlyg>", 1).encode())


def returned(debtor: str) -> Message:
    """A return whose chain names this as its debtor."""
    creditor = "<Agt><FinInstnId><BICFI>EXMPDEFF</BICFI></FinInstnId></Agt>"
    return given_back(f"<RtrChain><Dbtr>{debtor}</Dbtr><Cdtr>{creditor}</Cdtr></RtrChain>")


def given_back(more: str = "", *, paid: str = "", amount: str = "1.00") -> Message:
    """A return of so many euros. paid: the amount of the payment, as an element."""
    text = (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.004.001.09"><PmtRtr><GrpHdr><MsgId>M</MsgId></GrpHdr>'
        f'<TxInf><RtrId>R</RtrId>{paid}<RtrdIntrBkSttlmAmt Ccy="EUR">{amount}</RtrdIntrBkSttlmAmt>'
        f"{more}</TxInf></PmtRtr></Document>"
    )
    return parsed(text.encode())


def report(content: str) -> Message:
    """A status report on one payment."""
    text = (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.002.001.10"><FIToFIPmtStsRpt>'
        "<GrpHdr><MsgId>M</MsgId><CreDtTm>2026-11-22T10:00:00Z</CreDtTm></GrpHdr>"
        f"<TxInfAndSts>{content}</TxInfAndSts></FIToFIPmtStsRpt></Document>"
    )
    return parsed(text.encode())


def _because(code: str, more: str = "", name: str = "StsRsnInf") -> str:
    return f"<{name}><Rsn><Cd>{code}</Cd></Rsn>{more}</{name}>"


_WHY: Final = "<AddtlInf>Words</AddtlInf>"
_PAID: Final = '<OrgnlIntrBkSttlmAmt Ccy="{}">1.00</OrgnlIntrBkSttlmAmt>'


def settled_on(day: str, created: str = "2026-11-22T10:00:00Z", **changes: Any) -> Message:
    """A message of one payment."""
    made = message(HEADED, created_at=created)
    return payment(1, of=made.original, settlement_date=day, **changes)


def grouped(**changes: Any) -> Original:
    """Without agents in the payments, as where the group header names them for all."""
    payments = tuple(replace(one, instructing_agent=None, instructed_agent=None) for one in THREE.payments)
    return replace(THREE, payments=payments, **changes)


#: A return of two payments, of which the fields are enough.
RETURN: Final = replace(
    THREE,
    definition="pacs.004.001.09",
    payments=tuple(
        replace(one, xpath=f"/Document/PmtRtr/TxInf[{one.ordinal}]", own_id=f"R{one.ordinal}")
        for one in THREE.payments[:2]
    ),
    number_of_transactions="2",
)

_BIC: Final = "<BICFI>EXMPFRPPXXX</BICFI>"
_CREDITOR_AGENT: Final = f"<CdtrAgt>\n        <FinInstnId>\n          {_BIC}"
_DEBTOR_AGENT: Final = "<DbtrAgt>\n        <FinInstnId>\n          <BICFI>EXMPDEFFXXX</BICFI>"
_CLEARING: Final = "<ClrSysMmbId><ClrSysId><Cd>{}</Cd></ClrSysId><MmbId>{}</MmbId></ClrSysMmbId>"
_USTRD: Final = "<Ustrd>Invoice 2026-1, café &amp; bakery</Ustrd>"
_REFERENCE: Final = "<Strd><CdtrRefInf><Tp><CdOrPrtry>{}</CdOrPrtry></Tp><Ref>{}</Ref></CdtrRefInf></Strd>"
_SCOR: Final = "<Cd>SCOR</Cd>"
_QRR: Final = "<Prtry>QRR</Prtry>"
_INVOICER: Final = "<Strd><Invcr><Nm>Boris &amp; Sons</Nm></Invcr></Strd>"
_ADDRESS: Final = "<StrtNm>Musterweg</StrtNm>\n          <BldgNb>1</BldgNb>\n          <PstCd>60311</PstCd>"
_DEBTOR_ADDRESS: Final = (
    "<PstlAdr>\n          "
    f"{_ADDRESS}\n          <TwnNm>Frankfurt am Main</TwnNm>\n          <Ctry>DE</Ctry>\n        </PstlAdr>"
)
_CHARGES: Final = (
    '<ChrgsInf><Amt Ccy="EUR">0</Amt><Agt><FinInstnId><BICFI>EXMPDEFF</BICFI></FinInstnId></Agt></ChrgsInf>'
)
_SLEV: Final = "<ChrgBr>SLEV</ChrgBr>"
_METHOD: Final = "<SttlmMtd>CLRG</SttlmMtd>"
_ACCOUNT: Final = "<SttlmAcct><Id><Othr><Id>1</Id></Othr></Id></SttlmAcct>"
_REIMBURSEMENT: Final = "<InstdRmbrsmntAgt><FinInstnId><BICFI>EXMPJPJT</BICFI></FinInstnId></InstdRmbrsmntAgt>"
_TYPE: Final = "<PmtTpInf><InstrPrty>NORM</InstrPrty></PmtTpInf>"
_ULTIMATE: Final = "<UltmtDbtr><Nm>Eve Example</Nm></UltmtDbtr>"
_DEBTOR_ACCOUNT: Final = (
    "<DbtrAcct>\n        <Id>\n          <IBAN>DE89370400440532013000</IBAN>\n        </Id>\n      </DbtrAcct>"
)
_CREDITOR_ACCOUNT: Final = _DEBTOR_ACCOUNT.replace("Dbtr", "Cdtr").replace(
    "DE89370400440532013000", "FR1420041010050500013M02606"
)
_CREDITOR: Final = "<CdtTrfTxInf>\n        <PmtId>\n          <InstrId>EXAMPLE-I-0101</InstrId>"


def _lines(*lines: str) -> str:
    return "".join(f"<AdrLine>{line}</AdrLine>" for line in lines)


def _address(new: str) -> Message:
    return edited((_DEBTOR_ADDRESS, f"<PstlAdr>{new}</PstlAdr>"))


def _town(lines: str = "") -> str:
    return f"<TwnNm>Frankfurt am Main</TwnNm><Ctry>DE</Ctry>{lines}"


def _remittance(new: str) -> Message:
    return edited((_USTRD, new))


_KIND: Final = "<PmtTpInf><SvcLvl><Cd>{}</Cd></SvcLvl></PmtTpInf>"
#: One of those that QR-bills are paid to, and a reference on one.
_QR_IBAN: Final = "CH4431999123000889012"
_QR: Final = "210000000003139471430009017"


def _account(iban: str, new: str) -> Message:
    return edited((f"<IBAN>{HEADED.payments[0].creditor_iban}</IBAN>", f"<IBAN>{iban}</IBAN>"), (_USTRD, new))


def _charges(bearer: str, information: str = "", settled: str = "250.00", instructed: str = "250.00") -> Message:
    amounts = f'<InstdAmt Ccy="EUR">{instructed}</InstdAmt><ChrgBr>{bearer}</ChrgBr>{information}'
    return edited((_SLEV, amounts), (">250.00<", f">{settled}<"))


def _settled(method: str, beside: str = "") -> Message:
    return edited((_METHOD, f"<SttlmMtd>{method}</SttlmMtd>{beside}"))


def _clearing(system: str, member: str) -> Message:
    """As a previous instructing agent, whom no rule on payments knows."""
    agent = f"<PrvsInstgAgt1><FinInstnId>{_CLEARING.format(system, member)}</FinInstnId></PrvsInstgAgt1>"
    return edited((_SLEV, f"{_SLEV}{agent}"))


def _previous(*elements: str) -> Message:
    inside = "<FinInstnId><BICFI>EXMPDEFF</BICFI></FinInstnId>"
    account = "<Id><Othr><Id>1</Id></Othr></Id>"
    made = (f"<{name}>{account if name.endswith('Acct') else inside}</{name}>" for name in elements)
    return edited((_SLEV, _SLEV + "".join(made)))


def _exchanged(instructed: str, rate: str = "") -> Message:
    amount = f'<InstdAmt Ccy="{instructed}">300</InstdAmt>' if instructed else ""
    return edited((_SLEV, f"{amount}{rate}{_SLEV}"))


def _text(new: str) -> Message:
    return edited(("Ada Example", new), (_USTRD, "<Ustrd>Invoice</Ustrd>"))


_RATE: Final = "<XchgRate>1.2</XchgRate>"

#: What breaks a rule, and the payments that it costs (None is the message).
BAD: Final[list[tuple[str, Message, list[int | None]]]] = [
    ("header.definition", header(message_definition="pacs.008.001.09"), [None]),
    ("header.id", header(business_message_id="OTHER"), [None]),
    ("header.sender", header(sender=Agent(bic="OTHRDEFFXXX")), [None]),
    ("header.receiver", header(receiver=Agent(bic="OTHRFRPPXXX")), [None]),
    ("header.created", header(created_at="2026-11-22T10:00:00"), [None]),
    ("header.created_future", header(created_at="2026-11-24T10:00:00Z"), [None]),
    ("header.agents", header(sender=Agent(clearing_system="USABA", clearing_member="021000022")), [None]),
    ("header.possible_duplicate", header(possible_duplicate=True), [None]),
    ("header.service", header(business_service=None), [None]),
    ("header.service_variant", header(business_service="swift.cbprplus.cov.03"), [None]),
    ("header.service_cbprplus", header(business_service="swift.cbprplus"), [None]),
    ("header.copy", edited(("<CreDt>", "<CpyDplct>COPY</CpyDplct><Rltd/><CreDt>")), [None]),
    ("header.copy_related", edited(("<CreDt>", "<CpyDplct>CODU</CpyDplct><CreDt>")), [None]),
    ("count.none", message(definition="pacs.007.001.13", payments=()), [None]),
    ("count.nothing_asked", message(definition="camt.056.001.08", payments=()), [None]),
    ("count.request", recall("<NbOfTxs>3</NbOfTxs>"), [None]),
    ("sum.request", recall("<NbOfTxs>2</NbOfTxs><CtrlSum>500.01</CtrlSum>"), [None]),
    ("count.message", message(number_of_transactions="2"), [None]),
    ("count.message", message(number_of_transactions="٣"), [None]),
    ("count.block", block(number_of_transactions="3"), [1, 2]),
    ("sum.message", message(control_sum="1349.94"), [None]),
    ("sum.message", message(control_sum="many"), [None]),
    ("sum.block", block(control_sum="30.31"), [1, 2]),
    ("sum.settlement", message(total_amount="1349.96", total_currency="EUR"), [None]),
    (
        "currency.settlement",
        message(payment(currency="USD").original, total_amount="1349.95", total_currency="EUR"),
        [2],
    ),
    ("agent.twice", message(instructing_agent=Agent(bic="EXMPDEFFXXX")), [1, 2, 3]),
    (
        "settlement_date.twice",
        message(payment(settlement_date="2026-11-24").original, settlement_date="2026-11-23"),
        [2],
    ),
    ("payment_type.twice", edited(("</SttlmInf>", f"</SttlmInf>{_TYPE}"), ("</PmtId>", f"</PmtId>{_TYPE}")), [1]),
    (
        "charges.twice",
        edited(("<CdtTrfTxInf>", f"{_SLEV}<CdtTrfTxInf>"), ("</Amt>", f"</Amt>{_SLEV}"), file=FILES[3]),
        [1],
    ),
    (
        "ultimate.twice",
        edited(("<CdtTrfTxInf>", f"{_ULTIMATE}<CdtTrfTxInf>"), ("</Amt>", f"</Amt>{_ULTIMATE}"), file=FILES[3]),
        [1],
    ),
    ("duplicate.uetr", payment(3, uetr=THREE.payments[0].uetr), [3]),
    ("duplicate.transaction", payment(3, transaction_id=THREE.payments[0].transaction_id), [3]),
    ("duplicate.own_id", payment(2, of=RETURN, own_id="R1"), [2]),
    ("duplicate.block", block(payment_information_id="EXAMPLE-P-0002"), [3]),
    ("duplicate.instruction", payment(3, instruction_id=THREE.payments[0].instruction_id), [3]),
    ("duplicate.end_to_end", payment(3, end_to_end_id=THREE.payments[0].end_to_end_id), [3]),
    ("execution_date.readable", block(requested_execution_date="2026-02-30"), [1, 2]),
    ("execution_date.past", block(requested_execution_date="2025-11-20"), [1, 2]),
    ("execution_date.future", block(requested_execution_date="2027-11-24"), [1, 2]),
    ("created.future", message(created_at="2026-11-24T00:00:00Z"), [None]),
    ("settlement_date.readable", payment(settlement_date="2026-02-30"), [2]),
    ("settlement_date.readable", payment(settlement_date="tomorrow"), [2]),
    ("settlement_date.past", payment(settlement_date="2025-11-20"), [2]),
    ("settlement_date.future", payment(settlement_date="2027-02-21"), [2]),
    ("settlement_date.missing", payment(settlement_date=None), [2]),
    ("accepted.future", payment(accepted_at="2026-11-25T10:00:00Z"), [2]),
    ("calendar.target", settled_on("2026-12-25"), [1]),
    ("calendar.target", settled_on("2026-11-28"), [1]),
    ("calendar.chaps", settled_on("2026-11-28", currency="GBP"), [1]),
    ("calendar.chaps", settled_on("2026-12-28", currency="GBP"), [1]),
    ("settlement_date.instant", settled_on("2026-11-24"), [1]),
    ("calendar.fedwire", settled_on("2026-11-26", currency="USD"), [1]),
    ("cut_off.target", settled_on("2026-11-23", "2026-11-23T17:00:01+01:00"), [1]),
    ("cut_off.fedwire", settled_on("2026-11-23", "2026-11-23T23:45:01Z", currency="USD"), [1]),
    ("iban.debtor", payment(debtor_iban="DE89370400440532013001"), [2]),
    ("iban.creditor", payment(creditor_iban="FR1420041010050500013M0260"), [2]),
    ("iban.creditor", payment(creditor_iban="FR14 2004 1010 0505 0001 3M02 606"), [2]),
    ("iban.creditor", payment(creditor_iban="ZZ00123456789"), [2]),
    ("iban.creditor", payment(creditor_iban=""), [2]),
    ("iban.form", _settled("INDA", "<SttlmAcct><Id><IBAN>DE00</IBAN></Id></SttlmAcct>"), [None]),
    ("account.debtor", edited((_DEBTOR_ACCOUNT, "")), [1]),
    ("account.creditor", edited((_CREDITOR_ACCOUNT, "")), [1]),
    ("account.iban_only", edited(("<IBAN>DE89370400440532013000</IBAN>", "<Othr><Id>1</Id></Othr>")), [1]),
    ("agent.bic", Message(grouped(instructing_agent=Agent(bic="EXMPXX00"))), [None]),
    ("bic.debtor_agent", payment(debtor_agent=Agent(bic="EXMPDEF")), [2]),
    ("bic.creditor_agent", payment(creditor_agent=Agent(bic="EXMPXXPP")), [2]),
    ("bic.creditor_agent", edited((_CREDITOR_AGENT, _CREDITOR_AGENT.replace("FRPP", "ZZPP"))), [1]),
    ("bic.instructing_agent", payment(instructing_agent=Agent(bic="exmpdeff")), [2]),
    ("bic.instructed_agent", payment(instructed_agent=Agent(bic="EXMPDEFFX")), [2]),
    ("bic.form", edited(("</PstlAdr>", "</PstlAdr><Id><OrgId><AnyBIC>EXMPXX22</AnyBIC></OrgId></Id>")), [1]),
    ("lei.agent", payment(debtor_agent=Agent(lei="529900EXAMPLELEI0018")), [2]),
    ("lei.form", edited(("</PstlAdr>", "</PstlAdr><Id><OrgId><LEI>529900EXAMPLELEI0018</LEI></OrgId></Id>")), [1]),
    (
        "clearing.debtor_agent",
        payment(debtor_agent=Agent(clearing_system="USABA", clearing_member="021000022")),
        [2],
    ),
    (
        "clearing.creditor_agent",
        edited((_CREDITOR_AGENT, _CREDITOR_AGENT.replace(_BIC, _CLEARING.format("GBDSC", "1234567")))),
        [1],
    ),
    ("clearing.form", _clearing("USABA", "123456789"), [1]),
    ("clearing.form", _clearing("GBDSC", "12-34-56"), [1]),
    ("agent.empty", edited((_DEBTOR_AGENT, "<DbtrAgt>\n        <FinInstnId>")), [1]),
    ("agent.order", _previous("PrvsInstgAgt2"), [1]),
    ("agent.order", _previous("IntrmyAgt1", "IntrmyAgt3"), [1]),
    ("agent.account", _previous("PrvsInstgAgt1Acct"), [1]),
    (
        "agent.debtor",
        edited(("<Dbtr>", f"<CdtrAgt><FinInstnId>{_BIC}</FinInstnId></CdtrAgt><Dbtr>"), file=FILES[2]),
        [1],
    ),
    (
        "agent.creditor",
        edited(("<Dbtr>", f"<DbtrAgt><FinInstnId>{_BIC}</FinInstnId></DbtrAgt><Dbtr>"), file=FILES[2]),
        [1],
    ),
    ("agent.name_and_address", edited((_DEBTOR_AGENT, f"{_DEBTOR_AGENT}<Nm>Example Bank</Nm>")), [1]),
    ("party.empty", edited((f"<Nm>Ada Example</Nm>\n        {_DEBTOR_ADDRESS}", "")), [1]),
    ("party.address_without_name", edited(("<Nm>Ada Example</Nm>", "")), [1]),
    ("party.name_or_bic", edited(("<Nm>Ada Example</Nm>", "<CtryOfRes>DE</CtryOfRes>"), (_DEBTOR_ADDRESS, "")), [1]),
    ("party.name_or_bic", returned("<Pty><CtryOfRes>DE</CtryOfRes></Pty>"), [1]),
    ("party.bic_alone", edited(("</PstlAdr>", "</PstlAdr><Id><OrgId><AnyBIC>EXMPDEFF</AnyBIC></OrgId></Id>")), [1]),
    ("country.known", edited(("<Ctry>DE</Ctry>", "<Ctry>UK</Ctry>")), [1]),
    ("address.unstructured", _address(_lines("Musterweg 1", "Frankfurt")), [1]),
    ("address.unstructured", _address("<Ctry>DE</Ctry>" + _lines("Musterweg 1", "Frankfurt")), [1]),
    ("address.unstructured_cbprplus", _address(_lines("Musterweg 1", "Frankfurt")), [1]),
    ("address.unstructured_sepa", _address(_lines("Musterweg 1", "Frankfurt")), [1]),
    ("address.town_and_country", _address("<TwnNm>Frankfurt am Main</TwnNm>"), [1]),
    ("address.hybrid_lines", _address(_town(_lines("Hof", "Haus 1", "Tor 2"))), [1]),
    ("address.line_length", _address(_town(_lines("x" * 71))), [1]),
    ("address.structured_only", _address(_town(_lines("Musterweg 1"))), [1]),
    ("address.repeated", _address(_town(_lines("Musterweg 1", "60311, frankfurt am main"))), [1]),
    ("amount.number", payment(amount=None), [2]),
    ("amount.number", payment(amount="1e3"), [2]),
    ("amount.number", payment(amount="-1"), [2]),
    ("amount.zero", payment(amount="0.00"), [2]),
    ("amount.decimals", payment(amount="1.001"), [2]),
    ("amount.decimals", payment(amount="1.5", currency="JPY"), [2]),
    ("amount.decimals", payment(amount="9" * 40 + ".001"), [2]),
    ("amount.decimals", edited((">250.00<", ">250.001<")), [1]),
    ("amount.decimals_elsewhere", edited((_SLEV, _SLEV + _CHARGES.replace(">0<", ">0.005<"))), [1]),
    ("currency.known", payment(currency="EUX"), [2]),
    ("currency.known", payment(currency="XXX"), [2]),
    ("currency.known", payment(currency=None), [2]),
    ("currency.withdrawn", payment(currency="BGN"), [2]),
    ("currency.withdrawn", payment(currency="VEF"), [2]),
    ("currency.known_elsewhere", edited((_SLEV, _SLEV + _CHARGES.replace("EUR", "ECU"))), [1]),
    ("currency.code", edited(("</Id>\n      </DbtrAcct>", "</Id><Ccy>EUX</Ccy></DbtrAcct>")), [1]),
    ("currency.commodity", payment(currency="XAU"), [2]),
    ("exchange.rate_missing", _exchanged("USD"), [1]),
    ("exchange.rate_needless", _exchanged("EUR", _RATE), [1]),
    ("exchange.rate_needless", _exchanged("", _RATE), [1]),
    ("settlement.method", _settled("CLRG", _ACCOUNT), [None]),
    ("settlement.method", _settled("INGA", _REIMBURSEMENT), [None]),
    ("settlement.cover", _settled("COVE"), [None]),
    ("charges.slev_only", edited((_SLEV, "<ChrgBr>SHAR</ChrgBr>")), [1]),
    ("charges.no_slev", edited(), [1]),
    ("charges.credit_information", edited((_SLEV, "<ChrgBr>CRED</ChrgBr>")), [1]),
    ("charges.debt_once", _charges("DEBT", _CHARGES * 2), [1]),
    ("charges.debt_prepaid", _charges("DEBT", settled="255.00"), [1]),
    ("uetr.form", payment(uetr="0E8B2A4C-5D6F-4A1B-9C3D-7E8F9A0B1C2D"), [2]),
    ("uetr.form", payment(uetr="0e8b2a4c-5d6f-1a1b-9c3d-7e8f9a0b1c2d"), [2]),
    (
        "uetr.elsewhere",
        edited((_USTRD, "<Strd><RfrdDocInf><UETR>0e8b2a4c-5d6f-1a1b-9c3d-7e8f9a0b1c2d</UETR></RfrdDocInf></Strd>")),
        [1],
    ),
    ("reference.slashes", edited(("EXAMPLE-E-0001", "EXAMPLE//0001")), [1]),
    ("reference.slashes", edited(("EXAMPLE-M-0001</MsgId>", "EXAMPLE/</MsgId>"), ("-M-0001</Biz", "/</Biz")), [None]),
    ("reference.rf", _remittance(_REFERENCE.format(_SCOR, "RF18539007547035")), [1]),
    ("reference.rf", _remittance(_REFERENCE.format(_SCOR, "RF18 5390 0754 7034")), [1]),
    ("reference.rf", _remittance(_REFERENCE.format(_SCOR, "rf18539007547034")), [1]),
    ("reference.rf", _remittance(_REFERENCE.format(_SCOR, f"RF18{'5' * 22}")), [1]),
    ("reference.rf", _remittance(_REFERENCE.format(_SCOR, "123").replace("</Tp>", "<Issr>ISO</Issr></Tp>")), [1]),
    ("reference.qr", _remittance(_REFERENCE.format(_QRR, "210000000003139471430009018")), [1]),
    ("code.status", report("<TxSts>ZZZZ</TxSts>"), [None]),
    ("code.reason", report(f"<TxSts>RJCT</TxSts>{_because('TECH')}"), [None]),
    ("code.reason", given_back(_because("ZZZZ", name="RtrRsnInf")), [1]),
    ("code.reason", parsed(request("camt.056.001.08", Ids(), reason="ZZZZ")), [None]),
    ("code.purpose", edited((_USTRD, ""), ("<RmtInf>", "<Purp><Cd>ZZZZ</Cd></Purp><RmtInf>")), [1]),
    ("code.type", edited(("<IntrBkSttlmAmt", f"{_KIND.format('ZZZZ')}<IntrBkSttlmAmt")), [1]),
    ("reason.narrative", report(f"<TxSts>RJCT</TxSts>{_because('NARR')}"), [None]),
    ("reason.narrative", given_back(_because("NARR", name="RtrRsnInf")), [1]),
    ("reason.missing", report("<TxSts>RJCT</TxSts>"), [None]),
    ("amount.undone", given_back(paid=_PAID.format("EUR"), amount="1.01"), [1]),
    ("reference.qr_account", _account(_QR_IBAN, _USTRD), [1]),
    ("reference.qr_account", _account(_QR_IBAN, _REFERENCE.format(_SCOR, "RF18539007547034")), [1]),
    ("reference.qr_account", _remittance(_REFERENCE.format(_QRR, _QR)), [1]),
    ("reference.qr_account", _remittance(_REFERENCE.format(_SCOR, "1") + _REFERENCE.format(_QRR, _QR)), [1]),
    ("remittance.mixed", _remittance(_USTRD + _REFERENCE.format(_SCOR, "1")), [1]),
    ("remittance.unstructured_once", _remittance(_USTRD * 2), [1]),
    ("remittance.unstructured_length", _remittance(f"<Ustrd>{'x' * 100}</Ustrd><Ustrd>{'x' * 41}</Ustrd>"), [1]),
    ("remittance.structured_once", _remittance(_REFERENCE.format(_SCOR, "1") * 2), [1]),
    (
        "remittance.structured_length",
        _remittance("".join(f"<Strd><AddtlRmtInf>{'x' * 140}</AddtlRmtInf></Strd>" for _ in range(65))),
        [1],
    ),
    ("remittance.related", edited(("<RmtInf>", "<RltdRmtInf><RmtId>1</RmtId></RltdRmtInf><RmtInf>")), [1]),
    ("characters.swift_x", _text("Ada & Example".replace("&", "&amp;")), [1]),
    ("characters.swift_z", _text("Ada Éxample"), [1]),
    ("characters.cbprplus", _text("Ada Éxample"), [1]),
    ("characters.cbprplus", edited(("EXAMPLE-E-0001", "EXAMPLE_E_0001"), (_USTRD, "<Ustrd>x</Ustrd>")), [1]),
    ("characters.cbprplus", edited(("EXAMPLE-E-0001", "EXAMPLE_E_0001"), (_USTRD, _INVOICER)), [1]),
    ("characters.epc", _text("Ada_Example"), [1]),
    ("characters.latin_1", _text("Ada Ełample"), [1]),
    ("characters.swiss", _text("Ada Εxample"), [1]),  # noqa: RUF001 - a Greek letter is the point
]

#: What comes near a rule and does not break it.
GOOD: Final[list[tuple[str, Message]]] = [
    ("header.definition", header(message_definition=None)),
    ("header.id", header(business_message_id=None)),
    ("header.sender", header(sender=Agent(bic="EXMPDEFF"))),
    ("header.sender", header(sender=Agent(clearing_member="021000021"))),
    ("header.sender", header(sender=None)),
    ("header.receiver", header(receiver=Agent(bic="EXMPFRPPABC"))),
    ("header.created", header(created_at="2026-11-22T10:00:00Z")),
    ("header.created", header(created_at=None)),
    ("header.created_future", header(created_at="2026-11-23T23:59:59+14:00")),
    ("header.agents", header(sender=Agent(clearing_system="USABA", clearing_member="021000021"))),
    ("header.possible_duplicate", header(possible_duplicate=False)),
    ("header.service", header(business_service="any")),
    ("header.service_variant", header(business_service="swift.cbprplus.stp.03")),
    ("header.service_variant", header(business_service="swift.cbprplus.03")),
    ("header.service_cbprplus", header(business_service="swift.cbprplus.stp.03")),
    ("header.service_cbprplus", header(business_service="swift.cbprplus.03")),
    ("header.copy", edited()),
    ("header.copy_related", edited(("<CreDt>", "<CpyDplct>CODU</CpyDplct><Rltd/><CreDt>"))),
    ("count.none", message(definition="camt.056.001.08", payments=())),
    ("count.nothing_asked", message(definition="pacs.028.001.03", payments=())),
    ("count.request", recall("<NbOfTxs>2</NbOfTxs>")),
    ("count.request", recall("<NbOfTxs>3</NbOfTxs>", whole=True)),
    ("sum.request", recall("<NbOfTxs>2</NbOfTxs><CtrlSum>500</CtrlSum>")),
    ("sum.request", recall("<NbOfTxs>2</NbOfTxs><CtrlSum>1</CtrlSum>", Ids(amount=None))),
    ("sum.request", recall("<NbOfTxs>2</NbOfTxs><CtrlSum>1</CtrlSum>", whole=True)),
    ("count.message", message(number_of_transactions="0003")),
    ("count.message", message(payments=())),
    ("count.block", block(number_of_transactions=None)),
    ("sum.message", message(control_sum="1349.950")),
    ("sum.message", payment(1, of=replace(BLOCKS, control_sum="1"), amount_is_equivalent=True)),
    ("sum.block", block(control_sum=None)),
    ("sum.block", payment(1, of=BLOCKS, amount_is_equivalent=True)),
    ("sum.settlement", message(total_amount="1349.95", total_currency="EUR")),
    ("currency.settlement", message(total_amount="1349.95", total_currency="EUR")),
    ("agent.twice", Message(grouped(instructing_agent=Agent(bic="EXMPDEFFXXX")))),
    ("settlement_date.twice", message(settlement_date="2026-11-23")),
    ("payment_type.twice", edited(("</PmtId>", f"</PmtId>{_TYPE}"))),
    ("charges.twice", edited(("</Amt>", f"</Amt>{_SLEV}"), file=FILES[3])),
    ("ultimate.twice", edited(("</Amt>", f"</Amt>{_ULTIMATE}"), file=FILES[3])),
    ("duplicate.uetr", payment(3, uetr=None)),
    ("duplicate.transaction", payment(3, transaction_id=None)),
    ("duplicate.own_id", Message(RETURN)),
    ("duplicate.block", block(payment_information_id="example-p-0002")),
    ("duplicate.instruction", payment(3, instruction_id=None)),
    (
        "duplicate.end_to_end",
        payment(3, of=payment(2, end_to_end_id="NOTPROVIDED").original, end_to_end_id="NOTPROVIDED"),
    ),
    ("execution_date.readable", block(requested_execution_date="2026-11-23T08:00:00+01:00")),
    ("execution_date.past", block(requested_execution_date="2025-11-21")),
    ("execution_date.future", block(requested_execution_date="2027-11-23")),
    ("created.future", message(created_at="2026-11-23T23:00:00Z")),
    ("settlement_date.readable", payment(settlement_date="2026-11-23Z")),
    ("settlement_date.past", payment(settlement_date="2025-11-21")),
    ("settlement_date.future", payment(settlement_date="2027-02-20")),
    ("settlement_date.missing", message(settlement_date="2026-11-23")),
    ("accepted.future", payment(accepted_at="2026-11-23T10:00:00Z")),
    ("calendar.target", settled_on("2026-11-26")),
    ("calendar.target", settled_on("2026-12-25", currency="USD")),
    ("calendar.chaps", settled_on("2026-12-29", currency="GBP")),
    ("calendar.chaps", settled_on("2026-12-28", currency="EUR")),
    ("settlement_date.instant", settled_on("2026-11-23")),
    ("settlement_date.instant", settled_on("2026-11-01")),
    ("calendar.fedwire", settled_on("2026-12-26", currency="EUR")),
    ("calendar.fedwire", settled_on("2026-07-03", currency="USD")),
    ("cut_off.target", settled_on("2026-11-23", "2026-11-23T17:00:00+01:00")),
    ("cut_off.target", settled_on("2026-11-23", "2026-11-23T23:00:00")),
    ("cut_off.fedwire", settled_on("2026-11-23", "2026-11-23T23:45:00Z", currency="USD")),
    ("iban.debtor", payment(debtor_iban=None)),
    ("iban.creditor", payment(creditor_iban="DZ580002100001113000000570")),
    ("iban.form", _settled("INDA", "<SttlmAcct><Id><IBAN>DE89370400440532013000</IBAN></Id></SttlmAcct>")),
    ("account.debtor", edited((_CREDITOR_ACCOUNT, ""))),
    ("account.creditor", edited((_DEBTOR_ACCOUNT, ""))),
    ("account.iban_only", edited()),
    ("agent.bic", Message(grouped(instructing_agent=Agent(bic="EXMPXKPR")))),
    ("bic.debtor_agent", payment(debtor_agent=Agent(bic="1XMPDEFF"))),
    ("bic.creditor_agent", payment(creditor_agent=Agent(bic="EXMPXKPR"))),
    ("bic.creditor_agent", payment(creditor_agent=None)),
    ("bic.instructing_agent", payment(instructing_agent=Agent(bic="EXMPDEFF123"))),
    ("bic.instructed_agent", payment(instructed_agent=Agent(clearing_member="1"))),
    ("bic.form", edited(("</PstlAdr>", "</PstlAdr><Id><OrgId><AnyBIC> EXMPXKPR </AnyBIC></OrgId></Id>"))),
    ("lei.agent", payment(debtor_agent=Agent(lei="529900EXAMPLELEI0017"))),
    ("lei.form", edited(("</PstlAdr>", "</PstlAdr><Id><OrgId><LEI>529900EXAMPLELEI0017</LEI></OrgId></Id>"))),
    ("clearing.debtor_agent", payment(debtor_agent=Agent(clearing_system="USABA", clearing_member="021000021"))),
    ("clearing.creditor_agent", payment(creditor_agent=Agent(clearing_system="GBDSC", clearing_member="123456"))),
    (
        "clearing.creditor_agent",
        payment(
            creditor_agent=Agent(clearing_system="USABA", clearing_system_is_proprietary=True, clearing_member="1")
        ),
    ),
    ("clearing.form", _clearing("USABA", "021000021")),
    ("clearing.form", _clearing("ZZXXX", "any number")),
    ("agent.empty", edited()),
    ("agent.order", _previous("PrvsInstgAgt1", "PrvsInstgAgt2", "PrvsInstgAgt3")),
    ("agent.account", _previous("PrvsInstgAgt1", "PrvsInstgAgt1Acct")),
    ("agent.debtor", edited(("<Dbtr>", f"<DbtrAgt><FinInstnId>{_BIC}</FinInstnId></DbtrAgt><Dbtr>"), file=FILES[2])),
    ("agent.creditor", edited(("<Dbtr>", f"<CdtrAgt><FinInstnId>{_BIC}</FinInstnId></CdtrAgt><Dbtr>"), file=FILES[2])),
    (
        "agent.name_and_address",
        edited((_DEBTOR_AGENT, f"{_DEBTOR_AGENT}<Nm>Bank</Nm><PstlAdr>{_town()}</PstlAdr>")),
    ),
    ("party.empty", edited((_DEBTOR_ADDRESS, ""))),
    ("party.empty", edited((_SLEV, f"{_SLEV}<Tax><Cdtr/></Tax>"))),
    ("party.address_without_name", edited((_DEBTOR_ADDRESS, ""))),
    (
        "party.name_or_bic",
        edited(
            ("<Nm>Ada Example</Nm>", ""),
            (_DEBTOR_ADDRESS, "<Id><OrgId><AnyBIC>EXMPDEFF</AnyBIC></OrgId></Id>"),
        ),
    ),
    ("party.name_or_bic", sample(FILES[2])),
    ("party.name_or_bic", returned("<Pty><Nm>Ada Example</Nm></Pty>")),
    ("party.name_or_bic", returned("<Pty><Id><OrgId><AnyBIC>EXMPDEFF</AnyBIC></OrgId></Id></Pty>")),
    ("party.name_or_bic", returned("<Agt><FinInstnId><BICFI>EXMPDEFF</BICFI></FinInstnId></Agt>")),
    ("party.name_or_bic", edited((_SLEV, f"{_SLEV}<Tax><Cdtr><TaxId>T-1</TaxId></Cdtr></Tax>"))),
    ("party.name_or_bic", edited((_SLEV, f"{_SLEV}<TaxRmt><Dbtr><TaxTp>T</TaxTp></Dbtr></TaxRmt>"))),
    ("party.bic_alone", edited((_DEBTOR_ADDRESS, "<Id><OrgId><AnyBIC>EXMPDEFF</AnyBIC></OrgId></Id>"))),
    ("country.known", edited(("<Ctry>DE</Ctry>", "<Ctry>XK</Ctry>"))),
    ("address.unstructured", _address(_town(_lines("Musterweg 1")))),
    ("address.unstructured", edited()),
    ("address.unstructured_cbprplus", _address(_town(_lines("Musterweg 1")))),
    ("address.unstructured_sepa", _address(_town(_lines("Musterweg 1")))),
    ("address.town_and_country", _address(_town())),
    ("address.town_and_country", _address(f"<Nm>Ada Example</Nm><Adr>{_town()}</Adr>")),
    ("address.hybrid_lines", _address(_town(_lines("Hof", "Haus 1")))),
    ("address.line_length", _address(_town(_lines("x" * 70)))),
    ("address.structured_only", _address(_town())),
    ("address.repeated", _address(_town(_lines("Musterweg 1", "Frankfurter Hof")))),
    ("amount.number", payment(amount="+1.")),
    ("amount.zero", payment(amount="0.01")),
    ("amount.decimals", payment(amount="100.000")),
    ("amount.decimals", payment(amount="1.001", currency="KWD")),
    ("amount.decimals", payment(amount="1.00", currency="JPY")),
    ("amount.decimals", payment(amount="1.23456", currency="XAU")),
    ("amount.decimals_elsewhere", edited((_SLEV, _SLEV + _CHARGES.replace(">0<", ">0.050<")))),
    (
        "amount.decimals_elsewhere",
        edited((_SLEV, f'{_SLEV}<Pric><Val><Amt Ccy="EUR">0.0015</Amt></Val></Pric>')),
    ),
    ("currency.known", payment(currency="XAU")),
    ("currency.withdrawn", payment(currency="BGN", settlement_date="2025-12-31")),
    ("currency.withdrawn", payment(currency="HRK", settlement_date="2022-06-01")),
    ("currency.known_elsewhere", edited((_SLEV, _SLEV + _CHARGES.replace("EUR", "DEM")))),
    ("currency.code", edited(("</Id>\n      </DbtrAcct>", "</Id><Ccy>EUR</Ccy></DbtrAcct>"))),
    ("currency.commodity", payment(currency="XOF")),
    ("exchange.rate_missing", _exchanged("USD", _RATE)),
    ("exchange.rate_missing", _exchanged("EUR")),
    ("exchange.rate_needless", _exchanged("USD", _RATE)),
    ("settlement.method", _settled("INDA", _ACCOUNT)),
    ("settlement.method", _settled("CLRG", "<ClrSys><Cd>TGT</Cd></ClrSys>")),
    ("settlement.cover", _settled("COVE", _REIMBURSEMENT)),
    ("charges.slev_only", edited()),
    ("charges.no_slev", edited((_SLEV, "<ChrgBr>SHAR</ChrgBr>"))),
    ("charges.credit_information", edited((_SLEV, f"<ChrgBr>CRED</ChrgBr>{_CHARGES}"))),
    ("charges.debt_once", _charges("DEBT", _CHARGES)),
    ("charges.debt_once", _charges("CRED", _CHARGES * 2)),
    ("charges.debt_prepaid", _charges("DEBT", settled="249.00")),
    ("charges.debt_prepaid", _charges("DEBT", _CHARGES, settled="255.00")),
    ("uetr.form", payment(uetr=None)),
    ("uetr.elsewhere", edited()),
    ("reference.slashes", edited(("EXAMPLE-E-0001", "EXAMPLE/E/0001"))),
    ("reference.rf", _remittance(_REFERENCE.format(_SCOR, "RF18539007547034"))),
    ("reference.rf", _remittance(_REFERENCE.format(_SCOR, "RFQ-2026"))),
    ("reference.qr", _remittance(_REFERENCE.format(_QRR, "210000000003139471430009017"))),
    ("code.status", report("<TxSts>ACWP</TxSts>")),
    ("code.reason", report(f"<TxSts>RJCT</TxSts>{_because('AC03')}")),
    ("code.reason", parsed(request("camt.056.001.08", Ids(), reason="TECH"))),
    ("code.purpose", edited((_USTRD, ""), ("<RmtInf>", "<Purp><Cd>SALA</Cd></Purp><RmtInf>"))),
    ("code.type", edited(("<IntrBkSttlmAmt", f"{_KIND.format('SEPA')}<IntrBkSttlmAmt"))),
    ("reason.narrative", report(f"<TxSts>RJCT</TxSts>{_because('NARR', _WHY)}")),
    ("reason.missing", report(f"<TxSts>RJCT</TxSts>{_because('AC03')}")),
    ("reason.missing", report("<TxSts>ACSC</TxSts>")),
    ("amount.undone", given_back(paid=_PAID.format("EUR"), amount="1")),
    ("amount.undone", given_back(paid=_PAID.format("USD"), amount="1.01")),
    ("amount.undone", given_back('<CompstnAmt Ccy="EUR">0.01</CompstnAmt>', paid=_PAID.format("EUR"), amount="1.01")),
    ("reference.qr_account", _account(_QR_IBAN, _REFERENCE.format(_QRR, _QR))),
    ("reference.qr_account", _remittance(_REFERENCE.format(_SCOR, "RF18539007547034"))),
    ("remittance.mixed", _remittance(_REFERENCE.format(_SCOR, "1"))),
    ("remittance.unstructured_once", _remittance(_USTRD)),
    ("remittance.unstructured_length", _remittance(f"<Ustrd>{'x' * 140}</Ustrd>")),
    ("remittance.structured_once", _remittance(_REFERENCE.format(_SCOR, "1"))),
    ("remittance.structured_length", _remittance(f"<Strd><AddtlRmtInf>{'x' * 140}</AddtlRmtInf></Strd>")),
    ("remittance.related", edited()),
    ("characters.swift_x", _text("Ada O'Example, (No. 1)")),
    ("characters.swift_z", _text("Ada_Example @ home")),
    ("characters.cbprplus", _text("Ada_Example @ home")),
    ("characters.cbprplus", _remittance(_INVOICER)),
    ("characters.epc", _text("Ada O'Example, (No. 1)")),
    ("characters.latin_1", edited()),
    ("characters.swiss", _text("Ada Ełample €")),
]
