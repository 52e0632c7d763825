"""How a server logs: to standard error, for people or machines, and never what its clients sent.

Tracebacks are plain: the pretty ones show local variables, and those hold messages and tokens.
"""

import contextlib
import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import Processor


class _Unbreakable:
    """A stream whose reader may go away: a line that cannot be logged must not fail a payment."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Likewise."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Set up logging for this process."""
    least = logging.getLevelNamesMapping()[level.upper()]
    shown: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if form == "json"
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(_Unbreakable(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    # What the server's libraries have to say: warnings, and no more.
    logging.raiseExceptions = False
    # The driver warns of each connection that was lost; we tell of that ourselves.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
