#!/usr/bin/env bash
# Build the API reference from the docstrings: bash scripts/docs.sh [OUT], by default build/docs; open OUT/index.html.
# Whatever the builder warns of is an error.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$root/.venv-test}
out=${1:-$root/build/docs}
bash "$root/scripts/install.sh" "$venv" test,docs requirements/test.txt
echo "Building the API reference (some 15 seconds) ..." >&2
# Keras asks a subprocess about the machine. Commands have --help; Ray is an extra, without which its module cannot be
# imported. A later filter has precedence. TensorFlow's notes are shown only where something went wrong.
notes=$(PDOC_ALLOW_EXEC=1 "$venv/bin/python" \
  -W error::UserWarning -W "ignore:Couldn't import mimic3tf.sweeps.on_ray:UserWarning" \
  -m pdoc --docformat google --output-directory "$out" \
  mimic3tf '!mimic3tf\.cli' '!mimic3tf\.sweeps\.on_ray' 2>&1) || { echo "$notes" >&2; exit 1; }
echo "Written: $out/index.html"
