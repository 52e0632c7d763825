"""ISO 20022 messages as text, for tests that need many of them. Synthetic parties only; nothing of interlock here."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

DEBTOR_IBAN = "DE89370400440532013000"
CREDITOR_IBAN = "FR1420041010050500013M02606"


def fresh(prefix: str = "M") -> str:
    """An identification that nobody has used before, 33 characters long."""
    return prefix[:1] + uuid.uuid4().hex


def fresh_uetr() -> str:
    """A UETR that nobody has used before."""
    return str(uuid.uuid4())


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One credit transfer of a pacs.008."""

    amount: str = "100.00"
    currency: str = "EUR"
    end_to_end_id: str = field(default_factory=lambda: fresh("E"))
    transaction_id: str = field(default_factory=lambda: fresh("T"))
    uetr: str | None = field(default_factory=fresh_uetr)
    debtor_iban: str = DEBTOR_IBAN
    creditor_iban: str = CREDITOR_IBAN


def pacs008(*transfers: Transfer, message_id: str | None = None, count: int | None = None) -> bytes:
    """A pacs.008.001.08; with one transfer where none is given. Valid unless a transfer or the count makes it not."""
    transfers = transfers or (Transfer(),)
    now = datetime.now(UTC)
    number = len(transfers) if count is None else count
    head = (
        f"<GrpHdr><MsgId>{message_id or fresh()}</MsgId><CreDtTm>{now:%Y-%m-%dT%H:%M:%S}Z</CreDtTm>"
        f"<NbOfTxs>{number}</NbOfTxs><SttlmInf><SttlmMtd>CLRG</SttlmMtd></SttlmInf>"
        f"<InstgAgt>{_institution('TESTDEFFXXX')}</InstgAgt><InstdAgt>{_institution('TESTFRPPXXX')}</InstdAgt></GrpHdr>"
    )
    body = "".join(_transfer(transfer, f"{now:%Y-%m-%d}") for transfer in transfers)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08">'
        f"<FIToFICstmrCdtTrf>{head}{body}</FIToFICstmrCdtTrf></Document>"
    ).encode()


def _transfer(transfer: Transfer, day: str) -> str:
    uetr = "" if transfer.uetr is None else f"<UETR>{transfer.uetr}</UETR>"
    return (
        f"<CdtTrfTxInf><PmtId><EndToEndId>{transfer.end_to_end_id}</EndToEndId>"
        f"<TxId>{transfer.transaction_id}</TxId>{uetr}</PmtId>"
        f'<IntrBkSttlmAmt Ccy="{transfer.currency}">{transfer.amount}</IntrBkSttlmAmt>'
        f"<IntrBkSttlmDt>{day}</IntrBkSttlmDt><ChrgBr>SLEV</ChrgBr>"
        f"<Dbtr><Nm>Synthetic Debtor</Nm></Dbtr><DbtrAcct><Id><IBAN>{transfer.debtor_iban}</IBAN></Id></DbtrAcct>"
        f"<DbtrAgt>{_institution('TESTDEFFXXX')}</DbtrAgt><CdtrAgt>{_institution('TESTFRPPXXX')}</CdtrAgt>"
        f"<Cdtr><Nm>Synthetic Creditor</Nm></Cdtr>"
        f"<CdtrAcct><Id><IBAN>{transfer.creditor_iban}</IBAN></Id></CdtrAcct></CdtTrfTxInf>"
    )


def _institution(bic: str) -> str:
    return f"<FinInstnId><BICFI>{bic}</BICFI></FinInstnId>"


def pacs002(message_id: str | None = None) -> bytes:
    """A pacs.002.001.10: itself an answer, which nobody answers."""
    now = datetime.now(UTC)
    return (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.002.001.10"><FIToFIPmtStsRpt>'
        f"<GrpHdr><MsgId>{message_id or fresh()}</MsgId><CreDtTm>{now:%Y-%m-%dT%H:%M:%S}Z</CreDtTm></GrpHdr>"
        "</FIToFIPmtStsRpt></Document>"
    ).encode()


def distinct(number: int) -> Sequence[bytes]:
    """So many valid messages that share nothing."""
    return [pacs008() for _ in range(number)]
