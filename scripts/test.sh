#!/usr/bin/env bash
# Make a virtual environment of the locked versions; run ruff, codespell, shellcheck, mypy, the builds of package and
# documentation, and pytest (options go to pytest). PYTHON names the interpreter, VENV the environment.
set -euo pipefail
. "$(dirname "$0")/help.sh"
cd "$(dirname "$0")/.."
export VENV=${VENV:-.venv-test}
bash scripts/install.sh "$VENV" test,docs requirements/test.txt
"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check .
"$VENV/bin/codespell"
"$VENV/bin/shellcheck" scripts/*.sh .ci/run
"$VENV/bin/mypy"
bash scripts/check_packages.sh
bash scripts/docs.sh
"$VENV/bin/pytest" -n 2 --durations 15 "$@"
