"""One synthetic payment, as many times as wanted: a pacs.008.001.08 with header, of the size that banks send.

About 4.5 KB, indented, with structured addresses, an intermediary, ultimate parties, purpose and remittance, as a
cross-border payment under CBPR+ has them. All parties, accounts and institutions are invented. The copies differ in
what must be unique (MsgId, BizMsgIdr, InstrId, EndToEndId, TxId, UETR) and in nothing else, so all are of one length.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

#: Stand in the template for a message's own identifiers; of the length of what takes their place.
_TOKEN = "@" * 24
_UETR = "#" * 36

_TEMPLATE = """<?xml version="1.0" encoding="UTF-8"?>
<RequestPayload>
  <AppHdr xmlns="urn:iso:std:iso:20022:tech:xsd:head.001.001.02">
    <Fr>
      <FIId>
        <FinInstnId>
          <BICFI>TSTADEFFXXX</BICFI>
        </FinInstnId>
      </FIId>
    </Fr>
    <To>
      <FIId>
        <FinInstnId>
          <BICFI>TSTBFRPPXXX</BICFI>
        </FinInstnId>
      </FIId>
    </To>
    <BizMsgIdr>BENCH-M-{token}</BizMsgIdr>
    <MsgDefIdr>pacs.008.001.08</MsgDefIdr>
    <BizSvc>interlock.bench.01</BizSvc>
    <CreDt>{now}</CreDt>
    <Prty>NORM</Prty>
  </AppHdr>
  <Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08">
    <FIToFICstmrCdtTrf>
      <GrpHdr>
        <MsgId>BENCH-M-{token}</MsgId>
        <CreDtTm>{now}</CreDtTm>
        <NbOfTxs>1</NbOfTxs>
        <SttlmInf>
          <SttlmMtd>INDA</SttlmMtd>
          <SttlmAcct>
            <Id>
              <IBAN>FR1420041010050500013M02606</IBAN>
            </Id>
          </SttlmAcct>
        </SttlmInf>
      </GrpHdr>
      <CdtTrfTxInf>
        <PmtId>
          <InstrId>BENCH-I-{token}</InstrId>
          <EndToEndId>BENCH-E-{token}</EndToEndId>
          <TxId>BENCH-T-{token}</TxId>
          <UETR>{uetr}</UETR>
        </PmtId>
        <PmtTpInf>
          <InstrPrty>NORM</InstrPrty>
          <SvcLvl>
            <Cd>G001</Cd>
          </SvcLvl>
        </PmtTpInf>
        <IntrBkSttlmAmt Ccy="EUR">12480.55</IntrBkSttlmAmt>
        <IntrBkSttlmDt>{today}</IntrBkSttlmDt>
        <SttlmPrty>NORM</SttlmPrty>
        <InstdAmt Ccy="EUR">12480.55</InstdAmt>
        <ChrgBr>SHAR</ChrgBr>
        <ChrgsInf>
          <Amt Ccy="EUR">7.50</Amt>
          <Agt>
            <FinInstnId>
              <BICFI>TSTADEFFXXX</BICFI>
            </FinInstnId>
          </Agt>
        </ChrgsInf>
        <PrvsInstgAgt1>
          <FinInstnId>
            <BICFI>TSTEDEFFXXX</BICFI>
            <PstlAdr>
              <TwnNm>Hamburg</TwnNm>
              <Ctry>DE</Ctry>
            </PstlAdr>
          </FinInstnId>
        </PrvsInstgAgt1>
        <InstgAgt>
          <FinInstnId>
            <BICFI>TSTADEFFXXX</BICFI>
          </FinInstnId>
        </InstgAgt>
        <InstdAgt>
          <FinInstnId>
            <BICFI>TSTBFRPPXXX</BICFI>
          </FinInstnId>
        </InstdAgt>
        <IntrmyAgt1>
          <FinInstnId>
            <BICFI>TSTCNL2AXXX</BICFI>
          </FinInstnId>
        </IntrmyAgt1>
        <UltmtDbtr>
          <Nm>Example Holding for the Measuring of Clocks SE</Nm>
          <PstlAdr>
            <TwnNm>Frankfurt am Main</TwnNm>
            <Ctry>DE</Ctry>
          </PstlAdr>
        </UltmtDbtr>
        <Dbtr>
          <Nm>Example Clockworks and Stopwatches GmbH</Nm>
          <PstlAdr>
            <StrtNm>Musterweg</StrtNm>
            <BldgNb>17</BldgNb>
            <PstCd>60311</PstCd>
            <TwnNm>Frankfurt am Main</TwnNm>
            <Ctry>DE</Ctry>
          </PstlAdr>
        </Dbtr>
        <DbtrAcct>
          <Id>
            <IBAN>DE89370400440532013000</IBAN>
          </Id>
        </DbtrAcct>
        <DbtrAgt>
          <FinInstnId>
            <BICFI>TSTADEFFXXX</BICFI>
            <Nm>Testbank A, invented for this benchmark</Nm>
          </FinInstnId>
        </DbtrAgt>
        <CdtrAgt>
          <FinInstnId>
            <BICFI>TSTDESMMXXX</BICFI>
            <Nm>Testbank D, invented for this benchmark</Nm>
          </FinInstnId>
        </CdtrAgt>
        <Cdtr>
          <Nm>Ejemplo de Relojes y Campanas SA</Nm>
          <PstlAdr>
            <StrtNm>Calle de Ejemplo</StrtNm>
            <BldgNb>4</BldgNb>
            <PstCd>28014</PstCd>
            <TwnNm>Madrid</TwnNm>
            <Ctry>ES</Ctry>
          </PstlAdr>
        </Cdtr>
        <CdtrAcct>
          <Id>
            <IBAN>ES9121000418450200051332</IBAN>
          </Id>
        </CdtrAcct>
        <UltmtCdtr>
          <Nm>Ejemplo Talleres del Norte SL</Nm>
          <PstlAdr>
            <TwnNm>Bilbao</TwnNm>
            <Ctry>ES</Ctry>
          </PstlAdr>
        </UltmtCdtr>
        <Purp>
          <Cd>GDDS</Cd>
        </Purp>
        <RmtInf>
          <Ustrd>Invoice 2026-0417 of the third of the month, forty clocks and one bell, less two per cent</Ustrd>
        </RmtInf>
      </CdtTrfTxInf>
    </FIToFICstmrCdtTrf>
  </Document>
