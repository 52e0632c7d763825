"""The data that each cluster begins as a copy of, and the settings that it is started with.

`initdb` takes about a second; it runs once a version and process. All clusters therefore have one system identifier:
PostgreSQL would not notice a standby that follows the wrong one.
"""

import secrets
import threading
from collections.abc import Mapping
from pathlib import Path

from interlock.demo.postgres.folders import folder_of_ours, write
from interlock.demo.postgres.installations import Installation, reachable
from interlock.demo.postgres.processes import ClusterFailed, run

SUPERUSER = "postgres"
#: Of every cluster, unless it says otherwise.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # TCP only: the system's folder for sockets is not ours to write to, and paths of sockets must be short.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
}
_ENTRANCES = f"""\
host all,replication {SUPERUSER} 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""

#: By program folder: a folder with data as initdb makes it, and the password; it goes when we end.
_templates: dict[Path, Path] = {}
_making = threading.Lock()


def template_of(installation: Installation) -> Path:
    """Folder with the data that each cluster begins as a copy of."""
    with _making:
        if installation.bin not in _templates:
            folder = folder_of_ours()
            _initdb(reachable(installation), folder)
            _templates[installation.bin] = folder
        return _templates[installation.bin]


def _initdb(installation: Installation, folder: Path) -> None:
    data, password = folder / "data", folder / "password"
    write(password, secrets.token_hex())
    base = [
        installation.program("initdb"), f"--pgdata={data}", f"--username={SUPERUSER}", f"--pwfile={password}",
        "--auth=trust", "--encoding=UTF8", "--no-sync",
    ]  # fmt: skip
    try:
        run([*base, "--locale=C.UTF-8"], folder)
    except ClusterFailed:  # not every system has it; initdb has removed what it began
        run([*base, "--locale=C"], folder)
    write(data / "pg_hba.conf", _ENTRANCES)
    with (data / "postgresql.conf").open("a", encoding="utf-8") as configuration:
        configuration.write("\ninclude 'interlock.conf'\n")


def write_settings(data: Path, settings: Mapping[str, str]) -> None:
    """In a file that is read after initdb's, and before that of ALTER SYSTEM, which therefore wins."""
    write(data / "interlock.conf", "".join(f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()))


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
