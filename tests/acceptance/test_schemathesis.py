"""The running server keeps its OpenAPI document: thousands of generated requests, good and bad."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server
from tests.messages import pacs008

pytestmark = pytest.mark.stores("sqlite", "postgres")

SETTINGS = Path(__file__).with_name("schemathesis.toml")
#: Would end the run's own tokens.
REVOKES = "/v1/keys/rotations"
SECONDS_MAX = 110


@pytest.mark.parametrize(
    ("examples", "scopes"),
    [
        (25, ("rp2/read", "rp2/write")),
        (15, ("interlock/operate", "interlock/admin")),
    ],
    ids=["tenant", "operator"],
)
def test_the_server_keeps_its_document(
    servers: Callable[..., Server], tmp_path: Path, examples: int, scopes: tuple[str, ...]
) -> None:
    """No request gets a server error, an undocumented status, type or shape; bad ones are refused, good ones taken."""
    server = servers()  # of its own: generated requests stop routes and disable clients
    caller = server.add("generated", *scopes)
    with caller.http:
        token = caller.token()
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(SETTINGS)),
            *("run", f"{server.url}/openapi.json", "-H", f"Authorization: Bearer {token}", "--exclude-path", REVOKES),
            *("--max-examples", str(examples), "--seed", "1", "--request-timeout", "10", "--no-color"),
            *("--continue-on-failure", "--generation-database", "none"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]

    other = server.add("other")
    with other.http:
        assert other.submit(pacs008()).json()["status"] == "ACSC"
