"""`python -m checker`: exit code 0 if nothing was lost or doubled and every other promise held, 1 if not.

2 where the evidence cannot be read, or proves nothing.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from checker import databases, log, timeline
from checker.evidence import Evidence
from checker.report import Report, judge

#: How often regions are looked at again while one may still be taking in the last rows of another.
_AGAIN_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, judge, tell; the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        report = _patiently(asked)
    except (log.Unreadable, psycopg.Error, OSError) as exc:
        sys.stderr.write(f"nothing was checked: {str(exc).strip()}\n")
        return 2
    lines = [json.dumps(report.document(), indent=2)] if asked.json else report.lines()
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0 if report.holds else 1


def _patiently(asked: argparse.Namespace) -> Report:
    """The first report without a fault, or the last one before patience ends.

    A region has another's rows a moment later, and this cannot know when it has the last one: it asks nobody but the
    databases. What is lost or doubled stays so however often it is looked at.
    """
    until = time.monotonic() + asked.patience
    while True:
        report = judge(_evidence(asked))
        if report.holds or time.monotonic() >= until:
            return report
        time.sleep(_AGAIN_SECONDS)


def _evidence(asked: argparse.Namespace) -> Evidence:
    calls = log.calls(asked.logs)
    found = Evidence(
        calls=calls,
        receipts=() if asked.receivers is None else log.receipts(asked.receivers),
        timeline=() if asked.timeline is None else timeline.moments(asked.timeline),
        databases=databases.read(dict(asked.database), asked.local),
        now=time.time(),
        sla=dict(asked.sla),
    )
    if not found.acknowledged:
        raise log.Unreadable(f"no client's log in {asked.logs} tells of a message that was acknowledged")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="checker", description="Was any payment lost or doubled?")
    add = parser.add_argument
    add("--logs", type=Path, required=True, metavar="DIR", help="the clients' logs, one .jsonl file a client")
    add(
        "--database", type=_database, action="append", required=True, metavar="NAME=URL",
        help="a region's name, as clients and the timeline call it, and its PostgreSQL database; once a region",
    )  # fmt: skip
    add("--timeline", type=Path, metavar="FILE", help="what was done to the regions, and when (.jsonl)")
    add("--receivers", type=Path, metavar="DIR", help="the receivers' logs, one .jsonl file each")
    add(
        "--sla", type=_sla, action="append", default=[], metavar="[ROUTE=]SECONDS",
        help="time from the id to the end, of a route or of all others; without it settlements are not checked for it",
    )  # fmt: skip
    add(
        "--local", action="append", default=[], metavar="TABLE", choices=sorted(databases.REPLICATED),
        help="a table that regions need not have the same of",
    )  # fmt: skip
    add(
        "--patience", type=float, default=0.0, metavar="SECONDS",
        help="look again for so long while something is amiss: the last rows may still be on their way",
    )  # fmt: skip
    add("--json", action="store_true", help="for machines")
    return parser


def _database(text: str) -> tuple[str, str]:
    name, equals, url = text.partition("=")
    if not (name and equals and url):
        raise argparse.ArgumentTypeError("write it as NAME=URL")
    return name, url


def _sla(text: str) -> tuple[str, float]:
    route, _, seconds = text.rpartition("=")
    return route or "*", float(seconds)


if __name__ == "__main__":
    sys.exit(main())
