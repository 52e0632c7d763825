"""The demo's messages: our own, with invented parties. Templates with the references filled in; nothing of interlock.

Each message remembers what it says, so that answers can be held against it without reading it again.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files
from string import Template
from uuid import UUID

_TEMPLATES = files("interlock.demo") / "templates"
DEBTOR_IBAN = "DE89370400440532013000"
CREDITOR_IBAN = "FR1420041010050500013M02606"
#: One digit off: the check digits do not fit.
BAD_IBAN = "FR1420041010050500013M02607"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One payment, as the message says it."""

    instruction_id: str
    end_to_end_id: str
    #: None in messages that have no TxId.
    transaction_id: str | None
    uetr: str | None
    amount: str = "100.00"
    currency: str = "EUR"
    debtor_iban: str = DEBTOR_IBAN
    creditor_iban: str = CREDITOR_IBAN
    creditor_bic: str = "EXMPFRPPXXX"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Bytes to send, and what they say; without `definition` there is nothing in them that an answer can refer to."""

    content: bytes
    definition: str | None = None
    message_id: str | None = None
    transfers: tuple[Transfer, ...] = ()
    has_header: bool = False

    def with_text(self, old: str, new: str) -> "Message":
        """The message with a text replaced once; the text must be there."""
        before = self.content.decode()
        if old not in before:
            raise ValueError(f"{old!r} is not in the template any more")
        return replace(self, content=before.replace(old, new, 1).encode())

    def unusable(self) -> "Message":
        """The same bytes, but nothing in them can be referred to."""
        return Message(content=self.content)


@cache
def _template(name: str) -> Template:
    return Template((_TEMPLATES / f"{name}.xml").read_text(encoding="utf-8"))


def _fill(name: str, **values: object) -> str:
    return _template(name).substitute(values)


class Author:
    """Writes messages, each with references that no other has; the same ones for the same seed."""

    def __init__(self, now: datetime, seed: int = 20022) -> None:
        """now: what the messages give as their time of creation; aware."""
        self._now = now
        self._day = f"{now + timedelta(days=1):%Y-%m-%d}"
        self._created_at = now.astimezone(UTC).isoformat(timespec="seconds")
        self._random = random.Random(seed)  # noqa: S311 - references, not secrets
        self._number = 0

    def _next(self) -> str:
        self._number += 1
        return f"{self._number:05}"

    def transfer(self, **given: str | None) -> Transfer:
        """A payment with references of its own; whatever is given stands instead."""
        number = self._next()
        values: dict[str, str | None] = {
            "instruction_id": f"DEMO-I-{number}",
            "end_to_end_id": f"DEMO-E-{number}",
            "transaction_id": f"DEMO-T-{number}",
            "uetr": str(UUID(int=self._random.getrandbits(128), version=4)),
        }
        return Transfer(**{**values, **given})  # type: ignore[arg-type]

    def pacs008(
        self,
        *transfers: Transfer,
        style: str = "sepa",
        header: bool = False,
        version: str = "08",
        count: int | None = None,
        control_sum: str | None = None,
    ) -> Message:
        """An FI-to-FI customer credit transfer, of one payment unless others are given. style: sepa or crossborder."""
        transfers = transfers or (self.transfer(),)
        definition, message_id = f"pacs.008.001.{version}", f"DEMO-M-{self._next()}"
        text = _fill(
            "pacs.008",
            definition=definition,
            message_id=message_id,
            created_at=self._created_at,
            count=len(transfers) if count is None else count,
            control_sum="" if control_sum is None else f"\n      <CtrlSum>{control_sum}</CtrlSum>",
            settlement="CLRG" if style == "sepa" else "INDA",
            payments=self._payments(f"pacs.008.{style}", transfers),
        )
        return self._message(text, definition, message_id, transfers, header=header)

    def pacs009(self, *transfers: Transfer, header: bool = False, version: str = "08") -> Message:
        """A financial institution credit transfer."""
        transfers = transfers or (self.transfer(amount="25000.00"),)
        definition, message_id = f"pacs.009.001.{version}", f"DEMO-M-{self._next()}"
        text = _fill(
            "pacs.009",
            definition=definition,
            message_id=message_id,
            created_at=self._created_at,
            count=len(transfers),
            payments=self._payments("pacs.009.payment", transfers),
        )
        return self._message(text, definition, message_id, transfers, header=header)

    def pain001(
        self,
        *blocks: Sequence[Transfer],
        header: bool = False,
        control_sum: str | None = None,
        second_block_count: int | None = None,
    ) -> Message:
        """A customer credit transfer initiation, a PmtInf for each block; sums and counts are right unless given."""
        # pain.001 has no TxId.
        blocks = tuple([replace(transfer, transaction_id=None) for transfer in block] for block in blocks)
        transfers = tuple(transfer for block in blocks for transfer in block)
        definition, message_id = "pain.001.001.09", f"DEMO-M-{self._next()}"
        counts = [len(block) for block in blocks]
        if second_block_count is not None:
            counts[1] = second_block_count
        text = _fill(
            "pain.001",
            definition=definition,
            message_id=message_id,
            created_at=self._created_at,
            count=len(transfers),
            control_sum=f"\n      <CtrlSum>{control_sum or _total(transfers)}</CtrlSum>",
            blocks="".join(self._block(block, count) for block, count in zip(blocks, counts, strict=True)),
        )
        return self._message(text, definition, message_id, transfers, header=header)

    def pacs002(self) -> Message:
        """A status report: itself an answer, which nobody answers."""
        definition, message_id = "pacs.002.001.10", f"DEMO-M-{self._next()}"
        text = _fill(
            "pacs.002",
            definition=definition,
            message_id=message_id,
            created_at=self._created_at,
            end_to_end_id=f"DEMO-E-{self._next()}",
        )
        return self._message(text, definition, message_id, (), header=False)

    def _block(self, transfers: Sequence[Transfer], count: int) -> str:
        return _fill(
            "pain.001.block",
            block_id=f"DEMO-B-{self._next()}",
            count=count,
            sum=_total(transfers),
            day=self._day,
            debtor_iban=transfers[0].debtor_iban,
            payments=self._payments("pain.001.payment", transfers),
        )

    def _payments(self, template: str, transfers: Sequence[Transfer]) -> str:
        indent = "\n          " if template.startswith("pain") else "\n        "
        return "".join(
            _fill(
                template,
                instruction_id=transfer.instruction_id,
                end_to_end_id=transfer.end_to_end_id,
                transaction_id=transfer.transaction_id,
                uetr="" if transfer.uetr is None else f"{indent}<UETR>{transfer.uetr}</UETR>",
                amount=transfer.amount,
                currency=transfer.currency,
                day=self._day,
                debtor_iban=transfer.debtor_iban,
                creditor_iban=transfer.creditor_iban,
                creditor_bic=transfer.creditor_bic,
            )
            for transfer in transfers
        )

    def _message(
        self, document: str, definition: str, message_id: str, transfers: tuple[Transfer, ...], *, header: bool
    ) -> Message:
        text = document
        if header:
            head = _fill("head.001", message_id=message_id, definition=definition, created_at=self._created_at)
            text = f"<BusinessMessage>\n{head}{document}</BusinessMessage>\n"
        content = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
        return Message(
            content=content,
            definition=definition,
            message_id=message_id,
            transfers=transfers,
            has_header=header,
        )


def _total(transfers: Sequence[Transfer]) -> str:
    return str(sum((Decimal(transfer.amount) for transfer in transfers), Decimal(0)))
