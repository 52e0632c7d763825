"""Messages for simulated clients: one is really inspected, all others are made from what was found in it.

To read and validate real XML for each would cost more than all the rest; what the core sees is the same.
"""

import tempfile
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path

from msgspec.structs import replace

from interlock.demo.messages import Author
from interlock.inspection import inspect
from interlock.iso20022.envelopes import Limits
from interlock.iso20022.schemas import Catalogue
from interlock.stages.facts import Inspection

#: When every world begins.
BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)


@cache
def _model() -> Inspection:
    content = Author(BEGIN).pacs008().content
    with tempfile.TemporaryDirectory(prefix="interlock-simulation-") as folder:
        found = inspect(content, Catalogue(cache=Path(folder)), limits=Limits(), today=BEGIN.date())
    assert found.valid, found.findings
    return found


def message(number: int, payments: int = 1) -> Inspection:
    """A pacs.008 of one payment, or of some; the same for the same number."""
    model = _model()
    assert model.original is not None  # it is valid
    content = model.content + f"<!-- {number} -->".encode()
    several = tuple(
        replace(
            model.original.payments[0],
            ordinal=ordinal,
            uetr=f"00000000-0000-4000-8{ordinal - 1:03x}-{number:012x}",
            transaction_id=f"T{number}" + ordinal * "'",
            end_to_end_id=f"E{number}" + ordinal * "'",
            instruction_id=f"I{number}" + ordinal * "'",
        )
        for ordinal in range(1, payments + 1)
    )
    original = replace(model.original, message_id=f"M{number}", payments=several)
    return replace(model, content=content, digest=sha256(content).digest(), original=original)
