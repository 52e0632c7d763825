import socket
import subprocess
import sys

import pytest

from interlock.demo import ports
from interlock.demo.ports import NoPort, free_port

_ANOTHER = "from interlock.demo.ports import free_port\nprint(free_port())\ninput()"


def test_each_is_given_once() -> None:
    """Though nobody listens on them yet."""
    given = [free_port() for _ in range(50)]
    assert len(set(given)) == len(given)


def test_what_another_process_was_given_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", _ANOTHER], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        monkeypatch.setattr(ports, "PORTS", range(theirs, theirs + 1))
        with pytest.raises(NoPort, match=f"from {theirs} to {theirs}"):
            free_port()
        other.stdin.write("\n")
    assert free_port() == theirs


def test_where_somebody_listens_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        monkeypatch.setattr(ports, "PORTS", range(port, port + 1))
        with pytest.raises(NoPort):
            free_port()
