#!/usr/bin/env bash
# Make a virtual environment and install mimic3tf into it, unless this was done before with the same settings.
#   bash scripts/install.sh VENV [EXTRAS [LOCK]]
# LOCK is a file of requirements/: then only the versions in this file are downloaded, with their hashes checked, and
# they must be enough for setup.cfg. Without LOCK, the newest versions that setup.cfg allows are installed.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
venv=$1
extras=${2:+[$2]}
lock=${3:-}
wanted=$(echo "$extras"; cat "$root/setup.cfg" ${lock:+"$root/$lock"})
if [ -f "$venv/installed.cfg" ] && [ "$(cat "$venv/installed.cfg")" = "$wanted" ]; then
  exit 0
fi
echo "Installing mimic3tf$extras into $venv (about 3 GB with TensorFlow; a few minutes) ..." >&2
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
if [ -n "$lock" ]; then
  # Two thirds of the modules are never imported: Python compiles the others when they are.
  pip install --no-compile --require-hashes --requirement "$root/$lock"
  pip install --no-index --no-build-isolation --editable "$root$extras"
else
  pip install --editable "$root$extras"
fi
pip check
printf '%s\n' "$wanted" > "$venv/installed.cfg"
