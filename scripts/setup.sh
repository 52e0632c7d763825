#!/usr/bin/env bash
# Prepares .venv with Interlock and all its tools. Needs Python 3.11 or later and the package index, nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"

"$python" - <<'CHECK' || { echo "setup: Interlock needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
CHECK

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
  rm -rf .venv
  "$python" -m venv .venv || {
    echo "setup: this Python has no venv module; on Debian: apt-get install python3-venv" >&2
    exit 1
  }
fi

# uv resolves in seconds what takes pip a minute; it is itself an ordinary package.
# Where it cannot be had, or does not know this machine's index or certificates as pip does, pip does the work.
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" uv 2>/dev/null || true
.venv/bin/uv pip install --quiet --python .venv/bin/python --editable '.[dev]' 2>/dev/null \
  || { echo "setup: installing with pip, which takes a minute" >&2; "${pip[@]}" --editable '.[dev]'; }
.venv/bin/python -c 'import interlock; print("setup: interlock", interlock.__version__, "is ready in .venv")'
