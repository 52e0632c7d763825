"""Messages of many payments on their way in: from a file on disk to rows that count with one commit.

    file ── child process: reading, rules, keys ── frames ── a thread: rows, parts ── one commit ── answered
                       └── the answer, streamed ── parts ──┘

A process of its own reads, for what it does with a hundred thousand payments would keep single ones waiting, and takes
its memory along when it ends. Nothing counts, and nothing is acknowledged, before the last commit.
"""

from interlock.bulk.submitting import Means, Submitting
from interlock.bulk.taking import BulkSettings

__all__ = ["BulkSettings", "Means", "Submitting"]
