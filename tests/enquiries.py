"""Requests about other messages as text, in every version, for tests. Synthetic parties; nothing of interlock here."""

from dataclasses import dataclass
from datetime import UTC, datetime

UETR = "0e8b2a4c-5d6f-4a1b-9c3d-7e8f9a0b1c2d"
#: Roots by family.
_ROOTS = {
    "pacs.028": "FIToFIPmtStsReq",
    "camt.055": "CstmrPmtCxlReq",
    "camt.056": "FIToFIPmtCxlReq",
    "camt.026": "UblToApply",
    "camt.027": "ClmNonRct",
    "camt.087": "ReqToModfyPmt",
    "camt.110": "InvstgtnReq",
}
#: The first versions with BICFI in place of BIC, and with a UETR.
_BICFI = {"camt.056": 2, "camt.055": 2, "camt.026": 4, "camt.027": 4}
_UETR = {"pacs.028": 3, "camt.056": 8, "camt.055": 8, "camt.026": 7, "camt.027": 7, "camt.087": 6}


@dataclass(frozen=True, kw_only=True)
class Ids:
    """What a request calls its original; None is left out."""

    message_id: str | None = "EXAMPLE-M-0001"
    definition: str = "pacs.008.001.08"
    instruction_id: str | None = "EXAMPLE-I-0001"
    end_to_end_id: str | None = "EXAMPLE-E-0001"
    transaction_id: str | None = "EXAMPLE-T-0001"
    uetr: str | None = UETR
    amount: str | None = "250.00"
    block: str = "EXAMPLE-P-0001"
    #: The settlement date; where an element must have one, None is today.
    settled: str | None = None


