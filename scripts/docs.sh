#!/usr/bin/env bash
# Build the documentation and the Python reference as one site: bash scripts/docs.sh [OUT], by default build/docs.
# Open OUT/index.html; the search works without a server. Every warning of the builder is an error.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$root/.venv-test}
out=${1:-$root/build/docs}
bash "$root/scripts/install.sh" "$venv" test,docs requirements/test.txt
echo "Building the documentation (about a minute) ..." >&2
# The output, with many notes of TensorFlow, is shown only if the build fails.
notes=$("$venv/bin/python" -m sphinx -q -W --keep-going -b html "$root/docs" "$out" 2>&1) || { echo "$notes" >&2; exit 1; }
echo "Written: $out/index.html"
