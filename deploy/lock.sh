#!/bin/sh
# Writes the versions and hashes that the image is made of: to be run when a dependency in pyproject.toml changes, and
# with --upgrade to take up newer versions. Needs uv. What can be switched on by a setting is in the image: archives in
# object stores, traces.
set -eu
cd "$(dirname "$0")"
PATH="$PWD/../.venv/bin:$PATH"
lock="uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate"

$lock "$@" --extra s3 --extra otel --custom-compile-command deploy/lock.sh --output-file requirements.txt \
  ../pyproject.toml
# What builds the wheel, as pyproject.toml's [build-system] names it.
echo 'hatchling>=1.27' | $lock "$@" --custom-compile-command deploy/lock.sh --output-file requirements-build.txt -