@dataclass(frozen=True)
class _Request:
    """One request to be written."""

    family: str
    version: int
    ids: tuple[Ids, ...]
    whole: bool
    reason: str

    @property
    def bic(self) -> str:
        return "BICFI" if self.version >= _BICFI.get(self.family, 1) else "BIC"

    def body(self) -> str:
        match self.family:
            case "pacs.028":
                return self._status_request()
            case "camt.055":
                return self._assigned("".join(map(self._block, range(len(self.ids)))))
            case "camt.056":
                parts = map(self._message if self.whole else self._payment, range(len(self.ids)))
                return self._assigned("".join(parts))
            case "camt.110":
                return self._investigation()
            case _:
                return self._exception()

    def _party(self, name: str, value: str) -> str:
        return f"<{name}><Agt><FinInstnId><{self.bic}>{value}</{self.bic}></FinInstnId></Agt></{name}>"

    def _assigned(self, underlying: str) -> str:
        return (
            f"<Assgnmt><Id>EXAMPLE-C-0001</Id>{self._party('Assgnr', 'EXMPDEFFXXX')}"
            f"{self._party('Assgne', 'EXMPFRPPXXX')}<CreDtTm>2026-11-22T11:00:00+01:00</CreDtTm></Assgnmt>"
            f"<Case><Id>EXAMPLE-CASE-1</Id>{self._party('Cretr', 'EXMPDEFFXXX')}</Case><Undrlyg>{underlying}</Undrlyg>"
        )

    def _why(self) -> str:
        return f"<CxlRsnInf><Rsn><Cd>{self.reason}</Cd></Rsn></CxlRsnInf>"

    def _named(self, one: Ids, *, is_customers: bool = False) -> str:
        ids = _element("OrgnlInstrId", one.instruction_id) + _element("OrgnlEndToEndId", one.end_to_end_id)
        if not is_customers:
            ids += _element("OrgnlTxId", one.transaction_id)
        return ids + (_element("OrgnlUETR", one.uetr) if self.version >= _UETR.get(self.family, 1) else "")

    def _status_request(self) -> str:
        head = "<GrpHdr><MsgId>EXAMPLE-C-0001</MsgId><CreDtTm>2026-11-22T11:00:00+01:00</CreDtTm></GrpHdr>"
        if self.whole:
            return head + "".join(map(_group, self.ids))
        parts = [
            f"<TxInf><StsReqId>EXAMPLE-Q-{place}</StsReqId>{_group(one)}{self._named(one)}</TxInf>"
            for place, one in enumerate(self.ids, 1)
        ]
        return head + "".join(parts)

    def _message(self, place: int) -> str:
        return (
            f"<OrgnlGrpInfAndCxl><GrpCxlId>EXAMPLE-X-{place + 1}</GrpCxlId>{_message_ids(self.ids[place])}"
            f"<GrpCxl>true</GrpCxl>{self._why()}</OrgnlGrpInfAndCxl>"
        )

    def _payment(self, place: int) -> str:
        one = self.ids[place]
        return (
            f"<TxInf><CxlId>EXAMPLE-X-{place + 1}</CxlId>{_group(one)}{self._named(one)}"
            f"{_amount('OrgnlIntrBkSttlmAmt', one)}{_element('OrgnlIntrBkSttlmDt', one.settled)}"
            f"{self._why()}</TxInf>"
        )

    def _block(self, place: int) -> str:
        one = self.ids[place]
        if self.whole:
            inside = f"<PmtInfCxl>true</PmtInfCxl>{self._why()}"
        else:
            inside = (
                f"<TxInf><CxlId>EXAMPLE-X-{place + 1}</CxlId>{self._named(one, is_customers=True)}"
                f"{_amount('OrgnlInstdAmt', one)}{self._why()}</TxInf>"
            )
        return (
            f"<OrgnlPmtInfAndCxl><PmtCxlId>EXAMPLE-B-{place + 1}</PmtCxlId><OrgnlPmtInfId>{one.block}</OrgnlPmtInfId>"
            f"{_group(one)}{inside}</OrgnlPmtInfAndCxl>"
        )

    def _underlying(self) -> str:
        one = self.ids[0]
        return (
            f"<IntrBk>{_group(one)}{self._named(one)}{_amount('OrgnlIntrBkSttlmAmt', one)}"
            f"<OrgnlIntrBkSttlmDt>{one.settled or datetime.now(UTC).date()}</OrgnlIntrBkSttlmDt></IntrBk>"
        )

    def _exception(self) -> str:
        rest = {
            "camt.026": "<Justfn><AnyInf>true</AnyInf></Justfn>",
            "camt.087": '<Mod><IntrBkSttlmAmt Ccy="EUR">1.00</IntrBkSttlmAmt><RmtInf><Ustrd>x</Ustrd></RmtInf></Mod>',
        }
        return self._assigned(self._underlying()) + rest.get(self.family, "")

    def _investigation(self) -> str:
        return (
            "<InvstgtnReq><MsgId>EXAMPLE-C-0001</MsgId><RqstrInvstgtnId>EXAMPLE-V-1</RqstrInvstgtnId>"
            f"<InvstgtnTp><Cd>{self.reason}</Cd></InvstgtnTp><Undrlyg>{self._underlying()}</Undrlyg>"
            f"{self._party('Rqstr', 'EXMPDEFFXXX')}{self._party('Rspndr', 'EXMPFRPPXXX')}</InvstgtnReq>"
            "<InvstgtnData><Rsn><Cd>OTHR</Cd></Rsn></InvstgtnData>"
        )


def _element(name: str, text: str | None) -> str:
    return "" if text is None else f"<{name}>{text}</{name}>"


def _amount(name: str, one: Ids) -> str:
    return "" if one.amount is None else f'<{name} Ccy="EUR">{one.amount}</{name}>'


def _message_ids(one: Ids) -> str:
    return f"<OrgnlMsgId>{one.message_id}</OrgnlMsgId><OrgnlMsgNmId>{one.definition}</OrgnlMsgNmId>"


def _group(one: Ids) -> str:
    return "" if one.message_id is None else f"<OrgnlGrpInf>{_message_ids(one)}</OrgnlGrpInf>"


def request(definition: str, *ids: Ids, whole: bool = False, reason: str | None = None) -> bytes:
    """A bare Document; with the default ids where none are given.

    whole: a message (camt.056, pacs.028) or block (camt.055) is meant as such, and no payment is named in it.
    reason: of a cancellation, or the type of a camt.110.
    """
    family = definition[:8]
    reason = reason or ("CCNR" if family == "camt.110" else "DUPL")
    body = _Request(family, int(definition[-2:]), ids or (Ids(),), whole, reason).body()
    namespace = f"urn:iso:std:iso:20022:tech:xsd:{definition}"
    return f'<Document xmlns="{namespace}"><{_ROOTS[family]}>{body}</{_ROOTS[family]}></Document>'.encode()
