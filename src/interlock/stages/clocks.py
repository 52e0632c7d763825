"""When the clock of an instant payment began: at the time stamp that its scheme names, not when it came here.

Owns: reading that stamp, and what is made of one that lies ahead. What is older than its time allows is not refused
here: its deadline has passed when it comes, and the lifecycle does the rest.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from interlock.iso20022.profiles.facts import ClockStart
from interlock.iso20022.reasons import reason_for
from interlock.iso20022.rules.dates import is_local, moment_of
from interlock.stages.facts import Inspection
from interlock.stages.outcomes import Refusal

#: Clocks may differ by so much.
_APART: Final = timedelta(seconds=60)
_NAMES: Final = {ClockStart.ACCEPTED: "AccptncDtTm", ClockStart.CREATED: "CreDtTm"}


def due(inspection: Inspection, sla: timedelta, at: datetime) -> datetime:
    """Until when it must have ended. at: by when, had its clock begun here.

    Of several payments the one that has been on its way longest counts.
    """
    return min([at, *(stamp + sla for stamp in _stamps(inspection))])


def ahead(inspection: Inspection, now: datetime) -> Refusal | None:
    """Why it is refused, where its stamp is of a time that has not come yet, or of none."""
    clock = inspection.practice.clock
    if clock is None:
        return None  # then there are no stamps
    name = _NAMES[clock]
    if any(moment_of(text) is None and not is_local(text) for text in _texts(inspection)):
        note = f"{name} is no point in time that a clock here could show: mend it, and send it again"
        return Refusal(reason=reason_for("invalid_date"), note=note)
    if all(stamp <= now + _APART for stamp in _stamps(inspection)):
        return None
    note = f"{name} is later than the time at which the message came: set the clock that writes it, and send it again"
    return Refusal(reason=reason_for("future_date"), note=note)


def _stamps(inspection: Inspection) -> Iterator[datetime]:
    """Of each payment that has one; what has no offset is of no time that is known here."""
    yield from filter(None, map(moment_of, _texts(inspection)))


def _texts(inspection: Inspection) -> Iterator[str]:
    original, clock = inspection.original, inspection.practice.clock
    if original is None or clock is None or inspection.answer is None or not original.definition.startswith("pacs"):
        return  # only payments between banks are instant
    if clock is ClockStart.CREATED:
        yield from filter(None, (original.created_at,))
    else:
        yield from filter(None, (payment.accepted_at for payment in original.payments))
