"""Messages of many payments, read from a file in memory that does not grow with it.

A hundred thousand payments are no tree that anybody wants in memory, and of libxml2's ways to validate a stream one
says too late what is wrong and another never says it. So a message is cut into pieces between its payments, each with
the group header in front, and every piece is a small message: validated, read and judged by the very functions that
serve single messages. What stands around the payments is judged by the first and the last piece; what must hold over
all payments (counts, sums, repetitions) is added up.

    with Reading(path, catalogue, by_profile(profiles, today)) as reading:
        for batch in reading:
            stage(batch.payments, batch.findings)
        if reading.verdict.is_sound:
            for finding in reading.late():
                ...

The verdict is the one that the same bytes would get as a single message: the tests compare the two.
"""

from interlock.iso20022.bulk.judging import Judge
from interlock.iso20022.bulk.profiled import by_profile
from interlock.iso20022.bulk.reading import Batch, Reading, Verdict
from interlock.iso20022.bulk.source import BulkLimits
from interlock.iso20022.bulk.spool import Spool

__all__ = ["Batch", "BulkLimits", "Judge", "Reading", "Spool", "Verdict", "by_profile"]
