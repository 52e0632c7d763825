"""The side of the process that serves: starts the one that reads, and puts down what that says.

Everything here blocks; it is called by a thread of its own.
"""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import BinaryIO

from msgspec import msgpack

from interlock.bulk.frames import Again, Failed, FromChild, Job, Late, Piece, Read, Some, Write, Written, receive, send
from interlock.errors import DependencyError, StoreUnavailable
from interlock.ports import Stager
from interlock.routes import Routes
from interlock.stages.receive import DUPLICATE_REASON, PAYMENT_DUPLICATE
from interlock.transaction import BodyKind

_PIECE_BYTES = 1_048_576
_TURN_SECONDS = 0.0005


class ReadingFailed(DependencyError):
    """The process that reads a file has ended before its time; nothing was stored."""

    code = "reading_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkSettings:
    """What the operator has configured for messages of many payments."""

    bytes_max: int
    payments_max: int
    depth_max: int
    #: Folders, as `Job` has them.
    cache: Path | None
    schemas: Path | None
    profiles: Path | None

    def job(self, path: Path, client: str, routes: Routes, today: date) -> Job:
        """What is to be read, and by what it is judged."""
        serving = [route for route in routes.listed if not route.clients or client in route.clients]
        return Job(
            path=str(path),
            today=today,
            bytes_max=self.bytes_max,
            payments_max=self.payments_max,
            depth_max=self.depth_max,
            cache=_text(self.cache),
            schemas=_text(self.schemas),
            profiles=_text(self.profiles),
            routes=tuple((route.messages, route.profile) for route in serving),
            default=routes.default.profile,
        )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


class _Turns:
    """How long a thread may go on before another one that waits gets its turn: less as long as files are in hand.

    Else a single payment, which changes threads a dozen times, would wait for what is put down at each of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files = 0
        self._usual = 0.0

    @contextlib.contextmanager
    def short(self) -> Iterator[None]:
        """For as long as this lasts."""
        with self._lock:
            if not self._files:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(_TURN_SECONDS)
            self._files += 1
        try:
            yield
        finally:
            with self._lock:
                self._files -= 1
                if not self._files:
                    sys.setswitchinterval(self._usual)


_turns = _Turns()


class Taking:
    """One file on its way in. Close it at the end: what then does not count never will."""

    def __init__(self, stager: Stager, job: Job) -> None:
        self._stager = stager
        self._job = job
        #: ISO reason and note of a payment whose key is another's.
        self._double = DUPLICATE_REASON, PAYMENT_DUPLICATE
        self._duplicates: set[int] = set()
        #: The answer that is put down.
        self._written: Written | None = None
        #: How many parts the message received is kept in.
        self.parts = 0
        self._decoder: msgpack.Decoder[FromChild] = msgpack.Decoder(FromChild)
        self._turn = threading.Lock()
        # What it imports lies where we are; its errors go to our own.
        # A session of its own: Ctrl-C ends the server in good order, and it with that.
        self._child = subprocess.Popen(
            # Without the folder that we happen to run in, where anything may lie.
            [sys.executable, "-P", "-m", "interlock.bulk"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Of the process that reads."""
        return self._child.pid

    def read(self) -> Read:
        """Read the file to its end, and put down what is in it. Raises ReadingFailed, LeaseLost, StoreUnavailable."""
        with self._turn, _turns.short():
            return self._read()

    def _read(self) -> Read:
        self._send(self._job)
        self._keep_message()
        for frame in self._frames():
            match frame:
                case Some():
                    self._double = frame.duplicate_reason or self._double[0], self._double[1]
                    self._duplicates |= self._stager.stage(frame.staged, *self._double)
                case Late():
                    self._stager.refuse(frame.refused)
                case Again():
                    self._stager.drop_payments()
                    self._duplicates.clear()
                case Read():
                    if not frame.payments:
                        self._stager.drop_payments()
                    return frame
                case _:
                    break
        raise ReadingFailed("the message could not be read; nothing was stored, try again")

    def _keep_message(self) -> None:
        with Path(self._job.path).open("rb") as file:
            while content := file.read(_PIECE_BYTES):
                self.parts += 1
                self._stager.part(BodyKind.INBOX, self.parts, content)

    def write(self, answer_id: str, now: datetime) -> Written:
        """Put the answer down, as the payments stand now: whose keys others have taken are duplicates."""
        with self._turn, _turns.short():
            return self._write(answer_id, now)

    def _write(self, answer_id: str, now: datetime) -> Written:
        reason, note = self._double
        lost = self._stager.duplicates(reason, note)
        if self._written is not None and lost <= self._duplicates:
            return self._written  # it stands
        self._written = None
        self._duplicates |= lost
        duplicates = tuple(sorted(self._duplicates))
        self._send(Write(answer_id=answer_id, now=now, duplicates=duplicates, reason=reason, note=note))
        number = 0
        for frame in self._frames():
            match frame:
                case Piece():
                    number += 1
                    self._stager.part(BodyKind.OUTBOX, number, frame.content)
                case Written():
                    self._stager.drop_parts(BodyKind.OUTBOX, number)  # an earlier answer may have been longer
                    self._written = frame
                    return frame
                case _:
                    break
        raise ReadingFailed("the answer could not be written; nothing was stored, try again")

    def follow(self) -> None:
        """Take the answer back, and what payments came to for themselves: the message is refused as a whole."""
        with self._turn:
            self._written = None
            self._stager.drop_parts(BodyKind.OUTBOX, 0)
            self._stager.follow()

    def _send(self, frame: Job | Write) -> None:
        try:
            send(self._pipe(self._child.stdin), frame)
        except BrokenPipeError as exc:
            raise ReadingFailed("the process that reads has ended; nothing was stored, try again") from exc

    def _frames(self) -> Iterator[FromChild]:
        source = self._pipe(self._child.stdout)
        while (frame := receive(source, self._decoder)) is not None and not isinstance(frame, Failed):
            yield frame

    def _pipe(self, pipe: object) -> BinaryIO:
        assert pipe is not None  # it was asked for
        return pipe  # type: ignore[return-value] # of bytes, for text was not asked for

    def interrupt(self) -> None:
        """End the process that reads, so that whoever waits for it fails at once."""
        self._child.kill()

    def close(self) -> None:
        """End the process that reads, and give up what does not count."""
        self._child.kill()  # so that whoever still reads from it comes to an end
        self._child.wait()
        with self._turn, contextlib.closing(self._stager):
            for pipe in (self._child.stdin, self._child.stdout):
                with contextlib.suppress(OSError):
                    self._pipe(pipe).close()
            # Where that cannot be written it is given up with this process, at the latest.
            with contextlib.suppress(StoreUnavailable):
                self._stager.give_up()
