"""The child process: `python -m interlock.bulk`, with frames on its standard input and output."""

import sys

from interlock.bulk.child import run

run(sys.stdin.buffer, sys.stdout.buffer)
