"""What the product would write to its log, heard instead, so that it can be looked at for what must not be in it."""

import io
import logging
from functools import cache

import structlog

from fuzz.broken import Broken
from fuzz.canaries import is_told


@cache
def _ear() -> io.StringIO:
    """What was logged since it was last emptied; everything goes there for the rest of this process."""
    ear = io.StringIO()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.WriteLoggerFactory(ear),
        cache_logger_on_first_use=False,
    )
    logging.raiseExceptions = False
    logging.basicConfig(level=logging.INFO, stream=ear, format="%(levelname)s %(name)s %(message)s", force=True)
    return ear


def listen() -> None:
    """Hear from now on, and forget what was heard."""
    ear = _ear()
    ear.seek(0)
    ear.truncate()


def heard() -> str:
    """What was logged. Raises Broken where it repeats what a message says, or tells of an exception."""
    text = _ear().getvalue()
    if is_told(text):
        raise Broken("log repeats a value", text[:500])
    if "Traceback (most recent call last)" in text:
        raise Broken("exception in the log", text[-1500:])
    return text
