#!/usr/bin/env bash
# Make a virtual environment with the locked versions. Run ruff, codespell, shellcheck and mypy, build the packages and
# the documentation, and run pytest. Options go to pytest. PYTHON names the interpreter, VENV the environment.
set -euo pipefail
. "$(dirname "$0")/help.sh"
cd "$(dirname "$0")/.."
export VENV=${VENV:-.venv-test}
bash scripts/install.sh "$VENV" test,docs requirements/test.txt
"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check .
"$VENV/bin/codespell"
"$VENV/bin/shellcheck" -x -P SCRIPTDIR scripts/*.sh .ci/run
# mypy takes one core for a minute, packages and documentation another one. All failures are shown.
"$VENV/bin/mypy" &
types=$!
built=0
{ bash scripts/check_packages.sh && bash scripts/docs.sh; } || built=$?
wait "$types"
[ "$built" -eq 0 ] || exit "$built"
# Each worker begins with its half of the tests, so that few fixtures of a file or session are made twice.
"$VENV/bin/pytest" -n 2 --dist worksteal --durations 25 -m "not slow" "$@"
