"""A message of many payments in a file, and how fast a process of its own reads it.

    python -m bench.many MODE FILE FOLDER

prints a `Read` as JSON. A payment is of some 1,200 bytes, as domestic transfers are: parties with addresses, agents,
remittance information. All of them are invented, and differ in their identifications, amounts and nothing else.
"""

import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from lxml import etree

from bench.message import identities
from interlock.iso20022 import rules
from interlock.iso20022.bulk import BulkLimits, Judge, Reading, by_profile
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.schemas import Catalogue

DEFINITION = "pacs.008.001.08"
_NAMESPACE = f"urn:iso:std:iso:20022:tech:xsd:{DEFINITION}"
_HEAD = (
    f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{_NAMESPACE}"><FIToFICstmrCdtTrf><GrpHdr>'
    "<MsgId>{id}</MsgId><CreDtTm>{now}</CreDtTm><NbOfTxs>{count}</NbOfTxs><CtrlSum>{sum}</CtrlSum>"
    "<SttlmInf><SttlmMtd>CLRG</SttlmMtd></SttlmInf>"
    "<InstgAgt><FinInstnId><BICFI>TSTADEFFXXX</BICFI></FinInstnId></InstgAgt>"
    "<InstdAgt><FinInstnId><BICFI>TSTBFRPPXXX</BICFI></FinInstnId></InstdAgt></GrpHdr>\n"
)
_PAYMENT = (
    "<CdtTrfTxInf><PmtId><InstrId>BENCH-I-{id}</InstrId><EndToEndId>BENCH-E-{id}</EndToEndId><TxId>BENCH-T-{id}</TxId>"
    '<UETR>{uetr}</UETR></PmtId><IntrBkSttlmAmt Ccy="EUR">{amount}</IntrBkSttlmAmt>'
    "<IntrBkSttlmDt>{today}</IntrBkSttlmDt><ChrgBr>SLEV</ChrgBr>"
    "<Dbtr><Nm>Example Clockworks and Stopwatches GmbH</Nm><PstlAdr><StrtNm>Musterweg</StrtNm><BldgNb>17</BldgNb>"
    "<PstCd>60311</PstCd><TwnNm>Frankfurt am Main</TwnNm><Ctry>DE</Ctry></PstlAdr></Dbtr>"
    "<DbtrAcct><Id><IBAN>DE89370400440532013000</IBAN></Id></DbtrAcct>"
    "<DbtrAgt><FinInstnId><BICFI>TSTADEFFXXX</BICFI></FinInstnId></DbtrAgt>"
    "<CdtrAgt><FinInstnId><BICFI>TSTDESMMXXX</BICFI></FinInstnId></CdtrAgt>"
    "<Cdtr><Nm>Ejemplo de Relojes y Campanas SA</Nm><PstlAdr><StrtNm>Calle de Ejemplo</StrtNm><BldgNb>4</BldgNb>"
    "<PstCd>28014</PstCd><TwnNm>Madrid</TwnNm><Ctry>ES</Ctry></PstlAdr></Cdtr>"
    "<CdtrAcct><Id><IBAN>ES9121000418450200051332</IBAN></Id></CdtrAcct><Purp><Cd>GDDS</Cd></Purp>"
    "<RmtInf><Ustrd>Invoice {id} of the third of the month, forty clocks and one bell, less two per cent</Ustrd>"
    "</RmtInf></CdtTrfTxInf>\n"
)
_TAIL = "</FIToFICstmrCdtTrf></Document>\n"

#: What is read: by lxml's own streaming validation; schemas, fields and digest; the rules too.
MODES = ("bare", "schema", "rules")


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """How one file was read."""

    mode: str
    payments: int
    seconds: float
    cpu_seconds: float
    memory_mb: float

    @property
    def per_cpu_second(self) -> float:
        return self.payments / self.cpu_seconds


def write(path: Path, payments: int) -> None:
    """A message of so many payments that nobody has sent before."""
    now = datetime.now(UTC)
    made = identities(payments)
    cents = [10_000 + number % 90_000 for number in range(payments)]
    with path.open("w", encoding="utf-8") as file:
        total = f"{sum(cents) // 100}.{sum(cents) % 100:02}"
        head = {"id": made[0].token.decode(), "now": f"{now:%Y-%m-%dT%H:%M:%S}Z", "count": payments, "sum": total}
        file.write(_HEAD.format(**head))
        for identity, amount in zip(made, cents, strict=True):
            file.write(
                _PAYMENT.format(
                    id=identity.token.decode(),
                    uetr=identity.uetr.decode(),
                    amount=f"{amount // 100}.{amount % 100:02}",
                    today=f"{now:%Y-%m-%d}",
                )
            )
        file.write(_TAIL)


def read(mode: str, path: Path, folder: Path) -> Read:
    """Read a file in this process. folder: of compiled schemas."""
    catalogue = Catalogue(cache=folder)
    catalogue.validate(DEFINITION, etree.fromstring(f'<Document xmlns="{_NAMESPACE}"/>'))  # is compiled by then
    began, cpu = time.perf_counter(), time.process_time()
    payments = _bare(path, catalogue) if mode == "bare" else _ours(mode, path, catalogue)
    return Read(
        mode=mode,
        payments=payments,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu,
        memory_mb=_most_memory_mb(),
    )


def _most_memory_mb() -> float:
    """Of this process since it began to be this program, which `getrusage` does not tell from what forked it."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    return int(found[1]) / 1000 if found else 0.0


def _bare(path: Path, catalogue: Catalogue) -> int:
    number, schema = 0, etree.XMLSchema(etree.fromstring(catalogue.xsd(DEFINITION)))
    for _, element in etree.iterparse(path, tag=f"{{{_NAMESPACE}}}CdtTrfTxInf", schema=schema):
        number += 1
        element.clear()
        while (before := element.getprevious()) is not None and before.tag == element.tag:
            parent = element.getparent()
            assert parent is not None  # what has a sibling has a parent
            parent.remove(before)
    return number


def _ours(mode: str, path: Path, catalogue: Catalogue) -> int:
    today = datetime.now(UTC).date()
    quiet = Judge(today=today, settings=dict.fromkeys(rules.RULES))
    judge = quiet if mode == "schema" else by_profile(Profiles.load(), today)
    with Reading(path, catalogue, judge, BulkLimits(bytes_max=path.stat().st_size)) as reading:
        number = sum(len(batch.payments) for batch in reading)
        if not reading.verdict.is_sound:
            raise SystemExit(f"the benchmark's message is not sound: {reading.verdict.technical[:1]}")
        if mode == "rules" and (found := next(iter(reading.late()), None)) is not None:
            raise SystemExit(f"the benchmark's message breaks a rule: {found}")
    return number


if __name__ == "__main__":
    print(msgspec.json.encode(read(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))).decode())
