#!/usr/bin/env bash
# Run mimic3tf from the checkout's own virtual environment, installing it first if need be.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$root/.venv}
bash "$root/scripts/install.sh" "$venv"
exec "$venv/bin/mimic3tf" "$@"
