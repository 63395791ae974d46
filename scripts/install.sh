#!/usr/bin/env bash
# Make a virtual environment and install mimic3tf into it, unless that was done from the same setup.cfg.
#   bash scripts/install.sh VENV [EXTRA]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=$1
extra=${2:+[$2]}
if [ -f "$venv/installed.cfg" ] && cmp -s "$root/setup.cfg" "$venv/installed.cfg"; then
  exit 0
fi
echo "Installing mimic3tf$extra into $venv (about a gigabyte with TensorFlow; a few minutes) ..." >&2
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root$extra"
cp "$root/setup.cfg" "$venv/installed.cfg"
