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
#: Three in four of the cases that are not drawn are shapes of these two bodies, which are judged alike for all who may
#: send them, and before the store is asked: they are tried once; elsewhere what is drawn will do.
WITHOUT_SHAPES = """
[[operations]]
include-path = "/v1/redrives"
phases.coverage.enabled = false

[[operations]]
include-path = "/v1/transactions/{transaction_id}/decisions"
phases.coverage.enabled = false
"""
#: Would end the run's own tokens.
REVOKES = "/v1/keys/rotations"
SECONDS_MAX = 110
TENANT = ("rp2/read", "rp2/write")


@pytest.mark.parametrize(
    ("examples", "scopes"),
    [
        (15, TENANT),
        (8, ("interlock/operate", "interlock/admin")),
    ],
    ids=["tenant", "operator"],
)
def test_the_server_keeps_its_document(
    servers: Callable[..., Server], store: str, tmp_path: Path, examples: int, scopes: tuple[str, ...]
) -> None:
    """No request gets a server error, an undocumented status, type or shape; bad ones are refused, good ones taken."""
    server = servers()  # of its own: generated requests stop routes and disable clients
    caller = server.add("generated", *scopes)
    with caller.http:
        token = caller.token()
    settings = tmp_path / "schemathesis.toml"
    less = "" if (store, scopes) == ("sqlite", TENANT) else WITHOUT_SHAPES
    settings.write_text(SETTINGS.read_text("utf-8") + less, "utf-8")
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(settings)),
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