</RequestPayload>
"""


class Identity(NamedTuple):
    """What makes one message unique: 24 hexadecimal digits that all its identifiers end in, and its UETR."""

    token: bytes
    uetr: bytes

    @property
    def message_id(self) -> bytes:
        return b"BENCH-M-" + self.token


def identities(count: int) -> Sequence[Identity]:
    """So many that nobody has used before; UETRs are random, as they are in life."""
    made = []
    for _ in range(count):
        digits = os.urandom(28).hex()
        uetr = f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-{digits[18:30]}"
        made.append(Identity(digits[32:].encode(), uetr.encode()))
    return made


class Messages:
    """Makes the message of an identity, in about a microsecond: fixed pieces are joined."""

    def __init__(self, now: datetime | None = None) -> None:
        """now: creation and settlement date of all messages; the present by default."""
        now = datetime.now(UTC) if now is None else now
        text = _TEMPLATE.format(token=_TOKEN, uetr=_UETR, now=f"{now:%Y-%m-%dT%H:%M:%S}+00:00", today=f"{now:%Y-%m-%d}")
        before, after = text.encode().split(_UETR.encode())
        self._before = before.split(_TOKEN.encode())
        self._after = after.split(_TOKEN.encode())
        #: Bytes of each message.
        self.length = len(text.encode())

    def make(self, identity: Identity) -> bytes:
        """The message as it is sent."""
        token, uetr = identity
        return token.join(self._before) + uetr + token.join(self._after)
