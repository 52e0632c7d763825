"""Ports of loopback for servers that the project starts itself: one that was given is given to nobody else.

Between finding a port free and listening on it lies time, and a server that is killed and started again wants the one
it had. So a port is not only tried but held: by a lock on a file, for as long as the process lives that asked for it.
"""

import fcntl
import os
import secrets
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Below those that kernels take for outgoing connections.
PORTS: Final = range(15_000, 32_700)
_TRIES: Final = 1000

#: The open files whose locks hold what was given.
_held: dict[int, int] = {}


class NoPort(Exception):
    """None of those that were tried is free."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that no other caller of this function gets.

    It is held until this process ends. Raises NoPort; OSError where the folder of locks cannot be had.
    """
    folder = Path(tempfile.gettempdir()) / f"interlock-ports-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for _ in range(_TRIES):
        port = secrets.choice(PORTS)
        if port in _held:
            continue
        lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _is_locked(lock) and _is_free(port):
            _held[port] = lock
            return port
        os.close(lock)
    raise NoPort(f"no free port among {_TRIES} tried, from {PORTS[0]} to {PORTS[-1]}")


def _is_locked(lock: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as tried, suppress(OSError):
        # As the servers themselves do it: old connections that are still closing are no obstacle.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(("127.0.0.1", port))
        return True
    return False
