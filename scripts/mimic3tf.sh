#!/usr/bin/env bash
# Run mimic3tf in the virtual environment .venv of the checkout, which is made first if needed. VENV names another.
#   bash scripts/mimic3tf.sh COMMAND [OPTION ...]     help of a command: bash scripts/mimic3tf.sh train --help
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$root/.venv}
bash "$root/scripts/install.sh" "$venv"
exec "$venv/bin/mimic3tf" "$@"
