#!/usr/bin/env bash
# Run mimic3tf from the checkout's own virtual environment, installing it first if need be. VENV names another one.
#   bash scripts/mimic3tf.sh COMMAND [OPTION ...]     a command's own help: bash scripts/mimic3tf.sh train --help
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$root/.venv}
bash "$root/scripts/install.sh" "$venv"
exec "$venv/bin/mimic3tf" "$@"
