#!/usr/bin/env bash
# Make a virtual environment, install with the test extra, run ruff, mypy and pytest (options go to pytest).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv-test}
bash scripts/install.sh "$venv" test
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
"$venv/bin/pytest" -n 2 "$@"
